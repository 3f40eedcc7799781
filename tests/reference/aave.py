"""Aave's own client tests against our health factor, efficiency mode and interest."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.rules.aave_v3 import (
    accrued_balance,
    available_borrows_usd,
    compounded_interest,
    effective_ratios,
    health_factors,
    linear_interest,
)
from tests.reference.case import CaseResult

FAMILY = "aave_utilities"
CARRIED = Path(__file__).parent / "data"
# The client computes with decimals, we with 53 bits.
RELATIVE_TOLERANCE = 1e-15 * 4


def families() -> dict[str, Callable[[Path | None], list[CaseResult]]]:
    """What this module can check, by the name its files begin with."""
    return {FAMILY: run}


def run(folder: Path | None) -> list[CaseResult]:
    """Every case found under `folder` (the layout of the reference data), or of those carried here."""
    facts = json.loads(((folder or CARRIED) / "margin" / "aave_utilities_health_factor.json").read_text())
    results = [_health_factor(sample) for sample in facts["health_factor"]]
    results += _user_summary(facts["user_summary"])
    results += [_accrual(sample) for sample in facts["accrual"]]
    return results


def _health_factor(sample: dict[str, Any]) -> CaseResult:
    found = float(health_factors(_row(sample["collateral"]), _row(sample["lt"]), _row(sample["debt"]))[0])
    name = f"collateral {sample['collateral']}, threshold {sample['lt']}, debt {sample['debt']}"
    if sample["debt"] == 0:  # the client says -1 where we say that no price can hurt
        return CaseResult(FAMILY, name, sample["expect"].startswith("-1") and found == math.inf, f"no debt: {found}")
    return _close(name, found, float(sample["expect"]))


def _user_summary(summary: dict[str, Any]) -> list[CaseResult]:
    """An account with two reserves, outside and inside the efficiency mode that both reserves belong to."""
    if summary["price"] != "1 token=10 ref=100 USD":
        return [CaseResult(FAMILY, "user summary", False, f"unknown price convention: {summary['price']}")]
    price_usd = 100.0
    plain, efficient = summary["expect_non_emode"], summary["expect_emode"]
    collateral_usd = np.array([[reserve["supply"] * price_usd for reserve in summary["reserves"]]] * 2)
    debt_usd = np.array([[reserve["variable_debt"] * price_usd for reserve in summary["reserves"]]] * 2)
    reserves = collateral_usd.shape[1]
    categories = np.ones(reserves, dtype=np.int64)
    account_categories = np.array([0, 1])
    thresholds, loan_to_value = (
        effective_ratios(np.full(reserves, plain[name]), categories, account_categories, np.array([np.nan, efficient[name]]))
        for name in ("liquidation_threshold", "ltv")
    )
    factors = health_factors(collateral_usd, thresholds, debt_usd)
    available_usd = available_borrows_usd(collateral_usd, loan_to_value, debt_usd)
    results = [
        _close("user summary, total collateral", float(collateral_usd[0].sum()), plain["totalCollateralUSD"]),
        _close("user summary, total borrows", float(debt_usd[0].sum()), plain["totalBorrowsUSD"]),
    ]
    for row, (mode, expected) in enumerate((("plain", plain), ("efficiency mode", efficient))):
        results.append(_close(f"user summary, {mode}, health factor", float(factors[row]), expected["HF"]))
        results.append(_close(f"user summary, {mode}, available to borrow", float(available_usd[row]), expected["availableBorrowsUSD"]))
    return results


def _accrual(sample: dict[str, Any]) -> CaseResult:
    rate_ray, elapsed_s = int(sample["rate"]), sample["t1"] - sample["t0"]
    kind = sample["kind"]
    if kind == "linear balance":
        found = accrued_balance(int(sample["scaled"]), int(sample["index"]), rate_ray, elapsed_s)
    elif kind == "compounded":
        found = compounded_interest(rate_ray, elapsed_s)
    elif kind == "linear":
        found = linear_interest(rate_ray, elapsed_s)
    else:
        return CaseResult(FAMILY, f"accrual, {kind}", False, "a kind of accrual that we don't have")
    return CaseResult(FAMILY, f"accrual, {kind}", found == int(sample["expect"]), f"{found}, expected {sample['expect']}")


def _close(name: str, found: float, expected: float) -> CaseResult:
    passed = math.isclose(found, expected, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)
    return CaseResult(FAMILY, name, passed, f"{found!r}, expected {expected!r}")


def _row(value: float) -> NDArray[np.float64]:
    return np.array([[value]], dtype=np.float64)
