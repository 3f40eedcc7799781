"""What machines decide goes out at once and in order; each frame's ticket says when all of it has been acknowledged.

A venue can be defined that nobody has made a topic for. Its orders wait aside until the topic is there, which the outbox makes itself if it
may; everything else goes on, but for cuts that wait for those orders.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, KafkaUnavailableError, UnknownTopicOrPartitionError

from engine.effects import Effects, Order
from streams.clients import Clients
from streams.frames import encode_frame
from streams.messages import TopicSpec, encode_effect, orders_topic, topic_specs
from streams.metrics import Metrics
from streams.settings import Settings, kafka_client_options
from streams.topics_admin import TopicsError, create_topics

log = logging.getLogger(__name__)

BACKLOG_MAX = 20_000  # records waiting to be handed to a producer; beyond it nothing more is applied
ASIDE_MAX = 50_000  # orders waiting for their venue's topic, a kilobyte each; beyond it nothing more is applied
RETRY_S = 1.0
TOPIC_RETRY_S = 5.0


class Ticket:
    """Stands for one frame's output: `done` once every record is acknowledged."""

    __slots__ = ("done", "left", "offset", "put_at", "since_ms")

    def __init__(self, offset: int, records: int, since_ms: int) -> None:
        self.offset = offset
        self.left = records
        self.since_ms = since_ms
        self.put_at = time.monotonic()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def acknowledge(self) -> None:
        self.left -= 1
        if self.left == 0 and not self.done.done():
            self.done.set_result(None)


class _Record(NamedTuple):
    producer: AIOKafkaProducer
    topic: str
    key: bytes | None
    value: bytes
    partition: int | None
    headers: list[tuple[str, bytes]] | None
    ticket: Ticket
    order: Order | None


class _Aside:
    """Orders that wait for their venue's topic."""

    __slots__ = ("records", "venue", "why")

    def __init__(self, venue: str) -> None:
        self.venue = venue
        self.records: deque[_Record] = deque()
        self.why = ""  # the topic cannot be made, or '' before that is known


