"""What a market refuses, forgets, remembers to the bit, and tells of each frame."""

import math
import random
from typing import Any

import numpy as np
import pytest

from engine.breakers import CLOSED, RECOVERING, TRIPPED
from engine.inputs import (
    AssetDefinition,
    ChainDefinition,
    Depth,
    Funding,
    ImpliedVolatility,
    InstrumentDefinition,
    LagObservation,
    RiskParameters,
)
from engine.margin import MAINTENANCE, UNHAIRCUT
from engine.market import Market
from engine.reasons import Cause, Refusal, Unknown
from engine.tables import EXPIRIES_MAX, SCAN_ROW
from tests.small_market import (
    DAY,
    PRICES,
    SECOND,
    SOURCES,
    START,
    Account,
    definitions,
    instrument,
    new_market,
    number_of,
    price,
    random_account,
    random_frame,
    say,
    tell_prices,
)
from tests.small_world import PLAIN

LATER = START + 6 * SECOND  # beyond the clock and its skew of 5 s


def asset(market: Market, name: str) -> int:
    number = market.universe.asset_number(name)
    assert number is not None
    return number


def advance(market: Market, seconds: float) -> None:
    market.tick(market.clock_ns + round(seconds * SECOND))
    market.revalue()


# ---- refusals -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observe", "message", "reason"),
    [
        ("observe_price", price("XRP", "north", 1.0, START), Refusal.UNKNOWN_ASSET),
        ("observe_price", price("BTC", "east", 1.0, START), Refusal.UNKNOWN_SOURCE),
        ("observe_price", price("USD", "north", 1.0, START), Refusal.UNKNOWN_SOURCE),
        ("observe_price", price("BTC", "north", 1.0, LATER), Refusal.FUTURE_TIME),
        ("observe_price", price("BTC", "north", 1.0, START - 1), Refusal.OUT_OF_ORDER),
        ("observe_depth", Depth(v=1, asset="XRP", depth_usd=1.0, spread_bps=1.0, time_ns=START), Refusal.UNKNOWN_ASSET),
        ("observe_depth", Depth(v=1, asset="BTC", depth_usd=1.0, spread_bps=1.0, time_ns=LATER), Refusal.FUTURE_TIME),
        ("observe_volatility", ImpliedVolatility(v=1, underlying="XRP", expiry_ns=LATER, sigma=1.0, time_ns=START), Refusal.UNKNOWN_ASSET),
        ("observe_volatility", ImpliedVolatility(v=1, underlying="BTC", expiry_ns=LATER, sigma=1.0, time_ns=LATER), Refusal.FUTURE_TIME),
        ("observe_volatility", ImpliedVolatility(v=1, underlying="BTC", expiry_ns=START, sigma=1.0, time_ns=START), Refusal.OUT_OF_RANGE),
        (
            "observe_volatility",
            ImpliedVolatility(v=1, underlying="BTC", expiry_ns=START + 7 * DAY, sigma=1.0, time_ns=START - 1),
            Refusal.OUT_OF_ORDER,
        ),
        ("observe_lag", LagObservation("mars", 1, START), Refusal.UNKNOWN_CHAIN),
        ("define", ChainDefinition(v=1, time_ns=LATER, name="x", finality_s=1.0, messaging_delay_s=1.0), Refusal.FUTURE_TIME),
        ("define", AssetDefinition(v=1, time_ns=0, name="x", asset_class="major", redemption_asset="y"), Refusal.INVALID_DEFINITION),
        ("set_parameters", RiskParameters(v=1, version="x", parameters={}, time_ns=LATER), Refusal.FUTURE_TIME),
    ],
)
def test_refusals_leave_the_market_as_it_was(observe: str, message: Any, reason: Refusal) -> None:
    market = new_market()
    before = market.pieces()
    fault = getattr(market, observe)(message)
    assert fault is not None
    assert fault[0] == reason
    assert fault[1]
    market.revalue()
    assert market.pieces() == before


@pytest.mark.parametrize(
    ("venue", "instrument", "measure", "value", "reason"),
    [
        ("nowhere", "BTC-perp", "rate_per_hour", 0.0, Refusal.UNKNOWN_VENUE),
        ("venue-one", "nothing", "rate_per_hour", 0.0, Refusal.UNKNOWN_INSTRUMENT),
        ("venue-one", "USD-loan", "rate_per_hour", 0.0, Refusal.WRONG_TYPE),
        ("venue-one", "BTC-perp", "interest_index", 1.0, Refusal.WRONG_TYPE),
        ("venue-one", "USD-loan", "interest_index", 0.0, Refusal.NOT_POSITIVE),
    ],
)
def test_funding_refusals(venue: str, instrument: str, measure: Any, value: float, reason: Refusal) -> None:
    fault = new_market().observe_funding(Funding(v=1, venue=venue, instrument=instrument, measure=measure, value=value, time_ns=START))
    assert fault is not None
    assert fault[0] == reason


