"""The carried Aave cases, each as a test of its own, and the health factor against exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest

from engine.rules.aave_v3 import RAY, SECONDS_PER_YEAR, available_borrows_usd, compounded_interest, effective_ratios, health_factors
from tests.reference import aave
from tests.reference.case import CaseResult

RESULTS = aave.run(None)


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: result.case)
def test_agrees(result: CaseResult) -> None:
    assert result.passed, result.detail


def test_every_carried_case_ran() -> None:
    assert len(RESULTS) == 12


def test_health_factors_agree_with_exact_arithmetic() -> None:
    generator = np.random.Generator(np.random.PCG64(7))
    collateral_usd = generator.uniform(0, 1e6, (50, 8))
    thresholds = generator.uniform(0.3, 0.95, (50, 8))
    debt_usd = generator.uniform(0, 1e6, (50, 8))
    found = health_factors(collateral_usd, thresholds, debt_usd)
    for account in range(50):
        covered = sum(Fraction(v) * Fraction(t) for v, t in zip(collateral_usd[account], thresholds[account], strict=True))
        owed = sum(Fraction(v) for v in debt_usd[account])
        assert found[account] == pytest.approx(float(covered / owed), rel=1e-14)


def test_what_cannot_be_valued_is_not_healthy() -> None:
    nan, one, none = np.array([[np.nan]]), np.array([[1.0]]), np.array([[0.0]])
    assert np.isnan(health_factors(nan, one, none)[0])
    assert np.isnan(health_factors(nan, one, one)[0])
    assert np.isnan(health_factors(one, one, nan)[0])
    assert np.isnan(available_borrows_usd(nan, one, one)[0])


def test_efficiency_mode_applies_only_inside_its_category() -> None:
    own = np.array([0.7, 0.8])
    ratios = effective_ratios(own, np.array([1, 0]), np.array([0, 1]), np.array([np.nan, 0.9]))
    assert ratios.tolist() == [[0.7, 0.8], [0.9, 0.8]]


def test_shapes_are_checked_before_the_kernel() -> None:
    with pytest.raises(ValueError, match="shape"):
        health_factors(np.ones((1, 2)), np.ones((1, 1)), np.ones((1, 2)))


def test_compounding_exceeds_simple_interest_and_starts_at_one() -> None:
    tenth = RAY // 10
    assert compounded_interest(tenth, 0) == RAY
    year = compounded_interest(tenth, SECONDS_PER_YEAR)
    assert 1.1 < year / RAY < 1.10518  # e^0.1, less what the three terms leave out
