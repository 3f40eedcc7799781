"""What flows while workers are killed: fills from a seed, for the toy or for the real books, which also get a market that moves."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from typing import Any, ClassVar, Protocol

import msgspec
from aiokafka import AIOKafkaProducer

from engine.effects import Order
from engine.inputs import Depth, Fill, Message, OraclePrice, RiskParameters, SetMode
from engine.machine import CUT_KEY, CutRecord
from engine.monitor import Book
from streams.clients import Clients
from streams.messages import SOURCES, encode_source
from streams.roster import PRODUCT
from streams.settings import Settings, kafka_client_options
from streams.store import committed_rows
from tests import small_world
from tests.fault.workers import ROOT
from tests.patience import PATIENCE_S
from tests.toy import Toy

ACCOUNTS = 300
PAUSE_S = 0.02
PRICES_TICKS = (99_000, 101_000)  # fills' prices lie between these, so that cash tells more than lots do
CASH_PER_LOT_TICK = {"BTC-PERP": 1_000, "USD": 10_000}  # in small_world: lot size x tick size, in millionths of a dollar
OF_ACCOUNTS = frozenset(topic for topic, source in SOURCES.items() if source.target == "ledger")  # each book has a partition of its own

Places = dict[tuple[str, int], int]  # by source topic and partition: the offset of the last message


class Workload(Protocol):
    """One kind of machines, with what they need to have something to decide."""

    name: ClassVar[str]
    machines: ClassVar[str]
    venues: ClassVar[tuple[str, ...]]

    @property
    def sent(self) -> int:
        """Fills sent so far."""

    async def warm(self) -> None:
        """Before the first worker."""

    async def prepare(self, settings: Settings) -> None:
        """Before the first fill, with workers running."""

    async def flow(self, settings: Settings) -> None:
        """Send fills until `stop` is called."""

    def stop(self) -> None: ...

    def expected(self) -> dict[str, int]:
        """What the accounts must hold, by a name: the sums of the fills sent, but for those that are 0."""

    async def held(self, settings: Settings) -> dict[str, int]:
        """The same by the same names, as committed."""

    def is_uncut(self, order: Order, cut: CutRecord) -> bool:
        """Whether an order was decided beyond what its partition's cut covers."""


class _Fills:
    """Fills drawn from a seed, and their sums: lots, and the cash that a position's fills have moved (docs/model.md, section 1)."""

    def __init__(self, seed: int, venue: str, instrument: str, burst: int, lots_max: int) -> None:
        self.venue = venue
        self.instrument = instrument
        self.burst = burst
        self.lots_max = lots_max
        self.sent = 0
        self.lots: Counter[tuple[str, str]] = Counter()  # by account and instrument
        self.cash: Counter[tuple[str, str]] = Counter()
        self.going_on = True
        self._random = random.Random(seed)
        self._sequences: dict[str, int] = {}

    def next(self, account: str = "", **fields: int | str) -> Fill:
        account = account or f"account-{self._random.randrange(ACCOUNTS)}"
        sequence = self._sequences[account] = self._sequences.get(account, 0) + 1
        lots = 0 if fields else self._random.randrange(-self.lots_max, self.lots_max + 1)
        price_ticks = self._random.randrange(*PRICES_TICKS)
        values = {"instrument": self.instrument, "kind": "trade", "lots": lots, "price_ticks": price_ticks} | fields
        message = {"v": 1, "account": account, "venue": self.venue, "sequence": sequence, "time_ns": time.time_ns(), **values}
        fill = msgspec.convert(message, Fill)
        self.lots[account, fill.instrument] += fill.lots
        self.cash[account, fill.instrument] += fill.cash - fill.lots * fill.price_ticks * CASH_PER_LOT_TICK[fill.instrument]
        self.sent += 1
        return fill


