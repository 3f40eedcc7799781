"""Covariance on the minute grid against numpy, and correlations that stay correlations."""

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import correlation
from engine.correlation import GRID_YEARS, moves_with_market, new_covariances
from engine.parameters import ASSET_CLASSES
from engine.tables import HIGH, INITIAL_LEVEL, LOW, MAINTENANCE_LEVEL, OBSERVED, REGIMES

WITH_MARKET = np.array([True, True, False, True])
SIGMAS = (0.8, 0.9, 0.05, 1.2)
PRIOR = 0.6

Floats = NDArray[np.float64]
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


def with_expected(moves: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    """Moves with what is expected of those that are nan, and the variances that this leaves open; by matrices."""
    seen = ~np.isnan(moves)
    full, left = moves.copy(), np.zeros(len(moves))
    for u in np.flatnonzero(~seen):
        slopes = covariance[u, seen] / np.diag(covariance)[seen]
        shared, spread = slopes @ covariance[u, seen], slopes @ covariance[np.ix_(seen, seen)] @ slopes
        full[u], left[u] = (
            (shared / spread * (slopes @ moves[seen]), covariance[u, u] - shared**2 / spread) if spread else (0.0, covariance[u, u])
        )
    return full, left


def test_the_grid_against_numpy() -> None:
    state = started()
    rng = np.random.default_rng(4)
    marks, told = np.array([100.0, 50.0, 1.0, 3.0]), np.array([100.0, 50.0, 1.0, 3.0])
    expected = state.covariance[:4, :4].copy()
    correlation.observe(4, marks, 0.97, True, state)
    np.testing.assert_array_equal(state.covariance[:4, :4], expected)  # the first point is a reference
    for step in range(60):
        marks = marks * np.exp(rng.normal(0, 0.001, 4) + rng.normal(0, 0.001))
        now = marks.copy()
        now[{3: [1], 4: [1, 3], 5: [0, 1, 2]}.get(step % 7, [])] = 0.0  # unknown
        moves = np.where((now > 0) & (told > 0), np.log(np.maximum(now, 1e-9) / np.maximum(told, 1e-9)), np.nan)
        if not np.isnan(moves).all():
            full, left = with_expected(moves, expected)
            expected = 0.97 * expected + 0.03 * (np.outer(full, full) + np.diag(left))
        correlation.observe(4, now, 0.97, False, state)
        told = now
        np.testing.assert_allclose(state.covariance[:4, :4], expected, rtol=1e-10, atol=1e-20)
    deviations = np.sqrt(np.diag(expected))
    rho = 0.7 * expected / np.outer(deviations, deviations) + 0.3 * np.where(np.outer(WITH_MARKET, WITH_MARKET), PRIOR, 0.0)
    np.fill_diagonal(rho, 1.0)
    np.testing.assert_allclose(correlations(state, 0.3), rho, rtol=1e-10, atol=1e-14)


def test_an_outage_wears_no_correlation_away() -> None:
    """Five hours without a price of group 1, while the others move as they did: taken for no moves, 0.6 would become 0.1."""
    state, rng = started(), np.random.default_rng(6)
    shape = np.linalg.cholesky(state.covariance[:4, :4])
    marks = np.ones(4)
    correlation.observe(4, marks, 0.99, True, state)
    before = state.covariance[:4, :4].copy()
    for _ in range(300):
        marks = marks * np.exp(shape @ rng.choice((-1.0, 1.0), 4))
        correlation.observe(4, np.where(np.arange(4) == 1, 0.0, marks), 0.99, False, state)
    assert correlations(state, 0.0)[0, 1] == pytest.approx(PRIOR, abs=0.1)
    assert state.covariance[1, 1] == pytest.approx(before[1, 1], rel=0.15)


def test_where_nobody_was_seen_to_move_all_stays() -> None:
    state = started()
    before = state.covariance.copy()
    correlation.observe(4, np.ones(4), 0.9, True, state)
    for marks in (np.zeros(4), np.zeros(4), np.full(4, 2.0)):  # none is known, then none is known from before
        correlation.observe(4, marks, 0.9, False, state)
        np.testing.assert_array_equal(state.covariance, before)
    correlation.observe(4, np.full(4, 2.0), 0.9, False, state)  # all seen, and none moved
    np.testing.assert_allclose(state.covariance, 0.9 * before)


def test_one_that_is_related_to_nobody_keeps_its_variance() -> None:
    state = started()
    before = float(state.covariance[2, 2])
    correlation.observe(4, np.ones(4), 0.9, True, state)
    correlation.observe(4, np.array([1.1, 1.2, 0.0, 0.9]), 0.9, False, state)
    assert state.covariance[2, 2] == pytest.approx(before, rel=1e-14)
    assert state.covariance[2, [0, 1, 3]].tolist() == [0.0, 0.0, 0.0]


def test_correlations_stay_positive_semi_definite() -> None:
    state = started()
    rng = np.random.default_rng(8)
    marks = np.ones(4)
    correlation.observe(4, marks, 0.9, True, state)
    for step in range(400):
        marks = marks * np.exp(rng.normal(0, 0.01, 4) + rng.normal(0, 0.05))
        known = rng.random(4) < (0.5 if step % 20 < 10 else 1.0)
        correlation.observe(4, np.where(known, marks, 0.0), 0.9, False, state)
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
