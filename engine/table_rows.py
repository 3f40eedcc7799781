"""From marks and risk inputs to the rows of the risk tables (docs/model.md, sections 3 to 5).

Each row is a function of its inputs alone, and says whether it changed, so that only accounts that are concerned are valued again.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.jit import kernel
from engine.market_arrays import (
    DEPEG,
    SCAN_CAP,
    SCAN_FLOOR,
    SIGMA_REF,
    SIZE_COEFFICIENT,
    VOL_COEFFICIENT,
    Bounds,
    RiskInputs,
    Settings,
    TableSet,
    Touched,
    ValueTerms,
)
from engine.marks import Marks
from engine.parameters import BPS
from engine.pricing import black76_delta, black76_price, black76_vega, year_fraction
from engine.reasons import Unknown
from engine.scenarios import extreme_down, fill_option_scan, scan_range, tenor_band, volatility_shock
from engine.tables import (
    ASSET,
    BAND,
    BASIS_CHARGE,
    CAP_USD,
    CASH_DELTA,
    CASH_UNKNOWN,
    CASH_VALUE,
    CASH_VOL_HAIRCUT,
    CHAIN,
    CONTRACT,
    COST_RATE,
    DELTA_LONG,
    DELTA_SHORT,
    ELIGIBLE,
    EXPOSURE,
    EXTREME_DOWN,
    EXTREME_UP,
    FUTURE,
    GAP_DOWN,
    GAP_UP,
    GROUP,
    GROUP_FLOATS,
    HAIRCUT_FLAT,
    HAIRCUT_STEP,
    IMPACT,
    INSTRUMENT_FLOATS,
    INSTRUMENT_INTS,
    INVERSE_FUTURE,
    INVERSE_OPTION,
    INVERSE_PERPETUAL,
    IS_DERIVATIVE,
    LATENCY,
    LEVELS_DIFFER,
    LOAN,
    NOTIONAL,
    OPTION,
    OPTION_DELTA,
    ORDER_DELTA,
    PERPETUAL,
    QUOTE,
    QUOTE_GROUP,
    RECOGNISED,
    SCAN,
    SCAN_ROW,
    SHORT_MINIMUM,
    SIZE,
    SPOT,
    STABLE_LONG,
    STABLE_SHORT,
    TAKES_ORDERS,
    THIN,
    UNIT_LONG,
    UNIT_SHORT,
    UNIT_UNKNOWN,
    VEGA_CHARGE,
    VENUE,
    VOL_HAIRCUT,
    RiskTables,
)
from engine.universe import AssetArrays, InstrumentArrays

NO_VOLATILITY: Final = int(Unknown.NO_VOLATILITY)
NOT_DEFINED: Final = int(Unknown.NOT_DEFINED)
EXPIRED: Final = int(Unknown.EXPIRED)


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
            thin = inputs.thin[level, a]
            moved = scan != row[SCAN] or step != row[HAIRCUT_STEP] or up != row[EXTREME_UP] or down != row[EXTREME_DOWN]
            if moved or thin != row[THIN]:
                row[THIN] = thin
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
    fee_bps: NDArray[np.float64],
    values: ValueTerms,
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
        set_.row_int[BAND] = -1
        expired = terms.contract[i] >= FUTURE and terms.expiry_ns[i] <= now_ns
        if terms.contract[i] >= PERPETUAL and not expired:
            set_.row_int[IS_DERIVATIVE] = 1
        if terms.contract[i] != LOAN and not expired:
            set_.row_int[TAKES_ORDERS] = 1
        if live:
            _value_instrument(i, now_ns, terms, values, marks, bounds, inputs, settings, set_)
            _burden_instrument(i, terms, assets, fee_bps, marks, bounds, inputs, settings, set_)
        else:
            set_.row_int[UNIT_UNKNOWN] = NOT_DEFINED
            set_.row_int[CASH_UNKNOWN] = NOT_DEFINED
        changed = ranges
        if set_.row_int[SCAN_ROW] >= 0:
            if _scan_option(i, now_ns, terms, marks, inputs, settings, set_, group):
                changed = True
            _find_curvature(i, settings, set_, group)
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
    values: ValueTerms,
    marks: Marks,
    bounds: Bounds,
    inputs: RiskInputs,
    settings: Settings,
    set_: TableSet,
) -> None:
    """What a lot and a cash unit are worth, and what is missing to say so (then 0)."""
    row = set_.row
    a = terms.underlying[i]
    q = terms.quote[i]
    contract = terms.contract[i]
    lot_size = terms.lot_size[i]
    inverse = contract == INVERSE_PERPETUAL or contract == INVERSE_FUTURE
    expired = contract >= FUTURE and terms.expiry_ns[i] <= now_ns
    unknown = marks.status[a]
    if contract == SPOT or contract == LOAN:
        unknown = _lowest(unknown, bounds.status[a])
    if expired:
        if now_ns - terms.expiry_ns[i] >= settings.settlement_wait_ns:
            unknown = _lowest(unknown, EXPIRED)
    elif contract >= OPTION and math.isnan(inputs.option_sigma[i]):
        unknown = _lowest(unknown, NO_VOLATILITY)
    set_.row_int[UNIT_UNKNOWN] = unknown
    set_.row_int[CASH_UNKNOWN] = marks.status[q]
    if marks.status[q] == 0:
        row[CASH_VALUE] = terms.cash_unit[i] * marks.mark[q]
        if set_.row_int[QUOTE_GROUP] >= 0:
            row[CASH_DELTA] = row[CASH_VALUE]
    if marks.status[a] == 0:
        row[NOTIONAL] = lot_size if inverse else lot_size * marks.mark[a]
    if unknown != 0:
        return
    mark = marks.mark[a]
    bound = bounds.bound[a]
    sigma = inputs.option_sigma[i]
    row[UNIT_LONG] = lot_value(i, True, mark, bound, now_ns, sigma, values, terms)
    row[UNIT_SHORT] = row[UNIT_LONG]
    if contract == SPOT or contract == LOAN:
        row[UNIT_SHORT] = lot_value(i, False, mark, bound, now_ns, sigma, values, terms)
    row[STABLE_LONG] = 1.0
    row[STABLE_SHORT] = 1.0
    if expired:
        if contract == INVERSE_OPTION or contract == INVERSE_FUTURE:  # no risk but that of the coin that it is owed in
            row[DELTA_LONG] = row[UNIT_LONG]
            row[DELTA_SHORT] = row[UNIT_SHORT]
        return
    if contract >= OPTION:
        _slope_option(i, now_ns, mark, terms, inputs, settings, set_)
        return
    if contract == SPOT or contract == LOAN:
        stable = values.stable[a]
        if not math.isnan(stable):
            low = _lowest_price(mark, bound)
            high = _highest_price(mark, bound)
            row[STABLE_LONG] = min(low, stable) / low
            row[STABLE_SHORT] = max(high, stable) / high
        if contract == SPOT:
            row[ORDER_DELTA] = row[UNIT_SHORT]
        row[DELTA_LONG] = row[UNIT_LONG]
        row[DELTA_SHORT] = row[UNIT_SHORT]
        return
    if inverse:
        row[ORDER_DELTA] = lot_size / (1.0 + values.basis[i])
        row[BASIS_CHARGE] = lot_size
    else:
        row[DELTA_LONG] = lot_size * mark * (1.0 + values.basis[i])
        row[DELTA_SHORT] = row[DELTA_LONG]
        row[ORDER_DELTA] = row[DELTA_LONG]
        row[BASIS_CHARGE] = row[DELTA_LONG]
    row[EXPOSURE] = row[NOTIONAL]
    band = 0
    if contract >= FUTURE:
        band = tenor_band(year_fraction(now_ns, terms.expiry_ns[i]))
    set_.row_int[BAND] = band
    row[BASIS_CHARGE] *= settings.basis_share[band]


@kernel
def _lowest_price(mark: float, bound: float) -> float:
    return mark if math.isnan(bound) else min(mark, bound)


@kernel
def _highest_price(mark: float, bound: float) -> float:
    return mark if math.isnan(bound) else max(mark, bound)


@kernel
def lot_value(
    i: int, is_held: bool, mark: float, bound: float, now_ns: int, sigma: float, values: ValueTerms, terms: InstrumentArrays
) -> float:
    """USD of one lot at any known mark of its underlying (docs/model.md, section 3).

    `is_held`: not owed, which decides between mark and redemption `bound` (nan: none) of spot, and is worth nothing of a loan; `sigma` of
    options.
    """
    contract = terms.contract[i]
    lot_size = terms.lot_size[i]
    if contract == SPOT:
        return float(lot_size * (_lowest_price(mark, bound) if is_held else _highest_price(mark, bound)))
    if contract == LOAN:
        if is_held:
            return 0.0  # repaid beyond what was owed: no balance that anybody vouches for
        return float(lot_size * values.debt_index[i] * _highest_price(mark, bound))
    if contract >= FUTURE and terms.expiry_ns[i] <= now_ns:
        return _value_of_expired(i, mark, values.settled[i], terms)
    if contract >= OPTION:
        t_years = year_fraction(now_ns, terms.expiry_ns[i])
        return float(lot_size * black76_price(mark, terms.strike[i], sigma, t_years, terms.is_call[i], 1.0))
    if contract == INVERSE_PERPETUAL or contract == INVERSE_FUTURE:
        return float(-(lot_size / (1.0 + values.basis[i])) - lot_size * values.funding[i])
    return float(lot_size * mark * (1.0 + values.basis[i]) - lot_size * mark * values.funding[i])


@kernel
def _value_of_expired(i: int, mark: float, settled: float, terms: InstrumentArrays) -> float:
    """USD of a lot of what has expired: what it was at its settlement price, in coin where it is owed in coin."""
    contract = terms.contract[i]
    worth = terms.lot_size[i]
    if contract >= OPTION:
        inner = settled - terms.strike[i] if terms.is_call[i] else terms.strike[i] - settled
        worth *= max(inner, 0.0)
    elif contract == FUTURE:
        worth *= settled
    if contract == INVERSE_OPTION:
        return float(worth * mark / settled)
    if contract == INVERSE_FUTURE:
        return float(-worth * mark / settled)
    return float(worth)


@kernel
def _slope_option(
    i: int, now_ns: int, mark: float, terms: InstrumentArrays, inputs: RiskInputs, settings: Settings, set_: TableSet
) -> None:
    row = set_.row
    lot_size = terms.lot_size[i]
    strike = terms.strike[i]
    sigma = inputs.option_sigma[i]
    t_years = year_fraction(now_ns, terms.expiry_ns[i])
    row[OPTION_DELTA] = lot_size * (black76_delta(mark, strike, sigma, t_years, terms.is_call[i], 1.0) * mark)
    row[EXPOSURE] = abs(row[OPTION_DELTA])
    row[ORDER_DELTA] = row[OPTION_DELTA]
    row[SHORT_MINIMUM] = settings.short_option_minimum * row[NOTIONAL]
    band = tenor_band(t_years)
    set_.row_int[BAND] = band
    row[BASIS_CHARGE] = row[OPTION_DELTA] * settings.basis_share[band]
    shock = volatility_shock(t_years, settings.vega_shock, settings.vol_shock_power, settings.tenor_floor_s)
    row[VEGA_CHARGE] = lot_size * black76_vega(mark, strike, sigma, t_years, 1.0) * shock
    set_.row_int[SCAN_ROW] = i


@kernel
def _find_curvature(i: int, settings: Settings, set_: TableSet, group: int) -> None:
    """What curvature loses in the extremes: the scan rows without their tangent."""
    row = set_.row
    up = 2 * (2 * settings.grid_steps + 1)
    for level in range(2):
        scan = set_.tables.option_scan[level, i]
        ranges = set_.tables.group_float[level, group]
        row[GAP_UP + level] = -(scan[up] - row[OPTION_DELTA] * ranges[EXTREME_UP])
        row[GAP_DOWN + level] = -(scan[up + 1] + row[OPTION_DELTA] * ranges[EXTREME_DOWN])


@kernel
def _burden_instrument(
    i: int,
    terms: InstrumentArrays,
    assets: AssetArrays,
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
    row[CAP_USD] = assets.cap_usd[a]
    if (assets.eligible_chains[a] >> np.int64(j)) & 1 != 0:
        set_.row_int[ELIGIBLE] = 1
    depeg = 0.0
    if marks.status[a] == 0 and not math.isnan(bounds.bound[a]):
        depeg = settings.classes[asset_class, DEPEG] * max(0.0, bounds.bound[a] / marks.mark[a] - 1.0)
    differ = False
    for level in range(2):
        row[HAIRCUT_FLAT + level] = inputs.flat[level, i] + depeg
        row[LATENCY + level] = max(inputs.latency[level, i], inputs.slip[j])
        row[SIZE + level] = settings.classes[asset_class, SIZE_COEFFICIENT] * inputs.thin[level, a]
        row[RECOGNISED + level] = (1.0 - inputs.over[level, a]) * (1.0 - inputs.paused[j])
        row[VOL_HAIRCUT + level] = _volatility_haircut(asset_class, inputs.sigma[level, a], settings)
        row[CASH_VOL_HAIRCUT + level] = _volatility_haircut(quote_class, inputs.sigma[level, q], settings)
    for first in (VOL_HAIRCUT, CASH_VOL_HAIRCUT):
        if row[first] != row[first + 1]:
            differ = True
    for side in range(2):
        group = set_.row_int[GROUP + side]
        if group >= 0:
            if inputs.stress[0, group] != inputs.stress[1, group]:
                differ = True
            for k in range(GROUP_FLOATS):
                if set_.tables.group_float[0, group, k] != set_.tables.group_float[1, group, k]:
                    differ = True
    set_.row_int[LEVELS_DIFFER] = 1 if differ else 0
    if set_.row_int[TAKES_ORDERS] != 0 and assets.group[a] >= 0:
        row[COST_RATE] = (0.5 * inputs.spread_bps[a] + fee_bps[terms.venue[i]]) * BPS
        row[IMPACT] = settings.impact_coefficient / math.sqrt(inputs.depth_usd[a])


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
