"""Random books by the thousand in the engine and in the plain twin: every amount to 1e-9 of the gross notional, every state and reason.

`python -m tests.bench.twin [--books N] [--first SEED] [--default-rules]`. Each market of MARKET_BOOKS accounts comes from one seed, so
that a difference is one number to repeat. Ends with 1 where anything differs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from engine.inputs import (
    AnyDefinition,
    Depth,
    FrameKind,
    Funding,
    Grant,
    ImpliedVolatility,
    LagObservation,
    OraclePrice,
    Pending,
    RiskParameters,
    SetFreeze,
    Snapshot,
    Tick,
)
from streams.shadow.universe import Message
from tests.twin.random_books import RandomBook, random_book
from tests.two_books import TwoBooks

BOOKS: Final = 10_000
MARKET_BOOKS: Final = 50
SHOWN_MAX: Final = 20  # of the differences
TYPES: Final[dict[str, Any]] = {
    "definitions": AnyDefinition,
    "parameters": RiskParameters,
    "prices": OraclePrice,
    "volatilities": ImpliedVolatility,
    "depths": Depth,
    "fundings": Funding,
    "commands": SetFreeze,
    "snapshots": Snapshot,
    "pending": Pending,
    "lags": LagObservation,
    "grants": Grant,
    "tick": Tick,
}
ARRAYS: Final = ("lags", "grants", "tick")  # machines' own words, which go as arrays


def messages(kind: str, events: list[Message]) -> list[Any]:
    """The engine's messages of a random book's frame."""
    if kind in ARRAYS:
        return [TYPES[kind](**event) for event in events]
    return [msgspec.convert(event, TYPES[kind]) for event in events]


def fed(book: RandomBook) -> TwoBooks:
    """Both books after all of a random book's frames."""
    books = TwoBooks()
    for kind, events in book.steps:
        books.feed(FrameKind[kind.upper()], messages(kind, events))
    return books


def compared(count: int, first: int, *, wild: bool, tally: Counter[str]) -> Iterator[tuple[int, list[str]]]:
    """(seed, differences) of one market after the other; `tally` counts accounts by size and state."""
    seed = first
    while count > 0:
        book = random_book(seed, wild=wild, accounts=min(count, MARKET_BOOKS))
        books = fed(book)
        for name, account in books.twin.accounts.items():
            tally[f"{book.sizes[name]}, {account.state}{' ' + account.reason if account.reason else ''}"] += 1
        tally["nothing at all"] += len(book.sizes) - len(books.twin.accounts)
        yield seed, books.differences()
        count -= len(book.sizes)
        seed += 1


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--books", type=int, default=BOOKS)
    parser.add_argument("--first", type=int, default=0, help="seed of the first market")
    parser.add_argument("--default-rules", action="store_true", help="default parameters, instead of any within their bounds")
    options = parser.parse_args()
    began, tally, wrong = time.perf_counter(), Counter[str](), 0
    for seed, differences in compared(options.books, options.first, wild=not options.default_rules, tally=tally):
        for text in differences:
            wrong += 1
            if wrong <= SHOWN_MAX:
                print(f"seed {seed}: {text}")
    for name, number in sorted(tally.items()):
        print(f"{number:8,} {name}")
    verdict = f"{wrong:,} differences" if wrong else "all the same"
    print(f"{sum(tally.values()):,} books in {time.perf_counter() - began:.0f} s: {verdict}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
