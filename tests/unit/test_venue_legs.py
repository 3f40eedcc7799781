"""Legs at venues that have a rule: what is told of them, when somebody is called, and that a restored book goes on the same."""

from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import msgspec
import numpy as np
import pytest

from engine import venue_legs
from engine.book import LOOK_SECONDS, PENDING_START
from engine.effects import Effects, MarginCall, Refused, VenueLeg
from engine.inputs import FrameKind, Funding, InstrumentDefinition, VenueDefinition, VenueRule
from engine.inspection import explain_account
from engine.margin import UNHAIRCUT
from engine.monitor import Book
from engine.reasons import State
from engine.rules.examples import PARAMETERS as EXAMPLES
from engine.rules.interface import DISTANCE
from engine.tables import CASH_UNKNOWN, CASH_VALUE, CONTRACTS, UNIT_LONG, UNIT_SHORT, UNIT_UNKNOWN, VENUES_MAX
from engine.venue_legs import CLEAR, NEAR, PAST, UNKNOWN, VenueRows, in_words, leg_reports, legs_at, venue_rows
from tests.small_world import SECOND, T0, Log, definitions

POOL_RULE = VenueRule(
    rule="aave_v3",
    parameters={
        "reserves": [
            {"name": "BTC", "liquidation_threshold": 0.8, "loan_to_value": 0.7},
            {"name": "STB", "liquidation_threshold": 0.8, "loan_to_value": 0.7},
        ]
    },
)


def pool(rule: VenueRule | None = POOL_RULE, chain: str = "north") -> VenueDefinition:
    return VenueDefinition(v=1, name="pool", chain=chain, rule=rule, time_ns=T0)


def instrument(name: str, contract: Any, underlying: str, lot: float, tick: float, **more: Any) -> InstrumentDefinition:
    return InstrumentDefinition(
        v=1, venue="pool", name=name, contract=contract, underlying=underlying, lot_size=lot, tick_size=tick, time_ns=T0, **more
    )


def define(log: Log, *definitions: Any) -> Effects:
    return log.control(FrameKind.DEFINITIONS, "market.instruments", list(definitions))


def a_book(parameters: dict[str, Any] | None = None) -> tuple[Book, Log]:
    book = Book(0, 1)
    log = Log(book)
    log.open(parameters)
    define(
        log,
        pool(),
        instrument("BTC", "spot", "BTC", 0.001, 1.0),
        instrument("DEBT", "loan", "STB", 0.01, 0.01),
        instrument("PERP", "perpetual", "BTC", 0.001, 1.0),
    )
    return book, log


def borrow(log: Log, account: str = "alice", debt_usd: float = 70_000.0, elsewhere_usd: float = 500_000.0) -> None:
    """A coin as collateral at the pool, and far more money elsewhere than is owed."""
    log.deposit(account, elsewhere_usd)
    log.trade(account, "pool", "BTC", 1_000, kind="transfer")
    log.trade(account, "pool", "DEBT", -round(debt_usd / 0.01), kind="transfer")


def calls(effects: Effects) -> list[MarginCall]:
    return [effect for effect in effects.now if isinstance(effect, MarginCall)]


def look(log: Log, btc_usd: float) -> list[MarginCall]:
    """A price, and ticks until everybody has been looked at."""
    log.tick(0.001)  # what is not newer is not taken
    log.prices({"BTC": btc_usd, "STB": 1.0, "ETH": 4_000.0, "SOL": 200.0})
    return [call for _ in range(LOOK_SECONDS) for call in calls(log.tick(1))]


def leg(book: Book, account: str = "alice") -> VenueLeg:
    number = book.accounts.numbers[account]
    (found,) = leg_reports(venue_rows(np.array([number]), book.accounts, book.market), book.market)[number]
    return found


def faults(effects: Effects) -> list[tuple[str, str]]:
    return [(one.reason, one.detail) for one in effects.now if isinstance(one, Refused)]


# ---- definitions ------------------------------------------------------------------------------------------------------------------------


def test_a_definition_with_faults_in_its_rule_is_refused_and_names_them_all() -> None:
    _, log = a_book()
    wrong = VenueRule(rule="aave_v3", parameters={"reserves": [{"name": "BTC", "liquidation_threshold": 2.0, "bonus": 1}]})
    (reason, detail), *rest = faults(define(log, pool(wrong, chain="nowhere")))
    assert (reason, rest) == ("invalid_definition", [])
    for fault in ("chain nowhere is not defined", "rule.parameters.reserves[0].liquidation_threshold", "rule.parameters.reserves[0].bonus"):
        assert fault in detail


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        (VenueRule(rule="aave_v4"), "rule.rule: no rule is called 'aave_v4'; did you mean aave_v3?"),
        (VenueRule(rule="span16"), "rule.rule: span16 cannot take a leg of a portfolio: "),
        (
            VenueRule(rule="aave_v3", parameters=POOL_RULE.parameters, given={"moode": 1.0}),
            "rule.given.moode: the rule does not ask for it",
        ),
    ],
)
def test_what_is_no_rule_or_not_asked_for_is_refused(rule: VenueRule, fault: str) -> None:
    book, log = a_book()
    ((reason, detail),) = faults(define(log, pool(rule)))
    assert (reason, fault in detail) == ("invalid_definition", True), detail
    number = book.market.universe.venue_number("pool")
    assert number is not None
    assert book.market.universe.venue_rules[number].info.name == "aave_v3", "the one before stays"


