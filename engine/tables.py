"""The layout of the arrays that account kernels read: all that a valuation needs, one row an instrument, group or chain.

Everything here is derived (engine.market fills it, in full after a restore), so nothing of it is ever written to a cut. The arrays are
allocated once at their stated bounds and never replaced, so a kernel or a caller may keep them. Untouched pages cost no memory.
"""

from typing import Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

ASSETS_MAX: Final = 512
CHAINS_MAX: Final = 64  # one bit each of an int64
VENUES_MAX: Final = 128
INSTRUMENTS_MAX: Final = 4096
SOURCES_MAX: Final = 16  # of one asset
EXPIRIES_MAX: Final = 64  # of one underlying's implied volatilities
POSITIONS_MAX: Final = 16  # of one account
GROUPS_HELD_MAX: Final = 2 * POSITIONS_MAX  # an underlying's and a quote's for each position

# Contract codes, in the order of InstrumentDefinition.contract.
CONTRACTS: Final = ("spot", "loan", "perpetual", "inverse_perpetual", "option", "inverse_option")
SPOT: Final = 0
LOAN: Final = 1
PERPETUAL: Final = 2
INVERSE_PERPETUAL: Final = 3
OPTION: Final = 4
INVERSE_OPTION: Final = 5

# Levels: which volatility a table was made with.
MAINTENANCE_LEVEL: Final = 0
INITIAL_LEVEL: Final = 1

# Columns of RiskTables.instrument_int.
CONTRACT: Final = 0
ASSET: Final = 1  # the underlying
QUOTE: Final = 2
GROUP: Final = 3  # of the underlying, -1: none
QUOTE_GROUP: Final = 4  # of the quote, -1: none
CHAIN: Final = 5
VENUE: Final = 6
UNIT_UNKNOWN: Final = 7  # Unknown code that a quantity meets, 0: can be valued
CASH_UNKNOWN: Final = 8  # Unknown code that cash meets
SCAN_ROW: Final = 9  # row of option_scan, -1: linear
ELIGIBLE: Final = 10  # 1: the asset counts as collateral on this chain
LEVELS_DIFFER: Final = 11  # 1: something of this instrument differs between the two levels
INSTRUMENT_INTS: Final = 12

# Columns of RiskTables.instrument_float. "A lot" is one lot of positive quantity; USD everywhere.
UNIT_LONG: Final = 0  # value of a lot held
UNIT_SHORT: Final = 1  # value of a lot owed
CASH_VALUE: Final = 2  # value of one cash unit
DELTA_LONG: Final = 3  # change of a lot for a move of 100 %, linear contracts (options: 0, they have a scan row)
DELTA_SHORT: Final = 4
CASH_DELTA: Final = 5  # change of one cash unit for a move of 100 % of the quote, 0 for a quote without a group
OPTION_DELTA: Final = 6  # delta * forward * lot size of an option, else 0
HAIRCUT_FLAT: Final = 7  # base + security + depeg
LATENCY: Final = 8  # z * sigma * sqrt(tau) if the account is on another chain; 2 levels
SIZE: Final = 10  # size coefficient / sqrt(depth)
CAP_USD: Final = 11
VOL_HAIRCUT: Final = 12  # of the underlying; 2 levels
CASH_VOL_HAIRCUT: Final = 14  # of the quote; 2 levels
NOTIONAL: Final = 16  # of a lot
COST_RATE: Final = 17  # half spread + fee, as a fraction of the notional; 0 where nothing is to be closed
IMPACT: Final = 18  # impact coefficient / sqrt(depth)
INSTRUMENT_FLOATS: Final = 20

# Columns of RiskTables.group_float (per level).
SCAN: Final = 0  # scan range, as a fraction of the price
EXTREME_UP: Final = 1
EXTREME_DOWN: Final = 2  # a positive fraction, below 1
HAIRCUT_STEP: Final = 3  # min(1, volatility haircut / scan range) of the group's own asset
GROUP_FLOATS: Final = 4

