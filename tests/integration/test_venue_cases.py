"""Reference cases of venues' rules through the whole pipeline: topic messages in, and out in `account.health` what each case says.

The clock is one tick of our own, sent when all else is applied: years to expiry are the cases' at that moment alone, and legs are looked at
with a tick.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from engine.effects import Health
from engine.inputs import Frame, FrameKind, Message, Tick
from engine.machine import CUT_KEY, CutRecord
from streams.broker import Cluster
from streams.clients import Clients, bounds, scan
from streams.feeders import TICKER
from streams.frames import encode_frame
from streams.messages import CONTROL, encode_source, partition_of, topic_specs
from streams.settings import kafka_client_options, load_settings
from streams.store import committed_rows
from streams.topics_admin import create_topics
from tests import venue_cases
from tests.fault.workers import READY_TIMEOUT_S, WorkerProcess
from tests.fault.workloads import BookWorkload, Sender
from tests.patience import PATIENCE_S
from tests.venue_cases import Case

PARTITIONS = 2
OF_ACCOUNTS = ("account.snapshots", "account.orders")  # topics with as many partitions as there are books

Place = tuple[str, int]  # a source and its partition

pytestmark = pytest.mark.slow


async def test_legs_of_reference_cases_come_out_of_the_pipeline(kafka: Cluster, topic_prefix: str, tmp_path: Path) -> None:
    settings = load_settings(
        environment={},
        bootstrap=kafka.bootstrap,
        topic_prefix=topic_prefix,
        ledger_partitions=PARTITIONS,
        attest_partitions=1,
        ticker="external",
        cut_interval_ms=100,
        shadow_accounts=0,
        metrics_port=0,
    )
    specs = topic_specs(ledger_partitions=PARTITIONS, attest_partitions=1, venues=[])
    await create_topics(kafka_client_options(settings), specs, topic_prefix)
    clients, cases = Clients(settings), venue_cases.cases()
    market = [*venue_cases.opening_messages(), *(message for case in cases for message in (*case.definitions, *case.market))]
    workload = BookWorkload(0)
    await workload.warm()
    async with Sender(settings) as sender:
        await sender.send(*market)  # all of it before a keeper begins, which takes definitions first then
    worker = WorkerProcess("worker", settings, workload.machines, tmp_path)
    try:
        async with Sender(settings) as sender:
            await until_in_cuts(clients, market, READY_TIMEOUT_S)  # a balance at a venue that is not defined yet would be refused
            accounts = [message for case in cases for message in case.accounts_messages]
            await sender.send(*accounts)
            await until_in_cuts(clients, accounts)
        await set_clock(clients)
        assert await until_told(clients, cases) == {}
        assert await worker.stop() == 0
    finally:
        if worker.process.poll() is None:
            worker.kill()


async def set_clock(clients: Clients) -> None:
    """One tick, put where a live system's ticker would put it."""
    at_ns = venue_cases.CLOCK_NS
    producer = clients.frames_producer()
    await producer.start()
    try:
        frame = Frame(FrameKind.TICK, TICKER, 0, 0, at_ns, [Tick(at_ns)], [at_ns])
        await producer.send_and_wait(clients.name(CONTROL), encode_frame(frame), partition=0)
    finally:
        await producer.stop()


async def until_in_cuts(clients: Clients, messages: Sequence[Message], patience_s: float = PATIENCE_S) -> None:
    """Until every book's cut has all of these messages, where they are all that their topics hold."""
    ends = time.monotonic() + patience_s
    for partition in range(PARTITIONS):
        needed = last_offsets(messages, partition)
        while late := await not_in_cut(clients, partition, needed):
            assert time.monotonic() < ends, f"not within {patience_s} s in the cut of partition {partition}: {late}"
            await asyncio.sleep(0.1)


def last_offsets(messages: Sequence[Message], book: int) -> dict[Place, int]:
    """Of what concerns one book: the market, which has one partition, and the accounts that are its own."""
    counts = Counter((topic, home(topic, key)) for topic, key, _ in map(encode_source, messages))
    return {(topic, partition): count - 1 for (topic, partition), count in counts.items() if partition == book or topic not in OF_ACCOUNTS}


def home(topic: str, key: bytes) -> int:
    return partition_of(key, PARTITIONS) if topic in OF_ACCOUNTS else 0


async def not_in_cut(clients: Clients, book: int, needed: dict[Place, int]) -> dict[Place, int]:
    """What a book's newest cut does not have up to the offset that is needed, by source: how far it has it."""
    rows = await committed_rows(clients, "ledger.rows", book)
    if CUT_KEY not in rows:
        return dict.fromkeys(needed, -1)
    record = msgspec.msgpack.decode(rows[CUT_KEY], type=CutRecord)
    applied = {(source, partition): last for source, partition, last in record.sources}
    return {place: applied.get(place, -1) for place, last in needed.items() if applied.get(place, -1) < last}


async def until_told(clients: Clients, cases: Sequence[Case]) -> dict[str, list[str]]:
    """What is not as the cases say, by account: empty once all of it is, or what is left when the time is over."""
    ends = time.monotonic() + PATIENCE_S
    while True:
        told = await last_words(clients)
        wrong = {case.account: found for case in cases if (found := amiss(case, told.get(case.account)))}
        if not wrong or time.monotonic() > ends:
            return wrong
        await asyncio.sleep(0.2)


def amiss(case: Case, health: Health | None) -> list[str]:
    """How the last word on an account differs from its case."""
    if health is None:
        return ["nothing was told of it"]
    if [(leg.venue, leg.rule, leg.unknown) for leg in health.legs] != [(case.account, case.rule, "")]:
        return [f"{health.state} {health.reason}: {health.legs}"]
    [leg] = health.legs
    return venue_cases.differences(case, [leg.equity_usd, leg.initial_usd, leg.maintenance_usd, leg.distance])


async def last_words(clients: Clients) -> dict[str, Health]:
    """The last record of each account in `account.health`."""
    told: dict[str, Health] = {}
    for partition in range(PARTITIONS):
        where = clients.partition("account.health", partition)
        async with clients.reading(where) as consumer:
            async for records in scan(consumer, where, *await bounds(consumer, where)):
                told |= {record.key.decode(): msgspec.json.decode(record.value, type=Health) for record in records}
    return told
