"""What fills the logs: each log partition's owner frames its sources and copies control; the keeper of control frames the market and ticks.

A feeder starts where its machine stands: at the offset after the highest one applied of each source, once the machine has applied all that
was in its log when it was acquired. Two feeders of one partition (the old owner's last frames, the new one's first) do no harm: what is
covered twice is skipped event by event, and a frame that would leave a hole is skipped whole.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from engine.inputs import Frame, FrameKind, Tick
from engine.reasons import Refusal
from streams.clients import Clients, bounds
from streams.frames import CONTROL_SOURCE, FrameFault, encode_frame, wrap_control
from streams.ingest import Batch, frame_batch
from streams.machine import Life, Phase
from streams.messages import CONTROL, SOURCES, encode_effect
from streams.metrics import Metrics
from streams.outbox import read_source_time, source_time

log = logging.getLogger(__name__)

IN_FLIGHT_FRAMES_MAX = 4  # appended and not acknowledged
AHEAD_FRAMES_MAX = 64  # appended and not applied, when more are appended
COPIES_MAX = 500  # frames of control copied in one go
SIGNED_BATCH = 64  # attestations verified in one go (13 signatures each take 0.6 ms), in a thread
POLL_MS = 500
RETRY_S = 1.0
WAIT_S = 0.002
CLOCK_BEHIND_MAX_NS = 2_000_000_000  # below the least that parameters may let an event be ahead of the clock (`future_skew_s`)
CLOCK_WAIT_S = 0.05
CLOCK_WAIT_MS = 50
FIRST = ("market.instruments", "risk.parameters")  # what was there when a keeper began goes before all else: what is not defined is refused
UNTIMED = "operator.commands"  # not compared with the clock: a freeze must get through while it stands

TICKER = "ticker"
TICK_STEP_MAX_NS = 60_000_000_000  # a tick moves the clock by at most this much; a clock that is far behind walks
TICKS_AT_ONCE_MAX = 100


class Bus(NamedTuple):
    """What a worker's feeders share."""

    clients: Clients
    frames: AIOKafkaProducer
    outputs: AIOKafkaProducer
    metrics: Metrics


class SourceLost(Exception):
    """A source no longer has the records that come next: its retention was shorter than its feeder stood still, or it was replaced."""


class _InFlight(NamedTuple):
    """A frame that was sent and not acknowledged yet."""

    delivery: asyncio.Future[Any]
    since_ms: int  # the broker's time of its oldest event
    source: str


class _Appender:
    """Frames into one partition of one log, in order, a bounded number of them unacknowledged."""

    def __init__(self, bus: Bus, log_name: str, partition: int, life: Life | None = None) -> None:
        self._producer = bus.frames
        self._metrics = bus.metrics
        self._topic = bus.clients.name(log_name)
        self._partition = partition
        self._life = life  # whose log it is
        self._in_flight: deque[_InFlight] = deque()
        self.end = -1  # offset of the last frame acknowledged

    async def append(self, value: bytes, since_ms: int, source: str) -> None:
        while len(self._in_flight) >= IN_FLIGHT_FRAMES_MAX:
            await self._oldest()
        await self.append_freely(value, since_ms, source)

    async def append_freely(self, value: bytes, since_ms: int, source: str) -> None:
        """Without waiting for acknowledgements; the caller bounds how many."""
        headers = source_time(since_ms)
        delivery = await self._producer.send(self._topic, value, partition=self._partition, headers=headers)
        self._in_flight.append(_InFlight(delivery, since_ms, source))

    async def settle(self) -> None:
        """Wait until everything appended is acknowledged. Meanwhile records gather, so that the next frame is larger under load."""
        while self._in_flight:
            await self._oldest()

    async def not_too_far_ahead(self) -> None:
        """Backpressure: Kafka holds what waits, not this process."""
        life = self._life
        assert life is not None, "only the owner of a log knows how far it is applied"
        while self.end - life.applied > AHEAD_FRAMES_MAX and life.phase is Phase.RUNNING:  # noqa: ASYNC110 - a signal would cost each frame applied
            await asyncio.sleep(WAIT_S)

    async def _oldest(self) -> None:
        delivery, since_ms, source = self._in_flight.popleft()
        metadata = await delivery
        self._metrics.ingest_seconds.labels(source).observe(max(0.0, time.time() - since_ms / 1000))
        self.end = max(self.end, metadata.offset)
        if self._life is not None:
            self._life.appended(metadata.offset, since_ms)