def test_every_fault_of_a_parameter_set_is_named() -> None:
    market = new_market()
    fault = market.set_parameters(
        RiskParameters(v=1, version="bad", parameters={"quorum": 0, "scan_kk": 1.0, "classes": {"alt": {"base_haircut": 2.0}}}, time_ns=0)
    )
    assert fault is not None
    assert fault[0] == Refusal.INVALID_PARAMETERS
    for name in ("quorum", "scan_kk", "classes.alt.base_haircut"):
        assert name in fault[1]
    assert market.parameters_version == "test"


def test_an_observation_of_the_same_time_replaces_nothing() -> None:
    market = new_market()
    for source in SOURCES:
        say(market.observe_price(price("BTC", source, 50_000.0, START)))
    market.revalue()
    assert market.mark(asset(market, "BTC")) == 100_000.0


def test_expiries_are_bounded_and_past_ones_make_room() -> None:
    market = new_market(implied=False)

    def quote(day: float) -> Any:
        return market.observe_volatility(
            ImpliedVolatility(v=1, underlying="BTC", expiry_ns=START + round(day * DAY), sigma=0.5 + day / 1000, time_ns=market.clock_ns)
        )

    days = list(range(EXPIRIES_MAX, 0, -1))
    for day in days:
        say(quote(day))
    assert (quote(100) or ("",))[0] == Refusal.TOO_MANY
    say(quote(5))  # one that is known
    while market.clock_ns < START + 2 * DAY:
        market.tick(market.clock_ns + 60 * SECOND)
    say(quote(100))
    kept = market.implied.expiry_ns[asset(market, "BTC"), : EXPIRIES_MAX - 1]
    assert kept.tolist() == [START + day * DAY for day in [*range(3, EXPIRIES_MAX + 1), 100]]
    assert market.implied.sigma[asset(market, "BTC"), EXPIRIES_MAX - 2] == 0.6


# ---- what is not known ----------------------------------------------------------------------------------------------------------------


def test_nothing_is_valued_before_clock_and_parameters() -> None:
    market = Market()
    for definition in definitions():
        say(market.define(definition))
    tell_prices(market, PRICES, START + DAY)  # no clock yet: no time is in the future
    account = Account(market, [("venue-one", "BTC-perp", 1, 0)])
    assert account.value()[0] == Unknown.NOT_DEFINED
    market.tick(START + DAY)
    market.revalue()
    assert account.value()[0] == Unknown.NOT_DEFINED
    say(market.set_parameters(RiskParameters(v=1, version="test", parameters={}, time_ns=0)))
    revaluation = market.revalue()
    assert revaluation.everything
    assert revaluation.changed.all()
    assert revaluation.cause == Cause.REGIME
    assert account.value()[0] == 0


def test_what_is_told_frame_by_frame_is_what_is_told_at_once() -> None:
    """Definitions, parameters and the first tick in frames of their own, in either order, end in the tables of one frame."""
    at_once = new_market()
    for parameters_first in (True, False):
        market = Market()
        for definition in definitions():
            say(market.define(definition))
            market.revalue()
        for step in (True, False):
            if step == parameters_first:
                say(market.set_parameters(RiskParameters(v=1, version="test", parameters=dict(PLAIN), time_ns=0)))
            else:
                market.tick(START)
            revaluation = market.revalue()
        assert revaluation.everything
        assert revaluation.changed.all()
        for number, days in enumerate((7, 35, 90)):
            quote = ImpliedVolatility(v=1, underlying="BTC", expiry_ns=START + days * DAY, sigma=0.5 + 0.05 * number, time_ns=START)
            say(market.observe_volatility(quote))
            market.revalue()
        tell_prices(market, PRICES, START)
        assert_same(at_once, market)
        assert market.inputs.route_s[1] > 0.0


