"""A book's own breakers: what moves them, what they do, and that they are the same after a restore."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine.book_breakers import BookBreakers
from engine.breakers import RECOVERING, TRIPPED
from engine.effects import Breaker, Effects, Order
from engine.inputs import RiskParameters
from engine.limits import Limits
from engine.market import Market
from engine.market_breakers import BreakerChange
from engine.monitor import Book
from tests.small_market import SECOND, new_market, say
from tests.small_world import PLAIN, Log

TERMS: dict[str, Any] = {"breakers_enabled": True, "cooldown_s": 5.0, "move_trip": 0.9, "move_reset": 0.5, "silence_trip": 2}


def a_book(parameters: dict[str, Any] | None = None, partitions: int = 1, **opening: Any) -> tuple[Book, Log]:
    book = Book(0, partitions)
    log = Log(book)
    log.open({**TERMS, **(parameters or {})}, **opening)
    return book, log


def told(book: Book) -> dict[str, Breaker]:
    return {f"{one.trigger}/{one.name}": one for one in book.take_cut().breakers}


def orders(effects: Effects) -> list[Order]:
    return [effect for effect in effects.now if isinstance(effect, Order)]


def sink(log: Log, account: str = "alice", venue: str = "ex") -> Effects:
    """A long position on five times its money, and a price that takes most of it."""
    log.deposit(account, 20_000.0)
    log.trade(account, venue, "BTC-PERP", 1_000, 100_000)
    log.tick(1)
    return log.prices({"BTC": 85_000.0})


# ---- liquidation volume -----------------------------------------------------------------------------------------------------------------


def test_a_budget_that_is_all_but_spent_trips_and_a_grant_recovers() -> None:
    book, log = a_book({"volume_trip": 0.9, "volume_reset": 0.5, "order_ttl_s": 3_600.0}, budget_usd=50_000.0)
    assert orders(sink(log))
    btc = book.market.universe.asset_number("BTC")
    assert btc is not None
    assert book.limits.budget_usd[btc] < 100.0
    log.tick(1)
    tripped = told(book)["liquidation_volume/BTC"]
    assert (tripped.state, tripped.partition, tripped.limit) == ("tripped", 0, 0.9)
    assert tripped.value == 1.0 - float(book.limits.budget_usd[btc]) / 50_000.0
    log.tick(1)
    assert told(book) == {}
    log.grant({"BTC": 50_000.0})
    log.tick(1)
    assert told(book)["liquidation_volume/BTC"].state == "recovering"
    log.tick(4)
    assert told(book) == {}
    log.tick(1)
    closed = told(book)["liquidation_volume/BTC"]
    assert (closed.state, closed.value) == ("closed", 0.0)


# ---- silence of a venue -----------------------------------------------------------------------------------------------------------------


def test_a_venue_that_does_not_answer_is_let_alone_for_a_while() -> None:
    book, log = a_book({"order_ttl_s": 2.0, "cooldown_s": 10.0})
    assert orders(sink(log))
    assert orders(log.tick(2))  # the first one ended unheard, and the next goes out
    effects = log.tick(2)  # as did the second: that is two
    assert orders(effects) == []
    assert [one.outcome for one in effects.now if hasattr(one, "outcome")][-1] == "frozen"
    assert (told(book)["venue_silence/ex"].state, book.breakers.unheard.sum()) == ("tripped", 0)
    log.tick(1)
    assert told(book)["venue_silence/ex"].state == "recovering"
    assert orders(log.tick(9)) == []
    log.tick(1)
    assert told(book)["venue_silence/ex"].state == "closed"
    assert orders(log.tick(4))  # and at its next try it is asked again


def test_a_report_or_a_fill_from_there_ends_the_silence() -> None:
    book, log = a_book({"order_ttl_s": 2.0})
    (order,) = orders(sink(log))
    (order,) = orders(log.tick(2))
    ex = book.market.universe.venue_number("ex")
    assert ex is not None
    assert book.breakers.unheard[ex] == 1
    log.report("alice", order.order_id, "accepted")
    assert book.breakers.unheard[ex] == 0
    assert orders(log.tick(2))  # that one was heard of
    assert orders(log.tick(2))
    assert book.breakers.unheard[ex] == 1
    log.trade("bob", "sx", "BTC-PERP", 1, 92_000)  # another venue's
    assert book.breakers.unheard[ex] == 1
    log.trade("bob", "ex", "BTC-PERP", 1, 92_000)
    assert book.breakers.unheard[ex] == 0


# ---- bad debt ---------------------------------------------------------------------------------------------------------------------------


def test_bad_debt_refuses_new_risk_in_its_book() -> None:
    book, log = a_book({"bad_debt_limit_usd": 20_000.0, "order_ttl_s": 3_600.0}, partitions=2)
    sink(log)
    log.deposit("bob", 1_000_000.0)
    assert {one.account: one.refuses for one in book.take_cut().health}["bob"] == []
    log.tick(1)
    log.prices({"BTC": 60_000.0})
    unhaircut = float(book.accounts.columns.health[book.accounts.numbers["alice"], 2])
    assert unhaircut < -10_000.0
    log.tick(1)
    assert "bad_debt/book" not in told(book)  # looked at in the first tick of a minute
    log.tick(60)
    log.prices({"BTC": 60_000.0})
    log.tick(60)
    cut = book.take_cut()
    (breaker,) = [one for one in cut.breakers if one.trigger == "bad_debt"]
    assert (breaker.name, breaker.state, breaker.limit) == ("book", "tripped", 1.0)
    assert abs(breaker.value - -unhaircut / 10_000.0) < 1e-6
    refuses = {one.account: one.refuses for one in cut.health}
    assert refuses["bob"] == ["bad_debt"]
    assert refuses["alice"] == ["initial_margin", "bad_debt"]
    assert [health.account for health in book.take_cut().health] == []  # told once
    log.prices({"BTC": 100_000.0})
    log.tick(60)
    assert told(book)["bad_debt/book"].state == "recovering"


# ---- all of them ------------------------------------------------------------------------------------------------------------------------


def test_switched_off_they_all_close_and_stay_so() -> None:
    book, log = a_book({"order_ttl_s": 2.0, "bad_debt_limit_usd": 1.0, "cooldown_s": 600.0}, budget_usd=50_000.0)
    sink(log)
    log.tick(1)
    log.prices({"BTC": 60_000.0})
    for _ in range(3):
        log.tick(60)
        log.prices({"BTC": 60_000.0})
    assert {trigger for trigger, _, state in book.breakers.opened(book.market) if state != "closed"} >= {"bad_debt"}
    log.parameters({**TERMS, "breakers_enabled": False})
    log.tick(1)
    assert {state for _, _, state in book.breakers.opened(book.market)} == {"closed"}
    log.tick(60)
    assert {state for _, _, state in book.breakers.opened(book.market)} == {"closed"}


def test_a_restored_book_goes_on_the_same() -> None:
    book, log = a_book({"order_ttl_s": 2.0, "bad_debt_limit_usd": 1_000.0}, budget_usd=150_000.0)
    rows: dict[bytes, bytes] = {}
    sink(log)
    steps: list[Callable[[], Effects]] = [
        lambda: log.tick(2),
        lambda: log.tick(2),
        lambda: log.prices({"BTC": 60_000.0}),
        lambda: log.tick(60),
        lambda: log.tick(5),
    ]
    for step in steps * 2:
        cut = book.take_cut()
        rows.update({key: value for key, value in cut.rows if value is not None})
        successor = Book(0, 1)
        successor.restore(rows.items())
        log.machines.append(successor)
        step()
    last = book.take_cut().rows[-1]
    for machine in log.machines[1:]:
        assert machine.take_cut().rows[-1] == last
    assert book.breakers.opened(book.market)


def test_the_sum_of_debts_does_not_depend_on_the_order_of_accounts() -> None:
    book, _ = a_book()
    amounts = np.random.default_rng(5).normal(0.0, 1e6, 1_000)
    amounts[::7] = np.nan
    values = set()
    for order in (amounts, amounts[::-1], np.sort(amounts)):
        breakers = BookBreakers(1)
        breakers.advance(book.market, book.limits, order.copy)
        values.add(float(breakers.debt.value[0]))
    assert len(values) == 1
    assert values.pop() > 1.0


def test_bad_debt_waits_for_its_minute_when_breakers_come_on_again() -> None:
    """Breakers that were off don't look back: the first tick of the next minute is the next one."""
    breakers, limits, market = BookBreakers(1), Limits(), new_market({"breakers_enabled": False})
    owed = np.array([-5e6])
    market.tick(market.clock_ns - market.clock_ns % (60 * SECOND) + 60 * SECOND)
    market.revalue()
    assert breakers.advance(market, limits, lambda: owed) == []
    say(market.set_parameters(RiskParameters(v=1, version="on", parameters={**PLAIN}, time_ns=0)))
    market.tick(market.clock_ns + SECOND)
    market.revalue()
    assert breakers.advance(market, limits, lambda: owed) == []
    market.tick(market.clock_ns + 60 * SECOND)
    market.revalue()
    (change,) = breakers.advance(market, limits, lambda: owed)
    assert (change.trigger, change.state) == ("bad_debt", "tripped")


