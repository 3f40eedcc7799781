"""What exists: assets, chains, venues and instruments, numbered in the order of their first definition, with their terms in arrays.

A definition names only what was defined before it. A redefinition may change terms, never identity (docs/model.md, section 1).
USD is there from the start as asset 0, of class cash.
"""

from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.inputs import AnyDefinition, AssetDefinition, ChainDefinition, InstrumentDefinition, VenueDefinition
from engine.instrument_terms import IN_USD_LOTS, INVERSE_CONTRACTS, cash_per_lot_tick, cash_unit, term_faults
from engine.parameters import ASSET_CLASSES
from engine.reasons import Refusal
from engine.rules.choice import Choice, choose
from engine.tables import (
    ASSETS_MAX,
    CHAINS_MAX,
    CONTRACTS,
    INSTRUMENTS_MAX,
    LAYERS_MAX,
    LOAN,
    SOURCES_MAX,
    SPOT,
    VENUES_MAX,
)
from engine.volatility import NS_PER_SECOND

USD: Final = 0
CASH_CLASS: Final = ASSET_CLASSES.index("cash")

Fault = tuple[Refusal, str]


class InstrumentArrays(NamedTuple):
    """Terms of instruments by number, for kernels; rows from `Universe.instrument_count` on mean nothing. Never reallocated."""

    contract: NDArray[np.int32]  # code, engine.tables.CONTRACTS
    venue: NDArray[np.int32]
    chain: NDArray[np.int32]
    underlying: NDArray[np.int32]
    quote: NDArray[np.int32]
    lot_size: NDArray[np.float64]  # units of the underlying a lot; inverse perpetual and future: USD
    tick_size: NDArray[np.float64]  # quote a unit; inverse perpetual and future: USD a unit
    cash_unit: NDArray[np.float64]  # quote units in one cash unit
    cash_per_lot_tick: NDArray[np.int64]  # cash units of one lot times one tick; 0 for inverse perpetuals and futures
    strike: NDArray[np.float64]
    expiry_ns: NDArray[np.int64]
    is_call: NDArray[np.bool_]
    tradable: NDArray[np.bool_]
    funding_interval_ns: NDArray[np.int64]  # 0: funding is not paid at intervals


class AssetArrays(NamedTuple):
    """Terms of assets by number."""

    asset_class: NDArray[np.int32]  # index into parameters.ASSET_CLASSES
    redemption_asset: NDArray[np.int32]  # -1: none
    redemption_rate: NDArray[np.float64]
    redemption_delay_s: NDArray[np.float64]
    cap_usd: NDArray[np.float64]  # of one account
    cap_usd_global: NDArray[np.float64]  # over all accounts
    eligible_chains: NDArray[np.int64]  # bit of each chain, all bits: every chain
    group: NDArray[np.int32]  # risk group, -1: none
    source_weight: NDArray[np.float64]  # [ASSETS_MAX, SOURCES_MAX], 0: not (or no longer) a source


class ChainArrays(NamedTuple):
    """Terms of chains by number."""

    finality_s: NDArray[np.float64]
    messaging_delay_s: NDArray[np.float64]
    security_premium: NDArray[np.float64]
    layer: NDArray[np.int32]  # number of the messaging layer


