"""Whatever the bytes, ingest refuses or frames each record; and fills decoded as a batch are what each alone would have been."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.inputs import FILL_KINDS, Fill, Fills, FrameKind
from engine.murmur2 import partition_of
from engine.reasons import Refusal
from streams.frames import decode_frame, encode_frame
from streams.ingest import Record, Refused, decode_record, frame_batch
from streams.messages import PARTIALS, SOURCES, encode, encode_source
from tests.samples import SOURCE_MESSAGES, plain, values

TOPIC = "venue.fills"
TOPICS = sorted(set(SOURCES) - {PARTIALS})
SAMPLES: dict[str, list[bytes]] = {topic: [] for topic in SOURCES}
for message in SOURCE_MESSAGES:
    SAMPLES[encode_source(message)[0]].append(encode(message))

slow_to_draw = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
numbers = st.integers(-(2**70), 2**70) | st.floats()
texts = st.text(max_size=70) | st.sampled_from(["", *FILL_KINDS, "x\n"])
replacements = st.none() | st.booleans() | numbers | texts | st.lists(numbers, max_size=2)


@st.composite
def broken(draw: st.DrawFn, topic: str) -> bytes | None:
    """A message's bytes, often with something replaced, flipped, cut or doubled."""
    value = draw(st.sampled_from(SAMPLES[topic]))
    match draw(st.integers(0, 6)):
        case 0:
            return draw(st.none() | st.binary(max_size=30))
        case 1:
            content = json.loads(value)
            content[draw(st.sampled_from([*content, "surprise"]))] = draw(replacements)
            return json.dumps(content).encode("utf-8", "surrogatepass")
        case 2:
            at = draw(st.integers(0, len(value) - 1))
            return value[:at] + draw(st.binary(max_size=2)) + value[at + 1 :]
        case 3:
            return value[draw(st.integers(0, 2)) : draw(st.integers(0, len(value)))] + draw(st.sampled_from([b"", b",", b"}"]))
        case 4:
            return value + draw(st.sampled_from([b" ", b",", value]))
        case _:
            return value


@given(st.sampled_from(TOPICS), st.data())
@settings(slow_to_draw, max_examples=200)
def test_whatever_the_bytes_each_record_is_framed_or_refused(topic: str, data: st.DataObject) -> None:
    keys = st.sampled_from([None, b"", b"\xff", *(SOURCES[topic].key(m) for m in SOURCE_MESSAGES if encode_source(m)[0] == topic)])
    offsets = sorted(data.draw(st.sets(st.integers(0, 50), min_size=1, max_size=8)))
    records = [Record(offset, data.draw(keys), data.draw(broken(topic)), 0) for offset in offsets]
    batch = frame_batch(topic, records, -1, partitions=1)

    framed: list[int] = []
    missed: list[int] = []
    covered = -1
    for frame in batch.frames:
        assert frame.covers_from == covered
        covered = frame.covers_to
        assert plain(decode_frame(encode_frame(frame))) == plain(frame)
        offsets_in = frame.events.rows["offset"].tolist() if isinstance(frame.events, Fills) else frame.offsets
        (missed if frame.kind is FrameKind.REFUSED_FILLS else framed).extend(offsets_in)
    assert covered == records[-1].offset
    assert sorted(framed + [letter.offset for letter in batch.letters]) == [record.offset for record in records]
    assert set(missed) <= {letter.offset for letter in batch.letters}
    assert framed == sorted(framed)
    for letter in batch.letters:
        assert json.loads(encode(letter))["reason"] == letter.reason


@st.composite
def fill_records(draw: st.DrawFn) -> list[Record]:
    """Records of one partition of four: random fills, some of them broken, some under a wrong key or in a wrong partition."""
    records = []
    for offset in range(draw(st.integers(1, 6))):
        fill = draw(values(Fill))
        value = draw(st.just(encode(fill)) | broken(TOPIC))
        records.append(Record(offset, draw(st.just(fill.account.encode()) | st.sampled_from([None, b"alice"])), value))
    placed = [record.key for record in records if record.key]
    partition = partition_of(draw(st.sampled_from(placed)), 4) if placed else 0
    return [record._replace(partition=partition) for record in records]


def alone(record: Record) -> tuple[Any, ...] | Refused:
    """What the batch must say of a record, computed from the record alone, by the strict type."""
    fill = decode_record(SOURCES[TOPIC], record, 4)
    if isinstance(fill, Refused):
        return fill
    return (
        fill.account,
        (fill.venue, fill.instrument),
        fill.order_id,
        FILL_KINDS.index(fill.kind),
        fill.lots,
        fill.price_ticks,
        fill.cash,
        fill.sequence,
        fill.time_ns,
        record.offset,
    )


@given(fill_records(), st.sampled_from([1, 2, 8_000]))
@settings(slow_to_draw, max_examples=200)
def test_fills_of_a_batch_are_what_each_is_alone(records: list[Record], most: int) -> None:
    batch = frame_batch(TOPIC, records, -1, partitions=4, frame_max_events=most)
    found = []
    missed = []
    for frame in batch.frames:
        if not isinstance(frame.events, Fills):
            missed += list(zip(frame.offsets, frame.events, strict=True))
            continue
        accounts, instruments, orders, rows = frame.events
        found += [(accounts[row[0]], instruments[row[1]], (*orders, "")[row[2]], *row[3:]) for row in rows.tolist()]

    expected = [alone(record) for record in records]
    assert found == [fill for fill in expected if not isinstance(fill, Refused)]
    assert [(letter.offset, letter.reason) for letter in batch.letters] == [
        (record.offset, fill.reason) for record, fill in zip(records, expected, strict=True) if isinstance(fill, Refused)
    ]
    misplaced = {Refusal.WRONG_KEY, Refusal.WRONG_PARTITION}
    refused = {record.offset: record for record, fill in zip(records, expected, strict=True) if isinstance(fill, Refused)}
    for offset, fill in missed:
        assert refused[offset].key == fill.account.encode()
        assert partition_of(refused[offset].key or b"", 4) == refused[offset].partition
    named = {offset for offset, _ in missed}
    for record, fill in zip(records, expected, strict=True):
        if isinstance(fill, Refused) and fill.reason in misplaced:
            assert record.offset not in named
