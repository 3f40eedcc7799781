"""What a set of positions can lose: joint scenarios under three correlation regimes, and the add-ons (docs/model.md, section 5).

One account is prepared once (`hold_groups`), then divided into the parts of a mode (`divide`), and each part is asked for its requirement.
All of it works in the scratch space of the tables. Mode by mode the scenarios are the same, and what is summed over parts is a maximum or
a norm of fixed linear forms: netting never makes it larger.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.jit import kernel
from engine.tables import (
    BAND,
    BASIS,
    BASIS_ADD_ON,
    BASIS_CHARGE,
    BUY,
    CASH_DELTA,
    CASH_VOL_HAIRCUT,
    CONCENTRATION_K,
    CORRELATION_HIGH,
    CORRELATION_LOW,
    CURVATURE_DOWN,
    CURVATURE_UP,
    DELTA_LONG,
    DELTA_SHORT,
    DELTA_SUM,
    EXPOSURE,
    EXTREME_DOWN,
    EXTREME_FRACTION,
    EXTREME_UP,
    GAP_ADD_ON,
    GAP_DOWN,
    GAP_FRACTION,
    GAP_UP,
    GRID_STEPS,
    GROSS,
    GROUP,
    HAIRCUT_LOSS,
    HAIRCUT_STEP,
    HELD_CURVED,
    HELD_GROUP,
    HIGH,
    IS_DERIVATIVE,
    IS_STRESSED,
    LIMITED,
    NOTIONAL,
    OBSERVED,
    OPTION_DELTA,
    ORDER_DELTA,
    PIECES,
    PROFIT,
    QUOTE_GROUP,
    REGIME_NAMES,
    REGIMES,
    SCAN,
    SCAN_LOSS,
    SCAN_ROW,
    SCANNED,
    SELL,
    SHORT_MINIMUM,
    SHORT_OPTIONS,
    SLOT_GROUP,
    SLOT_PART,
    SLOT_QUOTE_GROUP,
    TAKES_ORDERS,
    TENOR_BANDS,
    THIN,
    VEGA,
    VEGA_ADD_ON,
    VEGA_CHARGE,
    VENUE,
    VOL_HAIRCUT,
    RiskTables,
)

# Modes, in the order of parameters.MODES; 1, by protocol, is what is neither of these.
ISOLATED: Final = 0
PORTFOLIO: Final = 2

# The binding scenario is driver group * SCENARIO_BASE + regime * REGIME_BASE + scan column (or HAIRCUT_SCENARIO).
SCENARIO_BASE: Final = 256
REGIME_BASE: Final = 64
HAIRCUT_SCENARIO: Final = 60
NO_SCENARIO: Final = -1.0  # nothing can be lost, or the mode sums several


def binding_regime(driver: float) -> str:
    """The regime of correlations in the scenario behind a code; "" where there is no scenario."""
    return REGIME_NAMES[int(driver) % SCENARIO_BASE // REGIME_BASE] if driver >= 0.0 else ""


# ---- an account is prepared ----------------------------------------------------------------------------------------------------------


@kernel(inline=True)
def is_ordered(slot: int, instrument: int, pending: NDArray[np.int64], ints: NDArray[np.int32]) -> bool:
    """Whether there are open orders in a slot that count."""
    return bool((pending[slot, BUY] | pending[slot, SELL]) != 0 and ints[instrument, TAKES_ORDERS] != 0)


@kernel(inline=True)
def middle_lots(slot: int, pending: NDArray[np.int64]) -> float:
    """Lots by which open orders move a position on average; what may become of it lies `reach_lots` on either side of that."""
    return 0.5 * (float(pending[slot, BUY]) - float(pending[slot, SELL]))


@kernel(inline=True)
def reach_lots(slot: int, pending: NDArray[np.int64]) -> float:
    """Half of what lies between the position with all its sells and the one with all its buys filled."""
    return 0.5 * (float(pending[slot, BUY]) + float(pending[slot, SELL]))


@kernel(inline=True)
def _hold(group: int, held: int, tables: RiskTables) -> int:
    """Insert a group into the increasing list of those held, if it isn't there; the new length."""
    if group < 0 or tables.place[group] != 0:
        return held
    tables.place[group] = 1
    marks = tables.scratch_int
    at = held
    while at > 0 and marks[at - 1, HELD_GROUP] > group:
        marks[at, HELD_GROUP] = marks[at - 1, HELD_GROUP]
        at -= 1
    marks[at, HELD_GROUP] = group
    return held + 1