def test_the_definition_in_the_documents_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
    block = page[page.index('    {"kind": "venue"') :].partition("\n\n")[0]
    said = msgspec.json.decode(block, type=VenueDefinition)
    book, log = a_book()
    assert faults(define(log, said)) == []
    assert said.rule is not None
    number = book.market.universe.venue_number(said.name)
    assert number is not None
    assert book.market.universe.venue_rules[number].info.name == said.rule.rule


# ---- numbers ----------------------------------------------------------------------------------------------------------------------------


def test_health_tells_a_leg_by_its_venues_rule() -> None:
    """80,000 of 100,000 count, 70,000 are owed: an eighth may be lost."""
    book, log = a_book()
    borrow(log)
    borrow(log, "bob", debt_usd=0.01)
    log.deposit("carol", 1_000.0)
    told = {health.account: health.legs for health in book.take_cut().health}
    assert told["carol"] == []
    (of_alice,) = told["alice"]
    assert (of_alice.venue, of_alice.rule, of_alice.verdict, of_alice.unknown) == ("pool", "aave_v3", "clear", "")
    assert of_alice.distance == pytest.approx(0.125)
    assert of_alice.equity_usd == pytest.approx(30_000.0)
    assert told["bob"][0].distance == pytest.approx(1.0)
    assert explain_account(book, "alice").legs == [of_alice]  # type: ignore[union-attr]


def test_what_legs_are_made_of() -> None:
    """Lots in units, dollars as units of themselves, coins of inverse contracts, what orders may add; no slot that holds nothing."""
    book, log = a_book()
    log.implied(0.6)
    log.deposit("alice", 1_000.0)
    log.trade("alice", "ex", "BTC-PERP", -2, 90_000)
    log.trade("alice", "sx", "BTC-INV", 1_000, 200_000)
    log.trade("alice", "sx", "BTC-100000-C", -10, 5_000)
    log.pending("alice", "ex", {"BTC-PERP": (3, 1, 0), "ETH-PERP": (0, 0, 0)})
    universe = book.market.universe
    ex, sx = universe.venue_number("ex"), universe.venue_number("sx")
    assert ex is not None
    assert sx is not None
    numbers = np.array([book.accounts.numbers["alice"]])
    holders, held = legs_at(ex, numbers, book.accounts, book.market)
    assert holders.tolist() == numbers.tolist()
    assert [held.instruments[i] for i in held.legs.instrument] == ["USD", "BTC-PERP"]
    assert held.legs.units.tolist() == [1_000.0, -0.002]
    assert held.legs.cash.tolist() == pytest.approx([0.0, 180.0])
    assert held.legs.value_usd.tolist() == pytest.approx([1_000.0, -20.0])
    assert held.legs.entry_usd[1] == pytest.approx(90_000.0)
    assert [held.legs.buys[1], held.legs.sells[1]] == pytest.approx([0.003, 0.001])
    _, held = legs_at(sx, numbers, book.accounts, book.market)
    assert held.legs.units.tolist() == pytest.approx([1.0, -1.0])  # 100,000 USD at 100,000
    assert held.legs.years.tolist() == pytest.approx([0.0, 30 / 365])
    assert held.legs.sigma[1] == pytest.approx(0.6)
    assert held.legs.strike_usd[1] == 100_000.0
    assert legs_at(sx, np.array([], np.int64), book.accounts, book.market)[1].accounts == 0


def test_open_orders_are_those_of_each_account() -> None:
    """Every row of the pool is somebody's, and one has none."""
    book, log = a_book()
    names = [f"account-{number}" for number in range(PENDING_START + 1)]
    for name in names:
        log.trade(name, "ex", "BTC-PERP", 1, 90_000)
    for number, name in enumerate(names[1:]):
        log.pending(name, "ex", {"BTC-PERP": (3 + number, 100 + number, 0)})
    assert book.accounts.accounts_with_pending == len(book.accounts.columns.pending)
    venue = book.market.universe.venue_number("ex")
    assert venue is not None
    _, held = legs_at(venue, np.arange(len(names)), book.accounts, book.market)
    assert held.legs.buys.tolist() == pytest.approx([0.0, *(0.003 + 0.001 * number for number in range(PENDING_START))])
    assert held.legs.sells.tolist() == pytest.approx([0.0, *(0.1 + 0.001 * number for number in range(PENDING_START))])


