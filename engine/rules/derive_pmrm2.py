"""Derive's portfolio margin PMRM_2: the worst of a grid of scenarios, and contingencies on top.

An account holds USDC, other collateral, perpetuals and options of one underlying. The venue states margins as what is left: its
"initial margin" is our equity less `initial_usd`, its "maintenance margin" our equity less `maintenance_usd`.

    requirement = factor * (worst loss) + base + perp + option contingency (+ oracle contingency, initial only)

**Marks.** Options by Black-76 on their forward with their own mark volatility, discounted with the rate feed (a rate below 0 counts as
0; nothing is discounted from expiry on). Collateral at price / price of USDC. Perpetuals at their unrealised profit and funding.

**Scenarios.** A scenario multiplies spot and, but for the two of the skew, forwards by its shock, and moves volatilities:
- up: vol * (1 + range_up * x), at least `shocked_sigma_min`; down: vol * max(0, 1 - range_down * x); x = (30 / days)^p, days at least
  `days_floor`, p the short power for what expires in 30 days at most and the long one after, whatever the floor;
- linear: vol * (1 + s * cap), at least 0, with k = ln(strike / forward), cap = scale + base * sqrt(T), k* = width * sqrt(T) *
  (static + scale * sqrt(T)), at least `k_star_min`, and s = |k| / k* with the sign of k: at most 1 in size, of a cap below 0 at least 1;
  abs: the same with |k|. Where k* is 0 the venue's own computation fails, and there is no number here.
The settlement price is the average of the last 30 minutes, so nearer to expiry only seconds / 1,800 of a forward still moves.
The shocked value of each expiry, if positive, is multiplied by long = `discount` * exp(-T (rate * long_mult + long_add)), if negative
by short = `discount_negative` * exp(T (rate * short_mult + short_add)), at most exp(rate T); both are 1 from expiry on. The loss is the
sum over expiries of that less the mark, plus (shock - 1) * (perpetuals at the perpetual's price, and collateral that cancels risk).
In the two skew scenarios each expiry counts as a loss, whatever its sign. A scenario's loss is multiplied by its dampening.

**Forward contingency.** Each expiry by itself, forward up and down by `spot_up` and `spot_down`, without discounts: the worse of both
(at most 0) * (add + mult * T), summed. It is one more candidate for the worst loss, as is 0.

**Factor.** `maintenance_factor`; or `initial_factor` + `peg_loss_factor` * (what USDC is below `peg_loss_threshold`).

**Contingencies**, maintenance percentage or the sum of both percentages for initial: collateral * haircut; perpetuals * spot; options
net short of one expiry and strike, calls and puts together, * spot.

**Oracle contingency.** What depends on a feed with a confidence below the threshold costs (1 - confidence) * `confidence_margin` of its
size: collateral by its own and the spot's confidence; perpetuals (* spot) by the perpetual's and the spot's; options, long or short,
(* spot) by the forward's, rate's and volatility's of their expiry, the spot's, and the perpetual's where the account has some.

Sources: https://docs.derive.xyz/docs/pm2 for the structure; the details (what is discounted, capped, summed or taken by its absolute
value) were found from the intermediate values of the reference cases, and what those leave open from what the venue's contract
PMRMLib_2 (https://github.com/derivexyz/v2-core) computes: a cap below 0, a skew scenario that moves spot, which power a floor above
30 days goes with, and the bounds of the parameters. Ours: that a collateral's own threshold is meant where it differs from the common
one, and what is long on expiry, which the contract multiplies by `discount` and the cases do not.
"""

import math
from typing import Annotated, Final, Literal, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.jit import kernel
from engine.maths import exp_, log_, pow_
from engine.pricing import black76_price
from engine.rules.derive_feeds import doubt, lower
from engine.rules.indices import require_legs, require_within
from engine.rules.interface import COLUMNS, RuleInfo
from engine.rules.outcome import write_row