@kernel(inline=True)
def hold_groups(
    count: int,
    instrument: NDArray[np.int32],
    quantity: NDArray[np.int64],
    cash: NDArray[np.int64],
    has_pending: bool,
    pending: NDArray[np.int64],
    tables: RiskTables,
) -> int:
    """Which groups the account holds, increasing, where each slot's are among them, and its derivatives by group; how many groups."""
    ints = tables.instrument_int
    floats = tables.instrument_float
    sums = tables.scratch
    marks = tables.scratch_int
    place = tables.place
    held = 0
    for slot in range(count):
        i = instrument[slot]
        if quantity[slot] != 0 or (has_pending and is_ordered(slot, i, pending, ints)):
            held = _hold(ints[i, GROUP], held, tables)
        if cash[slot] != 0:
            held = _hold(ints[i, QUOTE_GROUP], held, tables)
    for g in range(held):
        sums[g, GROSS] = 0.0
        sums[g, LIMITED] = 0.0
        place[marks[g, HELD_GROUP]] = g + 1
    for slot in range(count):
        i = instrument[slot]
        marks[slot, SLOT_GROUP] = -1
        marks[slot, SLOT_QUOTE_GROUP] = -1
        if ints[i, QUOTE_GROUP] >= 0 and cash[slot] != 0:
            marks[slot, SLOT_QUOTE_GROUP] = place[ints[i, QUOTE_GROUP]] - 1
        if ints[i, GROUP] < 0 or (quantity[slot] == 0 and not (has_pending and is_ordered(slot, i, pending, ints))):
            continue
        g = place[ints[i, GROUP]] - 1
        marks[slot, SLOT_GROUP] = g
        if ints[i, IS_DERIVATIVE] != 0:
            lots = abs(float(quantity[slot]))
            sums[g, LIMITED] += lots * floats[i, NOTIONAL]
            if has_pending and is_ordered(slot, i, pending, ints):
                lots = abs(float(quantity[slot]) + middle_lots(slot, pending)) + reach_lots(slot, pending)
            sums[g, GROSS] += lots * floats[i, EXPOSURE]
    for g in range(held):
        place[marks[g, HELD_GROUP]] = 0
    return held


@kernel(inline=True)
def divide(count: int, instrument: NDArray[np.int32], mode: int, tables: RiskTables) -> int:
    """Number each slot's part in a mode (all one, by venue, by slot), into the integer scratch; how many parts there are."""
    ints = tables.instrument_int
    marks = tables.scratch_int
    parts = 1
    if mode == PORTFOLIO:
        for slot in range(count):
            marks[slot, SLOT_PART] = 0
    elif mode == ISOLATED:
        parts = count
        for slot in range(count):
            marks[slot, SLOT_PART] = slot
    else:
        parts = 0
        for slot in range(count):
            part = parts
            for earlier in range(slot):
                if ints[instrument[earlier], VENUE] == ints[instrument[slot], VENUE]:
                    part = marks[earlier, SLOT_PART]
                    break
            marks[slot, SLOT_PART] = part
            parts = max(parts, part + 1)
    return parts


# ---- what it has to hold -------------------------------------------------------------------------------------------------------------


@kernel(inline=True)
def add_on_of_size(
    count: int,
    instrument: NDArray[np.int32],
    cash: NDArray[np.int64],
    has_pending: bool,
    pending: NDArray[np.int64],
    tables: RiskTables,
    held: int,
    level: int,
) -> float:
    """Concentration of the whole account, the same in every mode: x times the depth takes x times as long to close.

    How long goes by all derivatives of a group, how much is at stake meanwhile by what is open of it, hedges and collateral counted; either
    with open orders filled as they make it most. What curvature loses beyond the scan range, the gap add-on, grows by as much.
    """
    sums = tables.scratch
    factor = tables.settings[CONCENTRATION_K]
    total = 0.0
    for g in range(held):
        gross = sums[g, GROSS]
        row = tables.group_float[level, tables.scratch_int[g, HELD_GROUP]]
        longer = math.sqrt(gross) * row[THIN] - 1.0
        if longer > 0.0:
            left = min(gross, _net_exposure(count, instrument, cash, has_pending, pending, tables, g))
            total += min(left, factor * left * row[SCAN] * longer)
            lost, most = _curvature_loss(count, instrument, has_pending, pending, tables, g, level)
            total += min(most, factor * (tables.settings[GAP_FRACTION] * lost) * longer)
    return total


