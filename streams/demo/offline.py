"""What is computed from a run's ledgers afterwards, by the engine alone: the check of its orders, two oracles' verdicts, the marks.

Each runs in a process of its own, beside the others.
"""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import msgspec
import numpy as np

from engine.inputs import Frame, FrameKind, OraclePrice, RiskParameters
from engine.monitor import Book
from engine.reasons import State
from streams.clients import Clients, bounds, scan
from streams.demo.population import kind_of
from streams.demo.reframing import Reframing, inner_frame
from streams.demo.summary import Fallen, MarkPoint, ReplayCheck
from streams.frames import decode_frame
from streams.replay import replay_ledger
from streams.settings import Settings

PROCESSES = 2
ORACLE_ASSET, ORACLE_SOURCE = "USDe", "binance"
BELOW = (State.LIQUIDATABLE, State.BANKRUPT)
CHARTED = ("BTC", "ETH", "SOL", "USDe")

Marks = dict[str, list[MarkPoint]]


class Judgement(NamedTuple):
    """All of it."""

    replay: ReplayCheck
    fallen: Fallen
    marks: Marks


async def judge(settings: Settings) -> Judgement:
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        replay, fallen, marks = await asyncio.gather(
            loop.run_in_executor(pool, replay_check, settings),
            loop.run_in_executor(pool, fallen_loopers, settings),
            loop.run_in_executor(pool, marks_of, settings),
        )
    return Judgement(replay, fallen, marks)


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


def marks_of(settings: Settings) -> Marks:
    """The charted assets' marks after each tick, as the first book saw them (all see the same)."""

    async def run() -> Marks:
        book = Book(0, settings.ledger_partitions)
        marks: Marks = {asset: [] for asset in CHARTED}
        async for offset, frame in ledger_frames(settings, 0):
            book.apply(offset, frame)
            if frame.kind is FrameKind.CONTROL and inner_frame(frame).kind is FrameKind.TICK:
                for asset, points in marks.items():
                    number = book.market.universe.asset_number(asset)
                    if number is not None:
                        points.append(MarkPoint(book.clock_ns, book.market.mark(number)))
        return marks

    return asyncio.run(run())


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
