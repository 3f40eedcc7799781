"""What records of every topic say in words and as JSON: true, whole, harmless to a terminal; junk is told as junk."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.effects import Refused
from engine.inputs import Frame, FrameKind, Tick
from engine.machine import CUT_KEY
from engine.monitor import Book
from engine.reasons import Refusal
from streams import records
from streams.frames import encode_frame
from streams.messages import SOURCES, TOPICS, dead_letter, encode_effect, encode_source
from streams.records import Record, as_json, decoded, is_ours, line
from streams.verdicts import Trial
from tests import samples
from tests.small_world import Log

NOW_MS = samples.NOW_NS // 10**6
NAMES = ["orders.binance" if topic.name == "orders.<venue>" else topic.name.replace("<topic>", "venue.fills") for topic in TOPICS]


def record(topic: str, value: bytes | None, key: bytes | None = None) -> Record:
    return Record(topic, 2, 17, NOW_MS, key, value)


def sample(topic: str) -> Record:
    """The record of a public message's sample."""
    told = [encode_source(message) for message in samples.SOURCE_MESSAGES] + [encode_effect(effect) for effect in samples.OUTPUT_MESSAGES]
    return next(record(topic, value, key) for name, key, value in told if name == topic)


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("oracle.prices", "asset USDe, source binance, price 0.65, confidence 0.01"),
        ("market.depth", "depth 12,000,000.00 USD, spread 3.5 bps"),
        ("venue.fills", "instrument BTC-PERP, kind trade, lots -25, price 1,213,205 ticks, cash -1,516 cash units, sequence 7"),
        ("account.snapshots", "positions [{instrument BTC-PERP, lots -25, cash 30 cash units}]"),
        (
            "chain.attestations",
            "guardian_set 0, signed_by [0; 1], sequence 1, transfer {account alice, chain base, asset USDC, lots 5, direction CREDIT",
        ),
        ("treasury.partials", "partition 3, applied 100, spent {BTC 1,500,000.00 USD}"),
        ("orders.binance", "instrument BTC-PERP, lots 25, limit 1,250,000 ticks"),
        ("account.health", "equity 1,234.50 USD, maintenance 2,000.00 USD"),
        ("pipeline.status", "machine book, partition 3, owner host:4711"),
    ],
)
def test_a_public_message_is_told_by_its_fields_with_units(topic: str, said: str) -> None:
    told = line(sample(topic))
    assert said in told
    assert told.startswith(f"2025-10-10 21:00:00.000 UTC  {topic}/2@17  ")
    assert "\n" not in told


def test_json_of_a_public_message_is_the_message() -> None:
    fill = sample("venue.fills")
    told = json.loads(as_json(fill))
    assert told == {
        "topic": "venue.fills",
        "partition": 2,
        "offset": 17,
        "time_ms": NOW_MS,
        "key": "alice",
        "value": json.loads(fill.value or b""),
    }


# ---- frames and rows ------------------------------------------------------------------------------------------------------------------


def test_a_frame_says_its_kind_source_and_offsets_and_its_first_events() -> None:
    ticks = [Tick(samples.NOW_NS + number) for number in range(5)]
    frame = Frame(FrameKind.TICK, "ticker", 0, 9, 20, ticks, [10, 11, 12, 13, 20])
    told = line(record("ledger", encode_frame(frame)))
    assert told.startswith("[2025-10-10 21:00:00.000 UTC]  ledger/2@17  TICK of ticker/0 (9, 20], 5 events; time 2025-10-10 ")
    assert told.count("time 2025-10-10 21:00:00.000 UTC") == records.EVENTS_SHOWN_MAX
    assert told.endswith("; and 2 more")
    copied = Frame(FrameKind.CONTROL, "control", 0, 6, 7, [frame], [7])
    assert "  copy of control@7 (after 6): TICK of ticker/0 (9, 20]" in line(record("ledger", encode_frame(copied)))


def test_fills_come_out_of_their_columns_with_their_names() -> None:
    log = Log()
    log.fills(log.fill("ann", "ex", "BTC-PERP", -25, 100_000), log.fill("bob", "sx", "ETH", 3, 40_000, order_id="o-9"))
    told = record("ledger", encode_frame(log.frames[0]))
    names = [[fill[name] for name in ("account", "venue", "instrument", "kind", "order_id")] for fill in decoded(told).content["events"]]
    assert names == [["ann", "ex", "BTC-PERP", "trade", ""], ["bob", "sx", "ETH", "trade", "o-9"]]
    assert "account ann, venue ex, instrument BTC-PERP, kind trade, lots -25, price 100,000 ticks" in line(told)


@given(samples.frames())
def test_any_frame_is_one_harmless_line_and_one_json_object(frame: Frame) -> None:
    told = record("ledger", encode_frame(frame), b"\xff\x1b")
    assert line(told).isprintable()
    content = json.loads(as_json(told))["value"]
    assert content["frame"] == frame.kind.name
    inner = content.get("copied", content)
    events = frame.events[0].events if frame.kind is FrameKind.CONTROL and isinstance(frame.events, list) else frame.events
    assert len(inner["events"]) == len(getattr(events, "rows", events))


