"""Mango v4: health of accounts with tokens, spot open orders and perpetuals; the stable price; what a liquidator may take.

**Health** is a sum in USD, and the venue computes it three times: *init* below zero refuses new risk, *maint* below zero starts a
liquidation, which goes on until *liquidation end* is at zero again.

- A token's balance counts at asset weight x price where it is positive and at liability weight x price where it is negative. Init uses
  the lower (assets) or higher (liabilities) of oracle and stable price, and weights that shrink or grow where all deposits or
  borrows of a token are worth more than a stated amount; the other two use the oracle. Liquidation end has init's weights, unscaled.
- A perpetual gives to its settlement token's balance: quote plus the worse of two cases, all bids filled or all asks, each with the
  base position weighted by its sign; times the market's overall weight where that is positive.
- What is reserved in a spot market's open orders may turn out all base or all quote. Both are tried for each market alone, as if every
  other market's orders had turned into the token at hand as well, and the worse is added; where the account's own best bid or
  ask is known, the conversion is not better than at that price.

Sources: blockworks-foundation/mango-v4, programs/mango-v4/src/health/cache.rs (health), state/bank.rs (scaled weights),
state/stable_price.rs (stable price), instructions/token_liq_with_token.rs (liquidation).
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

_REPOSITORY: Final = "https://github.com/blockworks-foundation/mango-v4/blob/main/programs/mango-v4/src"

RULE: Final = RuleInfo(
    name="mango_v4",
    version="0.24",
    title="Mango v4 health",
    sources=(f"{_REPOSITORY}/health/cache.rs", f"{_REPOSITORY}/state/bank.rs"),
    measure="margin",
    published=True,
    cases="init health of the program's own tests: open orders, perpetuals, scaled weights",
)
STABLE_PRICE: Final = RuleInfo(
    name="mango_v4_stable_price",
    version="0.24",
    title="Mango v4 stable price",
    sources=(f"{_REPOSITORY}/state/stable_price.rs",),
    measure="margin",
    published=True,
    cases="a tenfold jump over 25 hours, and an hour's average, of the program's own tests",
)
LIQUIDATION: Final = RuleInfo(
    name="mango_v4_liquidation",
    version="0.24",
    title="Mango v4: a token liability against a token asset",
    sources=(f"{_REPOSITORY}/instructions/token_liq_with_token.rs",),
    measure="margin",
    published=False,
    cases="none are published",
)

INIT: Final = 0
LIQUIDATION_END: Final = 1
MAINT: Final = 2
LEVELS: Final = 3

AssetWeight = Annotated[float, Meta(ge=0.0, le=1.0)]
LiabilityWeight = Annotated[float, Meta(ge=1.0, le=1_000.0)]
ScaleStartUsd = Annotated[float, Meta(ge=0.0, le=1e18)]
Fee = Annotated[float, Meta(ge=0.0, le=1.0)]
Growth = Annotated[float, Meta(ge=0.0, le=1_000.0)]


# ---- parameters -----------------------------------------------------------------------------------------------------------------------


class TokenParameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A bank. 1e18 as the start of scaling: never."""

    name: str
    init_asset_weight: AssetWeight
    maint_asset_weight: AssetWeight
    init_liab_weight: LiabilityWeight
    maint_liab_weight: LiabilityWeight
    deposit_weight_scale_start_usd: ScaleStartUsd = 1e18
    borrow_weight_scale_start_usd: Annotated[float, Meta(gt=0.0, le=1e18)] = 1e18
    liquidation_fee: Fee = 0.0

    def __post_init__(self) -> None:
        """ValueError where init is milder than maint."""
        if self.init_asset_weight > self.maint_asset_weight or self.init_liab_weight < self.maint_liab_weight:
            raise ValueError("init weights must not be milder than maint weights")


class PerpParameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A perpetual market; `settle_token` is the position of a token in the set."""

    name: str
    settle_token: Annotated[int, Meta(ge=0)]
    init_base_asset_weight: AssetWeight
    maint_base_asset_weight: AssetWeight
    init_base_liab_weight: LiabilityWeight
    maint_base_liab_weight: LiabilityWeight
    init_overall_asset_weight: AssetWeight
    maint_overall_asset_weight: AssetWeight

    def __post_init__(self) -> None:
        """ValueError where init is milder than maint."""
        milder = self.init_base_asset_weight > self.maint_base_asset_weight
        milder = milder or self.init_base_liab_weight < self.maint_base_liab_weight
        if milder or self.init_overall_asset_weight > self.maint_overall_asset_weight:
            raise ValueError("init weights must not be milder than maint weights")


class Parameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All of a group's tokens and perpetual markets; accounts name them by position."""

    tokens: tuple[TokenParameters, ...]
    perps: tuple[PerpParameters, ...] = ()

    def __post_init__(self) -> None:
        """ValueError where a perpetual settles in a token that is not there."""
        for perp in self.perps:
            if perp.settle_token >= len(self.tokens):
                raise ValueError(f"{perp.name} settles in token {perp.settle_token} of {len(self.tokens)}")


class ParameterArrays(NamedTuple):
    """Parameters as kernels take them. (LEVELS, tokens) and (LEVELS, perps), the rest (tokens,) or (perps,)."""

    asset_weight: Floats
    liab_weight: Floats
    deposit_scale_start_usd: Floats
    borrow_scale_start_usd: Floats
    settle_token: Integers
    base_asset_weight: Floats
    base_liab_weight: Floats
    overall_weight: Floats


def parameter_arrays(parameters: Parameters) -> ParameterArrays:
    """`parameters` as arrays; made once for each set."""
    tokens, perps = parameters.tokens, parameters.perps

    def by_level(init: list[float], maint: list[float]) -> Floats:
        return np.array([init, init, maint], dtype=np.float64).reshape(LEVELS, len(init))

    return ParameterArrays(
        asset_weight=by_level([one.init_asset_weight for one in tokens], [one.maint_asset_weight for one in tokens]),
        liab_weight=by_level([one.init_liab_weight for one in tokens], [one.maint_liab_weight for one in tokens]),
        deposit_scale_start_usd=np.array([one.deposit_weight_scale_start_usd for one in tokens], dtype=np.float64),
        borrow_scale_start_usd=np.array([one.borrow_weight_scale_start_usd for one in tokens], dtype=np.float64),
        settle_token=np.array([one.settle_token for one in perps], dtype=np.int64),
        base_asset_weight=by_level([one.init_base_asset_weight for one in perps], [one.maint_base_asset_weight for one in perps]),
        base_liab_weight=by_level([one.init_base_liab_weight for one in perps], [one.maint_base_liab_weight for one in perps]),
        overall_weight=by_level([one.init_overall_asset_weight for one in perps], [one.maint_overall_asset_weight for one in perps]),
    )


class Inputs(NamedTuple):
    """Accounts and prices. Amounts are in whole tokens (base units of a perpetual), prices in USD, signs as held: a borrow is negative.

    Three kinds of legs, each with offsets of its own (accounts + 1,): token balances, spot markets with open orders, perpetuals.
    Tokens and perpetuals are positions in `Parameters`. A token's balance has what is free in open orders. `perp_quote` has
    what takers have traded and not yet settled, less funding owed, as `perp_base` does.
    """

    token_start: Integers
    token: Integers
    token_balance: Floats
    order_start: Integers
    order_base_token: Integers
    order_quote_token: Integers
    order_base_reserved: Floats
    order_quote_reserved: Floats
    order_highest_bid: Floats  # of the account's own orders, quote for one base; 0: not known
    order_lowest_ask: Floats
    perp_start: Integers
    perp: Integers
    perp_base: Floats
    perp_quote: Floats
    perp_bids: Floats  # base units in open bids and asks, both >= 0
    perp_asks: Floats
    # (tokens,): prices, and what all accounts of the bank together hold and owe (whole tokens), for scaled weights
    oracle_usd: Floats
    stable_usd: Floats
    deposits: Floats
    borrows: Floats
    potential_order_tokens: Floats  # what open orders of all accounts could turn into deposits
    perp_oracle_usd: Floats  # (perps,), as the next
    perp_stable_usd: Floats


class _Work(NamedTuple):
    """Made once a call: prices x weights (LEVELS, tokens), and what one account's sum needs (tokens,) and (orders,)."""

    asset_price: Floats
    liab_price: Floats
    asset_weight: Floats
    liab_weight: Floats
    balance: Floats
    reserved: Floats
    seen: Integers  # the account and level that a token's `balance` and `reserved` belong to
    touched: Integers
    token_health: Floats
    order_health: Floats