class Sender:
    """Messages to their source topics; `async with`."""

    def __init__(self, settings: Settings) -> None:
        self._clients = Clients(settings)
        options = {**kafka_client_options(settings), "request_timeout_ms": int(PATIENCE_S * 1000)}  # a broker may be killed, and come back
        self._producer = AIOKafkaProducer(**options, enable_idempotence=True, linger_ms=2)

    async def __aenter__(self) -> Sender:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def send(self, *messages: Message) -> Places:
        """Returns when all are acknowledged."""
        deliveries = []
        for message in messages:
            topic, key, value = encode_source(message)
            deliveries.append((topic, await self._producer.send(self._clients.name(topic), value, key)))
        places: Places = {}
        for topic, delivery in deliveries:
            told = await delivery
            places[topic, told.partition] = max(told.offset, places.get((topic, told.partition), -1))
        return places


class ToyWorkload:
    """Sums of fills; an order whenever one passes a multiple."""

    name: ClassVar[str] = "toys"
    machines: ClassVar[str] = "tests.toy:machines"
    venues: ClassVar[tuple[str, ...]] = ("alpha",)

    def __init__(self, seed: int) -> None:
        self._fills = _Fills(seed, "alpha", "BTC-PERP", burst=60, lots_max=400)

    @property
    def sent(self) -> int:
        return self._fills.sent

    async def warm(self) -> None:
        pass

    async def prepare(self, settings: Settings) -> None:
        pass

    async def flow(self, settings: Settings) -> None:
        async with Sender(settings) as sender:
            while self._fills.going_on:
                await sender.send(*[self._fills.next() for _ in range(self._fills.burst)])
                await asyncio.sleep(PAUSE_S)

    def stop(self) -> None:
        self._fills.going_on = False

    def expected(self) -> dict[str, int]:
        return {f"{account} lots": lots for (account, _), lots in self._fills.lots.items() if lots}

    async def held(self, settings: Settings) -> dict[str, int]:
        held: dict[str, int] = {}
        clients = Clients(settings)
        for partition in range(settings.ledger_partitions):
            rows = await committed_rows(clients, "ledger.rows", partition)
            if rows:
                toy = Toy(partition)
                toy.restore(rows.items())
                held |= {f"{account} lots": lots for account, lots in toy.totals().items() if lots}
        return held

    def is_uncut(self, order: Order, cut: CutRecord) -> bool:
        _, offset, _ = order.ledger.split(":")
        return int(offset) > cut.applied


