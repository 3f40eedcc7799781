"""Greeks against differences of the twin's values, by their definitions, and where they are not known."""

from __future__ import annotations

from typing import Any

import pytest

from engine.greeks import AssetGreeks, PositionGreeks, account_greeks, position_greeks, sums_by_asset
from engine.inputs import Funding
from engine.market import Market
from engine.tables import OPTION
from streams.shadow.values import black76
from tests.small_market import DAY, EXPIRIES, PRICES, SECOND, START, new_market, number_of, say, tell_prices

LOT = 0.01  # units of every instrument of the small market but inverse perpetuals
YEAR_S = 365.0 * 86_400.0
RISKS = ("delta", "delta_usd", "gamma_usd", "vega_usd", "theta_usd", "rho_usd", "quote_delta", "quote_delta_usd")


@pytest.fixture(scope="module")
def market() -> Market:
    return new_market()


def all_options(market: Market) -> list[int]:
    contracts = market.universe.instrument_arrays.contract
    return [i for i in range(market.universe.instrument_count) if contracts[i] >= OPTION]


def twin_value(market: Market, i: int, forward: float, sigma_more: float = 0.0, days_on: float = 0.0, rate: float = 0.0) -> float:
    """USD of one lot; with a rate, the mark is a spot price whose forward grows, and what is paid at expiry is discounted."""
    terms = market.universe.instruments[i]
    t_years = (terms.expiry_ns - market.clock_ns) / SECOND / YEAR_S - days_on / 365.0
    growth = float((1.0 + rate / 1e6) ** (1e6 * t_years))  # e^(rate t)
    sigma = float(market.inputs.option_sigma[i]) + sigma_more
    return LOT * black76(forward * growth, terms.strike, sigma, t_years, terms.is_call) / growth


def test_options_against_differences_of_the_twins_values(market: Market) -> None:
    lots, spot = -300, PRICES["BTC"]
    checked = 0
    for i in all_options(market):
        greeks = position_greeks(market, i, lots, 0)

        def value(spot: float, i: int = i, **moved: float) -> float:
            return lots * twin_value(market, i, spot, **moved)

        h, v, d, r = spot * 1e-4, 1e-4, 1e-3, 1e-5
        slope = (value(spot + h) - value(spot - h)) / (2 * h)
        bend = (value(spot + h) - 2 * value(spot) + value(spot - h)) / (h * h)
        tolerance: dict[str, Any] = {"rel": 1e-4, "abs": 1e-4}
        assert greeks.delta == pytest.approx(slope, rel=1e-5, abs=1e-6)
        assert greeks.delta_usd == pytest.approx(slope * spot, rel=1e-5, abs=0.1)
        assert greeks.gamma_usd == pytest.approx(bend * spot * spot * 0.01, rel=1e-3, abs=0.5)
        assert greeks.vega_usd == pytest.approx((value(spot, sigma_more=v) - value(spot, sigma_more=-v)) / (2 * v) * 0.01, **tolerance)
        assert greeks.theta_usd == pytest.approx((value(spot, days_on=d) - value(spot, days_on=-d)) / (2 * d), **tolerance)
        assert greeks.rho_usd == pytest.approx((value(spot, rate=r) - value(spot, rate=-r)) / (2 * r) * 0.01, rel=1e-3, abs=1e-2)
        checked += 1
    assert checked == len(EXPIRIES) * 3 * 2 * 2


def test_put_call_parity(market: Market) -> None:
    """A call less a put is the forward less the strike: one unit of delta, nothing else that depends on volatility or time."""
    for days in EXPIRIES:
        for strike in (80_000, 100_000, 120_000):
            call, put = (position_greeks(market, number_of(market, "venue-one", f"BTC-{days}-{strike}-{side}"), 100, 0) for side in "CP")
            difference = {name: getattr(call, name) - getattr(put, name) for name in RISKS}
            assert difference["delta"] == pytest.approx(1.0, abs=1e-12)
            assert difference["delta_usd"] == pytest.approx(PRICES["BTC"], abs=1e-6)
            assert difference["gamma_usd"] == difference["vega_usd"] == difference["theta_usd"] == 0.0
            t_years = days / 365.0
            assert difference["rho_usd"] == pytest.approx(t_years * strike * 0.01, rel=1e-9)  # of F - (F - K)


def test_an_inverse_option_has_the_greeks_of_the_linear_one_and_its_coins_their_delta(market: Market) -> None:
    linear = position_greeks(market, number_of(market, "venue-one", "BTC-35-100000-C"), 50, 0)
    inverse = position_greeks(market, number_of(market, "venue-two", "BTC-35-100000-C"), 50, 0)
    assert [getattr(linear, name) for name in RISKS] == [getattr(inverse, name) for name in RISKS]
    premium = position_greeks(market, number_of(market, "venue-two", "BTC-35-100000-C"), 50, 2_000_000_000)  # two coins
    assert premium.delta == pytest.approx((linear.delta or 0.0) + 2.0)
    assert premium.quote_delta == 0.0
    assert premium.vega_usd == linear.vega_usd


