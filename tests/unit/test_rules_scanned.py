"""The rules that look at scenarios, by hand: Deribit's futures, SPAN, Dederi's futures."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.rules import dederi, deribit_pm, span16
from engine.rules.faults import read
from engine.rules.indices import require_legs
from engine.rules.interface import COLUMNS, DISTANCE, EQUITY_USD, INITIAL_USD, MAINTENANCE_USD


def array(*values: float) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


# ---- Deribit --------------------------------------------------------------------------------------------------------------------------


def deribit(**changed: float) -> deribit_pm.ParameterArrays:
    document = {
        "price_range": 0.5,
        "pnl_offset": 0.0,
        "annualised_move_risk": 0.08,
        "min_annualised_move": 0.01,
        "extended_dampener_usd": 0.0,
    }
    parameters = read(deribit_pm.Parameters, {**document, **changed})
    assert isinstance(parameters, deribit_pm.Parameters), parameters
    return deribit_pm.parameter_arrays(parameters)


def coins(sizes: list[float], years: list[float], index_usd: float = 100.0, equity: float = 0.0) -> deribit_pm.Inputs:
    none = array(0.0)
    return deribit_pm.Inputs(
        np.array([0, len(sizes)]), array(*sizes), array(*years), array(index_usd), array(equity), none, none, none, none
    )


def test_a_coin_settled_future_loses_more_than_it_gains() -> None:
    assert deribit_pm.standard_gain(1.0, 0.25) == pytest.approx(0.2, rel=1e-15)
    assert deribit_pm.standard_gain(1.0, -0.5) == -1.0
    standard, extended = deribit_pm.risk_vector(-2.0, deribit())
    assert standard == pytest.approx([2.0, 2 * 0.6, 2 / 3, 2 / 7, 0.0, -2 / 9, -0.4, -6 / 11, -2 / 3])
    assert extended == pytest.approx([2.0] * 2 + [-2 / 3] * 6)  # those of the ends of the range


def test_the_extended_table_counts_its_factor() -> None:
    assert deribit_pm.worst_case(-3.0, 100.0, deribit()) == pytest.approx(1.0)
    assert deribit_pm.worst_case(-3.0, 100.0, deribit(extended_table_factor=4.0)) == pytest.approx(4.0)
    assert deribit_pm.worst_case(0.0, 100.0, deribit()) == 0.0


def test_gains_are_offset_up_to_the_cap_and_losses_count_in_full() -> None:
    terms = deribit(pnl_offset=0.5, max_offsetable_pnl_usd=150.0)
    assert deribit_pm.offset(-4.0, 0.0, 100.0, terms) == -4.0
    assert deribit_pm.offset(2.0, 0.0, 100.0, terms) == 1.0
    assert deribit_pm.offset(4.0, 0.0, 100.0, terms) == 1.5
    assert deribit_pm.offset(4.0, 0.5, 100.0, terms) == 1.0  # 150 USD are fewer coins where the coin is worth more


def test_the_dampener_takes_far_moves_toward_zero_and_not_beyond() -> None:
    terms = deribit(price_range=0.1, extended_dampener_usd=110.0)
    assert deribit_pm.dampened(-3.0, 0.2, 100.0, terms) == pytest.approx(-2.0)
    assert deribit_pm.dampened(3.0, 0.2, 100.0, terms) == pytest.approx(2.0)
    assert deribit_pm.dampened(-0.9, 0.2, 100.0, terms) == 0.0
    assert deribit_pm.dampened(-3.0, -0.3, 100.0, terms) == pytest.approx(-3.0 + 2 * 110 / 90)
    assert deribit_pm.dampened(-3.0, 0.05, 100.0, terms) == -3.0  # inside the range


@pytest.mark.parametrize(("gain", "left"), [(0.5, 0.3), (-0.5, -0.3), (2.0, 1.8), (-2.0, -1.8), (0.2, 0.0), (-0.2, 0.0), (0.0, 0.0)])
def test_the_dampener_takes_the_same_of_small_and_large_entries(gain: float, left: float) -> None:
    """20 USD at a range of 10 % and a move of 20 %: 0.2 coins at 100 USD."""
    assert deribit_pm.dampened(gain, 0.2, 100.0, deribit(price_range=0.1, extended_dampener_usd=22.0)) == pytest.approx(left)


def test_the_aggregated_tables_are_the_moves_in_order() -> None:
    """3 coins short with a range of 50 %: from the end of the range on 1 coin is lost, less what the dampener takes by distance."""
    terms = deribit(pnl_offset=0.25, extended_dampener_usd=10.0)
    tables = deribit_pm.aggregated_tables(-3.0, 100.0, terms)
    standard = [0.25 * 3 * gain for gain in (1, 0.6, 1 / 3, 1 / 7)] + [0.0] + [-3 * loss for loss in (1 / 9, 0.2, 3 / 11, 1 / 3)]
    down = [0.25 * 3 - 0.32 * 10 / 50, 0.25 * 3]  # 66 % is 32 % of the range beyond it, 33 % inside
    up = [-1.0 + beyond * 10 / 150 for beyond in (0, 1, 3, 5, 7, 9)]
    assert tables == pytest.approx(standard + down + up)
    assert deribit_pm.worst_case(-3.0, 100.0, terms) == pytest.approx(1.0)


def test_what_the_venue_rounds_is_to_a_billionth_of_a_coin() -> None:
    assert [deribit_pm.rounded(coins) for coins in (1.4e-9, 1.6e-9, -1.4e-9, -1.6e-9)] == [1e-9, 2e-9, -1e-9, -2e-9]


def test_the_answers_factors_and_no_cap_of_ours() -> None:
    """What the answers of private/pme/simulate have in common; BTC's m_inc."""
    given: dict[str, Any] = {"price_range": 0.5, "pnl_offset": 0.0, "annualised_move_risk": 0.08, "min_annualised_move": 0.01}
    assert deribit_pm.Parameters(**given, extended_dampener_usd=0.0) == deribit_pm.Parameters(
        **given,
        extended_dampener_usd=0.0,
        mm_factor=0.8,
        max_offsetable_pnl_usd=1e15,
        extended_table_factor=1.0,
        max_delta_shock=0.1,
        delta_shock_threshold_usd=20_000_000.0,
        m_inc=0.00005,
        buckets_a_side=4,
    )


