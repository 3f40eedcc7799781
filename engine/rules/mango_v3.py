"""Mango v3: health of accounts with spot deposits and borrows, open orders and perpetuals in a basket of markets.

Every market has a base, whose weights depend on its sign, and all markets share one quote, whose weight is one. Health is the quote of all
plus each market's base in spot and in perpetuals, each at price x weight of its sign; init and maint differ in their weights. Open
orders count at the side that leaves the larger base without its sign: all bids filled, or all asks, at the price of the market.

Where v4 differs: weights there belong to tokens and a perpetual goes through its settlement token's balance; prices at init have a
stable price beside the oracle; weights scale with what all accounts hold. v3 has none of these, and reads a spot market's open orders only
where the market is in the account's *margin basket*; what is free in the others counts in the account's value alone.

The *health ratio* is weighted assets over weighted liabilities less one, where the quote of all markets is one asset or one liability;
*leverage* is liabilities, unweighted and without netting spot, base and quote, over value.

Sources: blockworks-foundation/mango-client-v3 (MangoAccount.getHealth, getHealthRatio, getLeverage) and
blockworks-foundation/mango-explorer, whose own numbers for four real accounts are the cases.
"""

from typing import Annotated, Final, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.jit import kernel
from engine.rules.interface import RuleInfo
from engine.rules.margin_row import write_row

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

RULE: Final = RuleInfo(
    name="mango_v3",
    version="3",
    title="Mango v3 health",
    sources=(
        "https://github.com/blockworks-foundation/mango-client-v3/blob/main/src/MangoAccount.ts",
        "https://github.com/blockworks-foundation/mango-explorer",
    ),
    measure="margin",
    published=True,
    cases="four accounts with prices, weights and both clients' health, ratios, leverage and value; none has spot orders that are locked",
)
LIQUIDATION: Final = RuleInfo(
    name="mango_v3_liquidation",
    version="3",
    title="Mango v3: a token liability against a token asset",
    sources=("https://github.com/blockworks-foundation/mango-v3/blob/main/program/src/processor.rs",),
    measure="margin",
    published=False,
    cases="none are published",
)

INIT: Final = 0
MAINT: Final = 1
LEVELS: Final = 2
INIT_RATIO: Final = 2  # columns of `measures`, after the two healths; ratios in percent
MAINT_RATIO: Final = 3
LEVERAGE: Final = 4
REDEEMABLE_USD: Final = 5
MEASURES: Final = 6

AssetWeight = Annotated[float, Meta(ge=0.0, le=1.0)]
LiabilityWeight = Annotated[float, Meta(ge=0.0, le=1_000.0)]


# ---- parameters -----------------------------------------------------------------------------------------------------------------------


class SideParameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Weights of a market's spot, or of its perpetual; all zero where there is none."""

    init_asset_weight: AssetWeight = 0.0
    maint_asset_weight: AssetWeight = 0.0
    init_liab_weight: LiabilityWeight = 0.0
    maint_liab_weight: LiabilityWeight = 0.0

    def __post_init__(self) -> None:
        """ValueError where init is milder than maint."""
        if self.init_asset_weight > self.maint_asset_weight or self.init_liab_weight < self.maint_liab_weight:
            raise ValueError("init weights must not be milder than maint weights")


class MarketParameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One market of the group."""

    name: str
    spot: SideParameters
    perp: SideParameters


class Parameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The group's markets; accounts name them by position."""

    markets: tuple[MarketParameters, ...]


class ParameterArrays(NamedTuple):
    """Parameters as kernels take them, (LEVELS, markets)."""

    spot_asset_weight: Floats
    spot_liab_weight: Floats
    perp_asset_weight: Floats
    perp_liab_weight: Floats


def parameter_arrays(parameters: Parameters) -> ParameterArrays:
    """`parameters` as arrays; made once for each set."""
    sides = [[market.spot for market in parameters.markets], [market.perp for market in parameters.markets]]
    spot, perp = (
        (
            np.array([[one.init_asset_weight for one in side], [one.maint_asset_weight for one in side]], dtype=np.float64),
            np.array([[one.init_liab_weight for one in side], [one.maint_liab_weight for one in side]], dtype=np.float64),
        )
        for side in sides
    )
    return ParameterArrays(*spot, *perp)


class Inputs(NamedTuple):
    """Accounts and prices. Amounts in whole base units or USD of quote, signs as held.

    A leg is one market of one account: `start` (accounts + 1,), the rest (legs,); `quote_usd` (accounts,) is the account's own balance
    of the quote, `price_usd` (markets,). Of open orders in spot, *free* is the account's again, *locked* is in the book.
    """

    start: Integers
    market: Integers
    spot: Floats  # deposits less borrows
    in_basket: NDArray[np.bool_]
    order_base_free: Floats
    order_base_locked: Floats
    order_quote_free: Floats
    order_quote_locked: Floats
    perp_base: Floats
    perp_quote: Floats  # less funding owed
    perp_bids: Floats  # base units, >= 0
    perp_asks: Floats
    quote_usd: Floats
    price_usd: Floats


