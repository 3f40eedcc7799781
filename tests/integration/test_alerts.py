"""Each alert fires in a real Prometheus because its fault was really made, and goes away after it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import msgspec
import orjson
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from engine.effects import Order
from engine.inputs import Fill, Heartbeat, OraclePrice, VenueDefinition, VenueRule
from streams import operator
from streams.broker import Cluster, LocalBroker, free_port
from streams.clients import Clients
from streams.messages import encode_effect, partition_of
from streams.settings import Settings, kafka_client_options
from tests import small_world, spoilt_books
from tests.fault.workers import WorkerProcess
from tests.fault.workloads import BookWorkload, Sender
from tests.integration.test_silence import PARTITIONS, settings_for
from tests.patience import PATIENCE_S
from tests.watched import Watch, at_port, killed, watching

MARKET_STEP_S = 0.3
FALL_STEP = 0.01
HIGH, LOW = 0.9, 0.7  # of BTC's price: where whales are well, and where they are not
GROWTH_SEEN_S = 20.0  # for a shortfall that has grown: it must be seen to for 7.5 s, and is for 15 s after the fall
MAX_AGE_S = 3.0
PAUSE_S = 1.5  # of a worker: longer than an order may take, shorter than its session
CHAIN = "north"
QUICK_S, SLOW_S = 5.0, 1_000.0  # what a block takes to be seen; an alert begins at 900
LAGS_KEPT = 64
HARMLESS, WHALES = 20, 10

pytestmark = [pytest.mark.slow, pytest.mark.fault, pytest.mark.timeout(1_800)]


class Market:
    """Prices and heartbeats that go on until told otherwise."""

    def __init__(self, sender: Sender) -> None:
        self.silent = False
        self.spread = 0.0  # of BTC's first source below, and its last above the one between
        self.factor = 1.0  # on BTC's price
        self.lag_s = QUICK_S
        self._sender = sender
        self._height = 0

    async def flow(self) -> None:
        while True:
            if not self.silent:
                await self._sender.send(*self._prices())
            await self.beat(1)
            await asyncio.sleep(MARKET_STEP_S)

    async def fall(self) -> None:
        """From HIGH to LOW step by step, so that it can be seen to fall; first up to HIGH where it has fallen before."""
        self.factor = max(self.factor, HIGH)
        while self.factor > LOW:
            self.factor -= FALL_STEP
            await asyncio.sleep(MARKET_STEP_S)

    async def beat(self, count: int) -> None:
        """So many heartbeats of one chain."""
        for _ in range(count):
            self._height += 1
            now = time.time_ns()
            seen = now - int(self.lag_s * 1e9)
            await self._sender.send(Heartbeat(v=1, chain=CHAIN, height=self._height, block_time_ns=seen, observed_time_ns=now))

    def _prices(self) -> list[OraclePrice]:
        apart = dict(zip(small_world.SOURCES, (-self.spread, 0.0, self.spread), strict=True))
        now = time.time_ns()
        return [
            OraclePrice(
                v=1,
                asset=asset,
                source=source,
                price=price * (self.factor * (1.0 + apart[source]) if asset == "BTC" else 1.0),
                publish_time_ns=now,
            )
            for asset, price in small_world.PRICES.items()
            for source in small_world.SOURCES
        ]


class Books:
    """A worker with the real machines, a market, and a watch."""

    def __init__(self, settings: Settings, worker: WorkerProcess, sender: Sender, market: Market, watch: Watch) -> None:
        self.settings = settings
        self.worker = worker
        self.sender = sender
        self.market = market
        self.watch = watch

    async def open(self, account: str, cash_usd: int, lots: int) -> None:
        """An account with cash, and a perpetual of so many thousandths of a bitcoin."""
        named = {"v": 1, "account": account, "venue": "ex", "time_ns": time.time_ns()}
        cash = {"instrument": "USD", "kind": "funding", "lots": 0, "price_ticks": 0, "cash": cash_usd * 1_000_000, "sequence": 1}
        bought = {"instrument": "BTC-PERP", "kind": "trade", "lots": lots, "price_ticks": 100_000, "sequence": 2}
        await self.sender.send(*[msgspec.convert(named | fill, Fill) for fill in (cash, bought)])

    async def put(self, topic: str, key: bytes, *values: bytes) -> None:
        """Records as they are, whatever they hold."""
        partition = partition_of(key, PARTITIONS) if topic == "venue.fills" else 0
        name = Clients(self.settings).name(topic)
        async with AIOKafkaProducer(**kafka_client_options(self.settings)) as producer:
            await asyncio.gather(*[await producer.send(name, value, key, partition=partition) for value in values])

    async def put_what_is_refused(self) -> None:
        """More bad prices than anybody overlooks, and a bad fill."""
        await self.put("oracle.prices", b"BTC", *[b"\xff\xfe"] * 30)
        fill = {"v": 1, "account": "account-0", "venue": "ex", "instrument": "BTC-PERP", "kind": "trade", "lots": 0.5, "sequence": 3}
        await self.put("venue.fills", b"account-0", orjson.dumps(fill))

    async def unfrozen(self) -> None:
        """Until every book has heard that nothing is frozen any more."""
        async with asyncio.timeout(PATIENCE_S):
            while await asyncio.to_thread(self.worker.metric, "plimsoll_frozen") > 0:  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(0.1)


@asynccontextmanager
async def watched_books(kafka: Cluster, prefix: str, folder: Path) -> AsyncIterator[Books]:
    settings = (await settings_for(kafka, prefix)).model_copy(update={"shadow_interval_s": 0.5})
    workload = BookWorkload(0)
    await workload.warm()
    port = free_port()
    worker = WorkerProcess("worker", at_port(settings, port), spoilt_books.MACHINES, folder)
    try:
        await worker.ready()
        ages = {name: {"max_age_s": MAX_AGE_S} for name in ("major", "alt", "stable")}
        await workload.prepare(settings, classes=ages, breakers_enabled=True, move_trip=1.0, cooldown_s=1.0)
        async with Sender(settings) as sender, watching(folder, {"plimsoll": [f"127.0.0.1:{port}"]}) as watch:
            market = Market(sender)
            flowing = asyncio.create_task(market.flow())
            try:
                yield Books(settings, worker, sender, market, watch)
            finally:
                flowing.cancel()
                await asyncio.wait([flowing])
        assert await worker.stop() == 0
    finally:
        killed(worker)


async def test_of_a_market_that_goes_wrong(kafka: Cluster, topic_prefix: str, tmp_path: Path) -> None:
    async with watched_books(kafka, topic_prefix, tmp_path) as books:
        watch, market = books.watch, books.market
        for number in range(HARMLESS):
            await books.open(f"account-{number}", 10_000, 10)
        await watch.silent()

        market.silent = True
        market.lag_s = SLOW_S
        await market.beat(LAGS_KEPT)
        await watch.fires("PlimsollStaleMarks", asset="BTC", severity="page")
        await watch.fires("PlimsollUnknownShare", job="plimsoll")
        await watch.fires("PlimsollAttestationLag", chain=CHAIN, severity="ticket")
        market.silent = False
        market.lag_s = QUICK_S
        await market.beat(LAGS_KEPT)
        await watch.ends("PlimsollStaleMarks", "PlimsollUnknownShare", "PlimsollAttestationLag")

        set_quarantine = partial(operator.set_quarantine, books.settings, CHAIN, by="test")
        await asyncio.to_thread(set_quarantine, on=True)
        await watch.fires("PlimsollChainQuarantined", name=CHAIN, severity="page")
        await asyncio.to_thread(set_quarantine, on=False)
        await watch.ends("PlimsollChainQuarantined")

        ex = VenueDefinition(v=1, name="ex", chain=CHAIN, fee_bps=5, time_ns=small_world.T0)
        await books.sender.send(msgspec.structs.replace(ex, rule=VenueRule(rule="bybit_uta")))  # which takes no perpetuals
        await watch.fires("PlimsollVenueLegsUnknown", venue="ex", severity="ticket")
        await books.sender.send(ex)
        await watch.ends("PlimsollVenueLegsUnknown")

        freeze = partial(operator.set_freeze, books.settings, "venue", spoilt_books.VENUE, by="test")
        await asyncio.to_thread(freeze, frozen=True)
        await watch.fires("PlimsollShadowDifference", severity="page")
        await asyncio.to_thread(freeze, frozen=False)
        await books.unfrozen()
        market.factor = 0.999  # so that everybody is valued anew, by what is right
        await watch.ends("PlimsollShadowDifference")

        market.spread = 0.06  # the middle stays
        await watch.fires("PlimsollSourcesApart", asset="BTC")
        await watch.fires("PlimsollBreakerOpen", trigger="source_divergence")
        market.spread = 0.0
        await watch.ends("PlimsollSourcesApart", "PlimsollBreakerOpen")
        await watch.silent()

        await watch.provoked(
            books.put_what_is_refused,
            watch.fires("PlimsollDeadLetters", topic="oracle.prices"),
            watch.fires("PlimsollFillsRefused", topic="venue.fills"),
            watch.fires("PlimsollUnknownShare"),
        )
        await watch.ends("PlimsollDeadLetters", "PlimsollFillsRefused")


async def test_of_liquidations_that_do_not_work(kafka: Cluster, topic_prefix: str, tmp_path: Path) -> None:
    async with watched_books(kafka, topic_prefix, tmp_path) as books:
        watch, market = books.watch, books.market
        for number in range(WHALES):
            await books.open(f"whale-{number}", 100_000, 3_000)
        await watch.silent()

        await watch.provoked(
            market.fall,
            watch.fires("PlimsollShortfallGrowing", job="plimsoll"),
            watch.fires("PlimsollOrdersWithoutReport", venue="ex"),
            again_s=GROWTH_SEEN_S,
        )

        numbers = count()

        async def order_late() -> None:
            books.worker.pause()
            await books.open(f"sinking-{next(numbers)}", 35_000, 1_000)  # bought far above the mark: an order follows at once
            await asyncio.sleep(PAUSE_S)
            books.worker.wake()

        await watch.provoked(order_late, watch.fires("PlimsollLateOrders", venue="ex"), again_s=PAUSE_S / 2)

        market.factor = 1.0
        await watch.ends("PlimsollShortfallGrowing", "PlimsollOrdersWithoutReport", "PlimsollLateOrders")


@contextmanager
def replaying(settings: Settings, port: int, folder: Path) -> Iterator[None]:
    """The process that replays the ledgers again and again, for as long as it is wanted."""
    given = {"bootstrap": settings.bootstrap, "topic_prefix": settings.topic_prefix, "ledger_partitions": settings.ledger_partitions}
    environment = os.environ | {f"PLIMSOLL_{name.upper()}": str(value) for name, value in given.items()}
    command = [sys.executable, "-m", "streams.command_line", "replay", "--ledger", "--every", "1", "--metrics-port", str(port)]
    with (folder / "replay.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def forge(settings: Settings) -> None:
    """An order that no ledger asks for."""
    order = Order(
        order_id="forged",
        account="account-0",
        venue="sx",
        chain="south",
        instrument="BTC-PERP",
        lots=-1_000_000,
        limit_ticks=1,
        epoch=1,
        attempt=1,
        state="LIQUIDATABLE",
        cause="PRICE",
        decided_ns=1,
        expires_ns=2,
        parameters="v1",
        ledger="0:0:0",
    )
    topic, key, value = encode_effect(order)
    async with AIOKafkaProducer(**kafka_client_options(settings)) as producer:
        await producer.send_and_wait(Clients(settings).name(topic), value, key)


async def forget_orders(settings: Settings, venue: str) -> None:
    """As retention does in the end."""
    topic = Clients(settings).name(f"orders.{venue}")
    admin = AIOKafkaAdminClient(**kafka_client_options(settings))
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(-1) for partition in range(PARTITIONS)})
    finally:
        await admin.close()


async def test_of_a_forged_order_and_of_a_broker_that_is_gone(topic_prefix: str, tmp_path: Path) -> None:
    with LocalBroker(tmp_path / "broker") as broker:
        settings = await settings_for(Cluster(broker.bootstrap, "local", ""), topic_prefix)
        ports = [first := free_port(), free_port(excluding=first)]
        await BookWorkload(0).warm()
        worker = WorkerProcess("worker", at_port(settings, ports[0]), BookWorkload.machines, tmp_path)
        try:
            await worker.ready()
            with replaying(settings, ports[1], tmp_path):
                async with watching(tmp_path, {"plimsoll": [f"127.0.0.1:{port}" for port in ports]}) as watch:
                    await forge(settings)
                    await watch.fires("PlimsollReplayDifference", job="plimsoll")
                    await forget_orders(settings, "sx")
                    await watch.ends("PlimsollReplayDifference")

                    await asyncio.to_thread(broker.kill)
                    await watch.fires("PlimsollNoProgress", job="plimsoll")
                    await watch.fires("PlimsollReplayFails", job="plimsoll")
                    await watch.fires("PlimsollCutTooOld", machine="treasury")
                    await asyncio.to_thread(broker.start)
                    await watch.ends("PlimsollNoProgress", "PlimsollCutTooOld", "PlimsollReplayFails")
                    await worker.ready()
            assert await worker.stop() == 0
        finally:
            killed(worker)
