"""Open orders and withdrawals under way: what a book keeps of them, where, for how long, and what it refuses."""

from typing import Any

import numpy as np
import pytest

from engine.book import ACCOUNT_VENUES_MAX, ACCOUNTS_START, PENDING_START, Accounts, add_position, remove_position
from engine.effects import Effects, MarginCall, Refused
from engine.inputs import FrameKind, Pending, PendingPosition, VenueDefinition
from engine.inspection import explain_account
from engine.liquidation import new_frozen_venues, new_legs, new_scratch, plan
from engine.margin import MAINTENANCE, UNHAIRCUT
from engine.monitor import Book
from engine.reasons import Cause, State, Unknown
from engine.rows import Life, PendingAt
from engine.tables import ASSETS_MAX, POSITIONS_MAX
from tests.small_world import SECOND, T0, Log


def a_book(parameters: dict[str, Any] | None = None) -> tuple[Book, Log]:
    book = Book(0, 1)
    log = Log(book)
    log.open(parameters)
    return book, log


def slots(book: Book, account: str) -> list[tuple[str, int, int, tuple[int, ...]]]:
    """(instrument, lots, cash, what is pending) of each slot."""
    a = book.accounts.numbers[account]
    c = book.accounts.columns
    row = int(c.pending_row[a])
    instruments = book.market.universe.instruments
    return [
        (
            f"{instruments[int(c.instrument[a, slot])].venue} {instruments[int(c.instrument[a, slot])].name}",
            int(c.quantity[a, slot]),
            int(c.cash[a, slot]),
            tuple(c.pending[row, slot].tolist()) if row >= 0 else (0, 0, 0),
        )
        for slot in range(int(c.positions[a]))
    ]


def reasons(effects: Effects) -> list[str]:
    return [effect.reason for effect in effects.now if isinstance(effect, Refused)]


NONE = (0, 0, 0)


# ---- what is kept ---------------------------------------------------------------------------------------------------------------------


def test_it_makes_an_account_and_gives_each_instrument_a_slot() -> None:
    book, log = a_book()
    assert reasons(log.pending("alice", "ex", {"BTC-PERP": (10, 0, 0), "ETH": (0, 3, 7), "SOL": (0, 0, 0)})) == []
    assert slots(book, "alice") == [("ex BTC-PERP", 0, 0, (10, 0, 0)), ("ex ETH", 0, 0, (0, 3, 7))]


def test_open_orders_count_and_their_end_cures() -> None:
    book, log = a_book()
    log.deposit("alice", 20_000.0)
    book.take_cut()
    effects = log.pending("alice", "ex", {"BTC-PERP": (1_500, 0, 0)}, T0 + 1)
    a, c = book.accounts.numbers["alice"], book.accounts.columns
    needed = float(c.health[a, MAINTENANCE])
    assert needed > 15_000.0  # of 150,000 USD that might be bought
    assert State(int(c.state[a])) is State.WARNING
    assert [effect.state for effect in effects.now if isinstance(effect, MarginCall)] == ["WARNING"]
    (health,) = book.take_cut().health
    assert (health.maintenance_usd, health.equity_usd, health.refuses) == (needed, 20_000.0, ["initial_margin"])
    log.pending("alice", "ex", {"BTC-PERP": (1_500, 1_500, 0)}, T0 + 2)
    assert c.health[a, MAINTENANCE] == pytest.approx(needed)  # the worse of both, not their sum
    log.pending("alice", "ex", {"BTC-PERP": (3_000, 0, 0)}, T0 + 3)
    assert (State(int(c.state[a])), Cause(int(c.cause[a]))) == (State.LIQUIDATABLE, Cause.FILL)
    log.pending("alice", "ex", {}, T0 + 4)
    assert (State(int(c.state[a])), c.health[a, MAINTENANCE]) == (State.HEALTHY, 0.0)


def test_what_leaves_counts_nothing() -> None:
    book, log = a_book()
    log.trade("alice", "ex", "BTC", 500, kind="transfer")
    a, c = book.accounts.numbers["alice"], book.accounts.columns
    assert c.health[a, UNHAIRCUT] == pytest.approx(50_000.0)
    log.pending("alice", "ex", {"BTC": (0, 0, 200)}, T0 + 1)
    assert c.health[a, UNHAIRCUT] == pytest.approx(30_000.0)
    log.pending("alice", "ex", {"BTC": (0, 0, 800)}, T0 + 2)
    assert c.health[a, UNHAIRCUT] == 0.0
    log.trade("alice", "ex", "BTC", -500, kind="transfer")  # it has left
    log.pending("alice", "ex", {}, T0 + 3)
    assert slots(book, "alice") == []


