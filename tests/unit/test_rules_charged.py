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
        (True, 1_000.5, 10.0, 20.0, 0.15 * 1_000 - 0.5 + 20),  # half a dollar out of the money, then in it
        (True, 999.5, 10.0, 20.0, 0.15 * 1_000 + 20),
        (False, 999.5, 10.0, 20.0, 0.15 * 1_000 - 0.5 + 20),
        (False, 1_000.5, 10.0, 20.0, 0.15 * 1_000 + 20),
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


def test_only_what_is_short_has_parts() -> None:
    inputs = bybit_uta.Inputs(
        start=np.array([0, 1, 5]),
        size=array(-9.0, 0.5, -0.5, 0.0, -1.0),
        is_call=np.array([True] * 5),
        index_usd=array(*[1_000.0] * 5),
        strike_usd=array(*[900.0] * 5),
        entry_usd=array(*[10.0] * 5),
        mark_usd=array(*[20.0] * 5),
        equity_usd=array(500.0, 500.0),
    )
    parts = bybit_uta.parts(inputs, BYBIT, 1)
    assert [name.rpartition(" ")[2] for name, _ in parts] == ["2", "2", "4", "4", "IM", "MM"]
    assert [amount for _, amount in parts] == pytest.approx([85.0, 26.0, 170.0, 52.0, 255.0, 78.0])
    out = np.empty((2, COLUMNS))
    bybit_uta.margins(inputs, BYBIT, out)
    assert out[1, [INITIAL_USD, MAINTENANCE_USD]] == pytest.approx([255.0, 78.0])


def test_the_help_centres_factors() -> None:
    """Of its examples, articles 000001546 and 000001735: 3 % and 0.2 % of maintenance, 15 % and 10 % of initial margin."""
    assert bybit_uta.Parameters() == bybit_uta.Parameters(
        maintenance_factor=0.03, liquidation_fee_rate=0.002, initial_factor_max=0.15, initial_factor_min=0.1
    )
    same = {"initial_factor_max": 0.15, "initial_factor_min": 0.15}
    assert isinstance(read(bybit_uta.Parameters, same), bybit_uta.Parameters)
    assert isinstance(read(bybit_uta.Parameters, same | {"initial_factor_min": 0.16}), list)


def test_the_rate_at_which_bybit_liquidates() -> None:
    assert bybit_uta.maintenance_rate(0.5, 0.25) == 0.5
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


@pytest.mark.parametrize(
    ("price", "rate"), [(1.2, 0.01), (0.99, 0.01), (0.98, 0.02), (0.95, 0.02), (0.94, 0.04), (0.9, 0.04), (0.89, 0.08), (0.0, 0.08)]
)
def test_the_first_floor_that_the_price_reaches_gives_the_rates(price: float, rate: float) -> None:
    terms = okx_terms(tier_ends_usd=[], rates=[[0.01], [0.02], [0.04], [0.08]], price_floors=[0.99, 0.95, 0.9, 0.0])
    assert okx.mr9_usd(100.0, price, terms) == 100.0 * rate


@pytest.mark.parametrize("price", [-0.5, math.inf, math.nan])
def test_a_stablecoins_price_that_is_none_spoils_the_charge(price: float) -> None:
    assert math.isnan(okx.mr9_usd(100.0, price, okx_terms()))


def test_gross_notional_is_of_hedges_either_way() -> None:
    inputs = okx.Inputs(np.array([0, 2]), array(50.0, -50.0), array(1.0, 1.0), array(0.0), array(11.0))
    out = np.empty((1, COLUMNS))
    okx.margins(inputs, okx_terms(), out)
    assert out[0] == pytest.approx([11.0, 1.0, 1.0, 0.1])  # initial is maintenance where the set has no factor


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


def test_what_fits_together_is_taken() -> None:
    def is_taken(**changed: object) -> bool:
        return isinstance(read(okx.Parameters, {**TIERS, **changed}), okx.Parameters)

    assert is_taken(rates=[[0.01, 0.01, 0.01], [0.1, 0.1, 0.3]])
    assert not is_taken(price_floors=[0.99, 0.5])  # below the last floor nothing would hold
    assert not is_taken(price_floors=[0.9, 0.9, 0.0], rates=[[0.01, 0.02, 0.03]] * 3)
    for floors, taken in ((64, True), (65, False)):
        falling = [1.0 - number / floors for number in range(floors - 1)] + [0.0]
        assert is_taken(price_floors=falling, rates=[[0.01, 0.02, 0.03]] * floors) is taken
    for tiers, taken in ((64, True), (65, False)):
        ends = [float(number) for number in range(1, tiers + 1)]
        assert is_taken(tier_ends_usd=ends, rates=[[0.01] * (tiers + 1)] * 2) is taken


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


def test_the_documents_numbers_and_no_cap_of_ours() -> None:
    """Portfolio margin's page: a borrow offset of 20 USDC, liquidation above 0.95; caps are of each token, so a set brings them."""
    assert hyperliquid_pm.Parameters() == hyperliquid_pm.Parameters(borrow_offset_usd=20.0, borrow_cap_usd=1e18, liquidation_ratio=0.95)


@pytest.mark.parametrize(
    ("cash_usd", "perps_usd", "required_usd"),
    [(0.5, 10.0, 30.0), (0.5, 0.0, 0.0), (0.0, 0.5, 20.5), (-0.5, 0.0, 20.5), (-0.5, 0.25, 20.75)],
)
def test_whoever_owes_anything_owes_the_offset_too(cash_usd: float, perps_usd: float, required_usd: float) -> None:
    terms = hyperliquid_pm.parameter_arrays(hyperliquid_pm.Parameters())
    inputs = hyperliquid(cash_usd, perps_usd)
    assert hyperliquid_pm.requirement_usd(inputs, terms, 0) == required_usd
    out = np.empty((1, COLUMNS))
    hyperliquid_pm.margins(inputs, terms, out)
    assert out[0, EQUITY_USD] - out[0, INITIAL_USD] == pytest.approx(10_000.0 + min(cash_usd, 0.0))


@pytest.mark.parametrize(("cash_usd", "perps_usd", "ratio"), [(0.0, 0.0, 0.0), (0.5, 0.0, 0.0), (0.5, 1.0, 42.0)])
def test_the_ratio_of_an_account_without_collateral(cash_usd: float, perps_usd: float, ratio: float) -> None:
    terms = hyperliquid_pm.parameter_arrays(hyperliquid_pm.Parameters())
    inputs = hyperliquid(cash_usd, perps_usd)._replace(balance=array(0.0))
    assert hyperliquid_pm.parts(inputs, terms, 0)[-1][1] == ratio
