"""`plimsoll replay --ledger --every` as a process: a true run, one that was tampered with, no cluster, and a good end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner

from engine.effects import Order
from engine.monitor import Book
from streams.broker import Cluster
from streams.clients import Clients
from streams.command_line import FAULT, app
from streams.frames import decode_frame, encode_frame
from streams.messages import encode_effect, topic_specs
from streams.settings import Settings, kafka_client_options, load_settings
from streams.topics_admin import create_topics
from tests.patience import PATIENCE_S
from tests.small_world import Log


class Watching:
    """The command, and what it tells."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.log = folder / "replay.log"
        command = [sys.executable, "-m", "streams.command_line", "replay", "--ledger", "--every", "1", "--metrics-port", "0"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log)

    def told(self) -> dict[str, float]:
        """Its metrics by name; none while it starts."""
        assert self.process.poll() is None, self.log.read_text()
        address = re.search(r"metrics at (http://127\.0\.0\.1:\d+/metrics)", self.log.read_text())
        if address is None:
            return {}
        with urllib.request.urlopen(address[1], timeout=PATIENCE_S) as answer:
            lines = [line.rpartition(" ") for line in answer.read().decode().splitlines() if not line.startswith("#")]
        return {name.removeprefix("plimsoll_replay_"): float(value) for name, _, value in lines}

    def until(self, is_so: Callable[[dict[str, float]], bool]) -> dict[str, float]:
        ends = time.monotonic() + PATIENCE_S
        while not is_so(told := self.told()):
            assert time.monotonic() < ends, (told, self.log.read_text())
            time.sleep(0.1)
        return told


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Watching]]:
    running: list[Watching] = []

    def start(**environment: str) -> Watching:
        running.append(Watching(tmp_path, **environment))
        return running[-1]

    yield start
    for watching in running:
        watching.process.kill()
        watching.process.wait()


def crash() -> tuple[list[bytes], list[Order], list[tuple[bytes, bytes | None]]]:
    """The log, the orders and the rows of a book in which an account sinks."""
    log = Log(Book(0, 1))
    log.open()
    log.deposit("ann", 15_000.0)
    log.trade("ann", "ex", "BTC-PERP", 1_000, 100_000)
    log.tick(1.0)
    log.prices({"BTC": 90_000.0})
    frames = [encode_frame(frame) for frame in log.frames]
    book = Book(0, 1)  # fed from the bytes, as a worker's is
    effects = [effect for offset, frame in enumerate(frames) for effect in book.apply(offset, decode_frame(frame)).now]
    orders = [effect for effect in effects if isinstance(effect, Order)]
    assert orders
    return frames, orders, book.take_cut().rows


async def test_differences_are_told_as_they_come(kafka: Cluster, topic_prefix: str, started: Callable[..., Watching]) -> None:
    settings = load_settings(environment={}, bootstrap=kafka.bootstrap, topic_prefix=topic_prefix, ledger_partitions=1, attest_partitions=1)
    specs = topic_specs(ledger_partitions=1, attest_partitions=1, venues=["ex", "sx"])
    await create_topics(kafka_client_options(settings), specs, topic_prefix)
    frames, orders, rows = crash()
    await publish(settings, *(("ledger", None, frame) for frame in frames))
    await publish(settings, *(encode_effect(order) for order in orders))
    await publish(settings, *(("ledger.rows", key, value) for key, value in rows))

    one_each = {"PLIMSOLL_LEDGER_PARTITIONS": "1", "PLIMSOLL_ATTEST_PARTITIONS": "1"}
    watching = started(PLIMSOLL_BOOTSTRAP=kafka.bootstrap, PLIMSOLL_TOPIC_PREFIX=topic_prefix, **one_each)
    told = watching.until(lambda told: told.get("last_success_timestamp_seconds", 0) > 0)
    assert (told["differences"], told["orders"], told["failures_total"]) == (0, len(orders), 0), watching.log.read_text()

    await publish(settings, encode_effect(msgspec.structs.replace(orders[0], order_id="forged")))
    told = watching.until(lambda told: told["differences"] > 0)
    assert (told["differences"], told["orders"], told["failures_total"]) == (1, len(orders), 0)
    watching.process.terminate()
    assert watching.process.wait(PATIENCE_S) == 0
    assert "difference: order forged was published, but no log asks for it" in watching.log.read_text()


async def publish(settings: Settings, *records: tuple[str, bytes | None, bytes | None]) -> None:
    clients = Clients(settings)
    async with AIOKafkaProducer(**kafka_client_options(settings)) as producer:
        for topic, key, value in records:
            await producer.send_and_wait(clients.name(topic), value, key)


def test_a_cluster_that_is_away_is_counted_and_asked_again(started: Callable[..., Watching]) -> None:
    watching = started(PLIMSOLL_BOOTSTRAP="127.0.0.1:1")
    told = watching.until(lambda told: told.get("failures_total", 0) >= 2)
    assert told["last_success_timestamp_seconds"] == 0
    watching.process.terminate()
    assert watching.process.wait(PATIENCE_S) == 0
    assert "Traceback" not in watching.log.read_text()


def test_a_port_that_is_taken_is_a_fault(started: Callable[..., Watching]) -> None:
    watching = started(PLIMSOLL_BOOTSTRAP="127.0.0.1:1")
    watching.until(bool)
    port = re.search(r"metrics at http://127\.0\.0\.1:(\d+)/", watching.log.read_text())
    assert port is not None
    result = CliRunner().invoke(app, ["replay", "--ledger", "--every", "1", "--metrics-port", port[1]])
    assert result.exit_code == FAULT
    assert f"port {port[1]}" in result.output
