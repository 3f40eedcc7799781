"""Turns the facts into one time-ordered stream of public messages: prices, depth, volatilities, funding, heartbeats.

Conventions. A one-minute bar gives its open at +0 s, high and low at +20 and +40 s (low first when the asset's best covered source closes
above its open, else high first: the same order at all venues) and its close at +60 s less a millisecond, so that it does not coincide with
the next bar's open. A mean over a minute is known at its end. A source made from another one is called `synthetic-N`, and each of its
messages says `synthetic`.
"""

import heapq
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from typing import Literal, NamedTuple

from engine.inputs import Depth, Funding, Heartbeat, ImpliedVolatility, Message, OraclePrice
from streams.demo.definitions import CHAINS, SLOW_CHAIN
from streams.demo.facts import ASSETS, MAJORS, MINUTES, REDEMPTION_RATES, SECOND_NS, START_NS, Bar, Point, load

Scenario = Literal["A", "B"]
END_S = MINUTES * 60
MILLISECOND_NS = 1_000_000

# Hyperliquid's depth lies within an undocumented, narrow band (25 bp in a sister file); the demo's depth is that within 2 %.
DEPTH_SCALE = 4.0
# Depth of what has no book in the data, as a share of SOL's at the same minute: it falls when SOL's falls.
DEPTH_SHARES = {
    "USDe": 1.0,
    "XRP": 1.0,
    "DOGE": 0.7,
    "ADA": 0.4,
    "LINK": 0.4,
    "WBETH": 0.3,
    "BNSOL": 0.2,
    "AVAX": 0.3,
    "LTC": 0.3,
    "BCH": 0.3,
}
DEPTH_SHARE_OTHER = 0.15
SPREAD_SHARE_OTHER = 2.0  # times SOL's spread

HEARTBEAT_EVERY_S = 10
BLOCK_S = {"ethereum": 12.0, "arbitrum": 0.25, "base": 2.0, "optimism": 2.0, "solana": 0.4, "hyperliquid": 0.2}
LAG_S = {"ethereum": 800.0, "arbitrum": 860.0, "base": 850.0, "optimism": 850.0, "solana": 14.0, "hyperliquid": 1.0}
SLOW_FROM_S, SLOW_UNTIL_S = 40 * 60, 75 * 60  # 21:10 to 21:45: no new finalised block of the slow chain

LOAN_RATE_PER_YEAR = 0.08
LOAN_VENUES = ("binance", "okx", "aave", "morpho")
INDEX_EVERY_S = 600


class Event(NamedTuple):
    """One public message and the topic it goes to, at its event time."""

    time_ns: int
    topic: str
    message: Message


def timeline(scenario: Scenario, minutes: int = MINUTES) -> list[Event]:
    """Everything but accounts, definitions and attestations, in order of event time; equal times in a fixed order of topics and names.

    `A`: Binance alone prints USDe's fall, the synthetic sources hold where the on-chain pool stayed. `B`: they fall with Binance.
    """
    until = START_NS + minutes * 60 * SECOND_NS
    streams: list[Iterable[Event]] = [prices(scenario), depths(), volatilities(), fundings(), heartbeats()]
    return [event for event in heapq.merge(*map(_ordered, streams), key=_order) if event.time_ns <= until]


def prices(scenario: Scenario) -> Iterator[Event]:
    for name, asset in ASSETS.items():
        real = {source: list(_observations(source, name)) for source in asset.sources if source not in asset.synthetic}
        if name in REDEMPTION_RATES:
            real = {"binance": list(_staked(name))}
        for source, observations in real.items():
            for observation in observations:
                yield _price(name, source, observation)
        for number, source in enumerate(asset.synthetic, 1):
            for observation in _made(scenario, name, number, real[asset.base]):
                yield _price(name, source, observation)


