"""Derive's own portfolio margin cases against our PMRM_2: initial and maintenance margin of each portfolio.

`python -m tests.reference.derive_pmrm2 [DIR]` prints the errors. A folder has the venue's cases, one file each, with all parameters and
feeds; carried with the tests are a few portfolios in a form of our own (see `data/README.md`).
"""

import json
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.rules import derive_pmrm2
from engine.rules.derive_pmrm2 import Inputs, Parameters, margins, option_pairs, require_indices, terms
from engine.rules.faults import read
from engine.rules.interface import EQUITY_USD, INITIAL_USD, MAINTENANCE_USD
from tests.reference.case import CaseResult, Noted, files_of, noted

FAMILY: Final = "derive_pmrm2"
CARRIED: Final = Path(__file__).parent / "data"
RELATIVE_TOLERANCE: Final = 1e-9
LEVELS: Final = ("initial", "maintenance")


@dataclass(frozen=True)
class Case:
    """One portfolio: the venue's parameters, its feeds and positions, and the margins that the venue states (what is left, USD)."""

    name: str
    parameters: Parameters
    inputs: Inputs
    initial_usd: float
    maintenance_usd: float


def families() -> dict[str, Callable[[Path | None], list[CaseResult]]]:
    """What this module can check, by the name its files begin with."""
    return {FAMILY: run}


def run(folder: Path | None) -> list[CaseResult]:
    """Both levels of every portfolio, and the largest and median error over all of them. What cannot be read fails by name."""
    results, found = [], []
    for name, case in sources(folder):
        try:
            pairs = compared(case())
        except (KeyError, TypeError, ValueError) as fault:
            results.append(CaseResult(FAMILY, name, False, f"{type(fault).__name__}: {fault}"))
            continue
        for level, ours, theirs in pairs:
            error = relative_error(ours, theirs)
            found.append(error)
            results.append(CaseResult(FAMILY, f"{name}, {level}", error <= RELATIVE_TOLERANCE, f"{ours!r}, expected {theirs!r}"))
    if found:
        detail = f"{len(found)} margins, relative error maximum {max(found):.1e}, median {statistics.median(found):.1e}"
        results.append(CaseResult(FAMILY, "all", max(found) <= RELATIVE_TOLERANCE, detail, told=True))
    return results


def compared(case: Case) -> list[tuple[str, float, float]]:
    """(level, our margin, the venue's) of a portfolio, both as what is left, USD."""
    equity_usd, initial_usd, maintenance_usd = evaluated(case)
    return [(LEVELS[0], equity_usd - initial_usd, case.initial_usd), (LEVELS[1], equity_usd - maintenance_usd, case.maintenance_usd)]


def relative_error(ours: float, theirs: float) -> float:
    """|ours - theirs| / |theirs|, and infinite where ours is not a number."""
    if math.isnan(ours):
        return math.inf
    return abs(ours - theirs) / abs(theirs) if theirs != 0.0 else (0.0 if ours == 0.0 else math.inf)


def evaluated(case: Case) -> tuple[float, float, float]:
    """Equity and both requirements of the case's only account, USD."""
    arrays, out = terms(case.parameters), np.empty((1, 4))
    require_indices(case.inputs, arrays)
    margins(case.inputs, arrays, out)
    return float(out[0, EQUITY_USD]), float(out[0, INITIAL_USD]), float(out[0, MAINTENANCE_USD])


def sources(folder: Path | None) -> list[tuple[str, Callable[[], Case]]]:
    """Every portfolio of a folder, or those carried here, by name; to be read one by one."""
    if folder is None:
        return [(case.name, partial(_same, case)) for case in carried()]
    paths = sorted(files_of(folder / "margin", FAMILY, ".json"), key=_by_number)
    return [(path.stem, partial(_read, path)) for path in paths]


def _same(case: Case) -> Case:
    return case


def _read(path: Path) -> Case:
    return _venue_case(path.stem, json.loads(path.read_text()))


def _by_number(path: Path) -> tuple[int, str]:
    return min((int(part) for part in path.stem.split("_") if part.isdigit()), default=0), path.stem


# --- The venue's own files

_KINDS: Final = {"Up": "up", "Down": "down", "None": "none", "LINEAR": "linear", "ABS": "abs"}


# What the venue's files say besides, which no margin depends on: how feeds and marks came about, and what came of them on the way.
_MARKET_ONLY: Final = ("StableConfidence", "LastEntryPrice", "FundingIndex", "SystemFundingIndex")
_OPTION_ONLY: Final = ("ExiryTs", "MarkDiscount", "k", "linear_mult_cap", "abs_mult_cap", "k_star", "linear_multiplier", "abs_multiplier")
_FEED_ONLY: Final = ("SVIparam",)


