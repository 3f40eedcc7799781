"""Mango's rules by hand: health of v4 and v3, what a liquidator may take, the stable price, faults of parameters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from engine.rules import faults, mango_v3, mango_v4
from tests.unit.rule_checks import check_rule
from tests.venue_books import mango_v3_book, mango_v4_book

USDC: dict[str, Any] = {
    "name": "USDC",
    "init_asset_weight": 1.0,
    "maint_asset_weight": 1.0,
    "init_liab_weight": 1.0,
    "maint_liab_weight": 1.0,
}
SOL: dict[str, Any] = {
    "name": "SOL",
    "init_asset_weight": 0.5,
    "maint_asset_weight": 0.75,
    "init_liab_weight": 1.5,
    "maint_liab_weight": 1.25,
    "liquidation_fee": 0.05,
}
PERP: dict[str, Any] = {
    "name": "SOL-PERP",
    "settle_token": 0,
    "init_base_asset_weight": 0.8,
    "maint_base_asset_weight": 0.9,
    "init_base_liab_weight": 1.2,
    "maint_base_liab_weight": 1.1,
    "init_overall_asset_weight": 0.5,
    "maint_overall_asset_weight": 1.0,
}


def one_account(
    usdc: float = 0.0, sol: float = 0.0, perp: tuple[float, float, float, float] | None = None, **changed: Any
) -> mango_v4.Inputs:
    """USDC at 1 and SOL at 20, whose stable price is 16; `perp` is base, quote, bids, asks at 20, stable 25."""
    positions = [] if perp is None else [perp]
    inputs = mango_v4.Inputs(
        token_start=np.array([0, 2]),
        token=np.array([0, 1]),
        token_balance=np.array([usdc, sol]),
        order_start=np.array([0, 0]),
        order_base_token=np.zeros(0, dtype=np.int64),
        order_quote_token=np.zeros(0, dtype=np.int64),
        order_base_reserved=np.zeros(0),
        order_quote_reserved=np.zeros(0),
        order_highest_bid=np.zeros(0),
        order_lowest_ask=np.zeros(0),
        perp_start=np.array([0, len(positions)]),
        perp=np.zeros(len(positions), dtype=np.int64),
        perp_base=np.array([one[0] for one in positions]),
        perp_quote=np.array([one[1] for one in positions]),
        perp_bids=np.array([one[2] for one in positions]),
        perp_asks=np.array([one[3] for one in positions]),
        oracle_usd=np.array([1.0, 20.0]),
        stable_usd=np.array([1.0, 16.0]),
        deposits=np.zeros(2),
        borrows=np.zeros(2),
        potential_order_tokens=np.zeros(2),
        perp_oracle_usd=np.array([20.0]),
        perp_stable_usd=np.array([25.0]),
    )
    return inputs._replace(**changed)


def arrays(sol: dict[str, Any] | None = None) -> mango_v4.Terms:
    tokens = (mango_v4.TokenParameters(**USDC), mango_v4.TokenParameters(**(SOL | (sol or {}))))
    return mango_v4.terms(mango_v4.Parameters(tokens=tokens, perps=(mango_v4.PerpParameters(**PERP),)))


def healths(inputs: mango_v4.Inputs, parameters: mango_v4.Terms | None = None) -> list[float]:
    out = np.empty((inputs.token_start.shape[0] - 1, mango_v4.LEVELS))
    mango_v4.healths(inputs, parameters or arrays(), out)
    return [float(value) for value in out[0]]


def margins(inputs: mango_v4.Inputs) -> list[float]:
    out = np.empty((1, 4))
    mango_v4.margins(inputs, arrays(), out)
    return [float(value) for value in out[0]]


@pytest.mark.parametrize("book", [mango_v3_book, mango_v4_book])
def test_what_every_rule_must_pass(book: Any) -> None:
    check_rule(book(4, 1))


# ---- v4 -------------------------------------------------------------------------------------------------------------------------------


def test_init_takes_the_stable_price_where_it_is_worse() -> None:
    assert healths(one_account(100.0, 10.0)) == [100.0 + 10 * 16 * 0.5, 100.0 + 10 * 20 * 0.5, 100.0 + 10 * 20 * 0.75]
    assert healths(one_account(1_000.0, -10.0)) == [1_000.0 - 10 * 20 * 1.5, 1_000.0 - 300.0, 1_000.0 - 250.0]


def test_a_perpetual_goes_through_its_settlement_tokens_balance() -> None:
    # long 10 with quote -150: init at 20 x 0.8, a profit of 10 that counts half; maint at 0.9, a profit of 30 that counts in full
    assert healths(one_account(100.0, perp=(10.0, -150.0, 0.0, 0.0))) == [105.0, 105.0, 130.0]
    # short 10 with quote 200: init at 25 x 1.2, liquidation end at 20 x 1.2, maint at 1.1
    assert healths(one_account(100.0, perp=(-10.0, 200.0, 0.0, 0.0))) == [0.0, 60.0, pytest.approx(80.0)]


def test_open_perpetual_orders_count_at_the_worse_side() -> None:
    # flat with bids of 10: bought at the higher price, worth the lower at its weight
    assert healths(one_account(200.0, perp=(0.0, 0.0, 10.0, 0.0))) == [200.0 - 250.0 + 160.0, 160.0, 180.0]
    both = healths(one_account(200.0, perp=(0.0, 0.0, 10.0, 1.0)))
    assert both == healths(one_account(200.0, perp=(0.0, 0.0, 10.0, 0.0)))


def test_no_accounts_have_no_healths() -> None:
    book = mango_v4_book(2, 1).only([])
    out = np.empty((0, mango_v4.LEVELS))
    mango_v4.healths(book.inputs, book.parameters, out)
    assert out.size == 0


def test_margins_are_equity_less_health() -> None:
    equity, initial, maintenance, distance = margins(one_account(100.0, -10.0, perp=(10.0, -150.0, 0.0, 0.0)))
    init, _, maint = healths(one_account(100.0, -10.0, perp=(10.0, -150.0, 0.0, 0.0)))
    assert equity == 100.0 - 200.0 + 50.0
    assert (equity - initial, equity - maintenance) == pytest.approx((init, maint))
    assert distance == pytest.approx(maint / (100.0 + 200.0 + 200.0))


def test_equity_and_gross_are_of_tokens_orders_and_perpetuals() -> None:
    """USDC at a half: 100 of it, 10 SOL owed, 3 SOL and 50 USDC in orders, 10 short for 200 USDC."""
    inputs = one_account(100.0, -10.0, perp=(-10.0, 200.0, 0.0, 0.0))._replace(
        order_start=np.array([0, 1]),
        order_base_token=np.array([1]),
        order_quote_token=np.array([0]),
        order_base_reserved=np.array([3.0]),
        order_quote_reserved=np.array([50.0]),
        order_highest_bid=np.array([40.0]),
        order_lowest_ask=np.array([40.0]),
        oracle_usd=np.array([0.5, 20.0]),
    )
    equity, initial, maintenance, distance = margins(inputs)
    init, _, maint = healths(inputs)
    assert equity == 50.0 - 200.0 + (60.0 + 25.0) + (100.0 - 100.0)
    assert (equity - initial, equity - maintenance) == pytest.approx((init, maint))
    assert distance == pytest.approx(maint / (50.0 + 200.0 + 85.0 + 100.0))
    short = inputs._replace(order_base_reserved=np.array([-3.0]), order_quote_reserved=np.array([-50.0]))
    assert margins(short)[3] == pytest.approx(healths(short)[2] / (50.0 + 200.0 + 85.0 + 100.0))  # gross has no signs


def test_a_small_loss_of_a_perpetual_counts_in_full() -> None:
    assert healths(one_account(100.0, perp=(0.0, -0.5, 0.0, 0.0))) == [99.5, 99.5, 99.5]
    assert healths(one_account(100.0, perp=(0.0, 0.5, 0.0, 0.0))) == [100.25, 100.25, 100.5]


@pytest.mark.parametrize(
    ("most", "health"), [(-0.5, 2 * 30.0), (0.0, 2 * 30.0), (0.5, 0.5 * 16.0 + 1.5 * 30.0), (2.0, 2 * 16.0), (2.5, 2 * 16.0)]
)
def test_what_comes_last_pays_debts_first(most: float, health: float) -> None:
    """2 tokens that bring a balance to `most`: what is below 0 before them counts at the liability's worth, 30, the rest at 16."""
    assert mango_v4._reserved_effect(2.0, most, 16.0, 30.0) == health


