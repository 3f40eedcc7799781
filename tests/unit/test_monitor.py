"""What the book does with events: states, causes, orders and their life, holes, snapshots, brakes, cuts."""

from typing import Any

import pytest

from engine.effects import Decision, Effects, MarginCall, Order, Refused
from engine.fills import MOVED, PRICE_ZERO, cash_change, state_of, value_accounts
from engine.inputs import FillKind, Frame, FrameKind
from engine.liquidation import is_closed_to_us
from engine.machine import CUT_KEY, DigestMismatch
from engine.margin import EQUITY, EQUITY_INITIAL, INITIAL, LIMIT, MAINTENANCE
from engine.monitor import Book
from engine.reasons import Cause, State, Unknown
from engine.reporting import refusal_bits, refusals_in_words
from engine.rows import EngineVersionMismatch
from engine.tables import FUTURE, INVERSE_FUTURE, INVERSE_OPTION, INVERSE_PERPETUAL
from tests.small_world import SECOND, Log, fill_columns


def a_book(parameters: dict[str, Any] | None = None, **opening: Any) -> tuple[Book, Log]:
    book = Book(0, 1)
    log = Log(book)
    log.open(parameters, **opening)
    return book, log


def state(book: Book, account: str) -> tuple[State, Unknown]:
    a = book.accounts.numbers[account]
    columns = book.accounts.columns
    return State(int(columns.state[a])), Unknown(int(columns.reason[a]))


def positions(book: Book, account: str) -> dict[tuple[str, str], tuple[int, int]]:
    a = book.accounts.numbers[account]
    columns = book.accounts.columns
    instruments = book.market.universe.instruments
    return {
        (instruments[int(columns.instrument[a, slot])].venue, instruments[int(columns.instrument[a, slot])].name): (
            int(columns.quantity[a, slot]),
            int(columns.cash[a, slot]),
        )
        for slot in range(int(columns.positions[a]))
    }


def orders(effects: Effects) -> list[Order]:
    return [effect for effect in effects.now if isinstance(effect, Order)]


def outcomes(effects: Effects) -> list[str]:
    return [effect.outcome for effect in effects.now if isinstance(effect, Decision)]


def calls(effects: Effects) -> list[MarginCall]:
    return [effect for effect in effects.now if isinstance(effect, MarginCall)]


def refusals(effects: Effects) -> list[tuple[str, str, int]]:
    return [(effect.topic, effect.reason, effect.offset) for effect in effects.now if isinstance(effect, Refused)]


def long_btc(log: Log, account: str = "alice", usd: float = 20_000.0, lots: int = 1_000) -> None:
    log.deposit(account, usd)
    log.trade(account, "ex", "BTC-PERP", lots, 100_000)


# ---- positions ------------------------------------------------------------------------------------------------------------------------


def test_fills_add_up_to_positions() -> None:
    book, log = a_book()
    log.deposit("alice", 1_000_000.0)
    log.trade("alice", "ex", "BTC-PERP", 500, 100_000, cash=-25_000_000)
    log.trade("alice", "ex", "BTC-PERP", -200, 110_000)
    log.trade("alice", "sx", "BTC-INV", 7, 200_001)
    log.trade("alice", "ex", "ETH-PERP", 3, 40_000, kind="transfer")
    per_lot = 1_000  # 0.001 BTC times 1 USD, in 1e-6 USD
    assert positions(book, "alice") == {
        ("ex", "USD"): (0, 1_000_000_000_000),
        ("ex", "BTC-PERP"): (300, -500 * 100_000 * per_lot - 25_000_000 + 200 * 110_000 * per_lot),
        ("sx", "BTC-INV"): (7, round(7 * 100.0 / (200_001 * 0.5) / 1e-9)),
        ("ex", "ETH-PERP"): (3, 0),
    }


def test_an_empty_position_goes_away_and_the_others_keep_their_order() -> None:
    book, log = a_book()
    log.deposit("alice", 1_000.0)
    log.trade("alice", "ex", "ETH-PERP", 3, kind="transfer")
    log.trade("alice", "ex", "BTC-PERP", 1, 100_000)
    log.trade("alice", "ex", "ETH-PERP", -3, kind="transfer")
    assert list(positions(book, "alice")) == [("ex", "USD"), ("ex", "BTC-PERP")]
    number = book.market.universe.instrument_number("ex", "ETH-PERP")
    assert number is not None
    assert not book.accounts.columns.holders[number].any()


