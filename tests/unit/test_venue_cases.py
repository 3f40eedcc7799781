"""Reference cases of venues' rules, told as topic messages to a book: what it says of each leg is what the case says."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import pytest

from engine.effects import Health, Refused, VenueLeg
from engine.inputs import (
    Definition,
    Frame,
    FrameKind,
    Funding,
    ImpliedVolatility,
    Message,
    OraclePrice,
    Pending,
    RiskParameters,
    Snapshot,
)
from engine.monitor import Book
from engine.rules.adapters import ADAPTERS
from streams.margin_models import venue_margin
from streams.portfolio import Chain, Held, Portfolio, Venue
from streams.portfolio_book import PortfolioBook
from tests import venue_cases
from tests.small_world import Log
from tests.venue_cases import Case

CASES = venue_cases.cases()
IDS = [case.account for case in CASES]
_KINDS: dict[type[Message], FrameKind] = {
    RiskParameters: FrameKind.PARAMETERS,
    OraclePrice: FrameKind.PRICES,
    ImpliedVolatility: FrameKind.VOLATILITIES,
    Funding: FrameKind.FUNDINGS,
    Snapshot: FrameKind.SNAPSHOTS,
    Pending: FrameKind.PENDING,
}
_OF_ACCOUNTS = (FrameKind.SNAPSHOTS, FrameKind.PENDING)


class Told(NamedTuple):
    """A book to which all cases were told, and the last word on each account."""

    book: Book
    health: dict[str, Health]


@pytest.fixture(scope="module")
def told() -> Told:
    book = Book(0, 1)
    log = Log(book)
    refused: list[Any] = []
    for message in venue_cases.opening_messages():
        refused += _give(log, message)
    log.now_ns = venue_cases.CLOCK_NS
    refused += log.tick().now
    for case in CASES:
        for message in (*case.definitions, *case.market, *case.accounts_messages):
            refused += _give(log, message)
    assert [one for one in refused if isinstance(one, Refused)] == []
    return Told(book, {one.account: one for one in book.take_cut().health})


def _give(log: Log, message: Message) -> list[Any]:
    kind = FrameKind.DEFINITIONS if isinstance(message, Definition) else _KINDS[type(message)]
    frame: Frame = log.frame(kind, kind.name, [message])
    return log.put(frame if kind in _OF_ACCOUNTS else log.frame(FrameKind.CONTROL, "control", [frame])).now


def test_as_many_cases_as_counted_are_told_and_each_rule_that_takes_a_leg_has_some() -> None:
    assert Counter(case.family for case in CASES) == venue_cases.TRANSLATED
    assert Counter(one.family for one in venue_cases.left_out()) == venue_cases.LEFT_OUT
    assert {case.rule for case in CASES} == set(ADAPTERS)
    assert len(set(IDS)) == len(CASES)
    assert all(one.why for one in venue_cases.left_out())


def test_each_rule_is_also_held_to_figures_that_its_venue_has_stated() -> None:
    """What levelling leaves of them. Of PMRM_2 it is one: wherever its cases have options, forwards are apart from the spot."""
    assert {case.rule for case in CASES if case.stated} == set(ADAPTERS)
    assert sum(len(case.stated) for case in CASES) == venue_cases.STATED


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_leg_is_what_the_case_says(told: Told, case: Case) -> None:
    [leg] = told.health[case.account].legs
    assert (leg.venue, leg.rule, leg.unknown) == (case.account, case.rule, "")
    assert venue_cases.differences(case, _row(leg)) == []


@pytest.mark.parametrize("case", [case for case in CASES if case.orders is None], ids=lambda case: case.account)
def test_the_same_leg_as_a_portfolio(told: Told, case: Case) -> None:
    """`plimsoll margin --venue` of the same positions; a file has no open orders."""
    found = venue_margin(PortfolioBook(told.book, case.account, _portfolio(case), "default", []), case.account).finding
    row = [found.equity_usd, found.initial_usd, found.maintenance_usd, found.distance]
    assert venue_cases.differences(case, row) == []


def test_another_number_is_told_apart() -> None:
    """What compares can fail: each number moved by ten times what is allowed."""
    for case in CASES:
        largest = max(abs(value) for value in case.row)
        for column in range(3):
            moved = list(case.row)
            moved[column] += 10 * venue_cases.TOLERANCE * largest
            assert venue_cases.differences(case, moved), (case.account, column)
        assert venue_cases.differences(case, [None, *case.row[1:]])


def _row(leg: VenueLeg) -> list[float | None]:
    return [leg.equity_usd, leg.initial_usd, leg.maintenance_usd, leg.distance]


def _portfolio(case: Case) -> Portfolio:
    """What a file of the case would say of its venue's rule and of entry prices; the book has the rest."""
    entry_usd = case.entry_usd
    held = [
        Held(venue=case.account, instrument=one.instrument, lots=one.lots, entry_price=entry_usd.get(one.instrument))
        for one in case.opening.positions
    ]
    return Portfolio(
        clock=venue_cases.CLOCK_NS,
        account=case.account,
        chains=[Chain(name=venue_cases.CHAIN)],
        venues=[Venue(name=case.account, chain=venue_cases.CHAIN, rule=case.venue_rule)],
        positions=held,
    )
