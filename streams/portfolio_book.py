"""A portfolio in a book of its own: the machine that a worker runs for a partition, here in memory, fed with frames from a file.

Nothing is computed here. What the engine refuses becomes a fault with its path in the file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeVar

from engine.effects import Refused
from engine.inputs import (
    AnyDefinition,
    AssetDefinition,
    ChainDefinition,
    Definition,
    Depth,
    Frame,
    FrameKind,
    Funding,
    ImpliedVolatility,
    LagObservation,
    OraclePrice,
    RiskParameters,
    Snapshot,
    SnapshotPosition,
    Tick,
    VenueDefinition,
)
from engine.monitor import Book
from engine.parameters import Parameters
from engine.tables import INITIAL_LEVEL, MAINTENANCE_LEVEL
from streams.portfolio import DepthAndSpread, Portfolio, PortfolioFault, cash_quote_of, instruments_of, lots_of, moment_ns

SETTLE_TICKS_MAX: Final = 10_000  # before the portfolio's time, until maintenance volatility has risen as far as it does
NS_PER_S: Final = 1_000_000_000

D = TypeVar("D", bound=Definition)
Told = tuple[Any, str]  # a message, and where it stands in the file


class PortfolioBook(NamedTuple):
    """The book with the account in it, as of the portfolio's time; `notes` says what a reader should know of how it came there."""

    book: Book
    account: str
    portfolio: Portfolio
    preset: str
    notes: list[str]


def book_of(portfolio: Portfolio, version: str, changes: dict[str, Any], parameters: Parameters, preset: str = "default") -> PortfolioBook:
    """Feed a book with everything that the portfolio says. Raises PortfolioFault with all that the engine refused.

    Maintenance volatility rises by so much an hour (docs/model.md, section 2); a file says nothing of the hours before it. The book
    therefore begins as long before `clock` as it takes to rise, with the implied volatilities of the file: what is shown is what holds
    while they last.
    """
    now_ns = moment_ns(portfolio.clock)
    feed = _Feed(portfolio, version, changes, parameters)
    feed.open(now_ns)
    feed.observe(now_ns)
    notes = []
    ticks = _ticks_to_settle(feed.book, parameters)
    if ticks > SETTLE_TICKS_MAX:
        notes.append("maintenance volatility is the one before any implied volatility was seen: by these parameters it rises too slowly")
    elif ticks:
        step_ns = int(parameters.clock_step_max_s * NS_PER_S)
        feed = _Feed(portfolio, version, changes, parameters)
        feed.open(now_ns - ticks * step_ns)
        feed.wait(now_ns, step_ns)
        feed.observe(now_ns)
    feed.hold(now_ns)
    if feed.faults:
        raise PortfolioFault(feed.faults)
    feed.book.take_cut()  # an account is told of from its first row on
    return PortfolioBook(feed.book, portfolio.account, portfolio, preset, notes)


def _ticks_to_settle(book: Book, parameters: Parameters) -> int:
    """Of the longest step that a clock takes, until no maintenance volatility is below its target any more."""
    sigma = book.market.inputs.sigma[:, : book.market.universe.asset_count]
    gap = float((sigma[INITIAL_LEVEL] - sigma[MAINTENANCE_LEVEL]).max())
    if gap <= 0.0:
        return 0
    rise_of_a_tick = parameters.sigma_rise_per_hour * parameters.clock_step_max_s / 3_600.0
    return 1 + math.ceil(gap / rise_of_a_tick) if rise_of_a_tick * SETTLE_TICKS_MAX > gap else SETTLE_TICKS_MAX + 1


