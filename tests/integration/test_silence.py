"""Every price source falls silent under a running worker: who is exposed becomes UNKNOWN in time, and nothing is ordered on old prices."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from engine.effects import Health
from engine.inputs import Fill, OraclePrice
from streams.broker import Cluster
from streams.clients import Clients, bounds, scan
from streams.messages import topic_specs
from streams.settings import Settings, kafka_client_options, load_settings
from streams.topics_admin import create_topics
from tests.fault.workers import WorkerProcess
from tests.fault.workloads import BookWorkload, Sender

PARTITIONS = 2
ACCOUNTS = 40
MAX_AGE_S = 4.0
ALLOWED_S = 2.0
NS_PER_S = 1_000_000_000
TIMEOUT_S = 40.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


async def told(clients: Clients, topic: str) -> list[Health]:
    """All records of a topic of one type, partition after partition."""
    found: list[Health] = []
    for partition in range(PARTITIONS):
        where = clients.partition(topic, partition)
        async with clients.reading(where) as consumer:
            async for records in scan(consumer, where, *await bounds(consumer, where)):
                found += [msgspec.json.decode(record.value, type=Health) for record in records]
    return found


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
            async with asyncio.timeout(TIMEOUT_S):
                while {health.account for health in await told(clients, "account.health") if health.state == "HEALTHY"} != set(names):
                    last = workload.prices(1.0)
                    await sender.send(*last)
            last = workload.prices(1.0)
            await sender.send(*last)
        silent_ns = max(price.publish_time_ns for price in last)

        unknown: dict[str, Health] = {}
        async with asyncio.timeout(TIMEOUT_S):
            while set(unknown) != set(names):
                await asyncio.sleep(0.2)
                after = [
                    health for health in await told(clients, "account.health") if health.clock_ns > silent_ns and health.state == "UNKNOWN"
                ]
                unknown = {health.account: health for health in reversed(after)}
        assert {health.reason for health in unknown.values()} == {"stale_mark"}
        assert max(health.clock_ns for health in unknown.values()) - silent_ns <= (MAX_AGE_S + ALLOWED_S) * NS_PER_S
        assert all(health.equity_usd is None for health in unknown.values())

        # A fill that would sink the account at the old prices: it stays unknown, and no order goes out.
        async with Sender(settings) as sender:
            sinking = opening(names[1], 2_000)[1]
            await sender.send(msgspec.structs.replace(sinking, sequence=3))
        await asyncio.sleep(2.0)
        latest = {health.account: health for health in await told(clients, "account.health")}
        assert {latest[name].state for name in names} == {"UNKNOWN"}
        assert await ordered(clients) == 0

        # And the proof that silence was the reason: with prices again, the same account is ordered to reduce.
        async with Sender(settings) as sender, asyncio.timeout(TIMEOUT_S):
            while await ordered(clients) == 0:
                await sender.send(*workload.prices(1.0))
                await asyncio.sleep(0.2)
        assert await worker.stop() == 0
    finally:
        if worker.process.poll() is None:
            worker.kill()
