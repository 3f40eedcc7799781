"""The engine's book against the plain twin: every contract in random books, and random ledgers full of jumps, silence and missing fills."""

import math
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from engine.inputs import (
    AnyDefinition,
    AssetDefinition,
    ChainDefinition,
    Credit,
    Depth,
    Fill,
    FrameKind,
    Funding,
    Grant,
    ImpliedVolatility,
    InstrumentDefinition,
    LagObservation,
    OraclePrice,
    OrderReport,
    Pending,
    PendingPosition,
    RiskParameters,
    SetFreeze,
    SetMode,
    SetQuarantine,
    Snapshot,
    SnapshotPosition,
    Tick,
    VenueDefinition,
)
from streams.shadow.values import black76, black76_delta
from tests.twin.black76 import black76 as exact_black76
from tests.two_books import PARTITION, TwoBooks

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
T0 = 1_760_128_200 * SECOND
SOURCES = {"one": 1.0, "two": 1.0, "three": 0.5}
PRICES = {"USDC": 1.0, "USDE": 1.0, "BTC": 100_000.0, "ETH": 4_000.0, "WBETH": 4_320.0, "DOGE": 0.2, "TBILL": 105.0, "UNI": 8.0}
EXPIRIES = (T0 + 21 * DAY, T0 + 49 * DAY, T0 + 600 * SECOND)  # the last one expires within a ledger
LOTS_OF_USD = ("inverse_perpetual", "inverse_future")
MEASURES: dict[str, tuple[tuple[Any, float, float], ...]] = {  # (measure, from, to) by contract
    "loan": (("interest_index", 1.0, 1.1), ("interest_rate", 0.0, 2.0)),
    "perpetual": (("rate_per_hour", -0.01, 0.01), ("basis", -0.02, 0.02)),
    "inverse_perpetual": (("rate_per_hour", -0.01, 0.01), ("basis", -0.02, 0.02)),
    "future": (("basis", -0.02, 0.05),),
    "inverse_future": (("basis", -0.02, 0.05),),
}
BETWEEN = T0 + 35 * DAY


def asset(name: str, asset_class: Any, **terms: Any) -> AssetDefinition:
    return AssetDefinition(v=1, time_ns=0, name=name, asset_class=asset_class, sources=SOURCES, **terms)


def instrument(venue: str, name: str, contract: Any, underlying: str, lot: float, tick: float, **terms: Any) -> InstrumentDefinition:
    return InstrumentDefinition(
        v=1, time_ns=0, venue=venue, name=name, contract=contract, underlying=underlying, lot_size=lot, tick_size=tick, **terms
    )


