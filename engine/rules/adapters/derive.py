"""Derive's rules. The venue keeps dollars as USDC; its feeds state a confidence, which no mark has and which must be given."""

import numpy as np

from engine.rules import derive_pmrm2, derive_srm
from engine.rules.legs import UNITS_OF_USD, Adapted, Leg, Needs, VenueLegs, floats, integers, offsets, one

_SECONDS_A_YEAR = 365.0 * 86_400.0


def of_derive_srm(held: VenueLegs, parameters: derive_srm.Parameters, needs: Needs) -> Adapted:
    """Markets by the names of their assets. `given`: confidence of all feeds, and stable_usd where USDC has no mark."""
    markets = {market.name: number for number, market in enumerate(parameters.markets)}
    options, perps, balances, cash = _sorted(held, needs)
    for leg in (*options, *perps, *balances):
        if leg.asset not in markets:
            needs.refuse(leg, f"no market of the parameters is called {leg.asset}")
    options, perps, balances = ([leg for leg in legs if leg.asset in markets] for legs in (options, perps, balances))
    marks = [held.marks.get(name, np.nan) for name in markets]
    confidence = needs.number("confidence", "how sure the venue's feeds are, 0 to 1")
    expiries = list(dict.fromkeys((leg.asset, leg.years) for leg in options))
    count = len(expiries)
    inputs = derive_srm.Inputs(
        stable_usd=_stable_usd(held, needs),
        spot_usd=floats(marks),
        spot_confidence=floats([confidence] * len(marks)),
        perp_usd=floats(marks),
        perp_confidence=floats([confidence] * len(marks)),
        expiry_market=integers([markets[asset] for asset, _ in expiries]),
        expiry_s=floats([years * _SECONDS_A_YEAR for _, years in expiries]),
        forward_usd=floats([held.marks.get(asset, np.nan) for asset, _ in expiries]),
        forward_confidence=floats([confidence] * count),
        sigma_confidence=floats([confidence] * count),
        option_expiry=integers([expiries.index((leg.asset, leg.years)) for leg in options]),
        option_strike_usd=floats([leg.strike_usd for leg in options]),
        option_is_call=np.array([leg.is_call for leg in options], dtype=np.bool_),
        option_sigma=floats([leg.sigma for leg in options]),
        cash_usd=one(cash),
        start=offsets(len(options)),
        leg_option=integers(list(range(len(options)))),
        leg_amount=floats([leg.units for leg in options]),
        perp_start=offsets(len(perps)),
        perp_market=integers([markets[leg.asset] for leg in perps]),
        perp_amount=floats([leg.units for leg in perps]),
        perp_profit_usd=floats([leg.value_usd for leg in perps]),
        base_start=offsets(len(balances)),
        base_market=integers([markets[leg.asset] for leg in balances]),
        base_amount=floats([leg.units for leg in balances]),
    )
    return Adapted(inputs, {})


def of_derive_pmrm2(held: VenueLegs, parameters: derive_pmrm2.Parameters, needs: Needs) -> Adapted:
    """One underlying, collateral by name. `given`: confidence of all feeds, rate (annual), and stable_usd where USDC has no mark."""
    names = {collateral.name: number for number, collateral in enumerate(parameters.collaterals)}
    options, perps, balances, cash = _sorted(held, needs)
    for leg in balances:
        if leg.asset not in names:
            needs.refuse(leg, f"no collateral of the parameters is called {leg.asset}")
    balances = [leg for leg in balances if leg.asset in names]
    assets = list(dict.fromkeys(leg.asset for leg in (*options, *perps)))
    if len(assets) > 1:
        needs.lacks(f"the rule takes one underlying: the account has contracts of {', '.join(assets)}")
    if not assets:
        needs.lacks("the rule needs a perpetual or an option: without either, which underlying the collateral goes with is not said")
    spot_usd = held.marks.get(assets[0], np.nan) if assets else np.nan
    confidence = needs.number("confidence", "how sure the venue's feeds are, 0 to 1")
    rate = needs.number("rate", "the venue's rate feed, an annual decimal")
    expiries = list(dict.fromkeys(leg.years for leg in options))
    count = len(expiries)
    option_expiry = integers([expiries.index(leg.years) for leg in options])
    option_strike_usd = floats([leg.strike_usd for leg in options])
    inputs = derive_pmrm2.Inputs(
        spot_usd=spot_usd,
        spot_confidence=confidence,
        perp_usd=spot_usd,
        perp_confidence=confidence,
        stable_usd=_stable_usd(held, needs),
        expiry_s=floats([years * _SECONDS_A_YEAR for years in expiries]),
        forward_usd=floats([spot_usd] * count),
        forward_confidence=floats([confidence] * count),
        rate=floats([rate] * count),
        rate_confidence=floats([confidence] * count),
        sigma_confidence=floats([confidence] * count),
        option_expiry=option_expiry,
        option_pair=derive_pmrm2.option_pairs(option_expiry, option_strike_usd),
        option_strike_usd=option_strike_usd,
        option_is_call=np.array([leg.is_call for leg in options], dtype=np.bool_),
        option_sigma=floats([leg.sigma for leg in options]),
        collateral_usd=floats([held.marks.get(name, np.nan) for name in names]),
        collateral_confidence=floats([confidence] * len(names)),
        cash_usd=one(cash),
        perps=one(sum(leg.units for leg in perps)),
        perp_profit_usd=one(sum(leg.value_usd for leg in perps)),
        perp_funding_usd=one(0.0),
        start=offsets(len(options)),
        leg_option=integers(list(range(len(options)))),
        leg_amount=floats([leg.units for leg in options]),
        collateral_start=offsets(len(balances)),
        held_collateral=integers([names[leg.asset] for leg in balances]),
        held_amount=floats([leg.units for leg in balances]),
    )
    return Adapted(inputs, {})


def _sorted(held: VenueLegs, needs: Needs) -> tuple[list[Leg], list[Leg], list[Leg], float]:
    """(options, perpetuals, balances, dollars in USDC); a perpetual's cash is part of its profit."""
    options: list[Leg] = []
    perps: list[Leg] = []
    balances: list[Leg] = []
    cash = 0.0
    for leg in held.legs:
        if leg.contract not in ("option", "perpetual", "spot", "loan"):
            needs.refuse(leg, "the venue settles in dollars: there are options, perpetuals and balances")
        elif leg.cash and leg.quote not in UNITS_OF_USD:
            needs.refuse(leg, f"its cash is in {leg.quote}, and the venue's is in USDC")
        elif leg.contract in ("spot", "loan") and leg.asset in UNITS_OF_USD:
            cash += leg.units
        elif leg.contract == "perpetual":
            perps.append(leg)
        else:
            cash += leg.cash
            (options if leg.contract == "option" else balances).append(leg)
    return options, perps, balances, cash


def _stable_usd(held: VenueLegs, needs: Needs) -> float:
    if "USDC" in held.marks:
        return held.marks["USDC"]
    return needs.number("stable_usd", "the price of USDC, which has no mark here")
