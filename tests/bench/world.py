"""What the benchmarks run on: a market of six coins on three venues, and accounts of eight linear positions each, drawn from a seed.

Every account holds dollars and bitcoin as collateral and six perpetuals, so that its risk lies in three to six groups.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.inputs import (
    AnyDefinition,
    AssetDefinition,
    ChainDefinition,
    Fill,
    ImpliedVolatility,
    InstrumentDefinition,
    Message,
    OraclePrice,
    RiskParameters,
    VenueDefinition,
)

SEED: Final = 20251010
POSITIONS: Final = 8
VENUES: Final = ("alpha", "beta", "gamma")
SOURCES: Final = ("first", "second", "third")
CASH_UNITS: Final = 1_000_000  # of one dollar
PARAMETERS_VERSION: Final = "bench"
# Prices of the last round must still count when the next one starts.
PARAMETERS: Final = {"classes": {name: {"max_age_s": 3_600.0} for name in ("major", "alt")}, "implied_max_age_s": 3_600.0}


class Coin(NamedTuple):
    """An asset with its price in USD, and the steps of its perpetuals: a lot times a tick is 1e-4 of a dollar."""

    asset_class: str
    price: float
    lot_size: float
    tick_size: float


COINS: Final = {
    "BTC": Coin("major", 100_000.0, 0.001, 0.1),
    "ETH": Coin("major", 4_000.0, 0.01, 0.01),
    "SOL": Coin("alt", 200.0, 0.1, 0.001),
    "XRP": Coin("alt", 2.5, 10.0, 0.00001),
    "DOGE": Coin("alt", 0.25, 100.0, 0.000001),
    "LINK": Coin("alt", 20.0, 1.0, 0.0001),
}
CASH_PER_LOT_TICK: Final = 100
PERPETUALS: Final = tuple((venue, asset) for venue in VENUES for asset in COINS)
OPTION_STRIKES: Final = (80_000.0, 90_000.0, 100_000.0, 110_000.0, 120_000.0, 140_000.0)
OPTION_LIFE_NS: Final = 30 * 86_400 * 10**9


def perpetual(asset: str) -> str:
    """Name of a coin's perpetual, on every venue."""
    return f"{asset}-PERP"


def option(strike: float, is_call: bool) -> str:
    """Name of a bitcoin option, on the first venue."""
    return f"BTC-{strike:.0f}-{'C' if is_call else 'P'}"


def definitions(now_ns: int, *, options: bool = False) -> Iterator[AnyDefinition]:
    """All that exists, in an order in which nothing is named before it is defined."""
    yield AssetDefinition(v=1, time_ns=now_ns, name="USD", asset_class="cash")
    for name, coin in COINS.items():
        kind = msgspec.convert(coin.asset_class, AssetDefinition.__annotations__["asset_class"])
        yield AssetDefinition(v=1, time_ns=now_ns, name=name, asset_class=kind, sources=dict.fromkeys(SOURCES, 1.0))
    yield ChainDefinition(v=1, time_ns=now_ns, name="custody", finality_s=0.0, messaging_delay_s=60.0)
    for venue in VENUES:
        yield VenueDefinition(v=1, time_ns=now_ns, name=venue, chain="custody", fee_bps=4.0)
    for name, lot_size, tick_size in (("USD", 1.0, 1e-4), ("BTC", COINS["BTC"].lot_size, COINS["BTC"].tick_size)):
        yield InstrumentDefinition(
            v=1, time_ns=now_ns, venue=VENUES[0], name=name, contract="spot", underlying=name, lot_size=lot_size, tick_size=tick_size
        )
    for venue, asset in PERPETUALS:
        coin = COINS[asset]
        yield InstrumentDefinition(
            v=1,
            time_ns=now_ns,
            venue=venue,
            name=perpetual(asset),
            contract="perpetual",
            underlying=asset,
            lot_size=coin.lot_size,
            tick_size=coin.tick_size,
        )
    for strike in OPTION_STRIKES if options else ():
        for is_call in (True, False):
            yield InstrumentDefinition(
                v=1,
                time_ns=now_ns,
                venue=VENUES[0],
                name=option(strike, is_call),
                contract="option",
                underlying="BTC",
                lot_size=0.01,
                tick_size=0.01,
                strike=strike,
                expiry_ns=now_ns + OPTION_LIFE_NS,
                is_call=is_call,
            )


def parameters(now_ns: int) -> RiskParameters:
    """The defaults, with prices that stay fresh between rounds."""
    return RiskParameters(v=1, version=PARAMETERS_VERSION, parameters=PARAMETERS, time_ns=now_ns)