DEFINITIONS: list[AnyDefinition] = [
    AssetDefinition(v=1, time_ns=0, name="USD", asset_class="cash"),
    ChainDefinition(v=1, time_ns=0, name="one", finality_s=780.0, messaging_delay_s=60.0, atomic_group="shared"),
    ChainDefinition(v=1, time_ns=0, name="two", finality_s=12.0, messaging_delay_s=600.0, atomic_group="shared"),
    ChainDefinition(v=1, time_ns=0, name="three", finality_s=1.0, messaging_delay_s=60.0, security_premium=0.01, messaging_layer="other"),
    asset("USDC", "stable", redemption_asset="USD"),
    asset("USDE", "synthetic_dollar", redemption_asset="USD", redemption_delay_s=604_800.0),
    asset("BTC", "major"),
    asset("ETH", "major"),
    asset("WBETH", "liquid_staking", redemption_asset="ETH", redemption_rate=1.08, eligible_chains=["one", "two"]),
    asset("DOGE", "alt", cap_usd_per_account=50_000.0),
    asset("TBILL", "real_world"),
    asset("UNI", "governance"),
    VenueDefinition(v=1, time_ns=0, name="v1", chain="one", fee_bps=5.0),
    VenueDefinition(v=1, time_ns=0, name="v2", chain="two"),
    VenueDefinition(v=1, time_ns=0, name="v3", chain="three", fee_bps=3.5),
    VenueDefinition(v=1, time_ns=0, name="vault1", chain="one", vault=True),
    VenueDefinition(v=1, time_ns=0, name="vault3", chain="three", vault=True),
    instrument("v1", "USD", "spot", "USD", 1.0, 0.01, tradable=False),
    instrument("v1", "USD-LOAN", "loan", "USD", 1.0, 0.01),
    instrument("v1", "USDE", "spot", "USDE", 1.0, 0.0001),
    instrument("v1", "WBETH", "spot", "WBETH", 0.01, 0.01, quote="USDC"),
    instrument("v1", "DOGE", "spot", "DOGE", 100.0, 0.00001),
    instrument("v1", "DOGE-PERP", "perpetual", "DOGE", 100.0, 0.00001),
    instrument("v1", "ETH-FUT", "future", "ETH", 0.01, 0.01, expiry_ns=EXPIRIES[0]),
    instrument("v3", "ETH-END", "future", "ETH", 0.01, 0.01, expiry_ns=EXPIRIES[2]),
    instrument("v3", "BTC-FUT", "inverse_future", "BTC", 100.0, 0.5, quote="BTC", expiry_ns=EXPIRIES[1]),
    instrument("v2", "BTC-END", "inverse_future", "BTC", 100.0, 0.5, quote="BTC", expiry_ns=EXPIRIES[2]),
    instrument("v2", "BTC-ENDS", "inverse_option", "BTC", 0.01, 0.0001, quote="BTC", strike=99_000.0, expiry_ns=EXPIRIES[2], is_call=True),
    instrument("v1", "ETH-CALL", "option", "ETH", 0.1, 0.01, strike=4_200.0, expiry_ns=EXPIRIES[0], is_call=True),
    instrument("v1", "ETH-SOON", "option", "ETH", 0.1, 0.01, strike=4_000.0, expiry_ns=EXPIRIES[2], is_call=False),
    instrument("v2", "ETH-LOAN", "loan", "ETH", 0.001, 0.01),
    instrument("v2", "WBETH-LOAN", "loan", "WBETH", 0.001, 0.01),
    instrument("v2", "WBETH", "spot", "WBETH", 0.01, 0.01),
    instrument("v2", "TBILL", "spot", "TBILL", 0.1, 0.01, quote="USDC"),
    instrument("v2", "UNI", "spot", "UNI", 1.0, 0.001),
    instrument("v3", "BTC", "spot", "BTC", 0.001, 0.1),
    instrument("v3", "BTC-PERP", "perpetual", "BTC", 0.001, 0.1, funding_interval_s=3_600),
    instrument("v3", "ETH-PERP", "perpetual", "ETH", 0.01, 0.01, quote="USDC", funding_interval_s=28_800),
    instrument("v3", "UNI-BTC", "spot", "UNI", 1.0, 0.0000001, quote="BTC"),
    instrument("v3", "BTC-SWAP", "inverse_perpetual", "BTC", 100.0, 0.5, quote="BTC", funding_interval_s=28_800),
    instrument("v3", "BTC-CALL", "inverse_option", "BTC", 0.01, 0.0001, quote="BTC", strike=105_000.0, expiry_ns=EXPIRIES[0], is_call=True),
    instrument("v3", "BTC-PUT", "inverse_option", "BTC", 0.01, 0.0001, quote="BTC", strike=95_000.0, expiry_ns=EXPIRIES[1], is_call=False),
    instrument("v3", "BTC-MID", "inverse_option", "BTC", 0.01, 0.0001, quote="BTC", strike=98_000.0, expiry_ns=BETWEEN, is_call=False),
    instrument("vault1", "WBETH", "spot", "WBETH", 0.01, 0.01, tradable=False),
    instrument("vault3", "ETH", "spot", "ETH", 0.01, 0.01, tradable=False),
]
INSTRUMENTS = {(i.venue, i.name): i for i in DEFINITIONS if isinstance(i, InstrumentDefinition)}
KEYS = list(INSTRUMENTS)


def notional_usd(key: tuple[str, str]) -> float:
    """Of a lot at the first prices."""
    one = INSTRUMENTS[key]
    return one.lot_size if one.contract in LOTS_OF_USD else one.lot_size * PRICES.get(one.underlying, 1.0)