RULE: Final = RuleInfo(
    name="derive_pmrm2",
    version="PMRM_2",
    title="Derive, portfolio margin (PM2)",
    sources=("https://docs.derive.xyz/docs/pm2", "https://docs.derive.xyz/docs/portfolio-margin-parameters-new"),
    measure="margin",
    published=True,
    cases="initial and maintenance margin of the venue's own 68 test portfolios, each with its parameters and feeds",
)

SCENARIOS_MAX: Final = 64
COLLATERALS_MAX: Final = 64
SECONDS_PER_DAY: Final = 86_400.0
SECONDS_PER_YEAR: Final = 31_536_000.0
SETTLEMENT_S: Final = 1_800.0  # the settlement price is an average over this long
TERM_DAYS: Final = 30.0

NONE: Final = 0
UP: Final = 1
DOWN: Final = 2
LINEAR: Final = 3
ABS: Final = 4
_KINDS: Final = {"none": NONE, "up": UP, "down": DOWN, "linear": LINEAR, "abs": ABS}

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Multiple = Annotated[float, Meta(ge=0.0, le=100.0)]
Exponent = Annotated[float, Meta(ge=0.0, le=10.0)]
Signed = Annotated[float, Meta(ge=-100.0, le=100.0)]


class Scenario(Struct, frozen=True, forbid_unknown_fields=True):
    """One scenario: what spot and forwards are multiplied by, how volatilities move, and the share of the loss that counts."""

    spot_shock: Annotated[float, Meta(gt=0.0, le=100.0)]
    vol: Literal["none", "up", "down", "linear", "abs"]
    dampening: Multiple = 1.0


class Collateral(Struct, frozen=True, forbid_unknown_fields=True):
    """What the venue makes of one collateral asset. `initial_haircut` comes on top of the maintenance one."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    risk_cancelling: bool  # moves with the underlying, so it hedges
    initial_haircut: Share
    maintenance_haircut: Share
    confidence_threshold: Share


class Parameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The venue's parameters of one underlying. Fractions are decimals; see the module's text for what each does."""

    scenarios: Annotated[tuple[Scenario, ...], Meta(min_length=1, max_length=SCENARIOS_MAX)]
    collaterals: Annotated[tuple[Collateral, ...], Meta(max_length=COLLATERALS_MAX)] = ()
    linear_scale: Multiple
    linear_base: Signed
    abs_scale: Multiple
    abs_base: Signed
    k_star_min: Multiple
    width: Multiple
    vol_static: Signed
    vol_scale: Signed
    range_up: Multiple
    range_down: Multiple
    shocked_sigma_min: Multiple
    short_power: Exponent
    long_power: Exponent
    days_floor: Annotated[float, Meta(ge=0.0, le=36_500.0)]
    initial_factor: Multiple
    maintenance_factor: Multiple
    short_mult: Multiple
    long_mult: Multiple
    short_add: Multiple
    long_add: Multiple
    discount: Multiple
    discount_negative: Multiple
    spot_up: Annotated[float, Meta(ge=1.0, le=100.0)]
    spot_down: Annotated[float, Meta(gt=0.0, le=1.0)]
    basis_add: Multiple
    basis_mult: Multiple
    peg_loss_threshold: Multiple
    peg_loss_factor: Multiple
    confidence_threshold: Share
    confidence_margin: Multiple
    perp_maintenance: Multiple
    perp_initial: Multiple  # on top of the maintenance one, as the next
    option_maintenance: Multiple
    option_initial: Multiple


class Terms(NamedTuple):
    """`Parameters` as the kernels take them: scenarios (S,), collaterals (C,), the rest single numbers of the same names."""

    shock: NDArray[np.float64]
    kind: NDArray[np.int64]
    dampening: NDArray[np.float64]
    risk_cancelling: NDArray[np.bool_]
    collateral_initial: NDArray[np.float64]
    collateral_maintenance: NDArray[np.float64]
    collateral_threshold: NDArray[np.float64]
    linear_scale: float
    linear_base: float
    abs_scale: float
    abs_base: float
    k_star_min: float
    width: float
    vol_static: float
    vol_scale: float
    range_up: float
    range_down: float
    shocked_sigma_min: float
    short_power: float
    long_power: float
    days_floor: float
    initial_factor: float
    maintenance_factor: float
    short_mult: float
    long_mult: float
    short_add: float
    long_add: float
    discount: float
    discount_negative: float
    spot_up: float
    spot_down: float
    basis_add: float
    basis_mult: float
    peg_loss_threshold: float
    peg_loss_factor: float
    confidence_threshold: float
    confidence_margin: float
    perp_maintenance: float
    perp_initial: float
    option_maintenance: float
    option_initial: float


