"""What comes on top of one scenario, by hand: regimes, add-ons, open orders, limits (docs/model.md, section 5)."""

import math
from typing import Any

import numpy as np
import pytest

from engine.margin import EQUITY, EQUITY_INITIAL, LIMIT, MAINTENANCE, OVER_ACCOUNT, OVER_ASSET, OVER_VENUE, UNHAIRCUT
from engine.market import Market
from engine.pricing import black76_delta, black76_vega
from engine.reasons import Unknown
from engine.tables import EXPOSURE, MAINTENANCE_LEVEL, OPTION_DELTA
from tests.small_market import DAY, Account, new_market, number_of

BTC, ETH = 100_000.0, 4_000.0
SCAN = 3.0 * 0.8 * math.sqrt(1 / 365)  # of a major asset
CALL, PUT = "BTC-35-100000-C", "BTC-35-100000-P"
T_YEARS = 35 / 365
SIGMA = 0.55  # quoted for that expiry


def market_with(**parameters: Any) -> Market:
    return new_market(parameters)


@pytest.fixture(scope="module")
def plain() -> Market:
    return new_market()


def maintenance(account: Account) -> float:
    status, out = account.value()
    assert status == 0
    return float(out[MAINTENANCE])


# ---- regimes -------------------------------------------------------------------------------------------------------------------------


def hedge_across(market: Market) -> Account:
    """1 BTC long against as many dollars of ETH short."""
    return Account(market, [("venue-one", "BTC-perp", 100, 0), ("venue-one", "ETH-perp", -2_500, 0)])


def test_a_hedge_across_groups_loses_credit_in_the_low_regime() -> None:
    """At correlation 0.6 the hedge takes 60 % of the loss away; with a low regime of a quarter less, 45 %."""
    observed = maintenance(hedge_across(market_with(extreme_fraction=0.0)))
    assert observed == pytest.approx(BTC * SCAN * (1 - 0.6), rel=1e-12)
    low = maintenance(hedge_across(market_with(correlation_low=0.25, extreme_fraction=0.0)))
    assert low == pytest.approx(BTC * SCAN * (1 - 0.6 * 0.75), rel=1e-12)
    assert maintenance(hedge_across(market_with(correlation_low=1.0, extreme_fraction=0.0))) == pytest.approx(BTC * SCAN, rel=1e-12)
    assert (
        maintenance(hedge_across(market_with(correlation_high=1.0, extreme_fraction=0.0))) == observed
    )  # moves together: better for a hedge


def test_what_adds_up_is_worst_in_the_high_regime() -> None:
    def both_long(market: Market) -> Account:
        return Account(market, [("venue-one", "BTC-perp", 100, 0), ("venue-one", "ETH-perp", 2_500, 0)])

    assert maintenance(both_long(market_with())) == pytest.approx(BTC * SCAN * 1.6, rel=1e-12)
    assert maintenance(both_long(market_with(correlation_high=0.5))) == pytest.approx(BTC * SCAN * 1.8, rel=1e-12)
    assert maintenance(both_long(market_with(correlation_low=1.0))) == pytest.approx(BTC * SCAN * 1.6, rel=1e-12)


# ---- add-ons -------------------------------------------------------------------------------------------------------------------------


def test_spot_against_a_perpetual_risks_its_basis_alone() -> None:
    market = market_with(basis_bps=(25.0, 30.0, 50.0, 75.0, 150.0, 250.0))
    account = Account(market, [("vault-one", "BTC", 100, 0), ("venue-one", "BTC-perp", -100, 0)])
    pieces = account.pieces()
    assert pieces["scenarios"] == 0.0
    assert pieces["basis"] == pytest.approx(BTC * 0.0025, rel=1e-12)
    assert maintenance(account) == pytest.approx(BTC * 0.0025, rel=1e-12)
    two_venues = Account(market, [("venue-one", "BTC-perp", 100, 0), ("venue-two", "BTC-perp", -100, 0)])
    assert two_venues.pieces()["basis"] == 0.0
    assert two_venues.by_mode()[0] == pytest.approx(2 * BTC * (SCAN + 0.0025), rel=1e-12)


