"""Rules of what lends against collateral: Aave's pools, Hyperliquid's borrowing."""

import numpy as np

from engine.rules import aave_v3, hyperliquid_pm
from engine.rules.legs import UNITS_OF_USD, Adapted, Leg, Needs, VenueLegs, floats, integers, offsets, one


def of_aave_v3(held: VenueLegs, parameters: aave_v3.Parameters, needs: Needs) -> Adapted:
    """Balances and debts in reserves of their assets' names. All that is supplied is collateral; `given.mode`: the efficiency mode."""
    reserves = {reserve.name: number for number, reserve in enumerate(parameters.reserves)}
    legs = [leg for leg in held.legs if _is_balance(leg, needs)]
    for leg in legs:
        if leg.asset not in reserves:
            needs.refuse(leg, f"no reserve of the parameters is called {leg.asset}")
    mode = needs.optional("mode", 0.0)
    if mode not in range(len(parameters.categories) + 1):
        needs.lacks(f"given.mode: {mode:g} is none of the {len(parameters.categories)} categories, counted from 1; 0 is none")
        mode = 0.0
    inputs = aave_v3.Inputs(
        start=offsets(len(legs)),
        reserve=integers([reserves.get(leg.asset, 0) for leg in legs]),
        supplied=floats([max(leg.units, 0.0) for leg in legs]),
        is_collateral=np.array([leg.units > 0.0 for leg in legs], dtype=np.bool_),
        owed=floats([max(-leg.units, 0.0) for leg in legs]),
        mode=integers([int(mode)]),
        price_usd=floats([held.marks.get(reserve.name, np.nan) for reserve in parameters.reserves]),
    )
    return Adapted(inputs, {f"reserve {number}": name for name, number in reserves.items()})


def of_hyperliquid_pm(held: VenueLegs, _: hyperliquid_pm.Parameters, needs: Needs) -> Adapted:
    """Tokens, and dollars held or owed. `given`, by asset: loan_to_value, and supply_cap in tokens."""
    legs = [leg for leg in held.legs if _is_balance(leg, needs)]
    tokens = [leg for leg in legs if leg.asset not in UNITS_OF_USD]
    for leg in tokens:
        if leg.units < 0.0:
            needs.refuse(leg, "the rule knows what is owed in dollars alone")
    inputs = hyperliquid_pm.Inputs(
        start=offsets(len(tokens)),
        balance=floats([max(leg.units, 0.0) for leg in tokens]),
        supply_cap=floats([needs.of_asset("supply_cap", leg.asset, "how many tokens count at most") for leg in tokens]),
        price_usd=floats([leg.mark_usd for leg in tokens]),
        loan_to_value=floats([needs.of_asset("loan_to_value", leg.asset, "what share of it may be borrowed") for leg in tokens]),
        cash_usd=one(sum(leg.units for leg in legs if leg.asset in UNITS_OF_USD)),
        perp_maintenance_usd=one(0.0),
    )
    return Adapted(inputs, {})


def _is_balance(leg: Leg, needs: Needs) -> bool:
    """Whether it is a balance, or a debt, and nothing else; says so where it isn't."""
    if leg.contract not in ("spot", "loan"):
        needs.refuse(leg, "the rule takes balances and debts; how a contract's profit counts here is not published")
        return False
    if leg.cash:
        needs.refuse(leg, f"it has cash in {leg.quote} besides, which is no balance here: hold it as spot")
    return True