def price(name: str, source: str, usd: float, time_ns: int) -> OraclePrice:
    return OraclePrice(v=1, asset=name, source=source, price=usd, confidence=usd * 1e-4, publish_time_ns=time_ns)


def start(books: TwoBooks, changes: dict[str, Any]) -> None:
    books.feed(FrameKind.DEFINITIONS, DEFINITIONS)
    books.feed(FrameKind.PARAMETERS, [RiskParameters(v=1, version="test", parameters=changes, time_ns=0)])
    books.feed(FrameKind.COMMANDS, [SetMode(v=1, by="test", time_ns=0, mode="publish")])


# ---- one valuation of a random book ---------------------------------------------------------------------------------------------------

positions = st.dictionaries(
    st.sampled_from(KEYS),
    st.tuples(st.floats(-200_000.0, 200_000.0), st.floats(-100_000.0, 100_000.0)),
    min_size=1,
    max_size=8,
)
moves = st.fixed_dictionaries({name: st.floats(-0.35, 0.35) for name in PRICES})
rules = st.fixed_dictionaries(
    {},
    optional={
        "grid_steps": st.sampled_from([3, 6]),
        "decision_mode": st.sampled_from(["isolated", "protocol", "portfolio"]),
        "extreme_multiple": st.floats(1.0, 5.0),
        "extreme_fraction": st.floats(0.0, 1.0),
        "correlation_shrink": st.floats(0.0, 1.0),
        "prior_correlation": st.floats(0.0, 1.0),
        "vol_shock": st.floats(0.0, 3.0),
        "scan_k": st.floats(0.1, 10.0),
        "vol_min": st.floats(0.0, 2.0),
        "latency_z": st.floats(0.0, 10.0),
        "impact_coefficient": st.floats(0.0, 1.0),
        "sigma_rise_per_hour": st.floats(0.0, 10.0),
    },
)


# Each example runs both books; a smaller counterexample is not worth the minutes that shrinking takes.
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=(Phase.explicit, Phase.reuse, Phase.generate)
)
@given(positions, moves, rules, st.floats(0.1, 3.0), st.floats(0.0, 1e9))
def test_values_and_requirements_of_random_books(
    held: dict[tuple[str, str], tuple[float, float]], move: dict[str, float], changes: dict[str, Any], sigma: float, depth_usd: float
) -> None:
    books = TwoBooks()
    start(books, {**changes, "breakers_enabled": False, "future_skew_s": 60.0})
    books.feed(FrameKind.TICK, [Tick(T0)])
    for step in range(4):  # prices go where they go in three steps, so that volatility and correlation have something to see
        now_ns = T0 + step * 50 * SECOND
        prices = {name: usd * (1 + move[name] * step / 3) for name, usd in PRICES.items()}
        books.feed(FrameKind.PRICES, [price(name, source, usd, now_ns) for name, usd in prices.items() for source in SOURCES])
        quotes = [(name, expiry_ns) for name in ("BTC", "ETH") for expiry_ns in EXPIRIES]
        books.feed(
            FrameKind.VOLATILITIES,
            [
                ImpliedVolatility(v=1, underlying=name, expiry_ns=expiry_ns, sigma=sigma * (1 + k / 7), time_ns=now_ns)
                for k, (name, expiry_ns) in enumerate(quotes)
            ],
        )
        books.feed(
            FrameKind.DEPTHS,
            [Depth(v=1, asset=name, depth_usd=depth_usd, spread_bps=4.0, time_ns=now_ns) for name in ("BTC", "ETH", "USDE")],
        )
        books.feed(FrameKind.LAGS, [LagObservation("one", 1_700 * SECOND, now_ns)])
        books.feed(FrameKind.TICK, [Tick(now_ns)])
    books.feed(
        FrameKind.FUNDINGS,
        [Funding(v=1, venue="v2", instrument="ETH-LOAN", measure="interest_index", value=1.07, time_ns=T0)],
    )
    for venue in sorted({venue for venue, _ in held}):
        said = [
            SnapshotPosition(name, round(usd / notional_usd((venue, name))), round(cash_usd / cash_usd_of((venue, name))))
            for (at, name), (usd, cash_usd) in held.items()
            if at == venue
        ]
        books.feed(FrameKind.SNAPSHOTS, [Snapshot(v=1, account="somebody", venue=venue, sequence=3, positions=said, time_ns=T0)])
    assert books.differences() == []
    assert books.twin.accounts["somebody"].state != "UNKNOWN"


