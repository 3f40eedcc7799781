"""Alerts of workers and partitions: each fires in a real Prometheus because its fault was really made, and goes away after it.

The machines are toys, which say everything about logs, cuts and owners that the real ones do, and can be told to die or to dawdle.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import numpy as np
import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from engine.inputs import FILL_DTYPE, Fills, Frame, FrameKind
from streams.broker import Cluster, free_port
from streams.clients import Clients
from streams.frames import encode_frame
from streams.messages import partition_of, topic_specs
from streams.outbox import orders_spec
from streams.settings import Settings, kafka_client_options, load_settings
from streams.topics_admin import create_topics
from tests.fault.workers import WorkerProcess
from tests.patience import PATIENCE_S
from tests.toy import BUSY_LOTS, POISON_LOTS, STEP_LOTS
from tests.watched import at_port, killed, watching

MACHINES = "tests.toy:faulty_machines"
PARTITIONS = 2
VENUE, GHOST = "alpha", "ghost"
LONG_SESSION_S = 20.0  # while which nobody takes a paused worker's partitions over
SHORT_SESSION_S = 3.0
REFUSED = 3  # copies of a topic, more than one broker can hold: it refuses to create it
ACCOUNT = "someone"
HOME = partition_of(ACCOUNT.encode(), PARTITIONS)
DEATHS_MAX = 20  # a poisoned frame takes four or five before it is set aside: as many more as there are cuts between it and the first
CUT_FAILURES = 18  # of the books and the treasury: a frame that was blamed would be set aside after the fourth of its partition
BUSY_FILLS = 800  # some seventeen seconds of work
BUSY_AGAIN_S = 40.0
PARTIALS = "treasury.partials"  # one in each cut of a book
MARKER_BYTES = 120  # what ends a transaction still fits, a partial does not

pytestmark = [pytest.mark.slow, pytest.mark.fault, pytest.mark.timeout(1_800)]


class Toys:
    """Topics for toys, and what is sent to them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._clients = Clients(settings)
        self._specs = topic_specs(ledger_partitions=PARTITIONS, attest_partitions=2, venues=[VENUE])
        self._sequence = 0

    async def create_topics(self) -> None:
        await create_topics(kafka_client_options(self.settings), self._specs, self.settings.topic_prefix)

    async def fill(self, *lots: int, venue: str = VENUE) -> None:
        """A fill of the one account for each number of lots."""
        records = []
        for one in lots:
            self._sequence += 1
            named = {"v": 1, "account": ACCOUNT, "venue": venue, "instrument": "BTC-PERP", "kind": "trade"}
            records.append(orjson.dumps({**named, "lots": one, "price_ticks": 100, "sequence": self._sequence, "time_ns": time.time_ns()}))
        await self._put("venue.fills", HOME, *[(ACCOUNT.encode(), record) for record in records])

    async def frames_beyond_a_gap(self, count: int) -> None:
        """Into the log, as if what lies before them had been lost on the way."""
        rows = np.zeros(1, FILL_DTYPE)
        rows["order"], rows["lots"] = -1, 1
        frames = []
        for number in range(1_000_000, 1_000_000 + count):
            rows["sequence"], rows["offset"] = number, number
            fills = Fills([ACCOUNT], [(VENUE, "BTC-PERP")], [], rows)
            frames.append(encode_frame(Frame(FrameKind.FILLS, "venue.fills", HOME, number - 1, number, fills, [])))
        await self._put("ledger", HOME, *[(None, frame) for frame in frames])

    async def row(self, key: bytes, value: bytes | None) -> None:
        """Among the committed rows, past every machine."""
        await self._put("ledger.rows", HOME, (key, value))

    @asynccontextmanager
    async def partials_refused(self) -> AsyncIterator[None]:
        """Meanwhile the broker takes no partial, and so no cut that tells one."""
        spec = next(spec for spec in self._specs if spec.name == PARTIALS)
        small, right = (
            ConfigResource(ConfigResourceType.TOPIC, self._clients.name(PARTIALS), dict(spec.config) | more)
            for more in ({"max.message.bytes": str(MARKER_BYTES)}, {})
        )
        admin = AIOKafkaAdminClient(**kafka_client_options(self.settings))
        await admin.start()
        try:
            await admin.alter_configs([small])
            try:
                yield
            finally:
                await admin.alter_configs([right])
        finally:
            await admin.close()

    async def fence(self, machine: str) -> None:
        """As another deployment does that shares the group: take its first partition's transactional id over."""
        producer = self._clients.cut_producer(f"{self.settings.topic_prefix}{self.settings.group}-{machine}-0")
        await producer.start()
        await producer.stop()

    async def make_topic_of(self, venue: str) -> None:
        settings = self.settings.model_copy(update={"replication": 1})
        await create_topics(kafka_client_options(settings), [orders_spec(settings, venue)], settings.topic_prefix)

    async def _put(self, topic: str, partition: int, *records: tuple[bytes | None, bytes | None]) -> None:
        name = self._clients.name(topic)
        async with AIOKafkaProducer(**kafka_client_options(self.settings), enable_idempotence=True) as producer:
            await asyncio.gather(*[await producer.send(name, value, key, partition=partition) for key, value in records])


async def prepared(bootstrap: str, prefix: str) -> Toys:
    settings = load_settings(
        environment={},
        bootstrap=bootstrap,
        topic_prefix=prefix,
        venues=VENUE,
        ledger_partitions=PARTITIONS,
        replication=1,
        session_timeout_s=LONG_SESSION_S,
        heartbeat_s=0.5,
        cut_interval_ms=100,
        frame_max_events=1,
        metrics_port=0,
    )
    toys = Toys(settings)
    await toys.create_topics()
    return toys


