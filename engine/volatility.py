"""Realised and implied volatility, and the two levels made of them: fear raises the initial one at once, maintenance slowly.

Formulas: docs/model.md, section 2.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.jit import kernel
from engine.marks import NEVER_NS
from engine.maths import exp_, log_, pow_
from engine.tables import ASSETS_MAX, EXPIRIES_MAX

SECONDS_PER_YEAR: Final = 31_536_000.0
NS_PER_SECOND: Final = 1_000_000_000
NS_PER_HOUR: Final = 3_600 * NS_PER_SECOND
THIRTY_DAYS_NS: Final = 30 * 86_400 * NS_PER_SECOND


class Volatilities(NamedTuple):
    """By asset. State: goes into the cut."""

    variance_fast: NDArray[np.float64]  # annualised
    variance_slow: NDArray[np.float64]
    sigma: NDArray[np.float64]  # realised, with its slow fall
    sigma_maintenance: NDArray[np.float64]
    last_mark: NDArray[np.float64]  # of the last sample
    last_ns: NDArray[np.int64]  # its time, NEVER_NS: none yet


class ImpliedVolatilities(NamedTuple):
    """By underlying, expiries increasing. State: goes into the cut."""

    quotes: NDArray[np.int64]  # [ASSETS_MAX]: how many
    expiry_ns: NDArray[np.int64]  # [ASSETS_MAX, EXPIRIES_MAX]
    sigma: NDArray[np.float64]
    time_ns: NDArray[np.int64]


def new_volatilities() -> Volatilities:
    return Volatilities(
        variance_fast=np.zeros(ASSETS_MAX),
        variance_slow=np.zeros(ASSETS_MAX),
        sigma=np.zeros(ASSETS_MAX),
        sigma_maintenance=np.zeros(ASSETS_MAX),
        last_mark=np.zeros(ASSETS_MAX),
        last_ns=np.full(ASSETS_MAX, NEVER_NS, dtype=np.int64),
    )


def new_implied() -> ImpliedVolatilities:
    shape = (ASSETS_MAX, EXPIRIES_MAX)
    return ImpliedVolatilities(
        quotes=np.zeros(ASSETS_MAX, dtype=np.int64),
        expiry_ns=np.zeros(shape, dtype=np.int64),
        sigma=np.zeros(shape),
        time_ns=np.zeros(shape, dtype=np.int64),
    )


@kernel
def start(asset: int, sigma_ref: float, sigma_floor: float, sigma_cap: float, state: Volatilities) -> None:
    """Volatility before any sample: the class's own."""
    state.variance_fast[asset] = sigma_ref * sigma_ref
    state.variance_slow[asset] = sigma_ref * sigma_ref
    state.sigma[asset] = max(sigma_ref, sigma_floor)
    state.sigma_maintenance[asset] = min(state.sigma[asset], sigma_cap)


@kernel
def sample(
    asset: int,
    mark: float,
    time_ns: int,
    min_step_ns: int,
    tau_fast_s: float,
    tau_slow_s: float,
    half_life_s: float,
    sigma_floor: float,
    state: Volatilities,
) -> bool:
    """Take a mark into the realised volatility if it is far enough from the last sample in time; whether it was taken."""
    if state.last_ns[asset] == NEVER_NS:
        state.last_mark[asset] = mark
        state.last_ns[asset] = time_ns
        return True
    if time_ns - state.last_ns[asset] < min_step_ns:
        return False
    dt_s = (time_ns - state.last_ns[asset]) / NS_PER_SECOND
    move = log_(mark / state.last_mark[asset])
    rate = move * move / (dt_s / SECONDS_PER_YEAR)
    keep = exp_(-dt_s / tau_fast_s)
    state.variance_fast[asset] = state.variance_fast[asset] * keep + (1.0 - keep) * rate
    keep = exp_(-dt_s / tau_slow_s)
    state.variance_slow[asset] = state.variance_slow[asset] * keep + (1.0 - keep) * rate
    raw = max(math.sqrt(state.variance_fast[asset]), math.sqrt(state.variance_slow[asset]), sigma_floor)
    state.sigma[asset] = max(raw, state.sigma[asset] * pow_(2.0, -dt_s / half_life_s))
    state.last_mark[asset] = mark
    state.last_ns[asset] = time_ns
    return True


