"""Tables at the present marks with other risk inputs, which tell why an account fell (docs/model.md, section 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.market_arrays import new_inputs
from engine.other_tables import OtherTables

if TYPE_CHECKING:
    from engine.derived_market import DerivedMarket
    from engine.tables import RiskTables


class CauseTables:
    """The risk inputs of the frame before, and the tables that are made of them when somebody asks."""

    def __init__(self, market: DerivedMarket) -> None:
        self._market = market
        self._previous = new_inputs()
        self._unpaused = new_inputs()
        self._correlation_before: NDArray[np.float64] | None = None
        self._tables: tuple[OtherTables, OtherTables, OtherTables] | None = None

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
        if self._tables is None:
            self._tables = (OtherTables(market), OtherTables(market), OtherTables(market))
        of_unpaused, of_before, of_mixed = self._tables
        previous, current = self._previous, market.inputs
        unpaused = market.tables
        if current.paused[: market.universe.chain_count].any():
            unpaused = of_unpaused.fill(current._replace(paused=self._unpaused.paused))
        known = np.where(np.isnan(previous.option_sigma), current.option_sigma, previous.option_sigma)
        before = of_before.fill(previous._replace(option_sigma=known), correlations=self._correlation_before)
        mixed = of_mixed.fill(previous._replace(sigma=current.sigma, stress=current.stress, option_sigma=current.option_sigma))
        return unpaused, before, mixed