def test_the_newest_counts_and_replaces_what_its_venue_said() -> None:
    book, log = a_book()
    log.trade("alice", "sx", "BTC-PERP", 5, 100_000)
    log.pending("alice", "ex", {"BTC-PERP": (10, 0, 0), "ETH-PERP": (0, 4, 0)}, T0 + 2)
    log.pending("alice", "sx", {"BTC-PERP": (1, 2, 0)}, T0 + 1)  # another venue, with a time of its own
    both = slots(book, "alice")
    assert [slot[3] for slot in both] == [(1, 2, 0), (10, 0, 0), (0, 4, 0)]
    for time_ns in (T0 + 1, T0 + 2):
        assert log.pending("alice", "ex", {"SOL-PERP": (1, 0, 0)}, time_ns).now == []  # old, or as old
        assert slots(book, "alice") == both
    log.pending("alice", "ex", {"SOL-PERP": (1, 0, 0), "ETH-PERP": (2, 0, 0)}, T0 + 3)
    assert slots(book, "alice")[1:] == [("ex ETH-PERP", 0, 0, (2, 0, 0)), ("ex SOL-PERP", 0, 0, (1, 0, 0))]
    log.pending("alice", "ex", {}, T0 + 4)
    assert [slot[0] for slot in slots(book, "alice")] == ["sx BTC-PERP"]
    log.pending("alice", "ex", {"ETH-PERP": (2, 0, 0)}, T0 + 3)  # that nothing was pending is known as of T0 + 4
    assert [slot[0] for slot in slots(book, "alice")] == ["sx BTC-PERP"]
    assert book.accounts.accounts_with_pending == 1
    log.pending("alice", "sx", {}, T0 + 5)
    assert book.accounts.accounts_with_pending == 0
    assert slots(book, "alice")[0][1] == 5


@pytest.mark.parametrize(
    ("venue", "positions", "time_ns", "reason"),
    [
        ("nowhere", {"BTC-PERP": (1, 0, 0)}, T0, "unknown_venue"),
        ("ex", {"NOTHING": (1, 0, 0)}, T0, "unknown_instrument"),
        ("ex", {"BTC-INV": (1, 0, 0)}, T0, "unknown_instrument"),  # it is of another venue
        ("ex", {"BTC-PERP": (1, 0, 0)}, T0 + 3_600 * SECOND, "future_time"),
        ("nowhere", {"NOTHING": (1, 0, 0)}, T0 + 3_600 * SECOND, "unknown_venue"),
        ("ex", {"NOTHING": (1, 0, 0)}, T0 + 3_600 * SECOND, "unknown_instrument"),
    ],
)
def test_what_is_refused_makes_no_account_and_changes_none(
    venue: str, positions: dict[str, tuple[int, int, int]], time_ns: int, reason: str
) -> None:
    book, log = a_book()
    assert reasons(log.pending("bob", venue, positions, time_ns)) == [reason]
    assert "bob" not in book.accounts.numbers
    log.pending("alice", "ex", {"ETH": (1, 0, 0)}, T0 - 1)
    before = slots(book, "alice")
    assert reasons(log.pending("alice", venue, positions, time_ns)) == [reason]
    assert slots(book, "alice") == before
    a = book.accounts.numbers["alice"]
    assert Unknown(int(book.accounts.columns.reason[a])) is Unknown.NONE  # a book that knows less of orders can still value


def test_of_an_instrument_named_twice_the_last_counts_and_only_spot_leaves() -> None:
    book, log = a_book()
    positions = [("ETH", 1, 0, 0), ("BTC-PERP", 5, 0, 9), ("ETH", 0, 2, 0), ("SOL-PERP", 0, 0, 3)]
    said = Pending(v=1, account="alice", venue="ex", positions=[PendingPosition(*one) for one in positions], time_ns=T0)
    assert reasons(log.put(log.frame(FrameKind.PENDING, "account.orders", [said]))) == []
    assert slots(book, "alice") == [("ex ETH", 0, 0, (0, 2, 0)), ("ex BTC-PERP", 0, 0, (5, 0, 0))]


