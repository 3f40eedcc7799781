"""The facts of 10 October 2025, 20:30 to 22:30 UTC, as the project carries them; `data/README.md` names their sources."""

import csv
import gzip
import math
from collections import defaultdict
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import NamedTuple

START = datetime(2025, 10, 10, 20, 30, tzinfo=UTC)
START_NS = int(START.timestamp()) * 1_000_000_000
MINUTES = 120
SECOND_NS = 1_000_000_000
QUORUM = 2
QUORUM_MAJOR = 3
DENSE_MINUTES = 110  # a source with a price in fewer of the 120 minutes cannot be counted on for a quorum
MAJORS = ("BTC", "ETH", "SOL")

# How much of ETH and SOL one token of staked ETH and SOL stands for: an assumption of the demo, not in the data.
REDEMPTION_RATES = {"WBETH": 1.08, "BNSOL": 1.06}

# Weights of the real sources in the weighted median; a thin order book or a pool counts less than the large books.
WEIGHTS = {
    "binance": 1.0,
    "binance-perp": 1.0,
    "binance-coin-mark": 1.0,
    "binance-coin-perp": 0.5,
    "coinbase": 1.0,
    "okx": 1.0,
    "gemini": 0.5,
    "uniswap-v3": 0.5,
    "chainlink": 1.0,
    "aave-oracle": 0.5,
}
SYNTHETIC_WEIGHT = 0.75
_VENUE_NAMES = {"binance-delivery": "binance-coin-perp"}


class Bar(NamedTuple):
    """A one-minute bar; `minute` counts from 20:30."""

    minute: int
    open: float
    high: float
    low: float
    close: float


class Point(NamedTuple):
    """A value known `second` seconds after 20:30 (before it, if negative)."""

    second: int
    value: float


class OrderBook(NamedTuple):
    """Hyperliquid's order book over one minute: mean spread, mean depth (band not documented), funding rate per hour."""

    minute: int
    spread_bps: float
    depth_usd: float
    funding_per_hour: float


class Wick(NamedTuple):
    """A print of a staked token on Binance against its fair ratio to the coin: a minute's low, or a close."""

    minute: int
    kind: str
    against_fair_bps: float


class Facts(NamedTuple):
    """All that is carried."""

    bars: dict[tuple[str, str], list[Bar]]  # (source, asset)
    points: dict[tuple[str, str], list[Point]]  # (source, asset): prices at their own times
    volatility: dict[int, list[Point]]  # BTC, by expiry in ns
    books: dict[str, list[OrderBook]]  # by asset
    wicks: dict[str, list[Wick]]  # by asset
    funding: dict[tuple[str, str], list[Point]]  # (venue, asset): rate per hour


class Asset(NamedTuple):
    """An asset of the demo: its sources with weights, those of them that are synthetic, and what makes the rest."""

    asset_class: str
    exponent: int  # of the price at the start, base 10: sets lot and tick
    sources: dict[str, float]
    synthetic: tuple[str, ...]
    base: str  # the real source that the synthetic ones are made from


@cache
def load() -> Facts:
    bars: dict[tuple[str, str], list[Bar]] = defaultdict(list)
    for venue, asset, minute, *prices in _rows("bars"):
        opened, high, low, close = map(float, prices)
        bars[_VENUE_NAMES.get(venue, venue), asset].append(Bar(int(minute), opened, high, low, close))
    points: dict[tuple[str, str], list[Point]] = defaultdict(list)
    for asset, second, price in _rows("perps_5s"):
        points["binance-perp", asset].append(Point(int(second), float(price)))
    for source, asset, second, price in _rows("ticks"):
        points[source, asset].append(Point(int(second), float(price)))
    volatility: dict[int, list[Point]] = defaultdict(list)
    for expiry, second, sigma in _rows("volatility"):
        volatility[int(datetime.fromisoformat(expiry).timestamp()) * SECOND_NS].append(Point(int(second), float(sigma)))
    books: dict[str, list[OrderBook]] = defaultdict(list)
    for asset, minute, spread, depth, rate in _rows("books"):
        books[asset].append(OrderBook(int(minute), float(spread), float(depth), float(rate)))
    wicks: dict[str, list[Wick]] = defaultdict(list)
    for asset, minute, kind, bps in _rows("wicks"):
        wicks[asset].append(Wick(int(minute), kind, float(bps)))
    funding: dict[tuple[str, str], list[Point]] = defaultdict(list)
    for venue, asset, second, rate in _rows("funding"):
        funding[venue, asset].append(Point(int(second), float(rate)))
    return Facts(dict(bars), dict(points), dict(volatility), dict(books), dict(wicks), dict(funding))


