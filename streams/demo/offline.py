"""What is computed from a run's ledgers afterwards, by the engine alone: the check of its orders, another oracle's verdict, the marks.

Each runs in a process of its own, beside the others.
"""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import msgspec

from engine.effects import Order
from engine.inputs import Frame, FrameKind, OraclePrice, RiskParameters
from engine.monitor import Book
from streams.clients import Clients, bounds, scan
from streams.demo.population import kind_of
from streams.demo.summary import MarkPoint, ReplayCheck
from streams.frames import decode_frame
from streams.replay import replay_ledger
from streams.settings import Settings

PROCESSES = 2
ORACLE_ASSET, ORACLE_SOURCE = "USDe", "binance"
CHARTED = ("BTC", "ETH", "SOL", "USDe")

Marks = dict[str, list[MarkPoint]]


class Judgement(NamedTuple):
    """All three."""

    replay: ReplayCheck
    single_venue: frozenset[str]
    marks: Marks


async def judge(settings: Settings) -> Judgement:
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        replay, single_venue, marks = await asyncio.gather(
            loop.run_in_executor(pool, replay_check, settings),
            loop.run_in_executor(pool, single_venue_liquidations, settings),
            loop.run_in_executor(pool, marks_of, settings),
        )
    return Judgement(replay, single_venue, marks)


def replay_check(settings: Settings) -> ReplayCheck:
    """Every order and cut of the run computed again (`plimsoll replay --ledger`)."""
    report = asyncio.run(replay_ledger(settings))
    return ReplayCheck(report.orders, report.differences)


def single_venue_liquidations(settings: Settings) -> frozenset[str]:
    """The loopers for whom an order would have gone out, had Binance been USDe's only source; the same ledgers otherwise.

    The fills in the ledgers stay those of the real run, so only whether an account is liquidated at all is read off.
    """

    async def run() -> frozenset[str]:
        found: set[str] = set()
        for partition in range(settings.ledger_partitions):
            book = Book(partition, settings.ledger_partitions)
            async for offset, frame in ledger_frames(settings, partition):
                found |= ordered(book, offset, with_single_venue(frame))
        return frozenset(account for account in found if kind_of(account) == "usde_looper")

    return asyncio.run(run())


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


def ordered(book: Book, offset: int, frame: Frame) -> set[str]:
    """Apply a frame; the accounts for which orders came out."""
    return {effect.account for effect in book.apply(offset, frame).now if isinstance(effect, Order)}


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


def inner_frame(frame: Frame) -> Frame:
    """The frame that a copy of control carries."""
    inner = frame.events[0]
    assert isinstance(inner, Frame)
    return inner


def _is_other_source(event: Any) -> bool:
    return isinstance(event, OraclePrice) and event.asset == ORACLE_ASSET and event.source != ORACLE_SOURCE


def _with_quorum_of_one(event: Any) -> RiskParameters:
    assert isinstance(event, RiskParameters)
    return msgspec.structs.replace(event, parameters={**event.parameters, "quorum": 1})
