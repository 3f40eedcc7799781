"""A run's ledger as it would be, had each step of the replay come in one frame a kind: the same for the same data, however it was framed.

How records fall into frames depends on how fast machines were, and a book looks at marks and accounts after each frame: of two prices a
millisecond apart it may see one or both. So a question about the data, not about the run, is put to this ledger. What the monitor's own
orders brought about (their fills and reports) is left out, for when they went out depends on it as well.
"""

from collections.abc import Iterator

from engine.inputs import Fills, Frame, FrameKind
from engine.sources import NEVER, Sources, first_new
from streams.messages import CONTROL


class Reframing:
    """Takes the frames of one book's ledger in order, and hands them on step by step, numbered anew."""

    def __init__(self) -> None:
        self._heard = Sources()
        self._waiting: dict[tuple[bool, FrameKind, str, int], list[Frame]] = {}
        self._handed: dict[tuple[str, int], int] = {}  # what of each source the frames handed on cover
        self._control = -1  # number of the last control frame handed on

    def take(self, frame: Frame) -> list[Frame]:
        """Nothing before a tick; with it, what came since the tick before, market first and prices last of it, and the tick."""
        if frame.kind is FrameKind.CONTROL:
            if not self._is_new(frame):
                return []
            self._heard.take(frame)
            frame = inner_frame(frame)
            if frame.kind is FrameKind.TICK:  # ticks count forward by themselves
                return [*self._step(), self._copied(frame)]
        if self._is_new(frame):
            self._keep(frame)
        return []

    def _is_new(self, frame: Frame) -> bool:
        """Whether it joins on to what its source has said, and goes beyond it, as a book would see it."""
        covered = self._heard.look_at(frame)
        return not covered.gap and frame.covers_to > covered.after

    def _keep(self, frame: Frame) -> None:
        after = self._heard.applied(frame.source, frame.source_partition)
        self._heard.take(frame)
        kept = _unanswered(frame, after)
        if kept is not None:
            key = (frame.kind is FrameKind.PRICES, frame.kind, frame.source, frame.source_partition)
            self._waiting.setdefault(key, []).append(kept)

    def _step(self) -> Iterator[Frame]:
        for key in sorted(self._waiting):
            frames = self._waiting[key]
            if frames[0].kind >= FrameKind.FILLS:
                yield from map(self._joined, frames)  # accounts' own events are taken one by one in any case
                continue
            whole = frames[0]._replace(
                covers_to=frames[-1].covers_to,
                events=[event for frame in frames for event in frame.events],
                offsets=[offset for frame in frames for offset in frame.offsets],
            )
            yield self._copied(self._joined(whole))
        self._waiting.clear()

    def _joined(self, frame: Frame) -> Frame:
        """The frame as the next one of its source: what was left out before it makes no gap."""
        source = frame.source, frame.source_partition
        before, self._handed[source] = self._handed.get(source, NEVER), frame.covers_to
        return frame._replace(covers_from=before)

    def _copied(self, frame: Frame) -> Frame:
        self._control += 1
        return Frame(FrameKind.CONTROL, CONTROL, 0, self._control - 1, self._control, [frame], [self._control])


def inner_frame(frame: Frame) -> Frame:
    """The frame that a copy of control carries."""
    inner = frame.events[0]
    assert isinstance(inner, Frame)
    return inner


def _unanswered(frame: Frame, after: int) -> Frame | None:
    """The events beyond `after` that do not answer an order; None where there are none."""
    if frame.kind is FrameKind.REPORTS:
        return None
    if isinstance(frame.events, Fills):
        rows = frame.events.rows[(frame.events.rows["offset"] > after) & (frame.events.rows["order"] < 0)]
        return frame._replace(events=frame.events._replace(rows=rows)) if len(rows) else None
    first = first_new(frame.offsets, after)
    return frame._replace(events=frame.events[first:], offsets=frame.offsets[first:]) if first < len(frame.offsets) else None
