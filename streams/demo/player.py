"""Plays a timeline into the topics, no faster than the monitor decides: market data, then the clock, then a pause until all is decided."""

import asyncio
import time
from collections.abc import Iterable, Sequence

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from engine.effects import Order
from engine.inputs import Frame, FrameKind, Message, Tick
from streams.clients import Clients
from streams.demo.recorder import Recorder, stopped
from streams.demo.venue import Venue
from streams.feeders import TICKER
from streams.frames import encode_frame
from streams.messages import CONTROL, encode_source, orders_topic

import msgspec  # isort: skip

PATIENCE_S = 180.0  # how long any one wait may take before the demo says what it waits for
BACKLOG_MAX = 2_000  # messages sent but not yet acknowledged


class Stuck(RuntimeError):
    """The monitor did not get on for `PATIENCE_S`; the text says what was waited for and where to look."""


class Player:
    """Sends messages and ticks, and knows when they stand in the logs and when the books have decided on them."""

    def __init__(self, clients: Clients, recorder: Recorder) -> None:
        self._machines = clients.settings.ledger_partitions + clients.settings.attest_partitions + 1
        self._clients = clients
        self._recorder = recorder
        self._messages: AIOKafkaProducer = clients.outputs_producer()
        self._frames: AIOKafkaProducer = clients.frames_producer()
        self._sent: dict[tuple[str, int], int] = {}  # (topic, partition) -> newest offset
        self._clock_ns = 0

    async def start(self) -> None:
        await self._messages.start()
        await self._frames.start()

    async def stop(self) -> None:
        await stopped(self._messages)
        await stopped(self._frames)

    async def send(self, messages: Iterable[Message]) -> None:
        """Append messages to their topics, in order within a topic and key; all are acknowledged on return."""
        pending: list[tuple[str, asyncio.Future[object]]] = []
        for message in messages:
            topic, key, value = encode_source(message)
            pending.append((topic, await self._messages.send(self._clients.name(topic), value, key=key)))
            self._recorder.recording.note_sent(topic, message)
            if len(pending) == BACKLOG_MAX:
                await self._acknowledged(pending)
                pending = []
        await self._acknowledged(pending)

    async def tick(self, time_ns: int) -> None:
        """Move the clock: a tick goes straight into control, where a live system's ticker would put it."""
        frame = Frame(FrameKind.TICK, TICKER, 0, self._clock_ns, time_ns, [Tick(time_ns)], [time_ns])
        self._clock_ns = time_ns
        await self._frames.send_and_wait(self._clients.name(CONTROL), encode_frame(frame), partition=0)

    async def framed(self) -> None:
        """Wait until everything sent stands in a log."""
        covered = self._recorder.recording.covered
        await self._until(lambda: all(covered.get(source, -1) >= offset for source, offset in self._sent.items()), self._unframed)

    async def credited(self, transfers: int) -> None:
        """Wait until the attestors have passed on so many transfers."""
        await self._until(lambda: self._recorder.recording.credits >= transfers, lambda: f"{transfers} attested transfers in the ledgers")

    async def decided(self, time_ns: int) -> None:
        """Wait until every machine has decided, and cut, up to this time."""
        recording = self._recorder.recording
        await self._until(
            lambda: recording.clock_ns(self._machines) >= time_ns,
            lambda: f"decisions up to {time_ns} (got to {recording.clock_ns(self._machines)})",
        )

    async def _until(self, reached: object, what: object) -> None:
        assert callable(reached)
        assert callable(what)
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            if time.monotonic() > deadline:
                raise Stuck(f"Waited {PATIENCE_S:.0f} s for {what()}: look into the workers' logs, whose place the demo prints.")
            await self._recorder.changed(0.5)

    def _unframed(self) -> str:
        covered = self._recorder.recording.covered
        late = [f"{topic}/{p}" for (topic, p), offset in self._sent.items() if covered.get((topic, p), -1) < offset]
        return f"{', '.join(late)} to be framed"

    async def _acknowledged(self, pending: Sequence[tuple[str, asyncio.Future[object]]]) -> None:
        for topic, future in pending:
            metadata = await future
            source = topic, int(getattr(metadata, "partition"))  # noqa: B009 - aiokafka has no types
            self._sent[source] = max(self._sent.get(source, -1), int(getattr(metadata, "offset")))  # noqa: B009


class VenueService:
    """Lets the demo's venue answer the orders that come out, through the same producer as all other messages."""

    def __init__(self, clients: Clients, player: Player, venue: Venue, venues: Sequence[str], partitions: int) -> None:
        self._clients = clients
        self._player = player
        self._venue = venue
        self._topics = [clients.partition(orders_topic(name), p) for name in venues for p in range(partitions)]
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self._done = dict.fromkeys(self._topics, 0)  # up to which offset orders have been answered

    async def start(self) -> None:
        self._consumer = self._clients.consumer()
        await self._consumer.start()
        self._consumer.assign(self._topics)
        await self._consumer.seek_to_beginning(*self._topics)
        self._task = asyncio.create_task(self._serve(self._consumer), name="venue")

    async def stop(self) -> None:
        if self._task is not None and self._consumer is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await stopped(self._consumer)

    async def answered(self) -> None:
        """Wait until every order that was out at the call has its answer on the topics."""
        assert self._consumer is not None
        assert self._task is not None
        ends = await self._consumer.end_offsets(self._topics)
        while any(self._done[partition] < end for partition, end in ends.items()):
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.005)

    async def advance(self, now_ns: int) -> None:
        """Let the venue look at the orders that rest in its book, at a new time."""
        for answer in self._venue.advance(now_ns):
            await self._player.send([*answer.fills, answer.report])

    async def _serve(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            batches = await consumer.getmany(timeout_ms=100)
            for partition, records in batches.items():
                answers: list[Message] = []
                for record in records:
                    answer = self._venue.execute(msgspec.json.decode(record.value, type=Order))
                    if answer is not None:
                        answers += [*answer.fills, answer.report]
                await self._player.send(answers)
                self._done[partition] = records[-1].offset + 1
            await asyncio.sleep(0)
