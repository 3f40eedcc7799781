"""`plimsoll tail` on a real broker: every topic of the table, the newest or all, by key and partition, followed, piped and interrupted."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner, Result

from engine.attestor import Attestor
from engine.inputs import Frame, FrameKind, Tick
from engine.machine import Machine
from engine.monitor import Book
from engine.reasons import Refusal
from engine.treasury import Treasury
from streams.broker import Cluster
from streams.clients import Clients
from streams.command_line import FAULT, app
from streams.frames import encode_frame
from streams.messages import TOPICS, dead_letter, encode_effect, encode_source, partition_of, topic_specs
from streams.settings import Settings, kafka_client_options, load_settings
from streams.topics_admin import create_topics
from tests import samples
from tests.patience import PATIENCE_S

VENUES = ["binance", "moon"]
PARTITIONS = 4
DEPTHS = 3_000  # more than a pipe holds
MACHINES: dict[str, Machine] = {
    "ledger": Book(0, PARTITIONS),
    "attest.ledger": Attestor(0, PARTITIONS),
    "treasury.ledger": Treasury(PARTITIONS),
}
SAID = {  # something true of each topic's record
    "oracle.prices": "price 0.65",
    "market.depth": "depth 12,000,000.00 USD",
    "market.volatility": "sigma 0.82",
    "market.funding": "value -0.0004",
    "market.instruments": "contract perpetual",
    "risk.parameters": "parameters {quorum 2",
    "operator.commands": "mode publish",
    "chain.heartbeats": "height 36,600,000",
    "chain.attestations": "asset USDC, lots 5",
    "venue.fills": "lots -25, price 1,213,205 ticks",
    "account.snapshots": "positions [{instrument BTC-PERP, lots -25",
    "account.orders": "positions [{instrument BTC-PERP, buy_lots 40",
    "order.reports": "status filled",
    "control": "TICK of ticker/0 (-1, 0], 1 events; time 2025-10-10 21:00:00.000 UTC",
    "ledger": "copy of control@0 (after -1): TICK of ticker/0",
    "attest.ledger": "copy of control@0 (after -1): TICK of ticker/0",
    "treasury.ledger": "copy of control@0 (after -1): TICK of ticker/0",
    "ledger.rows": "cut: engine_version 1, applied 0, clock 2025-10-10 21:00:00.000 UTC",
    "attest.rows": "cut: engine_version 1, applied 0, clock 2025-10-10 21:00:00.000 UTC",
    "treasury.rows": "cut: engine_version 1, applied 0, clock 2025-10-10 21:00:00.000 UTC",
    "treasury.partials": "spent {BTC 1,500,000.00 USD}",
    "orders.<venue>": "limit 1,250,000 ticks",
    "margin.calls": "shortfall 765.50 USD",
    "account.health": "equity 1,234.50 USD",
    "risk.breakers": "trigger asset_move",
    "risk.marks": "mark 1.00 USD",
    "risk.chains": "finality 12 s",
    "risk.leverage": "encumbrance_multiple 1.333333333",
    "pipeline.status": "owner host:4711",
    "audit.decisions": "outcome no_plan",
    "<topic>.dlq": 'raw {"lots": 2.5',
}


@pytest.fixture(scope="module")
def settings(kafka: Cluster) -> Settings:
    """Topics that hold a sample of everything."""
    found = load_settings(environment={}, bootstrap=kafka.bootstrap, topic_prefix=f"tail-{os.getpid()}.", venues=",".join(VENUES))
    asyncio.run(record(found))
    return found


async def record(settings: Settings) -> None:
    specs = topic_specs(ledger_partitions=PARTITIONS, attest_partitions=2, venues=VENUES)
    await create_topics(kafka_client_options(settings), specs, settings.topic_prefix)
    clients = Clients(settings)
    told: list[tuple[str, bytes | None, bytes | None]] = [encode_source(message) for message in samples.SOURCE_MESSAGES]
    told += [encode_effect(effect) for effect in samples.OUTPUT_MESSAGES]
    told += [encode_effect(dead_letter("venue.fills", 0, 3, b"ann", b'{"lots": 2.5\x1b[2J', Refusal.BAD_JSON, "not JSON"))]
    tick = Frame(FrameKind.TICK, "ticker", 0, -1, 0, [Tick(samples.NOW_NS)], [0])
    copied = Frame(FrameKind.CONTROL, "control", 0, -1, 0, [tick], [0])
    told += [("control", None, encode_frame(tick))]
    for log, machine in MACHINES.items():
        machine.apply(0, copied)
        told += [(log, None, encode_frame(copied))]
        told += [(f"{log.removesuffix('.ledger')}.rows", key, value) for key, value in machine.take_cut().rows]
    async with AIOKafkaProducer(**kafka_client_options(settings)) as producer:
        for topic, key, value in told:
            await producer.send(clients.name(topic), value, key)
        await producer.send(clients.name("account.health"), None, b"gone")
        await producer.send(clients.name("venue.fills"), b"\x00\xffjunk\x9b", b"\x1b]0;owned\x07")
    async with AIOKafkaProducer(transactional_id=f"{settings.topic_prefix}t", **kafka_client_options(settings)) as producer:
        for ends in (producer.commit_transaction, producer.abort_transaction):
            await producer.begin_transaction()
            verdict = b"kept" if ends == producer.commit_transaction else b"never said"
            await producer.send_and_wait(clients.name("margin.calls"), b'{"account": "bob"}', verdict, partition=0)
            await ends()


def command(settings: Settings, *arguments: str) -> tuple[list[str], dict[str, str]]:
    environment = {"PLIMSOLL_BOOTSTRAP": settings.bootstrap, "PLIMSOLL_TOPIC_PREFIX": settings.topic_prefix}
    return ["tail", *arguments], environment


def tail(settings: Settings, *arguments: str) -> Result:
    words, environment = command(settings, *arguments)
    return CliRunner().invoke(app, words, env=environment)


def lines(settings: Settings, *arguments: str) -> list[str]:
    result = tail(settings, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


@pytest.mark.parametrize("topic", [topic.name for topic in TOPICS])
def test_every_topic_is_told_truly_and_nothing_in_it_is_unreadable(settings: Settings, topic: str) -> None:
    name = topic.replace("<venue>", "binance").replace("<topic>", "venue.fills")
    told = lines(settings, name, "--from-beginning")
    assert [text for text in told if SAID[topic] in text], told
    assert all(text.isprintable() for text in told)
    unreadable = [text for text in told if "unreadable" in text]
    assert len(unreadable) == (1 if topic == "venue.fills" else 0), unreadable
    as_json = [json.loads(text) for text in lines(settings, name, "--from-beginning", "--json")]
    assert [f"{entry['topic']}/{entry['partition']}@{entry['offset']}" for entry in as_json] == [text.split("  ")[1] for text in told]


def test_tombstones_and_other_peoples_bytes_are_told(settings: Settings) -> None:
    assert [text.split("  ")[2:] for text in lines(settings, "account.health", "--key", "gone")] == [["gone", "deleted"]]
    (junk,) = [text for text in lines(settings, "venue.fills") if "unreadable" in text]
    assert "  \\x1b]0;owned\\x07  unreadable (" in junk
    assert junk.endswith("7 bytes, 00ff6a756e6b9b")


def test_only_what_was_committed_is_said(settings: Settings) -> None:
    said = lines(settings, "margin.calls", "--partition", "0", "--last", "1")
    assert [text.split("  ")[2] for text in said] == ["kept"], "the newest committed record, behind it markers and an aborted one"
    assert not [text for text in lines(settings, "margin.calls", "--from-beginning") if "never said" in text]


@pytest.fixture(scope="module")
def many(settings: Settings) -> list[int]:
    """Thousands of depths, each tenth of BTC; the numbers of BTC's."""
    clients = Clients(settings)

    async def send() -> None:
        async with AIOKafkaProducer(linger_ms=5, **kafka_client_options(settings)) as producer:
            for number in range(DEPTHS):
                value = msgspec.json.encode({"number": number, "padding": "x" * 50})
                await producer.send(clients.name("market.depth"), value, b"ETH" if number % 10 else b"BTC")

    asyncio.run(send())
    return list(range(0, DEPTHS, 10))


