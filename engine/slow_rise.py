"""What is no price rises slowly at maintenance and at once at the initial level: flat and latency terms of haircuts, thin depth, stress,
what is over a global cap; and what a chain's late word takes off its collateral. Formulas: docs/model.md, sections 2 and 9.

`advance_*` move state by the hours of clock since the last tick, and none between ticks; the initial level follows from state alone.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.breakers import CLOSED, Breakers
from engine.jit import kernel
from engine.market_arrays import BASE, RiskInputs, Settings, Touched
from engine.marks import NEVER_NS
from engine.maths import pow_
from engine.tables import ASSETS_MAX, CHAINS_MAX, INSTRUMENTS_MAX
from engine.universe import AssetArrays, ChainArrays, InstrumentArrays
from engine.volatility import NS_PER_HOUR, NS_PER_SECOND, SECONDS_PER_YEAR

MINUTE_NS: Final = 60 * NS_PER_SECOND
SLIP_CAP: Final = 0.5


class SlowRises(NamedTuple):
    """Where each stands at maintenance; nan: not begun. State: goes into the cut."""

    flat: NDArray[np.float64]  # [INSTRUMENTS_MAX], spot
    latency: NDArray[np.float64]  # [INSTRUMENTS_MAX], spot
    thin: NDArray[np.float64]  # [ASSETS_MAX]
    over: NDArray[np.float64]  # [ASSETS_MAX]
    stress: NDArray[np.float64]  # [2 levels, ASSETS_MAX] by group: the initial one as well, since it waits for its minute
    paused: NDArray[np.float64]  # [CHAINS_MAX]; the same at both levels


class Slips(NamedTuple):
    """Cross-chain slippage by chain, as of its newest measurement. State: goes into the cut."""

    slip: NDArray[np.float64]
    time_ns: NDArray[np.int64]  # NEVER_NS: none yet
    in_force: NDArray[np.float64]  # as of the last frame of the market: a fill measures, and such a frame takes it in


def new_slow_rises() -> SlowRises:
    return SlowRises(
        flat=np.full(INSTRUMENTS_MAX, math.nan),
        latency=np.full(INSTRUMENTS_MAX, math.nan),
        thin=np.full(ASSETS_MAX, math.nan),
        over=np.full(ASSETS_MAX, math.nan),
        stress=np.full((2, ASSETS_MAX), math.nan),
        paused=np.zeros(CHAINS_MAX),
    )


def new_slips() -> Slips:
    return Slips(np.zeros(CHAINS_MAX), np.full(CHAINS_MAX, NEVER_NS, dtype=np.int64), np.zeros(CHAINS_MAX))


@kernel
def halved(half_life_s: float, hours: float) -> float:
    """What is left of 1 after so many hours."""
    return pow_(2.0, -hours * 3600.0 / half_life_s)


@kernel
def rise_slowly(previous: float, target: float, rise_per_hour: float, hours: float, kept: float) -> float:
    """slow(previous, target, rise); `kept` is what a fall leaves of the distance. It begins at its target, and stands still for no time."""
    if math.isnan(previous):
        return target
    if hours == 0.0:
        return previous
    if target > previous:
        return min(target, previous + rise_per_hour * hours)
    return target + (previous - target) * kept


@kernel
def limit_stable(previous: float, mark: float, rate_per_hour: float, hours: float) -> float:
    """The delay-limited price of a known mark after so many hours (one at most counts); it begins at the mark."""
    if math.isnan(previous):
        return mark
    room = rate_per_hour * min(hours, 1.0)
    return min(max(mark, previous * (1.0 - room)), previous * (1.0 + room))


@kernel
def advance_collateral(
    spots: NDArray[np.int64],
    everything: bool,
    elapsed_ns: int,
    terms: InstrumentArrays,
    assets: AssetArrays,
    chains: ChainArrays,
    eligibility: Breakers,
    settings: Settings,
    slow: SlowRises,
    inputs: RiskInputs,
    touched: Touched,
) -> None:
    """Flat and latency terms of the spot instruments whose asset or chain was touched; of all of them when time has gone by."""
    hours = elapsed_ns / NS_PER_HOUR
    kept = halved(settings.fear_half_life_s, hours)
    rise = settings.haircut_rise_per_hour
    for k in range(len(spots)):
        i = spots[k]
        a = terms.underlying[i]
        j = terms.chain[i]
        if not (everything or elapsed_ns > 0 or touched.asset[a] or touched.chain[j]):
            continue
        flat_target = settings.classes[assets.asset_class[a], BASE] + chains.security_premium[j]
        if eligibility.state[a] != CLOSED or (assets.eligible_chains[a] >> np.int64(j)) & 1 == 0:
            flat_target += 1.0
        delay = settings.latency_z * math.sqrt((inputs.route_s[j] + assets.redemption_delay_s[a]) / SECONDS_PER_YEAR)
        flat = rise_slowly(slow.flat[i], flat_target, rise, hours, kept)
        latency = rise_slowly(slow.latency[i], inputs.sigma[0, a] * delay, rise, hours, kept)
        if flat != slow.flat[i] or latency != slow.latency[i]:
            slow.flat[i] = flat
            slow.latency[i] = latency
            touched.slow_state[i] = True
        flat_initial = max(flat_target, flat)
        latency_initial = max(inputs.sigma[1, a] * delay, latency)
        if (
            flat != inputs.flat[0, i]
            or flat_initial != inputs.flat[1, i]
            or latency != inputs.latency[0, i]
            or latency_initial != inputs.latency[1, i]
        ):
            inputs.flat[0, i] = flat
            inputs.flat[1, i] = flat_initial
            inputs.latency[0, i] = latency
            inputs.latency[1, i] = latency_initial
            touched.instrument[i] = True


@kernel
def advance_stress(
    count: int,
    group_assets: NDArray[np.int64],
    moves: bool,
    elapsed_ns: int,
    move: Breakers,
    jump: Breakers,
    system: Breakers,
    settings: Settings,
    slow: SlowRises,
    touched: Touched,
) -> bool:
    """Stress of all groups if this is the first tick of a minute (`moves`), else of new ones; whether any of it changed."""
    hours = elapsed_ns / NS_PER_HOUR
    kept = halved(settings.fear_half_life_s, hours)
    changed = False
    for g in range(count):
        if not (moves or math.isnan(slow.stress[0, g])):
            continue
        a = group_assets[g]
        target = 0.0
        if move.state[a] != CLOSED or jump.state[a] != CLOSED or system.state[0] != CLOSED:
            target = 1.0
        stress = rise_slowly(slow.stress[0, g], target, settings.stress_rise_per_hour, hours, kept)
        initial = max(target, stress)
        if stress != slow.stress[0, g] or initial != slow.stress[1, g]:
            slow.stress[0, g] = stress
            slow.stress[1, g] = initial
            touched.group[g] = True
            touched.group_state[g] = True
            changed = True
    return changed


@kernel
def holds_credit(chain: int, chains: ChainArrays, lag: Breakers, layer: Breakers, quarantine: Breakers) -> bool:
    """Whether a chain's word counts for nothing new."""
    return bool(lag.state[chain] != CLOSED or layer.state[chains.layer[chain]] != CLOSED or quarantine.state[chain] != CLOSED)


