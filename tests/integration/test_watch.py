"""A watch on a real broker: what was there, what comes later, topics that are made while it looks, and nothing of aborted transactions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from engine.effects import Output
from streams.broker import Cluster
from streams.clients import Clients
from streams.messages import encode_effect, topic_specs
from streams.settings import Settings, kafka_client_options
from streams.topics_admin import create_topics
from streams.watch import Watch
from tests.patience import PATIENCE_S
from tests.settled import settled
from tests.unit.test_view import health, order, status


async def make_topics(settings: Settings, *venues: str) -> None:
    specs = topic_specs(ledger_partitions=settings.ledger_partitions, attest_partitions=settings.attest_partitions, venues=venues)
    await create_topics(kafka_client_options(settings), specs, settings.topic_prefix)


async def publish(clients: Clients, *records: Output, commit: bool = True) -> None:
    """In one transaction; returns when readers see that it has ended."""
    producer = clients.cut_producer(f"{clients.settings.group}-a-cut")
    await producer.start()
    written = []
    try:
        await producer.begin_transaction()
        for record in records:
            topic, key, value = encode_effect(record)  # type: ignore[arg-type]
            written.append((topic, await producer.send_and_wait(clients.name(topic), value, key)))
        await (producer.commit_transaction() if commit else producer.abort_transaction())
    finally:
        await producer.stop()
    await settled(clients, *{clients.partition(topic, told.partition) for topic, told in written})


@pytest.fixture
async def watch(kafka: Cluster, kafka_settings: Settings) -> AsyncIterator[Watch]:
    watch = Watch(Clients(kafka_settings))
    yield watch
    await watch.stop()


async def test_a_watch_sees_what_was_committed_and_what_comes_later(watch: Watch, kafka_settings: Settings) -> None:
    clients = Clients(kafka_settings)
    await make_topics(kafka_settings, "binance")
    await publish(clients, *(health(f"a{k}", "HEALTHY", 20.0, 10.0) for k in range(1_500)), status("book", 0))
    await publish(clients, health("never", "BANKRUPT", -1.0, 1.0), commit=False)
    await watch.start()
    await watch.caught_up()
    view = watch.view
    assert len(view.accounts) == view.states()["HEALTHY"] == 1_500
    assert [one.owner for one in view.pipeline()] == ["host:1"]
    assert (watch.problem, watch.behind()) == ("", 0)

    await publish(clients, health("a7", "LIQUIDATABLE", 1.0, 10.0, clock_s=9), order("x"))
    await watch.caught_up()
    assert [one.account for one in view.worst(1)] == ["a7"]
    assert [line.order_id for line, _ in view.orders(9)] == ["x"]

    await make_topics(kafka_settings, "binance", "okx")  # as an outbox does at a venue's first order
    await publish(clients, order("y"), health("a8", "WARNING", 11.0, 10.0))
    producer = clients.outputs_producer()
    await producer.start()
    _, key, value = encode_effect(order("z", decided_s=9))
    await producer.send_and_wait(clients.name("orders.okx"), value, key)
    await producer.stop()
    async with asyncio.timeout(PATIENCE_S):
        while len(view.orders(9)) < 3:
            await watch.changed(1.0)
    await watch.caught_up()
    assert [line.order_id for line, _ in view.orders(9)] == ["z", "y", "x"]
    assert view.states() == {"HEALTHY": 1_498, "WARNING": 1, "LIQUIDATABLE": 1, "BANKRUPT": 0, "UNKNOWN": 0}, "nothing was read twice"
    assert view.unreadable == {}


async def test_a_watch_waits_for_topics_and_says_so(watch: Watch, kafka_settings: Settings) -> None:
    await watch.start()
    async with asyncio.timeout(PATIENCE_S):
        while not watch.problem:
            await watch.changed(0.1)
    assert "plimsoll topics create" in watch.problem
    await make_topics(kafka_settings)
    await publish(Clients(kafka_settings), health("a", "HEALTHY", 20.0, 10.0))
    async with asyncio.timeout(PATIENCE_S):
        while not watch.view.accounts:
            await watch.changed(0.5)
    assert watch.problem == ""
