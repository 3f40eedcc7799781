"""Rules of balances and perpetuals together: Mango v4 and v3, Drift v2.

Open orders of perpetuals count in all three, those of balances in Drift's alone: Mango reads what a spot order has locked as base and as
quote, and the price of the account's best one, which no position says; its spot orders count as if there were none.
"""

from collections.abc import Sequence

import numpy as np

from engine.rules import drift_v2, mango_v3, mango_v4
from engine.rules.legs import NOT_NEGATIVE, SHARE, UNITS_OF_USD, Adapted, Bools, Floats, Integers, Needs, VenueLegs
from engine.tables import LOAN, PERPETUAL, SPOT

_NEVER_USD = 1e18  # where scaling of weights never begins


def of_mango_v4(held: VenueLegs, parameters: mango_v4.Parameters, needs: Needs) -> list[Adapted]:
    """Tokens and perpetuals by the names of their assets. `given`, by asset: stable_usd; deposits, borrows where weights scale."""
    legs, account = held.legs, held.account
    tokens, perps = [token.name for token in parameters.tokens], [perp.name for perp in parameters.perps]
    token, perp = held.places_of(tokens)[legs.asset], held.places_of(perps)[legs.asset]
    balance = _placed(held.of(SPOT, LOAN), token, "token", needs)
    contract = _placed(held.of(PERPETUAL), perp, "perpetual", needs)
    _refuse_others(held, needs)
    banks, markets = held.netted(balance, token, len(tokens)), held.netted(contract, perp, len(perps))
    settled = held.numbers_of([tokens[market.settle_token] for market in parameters.perps])[perp[contract]]
    users = np.concatenate((account[balance], account[contract]))
    used = np.concatenate((legs.asset[balance], settled))
    users, used = users[used >= 0], used[used >= 0]  # a token that is no asset here has no mark either
    stable_usd = needs.by_asset(
        "stable_usd",
        np.concatenate((users, account[contract])),
        np.concatenate((used, legs.asset[contract])),
        "the venue's delay-limited price",
        NOT_NEGATIVE,
    )
    deposits_scale = [one.deposit_weight_scale_start_usd < _NEVER_USD for one in parameters.tokens]
    borrows_scale = [one.borrow_weight_scale_start_usd < _NEVER_USD for one in parameters.tokens]
    none, no_index = np.zeros(0), np.zeros(0, np.int64)
    inputs = mango_v4.Inputs(
        token_start=banks.start,
        token=banks.place,
        token_balance=banks.sums(legs.units),
        order_start=np.zeros(held.accounts + 1, np.int64),
        order_base_token=no_index,
        order_quote_token=no_index,
        order_base_reserved=none,
        order_quote_reserved=none,
        order_highest_bid=none,
        order_lowest_ask=none,
        perp_start=markets.start,
        perp=markets.place,
        perp_base=markets.sums(legs.units),
        perp_quote=markets.sums(legs.cash),
        perp_bids=markets.sums(legs.buys),
        perp_asks=markets.sums(legs.sells),
        oracle_usd=held.marks_of(tokens),
        stable_usd=held.by_name(stable_usd, tokens),
        deposits=_of_all(held, needs, "deposits", (tokens, deposits_scale), (users, used), "tokens that all accounts of the bank hold"),
        borrows=_of_all(held, needs, "borrows", (tokens, borrows_scale), (users, used), "tokens that all accounts of the bank owe"),
        potential_order_tokens=np.zeros(len(tokens)),
        perp_oracle_usd=held.marks_of(perps),
        perp_stable_usd=held.by_name(stable_usd, perps),
    )
    return [Adapted(np.arange(held.accounts), inputs, lambda: {f"token {number}": f"token {name}" for number, name in enumerate(tokens)})]


def of_mango_v3(held: VenueLegs, parameters: mango_v3.Parameters, needs: Needs) -> list[Adapted]:
    """Markets by the names of their assets, and the quote, which is dollars at 1."""
    legs, names = held.legs, [market.name for market in parameters.markets]
    market, dollars = held.places_of(names)[legs.asset], (held.places_of(UNITS_OF_USD) >= 0)[legs.asset]
    quote = held.of(SPOT, LOAN) & dollars
    taken = _placed(held.of(SPOT, LOAN, PERPETUAL) & ~quote, market, "market", needs)
    _refuse_others(held, needs)
    none = mango_v3.SideParameters()  # by weights of nothing, what is owed there would cost nothing
    for kinds, weights, what in (
        ((SPOT, LOAN), [one.spot for one in parameters.markets], "spot"),
        ((PERPETUAL,), [one.perp for one in parameters.markets], "perpetual"),
    ):
        is_there = np.array([side != none for side in weights], np.bool_)
        missing = taken & held.of(*kinds)
        missing[missing] = ~is_there[market[missing]]
        needs.refuse(missing, f"the market of {{asset}} in the parameters has no {what}")
    contract = held.of(PERPETUAL)
    sides = held.netted(taken, 2 * market + contract, 2 * len(names))  # of a market its spot, then its perpetual
    count = len(sides.place)

    def of_perps(values: Floats) -> Floats:
        return sides.sums(np.where(contract, values, 0.0))

    zeros = np.zeros(count)
    inputs = mango_v3.Inputs(
        start=sides.start,
        market=sides.place // 2,
        spot=sides.sums(np.where(contract, 0.0, legs.units)),
        in_basket=np.zeros(count, np.bool_),
        order_base_free=zeros,
        order_base_locked=zeros,
        order_quote_free=zeros,
        order_quote_locked=zeros,
        perp_base=of_perps(legs.units),
        perp_quote=of_perps(legs.cash),
        perp_bids=of_perps(legs.buys),
        perp_asks=of_perps(legs.sells),
        quote_usd=held.sums(np.where(quote, legs.units, 0.0)),
        price_usd=held.marks_of(names),
    )

    def words() -> dict[str, str]:
        return {f"{side} {number}": f"{side} {name}" for number, name in enumerate(names) for side in ("spot", "perp")}

    return [Adapted(np.arange(held.accounts), inputs, words)]


