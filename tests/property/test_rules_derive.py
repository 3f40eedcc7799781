"""What holds of Derive's margins whatever is held: doubt never helps, twice the account needs twice as much, order does not matter."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import to_builtins

from engine.rules import derive_pmrm2, derive_srm
from engine.rules.faults import read
from engine.rules.interface import DISTANCE, EQUITY_USD, INITIAL_USD, MAINTENANCE_USD
from tests.derive_accounts import COLLATERALS, pmrm2_parameters, pmrm2_subject, srm_subject
from tests.twin import derive as twin
from tests.unit.rule_checks import Subject, check_batch_is_each_alone, check_order_of_legs

MAKERS = {"pmrm2": pmrm2_subject, "srm": srm_subject}
SIZES = {
    "pmrm2": ("cash_usd", "perps", "perp_profit_usd", "perp_funding_usd", "leg_amount", "held_amount"),
    "srm": ("cash_usd", "leg_amount", "perp_amount", "perp_profit_usd", "base_amount"),
}

ALLOWED = {
    "linear_scale": (0.0, 1.0),
    "linear_base": (-4.0, 1.0),
    "abs_scale": (0.0, 1.0),
    "abs_base": (-4.0, 1.0),
    "days_floor": (0.0, 100.0),
    "short_power": (0.0, 2.0),
    "long_power": (0.0, 2.0),
    "discount": (0.5, 4.0),
    "discount_negative": (0.5, 4.0),
    "perp_maintenance": (0.0, 3.0),
    "option_initial": (0.0, 2.0),
}

subjects = st.tuples(st.sampled_from(sorted(MAKERS)), st.integers(0, 2**32 - 1), st.integers(1, 12))


def made(drawn: tuple[str, int, int]) -> Subject:
    name, seed, legs = drawn
    return MAKERS[name](5, seed, legs)


@settings(max_examples=40, deadline=None)
@given(subjects)
def test_batch_and_order_do_not_matter(drawn: tuple[str, int, int]) -> None:
    check_batch_is_each_alone(made(drawn))
    check_order_of_legs(made(drawn))


@settings(max_examples=60, deadline=None)
@given(subjects, st.data())
def test_more_confidence_never_raises_a_requirement(drawn: tuple[str, int, int], data: st.DataObject) -> None:
    subject = made(drawn)
    name = data.draw(st.sampled_from([feed for feed in subject.feeds if feed.endswith("confidence")]))
    low, high = sorted(data.draw(st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0))))
    feed = getattr(subject.inputs, name)
    unsure, sure = (
        subject.changed(**{name: level if np.isscalar(feed) else np.full_like(feed, level)}).evaluated() for level in (low, high)
    )
    assert (sure[:, INITIAL_USD] <= unsure[:, INITIAL_USD] + 1e-12 * np.abs(unsure[:, INITIAL_USD])).all()
    np.testing.assert_array_equal(sure[:, MAINTENANCE_USD], unsure[:, MAINTENANCE_USD])


@settings(max_examples=60, deadline=None)
@given(subjects, st.sampled_from([0.125, 0.5, 2.0, 1024.0]))
def test_so_many_times_the_account_needs_so_many_times_as_much(drawn: tuple[str, int, int], factor: float) -> None:
    """A power of two, so it holds to the last bit: nothing in the rules is a number of dollars or contracts."""
    subject = made(drawn)
    once = subject.evaluated()
    many = subject.changed(**{name: getattr(subject.inputs, name) * factor for name in SIZES[drawn[0]]}).evaluated()
    np.testing.assert_array_equal(many[:, :DISTANCE], once[:, :DISTANCE] * factor)
    np.testing.assert_array_equal(many[:, DISTANCE], once[:, DISTANCE])


@settings(max_examples=60, deadline=None)
@given(subjects)
def test_initial_is_not_below_maintenance_and_neither_below_nothing(drawn: tuple[str, int, int]) -> None:
    found = made(drawn).evaluated()
    slack = 1e-9 * np.abs(found).max(where=np.isfinite(found), initial=1.0)
    assert (found[:, INITIAL_USD] >= found[:, MAINTENANCE_USD] - slack).all()
    assert (found[:, MAINTENANCE_USD] >= -slack).all()


@settings(max_examples=40, deadline=None)
@given(subjects, st.floats(-1e6, 1e6))
def test_cash_changes_equity_alone(drawn: tuple[str, int, int], more_usd: float) -> None:
    subject = made(drawn)
    before = subject.evaluated()
    after = subject.changed(cash_usd=subject.inputs.cash_usd + more_usd).evaluated()
    np.testing.assert_allclose(after[:, EQUITY_USD], before[:, EQUITY_USD] + more_usd, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(after[:, [INITIAL_USD, MAINTENANCE_USD]], before[:, [INITIAL_USD, MAINTENANCE_USD]], rtol=1e-9, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_two_portfolio_margined_accounts_need_no_more_together_than_apart(seed: int, legs: int) -> None:
    """A greatest loss of sums is at most the sum of greatest losses; contingencies of netted positions at most those of each.

    Not so in standard margin, where each expiry has the better of two figures; nor with discounts, which go by the sign of what an
    expiry is worth: here there are none.
    """
    subject = pmrm2_subject(2, seed, legs)
    terms = subject.parameters._replace(discount=1.0, discount_negative=1.0, long_mult=0.0, long_add=0.0)
    subject = replace(subject, parameters=terms)
    merged = {offsets: getattr(subject.inputs, offsets)[[0, 2]] for offsets in subject.legs}
    totals = {field: getattr(subject.inputs, field).sum(keepdims=True) for field in subject.by_account}
    apart, together = subject.evaluated(), subject.changed(**merged, **totals).evaluated()[0]
    slack = 1e-9 * np.abs(apart[:, :DISTANCE]).max()
    assert together[EQUITY_USD] == pytest.approx(apart[:, EQUITY_USD].sum(), rel=1e-9, abs=slack)
    assert together[INITIAL_USD] <= apart[:, INITIAL_USD].sum() + slack
    assert together[MAINTENANCE_USD] <= apart[:, MAINTENANCE_USD].sum() + slack


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([0.1, 0.9, 1.0]), st.sampled_from([0.5, 1.0]))
def test_pmrm2_is_its_twin(seed: int, legs: int, spot_confidence: float, stable_usd: float) -> None:
    subject = pmrm2_subject(4, seed, legs, listed_strikes=3)
    subject = subject.changed(spot_confidence=spot_confidence, stable_usd=stable_usd)
    parameters = to_builtins(pmrm2_parameters())
    dice = random.Random(seed)
    if dice.random() < 0.5:  # what the venue's contract allows, beyond what its cases have
        parameters |= {name: dice.uniform(*bounds) for name, bounds in ALLOWED.items()}
        for scenario in parameters["scenarios"][-2:]:
            scenario["spot_shock"] = dice.uniform(0.8, 1.2)
        whole = read(derive_pmrm2.Parameters, parameters)
        assert isinstance(whole, derive_pmrm2.Parameters), whole
        subject = replace(subject, parameters=derive_pmrm2.terms(whole))
    _compare(subject, [twin.pmrm2(_portfolio(subject.inputs, account), parameters) for account in range(4)])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([0.5, 0.97, 1.0]))
def test_srm_is_its_twin(seed: int, legs: int, stable_usd: float) -> None:
    subject = srm_subject(4, seed, legs).changed(stable_usd=stable_usd)
    terms = subject.parameters
    found = [twin.srm(_account(subject.inputs, terms, account), terms.depeg_threshold, terms.depeg_factor) for account in range(4)]
    _compare(subject, found)


def _compare(subject: Subject, found: list[tuple[float, float, float]]) -> None:
    """The twin says what is left, the kernel what is required."""
    expected = np.array(found)
    out = subject.evaluated()
    ours = np.column_stack([out[:, EQUITY_USD], out[:, EQUITY_USD] - out[:, INITIAL_USD], out[:, EQUITY_USD] - out[:, MAINTENANCE_USD]])
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-11 * np.abs(expected).max())


def _portfolio(inputs: derive_pmrm2.Inputs, account: int) -> dict[str, Any]:
    """One account of a portfolio margined batch in the twin's words."""
    expiries = [
        {"seconds": seconds, "forward": forward, "rate": rate, "confs": confs}
        for seconds, forward, rate, *confs in zip(
            *(inputs.expiry_s, inputs.forward_usd, inputs.rate, inputs.forward_confidence, inputs.rate_confidence, inputs.sigma_confidence),
            strict=True,
        )
    ]
    parameters = pmrm2_parameters()
    options, collaterals = [], []
    for leg in range(inputs.start[account], inputs.start[account + 1]):
        option = inputs.leg_option[leg]
        options.append(
            {
                "expiry": expiries[inputs.option_expiry[option]],
                "strike": inputs.option_strike_usd[option],
                "call": bool(inputs.option_is_call[option]),
                "sigma": inputs.option_sigma[option],
                "amount": inputs.leg_amount[leg],
            }
        )
    for leg in range(inputs.collateral_start[account], inputs.collateral_start[account + 1]):
        asset = inputs.held_collateral[leg]
        rules = parameters.collaterals[asset]
        assert rules.name == COLLATERALS[asset][0]
        collaterals.append(
            {
                "value": inputs.held_amount[leg] * inputs.collateral_usd[asset] / inputs.stable_usd,
                "conf": inputs.collateral_confidence[asset],
                "hedges": rules.risk_cancelling,
                "initial": rules.initial_haircut,
                "maintenance": rules.maintenance_haircut,
                "threshold": rules.confidence_threshold,
            }
        )
    return {
        "spot": inputs.spot_usd,
        "spot_conf": inputs.spot_confidence,
        "perp": inputs.perp_usd,
        "perp_conf": inputs.perp_confidence,
        "stable": inputs.stable_usd,
        "cash": inputs.cash_usd[account],
        "perps": inputs.perps[account],
        "profit": inputs.perp_profit_usd[account] + inputs.perp_funding_usd[account],
        "options": options,
        "collaterals": collaterals,
    }


