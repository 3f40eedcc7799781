"""What may be defined, what may change, and what is told when it may not."""

from typing import Any

import pytest

from engine.inputs import AssetDefinition, ChainDefinition, InstrumentDefinition, VenueDefinition
from engine.reasons import Refusal
from engine.tables import ASSETS_MAX, CHAINS_MAX, INSTRUMENTS_MAX, SOURCES_MAX, VENUES_MAX
from engine.universe import Universe
from tests.small_market import definitions, say


def asset(name: str, asset_class: Any = "major", **terms: Any) -> AssetDefinition:
    return AssetDefinition(v=1, time_ns=0, name=name, asset_class=asset_class, **terms)


def chain(name: str, **terms: Any) -> ChainDefinition:
    return ChainDefinition(v=1, time_ns=0, name=name, finality_s=1.0, messaging_delay_s=1.0, **terms)


def venue(name: str, on: str = "one", **terms: Any) -> VenueDefinition:
    return VenueDefinition(v=1, time_ns=0, name=name, chain=on, **terms)


def instrument(**terms: Any) -> InstrumentDefinition:
    given = {"venue": "venue-one", "name": "X", "contract": "perpetual", "underlying": "BTC", "lot_size": 0.01, "tick_size": 0.01, **terms}
    return InstrumentDefinition(v=1, time_ns=0, **given)


@pytest.fixture
def universe() -> Universe:
    universe = Universe()
    for definition in definitions():
        say(universe.define(definition))
    return universe


def test_numbers_are_the_order_of_first_definition(universe: Universe) -> None:
    assert [universe.asset_number(name) for name in ("USD", "BTC", "ETH", "WBETH", "USDE")] == [0, 1, 2, 3, 4]
    assert universe.chain_number("two") == 1
    assert universe.instrument_number("vault-one", "BTC") == 0
    assert universe.instrument_number("vault-one", "nothing") is None


def test_groups_end_where_redemption_does_unless_in_cash(universe: Universe) -> None:
    group = {a.name: int(universe.asset_arrays.group[k]) for k, a in enumerate(universe.assets)}
    assert group["USD"] == -1
    assert group["WBETH"] == group["ETH"]
    assert group["USDE"] not in (-1, group["ETH"])
    assert [universe.assets[a].name for a in universe.group_assets] == ["BTC", "ETH", "USDE", "DOGE", "GOV"]


def test_every_definition_again_changes_nothing(universe: Universe) -> None:
    counts = (universe.asset_count, universe.chain_count, universe.venue_count, universe.instrument_count)
    for definition in definitions():
        say(universe.define(definition))
    assert counts == (universe.asset_count, universe.chain_count, universe.venue_count, universe.instrument_count)


def test_terms_may_change(universe: Universe) -> None:
    say(universe.define(asset("DOGE", "alt", cap_usd_per_account=5.0, eligible_chains=["two"], sources={"south": 2.0, "new": 1.0})))
    number = universe.asset_number("DOGE")
    assert number is not None
    assert universe.asset_arrays.cap_usd[number] == 5.0
    assert universe.asset_arrays.eligible_chains[number] == 0b10
    assert universe.sources[number] == ["north", "south", "west", "new"]  # numbers stay
    assert universe.asset_arrays.source_weight[number, :4].tolist() == [0.0, 2.0, 0.0, 1.0]
    say(universe.define(venue("venue-one", fee_bps=1.5)))
    assert universe.venue_fee_bps[universe.venue_number("venue-one") or 0] == 1.5


@pytest.mark.parametrize(
    ("definition", "named"),
    [
        (asset("DOGE", "major"), ["asset_class"]),
        (asset("WBETH", "liquid_staking", redemption_asset="BTC"), ["redemption_asset"]),
        (chain("one", emitter_chain=3), ["emitter_chain"]),
        (venue("venue-one", "two", vault=True), ["chain", "vault"]),
        (instrument(name="BTC-perp", lot_size=0.1, tick_size=0.1), ["lot_size", "tick_size"]),
        (instrument(venue="vault-one", name="BTC again", contract="spot"), ["vault-one BTC is the vault's BTC"]),
    ],
)
def test_identity_may_not(universe: Universe, definition: Any, named: list[str]) -> None:
    fault = universe.define(definition)
    assert fault is not None
    assert fault[0] == Refusal.CONFLICTING_DEFINITION
    for word in named:
        assert word in fault[1]


