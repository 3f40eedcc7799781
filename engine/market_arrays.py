"""The arrays of a market: settings for kernels, what is observed, what is derived, what a frame touched; and how each is made empty."""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.marks import NEVER_NS
from engine.parameters import ASSET_CLASSES, BPS, Parameters
from engine.tables import (
    ASSETS_MAX,
    CHAINS_MAX,
    INSTRUMENT_FLOATS,
    INSTRUMENT_INTS,
    INSTRUMENTS_MAX,
    LAYERS_MAX,
    RiskTables,
    new_tables,
)
from engine.volatility import NS_PER_SECOND

# Columns of Settings.classes and Settings.class_ages_ns, rows by asset class.
BASE: Final = 0
VOL_COEFFICIENT: Final = 1
DEPEG: Final = 2
SIZE_COEFFICIENT: Final = 3
SIGMA_REF: Final = 4
SIGMA_FLOOR: Final = 5
SIGMA_CAP: Final = 6
SCAN_FLOOR: Final = 7
SCAN_CAP: Final = 8
DEPTH_FLOOR_USD: Final = 9
STABLE_RATE: Final = 10
SUSPEND_DEPTH_USD: Final = 11
SUSPEND_UPTIME: Final = 12
CLASS_COLUMNS: Final = 13
MARK_AGE: Final = 0
DEPTH_AGE: Final = 1
OPTION_INPUTS: Final = 5  # forward, volatility, years, scan range at either level


class Settings(NamedTuple):
    """The parameters that kernels use, times in nanoseconds where they meet the clock."""

    classes: NDArray[np.float64]
    class_ages_ns: NDArray[np.int64]
    quorum: int
    mad_k: float
    mad_floor: float
    implied_max_age_ns: int
    vol_min_step_ns: int
    tau_fast_s: float
    tau_slow_s: float
    half_life_s: float
    sigma_rise_per_hour: float
    breakers_enabled: bool
    breaker_widen: float
    move_window_ns: int
    move_trip: float
    move_reset: float
    divergence_trip: float
    divergence_reset: float
    lag_trip_s: float
    lag_reset_s: float
    cooldown_ns: int
    latency_z: float
    auction_s: float
    grid_steps: int
    scan_k: float
    horizon_s: float
    vol_shock: float
    vol_shock_power: float
    tenor_floor_s: float
    vol_min: float
    extreme_multiple: float
    impact_coefficient: float
    spread_floor_bps: float
    short_option_minimum: float
    basis_share: NDArray[np.float64]  # [TENOR_BANDS], fractions
    vega_shock: float
    settlement_wait_ns: int
    funding_max_age_ns: int
    uptime_tau_s: float
    haircut_rise_per_hour: float
    thin_rise_per_hour: float
    stress_rise_per_hour: float
    fear_half_life_s: float
    recognition_half_life_s: float
    jump_trip: float
    jump_reset: float
    layer_share: float
    system_share: float


class Depths(NamedTuple):
    """Newest observed depth by asset. State: goes into the cut."""

    depth_usd: NDArray[np.float64]
    spread_bps: NDArray[np.float64]
    time_ns: NDArray[np.int64]  # NEVER_NS: none yet


class Lags(NamedTuple):
    """The attestor's word by chain. State: goes into the cut."""

    p95_ns: NDArray[np.int64]
    heartbeat_ns: NDArray[np.int64]  # NEVER_NS: never one


class Bounds(NamedTuple):
    """By asset: what it can be redeemed for. Derived."""

    bound: NDArray[np.float64]  # nan: no redemption asset, or its mark is unknown
    status: NDArray[np.int32]  # why the bound is unknown, 0: known or none


class RiskInputs(NamedTuple):
    """What turns marks into risk, as in force. Derived; kept for the frame before too, to tell a cause."""

    sigma: NDArray[np.float64]  # [2 levels, ASSETS_MAX]
    depth_usd: NDArray[np.float64]  # [ASSETS_MAX]
    spread_bps: NDArray[np.float64]  # [ASSETS_MAX]
    route_s: NDArray[np.float64]  # [CHAINS_MAX]: to another chain, without redemption
    option_sigma: NDArray[np.float64]  # [INSTRUMENTS_MAX], nan: none or not an option
    thin: NDArray[np.float64]  # [2 levels, ASSETS_MAX]: 1/sqrt(depth)
    stress: NDArray[np.float64]  # [2 levels, ASSETS_MAX] by group, 0 to 1
    flat: NDArray[np.float64]  # [2 levels, INSTRUMENTS_MAX]: base + security (+ 1: suspended or not eligible) of spot
    latency: NDArray[np.float64]  # [2 levels, INSTRUMENTS_MAX]: z * sigma * sqrt(tau) of spot, for an account that is elsewhere too
    over: NDArray[np.float64]  # [2 levels, ASSETS_MAX]: the share that is over the asset's global cap
    paused: NDArray[np.float64]  # [CHAINS_MAX]: the share of the chain's credit that is not recognised now
    slip: NDArray[np.float64]  # [CHAINS_MAX]: measured cross-chain slippage