def depths() -> Iterator[Event]:
    """Real for BTC, ETH and SOL, from Hyperliquid; where the book shows more than its calm median, the median (bids are what counts)."""
    books = load().books
    for name in MAJORS:
        calm = _median([book.depth_usd for book in books[name] if book.minute < 20])
        for book in books[name]:
            yield _depth(name, book.minute, min(book.depth_usd, calm) * DEPTH_SCALE, book.spread_bps)
    calm = _median([book.depth_usd for book in books["SOL"] if book.minute < 20])
    for name in ASSETS:
        if name not in MAJORS:
            share = DEPTH_SHARES.get(name, DEPTH_SHARE_OTHER) * DEPTH_SCALE
            for book in books["SOL"]:
                yield _depth(name, book.minute, min(book.depth_usd, calm) * share, book.spread_bps * SPREAD_SHARE_OTHER)


def volatilities() -> Iterator[Event]:
    for expiry_ns, points in load().volatility.items():
        for point in points:
            at = START_NS + point.second * SECOND_NS
            yield Event(
                at, "market.volatility", ImpliedVolatility(v=1, underlying="BTC", expiry_ns=expiry_ns, sigma=point.value, time_ns=at)
            )


def fundings() -> Iterator[Event]:
    """Hyperliquid's funding rates (real, each minute; XRP has none, DOGE's is hourly), and the interest index of loans (a stated rate)."""
    facts = load()
    for name in MAJORS:
        for book in facts.books[name]:
            yield _funding("hyperliquid", f"{name}-PERP", (book.minute + 1) * 60, book.funding_per_hour)
    for point in facts.funding["hyperliquid", "DOGE"]:
        yield _funding("hyperliquid", "DOGE-PERP", max(point.second, 0), point.value)
    for venue in LOAN_VENUES:
        for second in range(0, END_S + 1, INDEX_EVERY_S):
            at = START_NS + second * SECOND_NS
            index = 1.0 + LOAN_RATE_PER_YEAR * second / 31_536_000
            yield Event(
                at, "market.funding", Funding(v=1, venue=venue, instrument="USD-LOAN", measure="interest_index", value=index, time_ns=at)
            )


def heartbeats() -> Iterator[Event]:
    """Synthetic: each chain's newest finalised block every 10 s; the slow chain finalises nothing from 21:10 to 21:45."""
    for chain in CHAINS:
        if chain not in BLOCK_S:
            continue  # an exchange's custody has no blocks
        for second in range(0, END_S + 1, HEARTBEAT_EVERY_S):
            stopped = chain == SLOW_CHAIN and SLOW_FROM_S <= second < SLOW_UNTIL_S
            block_s = (SLOW_FROM_S if stopped else second) - LAG_S[chain]
            observed = START_NS + second * SECOND_NS
            message = Heartbeat(
                v=1,
                chain=chain,
                height=1_000_000 + int((block_s + 3600) / BLOCK_S[chain]),
                block_time_ns=START_NS + int(block_s * SECOND_NS),
                observed_time_ns=observed,
            )
            yield Event(observed, "chain.heartbeats", message)


class Observation(NamedTuple):
    """A price at a time."""

    time_ns: int
    price: float
    synthetic: bool


def _observations(source: str, asset: str) -> Iterator[Observation]:
    """A real source's prices: bars at four moments, points at their own."""
    facts = load()
    for bar in facts.bars.get((source, asset), ()):
        yield from _bar_observations(bar, low_first=_rises(asset, bar))
    for point in facts.points.get((source, asset), ()):
        yield Observation(START_NS + point.second * SECOND_NS, point.value, synthetic=False)


def _rises(asset: str, bar: Bar) -> bool:
    """Whether the asset rose in the bar's minute, at its best covered source; by the bar itself where that has none."""
    base = _base_bars(asset).get(bar.minute, bar)
    return base.close > base.open