def _account(inputs: derive_srm.Inputs, terms: derive_srm.Terms, account: int) -> dict[str, Any]:
    """One account of a standard margined batch in the twin's words."""
    markets: list[dict[str, Any]] = [
        {
            **{name: column[number] for name, column in terms._asdict().items() if np.ndim(column)},
            "spot": inputs.spot_usd[number],
            "spot_conf": inputs.spot_confidence[number],
            "perp": inputs.perp_usd[number],
            "perp_conf": inputs.perp_confidence[number],
        }
        for number in range(len(inputs.spot_usd))
    ]
    expiries = [
        {"market": markets[market], "seconds": seconds, "forward": forward, "confs": confs}
        for market, seconds, forward, *confs in zip(
            *(inputs.expiry_market, inputs.expiry_s, inputs.forward_usd, inputs.forward_confidence, inputs.sigma_confidence), strict=True
        )
    ]
    options = [
        {
            "expiry": expiries[inputs.option_expiry[option]],
            "strike": inputs.option_strike_usd[option],
            "call": bool(inputs.option_is_call[option]),
            "sigma": inputs.option_sigma[option],
            "amount": amount,
        }
        for option, amount in _legs(inputs.start, account, inputs.leg_option, inputs.leg_amount)
    ]
    perps = [
        {"market": markets[market], "amount": amount, "profit": profit}
        for market, amount, profit in _legs(inputs.perp_start, account, inputs.perp_market, inputs.perp_amount, inputs.perp_profit_usd)
    ]
    bases = [
        {"market": markets[market], "amount": amount}
        for market, amount in _legs(inputs.base_start, account, inputs.base_market, inputs.base_amount)
    ]
    return {"stable": inputs.stable_usd, "cash": inputs.cash_usd[account], "options": options, "perps": perps, "bases": bases}


def _legs(start: Any, account: int, *columns: Any) -> list[tuple[Any, ...]]:
    return list(zip(*(column[start[account] : start[account + 1]] for column in columns), strict=True))
