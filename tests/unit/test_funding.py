"""What is observed of instruments and accrues by the clock: funding, basis, interest."""

from typing import Any

import pytest

from engine.inputs import Funding, InstrumentDefinition
from engine.market import Market
from engine.reasons import Cause, Refusal
from engine.tables import UNIT_LONG, UNIT_SHORT
from tests.small_market import PRICES, SECOND, START, instrument, new_market, number_of, say, tell_prices

HOUR = 3_600


def told(name: str, measure: Any, value: float, time_ns: int = START) -> Funding:
    return Funding(v=1, venue="venue-one", instrument=name, measure=measure, value=value, time_ns=time_ns)


def perpetual(name: str, contract: str, interval_s: int) -> InstrumentDefinition:
    return instrument("venue-one", name, contract, "BTC", funding_interval_s=interval_s)


def a_market() -> Market:
    market = new_market()
    say(market.define(perpetual("EIGHT", "perpetual", 8 * HOUR)))
    say(market.define(perpetual("COIN-EIGHT", "inverse_perpetual", 8 * HOUR)))
    say(
        market.define(
            InstrumentDefinition(
                v=1,
                time_ns=0,
                venue="venue-one",
                name="FUTURE",
                contract="future",
                underlying="BTC",
                lot_size=0.01,
                tick_size=0.01,
                expiry_ns=START + 30 * 86_400 * SECOND,
            )
        )
    )
    market.revalue()
    return market


def unit(market: Market, name: str) -> float:
    return float(market.tables.instrument_float[number_of(market, "venue-one", name), UNIT_LONG])


def owed(market: Market, name: str) -> float:
    return float(market.tables.instrument_float[number_of(market, "venue-one", name), UNIT_SHORT])


def to(market: Market, seconds: float) -> Any:
    """The clock at START + seconds, prices as they were and fresh."""
    while market.clock_ns < START + round(seconds * SECOND):
        market.tick(START + round(seconds * SECOND))
        for_tick = market.revalue()
    tell_prices(market, PRICES, market.clock_ns)
    return for_tick


@pytest.mark.parametrize(
    ("name", "measure", "value", "reason"),
    [
        ("BTC-7-100000-C", "rate_per_hour", 0.0, Refusal.WRONG_TYPE),
        ("BTC-7-100000-C", "basis", 0.0, Refusal.WRONG_TYPE),
        ("FUTURE", "rate_per_hour", 0.0, Refusal.WRONG_TYPE),
        ("FUTURE", "interest_rate", 0.1, Refusal.WRONG_TYPE),
        ("EIGHT", "interest_index", 1.1, Refusal.WRONG_TYPE),
        ("USD-loan", "basis", 0.1, Refusal.WRONG_TYPE),
        ("USD-loan", "interest_rate", -0.01, Refusal.OUT_OF_RANGE),
        ("USD-loan", "interest_index", 0.0, Refusal.NOT_POSITIVE),
        ("EIGHT", "basis", 0.51, Refusal.OUT_OF_RANGE),
        ("FUTURE", "basis", -0.51, Refusal.OUT_OF_RANGE),
    ],
)
def test_refusals(name: str, measure: str, value: float, reason: Refusal) -> None:
    market = a_market()
    before = market.pieces()
    fault = market.observe_funding(told(name, measure, value))
    assert fault is not None
    assert fault[0] == reason
    market.revalue()
    assert market.pieces() == before


@pytest.mark.parametrize(("name", "measure"), [("EIGHT", "rate_per_hour"), ("FUTURE", "basis"), ("USD-loan", "interest_rate")])
def test_the_newest_counts(name: str, measure: str) -> None:
    market = a_market()
    say(market.observe_funding(told(name, measure, 0.01)))
    say(market.observe_funding(told(name, measure, 0.02)))  # of the same time
    assert (market.observe_funding(told(name, measure, 0.02, START - 1)) or ("",))[0] == Refusal.OUT_OF_ORDER
    number = number_of(market, "venue-one", name)
    kept = {"rate_per_hour": market.fundings.rate_per_hour, "basis": market.fundings.basis, "interest_rate": market.fundings.interest_rate}
    assert kept[measure][number] == 0.01


def test_a_basis_moves_the_price_of_futures_and_perpetuals() -> None:
    market = a_market()
    for name in ("EIGHT", "COIN-EIGHT", "FUTURE"):
        say(market.observe_funding(told(name, "basis", 0.02)))
    revaluation = market.revalue()
    assert revaluation.cause == Cause.FUNDING
    assert unit(market, "EIGHT") == unit(market, "FUTURE") == pytest.approx(1_020.0)
    assert unit(market, "COIN-EIGHT") == pytest.approx(-10.0 / 1.02)
    to(market, 86_400)
    assert unit(market, "FUTURE") == pytest.approx(1_020.0)  # a day old
    to(market, 86_401)
    assert unit(market, "FUTURE") == pytest.approx(1_000.0)