def test_an_inverse_perpetual_has_the_basis_of_its_dollars() -> None:
    market = market_with(basis_bps=(25.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    account = Account(market, [("venue-one", "BTC-coin", 5_000, 0)])  # 50,000 USD
    assert account.pieces()["basis"] == pytest.approx(50_000.0 * 0.0025, rel=1e-12)
    against = Account(market, [("venue-one", "BTC-coin", 5_000, 0), ("venue-one", "BTC-perp", -50, 0)])
    assert against.pieces()["basis"] == pytest.approx(0.0, abs=1e-9)


def test_basis_is_net_within_a_band_and_adds_up_across_bands() -> None:
    market = market_with(basis_bps=(25.0, 30.0, 50.0, 75.0, 150.0, 250.0))
    delta = black76_delta(BTC, BTC, SIGMA, T_YEARS, True, 1.0)
    account = Account(market, [("venue-one", CALL, 100, 0), ("venue-one", "BTC-perp", -50, 0)])
    assert account.pieces()["basis"] == pytest.approx(BTC * (delta * 0.0075 + 0.5 * 0.0025), rel=1e-9)
    same_band = Account(market, [("venue-one", CALL, 100, 0), ("venue-two", CALL, -100, 0)])
    assert same_band.pieces()["basis"] == pytest.approx(0.0, abs=1e-9)


def test_vega_is_net_within_a_band_and_adds_up_across_bands() -> None:
    market = market_with(vega_shock=0.02, vol_shock_power=0.5)
    vega = black76_vega(BTC, BTC, SIGMA, T_YEARS, 1.0) * 0.02 * math.sqrt(30 / 35)
    short_vega = black76_vega(BTC, BTC, 0.5, 7 / 365, 1.0) * 0.02 * math.sqrt(30 / 7)
    assert Account(market, [("venue-one", CALL, 100, 0)]).pieces()["vega"] == pytest.approx(vega, rel=1e-9)
    parity = Account(market, [("venue-one", CALL, 100, 0), ("venue-one", PUT, -100, 0)])
    assert parity.pieces()["vega"] == pytest.approx(0.0, abs=1e-6)
    calendar = Account(market, [("venue-one", CALL, 100, 0), ("venue-one", "BTC-7-100000-C", -100, 0)])
    assert calendar.pieces()["vega"] == pytest.approx(vega + short_vega, rel=1e-9)


def test_a_short_option_far_out_of_the_money_has_a_minimum() -> None:
    market = market_with(short_option_minimum=0.02, vol_shock=0.0, extreme_fraction=0.0)
    strangle = [("venue-one", "BTC-7-120000-C", -100, 0), ("venue-one", "BTC-7-80000-P", -100, 0)]
    pieces = Account(market, strangle).pieces()
    assert pieces["short_option_minimum"] == pytest.approx(2 * 0.02 * BTC, rel=1e-12)
    assert maintenance(Account(market, strangle)) == max(pieces["scenarios"], pieces["short_option_minimum"])
    assert Account(market, [("venue-one", "BTC-7-120000-C", 100, 0)]).pieces()["short_option_minimum"] == 0.0


def straddle(market: Market, sign: int) -> Account:
    """A delta-neutral straddle, long (1) or short (-1); the perpetual takes what delta is left."""
    delta = black76_delta(BTC, BTC, SIGMA, T_YEARS, True, 1.0) + black76_delta(BTC, BTC, SIGMA, T_YEARS, False, 1.0)
    hedge = round(-sign * 1_000 * delta)
    lots = sign * 1_000
    return Account(market, [("venue-one", CALL, lots, 0), ("venue-one", PUT, lots, 0), ("venue-one", "BTC-perp", hedge, 0)])


def test_a_gap_is_owed_by_who_is_short_of_gamma() -> None:
    market = market_with(gap_fraction=0.5)
    short, long = straddle(market, -1), straddle(market, 1)
    assert long.pieces()["gap"] == 0.0
    row = number_of(market, "venue-one", CALL), number_of(market, "venue-one", PUT)
    up = 2 * (2 * 6 + 1)
    worst = 0.0
    for column, move in ((up, 2 * SCAN), (up + 1, -2 * SCAN)):
        bent = sum(
            market.tables.option_scan[MAINTENANCE_LEVEL, i, column] - market.tables.instrument_float[i, OPTION_DELTA] * move for i in row
        )
        worst = max(worst, 1_000 * bent)
    assert worst > 0.0
    assert short.pieces()["gap"] == pytest.approx(0.5 * worst, rel=1e-9)
    assert maintenance(short) > maintenance(long)
    linear = Account(market, [("venue-one", "BTC-perp", 1_000, 0), ("vault-one", "BTC", 100, 0)])
    assert linear.pieces()["gap"] == 0.0


def test_the_gap_grows_with_the_time_that_closing_takes() -> None:
    """A delta-neutral straddle has next to nothing open, and is closed no sooner for that."""
    market, shallow = market_with(gap_fraction=0.5, concentration_k=1.0), market_with(gap_fraction=0.5)
    pieces = straddle(market, -1).pieces()
    lot = sum(abs(market.tables.instrument_float[number_of(market, "venue-one", name), EXPOSURE]) for name in (CALL, PUT))
    hedge = int(straddle(market, -1).quantity[2])
    longer = math.sqrt((1_000 * lot + abs(hedge) * 1_000.0) / 100_000.0) - 1.0
    assert longer > 2.0
    assert pieces["concentration"] == pytest.approx(pieces["gap"] * longer, rel=0.01)
    assert straddle(shallow, -1).pieces()["concentration"] == 0.0
    assert straddle(market, 1).pieces()["concentration"] < 0.01 * pieces["concentration"]
    huge = Account(market_with(gap_fraction=1.0, concentration_k=10.0), [("venue-one", CALL, -(10**9), 0), ("venue-one", PUT, -(10**9), 0)])
    assert huge.pieces()["concentration"] <= 3 * 10**9 * 1_000.0  # never more than all of it


def test_what_is_larger_than_the_depth_takes_longer_to_close() -> None:
    """1,000,000 USD against a depth of 100,000: ten times as long, sqrt(10) times as far."""
    market = market_with(concentration_k=1.0)
    account = Account(market, [("venue-one", "BTC-perp", 1_000, 0)])
    expected = 1e6 * SCAN * (math.sqrt(10.0) - 1.0)
    assert account.pieces()["concentration"] == pytest.approx(expected, rel=1e-12)
    assert maintenance(account) == pytest.approx(1e6 * SCAN + expected, rel=1e-12)
    small = Account(market, [("venue-one", "BTC-perp", 100, 0)])
    assert small.pieces()["concentration"] == 0.0
    split = Account(market, [("venue-one", "BTC-perp", 500, 0), ("venue-two", "BTC-perp", 500, 0)])
    assert split.pieces()["concentration"] == pytest.approx(expected, rel=1e-12)
    isolated, protocol, portfolio = split.by_mode()
    assert isolated == pytest.approx(protocol) == pytest.approx(portfolio)
    hedged = Account(market, [("venue-one", "BTC-perp", 500, 0), ("venue-two", "BTC-perp", -500, 0)])
    assert hedged.pieces()["concentration"] == 0.0  # its legs move together while they are closed
    half_open = Account(market, [("vault-one", "BTC", 500, 0), ("venue-two", "BTC-perp", -1_000, 0)])
    assert half_open.pieces()["concentration"] == pytest.approx(expected / 2, rel=1e-12)
    huge = Account(market, [("venue-one", "BTC-perp", 10**9, 0)])
    assert huge.pieces()["concentration"] == pytest.approx(1e12, rel=1e-12)  # never more than all of it
    assert Account(market, [("vault-one", "BTC", 1_000, 0)]).pieces()["concentration"] == 0.0  # the haircut's size term has it


# ---- pending -------------------------------------------------------------------------------------------------------------------------


def test_open_orders_count_at_the_worst_of_filled_and_unfilled(plain: Market) -> None:
    account = Account(plain, [("venue-one", "BTC-perp", 100, 0)])
    alone = maintenance(account)
    account.expect(0, buy=50)
    assert maintenance(account) == pytest.approx(1.5 * alone, rel=1e-12)
    account.expect(0, sell=50)
    assert maintenance(account) == pytest.approx(alone, rel=1e-12)
    account.expect(0, sell=300)  # filled it would be 200 short
    assert maintenance(account) == pytest.approx(2 * alone, rel=1e-12)
    account.expect(0, buy=50, sell=300)
    assert maintenance(account) == pytest.approx(2 * alone, rel=1e-12)


def test_an_order_where_nothing_is_held_is_a_position_that_may_come(plain: Market) -> None:
    account = Account(plain, [("venue-one", "ETH-perp", 0, 0), ("venue-one", "BTC-perp", 100, 0)])
    alone = maintenance(account)
    account.expect(0, buy=2_500)
    assert maintenance(account) == pytest.approx(1.6 * alone, rel=1e-12)
    of_an_option = Account(plain, [("venue-one", CALL, 0, 0)])
    of_an_option.expect(0, sell=100)
    assert maintenance(of_an_option) == pytest.approx(maintenance(Account(plain, [("venue-one", CALL, -100, 0)])), rel=1e-12)
    of_a_coin = Account(plain, [("venue-one", "BTC-coin", 0, 0)])
    of_a_coin.expect(0, buy=10_000)
    assert maintenance(of_a_coin) == pytest.approx(100_000.0 * SCAN, rel=1e-12)


@pytest.mark.parametrize("name", ["BTC-perp", CALL, PUT, "BTC-7-120000-C"])
def test_what_an_order_may_become_has_its_add_ons_at_once(name: str) -> None:
    market = new_market(
        {"basis_bps": (25.0,) * 6, "vega_shock": 0.03, "gap_fraction": 0.15, "short_option_minimum": 0.4, "concentration_k": 1.0}
    )

    def held(lots: int) -> dict[str, float]:
        return Account(market, [("venue-one", name, lots, 0)]).pieces()

    def ordered(lots: int, buy: int, sell: int) -> dict[str, float]:
        account = Account(market, [("venue-one", name, lots, 0)])
        account.expect(0, buy=buy, sell=sell)
        return account.pieces()

    for lots, buy, sell in ((0, 3_000, 0), (0, 0, 3_000), (1_000, 500, 4_000), (-1_000, 4_000, 500), (-1_000, 500, 500)):
        low, high = held(lots - sell), held(lots + buy)
        worst = ordered(lots, buy, sell)
        for piece in ("short_option_minimum", "basis", "vega", "gap"):
            assert worst[piece] == pytest.approx(max(low[piece], high[piece]), rel=1e-9, abs=1e-6), piece
        # Of size, what is open and curvature each is taken at its own worst end.
        both = low["concentration"] + high["concentration"]
        assert max(low["concentration"], high["concentration"]) * (1 - 1e-9) <= worst["concentration"] <= both * (1 + 1e-9)


def test_what_was_said_of_orders_counts_only_while_something_is_pending() -> None:
    market = new_market({"short_option_minimum": 0.4})
    account = Account(market, [("venue-one", CALL, -100, 0), ("venue-one", PUT, 0, 0)])
    alone = account.pieces()
    account.pending[:] = 500, 500, 0
    assert account.pieces() == alone
    account.has_pending = True
    assert account.pieces()["short_option_minimum"] == pytest.approx(0.4 * BTC * (6.0 + 5.0))


def test_an_order_in_what_cannot_be_valued_makes_the_account_unknown() -> None:
    market = new_market(implied=False)
    account = Account(market, [("venue-one", CALL, 0, 0), ("venue-one", "BTC-perp", 1, 0)])
    assert account.value()[0] == 0
    account.expect(1, buy=1)  # in what can be valued
    assert account.value()[0] == 0
    account.expect(0, buy=1)
    assert account.value()[0] == Unknown.NO_VOLATILITY


def test_what_is_leaving_counts_nothing(plain: Market) -> None:
    whole = Account(plain, [("vault-one", "BTC", 100, 0)])
    whole.expect(0, leaving=40)
    left = Account(plain, [("vault-one", "BTC", 60, 0)])
    np.testing.assert_array_equal(whole.value()[1], left.value()[1])
    whole.expect(0, leaving=500)
    assert whole.value()[1][UNHAIRCUT] == 0.0
    debt = Account(plain, [("venue-one", "BTC-loan", -100, 0)])
    before = debt.value()[1].tolist()
    debt.expect(0, leaving=40)
    assert debt.value()[1].tolist() == before


# ---- limits --------------------------------------------------------------------------------------------------------------------------


def test_position_limits_are_multiples_of_the_collateral() -> None:
    market, usd = market_with(limit_account=3.0, limit_asset=2.0, limit_venue=2.5), 10**6

    def passed(*positions: tuple[str, str, int, int]) -> int:
        """Bought and sold at the mark; `cash` comes on top."""
        lot_usd = {"BTC-perp": 1_000, "ETH-perp": 40}
        paid = [(venue, name, lots, cash - lots * lot_usd.get(name, 0) * usd) for venue, name, lots, cash in positions]
        status, out = Account(market, [("vault-one", "BTC", 100, 0), *paid]).value()
        assert status == 0
        return int(out[LIMIT])

    assert passed(("venue-one", "BTC-perp", 200, 0)) == 0
    assert passed(("venue-one", "BTC-perp", 201, 0)) == OVER_ASSET
    assert passed(("venue-one", "BTC-perp", -201, 0)) == OVER_ASSET
    assert passed(("venue-one", "BTC-perp", 200, 0), ("venue-one", "ETH-perp", 1_251, 0)) == OVER_VENUE
    assert passed(("venue-one", "BTC-perp", 200, 0), ("venue-one", "ETH-perp", 1_250, 0), ("venue-two", "ETH-perp", 1, 0)) == 0
    assert passed(("venue-one", "BTC-perp", 200, 0), ("venue-two", "ETH-perp", 2_500, 0)) == 0
    apart = ("venue-one", "BTC-perp", 200, 0), ("venue-two", "ETH-perp", 2_500, 0)
    assert passed(*apart, ("venue-one", "BTC-loan", -10_000, 0)) == 0  # nor is it the venue's
    assert passed(("venue-one", "BTC-perp", 200, 0), ("venue-two", "ETH-perp", -2_501, 0)) == OVER_ACCOUNT
    assert passed(("venue-one", "BTC-perp", 400, 0)) == OVER_ACCOUNT + OVER_ASSET + OVER_VENUE
    assert passed(("venue-one", "BTC-loan", -10_000, 0)) == 0  # a debt is no derivative
    gained = ("venue-one", "BTC-perp", -400, 100_000 * usd), ("venue-one", "BTC-perp", 400, 100_000 * usd)
    assert [passed(one) for one in gained] == [0, 0]
    lost = ("venue-one", "BTC-perp", -400, -100_000 * usd)
    assert passed(lost) == OVER_ACCOUNT + OVER_ASSET + OVER_VENUE
    assert passed(lost, ("venue-two", "USD-loan", 0, 100_000 * usd)) == 0  # a balance; and a loss takes no collateral
    assert passed(lost, ("venue-two", "ETH-perp", 0, 100_000 * usd)) == 0  # nor what was gained of what is closed
    assert passed(("venue-one", "BTC-perp", 300, 0), ("venue-two", "ETH-perp", 0, 49_999_500_000)) == OVER_ASSET  # by a dollar
    assert passed(("venue-one", "BTC-perp", 300, 0), ("venue-two", "ETH-perp", 0, 50_000 * usd)) == 0
    assert passed(("venue-one", "BTC-perp", 300, 0), ("venue-two", "ETH-perp", 0, 19_999_900_000)) == OVER_ASSET + OVER_VENUE
    assert passed(("venue-one", "BTC-perp", -400, 0)) == OVER_ACCOUNT + OVER_ASSET + OVER_VENUE  # what it was sold for is no collateral
    assert passed(("venue-one", "BTC-coin", 40_000, 4 * 10**9)) == OVER_ACCOUNT + OVER_ASSET + OVER_VENUE
    alone = Account(market, [("venue-one", "BTC-perp", 1, -1_000 * usd)])
    assert alone.value()[1][LIMIT] == OVER_ACCOUNT + OVER_ASSET + OVER_VENUE


# ---- the initial level ---------------------------------------------------------------------------------------------------------------


def test_the_initial_level_takes_the_worse_of_mark_and_stable_price() -> None:
    market = new_market()
    asset = market.universe.asset_number("BTC")
    assert asset is not None
    market.values.stable[asset] = 90_000.0
    market._defined = True
    market.revalue()
    account = Account(market, [("vault-one", "BTC", 100, 0)])
    status, out = account.value()
    assert status == 0
    assert out[UNHAIRCUT] == pytest.approx(100_000.0)
    assert (out[UNHAIRCUT] - out[EQUITY]) / 100_000.0 == pytest.approx(1 - out[EQUITY_INITIAL] / 90_000.0, rel=1e-9)


def test_cash_or_lots_alone_in_what_is_unknown_make_the_account_unknown() -> None:
    market = new_market()
    market.tick(market.clock_ns + DAY)
    for _ in range(5):
        market.tick(market.clock_ns + DAY)
    market.revalue()
    assert Account(market, [("venue-one", "BTC-coin", 0, 10**9)]).value()[0] == Unknown.STALE_MARK
    assert Account(market, [("venue-one", "BTC-perp", 1, 0)]).value()[0] == Unknown.STALE_MARK
