"""Who was called before it fell, how early, what was liquidated and what that left, and what safety cost."""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.reasons import State
from streams.backtest.play import GRID_MINUTES, NEVER, Played

REACTIONS: Final = {"next minute": 1, "worst of an hour": 60}  # a plan is executed at the worst minute of so many that follow it


class Calls(NamedTuple):
    """Accounts that fell below maintenance, and how long before it they had been called."""

    accounts: int
    short_at_opening: int  # not healthy when first looked at: they are not among those that follow
    fell: int
    never_called: int
    leads: list[int]  # minutes from the call that came before the fall to the fall, sorted; one for each that was called

    @property
    def called_share(self) -> float | None:
        return len(self.leads) / self.fell if self.fell else None


class Liquidations(NamedTuple):
    """As they would have been: all positions of an account closed after its first plan, at marks and with their costs."""

    accounts: int
    recovered: int  # of them: above maintenance again at the episode's end, had nobody done anything
    bad_debts: dict[str, int]  # by reaction: accounts that left less than nothing
    bad_debt_usd: dict[str, float]


class Cost(NamedTuple):
    """What accounts had to hold before haircuts to take new risk (initial requirement and haircuts), USD, mean over accounts and time."""

    whole_usd: float
    calm_usd: float
    peak_usd: float  # mean over accounts alone, at the quarter of an hour in which it was largest
    calm_maintenance_usd: float  # the maintenance requirement alone, by which static values are set

    @property
    def peak(self) -> float:
        """How many times what was asked in the calm before: how far requirements feed a fall."""
        return self.peak_usd / self.calm_usd


def calls(state: NDArray[np.int8], chosen: NDArray[np.bool_]) -> Calls:
    """Of the chosen accounts [N]; `state` is [T, N], one a minute.

    Called: WARNING (at which `margin.calls` speaks) in an earlier minute, without HEALTHY since. An account that goes from HEALTHY to
    LIQUIDATABLE within one minute was not.
    """
    columns = [state[:, n] for n in np.flatnonzero(chosen).tolist()]
    leads, fell, never, short = [], 0, 0, 0
    for column in columns:
        if column[0] not in (State.HEALTHY, State.UNKNOWN):
            short += 1
            continue
        below = np.flatnonzero((column == State.LIQUIDATABLE) | (column == State.BANKRUPT))
        if not len(below):
            continue
        fell += 1
        fall = int(below[0])
        healthy = np.flatnonzero(column[:fall] == State.HEALTHY)
        spell_begins = int(healthy[-1]) + 1 if len(healthy) else 0
        warned = np.flatnonzero(column[spell_begins:fall] == State.WARNING)
        if len(warned):
            leads.append(fall - spell_begins - int(warned[0]))
        else:
            never += 1
    return Calls(len(columns), short, fell, never, sorted(leads))


def liquidations(played: Played, chosen: NDArray[np.bool_]) -> Liquidations:
    """Bad debt: unhaircut equity less closing costs below zero when the plan is executed.

    What falls due in the last minute, or cannot be valued in those that follow, counts as it stood when it fell due.
    """
    found = Liquidations(0, 0, dict.fromkeys(REACTIONS, 0), dict.fromkeys(REACTIONS, 0.0))
    places = np.flatnonzero(chosen & (played.due != NEVER)).tolist()
    left = played.unhaircut - played.close_cost
    for n in places:
        due = int(played.due[n])
        for reaction, minutes in REACTIONS.items():
            after = left[due + 1 : due + 1 + minutes, n]
            after = after[np.isfinite(after)]
            rest = float(after.min()) if len(after) else float(left[due, n])
            if rest < 0.0:
                found.bad_debts[reaction] += 1
                found.bad_debt_usd[reaction] -= rest
    recovered = sum(int(played.state[-1, n]) in (State.HEALTHY, State.WARNING) for n in places)
    return found._replace(accounts=len(places), recovered=recovered)


def cost(played: Played, calm_minutes: int, chosen: NDArray[np.bool_]) -> Cost:
    """Accounts are counted in whatever state they are, in both sets the same."""
    held = (played.initial + played.haircut_initial)[:, chosen]
    calm = calm_minutes // GRID_MINUTES + 1
    return Cost(
        float(np.nanmean(held)),
        float(np.nanmean(held[:calm])),
        float(np.nanmean(held, axis=1).max()),
        float(np.nanmean(played.maintenance[:calm, chosen])),
    )


def quantile(ordered: list[int], share: float) -> int | None:
    """The smallest value that at least `share` of the values are not above; None of none."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else None
