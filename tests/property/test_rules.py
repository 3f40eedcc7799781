"""What every venue's rule must hold to, over random books; and its kernels against plain Python."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.rules import aave_v3, drift_v2, mango_v3, mango_v4
from engine.rules.interface import EQUITY_USD, INITIAL_USD, MAINTENANCE_USD
from tests.twin import venue_rules
from tests.unit.rule_checks import Subject, check_rule
from tests.venue_books import BOOKS

SEEDS = st.integers(0, 2**32 - 1)
EACH = pytest.mark.parametrize("venue", sorted(BOOKS))
ACCOUNTS = 12
# The arrays of parameters where more is milder, and where more is harsher.
MILDER = {
    "mango_v4": ("asset_weight", "base_asset_weight", "overall_weight"),
    "mango_v3": ("spot_asset_weight", "perp_asset_weight"),
    "drift_v2": ("spot_asset_weight", "pnl_weight"),
    "aave_v3": ("loan_to_value", "threshold"),
}
HARSHER = {
    "mango_v4": ("liab_weight", "base_liab_weight"),
    "mango_v3": ("spot_liab_weight", "perp_liab_weight"),
    "drift_v2": ("spot_liability_weight", "perp_ratio"),
    "aave_v3": (),
}


MODULES: dict[str, Any] = {"mango_v4": mango_v4, "mango_v3": mango_v3, "drift_v2": drift_v2, "aave_v3": aave_v3}


def book(venue: str, seed: int, accounts: int = ACCOUNTS) -> Subject:
    return BOOKS[venue](accounts, seed)


def magnitude(found: Subject) -> float:
    """What sums of this book's margins may have cancelled: for tolerances where the order of additions may change."""
    return float(np.abs(found.evaluated()[:, :3]).max()) + 1e6


@EACH
@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_every_rule_passes_the_common_checks(venue: str, seed: int) -> None:
    """Alone as in a batch, legs in any order, empty accounts, what is not known: see tests/unit/rule_checks.py."""
    check_rule(book(venue, seed))


@EACH
def test_wrong_indices_and_shapes_are_found_before_the_kernel(venue: str) -> None:
    """Each array of legs shortened, each index beyond its market, each feed too short: said by name."""
    whole = book(venue, 3)
    require = MODULES[venue].require_indices
    require(whole.inputs, whole.parameters)
    for start_name, names in whole.legs.items():
        start = getattr(whole.inputs, start_name)
        for wrong in (start[:-1], start + 1, np.concatenate([start[:1], start[2:], start[1:2]])):
            with pytest.raises(ValueError, match=start_name):
                require(whole.inputs._replace(**{start_name: wrong}), whole.parameters)
        for name in names:
            values = getattr(whole.inputs, name)
            with pytest.raises(ValueError, match=start_name):
                require(whole.inputs._replace(**{name: values[:-1]}), whole.parameters)
            if values.dtype == np.int64 and not name.endswith("orders"):
                for wrong in (values - 100, values + 100):
                    with pytest.raises(ValueError, match=f"{name} names what there is not"):
                        require(whole.inputs._replace(**{name: wrong}), whole.parameters)
    for name in whole.feeds:
        with pytest.raises(ValueError, match=name):
            require(whole.inputs._replace(**{name: getattr(whole.inputs, name)[:-1]}), whole.parameters)


@EACH
@given(seed=SEEDS, more=st.floats(0.001, 0.2))
@settings(max_examples=25, deadline=None)
def test_requirements_are_monotone_in_weights(venue: str, seed: int, more: float) -> None:
    whole = book(venue, seed)
    before = whole.evaluated()
    rounding = 1e-12 * magnitude(whole)
    for names, sign in ((MILDER[venue], 1.0), (HARSHER[venue], -1.0)):
        for name in names:
            changed = whole.parameters._replace(**{name: getattr(whole.parameters, name) + more})
            after = replace(whole, parameters=changed).evaluated()
            assert np.array_equal(after[:, EQUITY_USD], before[:, EQUITY_USD])
            for column in (INITIAL_USD, MAINTENANCE_USD):
                assert (sign * (before[:, column] - after[:, column]) >= -rounding).all(), name


