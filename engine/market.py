"""Everything that control says, and what follows from it: what exists, parameters, marks, volatilities, breakers, risk tables.

One frame is taken like this: `define`, `set_parameters`, `observe_*` or `tick` for each of its events, then `revalue` once. The tables are
then those of docs/model.md at the clock. `pieces` and `restore` carry the state over; whatever is derived is made again in full.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine import correlation, volatility
from engine.derived_market import DerivedMarket
from engine.inputs import AnyDefinition, AssetDefinition, RiskParameters
from engine.market_arrays import SIGMA_CAP, SIGMA_FLOOR, SIGMA_REF, new_settings
from engine.market_breakers import BreakerChange, breaker_changes
from engine.market_pieces import SLOW_BLOCK, Pieces
from engine.parameters import Parameters
from engine.reasons import Cause
from engine.tables import RiskTables
from engine.universe import Fault


class Revaluation(NamedTuple):
    """What one frame changed."""

    changed: NDArray[np.bool_]  # by instrument: its value, tables or status changed; a view, valid until the next revalue
    any_changed: bool
    everything: bool  # correlations, parameters or routes changed: every account is concerned
    cause: Cause  # of an account that falls by this frame; NONE: ask `cause_tables`
    breakers: list[BreakerChange]
    closed_chains: list[int]  # chains whose new credit waits no longer: it can be applied


class Market(DerivedMarket):
    """The market as control tells it. One thread at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._was_live = False
        self._pieces = Pieces(self)

    # ---- what it is told --------------------------------------------------------------------------------------------------------

    def define(self, definition: AnyDefinition) -> Fault | None:
        """Take a definition; None, or why it is refused. Assets start with their class's volatility, groups with the prior correlation."""
        assets, groups = self.universe.asset_count, self.universe.group_count
        fault = super().define(definition)
        if fault is not None:
            return fault
        self._defined = True
        self._next_expiry_ns = 0
        self._pieces.definition_changed(definition)
        if self.universe.asset_count > assets:
            self._pieces.changed("mark", assets)
            self._number_groups()
            if self.parameters_version:
                self._start(assets, groups)
        elif isinstance(definition, AssetDefinition):
            number = self.universe.asset_number(definition.name)
            if number:
                self._assets_observed.add(number)
                self._pieces.changed("mark", number)
        return None

    def set_parameters(self, message: RiskParameters) -> Fault | None:
        """Put a parameter set in force, or name every fault in it."""
        first = not self.parameters_version
        fault = super().set_parameters(message)
        if fault is not None:
            return fault
        self._parameters_set = True
        self._pieces.changed("parameters")
        if first:
            self._start(0, 0)
        return None

    # ---- what follows -----------------------------------------------------------------------------------------------------------

    def revalue(self) -> Revaluation:
        """Bring marks, breakers, volatilities and tables up to what was told since the last call. Once a frame."""
        universe, touched = self.universe, self.touched
        everything = self._parameters_set or self.live != self._was_live
        self._whole = self._defined or everything
        self._was_live = self.live
        self._grid_moved = False
        if self.live:
            self._causes.keep_previous()
            elapsed_ns = self._take_elapsed()
            everything = self._advance(elapsed_ns) or everything
            everything = self._derive(elapsed_ns) or everything
        else:
            self._fill(everything=self._whole)
        revaluation = self._told(everything)
        self._note_state()
        counted = max(universe.asset_count, universe.instrument_count, universe.chain_count, universe.layer_count, 1)
        for flags in touched:
            flags[:counted] = False
        self._assets_observed.clear()
        self._ticked = self._defined = self._parameters_set = self._lagged = self._quarantine_told = False
        self._implied_observed = self._funding_observed = self._slip_observed = False
        return revaluation

    def cause_tables(self) -> tuple[RiskTables, RiskTables, RiskTables]:
        """Tables at the present marks: with nothing paused; with the risk inputs of the frame before the last `revalue`; with its haircuts.

        An account that is not below with the first fell by a late chain; one that is with the second by price; with the third by its
        regime; else by its haircuts.
        """
        return self._causes.fill()

    # ---- its state --------------------------------------------------------------------------------------------------------------

    def pieces(self, changed_only: bool = False) -> dict[bytes, bytes]:
        """What decides and cannot be made again, by key `p:market:...`: with `changed_only` what changed since the last such call."""
        return self._pieces.take(changed_only)

    def restore(self, pieces: dict[bytes, bytes]) -> None:
        """Take over pieces, into a new Market alone; the result is the same to the bit as the one that they were taken from."""
        told = self.universe.asset_count > 1 or self.universe.chain_count > 0 or self.clock_ns > 0
        assert not told, "restore into a new Market: this one has been told things already"
        self._pieces.put(pieces)
        self._number_groups()
        if self.live:
            self._derive_marks()
            self._whole = self._was_live = True
            self._derive(0)
            self._take_closed()
            self._whole = False
            self._slip_observed = self._quarantine_told = True  # what was told before the cut may not have been taken in yet
        else:
            self._fill(everything=True)
        for flags in self.touched:
            flags[:] = False

    def restore_parameters(self, version: str, parameters: Parameters) -> None:
        """Parameters as they were in force, and what follows from them alone."""
        super().restore_parameters(version, parameters)
        self.settings = new_settings(parameters)
        self._set.option_inputs[:] = math.nan
        self._fill_settings()

    # ---- inside -----------------------------------------------------------------------------------------------------------------

    def _start(self, first_asset: int, first_group: int) -> None:
        """Volatility and covariance before any sample, of the assets and groups from these numbers on."""
        classes = self.settings.classes[self.universe.asset_arrays.asset_class[: self.universe.asset_count]]
        for asset in range(first_asset, self.universe.asset_count):
            row = classes[asset]
            volatility.start(asset, float(row[SIGMA_REF]), float(row[SIGMA_FLOOR]), float(row[SIGMA_CAP]), self.volatilities)
            self._pieces.changed("mark", asset)
        for group in range(first_group, self.universe.group_count):
            sigma_ref = float(classes[self._group_assets[group], SIGMA_REF])
            correlation.start(group, sigma_ref, self._with_market, self.parameters.prior_correlation, self.covariances)
            self._pieces.changed("correlation", group)

    def _told(self, everything: bool) -> Revaluation:
        touched = self.touched
        changed = touched.instrument[: self.universe.instrument_count].copy()
        cause = Cause.NONE
        if self._defined or self._parameters_set:
            cause = Cause.REGIME
        elif self._funding_observed:
            cause = Cause.FUNDING
        changes = breaker_changes(self)
        closed = self._take_closed() if self._whole or self._ticked or self._lagged or self._quarantine_told else []
        return Revaluation(changed, bool(changed.any()), everything, cause, changes, closed)

    def _note_state(self) -> None:
        touched = self.touched
        states = [("mark", touched.mark_state), ("moves", touched.moves_state)]
        seldom = touched.seldom.any()
        if seldom:
            states += [("lag", touched.chain_state), ("layer", touched.layer_state)]
            states += [("correlation", touched.group_state), ("settled", touched.settled_state)]
        for part, flags in states:
            for number in np.flatnonzero(flags):
                self._pieces.changed(part, int(number))
        if not seldom:
            return
        if touched.system_state[0]:
            self._pieces.changed("system")
        for block in sorted(set((np.flatnonzero(touched.slow_state[: self.universe.instrument_count]) // SLOW_BLOCK).tolist())):
            self._pieces.changed("slow", block)
