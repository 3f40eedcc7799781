"""Option prices and deltas that Deribit showed, against our Black-76; a textbook's SPAN risk arrays, against our scan tables.

`python -m tests.reference.options [DIR]` prints the figures of docs/options.md, from the carried facts or from a folder laid out alike.
"""

import csv
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine import pricing, tables
from engine.inputs import (
    AnyDefinition,
    AssetDefinition,
    ChainDefinition,
    ImpliedVolatility,
    InstrumentDefinition,
    OraclePrice,
    RiskParameters,
    VenueDefinition,
)
from engine.margin import MAINTENANCE, OUT, evaluate
from engine.market import Market
from tests.reference.case import CaseResult

CARRIED: Final = Path(__file__).parent / "data"
GREEKS: Final = "deribit_full_greeks"
SPAN: Final = "span_sp500"


def families() -> dict[str, Callable[[Path | None], list[CaseResult]]]:
    """What this module can check, by the name its files begin with."""
    return {GREEKS: deribit_full_greeks, SPAN: span_sp500}


# --- Deribit: marks and sensitivities of every option on one evening

PRICE_ERROR_MEDIAN_MAX_BTC: Final = 1e-5
DELTA_ERROR_MEDIAN_MAX: Final = 1e-4

# Each column is rounded by the venue, and mark, volatility and forward of a row are not of the same instant. What that allows:
PRICE_ROUNDING_BTC: Final = 0.5e-8
SIGMA_ROUNDING: Final = 0.5e-4
DELTA_ROUNDING: Final = 0.5e-5
FORWARD_DRIFT: Final = 5.5e-4  # of the forward: 5 USD of 9,100


@dataclass(frozen=True)
class Quote:
    """One option as the venue showed it; `vega_usd` and `rho_usd` for 0.01 of volatility or rate."""

    instrument: str
    forward_usd: float
    strike_usd: float
    sigma: float
    t_years: float
    is_call: bool
    price_btc: float
    delta: float
    vega_usd: float
    rho_usd: float

    @property
    def terms(self) -> tuple[float, float, float, float, bool, float]:
        """What the pricing functions take. The venue's rate is 0, so the discount factor is 1."""
        return self.forward_usd, self.strike_usd, self.sigma, self.t_years, self.is_call, 1.0


@dataclass(frozen=True)
class Errors:
    """Ours minus the venue's, in absolute value, and what rounding and drift allow for price and delta."""

    instrument: str
    price_btc: float
    delta: float
    vega_usd: float
    rho_usd: float
    price_allowed_btc: float
    delta_allowed: float


def read_quotes(path: Path) -> tuple[list[Quote], list[str]]:
    """The usable rows of one file, and one line for each row left out: which instrument, and why."""
    quotes, excluded = [], []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            why = _unusable(row)
            if why:
                excluded.append(f"{row['instrument_name']}: {why}")
                continue
            quotes.append(
                Quote(
                    instrument=row["instrument_name"],
                    forward_usd=float(row["underlying_price"]),
                    strike_usd=float(row["strike"]),
                    sigma=float(row["mark_iv"]) / 100.0,
                    t_years=pricing.year_fraction(int(row["timestamp"]) * 1_000_000, int(row["expiration_timestamp"]) * 1_000_000),
                    is_call=row["option_type"] == "call",
                    price_btc=float(row["mark_price"]),
                    delta=float(row["delta"]),
                    vega_usd=float(row["vega"]),
                    rho_usd=float(row["rho"]),
                )
            )
    return quotes, excluded


def _unusable(row: dict[str, str]) -> str | None:
    """Only what cannot be compared at all is left out, never what compares badly."""
    missing = [name for name in ("underlying_price", "mark_iv", "mark_price", "delta", "vega", "rho") if not row[name]]
    if missing:
        return f"no {', '.join(missing)}"
    if float(row["mark_iv"]) <= 0.0:
        return "no implied volatility"
    if int(row["timestamp"]) >= int(row["expiration_timestamp"]):
        return "expired"
    return None