class ValueTerms(NamedTuple):
    """What of an instrument's or asset's value is not its mark. Derived from what was observed and the clock."""

    stable: NDArray[np.float64]  # [ASSETS_MAX]: delay-limited price, nan: none yet
    basis: NDArray[np.float64]  # [INSTRUMENTS_MAX]: price over the underlying's mark, less 1
    funding: NDArray[np.float64]  # [INSTRUMENTS_MAX]: accrued in this interval, as a share of the notional; longs pay
    debt_index: NDArray[np.float64]  # [INSTRUMENTS_MAX]: of loans, with interest accrued
    settled: NDArray[np.float64]  # [INSTRUMENTS_MAX]: settlement price of what has expired, nan: none


class Touched(NamedTuple):
    """What a frame changed. `*_state` arrays say which pieces of state were, the others which rows of the tables have to be made again."""

    asset: NDArray[np.bool_]
    group: NDArray[np.bool_]
    chain: NDArray[np.bool_]
    instrument: NDArray[np.bool_]  # in: an input of its own changed; out: its row, or a scan range of its groups, changed
    mark_state: NDArray[np.bool_]  # by asset
    moves_state: NDArray[np.bool_]  # by asset
    seldom: NDArray[np.bool_]  # all `*_state` that follow, end to end: whether any of them is set is asked of each frame
    chain_state: NDArray[np.bool_]  # by chain
    layer_state: NDArray[np.bool_]  # by messaging layer
    system_state: NDArray[np.bool_]  # [1]
    group_state: NDArray[np.bool_]  # by group
    slow_state: NDArray[np.bool_]  # by instrument
    settled_state: NDArray[np.bool_]  # by instrument
    breakers: NDArray[np.bool_]  # all of the following, end to end: whether any of them is set is asked of each frame
    move_breaker: NDArray[np.bool_]  # by asset: came into another state
    jump_breaker: NDArray[np.bool_]
    divergence_breaker: NDArray[np.bool_]
    eligibility_breaker: NDArray[np.bool_]
    lag_breaker: NDArray[np.bool_]  # by chain
    layer_breaker: NDArray[np.bool_]  # by messaging layer
    system_breaker: NDArray[np.bool_]  # [1]
    quarantine_breaker: NDArray[np.bool_]  # by chain


class TableSet(NamedTuple):
    """Risk tables with what their option rows were made from, so that a row is only made again when that changed."""

    tables: RiskTables
    option_inputs: NDArray[np.float64]  # [INSTRUMENTS_MAX, OPTION_INPUTS]
    row: NDArray[np.float64]  # [INSTRUMENT_FLOATS] scratch
    row_int: NDArray[np.int32]  # [INSTRUMENT_INTS] scratch


def new_settings(parameters: Parameters) -> Settings:
    classes = np.zeros((len(ASSET_CLASSES), CLASS_COLUMNS))
    ages = np.zeros((len(ASSET_CLASSES), 2), dtype=np.int64)
    for number, name in enumerate(ASSET_CLASSES):
        c = parameters.classes[name]
        classes[number] = (
            c.base_haircut,
            c.vol_coefficient,
            c.depeg_coefficient,
            c.size_coefficient,
            c.sigma_ref,
            c.sigma_floor,
            c.sigma_cap,
            c.scan_floor,
            c.scan_cap,
            c.depth_floor_usd,
            c.stable_rate,
            c.suspend_depth_usd,
            c.suspend_uptime,
        )
        ages[number] = (nanoseconds(c.max_age_s), nanoseconds(c.max_age_s * parameters.depth_age_multiple))
    return Settings(
        classes=classes,
        class_ages_ns=ages,
        quorum=parameters.quorum,
        mad_k=parameters.mad_k,
        mad_floor=parameters.mad_floor_bps * BPS,
        implied_max_age_ns=nanoseconds(parameters.implied_max_age_s),
        vol_min_step_ns=nanoseconds(parameters.vol_min_step_s),
        tau_fast_s=parameters.tau_fast_s,
        tau_slow_s=parameters.tau_slow_s,
        half_life_s=parameters.half_life_s,
        sigma_rise_per_hour=parameters.sigma_rise_per_hour,
        breakers_enabled=parameters.breakers_enabled,
        breaker_widen=parameters.breaker_widen,
        move_window_ns=nanoseconds(parameters.move_window_s),
        move_trip=parameters.move_trip,
        move_reset=parameters.move_reset,
        divergence_trip=parameters.divergence_trip,
        divergence_reset=parameters.divergence_reset,
        lag_trip_s=parameters.lag_trip_s,
        lag_reset_s=parameters.lag_reset_s,
        cooldown_ns=nanoseconds(parameters.cooldown_s),
        latency_z=parameters.latency_z,
        auction_s=parameters.auction_s,
        grid_steps=parameters.grid_steps,
        scan_k=parameters.scan_k,
        horizon_s=parameters.horizon_s,
        vol_shock=parameters.vol_shock,
        vol_shock_power=parameters.vol_shock_power,
        tenor_floor_s=parameters.tenor_floor_s,
        vol_min=parameters.vol_min,
        extreme_multiple=parameters.extreme_multiple,
        impact_coefficient=parameters.impact_coefficient,
        spread_floor_bps=parameters.spread_floor_bps,
        short_option_minimum=parameters.short_option_minimum,
        basis_share=np.array(parameters.basis_bps) * BPS,
        vega_shock=parameters.vega_shock,
        settlement_wait_ns=nanoseconds(parameters.settlement_wait_s),
        funding_max_age_ns=nanoseconds(parameters.funding_max_age_s),
        uptime_tau_s=parameters.uptime_tau_s,
        haircut_rise_per_hour=parameters.haircut_rise_per_hour,
        thin_rise_per_hour=parameters.thin_rise_per_hour,
        stress_rise_per_hour=parameters.stress_rise_per_hour,
        fear_half_life_s=parameters.fear_half_life_s,
        recognition_half_life_s=parameters.recognition_half_life_s,
        jump_trip=parameters.jump_trip,
        jump_reset=parameters.jump_reset,
        layer_share=parameters.layer_share,
        system_share=parameters.system_share,
    )


