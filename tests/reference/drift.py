"""Drift's own tests against our size-scaled weights, liquidation sizes and accounts.

Weights and sizes are whole numbers in both, so both must be the same; accounts agree to the program's smallest unit of USD.
"""

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.rules import drift_v2
from engine.rules.drift_v2 import BASE_PRECISION, FEE_PRECISION, INTEREST_PRECISION, PRICE_PRECISION, QUOTE_PRECISION, WEIGHT_PRECISION
from engine.rules.faults import read
from engine.rules.interface import EQUITY_USD, INITIAL_USD, MAINTENANCE_USD
from tests.reference.case import CaseResult, Noted, files_of, noted

WEIGHTS = "drift_v2_weights"
SIZING = "drift_v2_liquidation_sizing"
ACCOUNTS = "drift_v2_accounts"
CARRIED = Path(__file__).parent / "data"
# The program's tests have a dollar token of 6 decimals as the asset and one of 9 as the liability, where a case does not say otherwise.
ASSET_DECIMALS = 6
LIABILITY_DECIMALS = 9
UNIT_USD = 1e-6  # the program's smallest unit of USD; it cuts off what is beyond
LEVELS = {"Initial": drift_v2.INITIAL, "Fill": drift_v2.FILL, "Maintenance": drift_v2.MAINTENANCE}


def families() -> dict[str, Callable[[Path | None], list[CaseResult]]]:
    """What this module can check, by the name its files begin with."""
    return {WEIGHTS: weights, SIZING: sizing, ACCOUNTS: accounts}


def weights(folder: Path | None) -> list[CaseResult]:
    """Weights by size, and initial asset weights by deposits."""
    results: list[CaseResult] = []
    for path in files_of((folder or CARRIED) / "margin", WEIGHTS, ".json"):
        facts = Noted(json.loads(path.read_text()))
        results += [_read(WEIGHTS, _weight, case) for case in noted(facts.get("cases", []))]
        results += [_read(WEIGHTS, _scaled, case) for case in noted(facts.get("scale_initial_asset_weight", []))]
        facts.require_read("units", "formulas")
    return results


def _read(family: str, check: Callable[[Noted], CaseResult], case: Noted, group: str = "") -> CaseResult:
    """The check's result; what cannot be read, or has a field that nobody has read, fails by its fields."""
    try:
        result = check(case)
        if result.passed:
            case.require_read()
    except (ArithmeticError, KeyError, TypeError, ValueError) as fault:
        return CaseResult(family, f"{group}{_named(case)}", False, f"{type(fault).__name__}: {fault}")
    return result


def _scaled(case: Noted) -> CaseResult:
    deposits_usd = float(case["deposits"] * case["price"])
    found = drift_v2.scaled_initial_asset_weight(case["w"] / WEIGHT_PRECISION, deposits_usd, float(case["start_usd"]))
    return _same(WEIGHTS, f"scaled, {_named(case)}", round(found * WEIGHT_PRECISION), case["expect"])


def _weight(case: Noted) -> CaseResult:
    weight, imf, size = case["w"] / WEIGHT_PRECISION, case["imf"] / 1_000_000, float(case["size"])
    kind = case["kind"]
    if "req" in case:
        weight = drift_v2.weight_between(weight, case.get("maint", case["w"]) / WEIGHT_PRECISION, LEVELS[case["req"]])
    if kind == "asset":
        found = drift_v2.size_discounted_weight(weight, size, imf)
    elif kind.startswith("liability"):
        found = drift_v2.size_premium_weight(weight, size, imf)
    else:
        return CaseResult(WEIGHTS, _named(case), False, "a kind of weight that we don't have")
    return _same(WEIGHTS, _named(case), round(found * WEIGHT_PRECISION), case["expect"])


