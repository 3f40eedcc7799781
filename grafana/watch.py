"""A demo that plays and is served, the console, and a Prometheus that scrapes it with our rules: `python -m grafana.watch`, until Ctrl-C.

Says what to open, and writes into out/watch/queries.json what each panel's query finds.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from grafana import rules
from grafana.build import PROJECT
from grafana.prometheus import PrometheusError, PrometheusServer
from grafana.queries import Answer, answers, panel_queries, write

RULES: Final = [PROJECT / "deploy" / "prometheus" / name for name in (rules.RECORDING_RULES, rules.ALERT_RULES)]
SCRAPE_INTERVAL: Final = "2s"
START_TIMEOUT_S: Final = 600.0  # kernels and a broker's archives may have to be fetched and compiled first
QUERIES_TIMEOUT_S: Final = 120.0
END_TIMEOUT_S: Final = 60.0
KILL_TIMEOUT_S: Final = 10.0
LOOK_S: Final = 0.5
ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoEnded(RuntimeError):
    """The demo is gone; what it printed says why."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=PROJECT / "out" / "watch", help="the folder for logs, the report and queries.json")
    options, demo_arguments = parser.parse_known_args()
    for how in ENDS:
        if signal.getsignal(how) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(how, _interrupt)
    try:
        watch(options.out, demo_arguments)
    except KeyboardInterrupt:
        sys.stdout.write("Stopped; everything that was started has ended.\n")
    except (DemoEnded, PrometheusError) as error:
        raise SystemExit(str(error)) from None


def watch(out: Path, demo_arguments: Sequence[str]) -> None:
    """Run all of it until it is interrupted, or the demo ends."""
    with _demo(out / "demo", demo_arguments) as demo:
        workers = _workers(demo, out / "demo" / "logs")
        with PrometheusServer(out / "prometheus", {"plimsoll": workers}, RULES, SCRAPE_INTERVAL) as prometheus, _ending_undisturbed():
            _say(f"console     http://{workers[0]}/")
            _say(f"prometheus  {prometheus.address}/alerts and {prometheus.address}/graph, scraping {' and '.join(workers)}")
            _until(demo, out / "demo" / "summary.json")
            write_what_queries_find(prometheus.address, out / "queries.json", demo)
            demo.wait()
    raise DemoEnded(f"the demo has ended with code {demo.returncode}")


def write_what_queries_find(prometheus: str, path: Path, demo: subprocess.Popen[bytes]) -> None:
    """What each panel's query finds, once all find something; else, after a while, as it is then."""
    ends = time.monotonic() + QUERIES_TIMEOUT_S
    found = _found(prometheus)
    while not (found and all(answer.series for answer in found)) and time.monotonic() < ends:
        _still_runs(demo)
        time.sleep(LOOK_S)
        found = _found(prometheus) or found
    if not found:
        _say(f"{prometheus} did not answer the panels' queries: see its log")
        return
    write(path, found)
    nothing = sum(answer.series == 0 for answer in found)
    _say(f"{path} has what {len(found)} queries of panels find; {nothing} find nothing")


def _found(prometheus: str) -> list[Answer]:
    """What each panel's query finds now; nothing where Prometheus does not answer yet."""
    try:
        return answers(prometheus, panel_queries())
    except (OSError, PrometheusError):
        return []


def end(demo: subprocess.Popen[bytes], within_s: float) -> bool:
    """By SIGTERM, at which a demo ends what it has started; if it has not within that time, kill it and all that (and say False)."""
    demo.terminate()
    try:
        demo.wait(within_s)
    except subprocess.TimeoutExpired:
        started: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            started = psutil.Process(demo.pid).children(recursive=True)
        demo.kill()
        demo.wait()
        for process in started:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(started, timeout=KILL_TIMEOUT_S)
        return False
    return True


@contextmanager
def _demo(out: Path, arguments: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """In a session of its own: Ctrl-C is for us, who then end it by its process id, and it its workers and its broker."""
    command = [sys.executable, "-m", "streams.command_line", "demo", "--serve", "--out", str(out), *(arguments or ("--scenario", "B"))]
    (out / "summary.json").unlink(missing_ok=True)
    for log in (out / "logs").glob("worker-*.log"):
        log.unlink()
    demo = subprocess.Popen(command, start_new_session=True)
    try:
        with _ending_undisturbed():
            yield demo
    finally:
        end(demo, END_TIMEOUT_S)


def _workers(demo: subprocess.Popen[bytes], logs: Path) -> list[str]:
    """`host:port` of the pages of both workers of the last run, once they have said so."""
    ends = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < ends:
        _still_runs(demo)
        texts = [log.read_text(errors="replace") for log in sorted(logs.glob("worker-*.log"))]
        found = [match[1] for text in texts if (match := re.search(r"metrics and health at http://(\S+:\d+)", text))]
        if len(found) > 1 and len(found) == len(texts):
            return found
        time.sleep(LOOK_S)
    raise DemoEnded(f"the demo's workers do not serve: see {logs}")


def _until(demo: subprocess.Popen[bytes], path: Path) -> None:
    """Until the demo has been played and judged, which is when it writes its summary."""
    while not path.exists():
        _still_runs(demo)
        time.sleep(LOOK_S)


def _still_runs(demo: subprocess.Popen[bytes]) -> None:
    if demo.poll() is not None:
        raise DemoEnded(f"the demo has ended with code {demo.returncode}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _interrupt(*_: object) -> None:
    """Once: whoever types Ctrl-C again, or closes the terminal meanwhile, gets what was started ended all the same."""
    _ignore_signals()
    raise KeyboardInterrupt


@contextmanager
def _ending_undisturbed() -> Iterator[None]:
    """When what is done within it is over, by itself or not, no signal cuts short what must be ended then."""
    try:
        yield
    finally:
        _ignore_signals()


def _ignore_signals() -> None:
    for how in ENDS:
        signal.signal(how, signal.SIG_IGN)


if __name__ == "__main__":
    main()
