"""One machine partition on a real broker: fence, load, cut, recovery, and every reason to refuse to go on."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import KafkaError

from engine.inputs import FILL_DTYPE, Fills, Frame, FrameKind
from engine.machine import CUT_KEY, ENGINE_VERSION, CutRecord
from streams import machine
from streams.broker import Cluster
from streams.clients import ROWS_BATCH_BYTES, Clients, bounds, scan
from streams.cut_writer import RecordTooLarge, is_fenced
from streams.frames import encode_frame
from streams.machine import Life, NotSealed, Phase, Place
from streams.messages import LastValue, topic_specs
from streams.metrics import Metrics
from streams.outbox import Outbox
from streams.settings import Settings, kafka_client_options, load_settings
from streams.store import committed_rows
from streams.topics_admin import create_topics
from tests.patience import PATIENCE_S
from tests.samples import ASSET_REPORT
from tests.settled import settled_rows
from tests.toy import STEP_LOTS, Toy, machines

VENUE = "alpha"


class Watcher:
    """An owner that writes down what it is told."""

    def __init__(self) -> None:
        self.seeks: list[int] = []
        self.gaps = 0
        self.halts = 0
        self.errors: list[BaseException] = []
        self.trial = asyncio.Lock()
        self.place = Place("here:1", "")

    def seek(self, life: Life) -> None:
        self.seeks.append(life.applied)

    def started(self, life: Life) -> None:
        pass

    def caught_up(self, life: Life) -> None:
        pass

    def gap(self, life: Life) -> None:
        self.gaps += 1

    def halted(self, life: Life) -> None:
        self.halts += 1

    def lost(self, life: Life, error: BaseException) -> None:
        self.errors.append(error)


class Run:
    """A life with the tasks that a worker would give it."""

    def __init__(self, life: Life, watcher: Watcher, living: asyncio.Task[None], log: Log) -> None:
        self.life = life
        self.watcher = watcher
        self.living = living
        self.log = log
        self.acknowledged: list[int] = []

    async def phase(self, phase: Phase) -> None:
        await until(lambda: self.life.phase is phase)

    async def write_and_deliver(self, count: int, lots: int = 300, venue: str = VENUE) -> None:
        """Append frames to the log, and hand them to the life as Faust would."""
        for offset, value in await self.log.append(count, lots, venue):
            self.deliver(offset, value)

    def deliver(self, offset: int, value: bytes) -> bool:
        return self.life.deliver(offset, value, 0, lambda: self.acknowledged.append(offset))

    async def cut(self) -> None:
        await until(lambda: self.life.cut_applied == self.life.applied and not self.life.unproven)


class Log:
    """Partition 0 of the ledger, and one account's fills to put there."""

    def __init__(self, clients: Clients, producer: AIOKafkaProducer) -> None:
        self.clients = clients
        self.producer = producer
        self.fills = 0
        self.records: list[tuple[int, bytes]] = []

    async def append(self, count: int, lots: int = 300, venue: str = VENUE) -> list[tuple[int, bytes]]:
        appended = []
        for _ in range(count):
            value = encode_frame(one_fill(self.fills, lots, venue=venue))
            self.fills += 1
            metadata = await self.producer.send_and_wait(self.clients.name("ledger"), value, partition=0)
            appended.append((metadata.offset, value))
        self.records += appended
        return appended


def one_fill(number: int, lots: int, covers_from: int | None = None, venue: str = VENUE) -> Frame:
    rows = np.zeros(1, FILL_DTYPE)
    rows["order"], rows["lots"], rows["sequence"], rows["offset"] = -1, lots, number + 1, number
    fills = Fills(["someone"], [(venue, "BTC-PERP")], [], rows)
    return Frame(FrameKind.FILLS, "venue.fills", 0, number - 1 if covers_from is None else covers_from, number, fills, [])


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.fixture
async def settings(kafka: Cluster, topic_prefix: str) -> Settings:
    found = load_settings(environment={}, bootstrap=kafka.bootstrap, topic_prefix=topic_prefix, ledger_partitions=1, cut_interval_ms=20)
    specs = topic_specs(ledger_partitions=1, attest_partitions=1, venues=[VENUE])
    await create_topics(kafka_client_options(found), specs, topic_prefix)
    return found


