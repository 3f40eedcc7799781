"""SPAN with 16 scenarios: risk arrays of instruments, and what a portfolio of them requires.

A **risk array** has what one long unit gains in each of 16 scenarios: price moves of 0, +1/3, -1/3, +2/3, -2/3, +1, -1 of the price
scan range, each with volatility up, then down; then two extreme moves (`extreme_multiple` of the range, volatility unmoved) of which a
fraction counts. Arrays of options are priced by whoever has the model; those of futures follow from the scan range.

Of each combined commodity (all instruments on one underlying): scan risk = the largest loss over scenarios of sum of quantity x array, at
least 0. Add the charges for spreads inside it, which are an input (exchanges publish tables). The short option minimum, times the number of
short options, is the least that this may be. Less net option value, long options positive: what is left, at least 0, is its requirement.
Commodities add up. Maintenance is the sum; initial `initial_factor` times it.

Sources: L. G. McMillan, Options as a Strategic Investment, chapter 34 (arrays and requirements); the order of scenarios and terms as
brokers use it at NSE (marketcalls/marginism, SPAN_MARGIN_LEARNINGS.md). What is closed, and how much, is the broker's matter: SPAN
has no rule of it.
"""

from typing import Annotated, Final, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.jit import kernel
from engine.rules.interface import RuleInfo
from engine.rules.outcome import Floats, Integers, write_row

RULE: Final = RuleInfo(
    name="span16",
    version="16 scenarios",
    title="SPAN: scan risk of futures and options",
    sources=(
        "L. G. McMillan, Options as a Strategic Investment, chapter 34",
        "https://github.com/marketcalls/marginism, SPAN_MARGIN_LEARNINGS.md",
    ),
    measure="margin",
    published=True,
    cases="risk arrays and requirements of an S&P 500 future, a call and the covered write; one requirement with net option value",
)

SCENARIOS: Final = 16
MOVES: Final = tuple(third / 3.0 for third in (0, 0, 1, 1, -1, -1, 2, 2, -2, -2, 3, 3, -3, -3))  # of the scan range; extremes come last
VOLATILITY_MOVES: Final = (1.0, -1.0) * 7 + (0.0, 0.0)  # of the volatility scan range
EXTREME_SIGNS: Final = (1.0, -1.0)


class Parameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of one clearing house. The extremes are those of the book's arrays and of NSE."""

    extreme_multiple: Annotated[float, Meta(ge=1.0, le=10.0)] = 2.0
    extreme_fraction: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.35
    short_option_minimum_usd: Annotated[float, Meta(ge=0.0, le=1e12)] = 0.0
    initial_factor: Annotated[float, Meta(ge=1.0, le=10.0)] = 1.0


class ParameterArrays(NamedTuple):
    """`Parameters` as the kernel takes them."""

    extreme_multiple: float
    extreme_fraction: float
    short_option_minimum_usd: float
    initial_factor: float


def parameter_arrays(parameters: Parameters) -> ParameterArrays:
    """`parameters` for the kernel; made once for each set."""
    return ParameterArrays(
        parameters.extreme_multiple, parameters.extreme_fraction, parameters.short_option_minimum_usd, parameters.initial_factor
    )


class Inputs(NamedTuple):
    """Accounts and instruments; `start` (accounts + 1,) into the legs. All of one long unit in USD."""

    start: Integers
    instrument: Integers  # (legs,) row of the tables below
    quantity: Floats  # (legs,) units, short below 0
    commodity: Integers  # (instruments,) number of the combined commodity
    gain_usd: Floats  # (instruments, 16) risk arrays, extremes as counted
    option_value_usd: Floats  # (instruments,) premium; 0 where it is settled daily, as futures are
    is_option: NDArray[np.bool_]  # (instruments,)
    notional_usd: Floats  # (instruments,) value of the underlying
    spread_charge_usd: Floats  # (legs,) of the spreads that a leg is counted in: a spread's charge stands at one of its legs
    equity_usd: Floats  # (accounts,)


def future_array_usd(scan_range_usd: float, parameters: ParameterArrays) -> Floats:
    """(16,): the risk array of one long future, whose price scan range is worth `scan_range_usd`."""
    extreme = parameters.extreme_multiple * parameters.extreme_fraction
    return scan_range_usd * np.array([*MOVES, *(sign * extreme for sign in EXTREME_SIGNS)])