@pytest.mark.parametrize(
    ("instrument", "lots", "price_ticks", "more", "reason"),
    [
        ("NOTHING", 1, 100, {}, "unknown_instrument"),
        ("BTC-PERP", 2**62, 2**53, {}, "overflow"),
        ("BTC-PERP", 2**40, 2**31, {}, "overflow"),
        ("BTC-PERP", 1, 100_000, {"cash": 2**62}, "overflow"),
        ("BTC-PERP", 1, 0, {"kind": "funding"}, "out_of_range"),
        ("BTC-PERP", 1, 100_000, {"time_ns": 2**62}, "future_time"),
    ],
)
def test_a_refused_fill_changes_no_position_and_leaves_its_number_missing(
    instrument: str, lots: int, price_ticks: int, more: dict[str, Any], reason: str
) -> None:
    book, log = a_book()
    log.deposit("alice", 1_000.0)
    log.trade("alice", "ex", "BTC-PERP", 1, 100_000, cash=2**61)
    before = positions(book, "alice")
    effects = log.trade("alice", "ex", instrument, lots, price_ticks, **more)
    assert refusals(effects) == [("venue.fills", reason, 2)]
    refused = next(effect for effect in effects.now if isinstance(effect, Refused))
    assert (refused.partition, refused.event["account"], refused.event["lots"]) == (0, "alice", lots)
    assert positions(book, "alice") == before
    assert state(book, "alice") == (State.UNKNOWN, Unknown.MISSED_FILL)
    log.trade("alice", "ex", "BTC-PERP", 1, 100_000, sequence=3)  # redriven, put right
    assert state(book, "alice") == (State.HEALTHY, Unknown.NONE)


def test_a_seventeenth_position_is_refused() -> None:
    book, log = a_book()
    names = [(one.venue, one.name) for one in book.market.universe.instruments if one.venue != "vault"]
    assert len(names) == 16
    for venue, name in names[:15]:
        log.trade("alice", venue, name, 1, kind="transfer")
    assert refusals(log.credit("alice", "south", "STB", 5)) == []
    assert refusals(log.credit("alice", "south", "BTC", 5)) == [("attestor", "too_many", 1)]
    assert refusals(log.trade("alice", *names[15], 1, kind="transfer")) == [("venue.fills", "too_many", 15)]
    assert len(positions(book, "alice")) == 16


def test_an_account_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _book, log = a_book()
    log.deposit("alice", 1_000.0)
    monkeypatch.setattr("engine.book.ACCOUNTS_MAX", 1)
    assert refusals(log.deposit("bob", 1_000.0)) == [("venue.fills", "too_many", 1)]
    assert refusals(log.snapshot("bob", "ex", 1, {})) == [("account.snapshots", "too_many", 0)]
    assert refusals(log.credit("bob", "south", "STB", 1)) == [("attestor", "too_many", 0)]
    assert refusals(log.deposit("alice", 1_000.0)) == []


# ---- sequences ------------------------------------------------------------------------------------------------------------------------


def test_a_hole_makes_unknown_until_it_is_filled() -> None:
    book, log = a_book()
    log.deposit("alice", 50_000.0)
    log.trade("alice", "ex", "BTC-PERP", 10, 100_000, sequence=4)
    assert state(book, "alice") == (State.UNKNOWN, Unknown.MISSED_FILL)
    log.trade("alice", "ex", "BTC-PERP", 1, 100_000, sequence=3)
    assert state(book, "alice") == (State.UNKNOWN, Unknown.MISSED_FILL)
    effects = log.trade("alice", "ex", "BTC-PERP", 1, 100_000, sequence=3)
    assert refusals(effects) == [("venue.fills", "duplicate", 3)]
    log.trade("alice", "ex", "BTC-PERP", 2, 100_000, sequence=2)
    assert state(book, "alice") == (State.HEALTHY, Unknown.NONE)
    assert positions(book, "alice")["ex", "BTC-PERP"][0] == 13


def test_too_many_holes_last_until_a_snapshot() -> None:
    book, log = a_book()
    log.deposit("alice", 50_000.0)
    effects = log.trade("alice", "ex", "BTC-PERP", 10, 100_000, sequence=67)
    assert refusals(effects) == [("venue.fills", "too_many", 1)]
    assert refusals(log.trade("alice", "ex", "BTC-PERP", 10, 100_000, sequence=5)) == [("venue.fills", "duplicate", 2)]
    assert refusals(log.trade("alice", "ex", "BTC-PERP", 10, 100_000, sequence=68)) == []
    assert state(book, "alice") == (State.UNKNOWN, Unknown.MISSED_FILL)
    log.snapshot("alice", "ex", 67, {"USD": (0, 1)})  # older than what was applied: cannot settle it
    assert state(book, "alice") == (State.UNKNOWN, Unknown.MISSED_FILL)
    assert book.snapshots_ignored == 1
    log.snapshot("alice", "ex", 68, {"USD": (0, 60_000_000_000), "BTC-PERP": (20, -2_000_000_000)})
    assert state(book, "alice") == (State.HEALTHY, Unknown.NONE)
    assert positions(book, "alice") == {("ex", "USD"): (0, 60_000_000_000), ("ex", "BTC-PERP"): (20, -2_000_000_000)}


