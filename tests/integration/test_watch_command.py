"""`python -m grafana.watch`: demo, console and Prometheus come together, say where they are, and end together."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from grafana.queries import series_of
from streams.broker import Cluster
from tests.fault.workers import READY_TIMEOUT_S, ROOT
from tests.integration.test_demo import workers_of
from tests.patience import PATIENCE_S


def until(log: Path, pattern: str, process: subprocess.Popen[bytes]) -> re.Match[str]:
    """What the process says, once it has said it."""
    ends = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < ends and process.poll() is None:
        if found := re.search(pattern, log.read_text(errors="replace")):
            return found
        time.sleep(0.2)
    raise AssertionError(f"it never said {pattern!r} (exit {process.poll()}):\n{log.read_text(errors='replace')[-4000:]}")


@pytest.mark.slow
def test_all_that_is_to_be_looked_at_comes_and_goes_together(kafka: Cluster, tmp_path: Path) -> None:
    log = tmp_path / "watch.log"
    command = [sys.executable, "-m", "grafana.watch", "--out", str(tmp_path), "--scenario", "B", "--minutes", "1", "--accounts", "100"]
    with log.open("wb") as output:
        watch = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PLIMSOLL_BOOTSTRAP": kafka.bootstrap}, stdout=output, stderr=output)
    try:
        console = until(log, r"console +(http://127\.0\.0\.1:\d+)/", watch)[1]
        prometheus = until(log, r"prometheus +(http://127\.0\.0\.1:\d+)/", watch)[1]
        with urllib.request.urlopen(f"{console}/", timeout=PATIENCE_S) as page:
            assert b"Plimsoll" in page.read()
        with urllib.request.urlopen(f"{prometheus}/api/v1/rules", timeout=PATIENCE_S) as answer:
            assert len(json.load(answer)["data"]["groups"]) > 1
        ends = time.monotonic() + PATIENCE_S
        while len(series_of(prometheus, 'up{job="plimsoll"} == 1')) < 2:
            assert time.monotonic() < ends, "Prometheus reaches no worker"
            time.sleep(0.2)
        started = psutil.Process(watch.pid).children(recursive=True)
        assert workers_of(psutil.Process(watch.pid))
        for impatience in (signal.SIGINT, signal.SIGINT, signal.SIGHUP):
            watch.send_signal(impatience)
            time.sleep(0.2)
        assert watch.wait(PATIENCE_S) == 0
        assert "everything that was started has ended" in log.read_text(errors="replace")
        _, alive = psutil.wait_procs(started, timeout=30.0)
        assert alive == []
    finally:
        if watch.poll() is None:
            watch.terminate()
            watch.wait(PATIENCE_S)
