"""Drift v2: weights that depend on size, what an account needs by them, and how much of it a liquidation takes.

**Weights.** With s the square root of the size and f the market's factor, an asset's weight is min(w, 1.1 / (1 + f s)), a
liability's (and a perpetual's margin ratio) max(w, 0.8 w + f s); initial asset weights shrink where all deposits are worth more than
a stated amount.
The program computes in whole numbers (weights in 1e-4) and cuts off what is beyond; so do we.

**Account.** *Total collateral* is the quote held, weighted assets and the profit and loss of perpetuals (profit weighted, and at
initial bounded by 100 USD a market); the *margin requirement* is the quote owed, weighted liabilities, base x margin ratio, and
0.01 USD for each open order. Open orders count as all filled on the side that is worse. Free collateral is the difference. Not
computed: prices' means of the last minutes, which the program uses beside the oracle for withdrawals and new orders.

**Liquidation.** How much must change hands to cover a shortage of margin, what is due for it on the other side, the insurance fund's fee,
how fast, and who bears what is left. Amounts are whole numbers in the program's units, so that they round as it does.

Sources: drift-labs/protocol-v2, programs/drift/src/math/margin.rs, math/liquidation.rs, state/spot_market.rs, state/perp_market.rs.
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

_REPOSITORY: Final = "https://github.com/drift-labs/protocol-v2/blob/master/programs/drift/src"

RULE: Final = RuleInfo(
    name="drift_v2",
    version="2, commit 0ae3e3b of its tests",
    title="Drift v2 margin of an account",
    sources=(f"{_REPOSITORY}/math/margin.rs", f"{_REPOSITORY}/state/perp_market.rs"),
    measure="margin",
    published=True,
    cases="accounts of the program's own tests: balances, open orders, perpetuals, custom ratios",
)
WEIGHTS: Final = RuleInfo(
    name="drift_v2_weights",
    version="2, commit 0ae3e3b of its tests",
    title="Drift v2 size-scaled weights",
    sources=(f"{_REPOSITORY}/math/margin.rs", f"{_REPOSITORY}/state/spot_market.rs"),
    measure="margin",
    published=True,
    cases="asset and liability weights by size, requirement and deposits of the program's own tests",
)
LIQUIDATION: Final = RuleInfo(
    name="drift_v2_liquidation_sizing",
    version="2, commit 0ae3e3b of its tests",
    title="Drift v2 liquidation sizes, fees and shared losses",
    sources=(f"{_REPOSITORY}/math/liquidation.rs",),
    measure="margin",
    published=True,
    cases="sizes, transfers, fees and loss sharing of the program's own tests; of the share by time only that small shortages are at once",
)

INITIAL: Final = 0
FILL: Final = 1  # half way between initial and maintenance
MAINTENANCE: Final = 2

WEIGHT_PRECISION: Final = 10_000
IMF_PRECISION: Final = 1_000_000
BASE_PRECISION: Final = 1_000_000_000
PRICE_PRECISION: Final = 1_000_000
QUOTE_PRECISION: Final = 1_000_000
FEE_PRECISION: Final = 1_000_000
INTEREST_PRECISION: Final = 10_000_000_000
SLOT_FEE: Final = 1  # of FEE_PRECISION, that a liquidation fee grows by in each slot
FEE_GRACE_SLOTS: Final = 1_500
AT_ONCE_USD: Final = 50  # a smaller shortage is covered at once
PROFIT_CAP_USD: Final = 100.0  # of a perpetual, at initial
ORDER_USD: Final = 0.01  # required for each open order

AssetWeight = Annotated[float, Meta(ge=0.0, le=1.0)]
LiabilityWeight = Annotated[float, Meta(ge=1.0, le=100.0)]
Ratio = Annotated[float, Meta(gt=0.0, le=1.0)]
ImfFactor = Annotated[float, Meta(ge=0.0, le=1.0)]


# ---- parameters -----------------------------------------------------------------------------------------------------------------------


class SpotParameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A spot market, decimals. The first of a set is the quote, which stays at the defaults."""

    name: ListedName
    initial_asset_weight: AssetWeight = 1.0
    maintenance_asset_weight: AssetWeight = 1.0
    initial_liability_weight: LiabilityWeight = 1.0
    maintenance_liability_weight: LiabilityWeight = 1.0
    imf_factor: ImfFactor = 0.0
    scale_initial_asset_weight_start_usd: Annotated[float, Meta(ge=0.0, le=1e18)] = 0.0  # 0: never

    def __post_init__(self) -> None:
        """ValueError where initial is milder than maintenance."""
        milder = self.initial_asset_weight > self.maintenance_asset_weight
        if milder or self.initial_liability_weight < self.maintenance_liability_weight:
            raise ValueError("initial weights must not be milder than maintenance weights")


class PerpParameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A perpetual market, decimals."""

    name: ListedName
    margin_ratio_initial: Ratio
    margin_ratio_maintenance: Ratio
    imf_factor: ImfFactor = 0.0
    unrealized_pnl_initial_asset_weight: AssetWeight = 1.0
    unrealized_pnl_maintenance_asset_weight: AssetWeight = 1.0
    unrealized_pnl_imf_factor: ImfFactor = 0.0

    def __post_init__(self) -> None:
        """ValueError where initial is milder than maintenance."""
        if self.margin_ratio_initial < self.margin_ratio_maintenance:
            raise ValueError("the initial margin ratio must not be below the maintenance margin ratio")


class Parameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All markets; accounts name them by position, spot market 0 is the quote."""

    spots: Annotated[tuple[SpotParameters, ...], Meta(min_length=1, max_length=LISTED_MAX)]
    perps: Annotated[tuple[PerpParameters, ...], Meta(max_length=LISTED_MAX)] = ()

    def __post_init__(self) -> None:
        """ValueError where the quote has weights."""
        if self.spots and self.spots[0] != SpotParameters(name=self.spots[0].name):
            raise ValueError(f"{self.spots[0].name}, the first spot market, is the quote and must have its defaults")


class Terms(NamedTuple):
    """Parameters as kernels take them: two rows (initial, maintenance) by market, or (markets,)."""

    spot_asset_weight: Floats
    spot_liability_weight: Floats
    spot_imf: Floats
    spot_scale_start_usd: Floats
    perp_ratio: Floats
    perp_imf: Floats
    pnl_weight: Floats
    pnl_imf: Floats


def terms(parameters: Parameters) -> Terms:
    """`parameters` as arrays; made once for each set."""
    spots, perps = parameters.spots, parameters.perps

    def two(initial: list[float], maintenance: list[float]) -> Floats:
        return np.array([initial, maintenance], dtype=np.float64).reshape(2, len(initial))

    return Terms(
        spot_asset_weight=two([one.initial_asset_weight for one in spots], [one.maintenance_asset_weight for one in spots]),
        spot_liability_weight=two([one.initial_liability_weight for one in spots], [one.maintenance_liability_weight for one in spots]),
        spot_imf=np.array([one.imf_factor for one in spots], dtype=np.float64),
        spot_scale_start_usd=np.array([one.scale_initial_asset_weight_start_usd for one in spots], dtype=np.float64),
        perp_ratio=two([one.margin_ratio_initial for one in perps], [one.margin_ratio_maintenance for one in perps]),
        perp_imf=np.array([one.imf_factor for one in perps], dtype=np.float64),
        pnl_weight=two(
            [one.unrealized_pnl_initial_asset_weight for one in perps], [one.unrealized_pnl_maintenance_asset_weight for one in perps]
        ),
        pnl_imf=np.array([one.unrealized_pnl_imf_factor for one in perps], dtype=np.float64),
    )


class Inputs(NamedTuple):
    """Accounts and prices. Amounts in whole tokens and base units, signs as held, prices in USD.

    Two kinds of legs, with offsets (accounts + 1,) each: spot balances and perpetuals. Markets are positions in `Parameters`; spot
    market 0 is the quote. A perpetual's quote is what was paid for its base, less funding owed.
    """

    spot_start: Integers
    spot: Integers
    spot_balance: Floats
    spot_bids: Floats  # tokens in open bids and asks, both >= 0
    spot_asks: Floats
    spot_orders: Integers  # number of open orders
    perp_start: Integers
    perp: Integers
    perp_base: Floats
    perp_quote: Floats
    perp_bids: Floats
    perp_asks: Floats
    perp_orders: Integers
    custom_ratio: Floats  # (accounts,) the account's own least margin ratio, at initial alone; 0: none
    spot_usd: Floats  # (spot markets,)
    spot_deposits: Floats  # tokens, of all accounts
    perp_usd: Floats  # (perpetual markets,)


