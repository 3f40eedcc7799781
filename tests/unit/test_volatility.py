"""Realised and implied volatility against the formulas written out, and the two speeds of fear."""

import math

import pytest

from engine import volatility
from engine.volatility import ImpliedVolatilities, new_implied, new_volatilities

SECOND = 10**9
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
YEAR_S = 31_536_000.0


def test_it_starts_with_the_class() -> None:
    state = new_volatilities()
    volatility.start(2, 0.8, 0.3, 5.0, state)
    assert (state.variance_fast[2], state.variance_slow[2]) == (0.8 * 0.8, 0.8 * 0.8)
    assert (state.sigma[2], state.sigma_maintenance[2]) == (0.8, 0.8)
    volatility.start(2, 0.1, 0.3, 0.2, state)
    assert (state.sigma[2], state.sigma_maintenance[2]) == (0.3, 0.2)


def test_samples_follow_the_formula() -> None:
    state = new_volatilities()
    volatility.start(0, 0.8, 0.3, 5.0, state)
    fast = slow = 0.8**2
    sigma, last, last_s = 0.8, 100.0, 0
    assert volatility.sample(0, last, 0, SECOND, 1_800.0, 86_400.0, 21_600.0, 0.3, state)
    assert state.sigma[0] == 0.8  # the first only sets the reference
    for mark, at_s in ((101.0, 5), (90.0, 60), (90.5, 1_000), (90.5, 100_000), (90.4, 400_000)):
        assert volatility.sample(0, mark, at_s * SECOND, SECOND, 1_800.0, 86_400.0, 21_600.0, 0.3, state)
        dt = at_s - last_s
        rate = math.log(mark / last) ** 2 / (dt / YEAR_S)
        fast = fast * math.exp(-dt / 1_800) + (1 - math.exp(-dt / 1_800)) * rate
        slow = slow * math.exp(-dt / 86_400) + (1 - math.exp(-dt / 86_400)) * rate
        sigma = max(math.sqrt(fast), math.sqrt(slow), 0.3, sigma * 2 ** (-dt / 21_600))
        last, last_s = mark, at_s
        assert state.variance_fast[0] == pytest.approx(fast, rel=1e-13)
        assert state.variance_slow[0] == pytest.approx(slow, rel=1e-13)
        assert state.sigma[0] == pytest.approx(sigma, rel=1e-13)


def test_a_sample_too_soon_waits() -> None:
    state = new_volatilities()
    volatility.start(0, 0.8, 0.3, 5.0, state)
    volatility.sample(0, 100.0, 0, SECOND, 1_800.0, 86_400.0, 21_600.0, 0.3, state)
    assert not volatility.sample(0, 150.0, SECOND - 1, SECOND, 1_800.0, 86_400.0, 21_600.0, 0.3, state)
    assert not volatility.sample(0, 150.0, -5, SECOND, 1_800.0, 86_400.0, 21_600.0, 0.3, state)
    assert (state.sigma[0], state.last_mark[0]) == (0.8, 100.0)


def test_it_rises_at_once_and_falls_with_a_half_life() -> None:
    state = new_volatilities()
    volatility.start(0, 0.5, 0.3, 5.0, state)
    volatility.sample(0, 100.0, 0, SECOND, 60.0, 60.0, 3_600.0, 0.3, state)
    volatility.sample(0, 80.0, 10 * SECOND, SECOND, 60.0, 60.0, 3_600.0, 0.3, state)
    high = state.sigma[0]
    assert high > 5.0
    volatility.sample(0, 80.0, 10 * SECOND + HOUR, SECOND, 60.0, 60.0, 3_600.0, 0.3, state)
    assert state.sigma[0] == pytest.approx(high / 2, rel=1e-12)


