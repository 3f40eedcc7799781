"""Every kind of malformed input, sent to a running worker: a dead letter with reason and origin each, and the partition goes on."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from streams.broker import Cluster
from streams.clients import Clients, bounds, scan
from streams.messages import partition_of
from streams.replay import replay_ledger
from streams.settings import kafka_client_options
from tests.fault.workers import WorkerProcess
from tests.fault.workloads import BookWorkload, Sender
from tests.integration.test_silence import PARTITIONS, opening, settings_for, told
from tests.patience import PATIENCE_S

HOUR_NS = 3_600_000_000_000

pytestmark = pytest.mark.slow


def price(**changed: Any) -> dict[str, Any]:
    return {"v": 1, "asset": "BTC", "source": "one", "price": 100_000.0, "publish_time_ns": time.time_ns(), **changed}


def fill(**changed: Any) -> dict[str, Any]:
    named = {"v": 1, "account": "victim", "venue": "ex", "instrument": "BTC-PERP", "kind": "trade"}
    return {**named, "lots": 1, "price_ticks": 100_000, "sequence": 1, "time_ns": time.time_ns(), **changed}


def without(message: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != field}


def bad_prices() -> list[tuple[str, bytes, dict[str, Any] | bytes]]:
    """(reason, key, value)."""
    return [
        ("bad_json", b"BTC", b"\xff\xfe not json"),
        ("not_finite", b"BTC", orjson.dumps(price()).replace(b"100000.0", b"NaN")),
        ("not_finite", b"BTC", orjson.dumps(price()).replace(b"100000.0", b"1e999")),
        ("not_positive", b"BTC", price(price=-1.0)),
        ("wrong_type", b"BTC", price(price="100000")),
        ("missing_field", b"BTC", without(price(), "source")),
        ("unknown_field", b"BTC", price(prise=1.0)),
        ("unknown_version", b"BTC", price(v=2)),
        ("wrong_key", b"ETH", price()),
        ("unknown_asset", b"DOGE", price(asset="DOGE")),
        ("unknown_source", b"BTC", price(source="nobody")),
        ("future_time", b"BTC", price(publish_time_ns=time.time_ns() + HOUR_NS)),
    ]


def bad_fills() -> list[tuple[str, bytes, dict[str, Any] | bytes]]:
    """(reason, key, value); in the account's own partition unless that is what is wrong."""
    return [
        ("bad_json", b"victim", b"{"),
        ("not_a_lot", b"victim", fill(lots=0.5)),
        ("not_a_tick", b"victim", fill(price_ticks=0.5)),
        ("not_positive", b"victim", fill(price_ticks=-5)),
        ("wrong_type", b"victim", fill(lots="1")),
        ("out_of_range", b"victim", fill(kind="gift")),
        ("wrong_partition", b"victim", fill()),
        ("unknown_venue", b"victim", fill(venue="nowhere")),
        ("unknown_instrument", b"victim", fill(instrument="DOGE-PERP")),
        ("future_time", b"victim", fill(sequence=2, time_ns=time.time_ns() + HOUR_NS)),
    ]


async def letters(clients: Clients, topic: str) -> dict[str, dict[str, Any]]:
    """By key, which names the origin: a reader keeps one of each."""
    where = clients.partition(topic, 0)
    async with clients.reading(where) as consumer:
        found = [record async for some in scan(consumer, where, *await bounds(consumer, where)) for record in some]
    return {record.key.decode(): orjson.loads(record.value) for record in found}


async def test_each_malformed_kind_is_refused_with_its_reason_and_the_partition_goes_on(
    kafka: Cluster, topic_prefix: str, tmp_path: Path
) -> None:
    settings = await settings_for(kafka, topic_prefix)
    clients = Clients(settings)
    workload = BookWorkload(0)
    await workload.warm()
    worker = WorkerProcess("worker", settings, workload.machines, tmp_path)
    home = partition_of(b"victim", PARTITIONS)
    expected: dict[str, dict[str, str]] = {f"{topic}.dlq": {} for topic in ("venue.fills", "oracle.prices", "market.depth")}
    try:
        await worker.ready()
        await workload.prepare(settings)
        async with AIOKafkaProducer(**kafka_client_options(settings)) as producer:

            async def send(topic: str, partition: int, reason: str, key: bytes, value: dict[str, Any] | bytes) -> None:
                data = value if isinstance(value, bytes) else orjson.dumps(value)
                sent = await producer.send_and_wait(clients.name(topic), data, key, partition=partition)
                expected[f"{topic}.dlq"][f"{topic}/{partition}/{sent.offset}"] = reason

            for reason, key, value in bad_prices():
                await send("oracle.prices", 0, reason, key, value)
            for reason, key, value in bad_fills():
                await send("venue.fills", 1 - home if reason == "wrong_partition" else home, reason, key, value)

        neighbour = next(name for name in map("account-{}".format, range(100)) if partition_of(name.encode(), PARTITIONS) == home)
        async with Sender(settings) as sender, asyncio.timeout(PATIENCE_S):
            await sender.send(*opening(neighbour, 10))
            while True:
                await sender.send(*workload.prices(1.0))
                states = {health.account: health.state for health in await told(clients, "account.health")}
                if states.get(neighbour) == "HEALTHY":
                    break
                await asyncio.sleep(0.2)
        assert states.get("victim") != "HEALTHY"  # what was refused never counts as healthy
        async with asyncio.timeout(PATIENCE_S):
            found: dict[str, dict[str, dict[str, Any]]] = {}
            while any(expected[topic].keys() - found.get(topic, {}).keys() for topic in expected):
                found = {topic: await letters(clients, topic) for topic in expected}
                await asyncio.sleep(0.2)
        for topic, by_key in expected.items():
            assert {origin: found[topic][origin]["reason"] for origin in by_key} == by_key
            assert found[topic].keys() == by_key.keys()
            for origin, letter in found[topic].items():
                assert f"{letter['topic']}/{letter['partition']}/{letter['offset']}" == origin
                assert letter["raw_base64"] or letter["event"]  # the bytes where they were refused, the decoded event where its meaning was
        assert worker.metric("plimsoll_dead_letters_total") == sum(map(len, found.values()))
        assert await worker.stop() == 0
    finally:
        if worker.process.poll() is None:
            worker.kill()
    assert (await replay_ledger(settings)).differences == []
