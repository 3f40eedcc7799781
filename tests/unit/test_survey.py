"""A book seen as a whole: sums against a slow count, and reports that say why a source does not count."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from engine.effects import AssetReport, Order
from engine.explanations import haircut_terms
from engine.inputs import FrameKind
from engine.margin import EQUITY, EQUITY_INITIAL, INITIAL, MAINTENANCE, UNHAIRCUT
from engine.monitor import Book
from engine.reasons import Cause, State, Unknown
from engine.survey import LEVELS, asset_reports, chain_reports, flights, open_breakers, totals
from engine.tables import CHAIN, NOTIONAL, UNIT_UNKNOWN
from tests.random_ledger import RandomLedger
from tests.small_world import PRICES, SECOND, SOURCES, Log, definitions


def a_book(parameters: dict[str, Any] | None = None) -> tuple[Book, Log]:
    book = Book(0, 1)
    log = Log(book)
    log.open(parameters)
    return book, log


def report(book: Book, asset: str) -> AssetReport:
    return next(one for one in asset_reports(book.market) if one.asset == asset)


@pytest.mark.parametrize("seed", range(4))
def test_totals_are_the_sums_over_accounts(seed: int) -> None:
    ledger = RandomLedger(seed, accounts=12)
    ledger.steps(150)
    book = ledger.book
    ledger.log.tick(1.0)
    book.take_cut()
    found = totals(book.accounts, book.market)
    c, market = book.accounts.columns, book.market
    end = market.parameters.end_factor
    states = np.zeros((len(State), len(Cause)), int)
    reasons = dict.fromkeys(Unknown, 0)
    equity = dict.fromkeys(State, 0.0)
    missing = dict.fromkeys(LEVELS, 0.0)
    bad_debt = 0.0
    exposure = np.zeros((market.universe.chain_count, 2))
    for a in range(len(book.accounts)):
        state, health = State(int(c.state[a])), c.health[a]
        states[state, c.cause[a]] += 1
        if state is State.UNKNOWN:
            reasons[Unknown(int(c.reason[a]))] += 1
        else:
            equity[state] += health[EQUITY]
            missing["initial"] += max(0.0, health[INITIAL] - health[EQUITY_INITIAL])
            missing["liquidation_end"] += max(0.0, end * health[MAINTENANCE] - health[EQUITY])
            missing["maintenance"] += max(0.0, health[MAINTENANCE] - health[EQUITY])
            bad_debt += max(0.0, -health[UNHAIRCUT])
        for slot in range(int(c.positions[a])):
            i, lots = int(c.instrument[a, slot]), int(c.quantity[a, slot])
            if market.tables.instrument_int[i, UNIT_UNKNOWN] == 0:
                side = 0 if lots > 0 else 1
                exposure[market.tables.instrument_int[i, CHAIN], side] += abs(lots) * market.tables.instrument_float[i, NOTIONAL]
    assert found.accounts.tolist() == states.tolist()
    assert found.unknown.tolist() == [reasons[reason] for reason in Unknown]
    assert found.equity_usd == pytest.approx([equity[state] for state in State])
    assert found.shortfall_usd == pytest.approx([missing[level] for level in LEVELS])
    assert found.bad_debt_usd[0] == pytest.approx(bad_debt)
    assert found.exposure_usd[: len(exposure)] == pytest.approx(exposure)
    assert states.sum() == len(book.accounts) > 0
    assert exposure.min() > 0.0


def test_looking_changes_nothing_that_is_cut() -> None:
    one, other = RandomLedger(7), RandomLedger(7)
    for ledger in (one, other):
        ledger.steps(60)
    totals(one.book.accounts, one.book.market)
    flights(one.book.lives, one.book.market)
    asset_reports(one.book.market)
    chain_reports(one.book.market)
    open_breakers(one.book.market)
    for ledger in (one, other):
        ledger.steps(20)
    assert one.book.take_cut() == other.book.take_cut()


def an_order(book: Book, log: Log) -> Order:
    log.deposit("alice", 20_000.0)
    log.fills(log.fill("alice", "ex", "BTC-PERP", 1_000, 100_000))
    log.tick(1.0)
    sunk = log.prices({**PRICES, "BTC": 84_000.0})
    return next(effect for effect in sunk.now if isinstance(effect, Order))


def test_an_order_is_unreported_until_something_is_heard_of_it() -> None:
    book, log = a_book()
    order = an_order(book, log)
    log.tick(5.0)
    out = flights(book.lives, book.market)
    assert (out.in_flight, out.unreported) == ({"ex": 1}, {"ex": 1})
    assert out.oldest_unreported_ns == book.clock_ns - order.decided_ns > 0
    log.report("alice", order.order_id, "acknowledged", 0)
    out = flights(book.lives, book.market)
    assert (out.in_flight, out.unreported, out.oldest_unreported_ns) == ({"ex": 1}, {}, 0)
    log.tick(61.0)
    assert book.take_unheard() == {}


def test_a_fill_is_word_of_its_order_and_one_that_ends_unheard_is_counted_once() -> None:
    book, log = a_book()
    order = an_order(book, log)
    log.fills(log.fill("alice", "ex", "BTC-PERP", order.lots // 2, order.limit_ticks, kind="liquidation", order_id=order.order_id))
    assert flights(book.lives, book.market).unreported == {}
    book, log = a_book()
    an_order(book, log)
    log.tick(61.0)
    assert book.take_unheard() == {"ex": 1}
    assert book.take_unheard() == {}


def test_each_source_says_whether_it_counts_and_why_not() -> None:
    book, log = a_book()
    one, two, three = SOURCES
    log.prices({"BTC": 100_000.0}, sources=(one,))
    log.tick(50.0)
    log.prices({"BTC": 100_000.0}, sources=(two,))
    log.prices({"BTC": 99_000.0}, sources=(three,))
    log.tick(20.0)
    btc = report(book, "BTC")
    assert [(source.source, source.counts, source.why) for source in btc.sources] == [
        (one, False, "stale"),
        (two, True, ""),
        (three, True, ""),
    ]
    assert [source.age_seconds for source in btc.sources] == pytest.approx([70.0, 20.0, 20.0], abs=1.0)
    assert btc.mark_usd == pytest.approx(99_500.0)
    assert btc.reason == ""
    log.prices({"BTC": 100_000.0}, sources=(one,))
    log.prices({"BTC": 65_000.0}, sources=(three,))
    btc = report(book, "BTC")
    assert [(source.counts, source.why) for source in btc.sources] == [(True, ""), (True, ""), (False, "apart")]
    assert btc.mark_usd == 100_000.0
    log.tick(70.0)
    btc = report(book, "BTC")
    assert (btc.mark_usd, btc.reason) == (None, "stale_mark")
    assert {source.why for source in btc.sources} == {"stale"}


def test_what_was_never_told_is_none_and_not_zero() -> None:
    book = Book(0, 1)
    log = Log(book)
    log.control(FrameKind.DEFINITIONS, "market.instruments", definitions())
    btc = report(book, "BTC")
    assert (btc.mark_usd, btc.age_seconds, btc.depth_age_seconds, btc.bound_usd) == (None, None, None, None)
    assert {(source.price_usd, source.age_seconds, source.why) for source in btc.sources} == {(None, None, "never")}
    assert {(chain.lag_p95_seconds, chain.heartbeat_age_seconds) for chain in chain_reports(book.market)} == {(None, None)}


def test_haircuts_are_those_that_an_account_pays() -> None:
    book, log = a_book()
    log.deposit("alice", 1_000_000.0)
    log.fills(log.fill("alice", "ex", "BTC", 10_000, 100_000), log.fill("alice", "sx", "BTC-PERP", -10_000, 100_000))
    a, c = book.accounts.numbers["alice"], book.accounts.columns
    held = slice(0, int(c.positions[a]))
    (paid,) = [
        terms
        for terms in haircut_terms(book.market, c.instrument[a, held].tolist(), c.quantity[a, held].tolist(), c.cash[a, held].tolist())
        if terms.asset == "BTC"
    ]
    told = next(haircut for haircut in report(book, "BTC").haircuts if haircut.chain == "north")
    assert paid.value_usd == pytest.approx(1_000_000.0)
    assert (told.base, told.security, told.latency, told.depeg) == (paid.base, paid.security, paid.latency, paid.depeg)
    assert told.size_1m == pytest.approx(paid.size)
    assert told.total_1m == pytest.approx(paid.haircut)
    assert [haircut.chain for haircut in report(book, "ETH").haircuts] == ["north"]  # nowhere else can it be held


def test_a_breaker_is_told_from_its_first_opening_on() -> None:
    book, log = a_book({"breakers_enabled": True})
    log.tick(1.0)
    assert open_breakers(book.market) == []
    log.tick(15.0)
    log.prices({**PRICES, "BTC": 60_000.0})
    assert [(one.trigger, one.name, one.state) for one in open_breakers(book.market)] == [
        ("asset_move", "BTC", "tripped"),
        ("volatility_jump", "BTC", "tripped"),
    ]
    log.lag("south", 30.0)
    south = next(chain for chain in chain_reports(book.market) if chain.chain == "south")
    assert south.lag_p95_seconds == 30.0
    assert south.heartbeat_age_seconds is not None
    assert not math.isnan(south.heartbeat_age_seconds)
    assert (south.layer, south.breaker, south.finality_seconds) == ("wormhole", "closed", 600.0)
    assert book.clock_ns > SECOND
