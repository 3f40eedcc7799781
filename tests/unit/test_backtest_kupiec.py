"""The tests of proportion and of independence, against published regions and figures worked out by hand."""

import math

import pytest

from streams.backtest.kupiec import independence, normal_coverage, normal_tail, proportion, survival

# Kupiec 1995, table 3: at 95 % the model is not rejected while low < violations < high. Where the table has no lower bound (None) it stays
# silent about no violation at all, whose ratio is beyond the critical value as well.
PUBLISHED = [
    (0.01, 255, None, 7),
    (0.01, 510, 1, 11),
    (0.01, 1000, 4, 17),
    (0.025, 255, 2, 12),
    (0.025, 510, 6, 21),
    (0.025, 1000, 15, 36),
    (0.05, 255, 6, 21),
    (0.05, 510, 16, 36),
    (0.05, 1000, 37, 65),
    (0.075, 255, 11, 28),
    (0.075, 510, 27, 51),
    (0.075, 1000, 59, 92),
    (0.10, 255, 16, 36),
    (0.10, 510, 38, 65),
    (0.10, 1000, 81, 120),
]


@pytest.mark.parametrize(("promised", "trials", "low", "high"), PUBLISHED)
def test_the_published_regions_in_which_a_model_is_not_rejected(promised: float, trials: int, low: int | None, high: int) -> None:
    kept = [x for x in range(0 if low is not None else 1, trials + 1) if proportion(trials, x, promised).verdict == "not rejected"]
    assert kept == list(range(1 if low is None else low + 1, high))


def test_a_ratio_worked_out_by_hand() -> None:
    # 2 of 10 where 10 % were promised: -2 (8 ln 0.9 + 2 ln 0.1 - 8 ln 0.8 - 2 ln 0.2)
    by_hand = -2.0 * (8 * math.log(0.9) + 2 * math.log(0.1) - 8 * math.log(0.8) - 2 * math.log(0.2))
    found = proportion(10, 2, 0.1)
    assert found.ratio == pytest.approx(by_hand, rel=1e-12)
    assert found.ratio == pytest.approx(0.888, abs=0.001)
    assert found.p_value == pytest.approx(0.346, abs=0.001)


def test_the_ends() -> None:
    assert proportion(255, 0, 0.01).ratio == pytest.approx(5.13, abs=0.005)
    assert proportion(100, 0, 0.05).ratio == pytest.approx(-200.0 * math.log(0.95))
    assert proportion(100, 100, 0.05).ratio == pytest.approx(-200.0 * math.log(0.05))
    assert proportion(100, 5, 0.05).ratio == pytest.approx(0.0, abs=1e-12)
    assert proportion(0, 0, 0.05).verdict == "no trial"
    assert proportion(1000, 0, 0.05).verdict == "too few"
    assert proportion(1000, 100, 0.05).verdict == "too many"


@pytest.mark.parametrize("arguments", [(10, 11, 0.1), (10, -1, 0.1), (10, 1, 0.0), (10, 1, 1.0)])
def test_what_is_no_test_is_refused(arguments: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match=r"violations|probability"):
        proportion(*arguments)


def test_the_distributions_against_tables() -> None:
    for critical, share in ((2.706, 0.10), (3.841, 0.05), (6.635, 0.01), (10.828, 0.001)):
        assert survival(critical) == pytest.approx(share, rel=1e-3)
    assert normal_coverage(1.644854) == pytest.approx(0.95, abs=1e-7)
    assert normal_coverage(3.0) == pytest.approx(0.9986501, abs=1e-7)
    assert normal_tail(3.9) == pytest.approx(4.8096e-5, rel=1e-4)


def test_independence_worked_out_by_hand() -> None:
    # 0 0 1 1 1 0 0 0: of four that follow none one is a violation, of three that follow one two are.
    run = [False, False, True, True, True, False, False, False]
    pi, pi01, pi11 = 3 / 7, 1 / 4, 2 / 3
    joint = 4 * math.log(1 - pi) + 3 * math.log(pi)
    apart = 3 * math.log(1 - pi01) + math.log(pi01) + math.log(1 - pi11) + 2 * math.log(pi11)
    ratio, p_value = independence([run])
    assert ratio == pytest.approx(2.0 * (apart - joint), rel=1e-12)
    assert p_value == pytest.approx(survival(ratio))


def test_independence_looks_at_each_run_by_itself() -> None:
    assert independence([[False, True], [True, False]]) == independence([[True, False], [False, True]])
    assert independence([[False] * 50, [False] * 50]) == (0.0, 1.0)
    clustered = [[False] * 40 + [True] * 10 + [False] * 40]
    spread = [[k % 9 == 0 for k in range(90)]]
    assert independence(clustered)[1] < 1e-6 < 0.05 < independence(spread)[1] + 0.05
