"""The same valuation written for numpy: every scenario's loss is linear in the quantities, so a whole book is one matrix product.

It gets what suits it best: its own dense matrix of quantities, matrices made once from the engine's risk tables, and blocks of accounts
that stay in the cache. It holds for the bench's world alone: USD quotes, one collateral with a haircut, one volatility for both levels.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.book import Columns
from engine.margin import CLOSE_COST, EQUITY, EQUITY_INITIAL, INITIAL, MAINTENANCE, OUT, UNHAIRCUT
from engine.reasons import State
from engine.tables import (
    BAND,
    BASIS_CHARGE,
    CASH_VALUE,
    CONCENTRATION_K,
    COST_RATE,
    DELTA_LONG,
    END_FACTOR,
    EXPOSURE,
    EXTREME_DOWN,
    EXTREME_FRACTION,
    EXTREME_UP,
    GAP_DOWN,
    GAP_FRACTION,
    GAP_UP,
    GRID_STEPS,
    GROUP,
    HAIRCUT_FLAT,
    HAIRCUT_STEP,
    IMPACT,
    INITIAL_FACTOR,
    IS_DERIVATIVE,
    LEVELS_DIFFER,
    MAINTENANCE_LEVEL,
    NOTIONAL,
    OPTION_DELTA,
    REGIMES,
    SCAN,
    SCAN_ROW,
    SHORT_MINIMUM,
    SIZE,
    TENOR_BANDS,
    THIN,
    UNIT_LONG,
    VEGA_CHARGE,
    VOL_HAIRCUT,
    RiskTables,
)

BLOCK: Final = 2_048  # accounts; what is in between stays in the cache

Floats = NDArray[np.float64]


class Losses(NamedTuple):
    """Loss of a lot of each instrument in each scenario, `matrix` [instruments, drivers * scenarios]; `members` [instruments, drivers]."""

    matrix: Floats
    members: Floats
    scenarios: int


class NumpyBook:
    """The accounts of `columns` (the first `accounts`) as numpy wants them."""

    def __init__(self, columns: Columns, accounts: int, tables: RiskTables, instruments: int, collateral: int) -> None:
        floats = tables.instrument_float
        assert not tables.instrument_int[:instruments, LEVELS_DIFFER].any(), "both levels must have the same volatilities"
        self.accounts = accounts
        self.slots = int(columns.positions[:accounts].max())
        self.instrument = np.ascontiguousarray(columns.instrument[:accounts, : self.slots])
        self.quantity = columns.quantity[:accounts, : self.slots].astype(np.float64)
        self.cash = columns.cash[:accounts, : self.slots].astype(np.float64)
        self.dense = np.zeros((accounts, instruments))
        np.put_along_axis(self.dense, self.instrument, self.quantity, axis=1)
        self.collateral = collateral
        self.unit, self.notional = floats[:instruments, UNIT_LONG].copy(), floats[:instruments, NOTIONAL].copy()
        self.rate, self.impact = floats[:instruments, COST_RATE].copy(), floats[:instruments, IMPACT].copy()
        self.cash_value = float(floats[0, CASH_VALUE])
        self.flat, self.size = float(floats[collateral, HAIRCUT_FLAT]), float(floats[collateral, SIZE])
        self.initial_factor, self.end_factor = float(tables.settings[INITIAL_FACTOR]), float(tables.settings[END_FACTOR])
        self.add_ons = _add_on_matrices(tables, instruments)
        self.out = np.zeros((accounts, OUT))
        self.state = np.zeros(accounts, np.int8)

    def value(self, losses: Losses) -> None:
        """Health and state of every account, into `out` and `state`."""
        for start in range(0, self.accounts, BLOCK):
            part = slice(start, min(start + BLOCK, self.accounts))
            self._value_block(part, losses, self.out[part], self.state[part])

    def _value_block(self, part: slice, losses: Losses, out: Floats, state: NDArray[np.int8]) -> None:
        instrument, quantity, dense = self.instrument[part], self.quantity[part], self.dense[part]
        unhaircut = dense @ self.unit + self.cash[part].sum(axis=1) * self.cash_value
        value = np.maximum(dense[:, self.collateral] * self.unit[self.collateral], 0.0)
        equity = unhaircut - value * np.clip(self.flat + self.size * np.sqrt(value), 0.0, 1.0)
        notional = np.abs(quantity) * self.notional[instrument]
        cost = (notional * (self.rate[instrument] + self.impact[instrument] * np.sqrt(notional))).sum(axis=1)
        loss = (dense @ losses.matrix).reshape(len(dense), -1, losses.scenarios).max(axis=2)
        held = np.abs(dense) @ losses.members > 0.0
        scanned = np.maximum(np.where(held, loss, 0.0).max(axis=1), 0.0)
        requirement = self.add_ons.requirement(dense, scanned)
        out[:, EQUITY] = out[:, EQUITY_INITIAL] = equity
        out[:, UNHAIRCUT], out[:, CLOSE_COST] = unhaircut, cost
        out[:, MAINTENANCE], out[:, INITIAL] = requirement, self.initial_factor * requirement
        # Nobody was liquidatable before: the state is the same function of the new health alone.
        state[:] = np.select(
            [unhaircut - cost < 0.0, equity < requirement, equity < out[:, INITIAL]],
            [State.BANKRUPT, State.LIQUIDATABLE, State.WARNING],
            State.HEALTHY,
        )

    def differences(self, columns: Columns, states: NDArray[np.int8]) -> tuple[float, int]:
        """(largest relative difference of a health column, accounts in another state) against what the engine says."""
        worst = 0.0
        for column in (EQUITY, EQUITY_INITIAL, UNHAIRCUT, MAINTENANCE, INITIAL, CLOSE_COST):
            ours, theirs = self.out[:, column], columns.health[: self.accounts, column]
            scale = np.maximum(np.abs(columns.health[: self.accounts, UNHAIRCUT]), 1.0)
            worst = max(worst, float((np.abs(ours - theirs) / scale).max(initial=0.0)))
        return worst, int((self.state != states).sum())


class AddOns(NamedTuple):
    """What comes on top of scenarios, as matrices [instruments, ...]; concentration by group."""

    basis: Floats  # [instruments, groups * bands]
    vega: Floats
    curvature_up: Floats  # [instruments, groups]
    curvature_down: Floats
    exposure: Floats
    delta: Floats  # of all that is held, coin cash apart: the bench has none
    short_minimum: Floats  # [instruments]
    gap_fraction: float
    concentration_k: float
    option_notional: Floats  # [instruments, groups]
    concentration: Floats  # [groups]: k * scan range
    thin: Floats  # [groups]
    optional: bool

    def requirement(self, dense: Floats, scanned: Floats) -> Floats:
        """Of accounts [n, instruments] whose largest loss is `scanned` [n]."""
        total = scanned
        gross = np.abs(dense) @ self.exposure
        longer = np.maximum(np.sqrt(gross) * self.thin - 1.0, 0.0)
        if self.optional:
            total = np.maximum(total, np.maximum(-dense, 0.0) @ self.short_minimum)
            total = total + np.abs(dense @ self.vega).sum(axis=1)
            gap = self.gap_fraction * np.maximum(np.maximum(dense @ self.curvature_up, dense @ self.curvature_down), 0.0)
            meanwhile = np.minimum(np.abs(dense) @ self.option_notional, self.concentration_k * gap * longer)
            total = total + gap.sum(axis=1) + meanwhile.sum(axis=1)
        total = total + np.abs(dense @ self.basis).sum(axis=1)
        left = np.minimum(gross, np.abs(dense @ self.delta))
        found: Floats = total + np.minimum(left, self.concentration * left * longer).sum(axis=1)
        return found


def _add_on_matrices(tables: RiskTables, instruments: int) -> AddOns:
    ints, floats = tables.instrument_int[:instruments], tables.instrument_float[:instruments]
    groups = sorted(set(ints[:, GROUP].tolist()) - {-1})
    ranges = tables.group_float[MAINTENANCE_LEVEL, groups]

    def by_group(values: Floats) -> Floats:
        return np.stack([np.where(ints[:, GROUP] == g, values, 0.0) for g in groups], axis=1)

    def by_band(values: Floats) -> Floats:
        bands = [np.where(ints[:, BAND] == band, values, 0.0) for band in range(TENOR_BANDS)]
        return np.concatenate([by_group(one) for one in bands if one.any()] or [by_group(np.zeros(instruments))], axis=1)

    return AddOns(
        basis=by_band(floats[:, BASIS_CHARGE]),
        vega=by_band(floats[:, VEGA_CHARGE]),
        curvature_up=by_group(floats[:, GAP_UP]),
        curvature_down=by_group(floats[:, GAP_DOWN]),
        exposure=by_group(np.where(ints[:, IS_DERIVATIVE] != 0, floats[:, EXPOSURE], 0.0)),
        delta=by_group(floats[:, DELTA_LONG] + floats[:, OPTION_DELTA]),
        short_minimum=floats[:, SHORT_MINIMUM].copy(),
        gap_fraction=float(tables.settings[GAP_FRACTION]),
        concentration_k=float(tables.settings[CONCENTRATION_K]),
        option_notional=by_group(np.where(ints[:, SCAN_ROW] >= 0, floats[:, NOTIONAL], 0.0)),
        concentration=float(tables.settings[CONCENTRATION_K]) * ranges[:, SCAN],
        thin=ranges[:, THIN].copy(),
        optional=bool((ints[:, SCAN_ROW] >= 0).any()),
    )


def all_scenarios(tables: RiskTables, instruments: int) -> Losses:
    """Every (price step, volatility shock) and both extremes for each driving group, and the volatility haircut's."""
    return _losses(tables, instruments, ends_only=False)