def test_roll_shock_has_a_minimum_and_does_not_net() -> None:
    inputs = coins([2.0, -3.0, 1.0], [0.0, 1.0, 0.05])
    assert deribit_pm.roll_shock(inputs, 0, deribit()) == pytest.approx(2 * 0.01 + 3 * 0.08 + 0.01)


def test_delta_shock_grows_beyond_the_threshold_up_to_its_maximum() -> None:
    terms = deribit()  # 20 million USD are 200 coins at 100,000
    assert deribit_pm.delta_shock(200.0, 100_000.0, terms) == 0.0
    assert deribit_pm.delta_shock(199.5, 100_000.0, terms) == 0.0
    assert deribit_pm.delta_shock(200.5, 100_000.0, terms) == pytest.approx(200.5 * 0.5 * 0.00005)
    assert deribit_pm.delta_shock(-500.0, 100_000.0, terms) == pytest.approx(500 * 300 * 0.00005)
    assert deribit_pm.delta_shock(5_000.0, 100_000.0, terms) == pytest.approx(500.0)


def test_deribit_margins_and_parts_are_in_usd() -> None:
    inputs = coins([4.0, -1.0], [0.0, 1.0], equity=10.0)._replace(
        correlation_contingency=array(0.5), mmp_margin=array(0.25), open_orders_margin=array(0.125), spot_margin=array(0.0625)
    )
    out = np.empty((1, COLUMNS))
    deribit_pm.margins(inputs, deribit(), out)
    matrix = 3.0 + (4 * 0.01 + 0.08) + 0.5
    assert out[0] == pytest.approx([1_000.0, (matrix + 0.4375) * 100, 0.8 * matrix * 100, (10 - 0.8 * matrix) / 5])
    parts = dict(deribit_pm.parts(inputs, deribit(), 0))
    assert parts["worst_case"] == pytest.approx(300.0)
    assert parts["roll_shock"] == pytest.approx(12.0)
    assert parts["correlation_contingency"] == 50.0
    assert parts["initial_margin"] == pytest.approx(out[0, INITIAL_USD])
    assert parts["maintenance_margin"] == pytest.approx(out[0, MAINTENANCE_USD])


