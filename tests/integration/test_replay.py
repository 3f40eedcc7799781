"""The replay finds what was tampered with: orders forged, altered or missing, and cuts that are not the state of their log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from typer.testing import CliRunner

from engine.effects import Order
from engine.machine import CUT_KEY, CutRecord
from streams import replay
from streams.broker import Cluster
from streams.clients import Clients
from streams.frames import decode_frame, encode_frame
from streams.messages import encode_effect, topic_specs
from streams.replay import ReplayReport, replay_ledger
from streams.settings import Settings, kafka_client_options, load_settings
from streams.topics_admin import create_topics
from tests.integration.test_machine import VENUE, one_fill
from tests.toy import Toy, machines

MACHINES = "tests.toy:machines"
FRAMES = 20
Rows = list[tuple[bytes, bytes | None]]


class Told:
    """What a run has on the bus: orders, and the rows of its cuts; to be altered before it is written."""

    def __init__(self) -> None:
        self.frames = [encode_frame(one_fill(number, 300)) for number in range(FRAMES)]
        self.orders: list[Order] = []
        self.rows: Rows = []
        toy = Toy(0)
        for offset, value in enumerate(self.frames):
            self.orders += [effect for effect in toy.apply(offset, decode_frame(value)).now if isinstance(effect, Order)]
            if offset % 5 == 4:
                self.rows += toy.take_cut().rows

    async def write(self, settings: Settings) -> None:
        clients = Clients(settings)
        async with AIOKafkaProducer(**kafka_client_options(settings)) as producer:
            for value in self.frames:
                await producer.send_and_wait(clients.name("ledger"), value, partition=0)
            for order in self.orders:
                topic, key, value = encode_effect(order)
                await producer.send_and_wait(clients.name(topic), value, key)
            for key, row in self.rows:
                await producer.send_and_wait(clients.name("ledger.rows"), row, key, partition=0)


@pytest.fixture
async def settings(kafka: Cluster, topic_prefix: str) -> Settings:
    found = load_settings(environment={}, bootstrap=kafka.bootstrap, topic_prefix=topic_prefix, ledger_partitions=1)
    await create_topics(kafka_client_options(found), topic_specs(ledger_partitions=1, attest_partitions=1, venues=[VENUE]), topic_prefix)
    return found


@pytest.fixture(autouse=True)
def looks_again_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "LOOK_AGAIN_S", 1.0)
    monkeypatch.setattr(replay, "LOOK_PAUSE_S", 0.1)


class Going:
    """A run that goes on: frame by frame its orders, and a cut after each fifth."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer) -> None:
        self.clients = Clients(settings)
        self.producer = producer
        self.toy = Toy(0)

    async def go_on(self, frames: int, unpublished: int = -1) -> list[str]:
        """Returns the ids of the orders decided; the one numbered `unpublished` is left out of its topic."""
        decided: list[str] = []
        for _ in range(frames):
            number = self.toy.applied + 1
            value = encode_frame(one_fill(number, 700))
            await self.producer.send_and_wait(self.clients.name("ledger"), value, partition=0)
            for order in self.toy.apply(number, decode_frame(value)).now:
                assert isinstance(order, Order)
                topic, key, record = encode_effect(order)
                if len(decided) != unpublished:
                    await self.producer.send_and_wait(self.clients.name(topic), record, key)
                decided.append(order.order_id)
            if number % 5 == 4:
                for key, row in self.toy.take_cut().rows:
                    await self.producer.send_and_wait(self.clients.name("ledger.rows"), row, key, partition=0)
        return decided


@pytest.fixture
async def going(settings: Settings) -> AsyncIterator[Going]:
    async with AIOKafkaProducer(**kafka_client_options(settings)) as producer:
        yield Going(settings, producer)


@pytest.mark.parametrize("unpublished", [-1, 3])
async def test_what_goes_on_after_the_ends_were_taken(
    settings: Settings, going: Going, monkeypatch: pytest.MonkeyPatch, unpublished: int
) -> None:
    """Orders that cuts cover, but that were published late, are looked for again; only one that never comes is missing."""
    before = await going.go_on(10)
    ends_of = replay._orders_ends
    later: list[str] = []

    async def then_it_goes_on(clients: Clients) -> dict[TopicPartition, int]:
        ends = await ends_of(clients)
        if not later:
            later.extend(await going.go_on(10, unpublished))
        return ends

    monkeypatch.setattr(replay, "_orders_ends", then_it_goes_on)
    report = await replay_ledger(settings, machines=MACHINES, all_cuts_restored=True)
    missing = [later[unpublished]] if unpublished >= 0 else []
    assert [text.split()[1] for text in report.differences] == missing
    assert report.cuts_checked == 4
    assert report.orders == len(before) + len(later)
    assert report.distinct == report.published == report.orders - len(missing)


async def test_a_run_that_never_stands_still_has_no_difference(settings: Settings, going: Going) -> None:
    await going.go_on(20)
    running = asyncio.create_task(going.go_on(100_000))
    for _ in range(3):
        before = going.toy.applied
        report = await replay_ledger(settings, machines=MACHINES)
        assert report.differences == []
        assert report.frames >= before
        assert going.toy.applied > before
    running.cancel()
    await asyncio.wait([running])