@kernel
def _curvature_loss(
    count: int,
    instrument: NDArray[np.int32],
    has_pending: bool,
    pending: NDArray[np.int64],
    tables: RiskTables,
    g: int,
    level: int,
) -> tuple[float, float]:
    """What the curvature of all options in held group `g` loses in the worse extreme, and their notional: more there is not to lose."""
    floats = tables.instrument_float
    up = 0.0
    down = 0.0
    notional = 0.0
    for slot in range(count):
        i = instrument[slot]
        if tables.scratch_int[slot, SLOT_GROUP] != g or tables.instrument_int[i, SCAN_ROW] < 0:
            continue
        lots = float(tables.lots[slot])
        reach = 0.0
        if has_pending and is_ordered(slot, i, pending, tables.instrument_int):
            lots += middle_lots(slot, pending)
            reach = reach_lots(slot, pending)
        up += lots * floats[i, GAP_UP + level] + reach * abs(floats[i, GAP_UP + level])
        down += lots * floats[i, GAP_DOWN + level] + reach * abs(floats[i, GAP_DOWN + level])
        notional += (abs(lots) + reach) * floats[i, NOTIONAL]
    return max(0.0, up, down), notional


@kernel
def _net_exposure(
    count: int,
    instrument: NDArray[np.int32],
    cash: NDArray[np.int64],
    has_pending: bool,
    pending: NDArray[np.int64],
    tables: RiskTables,
    g: int,
) -> float:
    """USD that an account gains or loses for a rise of 100 % of held group `g`, at today's slope: |D_g| with orders at their worst."""
    floats = tables.instrument_float
    marks = tables.scratch_int
    net = 0.0
    reach = 0.0
    for slot in range(count):
        i = instrument[slot]
        lots = tables.lots[slot]
        if marks[slot, SLOT_GROUP] == g:
            net += lots * ((floats[i, DELTA_LONG] if lots > 0 else floats[i, DELTA_SHORT]) + floats[i, OPTION_DELTA])
            if has_pending and is_ordered(slot, i, pending, tables.instrument_int):
                net += middle_lots(slot, pending) * floats[i, ORDER_DELTA]
                reach += reach_lots(slot, pending) * abs(floats[i, ORDER_DELTA])
        if marks[slot, SLOT_QUOTE_GROUP] == g:
            net += cash[slot] * floats[i, CASH_DELTA]
    return float(abs(net) + reach)


