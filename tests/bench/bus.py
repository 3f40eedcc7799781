"""What an event costs on the bus: plain Faust, a bare consumer, and a Plimsoll worker whose cuts cover every fill, on the same fills.

A round appends new fills while no worker runs, so that producing them costs the measured ones nothing; then a worker is started on the
backlog. What it did is read afterwards from its committed cut records, with the broker's own times.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import psutil
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from engine.machine import CUT_KEY, CutRecord
from engine.monitor import Book
from engine.reasons import State
from streams.clients import Clients, bounds, scan
from streams.messages import encode_source, partition_of, topic_specs
from streams.settings import Settings, kafka_client_options, load_settings
from streams.store import committed_rows
from streams.topics_admin import create_topics
from tests.bench.world import POSITIONS, VENUES, Population, market, prices
from tests.fault.workers import ROOT, WorkerProcess

FILLS: Final = "venue.fills"
ROWS: Final = "ledger.rows"
BATCH_BYTES: Final = 64 * 1024  # of the producers that stand for venues
POLL_S: Final = 0.5  # a look at the worker's metrics costs it some milliseconds
PRICES_EVERY_S: Final = 1.0
BROKER_TICK_S: Final = 0.001  # of the broker's times
TIMEOUT_S: Final = 180.0


class Sizes(NamedTuple):
    """How much is measured in one round."""

    accounts: int = 5_000
    partitions: int = 1
    fills: int = 600_000
    agent_events: int = 20_000
    table_events: int = 10_000


class Speed(NamedTuple):
    """Events a second, and what one of them took of the measured process's CPU, in microseconds: the second is less moved by neighbours."""

    per_s: float
    cpu_us: float


class WrongResult(AssertionError):
    """What came out is not what went in: a rate of wrong results is worth nothing."""


