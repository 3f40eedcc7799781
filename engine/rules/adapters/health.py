"""Rules of balances and perpetuals together: Mango v4 and v3, Drift v2. Nothing has open orders: a file of positions knows of none."""

import numpy as np

from engine.rules import drift_v2, mango_v3, mango_v4
from engine.rules.legs import UNITS_OF_USD, Adapted, Leg, Needs, VenueLegs, floats, integers, offsets, one

_NEVER_USD = 1e18  # where scaling of weights never begins


def of_mango_v4(held: VenueLegs, parameters: mango_v4.Parameters, needs: Needs) -> Adapted:
    """Tokens and perpetuals by the names of their assets. `given`, by asset: stable_usd; deposits, borrows where weights scale."""
    tokens = {token.name: number for number, token in enumerate(parameters.tokens)}
    perps = {perp.name: number for number, perp in enumerate(parameters.perps)}
    balances = [leg for leg in held.legs if _placed(leg, ("spot", "loan"), tokens, "token", needs)]
    contracts = [leg for leg in held.legs if _placed(leg, ("perpetual",), perps, "perpetual", needs)]
    _refuse_others(held, needs)
    settled = [parameters.tokens[parameters.perps[perps[leg.asset]].settle_token].name for leg in contracts]
    used = {*(leg.asset for leg in balances), *settled}
    priced = {*used, *(leg.asset for leg in contracts)}
    stable = {asset: needs.of_asset("stable_usd", asset, "the venue's delay-limited price") for asset in sorted(priced)}
    deposits, borrows = ([0.0] * len(tokens) for _ in range(2))
    for number, token in enumerate(parameters.tokens):
        if token.name in used and token.deposit_weight_scale_start_usd < _NEVER_USD:
            deposits[number] = needs.of_asset("deposits", token.name, "tokens that all accounts of the bank hold")
        if token.name in used and token.borrow_weight_scale_start_usd < _NEVER_USD:
            borrows[number] = needs.of_asset("borrows", token.name, "tokens that all accounts of the bank owe")
    none, no_index = floats([]), integers([])
    inputs = mango_v4.Inputs(
        token_start=offsets(len(balances)),
        token=integers([tokens[leg.asset] for leg in balances]),
        token_balance=floats([leg.units for leg in balances]),
        order_start=offsets(0),
        order_base_token=no_index,
        order_quote_token=no_index,
        order_base_reserved=none,
        order_quote_reserved=none,
        order_highest_bid=none,
        order_lowest_ask=none,
        perp_start=offsets(len(contracts)),
        perp=integers([perps[leg.asset] for leg in contracts]),
        perp_base=floats([leg.units for leg in contracts]),
        perp_quote=floats([leg.cash for leg in contracts]),
        perp_bids=floats([0.0] * len(contracts)),
        perp_asks=floats([0.0] * len(contracts)),
        oracle_usd=floats([held.marks.get(name, np.nan) for name in tokens]),
        stable_usd=floats([stable.get(name, np.nan) for name in tokens]),
        deposits=floats(deposits),
        borrows=floats(borrows),
        potential_order_tokens=floats([0.0] * len(tokens)),
        perp_oracle_usd=floats([held.marks.get(name, np.nan) for name in perps]),
        perp_stable_usd=floats([stable.get(name, np.nan) for name in perps]),
    )
    return Adapted(inputs, {f"token {number}": name for name, number in tokens.items()})


