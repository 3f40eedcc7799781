"""Made-up accounts for the venues' rules, with a few legs each, from a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.rules import aave_v3, drift_v2, mango_v3, mango_v4
from tests.unit.rule_checks import Subject

TOKENS: Final = 12
PERPS: Final = 6


def mango_v4_book(accounts: int, seed: int) -> Subject:
    """Up to four tokens, two spot markets and two perpetuals an account; some weights are scaled, some stable prices are apart."""
    draw = np.random.Generator(np.random.PCG64(seed))
    tokens = tuple(
        mango_v4.TokenParameters(
            name=f"T{position}",
            init_asset_weight=float(weight),
            maint_asset_weight=float((weight + 1.0) / 2.0),
            init_liab_weight=float(2.0 - weight),
            maint_liab_weight=float((3.0 - weight) / 2.0),
            deposit_weight_scale_start_usd=1e5,
            borrow_weight_scale_start_usd=1e5,
            liquidation_fee=0.05,
        )
        for position, weight in enumerate(draw.uniform(0.3, 1.0, TOKENS))
    )
    perps = tuple(
        mango_v4.PerpParameters(
            name=f"P{position}",
            settle_token=position % 2,
            init_base_asset_weight=0.9,
            maint_base_asset_weight=0.95,
            init_base_liab_weight=1.1,
            maint_base_liab_weight=1.05,
            init_overall_asset_weight=float(weight),
            maint_overall_asset_weight=float((1.0 + weight) / 2.0),
        )
        for position, weight in enumerate(draw.uniform(0.0, 1.0, PERPS))
    )
    token_start, token = _legs(draw, accounts, TOKENS, 4, 1)
    order_start, base = _legs(draw, accounts, TOKENS, 2)
    perp_start, perp = _legs(draw, accounts, PERPS, 2)
    legs, orders, positions = token.size, base.size, perp.size
    oracle, perp_oracle = draw.lognormal(0.0, 2.0, TOKENS), draw.lognormal(3.0, 1.0, PERPS)
    inputs = mango_v4.Inputs(
        token_start=token_start,
        token=token,
        token_balance=draw.normal(20.0, 100.0, legs),
        order_start=order_start,
        order_base_token=base,
        order_quote_token=(base + draw.integers(1, TOKENS, orders)) % TOKENS,
        order_base_reserved=_sometimes(draw, draw.exponential(20.0, orders)),
        order_quote_reserved=_sometimes(draw, draw.exponential(20.0, orders)),
        order_highest_bid=_sometimes(draw, draw.lognormal(0.0, 1.0, orders)),
        order_lowest_ask=_sometimes(draw, draw.lognormal(0.0, 1.0, orders)),
        perp_start=perp_start,
        perp=perp,
        perp_base=draw.normal(0.0, 5.0, positions),
        perp_quote=draw.normal(0.0, 100.0, positions),
        perp_bids=_sometimes(draw, draw.exponential(2.0, positions)),
        perp_asks=_sometimes(draw, draw.exponential(2.0, positions)),
        oracle_usd=oracle,
        stable_usd=oracle * draw.uniform(0.8, 1.2, TOKENS),
        deposits=draw.exponential(1e5, TOKENS),
        borrows=draw.exponential(1e5, TOKENS),
        potential_order_tokens=draw.exponential(1e4, TOKENS),
        perp_oracle_usd=perp_oracle,
        perp_stable_usd=perp_oracle * draw.uniform(0.8, 1.2, PERPS),
    )
    by_kind = {
        "token_start": ("token", "token_balance"),
        "order_start": (
            "order_base_token",
            "order_quote_token",
            "order_base_reserved",
            "order_quote_reserved",
            "order_highest_bid",
            "order_lowest_ask",
        ),
        "perp_start": ("perp", "perp_base", "perp_quote", "perp_bids", "perp_asks"),
    }
    parameters = mango_v4.terms(mango_v4.Parameters(tokens=tokens, perps=perps))
    feeds = ("oracle_usd", "stable_usd", "deposits", "borrows", "potential_order_tokens", "perp_oracle_usd", "perp_stable_usd")
    return Subject(mango_v4.RULE, mango_v4.margins, inputs, parameters, (), by_kind, feeds)


def mango_v3_book(accounts: int, seed: int) -> Subject:
    """Up to six markets an account, each with spot, orders and a perpetual."""
    draw = np.random.Generator(np.random.PCG64(seed))
    side = {"init_asset_weight": 0.8, "maint_asset_weight": 0.9, "init_liab_weight": 1.2, "maint_liab_weight": 1.1}
    market = tuple(
        mango_v3.MarketParameters(name=f"M{position}", spot=mango_v3.SideParameters(**side), perp=mango_v3.SideParameters(**side))
        for position in range(TOKENS)
    )
    start, markets = _legs(draw, accounts, TOKENS, 6, 1)
    legs = markets.size
    inputs = mango_v3.Inputs(
        start=start,
        market=markets,
        spot=draw.normal(5.0, 20.0, legs),
        in_basket=draw.uniform(size=legs) < 0.7,
        order_base_free=_sometimes(draw, draw.exponential(1.0, legs)),
        order_base_locked=_sometimes(draw, draw.exponential(5.0, legs)),
        order_quote_free=_sometimes(draw, draw.exponential(10.0, legs)),
        order_quote_locked=_sometimes(draw, draw.exponential(50.0, legs)),
        perp_base=draw.normal(0.0, 5.0, legs),
        perp_quote=draw.normal(0.0, 50.0, legs),
        perp_bids=_sometimes(draw, draw.exponential(2.0, legs)),
        perp_asks=_sometimes(draw, draw.exponential(2.0, legs)),
        quote_usd=draw.normal(100.0, 300.0, accounts),
        price_usd=draw.lognormal(1.0, 1.0, TOKENS),
    )
    names = tuple(name for name in mango_v3.Inputs._fields if name not in {"start", "quote_usd", "price_usd"})
    parameters = mango_v3.terms(mango_v3.Parameters(markets=market))
    return Subject(mango_v3.RULE, mango_v3.margins, inputs, parameters, ("quote_usd",), {"start": names}, ("price_usd",))


def drift_v2_book(accounts: int, seed: int) -> Subject:
    """Up to four spot balances and three perpetuals an account; weights depend on size, some on deposits."""
    draw = np.random.Generator(np.random.PCG64(seed))
    quote = drift_v2.SpotParameters(name="S0")
    spots = tuple(
        drift_v2.SpotParameters(
            name=f"S{position}",
            initial_asset_weight=round(float(weight), 4),
            maintenance_asset_weight=round(float((1.0 + weight) / 2.0), 4),
            initial_liability_weight=round(float(2.0 - weight), 4),
            maintenance_liability_weight=round(float((3.0 - weight) / 2.0), 4),
            imf_factor=0.003 if position % 2 else 0.0,
            scale_initial_asset_weight_start_usd=5e5 * position,
        )
        for position, weight in enumerate(draw.uniform(0.5, 1.0, TOKENS - 1), start=1)
    )
    perps = tuple(
        drift_v2.PerpParameters(
            name=f"P{position}",
            margin_ratio_initial=0.1,
            margin_ratio_maintenance=0.05,
            imf_factor=0.001,
            unrealized_pnl_initial_asset_weight=0.8,
            unrealized_pnl_maintenance_asset_weight=1.0,
            unrealized_pnl_imf_factor=0.05,
        )
        for position in range(PERPS)
    )
    spot_start, spot = _legs(draw, accounts, TOKENS, 4, 1)
    perp_start, perp = _legs(draw, accounts, PERPS, 3)
    legs, positions = spot.size, perp.size
    inputs = drift_v2.Inputs(
        spot_start=spot_start,
        spot=spot,
        spot_balance=draw.normal(50.0, 200.0, legs),
        spot_bids=_sometimes(draw, draw.exponential(20.0, legs)),
        spot_asks=_sometimes(draw, draw.exponential(20.0, legs)),
        spot_orders=draw.integers(0, 3, legs),
        perp_start=perp_start,
        perp=perp,
        perp_base=draw.normal(0.0, 50.0, positions),
        perp_quote=draw.normal(0.0, 500.0, positions),
        perp_bids=_sometimes(draw, draw.exponential(20.0, positions)),
        perp_asks=_sometimes(draw, draw.exponential(20.0, positions)),
        perp_orders=draw.integers(0, 3, positions),
        custom_ratio=_sometimes(draw, draw.uniform(0.0, 0.3, accounts)),
        spot_usd=draw.lognormal(0.0, 1.0, TOKENS),
        spot_deposits=draw.exponential(1e6, TOKENS),
        perp_usd=draw.lognormal(2.0, 1.0, PERPS),
    )
    by_kind = {
        "spot_start": ("spot", "spot_balance", "spot_bids", "spot_asks", "spot_orders"),
        "perp_start": ("perp", "perp_base", "perp_quote", "perp_bids", "perp_asks", "perp_orders"),
    }
    parameters = drift_v2.terms(drift_v2.Parameters(spots=(quote, *spots), perps=perps))
    feeds = ("spot_usd", "spot_deposits", "perp_usd")
    return Subject(drift_v2.RULE, drift_v2.margins, inputs, parameters, ("custom_ratio",), by_kind, feeds)


def aave_v3_book(accounts: int, seed: int) -> Subject:
    """Up to six reserves an account, some supplied, some owed; a third of the accounts in each of no mode and two."""
    draw = np.random.Generator(np.random.PCG64(seed))
    reserves = tuple(
        aave_v3.ReserveParameters(name=f"R{position}", loan_to_value=float(ratio), liquidation_threshold=float(ratio) + 0.05)
        for position, ratio in enumerate(draw.uniform(0.3, 0.8, TOKENS))
    )
    modes = tuple(
        aave_v3.CategoryParameters(name=f"C{position}", collateral=collateral, loan_to_value=0.9, liquidation_threshold=0.93)
        for position, collateral in enumerate(((0, 1, 2), (2, 5)))
    )
    start, reserve = _legs(draw, accounts, TOKENS, 6, 1)
    legs = reserve.size
    inputs = aave_v3.Inputs(
        start=start,
        reserve=reserve,
        supplied=_sometimes(draw, draw.exponential(100.0, legs)),
        is_collateral=draw.uniform(size=legs) < 0.8,
        owed=_sometimes(draw, draw.exponential(50.0, legs)),
        mode=draw.integers(0, 3, accounts),
        price_usd=draw.lognormal(0.0, 1.0, TOKENS),
    )
    parameters = aave_v3.terms(aave_v3.Parameters(reserves=reserves, categories=modes))
    legs_of = {"start": ("reserve", "supplied", "is_collateral", "owed")}
    return Subject(aave_v3.RULE, aave_v3.margins, inputs, parameters, ("mode",), legs_of, ("price_usd",))


BOOKS: Final[dict[str, Callable[[int, int], Subject]]] = {
    "mango_v4": mango_v4_book,
    "mango_v3": mango_v3_book,
    "drift_v2": drift_v2_book,
    "aave_v3": aave_v3_book,
}


def _legs(draw: np.random.Generator, accounts: int, markets: int, most: int, least: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offsets, and from `least` to `most` different markets for each account."""
    counts = draw.integers(least, most + 1, accounts)
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    first = np.repeat(draw.integers(0, markets, accounts), counts)
    place = np.arange(start[-1]) - np.repeat(start[:-1], counts)
    return start, ((first + place) % markets).astype(np.int64)


def _sometimes(draw: np.random.Generator, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half of the values, 0 for the rest."""
    return np.where(draw.uniform(size=values.shape) < 0.5, values, 0.0)
