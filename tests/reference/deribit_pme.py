"""Answers of Deribit's private/pme/simulate against our risk vectors, aggregation, shocks and margins, in coins."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from engine.rules import deribit_pm
from engine.rules.faults import read
from engine.rules.interface import INITIAL_USD, MAINTENANCE_USD
from tests.reference.case import CaseResult, Noted, files_of, noted

FAMILY: Final = "deribit_pme"
CARRIED: Final = Path(__file__).parent / "data"
TOLERANCE: Final = 1e-9  # coins

# The venue's name of each parameter, and ours. What only options need is known and left alone; any other name is a fault.
PARAMETERS: Final = {
    "price_range": "price_range",
    "pnl_offset": "pnl_offset",
    "max_offsetable_pnl": "max_offsetable_pnl_usd",
    "annualised_move_risk": "annualised_move_risk",
    "min_annualised_move": "min_annualised_move",
    "extended_dampener": "extended_dampener_usd",
    "extended_table_factor": "extended_table_factor",
    "mm_factor": "mm_factor",
    "max_delta_shock": "max_delta_shock",
    "delta_total_liq_shock_threshold": "delta_shock_threshold_usd",
    "m_inc": "m_inc",
}
OF_OPTIONS: Final = frozenset(
    {
        *("vol_up", "vol_down", "min_vol_for_shock_up", "volatility_range_up", "volatility_range_down", "min_volatility_for_shock_up"),
        *("short_term_vega_power", "long_term_vega_power", "vol_scenarios_count"),
    }
)
# Said by the same answers, for files of cases that leave them out.
M_INC: Final = {"btc": 0.00005, "eth": 0.000004}
ANSWERED_MS: Final = {"btc_doc": 1_718_619_740_501, "eth_fixture": 1_771_197_609_587}
EXPIRY_HOUR_UTC: Final = 8
MS_PER_YEAR: Final = 365 * 86_400_000
_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_BEYOND: Final = re.compile(r"-[CP]$|_")  # an option; settled in another coin than its own
_EXPIRY: Final = re.compile(r"-(\d{1,2})([A-Z]{3})(\d{2})$")


def families() -> dict[str, Callable[[Path | None], list[CaseResult]]]:
    """What this module can check, by the name its files begin with."""
    return {FAMILY: run}


def run(folder: Path | None) -> list[CaseResult]:
    """Every figure of every answer found under `folder` (the layout of the reference data), or of those carried here."""
    results = []
    for path in files_of((folder or CARRIED) / "margin", FAMILY, ".json"):
        for case in json.loads(path.read_text())["cases"]:
            results += _read(case)
    return results


def _read(case: Mapping[str, Any]) -> list[CaseResult]:
    """The case's results; what cannot be read, or has a figure that nobody has read, fails by its name."""
    whole = Noted({**case, "expected": Noted(case["expected"])})
    positions = noted(case["positions"].values())
    try:
        results = _case(Noted({**whole, "positions": dict(zip(case["positions"], positions, strict=True))}))
        if all(result.passed and not result.left_out for result in results):
            for one in (whole["expected"], *positions):
                one.require_read("mark")
    except (ArithmeticError, KeyError, TypeError, ValueError) as fault:
        return [CaseResult(FAMILY, str(case.get("id")), False, f"{type(fault).__name__}: {fault}")]
    return results


def years_to_expiry(instrument: str, answered_ms: int | None) -> float | None:
    """ACT/365 from the answer to 08:00 UTC of the date in the name; 0 for a perpetual; None where the name or the time don't say."""
    if instrument.endswith("PERPETUAL"):
        return 0.0
    found = _EXPIRY.search(instrument)
    if found is None or found[2] not in _MONTHS or answered_ms is None:
        return None
    expiry = datetime(2000 + int(found[3]), _MONTHS.index(found[2]) + 1, int(found[1]), EXPIRY_HOUR_UTC, tzinfo=UTC)
    return max(expiry.timestamp() * 1000 - answered_ms, 0.0) / MS_PER_YEAR


class Answer(NamedTuple):
    """What an answer is of, as the rule takes it; equity is not said there, and 0."""

    parameters: deribit_pm.Parameters
    inputs: deribit_pm.Inputs
    undated: list[str]  # instruments of which no time to expiry could be read, taken as 0


def beyond_us(case: Mapping[str, Any]) -> list[str]:
    """Positions that our rule does not have."""
    return sorted(instrument for instrument in case["positions"] if _BEYOND.search(instrument))