def minutes_covered(source: str, asset: str) -> int:
    """In how many of the 120 minutes a real source has a price."""
    facts = load()
    covered = {bar.minute for bar in facts.bars.get((source, asset), ())}
    covered |= {point.second // 60 for point in facts.points.get((source, asset), ()) if point.second >= 0}
    return len(covered & set(range(MINUTES)))


@cache
def _assets() -> dict[str, Asset]:
    facts = load()
    real: dict[str, list[str]] = defaultdict(list)
    for source, asset in sorted({*facts.bars, *facts.points}):
        real[asset].append(source)
    made = {}
    for name in sorted(real, key=lambda a: (a not in MAJORS, MAJORS.index(a) if a in MAJORS else 0, a)):
        made[name] = _asset(name, real[name])
    for name, of in (("WBETH", "ETH"), ("BNSOL", "SOL")):
        sources = {"binance": WEIGHTS["binance"], "synthetic-1": SYNTHETIC_WEIGHT, "synthetic-2": SYNTHETIC_WEIGHT}
        exponent = _exponent(REDEMPTION_RATES[name] * first_price(of))
        made[name] = Asset("liquid_staking", exponent, sources, ("synthetic-1", "synthetic-2"), "binance")
    return made


def _asset(name: str, sources: list[str]) -> Asset:
    """With as many synthetic sources as the quorum lacks dense real ones; USDe with two, since one venue alone printed the fall."""
    dense = [source for source in sources if minutes_covered(source, name) >= DENSE_MINUTES]
    base = max(sources, key=lambda source: (minutes_covered(source, name), WEIGHTS[source], source))
    missing = 2 if name == "USDe" else max(0, (QUORUM_MAJOR if name in MAJORS else QUORUM) - max(1, len(dense)))
    synthetic = tuple(f"synthetic-{n + 1}" for n in range(missing))
    weights = {**{source: WEIGHTS[source] for source in sources}, **dict.fromkeys(synthetic, SYNTHETIC_WEIGHT)}
    kind = "major" if name in MAJORS else "synthetic_dollar" if name == "USDe" else "alt"
    exponent = 0 if name == "USDe" else _exponent(first_price(name))
    return Asset(kind, exponent, weights, synthetic, base)


def first_price(asset: str) -> float:
    """A price at 20:30, of the source that covers most."""
    facts = load()
    if asset in MAJORS:
        return facts.points["binance-perp", asset][0].value
    if asset in REDEMPTION_RATES:
        return REDEMPTION_RATES[asset] * first_price({"WBETH": "ETH", "BNSOL": "SOL"}[asset])
    covering = max((s for s, a in facts.bars if a == asset), key=lambda s: (len(facts.bars[s, asset]), s))
    return facts.bars[covering, asset][0].open


def _exponent(price: float) -> int:
    return math.floor(math.log10(price))


def _rows(name: str) -> list[list[str]]:
    packed = files("streams.demo").joinpath("data", f"{name}.csv.gz").read_bytes()
    return list(csv.reader(gzip.decompress(packed).decode().splitlines()))[1:]


ASSETS: dict[str, Asset] = _assets()
