"""What machines decide goes out at once and in order; each frame's ticket says when all of it has been acknowledged."""

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
from streams.messages import encode_effect
from streams.metrics import Metrics

log = logging.getLogger(__name__)

BACKLOG_MAX = 20_000  # records waiting to be handed to a producer; beyond it nothing more is applied
RETRY_S = 1.0


class Ticket:
    """Stands for one frame's output: `done` once every record is acknowledged."""

    __slots__ = ("done", "left", "offset", "since_ms")

    def __init__(self, offset: int, records: int, since_ms: int) -> None:
        self.offset = offset
        self.left = records
        self.since_ms = since_ms
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


class Outbox:
    """One for a worker. `put` is synchronous, so that no cut can be taken between a decision and its ticket."""

    def __init__(self, clients: Clients, outputs: AIOKafkaProducer, frames: AIOKafkaProducer, metrics: Metrics) -> None:
        self._clients = clients
        self._outputs = outputs
        self._frames = frames
        self._metrics = metrics
        self._waiting: deque[_Record] = deque()
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

    async def room(self) -> None:
        """Wait while too much is waiting: what cannot be published must not be decided on and on."""
        await self._room.wait()

    async def run(self) -> None:
        """Hand records to their producers, in order, for ever. Raises where a producer can do nothing any more."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting:
                record = self._waiting[0]
                try:
                    delivery = await record.producer.send(
                        record.topic, record.value, record.key, partition=record.partition, headers=record.headers
                    )
                except UnknownTopicOrPartitionError:
                    log.error("topic %s is missing: create it (`plimsoll topics create`); nothing goes out until then", record.topic)  # noqa: TRY400
                    await asyncio.sleep(RETRY_S)
                    continue
                except KafkaError as error:
                    if not (error.retriable or isinstance(error, KafkaTimeoutError | KafkaUnavailableError)):
                        raise
                    log.warning("cannot publish to %s yet: %r", record.topic, error)
                    await asyncio.sleep(RETRY_S)
                    continue
                self._waiting.popleft()
                delivery.add_done_callback(_Delivered(record, self._metrics))
                if len(self._waiting) <= BACKLOG_MAX // 2:
                    self._room.set()


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
