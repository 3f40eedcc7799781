"""The carried Aave cases, each as a test of its own."""

import pytest

from engine.rules.aave_v3 import RAY, SECONDS_PER_YEAR, compounded_interest
from tests.reference import aave
from tests.reference.case import CaseResult, Noted

RESULTS = aave.run(None)


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: result.case)
def test_agrees(result: CaseResult) -> None:
    assert result.passed, result.detail


def test_every_carried_case_ran() -> None:
    assert len(RESULTS) == 13


def test_compounding_exceeds_simple_interest_and_starts_at_one() -> None:
    tenth = RAY // 10
    assert compounded_interest(tenth, 0) == RAY
    year = compounded_interest(tenth, SECONDS_PER_YEAR)
    assert 1.1 < year / RAY < 1.10518  # e^0.1, less what the three terms leave out


def test_a_threshold_counts_in_hundredths_of_a_percent() -> None:
    """The client cuts it: 0.82559 is 0.8255. Of 100 and 50: 1.651."""
    sample = {"collateral": 100, "debt": 50, "lt": 0.82559, "expect": "1.651"}
    assert aave._health_factor(Noted(sample)).passed
    assert not aave._health_factor(Noted(sample | {"expect": "1.65118"})).passed