async def test_of_owners_that_pause_and_go(kafka: Cluster, topic_prefix: str, tmp_path: Path) -> None:
    toys = await prepared(kafka.bootstrap, topic_prefix)
    ports = [first := free_port(), free_port(excluding=first)]
    workers = [WorkerProcess(f"worker{port}", at_port(toys.settings, port), MACHINES, tmp_path) for port in ports]
    again: WorkerProcess | None = None
    try:
        await asyncio.gather(*(worker.ready() for worker in workers))
        async with watching(tmp_path, {"plimsoll": [f"127.0.0.1:{port}" for port in ports]}) as watch:
            await watch.silent()

            keeper = await keeper_of(workers)
            keeper.pause()
            await asyncio.gather(  # side by side: two of them end when the other one takes over
                watch.fires("PlimsollPartitionWithoutOwner", machine="treasury"),
                watch.fires("PlimsollProcessDown"),
                watch.fires("PlimsollClockBehind", machine="book"),
            )
            await watch.ends("PlimsollPartitionWithoutOwner", "PlimsollClockBehind")  # the other one has taken over
            keeper.wake()
            await asyncio.gather(*(worker.ready() for worker in workers))
            # The woken one may have heard from its group that it was replaced before it tried a cut. This owner has no such warning.
            await watch.provoked(partial(toys.fence, "book"), watch.fires("PlimsollFenced"))
            await watch.ends("PlimsollProcessDown", "PlimsollFenced")
            await asyncio.gather(*(worker.ready() for worker in workers))

            assert await asyncio.gather(*(worker.stop() for worker in workers)) == [0, 0]
            await watch.fires("PlimsollNoProgress", job="plimsoll")
            await toys.row(b"intruder", b"1")
            again = WorkerProcess("again", at_port(toys.settings, ports[0]), MACHINES, tmp_path)
            await watch.fires("PlimsollHalted", machine="book", partition=str(HOME))
            await watch.ends("PlimsollNoProgress")  # the other partitions go on
            killed(again)
            await toys.row(b"intruder", None)
            again = WorkerProcess("mended", at_port(toys.settings, ports[0]), MACHINES, tmp_path)
            await watch.ends("PlimsollHalted")
            await again.ready()
    finally:
        killed(*workers, again)


async def keeper_of(workers: list[WorkerProcess]) -> WorkerProcess:
    """The one that has the treasury, once one alone says so."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            pages = [await asyncio.to_thread(worker.get, "metrics") for worker in workers]
            said = [worker for worker, (_, text) in zip(workers, pages, strict=True) if 'cut_age_seconds{machine="treasury"' in text]
            if len(said) == 1:
                return said[0]
            await asyncio.sleep(0.2)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.02)


class Supervised:
    """A worker that is started again whenever it has ended itself, as one should be."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self.worker = self._started()
        self.deaths = 0

    async def run(self) -> None:
        while self.deaths < DEATHS_MAX:
            await asyncio.sleep(0.1)
            if self.worker.process.poll() is not None:
                self.deaths += 1
                self.worker = self._started()

    def _started(self) -> WorkerProcess:
        return WorkerProcess("worker", self._settings, MACHINES, self._folder)


async def test_of_partitions_that_go_wrong(kafka: Cluster, topic_prefix: str, tmp_path: Path) -> None:
    toys = await prepared(kafka.bootstrap, topic_prefix)
    port = free_port()
    supervised = Supervised(at_port(toys.settings, port, replication=REFUSED, session_timeout_s=SHORT_SESSION_S), tmp_path)
    try:
        await supervised.worker.ready()
        async with watching(tmp_path, {"plimsoll": [f"127.0.0.1:{port}"]}) as watch:
            supervising = asyncio.create_task(supervised.run())
            partition = {"machine": "book", "partition": str(HOME)}
            await watch.silent()

            await watch.provoked(partial(toys.frames_beyond_a_gap, 5), watch.fires("PlimsollGaps", **partition))

            await toys.fill(STEP_LOTS, venue=GHOST)
            await watch.fires("PlimsollOrdersWaiting", venue=GHOST)
            await watch.fires("PlimsollCutTooOld", **partition)
            await toys.make_topic_of(GHOST)
            await watch.ends("PlimsollGaps", "PlimsollOrdersWaiting", "PlimsollCutTooOld")

            async with toys.partials_refused():
                await toys.fill(1)
                await watch.fires("PlimsollCutFailures")  # of whichever partition came first
                await until(lambda: supervised.worker.metric("plimsoll_cut_failures_total") >= CUT_FAILURES)
            assert supervised.worker.metric("plimsoll_frames_set_aside_total") == 0  # no frame is to blame

            busy = partial(toys.fill, *[BUSY_LOTS] * BUSY_FILLS)
            await watch.provoked(busy, watch.fires("PlimsollEventsWait", **partition), again_s=BUSY_AGAIN_S)
            await watch.ends("PlimsollCutFailures", "PlimsollEventsWait")

            await toys.fill(POISON_LOTS)
            await watch.fires("PlimsollFrameSetAside", **partition)
            await watch.ends("PlimsollFrameSetAside")
            supervising.cancel()
            await asyncio.wait([supervising])
            assert await supervised.worker.stop() == 0
    finally:
        killed(supervised.worker)
