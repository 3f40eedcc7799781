"""Hyperliquid's portfolio margin: what may be borrowed against spot collateral, and the ratio at which an account is liquidated.

- **Borrowable**: sum over collateral tokens of balance x oracle price x loan-to-value; that a balance counts up to its supply cap only
  is said of the liquidation value alone, and holds here too.
- Liquidation threshold of a token: 0.5 + 0.5 x loan-to-value.
- Liquidation value: the balance of the borrowed token where above 0, and each collateral's capped balance x price x threshold, each
  up to the borrow cap.
- Maintenance requirement: the borrow offset, maintenance margin of perpetuals, and what is owed. Taken literally the document gives the
  offset to everybody; here an account that neither owes nor holds perpetuals has no requirement.
- Ratio = requirement / liquidation value; liquidated above `liquidation_ratio`.

In `out`, equity is balances at their prices; maintenance is such that equity less it is liquidation value - requirement /
`liquidation_ratio`, below 0 exactly when the venue liquidates; initial such that equity less it is what may still be borrowed
(borrowable - owed), but not below maintenance.

Sources: Hyperliquid's documents, "Portfolio margin" and the FAQ of the same name, which has the example. No numbers of the ratio are
published. Whether perpetuals or loans are closed first is not determined, says the document; how much of them, it doesn't say.
"""

from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct

from engine.jit import kernel
from engine.rules.interface import RuleInfo
from engine.rules.outcome import Floats, Integers, write_row

_DOCUMENTS: Final = "https://hyperliquid.gitbook.io/hyperliquid-docs"

RULE: Final = RuleInfo(
    name="hyperliquid_pm",
    version="alpha",
    title="Hyperliquid portfolio margin: borrowable amount",
    sources=(f"{_DOCUMENTS}/support/faq/portfolio-margin",),
    measure="margin",
    published=True,
    cases="the FAQ's example of one collateral",
)
RATIO: Final = RuleInfo(
    name="hyperliquid_pm_ratio",
    version="alpha",
    title="Hyperliquid portfolio margin: ratio and liquidation",
    sources=(f"{_DOCUMENTS}/trading/portfolio-margin",),
    measure="margin",
    published=False,
    cases="none: the document's formula",
)

Usd = Annotated[float, Meta(ge=0.0, le=1e18)]


class Parameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of one borrowed token that is worth a dollar."""

    borrow_offset_usd: Usd = 20.0
    borrow_cap_usd: Usd = 1e18  # no cap
    liquidation_ratio: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.95


class ParameterArrays(NamedTuple):
    """`Parameters` as the kernel takes them."""

    borrow_offset_usd: float
    borrow_cap_usd: float
    liquidation_ratio: float


def parameter_arrays(parameters: Parameters) -> ParameterArrays:
    """`parameters` for the kernel; made once for each set."""
    return ParameterArrays(parameters.borrow_offset_usd, parameters.borrow_cap_usd, parameters.liquidation_ratio)


class Inputs(NamedTuple):
    """Accounts with collateral tokens; `start` (accounts + 1,) into the legs, each one token."""

    start: Integers
    balance: Floats  # (legs,) tokens, >= 0
    supply_cap: Floats  # (legs,) tokens that count at most
    price_usd: Floats  # (legs,) oracle
    loan_to_value: Floats  # (legs,) 0 to 1
    cash_usd: Floats  # (accounts,) balance of the borrowed token; below 0 what is owed
    perp_maintenance_usd: Floats  # (accounts,) maintenance margin of all cross perpetuals


@kernel
def borrowable_usd(inputs: Inputs, account: int) -> float:
    """All that may be borrowed against the account's collateral, what is owed already included."""
    total_usd = 0.0
    for leg in range(inputs.start[account], inputs.start[account + 1]):
        total_usd += _counted_usd(inputs, leg) * inputs.loan_to_value[leg]
    return total_usd


@kernel
def liquidation_value_usd(inputs: Inputs, parameters: ParameterArrays, account: int) -> float:
    """The denominator of the venue's ratio."""
    cash_usd = inputs.cash_usd[account]
    total_usd = max(cash_usd, 0.0)
    for leg in range(inputs.start[account], inputs.start[account + 1]):
        value_usd = _counted_usd(inputs, leg) * (0.5 + 0.5 * inputs.loan_to_value[leg])
        total_usd += min(value_usd, parameters.borrow_cap_usd)
    return float(total_usd)


@kernel
def requirement_usd(inputs: Inputs, parameters: ParameterArrays, account: int) -> float:
    """The numerator of the venue's ratio; 0 for an account that neither owes nor holds perpetuals."""
    owed_usd = -inputs.cash_usd[account]
    if owed_usd < 0.0:
        owed_usd = 0.0
    required_usd = inputs.perp_maintenance_usd[account] + owed_usd
    return float(required_usd + parameters.borrow_offset_usd if required_usd > 0.0 else required_usd)


@kernel
def margins(inputs: Inputs, parameters: ParameterArrays, out: Floats) -> None:
    """Fills `out` (accounts, 4), columns of engine.rules.interface, as said above; gross notional is collateral at its price."""
    for account in range(len(inputs.start) - 1):
        gross_usd = 0.0
        for leg in range(inputs.start[account], inputs.start[account + 1]):
            gross_usd += inputs.balance[leg] * inputs.price_usd[leg] + inputs.loan_to_value[leg] * 0.0  # a cap must not hide nan
        cash_usd = inputs.cash_usd[account]
        equity_usd = gross_usd + cash_usd
        owed_usd = -cash_usd if cash_usd < 0.0 else 0.0
        initial_usd = equity_usd - (borrowable_usd(inputs, account) - owed_usd)
        room_usd = liquidation_value_usd(inputs, parameters, account)
        room_usd -= requirement_usd(inputs, parameters, account) / parameters.liquidation_ratio
        maintenance_usd = equity_usd - room_usd
        if initial_usd < maintenance_usd:
            initial_usd = maintenance_usd
        write_row(out, account, equity_usd, initial_usd, maintenance_usd, gross_usd)


def parts(inputs: Inputs, parameters: ParameterArrays, account: int) -> list[tuple[str, float]]:
    """Borrowable amount, and both sides of the ratio, USD; the ratio last."""
    required = float(requirement_usd(inputs, parameters, account))
    value = float(liquidation_value_usd(inputs, parameters, account))
    ratio = required / value if value > 0.0 else float("nan") if value != value else 0.0 if required == 0.0 else float("inf")
    return [
        ("borrowable", float(borrowable_usd(inputs, account))),
        ("portfolio maintenance requirement", required),
        ("portfolio liquidation value", value),
        ("portfolio margin ratio", ratio),
    ]


@kernel
def _counted_usd(inputs: Inputs, leg: int) -> float:
    balance = inputs.balance[leg]
    if not balance <= inputs.supply_cap[leg]:  # nan of the cap spoils it too
        balance = inputs.supply_cap[leg]
    return float(balance * inputs.price_usd[leg])
