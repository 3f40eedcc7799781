"""One account laid open: its parts add up to what decides, equal what is told, and looking changes nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from engine.explanations import binding_scenario, scenario_in_words
from engine.inspection import NAMED_MAX, AccountReport, explain_account
from engine.monitor import Book
from engine.reporting import refusals_of, tell
from engine.requirement import HAIRCUT_SCENARIO, NO_SCENARIO
from tests.random_ledger import RandomLedger
from tests.small_world import SECOND, SOURCES, Log


def a_book(parameters: dict[str, Any] | None = None, *, publish: bool = True) -> tuple[Book, Log]:
    book = Book(0, 1)
    log = Log(book)
    log.open(parameters, publish=publish)
    return book, log


def explained(book: Book, account: str) -> AccountReport:
    report = explain_account(book, account)
    assert report is not None
    return report


@pytest.mark.parametrize("seed", range(4))
def test_it_says_what_is_told_and_its_parts_add_up(seed: int) -> None:
    ledger = RandomLedger(seed, accounts=12)
    ledger.steps(150)
    ledger.log.tick(1.0)
    book = ledger.book
    book.take_cut()
    refuses = refusals_of(book.accounts, bad_debt=False)
    told = tell(np.arange(len(book.accounts)), refuses, book.accounts, book.lives, book.limits, book.market, f"0:{book.applied}")
    assert any(one.equity_usd is not None for one in told)
    for health in told:
        report = explained(book, health.account)
        for name in health.__struct_fields__:
            if name in report.__struct_fields__:
                assert getattr(report, name) == getattr(health, name), name
        assert len(report.flights) == health.orders_in_flight
        assert bool(report.freezes and not report.freezes[0].startswith("venue")) == health.frozen
        if health.equity_usd is None:
            assert (report.collateral, report.binding) == ([], "")
            continue
        assert sum(position.value_usd or 0.0 for position in report.positions) == pytest.approx(health.unhaircut_usd, abs=1e-6)
        lost = sum(collateral.lost_usd for collateral in report.collateral)
        assert report.unhaircut_usd is not None
        assert report.unhaircut_usd - lost == pytest.approx(health.equity_usd, abs=1e-6)
        assert sum(position.closing_cost_usd or 0.0 for position in report.positions) == pytest.approx(report.close_cost_usd, abs=1e-6)
        assert bool(report.binding) == (health.maintenance_usd is not None and health.maintenance_usd > 0.0)
        msgspec.json.encode(report)


def test_looking_changes_nothing() -> None:
    one, other = RandomLedger(7), RandomLedger(7)
    for ledger in (one, other):
        ledger.steps(60)
    reports = [explain_account(one.book, name) for name in one.book.accounts.names]
    assert reports == [explain_account(one.book, name) for name in one.book.accounts.names]
    for ledger in (one, other):
        ledger.steps(60)
    assert one.book.take_cut() == other.book.take_cut()


def test_nobody_is_none() -> None:
    book, log = a_book()
    assert explain_account(book, "nobody") is None
    log.deposit("alice", 1_000.0)
    assert explain_account(book, "alice") is None, "it has no row before the first cut, and is told with it"
    book.take_cut()
    assert explained(book, "alice").state == "HEALTHY"


def test_positions_say_where_they_are_and_what_they_are_worth() -> None:
    book, log = a_book()
    log.deposit("alice", 20_000.0)
    log.trade("alice", "ex", "BTC-PERP", 100, 99_000)  # a tenth of a bitcoin, at 99,000
    log.trade("alice", "sx", "SOL-PERP", -500, 20_000)
    log.credit("alice", "south", "STB", 100_000)
    book.take_cut()
    report = explained(book, "alice")
    cash, perp, sol, stable = report.positions
    assert (cash.chain, cash.venue, cash.side, cash.cash_quote, cash.value_usd) == ("north", "ex", "flat", 20_000.0, 20_000.0)
    assert (perp.venue, perp.contract, perp.side, perp.quantity, perp.mark_usd) == ("ex", "perpetual", "long", 0.1, 100_000.0)
    assert perp.value_usd == pytest.approx(100.0)
    assert perp.notional_usd == pytest.approx(10_000.0)
    assert (sol.chain, sol.side, sol.quantity) == ("south", "short", -50.0)
    assert (stable.venue, stable.asset) == ("vault", "STB")
    assert stable.value_usd == pytest.approx(1_000.0)
    on_south = next(one for one in report.collateral if one.asset == "STB")
    assert on_south.latency > 0.0, "a position lies on the other chain"
    assert on_south.lost_usd == pytest.approx(on_south.value_usd * on_south.haircut)
    assert report.binding.startswith(("BTC falls by", "SOL rises by"))
    assert report.ledger == f"0:{book.applied}"


def test_what_cannot_be_valued_says_which_position_and_why() -> None:
    book, log = a_book()
    log.deposit("alice", 20_000.0)
    log.trade("alice", "ex", "BTC-PERP", 100, 99_000)
    log.tick(61.0)
    log.prices(dict.fromkeys(("ETH", "SOL", "STB"), 10.0))
    book.take_cut()
    report = explained(book, "alice")
    assert (report.state, report.reason, report.equity_usd, report.requirement_usd) == ("UNKNOWN", "stale_mark", None, None)
    cash, perp = report.positions
    assert (cash.unknown, cash.value_usd) == ("", 20_000.0)
    assert (perp.unknown, perp.value_usd, perp.notional_usd) == ("stale_mark", None, None)


def test_orders_grace_freezes_and_what_is_missing_are_said() -> None:
    book, log = a_book()
    log.deposit("alice", 20_000.0)
    log.trade("alice", "ex", "BTC-PERP", 1_000, 100_000)
    log.tick(1)
    log.prices({"BTC": 88_000.0}, SOURCES)
    book.take_cut()
    report = explained(book, "alice")
    assert (report.state, report.cause, report.publish) == ("LIQUIDATABLE", "price", True)
    (flight,) = report.flights
    assert (flight.venue, flight.instrument, flight.attempt, flight.heard) == ("ex", "BTC-PERP", 1, False)
    assert flight.expires_ns == log.now_ns + 60 * SECOND
    assert report.freezes == []
    for scope, name in (("venue", "ex"), ("venue", "sx"), ("account", "alice"), ("all", "")):
        log.freeze(scope, name)
    assert explained(book, "alice").freezes == ["all orders are frozen", "this account is frozen", "venue ex is frozen"]
    late = log.fill("alice", "ex", "BTC-PERP", 1, 88_000, sequence=4 + NAMED_MAX + 5)
    log.fills(late)
    log.refused_fill("alice", "sx", 2)
    log.refused_fill("alice", "elsewhere", 3)
    log.refused_fill("alice", "", -1)
    assert explained(book, "alice").standing == [
        "ex: fills 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 6 more are missing",
        "sx: fills 1, 2 are missing",
        "a venue that is not known: something was refused, and only a snapshot settles it",
        "elsewhere: fills up to number 3 were refused",
    ]
    log.deposit("bob", 1_000.0)
    log.snapshot("bob", "ex", 1, {"USD": (0, 999_000_000)})
    book.take_cut()
    assert explained(book, "bob").standing == ["ex: its last snapshot differs from what is held here"]
    assert (explained(book, "bob").state, explained(book, "bob").reason) == ("UNKNOWN", "unreconciled")


def test_scenarios_in_words() -> None:
    book, _ = a_book()
    market, steps = book.market, book.market.parameters.grid_steps
    group = 0
    last = 2 * 2 * steps
    words = {
        column: scenario_in_words(market, float(group * 64 + column))
        for column in (0, 1, last, 2 * steps, last + 2, last + 3, HAIRCUT_SCENARIO)
    }
    assert words[0].startswith("BTC falls by ")
    assert words[0].endswith("volatility up; the others move with it by their correlations")
    assert "volatility down" in words[1]
    assert words[last].startswith("BTC rises by ")
    assert words[2 * steps].startswith("BTC stays, volatility up")
    assert words[last + 2].startswith("BTC rises by ")
    assert "beyond its scan range" in words[last + 2]
    assert words[last + 3].startswith("BTC falls by ")
    assert words[HAIRCUT_SCENARIO].startswith("BTC loses its volatility haircut")
    assert scenario_in_words(market, NO_SCENARIO) == "" != binding_scenario(market, NO_SCENARIO)