@kernel
def advance_recognition(
    count: int,
    chains: ChainArrays,
    elapsed_ns: int,
    lag: Breakers,
    layer: Breakers,
    quarantine: Breakers,
    settings: Settings,
    slow: SlowRises,
    touched: Touched,
) -> None:
    """What is not recognised any more of each chain's collateral: grows while its word is late or doubted, ends at once."""
    kept = halved(settings.recognition_half_life_s, elapsed_ns / NS_PER_HOUR)
    for j in range(count):
        paused = 0.0
        if holds_credit(j, chains, lag, layer, quarantine):
            paused = slow.paused[j]
            if elapsed_ns > 0:
                paused = 1.0 - (1.0 - paused) * kept
        if paused != slow.paused[j]:
            slow.paused[j] = paused
            touched.chain[j] = True
            touched.chain_state[j] = True


@kernel
def measure_slip(chain: int, slip: float, time_ns: int, half_life_s: float, slips: Slips) -> None:
    """Take a measured slippage in: the larger of it and what is left of the one before."""
    before_ns = slips.time_ns[chain]
    if before_ns == NEVER_NS:
        slips.slip[chain] = min(slip, SLIP_CAP)
        slips.time_ns[chain] = time_ns
        return
    hours = max(time_ns - before_ns, 0) / NS_PER_HOUR
    slips.slip[chain] = min(max(slip, slips.slip[chain] * halved(half_life_s, hours)), SLIP_CAP)
    slips.time_ns[chain] = max(time_ns, before_ns)


@kernel
def advance_slips(count: int, slips: Slips, now_ns: int, settings: Settings, touched: Touched) -> None:
    """Slippage of each chain, decayed to the last whole minute of the clock."""
    minute_ns = now_ns - now_ns % MINUTE_NS
    for j in range(count):
        slip = 0.0
        if slips.time_ns[j] != NEVER_NS:
            slip = slips.slip[j] * halved(settings.fear_half_life_s, max(minute_ns - slips.time_ns[j], 0) / NS_PER_HOUR)
        if slip != slips.in_force[j]:
            slips.in_force[j] = slip
            touched.chain_state[j] = True
            touched.chain[j] = True
