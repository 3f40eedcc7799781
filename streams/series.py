"""How a few numbers went over time, in a bounded number of points that always span the whole of it."""

from array import array
from collections.abc import Sequence
from typing import Any


class Series:
    """Points (time, values) in rising time, at most `points_max`: when they are full, every second one is dropped.

    From then on points come as far apart as those that are left; the newest one is always there. One array a column, so that
    a point takes the bytes of its numbers.
    """

    __slots__ = ("_columns", "_points_max", "_spacing_ns", "_times_ns")

    def __init__(self, typecodes: str, points_max: int) -> None:
        assert points_max >= 4, points_max
        self._times_ns: array[int] = array("q")
        self._columns: list[array[Any]] = [array(typecode) for typecode in typecodes]
        self._points_max = points_max
        self._spacing_ns = 0

    def __len__(self) -> int:
        return len(self._times_ns)

    def add(self, time_ns: int, values: Sequence[float]) -> None:
        """One more point. One that is not later than the newest, or too near the one before it, takes the newest one's place."""
        times = self._times_ns
        n = len(times)
        if n and (time_ns <= times[-1] or (n > 1 and time_ns - times[-2] < self._spacing_ns)):
            times[-1] = max(time_ns, times[-1])
            for column, value in zip(self._columns, values, strict=True):
                column[-1] = value
            return
        times.append(time_ns)
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)
        if n + 1 > self._points_max:
            self._thin()

    def times_ns(self) -> list[int]:
        return self._times_ns.tolist()

    def column(self, number: int) -> list[float]:
        """The values of one column, as many as there are times."""
        return self._columns[number].tolist()

    def _thin(self) -> None:
        keep_last = len(self._times_ns) % 2 == 0
        columns: list[array[Any]] = [self._times_ns, *self._columns]
        for column in columns:
            newest = column[-1]
            del column[1::2]
            if keep_last:
                column.append(newest)
        self._spacing_ns = (self._times_ns[-1] - self._times_ns[0]) * 2 // self._points_max
