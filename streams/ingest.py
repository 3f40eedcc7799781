"""From records of a public topic to frames for a machine's log: decode, refuse what the bytes alone show to be bad, put into columns.

Pure functions: no state is kept and nothing is sent. Fills are decoded and checked as a batch; the records that fail, and those of the
rarer topics, are looked at one by one, which finds the exact reason for a dead letter.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Annotated, Any, Final, NamedTuple, Protocol, get_args, get_origin

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.inputs import (
    FILL_DTYPE,
    FILL_KINDS,
    Attestation,
    Fill,
    FillKind,
    Fills,
    Frame,
    FrameKind,
    Name,
    OraclePrice,
    RefusedFill,
    RiskParameters,
    VenueDefinition,
)
from engine.murmur2 import partition_of, partitions_of
from engine.reasons import Refusal
from streams.frames import FrameFault
from streams.messages import FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, SOURCES, DeadLetter, PartialMessage, SourceTopic, dead_letter
from streams.verify import verify

FRAME_MAX_EVENTS = 8_000
OBSERVATION_NS = 1_000_000_000  # a frame of prices is one observation: it spans at most this much event time
PARAMETERS_DEPTH_MAX = 8  # of nested objects and lists
DETAIL_CHARACTERS_MAX = 300


class SourceRecord(Protocol):
    """What ingest needs of a consumed record; aiokafka's `ConsumerRecord`, what it makes that from, and `Record` have it."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class Record(NamedTuple):
    """A record without a broker, for replays and tests."""

    offset: int
    key: bytes | None
    value: bytes | None
    partition: int = 0


class Refused(NamedTuple):
    """Why a record was refused."""

    reason: Refusal
    detail: str


class Batch(NamedTuple):
    """What became of a batch. Send the letters first: a frame says that everything up to its `covers_to` has been dealt with."""

    frames: list[Frame]
    letters: list[DeadLetter]


def frame_batch(
    topic: str,
    records: Sequence[SourceRecord],
    covers_from: int,
    *,
    partitions: int,
    partition: int | None = None,
    frame_max_events: int = FRAME_MAX_EVENTS,
) -> Batch:
    """Frames and dead letters of consecutive records of one partition of a source topic.

    `covers_from` is the offset up to which earlier frames cover this partition (-1: none); the frames returned follow on without a gap
    and the last covers the last record, so a batch of nothing but bad records still gives one frame, with no events. `partitions` is
    the topic's number of partitions: a record that its key's murmur2 hash puts elsewhere is refused. `partition` need not be given where
    the records know theirs. Frames hold at most `frame_max_events` events and FRAME_BYTES_MAX bytes. Refused fills whose account can be
    told have frames of their own, in the order of offsets, so that their accounts know of them. Raises FrameFault for a bad record of
    `treasury.partials`, which is ours.
    """
    source = SOURCES[topic]
    frames: list[Frame] = []
    letters: list[DeadLetter] = []
    partition = _own_partition(records) if partition is None else partition
    for chunk in _chunks(source, records, frame_max_events):
        last = chunk[-1].offset
        if source.kind is FrameKind.FILLS:
            frames += _fill_frames(source, chunk, covers_from, partition, partitions, letters)
        else:
            events, offsets = _events(source, chunk, partition, partitions, letters)
            for start, end in _observations(events) if source.kind is FrameKind.PRICES else [(0, len(events))]:
                covers_to = last if end == len(events) else offsets[end] - 1
                frames.append(Frame(source.kind, topic, partition, covers_from, covers_to, events[start:end], offsets[start:end]))
                covers_from = covers_to
        covers_from = last
    return Batch(frames, letters)


def _own_partition(records: Sequence[Any]) -> int:
    """The partition that the records say they are of."""
    assert not records or records[0].partition == records[-1].partition, "frames cover one partition each"
    return records[0].partition if records else 0