def test_snapshots_open_compare_and_settle() -> None:
    book, log = a_book()
    log.snapshot("alice", "ex", 7, {"USD": (0, 5_000_000_000)})  # an opening balance
    assert positions(book, "alice") == {("ex", "USD"): (0, 5_000_000_000)}
    log.trade("alice", "ex", "BTC-PERP", 1, 100_000, sequence=8)
    held = positions(book, "alice")
    log.snapshot("alice", "ex", 8, {"USD": (0, 5_000_000_000), "BTC-PERP": (1, -99)})
    assert state(book, "alice") == (State.UNKNOWN, Unknown.UNRECONCILED)
    assert positions(book, "alice") == held  # never silently overwritten
    log.snapshot("alice", "ex", 8, {"BTC-PERP": (1, -100_000_000), "USD": (0, 5_000_000_000)})
    assert state(book, "alice") == (State.HEALTHY, Unknown.NONE)
    log.snapshot("alice", "ex", 9, {})
    assert positions(book, "alice") == held
    assert refusals(log.snapshot("alice", "ex", 9, {"NOTHING": (1, 1)})) == [("account.snapshots", "unknown_instrument", 4)]


# ---- states and causes ----------------------------------------------------------------------------------------------------------------


def test_a_price_makes_it_liquidatable_and_the_order_brings_it_to_the_end() -> None:
    book, log = a_book()
    long_btc(log)
    log.tick(1)
    effects = log.prices({"BTC": 90_000.0})
    (order,) = orders(effects)
    assert (order.account, order.venue, order.instrument, order.cause, order.state) == ("alice", "ex", "BTC-PERP", "price", "LIQUIDATABLE")
    assert order.lots < 0
    assert (order.epoch, order.attempt, order.decided_ns) == (1, 1, log.now_ns)
    assert order.expires_ns == log.now_ns + 60 * SECOND
    decision = next(effect for effect in effects.now if isinstance(effect, Decision))
    assert decision.excess_before_usd is not None
    assert decision.excess_after_usd is not None
    assert decision.excess_before_usd < 0.0 <= decision.excess_after_usd
    log.tick(1)
    assert orders(log.prices({"BTC": 89_900.0})) == []  # in flight
    effects = log.trade("alice", "ex", "BTC-PERP", order.lots, 89_990, order_id=order.order_id)
    assert "filled" in outcomes(effects)
    log.tick(1)
    assert outcomes(log.prices({"BTC": 95_000.0})) == ["cured"]
    assert state(book, "alice")[0] == State.WARNING


def test_hysteresis_ends_at_the_liquidation_end() -> None:
    book, log = a_book(publish=False)
    long_btc(log)
    log.tick(1)
    log.prices({"BTC": 90_000.0})
    columns = book.accounts.columns
    maintenance = columns.health[0, 3]
    assert state(book, "alice")[0] == State.LIQUIDATABLE
    log.deposit("alice", float(maintenance - columns.health[0, 0]) + 1.0)
    assert columns.health[0, 0] > maintenance
    assert state(book, "alice")[0] == State.LIQUIDATABLE
    log.deposit("alice", 0.15 * float(maintenance))
    assert state(book, "alice")[0] == State.WARNING


def test_it_breaches_and_heals_within_one_frame() -> None:
    book, log = a_book()
    log.deposit("alice", 20_000.0)
    up = log.fill("alice", "ex", "BTC-PERP", 4_000, 100_000)
    down = log.fill("alice", "ex", "BTC-PERP", -3_900, 100_000)
    effects = log.fills(up, down)
    (order,) = orders(effects)
    assert (order.cause, order.ledger) == ("fill", "venue.fills:0:1")
    assert outcomes(effects) == ["ordered", "cured"]
    assert state(book, "alice")[0] == State.HEALTHY
    assert len(book.lives[0].flights) == 1  # its order is out there all the same


def test_warning_calls_once() -> None:
    book, log = a_book()
    log.deposit("alice", 14_000.0)
    (call,) = calls(log.trade("alice", "ex", "BTC-PERP", 1_000, 100_000))
    assert (call.state, call.cause, call.grace_until_ns) == ("WARNING", "none", 0)
    assert call.shortfall_usd > 0.0
    assert calls(log.trade("alice", "ex", "BTC-PERP", 1, 100_000)) == []
    assert state(book, "alice")[0] == State.WARNING


