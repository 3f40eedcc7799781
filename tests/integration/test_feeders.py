"""Feeders on a real broker: they wait for their machine and its clock, and stop where a source is no longer what was applied."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaError

from engine.inputs import AssetDefinition, FrameKind, OraclePrice, RiskParameters, SetMode
from streams import feeders
from streams.broker import Cluster
from streams.clients import Clients, bounds, scan
from streams.feeders import FIRST, Bus, ControlCopier, ControlKeeper, SourceFeeder, SourceLost, _feed_forever
from streams.frames import decode_frame
from streams.machine import Phase
from streams.messages import CONTROL, encode_source, topic_specs
from streams.metrics import Metrics
from streams.settings import kafka_client_options, load_settings
from streams.topics_admin import create_topics
from tests.integration.test_machine import until
from tests.toy import machines

SECOND_NS = 1_000_000_000


class Standing:
    """A partition that applies nothing by itself: a test says how far it is."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.partition = 0
        self.phase = Phase.RUNNING
        self.applied = -1
        self.machine = SimpleNamespace(clock_ns=0, source_applied=lambda source, _: self.sources.get(source, -1))
        self.sources: dict[str, int] = {}
        self.appends: list[int] = []
        self.why_halted = ""

    def appended(self, offset: int, _: int) -> None:
        self.appends.append(offset)

    def halt(self, why: str) -> None:
        self.why_halted = why


@pytest.fixture
async def bus(kafka: Cluster, topic_prefix: str) -> AsyncIterator[Bus]:
    settings = load_settings(environment={}, bootstrap=kafka.bootstrap, topic_prefix=topic_prefix, ledger_partitions=1)
    await create_topics(kafka_client_options(settings), topic_specs(ledger_partitions=1, attest_partitions=1, venues=[]), topic_prefix)
    clients = Clients(settings)
    frames, outputs = clients.frames_producer(), clients.outputs_producer()
    await frames.start()
    await outputs.start()
    yield Bus(clients, frames, outputs, Metrics())
    await frames.stop()
    await outputs.stop()


def standing(bus: Bus, index: int = 0) -> Any:
    return Standing(machines(bus.clients.settings)[index])


async def running(task: asyncio.Task[None], holds: Callable[[], bool]) -> None:
    """Wait until `holds`, while the feeder lives."""
    await until(lambda: task.done() or holds())
    if task.done():
        task.result()


