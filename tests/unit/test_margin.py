"""Value and requirement of small accounts, worked by hand."""

import math

import numpy as np
import pytest

from engine.explanations import binding_scenario
from engine.inputs import Funding, InstrumentDefinition
from engine.margin import (
    CLOSE_COST,
    DRIVER,
    EQUITY,
    EQUITY_INITIAL,
    INITIAL,
    MAINTENANCE,
    UNHAIRCUT,
    closing_cost_usd,
)
from engine.market import Market
from engine.pricing import NS_PER_YEAR, black76_price
from engine.reasons import Unknown
from engine.tables import NOTIONAL
from tests.small_market import DAY, SECOND, START, Account, new_market, number_of, say, tell_prices

SCAN_MAJOR = 3.0 * 0.8 * math.sqrt(1 / 365)  # 0.1256


@pytest.fixture(scope="module")
def market() -> Market:
    return new_market()


def test_nothing_held_is_worth_nothing(market: Market) -> None:
    status, out = Account(market, []).value()
    assert status == 0
    assert out[:6].tolist() == [0.0] * 6
    assert out[DRIVER] == -1.0
    assert binding_scenario(market, out[DRIVER]) == "none"


def test_a_perpetual(market: Market) -> None:
    """Long 2 BTC bought at 99,000: worth the profit; it risks the scan range, or the extreme's share of twice as much."""
    status, out = Account(market, [("venue-one", "BTC-perp", 200, -198_000_000_000)]).value()
    assert status == 0
    assert out[EQUITY] == out[UNHAIRCUT] == pytest.approx(2_000.0)
    assert out[MAINTENANCE] == pytest.approx(200_000.0 * max(SCAN_MAJOR, 0.35 * 2 * SCAN_MAJOR), rel=1e-12)
    assert out[INITIAL] == pytest.approx(1.3 * out[MAINTENANCE])
    assert binding_scenario(market, out[DRIVER]) == "BTC -6/6 volatility up"


def test_an_inverse_perpetual_settles_in_coin(market: Market) -> None:
    """Long 10,000 lots of 10 USD bought at 100,000: owes 100,000 USD, holds 1 BTC of cash; that coin is the risk."""
    status, out = Account(market, [("venue-one", "BTC-coin", 10_000, 10**9)]).value()
    assert status == 0
    assert out[UNHAIRCUT] == pytest.approx(0.0, abs=1e-6)
    assert out[MAINTENANCE] == pytest.approx(100_000.0 * SCAN_MAJOR, rel=1e-12)
    hedged = Account(market, [("venue-one", "BTC-coin", 10_000, 10**9), ("venue-one", "BTC-perp", -100, 10**11)])
    assert hedged.value()[1][MAINTENANCE] == pytest.approx(0.0, abs=1e-6)


def test_a_hedge_across_chains_pays_no_price_charge(market: Market) -> None:
    """1 BTC spot on one chain against a short of 1 BTC on another."""
    account = Account(market, [("vault-one", "BTC", 100, 0), ("venue-two", "BTC-perp", -100, 100_000_000_000)])
    _, out = account.value()
    assert out[MAINTENANCE] == pytest.approx(0.0, abs=1e-6)
    assert out[UNHAIRCUT] == pytest.approx(100_000.0)
    isolated, protocol, portfolio = account.by_mode()
    assert isolated == protocol == pytest.approx(2 * 100_000.0 * SCAN_MAJOR)
    assert portfolio == pytest.approx(0.0, abs=1e-6)


def test_a_loan_repaid_beyond_what_was_owed_is_no_collateral() -> None:
    market = new_market()
    status, out = Account(market, [("venue-one", "BTC-loan", 500, 0)]).value()
    assert status == 0
    assert (out[EQUITY], out[EQUITY_INITIAL], out[UNHAIRCUT], out[MAINTENANCE]) == (0.0, 0.0, 0.0, 0.0)


def test_a_loan_grows_by_its_index() -> None:
    market = new_market()
    account = Account(market, [("venue-one", "USD-loan", -100_000, 0)])
    assert account.value()[1][UNHAIRCUT] == pytest.approx(-1_000.0)
    index = Funding(v=1, venue="venue-one", instrument="USD-loan", measure="interest_index", value=1.05, time_ns=START)
    say(market.observe_funding(index))
    revaluation = market.revalue()
    assert [market.universe.instruments[i].name for i in np.flatnonzero(revaluation.changed)] == ["USD-loan"]
    assert account.value()[1][UNHAIRCUT] == pytest.approx(-1_050.0)


def test_two_groups_move_together_by_their_correlation(market: Market) -> None:
    """Long ETH and BTC, 0.6 correlated: the worst is one group's whole range with 0.6 of the other's."""
    account = Account(market, [("venue-one", "BTC-perp", 100, 0), ("venue-one", "ETH-perp", 2_500, 0)])  # 100,000 USD of each
    assert account.value()[1][MAINTENANCE] == pytest.approx(100_000.0 * SCAN_MAJOR * 1.6, rel=1e-9)
    spread = Account(market, [("venue-one", "BTC-perp", 100, 0), ("venue-one", "ETH-perp", -2_500, 0)])
    # Against each other 0.4 of a range is left in the grid, and in the extremes 0.35 of (twice the range less 0.6).
    assert spread.value()[1][MAINTENANCE] == pytest.approx(100_000.0 * SCAN_MAJOR * 0.35 * (2.0 - 0.6), rel=1e-9)