def test_a_haircut_first_gets_a_grace_period_which_ends() -> None:
    book, log = a_book({"grace_s": 100.0, "thin_rise_per_hour": 100.0})
    log.credit("alice", "south", "STB", 2_000_000)  # 20,000 STB
    log.trade("alice", "ex", "BTC-PERP", 1_545, 100_000)
    assert state(book, "alice")[0] in (State.HEALTHY, State.WARNING)
    columns = book.accounts.columns
    log.tick(1)
    assert calls(log.depths({"STB": 2_000.0})) == []  # it is felt slowly
    for _ in range(30):
        effects = log.tick(10)
        if calls(effects):
            break
        log.prices({"BTC": 100_000.0, "STB": 1.0})
        log.depths({"STB": 2_000.0})
    assert columns.health[0, EQUITY] < columns.health[0, MAINTENANCE]
    (call,) = calls(effects)
    assert call.cause == "haircut"
    assert call.grace_until_ns == log.now_ns + 100 * SECOND
    assert outcomes(effects) == ["grace"]
    log.tick(30)
    log.prices({"BTC": 100_000.0, "STB": 1.0})
    log.tick(30)
    log.prices({"BTC": 100_000.0, "STB": 1.0})
    effects = log.tick(45)
    assert [order.cause for order in orders(effects)] == ["haircut"]


def test_parameters_are_a_regime_and_a_deep_shortfall_ends_the_grace_at_once() -> None:
    _book, log = a_book()
    long_btc(log)
    effects = log.parameters({"classes": {"major": {"scan_floor": 0.5, "scan_cap": 0.9, "max_age_s": 60.0}}}, version="v2")
    assert [call.cause for call in calls(effects)] == ["regime"]
    assert outcomes(effects) == ["parameters", "grace", "ordered"]
    assert {order.parameters for order in orders(effects)} == {"v2"}


def test_funding_and_credits_are_causes() -> None:
    book, log = a_book()
    long_btc(log)
    effects = log.trade("alice", "ex", "BTC-PERP", 0, 0, kind="funding", cash=-9_000_000_000)
    assert [order.cause for order in orders(effects)] == ["funding"]
    log.credit("bob", "south", "STB", 2_000_000)
    log.trade("bob", "sx", "BTC-PERP", 1_000, 100_000)
    effects = log.credit("bob", "south", "STB", -900_000)
    assert [call.cause for call in calls(effects)] == ["credit"]
    assert state(book, "bob")[0] == State.LIQUIDATABLE


def test_silent_sources_make_unknown_within_max_age_and_nothing_is_ordered() -> None:
    book, log = a_book()
    long_btc(log)
    log.tick(1)
    seen = [log.tick(1) for _ in range(61)]
    assert state(book, "alice") == (State.UNKNOWN, Unknown.STALE_MARK)
    assert [orders(effects) for effects in seen] == [[]] * 61
    log.deposit("carol", 100.0)
    assert state(book, "carol") == (State.HEALTHY, Unknown.NONE)  # dollars need no source
    log.prices({"BTC": 80_000.0})
    assert state(book, "alice")[0] == State.BANKRUPT


def test_unknown_keeps_what_it_was_before() -> None:
    book, log = a_book()
    long_btc(log)
    log.tick(1)
    (first,) = orders(log.prices({"BTC": 90_000.0}))
    log.tick(59)
    effects = log.tick(2)
    assert outcomes(effects) == ["expired"]
    assert state(book, "alice") == (State.UNKNOWN, Unknown.STALE_MARK)
    effects = log.prices({"BTC": 90_000.0})
    (second,) = orders(effects)
    assert (second.epoch, second.attempt, second.instrument) == (1, 2, first.instrument)
    assert second.order_id != first.order_id


def test_a_fault_of_one_account_is_quarantined_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    book, log = a_book()
    long_btc(log, "alice")
    long_btc(log, "bob")
    genuine = value_accounts
    sick = book.accounts.numbers["alice"]

    def faulty(numbers: Any, *rest: Any) -> int:
        if sick in numbers:
            raise ZeroDivisionError("injected")
        return genuine(numbers, *rest)

    log.tick(1)
    monkeypatch.setattr("engine.decisions.value_accounts", faulty)
    effects = log.prices({"BTC": 90_000.0})
    assert [order.account for order in orders(effects)] == ["bob"]
    assert state(book, "alice") == (State.UNKNOWN, Unknown.ENGINE_FAULT)
    faults = [one for one in effects.now if isinstance(one, Decision) and one.outcome == "engine_fault"]
    assert [(one.account, one.note) for one in faults] == [("alice", "ZeroDivisionError: injected")]
    cut = book.take_cut()
    health = {one.account: one for one in cut.health}
    assert (health["alice"].reason, health["alice"].equity_usd) == ("engine_fault", None)
    again = Book(0, 1)
    again.restore([(key, value) for key, value in cut.rows if value is not None])
    assert state(again, "alice") == (State.UNKNOWN, Unknown.ENGINE_FAULT)
    monkeypatch.setattr("engine.decisions.value_accounts", genuine)
    log.tick(1)
    log.prices({"BTC": 90_100.0})
    assert state(book, "alice") == (State.UNKNOWN, Unknown.ENGINE_FAULT)  # until something of its own happens
    log.deposit("alice", 1.0)
    assert state(book, "alice")[0] == State.LIQUIDATABLE