def require_indices(inputs: Inputs, parameters: Terms) -> None:
    """The kernels do not check indices: ValueError says which of `inputs` has another shape or points outside of what it points into."""
    accounts, spots, perps = len(inputs.custom_ratio), len(parameters.spot_imf), len(parameters.perp_imf)
    require_legs("spot_start", inputs.spot_start, accounts, inputs[1:6])
    require_legs("perp_start", inputs.perp_start, accounts, inputs[7:13])
    require_within("spot", inputs.spot, spots)
    require_within("perp", inputs.perp, perps)
    require_each(accounts, [("custom_ratio", inputs.custom_ratio)])
    require_each(spots, [("spot_usd", inputs.spot_usd), ("spot_deposits", inputs.spot_deposits)])
    require_each(perps, [("perp_usd", inputs.perp_usd)])


# ---- weights --------------------------------------------------------------------------------------------------------------------------


@kernel
def size_discounted_weight(weight: float, size: float, imf_factor: float) -> float:
    """Asset weight at a size in tokens: min(weight, 1.1 / (1 + f sqrt(size))), cut off as the program does. Decimals."""
    if imf_factor == 0.0:
        return weight
    grown = np.floor(_root(size) * np.rint(imf_factor * IMF_PRECISION) / 100_000.0)
    discounted = np.floor((IMF_PRECISION + IMF_PRECISION // 10) * WEIGHT_PRECISION / (IMF_PRECISION + grown))
    return float(np.minimum(weight, discounted / WEIGHT_PRECISION))


@kernel
def size_premium_weight(weight: float, size: float, imf_factor: float) -> float:
    """Liability weight, or margin ratio, at a size: max(weight, 0.8 weight + f sqrt(size)), cut off as the program does. Decimals."""
    if imf_factor == 0.0:
        return weight
    whole = np.rint(weight * WEIGHT_PRECISION)
    grown = np.floor(_root(size) * np.rint(imf_factor * IMF_PRECISION) / (100_000.0 * IMF_PRECISION / WEIGHT_PRECISION))
    return float(np.maximum(weight, (whole - np.floor(whole / 5.0) + grown) / WEIGHT_PRECISION))


@kernel
def scaled_initial_asset_weight(weight: float, deposits_usd: float, scale_start_usd: float) -> float:
    """Initial asset weight where all deposits are worth `deposits_usd`; a start of 0: never scaled. Decimals."""
    if scale_start_usd == 0.0 or deposits_usd < scale_start_usd:
        return weight
    return float(np.floor(np.rint(weight * WEIGHT_PRECISION) * scale_start_usd / deposits_usd) / WEIGHT_PRECISION)


@kernel
def weight_between(initial: float, maintenance: float, level: int) -> float:
    """The weight at INITIAL, FILL or MAINTENANCE; at a fill half way, cut off. Decimals."""
    if level == INITIAL:
        return initial
    if level == MAINTENANCE:
        return maintenance
    return float(np.floor((np.rint(initial * WEIGHT_PRECISION) + np.rint(maintenance * WEIGHT_PRECISION)) / 2.0) / WEIGHT_PRECISION)


@kernel
def _root(size: float) -> float:
    """The square root in 1e-5, cut off; the program adds the smallest unit first."""
    return float(np.floor(np.sqrt(np.rint(size * BASE_PRECISION) * 10.0 + 1.0)))


# ---- margins --------------------------------------------------------------------------------------------------------------------------


@kernel
def margins(inputs: Inputs, parameters: Terms, out: Floats) -> None:
    """Fills `out` (accounts, 4), columns of engine.rules.interface. Indices are not checked: `require_indices` first.

    Equity is spot and perpetuals' profit and loss at the oracle. Initial and maintenance are equity less free collateral at each, so
    that the weights of assets are in the requirement. Gross notional is spot and perpetuals' base without signs.
    """
    accounts = len(inputs.spot_start) - 1
    initial_usd, maintenance_usd = np.empty(accounts), np.empty(accounts)  # what is left at each
    _free_collaterals(inputs, parameters, INITIAL, initial_usd)
    _free_collaterals(inputs, parameters, MAINTENANCE, maintenance_usd)
    worth_usd, gross_usd = _equities(inputs)
    for account in range(accounts):
        equity_usd = worth_usd[account]
        write_row(out, account, equity_usd, equity_usd - initial_usd[account], equity_usd - maintenance_usd[account], gross_usd[account])


def parts(inputs: Inputs, parameters: Terms, account: int, level: int = INITIAL) -> list[tuple[str, float]]:
    """What an account's free collateral at `level` is made of, USD: total collateral and margin requirement of each market; the sum."""
    found: list[tuple[str, float]] = []
    free_usd = 0.0
    asset_weight, liability_weight = _spot_weights(inputs, parameters, level)
    ratio, profit_weight = _perp_weights(parameters, level)
    custom = float(inputs.custom_ratio[account]) if level == INITIAL else 0.0
    for leg in range(int(inputs.spot_start[account]), int(inputs.spot_start[account + 1])):
        market = int(inputs.spot[leg])
        collateral_usd, required_usd = _spot(
            inputs.spot_balance[leg],
            inputs.spot_bids[leg],
            inputs.spot_asks[leg],
            inputs.spot_orders[leg],
            inputs.spot_usd[market],
            asset_weight[market],
            liability_weight[market],
            parameters.spot_imf[market],
            0.0 if market == 0 else custom,
        )
        found.append((f"spot {market}, total collateral", float(collateral_usd)))
        found.append((f"spot {market}, margin requirement", -float(required_usd)))
        free_usd += float(collateral_usd - required_usd)
    for leg in range(int(inputs.perp_start[account]), int(inputs.perp_start[account + 1])):
        market = int(inputs.perp[leg])
        collateral_usd, required_usd = _perp(
            inputs.perp_base[leg],
            inputs.perp_quote[leg],
            inputs.perp_bids[leg],
            inputs.perp_asks[leg],
            inputs.perp_orders[leg],
            inputs.perp_usd[market],
            inputs.spot_usd[0],
            ratio[market],
            parameters.perp_imf[market],
            profit_weight[market],
            0.0 if level == MAINTENANCE else parameters.pnl_imf[market],
            custom,
            PROFIT_CAP_USD if level == INITIAL else np.inf,
        )
        found.append((f"perp {market}, total collateral", float(collateral_usd)))
        found.append((f"perp {market}, margin requirement", -float(required_usd)))
        free_usd += float(collateral_usd - required_usd)
    return [*found, ("free collateral", free_usd)]


@kernel
def _free_collaterals(inputs: Inputs, parameters: Terms, level: int, out: Floats) -> None:
    """Free collateral in USD into `out` (accounts,). Arrays are taken out of their tuples once: each use of a tuple's field costs."""
    spot_start, perp_start, custom_ratio = inputs.spot_start, inputs.perp_start, inputs.custom_ratio
    spots, spot_balance, spot_bids = inputs.spot, inputs.spot_balance, inputs.spot_bids
    spot_asks, spot_orders, spot_usd, spot_imf = inputs.spot_asks, inputs.spot_orders, inputs.spot_usd, parameters.spot_imf
    perps, perp_base, perp_quote, perp_bids = inputs.perp, inputs.perp_base, inputs.perp_quote, inputs.perp_bids
    perp_asks, perp_orders, perp_usd = inputs.perp_asks, inputs.perp_orders, inputs.perp_usd
    perp_imf, pnl_imf = parameters.perp_imf, parameters.pnl_imf
    asset_weight, liability_weight = _spot_weights(inputs, parameters, level)
    ratio, profit_weight = _perp_weights(parameters, level)
    profit_cap_usd = PROFIT_CAP_USD if level == INITIAL else np.inf
    for account in range(len(spot_start) - 1):
        free_usd = custom_ratio[account] * 0.0  # NaN where that is not known, whatever is held
        custom = custom_ratio[account] if level == INITIAL else 0.0
        for leg in range(spot_start[account], spot_start[account + 1]):
            market = spots[leg]
            collateral_usd, required_usd = _spot(
                spot_balance[leg],
                spot_bids[leg],
                spot_asks[leg],
                spot_orders[leg],
                spot_usd[market],
                asset_weight[market],
                liability_weight[market],
                spot_imf[market],
                0.0 if market == 0 else custom,
            )
            free_usd += collateral_usd - required_usd
        for leg in range(perp_start[account], perp_start[account + 1]):
            market = perps[leg]
            collateral_usd, required_usd = _perp(
                perp_base[leg],
                perp_quote[leg],
                perp_bids[leg],
                perp_asks[leg],
                perp_orders[leg],
                perp_usd[market],
                spot_usd[0],
                ratio[market],
                perp_imf[market],
                profit_weight[market],
                0.0 if level == MAINTENANCE else pnl_imf[market],
                custom,
                profit_cap_usd,
            )
            free_usd += collateral_usd - required_usd
        out[account] = free_usd


@kernel
def _spot_weights(inputs: Inputs, parameters: Terms, level: int) -> tuple[Floats, Floats]:
    """(asset, liability) weights (spot markets,) at a level, before size."""
    assets, liabilities = parameters.spot_asset_weight, parameters.spot_liability_weight
    markets = assets.shape[1]
    asset_weight, liability_weight = np.empty(markets), np.empty(markets)
    for market in range(markets):
        deposits_usd = inputs.spot_deposits[market] * inputs.spot_usd[market]
        initial = scaled_initial_asset_weight(assets[0, market], deposits_usd, parameters.spot_scale_start_usd[market])
        asset_weight[market] = weight_between(initial, assets[1, market], level)
        liability_weight[market] = weight_between(liabilities[0, market], liabilities[1, market], level)
    return asset_weight, liability_weight


@kernel
def _perp_weights(parameters: Terms, level: int) -> tuple[Floats, Floats]:
    """(margin ratios, weights of profit) (perpetual markets,) at a level, before size; a fill weighs profit as initial does."""
    ratios, weights = parameters.perp_ratio, parameters.pnl_weight
    markets = ratios.shape[1]
    ratio, profit_weight = np.empty(markets), np.empty(markets)
    for market in range(markets):
        ratio[market] = weight_between(ratios[0, market], ratios[1, market], level)
        profit_weight[market] = weights[1, market] if level == MAINTENANCE else weights[0, market]
    return ratio, profit_weight


@kernel
def _spot(
    balance: float,
    bids: float,
    asks: float,
    orders: int,
    price: float,
    asset_weight: float,
    liability_weight: float,
    imf: float,
    custom: float,
) -> tuple[float, float]:
    """(total collateral, margin requirement) of a spot balance with its open orders, USD."""
    bought_usd = _weighted_spot(balance + bids, price, asset_weight, liability_weight, imf, custom)
    sold_usd = _weighted_spot(balance - asks, price, asset_weight, liability_weight, imf, custom)
    if np.isnan(bought_usd + sold_usd):
        return np.nan, np.nan
    weighted_usd, orders_usd = sold_usd, asks * price
    if bought_usd - bids * price <= sold_usd + asks * price:  # where both leave as much, the program's client takes the bids
        weighted_usd, orders_usd = bought_usd, -bids * price
    collateral_usd, required_usd = 0.0, orders * ORDER_USD
    for value_usd in (weighted_usd, orders_usd):
        if value_usd < 0.0:
            required_usd -= value_usd
        else:
            collateral_usd += value_usd
    return collateral_usd, required_usd


@kernel
def _weighted_spot(tokens: float, price: float, asset_weight: float, liability_weight: float, imf: float, custom: float) -> float:
    if tokens < 0.0:
        weight = size_premium_weight(liability_weight, -tokens, imf)
        return tokens * price * float(np.maximum(weight, 1.0 + custom))
    weight = size_discounted_weight(asset_weight, tokens, imf)
    return tokens * price * float(np.minimum(weight, np.maximum(1.0 - custom, 0.0)))


@kernel
def _perp(
    base: float,
    quote: float,
    bids: float,
    asks: float,
    orders: int,
    price: float,
    quote_price: float,
    ratio: float,
    imf: float,
    profit_weight: float,
    profit_imf: float,
    custom: float,
    profit_cap_usd: float,
) -> tuple[float, float]:
    """(total collateral, margin requirement) of a perpetual with its open orders, USD."""
    worst = float(np.maximum(abs(base + bids), abs(base - asks)))
    ratio = float(np.maximum(size_premium_weight(ratio, worst, imf), custom))
    required_usd = worst * price * quote_price * ratio + orders * ORDER_USD
    profit = base * price + quote
    if profit > 0.0:
        profit *= size_discounted_weight(profit_weight, profit, profit_imf)
    return float(np.minimum(profit * quote_price, profit_cap_usd)), required_usd


@kernel
def _equities(inputs: Inputs) -> tuple[Floats, Floats]:
    """(accounts,) each: marked to the oracle, and gross notional; both USD."""
    spot_start, spots, spot_balance, spot_usd = inputs.spot_start, inputs.spot, inputs.spot_balance, inputs.spot_usd
    perp_start, perps, perp_base = inputs.perp_start, inputs.perp, inputs.perp_base
    perp_quote, perp_usd = inputs.perp_quote, inputs.perp_usd
    accounts = len(spot_start) - 1
    worth_usd, gross_usd = np.zeros(accounts), np.zeros(accounts)
    for account in range(accounts):
        for leg in range(spot_start[account], spot_start[account + 1]):
            value_usd = spot_balance[leg] * spot_usd[spots[leg]]
            worth_usd[account] += value_usd
            gross_usd[account] += abs(value_usd)
        for leg in range(perp_start[account], perp_start[account + 1]):
            value_usd = perp_base[leg] * perp_usd[perps[leg]] * spot_usd[0]
            worth_usd[account] += value_usd + perp_quote[leg] * spot_usd[0]
            gross_usd[account] += abs(value_usd)
    return worth_usd, gross_usd


# ---- liquidation ----------------------------------------------------------------------------------------------------------------------
# Whole numbers: USD and quote in 1e-6, prices in 1e-6 USD, base of perpetuals in 1e-9, tokens in 10^-decimals, weights and margin ratios in
# 1e-4, fees and multipliers in 1e-6. None: there is no bound, the whole may be liquidated.


def perp_base_to_cover_shortage(
    shortage: int, *, margin_ratio: int, liquidation_fee: int, insurance_fee: int, price: int, quote_price: int
) -> int | None:
    """Base of a perpetual whose closing frees `shortage` of margin, after what liquidator and insurance fund take."""
    freed = margin_ratio * (FEE_PRECISION // WEIGHT_PRECISION) - liquidation_fee
    if price == 0 or freed <= 0:
        return None
    by_base = price * quote_price // PRICE_PRECISION * freed // FEE_PRECISION - price * insurance_fee // FEE_PRECISION
    return None if by_base <= 0 else shortage * BASE_PRECISION // by_base


def liability_to_cover_shortage(
    shortage: int,
    *,
    asset_weight: int,
    asset_multiplier: int,
    liability_weight: int,
    liability_multiplier: int,
    liability_decimals: int,
    price: int,
    insurance_fee: int,
) -> int | None:
    """Tokens of a liability whose repayment out of an asset frees `shortage` of margin, at least the smallest unit."""
    if asset_weight >= liability_weight:
        return None
    assets = asset_weight * 10 * asset_multiplier // liability_multiplier
    if assets >= liability_weight * 10:
        return None
    by_token = price * (liability_weight * 10 - assets) - price * insurance_fee // FEE_PRECISION * liability_weight * 10
    if by_token <= 0:
        return None
    return max(_to_decimals(shortage, 6, liability_decimals, PRICE_PRECISION * WEIGHT_PRECISION * 10, by_token), 1)


def liability_for_asset(
    asset: int,
    *,
    asset_multiplier: int,
    asset_decimals: int,
    asset_price: int,
    liability_multiplier: int,
    liability_decimals: int,
    liability_price: int,
) -> int:
    """Tokens of a liability that must be repaid for `asset` tokens, rounded up."""
    up, down = _scales(asset_decimals, liability_decimals)
    repaid = _divide_up(asset * up * asset_price * liability_multiplier, liability_price * asset_multiplier)
    return _divide_up(repaid, down)


def asset_for_liability(
    liability: int,
    *,
    asset_balance: int,
    asset_multiplier: int,
    asset_decimals: int,
    asset_price: int,
    liability_multiplier: int,
    liability_decimals: int,
    liability_price: int,
) -> int:
    """Tokens of an asset that are taken for `liability` repaid, at least the smallest unit.

    The whole balance where what is taken is less than a dollar away from it. The program values the difference as if a token had
    12 - `asset_decimals` of them: right for 6 alone, and of 9 decimals a millionth of a dollar is too far.
    """
    taken = _to_decimals(
        liability, liability_decimals, asset_decimals, liability_price * asset_multiplier, asset_price * liability_multiplier
    )
    taken = max(taken, 1)
    up, down = _scales(6, asset_decimals)
    apart_usd = abs(taken - asset_balance) * asset_price // PRICE_PRECISION * up // down
    return asset_balance if apart_usd < QUOTE_PRECISION else taken


def perp_insurance_fee(
    shortage: int, *, base: int, margin_ratio: int, liquidator_fee: int, price: int, quote_price: int, fee_max: int
) -> int:
    """The insurance fund's fee that the position can still bear, less a twentieth, at most `fee_max`."""
    ratio = margin_ratio * (FEE_PRECISION // WEIGHT_PRECISION)
    value_price = price * quote_price // PRICE_PRECISION
    if value_price == 0 or base == 0 or ratio <= liquidator_fee:
        return 0
    needed = shortage * BASE_PRECISION // base * PRICE_PRECISION // value_price
    return min(fee_max, max(ratio - liquidator_fee - needed, 0) * 19 // 20)


def spot_insurance_fee(
    shortage: int,
    *,
    tokens: int,
    asset_weight: int,
    asset_multiplier: int,
    liability_weight: int,
    liability_multiplier: int,
    liability_decimals: int,
    price: int,
    fee_max: int,
) -> int:
    """The insurance fund's fee that a repayment of `tokens` can still bear, at most `fee_max`."""
    if asset_weight >= liability_weight or price == 0 or tokens == 0 or liability_multiplier == 0:
        return 0
    scale = FEE_PRECISION // WEIGHT_PRECISION
    left = max(liability_weight * scale - asset_weight * scale * asset_multiplier // liability_multiplier, 0)
    needed = shortage * FEE_PRECISION * int(10**liability_decimals) // tokens // price
    return min(fee_max, max(left - needed, 0) * FEE_PRECISION // (liability_weight * scale))


def liquidation_fee(base_fee: int, *, fee_max: int, slots: int) -> int:
    """The liquidator's fee `slots` after the account was last active: grows after a grace period, to at most `fee_max`."""
    return base_fee if slots < FEE_GRACE_SLOTS else min(base_fee + slots * SLOT_FEE, fee_max)


def share_to_liquidate(shortage: int, *, freed: int, slots: int, duration_slots: int, initial_share: int) -> int:
    """The share of a shortage that may be covered now, in 1e-4: all of a small one; else what time has released, less what is freed."""
    if shortage < AT_ONCE_USD * QUOTE_PRECISION:
        return WEIGHT_PRECISION
    released = WEIGHT_PRECISION if duration_slots == 0 else slots * WEIGHT_PRECISION // duration_slots
    released = min(released + initial_share, WEIGHT_PRECISION)
    return max((shortage + freed) * released // WEIGHT_PRECISION - freed, 0) * WEIGHT_PRECISION // shortage


def funding_delta_for_loss(loss: int, *, base_long: int, base_short: int) -> int:
    """A perpetual's bankrupt loss spread over all base, as a change of the cumulative funding rate (1e-9), rounded up.

    ValueError where there is no base to bear it.
    """
    base = abs(base_long) + abs(base_short)
    if base == 0:
        raise ValueError("a loss cannot be shared where nobody has a position")
    return _divide_up(abs(loss) * BASE_PRECISION, base) * 1_000


def interest_delta_for_loss(borrow: int, *, cumulative_interest: int, deposits: int) -> int:
    """A token's unpaid borrow spread over all deposits, as a fall of their cumulative interest (1e-10), rounded up; 0 without deposits."""
    return 0 if deposits == 0 else _divide_up(cumulative_interest * borrow, deposits)


def _to_decimals(amount: int, have: int, want: int, numerator: int, denominator: int) -> int:
    """amount x numerator / denominator in other decimals, cut off."""
    up, down = _scales(have, want)
    return amount * up * numerator // denominator // down


def _scales(have: int, want: int) -> tuple[int, int]:
    return int(10 ** max(want - have, 0)), int(10 ** max(have - want, 0))


def _divide_up(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
