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
from engine.rules.indices import require_each, require_legs, require_within
from engine.rules.interface import LISTED_MAX, ListedName, RuleInfo
from engine.rules.outcome import write_row

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

    name: ListedName
    spot: SideParameters
    perp: SideParameters


class Parameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The group's markets; accounts name them by position."""

    markets: Annotated[tuple[MarketParameters, ...], Meta(max_length=LISTED_MAX)]


class Terms(NamedTuple):
    """Parameters as kernels take them, (LEVELS, markets)."""

    spot_asset_weight: Floats
    spot_liab_weight: Floats
    perp_asset_weight: Floats
    perp_liab_weight: Floats


def terms(parameters: Parameters) -> Terms:
    """`parameters` as arrays; made once for each set."""
    sides = [[market.spot for market in parameters.markets], [market.perp for market in parameters.markets]]
    spot, perp = (
        (
            np.array([[one.init_asset_weight for one in side], [one.maint_asset_weight for one in side]], dtype=np.float64),
            np.array([[one.init_liab_weight for one in side], [one.maint_liab_weight for one in side]], dtype=np.float64),
        )
        for side in sides
    )
    return Terms(*spot, *perp)


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


def require_indices(inputs: Inputs, parameters: Terms) -> None:
    """The kernels do not check indices: ValueError says which of `inputs` has another shape or points outside of what it points into."""
    accounts, markets = len(inputs.quote_usd), parameters.spot_asset_weight.shape[1]
    require_legs("start", inputs.start, accounts, inputs[1:12])
    require_within("market", inputs.market, markets)
    require_each(accounts, [("quote_usd", inputs.quote_usd)])
    require_each(markets, [("price_usd", inputs.price_usd)])


# Columns of what an account's legs add up to, USD, after the two healths.
_INIT_LIABILITIES: Final = 2  # weighted
_MAINT_LIABILITIES: Final = 3
_VALUE: Final = 4
_LIABILITIES: Final = 5  # unweighted
_GROSS: Final = 6
_REDEEMABLE: Final = 7
_ASSETS: Final = 8  # unweighted
_SUMS: Final = 9


# ---- margins --------------------------------------------------------------------------------------------------------------------------


@kernel
def margins(inputs: Inputs, parameters: Terms, out: Floats) -> None:
    """Fills `out` (accounts, 4), columns of engine.rules.interface. Indices are not checked: `require_indices` first.

    Equity is the account's value with all open orders. Initial and maintenance are equity less init health and less maint health. Gross
    notional is spot, open orders, perpetuals' base and the account's own quote without signs.
    """
    sums = _sums(inputs, parameters)
    for account in range(len(sums)):
        equity_usd = sums[account, _VALUE]
        write_row(out, account, equity_usd, equity_usd - sums[account, INIT], equity_usd - sums[account, MAINT], sums[account, _GROSS])


@kernel
def measures(inputs: Inputs, parameters: Terms, out: Floats) -> None:
    """Fills `out` (accounts, MEASURES): init and maint health, their ratios in percent, leverage, redeemable profit and loss.

    A ratio is 100 where nothing is owed; leverage is 0 where there is no value, or no asset.
    """
    sums = _sums(inputs, parameters)
    for account in range(len(sums)):
        value_usd = sums[account, _VALUE]
        out[account, INIT] = sums[account, INIT]
        out[account, MAINT] = sums[account, MAINT]
        out[account, INIT_RATIO] = _ratio(sums[account, INIT], sums[account, _INIT_LIABILITIES])
        out[account, MAINT_RATIO] = _ratio(sums[account, MAINT], sums[account, _MAINT_LIABILITIES])
        nothing = value_usd == 0.0 or sums[account, _ASSETS] <= 0.0
        out[account, LEVERAGE] = 0.0 if nothing else sums[account, _LIABILITIES] / value_usd
        out[account, REDEEMABLE_USD] = sums[account, _REDEEMABLE]


@kernel
def liquidatable(maint_health_usd: float, init_health_usd: float, being_liquidated: bool) -> bool:
    """A liquidation begins where maint health is below zero and goes on until init health is not; what is not known may be."""
    if being_liquidated:
        return not init_health_usd >= 0.0
    return not maint_health_usd >= 0.0


def parts(inputs: Inputs, parameters: Terms, account: int, level: int = INIT) -> list[tuple[str, float]]:
    """What an account's health at `level` is made of, USD: the quote of all, each market's spot and perpetual; the sum."""
    quote_usd = float(inputs.quote_usd[account])
    markets: list[tuple[str, float]] = []
    for leg in range(int(inputs.start[account]), int(inputs.start[account + 1])):
        market = int(inputs.market[leg])
        price = float(inputs.price_usd[market])
        spot_usd, spot_quote_usd = _worst_spot(
            price,
            inputs.spot[leg],
            inputs.in_basket[leg],
            inputs.order_base_free[leg],
            inputs.order_base_locked[leg],
            inputs.order_quote_free[leg],
            inputs.order_quote_locked[leg],
        )
        perp_usd, perp_quote_usd = _worst_perp(
            price, inputs.perp_base[leg], inputs.perp_quote[leg], inputs.perp_bids[leg], inputs.perp_asks[leg]
        )
        quote_usd += float(spot_quote_usd + perp_quote_usd)
        spot_weighted = _weighted(spot_usd, parameters.spot_asset_weight[level, market], parameters.spot_liab_weight[level, market])
        perp_weighted = _weighted(perp_usd, parameters.perp_asset_weight[level, market], parameters.perp_liab_weight[level, market])
        markets += [(f"spot {market}", float(spot_weighted)), (f"perp {market}", float(perp_weighted))]
    health_usd = float(_sums(inputs, parameters)[account, level])
    return [("quote", quote_usd), *markets, (("init health", "maint health")[level], health_usd)]