# ---- orders ---------------------------------------------------------------------------------------------------------------------------


def test_an_order_expires_and_the_next_attempt_slips_further() -> None:
    _book, log = a_book()
    long_btc(log)
    log.tick(1)
    (first,) = orders(log.prices({"BTC": 90_000.0}))
    log.tick(30)
    log.prices({"BTC": 90_000.0})
    effects = log.tick(30)
    assert outcomes(effects)[0] == "expired"
    (second,) = orders(effects)
    assert (second.attempt, second.epoch, second.instrument) == (2, 1, first.instrument)
    assert second.limit_ticks < first.limit_ticks


def test_reports_end_flights_only_when_their_fills_are_there() -> None:
    _book, log = a_book()
    long_btc(log)
    log.tick(1)
    (order,) = orders(log.prices({"BTC": 90_000.0}))
    assert log.report("alice", order.order_id, "acknowledged").now == []
    assert log.report("alice", order.order_id, "cancelled", filled_lots=10).now == []
    assert refusals(log.report("alice", "nonsense", "filled")) == [("order.reports", "unknown_order", 2)]
    assert refusals(log.report("nobody", order.order_id, "filled")) == [("order.reports", "unknown_account", 3)]
    effects = log.trade("alice", "ex", "BTC-PERP", -10, 90_000, order_id=order.order_id)
    assert outcomes(effects)[0] == "filled"
    (second,) = orders(effects)
    assert second.attempt == 2
    assert log.report("alice", order.order_id, "filled", filled_lots=10).now == []  # late, and known
    effects = log.report("alice", second.order_id, "rejected")
    assert outcomes(effects) == ["rejected"]  # at once would be for ever, with a venue that rejects at once
    assert orders(log.tick(1)) == []
    assert [order.attempt for order in orders(log.tick(4))] == [3]


def test_the_throttle_cuts_queues_and_gives_back() -> None:
    book, log = a_book(budget_usd=0.0)
    long_btc(log)
    log.tick(1)
    effects = log.prices({"BTC": 90_000.0})
    assert outcomes(effects) == ["throttled"]
    log.grant({"BTC": 9_000.0})
    log.tick(1)
    assert orders(log.prices({"BTC": 90_000.0})) == []  # retried at ticks, no sooner than plan_retry_s
    effects = log.tick(4)
    (order,) = orders(effects)
    assert order.lots == -100
    btc = book.market.universe.asset_number("BTC")
    assert book.limits.budget_usd[btc] == 0.0
    log.report("alice", order.order_id, "rejected")
    assert book.limits.budget_usd[btc] == 9_000.0
    assert [order.lots for order in orders(log.tick(5))] == [-100]
    cut = book.take_cut()
    assert cut.partials[0].spent_usd == {"BTC": 18_000.0}


def test_worst_first_where_the_budget_is_short() -> None:
    _book, log = a_book(budget_usd=18_000.0)
    long_btc(log, "well", usd=20_600.0)
    long_btc(log, "worst", usd=20_000.0)
    long_btc(log, "worse", usd=20_300.0)
    log.tick(1)
    effects = log.prices({"BTC": 90_000.0})
    assert [order.account for order in orders(effects)] == ["worst"]
    assert [(one.account, one.outcome) for one in effects.now if isinstance(one, Decision)] == [
        ("worst", "ordered"),
        ("worse", "throttled"),
        ("well", "throttled"),
    ]


def test_observe_decides_and_reserves_nothing() -> None:
    book, log = a_book(publish=False)
    long_btc(log)
    log.tick(1)
    effects = log.prices({"BTC": 90_000.0})
    assert orders(effects) == []
    assert outcomes(effects) == ["observed"]
    btc = book.market.universe.asset_number("BTC")
    assert book.limits.spent_usd[btc] == 0.0
    log.mode("publish")
    assert orders(log.tick(2)) == []
    (order,) = orders(log.tick(3))
    assert order.attempt == 1


def test_freezes_hold_orders_back() -> None:
    book, log = a_book()
    long_btc(log)
    assert refusals(log.freeze("venue", "nowhere")) == [("operator.commands", "unknown_venue", 1)]
    assert outcomes(log.freeze("account", "alice")) == ["freeze"]
    log.tick(1)
    assert outcomes(log.prices({"BTC": 90_000.0})) == ["frozen"]
    assert book.take_cut().health[0].frozen
    log.freeze("account", "alice", frozen=False)
    log.freeze("venue", "ex")
    assert outcomes(log.tick(5)) == []  # frozen still, and said already
    log.freeze("venue", "ex", frozen=False)
    log.freeze("all")
    assert orders(log.tick(5)) == []
    log.freeze("all", frozen=False)
    assert len(orders(log.tick(5))) == 1