@pytest.fixture
async def log(settings: Settings) -> AsyncIterator[Log]:
    clients = Clients(settings)
    producer = clients.frames_producer()
    await producer.start()
    yield Log(clients, producer)
    await producer.stop()


@asynccontextmanager
async def living(log: Log) -> AsyncIterator[Run]:
    """A life of ledger partition 0, from its fence to its close."""
    clients, metrics, watcher = log.clients, Metrics(), Watcher()
    outputs = clients.outputs_producer()
    await outputs.start()
    outbox = Outbox(clients, outputs, log.producer, metrics)
    pump = asyncio.create_task(outbox.run())
    life = Life(machines(clients.settings)[0], 0, clients, outbox, metrics, watcher)
    task = asyncio.create_task(life.live(0.0))
    try:
        yield Run(life, watcher, task, log)
    finally:
        task.cancel()
        await asyncio.wait([task])
        await life.close()
        pump.cancel()
        await asyncio.wait([pump])
        await outputs.stop()


async def last_record(clients: Clients) -> CutRecord:
    return msgspec.msgpack.decode((await settled_rows(clients, "ledger.rows", 0))[CUT_KEY], type=CutRecord)


async def write_rows(clients: Clients, rows: list[tuple[bytes, bytes]]) -> None:
    async with AIOKafkaProducer(**kafka_client_options(clients.settings)) as producer:
        for key, value in rows:
            await producer.send_and_wait(clients.name("ledger.rows"), value, key, partition=0)


async def test_cut_then_recovery_goes_on_where_it_was(log: Log) -> None:
    async with living(log) as first:
        await first.phase(Phase.RUNNING)
        await first.write_and_deliver(10)
        await first.cut()
        assert first.acknowledged == list(range(10))
        assert first.watcher.seeks == [-1]
    async with living(log) as second:
        await second.phase(Phase.RUNNING)
        assert second.life.applied == second.life.cut_applied == 9
        assert isinstance(second.life.machine, Toy)
        assert second.life.machine.totals() == {"someone": 3_000}
        assert not second.deliver(*log.records[9])
        assert second.acknowledged == [9]
        await second.write_and_deliver(5)
        await second.cut()
        assert second.life.machine.totals() == {"someone": 4_500}


async def test_what_was_decided_after_the_last_cut_is_published_again_with_the_same_bytes(log: Log) -> None:
    async with living(log) as first:
        await first.phase(Phase.RUNNING)
        await first.write_and_deliver(10)
        await first.cut()
        first.living.cancel()  # as a kill would: no further cut
        await first.write_and_deliver(10)
        await until(lambda: all(ticket.done.done() for ticket in first.life._tickets))
        assert first.life.cut_applied == 9
    published = await orders(log.clients)
    assert len(published) == len(set(published)) == 20 * 300 // STEP_LOTS
    async with living(log) as second:
        await second.phase(Phase.RUNNING)
        assert second.life.applied == 9
        for record in log.records[10:]:
            assert second.deliver(*record)
        await second.cut()
    repeated = await orders(log.clients)
    assert len(repeated) > len(published)
    assert set(repeated) == set(published)


async def orders(clients: Clients, venue: str = VENUE) -> list[bytes]:
    found = []
    for partition in range(clients.settings.ledger_partitions):
        where = clients.partition(f"orders.{venue}", partition)
        async with clients.reading(where) as consumer:
            async for records in scan(consumer, where, *await bounds(consumer, where)):
                found += [record.value for record in records]
    return found


