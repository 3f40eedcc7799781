"""What the repeated replay tells: whole runs, runs that came to no end, and nothing before the first."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence

import pytest
from aiokafka.errors import KafkaConnectionError

from streams.replay import ReplayReport
from streams.replay_watch import ReplayMetrics, repeat

FOUND = ReplayReport(orders=7, difference_count=2, differences=["one", "another"])


def told(metrics: ReplayMetrics, name: str) -> float:
    value = metrics.registry.get_sample_value(f"plimsoll_replay_{name}")
    assert value is not None
    return value


async def after(outcomes: Sequence[ReplayReport | BaseException]) -> ReplayMetrics:
    """The metrics when replays have come to these outcomes, one after the other."""
    metrics, waiting, ended = ReplayMetrics(), list(outcomes), asyncio.Event()

    async def replay() -> ReplayReport:
        if not waiting:
            ended.set()
            await asyncio.sleep(math.inf)
        outcome = waiting.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    going = asyncio.create_task(repeat(replay, 0.001, metrics))
    stopped = asyncio.create_task(ended.wait())
    await asyncio.wait([going, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if going.done():
        going.result()
    going.cancel()
    return metrics


async def test_before_the_first_whole_run_nothing_is_known() -> None:
    metrics = await after([KafkaConnectionError("away")])
    assert math.isnan(told(metrics, "differences"))
    assert math.isnan(told(metrics, "orders"))
    assert told(metrics, "last_success_timestamp_seconds") == 0
    assert told(metrics, "failures_total") == 1


async def test_a_run_that_came_to_no_end_leaves_what_was_known() -> None:
    before = time.time()
    metrics = await after([ReplayReport(orders=5), FOUND, OSError("away"), KafkaConnectionError("away")])
    assert (told(metrics, "differences"), told(metrics, "orders"), told(metrics, "failures_total")) == (2, 7, 2)
    assert before <= told(metrics, "last_success_timestamp_seconds") <= time.time()


async def test_what_nobody_expected_ends_it() -> None:
    with pytest.raises(AssertionError, match="engine"):
        await after([AssertionError("engine")])


async def test_differences_are_written_out(caplog: pytest.LogCaptureFixture) -> None:
    await after([FOUND])
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "7 orders, 0 cuts, 2 differences",
        "difference: one",
        "difference: another",
    ]
