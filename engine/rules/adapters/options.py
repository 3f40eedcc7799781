"""Rules of options on their own: Bybit's."""

import math

import numpy as np

from engine.rules import bybit_uta
from engine.rules.legs import Adapted, Needs, VenueLegs, floats, offsets, one


def of_bybit_uta(held: VenueLegs, _: bybit_uta.Parameters, needs: Needs) -> Adapted:
    """Options against dollars. The margin balance is dollars and premiums: the rule counts an option's mark in its requirement."""
    traded = [leg for leg in held.legs if leg.contract == "option"]
    for leg in held.legs:
        if leg.contract != "option" and not (leg.contract == "spot" and leg.asset == "USD"):
            needs.refuse(leg, "the rule computes options against dollars; tiers of perpetuals and ratios of collateral are not part of it")
        elif leg.contract == "option" and leg.units < 0.0 and math.isnan(leg.entry_usd):
            needs.refuse(leg, "a short option's initial margin needs its entry price: say entry_price of the position")
    inputs = bybit_uta.Inputs(
        start=offsets(len(traded)),
        size=floats([leg.units for leg in traded]),
        is_call=np.array([leg.is_call for leg in traded], dtype=np.bool_),
        index_usd=floats([leg.mark_usd for leg in traded]),
        strike_usd=floats([leg.strike_usd for leg in traded]),
        entry_usd=floats([leg.entry_usd if leg.units < 0.0 else 0.0 for leg in traded]),
        mark_usd=floats([leg.price_usd if leg.units else 0.0 for leg in traded]),
        equity_usd=one(sum(leg.cash_usd if leg.contract == "option" else leg.value_usd for leg in held.legs)),
    )
    return Adapted(inputs, {f"leg {number}": leg.instrument for number, leg in enumerate(traded)})