@kernel(inline=True)
def requirement_of_part(
    count: int,
    instrument: NDArray[np.int32],
    cash: NDArray[np.int64],
    has_pending: bool,
    pending: NDArray[np.int64],
    tables: RiskTables,
    held: int,
    level: int,
    part: int,
) -> tuple[float, float]:
    """What the positions of one part need in USD, and the code of the scenario that binds; quantities are those in `tables.lots`.

    The largest loss over the scenarios of all groups held, or the short-option minimum where that is more, and the add-ons; each of
    them is left in `tables.pieces`.
    """
    floats = tables.instrument_float
    ints = tables.instrument_int
    sums = tables.scratch
    marks = tables.scratch_int
    ranges = tables.group_float
    pieces = tables.pieces
    curved = False
    optional = False
    banded = False
    minimum = 0.0
    for g in range(held):
        sums[g, DELTA_SUM] = 0.0
        sums[g, HAIRCUT_LOSS] = 0.0
        marks[g, HELD_CURVED] = 0
    for slot in range(count):
        if marks[slot, SLOT_PART] != part:
            continue
        i = instrument[slot]
        g = marks[slot, SLOT_GROUP]
        if g >= 0:
            lots = tables.lots[slot]
            delta = lots * (floats[i, DELTA_LONG] if lots > 0 else floats[i, DELTA_SHORT])
            sums[g, DELTA_SUM] += delta
            if ints[i, SCAN_ROW] >= 0:
                curved = True
                optional = True
                marks[g, HELD_CURVED] = 1
                delta = lots * floats[i, OPTION_DELTA]
                short = -float(lots)
                if has_pending and is_ordered(slot, i, pending, ints):
                    short += float(pending[slot, SELL])
                minimum += max(short, 0.0) * floats[i, SHORT_MINIMUM]
            sums[g, HAIRCUT_LOSS] += delta * floats[i, VOL_HAIRCUT + level]
            if ints[i, BAND] >= 0:
                banded = True
            if has_pending and is_ordered(slot, i, pending, ints):
                curved = True
                marks[g, HELD_CURVED] = 1
                stake = floats[i, ORDER_DELTA]
                worst = max(0.0, float(pending[slot, BUY]) * stake) + max(0.0, -float(pending[slot, SELL]) * stake)
                sums[g, HAIRCUT_LOSS] += worst * floats[i, VOL_HAIRCUT + level]
        g = marks[slot, SLOT_QUOTE_GROUP]
        if g >= 0:
            delta = cash[slot] * floats[i, CASH_DELTA]
            sums[g, DELTA_SUM] += delta
            sums[g, HAIRCUT_LOSS] += delta * floats[i, CASH_VOL_HAIRCUT + level]
    for g in range(held):
        sums[g, SCANNED] = sums[g, DELTA_SUM] * ranges[level, marks[g, HELD_GROUP], SCAN]
    if curved:
        loss, driver = _largest_loss_on_grid(count, instrument, has_pending, pending, tables, held, level, part)
    else:
        loss, driver = _largest_loss_of_linear(tables, held, level)
    for piece in range(PIECES):
        pieces[piece] = 0.0
    pieces[SCAN_LOSS] = loss
    pieces[SHORT_OPTIONS] = minimum
    total = max(loss, minimum)
    if banded:
        total += _add_ons(count, instrument, has_pending, pending, tables, held, level, part, optional)
    return total, driver


@kernel(inline=True)
def _add_ons(
    count: int,
    instrument: NDArray[np.int32],
    has_pending: bool,
    pending: NDArray[np.int64],
    tables: RiskTables,
    held: int,
    level: int,
    part: int,
    optional: bool,
) -> float:
    """Basis, vega by tenor and gap of one part: net within a group and band, never across; each with open orders at their worst for it."""
    floats = tables.instrument_float
    ints = tables.instrument_int
    sums = tables.scratch
    marks = tables.scratch_int
    basis = 0.0
    vega = 0.0
    for g in range(held):
        for column in range(CURVATURE_UP, PROFIT):
            sums[g, column] = 0.0
    for slot in range(count):
        i = instrument[slot]
        g = marks[slot, SLOT_GROUP]
        band = ints[i, BAND]
        if g < 0 or band < 0 or marks[slot, SLOT_PART] != part:
            continue
        lots = float(tables.lots[slot])
        if has_pending and is_ordered(slot, i, pending, ints):
            lots += middle_lots(slot, pending)
            reach = reach_lots(slot, pending)
            basis += reach * abs(floats[i, BASIS_CHARGE])
            if ints[i, SCAN_ROW] >= 0:
                vega += reach * abs(floats[i, VEGA_CHARGE])
                sums[g, CURVATURE_UP] += reach * abs(floats[i, GAP_UP + level])
                sums[g, CURVATURE_DOWN] += reach * abs(floats[i, GAP_DOWN + level])
        sums[g, BASIS + band] += lots * floats[i, BASIS_CHARGE]
        if ints[i, SCAN_ROW] >= 0:
            sums[g, VEGA + band] += lots * floats[i, VEGA_CHARGE]
            sums[g, CURVATURE_UP] += lots * floats[i, GAP_UP + level]
            sums[g, CURVATURE_DOWN] += lots * floats[i, GAP_DOWN + level]
    gap = 0.0
    for g in range(held):
        for band in range(TENOR_BANDS):
            basis += abs(sums[g, BASIS + band])
        if optional:
            for band in range(TENOR_BANDS):
                vega += abs(sums[g, VEGA + band])
            gap += max(0.0, sums[g, CURVATURE_UP], sums[g, CURVATURE_DOWN])
    gap *= tables.settings[GAP_FRACTION]
    tables.pieces[BASIS_ADD_ON] = basis
    tables.pieces[VEGA_ADD_ON] = vega
    tables.pieces[GAP_ADD_ON] = gap
    return float(basis + vega + gap)


