"""Breaches, calls and liquidations counted on books small enough to be counted by hand."""

import numpy as np
import pytest

from engine.reasons import State
from streams.backtest.calls import Calls, calls, cost, liquidations, quantile
from streams.backtest.play import NEVER, Played
from streams.backtest.windows import count, losses, requirements, together

H, W, L, B, U = (int(state) for state in (State.HEALTHY, State.WARNING, State.LIQUIDATABLE, State.BANKRUPT, State.UNKNOWN))
EVERYBODY = np.array([True, True])


def equities(*columns: list[float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.array(columns, np.float64).T


def test_losses_at_the_end_and_within() -> None:
    found = losses(equities([100, 90, 95, 80, 120]), horizon=2, step=1)
    assert found.starts.tolist() == [0, 1, 2]
    assert found.at_end[:, 0].tolist() == [5.0, 10.0, -25.0]
    assert found.worst[:, 0].tolist() == [10.0, 10.0, 15.0]


def test_violations_by_hand() -> None:
    # Windows of 2 from 0, 1, 2: the first account loses 5, 10, -25 and the second 0, 3, 7, with 6 and 5 required throughout.
    found = losses(equities([100, 90, 95, 80, 120], [50, 50, 50, 47, 43]), horizon=2, step=1)
    counts = count(found, np.array([[6.0, 5.0]] * 3), 2, EVERYBODY)
    assert (counts.trials, counts.violations) == (4, 1)  # apart: starts 0 and 2; the second account's 7 > 5
    assert counts.within == 3  # the first's 10 > 6 and 15 > 6, the second's 7
    assert (counts.windows, counts.windows_hit, counts.accounts, counts.accounts_hit) == (2, 1, 2, 1)
    assert (counts.overlapping_trials, counts.overlapping_violations) == (6, 2)
    assert counts.runs == [[False, False], [False, True]]
    assert count(found, np.array([[6.0, 5.0]] * 3), 2, np.array([True, False])).violations == 0


def test_a_loss_of_what_was_required_is_no_violation() -> None:
    found = losses(equities([100, 90, 80]), horizon=1, step=1)
    assert count(found, np.array([[10.0], [9.98]]), 1, np.array([True])).violations == 1  # by two cents, once
    assert count(found, np.array([[10.0], [9.995]]), 1, np.array([True])).violations == 0


def test_a_trial_needs_a_value_at_both_ends() -> None:
    found = losses(equities([100, np.nan, 50, 40]), horizon=1, step=1)
    counts = count(found, np.array([[1.0], [1.0], [1.0]]), 1, np.array([True]))
    assert (counts.trials, counts.violations) == (1, 1)
    unvalued = count(found, np.array([[1.0], [1.0], [np.nan]]), 1, np.array([True]))
    assert (unvalued.trials, unvalued.windows, unvalued.accounts) == (0, 0, 0)


def test_a_minute_without_a_value_hides_no_other_loss() -> None:
    found = losses(equities([100, np.nan, 60, 100]), horizon=3, step=1)
    assert found.worst[0, 0] == 40.0


def test_episodes_add_up() -> None:
    found = losses(equities([100, 90, 80]), horizon=1, step=1)
    one = count(found, np.array([[5.0], [15.0]]), 1, np.array([True]))
    both = together([one, one])
    assert (both.trials, both.violations, both.windows, both.windows_hit) == (4, 2, 4, 2)
    assert both.runs == [[True, False], [True, False]]


def test_called_means_warned_in_the_same_spell_before_the_fall() -> None:
    columns = [
        [H, W, W, H, W, W, L, L],  # called two minutes before
        [H, H, H, H, L, L, L, H],  # never
        [H, W, U, U, L, H, W, L],  # called three before; its second fall does not count
        [H, W, H, L, H, H, H, H],  # its call was over: never
        [W, W, L, L, L, L, L, L],  # was short when first looked at
        [U, U, H, W, B, B, B, B],  # one before
        [H, W, W, W, W, W, W, H],  # did not fall
    ]
    state = np.array(columns, np.int8).T
    found = calls(state, np.ones(7, np.bool_))
    assert found == Calls(accounts=7, short_at_opening=1, fell=5, never_called=2, leads=[1, 2, 3])
    assert found.called_share == 0.6
    assert calls(state, np.zeros(7, np.bool_)).called_share is None


def test_quantiles_are_values_that_were_seen() -> None:
    assert [quantile([1, 2, 3, 40], q) for q in (0.0, 0.1, 0.5, 0.75, 0.9, 1.0)] == [1, 1, 2, 3, 40, 40]
    assert quantile([], 0.5) is None


def played() -> Played:
    """Two accounts over four minutes, of which requirements are kept at the first."""
    return Played(
        accounts=["a", "b"],
        kinds=["long", "short"],
        state=np.zeros((4, 2), np.int8),
        unhaircut=np.full((4, 2), 100.0),
        close_cost=np.zeros((4, 2)),
        maintenance=np.full((1, 2), 10.0),
        initial=np.full((1, 2), 13.0),
        haircut=np.full((1, 2), 2.0),
        haircut_initial=np.full((1, 2), 3.0),
        due=np.full(2, NEVER, np.int64),
        sigmas={},
    )


def test_bad_debt_is_what_is_missing_when_a_plan_is_executed() -> None:
    run = played()._replace(
        unhaircut=equities([100, 5, 3, -9], [100, 50, -8, 60]),
        close_cost=np.ones((4, 2)),
        due=np.array([1, 0], np.int64),
        state=np.array([[H, H], [L, H], [L, B], [B, H]], np.int8),
    )
    found = liquidations(run, EVERYBODY)
    assert (found.accounts, found.recovered) == (2, 1)
    assert found.bad_debts == {"next minute": 0, "worst of an hour": 2}
    assert found.bad_debt_usd == {"next minute": 0.0, "worst of an hour": 19.0}
    late = liquidations(played()._replace(unhaircut=equities([1, 1, 1, -5], [9, 9, 9, 9]), due=np.array([3, NEVER])), EVERYBODY)
    assert late.bad_debt_usd["next minute"] == 5.0


def test_what_safety_costs() -> None:
    run = played()._replace(
        initial=np.array([[13.0, 13.0], [37.0, 29.0]]),
        haircut_initial=np.full((2, 2), 3.0),
        maintenance=np.array([[10.0, 8.0], [90.0, 90.0]]),
    )
    found = cost(run, 0, EVERYBODY)
    assert (found.whole_usd, found.calm_usd, found.peak_usd, found.calm_maintenance_usd) == (26.0, 16.0, 36.0, 9.0)
    assert found.peak == 2.25
    assert cost(run, 15, EVERYBODY).calm_usd == 26.0
    assert requirements(played())["covered"].tolist() == [[12.0, 12.0]]
    assert requirements(played())["maintenance"].tolist() == [[10.0, 10.0]]


def test_windows_longer_than_the_episode_are_none() -> None:
    found = losses(equities([100, 90]), horizon=5, step=1)
    counts = count(found, np.zeros((1, 1)), 5, np.array([True]))
    assert (counts.trials, counts.windows) == (0, 0)
    assert counts.test(0.01).verdict == "no trial"
    assert counts.independent() == pytest.approx(1.0)
