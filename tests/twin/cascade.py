"""What accounts would have to sell if one risk group fell, each valued again from the beginning at the moved marks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from streams.shadow.margin import Account, Valuation
from streams.shadow.universe import InstrumentKey, Universe
from streams.shadow.values import Position, Positions, Valuer
from streams.shadow.view import View

DEEPEST = 1 - 1e-9


@dataclass
class Point:
    """At one fall, those of smaller falls included; USD by asset. `second` is what the first round's impact adds."""

    accounts: int = 0
    volume: dict[str, float] = field(default_factory=dict)
    second: dict[str, float] = field(default_factory=dict)


def curve(universe: Universe, view: View, accounts: Iterable[Positions], group: str, falls: Iterable[float]) -> list[Point]:
    """`accounts` are those that can be valued now."""
    left = [positions for positions in accounts if holds(universe, positions, group)]
    points: list[Point] = []
    so_far = Point()
    for fall in falls:
        so_far = Point(so_far.accounts, dict(so_far.volume))
        standing = []
        moved = fallen(universe, view, group, fall)
        for positions in left:
            if sells(universe, moved, positions, group, so_far.volume):
                so_far.accounts += 1
            else:
                standing.append(positions)
        left = standing
        volume = sum(so_far.volume.values())
        if volume > 0:
            impact = min(view.parameters["impact_coefficient"] * math.sqrt(volume / view.depths_usd[group]), 1.0)
            further = fallen(universe, view, group, min(1 - (1 - fall) * (1 - impact), DEEPEST))
            for positions in left:
                sells(universe, further, positions, group, so_far.second)
        points.append(so_far)
    return points


def holds(universe: Universe, positions: Positions, group: str) -> bool:
    for key, position in positions.items():
        instrument = universe.instruments[key]
        if position.quantity and universe.group_of(instrument["underlying"]) == group:
            return True
        if position.cash and universe.group_of(instrument["quote"]) == group:
            return True
    return False


def fallen(universe: Universe, view: View, group: str, fall: float) -> View:
    """The view with the marks of the group's members lower; all else as it was."""
    return replace(
        view,
        marks={
            asset: mark * (1 - fall) if mark is not None and universe.group_of(asset) == group else mark
            for asset, mark in view.marks.items()
        },
    )


def sells(universe: Universe, view: View, positions: Positions, group: str, volume: dict[str, float]) -> bool:
    """Whether the account is below maintenance; if it is, what it sells is added."""
    account = Account(universe, view, positions)
    valuation = account.valuation()
    bankrupt = valuation.unhaircut - valuation.close_cost < 0
    if valuation.reason or not (bankrupt or valuation.equity_m < valuation.maintenance):
        return False
    share = 1.0 if bankrupt else closed_share(valuation)
    for key, position in positions.items():
        asset = universe.instruments[key]["underlying"]
        if universe.group_of(asset) == group:
            volume[asset] = volume.get(asset, 0.0) + share * to_sell(account, key, position)
    return True


def closed_share(valuation: Valuation) -> float:
    """Where the line from the excess now to the one after everything is closed crosses zero."""
    return -valuation.excess / (valuation.unhaircut - valuation.excess)


def to_sell(account: Account, key: InstrumentKey, position: Position) -> float:
    valuer: Valuer = account.valuer
    match account.universe.instruments[key]["contract"]:
        case "loan":
            return 0.0
        case "option" | "inverse_option":
            return max(0.0, valuer.delta_usd(key, position.quantity)) if position.quantity else 0.0
        case _:
            return account.notional(key, position.quantity) if position.quantity > 0 else 0.0
