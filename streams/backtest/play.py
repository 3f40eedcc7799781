"""One run: an episode's frames through the very book that decides, in event time; what each account was at each minute.

A minute is one frame of prices and one tick. The book observes: it plans, and nothing is traded, so what an account holds never changes and
what it loses is what its positions lose.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.effects import Decision, Refused
from engine.inputs import (
    FILL_DTYPE,
    FILL_KINDS,
    Depth,
    Fill,
    Fills,
    Frame,
    FrameKind,
    Grant,
    ImpliedVolatility,
    OraclePrice,
    RiskParameters,
    Tick,
)
from engine.margin import CLOSE_COST, EQUITY, EQUITY_INITIAL, INITIAL, MAINTENANCE, UNHAIRCUT
from engine.monitor import Book
from engine.reasons import Outcome
from engine.survey import asset_reports
from streams.backtest.episodes import MINUTE_NS, Episode, asset_class, expiry_ns
from streams.backtest.population import Opening
from streams.backtest.world import DEPTHS_USD, SPREAD_BPS, definitions

GRID_MINUTES: Final = 15  # requirements are kept, and windows may start, at each quarter of an hour
DEPTH_MINUTES: Final = 30
SIGMA_MINUTES: Final = 60
NEVER: Final = -1
# What a plan comes to: from here on the account would have been liquidated, as far as there was something to close.
_DUE: Final = frozenset({Outcome.OBSERVED.value, Outcome.THROTTLED.value, Outcome.NO_PLAN.value})
_UNLIMITED_USD: Final = 1e15


class Played(NamedTuple):
    """T = minutes + 1, S = T // GRID_MINUTES rounded up, N accounts. USD; nan where an account could not be valued."""

    accounts: list[str]
    kinds: list[str]
    state: NDArray[np.int8]  # [T, N] engine.reasons.State
    unhaircut: NDArray[np.float64]  # [T, N]
    close_cost: NDArray[np.float64]  # [T, N]
    maintenance: NDArray[np.float64]  # [S, N]
    initial: NDArray[np.float64]  # [S, N]
    haircut: NDArray[np.float64]  # [S, N] at maintenance
    haircut_initial: NDArray[np.float64]  # [S, N]
    due: NDArray[np.int64]  # [N] the first minute in which a plan was made, NEVER
    sigmas: dict[str, list[float]]  # class -> maintenance volatility, mean over its assets, every SIGMA_MINUTES


def play(episode: Episode, openings: list[Opening], parameters: Mapping[str, Any], version: str) -> Played:
    """Everything the book was through the episode. Deterministic: no clock, no order of sets, no draw."""
    feed = _Feed()
    start = episode.start_ns
    feed.give(FrameKind.DEFINITIONS, definitions(episode))
    feed.give(FrameKind.PARAMETERS, [RiskParameters(v=1, version=version, parameters=dict(parameters), time_ns=start)])
    feed.give(FrameKind.GRANTS, [Grant(0, asset, _UNLIMITED_USD, _UNLIMITED_USD, 0) for asset in episode.assets])
    # Accounts come in before the clock is set: they are first looked at when all of them are whole and every price is known.
    feed.give(FrameKind.FILLS, [fill for opening in openings for fill in opening.fills])
    book = feed.book
    numbers = np.array([book.accounts.numbers[opening.account] for opening in openings], np.int64)
    recording = _Recording(episode.minutes, openings)
    for minute in range(episode.minutes + 1):
        for kind, events in _market(episode, minute):
            feed.give(kind, events)
        feed.give(FrameKind.TICK, [Tick(start + minute * MINUTE_NS)])
        recording.note(minute, book, numbers, feed.take_due())
    return recording.played


def _market(episode: Episode, minute: int) -> list[tuple[FrameKind, list[Any]]]:
    """What became known in the minute, prices last, so that they meet the depths and volatilities of their own time."""
    at = episode.start_ns + minute * MINUTE_NS
    frames: list[tuple[FrameKind, list[Any]]] = []
    if minute % DEPTH_MINUTES == 0:
        depths = [
            Depth(v=1, asset=asset, depth_usd=DEPTHS_USD[asset_class(asset)], spread_bps=SPREAD_BPS, time_ns=at) for asset in episode.assets
        ]
        frames.append((FrameKind.DEPTHS, depths))
    sigmas = [
        ImpliedVolatility(v=1, underlying="BTC", expiry_ns=expiry_ns(series), sigma=float(series.values[minute]), time_ns=at)
        for series in episode.sigmas
        if not np.isnan(series.values[minute])
    ]
    prices = [
        OraclePrice(v=1, asset=series.asset, source=series.source, price=float(series.values[minute]), publish_time_ns=at)
        for series in episode.prices
        if not np.isnan(series.values[minute])
    ]
    return frames + [(kind, events) for kind, events in ((FrameKind.VOLATILITIES, sigmas), (FrameKind.PRICES, prices)) if events]