def sizing(folder: Path | None) -> list[CaseResult]:
    """Every group of cases that the file has; a group that we don't know fails."""
    results: list[CaseResult] = []
    for path in files_of((folder or CARRIED) / "margin", SIZING, ".json"):
        facts = Noted(json.loads(path.read_text()))
        for group in facts:
            if isinstance(cases := facts[group], list):
                results += [_read(SIZING, partial(_sized, group), case, f"{group}, ") for case in noted(cases)]
            elif not isinstance(cases, str):
                results.append(CaseResult(SIZING, group, False, "is no list of cases"))
    return results


def _sized(group: str, case: Noted) -> CaseResult:
    name = f"{group}, {_named(case)}"
    if group not in GROUPS:
        return CaseResult(SIZING, name, False, "a group that we don't have")
    expected = case.get("expect", case.get("expect_base"))
    try:
        found, unit = GROUPS[group](case)
    except ValueError as fault:
        return CaseResult(SIZING, name, str(expected).startswith("error"), f"{fault}, expected {expected}")
    if "expect_raw" in case:
        return _same(SIZING, name, found, case["expect_raw"])
    if isinstance(expected, str):
        unbounded = expected.startswith(("unbounded", "u64::MAX", "u128::MAX"))
        return CaseResult(SIZING, name, unbounded and found is None, f"{found}, expected {expected}")
    return _same(SIZING, name, found, round(expected * unit))


def _perp_base(case: Mapping[str, Any]) -> tuple[int | None, int]:
    found = drift_v2.perp_base_to_cover_shortage(
        _whole(case["shortage"], QUOTE_PRECISION),
        margin_ratio=_whole(case["margin_ratio"], WEIGHT_PRECISION),
        liquidation_fee=_whole(case["liq_fee"], FEE_PRECISION),
        insurance_fee=_whole(case["if_fee"], FEE_PRECISION),
        price=_whole(case["price"], PRICE_PRECISION),
        quote_price=_whole(case["quote_price"], PRICE_PRECISION),
    )
    return found, BASE_PRECISION


def _liability_transfer(case: Mapping[str, Any]) -> tuple[int | None, int]:
    decimals = case.get("liab_decimals", LIABILITY_DECIMALS)
    found = drift_v2.liability_to_cover_shortage(
        _whole(case["shortage"], QUOTE_PRECISION),
        asset_weight=_whole(case["asset_w"], WEIGHT_PRECISION),
        asset_multiplier=_whole(case["asset_mult"], FEE_PRECISION),
        liability_weight=_whole(case["liab_w"], WEIGHT_PRECISION),
        liability_multiplier=_whole(case["liab_mult"], FEE_PRECISION),
        liability_decimals=decimals,
        price=_whole(case["price"], PRICE_PRECISION),
        insurance_fee=_whole(case["if_fee"], FEE_PRECISION),
    )
    return found, 10**decimals


def _exchange(case: Mapping[str, Any]) -> dict[str, int]:
    return {
        "asset_multiplier": _whole(case["asset_mult"], FEE_PRECISION),
        "asset_decimals": case.get("asset_decimals", ASSET_DECIMALS),
        "asset_price": _whole(case["asset_price"], PRICE_PRECISION),
        "liability_multiplier": _whole(case["liab_mult"], FEE_PRECISION),
        "liability_decimals": case.get("liab_decimals", LIABILITY_DECIMALS),
        "liability_price": _whole(case["liab_price"], PRICE_PRECISION),
    }


def _liability_for_asset(case: Mapping[str, Any]) -> tuple[int | None, int]:
    terms = _exchange(case)
    return drift_v2.liability_for_asset(_whole(case["asset"], 10 ** terms["asset_decimals"]), **terms), 10 ** terms["liability_decimals"]


def _asset_for_liability(case: Mapping[str, Any]) -> tuple[int | None, int]:
    terms = _exchange(case)
    unit = 10 ** terms["asset_decimals"]
    owed = _whole(case["liab"], 10 ** terms["liability_decimals"])
    return drift_v2.asset_for_liability(owed, asset_balance=_whole(case["asset_amount"], unit), **terms), unit