def ends_only(tables: RiskTables, instruments: int) -> Losses:
    """Enough for a book without options: profit is proportional to the price step, so the largest loss is at an end of the grid."""
    assert (tables.instrument_int[:instruments, SCAN_ROW] < 0).all(), "options bend: they need every scenario"
    return _losses(tables, instruments, ends_only=True)


def _losses(tables: RiskTables, instruments: int, *, ends_only: bool) -> Losses:
    ints, floats, level = tables.instrument_int[:instruments], tables.instrument_float[:instruments], MAINTENANCE_LEVEL
    steps = int(tables.settings_int[GRID_STEPS])
    x = (np.arange(2 * steps + 1) - steps) / steps
    groups = sorted(set(ints[:, GROUP].tolist()) - {-1})
    fraction = float(tables.settings[EXTREME_FRACTION])
    profit = _profits(tables, instruments, x)
    columns: list[Floats] = []
    for driver in groups:
        own, vh = ints[:, GROUP] == driver, float(tables.group_float[level, driver, HAIRCUT_STEP])
        for regime in range(REGIMES):
            rho = np.where(ints[:, GROUP] >= 0, tables.correlation[level, regime, driver, np.maximum(ints[:, GROUP], 0)], 0.0)

            def moved(at: float, shock: int, own: NDArray[np.bool_] = own, rho: Floats = rho) -> Floats:
                """Profit of the other groups' lots where the driver stands at `at` scan ranges."""
                return np.where(own, 0.0, _at(profit[:, :, shock], rho * at, steps))

            ends = [(0, 0), (2 * steps, 0)]
            points = ends if ends_only else [(k, shock) for k in range(2 * steps + 1) for shock in range(2)]
            columns += [-(np.where(own, profit[:, k, shock], 0.0) + moved(float(x[k]), shock)) for k, shock in points]
            delta = floats[:, DELTA_LONG] + floats[:, OPTION_DELTA]
            up, down = _extremes(tables, instruments, driver)
            columns.append(-fraction * (np.where(own, up, 0.0) + moved(1.0, 0)))
            columns.append(-fraction * (np.where(own, down, 0.0) + moved(-1.0, 0)))
            columns.append(np.where(own, delta * floats[:, VOL_HAIRCUT + level], 0.0) - moved(-vh, 0))
    members = np.stack([(ints[:, GROUP] == driver).astype(np.float64) for driver in groups], axis=1)
    return Losses(np.ascontiguousarray(np.stack(columns, axis=1)), members, len(columns) // len(groups))


def _profits(tables: RiskTables, instruments: int, x: Floats) -> Floats:
    """[instruments, steps, shocks]: profit of one lot at each step of its own group."""
    ints, floats = tables.instrument_int[:instruments], tables.instrument_float[:instruments]
    profit = np.zeros((instruments, len(x), 2))
    for i in range(instruments):
        if ints[i, SCAN_ROW] >= 0:
            profit[i] = tables.option_scan[MAINTENANCE_LEVEL, ints[i, SCAN_ROW], : 2 * len(x)].reshape(len(x), 2)
        elif ints[i, GROUP] >= 0:
            profit[i] = (floats[i, DELTA_LONG] * tables.group_float[MAINTENANCE_LEVEL, ints[i, GROUP], SCAN] * x)[:, None]
    return profit


def _extremes(tables: RiskTables, instruments: int, driver: int) -> tuple[Floats, Floats]:
    """Profit of one lot at the two extremes."""
    ints, floats = tables.instrument_int[:instruments], tables.instrument_float[:instruments]
    group, columns = tables.group_float[MAINTENANCE_LEVEL, driver], 2 * (2 * int(tables.settings_int[GRID_STEPS]) + 1)
    scan = tables.option_scan[MAINTENANCE_LEVEL, np.maximum(ints[:, SCAN_ROW], 0)]
    curved = ints[:, SCAN_ROW] >= 0
    up = np.where(curved, scan[:, columns], floats[:, DELTA_LONG] * group[EXTREME_UP])
    down = np.where(curved, scan[:, columns + 1], -floats[:, DELTA_LONG] * group[EXTREME_DOWN])
    return up, down


def _at(profit: Floats, x: Floats, steps: int) -> Floats:
    """Each instrument's profit [instruments, steps] at its own x [instruments], linear between the steps."""
    at = (x + 1.0) * steps
    k = np.minimum(at.astype(np.int64), 2 * steps - 1)
    rows = np.arange(len(x))
    found: Floats = profit[rows, k] + (at - k) * (profit[rows, k + 1] - profit[rows, k])
    return found