def test_what_adds_most_to_maintenance_is_closed_first() -> None:
    long = coins([4.0, -1.0, 2.0], [0.0, 1.0, 1.0])
    assert deribit_pm.closed_first(long, deribit(), 0) == 0
    assert deribit_pm.closed_first(long._replace(equity=array(1e6)), deribit(), 0) is None
    assert deribit_pm.closed_first(long._replace(equity=array(np.nan)), deribit(), 0) is None
    assert deribit_pm.closed_first(coins([], []), deribit(), 0) is None
    second = deribit_pm.Inputs(*(np.concatenate([one, one]) for one in long))._replace(start=np.array([0, 3, 6]))
    assert deribit_pm.closed_first(second, deribit(), 1) == 3
    last = coins([0.5, -1.0, 4.0], [0.0, 1.0, 1.0])
    second = deribit_pm.Inputs(*(np.concatenate([one, other]) for one, other in zip(long, last, strict=True)))
    assert deribit_pm.closed_first(second._replace(start=np.array([0, 3, 6])), deribit(), 1) == 5


def test_nothing_is_closed_where_equity_is_what_maintenance_asks() -> None:
    one = coins([4.0], [0.0], index_usd=1.0)
    out = np.empty((1, COLUMNS))
    deribit_pm.margins(one, deribit(), out)
    required = out[0, MAINTENANCE_USD]
    assert required == pytest.approx(0.8 * 4.04)
    assert deribit_pm.closed_first(one._replace(equity=array(required)), deribit(), 0) is None
    assert deribit_pm.closed_first(one._replace(equity=array(np.nextafter(required, 0.0))), deribit(), 0) == 0
    in_usd = coins([4.0], [0.0], equity=10.0)  # 1,000 USD against some 323
    assert deribit_pm.closed_first(in_usd, deribit(), 0) is None


def test_only_a_leg_that_adds_to_maintenance_is_closed() -> None:
    assert deribit_pm.closed_first(coins([], [], equity=-1.0), deribit(), 0) is None
    assert deribit_pm.closed_first(coins([0.0], [0.0], equity=-1.0), deribit(), 0) is None
    assert deribit_pm.closed_first(coins([0.001], [0.0], equity=-1.0), deribit(), 0) == 0


# ---- SPAN -----------------------------------------------------------------------------------------------------------------------------


def span(**changed: Any) -> span16.Inputs:
    """Two futures of one commodity with opposite arrays; a short option of another that loses 300 in each scenario, and 50 to buy back."""
    terms = span16.parameter_arrays(span16.Parameters())
    future = span16.future_array_usd(1_000.0, terms)
    inputs = span16.Inputs(
        start=np.array([0, 3]),
        instrument=np.array([0, 2, 1]),
        quantity=array(2.0, -1.0, 1.0),
        commodity=np.array([0, 0, 1]),
        gain_usd=np.vstack([future, -future, np.full(16, 300.0)]),
        option_value_usd=array(0.0, 0.0, 50.0),
        is_option=np.array([False, False, True]),
        notional_usd=array(10_000.0, 10_000.0, 5_000.0),
        spread_charge_usd=array(40.0, 0.0, 30.0),
        equity_usd=array(2_000.0),
    )
    return inputs._replace(**changed)