class Bus:
    """One broker with the bench's topics, market and accounts. `open()` once, `append()` before each round."""

    def __init__(self, bootstrap: str, folder: Path, sizes: Sizes, machines: str, **settings: Any) -> None:
        prefix = f"bench-{uuid.uuid4().hex[:8]}."
        self.sizes = sizes
        self.settings = load_settings(
            environment={},
            bootstrap=bootstrap,
            topic_prefix=prefix,
            group=prefix.rstrip("."),
            ledger_partitions=sizes.partitions,
            attest_partitions=1,
            venues=",".join(VENUES),
            metrics_port=0,
            **settings,
        )
        self.population = Population(sizes.accounts)
        self.appended = [0] * sizes.partitions  # end of venue.fills, by partition
        self._clients = Clients(self.settings)
        self._folder = folder
        self._machines = machines
        self._starts = 0
        self._steps = 0

    async def open(self) -> None:
        """Create topics, tell the market, open every account, and see that each of them is valued."""
        settings = self.settings
        specs = topic_specs(ledger_partitions=settings.ledger_partitions, attest_partitions=1, venues=settings.venues)
        await create_topics(kafka_client_options(settings), specs, settings.topic_prefix)
        records: dict[str, list[tuple[bytes, bytes]]] = {}
        for message in market(time.time_ns()):
            topic, key, value = encode_source(message)
            records.setdefault(topic, []).append((key, value))
        for topic, pairs in records.items():
            await self._send(self._clients.name(topic), pairs, 1)
        async with self._worker() as worker:
            await self._covered({(topic, 0): len(pairs) - 1 for topic, pairs in records.items()}, worker)
            await self._append(self.population.opening())
            await self._fills_covered(worker)
        await self._check()

    async def append(self) -> list[tuple[bytes, bytes]]:
        """Append a round's fills; returns the first of them as (key, value), as many as plain Faust gets."""
        return await self._append(self.population.trades(self.sizes.fills))

    async def plimsoll(self) -> Speed:
        """One worker process through what was appended, between the first and the last cut that covers some of it."""
        before = await self._rows_ends()
        covered_before = sum(self.appended) - self.sizes.fills
        async with self._worker() as worker:
            cpu_us = await self._fills_covered(worker)
        rate = _rate(await self._cuts_since(before), covered_before, sum(self.appended))
        await self._check()
        return Speed(rate, cpu_us)

    async def raw_getmany(self) -> Speed:
        """A bare aiokafka consumer over the same records."""
        where = [self._clients.partition(FILLS, p) for p in range(self.sizes.partitions)]
        wanted, seen, started, cpu_s = self.sizes.fills, 0, 0.0, 0.0
        async with self._clients.reading(*where) as consumer:
            for tp in where:
                consumer.seek(tp, self.appended[tp.partition] * (sum(self.appended) - wanted) // sum(self.appended))
            while seen < wanted:
                found = await consumer.getmany(timeout_ms=500, max_records=self.settings.frame_max_events)
                if not started:
                    started, cpu_s, wanted = time.perf_counter(), time.process_time(), wanted - sum(map(len, found.values()))
                else:
                    seen += sum(map(len, found.values()))
            return Speed(seen / (time.perf_counter() - started), (time.process_time() - cpu_s) / seen * 1e6)

    async def faust(self, what: str, records: Sequence[tuple[bytes, bytes]]) -> Speed:
        """Plain Faust over `records`, in a process and a topic of its own; `what` is agent or table."""
        name = f"{self.settings.topic_prefix}{what}-{uuid.uuid4().hex[:8]}"
        await self._create(name)
        await self._send(name, records, 1)
        arguments = {"--name": name, "--topic": name, "--events": len(records), "--what": what, "--bootstrap": self.settings.bootstrap}
        path, log = self._folder / f"{name}.json", self._folder / f"{name}.log"
        command = [sys.executable, "-m", "tests.bench.plain_faust", "--result", str(path)]
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command, *(str(word) for pair in arguments.items() for word in pair), stdout=output, stderr=output, cwd=ROOT
            )
            try:
                await asyncio.wait_for(process.wait(), TIMEOUT_S)
            finally:
                if process.returncode is None:
                    process.kill()
        if process.returncode != 0:
            raise RuntimeError(f"plain Faust ended with code {process.returncode}:\n{log.read_text()[-3000:]}")
        result = json.loads(path.read_text())
        if what == "table":
            await self._check_table(name, records, result["total"])
        return Speed(len(records) / result["seconds"], result["cpu_seconds"] / len(records) * 1e6)

    # ---- checks --------------------------------------------------------------------------------------------------------------------------

    async def _check_table(self, name: str, records: Sequence[tuple[bytes, bytes]], total: int) -> None:
        expected = sum(msgspec.json.decode(value)["lots"] for _, value in records)
        changelog = f"{name}-lots-changelog"
        where = self._clients.partition(changelog.removeprefix(self.settings.topic_prefix), 0)
        async with self._clients.reading(where) as consumer:
            _, end = await bounds(consumer, where)
        if total != expected or end != len(records):
            raise WrongResult(f"plain Faust's table adds up to {total}, not {expected}; its changelog has {end} of {len(records)} records")

    async def _check(self) -> None:
        """Committed positions are the sums of the fills, to the unit, and every account can be valued; nothing was refused."""
        population, wrong, seen = self.population, [], 0
        places = {name: number for number, name in enumerate(population.names)}
        for partition in range(self.sizes.partitions):
            book = Book(partition, self.sizes.partitions)
            book.restore((await committed_rows(self._clients, ROWS, partition)).items())
            universe, c = book.market.universe, book.accounts.columns
            for a, name in enumerate(book.accounts.names):
                seen += 1
                if c.state[a] in (State.UNKNOWN, State.BANKRUPT):
                    wrong.append(f"{name} is {State(c.state[a]).name}, reason {c.reason[a]}")
                held = {int(c.instrument[a, k]): (int(c.quantity[a, k]), int(c.cash[a, k])) for k in range(c.positions[a])}
                for column in range(POSITIONS):
                    number = universe.instrument_number(*population.position(places[name], column))
                    expected = (int(population.lots[places[name], column]), int(population.cash[places[name], column]))
                    if held.get(-1 if number is None else number) != expected:
                        wrong.append(f"{name} holds {held.get(-1 if number is None else number)}, but its fills add up to {expected}")
        if seen != self.sizes.accounts:
            wrong.append(f"{seen} accounts have rows, of {self.sizes.accounts}")
        wrong += await self._unhealthy()
        if wrong:
            raise WrongResult(f"{len(wrong)} faults: " + "; ".join(wrong[:5]))

    async def _unhealthy(self) -> list[str]:
        """What `account.health` and the dead letters say that they should not."""
        told: dict[bytes, bytes] = {}
        wrong = []
        for partition in range(self.sizes.partitions):
            told |= await committed_rows(self._clients, "account.health", partition)
        for key, value in told.items():
            health = msgspec.json.decode(value)
            if health["equity_usd"] is None or not health["maintenance_usd"] > 0.0:
                wrong.append(f"account.health says of {key.decode()}: {health['state']}, {health['reason']}")
        if len(told) != self.sizes.accounts:
            wrong.append(f"account.health has {len(told)} accounts of {self.sizes.accounts}")
        letters = await committed_rows(self._clients, f"{FILLS}.dlq", 0)
        return wrong + [f"refused: {value[:300]!r}" for value in letters.values()]

    # ---- the worker ----------------------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _worker(self) -> Any:
        """One worker process while prices move; ended in good order, which seals its cuts."""
        self._starts += 1
        worker = WorkerProcess(f"worker-{self._starts}", self.settings, self._machines, self._folder)
        talking = asyncio.create_task(self._tell_prices(worker))
        try:
            yield worker
            talking.cancel()
            code = await worker.stop()
            if code != 0:
                raise RuntimeError(f"the worker ended with code {code}:\n{worker.text()[-3000:]}")
        finally:
            talking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await talking
            if worker.process.poll() is None:
                worker.kill()

    async def _tell_prices(self, worker: WorkerProcess) -> None:
        """All prices, again and again, once the worker's clock runs."""
        await worker.ready()
        await asyncio.sleep(PRICES_EVERY_S)
        while True:
            self._steps += 1
            pairs = [encode_source(price)[1:] for price in prices(time.time_ns(), self._steps)]
            await self._send(self._clients.name("oracle.prices"), pairs, 1)
            await asyncio.sleep(PRICES_EVERY_S)

    async def _fills_covered(self, worker: WorkerProcess) -> float:
        """Until every fill appended is in a committed cut; the worker's CPU microseconds a fill, nan where it was too quick to be watched.

        The worker is asked how far it is; its rows are read only at the end.
        """
        ends, process = time.monotonic() + TIMEOUT_S, psutil.Process(worker.process.pid)
        watched: list[tuple[float, float]] = []  # (fills taken in, CPU seconds)
        while time.monotonic() < ends and worker.process.poll() is None:
            taken, left = await asyncio.to_thread(_told, worker)
            cpu = process.cpu_times()
            if taken > 0:
                watched.append((taken, cpu.user + cpu.system))
                if left == 0:
                    break
            await asyncio.sleep(POLL_S)
        await self._covered({(FILLS, p): end - 1 for p, end in enumerate(self.appended) if end}, worker)
        if len(watched) < 3:
            return float("nan")
        (first, cpu_first), (last, cpu_last) = watched[0], watched[-2]
        return (cpu_last - cpu_first) / max(last - first, 1.0) * 1e6

    async def _covered(self, wanted: Mapping[tuple[str, int], int], worker: WorkerProcess) -> None:
        """Until committed cuts cover these offsets of these (source, partition); a source of control's counts in every partition."""
        ends = time.monotonic() + TIMEOUT_S
        while time.monotonic() < ends and worker.process.poll() is None:
            missing = False
            for partition in range(self.sizes.partitions):
                record = (await committed_rows(self._clients, ROWS, partition)).get(CUT_KEY)
                sources = {(s, p): at for s, p, at in msgspec.msgpack.decode(record, type=CutRecord).sources} if record else {}
                missing |= any(
                    sources.get((source, p), -1) < offset for (source, p), offset in wanted.items() if source != FILLS or p == partition
                )
            if not missing:
                return
            await asyncio.sleep(POLL_S)
        raise RuntimeError(f"the worker has not got to {wanted} within {TIMEOUT_S:.0f} s:\n{worker.text()[-3000:]}")

    async def _rows_ends(self) -> list[int]:
        where = [self._clients.partition(ROWS, p) for p in range(self.sizes.partitions)]
        async with self._clients.reading(*where) as consumer:
            return [(await bounds(consumer, tp))[1] for tp in where]

    async def _cuts_since(self, begins: Sequence[int]) -> list[tuple[float, int, int]]:
        """(broker's time in seconds, partition, fills covered) of the committed cuts from these offsets of the rows on, in time."""
        cuts = []
        for partition, begin in enumerate(begins):
            where = self._clients.partition(ROWS, partition)
            async with self._clients.reading(where) as consumer:
                _, end = await bounds(consumer, where)
                async for records in scan(consumer, where, begin, end):
                    for record in records:
                        if record.key == CUT_KEY:
                            sources = msgspec.msgpack.decode(record.value, type=CutRecord).sources
                            covered = next((at for source, p, at in sources if (source, p) == (FILLS, partition)), -1)
                            cuts.append((record.timestamp / 1000, partition, covered + 1))
        return sorted(cuts)

    # ---- records -------------------------------------------------------------------------------------------------------------------------

    async def _append(self, fills: Iterable[Any]) -> list[tuple[bytes, bytes]]:
        fills = iter(fills)
        first: list[tuple[bytes, bytes]] = []
        most = max(self.sizes.agent_events, self.sizes.table_events)
        while chunk := list(islice(fills, 50_000)):
            pairs = [encode_source(fill)[1:] for fill in chunk]
            first += pairs[: max(0, most - len(first))]
            for partition, count in enumerate(await self._send(self._clients.name(FILLS), pairs, self.sizes.partitions)):
                self.appended[partition] += count
        return first

    async def _send(self, topic: str, pairs: Iterable[tuple[bytes, bytes]], partitions: int) -> list[int]:
        """Records by key to their partitions, in batches; how many each got."""
        options = {**kafka_client_options(self.settings), "enable_idempotence": True, "max_batch_size": BATCH_BYTES}
        producer = AIOKafkaProducer(**options)
        counts = [0] * partitions
        deliveries: list[asyncio.Future[Any]] = []
        try:
            await producer.start()
            batches = [producer.create_batch() for _ in range(partitions)]
            for key, value in pairs:
                partition = partition_of(key, partitions)
                counts[partition] += 1
                if batches[partition].append(key=key, value=value, timestamp=None) is None:
                    deliveries.append(await producer.send_batch(batches[partition], topic, partition=partition))
                    batches[partition] = producer.create_batch()
                    batches[partition].append(key=key, value=value, timestamp=None)
            for partition, batch in enumerate(batches):
                if batch.record_count():
                    deliveries.append(await producer.send_batch(batch, topic, partition=partition))
            for delivery in deliveries:
                await delivery
        finally:
            await producer.stop()
        return counts

    async def _create(self, name: str) -> None:
        admin = AIOKafkaAdminClient(**kafka_client_options(self.settings))
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, 1, 1)])
        finally:
            await admin.close()


