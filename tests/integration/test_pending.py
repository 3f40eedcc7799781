"""Open orders on a real broker: they come in by their topic, and the account's health goes out with another requirement."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from engine.inputs import Fill, Pending, PendingPosition
from streams.broker import Cluster
from streams.clients import Clients, bounds, scan
from tests.fault.workers import WorkerProcess
from tests.fault.workloads import BookWorkload, Sender
from tests.integration.test_silence import PARTITIONS, settings_for
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.slow


async def told_of(clients: Clients, account: str) -> dict[str, Any]:
    """The last word on an account in `account.health`; empty if there is none yet."""
    last: dict[str, Any] = {}
    for partition in range(PARTITIONS):
        where = clients.partition("account.health", partition)
        async with clients.reading(where) as consumer:
            async for some in scan(consumer, where, *await bounds(consumer, where)):
                last = next((orjson.loads(record.value) for record in reversed(some) if record.key == account.encode()), last)
    return last


async def test_open_orders_come_in_and_go_out_as_another_requirement(kafka: Cluster, topic_prefix: str, tmp_path: Path) -> None:
    settings = await settings_for(kafka, topic_prefix)
    clients = Clients(settings)
    workload = BookWorkload(0)
    await workload.warm()
    worker = WorkerProcess("worker", settings, workload.machines, tmp_path)
    try:
        await worker.ready()
        await workload.prepare(settings, classes={name: {"max_age_s": 3_600.0} for name in ("major", "alt", "stable")})

        async def until(holds: Any) -> dict[str, Any]:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    said = await told_of(clients, "alice")
                    if said and holds(said):
                        return said
                    await asyncio.sleep(0.1)

        async with Sender(settings) as sender:
            named = {"v": 1, "account": "alice", "venue": "ex", "time_ns": time.time_ns()}
            cash = {"instrument": "USD", "kind": "funding", "lots": 0, "price_ticks": 0, "cash": 20_000_000_000, "sequence": 1}
            await sender.send(msgspec.convert(named | cash, Fill))
            calm = await until(lambda said: said["equity_usd"] == 20_000.0)
            assert (calm["state"], calm["maintenance_usd"], calm["refuses"]) == ("HEALTHY", 0.0, [])
            positions = [PendingPosition("BTC-PERP", buy_lots=1_500)]
            await sender.send(Pending(v=1, account="alice", venue="ex", positions=positions, time_ns=time.time_ns()))
            ordered = await until(lambda said: (said["maintenance_usd"] or 0.0) > 0.0)
            assert (ordered["state"], ordered["equity_usd"], ordered["refuses"]) == ("WARNING", 20_000.0, ["initial_margin"])
            await sender.send(Pending(v=1, account="alice", venue="ex", positions=[], time_ns=time.time_ns()))
            ended = await until(lambda said: said["maintenance_usd"] == 0.0)
            assert (ended["state"], ended["refuses"]) == ("HEALTHY", [])
        assert await worker.stop() == 0
    finally:
        if worker.process.poll() is None:
            worker.kill()