def test_every_mark_goes_stale_when_sources_are_silent() -> None:
    market = new_market()
    accounts = [Account(market, [(f"vault-{chain}", name, 1, 0)]) for chain in ("one", "two") for name in PRICES]
    market.tick(START + 60 * SECOND)
    assert not market.revalue().changed.all()
    assert [account.value()[0] for account in accounts] == [0] * len(accounts)
    market.tick(START + 61 * SECOND)
    revaluation = market.revalue()
    assert revaluation.any_changed
    assert [account.value()[0] for account in accounts] == [Unknown.STALE_MARK] * len(accounts)
    assert market.mark(asset(market, "BTC")) is None
    assert Account(market, [("vault-one", "USD", 1, 0)]).value()[0] == 0  # USD needs no source


def test_a_bound_without_a_mark_is_unknown_for_those_who_need_it() -> None:
    market = new_market()
    for second in range(20, 80, 20):
        market.tick(START + second * SECOND)
        market.revalue()
        tell_prices(market, {"WBETH": 4_280.0}, market.clock_ns)  # ETH is silent
    advance(market, 1)
    assert market.mark(asset(market, "ETH")) is None
    assert Account(market, [("vault-one", "WBETH", 1, 0)]).value()[0] == Unknown.STALE_MARK
    assert Account(market, [("venue-one", "WBETH-perp", 1, 0)]).value()[0] == 0


def test_an_option_expires() -> None:
    market = new_market()
    option = Account(market, [("venue-one", "BTC-7-100000-C", 1, 0)])
    settled = Account(market, [("venue-one", "BTC-7-100000-C", 0, 10**6)])
    assert option.value()[0] == 0
    while market.clock_ns < START + 7 * DAY:
        market.tick(market.clock_ns + 60 * SECOND)
    market.revalue()
    tell_prices(market, PRICES, market.clock_ns)
    assert option.value()[0] == 0  # worth what it was at expiry, until its venue has settled it
    while market.clock_ns < START + 7 * DAY + 3_600 * SECOND:
        assert option.value()[0] == 0
        advance(market, 60)
        tell_prices(market, PRICES, market.clock_ns)
    assert option.value()[0] == Unknown.EXPIRED
    assert settled.value()[0] == 0


def test_implied_volatility_goes_stale() -> None:
    market = new_market()
    option = Account(market, [("venue-one", "BTC-7-100000-C", 1, 0)])
    for _ in range(11):
        advance(market, 60)
        tell_prices(market, PRICES, market.clock_ns)
    assert option.value()[0] == Unknown.NO_VOLATILITY
    quote = ImpliedVolatility(v=1, underlying="BTC", expiry_ns=START + 20 * DAY, sigma=0.9, time_ns=market.clock_ns)
    say(market.observe_volatility(quote))
    market.revalue()
    assert option.value()[0] == 0  # a neighbour's will do


# ---- the clock ------------------------------------------------------------------------------------------------------------------------


def test_the_clock_goes_forward_by_a_stated_step() -> None:
    market = new_market()
    assert not market.tick(START)
    assert not market.tick(START - 1)
    assert market.tick(START + DAY)
    assert market.clock_ns == START + 60 * SECOND


def test_maintenance_volatility_rises_by_the_hour() -> None:
    """A wild minute: the initial level sees it at once, maintenance at half a point an hour."""
    market = new_market()
    btc = asset(market, "BTC")
    for second in range(1, 61):
        market.tick(START + second * SECOND)
        tell_prices(market, {"BTC": 100_000.0 * (1 + 0.004 * (second % 2))}, START + second * SECOND)
    assert market.inputs.sigma[1, btc] > 2.0
    assert market.inputs.sigma[0, btc] == pytest.approx(0.8 + 0.5 * 60 / 3_600, rel=1e-9)


# ---- breakers -------------------------------------------------------------------------------------------------------------------------


def test_an_asset_move_widens_the_initial_level() -> None:
    market = new_market()
    btc = asset(market, "BTC")
    advance(market, 20)
    changes = []
    for source in SOURCES:
        say(market.observe_price(price("BTC", source, 94_000.0, market.clock_ns)))
    changes += market.revalue().breakers
    assert [(c.trigger, c.name, c.state) for c in changes] == [("asset_move", "BTC", "tripped"), ("volatility_jump", "BTC", "tripped")]
    assert changes[0].value == pytest.approx(0.06)
    assert changes[0].limit == 0.05
    assert market.inputs.sigma[1, btc] == min(5.0, 1.5 * max(market.volatilities.sigma[btc], 0.55))
    states = []
    for _ in range(80):
        advance(market, 10)
        tell_prices(market, {"BTC": 94_000.0}, market.clock_ns)
        states.append(int(market.move_breakers.state[btc]))
    assert states[0] == TRIPPED
    assert RECOVERING in states
    assert states[-1] == CLOSED
    assert states == sorted(states, key=[TRIPPED, RECOVERING, CLOSED].index)