def of_mango_v3(held: VenueLegs, parameters: mango_v3.Parameters, needs: Needs) -> Adapted:
    """Markets by the names of their assets, and the quote, which is dollars at 1."""
    markets = {market.name: number for number, market in enumerate(parameters.markets)}
    quote = [leg for leg in held.legs if leg.contract in ("spot", "loan") and leg.asset in UNITS_OF_USD and not leg.cash]
    rest = [leg for leg in held.legs if leg not in quote and _placed(leg, ("spot", "loan", "perpetual"), markets, "market", needs)]
    _refuse_others(held, needs)
    zeros = floats([0.0] * len(rest))
    is_perp = [leg.contract == "perpetual" for leg in rest]
    inputs = mango_v3.Inputs(
        start=offsets(len(rest)),
        market=integers([markets[leg.asset] for leg in rest]),
        spot=floats([0.0 if perp else leg.units for leg, perp in zip(rest, is_perp, strict=True)]),
        in_basket=np.zeros(len(rest), dtype=np.bool_),
        order_base_free=zeros,
        order_base_locked=zeros,
        order_quote_free=zeros,
        order_quote_locked=zeros,
        perp_base=floats([leg.units if perp else 0.0 for leg, perp in zip(rest, is_perp, strict=True)]),
        perp_quote=floats([leg.cash if perp else 0.0 for leg, perp in zip(rest, is_perp, strict=True)]),
        perp_bids=zeros,
        perp_asks=zeros,
        quote_usd=one(sum(leg.units for leg in quote)),
        price_usd=floats([held.marks.get(name, np.nan) for name in markets]),
    )
    words = {f"{side} {number}": f"{side} {name}" for name, number in markets.items() for side in ("spot", "perp")}
    return Adapted(inputs, words)


def of_drift_v2(held: VenueLegs, parameters: drift_v2.Parameters, needs: Needs) -> Adapted:
    """Spot and perpetual markets by the names of their assets. `given.deposits`, by asset, where initial weights scale."""
    spots = {market.name: number for number, market in enumerate(parameters.spots)}
    perps = {market.name: number for number, market in enumerate(parameters.perps)}
    balances = [leg for leg in held.legs if _placed(leg, ("spot", "loan"), spots, "spot market", needs)]
    contracts = [leg for leg in held.legs if _placed(leg, ("perpetual",), perps, "perpetual", needs)]
    _refuse_others(held, needs)
    deposits = [0.0] * len(spots)
    for number, market in enumerate(parameters.spots):
        if market.scale_initial_asset_weight_start_usd > 0.0 and any(leg.asset == market.name for leg in balances):
            deposits[number] = needs.of_asset("deposits", market.name, "tokens that all accounts have deposited")
    inputs = drift_v2.Inputs(
        spot_start=offsets(len(balances)),
        spot=integers([spots[leg.asset] for leg in balances]),
        spot_balance=floats([leg.units for leg in balances]),
        spot_bids=floats([0.0] * len(balances)),
        spot_asks=floats([0.0] * len(balances)),
        spot_orders=integers([0] * len(balances)),
        perp_start=offsets(len(contracts)),
        perp=integers([perps[leg.asset] for leg in contracts]),
        perp_base=floats([leg.units for leg in contracts]),
        perp_quote=floats([leg.cash for leg in contracts]),
        perp_bids=floats([0.0] * len(contracts)),
        perp_asks=floats([0.0] * len(contracts)),
        perp_orders=integers([0] * len(contracts)),
        custom_ratio=one(needs.optional("custom_ratio", 0.0)),
        spot_usd=floats([held.marks.get(name, np.nan) for name in spots]),
        spot_deposits=floats(deposits),
        perp_usd=floats([held.marks.get(name, np.nan) for name in perps]),
    )
    words = {f"spot {number}": f"spot {name}" for name, number in spots.items()}
    return Adapted(inputs, words | {f"perp {number}": f"perp {name}" for name, number in perps.items()})


def _placed(leg: Leg, contracts: tuple[str, ...], names: dict[str, int], kind: str, needs: Needs) -> bool:
    """Whether the leg is one of these contracts and the parameters have a place of its asset's name; says so where they don't."""
    if leg.contract not in contracts:
        return False
    if leg.asset not in names:
        needs.refuse(leg, f"no {kind} of the parameters is called {leg.asset}")
        return False
    if leg.contract != "perpetual" and leg.cash:
        needs.refuse(leg, f"it has cash in {leg.quote} besides, which is no balance here: hold it as spot")
    return True


def _refuse_others(held: VenueLegs, needs: Needs) -> None:
    for leg in held.legs:
        if leg.contract not in ("spot", "loan", "perpetual"):
            needs.refuse(leg, "the venue has balances and perpetuals alone")
        elif leg.contract == "perpetual" and leg.quote not in UNITS_OF_USD:
            needs.refuse(leg, f"the venue's perpetuals are settled in dollars, not {leg.quote}")