def test_each_number_of_legs_by_hand() -> None:
    """Of every contract, one lot or none of it, one unit of cash or none; what is worth how much is set by hand."""
    expiry = {"expiry_ns": T0 + 73 * 86_400 * SECOND}
    book, log = a_book()
    define(
        log,
        instrument("FUT", "future", "BTC", 0.001, 1.0, **expiry),
        instrument("CALL", "option", "BTC", 0.5, 1.0, strike=90_000.0, **expiry),
        instrument("INV", "inverse_perpetual", "BTC", 100.0, 0.5, quote="BTC"),
        instrument("INVF", "inverse_future", "BTC", 100.0, 0.5, quote="BTC", **expiry),
        instrument("BUYS", "perpetual", "ETH", 0.25, 1.0),
        instrument("SELLS", "perpetual", "ETH", 0.25, 1.0),
        instrument("QUIET", "perpetual", "ETH", 0.25, 1.0),
        instrument("ETH/BTC", "spot", "ETH", 0.5, 1e-6, quote="BTC"),
        instrument("MONEY", "spot", "USD", 1.0, 0.01),
    )
    for name in ("alice", "bob", "carol"):
        log.pending(name, "ex", {"BTC": (1, 0, 0)})
    universe, columns, tables = book.market.universe, book.accounts.columns, book.market.tables
    pool_number, ex = universe.venue_number("pool"), universe.venue_number("ex")
    assert pool_number is not None
    assert ex is not None
    venue_of = {"EX-BTC": ex}
    names = [
        ("PERP", 1_000, 1, 0, 0),
        ("FUT", -1_000, 0, 0, 0),
        ("CALL", 1, -1, 0, 0),
        ("EX-BTC", 5, 7, 0, 0),
        ("INV", 0, 1, 0, 0),
        ("QUIET", 0, 0, 0, 0),
        ("BUYS", 0, 0, 1, 0),
        ("SELLS", 0, 0, 0, 1),
        ("DEBT", -1, 0, 0, 1),
        ("BTC", 0, -1, 0, 0),
        ("ETH/BTC", -1, 1, 0, 0),
        ("MONEY", 1, 1, 0, 0),
        ("INVF", -1, 0, 2, 0),
    ]
    held = {"alice": names, "bob": [("BTC", 1, 1, 0, 0)], "carol": [("QUIET", 0, 0, 0, 0), ("MONEY", 0, -1, 0, 0)]}
    number_of = {(int(universe.instrument_arrays.venue[i]), name): i for i, name in enumerate(universe.instrument_names)}
    priceless, without_cash = ("INV", "QUIET", "BUYS", "SELLS"), ("FUT", "QUIET", "BUYS", "SELLS", "DEBT", "INVF")
    nan, cash_unit = np.nan, universe.instrument_arrays.cash_unit
    for account, positions in held.items():
        a = book.accounts.numbers[account]
        columns.positions[a] = len(positions)
        for slot, (name, lots, cash, buys, sells) in enumerate(positions):
            i = number_of[venue_of.get(name, pool_number), name.removeprefix("EX-")]
            columns.instrument[a, slot], columns.quantity[a, slot], columns.cash[a, slot] = i, lots, cash
            columns.pending[columns.pending_row[a], slot] = (buys, sells, 0)
            tables.instrument_float[i, [UNIT_LONG, UNIT_SHORT]] = (nan, nan) if name in priceless else (3.0, 5.0)
            tables.instrument_float[i, CASH_VALUE] = 0.25
            tables.instrument_int[i, [UNIT_UNKNOWN, CASH_UNKNOWN]] = name in priceless, name in without_cash
    book.market.values.debt_index[number_of[pool_number, "DEBT"]] = 1.25
    holders, found = legs_at(pool_number, np.array([0, 1, 2]), book.accounts, book.market)
    assert holders.tolist() == [0, 1, 2]
    assert found.legs.start.tolist() == [0, 11, 13, 14]
    unit = {name: float(cash_unit[number_of[pool_number, name]]) for name in ("PERP", "CALL", "INV", "MONEY", "BTC", "ETH/BTC")}
    btc, eth, usd = 100_000.0, 4_000.0, 1.0
    # instrument, contract, asset, quote, units, cash, cash_usd, mark_usd, value_usd, entry_usd, buys, sells
    rows: list[tuple[str | float, ...]] = [
        ("PERP", "perpetual", "BTC", "USD", 1.0, unit["PERP"], 0.25, btc, 3_000.25, -0.25, 0.0, 0.0),
        ("FUT", "future", "BTC", "USD", -1.0, 0.0, 0.0, btc, -5_000.0, 0.0, 0.0, 0.0),
        ("CALL", "option", "BTC", "USD", 0.5, -unit["CALL"], -0.25, btc, 2.75, 0.5, 0.0, 0.0),
        ("INV", "inverse_perpetual", "BTC", "BTC", 0.0, unit["INV"], 0.25, btc, 0.25, nan, 0.0, 0.0),
        ("BUYS", "perpetual", "ETH", "USD", 0.0, 0.0, 0.0, eth, 0.0, nan, 0.25, 0.0),
        ("SELLS", "perpetual", "ETH", "USD", 0.0, 0.0, 0.0, eth, 0.0, nan, 0.0, 0.25),
        ("DEBT", "loan", "STB", "USD", -0.0125, 0.0, 0.0, usd, -5.0, nan, 0.0, 0.0125),
        ("ETH/BTC", "spot", "ETH", "BTC", -0.5, 0.0, 0.0, eth, -5.0, nan, 0.0, 0.0),
        ("MONEY", "spot", "USD", "USD", 1.0 + unit["MONEY"] - unit["BTC"], 0.0, 0.0, usd, 3.0, nan, 0.0, 0.0),
        ("INVF", "inverse_future", "BTC", "BTC", -0.001, 0.0, 0.0, btc, -5.0, 0.0, 0.002, 0.0),
        ("ETH/BTC", "spot", "BTC", "BTC", unit["ETH/BTC"], 0.0, 0.0, btc, 0.25, nan, 0.0, 0.0),
        ("BTC", "spot", "BTC", "USD", 0.001, 0.0, 0.0, btc, 3.0, nan, 0.0, 0.0),
        ("BTC", "spot", "USD", "USD", unit["BTC"], 0.0, 0.0, usd, 0.25, nan, 0.0, 0.0),
        ("MONEY", "spot", "USD", "USD", -unit["MONEY"], 0.0, 0.0, usd, -0.25, nan, 0.0, 0.0),
    ]
    legs = found.legs
    assert [found.instruments[one] for one in legs.instrument] == [row[0] for row in rows]
    assert [CONTRACTS[one] for one in legs.contract] == [row[1] for row in rows]
    assert [found.assets[one] for one in legs.asset] == [row[2] for row in rows]
    assert [found.assets[one] for one in legs.quote] == [row[3] for row in rows]
    numbers = (legs.units, legs.cash, legs.cash_usd, legs.mark_usd, legs.value_usd, legs.entry_usd, legs.buys, legs.sells)
    for column, values in enumerate(numbers, start=4):
        np.testing.assert_allclose(values, np.array([row[column] for row in rows], np.float64), rtol=1e-12, atol=1e-12)
    dated = [row[0] in ("FUT", "CALL", "INVF") for row in rows]
    np.testing.assert_allclose(legs.years, np.where(dated, 0.2, 0.0), rtol=1e-6)
    assert legs.strike_usd.tolist() == [90_000.0 if row[0] == "CALL" else 0.0 for row in rows]
    assert legs.is_call[[2, 10, 12]].tolist() == [True, False, False]
    assert np.isnan(legs.sigma[[10, 12]]).all(), "cash has no volatility"


