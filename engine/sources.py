"""What a machine has taken in of each source: overlap is skipped event by event, what lies beyond a gap is skipped whole."""

from bisect import bisect_right
from typing import Any, NamedTuple

import msgspec

from engine.effects import Decision, Refused
from engine.inputs import Frame
from engine.reasons import Outcome, Refusal

NEVER = -1


class Covered(NamedTuple):
    """What to do with a frame: `gap`: skip it whole; else take the events whose offset is above `after`."""

    gap: bool
    after: int


class Sources:
    """Highest offset (or counter) applied by (source, partition); bounded by the number of partitions that feed the log."""

    def __init__(self) -> None:
        self._applied: dict[tuple[str, int], int] = {}

    def applied(self, source: str, partition: int) -> int:
        """Highest offset applied, -1 before the first."""
        return self._applied.get((source, partition), NEVER)

    def look_at(self, frame: Frame) -> Covered:
        """Whether the frame joins on to what was applied. Changes nothing."""
        after = self.applied(frame.source, frame.source_partition)
        return Covered(frame.covers_from > after, after)

    def take(self, frame: Frame) -> None:
        """The frame is applied: from here on its offsets count as seen."""
        key = (frame.source, frame.source_partition)
        if frame.covers_to > self._applied.get(key, NEVER):
            self._applied[key] = frame.covers_to

    def to_data(self) -> list[tuple[str, int, int]]:
        """[(source, partition, highest offset)], sorted: equal histories give equal bytes."""
        return [(source, partition, offset) for (source, partition), offset in sorted(self._applied.items())]

    def restore(self, data: list[tuple[str, int, int]]) -> None:
        """The inverse of `to_data`."""
        self._applied = {(source, partition): offset for source, partition, offset in data}


def first_new(offsets: list[int], after: int) -> int:
    """Index of the first of the rising `offsets` above `after`, their number if there is none."""
    return bisect_right(offsets, after)


def refused(frame: Frame, offset: int, reason: Refusal, detail: str, event: Any) -> Refused:
    """The dead letter of one event of `frame`: its origin is what readers deduplicate by."""
    return Refused(
        topic=frame.source,
        partition=frame.source_partition,
        offset=offset,
        reason=reason.value,
        detail=detail,
        event=msgspec.to_builtins(event, builtin_types=(), str_keys=True),
    )


def gap_decision(frame: Frame, after: int, clock_ns: int, machine: str, partition: int) -> Decision:
    """What the audit says about a frame beyond a gap."""
    return Decision(
        outcome=Outcome.GAP.value,
        account="",
        note=f"{machine} {partition}: {frame.kind.name} covers ({frame.covers_from}, {frame.covers_to}], applied up to {after}",
        decided_ns=clock_ns,
        ledger=f"{frame.source}:{frame.source_partition}:{frame.covers_to}",
    )
