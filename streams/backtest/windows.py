"""Breaches: for each account and each start of a window, did its positions lose more over the horizon than was required at the start?"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.backtest.kupiec import Proportion, independence, proportion
from streams.backtest.play import GRID_MINUTES, Played

# Covered: maintenance and what haircuts hold back, which is all that stands before a debt.
LEVELS: Final = ("maintenance", "initial", "covered")
CENT: Final = 0.01  # a loss within a cent of the requirement is rounding


class Counts(NamedTuple):
    """Violations at one level. Windows *apart* follow one another without overlap; the others start at each quarter of an hour."""

    trials: int
    violations: int
    within: int  # trials apart in which the loss was beyond the requirement at some minute, not only at the window's end
    windows: int
    windows_hit: int  # in which at least one account was in violation
    accounts: int
    accounts_hit: int
    overlapping_trials: int
    overlapping_violations: int
    runs: list[list[bool]]  # by account, windows apart in the order of time; a window in which it could not be valued is left out

    def test(self, promised: float) -> Proportion:
        """Kupiec's, on the windows apart."""
        return proportion(self.trials, self.violations, promised)

    def independent(self) -> float:
        """p-value of Christoffersen's test of independence, over the accounts' windows apart."""
        return independence(self.runs)[1]


class Losses(NamedTuple):
    """For each start s and account n, in USD; nan where it could not be valued at the start or at the end."""

    starts: NDArray[np.int64]  # [S] minutes
    at_end: NDArray[np.float64]  # [S, N]
    worst: NDArray[np.float64]  # [S, N] the largest at any minute within


def losses(unhaircut: NDArray[np.float64], horizon: int, step: int = GRID_MINUTES) -> Losses:
    """What frozen positions lost over `horizon` minutes from each multiple of `step`; `unhaircut` is [minutes + 1, N]."""
    starts = np.arange(0, len(unhaircut) - horizon, step)
    at_end = unhaircut[starts] - unhaircut[starts + horizon]
    lowest = np.full(at_end.shape, np.nan)
    for k, start in enumerate(starts.tolist()):
        lowest[k] = np.fmin.reduce(unhaircut[start : start + horizon + 1])  # minutes without a value count for nothing
    return Losses(starts, at_end, unhaircut[starts] - lowest)


def count(found: Losses, required: NDArray[np.float64], horizon: int, chosen: NDArray[np.bool_]) -> Counts:
    """Of the chosen accounts [N]; `required` is [S, N], at the starts. A trial needs a value at the start and at the end."""
    required, at_end, worst = required[: len(found.starts), chosen], found.at_end[:, chosen], found.worst[:, chosen]
    valid = np.isfinite(required) & np.isfinite(at_end)
    broken = valid & (at_end > required + CENT)
    apart = found.starts % horizon == 0
    valid_apart, broken_apart = valid[apart], broken[apart]
    within = valid_apart & (worst[apart] > required[apart] + CENT)
    return Counts(
        trials=int(valid_apart.sum()),
        violations=int(broken_apart.sum()),
        within=int(within.sum()),
        windows=int(valid_apart.any(axis=1).sum()),
        windows_hit=int(broken_apart.any(axis=1).sum()),
        accounts=int(valid_apart.any(axis=0).sum()),
        accounts_hit=int(broken_apart.any(axis=0).sum()),
        overlapping_trials=int(valid.sum()),
        overlapping_violations=int(broken.sum()),
        runs=[broken_apart[valid_apart[:, n], n].tolist() for n in range(valid_apart.shape[1])],
    )


def requirements(played: Played) -> dict[str, NDArray[np.float64]]:
    """What was required at each start, by level."""
    return {
        "maintenance": played.maintenance,
        "initial": played.initial,
        "covered": played.maintenance + played.haircut,
    }


def together(parts: list[Counts]) -> Counts:
    """The sum over episodes."""
    runs = [run for part in parts for run in part.runs]
    names = [name for name in Counts._fields if name != "runs"]
    return Counts(runs=runs, **{name: sum(getattr(part, name) for part in parts) for name in names})
