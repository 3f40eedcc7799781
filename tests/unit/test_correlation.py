"""Covariance on the minute grid against numpy, and correlations that stay correlations."""

import numpy as np
import pytest

from engine import correlation
from engine.correlation import GRID_YEARS, moves_with_market, new_covariances
from engine.parameters import ASSET_CLASSES
from engine.tables import HIGH, INITIAL_LEVEL, LOW, MAINTENANCE_LEVEL, OBSERVED, REGIMES

WITH_MARKET = np.array([True, True, False, True])
SIGMAS = (0.8, 0.9, 0.05, 1.2)
PRIOR = 0.6

CALM = np.zeros((2, 4))


def started() -> correlation.Covariances:
    state = new_covariances()
    for group, sigma in enumerate(SIGMAS):
        correlation.start(group, sigma, WITH_MARKET, PRIOR, state)
    return state


def correlations(state: correlation.Covariances, shrink: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    out = np.zeros((2, REGIMES, 4, 4))
    correlation.correlate(4, shrink, WITH_MARKET, PRIOR, state, CALM, 0.25, 0.25, out)
    found: np.ndarray[tuple[int, int], np.dtype[np.float64]] = out[MAINTENANCE_LEVEL, OBSERVED]
    return found


def test_the_classes_that_move_together() -> None:
    assert [name for k, name in enumerate(ASSET_CLASSES) if moves_with_market(k)] == ["major", "alt", "liquid_staking", "governance"]


@pytest.mark.parametrize("shrink", [0.0, 0.3, 1.0])
def test_at_the_start_it_is_the_prior(shrink: float) -> None:
    expected = np.where(np.outer(WITH_MARKET, WITH_MARKET), PRIOR, 0.0)
    np.fill_diagonal(expected, 1.0)
    np.testing.assert_allclose(correlations(started(), shrink), expected, rtol=1e-14)
    assert started().covariance[3, 3] == 1.2 * 1.2 * GRID_YEARS


def test_the_grid_against_numpy() -> None:
    state = started()
    rng = np.random.default_rng(4)
    marks = np.array([100.0, 50.0, 1.0, 3.0])
    expected = state.covariance[:4, :4].copy()
    correlation.observe(4, marks, 0.97, True, state)
    np.testing.assert_array_equal(state.covariance[:4, :4], expected)  # the first point is a reference
    for step in range(50):
        new = marks * np.exp(rng.normal(0, 0.001, 4) + rng.normal(0, 0.001))
        if step % 7 == 3:
            new[1] = 0.0  # unknown: no move to it, nor from it
        moves = np.log(np.where((new > 0) & (marks > 0), new / np.where(marks > 0, marks, 1.0), 1.0))
        expected = 0.97 * expected + 0.03 * np.outer(moves, moves)
        correlation.observe(4, new, 0.97, False, state)
        marks = np.where(new > 0, new, 0.0)
        np.testing.assert_allclose(state.covariance[:4, :4], expected, rtol=1e-12, atol=1e-20)
        if step % 7 == 3:
            marks = np.array([marks[0], 0.0, marks[2], marks[3]])
            restart = marks.copy()
            restart[1] = 50.0
            correlation.observe(4, restart, 0.97, False, state)
            moves = np.zeros(4)
            expected = 0.97 * expected
            marks = restart
    deviations = np.sqrt(np.diag(expected))
    rho = 0.7 * expected / np.outer(deviations, deviations) + 0.3 * np.where(np.outer(WITH_MARKET, WITH_MARKET), PRIOR, 0.0)
    np.fill_diagonal(rho, 1.0)
    np.testing.assert_allclose(correlations(state, 0.3), rho, rtol=1e-10, atol=1e-14)


def test_correlations_stay_positive_semi_definite() -> None:
    state = started()
    rng = np.random.default_rng(8)
    marks = np.ones(4)
    correlation.observe(4, marks, 0.9, True, state)
    for _ in range(200):
        marks = marks * np.exp(rng.normal(0, 0.01, 4) + rng.normal(0, 0.05))
        correlation.observe(4, marks, 0.9, False, state)
        rho = correlations(state, 0.2)
        assert np.abs(rho).max() == 1.0
        assert np.linalg.eigvalsh(rho).min() > -1e-12


def test_a_group_of_no_variance_has_its_prior() -> None:
    state = new_covariances()
    correlation.start(0, 0.0, WITH_MARKET, PRIOR, state)
    correlation.start(1, 0.5, WITH_MARKET, PRIOR, state)
    out = np.zeros((2, REGIMES, 2, 2))
    assert correlation.correlate(2, 0.3, WITH_MARKET, PRIOR, state, CALM, 0.0, 0.0, out)
    for table in out.reshape(-1, 2, 2):
        assert table.tolist() == [[1.0, PRIOR], [PRIOR, 1.0]]
    assert not correlation.correlate(2, 0.3, WITH_MARKET, PRIOR, state, CALM, 0.0, 0.0, out)  # nothing new


def test_regimes_go_on_from_what_is_observed_and_to_their_ends_under_stress() -> None:
    state = started()
    stress = np.zeros((2, 4))
    stress[INITIAL_LEVEL, 0] = 1.0
    stress[MAINTENANCE_LEVEL, 0] = 0.5
    out = np.zeros((2, REGIMES, 4, 4))
    assert correlation.correlate(4, 0.3, WITH_MARKET, PRIOR, state, stress, 0.25, 0.2, out)
    rho = out[MAINTENANCE_LEVEL, OBSERVED]
    np.testing.assert_array_equal(out[INITIAL_LEVEL, OBSERVED], rho)
    for g in range(4):
        for h in range(4):
            if g == h:
                assert (out[:, :, g, h] == 1.0).all()
                continue
            pairs = ((MAINTENANCE_LEVEL, 0.5), (INITIAL_LEVEL, 1.0))
            for level, most in pairs:
                worst = most if 0 in (g, h) else 0.0
                high, low = 0.25 + 0.75 * worst, 0.2 + 0.8 * worst
                assert out[level, HIGH, g, h] == pytest.approx(rho[g, h] + high * (1.0 - rho[g, h]))
                assert out[level, LOW, g, h] == pytest.approx(rho[g, h] * (1.0 - low))
    assert (out[INITIAL_LEVEL, HIGH, 0] == 1.0).all()
    assert out[INITIAL_LEVEL, LOW, 0, 1:].tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_array_equal(out, out.transpose(0, 1, 3, 2))
