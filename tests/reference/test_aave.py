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
    assert len(RESULTS) == 20


def test_what_is_left_of_a_subtraction_is_as_exact_as_what_it_was_taken_from() -> None:
    """Collateral x loan-to-value is the debt but for a rounding; a debt at a stable rate is one too."""
    expected = {"totalCollateralUSD": 30_000, "totalBorrowsUSD": 16_500, "ltv": 0.55, "liquidation_threshold": 0.6}
    summary = {
        "price": "1 token=1 ref=100 USD",
        "reserves": [{"supply": 300, "variable_debt": 100, "stable_debt": 65}],
        "expect_non_emode": expected | {"HF": 18_000 / 16_500, "availableBorrowsUSD": 0},
        "expect_emode": expected | {"HF": 18_000 / 16_500, "availableBorrowsUSD": 1e-6},
    }
    found = aave._user_summary(Noted(summary))
    assert [result.case for result in found if not result.passed] == ["user summary, efficiency mode, available to borrow"]


def test_compounding_exceeds_simple_interest_and_starts_at_one() -> None:
    tenth = RAY // 10
    assert compounded_interest(tenth, 0) == RAY
    year = compounded_interest(tenth, SECONDS_PER_YEAR)
    assert 1.1 < year / RAY < 1.10518  # e^0.1, less what the three terms leave out


def test_a_threshold_counts_as_it_is_or_in_hundredths_of_a_percent() -> None:
    """Of 100 and 50 at 0.82559, 1.65118; where the client cuts it to 0.8255, 1.651."""
    sample = {"collateral": 100, "debt": 50, "lt": 0.82559}
    passed = [aave._health_factor(Noted(sample | {"expect": text})).passed for text in ("1.65118", "1.651", "1.6511", "1.652")]
    assert passed == [True, True, False, False]