def _venue_case(name: str, document: Mapping[str, Any]) -> Case:
    market, result = Noted(document["Scenario"]), document["Result"]
    collaterals, feeds, options = noted(market["Collaterals"]), noted(market["OptionFeeds"]), noted(market["Options"])
    parameters = _whole(venue_parameters(document["Parameters"], collaterals), name)
    expiries = [feed["FeedExpiry"] for feed in feeds]
    facts = {
        "spot": [market["SpotPrice"], market["SpotConfidence"]],
        "perp": [market["PerpPrice"], market["PerpConfidence"]],
        "stable": market["StablePrice"],
        "expiries": [
            [feed[key] for key in ("FeedExpiry", "Forward", "ForwardConfidence", "Rate", "RateConfidence", "OptionVolConfidences")]
            for feed in feeds
        ],
        "options": [
            [expiries.index(option["Expiry"]), option["Strike"], bool(option["IsCall"]), option["MarkVol"], option["Amount"]]
            for option in options
        ],
        "collaterals": [[asset["Price"], asset["Confidence"], asset["Amount"]] for asset in collaterals],
        "cash": market["Cash"],
        "perps": [market["NumPerps"], market["UnrealisedPerpPNL"], market["UnrealisedFunding"]],
    }
    market.require_read(*_MARKET_ONLY)
    for objects, known in ((collaterals, ()), (feeds, _FEED_ONLY), (options, _OPTION_ONLY)):
        for one in objects:
            one.require_read(*known)
    return Case(name, parameters, portfolio(facts), float(result["IM"]), float(result["MM"]))


