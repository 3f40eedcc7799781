"""Whether an asset is fit to be collateral at all: measured depth, and how long of late its mark was known (docs/model.md, 2 and 7)."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine import breakers
from engine.breakers import Breakers
from engine.jit import kernel
from engine.market_arrays import DEPTH_AGE, DEPTH_FLOOR_USD, SUSPEND_DEPTH_USD, SUSPEND_UPTIME, Depths, Settings, Touched
from engine.marks import NEVER_NS, Marks
from engine.maths import exp_
from engine.universe import AssetArrays
from engine.volatility import NS_PER_SECOND

DEPTH_MIN_USD: Final = 1.0  # an observed depth of nothing still divides
SUSPEND_TRIP: Final = 1.0
SUSPEND_RESET: Final = 0.8


@kernel
def measured_depth_usd(asset: int, depths: Depths) -> float:
    """The newest observed depth, however old it is; nan if there never was one."""
    if depths.time_ns[asset] == NEVER_NS:
        return math.nan
    return float(max(depths.depth_usd[asset], DEPTH_MIN_USD))


@kernel
def depth_in_force(asset: int, asset_class: int, depths: Depths, now_ns: int, settings: Settings) -> tuple[float, float]:
    """USD and spread in bps: as observed while that is fresh, then the floors, but never better than what was observed last."""
    floor, spread = float(settings.classes[asset_class, DEPTH_FLOOR_USD]), settings.spread_floor_bps
    measured = measured_depth_usd(asset, depths)
    if math.isnan(measured):
        return floor, spread
    if now_ns - depths.time_ns[asset] <= settings.class_ages_ns[asset_class, DEPTH_AGE]:
        return measured, float(depths.spread_bps[asset])
    return min(measured, floor), max(float(depths.spread_bps[asset]), spread)


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
        value = _unfit(a, assets.asset_class[a], up, depths, settings)
        told, state = touched.eligibility_breaker, touched.mark_state
        breakers.advance_noted(a, value, SUSPEND_TRIP, SUSPEND_RESET, settings.cooldown_ns, now_ns, eligibility, told, state)
        if told[a]:
            touched.asset[a] = True


@kernel
def _unfit(asset: int, asset_class: int, uptime: float, depths: Depths, settings: Settings) -> float:
    """What the breaker looks at: above 1 the asset is suspended. Silence is no measurement: what was measured last stands."""
    value = 0.0
    depth = measured_depth_usd(asset, depths)
    if not math.isnan(depth):
        value = settings.classes[asset_class, SUSPEND_DEPTH_USD] / depth
    least = settings.classes[asset_class, SUSPEND_UPTIME]
    if least > 0.0:
        value = max(value, (1.0 - uptime) / (1.0 - least))
    return float(value)