class Outbox:
    """One for a worker. `put` is synchronous, so that no cut can be taken between a decision and its ticket."""

    def __init__(self, clients: Clients, outputs: AIOKafkaProducer, frames: AIOKafkaProducer, metrics: Metrics) -> None:
        self._clients = clients
        self._outputs = outputs
        self._frames = frames
        self._metrics = metrics
        self._waiting: deque[_Record] = deque()
        self._aside: dict[str, _Aside] = {}  # by topic
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def put(self, offset: int, effects: Effects, since_ms: int) -> Ticket | None:
        """Take one frame's effects; None where there is nothing to publish."""
        count = len(effects.now) + len(effects.sends)
        if count == 0:
            return None
        ticket = Ticket(offset, count, since_ms)
        for effect in effects.now:
            topic, key, value = encode_effect(effect)
            order = effect if isinstance(effect, Order) else None
            self._waiting.append(_Record(self._outputs, self._clients.name(topic), key, value, None, None, ticket, order))
        for send in effects.sends:
            value = encode_frame(send.frame)
            headers = source_time(since_ms)
            self._waiting.append(_Record(self._frames, self._clients.name(send.target), None, value, send.partition, headers, ticket, None))
        self._work.set()
        if len(self._waiting) > BACKLOG_MAX:
            self._room.clear()
        return ticket

    @property
    def backlog(self) -> int:
        """Records not handed to a producer yet; those aside do not count."""
        return len(self._waiting)

    def aside(self) -> dict[str, int]:
        """How many orders wait for each venue's topic."""
        return {aside.venue: len(aside.records) for aside in self._aside.values()}

    def problems(self) -> list[str]:
        """What a person has to do before orders go out that wait for their topic."""
        return [
            f"{topic}: {len(aside.records)} orders, and their partitions' cuts, wait for this topic, which cannot be created from here: "
            f"{aside.why}. Type: PLIMSOLL_VENUES={aside.venue} plimsoll topics create"
            for topic, aside in sorted(self._aside.items())
            if aside.why
        ]

    async def room(self) -> None:
        """Wait while too much is waiting: what cannot be published must not be decided on and on."""
        await self._room.wait()

    async def run(self) -> None:
        """Hand records to their producers, in order, for ever. Raises where a producer can do nothing any more."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._work.wait()
                self._work.clear()
                while self._waiting:
                    if self._must_wait(self._waiting[0], tasks) or await self._hand_over(self._waiting[0]):
                        self._waiting.popleft()
                        self._look_for_room()

    def _look_for_room(self) -> None:
        if sum(self.aside().values()) >= ASIDE_MAX:
            self._room.clear()
        elif len(self._waiting) <= BACKLOG_MAX // 2:
            self._room.set()

    async def _hand_over(self, record: _Record) -> bool:
        """Give a record to its producer; False, after a pause, where it must be tried again."""
        try:
            producer, headers = record.producer, record.headers
            delivery = await producer.send(record.topic, record.value, record.key, partition=record.partition, headers=headers)
        except UnknownTopicOrPartitionError:
            log.error("topic %s is missing: create it (`plimsoll topics create`); nothing goes out until then", record.topic)  # noqa: TRY400
        except KafkaError as error:
            if not (error.retriable or isinstance(error, KafkaTimeoutError | KafkaUnavailableError)):
                raise
            log.warning("cannot publish to %s yet: %r", record.topic, error)
        else:
            delivery.add_done_callback(_Delivered(record, self._metrics))
            return True
        await asyncio.sleep(RETRY_S)
        return False

    # ---- orders of venues without a topic ---------------------------------------------------------------------------------------------

    def _must_wait(self, record: _Record, tasks: asyncio.TaskGroup) -> bool:
        """Put an order aside while its producer does not know its topic: to send it would hold up all behind it until a time-out."""
        if record.order is None:
            return False
        aside = self._aside.get(record.topic)
        if aside is None:
            if record.producer.client.cluster.partitions_for_topic(record.topic) is not None:
                return False
            aside = self._aside[record.topic] = _Aside(record.order.venue)
            tasks.create_task(self._open_topic(record.topic, aside))
        aside.records.append(record)
        return True

    async def _open_topic(self, topic: str, aside: _Aside) -> None:
        """See that a venue's topic is there, then let its orders go, in order, before any that come later."""
        if await self._made(topic, aside):
            while aside.records:
                if aside.records[0].ticket.done.done() or await self._hand_over(aside.records[0]):
                    aside.records.popleft()
        del self._aside[topic]
        self._look_for_room()

    async def _made(self, topic: str, aside: _Aside) -> bool:
        """True once the topic is there; False where nobody waits for it any more."""
        spec = orders_spec(self._clients.settings, aside.venue)
        while aside.records:
            try:
                created = await create_topics(kafka_client_options(self._clients.settings), [spec], self._clients.settings.topic_prefix)
            except (TopicsError, KafkaError, OSError) as error:
                aside.why = " ".join(str(error).split()) or repr(error)
                log.error("%d orders wait for topic %s, which cannot be created from here: %s", len(aside.records), topic, aside.why)  # noqa: TRY400
                await asyncio.sleep(TOPIC_RETRY_S)
                # Orders of partitions that were lost meanwhile are for their owners now, who decide them again.
                aside.records = deque(record for record in aside.records if not record.ticket.done.done())
                self._look_for_room()
            else:
                if created:
                    log.warning("topic %s was missing and has been created; name %s in `venues`", topic, aside.venue)
                aside.why = ""
                return True
        return False


def orders_spec(settings: Settings, venue: str) -> TopicSpec:
    """The topic of a venue's orders, as `plimsoll topics create` makes it."""
    specs = topic_specs(
        ledger_partitions=settings.ledger_partitions,
        attest_partitions=settings.attest_partitions,
        venues=[venue],
        replication=settings.replication,
        min_isr=settings.min_isr,
        compaction_lag_ms=settings.compaction_lag_ms,
    )
    return next(spec for spec in specs if spec.name == orders_topic(venue))


class _Delivered:
    """Called when a record is acknowledged, or can't be."""

    __slots__ = ("_metrics", "_record")

    def __init__(self, record: _Record, metrics: Metrics) -> None:
        self._record = record
        self._metrics = metrics

    def __call__(self, delivery: asyncio.Future[Any]) -> None:
        ticket = self._record.ticket
        if delivery.cancelled() or delivery.exception() is not None:
            if not ticket.done.done():
                ticket.done.set_exception(delivery.exception() or asyncio.CancelledError())
            return
        ticket.acknowledge()
        self._metrics.publish_seconds.observe(time.monotonic() - ticket.put_at)
        if self._record.order is not None:
            seconds = time.time() - ticket.since_ms / 1000 if ticket.since_ms else None
            self._metrics.count_order(self._record.order, seconds)


SOURCE_TIME = "t"  # header of a frame's record: the broker's time (ms) of its oldest event, for metrics alone


def source_time(since_ms: int) -> list[tuple[str, bytes]] | None:
    return [(SOURCE_TIME, since_ms.to_bytes(8, "little"))] if since_ms > 0 else None


def read_source_time(headers: Any) -> int:
    """The time that `source_time` wrote, 0 without one."""
    for name, value in headers or ():
        if name == SOURCE_TIME and len(value) == 8:
            return int.from_bytes(value, "little")
    return 0
