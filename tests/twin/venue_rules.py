"""The venues' rules for one account in plain Python: dictionaries, no arrays, whole numbers where the venue has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

INIT, LIQUIDATION_END, MAINT = 0, 1, 2


def mango_v4_health(
    tokens: Sequence[Mapping[str, Any]],
    perps: Sequence[Mapping[str, Any]],
    balances: Sequence[Mapping[str, Any]],
    orders: Sequence[Mapping[str, Any]],
    positions: Sequence[Mapping[str, Any]],
    level: int,
) -> float:
    """Health in USD; weights are by level, init's before they are scaled."""

    def asset_price(market: Mapping[str, Any]) -> float:
        return float(min(market["oracle"], market["stable"]) if level == INIT else market["oracle"])

    def liab_price(market: Mapping[str, Any]) -> float:
        return float(max(market["oracle"], market["stable"]) if level == INIT else market["oracle"])

    def asset_worth(token: int) -> float:
        market = tokens[token]
        weight = market["asset"][level]
        deposits_usd = market["deposits"] * asset_price(market)
        if level == INIT and deposits_usd > market["deposit_start"]:
            weight *= market["deposit_start"] / deposits_usd
        return float(weight * asset_price(market))

    def liab_worth(token: int) -> float:
        market = tokens[token]
        weight = market["liab"][level]
        borrows_usd = market["borrows"] * liab_price(market)
        if level == INIT and borrows_usd > market["borrow_start"]:
            weight *= borrows_usd / market["borrow_start"]
        return float(weight * liab_price(market))

    held: dict[int, float] = {}
    for one in balances:
        held[one["token"]] = held.get(one["token"], 0.0) + one["token_balance"]
    for one in positions:
        market = perps[one["perp"]]
        cases = []
        for filled, price in ((one["perp_bids"], liab_price(market)), (-one["perp_asks"], asset_price(market))):
            base = one["perp_base"] + filled
            value = base * market["liab"][level] * liab_price(market) if base < 0 else base * market["asset"][level] * asset_price(market)
            cases.append(value - filled * price)
        unsettled = one["perp_quote"] + min(cases)
        if unsettled > 0:
            unsettled *= market["overall"][level]
        held[market["settle"]] = held.get(market["settle"], 0.0) + unsettled

    most: dict[int, float] = {}
    turned = []
    for one in orders:
        base, quote = one["order_base_token"], one["order_quote_token"]
        bought = one["order_quote_reserved"] * asset_price(tokens[quote]) / liab_price(tokens[base])
        if one["order_highest_bid"]:
            bought = min(bought, one["order_quote_reserved"] / one["order_highest_bid"])
        sold = one["order_base_reserved"] * asset_price(tokens[base]) / liab_price(tokens[quote])
        if one["order_lowest_ask"]:
            sold = min(sold, one["order_base_reserved"] * one["order_lowest_ask"])
        both = ((base, one["order_base_reserved"] + bought), (quote, one["order_quote_reserved"] + sold))
        turned.append(both)
        for token, amount in both:
            most[token] = most.get(token, 0.0) + amount

    total = sum(amount * (liab_worth(token) if amount < 0 else asset_worth(token)) for token, amount in held.items())
    for both in turned:
        effects = []
        for token, amount in both:
            above = min(max(held.get(token, 0.0) + most[token], 0.0), amount)
            effects.append(above * asset_worth(token) + (amount - above) * liab_worth(token))
        total += min(effects)
    return float(total)