def cash_usd_of(key: tuple[str, str]) -> float:
    """USD of a cash unit at the first prices."""
    quote = INSTRUMENTS[key].quote
    return 1e-6 if quote in ("USD", "USDC") else 1e-9 * PRICES[quote]


# ---- random ledgers ---------------------------------------------------------------------------------------------------------------


class World:
    """Draws one step of a ledger after the other; all that is drawn comes from the seed."""

    def __init__(self, books: TwoBooks, seed: int, rules: dict[str, Any]) -> None:
        self.books = books
        self.rules = rules
        self.random = random.Random(seed)
        self.now_ns = self.clock_ns = T0  # of the coming tick, and of the last one
        self.prices = dict(PRICES)
        self.lag_s = 100
        self.sequences: dict[tuple[str, str], int] = {}
        self.kept_back: list[Fill] = []
        self.answered: set[str] = set()
        self.numbers = 0

    def step(self) -> None:
        dice = self.random
        self.clock_ns = self.now_ns
        self.now_ns += dice.choice((5, 5, 5, 10, 20, 50)) * SECOND
        for draw in (self.market_frames, self.account_frames):
            for kind, events in draw():
                if events:
                    self.books.feed(kind, events)
        self.books.feed(FrameKind.TICK, [Tick(self.now_ns)])

    def market_frames(self) -> Iterator[tuple[FrameKind, list[Any]]]:
        dice = self.random
        wild = dice.random() < 0.08
        for name in self.prices:
            self.prices[name] *= math.exp(dice.gauss(0.0, 0.0008 if name.startswith("USD") else 0.004))
            if wild and dice.random() < 0.4:
                self.prices[name] *= 1 + dice.uniform(-0.15, 0.1)
        yield (
            FrameKind.PRICES,
            [
                price(
                    name,
                    source,
                    usd * (1 + dice.gauss(0.0, 0.12 if dice.random() < 0.02 else 0.0004)),
                    self.now_ns - dice.randint(0, 20) * SECOND,
                )
                for name, usd in self.prices.items()
                for source in SOURCES
                if dice.random() < 0.7
            ],
        )
        if dice.random() < 0.5:
            yield (
                FrameKind.DEPTHS,
                [
                    Depth(
                        v=1,
                        asset=name,
                        depth_usd=dice.choice((0.0, 1e4, 1e6, 1e7)),
                        spread_bps=dice.uniform(0.0, 50.0),
                        time_ns=self.now_ns,
                    )
                    for name in dice.sample(sorted(PRICES), 3)
                ],
            )
        if dice.random() < 0.6:
            yield (
                FrameKind.VOLATILITIES,
                [
                    ImpliedVolatility(v=1, underlying=name, expiry_ns=expiry_ns, sigma=dice.uniform(0.3, 1.5), time_ns=self.now_ns)
                    for name in ("BTC", "ETH")
                    for expiry_ns in EXPIRIES
                    if expiry_ns > self.now_ns and dice.random() < 0.5
                ],
            )
        if dice.random() < 0.2:
            yield FrameKind.FUNDINGS, [self.observed(key) for key in dice.sample(KEYS, 6) if INSTRUMENTS[key].contract in MEASURES]
        if dice.random() < 0.2:
            self.lag_s = max(1, self.lag_s + dice.choice((-300, -100, 0, 150, 700)))
            yield FrameKind.LAGS, [LagObservation("three", self.lag_s * SECOND, self.now_ns, quarantined=dice.random() < 0.05)]
        if dice.random() < 0.2:
            yield FrameKind.LAGS, [LagObservation(name, dice.choice((20, 1_500)) * SECOND, self.now_ns) for name in ("one", "two")]
        if dice.random() < 0.02:
            yield FrameKind.LAGS, [LagObservation("three", 0, 0, quarantined=True)]  # of an attestor that hears none of its heartbeats
        if dice.random() < 0.05:
            yield (
                FrameKind.COMMANDS,
                [SetQuarantine(v=1, by="test", time_ns=self.clock_ns, chain=dice.choice(("one", "three")), on=dice.random() < 0.3)],
            )
        if dice.random() < 0.3:
            assets = dice.sample(sorted(PRICES), 4)
            yield (
                FrameKind.GRANTS,
                [Grant(PARTITION, name, dice.choice((0.0, 5_000.0, 1e6)), 3e6, 0, dice.choice((1.0, 1.0, 0.7))) for name in assets],
            )
        if dice.random() < 0.03:
            yield FrameKind.COMMANDS, [SetMode(v=1, by="test", time_ns=self.clock_ns, mode=dice.choice(("observe", "publish", "publish")))]
        if dice.random() < 0.02:
            self.rules |= {
                "breakers_enabled": dice.random() < 0.7,
                "grid_steps": dice.choice((3, 6)),
                "decision_mode": dice.choice(("portfolio", "protocol", "isolated")),
                "quorum": dice.choice((1, 2, 2)),
            }
            yield FrameKind.PARAMETERS, [RiskParameters(v=1, version="later", parameters=self.rules, time_ns=self.clock_ns)]
        if dice.random() < 0.03:
            sources = dict(dice.sample(sorted(SOURCES.items()), 2))
            yield (
                FrameKind.DEFINITIONS,
                [
                    msgspec.structs.replace(asset("DOGE", "alt"), sources=sources, cap_usd_per_account=dice.choice((10_000.0, 50_000.0))),
                    msgspec.structs.replace(INSTRUMENTS["v1", "DOGE-PERP"], tradable=dice.random() < 0.5),
                ],
            )
        if dice.random() < 0.04:
            scope: Any = dice.choice(("account", "venue", "all"))
            name = {"account": "a1", "venue": "v3", "all": ""}[scope]
            for frozen in (True, False):
                yield FrameKind.COMMANDS, [SetFreeze(v=1, by="test", time_ns=self.now_ns, scope=scope, name=name, frozen=frozen)]
                yield FrameKind.TICK, [Tick(self.now_ns)]

    def noise(self) -> float:
        """How far a source is from the price; now and then very far."""
        return self.random.gauss(0.0, 0.12 if self.random.random() < 0.02 else 0.0004)

    def account_frames(self) -> Iterator[tuple[FrameKind, list[Any]]]:
        dice = self.random
        fills = [*self.order_fills(), *(self.trade() for _ in range(dice.choice((0, 0, 0, 1, 2))))]
        kept = [fill for fill in fills if dice.random() < 0.03]
        fills = [fill for fill in fills if fill not in kept]
        if self.kept_back and dice.random() < 0.2:
            fills += self.kept_back
            self.kept_back = []
        self.kept_back += kept
        if fills and dice.random() < 0.1:
            fills.append(dice.choice(fills))  # once too often
        yield FrameKind.FILLS, fills
        yield FrameKind.FILLS, list(self.settlements())
        if dice.random() < 0.1:
            yield FrameKind.SNAPSHOTS, [self.snapshot()]
        if dice.random() < 0.2:
            yield FrameKind.PENDING, [self.pending() for _ in range(dice.choice((1, 1, 2)))]
        if dice.random() < 0.15:
            chain, name = dice.choice((("one", "WBETH"), ("three", "ETH"), ("three", "ETH"), ("three", "BTC")))
            self.numbers += 1
            yield FrameKind.CREDITS, [Credit(self.account(), chain, name, dice.randint(-400, 900), self.numbers, bytes(32), self.now_ns)]
        open_orders = [(a.name, name, flight) for a in self.books.twin.accounts.values() for name, flight in a.flights.items()]
        if open_orders and dice.random() < 0.3:
            account, order_id, flight = dice.choice(open_orders)
            status: Any = dice.choice(("acknowledged", "rejected", "cancelled", "filled"))
            filled = dice.choice((flight.filled, flight.filled, abs(flight.lots)))
            yield (
                FrameKind.REPORTS,
                [OrderReport(v=1, account=account, order_id=order_id, status=status, filled_lots=filled, time_ns=self.now_ns)],
            )

    def account(self) -> str:
        return f"a{self.random.randint(1, 6)}"

    def numbered(self, account: str, key: tuple[str, str], **terms: Any) -> Fill:
        sequence = self.sequences[account, key[0]] = self.sequences.get((account, key[0]), 0) + 1
        return Fill(v=1, account=account, venue=key[0], instrument=key[1], sequence=sequence, time_ns=self.clock_ns, **terms)

    def trade(self) -> Fill:
        dice = self.random
        key = dice.choice([key for key in KEYS if not key[0].startswith("vault")])
        one = INSTRUMENTS[key]
        account = self.account()
        lots = round(dice.uniform(-1.0, 1.0) * dice.choice((1_000.0, 20_000.0, 100_000.0)) / notional_usd(key))
        fee = round(dice.uniform(0.0, 10.0) / cash_usd_of(key))
        kind: Any = dice.choice(("trade", "trade", "trade", "transfer", "funding", "liquidation", "bust"))
        if one.contract == "loan":
            lots = -abs(lots)
        if one.contract == "spot":
            lots = abs(lots)
        if kind == "funding":
            return self.numbered(account, key, kind=kind, lots=0, price_ticks=0, cash=dice.choice((-50, 20)) * fee)
        ticks = self.price_ticks(key)
        fill = self.numbered(account, key, kind=kind, lots=lots, price_ticks=ticks, cash=-fee)
        spoilt = dice.random()
        if spoilt < 0.01:
            return msgspec.structs.replace(fill, instrument="NOT-DEFINED")
        if spoilt < 0.02:
            return msgspec.structs.replace(fill, lots=2**61, price_ticks=fill.price_ticks + 3, kind="trade")
        if spoilt < 0.03:
            self.sequences[account, key[0]] += 70
            return msgspec.structs.replace(fill, sequence=fill.sequence + 70)
        return fill

    def price_ticks(self, key: tuple[str, str]) -> int:
        one = INSTRUMENTS[key]
        usd = self.prices.get(one.underlying, 1.0)
        if one.contract in ("option", "inverse_option"):
            usd *= 0.05
        quoted = usd if one.contract in LOTS_OF_USD else usd / self.prices.get(one.quote, 1.0)
        return max(round(quoted / one.tick_size), 1)

    def order_fills(self) -> Iterator[Fill]:
        """Some of the open orders are filled, in part or whole, at their limits."""
        for order in self.books.twins:
            if order.order_id in self.answered or self.random.random() < 0.6:
                continue
            self.answered.add(order.order_id)
            lots = round(order.lots * self.random.choice((0.4, 1.0, 1.0)))
            yield self.numbered(order.account, order.key, kind="trade", lots=lots, price_ticks=order.limit_ticks, order_id=order.order_id)

    def observed(self, key: tuple[str, str]) -> Funding:
        measure, low, high = self.random.choice(MEASURES[INSTRUMENTS[key].contract])
        value = self.random.uniform(low, high)
        return Funding(
            v=1, venue=key[0], instrument=key[1], measure=measure, value=value, time_ns=self.now_ns - self.random.randint(0, 90) * SECOND
        )

    def settlements(self) -> Iterator[Fill]:
        """Venues settle what has expired, sooner or later, some of it worthless."""
        for account in self.books.twin.accounts.values():
            for key, position in account.positions.items():
                one = INSTRUMENTS[key]
                if position.quantity == 0 or not 0 < one.expiry_ns <= self.clock_ns or self.random.random() < 0.9:
                    continue
                worthless = one.contract in ("option", "inverse_option") and self.random.random() < 0.5
                ticks = 0 if worthless else self.price_ticks(key)
                yield self.numbered(account.name, key, kind="settlement", lots=-position.quantity, price_ticks=ticks)

    def pending(self) -> Pending:
        """Open orders and withdrawals under way at one venue, in what is held there and in other things; now and then of a wrong name."""
        dice = self.random
        venue = dice.choice(("v1", "v2", "v3", "vault1"))
        names = [name for at, name in dice.sample(KEYS, len(KEYS)) if at == venue][: dice.randint(0, 3)]
        if dice.random() < 0.03:
            names.append("NOT-DEFINED")
        return Pending(
            v=1,
            account=self.account(),
            venue="nowhere" if dice.random() < 0.02 else venue,
            positions=[
                PendingPosition(
                    name,
                    *(round(dice.choice((0.0, dice.uniform(0.0, 20_000.0))) / notional_usd(key)) for _ in range(3)),
                )
                for name in names
                for key in [(venue, name) if name != "NOT-DEFINED" else KEYS[0]]
            ],
            time_ns=self.now_ns - dice.randint(0, 30) * SECOND + (100 * SECOND if dice.random() < 0.02 else 0),
        )

    def snapshot(self) -> Snapshot:
        dice = self.random
        account = self.account()
        venue = dice.choice(("v1", "v2", "v3"))
        record = self.books.twin.accounts.get(account)
        held = [] if record is None else [(key, p) for key, p in record.positions.items() if key[0] == venue and (p.quantity or p.cash)]
        wrong = 1 if dice.random() < 0.1 else 0
        said = [SnapshotPosition(key[1], p.quantity + wrong, p.cash) for key, p in held]
        sequence = self.sequences.get((account, venue), 0)
        return Snapshot(v=1, account=account, venue=venue, sequence=sequence, positions=said, time_ns=self.clock_ns)


