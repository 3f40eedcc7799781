"""The planner: the cheapest closings that bring one account's excess to zero, never one that lowers it (docs/model.md, section 8).

Excess = E_m - end_factor * M. Each candidate is the closing of one position, evaluated exactly on a scratch copy of the account.
"""

import hashlib
import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.book import LIMIT, Columns, wide
from engine.jit import kernel
from engine.margin import EQUITY, MAINTENANCE, OUT, POSITIONS_MAX, closing_cost_usd, evaluate
from engine.market import Market
from engine.parameters import BPS, Parameters
from engine.tables import (
    ASSETS_MAX,
    CASH_VALUE,
    FUTURE,
    INVERSE_FUTURE,
    INVERSE_PERPETUAL,
    LEAVING,
    LOAN,
    NOTIONAL,
    OPTION,
    PENDING,
    PERPETUAL,
    SPOT,
    UNIT_LONG,
    VENUES_MAX,
    RiskTables,
)
from engine.universe import InstrumentArrays

SIZES: Final = 16  # of a close that are looked at in each of two rounds
COST_FLOOR: Final = 1e-6  # of the notional, so that a free closing has a finite score
NO_SCORE: Final = -math.inf


class Scratch(NamedTuple):
    """Where a plan is tried out; one set for one thread."""

    instrument: NDArray[np.int32]  # [POSITIONS_MAX]
    quantity: NDArray[np.int64]
    cash: NDArray[np.int64]
    pending: NDArray[np.int64]  # [POSITIONS_MAX, PENDING]; nothing of it ends by a close
    used: NDArray[np.bool_]  # [POSITIONS_MAX] closed by this plan, or not to be touched
    lots: NDArray[np.int64]  # [POSITIONS_MAX] of the close that is best for each candidate
    score: NDArray[np.float64]  # [POSITIONS_MAX]
    budget_usd: NDArray[np.float64]  # [ASSETS_MAX] what the throttle leaves
    out: NDArray[np.float64]  # [OUT]


class Legs(NamedTuple):
    """A plan's orders in the order in which they were chosen; all [POSITIONS_MAX]."""

    instrument: NDArray[np.int64]
    lots: NDArray[np.int64]  # signed: > 0 buys
    notional_usd: NDArray[np.float64]
    cost_usd: NDArray[np.float64]
    excess_before_usd: NDArray[np.float64]
    excess_after_usd: NDArray[np.float64]


def new_scratch() -> Scratch:
    """Empty scratch space."""
    return Scratch(
        instrument=np.zeros(POSITIONS_MAX, np.int32),
        quantity=np.zeros(POSITIONS_MAX, np.int64),
        cash=np.zeros(POSITIONS_MAX, np.int64),
        pending=np.zeros((POSITIONS_MAX, PENDING), np.int64),
        used=np.zeros(POSITIONS_MAX, np.bool_),
        lots=np.zeros(POSITIONS_MAX, np.int64),
        score=np.zeros(POSITIONS_MAX, np.float64),
        budget_usd=np.zeros(ASSETS_MAX, np.float64),
        out=np.zeros(OUT, np.float64),
    )


def new_legs() -> Legs:
    """Room for one plan."""
    integers = [np.zeros(POSITIONS_MAX, np.int64) for _ in range(2)]
    floats = [np.zeros(POSITIONS_MAX, np.float64) for _ in range(4)]
    return Legs(integers[0], integers[1], floats[0], floats[1], floats[2], floats[3])


def new_frozen_venues() -> NDArray[np.bool_]:
    """Room for a mark on each venue."""
    return np.zeros(VENUES_MAX, np.bool_)


def order_id(account: str, epoch: int, venue: str, instrument: str, attempt: int) -> str:
    """Hex of blake2b-128 over `account|epoch|venue|instrument|attempt`: the same order has the same id whoever computes it."""
    text = f"{account}|{epoch}|{venue}|{instrument}|{attempt}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def limit_ticks(price: float, tick_size: float, lots: int, attempt: int, parameters: Parameters) -> int:
    """The worst price of an order in ticks: `price` (quote units) with the attempt's slip, rounded towards being filled, at least 1."""
    slip_bps = min(parameters.slip_bps + parameters.slip_step_bps * (attempt - 1), parameters.slip_cap_bps)
    slip = slip_bps * BPS
    if lots > 0:
        return max(math.ceil(price * (1.0 + slip) / tick_size), 1)
    return max(math.floor(price * (1.0 - slip) / tick_size), 1)