def test_weights_scale_with_what_all_hold_at_init_alone() -> None:
    scaled = arrays({"deposit_weight_scale_start_usd": 1_000.0, "borrow_weight_scale_start_usd": 1_000.0})
    many: dict[str, Any] = {
        "deposits": np.array([0.0, 75.0]),
        "potential_order_tokens": np.array([0.0, 50.0]),
        "borrows": np.array([0.0, 150.0]),
    }
    # 125 tokens at 16 are 2,000: half the weight; borrows of 150 at 20 are 3,000: three times the weight
    assert healths(one_account(0.0, 10.0, **many), scaled) == [10 * 16 * 0.25, 100.0, 150.0]
    assert healths(one_account(0.0, -10.0, **many), scaled) == [-10 * 20 * 4.5, -300.0, -250.0]


def test_distance_without_any_position() -> None:
    assert margins(one_account()) == [0.0, 0.0, 0.0, math.inf]
    assert margins(one_account(perp=(0.0, -5.0, 0.0, 0.0)))[3] == -math.inf
    assert margins(one_account(perp=(0.0, 5.0, 0.0, 0.0)))[3] == math.inf


def test_one_unknown_number_makes_the_row_unknown() -> None:
    found = margins(one_account(100.0, 10.0, stable_usd=np.array([1.0, np.nan])))
    assert all(math.isnan(value) for value in found)
    init, end, maint = healths(one_account(100.0, 10.0, stable_usd=np.array([1.0, np.nan])))
    assert math.isnan(init)
    assert (end, maint) == (200.0, 250.0)