def test_nothing_of_a_contract_without_a_price_is_nothing() -> None:
    book, log = a_book()
    define(log, instrument("INV", "inverse_perpetual", "BTC", 100.0, 0.5, quote="BTC"))
    log.trade("alice", "pool", "INV", 1_000, 200_000)
    log.trade("alice", "pool", "INV", -1_000, 210_000)  # its cash is left
    book.market.marks.status[book.market.universe.asset_number("BTC")] = 1
    venue = book.market.universe.venue_number("pool")
    assert venue is not None
    _, held = legs_at(venue, np.array([0]), book.accounts, book.market)
    assert np.isnan(held.legs.mark_usd).all()
    assert held.legs.units.tolist() == [0.0]


def test_room_is_made_for_what_is_held_at_the_venue() -> None:
    book, log = a_book()
    borrow(log)
    borrow(log, "bob")
    universe, numbers = book.market.universe, np.arange(2)
    for name, slots in (("pool", 4), ("ex", 2), ("sx", 0)):
        venue = universe.venue_number(name)
        assert venue is not None
        assert venue_legs._count_slots(venue, numbers, book.accounts.columns, universe.instrument_arrays) == slots


def test_cash_of_a_balance_is_a_balance_of_its_quote() -> None:
    """What was paid for a coin is owed, or taken from the dollars that are there; what a coin was sold for is held."""
    book, log = a_book()
    venue = book.market.universe.venue_number("ex")
    assert venue is not None

    def held(account: str) -> dict[str, Any]:
        _, legs = legs_at(venue, np.array([book.accounts.numbers[account]]), book.accounts, book.market)
        assert legs.legs.cash.tolist() == [0.0] * len(legs.legs.units)
        names = [legs.assets[asset] for asset in legs.legs.asset]
        assert len(set(names)) == len(names)
        return dict(zip(names, zip(legs.legs.units.tolist(), legs.legs.value_usd.tolist(), strict=True), strict=True))

    log.trade("alice", "ex", "BTC", 2_000, 90_000)
    assert held("alice") == {"BTC": (2.0, pytest.approx(200_000.0)), "USD": (-180_000.0, pytest.approx(-180_000.0))}
    log.trade("alice", "ex", "ETH", 100, 40_000)
    assert held("alice")["USD"][0] == pytest.approx(-184_000.0)
    log.deposit("alice", 200_000.0)
    log.trade("alice", "ex", "BTC", -2_000, 100_000)
    assert held("alice") == {"ETH": (1.0, pytest.approx(4_000.0)), "USD": (216_000.0, pytest.approx(216_000.0))}
    assert sum(value for _, value in held("alice").values()) == pytest.approx(book.accounts.columns.health[0, UNHAIRCUT])


def test_marks_that_are_in_doubt_value_nothing() -> None:
    """Sources apart leave a number in the books, which nobody vouches for: of coins, of cash in them, and of what is borrowed."""
    book, log = a_book({"breakers_enabled": True, "mad_floor_bps": 2_000.0})
    define(
        log,
        instrument("ETH/BTC", "spot", "ETH", 0.01, 1e-6, quote="BTC"),
        instrument("INV", "inverse_perpetual", "BTC", 100.0, 0.5, quote="BTC"),
    )
    log.deposit("alice", 1_000_000.0)
    log.trade("alice", "pool", "ETH/BTC", 100, 40_000)
    log.trade("alice", "pool", "INV", 1_000, 200_000)
    log.trade("alice", "pool", "INV", -1_000, 210_000)  # its cash is left
    borrow(log, "bob")
    universe = book.market.universe
    venue = universe.venue_number("pool")
    assert venue is not None
    numbers = np.array([book.accounts.numbers[name] for name in ("alice", "bob")])

    def valued() -> dict[str, bool]:
        _, held = legs_at(venue, numbers, book.accounts, book.market)
        names = [f"{held.assets[asset]} of {held.instruments[i]}" for asset, i in zip(held.legs.asset, held.legs.instrument, strict=True)]
        return dict(zip(names, np.isfinite(held.legs.value_usd).tolist(), strict=True))

    assert set(valued()) == {"ETH of ETH/BTC", "BTC of INV", "BTC of ETH/BTC", "BTC of BTC", "STB of DEBT"}
    assert all(valued().values())
    log.tick(1)
    log.prices({"BTC": 110_000.0}, ["one"])
    assert np.isfinite(book.market.marks.mark[universe.asset_number("BTC")])
    assert valued() == {name: not name.startswith("BTC") for name in valued()}
    assert leg(book, "bob").unknown == "unvalued"


