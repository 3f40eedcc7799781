"""The kernels behind every event of an account: move a position, value the account, tell its state; and a frame's fills in one go.

A fill that needs more than arithmetic (a refusal, a hole, an order, a change of state) is left to `engine.monitor`, which handles that one
event with the same kernels and comes back: what happens does not depend on how events were put into frames.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.book import (
    ACCOUNT_VENUES_MAX,
    LIMIT,
    Columns,
    add_position,
    find_position,
    is_pending,
    remove_position,
    set_sequence,
    wide,
)
from engine.inputs import FillKind
from engine.jit import kernel
from engine.margin import CLOSE_COST, EQUITY, EQUITY_INITIAL, INITIAL, MAINTENANCE, UNHAIRCUT, evaluate, requirements_by_mode
from engine.margin import LIMIT as LIMITS_PASSED
from engine.reasons import State
from engine.tables import INVERSE_FUTURE, INVERSE_PERPETUAL, PENDING, POSITIONS_MAX, RiskTables
from engine.universe import InstrumentArrays

# What `move` answers.
MOVED: Final = 0
OVERFLOW: Final = 1
TOO_MANY_POSITIONS: Final = 2
FUNDING_WITH_LOTS: Final = 3
PRICE_ZERO: Final = 4

_TRANSFER: Final = int(FillKind.TRANSFER)
_FUNDING: Final = int(FillKind.FUNDING)
_HEALTHY: Final = int(State.HEALTHY)
_WARNING: Final = int(State.WARNING)
_LIQUIDATABLE: Final = int(State.LIQUIDATABLE)
_BANKRUPT: Final = int(State.BANKRUPT)
_UNKNOWN: Final = int(State.UNKNOWN)
_ROUGH_LIMIT: Final = 1.01 * LIMIT  # below it the exact product fits into 64 bits
COIN_UNIT: Final = 1e-9


class FillColumns(NamedTuple):
    """A frame's fills as contiguous arrays; `account` and `order` index the frame's lists, `instrument` is the universe's number or -1."""

    account: NDArray[np.int64]  # numbers of the book, -1: no room for it
    instrument: NDArray[np.int64]  # numbers of the universe, -1: unknown
    order: NDArray[np.int32]
    kind: NDArray[np.int64]
    lots: NDArray[np.int64]
    price_ticks: NDArray[np.int64]
    cash: NDArray[np.int64]
    sequence: NDArray[np.int64]
    time_ns: NDArray[np.int64]


@kernel
def _is_beyond(x: int, y: int) -> bool:
    """Whether x + y lies beyond +-LIMIT; both are within it."""
    return x > LIMIT - y if y > 0 else x < -LIMIT - y


@kernel
def cash_change(
    kind: int, lots: int, price_ticks: int, cash: int, contract: int, lot_size: float, tick_size: float, cash_per_lot_tick: int
) -> tuple[int, int]:
    """(MOVED or why not, cash units that a fill brings), see docs/model.md, section 1."""
    if kind == _FUNDING:
        return (MOVED if lots == 0 else FUNDING_WITH_LOTS), cash
    if kind == _TRANSFER:
        return MOVED, cash
    if contract == INVERSE_PERPETUAL or contract == INVERSE_FUTURE:
        if price_ticks == 0:
            return PRICE_ZERO, 0
        coins = lots * lot_size / (price_ticks * tick_size) / COIN_UNIT
        if not abs(coins) <= LIMIT:
            return OVERFLOW, 0
        traded = int(np.rint(coins))
    else:
        if not abs(float(lots)) * float(price_ticks) * float(cash_per_lot_tick) < _ROUGH_LIMIT:
            return OVERFLOW, 0
        traded = -lots * price_ticks * cash_per_lot_tick
    if abs(traded) > LIMIT or _is_beyond(traded, cash):
        return OVERFLOW, 0
    return MOVED, traded + cash


