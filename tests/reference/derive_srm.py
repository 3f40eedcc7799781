"""Derive's own standard margin cases against our SRM, and its simulated auctions against our partial liquidation.

The venue prints margins as whole dollars, cut towards 0, so ours has to be cut to the same dollar. `python -m
tests.reference.derive_srm [DIR]` prints the outcome.
"""

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.rules import derive_auction, derive_srm
from engine.rules.derive_auction import AUCTION_COLUMNS, BID_USD, BUFFER_USD, FRACTION_MAX, liquidations
from engine.rules.derive_srm import Inputs, Parameters, margins, require_indices
from engine.rules.faults import read
from engine.rules.interface import EQUITY_USD, INITIAL_USD, MAINTENANCE_USD
from tests.reference.case import CaseResult, Noted, files_of, noted

FAMILY: Final = "derive_srm"
AUCTION: Final = "derive_liquidation"
CARRIED: Final = Path(__file__).parent / "data"
ROUNDING_USD: Final = 1e-9  # of a double at these sizes: an exact 880 may be 879.9999999999999 here
BID_TOLERANCE: Final = 1e-12  # relative; the venue rounds to 18 digits
NOT_USED: Final = ("InsolventTest1", "InsolventTest2")  # disabled by the venue itself: their bounds are of an older rule
LEVELS: Final = ("initial", "maintenance")


@dataclass(frozen=True)
class Case:
    """One portfolio: parameters, feeds and positions, and the whole dollars of initial and maintenance margin that the venue states."""

    name: str
    parameters: Parameters
    inputs: Inputs
    initial_usd: int
    maintenance_usd: int


def families() -> dict[str, Callable[[Path | None], list[CaseResult]]]:
    """What this module can check, by the name its files begin with."""
    return {FAMILY: run, AUCTION: run_auction}