def test_debts_are_with_their_interest() -> None:
    """7,000,000 lots of a cent; the index has grown by a tenth."""
    book, log = a_book()
    borrow(log)
    measure = Funding(v=1, venue="pool", instrument="DEBT", measure="interest_index", value=1.1, time_ns=log.now_ns)
    log.control(FrameKind.FUNDINGS, "market.funding", [measure])
    assert leg(book).distance == pytest.approx(1 - 77 / 80)
    assert leg(book).verdict == "near"


def test_what_is_not_sure_is_said_before_what_is_not_taken() -> None:
    book, log = a_book()
    borrow(log)
    log.trade("alice", "pool", "PERP", 1, 100_000)
    assert leg(book).unknown == "not_taken"
    log.refused_fill("alice", "pool", 99)
    assert leg(book).unknown == "account"


@pytest.mark.parametrize(
    ("why", "line"),
    [
        ("not_taken", "has no number by aave_v3: the rule does not cover what it holds there"),
        ("account", "has no number by aave_v3: it is not sure what the account holds"),
        ("unvalued", "has no number by aave_v3: a mark or a volatility is not known"),
    ],
)
def test_a_leg_without_a_number_says_why(why: str, line: str) -> None:
    book, log = a_book()
    borrow(log)
    if why == "not_taken":
        log.trade("alice", "pool", "PERP", 1, 100_000)
    elif why == "account":
        log.refused_fill("alice", "pool", 3)
    else:
        log.tick(3_600)
    book.take_cut()
    assert (leg(book).unknown, leg(book).verdict, leg(book).distance) == (why, "unknown", None)
    report = explain_account(book, "alice")
    assert report is not None
    assert line in report.local[0]
    assert (len(report.local) > 1) == (why == "not_taken")


def test_a_rule_that_fails_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    book, log = a_book()
    borrow(log)

    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("a share\n of nothing")

    assert (book.legs.failures.sum(), book.legs.faults) == (0, {})
    monkeypatch.setattr(venue_legs, "margins", fail)
    assert look(log, 80_000.0) == []
    (told,) = [health.legs for health in book.take_cut().health if health.account == "alice"]
    assert (told[0].unknown, told[0].verdict) == ("fault", "unknown")
    venue = book.market.universe.venue_number("pool")
    assert venue is not None
    fault = book.legs.faults[venue]
    assert fault.startswith(f"ZeroDivisionError: a share of nothing ({__name__}, line ")
    assert (book.legs.failures[venue], book.legs.failures.sum()) == (1, 1)
    report = explain_account(book, "alice")
    assert report is not None
    assert report.local == [
        "whole portfolio healthy, leg at venue pool has no number by aave_v3: the rule could not be computed",
        fault,
    ]
    monkeypatch.undo()
    look(log, 80_000.0)
    assert book.legs.failures[venue] == 1
    assert explain_account(book, "alice").local[1:] == []  # type: ignore[union-attr]


def test_what_a_rule_failed_with_is_one_short_line() -> None:
    with pytest.raises(ValueError, match="x") as raised:
        int("x" * 1_000)
    text = venue_legs.fault_text(raised.value)
    assert len(text) == venue_legs.FAULT_TEXT_MAX == 240
    assert text.endswith(")")
    assert venue_legs.fault_text(ValueError("never raised")) == "ValueError: never raised"


# ---- calls ------------------------------------------------------------------------------------------------------------------------------


def test_a_leg_near_its_venues_liquidation_is_called_once_and_again_when_it_is_past() -> None:
    book, log = a_book()
    borrow(log)
    assert look(log, 100_000.0) == []
    (near,) = look(log, 92_000.0)
    assert (near.account, near.venue, near.cause, near.state) == ("alice", "pool", "venue", "HEALTHY")
    assert near.distance == pytest.approx(1 - 70_000 / 73_600)
    assert near.equity_usd == pytest.approx(22_000.0)
    assert near.shortfall_usd == 0.0
    assert near.grace_until_ns == 0, "nobody closes anything there"
    assert look(log, 91_000.0) == []
    (past,) = look(log, 80_000.0)
    assert past.distance == pytest.approx(1 - 70_000 / 64_000)
    assert past.shortfall_usd > 0.0
    assert look(log, 92_000.0) == [], "it is near again, and was called already"
    assert look(log, 94_000.0) == [], "0.069: not far enough for the call to be over"
    assert look(log, 91_000.0) == []
    assert look(log, 100_000.0) == []
    assert len(look(log, 92_000.0)) == 1, "the call before was over"
    assert book.lives[book.accounts.numbers["alice"]].local == [(book.market.universe.venue_number("pool"), NEAR)]


@pytest.mark.parametrize(
    ("before", "distance", "now"),
    [
        (CLEAR, 0.05, CLEAR),
        (CLEAR, np.nextafter(0.05, 0.0), NEAR),
        (CLEAR, 0.0, NEAR),
        (CLEAR, np.nextafter(0.0, -1.0), PAST),
        (CLEAR, -np.inf, PAST),
        (NEAR, 0.08, NEAR),
        (NEAR, np.nextafter(0.08, 1.0), CLEAR),
        (PAST, 0.01, PAST),
        (PAST, np.inf, CLEAR),
        (CLEAR, np.nan, CLEAR),
        (PAST, np.nan, PAST),
    ],
)
def test_a_calls_level_only_rises_until_it_is_over(before: int, distance: float, now: int) -> None:
    book, _ = a_book({"venue_call_distance": 0.05, "venue_clear_distance": 0.08})
    assert venue_legs._level(before, distance, book.market) == now