def test_an_option_against_the_formula(market: Market) -> None:
    """A short call: value by Black-76 at its expiry's volatility; the loss at +1 with volatility up, or the extreme."""
    name = f"BTC-35-{100_000}-C"
    status, out = Account(market, [("venue-one", name, -100, 0)]).value()
    assert status == 0
    years = 35 * DAY / NS_PER_YEAR
    worth = black76_price(100_000.0, 100_000.0, 0.55, years, True, 1.0)
    assert out[UNHAIRCUT] == pytest.approx(-worth)
    shocked = 0.55 * (1 + 0.35 * (30 / 35) ** 0.3)
    up = black76_price(100_000.0 * (1 + SCAN_MAJOR), 100_000.0, shocked, years, True, 1.0) - worth
    extreme = 0.35 * (black76_price(100_000.0 * (1 + 2 * SCAN_MAJOR), 100_000.0, 0.55, years, True, 1.0) - worth)
    assert out[MAINTENANCE] == pytest.approx(max(up, extreme), rel=1e-12)
    assert binding_scenario(market, out[DRIVER]) == "BTC +6/6 volatility up"


def test_a_covered_call_risks_less_than_its_parts(market: Market) -> None:
    call = ("venue-two", "BTC-35-120000-C", -100, 0)
    spot = ("vault-one", "BTC", 100, 0)
    isolated, _, portfolio = Account(market, [spot, call]).by_mode()
    assert portfolio < 0.7 * isolated


def test_signed_aggregation_is_not_what_this_is(market: Market) -> None:
    """A short BTC strangle with an ETH short on one venue and a BTC short on another: together never more than apart."""
    strangle = [("venue-one", "BTC-35-120000-C", -100, 0), ("venue-one", "BTC-35-80000-P", -100, 0), ("venue-one", "ETH-perp", -2_500, 0)]
    isolated, protocol, portfolio = Account(market, [*strangle, ("venue-two", "BTC-perp", -50, 0)]).by_mode()
    assert portfolio <= protocol <= isolated


@pytest.mark.parametrize("mode", ["isolated", "protocol", "portfolio"])
def test_decisions_use_the_mode_of_the_parameters(mode: str) -> None:
    market = new_market({"decision_mode": mode})
    account = Account(market, [("venue-one", "BTC-perp", 100, 0), ("venue-one", "BTC-coin", -5_000, 0), ("venue-two", "BTC-perp", -70, 0)])
    _, out = account.value()
    assert out[MAINTENANCE] == account.by_mode()[("isolated", "protocol", "portfolio").index(mode)]


def test_span16_has_half_the_steps() -> None:
    market = new_market({"grid_steps": 3})
    account = Account(market, [("venue-one", "BTC-perp", 100, 0), ("venue-one", "BTC-35-100000-C", -100, 0)])
    status, out = account.value()
    assert status == 0
    assert out[MAINTENANCE] > 0.0
    assert binding_scenario(market, out[DRIVER]).startswith("BTC ")


def test_closing_costs(market: Market) -> None:
    """Half of the 10 bps spread floor, 5 bps fee, impact 0.01 * sqrt(notional / 100,000 USD of depth)."""
    perpetual = number_of(market, "venue-one", "BTC-perp")
    expected = 400_000.0 * ((0.5 * 10 + 5) * 1e-4 + 0.01 * math.sqrt(4.0))
    assert closing_cost_usd(perpetual, 400, market.tables) == pytest.approx(expected, rel=1e-12)
    assert closing_cost_usd(perpetual, -400, market.tables) == pytest.approx(expected, rel=1e-12)
    coin = number_of(market, "venue-one", "BTC-coin")
    assert market.tables.instrument_float[coin, NOTIONAL] == 10.0
    for name, venue in (("USD-loan", "venue-one"), ("BTC-loan", "venue-one"), ("USD", "vault-one")):
        assert closing_cost_usd(number_of(market, venue, name), -400, market.tables) == 0.0
    account = Account(market, [("venue-one", "BTC-perp", 400, 0), ("venue-one", "BTC-loan", -400, 5)])
    assert account.value()[1][CLOSE_COST] == pytest.approx(expected, rel=1e-12)


def test_the_lowest_reason_wins() -> None:
    market = new_market(implied=False)
    option = ("venue-one", "BTC-35-100000-C", 1, 0)
    assert Account(market, [option]).value()[0] == Unknown.NO_VOLATILITY
    say(
        market.define(
            InstrumentDefinition(
                v=1, time_ns=0, venue="venue-one", name="N", contract="spot", underlying="GOV", lot_size=1.0, tick_size=1.0
            )
        )
    )
    market.tick(START + 60 * SECOND)
    market.revalue()
    market.tick(START + 61 * SECOND)
    market.revalue()
    tell_prices(market, {"BTC": 100_000.0}, START + 61 * SECOND)
    status, out = Account(market, [option, ("venue-one", "N", 1, 0)]).value()
    assert status == Unknown.STALE_MARK
    assert np.isnan(out).all()
    # What is not needed is not missed: cash asks for its quote alone, nothing at all for nothing.
    assert Account(market, [("venue-one", "BTC-35-100000-C", 0, 7), ("venue-one", "N", 0, 0)]).value()[0] == 0
