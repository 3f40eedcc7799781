"""Who would have to sell if prices fell, and how much: the cascade curve of each risk group (docs/model.md, section 12).

Accounts are valued again, whole, by tables made at moved marks: a group and all that is redeemable into it falls, every other group stays
(state and prices of options included; volatilities, correlations, depths and time are those in force). What an account that falls below
maintenance sells is approximated: one fraction of all that it has, its excess taken to run straight from what it is to its equity before
haircuts once everything is closed. Costs of closing, limits and throttles are left out.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.book import Accounts, Columns, wide
from engine.jit import kernel
from engine.margin import CLOSE_COST, EQUITY, MAINTENANCE, OUT, UNHAIRCUT, evaluate
from engine.market import Market
from engine.market_arrays import Bounds
from engine.other_tables import OtherTables
from engine.reasons import State
from engine.tables import (
    ASSET,
    ASSETS_MAX,
    BASIS_CHARGE,
    CASH_DELTA,
    CASH_VOL_HAIRCUT,
    CONTRACT,
    DELTA_LONG,
    DELTA_SHORT,
    EXTREME_UP,
    GROUP,
    IS_DERIVATIVE,
    LOAN,
    MAINTENANCE_LEVEL,
    NOTIONAL,
    OPTION,
    OPTION_DELTA,
    QUOTE_GROUP,
    SCAN,
    SCAN_ROW,
    SPOT,
    UNIT_LONG,
    VOL_HAIRCUT,
    RiskTables,
)

FALLS: Final = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)  # from the mark; the first: who is below already
DEEPEST: Final = 1.0 - 1e-9  # a mark stays above 0
EVALUATION: Final = 8  # units of work, some 40 ns each: one account valued; to pass one by is one unit
ROW: Final = 8  # one row of the tables made again
SCAN_ROWS: Final = 320  # an option's scan made again
UNBOUNDED: Final = 2**62

# What the walk knows of an account.
_OPEN: Final = 0
_HIT: Final = 1
_OUT_OF_REACH: Final = 2
_UNKNOWN_STATE: Final = int(State.UNKNOWN)


class Curve(NamedTuple):
    """Of one group, by fall [F]; each includes those of smaller falls: prices pass them on the way."""

    falls: tuple[float, ...]
    accounts: NDArray[np.int64]  # [F] that are below by then
    volume_usd: NDArray[np.float64]  # [F, assets] what they sell of each asset of the group, at the marks at which they fall
    second_usd: NDArray[np.float64]  # [F, assets] what the impact of `volume_usd` makes others sell; 0 without feedback


class MovedMarket:
    """A market's tables at other marks. The arrays are its own, and are used again."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._tables = OtherTables(market)

    def tables(self, factor: NDArray[np.float64]) -> RiskTables:
        """With each mark times its `factor` [ASSETS_MAX]; valid until the next call."""
        market = self._market
        marks = market.marks._replace(mark=market.marks.mark * factor)
        into = market.universe.asset_arrays.redemption_asset
        bounds = Bounds(np.where(into >= 0, market.bounds.bound * factor[into], math.nan), market.bounds.status)
        return self._tables.fill(market.inputs, marks=marks, bounds=bounds)