_ARRAYS: Final = 7  # of the fields of Terms, those that are no single number


def terms(parameters: Parameters) -> Terms:
    """The parameters as the kernels take them."""
    scenarios, collaterals = parameters.scenarios, parameters.collaterals
    return Terms(
        np.array([scenario.spot_shock for scenario in scenarios], dtype=np.float64),
        np.array([_KINDS[scenario.vol] for scenario in scenarios], dtype=np.int64),
        np.array([scenario.dampening for scenario in scenarios], dtype=np.float64),
        np.array([collateral.risk_cancelling for collateral in collaterals], dtype=np.bool_),
        np.array([collateral.initial_haircut for collateral in collaterals], dtype=np.float64),
        np.array([collateral.maintenance_haircut for collateral in collaterals], dtype=np.float64),
        np.array([collateral.confidence_threshold for collateral in collaterals], dtype=np.float64),
        *(float(getattr(parameters, name)) for name in Terms._fields[_ARRAYS:]),
    )


class Inputs(NamedTuple):
    """Feeds of one underlying, and the accounts in it.

    Feeds: prices in USD; confidences 0 to 1; `expiry_*` (expiries,): seconds to expiry, forward, rate (annual decimal) and confidences;
    `option_*` (options,): index of the expiry, strike, call or put, mark volatility (annual decimal), and `option_pair`, one number for
    the options of one expiry and strike, from 0; `collateral_*` (collaterals,) in the order of the parameters.

    Accounts, (accounts,): cash in USDC, perpetuals in contracts of one unit, their unrealised profit and funding in USD. Legs:
    `start` (accounts + 1,) into `leg_option` (index) and `leg_amount` (contracts of one unit, signed); `collateral_start` likewise into
    `held_collateral` (index) and `held_amount` (units).
    """

    spot_usd: float
    spot_confidence: float
    perp_usd: float
    perp_confidence: float
    stable_usd: float
    expiry_s: NDArray[np.float64]
    forward_usd: NDArray[np.float64]
    forward_confidence: NDArray[np.float64]
    rate: NDArray[np.float64]
    rate_confidence: NDArray[np.float64]
    sigma_confidence: NDArray[np.float64]
    option_expiry: NDArray[np.int64]
    option_pair: NDArray[np.int64]
    option_strike_usd: NDArray[np.float64]
    option_is_call: NDArray[np.bool_]
    option_sigma: NDArray[np.float64]
    collateral_usd: NDArray[np.float64]
    collateral_confidence: NDArray[np.float64]
    cash_usd: NDArray[np.float64]
    perps: NDArray[np.float64]
    perp_profit_usd: NDArray[np.float64]
    perp_funding_usd: NDArray[np.float64]
    start: NDArray[np.int64]
    leg_option: NDArray[np.int64]
    leg_amount: NDArray[np.float64]
    collateral_start: NDArray[np.int64]
    held_collateral: NDArray[np.int64]
    held_amount: NDArray[np.float64]


def option_pairs(expiry: NDArray[np.int64], strike_usd: NDArray[np.float64]) -> NDArray[np.int64]:
    """`Inputs.option_pair`: one number, from 0, for the options of one expiry and strike. Both (options,)."""
    numbers: dict[tuple[int, float], int] = {}
    pairs = zip(expiry.tolist(), strike_usd.tolist(), strict=True)
    return np.array([numbers.setdefault(pair, len(numbers)) for pair in pairs], dtype=np.int64)


