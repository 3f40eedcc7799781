"""The shadow check: it agrees where the engine is right, finds what was spoilt and counts it by its name, and is bounded."""

from __future__ import annotations

import ast
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.breakers import TRIPPED
from engine.margin import EQUITY, LIMIT
from engine.monitor import Book
from engine.reasons import State, Unknown
from engine.tables import (
    CONTRACTS,
    COST_RATE,
    HAIRCUT_FLAT,
    INITIAL_FACTOR,
    INITIAL_LEVEL,
    LIMIT_ACCOUNT,
    MAINTENANCE_LEVEL,
    SCAN,
    STABLE_LONG,
    UNIT_LONG,
)
from streams import shadow_check
from streams.metrics import Metrics
from streams.shadow_check import CHECK_MS_MAX, Check, Difference, ShadowCheck, What, check_account
from tests.bench.twin import fed
from tests.random_ledger import RandomLedger
from tests.small_world import Log
from tests.twin.random_books import random_book

ROOT = Path(__file__).resolve().parents[2]
NAME = "someone"


class Clock:
    """Stands still, but for `step` seconds at each look at it."""

    def __init__(self) -> None:
        self.at, self.step = 100.0, 0.0

    def __call__(self) -> float:
        self.at += self.step
        return self.at


# ---- one text, of its own -----------------------------------------------------------------------------------------------------------


