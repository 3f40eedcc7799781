"""The shadow check: some accounts of a running book, valued a second time by plain Python, and held against what the engine says of them.

The market is taken from the engine's own state (its marks are made again from what sources said). What is checked is all that comes after
it: tables, haircuts, equities, requirements, limits, closing costs, states. What comes before, from the log to that state, is for the
replay. Nothing decides by it: it counts, and writes a line into the log for each account that differs.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np

from engine.fills import requirements_of
from engine.margin import CLOSE_COST, EQUITY, EQUITY_INITIAL, INITIAL, LIMIT, MAINTENANCE, UNHAIRCUT
from engine.monitor import Book
from engine.parameters import Parameters
from engine.reasons import State, Unknown
from streams.shadow.margin import MODES, Account, Valuation, state_of
from streams.shadow.values import first_reason
from streams.shadow.view import MAINTENANCE as AT_MAINTENANCE
from streams.shadow_view import Surroundings, mark_again, positions_of, surroundings, why_unknown
from streams.wording import safe

log = logging.getLogger(__name__)

TOLERANCE: Final = 1e-9  # of an account's gross notional, or of the amount itself where that is more
TOLERANCE_USD: Final = 0.01  # less than this is no difference
CHECK_MS_MAX: Final = 50  # that one check of a book takes, but for the account that it is at
WALK_MAX: Final = 100_000  # accounts that one check walks over, most of which may hold nothing
MS: Final = 1e-3


class What(StrEnum):
    """What may differ: all values of a label."""

    MARK = "mark"
    REASON = "reason"
    STATE = "state"
    LIMITS = "limits"
    UNHAIRCUT = "unhaircut"
    EQUITY_MAINTENANCE = "equity_maintenance"
    EQUITY_INITIAL = "equity_initial"
    MAINTENANCE = "maintenance"
    INITIAL = "initial"
    CLOSE_COST = "close_cost"
    ISOLATED = "isolated"
    PROTOCOL = "protocol"
    PORTFOLIO = "portfolio"


class Difference(NamedTuple):
    """One thing that the engine says of an account, and what it is by the plain valuation."""

    what: What
    said: str
    expected: str


class Check(NamedTuple):
    """What a check of one book found."""

    partition: int
    accounts: int
    differences: list[Difference]
    largest: float  # of all amounts: the difference as a share of gross notional
    stopped: bool  # for want of time, before as many accounts as asked for


class _Walk:
    """How far a book has been gone through."""

    def __init__(self, book: Book) -> None:
        self.book = book
        # Where the log stands: if workers come and go, it is not always the first accounts that are looked at.
        self.next = (book.applied + 1) % max(len(book.accounts), 1)
        self.begun_at = -math.inf


class ShadowCheck:
    """The checks of one worker's books: `accounts` of each book (0: none at all) in `interval_s`, one book at a time.

    `now` gives seconds, of any beginning; tests have it stand still.
    """

    def __init__(self, accounts: int, interval_s: float, now: Callable[[], float] = time.perf_counter) -> None:
        self._accounts = accounts
        self._interval_s = interval_s
        self._now = now
        self._walks: dict[int, _Walk] = {}  # by partition, of the books that were given last
        self._parameters: tuple[Parameters, dict[str, object]] | None = None  # as plain values

    def go_on(self, books: Iterable[Book]) -> Check | None:
        """Check the book whose turn it is, where it is due; call it between two frames, on the thread that applies them."""
        if not self._accounts:
            return None
        walks = {}
        for book in books:
            walk = self._walks.get(book.partition)
            walks[book.partition] = walk if walk is not None and walk.book is book else _Walk(book)
        self._walks = walks
        now = self._now()
        due = [walk for walk in walks.values() if walk.book.market.live and now - walk.begun_at >= self._interval_s]
        if not due:
            return None
        walk = min(due, key=lambda one: (one.begun_at, one.book.partition))
        walk.begun_at = now
        return self._check(walk, now)

    def _check(self, walk: _Walk, began: float) -> Check:
        book = walk.book
        columns, n = book.accounts.columns, len(book.accounts)
        if walk.next >= n:
            walk.next = 0
        start, end = walk.next, min(walk.next + WALK_MAX, n)
        holding = start + np.flatnonzero((columns.positions[start:end] > 0) & (columns.standing[start:end] != Unknown.ENGINE_FAULT))
        checked, largest, found = 0, 0.0, list[Difference]()
        for a in holding[: self._accounts].tolist():
            if checked and self._now() - began >= CHECK_MS_MAX * MS:
                return Check(book.partition, checked, found, largest, stopped=True)
            walk.next = a + 1  # first, so that one that cannot be checked at all does not stand in the way
            differences, most = check_account(book, a, self._plain(book.market.parameters))
            checked, largest = checked + 1, max(largest, most)
            if differences:
                found += differences
                _say(book, a, differences)
        if len(holding) <= self._accounts:
            walk.next = end
        return Check(book.partition, checked, found, largest, stopped=False)

    def _plain(self, parameters: Parameters) -> dict[str, object]:
        if self._parameters is None or self._parameters[0] is not parameters:
            self._parameters = parameters, parameters.model_dump()
        return self._parameters[1]


def check_account(book: Book, a: int, parameters: dict[str, object]) -> tuple[list[Difference], float]:
    """What differs of an account that has positions, and the largest difference of an amount as a share of gross notional."""
    columns, market = book.accounts.columns, book.market
    instruments = columns.instrument[a, : int(columns.positions[a])].tolist()
    around = surroundings(market, instruments, parameters)
    account = Account(around.universe, around.view, positions_of(book, a))
    differences = _of_marks(book, around)
    valuation = account.valuation()
    standing = why_unknown(int(columns.standing[a]))
    expected = first_reason([reason for reason in (valuation.reason, standing) if reason])
    said = why_unknown(int(columns.reason[a]))
    if said != expected:
        differences.append(Difference(What.REASON, said, expected))
    if valuation.reason:
        if columns.state[a] != State.UNKNOWN:
            differences.append(Difference(What.STATE, State(int(columns.state[a])).name, State.UNKNOWN.name))
        return differences, 0.0
    of_amounts, largest = _of_amounts(book, a, account, valuation)
    return [*differences, *_of_state(book, a, account, valuation, expected), *of_amounts], largest


def _of_marks(book: Book, around: Surroundings) -> list[Difference]:
    found = []
    for asset in around.assets:
        name = book.market.universe.assets[asset].name
        said, again = around.view.marks[name], mark_again(book.market, asset)
        if said is None or again.price is None:
            same = said is again.price and around.view.reasons[name] == again.reason
        else:
            same = abs(said - again.price) <= TOLERANCE * again.price
        if not same:
            found.append(Difference(What.MARK, f"{name} {said} {around.view.reasons[name]}", f"{name} {again.price} {again.reason}"))
    return found


def _of_state(book: Book, a: int, account: Account, valuation: Valuation, reason: str) -> list[Difference]:
    """State and limits; where rounding decides, either will do."""
    columns, found = book.accounts.columns, list[Difference]()
    said = State(int(columns.state[a])).name
    health = columns.health[a]
    limits = int(health[LIMIT]) if math.isfinite(health[LIMIT]) else -1
    least, most = account.limits(1 + TOLERANCE), account.limits(1 - TOLERANCE)
    if limits < 0 or limits & least != least or limits | most != most:
        found.append(Difference(What.LIMITS, str(limits), str(valuation.limits)))
        limits = valuation.limits
    if reason:
        possible = {State.UNKNOWN.name}
    else:
        was, rounding = State(int(columns.prior[a])).name, tolerance_usd(account.gross())
        of_limits = replace(valuation, limits=limits)
        possible = {
            state_of(
                replace(
                    of_limits,
                    equity_m=valuation.equity_m + usd,
                    equity_i=valuation.equity_i + usd,
                    unhaircut=valuation.unhaircut + usd,
                ),
                was,
                has_positions=True,
            )
            for usd in (0.0, -rounding, rounding)
        }
    if said not in possible:
        found.append(Difference(What.STATE, said, " or ".join(sorted(possible))))
    return found


def _of_amounts(book: Book, a: int, account: Account, valuation: Valuation) -> tuple[list[Difference], float]:
    columns, market = book.accounts.columns, book.market
    by_mode = np.zeros((1, len(MODES)))
    requirements_of(np.array([a], np.int64), columns, market.tables, by_mode)
    mode_in_force = market.parameters.decision_mode
    health = columns.health[a].tolist()
    pairs = [
        (What.UNHAIRCUT, health[UNHAIRCUT], valuation.unhaircut),
        (What.EQUITY_MAINTENANCE, health[EQUITY], valuation.equity_m),
        (What.EQUITY_INITIAL, health[EQUITY_INITIAL], valuation.equity_i),
        (What.MAINTENANCE, health[MAINTENANCE], valuation.maintenance),
        (What.INITIAL, health[INITIAL], valuation.initial),
        (What.CLOSE_COST, health[CLOSE_COST], valuation.close_cost),
    ]
    for mode, said in zip(MODES, by_mode[0].tolist(), strict=True):
        expected = valuation.maintenance if mode == mode_in_force else account.requirement(AT_MAINTENANCE, mode)
        pairs.append((What(mode), said, expected))
    gross, found, largest = account.gross(), list[Difference](), 0.0
    for what, said, expected in pairs:
        apart = abs(said - expected) if math.isfinite(said) else math.inf
        largest = max(largest, apart / max(gross, abs(expected), 1.0))
        if not apart <= tolerance_usd(max(gross, abs(expected))):
            found.append(Difference(what, repr(said), repr(expected)))
    return found, largest


def tolerance_usd(of_usd: float) -> float:
    """How far apart sums of so much may be."""
    return max(TOLERANCE * of_usd, TOLERANCE_USD)


def _say(book: Book, a: int, differences: list[Difference]) -> None:
    """One line an account; at most as many as a check has accounts."""
    words = "; ".join(f"{what} {said}, by the shadow {expected}" for what, said, expected in differences)
    log.error("book[%d] at %d, account %s: %s", book.partition, book.applied, safe(book.accounts.names[a]), safe(words))
