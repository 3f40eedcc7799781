"""Orders of a venue that has no topic yet: it is made, or those orders and their cuts wait, and nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from streams import machine, outbox
from streams.broker import Cluster
from streams.clients import Clients
from streams.machine import Phase
from streams.messages import topic_specs
from streams.outbox import Outbox, orders_spec
from streams.settings import Settings, kafka_client_options, load_settings
from streams.store import committed_rows
from streams.topics_admin import check_topics, create_topics
from streams.verdicts import TRIAL_KEY
from tests.integration.test_machine import VENUE, Log, Run, living, orders, until
from tests.patience import PATIENCE_S

GHOST = "ghost"
REFUSED = 3  # replicas of a topic, more than one broker can hold: it refuses to create it


async def prepared(kafka: Cluster, prefix: str, replication: int) -> Settings:
    settings = load_settings(environment={}, bootstrap=kafka.bootstrap, topic_prefix=prefix, ledger_partitions=1, cut_interval_ms=20)
    await create_topics(kafka_client_options(settings), topic_specs(ledger_partitions=1, attest_partitions=1, venues=[VENUE]), prefix)
    return settings.model_copy(update={"replication": replication})


@pytest.fixture
async def log(kafka: Cluster, topic_prefix: str, request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    """The ledger of workers whose topics get as many replicas as the test asks for."""
    clients = Clients(await prepared(kafka, topic_prefix, getattr(request, "param", 1)))
    producer = clients.frames_producer()
    await producer.start()
    yield Log(clients, producer)
    await producer.stop()


@pytest.fixture(autouse=True)
def retries_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "TOPIC_RETRY_S", 0.2)


async def make_topic(log: Log) -> None:
    settings = log.clients.settings.model_copy(update={"replication": 1})
    await create_topics(kafka_client_options(settings), [orders_spec(settings, GHOST)], settings.topic_prefix)


def numbers(published: list[bytes]) -> list[int]:
    """Which of the account's orders they are, in the order of their topic."""
    return [msgspec.json.decode(value)["epoch"] for value in published]


def outbox_of(run: Run) -> Outbox:
    return run.life._outbox


async def test_a_missing_topic_is_made_as_specified(log: Log) -> None:
    settings = log.clients.settings
    async with living(log) as run:
        await run.phase(Phase.RUNNING)
        await run.write_and_deliver(2, lots=1_000, venue=GHOST)
        await run.write_and_deliver(1, lots=1_000)
        await run.cut()
        await run.write_and_deliver(1, lots=1_000, venue=GHOST)
        await run.cut()
        assert outbox_of(run).aside() == {}
        assert outbox_of(run).problems() == []
    assert numbers(await orders(log.clients, GHOST)) == [1, 2, 4]
    assert numbers(await orders(log.clients)) == [3]
    assert await check_topics(kafka_client_options(settings), [orders_spec(settings, GHOST)], settings.topic_prefix) == []


@pytest.mark.parametrize("log", [REFUSED], indirect=True)
async def test_where_a_topic_is_refused_only_its_orders_and_their_cuts_wait(log: Log) -> None:
    async with living(log) as run:
        await run.phase(Phase.RUNNING)
        await run.write_and_deliver(1, lots=1_000)
        await run.cut()
        await run.write_and_deliver(2, lots=1_000, venue=GHOST)
        await until(lambda: bool(outbox_of(run).problems()))
        await run.write_and_deliver(2, lots=1_000)
        async with asyncio.timeout(PATIENCE_S):
            while numbers(await orders(log.clients)) != [1, 4, 5]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        (problem,) = outbox_of(run).problems()
        assert log.clients.name(f"orders.{GHOST}") in problem
        assert f"PLIMSOLL_VENUES={GHOST} plimsoll topics create" in problem
        assert outbox_of(run).aside() == {GHOST: 2}
        assert run.life.cut_applied == 0  # although a cut is due every 20 ms
        assert run.acknowledged == [0]
        await make_topic(log)
        await run.cut()
        assert run.acknowledged == [0, 1, 2, 3, 4]
        assert outbox_of(run).problems() == []
    assert numbers(await orders(log.clients, GHOST)) == [2, 3]


