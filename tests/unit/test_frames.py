"""What a frame's bytes are, which frames are refused, and that the text of a fault says what to do."""

import zlib
from typing import Any

import msgspec
import numpy as np
import pytest

from engine.inputs import FILL_DTYPE, Fills, Frame, FrameKind, OraclePrice, Tick
from streams.frames import _BODY_START, _EVENT_TYPES, FrameFault, _sealed, decode_frame, encode_frame, wrap_control
from tests.samples import SOURCE_MESSAGES, plain

PRICE = next(message for message in SOURCE_MESSAGES if isinstance(message, OraclePrice))
TICK = Frame(FrameKind.TICK, "ticks", 0, 4, 5, [Tick(1_000)], [5])


def fills(**columns: list[int]) -> Frame:
    """Two fills of one account in one instrument, with one order; columns as given."""
    rows = np.zeros(2, FILL_DTYPE)
    rows["order"] = -1
    rows["offset"] = [8, 9]
    for name, column in columns.items():
        rows[name] = column
    return Frame(FrameKind.FILLS, "venue.fills", 3, 7, 9, Fills(["alice"], [("binance", "BTC-PERP")], ["o-1"], rows), [])


def sealed(data: bytes, **header: int) -> bytes:
    """A frame's bytes with fields of the header replaced and the checksum made right again."""
    places = {"version": 4, "kind": 5, "zero": 6}
    head = bytearray(data[:12])
    for name, value in header.items():
        head[places[name]] = value
    body = data[_BODY_START:]
    return bytes(head) + zlib.crc32(bytes(head) + body).to_bytes(4, "little") + body


def test_every_kind_can_be_carried() -> None:
    assert set(_EVENT_TYPES) | {FrameKind.FILLS, FrameKind.CONTROL} == set(FrameKind)


def test_the_bytes_of_a_tick() -> None:
    # Written out once: ledgers outlive releases, so these bytes must be read, and made, for as long as the version is 1.
    body = b"\x96\xa5ticks\x00\x04\x05\x91\x05\x91\x91\xcd\x03\xe8"
    header = b"PLMF" + b"\x01" + b"\x08" + b"\x00\x00" + len(body).to_bytes(4, "little")
    assert encode_frame(TICK) == header + zlib.crc32(header + body).to_bytes(4, "little") + body


def test_the_bytes_of_a_fills_row() -> None:
    row = encode_frame(fills(lots=[1, -2], time_ns=[3, 4]))[-64:]
    assert row == bytes(8) + b"\xff" * 4 + bytes(4) + b"\xfe" + b"\xff" * 7 + bytes(24) + b"\x04" + bytes(7) + b"\x09" + bytes(7)


def test_decoded_rows_are_aligned_and_writable() -> None:
    events = decode_frame(encode_frame(fills())).events
    assert isinstance(events, Fills)
    assert events.rows.flags.aligned
    assert events.rows.flags.writeable
    assert events.rows.flags.c_contiguous


def test_an_unknown_version_says_what_to_run() -> None:
    with pytest.raises(FrameFault, match="version 2, and this program knows 1: run the release"):
        decode_frame(sealed(encode_frame(TICK), version=2))


def test_an_unknown_kind_says_what_to_run() -> None:
    with pytest.raises(FrameFault, match="kind 99, which this program does not know"):
        decode_frame(sealed(encode_frame(TICK), kind=99))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "do not begin as a frame"),
        (b'{"v":1}', "do not begin as a frame"),
        (encode_frame(TICK)[:-1], "of which 16 are there"),
        (encode_frame(TICK) + b"\x00", "of which 18 are there"),
        (encode_frame(TICK)[:-1] + b"\x00", "checksum"),
        (sealed(encode_frame(TICK), kind=FrameKind.PRICES), "PRICES frame that cannot be decoded"),
        (sealed(encode_frame(TICK), zero=1), "contradicts itself: its header"),
        (_sealed(FrameKind.FILLS, msgspec.msgpack.encode(["s", 0, 0, 1, [], [], [], b"x" * 63])), "63 bytes"),
    ],
)
def test_what_is_no_frame(data: bytes, text: str) -> None:
    with pytest.raises(FrameFault, match=text):
        decode_frame(data)


