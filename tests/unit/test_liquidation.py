"""The planner on one account: candidates, scores, lots, limits, the throttle; and on random books, never a worse excess."""

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.fills import move
from engine.inputs import FillKind
from engine.liquidation import Legs, limit_ticks, new_frozen_venues, new_legs, new_scratch, order_id, plan, price_in_quote
from engine.margin import EQUITY, MAINTENANCE, OUT, closing_cost_usd, evaluate
from engine.monitor import Book
from engine.parameters import Parameters
from engine.tables import ASSETS_MAX, CASH_VALUE, NOTIONAL, UNIT_LONG
from tests.small_world import Log

NAME = "alice"
END_FACTOR = 1.15


class Desk:
    """One account, positions set as a test likes, plans made at the market's tables."""

    def __init__(self, prices: dict[str, float] | None = None, parameters: dict[str, Any] | None = None) -> None:
        self.book = Book(0, 1)
        log = Log(self.book)
        log.open(parameters)
        log.implied(0.6)
        if prices:
            log.tick(1)
            log.prices(prices)
        self.a = self.book.accounts.number(NAME)
        self.legs = new_legs()
        self.budget_usd = np.full(ASSETS_MAX, 1e12)
        self.frozen = new_frozen_venues()

    def hold(self, venue: str, instrument: str, lots: int, cash: int = 0) -> None:
        number = self.book.market.universe.instrument_number(venue, instrument)
        assert number is not None
        terms = self.book.market.universe.instrument_arrays
        assert move(self.a, number, int(FillKind.TRANSFER), lots, 0, cash, self.book.accounts.columns, terms) == 0

    def plan(self, *, everything: bool = False, legs_max: int = 4) -> tuple[list[tuple[str, str, int]], bool]:
        market = self.book.market
        found, throttled = plan(
            self.a,
            self.book.accounts.columns,
            everything,
            self.frozen,
            self.budget_usd,
            legs_max,
            END_FACTOR,
            market.clock_ns,
            market.universe.instrument_arrays,
            market.tables,
            new_scratch(),
            self.legs,
        )
        named = [market.universe.instruments[int(i)] for i in self.legs.instrument[:found]]
        return [(one.venue, one.name, int(lots)) for one, lots in zip(named, self.legs.lots[:found], strict=True)], throttled

    def excess(self) -> float:
        c = self.book.accounts.columns
        out = np.zeros(OUT)
        a = self.a
        assert (
            evaluate(
                int(c.positions[a]),
                c.instrument[a],
                c.quantity[a],
                c.cash[a],
                False,
                self.book.market.tables.no_pending,
                self.book.market.tables,
                out,
            )
            == 0
        )
        return float(out[EQUITY] - END_FACTOR * out[MAINTENANCE])

    def close(self, lots: list[tuple[str, str, int]], legs: Legs) -> None:
        """Books the legs as a venue would that fills at the mark and takes the planned cost."""
        universe, market = self.book.market.universe, self.book.market
        for leg, (venue, name, signed) in enumerate(lots):
            number = universe.instrument_number(venue, name)
            assert number is not None
            row = market.tables.instrument_float[number]
            spot = universe.instruments[number].contract == "spot"
            unit = float(row[NOTIONAL] if spot else row[UNIT_LONG])
            cash = round((-signed * unit - float(legs.cost_usd[leg])) / float(row[CASH_VALUE]))
            self.hold(venue, name, signed, cash)


def test_a_healthy_account_needs_nothing() -> None:
    desk = Desk()
    desk.hold("ex", "USD", 0, 100_000_000_000)
    desk.hold("ex", "BTC-PERP", 100, -100 * 100_000_000)
    assert desk.excess() > 0
    assert desk.plan() == ([], False)


def test_the_fewest_lots_that_reach_the_end() -> None:
    desk = Desk()
    desk.hold("ex", "USD", 0, 10_000_000_000)
    desk.hold("ex", "BTC-PERP", 1_000, -1_000 * 100_000_000)
    before = desk.excess()
    ((venue, name, lots),), throttled = desk.plan()
    assert (venue, name, throttled) == ("ex", "BTC-PERP", False)
    assert -1_000 < lots < 0
    assert desk.legs.excess_before_usd[0] == before
    assert desk.legs.excess_after_usd[0] >= 0.0
    desk.close([(venue, name, lots)], desk.legs)
    assert desk.excess() == pytest.approx(desk.legs.excess_after_usd[0], abs=1e-5)
    number = desk.book.market.universe.instrument_number("ex", "BTC-PERP")
    assert number is not None
    one_less = Desk()
    one_less.hold("ex", "USD", 0, 10_000_000_000)
    one_less.hold("ex", "BTC-PERP", 1_000, -1_000 * 100_000_000)
    one_less.legs.cost_usd[0] = closing_cost_usd(number, lots + 1, one_less.book.market.tables)
    one_less.close([(venue, name, lots + 1)], one_less.legs)
    assert one_less.excess() < 0.0