@pytest.mark.parametrize("log", [REFUSED], indirect=True)
async def test_orders_of_a_lost_partition_are_left_to_its_next_owner(log: Log) -> None:
    async with living(log) as run:
        await run.phase(Phase.RUNNING)
        await run.write_and_deliver(1, lots=1_000, venue=GHOST)
        await until(lambda: bool(outbox_of(run).problems()))
        run.living.cancel()
        await asyncio.wait([run.living])
        await run.life.close()
        await until(lambda: outbox_of(run).aside() == {})
        assert outbox_of(run).problems() == []
    await make_topic(log)
    async with living(log) as run:
        await run.phase(Phase.RUNNING)
        assert run.life.applied == -1
        assert await orders(log.clients, GHOST) == []
        run.deliver(*log.records[0])
        await run.cut()
    assert numbers(await orders(log.clients, GHOST)) == [1]


@pytest.mark.parametrize("log", [REFUSED], indirect=True)
@pytest.mark.parametrize("careful", [False, True])
async def test_a_partition_whose_cut_waits_does_not_hold_the_stream(log: Log, monkeypatch: pytest.MonkeyPatch, careful: bool) -> None:
    monkeypatch.setattr(machine, "ROOM_S", 0.05)
    monkeypatch.setattr(machine, "UNCUT_FRAMES_MAX", 3)
    async with living(log) as run:
        await run.phase(Phase.RUNNING)
        if careful:
            assert run.life._trials is not None
            run.life._trials.careful_until = 100
        applied = 0
        for offset, value in [*await log.append(1, 1_000, GHOST), *await log.append(9)]:
            async with asyncio.timeout(PATIENCE_S):
                applied += await run.life.deliver_carefully(offset, value, 0, lambda: None)
                await run.life.room()
        assert applied == (1 if careful else 4)
        assert run.life.applied == applied - 1
        seeks = len(run.watcher.seeks)
        await make_topic(log)
        await until(lambda: len(run.watcher.seeks) > seeks)
        assert run.watcher.seeks[-1] == run.life.cut_applied == applied - 1
        assert run.deliver(*log.records[applied])
    assert numbers(await orders(log.clients, GHOST)) == [1]


@pytest.mark.parametrize("log", [REFUSED], indirect=True)
async def test_a_partition_stands_until_a_cut_holds_all_that_it_applied(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ROOM_S", 0.05)
    monkeypatch.setattr(machine, "UNCUT_FRAMES_MAX", 3)
    gate = asyncio.Event()

    async def as_late(*told: Any, commit: Callable[..., Awaitable[None]]) -> None:
        await gate.wait()
        await commit(*told)

    async with living(log) as run:
        monkeypatch.setattr(run.life._writer, "commit", partial(as_late, commit=run.life._writer.commit))
        await run.phase(Phase.RUNNING)
        await until(lambda: run.life.cutting_since is not None)  # a cut that holds nothing of what is applied below
        await run.write_and_deliver(4, 1_000, GHOST)
        await run.life.room()
        gate.set()
        await until(lambda: not run.life.unproven)
        seeks = len(run.watcher.seeks)
        assert (run.life.cut_applied, run.life.applied) == (-1, 3)
        offset, value = (await log.append(1))[0]
        assert not run.deliver(offset, value)
        await make_topic(log)
        await until(lambda: len(run.watcher.seeks) > seeks)
        assert run.watcher.seeks[-1] == run.life.cut_applied == 3
        assert run.deliver(offset, value)


async def test_one_frame_is_on_trial_at_a_time(log: Log) -> None:
    async with living(log) as run:
        await run.phase(Phase.RUNNING)
        assert run.life._trials is not None
        run.life._trials.careful_until = 100
        (first,), (second,) = await log.append(1), await log.append(1)
        async with run.watcher.trial:  # of another partition
            delivery = asyncio.create_task(run.life.deliver_carefully(*first, 0, lambda: None))
            await asyncio.sleep(0.1)
            assert run.life.applied == -1
            assert TRIAL_KEY not in await committed_rows(log.clients, "ledger.rows", 0, shell_rows=True)
        assert await delivery
        assert run.life.applied == 0
        async with run.watcher.trial:
            delivery = asyncio.create_task(run.life.deliver_carefully(*second, 0, lambda: None))
            await asyncio.sleep(0)
            await run.life.close()
        assert not await delivery  # lost while it waited
        assert run.life.applied == 0