def test_the_bankrupt_close_everything_and_ask_the_fund_once() -> None:
    book, log = a_book()
    long_btc(log)
    log.trade("alice", "ex", "ETH-PERP", 100, 40_000)
    log.tick(1)
    effects = log.prices({"BTC": 70_000.0})
    placed = orders(effects)
    assert {(order.instrument, order.lots) for order in placed} == {("BTC-PERP", -1_000), ("ETH-PERP", -100)}
    assert {order.state for order in placed} == {"BANKRUPT"}
    for order in placed:
        price = 70_000 if order.instrument == "BTC-PERP" else 40_000
        effects = log.trade("alice", "ex", order.instrument, order.lots, price, order_id=order.order_id)
    assert outcomes(effects) == ["filled", "fund_draw", "no_plan"]
    assert book.limits.fund_requested_micro_usd == 10_000_000_000
    log.tick(5)
    assert book.limits.fund_requested_micro_usd == 10_000_000_000
    (partial,) = book.take_cut().partials
    assert partial.fund_requested_micro_usd == 10_000_000_000
    assert partial.accounts_by_state == [0, 0, 0, 1, 0]


# ---- chains ---------------------------------------------------------------------------------------------------------------------------


def test_credits_of_a_slow_chain_wait_in_order() -> None:
    book, log = a_book({"breakers_enabled": True, "lag_trip_s": 100.0, "lag_reset_s": 50.0, "cooldown_s": 10.0})
    log.lag("south", 10.0)
    log.credit("alice", "south", "STB", 500)
    log.lag("south", 101.0)
    assert outcomes(log.credit("alice", "south", "STB", 700)) == ["held"]
    assert outcomes(log.credit("bob", "south", "BTC", 3)) == ["held"]
    assert book.credits_held == 2
    log.credit("alice", "south", "STB", -100)  # what leaves, leaves
    assert positions(book, "alice") == {("vault", "STB"): (400, 0)}
    assert "bob" not in book.accounts.numbers
    cut = book.take_cut()
    log.lag("south", 10.0)
    log.tick(11)
    assert positions(book, "alice") == {("vault", "STB"): (1_100, 0)}
    assert positions(book, "bob") == {("vault", "BTC"): (3, 0)}
    assert [one.state for one in cut.breakers if one.trigger == "attestation_lag"] == ["tripped"]
    gone = [key for key, value in book.take_cut().rows if value is None]
    assert len(gone) == 2


def test_the_queue_of_held_credits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    _book, log = a_book({"breakers_enabled": True, "lag_trip_s": 100.0, "lag_reset_s": 50.0})
    monkeypatch.setattr("engine.held_credits.HELD_CREDITS_MAX", 1)
    log.lag("south", 101.0)
    assert outcomes(log.credit("alice", "south", "STB", 700)) == ["held"]
    assert refusals(log.credit("alice", "south", "STB", 1)) == [("attestor", "held_queue_full", 1)]
    assert refusals(log.credit("alice", "south", "STB", -1)) == []


# ---- frames, offsets, cuts ------------------------------------------------------------------------------------------------------------


def test_what_was_applied_is_skipped_and_what_lies_beyond_a_gap_is_not_taken() -> None:
    book, log = a_book()
    log.deposit("alice", 100.0)
    frame = log.frames[-1]
    again = log.put(frame)
    assert (again.skipped, again.now) == (1, [])
    later = log.frame(FrameKind.FILLS, "venue.fills", log.frames[-1].events)
    beyond = later._replace(covers_from=later.covers_from + 1, covers_to=later.covers_to + 1)
    effects = log.put(beyond)
    assert effects.gap
    assert outcomes(effects) == ["gap"]
    assert book.source_applied("venue.fills", 0) == 0
    assert positions(book, "alice") == {("ex", "USD"): (0, 100_000_000)}
    copied = next(one for one in log.frames if isinstance(one.events[0], Frame) and one.events[0].kind is FrameKind.PRICES)
    assert log.put(copied).skipped == 12
    with pytest.raises(AssertionError, match="seek"):
        book.apply(0, frame)


def test_frames_that_overlap_are_taken_event_by_event() -> None:
    book, log = a_book()
    first = [log.fill("alice", "ex", "USD", 0, kind="funding", cash=1), log.fill("alice", "ex", "USD", 0, kind="funding", cash=2)]
    log.fills(*first)
    third = log.fill("alice", "ex", "USD", 0, kind="funding", cash=4)
    events = fill_columns([*first, third])
    events.rows["offset"] = [0, 1, 2]
    effects = log.put(Frame(FrameKind.FILLS, "venue.fills", 0, -1, 2, events, []))
    assert effects.skipped == 2
    assert positions(book, "alice") == {("ex", "USD"): (0, 7)}