# ---- margins --------------------------------------------------------------------------------------------------------------------------


@kernel
def margins(inputs: Inputs, parameters: ParameterArrays, out: Floats) -> None:
    """Fills `out` (accounts, 4), columns of engine.rules.interface.

    Initial and maintenance are equity less init health and less maint health, so that what remains is the venue's own number. Gross
    notional, for the distance, is what tokens, reserved amounts and perpetuals' base are worth without signs.
    """
    work = _work(inputs, parameters)
    for account in range(inputs.token_start.shape[0] - 1):
        equity_usd, gross_usd = _equity(inputs, parameters, account)
        init_usd = _health(inputs, parameters, account, INIT, work)[0]
        maint_usd = _health(inputs, parameters, account, MAINT, work)[0]
        write_row(out, account, equity_usd, init_usd, maint_usd, gross_usd)


@kernel
def healths(inputs: Inputs, parameters: ParameterArrays, out: Floats) -> None:
    """Fills `out` (accounts, LEVELS) with init, liquidation end and maint health, USD."""
    work = _work(inputs, parameters)
    for account in range(inputs.token_start.shape[0] - 1):
        for level in range(LEVELS):
            out[account, level] = _health(inputs, parameters, account, level, work)[0]


def parts(inputs: Inputs, parameters: ParameterArrays, account: int, level: int = INIT) -> list[tuple[str, float]]:
    """What an account's health at `level` is made of, USD: each token with the perpetuals that settle in it, each spot market; the sum."""
    work = _work(inputs, parameters)
    health_usd, touched = _health(inputs, parameters, account, level, work)
    found = [(f"token {int(token)}", float(work.token_health[token])) for token in work.touched[:touched]]
    for order in range(int(inputs.order_start[account]), int(inputs.order_start[account + 1])):
        base, quote = int(inputs.order_base_token[order]), int(inputs.order_quote_token[order])
        found.append((f"open orders {base}/{quote}", float(work.order_health[order])))
    return [*found, (("init health", "liquidation end health", "maint health")[level], float(health_usd))]


@kernel
def scaled_asset_weight(weight: float, deposits_usd: float, scale_start_usd: float) -> float:
    """Init asset weight: as it is until all deposits are worth `scale_start_usd`, then such that weight x deposits stays the same."""
    if deposits_usd <= scale_start_usd:
        return weight
    return weight * (scale_start_usd / deposits_usd)


@kernel
def scaled_liab_weight(weight: float, borrows_usd: float, scale_start_usd: float) -> float:
    """Init liability weight: grows in proportion to all borrows once they are worth more than `scale_start_usd`."""
    if borrows_usd <= scale_start_usd:
        return weight
    return weight * (borrows_usd / scale_start_usd)


@kernel
def _work(inputs: Inputs, parameters: ParameterArrays) -> _Work:
    tokens = inputs.oracle_usd.shape[0]
    asset_price, liab_price = np.empty((LEVELS, tokens)), np.empty((LEVELS, tokens))
    asset_weight, liab_weight = parameters.asset_weight.copy(), parameters.liab_weight.copy()
    for token in range(tokens):
        oracle, stable = inputs.oracle_usd[token], inputs.stable_usd[token]
        for level in range(LEVELS):
            asset_price[level, token] = oracle
            liab_price[level, token] = oracle
        low, high = np.minimum(oracle, stable), np.maximum(oracle, stable)
        asset_price[INIT, token] = low
        liab_price[INIT, token] = high
        deposits_usd = (inputs.deposits[token] + inputs.potential_order_tokens[token]) * low
        asset_weight[INIT, token] = scaled_asset_weight(asset_weight[INIT, token], deposits_usd, parameters.deposit_scale_start_usd[token])
        borrows_usd = inputs.borrows[token] * high
        liab_weight[INIT, token] = scaled_liab_weight(liab_weight[INIT, token], borrows_usd, parameters.borrow_scale_start_usd[token])
    return _Work(
        asset_price,
        liab_price,
        asset_weight,
        liab_weight,
        np.zeros(tokens),
        np.zeros(tokens),
        np.full(tokens, -1, dtype=np.int64),
        np.zeros(tokens, dtype=np.int64),
        np.zeros(tokens),
        np.zeros(inputs.order_base_token.shape[0]),
    )