class _Feed:
    """Puts messages into frames as one log would have them, gives them to a book, and keeps whose plans fell due."""

    def __init__(self) -> None:
        self.book = Book(0, 1)
        self._offsets: dict[FrameKind, int] = {}
        self._control = -1
        self._due: list[str] = []

    def give(self, kind: FrameKind, events: list[Any]) -> None:
        first = self._offsets.get(kind, 0)
        offsets = list(range(first, first + len(events)))
        self._offsets[kind] = first + len(events)
        content = _in_columns(events, offsets) if kind is FrameKind.FILLS else events
        frame = Frame(kind, kind.name.lower(), 0, first - 1, first + len(events) - 1, content, offsets)
        if kind is not FrameKind.FILLS:
            self._control += 1
            frame = Frame(FrameKind.CONTROL, "control", 0, self._control - 1, self._control, [frame], [self._control])
        effects = self.book.apply(self.book.applied + 1, frame)
        refused = [effect for effect in effects.now if isinstance(effect, Refused)]
        if refused:
            raise ValueError(f"the book refused what a backtest gave it: {refused[0]}")
        self._due += [effect.account for effect in effects.now if isinstance(effect, Decision) and effect.outcome in _DUE]

    def take_due(self) -> list[str]:
        due, self._due = self._due, []
        return due


class _Recording:
    """Fills the arrays of a run, minute by minute."""

    def __init__(self, minutes: int, openings: list[Opening]) -> None:
        shape = (minutes + 1, len(openings))
        grid = (minutes // GRID_MINUTES + 1, len(openings))
        self._place = {opening.account: n for n, opening in enumerate(openings)}
        self.played = Played(
            accounts=[opening.account for opening in openings],
            kinds=[opening.kind for opening in openings],
            state=np.zeros(shape, np.int8),
            unhaircut=np.zeros(shape),
            close_cost=np.zeros(shape),
            maintenance=np.zeros(grid),
            initial=np.zeros(grid),
            haircut=np.zeros(grid),
            haircut_initial=np.zeros(grid),
            due=np.full(len(openings), NEVER, np.int64),
            sigmas=defaultdict(list),
        )

    def note(self, minute: int, book: Book, numbers: NDArray[np.int64], due: list[str]) -> None:
        played, health = self.played, book.accounts.columns.health[numbers]
        played.state[minute] = book.accounts.columns.state[numbers]
        played.unhaircut[minute] = health[:, UNHAIRCUT]
        played.close_cost[minute] = health[:, CLOSE_COST]
        if minute % GRID_MINUTES == 0:
            at = minute // GRID_MINUTES
            played.maintenance[at] = health[:, MAINTENANCE]
            played.initial[at] = health[:, INITIAL]
            played.haircut[at] = health[:, UNHAIRCUT] - health[:, EQUITY]
            played.haircut_initial[at] = health[:, UNHAIRCUT] - health[:, EQUITY_INITIAL]
        if minute % SIGMA_MINUTES == 0:
            by_class = defaultdict(list)
            for report in asset_reports(book.market):
                by_class[report.asset_class].append(report.sigma_maintenance)
            for name, sigmas in by_class.items():
                played.sigmas[name].append(sum(sigmas) / len(sigmas))
        for account in due:
            place = self._place[account]
            if played.due[place] == NEVER:
                played.due[place] = minute


def _in_columns(fills: list[Fill], offsets: list[int]) -> Fills:
    accounts = {name: n for n, name in enumerate(dict.fromkeys(fill.account for fill in fills))}
    instruments = {key: n for n, key in enumerate(dict.fromkeys((fill.venue, fill.instrument) for fill in fills))}
    rows = np.zeros(len(fills), dtype=FILL_DTYPE)
    for row, fill, offset in zip(rows, fills, offsets, strict=True):
        row["account"], row["instrument"], row["order"] = accounts[fill.account], instruments[fill.venue, fill.instrument], -1
        row["kind"] = FILL_KINDS.index(fill.kind)
        for column in ("lots", "price_ticks", "cash", "sequence", "time_ns"):
            row[column] = getattr(fill, column)
        row["offset"] = offset
    return Fills(list(accounts), list(instruments), [], rows)
