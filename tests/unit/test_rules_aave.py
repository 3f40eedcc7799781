"""Aave's rule by hand: health factor, efficiency mode, collateral that is not enabled, close factor, dust, bonus."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from engine.rules import aave_v3, faults

RESERVES = (
    aave_v3.ReserveParameters(name="ETH", loan_to_value=0.75, liquidation_threshold=0.8, liquidation_bonus=1.05),
    aave_v3.ReserveParameters(name="stETH", loan_to_value=0.7, liquidation_threshold=0.75, liquidation_bonus=1.07),
    aave_v3.ReserveParameters(name="USDC", loan_to_value=0.0, liquidation_threshold=0.0),
)
STAKED = aave_v3.CategoryParameters(name="staked", collateral=(0, 1), loan_to_value=0.9, liquidation_threshold=0.95, liquidation_bonus=1.01)
ARRAYS = aave_v3.terms(aave_v3.Parameters(reserves=RESERVES, categories=(STAKED,)))


def account(
    supplied: list[float], owed: list[float], mode: int = 0, enabled: tuple[bool, bool, bool] = (True, True, True)
) -> aave_v3.Inputs:
    return aave_v3.Inputs(
        start=np.array([0, 3]),
        reserve=np.array([0, 1, 2]),
        supplied=np.array(supplied),
        is_collateral=np.array(enabled),
        owed=np.array(owed),
        mode=np.array([mode]),
        price_usd=np.array([2_000.0, 1_900.0, 1.0]),
    )


def margins(inputs: aave_v3.Inputs) -> list[float]:
    out = np.empty((1, 4))
    aave_v3.margins(inputs, ARRAYS, out)
    return [float(value) for value in out[0]]


def health_factor(inputs: aave_v3.Inputs) -> float:
    out = np.empty(1)
    aave_v3.health_factors(inputs, ARRAYS, out)
    return float(out[0])


def available(inputs: aave_v3.Inputs) -> float:
    out = np.empty(1)
    aave_v3.available_borrows_usd(inputs, ARRAYS, out)
    return float(out[0])


def test_margins_leave_the_venues_own_headroom() -> None:
    inputs = account([10.0, 0.0, 500.0], [0.0, 0.0, 12_000.0], enabled=(True, True, False))
    equity, initial, maintenance, distance = margins(inputs)
    assert equity == 20_000.0 + 500.0 - 12_000.0
    assert (equity - initial, equity - maintenance) == pytest.approx((15_000.0 - 12_000.0, 16_000.0 - 12_000.0))
    assert health_factor(inputs) == pytest.approx(16_000.0 / 12_000.0)
    assert available(inputs) == pytest.approx(3_000.0)
    fallen = inputs._replace(price_usd=inputs.price_usd * np.array([1.0 - distance, 1.0, 1.0]))
    assert health_factor(fallen) == pytest.approx(1.0)


def test_an_efficiency_mode_applies_only_inside_its_category() -> None:
    both = [1.0, 1.0, 1_000.0]
    owed = [0.0, 0.0, 1_000.0]
    assert health_factor(account(both, owed)) == pytest.approx((2_000 * 0.8 + 1_900 * 0.75) / 1_000)
    assert health_factor(account(both, owed, mode=1)) == pytest.approx((2_000 + 1_900) * 0.95 / 1_000)


def test_what_is_not_enabled_backs_nothing() -> None:
    assert health_factor(account([1.0, 1.0, 0.0], [0.0, 0.0, 1_000.0], enabled=(False, True, True))) == pytest.approx(1_900 * 0.75 / 1_000)


def test_each_mode_has_its_own_ratios_and_no_mode_the_reserves() -> None:
    other = aave_v3.CategoryParameters(
        name="dollars", collateral=(2,), loan_to_value=0.92, liquidation_threshold=0.94, liquidation_bonus=1.02
    )
    found = aave_v3.terms(aave_v3.Parameters(reserves=RESERVES, categories=(STAKED, other)))
    assert found.loan_to_value.tolist() == [[0.75, 0.7, 0.0], [0.9, 0.9, 0.0], [0.75, 0.7, 0.92]]
    assert found.threshold.tolist() == [[0.8, 0.75, 0.0], [0.95, 0.95, 0.0], [0.8, 0.75, 0.94]]
    assert found.bonus.tolist() == [[1.05, 1.07, 1.0], [1.01, 1.01, 1.0], [1.05, 1.07, 1.02]]


def test_without_a_word_there_is_no_bonus_no_fee_and_no_mode() -> None:
    reserve = aave_v3.ReserveParameters(name="ETH", loan_to_value=0.75, liquidation_threshold=0.8)
    assert (reserve.liquidation_bonus, reserve.protocol_fee) == (1.0, 0.0)
    assert aave_v3.CategoryParameters(name="m", collateral=(0,), loan_to_value=0.9, liquidation_threshold=0.95).liquidation_bonus == 1.0
    assert aave_v3.terms(aave_v3.Parameters(reserves=(reserve,))).threshold.tolist() == [[0.8]]


def test_a_debt_of_a_dollar_is_a_debt_and_none_is_none() -> None:
    assert health_factor(account([1.0, 0.0, 0.0], [0.0, 0.0, 1.0])) == 1_600.0
    assert margins(account([1.0, 0.0, 0.0], [0.0, 0.0, 1.0]))[3] == 1.0 - 1.0 / 1_600.0
    assert health_factor(account([0.0, 0.0, 0.0], [0.0, 0.0, 0.0])) == math.inf
    assert margins(account([0.0, 0.0, 0.0], [0.0, 0.0, 0.0])) == [0.0, 0.0, 0.0, math.inf]


def test_what_is_infinite_is_known() -> None:
    """The row has what can be said: all of the collateral may go but for what covers the debt."""
    found = margins(account([math.inf, 0.0, 0.0], [0.0, 0.0, 1_000.0]))
    assert (found[0], found[3]) == (math.inf, 1.0)


def test_distance_without_debt_and_without_collateral() -> None:
    assert margins(account([1.0, 0.0, 0.0], [0.0, 0.0, 0.0]))[3] == math.inf
    assert health_factor(account([1.0, 0.0, 0.0], [0.0, 0.0, 0.0])) == math.inf
    assert margins(account([0.0, 0.0, 0.0], [0.0, 0.0, 1.0]))[3] == -math.inf
    assert available(account([0.0, 0.0, 0.0], [0.0, 0.0, 1.0])) == 0.0


def test_what_cannot_be_valued_is_not_healthy() -> None:
    for inputs in (account([math.nan, 0.0, 0.0], [0.0, 0.0, 0.0]), account([1.0, 0.0, 0.0], [0.0, 0.0, math.nan])):
        assert all(math.isnan(value) for value in margins(inputs))
        assert math.isnan(health_factor(inputs))
        assert math.isnan(available(inputs))


def test_parts_name_collateral_and_debt() -> None:
    inputs = account([1.0, 0.0, 0.0], [0.0, 0.0, 1_000.0], enabled=(True, False, False))
    assert aave_v3.parts(inputs, ARRAYS, 0) == [
        ("reserve 0, collateral at liquidation threshold", 1_600.0),
        ("reserve 0, debt", 0.0),
        ("reserve 1, debt", 0.0),
        ("reserve 2, debt", -1_000.0),
        ("health factor", 1.6),
    ]


def test_parts_are_of_the_account_that_is_asked_for() -> None:
    two = aave_v3.Inputs(
        start=np.array([0, 1, 3]),
        reserve=np.array([2, 0, 1]),
        supplied=np.array([5.0, 1.0, 0.0]),
        is_collateral=np.array([False, True, False]),
        owed=np.array([0.0, 0.0, 0.5]),
        mode=np.array([0, 0]),
        price_usd=np.array([2_000.0, 1_900.0, 1.0]),
    )
    assert aave_v3.parts(two, ARRAYS, 1) == [
        ("reserve 0, collateral at liquidation threshold", 1_600.0),
        ("reserve 0, debt", 0.0),
        ("reserve 1, debt", -950.0),
        ("health factor", 1_600.0 / 950.0),
    ]
    assert aave_v3.parts(two, ARRAYS, 0) == [("reserve 2, debt", 0.0), ("health factor", math.inf)]


# ---- liquidation ----------------------------------------------------------------------------------------------------------------------


def liquidation(health: float, *, bonus: float = 1.05, **given: Any) -> aave_v3.Liquidation:
    return aave_v3.liquidation(
        health, **({"all_debt_usd": 20_000.0, "debt_usd": 20_000.0, "collateral_usd": 22_000.0} | given), bonus=bonus
    )


def test_half_of_all_debt_until_the_health_factor_is_low() -> None:
    assert liquidation(0.96).repaid_usd == 10_000.0
    assert liquidation(0.96).taken_usd == pytest.approx(10_500.0)
    assert liquidation(0.95).repaid_usd == 20_000.0
    assert liquidation(0.9500001).repaid_usd == 10_000.0
    assert liquidation(1.0) == (0.0, 0.0, 0.0, False)


def test_the_close_factor_is_of_all_debts_not_of_one() -> None:
    assert liquidation(0.96, debt_usd=8_000.0).repaid_usd == 8_000.0
    assert liquidation(0.96, debt_usd=15_000.0).repaid_usd == 10_000.0


def test_small_sides_may_be_closed_whole() -> None:
    small = liquidation(0.96, all_debt_usd=1_999.0, debt_usd=1_999.0, collateral_usd=2_200.0)
    assert small.repaid_usd == 1_999.0
    assert liquidation(0.96, all_debt_usd=2_000.0, debt_usd=2_000.0, collateral_usd=2_200.0).repaid_usd == 1_000.0
    little_collateral = liquidation(0.96, collateral_usd=1_999.0)
    assert little_collateral.taken_usd == 1_999.0
    assert little_collateral.repaid_usd == pytest.approx(1_999.0 / 1.05)


def test_collateral_of_the_limit_itself_is_not_small() -> None:
    terms = {"all_debt_usd": 3_000.0, "debt_usd": 3_000.0}
    assert liquidation(0.96, collateral_usd=2_000.0, **terms).repaid_usd == 1_500.0
    assert liquidation(0.96, collateral_usd=1_999.0, **terms).repaid_usd == pytest.approx(1_999.0 / 1.05)


def test_the_pools_constants_are_those_of_its_third_version() -> None:
    """LiquidationLogic.sol of v3.3: DEFAULT_LIQUIDATION_CLOSE_FACTOR, CLOSE_FACTOR_HF_THRESHOLD, MIN_BASE_MAX_CLOSE_FACTOR_THRESHOLD
    and, half of that, MIN_LEFTOVER_BASE."""
    assert aave_v3.LiquidationParameters() == aave_v3.LiquidationParameters(
        close_factor=0.5, close_factor_health_factor=0.95, whole_below_usd=2_000.0, leftover_min_usd=1_000.0
    )


def test_the_bonus_and_the_protocols_share_of_it() -> None:
    found = liquidation(0.96, protocol_fee=0.1)
    assert found.protocol_fee_usd == pytest.approx(10_000.0 * 0.05 * 0.1)
    assert liquidation(0.96, bonus=1.0, protocol_fee=0.1).protocol_fee_usd == pytest.approx(0.0)
    assert liquidation(0.96).protocol_fee_usd == 0.0


def test_dust_of_either_side_is_refused_unless_one_is_gone() -> None:
    assert not aave_v3.leaves_dust(1_000.0, 1_000.0)
    assert aave_v3.leaves_dust(999.0, 5_000.0)
    assert aave_v3.leaves_dust(5_000.0, 999.0)
    assert not aave_v3.leaves_dust(0.0, 1.0)
    assert not aave_v3.leaves_dust(1.0, 0.0)
    assert liquidation(0.96, collateral_usd=11_000.0).leaves_dust  # 10,000 owed and 500 of collateral would be left
    assert not liquidation(0.96).leaves_dust
    assert aave_v3.leaves_dust(0.5, 5_000.0)
    assert aave_v3.leaves_dust(5_000.0, 0.5)
    assert not liquidation(0.95, collateral_usd=21_500.0).leaves_dust  # 500 of collateral, but the debt is gone


def test_what_is_not_known_is_not_liquidated_by_a_number() -> None:
    assert math.isnan(liquidation(math.nan).repaid_usd)
    assert math.isnan(liquidation(0.9, collateral_usd=math.nan).taken_usd)
    assert math.isnan(liquidation(0.9, all_debt_usd=math.nan).protocol_fee_usd)
    assert not liquidation(0.9, debt_usd=math.nan).leaves_dust
    assert liquidation(0.9, all_debt_usd=math.inf, debt_usd=math.inf, collateral_usd=math.inf).repaid_usd == math.inf


def test_interest_that_doubles_each_second() -> None:
    """A rate of one a second: (1 + 1)^n has the terms 1, n, n (n - 1) / 2, n (n - 1) (n - 2) / 6, and those after are left out."""
    rate, ray = aave_v3.RAY * 31_536_000, 10**27
    assert [aave_v3.compounded_interest(rate, elapsed_s) for elapsed_s in range(5)] == [ray, 2 * ray, 4 * ray, 8 * ray, 15 * ray]
    assert [aave_v3.linear_interest(ray, years * 31_536_000) for years in range(3)] == [ray, 2 * ray, 3 * ray]
    assert aave_v3.accrued_balance(7, 3 * ray, ray, 31_536_000) == 42
    assert [aave_v3.accrued_debt(7, 3 * ray, rate, elapsed_s) for elapsed_s in (2, 4)] == [84, 315]


def test_linear_interest_rounds_the_share_of_the_year_first() -> None:
    """A second is 31,709,791,983,764,586,504.3 of 1e27 parts of a year; at a rate of 1,000 that is 313 more than counts."""
    assert aave_v3.linear_interest(1_000 * 10**27, 1) == 10**27 + 1_000 * 31_709_791_983_764_586_504
    assert aave_v3.linear_interest(10 * 10**27, 2) == 10**27 + 634_195_839_675_291_730_090  # of 634,195,839,675,291,730,086


def test_a_supplied_balance_is_rounded_in_rays_and_then_in_units() -> None:
    """0.4999999996 of a unit: a ray's billionth rounds it to 0.5, and that to 1."""
    assert aave_v3.accrued_balance(1, 4_999_999_996 * 10**17, 0, 0) == 1
    assert aave_v3.accrued_balance(1, 4_999_999_995 * 10**17, 0, 0) == 1
    assert aave_v3.accrued_balance(1, 4_999_999_994 * 10**17, 0, 0) == 0
    assert aave_v3.accrued_balance(3, 5 * 10**26, 0, 0) == 2