def test_the_newest_by_number_and_by_key(settings: Settings, many: list[int]) -> None:
    assert len(lines(settings, "market.depth")) == 10
    newest = [json.loads(text)["value"]["number"] for text in lines(settings, "market.depth", "--last", "3", "--json")]
    assert newest == [DEPTHS - 3, DEPTHS - 2, DEPTHS - 1]
    of_key = [json.loads(text)["value"]["number"] for text in lines(settings, "market.depth", "--last", "5", "--key", "BTC", "--json")]
    assert of_key == many[-5:]
    assert len(lines(settings, "market.depth", "--from-beginning", "--key", "BTC")) == len(many) + 1, "the sample has that key, too"
    assert lines(settings, "market.depth", "--last", "0") == []


def test_orders_are_those_of_all_venues(settings: Settings) -> None:
    (order,) = [effect for effect in samples.OUTPUT_MESSAGES if type(effect).__name__ == "Order"]
    elsewhere = msgspec.structs.replace(order, venue="moon", account="bob")
    send(settings, *encode_effect(elsewhere))
    told = lines(settings, "orders")
    assert [("orders.binance/" in text, "orders.moon/" in text) for text in told] == [(True, False), (False, True)]
    assert lines(settings, "orders", "--partition", str(partition_of(b"bob", PARTITIONS)), "--key", "bob") == told[1:]


