"""OKX portfolio margin, MR9: what hedging one stablecoin's contracts by another's costs, in tiers of size.

An account that is long against USDT and short against USDC, say, is hedged only while both are worth a dollar. The hedged size, in USD,
of each pair of quotes is charged tier by tier: each tier's rate applies to what lies inside it, as with income tax. The rates are
higher where the stablecoin's index price is lower: `price_floors` falls, and the first floor that the price reaches says which row of
rates holds.
MR9 comes on top of the other components (MR1 to MR8) of maintenance; they need the whole portfolio and are an input. Initial margin is
`initial_factor` times maintenance.

Sources: OKX, "OKX will update margin calculation rules for the portfolio margin mode" (December 2024), and a repost of it with the
example, https://pastorq.com/13690.html. Only parts of the table of rates are public to us: tiers and rates have no defaults. Nor is the
factor public: initial is maintenance unless a set says otherwise. A liquidation's partial size is not published.
"""

from itertools import pairwise
from typing import Annotated, Final, NamedTuple

import numpy as np
from msgspec import Meta, Struct

from engine.jit import kernel
from engine.rules.interface import RuleInfo
from engine.rules.outcome import Floats, Integers, write_row

RULE: Final = RuleInfo(
    name="okx",
    version="2024-12",
    title="OKX portfolio margin, MR9 (stablecoin peg)",
    sources=(
        "OKX, OKX will update margin calculation rules for the portfolio margin mode, December 2024",
        "https://pastorq.com/13690.html",
    ),
    measure="margin",
    published=True,
    cases="the notice's example of three tiers",
)
TIERS_MAX: Final = 64

Rate = Annotated[float, Meta(ge=0.0, le=1.0)]
Bound = Annotated[float, Meta(gt=0.0, le=1e15)]


class Parameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Tiers end at `tier_ends_usd`, rising; a last one has no end. `rates`: a row for each floor, in it a rate for each tier."""

    tier_ends_usd: Annotated[tuple[Bound, ...], Meta(max_length=TIERS_MAX)]
    rates: Annotated[tuple[tuple[Rate, ...], ...], Meta(min_length=1, max_length=TIERS_MAX)]
    price_floors: Annotated[tuple[Annotated[float, Meta(ge=0.0, le=10.0)], ...], Meta(min_length=1, max_length=TIERS_MAX)] = (0.0,)
    initial_factor: Annotated[float, Meta(ge=1.0, le=10.0)] = 1.0

    def __post_init__(self) -> None:
        """ValueError with all that does not fit together."""
        faults = []
        if any(high <= low for low, high in pairwise(self.tier_ends_usd)):
            faults.append("tier_ends_usd must rise")
        if any(high >= low for low, high in pairwise(self.price_floors)) or self.price_floors[-1] != 0.0:
            faults.append("price_floors must fall to 0")
        if len(self.rates) != len(self.price_floors):
            faults.append(f"rates needs {len(self.price_floors)} rows, one for each floor")
        if any(len(row) != len(self.tier_ends_usd) + 1 for row in self.rates):
            faults.append(f"each row of rates needs {len(self.tier_ends_usd) + 1} rates, one for each tier and for what is beyond")
        if any(high < low for row in self.rates for low, high in pairwise(row)):
            faults.append("rates must not fall with size")
        if faults:
            raise ValueError("; ".join(faults))


class ParameterArrays(NamedTuple):
    """`Parameters` as the kernel takes them: `tier_starts_usd` (tiers,), the first 0; `price_floors` (floors,); `rates` (floors, tiers)."""

    tier_starts_usd: Floats
    price_floors: Floats
    rates: Floats
    initial_factor: float


def parameter_arrays(parameters: Parameters) -> ParameterArrays:
    """`parameters` as arrays; made once for each set."""
    return ParameterArrays(
        np.array([0.0, *parameters.tier_ends_usd]),
        np.array(parameters.price_floors, dtype=np.float64),
        np.array(parameters.rates, dtype=np.float64),
        parameters.initial_factor,
    )


class Inputs(NamedTuple):
    """Accounts with hedges across quotes; `start` (accounts + 1,) into the legs, each one pair of quotes."""

    start: Integers
    hedged_usd: Floats  # (legs,) size of the hedge, >= 0 (the sign is ignored)
    stablecoin_usd: Floats  # (legs,) index price of the pair's stablecoin
    other_maintenance_usd: Floats  # (accounts,) all other components of maintenance
    equity_usd: Floats  # (accounts,)


@kernel
def mr9_usd(hedged_usd: float, stablecoin_usd: float, parameters: ParameterArrays) -> float:
    """The charge for one pair; nan if either number is no number, or the price is below 0."""
    if not 0.0 <= stablecoin_usd < np.inf:
        return np.nan
    row = 0
    while stablecoin_usd < parameters.price_floors[row]:  # the last floor is 0
        row += 1
    size_usd = abs(hedged_usd)
    charge_usd = size_usd * 0.0
    tiers = len(parameters.tier_starts_usd)
    for tier in range(tiers):
        begin_usd = parameters.tier_starts_usd[tier]
        if size_usd <= begin_usd:
            break
        end_usd = size_usd
        if tier + 1 < tiers and parameters.tier_starts_usd[tier + 1] < size_usd:
            end_usd = parameters.tier_starts_usd[tier + 1]
        charge_usd += (end_usd - begin_usd) * parameters.rates[row, tier]
    return charge_usd


@kernel
def margins(inputs: Inputs, parameters: ParameterArrays, out: Floats) -> None:
    """Fills `out` (accounts, 4), columns of engine.rules.interface; gross notional is the sum of hedged sizes."""
    for account in range(len(inputs.start) - 1):
        maintenance_usd = inputs.other_maintenance_usd[account]
        gross_usd = 0.0
        for leg in range(inputs.start[account], inputs.start[account + 1]):
            maintenance_usd += mr9_usd(inputs.hedged_usd[leg], inputs.stablecoin_usd[leg], parameters)
            gross_usd += abs(inputs.hedged_usd[leg])
        write_row(out, account, inputs.equity_usd[account], parameters.initial_factor * maintenance_usd, maintenance_usd, gross_usd)


def parts(inputs: Inputs, parameters: ParameterArrays, account: int) -> list[tuple[str, float]]:
    """MR9 of each pair, the other components, and maintenance (MMR), USD."""
    legs = range(int(inputs.start[account]), int(inputs.start[account + 1]))
    charges = [float(mr9_usd(float(inputs.hedged_usd[leg]), float(inputs.stablecoin_usd[leg]), parameters)) for leg in legs]
    other = float(inputs.other_maintenance_usd[account])
    return [
        *((f"MR9, pair {number}", charge) for number, charge in enumerate(charges)),
        ("other components", other),
        ("MMR", other + sum(charges)),
    ]