def test_halves_of_a_ray_are_rounded_up() -> None:
    assert aave_v3.ray_multiply(1, 10**27 // 2) == 1
    assert aave_v3.ray_multiply(1, 10**27 // 2 - 1) == 0


def test_faults_of_parameters_are_named_at_once() -> None:
    eth = {"name": "ETH", "loan_to_value": 0.75, "liquidation_threshold": 1.2, "liquidation_bonus": 0.9, "colour": "red"}
    found = "\n".join(faults.faults(aave_v3.Parameters, {"reserves": [eth]}))
    for place in ("liquidation_threshold", "liquidation_bonus", "colour"):
        assert f"reserves[0].{place}" in found
    good = {"name": "ETH", "loan_to_value": 0.75, "liquidation_threshold": 0.8}
    mode = {"name": "m", "collateral": [1], "loan_to_value": 0.9, "liquidation_threshold": 0.95}
    for wrong in (
        {"reserves": [good | {"loan_to_value": 0.9}]},
        {"reserves": [good], "categories": [mode]},
        {"reserves": [good, good], "categories": [mode | {"loan_to_value": 0.96}]},
    ):
        assert isinstance(faults.read(aave_v3.Parameters, wrong), list)
    assert isinstance(faults.read(aave_v3.Parameters, {"reserves": [good, good], "categories": [mode]}), aave_v3.Parameters)


def test_a_pool_has_no_more_reserves_and_modes_than_it_can_number() -> None:
    """One bit of its map for each reserve's debt and collateral, 256 in all; modes in a byte, of which 0 is none."""
    reserves = [{"name": f"R{number}", "loan_to_value": 0.5, "liquidation_threshold": 0.6} for number in range(129)]
    modes = [{"name": f"M{number}", "collateral": [], "loan_to_value": 0.5, "liquidation_threshold": 0.6} for number in range(256)]
    assert isinstance(faults.read(aave_v3.Parameters, {"reserves": reserves[:128], "categories": modes[:255]}), aave_v3.Parameters)
    assert faults.read(aave_v3.Parameters, {"reserves": reserves}) == ["reserves: Expected `array` of length <= 128"]
    assert faults.read(aave_v3.Parameters, {"reserves": reserves[:1], "categories": modes}) == [
        "categories: Expected `array` of length <= 255"
    ]