def decode_record(source: SourceTopic, record: Record, partitions: int) -> Any | Refused:
    """The event in one record, or why it is refused."""
    value = record.value
    if value is None:
        return Refused(Refusal.BAD_JSON, "no value")
    if len(value) > MESSAGE_BYTES_MAX:
        return Refused(Refusal.TOO_LARGE, f"{len(value)} bytes, and at most {MESSAGE_BYTES_MAX} are taken")
    try:
        message = _DECODERS[source.topic].decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return _why_not_decoded(value, error)
    refused = _contradiction(message) or _misplaced(source, message, record, partitions)
    if refused:
        return refused
    if isinstance(message, Attestation):
        verified = verify(message)
        return Refused(verified.refusal, f"{verified.value}: {verified.meaning}") if isinstance(verified, str) else verified
    return message.partial if isinstance(message, PartialMessage) else message


# ---- records, one by one --------------------------------------------------------------------------------------------------------------


_DECODERS: Final[dict[str, Any]] = {topic: msgspec.json.Decoder(source.type) for topic, source in SOURCES.items()}


def _events(
    source: SourceTopic, chunk: Sequence[SourceRecord], partition: int, partitions: int, letters: list[DeadLetter]
) -> tuple[list[Any], list[int]]:
    """(events, their offsets) of a chunk; what is refused is added to `letters`."""
    events = []
    offsets = []
    for given in chunk:
        record = Record(given.offset, given.key, given.value, partition)
        event = decode_record(source, record, partitions)
        if not isinstance(event, Refused):
            events.append(event)
            offsets.append(record.offset)
        elif source.kind is FrameKind.PARTIALS:
            raise FrameFault(f"{source.topic} offset {record.offset}: {event.reason}, {event.detail}; run the release that wrote it")
        else:
            letters.append(dead_letter(source.topic, partition, record.offset, record.key, record.value, *event))
    return events, offsets


def _contradiction(message: Any) -> Refused | None:
    """What one message says that cannot be, though each field is within its bounds."""
    if isinstance(message, Fill):
        if message.kind == "funding" and message.lots:
            return Refused(Refusal.OUT_OF_RANGE, "lots: funding moves cash only, so lots must be 0")
        if message.kind in {"transfer", "funding"} and message.price_ticks:
            return Refused(Refusal.OUT_OF_RANGE, f"price_ticks: a {message.kind} has no price, so it must be 0")
    elif isinstance(message, VenueDefinition):
        if not re.fullmatch(r"[A-Za-z0-9._-]+", message.name):
            return Refused(Refusal.OUT_OF_RANGE, "name: a venue's name is part of a topic's, which has letters, digits and . _ - only")
        return None if message.rule is None else _fault_of_tree("rule.parameters", message.rule.parameters, PARAMETERS_DEPTH_MAX)
    elif isinstance(message, RiskParameters):
        return _fault_of_tree("parameters", message.parameters, PARAMETERS_DEPTH_MAX)
    return None


def _fault_of_tree(path: str, content: Any, depth: int) -> Refused | None:
    """Free-form content must be within what a frame can carry: a machine's log may hold nothing that its reader cannot decode."""
    if isinstance(content, int) and not -(2**63) <= content < 2**63:
        return Refused(Refusal.OUT_OF_RANGE, f"{path}: a whole number beyond 64 bits")
    if not isinstance(content, dict | list):
        return None
    if depth == 0:
        return Refused(Refusal.OUT_OF_RANGE, f"{path}: nested more than {PARAMETERS_DEPTH_MAX} deep")
    for child in content.values() if isinstance(content, dict) else content:
        refused = _fault_of_tree(path, child, depth - 1)
        if refused:
            return refused
    return None


def _misplaced(source: SourceTopic, message: Any, record: Record, partitions: int) -> Refused | None:
    try:
        key = source.key(message)
    except ValueError:  # an attestation too short to name its emitter; `verify` says what is wrong with it
        return None
    if record.key != key:
        return Refused(Refusal.WRONG_KEY, f"the message belongs under the key {key.decode()}")
    expected = partition_of(key, partitions)
    if record.partition != expected:
        detail = f"the key belongs in partition {expected} of {partitions}: does its producer use the murmur2 partitioner?"
        return Refused(Refusal.WRONG_PARTITION, detail)
    return None


# ---- why bytes are no message ---------------------------------------------------------------------------------------------------------


