"""Workers killed and paused on a real broker: nothing lost, nothing twice, every cut its log's state, orders the same bytes."""

from __future__ import annotations

import pytest

from streams.broker import Cluster
from tests.fault.scenario import run_scenario

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(240)]


async def test_one_worker_killed_and_one_paused(kafka: Cluster, topic_prefix: str) -> None:
    outcome = await run_scenario(kafka.bootstrap, topic_prefix, seed=20251010)
    print(outcome.line())
    assert outcome.problems == []
    assert outcome.fenced > 0
    assert outcome.report.difference_count == 0
    assert outcome.report.repeated > 0
    assert outcome.report.conflicting == 0
    assert outcome.report.distinct > 1_000
    assert outcome.report.cuts_checked > 50
    assert outcome.report.cuts_restored == outcome.report.cuts_checked