def of_drift_v2(held: VenueLegs, parameters: drift_v2.Parameters, needs: Needs) -> list[Adapted]:
    """Spot and perpetual markets by the names of their assets. `given.deposits`, by asset, where initial weights scale.

    The program counts orders; here what is open in one market is one order.
    """
    legs = held.legs
    spots, perps = [market.name for market in parameters.spots], [market.name for market in parameters.perps]
    spot, perp = held.places_of(spots)[legs.asset], held.places_of(perps)[legs.asset]
    balance = _placed(held.of(SPOT, LOAN), spot, "spot market", needs)
    contract = _placed(held.of(PERPETUAL), perp, "perpetual", needs)
    _refuse_others(held, needs)
    banks, markets = held.netted(balance, spot, len(spots)), held.netted(contract, perp, len(perps))
    orders = ((legs.buys > 0.0) | (legs.sells > 0.0)).astype(np.float64)
    scale = [market.scale_initial_asset_weight_start_usd > 0.0 for market in parameters.spots]
    users = held.account[balance], legs.asset[balance]
    inputs = drift_v2.Inputs(
        spot_start=banks.start,
        spot=banks.place,
        spot_balance=banks.sums(legs.units),
        spot_bids=banks.sums(legs.buys),
        spot_asks=banks.sums(legs.sells),
        spot_orders=banks.sums(orders).astype(np.int64),
        perp_start=markets.start,
        perp=markets.place,
        perp_base=markets.sums(legs.units),
        perp_quote=markets.sums(legs.cash),
        perp_bids=markets.sums(legs.buys),
        perp_asks=markets.sums(legs.sells),
        perp_orders=markets.sums(orders).astype(np.int64),
        custom_ratio=np.full(held.accounts, needs.optional("custom_ratio", 0.0, SHARE)),
        spot_usd=held.marks_of(spots),
        spot_deposits=_of_all(held, needs, "deposits", (spots, scale), users, "tokens that all accounts have deposited"),
        perp_usd=held.marks_of(perps),
    )

    def words() -> dict[str, str]:
        sides = (("spot", spots), ("perp", perps))
        return {f"{side} {number}": f"{side} {name}" for side, names in sides for number, name in enumerate(names)}

    return [Adapted(np.arange(held.accounts), inputs, words)]


def _placed(which: Bools, place: Integers, kind: str, needs: Needs) -> Bools:
    """(legs,): those of `which` whose asset has a place in the parameters, -1 in `place` (legs,) where it has none; refuses the others."""
    needs.refuse(which & (place < 0), f"no {kind} of the parameters is called {{asset}}")
    return which & (place >= 0)


def _refuse_others(held: VenueLegs, needs: Needs) -> None:
    contract = held.of(PERPETUAL)
    in_dollars = (held.places_of(UNITS_OF_USD) >= 0)[held.legs.quote]
    needs.refuse(~held.of(SPOT, LOAN, PERPETUAL), "the venue has balances and perpetuals alone")
    needs.refuse(contract & ~in_dollars, "the venue's perpetuals are settled in dollars, not {quote}")


def _of_all(
    held: VenueLegs,
    needs: Needs,
    name: str,
    scaling: tuple[Sequence[str], Sequence[bool]],
    users: tuple[Integers, Integers],
    what: str,
) -> Floats:
    """(tokens,): what all accounts of the venue hold or owe of each token; 0 of those whose weights do not scale.

    `scaling`: names of the tokens, and whether weights of each scale with it. `users`: (account, asset) pairs.
    """
    (names, scales), (accounts, assets) = scaling, users
    scale = np.array(scales, np.bool_)
    scaled = (held.places_of([names[token] for token in np.flatnonzero(scale).tolist()]) >= 0)[assets]
    found = held.by_name(needs.by_asset(name, accounts[scaled], assets[scaled], what, NOT_NEGATIVE), names)
    return np.where(scale, found, 0.0)