@pytest.mark.parametrize(
    ("definition", "named"),
    [
        (asset("USD", "stable"), ["USD is of class cash"]),
        (asset("NEW", "cash", redemption_asset="USD"), ["no redemption_asset"]),
        (asset("NEW", redemption_asset="NEW"), ["itself"]),
        (asset("NEW", redemption_asset="NONE", eligible_chains=["mars", "one"]), ["NONE is not defined", "mars is not defined"]),
        (venue("v", "mars"), ["mars"]),
        (instrument(venue="w", underlying="U", quote="Q"), ["venue w", "underlying U", "quote Q"]),
        (instrument(venue="vault-one", name="p"), ["a vault holds spot only"]),
        (instrument(underlying="USD"), ["class cash"]),
        (instrument(contract="inverse_perpetual", quote="USD"), ["quoted in its underlying"]),
        (instrument(contract="option"), ["strike must", "expiry_ns must"]),
        (instrument(strike=1.0, expiry_ns=5), ["strike belongs", "expiry_ns belongs"]),
        (instrument(lot_size=0.01, tick_size=1.5e-5), ["whole number"]),
        (instrument(lot_size=1e-4, tick_size=1e-3), ["whole number"]),
        (instrument(lot_size=1e12, tick_size=1e12), ["whole number"]),
    ],
)
def test_every_fault_is_named(universe: Universe, definition: Any, named: list[str]) -> None:
    before = universe.instrument_count, universe.asset_count
    fault = universe.define(definition)
    assert fault is not None
    assert fault[0] == Refusal.INVALID_DEFINITION
    for words in named:
        assert words in fault[1]
    assert before == (universe.instrument_count, universe.asset_count)


@pytest.mark.parametrize(
    ("lot_size", "tick_size", "quote", "units"),
    [
        (0.001, 0.1, "USD", 100),
        (0.01, 0.01, "BTC", 100_000),
        (1.0, 1e-6, "USDE", 1),
        (0.1, 0.7, "USD", 70_000),
        (3.0, 0.0001, "ETH", 300_000),
    ],
)
def test_cash_per_lot_tick_is_exact(universe: Universe, lot_size: float, tick_size: float, quote: str, units: int) -> None:
    """Products of decimals that doubles miss by a rounding are the whole numbers that were meant; coins count in 1e-9."""
    say(universe.define(instrument(contract="spot", underlying="DOGE", quote=quote, lot_size=lot_size, tick_size=tick_size)))
    assert universe.instrument_arrays.cash_per_lot_tick[universe.instrument_count - 1] == units


def test_emitters_are_unique(universe: Universe) -> None:
    say(universe.define(chain("five", emitter_chain=2, emitter_address="ab" * 32)))
    fault = universe.define(chain("six", emitter_chain=2, emitter_address="ab" * 32))
    assert fault is not None
    assert fault[0] == Refusal.CONFLICTING_DEFINITION
    assert universe.chain_of_emitter(2, "ab" * 32) == 4
    assert universe.chain_of_emitter(2, "ac" * 32) is None


def test_a_vault_says_which_instrument_credits_move(universe: Universe) -> None:
    number = universe.vault_instrument("two", "ETH")
    assert number == universe.instrument_number("vault-two", "ETH")
    assert universe.vault_instrument("two", "nothing") is None


def test_an_atomic_group_is_reached_at_once(universe: Universe) -> None:
    assert [universe.atomic_mask(j) for j in range(4)] == [0b0001, 0b0010, 0b1100, 0b1100]


def test_bounds() -> None:
    universe = Universe()
    for k in range(CHAINS_MAX):
        say(universe.define(chain(f"c{k}", atomic_group="all")))
    assert universe.define(chain("more")) == (Refusal.TOO_MANY, f"{CHAINS_MAX} chains are defined")
    assert universe.atomic_mask(63) == -1  # all 64 bits
    for k in range(VENUES_MAX):
        say(universe.define(venue(f"v{k}", "c63")))
    assert (universe.define(venue("more", "c0")) or ("",))[0] == Refusal.TOO_MANY
    sources = {f"s{k}": 1.0 for k in range(SOURCES_MAX)}
    for k in range(ASSETS_MAX - 1):
        say(universe.define(asset(f"a{k}", sources=sources)))
    assert (universe.define(asset("more")) or ("",))[0] == Refusal.TOO_MANY
    assert (universe.define(asset("a0", sources={"other": 1.0})) or ("",))[0] == Refusal.TOO_MANY
    for k in range(INSTRUMENTS_MAX):
        say(universe.define(instrument(venue="v0", name=f"i{k}", underlying=f"a{k % 500}")))
    assert (universe.define(instrument(venue="v0", name="more", underlying="a0")) or ("",))[0] == Refusal.TOO_MANY
    assert (Universe().define(asset("x", sources={**sources, "one more": 1.0})) or ("",))[0] == Refusal.TOO_MANY
