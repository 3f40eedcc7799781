"""Derive's two margins by hand; and what every rule must pass."""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from msgspec import structs, to_builtins

from engine.pricing import black76_price
from engine.rules import derive_pmrm2, derive_srm
from engine.rules.faults import read
from engine.rules.interface import DISTANCE, EQUITY_USD, INITIAL_USD, MAINTENANCE_USD
from tests.derive_accounts import pmrm2_parameters, pmrm2_subject, srm_subject
from tests.reference import derive_pmrm2 as portfolios
from tests.reference import derive_srm as standard
from tests.unit import rule_checks

YEAR_S = 31_536_000.0
DAY_S = 86_400.0


@pytest.mark.parametrize("make", [partial(pmrm2_subject, listed_strikes=2), srm_subject], ids=["pmrm2", "srm"])
def test_what_every_rule_must_pass(make: Any) -> None:
    rule_checks.check_rule(make(accounts=5, seed=1))


@pytest.mark.parametrize("make", [pmrm2_subject, srm_subject], ids=["pmrm2", "srm"])
def test_doubt_raises_the_initial_requirement_alone(make: Any) -> None:
    subject = make(accounts=12, seed=1)
    sure, unsure = (_with_confidence(subject, level).evaluated() for level in (1.0, 0.0))
    given = subject.evaluated()
    assert (sure[:, INITIAL_USD] <= given[:, INITIAL_USD]).all()
    assert (given[:, INITIAL_USD] <= unsure[:, INITIAL_USD]).all()
    assert (sure[:, INITIAL_USD] < given[:, INITIAL_USD]).any()
    assert (given[:, INITIAL_USD] < unsure[:, INITIAL_USD]).any()
    np.testing.assert_array_equal(sure[:, [EQUITY_USD, MAINTENANCE_USD]], unsure[:, [EQUITY_USD, MAINTENANCE_USD]])


def _with_confidence(subject: rule_checks.Subject, level: float) -> rule_checks.Subject:
    """The same accounts where every feed has this confidence."""
    feeds = {name: getattr(subject.inputs, name) for name in subject.feeds if name.endswith("confidence")}
    return subject.changed(**{name: level if np.isscalar(feed) else np.full_like(feed, level) for name, feed in feeds.items()})


# --- PMRM_2


def _pmrm2(parameters: dict[str, Any] | None = None, **facts: Any) -> dict[str, float]:
    """One account's parts by the venue's words, with equity and requirements; an empty market but for `facts`."""
    document = to_builtins(pmrm2_parameters()) | {"collaterals": []} | (parameters or {})
    whole = read(derive_pmrm2.Parameters, document)
    assert isinstance(whole, derive_pmrm2.Parameters), whole
    market = {"spot": [100.0, 1.0], "perp": [100.0, 1.0], "stable": 1.0, "expiries": [], "options": [], "collaterals": [], "cash": 0.0}
    inputs = portfolios.portfolio(market | {"perps": [0.0, 0.0, 0.0]} | facts)
    arrays = derive_pmrm2.terms(whole)
    derive_pmrm2.require_indices(inputs, arrays)
    out = np.empty((1, 4))
    derive_pmrm2.margins(inputs, arrays, out)
    named = dict(derive_pmrm2.parts(inputs, arrays, 0))
    assert named["portfolio mark to market"] == pytest.approx(sum(list(named.values())[:5]), abs=1e-9)
    return named | {
        "equity": out[0, EQUITY_USD],
        "initial": out[0, INITIAL_USD],
        "maintenance": out[0, MAINTENANCE_USD],
        "distance": out[0, DISTANCE],
    }


def test_pmrm2_a_perpetual_by_hand() -> None:
    """2 long at 110, spot 100: 18% down is the worst regular scenario, and 33% down at 0.109 of it counts less."""
    found = _pmrm2(perp=[110.0, 1.0], perps=[2.0, -7.0, 3.0], cash=50.0)
    assert found["equity"] == 46.0
    assert found["max loss"] == pytest.approx(-0.18 * 220.0)
    assert found["initial"] == pytest.approx(1.0 * 39.6 + 200.0 * 0.02)
    assert found["maintenance"] == pytest.approx(0.8 * 39.6 + 200.0 * 0.015)
    assert found["distance"] == pytest.approx((46.0 - found["maintenance"]) / 220.0)
    assert (found["cash"], found["unrealised perp PNL"], found["unrealised funding"]) == (50.0, -7.0, 3.0)
    assert found["worst scenario"] == pytest.approx(-39.6)
    assert found["forward contingency"] == 0.0
    assert found["initial loss, with depeg"] == pytest.approx(-39.6)
    assert found["maintenance loss"] == pytest.approx(-0.8 * 39.6)
    assert (found["initial perp contingency"], found["maintenance perp contingency"]) == pytest.approx((-4.0, -3.0))


