"""What an account would lose in each scenario of the grid, group by group: the tables of docs/model.md, section 5, laid out. For reports.

No other module but the account kernels reads scan columns. `ScenarioReport` has room for what a requirement has besides scenarios.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from engine.margin import DRIVER, OUT, break_down, evaluate
from engine.market import Market
from engine.requirement import binding_regime
from engine.tables import (
    CASH_DELTA,
    DELTA_LONG,
    DELTA_SHORT,
    EXTREME_DOWN,
    EXTREME_UP,
    GRID_STEPS,
    GROUP,
    MAINTENANCE_LEVEL,
    PIECE_NAMES,
    PIECES,
    QUOTE_GROUP,
    SCAN,
    SCAN_ROW,
)

LEVELS = ("maintenance", "initial")  # in the order of the tables' levels


class GroupLosses(Struct, frozen=True, kw_only=True):
    """What the positions of one risk group lose as its price and its volatility move, other groups at rest; below 0 it is a gain."""

    group: str  # the group's own asset
    scan_range: float  # a fraction of the price
    moves: list[float]  # relative moves of the price, from the lowest to the highest step
    volatility_up_usd: list[float]  # losses, one a move
    volatility_down_usd: list[float]
    extreme_moves: list[float]  # up, down; volatility stays
    extreme_usd: list[float]  # whole losses; `ScenarioReport.extreme_fraction` of them counts


class ScenarioReport(Struct, frozen=True, kw_only=True):
    """All groups that an account holds, at one level, without open orders; and what the whole requirement of the level is made of."""

    level: str  # maintenance | initial: which volatility made the scan ranges
    extreme_fraction: float
    groups: list[GroupLosses]
    add_ons: dict[str, float]  # USD by name (engine.tables.PIECE_NAMES), the largest loss over all scenarios among them
    requirement_usd: float  # in the decision's mode; the initial level's without its factor
    regime: str  # of correlations in the scenario that binds at maintenance; "" where none does, or a mode sums several


def scenario_losses(
    market: Market,
    instrument: Sequence[int],
    quantity: Sequence[int],
    cash: Sequence[int],
    level: int = MAINTENANCE_LEVEL,
    pending: NDArray[np.int64] | None = None,
) -> ScenarioReport:
    """Of the positions of one account that can be valued, as slots of instrument numbers, lots and cash units.

    `pending` [POSITIONS_MAX, PENDING], as engine.margin takes it.
    """
    profits = _profits(market, instrument, quantity, cash, level)
    pieces, health = np.zeros(PIECES), np.zeros(OUT)
    columns = (
        len(instrument),
        np.array(instrument, np.int32),
        np.array(quantity, np.int64),
        np.array(cash, np.int64),
        pending is not None,
        market.tables.no_pending if pending is None else pending,
        market.tables,
    )
    requirement = float(break_down(*columns, level, pieces))
    evaluate(*columns, health)
    return ScenarioReport(
        level=LEVELS[level],
        extreme_fraction=market.parameters.extreme_fraction,
        groups=[_losses(market, group, profits[group], level) for group in sorted(profits)],
        add_ons=dict(zip(PIECE_NAMES, pieces.tolist(), strict=True)),
        requirement_usd=requirement,
        regime=binding_regime(float(health[DRIVER])),
    )


def _profits(
    market: Market, instrument: Sequence[int], quantity: Sequence[int], cash: Sequence[int], level: int
) -> dict[int, NDArray[np.float64]]:
    """P_g[s] in USD by group number, each [scan columns]; for every group held."""
    tables = market.tables
    profits: dict[int, NDArray[np.float64]] = {}

    def add(group: int, profit: NDArray[np.float64]) -> None:
        if group >= 0:
            profits[group] = profits.get(group, np.zeros(len(profit))) + profit

    for i, lots, units in zip(instrument, quantity, cash, strict=True):
        ints, floats = tables.instrument_int[i], tables.instrument_float[i]
        group, quote_group = int(ints[GROUP]), int(ints[QUOTE_GROUP])
        if lots and group >= 0:
            moves = _moves(market, group, level)
            if ints[SCAN_ROW] >= 0:
                add(group, lots * tables.option_scan[level, int(ints[SCAN_ROW]), : len(moves)])
            else:
                add(group, lots * float(floats[DELTA_LONG if lots > 0 else DELTA_SHORT]) * moves)
        if units and quote_group >= 0:
            add(quote_group, units * float(floats[CASH_DELTA]) * _moves(market, quote_group, level))
    return profits


def _moves(market: Market, group: int, level: int) -> NDArray[np.float64]:
    """Relative moves of a group's price in the scan columns: 2k + v for step k and volatility shock v, then the extremes up and down."""
    ranges, steps = market.tables.group_float[level, group], int(market.tables.settings_int[GRID_STEPS])
    grid = np.repeat((np.arange(2 * steps + 1) - steps) / steps * float(ranges[SCAN]), 2)
    return np.append(grid, [float(ranges[EXTREME_UP]), -float(ranges[EXTREME_DOWN])])


def _losses(market: Market, group: int, profit: NDArray[np.float64], level: int) -> GroupLosses:
    universe, moves = market.universe, _moves(market, group, level)
    losses = 0.0 - profit  # not -profit, which would make -0.0 of nothing
    return GroupLosses(
        group=universe.assets[universe.group_assets[group]].name,
        scan_range=float(market.tables.group_float[level, group, SCAN]),
        moves=moves[:-2:2].tolist(),
        volatility_up_usd=losses[:-2:2].tolist(),
        volatility_down_usd=losses[1:-2:2].tolist(),
        extreme_moves=moves[-2:].tolist(),
        extreme_usd=losses[-2:].tolist(),
    )