def test_a_cut_holds_what_changed_and_tells_what_moved() -> None:
    book, log = a_book()
    long_btc(log, "alice", usd=100_000.0)
    first = book.take_cut()
    assert {one.account for one in first.health} == {"alice"}
    assert first.rows[-1][0] == CUT_KEY
    quiet = book.take_cut()
    assert [key for key, _ in quiet.rows] == [CUT_KEY]
    assert (quiet.health, quiet.partials) == ([], [])
    log.tick(1)
    log.prices({"BTC": 100_050.0})  # moves equity by 50 USD, and the requirement is 12,500
    assert book.take_cut().health == []
    log.tick(1)
    log.prices({"BTC": 100_500.0})
    (told,) = book.take_cut().health
    assert told.equity_usd == pytest.approx(100_500.0)
    assert told.requirement_usd is not None
    assert told.requirement_usd["portfolio"] <= told.requirement_usd["protocol"] <= told.requirement_usd["isolated"]
    assert told.cause == "none"
    assert Cause.NONE.name.lower() == told.cause


def test_a_changed_row_is_noticed() -> None:
    book, log = a_book()
    long_btc(log)
    rows = [(key, value) for key, value in book.take_cut().rows if value is not None]
    Book(0, 1).restore(rows)
    broken = [(key, value[:-1] + bytes([value[-1] ^ 1]) if key.startswith(b"a:") else value) for key, value in rows]
    with pytest.raises(DigestMismatch):
        Book(0, 1).restore(broken)
    with pytest.raises(DigestMismatch):
        Book(0, 1).restore(rows[:-1])


def test_rows_of_another_engine_are_taken_over_only_from_a_sealed_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    book, log = a_book()
    long_btc(log)
    rows = {key: value for key, value in book.take_cut().rows if value is not None}
    sealed = {**rows, **{key: value for key, value in book.take_cut(sealed=True).rows if value is not None}}
    monkeypatch.setattr("engine.rows.ENGINE_VERSION", 2)
    with pytest.raises(EngineVersionMismatch, match="stop it cleanly"):
        Book(0, 1).restore(rows.items())
    successor = Book(0, 1)
    successor.restore(sealed.items())
    assert positions(successor, "alice") == positions(book, "alice")


# ---- settlement, limits, slippage -----------------------------------------------------------------------------------------------------


def test_a_settlement_closes_at_its_price_and_at_nothing() -> None:
    book, log = a_book()
    log.implied(0.6)
    log.trade("alice", "sx", "BTC-100000-C", 10, 3_000)
    log.trade("alice", "sx", "BTC-100000-C", -10, 8_000, kind="settlement")
    assert positions(book, "alice") == {("sx", "BTC-100000-C"): (0, 10 * (8_000 - 3_000) * 100_000)}
    log.trade("bob", "sx", "BTC-100000-C", 10, 3_000)
    assert refusals(log.trade("bob", "sx", "BTC-100000-C", -10, 0, kind="settlement")) == []  # it ended worthless
    assert positions(book, "bob") == {("sx", "BTC-100000-C"): (0, -10 * 3_000 * 100_000)}
    log.trade("carol", "sx", "BTC-INV", 7, 200_000)
    assert refusals(log.trade("carol", "sx", "BTC-INV", -7, 0, kind="settlement")) == [("venue.fills", "out_of_range", 5)]
    assert positions(book, "carol") == {("sx", "BTC-INV"): (7, round(7 * 100.0 / 100_000.0 / 1e-9))}


@pytest.mark.parametrize("contract", [INVERSE_PERPETUAL, INVERSE_FUTURE])
def test_cash_of_inverse_contracts_is_coin(contract: int) -> None:
    assert cash_change(int(FillKind.TRADE), 7, 200_001, 5, contract, 100.0, 0.5, 0) == (
        MOVED,
        round(7 * 100.0 / (200_001 * 0.5) / 1e-9) + 5,
    )
    assert cash_change(int(FillKind.SETTLEMENT), 7, 0, 0, contract, 100.0, 0.5, 0) == (PRICE_ZERO, 0)
    for other in (FUTURE, INVERSE_OPTION):
        assert cash_change(int(FillKind.SETTLEMENT), 7, 3, 5, other, 100.0, 0.5, 11) == (MOVED, 5 - 7 * 3 * 11)