def test_two_legs_of_one_token_are_one_balance() -> None:
    twice = one_account()._replace(token_start=np.array([0, 3]), token=np.array([1, 0, 1]), token_balance=np.array([-30.0, 1_000.0, 20.0]))
    assert healths(twice) == healths(one_account(1_000.0, -10.0))


def test_parts_name_tokens_and_orders() -> None:
    names = [name for name, _ in mango_v4.parts(one_account(1.0, 2.0), arrays(), 0, mango_v4.MAINT)]
    assert names == ["token 0", "token 1", "maint health"]
    whole = mango_v4_book(30, 3)
    some = next(account for account in range(30) if whole.inputs.order_start[account] < whole.inputs.order_start[account + 1])
    assert any(name.startswith("open orders ") for name, _ in mango_v4.parts(whole.inputs, whole.parameters, some))


# ---- v4: liquidation ------------------------------------------------------------------------------------------------------------------


def liquidate(health: float, sol: float, usdc: float) -> mango_v4.TokenLiquidation:
    return mango_v4.token_liquidation(
        health,
        asset=mango_v4.TokenParameters(**SOL),
        asset_balance=sol,
        asset_usd=20.0,
        liability=mango_v4.TokenParameters(**USDC),
        liability_balance=usdc,
        liability_usd=1.0,
    )