@kernel
def _ratio(health_usd: float, liabilities_usd: float) -> float:
    if liabilities_usd == 0.0 and not np.isnan(health_usd):
        return 100.0
    return 100.0 * health_usd / liabilities_usd


@kernel
def _sums(inputs: Inputs, parameters: Terms) -> Floats:
    """(accounts, _SUMS). Arrays are taken out of their tuples once: each use of a tuple's field costs more than the arithmetic."""
    start, markets, price_usd = inputs.start, inputs.market, inputs.price_usd
    spot, in_basket, own_quote = inputs.spot, inputs.in_basket, inputs.quote_usd
    base_free, base_locked = inputs.order_base_free, inputs.order_base_locked
    quote_free, quote_locked = inputs.order_quote_free, inputs.order_quote_locked
    perp_base, perp_quote, perp_bids, perp_asks = inputs.perp_base, inputs.perp_quote, inputs.perp_bids, inputs.perp_asks
    spot_asset, spot_liab = parameters.spot_asset_weight, parameters.spot_liab_weight
    perp_asset, perp_liab = parameters.perp_asset_weight, parameters.perp_liab_weight
    sums = np.zeros((len(start) - 1, _SUMS))
    for account in range(len(start) - 1):
        own_usd = own_quote[account]
        quote_usd = own_usd
        value_usd = own_usd
        liabilities_usd = _debt(own_usd)
        assets_usd = _debt(-own_usd)
        gross_usd = abs(own_usd)
        redeemable_usd = 0.0
        for leg in range(start[account], start[account + 1]):
            market = markets[leg]
            price = price_usd[market]
            spot_usd, spot_quote_usd = _worst_spot(
                price, spot[leg], in_basket[leg], base_free[leg], base_locked[leg], quote_free[leg], quote_locked[leg]
            )
            perp_usd, perp_quote_usd = _worst_perp(price, perp_base[leg], perp_quote[leg], perp_bids[leg], perp_asks[leg])
            quote_usd += spot_quote_usd + perp_quote_usd
            for level in range(LEVELS):
                for found in (
                    _weighted(spot_usd, spot_asset[level, market], spot_liab[level, market]),
                    _weighted(perp_usd, perp_asset[level, market], perp_liab[level, market]),
                ):
                    sums[account, level] += found
                    sums[account, _INIT_LIABILITIES + level] += _debt(found)
            held_usd = spot[leg] * price
            ordered_usd = (base_free[leg] + base_locked[leg]) * price + quote_free[leg] + quote_locked[leg]
            base_usd = perp_base[leg] * price
            redeemable_usd += base_usd + perp_quote[leg]
            value_usd += held_usd + ordered_usd + base_usd + perp_quote[leg]
            liabilities_usd += _debt(held_usd) + _debt(base_usd) + _debt(perp_quote[leg])
            assets_usd += _debt(-held_usd) + _debt(-ordered_usd) + _debt(-base_usd) + _debt(-perp_quote[leg])
            gross_usd += abs(held_usd) + abs(ordered_usd) + abs(base_usd)
        for level in range(LEVELS):
            sums[account, level] += quote_usd
            sums[account, _INIT_LIABILITIES + level] += _debt(quote_usd)
        sums[account, _VALUE] = value_usd
        sums[account, _LIABILITIES] = liabilities_usd
        sums[account, _ASSETS] = assets_usd
        sums[account, _GROSS] = gross_usd
        sums[account, _REDEEMABLE] = redeemable_usd
    return sums


@kernel
def _worst_spot(
    price: float, spot: float, in_basket: bool, base_free: float, base_locked: float, quote_free: float, quote_locked: float
) -> tuple[float, float]:
    """(base, quote) of a market's spot, USD, with open orders at the side that leaves the larger base."""
    if not in_basket:
        return spot * price, 0.0
    sold_usd = (spot + base_free) * price
    bought_usd = sold_usd + base_locked * price + quote_locked
    if np.isnan(bought_usd):
        return np.nan, np.nan
    if abs(bought_usd) > abs(sold_usd):
        return bought_usd, quote_free
    return sold_usd, quote_free + quote_locked + base_locked * price


@kernel
def _worst_perp(price: float, base: float, quote: float, bids: float, asks: float) -> tuple[float, float]:
    """(base, quote) of a market's perpetual, USD, with open orders at the side that leaves the larger base."""
    bought, sold = base + bids, base - asks
    if np.isnan(bought + sold):
        return np.nan, np.nan
    if abs(bought) > abs(sold):
        return bought * price, quote - bids * price
    return sold * price, quote + asks * price


@kernel
def _weighted(value_usd: float, asset_weight: float, liab_weight: float) -> float:
    return value_usd * (liab_weight if value_usd < 0.0 else asset_weight)


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
