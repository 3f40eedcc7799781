"""Rules of futures and perpetuals: Deribit's segregated portfolio margin, Dederi."""

import numpy as np

from engine.rules import dederi, deribit_pm
from engine.rules.legs import NOT_NEGATIVE, Adapted, Bools, Floats, Needs, VenueLegs
from engine.tables import FUTURE, INVERSE_FUTURE, INVERSE_PERPETUAL, SPOT


def of_deribit_pm(held: VenueLegs, _: deribit_pm.Parameters, needs: Needs) -> list[Adapted]:
    """Coin-margined futures and perpetuals of one coin, and that coin itself. `given`, in coins: the three margins that come on top."""
    legs = held.legs
    traded, balance = held.of(INVERSE_PERPETUAL, INVERSE_FUTURE), held.of(SPOT)
    every = np.ones(len(legs.units), np.bool_)
    needs.refuse_accounts(
        held.mixed(every),
        lambda account: f"the account is segregated by coin: it holds {held.assets_of(account, every)}, and the rule takes one",
    )
    needs.refuse(
        ~traded & ~balance, "the rule computes coin-margined futures and perpetuals; the venue's document leaves open how the rest is"
    )
    needs.refuse(
        (traded | balance) & (legs.quote != legs.asset) & (legs.cash != 0.0),
        "its cash is in {quote}, which is no margin of a segregated coin",
    )
    coin_usd = _first_mark_usd(held, every, 1.0)
    inputs = deribit_pm.Inputs(
        start=held.starts_of(traded),
        size=legs.units[traded],
        years=legs.years[traded],
        index_usd=coin_usd,
        equity=held.sums(legs.value_usd) / coin_usd,
        correlation_contingency=np.zeros(held.accounts),
        mmp_margin=np.full(held.accounts, needs.optional("mmp_margin", 0.0, NOT_NEGATIVE)),
        open_orders_margin=np.full(held.accounts, needs.optional("open_orders_margin", 0.0, NOT_NEGATIVE)),
        spot_margin=np.full(held.accounts, needs.optional("spot_margin", 0.0, NOT_NEGATIVE)),
    )
    return [Adapted(np.arange(held.accounts), inputs)]


def of_dederi(held: VenueLegs, _: dederi.Parameters, needs: Needs) -> list[Adapted]:
    """Linear futures of one underlying, and dollars."""
    legs = held.legs
    traded = held.of(FUTURE)
    dollars = held.of(SPOT) & (held.places_of(["USD"]) == 0)[legs.asset]
    needs.refuse_accounts(
        held.mixed(traded), lambda account: f"the rule takes one underlying: the account has futures of {held.assets_of(account, traded)}"
    )
    needs.refuse(
        ~traded & ~dollars, "the rule computes linear futures against dollars; the wiki has no numbers of the rest that we could hold it to"
    )
    inputs = dederi.Inputs(
        start=held.starts_of(traded),
        quantity=legs.units[traded],
        price_usd=np.where(legs.units != 0.0, held.price_usd, 0.0)[traded],
        index_usd=_first_mark_usd(held, traded, 0.0),
        equity_usd=held.sums(legs.value_usd),
    )
    return [Adapted(np.arange(held.accounts), inputs)]


def _first_mark_usd(held: VenueLegs, which: Bools, otherwise: float) -> Floats:
    """(accounts,): the mark of the asset of each one's first leg of `which`, `otherwise` where it has none."""
    first = held.firsts(which)
    found = np.full(held.accounts, otherwise)
    found[first >= 0] = held.legs.mark_usd[first[first >= 0]]
    return found
