"""The payload of our attestations: one numbered movement of an account's position on a chain, in exactly one encoding.

Layout, big-endian: magic `PLMT`, version u8, direction u8, lots i64, number i64, then account, chain and asset, each as a length u8 and
that many bytes. docs/attestations.md has an example.
"""

import re
import struct
from enum import IntEnum, StrEnum
from typing import NamedTuple, Self

from engine.reasons import Refusal

MAGIC = b"PLMT"
VERSION = 1
INT_MAX = 2**62  # as in every message: sums of two stay within 64 bits
NAME_MAX_BYTES = 64

_FIXED = struct.Struct(">4sBBqq")
_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9_.:+-]*")  # engine.inputs.Name


class Reason(StrEnum):
    """A closed list of reasons: the value is exact, `refusal` is the dead-letter reason it falls under, `meaning` is for people."""

    refusal: Refusal
    meaning: str

    def __new__(cls, value: str, refusal: Refusal, meaning: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.refusal = refusal
        member.meaning = meaning
        return member


class TransferFault(Reason):
    """Why a payload is not a transfer."""

    NOT_A_TRANSFER = "not_a_transfer", Refusal.BAD_PAYLOAD, "the payload does not begin as a transfer does"
    TRUNCATED = "truncated", Refusal.BAD_PAYLOAD, "the payload ends within the transfer"
    BAD_VERSION = "bad_transfer_version", Refusal.BAD_PAYLOAD, f"the transfer is not of version {VERSION}"
    BAD_DIRECTION = "bad_direction", Refusal.BAD_PAYLOAD, "the transfer is neither credit nor debit"
    BAD_LOTS = "bad_lots", Refusal.BAD_PAYLOAD, "lots are not within 1 to 2^62"
    BAD_NUMBER = "bad_number", Refusal.BAD_PAYLOAD, "the transfer's number is not within 1 to 2^62"
    BAD_NAME = "bad_name", Refusal.BAD_PAYLOAD, "account, chain or asset is empty, too long, or has other characters than names may have"
    TRAILING_BYTES = "trailing_bytes", Refusal.BAD_PAYLOAD, "the payload goes on after the transfer"


class Direction(IntEnum):
    """Which way a transfer moves the position; the value is the byte in the payload."""

    CREDIT = 1
    DEBIT = 2


class Transfer(NamedTuple):
    """A movement of `lots` (positive) of `asset` into or out of an account's position on `chain`.

    `number` counts the account's transfers on that chain from 1; the contract that emits them gives it.
    """

    account: str
    chain: str
    asset: str
    lots: int
    direction: Direction
    number: int

    @property
    def delta_lots(self) -> int:
        """What the position changes by."""
        return self.lots if self.direction is Direction.CREDIT else -self.lots


def decode_transfer(payload: bytes) -> Transfer | TransferFault:
    """The transfer that a payload is, to its last byte: `encode_transfer` of it gives the same bytes again."""
    if payload[: len(MAGIC)] != MAGIC:
        return TransferFault.NOT_A_TRANSFER
    if len(payload) < _FIXED.size:
        return TransferFault.TRUNCATED
    _, version, direction, lots, number = _FIXED.unpack_from(payload)
    if version != VERSION:
        return TransferFault.BAD_VERSION
    if direction not in (Direction.CREDIT, Direction.DEBIT):
        return TransferFault.BAD_DIRECTION
    if not 1 <= lots <= INT_MAX:
        return TransferFault.BAD_LOTS
    if not 1 <= number <= INT_MAX:
        return TransferFault.BAD_NUMBER

    names: list[str] = []
    at = _FIXED.size
    for _ in ("account", "chain", "asset"):
        if at == len(payload):
            return TransferFault.TRUNCATED
        end = at + 1 + payload[at]
        if end > len(payload):
            return TransferFault.TRUNCATED
        name = payload[at + 1 : end]
        if not _is_name(name):
            return TransferFault.BAD_NAME
        names.append(name.decode("ascii"))
        at = end
    if at != len(payload):
        return TransferFault.TRAILING_BYTES
    account, chain, asset = names
    return Transfer(account, chain, asset, lots, Direction(direction), number)


def encode_transfer(transfer: Transfer) -> bytes:
    """The payload of a transfer; ValueError when it is one that `decode_transfer` would refuse."""
    for what, value in (("lots", transfer.lots), ("number", transfer.number)):
        if not 1 <= value <= INT_MAX:
            raise ValueError(f"a transfer's {what} must be within 1 to 2^62, not {value}")
    parts = [_FIXED.pack(MAGIC, VERSION, transfer.direction, transfer.lots, transfer.number)]
    for name in (transfer.account, transfer.chain, transfer.asset):
        encoded = name.encode()
        if not _is_name(encoded):
            raise ValueError(f"{name!r} is no name: 1 to {NAME_MAX_BYTES} of A-Z a-z 0-9 _ . : + -, beginning with a letter or digit")
        parts.append(bytes([len(encoded)]) + encoded)
    return b"".join(parts)


def _is_name(encoded: bytes) -> bool:
    return len(encoded) <= NAME_MAX_BYTES and _NAME.fullmatch(encoded) is not None
