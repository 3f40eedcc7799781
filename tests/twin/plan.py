"""Which positions to close, how many lots of each, and at what limit."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from streams.shadow.margin import Account
from streams.shadow.universe import LOTS_OF_USD, OPTIONS, InstrumentKey, Universe
from streams.shadow.values import Positions
from streams.shadow.view import View

SMALLEST_COST = 1e-6  # of the notional


@dataclass(frozen=True)
class Leg:
    """One order to be; `lots` > 0 buys."""

    key: InstrumentKey
    lots: int
    notional_usd: float
    cost_usd: float
    excess_before: float
    excess_after: float


@dataclass(frozen=True)
class Plan:
    legs: list[Leg]
    throttled: bool  # the budget kept something from being closed, and no leg is left


def order_id(account: str, epoch: int, key: InstrumentKey, attempt: int) -> str:
    text = f"{account}|{epoch}|{key[0]}|{key[1]}|{attempt}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def limit_ticks(account: Account, key: InstrumentKey, lots: int, attempt: int) -> int:
    p, price = account.parameters, unit_price(account, key)
    tick = account.universe.instruments[key]["tick_size"]
    slip = min(p["slip_bps"] + p["slip_step_bps"] * (attempt - 1), p["slip_cap_bps"]) * 1e-4
    ticks = math.ceil(price * (1 + slip) / tick) if lots > 0 else math.floor(price * (1 - slip) / tick)
    return max(int(ticks), 1)


def unit_price(account: Account, key: InstrumentKey) -> float:
    """What a unit trades at, in the quote; of inverse perpetuals and futures in USD."""
    valuer, instrument = account.valuer, account.universe.instruments[key]
    contract, mark = instrument["contract"], valuer.mark(instrument["underlying"])
    premium = 1 + account.view.basis.get(key, 0.0)
    if contract in LOTS_OF_USD:
        return mark * premium
    usd = valuer.lot_usd(key, 1) / float(instrument["lot_size"]) if contract in OPTIONS else mark * premium
    return usd / valuer.mark(instrument["quote"])


def after_closing(account: Account, key: InstrumentKey, n: int) -> tuple[Account, float]:
    """The account once n lots (> 0) of the position are closed at the mark, less the cost; and that cost."""
    position = account.positions[key]
    closed = n if position.quantity > 0 else -n
    cost = account.cost(key, n)
    instrument = account.universe.instruments[key]
    if instrument["contract"] == "spot":
        lot = float(instrument["lot_size"]) * account.valuer.mark(instrument["underlying"])
    else:
        lot = account.valuer.lot_usd(key, position.quantity)
    received = round((closed * lot - cost) / account.valuer.cash_unit_usd(key))
    left = replace(position, quantity=position.quantity - closed, cash=position.cash + received)
    positions: Positions = {**account.positions, key: left}
    if left.is_empty:
        del positions[key]
    return Account(account.universe, account.view, positions), cost


def plan(
    universe: Universe,
    view: View,
    positions: Positions,
    budgets_usd: dict[str, float],
    everything: bool,
    closable: Callable[[InstrumentKey], bool],
) -> Plan:
    """The legs for one account; `closable` says whether an order for an instrument may be sent now."""
    left = dict(budgets_usd)
    account = Account(universe, view, {key: replace(position) for key, position in positions.items()})
    legs: list[Leg] = []
    throttled = False
    while len(legs) < view.parameters["plan_legs_max"]:
        before = account.excess()
        if before >= 0 and not everything:
            break
        leg, throttled = _best_leg(account, before, left, everything, lambda key: closable(key) and all(key != leg.key for leg in legs))
        if leg is None:
            break
        legs.append(leg)
        left[universe.instruments[leg.key]["underlying"]] -= leg.notional_usd
        account, _ = after_closing(account, leg.key, abs(leg.lots))
    return Plan(legs, throttled and not legs)


def _best_leg(
    account: Account, before: float, budgets_usd: dict[str, float], everything: bool, closable: Callable[[InstrumentKey], bool]
) -> tuple[Leg | None, bool]:
    """The leg of the best candidate that the budget pays for and that raises the excess; and whether a budget was in the way."""
    throttled = False
    for _, key, best in _candidates(account, before, everything, closable):
        quantity = account.positions[key].quantity
        n = best if everything else lots_needed(account, key, best)
        paid = budgets_usd.get(account.universe.instruments[key]["underlying"], 0.0)
        affordable = math.floor(paid / account.notional(key, 1))
        if affordable < n:
            n, throttled = affordable, True
        if n == 0:
            continue
        closed, cost = after_closing(account, key, n)
        after = closed.excess()
        if after > before:
            return Leg(key, -n if quantity > 0 else n, account.notional(key, n), cost, before, after), False
    return None, throttled


def _candidates(
    account: Account, before: float, everything: bool, closable: Callable[[InstrumentKey], bool]
) -> list[tuple[float, InstrumentKey, int]]:
    """(score, instrument, lots of its best close), best first, equal ones in slot order."""
    found: list[tuple[float, InstrumentKey, int]] = []
    for key, position in account.positions.items():
        instrument = account.universe.instruments[key]
        if position.quantity == 0 or instrument["contract"] == "loan" or not instrument.get("tradable", True) or not closable(key):
            continue
        if account.valuer.past_expiry(key):
            continue  # it is settled, not traded
        n = abs(position.quantity) if everything else best_close(account, key)
        closed, cost = after_closing(account, key, n)
        released = closed.excess() - before
        if released > 0:
            found.append((released / max(cost, SMALLEST_COST * account.notional(key, n)), key, n))
    return sorted(found, key=lambda candidate: -candidate[0])


def best_close(account: Account, key: InstrumentKey) -> int:
    """All, where a sixteenth less is not better; else the best of sixteen sizes over the whole position and of sixteen around that one."""
    full = abs(account.positions[key].quantity)
    less = full - max(full // 16, 1)
    if less == 0 or after_closing(account, key, less)[0].excess() <= after_closing(account, key, full)[0].excess():
        return full
    looked_at = _sixteenths(0, full)
    excess = {n: after_closing(account, key, n)[0].excess() for n in looked_at}
    coarse = max(excess, key=excess.__getitem__)
    step = full // 16 + 1
    for n in _sixteenths(max(coarse - step, 0), min(coarse + step, full)):
        excess.setdefault(n, after_closing(account, key, n)[0].excess())
    return max(excess, key=excess.__getitem__)


def _sixteenths(low: int, high: int) -> list[int]:
    return [low + -(-k * (high - low) // 16) for k in range(1, 17)]


def lots_needed(account: Account, key: InstrumentKey, best: int) -> int:
    """The smallest number of lots whose closing leaves no shortfall to liquidation end; `best`, if that leaves one."""
    low, high = 1, best
    if after_closing(account, key, high)[0].excess() <= 0:
        return high
    while low < high:
        middle = (low + high) // 2
        if after_closing(account, key, middle)[0].excess() >= 0:
            high = middle
        else:
            low = middle + 1
    return low
