"""Credits that wait: for their chain, while its attestations lag, or for the instrument that they move. Applied in order of arrival."""

from collections.abc import Callable
from typing import Final, NamedTuple

from engine.inputs import Credit
from engine.rows import PIECE_PREFIX, RowLedger, decode_piece, encode_piece

HELD_CREDITS_MAX: Final = 4_096  # of one partition
HELD_PREFIX: Final = PIECE_PREFIX + b"book:held:"
COUNTERS_PIECE: Final = PIECE_PREFIX + b"book:counters"


class HeldCredit(NamedTuple):
    """A credit and where it came from."""

    source: str
    partition: int
    offset: int
    credit: Credit


class HeldCredits:
    """A queue in the order of arrival, each credit a piece of its own in the cut."""

    def __init__(self) -> None:
        self._held: dict[int, HeldCredit] = {}  # by a running number, rising
        self._next = 0
        self._gone: list[int] = []  # since the last cut

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, held: HeldCredit) -> bool:
        """Adds a credit; False if the queue is full."""
        if len(self._held) >= HELD_CREDITS_MAX:
            return False
        self._held[self._next] = held
        self._next += 1
        return True

    def release(self, is_free: Callable[[Credit], bool]) -> list[HeldCredit]:
        """Takes out what has to wait no longer, in the order of arrival."""
        numbers = [number for number, held in self._held.items() if is_free(held.credit)]
        self._gone += numbers
        return [self._held.pop(number) for number in numbers]

    def take_changed(self, ledger: RowLedger) -> list[tuple[bytes, bytes | None]]:
        """Rows that changed since the last cut; None deletes."""
        rows: list[tuple[bytes, bytes | None]] = [(_key(number), None) for number in self._gone if ledger.drop(_key(number))]
        self._gone.clear()
        pieces = {_key(number): encode_piece(held) for number, held in self._held.items()}
        pieces[COUNTERS_PIECE] = encode_piece([self._next])
        rows += [(key, value) for key, value in pieces.items() if ledger.put(key, value)]
        return rows

    def restore(self, rows: dict[bytes, bytes]) -> None:
        """The inverse of `take_changed`, from all rows."""
        if COUNTERS_PIECE in rows:
            self._next = decode_piece(rows[COUNTERS_PIECE])[0]
        for key in sorted(rows):
            if key.startswith(HELD_PREFIX):
                source, partition, offset, credit = decode_piece(rows[key])
                self._held[int(key[len(HELD_PREFIX) :], 16)] = HeldCredit(source, partition, offset, Credit(*credit))


def _key(number: int) -> bytes:
    return HELD_PREFIX + f"{number:016x}".encode()
