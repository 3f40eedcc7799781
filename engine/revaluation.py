"""From what was observed to the risk tables: the kernels that Market runs once a frame (docs/model.md, sections 2 to 5 and 7).

`advance_*` move state (volatility, breakers) and run once a frame; `derive_*` and `fill_*` are functions of the state and the clock alone,
so that running them in full after a restore gives the same bits as running them for what a frame touched.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine import breakers, volatility
from engine.breakers import CLOSED, Breakers, MoveSamples
from engine.jit import kernel
from engine.marks import NEVER_NS, SOURCES_APART, Marks, Observations, aggregate
from engine.parameters import ASSET_CLASSES, Parameters
from engine.pricing import black76_delta, black76_price, year_fraction
from engine.reasons import Unknown
from engine.scenarios import extreme_down, fill_option_scan, scan_range, volatility_shock
from engine.tables import (
    ASSET,
    ASSETS_MAX,
    CAP_USD,
    CASH_DELTA,
    CASH_UNKNOWN,
    CASH_VALUE,
    CASH_VOL_HAIRCUT,
    CHAIN,
    CHAINS_MAX,
    CONTRACT,
    COST_RATE,
    DELTA_LONG,
    DELTA_SHORT,
    ELIGIBLE,
    EXTREME_DOWN,
    EXTREME_UP,
    GROUP,
    GROUP_FLOATS,
    HAIRCUT_FLAT,
    HAIRCUT_STEP,
    IMPACT,
    INSTRUMENT_FLOATS,
    INSTRUMENT_INTS,
    INSTRUMENTS_MAX,
    INVERSE_PERPETUAL,
    LATENCY,
    LEVELS_DIFFER,
    LOAN,
    NOTIONAL,
    OPTION,
    OPTION_DELTA,
    QUOTE,
    QUOTE_GROUP,
    SCAN,
    SCAN_ROW,
    SIZE,
    SPOT,
    UNIT_LONG,
    UNIT_SHORT,
    UNIT_UNKNOWN,
    VENUE,
    VOL_HAIRCUT,
    RiskTables,
    new_tables,
)
from engine.universe import AssetArrays, ChainArrays, InstrumentArrays
from engine.volatility import NS_PER_SECOND, SECONDS_PER_YEAR, ImpliedVolatilities, Volatilities

NO_VOLATILITY: Final = int(Unknown.NO_VOLATILITY)
NOT_DEFINED: Final = int(Unknown.NOT_DEFINED)
EXPIRED: Final = int(Unknown.EXPIRED)
DEPTH_MIN_USD: Final = 1.0  # an observed depth of nothing still divides

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


class Touched(NamedTuple):
    """What a frame changed. `*_state` arrays say which pieces of state were, the others which rows of the tables have to be made again."""

    asset: NDArray[np.bool_]
    group: NDArray[np.bool_]
    chain: NDArray[np.bool_]
    instrument: NDArray[np.bool_]  # in: an input of its own changed; out: its row, or a scan range of its groups, changed
    mark_state: NDArray[np.bool_]  # by asset
    moves_state: NDArray[np.bool_]  # by asset
    lag_state: NDArray[np.bool_]  # by chain
    move_breaker: NDArray[np.bool_]  # by asset: came into another state
    divergence_breaker: NDArray[np.bool_]
    lag_breaker: NDArray[np.bool_]  # by chain


class TableSet(NamedTuple):
    """Risk tables with what their option rows were made from, so that a row is only made again when that changed."""

    tables: RiskTables
    option_inputs: NDArray[np.float64]  # [INSTRUMENTS_MAX, OPTION_INPUTS]
    row: NDArray[np.float64]  # [INSTRUMENT_FLOATS] scratch
    row_int: NDArray[np.int32]  # [INSTRUMENT_INTS] scratch


def new_settings(parameters: Parameters) -> Settings:
    classes = np.zeros((len(ASSET_CLASSES), 10))
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
        )
        ages[number] = (nanoseconds(c.max_age_s), nanoseconds(c.max_age_s * parameters.depth_age_multiple))
    return Settings(
        classes=classes,
        class_ages_ns=ages,
        quorum=parameters.quorum,
        mad_k=parameters.mad_k,
        mad_floor=parameters.mad_floor_bps * 1e-4,
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
    )


def new_touched() -> Touched:
    def flags(count: int) -> NDArray[np.bool_]:
        return np.zeros(count, dtype=np.bool_)

    return Touched(
        asset=flags(ASSETS_MAX),
        group=flags(ASSETS_MAX),
        chain=flags(CHAINS_MAX),
        instrument=flags(INSTRUMENTS_MAX),
        mark_state=flags(ASSETS_MAX),
        moves_state=flags(ASSETS_MAX),
        lag_state=flags(CHAINS_MAX),
        move_breaker=flags(ASSETS_MAX),
        divergence_breaker=flags(ASSETS_MAX),
        lag_breaker=flags(CHAINS_MAX),
    )


def new_table_set() -> TableSet:
    return TableSet(
        tables=new_tables(),
        option_inputs=np.full((INSTRUMENTS_MAX, OPTION_INPUTS), math.nan),
        row=np.zeros(INSTRUMENT_FLOATS),
        row_int=np.zeros(INSTRUMENT_INTS, dtype=np.int32),
    )


# ---- kernels: marks and breakers ------------------------------------------------------------------------------------------------------


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


# ---- kernels: inputs ------------------------------------------------------------------------------------------------------------------


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


# ---- kernels: tables ------------------------------------------------------------------------------------------------------------------


@kernel
def fill_groups(
    count: int,
    group_assets: NDArray[np.int64],
    assets: AssetArrays,
    inputs: RiskInputs,
    settings: Settings,
    tables: RiskTables,
    touched: Touched,
) -> None:
    """Scan ranges of all groups, at both levels."""
    for g in range(count):
        a = group_assets[g]
        asset_class = assets.asset_class[a]
        for level in range(2):
            sigma = inputs.sigma[level, a]
            scan = scan_range(
                sigma,
                settings.scan_k,
                settings.horizon_s,
                settings.classes[asset_class, SCAN_FLOOR],
                settings.classes[asset_class, SCAN_CAP],
            )
            step = min(1.0, _volatility_haircut(asset_class, sigma, settings) / scan)
            row = tables.group_float[level, g]
            up = settings.extreme_multiple * scan
            down = extreme_down(settings.extreme_multiple, scan)
            if scan != row[SCAN] or step != row[HAIRCUT_STEP] or up != row[EXTREME_UP] or down != row[EXTREME_DOWN]:
                row[SCAN] = scan
                row[EXTREME_UP] = up
                row[EXTREME_DOWN] = down
                row[HAIRCUT_STEP] = step
                touched.group[g] = True


@kernel
def fill_instruments(
    count: int,
    everything: bool,
    live: bool,
    now_ns: int,
    terms: InstrumentArrays,
    assets: AssetArrays,
    chains: ChainArrays,
    fee_bps: NDArray[np.float64],
    interest_index: NDArray[np.float64],
    marks: Marks,
    bounds: Bounds,
    inputs: RiskInputs,
    settings: Settings,
    set_: TableSet,
    touched: Touched,
) -> None:
    """Rows of the instruments whose inputs were touched (or of all); `touched.instrument` says afterwards whose accounts are concerned."""
    ints = set_.tables.instrument_int
    floats = set_.tables.instrument_float
    for i in range(count):
        a = terms.underlying[i]
        q = terms.quote[i]
        group = assets.group[a]
        quote_group = assets.group[q]
        ranges = (group >= 0 and touched.group[group]) or (quote_group >= 0 and touched.group[quote_group])
        if not (everything or ranges or touched.instrument[i] or touched.asset[a] or touched.asset[q] or touched.chain[terms.chain[i]]):
            continue
        set_.row[:] = 0.0
        set_.row_int[:] = 0
        set_.row_int[CONTRACT] = terms.contract[i]
        set_.row_int[ASSET] = a
        set_.row_int[QUOTE] = q
        set_.row_int[GROUP] = group
        set_.row_int[QUOTE_GROUP] = quote_group
        set_.row_int[CHAIN] = terms.chain[i]
        set_.row_int[VENUE] = terms.venue[i]
        set_.row_int[SCAN_ROW] = -1
        if live:
            _value_instrument(i, now_ns, terms, interest_index, marks, bounds, inputs, set_)
            _burden_instrument(i, terms, assets, chains, fee_bps, marks, bounds, inputs, settings, set_)
        else:
            set_.row_int[UNIT_UNKNOWN] = NOT_DEFINED
            set_.row_int[CASH_UNKNOWN] = NOT_DEFINED
        changed = ranges
        if set_.row_int[SCAN_ROW] >= 0 and _scan_option(i, now_ns, terms, marks, inputs, settings, set_, group):
            changed = True
        for k in range(INSTRUMENT_INTS):
            if ints[i, k] != set_.row_int[k]:
                ints[i, k] = set_.row_int[k]
                changed = True
        for k in range(INSTRUMENT_FLOATS):
            if floats[i, k] != set_.row[k]:
                floats[i, k] = set_.row[k]
                changed = True
        touched.instrument[i] = changed


@kernel
def _value_instrument(
    i: int,
    now_ns: int,
    terms: InstrumentArrays,
    interest_index: NDArray[np.float64],
    marks: Marks,
    bounds: Bounds,
    inputs: RiskInputs,
    set_: TableSet,
) -> None:
    """What a lot and a cash unit are worth, and what is missing to say so (then 0)."""
    row = set_.row
    a = terms.underlying[i]
    q = terms.quote[i]
    contract = terms.contract[i]
    lot_size = terms.lot_size[i]
    unknown = marks.status[a]
    if contract == SPOT or contract == LOAN:
        unknown = _lowest(unknown, bounds.status[a])
    if contract >= OPTION:
        if terms.expiry_ns[i] <= now_ns:
            unknown = _lowest(unknown, EXPIRED)
        elif math.isnan(inputs.option_sigma[i]):
            unknown = _lowest(unknown, NO_VOLATILITY)
    set_.row_int[UNIT_UNKNOWN] = unknown
    set_.row_int[CASH_UNKNOWN] = marks.status[q]
    if marks.status[q] == 0:
        row[CASH_VALUE] = terms.cash_unit[i] * marks.mark[q]
        if set_.row_int[QUOTE_GROUP] >= 0:
            row[CASH_DELTA] = row[CASH_VALUE]
    if marks.status[a] == 0:
        row[NOTIONAL] = lot_size if contract == INVERSE_PERPETUAL else lot_size * marks.mark[a]
    if unknown != 0:
        return
    mark = marks.mark[a]
    low = mark
    high = mark
    if not math.isnan(bounds.bound[a]):
        low = min(mark, bounds.bound[a])
        high = max(mark, bounds.bound[a])
    if contract >= OPTION:
        sigma = inputs.option_sigma[i]
        t_years = year_fraction(now_ns, terms.expiry_ns[i])
        unit = lot_size * black76_price(mark, terms.strike[i], sigma, t_years, terms.is_call[i], 1.0)
        row[UNIT_LONG] = unit
        row[UNIT_SHORT] = unit
        row[OPTION_DELTA] = lot_size * (black76_delta(mark, terms.strike[i], sigma, t_years, terms.is_call[i], 1.0) * mark)
        set_.row_int[SCAN_ROW] = i
        return
    if contract == INVERSE_PERPETUAL:
        row[UNIT_LONG] = -lot_size
        row[UNIT_SHORT] = -lot_size
        return
    if contract == SPOT:
        row[UNIT_LONG] = lot_size * low
        row[UNIT_SHORT] = lot_size * high
    elif contract == LOAN:
        row[UNIT_LONG] = lot_size * interest_index[i] * high
        row[UNIT_SHORT] = row[UNIT_LONG]
    else:
        row[UNIT_LONG] = lot_size * mark
        row[UNIT_SHORT] = row[UNIT_LONG]
    row[DELTA_LONG] = row[UNIT_LONG]
    row[DELTA_SHORT] = row[UNIT_SHORT]


@kernel
def _burden_instrument(
    i: int,
    terms: InstrumentArrays,
    assets: AssetArrays,
    chains: ChainArrays,
    fee_bps: NDArray[np.float64],
    marks: Marks,
    bounds: Bounds,
    inputs: RiskInputs,
    settings: Settings,
    set_: TableSet,
) -> None:
    """Haircut terms, volatility haircuts and closing costs."""
    row = set_.row
    a = terms.underlying[i]
    q = terms.quote[i]
    j = terms.chain[i]
    asset_class = assets.asset_class[a]
    quote_class = assets.asset_class[q]
    root_depth = math.sqrt(inputs.depth_usd[a])
    row[CAP_USD] = assets.cap_usd[a]
    if (assets.eligible_chains[a] >> np.int64(j)) & 1 != 0:
        set_.row_int[ELIGIBLE] = 1
    depeg = 0.0
    if marks.status[a] == 0 and not math.isnan(bounds.bound[a]):
        depeg = settings.classes[asset_class, DEPEG] * max(0.0, bounds.bound[a] / marks.mark[a] - 1.0)
    row[HAIRCUT_FLAT] = settings.classes[asset_class, BASE] + chains.security_premium[j] + depeg
    row[SIZE] = settings.classes[asset_class, SIZE_COEFFICIENT] / root_depth
    tau = (inputs.route_s[j] + assets.redemption_delay_s[a]) / SECONDS_PER_YEAR
    differ = False
    for level in range(2):
        row[LATENCY + level] = settings.latency_z * inputs.sigma[level, a] * math.sqrt(tau)
        row[VOL_HAIRCUT + level] = _volatility_haircut(asset_class, inputs.sigma[level, a], settings)
        row[CASH_VOL_HAIRCUT + level] = _volatility_haircut(quote_class, inputs.sigma[level, q], settings)
    if row[LATENCY] != row[LATENCY + 1] or row[VOL_HAIRCUT] != row[VOL_HAIRCUT + 1] or row[CASH_VOL_HAIRCUT] != row[CASH_VOL_HAIRCUT + 1]:
        differ = True
    for side in range(2):
        group = set_.row_int[GROUP + side]
        if group >= 0:
            for k in range(GROUP_FLOATS):
                if set_.tables.group_float[0, group, k] != set_.tables.group_float[1, group, k]:
                    differ = True
    set_.row_int[LEVELS_DIFFER] = 1 if differ else 0
    if terms.contract[i] != LOAN and assets.group[a] >= 0:
        row[COST_RATE] = (0.5 * inputs.spread_bps[a] + fee_bps[terms.venue[i]]) * 1e-4
        row[IMPACT] = settings.impact_coefficient / root_depth


@kernel
def _scan_option(
    i: int, now_ns: int, terms: InstrumentArrays, marks: Marks, inputs: RiskInputs, settings: Settings, set_: TableSet, group: int
) -> bool:
    """Make an option's scan rows, both levels, again if what they are made from changed; whether it did."""
    made_from = set_.option_inputs[i]
    forward = marks.mark[terms.underlying[i]]
    sigma = inputs.option_sigma[i]
    t_years = year_fraction(now_ns, terms.expiry_ns[i])
    low = set_.tables.group_float[0, group, SCAN]
    high = set_.tables.group_float[1, group, SCAN]
    if forward == made_from[0] and sigma == made_from[1] and t_years == made_from[2] and low == made_from[3] and high == made_from[4]:
        return False
    made_from[0] = forward
    made_from[1] = sigma
    made_from[2] = t_years
    made_from[3] = low
    made_from[4] = high
    shock = volatility_shock(t_years, settings.vol_shock, settings.vol_shock_power, settings.tenor_floor_s)
    for level in range(2):
        row = set_.tables.option_scan[level, i]
        if level == 1 and low == high:
            row[:] = set_.tables.option_scan[0, i]
            break
        fill_option_scan(
            forward,
            terms.strike[i],
            sigma,
            t_years,
            terms.is_call[i],
            terms.lot_size[i],
            set_.tables.group_float[level, group, SCAN],
            settings.grid_steps,
            settings.extreme_multiple,
            shock,
            settings.vol_min,
            row,
        )
    return True


@kernel
def _volatility_haircut(asset_class: int, sigma: float, settings: Settings) -> float:
    return float(settings.classes[asset_class, VOL_COEFFICIENT] * max(0.0, sigma - settings.classes[asset_class, SIGMA_REF]))


@kernel
def _lowest(code: int, other: int) -> int:
    """The lower of two Unknown codes, where 0 means none."""
    if code == 0:
        return other
    return code if other == 0 else min(code, other)
