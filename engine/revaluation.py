"""From what was observed to marks, breakers and risk inputs: the kernels that Market runs once a frame (docs/model.md, sections 2 and 7).

`advance_*` move state (volatility, breakers) and run once a frame; `derive_*` are functions of the state and the clock alone, so that
running them in full after a restore gives the same bits as running them for what a frame touched.
"""

import math

import numpy as np
from numpy.typing import NDArray

from engine import breakers, volatility
from engine.breakers import CLOSED, Breakers, MoveSamples
from engine.eligibility import depth_in_force
from engine.jit import kernel
from engine.market_arrays import (
    MARK_AGE,
    SIGMA_CAP,
    SIGMA_FLOOR,
    STABLE_RATE,
    Bounds,
    Depths,
    Lags,
    RiskInputs,
    Settings,
    Touched,
)
from engine.marks import NEVER_NS, SOURCES_APART, Marks, Observations, aggregate
from engine.slow_rise import SlowRises, halved, limit_stable, rise_slowly
from engine.tables import OPTION
from engine.universe import AssetArrays, ChainArrays, InstrumentArrays
from engine.volatility import NS_PER_HOUR, NS_PER_SECOND, ImpliedVolatilities, Volatilities

# ---- marks and breakers ------------------------------------------------------------------------------------------------------


@kernel
def derive_mark(
    asset: int, assets: AssetArrays, observations: Observations, divergence: Breakers, now_ns: int, settings: Settings, marks: Marks
) -> None:
    """The mark of one asset under the divergence breaker's present state."""
    aggregate(
        asset,
        assets.source_weight[asset],
        observations,
        now_ns,
        settings.class_ages_ns[assets.asset_class[asset], MARK_AGE],
        settings.quorum,
        settings.mad_k,
        settings.mad_floor,
        marks,
    )
    _judge(asset, divergence, marks)


@kernel
def _judge(asset: int, divergence: Breakers, marks: Marks) -> None:
    if marks.status[asset] == 0 and divergence.state[asset] != CLOSED:
        marks.status[asset] = SOURCES_APART


@kernel
def advance_assets(
    numbers: NDArray[np.int64],
    assets: AssetArrays,
    observations: Observations,
    divergence: Breakers,
    move: Breakers,
    jump: Breakers,
    samples: MoveSamples,
    volatilities: Volatilities,
    now_ns: int,
    settings: Settings,
    marks: Marks,
    touched: Touched,
) -> None:
    """Marks, breakers and volatility samples of the assets listed (never USD, whose mark is 1)."""
    for k in range(len(numbers)):
        a = numbers[k]
        old_status = marks.status[a]
        old_mark = marks.mark[a]
        derive_mark(a, assets, observations, divergence, now_ns, settings, marks)
        if settings.breakers_enabled and breakers.advance(
            a, marks.divergence[a], settings.divergence_trip, settings.divergence_reset, settings.cooldown_ns, now_ns, divergence
        ):
            touched.divergence_breaker[a] = True
            derive_mark(a, assets, observations, divergence, now_ns, settings, marks)
        touched.mark_state[a] = True
        if marks.status[a] != old_status or (marks.status[a] == 0 and marks.mark[a] != old_mark):
            touched.asset[a] = True
        if marks.status[a] != 0:
            continue
        if breakers.take_move_sample(a, marks.mark[a], now_ns, samples):
            touched.moves_state[a] = True
        if settings.breakers_enabled:
            value = breakers.move_in_window(a, marks.mark[a], now_ns, settings.move_window_ns, samples)
            if breakers.advance(a, value, settings.move_trip, settings.move_reset, settings.cooldown_ns, now_ns, move):
                touched.move_breaker[a] = True
        moved = volatilities.last_ns[a] != NEVER_NS  # the first sample only sets the reference
        taken = volatility.sample(
            a,
            marks.mark[a],
            marks.newest_ns[a],
            settings.vol_min_step_ns,
            settings.tau_fast_s,
            settings.tau_slow_s,
            settings.half_life_s,
            settings.classes[assets.asset_class[a], SIGMA_FLOOR],
            volatilities,
        )
        if taken and moved and settings.breakers_enabled:
            value = volatility.jump(a, settings.classes[assets.asset_class[a], SIGMA_FLOOR], volatilities)
            if breakers.advance(a, value, settings.jump_trip, settings.jump_reset, settings.cooldown_ns, now_ns, jump):
                touched.jump_breaker[a] = True


# ---- inputs ------------------------------------------------------------------------------------------------------------------


