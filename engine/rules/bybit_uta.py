"""Bybit's unified trading account, cross margin: what short options require. Long options require nothing.

For each short option, times its size:

- maintenance: max(m x index, m x mark) + mark + f x index, with m the maintenance factor and f the rate of the liquidation fee;
- initial: the larger of maintenance and max(i x index - out of the money, l x index) + max(entry, mark), with i and l the initial
  factors. A call is out of the money by max(strike - index, 0), a put by max(index - strike, 0).

The account's rates are these sums over its margin balance; it is liquidated when the maintenance rate reaches 100 %. How much of
it is closed at once is not published.

Sources: Bybit's help centre, "Initial and Maintenance Margin Calculation (Options)", articles 000001546 (short call) and 000001735.
"""

from typing import Annotated, Final, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.jit import kernel
from engine.rules.interface import RuleInfo
from engine.rules.outcome import Floats, Integers, write_row

RULE: Final = RuleInfo(
    name="bybit_uta",
    version="2023-12",
    title="Bybit unified trading account, short options in cross margin",
    sources=(
        "https://bybit-tr.com/en-TR/help-center/article/?id=000001735&language=en_US",
        "https://bybit.nl/nl-NL/help-center/article?id=000001546&language=en_US",
    ),
    measure="margin",
    published=True,
    cases="two examples of the help centre: a short put (initial and maintenance), a short call (maintenance)",
)

Factor = Annotated[float, Meta(ge=0.0, le=1.0)]


class Parameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of one underlying. Defaults are those of the help centre's examples."""

    maintenance_factor: Factor = 0.03
    liquidation_fee_rate: Factor = 0.002
    initial_factor_max: Factor = 0.15  # less what the option is out of the money
    initial_factor_min: Factor = 0.1

    def __post_init__(self) -> None:
        """ValueError where the two initial factors are the wrong way round."""
        if self.initial_factor_min > self.initial_factor_max:
            raise ValueError("initial_factor_min is above initial_factor_max")


class ParameterArrays(NamedTuple):
    """`Parameters` as the kernel takes them."""

    maintenance_factor: float
    liquidation_fee_rate: float
    initial_factor_max: float
    initial_factor_min: float


def parameter_arrays(parameters: Parameters) -> ParameterArrays:
    """`parameters` for the kernel; made once for each set."""
    return ParameterArrays(
        parameters.maintenance_factor, parameters.liquidation_fee_rate, parameters.initial_factor_max, parameters.initial_factor_min
    )


class Inputs(NamedTuple):
    """Accounts with options; `start` (accounts + 1,) into the legs. Prices in USD for one unit of the underlying."""

    start: Integers
    size: Floats  # (legs,) units of the underlying, short below 0
    is_call: NDArray[np.bool_]  # (legs,)
    index_usd: Floats  # (legs,)
    strike_usd: Floats  # (legs,)
    entry_usd: Floats  # (legs,) average price of the position
    mark_usd: Floats  # (legs,)
    equity_usd: Floats  # (accounts,) the venue's margin balance


@kernel
def maintenance_usd(parameters: ParameterArrays, index_usd: float, mark_usd: float) -> float:
    """Of one unit of a short option."""
    larger_usd = max(mark_usd, index_usd)
    return parameters.maintenance_factor * larger_usd + mark_usd + parameters.liquidation_fee_rate * index_usd


@kernel
def initial_usd(
    parameters: ParameterArrays, is_call: bool, index_usd: float, strike_usd: float, entry_usd: float, mark_usd: float
) -> float:
    """Of one unit of a short option."""
    outside_usd = strike_usd - index_usd if is_call else index_usd - strike_usd
    if outside_usd < 0.0:
        outside_usd = 0.0
    floor_usd = parameters.initial_factor_min * index_usd
    base_usd = parameters.initial_factor_max * index_usd - outside_usd
    if base_usd < floor_usd:
        base_usd = floor_usd
    required_usd = base_usd + (max(mark_usd, entry_usd))
    least_usd = maintenance_usd(parameters, index_usd, mark_usd)
    return max(required_usd, least_usd)


@kernel
def margins(inputs: Inputs, parameters: ParameterArrays, out: Floats) -> None:
    """Fills `out` (accounts, 4), columns of engine.rules.interface; gross notional is sum of |size| x index, of long options too."""
    for account in range(len(inputs.start) - 1):
        initial = 0.0
        maintenance = 0.0
        gross = 0.0
        for leg in range(inputs.start[account], inputs.start[account + 1]):
            size = inputs.size[leg]
            index, strike = inputs.index_usd[leg], inputs.strike_usd[leg]
            entry, mark = inputs.entry_usd[leg], inputs.mark_usd[leg]
            gross += abs(size) * index + (strike + entry + mark) * 0.0  # nan of any of them, of a long leg too
            if size < 0.0:
                initial -= size * initial_usd(parameters, inputs.is_call[leg], index, strike, entry, mark)
                maintenance -= size * maintenance_usd(parameters, index, mark)
        write_row(out, account, inputs.equity_usd[account], initial, maintenance, gross)


def maintenance_rate(equity_usd: float, required_usd: float) -> float:
    """The venue's account MM rate: maintenance over margin balance; liquidated at 1. inf where there is no balance but a requirement."""
    if equity_usd > 0.0:
        return required_usd / equity_usd
    if equity_usd != equity_usd or required_usd != required_usd:
        return float("nan")
    return float("inf") if required_usd > 0.0 else 0.0


def parts(inputs: Inputs, parameters: ParameterArrays, account: int) -> list[tuple[str, float]]:
    """Position IM and MM of each short option of one account, then both sums, USD."""
    found: list[tuple[str, float]] = []
    sums = [0.0, 0.0]
    for leg in range(int(inputs.start[account]), int(inputs.start[account + 1])):
        size = float(inputs.size[leg])
        if size >= 0.0:
            continue
        terms = (float(inputs.index_usd[leg]), float(inputs.strike_usd[leg]), float(inputs.entry_usd[leg]), float(inputs.mark_usd[leg]))
        initial = -size * initial_usd(parameters, bool(inputs.is_call[leg]), *terms)
        maintenance = -size * maintenance_usd(parameters, terms[0], terms[3])
        found += [(f"Position IM, leg {leg}", initial), (f"Position MM, leg {leg}", maintenance)]
        sums[0] += initial
        sums[1] += maintenance
    return [*found, ("Account IM", sums[0]), ("Account MM", sums[1])]