class _Feed:
    """Frames for one book, numbered as one log would."""

    def __init__(self, portfolio: Portfolio, version: str, changes: dict[str, Any], parameters: Parameters) -> None:
        self.book = Book(0, 1)
        self.faults: list[str] = []
        self._portfolio = portfolio
        self._set = RiskParameters(v=1, version=version, parameters=changes, time_ns=0)
        self._parameters = parameters
        self._instruments = instruments_of(portfolio)
        self._next: dict[str, int] = {}
        self._copied = 0
        self._quoted_ns = 0

    # ---- steps ----

    def open(self, start_ns: int) -> None:
        """What exists, parameters, the first tick, implied volatilities."""
        self._control(FrameKind.DEFINITIONS, self._definitions())
        self._control(FrameKind.PARAMETERS, [(self._set, "parameters")])
        self._control(FrameKind.TICK, [(Tick(start_ns), "clock")])
        self._quote(start_ns)

    def wait(self, until_ns: int, step_ns: int) -> None:
        """Let the clock go on, implied volatilities being said again before they are old."""
        while self.book.clock_ns < until_ns:
            self._control(FrameKind.TICK, [(Tick(min(self.book.clock_ns + step_ns, until_ns)), "clock")])
            if (self.book.clock_ns - self._quoted_ns) / NS_PER_S > self._parameters.implied_max_age_s / 2:
                self._quote(self.book.clock_ns)
        self._quote(until_ns)

    def observe(self, now_ns: int) -> None:
        """Marks, depths, lags and indexes of now."""
        p = self._portfolio
        self._control(FrameKind.PRICES, self._prices(now_ns))
        depths: list[Told] = []
        for asset, depth in p.depths.items():
            both = depth if isinstance(depth, DepthAndSpread) else DepthAndSpread(depth_usd=depth)
            spread = self._parameters.spread_floor_bps if both.spread_bps is None else both.spread_bps
            depths.append((Depth(v=1, asset=asset, depth_usd=both.depth_usd, spread_bps=spread, time_ns=now_ns), f"depths.{asset}"))
        self._control(FrameKind.DEPTHS, depths)
        lags: list[Told] = [(LagObservation(chain, int(lag_s * NS_PER_S), now_ns), f"lags.{chain}") for chain, lag_s in p.lags.items()]
        self._control(FrameKind.LAGS, lags)
        indexes: list[Told] = []
        for key, value in p.interest_indexes.items():
            venue, _, instrument = key.partition("/")
            index = Funding(v=1, venue=venue, instrument=instrument, measure="interest_index", value=value, time_ns=now_ns)
            indexes.append((index, f"interest_indexes.{key}"))
        self._control(FrameKind.FUNDINGS, indexes)

    def hold(self, now_ns: int) -> None:
        """What the account has, as each of its venues says in an opening balance."""
        units = self.book.market.universe.instrument_arrays.cash_unit
        by_venue: dict[str, list[SnapshotPosition]] = {}
        paths: dict[str, list[str]] = {}
        for k, held in enumerate(self._portfolio.positions):
            terms = self._instruments[held.venue, held.instrument]
            number = self.book.market.universe.instrument_number(held.venue, held.instrument)
            if number is None:
                continue  # its definition was refused
            cash = cash_quote_of(held, terms) / float(units[number])
            if not abs(cash) <= 2**62:
                self.faults.append(f"positions[{k}].cash: is more than can be held")
                continue
            by_venue.setdefault(held.venue, []).append(SnapshotPosition(held.instrument, lots_of(held, terms), round(cash)))
            paths.setdefault(held.venue, []).append(f"positions[{k}]")
        told: list[Told] = [
            (
                Snapshot(v=1, account=self._portfolio.account, venue=venue, sequence=0, positions=positions, time_ns=now_ns),
                ", ".join(paths[venue]),
            )
            for venue, positions in by_venue.items()
        ]
        self._apply(self._frame(FrameKind.SNAPSHOTS, [message for message, _ in told]), told)

    # ---- what is told ----

    def _definitions(self) -> list[Told]:
        p = self._portfolio
        told: list[Told] = [(_plain(chain, ChainDefinition), f"chains[{k}]") for k, chain in enumerate(p.chains)]
        assets = {asset.name: k for k, asset in enumerate(p.assets)}
        told += [(self._asset(p, k), f"assets[{k}]") for k in _redeemed_first(p, assets)]
        told += [(_plain(venue, VenueDefinition), f"venues[{k}]") for k, venue in enumerate(p.venues)]
        own = {(one.venue, one.name): f"instruments[{k}]" for k, one in enumerate(p.instruments)}
        named = {(held.venue, held.instrument): f"positions[{k}]" for k, held in enumerate(p.positions)}
        told += [(terms, own.get(key) or named[key]) for key, terms in self._instruments.items()]
        return told

    def _asset(self, portfolio: Portfolio, k: int) -> AssetDefinition:
        asset = portfolio.assets[k]
        if asset.sources:
            return _plain(asset, AssetDefinition)
        return _plain(asset, AssetDefinition, sources=dict.fromkeys(self._prices_of(asset.name), 1.0))

    def _prices_of(self, asset: str) -> dict[str, float]:
        """Price by source. One price is that of every source the asset has, or else of as many as a mark needs."""
        mark = self._portfolio.marks.get(asset)
        if isinstance(mark, dict):
            return mark
        if mark is None:
            return {}
        weights = next((one.sources for one in self._portfolio.assets if one.name == asset), {})
        names: Sequence[str] = list(weights) or [f"given-{n + 1}" for n in range(self._parameters.quorum)]
        return dict.fromkeys(names, mark)

    def _prices(self, now_ns: int) -> list[Told]:
        return [
            (OraclePrice(v=1, asset=asset, source=source, price=usd, publish_time_ns=now_ns), f"marks.{asset}")
            for asset in self._portfolio.marks
            for source, usd in self._prices_of(asset).items()
        ]

    def _quote(self, now_ns: int) -> None:
        self._quoted_ns = now_ns
        quotes: list[Told] = [
            (
                ImpliedVolatility(v=1, underlying=asset, expiry_ns=moment_ns(expiry), sigma=sigma, time_ns=now_ns),
                f"implied_volatilities.{asset}.{expiry}",
            )
            for asset, by_expiry in self._portfolio.implied_volatilities.items()
            for expiry, sigma in by_expiry.items()
        ]
        self._control(FrameKind.VOLATILITIES, quotes)

    # ---- frames ----

    def _control(self, kind: FrameKind, told: list[Told]) -> None:
        if not told:
            return
        inner = self._frame(kind, [message for message, _ in told])
        self._copied += 1
        self._apply(Frame(FrameKind.CONTROL, "control", 0, self._copied - 2, self._copied - 1, [inner], [self._copied - 1]), told)

    def _frame(self, kind: FrameKind, events: list[Any]) -> Frame:
        source = kind.name.lower()
        first = self._next.get(source, 0)
        self._next[source] = first + len(events)
        return Frame(kind, source, 0, first - 1, first + len(events) - 1, events, list(range(first, first + len(events))))

    def _apply(self, frame: Frame, told: list[Told]) -> None:
        inner = frame.events[0] if frame.kind is FrameKind.CONTROL else frame
        assert isinstance(inner, Frame)
        effects = self.book.apply(self.book.applied + 1, frame)
        for effect in effects.now:
            if isinstance(effect, Refused):
                path = told[effect.offset - inner.offsets[0]][1]
                fault = f"{path}: {effect.reason.replace('_', ' ')}: {effect.detail}"
                if fault not in self.faults:
                    self.faults.append(fault)


def _plain(message: AnyDefinition, kind: type[D], **changes: Any) -> D:
    """A definition of a file as the message of that kind."""
    fields = {name: getattr(message, name) for name in kind.__struct_fields__}
    return kind(**{**fields, **changes})


def _redeemed_first(portfolio: Portfolio, numbers: dict[str, int]) -> list[int]:
    """Indexes of the assets, each after the one that it is redeemed for where that can be."""
    order: list[int] = []
    left = list(range(len(portfolio.assets)))
    while left:
        ready = [k for k in left if numbers.get(portfolio.assets[k].redemption_asset or "", -1) not in left]
        if not ready:
            return [*order, *left]  # a circle: the engine says so
        order += ready
        left = [k for k in left if k not in ready]
    return order