def test_funding_accrues_by_whole_minutes_of_its_interval() -> None:
    market = a_market()
    start_s = START // SECOND % (8 * HOUR)  # into the interval at START
    rate = 0.0005
    for name in ("EIGHT", "COIN-EIGHT", "BTC-perp"):
        say(market.observe_funding(told(name, "rate_per_hour", rate)))
    market.revalue()

    def expected(seconds: int) -> float:
        return rate * ((start_s + seconds) % (8 * HOUR) // 60) / 60

    for seconds in (0, 59, 60, 150, 8 * HOUR - start_s - 1, 8 * HOUR - start_s, 8 * HOUR - start_s + 90):
        if seconds:
            to(market, seconds)
        assert unit(market, "EIGHT") == pytest.approx(1_000.0 * (1 - expected(seconds)), rel=1e-14)
        assert unit(market, "COIN-EIGHT") == pytest.approx(-10.0 * (1 + expected(seconds)), rel=1e-14)
        assert unit(market, "BTC-perp") == pytest.approx(1_000.0, rel=1e-15)  # paid by no interval
    assert expected(8 * HOUR - start_s) == 0.0
    assert expected(8 * HOUR - start_s - 1) == pytest.approx(rate * 479 / 60)


def test_a_tick_touches_only_what_accrued() -> None:
    market = a_market()
    say(market.observe_funding(told("EIGHT", "rate_per_hour", 0.0005)))
    say(market.observe_funding(told("USD-loan", "interest_rate", 0.1)))
    market.revalue()
    watched = [number_of(market, "venue-one", name) for name in ("EIGHT", "USD-loan", "BTC-perp")]
    assert START // SECOND % 60 == 20
    for seconds, due in ((39, []), (40, [0]), (59, []), (60, [1])):  # the loan's minutes count from its rate's time
        market.tick(START + seconds * SECOND)
        changed = market.revalue().changed
        assert [k for k, number in enumerate(watched) if changed[number]] == due


def test_an_old_rate_does_not_accrue() -> None:
    market = a_market()
    say(market.observe_funding(told("EIGHT", "rate_per_hour", 0.0005)))
    to(market, 86_400)
    assert unit(market, "EIGHT") < 1_000.0
    to(market, 86_401)
    assert unit(market, "EIGHT") == pytest.approx(1_000.0, rel=1e-15)


def test_interest_accrues_from_the_index_or_else_from_the_rate() -> None:
    market = a_market()
    say(market.observe_funding(told("USD-loan", "interest_rate", 0.1, START)))
    market.revalue()
    assert owed(market, "USD-loan") == pytest.approx(0.01)
    to(market, 119)
    assert owed(market, "USD-loan") == pytest.approx(0.01 * (1 + 0.1 * 60 / 31_536_000), rel=1e-15)
    say(market.observe_funding(told("USD-loan", "interest_index", 1.5, START + 100 * SECOND)))
    market.revalue()
    assert owed(market, "USD-loan") == pytest.approx(0.015, rel=1e-15)
    to(market, 100 + 7_200)
    assert owed(market, "USD-loan") == pytest.approx(0.015 * (1 + 0.1 * 7_200 / 31_536_000), rel=1e-15)
    say(market.observe_funding(told("USD-loan", "interest_rate", 0.2, market.clock_ns)))  # the index is as old as it was
    market.revalue()
    assert owed(market, "USD-loan") == pytest.approx(0.015 * (1 + 0.2 * 7_200 / 31_536_000), rel=1e-15)


def test_interest_from_the_future_has_not_begun() -> None:
    market = a_market()
    say(market.observe_funding(told("USD-loan", "interest_index", 2.0, START + 4 * SECOND)))
    say(market.observe_funding(told("USD-loan", "interest_rate", 1.0, START + 4 * SECOND)))
    market.revalue()
    assert owed(market, "USD-loan") == pytest.approx(0.02, rel=1e-15)


def test_what_was_observed_survives() -> None:
    market = a_market()
    say(market.observe_funding(told("EIGHT", "rate_per_hour", 0.0005)))
    say(market.observe_funding(told("FUTURE", "basis", -0.01)))
    say(market.observe_funding(told("USD-loan", "interest_rate", 0.1)))
    to(market, 1_000)
    other = Market()
    other.restore(market.pieces())
    for name in ("EIGHT", "FUTURE", "USD-loan"):
        assert owed(other, name) == owed(market, name)
    for one in (market, other):
        to(one, 2_000)
    for name in ("EIGHT", "FUTURE", "USD-loan"):
        assert owed(other, name) == owed(market, name)
