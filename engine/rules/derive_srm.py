"""Derive's standard margin (SRM): each position by itself, but for options of one expiry, which are capped by their greatest loss.

An account may hold USDC, bases (coins), perpetuals and options of several underlyings. The venue states margins as what is left: its
"initial margin" is our equity less `initial_usd`, its "maintenance margin" our equity less `maintenance_usd`. What is left is the sum of

- cash;
- bases: size * spot * `base_factor` (* `base_initial_scale` for initial). A coin that is owed counts whole;
- perpetuals: unrealised profit, less size * perpetual's price * `perp_maintenance` or `perp_initial`;
- options of one expiry: the better (less negative) of two figures. Long options are worth nothing here by themselves.
  *Isolated*: for each short contract its mark (Black-76 without discount) plus
  maintenance, call: `call_maintenance` * spot; put: the larger of `put_maintenance` * spot and `put_mark_maintenance` * mark;
  initial: max(`spot_max` - out-of-the-money part / spot, `spot_min`) * spot; for a put at least the `put_initial_scale`-fold of the
  whole maintenance figure. *Greatest loss*: the lowest payoff of all options of the expiry with settlement at 0 or at any of their
  strikes, at most 0; and for each call that is net short, forward * `unpaired_initial` or `unpaired_maintenance`;
- initial only, for USDC below `depeg_threshold`: contracts (perpetuals, and short options) * spot * (what is missing) * `depeg_factor`;
- initial only, for a confidence below `confidence_threshold`: size * spot * (1 - the lowest confidence) * `confidence_factor`, for
  bases (confidence of the spot), perpetuals (spot, perpetual) and short options (spot, forward, volatility of their expiry).

Sources: https://docs.derive.xyz/docs/standard-margin-1; what it leaves open was found from the reference cases. Not decided by them, and
so ours: that an unpaired call costs its forward (and not the spot), that the floor of the initial figure is for puts alone, and coins
that are owed.
"""

from typing import Annotated, Final, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.jit import kernel
from engine.pricing import black76_price
from engine.rules.derive_feeds import doubt, lower
from engine.rules.indices import require_legs, require_within
from engine.rules.interface import COLUMNS, RuleInfo
from engine.rules.outcome import write_row

RULE: Final = RuleInfo(
    name="derive_srm",
    version="SRM v2",
    title="Derive, standard margin",
    sources=("https://docs.derive.xyz/docs/standard-margin-1", "https://docs.derive.xyz/standard-margin-parameters.md"),
    measure="margin",
    published=True,
    cases="initial and maintenance margin, in whole dollars, of the venue's own 42 test portfolios",
)

MARKETS_MAX: Final = 64
SECONDS_PER_YEAR: Final = 31_536_000.0

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Multiple = Annotated[float, Meta(ge=0.0, le=100.0)]
Scale = Annotated[float, Meta(ge=1.0, le=100.0)]