def test_pmrm2_gross_notional_has_no_signs() -> None:
    """2 short at 110; 3 owed of 50, where USDC is at 0.80; options of 1 and 2 on 100, and of 4 on 105."""
    asset = {"name": "X", "risk_cancelling": True, "initial_haircut": 0.05, "maintenance_haircut": 0.1, "confidence_threshold": 0.5}
    legs = [_option(90.0, 1.0), _option(110.0, -2.0), _option(100.0, 4.0, expiry=1)]
    found = _pmrm2(
        {"collaterals": [asset]},
        perp=[110.0, 1.0],
        perps=[-2.0, 0.0, 0.0],
        collaterals=[[50.0, 1.0, -3.0]],
        stable=0.8,
        expiries=[_expiry(30.0), _expiry(60.0, forward=105.0)],
        options=legs,
    )
    gross_usd = 220.0 + 150.0 / 0.8 + 300.0 + 420.0
    options = _pmrm2(expiries=[_expiry(30.0)], options=legs[:2])
    assert options["distance"] == pytest.approx((options["equity"] - options["maintenance"]) / 300.0)
    assert found["collateral"] == pytest.approx(-187.5)
    assert found["distance"] == pytest.approx((found["equity"] - found["maintenance"]) / gross_usd)
    assert found["initial base contingency"] == pytest.approx(-187.5 * 0.15)


def test_pmrm2_cash_needs_nothing() -> None:
    found = _pmrm2(cash=-5.0)
    assert [found[name] for name in ("equity", "initial", "maintenance", "distance")] == [-5.0, 0.0, 0.0, -math.inf]


def test_pmrm2_who_has_nothing_that_moves_with_spot_does_not_need_its_price() -> None:
    found = _pmrm2(spot=[math.nan, 1.0], cash=-5.0)
    assert [found[name] for name in ("equity", "initial", "maintenance")] == [-5.0, 0.0, 0.0]


@pytest.mark.parametrize(("hedges", "loss_usd"), [(True, 0.0), (False, 0.18 * 100.0)])
def test_pmrm2_collateral_hedges_if_it_cancels_risk(hedges: bool, loss_usd: float) -> None:
    asset = {"name": "X", "risk_cancelling": hedges, "initial_haircut": 0.05, "maintenance_haircut": 0.1, "confidence_threshold": 0.5}
    found = _pmrm2({"collaterals": [asset]}, collaterals=[[100.0, 1.0, 1.0]], perps=[-1.0, 0.0, 0.0])
    assert found["max loss"] == pytest.approx(-loss_usd)
    assert found["initial base contingency"] == pytest.approx(-15.0)
    assert found["maintenance base contingency"] == pytest.approx(-10.0)


def test_pmrm2_usdc_off_its_peg_raises_the_initial_factor_and_what_collateral_is_worth_in_it() -> None:
    asset = {"name": "X", "risk_cancelling": True, "initial_haircut": 0.0, "maintenance_haircut": 0.0, "confidence_threshold": 0.5}
    found = _pmrm2({"collaterals": [asset]}, collaterals=[[100.0, 1.0, 1.0]], stable=0.8)
    assert found["collateral"] == pytest.approx(125.0)
    assert found["max loss"] == pytest.approx(-0.18 * 125.0)
    assert found["initial"] == pytest.approx(0.18 * 125.0 * (1.0 + 2.0 * 0.18))
    assert found["initial loss, with depeg"] == pytest.approx(-0.18 * 125.0 * (1.0 + 2.0 * 0.18))
    assert found["maintenance"] == pytest.approx(0.18 * 125.0 * 0.8)


def _option(strike: float, amount: float, is_call: bool = True, sigma: float = 0.6, expiry: int = 0) -> list[Any]:
    return [expiry, strike, is_call, sigma, amount]


def _expiry(days: float, rate: float = 0.0, forward: float = 100.0) -> list[float]:
    return [days * DAY_S, forward, 1.0, rate, 1.0, 1.0]


ONE = {"scenarios": [{"spot_shock": 1.0, "vol": "none", "dampening": 1.0}], "basis_add": 0.0, "basis_mult": 0.0}


def _one(vol: str, shock: float = 1.0, dampening: float = 1.0) -> dict[str, Any]:
    return ONE | {"scenarios": [{"spot_shock": shock, "vol": vol, "dampening": dampening}]}


def test_pmrm2_long_and_short_expiries_are_discounted_apart() -> None:
    """An unmoved scenario: what is long is marked down, what is short marked up, but no higher than without any discount."""
    years, rate = 73.0 / 365.0, 0.3
    value = black76_price(100.0, 90.0, 0.6, years, True, math.exp(-rate * years))
    long = _pmrm2(ONE, expiries=[_expiry(73.0, rate)], options=[_option(90.0, 2.0)])
    assert long["options mark to market"] == pytest.approx(2.0 * value, rel=1e-12)
    assert long["max loss"] == pytest.approx(2.0 * value * (0.95 * math.exp(-years * (rate + 0.08)) - 1.0), rel=1e-12)
    short = _pmrm2(ONE, expiries=[_expiry(73.0, rate)], options=[_option(90.0, -2.0)])
    assert short["max loss"] == pytest.approx(-2.0 * value * (math.exp(rate * years) - 1.0), rel=1e-12)
    gentle = {"discount_negative": 1.01, "short_mult": 0.0, "short_add": 0.0}
    short = _pmrm2(ONE | gentle, expiries=[_expiry(73.0, rate)], options=[_option(90.0, -2.0)])
    assert short["max loss"] == pytest.approx(-2.0 * value * 0.01, rel=1e-12)