def test_a_liquidation_ends_where_liquidation_end_health_is_zero() -> None:
    sol, usdc = 10.0, -110.0
    before = healths(one_account(usdc, sol))[mango_v4.LIQUIDATION_END]
    assert before == -10.0
    found = liquidate(before, sol, usdc)
    assert found.asset * 20.0 == pytest.approx(found.liability * 1.05)
    after = healths(one_account(usdc + found.liability, sol - found.asset))[mango_v4.LIQUIDATION_END]
    assert after == pytest.approx(0.0, abs=1e-9)


def test_a_liquidation_is_bounded_by_both_balances() -> None:
    assert liquidate(0.0, 10.0, -110.0) == (0.0, 0.0)
    assert liquidate(-1_000.0, 10.0, -110.0).liability == pytest.approx(110.0)
    everything = liquidate(-1_000.0, 1.0, -110.0)
    assert everything.asset == pytest.approx(1.0)
    assert liquidate(-1_000.0, 0.0, -110.0) == (0.0, 0.0)
    assert math.isnan(liquidate(math.nan, 10.0, -110.0).liability)


def test_a_liquidation_that_gains_nothing_is_bounded_by_balances() -> None:
    """Weights of 1 and fees of nothing: a repayment changes no health."""
    plain = mango_v4.TokenParameters(**USDC)

    def repaid(health: float, liability: float = -110.0, asset_balance: float = 10.0) -> float:
        given: dict[str, Any] = {
            "asset": plain,
            "asset_balance": asset_balance,
            "asset_usd": 20.0,
            "liability": plain,
            "liability_usd": 1.0,
        }
        return mango_v4.token_liquidation(health, liability_balance=liability, **given).liability

    assert repaid(-0.001) == 110.0
    assert repaid(-0.001, asset_balance=2.0) == 40.0
    assert repaid(0.0) == 0.0
    assert repaid(-5.0, liability=0.5) == 0.0  # nothing is owed
    assert math.isnan(repaid(math.nan))


def test_a_small_shortage_is_liquidated_and_a_small_surplus_not() -> None:
    """Each dollar repaid is worth 1 - 1.05 / 2."""
    assert liquidate(-0.5, 10.0, -110.0).liability == pytest.approx(0.5 / 0.475)
    assert liquidate(0.5, 10.0, -110.0) == (0.0, 0.0)


def test_both_tokens_fees_are_paid_on_top() -> None:
    liability = mango_v4.TokenParameters(**(USDC | {"liquidation_fee": 0.1, "init_liab_weight": 1.2, "maint_liab_weight": 1.1}))
    given: dict[str, Any] = {"asset": mango_v4.TokenParameters(**SOL), "asset_balance": 10.0, "asset_usd": 20.0, "liability_usd": 2.0}
    found = mango_v4.token_liquidation(-3.0, liability=liability, liability_balance=-60.0, **given)
    assert found.liability == pytest.approx(3.0 / (2.0 * (1.2 - 1.05 * 1.1 * 0.5)))
    assert found.asset == pytest.approx(found.liability * 2.0 * 1.05 * 1.1 / 20.0)


# ---- v4: stable price -----------------------------------------------------------------------------------------------------------------


def stable(start: float, steps: list[tuple[int, float]], **changed: Any) -> mango_v4.StablePrices:
    parameters = mango_v4.StablePriceParameters(**changed)
    state = mango_v4.stable_prices(parameters, np.array([start]), 0)
    for now_s, price in steps:
        mango_v4.advance(state, mango_v4.stable_limits(parameters), np.array([price]), now_s)
    return state


def test_the_stable_price_moves_by_its_limit_in_both_directions() -> None:
    assert stable(1.0, [(100, 2.0)]).stable_usd[0] == pytest.approx(1.03)
    assert stable(1.0, [(100, 0.1)]).stable_usd[0] == pytest.approx(0.97)
    assert stable(1.0, [(100, 1.01)]).stable_usd[0] == 1.01


