"""Two minutes of the demo's crash in a process of their own, served on until the test has seen enough: something alive to look at.

`python -m tests.live_demo BOOTSTRAP FOLDER BEGIN END ACCOUNTS` is that process.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from rich.console import Console

from grafana import watch
from streams.broker import Cluster
from streams.demo.run import Options, perform_on
from streams.demo.timeline import Scenario
from tests.fault.workers import ROOT
from tests.patience import PATIENCE_S

SCENARIO: Scenario = "B"
BEGIN, END = 70, 72  # 21:40 to 21:42, when USDe falls
ACCOUNTS, NAMED = 200, 20
SERVED = "Serving run"
SERVED_TIMEOUT_S = 480.0
TAIL_CHARACTERS = 4_000


class LiveDemo:
    """`with LiveDemo(kafka, folder) as demo`: entered when the crash has been played and its workers go on; `addresses` are theirs.

    From minute `begin` to `end` after 20:30, with so many accounts beside the named ones.
    """

    def __init__(self, kafka: Cluster, folder: Path, *, begin: int = BEGIN, end: int = END, accounts: int = ACCOUNTS) -> None:
        self._kafka = kafka
        self._folder = folder
        self._extent = [str(number) for number in (begin, end, accounts)]
        self._log = folder / "demo.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LiveDemo:
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            command = [sys.executable, "-m", "tests.live_demo", self._kafka.bootstrap, str(self._folder), *self._extent]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
        try:
            self._wait_until_served()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    @property
    def addresses(self) -> list[str]:
        """`host:port` of each worker's pages."""
        return re.findall(r"metrics and health at http://([\d.]+:\d+)", self._log.read_text())

    def _wait_until_served(self) -> None:
        assert self._process is not None
        ends = time.monotonic() + SERVED_TIMEOUT_S
        while time.monotonic() < ends and self._process.poll() is None:
            if SERVED in self._log.read_text():
                return
            time.sleep(0.2)
        raise AssertionError(f"the demo is not served (exit {self._process.poll()}):\n{self._log.read_text()[-TAIL_CHARACTERS:]}")

    def _end(self) -> None:
        """By SIGTERM, at which the demo ends its workers."""
        if self._process is None:
            return
        process, self._process = self._process, None
        if not watch.end(process, PATIENCE_S):
            raise AssertionError(
                f"the demo did not end within {PATIENCE_S:g} s and was killed:\n{self._log.read_text()[-TAIL_CHARACTERS:]}"
            )


def main() -> None:
    bootstrap, folder, begin, end, accounts = sys.argv[1:]
    options = Options((SCENARIO,), int(end), serve=True, accounts=int(accounts), out=Path(folder), begin=int(begin))
    perform_on(Cluster(bootstrap, "external", "unknown"), options, Console(width=100))


if __name__ == "__main__":
    main()