async def test_a_second_owner_fences_the_first(log: Log) -> None:
    async with living(log) as first:
        await first.phase(Phase.RUNNING)
        await first.write_and_deliver(3)
        await first.cut()
        async with living(log) as second:
            await second.phase(Phase.RUNNING)
            await second.cut()
            await first.write_and_deliver(3)
            await until(lambda: bool(first.watcher.errors))
            assert is_fenced(first.watcher.errors[0])
            assert first.life.cut_applied == 2
            assert (await last_record(log.clients)).applied == 2


def fails(_: object) -> list[LastValue]:
    raise ZeroDivisionError


def cannot_be_encoded(_: object) -> list[LastValue]:
    return [msgspec.structs.replace(ASSET_REPORT, dispersion=math.nan)]


@pytest.mark.parametrize("broken", [fails, cannot_be_encoded])
async def test_cuts_go_on_without_what_only_shows(
    log: Log, monkeypatch: pytest.MonkeyPatch, broken: Callable[[object], list[LastValue]]
) -> None:
    monkeypatch.setattr(machine, "STATUS_S", 0.0)

    admin = AIOKafkaAdminClient(**kafka_client_options(log.clients.settings))
    await admin.start()
    await admin.delete_topics([log.clients.name("pipeline.status")])
    async with asyncio.timeout(PATIENCE_S):
        while log.clients.name("pipeline.status") in await admin.list_topics():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await admin.close()
    async with living(log) as run:
        await run.phase(Phase.RUNNING)
        await run.write_and_deliver(1)
        await run.cut()  # with a report whose topic is gone
        monkeypatch.setattr(run.life, "kind", msgspec.structs.replace(run.life.kind, reports=broken))
        await run.write_and_deliver(1)
        await run.cut()  # without one that could not be made
        assert not run.watcher.errors
        failures = run.life._metrics.registry.get_sample_value("plimsoll_look_failures_total", {"at": "report"})
        assert failures is not None
        assert failures > 0


@pytest.mark.parametrize("careful", [False, True])
async def test_nothing_is_applied_or_written_after_a_cut_that_failed(log: Log, monkeypatch: pytest.MonkeyPatch, careful: bool) -> None:
    async with living(log) as run:
        await run.phase(Phase.RUNNING)
        await run.cut()
        if careful:
            assert run.life._trials is not None
            run.life._trials.careful_until = 100
        tried = 0

        async def fails(*_: object) -> None:
            nonlocal tried
            tried += 1
            raise KafkaError("for the test")

        monkeypatch.setattr(run.life._writer, "commit", fails)
        for offset, value in await log.append(3):
            await run.life.deliver_carefully(offset, value, 0, lambda: None)
            await until(lambda: bool(run.watcher.errors))
        assert run.life.applied == (-1 if careful else 0)
        assert (tried, len(run.watcher.errors)) == (1, 1)
        assert run.life.phase is Phase.CLOSED


async def test_a_partition_kept_over_a_rebalance_proves_itself_even_where_nothing_has_changed(log: Log) -> None:
    async with living(log) as first:
        await first.phase(Phase.RUNNING)
        await first.write_and_deliver(3)
        await first.cut()
        first.life.keep()
        assert first.life.unproven
        await first.cut()
        assert not first.watcher.errors
        async with living(log) as second:
            await second.phase(Phase.RUNNING)
        first.life.keep()  # it was somebody else's in between, and nothing was applied
        await until(lambda: bool(first.watcher.errors))
        assert is_fenced(first.watcher.errors[0])