def test_pmrm2_a_gain_is_no_loss() -> None:
    """A perpetual and a straddle, both long, in one scenario that is up by half: no way of the forward hurts the straddle either."""
    found = _pmrm2(
        _one("none", 1.5) | {"basis_add": 1.0, "long_add": 0.0, "discount": 1.0},
        perps=[2.0, 0.0, 0.0],
        expiries=[_expiry(0.1)],
        options=[_option(100.0, 1.0), _option(100.0, 1.0, is_call=False)],
    )
    assert (found["worst scenario"], found["forward contingency"], found["max loss"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("seconds", [0.0, -60.0])
def test_pmrm2_what_has_expired_is_not_discounted(seconds: float) -> None:
    """Nor does it move: up or down by half, the call is worth what it is."""
    for shock in (1.0, 1.5, 0.5):
        legs = [_option(40.0, 1.0), _option(70.0, -1.0)]
        found = _pmrm2(_one("none", shock), expiries=[[seconds, 100.0, 1.0, 0.3, 1.0, 1.0]], options=legs)
        assert (found["options mark to market"], found["max loss"]) == (30.0, 0.0)
        alone = _pmrm2(_one("none", shock), expiries=[[seconds, 100.0, 1.0, 0.3, 1.0, 1.0]], options=legs[:1])
        assert (alone["options mark to market"], alone["max loss"]) == (60.0, 0.0)
    for amount in (1.0, -1.0):  # beside a perpetual that loses 50, neither a gain nor a loss
        beside = _pmrm2(
            _one("none", 0.5),
            expiries=[[seconds, 100.0, 1.0, 0.3, 1.0, 1.0]],
            options=[_option(40.0, amount)],
            perps=[1.0, 0.0, 0.0],
        )
        assert beside["max loss"] == -50.0


def test_pmrm2_pairs_are_of_expiry_and_strike() -> None:
    expiries, strikes = np.array([0, 0, 1, 0]), np.array([90.0, 100.0, 90.0, 90.0])
    assert derive_pmrm2.option_pairs(expiries, strikes).tolist() == [0, 1, 2, 0]
    with pytest.raises(ValueError, match="shorter"):
        derive_pmrm2.option_pairs(expiries, strikes[:3])


def test_pmrm2_a_rate_below_zero_counts_as_zero() -> None:
    below, zero = (_pmrm2(expiries=[_expiry(100.0, rate)], options=[_option(90.0, 1.0)]) for rate in (-0.5, 0.0))
    assert below == zero


@pytest.mark.parametrize(("days", "power"), [(10.0, 0.3), (30.0, 0.13), (90.0, 0.13)])
def test_pmrm2_volatility_shocks_by_tenor(days: float, power: float) -> None:
    spread = (30.0 / days) ** power
    arrays = derive_pmrm2.terms(pmrm2_parameters())
    years = days / 365.0
    for kind, factor in ((derive_pmrm2.UP, 1.0 + 0.5 * spread), (derive_pmrm2.DOWN, 1.0 - 0.275 * spread), (derive_pmrm2.NONE, 1.0)):
        assert derive_pmrm2.shocked_sigma(0.6, kind, 100.0, 130.0, years, arrays) == pytest.approx(0.6 * factor, rel=1e-12)
    assert derive_pmrm2.shocked_sigma(0.1, derive_pmrm2.UP, 100.0, 130.0, years, arrays) == 0.45
    assert derive_pmrm2.shocked_sigma(0.6, derive_pmrm2.DOWN, 100.0, 130.0, years, arrays._replace(range_down=9.0)) == 0.0


def test_pmrm2_volatility_shocks_of_short_tenors_stop_at_the_floor() -> None:
    arrays = derive_pmrm2.terms(pmrm2_parameters())._replace(days_floor=2.0)
    floor = derive_pmrm2.shocked_sigma(0.6, derive_pmrm2.UP, 100.0, 130.0, 2.0 / 365.0, arrays)
    assert derive_pmrm2.shocked_sigma(0.6, derive_pmrm2.UP, 100.0, 130.0, 0.5 / 365.0, arrays) == floor
    assert derive_pmrm2.shocked_sigma(0.6, derive_pmrm2.UP, 100.0, 130.0, 0.5 / 365.0, arrays._replace(days_floor=1.0)) > floor


@pytest.mark.parametrize(("days", "power"), [(29.9, 0.3), (30.1, 0.13)])
def test_pmrm2_a_floor_beyond_a_month_keeps_the_power_of_what_expires_sooner(days: float, power: float) -> None:
    arrays = derive_pmrm2.terms(pmrm2_parameters())._replace(days_floor=399.0)
    moved = derive_pmrm2.shocked_sigma(0.6, derive_pmrm2.UP, 100.0, 130.0, days / 365.0, arrays)
    assert moved == pytest.approx(0.6 * (1.0 + 0.5 * (30.0 / 399.0) ** power), rel=1e-12)


def test_pmrm2_skew_shocks() -> None:
    arrays = derive_pmrm2.terms(pmrm2_parameters())
    root = math.sqrt(0.25)
    cap, k_star = 0.15 - 0.05 * root, 4.0 * root * (0.6 - 0.1 * root)
    for strike, kind, sign in ((130.0, derive_pmrm2.LINEAR, 1), (70.0, derive_pmrm2.LINEAR, 1), (70.0, derive_pmrm2.ABS, -1)):
        expected = 0.6 * (1.0 + sign * math.log(strike / 100.0) / k_star * cap)
        assert derive_pmrm2.shocked_sigma(0.6, kind, 100.0, strike, 0.25, arrays) == pytest.approx(expected, rel=1e-12)
    for strike, kind, bound in ((1e4, derive_pmrm2.LINEAR, cap), (1.0, derive_pmrm2.LINEAR, -cap), (1.0, derive_pmrm2.ABS, cap)):
        assert derive_pmrm2.shocked_sigma(0.6, kind, 100.0, strike, 0.25, arrays) == pytest.approx(0.6 * (1.0 + bound), rel=1e-12)
    assert derive_pmrm2.shocked_sigma(0.6, derive_pmrm2.LINEAR, 100.0, 1.0, 0.25, arrays._replace(linear_scale=9.0)) == 0.0
    wide = arrays._replace(k_star_min=50.0)
    expected = 0.6 * (1.0 + math.log(1.3) / 50.0 * cap)
    assert derive_pmrm2.shocked_sigma(0.6, derive_pmrm2.LINEAR, 100.0, 130.0, 0.25, wide) == pytest.approx(expected, rel=1e-12)
    no_cap = arrays._replace(linear_scale=0.0, linear_base=0.0)
    assert derive_pmrm2.shocked_sigma(0.6, derive_pmrm2.LINEAR, 100.0, 130.0, 0.25, no_cap) == 0.6


def test_pmrm2_a_skew_with_a_cap_below_zero_has_it_at_least() -> None:
    """A cap of -2 at three months, of both skews. Nearer than k* it is the cap itself, at the forward too; beyond, more than that."""
    arrays = derive_pmrm2.terms(pmrm2_parameters())._replace(linear_scale=1.0, linear_base=-6.0, abs_scale=1.0, abs_base=-6.0)
    k_star = 4.0 * 0.5 * (0.6 - 0.05)
    for strike, kind, factor in (
        (100.0, derive_pmrm2.LINEAR, -2.0),
        (120.0, derive_pmrm2.LINEAR, -2.0),
        (80.0, derive_pmrm2.LINEAR, 2.0),
        (80.0, derive_pmrm2.ABS, -2.0),
        (100.0 * math.exp(-1.5 * k_star), derive_pmrm2.LINEAR, 3.0),
    ):
        moved = derive_pmrm2.shocked_sigma(0.6, kind, 100.0, strike, 0.25, arrays)
        assert moved == pytest.approx(0.6 * max(1.0 + factor, 0.0), rel=1e-12)
    slight = arrays._replace(linear_scale=0.0, linear_base=-0.2)
    for k, factor in ((0.5, 0.9), (2.0, 0.8), (-0.5, 1.1), (-2.0, 1.2)):
        moved = derive_pmrm2.shocked_sigma(0.6, derive_pmrm2.LINEAR, 100.0, 100.0 * math.exp(k * k_star), 0.25, slight)
        assert moved == pytest.approx(0.6 * factor, rel=1e-12)


def test_pmrm2_multipliers_of_the_skew_as_the_venue_states_them() -> None:
    """Of its test portfolio 128 (derivexyz/v2-core): a linear base of -10, 11,076,452 seconds to expiry."""
    arrays = derive_pmrm2.terms(pmrm2_parameters())._replace(linear_base=-10.0)
    years, forward_usd = 11_076_452.0 / YEAR_S, 2745.2490272903915
    for strike, linear, both in (
        (1367.0, 6.776482842615451, 1.0654724277976935),
        (616.0, 7.734152138281604, 1.1203675857869226),
        (2320.0, 6.776482842615451, 1.015803886741338),
        (9988.0, 0.0, 1.1203675857869226),  # -4.82, and a volatility is not below 0
    ):
        for kind, multiplier in ((derive_pmrm2.LINEAR, linear), (derive_pmrm2.ABS, both)):
            moved = derive_pmrm2.shocked_sigma(1.0, kind, forward_usd, strike, years, arrays)
            assert moved == pytest.approx(multiplier, rel=1e-12)


def test_pmrm2_there_is_no_number_where_the_venue_divides_by_zero() -> None:
    arrays = derive_pmrm2.terms(pmrm2_parameters())._replace(k_star_min=0.0, width=0.0, days_floor=0.0)
    for kind in (derive_pmrm2.LINEAR, derive_pmrm2.ABS):
        assert math.isnan(derive_pmrm2.shocked_sigma(0.6, kind, 100.0, 130.0, 0.25, arrays))
    assert derive_pmrm2.shocked_sigma(0.6, derive_pmrm2.UP, 100.0, 130.0, 0.25, arrays) > 0.6
    assert derive_pmrm2.shocked_sigma(0.6, derive_pmrm2.UP, 100.0, 130.0, 0.0, arrays) == 0.6  # has expired: nothing to divide
    [case] = [case for case in portfolios.carried() if case.name.startswith("12:")]
    flat = structs.replace(case.parameters, k_star_min=0.0, width=0.0)
    assert np.isnan(portfolios.evaluated(replace(case, parameters=flat))).all()


def test_pmrm2_volatility_falls_to_nothing_and_not_below() -> None:
    arrays = derive_pmrm2.terms(pmrm2_parameters())
    fallen = [
        derive_pmrm2.shocked_sigma(0.6, derive_pmrm2.DOWN, 100.0, 130.0, 30.0 / 365.0, arrays._replace(range_down=share))
        for share in (0.5, 1.0, 1.5)
    ]
    assert fallen == pytest.approx([0.3, 0.0, 0.0])
    fallen = [
        derive_pmrm2.shocked_sigma(0.6, derive_pmrm2.LINEAR, 100.0, 1.0, 0.25, arrays._replace(linear_scale=cap, linear_base=0.0))
        for cap in (0.5, 1.0, 1.5)
    ]
    assert fallen == pytest.approx([0.3, 0.0, 0.0])


@pytest.mark.parametrize(("strike", "years"), [(130.0, 0.0), (130.0, -0.5), (0.0, 0.25), (-0.5, 0.25)])
def test_pmrm2_there_is_no_skew_without_a_time_or_a_strike(strike: float, years: float) -> None:
    arrays = derive_pmrm2.terms(pmrm2_parameters())
    assert derive_pmrm2.shocked_sigma(0.6, derive_pmrm2.LINEAR, 100.0, strike, years, arrays) == 0.6


@pytest.mark.parametrize("vol", ["linear", "abs"])
def test_pmrm2_a_skew_scenario_moves_perpetuals_and_coins_but_no_forward(vol: str) -> None:
    given = {"expiries": [_expiry(50.0)], "options": [_option(130.0, -1.0)]}
    still, moved = (_pmrm2(_one(vol, shock), **given)["max loss"] for shock in (1.0, 1.5))
    assert still == moved < 0.0
    beside = _pmrm2(_one(vol, 1.5), **given, perps=[-2.0, 0.0, 0.0])
    assert beside["max loss"] == pytest.approx(still - 100.0, rel=1e-12)


@pytest.mark.parametrize("amount", [1.0, -1.0])
def test_pmrm2_a_skew_scenario_is_a_loss_whatever_its_sign(amount: float) -> None:
    """Two expiries that would offset each other do not."""
    plain = {"discount": 1.0, "discount_negative": 1.0, "long_add": 0.0, "short_add": 0.0, "long_mult": 0.0, "short_mult": 0.0}
    legs = [_option(130.0, amount), _option(130.0, -amount, expiry=1)]
    both = _pmrm2(_one("abs", dampening=2.0) | plain, expiries=[_expiry(50.0), _expiry(80.0)], options=legs)
    alone = [
        _pmrm2(_one("abs", dampening=2.0) | plain, expiries=[_expiry(days)], options=[_option(130.0, 1.0)])["max loss"]
        for days in (50.0, 80.0)
    ]
    assert alone[0] < 0.0
    assert both["max loss"] == pytest.approx(sum(alone), rel=1e-12)


def test_pmrm2_forward_contingency_takes_each_expiry_at_its_worse() -> None:
    """Short in one expiry against long in another: each is hurt by its own direction."""
    legs = [_option(100.0, -1.0), _option(100.0, 1.0, expiry=1)]
    found = _pmrm2({"basis_add": 3.0}, expiries=[_expiry(36.5), _expiry(73.0)], options=legs)
    expected = 0.0
    for years, amount, worse in ((0.1, -1.0, 104.5), (0.2, 1.0, 95.5)):
        change = black76_price(worse, 100.0, 0.6, years, True, 1.0) - black76_price(100.0, 100.0, 0.6, years, True, 1.0)
        expected += amount * change * (3.0 + 2.0 * years)
    assert found["forward contingency"] == pytest.approx(expected, rel=1e-12)
    assert found["max loss"] == min(found["worst scenario"], found["forward contingency"])


@pytest.mark.parametrize(("seconds", "share"), [(3600.0, 1.0), (1800.0, 1.0), (450.0, 0.25), (0.0, 0.0), (-60.0, 0.0)])
def test_pmrm2_near_expiry_only_what_is_not_yet_averaged_moves(seconds: float, share: float) -> None:
    found = _pmrm2(
        _one("none", 1.5) | {"discount": 1.0, "long_add": 0.0},
        expiries=[[seconds, 100.0, 1.0, 0.0, 1.0, 1.0]],
        options=[_option(40.0, -1.0)],
    )
    assert found["max loss"] == pytest.approx(-50.0 * share, abs=1e-9)


def test_pmrm2_option_contingency_counts_what_is_net_short_of_a_strike() -> None:
    legs = [_option(100.0, -3.0), _option(100.0, 1.0, is_call=False), _option(110.0, -1.0, is_call=False), _option(120.0, 9.0)]
    found = _pmrm2(expiries=[_expiry(50.0)], options=legs)
    assert found["maintenance option contingency"] == pytest.approx(-3.0 * 100.0 * 0.003)
    assert found["initial option contingency"] == pytest.approx(-3.0 * 100.0 * 0.005)


@pytest.mark.parametrize(
    ("spot", "perp", "forward", "rate", "sigma", "perps", "expected"),
    [
        (0.55, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0),  # at the threshold nothing is wrong yet
        (0.5, 1.0, 1.0, 1.0, 1.0, 0.0, 2.0 * 0.5),
        (1.0, 0.1, 1.0, 1.0, 1.0, 0.0, 0.0),  # no perpetual: its feed does not matter
        (1.0, 0.1, 1.0, 1.0, 1.0, 3.0, 5.0 * 0.9),  # the options' too, if there is one
        (0.2, 0.1, 1.0, 1.0, 1.0, -3.0, 5.0 * 0.9),
        (1.0, 1.0, 0.3, 1.0, 1.0, 3.0, 2.0 * 0.7),
        (1.0, 1.0, 1.0, 0.4, 1.0, 3.0, 2.0 * 0.6),
        (1.0, 1.0, 1.0, 1.0, 0.0, 3.0, 2.0),
    ],
)
def test_pmrm2_oracle_contingency(
    spot: float, perp: float, forward: float, rate: float, sigma: float, perps: float, expected: float
) -> None:
    expiry = [50.0 * DAY_S, 100.0, forward, 0.0, rate, sigma]
    found = _pmrm2(spot=[100.0, spot], perp=[100.0, perp], perps=[perps, 0.0, 0.0], expiries=[expiry], options=[_option(100.0, 2.0)])
    assert found["oracle contingency"] == pytest.approx(-100.0 * expected)
    assert found["equity"] - found["initial"] == pytest.approx(found["initial margin"])


def test_pmrm2_refuses_indices_of_what_there_is_not() -> None:
    subject = pmrm2_subject(4, 3)
    legs = subject.inputs.leg_option.copy()
    legs[0] = len(subject.inputs.option_expiry)
    with pytest.raises(ValueError, match="leg_option"):
        derive_pmrm2.require_indices(subject.inputs._replace(leg_option=legs), subject.parameters)
    with pytest.raises(ValueError, match="start"):
        derive_pmrm2.require_indices(subject.inputs._replace(start=subject.inputs.start[:-1]), subject.parameters)


@pytest.mark.parametrize("account", [-1, 4])
def test_parts_are_of_an_account_that_there_is(account: int) -> None:
    for module, subject in ((derive_pmrm2, pmrm2_subject(4, 3)), (derive_srm, srm_subject(4, 3))):
        with pytest.raises(IndexError, match=f"account {account} of 4"):
            module.parts(subject.inputs, subject.parameters, account)


def test_parts_of_one_of_many_are_its_own() -> None:
    for module, subject in ((derive_pmrm2, pmrm2_subject(4, 3)), (derive_srm, srm_subject(4, 3))):
        out = subject.evaluated()
        for account in range(4):
            named = dict(module.parts(subject.inputs, subject.parameters, account))
            assert named["initial margin"] == out[account, EQUITY_USD] - out[account, INITIAL_USD]
            assert named["maintenance margin"] == out[account, EQUITY_USD] - out[account, MAINTENANCE_USD]


def test_pmrm2_every_fault_of_parameters_is_told_at_once() -> None:
    document = to_builtins(pmrm2_parameters())
    document["discount"] = -0.5
    document["scenarios"][3]["vol"] = "sideways"
    document["scenarios"][4]["colour"] = "red"
    document["spare"] = 1.0
    del document["width"]
    found = read(derive_pmrm2.Parameters, document)
    assert isinstance(found, list)
    assert [fault.split(":")[0] for fault in found] == ["spare", "scenarios[3].vol", "scenarios[4].colour", "width", "discount"]


def test_pmrm2_so_many_scenarios_and_collaterals_are_taken_and_no_more() -> None:
    document = to_builtins(pmrm2_parameters())
    scenario, asset = document["scenarios"][0], document["collaterals"][0]
    for many, taken in ((64, True), (65, False)):
        for changed in ({"scenarios": [scenario] * many}, {"collaterals": [asset] * many}):
            assert isinstance(read(derive_pmrm2.Parameters, document | changed), derive_pmrm2.Parameters) is taken


def test_pmrm2_a_scenario_counts_whole_unless_it_says_so() -> None:
    assert derive_pmrm2.Scenario(1.1, "up") == derive_pmrm2.Scenario(1.1, "up", 1.0)


# --- SRM


def _srm(options: list[tuple[float, float, bool]], **changes: Any) -> tuple[float, float, dict[str, float]]:
    """Initial and maintenance margin (what is left, USD) and parts: options (strike, amount, call) at spot 2,000, one expiry, vol 0."""
    [case] = [case for case in standard.cases(None) if case.name == "test_long_ATM_call"]
    expiry = int(case.inputs.option_expiry[0])
    inputs = case.inputs._replace(
        forward_usd=np.full(len(case.inputs.forward_usd), 2_000.0),
        option_expiry=np.full(len(options), expiry, dtype=np.int64),
        option_strike_usd=np.array([strike for strike, _, _ in options], dtype=np.float64),
        option_is_call=np.array([is_call for _, _, is_call in options], dtype=np.bool_),
        option_sigma=np.zeros(len(options)),
        start=np.array([0, len(options)], dtype=np.int64),
        leg_option=np.arange(len(options), dtype=np.int64),
        leg_amount=np.array([amount for _, amount, _ in options], dtype=np.float64),
    )._replace(**changes)
    arrays = derive_srm.terms(case.parameters)
    derive_srm.require_indices(inputs, arrays)
    out = np.empty((1, 4))
    derive_srm.margins(inputs, arrays, out)
    named = dict(derive_srm.parts(inputs, arrays, 0))
    initial, maintenance = out[0, EQUITY_USD] - out[0, INITIAL_USD], out[0, EQUITY_USD] - out[0, MAINTENANCE_USD]
    assert (named["initial margin"], named["maintenance margin"]) == (initial, maintenance)
    return float(initial), float(maintenance), named


@pytest.mark.parametrize(
    ("strike", "is_call", "initial", "maintenance"),
    [
        (2_000.0, True, 300.0, 150.0),
        (2_050.0, True, 250.0, 150.0),  # 2.5% out of the money
        (2_000.5, True, 299.5, 150.0),
        (1_999.5, True, 300.5, 150.5),
        (1_999.5, False, 299.5, 150.0),
        (2_000.5, False, 300.5, 150.5),
        (100.0, False, 100.0, 100.0),  # no more than it can lose
        (2_600.0, True, 200.0, 150.0),  # never below the floor
        (1_500.0, True, 800.0, 650.0),
        (1_500.0, False, 200.0, 150.0),
        (3_000.0, False, 1_300.0, 1_150.0),
        (9_000.0, False, 7_525.0 * 1.05, 7_525.0),  # the mark's share is above the spot's
    ],
)
def test_srm_a_short_option_by_hand(strike: float, is_call: bool, initial: float, maintenance: float) -> None:
    found = _srm([(strike, -1.0, is_call)])
    assert list(found[:2]) == pytest.approx([-initial, -maintenance])


def test_srm_a_long_option_is_worth_nothing_by_itself() -> None:
    initial, maintenance, named = _srm([(1_500.0, 3.0, True)])
    assert (initial, maintenance) == (0.0, 0.0)
    assert named["options, marked to market"] == pytest.approx(1_500.0)


def test_srm_a_spread_costs_its_greatest_loss_at_most() -> None:
    assert _srm([(1_800.0, -1.0, True), (1_900.0, 1.0, True)])[:2] == (-100.0, -100.0)
    assert _srm([(1_800.0, 1.0, True), (1_900.0, -1.0, True)])[:2] == (0.0, 0.0)
    assert _srm([(1_800.0, 1.0, False), (1_900.0, -1.0, False)])[:2] == (-100.0, -100.0)
    assert _srm([(1_800.0, -1.0, True), (1_800.5, 2.0, True)])[:2] == (-0.5, -0.5)
    iron = [(1_800.0, 1.0, False), (1_900.0, -2.0, False), (2_100.0, -1.0, True), (2_300.0, 1.0, True)]
    assert list(_srm(iron)[:2]) == pytest.approx([-600.0, -450.0])  # isolated: the loss at 0 would be 2,000


def test_srm_calls_that_nothing_pairs_cost_a_share_of_the_forward() -> None:
    initial, maintenance, _ = _srm([(1_800.0, -1.1, True), (1_900.0, 1.0, True)])
    assert [initial, maintenance] == pytest.approx([-110.0 - 0.1 * 2_000.0 * 1.2, -110.0 - 0.1 * 2_000.0 * 1.1])


def test_srm_legs_of_one_option_are_one_position() -> None:
    split = {"leg_option": np.array([0, 0, 0]), "leg_amount": np.array([-3.0, 1.5, 0.5]), "start": np.array([0, 3])}
    assert _srm([(2_000.0, -1.0, True)], **split) == _srm([(2_000.0, -1.0, True)])
    closed = {"leg_option": np.array([0, 0]), "leg_amount": np.array([-3.0, 3.0]), "start": np.array([0, 2])}
    assert _srm([(2_000.0, -1.0, True)], **closed)[:2] == (0.0, 0.0)


def test_srm_doubt_and_a_lost_peg_count_for_what_is_short() -> None:
    [case] = [case for case in standard.cases(None) if case.name == "test_long_ATM_call"]
    unsure = np.full(len(case.inputs.sigma_confidence), 0.25)
    for amount, cost in ((-1.0, 2_000.0 * 0.75 * 0.4), (1.0, 0.0)):
        assert _srm([(2_000.0, amount, True)], sigma_confidence=unsure)[2]["oracle contingency"] == pytest.approx(-cost)
        assert _srm([(2_000.0, amount, True)], stable_usd=0.88)[2]["depeg contingency"] == pytest.approx(
            -(amount < 0) * 2_000.0 * 0.1 * 1.2
        )


def test_srm_a_coin_that_is_owed_counts_whole() -> None:
    one = {"base_start": np.array([0, 1]), "base_market": np.array([0])}
    assert _srm([], **one, base_amount=np.array([1.0]))[:2] == (1_600.0, 1_600.0)
    assert _srm([], **one, base_amount=np.array([-1.0]))[:2] == (-2_000.0, -2_000.0)
    assert _srm([], **one, base_amount=np.array([0.00025]))[:2] == pytest.approx((0.4, 0.4))
    assert _srm([], **one, base_amount=np.array([-0.00025]))[:2] == pytest.approx((-0.5, -0.5))


def test_srm_what_is_long_needs_no_confidence() -> None:
    unknown = np.full(16, math.nan)
    assert _srm([(1_500.0, 3.0, True)], sigma_confidence=unknown, forward_confidence=unknown)[:2] == (0.0, 0.0)


def test_srm_perpetuals_and_coins_by_hand() -> None:
    """Each coin's perpetual has the worse of two confidences; 0.8 of a coin counts; USDC at 0.88 is 0.1 below its threshold.

    3 ether short at 2,001, 0.5 bitcoin long at 28,020; 2 ether owed and 0.25 bitcoin held, at 2,000 and 28,000.
    """
    [case] = [case for case in standard.cases(None) if case.name == "test_long_ATM_call"]
    inputs = case.inputs._replace(
        stable_usd=0.88,
        spot_confidence=np.array([0.3, 1.0]),
        perp_confidence=np.array([1.0, 0.2]),
        cash_usd=np.array([1_000.0]),
        start=np.array([0, 0]),
        leg_option=np.zeros(0, dtype=np.int64),
        leg_amount=np.zeros(0),
        perp_start=np.array([0, 2]),
        perp_market=np.array([0, 1]),
        perp_amount=np.array([-3.0, 0.5]),
        perp_profit_usd=np.array([70.0, -20.0]),
        base_start=np.array([0, 2]),
        base_market=np.array([0, 1]),
        base_amount=np.array([-2.0, 0.25]),
    )
    ether, bitcoin = case.parameters.markets
    arrays = derive_srm.terms(structs.replace(case.parameters, markets=(ether, structs.replace(bitcoin, base_initial_scale=0.5))))
    derive_srm.require_indices(inputs, arrays)
    named = dict(derive_srm.parts(inputs, arrays, 0))
    perps_usd = 3 * 2_001.0 + 0.5 * 28_020.0
    assert named == pytest.approx(
        {
            "USDC balance": 1_000.0,
            "perp PNL": 50.0,
            "bases, marked to market": 7_000.0 - 4_000.0,
            "options, marked to market": 0.0,
            "initial base collateral": 7_000.0 * 0.8 * 0.5 - 4_000.0,
            "maintenance base collateral": 7_000.0 * 0.8 - 4_000.0,
            "initial perp margin": -perps_usd * 0.065,
            "maintenance perp margin": -perps_usd * 0.05,
            "initial option margin": 0.0,
            "maintenance option margin": 0.0,
            "depeg contingency": -(6_000.0 + 14_000.0) * 0.1 * 1.2,
            "oracle contingency": -(6_000.0 * 0.7 + 14_000.0 * 0.8 + 4_000.0 * 0.7) * 0.4,
            "initial margin": 1_050.0 + 2_800 - 4_000 - perps_usd * 0.065 - 2_400.0 - 18_200.0 * 0.4,
            "maintenance margin": 1_050.0 + 5_600 - 4_000 - perps_usd * 0.05,
        }
    )
    out = np.empty((1, 4))
    derive_srm.margins(inputs, arrays, out)
    assert out[0, EQUITY_USD] == 1_050.0 + 3_000.0
    assert out[0, DISTANCE] == pytest.approx(named["maintenance margin"] / (perps_usd + 4_000.0 + 7_000.0))


def test_srm_gross_notional_of_options_is_at_their_forward() -> None:
    [case] = [case for case in standard.cases(None) if case.name == "test_long_ATM_call"]
    inputs = case.inputs._replace(
        option_expiry=np.array([1, 9]),
        option_strike_usd=np.array([2_000.0, 28_000.0]),
        option_is_call=np.array([True, False]),
        option_sigma=np.array([0.5, 0.5]),
        start=np.array([0, 3]),
        leg_option=np.array([0, 1, 0]),
        leg_amount=np.array([-1.0, 0.5, -2.0]),
    )
    out = np.empty((1, 4))
    derive_srm.margins(inputs, derive_srm.terms(case.parameters), out)
    left_usd = out[0, EQUITY_USD] - out[0, MAINTENANCE_USD]
    assert out[0, DISTANCE] == pytest.approx(left_usd / (3 * inputs.forward_usd[1] + 0.5 * inputs.forward_usd[9]))


def test_srm_every_fault_of_parameters_is_told_at_once() -> None:
    document = to_builtins(standard.cases(None)[0].parameters)
    document["markets"][1]["spot_max"] = -1.0
    document["markets"][0]["name"] = 7
    document["depeg_factor"] = None
    found = read(derive_srm.Parameters, document)
    assert isinstance(found, list)
    assert [fault.split(":")[0] for fault in found] == ["markets[0].name", "markets[1].spot_max", "depeg_factor"]


def test_srm_bounds_between_parameters() -> None:
    document = to_builtins(standard.cases(None)[0].parameters)
    document["markets"][1].update(spot_max=0.05, spot_min=0.1)
    assert isinstance(read(derive_srm.Parameters, document), list)
    with pytest.raises(ValueError, match="perp_initial"):
        structs.replace(standard.cases(None)[0].parameters.markets[0], perp_initial=0.01)
    level = {"spot_max": 0.1, "spot_min": 0.1, "perp_initial": 0.05, "perp_maintenance": 0.05}
    assert structs.replace(standard.cases(None)[0].parameters.markets[0], **level).spot_max == 0.1


def test_srm_so_many_underlyings_are_taken_and_no_more() -> None:
    document = to_builtins(standard.cases(None)[0].parameters)
    for many, taken in ((64, True), (65, False)):
        changed = {"markets": [document["markets"][0]] * many}
        assert isinstance(read(derive_srm.Parameters, document | changed), derive_srm.Parameters) is taken


def test_srm_refuses_indices_of_what_there_is_not() -> None:
    subject = srm_subject(4, 3)
    with pytest.raises(ValueError, match="perp_market"):
        derive_srm.require_indices(subject.inputs._replace(perp_market=subject.inputs.perp_market - 5), subject.parameters)
    with pytest.raises(ValueError, match="base_start"):
        derive_srm.require_indices(subject.inputs._replace(base_start=subject.inputs.base_start + 1), subject.parameters)
