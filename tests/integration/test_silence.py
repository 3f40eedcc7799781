"""Every price source falls silent under a running worker: who is exposed becomes UNKNOWN in time, and nothing is ordered on old prices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from engine.effects import AssetReport, ChainReport, Health
from engine.inputs import Fill, OraclePrice
from engine.machine import CUT_KEY, CutRecord
from streams.broker import Cluster
from streams.clients import Clients, bounds, scan
from streams.messages import PartitionStatus, partition_of, topic_specs
from streams.settings import Settings, kafka_client_options, load_settings
from streams.store import committed_rows
from streams.topics_admin import create_topics
from tests import small_world
from tests.fault.workers import WorkerProcess
from tests.fault.workloads import BookWorkload, Sender, applied_in_cut
from tests.patience import PATIENCE_S

PARTITIONS = 2
ACCOUNTS = 40
MAX_AGE_S = 4.0
ALLOWED_S = 2.0
NS_PER_S = 1_000_000_000

pytestmark = pytest.mark.slow


async def told(clients: Clients, topic: str) -> list[Health]:
    """All records of a topic of one type, partition after partition."""
    found: list[Health] = []
    for partition in range(PARTITIONS):
        where = clients.partition(topic, partition)
        async with clients.reading(where) as consumer:
            async for records in scan(consumer, where, *await bounds(consumer, where)):
                found += [msgspec.json.decode(record.value, type=Health) for record in records]
    return found


T = TypeVar("T")


async def last_values(clients: Clients, topic: str, kind: type[T]) -> dict[str, T]:
    """The last value of each key of a topic with one partition."""
    return {key.decode(): msgspec.json.decode(value, type=kind) for key, value in (await committed_rows(clients, topic, 0)).items()}


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.2)


async def says_what_the_topics_say(worker: WorkerProcess) -> bool:
    """Whether its metrics tell that nobody has a mark, and everybody is unknown for it."""
    expected = {f'plimsoll_source_counts{{asset="BTC",source="{source}"}} 0.0' for source in small_world.SOURCES}
    expected |= {
        'plimsoll_mark_known{asset="BTC"} 0.0',
        'plimsoll_publishing{partition="1"} 1.0',
        'plimsoll_partitions{machine="book"} 2.0',
    }
    _, text = await asyncio.to_thread(worker.get, "metrics")
    return expected <= set(text.splitlines()) and await asyncio.to_thread(worker.metric, "plimsoll_accounts_unknown") == ACCOUNTS


async def told_by(clients: Clients, partition: int, silent_ns: int) -> int:
    """The latest clock at which a book may say UNKNOWN: soon after the last price is too old, or with its first cut after that."""
    clocks: list[int] = []
    where = clients.partition("ledger.rows", partition)
    async with clients.reading(where) as consumer:
        async for records in scan(consumer, where, *await bounds(consumer, where)):
            clocks += [msgspec.msgpack.decode(record.value, type=CutRecord).clock_ns for record in records if record.key == CUT_KEY]
    too_old_ns = silent_ns + int(MAX_AGE_S * NS_PER_S)
    return max(too_old_ns + int(ALLOWED_S * NS_PER_S), min(clock for clock in clocks if clock > too_old_ns))


async def ordered(clients: Clients) -> int:
    """How many orders there are."""
    count = 0
    for topic in ("orders.ex", "orders.sx"):
        for partition in range(PARTITIONS):
            where = clients.partition(topic, partition)
            async with clients.reading(where) as consumer:
                _, end = await bounds(consumer, where)
            count += end
    return count


def opening(account: str, lots: int) -> list[Fill]:
    """10,000 USD, and a perpetual long or short bought at 100,000 USD a coin; a lot is a thousandth."""

    def fill(sequence: int, instrument: str, kind: str, lots: int, price_ticks: int, cash: int) -> Fill:
        fields = {"instrument": instrument, "kind": kind, "lots": lots, "price_ticks": price_ticks, "cash": cash, "sequence": sequence}
        return msgspec.convert({"v": 1, "account": account, "venue": "ex", "time_ns": time.time_ns(), **fields}, Fill)

    return [fill(1, "USD", "funding", 0, 0, 10_000_000_000), fill(2, "BTC-PERP", "trade", lots, 100_000, 0)]


async def settings_for(kafka: Cluster, prefix: str) -> Settings:
    settings = load_settings(
        environment={},
        bootstrap=kafka.bootstrap,
        topic_prefix=prefix,
        venues="ex,sx",
        ledger_partitions=PARTITIONS,
        cut_interval_ms=100,
        metrics_port=0,
    )
    specs = topic_specs(ledger_partitions=PARTITIONS, attest_partitions=2, venues=["ex", "sx"])
    await create_topics(kafka_client_options(settings), specs, prefix)
    return settings


async def test_silent_sources_make_everybody_unknown_in_time_and_nothing_is_ordered(
    kafka: Cluster, topic_prefix: str, tmp_path: Path
) -> None:
    settings = await settings_for(kafka, topic_prefix)
    clients = Clients(settings)
    workload = BookWorkload(0)
    await workload.warm()
    worker = WorkerProcess("worker", settings, workload.machines, tmp_path)
    try:
        await worker.ready()
        ages = {name: {"max_age_s": MAX_AGE_S} for name in ("major", "alt", "stable")}
        await workload.prepare(settings, classes=ages)
        names = [f"account-{number}" for number in range(ACCOUNTS)]
        last: list[OraclePrice] = []
        async with Sender(settings) as sender:
            for number, name in enumerate(names):
                await sender.send(*opening(name, (10 + number) * (1 if number % 2 else -1)))
            async with asyncio.timeout(PATIENCE_S):
                while {health.account for health in await told(clients, "account.health") if health.state == "HEALTHY"} != set(names):
                    last = workload.prices(1.0)
                    await sender.send(*last)
            last = workload.prices(1.0)
            await sender.send(*last)
        silent_ns = max(price.publish_time_ns for price in last)

        unknown: dict[str, Health] = {}
        async with asyncio.timeout(PATIENCE_S):
            while set(unknown) != set(names):
                await asyncio.sleep(0.2)
                after = [
                    health for health in await told(clients, "account.health") if health.clock_ns > silent_ns and health.state == "UNKNOWN"
                ]
                unknown = {health.account: health for health in reversed(after)}
        assert {health.reason for health in unknown.values()} == {"stale_mark"}
        in_time = [await told_by(clients, partition, silent_ns) for partition in range(PARTITIONS)]
        for name, health in unknown.items():
            assert health.clock_ns <= in_time[partition_of(name.encode(), PARTITIONS)]
        assert all(health.equity_usd is None for health in unknown.values())

        await until(partial(says_what_the_topics_say, worker))
        for name in ("recovery_seconds", "frame_events", "frame_bytes", "ingest_seconds", "apply_seconds", "publish_seconds"):
            assert await asyncio.to_thread(worker.metric, f"plimsoll_{name}_count") > 0
        marks: dict[str, AssetReport] = {}

        async def all_unknown() -> bool:
            marks.update(await last_values(clients, "risk.marks", AssetReport))
            return {(mark.mark_usd, mark.reason) for mark in marks.values()} == {(None, "stale_mark")}

        await until(all_unknown)
        status = await last_values(clients, "pipeline.status", PartitionStatus)
        assert {(source.counts, source.why) for mark in marks.values() for source in mark.sources} == {(False, "stale")}
        assert set(status) == {"book/0", "book/1", "attestor/0", "attestor/1", "treasury/0"}
        assert {one.pages for one in status.values()} == {worker.address}
        assert all(one.cut_applied <= one.applied < one.log_end for one in status.values())
        assert {one.mode for one in status.values()} == {"publish", ""}
        assert all(chain.lag_p95_seconds is None for chain in (await last_values(clients, "risk.chains", ChainReport)).values())

        # A fill that would sink the account at the old prices: it stays unknown, and no order goes out.
        async with Sender(settings) as sender:
            sinking = opening(names[1], 2_000)[1]
            (((topic, home), offset),) = (await sender.send(msgspec.structs.replace(sinking, sequence=3))).items()

        async def is_held() -> bool:
            return (await applied_in_cut(clients, home)).get((topic, home), -1) == offset

        await until(is_held)
        await asyncio.sleep(2.0)  # in which an order would go out
        latest = {health.account: health for health in await told(clients, "account.health")}
        assert {latest[name].state for name in names} == {"UNKNOWN"}
        assert await ordered(clients) == 0

        # And the proof that silence was the reason: with prices again, the same account is ordered to reduce.
        async with Sender(settings) as sender, asyncio.timeout(PATIENCE_S):
            while await ordered(clients) == 0:
                await sender.send(*workload.prices(1.0))
                await asyncio.sleep(0.2)
        assert await worker.stop() == 0
    finally:
        if worker.process.poll() is None:
            worker.kill()
