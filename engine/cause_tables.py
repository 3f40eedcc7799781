"""Tables at the present marks with other risk inputs, which tell why an account fell (docs/model.md, section 6)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.market_arrays import RiskInputs, new_inputs, new_table_set, new_touched
from engine.tables import IS_STRESSED

if TYPE_CHECKING:
    from engine.derived_market import DerivedMarket
    from engine.market_arrays import TableSet
    from engine.tables import RiskTables


class CauseTables:
    """The risk inputs of the frame before, and the tables that are made of them when somebody asks."""

    def __init__(self, market: DerivedMarket) -> None:
        self._market = market
        self._previous = new_inputs()
        self._unpaused = new_inputs()
        self._correlation_before: NDArray[np.float64] | None = None
        self._sets: tuple[TableSet, TableSet, TableSet] | None = None
        self._parameters = market.parameters  # with which their option rows were made

    def keep_previous(self) -> None:
        """Remember the inputs that are in force: those of the frame before the one that is being taken."""
        universe, inputs, previous = self._market.universe, self._market.inputs, self._previous
        assets, instruments, chains = universe.asset_count, universe.instrument_count, universe.chain_count
        previous.depth_usd[:assets] = inputs.depth_usd[:assets]
        previous.spread_bps[:assets] = inputs.spread_bps[:assets]
        previous.option_sigma[:instruments] = inputs.option_sigma[:instruments]
        for one in ("sigma", "thin", "over", "stress"):
            getattr(previous, one)[:, :assets] = getattr(inputs, one)[:, :assets]
        for one in ("flat", "latency"):
            getattr(previous, one)[:, :instruments] = getattr(inputs, one)[:, :instruments]
        for one in ("route_s", "paused", "slip"):
            getattr(previous, one)[:chains] = getattr(inputs, one)[:chains]
        self._correlation_before = None

    def keep_correlation(self, before: NDArray[np.float64]) -> None:
        """`before` [2 levels, REGIMES, groups, groups]: what correlations were until this frame changed them."""
        self._correlation_before = before

    def fill(self) -> tuple[RiskTables, RiskTables, RiskTables]:
        """Tables with nothing paused; with all inputs of the frame before; with its haircuts alone."""
        market = self._market
        if self._sets is None:
            self._sets = (new_table_set(), new_table_set(), new_table_set())
        previous, current = self._previous, market.inputs
        unpaused = market.tables
        if current.paused[: market.universe.chain_count].any():
            self._fill_one(self._sets[0], current._replace(paused=self._unpaused.paused), None)
            unpaused = self._sets[0].tables
        known = np.where(np.isnan(previous.option_sigma), current.option_sigma, previous.option_sigma)
        before = previous._replace(option_sigma=known)
        mixed = previous._replace(sigma=current.sigma, stress=current.stress, option_sigma=current.option_sigma)
        self._fill_one(self._sets[1], before, self._correlation_before)
        self._fill_one(self._sets[2], mixed, None)
        self._parameters = market.parameters
        return unpaused, self._sets[1].tables, self._sets[2].tables

    def _fill_one(self, set_: TableSet, inputs: RiskInputs, correlations: NDArray[np.float64] | None) -> None:
        """Tables with other risk inputs, at the present marks and clock."""
        market = self._market
        ours, theirs = market.tables, set_.tables
        groups, chains = market.universe.group_count, market.universe.chain_count
        theirs.settings[:] = ours.settings
        theirs.settings_int[:] = ours.settings_int
        theirs.atomic_chains[:chains] = ours.atomic_chains[:chains]
        if correlations is None:
            theirs.correlation[:, :, :groups, :groups] = ours.correlation[:, :, :groups, :groups]
        else:
            theirs.correlation[:, :, :groups, :groups] = correlations
            theirs.settings_int[IS_STRESSED] = 1  # there may have been stress before: regimes are read, not derived
        if self._parameters is not market.parameters:
            set_.option_inputs[:] = math.nan
        market.fill_set(set_, inputs, new_touched(), everything=True)
