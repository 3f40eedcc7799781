"""Breakers of the market beside the oldest three: a jump of volatility, messaging layers, the whole system, quarantine."""

from typing import Any

import pytest

from engine.breakers import CLOSED, RECOVERING, TRIGGERS, TRIPPED
from engine.inputs import ChainDefinition, LagObservation, RiskParameters
from engine.market import Market
from engine.market_breakers import breaker_kinds
from engine.reasons import Refusal
from engine.tables import LAYERS_MAX
from tests.small_market import PRICES, SECOND, START, new_market, say, tell_prices

BTC, ETH, DOGE = 1, 2, 5


def changes(market: Market) -> list[tuple[str, str, str]]:
    return [(c.trigger, c.name, c.state) for c in market.revalue().breakers]


def tick(market: Market, seconds: float) -> list[tuple[str, str, str]]:
    market.tick(market.clock_ns + round(seconds * SECOND))
    return changes(market)


def lag(market: Market, chain: str, seconds: int, **more: Any) -> LagObservation:
    return LagObservation(chain, seconds * SECOND, market.clock_ns, **more)


def chain(name: str, layer: str) -> ChainDefinition:
    return ChainDefinition(v=1, time_ns=0, name=name, finality_s=1.0, messaging_delay_s=1.0, messaging_layer=layer)


def test_the_triggers_are_a_closed_list() -> None:
    kinds = [kind.trigger for kind in breaker_kinds(new_market())]
    assert kinds == [
        "asset_move",
        "volatility_jump",
        "source_divergence",
        "eligibility",
        "attestation_lag",
        "layer_lag",
        "system_move",
        "quarantine",
    ]
    assert (*kinds, "liquidation_volume", "venue_silence", "bad_debt") == TRIGGERS  # the last three are of a book


# ---- a jump of volatility -------------------------------------------------------------------------------------------------------------


def test_a_jump_of_volatility_widens_once() -> None:
    market = new_market({"move_trip": 1.0})
    tick(market, 20)
    tell = {"BTC": 94_000.0}
    tell_prices(market, tell, market.clock_ns)
    assert market.jump_breakers.state[BTC] == TRIPPED
    assert market.move_breakers.state[BTC] == CLOSED
    v = market.volatilities
    ratio = (v.variance_fast[BTC] / v.variance_slow[BTC]) ** 0.5
    assert market.jump_breakers.value[BTC] == pytest.approx(ratio)
    assert ratio > 4.0
    assert market.inputs.sigma[1, BTC] == min(5.0, 1.5 * v.sigma[BTC])
    assert market.jump_breakers.state[ETH] == CLOSED
    both = new_market()
    tick(both, 20)
    tell_prices(both, tell, both.clock_ns)
    assert both.move_breakers.state[BTC] == both.jump_breakers.state[BTC] == TRIPPED
    assert both.inputs.sigma[1, BTC] == market.inputs.sigma[1, BTC]


def test_the_first_sample_is_no_jump() -> None:
    market = new_market({"jump_trip": 1e-9, "jump_reset": 1e-9})
    assert market.jump_breakers.state[BTC] == CLOSED
    tick(market, 1)
    tell_prices(market, {"BTC": 100_000.0}, market.clock_ns)
    assert market.jump_breakers.state[BTC] == TRIPPED


def test_a_jump_is_looked_at_with_samples_alone() -> None:
    market = new_market({"jump_trip": 4.0, "jump_reset": 4.0, "cooldown_s": 0.0})
    tick(market, 20)
    tell_prices(market, {"BTC": 94_000.0}, market.clock_ns)
    since = int(market.jump_breakers.since_ns[BTC])
    market.settings = market.settings._replace(jump_trip=1e6, jump_reset=1e6)  # whenever it is looked at now it moves
    tick(market, 0.5)
    assert market.jump_breakers.since_ns[BTC] == since
    tick(market, 0.5)
    tell_prices(market, {"BTC": 94_000.0}, market.clock_ns)
    assert market.jump_breakers.state[BTC] == RECOVERING


