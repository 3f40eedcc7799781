"""Whether an asset is fit to be collateral at all: measured depth, and how long of late its mark was known (docs/model.md, 2 and 7)."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine import breakers
from engine.breakers import Breakers
from engine.jit import kernel
from engine.market_arrays import DEPTH_AGE, SUSPEND_DEPTH_USD, SUSPEND_UPTIME, Depths, Settings, Touched
from engine.marks import NEVER_NS, Marks
from engine.maths import exp_
from engine.universe import AssetArrays
from engine.volatility import NS_PER_SECOND

DEPTH_MIN_USD: Final = 1.0  # an observed depth of nothing still divides
SUSPEND_TRIP: Final = 1.0
SUSPEND_RESET: Final = 0.8


@kernel
def fresh_depth_usd(asset: int, asset_class: int, depths: Depths, now_ns: int, settings: Settings) -> float:
    """The observed depth, nan if none is fresh."""
    if depths.time_ns[asset] == NEVER_NS or now_ns - depths.time_ns[asset] > settings.class_ages_ns[asset_class, DEPTH_AGE]:
        return math.nan
    return float(max(depths.depth_usd[asset], DEPTH_MIN_USD))


@kernel
def advance_eligibility(
    count: int,
    assets: AssetArrays,
    marks: Marks,
    depths: Depths,
    now_ns: int,
    elapsed_ns: int,
    settings: Settings,
    uptime: NDArray[np.float64],
    eligibility: Breakers,
    touched: Touched,
) -> None:
    """At a tick: uptime of all marks by the time since the last one, then the breakers that suspend their assets."""
    kept = exp_(-(elapsed_ns / NS_PER_SECOND) / settings.uptime_tau_s)
    for a in range(count):
        up = uptime[a]
        if elapsed_ns > 0:
            up = up * kept + (1.0 - kept) * (1.0 if marks.status[a] == 0 else 0.0)
        if up != uptime[a]:
            uptime[a] = up
            touched.mark_state[a] = True
        if not settings.breakers_enabled:
            continue
        value = _unfit(a, assets.asset_class[a], up, depths, now_ns, settings)
        told, state = touched.eligibility_breaker, touched.mark_state
        breakers.advance_noted(a, value, SUSPEND_TRIP, SUSPEND_RESET, settings.cooldown_ns, now_ns, eligibility, told, state)
        if told[a]:
            touched.asset[a] = True


@kernel
def _unfit(asset: int, asset_class: int, uptime: float, depths: Depths, now_ns: int, settings: Settings) -> float:
    """What the breaker looks at: above 1 the asset is suspended."""
    value = 0.0
    depth = fresh_depth_usd(asset, asset_class, depths, now_ns, settings)
    if not math.isnan(depth):
        value = settings.classes[asset_class, SUSPEND_DEPTH_USD] / depth
    least = settings.classes[asset_class, SUSPEND_UPTIME]
    if least > 0.0:
        value = max(value, (1.0 - uptime) / (1.0 - least))
    return float(value)
