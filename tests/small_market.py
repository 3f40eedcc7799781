"""A small market for tests: a few assets of each kind on four chains, with every contract, told to an engine.market.Market."""

import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.inputs import (
    AnyDefinition,
    AssetDefinition,
    ChainDefinition,
    Depth,
    ImpliedVolatility,
    InstrumentDefinition,
    LagObservation,
    OraclePrice,
    RiskParameters,
    VenueDefinition,
)
from engine.margin import OUT, break_down, evaluate, requirements_by_mode
from engine.market import Market
from engine.tables import OPTION, PENDING, PIECE_NAMES, PIECES, POSITIONS_MAX, RiskTables
from tests.small_world import PLAIN

SECOND = 10**9
DAY = 86_400 * SECOND
START = 1_760_000_000 * SECOND
SOURCES = ("north", "south", "west")
PRICES = {"BTC": 100_000.0, "ETH": 4_000.0, "WBETH": 4_280.0, "USDE": 1.0, "DOGE": 0.2, "GOV": 8.0}
SPOTS = ("BTC", "ETH", "WBETH", "USDE", "DOGE", "GOV", "USD")
EXPIRIES = (7, 35, 90)


def definitions() -> list[AnyDefinition]:
    """In an order in which each names only what was defined before."""
    every: list[AnyDefinition] = [
        ChainDefinition(v=1, time_ns=0, name="one", finality_s=60.0, messaging_delay_s=30.0),
        ChainDefinition(v=1, time_ns=0, name="two", finality_s=900.0, messaging_delay_s=60.0, security_premium=0.01),
        ChainDefinition(v=1, time_ns=0, name="twin-a", finality_s=10.0, messaging_delay_s=20.0, atomic_group="twins"),
        ChainDefinition(v=1, time_ns=0, name="twin-b", finality_s=12.0, messaging_delay_s=25.0, atomic_group="twins"),
    ]
    weights = dict.fromkeys(SOURCES, 1.0)
    assets: list[tuple[str, Any, str | None, float]] = [
        ("BTC", "major", None, 1.0),
        ("ETH", "major", None, 1.0),
        ("WBETH", "liquid_staking", "ETH", 1.08),
        ("USDE", "synthetic_dollar", "USD", 1.0),
        ("DOGE", "alt", None, 1.0),
        ("GOV", "governance", None, 1.0),
    ]
    for name, asset_class, redemption, rate in assets:
        every.append(
            AssetDefinition(
                v=1,
                time_ns=0,
                name=name,
                asset_class=asset_class,
                redemption_asset=redemption,
                redemption_rate=rate,
                redemption_delay_s=86_400.0 if redemption == "ETH" else 0.0,
                cap_usd_per_account=2e6 if name == "DOGE" else 1e15,
                eligible_chains=["one", "two"] if name == "GOV" else None,
                sources=weights,
            )
        )
    for chain in ("one", "two", "twin-a", "twin-b"):
        every.append(VenueDefinition(v=1, time_ns=0, name=f"vault-{chain}", chain=chain, vault=True))
        every.append(VenueDefinition(v=1, time_ns=0, name=f"venue-{chain}", chain=chain, fee_bps=5.0))
    for chain in ("one", "two", "twin-a", "twin-b"):
        every += [instrument(f"vault-{chain}", name, "spot", name) for name in SPOTS]
        every += [instrument(f"venue-{chain}", f"{name}-loan", "loan", name) for name in SPOTS]
        every += [instrument(f"venue-{chain}", f"{name}-perp", "perpetual", name) for name in PRICES]
        every += [instrument(f"venue-{chain}", f"{name}-coin", "inverse_perpetual", name) for name in ("BTC", "ETH")]
    for days in EXPIRIES:
        for strike in (80_000.0, 100_000.0, 120_000.0):
            for is_call in (True, False):
                name = f"BTC-{days}-{strike:.0f}-{'C' if is_call else 'P'}"
                terms: dict[str, Any] = {"strike": strike, "expiry_ns": START + days * DAY, "is_call": is_call}
                every.append(instrument("venue-one", name, "option", "BTC", **terms))
                every.append(instrument("venue-two", name, "inverse_option", "BTC", **terms))
    return every


