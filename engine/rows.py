"""What a machine keeps in its rows topic: keys, hashes, the cut record, and the bytes of an account's row.

An account's row, little endian: layout version u8, last known state u8, cause u8, number of positions u8, number of venues u8, epoch i64;
per position, in slot order, instrument i32, quantity i64, cash i64; per venue, in the order of first appearance, venue i32, last
sequence i64; then, if the account has one, its `Life` as MessagePack. It holds what decides and cannot be recomputed, nothing else.
"""

import hashlib
import struct
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from engine.jit import kernel
from engine.machine import CUT_KEY, ENGINE_VERSION, CutRecord, DigestMismatch
from engine.sources import Sources

ACCOUNT_PREFIX = b"a:"
PIECE_PREFIX = b"p:"
ROW_VERSION = 1
ROW_FIXED_BYTES = 13
POSITION_BYTES = 20
VENUE_BYTES = 12
ENDED_ORDERS_MAX = 16  # order ids whose late reports are still recognised, by account

_DIGEST_MODULUS = 1 << 128
_FIXED = struct.Struct("<BBBBBq")
_POSITION = struct.Struct("<iqq")
_VENUE = struct.Struct("<iq")


class EngineVersionMismatch(Exception):
    """The rows were cut by another engine version and not sealed: stop the old release cleanly (it seals its cut), then start this one."""


class Flight(Struct, array_like=True):
    """An order that may still be filled. `final_lots`: what a report says was filled in the end, -1 while it is open."""

    order_id: str
    instrument: int
    lots: int  # signed
    filled_lots: int  # as counted from fills, >= 0
    final_lots: int
    notional_usd: float  # reserved from the asset's budget
    expires_ns: int
    attempt: int
    heard: bool = False  # a report or a fill has come
    mark_quote: float = 0.0  # the unit price in its quote that its limit started from


class PendingAt(Struct, array_like=True):
    """What one venue said last of what is pending there; empty `lots`: nothing, but what is older than `time_ns` is old."""

    venue: int
    time_ns: int
    lots: list[tuple[int, int, int, int]]  # (instrument, to buy, to sell, leaving), by instrument


class Life(Struct, array_like=True):
    """What most accounts do not have: orders, missing fills, a grace period. Plain containers, so that the bytes are equal when it is."""

    flights: list[Flight] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)  # the latest ended orders, at most ENDED_ORDERS_MAX
    attempts: list[tuple[int, int]] = field(default_factory=list)  # (instrument, attempts) in this epoch, by instrument
    holes: list[tuple[int, list[int]]] = field(default_factory=list)  # (venue, missing sequences rising), by venue
    lasting: list[int] = field(default_factory=list)  # venues whose missing fills are too many to name, rising
    unreconciled: list[int] = field(default_factory=list)  # venues whose last snapshot differed, rising
    quarantined: bool = False
    grace_until_ns: int = 0  # 0: none
    retry_ns: int = 0  # a plan is tried again at the first tick from here on; 0: not waiting
    fund_epoch: int = -1  # the epoch for which the insurance fund was asked
    said: str = ""  # the last decision that sent no order: it is audited when it changes, not at each try
    missed: list[tuple[str, int]] = field(default_factory=list)  # (venue's name or "", highest number or UNNUMBERED), see engine.postings
    pending: list[PendingAt] = field(default_factory=list)  # by venue, rising
    local: list[tuple[int, int]] = field(default_factory=list)  # (venue, engine.venue_legs verdict) of legs that are called, by venue

    def is_empty(self) -> bool:
        """It says nothing that a new one would not say."""
        return self == Life()


class AccountRow(Struct):
    """A decoded account row."""

    prior: int
    cause: int
    epoch: int
    positions: list[tuple[int, int, int]]  # (instrument, quantity, cash)
    venues: list[tuple[int, int]]  # (venue, last sequence)
    life: Life | None


_LIFE_DECODER = msgspec.msgpack.Decoder(Life)
_ENCODER = msgspec.msgpack.Encoder()
_RECORD_DECODER = msgspec.msgpack.Decoder(CutRecord)