class _NotFinite(ValueError):
    """A number that JSON does not have, or that overflows a float."""


def _refuse_constant(token: str) -> float:
    raise _NotFinite(f"{token} is no number")


def _finite(token: str) -> float:
    if math.isinf(float(token)):
        raise _NotFinite(f"{token[:40]} overflows")
    return float(token)


def _why_not_decoded(value: bytes, error: Exception) -> Refused:
    """The reason for which a decoder gave up with `error`. Slow: it reads the bytes once more, with a reader that knows NaN."""
    try:
        content = json.loads(value.decode(), parse_constant=_refuse_constant, parse_float=_finite)
    except _NotFinite as fault:
        return Refused(Refusal.NOT_FINITE, str(fault))
    except RecursionError:
        return Refused(Refusal.BAD_JSON, "nested too deeply")
    except ValueError as fault:
        if isinstance(error, msgspec.ValidationError):  # well-formed after all: a whole number with thousands of digits
            return _why_invalid(str(error))
        return Refused(Refusal.BAD_JSON, str(fault)[:DETAIL_CHARACTERS_MAX])
    if not isinstance(content, dict):
        return Refused(Refusal.WRONG_TYPE, f"an object is expected, not {type(content).__name__}")
    version = content.get("v")
    if isinstance(version, int) and not isinstance(version, bool) and version != 1:  # a later version may have other fields: say this first
        return Refused(Refusal.UNKNOWN_VERSION, f"version {version!r:.40} is not known; 1 is")
    if not isinstance(error, msgspec.ValidationError):
        return Refused(Refusal.BAD_JSON, str(error)[:DETAIL_CHARACTERS_MAX])
    return _why_invalid(str(error))


_INVALID: Final[tuple[tuple[str, Refusal], ...]] = (  # the first that matches msgspec's text wins
    (r"missing required field", Refusal.MISSING_FIELD),
    (r"contains unknown field", Refusal.UNKNOWN_FIELD),
    (r"^Number out of range", Refusal.NOT_FINITE),
    (r"^Expected `int`, got `float` - at `\$.*lots`", Refusal.NOT_A_LOT),
    (r"^Expected `int`, got `float` - at `\$.*ticks`", Refusal.NOT_A_TICK),
    (r"^Expected `float` > 0\.0", Refusal.NOT_POSITIVE),
    (r"^Expected `int` >= 0 - at `\$.*ticks`", Refusal.NOT_POSITIVE),
    (r"^Expected `[^`]*`, got ", Refusal.WRONG_TYPE),
    (r"^(Expected|Invalid (enum )?value|Integer value out of range)", Refusal.OUT_OF_RANGE),
)


def _why_invalid(text: str) -> Refused:
    reason = next((reason for pattern, reason in _INVALID if re.search(pattern, text)), Refusal.WRONG_TYPE)
    return Refused(reason, text[:DETAIL_CHARACTERS_MAX])


# ---- batches --------------------------------------------------------------------------------------------------------------------------


def _chunks(source: SourceTopic, records: Sequence[SourceRecord], frame_max_events: int) -> Iterator[Sequence[SourceRecord]]:
    """The records of one frame each. A fill's row takes 64 bytes and its names less than its JSON.

    Other events take at most 9 bytes for 4 of theirs: free-form parameters may be nothing but `0.1,`, and each is 64 bits and a tag.
    """
    assert frame_max_events > 0
    of_json, more = (1.0, 80) if source.kind is FrameKind.FILLS else (2.25, 512)
    lengths = [len(record.value or b"") for record in records]
    if of_json * sum(lengths) + more * len(lengths) <= FRAME_BYTES_MAX - 1024:  # nearly always: no frame of these can be too large
        yield from (records[start : start + frame_max_events] for start in range(0, len(records), frame_max_events))
        return
    sizes = [of_json * min(length, MESSAGE_BYTES_MAX) + more for length in lengths]
    start = 0
    while start < len(records):
        end = min(start + frame_max_events, len(records))
        while sum(sizes[start:end]) > FRAME_BYTES_MAX - 1024:
            end = (start + end) // 2
        yield records[start:end]
        start = end


