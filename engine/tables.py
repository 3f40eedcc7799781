"""The layout of the arrays that account kernels read: all that a valuation needs, one row an instrument, group or chain.

Everything here is derived (engine.market fills it, in full after a restore), so nothing of it is ever written to a cut. The arrays are
allocated once at their stated bounds and never replaced, so a kernel or a caller may keep them. Untouched pages cost no memory.
"""

from typing import Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

ASSETS_MAX: Final = 512
CHAINS_MAX: Final = 64  # one bit each of an int64
LAYERS_MAX: Final = 16  # messaging layers that chains ever named
VENUES_MAX: Final = 128
INSTRUMENTS_MAX: Final = 4096
SOURCES_MAX: Final = 16  # of one asset
EXPIRIES_MAX: Final = 64  # of one underlying's implied volatilities
POSITIONS_MAX: Final = 16  # of one account
GROUPS_HELD_MAX: Final = 2 * POSITIONS_MAX  # an underlying's and a quote's for each position

# Contract codes, in the order of InstrumentDefinition.contract.
CONTRACTS: Final = ("spot", "loan", "perpetual", "inverse_perpetual", "future", "inverse_future", "option", "inverse_option")
SPOT: Final = 0
LOAN: Final = 1
PERPETUAL: Final = 2
INVERSE_PERPETUAL: Final = 3
FUTURE: Final = 4
INVERSE_FUTURE: Final = 5
OPTION: Final = 6  # this one and all after it are options
INVERSE_OPTION: Final = 7

# Correlation regimes: the first index of RiskTables.correlation.
OBSERVED: Final = 0
HIGH: Final = 1
LOW: Final = 2
REGIMES: Final = 3
REGIME_NAMES: Final = ("observed", "high", "low")

# Bands of time to expiry; 0 is for perpetuals.
TENOR_BANDS: Final = 6

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
BAND: Final = 12  # tenor band, -1: none (spot, loan, past expiry)
IS_DERIVATIVE: Final = 13  # 1: counts for position limits and concentration
INSTRUMENT_INTS: Final = 14

# Columns of RiskTables.instrument_float. "A lot" is one lot of positive quantity; USD everywhere.
UNIT_LONG: Final = 0  # value of a lot held
UNIT_SHORT: Final = 1  # value of a lot owed
CASH_VALUE: Final = 2  # value of one cash unit
DELTA_LONG: Final = 3  # change of a lot for a move of 100 %, linear contracts (options: 0, they have a scan row)
DELTA_SHORT: Final = 4
CASH_DELTA: Final = 5  # change of one cash unit for a move of 100 % of the quote, 0 for a quote without a group
OPTION_DELTA: Final = 6  # delta * forward * lot size of an option, else 0
HAIRCUT_FLAT: Final = 7  # base + security (+ 1: suspended or not eligible) + depeg; 2 levels
LATENCY: Final = 9  # max(latency term, measured slippage) if the account is on another chain; 2 levels
SIZE: Final = 11  # size coefficient / sqrt(depth); 2 levels
CAP_USD: Final = 13
VOL_HAIRCUT: Final = 14  # of the underlying; 2 levels
CASH_VOL_HAIRCUT: Final = 16  # of the quote; 2 levels
NOTIONAL: Final = 18  # of a lot
COST_RATE: Final = 19  # half spread + fee, as a fraction of the notional; 0 where nothing is to be closed
IMPACT: Final = 20  # impact coefficient / sqrt(depth)
RECOGNISED: Final = 21  # (1 - over the global cap) * (1 - paused); 2 levels
STABLE_LONG: Final = 23  # value of a lot held at the initial level over that at maintenance, <= 1 (spot)
STABLE_SHORT: Final = 24  # the same of a lot owed, >= 1 (spot and loans)
EXPOSURE: Final = 25  # USD of a lot for concentration: notional, of options |delta| * forward * lot size
BASIS_CHARGE: Final = 26  # signed exposure of a lot to its band's basis * the band's charge
VEGA_CHARGE: Final = 27  # vega of a lot * the shock of its tenor
SHORT_MINIMUM: Final = 28  # of one lot sold
GAP_UP: Final = 29  # loss of one lot by curvature in the extreme up; 2 levels
GAP_DOWN: Final = 31  # in the extreme down; 2 levels
ORDER_DELTA: Final = 33  # change of a lot of an open order for a move of 100 %; 0 for loans and options (their scan row says)
INSTRUMENT_FLOATS: Final = 34

# Columns of RiskTables.group_float (per level).
SCAN: Final = 0  # scan range, as a fraction of the price
EXTREME_UP: Final = 1
EXTREME_DOWN: Final = 2  # a positive fraction, below 1
HAIRCUT_STEP: Final = 3  # min(1, volatility haircut / scan range) of the group's own asset
THIN: Final = 4  # 1/sqrt(depth) of the group's own asset
GROUP_FLOATS: Final = 5

# Scan columns: 2k + v for price step k and volatility shock v, then the two extremes.
GRID_STEPS_MAX: Final = 6
COLUMNS_MAX: Final = 2 * (2 * GRID_STEPS_MAX + 1) + 2

# RiskTables.settings and settings_int.
EXTREME_FRACTION: Final = 0
END_FACTOR: Final = 1
INITIAL_FACTOR: Final = 2
GAP_FRACTION: Final = 3
CONCENTRATION_K: Final = 4
LIMIT_ACCOUNT: Final = 5
LIMIT_ASSET: Final = 6
LIMIT_VENUE: Final = 7
CORRELATION_HIGH: Final = 8
CORRELATION_LOW: Final = 9
SETTINGS: Final = 10
GRID_STEPS: Final = 0
DECISION_MODE: Final = 1  # index into parameters.MODES
IS_STRESSED: Final = 2  # 1: a group is under stress, so that regimes are not the same step away from what is observed everywhere
SETTINGS_INT: Final = 3