# ---- one step at a time -----------------------------------------------------------------------------------------------------------------

MINUTE = 29_333_333  # of the clock; a whole one begins at MINUTE * 60 s
BEGINS = MINUTE * 60 * SECOND


@pytest.fixture
def market() -> Market:
    terms = {"volume_trip": 0.9, "volume_reset": 0.5, "silence_trip": 3, "bad_debt_limit_usd": 1_000.0, "cooldown_s": 5.0}
    return a_book(terms)[0].market


def step(
    breakers: BookBreakers, market: Market, at_ns: int, unhaircut_usd: tuple[float, ...] = (), limits: Limits | None = None
) -> list[BreakerChange]:
    market.clock_ns = at_ns
    return breakers.advance(market, limits or Limits(), lambda: np.array(unhaircut_usd))


def test_debts_are_looked_at_once_a_minute(market: Market) -> None:
    breakers = BookBreakers(10)  # 100 USD each
    assert breakers.debt.state.tolist() == [0]
    assert step(breakers, market, BEGINS, (-60.0, 0.5, -40.0)) == []  # as much as may be
    assert breakers.debt_minute == MINUTE
    assert step(breakers, market, BEGINS + 60 * SECOND - 1, (-1e6,)) == []
    (tripped,) = step(breakers, market, BEGINS + 60 * SECOND, (-60.0, 0.5, -41.0))
    assert tripped == ("bad_debt", "book", "tripped", BEGINS + 60 * SECOND, 1.01, 1.0)
    assert step(breakers, market, BEGINS + 120 * SECOND, (-80.0,)) == []  # the reset itself
    (recovering,) = step(breakers, market, BEGINS + 180 * SECOND, (-79.0,))
    assert (recovering.state, recovering.value) == ("recovering", 0.79)
    early = BookBreakers(10)
    assert len(step(early, market, 5 * SECOND, (-101.0,))) == 1  # the first minute of all is one too


