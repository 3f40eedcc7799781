"""What is made for Prometheus and Grafana is current, every alert has its page and its test, and promtool agrees."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from grafana import watch
from grafana.alerts import Alert, Severity, alerts
from grafana.build import boards, files
from grafana.expressions import SELDOM, recorded_increase
from grafana.prometheus import PrometheusError, tool
from grafana.queries import Answer, filled_in, panel_queries
from grafana.recordings import recordings
from grafana.rules import ALERT_RULES, RECORDING_RULES, alert_rules, recording_rules
from grafana.windows import Windows
from streams.metrics import METRICS_TABLE
from streams.replay_watch import REPLAY_METRICS_TABLE

ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
ALERT_TESTS = ROOT / "tests" / "alerts"
RULES = ROOT / "deploy" / "prometheus"
HEADINGS = ["## What it means", "## What to look at", "## What to type", "## When it ends"]
SECONDS = {"s": 1, "m": 60, "h": 3_600}

ALL = alerts()
NAMES = [alert.name for alert in ALL]


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run([tool("promtool"), *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---- made files -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "text"), files().items(), ids=files().keys())
def test_a_made_file_is_current(name: str, text: str) -> None:
    assert (ROOT / name).read_text() == text, "run: python -m grafana.build"


def test_no_made_folder_has_a_file_that_nothing_makes() -> None:
    folders = {Path(name).parent for name in files()}
    there = {path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).iterdir() if path.is_file()}
    assert there == set(files())


def test_runbooks_can_be_read_elsewhere() -> None:
    made = files("https://runbooks.example/plimsoll")
    rules = yaml.safe_load(made[f"deploy/prometheus/{ALERT_RULES}"])["groups"][0]["rules"]
    assert {rule["annotations"]["runbook_url"] for rule in rules} == {f"https://runbooks.example/plimsoll/{alert.runbook}" for alert in ALL}
    variables = json.loads(made["grafana/dashboards/overview.json"])["templating"]["list"]
    assert next(one for one in variables if one["name"] == "runbooks")["query"] == "https://runbooks.example/plimsoll"


def test_a_scale_shortens_every_window_and_changes_no_expression() -> None:
    assert [Windows(0.05)(written) for written in ("5m", "30s", "1d", "1m")] == ["15s", "1500ms", "72m", "3s"]
    assert [Windows()(written) for written in ("5m", "30s", "1d", "15m")] == ["5m", "30s", "1d", "15m"]

    def without_windows(rules: str) -> str:
        return re.sub(r"\b\d+(ms|s|m|h|d)\b", "T", " ".join(yaml.safe_dump(yaml.safe_load(rules), width=10_000).split()))

    for made in (recording_rules, alert_rules):
        assert without_windows(made(Windows(0.05))) == without_windows(made())
        assert made(Windows(0.05)) != made()


def test_the_rules_and_the_example_are_valid() -> None:
    promtool("check", "rules", RULES / RECORDING_RULES, RULES / ALERT_RULES)
    promtool("check", "config", RULES / "prometheus.yml")


def test_recording_rules_are_named_level_metric_operation() -> None:
    names = [recording.name for recording in recordings(Windows())]
    assert len(names) == len(set(names)) > 25
    for name in names:
        assert re.fullmatch(r"(job|instance)(_[a-z]+)*:plimsoll_[a-z_]+:[a-z0-9]+", name), name
    assert {recorded_increase(counter) for counter in SELDOM} <= set(names)


def test_every_metric_that_is_asked_for_is_told() -> None:
    told = set(re.findall(r"`(plimsoll_\w+)`", METRICS_TABLE.make() + REPLAY_METRICS_TABLE.make()))
    asked = [query.query for query in panel_queries()]
    asked += [recording.expression for recording in recordings(Windows())] + [alert.expression for alert in ALL]
    named = set(re.findall(r"(?<![\w:])plimsoll_\w+", " ".join(asked)))
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in named} - told == set()
    assert len(named) > 60


def test_every_recording_that_is_asked_for_is_made() -> None:
    made = {recording.name for recording in recordings(Windows())}
    asked = " ".join([*(query.query for query in panel_queries()), *(alert.expression for alert in ALL)])
    assert set(re.findall(r"\w+:plimsoll_\w+:\w+", asked)) <= made


def test_every_query_of_a_dashboard_can_be_parsed(tmp_path: Path) -> None:
    rules = [{"record": f"query:number:{number}", "expr": filled_in(query.query)} for number, query in enumerate(panel_queries())]
    path = tmp_path / "queries.rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool("check", "rules", path)


# ---- alerts ---------------------------------------------------------------------------------------------------------------------------


def test_alerts_are_told_apart() -> None:
    assert len(set(NAMES)) == len(NAMES) > 20
    assert {alert.severity for alert in ALL} == set(Severity)


@pytest.mark.parametrize("alert", ALL, ids=NAMES)
def test_an_alert_says_what_it_is(alert: Alert) -> None:
    assert re.fullmatch(r"Plimsoll([A-Z][a-z]+)+", alert.name)
    assert re.fullmatch(r"[1-9]\d*[sm]", alert.hold)
    assert alert.summary
    assert alert.description.endswith(".")


@pytest.mark.parametrize("alert", ALL, ids=NAMES)
def test_an_alert_has_a_page_that_says_what_to_do(alert: Alert) -> None:
    page = (RUNBOOKS / alert.runbook).read_text()
    assert page.startswith(f"# {alert.name}\n")
    assert re.findall(r"^## .+$", page, re.MULTILINE) == HEADINGS
    assert re.search(r"^\$ plimsoll ", page, re.MULTILINE), "it says what to type"


def test_pages_name_panels_that_exist_and_panels_pages() -> None:
    titled = {
        f"{board.title.removeprefix('Plimsoll / ')} / {panel['title']}"
        for board in boards()
        for panel in json.loads(board.as_json())["panels"]
    }
    linked = {link["url"] for board in boards() for panel in json.loads(board.as_json())["panels"] for link in panel.get("links", [])}
    for page in RUNBOOKS.glob("*.md"):
        named = set(re.findall(r"\*\*([^*]+ / [^*]+)\*\*", page.read_text()))
        assert named <= titled, page.name
    assert linked <= {f"${{runbooks}}/{alert.runbook}" for alert in ALL}
    assert {page.name for page in RUNBOOKS.glob("*.md")} == {alert.runbook for alert in ALL}


# ---- promtool's tests of alerts ---------------------------------------------------------------------------------------------------------


def seconds(written: str) -> int:
    return sum(int(number) * SECONDS[unit] for number, unit in re.findall(r"(\d+)([smh])", written))


@pytest.mark.parametrize("path", sorted(ALERT_TESTS.glob("*.test.yml")), ids=lambda path: path.name)
def test_alerts_fire_when_they_must_and_not_before(path: Path) -> None:
    promtool("test", "rules", path)


@pytest.mark.parametrize("alert", ALL, ids=NAMES)
def test_an_alert_is_tested_at_its_edges(alert: Alert) -> None:
    """Silent one evaluation before it fires, and silent again after its fault: what the file above must ask for."""
    content: dict[str, Any] = yaml.safe_load((ALERT_TESTS / alert.runbook).with_suffix(".test.yml").read_text())
    step = seconds(content["evaluation_interval"])
    expected = f'ALERTS{{alertname="{alert.name}", alertstate="firing"}}'
    ends = False
    for test in content["tests"]:
        checks = test["promql_expr_test"]
        assert {check["expr"] for check in checks} == {expected}
        fires = [seconds(check["eval_time"]) for check in checks if check["exp_samples"]]
        silent = [seconds(check["eval_time"]) for check in checks if not check["exp_samples"]]
        assert not fires or fires[0] - step in silent
        ends = ends or bool(fires and silent and silent[-1] > fires[-1])
    assert ends, "nothing shows that it ends"


def test_every_test_is_of_an_alert() -> None:
    expected = {Path(alert.runbook).with_suffix(".test.yml").name for alert in ALL} | {"healthy.test.yml"}
    assert {path.name for path in ALERT_TESTS.iterdir()} == expected


@pytest.mark.parametrize("alert", ALL, ids=NAMES)
def test_the_fault_of_an_alert_is_made_somewhere(alert: Alert) -> None:
    made = "\n".join(path.read_text() for path in (ROOT / "tests" / "integration").glob("test_*alerts.py"))
    assert f'watch.fires("{alert.name}"' in made
    assert re.search(rf'watch\.ends\([^)]*"{alert.name}"', made)


# ---- python -m grafana.watch ----------------------------------------------------------------------------------------------------------

ENDED_TWICE = """
import os, signal, sys, time
from grafana import watch