def test_a_hedge_is_kept() -> None:
    desk = Desk()
    desk.hold("ex", "USD", 0, 5_000_000_000)
    desk.hold("ex", "BTC-PERP", 1_000, -1_000 * 100_000_000)
    desk.hold("sx", "BTC-PERP", -900, 900 * 100_000_000)  # closing this would raise the requirement
    desk.hold("ex", "SOL-PERP", 1_000, -1_000 * 20_000_000)
    assert desk.excess() < 0
    legs, _ = desk.plan()
    assert legs
    assert ("sx", "BTC-PERP") not in {(venue, name) for venue, name, _ in legs}


def test_a_part_of_one_leg_is_closed_where_all_of_it_would_sink_the_account() -> None:
    desk = Desk()
    desk.hold("ex", "USD", 0, 5_000_000_000)
    desk.hold("ex", "BTC-PERP", 1_000, -1_000 * 100_000_000)
    desk.hold("sx", "BTC-PERP", -600, 600 * 100_000_000)
    assert desk.excess() < 0
    ((venue, name, lots),), throttled = desk.plan()
    assert (venue, name, throttled) == ("ex", "BTC-PERP", False)
    assert -400 < lots < 0  # at 400 nothing is left unhedged
    assert desk.legs.excess_after_usd[0] >= 0.0
    desk.close([(venue, name, lots)], desk.legs)
    assert desk.excess() == pytest.approx(desk.legs.excess_after_usd[0], abs=1e-5)