def answer_of(case: Mapping[str, Any]) -> Answer | list[str]:
    """A case of futures settled in their coin; or what is wrong with its parameters."""
    name, expected = case["id"], case["expected"]
    sizes = [_size(position) for position in case["positions"].values()]
    parameters = _parameters(case, next(iter(case["positions"])).split("-")[0].lower())
    if isinstance(parameters, list):
        return parameters
    answered_ms = case.get("timestamp_ms", case.get("timestamp", ANSWERED_MS.get(name)))
    years = {instrument: years_to_expiry(instrument, answered_ms) for instrument in case["positions"]}
    told = ("correlation_contingency", "mmp_margin", "open_orders_margin")
    inputs = deribit_pm.Inputs(
        start=np.array([0, len(sizes)]),
        size=np.array(sizes),
        years=np.array([value or 0.0 for value in years.values()]),
        index_usd=np.array([float(case["index"])]),
        equity=np.zeros(1),
        spot_margin=np.array([float(expected.get("spot_margin", 0.0))]),
        **{field: np.array([float(expected.get(field, 0.0))]) for field in told},
    )
    return Answer(parameters, inputs, sorted(instrument for instrument, value in years.items() if value is None))


def _case(case: Mapping[str, Any]) -> list[CaseResult]:
    name, expected = case["id"], case["expected"]
    if beyond := beyond_us(case):
        why = f"our rule has futures settled in the coin, not {', '.join(beyond)}"
        return [CaseResult(FAMILY, name, True, why, left_out=True)]
    answer = answer_of(case)
    if isinstance(answer, list):
        return [CaseResult(FAMILY, f"{name}, parameters", False, "; ".join(answer))]
    parameters, inputs, undated = answer
    note = f"; no time to expiry of {', '.join(undated)}, taken as 0" if undated else ""
    sizes = dict(zip(case["positions"], inputs.size.tolist(), strict=True))
    index_usd = float(inputs.index_usd[0])
    terms = deribit_pm.parameter_arrays(parameters)
    out = np.empty((1, 4))
    deribit_pm.margins(inputs, terms, out)
    parts = {part: value_usd / index_usd for part, value_usd in deribit_pm.parts(inputs, terms, 0)}
    parts |= {"initial_margin": float(out[0, INITIAL_USD]) / index_usd, "maintenance_margin": float(out[0, MAINTENANCE_USD]) / index_usd}

    results = []
    for instrument, position in case["positions"].items():
        standard, extended = deribit_pm.risk_vector(sizes[instrument], terms)
        results.append(_vector(f"{name}, {instrument}, standard", standard, position["standard_by_bucket"]))
        if "extended" in position:
            results.append(_vector(f"{name}, {instrument}, extended", extended, position["extended"]))
    both = [float(value) for value in deribit_pm.aggregated_tables(sum(sizes.values()), index_usd, terms)]
    moves = 2 * parameters.buckets_a_side + 1
    for table, found in (("standard_by_bucket", both[:moves]), ("extended", both[moves:])):
        if f"aggregated_{table}" in case:
            results.append(_vector(f"{name}, aggregated {table.partition('_')[0]}", found, case[f"aggregated_{table}"]))
    for part in ("worst_case", "roll_shock", "delta_shock", "risk_matrix_margin", "initial_margin", "maintenance_margin"):
        if part in expected:
            result = _vector(f"{name}, {part}", [parts[part]], [expected[part]])
            results.append(CaseResult(FAMILY, result.case, result.passed, result.detail + note, told=bool(note)))
    return results


def _size(position: Mapping[str, Any]) -> float:
    [size] = [float(position[field]) for field in position if field.startswith("size")]
    return size


def _parameters(case: Mapping[str, Any], coin: str) -> deribit_pm.Parameters | list[str]:
    document = {PARAMETERS.get(name, name): value for name, value in case["params"].items() if name not in OF_OPTIONS}
    if "m_inc" not in document and coin in M_INC:
        document["m_inc"] = M_INC[coin]
    moves = len(next(iter(case["positions"].values()))["standard_by_bucket"])
    document["buckets_a_side"] = moves // 2
    found = read(deribit_pm.Parameters, document)
    return found if moves % 2 == 1 else [f"{moves} standard moves, which have no middle"]


def _vector(name: str, found: list[float], expected: list[float]) -> CaseResult:
    if len(found) != len(expected):
        return CaseResult(FAMILY, name, False, f"{len(found)} entries, expected {len(expected)}")
    error = max(abs(ours - theirs) for ours, theirs in zip(found, expected, strict=True))
    shown = f"{found[0]!r}, expected {expected[0]!r}" if len(found) == 1 else f"{len(found)} entries"
    return CaseResult(FAMILY, name, error <= TOLERANCE, f"{shown}, off by {error:.1e} coins at most")