def test_debts_are_whole_micro_dollars_and_bounded(market: Market) -> None:
    breakers = BookBreakers(10**9)  # a micro-dollar each
    step(breakers, market, BEGINS, (-2.5e-6, 0.3))
    assert breakers.debt.value[0] == pytest.approx(2.0, rel=1e-9)
    breakers = BookBreakers(1_000)
    step(breakers, market, BEGINS, (-1e300, 0.3))
    assert breakers.debt.value[0] == 1e12


def test_a_budget_step_by_step(market: Market) -> None:
    breakers, limits = BookBreakers(1), Limits()
    asset = market.universe.asset_number("BTC")
    assert asset is not None
    limits.cap_usd[asset] = limits.budget_usd[asset] = 0.5
    assert step(breakers, market, BEGINS, (), limits) == []
    limits.budget_usd[asset] = 0.04
    (tripped,) = step(breakers, market, BEGINS + 1, (), limits)
    assert tripped == ("liquidation_volume", "BTC", "tripped", BEGINS + 1, 0.92, 0.9)
    limits.cap_usd[asset] = 0.0
    (recovering,) = step(breakers, market, BEGINS + 2, (), limits)
    assert (recovering.state, recovering.value) == ("recovering", 0.0)
    assert step(breakers, market, BEGINS + 1 + 5 * SECOND, (), limits) == []
    assert [one.state for one in step(breakers, market, BEGINS + 2 + 5 * SECOND, (), limits)] == ["closed"]


def test_silence_step_by_step(market: Market) -> None:
    breakers = BookBreakers(1)
    venue = market.universe.venue_number("ex")
    assert venue is not None
    for _ in range(2):
        breakers.count_silence(venue)
        assert step(breakers, market, BEGINS) == []
    breakers.count_silence(venue)
    assert step(breakers, market, BEGINS) == [("venue_silence", "ex", "tripped", BEGINS, 3.0, 3.0)]
    assert breakers.unheard[venue] == 0
    frozen = np.zeros(len(breakers.unheard), np.bool_)
    breakers.mark_silent(frozen)
    assert np.flatnonzero(frozen).tolist() == [venue]
    breakers.count_silence(venue)
    breakers.count_silence(venue)
    (recovering,) = step(breakers, market, BEGINS)  # two are less than three
    assert (recovering.state, recovering.value, breakers.unheard[venue]) == ("recovering", 2.0, 2)


def test_nothing_moves_before_the_market_is_live() -> None:
    breakers, market, limits = BookBreakers(1), Market(), Limits()
    breakers.debt.state[0], breakers.debt.since_ns[0] = TRIPPED, 1
    assert breakers.advance(market, limits, lambda: np.zeros(0)) == []
    assert (breakers.debt.state[0], breakers.debt_minute) == (TRIPPED, -1)


def test_what_is_in_the_cut(market: Market) -> None:
    breakers = BookBreakers(1)
    for every in (breakers.volume, breakers.silence, breakers.debt):
        every.state[0], every.since_ns[0], every.calm_ns[0], every.value[0] = RECOVERING, 3, 4, 0.25
    breakers.unheard[1], breakers.debt_minute = 2, 7
    other = BookBreakers(1)
    other.restore({})
    other.restore(breakers.pieces(1, 2))
    for one, same in zip((breakers.volume, breakers.silence, breakers.debt), (other.volume, other.silence, other.debt), strict=True):
        assert [column.tolist() for column in one] == [column.tolist() for column in same]
    assert (other.unheard[:3].tolist(), other.debt_minute) == ([0, 2, 0], 7)
    names = (market.universe.assets[0].name, market.universe.venues[0].name, "book")
    triggers = ("liquidation_volume", "venue_silence", "bad_debt")
    assert other.opened(market) == [(trigger, name, "recovering") for trigger, name in zip(triggers, names, strict=True)]