@EACH
@given(seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_the_parts_are_the_number(venue: str, seed: int) -> None:
    whole = book(venue, seed, 4)
    out = whole.evaluated()
    for account in range(whole.accounts):
        *terms, (name, total) = MODULES[venue].parts(whole.inputs, whole.parameters, account)
        if venue == "aave_v3":
            covered = sum(value for _, value in terms if value > 0.0)
            owed = -sum(value for _, value in terms if value < 0.0)
            assert total == pytest.approx(covered / owed if owed else math.inf, rel=1e-12)
            continue
        assert sum(value for _, value in terms) == pytest.approx(total, rel=1e-9, abs=1e-9)
        assert total == pytest.approx(out[account, EQUITY_USD] - out[account, INITIAL_USD], rel=1e-9, abs=1e-12 * magnitude(whole)), name


# ---- against plain Python -------------------------------------------------------------------------------------------------------------


def fields(inputs: Any, account: int, start_name: str, names: Sequence[str]) -> list[dict[str, float]]:
    """An account's legs of one kind as dictionaries of plain numbers."""
    start = getattr(inputs, start_name)
    return [{name: getattr(inputs, name)[leg].item() for name in names} for leg in range(int(start[account]), int(start[account + 1]))]


@given(seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_mango_v4_is_that_of_its_twin(seed: int) -> None:
    whole = book("mango_v4", seed, 6)
    found = np.empty((whole.accounts, mango_v4.LEVELS))
    mango_v4.healths(whole.inputs, whole.parameters, found)
    arrays: mango_v4.Terms = whole.parameters
    tokens = [
        {
            "oracle": whole.inputs.oracle_usd[token].item(),
            "stable": whole.inputs.stable_usd[token].item(),
            "asset": arrays.asset_weight[:, token].tolist(),
            "liab": arrays.liab_weight[:, token].tolist(),
            "deposits": (whole.inputs.deposits[token] + whole.inputs.potential_order_tokens[token]).item(),
            "borrows": whole.inputs.borrows[token].item(),
            "deposit_start": arrays.deposit_scale_start_usd[token].item(),
            "borrow_start": arrays.borrow_scale_start_usd[token].item(),
        }
        for token in range(whole.inputs.oracle_usd.shape[0])
    ]
    perps = [
        {
            "settle": arrays.settle_token[perp].item(),
            "oracle": whole.inputs.perp_oracle_usd[perp].item(),
            "stable": whole.inputs.perp_stable_usd[perp].item(),
            "asset": arrays.base_asset_weight[:, perp].tolist(),
            "liab": arrays.base_liab_weight[:, perp].tolist(),
            "overall": arrays.overall_weight[:, perp].tolist(),
        }
        for perp in range(whole.inputs.perp_oracle_usd.shape[0])
    ]
    for account in range(whole.accounts):
        legs = {start: fields(whole.inputs, account, start, names) for start, names in whole.legs.items()}
        for level in range(mango_v4.LEVELS):
            expected = venue_rules.mango_v4_health(tokens, perps, legs["token_start"], legs["order_start"], legs["perp_start"], level)
            assert found[account, level] == pytest.approx(float(expected), rel=1e-9, abs=1e-12 * magnitude(whole))


@given(seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_drift_v2_is_that_of_its_twin(seed: int) -> None:
    whole = book("drift_v2", seed, 6)
    out = whole.evaluated()
    arrays: drift_v2.Terms = whole.parameters
    spots = [
        {
            "price": whole.inputs.spot_usd[market].item(),
            "deposits": whole.inputs.spot_deposits[market].item(),
            "asset": arrays.spot_asset_weight[:, market].tolist(),
            "liability": arrays.spot_liability_weight[:, market].tolist(),
            "imf": arrays.spot_imf[market].item(),
            "start": arrays.spot_scale_start_usd[market].item(),
        }
        for market in range(whole.inputs.spot_usd.shape[0])
    ]
    perps = [
        {
            "price": whole.inputs.perp_usd[market].item(),
            "ratio": arrays.perp_ratio[:, market].tolist(),
            "imf": arrays.perp_imf[market].item(),
            "pnl": arrays.pnl_weight[:, market].tolist(),
            "pnl_imf": arrays.pnl_imf[market].item(),
        }
        for market in range(whole.inputs.perp_usd.shape[0])
    ]
    for account in range(whole.accounts):
        legs = {start: fields(whole.inputs, account, start, names) for start, names in whole.legs.items()}
        custom = whole.inputs.custom_ratio[account].item()
        for row, column in ((0, INITIAL_USD), (1, MAINTENANCE_USD)):
            expected = venue_rules.drift_v2_free_collateral(spots, perps, legs["spot_start"], legs["perp_start"], custom, row)
            free = out[account, EQUITY_USD] - out[account, column]
            assert free == pytest.approx(expected, rel=1e-9, abs=1e-12 * magnitude(whole))


@given(weight=st.integers(0, 20_000), imf=st.integers(0, 1_000_000), size=st.integers(0, 10**18))
@settings(max_examples=500, deadline=None)
def test_drifts_weights_are_those_in_whole_numbers(weight: int, imf: int, size: int) -> None:
    """`size` in the program's 1e-9; as floats are cut off in the same places."""
    tokens = size / 1e9
    found = drift_v2.size_discounted_weight(weight / 10_000, tokens, imf / 1e6)
    assert round(found * 10_000) == venue_rules.drift_asset_weight(weight, round(tokens * 1e9), imf)
    found = drift_v2.size_premium_weight(weight / 10_000, tokens, imf / 1e6)
    assert round(found * 10_000) == venue_rules.drift_liability_weight(weight, round(tokens * 1e9), imf)


@given(seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_aave_v3_agrees_with_exact_arithmetic(seed: int) -> None:
    whole = book("aave_v3", seed, 8)
    found = np.empty(whole.accounts)
    aave_v3.health_factors(whole.inputs, whole.parameters, found)
    for account in range(whole.accounts):
        covered = owed = Fraction(0)
        mode = int(whole.inputs.mode[account])
        for leg in fields(whole.inputs, account, "start", whole.legs["start"]):
            reserve = int(leg["reserve"])
            price = Fraction(whole.inputs.price_usd[reserve].item())
            owed += Fraction(leg["owed"]) * price
            if leg["is_collateral"]:
                covered += Fraction(leg["supplied"]) * price * Fraction(whole.parameters.threshold[mode, reserve].item())
        expected = float(covered / owed) if owed else math.inf
        assert found[account] == pytest.approx(expected, rel=1e-14)


@given(seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_mango_v3_is_that_of_its_twin(seed: int) -> None:
    whole = book("mango_v3", seed, 6)
    found = np.empty((whole.accounts, mango_v3.MEASURES))
    mango_v3.measures(whole.inputs, whole.parameters, found)
    for account in range(whole.accounts):
        legs = fields(whole.inputs, account, "start", whole.legs["start"])
        for leg in legs:
            leg["price"] = whole.inputs.price_usd[int(leg["market"])].item()
        for level in range(mango_v3.LEVELS):
            weights = [[array[level, int(leg["market"])].item() for array in whole.parameters] for leg in legs]
            expected = venue_rules.mango_v3_health(legs, weights, whole.inputs.quote_usd[account].item())
            assert found[account, level] == pytest.approx(expected, rel=1e-9, abs=1e-9)
