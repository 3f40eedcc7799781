"""The rules that charge by position, by hand: Bybit's short options, OKX's MR9, Hyperliquid's borrowing."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.rules import bybit_uta, hyperliquid_pm, okx
from engine.rules.faults import read
from engine.rules.interface import COLUMNS, DISTANCE, EQUITY_USD, INITIAL_USD, MAINTENANCE_USD


def array(*values: float) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


# ---- Bybit ----------------------------------------------------------------------------------------------------------------------------

BYBIT = bybit_uta.parameter_arrays(bybit_uta.Parameters())


@pytest.mark.parametrize(
    ("is_call", "strike", "entry", "mark", "initial"),
    [
        (False, 900.0, 10.0, 20.0, 0.1 * 1_000 + 20),  # out of the money by 100: 50 is below the floor
        (False, 980.0, 30.0, 20.0, 0.15 * 1_000 - 20 + 30),  # the entry is above the mark
        (False, 1_100.0, 10.0, 120.0, 0.15 * 1_000 + 120),  # in the money: nothing is taken off
        (True, 1_100.0, 10.0, 20.0, 0.1 * 1_000 + 20),
        (True, 1_010.0, 10.0, 20.0, 0.15 * 1_000 - 10 + 20),
        (True, 900.0, 10.0, 120.0, 0.15 * 1_000 + 120),
    ],
)
def test_initial_margin_of_a_short_option(is_call: bool, strike: float, entry: float, mark: float, initial: float) -> None:
    assert bybit_uta.initial_usd(BYBIT, is_call, 1_000.0, strike, entry, mark) == pytest.approx(initial, rel=1e-15)


def test_maintenance_takes_the_larger_of_index_and_mark_and_is_the_least_initial() -> None:
    assert bybit_uta.maintenance_usd(BYBIT, 1_000.0, 20.0) == pytest.approx(30 + 20 + 2)
    assert bybit_uta.maintenance_usd(BYBIT, 100.0, 3_000.0) == pytest.approx(90 + 3_000 + 0.2)
    assert bybit_uta.initial_usd(BYBIT, False, 100.0, 3_100.0, 0.0, 3_000.0) == pytest.approx(3_090.2)  # not 15 + 3,000


def test_long_options_need_nothing() -> None:
    inputs = bybit_uta.Inputs(
        start=np.array([0, 2]),
        size=array(5.0, -2.0),
        is_call=np.array([True, False]),
        index_usd=array(1_000.0, 1_000.0),
        strike_usd=array(900.0, 900.0),
        entry_usd=array(10.0, 10.0),
        mark_usd=array(20.0, 20.0),
        equity_usd=array(500.0),
    )
    out = np.empty((1, COLUMNS))
    bybit_uta.margins(inputs, BYBIT, out)
    assert out[0] == pytest.approx([500.0, 2 * 120.0, 2 * 52.0, (500 - 104) / 7_000])
    parts = bybit_uta.parts(inputs, BYBIT, 0)
    assert [name for name, _ in parts] == ["Position IM, leg 1", "Position MM, leg 1", "Account IM", "Account MM"]
    assert [amount for _, amount in parts] == pytest.approx([240.0, 104.0, 240.0, 104.0])


def test_the_rate_at_which_bybit_liquidates() -> None:
    assert bybit_uta.maintenance_rate(10_000.0, 1_260.0) == 0.126
    assert bybit_uta.maintenance_rate(0.0, 1.0) == math.inf
    assert bybit_uta.maintenance_rate(-5.0, 0.0) == 0.0
    assert math.isnan(bybit_uta.maintenance_rate(math.nan, 1.0))


# ---- OKX ------------------------------------------------------------------------------------------------------------------------------

TIERS = {"tier_ends_usd": [100.0, 500.0], "rates": [[0.01, 0.02, 0.03], [0.1, 0.2, 0.3]], "price_floors": [0.99, 0.0]}


def okx_terms(**changed: object) -> okx.ParameterArrays:
    parameters = read(okx.Parameters, {**TIERS, **changed})
    assert isinstance(parameters, okx.Parameters), parameters
    return okx.parameter_arrays(parameters)


@pytest.mark.parametrize(
    ("hedged", "price", "charge"),
    [
        (0.0, 1.0, 0.0),
        (50.0, 1.0, 0.5),
        (100.0, 1.0, 1.0),
        (101.0, 1.0, 1.02),
        (500.0, 0.99, 9.0),
        (1_000.0, 1.0, 24.0),
        (1_000.0, 0.9899, 240.0),
        (-1_000.0, 1.0, 24.0),
    ],
)
def test_each_tier_charges_what_lies_in_it(hedged: float, price: float, charge: float) -> None:
    assert okx.mr9_usd(hedged, price, okx_terms()) == pytest.approx(charge, rel=1e-14)


def test_mr9_comes_on_top_of_the_other_components() -> None:
    inputs = okx.Inputs(np.array([0, 2]), array(50.0, 1_000.0), array(1.0, 1.0), array(5.5), array(100.0))
    terms = okx_terms(initial_factor=1.3)
    out = np.empty((1, COLUMNS))
    okx.margins(inputs, terms, out)
    assert out[0] == pytest.approx([100.0, 39.0, 30.0, 70 / 1_050])
    assert [amount for _, amount in okx.parts(inputs, terms, 0)] == pytest.approx([0.5, 24.0, 5.5, 30.0])


def test_all_that_does_not_fit_together_is_named() -> None:
    found = read(okx.Parameters, {"tier_ends_usd": [5.0, 5.0], "rates": [[0.2, 0.1]], "price_floors": [0.5, 0.9]})
    assert isinstance(found, list)
    for fault in ("tier_ends_usd must rise", "price_floors must fall", "rates needs 2 rows", "needs 3 rates", "rates must not fall"):
        assert fault in found[0]


# ---- Hyperliquid ----------------------------------------------------------------------------------------------------------------------


def hyperliquid(cash_usd: float, perp_maintenance_usd: float, supply_cap: float = 1e18) -> hyperliquid_pm.Inputs:
    return hyperliquid_pm.Inputs(
        np.array([0, 1]), array(500.0), array(supply_cap), array(40.0), array(0.5), array(cash_usd), array(perp_maintenance_usd)
    )


def test_the_row_says_what_may_be_borrowed_and_when_the_venue_liquidates() -> None:
    terms = hyperliquid_pm.parameter_arrays(hyperliquid_pm.Parameters())
    inputs = hyperliquid(-9_200.0, 150.0)
    out = np.empty((1, COLUMNS))
    hyperliquid_pm.margins(inputs, terms, out)
    assert out[0, EQUITY_USD] == 10_800.0
    assert out[0, EQUITY_USD] - out[0, INITIAL_USD] == pytest.approx(800.0)  # 10,000 borrowable, 9,200 owed
    assert out[0, EQUITY_USD] - out[0, MAINTENANCE_USD] == pytest.approx(15_000 - 9_370 / 0.95)
    assert out[0, DISTANCE] == pytest.approx((15_000 - 9_370 / 0.95) / 20_000)
    assert [amount for _, amount in hyperliquid_pm.parts(inputs, terms, 0)] == pytest.approx([10_000, 9_370, 15_000, 9_370 / 15_000])


def test_caps_hold_and_an_account_without_debt_owes_no_offset() -> None:
    terms = hyperliquid_pm.parameter_arrays(hyperliquid_pm.Parameters(borrow_cap_usd=1_000.0))
    inputs = hyperliquid(70.0, 0.0, supply_cap=100.0)
    assert hyperliquid_pm.borrowable_usd(inputs, 0) == 2_000.0
    assert hyperliquid_pm.liquidation_value_usd(inputs, terms, 0) == 1_070.0
    assert hyperliquid_pm.requirement_usd(inputs, terms, 0) == 0.0
    assert hyperliquid_pm.parts(inputs, terms, 0)[-1][1] == 0.0


def test_a_debt_without_collateral_is_infinitely_over() -> None:
    terms = hyperliquid_pm.parameter_arrays(hyperliquid_pm.Parameters())
    nothing = hyperliquid(-10.0, 0.0)._replace(balance=array(0.0))
    out = np.empty((1, COLUMNS))
    hyperliquid_pm.margins(nothing, terms, out)
    assert out[0, DISTANCE] == -math.inf
    assert hyperliquid_pm.parts(nothing, terms, 0)[-1][1] == math.inf
