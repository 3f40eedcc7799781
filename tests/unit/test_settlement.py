"""What expires: at which mark it settles, what it is worth then, and for how long."""

import math

import pytest

from engine.inputs import InstrumentDefinition
from engine.market import Market
from engine.reasons import Unknown
from engine.tables import BAND, CASH_VALUE, DELTA_LONG, UNIT_LONG, UNIT_UNKNOWN
from tests.small_market import PRICES, SECOND, START, Account, new_market, number_of, price, say, tell_prices

EXPIRY = START + 120 * SECOND
SOURCES = ("north", "south", "west")


def dated(name: str, contract: str, **terms: object) -> InstrumentDefinition:
    inverse = contract.startswith("inverse")
    return InstrumentDefinition(
        v=1,
        time_ns=0,
        venue="venue-one",
        name=name,
        contract=contract,  # type: ignore[arg-type]
        underlying="BTC",
        quote="BTC" if inverse else "USD",
        lot_size=10.0 if contract == "inverse_future" else 0.01,
        tick_size=0.01,
        expiry_ns=EXPIRY,
        **terms,  # type: ignore[arg-type]
    )


def a_market() -> Market:
    market = new_market()
    for name, contract in (("F", "future"), ("IF", "inverse_future"), ("C", "option"), ("P", "inverse_option")):
        terms = {"strike": 100_000.0, "is_call": name == "C"} if "option" in contract else {}
        say(market.define(dated(name, contract, **terms)))
    market.revalue()
    return market


def tick(market: Market, seconds: int) -> None:
    market.tick(START + seconds * SECOND)
    market.revalue()


def units(market: Market) -> list[float]:
    return [float(market.tables.instrument_float[number_of(market, "venue-one", name), UNIT_LONG]) for name in ("F", "IF", "C", "P")]


def unknowns(market: Market) -> set[int]:
    return {int(market.tables.instrument_int[number_of(market, "venue-one", name), UNIT_UNKNOWN]) for name in ("F", "IF", "C", "P")}


def test_a_future_is_worth_its_price_until_it_expires() -> None:
    market = a_market()
    future, inverse = (number_of(market, "venue-one", name) for name in ("F", "IF"))
    assert units(market)[:2] == [pytest.approx(1_000.0), -10.0]
    assert market.tables.instrument_float[future, DELTA_LONG] == pytest.approx(1_000.0)
    assert market.tables.instrument_float[inverse, DELTA_LONG] == 0.0
    assert market.tables.instrument_int[future, BAND] == 1  # within a week
    assert math.isnan(market.settled[future])


def test_what_expires_settles_at_the_mark_of_then_and_stays_there() -> None:
    market = a_market()
    tick(market, 60)
    tell_prices(market, {"BTC": 110_000.0}, START + 60 * SECOND)
    tick(market, 119)
    assert math.isnan(market.settled[number_of(market, "venue-one", "F")])
    market.tick(EXPIRY)
    told = market.revalue()
    names = ("F", "IF", "C", "P")
    numbers = [number_of(market, "venue-one", name) for name in names]
    assert [market.settled[number] for number in numbers] == [110_000.0] * 4
    assert all(told.changed[number] for number in numbers)
    assert units(market) == [pytest.approx(1_100.0), pytest.approx(-10.0), pytest.approx(100.0), 0.0]
    assert {int(market.tables.instrument_int[number, BAND]) for number in numbers} == {-1}
    # The price goes on, what was settled doesn't; but what is owed in coin is worth what the coin is.
    tell_prices(market, {"BTC": 55_000.0}, EXPIRY)
    assert [market.settled[number] for number in numbers] == [110_000.0] * 4
    assert units(market) == [pytest.approx(1_100.0), pytest.approx(-5.0), pytest.approx(100.0), 0.0]
    assert market.tables.instrument_float[numbers[1], DELTA_LONG] == pytest.approx(-5.0)
    assert market.tables.instrument_float[numbers[0], DELTA_LONG] == 0.0
    assert math.isnan(market.inputs.option_sigma[numbers[2]])


def test_an_inverse_put_in_the_money_is_owed_in_coin() -> None:
    market = a_market()
    tick(market, 60)
    tell_prices(market, {"BTC": 80_000.0}, START + 60 * SECOND)
    tick(market, 120)
    assert units(market)[2:] == [0.0, pytest.approx(200.0)]
    tell_prices(market, {"BTC": 40_000.0}, EXPIRY)
    assert units(market)[2:] == [0.0, pytest.approx(100.0)]


def test_without_a_mark_at_expiry_the_first_one_after_it_counts() -> None:
    market = a_market()
    tick(market, 60)
    tick(market, 120)  # the last price is two minutes old by now
    assert unknowns(market) == {Unknown.STALE_MARK}
    assert math.isnan(market.settled[number_of(market, "venue-one", "F")])
    tick(market, 150)
    say(market.observe_price(price("BTC", "north", 91_000.0, market.clock_ns)))
    market.revalue()
    assert math.isnan(market.settled[number_of(market, "venue-one", "F")])  # one source is no quorum
    for source in SOURCES:
        say(market.observe_price(price("BTC", source, 90_000.0, market.clock_ns)))
    market.revalue()
    assert unknowns(market) == {0}
    assert units(market)[0] == pytest.approx(900.0)
    market.tick(market.clock_ns + SECOND)
    tell_prices(market, {"BTC": 95_000.0}, market.clock_ns)
    assert market.mark(1) == 95_000.0
    assert market.settled[number_of(market, "venue-one", "F")] == 90_000.0


def test_after_the_wait_it_is_expired_and_its_cash_is_not() -> None:
    market = a_market()
    held = Account(market, [("venue-one", "F", 1, 0)])
    emptied = Account(market, [("venue-one", "F", 0, 10**6)])
    for seconds in range(60, 3_720, 60):
        tick(market, seconds)
        tell_prices(market, PRICES, market.clock_ns)
        assert held.value()[0] == 0
    tick(market, 3_719)
    assert held.value()[0] == 0
    tick(market, 3_720)
    assert held.value()[0] == Unknown.EXPIRED
    assert emptied.value()[0] == 0
    assert market.tables.instrument_float[number_of(market, "venue-one", "F"), CASH_VALUE] == 1e-6


def test_one_that_had_expired_before_it_was_defined_settles_at_once() -> None:
    market = new_market()
    for seconds in (60, 120, 180):
        tick(market, seconds)
        tell_prices(market, PRICES, market.clock_ns)
    say(market.define(dated("LATE", "future")))
    market.revalue()
    assert market.settled[number_of(market, "venue-one", "LATE")] == 100_000.0


def test_a_settlement_price_survives() -> None:
    market = a_market()
    pieces = market.pieces(changed_only=True)
    for seconds in (60, 120):
        tick(market, seconds)
        tell_prices(market, {"BTC": 101_000.0}, market.clock_ns)
    changed = market.pieces(changed_only=True)
    assert sum(key.startswith(b"p:market:settled") for key in changed) == 4
    other = Market()
    other.restore(pieces | changed)
    assert units(other) == units(market)
    for one in (market, other):
        tick(one, 130)
        tell_prices(one, {"BTC": 99_000.0}, one.clock_ns)
    assert units(other) == units(market)
    assert not any(key.startswith(b"p:market:settled") for key in market.pieces(changed_only=True))