# ---- scenarios -----------------------------------------------------------------------------------------------------------------------


@kernel(inline=True)
def _largest_loss_of_linear(tables: RiskTables, held: int, level: int) -> tuple[float, float]:
    """Profit is proportional to the step in every group, so the grid's largest loss is at one of its ends.

    Without stress the regimes' correlations are linear in the observed ones, and so are the losses of the other groups.
    """
    sums = tables.scratch
    marks = tables.scratch_int
    ranges = tables.group_float
    fraction = tables.settings[EXTREME_FRACTION]
    end = 4 * tables.settings_int[GRID_STEPS]
    stressed = tables.settings_int[IS_STRESSED] != 0
    high = tables.settings[CORRELATION_HIGH]
    low = tables.settings[CORRELATION_LOW]
    largest = 0.0
    driver = NO_SCENARIO
    for g in range(held):
        group = marks[g, HELD_GROUP]
        row = ranges[level, group]
        scanned = sums[g, SCANNED]
        up_alone = sums[g, DELTA_SUM] * row[EXTREME_UP]
        down_alone = sums[g, DELTA_SUM] * row[EXTREME_DOWN]
        haircut_alone = sums[g, HAIRCUT_LOSS]
        observed = 0.0
        rest = 0.0
        correlation = tables.correlation[level, OBSERVED, group]
        for h in range(held):
            if h != g:
                observed += correlation[marks[h, HELD_GROUP]] * sums[h, SCANNED]
                rest += sums[h, SCANNED]
        for regime in range(REGIMES):
            others = observed
            if regime != OBSERVED:
                if stressed:
                    correlation = tables.correlation[level, regime, group]
                    others = 0.0
                    for h in range(held):
                        if h != g:
                            others += correlation[marks[h, HELD_GROUP]] * sums[h, SCANNED]
                elif regime == HIGH:
                    others = observed + high * (rest - observed)
                else:
                    others = observed * (1.0 - low)
            code = group * SCENARIO_BASE + regime * REGIME_BASE
            own = scanned + others
            if own > largest:
                largest = own
                driver = float(code)
            if -own > largest:
                largest = -own
                driver = float(code + end)
            up = -fraction * (up_alone + others)
            if up > largest:
                largest = up
                driver = float(code + end + 2)
            down = fraction * (down_alone + others)
            if down > largest:
                largest = down
                driver = float(code + end + 3)
            haircut = haircut_alone + row[HAIRCUT_STEP] * others
            if haircut > largest:
                largest = haircut
                driver = float(code + HAIRCUT_SCENARIO)
    return largest, driver


@kernel
def _interpolated(g: int, x: float, shock: int, steps: int, sums: NDArray[np.float64]) -> float:
    """Profit of held group `g` at x scan ranges, |x| <= 1, linear between the grid's steps."""
    at = (x + 1.0) * steps
    k = min(int(at), 2 * steps - 1)
    left = sums[g, PROFIT + 2 * k + shock]
    return float(left + (at - k) * (sums[g, PROFIT + 2 * k + 2 + shock] - left))


