"""SPAN risk arrays as printed: what positions made of them gain in each scenario, and what they require."""

import csv
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from engine.rules import span16
from engine.rules.interface import MAINTENANCE_USD
from tests.reference.case import CaseResult, files_of

FAMILY: Final = "span_sp500_risk_arrays"  # tests.reference.options checks the same file's prices
CARRIED: Final = Path(__file__).parent / "data"
REQUIREMENT: Final = "SPAN_requirement"
WHOLE_RANGE: Final = 10  # the row whose move is the price scan range
_COMBINED: Final = re.compile(r"^\w+?_pnl\((.+)\)$")
_LEG: Final = re.compile(r"^(?:(\d+) )?(long|short) (?:(\d+) )?(\w+)$")


def families() -> dict[str, Callable[[Path | None], list[CaseResult]]]:
    """What this module can check, by the name its files begin with."""
    return {FAMILY: run}


def run(folder: Path | None) -> list[CaseResult]:
    """Every column of every file found under `folder` (the layout of the reference data), or of that carried here."""
    results = []
    for path in files_of((folder or CARRIED) / "margin", FAMILY, ".csv"):
        with path.open(newline="") as file:
            results += _file(path.stem, list(csv.DictReader(file)))
    return results


def _file(name: str, rows: list[dict[str, str]]) -> list[CaseResult]:
    if [row["scenario"] for row in rows] != [*(str(number) for number in range(1, 17)), REQUIREMENT]:
        return [CaseResult(FAMILY, name, False, f"expected the scenarios 1 to 16 in order, then {REQUIREMENT}")]
    columns = {column: [float(row[column]) for row in rows] for column in rows[0] if "_pnl" in column}
    arrays = {column.removeprefix("long_").removesuffix("_pnl"): values[:16] for column, values in columns.items() if "(" not in column}
    printed_to = math.gcd(*(int(value) for values in columns.values() for value in values)) or 1
    terms = span16.parameter_arrays(span16.Parameters())

    results = []
    for instrument in (found for found in arrays if found.startswith("fut")):
        ours = span16.future_array_usd(arrays[instrument][WHOLE_RANGE], terms)
        for scenario, (found, printed) in enumerate(zip(ours, arrays[instrument], strict=True), start=1):
            passed = abs(found - printed) <= printed_to / 2
            detail = f"{found:.0f}, printed {printed:.0f}, to {printed_to}"
            results.append(CaseResult(FAMILY, f"{instrument}, array, scenario {scenario}", passed, detail))
    for column, values in columns.items():
        held = _held(column, list(arrays))
        if held is None:
            results.append(CaseResult(FAMILY, column, False, f"cannot be read as a position in {', '.join(arrays)}"))
            continue
        inputs = _inputs(arrays, held)
        gains = [sum(held[row] * array[scenario] for row, array in enumerate(arrays.values())) for scenario in range(16)]
        out = np.empty((1, 4))
        span16.margins(inputs, terms, out)
        if "(" in column:
            for scenario, (found, printed) in enumerate(zip(gains, values, strict=False), start=1):
                results.append(
                    CaseResult(FAMILY, f"{column}, scenario {scenario}", found == printed, f"{found:.0f}, printed {printed:.0f}")
                )
        required = float(out[0, MAINTENANCE_USD])
        detail = f"{required:.0f}, printed {values[16]:.0f}"
        results.append(CaseResult(FAMILY, f"{column}, requirement", required == values[16], detail, told=True))
    return results


def _held(column: str, instruments: list[str]) -> list[float] | None:
    """Units of each instrument in a column, from its heading: one alone, or what the brackets say."""
    combined = _COMBINED.match(column)
    legs = combined[1].split(", ") if combined else [f"long {column.removeprefix('long_').removesuffix('_pnl')}"]
    held = [0.0] * len(instruments)
    for leg in legs:
        read = _LEG.match(leg)
        rows = [row for row, name in enumerate(instruments) if read and (read[4] == name or (combined and read[4] in name))]
        if read is None or len(rows) != 1:
            return None
        units = float(read[1] or read[3] or 1)
        held[rows[0]] += units if read[2] == "long" else -units
    return held


def _inputs(arrays: dict[str, list[float]], held: list[float]) -> span16.Inputs:
    legs = [row for row, units in enumerate(held) if units]
    count = len(arrays)
    return span16.Inputs(
        start=np.array([0, len(legs)]),
        instrument=np.array(legs),
        quantity=np.array([held[row] for row in legs]),
        commodity=np.zeros(count, dtype=np.int64),
        gain_usd=np.array(list(arrays.values())),
        option_value_usd=np.zeros(count),
        is_option=np.array(["fut" not in name for name in arrays]),
        notional_usd=np.zeros(count),
        spread_charge_usd=np.zeros(len(legs)),
        equity_usd=np.zeros(1),
    )
