"""The carried Aave cases, each as a test of its own."""

import pytest

from engine.rules.aave_v3 import RAY, SECONDS_PER_YEAR, compounded_interest
from tests.reference import aave
from tests.reference.case import CaseResult

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
