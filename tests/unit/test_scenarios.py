"""Scan ranges, shocks and option rows against Black-76 itself."""

import numpy as np
import pytest

from engine import scenarios
from engine.pricing import black76_price


def test_scan_range_is_clamped() -> None:
    assert scenarios.scan_range(0.8, 3.0, 86_400.0, 0.05, 0.5) == pytest.approx(3 * 0.8 * (1 / 365) ** 0.5)
    assert scenarios.scan_range(0.1, 3.0, 86_400.0, 0.05, 0.5) == 0.05
    assert scenarios.scan_range(9.0, 3.0, 86_400.0, 0.05, 0.5) == 0.5


def test_an_extreme_fall_leaves_something() -> None:
    assert scenarios.extreme_down(2.0, 0.3) == 0.6
    assert scenarios.extreme_down(2.0, 0.5) == 1.0 - 1e-9
    assert scenarios.extreme_down(5.0, 0.9) == 1.0 - 1e-9


def test_shocks_shrink_with_tenor() -> None:
    month = 30 / 365
    assert scenarios.volatility_shock(month, 0.35, 0.3, 86_400.0) == pytest.approx(0.35)
    assert scenarios.volatility_shock(4 * month, 0.35, 0.5, 86_400.0) == pytest.approx(0.35 / 2)
    assert scenarios.volatility_shock(0.0, 0.35, 0.5, 86_400.0) == pytest.approx(0.35 * 30**0.5)  # the tenor's floor is a day


def test_bands_of_tenors() -> None:
    """By days to expiry; the end of a band is in it."""
    ends = {0.0: 1, 7.0: 1, 7.01: 2, 30.0: 2, 30.01: 3, 90.0: 3, 90.01: 4, 365.0: 4, 365.01: 5, 4_000.0: 5}
    assert {days: scenarios.tenor_band(days / 365) for days in ends} == ends


@pytest.mark.parametrize("steps", [3, 6])
@pytest.mark.parametrize("is_call", [True, False])
def test_rows_are_differences_of_prices(steps: int, is_call: bool) -> None:
    forward, strike, sigma, years, lot, scan, shock = 100.0, 105.0, 0.6, 0.1, 0.01, 0.2, 0.4
    row = np.zeros(2 * (2 * steps + 1) + 2)
    scenarios.fill_option_scan(forward, strike, sigma, years, is_call, lot, scan, steps, 2.0, shock, 0.2, row)
    base = black76_price(forward, strike, sigma, years, is_call, 1.0)
    for k in range(2 * steps + 1):
        moved = forward * (1 + (k - steps) / steps * scan)
        for v, shocked in enumerate((sigma * 1.4, sigma * 0.6)):
            assert row[2 * k + v] == pytest.approx(lot * (black76_price(moved, strike, shocked, years, is_call, 1.0) - base), abs=1e-15)
    for column, extreme in ((-2, 140.0), (-1, 60.0)):
        assert row[column] == pytest.approx(lot * (black76_price(extreme, strike, sigma, years, is_call, 1.0) - base), abs=1e-15)


def test_shocked_volatility_has_a_floor_above_and_none_below() -> None:
    row = np.zeros(28)
    scenarios.fill_option_scan(100.0, 100.0, 0.05, 0.1, True, 1.0, 0.2, 6, 2.0, 1.5, 0.2, row)
    base = black76_price(100.0, 100.0, 0.05, 0.1, True, 1.0)
    assert row[12] == pytest.approx(black76_price(100.0, 100.0, 0.2, 0.1, True, 1.0) - base)  # up: to vol_min
    assert row[13] == pytest.approx(-base)  # down by more than all: intrinsic value