class _Sums(NamedTuple):
    """What an account's legs add up to, USD."""

    init_usd: float  # health
    maint_usd: float
    init_liabilities_usd: float
    maint_liabilities_usd: float
    value_usd: float
    liabilities_usd: float  # unweighted
    gross_usd: float
    redeemable_usd: float


# ---- margins --------------------------------------------------------------------------------------------------------------------------


@kernel
def margins(inputs: Inputs, parameters: ParameterArrays, out: Floats) -> None:
    """Fills `out` (accounts, 4), columns of engine.rules.interface.

    Equity is the account's value with all open orders. Initial and maintenance are equity less init health and less maint health. Gross
    notional is spot, open orders, perpetuals' base and the account's own quote without signs.
    """
    for account in range(inputs.start.shape[0] - 1):
        sums = _sums(inputs, parameters, account)
        write_row(out, account, sums.value_usd, sums.init_usd, sums.maint_usd, sums.gross_usd)


@kernel
def measures(inputs: Inputs, parameters: ParameterArrays, out: Floats) -> None:
    """Fills `out` (accounts, MEASURES): init and maint health, their ratios in percent, leverage, redeemable profit and loss.

    A ratio is 100 where nothing is owed; leverage is 0 where there is no value.
    """
    for account in range(inputs.start.shape[0] - 1):
        sums = _sums(inputs, parameters, account)
        out[account, INIT] = sums.init_usd
        out[account, MAINT] = sums.maint_usd
        out[account, INIT_RATIO] = _ratio(sums.init_usd, sums.init_liabilities_usd)
        out[account, MAINT_RATIO] = _ratio(sums.maint_usd, sums.maint_liabilities_usd)
        out[account, LEVERAGE] = 0.0 if sums.value_usd == 0.0 else sums.liabilities_usd / sums.value_usd
        out[account, REDEEMABLE_USD] = sums.redeemable_usd


@kernel
def liquidatable(maint_health_usd: float, init_health_usd: float, being_liquidated: bool) -> bool:
    """A liquidation begins where maint health is below zero and goes on until init health is not; what is not known may be."""
    if being_liquidated:
        return not init_health_usd >= 0.0
    return not maint_health_usd >= 0.0


def parts(inputs: Inputs, parameters: ParameterArrays, account: int, level: int = INIT) -> list[tuple[str, float]]:
    """What an account's health at `level` is made of, USD: the quote of all, each market's spot and perpetual; the sum."""
    quote_usd = float(inputs.quote_usd[account])
    markets: list[tuple[str, float]] = []
    for leg in range(int(inputs.start[account]), int(inputs.start[account + 1])):
        market = int(inputs.market[leg])
        spot_usd, spot_quote_usd, perp_usd, perp_quote_usd = _worst(inputs, leg)
        quote_usd += spot_quote_usd + perp_quote_usd
        spot_weight = _weight(spot_usd, parameters.spot_asset_weight[level, market], parameters.spot_liab_weight[level, market])
        perp_weight = _weight(perp_usd, parameters.perp_asset_weight[level, market], parameters.perp_liab_weight[level, market])
        markets += [(f"spot {market}", float(spot_usd * spot_weight)), (f"perp {market}", float(perp_usd * perp_weight))]
    sums = _sums(inputs, parameters, account)
    total = ("init health", float(sums.init_usd)) if level == INIT else ("maint health", float(sums.maint_usd))
    return [("quote", quote_usd), *markets, total]


@kernel
def _ratio(health_usd: float, liabilities_usd: float) -> float:
    if liabilities_usd == 0.0 and not np.isnan(health_usd):
        return 100.0
    return 100.0 * health_usd / liabilities_usd