@kernel
def move(a: int, instrument: int, kind: int, lots: int, price_ticks: int, cash: int, columns: Columns, terms: InstrumentArrays) -> int:
    """Book one fill on account `a`; a position that becomes empty goes away, unless something of it is pending.

    Answers MOVED, or why not (and then changes nothing).
    """
    code, units = cash_change(
        kind,
        lots,
        price_ticks,
        cash,
        terms.contract[instrument],
        terms.lot_size[instrument],
        terms.tick_size[instrument],
        terms.cash_per_lot_tick[instrument],
    )
    if code != MOVED:
        return code
    slot = find_position(a, instrument, columns)
    quantity_before = columns.quantity[a, slot] if slot >= 0 else 0
    cash_before = columns.cash[a, slot] if slot >= 0 else 0
    if _is_beyond(quantity_before, lots) or _is_beyond(cash_before, units):
        return OVERFLOW
    quantity_after = quantity_before + lots
    cash_after = cash_before + units
    if quantity_after == 0 and cash_after == 0 and (slot < 0 or not is_pending(a, slot, columns)):
        if slot >= 0:
            remove_position(a, slot, columns)
        return MOVED
    if slot < 0:
        slot = add_position(a, instrument, columns)
        if slot < 0:
            return TOO_MANY_POSITIONS
    columns.quantity[a, slot] = quantity_after
    columns.cash[a, slot] = cash_after
    return MOVED


@kernel
def state_of(code: int, prior: int, health: NDArray[np.float64], end_factor: float) -> int:
    """The account's state (docs/model.md, section 6). `code`: Unknown, 0 if it can be valued; `prior`: the last state that was known."""
    if code != 0:
        return _UNKNOWN
    if health[UNHAIRCUT] - health[CLOSE_COST] < 0.0:
        return _BANKRUPT
    equity = health[EQUITY]
    maintenance = health[MAINTENANCE]
    if equity < maintenance:
        return _LIQUIDATABLE
    if (prior == _LIQUIDATABLE or prior == _BANKRUPT) and equity < end_factor * maintenance:
        return _LIQUIDATABLE
    if health[EQUITY_INITIAL] < health[INITIAL] or health[LIMITS_PASSED] != 0.0:
        return _WARNING
    return _HEALTHY


@kernel
def _with_standing(code: int, standing: int) -> int:
    """The Unknown code that counts, where the account has a standing one (0: none)."""
    return standing if standing != 0 and (code == 0 or standing < code) else code


@kernel
def value_accounts(
    accounts: NDArray[np.int64],
    columns: Columns,
    tables: RiskTables,
    end_factor: float,
    states: NDArray[np.int8],
    reasons: NDArray[np.int8],
    index: NDArray[np.int64],
) -> int:
    """Value `accounts` [n] and answer how many of them need a decision: those whose state or reason changes, and those watched.

    `index` gets their places in `accounts`; `states` and `reasons` what each account, by place, comes to. A health row of what cannot be
    valued is nan.
    """
    positions, instrument, quantity, cash = columns.positions, columns.instrument, columns.quantity, columns.cash
    health, standing, prior, watched = columns.health, columns.standing, columns.prior, columns.watched
    state_before, reason_before = columns.state, columns.reason
    pending_row, pending = columns.pending_row, columns.pending
    left = 0
    for k in range(accounts.shape[0]):
        a = accounts[k]
        row = wide(pending_row[a])
        code = evaluate(wide(positions[a]), instrument[a], quantity[a], cash[a], row >= 0, pending[max(row, 0)], tables, health[a])
        code = _with_standing(code, wide(standing[a]))
        state = state_of(code, wide(prior[a]), health[a], end_factor)
        states[k] = state
        reasons[k] = code
        if watched[a] != 0 or state != state_before[a] or code != reason_before[a]:
            index[left] = k
            left += 1
    return left


@kernel
def is_below(a: int, columns: Columns, tables: RiskTables, out: NDArray[np.float64]) -> bool:
    """Whether the account would be below maintenance (or bankrupt, or could not be valued) under other tables; `out` [OUT] is scratch."""
    count = wide(columns.positions[a])
    row = wide(columns.pending_row[a])
    code = evaluate(count, columns.instrument[a], columns.quantity[a], columns.cash[a], row >= 0, columns.pending[max(row, 0)], tables, out)
    return code != 0 or out[EQUITY] < out[MAINTENANCE] or out[UNHAIRCUT] - out[CLOSE_COST] < 0.0


@kernel
def requirements_of(accounts: NDArray[np.int64], columns: Columns, tables: RiskTables, out: NDArray[np.float64]) -> None:
    """Maintenance by mode (isolated, protocol, portfolio) of accounts [n] that can be valued, into `out` [n, 3]."""
    for k in range(accounts.shape[0]):
        a = accounts[k]
        row = wide(columns.pending_row[a])
        requirements_by_mode(
            wide(columns.positions[a]),
            columns.instrument[a],
            columns.quantity[a],
            columns.cash[a],
            row >= 0,
            columns.pending[max(row, 0)],
            tables,
            out[k],
        )


