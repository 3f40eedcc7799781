"""Frames of a book's log, made from the bench's messages without a bus."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from engine.effects import Refused
from engine.inputs import FILL_DTYPE, FILL_KINDS, Fill, Fills, Frame, FrameKind, Tick
from engine.monitor import Book
from tests.bench.world import Population, market

NOW_NS: Final = 1_760_130_000_000_000_000
FRAME_EVENTS: Final = 8_000


def open_book(book: Book, population: Population) -> None:
    """The bench's market, then the fills that open every account's positions."""
    kinds = {"RiskParameters": FrameKind.PARAMETERS, "OraclePrice": FrameKind.PRICES}
    found: dict[FrameKind, list[Any]] = {
        FrameKind.DEFINITIONS: [],
        FrameKind.PARAMETERS: [],
        FrameKind.TICK: [Tick(NOW_NS)],
        FrameKind.PRICES: [],
    }
    for message in market(NOW_NS):
        found[kinds.get(type(message).__name__, FrameKind.DEFINITIONS)].append(message)
    for kind, events in found.items():
        observe(book, kind, events)
    fills = list(population.opening())
    for start in range(0, len(fills), FRAME_EVENTS):
        effects = book.apply(book.applied + 1, fill_frame(book, fills[start : start + FRAME_EVENTS]))
        assert not effects.now, effects.now[:3]


def observe(book: Book, kind: FrameKind, events: list[Any]) -> None:
    """Apply a copy of a frame of control."""
    after, at = book.source_applied(kind.name, 0), book.source_applied("control", 0) + 1
    offsets = list(range(after + 1, after + 1 + len(events)))
    inner = Frame(kind, kind.name, 0, after, offsets[-1], events, offsets)
    effects = book.apply(book.applied + 1, Frame(FrameKind.CONTROL, "control", 0, at - 1, at, [inner], [at]))
    refused = [effect for effect in effects.now if isinstance(effect, Refused)]
    assert not refused, refused[:3]


def fill_frame(book: Book, fills: list[Fill]) -> Frame:
    """The frame of fills that comes next of their source."""
    after = book.source_applied("venue.fills", 0)
    accounts: dict[str, int] = {}
    instruments: dict[tuple[str, str], int] = {}
    rows = np.zeros(len(fills), FILL_DTYPE)
    for k, fill in enumerate(fills):
        rows[k] = (
            accounts.setdefault(fill.account, len(accounts)),
            instruments.setdefault((fill.venue, fill.instrument), len(instruments)),
            -1,
            FILL_KINDS.index(fill.kind),
            fill.lots,
            fill.price_ticks,
            fill.cash,
            fill.sequence,
            NOW_NS,
            after + 1 + k,
        )
    return Frame(FrameKind.FILLS, "venue.fills", 0, after, after + len(fills), Fills(list(accounts), list(instruments), [], rows), [])