def imports_of(path: Path) -> set[str]:
    """Modules that a file names, whole."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_the_plain_valuation_knows_nothing_of_what_it_checks() -> None:
    paths = sorted((ROOT / "streams" / "shadow").glob("**/*.py"))
    assert len(paths) > 6
    for path in paths:
        for name in imports_of(path):
            assert name.startswith("streams.shadow.") or name.partition(".")[0] in sys.stdlib_module_names, f"{path.name} imports {name}"


def test_the_twin_of_the_tests_values_accounts_by_the_same_text() -> None:
    names = {path: imports_of(path) for path in (ROOT / "tests" / "twin").glob("*.py")}
    for path, of_it in names.items():
        assert not any(name.startswith("engine") for name in of_it), path.name
        assert not any(name.startswith("streams.") and not name.startswith("streams.shadow.") for name in of_it), path.name
    assert "streams.shadow.margin.Account" in names[ROOT / "tests" / "twin" / "monitor.py"]


# ---- where the engine is right ------------------------------------------------------------------------------------------------------


def differences_of(book: Book) -> list[Difference]:
    columns, parameters = book.accounts.columns, book.market.parameters.model_dump()
    holding = np.flatnonzero(columns.positions[: len(book.accounts)]).tolist()
    assert holding
    return [one for a in holding for one in check_account(book, a, parameters)[0]]


def test_books_of_every_instrument_agree() -> None:
    held, states = set[int](), set[int]()
    for seed, wild in ((1, False), (2, True), (3, True)):
        book = fed(random_book(seed, wild=wild, accounts=12)).book
        assert differences_of(book) == []
        columns = book.accounts.columns
        for a in range(len(book.accounts)):
            instruments = columns.instrument[a, : columns.positions[a]]
            held.update(book.market.universe.instrument_arrays.contract[instruments].tolist())
            states.add(int(columns.state[a]))
    assert held == set(range(len(CONTRACTS)))
    assert {State.HEALTHY, State.LIQUIDATABLE, State.BANKRUPT} <= states


def test_a_ledger_with_missing_fills_and_silence_agrees_all_the_way() -> None:
    ledger = RandomLedger(5, accounts=6)
    reasons = set[int]()
    for _ in range(12):
        ledger.steps(10)
        assert differences_of(ledger.book) == []
        reasons.update(ledger.book.accounts.columns.reason[:6].tolist())
    ledger.log.refused_fill("account-0", "ex", 1_000_000)
    assert differences_of(ledger.book) == []
    reasons.update(ledger.book.accounts.columns.reason[:6].tolist())
    ledger.log.tick(120.0)
    assert differences_of(ledger.book) == []
    reasons.update(ledger.book.accounts.columns.reason[:6].tolist())
    assert {Unknown.NONE, Unknown.MISSED_FILL, Unknown.STALE_MARK} <= reasons


def test_what_the_market_was_told_between_its_frames_counts_here_as_it_does_there() -> None:
    book, log = opened()
    log.grant({"BTC": 1e9}, recognised=0.5)
    log.quarantine("north")
    assert differences_of(book) == []
    log.tick(30.0)
    log.prices({"BTC": 90_000.0})
    assert book.market.inputs.over[MAINTENANCE_LEVEL, 1] > 0.0
    assert differences_of(book) == []


# ---- what was spoilt ----------------------------------------------------------------------------------------------------------------


def opened() -> tuple[Book, Log]:
    """An account with dollars and bitcoin that is long a perpetual of another coin, beside two that hold little."""
    book = Book(0, 1)
    log = Log(book)
    log.open({"limit_account": 25.0})
    for name in (NAME, "a", "b"):
        log.deposit(name, 30_000.0)
    log.trade(NAME, "sx", "BTC", 500, 100_000)
    log.trade(NAME, "ex", "ETH-PERP", 1_000, 40_000)
    return book, log


def number(book: Book, venue: str, name: str) -> int:
    found = book.market.universe.instrument_number(venue, name)
    assert found is not None
    return found


def spoil_instrument(book: Book, column: int, name: tuple[str, str] = ("sx", "BTC")) -> None:
    book.market.tables.instrument_float[number(book, *name), column] += 0.01


def spoil_scan_range(book: Book) -> None:
    book.market.tables.group_float[MAINTENANCE_LEVEL, :, SCAN] *= 1.001


def spoil_correlation(book: Book) -> None:
    book.market.tables.correlation[MAINTENANCE_LEVEL] *= 0.9


def spoil_initial_factor(book: Book) -> None:
    book.market.tables.settings[INITIAL_FACTOR] *= 1.0001


def spoil_initial_scan_range(book: Book) -> None:
    book.market.tables.group_float[INITIAL_LEVEL, :, SCAN] *= 1.001
    book.market.tables.instrument_int[:, 11] = 1  # the levels differ


def spoil_limit(book: Book) -> None:
    book.market.tables.settings[LIMIT_ACCOUNT] = 0.01


EQUITIES = {What.EQUITY_MAINTENANCE, What.EQUITY_INITIAL}
MODES = {What.ISOLATED, What.PROTOCOL, What.PORTFOLIO}
SPOILT: list[tuple[str, Callable[[Book], None], set[What]]] = [
    ("the value of a lot", lambda book: spoil_instrument(book, UNIT_LONG), {What.UNHAIRCUT} | EQUITIES),
    ("a haircut", lambda book: spoil_instrument(book, HAIRCUT_FLAT), {What.EQUITY_MAINTENANCE}),
    ("a haircut at initial", lambda book: spoil_instrument(book, HAIRCUT_FLAT + 1), {What.EQUITY_INITIAL}),
    ("a stable price", lambda book: spoil_instrument(book, STABLE_LONG), {What.EQUITY_INITIAL}),
    ("a closing cost", lambda book: spoil_instrument(book, COST_RATE), {What.CLOSE_COST}),
    ("scan ranges", spoil_scan_range, {What.MAINTENANCE, What.INITIAL} | MODES),
    ("correlations", spoil_correlation, {What.MAINTENANCE, What.INITIAL, What.PORTFOLIO}),
    ("initial scan ranges", spoil_initial_scan_range, {What.INITIAL}),
    ("the initial factor", spoil_initial_factor, {What.INITIAL}),
    ("a position limit", spoil_limit, {What.LIMITS}),
]


@pytest.mark.parametrize(("spoil", "found"), [case[1:] for case in SPOILT], ids=[case[0] for case in SPOILT])
def test_a_spoilt_table_is_found(spoil: Callable[[Book], None], found: set[What]) -> None:
    book, log = opened()
    spoil(book)
    log.trade(NAME, "sx", "BTC", 1, 100_000)  # so that it is valued with what was spoilt
    differences, largest = check_account(book, book.accounts.numbers[NAME], book.market.parameters.model_dump())
    assert {one.what for one in differences} - {What.STATE} == found
    assert (largest > 1e-9) == (found != {What.LIMITS})


def spoil_state(book: Book, a: int) -> None:
    book.accounts.columns.state[a] = State.LIQUIDATABLE


def spoil_reason(book: Book, a: int) -> None:
    book.accounts.columns.state[a], book.accounts.columns.reason[a] = State.UNKNOWN, Unknown.STALE_MARK


def spoil_mark(book: Book, a: int) -> None:
    book.market.observations.price[1] *= 1.001


def spoil_breaker(book: Book, a: int) -> None:
    book.market.divergence_breakers.state[1] = TRIPPED


def spoil_health(book: Book, a: int) -> None:
    book.accounts.columns.health[a, EQUITY] += 1.0


def spoil_limits(book: Book, a: int) -> None:
    book.accounts.columns.health[a, LIMIT] = np.nan


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (spoil_state, {What.STATE}),
        (spoil_reason, {What.REASON, What.STATE}),
        (spoil_mark, {What.MARK}),
        (spoil_breaker, {What.MARK}),
        (spoil_health, {What.EQUITY_MAINTENANCE}),
        (spoil_limits, {What.LIMITS}),
    ],
)
def test_a_spoilt_state_is_found(spoil: Callable[[Book, int], None], found: set[What]) -> None:
    book, _ = opened()
    a = book.accounts.numbers[NAME]
    assert check_account(book, a, book.market.parameters.model_dump())[0] == []
    spoil(book, a)
    assert {one.what for one in check_account(book, a, book.market.parameters.model_dump())[0]} == found


def test_what_cannot_be_valued_and_is_said_to_be_well_is_found() -> None:
    book, log = opened()
    log.tick(120.0)
    a = book.accounts.numbers[NAME]
    assert book.accounts.columns.reason[a] == Unknown.STALE_MARK
    book.accounts.columns.state[a], book.accounts.columns.reason[a] = State.HEALTHY, Unknown.NONE
    found = check_account(book, a, book.market.parameters.model_dump())[0]
    assert found == [Difference(What.REASON, "", "stale_mark"), Difference(What.STATE, "HEALTHY", "UNKNOWN")]


def test_every_name_of_a_difference_is_found_by_a_test_here() -> None:
    assert set[What]().union(*(found for *_, found in SPOILT)) | {What.STATE, What.REASON, What.MARK} == set(What)


# ---- whose turn it is ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the accounts that are checked."""
    numbers: list[int] = []

    def check(book: Book, a: int, parameters: dict[str, object]) -> tuple[list[Difference], float]:
        numbers.append(a)
        return [], 0.0

    monkeypatch.setattr(shadow_check, "check_account", check)
    return numbers