class RowLedger:
    """Hash of every row and piece as of the last cut, and their sum; tells which rows really changed."""

    def __init__(self) -> None:
        self._hashes: dict[bytes, int] = {}
        self._sum = 0

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def digest(self) -> bytes:
        """Sum of the hashes mod 2**128, 16 bytes little endian."""
        return (self._sum % _DIGEST_MODULUS).to_bytes(16, "little")

    def put(self, key: bytes, value: bytes) -> bool:
        """Takes a row's new value; False when it is the one that was there."""
        new = row_hash(key, value)
        old = self._hashes.get(key, -1)
        if new == old:
            return False
        self._hashes[key] = new
        self._sum += new if old < 0 else new - old
        return True

    def drop(self, key: bytes) -> bool:
        """Forgets a row; False when there was none."""
        old = self._hashes.pop(key, None)
        if old is None:
            return False
        self._sum -= old
        return True

    def record(self, *, applied: int, clock_ns: int, parameters_version: str, sealed: bool, sources: Sources) -> bytes:
        """The cut record's bytes."""
        return _ENCODER.encode(
            CutRecord(
                engine_version=ENGINE_VERSION,
                applied=applied,
                clock_ns=clock_ns,
                parameters_version=parameters_version,
                digest=self.digest,
                rows=len(self._hashes),
                sealed=sealed,
                sources=sources.to_data(),
            )
        )

    def verify(self, rows: Iterable[tuple[bytes, bytes]]) -> tuple[CutRecord | None, dict[bytes, bytes]]:
        """Takes over committed rows: (cut record, rows without it); (None, {}) when there is nothing. Raises DigestMismatch."""
        taken = dict(rows)
        record_bytes = taken.pop(CUT_KEY, None)
        self._hashes, self._sum = {}, 0
        for key, value in taken.items():
            self.put(key, value)
        if record_bytes is None:
            if taken:
                raise DigestMismatch(f"{len(taken)} rows without a cut record: restore this partition's rows topic from a backup")
            return None, {}
        record = _RECORD_DECODER.decode(record_bytes)
        if record.rows != len(taken) or record.digest != self.digest:
            raise DigestMismatch(
                f"{len(taken)} rows read back do not match the cut record ({record.rows} rows at log offset {record.applied}): "
                "restore this partition's rows topic from a backup"
            )
        if record.engine_version != ENGINE_VERSION and not record.sealed:
            raise EngineVersionMismatch(
                f"rows cut by engine version {record.engine_version} without a seal, and this is {ENGINE_VERSION}: "
                f"start a release with engine version {record.engine_version}, stop it cleanly, then start this one"
            )
        return record, taken


def row_hash(key: bytes, value: bytes) -> int:
    """blake2b-128 over length of the key (u32, little endian), key and value, as an integer."""
    return int.from_bytes(hashlib.blake2b(len(key).to_bytes(4, "little") + key + value, digest_size=16).digest(), "little")


def encode_piece(content: Any) -> bytes:
    """The bytes of a piece: MessagePack of plain lists, strings, integers, floats and bytes; floats exact. Equal contents, equal bytes."""
    return _ENCODER.encode(content)


def decode_piece(value: bytes) -> Any:
    """The inverse of `encode_piece`; tuples come back as lists."""
    return msgspec.msgpack.decode(value)


def decode_account_row(value: bytes) -> AccountRow:
    """The inverse of `encode_account_rows` with the life's bytes behind it."""
    version, prior, cause, positions, venues, epoch = _FIXED.unpack_from(value)
    assert version == ROW_VERSION, f"row layout {version}, and this engine knows {ROW_VERSION}"
    start = ROW_FIXED_BYTES
    middle = start + positions * POSITION_BYTES
    end = middle + venues * VENUE_BYTES
    return AccountRow(
        prior=prior,
        cause=cause,
        epoch=epoch,
        positions=list(_POSITION.iter_unpack(value[start:middle])),
        venues=list(_VENUE.iter_unpack(value[middle:end])),
        life=_LIFE_DECODER.decode(value[end:]) if len(value) > end else None,
    )


def max_row_bytes(positions: int, venues: int) -> int:
    """The longest that the fixed part of a row can be."""
    return ROW_FIXED_BYTES + positions * POSITION_BYTES + venues * VENUE_BYTES


def encode_life(life: Life) -> bytes:
    """The part of a row that most accounts do not have."""
    return _ENCODER.encode(life)


@kernel
def _put_int(out: NDArray[np.uint8], at: int, value: int | np.int64, size: int) -> int:
    for byte in range(size):
        out[at + byte] = (value >> (8 * byte)) & 0xFF
    return at + size


@kernel
def encode_account_rows(
    accounts: NDArray[np.int64],
    prior: NDArray[np.int8],
    cause: NDArray[np.int8],
    epoch: NDArray[np.int64],
    positions: NDArray[np.int32],
    instrument: NDArray[np.int32],
    quantity: NDArray[np.int64],
    cash: NDArray[np.int64],
    venue_count: NDArray[np.int32],
    venue: NDArray[np.int32],
    sequence: NDArray[np.int64],
    out: NDArray[np.uint8],
    ends: NDArray[np.int64],
) -> int:
    """Writes the fixed parts of the rows of `accounts` one behind the other into `out`, `ends[k]` being where the k-th ends; the length."""
    at = 0
    for k in range(accounts.shape[0]):
        a = accounts[k]
        at = _put_int(out, at, ROW_VERSION, 1)
        at = _put_int(out, at, np.int64(prior[a]), 1)
        at = _put_int(out, at, np.int64(cause[a]), 1)
        at = _put_int(out, at, np.int64(positions[a]), 1)
        at = _put_int(out, at, np.int64(venue_count[a]), 1)
        at = _put_int(out, at, epoch[a], 8)
        for slot in range(positions[a]):
            at = _put_int(out, at, np.int64(instrument[a, slot]), 4)
            at = _put_int(out, at, quantity[a, slot], 8)
            at = _put_int(out, at, cash[a, slot], 8)
        for slot in range(venue_count[a]):
            at = _put_int(out, at, np.int64(venue[a, slot]), 4)
            at = _put_int(out, at, sequence[a, slot], 8)
        ends[k] = at
    return at
