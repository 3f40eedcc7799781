"""Marks from sources, worked by hand: medians, outliers, quorum, staleness."""

import math
import random
import statistics

import numpy as np
import pytest

from engine.marks import Marks, _median_deviation, _weighted_median, aggregate, new_marks, new_observations
from engine.reasons import Unknown
from engine.tables import SOURCES_MAX

NOW = 1_000_000
AGE = 1_000


def make(
    prices: list[float | None],
    *,
    weights: list[float] | None = None,
    ages: list[int] | None = None,
    confidence: list[float] | None = None,
    quorum: int = 2,
    mad_floor: float = 0.005,
) -> Marks:
    """The mark of asset 3; None is a source that was never heard."""
    observations, marks = new_observations(), new_marks()
    row = np.zeros(SOURCES_MAX)
    for k, one in enumerate(prices):
        row[k] = weights[k] if weights else 1.0
        if one is not None:
            observations.price[3, k] = one
            observations.publish_ns[3, k] = NOW - (ages[k] if ages else 0)
            observations.confidence[3, k] = confidence[k] if confidence else 0.0
    aggregate(3, row, observations, NOW, AGE, quorum, 4.0, mad_floor, marks)
    return marks


def test_the_median_of_equal_weights() -> None:
    assert make([101.0, 100.0, 100.2]).mark[3] == 100.2
    assert make([100.0, 100.4]).mark[3] == 100.2  # half exactly: the mean of the two
    assert make([100.3, 100.1, 100.0, 100.2]).mark[3] == pytest.approx(100.15, rel=1e-15)


def test_the_median_of_weights() -> None:
    assert make([100.0, 100.1, 100.2], weights=[3.0, 1.0, 1.0]).mark[3] == 100.0
    assert make([100.0, 100.1, 100.2], weights=[2.0, 1.0, 1.0]).mark[3] == pytest.approx(100.05, rel=1e-15)
    assert make([100.2, 100.0, 100.1], weights=[1.0, 1.0, 4.0]).mark[3] == 100.1


def test_an_outlier_is_rejected_and_counts_for_nothing() -> None:
    """One venue printing 0.65 while the others say 0.999 is an outlier, not a depeg."""
    marks = make([0.65, 0.999, 0.9991, 0.9992], confidence=[9.0, 1.0, 2.0, 3.0])
    assert marks.status[3] == 0
    assert marks.mark[3] == 0.9991
    assert marks.confidence[3] == 2.0
    assert marks.dispersion[3] == pytest.approx(0.0002 / 0.9991)
    assert marks.divergence[3] == marks.dispersion[3]


def test_all_of_them_falling_is_a_depeg() -> None:
    marks = make([0.65, 0.652, 0.649])
    assert marks.status[3] == 0
    assert marks.mark[3] == 0.65


def test_the_floor_keeps_close_sources_when_most_agree() -> None:
    assert make([100.0, 100.0, 100.4]).dispersion[3] == pytest.approx(0.004)  # within 50 bps though the MAD is 0
    assert make([100.0, 100.0, 100.6]).dispersion[3] == 0.0


def test_half_of_the_weight_apart_is_a_divergence() -> None:
    """One heavy source far off: rejected by the median of deviations, but it is half of the weight."""
    marks = make([100.0, 100.1, 100.2, 150.0], weights=[1.0, 1.0, 1.01, 3.0])
    assert marks.mark[3] == 100.1
    assert marks.status[3] == 0
    # The weighted median is 100.2 (3.01 of 6.01), so the largest deviation is 150 / 100.2 - 1, but 3 of 6.01 is less than half:
    assert marks.divergence[3] == marks.dispersion[3]
    marks = make([100.0, 100.1, 100.2, 150.0], weights=[1.0, 1.0, 1.0, 3.0], mad_floor=0.0)
    centre = (100.2 + 150.0) / 2
    assert marks.divergence[3] >= 150.0 / centre - 1.0 - 1e-12


def test_few_that_agree_are_no_quorum() -> None:
    marks = make([100.0, 120.0], quorum=2)
    assert marks.status[3] == 0  # two sources: each is one deviation from the middle
    marks = make([100.0, 100.1, 140.0, 180.0, 60.0], weights=[1.0, 1.0, 5.0, 5.0, 5.0], quorum=5)
    assert marks.status[3] == 0
    marks = make([100.0, 100.1, 100.2, 180.0], quorum=4)
    assert marks.status[3] == Unknown.SOURCES_APART
    assert math.isnan(marks.mark[3])
    assert marks.newest_ns[3] == -1


@pytest.mark.parametrize(
    ("prices", "ages", "reason"),
    [
        ([None, None, None], [0, 0, 0], Unknown.NO_MARK),
        ([100.0, None, None], [0, 0, 0], Unknown.NO_QUORUM),
        ([100.0, None, None], [AGE + 1, 0, 0], Unknown.NO_QUORUM),
        ([100.0, 100.0, None], [AGE + 1, 0, 0], Unknown.STALE_MARK),
        ([100.0, 100.0, 100.0], [AGE + 1, AGE + 1, AGE + 1], Unknown.STALE_MARK),
    ],
)
def test_too_few_fresh_sources(prices: list[float | None], ages: list[int], reason: Unknown) -> None:
    marks = make(prices, ages=ages)
    assert marks.status[3] == reason
    assert math.isnan(marks.mark[3])
    assert math.isnan(marks.divergence[3])


def test_freshness_ends_after_the_age_not_at_it() -> None:
    assert make([100.0, 100.0], ages=[AGE, AGE]).status[3] == 0
    assert make([100.0, 100.0], ages=[AGE, AGE + 1]).status[3] == Unknown.STALE_MARK


def test_a_source_without_weight_is_none() -> None:
    marks = make([100.0, 100.1, 100.4], weights=[1.0, 1.0, 0.0])
    assert marks.mark[3] == pytest.approx(100.05)
    assert make([100.0, 100.1], weights=[1.0, 0.0]).status[3] == Unknown.NO_QUORUM


def test_the_newest_accepted_time_dates_the_mark() -> None:
    marks = make([100.0, 100.1, 180.0, 100.05], ages=[50, 30, 0, 40])
    assert marks.newest_ns[3] == NOW - 30


def test_medians_against_sorting() -> None:
    rng = random.Random(5)
    for _ in range(2_000):
        count = rng.randint(1, SOURCES_MAX)
        prices = np.array(sorted(rng.choice([100.0, rng.uniform(90, 110)]) for _ in range(count)))
        weights = np.array([float(rng.choice([1, 1, 1, 2, 3])) for _ in range(count)])
        centre = _weighted_median(prices, weights, count)
        repeated = [p for p, w in zip(prices.tolist(), weights.tolist(), strict=True) for _ in range(int(w))]
        assert centre == statistics.median(repeated)
        assert _median_deviation(prices, centre, count) == statistics.median([abs(p - centre) for p in prices.tolist()])
