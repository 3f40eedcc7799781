"""What it costs a book to be looked at: revaluations with a survey and a scrape every second, beside the same without; what a look at its
leverage takes, from the first call to the last; and what the shadow check takes of one account.

`python -m tests.bench.looking` does the last of these alone.
"""

from __future__ import annotations

import statistics
import time
from typing import Any, Final

from prometheus_client import generate_latest

from engine.encumbrance import LeverageWatch
from engine.inputs import FrameKind, Tick
from engine.monitor import Book
from streams.metrics import Metrics
from streams.shadow_check import check_account
from tests.bench.ledger import observe, open_book
from tests.bench.twin import fed
from tests.bench.world import Population, prices
from tests.twin.random_books import random_book

LOOK_EVERY_S: Final = 1.0  # as often as a worker surveys its books, and more often than Prometheus scrapes
ROUND_S: Final = 3.0
SECOND_NS: Final = 1_000_000_000
CHECKED: Final = 200  # accounts that the shadow check is measured with


def looked_at(accounts: int, rounds: int, round_s: float = ROUND_S) -> dict[str, Any]:
    """Accounts revalued a second by price frames, unwatched and watched in turns; what one look costs; how large a scrape is."""
    book, metrics = Book(0, 1), Metrics()
    open_book(book, Population(accounts))
    book.take_cut()
    while book.leverage.last is None:
        metrics.risk.survey(book)  # compiled before the clock starts
    step = 0
    rates: dict[bool, list[float]] = {False: [], True: []}
    looks: list[float] = []
    scrape = b""
    for _ in range(rounds):
        for watched in (False, True):
            began = looked = time.perf_counter()
            done = 0
            while time.perf_counter() - began < round_s:
                step += 1
                now_ns = book.clock_ns + SECOND_NS
                observe(book, FrameKind.TICK, [Tick(now_ns)])
                observe(book, FrameKind.PRICES, list(prices(now_ns, step)))  # moves every mark, so that every account is valued anew
                done += accounts
                if watched and time.perf_counter() - looked >= LOOK_EVERY_S:
                    looked = time.perf_counter()
                    metrics.risk.survey(book)
                    scrape = generate_latest(metrics.registry)
                    looks.append(time.perf_counter() - looked)
            rates[watched].append(done / (time.perf_counter() - began))
    leverage = _leverage(book)
    ratios = [watched / unwatched for unwatched, watched in zip(rates[False], rates[True], strict=True)]
    return {
        "accounts": accounts,
        "unwatched_accounts_per_s": round(statistics.median(rates[False])),
        "watched_accounts_per_s": round(statistics.median(rates[True])),
        "watched/unwatched": round(statistics.median(ratios), 3),
        "look_ms": round(statistics.median(looks) * 1e3, 2) if looks else None,
        **leverage,
        **shadowed(book),
        "scrape_bytes": len(scrape),
        "series": sum(not line.startswith(b"#") for line in scrape.splitlines()),
    }


def _leverage(book: Book) -> dict[str, Any]:
    """One whole look at a book's leverage, call by call, as surveys make it, one a second."""
    watch = LeverageWatch()
    calls: list[float] = []
    while watch.last is None:
        began = time.perf_counter()
        watch.go_on(book.accounts, book.market)
        calls.append(time.perf_counter() - began)
    return {
        "leverage_calls": len(calls),
        "leverage_call_ms": round(statistics.median(calls) * 1e3, 2),
        "leverage_longest_call_ms": round(max(calls) * 1e3, 2),
        "leverage_s": round(sum(calls), 3),
    }


def shadowed(linear: Book) -> dict[str, Any]:
    """CPU time that the shadow check takes of one account: of eight linear positions, and of one to sixteen of every kind."""
    mixed = fed(random_book(1, wild=False, accounts=CHECKED)).book
    found: dict[str, Any] = {}
    for name, book in (("linear", linear), ("mixed", mixed)):
        parameters = book.market.parameters.model_dump()
        columns = book.accounts.columns
        times: list[float] = []
        for a in [a for a in range(len(book.accounts)) if columns.positions[a]][:CHECKED]:
            began = time.process_time()
            check_account(book, a, parameters)
            times.append(time.process_time() - began)
        found[f"shadow_{name}_ms"] = round(statistics.median(times) * 1e3, 2)
        found[f"shadow_{name}_longest_ms"] = round(sorted(times)[-2] * 1e3, 2)  # the first one of all compiles
    return found


def main() -> None:
    """See the module's text."""
    book = Book(0, 1)
    open_book(book, Population(CHECKED))
    book.take_cut()
    for name, value in shadowed(book).items():
        print(f"{name} {value}")


if __name__ == "__main__":
    main()
