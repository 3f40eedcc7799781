"""What is refused or lost of an account's own makes it UNKNOWN(missed_fill) at once, until it comes after all or a snapshot settles it."""

from typing import Any

import pytest

from engine.effects import Decision
from engine.inputs import AnyDefinition, FrameKind, InstrumentDefinition, VenueDefinition
from engine.monitor import Book
from engine.reasons import State, Unknown
from tests.small_world import SECOND, T0, Log
from tests.unit.test_monitor import a_book, outcomes, positions, refusals, state

MISSED = (State.UNKNOWN, Unknown.MISSED_FILL)
HEALTHY = (State.HEALTHY, Unknown.NONE)


def restored(book: Book, log: Log) -> None:
    """The book goes on, and beside it one that was restored here; what they cut at the end must be the same."""
    first = Book(0, 1)
    for offset, frame in enumerate(log.frames):
        first.apply(offset, frame)
    rows = {key: value for key, value in first.take_cut().rows if value is not None}
    successor = Book(0, 1)
    successor.restore(rows.items())
    log.machines += [first, successor]
    assert book is log.machines[0]


def same(log: Log) -> None:
    """All machines but the first have cut at the same places, so they must have changed the same rows."""
    cuts = [machine.take_cut() for machine in log.machines[1:]]
    assert len(cuts) == 2
    assert cuts[0].rows == cuts[1].rows


def venues(*names: str) -> list[AnyDefinition]:
    """Venues on the northern chain, each with dollars."""
    made: list[AnyDefinition] = []
    for name in names:
        made.append(VenueDefinition(v=1, name=name, chain="north", time_ns=T0))
        made.append(
            InstrumentDefinition(
                v=1, venue=name, name="USD", contract="spot", underlying="USD", lot_size=1.0, tick_size=0.01, tradable=False, time_ns=T0
            )
        )
    return made


def define(log: Log, *definitions: AnyDefinition) -> Any:
    return log.control(FrameKind.DEFINITIONS, "market.instruments", list(definitions))


def pay(log: Log, account: str, venue: str, sequence: int) -> Any:
    """A million cash units, a dollar."""
    return log.trade(account, venue, "USD", 0, kind="funding", cash=1_000_000, sequence=sequence)


# ---- fills that a book refuses --------------------------------------------------------------------------------------------------------


def test_fills_of_a_venue_that_is_not_defined_are_missed_until_they_are_redriven() -> None:
    book, log = a_book()
    for sequence in (1, 2):
        assert refusals(pay(log, "alice", "new", sequence)) == [("venue.fills", "unknown_venue", sequence - 1)]
        assert state(book, "alice") == MISSED
    restored(book, log)
    define(log, *venues("new"))
    assert state(book, "alice") == MISSED
    pay(log, "alice", "new", 1)
    assert state(book, "alice") == MISSED
    pay(log, "alice", "new", 2)
    assert state(book, "alice") == HEALTHY
    assert positions(book, "alice") == {("new", "USD"): (0, 2_000_000)}
    same(log)


def test_once_a_later_fill_is_taken_the_refused_ones_are_holes() -> None:
    book, log = a_book()
    pay(log, "alice", "new", 1)
    define(log, *venues("new"))
    pay(log, "alice", "new", 2)
    assert state(book, "alice") == MISSED
    assert book.lives[0].missed == []
    pay(log, "alice", "new", 1)
    assert state(book, "alice") == HEALTHY


def test_a_snapshot_settles_only_what_it_knows_of() -> None:
    book, log = a_book()
    pay(log, "alice", "new", 5)
    define(log, *venues("new"))
    log.snapshot("alice", "new", 4, {"USD": (0, 3_000_000)})
    assert state(book, "alice") == MISSED
    restored(book, log)
    log.snapshot("alice", "ex", 0, {})
    assert state(book, "alice") == MISSED
    log.snapshot("alice", "new", 5, {"USD": (0, 4_000_000)})
    assert state(book, "alice") == HEALTHY
    assert positions(book, "alice") == {("new", "USD"): (0, 4_000_000)}
    assert refusals(pay(log, "alice", "new", 5)) == [("venue.fills", "duplicate", 1)]
    same(log)


def test_a_venue_that_never_was_is_settled_by_an_empty_snapshot() -> None:
    book, log = a_book()
    log.deposit("alice", 1.0)
    pay(log, "alice", "xe", 9)
    assert refusals(log.snapshot("alice", "xe", 9, {"USD": (0, 1)})) == [("account.snapshots", "unknown_venue", 0)]
    assert refusals(log.snapshot("alice", "ax", 9, {})) == [("account.snapshots", "unknown_venue", 1)]
    assert refusals(log.snapshot("alice", "xe", 8, {})) == []
    assert state(book, "alice") == MISSED
    log.snapshot("alice", "xe", 9, {})
    assert state(book, "alice") == HEALTHY