def test_a_level_that_changes_is_told() -> None:
    book, log = a_book({"health_publish_bps": 10_000.0})
    borrow(log)
    look(log, 93_000.0)
    book.take_cut()
    assert book.take_cut().health == []
    look(log, 92_000.0)
    (health,) = book.take_cut().health
    assert (health.account, health.legs[0].verdict) == ("alice", "near")
    look(log, 92_000.0)
    assert book.take_cut().health == [], "nothing of it is new"


def test_legs_that_moved_are_told_however_still_the_whole_is() -> None:
    """Another threshold of the pool changes nothing of our own numbers."""
    book, log = a_book()
    borrow(log)
    look(log, 100_000.0)
    book.take_cut()
    reserves = POOL_RULE.parameters["reserves"]
    for threshold, distances in ((0.8005, []), (0.84, [1 - 70 / 84]), (0.84, []), (None, [])):
        rule = (
            None
            if threshold is None
            else VenueRule(rule="aave_v3", parameters={"reserves": [{**reserves[0], "liquidation_threshold": threshold}, reserves[1]]})
        )
        define(log, pool(rule))
        look(log, 100_000.0)
        told = [health for health in book.take_cut().health if health.account == "alice"]
        assert [one.distance for health in told for one in health.legs] == pytest.approx(distances)
        assert (told != []) == (bool(distances) or rule is None)


def test_a_leg_that_loses_its_number_and_gets_it_back_is_told() -> None:
    book, log = a_book()
    borrow(log)
    look(log, 100_000.0)
    book.take_cut()
    reserves = POOL_RULE.parameters["reserves"]
    tokens = [{**EXAMPLES["mango_v4"]["tokens"][1], "name": name} for name in ("BTC", "STB")]
    for rule, unknown in (
        (VenueRule(rule="aave_v3", parameters={"reserves": reserves[1:]}), "not_taken"),
        (VenueRule(rule="mango_v4", parameters={"tokens": tokens}), "lacking"),
        (POOL_RULE, ""),
    ):
        define(log, pool(rule))
        look(log, 100_000.0)
        assert [health.legs[0].unknown for health in book.take_cut().health] == [unknown]
        look(log, 100_000.0)
        assert book.take_cut().health == []


def test_what_is_compared_of_an_accounts_legs() -> None:
    """The nearest, the sum of all sizes, the sum of reasons: over its venues, and nothing of another account."""
    nan = np.nan
    one = np.array([[-1.0, -2.0, -4.0, 0.5], [1.0, 2.0, 4.0, 0.25], [nan, nan, nan, nan]]), np.array([0, 0, 3], np.int8)
    other = np.array([[8.0, 16.0, 32.0, 0.375], [nan, nan, nan, nan], [nan, nan, nan, nan]]), np.array([0, 1, 2], np.int8)
    found = [VenueRows(0, np.array([3, 5, 8]), *one), VenueRows(1, np.array([3, 5, 8]), *other)]
    summary = venue_legs._summary(found, np.array([3, 5, 8, 9]))
    assert summary.near.tolist() == [0.375, 0.25, np.inf, np.inf]
    assert summary.size_usd.tolist() == [63.0, 7.0, 0.0, 0.0]
    unknown = venue_legs._UNKNOWNS
    assert summary.unknown.tolist() == [0, unknown[1, 1], np.array([unknown[0, 3], unknown[1, 2]]).sum(), 0]


def test_legs_without_a_number_do_not_add_up_to_others() -> None:
    """Every way in which up to three of the venues lack a number for a reason has a number of its own; none is that of no such leg."""
    unknown = venue_legs._UNKNOWNS
    assert unknown.shape == (VENUES_MAX, len(venue_legs.NoNumber))
    assert not unknown[:, 0].any()
    with np.errstate(over="ignore"):
        singles = unknown[:, 1:]
        pairs = [singles[a][:, None] + singles[b][None, :] for a, b in combinations(range(VENUES_MAX), 2)]
        threes = [
            singles[a][:, None, None] + singles[b][None, :, None] + singles[c][None, None, :] for a, b, c in combinations(range(16), 3)
        ]
    sums = np.concatenate([np.zeros(1, np.int64), *(one.ravel() for one in (singles, *pairs, *threes))])
    assert len(np.unique(sums)) == len(sums)


def test_verdicts_at_their_bounds() -> None:
    distances = np.array([0.1, 0.05, np.nextafter(0.05, 0.0), 0.0, -0.0, np.nextafter(0.0, -1.0), np.nan, np.inf, -np.inf])
    expected = [CLEAR, CLEAR, NEAR, NEAR, NEAR, PAST, UNKNOWN, CLEAR, PAST]
    assert venue_legs.verdicts(distances, 0.05).tolist() == expected


def test_why_there_is_no_number_is_kept_as_a_number() -> None:
    """Where a leg has none is told by it: another number is another meaning."""
    assert [(why.name, why.value) for why in venue_legs.NoNumber] == [
        ("NONE", 0),
        ("ACCOUNT", 1),
        ("NOT_TAKEN", 2),
        ("LACKING", 3),
        ("UNVALUED", 4),
        ("FAULT", 5),
    ]


