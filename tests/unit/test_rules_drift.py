"""Drift's rules by hand: weights by size, an account's free collateral, what a liquidation takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from engine.rules import drift_v2, faults
from tests.unit.rule_checks import check_rule
from tests.venue_books import drift_v2_book

QUOTE: dict[str, Any] = {"name": "USDC"}
SOL: dict[str, Any] = {
    "name": "SOL",
    "initial_asset_weight": 0.8,
    "maintenance_asset_weight": 0.9,
    "initial_liability_weight": 1.2,
    "maintenance_liability_weight": 1.1,
}
PERP: dict[str, Any] = {
    "name": "SOL-PERP",
    "margin_ratio_initial": 0.1,
    "margin_ratio_maintenance": 0.05,
    "unrealized_pnl_initial_asset_weight": 0.5,
}


def margins(
    quote: float = 0.0,
    sol: tuple[float, float, float, int] = (0.0, 0.0, 0.0, 0),
    perp: tuple[float, float, float, float, int] = (0.0, 0.0, 0.0, 0.0, 0),
    custom: float = 0.0,
    **changed: Any,
) -> tuple[float, float, float, float]:
    """Equity, free collateral at initial and maintenance, distance. SOL is at 20; legs are balance (or base, quote), bids, asks, orders."""
    inputs = drift_v2.Inputs(
        spot_start=np.array([0, 2]),
        spot=np.array([0, 1]),
        spot_balance=np.array([quote, sol[0]]),
        spot_bids=np.array([0.0, sol[1]]),
        spot_asks=np.array([0.0, sol[2]]),
        spot_orders=np.array([0, sol[3]]),
        perp_start=np.array([0, 1]),
        perp=np.array([0]),
        perp_base=np.array([perp[0]]),
        perp_quote=np.array([perp[1]]),
        perp_bids=np.array([perp[2]]),
        perp_asks=np.array([perp[3]]),
        perp_orders=np.array([perp[4]]),
        custom_ratio=np.array([custom]),
        spot_usd=np.array([changed.get("quote_usd", 1.0), 20.0]),
        spot_deposits=np.array([0.0, 1_000.0]),
        perp_usd=np.array([20.0]),
    )
    spots = (drift_v2.SpotParameters(**QUOTE), drift_v2.SpotParameters(**(SOL | changed.get("spot", {}))))
    perps = (drift_v2.PerpParameters(**(PERP | changed.get("perp_changed", {}))),)
    out = np.empty((1, 4))
    drift_v2.margins(inputs, drift_v2.terms(drift_v2.Parameters(spots=spots, perps=perps)), out)
    equity, initial, maintenance, distance = (float(value) for value in out[0])
    return equity, equity - initial, equity - maintenance, distance


def approximately(*values: float) -> Any:
    return pytest.approx(values, abs=1e-9)


def test_the_programs_precisions_and_constants() -> None:
    """math/constants.rs of the program: profit is bounded by MAX_POSITIVE_UPNL_FOR_INITIAL_MARGIN, an order needs
    OPEN_ORDER_MARGIN_REQUIREMENT."""
    assert (drift_v2.BASE_PRECISION, drift_v2.INTEREST_PRECISION) == (10**9, 10**10)
    assert (drift_v2.PRICE_PRECISION, drift_v2.QUOTE_PRECISION, drift_v2.FEE_PRECISION, drift_v2.IMF_PRECISION) == (10**6,) * 4
    assert (drift_v2.WEIGHT_PRECISION, drift_v2.SLOT_FEE, drift_v2.FEE_GRACE_SLOTS, drift_v2.AT_ONCE_USD) == (10**4, 1, 1_500, 50)
    assert (drift_v2.PROFIT_CAP_USD, drift_v2.ORDER_USD) == (100.0, 0.01)


def test_without_a_word_weights_are_one_and_no_size_counts() -> None:
    assert drift_v2.SpotParameters(name="USDC") == drift_v2.SpotParameters(
        name="USDC",
        initial_asset_weight=1.0,
        maintenance_asset_weight=1.0,
        initial_liability_weight=1.0,
        maintenance_liability_weight=1.0,
        imf_factor=0.0,
        scale_initial_asset_weight_start_usd=0.0,
    )
    ratios: dict[str, Any] = {"name": "SOL-PERP", "margin_ratio_initial": 0.1, "margin_ratio_maintenance": 0.05}
    assert drift_v2.PerpParameters(**ratios) == drift_v2.PerpParameters(
        **ratios,
        imf_factor=0.0,
        unrealized_pnl_initial_asset_weight=1.0,
        unrealized_pnl_maintenance_asset_weight=1.0,
        unrealized_pnl_imf_factor=0.0,
    )


# ---- weights --------------------------------------------------------------------------------------------------------------------------


def test_weights_without_a_factor_do_not_depend_on_size() -> None:
    assert drift_v2.size_discounted_weight(0.9, 1e9, 0.0) == 0.9
    assert drift_v2.size_premium_weight(1.1, 1e9, 0.0) == 1.1


def test_a_factor_of_one_is_a_factor() -> None:
    """At 100 tokens: 1.1 / (1 + 10), and 0.8 x 1.1 + 10."""
    assert drift_v2.size_discounted_weight(0.9, 100.0, 1.0) == 0.1
    assert drift_v2.size_premium_weight(1.1, 100.0, 1.0) == 10.88


@pytest.mark.parametrize(
    ("size", "factor", "weight"),
    [
        (1_000_010.000025, 0.001, 0.5499),  # a root of 1,000.005: 1.1 / 2.000005, cut off
        (0.010002, 1.0, 0.9999),  # 0.10001 squared is this, and a smallest unit: 1.1 / 1.10001
    ],
)
def test_the_weight_is_cut_off_where_the_program_does(size: float, factor: float, weight: float) -> None:
    assert drift_v2.size_discounted_weight(1.0, size, factor) == weight


def test_a_fill_is_half_way_and_cut_off() -> None:
    levels = (drift_v2.INITIAL, drift_v2.FILL, drift_v2.MAINTENANCE)
    assert [drift_v2.weight_between(0.8, 0.9001, level) for level in levels] == [0.8, 0.85, 0.9001]


def test_scaling_by_deposits_begins_at_its_start() -> None:
    assert drift_v2.scaled_initial_asset_weight(0.9, 1e12, 0.0) == 0.9
    assert drift_v2.scaled_initial_asset_weight(0.9, 999.0, 1_000.0) == 0.9
    assert drift_v2.scaled_initial_asset_weight(0.9, 3_000.0, 1_000.0) == 0.3


# ---- an account -----------------------------------------------------------------------------------------------------------------------


def test_spot_and_quote_by_their_sign() -> None:
    assert margins(100.0, (10.0, 0.0, 0.0, 0))[:3] == approximately(300.0, 100 + 160, 100 + 180)
    assert margins(500.0, (-10.0, 0.0, 0.0, 0))[:3] == approximately(300.0, 500 - 240, 500 - 220)
    assert margins(-100.0, (10.0, 0.0, 0.0, 0))[:3] == approximately(100.0, 160 - 100, 180 - 100)


def test_spot_orders_count_on_the_worse_side_and_a_cent_each() -> None:
    # bids: 20 tokens less 200 USD; asks of nothing
    assert margins(500.0, (10.0, 10.0, 0.0, 2))[1] == pytest.approx(500 + 20 * 20 * 0.8 - 200 - 0.02)
    # asks that go short are worse than keeping: -5 at 1.2 and 300 USD
    assert margins(500.0, (10.0, 0.0, 15.0, 1))[1] == pytest.approx(min(500 + 160, 500 - 5 * 20 * 1.2 + 300) - 0.01)


def test_perpetuals_need_their_ratio_of_the_worse_side() -> None:
    assert margins(100.0, perp=(10.0, -200.0, 0.0, 0.0, 0))[:3] == approximately(100.0, 100 - 20, 100 - 10)
    assert margins(100.0, perp=(10.0, -200.0, 5.0, 30.0, 1))[1] == pytest.approx(100 - 20 * 20 * 0.1 - 0.01)
    assert margins(100.0, perp=(-10.0, 150.0, 0.0, 0.0, 0))[:3] == approximately(50.0, 100 - 50 - 20, 100 - 50 - 10)


def test_profit_counts_in_part_at_initial_and_is_bounded() -> None:
    assert margins(100.0, perp=(10.0, -150.0, 0.0, 0.0, 0))[:3] == approximately(150.0, 100 + 25 - 20, 100 + 50 - 10)
    assert margins(100.0, perp=(100.0, -1_500.0, 0.0, 0.0, 0))[1] == pytest.approx(100 + 100 - 200)
    # a profit of 49 at a factor of 0.3: 1.1 / 3.1 of it at initial, all of it at maintenance
    sized = margins(100.0, perp=(10.0, -151.0, 0.0, 0.0, 0), perp_changed={"unrealized_pnl_imf_factor": 0.3})
    assert sized[1:3] == approximately(100 + 49 * 0.3548 - 20, 100 + 49 - 10)


def test_size_and_deposits_change_weights() -> None:
    spot = {"imf_factor": 0.3}
    weight = drift_v2.size_discounted_weight(0.8, 10.0, 0.3)
    assert weight == pytest.approx(1.1 / (1 + 0.3 * math.sqrt(10.0)), abs=1e-4)
    assert margins(0.0, (10.0, 0.0, 0.0, 0), spot=spot)[1] == pytest.approx(200 * weight)
    # 1,000 deposited at 20: four times the start, so a quarter of the weight, at initial alone
    scaled = {"scale_initial_asset_weight_start_usd": 5_000.0}
    assert margins(0.0, (10.0, 0.0, 0.0, 0), spot=scaled)[1:3] == approximately(200 * 0.2, 200 * 0.9)
    ratio = drift_v2.size_premium_weight(0.1, 100.0, 0.01)
    assert ratio == pytest.approx(0.08 + 0.01 * 10.0, abs=1e-4)
    grown = margins(500.0, perp=(100.0, -2_000.0, 0.0, 0.0, 0), perp_changed={"imf_factor": 0.01})
    assert grown[1] == pytest.approx(500 - 2_000 * ratio)


def test_an_accounts_own_ratio_counts_at_initial() -> None:
    found = margins(500.0, (10.0, 0.0, 0.0, 0), (10.0, -200.0, 0.0, 0.0, 0), 0.5)
    assert found[:3] == approximately(700.0, 500 + 200 * 0.5 - 200 * 0.5, 500 + 180 - 10)


def test_small_amounts_are_weighed_by_their_sign_too() -> None:
    assert margins(0.0, (0.5, 0.0, 0.0, 0))[:3] == approximately(10.0, 8.0, 9.0)
    assert margins(100.0, (-0.5, 0.0, 0.0, 0))[:3] == approximately(90.0, 100 - 12, 100 - 11)
    assert margins(100.0, perp=(10.0, -200.5, 0.0, 0.0, 0))[:3] == approximately(99.5, 99.5 - 20, 99.5 - 10)
    assert margins(100.0, perp=(10.0, -199.5, 0.0, 0.0, 0))[:3] == approximately(100.5, 100.25 - 20, 100.5 - 10)


def test_an_own_ratio_above_one_leaves_assets_no_weight() -> None:
    assert margins(0.0, (10.0, 0.0, 0.0, 0), custom=1.5)[1] == 0.0


def test_perpetuals_are_in_the_quote_whatever_that_is_worth() -> None:
    """At 0.50: 100 of it, and 10 short at 20 for 150; the loss of 50 is 25 USD."""
    equity, initial, maintenance, distance = margins(100.0, perp=(-10.0, 150.0, 0.0, 0.0, 0), quote_usd=0.5)
    assert (equity, initial, maintenance) == approximately(25.0, 25 - 100 * 0.1, 25 - 100 * 0.05)
    assert distance == pytest.approx(20.0 / (50 + 100))


def test_what_every_rule_must_pass() -> None:
    check_rule(drift_v2_book(4, 1))


def test_distance_is_what_is_left_of_gross() -> None:
    equity, _, left, distance = margins(100.0, (-1.0, 0.0, 0.0, 0), (10.0, -200.0, 0.0, 0.0, 0))
    assert (equity, distance) == approximately(80.0, left / (100 + 20 + 200))
    assert margins()[3] == math.inf
    assert margins(perp=(0.0, -1.0, 0.0, 0.0, 0))[3] == -math.inf


def test_parts_are_collateral_and_requirement() -> None:
    inputs = drift_v2.Inputs(
        spot_start=np.array([0, 1]),
        spot=np.array([1]),
        spot_balance=np.array([-10.0]),
        spot_bids=np.zeros(1),
        spot_asks=np.zeros(1),
        spot_orders=np.array([1]),
        perp_start=np.array([0, 0]),
        perp=np.zeros(0, dtype=np.int64),
        perp_base=np.zeros(0),
        perp_quote=np.zeros(0),
        perp_bids=np.zeros(0),
        perp_asks=np.zeros(0),
        perp_orders=np.zeros(0, dtype=np.int64),
        custom_ratio=np.zeros(1),
        spot_usd=np.array([1.0, 20.0]),
        spot_deposits=np.zeros(2),
        perp_usd=np.zeros(0),
    )
    parameters = drift_v2.terms(drift_v2.Parameters(spots=(drift_v2.SpotParameters(**QUOTE), drift_v2.SpotParameters(**SOL))))
    assert drift_v2.parts(inputs, parameters, 0, drift_v2.MAINTENANCE) == [
        ("spot 1, total collateral", 0.0),
        ("spot 1, margin requirement", pytest.approx(-220.01)),
        ("free collateral", pytest.approx(-220.01)),
    ]


def parts(level: int, base: float, quote: float, profit_factor: float, held: float = 50.0) -> list[tuple[str, float]]:
    """The second of two accounts: 50 of the quote, at 0.50; 10 SOL owed; a perpetual; an order in SOL and two in the perpetual."""
    inputs = drift_v2.Inputs(
        spot_start=np.array([0, 1, 3]),
        spot=np.array([0, 0, 1]),
        spot_balance=np.array([7.0, held, -10.0]),
        spot_bids=np.zeros(3),
        spot_asks=np.zeros(3),
        spot_orders=np.array([0, 0, 1]),
        perp_start=np.array([0, 1, 2]),
        perp=np.array([0, 0]),
        perp_base=np.array([1.0, base]),
        perp_quote=np.array([5.0, quote]),
        perp_bids=np.zeros(2),
        perp_asks=np.zeros(2),
        perp_orders=np.array([0, 2]),
        custom_ratio=np.array([0.0, 0.5]),
        spot_usd=np.array([0.5, 20.0]),
        spot_deposits=np.zeros(2),
        perp_usd=np.array([20.0]),
    )
    spots = (drift_v2.SpotParameters(**QUOTE), drift_v2.SpotParameters(**SOL))
    perps = (drift_v2.PerpParameters(**PERP, unrealized_pnl_imf_factor=profit_factor),)
    return drift_v2.parts(inputs, drift_v2.terms(drift_v2.Parameters(spots=spots, perps=perps)), 1, level)


@pytest.mark.parametrize(
    ("level", "sol", "perp", "profit"),
    [
        (drift_v2.INITIAL, 1.5, 0.5, 50 * 0.3524),  # the account's own ratio; 1.1 / (1 + 0.3 x root of 50) of the profit
        (drift_v2.FILL, 1.15, 0.075, 50 * 0.3524),
        (drift_v2.MAINTENANCE, 1.1, 0.05, 50.0),
    ],
)
def test_parts_at_each_level(level: int, sol: float, perp: float, profit: float) -> None:
    found = parts(level, 10.0, -150.0, 0.3)
    assert [name for name, _ in found] == [
        *(f"{market}, {side}" for market in ("spot 0", "spot 1", "perp 0") for side in ("total collateral", "margin requirement")),
        "free collateral",
    ]
    by_hand = [25.0, 0.0, 0.0, -200 * sol - 0.01, profit * 0.5, -200 * 0.5 * perp - 0.02]
    assert [value for _, value in found] == approximately(*by_hand, sum(by_hand))


@pytest.mark.parametrize(
    ("level", "profit_usd"), [(drift_v2.INITIAL, 100.0), (drift_v2.FILL, 1_500 * 0.5 * 0.5), (drift_v2.MAINTENANCE, 1_500 * 0.5)]
)
def test_profit_is_bounded_at_initial_alone(level: int, profit_usd: float) -> None:
    name, collateral_usd = parts(level, 10.0, 1_300.0, 0.0)[4]
    assert name == "perp 0, total collateral"
    assert collateral_usd == pytest.approx(profit_usd)


@pytest.mark.parametrize(
    ("held", "collateral", "requirement"), [(1.0, 0.5, 0.0), (-1.0, 0.0, -0.5), (0.0, 0.0, 0.0), (math.inf, math.inf, 0.0)]
)
def test_what_is_held_is_collateral_and_what_is_owed_a_requirement(held: float, collateral: float, requirement: float) -> None:
    assert [value for _, value in parts(drift_v2.INITIAL, 10.0, -150.0, 0.0, held)[:2]] == [collateral, requirement]


def test_where_bids_and_asks_leave_as_much_the_bids_are_taken_as_filled() -> None:
    """10 of the quote, at 0.50: 15 held and 5 paid, rather than 7 held and 3 received."""
    none, some = np.zeros(0), np.zeros(0, dtype=np.int64)
    inputs = drift_v2.Inputs(
        spot_start=np.array([0, 1]),
        spot=np.array([0]),
        spot_balance=np.array([10.0]),
        spot_bids=np.array([5.0]),
        spot_asks=np.array([3.0]),
        spot_orders=np.array([0]),
        perp_start=np.array([0, 0]),
        perp=some,
        perp_base=none,
        perp_quote=none,
        perp_bids=none,
        perp_asks=none,
        perp_orders=some,
        custom_ratio=np.zeros(1),
        spot_usd=np.array([0.5]),
        spot_deposits=np.zeros(1),
        perp_usd=none,
    )
    quote = drift_v2.terms(drift_v2.Parameters(spots=(drift_v2.SpotParameters(**QUOTE),)))
    assert [value for _, value in drift_v2.parts(inputs, quote, 0)] == [7.5, -2.5, 5.0]


# ---- liquidation ----------------------------------------------------------------------------------------------------------------------

USD = drift_v2.QUOTE_PRECISION


def test_what_cannot_cover_a_shortage_is_unbounded() -> None:
    terms = {"liquidation_fee": 10_000, "insurance_fee": 0, "quote_price": USD}
    assert drift_v2.perp_base_to_cover_shortage(USD, margin_ratio=100, price=USD, **terms) is None
    assert drift_v2.perp_base_to_cover_shortage(USD, margin_ratio=500, price=0, **terms) is None
    costly = terms | {"insurance_fee": 100_000}
    assert drift_v2.perp_base_to_cover_shortage(USD, margin_ratio=500, price=USD, **costly) is None
    spot = {"asset_multiplier": 1_000_000, "liability_multiplier": 1_000_000, "liability_decimals": 9, "price": USD}
    assert drift_v2.liability_to_cover_shortage(USD, asset_weight=10_000, liability_weight=10_000, insurance_fee=0, **spot) is None
    assert drift_v2.liability_to_cover_shortage(USD, asset_weight=9_000, liability_weight=10_000, insurance_fee=200_000, **spot) is None


def test_the_least_that_a_base_frees_is_enough_to_bound_it() -> None:
    """Freed by a whole base, in 1e-6 USD: 1 of a price of 1, less than 1, and 1e-6 of a million USD."""
    plain = {"liquidation_fee": 0, "insurance_fee": 0, "quote_price": USD}
    assert drift_v2.perp_base_to_cover_shortage(7, margin_ratio=10_000, price=1, **plain) == 7 * 10**9
    assert drift_v2.perp_base_to_cover_shortage(7, margin_ratio=500, price=1, **plain) is None
    dear = plain | {"liquidation_fee": 9_999}
    assert drift_v2.perp_base_to_cover_shortage(7, margin_ratio=100, price=10**12, **dear) == 7 * 10**3


def test_the_least_that_a_token_frees_is_enough_to_bound_it() -> None:
    spot = {"liability_weight": 10_000, "liability_multiplier": 1_000_000, "liability_decimals": 6, "insurance_fee": 0}
    # 99,990 x 1.000091 is 99,999 of 100,000: one unit is freed
    nearly = {"asset_weight": 9_999, "asset_multiplier": 1_000_091, "price": 1}
    assert drift_v2.liability_to_cover_shortage(7, **spot, **nearly) == 7 * 10**11
    assert drift_v2.liability_to_cover_shortage(7, **spot, **nearly | {"price": 0}) is None
    # weights that are alike bound nothing, whatever the liquidators get
    assert drift_v2.liability_to_cover_shortage(7, **spot, asset_weight=10_000, asset_multiplier=900_000, price=USD) is None


def test_sizes_follow_the_tokens_decimals() -> None:
    terms = {"asset_weight": 8_000, "liability_weight": 12_000, "asset_multiplier": 1_000_000, "liability_multiplier": 1_000_000}
    found = [
        drift_v2.liability_to_cover_shortage(10 * USD, liability_decimals=decimals, price=100 * USD, insurance_fee=0, **terms)
        for decimals in (4, 6, 9)
    ]
    assert found == [2_500, 250_000, 250_000_000]


def test_an_asset_that_is_nearly_gone_is_taken_whole() -> None:
    terms = {
        "asset_multiplier": 1_000_000,
        "asset_decimals": 9,
        "asset_price": 100 * USD,
        "liability_multiplier": 1_000_000,
        "liability_decimals": 6,
        "liability_price": USD,
    }
    one = 10**9
    alike = terms | {"asset_decimals": 6}
    assert drift_v2.asset_for_liability(100 * USD, asset_balance=10**6, **alike) == 10**6
    assert drift_v2.asset_for_liability(99_500_000, asset_balance=10**6, **alike) == 10**6
    assert drift_v2.asset_for_liability(98_000_000, asset_balance=10**6, **alike) == 980_000
    assert drift_v2.asset_for_liability(99_000_000, asset_balance=10**6, **alike) == 990_000  # a dollar away
    # of other decimals the program's dollar is another: 10 units at 100 USD, in 1e-9, are 1,000 and more by 10^3; in 1e-4 less by 10^2
    assert drift_v2.asset_for_liability(99_500_000, asset_balance=one, **terms) == 995_000_000
    assert drift_v2.asset_for_liability(100 * USD, asset_balance=one + 9, **terms) == one + 9
    assert drift_v2.asset_for_liability(100 * USD, asset_balance=one + 10, **terms) == one
    coarse = terms | {"asset_decimals": 4}
    assert drift_v2.asset_for_liability(98_000_000, asset_balance=10**6, **coarse) == 10**6
    assert drift_v2.asset_for_liability(100 * USD, asset_balance=2 * 10**6, **coarse) == 10**4


def test_at_least_the_smallest_unit_changes_hands() -> None:
    fair = {"asset_multiplier": 1_000_000, "liability_multiplier": 1_000_000}
    dear = {"asset_decimals": 6, "asset_price": 10**6 * USD, "liability_decimals": 6, "liability_price": USD}
    assert drift_v2.asset_for_liability(1, asset_balance=10**9, **dear, **fair) == 1
    weights = {"asset_weight": 8_000, "liability_weight": 12_000, "insurance_fee": 0}
    assert drift_v2.liability_to_cover_shortage(1, liability_decimals=4, price=10**6 * USD, **weights, **fair) == 1


def test_a_shortage_is_covered_bit_by_bit() -> None:
    terms = {"duration_slots": 150, "initial_share": 1_000}
    assert drift_v2.share_to_liquidate(49 * USD, freed=0, slots=0, **terms) == 10_000
    assert drift_v2.share_to_liquidate(50 * USD - 1, freed=0, slots=0, **terms) == 10_000
    assert drift_v2.share_to_liquidate(50 * USD, freed=0, slots=0, **terms) == 1_000
    assert drift_v2.share_to_liquidate(100 * USD, freed=0, slots=0, **terms) == 1_000
    assert drift_v2.share_to_liquidate(100 * USD, freed=0, slots=75, **terms) == 6_000
    # half of 200 in all is released less the 100 that are freed: nothing now
    assert drift_v2.share_to_liquidate(100 * USD, freed=100 * USD, slots=60, **terms) == 0
    assert drift_v2.share_to_liquidate(100 * USD, freed=100 * USD, slots=0, **terms) == 0
    # 60 % of 120 in all, less 20
    assert drift_v2.share_to_liquidate(100 * USD, freed=20 * USD, slots=75, **terms) == 5_200
    assert drift_v2.share_to_liquidate(100 * USD, freed=0, slots=10_000, **terms) == 10_000
    assert drift_v2.share_to_liquidate(100 * USD, freed=0, slots=1, duration_slots=0, initial_share=0) == 10_000


def test_a_liquidators_fee_grows_after_the_grace_to_its_most() -> None:
    found = [drift_v2.liquidation_fee(10_000, fee_max=20_000, slots=slots) for slots in (0, 1_499, 1_500, 9_999, 10_001)]
    assert found == [10_000, 10_000, 11_500, 19_999, 20_000]
    assert {type(fee) for fee in found} == {int}


def test_fees_that_nobody_can_bear_are_none() -> None:
    perp = {"base": 10**9, "margin_ratio": 500, "liquidator_fee": 10_000, "price": USD, "quote_price": USD, "fee_max": 50_000}
    assert drift_v2.perp_insurance_fee(0, **perp) == 38_000
    for nothing in ({"base": 0}, {"price": 0}, {"quote_price": 0}, {"liquidator_fee": 50_000}, {"price": 1, "quote_price": USD - 1}):
        assert drift_v2.perp_insurance_fee(0, **(perp | nothing)) == 0
    spot = {
        "tokens": 10**9,
        "asset_weight": 8_000,
        "asset_multiplier": 1_000_000,
        "liability_weight": 10_000,
        "liability_multiplier": 1_000_000,
        "liability_decimals": 9,
        "price": USD,
        "fee_max": 50_000,
    }
    assert drift_v2.spot_insurance_fee(0, **spot) == 50_000
    assert drift_v2.spot_insurance_fee(0, **(spot | {"asset_multiplier": 1, "liability_multiplier": 1})) == 50_000
    alike = {"asset_weight": 10_000, "asset_multiplier": 900_000}
    assert drift_v2.spot_insurance_fee(0, **(spot | {"asset_multiplier": 2_000_000})) == 0
    assert drift_v2.spot_insurance_fee(10 * USD, **spot) == 0
    for nothing in ({"tokens": 0}, {"price": 0}, {"asset_weight": 10_000}, alike, {"liability_multiplier": 0}):
        assert drift_v2.spot_insurance_fee(0, **(spot | nothing)) == 0


def test_a_loss_is_shared_by_those_who_are_there() -> None:
    with pytest.raises(ValueError, match="nobody"):
        drift_v2.funding_delta_for_loss(USD, base_long=0, base_short=0)
    assert drift_v2.funding_delta_for_loss(-USD, base_long=10**9, base_short=-(10**9)) == 500_000_000
    assert drift_v2.interest_delta_for_loss(1, cumulative_interest=10**10, deposits=0) == 0


def test_faults_of_parameters_are_named_at_once() -> None:
    given = {"spots": [QUOTE, SOL | {"imf_factor": 2.0}], "perps": [PERP | {"margin_ratio_initial": 0.0}, {"name": "P"}]}
    found = "\n".join(faults.faults(drift_v2.Parameters, given))
    for place in ("spots[1].imf_factor", "perps[0].margin_ratio_initial", "perps[1].margin_ratio_maintenance"):
        assert place in found
    wrong: dict[str, Any]
    for wrong in (
        {"spots": [QUOTE, SOL | {"initial_asset_weight": 0.95}]},
        {"spots": [QUOTE, SOL | {"initial_liability_weight": 1.0}]},
        {"spots": [QUOTE], "perps": [PERP | {"margin_ratio_initial": 0.01}]},
        {"spots": []},
        {"spots": [SOL]},
    ):
        assert isinstance(faults.read(drift_v2.Parameters, wrong), list)
    assert isinstance(faults.read(drift_v2.Parameters, {"spots": [QUOTE, SOL], "perps": [PERP]}), drift_v2.Parameters)
    level = {"spots": [QUOTE], "perps": [PERP | {"margin_ratio_initial": 0.05}]}
    assert isinstance(faults.read(drift_v2.Parameters, level), drift_v2.Parameters)