def contradictions() -> dict[str, Frame]:
    """Frames of right types that no kernel may see: what is wrong -> frame."""
    return {
        "offsets for 1 events": TICK._replace(offsets=[]),
        r"covers \(5, 5\]": TICK._replace(covers_from=5),
        r"covers \(-2, 5\]": TICK._replace(covers_from=-2),
        "offset 4 after 4": TICK._replace(offsets=[4]),
        "offset 6 beyond 5": TICK._replace(offsets=[6]),
        "offset 5 after 5": TICK._replace(events=[Tick(1), Tick(2)], offsets=[5, 5]),
        "column account": fills(account=[0, 1]),
        "column instrument": fills(instrument=[-1, 0]),
        "column order": fills(order=[0, 1]),
        "column kind": fills(kind=[0, 7]),
        "column offset outside": fills(offset=[7, 9]),
        "column offset outside 8..9": fills(offset=[9, 10]),
        "do not increase": fills(offset=[9, 9]),
        r"covers \(9, 9\]": fills()._replace(covers_from=9),
        "offsets beside the rows": fills()._replace(offsets=[8, 9]),
    }


@pytest.mark.parametrize("text", contradictions())
def test_contradictions_are_refused_when_encoded_and_when_decoded(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = contradictions()[text]
    with pytest.raises(ValueError, match=text):
        encode_frame(frame)
    with monkeypatch.context() as careless:
        careless.setattr("streams.frames._fault_of_offsets", lambda *_: "")
        careless.setattr("streams.frames._fault_of_fills", lambda *_: "")
        data = encode_frame(frame)
    if not isinstance(frame.events, Fills) or not frame.offsets:  # on the bus fills have no offsets beside them
        with pytest.raises(FrameFault, match=text):
            decode_frame(data)


def test_fills_travel_as_columns_and_nothing_else_does() -> None:
    with pytest.raises(ValueError, match="not fills"):
        encode_frame(fills()._replace(kind=FrameKind.SNAPSHOTS))
    with pytest.raises(ValueError, match="no columns"):
        encode_frame(TICK._replace(kind=FrameKind.FILLS))


def test_rows_of_another_layout_are_refused() -> None:
    frame = fills()
    assert isinstance(frame.events, Fills)
    other = frame.events._replace(rows=np.zeros(2, [("account", "<i8")]))
    with pytest.raises(ValueError, match="dtype"):
        encode_frame(frame._replace(events=other))


def test_copies_of_control() -> None:
    prices = Frame(FrameKind.PRICES, "oracle.prices", 0, 6, 8, [PRICE], [8])
    copy = decode_frame(wrap_control(encode_frame(prices), 12, 10))
    assert copy == Frame(FrameKind.CONTROL, "control", 0, 10, 12, [prices], [12])
    with pytest.raises(ValueError, match="cannot follow"):
        wrap_control(encode_frame(prices), 10, 10)
    with pytest.raises(FrameFault, match="copy of a copy"):
        decode_frame(wrap_control(encode_frame(copy), 3, 2))
    with pytest.raises(FrameFault, match=r"copy of control's offset 3: .*do not begin as a frame"):
        decode_frame(wrap_control(b"", 3, 2))


def wrong_copies() -> list[Any]:
    """CONTROL frames that no copier makes."""
    copy = Frame(FrameKind.CONTROL, "control", 0, 1, 2, [TICK], [2])
    return [
        copy._replace(events=[]),
        copy._replace(events=[TICK, TICK], offsets=[1, 2]),
        copy._replace(events=[b"bytes"]),
        copy._replace(events=[copy]),
        copy._replace(source="treasury"),
        copy._replace(source_partition=1),
        copy._replace(offsets=[1]),
        copy._replace(covers_from=2),
    ]


@pytest.mark.parametrize("index", range(len(wrong_copies())))
def test_wrong_copies_are_refused(index: int) -> None:
    with pytest.raises(ValueError, match=r"CONTROL|cannot follow"):
        encode_frame(wrong_copies()[index])


def test_a_frame_with_no_events_still_covers_its_offsets() -> None:
    empty = Frame(FrameKind.PRICES, "oracle.prices", 0, 6, 8, [], [])
    assert decode_frame(encode_frame(empty)) == empty
    no_fills = fills()._replace(events=Fills([], [], [], np.zeros(0, FILL_DTYPE)))
    assert plain(decode_frame(encode_frame(no_fills))) == plain(no_fills)
