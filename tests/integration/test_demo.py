"""A slice of the demo on a real broker: the minutes in which USDe falls, with orders, fills, the replay's check, summary and report."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import orjson
import psutil
import pytest
from rich.console import Console

from engine.reasons import Cause, Refusal, State
from streams.broker import Cluster
from streams.demo.population import KINDS, kind_of
from streams.demo.promises import broken_promises
from streams.demo.run import Options, perform_on
from streams.demo.summary import Run
from streams.demo.timeline import Scenario
from tests.patience import PATIENCE_S

BEGIN, END = 70, 72  # 21:40 to 21:42: Binance prints USDe between 0.98 and 0.68
ACCOUNTS = 200
RUN_KEYS = {
    "sources",
    "events_in",
    "frames",
    "cuts",
    "orders",
    "dead_letters",
    "states",
    "breakers",
    "replay",
    "capital_efficiency",
    "requirements",
    "cascades",
    "wrongly_liquidated_by_single_venue_oracle",
}


@pytest.mark.slow
def test_two_minutes_of_the_crash_twice(kafka: Cluster, tmp_path: Path) -> None:
    told = io.StringIO()
    before = set(workers_of(psutil.Process()))
    options = Options(minutes=END, accounts=ACCOUNTS, out=tmp_path, begin=BEGIN)
    runs = {run.scenario: run for run in perform_on(kafka, options, Console(file=told, width=80))}

    assert not set(workers_of(psutil.Process())) - before, "a worker goes on"
    assert [promise for run in runs.values() for promise in broken_promises(run)] == []
    _check_the_story(runs)
    again = perform_on(kafka, options._replace(scenarios=("A",), out=tmp_path / "again"), Console(file=io.StringIO()))
    assert again[0].fallen == runs["A"].fallen, "the same data and seed gave another count"
    for run in runs.values():
        _check_a_run(run)
    _check_summary(tmp_path / "summary.json", kafka, runs)
    _check_report(tmp_path / "report.html")
    for words in (
        "Run A: the console is at http://127.0.0.1:",
        "Run B: the console is at http://127.0.0.1:",
        "accounts by state",
        "orders by venue",
        "orders by cause",
        "isolated",
        "an oracle of that venue alone would have liquidated",
        "its other two sources, both synthetic, hold",
    ):
        assert words in " ".join(told.getvalue().split())


def _check_the_story(runs: dict[Scenario, Run]) -> None:
    """One venue's print liquidates nobody, though its oracle would have; when all sources fall, loopers are liquidated."""
    a, b = runs["A"], runs["B"]
    assert a.liquidated("usde_looper") == frozenset()
    assert len(a.fallen.wrongly) > 5
    assert len(b.liquidated("usde_looper")) > 5


def _check_a_run(run: Run) -> None:
    recording = run.recording
    assert run.accounts == ACCOUNTS + 20
    assert run.replay.differences == []
    assert run.replay.orders == len(recording.orders) > 0
    assert recording.orders_published >= len(recording.orders)
    assert recording.letters == {}
    assert all(sum(counts) == run.accounts for _, counts in recording.states)
    orders = run.orders()
    assert recording.events_in["order.reports"] >= len(orders)
    assert recording.outcomes["filled"] > 0, "fills of the venue's moved positions"
    assert {order["cause"] for order in orders} <= {cause.name for cause in Cause} | {cause.name.lower() for cause in Cause}
    assert {kind_of(order["account"]) for order in orders} <= set(KINDS)
    assert {asset for asset, _ in recording.reports} >= {"BTC", "USDe"}
    assert run.seen.cascades == [], "neither moment was played"
    for pair, points in run.seen.correlations.items():
        assert len(points) >= END - BEGIN, pair
    for asset in ("BTC", "USDe"):
        assert any(point.price is not None for point in run.seen.marks[asset])


def _check_summary(path: Path, kafka: Cluster, runs: dict[Scenario, Run]) -> None:
    summary = orjson.loads(path.read_bytes())
    assert summary.keys() == {"broker", "A", "B"}
    assert summary["broker"] == {"kind": kafka.kind, "version": kafka.version}
    for scenario, run in runs.items():
        found = summary[scenario]
        assert found.keys() == RUN_KEYS
        assert found["orders"].keys() == {"published", "distinct", "conflicting", "by_venue", "by_cause"}
        assert found["orders"]["distinct"] == sum(found["orders"]["by_venue"].values()) == sum(found["orders"]["by_cause"].values())
        assert found["orders"]["conflicting"] == 0
        assert found["events_in"] == sum(run.recording.events_in.values())
        assert found["frames"] > found["cuts"] > 0
        assert found["replay"] == {"orders": found["orders"]["distinct"], "differences": []}
        assert found["dead_letters"].keys() <= {reason.value for reason in Refusal}
        assert all(entry.keys() == {"time", *State.__members__} for entry in found["states"])
        assert found["capital_efficiency"].keys() <= set(KINDS)
        assert all(0.0 <= ratio <= 1.0 for ratio in found["capital_efficiency"].values())
        assert found["capital_efficiency"]["market_maker"] < 0.5
        [required] = found["requirements"]
        assert required["time"] == "2025-10-10T21:40:00Z"
        assert found["cascades"] == []
        assert found["sources"]["USDe"] == {"real": ["binance"], "synthetic": ["synthetic-1", "synthetic-2"]}
        assert "BTC" not in found["sources"]
        assert found["wrongly_liquidated_by_single_venue_oracle"] == len(run.fallen.wrongly)


def _check_report(path: Path) -> None:
    """One page that needs no network, and says what is synthetic."""
    page = path.read_text()
    assert "synthetic-1" in page
    assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=", page)
    assert page.count('class="plotly-graph-div"') >= 10


def workers_of(demo: psutil.Process) -> list[psutil.Process]:
    """Its worker processes. What ends while it is looked at (the one that compiles kernels) is none."""
    workers = []
    for child in demo.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "streams.worker" in child.cmdline():
                workers.append(child)
    return workers


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_ends_what_it_started(kafka: Cluster, tmp_path: Path, how: signal.Signals, code: int) -> None:
    environment = {**os.environ, "PLIMSOLL_BOOTSTRAP": kafka.bootstrap}
    command = [sys.executable, "-m", "streams.command_line", "demo", "--accounts", "100", "--out", str(tmp_path)]
    demo = psutil.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        while len(workers := workers_of(demo)) < 2:
            assert demo.poll() is None, "the demo ended before its workers were there"
            time.sleep(0.2)
        time.sleep(1.0)
        demo.send_signal(how)
        assert demo.wait(PATIENCE_S) == code
        gone, alive = psutil.wait_procs(workers, timeout=10.0)
        assert not alive, f"processes {[process.pid for process in alive]} go on"
        assert len(gone) == 2
    finally:
        if demo.is_running():
            demo.kill()