@kernel
def _touch(token: int, stamp: int, touched: int, work: _Work) -> int:
    """Empties a token's slot at its first use for this account and level; returns how many tokens are in use."""
    if work.seen[token] == stamp:
        return touched
    work.seen[token] = stamp
    work.balance[token] = 0.0
    work.reserved[token] = 0.0
    work.touched[touched] = token
    return touched + 1


@kernel
def _health(inputs: Inputs, parameters: ParameterArrays, account: int, level: int, work: _Work) -> tuple[float, int]:
    """Health in USD and the number of tokens that it is made of; leaves the contributions in `work`."""
    stamp, touched = account * LEVELS + level, 0
    for leg in range(inputs.token_start[account], inputs.token_start[account + 1]):
        token = inputs.token[leg]
        touched = _touch(token, stamp, touched, work)
        work.balance[token] += inputs.token_balance[leg]
    for leg in range(inputs.perp_start[account], inputs.perp_start[account + 1]):
        token = parameters.settle_token[inputs.perp[leg]]
        touched = _touch(token, stamp, touched, work)
        work.balance[token] += _perp_balance(inputs, parameters, leg, level)
    for order in range(inputs.order_start[account], inputs.order_start[account + 1]):
        base, quote = inputs.order_base_token[order], inputs.order_quote_token[order]
        touched = _touch(base, stamp, touched, work)
        touched = _touch(quote, stamp, touched, work)
        as_base, as_quote = _reserved(inputs, order, level, work)
        work.reserved[base] += as_base
        work.reserved[quote] += as_quote

    health_usd = 0.0
    for position in range(touched):
        token = work.touched[position]
        balance = work.balance[token]
        if balance < 0.0:
            found = balance * work.liab_weight[level, token] * work.liab_price[level, token]
        else:
            found = balance * work.asset_weight[level, token] * work.asset_price[level, token]
        work.token_health[token] = found
        health_usd += found
    for order in range(inputs.order_start[account], inputs.order_start[account + 1]):
        as_base, as_quote = _reserved(inputs, order, level, work)
        found = 0.0
        if as_base != 0.0 or as_quote != 0.0:
            in_base = _reserved_effect(inputs.order_base_token[order], as_base, level, work)
            in_quote = _reserved_effect(inputs.order_quote_token[order], as_quote, level, work)
            found = np.minimum(in_base, in_quote)
        work.order_health[order] = found
        health_usd += found
    return health_usd, touched


@kernel
def _perp_balance(inputs: Inputs, parameters: ParameterArrays, leg: int, level: int) -> float:
    """What a perpetual adds to its settlement token's balance."""
    perp = inputs.perp[leg]
    low = high = inputs.perp_oracle_usd[perp]
    if level == INIT:
        low = np.minimum(inputs.perp_oracle_usd[perp], inputs.perp_stable_usd[perp])
        high = np.maximum(inputs.perp_oracle_usd[perp], inputs.perp_stable_usd[perp])
    bids, asks = inputs.perp_bids[leg], inputs.perp_asks[leg]
    bought = _base_health(parameters, perp, inputs.perp_base[leg] + bids, level, low, high) - bids * high
    sold = _base_health(parameters, perp, inputs.perp_base[leg] - asks, level, low, high) + asks * low
    unweighted = float(inputs.perp_quote[leg] + np.minimum(bought, sold))
    if unweighted > 0.0:
        return unweighted * float(parameters.overall_weight[level, perp])
    return unweighted


@kernel
def _base_health(parameters: ParameterArrays, perp: int, base: float, level: int, low: float, high: float) -> float:
    if base < 0.0:
        return base * float(parameters.base_liab_weight[level, perp]) * high
    return base * float(parameters.base_asset_weight[level, perp]) * low


@kernel
def _reserved(inputs: Inputs, order: int, level: int, work: _Work) -> tuple[float, float]:
    """What is reserved in a spot market, all of it as base, and all of it as quote."""
    base, quote = inputs.order_base_token[order], inputs.order_quote_token[order]
    base_reserved, quote_reserved = inputs.order_base_reserved[order], inputs.order_quote_reserved[order]
    bought = quote_reserved * work.asset_price[level, quote] / work.liab_price[level, base]
    bid = inputs.order_highest_bid[order]
    if bid != 0.0:
        bought = np.minimum(bought, quote_reserved / bid)
    sold = base_reserved * work.asset_price[level, base] / work.liab_price[level, quote]
    ask = inputs.order_lowest_ask[order]
    if ask != 0.0:
        sold = np.minimum(sold, base_reserved * ask)
    return base_reserved + bought, quote_reserved + sold


