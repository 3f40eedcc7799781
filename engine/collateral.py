"""How much of each asset with a global cap a book's accounts hold together (docs/model.md, section 9)."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.book import Accounts, Columns, lots_there
from engine.jit import kernel
from engine.margin import UNHAIRCUT
from engine.market import Market
from engine.tables import SPOT, UNIT_LONG, UNIT_UNKNOWN
from engine.universe import InstrumentArrays

NO_CAP_USD: Final = 1e18  # a definition's default
LOW_BITS: Final = 31
LOW_MASK: Final = 2**31 - 1


def collateral_usd(accounts: Accounts, market: Market) -> dict[str, float]:
    """Positive spot balances by asset, at the value price, of all accounts that can be valued; of assets that have a global cap."""
    universe, tables = market.universe, market.tables
    capped = [asset for asset, terms in enumerate(universe.assets) if terms.cap_usd_global < NO_CAP_USD]
    if not capped:
        return {}
    instruments = universe.instrument_count
    lots = np.zeros((instruments, 2), np.int64)
    wanted = np.zeros(instruments, np.bool_)
    terms = universe.instrument_arrays
    for asset in capped:
        wanted |= (terms.contract[:instruments] == SPOT) & (terms.underlying[:instruments] == asset)
    _add_lots(len(accounts), accounts.columns, terms, wanted, lots)
    found: dict[str, float] = {}
    for asset in capped:
        own = np.flatnonzero(wanted & (terms.underlying[:instruments] == asset))
        units = np.where(tables.instrument_int[own, UNIT_UNKNOWN] == 0, tables.instrument_float[own, UNIT_LONG], 0.0).tolist()
        held = [(high << LOW_BITS) + low for high, low in lots[own].tolist()]
        found[universe.assets[asset].name] = sum(count * unit for count, unit in zip(held, units, strict=True))
    return found


@kernel
def _add_lots(accounts: int, columns: Columns, terms: InstrumentArrays, wanted: NDArray[np.bool_], lots: NDArray[np.int64]) -> None:
    """Adds up positive lots of wanted instruments into `lots` [instruments, 2], high bits and low ones: exact in any order of accounts."""
    for a in range(accounts):
        if math.isnan(columns.health[a, UNHAIRCUT]):
            continue
        for slot in range(columns.positions[a]):
            i = columns.instrument[a, slot]
            if wanted[i]:
                there = max(lots_there(a, slot, terms.contract[i], columns), 0)
                lots[i, 0] += there >> LOW_BITS
                lots[i, 1] += there & LOW_MASK