@kernel
def _fill_profiles(
    count: int,
    instrument: NDArray[np.int32],
    has_pending: bool,
    pending: NDArray[np.int64],
    tables: RiskTables,
    held: int,
    level: int,
    part: int,
) -> None:
    """Profit of every held group in every scan column: what is linear in closed form, then options, then open orders at their worst."""
    sums = tables.scratch
    marks = tables.scratch_int
    ints = tables.instrument_int
    scan = tables.option_scan
    steps = tables.settings_int[GRID_STEPS]
    columns = 2 * (2 * steps + 1)
    for g in range(held):
        row = tables.group_float[level, marks[g, HELD_GROUP]]
        for k in range(2 * steps + 1):
            profit = sums[g, SCANNED] * ((k - steps) / steps)
            sums[g, PROFIT + 2 * k] = profit
            sums[g, PROFIT + 2 * k + 1] = profit
        sums[g, PROFIT + columns] = sums[g, DELTA_SUM] * row[EXTREME_UP]
        sums[g, PROFIT + columns + 1] = -sums[g, DELTA_SUM] * row[EXTREME_DOWN]
    for slot in range(count):
        option = ints[instrument[slot], SCAN_ROW]
        g = marks[slot, SLOT_GROUP]
        if g < 0 or marks[slot, SLOT_PART] != part:
            continue
        if option >= 0:
            lots = float(tables.lots[slot])
            for column in range(columns + 2):
                sums[g, PROFIT + column] += lots * scan[level, option, column]
        if has_pending and is_ordered(slot, instrument[slot], pending, ints):
            buy = float(pending[slot, BUY])
            sell = float(pending[slot, SELL])
            row = tables.group_float[level, marks[g, HELD_GROUP]]
            delta = tables.instrument_float[instrument[slot], ORDER_DELTA]
            for column in range(columns + 2):
                if option >= 0:
                    gain = scan[level, option, column]
                elif column < columns:
                    gain = delta * row[SCAN] * ((column // 2 - steps) / steps)
                elif column == columns:
                    gain = delta * row[EXTREME_UP]
                else:
                    gain = -delta * row[EXTREME_DOWN]
                sums[g, PROFIT + column] -= max(0.0, -buy * gain) + max(0.0, sell * gain)


@kernel
def _largest_loss_on_grid(
    count: int,
    instrument: NDArray[np.int32],
    has_pending: bool,
    pending: NDArray[np.int64],
    tables: RiskTables,
    held: int,
    level: int,
    part: int,
) -> tuple[float, float]:
    """The whole set of scenarios; groups of the part without options or orders stay in closed form."""
    sums = tables.scratch
    marks = tables.scratch_int
    ranges = tables.group_float
    steps = tables.settings_int[GRID_STEPS]
    fraction = tables.settings[EXTREME_FRACTION]
    columns = 2 * (2 * steps + 1)
    _fill_profiles(count, instrument, has_pending, pending, tables, held, level, part)
    largest = 0.0
    driver = NO_SCENARIO
    for g in range(held):
        group = marks[g, HELD_GROUP]
        for regime in range(REGIMES):
            correlation = tables.correlation[level, regime, group]
            code = group * SCENARIO_BASE + regime * REGIME_BASE
            straight = 0.0  # the other groups without a curve, at +1
            bent = False  # whether one of the others has a curve
            for h in range(held):
                if h != g:
                    if marks[h, HELD_CURVED] == 0:
                        straight += correlation[marks[h, HELD_GROUP]] * sums[h, SCANNED]
                    else:
                        bent = True
            for k in range(2 * steps + 1):
                x = (k - steps) / steps
                for shock in range(2):
                    profit = sums[g, PROFIT + 2 * k + shock] + straight * x
                    if bent:
                        for h in range(held):
                            if h != g and marks[h, HELD_CURVED] != 0:
                                profit += _interpolated(h, correlation[marks[h, HELD_GROUP]] * x, shock, steps, sums)
                    if -profit > largest:
                        largest = -profit
                        driver = float(code + 2 * k + shock)
            up = sums[g, PROFIT + columns] + straight
            down = sums[g, PROFIT + columns + 1] - straight
            step = ranges[level, group, HAIRCUT_STEP]
            haircut = sums[g, HAIRCUT_LOSS] + step * straight
            if bent:
                for h in range(held):
                    if h != g and marks[h, HELD_CURVED] != 0:
                        rho = correlation[marks[h, HELD_GROUP]]
                        up += _interpolated(h, rho, 0, steps, sums)
                        down += _interpolated(h, -rho, 0, steps, sums)
                        haircut -= _interpolated(h, -rho * step, 0, steps, sums)
            if -fraction * up > largest:
                largest = -fraction * up
                driver = float(code + columns)
            if -fraction * down > largest:
                largest = -fraction * down
                driver = float(code + columns + 1)
            if haircut > largest:
                largest = haircut
                driver = float(code + HAIRCUT_SCENARIO)
    return largest, driver