def require_indices(inputs: Inputs, terms: Terms) -> None:
    """The kernels do not check indices: ValueError says which of `inputs` points outside of what it points into."""
    expiries, options, collaterals = len(inputs.expiry_s), len(inputs.option_expiry), len(inputs.collateral_usd)
    require_within("option_expiry", inputs.option_expiry, expiries)
    require_within("option_pair", inputs.option_pair, options)
    require_within("leg_option", inputs.leg_option, options)
    require_within("held_collateral", inputs.held_collateral, collaterals)
    if collaterals != len(terms.collateral_initial):
        raise ValueError(f"prices of {collaterals} collaterals, parameters of {len(terms.collateral_initial)}")
    accounts = len(inputs.cash_usd)
    require_legs("start", inputs.start, accounts, (inputs.leg_option, inputs.leg_amount))
    require_legs("collateral_start", inputs.collateral_start, accounts, (inputs.held_collateral, inputs.held_amount))


# The parts of one account's margin, all in USD but the two factors; requirements are positive here.
CASH, COLLATERAL, PERP_PROFIT, PERP_FUNDING, OPTIONS = 0, 1, 2, 3, 4
WORST_LOSS, FORWARD_CONTINGENCY, WORST_SCENARIO, INITIAL_FACTOR = 5, 6, 7, 8
BASE_INITIAL, BASE_MAINTENANCE, PERP_INITIAL, PERP_MAINTENANCE, OPTION_INITIAL, OPTION_MAINTENANCE, ORACLE = 9, 10, 11, 12, 13, 14, 15
PARTS: Final = 16

_MARK, _BASIS_UP, _BASIS_DOWN, _SCENARIOS = 0, 1, 2, 3  # columns of the value table; the scenarios come last
_LONG, _SHORT, _MARK_DISCOUNT, _YEARS, _UNSURE = 0, 1, 2, 3, 4  # columns of the table of expiries


@kernel
def margins(inputs: Inputs, terms: Terms, out: NDArray[np.float64]) -> None:
    """Fills `out` (accounts, 4), columns of `interface`: equity, requirements, and (equity - maintenance) / gross notional.

    Gross notional: options at their forward, perpetuals at their price and collateral, all without sign; infinite where there is none.
    Each listed option is priced once in each scenario, whoever holds it. Indices are not checked: `require_indices` first.
    """
    _evaluate(inputs, terms, 0, len(inputs.cash_usd), out, np.empty(PARTS))


def parts(inputs: Inputs, terms: Terms, account: int) -> list[tuple[str, float]]:
    """One account's margin in the venue's words: (name, USD), what costs below 0. IndexError on no account."""
    if not 0 <= account < len(inputs.cash_usd):
        raise IndexError(f"account {account} of {len(inputs.cash_usd)}")
    row, out = np.empty(PARTS), np.empty((1, COLUMNS))
    _evaluate(inputs, terms, account, account + 1, out, row)
    equity_usd, initial_usd, maintenance_usd = (float(number) for number in out[0, :3])
    return [
        ("cash", float(row[CASH])),
        ("collateral", float(row[COLLATERAL])),
        ("unrealised perp PNL", float(row[PERP_PROFIT])),
        ("unrealised funding", float(row[PERP_FUNDING])),
        ("options mark to market", float(row[OPTIONS])),
        ("portfolio mark to market", equity_usd),
        ("worst scenario", float(row[WORST_SCENARIO])),
        ("forward contingency", float(row[FORWARD_CONTINGENCY])),
        ("max loss", float(row[WORST_LOSS])),
        ("initial loss, with depeg", float(row[WORST_LOSS] * row[INITIAL_FACTOR])),
        ("maintenance loss", float(row[WORST_LOSS] * terms.maintenance_factor)),
        ("initial base contingency", -float(row[BASE_INITIAL])),
        ("maintenance base contingency", -float(row[BASE_MAINTENANCE])),
        ("initial perp contingency", -float(row[PERP_INITIAL])),
        ("maintenance perp contingency", -float(row[PERP_MAINTENANCE])),
        ("initial option contingency", -float(row[OPTION_INITIAL])),
        ("maintenance option contingency", -float(row[OPTION_MAINTENANCE])),
        ("oracle contingency", -float(row[ORACLE])),
        ("initial margin", equity_usd - initial_usd),
        ("maintenance margin", equity_usd - maintenance_usd),
    ]