@cache
def _base_bars(asset: str) -> dict[int, Bar]:
    facts = load()
    if asset in MAJORS:  # from the prices every five seconds
        by_minute: dict[int, list[float]] = {}
        for point in facts.points["binance-perp", asset]:
            by_minute.setdefault(point.second // 60, []).append(point.value)
        return {minute: Bar(minute, prices[0], max(prices), min(prices), prices[-1]) for minute, prices in by_minute.items()}
    return {bar.minute: bar for bar in facts.bars.get((ASSETS[asset].base, asset), ())}


def _bar_observations(bar: Bar, *, low_first: bool) -> Iterator[Observation]:
    start = START_NS + bar.minute * 60 * SECOND_NS
    first, second = (bar.low, bar.high) if low_first else (bar.high, bar.low)
    yield Observation(start, bar.open, synthetic=False)
    yield Observation(start + 20 * SECOND_NS, first, synthetic=False)
    yield Observation(start + 40 * SECOND_NS, second, synthetic=False)
    yield Observation(start + 60 * SECOND_NS - MILLISECOND_NS, bar.close, synthetic=False)


def _staked(asset: str) -> Iterator[Observation]:
    """Binance's price of a staked token: the coin's price there x an assumed ratio x its discount.

    The discount is real at the minutes where a wick is known (its low, or its close); between them it runs straight and is synthetic.
    """
    of, source = {"WBETH": ("ETH", "binance"), "BNSOL": ("SOL", "binance-perp")}[asset]
    known = [Point(w.minute * 60 + (20 if w.kind == "low" else 59), w.against_fair_bps * 1e-4) for w in load().wicks[asset]]
    path = [Point(max(known[0].second - 60, 0), 0.0), *known]
    if len(known) == 1:  # nothing is known of how it went back
        path.append(Point(known[0].second + 600, 0.0))
    exact = {point.second for point in known}
    for observation in _observations(source, of):
        second = (observation.time_ns - START_NS) // SECOND_NS
        if second % 20 in (0, 19):
            price = observation.price * REDEMPTION_RATES[asset] * (1.0 + _interpolated(path, second))
            yield Observation(observation.time_ns, price, synthetic=second not in exact)


def _made(scenario: Scenario, name: str, number: int, base: list[Observation]) -> Iterator[Observation]:
    """A synthetic source: `number` basis points from the real one it is made from, at the same moments."""
    if name in REDEMPTION_RATES:  # what redemption pays, not Binance's discount
        of, source = {"WBETH": ("ETH", "binance-perp"), "BNSOL": ("SOL", "binance-perp")}[name]
        base = [o._replace(price=o.price * REDEMPTION_RATES[name]) for o in _observations(source, of)]
        base = [o for o in base if (o.time_ns - START_NS) % (20 * SECOND_NS) == 0]
    for observation in base:
        price = observation.price * (1.0 + (1 if number % 2 else -1) * number * 1e-4)
        if name == "USDe" and scenario == "A":
            # The on-chain pool stayed within 0.994 and 1.000 while Binance fell to 0.65: as far down in that band as Binance in its own.
            stress = min(max((1.0 - observation.price) / 0.35, 0.0), 1.0)
            price = 1.0 - 1e-4 * number - (0.006 - 1e-4 * number) * stress
        yield Observation(observation.time_ns, price, synthetic=True)


def _price(asset: str, source: str, observation: Observation) -> Event:
    message = OraclePrice(
        v=1,
        asset=asset,
        source=source,
        price=observation.price,
        publish_time_ns=observation.time_ns,
        synthetic=observation.synthetic,
    )
    return Event(observation.time_ns, "oracle.prices", message)


def _depth(asset: str, minute: int, depth_usd: float, spread_bps: float) -> Event:
    at = START_NS + (minute + 1) * 60 * SECOND_NS
    message = Depth(v=1, asset=asset, depth_usd=round(depth_usd), spread_bps=round(spread_bps, 4), time_ns=at)
    return Event(at, "market.depth", message)


def _funding(venue: str, instrument: str, second: int, rate: float) -> Event:
    at = START_NS + second * SECOND_NS
    return Event(at, "market.funding", Funding(v=1, venue=venue, instrument=instrument, measure="rate_per_hour", value=rate, time_ns=at))


def _interpolated(path: list[Point], second: int) -> float:
    """The value at `second` on straight lines through `path`; the first and last values beyond it."""
    if second <= path[0].second:
        return path[0].value
    for left, right in pairwise(path):
        if second <= right.second:
            return left.value + (right.value - left.value) * (second - left.second) / (right.second - left.second)
    return path[-1].value


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def _order(event: Event) -> tuple[int, str, str, str]:
    asset, source = (str(getattr(event.message, field, "")) for field in ("asset", "source"))
    return event.time_ns, event.topic, asset, source


def _ordered(events: Iterable[Event]) -> list[Event]:
    return sorted(events, key=_order)
