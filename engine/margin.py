"""One account's equity and requirement from the risk tables: the kernels that decide (docs/model.md, sections 3 to 6).

Accounts come as columns: `count` slots with instrument numbers, lots, cash units and pending lots. Instrument numbers must be defined ones
(they are array indices). Nothing is allocated; the scratch space of the tables makes a kernel usable by one thread at a time.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.haircuts import haircut_losses
from engine.jit import kernel
from engine.reasons import Unknown
from engine.requirement import (
    HAIRCUT_SCENARIO,
    NO_SCENARIO,
    REGIME_BASE,
    SCENARIO_BASE,
    add_on_of_size,
    divide,
    hold_groups,
    is_ordered,
    requirement_of_part,
)
from engine.tables import (
    CASH_UNKNOWN,
    CASH_VALUE,
    CHAIN,
    CONCENTRATION,
    CONTRACT,
    COST_RATE,
    DECISION_MODE,
    END_FACTOR,
    IMPACT,
    INITIAL_FACTOR,
    INITIAL_LEVEL,
    IS_DERIVATIVE,
    LEAVING,
    LEVELS_DIFFER,
    LIMIT_ACCOUNT,
    LIMIT_ASSET,
    LIMIT_VENUE,
    LIMITED,
    MAINTENANCE_LEVEL,
    NOTIONAL,
    PERPETUAL,
    PIECES,
    POSITIONS_MAX,
    REGIME_NAMES,
    SPOT,
    STABLE_SHORT,
    UNIT_LONG,
    UNIT_SHORT,
    UNIT_UNKNOWN,
    VENUE,
    RiskTables,
)

__all__ = [
    "POSITIONS_MAX",
    "break_down",
    "closing_cost_usd",
    "evaluate",
    "requirements_by_mode",
    "scenario_name",
]

# What `evaluate` writes.
EQUITY: Final = 0  # E_m, haircuts at maintenance volatility
EQUITY_INITIAL: Final = 1  # E_i
UNHAIRCUT: Final = 2  # U
MAINTENANCE: Final = 3  # M
INITIAL: Final = 4  # I
CLOSE_COST: Final = 5
DRIVER: Final = 6  # the scenario that binds at maintenance (`scenario_name`)
LIMIT: Final = 7  # position limits that are passed: the sum of the codes below
OUT: Final = 8

OVER_ACCOUNT: Final = 1
OVER_ASSET: Final = 2
OVER_VENUE: Final = 4

ENGINE_FAULT: Final = int(Unknown.ENGINE_FAULT)


def scenario_name(code: float, steps: int, group_names: list[str]) -> str:
    """The scenario behind `DRIVER` in words; `group_names` are the names of the groups' own assets, `steps` the grid's steps a side."""
    if not code >= 0.0:
        return "none"
    group, rest = divmod(int(code), SCENARIO_BASE)
    regime, column = divmod(rest, REGIME_BASE)
    under = "" if regime == 0 else f", {REGIME_NAMES[regime]} correlation"
    if column == HAIRCUT_SCENARIO:
        return f"{group_names[group]} volatility haircut{under}"
    if column >= 2 * (2 * steps + 1):
        return f"{group_names[group]} extreme {'up' if column == 2 * (2 * steps + 1) else 'down'}{under}"
    step, shock = divmod(column, 2)
    return f"{group_names[group]} {step - steps:+d}/{steps} volatility {'down' if shock else 'up'}{under}"


@kernel
def evaluate(
    count: int,
    instrument: NDArray[np.int32],
    quantity: NDArray[np.int64],
    cash: NDArray[np.int64],
    has_pending: bool,
    pending: NDArray[np.int64],
    tables: RiskTables,
    out: NDArray[np.float64],
) -> int:
    """Value one account. Writes `out` [OUT] and returns 0, or returns the Unknown code and fills `out` with nan.

    `pending` [POSITIONS_MAX, PENDING] is only looked at where `has_pending`.
    """
    ints = tables.instrument_int
    floats = tables.instrument_float
    lots_held = tables.lots
    take_lots(count, instrument, quantity, has_pending, pending, tables)
    unknown = 0
    value = 0.0
    collateral = 0.0
    notional_sum = 0.0
    owed_more = 0.0
    cost = 0.0
    chains = np.int64(0)
    differ = False
    for slot in range(count):
        lots = lots_held[slot]
        units = cash[slot]
        i = instrument[slot]
        ordered = has_pending and is_ordered(slot, i, pending, ints)
        if lots == 0 and units == 0 and not ordered:
            continue
        if ints[i, LEVELS_DIFFER] != 0:
            differ = True
        if lots != 0 or ordered:
            code = ints[i, UNIT_UNKNOWN]
            if code != 0 and (unknown == 0 or code < unknown):
                unknown = code
        held = 0.0
        worth = 0.0
        if lots != 0:
            notional = abs(float(lots)) * floats[i, NOTIONAL]
            cost += notional * (floats[i, COST_RATE] + floats[i, IMPACT] * math.sqrt(notional))
            if lots > 0:
                held = lots * floats[i, UNIT_LONG]
                if ints[i, CONTRACT] == SPOT:
                    collateral += held
            else:
                held = lots * floats[i, UNIT_SHORT]
                if ints[i, IS_DERIVATIVE] == 0:
                    owed_more -= held * (floats[i, STABLE_SHORT] - 1.0)
            value += held
            if ints[i, IS_DERIVATIVE] != 0:
                notional_sum += notional
        if units != 0:
            code = ints[i, CASH_UNKNOWN]
            if code != 0 and (unknown == 0 or code < unknown):
                unknown = code
            worth = units * floats[i, CASH_VALUE]
            value += worth
        if ints[i, CONTRACT] >= PERPETUAL:
            collateral += max(held + worth, 0.0)  # its cash is what was paid or got for its lots: what it gained is no more than both
        else:
            collateral += max(worth, 0.0)
        if lots != 0 or units != 0 or ordered:
            chains |= np.int64(1) << np.int64(ints[i, CHAIN])
    if unknown != 0:
        for k in range(OUT):
            out[k] = math.nan
        return unknown
    lost, lost_initial = haircut_losses(count, instrument, lots_held, has_pending, pending, int(chains), tables)
    held_groups = hold_groups(count, instrument, lots_held, cash, has_pending, pending, tables)
    parts = divide(count, instrument, tables.settings_int[DECISION_MODE], tables)
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
            loss, binding = requirement_of_part(count, instrument, cash, has_pending, pending, tables, held_groups, level, part)
            total += loss
        total += add_on_of_size(count, instrument, cash, has_pending, pending, tables, held_groups, level)
        if level == MAINTENANCE_LEVEL:
            requirement = total
            driver = binding if parts == 1 else NO_SCENARIO
        else:
            requirement_initial = total
    out[EQUITY] = value - lost
    out[EQUITY_INITIAL] = value - owed_more - lost_initial
    out[UNHAIRCUT] = value
    out[MAINTENANCE] = requirement
    out[INITIAL] = max(tables.settings[INITIAL_FACTOR] * requirement_initial, tables.settings[END_FACTOR] * requirement)
    out[CLOSE_COST] = cost
    out[DRIVER] = driver
    out[LIMIT] = float(_limits_passed(count, instrument, notional_sum, collateral, tables, held_groups))
    if not math.isfinite(value - lost - cost + requirement + requirement_initial + owed_more):
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
    has_pending: bool,
    pending: NDArray[np.int64],
    tables: RiskTables,
    out: NDArray[np.float64],
) -> None:
    """Maintenance requirement in USD, isolated, protocol, portfolio, into `out` [3]. Only for an account that `evaluate` could value."""
    take_lots(count, instrument, quantity, has_pending, pending, tables)
    held = hold_groups(count, instrument, tables.lots, cash, has_pending, pending, tables)
    for mode in range(3):
        total = 0.0
        for part in range(divide(count, instrument, mode, tables)):
            loss, _ = requirement_of_part(count, instrument, cash, has_pending, pending, tables, held, MAINTENANCE_LEVEL, part)
            total += loss
        out[mode] = total + add_on_of_size(count, instrument, cash, has_pending, pending, tables, held, MAINTENANCE_LEVEL)


@kernel
def break_down(
    count: int,
    instrument: NDArray[np.int32],
    quantity: NDArray[np.int64],
    cash: NDArray[np.int64],
    has_pending: bool,
    pending: NDArray[np.int64],
    tables: RiskTables,
    level: int,
    out: NDArray[np.float64],
) -> float:
    """The requirement of a level in the decision's mode in USD, and its pieces into `out` [PIECES], summed over the mode's parts.

    The requirement is max(scenarios, short-option minimum) of each part, and the other pieces. Only for an account that `evaluate` could
    value; the initial level's still without its factor.
    """
    take_lots(count, instrument, quantity, has_pending, pending, tables)
    held = hold_groups(count, instrument, tables.lots, cash, has_pending, pending, tables)
    out[:] = 0.0
    total = 0.0
    for part in range(divide(count, instrument, tables.settings_int[DECISION_MODE], tables)):
        loss, _ = requirement_of_part(count, instrument, cash, has_pending, pending, tables, held, level, part)
        total += loss
        for piece in range(PIECES):
            out[piece] += tables.pieces[piece]
    out[CONCENTRATION] = add_on_of_size(count, instrument, cash, has_pending, pending, tables, held, level)
    return float(total + out[CONCENTRATION])


@kernel
def closing_cost_usd(instrument: int, lots: int, tables: RiskTables) -> float:
    """Half spread, fee and impact of closing `lots` (either sign); 0 for loans and for assets of class cash (docs/model.md, section 8)."""
    notional = abs(float(lots)) * tables.instrument_float[instrument, NOTIONAL]
    rate = tables.instrument_float[instrument, COST_RATE]
    impact = tables.instrument_float[instrument, IMPACT]
    return float(notional * (rate + impact * math.sqrt(notional)))


# ---- kernels -------------------------------------------------------------------------------------------------------------------------


@kernel(inline=True)
def take_lots(
    count: int,
    instrument: NDArray[np.int32],
    quantity: NDArray[np.int64],
    has_pending: bool,
    pending: NDArray[np.int64],
    tables: RiskTables,
) -> None:
    """Quantities into `tables.lots`, positive spot balances without what is leaving."""
    for slot in range(count):
        tables.lots[slot] = quantity[slot]
    if has_pending:
        for slot in range(count):
            if quantity[slot] > 0 and tables.instrument_int[instrument[slot], CONTRACT] == SPOT:
                tables.lots[slot] = max(quantity[slot] - pending[slot, LEAVING], 0)


@kernel(inline=True)
def _limits_passed(count: int, instrument: NDArray[np.int32], notional: float, collateral: float, tables: RiskTables, held: int) -> int:
    """The sum of the codes of the position limits that are passed. What one asset or venue has is never more than `notional`."""
    limits = tables.settings
    passed = 0
    if notional > limits[LIMIT_ACCOUNT] * collateral:
        passed = OVER_ACCOUNT
    if notional > limits[LIMIT_ASSET] * collateral:
        for g in range(held):
            if tables.scratch[g, LIMITED] > limits[LIMIT_ASSET] * collateral:
                passed |= OVER_ASSET
    if notional > limits[LIMIT_VENUE] * collateral:
        ints = tables.instrument_int
        for slot in range(count):
            there = 0.0
            for other in range(count):
                k = instrument[other]
                if ints[k, IS_DERIVATIVE] != 0 and ints[k, VENUE] == ints[instrument[slot], VENUE]:
                    there += abs(float(tables.lots[other])) * tables.instrument_float[k, NOTIONAL]
            if there > limits[LIMIT_VENUE] * collateral:
                passed |= OVER_VENUE
    return passed
