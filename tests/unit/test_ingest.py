"""Every kind of malformed input gets its own reason, spares its neighbours, and frames cover all offsets without a gap."""

import json
import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka import ConsumerRecord

from engine.inputs import (
    FILL_DTYPE,
    Attestation,
    Fill,
    Fills,
    Frame,
    FrameKind,
    Message,
    OraclePrice,
    RefusedFill,
    RiskParameters,
    VenueDefinition,
    VenueRule,
    VerifiedAttestation,
)
from engine.murmur2 import partition_of
from engine.reasons import Refusal
from streams.frames import FrameFault, decode_frame, encode_frame
from streams.ingest import OBSERVATION_NS, PARAMETERS_DEPTH_MAX, Batch, Record, Refused, SourceRecord, decode_record, frame_batch
from streams.messages import FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, PARTIALS, SOURCES, PartialMessage, encode, encode_source
from streams.verify import VAA_MAX_BYTES, AttestationFault
from tests.samples import FILL, NOW_NS, SOURCE_MESSAGES, VAA, plain

PARTITIONS = 4
ALICE = partition_of(b"alice", PARTITIONS)
MESSAGES = {type(message).__name__: message for message in SOURCE_MESSAGES}


def altered(message: Any, **fields: Any) -> bytes:
    """A message's JSON with fields replaced; a field of `...` is left out."""
    content = {**json.loads(encode(message)), **fields}
    return json.dumps({name: value for name, value in content.items() if value is not ...}).encode()


def with_token(message: Any, field: str, token: bytes) -> bytes:
    """A message's JSON in which one number is written as `token`."""
    return altered(message, **{field: "\0"}).replace(b'"\\u0000"', token)


def spread(count: int) -> list[Fill]:
    """Different fills of accounts that all belong in alice's partition."""
    accounts = [name for name in (f"a{number}" for number in range(100)) if partition_of(name.encode(), PARTITIONS) == ALICE]
    return [
        msgspec.structs.replace(
            FILL,
            account=accounts[number % 7],
            venue=("binance", "okx")[number % 2],
            instrument=f"PERP-{number % 3}",
            kind=("trade", "liquidation", "deleveraging", "bust")[number % 4],
            lots=number - 50,
            price_ticks=number,
            cash=-number,
            sequence=number + 1,
            time_ns=NOW_NS + number,
            order_id=("", "o-1", "o-2")[number % 3],
        )
        for number in range(count)
    ]


def records(messages: list[Any], first: int = 0, partition: int = ALICE) -> list[Record]:
    return [Record(first + index, *encode_source(message)[1:], partition) for index, message in enumerate(messages)]


def named(frames: list[Frame]) -> list[tuple[Any, ...]]:
    """What frames of fills say of each fill, with names instead of numbers."""
    out = []
    for frame in frames:
        assert isinstance(frame.events, Fills)
        accounts, instruments, orders, rows = frame.events
        out += [(accounts[row["account"]], instruments[row["instrument"]], (*orders, "")[row["order"]], *row.tolist()[3:]) for row in rows]
    return out


def assert_covers(batch: Batch, covers_from: int, covers_to: int) -> None:
    """The frames follow on, can be sent, and cover all."""
    for frame in batch.frames:
        assert frame.covers_from == covers_from
        assert plain(decode_frame(encode_frame(frame))) == plain(frame)
        covers_from = frame.covers_to
    assert covers_from == covers_to


# ---- what is refused ------------------------------------------------------------------------------------------------------------------

