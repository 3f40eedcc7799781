"""Aave v3: health factor with efficiency mode, what may still be borrowed, interest, and what a liquidator may repay and take.

The *health factor* is collateral x liquidation threshold, summed, over the sum of debts; below 1 an account may be liquidated. New debt is
bounded by collateral x loan-to-value instead. In an *efficiency mode* the collateral that belongs to the account's category has the
category's ratios. Only collateral that the account has enabled counts.

A liquidator repays one debt and takes one collateral at a bonus: at most half of all debt (*close factor*), or all of the one where
the health factor is at most 0.95 or either side is worth less than 2,000 USD; and may not leave *dust*, less than 1,000 USD of either,
unless one of them is gone.

Sources: GenericLogic.calculateUserAccountData (health factor, efficiency mode) and LiquidationLogic (since v3.3) of
aave-dao/aave-v3-origin; the integer arithmetic of interest of aave-utilities, packages/math-utils. On chain the mean threshold of an
account is cut to 0.01% before it is used, so that the chain's health factor may be lower than this one by up to 0.0001 / threshold of
itself.
"""

from typing import Annotated, Final, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.jit import kernel
from engine.rules.indices import require_each, require_legs, require_within
from engine.rules.interface import DISTANCE, EQUITY_USD, INITIAL_USD, MAINTENANCE_USD, ListedName, RuleInfo

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

RULE: Final = RuleInfo(
    name="aave_v3",
    version="3.3",
    title="Aave v3 health factor",
    sources=(
        "https://github.com/aave-dao/aave-v3-origin/blob/main/src/contracts/protocol/libraries/logic/GenericLogic.sol",
        "https://github.com/aave/aave-utilities/tree/master/packages/math-utils",
    ),
    measure="health_factor",
    published=True,
    cases="health factors, efficiency mode, borrowing power and interest of Aave's own client tests",
)
LIQUIDATION: Final = RuleInfo(
    name="aave_v3_liquidation",
    version="3.3",
    title="Aave v3 close factor, dust rule and liquidation bonus",
    sources=("https://github.com/aave-dao/aave-v3-origin/blob/main/src/contracts/protocol/libraries/logic/LiquidationLogic.sol",),
    measure="health_factor",
    published=False,
    cases="none are published",
)

RAY: Final = 10**27
RAYS_PER_WAD: Final = 1_000_000_000  # a wad has 18 digits, a ray 27
SECONDS_PER_YEAR: Final = 31_536_000
RESERVES_MAX: Final = 128  # as the pool's own bitmap of what an account uses
CATEGORIES_MAX: Final = 255  # the pool numbers them in one byte, from 1

Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
Bonus = Annotated[float, Meta(ge=1.0, le=2.0)]


# ---- parameters -----------------------------------------------------------------------------------------------------------------------


class ReserveParameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A reserve's own ratios, decimals; the bonus is what is taken for one USD repaid."""

    name: ListedName
    loan_to_value: Fraction
    liquidation_threshold: Fraction
    liquidation_bonus: Bonus = 1.0
    protocol_fee: Fraction = 0.0  # of the bonus

    def __post_init__(self) -> None:
        """ValueError where one could borrow what would be liquidated at once."""
        if self.loan_to_value > self.liquidation_threshold:
            raise ValueError("loan_to_value must not be above liquidation_threshold")


class CategoryParameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An efficiency mode: the ratios of those reserves, by position, that are collateral in it."""

    name: ListedName
    collateral: Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(max_length=RESERVES_MAX)]
    loan_to_value: Fraction
    liquidation_threshold: Fraction
    liquidation_bonus: Bonus = 1.0

    def __post_init__(self) -> None:
        """ValueError where one could borrow what would be liquidated at once."""
        if self.loan_to_value > self.liquidation_threshold:
            raise ValueError("loan_to_value must not be above liquidation_threshold")


class Parameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A pool's reserves and efficiency modes; an account names its mode by position + 1, and none by 0."""

    reserves: Annotated[tuple[ReserveParameters, ...], Meta(max_length=RESERVES_MAX)]
    categories: Annotated[tuple[CategoryParameters, ...], Meta(max_length=CATEGORIES_MAX)] = ()

    def __post_init__(self) -> None:
        """ValueError where a category has a reserve that is not there."""
        for category in self.categories:
            if any(reserve >= len(self.reserves) for reserve in category.collateral):
                raise ValueError(f"category {category.name} has a reserve beyond the {len(self.reserves)} that there are")


class Terms(NamedTuple):
    """Ratios as they apply, (modes, reserves); mode 0 is none."""

    loan_to_value: Floats
    threshold: Floats
    bonus: Floats


def terms(parameters: Parameters) -> Terms:
    """`parameters` as arrays; made once for each set."""
    modes = 1 + len(parameters.categories)
    own = [(one.loan_to_value, one.liquidation_threshold, one.liquidation_bonus) for one in parameters.reserves]
    ratios = np.repeat(np.array(own, dtype=np.float64).reshape(1, len(own), 3), modes, axis=0)
    for mode, category in enumerate(parameters.categories, start=1):
        for reserve in category.collateral:
            ratios[mode, reserve] = category.loan_to_value, category.liquidation_threshold, category.liquidation_bonus
    return Terms(*(np.ascontiguousarray(ratios[:, :, column]) for column in range(3)))


