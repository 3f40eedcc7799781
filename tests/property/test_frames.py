"""A frame comes back as it was; bytes that were altered never come back as another frame."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.inputs import Frame, FrameKind
from streams.frames import _BODY_START, FrameFault, _sealed, decode_frame, encode_frame, wrap_control
from tests.samples import copied_frames, event_frames, fill_frames, frames, plain

slow_to_draw = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)


@pytest.mark.parametrize("kind", FrameKind)
@given(st.data())
@settings(slow_to_draw, max_examples=40)
def test_a_frame_comes_back_as_it_was(kind: FrameKind, data: st.DataObject) -> None:
    draw = {FrameKind.FILLS: fill_frames, FrameKind.CONTROL: copied_frames}
    frame = data.draw(draw[kind]() if kind in draw else event_frames([kind]))
    encoded = encode_frame(frame)
    assert frame.kind is kind
    assert plain(decode_frame(encoded)) == plain(frame)
    assert encode_frame(decode_frame(encoded)) == encoded


@given(frames(), st.data())
@slow_to_draw
def test_altered_bytes_are_a_fault(frame: Frame, data: st.DataObject) -> None:
    good = encode_frame(frame)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FrameFault):
        decode_frame(bytes(bad))


@given(frames(), st.data())
@slow_to_draw
def test_missing_or_added_bytes_are_a_fault(frame: Frame, data: st.DataObject) -> None:
    good = encode_frame(frame)
    cut = good[: data.draw(st.integers(0, len(good) - 1))]
    longer = good + data.draw(st.binary(min_size=1, max_size=8))
    for bad in (cut, longer):
        with pytest.raises(FrameFault):
            decode_frame(bad)


@given(frames().filter(lambda frame: frame.kind is not FrameKind.CONTROL), st.integers(-1, 2**40), st.integers(1, 2**20))
@slow_to_draw
def test_a_copy_needs_no_decoding_of_what_it_copies(frame: Frame, covers_from: int, step: int) -> None:
    offset = covers_from + step
    copy = Frame(FrameKind.CONTROL, "control", 0, covers_from, offset, [frame], [offset])
    assert wrap_control(encode_frame(frame), offset, covers_from) == encode_frame(copy)


@given(st.sampled_from(FrameKind), st.binary(max_size=100))
def test_any_body_under_a_right_checksum_is_a_frame_or_a_fault(kind: FrameKind, body: bytes) -> None:
    try:
        frame = decode_frame(_sealed(kind, body))
    except FrameFault:
        return
    assert plain(decode_frame(encode_frame(frame))) == plain(frame)


scalars = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=4) | st.binary(max_size=70)


@given(fill_frames() | event_frames(), scalars | st.lists(scalars, max_size=3), st.data())
@settings(slow_to_draw, max_examples=300)
def test_any_content_under_a_right_checksum_is_a_frame_or_a_fault(frame: Frame, replacement: object, data: st.DataObject) -> None:
    body = msgspec.msgpack.decode(encode_frame(frame)[_BODY_START:])
    inside = body
    while True:
        at = data.draw(st.integers(0, len(inside) - 1))
        if not isinstance(inside[at], list) or not inside[at] or data.draw(st.booleans()):
            break
        inside = inside[at]
    inside[at] = replacement
    try:
        altered = decode_frame(_sealed(frame.kind, msgspec.msgpack.encode(body)))
    except FrameFault:
        return
    assert encode_frame(decode_frame(encode_frame(altered))) == encode_frame(altered)