def test_every_row_of_a_cut_is_told() -> None:
    book = Book(0, 1)
    log = Log(book)
    log.open()
    log.deposit("ann", 10_000.0)
    log.trade("ann", "ex", "BTC-PERP", 25, 100_000)
    rows = {key: record("ledger.rows", value, key) for key, value in book.take_cut().rows}
    told = {key: line(row) for key, row in rows.items()}
    assert [text for text in told.values() if "unreadable" in text or not text.isprintable()] == []
    assert f"cut: engine_version 1, applied {book.applied}, clock 2025-10-09 " in told[CUT_KEY]
    assert "account: prior 0, cause 0, epoch 0, positions [" in told[b"a:ann"]
    assert "piece: holds [{" in told[b"p:market:asset:0001"]
    assert "name BTC" in told[b"p:market:asset:0001"]
    assert json.loads(as_json(rows[CUT_KEY]))["value"]["rows"] == len(rows) - 1


def test_the_shells_rows_are_told_too() -> None:
    key, value = Trial(40, 2, 41, 1).row()
    assert "trial: applied 40, loads 2, frame 41, tries 1" in line(record("ledger.rows", value, key))
    verdict = record("attest.rows", msgspec.msgpack.encode(1), b"\x00shell:verdict:41")
    assert "\\x00shell:verdict:41  verdict: log_offset 41, verdicts 1" in line(verdict)


# ---- letters, tombstones, junk --------------------------------------------------------------------------------------------------------


def test_a_letter_gives_its_reason_and_what_was_refused() -> None:
    raw = b'{"v": 1, "asset": "BTC\x1b[2J", "price": NaN'
    _, key, value = encode_effect(dead_letter("oracle.prices", 0, 12, b"BTC", raw, Refusal.BAD_JSON, "not JSON"))
    told = line(record("oracle.prices.dlq", value, key))
    assert "oracle.prices/0/12  reason bad_json, detail not JSON, topic oracle.prices, partition 0, offset 12" in told
    assert 'raw {"v": 1, "asset": "BTC\\x1b[2J", "price": NaN' in told
    assert "raw_base64" not in told
    _, key, value = encode_effect(dead_letter("venue.fills", 0, 12, b"ann", b'{"lots": 2.5}', Refusal.NOT_A_LOT, "lots"))
    assert json.loads(as_json(record("venue.fills.dlq", value, key)))["value"]["raw"] == {"lots": 2.5}


def test_a_letter_of_a_machine_has_the_event() -> None:
    refused = Refused(topic="venue.fills", partition=0, offset=3, reason="unknown_venue", detail="", event={"venue": "moon", "lots": 5})
    _, key, value = encode_effect(refused)
    assert "event {venue moon, lots 5}" in line(record("venue.fills.dlq", value, key))


def test_a_tombstone_is_a_deletion() -> None:
    told = record("account.health", None, b"ann")
    assert line(told) == "[2025-10-10 21:00:00.000 UTC]  account.health/2@17  ann  deleted"
    assert json.loads(as_json(told))["value"] is None


@pytest.mark.parametrize(
    ("topic", "value", "said"),
    [
        ("venue.fills", b"not json", "not json"),
        ("venue.fills", b"[1, 2]", "[1, 2]"),
        ("venue.fills", b"\x00\xff\x1b", "00ff1b"),
        ("venue.fills", b"[" * 100_000, "[" * records.BYTES_SHOWN_MAX + "..."),
        ("ledger", b"PLMF" + bytes(100), "504c4d46"),
        ("ledger.rows", b"\xc1", "c1"),
        ("venue.fills.dlq", b"{", "{"),
    ],
)
def test_junk_is_told_as_junk(topic: str, value: bytes, said: str) -> None:
    told = line(record(topic, value, b"a:x"))
    assert "unreadable (" in told
    assert f"): {len(value):,} bytes, {said}" in told
    assert json.loads(as_json(record(topic, value)))["value"]["bytes"] == len(value)


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(records.EVENT_TIMES), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(NAMES), st.none() | st.binary(max_size=40), st.binary(max_size=60) | JSON_VALUES.map(msgspec.json.encode))
@example("venue.fills", None, b'{"time_ns": 1e400}')
@example("venue.fills", None, b'{"frame": 1, "row": 2, "unreadable": 3, "deleted": 4}')
@example("venue.fills", None, b'{"a":' * 200 + b"1" + b"}" * 200)
def test_nothing_that_a_topic_may_hold_breaks_the_reader(topic: str, key: bytes | None, value: bytes) -> None:
    told = record(topic, value, key)
    assert line(told).isprintable()
    assert len(line(told)) < records.LINE_CHARACTERS_MAX + 1_000
    text = as_json(told)
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["offset"] == 17


def test_long_records_are_cut_off_in_words_and_whole_in_json() -> None:
    health = msgspec.structs.replace(samples.HEALTH, requirement_usd={f"mode-{number}": 1.0 for number in range(500)})
    topic, _, value = encode_effect(health)
    assert "characters more)" in line(record(topic, value))
    assert json.loads(as_json(record(topic, value)))["value"] == msgspec.to_builtins(health)


def test_our_topics_are_those_of_the_table() -> None:
    assert all(is_ours(name) for name in NAMES)
    assert all(is_ours(f"{topic}.dlq") for topic in SOURCES if topic != "treasury.partials")
    assert is_ours("internal.dlq")
    assert not any(is_ours(name) for name in ("", "order", "fills", "account.health.dlq", "__consumer_offsets", "venue.fills.dlq.dlq"))