def test_slots_and_venues_are_bounded_and_what_goes_makes_room() -> None:
    book, log = a_book()
    names = [(one.venue, one.name) for one in book.market.universe.instruments if one.venue != "vault"]
    for venue, name in names[:14]:
        log.trade("alice", venue, name, 1, kind="transfer")
    log.pending("alice", "vault", {"STB": (1, 0, 0), "BTC": (1, 0, 0)}, T0 + 1)
    assert reasons(log.pending("alice", "lend", {"STB-DEBT": (1, 0, 0)}, T0 + 1)) == ["too_many"]
    assert len(slots(book, "alice")) == POSITIONS_MAX
    log.pending("alice", "vault", {"STB": (1, 0, 0)}, T0 + 2)
    assert reasons(log.pending("alice", "lend", {"STB-DEBT": (1, 0, 0)}, T0 + 1)) == []
    more = [VenueDefinition(v=1, name=f"more-{k}", chain="north", time_ns=T0) for k in range(ACCOUNT_VENUES_MAX)]
    log.control(FrameKind.DEFINITIONS, "market.instruments", list(more))
    for one in more[:-2]:
        assert reasons(log.pending("alice", one.name, {}, T0 + 1)) == []
    assert reasons(log.pending("alice", more[-1].name, {}, T0 + 1)) == ["too_many"]
    assert reasons(log.pending("alice", more[0].name, {}, T0 + 2)) == []


# ---- what becomes of it ---------------------------------------------------------------------------------------------------------------


def test_a_position_stays_while_something_of_it_is_pending() -> None:
    book, log = a_book()
    log.deposit("alice", 10_000.0)
    log.pending("alice", "ex", {"BTC": (0, 0, 20)}, T0 + 1)
    log.trade("alice", "ex", "BTC", 50, kind="transfer")
    log.trade("alice", "ex", "BTC-PERP", 1, kind="transfer")
    log.trade("alice", "ex", "BTC", -50, kind="transfer")
    assert slots(book, "alice")[1:] == [("ex BTC", 0, 0, (0, 0, 20)), ("ex BTC-PERP", 1, 0, NONE)]
    log.trade("alice", "ex", "BTC-PERP", -1, kind="transfer")  # nothing of this one is
    assert slots(book, "alice")[1:] == [("ex BTC", 0, 0, (0, 0, 20))]
    log.pending("alice", "ex", {}, T0 + 2)
    assert [slot[0] for slot in slots(book, "alice")] == ["ex USD"]


def test_what_is_pending_moves_up_with_its_slot() -> None:
    book, log = a_book()
    log.trade("alice", "ex", "BTC-PERP", 1, kind="transfer")
    log.pending("alice", "ex", {"ETH-PERP": (5, 6, 0), "SOL-PERP": (7, 8, 0)})
    log.trade("alice", "ex", "BTC-PERP", -1, kind="transfer")
    assert slots(book, "alice") == [("ex ETH-PERP", 0, 0, (5, 6, 0)), ("ex SOL-PERP", 0, 0, (7, 8, 0))]
    log.trade("alice", "ex", "BTC-PERP", 1, kind="transfer")
    assert slots(book, "alice")[2] == ("ex BTC-PERP", 1, 0, NONE)


def test_a_snapshot_replaces_what_is_held_and_leaves_what_is_pending() -> None:
    book, log = a_book()
    log.pending("alice", "ex", {"ETH-PERP": (5, 0, 0), "BTC-PERP": (1, 0, 0)})
    log.snapshot("alice", "ex", 1, {"BTC-PERP": (3, 0), "SOL-PERP": (4, 0)})
    assert slots(book, "alice") == [
        ("ex ETH-PERP", 0, 0, (5, 0, 0)),
        ("ex BTC-PERP", 3, 0, (1, 0, 0)),
        ("ex SOL-PERP", 4, 0, NONE),
    ]
    log.snapshot("alice", "ex", 1, {"BTC-PERP": (3, 0), "SOL-PERP": (4, 0)})  # equal: a slot without lots is no difference
    a = book.accounts.numbers["alice"]
    assert book.accounts.columns.reason[a] == Unknown.NONE


