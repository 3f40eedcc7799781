"""What collateral is worth less than its mark, and why: H_ij of docs/model.md, section 4."""

import math

import numpy as np
from numpy.typing import NDArray

from engine.jit import kernel
from engine.tables import (
    ASSET,
    BUY,
    CAP_USD,
    CHAIN,
    CONTRACT,
    ELIGIBLE,
    HAIRCUT_FLAT,
    LATENCY,
    RECOGNISED,
    SIZE,
    SPOT,
    STABLE_LONG,
    UNIT_LONG,
    RiskTables,
)


@kernel
def haircut_losses(
    count: int,
    instrument: NDArray[np.int32],
    quantity: NDArray[np.int64],
    has_pending: bool,
    pending: NDArray[np.int64],
    chains: int,
    tables: RiskTables,
) -> tuple[float, float]:
    """USD taken off an account's spot collateral, at maintenance and at initial volatility.

    `chains` has the bits of the chains where the account has a position or an open order. The part of an asset over its cap, in slot order,
    is lost whole. What its definition makes not eligible on its chain has what those before it left of the cap, and uses up none of it; its
    haircut is 1, to which it rises slowly at maintenance. What open orders may buy counts as held: it is paid for at its price, and costs
    its haircut.
    """
    ints = tables.instrument_int
    floats = tables.instrument_float
    atomic = tables.atomic_chains
    lost = 0.0
    lost_initial = 0.0
    for slot in range(count):
        i = instrument[slot]
        if ints[i, CONTRACT] != SPOT:
            continue
        value = _most_lots(slot, quantity, has_pending, pending) * floats[i, UNIT_LONG]
        if value <= 0.0:
            continue
        earlier = 0.0
        on_chain = 0.0
        for other in range(count):
            k = instrument[other]
            if ints[k, ASSET] == ints[i, ASSET] and ints[k, CONTRACT] == SPOT:
                held = _most_lots(other, quantity, has_pending, pending) * floats[k, UNIT_LONG]
                if other < slot and ints[k, ELIGIBLE] != 0:
                    earlier += held
                if ints[k, CHAIN] == ints[i, CHAIN]:
                    on_chain += held
        inside = min(value, max(0.0, floats[i, CAP_USD] - earlier))
        root = math.sqrt(on_chain)
        haircut = floats[i, HAIRCUT_FLAT] + floats[i, SIZE] * root
        haircut_initial = floats[i, HAIRCUT_FLAT + 1] + floats[i, SIZE + 1] * root
        if (chains & ~atomic[ints[i, CHAIN]]) != 0:
            haircut += floats[i, LATENCY]
            haircut_initial += floats[i, LATENCY + 1]
        lost += value - inside * (floats[i, RECOGNISED] * (1.0 - min(1.0, max(0.0, haircut))))
        counted = floats[i, STABLE_LONG] * (floats[i, RECOGNISED + 1] * (1.0 - min(1.0, max(0.0, haircut_initial))))
        lost_initial += value - inside * counted
    return lost, lost_initial


@kernel(inline=True)
def _most_lots(slot: int, quantity: NDArray[np.int64], has_pending: bool, pending: NDArray[np.int64]) -> float:
    """Of a spot balance with all that is to be bought bought; 0 where that is below."""
    return max(float(quantity[slot]) + (float(pending[slot, BUY]) if has_pending else 0.0), 0.0)