def nanoseconds(seconds: float) -> int:
    """To the nearest nanosecond."""
    return round(seconds * NS_PER_SECOND)


def new_depths() -> Depths:
    return Depths(np.zeros(ASSETS_MAX), np.zeros(ASSETS_MAX), np.full(ASSETS_MAX, NEVER_NS, dtype=np.int64))


def new_lags() -> Lags:
    return Lags(np.zeros(CHAINS_MAX, dtype=np.int64), np.full(CHAINS_MAX, NEVER_NS, dtype=np.int64))


def new_bounds() -> Bounds:
    return Bounds(np.full(ASSETS_MAX, math.nan), np.zeros(ASSETS_MAX, dtype=np.int32))


def new_inputs() -> RiskInputs:
    return RiskInputs(
        sigma=np.zeros((2, ASSETS_MAX)),
        depth_usd=np.zeros(ASSETS_MAX),
        spread_bps=np.zeros(ASSETS_MAX),
        route_s=np.zeros(CHAINS_MAX),
        option_sigma=np.full(INSTRUMENTS_MAX, math.nan),
        thin=np.ones((2, ASSETS_MAX)),
        stress=np.zeros((2, ASSETS_MAX)),
        flat=np.zeros((2, INSTRUMENTS_MAX)),
        latency=np.zeros((2, INSTRUMENTS_MAX)),
        over=np.zeros((2, ASSETS_MAX)),
        paused=np.zeros(CHAINS_MAX),
        slip=np.zeros(CHAINS_MAX),
    )


def new_value_terms() -> ValueTerms:
    return ValueTerms(
        stable=np.full(ASSETS_MAX, math.nan),
        basis=np.zeros(INSTRUMENTS_MAX),
        funding=np.zeros(INSTRUMENTS_MAX),
        debt_index=np.ones(INSTRUMENTS_MAX),
        settled=np.full(INSTRUMENTS_MAX, math.nan),
    )


def new_touched() -> Touched:
    def flags(count: int) -> NDArray[np.bool_]:
        return np.zeros(count, dtype=np.bool_)

    counts = (ASSETS_MAX, ASSETS_MAX, ASSETS_MAX, ASSETS_MAX, CHAINS_MAX, LAYERS_MAX, 1, CHAINS_MAX)
    breakers = flags(sum(counts))
    move, jump, divergence, eligibility, lag, layer, system, quarantine = np.split(breakers, np.cumsum(counts)[:-1])
    states = (CHAINS_MAX, LAYERS_MAX, 1, ASSETS_MAX, INSTRUMENTS_MAX, INSTRUMENTS_MAX)
    seldom = flags(sum(states))
    chain_state, layer_state, system_state, group_state, slow_state, settled_state = np.split(seldom, np.cumsum(states)[:-1])
    return Touched(
        asset=flags(ASSETS_MAX),
        group=flags(ASSETS_MAX),
        chain=flags(CHAINS_MAX),
        instrument=flags(INSTRUMENTS_MAX),
        mark_state=flags(ASSETS_MAX),
        moves_state=flags(ASSETS_MAX),
        seldom=seldom,
        chain_state=chain_state,
        layer_state=layer_state,
        system_state=system_state,
        group_state=group_state,
        slow_state=slow_state,
        settled_state=settled_state,
        breakers=breakers,
        move_breaker=move,
        jump_breaker=jump,
        divergence_breaker=divergence,
        eligibility_breaker=eligibility,
        lag_breaker=lag,
        layer_breaker=layer,
        system_breaker=system,
        quarantine_breaker=quarantine,
    )


def new_table_set() -> TableSet:
    return TableSet(
        tables=new_tables(),
        option_inputs=np.full((INSTRUMENTS_MAX, OPTION_INPUTS), math.nan),
        row=np.zeros(INSTRUMENT_FLOATS),
        row_int=np.zeros(INSTRUMENT_INTS, dtype=np.int32),
    )