def errors(quote: Quote) -> Errors:
    """One instrument through the engine's own pricing."""
    forward, strike, sigma, t, is_call, discount = quote.terms
    price_usd = pricing.black76_price(*quote.terms)
    delta = pricing.black76_delta(*quote.terms)
    vega = pricing.black76_vega(forward, strike, sigma, t, discount)
    gamma = pricing.black76_gamma(forward, strike, sigma, t, discount)
    slope_btc_per_usd = abs(pricing.black76_delta_coin(*quote.terms)) / forward
    # delta moves with sigma too: the difference over one rounding is exact enough for an allowance
    bumped = pricing.black76_delta(forward, strike, sigma + SIGMA_ROUNDING, t, is_call, discount)
    return Errors(
        instrument=quote.instrument,
        price_btc=abs(pricing.black76_price_coin(*quote.terms) - quote.price_btc),
        delta=abs(delta - quote.delta),
        vega_usd=abs(vega / 100.0 - quote.vega_usd),
        rho_usd=abs(t * (forward * delta - price_usd) / 100.0 - quote.rho_usd),
        price_allowed_btc=PRICE_ROUNDING_BTC + SIGMA_ROUNDING * vega / forward + FORWARD_DRIFT * forward * slope_btc_per_usd,
        delta_allowed=DELTA_ROUNDING + abs(bumped - delta) + FORWARD_DRIFT * forward * gamma,
    )


def deribit_full_greeks(folder: Path | None) -> list[CaseResult]:
    """Each instrument within what rounding and drift allow, and for each file the medians within the stated bounds."""
    results = []
    for path in _quote_files(folder):
        quotes, excluded = read_quotes(path)
        found = [errors(quote) for quote in quotes]
        for error in found:
            price_fits = error.price_btc <= error.price_allowed_btc
            delta_fits = error.delta <= error.delta_allowed
            detail = (
                f"price off by {error.price_btc:.1e} BTC of {error.price_allowed_btc:.1e} allowed, "
                f"delta by {error.delta:.1e} of {error.delta_allowed:.1e}"
            )
            results.append(CaseResult(GREEKS, f"{path.stem} {error.instrument}", price_fits and delta_fits, detail))
        left_out = f"{len(excluded)} excluded" + "".join(f"; {line}" for line in excluded)
        for name, values, bound in (
            ("price error in BTC", [error.price_btc for error in found], PRICE_ERROR_MEDIAN_MAX_BTC),
            ("delta error", [error.delta for error in found], DELTA_ERROR_MEDIAN_MAX),
        ):
            median, p99, worst = _spread(values)
            detail = f"median {median:.2e} (bound {bound:.0e}), p99 {p99:.2e}, maximum {worst:.2e}, {len(found)} options, {left_out}"
            results.append(CaseResult(GREEKS, f"{path.stem} {name}", median <= bound, detail, told=True))
    return results


