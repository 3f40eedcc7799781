"""Risk tables beside those in force: of the same market at the same clock, with other risk inputs, correlations or marks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.market_arrays import Bounds, RiskInputs, new_table_set, new_touched
from engine.marks import Marks
from engine.tables import IS_STRESSED

if TYPE_CHECKING:
    from engine.derived_market import DerivedMarket
    from engine.tables import RiskTables


class OtherTables:
    """One set of tables, made in full each time; the arrays are its own, and are used again."""

    def __init__(self, market: DerivedMarket) -> None:
        self._market = market
        self._set = new_table_set()
        self._parameters = market.parameters  # with which its option rows were made

    def fill(
        self,
        inputs: RiskInputs,
        *,
        correlations: NDArray[np.float64] | None = None,
        marks: Marks | None = None,
        bounds: Bounds | None = None,
    ) -> RiskTables:
        """Valid until the next call. What is not given is what is in force; `correlations` [2 levels, REGIMES, groups, groups]."""
        market = self._market
        ours, theirs = market.tables, self._set.tables
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
            self._set.option_inputs[:] = math.nan
            self._parameters = market.parameters
        market.fill_set(self._set, inputs, new_touched(), everything=True, marks=marks, bounds=bounds)
        return theirs