def test_steps_are_neither_too_short_nor_too_long() -> None:
    assert stable(1.0, [(9, 2.0)]).updated_s[0] == 0
    assert stable(1.0, [(10, 2.0)]).stable_usd[0] == pytest.approx(1.003)
    assert stable(1.0, [(3_000, 2.0)]).stable_usd[0] == pytest.approx(1.18)


def test_farther_from_the_delayed_price_it_is_slower() -> None:
    state = stable(1.0, [(600, 2.0), (1_200, 2.0)])
    assert state.stable_usd[0] == pytest.approx(1.18 * (1.0 + 0.0003 * 600 / 1.18**2))
    falling = stable(2.0, [(600, 0.1), (1_200, 0.1)])
    assert falling.stable_usd[0] == pytest.approx(2.0 * 0.82 * (1.0 - 0.0003 * 600 * 0.82**2))


def test_a_price_that_is_not_known_changes_nothing_and_the_first_is_taken_whole() -> None:
    assert stable(1.0, [(100, math.nan)]).updated_s[0] == 0
    assert stable(0.0, [(100, 0.0)]).stable_usd[0] == 0.0
    begun = stable(0.0, [(100, 0.0), (200, 7.0)])
    assert begun.stable_usd[0] == 7.0
    assert (begun.delay_usd == 7.0).all()


def test_it_begins_at_any_price_above_nothing_and_with_an_empty_average() -> None:
    assert stable(0.0, [(100, 0.0)]).updated_s[0] == 0
    assert stable(0.0, [(100, -0.5)]).stable_usd[0] == 0.0
    begun = stable(0.0, [(100, 0.5)])
    assert (begun.stable_usd[0], begun.updated_s[0], begun.average_usd_s[0], begun.average_s[0]) == (0.5, 100, 0.0, 0)


def test_prices_that_have_been_for_ever_are_in_every_interval() -> None:
    """26 hours after the epoch the cycle of a day is in its third hour."""
    state = mango_v4.stable_prices(mango_v4.StablePriceParameters(), np.array([2.0, 3.0]), 26 * 3_600)
    assert state.interval.tolist() == [2, 2]
    assert state.delay_usd.tolist() == [[2.0] * 24, [3.0] * 24]
    assert (state.average_usd_s.tolist(), state.average_s.tolist(), state.updated_s.tolist()) == ([0.0] * 2, [0] * 2, [93_600] * 2)


def test_a_step_of_one_length_is_no_fault() -> None:
    assert mango_v4.StablePriceParameters(min_dt_s=10, max_dt_s=10).max_dt_s == 10


def test_skipped_intervals_get_the_price_of_the_last() -> None:
    state = stable(1.0, [(600, 2.0), (3 * 3_600, 2.0)], delay_growth_limit=10.0)
    mean = (2.0 * 600 + 2.0 * 600) / (3 * 3_600)  # the program's time runs on where its price does not
    assert state.delay_usd[0, :4] == pytest.approx([mean, mean, mean, 1.0])
    assert (state.average_usd_s[0], state.average_s[0], state.interval[0]) == (0.0, 0, 3)  # the next interval's begin anew
    everything = stable(1.0, [(600, 2.0), (26 * 3_600, 2.0)], delay_growth_limit=10.0)
    assert (everything.delay_usd == everything.delay_usd[0, 0]).all()


# ---- v3 -------------------------------------------------------------------------------------------------------------------------------


def v3_account(**changed: Any) -> mango_v3.Inputs:
    """100 USD of quote and one market at 10, in the basket."""
    none = np.zeros(1)
    inputs = mango_v3.Inputs(
        start=np.array([0, 1]),
        market=np.array([0]),
        spot=none,
        in_basket=np.array([True]),
        order_base_free=none,
        order_base_locked=none,
        order_quote_free=none,
        order_quote_locked=none,
        perp_base=none,
        perp_quote=none,
        perp_bids=none,
        perp_asks=none,
        quote_usd=np.array([100.0]),
        price_usd=np.array([10.0]),
    )
    return inputs._replace(**{name: np.array([value]) for name, value in changed.items()})