SEEDS = range(8)


def run_of(seed: int, steps: int = 120) -> TwoBooks:
    books = TwoBooks()
    dice = random.Random(seed)
    rules: dict[str, Any] = {
        "future_skew_s": 60.0,
        "implied_max_age_s": 120.0,
        "cooldown_s": 40.0,
        "divergence_trip": dice.choice((0.05, 0.02)),
        "lag_trip_s": 900.0,
        "lag_reset_s": 600.0,
        "grace_s": dice.choice((0.0, 60.0)),
        "decision_mode": dice.choice(("portfolio", "portfolio", "protocol", "isolated")),
        "sigma_rise_per_hour": dice.choice((0.5, 10.0)),
        "grid_steps": dice.choice((3, 6)),
        "plan_retry_s": dice.choice((5.0, 12.0)),
        "quorum": 2,
        "fear_half_life_s": dice.choice((120.0, 3_600.0)),
        "recognition_half_life_s": dice.choice((200.0, 21_600.0)),
        "haircut_rise_per_hour": dice.choice((0.05, 5.0)),
        "funding_max_age_s": dice.choice((300.0, 86_400.0)),
        "settlement_wait_s": dice.choice((120.0, 3_600.0)),
        "silence_trip": dice.choice((1, 2, 5)),
        "bad_debt_limit_usd": dice.choice((10.0, 1e6)),
        "uptime_tau_s": 300.0,
        "classes": {"alt": {"suspend_depth_usd": 100_000.0, "suspend_uptime": 0.9}, "major": {"stable_rate": 0.5}},
    }
    start(books, rules)
    books.feed(FrameKind.TICK, [Tick(T0)])
    world = World(books, seed, rules)
    for number in range(steps):
        world.step()
        if dice.random() < 0.06:
            books.restart()
        found = books.differences()
        assert found == [], f"seed {seed}, step {number}, clock {(world.now_ns - T0) // SECOND} s: " + "\n".join(found)
    return books


@pytest.mark.parametrize("seed", SEEDS)
def test_random_ledgers(seed: int) -> None:
    """After every step; and now and then the engine's book is cut, thrown away and restored."""
    run_of(seed)


# ---- the twin's own option prices -------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.floats(0.2, 5.0), st.floats(0.01, 3.0), st.floats(0.0005, 2.0), st.booleans())
def test_the_twins_options_against_fifty_digits(moneyness: float, sigma: float, t_years: float, is_call: bool) -> None:
    exact = exact_black76(moneyness, 1.0, sigma, t_years, is_call, 1.0)
    assert black76(moneyness, 1.0, sigma, t_years, is_call) == pytest.approx(float(exact.price), abs=1e-14)
    assert black76_delta(moneyness, 1.0, sigma, t_years, is_call) == pytest.approx(float(exact.delta), abs=1e-13)