def _told(worker: WorkerProcess) -> tuple[float, float]:
    """(fills that the worker says it has framed, those it has not framed yet)."""
    _, text = worker.get("metrics")
    of_fills = [line.rsplit(" ", 1) for line in text.splitlines() if f'topic="{FILLS}"' in line]
    taken, left = (
        sum(float(value) for name, value in of_fills if name.startswith(metric))
        for metric in ("plimsoll_events_in_total", "plimsoll_source_lag_records")
    )
    return taken, left


def _rate(cuts: Iterable[tuple[float, int, int]], before: int, after: int) -> float:
    """Fills/s between the first cut that covers more than `before` fills, over all partitions, and the one that covers `after`."""
    covered: dict[int, int] = {}
    first: tuple[float, int] | None = None
    for at_s, partition, count in cuts:
        covered[partition] = count
        total = sum(covered.values())
        if first is None and total > before:
            first = at_s, total
        elif first is not None and total == after:
            return (after - first[1]) / max(at_s - first[0], BROKER_TICK_S)
    raise WrongResult(f"no cuts from {before} to {after} fills: the round must be longer than a few cuts")


def settings_in_words(settings: Settings) -> str:
    """What the worker ran with."""
    return (
        f"{settings.ledger_partitions} ledger partition{'s' if settings.ledger_partitions > 1 else ''}, frames of up to "
        f"{settings.frame_max_events:,} events, a cut every {settings.cut_interval_ms} ms, acks=all"
    )