def mango_v3_health(legs: Sequence[Mapping[str, Any]], weights: Sequence[Sequence[float]], quote_usd: float) -> float:
    """Health in USD; `weights` of each leg: spot asset, spot liability, perpetual asset, perpetual liability."""
    total = quote_usd
    for leg, (spot_asset, spot_liab, perp_asset, perp_liab) in zip(legs, weights, strict=True):
        price = leg["price"]
        sides = [(leg["spot"], 0.0)]
        if leg["in_basket"]:
            free = leg["spot"] + leg["order_base_free"]
            bought = (free + leg["order_base_locked"] + leg["order_quote_locked"] / price, leg["order_quote_free"])
            sold = (free, leg["order_quote_free"] + leg["order_quote_locked"] + leg["order_base_locked"] * price)
            sides = [sold, bought]
        base, quote = max(sides, key=lambda side: abs(side[0]))
        total += quote + base * price * (spot_liab if base < 0 else spot_asset)
        sold = (leg["perp_base"] - leg["perp_asks"], leg["perp_quote"] + leg["perp_asks"] * price)
        bought = (leg["perp_base"] + leg["perp_bids"], leg["perp_quote"] - leg["perp_bids"] * price)
        base, quote = max([sold, bought], key=lambda side: abs(side[0]))
        total += quote + base * price * (perp_liab if base < 0 else perp_asset)
    return float(total)


def drift_asset_weight(weight: int, size: int, imf: int) -> int:
    """Weights in 1e-4, size in 1e-9, factor in 1e-6."""
    if imf == 0:
        return weight
    return min(weight, 1_100_000 * 10_000 // (1_000_000 + math.isqrt(size * 10 + 1) * imf // 100_000))


def drift_liability_weight(weight: int, size: int, imf: int) -> int:
    """As `drift_asset_weight`."""
    if imf == 0:
        return weight
    return max(weight, weight - weight // 5 + math.isqrt(size * 10 + 1) * imf // 10_000_000)


def drift_v2_free_collateral(
    spots: Sequence[Mapping[str, Any]],
    perps: Sequence[Mapping[str, Any]],
    balances: Sequence[Mapping[str, Any]],
    positions: Sequence[Mapping[str, Any]],
    custom: float,
    row: int,
) -> float:
    """Total collateral less margin requirement, USD; row 0 initial, 1 maintenance."""
    custom = custom if row == 0 else 0.0

    def whole(weight: float) -> int:
        return round(weight * 10_000)

    def weighted(market: Mapping[str, Any], tokens: float) -> float:
        value, size, imf = tokens * market["price"], round(abs(tokens) * 1e9), round(market["imf"] * 1e6)
        if tokens < 0:
            weight = drift_liability_weight(whole(market["liability"][row]), size, imf) / 10_000
            return float(value * max(weight, 1 + custom))
        own = whole(market["asset"][row])
        deposits = market["deposits"] * market["price"]
        if row == 0 and market["start"] and deposits >= market["start"]:
            own = math.floor(own * market["start"] / deposits)
        return float(value * min(drift_asset_weight(own, size, imf) / 10_000, 1 - custom))

    total = 0.0
    for one in balances:
        market = spots[one["spot"]]
        if one["spot"] == 0:
            total += one["spot_balance"] * market["price"] - one["spot_orders"] * 0.01
            continue
        bought = weighted(market, one["spot_balance"] + one["spot_bids"]) - one["spot_bids"] * market["price"]
        sold = weighted(market, one["spot_balance"] - one["spot_asks"]) + one["spot_asks"] * market["price"]
        total += min(bought, sold) - one["spot_orders"] * 0.01
    for one in positions:
        market = perps[one["perp"]]
        worst = max(abs(one["perp_base"] + one["perp_bids"]), abs(one["perp_base"] - one["perp_asks"]))
        ratio = drift_liability_weight(whole(market["ratio"][row]), round(worst * 1e9), round(market["imf"] * 1e6)) / 10_000
        profit = one["perp_base"] * market["price"] + one["perp_quote"]
        if profit > 0:
            weight = whole(market["pnl"][row])
            if row == 0:
                weight = drift_asset_weight(weight, round(profit * 1e9), round(market["pnl_imf"] * 1e6))
            profit *= weight / 10_000
        profit *= spots[0]["price"]
        if row == 0:
            profit = min(profit, 100.0)
        total += profit - worst * market["price"] * spots[0]["price"] * max(ratio, custom) - one["perp_orders"] * 0.01
    return total
