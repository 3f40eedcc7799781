"""What a machine is: state in memory, fed by one totally ordered log, cut now and then. Attestor, book and treasury are three of them."""

from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct

from engine.effects import Breaker, Effects, Health
from engine.inputs import Frame, Partial

CUT_KEY = b"cut"
ENGINE_VERSION = 1


class Cut(Struct, frozen=True, kw_only=True):
    """All that changed since the last cut, and the proof of the whole.

    `rows` are (key, value); a value of None deletes. The last row is the cut record itself (key `CUT_KEY`). `health`, `breakers`,
    `partials` are last values that are published in the same transaction.
    """

    applied: int
    rows: list[tuple[bytes, bytes | None]]
    health: list[Health]
    breakers: list[Breaker]
    partials: list[Partial]


class CutRecord(Struct, frozen=True, array_like=True):
    """The cut record: where the log was, and a digest of every row and piece (sum of row hashes mod 2**128)."""

    engine_version: int
    applied: int
    clock_ns: int
    parameters_version: str
    digest: bytes  # 16, little endian
    rows: int
    sealed: bool
    sources: list[tuple[str, int, int]]  # (source, partition, highest offset applied)


class DigestMismatch(Exception):
    """The rows read back are not those the cut record speaks of: stop this partition and restore its rows topic from a backup."""


class Machine(Protocol):
    """The shell (streams.machine) knows a machine by this alone.

    Shape of use: `restore(rows)` once; then `apply(offset, frame)` with offset == applied + 1, always; `take_cut()` between two frames.
    Nothing here awaits, reads a clock, or draws a random number. The shell has checked offsets; `apply` asserts them.
    """

    @property
    def applied(self) -> int:
        """Offset of the last applied frame, -1 before the first."""
        ...

    @property
    def clock_ns(self) -> int:
        """Event time of the last tick, 0 before the first."""
        ...

    def apply(self, offset: int, frame: Frame) -> Effects: ...

    def take_cut(self, sealed: bool = False) -> Cut:
        """Encode what changed since the last cut and forget that it changed. Synchronous; the caller writes it."""
        ...

    def restore(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Take over the last values of committed rows (any order, tombstones left out). Raises DigestMismatch."""
        ...

    def source_applied(self, source: str, partition: int) -> int:
        """Highest offset (or counter) applied of one source, -1 if none: where its feeder starts again."""
        ...
