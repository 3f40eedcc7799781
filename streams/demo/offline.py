"""What is computed from a run's ledgers afterwards, by the engine alone: the check of its orders, two oracles' verdicts, what a book saw.

Each runs in a process of its own, beside the others.
"""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import msgspec
import numpy as np

from engine.cascade import cascade
from engine.inputs import Frame, FrameKind, OraclePrice, RiskParameters
from engine.monitor import Book
from engine.reasons import State
from engine.tables import HIGH, INITIAL_LEVEL, LOW, MAINTENANCE_LEVEL, OBSERVED
from streams.clients import Clients, bounds, scan
from streams.demo.facts import SECOND_NS, START_NS
from streams.demo.population import kind_of
from streams.demo.reframing import Reframing, inner_frame
from streams.demo.seen import CHARTED, GROUPS, MOMENTS_S, PAIRS, CascadeAt, CorrelationPoint, MarkPoint, Regimes, Seen
from streams.demo.summary import Fallen, ReplayCheck
from streams.frames import decode_frame
from streams.replay import replay_ledger
from streams.settings import Settings

PROCESSES = 2
ORACLE_ASSET, ORACLE_SOURCE = "USDe", "binance"
BELOW = (State.LIQUIDATABLE, State.BANKRUPT)
MINUTE_NS = 60 * SECOND_NS


class Judgement(NamedTuple):
    """All of it."""

    replay: ReplayCheck
    fallen: Fallen
    seen: Seen


async def judge(settings: Settings) -> Judgement:
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        replay, fallen, seen = await asyncio.gather(
            loop.run_in_executor(pool, replay_check, settings),
            loop.run_in_executor(pool, fallen_loopers, settings),
            loop.run_in_executor(pool, look_back, settings),
        )
    return Judgement(replay, fallen, seen)


def replay_check(settings: Settings) -> ReplayCheck:
    """Every order and cut of the run computed again (`plimsoll replay --ledger`)."""
    report = asyncio.run(replay_ledger(settings))
    return ReplayCheck(report.orders, report.differences)


def fallen_loopers(settings: Settings) -> Fallen:
    """The loopers that become LIQUIDATABLE or BANKRUPT, with USDe's sources as they were, and with Binance as its only one.

    Read off the run's ledgers in frames that don't depend on the run (`streams.demo.reframing`), so that equal data give equal answers; who
    gets an order, and when, depends on budgets and on how fast machines were.
    """

    async def run() -> Fallen:
        watches = [Watch(), Watch()]
        for partition in range(settings.ledger_partitions):
            reframing = Reframing()
            books = [Book(partition, settings.ledger_partitions) for _ in watches]
            async for _, frame in ledger_frames(settings, partition):
                for made in reframing.take(frame):
                    for watch, book, version in zip(watches, books, (made, with_single_venue(made)), strict=True):
                        watch.apply(book, version)
        return Fallen(*(frozenset(name for name in watch.fallen if kind_of(name) == "usde_looper") for watch in watches))

    return asyncio.run(run())


class Watch:
    """Applies frames to books and keeps the accounts that were ever seen below their line."""

    def __init__(self) -> None:
        self.fallen: set[str] = set()

    def apply(self, book: Book, frame: Frame) -> None:
        book.apply(book.applied + 1, frame)
        states = book.accounts.columns.state[: len(book.accounts)]
        self.fallen.update(book.accounts.names[number] for number in np.flatnonzero(np.isin(states, BELOW)).tolist())


def look_back(settings: Settings) -> Seen:
    """What the books of the run saw: of the market the first one's word (all see the same), of accounts all of them together."""

    async def run() -> Seen:
        views = []
        for partition in range(settings.ledger_partitions):
            view = View(partition, settings.ledger_partitions)
            async for offset, frame in ledger_frames(settings, partition):
                view.take(offset, frame)
                if partition > 0 and view.is_done:
                    break
            views.append(view)
        return Seen(views[0].marks, views[0].correlations, added_up([view.cascades for view in views]))

    return asyncio.run(run())


