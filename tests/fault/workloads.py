"""What flows while workers are killed: fills from a seed, for the toy or for the real books, which also get a market that moves."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from typing import Any, ClassVar, Protocol

import msgspec
from aiokafka import AIOKafkaProducer

from engine.inputs import Depth, Fill, Message, OraclePrice, RiskParameters, SetMode
from engine.machine import CUT_KEY, CutRecord
from engine.monitor import Book
from streams.clients import Clients
from streams.messages import encode_source
from streams.roster import PRODUCT
from streams.settings import Settings, kafka_client_options
from streams.store import committed_rows
from tests import small_world
from tests.fault.workers import ROOT
from tests.toy import Toy

ACCOUNTS = 300
PAUSE_S = 0.02
MARKET_TIMEOUT_S = 60.0


class Workload(Protocol):
    """One kind of machines, with what they need to have something to decide."""

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
        """Lots by account: the sum of the fills sent."""

    async def held(self, settings: Settings) -> dict[str, int]:
        """Lots by account, as committed."""


class _Fills:
    """Fills drawn from a seed, and their sums."""

    def __init__(self, seed: int, venue: str, instrument: str, burst: int, lots_max: int) -> None:
        self.venue = venue
        self.instrument = instrument
        self.burst = burst
        self.lots_max = lots_max
        self.sent = 0
        self.totals: dict[str, int] = {}
        self.going_on = True
        self._random = random.Random(seed)
        self._sequences: dict[str, int] = {}

    def next(self, account: str = "", **fields: int | str) -> Fill:
        account = account or f"account-{self._random.randrange(ACCOUNTS)}"
        sequence = self._sequences[account] = self._sequences.get(account, 0) + 1
        lots = 0 if fields else self._random.randrange(-self.lots_max, self.lots_max + 1)
        self.totals[account] = self.totals.get(account, 0) + lots
        self.sent += 1
        values = {"instrument": self.instrument, "kind": "trade", "lots": lots, "price_ticks": 100_000} | fields
        message = {"v": 1, "account": account, "venue": self.venue, "sequence": sequence, "time_ns": time.time_ns(), **values}
        return msgspec.convert(message, Fill)


class Sender:
    """Messages to their source topics; `async with`."""

    def __init__(self, settings: Settings) -> None:
        self._clients = Clients(settings)
        self._producer = AIOKafkaProducer(**kafka_client_options(settings), enable_idempotence=True, linger_ms=2)

    async def __aenter__(self) -> Sender:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def send(self, *messages: Message) -> None:
        """Returns when all are acknowledged."""
        deliveries = []
        for message in messages:
            topic, key, value = encode_source(message)
            deliveries.append(await self._producer.send(self._clients.name(topic), value, key))
        await asyncio.gather(*deliveries)


class ToyWorkload:
    """Sums of fills; an order whenever one passes a multiple."""

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
        return self._fills.totals

    async def held(self, settings: Settings) -> dict[str, int]:
        held: dict[str, int] = {}
        clients = Clients(settings)
        for partition in range(settings.ledger_partitions):
            rows = await committed_rows(clients, "ledger.rows", partition)
            if rows:
                toy = Toy(partition)
                toy.restore(rows.items())
                held |= toy.totals()
        return held


class BookWorkload:
    """The real machines: leveraged accounts in a market that swings, so that they breach, are ordered to reduce, and heal."""

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
            await sender.send(parameters, SetMode(v=1, by="test", mode="publish", time_ns=now), *small_world.definitions(), *depths)
            await sender.send(*self.prices(1.0))
        await self._until_known(settings, len(small_world.definitions()))

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
        return self._fills.totals

    async def held(self, settings: Settings) -> dict[str, int]:
        held: dict[str, int] = {}
        clients = Clients(settings)
        for partition in range(settings.ledger_partitions):
            rows = await committed_rows(clients, "ledger.rows", partition)
            if rows:
                book = Book(partition, settings.ledger_partitions)
                book.restore(rows.items())
                held |= lots(book, "ex", "BTC-PERP")
        return held

    def prices(self, factor: float) -> list[OraclePrice]:
        return [
            OraclePrice(v=1, asset=asset, source=source, price=price * (factor if asset == "BTC" else 1.0), publish_time_ns=time.time_ns())
            for asset, price in small_world.PRICES.items()
            for source in small_world.SOURCES
        ]

    async def _until_known(self, settings: Settings, definitions: int) -> None:
        """Until every book's cut has the definitions, the parameters and the prices: a fill of an unknown instrument is refused."""
        needed = {"market.instruments": definitions - 1, "risk.parameters": 0, "operator.commands": 0, "oracle.prices": 0}
        clients = Clients(settings)
        async with asyncio.timeout(MARKET_TIMEOUT_S):
            for partition in range(settings.ledger_partitions):
                while True:
                    rows = await committed_rows(clients, "ledger.rows", partition)
                    if CUT_KEY in rows:
                        record = msgspec.msgpack.decode(rows[CUT_KEY], type=CutRecord)
                        applied = {source: last for source, _, last in record.sources}
                        if all(applied.get(source, -1) >= last for source, last in needed.items()):
                            break
                    await asyncio.sleep(0.1)


def lots(book: Book, venue: str, instrument: str) -> dict[str, int]:
    """What each account of a book holds of one instrument."""
    number = book.market.universe.instrument_number(venue, instrument)
    columns = book.accounts.columns
    held = {}
    for account, name in enumerate(book.accounts.names):
        slots = range(int(columns.positions[account]))
        held[name] = sum(int(columns.quantity[account, slot]) for slot in slots if columns.instrument[account, slot] == number)
    return held