@kernel
def jump(asset: int, sigma_floor: float, state: Volatilities) -> float:
    """How many times the slow volatility the fast one is; 0 where there is neither."""
    calm = max(math.sqrt(state.variance_slow[asset]), sigma_floor)
    return math.sqrt(state.variance_fast[asset]) / calm if calm > 0.0 else 0.0


@kernel
def implied_of_expiry(underlying: int, expiry_ns: int, now_ns: int, max_age_ns: int, implied: ImpliedVolatilities) -> float:
    """Fresh implied volatility of an expiry after `now_ns`, linear in total variance between fresh neighbours; nan if none is fresh."""
    before = -1
    after = -1
    for k in range(implied.quotes[underlying]):
        quoted_ns = implied.expiry_ns[underlying, k]
        if quoted_ns <= now_ns or now_ns - implied.time_ns[underlying, k] > max_age_ns:
            continue
        if quoted_ns == expiry_ns:
            return float(implied.sigma[underlying, k])
        if quoted_ns < expiry_ns:
            before = k
        elif after < 0:
            after = k
    if before < 0 and after < 0:
        return math.nan
    if before < 0:
        return float(implied.sigma[underlying, after])
    if after < 0:
        return float(implied.sigma[underlying, before])
    t_before = float(implied.expiry_ns[underlying, before] - now_ns)
    t_after = float(implied.expiry_ns[underlying, after] - now_ns)
    t = float(expiry_ns - now_ns)
    w_before = implied.sigma[underlying, before] * implied.sigma[underlying, before] * t_before
    w_after = implied.sigma[underlying, after] * implied.sigma[underlying, after] * t_after
    w = w_before + (w_after - w_before) * ((t - t_before) / (t_after - t_before))
    return math.sqrt(w / t)


@kernel
def implied_of_month(underlying: int, now_ns: int, max_age_ns: int, half_life_s: float, implied: ImpliedVolatilities) -> float:
    """Implied volatility of the expiry nearest to 30 days from now (the earlier of two as near), 0 if none was ever quoted.

    Of those that are fresh; when none is any more, of those that were when the newest came, falling with a half-life: silence is no calm.
    """
    newest_ns = np.int64(NEVER_NS)
    for k in range(implied.quotes[underlying]):
        if implied.expiry_ns[underlying, k] > now_ns:
            newest_ns = max(newest_ns, implied.time_ns[underlying, k])
    if newest_ns == NEVER_NS:
        return 0.0
    silent_ns = int(now_ns - newest_ns - max_age_ns)
    as_of_ns = int(newest_ns) if silent_ns > 0 else now_ns
    nearest = np.int64(0)
    sigma = 0.0
    for k in range(implied.quotes[underlying]):
        quoted_ns = implied.expiry_ns[underlying, k]
        if quoted_ns <= now_ns or as_of_ns - implied.time_ns[underlying, k] > max_age_ns:
            continue
        distance = abs(quoted_ns - now_ns - THIRTY_DAYS_NS)
        if sigma == 0.0 or distance < nearest:
            nearest = distance
            sigma = float(implied.sigma[underlying, k])
    if silent_ns > 0:
        sigma *= pow_(2.0, -(silent_ns / NS_PER_SECOND) / half_life_s)
    return sigma


@kernel
def target(sigma: float, implied_sigma: float, widen: float, sigma_cap: float) -> float:
    """The volatility that the initial level uses."""
    return min(max(sigma, implied_sigma) * widen, sigma_cap)


@kernel
def maintenance(target_sigma: float, previous: float, rise_per_hour: float, elapsed_ns: int) -> float:
    """The volatility that maintenance uses: down with the target at once, up by so much an hour at most."""
    return min(target_sigma, previous + rise_per_hour * (elapsed_ns / NS_PER_HOUR))