def _quote_files(folder: Path | None) -> list[Path]:
    folders = sorted(path for path in ((folder or CARRIED) / "options").iterdir() if path.is_dir() and path.name.startswith(GREEKS))
    return [path for found in folders for path in sorted(found.glob("*.csv"))]


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, 99th percentile (the smallest value that 99% do not exceed), maximum; nan where there is nothing."""
    if not values:
        return math.nan, math.nan, math.nan
    ordered = sorted(values)
    return statistics.median(ordered), ordered[math.ceil(0.99 * len(ordered)) - 1], ordered[-1]


# --- SPAN: a future on the S&P 500 and a call on it with strike 410, as risk arrays of 16 scenarios

MULTIPLIER_USD: Final = 500
SCAN_RANGE_POINTS: Final = 20  # $10,000 a contract
STRIKE_POINTS: Final = 410.0
PRINTED_TO_USD: Final = 10
CALL_ERROR_MAX_USD: Final = 20
EXTREME_MOVE: Final = 2.0  # scan ranges
EXTREME_FRACTION: Final = 0.35

# The source prints no price, volatility or date. Fitted to the call's 14 inner rows: the forward, sigma and the volatility shock. Only
# sigma * sqrt(t) is determined by them, so the time is set to three weeks.
SPAN_COLUMNS_FITTED: Final = ("long_future_pnl", "long_dec410_call_pnl", "covered_write_pnl(long fut, short call)")
FORWARD_POINTS: Final = 413.75
SIGMA: Final = 0.1688
SIGMA_SHOCK: Final = 0.0286
DAY_NS: Final = 86_400 * 1_000_000_000
TODAY_NS: Final = 20_000 * DAY_NS
EXPIRY_NS: Final = TODAY_NS + 21 * DAY_NS

# Where SPAN and the engine differ, and what makes them comparable:
# - SPAN shocks a volatility by points, the engine by a share of it (larger for short tenors): with a power of 0 and no floor, the share
#   SIGMA_SHOCK / SIGMA moves this one option by the same points.
# - SPAN's scenarios are a day ahead: each is the value then, moved and shocked, less the value today. The engine's are all of one moment:
#   so its clock is taken a day on, its rows are read there, and what the position's value has lost by then (the values of a lot in its
#   tables at the two moments) is added to each. Nothing is lost by that day for the future.
# - The engine derives scan ranges from volatility: floor and cap are set to the printed one.
# - The engine asks for basis, vega, gaps and concentration besides its scenarios, and SPAN does not: they are set to nothing.
SPAN_PARAMETERS: Final[dict[str, Any]] = {
    "grid_steps": 3,
    "extreme_multiple": EXTREME_MOVE,
    "extreme_fraction": EXTREME_FRACTION,
    "vol_shock": SIGMA_SHOCK / SIGMA,
    "vol_shock_power": 0.0,
    "vol_min": 0.0,
    "breakers_enabled": False,
    "clock_step_max_s": 86_400.0,
    "quorum": 1,
    "basis_bps": (0.0,) * 6,
    "vega_shock": 0.0,
    "gap_fraction": 0.0,
    "concentration_k": 0.0,
    "classes": {
        "major": {"scan_floor": SCAN_RANGE_POINTS / FORWARD_POINTS, "scan_cap": SCAN_RANGE_POINTS / FORWARD_POINTS, "vol_coefficient": 0.0}
    },
}

# The printed order: price moves in thirds of the scan range, volatility up, then down; the engine's columns run from the lowest price.
SPAN_STEPS: Final = tuple((third, shock) for third in (0, 1, -1, 2, -2, 3, -3) for shock in ("up", "down"))
SPAN_COLUMNS: Final = (*(2 * (third + 3) + ("up", "down").index(shock) for third, shock in SPAN_STEPS), 14, 15)
INNER_ROWS: Final = len(SPAN_STEPS)

# What the source prints for the call in scenario 15 cannot come from this price curve: see docs/options.md.
UPPER_EXTREME_DIFFERENCE_USD: Final = 3_010


@dataclass(frozen=True)
class RiskArray:
    """What one position gains in the 16 scenarios, as printed (extremes counted in part), and what SPAN would ask for it."""

    profits_usd: list[float]
    requirement_usd: float


class SpanMarket:
    """An engine's market with a future and a call on one index, and, for the kernel's sake, a call on another that nothing moves with."""

    def __init__(self, parameters: Mapping[str, Any] = SPAN_PARAMETERS) -> None:
        self._market = Market()
        for definition in self._definitions():
            self._taken(self._market.define(definition))
        self._taken(self._market.set_parameters(RiskParameters(v=1, version="span", parameters=dict(parameters), time_ns=0)))
        self._future, self._call, self._apart = (self._number(name) for name in ("future", "call", "apart"))
        self._tell(TODAY_NS)
        today_usd = self._lot_values()
        self._tell(TODAY_NS + DAY_NS)
        self._lost_by_then_usd = [then - today for then, today in zip(self._lot_values(), today_usd, strict=True)]

    def array(self, futures: int, calls: int) -> RiskArray:
        """The profits that the engine's kernel has summed up for a position, scenario by scenario, and the loss that it found largest."""
        self._evaluate({self._future: futures, self._call: calls, self._apart: 1})  # a position without options is not computed by column
        columns = self._market.tables.scratch[0, tables.PROFIT : tables.PROFIT + INNER_ROWS + 2].tolist()
        lost_usd = futures * self._lost_by_then_usd[0] + calls * self._lost_by_then_usd[1]
        profits = [columns[column] + lost_usd for column in SPAN_COLUMNS]
        fraction = float(self._market.tables.settings[tables.EXTREME_FRACTION])
        counted = [*profits[:INNER_ROWS], *(fraction * profit for profit in profits[INNER_ROWS:])]
        requirement = self._evaluate({self._future: futures, self._call: calls})
        return RiskArray(counted, requirement - lost_usd)

    def _evaluate(self, lots: dict[int, int]) -> float:
        """The engine's maintenance requirement of an account that holds these lots and nothing else."""
        held = {number: count for number, count in lots.items() if count}
        numbers, quantities = np.array(list(held), dtype=np.int32), np.array(list(held.values()), dtype=np.int64)
        out = np.zeros(OUT)
        unknown = evaluate(
            len(held),
            numbers,
            quantities,
            np.zeros(len(held), dtype=np.int64),
            False,
            self._market.tables.no_pending,
            self._market.tables,
            out,
        )
        assert unknown == 0, f"the position cannot be valued: Unknown {unknown}"
        return float(out[MAINTENANCE])

    def _lot_values(self) -> list[float]:
        """Of future and call, in USD."""
        return [float(self._market.tables.instrument_float[number, tables.UNIT_LONG]) for number in (self._future, self._call)]

    def _tell(self, now_ns: int) -> None:
        """The same forward and volatilities at another time: only the clock has moved."""
        market = self._market
        market.tick(now_ns)
        market.revalue()
        for asset in ("INDEX", "APART"):
            self._taken(
                market.observe_volatility(ImpliedVolatility(v=1, underlying=asset, expiry_ns=EXPIRY_NS, sigma=SIGMA, time_ns=now_ns))
            )
            self._taken(market.observe_price(OraclePrice(v=1, asset=asset, source="printed", price=FORWARD_POINTS, publish_time_ns=now_ns)))
        market.revalue()

    def _number(self, name: str) -> int:
        number = self._market.universe.instrument_number("exchange", name)
        assert number is not None, name
        return number

    @staticmethod
    def _taken(fault: object) -> None:
        assert fault is None, fault

    @staticmethod
    def _definitions() -> list[AnyDefinition]:
        lot: dict[str, Any] = {"v": 1, "time_ns": 0, "venue": "exchange", "lot_size": float(MULTIPLIER_USD), "tick_size": 0.01}
        call: dict[str, Any] = {"contract": "option", "strike": STRIKE_POINTS, "expiry_ns": EXPIRY_NS, "is_call": True}
        return [
            AssetDefinition(v=1, time_ns=0, name="INDEX", asset_class="major", sources={"printed": 1.0}),
            AssetDefinition(v=1, time_ns=0, name="APART", asset_class="major", sources={"printed": 1.0}),
            ChainDefinition(v=1, time_ns=0, name="chain", finality_s=0.0, messaging_delay_s=0.0),
            VenueDefinition(v=1, time_ns=0, name="exchange", chain="chain"),
            InstrumentDefinition(name="future", underlying="INDEX", contract="perpetual", **lot),
            InstrumentDefinition(name="call", underlying="INDEX", **call, **lot),
            InstrumentDefinition(name="apart", underlying="APART", **call, **lot),
        ]