class BookWorkload:
    """The real machines: leveraged accounts in a market that swings, so that they breach, are ordered to reduce, and heal."""

    name: ClassVar[str] = "books"
    machines: ClassVar[str] = PRODUCT
    venues: ClassVar[tuple[str, ...]] = ("ex", "sx")

    def __init__(self, seed: int) -> None:
        self._fills = _Fills(seed, "ex", "BTC-PERP", burst=10, lots_max=200)
        self._random = random.Random(seed + 1)

    @property
    def sent(self) -> int:
        return self._fills.sent

    async def warm(self) -> None:
        """Fill the cache of compiled kernels once, or each worker would compile them all at the same time."""
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "from engine.warm import warm; warm()", cwd=ROOT)
        assert await process.wait() == 0

    async def prepare(self, settings: Settings, **parameters_changed: Any) -> None:
        now = time.time_ns()
        changes = {"grant_interval_s": 1.0, "order_ttl_s": 1.0, "plan_retry_s": 0.5, "throttle_share": 10.0, "throttle_burst": 100.0}
        parameters = RiskParameters(v=1, version="v1", parameters={**small_world.PARAMETERS, **changes, **parameters_changed}, time_ns=now)
        depths = [Depth(v=1, asset=asset, depth_usd=1e8, spread_bps=2.0, time_ns=now) for asset in small_world.PRICES]
        async with Sender(settings) as sender:
            defined = await sender.send(parameters, SetMode(v=1, by="test", mode="publish", time_ns=now), *small_world.definitions())
            await until_in_cuts(settings, defined)  # a depth, a price or a fill of what is not defined yet would be refused
            valued = await sender.send(*depths, *self.prices(1.0))
            await until_in_cuts(settings, valued)

    async def flow(self, settings: Settings) -> None:
        async with Sender(settings) as sender:
            deposits = [
                self._fills.next(f"account-{number}", instrument="USD", kind="funding", price_ticks=0, cash=5_000_000_000)
                for number in range(ACCOUNTS)
            ]
            await sender.send(*deposits)
            began = time.monotonic()
            while self._fills.going_on:
                swing = 1.0 + 0.1 * abs((time.monotonic() - began) % 4.0 - 2.0) * self._random.uniform(0.9, 1.1)
                await sender.send(*self.prices(swing))
                for _ in range(8):
                    await sender.send(*[self._fills.next() for _ in range(self._fills.burst)])
                    await asyncio.sleep(PAUSE_S)

    def stop(self) -> None:
        self._fills.going_on = False

    def expected(self) -> dict[str, int]:
        sums = {"lots": self._fills.lots, "cash": self._fills.cash}
        return {
            f"{account} {instrument} {what}": total
            for what, totals in sums.items()
            for (account, instrument), total in totals.items()
            if total
        }

    async def held(self, settings: Settings) -> dict[str, int]:
        held: dict[str, int] = {}
        clients = Clients(settings)
        for partition in range(settings.ledger_partitions):
            rows = await committed_rows(clients, "ledger.rows", partition)
            if rows:
                book = Book(partition, settings.ledger_partitions)
                book.restore(rows.items())
                held |= amounts(book)
        return held

    def is_uncut(self, order: Order, cut: CutRecord) -> bool:
        source, partition, offset = order.ledger.rsplit(":", 2)
        applied = {(name, number): last for name, number, last in cut.sources}
        return int(offset) > applied.get((source, int(partition)), -1)

    def prices(self, factor: float) -> list[OraclePrice]:
        now = time.time_ns()
        return [
            OraclePrice(v=1, asset=asset, source=source, price=price * (factor if asset == "BTC" else 1.0), publish_time_ns=now)
            for asset, price in small_world.PRICES.items()
            for source in small_world.SOURCES
        ]


async def until_in_cuts(settings: Settings, sent: Places, patience_s: float = PATIENCE_S) -> None:
    """Until the committed cut of every book holds what concerns it of this: the market whole, of accounts' topics its own partition."""
    clients = Clients(settings)
    ends = time.monotonic() + patience_s
    for book in range(settings.ledger_partitions):
        needed = {(topic, number): last for (topic, number), last in sent.items() if number == book or topic not in OF_ACCOUNTS}
        while late := await _not_in_cut(clients, book, needed):
            assert time.monotonic() < ends, f"not within {patience_s} s in the cut of book {book}: {late}"
            await asyncio.sleep(0.1)


async def _not_in_cut(clients: Clients, book: int, needed: Places) -> Places:
    """What a book's newest cut does not have up to the offset that is needed, by source: how far it has it."""
    applied = await applied_in_cut(clients, book)
    return {place: applied.get(place, -1) for place, last in needed.items() if applied.get(place, -1) < last}


async def applied_in_cut(clients: Clients, partition: int) -> Places:
    """How far a book's newest cut has each of its sources."""
    rows = await committed_rows(clients, "ledger.rows", partition)
    if CUT_KEY not in rows:
        return {}
    record = msgspec.msgpack.decode(rows[CUT_KEY], type=CutRecord)
    return {(source, number): last for source, number, last in record.sources}


def amounts(book: Book) -> dict[str, int]:
    """Lots and cash of all positions of a book's accounts, by account and instrument, but for those that are 0."""
    columns, instruments = book.accounts.columns, book.market.universe.instruments
    held: dict[str, int] = {}
    for account, name in enumerate(book.accounts.names):
        for slot in range(int(columns.positions[account])):
            instrument = instruments[int(columns.instrument[account, slot])].name
            for what, column in (("lots", columns.quantity), ("cash", columns.cash)):
                if column[account, slot]:
                    held[f"{name} {instrument} {what}"] = int(column[account, slot])
    return held