async def ended(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def framed(bus: Bus) -> list[FrameKind]:
    """Kinds of the frames in control."""
    where = bus.clients.partition(CONTROL, 0)
    async with bus.clients.reading(where) as consumer:
        return [decode_frame(record.value).kind async for some in scan(consumer, where, *await bounds(consumer, where)) for record in some]


async def test_control_is_copied_no_further_ahead_than_its_machine_can_follow(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeders, "COPIES_MAX", 20)
    monkeypatch.setattr(feeders, "AHEAD_FRAMES_MAX", 5)
    for _ in range(100):
        await bus.frames.send(bus.clients.name(CONTROL), b"a frame that nobody reads here", partition=0)
    await bus.frames.flush()
    life = standing(bus)
    copying = asyncio.create_task(ControlCopier(life, bus).run())
    rounds = 0
    while len(life.appends) < 100:
        before = len(life.appends)
        await running(copying, lambda before=before: len(life.appends) > before)  # type: ignore[misc]
        await asyncio.sleep(0.3)  # in which it would copy all the rest
        assert len(life.appends) - 1 - life.applied <= 20 + 5
        life.applied = len(life.appends) - 1
        rounds += 1
    assert rounds >= 4
    assert life.appends == list(range(100))
    await ended(copying)


@pytest.mark.parametrize("feeder", [SourceFeeder, ControlCopier])
async def test_a_source_that_ends_before_what_was_applied_halts_its_partition(bus: Bus, feeder: type[SourceFeeder | ControlCopier]) -> None:
    life = standing(bus)
    source = "venue.fills" if feeder is SourceFeeder else CONTROL
    life.sources[source] = 41
    await feeder(life, bus).run()
    assert f"{bus.clients.name(source)}/0 ends at 0, but 41 was applied" in life.why_halted
    assert "recreated or cut short" in life.why_halted


async def test_the_market_waits_for_the_clock_and_commands_do_not(bus: Bus) -> None:
    life = standing(bus, 1)
    life.machine.clock_ns = time.time_ns() - 10 * SECOND_NS
    feeding = asyncio.create_task(ControlKeeper(life, bus)._market())
    now_ns = time.time_ns()
    price = OraclePrice(v=1, asset="BTC", source="a", price=1.0, publish_time_ns=now_ns)
    command = SetMode(v=1, by="somebody", note="", time_ns=now_ns, mode="observe")
    for message in (price, command):
        topic, key, value = encode_source(message)
        await bus.outputs.send_and_wait(bus.clients.name(topic), value, key)

    def taken(topic: str) -> float:
        return bus.metrics.registry.get_sample_value("plimsoll_events_in_total", {"topic": topic}) or 0.0

    await running(feeding, lambda: taken("operator.commands") == 1)
    await asyncio.sleep(1.0)
    assert await framed(bus) == [FrameKind.COMMANDS]
    life.machine.clock_ns = time.time_ns() + 3600 * SECOND_NS
    await running(feeding, lambda: taken("oracle.prices") == 1)
    await ended(feeding)
    assert await framed(bus) == [FrameKind.COMMANDS, FrameKind.PRICES]


async def test_what_is_defined_goes_before_what_names_it(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Clients.consumer

    def late(clients: Clients, *options: Any, **named: Any) -> Any:
        """A consumer that is answered by the definitions' leader only when it asks for nothing else."""
        consumer = made(clients, *options, **named)
        ask = consumer.getmany

        async def getmany(*asked: Any, **how: Any) -> Any:
            return await ask(*(asked or [where for where in consumer.assignment() if not where.topic.endswith(FIRST)]), **how)

        monkeypatch.setattr(consumer, "getmany", getmany)
        return consumer

    monkeypatch.setattr(Clients, "consumer", late)
    now_ns = time.time_ns()
    price = OraclePrice(v=1, asset="BTC", source="a", price=1.0, publish_time_ns=now_ns)
    asset = AssetDefinition(v=1, name="BTC", asset_class="major", sources={"a": 1.0}, time_ns=now_ns)
    parameters = RiskParameters(v=1, version="v1", parameters={}, time_ns=now_ns)
    for message in (price, parameters, asset):
        topic, key, value = encode_source(message)
        await bus.outputs.send_and_wait(bus.clients.name(topic), value, key)
    life = standing(bus, 1)
    life.machine.clock_ns = now_ns + 3600 * SECOND_NS
    feeding = asyncio.create_task(ControlKeeper(life, bus)._market())
    await running(feeding, lambda: bus.metrics.registry.get_sample_value("plimsoll_events_in_total", {"topic": "oracle.prices"}) == 1)
    await ended(feeding)
    kinds = await framed(bus)
    assert sorted(kinds[:2]) == [FrameKind.DEFINITIONS, FrameKind.PARAMETERS]
    assert kinds[2:] == [FrameKind.PRICES]


async def test_how_far_a_source_is_behind_is_told_while_its_feeder_runs(bus: Bus) -> None:
    life = standing(bus)
    life.machine.clock_ns = 1  # stands: records are fetched, and wait
    feeding = asyncio.create_task(SourceFeeder(life, bus).run())
    for _ in range(3):
        await bus.outputs.send_and_wait(bus.clients.name("venue.fills"), b"{", b"someone", partition=0)

    def lag() -> float | None:
        return bus.metrics.registry.get_sample_value("plimsoll_source_lag_records", {"topic": "venue.fills", "partition": "0"})

    await running(feeding, lambda: lag() in {1, 2, 3})
    life.machine.clock_ns = time.time_ns() + 3600 * SECOND_NS
    await running(feeding, lambda: lag() == 0)
    await ended(feeding)
    assert lag() is None


async def test_a_feeder_that_begins_again_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeders, "RETRY_S", 0.01)
    metrics = Metrics()
    life: Any = Standing(None)
    faults: list[Exception] = [KafkaError("once"), OSError("twice"), SourceLost("gone")]

    async def feed() -> None:
        raise faults.pop(0)

    await _feed_forever("sources", feed, life, metrics)
    assert metrics.registry.get_sample_value("plimsoll_feeder_restarts_total", {"feeder": "sources"}) == 2
    assert life.why_halted == "gone"