@kernel
def derive_assets(
    count: int,
    assets: AssetArrays,
    marks: Marks,
    depths: Depths,
    implied: ImpliedVolatilities,
    move: Breakers,
    jump: Breakers,
    recognised: NDArray[np.float64],
    volatilities: Volatilities,
    now_ns: int,
    elapsed_ns: int,
    settings: Settings,
    stable: NDArray[np.float64],
    slow: SlowRises,
    bounds: Bounds,
    inputs: RiskInputs,
    touched: Touched,
) -> None:
    """Volatility levels, redemption bounds, depths, what is over a global cap, and stable prices of all assets.

    `elapsed_ns` is the clock's way since the last time: by that much, what rises slowly moves.
    """
    hours = elapsed_ns / NS_PER_HOUR
    kept = halved(settings.fear_half_life_s, hours)
    for a in range(count):
        asset_class = assets.asset_class[a]
        widen = settings.breaker_widen if move.state[a] != CLOSED or jump.state[a] != CLOSED else 1.0
        month = volatility.implied_of_month(a, now_ns, settings.implied_max_age_ns, settings.half_life_s, implied)
        initial = volatility.target(volatilities.sigma[a], month, widen, settings.classes[asset_class, SIGMA_CAP])
        sigma = volatility.maintenance(initial, volatilities.sigma_maintenance[a], settings.sigma_rise_per_hour, elapsed_ns)
        if sigma != volatilities.sigma_maintenance[a]:
            volatilities.sigma_maintenance[a] = sigma
            touched.mark_state[a] = True
        if sigma != inputs.sigma[0, a] or initial != inputs.sigma[1, a]:
            inputs.sigma[0, a] = sigma
            inputs.sigma[1, a] = initial
            touched.asset[a] = True
        redemption = assets.redemption_asset[a]
        bound = math.nan
        bound_status = np.int32(0)
        if redemption >= 0:
            bound_status = marks.status[redemption]
            if bound_status == 0:
                bound = marks.mark[redemption] * assets.redemption_rate[a]
        if bound_status != bounds.status[a] or (bound != bounds.bound[a] and not (math.isnan(bound) and math.isnan(bounds.bound[a]))):
            bounds.status[a] = bound_status
            bounds.bound[a] = bound
            touched.asset[a] = True
        depth, spread = depth_in_force(a, asset_class, depths, now_ns, settings)
        if depth != inputs.depth_usd[a] or spread != inputs.spread_bps[a]:
            inputs.depth_usd[a] = depth
            inputs.spread_bps[a] = spread
            touched.asset[a] = True
        thin_target = 1.0 / math.sqrt(depth)
        thin = rise_slowly(slow.thin[a], thin_target, settings.thin_rise_per_hour * slow.thin[a], hours, kept)
        over_target = 1.0 - recognised[a]
        over = rise_slowly(slow.over[a], over_target, settings.haircut_rise_per_hour, hours, kept)
        price = stable[a]
        if marks.status[a] == 0:
            price = limit_stable(price, marks.mark[a], settings.classes[asset_class, STABLE_RATE], hours)
        if thin != slow.thin[a] or over != slow.over[a] or (price != stable[a] and not math.isnan(price)):
            slow.thin[a] = thin
            slow.over[a] = over
            stable[a] = price
            touched.mark_state[a] = True
            touched.asset[a] = True
        thin_initial = max(thin_target, thin)
        over_initial = max(over_target, over)
        if thin != inputs.thin[0, a] or thin_initial != inputs.thin[1, a] or over != inputs.over[0, a] or over_initial != inputs.over[1, a]:
            inputs.thin[0, a] = thin
            inputs.thin[1, a] = thin_initial
            inputs.over[0, a] = over
            inputs.over[1, a] = over_initial
            touched.asset[a] = True


@kernel
def derive_routes(count: int, chains: ChainArrays, lags: Lags, settings: Settings, inputs: RiskInputs, touched: Touched) -> None:
    """Seconds until collateral of each chain is worth something on another one, redemption aside."""
    for j in range(count):
        messaging = chains.messaging_delay_s[j]
        if lags.heartbeat_ns[j] != NEVER_NS:
            messaging = max(messaging, lags.p95_ns[j] / NS_PER_SECOND)
        route = chains.finality_s[j] + messaging + settings.auction_s
        if route != inputs.route_s[j]:
            inputs.route_s[j] = route
            touched.chain[j] = True


@kernel
def derive_option_sigmas(
    count: int, terms: InstrumentArrays, implied: ImpliedVolatilities, now_ns: int, settings: Settings, inputs: RiskInputs, touched: Touched
) -> None:
    """Each option's own implied volatility; at or past expiry it has none."""
    for i in range(count):
        if terms.contract[i] < OPTION:
            continue
        sigma = math.nan
        if terms.expiry_ns[i] > now_ns:
            sigma = volatility.implied_of_expiry(terms.underlying[i], terms.expiry_ns[i], now_ns, settings.implied_max_age_ns, implied)
        old = inputs.option_sigma[i]
        if sigma != old and not (math.isnan(sigma) and math.isnan(old)):
            inputs.option_sigma[i] = sigma
            touched.instrument[i] = True
