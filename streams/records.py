"""What a record of any of our topics says, for people and for tools: public messages, frames, rows, letters; junk too, as junk.

Decoded content is plain, as JSON can hold it: `line` puts it into words, `as_json` leaves it to tools.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Callable, Iterator
from enum import Enum
from itertools import islice
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Struct

from engine.inputs import FILL_KINDS, Attestation, Fills, Frame, FrameKind
from engine.machine import CUT_KEY, CutRecord
from engine.rows import ACCOUNT_PREFIX, PIECE_PREFIX, decode_account_row, decode_piece
from engine.transfers import Reason, Transfer, decode_transfer
from streams import verdicts
from streams.frames import FrameFault, decode_frame
from streams.messages import PARTIALS, SOURCES, TOPICS, Kept, PartialMessage, Topic, dlq_topic, orders_topic
from streams.verify import verify
from streams.wording import cut_off, fields, safe, utc_ms, utc_ns

LINE_CHARACTERS_MAX = 1_500  # of a record in words
EVENTS_SHOWN_MAX = 3  # of a frame in words
NESTING_MAX = 16  # of content that is told; public messages need four
BYTES_SHOWN_MAX = 48  # of what cannot be decoded

Content = dict[str, Any]
Form = Literal["message", "frame", "row", "deleted", "unreadable"]
Decode = Callable[[bytes, bytes], Content]  # of key and value

# A message's own time is the first of these that it has.
EVENT_TIMES: Final = ("publish_time_ns", "observed_time_ns", "time_ns", "decided_ns", "clock_ns", "since_ns")
_UNSAID: Final = frozenset({"v", "raw_base64", "vaa", *EVENT_TIMES})  # in words: the time stands in front, these bytes come decoded
_ORDERS: Final = orders_topic("")
_NOT_DECODED = (FrameFault, msgspec.MsgspecError, struct.error, AssertionError, ValueError, TypeError, KeyError, RecursionError)


class Record(NamedTuple):
    """A record as it came; `topic` is without the prefix, `time_ms` the broker's."""

    topic: str
    partition: int
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None


class Told(NamedTuple):
    """What a record says: `form` tells how its content is to be read, since a message may have fields of any name."""

    form: Form
    content: Content


def is_ours(topic: str) -> bool:
    """Whether a topic's name, without the prefix, is in the table of topics."""
    return topic in _FORMS or topic.startswith(_ORDERS)


def decoded(record: Record) -> Told:
    """What the record says. What cannot be decoded is told as unreadable, with the beginning of its bytes; nothing raises."""
    if record.value is None:
        return Told("deleted", {})
    form, decode = _FORMS.get(record.topic, _MESSAGE)
    try:
        return Told(form, {name: _plain(value) for name, value in decode(record.key or b"", record.value).items()})
    except _NOT_DECODED as error:
        return Told("unreadable", {"unreadable": f"{type(error).__name__}: {error}", "bytes": len(record.value), **_shown(record.value)})


def line(record: Record) -> str:
    """One line: when, where, key, and what it says. In brackets the broker's time, where the record has none of its own."""
    form, content = decoded(record)
    time_ns = next((content[name] for name in EVENT_TIMES if isinstance(content.get(name), int)), None) if form == "message" else None
    when = f"[{utc_ms(record.time_ms)}]" if time_ns is None else utc_ns(time_ns)
    where = f"{record.topic}/{record.partition}@{record.offset}"
    key = "" if record.key is None else _text(record.key)
    return "  ".join(part for part in (when, where, key, cut_off(_said(form, content), LINE_CHARACTERS_MAX)) if part)


def as_json(record: Record) -> str:
    """One JSON object on one line, in ASCII; numbers as they are on the bus. `value` is null where the record deletes its key."""
    form, content = decoded(record)
    told = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "time_ms": record.time_ms,
        "key": None if record.key is None else _text(record.key),
        "value": None if form == "deleted" else content,
    }
    return json.dumps(told, allow_nan=False).replace("\x7f", "\\u007f")


# ---- decoding -------------------------------------------------------------------------------------------------------------------------


def _message(value: bytes) -> Content:
    content = msgspec.json.decode(value)
    if not isinstance(content, dict):
        raise ValueError("a JSON value that is no message")  # noqa: TRY004 - junk in a topic, not a fault of the caller
    return content


def _letter(value: bytes) -> Content:
    """A dead letter, with the bytes that were refused as far as they are text."""
    letter = _message(value)
    if isinstance(letter.get("raw_base64"), str):
        raw = base64.b64decode(letter["raw_base64"])
        try:
            letter["raw"] = msgspec.json.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            letter["raw"] = raw.decode("utf-8", "backslashreplace")
    return letter


def _attestation(value: bytes) -> Content:
    """A signed message, with what it says, who signed it, or what is wrong with it."""
    content = _message(value)
    signed = verify(msgspec.convert(content, Attestation))
    if isinstance(signed, Reason):
        return {**content, "fault": signed.meaning}
    transfer = decode_transfer(signed.payload)
    assert isinstance(transfer, Transfer), "what was verified is a transfer"
    said = {"guardian_set": signed.guardian_set_index, "signed_by": signed.signer_indexes, "sequence": signed.sequence}
    return {**content, **said, "transfer": {**transfer._asdict(), "direction": transfer.direction.name}}


def _frame(value: bytes) -> Content:
    return _of_frame(decode_frame(value))


def _of_frame(frame: Frame) -> Content:
    if frame.kind is FrameKind.CONTROL:
        assert isinstance(frame.events, list)
        return {"frame": "CONTROL", "copied": _of_frame(frame.events[0]), "offset": frame.covers_to, "after": frame.covers_from}
    head = {"source": frame.source, "source_partition": frame.source_partition, "covers": [frame.covers_from, frame.covers_to]}
    return {"frame": frame.kind.name, **head, "events": list(_events(frame))}