class View:
    """One book's ledger applied again, and what is looked at after its ticks."""

    def __init__(self, partition: int, partitions: int, start_ns: int = START_NS) -> None:
        self.marks: dict[str, list[MarkPoint]] = {asset: [] for asset in CHARTED}
        self.correlations: dict[tuple[str, str], list[CorrelationPoint]] = {pair: [] for pair in PAIRS}
        self.cascades: list[CascadeAt] = []
        self._book = Book(partition, partitions)
        self._clock_ns = 0
        self._start_ns = start_ns
        self._due = list(MOMENTS_S)

    @property
    def is_done(self) -> bool:
        """Whether every moment at which accounts are looked at has gone by."""
        return not self._due

    def take(self, offset: int, frame: Frame) -> None:
        self._book.apply(offset, frame)
        if frame.kind is FrameKind.CONTROL and inner_frame(frame).kind is FrameKind.TICK:
            before_ns, self._clock_ns = self._clock_ns, self._book.clock_ns
            self._look(before_ns, self._clock_ns)

    def _look(self, before_ns: int, now_ns: int) -> None:
        market = self._book.market
        for asset, points in self.marks.items():
            number = market.universe.asset_number(asset)
            if number is not None:
                points.append(MarkPoint(now_ns, market.mark(number)))
        if now_ns // MINUTE_NS > before_ns // MINUTE_NS and market.live:
            for pair, kept in self.correlations.items():
                groups = [self._group(asset) for asset in pair]
                if min(groups) >= 0:
                    kept.append(CorrelationPoint(now_ns, self._regimes(*groups)))
        while self._due and now_ns >= self._start_ns + self._due[0] * SECOND_NS:
            second = self._due.pop(0)
            if before_ns >= self._start_ns:  # else the run began later than that
                self._try_falls(second)

    def _group(self, asset: str) -> int:
        universe = self._book.market.universe
        number = universe.asset_number(asset)
        return -1 if number is None else int(universe.asset_arrays.group[number])

    def _regimes(self, one: int, other: int) -> tuple[Regimes, Regimes]:
        table = self._book.market.tables.correlation
        maintenance, initial = (
            Regimes(*(float(table[level, regime, one, other]) for regime in (OBSERVED, HIGH, LOW)))
            for level in (MAINTENANCE_LEVEL, INITIAL_LEVEL)
        )
        return maintenance, initial

    def _try_falls(self, second: int) -> None:
        market = self._book.market
        self._book.take_cut()  # accounts count from their first cut on, and nobody has taken any here
        for name in GROUPS:
            group = self._group(name)
            if group < 0:
                continue
            curve = cascade(self._book.accounts, market, group)
            self.cascades.append(
                CascadeAt(
                    second=second,
                    group=name,
                    falls=curve.falls,
                    accounts=tuple(curve.accounts.tolist()),
                    volume_usd=tuple(curve.volume_usd.sum(axis=1).tolist()),
                    depth_usd=market.depth_usd(market.universe.group_assets[group]),
                )
            )


def added_up(by_book: Sequence[Sequence[CascadeAt]]) -> list[CascadeAt]:
    """The curves of all books together; each book has the same ones, in the same order."""
    return [
        same[0]._replace(
            accounts=tuple(map(sum, zip(*(curve.accounts for curve in same), strict=True))),
            volume_usd=tuple(map(sum, zip(*(curve.volume_usd for curve in same), strict=True))),
        )
        for same in zip(*by_book, strict=True)
    ]


async def ledger_frames(settings: Settings, partition: int) -> AsyncIterator[tuple[int, Frame]]:
    """One ledger partition from its beginning to where it ends now."""
    clients = Clients(settings)
    where = clients.partition("ledger", partition)
    async with clients.reading(where) as consumer:
        async for records in scan(consumer, where, *await bounds(consumer, where)):
            for record in records:
                yield record.offset, decode_frame(record.value)


def with_single_venue(frame: Frame) -> Frame:
    """The frame as it would be, had one source alone spoken for USDe, and a quorum of one sufficed."""
    if frame.kind is not FrameKind.CONTROL:
        return frame
    inner = inner_frame(frame)
    if inner.kind is FrameKind.PRICES:
        kept = [pair for pair in zip(inner.events, inner.offsets, strict=True) if not _is_other_source(pair[0])]
        changed = inner._replace(events=[event for event, _ in kept], offsets=[offset for _, offset in kept])
    elif inner.kind is FrameKind.PARAMETERS:
        changed = inner._replace(events=[_with_quorum_of_one(event) for event in inner.events])
    else:
        return frame
    return frame._replace(events=[changed])


def _is_other_source(event: Any) -> bool:
    return isinstance(event, OraclePrice) and event.asset == ORACLE_ASSET and event.source != ORACLE_SOURCE


def _with_quorum_of_one(event: Any) -> RiskParameters:
    assert isinstance(event, RiskParameters)
    return msgspec.structs.replace(event, parameters={**event.parameters, "quorum": 1})