class Universe:
    """Names and numbers of everything defined. `define` is the only way in."""

    def __init__(self) -> None:
        self.assets: list[AssetDefinition] = []
        self.chains: list[ChainDefinition] = []
        self.venues: list[VenueDefinition] = []
        self.instruments: list[InstrumentDefinition] = []
        self.asset_names: list[str] = []
        self.instrument_names: list[str] = []  # each as its venue calls it
        self.venue_rules: dict[int, Choice] = {}  # by venue, of those that have one; in the order of venues
        self.layers: list[str] = []  # messaging layers, by number; one that no chain names any more keeps its number
        self.sources: list[list[str]] = []  # by asset; a source keeps its number when a redefinition leaves it out
        self.group_assets: list[int] = []  # group number -> the group's own asset
        self._asset_numbers: dict[str, int] = {}
        self._chain_numbers: dict[str, int] = {}
        self._venue_numbers: dict[str, int] = {}
        self._instrument_numbers: dict[tuple[str, str], int] = {}
        self._vault_instruments: dict[tuple[str, str], int] = {}
        self._emitters: dict[tuple[int, str], int] = {}
        self._spots = np.zeros(INSTRUMENTS_MAX, dtype=np.int64)
        self._spot_count = 0
        self.asset_arrays = AssetArrays(
            asset_class=np.zeros(ASSETS_MAX, dtype=np.int32),
            redemption_asset=np.full(ASSETS_MAX, -1, dtype=np.int32),
            redemption_rate=np.ones(ASSETS_MAX, dtype=np.float64),
            redemption_delay_s=np.zeros(ASSETS_MAX, dtype=np.float64),
            cap_usd=np.zeros(ASSETS_MAX, dtype=np.float64),
            cap_usd_global=np.zeros(ASSETS_MAX, dtype=np.float64),
            eligible_chains=np.zeros(ASSETS_MAX, dtype=np.int64),
            group=np.full(ASSETS_MAX, -1, dtype=np.int32),
            source_weight=np.zeros((ASSETS_MAX, SOURCES_MAX), dtype=np.float64),
        )
        self.chain_arrays = ChainArrays(
            finality_s=np.zeros(CHAINS_MAX, dtype=np.float64),
            messaging_delay_s=np.zeros(CHAINS_MAX, dtype=np.float64),
            security_premium=np.zeros(CHAINS_MAX, dtype=np.float64),
            layer=np.zeros(CHAINS_MAX, dtype=np.int32),
        )
        self.venue_fee_bps = np.zeros(VENUES_MAX, dtype=np.float64)
        self.instrument_arrays = InstrumentArrays(
            contract=np.zeros(INSTRUMENTS_MAX, dtype=np.int32),
            venue=np.zeros(INSTRUMENTS_MAX, dtype=np.int32),
            chain=np.zeros(INSTRUMENTS_MAX, dtype=np.int32),
            underlying=np.zeros(INSTRUMENTS_MAX, dtype=np.int32),
            quote=np.zeros(INSTRUMENTS_MAX, dtype=np.int32),
            lot_size=np.zeros(INSTRUMENTS_MAX, dtype=np.float64),
            tick_size=np.zeros(INSTRUMENTS_MAX, dtype=np.float64),
            cash_unit=np.zeros(INSTRUMENTS_MAX, dtype=np.float64),
            cash_per_lot_tick=np.zeros(INSTRUMENTS_MAX, dtype=np.int64),
            strike=np.zeros(INSTRUMENTS_MAX, dtype=np.float64),
            expiry_ns=np.zeros(INSTRUMENTS_MAX, dtype=np.int64),
            is_call=np.zeros(INSTRUMENTS_MAX, dtype=np.bool_),
            tradable=np.zeros(INSTRUMENTS_MAX, dtype=np.bool_),
            funding_interval_ns=np.zeros(INSTRUMENTS_MAX, dtype=np.int64),
        )
        self._add_asset(AssetDefinition(v=1, name="USD", asset_class="cash", time_ns=0), [])

    # ---- names and numbers ------------------------------------------------------------------------------------------------------

    @property
    def asset_count(self) -> int:
        return len(self.assets)

    @property
    def chain_count(self) -> int:
        return len(self.chains)

    @property
    def venue_count(self) -> int:
        return len(self.venues)

    @property
    def instrument_count(self) -> int:
        return len(self.instruments)

    @property
    def layer_count(self) -> int:
        return len(self.layers)

    @property
    def spots(self) -> NDArray[np.int64]:
        """Numbers of the spot instruments, rising; a view."""
        return self._spots[: self._spot_count]

    @property
    def group_count(self) -> int:
        return len(self.group_assets)

    def asset_number(self, name: str) -> int | None:
        return self._asset_numbers.get(name)

    def chain_number(self, name: str) -> int | None:
        return self._chain_numbers.get(name)

    def venue_number(self, name: str) -> int | None:
        return self._venue_numbers.get(name)

    def instrument_number(self, venue: str, name: str) -> int | None:
        return self._instrument_numbers.get((venue, name))

    def vault_instrument(self, chain: str, asset: str) -> int | None:
        """The spot instrument of the chain's vault that attested transfers of the asset move."""
        return self._vault_instruments.get((chain, asset))

    def chain_of_emitter(self, emitter_chain: int, emitter_address: str) -> int | None:
        """The chain whose attested transfers this emitter signs (address in hex)."""
        return self._emitters.get((emitter_chain, emitter_address))

    # ---- definitions ------------------------------------------------------------------------------------------------------------

    def define(self, definition: AnyDefinition) -> Fault | None:
        """Take a definition, or say why not; every fault found is named in the detail. Nothing changes when it is refused."""
        if isinstance(definition, AssetDefinition):
            return self._define_asset(definition)
        if isinstance(definition, ChainDefinition):
            return self._define_chain(definition)
        if isinstance(definition, VenueDefinition):
            return self._define_venue(definition)
        return self._define_instrument(definition)

    def restore_layer(self, number: int, name: str) -> None:
        """Take over a messaging layer under its number; layers come before chains, in their order."""
        assert number == len(self.layers), f"layer {number} comes when {len(self.layers)} are known: a piece is missing"
        self.layers.append(name)

    def restore_asset(self, number: int, definition: AssetDefinition, sources: list[str]) -> None:
        """Take over an asset as it was, with all sources that it ever had in their order; chains come before, assets in their order."""
        if number == USD:
            self.assets[USD] = definition
        else:
            assert number == len(self.assets), f"asset {number} comes when {len(self.assets)} are known: a piece is missing"
            self._add_asset(definition, sources)
        self._fill_asset(number)

    def _define_asset(self, new: AssetDefinition) -> Fault | None:
        faults = []
        if new.name == "USD" and (new.asset_class != "cash" or new.sources):
            faults.append("USD is of class cash and has no sources")
        if new.redemption_asset is not None:
            if new.asset_class == "cash":
                faults.append("an asset of class cash has no redemption_asset")
            if new.redemption_asset == new.name:
                faults.append("redemption_asset is the asset itself")
            elif new.redemption_asset not in self._asset_numbers:
                faults.append(f"redemption_asset {new.redemption_asset} is not defined")
        if new.eligible_chains is not None:
            faults += [f"eligible_chains: {name} is not defined" for name in new.eligible_chains if name not in self._chain_numbers]
        if faults:
            return Refusal.INVALID_DEFINITION, "; ".join(faults)
        number = self._asset_numbers.get(new.name)
        if number is None:
            if len(self.assets) >= ASSETS_MAX:
                return Refusal.TOO_MANY, f"{ASSETS_MAX} assets are defined"
            if len(new.sources) > SOURCES_MAX:
                return Refusal.TOO_MANY, f"more than {SOURCES_MAX} sources"
            self._add_asset(new, list(new.sources))
            return None
        conflicts = _differences(self.assets[number], new, ("asset_class", "redemption_asset"))
        if conflicts:
            return Refusal.CONFLICTING_DEFINITION, conflicts
        sources = self.sources[number] + [name for name in new.sources if name not in self.sources[number]]
        if len(sources) > SOURCES_MAX:
            return Refusal.TOO_MANY, f"more than {SOURCES_MAX} sources, those left out by redefinitions included"
        self.assets[number] = new
        self.sources[number] = sources
        self._fill_asset(number)
        return None

    def _define_chain(self, new: ChainDefinition) -> Fault | None:
        number = self._chain_numbers.get(new.name)
        emitter = (new.emitter_chain, new.emitter_address)
        has_emitter = _has_emitter(new)
        too_many_layers = new.messaging_layer not in self.layers and len(self.layers) >= LAYERS_MAX
        if number is not None:
            conflicts = _differences(self.chains[number], new, ("emitter_chain", "emitter_address"))
            if conflicts:
                return Refusal.CONFLICTING_DEFINITION, conflicts
            if too_many_layers:
                return Refusal.TOO_MANY, f"{LAYERS_MAX} messaging layers are defined, those left by redefinitions included"
            self.chains[number] = new
        else:
            if has_emitter and emitter in self._emitters:
                return Refusal.CONFLICTING_DEFINITION, f"emitter is the one of chain {self.chains[self._emitters[emitter]].name}"
            if len(self.chains) >= CHAINS_MAX:
                return Refusal.TOO_MANY, f"{CHAINS_MAX} chains are defined"
            if too_many_layers:
                return Refusal.TOO_MANY, f"{LAYERS_MAX} messaging layers are defined, those left by redefinitions included"
            number = len(self.chains)
            self.chains.append(new)
            self._chain_numbers[new.name] = number
            if has_emitter:
                self._emitters[emitter] = number
        if new.messaging_layer not in self.layers:
            self.layers.append(new.messaging_layer)
        self.chain_arrays.layer[number] = self.layers.index(new.messaging_layer)
        self.chain_arrays.finality_s[number] = new.finality_s
        self.chain_arrays.messaging_delay_s[number] = new.messaging_delay_s
        self.chain_arrays.security_premium[number] = new.security_premium
        return None

    def _define_venue(self, new: VenueDefinition) -> Fault | None:
        faults = [] if new.chain in self._chain_numbers else [f"chain {new.chain} is not defined"]
        rule = None if new.rule is None else choose(new.rule.rule, new.rule.parameters, new.rule.given)
        if isinstance(rule, list):
            faults += [f"rule.{fault}" for fault in rule]
        if faults or isinstance(rule, list):
            return Refusal.INVALID_DEFINITION, "; ".join(faults)
        number = self._venue_numbers.get(new.name)
        if number is not None:
            conflicts = _differences(self.venues[number], new, ("chain", "vault"))
            if conflicts:
                return Refusal.CONFLICTING_DEFINITION, conflicts
            self.venues[number] = new
        else:
            if len(self.venues) >= VENUES_MAX:
                return Refusal.TOO_MANY, f"{VENUES_MAX} venues are defined"
            number = len(self.venues)
            self.venues.append(new)
            self._venue_numbers[new.name] = number
        self.venue_fee_bps[number] = new.fee_bps
        rules = {other: kept for other, kept in self.venue_rules.items() if other != number}
        self.venue_rules = rules if rule is None else dict(sorted([*rules.items(), (number, rule)]))
        return None

    def _define_instrument(self, new: InstrumentDefinition) -> Fault | None:
        faults = self._instrument_faults(new)
        if faults:
            return Refusal.INVALID_DEFINITION, "; ".join(faults)
        number = self._instrument_numbers.get((new.venue, new.name))
        if number is not None:
            terms = ("contract", "underlying", "quote", "lot_size", "tick_size", "strike", "expiry_ns", "is_call", "funding_interval_s")
            conflicts = _differences(self.instruments[number], new, terms)
            if conflicts:
                return Refusal.CONFLICTING_DEFINITION, conflicts
            self.instruments[number] = new
            self.instrument_arrays.tradable[number] = new.tradable
            return None
        venue = self.venues[self._venue_numbers[new.venue]]
        if venue.vault and (venue.chain, new.underlying) in self._vault_instruments:
            other = self.instruments[self._vault_instruments[(venue.chain, new.underlying)]]
            return Refusal.CONFLICTING_DEFINITION, f"{other.venue} {other.name} is the vault's {new.underlying} on {venue.chain} already"
        if len(self.instruments) >= INSTRUMENTS_MAX:
            return Refusal.TOO_MANY, f"{INSTRUMENTS_MAX} instruments are defined"
        self._add_instrument(new)
        return None

    def _instrument_faults(self, new: InstrumentDefinition) -> list[str]:
        faults = []
        contract = CONTRACTS.index(new.contract)
        underlying = self._asset_numbers.get(new.underlying)
        quote = self._asset_numbers.get(new.quote)
        venue = self._venue_numbers.get(new.venue)
        if venue is None:
            faults.append(f"venue {new.venue} is not defined")
        elif self.venues[venue].vault and contract != SPOT:
            faults.append("a vault holds spot only")
        if underlying is None:
            faults.append(f"underlying {new.underlying} is not defined")
        elif contract not in (SPOT, LOAN) and self.asset_arrays.group[underlying] < 0:
            faults.append(f"underlying {new.underlying} is of class cash: nothing to derive from")
        if quote is None:
            faults.append(f"quote {new.quote} is not defined")
        if contract in INVERSE_CONTRACTS and new.quote != new.underlying:
            faults.append(f"an {new.contract} is quoted in its underlying")
        faults += term_faults(new, contract)
        if quote is not None and contract not in IN_USD_LOTS and cash_per_lot_tick(new, self.assets[quote].asset_class) is None:
            unit = cash_unit(self.assets[quote].asset_class)
            faults.append(f"lot_size * tick_size is not a whole number of cash units ({unit} {new.quote}), from 1 to 2**53")
        return faults

    # ---- arrays -----------------------------------------------------------------------------------------------------------------

    def _add_asset(self, new: AssetDefinition, sources: list[str]) -> None:
        number = len(self.assets)
        self.assets.append(new)
        self.asset_names.append(new.name)
        self.sources.append(sources)
        self._asset_numbers[new.name] = number
        arrays = self.asset_arrays
        arrays.asset_class[number] = ASSET_CLASSES.index(new.asset_class)
        if new.redemption_asset is not None:
            arrays.redemption_asset[number] = self._asset_numbers[new.redemption_asset]
        root = number
        while arrays.redemption_asset[root] >= 0:
            root = int(arrays.redemption_asset[root])
        if new.asset_class == "cash":
            arrays.group[number] = -1
        elif root == number or arrays.asset_class[root] == CASH_CLASS:
            arrays.group[number] = len(self.group_assets)
            self.group_assets.append(number)
        else:
            arrays.group[number] = arrays.group[root]
        self._fill_asset(number)

    def _fill_asset(self, number: int) -> None:
        asset = self.assets[number]
        arrays = self.asset_arrays
        arrays.redemption_rate[number] = asset.redemption_rate
        arrays.redemption_delay_s[number] = asset.redemption_delay_s
        arrays.cap_usd[number] = asset.cap_usd_per_account
        arrays.cap_usd_global[number] = asset.cap_usd_global
        mask = -1
        if asset.eligible_chains is not None:
            mask = _signed(sum(1 << self._chain_numbers[name] for name in sorted(set(asset.eligible_chains))))
        arrays.eligible_chains[number] = mask
        arrays.source_weight[number, :] = 0.0
        for slot, name in enumerate(self.sources[number]):
            arrays.source_weight[number, slot] = asset.sources.get(name, 0.0)

    def _add_instrument(self, new: InstrumentDefinition) -> None:
        number = len(self.instruments)
        self.instruments.append(new)
        self.instrument_names.append(new.name)
        self._instrument_numbers[(new.venue, new.name)] = number
        arrays = self.instrument_arrays
        venue_number = self._venue_numbers[new.venue]
        venue = self.venues[venue_number]
        quote_class = self.assets[self._asset_numbers[new.quote]].asset_class
        arrays.contract[number] = CONTRACTS.index(new.contract)
        arrays.venue[number] = venue_number
        arrays.chain[number] = self._chain_numbers[venue.chain]
        arrays.underlying[number] = self._asset_numbers[new.underlying]
        arrays.quote[number] = self._asset_numbers[new.quote]
        arrays.lot_size[number] = new.lot_size
        arrays.tick_size[number] = new.tick_size
        arrays.cash_unit[number] = cash_unit(quote_class)
        if arrays.contract[number] not in IN_USD_LOTS:
            arrays.cash_per_lot_tick[number] = cash_per_lot_tick(new, quote_class) or 0
        arrays.strike[number] = new.strike
        arrays.expiry_ns[number] = new.expiry_ns
        arrays.is_call[number] = new.is_call
        arrays.tradable[number] = new.tradable
        arrays.funding_interval_ns[number] = new.funding_interval_s * NS_PER_SECOND
        if arrays.contract[number] == SPOT:
            self._spots[self._spot_count] = number
            self._spot_count += 1
        if venue.vault:
            self._vault_instruments[(venue.chain, new.underlying)] = number

    def atomic_mask(self, chain: int) -> int:
        """Chains that this one reaches at once, itself included, as bits of a signed 64-bit number."""
        group = self.chains[chain].atomic_group
        mask = 1 << chain
        if group is not None:
            for number, other in enumerate(self.chains):
                if other.atomic_group == group:
                    mask |= 1 << number
        return _signed(mask)


def _signed(mask: int) -> int:
    return mask - (1 << 64) if mask >= 1 << 63 else mask


def _has_emitter(chain: ChainDefinition) -> bool:
    return chain.emitter_chain != 0 or chain.emitter_address != "00" * 32


def _differences(old: msgspec.Struct, new: msgspec.Struct, fields: tuple[str, ...]) -> str:
    """What a redefinition may not change but does, in words; empty if nothing."""
    return "; ".join(
        f"{field} is {getattr(old, field)!r} and cannot become {getattr(new, field)!r}"
        for field in fields
        if getattr(old, field) != getattr(new, field)
    )