def span_sp500(folder: Path | None) -> list[CaseResult]:
    """The future's rows exactly, the call's inner rows and lower extreme within $20, the upper one by its documented difference."""
    results = []
    for path in sorted(((folder or CARRIED) / "margin").glob(f"{SPAN}*.csv")):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        if [row["scenario"] for row in rows[:-1]] != [str(number) for number in range(1, 17)]:
            results.append(CaseResult(SPAN, path.stem, False, "expected the scenarios 1 to 16 in order, then the requirement"))
            continue
        if set(SPAN_COLUMNS_FITTED) - set(rows[0]):
            why = f"our curve is fitted to one call, of whose columns it has not all: {', '.join(SPAN_COLUMNS_FITTED)}"
            results.append(CaseResult(SPAN, path.stem, True, why, left_out=True))
            continue
        results += _span_cases(rows, SpanMarket())
    return results


def _span_cases(rows: list[dict[str, str]], market: SpanMarket) -> list[CaseResult]:
    results: list[CaseResult] = []
    future, call = market.array(1, 0), market.array(0, 1)
    errors_usd = []
    for number, row in enumerate(rows[:-1]):
        name, is_extreme = f"scenario {row['scenario']} ({row['price_vol_move']})", number >= INNER_ROWS
        ours = round(future.profits_usd[number] / PRINTED_TO_USD) * PRINTED_TO_USD
        printed = int(row["long_future_pnl"])
        results.append(CaseResult(SPAN, f"future, {name}", ours == printed, f"{ours}, printed {printed}", told=is_extreme))
        printed = int(row["long_dec410_call_pnl"])
        expected = printed + (UPPER_EXTREME_DIFFERENCE_USD if row["scenario"] == "15" else 0)
        error = abs(call.profits_usd[number] - expected)
        note = f", documented difference {UPPER_EXTREME_DIFFERENCE_USD}" if expected != printed else ""
        detail = f"{call.profits_usd[number]:.0f}, printed {printed}{note}"
        results.append(CaseResult(SPAN, f"call, {name}", error <= CALL_ERROR_MAX_USD, detail, told=is_extreme))
        errors_usd += [] if is_extreme else [error]
    for column, array in zip(SPAN_COLUMNS_FITTED, (future, call, market.array(1, -1)), strict=True):
        printed = int(rows[-1][column])
        name = f"requirement, {column.removesuffix('_pnl').partition('_pnl(')[0]}"
        within = abs(array.requirement_usd - printed) <= CALL_ERROR_MAX_USD
        results.append(CaseResult(SPAN, name, within, f"{array.requirement_usd:.0f}, printed {printed}", told=True))
    worst = max(errors_usd)
    fitted = f"forward {FORWARD_POINTS}, volatility {SIGMA:.2%}, its shock {100 * SIGMA_SHOCK:.2f} points"
    detail = f"off by {worst:.0f} at most, of {CALL_ERROR_MAX_USD} allowed; fitted: {fitted}; a day ahead"
    results.append(CaseResult(SPAN, f"call, {len(errors_usd)} inner rows", worst <= CALL_ERROR_MAX_USD, detail, told=True))
    return results