@kernel
def _reserved_effect(token: int, amount: float, level: int, work: _Work) -> float:
    """Health gained where `amount` is the last to be added to the token, after every other order of the account."""
    most = work.balance[token] + work.reserved[token]
    if most >= amount:
        as_asset, as_liability = amount, 0.0
    elif most < 0.0:
        as_asset, as_liability = 0.0, amount
    else:
        as_asset, as_liability = most, amount - most
    asset_usd = as_asset * work.asset_weight[level, token] * work.asset_price[level, token]
    return float(asset_usd + as_liability * work.liab_weight[level, token] * work.liab_price[level, token])


@kernel
def _equity(inputs: Inputs, parameters: ParameterArrays, account: int) -> tuple[float, float]:
    """Marked to the oracle without weights, and gross notional; both USD."""
    equity_usd = 0.0
    gross_usd = 0.0
    for leg in range(inputs.token_start[account], inputs.token_start[account + 1]):
        value_usd = inputs.token_balance[leg] * inputs.oracle_usd[inputs.token[leg]]
        equity_usd += value_usd
        gross_usd += abs(value_usd)
    for order in range(inputs.order_start[account], inputs.order_start[account + 1]):
        value_usd = inputs.order_base_reserved[order] * inputs.oracle_usd[inputs.order_base_token[order]]
        value_usd += inputs.order_quote_reserved[order] * inputs.oracle_usd[inputs.order_quote_token[order]]
        equity_usd += value_usd
        gross_usd += abs(value_usd)
    for leg in range(inputs.perp_start[account], inputs.perp_start[account + 1]):
        perp = inputs.perp[leg]
        settle_usd = inputs.oracle_usd[parameters.settle_token[perp]]
        value_usd = inputs.perp_base[leg] * inputs.perp_oracle_usd[perp] * settle_usd
        equity_usd += value_usd + inputs.perp_quote[leg] * settle_usd
        gross_usd += abs(value_usd)
    return equity_usd, gross_usd


# ---- liquidation ----------------------------------------------------------------------------------------------------------------------


class TokenLiquidation(NamedTuple):
    """What changes hands: the liquidator repays `liability` tokens and takes `asset` tokens."""

    liability: float
    asset: float


def token_liquidation(
    liquidation_end_health_usd: float,
    *,
    asset: TokenParameters,
    asset_balance: float,
    asset_usd: float,
    liability: TokenParameters,
    liability_balance: float,
    liability_usd: float,
) -> TokenLiquidation:
    """The most that may be liquidated of one liability against one asset: until liquidation end health is 0, or one of them is.

    Each token repaid adds its liability weight x price to health and costs what is handed over for it: its price with both tokens'
    fees on top, in the asset, at the asset's weight. Where that gains nothing only the balances bound it. Balances in tokens, the
    liability's negative; nothing is liquidated where health is not below zero; NaN where it is not known.
    """
    if liquidation_end_health_usd >= 0.0:
        return TokenLiquidation(0.0, 0.0)
    fees = (1.0 + asset.liquidation_fee) * (1.0 + liability.liquidation_fee)
    asset_for_one = liability_usd * fees / asset_usd
    gain_usd = liability_usd * (liability.init_liab_weight - fees * asset.init_asset_weight)
    most = np.minimum(-liability_balance, asset_balance / asset_for_one)
    if gain_usd > 0.0:
        most = np.minimum(most, -liquidation_end_health_usd / gain_usd)
    elif np.isnan(liquidation_end_health_usd + gain_usd):
        most = np.nan
    repaid = float(np.maximum(most, 0.0))
    return TokenLiquidation(repaid, repaid * float(asset_for_one))


# ---- stable price ---------------------------------------------------------------------------------------------------------------------


class StablePriceParameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How fast a stable price may follow its oracle; the defaults are the program's."""

    delay_interval_s: Annotated[int, Meta(ge=1, le=86_400)] = 3_600
    n_delay: Annotated[int, Meta(ge=1, le=1_000)] = 24
    delay_growth_limit: Growth = 0.06
    stable_growth_limit_per_s: Growth = 0.0003
    min_dt_s: Annotated[int, Meta(ge=1, le=3_600)] = 10
    max_dt_s: Annotated[int, Meta(ge=1, le=86_400)] = 600

    def __post_init__(self) -> None:
        """ValueError where no step is both long and short enough."""
        if self.max_dt_s < self.min_dt_s:
            raise ValueError("max_dt_s must not be less than min_dt_s")


class StableLimits(NamedTuple):
    """The parameters that the kernel takes."""

    delay_interval_s: int
    delay_growth_limit: float
    stable_growth_limit_per_s: float
    min_dt_s: int
    max_dt_s: int


class StablePrices(NamedTuple):
    """State of many markets (markets,): changed in place by `advance`. A `stable_usd` of 0 begins at the first price above 0."""

    stable_usd: Floats
    updated_s: Integers
    delay_usd: Floats  # (markets, n_delay), the price of each interval of the cycle
    average_usd_s: Floats  # price x seconds summed in this interval
    average_s: Integers
    interval: Integers  # of the cycle, at the last update


def stable_limits(parameters: StablePriceParameters) -> StableLimits:
    """What `advance` takes of a set."""
    return StableLimits(
        parameters.delay_interval_s,
        parameters.delay_growth_limit,
        parameters.stable_growth_limit_per_s,
        parameters.min_dt_s,
        parameters.max_dt_s,
    )


def stable_prices(parameters: StablePriceParameters, start_usd: Floats, now_s: int) -> StablePrices:
    """Markets (markets,) that have had these prices for ever."""
    markets = start_usd.shape[0]
    return StablePrices(
        stable_usd=start_usd.astype(np.float64),
        updated_s=np.full(markets, now_s, dtype=np.int64),
        delay_usd=np.repeat(start_usd.astype(np.float64)[:, None], parameters.n_delay, axis=1),
        average_usd_s=np.zeros(markets),
        average_s=np.zeros(markets, dtype=np.int64),
        interval=np.full(markets, (now_s // parameters.delay_interval_s) % parameters.n_delay, dtype=np.int64),
    )


@kernel
def advance(state: StablePrices, limits: StableLimits, oracle_usd: Floats, now_s: int) -> None:
    """Brings every market's stable price to `now_s`, seconds, with the oracle's prices (markets,).

    A price that is NaN changes nothing: the stable price stays and the market's next step is longer. Nothing happens before `min_dt_s`
    have passed; a longer gap than `max_dt_s` counts as that one, in the average too, whose time runs on (as in the program).
    """
    cycle = state.delay_usd.shape[1]
    for market in range(state.stable_usd.shape[0]):
        price = oracle_usd[market]
        if np.isnan(price):
            continue
        if state.stable_usd[market] == 0.0:
            if price <= 0.0:
                continue
            state.stable_usd[market] = price
            state.delay_usd[market, :] = price
            state.average_usd_s[market] = 0.0
            state.average_s[market] = 0
            state.updated_s[market] = now_s
        passed = now_s - state.updated_s[market]
        if passed < limits.min_dt_s:
            continue
        step = min(passed, limits.max_dt_s)
        state.updated_s[market] = now_s
        state.average_s[market] += passed
        state.average_usd_s[market] += price * step
        interval = (now_s // limits.delay_interval_s) % cycle
        last = state.interval[market]
        if interval != last:
            mean = state.average_usd_s[market] / state.average_s[market]
            delayed = _limited(mean, state.delay_usd[market, (last - 1) % cycle], limits.delay_growth_limit)
            count = cycle if passed > cycle * limits.delay_interval_s else (interval - last) % cycle
            for skipped in range(count):
                state.delay_usd[market, (last + skipped) % cycle] = delayed
            state.average_usd_s[market] = 0.0
            state.average_s[market] = 0
            state.interval[market] = interval
        stable, delayed = state.stable_usd[market], state.delay_usd[market, interval]
        apart = stable / delayed if delayed >= stable else delayed / stable
        state.stable_usd[market] = _limited(price, stable, limits.stable_growth_limit_per_s * apart * apart * step)


@kernel
def _limited(target: float, before: float, growth: float) -> float:
    return float(np.minimum(np.maximum(target, before * (1.0 - growth)), before * (1.0 + growth)))