class Market(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The venue's parameters of one underlying, all decimals; see the module's text for what each does."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    perp_maintenance: Share
    perp_initial: Share
    spot_max: Share
    spot_min: Share
    call_maintenance: Share
    put_maintenance: Share
    put_mark_maintenance: Share
    put_initial_scale: Scale
    unpaired_initial: Multiple
    unpaired_maintenance: Multiple
    base_factor: Share
    base_initial_scale: Share
    confidence_threshold: Share
    confidence_factor: Multiple

    def __post_init__(self) -> None:
        if self.spot_max < self.spot_min:
            raise ValueError("spot_max is below spot_min")
        if self.perp_initial < self.perp_maintenance:
            raise ValueError("perp_initial is below perp_maintenance")


class Parameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The venue's parameters: each underlying's, and what happens when USDC leaves its peg."""

    markets: Annotated[tuple[Market, ...], Meta(min_length=1, max_length=MARKETS_MAX)]
    depeg_threshold: Multiple
    depeg_factor: Multiple


class Terms(NamedTuple):
    """`Parameters` as the kernels take them: (markets,) each, but the two of the peg."""

    perp_maintenance: NDArray[np.float64]
    perp_initial: NDArray[np.float64]
    spot_max: NDArray[np.float64]
    spot_min: NDArray[np.float64]
    call_maintenance: NDArray[np.float64]
    put_maintenance: NDArray[np.float64]
    put_mark_maintenance: NDArray[np.float64]
    put_initial_scale: NDArray[np.float64]
    unpaired_initial: NDArray[np.float64]
    unpaired_maintenance: NDArray[np.float64]
    base_factor: NDArray[np.float64]
    base_initial_scale: NDArray[np.float64]
    confidence_threshold: NDArray[np.float64]
    confidence_factor: NDArray[np.float64]
    depeg_threshold: float
    depeg_factor: float


def terms(parameters: Parameters) -> Terms:
    """The parameters as the kernels take them."""
    columns = {
        name: np.array([getattr(market, name) for market in parameters.markets], dtype=np.float64)
        for name in Market.__struct_fields__
        if name != "name"
    }
    return Terms(depeg_threshold=float(parameters.depeg_threshold), depeg_factor=float(parameters.depeg_factor), **columns)


class Inputs(NamedTuple):
    """Feeds of all underlyings, and the accounts.

    Feeds: prices in USD, confidences 0 to 1. `spot_*` and `perp_*` (markets,) in the order of the parameters; `expiry_*`, `forward_*`,
    `sigma_confidence` (expiries,): the market of an expiry, seconds to it, forward and confidences; `option_*` (options,): index of the
    expiry, strike, call or put, mark volatility (annual decimal).

    Accounts: `cash_usd` (accounts,) in USDC. Legs, amounts signed: `start` (accounts + 1,) into `leg_option` (index) and `leg_amount`
    (contracts of one unit); `perp_start` into `perp_market` (index), `perp_amount` and `perp_profit_usd` (unrealised profit and
    funding); `base_start` into `base_market` (index) and `base_amount` (coins).
    """

    stable_usd: float
    spot_usd: NDArray[np.float64]
    spot_confidence: NDArray[np.float64]
    perp_usd: NDArray[np.float64]
    perp_confidence: NDArray[np.float64]
    expiry_market: NDArray[np.int64]
    expiry_s: NDArray[np.float64]
    forward_usd: NDArray[np.float64]
    forward_confidence: NDArray[np.float64]
    sigma_confidence: NDArray[np.float64]
    option_expiry: NDArray[np.int64]
    option_strike_usd: NDArray[np.float64]
    option_is_call: NDArray[np.bool_]
    option_sigma: NDArray[np.float64]
    cash_usd: NDArray[np.float64]
    start: NDArray[np.int64]
    leg_option: NDArray[np.int64]
    leg_amount: NDArray[np.float64]
    perp_start: NDArray[np.int64]
    perp_market: NDArray[np.int64]
    perp_amount: NDArray[np.float64]
    perp_profit_usd: NDArray[np.float64]
    base_start: NDArray[np.int64]
    base_market: NDArray[np.int64]
    base_amount: NDArray[np.float64]


def require_indices(inputs: Inputs, terms: Terms) -> None:
    """The kernels do not check indices: ValueError says which of `inputs` points outside of what it points into."""
    markets, expiries, options = len(inputs.spot_usd), len(inputs.expiry_s), len(inputs.option_expiry)
    if markets != len(terms.spot_max):
        raise ValueError(f"prices of {markets} markets, parameters of {len(terms.spot_max)}")
    require_within("expiry_market", inputs.expiry_market, markets)
    require_within("option_expiry", inputs.option_expiry, expiries)
    require_within("leg_option", inputs.leg_option, options)
    require_within("perp_market", inputs.perp_market, markets)
    require_within("base_market", inputs.base_market, markets)
    accounts = len(inputs.cash_usd)
    require_legs("start", inputs.start, accounts, (inputs.leg_option, inputs.leg_amount))
    require_legs("perp_start", inputs.perp_start, accounts, (inputs.perp_market, inputs.perp_amount, inputs.perp_profit_usd))
    require_legs("base_start", inputs.base_start, accounts, (inputs.base_market, inputs.base_amount))


# The parts of one account's margin, in USD, below 0 where they cost.
CASH, PERP_PROFIT, BASES, OPTIONS = 0, 1, 2, 3  # marked to market
BASE_INITIAL, BASE_MAINTENANCE, PERP_INITIAL, PERP_MAINTENANCE, OPTION_INITIAL, OPTION_MAINTENANCE, DEPEG, ORACLE = 4, 5, 6, 7, 8, 9, 10, 11
PARTS: Final = 12

_MARK, _INITIAL, _MAINTENANCE = 0, 1, 2  # columns of the table of options, USD a contract


@kernel
def margins(inputs: Inputs, terms: Terms, out: NDArray[np.float64]) -> None:
    """Fills `out` (accounts, 4), columns of `interface`: equity, requirements, and (equity - maintenance) / gross notional.

    Gross notional: options at their forward, perpetuals at their price and bases, all without sign; infinite where there is none. Time
    grows with the square of an account's options. Indices are not checked: `require_indices` first.
    """
    _evaluate(inputs, terms, 0, len(inputs.cash_usd), out, np.empty(PARTS))


def parts(inputs: Inputs, terms: Terms, account: int) -> list[tuple[str, float]]:
    """One account's margin in the venue's words: (name, USD), what costs below 0. IndexError on no account."""
    if not 0 <= account < len(inputs.cash_usd):
        raise IndexError(f"account {account} of {len(inputs.cash_usd)}")
    row, out = np.empty(PARTS), np.empty((1, COLUMNS))
    _evaluate(inputs, terms, account, account + 1, out, row)
    equity_usd, initial_usd, maintenance_usd = (float(number) for number in out[0, :3])
    names = (
        ("USDC balance", CASH),
        ("perp PNL", PERP_PROFIT),
        ("bases, marked to market", BASES),
        ("options, marked to market", OPTIONS),
        ("initial base collateral", BASE_INITIAL),
        ("maintenance base collateral", BASE_MAINTENANCE),
        ("initial perp margin", PERP_INITIAL),
        ("maintenance perp margin", PERP_MAINTENANCE),
        ("initial option margin", OPTION_INITIAL),
        ("maintenance option margin", OPTION_MAINTENANCE),
        ("depeg contingency", DEPEG),
        ("oracle contingency", ORACLE),
    )
    return [
        *((name, float(row[column])) for name, column in names),
        ("initial margin", equity_usd - initial_usd),
        ("maintenance margin", equity_usd - maintenance_usd),
    ]


@kernel
def _evaluate(inputs: Inputs, terms: Terms, first: int, last: int, out: NDArray[np.float64], row: NDArray[np.float64]) -> None:
    """Accounts `first` to `last`, into `out` from row 0; `row` (PARTS,) is left with the parts of the last one."""
    options = _option_table(inputs, terms)
    longest = 1
    for account in range(first, last):
        longest = max(longest, inputs.start[account + 1] - inputs.start[account])
    amounts = np.zeros(longest)
    for account in range(first, last):
        _account(inputs, terms, account, options, amounts, row, out, account - first)


@kernel
def _option_table(inputs: Inputs, terms: Terms) -> NDArray[np.float64]:
    """(options, 3): the mark, and what one short contract needs by itself, initial and maintenance, the mark included."""
    table = np.empty((len(inputs.option_expiry), 3))
    for option in range(len(inputs.option_expiry)):
        expiry = inputs.option_expiry[option]
        market = inputs.expiry_market[expiry]
        spot, strike, is_call = inputs.spot_usd[market], inputs.option_strike_usd[option], inputs.option_is_call[option]
        years = inputs.expiry_s[expiry] / SECONDS_PER_YEAR
        mark = black76_price(inputs.forward_usd[expiry], strike, inputs.option_sigma[option], years, is_call, 1.0)
        away = strike - spot if is_call else spot - strike
        if away < 0.0:
            away = 0.0
        part = terms.spot_max[market] - away / spot
        if part < terms.spot_min[market]:
            part = terms.spot_min[market]
        initial = part * spot + mark
        if is_call:
            maintenance = terms.call_maintenance[market] * spot + mark
        else:
            maintenance = -lower(-terms.put_maintenance[market] * spot, -terms.put_mark_maintenance[market] * mark) + mark
            initial = -lower(-initial, -maintenance * terms.put_initial_scale[market])
        table[option, _MARK] = mark
        table[option, _INITIAL] = initial
        table[option, _MAINTENANCE] = maintenance
    return table


@kernel
def _account(
    inputs: Inputs,
    terms: Terms,
    account: int,
    options: NDArray[np.float64],
    amounts: NDArray[np.float64],
    row: NDArray[np.float64],
    out: NDArray[np.float64],
    place: int,
) -> None:
    row[:] = 0.0
    row[CASH] = inputs.cash_usd[account]
    gross_usd = 0.0
    missing = 0.0
    if not inputs.stable_usd >= terms.depeg_threshold:  # a NaN too
        missing = (terms.depeg_threshold - inputs.stable_usd) * terms.depeg_factor

    for leg in range(inputs.base_start[account], inputs.base_start[account + 1]):
        market = inputs.base_market[leg]
        value_usd = inputs.base_amount[leg] * inputs.spot_usd[market]
        factor, scale = terms.base_factor[market], terms.base_initial_scale[market]
        if value_usd < 0.0:
            factor, scale = 1.0, 1.0
        row[BASES] += value_usd
        row[BASE_MAINTENANCE] += value_usd * factor
        row[BASE_INITIAL] += value_usd * factor * scale
        row[ORACLE] -= abs(value_usd) * doubt(
            inputs.spot_confidence[market], terms.confidence_threshold[market], terms.confidence_factor[market]
        )
        gross_usd += abs(value_usd)

    for leg in range(inputs.perp_start[account], inputs.perp_start[account + 1]):
        market = inputs.perp_market[leg]
        size = abs(inputs.perp_amount[leg])
        row[PERP_PROFIT] += inputs.perp_profit_usd[leg]
        row[PERP_MAINTENANCE] -= size * inputs.perp_usd[market] * terms.perp_maintenance[market]
        row[PERP_INITIAL] -= size * inputs.perp_usd[market] * terms.perp_initial[market]
        confidence = lower(inputs.spot_confidence[market], inputs.perp_confidence[market])
        costs = doubt(confidence, terms.confidence_threshold[market], terms.confidence_factor[market])
        row[ORACLE] -= size * inputs.spot_usd[market] * costs
        row[DEPEG] -= size * inputs.spot_usd[market] * missing
        gross_usd += size * inputs.perp_usd[market]

    begin, end = inputs.start[account], inputs.start[account + 1]
    _net(inputs, begin, end, amounts)
    for leg in range(begin, end):
        option = inputs.leg_option[leg]
        amount = amounts[leg - begin]
        if amount == 0.0:
            continue
        expiry = inputs.option_expiry[option]
        row[OPTIONS] += amount * options[option, _MARK]
        gross_usd += abs(amount) * inputs.forward_usd[expiry]
        is_first = True
        for earlier in range(begin, leg):
            if amounts[earlier - begin] != 0.0 and inputs.option_expiry[inputs.leg_option[earlier]] == expiry:
                is_first = False
                break
        if is_first:
            _expiry(inputs, terms, expiry, begin, end, options, amounts, missing, row)

    equity_usd = row[CASH] + row[PERP_PROFIT] + row[BASES] + row[OPTIONS]
    initial_usd = row[CASH] + row[PERP_PROFIT] + row[BASE_INITIAL] + row[PERP_INITIAL] + row[OPTION_INITIAL] + row[DEPEG] + row[ORACLE]
    maintenance_usd = row[CASH] + row[PERP_PROFIT] + row[BASE_MAINTENANCE] + row[PERP_MAINTENANCE] + row[OPTION_MAINTENANCE]
    write_row(out, place, equity_usd, equity_usd - initial_usd, equity_usd - maintenance_usd, gross_usd)


@kernel
def _net(inputs: Inputs, begin: int, end: int, amounts: NDArray[np.float64]) -> None:
    """`amounts` from 0: what is held of the option of each leg in all, at its first leg, 0 at others of the same option."""
    for leg in range(begin, end):
        amounts[leg - begin] = inputs.leg_amount[leg]
        for earlier in range(begin, leg):
            if inputs.leg_option[earlier] == inputs.leg_option[leg]:
                amounts[earlier - begin] += amounts[leg - begin]
                amounts[leg - begin] = 0.0
                break


@kernel
def _expiry(
    inputs: Inputs,
    terms: Terms,
    expiry: int,
    begin: int,
    end: int,
    options: NDArray[np.float64],
    amounts: NDArray[np.float64],
    missing: float,
    row: NDArray[np.float64],
) -> None:
    """Adds what the options of one expiry cost: the better of isolated margin and greatest loss, and the contingencies."""
    market = inputs.expiry_market[expiry]
    isolated_initial_usd = 0.0
    isolated_maintenance_usd = 0.0
    short = 0.0
    calls = 0.0
    legs = inputs.leg_option[begin:end]
    strikes, is_call, of_expiry = inputs.option_strike_usd, inputs.option_is_call, inputs.option_expiry
    loss_usd = lower(_payoff_usd(0.0, expiry, legs, amounts, of_expiry, strikes, is_call), 0.0)
    for leg in range(begin, end):
        option = inputs.leg_option[leg]
        amount = amounts[leg - begin]
        if inputs.option_expiry[option] != expiry or amount == 0.0:
            continue
        loss_usd = lower(loss_usd, _payoff_usd(strikes[option], expiry, legs, amounts, of_expiry, strikes, is_call))
        if is_call[option]:
            calls += amount
        if not amount >= 0.0:  # a NaN too
            isolated_initial_usd += amount * options[option, _INITIAL]
            isolated_maintenance_usd += amount * options[option, _MAINTENANCE]
            short -= amount
    unpaired_usd = lower(calls, 0.0) * inputs.forward_usd[expiry]
    row[OPTION_INITIAL] += -lower(-isolated_initial_usd, -(loss_usd + unpaired_usd * terms.unpaired_initial[market]))
    row[OPTION_MAINTENANCE] += -lower(-isolated_maintenance_usd, -(loss_usd + unpaired_usd * terms.unpaired_maintenance[market]))
    if short != 0.0:
        confidence = lower(lower(inputs.forward_confidence[expiry], inputs.sigma_confidence[expiry]), inputs.spot_confidence[market])
        row[DEPEG] -= short * inputs.spot_usd[market] * missing
        costs = doubt(confidence, terms.confidence_threshold[market], terms.confidence_factor[market])
        row[ORACLE] -= short * inputs.spot_usd[market] * costs


@kernel
def _payoff_usd(
    settlement_usd: float,
    expiry: int,
    leg_option: NDArray[np.int64],
    amounts: NDArray[np.float64],
    option_expiry: NDArray[np.int64],
    option_strike_usd: NDArray[np.float64],
    option_is_call: NDArray[np.bool_],
) -> float:
    """What all options of the expiry pay together. Single arrays, since all of `Inputs` is dear to hand over so often."""
    payoff_usd = 0.0
    for leg in range(len(leg_option)):
        option = leg_option[leg]
        if option_expiry[option] == expiry and amounts[leg] != 0.0:
            paid_usd = settlement_usd - option_strike_usd[option]
            if not option_is_call[option]:
                paid_usd = -paid_usd
            if not paid_usd <= 0.0:  # a NaN too
                payoff_usd += amounts[leg] * paid_usd
    return payoff_usd
