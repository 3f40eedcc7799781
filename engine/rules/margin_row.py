"""How a rule that measures margin writes an account's row: one place for what a distance is and for what is not known."""

import numpy as np
from numpy.typing import NDArray

from engine.jit import kernel
from engine.rules.interface import DISTANCE, EQUITY_USD, INITIAL_USD, MAINTENANCE_USD


@kernel
def write_row(
    out: NDArray[np.float64], account: int, equity_usd: float, initial_left_usd: float, maintenance_left_usd: float, gross_usd: float
) -> None:
    """Fills row `account` of `out` (accounts, 4) from the venue's own numbers: what is left at initial and at maintenance, USD.

    The distance is what is left at maintenance over gross notional; without any notional inf, or -inf where something is owed all the
    same. If one of the numbers is NaN the whole row is.
    """
    if np.isnan(equity_usd + initial_left_usd + maintenance_left_usd + gross_usd):
        out[account, :] = np.nan
        return
    out[account, EQUITY_USD] = equity_usd
    out[account, INITIAL_USD] = equity_usd - initial_left_usd
    out[account, MAINTENANCE_USD] = equity_usd - maintenance_left_usd
    if gross_usd != 0.0:
        out[account, DISTANCE] = maintenance_left_usd / gross_usd
    else:
        out[account, DISTANCE] = np.inf if maintenance_left_usd >= 0.0 else -np.inf
