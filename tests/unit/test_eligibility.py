"""An asset is suspended as collateral when its depth or its mark's uptime is too poor, and comes back with hysteresis."""

import math
from typing import Any

import pytest

from engine.breakers import CLOSED, RECOVERING, TRIPPED
from engine.inputs import Depth
from engine.market import Market
from engine.tables import HAIRCUT_FLAT
from tests.small_market import PRICES, SECOND, new_market, number_of, say, tell_prices

BTC = 1


def a_market(**of_major: Any) -> Market:
    return new_market({"classes": {"major": of_major}})


def tick(market: Market, seconds: int, *, silent: tuple[str, ...] = ()) -> list[tuple[str, str, str]]:
    """A tick and then prices of all that is not silent; which breakers the tick moved."""
    market.tick(market.clock_ns + seconds * SECOND)
    told = [(c.trigger, c.name, c.state) for c in market.revalue().breakers]
    tell_prices(market, {name: usd for name, usd in PRICES.items() if name not in silent}, market.clock_ns)
    return told


def depth(market: Market, usd: float) -> None:
    say(market.observe_depth(Depth(v=1, asset="BTC", depth_usd=usd, spread_bps=1.0, time_ns=market.clock_ns)))
    market.revalue()


def flat(market: Market) -> tuple[float, float]:
    rates = market.tables.instrument_float[number_of(market, "vault-one", "BTC")]
    return float(rates[HAIRCUT_FLAT]), float(rates[HAIRCUT_FLAT + 1])


def test_thin_depth_suspends_at_the_next_tick() -> None:
    market = a_market(suspend_depth_usd=10_000.0)
    assert tick(market, 1) == []  # never observed: the floor says nothing about the asset
    depth(market, 10_000.0)
    assert tick(market, 1) == []  # as much as it takes
    depth(market, 9_999.0)
    assert flat(market) == (0.05, 0.05)
    market.tick(market.clock_ns + SECOND)
    change = market.revalue().breakers[0]
    assert (change.trigger, change.name, change.state, change.limit) == ("eligibility", "BTC", "tripped", 1.0)
    assert change.value == pytest.approx(10_000 / 9_999)
    assert flat(market) == pytest.approx((0.05 + 0.05 / 3_600, 1.05))


def test_a_suspension_ends_after_its_cool_down() -> None:
    market = a_market(suspend_depth_usd=10_000.0)
    depth(market, 1.0)
    assert tick(market, 1) == [("eligibility", "BTC", "tripped")]
    depth(market, 12_000.0)  # 10,000 / 12,000 is not below the reset of 0.8
    assert tick(market, 1) == []
    depth(market, 13_000.0)
    assert tick(market, 1) == [("eligibility", "BTC", "recovering")]
    assert flat(market)[1] == pytest.approx(1.05)
    states = []
    for _ in range(6):
        depth(market, 13_000.0)
        tick(market, 50)
        states.append(int(market.eligibility_breakers.state[BTC]))
    assert states == [RECOVERING] * 5 + [CLOSED]
    assert flat(market)[0] == flat(market)[1] > 0.05  # fades away


def test_silence_about_depth_neither_suspends_nor_ends_a_suspension() -> None:
    thin, deep = a_market(suspend_depth_usd=10_000.0), a_market(suspend_depth_usd=10_000_000.0)
    depth(thin, 9_000.0)
    depth(deep, 20_000_000.0)  # and the floor of the class is 100,000
    for market in (thin, deep):
        for _ in range(20):
            tick(market, 60)
    assert thin.eligibility_breakers.state[BTC] == TRIPPED
    assert deep.eligibility_breakers.state[BTC] == CLOSED


@pytest.mark.parametrize(
    ("observed", "stale"),
    [((10_000.0, 30.0), (10_000.0, 30.0)), ((1_000_000.0, 1.0), (100_000.0, 10.0)), ((1_000_000.0, 30.0), (100_000.0, 30.0))],
)
def test_silence_makes_no_market_deeper(observed: tuple[float, float], stale: tuple[float, float]) -> None:
    market = new_market()
    first_ns = market.clock_ns
    assert (market.depth_usd(BTC), market.spread_bps(BTC)) == (100_000.0, 10.0)  # the floors
    say(market.observe_depth(Depth(v=1, asset="BTC", depth_usd=observed[0], spread_bps=observed[1], time_ns=first_ns)))
    for seconds in (60, 120, 180, 240, 300):
        market.tick(first_ns + seconds * SECOND)
        market.revalue()
        assert (market.depth_usd(BTC), market.spread_bps(BTC)) == observed
    market.tick(first_ns + 301 * SECOND)
    market.revalue()
    assert (market.depth_usd(BTC), market.spread_bps(BTC)) == stale


def test_uptime_fades_while_the_mark_is_unknown() -> None:
    market = a_market()
    assert market.uptime[BTC] == 1.0
    for _ in range(3):
        tick(market, 60, silent=("BTC",))
    # At the first of these ticks the last price was 60 s old and counted.
    expected = 1.0
    for known in (1.0, 0.0, 0.0):
        kept = math.exp(-60 / 3_600)
        expected = expected * kept + (1 - kept) * known
    assert market.uptime[BTC] == pytest.approx(expected, rel=1e-12)
    assert market.uptime[0] == pytest.approx(1.0, rel=1e-12)
    before = float(market.uptime[BTC])
    tell_prices(market, PRICES, market.clock_ns)
    assert market.uptime[BTC] == before  # ticks alone
    assert market.eligibility_breakers.state[BTC] == CLOSED  # the class asks for no uptime


def test_poor_uptime_suspends() -> None:
    market = a_market(suspend_uptime=0.95)
    seen = []
    for _ in range(6):
        seen += tick(market, 60, silent=("BTC",))
    uptime = math.exp(-4 * 60 / 3_600)  # known at the first tick; 4 of silence make it too poor
    assert 1 - uptime > 0.05 > 1 - math.exp(-3 * 60 / 3_600)
    assert seen == [("eligibility", "BTC", "tripped")]
    assert market.eligibility_breakers.value[BTC] == pytest.approx((1 - uptime) / 0.05)
    assert market.eligibility_breakers.state[BTC] == TRIPPED
    tell_prices(market, PRICES, market.clock_ns)
    assert flat(market)[1] == pytest.approx(1.05)


def test_it_survives() -> None:
    market = a_market(suspend_depth_usd=10_000.0, suspend_uptime=0.5)
    depth(market, 9_000.0)
    for _ in range(4):
        tick(market, 60, silent=("BTC",))
    other = Market()
    other.restore(market.pieces())
    assert other.uptime[BTC] == market.uptime[BTC] < 1.0
    assert flat(other) == flat(market)
    for one in (market, other):
        depth(one, 20_000.0)
        for _ in range(8):
            tick(one, 60)
    assert other.pieces() == market.pieces()
    assert market.eligibility_breakers.state[BTC] == CLOSED