@kernel
def _evaluate(inputs: Inputs, terms: Terms, first: int, last: int, out: NDArray[np.float64], row: NDArray[np.float64]) -> None:
    """Accounts `first` to `last`, into `out` from row 0; `row` (PARTS,) is left with the parts of the last one."""
    expiries = _expiry_table(inputs, terms)
    values = _value_table(inputs, terms, expiries)
    totals = np.zeros((len(inputs.expiry_s), values.shape[1]))
    sizes = np.zeros(len(inputs.expiry_s))  # contracts of an expiry, without sign
    held = np.zeros(len(inputs.expiry_s), dtype=np.bool_)
    pairs = np.zeros(len(inputs.option_pair))
    for account in range(first, last):
        _account(inputs, terms, account, expiries, values, totals, sizes, held, pairs, row, out, account - first)


@kernel
def _expiry_table(inputs: Inputs, terms: Terms) -> NDArray[np.float64]:
    """(expiries, 5): discounts of what is long and short, discount of the mark, years to expiry, and the lowest confidence."""
    table = np.empty((len(inputs.expiry_s), 5))
    for expiry in range(len(inputs.expiry_s)):
        years = inputs.expiry_s[expiry] / SECONDS_PER_YEAR
        table[expiry, _YEARS] = years
        table[expiry, _UNSURE] = lower(
            lower(inputs.forward_confidence[expiry], inputs.rate_confidence[expiry]), inputs.sigma_confidence[expiry]
        )
        if years <= 0.0:
            table[expiry, _LONG] = 1.0
            table[expiry, _SHORT] = 1.0
            table[expiry, _MARK_DISCOUNT] = 1.0
            continue
        rate = inputs.rate[expiry]
        if rate < 0.0:
            rate = 0.0
        ceiling = exp_(rate * years)
        table[expiry, _LONG] = terms.discount * exp_(-years * (rate * terms.long_mult + terms.long_add))
        table[expiry, _SHORT] = lower(terms.discount_negative * exp_(years * (rate * terms.short_mult + terms.short_add)), ceiling)
        table[expiry, _MARK_DISCOUNT] = exp_(-rate * years)
    return table


@kernel
def _value_table(inputs: Inputs, terms: Terms, expiries: NDArray[np.float64]) -> NDArray[np.float64]:
    """(options, 3 + scenarios): value of one contract in USD now, with the forward up and down, and in each scenario."""
    values = np.empty((len(inputs.option_expiry), _SCENARIOS + len(terms.shock)))
    for option in range(len(inputs.option_expiry)):
        expiry = inputs.option_expiry[option]
        years, discount = expiries[expiry, _YEARS], expiries[expiry, _MARK_DISCOUNT]
        forward, strike = inputs.forward_usd[expiry], inputs.option_strike_usd[option]
        is_call, sigma = inputs.option_is_call[option], inputs.option_sigma[option]
        moving = inputs.expiry_s[expiry] / SETTLEMENT_S
        if moving > 1.0:
            moving = 1.0
        if moving < 0.0:
            moving = 0.0
        values[option, _MARK] = black76_price(forward, strike, sigma, years, is_call, discount)
        up = forward * (1.0 + (terms.spot_up - 1.0) * moving)
        down = forward * (1.0 + (terms.spot_down - 1.0) * moving)
        values[option, _BASIS_UP] = black76_price(up, strike, sigma, years, is_call, discount)
        values[option, _BASIS_DOWN] = black76_price(down, strike, sigma, years, is_call, discount)
        for scenario in range(len(terms.shock)):
            kind = terms.kind[scenario]
            shocked = forward
            if not (kind == LINEAR or kind == ABS):
                shocked = forward * (1.0 + (terms.shock[scenario] - 1.0) * moving)
            moved = shocked_sigma(sigma, kind, forward, strike, years, terms)
            values[option, _SCENARIOS + scenario] = black76_price(shocked, strike, moved, years, is_call, discount)
    return values


