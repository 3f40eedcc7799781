"""What venues work out in their documents: Bybit's short options, OKX's MR9, Hyperliquid's borrowing, Dederi's futures, SPAN at NSE.

A venue's factors stand only in the formulas that come with an example, as numbers: they are read from there.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.rules import bybit_uta, dederi, hyperliquid_pm, okx, span16
from engine.rules.faults import read
from engine.rules.interface import INITIAL_USD, MAINTENANCE_USD
from tests.reference.case import CaseResult, Noted, files_of

FAMILY: Final = "doc_worked_examples"
CARRIED: Final = Path(__file__).parent / "data"
RELATIVE_TOLERANCE: Final = 1e-12

_NUMBER: Final = r"([\d.]+(?:e-?\d+)?)"
_MAINTENANCE: Final = re.compile(rf"MM=\(*max\({_NUMBER}\*{_NUMBER},{_NUMBER}\*{_NUMBER}\)\+{_NUMBER}\+{_NUMBER}\*{_NUMBER}")
_INITIAL: Final = re.compile(rf"IM=\(*max\(max\({_NUMBER}\*{_NUMBER}(?:-.+?)?,{_NUMBER}\*{_NUMBER}\)\+max\({_NUMBER},{_NUMBER}\),MM\)")
_TIER: Final = re.compile(rf"^{_NUMBER}\*{_NUMBER}$")


def families() -> dict[str, Callable[[Path | None], list[CaseResult]]]:
    """What this module can check, by the name its files begin with."""
    return {FAMILY: run}


def run(folder: Path | None) -> list[CaseResult]:
    """Every example found under `folder` (the layout of the reference data), or of those carried here."""
    results = []
    for path in files_of((folder or CARRIED) / "margin", FAMILY, ".json"):
        for name, example in json.loads(path.read_text()).items():
            check = next((check for prefix, check in _CHECKS.items() if name.startswith(prefix)), None)
            unknown = [CaseResult(FAMILY, name, False, "no rule of ours is of this venue")]
            results += unknown if check is None else _read(check, name, Noted(example))
    return results


def _read(check: Callable[[str, Noted], list[CaseResult]], name: str, example: Noted) -> list[CaseResult]:
    """The example's results; what cannot be read, or has a field that nobody has read, fails by its name."""
    try:
        results = check(name, example)
        if all(result.passed for result in results):
            example.require_read()
    except (ArithmeticError, KeyError, TypeError, ValueError) as fault:
        return [CaseResult(FAMILY, name, False, f"{type(fault).__name__}: {fault}")]
    return results


def bybit_case(name: str, example: Mapping[str, Any]) -> tuple[bybit_uta.Parameters, bybit_uta.Inputs] | str:
    """A short option, a call if the name says so, of one unit unless the example says otherwise; or what was not understood."""
    formulas = ";".join(example.get("expr", [])).replace(" ", "")
    document: dict[str, float] = {}
    if found := _MAINTENANCE.search(formulas):
        document |= {"maintenance_factor": float(found[1]), "liquidation_fee_rate": float(found[6])}
    if found := _INITIAL.search(formulas):
        document |= {"initial_factor_max": float(found[1]), "initial_factor_min": float(found[3])}
    needed = {"MM": "maintenance_factor", "IM": "initial_factor_max"}
    unread = [level for level in example["expect"] if needed.get(level) not in document]
    parameters = read(bybit_uta.Parameters, document)
    if isinstance(parameters, list) or unread:
        return f"formula not understood: {unread}; {parameters}"
    size = -abs(float(example.get("qty", example.get("size", 1.0))))
    return parameters, bybit_uta.Inputs(
        start=np.array([0, 1]),
        size=np.array([size]),
        is_call=np.array(["call" in name]),
        index_usd=_one(example["spot"]),
        strike_usd=_one(example["strike"]),
        entry_usd=_one(example.get("entry", example["mark"])),
        mark_usd=_one(example["mark"]),
        equity_usd=_one(0.0),
    )


def _bybit(name: str, example: Noted) -> list[CaseResult]:
    case = bybit_case(name, example)
    if isinstance(case, str):
        return [CaseResult(FAMILY, name, False, case)]
    parameters, inputs = case
    out = np.empty((1, 4))
    bybit_uta.margins(inputs, bybit_uta.parameter_arrays(parameters), out)
    columns = {"MM": MAINTENANCE_USD, "IM": INITIAL_USD}
    return [_close(f"{name}, {level}", float(out[0, columns[level]]), expected) for level, expected in example["expect"].items()]


def _okx(name: str, example: Noted) -> list[CaseResult]:
    """A hedge that fills all tiers of the formula: each term is what lies in one tier, times its rate."""
    terms = [_TIER.match(term) for term in str(example["expr"]).replace(" ", "").split("+")]
    if not all(terms):
        return [CaseResult(FAMILY, name, False, f"formula not understood: {example['expr']}")]
    widths, rates = ([float(term[group]) for term in terms if term] for group in (1, 2))
    ends = np.cumsum(widths).tolist()
    parameters = read(okx.Parameters, {"tier_ends_usd": ends[:-1], "rates": [rates]})
    if isinstance(parameters, list):
        return [CaseResult(FAMILY, name, False, "; ".join(parameters))]
    inputs = okx.Inputs(np.array([0, 1]), _one(ends[-1]), _one(1.0), _one(0.0), _one(0.0))
    out = np.empty((1, 4))
    okx.margins(inputs, okx.parameter_arrays(parameters), out)
    return [_close(name, float(out[0, MAINTENANCE_USD]), example["expect"])]


