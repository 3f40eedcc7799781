"""What follows from what a market was told: marks, breakers, risk inputs and tables, in the order of docs/model.md, section 1.

`_advance` moves state and runs once a frame; `_derive` makes the rest from it, of what was touched or in full, with the same bits.
"""

import numpy as np
from numpy.typing import NDArray

from engine import correlation
from engine.breakers import CLOSED
from engine.cause_tables import CauseTables
from engine.correlation import GRID_NS, correlate, moves_with_market
from engine.eligibility import advance_eligibility
from engine.funding import derive_accrued
from engine.market_arrays import (
    Bounds,
    RiskInputs,
    TableSet,
    Touched,
    new_bounds,
    new_inputs,
    new_table_set,
    new_value_terms,
)
from engine.market_breakers import (
    advance_lag_breakers,
    advance_layers,
    advance_system,
    obey_quarantines,
    switch_breakers_off,
)
from engine.marks import Marks, new_marks
from engine.observing import ObservedMarket
from engine.parameters import MODES
from engine.revaluation import (
    advance_assets,
    derive_assets,
    derive_mark,
    derive_option_sigmas,
    derive_routes,
)
from engine.settlement import settle
from engine.slow_rise import advance_collateral, advance_recognition, advance_slips, advance_stress, holds_credit
from engine.table_rows import fill_groups, fill_instruments
from engine.tables import (
    ASSETS_MAX,
    CHAINS_MAX,
    CONCENTRATION_K,
    CORRELATION_HIGH,
    CORRELATION_LOW,
    DECISION_MODE,
    END_FACTOR,
    EXTREME_FRACTION,
    FUTURE,
    GAP_FRACTION,
    GRID_STEPS,
    INITIAL_FACTOR,
    IS_STRESSED,
    LIMIT_ACCOUNT,
    LIMIT_ASSET,
    LIMIT_VENUE,
    RiskTables,
)
from engine.universe import USD


