"""What is no price: up at once at the initial level, slowly at maintenance; the stable price; recognition and slippage of chains."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.breakers import CLOSED
from engine.inputs import AssetDefinition, ChainDefinition, Depth, LagObservation, RiskParameters
from engine.market import Market
from engine.slow_rise import halved, limit_stable, rise_slowly
from engine.tables import HAIRCUT_FLAT, LATENCY, RECOGNISED, SIZE, STABLE_LONG, STABLE_SHORT
from tests.small_market import PRICES, SECOND, START, new_market, number_of, say, tell_prices

HOUR = 3_600
BTC, ETH = 1, 2


def to(market: Market, seconds: float, prices: dict[str, float] | None = None) -> None:
    """The clock at START + seconds by minutes, prices fresh all the way."""
    end = START + round(seconds * SECOND)
    while market.clock_ns < end:
        market.tick(min(market.clock_ns + 60 * SECOND, end))
        market.revalue()
        tell_prices(market, {**PRICES, **(prices or {})}, market.clock_ns)


def row(market: Market, column: int, venue: str = "vault-one", name: str = "BTC") -> float:
    return float(market.tables.instrument_float[number_of(market, venue, name), column])


def levels(market: Market, column: int, venue: str = "vault-one", name: str = "BTC") -> tuple[float, float]:
    return row(market, column, venue, name), row(market, column + 1, venue, name)


# ---- one step -------------------------------------------------------------------------------------------------------------------------


def test_a_step() -> None:
    assert rise_slowly(math.nan, 0.3, 0.05, 1.0, 0.5) == 0.3  # begins at its target
    assert rise_slowly(0.1, 0.3, 0.05, 0.0, 1.0) == 0.1  # no time, no move
    assert rise_slowly(0.5, 0.1, 0.05, 0.0, 0.25) == 0.5
    assert rise_slowly(0.1, 0.3, 0.05, 1.0, 0.25) == pytest.approx(0.15)
    assert rise_slowly(0.1, 0.3, 0.05, 2.0, 0.25) == pytest.approx(0.2)
    assert rise_slowly(0.1, 0.3, 0.05, 5.0, 0.25) == 0.3
    assert rise_slowly(0.5, 0.1, 0.05, 2.0, 0.25) == pytest.approx(0.2)
    assert halved(3_600.0, 2.0) == 0.25
    assert limit_stable(math.nan, 100.0, 0.06, 0.0) == 100.0
    assert limit_stable(100.0, 200.0, 0.06, 0.0) == limit_stable(100.0, 1.0, 0.06, 0.0) == 100.0
    assert limit_stable(100.0, 200.0, 0.06, 1.0) == limit_stable(100.0, 200.0, 0.06, 9.0) == 106.0
    assert limit_stable(100.0, 1.0, 0.06, 0.5) == 97.0


terms = st.floats(0.0, 2.0)


@settings(max_examples=300, deadline=None)
@given(terms, st.lists(st.tuples(terms, st.floats(0.0, 3.0)), max_size=20), st.floats(0.0, 1.0), st.floats(60.0, 1e6))
def test_it_rises_by_so_much_an_hour_and_never_beyond(
    start: float, steps: list[tuple[float, float]], rise: float, half_life_s: float
) -> None:
    now = start
    for target, hours in steps:
        new = rise_slowly(now, target, rise, hours, halved(half_life_s, hours))
        assert new <= now + rise * hours + 1e-15
        if hours > 0.0:
            assert min(now, target) - 1e-15 <= new <= max(now, target) + 1e-15  # towards the target, not past it
        assert max(target, new) >= new
        now = new


@settings(max_examples=300, deadline=None)
@given(st.floats(0.01, 1e6), st.lists(st.tuples(st.floats(0.01, 1e6), st.floats(0.0, 2.0)), max_size=20), st.floats(0.001, 0.9))
def test_a_stable_price_stays_between_itself_and_the_mark(start: float, steps: list[tuple[float, float]], rate: float) -> None:
    now = limit_stable(math.nan, start, rate, 0.0)
    assert now == start
    for mark, hours in steps:
        new = limit_stable(now, mark, rate, hours)
        if hours == 0.0:
            assert new == now
        else:
            assert min(now, mark) <= new <= max(now, mark)
            assert abs(new / now - 1.0) <= rate * min(hours, 1.0) * (1 + 1e-12) + 1e-12
        now = new


# ---- the stable price -----------------------------------------------------------------------------------------------------------------


def test_the_stable_price_follows_by_so_much_an_hour() -> None:
    market = new_market()
    assert market.stable[BTC] == 100_000.0
    tell_prices(market, {"BTC": 101_000.0}, START + 1)
    assert market.stable[BTC] == 100_000.0  # no tick
    assert row(market, STABLE_LONG) == pytest.approx(100 / 101)
    assert row(market, STABLE_SHORT) == 1.0
    market.tick(START + 36 * SECOND)
    market.revalue()
    assert market.stable[BTC] == pytest.approx(100_000.0 * (1 + 0.06 / 100), rel=1e-14)
    assert row(market, STABLE_SHORT, "venue-one", "BTC-loan") == 1.0
    tell_prices(market, {"BTC": 100_050.0}, market.clock_ns)
    market.tick(START + 37 * SECOND)
    market.revalue()
    down = 100_060.0 * (1 - 0.06 / HOUR)
    assert market.stable[BTC] == pytest.approx(down, rel=1e-14)
    assert row(market, STABLE_SHORT, "venue-one", "BTC-loan") == pytest.approx(down / 100_050.0)
    assert row(market, STABLE_LONG) == 1.0
    to(market, 200, {"BTC": 100_050.0})
    assert market.stable[BTC] == 100_050.0


def test_a_stable_price_waits_for_its_mark() -> None:
    market = new_market()
    for seconds in (60, 120, 180):  # the mark is unknown from 61 on
        market.tick(START + seconds * SECOND)
        market.revalue()
    assert market.mark(BTC) is None
    tell_prices(market, {"BTC": 90_000.0}, market.clock_ns)
    market.tick(START + 190 * SECOND)
    market.revalue()
    assert market.stable[BTC] == pytest.approx(100_000.0 * (1 - 0.06 * 10 / HOUR), rel=1e-14)


# ---- haircut terms --------------------------------------------------------------------------------------------------------------------


def redefined(market: Market, **terms: Any) -> None:
    definition = ChainDefinition(v=1, time_ns=START, name="one", finality_s=60.0, messaging_delay_s=30.0)
    fields = {name: getattr(definition, name) for name in definition.__struct_fields__} | terms
    say(market.define(ChainDefinition(**fields)))
    market.revalue()


def test_flat_terms_start_at_their_target_and_rise_by_points_an_hour() -> None:
    market = new_market()
    assert levels(market, HAIRCUT_FLAT) == (0.05, 0.05)
    redefined(market, security_premium=0.2)
    assert levels(market, HAIRCUT_FLAT) == pytest.approx((0.05, 0.25))
    market.tick(START + 36 * SECOND)
    market.revalue()
    assert levels(market, HAIRCUT_FLAT) == pytest.approx((0.05 + 0.05 / 100, 0.25))
    redefined(market, security_premium=0.0)
    up = row(market, HAIRCUT_FLAT)
    assert levels(market, HAIRCUT_FLAT) == (up, up)  # what is still felt at maintenance is felt at the initial level
    market.tick(START + 72 * SECOND)
    market.revalue()
    assert row(market, HAIRCUT_FLAT) == pytest.approx(0.05 + (up - 0.05) * 2 ** (-36 / 3_600))


def test_what_is_not_eligible_any_more_fades_out() -> None:
    market = new_market()
    ineligible = AssetDefinition(
        v=1, time_ns=START, name="BTC", asset_class="major", eligible_chains=["two"], sources=dict.fromkeys(("north", "south", "west"), 1.0)
    )
    say(market.define(ineligible))
    market.revalue()
    assert levels(market, HAIRCUT_FLAT) == (0.05, 1.05)
    assert levels(market, HAIRCUT_FLAT, "vault-two") == pytest.approx((0.06, 0.06))
    assert levels(market, HAIRCUT_FLAT, "vault-one", "GOV")[0] == pytest.approx(0.3)
    assert levels(market, HAIRCUT_FLAT, "vault-twin-a", "GOV") == pytest.approx((1.3, 1.3))  # never was


def test_latency_rises_slowly_when_a_chain_gets_slow() -> None:
    market = new_market({"lag_trip_s": 86_400.0})

    def target(messaging_s: float, sigma: float = 0.8) -> float:
        return 3.0 * sigma * math.sqrt((60.0 + messaging_s + 900.0) / 31_536_000)

    assert levels(market, LATENCY) == pytest.approx((target(30.0), target(30.0)))
    say(market.observe_lag(LagObservation("one", 600 * SECOND, START)))
    market.revalue()
    assert levels(market, LATENCY) == pytest.approx((target(600.0), target(600.0)))  # the first that is heard: it begins there
    say(market.observe_lag(LagObservation("one", 36_000 * SECOND, START)))
    market.revalue()
    assert levels(market, LATENCY) == pytest.approx((target(600.0), target(36_000.0)))
    market.tick(START + 36 * SECOND)
    market.revalue()
    assert row(market, LATENCY) == pytest.approx(target(600.0) + 0.05 / 100)
    assert levels(market, LATENCY, "vault-two") == (row(market, LATENCY, "vault-two"),) * 2


def test_thin_depth_is_felt_slowly() -> None:
    market = new_market()

    def quote(usd: float) -> None:
        say(market.observe_depth(Depth(v=1, asset="BTC", depth_usd=usd, spread_bps=1.0, time_ns=market.clock_ns)))
        market.revalue()

    def tick(seconds: int) -> None:
        market.tick(START + seconds * SECOND)
        market.revalue()

    unit = 0.02 / math.sqrt(1_000_000.0)
    assert levels(market, SIZE) == pytest.approx((0.02 / math.sqrt(100_000.0),) * 2)
    quote(1_000_000.0)
    assert levels(market, SIZE) == pytest.approx((unit, unit))  # the first that is observed: it begins there
    tick(1)
    quote(10_000.0)
    assert levels(market, SIZE) == pytest.approx((unit, 10 * unit))
    tick(37)
    assert levels(market, SIZE) == pytest.approx((unit * 1.01, 10 * unit))
    quote(100_000_000.0)
    tick(73)
    down = unit / 10 + (unit * 1.01 - unit / 10) * 2 ** (-36 / 3_600)
    assert levels(market, SIZE) == pytest.approx((down, down))


def test_what_is_over_a_global_cap() -> None:
    market = new_market()
    market.observe_recognised(BTC, 0.6)
    market.revalue()
    assert levels(market, RECOGNISED) == pytest.approx((1.0, 0.6))
    market.tick(START + 36 * SECOND)
    market.revalue()
    assert levels(market, RECOGNISED) == pytest.approx((1 - 0.05 / 100, 0.6))
    assert levels(market, RECOGNISED, "vault-one", "ETH") == (1.0, 1.0)
    market.observe_recognised(BTC, 1.0)
    market.revalue()
    assert levels(market, RECOGNISED) == pytest.approx((1 - 0.05 / 100,) * 2)


# ---- chains ---------------------------------------------------------------------------------------------------------------------------


def test_a_paused_chain_fades_and_comes_back_at_once() -> None:
    market = new_market()
    say(market.set_quarantine("one", on=True))
    market.revalue()
    assert levels(market, RECOGNISED) == (1.0, 1.0)
    for minutes in (1, 2, 3):
        market.tick(START + minutes * 60 * SECOND)
        market.revalue()
    left = 2 ** (-180 / 21_600)
    assert levels(market, RECOGNISED) == pytest.approx((left, left))
    assert levels(market, RECOGNISED, "vault-two") == (1.0, 1.0)
    say(market.set_quarantine("one", on=False))
    market.revalue()
    assert levels(market, RECOGNISED) == (1.0, 1.0)


def test_measured_slippage_is_a_floor_of_latency_and_fades() -> None:
    market = new_market()
    before = levels(market, LATENCY)
    market.observe_slip(0, 0.2, START)
    assert levels(market, LATENCY) == before
    market.revalue()
    assert levels(market, LATENCY) == (0.2, 0.2)  # START is no whole minute: nothing of it is over yet
    assert levels(market, LATENCY, "vault-two") != (0.2, 0.2)
    to(market, 50)  # the minute that begins 40 s later has passed
    assert row(market, LATENCY) == pytest.approx(0.2 * 2 ** (-40 / 3_600))
    market.observe_slip(0, 0.1, START + 3_600 * SECOND)
    assert market.slips.slip[0] == pytest.approx(0.1)
    assert market.slips.time_ns[0] == START + 3_600 * SECOND
    market.observe_slip(0, 0.3, START)  # told late: nothing fades
    assert (market.slips.slip[0], market.slips.time_ns[0]) == (0.3, START + 3_600 * SECOND)
    market.observe_slip(0, 0.9, START + 3_600 * SECOND)
    assert market.slips.slip[0] == 0.5


# ---- stress ---------------------------------------------------------------------------------------------------------------------------


def test_stress_moves_with_the_minute_and_concerns_everybody() -> None:
    market = new_market()
    group = int(market.universe.asset_arrays.group[BTC])
    assert market.inputs.stress[:, group].tolist() == [0.0, 0.0]
    market.tick(START + 35 * SECOND)  # START is 20 s into a minute
    market.revalue()
    tell_prices(market, {"BTC": 90_000.0}, market.clock_ns)
    assert market.move_breakers.state[BTC] != CLOSED
    market.tick(START + 39 * SECOND)
    assert not market.revalue().everything
    assert market.inputs.stress[:, group].tolist() == [0.0, 0.0]
    market.tick(START + 40 * SECOND)
    told = market.revalue()
    assert told.everything
    rise = 2.0 * 40 / HOUR  # since the first tick of the minute before
    assert market.inputs.stress[:, group].tolist() == [pytest.approx(rise), 1.0]
    assert market.inputs.stress[:, int(market.universe.asset_arrays.group[ETH])].tolist() == [0.0, 0.0]
    high, low = market.tables.correlation[:, 1, group], market.tables.correlation[:, 2, group]
    other = int(market.universe.asset_arrays.group[ETH])
    assert high[1, other] == 1.0
    assert low[1, other] == 0.0
    assert 0.0 < low[0, other] < high[0, other] < 1.0


def test_a_market_that_moves_as_a_whole_stresses_every_group() -> None:
    market = new_market({"move_trip": 0.05})
    market.tick(START + 35 * SECOND)
    market.revalue()
    fallen = {name: usd * 0.9 for name, usd in PRICES.items() if name in ("BTC", "ETH", "DOGE")}
    tell_prices(market, fallen, market.clock_ns)
    assert market.system_breakers.state[0] == CLOSED  # looked at by ticks alone
    market.tick(START + 40 * SECOND)
    told = market.revalue()
    assert ("system_move", "system", "tripped", 0.6) in [(c.trigger, c.name, c.state, c.value) for c in told.breakers]
    groups = market.universe.group_count
    assert market.inputs.stress[1, :groups].tolist() == [1.0] * groups


# ---- all of it ------------------------------------------------------------------------------------------------------------------------


def test_the_initial_level_is_never_below_maintenance() -> None:
    market = new_market({"classes": {"major": {"suspend_depth_usd": 5_000.0}}})
    for step in range(1, 60):
        market.tick(market.clock_ns + 60 * SECOND)
        if step % 7 == 0:
            usd = 10.0 ** (step % 5 + 2)
            say(market.observe_depth(Depth(v=1, asset="BTC", depth_usd=usd, spread_bps=1.0, time_ns=market.clock_ns)))
        if step % 5 == 0:
            say(market.observe_lag(LagObservation("one", (step % 3) * 1_500 * SECOND, market.clock_ns)))
        if step % 11 == 0:
            market.observe_recognised(BTC, 1.0 / (1 + step % 4))
        if step == 30:
            say(market.set_parameters(RiskParameters(v=1, version="next", parameters={"haircut_rise_per_hour": 0.5}, time_ns=START)))
        market.revalue()
        tell_prices(market, {"BTC": 100_000.0 * (1 + 0.06 * (step % 2))}, market.clock_ns)
        for name in ("sigma", "thin", "flat", "latency", "over", "stress"):
            low, high = getattr(market.inputs, name)
            assert (high >= low)[low == low].all(), name