def test_leaving_lots_are_not_for_sale() -> None:
    book, log = a_book()
    log.trade("alice", "ex", "BTC", 1_000, kind="transfer")
    log.trade("alice", "ex", "ETH-PERP", 5, kind="transfer")
    a = book.accounts.numbers["alice"]

    def sold(everything: bool = True) -> dict[str, int]:
        market, legs = book.market, new_legs()
        found, _ = plan(
            a,
            book.accounts.columns,
            everything,
            new_frozen_venues(),
            np.full(ASSETS_MAX, 1e12),
            4,
            1.15,
            market.clock_ns,
            market.universe.instrument_arrays,
            market.tables,
            new_scratch(),
            legs,
        )
        names = [market.universe.instruments[int(i)].name for i in legs.instrument[:found]]
        return dict(zip(names, legs.lots[:found].tolist(), strict=True))

    assert sold()["BTC"] == -1_000
    log.pending("alice", "ex", {"BTC": (0, 0, 400)}, T0 + 1)
    assert sold()["BTC"] == -600
    log.pending("alice", "ex", {"BTC": (0, 0, 1_200)}, T0 + 2)
    assert "BTC" not in sold()


def test_an_account_shows_what_is_pending() -> None:
    book, log = a_book()
    log.trade("alice", "ex", "BTC", 1_000, kind="transfer")
    log.pending("alice", "ex", {"BTC": (2, 3, 400)})
    book.take_cut()
    report = explain_account(book, "alice")
    assert report is not None
    (position,) = report.positions
    assert (position.lots, position.buy_lots, position.sell_lots, position.leaving_lots) == (1_000, 2, 3, 400)
    assert position.value_usd == pytest.approx(600 * 0.001 * 100_000.0)
    (terms,) = report.collateral
    assert terms.value_usd == pytest.approx(602 * 0.001 * 100_000.0)  # with what the order may buy
    assert report.unhaircut_usd is not None
    assert report.equity_usd == pytest.approx(report.unhaircut_usd - terms.lost_usd)


# ---- restored -------------------------------------------------------------------------------------------------------------------------


def test_a_restored_book_has_it_all_and_goes_on_the_same() -> None:
    book, log = a_book()
    rows: dict[bytes, bytes] = {}
    log.deposit("bob", 5_000.0)
    log.pending("alice", "ex", {"ETH-PERP": (5, 6, 0), "BTC": (0, 0, 3)}, T0 + 5)
    log.trade("alice", "sx", "BTC-PERP", 1, 100_000)
    log.pending("alice", "sx", {"BTC-PERP": (1, 0, 0)}, T0 + 1)
    rows.update({key: value for key, value in book.take_cut().rows if value is not None})
    successor = Book(0, 1)
    successor.restore(rows.items())
    assert slots(successor, "alice") == slots(book, "alice")
    log.machines.append(successor)
    log.pending("alice", "ex", {"SOL-PERP": (1, 0, 0)}, T0 + 4)  # old for both
    log.pending("bob", "ex", {"SOL-PERP": (1, 0, 0)}, T0 + 4)
    log.pending("alice", "sx", {}, T0 + 2)
    log.trade("alice", "sx", "BTC-PERP", -1, 100_000)
    for name in ("alice", "bob"):
        assert slots(successor, name) == slots(book, name)
    assert successor.take_cut().rows[-1] == book.take_cut().rows[-1]


def test_the_pool_grows_and_its_rows_are_used_again() -> None:
    accounts = Accounts()
    life = Life(pending=[PendingAt(0, 1, [(3, 7, 8, 0)])])
    numbers = [accounts.number(f"a{k}") for k in range(ACCOUNTS_START + 1)]
    for a in numbers:
        add_position(a, 3, accounts.columns)
        accounts.load_pending(a, life)
    assert accounts.accounts_with_pending == len(numbers) > 2 * PENDING_START
    size = accounts.columns.pending.shape[0]
    assert len(set(accounts.columns.pending_row[numbers].tolist())) == len(numbers)
    for a in numbers:
        assert accounts.columns.pending[accounts.columns.pending_row[a], 0].tolist() == [7, 8, 0]
    for a in numbers[:10]:
        accounts.drop_pending_row(a)
        accounts.drop_pending_row(a)
    assert accounts.accounts_with_pending == len(numbers) - 10
    remove_position(0, 0, accounts.columns)
    add_position(0, 5, accounts.columns)
    assert accounts.columns.pending[accounts.pending_room(0)].sum() == 0
    assert accounts.columns.pending.shape[0] == size
