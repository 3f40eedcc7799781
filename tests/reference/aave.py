"""Aave's own client tests against our health factor, efficiency mode and interest."""

import json
import math
import re
from collections.abc import Callable, Mapping
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.rules import aave_v3
from engine.rules.aave_v3 import RAY, accrued_balance, accrued_debt, compounded_interest, linear_interest
from tests.reference.case import CaseResult, Noted, files_of, noted

FAMILY = "aave_utilities"
CARRIED = Path(__file__).parent / "data"
# The client computes with decimals, we with 53 bits.
RELATIVE_TOLERANCE = 1e-15 * 4


def families() -> dict[str, Callable[[Path | None], list[CaseResult]]]:
    """What this module can check, by the name its files begin with."""
    return {FAMILY: run}


def run(folder: Path | None) -> list[CaseResult]:
    """Every case found under `folder` (the layout of the reference data), or of those carried here."""
    results: list[CaseResult] = []
    for path in files_of((folder or CARRIED) / "margin", FAMILY, ".json"):
        facts = Noted(json.loads(path.read_text()))
        results += [_read(_health_factor, sample) for sample in noted(facts.get("health_factor", []))]
        summary: Any = facts.get("user_summary", [])
        for one in noted([summary] if isinstance(summary, dict) else summary):
            results += _user_summary(one)
        results += [_read(_accrual, sample) for sample in noted(facts.get("accrual", []))]
        facts.require_read()
    return results


def _read(check: Callable[[Noted], CaseResult], sample: Noted) -> CaseResult:
    """The check's result; what cannot be read, or has a field that nobody has read, fails by its fields."""
    try:
        result = check(sample)
        if result.passed:
            sample.require_read()
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as fault:
        return CaseResult(FAMILY, f"{dict(sample)}", False, f"{type(fault).__name__}: {fault}")
    return result


def _health_factor(sample: Noted) -> CaseResult:
    """At the threshold as it stands, or cut to 0.01%: the client has a function for each, and a case does not say which it is of."""
    account = accounts_of([sample["collateral"]], [sample["debt"]], 1.0, modes=[0])
    name = f"collateral {sample['collateral']}, threshold {sample['lt']}, debt {sample['debt']}"
    results = []
    for threshold in (sample["lt"], float(Decimal(str(sample["lt"])).quantize(Decimal("0.0001"), ROUND_DOWN))):
        found = float(_of_each(aave_v3.health_factors, account, aave_v3.terms(pool(threshold, threshold, 1)))[0])
        if sample["debt"] == 0:  # the client says -1 where we say that no price can hurt
            return CaseResult(FAMILY, name, str(sample["expect"]).startswith("-1") and found == math.inf, f"no debt: {found}")
        results.append(_close(name, found, float(sample["expect"])))
    return next((result for result in results if result.passed), results[0])


def _user_summary(summary: Noted) -> list[CaseResult]:
    """An account outside and inside the efficiency mode that all its reserves belong to."""
    price_usd = token_price_usd(summary)
    if price_usd is None:
        return [CaseResult(FAMILY, "user summary", False, f"unknown price convention: {summary['price']}")]
    plain, efficient = summary["expect_non_emode"], summary["expect_emode"]
    reserves = noted(summary["reserves"])
    supplied = [reserve["supply"] for reserve in reserves]
    owed = [reserve.get("variable_debt", 0) + reserve.get("stable_debt", 0) for reserve in reserves]
    for reserve in reserves:
        reserve.require_read()
    arrays = aave_v3.terms(summary_pool(summary))
    accounts = accounts_of(supplied, owed, price_usd, modes=[0, 1])
    factors = _of_each(aave_v3.health_factors, accounts, arrays)
    available_usd = _of_each(aave_v3.available_borrows_usd, accounts, arrays)
    out = np.empty((2, 4))
    aave_v3.margins(accounts, arrays, out)
    equity_usd = plain["totalCollateralUSD"] - plain["totalBorrowsUSD"]
    whole_usd = plain["totalCollateralUSD"] + plain["totalBorrowsUSD"]  # a small rest of large sums has their rounding
    results = [_close("user summary, collateral less borrows", float(out[0, 0]), equity_usd, whole_usd)]
    for row, (mode, expected) in enumerate((("plain", plain), ("efficiency mode", efficient))):
        results.append(_close(f"user summary, {mode}, health factor", float(factors[row]), expected["HF"]))
        results.append(_close(f"user summary, {mode}, distance", float(out[row, 3]), 1.0 - 1.0 / expected["HF"], 1.0))
        available = float(available_usd[row]), expected["availableBorrowsUSD"], whole_usd
        results.append(_close(f"user summary, {mode}, available to borrow", *available))
    summary.require_read()
    return results


