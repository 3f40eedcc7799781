"""Correlation of risk groups: an exponentially weighted covariance on a grid of one minute, shrunk towards a prior.

Formulas: docs/model.md, section 2.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.jit import kernel
from engine.maths import log_
from engine.parameters import ASSET_CLASSES
from engine.tables import ASSETS_MAX, HIGH, LOW, OBSERVED, REGIMES
from engine.volatility import NS_PER_SECOND, SECONDS_PER_YEAR

GRID_NS: Final = 60 * NS_PER_SECOND
GRID_YEARS: Final = 60.0 / SECONDS_PER_YEAR
MARKET_CLASSES: Final = tuple(ASSET_CLASSES.index(name) for name in ("major", "alt", "liquid_staking", "governance"))


class Covariances(NamedTuple):
    """By group. State: goes into the cut. `covariance` is symmetric; of a minute, not annualised."""

    covariance: NDArray[np.float64]  # [ASSETS_MAX, ASSETS_MAX]
    grid_mark: NDArray[np.float64]  # mark at the last grid point, 0: was unknown
    move: NDArray[np.float64]  # scratch of `observe`


def new_covariances() -> Covariances:
    return Covariances(np.zeros((ASSETS_MAX, ASSETS_MAX)), np.zeros(ASSETS_MAX), np.zeros(ASSETS_MAX))


def moves_with_market(asset_class: int) -> bool:
    """Whether the prior correlation with other such classes is `prior_correlation` rather than 0."""
    return asset_class in MARKET_CLASSES


@kernel
def start(group: int, sigma_ref: float, with_market: NDArray[np.bool_], prior: float, state: Covariances) -> None:
    """A new group, number `group`, beside those below it: the prior's covariance, at their variances of now."""
    state.covariance[group, group] = sigma_ref * sigma_ref * GRID_YEARS
    for other in range(group):
        rho = prior if with_market[group] and with_market[other] else 0.0
        shared = rho * math.sqrt(state.covariance[group, group] * state.covariance[other, other])
        state.covariance[group, other] = shared
        state.covariance[other, group] = shared


@kernel
def observe(count: int, marks: NDArray[np.float64], keep: float, first: bool, state: Covariances) -> None:
    """A grid point: `marks` [count] of the groups' own assets, 0 where unknown. The first one only sets the reference."""
    for g in range(count):
        state.move[g] = 0.0
        if marks[g] > 0.0 and state.grid_mark[g] > 0.0:
            state.move[g] = log_(marks[g] / state.grid_mark[g])
        state.grid_mark[g] = marks[g]
    if first:
        return
    for g in range(count):
        for h in range(g + 1):
            value = keep * state.covariance[g, h] + (1.0 - keep) * (state.move[g] * state.move[h])
            state.covariance[g, h] = value
            state.covariance[h, g] = value


@kernel
def correlate(
    count: int,
    shrink: float,
    with_market: NDArray[np.bool_],
    prior: float,
    state: Covariances,
    stress: NDArray[np.float64],
    high: float,
    low: float,
    out: NDArray[np.float64],
) -> bool:
    """Fill `out` [2 levels, REGIMES, groups, groups] with the shrunk correlations under each regime; whether anything changed.

    `stress` [2 levels, groups] takes the high regime towards 1 and the low one towards 0; `high` and `low` say how far they go without it.
    """
    changed = False
    for g in range(count):
        if out[0, OBSERVED, g, g] != 1.0:
            out[:, :, g, g] = 1.0
            changed = True
        for h in range(g):
            expected = prior if with_market[g] and with_market[h] else 0.0
            scale = math.sqrt(state.covariance[g, g] * state.covariance[h, h])
            observed = state.covariance[g, h] / scale if scale > 0.0 else expected
            rho = min(1.0, max(-1.0, (1.0 - shrink) * observed + shrink * expected))
            for level in range(2):
                worst = max(stress[level, g], stress[level, h])
                for regime in range(REGIMES):
                    value = rho
                    if regime == HIGH:
                        value = rho + (high + (1.0 - high) * worst) * (1.0 - rho)
                    elif regime == LOW:
                        value = rho * (1.0 - (low + (1.0 - low) * worst))
                    if value != out[level, regime, g, h]:
                        changed = True
                        out[level, regime, g, h] = value
                        out[level, regime, h, g] = value
    return changed