def price_in_quote(instrument: int, market: Market) -> float:
    """The unit price that an order's limit starts from, in the instrument's quote (inverse perpetuals and futures: in USD).

    What has a basis trades at mark * (1 + basis).

    Only for an instrument that can be valued.
    """
    terms, row = market.universe.instrument_arrays, market.tables.instrument_float[instrument]
    contract = terms.contract[instrument]
    mark = market.mark(int(terms.underlying[instrument]))
    quote = market.mark(int(terms.quote[instrument]))
    assert mark is not None, "the planner closes only what can be valued"
    assert quote is not None, "the planner closes only what can be valued"
    if contract >= OPTION:
        return float(row[UNIT_LONG]) / float(terms.lot_size[instrument]) / quote
    if contract in (PERPETUAL, INVERSE_PERPETUAL, FUTURE, INVERSE_FUTURE):
        mark *= 1.0 + float(market.values.basis[instrument])
    if contract in (INVERSE_PERPETUAL, INVERSE_FUTURE):
        return mark
    return mark / quote


@kernel
def is_closed_to_us(instrument: int, clock_ns: int, terms: InstrumentArrays) -> bool:
    """Whether no order is ever sent in this instrument: a loan, one that is not tradable, or one past its expiry."""
    expiry_ns = terms.expiry_ns[instrument]
    return terms.contract[instrument] == LOAN or not terms.tradable[instrument] or 0 < expiry_ns <= clock_ns


@kernel
def _excess(count: int, scratch: Scratch, tables: RiskTables, end_factor: float) -> float:
    """Of the scratch copy with all that is pending, in USD; -inf where it cannot be valued."""
    code = evaluate(count, scratch.instrument, scratch.quantity, scratch.cash, True, scratch.pending, tables, scratch.out)
    if code != 0:
        return -math.inf
    excess: float = scratch.out[EQUITY] - end_factor * scratch.out[MAINTENANCE]
    return excess


@kernel
def _excess_after_close(
    slot: int, lots: int, count: int, scratch: Scratch, terms: InstrumentArrays, tables: RiskTables, end_factor: float, keep: bool
) -> float:
    """Excess after closing `lots` (> 0) of a slot at its mark, less the cost; `keep`: the scratch copy stays so. -inf: cannot be."""
    i = wide(scratch.instrument[slot])
    quantity = scratch.quantity[slot]
    cash = scratch.cash[slot]
    unit = tables.instrument_float[i, NOTIONAL] if terms.contract[i] == SPOT else tables.instrument_float[i, UNIT_LONG]
    signed = lots if quantity > 0 else -lots
    units = (signed * unit - closing_cost_usd(i, lots, tables)) / tables.instrument_float[i, CASH_VALUE]
    if not abs(cash + units) <= LIMIT:
        return -math.inf
    scratch.quantity[slot] = quantity - signed
    scratch.cash[slot] = cash + int(np.rint(units))
    excess = _excess(count, scratch, tables, end_factor)
    if not keep:
        scratch.quantity[slot] = quantity
        scratch.cash[slot] = cash
    return excess