def test_sources_apart_leave_the_mark_unknown_until_they_agree_for_a_while() -> None:
    market = new_market({"mad_floor_bps": 2_000.0})  # so that nothing is rejected
    btc = asset(market, "BTC")
    advance(market, 1)
    say(market.observe_price(price("BTC", "north", 110_000.0, market.clock_ns)))
    changes = market.revalue().breakers
    assert [(c.trigger, c.name, c.state) for c in changes] == [("source_divergence", "BTC", "tripped")]
    assert market.marks.status[btc] == Unknown.SOURCES_APART
    assert market.mark(btc) is None
    known_after = None
    for k in range(50):
        advance(market, 10)
        tell_prices(market, {"BTC": 100_000.0}, market.clock_ns)
        if market.mark(btc) is not None and known_after is None:
            known_after = k * 10
    assert known_after == pytest.approx(300, abs=10)


def test_a_slow_chain_holds_credit() -> None:
    market = new_market()
    one = 0
    assert not market.chain_holds_credit(one)
    say(market.observe_lag(LagObservation("one", 1_801 * SECOND, START)))
    changes = market.revalue().breakers
    assert [(c.trigger, c.name, c.state, c.value) for c in changes] == [
        ("attestation_lag", "one", "tripped", 1_801.0),  # alone of its layer it makes no late layer
    ]
    assert market.chain_holds_credit(one)
    say(market.observe_lag(LagObservation("one", 60 * SECOND, START)))
    market.revalue()
    assert market.chain_holds_credit(one)  # recovering
    closed: list[int] = []
    for _ in range(10):
        assert market.chain_holds_credit(one) == (market.lag_breakers.state[one] != CLOSED)
        market.tick(market.clock_ns + 60 * SECOND)
        say(market.observe_lag(LagObservation("one", 60 * SECOND, market.clock_ns)))
        closed += market.revalue().closed_chains
    assert closed == [one]
    assert not market.chain_holds_credit(one)


def test_a_silent_chain_is_slow_too() -> None:
    market = new_market()
    say(market.observe_lag(LagObservation("two", SECOND, START)))
    market.revalue()
    for _ in range(31):
        advance(market, 60)
    assert market.chain_holds_credit(1)
    assert market.lag_breakers.state[0] == CLOSED  # never sent a heartbeat
    assert not market.chain_holds_credit(0)


def test_breakers_can_be_switched_off() -> None:
    market = new_market()
    say(market.observe_lag(LagObservation("one", 5_000 * SECOND, START)))
    advance(market, 20)
    tell_prices(market, {"BTC": 50_000.0}, market.clock_ns)
    assert market.move_breakers.state[asset(market, "BTC")] == TRIPPED
    say(market.set_parameters(RiskParameters(v=1, version="off", parameters={"breakers_enabled": False}, time_ns=START)))
    revaluation = market.revalue()
    assert {(c.trigger, c.state) for c in revaluation.breakers} == {
        ("asset_move", "closed"),
        ("attestation_lag", "closed"),
        ("volatility_jump", "closed"),
    }
    assert revaluation.closed_chains == [0]
    advance(market, 20)
    tell_prices(market, {"BTC": 20_000.0}, market.clock_ns)
    assert market.move_breakers.state[asset(market, "BTC")] == CLOSED
    assert market.mark(asset(market, "BTC")) == 20_000.0


# ---- what a frame changed -------------------------------------------------------------------------------------------------------------


def test_a_price_changes_what_depends_on_it() -> None:
    market = new_market()
    advance(market, 1)
    for source in SOURCES:
        say(market.observe_price(price("ETH", source, 4_001.0, market.clock_ns)))
    revaluation = market.revalue()
    named = {market.universe.instruments[i].underlying for i in np.flatnonzero(revaluation.changed)}
    assert named == {"ETH", "WBETH"}  # whose bound it is
    assert not revaluation.everything
    assert revaluation.cause == Cause.NONE


def test_the_same_price_again_changes_nothing() -> None:
    market = new_market()
    tell_prices(market, PRICES, START + 1)
    for source in SOURCES:
        say(market.observe_price(price("ETH", source, 4_000.0, START + 2)))
    revaluation = market.revalue()
    assert not revaluation.any_changed