def span_row(inputs: span16.Inputs, **changed: float) -> NDArray[np.float64]:
    out: NDArray[np.float64] = np.empty((1, COLUMNS))
    span16.margins(inputs, span16.parameter_arrays(span16.Parameters(**changed)), out)
    row: NDArray[np.float64] = out[0]
    return row


def test_span_nets_inside_a_commodity_and_adds_across() -> None:
    row = span_row(span())
    assert row[MAINTENANCE_USD] == pytest.approx(1_070.0 + 350.0)
    assert row[EQUITY_USD] == 2_000.0
    assert row[DISTANCE] == pytest.approx(580.0 / 35_000.0)
    assert span_row(span(), initial_factor=1.1)[INITIAL_USD] == pytest.approx(1.1 * 1_420.0)


def test_a_spread_charge_is_its_own_commoditys() -> None:
    """Beside what its options ask at least, a charge may cost nothing; at another commodity it costs all of itself."""
    there = span(spread_charge_usd=array(0.0, 20.0, 0.0))
    assert span_row(there)[MAINTENANCE_USD] == pytest.approx(1_000.0 + 370.0)
    assert span_row(there, short_option_minimum_usd=900.0)[MAINTENANCE_USD] == pytest.approx(1_000.0 + 950.0)
    assert np.isnan(span_row(span(spread_charge_usd=array(0.0, -np.inf, 0.0)))).all()
    assert dict(span16.parts(there, span16.parameter_arrays(span16.Parameters()), 0))["spread charge, commodity 1"] == 20.0


def test_the_short_option_minimum_is_the_least() -> None:
    assert span_row(span(), short_option_minimum_usd=900.0)[MAINTENANCE_USD] == pytest.approx(1_070.0 + 950.0)
    bought = span(quantity=array(2.0, 1.0, 1.0))  # nothing is short, and a long option is worth 50
    assert span_row(bought, short_option_minimum_usd=900.0)[MAINTENANCE_USD] == pytest.approx(1_070.0)


def test_span_parts_add_up() -> None:
    parts = span16.parts(span(), span16.parameter_arrays(span16.Parameters()), 0)
    assert dict(parts)["net option value, commodity 1"] == -50.0
    assert dict(parts)["scan risk, commodity 0"] == pytest.approx(1_000.0)
    assert parts[-1][0] == "SPAN requirement"
    assert parts[-1][1] == pytest.approx(1_420.0)


def test_the_array_of_a_future() -> None:
    gains = span16.future_array_usd(300.0, span16.parameter_arrays(span16.Parameters(extreme_multiple=3.0, extreme_fraction=0.33)))
    assert gains == pytest.approx([0, 0, 100, 100, -100, -100, 200, 200, -200, -200, 300, 300, -300, -300, 297, -297])


def test_the_books_extremes_and_no_minimum_of_ours() -> None:
    """McMillan's arrays and NSE's: 35 % of what two ranges lose. A clearing house's minimum and factor are its set's."""
    assert span16.Parameters() == span16.Parameters(
        extreme_multiple=2.0, extreme_fraction=0.35, short_option_minimum_usd=0.0, initial_factor=1.0
    )


def test_what_gains_in_every_scenario_risks_nothing() -> None:
    inputs = span(gain_usd=np.full((3, 16), 40.0), quantity=array(2.0, 1.0, 1.0))
    assert span16.scan_risk_usd(inputs, 0, 0) == 0.0


def test_only_short_options_have_the_minimum() -> None:
    """Of two options of one commodity: what is short counts, what is long does not take from it; a short future has none."""
    none = np.zeros((3, 16))
    inputs = span(
        gain_usd=none, commodity=np.array([0, 0, 0]), option_value_usd=array(0.0, 0.0, 0.0), spread_charge_usd=array(0.0, 0.0, 0.0)
    )
    options = inputs._replace(is_option=np.array([True, False, True]), quantity=array(0.5, -2.0, 0.0))
    assert span_row(options, short_option_minimum_usd=900.0)[MAINTENANCE_USD] == 1_800.0
    futures = inputs._replace(is_option=np.array([False, False, False]), quantity=array(-3.0, -2.0, -1.0))
    assert span_row(futures, short_option_minimum_usd=900.0)[MAINTENANCE_USD] == 0.0


