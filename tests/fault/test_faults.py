"""Workers killed and paused on a real broker: nothing lost, nothing twice, every cut its log's state, orders the same bytes."""

from __future__ import annotations

import pytest

from streams.broker import Cluster
from tests.fault.scenario import Outcome, run_scenario
from tests.fault.workloads import BookWorkload, ToyWorkload

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(1_200)]


async def test_toys_while_one_worker_is_killed_and_one_paused(kafka: Cluster, topic_prefix: str) -> None:
    outcome = await run_scenario(kafka.bootstrap, topic_prefix, 20251010, ToyWorkload(20251010))
    print(outcome.line())
    assert outcome.problems == []
    assert outcome.report.distinct > 1_000
    assert outcome.report.cuts_checked > 50
    holds_what_was_promised(outcome)


async def test_books_while_one_worker_is_killed_and_one_paused(kafka: Cluster, topic_prefix: str) -> None:
    outcome = await run_scenario(kafka.bootstrap, topic_prefix, 20251011, BookWorkload(20251011))
    print(outcome.line())
    assert outcome.problems == []
    assert outcome.report.distinct > 100
    assert outcome.report.cuts_checked > 100
    holds_what_was_promised(outcome)


def holds_what_was_promised(outcome: Outcome) -> None:
    """`problems` says it in words; here it is once more, so that an empty list is not taken on trust."""
    assert outcome.uncut > 0, "the kill came when a cut covered every order"
    assert outcome.repeated_by_kill > 0
    assert outcome.fenced > 0
    assert outcome.refused == 0
    assert outcome.report.difference_count == 0
    assert outcome.report.repeated > 0
    assert outcome.report.conflicting == 0
    assert outcome.report.cuts_restored == outcome.report.cuts_checked