def send(settings: Settings, topic: str, key: bytes, value: bytes) -> None:
    async def sent() -> None:
        async with AIOKafkaProducer(**kafka_client_options(settings)) as producer:
            await producer.send_and_wait(Clients(settings).name(topic), value, key)

    asyncio.run(sent())


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("venue.fill",), "there is no topic 'venue.fill'; did you mean venue.fills"),
        (("zzz",), "There are: account.health, "),
        (("orders.mars",), "orders.mars is not there: run `plimsoll topics create`"),
        (("ledger", "--partition", "9"), "ledger has no partition 9: take one from 0 to 3"),
        (("ledger", "--from-beginning", "--last", "3"), "not both"),
        (("ledger", "--last", "1000000"), "the newest 100,000 records at most"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(settings: Settings, arguments: tuple[str, ...], why: str) -> None:
    result = tail(settings, *arguments)
    assert result.exit_code == FAULT
    assert why in result.output


def test_a_cluster_that_is_not_there(settings: Settings) -> None:
    words, environment = command(settings, "ledger")
    result = CliRunner().invoke(app, words, env={**environment, "PLIMSOLL_BOOTSTRAP": "127.0.0.1:1"})
    assert result.exit_code == FAULT
    assert "127.0.0.1:1" in result.output


# ---- as a process ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def started(settings: Settings) -> Iterator[Any]:
    """Starts a tail whose output is a pipe; ends it where the test has not."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        words, environment = command(settings, *arguments)
        running.append(
            subprocess.Popen(
                [sys.executable, "-m", "streams.command_line", *words],
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_a_reader_that_leaves_ends_it_without_a_word(settings: Settings, many: list[int], started: Any) -> None:
    process = started("market.depth", "--from-beginning")
    assert process.stdout.readline().startswith("2025-10-10 21:00")
    process.stdout.close()
    assert process.wait(PATIENCE_S) == 0
    assert process.stderr.read() == ""


def test_following_goes_on_with_each_record_and_ends_at_an_interrupt(settings: Settings, started: Any) -> None:
    process = started("order.reports", "-f", "--last", "1")
    assert "status filled" in process.stdout.readline()
    (report,) = [message for message in samples.SOURCE_MESSAGES if type(message).__name__ == "OrderReport"]
    for order in ("o-2", "o-3"):
        send(settings, *encode_source(msgspec.structs.replace(report, order_id=order)))
        assert f"order_id {order}" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 0
    assert process.stderr.read() == ""