def _perp_fee(case: Mapping[str, Any]) -> tuple[int | None, int]:
    found = drift_v2.perp_insurance_fee(
        _whole(case["shortage"], QUOTE_PRECISION),
        base=_whole(case["base"], BASE_PRECISION),
        margin_ratio=_whole(case["margin_ratio"], WEIGHT_PRECISION),
        liquidator_fee=_whole(case["liq_fee"], FEE_PRECISION),
        price=_whole(case["price"], PRICE_PRECISION),
        quote_price=_whole(case.get("quote_price", 1), PRICE_PRECISION),
        fee_max=_whole(case["max_if_fee"], FEE_PRECISION),
    )
    return found, FEE_PRECISION


def _spot_fee(case: Mapping[str, Any]) -> tuple[int | None, int]:
    decimals = case.get("liab_decimals", LIABILITY_DECIMALS)
    found = drift_v2.spot_insurance_fee(
        _whole(case["shortage"], QUOTE_PRECISION),
        tokens=_whole(case["token"], 10**decimals),
        asset_weight=_whole(case["asset_w"], WEIGHT_PRECISION),
        asset_multiplier=_whole(case["asset_mult"], FEE_PRECISION),
        liability_weight=_whole(case["liab_w"], WEIGHT_PRECISION),
        liability_multiplier=_whole(case["liab_mult"], FEE_PRECISION),
        liability_decimals=decimals,
        price=_whole(case["price"], PRICE_PRECISION),
        fee_max=_whole(case["max_if_fee"], FEE_PRECISION),
    )
    return found, FEE_PRECISION


def _shared_loss(case: Mapping[str, Any]) -> tuple[int | None, int]:
    loss = _whole(case["loss"], QUOTE_PRECISION)
    if case["kind"].startswith("perp"):
        base_long, base_short = (_whole(case[name], BASE_PRECISION) for name in ("base_long", "base_short"))
        return drift_v2.funding_delta_for_loss(loss, base_long=base_long, base_short=base_short), BASE_PRECISION
    index = _whole(case.get("index", 1), INTEREST_PRECISION)
    deposits = _whole(case["deposits"], QUOTE_PRECISION)
    return drift_v2.interest_delta_for_loss(loss, cumulative_interest=index, deposits=deposits), INTEREST_PRECISION


def _share(case: Mapping[str, Any]) -> tuple[int | None, int]:
    found = drift_v2.share_to_liquidate(
        _whole(case["shortage"], QUOTE_PRECISION),
        freed=_whole(case.get("freed", 0), QUOTE_PRECISION),
        slots=case.get("slots", 0),
        duration_slots=case.get("duration", 1),
        initial_share=_whole(case.get("initial_pct", 0), WEIGHT_PRECISION),
    )
    return found, WEIGHT_PRECISION


def _fee_growth(case: Mapping[str, Any]) -> tuple[int | None, int]:
    base_fee, fee_max = (_whole(case[name], FEE_PRECISION) for name in ("base", "max"))
    return drift_v2.liquidation_fee(base_fee, fee_max=fee_max, slots=case["slots"]), FEE_PRECISION


GROUPS: dict[str, Callable[[Mapping[str, Any]], tuple[int | None, int]]] = {
    "perp_base_to_cover_shortage": _perp_base,
    "liability_transfer_to_cover_shortage": _liability_transfer,
    "liability_implied_by_asset": _liability_for_asset,
    "asset_for_liability": _asset_for_liability,
    "perp_if_fee": _perp_fee,
    "spot_if_fee": _spot_fee,
    "socialized_loss": _shared_loss,
    "max_pct_to_liquidate": _share,
    "liq_fee_growth": _fee_growth,
}