@kernel
def scan_risk_usd(inputs: Inputs, account: int, commodity: int) -> float:
    """The largest loss of the account in one commodity, at least 0; nan if one of the scenarios is."""
    worst_usd = 0.0
    for scenario in range(SCENARIOS):
        loss_usd = 0.0
        for leg in range(inputs.start[account], inputs.start[account + 1]):
            row = inputs.instrument[leg]
            if inputs.commodity[row] == commodity:
                loss_usd -= inputs.quantity[leg] * inputs.gain_usd[row, scenario]
        if loss_usd > worst_usd or loss_usd != loss_usd:  # once nan, it stays nan
            worst_usd = loss_usd
    return worst_usd


@kernel
def requirement_usd(inputs: Inputs, parameters: ParameterArrays, account: int, commodity: int) -> float:
    """Of one commodity."""
    option_value_usd = 0.0
    short_options = 0.0
    spread_charge_usd = 0.0
    for leg in range(inputs.start[account], inputs.start[account + 1]):
        row = inputs.instrument[leg]
        if inputs.commodity[row] == commodity:
            option_value_usd += inputs.quantity[leg] * inputs.option_value_usd[row]
            spread_charge_usd += inputs.spread_charge_usd[leg]
            if inputs.is_option[row] and inputs.quantity[leg] < 0.0:
                short_options -= inputs.quantity[leg]
    risk_usd = scan_risk_usd(inputs, account, commodity) + spread_charge_usd
    least_usd = short_options * parameters.short_option_minimum_usd
    if risk_usd < least_usd:
        risk_usd = least_usd
    required_usd = risk_usd - option_value_usd
    return max(required_usd, 0.0) + spread_charge_usd * 0.0  # no minimum hides a charge that is none


@kernel
def margins(inputs: Inputs, parameters: ParameterArrays, out: Floats) -> None:
    """Fills `out` (accounts, 4), columns of engine.rules.interface; gross notional is sum of |quantity| x notional."""
    for account in range(len(inputs.start) - 1):
        begin = inputs.start[account]
        end = inputs.start[account + 1]
        gross_usd = 0.0
        required_usd = 0.0
        for leg in range(begin, end):
            row = inputs.instrument[leg]
            gross_usd += abs(inputs.quantity[leg]) * inputs.notional_usd[row]
            if _is_first(inputs, begin, leg):
                required_usd += requirement_usd(inputs, parameters, account, inputs.commodity[row])
        write_row(out, account, inputs.equity_usd[account], parameters.initial_factor * required_usd, required_usd, gross_usd)


def parts(inputs: Inputs, parameters: ParameterArrays, account: int) -> list[tuple[str, float]]:
    """Scan risk, net option value and requirement of each commodity that the account holds, then the sum, USD."""
    begin, end = int(inputs.start[account]), int(inputs.start[account + 1])
    found: list[tuple[str, float]] = []
    total = 0.0
    for leg in range(begin, end):
        if not _is_first(inputs, begin, leg):
            continue
        commodity = int(inputs.commodity[inputs.instrument[leg]])
        required = float(requirement_usd(inputs, parameters, account, commodity))
        held = [one for one in range(begin, end) if inputs.commodity[inputs.instrument[one]] == commodity]
        charge = sum(float(inputs.spread_charge_usd[one]) for one in held)
        value = sum(float(inputs.quantity[one] * inputs.option_value_usd[inputs.instrument[one]]) for one in held)
        found += [
            (f"scan risk, commodity {commodity}", float(scan_risk_usd(inputs, account, commodity))),
            (f"spread charge, commodity {commodity}", charge),
            (f"net option value, commodity {commodity}", value),
            (f"requirement, commodity {commodity}", required),
        ]
        total += required
    return [*found, ("SPAN requirement", total)]


@kernel
def _is_first(inputs: Inputs, begin: int, leg: int) -> bool:
    """Whether no earlier leg of the account is of the same commodity."""
    commodity = inputs.commodity[inputs.instrument[leg]]
    earlier = begin
    while earlier < leg and inputs.commodity[inputs.instrument[earlier]] != commodity:
        earlier += 1
    return bool(earlier == leg)
