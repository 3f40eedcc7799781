"""What holds for the terms of one instrument by itself: which contract has which, and what its cash is counted in."""

import math
from typing import Final

from engine.inputs import InstrumentDefinition
from engine.tables import FUTURE, INVERSE_FUTURE, INVERSE_OPTION, INVERSE_PERPETUAL, OPTION, PERPETUAL

INVERSE_CONTRACTS: Final = frozenset({INVERSE_PERPETUAL, INVERSE_FUTURE, INVERSE_OPTION})
IN_USD_LOTS: Final = frozenset({INVERSE_PERPETUAL, INVERSE_FUTURE})  # their fills move cash by a division, not by a whole number a tick
USD_LIKE_CLASSES: Final = frozenset({"cash", "stable", "synthetic_dollar"})
USD_CASH_UNIT: Final = 1e-6
COIN_CASH_UNIT: Final = 1e-9
WHOLE_TOLERANCE: Final = 1e-9  # lot_size * tick_size / cash_unit is a product of decimals written as doubles
CASH_PER_LOT_TICK_MAX: Final = 2**53


def term_faults(new: InstrumentDefinition, contract: int) -> list[str]:
    """Of the terms that only some contracts have."""
    faults = []
    if contract >= OPTION:
        if new.strike <= 0.0:
            faults.append("strike must be above 0")
    elif new.strike != 0.0:
        faults.append("strike belongs to options")
    if contract >= FUTURE:
        if new.expiry_ns <= 0:
            faults.append("expiry_ns must be above 0")
    elif new.expiry_ns != 0:
        faults.append("expiry_ns belongs to options and futures")
    if contract not in (PERPETUAL, INVERSE_PERPETUAL) and new.funding_interval_s != 0:
        faults.append("funding_interval_s belongs to perpetuals")
    return faults


def cash_unit(quote_class: str) -> float:
    """What one cash unit of a quote of that class is, in units of the quote."""
    return USD_CASH_UNIT if quote_class in USD_LIKE_CLASSES else COIN_CASH_UNIT


def cash_per_lot_tick(instrument: InstrumentDefinition, quote_class: str) -> int | None:
    """Cash units of one lot times one tick if that is a whole number from 1 to 2**53."""
    units = instrument.lot_size * instrument.tick_size / cash_unit(quote_class)
    if not (math.isfinite(units) and units < CASH_PER_LOT_TICK_MAX + 1):
        return None
    whole = round(units)
    return whole if 1 <= whole <= CASH_PER_LOT_TICK_MAX and abs(units - whole) <= WHOLE_TOLERANCE * whole else None
