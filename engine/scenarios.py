"""Scan ranges, shocked volatilities and an option's profit in each scan column (docs/model.md, section 5)."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.jit import kernel
from engine.maths import pow_
from engine.pricing import black76_price
from engine.volatility import SECONDS_PER_YEAR

THIRTY_DAYS_S: Final = 30.0 * 86_400.0
BAND_ENDS_YEARS: Final = (7.0 / 365.0, 30.0 / 365.0, 90.0 / 365.0, 1.0)
PRICE_FLOOR: Final = 1e-9  # of the price: no extreme goes below it


@kernel
def scan_range(sigma: float, scan_k: float, horizon_s: float, floor: float, cap: float) -> float:
    """How far a price is moved, as a fraction of it."""
    return min(max(scan_k * sigma * math.sqrt(horizon_s / SECONDS_PER_YEAR), floor), cap)


@kernel
def extreme_down(multiple: float, scan: float) -> float:
    """The fall of the extreme scenario, a positive fraction that leaves PRICE_FLOOR of the price."""
    return min(multiple * scan, 1.0 - PRICE_FLOOR)


@kernel
def volatility_shock(t_years: float, shock: float, power: float, tenor_floor_s: float) -> float:
    """Relative shock of an option's volatility: larger for short tenors."""
    return shock * pow_(THIRTY_DAYS_S / max(t_years * SECONDS_PER_YEAR, tenor_floor_s), power)


@kernel
def tenor_band(t_years: float) -> int:
    """1 to TENOR_BANDS - 1 by time to expiry; 0 is for what has none."""
    for band in range(len(BAND_ENDS_YEARS)):
        if t_years <= BAND_ENDS_YEARS[band]:
            return band + 1
    return len(BAND_ENDS_YEARS) + 1


@kernel
def fill_option_scan(
    forward: float,
    strike: float,
    sigma: float,
    t_years: float,
    is_call: bool,
    lot_size: float,
    scan: float,
    steps: int,
    multiple: float,
    shock: float,
    vol_min: float,
    row: NDArray[np.float64],
) -> None:
    """USD change of one lot in each scan column of the group's scan range; `shock` from `volatility_shock`."""
    base = black76_price(forward, strike, sigma, t_years, is_call, 1.0)
    up = max(sigma * (1.0 + shock), vol_min)
    down = sigma * max(0.0, 1.0 - shock)
    for k in range(2 * steps + 1):
        moved = forward * (1.0 + ((k - steps) / steps) * scan)
        row[2 * k] = lot_size * (black76_price(moved, strike, up, t_years, is_call, 1.0) - base)
        row[2 * k + 1] = lot_size * (black76_price(moved, strike, down, t_years, is_call, 1.0) - base)
    columns = 2 * (2 * steps + 1)
    row[columns] = lot_size * (black76_price(forward * (1.0 + multiple * scan), strike, sigma, t_years, is_call, 1.0) - base)
    row[columns + 1] = lot_size * (
        black76_price(forward * (1.0 - extreme_down(multiple, scan)), strike, sigma, t_years, is_call, 1.0) - base
    )