# --- The printed figures


def table(folder: Path | None) -> list[str]:
    """The figures of docs/options.md, in markdown."""
    lines = ["| Deribit | options | excluded | error of | median | p99 | maximum | at |", "|---|---|---|---|---|---|---|---|"]
    exclusions = []
    for path in _quote_files(folder):
        quotes, excluded = read_quotes(path)
        found = [errors(quote) for quote in quotes]
        exclusions += [f"{path.stem} {line}" for line in excluded]
        for name, column in (("price, BTC", "price_btc"), ("delta", "delta"), ("vega, USD", "vega_usd"), ("rho, USD", "rho_usd")):
            median, p99, worst = _spread([*map(attrgetter(column), found)])
            where = max(found, key=attrgetter(column)).instrument
            head = f"| {path.stem} | {len(found)} | {len(excluded)} | {name}"
            lines.append(f"{head} | {median:.1e} | {p99:.1e} | {worst:.1e} | {where} |")
    lines += ["", "Excluded: " + ("; ".join(exclusions) or "none"), ""]
    lines += ["| SPAN, S&P 500 | ours, USD | printed, USD |", "|---|---|---|"]
    compared = [result for result in span_sp500(folder) if ", printed " in result.detail]
    lines += ["| {} | {} | {} |".format(result.case, *result.detail.split(", printed ")) for result in compared]
    return lines


if __name__ == "__main__":
    print(*table(Path(sys.argv[1]) if len(sys.argv) > 1 else None), sep="\n")
