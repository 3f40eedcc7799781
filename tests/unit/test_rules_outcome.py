"""What all rules of venues share, by hand: the row that they write, and the check of indices before their kernels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.rules.indices import require_each, require_legs, require_within
from engine.rules.interface import COLUMNS, DISTANCE, EQUITY_USD, INITIAL_USD, MAINTENANCE_USD
from engine.rules.outcome import write_row


def row(equity_usd: float, initial_usd: float, maintenance_usd: float, gross_usd: float) -> list[float]:
    """The second of three accounts; the others are left as they are."""
    out = np.full((3, COLUMNS), 7.0)
    write_row(out, 1, equity_usd, initial_usd, maintenance_usd, gross_usd)
    assert (out[[0, 2]] == 7.0).all()
    return [float(value) for value in out[1]]


def test_a_row_is_equity_requirements_and_distance() -> None:
    assert (EQUITY_USD, INITIAL_USD, MAINTENANCE_USD, DISTANCE, COLUMNS) == (0, 1, 2, 3, 4)
    assert row(100.0, 60.0, 40.0, 240.0) == [100.0, 60.0, 40.0, 0.25]
    assert row(100.0, 60.0, 40.0, 0.5) == [100.0, 60.0, 40.0, 120.0]


@pytest.mark.parametrize(("equity_usd", "distance"), [(40.5, math.inf), (40.0, math.inf), (39.5, -math.inf)])
def test_without_a_notional_the_distance_is_infinite(equity_usd: float, distance: float) -> None:
    assert row(equity_usd, 60.0, 40.0, 0.0)[DISTANCE] == distance


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(4))
def test_what_is_not_finite_spoils_the_whole_row(place: int, bad: float) -> None:
    numbers = [100.0, 60.0, 40.0, 240.0]
    numbers[place] = bad
    assert all(math.isnan(value) for value in row(*numbers))


def test_offsets_cover_all_legs_and_never_fall() -> None:
    legs = (np.zeros(3), np.zeros(3))
    require_legs("start", np.array([0, 1, 1, 3]), 3, legs)
    require_legs("start", np.array([0]), 0, (np.zeros(0),))
    for accounts, start in (
        (3, [0, 2, 1, 3]),
        (3, [1, 1, 1, 3]),
        (3, [-1, 1, 1, 3]),
        (3, [0, 1, 1, 2]),
        (2, [0, 1, 1, 3]),
        (4, [0, 1, 1, 3]),
    ):
        with pytest.raises(ValueError, match="start must be the offsets"):
            require_legs("start", np.array(start), accounts, legs)


@pytest.mark.parametrize("legs", [(np.zeros(3), np.zeros(2)), (np.zeros(2), np.zeros(3)), (np.zeros(3), np.zeros((3, 1)))])
def test_arrays_of_legs_are_of_one_length(legs: tuple[np.ndarray, ...]) -> None:
    with pytest.raises(ValueError, match="start: arrays of its legs must be of one shape"):
        require_legs("start", np.array([0, 3]), 1, legs)


def test_indices_are_of_what_there_is() -> None:
    require_within("market", np.array([0, 2]), 3)
    require_within("market", np.zeros(0, dtype=np.int64), 0)
    for wrong in ([-1, 0], [0, 3], [1, 4, 1]):
        with pytest.raises(ValueError, match="market names what there is not"):
            require_within("market", np.array(wrong), 3)


def test_feeds_have_one_number_for_each() -> None:
    require_each(2, [("price_usd", np.zeros(2)), ("other", np.ones(2))])
    for wrong in (np.zeros(1), np.zeros(3), np.zeros((2, 1))):
        with pytest.raises(ValueError, match="price_usd has the shape"):
            require_each(2, [("other", np.ones(2)), ("price_usd", wrong)])
