"""Aave v3's own view of an account: health factor, what may still be borrowed, interest accrued.

Sources: `calculateUserAccountData` in GenericLogic.sol (Aave v3 core) for the health factor and efficiency mode; math-utils of
aave-utilities for the integer arithmetic of interest, which rounds as the protocol does.
"""

import numpy as np
from numpy.typing import NDArray

from engine.jit import kernel

RAY = 10**27
SECONDS_PER_YEAR = 31_536_000


def effective_ratios(
    ratios: NDArray[np.float64], categories: NDArray[np.int64], account_categories: NDArray[np.int64], category_ratios: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Liquidation thresholds (or loan-to-value ratios) as they apply to each account, with efficiency mode.

    `ratios` (reserves,) are the reserves' own, `categories` (reserves,) the efficiency category each belongs to (0: none),
    `account_categories` (accounts,) the one each account has chosen (0: none), `category_ratios` (categories,) the ratio of each
    category, entry 0 unused. Decimals; returns (accounts, reserves). IndexError on a category that `category_ratios` does not have.
    """
    in_category = (account_categories[:, None] != 0) & (account_categories[:, None] == categories[None, :])
    return np.where(in_category, category_ratios[account_categories][:, None], ratios[None, :])


def health_factors(
    collateral_usd: NDArray[np.float64], thresholds: NDArray[np.float64], debt_usd: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Health factor of each account: sum over reserves of collateral x liquidation threshold, over the sum of debts; inf without debt.

    All three are (accounts, reserves), values in USD, thresholds decimals; returns (accounts,). NaN where a value is NaN, so that what
    can't be valued is never read as healthy.
    """
    _require_same_shape(collateral_usd, thresholds, debt_usd)
    return _health_factors(collateral_usd, thresholds, debt_usd)


def available_borrows_usd(
    collateral_usd: NDArray[np.float64], loan_to_value: NDArray[np.float64], debt_usd: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What each account may still borrow: sum of collateral x loan-to-value less the sum of debts, at least 0. Shapes as above."""
    _require_same_shape(collateral_usd, loan_to_value, debt_usd)
    return _available_borrows_usd(collateral_usd, loan_to_value, debt_usd)


def linear_interest(rate_ray: int, elapsed_s: int) -> int:
    """Growth of a supplied balance over `elapsed_s` at a yearly rate; rate and result in rays (1e27 is one)."""
    return RAY + _divide_half_up(rate_ray * elapsed_s, SECONDS_PER_YEAR)


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
    """A supplied balance in token units: the scaled balance times the index, brought forward by linear interest."""
    return ray_multiply(scaled, ray_multiply(linear_interest(rate_ray, elapsed_s), index_ray))


def ray_multiply(left: int, right: int) -> int:
    """left x right / 1e27, halves rounded up."""
    return _divide_half_up(left * right, RAY)


def _divide_half_up(numerator: int, denominator: int) -> int:
    return (numerator + denominator // 2) // denominator


def _require_same_shape(*arrays: NDArray[np.float64]) -> None:
    """The kernels don't check bounds, so shapes are checked before them."""
    shapes = {array.shape for array in arrays}
    if len(shapes) != 1 or arrays[0].ndim != 2:
        raise ValueError(f"collateral, ratios and debts must all have the shape (accounts, reserves), not {sorted(shapes)}")


@kernel
def _health_factors(
    collateral_usd: NDArray[np.float64], thresholds: NDArray[np.float64], debt_usd: NDArray[np.float64]
) -> NDArray[np.float64]:
    accounts, reserves = collateral_usd.shape
    factors = np.empty(accounts)
    for account in range(accounts):
        covered_usd = 0.0
        owed_usd = 0.0
        for reserve in range(reserves):
            covered_usd += collateral_usd[account, reserve] * thresholds[account, reserve]
            owed_usd += debt_usd[account, reserve]
        if owed_usd == 0.0 and not np.isnan(covered_usd):
            factors[account] = np.inf
        else:
            factors[account] = covered_usd / owed_usd
    return factors


@kernel
def _available_borrows_usd(
    collateral_usd: NDArray[np.float64], loan_to_value: NDArray[np.float64], debt_usd: NDArray[np.float64]
) -> NDArray[np.float64]:
    accounts, reserves = collateral_usd.shape
    available_usd = np.empty(accounts)
    for account in range(accounts):
        room_usd = 0.0
        for reserve in range(reserves):
            room_usd += collateral_usd[account, reserve] * loan_to_value[account, reserve] - debt_usd[account, reserve]
        if room_usd < 0.0:
            room_usd = 0.0  # not max(): its result with NaN depends on the order of its arguments
        available_usd[account] = room_usd
    return available_usd