def _observations(prices: list[OraclePrice]) -> Iterator[tuple[int, int]]:
    """(start, end) of runs of prices that count as seen at once; at least one run, which may be empty.

    A run ends before a price published more than OBSERVATION_NS after the run's first, or after the first of the same source and asset
    in it: the latter also when the run began with a source whose clock is ahead.
    """
    start = 0
    firsts: dict[tuple[str, str], int] = {}
    for index, price in enumerate(prices):
        published = price.publish_time_ns
        series = (price.asset, price.source)
        earliest = min(firsts.get(series, published), prices[start].publish_time_ns)
        if published > earliest + OBSERVATION_NS:
            yield start, index
            start = index
            firsts = {}
        firsts.setdefault(series, published)
    yield start, len(prices)


# ---- fills in columns -----------------------------------------------------------------------------------------------------------------

_KIND_NUMBERS: Final = {name: number for number, name in enumerate(FILL_KINDS)}
_NAME = re.compile(get_args(Name)[1].pattern)
_SEQUENCE: Final = next(field.type for field in msgspec.structs.fields(Fill) if field.name == "sequence")


def _without_pattern(kind: Any) -> Any:
    """A name's length, but not its pattern: that costs as much as all the rest, so it is checked once for each name of a batch."""
    if get_origin(kind) is not Annotated or kind != Name:
        return kind
    bounds = get_args(Name)[1]
    return Annotated[str, msgspec.Meta(min_length=bounds.min_length, max_length=bounds.max_length)]


