"""Everything that control says, and what follows from it: what exists, parameters, marks, volatilities, breakers, risk tables.

One frame is taken like this: `define`, `set_parameters`, `observe_*` or `tick` for each of its events, then `revalue` once. The tables are
then those of docs/model.md at the clock. `pieces` and `restore` carry the state over; whatever is derived is made again in full.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine import correlation, volatility
from engine.breakers import BREAKER_STATES, CLOSED, Breakers
from engine.correlation import GRID_NS, correlate, moves_with_market
from engine.inputs import AnyDefinition, AssetDefinition, RiskParameters
from engine.market_arrays import (
    SIGMA_CAP,
    SIGMA_FLOOR,
    SIGMA_REF,
    RiskInputs,
    TableSet,
    Touched,
    new_bounds,
    new_inputs,
    new_settings,
    new_table_set,
    new_touched,
    new_value_terms,
)
from engine.market_pieces import Pieces
from engine.marks import new_marks
from engine.observing import ObservedMarket
from engine.parameters import MODES, Parameters
from engine.reasons import Cause
from engine.revaluation import (
    advance_assets,
    advance_lag_breakers,
    derive_assets,
    derive_collateral,
    derive_mark,
    derive_option_sigmas,
    derive_routes,
    switch_breakers_off,
)
from engine.table_rows import fill_groups, fill_instruments
from engine.tables import (
    ASSETS_MAX,
    CONCENTRATION_K,
    CORRELATION_HIGH,
    CORRELATION_LOW,
    DECISION_MODE,
    END_FACTOR,
    EXTREME_FRACTION,
    GAP_FRACTION,
    GRID_STEPS,
    INITIAL_FACTOR,
    IS_STRESSED,
    LIMIT_ACCOUNT,
    LIMIT_ASSET,
    LIMIT_VENUE,
    OPTION,
    RiskTables,
)
from engine.universe import USD, Fault

ASSET_MOVE: Final = "asset_move"
SOURCE_DIVERGENCE: Final = "source_divergence"
ATTESTATION_LAG: Final = "attestation_lag"


class BreakerChange(NamedTuple):
    """A breaker that came into another state: what `engine.effects.Breaker` says, but for the partition."""

    trigger: str
    name: str  # asset or chain
    state: str
    since_ns: int
    value: float
    limit: float


class Revaluation(NamedTuple):
    """What one frame changed."""

    changed: NDArray[np.bool_]  # by instrument: its value, tables or status changed; a view, valid until the next revalue
    any_changed: bool
    everything: bool  # correlations, parameters or routes changed: every account is concerned
    cause: Cause  # of an account that falls by this frame; NONE: ask `cause_tables`
    breakers: list[BreakerChange]
    closed_chains: list[int]  # chains whose lag breaker closed: held credits can be applied


class Market(ObservedMarket):
    """The market as control tells it. One thread at a time."""

    def __init__(self) -> None:
        super().__init__()
        # Derived.
        self.marks = new_marks()
        self.marks.mark[USD] = 1.0
        self.marks.status[USD] = 0
        self.bounds = new_bounds()
        self.inputs = new_inputs()
        self.values = new_value_terms()
        self._set = new_table_set()
        self._previous = new_inputs()
        self._correlation_before: NDArray[np.float64] | None = None
        self._cause_sets: tuple[TableSet, TableSet] | None = None
        self._cause_parameters = self.parameters  # with which their option rows were made
        self._group_assets = np.zeros(ASSETS_MAX, dtype=np.int64)
        self._with_market = np.zeros(ASSETS_MAX, dtype=np.bool_)
        self._was_live = False
        self._whole = False  # whether everything derived has to be made again in this revaluation
        self._pieces = Pieces(self)
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
        """The observed depth if it is fresh, else the class's floor."""
        return float(self.inputs.depth_usd[asset])

    def spread_bps(self, asset: int) -> float:
        """The observed spread if it is fresh, else the floor."""
        return float(self.inputs.spread_bps[asset])

    def is_suspended(self, asset: int) -> bool:
        """Whether the asset counts nothing as collateral for want of depth or of prices."""
        return False

    def chain_holds_credit(self, chain: int) -> bool:
        """Whether new credit from this chain has to wait: its attestation lag breaker is not closed."""
        return bool(self.lag_breakers.state[chain] != CLOSED)

    # ---- what it is told --------------------------------------------------------------------------------------------------------

    def define(self, definition: AnyDefinition) -> Fault | None:
        """Take a definition; None, or why it is refused. Assets start with their class's volatility, groups with the prior correlation."""
        assets, groups = self.universe.asset_count, self.universe.group_count
        fault = super().define(definition)
        if fault is not None:
            return fault
        self._defined = True
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
        universe, touched = self.universe, self._touched
        everything = self._parameters_set or self.live != self._was_live
        self._whole = self._defined or everything
        self._was_live = self.live
        if self.live:
            self._keep_previous_inputs()
            self._advance()
            everything = self._derive() or everything
        else:
            self._fill(everything=self._whole)
        revaluation = self._told(everything)
        self._note_state()
        for flags in touched:
            flags[: max(universe.asset_count, universe.instrument_count, universe.chain_count)] = False
        self._assets_observed.clear()
        self._ticked = self._defined = self._parameters_set = self._lagged = self._implied_observed = self._index_moved = False
        return revaluation

    def cause_tables(self) -> tuple[RiskTables, RiskTables]:
        """Tables at the present marks, with (all risk inputs, depths and lags alone) of the frame before the last `revalue`.

        An account that is below with the first fell by price; with the second one but not the first, by its regime; else by its haircuts.
        """
        if self._cause_sets is None:
            self._cause_sets = (new_table_set(), new_table_set())
        previous, current = self._previous, self.inputs
        known = np.where(np.isnan(previous.option_sigma), current.option_sigma, previous.option_sigma)
        before = previous._replace(option_sigma=known)
        mixed = previous._replace(sigma=current.sigma, option_sigma=current.option_sigma)
        self._fill_other(self._cause_sets[0], before, self._correlation_before)
        self._fill_other(self._cause_sets[1], mixed, None)
        self._cause_parameters = self.parameters
        return self._cause_sets[0].tables, self._cause_sets[1].tables

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
            self._derive()
            self._whole = False
        else:
            self._fill(everything=True)
        for flags in self._touched:
            flags[:] = False

    def restore_parameters(self, version: str, parameters: Parameters) -> None:
        """Parameters as they were in force, and what follows from them alone."""
        super().restore_parameters(version, parameters)
        self.settings = new_settings(parameters)
        self._set.option_inputs[:] = math.nan
        self._fill_settings()

    # ---- inside -----------------------------------------------------------------------------------------------------------------

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

    def _keep_previous_inputs(self) -> None:
        assets, instruments, chains = self.universe.asset_count, self.universe.instrument_count, self.universe.chain_count
        self._previous.sigma[:, :assets] = self.inputs.sigma[:, :assets]
        self._previous.depth_usd[:assets] = self.inputs.depth_usd[:assets]
        self._previous.spread_bps[:assets] = self.inputs.spread_bps[:assets]
        self._previous.route_s[:chains] = self.inputs.route_s[:chains]
        self._previous.option_sigma[:instruments] = self.inputs.option_sigma[:instruments]
        self._correlation_before = None

    def _advance(self) -> None:
        """Move the state: breakers, volatility samples, the correlation grid."""
        universe, now = self.universe, self.clock_ns
        if self._parameters_set and not self.settings.breakers_enabled:
            switch_breakers_off(
                universe.asset_count,
                universe.chain_count,
                now,
                self.move_breakers,
                self.divergence_breakers,
                self.lag_breakers,
                self._touched,
            )
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
                self.move_samples,
                self.volatilities,
                now,
                self.settings,
                self.marks,
                self._touched,
            )
        if self.settings.breakers_enabled and (self._ticked or self._lagged):
            advance_lag_breakers(universe.chain_count, self.lags, now, self.settings, self.lag_breakers, self._touched)
        if self._ticked and now // GRID_NS > self.grid_minute:
            self._advance_grid()

    def _advance_grid(self) -> None:
        groups = self.universe.group_count
        own = self._group_assets[:groups]
        marks = np.where(self.marks.status[own] == 0, self.marks.mark[own], 0.0)
        correlation.observe(groups, marks, self.parameters.correlation_lambda, self.grid_minute < 0, self.covariances)
        self.grid_minute = self.clock_ns // GRID_NS
        for group in range(groups):
            self._pieces.changed("correlation", group)

    def _derive_marks(self) -> None:
        """All marks from their observations, nothing else moved."""
        for asset in range(1, self.universe.asset_count):
            derive_mark(
                asset, self.universe.asset_arrays, self.observations, self.divergence_breakers, self.clock_ns, self.settings, self.marks
            )

    def _derive(self) -> bool:
        """Risk inputs and tables of what was touched; whether something changed that concerns every account."""
        universe, now = self.universe, self.clock_ns
        elapsed = now - self.advanced_ns if self.advanced_ns else 0
        if elapsed or not self.advanced_ns:
            self.advanced_ns = now
            self._pieces.changed("clock")
        derive_assets(
            universe.asset_count,
            universe.asset_arrays,
            self.marks,
            self.depths,
            self.implied,
            self.move_breakers,
            self.volatilities,
            now,
            elapsed,
            self.settings,
            self.bounds,
            self.inputs,
            self._touched,
        )
        if self._whole or self._lagged:
            derive_routes(universe.chain_count, universe.chain_arrays, self.lags, self.settings, self.inputs, self._touched)
        derive_collateral(
            universe.instrument_count,
            universe.instrument_arrays,
            universe.asset_arrays,
            universe.chain_arrays,
            self.settings,
            self.inputs,
            self._touched,
        )
        count = universe.instrument_count
        self.values.index[:count] = self.interest_index[:count]
        if self._whole or self._ticked or self._implied_observed:
            derive_option_sigmas(
                universe.instrument_count, universe.instrument_arrays, self.implied, now, self.settings, self.inputs, self._touched
            )
        if self._ticked or self._whole:
            # Time to expiry has moved for every option.
            self._touched.instrument[: universe.instrument_count] |= (
                universe.instrument_arrays.contract[: universe.instrument_count] >= OPTION
            )
        everything = self._correlate() if self._whole or self._ticked else False
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
            self._correlation_before = before
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
        self._fill_set(self._set, self.inputs, self._touched, everything=everything)

    def _fill_other(self, set_: TableSet, inputs: RiskInputs, correlations: NDArray[np.float64] | None) -> None:
        """Tables with other risk inputs, at the present marks and clock."""
        ours, theirs = self._set.tables, set_.tables
        groups, chains = self.universe.group_count, self.universe.chain_count
        theirs.settings[:] = ours.settings
        theirs.settings_int[:] = ours.settings_int
        theirs.atomic_chains[:chains] = ours.atomic_chains[:chains]
        theirs.correlation[:, :, :groups, :groups] = ours.correlation[:, :, :groups, :groups] if correlations is None else correlations
        if self._cause_parameters is not self.parameters:
            set_.option_inputs[:] = math.nan
        self._fill_set(set_, inputs, new_touched(), everything=True)

    def _fill_set(self, set_: TableSet, inputs: RiskInputs, touched: Touched, *, everything: bool) -> None:
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
            self.marks,
            self.bounds,
            inputs,
            self.settings,
            set_,
            touched,
        )

    def _told(self, everything: bool) -> Revaluation:
        touched = self._touched
        changed = touched.instrument[: self.universe.instrument_count].copy()
        cause = Cause.NONE
        if self._defined or self._parameters_set:
            cause = Cause.REGIME
        elif self._index_moved:
            cause = Cause.FUNDING
        changes = self._breaker_changes()
        closed = [int(j) for j in np.flatnonzero(touched.lag_breaker) if self.lag_breakers.state[j] == CLOSED]
        return Revaluation(changed, bool(changed.any()), everything, cause, changes, closed)

    def _breaker_changes(self) -> list[BreakerChange]:
        touched, p = self._touched, self.parameters
        changes = []
        asset_names = self.universe.assets
        for trigger, flags, breakers, limit, names in (
            (ASSET_MOVE, touched.move_breaker, self.move_breakers, p.move_trip, asset_names),
            (SOURCE_DIVERGENCE, touched.divergence_breaker, self.divergence_breakers, p.divergence_trip, asset_names),
            (ATTESTATION_LAG, touched.lag_breaker, self.lag_breakers, p.lag_trip_s, self.universe.chains),
        ):
            changes += [_breaker_change(trigger, names[k].name, int(k), breakers, limit) for k in np.flatnonzero(flags)]
        return changes

    def _note_state(self) -> None:
        touched = self._touched
        for part, flags in (("mark", touched.mark_state), ("moves", touched.moves_state), ("lag", touched.lag_state)):
            for number in np.flatnonzero(flags):
                self._pieces.changed(part, int(number))


def _breaker_change(trigger: str, name: str, index: int, breakers: Breakers, limit: float) -> BreakerChange:
    return BreakerChange(
        trigger, name, BREAKER_STATES[breakers.state[index]], int(breakers.since_ns[index]), float(breakers.value[index]), limit
    )