def test_cause_tables_tell_price_from_haircut_from_regime() -> None:
    market = new_market()
    account = Account(market, [("vault-one", "ETH", 1_000, 0), ("venue-two", "BTC-perp", 10, 0)])

    def under(tables: Any) -> tuple[float, float]:
        other = Account(market, [])
        other.count, other.instrument, other.quantity, other.cash = account.count, account.instrument, account.quantity, account.cash
        real, market._set = market._set, market._set._replace(tables=tables)
        try:
            _, out = other.value()
        finally:
            market._set = real
        return float(out[UNHAIRCUT] - out[0]), float(out[MAINTENANCE])

    advance(market, 1)
    tell_prices(market, PRICES, market.clock_ns)
    before = under(market.tables)
    say(market.observe_depth(Depth(v=1, asset="ETH", depth_usd=5_000.0, spread_bps=10.0, time_ns=market.clock_ns)))
    market.revalue()
    _, first, second = market.cause_tables()
    assert under(first) == pytest.approx(before, rel=1e-15)
    assert under(second) == pytest.approx(before, rel=1e-15)  # depth is a haircut input: still the previous one
    advance(market, 1)
    assert under(market.tables)[0] > before[0]  # slowly
    tell_prices(market, PRICES, market.clock_ns)
    advance(market, 60)  # the correlation grid and maintenance volatility move
    tell_prices(market, {"ETH": 4_010.0, "BTC": 100_300.0}, market.clock_ns)
    advance(market, 60)
    _, first, second = market.cause_tables()
    groups = market.universe.group_count
    assert not np.array_equal(first.correlation[:, :, :groups, :groups], market.tables.correlation[:, :, :groups, :groups])
    assert np.array_equal(second.correlation[:, :, :groups, :groups], market.tables.correlation[:, :, :groups, :groups])
    assert first.group_float[0, 0, 0] != second.group_float[0, 0, 0] or first.group_float[1, 0, 0] != second.group_float[1, 0, 0]
    assert under(second)[1] == under(market.tables)[1]


# ---- the cut --------------------------------------------------------------------------------------------------------------------------


def assert_same(one: Market, other: Market) -> None:
    """Everything that a valuation reads, and everything derived, to the bit."""
    groups, instruments, chains = one.universe.group_count, one.universe.instrument_count, one.universe.chain_count
    assets = one.universe.asset_count
    a, b = one.tables, other.tables
    np.testing.assert_array_equal(a.instrument_int[:instruments], b.instrument_int[:instruments])
    np.testing.assert_array_equal(a.instrument_float[:instruments], b.instrument_float[:instruments])
    curved = a.instrument_int[:instruments, SCAN_ROW] >= 0
    np.testing.assert_array_equal(a.option_scan[:, :instruments][:, curved], b.option_scan[:, :instruments][:, curved])
    np.testing.assert_array_equal(a.group_float[:, :groups], b.group_float[:, :groups])
    np.testing.assert_array_equal(a.correlation[:, :, :groups, :groups], b.correlation[:, :, :groups, :groups])
    np.testing.assert_array_equal(a.atomic_chains[:chains], b.atomic_chains[:chains])
    np.testing.assert_array_equal(a.settings, b.settings)
    np.testing.assert_array_equal(a.settings_int, b.settings_int)
    np.testing.assert_array_equal(one.marks.mark[:assets], other.marks.mark[:assets])
    np.testing.assert_array_equal(one.marks.status[:assets], other.marks.status[:assets])
    for name, mine in one.inputs._asdict().items():
        np.testing.assert_array_equal(mine, getattr(other.inputs, name), err_msg=name)
    for name, mine in one.values._asdict().items():
        np.testing.assert_array_equal(mine, getattr(other.values, name), err_msg=name)
    for name, mine in one.slow._asdict().items():
        np.testing.assert_array_equal(mine, getattr(other.slow, name), err_msg=name)
    assert [one.chain_holds_credit(j) for j in range(chains)] == [other.chain_holds_credit(j) for j in range(chains)]


def dated(name: str, contract: Any, seconds: float) -> InstrumentDefinition:
    inverse = contract.startswith("inverse")
    return InstrumentDefinition(
        v=1,
        time_ns=0,
        venue="venue-two",
        name=name,
        contract=contract,
        underlying="BTC",
        quote="BTC" if inverse else "USD",
        lot_size=10.0 if inverse else 0.01,
        tick_size=0.01,
        expiry_ns=START + round(seconds * SECOND),
    )


