"""A series is bounded, spans all of its time, and ends with the newest point."""

from __future__ import annotations

import itertools

import pytest

from streams.series import Series


def test_points_are_kept_as_they_come() -> None:
    series = Series("Bd", 8)
    for second in range(5):
        series.add(second, (second % 2, second / 10))
    assert series.times_ns() == [0, 1, 2, 3, 4]
    assert series.column(0) == [0, 1, 0, 1, 0]
    assert series.column(1) == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert len(series) == 5


def test_a_second_word_at_the_same_time_or_an_older_one_takes_the_newest_place() -> None:
    series = Series("d", 8)
    for time_ns, value in ((10, 1.0), (20, 2.0), (20, 3.0), (15, 4.0)):
        series.add(time_ns, (value,))
    assert series.times_ns() == [10, 20]
    assert series.column(0) == [1.0, 4.0]


@pytest.mark.parametrize("points", [9, 10, 100, 101, 5_000])
def test_it_always_spans_the_whole(points: int) -> None:
    series = Series("d", 8)
    for k in range(points):
        series.add(1_000 + k, (float(k),))
        assert len(series) <= 8
    times = series.times_ns()
    assert times[0] == 1_000
    assert times[-1] == 1_000 + points - 1
    assert [value + 1_000 for value in series.column(0)] == times
    gaps = [later - earlier for earlier, later in itertools.pairwise(times[:-1])]
    assert max(gaps) <= 3 * min(gaps), "spread evenly"