def test_a_ninth_venue_lives_by_snapshots() -> None:
    book, log = a_book()
    names = [f"venue-{k}" for k in range(9)]
    define(log, *venues(*names))
    for name in names[:8]:
        pay(log, "alice", name, 1)
    assert state(book, "alice") == HEALTHY
    assert refusals(log.snapshot("alice", names[8], 0, {})) == [("account.snapshots", "too_many", 0)]
    assert refusals(pay(log, "alice", names[8], 1)) == [("venue.fills", "too_many", 8)]
    assert state(book, "alice") == MISSED
    restored(book, log)
    log.snapshot("alice", names[8], 1, {"USD": (0, 7)})
    assert state(book, "alice") == HEALTHY
    assert positions(book, "alice")[names[8], "USD"] == (0, 7)
    assert refusals(pay(log, "alice", names[8], 2)) == [("venue.fills", "too_many", 9)]
    assert state(book, "alice") == MISSED
    same(log)


def test_so_many_names_are_kept_of_what_was_missed() -> None:
    book, log = a_book()
    log.deposit("alice", 1.0)
    for k in range(12):
        pay(log, "alice", f"nowhere-{k:02d}", 1)
    assert [name for name, _ in book.lives[0].missed] == ["", *(f"nowhere-{k:02d}" for k in range(8))]
    restored(book, log)
    log.snapshot("alice", "ex", 1, {"USD": (0, 1_000_000)})
    for k in range(8):
        assert state(book, "alice") == MISSED
        log.snapshot("alice", f"nowhere-{k:02d}", 1, {})
    assert state(book, "alice") == HEALTHY
    same(log)


# ---- fills that ingest refused --------------------------------------------------------------------------------------------------------


def test_a_fill_that_ingest_refused_leaves_its_number_missing() -> None:
    book, log = a_book()
    pay(log, "alice", "ex", 1)
    assert log.refused_fill("alice", "ex", 2).now == []
    assert state(book, "alice") == MISSED
    restored(book, log)
    log.refused_fill("alice", "ex", 2)
    log.refused_fill("alice", "ex", 1)
    assert refusals(pay(log, "alice", "ex", 1)) == [("venue.fills", "duplicate", 4)]
    pay(log, "alice", "ex", 2)
    assert state(book, "alice") == HEALTHY
    log.refused_fill("alice", "ex", 2)  # a copy that was garbled on its way
    assert state(book, "alice") == HEALTHY
    same(log)


def test_of_garbage_an_account_is_made_only_where_its_first_numbers_are_missing() -> None:
    book, log = a_book()
    for venue, sequence in (("", -1), ("ex", -1), ("", 3), ("nowhere", 1), ("ex", 65)):
        log.refused_fill("bob", venue, sequence)
    assert "bob" not in book.accounts.numbers
    log.refused_fill("bob", "ex", 2)
    assert state(book, "bob") == MISSED
    pay(log, "bob", "ex", 1)
    assert state(book, "bob") == MISSED
    pay(log, "bob", "ex", 2)
    assert state(book, "bob") == HEALTHY


@pytest.mark.parametrize(("venue", "sequence"), [("", -1), ("ex", -1), ("ex", 66), ("ex", 2**62)])
def test_where_no_number_can_be_believed_a_snapshot_settles_it_and_fills_go_on(venue: str, sequence: int) -> None:
    book, log = a_book()
    pay(log, "alice", "ex", 1)
    log.refused_fill("alice", venue, sequence)
    assert state(book, "alice") == MISSED
    restored(book, log)
    assert refusals(pay(log, "alice", "ex", 2)) == []
    assert state(book, "alice") == MISSED
    log.snapshot("alice", "ex", 1, {"USD": (0, 1_000_000)})  # older than what was applied
    assert state(book, "alice") == MISSED
    log.snapshot("alice", "ex", 2, {"USD": (0, 2_000_000)})
    assert state(book, "alice") == HEALTHY
    assert refusals(pay(log, "alice", "ex", 3)) == []
    assert state(book, "alice") == HEALTHY
    same(log)


def test_what_was_missed_at_no_venue_any_settling_snapshot_clears() -> None:
    book, log = a_book()
    pay(log, "alice", "ex", 1)
    log.refused_fill("alice", "", -1)
    log.snapshot("alice", "sx", 3, {"USD": (0, 5)})  # an opening balance
    assert state(book, "alice") == HEALTHY
    assert positions(book, "alice") == {("ex", "USD"): (0, 1_000_000), ("sx", "USD"): (0, 5)}


# ---- credits --------------------------------------------------------------------------------------------------------------------------


def vault(asset: str, lot: float, tick: float) -> InstrumentDefinition:
    return InstrumentDefinition(v=1, venue="vault", name=asset, contract="spot", underlying=asset, lot_size=lot, tick_size=tick, time_ns=T0)