class Inputs(NamedTuple):
    """Accounts and prices. A leg is one reserve of one account: `start` (accounts + 1,), tokens supplied and owed (legs,), both >= 0.

    `mode` (accounts,) is the account's efficiency mode, 0 for none; `price_usd` (reserves,).
    """

    start: Integers
    reserve: Integers
    supplied: Floats
    is_collateral: NDArray[np.bool_]
    owed: Floats
    mode: Integers
    price_usd: Floats


def require_indices(inputs: Inputs, parameters: Terms) -> None:
    """The kernels do not check indices: ValueError says which of `inputs` has another shape or points outside of what it points into."""
    accounts = len(inputs.mode)
    modes, reserves = parameters.threshold.shape
    require_legs("start", inputs.start, accounts, inputs[1:5])
    require_within("reserve", inputs.reserve, reserves)
    require_within("mode", inputs.mode, modes)
    require_each(reserves, [("price_usd", inputs.price_usd)])


# ---- margins --------------------------------------------------------------------------------------------------------------------------


@kernel
def margins(inputs: Inputs, parameters: Terms, out: Floats) -> None:
    """Fills `out` (accounts, 4), columns of engine.rules.interface. Indices are not checked: `require_indices` first.

    Equity is everything supplied less debt. Initial is such that equity - initial is collateral x loan-to-value less debt; maintenance
    such that equity - maintenance is collateral x threshold less debt. The distance is the fraction by which the collateral's value may
    fall until the health factor is 1: 1 - 1 / health factor; inf without debt, -inf with debt and no collateral. If one of the
    account's numbers is NaN the whole row is.
    """
    for account in range(len(inputs.start) - 1):
        supplied_usd, borrowable_usd, covered_usd, owed_usd = _sums(inputs, parameters, account)
        equity_usd = supplied_usd - owed_usd
        if np.isnan(equity_usd + borrowable_usd + covered_usd):
            out[account, :] = np.nan
            continue
        out[account, EQUITY_USD] = equity_usd
        out[account, INITIAL_USD] = equity_usd - (borrowable_usd - owed_usd)
        out[account, MAINTENANCE_USD] = equity_usd - (covered_usd - owed_usd)
        out[account, DISTANCE] = np.inf if owed_usd == 0.0 else 1.0 - owed_usd / covered_usd


@kernel
def health_factors(inputs: Inputs, parameters: Terms, out: Floats) -> None:
    """Fills `out` (accounts,): inf without debt, NaN where a value is not known."""
    for account in range(len(inputs.start) - 1):
        _, _, covered_usd, owed_usd = _sums(inputs, parameters, account)
        if owed_usd == 0.0 and not np.isnan(covered_usd):
            out[account] = np.inf
        else:
            out[account] = covered_usd / owed_usd


@kernel
def available_borrows_usd(inputs: Inputs, parameters: Terms, out: Floats) -> None:
    """Fills `out` (accounts,): what each may still borrow, collateral x loan-to-value less debt, at least 0."""
    for account in range(len(inputs.start) - 1):
        _, borrowable_usd, _, owed_usd = _sums(inputs, parameters, account)
        out[account] = np.maximum(borrowable_usd - owed_usd, 0.0)


def parts(inputs: Inputs, parameters: Terms, account: int) -> list[tuple[str, float]]:
    """What an account's health factor is made of, USD: each reserve's collateral at its threshold, and its debt; the health factor."""
    mode = int(inputs.mode[account])
    found: list[tuple[str, float]] = []
    for leg in range(int(inputs.start[account]), int(inputs.start[account + 1])):
        reserve = int(inputs.reserve[leg])
        price = float(inputs.price_usd[reserve])
        if inputs.is_collateral[leg]:
            covered_usd = float(inputs.supplied[leg]) * price * float(parameters.threshold[mode, reserve])
            found.append((f"reserve {reserve}, collateral at liquidation threshold", covered_usd))
        found.append((f"reserve {reserve}, debt", -float(inputs.owed[leg]) * price))
    factors = np.empty(len(inputs.mode))
    health_factors(inputs, parameters, factors)
    return [*found, ("health factor", float(factors[account]))]


@kernel
def _sums(inputs: Inputs, parameters: Terms, account: int) -> tuple[float, float, float, float]:
    """(supplied, collateral x loan-to-value, collateral x threshold, owed), USD."""
    supplied_usd = borrowable_usd = covered_usd = owed_usd = 0.0
    mode = inputs.mode[account]
    for leg in range(inputs.start[account], inputs.start[account + 1]):
        reserve = inputs.reserve[leg]
        price = inputs.price_usd[reserve]
        value_usd = inputs.supplied[leg] * price
        supplied_usd += value_usd
        owed_usd += inputs.owed[leg] * price
        if inputs.is_collateral[leg]:
            borrowable_usd += value_usd * parameters.loan_to_value[mode, reserve]
            covered_usd += value_usd * parameters.threshold[mode, reserve]
    return supplied_usd, borrowable_usd, covered_usd, owed_usd


