"""What falls make sell, and what is claimed of each asset, by hand; and a look at it all that costs a bounded amount of work at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.cascade import EVALUATION, FALLS, UNBOUNDED, Curve, MovedMarket, Walk, cascade
from engine.effects import LeverageReport
from engine.encumbrance import LOOK_EVERY_NS, LeverageWatch, encumbrance, leverage_reports, multiple, share
from engine.monitor import Book
from tests.random_ledger import RandomLedger
from tests.small_world import PRICES, Log

# No haircut, and a requirement of a tenth of what is held: scan range 10% whatever the volatility, extremes no worse, no other terms.
TENTH: dict[str, Any] = {
    "max_age_s": 60.0,
    "base_haircut": 0.0,
    "size_coefficient": 0.0,
    "vol_coefficient": 0.0,
    "depeg_coefficient": 0.0,
    "scan_floor": 0.1,
    "scan_cap": 0.1,
    "sigma_floor": 0.01,
    "sigma_ref": 0.01,
}
PLAIN: dict[str, Any] = {
    "classes": dict.fromkeys(("major", "alt", "stable"), TENTH),
    "extreme_multiple": 1.0,
    "end_factor": 1.5,
    "initial_factor": 2.0,
    "impact_coefficient": 0.1,
}


def a_book(parameters: dict[str, Any] | None = None) -> tuple[Book, Log]:
    book = Book(0, 1)
    log = Log(book)
    log.open({**PLAIN, **(parameters or {})})
    return book, log


def group_of(book: Book, asset: str) -> int:
    return int(book.market.universe.asset_arrays.group[number(book, asset)])


def number(book: Book, asset: str) -> int:
    found = book.market.universe.asset_number(asset)
    assert found is not None
    return found


def bitcoin(book: Book, curve: Curve) -> list[float]:
    return [float(usd) for usd in curve.volume_usd[:, number(book, "BTC")]]


def leveraged(log: Log, name: str, times: float) -> None:
    """100,000 USD of capital, `times` as much bitcoin: the rest was borrowed."""
    lots = round(1_000 * times)
    log.fills(log.fill(name, "ex", "BTC", lots, 100_000), log.fill(name, "ex", "USD", 0, kind="funding", cash=100_000 * 10**6))


def test_each_falls_where_its_excess_ends() -> None:
    book, log = a_book()
    # E = 100,000 - fall * position, M = a tenth of the position as it is then:
    # five times: 100 - 500 x < 50 (1 - x) from 11.1% on; three times: 100 - 300 x < 30 (1 - x) from 25.9%; one: never.
    for times in (5, 3, 1):
        leveraged(log, f"times-{times}", times)
    book.take_cut()
    found = cascade(book.accounts, book.market, group_of(book, "BTC"))
    assert FALLS == (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
    assert found.accounts.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 2]
    # At 15%: position 425,000, E = 25,000, M = 42,500, end 63,750, short 38,750; closed whole, U = 25,000 remain.
    first = 425_000 * 38_750 / (25_000 + 38_750)
    # At 30%: position 210,000, E = 10,000, M = 21,000, end 31,500, short 21,500.
    second = 210_000 * 21_500 / (10_000 + 21_500)
    assert bitcoin(book, found) == pytest.approx([0, 0, 0, 0, 0, first, first, first, first + second])
    assert found.volume_usd.sum(axis=1) == pytest.approx(bitcoin(book, found)), "bitcoin alone is sold"
    assert not found.second_usd.any()
    assert cascade(book.accounts, book.market, group_of(book, "ETH")).accounts.tolist() == [0] * len(FALLS)


def test_who_has_nothing_left_sells_all() -> None:
    book, log = a_book()
    leveraged(log, "alice", 5)
    book.take_cut()
    found = cascade(book.accounts, book.market, group_of(book, "BTC"), (0.0, 0.3))
    assert bitcoin(book, found) == pytest.approx([0.0, 350_000.0]), "150,000 lost of 100,000"


def test_who_is_below_already_comes_first() -> None:
    book, log = a_book()
    leveraged(log, "alice", 5)
    log.tick(1.0)
    log.prices({**PRICES, "BTC": 85_000.0})
    book.take_cut()
    found = cascade(book.accounts, book.market, group_of(book, "BTC"))
    assert found.accounts.tolist() == [1] * len(FALLS)
    assert bitcoin(book, found)[0] == pytest.approx(425_000 * 38_750 / 63_750)


def test_a_short_sells_nothing_and_falls_by_no_fall() -> None:
    book, log = a_book()
    log.deposit("alice", 30_000.0)
    log.trade("alice", "ex", "BTC-PERP", -1_000, 100_000)
    book.take_cut()
    found = cascade(book.accounts, book.market, group_of(book, "BTC"))
    assert not found.accounts.any()


def test_one_who_cannot_be_valued_is_left_out() -> None:
    book, log = a_book()
    leveraged(log, "alice", 5)
    log.fills(log.fill("alice", "ex", "BTC", 1, 100_000, sequence=9))  # fills are missing
    book.take_cut()
    assert not cascade(book.accounts, book.market, group_of(book, "BTC")).accounts.any()
    assert not encumbrance(book.accounts, book.market).held.any()


def test_the_second_round_is_what_the_impact_of_the_first_makes_sell() -> None:
    book, log = a_book()
    leveraged(log, "alice", 5)
    leveraged(log, "bob", 4)  # 100 - 400 x < 40 (1 - x) from 16.7% on
    log.tick(1.0)
    log.depths({"BTC": 4e6})
    book.take_cut()
    group, falls = group_of(book, "BTC"), (0.0, 0.15)
    found = cascade(book.accounts, book.market, group, falls, feedback=True)
    sold = 425_000 * 38_750 / 63_750
    price = 0.85 * (1 - 0.1 * (sold / 4e6) ** 0.5)  # of the mark
    assert price == pytest.approx(0.8284, abs=1e-4)
    assert found.accounts.tolist() == [0, 1]
    assert bitcoin(book, found) == pytest.approx([0.0, sold])
    equity = 400_000 * price - 300_000
    short = 60_000 * price - equity
    expected = 400_000 * price * short / (equity + short)
    assert found.second_usd[:, number(book, "BTC")].tolist() == pytest.approx([0.0, expected])
    log.tick(1.0)
    log.depths({"BTC": 1e12})
    assert not cascade(book.accounts, book.market, group, falls, feedback=True).second_usd.any()


def test_an_account_out_of_reach_is_valued_once() -> None:
    book, log = a_book()
    for k in range(50):
        leveraged(log, f"account-{k}", 1)
    book.take_cut()
    walk = Walk(MovedMarket(book.market), book.accounts, book.market, group_of(book, "BTC"), FALLS, feedback=False)
    tables = Walk(MovedMarket(book.market), book.accounts, book.market, group_of(book, "SOL"), FALLS, feedback=False)
    work, without = walk.go_on(UNBOUNDED), tables.go_on(UNBOUNDED)  # the latter nobody holds: tables alone, and passing by
    assert walk.is_done
    assert tables.is_done
    assert work - without == 50 * EVALUATION


def test_claims_and_coins() -> None:
    assert multiple(300.0, 200.0) == 3.0
    assert multiple(100.0, 0.0) == 1.0
    assert multiple(100.0, 100.0) is None
    assert multiple(0.0, 0.0) is None
    assert share(50.0, 200.0) == 0.25
    assert share(0.0, 0.0) is None


def test_sums_by_asset() -> None:
    book, log = a_book()
    leveraged(log, "alice", 5)  # 500,000 of bitcoin, 400,000 owed
    log.trade("bob", "ex", "BTC", 1_000, 0, kind="transfer")  # 100,000, nothing owed
    log.credit("carol", "south", "STB", 20_000 * 100)  # dollars' worth, for a perpetual
    log.trade("carol", "ex", "ETH-PERP", 100, 40_000)
    log.credit("dave", "south", "STB", 10_000 * 100)
    log.fills(log.fill("dave", "lend", "STB-DEBT", -600_000, kind="transfer"))
    book.take_cut()
    sums = encumbrance(book.accounts, book.market)
    btc, stb, usd = number(book, "BTC"), number(book, "STB"), number(book, "USD")
    assert [float(getattr(sums, name)[btc]) for name in sums._fields] == pytest.approx([600_000, 500_000, 400_000, 600_000, 0])
    assert [float(getattr(sums, name)[stb]) for name in sums._fields] == pytest.approx([30_000, 30_000, 6_000, 30_000, 6_000])
    assert [float(getattr(sums, name)[usd]) for name in sums._fields] == pytest.approx([0, 0, 0, 30_000, 406_000])
    watch = LeverageWatch()
    while watch.last is None:
        watch.go_on(book.accounts, book.market)
    reports = {one.asset: one for one in leverage_reports(watch.last, book.market, 5)}
    assert reports["BTC"].encumbrance_multiple == pytest.approx(1.0)
    assert reports["BTC"].pledged_share == pytest.approx(5 / 6)
    assert reports["BTC"].looped_share == pytest.approx(2 / 3)
    assert reports["STB"].encumbrance_multiple == pytest.approx(30 / 24)
    assert reports["SOL"].pledged_share is None
    assert reports["BTC"].cascade[5].fall == 0.15
    assert reports["BTC"].cascade[5].volume_usd == pytest.approx(425_000 * 38_750 / 63_750)
    assert reports["BTC"].depth_usd == 1e7


def test_a_look_is_begun_once_a_minute_of_the_clock_and_told_once() -> None:
    book, log = a_book()
    leveraged(log, "alice", 5)
    book.take_cut()
    watch = book.leverage
    looked: list[LeverageReport] = []
    began = []
    for _ in range(40):
        log.tick(5.0)
        log.prices(PRICES)
        watch.go_on(book.accounts, book.market)
        looked += watch.take_fresh(book.market, 0)
        if watch.last is not None and watch.last.began_ns not in began:
            began.append(watch.last.began_ns)
    assert np.diff(began).min() >= LOOK_EVERY_NS
    assert 3 <= len(began) <= 4
    assert len(looked) == len(began) * 4, "BTC, ETH, SOL, STB"


def test_before_anything_can_be_valued_nothing_is_looked_at() -> None:
    book = Book(0, 1)
    book.leverage.go_on(book.accounts, book.market)
    assert book.leverage.last is None


def test_looking_changes_nothing_that_decides() -> None:
    one, other = RandomLedger(11), RandomLedger(11)
    for k in range(30):
        for ledger in (one, other):
            ledger.steps(4)
        one.book.leverage.go_on(one.book.accounts, one.book.market, work=300)
        if k % 10 == 0:
            for group in range(one.book.market.universe.group_count):
                cascade(one.book.accounts, one.book.market, group, feedback=True)
    assert one.book.take_cut() == other.book.take_cut()