def watched(out, arguments):
    try:
        os.kill(os.getpid(), int(sys.argv[1]))
        signal.pause()
    finally:
        for how in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), how)
            time.sleep(0.01)
        print("ended", flush=True)

watch.watch = watched
watch.main()
"""


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_watching_says_that_all_has_ended_when_it_has(first: signal.Signals) -> None:
    done = subprocess.run([sys.executable, "-c", ENDED_TWICE, str(int(first))], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ended\nStopped; everything that was started has ended.\n"), done.stderr


@contextmanager
def demo_like(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_what_a_demo_has_started_is_killed_with_it() -> None:
    with demo_like("sh", "-c", "trap '' TERM; sleep 600 & echo $!; wait") as demo:
        assert demo.stdout is not None
        child = psutil.Process(int(demo.stdout.readline()))
        try:
            assert not watch.end(demo, 0.1)
            assert not child.is_running()
        finally:
            with suppress(psutil.NoSuchProcess):
                child.kill()


def test_a_demo_that_ends_by_itself_is_not_killed() -> None:
    with demo_like("sleep", "600") as demo:
        assert watch.end(demo, 60.0)
        assert demo.returncode == -signal.SIGTERM


def test_a_query_that_fails_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    replies: list[Exception | list[Answer]] = [
        OSError("it is not there"),
        PrometheusError("it does not start"),
        [Answer("a", "b", "c", 0)],
        OSError("it is gone"),
        [Answer("a", "b", "c", 1)],
    ]

    def answers(*_: object) -> list[Answer]:
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    monkeypatch.setattr(watch, "answers", answers)
    monkeypatch.setattr(watch, "LOOK_S", 0.0)
    with demo_like("sleep", "600") as demo:
        watch.write_what_queries_find("http://nowhere", tmp_path / "queries.json", demo)
    assert [answer["series"] for answer in json.loads((tmp_path / "queries.json").read_text())] == [1]
    assert "1 queries of panels find; 0 find nothing" in capsys.readouterr().out


def test_queries_that_are_never_answered_end_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answers(*_: object) -> list[Answer]:
        raise OSError("it is not there")

    monkeypatch.setattr(watch, "answers", answers)
    monkeypatch.setattr(watch, "QUERIES_TIMEOUT_S", 0.0)
    with demo_like("sleep", "600") as demo:
        watch.write_what_queries_find("http://nowhere", tmp_path / "queries.json", demo)
    assert not (tmp_path / "queries.json").exists()
    assert "did not answer" in capsys.readouterr().out