def accounts(folder: Path | None) -> list[CaseResult]:
    """Total collateral and margin requirement of each account, at the markets and prices of the file."""
    results: list[CaseResult] = []
    for path in files_of((folder or CARRIED) / "margin", ACCOUNTS, ".json"):
        facts = Noted(json.loads(path.read_text()))
        parameters = read(drift_v2.Parameters, {"spots": facts["spots"], "perps": facts["perps"]})
        if isinstance(parameters, list):
            raise TypeError("; ".join(parameters))
        results += [_read(ACCOUNTS, partial(_account, parameters, facts["prices"]), case) for case in noted(facts["cases"])]
        facts.require_read("units")
    return results


def account_of(parameters: drift_v2.Parameters, prices_usd: Mapping[str, float], case: Noted) -> drift_v2.Inputs:
    """The case's account, alone."""
    spots, perps = [spot.name for spot in parameters.spots], [perp.name for perp in parameters.perps]
    prices = {**prices_usd, **case.get("prices", {})}
    held_spots, held_perps = _held(case.get("spots", {}), spots), _held(case.get("perps", {}), perps)

    def column(held: list[tuple[int, Noted]], name: str) -> NDArray[np.float64]:
        return np.array([float(leg.get(name, 0.0)) for _, leg in held], dtype=np.float64)

    inputs = drift_v2.Inputs(
        spot_start=np.array([0, len(held_spots)]),
        spot=np.array([market for market, _ in held_spots], dtype=np.int64),
        spot_balance=column(held_spots, "balance"),
        spot_bids=column(held_spots, "bids"),
        spot_asks=column(held_spots, "asks"),
        spot_orders=column(held_spots, "orders").astype(np.int64),
        perp_start=np.array([0, len(held_perps)]),
        perp=np.array([market for market, _ in held_perps], dtype=np.int64),
        perp_base=column(held_perps, "base"),
        perp_quote=column(held_perps, "quote"),
        perp_bids=column(held_perps, "bids"),
        perp_asks=column(held_perps, "asks"),
        perp_orders=column(held_perps, "orders").astype(np.int64),
        custom_ratio=np.array([float(case.get("custom_ratio", 0.0))]),
        spot_usd=np.array([float(prices[name]) for name in spots]),
        spot_deposits=np.zeros(len(spots)),
        perp_usd=np.array([float(prices.get(name, math.nan)) for name in perps]),
    )
    for _, leg in (*held_spots, *held_perps):
        leg.require_read()
    return inputs


def _held(legs: Mapping[str, Any], markets: list[str]) -> list[tuple[int, Noted]]:
    return [(markets.index(name), Noted(leg)) for name, leg in legs.items()]


def _account(parameters: drift_v2.Parameters, prices_usd: Mapping[str, float], case: Noted) -> CaseResult:
    level = LEVELS[case["level"]]
    inputs, arrays = account_of(parameters, prices_usd, case), drift_v2.terms(parameters)
    *parts, (_, left_usd) = drift_v2.parts(inputs, arrays, 0, level)
    found = {
        "total_collateral": sum(part for name, part in parts if name.endswith("total collateral")),
        "margin_requirement": -sum(part for name, part in parts if name.endswith("margin requirement")),
    }
    out = np.empty((1, 4))
    drift_v2.margins(inputs, arrays, out)
    columns = {drift_v2.INITIAL: INITIAL_USD, drift_v2.MAINTENANCE: MAINTENANCE_USD}
    same = level not in columns or abs(out[0, EQUITY_USD] - out[0, columns[level]] - left_usd) <= UNIT_USD
    stated = {name: case[name] for name in found if name in case}
    apart = [f"{name} {found[name]!r}, expected {value!r}" for name, value in stated.items() if abs(found[name] - value) > UNIT_USD]
    detail = "; ".join(apart) or ", ".join(f"{name} {found[name]:.6f}" for name in stated)
    return CaseResult(ACCOUNTS, case["name"], bool(stated) and not apart and same, detail)


def _whole(value: float, precision: int) -> int:
    return round(value * precision)


def _named(case: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in case.items() if not name.startswith(("expect", "note")))


def _same(family: str, name: str, found: int | None, expected: int) -> CaseResult:
    return CaseResult(family, name, found == expected, f"{found}, expected {expected}")
