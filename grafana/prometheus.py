"""A real Prometheus that lasts as long as it is wanted: on a free port of this machine, with given rules and targets."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import yaml

from grafana.build import PROJECT
from grafana.queries import series_of
from streams.broker import free_port

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 10.0
LOG_TAIL_CHARACTERS = 4_000


class PrometheusError(RuntimeError):
    """It is not there, or does not start; the text says what to do, or has the end of its log."""


def tool(name: str) -> str:
    """A program that `make tools` has put into .tools, or that is on the path. Raises PrometheusError where it is neither."""
    found = shutil.which(name, path=str(PROJECT / ".tools" / "bin")) or shutil.which(name)
    if not found:
        raise PrometheusError(f"{name} is missing: type `make tools`")
    return found


class Firing(NamedTuple):
    """An alert that fires, as Prometheus would tell it to somebody."""

    name: str
    labels: dict[str, str]
    annotations: dict[str, str]


class PrometheusServer:
    """`with PrometheusServer(folder, jobs, rules) as prometheus`; `jobs` are addresses (`host:port`) by the name of their job."""

    def __init__(self, folder: Path, jobs: Mapping[str, Sequence[str]], rules: Sequence[Path] = (), interval: str = "1s") -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._log = folder / "prometheus.log"
        self._interval = interval
        self._rules = [str(path) for path in rules]
        self._jobs = dict(jobs)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PrometheusServer:
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "prometheus.yml"
        config.write_text(yaml.safe_dump(self._config()))
        command = [
            tool("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)
        try:
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def series(self, query: str) -> list[dict[str, Any]]:
        """What an instant query returns now."""
        return series_of(self.address, query)

    def firing(self) -> list[Firing]:
        """The alerts that fire now."""
        with urllib.request.urlopen(f"{self.address}/api/v1/alerts", timeout=START_TIMEOUT_S) as answer:  # noqa: S310 - our own
            alerts = json.load(answer)["data"]["alerts"]
        return [
            Firing(alert["labels"]["alertname"], alert["labels"], alert["annotations"]) for alert in alerts if alert["state"] == "firing"
        ]

    def _config(self) -> dict[str, Any]:
        scraped = [{"job_name": job, "static_configs": [{"targets": list(targets)}]} for job, targets in self._jobs.items()]
        return {
            "global": {"scrape_interval": self._interval, "scrape_timeout": self._interval, "evaluation_interval": self._interval},
            "rule_files": self._rules,
            "scrape_configs": scraped,
        }

    def _wait_until_ready(self) -> None:
        ends = time.monotonic() + START_TIMEOUT_S
        assert self._process is not None
        while time.monotonic() < ends and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.address}/-/ready", timeout=1.0):  # noqa: S310 - our own
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise PrometheusError(f"Prometheus is not ready (exit {self._process.poll()}):\n{self._log.read_text()[-LOG_TAIL_CHARACTERS:]}")

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