def test_nothing_past_its_expiry_is_ordered() -> None:
    book, _ = a_book()
    terms = book.market.universe.instrument_arrays
    option = book.market.universe.instrument_number("sx", "BTC-100000-C")
    perpetual = book.market.universe.instrument_number("ex", "BTC-PERP")
    assert option is not None
    assert perpetual is not None
    expiry_ns = int(terms.expiry_ns[option])
    assert [is_closed_to_us(option, ns, terms) for ns in (expiry_ns - 1, expiry_ns, expiry_ns + 1)] == [False, True, True]
    assert not is_closed_to_us(perpetual, expiry_ns + 1, terms)


def test_over_a_limit_is_a_warning_that_is_called_and_told() -> None:
    book, log = a_book()
    long_btc(log, usd=1_000_000.0)
    a, c = book.accounts.numbers["alice"], book.accounts.columns
    health = c.health[a].copy()
    assert state_of(0, int(State.HEALTHY), health, 1.15) == State.HEALTHY
    health[LIMIT] = 2.0
    assert state_of(0, int(State.HEALTHY), health, 1.15) == State.WARNING
    assert refusals_in_words(refusal_bits(health)) == ["limit_asset"]
    health[LIMIT], health[EQUITY_INITIAL] = 5.0, health[INITIAL] - 1.0
    assert refusals_in_words(refusal_bits(health)) == ["initial_margin", "limit_account", "limit_venue"]
    book.take_cut()
    c.health[a, LIMIT] = 4.0
    (told,) = book.take_cut().health  # nothing else has changed
    assert told.refuses == ["limit_venue"]
    assert book.take_cut().health == []


def test_an_account_below_its_initial_margin_is_refused_new_risk() -> None:
    book, log = a_book()
    long_btc(log, usd=24_000.0)
    log.deposit("bob", 1_000.0)
    log.tick(1)
    effects = log.prices({"BTC": 95_000.0})
    while state(book, "alice")[0] is State.HEALTHY:
        log.now_ns += SECOND
        effects = log.prices({"BTC": book.market.marks.mark[1] - 500.0})
    assert state(book, "alice")[0] is State.WARNING
    (call,) = calls(effects)
    assert (call.refuses, call.shortfall_usd > 0.0) == (["initial_margin"], True)
    assert {one.account: one.refuses for one in book.take_cut().health} == {"alice": ["initial_margin"], "bob": []}
    log.tick(300)
    assert {one.account: (one.state, one.refuses) for one in book.take_cut().health} == {"alice": ("UNKNOWN", [])}


def test_fills_away_from_the_collateral_measure_slippage(monkeypatch: pytest.MonkeyPatch) -> None:
    book, log = a_book()
    measured: list[tuple[int, float, int]] = []
    monkeypatch.setattr(book.market, "observe_slip", lambda *said: measured.append(said))
    north = book.market.universe.chain_number("north")
    log.trade("alice", "ex", "STB", 3_000_000, kind="transfer")  # 30,000 STB in the north
    log.credit("alice", "south", "STB", 1_000_000)
    log.trade("alice", "sx", "BTC-PERP", 1_000, 100_000)
    log.tick(1)
    (order,) = orders(log.prices({"BTC": 68_000.0}))
    assert (order.venue, order.lots < 0) == ("sx", True)
    answer = {"kind": "liquidation", "order_id": order.order_id}
    log.trade("alice", "sx", "BTC-PERP", -1, 67_320, **answer)  # 1 % below the mark
    log.trade("alice", "sx", "BTC-PERP", -1, 69_000, **answer)  # better than the mark
    log.trade("alice", "sx", "BTC-PERP", -1, 1, **answer)  # as bad as can be
    log.trade("alice", "sx", "BTC-PERP", -1, 67_320, kind="liquidation")  # no order of ours
    log.trade("alice", "ex", "STB", -2_900_000, kind="transfer")  # most of it lies in the south now
    log.trade("alice", "sx", "BTC-PERP", -1, 67_320, **answer)
    assert [(chain, ns) for chain, _, ns in measured] == [(north, log.now_ns)] * 3  # of the chain where its money lies
    assert [slip for _, slip, _ in measured] == [pytest.approx(0.01), 0.0, 0.5]


def test_a_quarantine_is_handed_on_audited_and_refused_of_what_is_not_defined(monkeypatch: pytest.MonkeyPatch) -> None:
    book, log = a_book()
    said: list[tuple[str, bool]] = []
    taken = book.market.set_quarantine

    def note(chain: str, on: bool) -> Any:
        said.append((chain, on))
        return taken(chain, on)

    monkeypatch.setattr(book.market, "set_quarantine", note)
    assert outcomes(log.quarantine("south")) == ["quarantine"]
    assert outcomes(log.quarantine("south", on=False)) == ["unquarantine"]
    assert [reason for _, reason, _ in refusals(log.quarantine("nowhere"))] == ["unknown_chain"]
    assert said == [("south", True), ("south", False), ("nowhere", True)]