def test_maintenance_rises_slowly_and_falls_at_once() -> None:
    assert volatility.target(0.9, 1.2, 1.5, 5.0) == pytest.approx(1.8)
    assert volatility.target(0.9, 1.2, 1.5, 1.0) == 1.0
    assert volatility.maintenance(2.0, 0.8, 0.5, HOUR) == pytest.approx(1.3)
    assert volatility.maintenance(2.0, 0.8, 0.5, 0) == 0.8
    assert volatility.maintenance(0.9, 0.8, 0.5, HOUR) == 0.9
    assert volatility.maintenance(0.4, 0.8, 0.5, 0) == 0.4


def _implied(*quotes: tuple[int, float, int]) -> ImpliedVolatilities:
    """Quotes (days to expiry, sigma, age in seconds) of underlying 1, at the clock 0 + 1000 days."""
    implied = new_implied()
    for k, (days, sigma, age_s) in enumerate(quotes):
        implied.expiry_ns[1, k] = NOW + days * DAY
        implied.sigma[1, k] = sigma
        implied.time_ns[1, k] = NOW - age_s * SECOND
    implied.quotes[1] = len(quotes)
    return implied


NOW = 1_000 * DAY
AGE = 600 * SECOND


def test_an_expiry_of_its_own() -> None:
    assert volatility.implied_of_expiry(1, NOW + 10 * DAY, NOW, AGE, _implied((5, 0.4, 0), (10, 0.5, 600), (20, 0.7, 0))) == 0.5


def test_between_expiries_total_variance_is_linear() -> None:
    sigma = volatility.implied_of_expiry(1, NOW + 10 * DAY, NOW, AGE, _implied((5, 0.4, 0), (10, 0.5, 601), (20, 0.7, 0)))
    expected = math.sqrt((0.16 * 5 + (0.49 * 20 - 0.16 * 5) * (5 / 15)) / 10)
    assert sigma == pytest.approx(expected, rel=1e-14)


def test_beyond_the_ends_it_is_flat() -> None:
    implied = _implied((5, 0.4, 0), (20, 0.7, 0))
    assert volatility.implied_of_expiry(1, NOW + DAY, NOW, AGE, implied) == 0.4
    assert volatility.implied_of_expiry(1, NOW + 90 * DAY, NOW, AGE, implied) == 0.7


def test_nothing_fresh_is_unknown() -> None:
    assert math.isnan(volatility.implied_of_expiry(1, NOW + DAY, NOW, AGE, _implied((5, 0.4, 601))))
    assert math.isnan(volatility.implied_of_expiry(1, NOW + DAY, NOW, AGE, _implied((-1, 0.4, 0))))  # expired quotes say nothing
    assert math.isnan(volatility.implied_of_expiry(2, NOW + DAY, NOW, AGE, _implied((5, 0.4, 0))))


def test_the_month_is_the_nearest_fresh_expiry() -> None:
    assert of_month((5, 0.4, 0), (28, 0.5, 601), (40, 0.7, 0)) == 0.7
    assert of_month((20, 0.4, 0), (40, 0.7, 0)) == 0.4  # as near: the earlier
    assert of_month() == 0.0


def test_when_quotes_stop_the_last_month_falls_with_a_half_life() -> None:
    quotes = (5, 0.4, 600), (28, 0.5, 600), (40, 0.7, 630)
    assert of_month(*quotes) == 0.5
    assert of_month((5, 0.4, 600), (28, 0.5, 601)) == 0.4  # fresh still
    for silent_s in (1, 3_600, 36_000):
        late = tuple((days, sigma, age_s + silent_s) for days, sigma, age_s in quotes)
        assert of_month(*late) == pytest.approx(0.5 * 2 ** (-silent_s / 3_600))
    assert of_month((40, 0.7, 4_200), (30, 0.9, 4_801)) == pytest.approx(0.35)  # that one was too old by then
    assert of_month((-1, 0.9, 0), (40, 0.7, 4_200)) == pytest.approx(0.35)  # and that one is past


def of_month(*quotes: tuple[int, float, int]) -> float:
    return volatility.implied_of_month(1, NOW, AGE, 3_600.0, _implied(*quotes))
