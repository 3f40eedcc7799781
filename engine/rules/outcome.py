"""One account's row of `out`, and the layout of legs that kernels rely on; the same for every rule that measures margin."""

import numpy as np
from numpy.typing import NDArray

from engine.jit import kernel
from engine.rules.interface import DISTANCE, EQUITY_USD, INITIAL_USD, MAINTENANCE_USD

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@kernel
def write_row(out: Floats, account: int, equity_usd: float, initial_usd: float, maintenance_usd: float, gross_usd: float) -> None:
    """Fills `out[account]`; the distance is (equity - maintenance) / gross notional.

    Without a notional it is inf, or -inf where maintenance is above equity all the same. Any nan or infinity makes all four nan.
    """
    excess_usd = equity_usd - maintenance_usd
    spoilt = (equity_usd + initial_usd + maintenance_usd + gross_usd) * 0.0  # 0, or nan
    if gross_usd > 0.0:
        distance = excess_usd / gross_usd
    else:
        distance = np.inf if excess_usd >= 0.0 else -np.inf
    out[account, EQUITY_USD] = equity_usd + spoilt
    out[account, INITIAL_USD] = initial_usd + spoilt
    out[account, MAINTENANCE_USD] = maintenance_usd + spoilt
    out[account, DISTANCE] = distance + spoilt


def require_layout(start: Integers, legs: tuple[NDArray[np.generic], ...], accounts: tuple[NDArray[np.generic], ...]) -> None:
    """ValueError unless `start` rises from 0 to the length of each array of `legs`, with one entry more than each of `accounts`.

    The kernels don't check bounds: call this where arrays come from somewhere else.
    """
    if start.ndim != 1 or start.shape[0] < 1 or start[0] != 0 or bool(np.any(np.diff(start) < 0)):
        raise ValueError("start must be one row of offsets that begins with 0 and never falls")
    wrong = [array.shape for array in legs if array.shape != (int(start[-1]),)]
    if wrong:
        raise ValueError(f"arrays of legs must have the shape ({int(start[-1])},), not {wrong}")
    wrong = [array.shape for array in accounts if array.shape != (start.shape[0] - 1,)]
    if wrong:
        raise ValueError(f"arrays of accounts must have the shape ({start.shape[0] - 1},), not {wrong}")
