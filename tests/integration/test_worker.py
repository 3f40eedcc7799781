"""A worker process on a real broker: what comes in bad goes to dead letters, a stop seals, slow loads and lost brokers are borne."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from aiokafka import AIOKafkaProducer

from engine.machine import CUT_KEY, CutRecord
from streams.broker import Cluster, LocalBroker
from streams.clients import Clients, bounds, scan
from streams.messages import partition_of, topic_specs
from streams.replay import replay_ledger
from streams.settings import Settings, kafka_client_options, load_settings
from streams.topics_admin import create_topics
from streams.worker import UNSEALED
from tests.fault.workers import WorkerProcess
from tests.fault.workloads import ToyWorkload, applied_in_cut
from tests.patience import PATIENCE_S
from tests.settled import settled_rows
from tests.toy import POISON_LOTS, POISONED, SLOW_LOAD_S, Toy

MACHINES = "tests.toy:machines"
SESSION_S = 3.0
SENT_MIN = 2_000  # fills: some hundred orders
DEATHS_MAX = 20  # a poisoned frame takes four or five before it is set aside: as many more as there are cuts between it and the first

pytestmark = pytest.mark.slow


async def prepared(bootstrap: str, prefix: str, session_s: float = SESSION_S) -> Settings:
    settings = load_settings(
        environment={},
        bootstrap=bootstrap,
        topic_prefix=prefix,
        venues="alpha",
        ledger_partitions=2,
        session_timeout_s=session_s,
        heartbeat_s=0.5,
        cut_interval_ms=100,
        metrics_port=0,
        watchdog_s=60,
    )
    await create_topics(kafka_client_options(settings), topic_specs(ledger_partitions=2, attest_partitions=2, venues=["alpha"]), prefix)
    return settings


@asynccontextmanager
async def running(settings: Settings, folder: Path, name: str = "worker", machines: str = MACHINES) -> AsyncIterator[WorkerProcess]:
    worker = WorkerProcess(name, settings, machines, folder)
    try:
        await worker.ready()
        yield worker
    finally:
        if worker.process.poll() is None:
            worker.kill()


async def until(holds: Callable[[], Any], what: str) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not await holds():
        assert time.monotonic() < ends, f"not within {PATIENCE_S} s: {what}"
        await asyncio.sleep(0.1)


async def sent(workload: ToyWorkload, more: int = SENT_MIN) -> None:
    """Until so many more fills are in their topic."""
    enough = workload.sent + more

    async def are_sent() -> bool:
        return workload.sent > enough

    await until(are_sent, f"{more} fills sent")


async def records(clients: Clients, topic: str, partition: int = 0) -> list[Any]:
    where = clients.partition(topic, partition)
    async with clients.reading(where) as consumer:
        return [record async for some in scan(consumer, where, *await bounds(consumer, where)) for record in some]


async def in_cut(clients: Clients, partition: int) -> int:
    """The last fill of a partition that its newest cut holds, of the cuts that readers see; -1 where it holds none, or there is none."""
    return (await applied_in_cut(clients, partition)).get(("venue.fills", partition), -1)


async def final_cut(clients: Clients, partition: int) -> CutRecord:
    """Of workers that have stopped."""
    return msgspec.msgpack.decode((await settled_rows(clients, "ledger.rows", partition))[CUT_KEY], type=CutRecord)


def fill(sequence: int, **fields: Any) -> dict[str, Any]:
    return {
        "v": 1,
        "account": "someone",
        "venue": "alpha",
        "instrument": "BTC-PERP",
        "kind": "trade",
        "lots": 600,
        "price_ticks": 100,
        "sequence": sequence,
        "time_ns": time.time_ns(),
        **fields,
    }


async def test_bad_input_goes_to_dead_letters_and_a_stop_seals(kafka: Cluster, topic_prefix: str, tmp_path: Path) -> None:
    settings = await prepared(kafka.bootstrap, topic_prefix)
    clients = Clients(settings)
    home = partition_of(b"someone", 2)
    bad: list[tuple[bytes, bytes, int, str]] = [
        (b"someone", b"{", home, "bad_json"),
        (b"someone", orjson.dumps(fill(9, lots="many")), home, "wrong_type"),
        (b"someone", orjson.dumps(fill(9, v=2)), home, "unknown_version"),
        (b"someone", orjson.dumps(fill(9, lots=1.5)), home, "not_a_lot"),
        (b"someone", orjson.dumps(fill(9, price_ticks=-1)), home, "not_positive"),
        (b"someone", orjson.dumps(fill(9)).replace(b'"price_ticks":100', b'"price_ticks":NaN'), home, "not_finite"),
        (b"someone", orjson.dumps(fill(9)), 1 - home, "wrong_partition"),
        (b"another", orjson.dumps(fill(9)), home, "wrong_key"),
    ]
    async with running(settings, tmp_path) as worker:
        async with AIOKafkaProducer(**kafka_client_options(settings)) as producer:
            for number in range(5):
                await producer.send_and_wait(clients.name("venue.fills"), orjson.dumps(fill(number + 1)), b"someone", partition=home)
                for key, value, partition, _ in bad if number == 2 else []:
                    await producer.send_and_wait(clients.name("venue.fills"), value, key, partition=partition)

        async def all_applied() -> bool:
            return (await in_cut(clients, home), await in_cut(clients, 1 - home)) == (5 + len(bad) - 2, 0)

        await until(all_applied, "all fills in cuts, and the one that came to the wrong partition")
        letters = [orjson.loads(record.value) for record in await records(clients, "venue.fills.dlq")]
        assert sorted(letter["reason"] for letter in letters) == sorted(reason for *_, reason in bad)
        assert all(letter["topic"] == "venue.fills" and letter["raw_base64"] for letter in letters)
        assert worker.metric("plimsoll_dead_letters_total") == len(bad)
        orders = [orjson.loads(record.value) for record in await records(clients, "orders.alpha", home)]
        assert [order["lots"] for order in orders] == [-1200, -2400, -3000]
        assert worker.metric("plimsoll_orders_total") == len(orders)
        assert worker.metric("plimsoll_event_to_order_seconds_count") == len(orders)
        assert worker.metric("plimsoll_cut_seconds_count") > 0
        assert worker.get("live")[0] == 200
        await worker.ready()
        assert await worker.stop() == 0
    for partition in (0, 1):
        assert (await final_cut(clients, partition)).sealed
    report = await replay_ledger(settings, machines=MACHINES, all_cuts_restored=True)
    assert report.differences == []
    assert report.orders == report.published == 3


async def test_a_venue_without_a_topic_is_told_and_a_stop_without_a_seal_is_no_success(
    kafka: Cluster, topic_prefix: str, tmp_path: Path
) -> None:
    settings = await prepared(kafka.bootstrap, topic_prefix)
    clients = Clients(settings)
    names = [f"account-{number}" for number in range(20)]
    waits, free = (next(name for name in names if partition_of(name.encode(), 2) == partition) for partition in (0, 1))

    async def send(account: str, sequence: int, venue: str) -> None:
        async with AIOKafkaProducer(**kafka_client_options(settings)) as producer:
            value = orjson.dumps(fill(sequence, account=account, venue=venue, lots=1_000))
            await producer.send_and_wait(clients.name("venue.fills"), value, account.encode())

    refused = settings.model_copy(update={"replication": 3})  # more than the broker can hold, so it refuses to create the topic
    refused.model_fields_set.add("replication")
    async with running(refused, tmp_path, "refused") as worker:
        await send(waits, 1, "ghost")

        async def told() -> bool:
            status, text = await asyncio.to_thread(worker.get, "ready")
            return (
                status == 503
                and f"{clients.name('orders.ghost')}: 1 orders" in text
                and "PLIMSOLL_VENUES=ghost plimsoll topics create" in text
            )

        await until(told, "what /ready says")
        await send(waits, 2, "alpha")
        await send(free, 1, "alpha")

        async def others_go_on() -> bool:
            return [len(await records(clients, "orders.alpha", partition)) for partition in (0, 1)] == [1, 1] and await in_cut(
                clients, 1
            ) == 0

        await until(others_go_on, "orders of the other venue, and the other partition's cut")
        assert await in_cut(clients, 0) == -1

        async def measured() -> bool:  # gauges are set by the housekeeping, twice a second
            waiting, uncut = await asyncio.gather(
                *(asyncio.to_thread(worker.metric, name) for name in ("plimsoll_orders_waiting", "plimsoll_uncut_frames"))
            )
            return waiting == 1 and uncut > 0

        await until(measured, "what the metrics say")
        assert await worker.stop() == UNSEALED
        assert re.search(r"book\[0\] is not sealed", worker.text())
    assert not (await final_cut(clients, 0)).sealed
    assert (await final_cut(clients, 1)).sealed
    async with running(settings, tmp_path, "allowed") as worker:

        async def all_cut() -> bool:
            return await in_cut(clients, 0) == 1

        await until(all_cut, "the cut that waited")
        assert await worker.stop() == 0
    report = await replay_ledger(settings, machines=MACHINES, all_cuts_restored=True)
    assert report.differences == []
    assert (report.orders, report.distinct) == (3, 3)


async def test_a_load_longer_than_the_session_keeps_the_membership(kafka: Cluster, topic_prefix: str, tmp_path: Path) -> None:
    settings = await prepared(kafka.bootstrap, topic_prefix, session_s=2 * SESSION_S)
    assert settings.session_timeout_s < SLOW_LOAD_S - 2.0
    workload = ToyWorkload(1)
    async with running(settings, tmp_path, "first") as first:
        flowing = asyncio.create_task(workload.flow(settings))
        await sent(workload)

        async def some_held() -> bool:
            return min(await asyncio.gather(*(in_cut(Clients(settings), partition) for partition in (0, 1)))) >= 0

        await until(some_held, "rows that the next one has to load")
        assert await first.stop() == 0
        async with running(settings, tmp_path, "second", "tests.toy:slow_machines") as second:
            workload.stop()
            await flowing

            async def all_held() -> bool:
                return await workload.held(settings) == workload.expected()

            await until(all_held, "all fills in cuts")
            assert len(re.findall(r"INFO. generation \d", second.text())) == 1, "it was thrown out while it loaded"
            assert second.metric("plimsoll_fenced_total") == 0
            assert await second.stop() == 0
    assert (await replay_ledger(settings, machines=MACHINES)).differences == []


async def test_a_lost_broker_is_told_and_outlived(topic_prefix: str, tmp_path: Path) -> None:
    with LocalBroker(tmp_path / "broker") as broker:
        settings = await prepared(broker.bootstrap, topic_prefix)
        workload = ToyWorkload(2)
        async with running(settings, tmp_path) as worker:
            flowing = asyncio.create_task(workload.flow(settings))
            await sent(workload)
            await asyncio.to_thread(broker.kill)

            async def unready() -> bool:
                return (await asyncio.to_thread(worker.get, "ready"))[0] == 503

            await until(unready, "not ready")
            assert worker.get("live")[0] == 200
            await asyncio.sleep(3)
            await asyncio.to_thread(broker.start)
            await worker.ready()
            await sent(workload)
            workload.stop()
            await flowing

            async def all_held() -> bool:
                return await workload.held(settings) == workload.expected()

            await until(all_held, "all fills in cuts")
            assert worker.process.poll() is None
            assert await worker.stop() == 0
        report = await replay_ledger(settings, machines=MACHINES, all_cuts_restored=True)
        assert report.differences == []
        assert report.distinct > 100


async def test_a_frame_that_ends_its_owners_is_set_aside(kafka: Cluster, topic_prefix: str, tmp_path: Path) -> None:
    settings = await prepared(kafka.bootstrap, topic_prefix)
    clients = Clients(settings)
    home = partition_of(b"someone", 2)

    async def send(*fills: dict[str, Any]) -> None:
        async with AIOKafkaProducer(**kafka_client_options(settings)) as producer:
            for one in fills:
                await producer.send_and_wait(clients.name("venue.fills"), orjson.dumps(one), b"someone", partition=home)

    deaths = 0
    async with running(settings, tmp_path, "first", "tests.toy:mortal_machines") as first:
        await send(fill(1), fill(2))

        async def both_held() -> bool:
            return await in_cut(clients, home) == 1

        await until(both_held, "what came before in a cut")
        await send(fill(3, lots=POISON_LOTS))
        assert await asyncio.to_thread(first.process.wait, PATIENCE_S) == POISONED
        deaths += 1
    await send(fill(4), fill(5))
    while True:
        worker = WorkerProcess(f"owner{deaths}", settings, "tests.toy:mortal_machines", tmp_path)
        try:
            await worker.ready()
            break
        except AssertionError:
            assert worker.process.poll() == POISONED, worker.text()[-2000:]
            deaths += 1
            assert deaths <= DEATHS_MAX, "no verdict"
    try:

        async def all_applied() -> bool:
            return await in_cut(clients, home) == 4

        await until(all_applied, "the fills behind the poisoned one in a cut")
        assert deaths >= 3
        assert worker.metric("plimsoll_frames_set_aside_total") == 1
        assert worker.metric("plimsoll_gaps_total") == 0
        assert await worker.stop() == 0
    finally:
        if worker.process.poll() is None:
            worker.kill()
    toy = Toy(home)
    toy.restore((await settled_rows(clients, "ledger.rows", home)).items())
    assert toy.totals() == {"someone": 2_400}
    report = await replay_ledger(settings, machines="tests.toy:mortal_machines", all_cuts_restored=True)
    assert report.differences == []
    assert report.set_aside == 1