V3_SIDE = {"init_asset_weight": 0.5, "maint_asset_weight": 0.75, "init_liab_weight": 1.5, "maint_liab_weight": 1.25}
V3_MARKET = mango_v3.MarketParameters(name="M", spot=mango_v3.SideParameters(**V3_SIDE), perp=mango_v3.SideParameters(**V3_SIDE))
V3 = mango_v3.terms(mango_v3.Parameters(markets=(V3_MARKET,)))


def v3_health(**changed: Any) -> list[float]:
    out = np.empty((1, mango_v3.MEASURES))
    mango_v3.measures(v3_account(**changed), V3, out)
    return [float(value) for value in out[0]]


def test_v3_weighs_each_market_by_the_sign_of_its_base() -> None:
    assert v3_health(spot=4.0)[:2] == [120.0, 130.0]
    assert v3_health(spot=-4.0)[:2] == [40.0, 50.0]
    assert v3_health(perp_base=-4.0, perp_quote=45.0)[:2] == [85.0, 95.0]


def test_v3_reads_spot_orders_of_the_basket_alone() -> None:
    # 20 of quote may become 2 of base, which is more base than without
    assert v3_health(spot=1.0, order_quote_locked=20.0, order_quote_free=3.0)[0] == 100.0 + 3.0 + 3 * 10 * 0.5
    # 5 of base in asks, owing 2: sold it owes 2; else it has 3, which is the larger base
    assert v3_health(spot=-2.0, order_base_locked=5.0)[0] == 100.0 + 3 * 10 * 0.5
    assert v3_health(spot=1.0, order_quote_locked=20.0, order_quote_free=3.0, in_basket=False)[0] == 105.0


def test_v3_perpetual_orders_leave_the_larger_base() -> None:
    assert v3_health(perp_base=1.0, perp_bids=2.0, perp_asks=1.0)[0] == 100.0 - 20.0 + 3 * 10 * 0.5
    assert v3_health(perp_base=1.0, perp_bids=2.0, perp_asks=5.0)[0] == 100.0 + 50.0 - 4 * 10 * 1.5


def test_v3_where_both_sides_leave_as_much_the_asks_count() -> None:
    """2 short, and short or long when orders of 4 are filled: as 2 short, 20 USD are owed at 1.5."""
    assert v3_health(spot=-2.0, order_base_locked=4.0)[mango_v3.INIT_RATIO] == pytest.approx(100.0 * 110.0 / 30.0)
    # 3 short after asks of 2, 3 long after bids of 4
    assert v3_health(perp_base=-1.0, perp_bids=4.0, perp_asks=2.0)[mango_v3.INIT_RATIO] == pytest.approx(100.0 * 75.0 / 45.0)


def test_v3_an_infinite_base_is_known() -> None:
    assert v3_health(perp_base=math.inf)[0] == math.inf


def test_v3_margins_by_hand() -> None:
    """100 owed; spot of -20 that 37 in orders make 14 at most, or -10; a short perpetual of 40, whose quote is 45."""
    orders = {"order_base_free": 1.0, "order_base_locked": 2.0, "order_quote_free": 3.0, "order_quote_locked": 4.0}
    out = np.empty((1, 4))
    mango_v3.margins(v3_account(quote_usd=-100.0, spot=-2.0, perp_base=-4.0, perp_quote=45.0, **orders), V3, out)
    equity = -100.0 - 20.0 + 37.0 - 40.0 + 45.0
    init, maint = 14 * 0.5 - 40 * 1.5 - 100 + 3 + 45, 14 * 0.75 - 40 * 1.25 - 100 + 3 + 45
    assert out[0] == pytest.approx([equity, equity - init, equity - maint, maint / (100 + 20 + 37 + 40)])


