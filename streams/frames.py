"""Frames as bytes: a header with version, kind, length and checksum, then MessagePack; fills as raw columns.

Header, little endian, 16 bytes: magic `PLMF`, version (1 byte), kind (1), zero (2), length of the body (4), CRC-32 of all else (4).
The checksum also guards the engine's kernels: they do not check indices, and a frame that was altered on its way never reaches them.
"""

import struct
import zlib
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
from msgspec import Struct

from engine.inputs import (
    FILL_DTYPE,
    FILL_KINDS,
    AnyCommand,
    AnyDefinition,
    Credit,
    Depth,
    Fills,
    Frame,
    FrameKind,
    Funding,
    Grant,
    Heartbeat,
    ImpliedVolatility,
    LagObservation,
    OraclePrice,
    OrderReport,
    Partial,
    Pending,
    RefusedFill,
    RiskParameters,
    Snapshot,
    Tick,
    VerifiedAttestation,
)

VERSION = 1
MAGIC = b"PLMF"
CONTROL_SOURCE = "control"

_HEADER = struct.Struct("<4sBBHI")  # and the checksum behind it
_CHECKSUM = struct.Struct("<I")
_BODY_START = _HEADER.size + _CHECKSUM.size

T = TypeVar("T")


class FrameFault(Exception):
    """Bytes that are no frame, or a frame of a version that this program does not know. Stop the partition: going on would skip a record.

    The text says which; for an unknown version, start a program that knows it.
    """


class _Events(Struct, Generic[T], frozen=True, array_like=True, forbid_unknown_fields=True):
    source: str
    source_partition: int
    covers_from: int
    covers_to: int
    offsets: list[int]
    events: list[T]