@kernel
def shocked_sigma(sigma: float, kind: int, forward_usd: float, strike_usd: float, years: float, terms: Terms) -> float:
    """Volatility in a scenario of this kind; never below 0, and NaN where the venue has none."""
    if kind == NONE or years <= 0.0:
        return sigma
    if kind == UP or kind == DOWN:
        days = years * SECONDS_PER_YEAR / SECONDS_PER_DAY
        power = terms.short_power if days <= TERM_DAYS else terms.long_power
        if days < terms.days_floor:
            days = terms.days_floor
        spread = pow_(TERM_DAYS / days, power)
        if kind == DOWN:
            factor = 1.0 - terms.range_down * spread
            return sigma * factor if factor > 0.0 else sigma * 0.0
        raised = sigma * (1.0 + terms.range_up * spread)
        return max(raised, terms.shocked_sigma_min)
    if strike_usd <= 0.0:
        return sigma
    root = math.sqrt(years)
    k_star = terms.width * root * (terms.vol_static + terms.vol_scale * root)
    if k_star < terms.k_star_min:
        k_star = terms.k_star_min
    if k_star == 0.0:
        return math.nan
    distance = log_(strike_usd / forward_usd)
    cap = terms.linear_scale + terms.linear_base * root
    sign = -1.0 if distance < 0.0 else 1.0
    if kind == ABS:
        cap = terms.abs_scale + terms.abs_base * root
        sign = 1.0
    reach = abs(distance) / k_star
    if (cap >= 0.0 and reach > 1.0) or (cap < 0.0 and reach < 1.0):
        reach = 1.0
    factor = 1.0 + sign * reach * cap
    return sigma * 0.0 if factor < 0.0 else sigma * factor