def test_where_no_part_reaches_the_end_the_best_part_is_closed() -> None:
    desk = Desk()
    desk.hold("ex", "USD", 0, -2_000_000_000)
    desk.hold("ex", "BTC-PERP", 1_000, -1_000 * 100_000_000)
    desk.hold("sx", "BTC-PERP", -600, 600 * 100_000_000)
    (venue, name, lots), *others = desk.plan()[0]
    assert (venue, name) == ("ex", "BTC-PERP")
    assert lots == pytest.approx(-400, abs=1_000 // 128 + 1)  # where both legs are equal nothing but the debt is left
    assert float(desk.legs.excess_after_usd[0]) < 0.0
    assert not others  # of what is a hedge now


def test_frozen_venues_loans_and_what_is_not_tradable_are_no_candidates() -> None:
    desk = Desk()
    desk.hold("lend", "STB-DEBT", -100_000)
    desk.hold("ex", "USD", 3, 0)
    desk.hold("ex", "BTC-PERP", 1_000, -1_000 * 100_000_000)
    ex = desk.book.market.universe.venue_number("ex")
    desk.frozen[ex] = True
    assert desk.plan(everything=True) == ([], False)
    desk.frozen[ex] = False
    assert desk.plan(everything=True) == ([("ex", "BTC-PERP", -1_000)], False)


def test_the_throttle_takes_the_next_best_and_says_so() -> None:
    desk = Desk()
    desk.hold("ex", "USD", 0, 3_000_000_000)
    desk.hold("ex", "BTC-PERP", 100, -100 * 100_000_000)
    desk.hold("ex", "SOL-PERP", 2_000, -2_000 * 20_000_000)
    universe = desk.book.market.universe
    sol, btc = universe.asset_number("SOL"), universe.asset_number("BTC")
    assert [name for _, name, _ in desk.plan()[0]] == ["SOL-PERP"]
    desk.budget_usd[sol] = 50.0  # a lot and a half of 20 USD... and a half
    legs, throttled = desk.plan()
    assert throttled
    assert legs[0] == ("ex", "SOL-PERP", -2)
    assert legs[1][:2] == ("ex", "BTC-PERP")
    desk.budget_usd[sol] = desk.budget_usd[btc] = 0.0
    assert desk.plan() == ([], True)


def test_everything_goes_when_it_is_bankrupt_but_no_more_than_so_many_legs() -> None:
    desk = Desk()
    desk.hold("ex", "USD", 0, -5_000_000_000)
    for name, lots in (("BTC-PERP", 10), ("ETH-PERP", 50), ("SOL-PERP", 30)):
        desk.hold("ex", name, lots)
    assert len(desk.plan(everything=True, legs_max=2)[0]) == 2
    legs, _ = desk.plan(everything=True)
    assert {(name, lots) for _, name, lots in legs} == {("BTC-PERP", -10), ("ETH-PERP", -50), ("SOL-PERP", -30)}


def test_limits_slip_by_attempt_up_to_a_cap_and_are_at_least_one_tick() -> None:
    parameters = Parameters(slip_bps=50.0, slip_step_bps=100.0, slip_cap_bps=200.0)
    assert [limit_ticks(100.0, 0.01, -1, attempt, parameters) for attempt in (1, 2, 3, 9)] == [9_950, 9_850, 9_800, 9_800]
    assert limit_ticks(100.003, 0.01, 1, 1, parameters) == 10_051
    assert limit_ticks(0.001, 1.0, -1, 1, parameters) == 1
    assert limit_ticks(0.001, 1.0, 1, 1, parameters) == 1


def test_prices_are_in_the_instruments_quote() -> None:
    desk = Desk()
    market = desk.book.market
    number = market.universe.instrument_number
    prices = {
        name: price_in_quote(number(*name), market)  # type: ignore[arg-type]  # they are all defined
        for name in (("ex", "BTC-PERP"), ("sx", "BTC-INV"), ("vault", "STB"), ("sx", "BTC-100000-C"))
    }
    assert prices["ex", "BTC-PERP"] == prices["sx", "BTC-INV"] == 100_000.0
    assert prices["vault", "STB"] == 1.0
    assert 5_000.0 < prices["sx", "BTC-100000-C"] < 9_000.0  # 30 days at the money at 60 %: 0.4 * 0.6 * sqrt(30/365) of the forward


def test_order_ids_are_what_the_specification_says() -> None:
    said = hashlib.blake2b(b"alice|3|ex|BTC-PERP|2", digest_size=16).hexdigest()
    assert order_id("alice", 3, "ex", "BTC-PERP", 2) == said


POSITIONS = (
    ("ex", "BTC-PERP", 400),
    ("ex", "ETH-PERP", 900),
    ("sx", "BTC-PERP", 400),
    ("sx", "SOL-PERP", 3_000),
    ("sx", "BTC-INV", 500),
    ("sx", "BTC-100000-C", 20),
    ("ex", "BTC", 300),
    ("vault", "STB", 2_000_000),
)


@pytest.fixture(scope="module")
def desk() -> Desk:
    return Desk({"BTC": 96_500.0, "ETH": 3_777.0, "SOL": 211.0, "STB": 0.993})


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_plan_raises_the_excess_of_any_book(desk: Desk, data: st.DataObject) -> None:
    columns = desk.book.accounts.columns
    columns.positions[desk.a] = 0
    desk.hold("ex", "USD", 0, data.draw(st.integers(-50_000_000_000, 50_000_000_000), label="usd"))
    for venue, name, most in POSITIONS:
        lots = data.draw(st.integers(-most if name not in ("BTC", "STB") else 0, most), label=name)
        if lots and data.draw(st.booleans()):
            price = {"BTC-INV": 0, "STB": 10_000}.get(name, 100_000_000 if "BTC" in name else 40_000_000)
            desk.hold(venue, name, lots, -lots * price if "-PERP" in name else 0)
    desk.budget_usd[:] = data.draw(st.sampled_from([1e12, 30_000.0, 500.0]), label="budget")
    everything = data.draw(st.booleans(), label="everything")
    before = desk.excess()
    legs, _ = desk.plan(everything=everything)
    if not everything and before >= 0:
        assert legs == []
    at = before
    for leg in range(len(legs)):
        assert desk.legs.excess_before_usd[leg] == at
        at = float(desk.legs.excess_after_usd[leg])
        assert at > desk.legs.excess_before_usd[leg]
        assert desk.legs.notional_usd[leg] <= desk.budget_usd[0]
    assert len({(venue, name) for venue, name, _ in legs}) == len(legs)
    held = {int(columns.instrument[desk.a, k]): int(columns.quantity[desk.a, k]) for k in range(int(columns.positions[desk.a]))}
    for i, (_, _, lots) in zip(desk.legs.instrument, legs, strict=False):
        quantity = held[int(i)]
        assert quantity * lots < 0
        assert abs(lots) <= abs(quantity)
    if legs:
        desk.close(legs, desk.legs)
        assert desk.excess() == pytest.approx(at, rel=1e-9, abs=1e-4)
    elif before < 0 and not everything and float(desk.budget_usd[0]) > 1e9:
        assert not any(better_by_closing_a_share(desk, before, share) for share in (0.1, 0.25, 0.5, 0.75, 1.0))


def better_by_closing_a_share(desk: Desk, before: float, share: float) -> bool:
    """Whether closing this share of any one position that may be closed, at the mark and less its cost, raises the excess."""
    c, market = desk.book.accounts.columns, desk.book.market
    a, count = desk.a, int(c.positions[desk.a])
    for slot in range(count):
        i, quantity = int(c.instrument[a, slot]), int(c.quantity[a, slot])
        lots = int(abs(quantity) * share)
        if lots == 0 or not market.universe.instruments[i].tradable:
            continue
        row = market.tables.instrument_float[i]
        unit = float(row[NOTIONAL] if market.universe.instruments[i].contract == "spot" else row[UNIT_LONG])
        held, cash = c.quantity[a].copy(), c.cash[a].copy()
        signed = lots if quantity > 0 else -lots
        held[slot] -= signed
        cash[slot] += round((signed * unit - closing_cost_usd(i, lots, market.tables)) / float(row[CASH_VALUE]))
        out = np.zeros(OUT)
        assert evaluate(count, c.instrument[a], held, cash, False, market.tables.no_pending, market.tables, out) == 0
        if float(out[EQUITY] - END_FACTOR * out[MAINTENANCE]) > before + 1e-6:
            return True
    return False
