"""One account's equity and requirement from the risk tables: the kernels that decide (docs/model.md, sections 4 to 6).

Accounts come as columns: `count` slots with instrument numbers, lots and cash units. Instrument numbers must be defined ones (they are
array indices). Nothing is allocated; the scratch space of the tables makes a kernel usable by one thread at a time.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.haircuts import haircut_losses
from engine.jit import kernel
from engine.reasons import Unknown
from engine.tables import (
    CASH_DELTA,
    CASH_UNKNOWN,
    CASH_VALUE,
    CASH_VOL_HAIRCUT,
    CHAIN,
    COST_RATE,
    DECISION_MODE,
    DELTA_LONG,
    DELTA_SHORT,
    DELTA_SUM,
    EXTREME_DOWN,
    EXTREME_FRACTION,
    EXTREME_UP,
    GRID_STEPS,
    GROUP,
    HAIRCUT_LOSS,
    HAIRCUT_STEP,
    HELD_CURVED,
    HELD_GROUP,
    IMPACT,
    INITIAL_FACTOR,
    INITIAL_LEVEL,
    LEVELS_DIFFER,
    MAINTENANCE_LEVEL,
    NOTIONAL,
    OPTION_DELTA,
    POSITIONS_MAX,
    PROFIT,
    QUOTE_GROUP,
    SCAN,
    SCAN_ROW,
    SCANNED,
    SLOT_GROUP,
    SLOT_PART,
    SLOT_QUOTE_GROUP,
    UNIT_LONG,
    UNIT_SHORT,
    UNIT_UNKNOWN,
    VENUE,
    VOL_HAIRCUT,
    RiskTables,
)

__all__ = ["POSITIONS_MAX", "closing_cost_usd", "evaluate", "requirements_by_mode", "scenario_name"]

# What `evaluate` writes.
EQUITY: Final = 0  # E_m, haircuts at maintenance volatility
EQUITY_INITIAL: Final = 1  # E_i
UNHAIRCUT: Final = 2  # U
MAINTENANCE: Final = 3  # M
INITIAL: Final = 4  # I
CLOSE_COST: Final = 5
DRIVER: Final = 6  # the scenario that binds at maintenance (`scenario_name`)
OUT: Final = 8

# Modes, in the order of parameters.MODES.
ISOLATED: Final = 0
PROTOCOL: Final = 1
PORTFOLIO: Final = 2

# The binding scenario is driver group * SCENARIO_BASE + scan column (or HAIRCUT_SCENARIO).
SCENARIO_BASE: Final = 64
HAIRCUT_SCENARIO: Final = 60
NO_SCENARIO: Final = -1.0  # nothing can be lost, or the mode sums several
ENGINE_FAULT: Final = int(Unknown.ENGINE_FAULT)


def scenario_name(code: float, steps: int, group_names: list[str]) -> str:
    """The scenario behind `DRIVER` in words; `group_names` are the names of the groups' own assets, `steps` the grid's steps a side."""
    if not code >= 0.0:
        return "none"
    group, column = divmod(int(code), SCENARIO_BASE)
    if column == HAIRCUT_SCENARIO:
        return f"{group_names[group]} volatility haircut"
    if column >= 2 * (2 * steps + 1):
        return f"{group_names[group]} extreme {'up' if column == 2 * (2 * steps + 1) else 'down'}"
    step, shock = divmod(column, 2)
    return f"{group_names[group]} {step - steps:+d}/{steps} volatility {'down' if shock else 'up'}"


@kernel
def evaluate(
    count: int,
    instrument: NDArray[np.int32],
    quantity: NDArray[np.int64],
    cash: NDArray[np.int64],
    tables: RiskTables,
    out: NDArray[np.float64],
) -> int:
    """Value one account. Writes `out` [OUT] and returns 0, or returns the Unknown code and fills `out` with nan."""
    ints = tables.instrument_int
    floats = tables.instrument_float
    unknown = 0
    value = 0.0
    cost = 0.0
    chains = np.int64(0)
    differ = False
    for slot in range(count):
        lots = quantity[slot]
        units = cash[slot]
        if lots == 0 and units == 0:
            continue
        i = instrument[slot]
        chains |= np.int64(1) << np.int64(ints[i, CHAIN])
        if ints[i, LEVELS_DIFFER] != 0:
            differ = True
        if lots != 0:
            code = ints[i, UNIT_UNKNOWN]
            if code != 0 and (unknown == 0 or code < unknown):
                unknown = code
            value += lots * (floats[i, UNIT_LONG] if lots > 0 else floats[i, UNIT_SHORT])
            notional = abs(float(lots)) * floats[i, NOTIONAL]
            cost += notional * (floats[i, COST_RATE] + floats[i, IMPACT] * math.sqrt(notional))
        if units != 0:
            code = ints[i, CASH_UNKNOWN]
            if code != 0 and (unknown == 0 or code < unknown):
                unknown = code
            value += units * floats[i, CASH_VALUE]
    if unknown != 0:
        for k in range(OUT):
            out[k] = math.nan
        return unknown
    lost, lost_initial = haircut_losses(count, instrument, quantity, int(chains), tables)
    held = _hold_groups(count, instrument, quantity, cash, tables)
    parts = _divide(count, instrument, tables.settings_int[DECISION_MODE], tables)
    requirement = 0.0
    requirement_initial = 0.0
    driver = NO_SCENARIO
    for level in range(2):
        if level == INITIAL_LEVEL and not differ:
            requirement_initial = requirement
            break
        total = 0.0
        binding = NO_SCENARIO
        for part in range(parts):
            loss, binding = _requirement(count, instrument, quantity, cash, tables, held, level, part)
            total += loss
        if level == MAINTENANCE_LEVEL:
            requirement = total
            driver = binding if parts == 1 else NO_SCENARIO
        else:
            requirement_initial = total
    out[EQUITY] = value - lost
    out[EQUITY_INITIAL] = value - lost_initial
    out[UNHAIRCUT] = value
    out[MAINTENANCE] = requirement
    out[INITIAL] = tables.settings[INITIAL_FACTOR] * requirement_initial
    out[CLOSE_COST] = cost
    out[DRIVER] = driver
    out[7] = 0.0
    if not math.isfinite(value - lost - cost + requirement + requirement_initial):
        for k in range(OUT):
            out[k] = math.nan
        return ENGINE_FAULT
    return 0


@kernel
def requirements_by_mode(
    count: int,
    instrument: NDArray[np.int32],
    quantity: NDArray[np.int64],
    cash: NDArray[np.int64],
    tables: RiskTables,
    out: NDArray[np.float64],
) -> None:
    """Maintenance requirement in USD, isolated, protocol, portfolio, into `out` [3]. Only for an account that `evaluate` could value."""
    held = _hold_groups(count, instrument, quantity, cash, tables)
    for mode in range(3):
        total = 0.0
        for part in range(_divide(count, instrument, mode, tables)):
            loss, _ = _requirement(count, instrument, quantity, cash, tables, held, MAINTENANCE_LEVEL, part)
            total += loss
        out[mode] = total


@kernel
def closing_cost_usd(instrument: int, lots: int, tables: RiskTables) -> float:
    """Half spread, fee and impact of closing `lots` (either sign); 0 for loans and for assets of class cash (docs/model.md, section 8)."""
    notional = abs(float(lots)) * tables.instrument_float[instrument, NOTIONAL]
    rate = tables.instrument_float[instrument, COST_RATE]
    impact = tables.instrument_float[instrument, IMPACT]
    return float(notional * (rate + impact * math.sqrt(notional)))


# ---- kernels -------------------------------------------------------------------------------------------------------------------------


@kernel(inline=True)
def _place(group: int, held: int, marks: NDArray[np.int64]) -> int:
    """Insert a group into the increasing list of those held; the new length."""
    at = held
    while at > 0 and marks[at - 1, HELD_GROUP] >= group:
        at -= 1
    if at < held and marks[at, HELD_GROUP] == group:
        return held
    for k in range(held, at, -1):
        marks[k, HELD_GROUP] = marks[k - 1, HELD_GROUP]
    marks[at, HELD_GROUP] = group
    return held + 1


@kernel(inline=True)
def _find(group: int, held: int, marks: NDArray[np.int64]) -> int:
    for k in range(held):
        if marks[k, HELD_GROUP] == group:
            return k
    return -1


@kernel(inline=True)
def _hold_groups(
    count: int,
    instrument: NDArray[np.int32],
    quantity: NDArray[np.int64],
    cash: NDArray[np.int64],
    tables: RiskTables,
) -> int:
    """Which groups the account holds, increasing, and where each slot's are among them; how many. Into the integer scratch."""
    ints = tables.instrument_int
    marks = tables.scratch_int
    held = 0
    for slot in range(count):
        i = instrument[slot]
        if quantity[slot] != 0 and ints[i, GROUP] >= 0:
            held = _place(ints[i, GROUP], held, marks)
        if cash[slot] != 0 and ints[i, QUOTE_GROUP] >= 0:
            held = _place(ints[i, QUOTE_GROUP], held, marks)
    for slot in range(count):
        i = instrument[slot]
        marks[slot, SLOT_GROUP] = _find(ints[i, GROUP], held, marks) if quantity[slot] != 0 else -1
        marks[slot, SLOT_QUOTE_GROUP] = _find(ints[i, QUOTE_GROUP], held, marks) if cash[slot] != 0 else -1
    return held