class _Ingest:
    """Frames one source partition; what is refused goes to its dead-letter topic first."""

    def __init__(self, bus: Bus) -> None:
        self._clients = bus.clients
        self._outputs = bus.outputs
        self._metrics = bus.metrics

    async def append(
        self, topic: str, partition: int, partitions: int, records: Sequence[Any], covers_from: int, appender: _Appender
    ) -> int:
        """Append the frames of records of one of `partitions`; returns the offset that is covered now."""
        step = SIGNED_BATCH if SOURCES[topic].kind is FrameKind.ATTESTATIONS else len(records)
        for start in range(0, len(records), step):
            part = records[start : start + step]
            batch = await self._framed(topic, partition, partitions, part, covers_from)
            await self._send_letters(batch)
            for frame in batch.frames:
                await appender.append(encode_frame(frame), part[0].timestamp, topic)
            covers_from = batch.frames[-1].covers_to
        self._metrics.events_in.labels(topic).inc(len(records))
        return covers_from

    async def _framed(self, topic: str, partition: int, partitions: int, records: Sequence[Any], covers_from: int) -> Batch:
        most = self._clients.settings.frame_max_events
        framed = partial(frame_batch, topic, records, covers_from, partitions=partitions, partition=partition, frame_max_events=most)
        return await asyncio.to_thread(framed) if SOURCES[topic].kind is FrameKind.ATTESTATIONS else framed()

    async def _send_letters(self, batch: Batch) -> None:
        deliveries = []
        for letter in batch.letters:
            topic, key, value = encode_effect(letter)
            deliveries.append(await self._outputs.send(self._clients.name(topic), value, key))
            self._metrics.dead_letters.labels(letter.topic, Refusal(letter.reason).value).inc()
        for delivery in deliveries:
            await delivery


class _LagTold:
    """The gauges of how many records of its sources a feeder has before it; gone when it ends, since a frozen value would look alive."""

    def __init__(
        self, metrics: Metrics, consumer: AIOKafkaConsumer, names: dict[TopicPartition, str], covered: dict[TopicPartition, int]
    ) -> None:
        self._gauge = metrics.source_lag
        self._consumer = consumer
        self._names = names
        self._covered = covered

    def __enter__(self) -> _LagTold:
        return self

    def __exit__(self, *_: object) -> None:
        for where, topic in self._names.items():
            self._gauge.remove(topic, where.partition)

    def tell(self) -> None:
        for where, topic in self._names.items():
            end = self._consumer.highwater(where)
            self._gauge.labels(topic, where.partition).set(max(0, end - 1 - self._covered[where]) if end is not None else 0)


class SourceFeeder:
    """Feeds one partition of one machine's log from its co-partitioned sources."""

    def __init__(self, life: Life, bus: Bus) -> None:
        self._life = life
        self._clients = bus.clients
        self._metrics = bus.metrics
        self._appender = _Appender(bus, life.kind.log, life.partition, life)
        self._ingest = _Ingest(bus)
        self._sources = [topic for topic, source in SOURCES.items() if source.target == life.kind.log]

    async def run(self) -> None:
        if self._sources:
            await _feed_forever("sources", self._feed, self._life, self._metrics)

    async def _feed(self) -> None:
        life = self._life
        names = {self._clients.partition(topic, life.partition): topic for topic in self._sources}
        async with self._clients.reading(*names, bare=True) as consumer:
            covered = {where: await _position(consumer, where, life, topic) for where, topic in names.items()}
            most, partitions = self._clients.settings.frame_max_events, life.kind.partitions
            with _LagTold(self._metrics, consumer, names, covered) as lag:
                while True:
                    for where, records in (await consumer.getmany(timeout_ms=POLL_MS, max_records=most)).items():
                        while _clock_is_behind(self._clients, life):
                            lag.tell()
                            await asyncio.sleep(CLOCK_WAIT_S)
                        covered[where] = await self._ingest.append(
                            names[where], where.partition, partitions, records, covered[where], self._appender
                        )
                        if len(records) < most:
                            await self._appender.settle()
                        await self._appender.not_too_far_ahead()
                    lag.tell()


class ControlCopier:
    """Copies control, frame by frame, into one partition of one machine's log; on its own, to wait for nothing but that machine."""

    def __init__(self, life: Life, bus: Bus) -> None:
        self._life = life
        self._clients = bus.clients
        self._metrics = bus.metrics
        self._appender = _Appender(bus, life.kind.log, life.partition, life)

    async def run(self) -> None:
        await _feed_forever("control", self._copy, self._life, self._metrics)

    async def _copy(self) -> None:
        control = self._clients.partition(CONTROL, 0)
        async with self._clients.reading(control) as consumer:
            covers_from = await _position(consumer, control, self._life, CONTROL_SOURCE)
            while True:
                for records in (await consumer.getmany(timeout_ms=POLL_MS, max_records=COPIES_MAX)).values():
                    for record in records:
                        since_ms = read_source_time(record.headers) or record.timestamp
                        copy = wrap_control(record.value, record.offset, covers_from)
                        await self._appender.append_freely(copy, since_ms, CONTROL)
                        covers_from = record.offset
                    await self._appender.settle()
                    await self._appender.not_too_far_ahead()


