"""The arrays: growth, slots, holders; a row's bytes and the digest over rows; what a fill that is not applied leaves behind."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.book import (
    ACCOUNT_VENUES_MAX,
    ACCOUNTS_START,
    INSTRUMENTS_START,
    LIMIT,
    Accounts,
    add_position,
    collect_holders,
    find_position,
    remove_position,
    set_sequence,
)
from engine.fills import MOVED, OVERFLOW, move
from engine.inputs import FillKind
from engine.monitor import Book
from engine.rows import Flight, Life, RowLedger, decode_account_row, encode_piece, row_hash
from engine.sources import first_new
from engine.tables import POSITIONS_MAX
from tests.small_world import Log


def holders(accounts: Accounts, instrument: int) -> list[int]:
    changed = np.zeros(instrument + 1, np.bool_)
    changed[instrument] = True
    out = np.zeros(len(accounts), np.int64)
    found = collect_holders(changed, len(accounts), accounts.columns, out)
    return [int(number) for number in out[:found]]


def test_arrays_grow_and_keep_what_they_hold() -> None:
    accounts = Accounts()
    for k in range(3 * ACCOUNTS_START):
        a = accounts.number(f"account-{k}")
        assert a == k
        add_position(a, k % 5, accounts.columns)
        accounts.columns.quantity[a, 0] = k
    accounts.ensure_instruments(3 * INSTRUMENTS_START)
    assert accounts.columns.holders.shape[0] >= 3 * INSTRUMENTS_START
    assert accounts.columns.quantity[: len(accounts), 0].tolist() == list(range(3 * ACCOUNTS_START))
    assert holders(accounts, 3) == [k for k in range(3 * ACCOUNTS_START) if k % 5 == 3]
    assert accounts.number("account-7") == 7
    assert len(accounts) == 3 * ACCOUNTS_START


@settings(max_examples=50, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 70), st.integers(0, 20), st.booleans()), max_size=120))
def test_holders_are_those_with_a_position(steps: list[tuple[int, int, bool]]) -> None:
    accounts = Accounts()
    for k in range(71):
        accounts.number(str(k))
    held: dict[int, list[int]] = {k: [] for k in range(71)}
    for a, instrument, adds in steps:
        slot = find_position(a, instrument, accounts.columns)
        assert slot == (held[a].index(instrument) if instrument in held[a] else -1)
        if adds and slot < 0 and len(held[a]) < POSITIONS_MAX:
            assert add_position(a, instrument, accounts.columns) == len(held[a])
            held[a].append(instrument)
        elif not adds and slot >= 0:
            remove_position(a, slot, accounts.columns)
            held[a].remove(instrument)
        assert accounts.columns.instrument[a, : len(held[a])].tolist() == held[a]
    for instrument in range(21):
        assert holders(accounts, instrument) == [a for a in range(71) if instrument in held[a]]
    both = np.ones(21, np.bool_)
    out = np.zeros(71, np.int64)
    found = collect_holders(both, 71, accounts.columns, out)
    assert out[:found].tolist() == [a for a in range(71) if held[a]]


def test_an_account_has_so_many_positions_and_venues() -> None:
    accounts = Accounts()
    a = accounts.number("alice")
    assert [add_position(a, i, accounts.columns) for i in range(POSITIONS_MAX + 1)] == [*range(POSITIONS_MAX), -1]
    assert [set_sequence(a, venue, 1, accounts.columns) for venue in range(ACCOUNT_VENUES_MAX + 1)] == [True] * ACCOUNT_VENUES_MAX + [False]
    assert set_sequence(a, 3, 2, accounts.columns)
    assert accounts.columns.sequence[a, 3] == 2


@pytest.mark.parametrize(
    ("held", "lots", "answer"),
    [
        (LIMIT, 0, MOVED),
        (LIMIT, 1, OVERFLOW),
        (LIMIT, LIMIT, OVERFLOW),
        (-LIMIT, -LIMIT, OVERFLOW),
        (-LIMIT, LIMIT, MOVED),
        (LIMIT, -LIMIT, MOVED),
    ],
)
def test_quantities_stop_at_the_limit(held: int, lots: int, answer: int) -> None:
    book = Book(0, 1)
    Log(book).open()
    a = book.accounts.number("alice")
    c = book.accounts.columns
    slot = add_position(a, 2, c)
    c.quantity[a, slot], c.cash[a, slot] = held, 5
    assert move(a, 2, int(FillKind.TRANSFER), lots, 0, 0, c, book.market.universe.instrument_arrays) == answer
    assert c.quantity[a, slot] == (held + lots if answer == MOVED else held)


def test_a_row_says_it_all() -> None:
    accounts = Accounts()
    a = accounts.number("alice")
    c = accounts.columns
    for instrument, quantity, cash in ((7, -LIMIT, LIMIT), (3, 5, -6), (63, 0, -1)):
        slot = add_position(a, instrument, c)
        c.quantity[a, slot], c.cash[a, slot] = quantity, cash
    set_sequence(a, 11, 2**62, c)
    set_sequence(a, 2, 1, c)
    c.prior[a], c.cause[a], c.epoch[a], c.dirty[a] = 2, 5, 77, 1
    life = Life(
        flights=[Flight("id", 7, -5, 2, -1, 1.25, 99, 3)],
        ended=["old"],
        attempts=[(3, 1), (7, 3)],
        holes=[(2, [4, 5])],
        lasting=[11],
        unreconciled=[2],
        quarantined=True,
        grace_until_ns=9,
        retry_ns=8,
        fund_epoch=76,
        said="no_plan",
    )
    ledger = RowLedger()
    ((key, value),) = accounts.take_changed({a: life}, ledger)
    assert key == b"a:alice"
    assert accounts.take_changed({a: life}, ledger) == []
    row = decode_account_row(value)
    assert (row.prior, row.cause, row.epoch) == (2, 5, 77)
    assert row.positions == [(7, -LIMIT, LIMIT), (3, 5, -6), (63, 0, -1)]
    assert row.venues == [(11, 2**62), (2, 1)]
    assert row.life == life
    again = Accounts()
    again.load("alice", row)
    again.columns.dirty[0] = 1
    assert again.take_changed({0: life}, RowLedger()) == [(key, value)]


def test_the_digest_is_the_sum_of_hashes_however_rows_came() -> None:
    one, other = RowLedger(), RowLedger()
    for key, value in ((b"a:1", b"x"), (b"a:2", b"y"), (b"p:z", encode_piece([1.5]))):
        assert one.put(key, value)
    assert not one.put(b"a:1", b"x")
    for key, value in ((b"p:z", encode_piece([1.5])), (b"a:2", b"old"), (b"gone", b"g"), (b"a:1", b"x")):
        other.put(key, value)
    assert other.digest != one.digest
    assert other.put(b"a:2", b"y")
    assert other.drop(b"gone")
    assert not other.drop(b"gone")
    assert other.digest == one.digest
    assert int.from_bytes(one.digest, "little") == sum(
        row_hash(key, value) for key, value in ((b"a:1", b"x"), (b"a:2", b"y"), (b"p:z", encode_piece([1.5])))
    ) % (1 << 128)
    assert row_hash(b"a", b"bc") != row_hash(b"ab", b"c")


def test_first_new_skips_what_was_applied() -> None:
    assert first_new([], 5) == 0
    assert first_new([4, 7, 9], 3) == 0
    assert first_new([4, 7, 9], 7) == 2
    assert first_new([4, 7, 9], 9) == 3


@pytest.mark.parametrize("lots", [200, -200, 5_000, -5_000, -100])
def test_what_needs_a_decision_is_left_as_it_was(lots: int) -> None:
    """The fast kernel tries a fill, sees a change of state, and undoes it; the slow path then does the same from the same start."""
    one, other = Book(0, 1), Book(0, 1)
    log = Log(one, other)
    log.open()
    log.deposit("alice", 14_000.0)
    log.trade("alice", "ex", "BTC-PERP", 100, 100_000, cash=10_000_000)
    log.trade("alice", "ex", "ETH-PERP", 100, 40_000)
    a = other.accounts.numbers["alice"]
    other.accounts.columns.plain[a] = 0  # so that the kernel leaves it alone from the start
    log.trade("alice", "ex", "BTC-PERP", lots, 100_000)
    for name, array in one.accounts.columns._asdict().items():
        if name not in ("health", "plain"):
            assert (array == getattr(other.accounts.columns, name)).all(), name
    assert one.accounts.columns.health[a].tobytes() == other.accounts.columns.health[a].tobytes()
    assert one.take_cut().rows == other.take_cut().rows


def test_lives_that_say_the_same_have_the_same_bytes() -> None:
    life = Life(attempts=[(1, 2)], holes=[(1, [2])])
    assert encode_piece(life) == encode_piece(copy.deepcopy(life))
    assert Life().is_empty()
    assert not life.is_empty()
