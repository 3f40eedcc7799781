"""However events are put into frames, and wherever a book is cut and restored, it does the same to the bit."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.effects import Decision, MarginCall, Order
from engine.inputs import Frame
from engine.machine import CUT_KEY, CutRecord
from engine.monitor import Book
from tests.random_ledger import RandomLedger, merged, split

FRAMES = 150


def run(frames: list[Frame]) -> tuple[bytes, CutRecord, dict[bytes, bytes]]:
    """Everything that a book puts out over a log, its last cut record and its rows."""
    book = Book(0, 1)
    told = b""
    for offset, frame in enumerate(frames):
        told += b"".join(msgspec.json.encode(effect) for effect in book.apply(offset, frame).now)
    rows = {key: value for key, value in book.take_cut().rows if value is not None}
    return told, msgspec.msgpack.decode(rows.pop(CUT_KEY), type=CutRecord), rows


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_size_of_frames_changes_nothing(seed: int) -> None:
    ledger = RandomLedger(seed)
    ledger.steps(FRAMES)
    told_one, record_one, rows_one = run(split(ledger.log.frames))
    told_many, record_many, rows_many = run(merged(ledger.log.frames, 8_000))
    assert told_one == told_many
    assert rows_one == rows_many
    assert record_one.digest == record_many.digest
    assert (record_one.clock_ns, record_one.rows, record_one.parameters_version) == (
        record_many.clock_ns,
        record_many.rows,
        record_many.parameters_version,
    )
    frames_of_control = len([frame for frame in ledger.log.frames if frame.source == "control"])
    assert {source: offset for source, _, offset in record_one.sources}["control"] == frames_of_control - 1
    assert record_one.sources == record_many.sources


def test_eight_thousand_fills_in_one_frame_or_in_as_many() -> None:
    ledger = RandomLedger(8_000, accounts=40, budget_usd=1e7)
    for _ in range(80):
        ledger.log.fills(*[ledger.trade(ledger._account()) for _ in range(100)])
    one = split(ledger.log.frames)
    many = merged(ledger.log.frames, 10_000)
    assert max(len(frame.events.rows) for frame in many if hasattr(frame.events, "rows")) >= 8_000
    told_one, record_one, rows_one = run(one)
    told_many, record_many, rows_many = run(many)
    assert b'"cause":"fill"' in told_one
    assert told_one == told_many
    assert rows_one == rows_many
    assert record_one.digest == record_many.digest


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_book_cut_and_restored_at_every_offset_goes_on_the_same(seed: int) -> None:
    ledger = RandomLedger(seed)
    ledger.steps(FRAMES)
    frames = ledger.log.frames
    book = Book(0, 1)
    successor = Book(0, 1)
    rows: dict[bytes, bytes] = {}
    outcomes = set()
    for offset, frame in enumerate(frames):
        effects = book.apply(offset, frame)
        outcomes |= {effect.outcome for effect in effects.now if isinstance(effect, Decision)}
        outcomes |= {f"called by {effect.cause}" for effect in effects.now if isinstance(effect, MarginCall)}
        assert msgspec.json.encode(successor.apply(offset, frame).now) == msgspec.json.encode(effects.now)
        cut = book.take_cut()
        for key, value in cut.rows:
            if value is None:
                del rows[key]
            else:
                rows[key] = value
        assert successor.take_cut().rows[-1] == cut.rows[-1]
        successor = Book(0, 1)
        successor.restore(rows.items())
        assert successor.applied == offset
        a, b = book.accounts, successor.accounts
        for name in a.names:
            if a.columns.known[a.numbers[name]]:
                assert a.columns.health[a.numbers[name]].tobytes() == b.columns.health[b.numbers[name]].tobytes()
                assert a.columns.state[a.numbers[name]] == b.columns.state[b.numbers[name]]
    assert {"ordered", "filled", "called by venue"} <= outcomes


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_order_lowers_the_excess(seed: int) -> None:
    ledger = RandomLedger(seed)
    ledger.steps(FRAMES)
    decisions = [one for effects in ledger.effects for one in effects.now if isinstance(one, Decision) and one.outcome == "ordered"]
    ordered = [one for effects in ledger.effects for one in effects.now if isinstance(one, Order)]
    assert len(decisions) == len(ordered)
    for decision in decisions:
        assert decision.excess_before_usd is not None
        assert decision.excess_after_usd is not None
        assert decision.excess_after_usd > decision.excess_before_usd
    assert len({order.order_id for order in ordered}) == len(ordered)