def venue_parameters(document: Mapping[str, Any], collaterals: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The venue's parameters by our names. A parameter that we do not know fails, since it might change the margin."""
    groups = {name: dict(group) for name, group in document.items() if name != "Scenarios"}
    unused = {f"{name}.{key}" for name, group in groups.items() for key in group}

    def take(path: str) -> float:
        unused.remove(path)
        name, _, key = path.partition(".")
        return float(groups[name][key])

    found: dict[str, Any] = {ours: take(theirs) for ours, theirs in _NAMES.items()}
    # The venue states initial percentages for perpetuals and options twice: what comes on top, and the sum.
    for what in ("PERP", "OPTION"):
        total = take(f"OtherContingency.IM_{what}_PERCENT_NORMAL")
        parts = found[f"{what.lower()}_maintenance"] + found[f"{what.lower()}_initial"]
        if not math.isclose(total, parts, rel_tol=1e-12):
            raise ValueError(f"{what}: {parts} in parts, {total} in all")
    if unused:
        raise ValueError(f"parameters without a meaning to us: {sorted(unused)}")
    found["scenarios"] = [
        {"spot_shock": float(row["SpotShock"]), "vol": _KINDS[row["VolShockDirection"]], "dampening": float(row["DampeningFactor"])}
        for row in document["Scenarios"]
    ]
    found["collaterals"] = [
        {
            "name": asset["Name"],
            "risk_cancelling": asset["IsRiskCancelling"],
            "initial_haircut": float(asset["IMHaircut"]),
            "maintenance_haircut": float(asset["MMHaircut"]),
            "confidence_threshold": float(asset["ConfidenceFactor"]),
        }
        for asset in collaterals
    ]
    return found


_NAMES: Final = {
    "linear_scale": "SkewShock.LINEAR_SCALE_CAP",
    "linear_base": "SkewShock.LINEAR_CBASE",
    "abs_scale": "SkewShock.ABS_SCALE_CAP",
    "abs_base": "SkewShock.ABS_CBASE",
    "k_star_min": "SkewShock.MIN_K_STAR",
    "width": "SkewShock.MIN_WIDTH_SCALE",
    "vol_static": "SkewShock.VOL_PARAM_STATIC",
    "vol_scale": "SkewShock.VOL_PARAM_SCALE",
    "range_up": "VolShock.VOLRANGEUP",
    "range_down": "VolShock.VOLRANGEDOWN",
    "shocked_sigma_min": "VolShock.MIN_VOL_EVAL_SHOCKED",
    "short_power": "VolShock.SHORTTERMPOWER",
    "long_power": "VolShock.LONGTERMPOWER",
    "days_floor": "VolShock.DTE_FLOOR",
    "initial_factor": "Margin.IM_LOSS_FACTOR",
    "maintenance_factor": "Margin.MM_LOSS_FACTOR",
    "short_mult": "Margin.SHORT_RATE_MULTSCALE",
    "long_mult": "Margin.LONG_RATE_MULTSCALE",
    "short_add": "Margin.SHORT_RATE_ADDSCALE",
    "long_add": "Margin.LONG_RATE_ADDSCALE",
    "discount": "Margin.BASE_STATIC_DISCOUNT",
    "discount_negative": "Margin.BASE_STATIC_DISCOUNT_NEG",
    "spot_up": "BasisContingency.SCENARIO_SPOT_UP",
    "spot_down": "BasisContingency.SCENARIO_SPOT_DOWN",
    "basis_add": "BasisContingency.BASIS_CONT_ADD_FACTOR",
    "basis_mult": "BasisContingency.BASIS_CONT_MULT_FACTOR",
    "peg_loss_threshold": "OtherContingency.PEG_LOSS_THRESHOLD",
    "peg_loss_factor": "OtherContingency.PEG_LOSS_FACTOR",
    "confidence_threshold": "OtherContingency.CONF_THRESHOLD",
    "confidence_margin": "OtherContingency.CONF_MARGIN",
    "perp_maintenance": "OtherContingency.MM_PERP_PERCENT",
    "perp_initial": "OtherContingency.IM_PERP_PERCENT",
    "option_maintenance": "OtherContingency.MM_OPTION_PERCENT",
    "option_initial": "OtherContingency.IM_OPTION_PERCENT",
}


# --- The carried facts


def carried() -> list[Case]:
    """The portfolios of our own file; all share its parameters and scenarios, but for their collaterals and what they say themselves."""
    document = json.loads((CARRIED / "margin" / f"{FAMILY}.json").read_text())
    found = []
    for name, facts in document["portfolios"].items():
        scenarios = [facts["scenarios"].get(str(number), row) for number, row in enumerate(document["scenarios"])]
        whole = {
            **document["parameters"],
            **facts["parameters"],
            "scenarios": [dict(zip(_SCENARIO, row, strict=True)) for row in scenarios],
            "collaterals": [dict(zip(_COLLATERAL, [str(number), *row], strict=True)) for number, row in enumerate(facts["haircuts"])],
        }
        found.append(Case(name, _whole(whole, name), portfolio(facts), facts["initial_margin"], facts["maintenance_margin"]))
    return found


_SCENARIO: Final = ("spot_shock", "vol", "dampening")
_COLLATERAL: Final = ("name", "risk_cancelling", "initial_haircut", "maintenance_haircut", "confidence_threshold")


def portfolio(facts: Mapping[str, Any]) -> Inputs:
    """One account and its feeds; rows of `expiries`, `options` and `collaterals` as `_venue_case` writes them."""
    expiries = np.array(facts["expiries"], dtype=np.float64).reshape(-1, 6)
    options = facts["options"]
    collaterals = np.array(facts["collaterals"], dtype=np.float64).reshape(-1, 3)
    option_expiry = np.array([row[0] for row in options], dtype=np.int64)
    strikes = np.array([row[1] for row in options], dtype=np.float64)
    perps, profit_usd, funding_usd = (float(number) for number in facts["perps"])
    return Inputs(
        spot_usd=float(facts["spot"][0]),
        spot_confidence=float(facts["spot"][1]),
        perp_usd=float(facts["perp"][0]),
        perp_confidence=float(facts["perp"][1]),
        stable_usd=float(facts["stable"]),
        expiry_s=expiries[:, 0].copy(),
        forward_usd=expiries[:, 1].copy(),
        forward_confidence=expiries[:, 2].copy(),
        rate=expiries[:, 3].copy(),
        rate_confidence=expiries[:, 4].copy(),
        sigma_confidence=expiries[:, 5].copy(),
        option_expiry=option_expiry,
        option_pair=option_pairs(option_expiry, strikes),
        option_strike_usd=strikes,
        option_is_call=np.array([row[2] for row in options], dtype=np.bool_),
        option_sigma=np.array([row[3] for row in options], dtype=np.float64),
        collateral_usd=collaterals[:, 0].copy(),
        collateral_confidence=collaterals[:, 1].copy(),
        cash_usd=np.array([facts["cash"]], dtype=np.float64),
        perps=np.array([perps]),
        perp_profit_usd=np.array([profit_usd]),
        perp_funding_usd=np.array([funding_usd]),
        start=np.array([0, len(options)], dtype=np.int64),
        leg_option=np.arange(len(options), dtype=np.int64),
        leg_amount=np.array([row[4] for row in options], dtype=np.float64),
        collateral_start=np.array([0, len(collaterals)], dtype=np.int64),
        held_collateral=np.arange(len(collaterals), dtype=np.int64),
        held_amount=collaterals[:, 2].copy(),
    )


def _whole(document: Mapping[str, Any], name: str) -> Parameters:
    parameters = read(Parameters, document)
    if isinstance(parameters, list):
        raise TypeError(f"{name}: {'; '.join(parameters)}")
    return parameters


if __name__ == "__main__":
    for result in run(Path(sys.argv[1]) if len(sys.argv) > 1 else None):
        if result.told or not result.passed:
            print(f"{derive_pmrm2.RULE.title}: {result.case}: {result.detail}")