def instrument(venue: str, name: str, contract: Any, underlying: str, **terms: Any) -> InstrumentDefinition:
    """Lots of 0.01 units (10 USD for inverse perpetuals), ticks of 0.01."""
    inverse = contract in ("inverse_perpetual", "inverse_option")
    return InstrumentDefinition(
        v=1,
        time_ns=0,
        venue=venue,
        name=name,
        contract=contract,
        underlying=underlying,
        quote=underlying if inverse else "USD",
        lot_size=10.0 if contract == "inverse_perpetual" else 0.01,
        tick_size=0.01,
        **terms,
    )


def price(asset: str, source: str, usd: float, time_ns: int) -> OraclePrice:
    return OraclePrice(v=1, asset=asset, source=source, price=usd, publish_time_ns=time_ns)


def say(fault: object) -> None:
    """Something told that must be taken."""
    assert fault is None, fault


def new_market(parameters: dict[str, Any] | None = None, *, prices: dict[str, float] | None = None, implied: bool = True) -> Market:
    """Defined, with parameters, at START, every price known to every source; implied volatilities 0.5, 0.55, 0.6."""
    market = Market()
    for definition in definitions():
        say(market.define(definition))
    say(market.set_parameters(RiskParameters(v=1, version="test", parameters={**PLAIN, **(parameters or {})}, time_ns=0)))
    market.tick(START)
    market.revalue()
    if implied:
        for number, days in enumerate(EXPIRIES):
            expiry = START + days * DAY
            say(
                market.observe_volatility(
                    ImpliedVolatility(v=1, underlying="BTC", expiry_ns=expiry, sigma=0.5 + 0.05 * number, time_ns=START)
                )
            )
        market.revalue()
    tell_prices(market, {**PRICES, **(prices or {})}, START)
    return market


def tell_prices(market: Market, prices: dict[str, float], time_ns: int) -> None:
    """The same price from each source, and one revaluation."""
    for asset, usd in prices.items():
        for source in SOURCES:
            say(market.observe_price(price(asset, source, usd, time_ns)))
    market.revalue()


def number_of(market: Market, venue: str, name: str) -> int:
    number = market.universe.instrument_number(venue, name)
    assert number is not None, f"{venue} {name}"
    return number


class Account:
    """Columns of one account as kernels take them."""

    def __init__(self, market: Market, positions: list[tuple[str, str, int, int]]) -> None:
        self.market = market
        self.count = len(positions)
        self.instrument = np.zeros(16, dtype=np.int32)
        self.quantity = np.zeros(16, dtype=np.int64)
        self.cash = np.zeros(16, dtype=np.int64)
        self.has_pending = False
        self.pending = np.zeros((POSITIONS_MAX, PENDING), dtype=np.int64)
        for slot, (venue, name, lots, units) in enumerate(positions):
            self.instrument[slot] = number_of(market, venue, name)
            self.quantity[slot] = lots
            self.cash[slot] = units

    def expect(self, slot: int, *, buy: int = 0, sell: int = 0, leaving: int = 0) -> None:
        """Open orders and withdrawals under way of a slot."""
        self.pending[slot] = buy, sell, leaving
        self.has_pending = bool(self.pending.any())

    @property
    def columns(self) -> tuple[int, NDArray[np.int32], NDArray[np.int64], NDArray[np.int64], bool, NDArray[np.int64], RiskTables]:
        """The first arguments of every kernel of engine.margin."""
        return self.count, self.instrument, self.quantity, self.cash, self.has_pending, self.pending, self.market.tables

    def value(self) -> tuple[int, NDArray[np.float64]]:
        """Unknown code and what `evaluate` wrote."""
        out = np.zeros(OUT)
        return evaluate(*self.columns, out), out

    def by_mode(self) -> list[float]:
        """Maintenance isolated, by protocol, portfolio."""
        out = np.zeros(3)
        requirements_by_mode(*self.columns, out)
        return [float(x) for x in out]

    def pieces(self, level: int = 0) -> dict[str, float]:
        """What the requirement is made of."""
        out = np.zeros(PIECES)
        total = break_down(*self.columns, level, out)
        assert total <= out.sum() + 1e-9 * abs(total)
        return dict(zip(PIECE_NAMES, out.tolist(), strict=True))


