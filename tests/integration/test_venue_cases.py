"""Reference cases of venues' rules through the whole pipeline: topic messages in, and out in `account.health` what each case says.

The clock is one tick of our own, sent when all else is applied: years to expiry are the cases' at that moment alone, and legs are looked at
with a tick.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from engine.effects import Health
from engine.inputs import Frame, FrameKind, Tick
from streams.broker import Cluster
from streams.clients import Clients
from streams.feeders import TICKER
from streams.frames import encode_frame
from streams.messages import CONTROL, topic_specs
from streams.settings import kafka_client_options, load_settings
from streams.store import committed_rows
from streams.topics_admin import create_topics
from tests import venue_cases
from tests.fault.workers import READY_TIMEOUT_S, WorkerProcess
from tests.fault.workloads import BookWorkload, Sender, until_in_cuts
from tests.patience import PATIENCE_S
from tests.venue_cases import Case

PARTITIONS = 2

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
        told = await sender.send(*market)  # all of it before a keeper begins, which takes definitions first then
    worker = WorkerProcess("worker", settings, workload.machines, tmp_path)
    try:
        async with Sender(settings) as sender:
            await until_in_cuts(settings, told, READY_TIMEOUT_S)  # a balance at a venue that is not defined yet would be refused
            accounts = [message for case in cases for message in case.accounts_messages]
            await until_in_cuts(settings, await sender.send(*accounts))
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
        rows = await committed_rows(clients, "account.health", partition)
        told |= {key.decode(): msgspec.json.decode(value, type=Health) for key, value in rows.items()}
    return told