@kernel
def apply_fills(
    start: int,
    fills: FillColumns,
    columns: Columns,
    terms: InstrumentArrays,
    tables: RiskTables,
    end_factor: float,
    latest_ns: int,
) -> int:
    """Apply fills from `start` on, one after the other, each with the account's health after it. Returns the index of the first that
    needs more than arithmetic (nothing of it is applied), or their number."""
    # Each array by itself, and searches in place: to hand a tuple of arrays to another kernel costs as much as to value an account, so
    # that is for rare fills alone.
    account, number, order, kind, time_ns = fills.account, fills.instrument, fills.order, fills.kind, fills.time_ns
    lots, price_ticks, extra, sequences = fills.lots, fills.price_ticks, fills.cash, fills.sequence
    positions, instrument, quantity, cash = columns.positions, columns.instrument, columns.quantity, columns.cash
    venue_count, venues, sequence, standing = columns.venue_count, columns.venue, columns.sequence, columns.standing
    health, prior, state_before, reason_before = columns.health, columns.prior, columns.state, columns.reason
    plain, dirty = columns.plain, columns.dirty
    pending_row, pending = columns.pending_row, columns.pending
    venue_of, contract, lot_size, tick_size, unit = terms.venue, terms.contract, terms.lot_size, terms.tick_size, terms.cash_per_lot_tick
    n: int = account.shape[0]
    for k in range(start, n):
        a = account[k]
        i = number[k]
        if a < 0 or i < 0 or order[k] >= 0 or time_ns[k] > latest_ns or plain[a] == 0:
            return k
        venue = wide(venue_of[i])
        venue_slot = -1
        for at in range(venue_count[a]):
            if venues[a, at] == venue:
                venue_slot = at
                break
        last = sequence[a, venue_slot] if venue_slot >= 0 else 0
        if sequences[k] != last + 1 or (venue_slot < 0 and venue_count[a] == ACCOUNT_VENUES_MAX):
            return k
        held_before = wide(positions[a])
        slot = -1
        for at in range(held_before):
            if instrument[a, at] == i:
                slot = at
                break
        if slot < 0 and held_before == POSITIONS_MAX:
            return k
        quantity_before = quantity[a, slot] if slot >= 0 else 0
        cash_before = cash[a, slot] if slot >= 0 else 0
        code, units = cash_change(kind[k], lots[k], price_ticks[k], extra[k], wide(contract[i]), lot_size[i], tick_size[i], unit[i])
        if code != MOVED or _is_beyond(quantity_before, lots[k]) or _is_beyond(cash_before, units):
            return k
        if slot >= 0 and (quantity_before + lots[k] != 0 or cash_before + units != 0):  # `move` would do the same
            quantity[a, slot] = quantity_before + lots[k]
            cash[a, slot] = cash_before + units
        elif move(a, i, kind[k], lots[k], price_ticks[k], extra[k], columns, terms) != MOVED:
            return k
        row = wide(pending_row[a])
        code = evaluate(wide(positions[a]), instrument[a], quantity[a], cash[a], row >= 0, pending[max(row, 0)], tables, health[a])
        code = _with_standing(code, wide(standing[a]))
        if state_of(code, wide(prior[a]), health[a], end_factor) != state_before[a] or code != reason_before[a]:
            _undo(a, i, slot, held_before, quantity_before, cash_before, columns)
            return k
        if venue_slot >= 0:
            sequence[a, venue_slot] = sequences[k]
        else:
            set_sequence(a, venue, sequences[k], columns)
        dirty[a] = 1
    return n


@kernel
def _undo(a: int, instrument: int, slot: int, held_before: int, quantity: int, cash: int, columns: Columns) -> None:
    """Put a position back to where it was before `move`: also into its slot, if it had gone away."""
    held = columns.positions[a]
    if slot < 0:
        if held > held_before:
            remove_position(a, held - 1, columns)
        return
    if held < held_before:
        add_position(a, instrument, columns)
        for k in range(held, slot, -1):
            columns.instrument[a, k] = columns.instrument[a, k - 1]
            columns.quantity[a, k] = columns.quantity[a, k - 1]
            columns.cash[a, k] = columns.cash[a, k - 1]
            if columns.pending_row[a] >= 0:
                for column in range(PENDING):
                    columns.pending[columns.pending_row[a], k, column] = columns.pending[columns.pending_row[a], k - 1, column]
        if columns.pending_row[a] >= 0:
            for column in range(PENDING):
                columns.pending[columns.pending_row[a], slot, column] = 0  # with something pending it would not have gone
        columns.instrument[a, slot] = instrument
    columns.quantity[a, slot] = quantity
    columns.cash[a, slot] = cash