@kernel(inline=True)
def _divide(count: int, instrument: NDArray[np.int32], mode: int, tables: RiskTables) -> int:
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


@kernel(inline=True)
def _requirement(
    count: int,
    instrument: NDArray[np.int32],
    quantity: NDArray[np.int64],
    cash: NDArray[np.int64],
    tables: RiskTables,
    held: int,
    level: int,
    part: int,
) -> tuple[float, float]:
    """The largest loss of one part's positions over the scenarios of all groups held, at least 0, and its code."""
    floats = tables.instrument_float
    ints = tables.instrument_int
    sums = tables.scratch
    marks = tables.scratch_int
    ranges = tables.group_float
    curved = False
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
            lots = quantity[slot]
            delta = lots * (floats[i, DELTA_LONG] if lots > 0 else floats[i, DELTA_SHORT])
            sums[g, DELTA_SUM] += delta
            if ints[i, SCAN_ROW] >= 0:
                curved = True
                marks[g, HELD_CURVED] = 1
                delta = lots * floats[i, OPTION_DELTA]
            sums[g, HAIRCUT_LOSS] += delta * floats[i, VOL_HAIRCUT + level]
        g = marks[slot, SLOT_QUOTE_GROUP]
        if g >= 0:
            delta = cash[slot] * floats[i, CASH_DELTA]
            sums[g, DELTA_SUM] += delta
            sums[g, HAIRCUT_LOSS] += delta * floats[i, CASH_VOL_HAIRCUT + level]
    for g in range(held):
        sums[g, SCANNED] = sums[g, DELTA_SUM] * ranges[level, marks[g, HELD_GROUP], SCAN]
    if curved:
        return _largest_loss_on_grid(count, instrument, quantity, tables, held, level, part)
    return _largest_loss_of_linear(tables, held, level)