class _FillColumns(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    source: str
    source_partition: int
    covers_from: int
    covers_to: int
    accounts: list[str]
    instruments: list[tuple[str, str]]
    order_ids: list[str]
    rows: bytearray  # FILL_DTYPE; decoded into memory of its own, so that the array is aligned and writable


class _Copied(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    covers_from: int
    covers_to: int
    inner: bytes


_EVENT_TYPES: dict[FrameKind, Any] = {
    FrameKind.PRICES: OraclePrice,
    FrameKind.DEPTHS: Depth,
    FrameKind.VOLATILITIES: ImpliedVolatility,
    FrameKind.FUNDINGS: Funding,
    FrameKind.DEFINITIONS: AnyDefinition,
    FrameKind.PARAMETERS: RiskParameters,
    FrameKind.COMMANDS: AnyCommand,
    FrameKind.TICK: Tick,
    FrameKind.GRANTS: Grant,
    FrameKind.LAGS: LagObservation,
    FrameKind.SNAPSHOTS: Snapshot,
    FrameKind.PENDING: Pending,
    FrameKind.REPORTS: OrderReport,
    FrameKind.CREDITS: Credit,
    FrameKind.REFUSED_FILLS: RefusedFill,
    FrameKind.HEARTBEATS: Heartbeat,
    FrameKind.ATTESTATIONS: VerifiedAttestation,
    FrameKind.PARTIALS: Partial,
}
_ENCODER = msgspec.msgpack.Encoder()
_EVENTS_OF: Any = _Events  # parametrised below by types that only exist at run time
_DECODERS: dict[FrameKind, Any] = {kind: msgspec.msgpack.Decoder(_EVENTS_OF[event]) for kind, event in _EVENT_TYPES.items()}
_FILLS_DECODER = msgspec.msgpack.Decoder(_FillColumns)
_COPIED_DECODER = msgspec.msgpack.Decoder(_Copied)


def encode_frame(frame: Frame) -> bytes:
    """The frame's bytes; the same frame gives the same bytes. Raises ValueError for a frame that `decode_frame` would not accept."""
    kind, source, source_partition, covers_from, covers_to, events, offsets = frame
    content: Any
    if kind is FrameKind.CONTROL:
        return wrap_control(encode_frame(_copied_frame(frame)), covers_to, covers_from)
    if isinstance(events, Fills):
        content = _FillColumns(source, source_partition, covers_from, covers_to, *events[:3], bytearray(events.rows.tobytes()))
        fault = "not fills" if kind is not FrameKind.FILLS else _fault_of_fills(frame, events)
    else:
        content = _Events(source, source_partition, covers_from, covers_to, offsets, events)
        fault = "fills that are no columns" if kind is FrameKind.FILLS else _fault_of_offsets(frame, len(events))
    if fault:
        raise ValueError(f"cannot encode this {kind.name} frame of {source}: {fault}")
    return _sealed(kind, _ENCODER.encode(content))


def wrap_control(inner: bytes, offset: int, covers_from: int) -> bytes:
    """A CONTROL frame around the bytes of a frame of control (not decoded here): the copier's word that it stood there at `offset`.

    `covers_from` is the offset of the frame of control that was copied before it, -1 for the first.
    """
    if not covers_from < offset:
        raise ValueError(f"a frame of control at offset {offset} cannot follow one at {covers_from}")
    return _sealed(FrameKind.CONTROL, _ENCODER.encode(_Copied(covers_from, offset, inner)))


def decode_frame(data: bytes) -> Frame:
    """The frame that these bytes hold. Raises FrameFault for anything else: unknown versions, altered or missing bytes.

    `Fills.rows` is aligned and writable, and its indices lie within the lists beside it.
    """
    frame = _decoded(data)
    if frame.kind is FrameKind.CONTROL:
        inner = frame.events[0]
        assert isinstance(inner, bytes)
        try:
            copied = _decoded(inner)
        except FrameFault as fault:
            raise FrameFault(f"within the copy of control's offset {frame.covers_to}: {fault}") from None
        if copied.kind is FrameKind.CONTROL:
            raise FrameFault("a copy of a copy: frames of control come from control itself, never from a ledger")
        return frame._replace(events=[copied])
    return frame


def _sealed(kind: FrameKind, body: bytes) -> bytes:
    header = _HEADER.pack(MAGIC, VERSION, kind, 0, len(body))
    return b"".join((header, _CHECKSUM.pack(zlib.crc32(body, zlib.crc32(header))), body))


def _decoded(data: bytes) -> Frame:
    """As `decode_frame`, but a copied frame stays bytes."""
    if len(data) < _BODY_START or data[:4] != MAGIC:
        raise FrameFault(f"{len(data)} bytes that do not begin as a frame: was something else written to this topic?")
    _, version, kind_number, zero, length = _HEADER.unpack_from(data)
    if version != VERSION:
        raise FrameFault(f"a frame of version {version}, and this program knows {VERSION}: run the release that wrote it, or a later one")
    body = memoryview(data)[_BODY_START:]
    if length != len(body):
        raise FrameFault(f"a frame of {length} bytes, of which {len(body)} are there")
    (checksum,) = _CHECKSUM.unpack_from(data, _HEADER.size)
    if checksum != zlib.crc32(body, zlib.crc32(data[: _HEADER.size])):
        raise FrameFault("a frame whose checksum is wrong: its bytes were altered after it was made")
    try:
        kind = FrameKind(kind_number)
    except ValueError:
        raise FrameFault(f"a frame of kind {kind_number}, which this program does not know: run a later release") from None
    try:
        frame, fault = _body_decoded(kind, body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameFault(f"a {kind.name} frame that cannot be decoded: {error}") from None
    if zero or fault:
        raise FrameFault(f"a {kind.name} frame of {frame.source} that contradicts itself: {fault or 'its header'}")
    return frame


def _body_decoded(kind: FrameKind, body: memoryview) -> tuple[Frame, str]:
    if kind is FrameKind.CONTROL:
        copied = _COPIED_DECODER.decode(body)
        frame = Frame(kind, CONTROL_SOURCE, 0, copied.covers_from, copied.covers_to, [copied.inner], [copied.covers_to])
        return frame, _fault_of_offsets(frame, 1)
    if kind is FrameKind.FILLS:
        columns = _FILLS_DECODER.decode(body)
        if len(columns.rows) % FILL_DTYPE.itemsize:
            raise FrameFault(f"{len(columns.rows)} bytes are not a whole number of rows of {FILL_DTYPE.itemsize}")
        fills = Fills(columns.accounts, columns.instruments, columns.order_ids, np.frombuffer(columns.rows, FILL_DTYPE))
        frame = Frame(kind, columns.source, columns.source_partition, columns.covers_from, columns.covers_to, fills, [])
        return frame, _fault_of_fills(frame, fills)
    decoded = _DECODERS[kind].decode(body)
    frame = Frame(kind, decoded.source, decoded.source_partition, decoded.covers_from, decoded.covers_to, decoded.events, decoded.offsets)
    return frame, _fault_of_offsets(frame, len(decoded.events))


def _copied_frame(frame: Frame) -> Frame:
    if isinstance(frame.events, Fills) or len(frame.events) != 1 or not isinstance(frame.events[0], Frame):
        raise ValueError("a CONTROL frame holds exactly one Frame")
    if frame.source != CONTROL_SOURCE or frame.source_partition != 0 or frame.offsets != [frame.covers_to]:
        raise ValueError(f"a CONTROL frame's source is {CONTROL_SOURCE!r}, partition 0, and its one offset is the last it covers")
    copied = frame.events[0]
    if copied.kind is FrameKind.CONTROL:
        raise ValueError("a CONTROL frame holds a frame of control, not another copy")
    return copied


def _fault_of_offsets(frame: Frame, events: int) -> str:
    """Why the frame's offsets make no sense, or ''."""
    offsets = frame.offsets
    if len(offsets) != events:
        return f"{len(offsets)} offsets for {events} events"
    if not -1 <= frame.covers_from < frame.covers_to:
        return f"it covers ({frame.covers_from}, {frame.covers_to}]"
    previous = frame.covers_from
    for offset in offsets:
        if offset <= previous:
            return f"offset {offset} after {previous}"
        previous = offset
    return f"offset {previous} beyond {frame.covers_to}" if previous > frame.covers_to else ""


def _fault_of_fills(frame: Frame, fills: Fills) -> str:
    """Why rows and lists contradict each other, or ''. The engine's kernels index without checks: this is their guard."""
    rows = fills.rows
    if rows.dtype != FILL_DTYPE or rows.ndim != 1:
        return f"rows of dtype {rows.dtype} and {rows.ndim} dimensions"
    if frame.offsets:
        return "offsets beside the rows, which have their own"
    if not -1 <= frame.covers_from < frame.covers_to:
        return f"it covers ({frame.covers_from}, {frame.covers_to}]"
    if not len(rows):
        return ""
    bounds = (
        ("account", 0, len(fills.accounts)),
        ("instrument", 0, len(fills.instruments)),
        ("order", -1, len(fills.order_ids)),
        ("kind", 0, len(FILL_KINDS)),
        ("offset", frame.covers_from + 1, frame.covers_to + 1),
    )
    for column, lowest, beyond in bounds:
        values = rows[column]
        if not (lowest <= values.min() and values.max() < beyond):
            return f"column {column} outside {lowest}..{beyond - 1}"
    return "" if (np.diff(rows["offset"]) > 0).all() else "offsets that do not increase"