def token_price_usd(summary: Mapping[str, Any]) -> float | None:
    """What a token of the user summary costs; None where the file says it in a way that we don't know."""
    price = re.fullmatch(r"1 token=([\d.]+) ref=([\d.]+) USD", summary["price"])
    return None if price is None else float(price[2])


def summary_pool(summary: Mapping[str, Any]) -> aave_v3.Parameters:
    """The pool of the user summary: what is expected without the efficiency mode and in it says its ratios."""
    plain, efficient = summary["expect_non_emode"], summary["expect_emode"]
    own = plain["ltv"], plain["liquidation_threshold"]
    return pool(*own, len(summary["reserves"]), efficient["ltv"], efficient["liquidation_threshold"])


def pool(
    loan_to_value: float, threshold: float, reserves: int, mode_loan_to_value: float = 0.0, mode_threshold: float = 0.0
) -> aave_v3.Parameters:
    """A pool of equal reserves, all of them in one efficiency mode."""
    own = tuple(
        aave_v3.ReserveParameters(name=f"token{number}", loan_to_value=loan_to_value, liquidation_threshold=threshold)
        for number in range(reserves)
    )
    mode = aave_v3.CategoryParameters(
        name="mode", collateral=tuple(range(reserves)), loan_to_value=mode_loan_to_value, liquidation_threshold=mode_threshold
    )
    return aave_v3.Parameters(reserves=own, categories=(mode,))


def accounts_of(supplied: list[float], owed: list[float], price_usd: float, modes: list[int]) -> aave_v3.Inputs:
    """The same account once in each mode."""
    reserves, accounts = len(supplied), len(modes)
    return aave_v3.Inputs(
        start=np.arange(accounts + 1) * reserves,
        reserve=np.tile(np.arange(reserves), accounts),
        supplied=np.tile(np.array(supplied, dtype=np.float64), accounts),
        is_collateral=np.ones(accounts * reserves, dtype=np.bool_),
        owed=np.tile(np.array(owed, dtype=np.float64), accounts),
        mode=np.array(modes),
        price_usd=np.full(reserves, price_usd),
    )


def _of_each(
    kernel: Callable[[aave_v3.Inputs, aave_v3.Terms, NDArray[np.float64]], None],
    accounts: aave_v3.Inputs,
    arrays: aave_v3.Terms,
) -> NDArray[np.float64]:
    out = np.empty(accounts.mode.shape[0])
    kernel(accounts, arrays, out)
    return out


def _accrual(sample: Noted) -> CaseResult:
    rate_ray, elapsed_s = int(sample["rate"]), sample["t1"] - sample["t0"]
    kind = sample["kind"]
    if kind == "linear balance":
        found = accrued_balance(int(sample["scaled"]), int(sample["index"]), rate_ray, elapsed_s)
    elif kind == "index":
        found = accrued_balance(RAY, int(sample["index"]), rate_ray, elapsed_s)
    elif kind == "compounded balance":
        found = accrued_debt(int(sample["scaled"]), int(sample["index"]), rate_ray, elapsed_s)
    elif kind == "compounded":
        found = compounded_interest(rate_ray, elapsed_s)
    elif kind == "linear":
        found = linear_interest(rate_ray, elapsed_s)
    else:
        return CaseResult(FAMILY, f"accrual, {kind}", False, "a kind of accrual that we don't have")
    return CaseResult(FAMILY, f"accrual, {kind}", found == int(sample["expect"]), f"{found}, expected {sample['expect']}")


def _close(name: str, found: float, expected: float, of: float = 0.0) -> CaseResult:
    """Within the tolerance of the figure itself, or `of` what it is the rest of."""
    passed = math.isclose(found, expected, rel_tol=RELATIVE_TOLERANCE, abs_tol=RELATIVE_TOLERANCE * abs(of))
    return CaseResult(FAMILY, name, passed, f"{found!r}, expected {expected!r}")
