"""Leverage that hides, of one account, each number by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.claims import present_marks, prices_at
from engine.inspection import explain_account
from engine.leverage import LOOPS_SHOWN_MAX, AccountLeverage, Reference, account_leverage, reference_of, seed_loop, turns_of_loop
from engine.margin import UNHAIRCUT
from engine.market import Market
from engine.monitor import Book
from tests.small_market import Account, new_market
from tests.small_world import PRICES as WORLD_PRICES
from tests.small_world import Log

ETH_USD = 4_800.0  # a lot of 0.01 is 48 USD, and 368,928 USD are 7,686 of them
CENTS = 100  # lots of dollars in one dollar

Positions = list[tuple[str, str, int, int]]  # venue, instrument, lots, cash


def market_at(**prices: float) -> Market:
    return new_market(prices={"ETH": ETH_USD, "WBETH": ETH_USD * 1.08, **prices})


def leverage_of(market: Market, positions: Positions, lent: float = 0.8, reference: Reference | None = None) -> AccountLeverage:
    account = Account(market, positions)
    held = slice(0, account.count)
    found = account_leverage(market, account.instrument[held], account.quantity[held], account.cash[held], lent=lent, reference=reference)
    code, out = account.value()
    assert code == 0
    assert found.equity_usd == pytest.approx(out[UNHAIRCUT], abs=1e-6)
    return found


def ways(found: AccountLeverage) -> list[tuple[str, str, str, str, int, str]]:
    return [(way.venue, way.owed, way.collateral_venue, way.collateral, round(way.usd), way.way) for way in found.loops]


# ---- the seed example -------------------------------------------------------------------------------------------------------------------


def test_five_turns_at_80_percent() -> None:
    loop = seed_loop(100_000.0, 0.8, 5)
    assert loop.position_usd == pytest.approx(368_928.0)
    assert loop.debt_usd == pytest.approx(268_928.0)
    assert loop.leverage == pytest.approx(3.68928)
    assert loop.taken_usd(0.25) == pytest.approx(92_232.0)
    assert loop.fall_taking_all == pytest.approx(0.271, abs=5e-4)
    assert loop.taken_usd(loop.fall_taking_all) == pytest.approx(loop.capital_usd)
    assert seed_loop(100_000.0, 0.8, 0).position_usd == 100_000.0


@pytest.mark.parametrize(("turns", "lent"), [(1, 0.8), (5, 0.8), (12, 0.9), (3, 0.5)])
def test_turns_are_found_again(turns: int, lent: float) -> None:
    loop = seed_loop(50_000.0, lent, turns)
    assert turns_of_loop(loop.position_usd, loop.capital_usd, lent) == pytest.approx(turns, abs=1e-6)


@pytest.mark.parametrize(
    ("position", "capital", "lent"), [(500.0, 100.0, 0.8), (600.0, 100.0, 0.8), (1.0, 0.0, 0.8), (2.0, 1.0, 1.0), (2.0, 1.0, 0.0)]
)
def test_turns_that_cannot_be_are_none(position: float, capital: float, lent: float) -> None:
    assert turns_of_loop(position, capital, lent) is None


def test_the_seed_example_as_positions() -> None:
    found = leverage_of(market_at(), [("vault-one", "ETH", 7_686, 0), ("venue-one", "USD-loan", -268_928 * CENTS, 0)])
    assert found.equity_usd == pytest.approx(100_000.0)
    assert found.gross_usd == found.collateral_usd == pytest.approx(368_928.0)
    assert found.leverage == pytest.approx(3.68928)
    assert found.owed_usd == found.looped_usd == pytest.approx(268_928.0)
    assert found.turns == pytest.approx(5.0, abs=1e-6)
    assert found.fall_taking_all == pytest.approx(0.271, abs=5e-4)
    assert found.loan_to_value == pytest.approx(268_928 / 368_928)
    assert found.own_loan_to_value == pytest.approx(2.68928)
    assert ways(found) == [("venue-one", "USD", "vault-one", "ETH", 268_928, "loop")]
    fallen = leverage_of(market_at(ETH=ETH_USD * 0.75), [("vault-one", "ETH", 7_686, 0), ("venue-one", "USD-loan", -268_928 * CENTS, 0)])
    assert found.equity_usd - fallen.equity_usd == pytest.approx(92_232.0)


def test_the_seed_example_as_the_report_of_an_account() -> None:
    book = Book(0, 1)
    log = Log(book)
    flat = {"max_age_s": 60.0, "base_haircut": 0.2, "size_coefficient": 0.0}
    log.open({"classes": {"major": flat, "alt": {"max_age_s": 60.0}, "stable": {"max_age_s": 60.0}}})
    log.tick(1.0)
    log.prices({**WORLD_PRICES, "BTC": 96_000.0})
    log.credit("alice", "south", "BTC", 3_843)  # lots of 96 USD
    log.fills(log.fill("alice", "lend", "STB-DEBT", -26_892_800, kind="transfer"))
    book.take_cut()
    report = explain_account(book, "alice")
    assert report is not None
    found = report.leverage
    assert found is not None
    assert found.equity_usd == pytest.approx(100_000.0)
    assert found.leverage == pytest.approx(3.68928)
    assert found.looped_usd == pytest.approx(268_928.0)
    assert found.turns == pytest.approx(5.0, abs=1e-6)
    assert found.fall_taking_all == pytest.approx(0.271, abs=5e-4)


# ---- exposure ---------------------------------------------------------------------------------------------------------------------------


def test_dollars_are_no_exposure_and_derivatives_are() -> None:
    market = market_at()
    cash = ("vault-one", "USD", 0, 100_000 * 1_000_000)
    found = leverage_of(market, [cash])
    assert (found.leverage, found.loops, found.fall_taking_all, found.loan_to_value) == (0.0, [], None, None)
    # 3 bitcoin at 100,000, bought at 100,000: what was paid for them is no debt.
    found = leverage_of(market, [cash, ("venue-one", "BTC-perp", 300, -300_000 * 1_000_000)])
    assert found.leverage == pytest.approx(3.0)
    assert (found.owed_usd, found.looped_usd) == (0.0, 0.0)
    assert found.fall_taking_all == pytest.approx(1 / 3)
    # Bought at 90,000: the profit of 30,000 is equity.
    found = leverage_of(market, [cash, ("venue-one", "BTC-perp", 300, -270_000 * 1_000_000)])
    assert found.leverage == pytest.approx(300 / 130)


def test_a_hedge_is_gross_twice_and_net_nothing() -> None:
    found = leverage_of(market_at(), [("vault-one", "BTC", 100, 0), ("venue-two", "BTC-perp", -100, 100_000 * 1_000_000)])
    assert found.leverage == pytest.approx(2.0)
    assert found.net_usd == pytest.approx(0.0)
    assert found.fall_taking_all is None


def test_an_inverse_perpetual_counts_its_dollars() -> None:
    # 10,000 lots of 10 USD, long since 100,000: one bitcoin in, against a bitcoin of collateral.
    found = leverage_of(market_at(), [("vault-one", "BTC", 100, 0), ("venue-one", "BTC-coin", 10_000, 10**9)])
    assert found.gross_usd == pytest.approx(200_000.0)
    assert found.leverage == pytest.approx(2.0)
    assert found.owed_usd == pytest.approx(0.0)


def test_an_option_counts_by_its_delta() -> None:
    market = market_at()
    found = leverage_of(market, [("vault-one", "USD", 0, 10**11), ("venue-one", "BTC-35-100000-C", 100, 0)])
    assert 0.5 * 100_000 < found.gross_usd < 0.6 * 100_000
    assert found.owed_usd == 0.0


def test_a_short_sale_is_exposure_and_no_loop() -> None:
    # 100,000 of one's own, and 2 bitcoin borrowed and sold for 200,000 more.
    found = leverage_of(market_at(), [("vault-one", "USD", 0, 3 * 10**11), ("venue-one", "BTC-loan", -200, 0)])
    assert found.leverage == pytest.approx(2.0)
    assert (found.looped_usd, found.loops) == (0.0, [])
    assert found.net_usd == pytest.approx(200_000.0)


def test_what_lies_idle_is_no_loop() -> None:
    found = leverage_of(
        market_at(),
        [("vault-one", "ETH", 2_000, 0), ("vault-one", "USD", 0, 60_000 * 10**6), ("venue-one", "USD-loan", -60_000 * CENTS, 0)],
    )
    assert found.owed_usd == pytest.approx(60_000.0)
    assert found.looped_usd == 0.0
    assert found.own_loan_to_value == found.loan_to_value == pytest.approx(60 / 96)


def test_coins_bought_on_margin_are_a_loop_at_their_venue() -> None:
    # 20,000 paid in; a bitcoin bought for 100,000 at the same place: 80,000 are owed there.
    found = leverage_of(market_at(), [("vault-one", "USD", 0, 20_000 * 10**6), ("vault-one", "BTC", 100, -100_000 * 10**6)])
    assert found.leverage == pytest.approx(5.0)
    assert ways(found) == [("vault-one", "USD", "vault-one", "BTC", 80_000, "loop")]
    assert found.turns is None, "at 80% no number of turns comes to five times"


# ---- receipts and loops ------------------------------------------------------------------------------------------------------------------


def test_a_staked_coin_is_what_it_claims() -> None:
    # 100 wrapped coins claim 108, at 4,800 each, whatever they trade at.
    found = leverage_of(market_at(WBETH=4_900.0), [("vault-one", "WBETH", 10_000, 0)])
    assert found.collateral_usd == pytest.approx(108 * ETH_USD)
    assert found.equity_usd == pytest.approx(100 * 4_900.0)
    assert found.leverage == pytest.approx(108 * ETH_USD / 490_000)


def test_a_loop_of_staked_coins_hides_from_net_exposure() -> None:
    # 108 ether claimed by 100 wrapped ones, 81 of them borrowed.
    found = leverage_of(market_at(), [("vault-one", "WBETH", 10_000, 0), ("venue-one", "ETH-loan", -8_100, 0)])
    assert found.leverage == pytest.approx(4.0)
    assert found.net_leverage == pytest.approx(1.0)
    assert ways(found) == [("venue-one", "ETH", "vault-one", "WBETH", 81 * 4_800, "loop")]
    assert found.fall_taking_all == pytest.approx(0.25)


def test_a_coin_whose_receipt_is_pledged_elsewhere_is_one_coin() -> None:
    # 108 ether lie at one venue, which issued 100 receipts for them; those are pledged at another.
    passed_on: Positions = [("vault-one", "ETH", 10_800, 0), ("vault-one", "WBETH", -10_000, 0), ("vault-two", "WBETH", 10_000, 0)]
    found = leverage_of(market_at(), passed_on)
    assert found.passed_on_usd == pytest.approx(108 * ETH_USD)
    assert found.gross_usd == found.collateral_usd == pytest.approx(108 * ETH_USD)
    assert found.leverage == pytest.approx(1.0)
    assert (found.owed_usd, found.loops) == (0.0, [])
    # Owed where nothing of it is held, it is a debt.
    found = leverage_of(market_at(), [("vault-one", "ETH", 10_800, 0), ("vault-two", "WBETH", -1_000, 0)])
    assert found.passed_on_usd == 0.0
    assert found.owed_usd == pytest.approx(10.8 * ETH_USD)


def test_altcoins_on_one_venue_feed_a_stablecoin_loop_on_another() -> None:
    # 100,000 of DOGE at one, 60,000 borrowed there; at two 240,000 of USDE, of which 180,000 were borrowed there.
    found = leverage_of(
        market_at(),
        [
            ("vault-one", "DOGE", 50_000_000, 0),
            ("vault-one", "USD", 0, -60_000 * 10**6),
            ("vault-two", "USDE", 240_000 * CENTS, -180_000 * 10**6),
        ],
    )
    assert found.equity_usd == pytest.approx(100_000.0)
    assert found.leverage == pytest.approx(3.4)
    assert found.looped_usd == pytest.approx(240_000.0)
    assert found.turns is None
    assert ways(found) == [
        ("vault-two", "USD", "vault-two", "USDE", 180_000, "loop"),
        ("vault-one", "USD", "vault-two", "USDE", 60_000, "chain"),
    ]


def test_money_that_comes_back_over_another_venue_is_a_loop() -> None:
    # Pledged at each of two, borrowed at each: what is borrowed at one is pledged at the other, both ways round.
    found = leverage_of(
        market_at(),
        [
            ("vault-one", "USDE", 96_000 * CENTS, 0),
            ("vault-one", "ETH", -1_000, 0),
            ("vault-two", "ETH", 2_000, 0),
            ("vault-two", "USD", 0, -48_000 * 10**6),
        ],
    )
    assert ways(found) == [
        ("vault-one", "ETH", "vault-two", "ETH", 48_000, "loop"),
        ("vault-two", "USD", "vault-one", "USDE", 48_000, "loop"),
    ]


def test_same_venue_first_then_in_proportion() -> None:
    # 30,000 of debt at one, where 10,000 of collateral lie; the rest goes to 60,000 and 20,000 at two others, three to one.
    found = leverage_of(
        market_at(),
        [
            ("vault-one", "USD", 0, -30_000 * 10**6),
            ("vault-one", "USDE", 10_000 * CENTS, 0),
            ("vault-two", "USDE", 60_000 * CENTS, 0),
            ("vault-twin-a", "USDE", 20_000 * CENTS, 0),
        ],
    )
    assert ways(found) == [
        ("vault-one", "USD", "vault-two", "USDE", 15_000, "chain"),
        ("vault-one", "USD", "vault-one", "USDE", 10_000, "loop"),
        ("vault-one", "USD", "vault-twin-a", "USDE", 5_000, "chain"),
    ]


def test_the_list_of_loops_is_bounded() -> None:
    venues = ("one", "two", "twin-a", "twin-b")
    positions: Positions = [(f"vault-{venue}", asset, 10_000, 0) for venue in venues for asset in ("BTC", "ETH")]
    positions += [(f"venue-{venue}", f"{asset}-loan", -100, 0) for venue in venues for asset in ("DOGE", "GOV")]
    found = leverage_of(market_at(), positions)
    assert len(found.loops) == LOOPS_SHOWN_MAX
    assert sum(way.usd for way in found.loops) < found.looped_usd == pytest.approx(found.owed_usd)


# ---- leverage that rises by itself -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fall", "leverage"), [(0.25, 3.0), (1 / 3, 4.0)])
def test_two_becomes_three_and_four_by_falling_collateral(fall: float, leverage: float) -> None:
    positions: Positions = [("vault-one", "ETH", 4_000, 0), ("venue-one", "USD-loan", -96_000 * CENTS, 0)]
    before = market_at()
    assert leverage_of(before, positions).leverage == pytest.approx(2.0)
    found = leverage_of(market_at(ETH=ETH_USD * (1.0 - fall)), positions, reference=Reference(present_marks(before), 0.5))
    assert found.leverage == pytest.approx(leverage)
    assert found.passive is not None
    assert found.passive.leverage_then == pytest.approx(2.0)
    assert found.passive.factor == pytest.approx(leverage / 2)
    assert found.passive.per_hour == pytest.approx((leverage - 2.0) / 0.5)
    assert found.passive.hours == 0.5


def test_reference_marks_are_the_oldest_within_the_window() -> None:
    book = Book(0, 1)
    log = Log(book)
    log.open({"move_window_s": 300.0})
    assert reference_of(book.market) is None, "no time has gone by"
    log.tick(60.0)
    log.prices({**WORLD_PRICES, "BTC": 90_000.0})
    found = reference_of(book.market)
    assert found is not None
    btc = book.market.universe.asset_number("BTC")
    assert btc is not None
    assert found.marks[btc] == 100_000.0
    assert found.hours == pytest.approx(60 / 3_600)
    log.tick(20.0)
    log.tick(295.0)
    log.prices({**WORLD_PRICES, "BTC": 80_000.0})
    found = reference_of(book.market)
    assert found is not None
    assert found.marks[btc] == 90_000.0, "the first ones are older than the window"


def test_an_account_that_cannot_be_valued_has_none() -> None:
    book = Book(0, 1)
    log = Log(book)
    log.open()
    log.trade("alice", "ex", "BTC", 100, 100_000)
    log.tick(120.0)  # prices are stale
    book.take_cut()
    report = explain_account(book, "alice")
    assert report is not None
    assert (report.state, report.leverage) == ("UNKNOWN", None)


# ---- what a unit claims -----------------------------------------------------------------------------------------------------------------


def test_a_unit_claims_the_furthest_asset_that_has_a_mark() -> None:
    market = market_at(WBETH=5_000.0)
    eth, wbeth, usde = (market.universe.asset_number(name) for name in ("ETH", "WBETH", "USDE"))
    assert eth is not None
    assert wbeth is not None
    assert usde is not None
    marks = present_marks(market)
    prices = prices_at(market, marks)
    assert (prices.worth[wbeth], prices.root[wbeth], prices.worth[usde], prices.root[usde]) == (pytest.approx(5_184.0), eth, 1.0, 0)
    marks[eth] = math.nan
    assert prices_at(market, marks).worth[wbeth] == 5_000.0
    assert np.isnan(prices_at(market, marks).worth[eth])
