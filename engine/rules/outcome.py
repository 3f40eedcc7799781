"""One account's row of `out`, the same for every rule that measures margin."""

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
