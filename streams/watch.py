"""Reads what workers publish into a view, in a task of its own: for pages, and for those who look from a terminal."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from streams.clients import Clients
from streams.messages import INTERNAL_DLQ, PARTIALS, SOURCES, dlq_topic, orders_topic
from streams.view import View

log = logging.getLogger(__name__)

BATCH_RECORDS_MAX = 500  # taken without a pause: some milliseconds of a loop that a worker may need too
LOOK_AGAIN_S = 5.0  # for topics that were not there: a venue's is made at its first order
RETRY_S = 1.0
POLL_MS = 200

_OUTPUTS: Final = frozenset(
    {
        "account.health",
        "audit.decisions",
        "margin.calls",
        "order.reports",
        "pipeline.status",
        "risk.breakers",
        "risk.chains",
        "risk.marks",
        PARTIALS,
        INTERNAL_DLQ,
        *map(dlq_topic, SOURCES),
    }
)
_ORDERS: Final = orders_topic("")


class Watch:
    """Tails the topics from their beginning. A broker that does not answer is asked again until `stop()`; `problem` says so meanwhile."""

    def __init__(self, clients: Clients) -> None:
        self.view = View()
        self.problem = ""
        self._clients = clients
        self._topics: dict[TopicPartition, str] = {}
        self._next: dict[TopicPartition, int] = {}  # offsets to be read next, whatever becomes of the consumer
        self._ends: dict[TopicPartition, int] | None = None  # when it was first looked where the topics end, or a topic was made anew
        self._consumer: AIOKafkaConsumer | None = None  # one with all of `_topics` assigned
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Begin to read; returns at once."""
        assert self._task is None, "a watch starts once"
        self._task = asyncio.create_task(self._run(), name="watch")

    async def stop(self) -> None:
        """End it; the view stays as it is."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def caught_up(self) -> None:
        """Wait until all that was on the topics at this call has been taken."""
        while (consumer := self._consumer) is None:
            await self.changed(POLL_MS / 1000)
        ends = await consumer.end_offsets(list(self._topics))
        while any(self._next.get(partition, -1) < end for partition, end in ends.items()):
            await self.changed(POLL_MS / 1000)

    async def changed(self, timeout_s: float) -> None:
        """Return when something more was taken, or after `timeout_s`; raises what ended the reading, should anything have."""
        assert self._task is not None, "start() comes first"
        if self._task.done():
            self._task.result()
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except TimeoutError:
            return

    def behind(self) -> int | None:
        """Records still to be read of those that were there at the start; None while that is not known."""
        if self._ends is None:
            return None
        return sum(max(0, end - self._next.get(partition, 0)) for partition, end in self._ends.items())

    # ---- reading ----------------------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            consumer, admin = self._clients.consumer(bare=True), self._clients.admin()
            try:
                await admin.start()
                await consumer.start()
                await self._read(consumer, admin)
            except (KafkaError, OSError) as error:
                self.problem = f"the topics cannot be read: {error}"
                log.warning("%s; trying again", self.problem)
            finally:
                self._consumer = None
                await consumer.stop()
                await admin.close()
            await asyncio.sleep(RETRY_S)

    async def _read(self, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient) -> None:
        look_at = 0.0
        while True:
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + LOOK_AGAIN_S
                found = await self._found(admin)
                if self._consumer is None or found != self._topics:
                    await self._assign(consumer, found)
            if not self._topics:
                self.problem = f"there are no topics {self._clients.name('')}*: has `plimsoll topics create` been run?"
                await asyncio.sleep(RETRY_S)
                continue
            try:
                batches: dict[TopicPartition, list[Any]] = await consumer.getmany(timeout_ms=POLL_MS, max_records=BATCH_RECORDS_MAX)
            except OffsetOutOfRangeError as error:  # retention has passed us, or the topic was made anew
                lost = list(error.args[0])
                if self._ends is not None:
                    self._ends |= await consumer.end_offsets(lost)
                for partition in lost:
                    del self._next[partition]
                await self._assign(consumer, self._topics)
                continue
            self.problem = ""
            began = time.monotonic()
            for partition, records in batches.items():
                self._take(partition, records)
            took_s = time.monotonic() - began
            await self._look_past_markers(consumer)
            if batches:
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()
            # A getmany that has records at hand does not give way, and a worker's frames share this loop: however long a backlog is, they
            # get as much of the time as taking it in does.
            await asyncio.sleep(took_s)

    def _take(self, partition: TopicPartition, records: list[Any]) -> None:
        topic, number, take = self._topics[partition], partition.partition, self.view.take
        for record in records:
            take(topic, number, record.key, record.value, record.timestamp)

    async def _look_past_markers(self, consumer: AIOKafkaConsumer) -> None:
        """What follows a transaction's last record is its marker, which is handed out to nobody."""
        for partition in self._topics:
            self._next[partition] = await consumer.position(partition)

    async def _found(self, admin: AIOKafkaAdminClient) -> dict[TopicPartition, str]:
        """The partitions of those topics that are there."""
        prefix = self._clients.name("")
        found: dict[TopicPartition, str] = {}
        for described in await admin.describe_topics():
            name: str = described["topic"]
            topic = name.removeprefix(prefix)
            if name.startswith(prefix) and (topic in _OUTPUTS or topic.startswith(_ORDERS)):
                found |= {TopicPartition(name, entry["partition"]): topic for entry in described["partitions"]}
        return found

    async def _assign(self, consumer: AIOKafkaConsumer, topics: dict[TopicPartition, str]) -> None:
        """All of these, each partition from where it was read up to; a new one from its beginning."""
        self._consumer, self._topics = None, topics
        if topics:
            consumer.assign(list(topics))
            new = [partition for partition in topics if partition not in self._next]
            self._next |= await consumer.beginning_offsets(new) if new else {}
            for partition in topics:
                consumer.seek(partition, self._next[partition])
            if self._ends is None:
                self._ends = await consumer.end_offsets(list(topics))
        self._consumer = consumer
