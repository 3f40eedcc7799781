"""Rules of what lends against collateral: Aave's pools, Hyperliquid's borrowing."""

import numpy as np

from engine.rules import aave_v3, hyperliquid_pm
from engine.rules.legs import NOT_NEGATIVE, SHARE, UNITS_OF_USD, Adapted, Bools, Needs, VenueLegs
from engine.tables import LOAN, SPOT


def of_aave_v3(held: VenueLegs, parameters: aave_v3.Parameters, needs: Needs) -> list[Adapted]:
    """Balances and debts in reserves of their assets' names. All that is supplied is collateral; `given.mode`: the efficiency mode."""
    legs, names = held.legs, [reserve.name for reserve in parameters.reserves]
    reserve, balance = held.places_of(names)[legs.asset], _balances(held, needs)
    needs.refuse(balance & (reserve < 0), "no reserve of the parameters is called {asset}")
    taken = balance & (reserve >= 0)
    units = legs.units[taken]
    inputs = aave_v3.Inputs(
        start=held.starts_of(taken),
        reserve=reserve[taken],
        supplied=np.maximum(units, 0.0),
        is_collateral=units > 0.0,
        owed=np.maximum(-units, 0.0),
        mode=np.full(held.accounts, _mode(parameters, needs)),
        price_usd=held.marks_of(names),
    )
    return [Adapted(np.arange(held.accounts), inputs, lambda: {f"reserve {number}": name for number, name in enumerate(names)})]


def of_hyperliquid_pm(held: VenueLegs, _: hyperliquid_pm.Parameters, needs: Needs) -> list[Adapted]:
    """Tokens, and dollars held or owed. `given`, by asset: loan_to_value, and supply_cap in tokens."""
    legs = held.legs
    balance, dollars = _balances(held, needs), (held.places_of(UNITS_OF_USD) >= 0)[legs.asset]
    token = balance & ~dollars
    needs.refuse(token & (legs.units < 0.0), "the rule knows what is owed in dollars alone")
    account, asset = held.account[token], legs.asset[token]
    supply_cap = needs.by_asset("supply_cap", account, asset, "how many tokens count at most", NOT_NEGATIVE)
    loan_to_value = needs.by_asset("loan_to_value", account, asset, "what share of it may be borrowed", SHARE)
    inputs = hyperliquid_pm.Inputs(
        start=held.starts_of(token),
        balance=np.maximum(legs.units[token], 0.0),
        supply_cap=supply_cap[asset],
        price_usd=legs.mark_usd[token],
        loan_to_value=loan_to_value[asset],
        cash_usd=held.sums(np.where(balance & dollars, legs.units, 0.0)),
        perp_maintenance_usd=np.zeros(held.accounts),
    )
    return [Adapted(np.arange(held.accounts), inputs)]


def _mode(parameters: aave_v3.Parameters, needs: Needs) -> int:
    """The efficiency mode, 0 where what is given is none."""
    mode, count = needs.optional("mode", 0.0), len(parameters.categories)
    if mode in range(count + 1):
        return int(mode)
    if not np.isnan(mode):
        needs.fault(f"given.mode: {mode:g} is none of the {count} categories, counted from 1; 0 is none")
    return 0


def _balances(held: VenueLegs, needs: Needs) -> Bools:
    """(legs,): which are a balance, or a debt; refuses the others."""
    balance = held.of(SPOT, LOAN)
    needs.refuse(~balance, "the rule takes balances and debts; how a contract's profit counts here is not published")
    return balance