@kernel(inline=True)
def _largest_loss_of_linear(tables: RiskTables, held: int, level: int) -> tuple[float, float]:
    """Profit is proportional to the step in every group, so the grid's largest loss is at one of its ends."""
    sums = tables.scratch
    marks = tables.scratch_int
    correlation = tables.correlation[level, 0]
    ranges = tables.group_float
    fraction = tables.settings[EXTREME_FRACTION]
    end = 4 * tables.settings_int[GRID_STEPS]
    largest = 0.0
    driver = NO_SCENARIO
    for g in range(held):
        group = marks[g, HELD_GROUP]
        others = 0.0
        for h in range(held):
            if h != g:
                others += correlation[group, marks[h, HELD_GROUP]] * sums[h, SCANNED]
        own = sums[g, SCANNED] + others
        code = group * SCENARIO_BASE
        if own > largest:
            largest = own
            driver = float(code)
        if -own > largest:
            largest = -own
            driver = float(code + end)
        up = -fraction * (sums[g, DELTA_SUM] * ranges[level, group, EXTREME_UP] + others)
        if up > largest:
            largest = up
            driver = float(code + end + 2)
        down = fraction * (sums[g, DELTA_SUM] * ranges[level, group, EXTREME_DOWN] + others)
        if down > largest:
            largest = down
            driver = float(code + end + 3)
        haircut = sums[g, HAIRCUT_LOSS] + ranges[level, group, HAIRCUT_STEP] * others
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
def _largest_loss_on_grid(
    count: int,
    instrument: NDArray[np.int32],
    quantity: NDArray[np.int64],
    tables: RiskTables,
    held: int,
    level: int,
    part: int,
) -> tuple[float, float]:
    """The whole set of scenarios; groups of the part without options stay in closed form."""
    sums = tables.scratch
    marks = tables.scratch_int
    ints = tables.instrument_int
    scan = tables.option_scan
    correlation = tables.correlation[level, 0]
    ranges = tables.group_float
    steps = tables.settings_int[GRID_STEPS]
    fraction = tables.settings[EXTREME_FRACTION]
    columns = 2 * (2 * steps + 1)
    for g in range(held):
        group = marks[g, HELD_GROUP]
        for k in range(2 * steps + 1):
            profit = sums[g, SCANNED] * ((k - steps) / steps)
            sums[g, PROFIT + 2 * k] = profit
            sums[g, PROFIT + 2 * k + 1] = profit
        sums[g, PROFIT + columns] = sums[g, DELTA_SUM] * ranges[level, group, EXTREME_UP]
        sums[g, PROFIT + columns + 1] = -sums[g, DELTA_SUM] * ranges[level, group, EXTREME_DOWN]
    for slot in range(count):
        row = ints[instrument[slot], SCAN_ROW]
        g = marks[slot, SLOT_GROUP]
        if row >= 0 and g >= 0 and marks[slot, SLOT_PART] == part:
            lots = float(quantity[slot])
            for column in range(columns + 2):
                sums[g, PROFIT + column] += lots * scan[level, row, column]
    largest = 0.0
    driver = NO_SCENARIO
    for g in range(held):
        group = marks[g, HELD_GROUP]
        code = group * SCENARIO_BASE
        straight = 0.0  # the other groups that have no options, at +1
        for h in range(held):
            if h != g and marks[h, HELD_CURVED] == 0:
                straight += correlation[group, marks[h, HELD_GROUP]] * sums[h, SCANNED]
        for k in range(2 * steps + 1):
            x = (k - steps) / steps
            for shock in range(2):
                profit = sums[g, PROFIT + 2 * k + shock] + straight * x
                for h in range(held):
                    if h != g and marks[h, HELD_CURVED] != 0:
                        profit += _interpolated(h, correlation[group, marks[h, HELD_GROUP]] * x, shock, steps, sums)
                if -profit > largest:
                    largest = -profit
                    driver = float(code + 2 * k + shock)
        up = sums[g, PROFIT + columns] + straight
        down = sums[g, PROFIT + columns + 1] - straight
        step = ranges[level, group, HAIRCUT_STEP]
        haircut = sums[g, HAIRCUT_LOSS] + step * straight
        for h in range(held):
            if h != g and marks[h, HELD_CURVED] != 0:
                rho = correlation[group, marks[h, HELD_GROUP]]
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