# Scan columns: 2k + v for price step k and volatility shock v, then the two extremes.
GRID_STEPS_MAX: Final = 6
COLUMNS_MAX: Final = 2 * (2 * GRID_STEPS_MAX + 1) + 2

# RiskTables.settings and settings_int.
EXTREME_FRACTION: Final = 0
END_FACTOR: Final = 1
INITIAL_FACTOR: Final = 2
SETTINGS: Final = 4
GRID_STEPS: Final = 0
DECISION_MODE: Final = 1  # index into parameters.MODES
SETTINGS_INT: Final = 2

# Columns of the scratch space, one row for each group that the account holds.
DELTA_SUM: Final = 0
HAIRCUT_LOSS: Final = 1
SCANNED: Final = 2  # linear profit at +1 scan range
PROFIT: Final = 4  # from here on: profit by scan column
SCRATCH_FLOATS: Final = PROFIT + COLUMNS_MAX
# Columns of the integer scratch space, GROUPS_HELD_MAX rows.
HELD_GROUP: Final = 0  # group numbers held, increasing
HELD_CURVED: Final = 1  # 1: an option of the part is in this group
SLOT_GROUP: Final = 2  # row: slot; index into the held groups of the underlying's, -1: none
SLOT_QUOTE_GROUP: Final = 3  # the same of the quote's
SLOT_PART: Final = 4  # row: slot; the part (venue or slot) it belongs to in a mode
SCRATCH_INTS: Final = 5


class RiskTables(Protocol):
    """What a valuation reads. `scratch` belongs to whoever is inside a kernel: one thread at a time for one set of tables.

    It is one NumPy record with arrays as fields, because a kernel then gets it by one pointer: as a tuple of arrays it would cost more to
    hand over than an account costs to value.
    """

    instrument_int: NDArray[np.int32]  # [INSTRUMENTS_MAX, INSTRUMENT_INTS]
    instrument_float: NDArray[np.float64]  # [INSTRUMENTS_MAX, INSTRUMENT_FLOATS]
    option_scan: NDArray[np.float64]  # [2 levels, INSTRUMENTS_MAX, COLUMNS_MAX]: USD change of one lot in each scan column
    group_float: NDArray[np.float64]  # [2 levels, ASSETS_MAX, GROUP_FLOATS]
    correlation: NDArray[np.float64]  # [ASSETS_MAX, ASSETS_MAX] by group number, -1 to 1
    atomic_chains: NDArray[np.int64]  # [CHAINS_MAX]: bit k of row j: from chain j, chain k is reached at once
    settings: NDArray[np.float64]  # [SETTINGS]
    settings_int: NDArray[np.int64]  # [SETTINGS_INT]
    scratch: NDArray[np.float64]  # [GROUPS_HELD_MAX, SCRATCH_FLOATS]
    scratch_int: NDArray[np.int64]  # [GROUPS_HELD_MAX, SCRATCH_INTS]


TABLES_DTYPE: Final = np.dtype(
    [
        ("instrument_int", np.int32, (INSTRUMENTS_MAX, INSTRUMENT_INTS)),
        ("instrument_float", np.float64, (INSTRUMENTS_MAX, INSTRUMENT_FLOATS)),
        ("option_scan", np.float64, (2, INSTRUMENTS_MAX, COLUMNS_MAX)),
        ("group_float", np.float64, (2, ASSETS_MAX, GROUP_FLOATS)),
        ("correlation", np.float64, (ASSETS_MAX, ASSETS_MAX)),
        ("atomic_chains", np.int64, (CHAINS_MAX,)),
        ("settings", np.float64, (SETTINGS,)),
        ("settings_int", np.int64, (SETTINGS_INT,)),
        ("scratch", np.float64, (GROUPS_HELD_MAX, SCRATCH_FLOATS)),
        ("scratch_int", np.int64, (GROUPS_HELD_MAX, SCRATCH_INTS)),
    ],
    align=True,
)


def new_tables() -> RiskTables:
    """Empty tables at their full bounds."""
    return cast("RiskTables", np.zeros(1, dtype=TABLES_DTYPE).view(np.recarray)[0])