class ControlKeeper:
    """Feeds control: frames of every market topic, and the ticks. Runs beside the one machine that keeps control."""

    def __init__(self, life: Life, bus: Bus) -> None:
        self._life = life
        self._clients = bus.clients
        self._metrics = bus.metrics
        self._bus = bus
        self._ingest = _Ingest(bus)

    async def run(self) -> None:
        """Once the machine has applied all of control: it knows then how far each market topic has been framed."""
        async with asyncio.TaskGroup() as together:
            together.create_task(_feed_forever("market", self._market, self._life, self._metrics))
            if self._clients.settings.ticker == "wall":
                together.create_task(_feed_forever("ticker", self._tick, self._life, self._metrics))

    async def _control_end(self) -> int:
        async with self._clients.reading(self._clients.partition(CONTROL, 0)) as consumer:
            _, end = await bounds(consumer, self._clients.partition(CONTROL, 0))
        return end

    async def _control_applied(self) -> None:
        end = await self._control_end()
        while self._life.machine.source_applied(CONTROL_SOURCE, 0) < end - 1:  # noqa: ASYNC110 - once at the start
            await asyncio.sleep(WAIT_S)

    async def _market(self) -> None:
        await self._control_applied()
        names = {self._clients.partition(topic, 0): topic for topic, source in SOURCES.items() if source.target == CONTROL}
        appender = _Appender(self._bus, CONTROL, 0)
        async with self._clients.reading(*names) as consumer:
            covered = {where: await _position(consumer, where, self._life, topic) for where, topic in names.items()}
            most = self._clients.settings.frame_max_events
            commands, first = self._clients.partition(UNTIMED, 0), [self._clients.partition(topic, 0) for topic in FIRST]
            ends = await consumer.end_offsets(first)
            with _LagTold(self._metrics, consumer, names, covered) as lag:
                while True:
                    if _clock_is_behind(self._clients, self._life):
                        found = await consumer.getmany(commands, timeout_ms=CLOCK_WAIT_MS, max_records=most)
                    elif before := [where for where in first if await consumer.position(where) < ends[where]]:
                        found = await consumer.getmany(*before, timeout_ms=POLL_MS, max_records=most)
                    else:
                        found = await consumer.getmany(timeout_ms=POLL_MS, max_records=most)
                    for where, records in found.items():
                        covered[where] = await self._ingest.append(names[where], 0, 1, records, covered[where], appender)
                    await appender.settle()
                    lag.tell()

    async def _tick(self) -> None:
        await self._control_applied()
        appender = _Appender(self._bus, CONTROL, 0)
        clock_ns = self._life.machine.clock_ns
        while True:
            for tick_ns in ticks(clock_ns, time.time_ns()):
                frame = Frame(FrameKind.TICK, TICKER, 0, clock_ns, tick_ns, [Tick(tick_ns)], [tick_ns])
                await appender.append_freely(encode_frame(frame), time.time_ns() // 1_000_000, TICKER)
                clock_ns = tick_ns
            await appender.settle()
            await asyncio.sleep(self._clients.settings.tick_interval_ms / 1000)


def ticks(clock_ns: int, now_ns: int) -> list[int]:
    """Times of the ticks that bring a clock to now, each at most TICK_STEP_MAX_NS on; a first tick sets it. At most TICKS_AT_ONCE_MAX."""
    if clock_ns == 0:
        return [now_ns]
    times: list[int] = []
    while clock_ns < now_ns and len(times) < TICKS_AT_ONCE_MAX:
        clock_ns = min(clock_ns + TICK_STEP_MAX_NS, now_ns)
        times.append(clock_ns)
    return times


def _clock_is_behind(clients: Clients, life: Life) -> bool:
    """While the ticker is away (its worker was lost, say), events wait: against a clock that stands they would look future."""
    return clients.settings.ticker == "wall" and time.time_ns() - life.machine.clock_ns > CLOCK_BEHIND_MAX_NS


async def _feed_forever(feeder: str, feed: Callable[[], Awaitable[None]], life: Life, metrics: Metrics) -> None:
    """Feed until cancelled; after a fault of the bus, again from where the machine stands."""
    metrics.feeder_restarts.labels(feeder)
    while True:
        try:
            await feed()
        except SourceLost as lost:
            life.halt(str(lost))
            return
        except FrameFault as fault:
            life.halt(f"its feeder of {feeder}: {fault}")
            return
        except (KafkaError, OSError) as error:
            log.warning("%r: its feeder of %s begins again: %r", life, feeder, error)
            metrics.feeder_restarts.labels(feeder).inc()
            await asyncio.sleep(RETRY_S)


async def _position(consumer: AIOKafkaConsumer, where: TopicPartition, life: Life, source: str) -> int:
    """Seek to what comes next of `source`; returns the offset covered before it. Raises SourceLost where that is gone."""
    covered = life.machine.source_applied(source, where.partition)
    first, end = await bounds(consumer, where)
    if end <= covered:
        await asyncio.sleep(RETRY_S)  # a leader that was elected just now may not know the end yet
        first, end = await bounds(consumer, where)
    if end <= covered:
        raise SourceLost(
            f"{where.topic}/{where.partition} ends at {end}, but {covered} was applied: the topic was recreated or cut short, so what "
            f"it holds now would be taken for what is known. Restore it, or begin a new ledger (another topic_prefix)"
        )
    if covered >= 0 and first > covered + 1:
        raise SourceLost(
            f"{where.topic}/{where.partition} begins at {first}, but only {covered} and what is before it was applied: "
            f"the records between are gone. Have them produced again from the venue's own records, or accept the loss by a new ledger"
        )
    consumer.seek(where, max(first, covered + 1))
    return covered