@kernel
def _best_close(
    slot: int, full: int, count: int, scratch: Scratch, terms: InstrumentArrays, tables: RiskTables, end_factor: float
) -> tuple[int, float]:
    """(lots, excess) of the best close: of all, or of `SIZES` parts and as many around the best of them, the first of equal ones.

    To close all of one leg of a hedge may cost more margin than it frees where closing a part of it cures the account. The excess is all
    but concave in the size (value falls by a convex cost, the requirement is a maximum of straight lines): where a sixteenth less is not
    better than all, no part is, and most accounts cost two evaluations.
    """
    best = full
    excess = _excess_after_close(slot, full, count, scratch, terms, tables, end_factor, False)
    less = full - max(full // SIZES, 1)
    if less == 0 or not _excess_after_close(slot, less, count, scratch, terms, tables, end_factor, False) > excess:
        return best, excess
    low = wide(0)
    high = full
    for _ in range(2):
        width = high - low
        for k in range(1, SIZES + 1):
            lots = low + width // SIZES * k + (width % SIZES * k + SIZES - 1) // SIZES
            after = _excess_after_close(slot, lots, count, scratch, terms, tables, end_factor, False)
            if after > excess:
                best = lots
                excess = after
        step = width // SIZES + 1
        low = max(best - step, 0)
        high = min(best + step, full)
    return best, excess


@kernel
def _smallest_close(
    slot: int, enough: int, count: int, scratch: Scratch, terms: InstrumentArrays, tables: RiskTables, end_factor: float
) -> int:
    """The fewest lots that bring the excess to 0, by bisection on [1, enough]; closing `enough` does."""
    low = 1
    high = enough
    while low < high:
        middle = low + (high - low) // 2
        if _excess_after_close(slot, middle, count, scratch, terms, tables, end_factor, False) >= 0.0:
            high = middle
        else:
            low = middle + 1
    return low


@kernel
def plan(
    a: int,
    columns: Columns,
    everything: bool,
    frozen_venues: NDArray[np.bool_],
    budget_usd: NDArray[np.float64],
    legs_max: int,
    end_factor: float,
    clock_ns: int,
    terms: InstrumentArrays,
    tables: RiskTables,
    scratch: Scratch,
    legs: Legs,
) -> tuple[int, bool]:
    """Plan one account: the number of legs written to `legs`, and whether the throttle held something back.

    `everything`: close all (a bankrupt account), else until the excess is 0. `budget_usd` [ASSETS_MAX] is read, not spent. Lots of a spot
    balance that are leaving are not for sale, and what is past its expiry is not either.
    """
    count = wide(columns.positions[a])
    row = wide(columns.pending_row[a])
    for asset in range(budget_usd.shape[0]):
        scratch.budget_usd[asset] = budget_usd[asset]
    for slot in range(count):
        i = wide(columns.instrument[a, slot])
        scratch.instrument[slot] = i
        scratch.quantity[slot] = columns.quantity[a, slot]
        scratch.cash[slot] = columns.cash[a, slot]
        for column in range(PENDING):
            scratch.pending[slot, column] = columns.pending[row, slot, column] if row >= 0 else 0
        scratch.used[slot] = is_closed_to_us(i, clock_ns, terms) or frozen_venues[terms.venue[i]]
    throttled = False
    found = 0
    while found < legs_max:
        before = _excess(count, scratch, tables, end_factor)
        if before == -math.inf or (before >= 0.0 and not everything):
            break
        for slot in range(count):
            scratch.score[slot] = NO_SCORE
            i = wide(scratch.instrument[slot])
            lots = abs(scratch.quantity[slot])
            if terms.contract[i] == SPOT and scratch.quantity[slot] > 0:
                lots = max(lots - scratch.pending[slot, LEAVING], 0)
            if lots == 0 or scratch.used[slot]:
                continue
            if everything:
                after = _excess_after_close(slot, lots, count, scratch, terms, tables, end_factor, False)
            else:
                lots, after = _best_close(slot, lots, count, scratch, terms, tables, end_factor)
            released = after - before
            if released > 0.0:
                scratch.lots[slot] = lots
                cost = closing_cost_usd(i, lots, tables)
                floor = COST_FLOOR * lots * tables.instrument_float[i, NOTIONAL]
                scratch.score[slot] = released / max(cost, floor)
        chosen = False
        best = wide(-1)
        while not chosen:
            best = wide(-1)
            for slot in range(count):
                if scratch.score[slot] > NO_SCORE and (best < 0 or scratch.score[slot] > scratch.score[best]):
                    best = slot
            if best < 0:
                break
            i = wide(scratch.instrument[best])
            lots = scratch.lots[best]
            if not everything and _excess_after_close(best, lots, count, scratch, terms, tables, end_factor, False) > 0.0:
                lots = _smallest_close(best, lots, count, scratch, terms, tables, end_factor)
            notional = tables.instrument_float[i, NOTIONAL]
            asset = terms.underlying[i]
            if lots * notional > scratch.budget_usd[asset]:
                throttled = True
                lots = math.floor(scratch.budget_usd[asset] / notional)
            if lots > 0:
                after = _excess_after_close(best, lots, count, scratch, terms, tables, end_factor, False)
                chosen = after > before
            if not chosen:
                scratch.score[best] = NO_SCORE
        if not chosen:
            break
        legs.instrument[found] = i
        legs.lots[found] = -lots if scratch.quantity[best] > 0 else lots
        legs.notional_usd[found] = lots * notional
        legs.cost_usd[found] = closing_cost_usd(i, lots, tables)
        legs.excess_before_usd[found] = before
        legs.excess_after_usd[found] = _excess_after_close(best, lots, count, scratch, terms, tables, end_factor, True)
        scratch.budget_usd[asset] -= lots * notional
        scratch.used[best] = True
        found += 1
    return found, throttled
