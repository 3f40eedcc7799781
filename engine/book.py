"""The book of accounts as a structure of arrays, and which accounts hold which instrument.

Row i of every array is account i. Numbers are given by first appearance and decide nothing: neither rows nor effects depend on them.
Arrays grow by doubling, so that a view of them (`Columns`) must be taken anew after an account or an instrument was added.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from engine.jit import kernel
from engine.margin import OUT, POSITIONS_MAX
from engine.reasons import State
from engine.rows import ACCOUNT_PREFIX, AccountRow, Life, RowLedger, encode_account_rows, encode_life, max_row_bytes
from engine.tables import BUY, LEAVING, PENDING, SELL, SPOT

ACCOUNT_VENUES_MAX: Final = 8
ACCOUNTS_START: Final = 64
ACCOUNTS_MAX: Final = 2**21  # of one partition, about 0.7 kB each
INSTRUMENTS_START: Final = 64
LOOK_SECONDS: Final = 15  # each account's legs at venues are looked at once in so many seconds of the book's clock
PENDING_START: Final = 16  # rows of the pool of what is pending
LIMIT: Final = 2**62  # of quantities and cash: sums of two stay within 64 bits
NEVER_NS: Final = 2**63 - 1


class Columns(NamedTuple):
    """The arrays. N accounts; positions in slot order; `holders` has one bit an account for each instrument."""

    positions: NDArray[np.int32]  # [N] how many
    instrument: NDArray[np.int32]  # [N, POSITIONS_MAX]
    quantity: NDArray[np.int64]  # [N, POSITIONS_MAX] lots
    cash: NDArray[np.int64]  # [N, POSITIONS_MAX] cash units of the instrument's quote
    venue_count: NDArray[np.int32]  # [N]
    venue: NDArray[np.int32]  # [N, ACCOUNT_VENUES_MAX]
    sequence: NDArray[np.int64]  # [N, ACCOUNT_VENUES_MAX] last sequence of the venue's fills
    health: NDArray[np.float64]  # [N, OUT], see engine.margin
    state: NDArray[np.int8]  # [N] State
    reason: NDArray[np.int8]  # [N] Unknown
    prior: NDArray[np.int8]  # [N] last state that was not UNKNOWN
    standing: NDArray[np.int8]  # [N] Unknown that no market data can cure (engine fault, missed fill, unreconciled), 0: none
    cause: NDArray[np.int8]  # [N] Cause
    epoch: NDArray[np.int64]  # [N] how often the account became liquidatable
    plain: NDArray[np.uint8]  # [N] 1: nothing about it needs more than arithmetic while its state stays
    watched: NDArray[np.uint8]  # [N] 1: must be looked at whenever it is valued (a grace period runs)
    dirty: NDArray[np.uint8]  # [N] 1: its row may have changed since the last cut
    known: NDArray[np.uint8]  # [N] 1: it has a row
    due_ns: NDArray[np.int64]  # [N] the clock at which something about it is due, NEVER_NS: nothing
    told: NDArray[np.uint8]  # [N] 0: must be told at the next cut
    told_equity: NDArray[np.float64]  # [N] USD, as last told
    told_maintenance: NDArray[np.float64]  # [N]
    told_near: NDArray[np.float64]  # [N] distance of the nearest leg with a number at a venue with a rule, as last told
    told_legs_usd: NDArray[np.float64]  # [N] size of what was told of those legs
    told_unknown: NDArray[np.int64]  # [N] which legs there had no number, and why, see engine.venue_legs.Summary
    told_refuses: NDArray[np.int8]  # [N] why new risk is refused, as last told: bits of engine.reporting
    holders: NDArray[np.uint64]  # [instruments, N / 64]
    look: NDArray[np.int8]  # [N] in which second of a period its legs at venues are looked at, see engine.venue_legs
    pending_row: NDArray[np.int32]  # [N] the account's row in `pending`, -1: it has nothing pending
    pending: NDArray[np.int64]  # [P, POSITIONS_MAX, PENDING] lots by slot; a pool, since few accounts need a row


class Accounts:
    """Names and arrays of the accounts of one partition."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.row_keys: list[bytes] = []
        self.numbers: dict[str, int] = {}
        self._instruments = INSTRUMENTS_START
        self.columns = _empty_columns(ACCOUNTS_START, INSTRUMENTS_START, PENDING_START)
        self._free_rows = list(range(PENDING_START))  # of the pool; which one is taken decides nothing

    def __len__(self) -> int:
        return len(self.names)

    def number(self, name: str) -> int:
        """The account's number, a new one if it has none; -1 when there are ACCOUNTS_MAX accounts and this is another one.

        Ask for a new number only where the account gets a row by the same event: the numbers are then those of the rows, and a book that
        was restored has room for as many as one that goes on.
        """
        number = self.numbers.get(name, -1)
        if number >= 0 or len(self.names) == ACCOUNTS_MAX:
            return number
        number = len(self.names)
        if number == self.columns.positions.shape[0]:
            self._grow(2 * number, self._instruments, self.columns.pending.shape[0])
        self.names.append(name)
        self.row_keys.append(ACCOUNT_PREFIX + name.encode())
        self.columns.look[number] = crc32(name.encode()) % LOOK_SECONDS
        self.numbers[name] = number
        return number

    def ensure_instruments(self, instruments: int) -> None:
        """Make room for instrument numbers below `instruments`."""
        if instruments > self._instruments:
            size = self._instruments
            while size < instruments:
                size *= 2
            self._grow(self.columns.positions.shape[0], size, self.columns.pending.shape[0])

    def pending_room(self, a: int) -> int:
        """The account's row of what is pending; a new one, all zeros, if it had none."""
        row = int(self.columns.pending_row[a])
        if row >= 0:
            return row
        if not self._free_rows:
            rows = self.columns.pending.shape[0]
            self._grow(self.columns.positions.shape[0], self._instruments, 2 * rows)
            self._free_rows = list(range(rows, 2 * rows))
        row = self._free_rows.pop()
        self.columns.pending[row] = 0
        self.columns.pending_row[a] = row
        return row

    def drop_pending_row(self, a: int) -> None:
        """Gives the account's row of what is pending back to the pool, if it has one."""
        row = int(self.columns.pending_row[a])
        if row >= 0:
            self.columns.pending_row[a] = -1
            self._free_rows.append(row)

    @property
    def accounts_with_pending(self) -> int:
        """How many accounts have something pending."""
        return int(self.columns.pending.shape[0]) - len(self._free_rows)

    def load_pending(self, a: int, life: Life) -> None:
        """Brings what a restored life says is pending into the pool; its positions are there already."""
        for one in life.pending:
            for instrument, buy, sell, leaving in one.lots:
                row = self.pending_room(a)
                slot = find_position(a, instrument, self.columns)
                assert slot >= 0, "what is pending has a slot in every row"
                self.columns.pending[row, slot] = (buy, sell, leaving)

    def _grow(self, accounts: int, instruments: int, pending_rows: int) -> None:
        old, new = self.columns, _empty_columns(accounts, instruments, pending_rows)
        for name, array in old._asdict().items():
            target = getattr(new, name)
            target[tuple(slice(0, size) for size in array.shape)] = array
        self.columns, self._instruments = new, instruments

    def load(self, name: str, row: AccountRow) -> int:
        """Puts a restored row into the arrays; state, reason and health are computed afterwards."""
        a = self.number(name)
        c = self.columns
        for instrument, quantity, cash in row.positions:
            slot = add_position(a, instrument, c)
            assert slot >= 0
            c.quantity[a, slot], c.cash[a, slot] = quantity, cash
        for slot, (venue, sequence) in enumerate(row.venues):
            c.venue[a, slot], c.sequence[a, slot] = venue, sequence
        c.venue_count[a] = len(row.venues)
        c.prior[a], c.cause[a], c.epoch[a] = row.prior, row.cause, row.epoch
        c.known[a], c.told[a] = 1, 0  # what was last told is not remembered: it is told again
        return a

    def take_changed(self, lives: Mapping[int, Life], ledger: RowLedger) -> list[tuple[bytes, bytes]]:
        """Rows that changed since the last cut, and the note that they have been taken."""
        c, n = self.columns, len(self.names)
        dirty: NDArray[np.int64] = np.flatnonzero(c.dirty[:n])
        out = np.empty(len(dirty) * max_row_bytes(POSITIONS_MAX, ACCOUNT_VENUES_MAX), np.uint8)
        ends = np.empty(len(dirty), np.int64)
        length = encode_account_rows(
            dirty, c.prior, c.cause, c.epoch, c.positions, c.instrument, c.quantity, c.cash, c.venue_count, c.venue, c.sequence, out, ends
        )
        fixed = out[:length].tobytes()
        rows: list[tuple[bytes, bytes]] = []
        start = 0
        for a, end in zip(dirty.tolist(), ends.tolist(), strict=True):
            value = fixed[start:end]
            start = end
            if a in lives:
                value += encode_life(lives[a])
            key = self.row_keys[a]
            if ledger.put(key, value):
                rows.append((key, value))
        c.known[dirty] = 1
        c.dirty[:n] = 0
        return rows