@kernel
def _sums(inputs: Inputs, parameters: ParameterArrays, account: int) -> _Sums:
    own_usd = inputs.quote_usd[account]
    quote_usd = own_usd
    init_usd = maint_usd = 0.0
    init_liabilities_usd = maint_liabilities_usd = 0.0
    value_usd = own_usd
    liabilities_usd = _debt(own_usd)
    gross_usd = abs(own_usd)
    redeemable_usd = 0.0
    for leg in range(inputs.start[account], inputs.start[account + 1]):
        market = inputs.market[leg]
        price = inputs.price_usd[market]
        spot_usd, spot_quote_usd, perp_usd, perp_quote_usd = _worst(inputs, leg)
        quote_usd += spot_quote_usd + perp_quote_usd
        found = spot_usd * _weight(spot_usd, parameters.spot_asset_weight[INIT, market], parameters.spot_liab_weight[INIT, market])
        init_usd += found
        init_liabilities_usd += _debt(found)
        found = perp_usd * _weight(perp_usd, parameters.perp_asset_weight[INIT, market], parameters.perp_liab_weight[INIT, market])
        init_usd += found
        init_liabilities_usd += _debt(found)
        found = spot_usd * _weight(spot_usd, parameters.spot_asset_weight[MAINT, market], parameters.spot_liab_weight[MAINT, market])
        maint_usd += found
        maint_liabilities_usd += _debt(found)
        found = perp_usd * _weight(perp_usd, parameters.perp_asset_weight[MAINT, market], parameters.perp_liab_weight[MAINT, market])
        maint_usd += found
        maint_liabilities_usd += _debt(found)

        held_usd = inputs.spot[leg] * price
        ordered_usd = (inputs.order_base_free[leg] + inputs.order_base_locked[leg]) * price
        ordered_usd += inputs.order_quote_free[leg] + inputs.order_quote_locked[leg]
        base_usd = inputs.perp_base[leg] * price
        redeemable_usd += base_usd + inputs.perp_quote[leg]
        value_usd += held_usd + ordered_usd + base_usd + inputs.perp_quote[leg]
        liabilities_usd += _debt(held_usd) + _debt(base_usd) + _debt(inputs.perp_quote[leg])
        gross_usd += abs(held_usd) + abs(ordered_usd) + abs(base_usd)
    init_usd += quote_usd
    maint_usd += quote_usd
    init_liabilities_usd += _debt(quote_usd)
    maint_liabilities_usd += _debt(quote_usd)
    return _Sums(init_usd, maint_usd, init_liabilities_usd, maint_liabilities_usd, value_usd, liabilities_usd, gross_usd, redeemable_usd)


@kernel
def _worst(inputs: Inputs, leg: int) -> tuple[float, float, float, float]:
    """(spot base, spot quote, perpetual base, perpetual quote), USD, with open orders at the side that leaves the larger base."""
    price = inputs.price_usd[inputs.market[leg]]
    spot = inputs.spot[leg]
    spot_usd, spot_quote_usd = spot * price, 0.0
    if inputs.in_basket[leg]:
        free = spot + inputs.order_base_free[leg]
        locked, quote_locked = inputs.order_base_locked[leg], inputs.order_quote_locked[leg]
        bought_usd = (free + locked) * price + quote_locked
        sold_usd = free * price
        if np.isnan(bought_usd + sold_usd):
            spot_usd = np.nan
        elif abs(bought_usd) > abs(sold_usd):
            spot_usd, spot_quote_usd = bought_usd, inputs.order_quote_free[leg]
        else:
            spot_usd, spot_quote_usd = sold_usd, inputs.order_quote_free[leg] + quote_locked + locked * price
    bids, asks = inputs.perp_bids[leg], inputs.perp_asks[leg]
    bought, sold = inputs.perp_base[leg] + bids, inputs.perp_base[leg] - asks
    if np.isnan(bought + sold):
        return spot_usd, spot_quote_usd, np.nan, np.nan
    if abs(bought) > abs(sold):
        return spot_usd, spot_quote_usd, bought * price, inputs.perp_quote[leg] - bids * price
    return spot_usd, spot_quote_usd, sold * price, inputs.perp_quote[leg] + asks * price


@kernel
def _weight(value_usd: float, asset_weight: float, liab_weight: float) -> float:
    return liab_weight if value_usd < 0.0 else asset_weight


@kernel
def _debt(value_usd: float) -> float:
    """The value without its sign where it is negative; NaN where it is NaN."""
    return 0.0 if value_usd >= 0.0 else -value_usd


# ---- liquidation ----------------------------------------------------------------------------------------------------------------------


def token_liquidation(
    init_health_usd: float,
    *,
    asset_value_usd: float,
    asset_weight: float,
    liability_value_usd: float,
    liab_weight: float,
    liquidation_fee: float,
) -> float:
    """The most of a liability that may be repaid, USD at its price, against an asset: until init health is 0, or one of them is.

    Each dollar repaid adds the liability's init weight and takes (1 + fee) of the asset at its init weight. Values are without signs;
    0 where health is not below zero, NaN where it is not known.
    """
    if init_health_usd >= 0.0:
        return 0.0
    most = np.minimum(liability_value_usd, asset_value_usd / (1.0 + liquidation_fee))
    gain = liab_weight - (1.0 + liquidation_fee) * asset_weight
    if gain > 0.0:
        most = np.minimum(most, -init_health_usd / gain)
    elif np.isnan(init_health_usd + gain):
        most = np.nan
    return float(most)
