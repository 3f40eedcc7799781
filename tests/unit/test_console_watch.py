"""How a watch reads: what it leaves of the event loop to others, and where a topic ends that was made anew. Without a broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from streams.clients import Clients
from streams.view import View
from streams.watch import Watch
from tests.patience import PATIENCE_S

HEALTH = TopicPartition("account.health", 0)
RECORD = SimpleNamespace(key=b"a", value=None, timestamp=1)


class FakeBroker:
    """A consumer, an admin and what makes them: one partition, whose records are handed out a batch a call."""

    def __init__(self, first: int, end: int, batch: int) -> None:
        self.first, self.end, self.batch = first, end, batch
        self.at = 0

    def consumer(self, *, bare: bool) -> FakeBroker:
        assert bare
        return self

    def admin(self) -> SimpleNamespace:
        return SimpleNamespace(start=self.start, close=self.stop, describe_topics=self.describe_topics)

    def name(self, topic: str) -> str:
        return topic

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def describe_topics(self) -> list[dict[str, Any]]:
        return [{"topic": HEALTH.topic, "partitions": [{"partition": 0}]}]

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        assert list(partitions) == [HEALTH]

    def seek(self, _: TopicPartition, offset: int) -> None:
        self.at = offset

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.first)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.end)

    async def position(self, _: TopicPartition) -> int:
        return self.at

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
        if self.at > self.end:
            raise OffsetOutOfRangeError({HEALTH: self.at})
        n = min(self.batch, self.end - self.at)
        if n == 0:
            await asyncio.sleep(0.001)
            return {}
        self.at += n
        return {HEALTH: [RECORD] * n}


@pytest.fixture
async def watches() -> AsyncIterator[list[Watch]]:
    made: list[Watch] = []
    yield made
    for watch in made:
        await watch.stop()


async def read_up(watch: Watch, broker: FakeBroker) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while watch.behind() != 0 or broker.at != broker.end:
            await watch.changed(0.01)


async def test_a_backlog_takes_half_of_the_loop_at_most(watches: list[Watch], monkeypatch: pytest.MonkeyPatch) -> None:
    taken_s: list[float] = []

    def slow(*_: Any) -> None:
        began = time.monotonic()
        time.sleep(0.004)
        taken_s.append(time.monotonic() - began)

    monkeypatch.setattr(View, "take", slow)
    broker = FakeBroker(0, 60, batch=5)
    watch = Watch(cast("Clients", broker))
    watches.append(watch)
    began = time.monotonic()
    await watch.start()
    await read_up(watch, broker)
    elapsed_s = time.monotonic() - began
    assert len(taken_s) == 60
    assert elapsed_s > 0.99 * (sum(taken_s) + sum(taken_s[:-5])), "a pause after each batch but the last"


async def test_what_is_still_to_be_read_of_a_topic_made_anew_is_counted_anew(watches: list[Watch]) -> None:
    broker = FakeBroker(0, 1_000, batch=500)
    watch = Watch(cast("Clients", broker))
    watches.append(watch)
    await watch.start()
    await read_up(watch, broker)
    broker.end = 7
    await read_up(watch, broker)
    assert watch.behind() == 0