# ---- layers ---------------------------------------------------------------------------------------------------------------------------


def a_layered_market() -> Market:
    """Three chains of layer L that are heard, one that isn't, one of layer M."""
    market = new_market()
    for name in ("l1", "l2", "l3", "l4"):
        say(market.define(chain(name, "L")))
    say(market.define(chain("m1", "M")))
    market.revalue()
    for name in ("l1", "l2", "l3", "m1"):
        say(market.observe_lag(lag(market, name, 60)))
    market.revalue()
    return market


def test_a_layer_is_late_when_more_than_its_share_of_chains_is() -> None:
    market = a_layered_market()
    assert market.universe.layers == ["wormhole", "L", "M"]
    numbers = {name: market.universe.chain_number(name) or 0 for name in ("l1", "l2", "l3", "l4", "m1")}
    say(market.observe_lag(lag(market, "l1", 2_000)))
    assert changes(market) == [("attestation_lag", "l1", "tripped")]  # a third is late
    assert [name for name, j in numbers.items() if market.chain_holds_credit(j)] == ["l1"]
    say(market.observe_lag(lag(market, "l2", 2_000)))
    assert changes(market) == [("attestation_lag", "l2", "tripped"), ("layer_lag", "L", "tripped")]
    assert [name for name, j in numbers.items() if market.chain_holds_credit(j)] == ["l1", "l2", "l3", "l4"]
    tick(market, 60)
    assert market.inputs.paused[numbers["l4"]] == pytest.approx(1 - 2 ** (-60 / 21_600))
    assert market.inputs.paused[numbers["m1"]] == 0.0
    # Both come back, then the layer: below half of the share, and a cool-down.
    closed: list[int] = []
    for _ in range(12):
        for name in ("l1", "l2", "l3", "m1"):
            say(market.observe_lag(lag(market, name, 60)))
        market.tick(market.clock_ns + 60 * SECOND)
        closed += market.revalue().closed_chains
    assert closed == [numbers[name] for name in ("l1", "l2", "l3", "l4")]
    assert market.inputs.paused[: market.universe.chain_count].tolist() == [0.0] * market.universe.chain_count


def test_a_chain_that_goes_over_to_another_layer_is_of_that_one() -> None:
    market = a_layered_market()
    for name in ("l1", "l2"):
        say(market.observe_lag(lag(market, name, 2_000)))
    market.revalue()
    four = market.universe.chain_number("l4") or 0
    assert market.chain_holds_credit(four)
    say(market.define(chain("l4", "M")))
    assert market.revalue().closed_chains == [four]
    other = Market()
    other.restore(market.pieces())
    assert other.universe.layers == market.universe.layers == ["wormhole", "L", "M"]
    assert [other.chain_holds_credit(j) for j in range(other.universe.chain_count)] == [
        market.chain_holds_credit(j) for j in range(market.universe.chain_count)
    ]


def test_layers_are_numbered_once_and_bounded() -> None:
    market = new_market()
    for number in range(LAYERS_MAX - 1):
        say(market.define(chain("roaming", f"layer-{number}")))  # one chain through them all
    for name in ("roaming", "another"):
        fault = market.define(chain(name, "one-more"))
        assert fault is not None
        assert fault[0] == Refusal.TOO_MANY
    say(market.define(chain("another", "layer-0")))
    market.revalue()
    other = Market()
    other.restore(market.pieces())
    assert other.universe.layers == market.universe.layers
    assert other.pieces() == market.pieces()


# ---- the system -----------------------------------------------------------------------------------------------------------------------


def test_the_system_moves_when_more_than_half_of_its_groups_do() -> None:
    market = new_market()
    tick(market, 20)
    tell_prices(market, {name: PRICES[name] * 0.9 for name in ("BTC", "ETH")}, market.clock_ns)
    assert ("system_move", "system", "tripped") not in tick(market, 1)  # two of five groups
    tell_prices(market, {"DOGE": PRICES["DOGE"] * 0.9}, market.clock_ns)
    assert ("system_move", "system", "tripped") in tick(market, 1)
    assert market.system_breakers.value[0] == pytest.approx(0.6)
    other = Market()
    other.restore(market.pieces())
    assert other.system_breakers.state[0] == TRIPPED