def test_v4_without_a_word_weights_never_scale_and_nothing_is_charged() -> None:
    weights = {name: value for name, value in SOL.items() if name != "liquidation_fee"}
    assert mango_v4.TokenParameters(**weights) == mango_v4.TokenParameters(
        **weights, deposit_weight_scale_start_usd=1e18, borrow_weight_scale_start_usd=1e18, liquidation_fee=0.0
    )


def test_v4_the_programs_stable_price_model() -> None:
    """StablePriceModel of state/stable_price.rs: an hour, a day of them, 6 % an hour, 0.03 % a second; steps of 10 to 600 s."""
    assert mango_v4.StablePriceParameters() == mango_v4.StablePriceParameters(
        delay_interval_s=3_600, n_delay=24, delay_growth_limit=0.06, stable_growth_limit_per_s=0.0003, min_dt_s=10, max_dt_s=600
    )


def test_v3_a_market_without_a_side_has_no_weights() -> None:
    none = {"init_asset_weight": 0.0, "maint_asset_weight": 0.0, "init_liab_weight": 0.0, "maint_liab_weight": 0.0}
    assert mango_v3.SideParameters() == mango_v3.SideParameters(**none)


def test_v3_ratios_and_leverage() -> None:
    assert len(v3_health()) == 6
    found = v3_health(spot=-4.0)
    assert found[mango_v3.INIT_RATIO] == pytest.approx(100.0 * 40.0 / 60.0)
    assert found[mango_v3.LEVERAGE] == pytest.approx(40.0 / 60.0)
    assert v3_health()[mango_v3.INIT_RATIO] == 100.0
    assert v3_health(quote_usd=0.0)[mango_v3.LEVERAGE] == 0.0


def test_v3_who_owes_and_has_nothing_has_no_leverage() -> None:
    """Both clients say 0. Any one thing that is held, and it is what is owed over value: below 0 where more is owed than held."""
    assert v3_health(spot=-4.0, quote_usd=0.0)[mango_v3.LEVERAGE] == 0.0
    assert v3_health(spot=-4.0, quote_usd=-10.0)[mango_v3.LEVERAGE] == 0.0
    assert v3_health(spot=-4.0, quote_usd=40.0)[mango_v3.LEVERAGE] == 0.0, "worth nothing"
    owed_usd = 40.0
    for held, value_usd in (
        ({"quote_usd": 8.0}, 8.0),
        ({"quote_usd": 0.5}, 0.5),
        ({"quote_usd": 39.0}, 39.0),
        ({"quote_usd": 41.0}, 41.0),
        ({"quote_usd": 0.0, "order_quote_locked": 8.0}, 8.0),
        ({"quote_usd": 0.0, "perp_quote": 8.0}, 8.0),
        ({"quote_usd": 0.0, "perp_base": 0.8}, 8.0),
    ):
        assert v3_health(spot=-4.0, **held)[mango_v3.LEVERAGE] == pytest.approx(owed_usd / (value_usd - owed_usd)), held
    assert math.isnan(v3_health(spot=math.nan, quote_usd=0.0)[mango_v3.LEVERAGE])


def test_v3_liquidation_begins_below_maint_and_ends_at_init() -> None:
    assert not mango_v3.liquidatable(0.0, -1.0, False)
    assert mango_v3.liquidatable(-1.0, -2.0, False)
    assert mango_v3.liquidatable(1.0, -1.0, True)
    assert not mango_v3.liquidatable(1.0, 0.0, True)
    assert mango_v3.liquidatable(math.nan, 0.0, False)


