"""Rules of futures and perpetuals: Deribit's segregated portfolio margin, Dederi."""

from engine.rules import dederi, deribit_pm
from engine.rules.legs import Adapted, Needs, VenueLegs, floats, offsets, one

_INVERSE = ("inverse_perpetual", "inverse_future")


def of_deribit_pm(held: VenueLegs, _: deribit_pm.Parameters, needs: Needs) -> Adapted:
    """Coin-margined futures and perpetuals of one coin, and that coin itself. `given`, in coins: the three margins that come on top."""
    assets = list(dict.fromkeys(leg.asset for leg in held.legs))
    if len(assets) > 1:
        needs.lacks(f"the account is segregated by coin: it holds {', '.join(assets)}, and the rule takes one")
    for leg in held.legs:
        if leg.contract not in (*_INVERSE, "spot"):
            needs.refuse(leg, "the rule computes coin-margined futures and perpetuals; the venue's document leaves open how the rest is")
        elif leg.quote != leg.asset and leg.cash:
            needs.refuse(leg, f"its cash is in {leg.quote}, which is no margin of a segregated coin")
    traded = [leg for leg in held.legs if leg.contract in _INVERSE]
    coin_usd = held.legs[0].mark_usd
    inputs = deribit_pm.Inputs(
        start=offsets(len(traded)),
        size=floats([leg.units for leg in traded]),
        years=floats([leg.years for leg in traded]),
        index_usd=one(coin_usd),
        equity=one(sum(leg.value_usd for leg in held.legs) / coin_usd),
        correlation_contingency=one(0.0),
        mmp_margin=one(needs.optional("mmp_margin", 0.0)),
        open_orders_margin=one(needs.optional("open_orders_margin", 0.0)),
        spot_margin=one(needs.optional("spot_margin", 0.0)),
    )
    return Adapted(inputs, {})


def of_dederi(held: VenueLegs, _: dederi.Parameters, needs: Needs) -> Adapted:
    """Linear futures of one underlying, and dollars."""
    traded = [leg for leg in held.legs if leg.contract == "future"]
    assets = list(dict.fromkeys(leg.asset for leg in traded))
    if len(assets) > 1:
        needs.lacks(f"the rule takes one underlying: the account has futures of {', '.join(assets)}")
    for leg in held.legs:
        if leg.contract != "future" and not (leg.contract == "spot" and leg.asset == "USD"):
            needs.refuse(
                leg, "the rule computes linear futures against dollars; the wiki has no numbers of the rest that we could hold it to"
            )
    inputs = dederi.Inputs(
        start=offsets(len(traded)),
        quantity=floats([leg.units for leg in traded]),
        price_usd=floats([leg.price_usd if leg.units else 0.0 for leg in traded]),
        index_usd=one(traded[0].mark_usd if traded else 0.0),
        equity_usd=one(sum(leg.value_usd for leg in held.legs)),
    )
    return Adapted(inputs, {})
