"""From what was observed to marks, breakers and risk inputs: the kernels that Market runs once a frame (docs/model.md, sections 2 and 7).

`advance_*` move state (volatility, breakers) and run once a frame; `derive_*` are functions of the state and the clock alone, so that
running them in full after a restore gives the same bits as running them for what a frame touched.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine import breakers, volatility
from engine.breakers import CLOSED, Breakers, MoveSamples
from engine.jit import kernel
from engine.market_arrays import (
    BASE,
    DEPTH_AGE,
    DEPTH_FLOOR_USD,
    MARK_AGE,
    SIGMA_CAP,
    SIGMA_FLOOR,
    Bounds,
    Depths,
    Lags,
    RiskInputs,
    Settings,
    Touched,
)
from engine.marks import NEVER_NS, SOURCES_APART, Marks, Observations, aggregate
from engine.tables import OPTION, SPOT
from engine.universe import AssetArrays, ChainArrays, InstrumentArrays
from engine.volatility import NS_PER_SECOND, SECONDS_PER_YEAR, ImpliedVolatilities, Volatilities

DEPTH_MIN_USD: Final = 1.0  # an observed depth of nothing still divides


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
        volatility.sample(
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


@kernel
def advance_lag_breakers(count: int, lags: Lags, now_ns: int, settings: Settings, lag: Breakers, touched: Touched) -> None:
    """Attestation lag of each chain that ever sent a heartbeat."""
    for j in range(count):
        if lags.heartbeat_ns[j] == NEVER_NS:
            continue
        value = max(lags.p95_ns[j], now_ns - lags.heartbeat_ns[j]) / NS_PER_SECOND
        calm_ns = lag.calm_ns[j]
        if breakers.advance(j, value, settings.lag_trip_s, settings.lag_reset_s, settings.cooldown_ns, now_ns, lag):
            touched.lag_breaker[j] = True
        if touched.lag_breaker[j] or lag.calm_ns[j] != calm_ns:
            touched.lag_state[j] = True


@kernel
def switch_breakers_off(
    asset_count: int, chain_count: int, now_ns: int, move: Breakers, divergence: Breakers, lag: Breakers, touched: Touched
) -> None:
    for a in range(asset_count):
        if breakers.switch_off(a, now_ns, move):
            touched.move_breaker[a] = True
            touched.mark_state[a] = True
        if breakers.switch_off(a, now_ns, divergence):
            touched.divergence_breaker[a] = True
            touched.mark_state[a] = True
    for j in range(chain_count):
        if breakers.switch_off(j, now_ns, lag):
            touched.lag_breaker[j] = True
            touched.lag_state[j] = True


# ---- inputs ------------------------------------------------------------------------------------------------------------------


@kernel
def derive_assets(
    count: int,
    assets: AssetArrays,
    marks: Marks,
    depths: Depths,
    implied: ImpliedVolatilities,
    move: Breakers,
    volatilities: Volatilities,
    now_ns: int,
    elapsed_ns: int,
    settings: Settings,
    bounds: Bounds,
    inputs: RiskInputs,
    touched: Touched,
) -> None:
    """Volatility levels, redemption bounds and depths of all assets; `elapsed_ns` since maintenance volatility was last advanced."""
    for a in range(count):
        asset_class = assets.asset_class[a]
        widen = settings.breaker_widen if move.state[a] != CLOSED else 1.0
        month = volatility.implied_of_month(a, now_ns, settings.implied_max_age_ns, implied)
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
        depth = settings.classes[asset_class, DEPTH_FLOOR_USD]
        spread = settings.spread_floor_bps
        if depths.time_ns[a] != NEVER_NS and now_ns - depths.time_ns[a] <= settings.class_ages_ns[asset_class, DEPTH_AGE]:
            depth = max(depths.depth_usd[a], DEPTH_MIN_USD)
            spread = depths.spread_bps[a]
        if depth != inputs.depth_usd[a] or spread != inputs.spread_bps[a]:
            inputs.depth_usd[a] = depth
            inputs.spread_bps[a] = spread
            inputs.thin[:, a] = 1.0 / math.sqrt(depth)
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
def derive_collateral(
    count: int, terms: InstrumentArrays, assets: AssetArrays, chains: ChainArrays, settings: Settings, inputs: RiskInputs, touched: Touched
) -> None:
    """What of the haircuts of spot instruments is no price: flat and latency terms."""
    for i in range(count):
        if terms.contract[i] != SPOT:
            continue
        a = terms.underlying[i]
        j = terms.chain[i]
        flat = settings.classes[assets.asset_class[a], BASE] + chains.security_premium[j]
        if (assets.eligible_chains[a] >> np.int64(j)) & 1 == 0:
            flat += 1.0
        tau = (inputs.route_s[j] + assets.redemption_delay_s[a]) / SECONDS_PER_YEAR
        for level in range(2):
            latency = settings.latency_z * inputs.sigma[level, a] * math.sqrt(tau)
            if flat != inputs.flat[level, i] or latency != inputs.latency[level, i]:
                inputs.flat[level, i] = flat
                inputs.latency[level, i] = latency
                touched.instrument[i] = True


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