# Fill's own fields, so that the two cannot drift apart; not tracked by the garbage collector, which would look at 8,000 of them again.
_FAST_FILL: Final = msgspec.defstruct(
    "FastFill",
    [
        (field.name, _without_pattern(field.type))
        if field.default is msgspec.NODEFAULT
        else (field.name, _without_pattern(field.type), field.default)
        for field in msgspec.structs.fields(Fill)
    ],
    forbid_unknown_fields=True,
    kw_only=True,
    gc=False,
)
_UNDECODABLE: Final = (TypeError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # TypeError: a record without a value
_FAST_DECODER: Final[Any] = msgspec.json.Decoder(_FAST_FILL)


def _fill_frames(
    source: SourceTopic, chunk: Sequence[SourceRecord], covers_from: int, partition: int, partitions: int, letters: list[DeadLetter]
) -> Iterator[Frame]:
    """The frames of a chunk: good fills in columns, refused ones of an account between them. What is refused is added to `letters`."""
    where, last = (source.topic, partition), chunk[-1].offset
    fast = _decoded_fast([record.value for record in chunk])
    decoded = chunk if None not in fast else [record for record, fill in zip(chunk, fast, strict=True) if fill is not None]
    columns = _columns([fill for fill in fast if fill is not None], [record.offset for record in decoded])
    sound = _sound(columns, [record.key for record in decoded], partition, partitions)
    if decoded is chunk and sound.all():
        yield Frame(FrameKind.FILLS, *where, covers_from, last, columns, [])
        return
    good = set(columns.rows["offset"][sound].tolist())
    kept: list[tuple[int, Any]] = []
    for given, fill in zip(chunk, fast, strict=True):
        record = Record(given.offset, given.key, given.value, partition)
        if record.offset not in good:
            fill = decode_record(source, record, partitions)
            if isinstance(fill, Refused):
                letters.append(dead_letter(source.topic, partition, record.offset, record.key, record.value, *fill))
                fill = _refused_fill(record, fill, partitions)
        if fill is not None:
            kept.append((record.offset, fill))
    runs = [list(run) for _, run in groupby(kept, lambda one: isinstance(one[1], RefusedFill))] or [[]]
    for index, run in enumerate(runs):
        covers_to = last if index == len(runs) - 1 else runs[index + 1][0][0] - 1
        offsets, fills = [offset for offset, _ in run], [fill for _, fill in run]
        if fills and isinstance(fills[0], RefusedFill):
            yield Frame(FrameKind.REFUSED_FILLS, *where, covers_from, covers_to, fills, offsets)
        else:
            yield Frame(FrameKind.FILLS, *where, covers_from, covers_to, _columns(fills, offsets), [])
        covers_from = covers_to


def _refused_fill(record: Record, refused: Refused, partitions: int) -> RefusedFill | None:
    """Whose fill it was (by its key), and its venue and number where they can be read; None if it is no account's of this partition.

    A record under another account's key, or in another account's partition, says nothing about either: its producer is what is wrong.
    """
    key = record.key
    if refused.reason in {Refusal.WRONG_KEY, Refusal.WRONG_PARTITION} or key is None or partition_of(key, partitions) != record.partition:
        return None
    said = _read_leniently(record.value)
    account = _as_said(key.decode("ascii", "replace"), Name, "")
    if not account or _as_said(said.get("account"), Name, account) != account:
        return None
    return RefusedFill(account, _as_said(said.get("venue"), Name, ""), _as_said(said.get("sequence"), _SEQUENCE, -1))


def _read_leniently(value: bytes | None) -> dict[str, Any]:
    """The object in these bytes, whatever its fields; empty where there is none."""
    if value is None or len(value) > MESSAGE_BYTES_MAX:
        return {}
    try:
        content = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _as_said(content: Any, kind: Any, otherwise: Any) -> Any:
    """What was read if it is of this kind, and within its bounds."""
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError:
        return otherwise


def _decoded_fast(values: list[Any]) -> list[Any]:
    """Each value decoded, None where it cannot be."""
    decode = _FAST_DECODER.decode
    try:
        if max(map(len, values)) <= MESSAGE_BYTES_MAX:
            return [decode(value) for value in values]
    except _UNDECODABLE:
        pass
    decoded = []
    for value in values:
        try:
            decoded.append(decode(value) if len(value) <= MESSAGE_BYTES_MAX else None)
        except _UNDECODABLE:
            decoded.append(None)
    return decoded


def _sound(fills: Fills, keys: list[bytes | None], partition: int, partitions: int) -> NDArray[np.bool_]:
    """Which rows, of records with these keys, `decode_record` would take; shape (n,). Names are looked at once each."""
    rows = fills.rows
    own_keys = [account.encode() for account in fills.accounts]
    named = np.fromiter((_NAME.search(account) is not None for account in fills.accounts), bool, len(own_keys))
    placed = named & (partitions_of(own_keys, partitions) == partition)
    known = np.fromiter((bool(_NAME.search(venue) and _NAME.search(name)) for venue, name in fills.instruments), bool)
    keyed = np.array([key == own_keys[number] for key, number in zip(keys, rows["account"].tolist(), strict=True)], bool)
    kind = rows["kind"]
    unpriced = (kind == FillKind.TRANSFER) | (kind == FillKind.FUNDING)
    contradicts = ((kind == FillKind.FUNDING) & (rows["lots"] != 0)) | (unpriced & (rows["price_ticks"] != 0))
    sound: NDArray[np.bool_] = placed[rows["account"]] & known[rows["instrument"]] & keyed & ~contradicts
    return sound


def _columns(fills: Sequence[Any], offsets: list[int]) -> Fills:
    """Columns of decoded fills; names are numbered by first appearance."""
    accounts: dict[str, int] = {}
    instruments: dict[tuple[str, str], int] = {}
    orders: dict[str, int] = {"": -1}
    rows = np.empty(len(fills), FILL_DTYPE)
    rows["account"] = [accounts.setdefault(fill.account, len(accounts)) for fill in fills]
    rows["instrument"] = [instruments.setdefault((fill.venue, fill.instrument), len(instruments)) for fill in fills]
    rows["order"] = [orders.setdefault(fill.order_id, len(orders) - 1) for fill in fills]
    rows["kind"] = [_KIND_NUMBERS[fill.kind] for fill in fills]
    rows["lots"] = [fill.lots for fill in fills]
    rows["price_ticks"] = [fill.price_ticks for fill in fills]
    rows["cash"] = [fill.cash for fill in fills]
    rows["sequence"] = [fill.sequence for fill in fills]
    rows["time_ns"] = [fill.time_ns for fill in fills]
    rows["offset"] = offsets
    return Fills(list(accounts), list(instruments), list(orders)[1:], rows)