@kernel
def _account(
    inputs: Inputs,
    terms: Terms,
    account: int,
    expiries: NDArray[np.float64],
    values: NDArray[np.float64],
    totals: NDArray[np.float64],
    sizes: NDArray[np.float64],
    held: NDArray[np.bool_],
    pairs: NDArray[np.float64],
    row: NDArray[np.float64],
    out: NDArray[np.float64],
    place: int,
) -> None:
    gross_usd = 0.0
    perps = inputs.perps[account]
    delta_usd = 0.0  # what moves with spot besides options
    perp_size = abs(perps)
    unsure = inputs.spot_confidence
    row[PERP_INITIAL] = 0.0
    row[PERP_MAINTENANCE] = 0.0
    row[ORACLE] = 0.0
    if perps != 0.0:
        delta_usd = perps * inputs.perp_usd
        gross_usd = perp_size * inputs.perp_usd
        unsure = lower(unsure, inputs.perp_confidence)
        row[PERP_MAINTENANCE] = perp_size * inputs.spot_usd * terms.perp_maintenance
        row[PERP_INITIAL] = perp_size * inputs.spot_usd * (terms.perp_maintenance + terms.perp_initial)
        row[ORACLE] = perp_size * inputs.spot_usd * doubt(unsure, terms.confidence_threshold, terms.confidence_margin)

    row[COLLATERAL] = 0.0
    row[BASE_INITIAL] = 0.0
    row[BASE_MAINTENANCE] = 0.0
    for leg in range(inputs.collateral_start[account], inputs.collateral_start[account + 1]):
        asset = inputs.held_collateral[leg]
        value_usd = inputs.held_amount[leg] * inputs.collateral_usd[asset] / inputs.stable_usd
        size_usd = abs(value_usd)
        confidence = lower(inputs.collateral_confidence[asset], inputs.spot_confidence)
        row[COLLATERAL] += value_usd
        row[BASE_MAINTENANCE] += size_usd * terms.collateral_maintenance[asset]
        row[BASE_INITIAL] += size_usd * (terms.collateral_maintenance[asset] + terms.collateral_initial[asset])
        row[ORACLE] += size_usd * doubt(confidence, terms.collateral_threshold[asset], terms.confidence_margin)
        gross_usd += size_usd
        if terms.risk_cancelling[asset]:
            delta_usd += value_usd

    held[:] = False
    for leg in range(inputs.start[account], inputs.start[account + 1]):
        option = inputs.leg_option[leg]
        amount = inputs.leg_amount[leg]
        expiry = inputs.option_expiry[option]
        if not held[expiry]:
            held[expiry] = True
            totals[expiry, :] = 0.0
            sizes[expiry] = 0.0
        for column in range(values.shape[1]):
            totals[expiry, column] += amount * values[option, column]
        sizes[expiry] += abs(amount)
        pairs[inputs.option_pair[option]] += amount
    short = 0.0
    for leg in range(inputs.start[account], inputs.start[account + 1]):
        pair = inputs.option_pair[inputs.leg_option[leg]]
        if not pairs[pair] >= 0.0:  # a NaN too
            short -= pairs[pair]
        pairs[pair] = 0.0
    row[OPTION_MAINTENANCE] = 0.0
    row[OPTION_INITIAL] = 0.0
    if short != 0.0:
        row[OPTION_MAINTENANCE] = short * inputs.spot_usd * terms.option_maintenance
        row[OPTION_INITIAL] = short * inputs.spot_usd * (terms.option_maintenance + terms.option_initial)

    row[OPTIONS] = 0.0
    row[FORWARD_CONTINGENCY] = 0.0
    for expiry in range(len(held)):
        if held[expiry]:
            mark_usd = totals[expiry, _MARK]
            worse_usd = lower(lower(totals[expiry, _BASIS_UP] - mark_usd, totals[expiry, _BASIS_DOWN] - mark_usd), 0.0)
            row[OPTIONS] += mark_usd
            row[FORWARD_CONTINGENCY] += worse_usd * (terms.basis_add + terms.basis_mult * expiries[expiry, _YEARS])
            confidence = lower(expiries[expiry, _UNSURE], unsure)
            row[ORACLE] += sizes[expiry] * inputs.spot_usd * doubt(confidence, terms.confidence_threshold, terms.confidence_margin)
            gross_usd += sizes[expiry] * inputs.forward_usd[expiry]

    row[WORST_SCENARIO] = 0.0
    for scenario in range(len(terms.shock)):
        profit_usd = (terms.shock[scenario] - 1.0) * delta_usd
        skewed = terms.kind[scenario] == LINEAR or terms.kind[scenario] == ABS
        for expiry in range(len(held)):
            if held[expiry]:
                shocked_usd = totals[expiry, _SCENARIOS + scenario]
                change_usd = shocked_usd * expiries[expiry, _LONG if shocked_usd > 0.0 else _SHORT] - totals[expiry, _MARK]
                profit_usd += -abs(change_usd) if skewed else change_usd
        row[WORST_SCENARIO] = lower(row[WORST_SCENARIO], profit_usd * terms.dampening[scenario])
    row[WORST_LOSS] = lower(row[WORST_SCENARIO], row[FORWARD_CONTINGENCY])

    row[CASH] = inputs.cash_usd[account]
    row[PERP_PROFIT] = inputs.perp_profit_usd[account]
    row[PERP_FUNDING] = inputs.perp_funding_usd[account]
    row[INITIAL_FACTOR] = terms.initial_factor
    if not inputs.stable_usd >= terms.peg_loss_threshold:  # a NaN too
        row[INITIAL_FACTOR] += (terms.peg_loss_threshold - inputs.stable_usd) * terms.peg_loss_factor

    equity_usd = row[CASH] + row[COLLATERAL] + row[PERP_PROFIT] + row[PERP_FUNDING] + row[OPTIONS]
    initial_usd = -row[INITIAL_FACTOR] * row[WORST_LOSS] + row[BASE_INITIAL] + row[PERP_INITIAL] + row[OPTION_INITIAL] + row[ORACLE]
    maintenance_usd = -terms.maintenance_factor * row[WORST_LOSS] + row[BASE_MAINTENANCE] + row[PERP_MAINTENANCE] + row[OPTION_MAINTENANCE]
    write_row(out, place, equity_usd, initial_usd, maintenance_usd, gross_usd)