class DerivedMarket(ObservedMarket):
    """State and what is derived of it; `Market` says when."""

    def __init__(self) -> None:
        super().__init__()
        # Derived.
        self.marks = new_marks()
        self.marks.mark[USD] = 1.0
        self.marks.status[USD] = 0
        self.bounds = new_bounds()
        self.inputs = new_inputs()._replace(stress=self.slow.stress, paused=self.slow.paused, slip=self.slips.in_force)  # the same arrays
        self.values = new_value_terms()._replace(stable=self.stable, settled=self.settled)
        self._set = new_table_set()
        self._causes = CauseTables(self)
        self._group_assets = np.zeros(ASSETS_MAX, dtype=np.int64)
        self._with_market = np.zeros(ASSETS_MAX, dtype=np.bool_)
        self._holding: NDArray[np.bool_] = np.zeros(CHAINS_MAX, dtype=np.bool_)  # chains whose new credit waits
        self._next_expiry_ns = 0  # before it nothing is to be settled
        self._grid_moved = False  # in this revaluation
        self._whole = False  # whether everything derived has to be made again in this revaluation
        self._fill_settings()

    # ---- what it knows ----------------------------------------------------------------------------------------------------------

    @property
    def tables(self) -> RiskTables:
        """The risk tables; always the same arrays."""
        return self._set.tables

    def mark(self, asset: int) -> float | None:
        """USD, None if unknown."""
        return float(self.marks.mark[asset]) if self.marks.status[asset] == 0 else None

    def depth_usd(self, asset: int) -> float:
        """The observed depth if it is fresh, else the class's floor or what was observed last, whichever is less."""
        return float(self.inputs.depth_usd[asset])

    def spread_bps(self, asset: int) -> float:
        """The observed spread if it is fresh, else the floor or what was observed last, whichever is more."""
        return float(self.inputs.spread_bps[asset])

    def is_suspended(self, asset: int) -> bool:
        """Whether the asset counts nothing as collateral for want of depth or of prices."""
        return bool(self.eligibility_breakers.state[asset] != CLOSED)

    def chain_holds_credit(self, chain: int) -> bool:
        """Whether new credit from this chain has to wait: its lag breaker, its layer's or its quarantine is not closed."""
        return holds_credit(chain, self.universe.chain_arrays, self.lag_breakers, self.layer_breakers, self.quarantine_breakers)

    # ---- state ------------------------------------------------------------------------------------------------------------------

    def _take_elapsed(self) -> int:
        """The clock's way since the last time, in nanoseconds; 0 between ticks, and at first."""
        elapsed_ns = self.clock_ns - self.advanced_ns if self.advanced_ns else 0
        if elapsed_ns or not self.advanced_ns:
            self.advanced_ns = self.clock_ns
            self._pieces.changed("clock")
        return elapsed_ns

    def _take_what_was_told(self) -> None:
        """What grants and fills said since the last frame of the market counts from here on."""
        assets = self.universe.asset_count
        for a in np.flatnonzero(self.recognised_in_force[:assets] != self.recognised[:assets]):
            self.recognised_in_force[a] = self.recognised[a]
            self._pieces.changed("mark", int(a))
        if self._whole or self._ticked or self._slip_observed:
            advance_slips(self.universe.chain_count, self.slips, self.clock_ns, self.settings, self.touched)

    def _advance(self, elapsed_ns: int) -> bool:
        """Move the state: breakers, volatility samples, the correlation grid, settlement, stress; whether all accounts are concerned."""
        universe, now, touched = self.universe, self.clock_ns, self.touched
        self._take_what_was_told()
        if self._parameters_set and not self.settings.breakers_enabled:
            switch_breakers_off(self)
        if self._ticked or self._whole:
            numbers = np.arange(1, universe.asset_count, dtype=np.int64)
        else:
            numbers = np.array(sorted(self._assets_observed), dtype=np.int64)
        if len(numbers):
            advance_assets(
                numbers,
                universe.asset_arrays,
                self.observations,
                self.divergence_breakers,
                self.move_breakers,
                self.jump_breakers,
                self.move_samples,
                self.volatilities,
                now,
                self.settings,
                self.marks,
                touched,
            )
        if self.settings.breakers_enabled and (self._ticked or self._lagged):
            advance_lag_breakers(universe.chain_count, self.lags, now, self.settings, self.lag_breakers, touched)
        on_grid = self._ticked and now // GRID_NS > self.grid_minute
        if on_grid:
            self._advance_grid()
        if now >= self._next_expiry_ns:
            terms = universe.instrument_arrays
            self._next_expiry_ns = settle(universe.instrument_count, terms, self.marks, now, self.settled, touched)
        self._advance_breakers(elapsed_ns)
        return self._advance_stress(on_grid) if on_grid or self._whole else False

    def _advance_breakers(self, elapsed_ns: int) -> None:
        """Those of quarantine, layers, the system and eligibility; and what of chains and assets hangs on them."""
        universe, now, touched = self.universe, self.clock_ns, self.touched
        chains = universe.chain_count
        if self._quarantine_told or self._whole:
            obey_quarantines(self)
        if self.settings.breakers_enabled and (self._ticked or self._lagged):
            advance_layers(
                universe.layer_count,
                chains,
                universe.chain_arrays,
                self.lags,
                self.lag_breakers,
                now,
                self.settings,
                self.layer_breakers,
                touched,
            )
        if self._ticked:
            if self.settings.breakers_enabled:
                groups = universe.group_count
                advance_system(
                    groups, self._group_assets, self.marks, self.move_breakers, now, self.settings, self.system_breakers, touched
                )
            advance_eligibility(
                universe.asset_count,
                universe.asset_arrays,
                self.marks,
                self.depths,
                now,
                elapsed_ns,
                self.settings,
                self.uptime,
                self.eligibility_breakers,
                touched,
            )
        if self._ticked or self._lagged or self._quarantine_told or self._whole:
            advance_recognition(
                chains,
                universe.chain_arrays,
                elapsed_ns,
                self.lag_breakers,
                self.layer_breakers,
                self.quarantine_breakers,
                self.settings,
                self.slow,
                touched,
            )

    def _advance_stress(self, on_grid: bool) -> bool:
        elapsed_ns = 0
        if on_grid:
            elapsed_ns = self.clock_ns - self.stressed_ns if self.stressed_ns else 0
            self.stressed_ns = self.clock_ns
            self._pieces.changed("clock")
        return advance_stress(
            self.universe.group_count,
            self._group_assets,
            on_grid,
            elapsed_ns,
            self.move_breakers,
            self.jump_breakers,
            self.system_breakers,
            self.settings,
            self.slow,
            self.touched,
        )

    def _advance_grid(self) -> None:
        groups = self.universe.group_count
        own = self._group_assets[:groups]
        marks = np.where(self.marks.status[own] == 0, self.marks.mark[own], 0.0)
        correlation.observe(groups, marks, self.parameters.correlation_lambda, self.grid_minute < 0, self.covariances)
        self.grid_minute = self.clock_ns // GRID_NS
        self._grid_moved = True
        for group in range(groups):
            self._pieces.changed("correlation", group)

    def _take_closed(self) -> list[int]:
        """Chains whose new credit has waited until now."""
        chains = self.universe.chain_count
        layers = self.universe.chain_arrays.layer[:chains]
        holding = (self.lag_breakers.state[:chains] != CLOSED) | (self.quarantine_breakers.state[:chains] != CLOSED)
        holding |= self.layer_breakers.state[layers] != CLOSED
        closed = np.flatnonzero(self._holding[:chains] & ~holding).tolist()
        self._holding[:chains] = holding
        return closed

    # ---- what follows from it ---------------------------------------------------------------------------------------------------

    def _derive_marks(self) -> None:
        """All marks from their observations, nothing else moved."""
        for asset in range(1, self.universe.asset_count):
            derive_mark(
                asset, self.universe.asset_arrays, self.observations, self.divergence_breakers, self.clock_ns, self.settings, self.marks
            )

    def _derive(self, elapsed_ns: int) -> bool:
        """Risk inputs and tables of what was touched; whether something changed that concerns every account."""
        universe, now, touched = self.universe, self.clock_ns, self.touched
        derive_assets(
            universe.asset_count,
            universe.asset_arrays,
            self.marks,
            self.depths,
            self.implied,
            self.move_breakers,
            self.jump_breakers,
            self.recognised_in_force,
            self.volatilities,
            now,
            elapsed_ns,
            self.settings,
            self.stable,
            self.slow,
            self.bounds,
            self.inputs,
            touched,
        )
        if self._whole or self._lagged:
            derive_routes(universe.chain_count, universe.chain_arrays, self.lags, self.settings, self.inputs, touched)
        advance_collateral(
            universe.spots,
            self._whole,
            elapsed_ns,
            universe.instrument_arrays,
            universe.asset_arrays,
            universe.chain_arrays,
            self.eligibility_breakers,
            self.settings,
            self.slow,
            self.inputs,
            touched,
        )
        count, terms = universe.instrument_count, universe.instrument_arrays
        if self._whole or self._ticked or self._funding_observed:
            derive_accrued(count, terms, self.fundings, now, self.settings, self.values, touched)
        if self._whole or self._ticked or self._implied_observed:
            derive_option_sigmas(count, terms, self.implied, now, self.settings, self.inputs, touched)
        if self._ticked or self._whole:
            touched.instrument[:count] |= terms.contract[:count] >= FUTURE  # time to expiry has moved
        everything = self._correlate() if self._whole or self._grid_moved else False
        if self._whole:
            everything = self._reach() or everything
        self._fill(everything=self._whole)
        return everything

    def _correlate(self) -> bool:
        groups = self.universe.group_count
        table = self._set.tables.correlation
        before = table[:, :, :groups, :groups].copy()
        p = self.parameters
        changed = correlate(
            groups,
            p.correlation_shrink,
            self._with_market,
            p.prior_correlation,
            self.covariances,
            self.inputs.stress,
            p.correlation_high,
            p.correlation_low,
            table,
        )
        self._set.tables.settings_int[IS_STRESSED] = int(self.inputs.stress[:, :groups].any())
        if changed:
            self._causes.keep_correlation(before)
        return changed

    def _reach(self) -> bool:
        """Which chains reach which at once."""
        masks = self._set.tables.atomic_chains
        changed = False
        for chain in range(self.universe.chain_count):
            mask = self.universe.atomic_mask(chain)
            changed = changed or mask != int(masks[chain])
            masks[chain] = mask
        return changed

    def _fill(self, *, everything: bool) -> None:
        self.fill_set(self._set, self.inputs, self.touched, everything=everything)

    def fill_set(
        self,
        set_: TableSet,
        inputs: RiskInputs,
        touched: Touched,
        *,
        everything: bool,
        marks: Marks | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        """Make the rows of what was touched, or of everything, from these inputs at the present clock; marks are ours unless given."""
        universe = self.universe
        fill_groups(universe.group_count, self._group_assets, universe.asset_arrays, inputs, self.settings, set_.tables, touched)
        fill_instruments(
            universe.instrument_count,
            everything,
            self.live,
            self.clock_ns,
            universe.instrument_arrays,
            universe.asset_arrays,
            universe.venue_fee_bps,
            self.values,
            self.marks if marks is None else marks,
            self.bounds if bounds is None else bounds,
            inputs,
            self.settings,
            set_,
            touched,
        )

    def _fill_settings(self) -> None:
        tables = self._set.tables
        tables.settings[EXTREME_FRACTION] = self.parameters.extreme_fraction
        tables.settings[END_FACTOR] = self.parameters.end_factor
        tables.settings[INITIAL_FACTOR] = self.parameters.initial_factor
        tables.settings[GAP_FRACTION] = self.parameters.gap_fraction
        tables.settings[CONCENTRATION_K] = self.parameters.concentration_k
        tables.settings[LIMIT_ACCOUNT] = self.parameters.limit_account
        tables.settings[LIMIT_ASSET] = self.parameters.limit_asset
        tables.settings[LIMIT_VENUE] = self.parameters.limit_venue
        tables.settings[CORRELATION_HIGH] = self.parameters.correlation_high
        tables.settings[CORRELATION_LOW] = self.parameters.correlation_low
        tables.settings_int[GRID_STEPS] = self.parameters.grid_steps
        tables.settings_int[DECISION_MODE] = MODES.index(self.parameters.decision_mode)

    def _number_groups(self) -> None:
        for group, asset in enumerate(self.universe.group_assets):
            self._group_assets[group] = asset
            self._with_market[group] = moves_with_market(int(self.universe.asset_arrays.asset_class[asset]))
