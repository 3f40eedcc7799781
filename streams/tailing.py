"""Reads any of our topics for people: the newest records, all of them, or each as it comes; committed ones only."""

from __future__ import annotations

import asyncio
import difflib
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from msgspec import Struct

from streams import records
from streams.clients import Clients, bounds, scan
from streams.messages import orders_topic
from streams.settings import Settings, kafka_client_options
from streams.topics_admin import admin_client

ALL_ORDERS = "orders"  # short for the orders of all venues
LAST_MAX = 100_000  # newest records of a partition that can be asked for
READ_AT_ONCE_MAX = 500  # records taken from the client and printed in one go
LOOK_AGAIN_S = 10.0  # for a venue's topic that was not there yet
WAIT_MS = 250
WIDER = 4  # by how much each look further back widens, where records are few between offsets

Say = Callable[[str], None]


class TailFault(ValueError):
    """There is no such topic, or no such partition; the text says which there are."""


class Choice(Struct, frozen=True, kw_only=True):
    """Which records: the newest `last` of each partition (None: all that are kept), and then, to `follow`, each that comes."""

    last: int | None
    follow: bool = False
    key: str | None = None
    partition: int | None = None

    def has(self, record: Any) -> bool:
        return self.key is None or record.key == self.key.encode()


async def tail(settings: Settings, topic: str, choice: Choice, say: Say, *, as_json: bool = False) -> None:
    """Say each record of `topic` (without the prefix) that was chosen: of a batch in the order of the broker's time. Raises TailFault.

    Holds one batch at a time. Following ends when the task is cancelled.
    """
    if choice.last is not None and choice.last > LAST_MAX:
        raise TailFault(f"the newest {LAST_MAX:,} records at most, or --from-beginning")
    clients = Clients(settings)
    put = records.as_json if as_json else records.line
    partitions = await _partitions(clients, topic, choice.partition)
    positions = {where: await _start(clients, where, choice) for where in partitions}
    while True:
        follow_s = 0.0 if not choice.follow else LOOK_AGAIN_S if topic == ALL_ORDERS else math.inf
        async with aclosing(_batches(clients, positions, follow_s)) as batches:
            async for batch in batches:
                for record in batch:
                    if choice.has(record):
                        say(put(_ours(settings, record)))
        if not choice.follow:
            return
        for where in await _partitions(clients, topic, choice.partition):
            positions.setdefault(where, 0)


def _ours(settings: Settings, record: Any) -> records.Record:
    topic = record.topic.removeprefix(settings.topic_prefix)
    return records.Record(topic, record.partition, record.offset, record.timestamp, record.key, record.value)


# ---- which partitions -----------------------------------------------------------------------------------------------------------------


async def _partitions(clients: Clients, topic: str, only: int | None) -> list[TopicPartition]:
    async with admin_client(kafka_client_options(clients.settings)) as admin:
        prefix = clients.settings.topic_prefix
        there = sorted(name.removeprefix(prefix) for name in await admin.list_topics() if name.startswith(prefix))
        ours = [name for name in there if records.is_ours(name)]
        names = chosen(topic, ours)
        described = await admin.describe_topics([clients.name(name) for name in names]) if names else []
    numbers = [(told["topic"], part["partition"]) for told in described for part in told["partitions"]]
    found = [TopicPartition(name, number) for name, number in sorted(numbers) if only in {None, number}]
    if names and not found:
        raise TailFault(f"{topic} has no partition {only}: take one from 0 to {max(number for _, number in numbers)}")
    return found


def chosen(topic: str, ours: list[str]) -> list[str]:
    """The topics that are meant, out of those that are there; none yet for all orders. Raises TailFault with what to say instead."""
    if topic == ALL_ORDERS:
        return [name for name in ours if name.startswith(orders_topic(""))]
    if topic in ours:
        return [topic]
    if records.is_ours(topic):
        raise TailFault(f"{topic} is not there: run `plimsoll topics create`")
    close = difflib.get_close_matches(topic, [*ours, ALL_ORDERS], n=3)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    raise TailFault(f"there is no topic {topic!r}; {meant}There are: {', '.join(ours) or 'none yet, run `plimsoll topics create`'}")


# ---- where to begin, and on ------------------------------------------------------------------------------------------------------------


async def _start(clients: Clients, where: TopicPartition, choice: Choice) -> int:
    """The offset of the first record to say.

    Offsets have holes (compaction, markers of transactions, other keys), so the newest records are looked for from the end, in windows
    that widen until there are enough.
    """
    async with clients.reading(where) as consumer:
        first, end = await bounds(consumer, where)
        if choice.last is None:
            return first
        found: list[int] = []
        begin, width = end, max(choice.last, READ_AT_ONCE_MAX)
        while begin > first and len(found) < choice.last:
            upto, begin, width = begin, max(first, begin - width), width * WIDER
            newest: deque[int] = deque(maxlen=choice.last - len(found))
            async for some in scan(consumer, where, begin, upto):
                newest.extend(record.offset for record in some if choice.has(record))
            found = [*newest, *found]
        return found[0] if found else end


async def _batches(clients: Clients, positions: dict[TopicPartition, int], follow_s: float) -> AsyncGenerator[list[Any], None]:
    """Records from `positions` on, which go along: up to the ends as they are now, or whatever comes for `follow_s`."""
    if not positions:
        await asyncio.sleep(follow_s)
        return
    until = time.monotonic() + follow_s
    async with clients.reading(*positions) as consumer:
        for where, position in positions.items():
            consumer.seek(where, position)
        ends = None if follow_s else await consumer.end_offsets(list(positions))
        while time.monotonic() < until if ends is None else _remain(consumer, positions, ends):
            fetched = await consumer.getmany(timeout_ms=WAIT_MS, max_records=READ_AT_ONCE_MAX)
            yield sorted(_before(fetched.values(), ends), key=_by_time)
            for where in positions:
                positions[where] = await consumer.position(where)


def _remain(consumer: AIOKafkaConsumer, positions: dict[TopicPartition, int], ends: dict[TopicPartition, int]) -> bool:
    """Whether something before the ends has not been read; what has been read to its end is not asked for again."""
    done = [where for where, position in positions.items() if position >= ends[where]]
    consumer.pause(*done)
    return len(done) < len(positions)


def _before(fetched: Iterable[list[Any]], ends: dict[TopicPartition, int] | None) -> list[Any]:
    every = [record for some in fetched for record in some]
    return every if ends is None else [record for record in every if record.offset < ends[TopicPartition(record.topic, record.partition)]]


def _by_time(record: Any) -> tuple[int, str, int, int]:
    return record.timestamp, record.topic, record.partition, record.offset