class Walk:
    """One group's curve, account by account and fall by fall; can be left and gone on with. Work is counted, so that it can be bounded."""

    def __init__(
        self, moved: MovedMarket, accounts: Accounts, market: Market, group: int, falls: tuple[float, ...], feedback: bool
    ) -> None:
        steps = len(falls)
        self.curve = Curve(falls, np.zeros(steps, np.int64), np.zeros((steps, ASSETS_MAX)), np.zeros((steps, ASSETS_MAX)))
        self._moved, self._accounts, self._market, self._group, self._feedback = moved, accounts, market, group, feedback
        self._members = market.universe.asset_arrays.group == group
        into = market.universe.asset_arrays.redemption_asset
        self._depegs = bool((self._members & (into >= 0) & ~self._members[into]).any())  # its redemption value stays where it is
        self._found = np.zeros(len(accounts), np.uint8)
        self._step = 0
        self._next = 0
        self._out = np.zeros(OUT)
        instruments = market.universe.instrument_count
        self._fill_work = ROW * instruments + SCAN_ROWS * int((market.tables.instrument_int[:instruments, SCAN_ROW] >= 0).sum())

    @property
    def is_done(self) -> bool:
        return self._step == len(self.curve.falls)

    def go_on(self, work: int) -> int:
        """Do up to about `work` units; how many were done. With feedback a step's second round is done whole."""
        done = 0
        while not self.is_done and done < work:
            falls, k = self.curve.falls, self._step
            if self._next == 0 and k:
                self.curve.accounts[k] = self.curve.accounts[k - 1]
                self.curve.volume_usd[k] = self.curve.volume_usd[k - 1]
            done += self._fill_work
            self._next, spent = self._pass(falls[k], self._next, max(work - done, 1), self.curve.accounts, self.curve.volume_usd, hits=True)
            done += spent
            if self._next < len(self._found):
                continue
            if self._feedback:
                done += self._second_round()
            self._step, self._next = k + 1, 0
        return done

    def _pass(
        self, fall: float, start: int, work: int, counts: NDArray[np.int64], volumes: NDArray[np.float64], *, hits: bool
    ) -> tuple[int, int]:
        market, k = self._market, self._step
        tables = self._moved.tables(np.where(self._members, 1.0 - fall, 1.0))
        deepest = DEEPEST if self._feedback else max(self.curve.falls)
        return _fall_to(
            start,
            len(self._found),
            work,
            self._group,
            k == 0 and hits,
            hits,
            deepest,
            self._depegs,
            market.parameters.end_factor,
            self._accounts.columns,
            tables,
            self._found,
            self._out,
            counts[k : k + 1],
            volumes[k],
        )

    def _second_round(self) -> int:
        k, market = self._step, self._market
        volume = float(self.curve.volume_usd[k].sum())
        if volume == 0.0:
            return 0
        depth = market.depth_usd(market.universe.group_assets[self._group])
        impact = min(market.parameters.impact_coefficient * math.sqrt(volume / depth), 1.0)
        fall = min(1.0 - (1.0 - self.curve.falls[k]) * (1.0 - impact), DEEPEST)
        return self._pass(fall, 0, UNBOUNDED, np.zeros_like(self.curve.accounts), self.curve.second_usd, hits=False)[1]


def cascade(accounts: Accounts, market: Market, group: int, falls: tuple[float, ...] = FALLS, *, feedback: bool = False) -> Curve:
    """The curve of one group, `falls` rising. With `feedback` a second round: what was sold moves the price on, by the impact of section 8
    on the depth of the group's own asset, and who falls then sells too.

    Work: at most one valuation an account that holds the group and fall (two with feedback); whoever cannot be reached by the largest
    fall is valued once.
    """
    walk = Walk(MovedMarket(market), accounts, market, group, falls, feedback)
    while not walk.is_done:
        walk.go_on(UNBOUNDED)
    return walk.curve


# ---- kernels ----------------------------------------------------------------------------------------------------------------------------


@kernel
def _fall_to(
    start: int,
    end: int,
    work: int,
    group: int,
    first: bool,
    hits: bool,
    deepest: float,
    depegs: bool,
    end_factor: float,
    columns: Columns,
    tables: RiskTables,
    found: NDArray[np.uint8],
    out: NDArray[np.float64],
    count: NDArray[np.int64],
    volume: NDArray[np.float64],
) -> tuple[int, int]:
    """Value the open ones of accounts start..end at `tables`, until `work` is used up; (the next account, work done).

    Who falls is added to `count` [1] and `volume` [ASSETS_MAX], and marked where `hits`.
    """
    done = 0
    for a in range(start, end):
        if done >= work:
            return a, done
        done += 1
        if found[a] != _OPEN:
            continue
        if columns.known[a] == 0 or columns.state[a] == _UNKNOWN_STATE:
            found[a] = _OUT_OF_REACH
            continue
        positions = wide(columns.positions[a])
        instrument, quantity, cash = columns.instrument[a], columns.quantity[a], columns.cash[a]
        if first and not _holds(positions, instrument, quantity, cash, group, tables):
            found[a] = _OUT_OF_REACH
            continue
        done += EVALUATION
        row = wide(columns.pending_row[a])
        pending = columns.pending[max(row, 0)]
        if evaluate(positions, instrument, quantity, cash, row >= 0, pending, tables, out) != 0:
            continue
        bankrupt = out[UNHAIRCUT] - out[CLOSE_COST] < 0.0
        if not bankrupt and out[EQUITY] >= out[MAINTENANCE]:
            if first and row < 0 and _is_out_of_reach(positions, instrument, quantity, cash, group, deepest, depegs, tables, out):
                found[a] = _OUT_OF_REACH
            continue
        if hits:
            found[a] = _HIT
        count[0] += 1
        share = 1.0
        short = end_factor * out[MAINTENANCE] - out[EQUITY]
        if not bankrupt and short < out[UNHAIRCUT] + short:
            share = short / (out[UNHAIRCUT] + short)
        for slot in range(positions):
            i = instrument[slot]
            if tables.instrument_int[i, GROUP] == group:
                volume[tables.instrument_int[i, ASSET]] += share * _to_sell(wide(quantity[slot]), wide(i), tables)
    return end, done