def hyperliquid_case(example: Mapping[str, Any]) -> hyperliquid_pm.Inputs:
    """One collateral without a cap, and nothing owed."""
    no_cap = _one(1e18)
    return hyperliquid_pm.Inputs(
        np.array([0, 1]), _one(example["balance"]), no_cap, _one(example["price"]), _one(example["ltv"]), _one(0.0), _one(0.0)
    )


def _hyperliquid(name: str, example: Noted) -> list[CaseResult]:
    found = float(hyperliquid_pm.borrowable_usd(hyperliquid_case(example), 0))
    return [_close(name, found, example["expect_borrowable_usdc"])]


def dederi_case(example: Mapping[str, Any]) -> tuple[dederi.Parameters, dederi.Inputs] | str:
    """Futures at the price that the example's basis rate makes; or what is wrong with the shocks."""
    shocks = sorted(float(shock) for shock in example["pnl_by_shock"])
    parameters = read(dederi.Parameters, {"shocks": [shock / 100.0 for shock in shocks], "contingency_factor": example["factor"]})
    if isinstance(parameters, list):
        return "; ".join(parameters)
    index_usd = float(example["index"])
    price_usd = float(dederi.future_price_usd(index_usd, float(example["abr"]), float(example["days"])))
    return parameters, dederi.Inputs(np.array([0, 1]), _one(example["qty"]), _one(price_usd), _one(index_usd), _one(0.0))


def dederi_requirement(example: Mapping[str, Any]) -> tuple[float, float]:
    """(worst loss and contingency as printed, by how much more or less it may be), USD."""
    shocks = [float(shock) for shock in example["pnl_by_shock"]]
    worst = max(0.0, *(-float(gain) for gain in example["pnl_by_shock"].values()))
    of_price = max(abs(shock) for shock in shocks) / 100.0 * abs(float(example["qty"])) * _half_unit(example["F"])
    return worst + example["future_contingency"], 0.5 + _half_unit(example["future_contingency"]) + of_price


def _dederi(name: str, example: Noted) -> list[CaseResult]:
    """Each figure to half a unit of its last printed digit; gains may come from the printed, rounded price as well."""
    case = dederi_case(example)
    if isinstance(case, str):
        return [CaseResult(FAMILY, name, False, case)]
    parameters, inputs = case
    quantity, price_usd = float(inputs.quantity[0]), float(inputs.price_usd[0])
    terms = dederi.parameter_arrays(parameters)
    results = [
        _printed(f"{name}, price", price_usd, example["F"]),
        _printed(f"{name}, contingency", float(dederi.contingency_usd(inputs, terms, 0)), example["future_contingency"]),
    ]
    for shock in example["pnl_by_shock"]:
        found = float(dederi.simulated_gain_usd(inputs, 0, float(shock) / 100.0))
        slack = abs(quantity * float(shock) / 100.0) * _half_unit(example["F"])
        results.append(_printed(f"{name}, gain at {shock} %", found, example["pnl_by_shock"][shock], slack))
    out = np.empty((1, 4))
    dederi.margins(inputs, terms, out)
    printed, slack = dederi_requirement(example)
    results.append(_printed(f"{name}, worst loss and contingency", float(out[0, MAINTENANCE_USD]), printed, slack))
    return results


def _nse_span(name: str, example: Noted) -> list[CaseResult]:
    """Order of terms: the requirement is scan risk less net option value. The broker's own figures came from another file of arrays."""
    results = []
    for row in example["rows"]:
        case = f"{name}, {row['pos']}"
        if "scan_risk" not in row or "NOV" not in row:
            why = f"no scan risk is given, only what came of it, {row['sdk_span']} (the broker shows {row['broker_span']})"
            results.append(CaseResult(FAMILY, case, True, why, left_out=True))
            continue
        inputs = span16.Inputs(
            start=np.array([0, 1]),
            instrument=np.array([0]),
            quantity=np.array([1.0]),
            commodity=np.array([0]),
            gain_usd=np.full((1, span16.SCENARIOS), -float(row["scan_risk"])),
            option_value_usd=_one(row["NOV"]),
            is_option=np.array([True]),
            notional_usd=_one(0.0),
            spread_charge_usd=_one(0.0),
            equity_usd=_one(0.0),
        )
        out = np.empty((1, 4))
        span16.margins(inputs, span16.parameter_arrays(span16.Parameters()), out)
        result = _close(case, float(out[0, MAINTENANCE_USD]), row["sdk_span"])
        detail = f"{result.detail}; the broker shows {row['broker_span']}, from other arrays"
        results.append(CaseResult(FAMILY, case, result.passed, detail, told=True))
    return results


_CHECKS: Final[dict[str, Callable[[str, Noted], list[CaseResult]]]] = {
    "bybit_": _bybit,
    "okx_": _okx,
    "hyperliquid_": _hyperliquid,
    "dederi_": _dederi,
    "nse_span": _nse_span,
}


def _one(value: float) -> NDArray[np.float64]:
    return np.array([float(value)])


def _close(name: str, found: float, expected: float) -> CaseResult:
    passed = math.isclose(found, expected, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)
    return CaseResult(FAMILY, name, passed, f"{found!r}, expected {expected!r}")


def _half_unit(printed: float) -> float:
    """Half a unit of the last digit of a number as it is printed."""
    digits = repr(printed).partition(".")[2]
    return 0.5 * 10.0 ** -len(digits)


def _printed(name: str, found: float, printed: float, slack: float = 0.0) -> CaseResult:
    allowed = _half_unit(printed) * (1.0 + 1e-9) + slack
    return CaseResult(FAMILY, name, abs(found - printed) <= allowed, f"{found:.4f}, printed {printed}, {allowed:.3f} allowed")
