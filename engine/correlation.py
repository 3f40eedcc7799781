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
    work: NDArray[np.float64]  # [3, ASSETS_MAX] scratch of `observe`


def new_covariances() -> Covariances:
    return Covariances(np.zeros((ASSETS_MAX, ASSETS_MAX)), np.zeros(ASSETS_MAX), np.zeros((3, ASSETS_MAX)))


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
    """A grid point: `marks` [count] of the groups' own assets, 0 where unknown. The first one only sets the reference.

    A move that is not known is no move of nothing: it would wear the group's correlations away. What is expected of it stands in its place;
    of nobody's moves nothing follows.
    """
    seen = state.work[0]  # nan: not known
    move = state.work[1]
    known = 0
    for g in range(count):
        seen[g] = math.nan
        if marks[g] > 0.0 and state.grid_mark[g] > 0.0:
            seen[g] = log_(marks[g] / state.grid_mark[g])
            known += 1
        move[g] = seen[g]
        state.grid_mark[g] = marks[g]
    if first or known == 0:
        return
    for g in range(count):
        left = 0.0
        if math.isnan(seen[g]):
            move[g], left = _expected_move(g, count, seen, state)
        state.work[2, g] = left
    for g in range(count):
        for h in range(g + 1):
            value = keep * state.covariance[g, h] + (1.0 - keep) * (move[g] * move[h])
            if h == g:
                value += (1.0 - keep) * state.work[2, g]
            state.covariance[g, h] = value
            state.covariance[h, g] = value


@kernel
def _expected_move(group: int, count: int, seen: NDArray[np.float64], state: Covariances) -> tuple[float, float]:
    """What the moves that were seen lead one to expect of another group's, and the variance that they leave open.

    Regression on one sum: of the moves seen, each times what it alone would lead one to expect. Any such stand-in keeps the covariance
    positive semi-definite, where leaving out a group's pairs alone would not.
    """
    covariance = state.covariance
    total = 0.0
    shared = 0.0
    variance = 0.0
    for h in range(count):
        if math.isnan(seen[h]) or not covariance[h, h] > 0.0:
            continue
        weight = covariance[group, h] / covariance[h, h]
        if weight == 0.0:
            continue
        total += weight * seen[h]
        shared += weight * covariance[group, h]
        with_others = 0.0
        for k in range(count):
            if not math.isnan(seen[k]) and covariance[k, k] > 0.0:
                with_others += covariance[h, k] * (covariance[group, k] / covariance[k, k])
        variance += weight * with_others
    own = float(covariance[group, group])
    if not variance > 0.0:
        return 0.0, own
    slope = shared / variance
    return slope * total, max(own - slope * shared, 0.0)


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