def test_a_leg_without_a_number_hides_no_other() -> None:
    """An exchange by a rule that does not take what is held there; the pool's leg is told of all the same, and once."""
    book, log = a_book()
    borrow(log)
    define(log, VenueDefinition(v=1, name="ex", chain="north", fee_bps=5, rule=POOL_RULE, time_ns=T0))
    look(log, 100_000.0)
    reserves = POOL_RULE.parameters["reserves"]
    for threshold, told in ((0.8, 1), (0.8, 0), (0.84, 1), (0.84, 0)):
        changed = {"reserves": [{**reserves[0], "liquidation_threshold": threshold}, reserves[1]]}
        define(log, pool(VenueRule(rule="aave_v3", parameters=changed)))
        look(log, 100_000.0)
        healths = book.take_cut().health
        assert len(healths) == told, threshold
        for health in healths:
            assert [leg.unknown for leg in health.legs] == ["not_taken", ""]
            assert health.legs[1].distance == pytest.approx(1 - 70 / (100 * threshold))


@pytest.mark.parametrize(
    ("told", "now", "moved"),
    [
        (0.0, 0.001, False),
        (0.5, 0.5009, False),
        (0.5, 0.5011, True),
        (-0.5, -0.5011, True),
        (2e9, 2.001e9, False),
        (2e9, 2.1e9, True),
        (2e9, 0.04, True),
        (-2e9, 2e9, True),
        (np.inf, np.inf, False),
        (np.inf, 2e9, True),
        (2e9, np.inf, True),
        (np.inf, -np.inf, True),
        (1_000.0, 1_001.0005, True),  # of the nearer one
        (1_001.0005, 1_000.0, True),
        (-1_000.0, -1_000.5, False),
        (-1_000.0, -1_001.5, True),
    ],
)
def test_how_far_a_distance_must_move_to_be_told(told: float, now: float, moved: bool) -> None:
    """Beside dust a distance is in the billions, and would be told at each look."""
    book, log = a_book()
    borrow(log)
    numbers = np.array([book.accounts.numbers["alice"]])
    columns = book.accounts.columns
    (rows,) = venue_rows(numbers, book.accounts, book.market)
    rows.out[:, DISTANCE] = told
    venue_legs.note_told([rows], numbers, columns)
    rows.out[:, DISTANCE] = now
    assert venue_legs._moved([rows], numbers, columns, 0.001).tolist() == [moved]


def test_sizes_that_move_are_told_where_the_distance_does_not() -> None:
    book, log = a_book()
    borrow(log)
    numbers = np.array([book.accounts.numbers["alice"]])
    (rows,) = venue_rows(numbers, book.accounts, book.market)
    venue_legs.note_told([rows], numbers, book.accounts.columns)
    for factor, moved in ((1.0009, False), (1.0010005, False), (1.0011, True), (0.9991, False), (0.9989, True)):
        sized = rows._replace(out=np.where(np.arange(rows.out.shape[1]) == DISTANCE, rows.out, factor * rows.out))
        assert venue_legs._moved([sized], numbers, book.accounts.columns, 0.001).tolist() == [moved]


def test_without_a_number_a_call_stays_as_it_is() -> None:
    book, log = a_book()
    borrow(log)
    assert len(look(log, 92_000.0)) == 1
    for _ in range(LOOK_SECONDS):
        log.tick(60)
    assert leg(book).verdict == "unknown"
    assert look(log, 92_000.0) == []
    assert len(look(log, 80_000.0)) == 1


def test_each_account_is_looked_at_in_its_own_second() -> None:
    book, log = a_book()
    names = [f"account-{k}" for k in range(40)]
    for name in names:
        borrow(log, name)
    log.tick(1)
    log.prices({"BTC": 92_000.0, "STB": 1.0})
    called: dict[str, int] = {}
    for _ in range(2 * LOOK_SECONDS):
        found = [call.account for call in calls(log.tick(1))]
        assert found == sorted(found)
        for name in found:
            assert name not in called
            called[name] = book.clock_ns // 1_000_000_000 % LOOK_SECONDS
    assert called == {name: crc32(name.encode()) % LOOK_SECONDS for name in names}
    assert len(set(called.values())) > LOOK_SECONDS // 2


def test_nobody_is_looked_at_before_parameters_are_in_force() -> None:
    book = Book(0, 1)
    log = Log(book)
    define(log, *definitions(), pool(), instrument("BTC", "spot", "BTC", 0.001, 1.0), instrument("DEBT", "loan", "STB", 0.01, 0.01))
    log.tick()
    borrow(log)
    assert look(log, 80_000.0) == []
    assert not book.market.live
    assert book.legs.counts.sum() == 0


def test_which_seconds_are_due() -> None:
    """Those after the last look's, no more than all; a clock that stands still or goes back has none, nor does it count twice."""
    book, _ = a_book()
    watch, second_ns = venue_legs.LegWatch(book.accounts, book.lives), 1_000_000_000

    def due(clock_ns: int) -> list[int]:
        return np.flatnonzero(watch._take_due(SimpleNamespace(clock_ns=clock_ns))).tolist()  # type: ignore[arg-type]

    assert due(second_ns - 1) == []
    assert due(second_ns) == [1]
    assert due(4 * second_ns) == [2, 3, 4]
    assert due(3 * second_ns) == []
    assert due(5 * second_ns - 1) == []
    assert due(19 * second_ns) == list(range(LOOK_SECONDS))
    assert due(34 * second_ns) == list(range(LOOK_SECONDS))
    assert due(48 * second_ns) == [second for second in range(LOOK_SECONDS) if second != 34 % LOOK_SECONDS]


