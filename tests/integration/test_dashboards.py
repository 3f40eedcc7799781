"""Every panel's query and every recording rule, put to a real Prometheus that scrapes a running demo."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from grafana import rules
from grafana.build import PROJECT
from grafana.prometheus import PrometheusServer
from grafana.queries import Answer, PanelQuery, answers, panel_queries, write
from grafana.recordings import recordings
from grafana.windows import Windows
from streams.broker import Cluster
from tests.live_demo import ACCOUNTS, NAMED, LiveDemo
from tests.patience import PATIENCE_S

RULES = PROJECT / "deploy" / "prometheus"
TOLD = PROJECT / "out" / "watch" / "queries.json"

pytestmark = pytest.mark.slow


def until_all_answer(prometheus: str, asked: list[PanelQuery]) -> list[Answer]:
    """What each query returns, once all return something; or at the end of a bounded time, for the assertion to name those that don't."""
    ends = time.monotonic() + PATIENCE_S
    while True:
        found = answers(prometheus, asked)
        if all(answer.series for answer in found) or time.monotonic() > ends:
            return found
        time.sleep(1.0)


def test_every_query_and_every_recording_finds_something_in_a_running_demo(kafka: Cluster, tmp_path: Path) -> None:
    panels = panel_queries()
    recorded = [PanelQuery("recording rules", recording.name, recording.name) for recording in recordings(Windows())]
    files = [RULES / rules.RECORDING_RULES, RULES / rules.ALERT_RULES]
    with (
        LiveDemo(kafka, tmp_path / "demo") as demo,
        PrometheusServer(tmp_path / "prometheus", {"plimsoll": demo.addresses}, files) as prometheus,
    ):
        found = until_all_answer(prometheus.address, panels + recorded)
        (nothing,) = answers(prometheus.address, [PanelQuery("none", "none", "plimsoll_of_which_nobody_tells")])
        everybody = f"sum(job_state:plimsoll_accounts:sum) == {ACCOUNTS + NAMED}"  # unless a scrape of one of the workers has just failed
        (accounts,) = until_all_answer(prometheus.address, [PanelQuery("recording rules", "all accounts", everybody)])
    write(TOLD, found[: len(panels)])
    assert nothing.series == 0
    assert len(panels) > 80
    assert [answer for answer in found if not answer.series] == []
    assert accounts.series == 1