def many(accounts: int) -> Book:
    """Every third one has nothing."""
    book = Book(0, 1)
    log = Log(book)
    log.open()
    for k in range(accounts):
        log.deposit(f"account-{k}", 100.0 if k % 3 else 0.0)
    return book


def test_every_account_that_holds_something_comes_round_before_one_comes_again(seen: list[int]) -> None:
    book, clock = many(20), Clock()
    check = ShadowCheck(4, 10.0, clock)
    book.accounts.columns.standing[4] = Unknown.ENGINE_FAULT  # that is said already, and it is not valued
    expected = [a for a in range(20) if book.accounts.columns.positions[a] and a != 4]
    while len(seen) < 2 * len(expected):
        found = check.go_on([book])
        assert found is not None
        assert 1 <= found.accounts <= 4
        clock.at += 10.0
    first = seen.index(expected[0])
    turned = seen[first : first + len(expected)]
    assert turned == expected


def test_a_check_ends_when_its_time_is_up_and_the_next_one_goes_on_there(seen: list[int]) -> None:
    book, clock = many(20), Clock()
    clock.step = 0.75e-3 * CHECK_MS_MAX
    check = ShadowCheck(8, 1.0, clock)
    for _ in range(3):
        found = check.go_on([book])
        assert found is not None
        assert (found.accounts, found.stopped) == (2, True)
        clock.at += 1.0
    assert len(set(seen)) == len(seen) == 6
    clock.step = 0.0
    found = check.go_on([book])
    assert found is not None
    assert not found.stopped