def test_v3_repays_until_init_health_is_zero() -> None:
    terms = {"asset_value_usd": 1_000.0, "asset_weight": 0.5, "liability_value_usd": 600.0, "liab_weight": 1.0, "liquidation_fee": 0.05}
    repaid = mango_v3.token_liquidation(-100.0, **terms)
    assert repaid == pytest.approx(100.0 / (1.0 - 1.05 * 0.5))
    assert (1_000.0 - repaid * 1.05) * 0.5 - (600.0 - repaid) == pytest.approx(0.0)
    assert mango_v3.token_liquidation(0.0, **terms) == 0.0
    assert math.isnan(mango_v3.token_liquidation(math.nan, **terms))


def test_v3_repays_no_more_than_is_owed_or_can_be_paid() -> None:
    terms = {"asset_value_usd": 1_000.0, "asset_weight": 0.5, "liability_value_usd": 600.0, "liab_weight": 1.0, "liquidation_fee": 0.05}
    assert mango_v3.token_liquidation(-0.5, **terms) == pytest.approx(0.5 / 0.475)
    assert mango_v3.token_liquidation(0.5, **terms) == 0.0
    assert mango_v3.token_liquidation(-1e6, **terms) == 600.0
    assert mango_v3.token_liquidation(-1e6, **terms | {"asset_value_usd": 300.0}) == 300.0 / 1.05
    # where a repayment gains nothing, or less, only the balances bound it
    for worthless in ({"asset_weight": 1.0, "liquidation_fee": 0.0}, {"asset_weight": 1.0}):
        assert mango_v3.token_liquidation(-0.001, **terms | worthless) == 600.0
        assert mango_v3.token_liquidation(0.0, **terms | worthless) == 0.0


def test_v3_parts_name_the_quote_and_both_sides_of_each_market() -> None:
    whole = mango_v3_book(20, 1)
    some = next(account for account in range(20) if whole.inputs.start[account + 1] - whole.inputs.start[account] == 1)
    market = int(whole.inputs.market[whole.inputs.start[some]])
    names = [name for name, _ in mango_v3.parts(whole.inputs, whole.parameters, some, mango_v3.MAINT)]
    assert names == ["quote", f"spot {market}", f"perp {market}", "maint health"]


# ---- parameters -----------------------------------------------------------------------------------------------------------------------


def test_every_fault_of_a_set_is_named_at_once() -> None:
    given = {"tokens": [USDC, SOL | {"init_asset_weight": 1.5, "colour": "red"}], "perps": [{"name": "P", "settle_token": -1}], "more": 1}
    found = "\n".join(faults.faults(mango_v4.Parameters, given))
    for place in ("tokens[1].init_asset_weight", "tokens[1].colour", "perps[0].settle_token", "perps[0].init_base_asset_weight", "more"):
        assert place in found
    assert faults.faults(mango_v4.Parameters, {"tokens": [USDC, SOL], "perps": [PERP]}) == []


def test_what_fields_say_together_is_a_fault_too() -> None:
    milder = faults.read(mango_v4.Parameters, {"tokens": [USDC, SOL | {"maint_asset_weight": 0.4}]})
    assert isinstance(milder, list)
    assert "milder" in milder[0]
    for wrong in ({"init_base_asset_weight": 0.95}, {"init_base_liab_weight": 1.05}, {"maint_overall_asset_weight": 0.4}):
        assert isinstance(faults.read(mango_v4.Parameters, {"tokens": [USDC], "perps": [PERP | wrong]}), list)
    elsewhere = faults.read(mango_v4.Parameters, {"tokens": [USDC], "perps": [PERP | {"settle_token": 1}]})
    assert isinstance(elsewhere, list)
    assert "settles in token 1 of 1" in elsewhere[0]
    assert isinstance(faults.read(mango_v4.StablePriceParameters, {"min_dt_s": 700}), list)
    assert isinstance(faults.read(mango_v4.StablePriceParameters, {}), mango_v4.StablePriceParameters)
    weights = {"init_asset_weight": 0.9, "maint_asset_weight": 0.8}
    assert isinstance(faults.read(mango_v3.Parameters, {"markets": [{"name": "M", "spot": weights, "perp": {}}]}), list)