def test_two_groups_are_no_system() -> None:
    market = new_market()
    for _ in range(4):
        tick(market, 20)
        tell_prices(market, {name: PRICES[name] for name in ("BTC", "ETH")}, market.clock_ns)
    tell_prices(market, {name: PRICES[name] * 0.9 for name in ("BTC", "ETH")}, market.clock_ns + 1)
    assert tick(market, 1) == []
    assert market.move_breakers.state[ETH] == TRIPPED


# ---- quarantine -----------------------------------------------------------------------------------------------------------------------


def test_an_attestors_word_begins_a_quarantine_that_only_an_operator_ends() -> None:
    market = new_market()
    say(market.observe_lag(lag(market, "two", 60, quarantined=True)))
    told = market.revalue()
    assert [tuple(c) for c in told.breakers] == [("quarantine", "two", "tripped", START, 1.0, 1.0)]
    assert market.chain_holds_credit(1)
    say(market.observe_lag(lag(market, "two", 60)))
    assert changes(market) == []
    for _ in range(20):
        assert tick(market, 60) == []
    assert market.chain_holds_credit(1)
    say(market.set_quarantine("two", on=False))
    told = market.revalue()
    assert [(c.trigger, c.name, c.state) for c in told.breakers] == [("quarantine", "two", "closed")]
    assert told.closed_chains == [1]
    assert not market.chain_holds_credit(1)


def test_an_operator_can_begin_one_too() -> None:
    market = new_market()
    fault = market.set_quarantine("mars", on=True)
    assert fault is not None
    assert fault[0] == Refusal.UNKNOWN_CHAIN
    say(market.set_quarantine("one", on=True))
    assert changes(market) == [("quarantine", "one", "tripped")]
    say(market.set_quarantine("one", on=True))
    assert changes(market) == []


def test_a_quarantine_told_before_the_first_tick_comes_with_it() -> None:
    market = Market()
    say(market.define(chain("early", "L")))
    say(market.set_quarantine("early", on=True))
    assert changes(market) == []
    other = Market()
    other.restore(market.pieces())
    for one in (market, other):
        say(one.set_parameters(RiskParameters(v=1, version="x", parameters={}, time_ns=0)))
        assert changes(one) == []
        one.tick(START)
        assert changes(one) == [("quarantine", "early", "tripped")]


def test_a_quarantine_is_a_fact_that_cannot_be_switched_off() -> None:
    market = new_market()
    say(market.set_quarantine("one", on=True))
    market.revalue()
    say(market.set_parameters(RiskParameters(v=1, version="off", parameters={"breakers_enabled": False}, time_ns=START)))
    told = market.revalue()
    assert told.breakers == []
    assert told.closed_chains == []
    assert market.chain_holds_credit(0)
    say(market.set_quarantine("two", on=True))
    assert changes(market) == [("quarantine", "two", "tripped")]


def test_switched_off_they_close_at_once() -> None:
    market = new_market()
    say(market.observe_lag(lag(market, "one", 80_000)))
    assert changes(market) == [("attestation_lag", "one", "tripped")]
    say(market.set_parameters(RiskParameters(v=1, version="off", parameters={"breakers_enabled": False}, time_ns=START)))
    assert changes(market) == [("attestation_lag", "one", "closed")]
    assert not market.chain_holds_credit(0)


def test_switched_off_none_of_them_trips() -> None:
    market = new_market({"breakers_enabled": False, "classes": {"major": {"suspend_uptime": 0.999}}})
    say(market.observe_lag(lag(market, "one", 80_000)))
    assert changes(market) == []
    tick(market, 20)
    tell_prices(market, {name: usd * 0.5 for name, usd in PRICES.items()}, market.clock_ns)
    for _ in range(10):
        assert tick(market, 60) == []
    assert not market.chain_holds_credit(0)
    assert market.uptime[BTC] < 0.95  # goes on, unlike the breaker that looks at it
