"""Rules of options on their own: Bybit's."""

import numpy as np

from engine.rules import bybit_uta
from engine.rules.legs import Adapted, Needs, VenueLegs
from engine.tables import OPTION, SPOT


def of_bybit_uta(held: VenueLegs, _: bybit_uta.Parameters, needs: Needs) -> list[Adapted]:
    """Options against dollars. The margin balance is dollars and premiums: the rule counts an option's mark in its requirement."""
    legs = held.legs
    option = held.of(OPTION)
    dollars = held.of(SPOT) & (held.places_of(["USD"]) == 0)[legs.asset]
    short = option & (legs.units < 0.0)
    needs.refuse(
        ~option & ~dollars, "the rule computes options against dollars; tiers of perpetuals and ratios of collateral are not part of it"
    )
    needs.refuse(short & np.isnan(legs.entry_usd), "a short option's initial margin needs its entry price: say entry_price of the position")
    inputs = bybit_uta.Inputs(
        start=held.starts_of(option),
        size=legs.units[option],
        is_call=legs.is_call[option],
        index_usd=legs.mark_usd[option],
        strike_usd=legs.strike_usd[option],
        entry_usd=np.where(short, legs.entry_usd, 0.0)[option],
        mark_usd=np.where(legs.units != 0.0, held.price_usd, 0.0)[option],
        equity_usd=held.sums(np.where(option, legs.cash_usd, legs.value_usd)),
    )

    def words() -> dict[str, str]:
        return {f"leg {number}": held.instruments[instrument] for number, instrument in enumerate(legs.instrument[option].tolist())}

    return [Adapted(np.arange(held.accounts), inputs, words)]