def test_one_book_at_a_time_each_in_its_turn_and_no_oftener_than_asked_for(seen: list[int]) -> None:
    books, clock = [many(3), many(4)], Clock()
    books[1].partition = 1
    check = ShadowCheck(1, 10.0, clock)

    def turn() -> int | None:
        found = check.go_on(books)
        return None if found is None else found.partition

    assert [turn(), turn(), turn()] == [0, 1, None]
    clock.at += 9.0
    assert turn() is None
    clock.at += 1.0
    assert [turn(), turn(), turn()] == [0, 1, None]
    books[1] = many(4)  # loaded anew
    books[1].partition = 1
    assert turn() == 1


def test_where_it_is_off_or_nothing_can_be_valued_nothing_is_done(seen: list[int]) -> None:
    assert ShadowCheck(0, 10.0).go_on([many(3)]) is None
    assert ShadowCheck(5, 10.0).go_on([Book(0, 1)]) is None
    assert ShadowCheck(5, 10.0).go_on([]) is None
    assert seen == []


def test_an_account_that_cannot_be_checked_does_not_stand_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    book, clock, tried = many(5), Clock(), list[int]()

    def check(book: Book, a: int, parameters: dict[str, object]) -> tuple[list[Difference], float]:
        tried.append(a)
        raise KeyError(a)

    monkeypatch.setattr(shadow_check, "check_account", check)
    checks = ShadowCheck(5, 1.0, clock)
    for _ in range(3):
        with pytest.raises(KeyError):
            checks.go_on([book])
        clock.at += 1.0
    assert len(set(tried)) == 3


# ---- what is told -------------------------------------------------------------------------------------------------------------------


def test_differences_are_counted_and_told_once_an_account(caplog: pytest.LogCaptureFixture) -> None:
    book, log = opened()
    log.deposit("odd\x1bname", 50.0)
    book.accounts.columns.health[book.accounts.numbers["odd\x1bname"], EQUITY] += 2.5
    metrics, clock = Metrics(), Clock()
    check = ShadowCheck(10, 10.0, clock)
    check.go_on([book])  # from somewhere in the book to its end
    clock.at += 10.0
    caplog.clear()
    with caplog.at_level(logging.ERROR):
        found = check.go_on([book])
    assert found is not None
    assert found.accounts == 4
    metrics.count_check(found)
    metrics.count_check(Check(0, 3, [], 0.0, stopped=True))
    (line,) = [record.getMessage() for record in caplog.records]
    assert "account odd\\x1bname: equity_maintenance 52.5, by the shadow 50.0" in line
    value = metrics.registry.get_sample_value
    assert value("plimsoll_shadow_checks_total", {"partition": "0"}) == 7
    assert value("plimsoll_shadow_stopped_total", {"partition": "0"}) == 1
    assert value("plimsoll_shadow_largest_difference_ratio", {"partition": "0"}) == 0.0
    counted = {what: value("plimsoll_shadow_differences_total", {"partition": "0", "what": what}) for what in What}
    assert counted == {**dict.fromkeys(What, 0.0), What.EQUITY_MAINTENANCE: 1.0}
    metrics.forget("book", 0)
    assert value("plimsoll_shadow_largest_difference_ratio", {"partition": "0"}) is None