# ---- liquidation ----------------------------------------------------------------------------------------------------------------------


class LiquidationParameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The pool's constants, those of v3.3 by default."""

    close_factor: Fraction = 0.5  # of all debt
    close_factor_health_factor: Fraction = 0.95  # at or below it the whole of a debt may be repaid
    whole_below_usd: Annotated[float, Meta(ge=0.0, le=1e9)] = 2_000.0
    leftover_min_usd: Annotated[float, Meta(ge=0.0, le=1e9)] = 1_000.0


class Liquidation(NamedTuple):
    """The most that may be repaid of a debt, and what it costs the account, USD."""

    repaid_usd: float
    taken_usd: float  # of the collateral, with the protocol's fee
    protocol_fee_usd: float  # of what is taken
    leaves_dust: bool  # the pool refuses this: less must be repaid


def liquidation(
    health_factor: float,
    *,
    all_debt_usd: float,
    debt_usd: float,
    collateral_usd: float,
    bonus: float,
    protocol_fee: float = 0.0,
    rule: LiquidationParameters | None = None,
) -> Liquidation:
    """The most of one debt that may be repaid against one collateral. Nothing while the health factor is 1 or more; NaN if it is NaN."""
    rule = rule or LiquidationParameters()
    if health_factor >= 1.0:
        return Liquidation(0.0, 0.0, 0.0, False)
    if np.isnan(health_factor + all_debt_usd + debt_usd + collateral_usd):
        return Liquidation(np.nan, np.nan, np.nan, False)
    repaid_usd = debt_usd
    small = debt_usd < rule.whole_below_usd or collateral_usd < rule.whole_below_usd
    if health_factor > rule.close_factor_health_factor and not small:
        repaid_usd = min(debt_usd, all_debt_usd * rule.close_factor)
    taken_usd = repaid_usd * bonus
    if taken_usd > collateral_usd:
        repaid_usd, taken_usd = collateral_usd / bonus, collateral_usd
    fee_usd = (taken_usd - taken_usd / bonus) * protocol_fee
    return Liquidation(repaid_usd, taken_usd, fee_usd, leaves_dust(debt_usd - repaid_usd, collateral_usd - taken_usd, rule))


def leaves_dust(debt_left_usd: float, collateral_left_usd: float, rule: LiquidationParameters | None = None) -> bool:
    """Whether a liquidation that leaves so much of both would be refused: both are left, and one is less than the least leftover."""
    rule = rule or LiquidationParameters()
    both = debt_left_usd > 0.0 and collateral_left_usd > 0.0
    return both and min(debt_left_usd, collateral_left_usd) < rule.leftover_min_usd


# ---- interest -------------------------------------------------------------------------------------------------------------------------


def linear_interest(rate_ray: int, elapsed_s: int) -> int:
    """Growth of a supplied balance over `elapsed_s` at a yearly rate; rate and result in rays (1e27 is one).

    As Aave's client does, which rounds the years to a ray before it multiplies: up to one ray from rate x seconds / year, rounded once.
    """
    return RAY + ray_multiply(rate_ray, _divide_half_up(elapsed_s * RAY, SECONDS_PER_YEAR))


def compounded_interest(rate_ray: int, elapsed_s: int) -> int:
    """Growth of a debt, compounded each second, by three terms of the binomial series; in rays."""
    if elapsed_s == 0:
        return RAY
    per_second = rate_ray // SECONDS_PER_YEAR
    squared = ray_multiply(per_second, per_second)
    cubed = ray_multiply(squared, per_second)
    first = per_second * elapsed_s
    second = elapsed_s * (elapsed_s - 1) * squared // 2
    third = elapsed_s * (elapsed_s - 1) * max(elapsed_s - 2, 0) * cubed // 6
    return RAY + first + second + third


def accrued_balance(scaled: int, index_ray: int, rate_ray: int, elapsed_s: int) -> int:
    """A supplied balance in token units: the scaled balance times the index, brought forward by linear interest.

    As the client does, in rays, and only then in units: halves are rounded up twice.
    """
    return _in_units(scaled, ray_multiply(linear_interest(rate_ray, elapsed_s), index_ray))


def accrued_debt(scaled: int, index_ray: int, rate_ray: int, elapsed_s: int) -> int:
    """A debt in token units: the scaled debt times the index, brought forward by compounded interest; rounded as `accrued_balance` is."""
    return _in_units(scaled, ray_multiply(compounded_interest(rate_ray, elapsed_s), index_ray))


def _in_units(scaled: int, index_ray: int) -> int:
    return _divide_half_up(ray_multiply(scaled * RAYS_PER_WAD, index_ray), RAYS_PER_WAD)


def ray_multiply(left: int, right: int) -> int:
    """left x right / 1e27, halves rounded up."""
    return _divide_half_up(left * right, RAY)


def _divide_half_up(numerator: int, denominator: int) -> int:
    return (numerator + denominator // 2) // denominator
