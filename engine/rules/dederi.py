"""Dederi's portfolio margin, its futures: the worst of eleven price shocks and a charge for what closing costs in liquidity.

- Price of a future with T days left: index x exp(annualised basis rate x T / 365).
- Simulated gain at a shock s of the price range: s x sum of quantity x price. Futures net, whatever their expiry.
- Future contingency: factor x index x sum of |quantity|. Futures do not net here.
- The requirement is the worst loss and the contingency together.

Source: Dederi's wiki, "Portfolio Margin" (https://wiki.dederi.io/RiskControlRules/portfolio_margin), with the future of one example.

Not here: options (that page shocks their volatility too), and what share of the requirement is maintenance, which we have no source for:
maintenance is the requirement, and initial is `initial_factor` times it. How much of a position is closed is not published either.
"""

from typing import Annotated, Final, NamedTuple

import numpy as np
from msgspec import Meta, Struct

from engine.jit import kernel
from engine.maths import exp_
from engine.rules.interface import RuleInfo
from engine.rules.outcome import Floats, Integers, write_row

RULE: Final = RuleInfo(
    name="dederi",
    version="2024-01",
    title="Dederi portfolio margin, futures",
    sources=("https://wiki.dederi.io/RiskControlRules/portfolio_margin",),
    measure="margin",
    published=True,
    cases="the wiki's example of ten futures: price, gain at each shock, contingency",
)
DAYS_PER_YEAR: Final = 365.0
SHOCKS_MAX: Final = 64

Shock = Annotated[float, Meta(gt=-1.0, le=10.0)]


class Parameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of one underlying. Defaults are those of the wiki's example."""

    shocks: Annotated[tuple[Shock, ...], Meta(min_length=1, max_length=SHOCKS_MAX)] = (
        *(-0.15, -0.12, -0.09, -0.06, -0.03),
        *(0.0, 0.03, 0.06, 0.09, 0.12, 0.15),
    )
    contingency_factor: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.006
    initial_factor: Annotated[float, Meta(ge=1.0, le=10.0)] = 1.0


class ParameterArrays(NamedTuple):
    """`Parameters` as the kernel takes them; `shocks` (shocks,)."""

    shocks: Floats
    contingency_factor: float
    initial_factor: float


def parameter_arrays(parameters: Parameters) -> ParameterArrays:
    """`parameters` as arrays; made once for each set."""
    shocks = np.array(parameters.shocks, dtype=np.float64)
    return ParameterArrays(shocks, parameters.contingency_factor, parameters.initial_factor)


class Inputs(NamedTuple):
    """Accounts that hold futures of one underlying each; `start` (accounts + 1,) into the legs."""

    start: Integers
    quantity: Floats  # (legs,) units of the underlying, short below 0
    price_usd: Floats  # (legs,) the future's mark, or `future_price_usd`
    index_usd: Floats  # (accounts,)
    equity_usd: Floats  # (accounts,)


@kernel
def future_price_usd(index_usd: float, basis_rate: float, days: float) -> float:
    """Of a future with `days` to expiry; `basis_rate` is annualised and continuous."""
    return index_usd * exp_(basis_rate * days / DAYS_PER_YEAR)


@kernel
def simulated_gain_usd(inputs: Inputs, account: int, shock: float) -> float:
    """What the account's futures gain when all prices move by `shock`."""
    value_usd = 0.0
    for leg in range(inputs.start[account], inputs.start[account + 1]):
        value_usd += inputs.quantity[leg] * inputs.price_usd[leg]
    return shock * value_usd


@kernel
def contingency_usd(inputs: Inputs, parameters: ParameterArrays, account: int) -> float:
    """The future contingency."""
    quantity = 0.0
    for leg in range(inputs.start[account], inputs.start[account + 1]):
        quantity += abs(inputs.quantity[leg])
    return float(parameters.contingency_factor * inputs.index_usd[account] * quantity)


@kernel
def worst_loss_usd(inputs: Inputs, parameters: ParameterArrays, account: int) -> float:
    """The largest loss over the shocks, at least 0; nan if one of them is."""
    worst = 0.0
    for shock in parameters.shocks:
        loss = -simulated_gain_usd(inputs, account, shock)
        if loss > worst or loss != loss:  # once nan, it stays nan
            worst = loss
    return worst


@kernel
def margins(inputs: Inputs, parameters: ParameterArrays, out: Floats) -> None:
    """Fills `out` (accounts, 4), columns of engine.rules.interface; gross notional is sum of |quantity x price|."""
    for account in range(len(inputs.start) - 1):
        gross_usd = 0.0
        for leg in range(inputs.start[account], inputs.start[account + 1]):
            gross_usd += abs(inputs.quantity[leg] * inputs.price_usd[leg])
        required_usd = worst_loss_usd(inputs, parameters, account) + contingency_usd(inputs, parameters, account)
        write_row(out, account, inputs.equity_usd[account], parameters.initial_factor * required_usd, required_usd, gross_usd)


def parts(inputs: Inputs, parameters: ParameterArrays, account: int) -> list[tuple[str, float]]:
    """What the requirement of one account is made of, USD."""
    worst = float(worst_loss_usd(inputs, parameters, account))
    contingency = float(contingency_usd(inputs, parameters, account))
    return [("FutureSimPnL, worst loss", worst), ("FutureContingency", contingency), ("requirement", worst + contingency)]