# ---- Dederi ---------------------------------------------------------------------------------------------------------------------------


def test_dederi_nets_losses_but_not_contingency() -> None:
    inputs = dederi.Inputs(np.array([0, 2]), array(10.0, -4.0), array(2_000.0, 2_100.0), array(1_990.0), array(3_000.0))
    terms = dederi.parameter_arrays(dederi.Parameters(shocks=(-0.2, 0.1), contingency_factor=0.01, initial_factor=1.5))
    out = np.empty((1, COLUMNS))
    dederi.margins(inputs, terms, out)
    worst, contingency = 0.2 * (20_000 - 8_400), 0.01 * 1_990 * 14
    assert out[0] == pytest.approx([3_000, 1.5 * (worst + contingency), worst + contingency, (3_000 - worst - contingency) / 28_400])
    assert [amount for _, amount in dederi.parts(inputs, terms, 0)] == pytest.approx([worst, contingency, worst + contingency])


def test_a_short_position_loses_when_prices_rise() -> None:
    inputs = dederi.Inputs(np.array([0, 1]), array(-1.0), array(1_000.0), array(1_000.0), array(0.0))
    terms = dederi.parameter_arrays(dederi.Parameters(shocks=(-0.2, 0.1)))
    assert dederi.worst_loss_usd(inputs, terms, 0) == pytest.approx(100.0)
    assert dederi.simulated_gain_usd(inputs, 0, -0.2) == pytest.approx(200.0)


def test_a_nan_in_the_middle_of_the_shocks_stays() -> None:
    inputs = dederi.Inputs(np.array([0, 1]), array(1.0), array(np.nan), array(1_000.0), array(0.0))
    assert np.isnan(dederi.worst_loss_usd(inputs, dederi.parameter_arrays(dederi.Parameters()), 0))
    values = span().gain_usd.copy()
    values[0, 3] = np.nan
    assert np.isnan(span16.scan_risk_usd(span(gain_usd=values), 0, 0))
    assert np.isnan(deribit_pm.worst_case(np.nan, 100.0, deribit()))


def test_the_wikis_shocks_and_factors() -> None:
    """Dederi's wiki, portfolio margin, the example of futures: eleven shocks by 3 %, and 0.6 % of the index as contingency."""
    shocks = tuple(percent / 100.0 for percent in range(-15, 16, 3))
    assert dederi.Parameters() == dederi.Parameters(shocks=shocks, contingency_factor=0.006, initial_factor=1.0)


def test_where_every_shock_gains_nothing_is_lost() -> None:
    inputs = dederi.Inputs(np.array([0, 1]), array(1.0), array(1_000.0), array(1_000.0), array(0.0))
    assert dederi.worst_loss_usd(inputs, dederi.parameter_arrays(dederi.Parameters(shocks=(0.1, 0.2))), 0) == 0.0


def test_so_many_shocks_are_taken_and_no_more() -> None:
    assert isinstance(read(dederi.Parameters, {"shocks": [0.1] * 64}), dederi.Parameters)
    assert isinstance(read(dederi.Parameters, {"shocks": [0.1] * 65}), list)


# ---- layout ---------------------------------------------------------------------------------------------------------------------------


def test_the_layout_of_legs_is_checked_where_asked() -> None:
    legs, accounts = (array(1.0, 2.0, 3.0),), 2
    require_legs("start", np.array([0, 1, 3]), accounts, legs)
    for start in ([1, 2, 3], [0, 3, 1], [0, 1, 2], [0, 3]):
        with pytest.raises(ValueError, match="must"):
            require_legs("start", np.array(start), accounts, legs)