def random_word(market: Market, rng: random.Random) -> None:
    """Something of what is told seldom: funding, recognition, slippage, quarantine; and its revaluation."""
    now = market.clock_ns
    kind = rng.choice(["rate", "basis", "interest", "recognised", "slip", "quarantine"])
    if kind == "recognised":
        market.observe_recognised(rng.randrange(market.universe.asset_count), rng.choice([1.0, rng.random()]))
    elif kind == "slip":
        market.observe_slip(rng.randrange(market.universe.chain_count), rng.choice([0.0, rng.random()]), now - rng.randint(0, 90) * SECOND)
    elif kind == "quarantine":
        say(market.set_quarantine(rng.choice(["one", "twin-a"]), on=rng.random() < 0.5))
    else:
        name, measure, value = {
            "rate": (rng.choice(["BTC-eight", "ETH-perp"]), "rate_per_hour", rng.gauss(0.0, 0.001)),
            "basis": (rng.choice(["BTC-eight", "soon", "late", "coin"]), "basis", rng.uniform(-0.1, 0.1)),
            "interest": ("USD-loan", rng.choice(["interest_index", "interest_rate"]), 1.0 + rng.random()),
        }[kind]
        market.observe_funding(Funding(v=1, venue="venue-two", instrument=name, measure=measure, value=value, time_ns=now))  # type: ignore[arg-type]
    market.revalue()


@pytest.mark.parametrize("seed", range(6))
def test_restored_it_is_the_same_and_goes_on_the_same(seed: int) -> None:
    """Cuts of changed pieces alone add up to the state; what is derived step by step is what is derived in full."""
    rng, prices = random.Random(seed), dict(PRICES)
    market = new_market({"funding_max_age_s": 600.0, "settlement_wait_s": 300.0, "classes": {"alt": {"suspend_depth_usd": 5e5}}})
    for name, contract, seconds in (("soon", "future", 200.0), ("late", "future", 1e6), ("coin", "inverse_future", 400.0)):
        say(market.define(dated(name, contract, seconds)))
    say(market.define(instrument("venue-two", "BTC-eight", "perpetual", "BTC", funding_interval_s=8 * 3_600)))
    market.revalue()
    rows = market.pieces(changed_only=True)
    restored = 0
    for step in range(250):
        random_frame(market, rng, prices)
        if rng.random() < 0.3:
            random_word(market, rng)
        if step == 100:
            say(market.set_parameters(RiskParameters(v=1, version="next", parameters={"vol_min": 0.4, "quorum": 1}, time_ns=0)))
            say(market.define(AssetDefinition(v=1, time_ns=0, name="NEW", asset_class="alt", sources={"north": 1.0})))
            say(market.define(instrument("vault-two", "NEW", "spot", "NEW")))
            say(market.define(ChainDefinition(v=1, time_ns=0, name="two", finality_s=9.0, messaging_delay_s=6.0, messaging_layer="other")))
            say(market.define(AssetDefinition(v=1, time_ns=0, name="DOGE", asset_class="alt", sources={"south": 2.0, "new": 1.0})))
            market.revalue()
        if rng.random() < 0.05:
            rows |= market.pieces(changed_only=True)
            assert rows == market.pieces()
            other = Market()
            shuffled = list(rows.items())
            rng.shuffle(shuffled)
            other.restore(dict(shuffled))
            assert other.pieces() == rows
            assert_same(market, other)
            account = random_account(market, rng)
            twin = random_account(other, rng)
            twin.count, twin.instrument, twin.quantity, twin.cash = account.count, account.instrument, account.quantity, account.cash
            np.testing.assert_array_equal(account.value()[1], twin.value()[1])
            market = other  # go on with the restored one
            assert market.pieces(changed_only=True) == {}
            restored += 1
    assert restored > 3
    assert not math.isnan(market.settled[number_of(market, "venue-two", "soon")])
    assert market.universe.layers == ["wormhole", "other"]


def test_pieces_are_bounded() -> None:
    market = new_market()
    assert max(len(value) for value in market.pieces().values()) < 8_192


def test_a_market_that_was_told_things_cannot_be_restored() -> None:
    market = new_market()
    with pytest.raises(AssertionError, match="new Market"):
        market.restore(market.pieces())


def test_a_perpetuals_rate_is_kept() -> None:
    market = new_market()
    say(
        market.observe_funding(Funding(v=1, venue="venue-one", instrument="BTC-perp", measure="rate_per_hour", value=-0.001, time_ns=START))
    )
    market.revalue()
    other = Market()
    other.restore(market.pieces())
    assert other.fundings.rate_per_hour[number_of(other, "venue-one", "BTC-perp")] == -0.001