def _empty_columns(accounts: int, instruments: int, pending_rows: int) -> Columns:
    by_position, by_venue = (accounts, POSITIONS_MAX), (accounts, ACCOUNT_VENUES_MAX)
    return Columns(
        positions=np.zeros(accounts, np.int32),
        instrument=np.zeros(by_position, np.int32),
        quantity=np.zeros(by_position, np.int64),
        cash=np.zeros(by_position, np.int64),
        venue_count=np.zeros(accounts, np.int32),
        venue=np.zeros(by_venue, np.int32),
        sequence=np.zeros(by_venue, np.int64),
        health=np.zeros((accounts, OUT), np.float64),
        state=np.full(accounts, State.HEALTHY, np.int8),
        reason=np.zeros(accounts, np.int8),
        prior=np.full(accounts, State.HEALTHY, np.int8),
        standing=np.zeros(accounts, np.int8),
        cause=np.zeros(accounts, np.int8),
        epoch=np.zeros(accounts, np.int64),
        plain=np.ones(accounts, np.uint8),
        watched=np.zeros(accounts, np.uint8),
        dirty=np.zeros(accounts, np.uint8),
        known=np.zeros(accounts, np.uint8),
        due_ns=np.full(accounts, NEVER_NS, np.int64),
        told=np.ones(accounts, np.uint8),
        told_equity=np.zeros(accounts, np.float64),
        told_maintenance=np.zeros(accounts, np.float64),
        told_near=np.zeros(accounts, np.float64),
        told_legs_usd=np.zeros(accounts, np.float64),
        told_unknown=np.zeros(accounts, np.int64),
        told_refuses=np.zeros(accounts, np.int8),
        holders=np.zeros((instruments, (accounts + 63) // 64), np.uint64),
        look=np.zeros(accounts, np.int8),
        pending_row=np.full(accounts, -1, np.int32),
        pending=np.zeros((pending_rows, POSITIONS_MAX, PENDING), np.int64),
    )


@kernel
def wide(number: int) -> int:
    """The number in 64 bits: a kernel that is given one integer type everywhere is compiled once."""
    return number + 0


@kernel
def find_position(a: int, instrument: int, columns: Columns) -> int:
    """The slot of the account's position in an instrument, -1 if it has none."""
    for slot in range(columns.positions[a]):
        if columns.instrument[a, slot] == instrument:
            return slot
    return -1


@kernel
def add_position(a: int, instrument: int, columns: Columns) -> int:
    """A new slot, empty, behind the others; -1 if all are taken."""
    slot: int = columns.positions[a]
    if slot == POSITIONS_MAX:
        return -1
    columns.instrument[a, slot] = instrument
    columns.quantity[a, slot] = 0
    columns.cash[a, slot] = 0
    row = columns.pending_row[a]
    if row >= 0:
        for k in range(PENDING):
            columns.pending[row, slot, k] = 0
    columns.positions[a] = slot + 1
    columns.holders[instrument, a // 64] |= np.uint64(1) << np.uint64(a % 64)
    return slot


@kernel
def remove_position(a: int, slot: int, columns: Columns) -> None:
    """Takes a slot out; those behind it move up, so that the others keep their order."""
    instrument = columns.instrument[a, slot]
    columns.holders[instrument, a // 64] &= ~(np.uint64(1) << np.uint64(a % 64))
    last = columns.positions[a] - 1
    for k in range(slot, last):
        columns.instrument[a, k] = columns.instrument[a, k + 1]
        columns.quantity[a, k] = columns.quantity[a, k + 1]
        columns.cash[a, k] = columns.cash[a, k + 1]
    row = columns.pending_row[a]
    if row >= 0:
        for k in range(slot, last):
            for column in range(PENDING):
                columns.pending[row, k, column] = columns.pending[row, k + 1, column]
        for column in range(PENDING):
            columns.pending[row, last, column] = 0
    columns.positions[a] = last


@kernel
def is_pending(a: int, slot: int, columns: Columns) -> bool:
    """Whether something of this position is pending: such a position stays, whatever it holds."""
    row = columns.pending_row[a]
    if row < 0:
        return False
    lots = columns.pending[row, slot]
    found: bool = lots[BUY] != 0 or lots[SELL] != 0 or lots[LEAVING] != 0
    return found


@kernel
def lots_there(a: int, slot: int, contract: int, columns: Columns) -> int:
    """The position's lots without those of a spot balance that are leaving."""
    lots: int = columns.quantity[a, slot]
    row = columns.pending_row[a]
    if row < 0 or contract != SPOT or lots <= 0:
        return lots
    there: int = max(lots - columns.pending[row, slot, LEAVING], 0)
    return there


@kernel
def find_venue(a: int, venue: int, columns: Columns) -> int:
    """The slot of the account's record of a venue, -1 if it has none."""
    for slot in range(columns.venue_count[a]):
        if columns.venue[a, slot] == venue:
            return slot
    return -1


@kernel
def set_sequence(a: int, venue: int, sequence: int, columns: Columns) -> bool:
    """Remembers the venue's last sequence; False if the account has ACCOUNT_VENUES_MAX other venues."""
    slot = find_venue(a, venue, columns)
    if slot < 0:
        slot = columns.venue_count[a]
        if slot == ACCOUNT_VENUES_MAX:
            return False
        columns.venue[a, slot] = venue
        columns.venue_count[a] = slot + 1
    columns.sequence[a, slot] = sequence
    return True


@kernel
def collect_holders(changed: NDArray[np.bool_], accounts: int, columns: Columns, out: NDArray[np.int64]) -> int:
    """Writes the numbers of the accounts that hold any instrument i with `changed[i]` into `out` [accounts], rising. Returns how many."""
    found = 0
    instruments = min(changed.shape[0], columns.holders.shape[0])
    for word in range((accounts + 63) // 64):
        bits = np.uint64(0)
        for i in range(instruments):
            if changed[i]:
                bits |= columns.holders[i, word]
        bit = 0
        while bits != np.uint64(0):
            if bits & np.uint64(1):
                out[found] = word * 64 + bit
                found += 1
            bits >>= np.uint64(1)
            bit += 1
    return found