async def test_orders_beyond_a_broken_log_are_not_called_forged(settings: Settings) -> None:
    told = Told()
    told.frames[10] = b"no frame"
    report = await replayed(told, settings)
    assert "record 10 is unusable" in report.differences[0]
    assert [text for text in report.differences if "no log asks for it" in text] == []


async def replayed(told: Told, settings: Settings) -> ReplayReport:
    await told.write(settings)
    return await replay_ledger(settings, machines=MACHINES, all_cuts_restored=True)


async def test_a_true_run_has_no_difference(settings: Settings) -> None:
    told = Told()
    told.orders.append(told.orders[0])  # twice with the same bytes is allowed
    report = await replayed(told, settings)
    assert report.differences == []
    assert (report.orders, report.published, report.distinct, report.repeated, report.conflicting) == (6, 7, 6, 1, 0)
    assert (report.frames, report.events, report.cuts_checked, report.cuts_restored) == (FRAMES, FRAMES, 4, 4)


async def test_an_order_that_no_log_asks_for(settings: Settings) -> None:
    told = Told()
    told.orders.append(msgspec.structs.replace(told.orders[0], order_id="forged"))
    report = await replayed(told, settings)
    assert [text for text in report.differences if "order forged was published, but no log asks for it" in text]
    assert report.difference_count == 1


async def test_an_order_with_two_contents(settings: Settings) -> None:
    told = Told()
    told.orders.append(msgspec.structs.replace(told.orders[2], lots=-1))
    report = await replayed(told, settings)
    assert report.conflicting == 1
    assert "two contents" in report.differences[0]


async def test_an_order_with_one_other_byte(settings: Settings) -> None:
    told = Told()
    told.orders[3] = msgspec.structs.replace(told.orders[3], limit_ticks=1)
    report = await replayed(told, settings)
    assert report.difference_count == 1
    assert f"order {told.orders[3].order_id}" in report.differences[0]
    assert "was published as" in report.differences[0]


async def test_an_order_that_was_never_published(settings: Settings) -> None:
    told = Told()
    missing = told.orders.pop(1)
    report = await replayed(told, settings)
    assert report.difference_count == 1
    assert f"order {missing.order_id} of book[0] record" in report.differences[0]
    assert "was never published" in report.differences[0]


async def test_orders_after_the_last_cut_may_be_missing(settings: Settings) -> None:
    told = Told()
    told.frames += [encode_frame(one_fill(FRAMES + number, 300)) for number in range(5)]
    report = await replayed(told, settings)
    assert report.orders > report.distinct
    assert report.differences == []


@pytest.mark.parametrize("field", ["digest", "clock_ns", "sources", "rows"])
async def test_a_cut_that_is_not_the_state_of_its_log(settings: Settings, field: str) -> None:
    told = Told()
    place = next(index for index, (key, _) in enumerate(told.rows) if key == CUT_KEY)
    value = told.rows[place][1]
    assert value is not None
    other = {"digest": bytes(16), "clock_ns": 7, "sources": [("venue.fills", 0, 3)], "rows": 2}[field]
    altered = msgspec.structs.replace(msgspec.msgpack.decode(value, type=CutRecord), **{field: other})
    told.rows[place] = (CUT_KEY, msgspec.msgpack.encode(altered))
    report = await replayed(told, settings)
    assert f"the cut at 4 is not the state of its log there: {field} differ" in report.differences[0]


async def test_rows_that_are_not_those_of_their_cut(settings: Settings) -> None:
    told = Told()
    key, _ = told.rows[0]
    told.rows[0] = (key, msgspec.msgpack.encode((1, 1, 1)))
    report = await replayed(told, settings)
    assert ["cannot be loaded" in text for text in report.differences] == [True]


async def test_a_cut_of_somebody_who_was_no_longer_the_owner(settings: Settings) -> None:
    told = Told()
    ends = [index for index, (key, _) in enumerate(told.rows) if key == CUT_KEY]
    told.rows += told.rows[ends[0] + 1 : ends[1] + 1]  # the second cut once more, after the last
    report = await replayed(told, settings)
    assert "the cut at 9 was committed after the one at 19" in report.differences[0]


async def test_one_partition_alone(settings: Settings) -> None:
    await Told().write(settings)
    report = await replay_ledger(settings, machines=MACHINES, partition=0)
    assert report.differences == []
    assert report.orders == report.distinct == 6


async def test_the_command_ends_with_1_at_a_difference(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from streams.command_line import app

    told = Told()
    told.orders.append(msgspec.structs.replace(told.orders[0], order_id="forged"))
    await told.write(settings)
    monkeypatch.setattr(replay, "load_roster", lambda settings, _: machines(settings))
    monkeypatch.setenv("PLIMSOLL_BOOTSTRAP", settings.bootstrap)
    monkeypatch.setenv("PLIMSOLL_TOPIC_PREFIX", settings.topic_prefix)
    monkeypatch.setenv("PLIMSOLL_LEDGER_PARTITIONS", "1")
    result = await asyncio.to_thread(CliRunner().invoke, app, ["replay", "--ledger"])
    assert result.exit_code == 1
    assert "order forged was published, but no log asks for it" in result.output
