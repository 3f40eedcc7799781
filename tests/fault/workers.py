"""Worker processes under a test's control: started, killed, paused, woken, asked."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from streams.settings import Settings
from tests.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S = 240.0  # kernels may have to be compiled first, on a busy machine
ANSWER_S = 30.0  # for a page: one that is given up looks as if nothing were told


class WorkerProcess:
    """One `python -m streams.worker`, whose log is a file."""

    def __init__(self, name: str, settings: Settings, machines: str, folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PLIMSOLL_") or key == "PLIMSOLL_CACHE_DIR"}
        for field, value in settings.model_dump(mode="json", exclude_unset=True).items():
            environment[f"PLIMSOLL_{field.upper()}"] = ",".join(value) if isinstance(value, list) else str(value)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streams.worker", "--machines", machines], env=environment, stdout=log, stderr=log, cwd=ROOT
            )

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def address(self) -> str | None:
        """Where its pages are, once it has said so."""
        found = re.search(r"metrics and health at (http://\S+:\d+)", self.text())
        return found[1] if found else None

    def get(self, page: str) -> tuple[int, str]:
        """(status, text) of a page; (0, '') where nobody answers."""
        address = self.address
        if address is None:
            return 0, ""
        try:
            with urllib.request.urlopen(f"{address}/{page}", timeout=ANSWER_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels, 0 where it isn't told."""
        _, text = self.get("metrics")
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.split(r"[{ ]", line, maxsplit=1)[0] == name)

    def books(self) -> list[int]:
        """The partitions of the books' ledger that it owns."""
        _, text = self.get("metrics")
        return sorted(
            int(number) for number in re.findall(r'^plimsoll_cut_age_seconds\{machine="book",partition="(\d+)"', text, re.MULTILINE)
        )

    def fencings(self) -> int:
        """How often it has found itself fenced since it began: by its metric, or by its log where it has ended itself."""
        return max(int(self.metric("plimsoll_fenced_total")), self.text().count("is fenced at"))

    async def ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until /ready says so. Raises AssertionError with the end of its log."""
        ends = time.monotonic() + timeout_s
        status, why = 0, ""
        while time.monotonic() < ends and self.process.poll() is None:
            status, why = await asyncio.to_thread(self.get, "ready")
            if status == 200:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{self.name} is not ready ({status} {why}, exit {self.process.poll()}):\n{self.text()[-4000:]}")

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    async def stop(self, timeout_s: float = PATIENCE_S) -> int:
        """SIGTERM; the exit code. Killed where it takes too long, which shows in the code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            return await asyncio.to_thread(self.process.wait, timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.returncode