PRICE = MESSAGES["OraclePrice"]
SNAPSHOT = MESSAGES["Snapshot"]
PENDING = MESSAGES["Pending"]
MALFORMED: dict[str, tuple[Any, bytes | None, Refusal]] = {
    "no value": (FILL, None, Refusal.BAD_JSON),
    "nothing": (FILL, b"", Refusal.BAD_JSON),
    "cut short": (FILL, encode(FILL)[:-1], Refusal.BAD_JSON),
    "two values": (FILL, encode(FILL) * 2, Refusal.BAD_JSON),
    "two values with a comma": (FILL, encode(FILL) + b"," + encode(FILL), Refusal.BAD_JSON),
    "no UTF-8": (FILL, encode(FILL).replace(b"f-7", b"\xff"), Refusal.BAD_JSON),
    "half a surrogate pair": (FILL, encode(FILL).replace(b"f-7", b"\\ud800"), Refusal.BAD_JSON),
    "control character": (FILL, encode(FILL).replace(b"f-7", b"\x01"), Refusal.BAD_JSON),
    "byte order mark": (FILL, b"\xef\xbb\xbf" + encode(FILL), Refusal.BAD_JSON),
    "trailing comma": (FILL, encode(FILL)[:-1] + b",}", Refusal.BAD_JSON),
    "deeply nested": (FILL, b"[" * 60_000, Refusal.BAD_JSON),
    "deeply nested parameters": (
        MESSAGES["RiskParameters"],
        with_token(MESSAGES["RiskParameters"], "parameters", b'{"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}"),
        Refusal.BAD_JSON,
    ),
    "a number": (FILL, b"7", Refusal.WRONG_TYPE),
    "an array": (FILL, b"[1]", Refusal.WRONG_TYPE),
    "null": (FILL, b"null", Refusal.WRONG_TYPE),
    "text for a number": (FILL, altered(FILL, lots="25"), Refusal.WRONG_TYPE),
    "number for a text": (FILL, altered(FILL, venue=7), Refusal.WRONG_TYPE),
    "truth for a number": (FILL, altered(FILL, lots=True), Refusal.WRONG_TYPE),
    "null for a number": (FILL, altered(FILL, lots=None), Refusal.WRONG_TYPE),
    "text for a price": (PRICE, altered(PRICE, price="0.65"), Refusal.WRONG_TYPE),
    "fractional cash": (FILL, altered(FILL, cash=0.5), Refusal.WRONG_TYPE),
    "text for the version": (FILL, altered(FILL, v="1"), Refusal.WRONG_TYPE),
    "missing field": (FILL, altered(FILL, venue=...), Refusal.MISSING_FIELD),
    "missing version": (FILL, altered(FILL, v=...), Refusal.MISSING_FIELD),
    "missing kind of a union": (MESSAGES["SetMode"], altered(MESSAGES["SetMode"], kind=...), Refusal.MISSING_FIELD),
    "missing field within": (SNAPSHOT, altered(SNAPSHOT, positions=[{"instrument": "X", "lots": 1}]), Refusal.MISSING_FIELD),
    "unknown field": (FILL, altered(FILL, side="buy"), Refusal.UNKNOWN_FIELD),
    "unknown version": (FILL, altered(FILL, v=2), Refusal.UNKNOWN_VERSION),
    "unknown version with other fields": (FILL, altered(FILL, v=2, side="buy", lots=...), Refusal.UNKNOWN_VERSION),
    "unknown version of a union": (MESSAGES["SetMode"], altered(MESSAGES["SetMode"], v=0, kind="turbo"), Refusal.UNKNOWN_VERSION),
    "NaN": (PRICE, with_token(PRICE, "price", b"NaN"), Refusal.NOT_FINITE),
    "Infinity": (PRICE, with_token(PRICE, "price", b"Infinity"), Refusal.NOT_FINITE),
    "-Infinity": (PRICE, with_token(PRICE, "price", b"-Infinity"), Refusal.NOT_FINITE),
    "NaN lots": (FILL, with_token(FILL, "lots", b"NaN"), Refusal.NOT_FINITE),
    "overflow": (PRICE, with_token(PRICE, "price", b"1e999"), Refusal.NOT_FINITE),
    "overflow without an exponent": (PRICE, with_token(PRICE, "price", b"9" * 400), Refusal.NOT_FINITE),
    "overflow with thousands of digits": (PRICE, with_token(PRICE, "price", b"9" * 10_000), Refusal.NOT_FINITE),
    "overflow of the parameters": (
        MESSAGES["RiskParameters"],
        with_token(MESSAGES["RiskParameters"], "parameters", b'{"x":-1e999}'),
        Refusal.NOT_FINITE,
    ),
    "price of zero": (PRICE, altered(PRICE, price=0), Refusal.NOT_POSITIVE),
    "price of minus zero": (PRICE, with_token(PRICE, "price", b"-0.0"), Refusal.NOT_POSITIVE),
    "negative price": (PRICE, altered(PRICE, price=-1.5), Refusal.NOT_POSITIVE),
    "price that underflows": (PRICE, with_token(PRICE, "price", b"1e-999"), Refusal.NOT_POSITIVE),
    "negative ticks": (FILL, altered(FILL, price_ticks=-1), Refusal.NOT_POSITIVE),
    "huge price": (PRICE, altered(PRICE, price=1e16), Refusal.OUT_OF_RANGE),
    "negative confidence": (PRICE, altered(PRICE, confidence=-0.1), Refusal.OUT_OF_RANGE),
    "negative time": (PRICE, altered(PRICE, publish_time_ns=-1), Refusal.OUT_OF_RANGE),
    "lots beyond 2^62": (FILL, altered(FILL, lots=2**62 + 1), Refusal.OUT_OF_RANGE),
    "lots beyond 64 bits": (FILL, altered(FILL, lots=2**64), Refusal.OUT_OF_RANGE),
    "lots of thousands of digits": (FILL, with_token(FILL, "lots", b"9" * 10_000), Refusal.OUT_OF_RANGE),
    "sequence of zero": (FILL, altered(FILL, sequence=0), Refusal.OUT_OF_RANGE),
    "unknown kind": (FILL, altered(FILL, kind="gift"), Refusal.OUT_OF_RANGE),
    "unknown kind of a union": (MESSAGES["SetMode"], altered(MESSAGES["SetMode"], kind="turbo"), Refusal.OUT_OF_RANGE),
    "empty name": (FILL, altered(FILL, venue=""), Refusal.OUT_OF_RANGE),
    "long name": (FILL, altered(FILL, venue="v" * 65), Refusal.OUT_OF_RANGE),
    "name with a blank": (FILL, altered(FILL, instrument="BTC PERP"), Refusal.OUT_OF_RANGE),
    "name with a newline": (FILL, altered(FILL, instrument="BTC-PERP\n"), Refusal.OUT_OF_RANGE),
    "name of a venue that no topic can have": (
        MESSAGES["VenueDefinition"],
        altered(MESSAGES["VenueDefinition"], name="a:b"),
        Refusal.OUT_OF_RANGE,
    ),
    "funding that moves lots": (FILL, altered(FILL, kind="funding", price_ticks=0), Refusal.OUT_OF_RANGE),
    "funding with a price": (FILL, altered(FILL, kind="funding", lots=0), Refusal.OUT_OF_RANGE),
    "transfer with a price": (FILL, altered(FILL, kind="transfer"), Refusal.OUT_OF_RANGE),
    "parameter beyond 64 bits": (
        MESSAGES["RiskParameters"],
        altered(MESSAGES["RiskParameters"], parameters={"x": [2**63]}),
        Refusal.OUT_OF_RANGE,
    ),
    "parameter of a venue's rule beyond 64 bits": (
        MESSAGES["VenueDefinition"],
        altered(MESSAGES["VenueDefinition"], rule={"rule": "aave_v3", "parameters": {"x": [2**64]}}),
        Refusal.OUT_OF_RANGE,
    ),
    "too many positions": (
        SNAPSHOT,
        altered(SNAPSHOT, positions=[{"instrument": "X", "lots": 1, "cash": 1}] * 65),
        Refusal.OUT_OF_RANGE,
    ),
    "half a lot": (FILL, altered(FILL, lots=0.5), Refusal.NOT_A_LOT),
    "lots with a fraction of zero": (FILL, altered(FILL, lots=25.0), Refusal.NOT_A_LOT),
    "half a lot of a report": (
        MESSAGES["OrderReport"],
        altered(MESSAGES["OrderReport"], filled_lots=0.5),
        Refusal.NOT_A_LOT,
    ),
    "half a lot of a position": (
        SNAPSHOT,
        altered(SNAPSHOT, positions=[{"instrument": "X", "lots": 0.5, "cash": 1}]),
        Refusal.NOT_A_LOT,
    ),
    "half a tick": (FILL, altered(FILL, price_ticks=1.5), Refusal.NOT_A_TICK),
    "too large": (FILL, altered(FILL, fill_id="x" * MESSAGE_BYTES_MAX), Refusal.TOO_LARGE),
    "blanks up to too large": (FILL, encode(FILL) + b" " * MESSAGE_BYTES_MAX, Refusal.TOO_LARGE),
    "half a byte of hex": (MESSAGES["Attestation"], altered(MESSAGES["Attestation"], vaa=VAA.hex()[:-1]), Refusal.WRONG_TYPE),
    "no hex": (MESSAGES["Attestation"], altered(MESSAGES["Attestation"], vaa="zz"), Refusal.OUT_OF_RANGE),
    "signed message of version 2": (
        MESSAGES["Attestation"],
        altered(MESSAGES["Attestation"], vaa="02" + VAA.hex()[2:]),
        Refusal.UNKNOWN_VERSION,
    ),
    "signed message without signatures": (
        MESSAGES["Attestation"],
        altered(MESSAGES["Attestation"], vaa=(VAA[:5] + b"\0" + VAA[6 + 2 * 66 :]).hex()),
        Refusal.BAD_SIGNATURE,
    ),
    "signed message cut short": (MESSAGES["Attestation"], altered(MESSAGES["Attestation"], vaa=VAA.hex()[:-2]), Refusal.BAD_PAYLOAD),
    "signed message with hardly anything": (MESSAGES["Attestation"], altered(MESSAGES["Attestation"], vaa="01"), Refusal.BAD_PAYLOAD),
}
OF_STATE = {reason for reason in list(Refusal)[list(Refusal).index(Refusal.UNKNOWN_ASSET) :] if reason is not Refusal.BAD_PAYLOAD}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_record_is_refused_for_its_reason_and_spares_its_neighbours(what: str) -> None:
    message, value, reason = MALFORMED[what]
    topic, key, good = encode_source(message)
    partition = partition_of(key, PARTITIONS)
    batch = frame_batch(
        topic,
        [Record(4, key, good, partition), Record(6, key, value, partition), Record(7, key, good, partition)],
        3,
        partitions=PARTITIONS,
    )

    assert_covers(batch, 3, 7)
    assert [offset for frame in batch.frames if frame.kind is not FrameKind.REFUSED_FILLS for offset in offsets_of(frame)] == [4, 7]
    missed = [one.account for frame in batch.frames for one in frame.events if isinstance(one, RefusedFill)]
    assert missed == (["alice"] if topic == "venue.fills" else [])
    (letter,) = batch.letters
    assert (letter.reason, letter.topic, letter.partition, letter.offset) == (reason, topic, partition, 6)
    assert letter.key == key.decode()
    assert letter.raw_bytes == (None if value is None else len(value))
    assert 0 < len(letter.detail) <= 300


def offsets_of(frame: Frame) -> list[int]:
    return frame.events.rows["offset"].tolist() if isinstance(frame.events, Fills) else frame.offsets


def test_each_reason_that_the_bytes_show_has_a_case() -> None:
    assert {reason for _, _, reason in MALFORMED.values()} | {Refusal.WRONG_KEY, Refusal.WRONG_PARTITION} == set(Refusal) - OF_STATE


@pytest.mark.parametrize("name", sorted(set(MESSAGES) - {"PartialMessage"}))
@pytest.mark.parametrize("key", [None, b"", b"bob"])
def test_a_wrong_key_is_refused(name: str, key: bytes | None) -> None:
    topic, right, value = encode_source(MESSAGES[name])
    batch = frame_batch(topic, [Record(0, key, value, partition_of(right, PARTITIONS))], -1, partitions=PARTITIONS)
    assert [(letter.reason, letter.key) for letter in batch.letters] == [(Refusal.WRONG_KEY, None if key is None else key.decode())]
    assert right.decode() in batch.letters[0].detail
    assert_covers(batch, -1, 0)


@pytest.mark.parametrize("name", ["Fill", "Snapshot", "Pending", "OrderReport", "Heartbeat", "Attestation"])
def test_a_wrong_partition_is_refused(name: str) -> None:
    topic, key, value = encode_source(MESSAGES[name])
    right = partition_of(key, PARTITIONS)
    for partition in range(PARTITIONS):
        batch = frame_batch(topic, [Record(0, key, value, partition)], -1, partitions=PARTITIONS)
        assert [letter.reason for letter in batch.letters] == ([] if partition == right else [Refusal.WRONG_PARTITION])
        assert all("murmur2" in letter.detail and f"partition {right} of {PARTITIONS}" in letter.detail for letter in batch.letters)


def test_a_malformed_record_under_a_wrong_key_is_malformed_first() -> None:
    batch = frame_batch("venue.fills", [Record(0, b"bob", b"{", 0)], -1, partitions=PARTITIONS)
    assert [letter.reason for letter in batch.letters] == [Refusal.BAD_JSON]


def test_what_is_allowed_at_the_edges() -> None:
    for good in (
        altered(FILL, kind="funding", lots=0, price_ticks=0),
        altered(FILL, kind="transfer", price_ticks=0),
        altered(FILL, price_ticks=0),
        altered(FILL, kind="settlement", price_ticks=0),
        altered(FILL, kind="settlement", price_ticks=5_000),
        altered(FILL, lots=-(2**62), cash=2**62, fill_id="é" * 64),
        encode(FILL).replace(b'"lots"', b'"lots":3,"lots"'),
        b" \n" + encode(FILL) + b"\t",
    ):
        batch = frame_batch("venue.fills", [Record(0, b"alice", good, ALICE)], -1, partitions=PARTITIONS)
        assert batch.letters == []
        assert len(named(batch.frames)) == 1


@pytest.mark.parametrize("topic", ["risk.parameters", "market.instruments"])
def test_parameters_as_deep_as_allowed_can_be_carried(topic: str) -> None:
    def nested(depth: int) -> dict[str, Any]:
        return {"x": nested(depth - 1)} if depth > 1 else {"x": [2**63 - 1, -(2**63), 0.1]}

    def batch(depth: int) -> Batch:
        rule = VenueRule(rule="aave_v3", parameters=nested(depth))
        venue = VenueDefinition(v=1, name="pool", chain="base", rule=rule, time_ns=0)
        set_ = RiskParameters(v=1, version="a", parameters=nested(depth), time_ns=0)
        return frame_batch(topic, records([set_ if topic == "risk.parameters" else venue], partition=0), -1, partitions=1)

    deep = batch(PARAMETERS_DEPTH_MAX - 1)
    assert deep.letters == []
    assert_covers(deep, -1, 0)
    assert [letter.reason for letter in batch(PARAMETERS_DEPTH_MAX).letters] == [Refusal.OUT_OF_RANGE]


@pytest.mark.parametrize(
    ("altered_fields", "reason"),
    [
        ({"buy_lots": -1}, Refusal.OUT_OF_RANGE),
        ({"sell_lots": 2**62 + 1}, Refusal.OUT_OF_RANGE),
        ({"leaving_lots": 0.5}, Refusal.NOT_A_LOT),
        ({"instrument": ""}, Refusal.OUT_OF_RANGE),
        ({"price": 1}, Refusal.UNKNOWN_FIELD),
    ],
)
def test_what_is_pending_is_looked_at(altered_fields: dict[str, Any], reason: Refusal) -> None:
    topic, key, value = encode_source(PENDING)
    partition = partition_of(key, PARTITIONS)
    said = json.loads(value)
    said["positions"] = [{**said["positions"][0], **altered_fields}]
    given = [Record(0, key, json.dumps(said).encode(), partition), Record(1, key, value, partition)]
    batch = frame_batch(topic, given, -1, partitions=PARTITIONS)
    assert [letter.reason for letter in batch.letters] == [reason]
    (frame,) = batch.frames
    assert (frame.kind, frame.events, frame.offsets) == (FrameKind.PENDING, [PENDING], [1])  # a refused one is told to nobody
    assert decode_frame(encode_frame(frame)) == frame


def test_a_venue_may_be_named_as_a_topic_may() -> None:
    venue = VenueDefinition(v=1, name="Aave_v3.base-1", chain="base", time_ns=0)
    assert frame_batch("market.instruments", records([venue], partition=0), -1, partitions=1).letters == []


def test_a_malformed_partial_stops_instead_of_being_put_aside() -> None:
    message = MESSAGES["PartialMessage"]
    assert isinstance(message, PartialMessage)
    key, value = encode_source(message)[1:]
    assert frame_batch(PARTIALS, [Record(0, key, value)], -1, partitions=1).frames[0].events == [message.partial]
    for bad in (value[:-1], value.replace(b'"v":1', b'"v":2'), None):
        with pytest.raises(FrameFault, match=r"treasury\.partials offset 0"):
            frame_batch(PARTIALS, [Record(0, key, bad)], -1, partitions=1)


# ---- what is framed -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_each_source_becomes_frames_of_its_kind(name: str) -> None:
    topic, key, value = encode_source(MESSAGES[name])
    partition = partition_of(key, PARTITIONS)
    batch = frame_batch(topic, [Record(9, key, value, partition)], 8, partitions=PARTITIONS)
    (frame,) = batch.frames
    assert (frame.kind, frame.source, frame.source_partition) == (SOURCES[topic].kind, topic, partition)
    assert batch.letters == []
    assert_covers(batch, 8, 9)


def test_the_signers_of_an_attestation_are_recovered() -> None:
    attestation = MESSAGES["Attestation"]
    topic, key, value = encode_source(attestation)
    event = decode_record(SOURCES[topic], Record(0, key, value, 0), 1)
    assert isinstance(attestation, Attestation)
    assert isinstance(event, VerifiedAttestation)
    assert (event.signer_indexes, event.observed_time_ns) == ([0, 1], attestation.observed_time_ns)
    assert all(len(signer) == 20 for signer in event.signers)


@pytest.mark.parametrize(
    ("vaa", "reason"),
    [
        ("00" * VAA_MAX_BYTES + "00", AttestationFault.TOO_LONG.refusal),
        ("00" * VAA_MAX_BYTES, AttestationFault.BAD_VERSION.refusal),
        ("", Refusal.OUT_OF_RANGE),
        ("0x00", Refusal.OUT_OF_RANGE),
        ("AB", Refusal.OUT_OF_RANGE),
        ("000", AttestationFault.NOT_HEX.refusal),
    ],
)
def test_what_is_no_signed_message_is_refused_as_documented(vaa: str, reason: Refusal) -> None:
    value = altered(MESSAGES["Attestation"], vaa=vaa)
    refused = decode_record(SOURCES["chain.attestations"], Record(0, b"0/" + b"00" * 32, value, 0), 1)
    assert isinstance(refused, Refused)
    assert refused.reason is reason


@pytest.mark.parametrize("most", [1, 2, 7, 99, 100, 8_000])
def test_frames_of_any_size_say_the_same_of_each_fill(most: int) -> None:
    fills = spread(100)
    batch = frame_batch("venue.fills", records(fills, 20), 11, partitions=PARTITIONS, frame_max_events=most)
    assert_covers(batch, 11, 119)
    assert {len(offsets_of(frame)) for frame in batch.frames[:-1]} <= {most}
    kinds = {"trade": 0, "liquidation": 1, "deleveraging": 2, "bust": 3}
    assert named(batch.frames) == [
        (f.account, (f.venue, f.instrument), f.order_id, kinds[f.kind], f.lots, f.price_ticks, f.cash, f.sequence, f.time_ns, 20 + index)
        for index, f in enumerate(fills)
    ]


def test_a_bad_fill_changes_nothing_for_the_others() -> None:
    good = records(spread(100))
    for bad in (good[40]._replace(value=b"{"), good[40]._replace(key=b"bob"), good[40]._replace(value=None)):
        batch = frame_batch("venue.fills", [*good[:40], bad, *good[41:]], -1, partitions=PARTITIONS)
        assert len(batch.letters) == 1
        columns = [frame for frame in batch.frames if frame.kind is FrameKind.FILLS]
        assert named(columns) == named(frame_batch("venue.fills", good[:40] + good[41:], -1, partitions=PARTITIONS).frames)
        assert_covers(batch, -1, 99)


@pytest.mark.parametrize(
    ("value", "venue", "sequence"),
    [
        (altered(FILL, lots=0.5), "binance", 7),
        (altered(FILL, v=2), "binance", 7),
        (altered(FILL, account=...), "binance", 7),
        (altered(FILL, account="alice\n"), "binance", 7),
        (with_token(FILL, "cash", b"NaN"), "binance", 7),
        (altered(FILL, venue=7), "", 7),
        (altered(FILL, venue="no name"), "", 7),
        (altered(FILL, sequence=0), "binance", -1),
        (altered(FILL, sequence=True), "binance", -1),
        (altered(FILL, sequence="7"), "binance", -1),
        (altered(FILL, sequence=2**62 + 1), "binance", -1),
        (encode(FILL)[:-1], "", -1),
        (b"[1]", "", -1),
        (b"[" * 60_000, "", -1),
        (with_token(FILL, "sequence", b"9" * 5_000), "", -1),
        (encode(FILL) + b" " * MESSAGE_BYTES_MAX, "", -1),
        (None, "", -1),
    ],
)
def test_a_fill_that_is_refused_is_missed_by_its_account(value: bytes | None, venue: str, sequence: int) -> None:
    given = [Record(at, b"alice", one, ALICE) for at, one in ((2, encode(FILL)), (3, value), (5, encode(FILL)))]
    batch = frame_batch("venue.fills", given, 1, partitions=PARTITIONS)
    assert_covers(batch, 1, 5)
    first, missed, last = batch.frames
    assert (first.kind, offsets_of(first), first.covers_to) == (FrameKind.FILLS, [2], 2)
    assert (missed.kind, missed.offsets, missed.covers_to) == (FrameKind.REFUSED_FILLS, [3], 4)
    assert missed.events == [RefusedFill("alice", venue, sequence)]
    assert (last.kind, offsets_of(last)) == (FrameKind.FILLS, [5])


def test_a_fill_that_is_refused_is_nobodys_where_its_record_is_in_the_wrong_place() -> None:
    elsewhere = (ALICE + 1) % PARTITIONS
    for record in (
        Record(0, b"bob", encode(FILL), partition_of(b"bob", PARTITIONS)),
        Record(0, b"alice", encode(FILL), elsewhere),
        Record(0, b"alice", b"{", elsewhere),
        Record(0, b"alice", altered(FILL, account="bob", lots=0.5), ALICE),
        Record(0, None, b"{", ALICE),
        Record(0, b"\xff", b"{", partition_of(b"\xff", PARTITIONS)),
        Record(0, b"no name", b"{", partition_of(b"no name", PARTITIONS)),
    ):
        batch = frame_batch("venue.fills", [record], -1, partitions=PARTITIONS)
        assert len(batch.letters) == 1
        assert [(frame.kind, offsets_of(frame)) for frame in batch.frames] == [(FrameKind.FILLS, [])]
        assert_covers(batch, -1, 0)


@pytest.mark.parametrize("name", sorted(set(MESSAGES) - {"PartialMessage"}))
def test_nothing_but_bad_records_still_moves_on(name: str) -> None:
    topic, key, _ = encode_source(MESSAGES[name])
    batch = frame_batch(topic, [Record(5, key, b"{"), Record(8, key, b"}")], 4, partitions=1)
    assert len(batch.letters) == 2
    assert [offsets_of(frame) for frame in batch.frames] == [[5, 8] if name == "Fill" else []]
    assert_covers(batch, 4, 8)
    assert frame_batch(topic, [], 4, partitions=1) == ([], [])


def prices(*times_s: float, sources: str = "abcdefgh") -> list[OraclePrice]:
    """Prices of one asset, each of the next source of a row."""
    assert isinstance(PRICE, OraclePrice)
    return [
        msgspec.structs.replace(PRICE, source=sources[index % len(sources)], publish_time_ns=NOW_NS + int(time_s * 1e9))
        for index, time_s in enumerate(times_s)
    ]


@pytest.mark.parametrize(
    ("events", "frames"),
    [
        (prices(0, 0.5, 1.0), [[0, 1, 2]]),
        (prices(0, 0.5, 1.0 + 1e-9 * 1000), [[0, 1], [2]]),
        (prices(0, 20, 40, 60), [[0], [1], [2], [3]]),
        (prices(0, -30, 0.9), [[0, 1, 2]]),  # an old price does not hold back the others
        (prices(50, 0, 1.5, 2, sources="abb"), [[0, 1], [2, 3]]),  # nor does a clock that is ahead join what b saw apart
        (prices(0, 0.4, 0.8, 1.2, sources="a"), [[0, 1, 2], [3]]),
    ],
)
def test_a_frame_of_prices_is_one_observation(events: list[OraclePrice], frames: list[list[int]]) -> None:
    batch = frame_batch("oracle.prices", records(events, partition=0), -1, partitions=1)
    assert [frame.offsets for frame in batch.frames] == frames
    assert_covers(batch, -1, len(events) - 1)
    assert OBSERVATION_NS == 1_000_000_000


def test_offsets_between_observations_are_covered_although_their_records_were_refused() -> None:
    good = records(prices(0, 20), partition=0)
    batch = frame_batch(
        "oracle.prices", [good[0], Record(1, b"x", b"{"), good[1]._replace(offset=5), Record(6, b"x", b"{")], -1, partitions=1
    )
    assert [(frame.covers_from, frame.covers_to, frame.offsets) for frame in batch.frames] == [(-1, 4, [0]), (4, 6, [5])]


@pytest.mark.parametrize("name", ["Fill", "Snapshot", "Attestation", "AssetDefinition", "VenueDefinition", "RiskParameters"])
def test_frames_stay_within_their_bytes(name: str) -> None:
    shocks = [0.1] * 16_000  # four bytes each here, nine in a frame
    largest: dict[str, Callable[[int], dict[str, Any]]] = {
        "Fill": lambda i: {"account": f"{i:064d}", "instrument": f"{i:064d}", "order_id": f"{i:064d}", "fill_id": "x" * 64},
        "Snapshot": lambda i: {"positions": [{"instrument": f"{n:064d}", "lots": 2**62, "cash": -(2**62)} for n in range(64)]},
        "Attestation": lambda i: {},
        "AssetDefinition": lambda i: {"sources": {f"s{n}": 1 for n in range(3_000)}},
        "VenueDefinition": lambda i: {"rule": {"rule": "dederi", "parameters": {"shocks": shocks}}},
        "RiskParameters": lambda i: {"parameters": {"shocks": shocks}},
    }
    message = MESSAGES[name]
    topic, key, _ = encode_source(message)
    kind = SOURCES[topic].type
    some = []
    for index in range(400 if name != "Fill" else 12_000):
        value = altered(message, **largest[name](index)).replace(b", ", b",")
        key = SOURCES[topic].key(msgspec.json.decode(value, type=kind))
        some.append(Record(index, key, value, 0))
    batch = frame_batch(topic, some, -1, partitions=1, frame_max_events=100_000)
    sizes = [len(encode_frame(frame)) for frame in batch.frames]
    assert batch.letters == []
    assert max(sizes) <= FRAME_BYTES_MAX
    assert name == "Attestation" or (len(sizes) > 1 and max(sizes) > FRAME_BYTES_MAX / 4)
    assert sum(len(offsets_of(frame)) for frame in batch.frames) == len(some)


def test_columns_are_what_the_kernels_were_compiled_for() -> None:
    for most in (1, 8_000):
        for frame in frame_batch("venue.fills", records(spread(3)), -1, partitions=PARTITIONS, frame_max_events=most).frames:
            assert isinstance(frame.events, Fills)
            rows = frame.events.rows
            assert rows.dtype == FILL_DTYPE
            assert rows.flags.c_contiguous
            assert rows.flags.writeable
            assert np.all(rows["order"] >= -1)


def test_a_consumed_record_is_a_source_record() -> None:
    topic, key, value = encode_source(FILL)
    record: SourceRecord = ConsumerRecord(
        topic, ALICE, 3, 0, 0, key, value, None, serialized_key_size=len(key), serialized_value_size=len(value), headers=()
    )
    batch = frame_batch(topic, [record], 2, partitions=PARTITIONS)
    assert len(named(batch.frames)) == 1


def test_a_batch_is_of_one_partition() -> None:
    mixed = [*records([FILL]), *records([FILL], first=1, partition=ALICE + 1)]
    with pytest.raises(AssertionError, match="one partition"):
        frame_batch("venue.fills", mixed, -1, partitions=PARTITIONS)


def test_finite_numbers_stay_the_same_bits() -> None:
    price = msgspec.structs.replace(PRICE, price=math.nextafter(0.65, 1.0))
    (frame,) = frame_batch("oracle.prices", records([price], partition=0), -1, partitions=1).frames
    assert decode_frame(encode_frame(frame)).events == [price]
    assert isinstance(price, Message)
    assert frame.kind is FrameKind.PRICES