# Columns of the scratch space, one row for each group that the account holds.
DELTA_SUM: Final = 0
HAIRCUT_LOSS: Final = 1
SCANNED: Final = 2  # linear profit at +1 scan range
GROSS: Final = 3  # exposure of derivatives, of the whole account
LIMITED: Final = 4  # notional of derivatives, of the whole account
CURVATURE_UP: Final = 5  # loss by curvature in the extremes
CURVATURE_DOWN: Final = 6
BASIS: Final = 7  # basis charge by tenor band, signed
VEGA: Final = BASIS + TENOR_BANDS  # vega charge by tenor band, signed
PROFIT: Final = VEGA + TENOR_BANDS  # from here on: profit by scan column
SCRATCH_FLOATS: Final = PROFIT + COLUMNS_MAX
# Columns of the integer scratch space, GROUPS_HELD_MAX rows.
HELD_GROUP: Final = 0  # group numbers held, increasing
HELD_CURVED: Final = 1  # 1: an option of the part is in this group
SLOT_GROUP: Final = 2  # row: slot; index into the held groups of the underlying's, -1: none
SLOT_QUOTE_GROUP: Final = 3  # the same of the quote's
SLOT_PART: Final = 4  # row: slot; the part (venue or slot) it belongs to in a mode
SCRATCH_INTS: Final = 5

# Columns of an account's pending lots, a row for each slot.
BUY: Final = 0  # of open orders
SELL: Final = 1
LEAVING: Final = 2  # of a spot balance, by withdrawals under way
PENDING: Final = 3

# RiskTables.pieces: what a requirement is made of, in USD.
SCAN_LOSS: Final = 0
SHORT_OPTIONS: Final = 1  # the short-option minimum
BASIS_ADD_ON: Final = 2
VEGA_ADD_ON: Final = 3
GAP_ADD_ON: Final = 4
CONCENTRATION: Final = 5
PIECES: Final = 6
PIECE_NAMES: Final = ("scenarios", "short_option_minimum", "basis", "vega", "gap", "concentration")


class RiskTables(Protocol):
    """What a valuation reads. `scratch` belongs to whoever is inside a kernel: one thread at a time for one set of tables.

    It is one NumPy record with arrays as fields, because a kernel then gets it by one pointer: as a tuple of arrays it would cost more to
    hand over than an account costs to value.
    """

    instrument_int: NDArray[np.int32]  # [INSTRUMENTS_MAX, INSTRUMENT_INTS]
    instrument_float: NDArray[np.float64]  # [INSTRUMENTS_MAX, INSTRUMENT_FLOATS]
    option_scan: NDArray[np.float64]  # [2 levels, INSTRUMENTS_MAX, COLUMNS_MAX]: USD change of one lot in each scan column
    group_float: NDArray[np.float64]  # [2 levels, ASSETS_MAX, GROUP_FLOATS]
    correlation: NDArray[np.float64]  # [2 levels, REGIMES, ASSETS_MAX, ASSETS_MAX] by group number, -1 to 1
    atomic_chains: NDArray[np.int64]  # [CHAINS_MAX]: bit k of row j: from chain j, chain k is reached at once
    settings: NDArray[np.float64]  # [SETTINGS]
    settings_int: NDArray[np.int64]  # [SETTINGS_INT]
    scratch: NDArray[np.float64]  # [GROUPS_HELD_MAX, SCRATCH_FLOATS]
    scratch_int: NDArray[np.int64]  # [GROUPS_HELD_MAX, SCRATCH_INTS]
    lots: NDArray[np.int64]  # [POSITIONS_MAX] scratch: quantities without what is leaving
    no_pending: NDArray[np.int64]  # [POSITIONS_MAX, PENDING]: zeros, for whoever has nothing pending
    place: NDArray[np.int64]  # [ASSETS_MAX] scratch by group, zeros between accounts: 1 + its index among those held
    pieces: NDArray[np.float64]  # [PIECES] scratch: what the last requirement was made of


TABLES_DTYPE: Final = np.dtype(
    [
        ("instrument_int", np.int32, (INSTRUMENTS_MAX, INSTRUMENT_INTS)),
        ("instrument_float", np.float64, (INSTRUMENTS_MAX, INSTRUMENT_FLOATS)),
        ("option_scan", np.float64, (2, INSTRUMENTS_MAX, COLUMNS_MAX)),
        ("group_float", np.float64, (2, ASSETS_MAX, GROUP_FLOATS)),
        ("correlation", np.float64, (2, REGIMES, ASSETS_MAX, ASSETS_MAX)),
        ("atomic_chains", np.int64, (CHAINS_MAX,)),
        ("settings", np.float64, (SETTINGS,)),
        ("settings_int", np.int64, (SETTINGS_INT,)),
        ("scratch", np.float64, (GROUPS_HELD_MAX, SCRATCH_FLOATS)),
        ("scratch_int", np.int64, (GROUPS_HELD_MAX, SCRATCH_INTS)),
        ("lots", np.int64, (POSITIONS_MAX,)),
        ("no_pending", np.int64, (POSITIONS_MAX, PENDING)),
        ("place", np.int64, (ASSETS_MAX,)),
        ("pieces", np.float64, (PIECES,)),
    ],
    align=True,
)


def new_tables() -> RiskTables:
    """Empty tables at their full bounds."""
    return cast("RiskTables", np.zeros(1, dtype=TABLES_DTYPE).view(np.recarray)[0])