@kernel
def _holds(
    positions: int, instrument: NDArray[np.int32], quantity: NDArray[np.int64], cash: NDArray[np.int64], group: int, tables: RiskTables
) -> bool:
    ints = tables.instrument_int
    for slot in range(positions):
        i = instrument[slot]
        if (quantity[slot] != 0 and ints[i, GROUP] == group) or (cash[slot] != 0 and ints[i, QUOTE_GROUP] == group):
            return True
    return False


@kernel
def _is_out_of_reach(
    positions: int,
    instrument: NDArray[np.int32],
    quantity: NDArray[np.int64],
    cash: NDArray[np.int64],
    group: int,
    deepest: float,
    depegs: bool,
    tables: RiskTables,
    out: NDArray[np.float64],
) -> bool:
    """Whether no fall of the group up to `deepest` can bring the account, not below at `out`, below: then it need not be looked at again.

    Equity falls by no more than what is held and owed of the group moves, and by all of the group's collateral where its haircut may grow
    (a redemption that does not fall along); the requirement grows by no more than its largest rate and basis on that move, concentration
    falls with what is held and what is open of it. Not for options, for derivatives of what its redemption keeps up, nor for whoever has
    something pending.
    """
    ints = tables.instrument_int
    floats = tables.instrument_float
    row = tables.group_float[MAINTENANCE_LEVEL, group]
    rate = max(row[SCAN], row[EXTREME_UP])
    moved = 0.0
    most = 0.0
    for slot in range(positions):
        i = instrument[slot]
        lots = quantity[slot]
        if lots != 0 and ints[i, GROUP] == group:
            if ints[i, SCAN_ROW] >= 0 or (depegs and ints[i, IS_DERIVATIVE] != 0):
                return False
            size = abs(lots * (floats[i, DELTA_LONG] if lots > 0 else floats[i, DELTA_SHORT]))
            moved += size
            most += deepest * (size * (1.0 + rate + floats[i, VOL_HAIRCUT]) + abs(lots * floats[i, BASIS_CHARGE]))
            if depegs and lots > 0 and ints[i, CONTRACT] == SPOT:
                most += lots * floats[i, UNIT_LONG]
        if cash[slot] != 0 and ints[i, QUOTE_GROUP] == group:
            size = abs(cash[slot] * floats[i, CASH_DELTA])
            moved += size
            most += deepest * size * (1.0 + rate + floats[i, CASH_VOL_HAIRCUT])
    return bool(out[EQUITY] - out[MAINTENANCE] > most and out[UNHAIRCUT] - out[CLOSE_COST] > deepest * moved)


@kernel
def _to_sell(lots: int, instrument: int, tables: RiskTables) -> float:
    """USD of a position that is sold when it is closed: longs at their notional, options that gain with the price at their delta."""
    contract = tables.instrument_int[instrument, CONTRACT]
    if contract == LOAN:
        return 0.0
    if contract >= OPTION:
        return float(max(0.0, lots * tables.instrument_float[instrument, OPTION_DELTA]))
    return float(max(0, lots) * tables.instrument_float[instrument, NOTIONAL])