def _events(frame: Frame) -> Iterator[Content]:
    if isinstance(frame.events, Fills):
        yield from _fills(frame.events)
        return
    for event, offset in zip(frame.events, frame.offsets, strict=True):
        yield {**_of_struct(event), "offset": offset}


def _fills(fills: Fills) -> Iterator[Content]:
    names = fills.rows.dtype.names
    assert names is not None
    for row in fills.rows.tolist():
        columns = dict(zip(names, row, strict=True))
        venue, instrument = fills.instruments[columns.pop("instrument")]
        order = columns.pop("order")
        yield {
            "account": fills.accounts[columns.pop("account")],
            "venue": venue,
            "instrument": instrument,
            "kind": FILL_KINDS[columns.pop("kind")],
            **columns,
            "order_id": "" if order < 0 else fills.order_ids[order],
        }


def _row(key: bytes, value: bytes) -> Content:
    """A row of a cut, by its key; the shell's rows stand beside the machine's."""
    if key == CUT_KEY:
        return {"row": "cut", **_of_struct(msgspec.msgpack.decode(value, type=CutRecord))}
    if key == verdicts.TRIAL_KEY:
        return {"row": "trial", **_of_struct(msgspec.msgpack.decode(value, type=verdicts.Trial))}
    if key.startswith(verdicts.PREFIX):
        ((offset, count),) = verdicts.verdicts([(key, value)]).items()
        return {"row": "verdict", "log_offset": offset, "verdicts": count}
    if key.startswith(ACCOUNT_PREFIX):
        return {"row": "account", **_of_struct(decode_account_row(value))}
    if key.startswith(PIECE_PREFIX):
        return {"row": "piece", "holds": decode_piece(value)}
    raise ValueError("a row under a key that no machine has")


def _partial(value: bytes) -> Content:
    """On the bus a partial is a list; here its fields have names."""
    return _of_struct(msgspec.json.decode(value, type=PartialMessage).partial)


def _form(topic: Topic) -> tuple[Form, Decode]:
    """How a topic's records are read."""
    if topic.kept is Kept.ROWS:
        return "row", _row
    decode = _SPECIAL.get(topic.name, _message)
    return ("frame", _by_value(_frame)) if topic.frames else ("message", _by_value(decode))


def _by_value(decode: Callable[[bytes], Content]) -> Decode:
    return lambda _, value: decode(value)


_SPECIAL: dict[str, Callable[[bytes], Content]] = {PARTIALS: _partial, "chain.attestations": _attestation}
_MESSAGE: tuple[Form, Decode] = ("message", _by_value(_message))
_FORMS = {topic.name: _form(topic) for topic in TOPICS if "<" not in topic.name}
_FORMS |= {dlq_topic(topic): ("message", _by_value(_letter)) for topic in SOURCES}


def _of_struct(message: Struct) -> Content:
    """Fields by name, also of what is a list on the bus; what tells it apart (`kind`) first."""
    config = message.__struct_config__
    tag = {} if config.tag is None or config.tag_field is None else {config.tag_field: config.tag}
    return {**tag, **msgspec.structs.asdict(message)}


def _plain(content: Any, depth: int = 0) -> Any:
    """What JSON can hold: bytes in hex, numbers that are not finite as text, nesting cut off."""
    match content:
        case Struct():
            return _plain(_of_struct(content), depth)
        case dict() | list() | tuple() if depth == NESTING_MAX:
            return "..."
        case dict():
            return {_key(name): _plain(item, depth + 1) for name, item in content.items()}
        case list() | tuple():
            return [_plain(item, depth + 1) for item in content]
        case bytes():
            return content.hex()
        case Enum():
            return content.name
        case float() if not math.isfinite(content):
            return str(content)
    return content


def _key(name: Any) -> str:
    return name.hex() if isinstance(name, bytes) else str(name)


# ---- words ----------------------------------------------------------------------------------------------------------------------------


def _said(form: Form, content: Content) -> str:
    match form:
        case "deleted":
            return "deleted"
        case "unreadable":
            shown = content.get("text", content.get("hex"))
            return f"unreadable ({safe(content['unreadable'])}): {content['bytes']:,} bytes, {shown}"
        case "frame":
            return _frame_said(content)
        case "row":
            return f"{content['row']}: {fields(content, leaving_out=frozenset({'row', 'v'}))}"
    return fields(content, leaving_out=_UNSAID)


def _frame_said(content: Content) -> str:
    if "copied" in content:
        return f"copy of control@{content['offset']} (after {content['after']}): {_frame_said(content['copied'])}"
    events = content["events"]
    begin, end = content["covers"]
    head = f"{content['frame']} of {safe(content['source'])}/{content['source_partition']} ({begin}, {end}], {len(events)} events"
    said = [fields(event, leaving_out=frozenset({"v", "offset"})) for event in islice(events, EVENTS_SHOWN_MAX)]
    more = [f"and {len(events) - EVENTS_SHOWN_MAX:,} more"] if len(events) > EVENTS_SHOWN_MAX else []
    return "; ".join([head, *said, *more])


def _text(data: bytes) -> str:
    return safe(data.decode("utf-8", "backslashreplace"))


def _shown(value: bytes) -> Content:
    """The beginning of bytes that say nothing: as text where they are text, else in hex."""
    begin, more = value[:BYTES_SHOWN_MAX], "..." if len(value) > BYTES_SHOWN_MAX else ""
    text = begin.decode("utf-8", "replace")
    return {"text": text + more} if text.isprintable() and "\ufffd" not in text else {"hex": begin.hex() + more}
