"""Frames that kill: found by trying them one at a time, and set aside by a verdict that every later owner and the replay obey.

A frame on which a machine fails (an assertion, a crash of the process) would kill each new owner of its partition in turn. So an owner
that finds frames to apply first writes down, among the rows, at which cut it loaded. If the next one finds that no cut came after that, it
goes on carefully: before each frame it commits a trial that names it, after it a cut. A frame whose trial has been found unfinished twice
is set aside: its events are left out, what it covers stays covered (so that its feeder does not bring them again), and the verdict stays
among the rows for good. Fills and credits that are left out count as refused, so that their accounts become unknown; if even that ends its
owners, a second verdict leaves the frame empty.

An owner that lives, and was kept from a cut by the broker alone (it refused a record, or did not answer), has not ended of any frame: when
that process loads the partition again, what it had left does not count.

These rows belong to the shell. Machines never see them, and no digest counts them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from msgspec import Struct, msgpack

from engine.inputs import FILL_DTYPE, Fills, Frame, FrameKind, RefusedFill

PREFIX = b"\x00shell:"
TRIAL_KEY = PREFIX + b"trial"
_VERDICT_PREFIX = PREFIX + b"verdict:"
CAREFUL_AFTER_LOADS = 1  # owners that came to nothing at the same cut
CAREFUL_FRAMES_MAX = 256  # more than an owner applies before its first cut is due; each costs two transactions
TRIES_MAX = 2  # trials of one frame found unfinished


class Trial(Struct, frozen=True, array_like=True):
    """Owners since the cut at `applied` that have not committed another; `frame` is the one being tried, -1 if none, for the n-th time."""

    applied: int
    loads: int
    frame: int = -1
    tries: int = 0

    def row(self) -> tuple[bytes, bytes]:
        return TRIAL_KEY, msgpack.encode(self)


class Trials:
    """What one owner knows of earlier ones, and how carefully it must go on."""

    def __init__(self, rows: Mapping[bytes, bytes], applied: int, log_end: int, spared: bytes | None = None) -> None:
        """`spared` is the trial that this process had left when the broker kept it from a cut."""
        self.verdicts = verdicts(rows.items())
        self.new_rows: list[tuple[bytes, bytes]] = []  # to commit before anything is applied, the trial last
        earlier = _earlier(rows.get(TRIAL_KEY), applied, spared)
        self.condemned = -1  # a frame set aside just now
        self._trial = Trial(applied, earlier.loads + 1, earlier.frame, earlier.tries)
        self.careful_until = -1  # the last log offset to be tried on its own
        if log_end - 1 <= applied:
            return
        if earlier.tries >= TRIES_MAX:
            self.condemned = earlier.frame
            self.verdicts[earlier.frame] = self.verdicts.get(earlier.frame, 0) + 1
            self.new_rows.append((_VERDICT_PREFIX + str(earlier.frame).encode(), msgpack.encode(self.verdicts[earlier.frame])))
            self._trial = Trial(applied, earlier.loads + 1)
        if earlier.loads >= CAREFUL_AFTER_LOADS:
            self.careful_until = min(log_end - 1, applied + CAREFUL_FRAMES_MAX)
        self.new_rows.append(self._trial.row())

    def row_for(self, frame: int, applied: int) -> tuple[bytes, bytes]:
        """The trial to commit before `frame` is applied on top of the cut at `applied`."""
        tries = self._trial.tries + 1 if self._trial.frame == frame else 1
        return Trial(applied, self._trial.loads, frame, tries).row()


def verdicts(rows: Iterable[tuple[bytes, bytes | None]]) -> dict[int, int]:
    """Log offsets of frames that were set aside, and how many verdicts there were on each, out of a partition's rows."""
    return {
        int(key.removeprefix(_VERDICT_PREFIX)): msgpack.decode(value, type=int)
        for key, value in rows
        if key.startswith(_VERDICT_PREFIX) and value is not None
    }


def set_aside(frame: Frame, verdicts_on_it: int) -> Frame:
    """What is applied in place of a frame with so many verdicts; it covers what the frame covered.

    After the first, fills and credits become refused ones: of a fill its account, venue and number are kept, of a credit its account.
    """
    if verdicts_on_it > 1 or frame.kind not in {FrameKind.FILLS, FrameKind.CREDITS}:
        return emptied(frame)
    fills = frame.events
    if not isinstance(fills, Fills):
        lost = [RefusedFill(credit.account, "", -1) for credit in fills]
        return frame._replace(kind=FrameKind.REFUSED_FILLS, events=lost)
    rows = fills.rows
    places = zip(rows["account"].tolist(), rows["instrument"].tolist(), rows["sequence"].tolist(), strict=True)
    lost = [RefusedFill(fills.accounts[account], fills.instruments[instrument][0], sequence) for account, instrument, sequence in places]
    return frame._replace(kind=FrameKind.REFUSED_FILLS, events=lost, offsets=rows["offset"].tolist())


def emptied(frame: Frame) -> Frame:
    """The frame without its events; it covers what it covered."""
    if frame.kind is FrameKind.CONTROL:
        assert isinstance(frame.events, list)
        return frame._replace(events=[emptied(frame.events[0])])
    if isinstance(frame.events, Fills):
        return frame._replace(events=Fills([], [], [], np.zeros(0, FILL_DTYPE)))
    return frame._replace(events=[], offsets=[])


def _earlier(row: bytes | None, applied: int, spared: bytes | None) -> Trial:
    """The trial that earlier owners left at this very cut, less the owner who is spared; one of another cut is over."""
    trial = msgpack.decode(row, type=Trial) if row is not None else None
    if trial is None or trial.applied != applied:
        return Trial(applied, 0)
    return trial if row != spared else Trial(applied, trial.loads - 1, trial.frame, max(0, trial.tries - 1))