def test_a_tick_that_skips_seconds_looks_at_all_of_them() -> None:
    _, log = a_book({"clock_step_max_s": 3_600.0})
    names = [f"account-{k}" for k in range(40)]
    for name in names:
        borrow(log, name)
    log.tick(1)
    log.prices({"BTC": 92_000.0, "STB": 1.0})
    few = [call.account for call in calls(log.tick(4))]
    assert 0 < len(few) < 40
    assert sorted([*few, *(call.account for call in calls(log.tick(40)))]) == sorted(names)


def test_a_call_is_over_with_its_leg_and_with_its_rule() -> None:
    book, log = a_book()
    borrow(log)
    borrow(log, "bob")
    assert len(look(log, 92_000.0)) == 2
    log.trade("bob", "pool", "BTC", -1_000, kind="transfer")
    log.trade("bob", "pool", "DEBT", 7_000_000, kind="transfer")
    assert look(log, 92_000.0) == []
    assert book.accounts.numbers["bob"] not in book.lives
    assert book.accounts.numbers["alice"] in book.lives
    assert faults(define(log, pool(None))) == []
    assert look(log, 80_000.0) == []
    assert book.lives == {}
    assert [health.legs for health in book.take_cut().health] == [[], []]
    assert book.legs.counts.sum() == 0


# ---- for those who look -----------------------------------------------------------------------------------------------------------------


def test_legs_are_counted_by_verdict_and_whole() -> None:
    book, log = a_book()
    venue = book.market.universe.venue_number("pool")
    assert venue is not None
    borrow(log)
    borrow(log, "bob", debt_usd=75_000.0)
    borrow(log, "carol", debt_usd=79_000.0, elsewhere_usd=0.0)  # all that it has is here
    borrow(log, "dave")
    log.trade("dave", "pool", "PERP", 1, 100_000)
    look(log, 97_000.0)
    other, healthy = book.legs.counted(venue).tolist()
    assert (healthy[CLEAR], healthy[NEAR], healthy[PAST], healthy[UNKNOWN]) == (1, 1, 0, 1)
    assert (other[CLEAR], other[NEAR], other[PAST], other[UNKNOWN]) == (0, 0, 1, 0)


def test_a_line_says_how_far_it_is() -> None:
    numbers: dict[str, Any] = {"venue": "pool", "rule": "aave_v3", "equity_usd": 1.0, "initial_usd": 1.0, "maintenance_usd": 1.0}

    def line(distance: float | None, verdict: str, measure: str = "health_factor") -> str:
        return in_words(State.HEALTHY, VenueLeg(**numbers, distance=distance, verdict=verdict), measure)

    whole = "whole portfolio healthy, leg at venue pool is "
    assert line(0.032, "near") == f"{whole}3.2% of its collateral from that venue's liquidation"
    assert line(-0.25, "past", "margin") == f"{whole}25.0% of its notional past that venue's liquidation"
    assert line(None, "clear") == f"{whole}far from that venue's liquidation"
    assert line(None, "past") == f"{whole}past that venue's liquidation"


# ---- restored ---------------------------------------------------------------------------------------------------------------------------


def test_a_restored_book_looks_and_calls_as_the_one_before() -> None:
    """At each of the seconds of a period: the same calls from there on, whatever the numbers of the accounts are now."""
    for stop in range(LOOK_SECONDS):
        book, log = a_book()
        for name in ("zoe", "alice", "mia", "bob"):
            borrow(log, name, debt_usd=70_000.0 + 500.0 * len(name))
        log.tick(0.001)
        log.prices({"BTC": 92_000.0, "STB": 1.0})
        before = [call for _ in range(stop) for call in calls(log.tick(1))]
        rows = {key: value for key, value in book.take_cut().rows if value is not None}
        restored = Book(0, 1)
        restored.restore(rows.items())
        after = []
        for _ in range(LOOK_SECONDS):
            found = calls(log.tick(1))
            assert calls(restored.apply(len(log.frames) - 1, log.frames[-1])) == found
            after += found
        assert sorted(call.account for call in [*before, *after]) == ["alice", "bob", "mia", "zoe"]
        assert sorted(row for row in book.take_cut().rows if row[0] in rows) == sorted(
            row for row in restored.take_cut().rows if row[0] in rows
        )


def test_a_call_that_was_restored_is_over_as_the_one_before() -> None:
    """And is not told again, nor lost: by what the rows say alone."""
    book, log = a_book()
    borrow(log)
    look(log, 100_000.0)
    rows = dict(book.take_cut().rows)
    assert len(look(log, 92_000.0)) == 1
    rows |= dict(book.take_cut().rows)  # the call alone has changed the account's
    restored = Book(0, 1)
    restored.restore([(key, value) for key, value in rows.items() if value is not None])
    for btc_usd, levels in ((91_000.0, [NEAR]), (100_000.0, [])):
        first = len(log.frames)
        assert look(log, btc_usd) == []
        for offset in range(first, len(log.frames)):
            assert calls(restored.apply(offset, log.frames[offset])) == []
        for one in (book, restored):
            assert [level for life in one.lives.values() for _, level in life.local] == levels


def test_numbers_are_mixed_as_splitmix64_does() -> None:
    """Its first three outputs from the seed 0, of https://prng.di.unimi.it/splitmix64.c, as signed numbers."""
    known = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F)
    mixed = venue_legs._mixed(np.arange(3, dtype=np.uint64))
    assert mixed.view(np.uint64).tolist() == list(known)
    assert (mixed < 0).tolist() == [True, False, False]