def test_a_credit_waits_until_its_instrument_is_defined() -> None:
    book, log = a_book({"breakers_enabled": True, "lag_trip_s": 100.0, "lag_reset_s": 50.0, "cooldown_s": 10.0})
    effects = log.credit("alice", "south", "SOL", 5)
    assert (outcomes(effects), refusals(effects)) == (["held"], [])
    log.credit("bob", "south", "SOL", -2)
    log.credit("alice", "east", "SOL", 1)
    assert book.accounts.numbers == {}
    restored(book, log)
    log.lag("south", 101.0)
    effects = define(log, vault("SOL", 0.1, 0.01))
    assert outcomes(effects).count("released") == 1  # what leaves does not wait for the chain
    assert positions(book, "bob") == {("vault", "SOL"): (-2, 0)}
    log.lag("south", 10.0)
    assert outcomes(log.tick(11)) == ["released"]
    assert positions(book, "alice") == {("vault", "SOL"): (5, 0)}
    same(log)


def test_a_credit_that_is_refused_is_missed_until_a_snapshot_of_its_vault() -> None:
    book, log = a_book(publish=False)
    log.credit("alice", "south", "STB", 2**62)
    assert state(book, "alice") != MISSED
    assert refusals(log.credit("alice", "south", "STB", 1)) == [("attestor", "overflow", 1)]
    assert state(book, "alice") == MISSED
    restored(book, log)
    log.snapshot("alice", "ex", 0, {})
    assert state(book, "alice") == MISSED
    for sequence in (7, 7):  # the vault's own count, if it has one
        log.snapshot("alice", "vault", sequence, {"STB": (500, 0)})
        assert state(book, "alice") == HEALTHY
        assert positions(book, "alice") == {("vault", "STB"): (500, 0)}
        log.credit("alice", "south", "STB", 2**62 - 500)
        assert refusals(log.credit("alice", "south", "STB", 1))[0][1] == "overflow"
        assert state(book, "alice") == MISSED
    same(log)


def test_a_credit_for_which_the_queue_is_full_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.held_credits.HELD_CREDITS_MAX", 1)
    book, log = a_book()
    log.credit("alice", "south", "SOL", 5)
    assert refusals(log.credit("bob", "south", "SOL", 5)) == [("attestor", "held_queue_full", 1)]
    assert state(book, "bob") == MISSED
    log.snapshot("bob", "ex", 0, {})  # no vault is known to have it, so any venue's word settles it
    assert state(book, "bob") == HEALTHY


# ---- room for accounts ----------------------------------------------------------------------------------------------------------------


def test_room_for_accounts_is_a_matter_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.book.ACCOUNTS_MAX", 3)
    book, log = a_book()
    assert refusals(log.snapshot("nobody", "nowhere", 1, {})) == [("account.snapshots", "unknown_venue", 0)]
    log.refused_fill("nobody", "", -1)
    log.report("nobody", "x", "filled")
    many = [log.fill(name, "ex", "USD", 0, kind="funding", cash=1) for name in ("alice", "bob", "alice", "carol", "dave")]
    skipped = log.fills(*many[:1])
    assert refusals(skipped) == []
    restored(book, log)
    overlapping = log.frames[-1]._replace(events=log.frames[-1].events)
    assert log.put(overlapping).skipped == 1
    assert refusals(log.fills(*many[1:])) == [("venue.fills", "too_many", 5)]
    assert sorted(book.accounts.numbers) == ["alice", "bob", "carol"]
    assert refusals(log.credit("erin", "south", "STB", 1)) == [("attestor", "too_many", 0)]
    log.refused_fill("erin", "ex", 1)
    assert sorted(book.accounts.numbers) == ["alice", "bob", "carol"]
    same(log)


# ---- what the audit says --------------------------------------------------------------------------------------------------------------


def test_a_parameter_set_is_audited_by_one_book() -> None:
    for partition, said in ((0, 1), (1, 0)):
        log = Log(Book(partition, 2))
        log.open()
        effects = log.parameters({"grace_s": 1.0}, version="v2")
        told = [one for one in effects.now if isinstance(one, Decision)]
        assert [(one.outcome, one.parameters, one.note) for one in told] == [
            ("parameters", "v2", "partition 0: version v2 is in force")
        ] * said
        refused = log.parameters({"grace_s": -1.0}, version="v3")
        assert outcomes(refused) == []
        assert len(refusals(refused)) == said


def test_a_fault_is_told_each_time_it_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    book, log = a_book()
    log.deposit("alice", 5.0)

    def faulty(*_: Any) -> int:
        raise ValueError("x" * 1_000)

    monkeypatch.setattr("engine.decisions.value_accounts", faulty)
    a = book.accounts.numbers["alice"]
    book.accounts.columns.plain[a] = 0  # so that it is not valued within the kernel of fills
    for _ in range(2):
        effects = log.deposit("alice", 1.0)
        (told,) = [one for one in effects.now if isinstance(one, Decision)]
        assert (told.outcome, told.account, told.equity_usd) == ("engine_fault", "alice", None)
        assert told.note == "ValueError: " + "x" * 188
    log.now_ns += SECOND
    assert outcomes(log.prices({"BTC": 90_000.0})) == []  # until something of its own happens
