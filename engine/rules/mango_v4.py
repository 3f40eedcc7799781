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
from engine.rules.indices import require_each, require_legs, require_within
from engine.rules.interface import LISTED_MAX, ListedName, RuleInfo
from engine.rules.outcome import write_row

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_REPOSITORY: Final = "https://github.com/blockworks-foundation/mango-v4/blob/main/programs/mango-v4/src"

RULE: Final = RuleInfo(
    name="mango_v4",
    version="4, commit 1303a4a of its tests",
    title="Mango v4 health",
    sources=(f"{_REPOSITORY}/health/cache.rs", f"{_REPOSITORY}/state/bank.rs"),
    measure="margin",
    published=True,
    cases="init health of the program's own tests: open orders, perpetuals, scaled weights",
)
STABLE_PRICE: Final = RuleInfo(
    name="mango_v4_stable_price",
    version="4, commit 1303a4a of its tests",
    title="Mango v4 stable price",
    sources=(f"{_REPOSITORY}/state/stable_price.rs",),
    measure="margin",
    published=True,
    cases="a tenfold jump over 25 hours, and an hour's average, of the program's own tests",
)
LIQUIDATION: Final = RuleInfo(
    name="mango_v4_liquidation",
    version="4, commit 1303a4a of its tests",
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

    name: ListedName
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

    name: ListedName
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

    tokens: Annotated[tuple[TokenParameters, ...], Meta(max_length=LISTED_MAX)]
    perps: Annotated[tuple[PerpParameters, ...], Meta(max_length=LISTED_MAX)] = ()

    def __post_init__(self) -> None:
        """ValueError where a perpetual settles in a token that is not there."""
        for perp in self.perps:
            if perp.settle_token >= len(self.tokens):
                raise ValueError(f"{perp.name} settles in token {perp.settle_token} of {len(self.tokens)}")


class Terms(NamedTuple):
    """Parameters as kernels take them. (LEVELS, tokens) and (LEVELS, perps), the rest (tokens,) or (perps,)."""

    asset_weight: Floats
    liab_weight: Floats
    deposit_scale_start_usd: Floats
    borrow_scale_start_usd: Floats
    settle_token: Integers
    base_asset_weight: Floats
    base_liab_weight: Floats
    overall_weight: Floats


def terms(parameters: Parameters) -> Terms:
    """`parameters` as arrays; made once for each set."""
    tokens, perps = parameters.tokens, parameters.perps

    def by_level(init: list[float], maint: list[float]) -> Floats:
        return np.array([init, init, maint], dtype=np.float64).reshape(LEVELS, len(init))

    return Terms(
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


def require_indices(inputs: Inputs, parameters: Terms) -> None:
    """The kernels do not check indices: ValueError says which of `inputs` has another shape or points outside of what it points into."""
    accounts, tokens, perps = len(inputs.token_start) - 1, parameters.asset_weight.shape[1], len(parameters.settle_token)
    require_legs("token_start", inputs.token_start, accounts, (inputs.token, inputs.token_balance))
    require_legs("order_start", inputs.order_start, accounts, inputs[4:10])
    require_legs("perp_start", inputs.perp_start, accounts, inputs[11:16])
    require_within("token", inputs.token, tokens)
    require_within("order_base_token", inputs.order_base_token, tokens)
    require_within("order_quote_token", inputs.order_quote_token, tokens)
    require_within("perp", inputs.perp, perps)
    require_each(tokens, zip(inputs._fields[16:21], inputs[16:21], strict=True))
    require_each(perps, zip(inputs._fields[21:], inputs[21:], strict=True))


class _Work(NamedTuple):
    """Made once a level: prices and weights (tokens,), and what one account's sum needs (tokens,), (orders,)."""

    asset_price: Floats
    liab_price: Floats
    asset_weight: Floats
    liab_weight: Floats
    balance: Floats
    reserved: Floats
    seen: Integers  # the account that a token's `balance` and `reserved` belong to
    touched: Integers  # the account's tokens
    token_health: Floats
    order_health: Floats


# ---- margins --------------------------------------------------------------------------------------------------------------------------


@kernel
def margins(inputs: Inputs, parameters: Terms, out: Floats) -> None:
    """Fills `out` (accounts, 4), columns of engine.rules.interface. Indices are not checked: `require_indices` first.

    Initial and maintenance are equity less init health and less maint health, so that what remains is the venue's own number. Gross
    notional, for the distance, is what tokens, reserved amounts and perpetuals' base are worth without signs.
    """
    accounts = len(inputs.token_start) - 1
    init_usd, maint_usd = np.empty(accounts), np.empty(accounts)
    _level_healths(inputs, parameters, INIT, 0, accounts, _work(inputs, parameters, INIT), init_usd)
    _level_healths(inputs, parameters, MAINT, 0, accounts, _work(inputs, parameters, MAINT), maint_usd)
    worth_usd, gross_usd = _equities(inputs, parameters)
    for account in range(accounts):
        equity_usd = worth_usd[account]
        write_row(out, account, equity_usd, equity_usd - init_usd[account], equity_usd - maint_usd[account], gross_usd[account])


@kernel
def healths(inputs: Inputs, parameters: Terms, out: Floats) -> None:
    """Fills `out` (accounts, LEVELS) with init, liquidation end and maint health, USD."""
    accounts = len(inputs.token_start) - 1
    left_usd = np.empty(accounts)
    for level in range(LEVELS):
        _level_healths(inputs, parameters, level, 0, accounts, _work(inputs, parameters, level), left_usd)
        out[:, level] = left_usd


def parts(inputs: Inputs, parameters: Terms, account: int, level: int = INIT) -> list[tuple[str, float]]:
    """What an account's health at `level` is made of, USD: each token with the perpetuals that settle in it, each spot market; the sum."""
    work = _work(inputs, parameters, level)
    health_usd = np.empty(account + 1)
    touched = _level_healths(inputs, parameters, level, account, account + 1, work, health_usd)
    found = [(f"token {int(token)}", float(work.token_health[token])) for token in work.touched[:touched]]
    for order in range(int(inputs.order_start[account]), int(inputs.order_start[account + 1])):
        base, quote = int(inputs.order_base_token[order]), int(inputs.order_quote_token[order])
        found.append((f"open orders {base}/{quote}", float(work.order_health[order])))
    return [*found, (("init health", "liquidation end health", "maint health")[level], float(health_usd[account]))]


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
def _work(inputs: Inputs, parameters: Terms, level: int) -> _Work:
    tokens = len(inputs.oracle_usd)
    asset_price, liab_price = inputs.oracle_usd.copy(), inputs.oracle_usd.copy()
    asset_weight, liab_weight = parameters.asset_weight[level].copy(), parameters.liab_weight[level].copy()
    if level == INIT:
        for token in range(tokens):
            low = np.minimum(inputs.oracle_usd[token], inputs.stable_usd[token])
            high = np.maximum(inputs.oracle_usd[token], inputs.stable_usd[token])
            asset_price[token] = low
            liab_price[token] = high
            deposits_usd = (inputs.deposits[token] + inputs.potential_order_tokens[token]) * low
            asset_weight[token] = scaled_asset_weight(asset_weight[token], deposits_usd, parameters.deposit_scale_start_usd[token])
            borrows_usd = inputs.borrows[token] * high
            liab_weight[token] = scaled_liab_weight(liab_weight[token], borrows_usd, parameters.borrow_scale_start_usd[token])
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
        np.zeros(len(inputs.order_base_token)),
    )


@kernel
def _level_healths(inputs: Inputs, parameters: Terms, level: int, first: int, last: int, work: _Work, out: Floats) -> int:
    """Healths in USD of accounts `first` to `last` into `out` (accounts,); leaves the last one's contributions in `work`.

    Returns how many tokens these are. Arrays are taken out of their tuples once: each use of a tuple's field costs more than the
    arithmetic.
    """
    token_start, order_start, perp_start = inputs.token_start, inputs.order_start, inputs.perp_start
    tokens, token_balance = inputs.token, inputs.token_balance
    base_token, quote_token = inputs.order_base_token, inputs.order_quote_token
    base_reserved, quote_reserved = inputs.order_base_reserved, inputs.order_quote_reserved
    highest_bid, lowest_ask = inputs.order_highest_bid, inputs.order_lowest_ask
    perps, perp_base, perp_quote = inputs.perp, inputs.perp_base, inputs.perp_quote
    perp_bids, perp_asks = inputs.perp_bids, inputs.perp_asks
    perp_oracle, perp_stable = inputs.perp_oracle_usd, inputs.perp_stable_usd
    settle_token, overall_weight = parameters.settle_token, parameters.overall_weight[level]
    base_asset, base_liab = parameters.base_asset_weight[level], parameters.base_liab_weight[level]
    asset_price, liab_price, asset_weight, liab_weight = work.asset_price, work.liab_price, work.asset_weight, work.liab_weight
    balance, reserved, seen, touched = work.balance, work.reserved, work.seen, work.touched
    token_health, order_health = work.token_health, work.order_health
    count = 0
    for account in range(first, last):
        count = 0
        for leg in range(token_start[account], token_start[account + 1]):
            token = tokens[leg]
            count = _touch(token, account, count, seen, touched, balance, reserved)
            balance[token] += token_balance[leg]
        for leg in range(perp_start[account], perp_start[account + 1]):
            perp = perps[leg]
            token = settle_token[perp]
            count = _touch(token, account, count, seen, touched, balance, reserved)
            low = high = perp_oracle[perp]
            if level == INIT:
                low = np.minimum(perp_oracle[perp], perp_stable[perp])
                high = np.maximum(perp_oracle[perp], perp_stable[perp])
            unweighted = perp_quote[leg] + _worst_base(
                perp_base[leg], perp_bids[leg], perp_asks[leg], low, high, base_asset[perp], base_liab[perp]
            )
            balance[token] += unweighted * overall_weight[perp] if unweighted > 0.0 else unweighted
        for order in range(order_start[account], order_start[account + 1]):
            base, quote = base_token[order], quote_token[order]
            count = _touch(base, account, count, seen, touched, balance, reserved)
            count = _touch(quote, account, count, seen, touched, balance, reserved)
            reserved[base] += _all_in_one(
                base_reserved[order], quote_reserved[order], asset_price[quote] / liab_price[base], 1.0 / highest_bid[order]
            )
            reserved[quote] += _all_in_one(
                quote_reserved[order], base_reserved[order], asset_price[base] / liab_price[quote], _or_any(lowest_ask[order])
            )

        health_usd = 0.0
        for position in range(count):
            token = touched[position]
            if balance[token] < 0.0:
                found = balance[token] * liab_weight[token] * liab_price[token]
            else:
                found = balance[token] * asset_weight[token] * asset_price[token]
            token_health[token] = found
            health_usd += found
        for order in range(order_start[account], order_start[account + 1]):
            base, quote = base_token[order], quote_token[order]
            as_base = _all_in_one(
                base_reserved[order], quote_reserved[order], asset_price[quote] / liab_price[base], 1.0 / highest_bid[order]
            )
            as_quote = _all_in_one(
                quote_reserved[order], base_reserved[order], asset_price[base] / liab_price[quote], _or_any(lowest_ask[order])
            )
            in_base = _reserved_effect(
                as_base, balance[base] + reserved[base], asset_weight[base] * asset_price[base], liab_weight[base] * liab_price[base]
            )
            in_quote = _reserved_effect(
                as_quote,
                balance[quote] + reserved[quote],
                asset_weight[quote] * asset_price[quote],
                liab_weight[quote] * liab_price[quote],
            )
            order_health[order] = np.minimum(in_base, in_quote)
            health_usd += order_health[order]
        out[account] = health_usd
    return count


@kernel
def _touch(token: int, account: int, count: int, seen: Integers, touched: Integers, balance: Floats, reserved: Floats) -> int:
    """Empties a token's slot at its first use for this account; returns how many tokens are in use."""
    if seen[token] == account:
        return count
    seen[token] = account
    balance[token] = 0.0
    reserved[token] = 0.0
    touched[count] = token
    return count + 1


@kernel
def _worst_base(base: float, bids: float, asks: float, low: float, high: float, asset_weight: float, liab_weight: float) -> float:
    """The worse of all bids filled and all asks, in the settlement token: the weighted base, and what was paid for it."""
    bought = _base_health(base + bids, low, high, asset_weight, liab_weight) - bids * high
    sold = _base_health(base - asks, low, high, asset_weight, liab_weight) + asks * low
    return float(np.minimum(bought, sold))


@kernel
def _base_health(base: float, low: float, high: float, asset_weight: float, liab_weight: float) -> float:
    return base * liab_weight * high if base < 0.0 else base * asset_weight * low


@kernel
def _or_any(price: float) -> float:
    """The price of the account's own best order; inf where that is not known, which bounds nothing."""
    return np.inf if price == 0.0 else price


@kernel
def _all_in_one(own: float, other: float, market_price: float, order_price: float) -> float:
    """All that is reserved as one token: the other converted at the market's price, or at that of the orders where it gives less."""
    if other == 0.0 and not np.isnan(order_price):
        return own
    return own + float(np.minimum(other * market_price, other * order_price))


@kernel
def _reserved_effect(amount: float, most: float, asset_worth: float, liab_worth: float) -> float:
    """Health gained where `amount` is the last to come to a balance of `most`, after every other order of the account."""
    if most >= amount:
        return amount * asset_worth
    if most < 0.0:
        return amount * liab_worth
    return most * asset_worth + (amount - most) * liab_worth


@kernel
def _equities(inputs: Inputs, parameters: Terms) -> tuple[Floats, Floats]:
    """(accounts,) each: marked to the oracle without weights, and gross notional; both USD."""
    token_start, order_start, perp_start = inputs.token_start, inputs.order_start, inputs.perp_start
    tokens, token_balance, oracle_usd = inputs.token, inputs.token_balance, inputs.oracle_usd
    base_token, quote_token = inputs.order_base_token, inputs.order_quote_token
    base_reserved, quote_reserved = inputs.order_base_reserved, inputs.order_quote_reserved
    perps, perp_base, perp_quote, perp_oracle = inputs.perp, inputs.perp_base, inputs.perp_quote, inputs.perp_oracle_usd
    settle_token = parameters.settle_token
    accounts = len(token_start) - 1
    worth_usd, gross_usd = np.zeros(accounts), np.zeros(accounts)
    for account in range(accounts):
        for leg in range(token_start[account], token_start[account + 1]):
            value_usd = token_balance[leg] * oracle_usd[tokens[leg]]
            worth_usd[account] += value_usd
            gross_usd[account] += abs(value_usd)
        for order in range(order_start[account], order_start[account + 1]):
            value_usd = base_reserved[order] * oracle_usd[base_token[order]] + quote_reserved[order] * oracle_usd[quote_token[order]]
            worth_usd[account] += value_usd
            gross_usd[account] += abs(value_usd)
        for leg in range(perp_start[account], perp_start[account + 1]):
            settle_usd = oracle_usd[settle_token[perps[leg]]]
            value_usd = perp_base[leg] * perp_oracle[perps[leg]] * settle_usd
            worth_usd[account] += value_usd + perp_quote[leg] * settle_usd
            gross_usd[account] += abs(value_usd)
    return worth_usd, gross_usd


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
    markets = len(start_usd)
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
    for market in range(len(state.stable_usd)):
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