def prices(now_ns: int, step: int = 0) -> Iterator[OraclePrice]:
    """One price of each coin from each source; `step` moves them all up and down by a hundredth of a percent."""
    move = 1.0 + 1e-4 * ((step % 3) - 1)
    for asset, coin in COINS.items():
        for number, source in enumerate(SOURCES):
            yield OraclePrice(
                v=1, asset=asset, source=source, price=coin.price * move * (1.0 + 2e-5 * (number - 1)), publish_time_ns=now_ns
            )


def volatility(now_ns: int) -> ImpliedVolatility:
    """What the options are valued with."""
    return ImpliedVolatility(v=1, underlying="BTC", expiry_ns=now_ns + OPTION_LIFE_NS, sigma=0.6, time_ns=now_ns)


class Population:
    """Accounts with their positions, and fills that go on from where the last ones ended.

    `lots` and `cash` [accounts, POSITIONS] are what the fills add up to: quantity and cash units of each position. Columns 0 and 1 are the
    collateral, the others the perpetuals that `held` names by their place in PERPETUALS.
    """

    def __init__(self, accounts: int, seed: int = SEED) -> None:
        self.names = [f"account-{number:06d}" for number in range(accounts)]
        self._draw = np.random.default_rng(seed)
        self.held: NDArray[np.int64] = np.argsort(self._draw.random((accounts, len(PERPETUALS))), axis=1)[:, : POSITIONS - 2]
        self.lots = np.zeros((accounts, POSITIONS), np.int64)
        self.cash = np.zeros((accounts, POSITIONS), np.int64)
        self._sequences = np.zeros((accounts, len(VENUES)), np.int64)

    def position(self, account: int, column: int) -> tuple[str, str]:
        """(venue, instrument) of a position."""
        if column < 2:
            return VENUES[0], ("USD", "BTC")[column]
        venue, asset = PERPETUALS[self.held[account, column - 2]]
        return venue, perpetual(asset)

    def opening(self) -> Iterator[Fill]:
        """The fills that open every position: collateral paid in, perpetuals of 5,000 to 20,000 USD bought or sold."""
        for account in range(len(self.names)):
            yield self._fill(account, 0, "transfer", 100_000, 0, 0)
            yield self._fill(account, 1, "transfer", 500, 0, 0)
            sizes = self._draw.uniform(5_000.0, 20_000.0, POSITIONS - 2) * self._draw.choice((-1.0, 1.0), POSITIONS - 2)
            for column in range(2, POSITIONS):
                coin = COINS[PERPETUALS[self.held[account, column - 2]][1]]
                lots = round(float(sizes[column - 2]) / (coin.price * coin.lot_size))
                yield self._fill(account, column, "trade", lots, round(coin.price / coin.tick_size), -abs(lots) * 1_000)

    def trades(self, count: int) -> Iterator[Fill]:
        """`count` small trades of perpetuals held, each at a price near the mark."""
        who = self._draw.integers(0, len(self.names), count).tolist()
        what = self._draw.integers(2, POSITIONS, count).tolist()
        size = (self._draw.integers(1, 6, count) * self._draw.choice((-1, 1), count)).tolist()
        drift = self._draw.uniform(-1e-4, 1e-4, count).tolist()
        for account, column, lots, away in zip(who, what, size, drift, strict=True):
            coin = COINS[PERPETUALS[self.held[account, column - 2]][1]]
            yield self._fill(account, column, "trade", lots, round(coin.price * (1.0 + away) / coin.tick_size), -abs(lots) * 1_000)

    def _fill(self, account: int, column: int, kind: str, lots: int, price_ticks: int, fee: int) -> Fill:
        venue, instrument = self.position(account, column)
        at = VENUES.index(venue)
        sequence = int(self._sequences[account, at]) + 1
        self._sequences[account, at] = sequence
        self.lots[account, column] += lots
        self.cash[account, column] += fee - (lots * price_ticks * CASH_PER_LOT_TICK if kind == "trade" else 0)
        return Fill(
            v=1,
            account=self.names[account],
            venue=venue,
            instrument=instrument,
            kind="trade" if kind == "trade" else "transfer",
            lots=lots,
            price_ticks=price_ticks,
            cash=fee,
            sequence=sequence,
            time_ns=time.time_ns(),
        )


def market(now_ns: int, *, options: bool = False) -> list[Message]:
    """Definitions, parameters and first prices, in the order in which a book must take them in."""
    messages: list[Message] = [*definitions(now_ns, options=options), parameters(now_ns), *prices(now_ns)]
    return [*messages, volatility(now_ns)] if options else messages