def test_linear_things_have_a_delta_alone(market: Market) -> None:
    perp = position_greeks(market, number_of(market, "venue-one", "ETH-perp"), -500, 10**9)
    assert (perp.delta, perp.delta_usd, perp.quote_delta) == (-5.0, -20_000.0, 0.0)
    assert (perp.gamma_usd, perp.vega_usd, perp.theta_usd, perp.rho_usd) == (0.0, 0.0, 0.0, 0.0)
    coin = position_greeks(market, number_of(market, "venue-one", "BTC-coin"), 1_000, -100_000_000)  # 10,000 USD against a tenth of a coin
    assert coin.delta == pytest.approx(-0.1)
    assert coin.delta_usd == pytest.approx(-10_000.0)
    dollars = position_greeks(market, number_of(market, "vault-one", "USD"), 10_000, 5)
    assert [getattr(dollars, name) for name in RISKS] == [0.0] * len(RISKS)


def test_spot_and_debt_move_with_their_value_price_and_index() -> None:
    market = new_market()
    say(
        market.observe_funding(
            Funding(v=1, venue="venue-one", instrument="WBETH-loan", measure="interest_index", value=1.25, time_ns=market.clock_ns)
        )
    )
    market.revalue()
    bound = PRICES["ETH"] * 1.08
    held = position_greeks(market, number_of(market, "vault-one", "WBETH"), 100, 0)
    assert held.delta == 1.0
    assert held.delta_usd == pytest.approx(min(PRICES["WBETH"], bound))
    owed = position_greeks(market, number_of(market, "venue-one", "WBETH-loan"), -100, 0)
    assert owed.delta == -1.25
    assert owed.delta_usd == pytest.approx(-1.25 * max(PRICES["WBETH"], bound))


def test_what_cannot_be_valued_is_none_and_says_why() -> None:
    market = new_market(implied=False)
    option, perp = number_of(market, "venue-one", "BTC-35-100000-C"), number_of(market, "venue-one", "ETH-perp")
    greeks = account_greeks(market, [option, perp], [1, 1], [0, 0])
    unknown, known = greeks.by_position
    assert unknown.unknown == "no_volatility"
    assert {getattr(unknown, name) for name in RISKS} == {None}
    assert known.delta == 0.01
    btc, eth = greeks.by_asset
    assert (btc.asset, btc.delta, btc.vega_usd) == ("BTC", None, None), "not a part of the sum"
    assert (eth.asset, eth.delta) == ("ETH", 0.01)
    for late_s in (40, 80):
        market.tick(START + late_s * SECOND)
        market.revalue()
    assert position_greeks(market, perp, 1, 0).unknown == "stale_mark"
    assert position_greeks(market, perp, 0, 7).unknown == "", "cash in dollars needs no mark of the underlying"


def test_an_expired_option_moves_no_more_and_is_unknown_after_the_wait() -> None:
    market = new_market({"clock_step_max_s": 86_400.0})
    for _ in range(EXPIRIES[0]):
        market.tick(market.clock_ns + DAY)
        market.revalue()
        tell_prices(market, PRICES, market.clock_ns)
    number = number_of(market, "venue-one", "BTC-7-80000-C")
    settled = position_greeks(market, number, 1, 0)
    assert (settled.unknown, settled.delta_usd, settled.gamma_usd, settled.vega_usd) == ("", 0.0, 0.0, 0.0)
    in_coin = position_greeks(market, number_of(market, "venue-two", "BTC-7-80000-C"), 100, 0)
    assert in_coin.delta_usd == pytest.approx(20_000.0)  # the coin that it is owed in
    market.tick(market.clock_ns + DAY)
    market.revalue()
    tell_prices(market, PRICES, market.clock_ns)
    assert position_greeks(market, number, 1, 0).unknown == "expired"


def test_cash_in_another_asset_is_that_assets_delta() -> None:
    """No contract of the small market pays in another coin; sums are made of positions alone."""
    market = new_market()
    paid = PositionGreeks(
        venue="v",
        instrument="BTC-in-USDE",
        asset="BTC",
        quote="USDE",
        delta=1.0,
        delta_usd=100_000.0,
        gamma_usd=0.0,
        vega_usd=0.0,
        theta_usd=0.0,
        rho_usd=0.0,
        quote_delta=-90_000.0,
        quote_delta_usd=-89_000.0,
        unknown="",
    )
    assert sums_by_asset(market, [paid]) == [
        AssetGreeks(asset="BTC", delta=1.0, delta_usd=100_000.0, gamma_usd=0.0, vega_usd=0.0, theta_usd=0.0, rho_usd=0.0),
        AssetGreeks(asset="USDE", delta=-90_000.0, delta_usd=-89_000.0, gamma_usd=0.0, vega_usd=0.0, theta_usd=0.0, rho_usd=0.0),
    ]