def random_account(market: Market, rng: random.Random, *, options: bool = True, size: int = 8) -> Account:
    """Distinct instruments, quantities of either sign (vault spot mostly held), cash on most of them."""
    account = Account(market, [])
    contracts = market.universe.instrument_arrays.contract
    candidates = [i for i in range(market.universe.instrument_count) if options or contracts[i] < OPTION]
    chosen = rng.sample(candidates, size)
    account.count = size
    for slot, i in enumerate(chosen):
        account.instrument[slot] = i
        lots = rng.choice([1, 7, 100, 5_000, 200_000])
        account.quantity[slot] = rng.choice([lots, -lots, lots, 0])
        unit = float(market.universe.instrument_arrays.cash_unit[i])
        usd = rng.uniform(-1e6, 1e6)
        mark = market.mark(int(market.universe.instrument_arrays.quote[i])) or 1.0
        account.cash[slot] = rng.choice([0, int(usd / mark / unit), int(usd / mark / unit)])
    return account


def stormy_market() -> Market:
    """After hours of large moves, then minutes of rest: volatile, correlated by what was seen, levels apart, every mark known again."""
    market = new_market()
    rng, prices = random.Random(11), dict(PRICES)
    for _ in range(240):
        market.tick(market.clock_ns + 60 * SECOND)
        market.revalue()
        common = rng.gauss(0.0, 0.004)
        prices = {asset: usd * (1.0 + common + rng.gauss(0.0, 0.003)) for asset, usd in prices.items()}
        prices["USDE"] = 0.97 + 0.02 * rng.random()
        tell_prices(market, prices, market.clock_ns)
    for _ in range(40):
        market.tick(market.clock_ns + 10 * SECOND)
        market.revalue()
        tell_prices(market, prices, market.clock_ns)
    for number, days in enumerate(EXPIRIES):
        expiry = START + days * DAY
        quote = ImpliedVolatility(v=1, underlying="BTC", expiry_ns=expiry, sigma=1.1 - 0.1 * number, time_ns=market.clock_ns)
        say(market.observe_volatility(quote))
    market.revalue()
    return market


def random_frame(market: Market, rng: random.Random, prices: dict[str, float]) -> None:
    """One random market frame after START, and its revaluation; `prices` is the walk so far and moves on."""
    now = market.clock_ns
    kind = rng.choice(["tick", "tick", "tick", "price", "price", "price", "depth", "implied", "lag", "jump"])
    if kind == "tick":
        market.tick(now + rng.choice([1, 1, 5, 60]) * SECOND)
    elif kind in ("price", "jump"):
        for asset in rng.sample(sorted(prices), rng.randint(1, 3)):
            prices[asset] *= 1.0 + rng.gauss(0.0, 0.05 if kind == "jump" else 0.002)
            for source in rng.sample(SOURCES, rng.randint(1, 3)):
                noise = 1.0 + rng.gauss(0.0, 0.03 if kind == "jump" else 0.0005)
                market.observe_price(price(asset, source, prices[asset] * noise, now - rng.randint(0, 3) * SECOND))
    elif kind == "depth":
        asset = rng.choice(sorted(prices))
        market.observe_depth(
            Depth(v=1, asset=asset, depth_usd=rng.choice([0.0, 1e4, 1e6, 1e8]), spread_bps=rng.uniform(0, 50), time_ns=now)
        )
    elif kind == "implied":
        expiry = START + rng.choice([*EXPIRIES, 14, 60]) * DAY
        market.observe_volatility(ImpliedVolatility(v=1, underlying="BTC", expiry_ns=expiry, sigma=rng.uniform(0.2, 2.0), time_ns=now))
    else:
        chain = rng.choice(["one", "two", "twin-a"])
        market.observe_lag(LagObservation(chain, rng.randint(1, 4_000) * SECOND, now - rng.randint(0, 100) * SECOND))
    market.revalue()
