"""Deribit's portfolio margin (segregated, one coin), its linear part: coin-settled futures and the perpetual.

All of it is in the coin; `margins` multiplies by the index once, at the end. `size` is a position in coins.

- **Risk vector**, standard: price moves s = k/n of the price range, k = -n..n (n = 4). A position gains size x (1 - 1 / (1 + s)).
  Volatility is shocked as well, which futures don't feel: the venue shows each of these figures three times.
- Extended: moves of -66, -33, +50, +100, ... +500 %. Counted is the share `extended_table_factor` x price range / |move| of the gain
  in USD, turned into coins at the price to which the range alone would go. A future's entry is therefore that of the end of the range.
- **Aggregation**: vectors are summed. A gain counts by `pnl_offset`, up to `max_offsetable_pnl_usd`; a loss counts in full. Extended
  entries then move toward 0 by the dampener: (|move| / price range - 1) x `extended_dampener_usd`, turned into coins as above.
- **Worst case**: the largest loss in both tables, at least 0.
- **Roll shock**: sum over expiries of |size| x max(`min_annualised_move`, `annualised_move_risk` x years); the perpetual has 0 years.
- **Delta shock**: |d| x min(`max_delta_shock`, `m_inc` x coins of |d| beyond `delta_shock_threshold_usd`), d being the sum of sizes.
- **Correlation contingency** is 0 for one coin; its formula for several is not published, so it is an input.
- Risk matrix margin = worst case + roll shock + delta shock + correlation contingency. Maintenance = `mm_factor` x risk matrix margin.
  Initial = risk matrix margin + market maker protection + open orders + spot, which the venue tells and which are inputs here. The
  worst case in that sum, and the initial margin, are rounded to 1e-9 coins.

Sources: Deribit's API reference of private/pme/simulate (names, parameters, an answer) and its article "Portfolio Margin" (what the
components are). The extended share and the rounding come from recomputing answers. Those that we have don't tell: a
dampened entry other than 0, a delta shock other than 0, a roll shock above its minimum, gains beyond the cap, whether the offset
comes before the dampener, what `m_inc` multiplies. Those formulas are what the names say, not checked.
"""

from typing import Annotated, Final, NamedTuple

import numpy as np
from msgspec import Meta, Struct

from engine.jit import kernel
from engine.rules.interface import COLUMNS, MAINTENANCE_USD, RuleInfo
from engine.rules.outcome import Floats, Integers, write_row

RULE: Final = RuleInfo(
    name="deribit_pm",
    version="2026-02",
    title="Deribit segregated portfolio margin, futures",
    sources=(
        "https://docs.deribit.com/api-reference/account-management/private-simulate",
        "https://support.deribit.com/hc/en-us/articles/25944756247837-Portfolio-Margin",
    ),
    measure="margin",
    published=True,
    cases="two answers of private/pme/simulate: risk vectors, aggregation, roll shock, initial and maintenance margin",
)
SHOCKS: Final = RuleInfo(
    name="deribit_pm_shocks",
    version="2026-02",
    title="Deribit portfolio margin: delta shock, dampener and roll shock beyond what the answers show",
    sources=("https://docs.deribit.com/api-reference/account-management/private-simulate",),
    measure="margin",
    published=False,
    cases="none: they are 0, or at their minimum, in the answers",
)
LIQUIDATION: Final = RuleInfo(
    name="deribit_pm_liquidation",
    version="2023-08",
    title="Deribit portfolio margin: which position is closed first",
    sources=(
        "https://support.deribit.com/hc/en-us/articles/25944825289245-1-August-2023",
        "https://support.deribit.com/hc/en-us/articles/25944769313309-Liquidations",
    ),
    measure="margin",
    published=False,
    cases="none: the venue's words",
)

EXTENDED_MOVES: Final = (-0.66, -0.33, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0)
_EXTENDED: Final = np.array(EXTENDED_MOVES)

Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
Usd = Annotated[float, Meta(ge=0.0, le=1e15)]


class Parameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of one coin. Defaults are what the venue's answers had in common; `m_inc` is BTC's (ETH: 0.000004)."""

    price_range: Annotated[float, Meta(gt=0.0, lt=1.0)]
    pnl_offset: Fraction
    annualised_move_risk: Annotated[float, Meta(ge=0.0, le=10.0)]
    min_annualised_move: Fraction
    extended_dampener_usd: Usd
    mm_factor: Fraction = 0.8
    max_offsetable_pnl_usd: Usd = 1e15  # no cap
    extended_table_factor: Annotated[float, Meta(ge=0.0, le=10.0)] = 1.0
    max_delta_shock: Fraction = 0.1
    delta_shock_threshold_usd: Usd = 20_000_000.0
    m_inc: Fraction = 0.00005  # shock for each coin beyond the threshold
    buckets_a_side: Annotated[int, Meta(ge=1, le=64)] = 4


class ParameterArrays(NamedTuple):
    """`Parameters` as the kernel takes them."""

    price_range: float
    pnl_offset: float
    annualised_move_risk: float
    min_annualised_move: float
    extended_dampener_usd: float
    mm_factor: float
    max_offsetable_pnl_usd: float
    extended_table_factor: float
    max_delta_shock: float
    delta_shock_threshold_usd: float
    m_inc: float
    buckets_a_side: int


def parameter_arrays(parameters: Parameters) -> ParameterArrays:
    """`parameters` for the kernel; made once for each set."""
    return ParameterArrays(*(getattr(parameters, name) for name in ParameterArrays._fields))


class Inputs(NamedTuple):
    """Accounts in one coin; `start` (accounts + 1,) into the legs. A leg is all that is held of one instrument. Coins, unless named USD."""

    start: Integers
    size: Floats  # (legs,) coins, short below 0
    years: Floats  # (legs,) to expiry, ACT/365; 0 for the perpetual
    index_usd: Floats  # (accounts,)
    equity: Floats  # (accounts,) the venue's margin balance
    correlation_contingency: Floats  # (accounts,) 0 for one coin
    mmp_margin: Floats  # (accounts,)
    open_orders_margin: Floats  # (accounts,)
    spot_margin: Floats  # (accounts,)


@kernel
def standard_gain(size: float, move: float) -> float:
    """Coins that a future gains when the price moves by the fraction `move`."""
    return size * (1.0 - 1.0 / (1.0 + move))


@kernel
def extended_share(move: float, parameters: ParameterArrays) -> float:
    """The share of a gain in USD that the extended table counts."""
    return parameters.extended_table_factor * parameters.price_range / abs(move)


@kernel
def extended_gain(size: float, move: float, parameters: ParameterArrays) -> float:
    """Coins that a future counts as gaining in the extended table."""
    return extended_share(move, parameters) * standard_gain(size, move) * (1.0 + move) / (1.0 + _end_of_range(move, parameters))


@kernel
def offset(gain: float, move: float, index_usd: float, parameters: ParameterArrays) -> float:
    """What a summed entry counts for, in coins, at a price of `index_usd` moved by `move`; losses unchanged."""
    if not gain > 0.0:
        return gain
    counted = parameters.pnl_offset * gain
    cap = parameters.max_offsetable_pnl_usd / (index_usd * (1.0 + move))
    return min(counted, cap)


@kernel
def dampened(gain: float, move: float, index_usd: float, parameters: ParameterArrays) -> float:
    """An extended entry after the dampener, which takes it toward 0 but not beyond."""
    beyond = abs(move) / parameters.price_range - 1.0
    if beyond < 0.0:
        beyond = 0.0
    amount = beyond * parameters.extended_dampener_usd / (index_usd * (1.0 + _end_of_range(move, parameters)))
    if abs(gain) <= amount:
        return 0.0
    return gain - amount if gain > 0.0 else gain + amount


@kernel
def delta_shock(delta: float, index_usd: float, parameters: ParameterArrays) -> float:
    """Coins, for a sum of sizes of `delta` coins."""
    beyond = abs(delta) - parameters.delta_shock_threshold_usd / index_usd
    if beyond <= 0.0:
        return 0.0
    shock = parameters.m_inc * beyond
    if shock > parameters.max_delta_shock:
        shock = parameters.max_delta_shock
    return abs(delta) * shock


@kernel
def roll_shock(inputs: Inputs, account: int, parameters: ParameterArrays) -> float:
    """Coins."""
    shock = 0.0
    for leg in range(inputs.start[account], inputs.start[account + 1]):
        move = parameters.annualised_move_risk * inputs.years[leg]
        if move < parameters.min_annualised_move:
            move = parameters.min_annualised_move
        shock += abs(inputs.size[leg]) * move
    return shock


@kernel
def aggregated(size: float, entry: int, index_usd: float, parameters: ParameterArrays) -> float:
    """An entry of the aggregated tables, for sizes that sum to `size`: 0 to 2n standard moves, from the lowest, then extended ones."""
    side = parameters.buckets_a_side
    if entry <= 2 * side:
        move = parameters.price_range * (entry - side) / side
        return offset(standard_gain(size, move), move, index_usd, parameters)
    move = _EXTENDED[entry - 2 * side - 1]
    counted = offset(extended_gain(size, move, parameters), _end_of_range(move, parameters), index_usd, parameters)
    return dampened(counted, move, index_usd, parameters)


@kernel
def worst_case(size: float, index_usd: float, parameters: ParameterArrays) -> float:
    """Coins: the largest loss of both aggregated tables, at least 0; nan if one of them is."""
    worst = 0.0
    for entry in range(2 * parameters.buckets_a_side + 1 + len(_EXTENDED)):
        loss = -aggregated(size, entry, index_usd, parameters)
        if loss > worst or loss != loss:  # once nan, it stays nan
            worst = loss
    return worst


@kernel
def rounded(coins: float) -> float:
    """To 1e-9 coins, halves up."""
    return float(np.floor(coins * 1e9 + 0.5) / 1e9)


@kernel
def risk_matrix_margin(inputs: Inputs, account: int, parameters: ParameterArrays) -> float:
    """Coins: worst case, shocks and contingency together."""
    delta = _delta(inputs, account)
    index_usd = inputs.index_usd[account]
    margin = rounded(worst_case(delta, index_usd, parameters)) + roll_shock(inputs, account, parameters)
    return float(margin + delta_shock(delta, index_usd, parameters) + inputs.correlation_contingency[account])


@kernel
def margins(inputs: Inputs, parameters: ParameterArrays, out: Floats) -> None:
    """Fills `out` (accounts, 4), columns of engine.rules.interface; gross notional is sum of |size| x index."""
    for account in range(len(inputs.start) - 1):
        index_usd = inputs.index_usd[account]
        held = 0.0
        for leg in range(inputs.start[account], inputs.start[account + 1]):
            held += abs(inputs.size[leg]) + inputs.years[leg] * 0.0
        matrix = risk_matrix_margin(inputs, account, parameters)
        initial = rounded(matrix + inputs.mmp_margin[account] + inputs.open_orders_margin[account] + inputs.spot_margin[account])
        maintenance_usd = parameters.mm_factor * matrix * index_usd
        write_row(out, account, inputs.equity[account] * index_usd, initial * index_usd, maintenance_usd, held * index_usd)


def risk_vector(size: float, parameters: ParameterArrays) -> tuple[list[float], list[float]]:
    """(standard, extended) of one position, coins: the moves once each, from the lowest."""
    side = parameters.buckets_a_side
    standard = [float(standard_gain(size, parameters.price_range * step / side)) for step in range(-side, side + 1)]
    return standard, [float(extended_gain(size, move, parameters)) for move in EXTENDED_MOVES]


def aggregated_tables(size: float, index_usd: float, parameters: ParameterArrays) -> list[float]:
    """All entries of `aggregated`, coins."""
    return [
        float(aggregated(size, entry, index_usd, parameters)) for entry in range(2 * parameters.buckets_a_side + 1 + len(EXTENDED_MOVES))
    ]


def closed_first(inputs: Inputs, parameters: ParameterArrays, account: int) -> int | None:
    """The leg that adds most to the account's maintenance margin, which the venue reduces first; None while equity covers maintenance.

    It closes a part at a time, stops as soon as equity covers maintenance, and hedges with the perpetual if nothing trades; how
    large a part is, is not published. None as well where nothing can be valued or no leg adds to maintenance.
    """
    begin, end = int(inputs.start[account]), int(inputs.start[account + 1])

    def maintenance_usd(legs: Integers) -> float:
        rest = Inputs(
            np.array([0, legs.size]), inputs.size[legs], inputs.years[legs], *(values[account : account + 1] for values in inputs[3:])
        )
        out = np.empty((1, COLUMNS))
        margins(rest, parameters, out)
        return float(out[0, MAINTENANCE_USD])

    legs = np.arange(begin, end)
    now_usd = maintenance_usd(legs)
    if not float(inputs.equity[account] * inputs.index_usd[account]) < now_usd:
        return None
    released = [now_usd - maintenance_usd(legs[legs != leg]) for leg in legs]
    best = int(np.argmax(released)) if released else 0
    return begin + best if released and released[best] > 0.0 else None


def parts(inputs: Inputs, parameters: ParameterArrays, account: int) -> list[tuple[str, float]]:
    """What the margins of one account are made of, USD, in the names of the venue's answers."""
    index_usd = float(inputs.index_usd[account])
    delta = float(_delta(inputs, account))
    matrix = float(risk_matrix_margin(inputs, account, parameters))
    added = {name: float(getattr(inputs, name)[account]) for name in ("mmp_margin", "open_orders_margin", "spot_margin")}
    coins = [
        ("worst_case", float(worst_case(delta, index_usd, parameters))),
        ("roll_shock", float(roll_shock(inputs, account, parameters))),
        ("delta_shock", float(delta_shock(delta, index_usd, parameters))),
        ("correlation_contingency", float(inputs.correlation_contingency[account])),
        ("risk_matrix_margin", matrix),
        *added.items(),
        ("initial_margin", float(rounded(matrix + added["mmp_margin"] + added["open_orders_margin"] + added["spot_margin"]))),
        ("maintenance_margin", parameters.mm_factor * matrix),
    ]
    return [(name, amount * index_usd) for name, amount in coins]


@kernel
def _delta(inputs: Inputs, account: int) -> float:
    delta = 0.0
    for leg in range(inputs.start[account], inputs.start[account + 1]):
        delta += inputs.size[leg]
    return delta


@kernel
def _end_of_range(move: float, parameters: ParameterArrays) -> float:
    return parameters.price_range if move > 0.0 else -parameters.price_range