def run(folder: Path | None) -> list[CaseResult]:
    """Both levels of every portfolio, one result a portfolio, and how many agree. What cannot be read fails by name."""
    results = []
    for name, read_case in sources(folder):
        try:
            case = read_case()
        except (KeyError, TypeError, ValueError) as fault:
            results.append(CaseResult(FAMILY, name, False, f"{type(fault).__name__}: {fault}"))
            continue
        found, expected = evaluated(case), (case.initial_usd, case.maintenance_usd)
        detail = "; ".join(f"{level} {ours!r}, expected {theirs}" for level, ours, theirs in zip(LEVELS, found, expected, strict=True))
        agree = all(same_dollar(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
        results.append(CaseResult(FAMILY, case.name, agree, detail))
    passed = sum(result.passed for result in results)
    results.append(CaseResult(FAMILY, "all", passed == len(results), f"{passed} of {len(results)} portfolios to the dollar", told=True))
    return results


def same_dollar(ours: float, theirs: int) -> bool:
    """Whether ours, cut towards 0, is theirs; a double just below a whole dollar may be meant for it."""
    if math.isnan(ours):
        return False
    return theirs in {math.trunc(ours - ROUNDING_USD), math.trunc(ours + ROUNDING_USD)}


def evaluated(case: Case) -> tuple[float, float]:
    """Initial and maintenance margin of the case's only account as the venue states them: what is left, USD."""
    arrays, out = derive_srm.terms(case.parameters), np.empty((1, 4))
    require_indices(case.inputs, arrays)
    margins(case.inputs, arrays, out)
    return float(out[0, EQUITY_USD] - out[0, INITIAL_USD]), float(out[0, EQUITY_USD] - out[0, MAINTENANCE_USD])


def cases(folder: Path | None) -> list[Case]:
    """Every portfolio of every file found, or of the carried one."""
    return [read_case() for _, read_case in sources(folder)]


def sources(folder: Path | None) -> list[tuple[str, Callable[[], Case]]]:
    """The same by name, to be read one by one."""
    paths = files_of((folder or CARRIED) / "margin", FAMILY, ".json")
    return [source for path in paths for source in _sources(json.loads(path.read_text()))]


# --- Portfolios

_NAMES: Final = {
    "perp_maintenance": "perp_mm",
    "perp_initial": "perp_im",
    "spot_max": "maxSpotReq",
    "spot_min": "minSpotReq",
    "call_maintenance": "mmCallSpotReq",
    "put_maintenance": "mmPutSpotReq",
    "put_mark_maintenance": "MMPutMtMReq",
    "put_initial_scale": "mmOffsetScale",
    "unpaired_initial": "unpairedIMScale",
    "unpaired_maintenance": "unpairedMMScale",
    "base_factor": "base_marginFactor",
    "base_initial_scale": "base_IMScale",
    "confidence_threshold": "oracle_thresholds",
    "confidence_factor": "OCFactor",
}
_PEG: Final = {"depeg_threshold": "depeg_threshold", "depeg_factor": "depeg_factor"}
_UNSURE: Final = ("vol", "fwd", "spot", "perp")


def _sources(document: Mapping[str, Any]) -> list[tuple[str, Callable[[], Case]]]:
    parameters = _parameters(document["params"], _markets(document["env"]))
    unit = _unit(document["units"])
    overrides = document["env_override_by_case"]
    if unknown := sorted(set(overrides) - set(document["cases"])):
        raise ValueError(f"changes of feeds for cases that are not there: {', '.join(unknown)}")
    return [
        (name, partial(_case, name, facts, parameters, document["env"], overrides.get(name, {}), unit))
        for name, facts in document["cases"].items()
    ]


def _markets(env: Mapping[str, Any]) -> list[str]:
    """Underlyings of which the feeds are."""
    return [name.removesuffix("_perp_price") for name in env if name.endswith("_perp_price")]


def _parameters(stated: Mapping[str, float], markets: list[str]) -> Parameters:
    """One set for each market. A parameter that we do not know fails, since it might change the margin."""
    unknown = set(stated) - set(_NAMES.values()) - set(_PEG.values())
    if unknown:
        raise ValueError(f"parameters without a meaning to us: {sorted(unknown)}")
    common = {ours: float(stated[theirs]) for ours, theirs in _NAMES.items()}
    peg = {ours: float(stated[theirs]) for ours, theirs in _PEG.items()}
    parameters = read(Parameters, {"markets": [{"name": market, **common} for market in markets], **peg})
    if isinstance(parameters, list):
        raise TypeError("; ".join(parameters))
    return parameters


def _unit(stated: str) -> float:
    if not stated.startswith("1e8"):
        raise ValueError(f"unknown unit of amounts: {stated}")
    return 1e8


def _case(
    name: str,
    stated: Mapping[str, Any],
    parameters: Parameters,
    feeds: Mapping[str, Any],
    override: Mapping[str, Any],
    unit: float,
) -> Case:
    facts, env, markets = Noted(stated), Noted(feeds), _markets(feeds)
    unknown = set(override) - {"stable"} - {f"{market}_{what}_conf" for market in markets for what in _UNSURE}
    if unknown:
        raise ValueError(f"{name}: changes of feeds without a meaning to us: {sorted(unknown)}")
    dates = list(env["seconds_to_expiry"])
    expiries = [(market, date) for market in range(len(markets)) for date in dates]
    spot_usd = [float(env[f"{market}_spot"]) for market in markets]
    sure = env["default_confidence"]

    def by_market(what: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([_confidence(override.get(f"{market}_{what}_conf", sure)) for market in markets])

    def by_expiry(what: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        unsure = [override.get(f"{market}_{what}_conf", {}) for market in markets]
        if elsewhere := sorted({date for one in unsure for date in one} - set(dates)):
            raise ValueError(f"{name}: confidence of expiries that are not there: {', '.join(elsewhere)}")
        return np.array([_confidence(unsure[market].get(date, sure)) for market, date in expiries])

    options, perps, bases = noted(facts["options"]), noted(facts["perps"]), noted(facts["bases"])
    perp_usd = np.array([float(env[f"{market}_perp_price"]) for market in markets])
    perp_market = _indices(markets.index(perp["underlying"]) for perp in perps)
    perp_amount = np.array([perp["amount"] / unit for perp in perps], dtype=np.float64)
    entry_usd = np.array([perp["entryPrice"] / unit for perp in perps], dtype=np.float64)
    inputs = Inputs(
        stable_usd=float(override.get("stable", env["stable"])),
        spot_usd=np.array(spot_usd),
        spot_confidence=by_market("spot"),
        perp_usd=perp_usd,
        perp_confidence=by_market("perp"),
        expiry_market=_indices(market for market, _ in expiries),
        expiry_s=np.array([float(env["seconds_to_expiry"][date]) for _, date in expiries]),
        forward_usd=np.array([spot_usd[market] + env[f"{markets[market]}_forward_minus_spot"][date] for market, date in expiries]),
        forward_confidence=by_expiry("fwd"),
        sigma_confidence=by_expiry("vol"),
        option_expiry=_indices(expiries.index((markets.index(option["underlying"]), option["expiry"])) for option in options),
        option_strike_usd=np.array([float(option["strike"]) for option in options]),
        option_is_call=np.array([{"call": True, "put": False}[option["type"]] for option in options], dtype=np.bool_),
        option_sigma=np.full(len(options), float(env["default_vol"])),
        cash_usd=np.array([facts["cash"] / unit]),
        start=np.array([0, len(options)], dtype=np.int64),
        leg_option=np.arange(len(options), dtype=np.int64),
        leg_amount=np.array([option["amount"] / unit for option in options], dtype=np.float64),
        perp_start=np.array([0, len(perps)], dtype=np.int64),
        perp_market=perp_market,
        perp_amount=perp_amount,
        perp_profit_usd=perp_amount * (perp_usd[perp_market] - entry_usd),
        base_start=np.array([0, len(bases)], dtype=np.int64),
        base_market=_indices(markets.index(base["underlying"]) for base in bases),
        base_amount=np.array([base["amount"] / unit for base in bases], dtype=np.float64),
    )
    result = facts["results"] if "results" in facts else facts["result"]
    for one in (facts, env, *options, *perps, *bases):
        one.require_read("stable")
    return Case(name, parameters, inputs, result["im"], result["mm"])


def _indices(found: Iterable[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(list(found), dtype=np.int64)


def _confidence(stated: float | str) -> float:
    """A number, or one less the venue's smallest unit (1e-18), which a double cannot say: the next one below instead."""
    if isinstance(stated, str):
        number, minus, unit = stated.partition(" minus ")
        if not minus or unit != "1 wei":
            raise ValueError(f"unknown confidence: {stated}")
        return math.nextafter(float(number), 0.0)
    return float(stated)


# --- Auctions

_WHOLE: Final = 1e18


def run_auction(folder: Path | None) -> list[CaseResult]:
    """Each bid of each simulated auction of a solvent account; what is not used is told by name."""
    results: list[CaseResult] = []
    left_out = []
    for path in files_of((folder or CARRIED) / "margin", AUCTION, ".json"):
        document = json.loads(path.read_text())
        parameters = auction_parameters(document["auction_params"])
        for name, facts in document["cases"].items():
            if name in NOT_USED or not _is_solvent(facts):
                left_out.append(name)
            else:
                results += _bids(name, facts, parameters)
    passed = sum(result.passed for result in results)
    unused = f"; of insolvent accounts, by older rules of the venue, not used: {', '.join(left_out)}" if left_out else ""
    results.append(CaseResult(AUCTION, "all", 0 < passed == len(results), f"{passed} of {len(results)} bids{unused}", told=True))
    return results


def _is_solvent(facts: Mapping[str, Any]) -> bool:
    """Whether the account was worth something whenever a bid came, and a largest fraction is stated for each."""
    results = [action["Results"] for action in facts["Actions"]]
    return all("PreFMax" in stated and stated["PreMtM"] >= 0 for stated in results)


def auction_parameters(stated: Mapping[str, float]) -> derive_auction.Parameters:
    """The venue's auction parameters by our names. Its fee and the length of insolvent auctions do not bear on what is computed here."""
    return derive_auction.Parameters(
        start=float(stated["startingMtMPercentage"]),
        cutoff=float(stated["fastAuctionCutoffPercentage"]),
        fast_s=float(stated["fastAuctionLength_s"]),
        slow_s=float(stated["slowAuctionLength_s"]),
        buffer=float(stated["bufferMarginPercentage"]),
    )


def _bids(name: str, facts: Mapping[str, Any], parameters: derive_auction.Parameters) -> list[CaseResult]:
    """Buffer margin, largest fraction and price of each bid in turn; what earlier ones paid is reserved."""
    results = []
    reserved_usd = 0.0
    for number, action in enumerate(facts["Actions"], start=1):
        stated = {key: value / _WHOLE for key, value in action["Results"].items()}
        equity_usd, left_usd = stated["PreMtM"], stated["PreMM"]
        out = np.empty((1, AUCTION_COLUMNS))
        liquidations(
            np.array([equity_usd]),
            np.array([equity_usd - left_usd]),
            np.array([float(action["Time"] - facts["StartTime"])]),
            np.array([reserved_usd]),
            derive_auction.terms(parameters),
            out,
        )
        buffer_usd, most, whole_bid_usd = (float(out[0, column]) for column in (BUFFER_USD, FRACTION_MAX, BID_USD))
        wanted = action["Liquidator"]["PercentWant"] / _WHOLE
        sold = min(wanted, most)
        bid_usd = whole_bid_usd * sold / most if most > 0.0 else 0.0
        pairs = (
            ("buffer margin", buffer_usd, stated["PreBM"]),
            ("fraction", most, stated["PreFMax"]),
            ("bid", bid_usd, stated["ExpectedBidPrice"]),
        )
        apart = [
            f"{what} {ours!r}, expected {theirs!r}" for what, ours, theirs in pairs if not math.isclose(ours, theirs, rel_tol=BID_TOLERANCE)
        ]
        results.append(
            CaseResult(AUCTION, f"{name}, bid {number}", not apart, "; ".join(apart) or f"fraction {most:.6f}, bid {bid_usd:.6f}")
        )
        reserved_usd += bid_usd
    return results


if __name__ == "__main__":
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    for result in [*run(given), *run_auction(given)]:
        if result.told or not result.passed:
            print(f"{result.family}: {result.case}: {result.detail}")