async def test_frames_beyond_the_next_one_are_asked_for_again_not_applied(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SEEK_AGAIN_S", 30.0)
    async with living(log) as run:
        await run.phase(Phase.RUNNING)
        records = await log.append(4)
        assert run.deliver(*records[0])
        assert not run.deliver(*records[2])
        assert not run.deliver(*records[3])
        assert run.life.applied == 0
        assert run.watcher.seeks == [-1, 0]  # once for the load, once for the two of them
        assert run.deliver(*records[1])
        assert run.deliver(*records[2])
        assert not run.deliver(*records[1])
        await run.cut()
        assert run.acknowledged == [0, 1, 2]


async def test_a_frame_that_would_leave_a_hole_is_skipped_and_its_feeder_told(log: Log) -> None:
    async with living(log) as run:
        await run.phase(Phase.RUNNING)
        await run.write_and_deliver(2)
        assert run.deliver(2, encode_frame(one_fill(7, 300, covers_from=5)))
        assert run.watcher.gaps == 1
        assert run.life.machine.source_applied("venue.fills", 0) == 1
        assert isinstance(run.life.machine, Toy)
        assert run.life.machine.totals() == {"someone": 600}


async def test_a_row_beyond_a_batch_goes_alone_and_one_beyond_the_topic_fails_loudly(log: Log) -> None:
    async with living(log) as run:
        await run.phase(Phase.RUNNING)
        await run.cut()
        await run.life._writer.commit([(b"first", b"1"), (b"large", bytes(ROWS_BATCH_BYTES + 50_000)), (b"last", b"1")])
        rows = await settled_rows(log.clients, "ledger.rows", 0)
        assert [len(rows[key]) for key in (b"first", b"large", b"last")] == [1, ROWS_BATCH_BYTES + 50_000, 1]
        with pytest.raises(KafkaError):
            await run.life._writer.commit([(b"huge", bytes(2_000_000))])
    assert b"huge" not in await committed_rows(log.clients, "ledger.rows", 0)


async def test_a_record_that_no_batch_takes_does_not_vanish(log: Log) -> None:
    async with living(log) as run:
        full = SimpleNamespace(append=lambda **_: None, record_count=lambda: 0)

        async def send_batch(*_: object, **__: object) -> None:
            pass

        producer: Any = SimpleNamespace(create_batch=lambda: full, send_batch=send_batch)
        with pytest.raises(RecordTooLarge, match="b'key' for rows takes 5 bytes"):
            await run.life._writer._send(producer, "rows", 0, [(b"key", b"value")])


async def test_a_stop_that_cannot_seal_says_so(log: Log) -> None:
    async with living(log) as run:
        await run.phase(Phase.RUNNING)
        async with run.life._cut_lock:
            sealing = asyncio.create_task(run.life.seal())
            await asyncio.sleep(0)
            run.life.halt("for the test")
        with pytest.raises(NotSealed, match="halted"):
            await sealing


async def test_a_clean_stop_seals_its_cut(log: Log) -> None:
    async with living(log) as run:
        await run.phase(Phase.RUNNING)
        await run.write_and_deliver(3)
        await run.life.seal()
        assert not run.deliver(*(await log.append(1))[0])
    record = await last_record(log.clients)
    assert record.sealed
    assert record.applied == 2


async def test_what_no_cut_holds_is_timed_from_when_it_was_applied(log: Log) -> None:
    async with living(log) as run:
        await run.phase(Phase.RUNNING)
        await run.cut()
        async with run.life._cut_lock:
            run.life.uncut_at = 0.0  # long idle
            await run.write_and_deliver(1)
            since = run.life.uncut_at
            assert since > 0.0
            await run.write_and_deliver(1)
            assert run.life.uncut_at == since
        await run.cut()
        assert run.life.uncut_at > since


async def test_a_cut_that_was_due_while_the_last_one_was_sealed_does_not_come_after_it(log: Log) -> None:
    async with living(log) as run:
        await run.phase(Phase.RUNNING)
        await run.cut()
        async with run.life._cut_lock:
            sealing = asyncio.create_task(run.life.seal())
            await asyncio.sleep(0)
            due = asyncio.create_task(run.life._cut(sealed=False))
            await asyncio.sleep(0)
        await sealing
        assert not await due
    assert (await last_record(log.clients)).sealed


async def test_rows_that_are_not_those_of_the_cut_halt_the_partition(log: Log) -> None:
    async with living(log) as run:
        await run.phase(Phase.RUNNING)
        await run.write_and_deliver(3)
        await run.cut()
    await write_rows(log.clients, [(b"someone", msgspec.msgpack.encode((1, 1, 1)))])
    async with living(log) as run:
        await run.phase(Phase.HALTED)
        assert "Restore ledger.rows/0" in run.life.why_halted


@pytest.mark.parametrize("applied", [2, -1])
async def test_a_log_that_begins_after_the_cut_halts_the_partition(log: Log, applied: int) -> None:
    if applied >= 0:
        async with living(log) as run:
            await run.phase(Phase.RUNNING)
            await run.write_and_deliver(applied + 1)
            await run.cut()
    await log.append(6 - applied)
    admin = AIOKafkaAdminClient(**kafka_client_options(log.clients.settings))
    await admin.start()
    await admin.delete_records({log.clients.partition("ledger", 0): RecordsToDelete(before_offset=5)})
    await admin.close()
    async with living(log) as run:
        await run.phase(Phase.HALTED)
        assert f"its log begins at 5, but its cut ends at {applied}" in run.life.why_halted


async def test_a_log_shorter_than_the_cut_halts_the_partition(log: Log) -> None:
    record = CutRecord(
        engine_version=ENGINE_VERSION,
        applied=5,
        clock_ns=0,
        parameters_version="",
        digest=bytes(16),
        rows=0,
        sealed=True,
        sources=[],
    )
    await write_rows(log.clients, [(CUT_KEY, msgspec.msgpack.encode(record))])
    async with living(log) as run:
        await run.phase(Phase.HALTED)
        assert "its log ends at 0, before its cut at 5" in run.life.why_halted


@pytest.mark.parametrize("sealed", [False, True])
async def test_another_engine_version_goes_on_from_a_sealed_cut_only(log: Log, sealed: bool) -> None:
    record = CutRecord(
        engine_version=ENGINE_VERSION + 1,
        applied=-1,
        clock_ns=0,
        parameters_version="",
        digest=bytes(16),
        rows=0,
        sealed=sealed,
        sources=[],
    )
    await write_rows(log.clients, [(CUT_KEY, msgspec.msgpack.encode(record))])
    async with living(log) as run:
        await run.phase(Phase.RUNNING if sealed else Phase.HALTED)
        assert sealed or f"engine version {ENGINE_VERSION + 1} and is not sealed" in run.life.why_halted


async def test_a_record_that_is_no_frame_halts_the_partition(log: Log) -> None:
    async with living(log) as run:
        await run.phase(Phase.RUNNING)
        await run.write_and_deliver(1)
        assert not run.deliver(1, b"no frame")
        assert run.life.phase is Phase.HALTED
        assert "record 1 of its log is unusable" in run.life.why_halted
        assert run.watcher.halts == 1


async def test_a_cut_holds_one_place_of_the_log_while_applying_goes_on(log: Log) -> None:
    """Each cut committed while frames were being applied is the state at its own offset, found by loading it."""
    async with living(log) as run:
        await run.phase(Phase.RUNNING)
        cut_at: set[int] = set()
        async with asyncio.timeout(PATIENCE_S):
            while len(cut_at) < 6:
                await run.write_and_deliver(1)
                cut_at.add(run.life.cut_applied)
        await run.cut()
    rows: list[tuple[bytes, bytes | None]] = []
    where = log.clients.partition("ledger.rows", 0)
    async with log.clients.reading(where) as consumer:
        async for records in scan(consumer, where, *await bounds(consumer, where)):
            rows += [(record.key, record.value) for record in records]
    held: dict[bytes, bytes] = {}
    cuts = 0
    for key, value in rows:
        assert value is not None
        held[key] = value
        if key == CUT_KEY:
            toy = Toy(0)
            toy.restore(held.items())
            assert toy.totals().get("someone", 0) == 300 * (toy.applied + 1)
            cuts += 1
    assert cuts > 3
