"""Scenario grids as venues publish them, against the moves and weights of our rules; what no rule of ours computes is named."""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from engine.rules import deribit_pm, span16
from tests.reference.case import CaseResult, files_of

FAMILY: Final = "scenario_grids"
CARRIED: Final = Path(__file__).parent / "data"
_RANGE: Final = re.compile(r"^(-?[\d.]+) x PSR$")
_EXTREME: Final = re.compile(r"^(-?)extreme(?:\(NSCCL ([\d.]+)x)?")
_NSCCL: Final = re.compile(r"NSCCL ([\d.]+)")
Rows = list[dict[str, str]]


def families() -> dict[str, Callable[[Path | None], list[CaseResult]]]:
    """What this module can check, by the name its files begin with."""
    return {FAMILY: run}


def run(folder: Path | None) -> list[CaseResult]:
    """Every row found under `folder` (the layout of the reference data), or of those carried here."""
    results = []
    for path in files_of((folder or CARRIED) / "margin", FAMILY, ".csv"):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for system in dict.fromkeys(row["system"] for row in rows):
            of_system = [row for row in rows if row["system"] == system]
            if system in _CHECKS:
                results += _CHECKS[system](of_system)
            else:
                why = f"{len(of_system)} rows: {_ELSEWHERE.get(system.partition('_')[0], 'no rule of ours has this grid')}"
                results.append(CaseResult(FAMILY, system, True, why, left_out=True))
    return results


_ELSEWHERE: Final = {
    "derive": "Derive's rule takes its scenarios as parameters, and its own cases bring theirs",
    "okx": "components MR1 and MR6 of OKX are no part of our rule; the source leaves out volatility moves and weights",
}


def _span16(rows: Rows) -> list[CaseResult]:
    """Order, moves and volatility moves of the 16; multiple and fraction of the extremes are those of NSCCL."""
    parameters = span16.Parameters()
    results = []
    for row in rows:
        number = int(row["scenario"]) - 1
        name = f"span16, scenario {row['scenario']}"
        if move := _RANGE.match(row["spot_shock"]):
            passed = number < 14 and round(span16.MOVES[number], 4) == float(move[1])
            passed = passed and span16.VOLATILITY_MOVES[number] == float(row["vol"]) and float(row["weight"]) == 1.0
            ours = f"{span16.MOVES[number]:.4f}, volatility {span16.VOLATILITY_MOVES[number]:+.0f}" if number < 14 else "an extreme"
        elif extreme := _EXTREME.match(row["spot_shock"]):
            sign = -1.0 if extreme[1] else 1.0
            multiple, fraction = parameters.extreme_multiple, parameters.extreme_fraction
            passed = number >= 14 and span16.EXTREME_SIGNS[number - 14] == sign
            passed = passed and float(row["vol"]) == span16.VOLATILITY_MOVES[number]
            told = _NSCCL.search(row["weight"])
            passed = passed and (extreme[2] is None or float(extreme[2]) == multiple) and (told is None or float(told[1]) == fraction)
            ours = f"{sign * multiple:+.0f} ranges, of which {fraction:.0%}"
        else:
            passed, ours = False, "a move that we can't read"
        results.append(CaseResult(FAMILY, name, passed, f"{ours}; {row['spot_shock']}, weight {row['weight']}"))
    return results


def _paradex(rows: Rows) -> list[CaseResult]:
    """Paradex scans as Deribit does: eight steps over the range, and far moves of which the share range / |move| counts.

    Paradex itself is no rule of ours; its printed weights are an answer to that share, which Deribit shows only multiplied out.
    """
    price_range = max(abs(float(row["spot_shock"])) for row in rows if float(row["weight"]) == 1.0)
    parameters = deribit_pm.Parameters(
        price_range=price_range, pnl_offset=0.0, annualised_move_risk=0.0, min_annualised_move=0.0, extended_dampener_usd=0.0
    )
    terms = deribit_pm.parameter_arrays(parameters)
    side = parameters.buckets_a_side
    steps = [price_range * step / side for step in range(-side, side + 1)]
    results = []
    for row in rows:
        move, weight = float(row["spot_shock"]), float(row["weight"])
        if abs(move) <= price_range:
            passed, ours = weight == 1.0 and min(abs(move - step) for step in steps) < 1e-12, "a step of the range"
        else:
            share = float(deribit_pm.extended_share(move, terms))
            digits = len(row["weight"].partition(".")[2])
            passed, ours = move in deribit_pm.EXTENDED_MOVES and round(share, digits) == weight, f"share {share:.5f}"
        results.append(CaseResult(FAMILY, f"paradex, scenario {row['scenario']}", passed, f"{ours}; move {move}, weight {row['weight']}"))
    return results


_CHECKS: Final[dict[str, Callable[[Rows], list[CaseResult]]]] = {"span16": _span16, "paradex": _paradex}
