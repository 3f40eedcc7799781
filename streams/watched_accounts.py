"""The accounts of `account.health`, as last told: totals by state, the worst first, and how each of them went."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.effects import Health
from engine.reasons import State
from streams.series import Series

ACCOUNTS_SHOWN_MAX = 200_000  # about a kilobyte each
ACCOUNT_HISTORIES_MAX = 20_000  # about 4 kB each when full
ACCOUNT_POINTS_MAX = 240
TOTALS_POINTS_MAX = 480

STATES: Final = tuple(state.name for state in State)
_CODE: Final = {state.name: int(state) for state in State}
_UNKNOWN: Final = int(State.UNKNOWN)
_ROOM_AT_FIRST: Final = 1_024
# The worst first: what a state adds to the distance to liquidation, here or at a venue that is near; it is cut off at half a step.
_STEP: Final = 1e9
_RANK: Final = {State.BANKRUPT: 0.0, State.LIQUIDATABLE: 1.0, State.UNKNOWN: 2.0, State.WARNING: 3.0, State.HEALTHY: 3.0}
_LINE: Final = np.dtype(
    [
        ("state", np.uint8),
        ("rank", np.float64),
        ("equity_usd", np.float64),
        ("missing_usd", np.float64),
        ("partition", np.int32),
        ("local", np.bool_),  # healthy, with a leg near its venue's own liquidation
    ]
)
_RANK_OF: Final = [_RANK[state] * _STEP for state in State]


class Ranked(NamedTuple):
    """Some accounts, the worst first, and how many there are of the kind."""

    rows: list[Health]
    matching: int


class History(NamedTuple):
    """How one account went: as many of each as there are times. Money that is not known is None."""

    times_ns: list[int]
    states: list[str]
    equity_usd: list[float | None]
    maintenance_usd: list[float | None]


def distance(health: Health) -> float | None:
    """To liquidation: the excess over maintenance as a fraction of it; None where it has no requirement, or cannot be valued."""
    if health.equity_usd is None or not health.maintenance_usd:
        return None
    return (health.equity_usd - health.maintenance_usd) / health.maintenance_usd


def near_venues(health: Health) -> dict[str, float]:
    """Venues near whose own liquidation a leg of the account is, and how far: a fraction, below 0 past it."""
    near = [leg for leg in health.legs if leg.verdict in ("near", "past")]
    return {leg.venue: -1.0 if leg.distance is None else leg.distance for leg in near}


class WatchedAccounts:
    """Bounded by ACCOUNTS_SHOWN_MAX accounts: whoever comes after that is not taken, and counted in `left_out`."""

    def __init__(self) -> None:
        self.health: dict[str, Health] = {}
        self.left_out = 0  # records of accounts beyond the bound
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._lines = np.zeros(_ROOM_AT_FIRST, _LINE)
        self._histories: dict[str, Series] = {}
        self._totals: dict[int, list[int]] = {}  # by partition, then state
        self._totals_went: dict[int, Series] = {}

    def take(self, partition: int, health: Health) -> None:
        """The last word on one account."""
        name, code = health.account, _CODE[health.state]
        number = self._numbers.get(name, -1)
        totals = self._totals.get(partition)
        if totals is None:
            totals = self._totals[partition] = [0] * len(STATES)
            self._totals_went[partition] = Series("L" * len(STATES), TOTALS_POINTS_MAX)
        if number < 0:
            if len(self._names) >= ACCOUNTS_SHOWN_MAX:
                self.left_out += 1
                return
            number = self._add(name)
        else:
            self._take_back(number, partition, health.clock_ns)
        totals[code] += 1
        self._totals_went[partition].add(health.clock_ns, totals)
        self.health[name] = health
        equity, maintenance = health.equity_usd, health.maintenance_usd
        far = distance(health)
        near = near_venues(health)
        urgent = min([_STEP / 2 if far is None else far, *near.values()])
        rank = _RANK_OF[code] + min(max(urgent, -_STEP / 2), _STEP / 2)
        missing = max(0.0, maintenance - equity) if equity is not None and maintenance is not None else 0.0
        self._lines[number] = (code, rank, equity or 0.0, missing, partition, bool(near) and health.state == State.HEALTHY.name)
        history = self._histories.get(name)
        if history is not None:
            history.add(health.clock_ns, (code, math.nan if equity is None else equity, math.nan if maintenance is None else maintenance))

    def _take_back(self, number: int, partition: int, clock_ns: int) -> None:
        """No longer count what was said last, where it was counted: another partition may have said it, when there were fewer of them."""
        line = self._lines[number]
        counted_by = int(line["partition"])
        totals = self._totals[counted_by]
        totals[line["state"]] -= 1
        if counted_by != partition:
            self._totals_went[counted_by].add(clock_ns, totals)

    def states(self) -> dict[str, int]:
        """How many accounts are in each state."""
        return {state: sum(counts[code] for counts in self._totals.values()) for code, state in enumerate(STATES)}

    def equity_usd(self) -> dict[str, float]:
        """The equity of those that can be valued, by state."""
        lines = self._lines[: len(self._names)]
        sums = np.bincount(lines["state"], weights=lines["equity_usd"], minlength=len(STATES))
        return {state: float(sums[code]) for code, state in enumerate(STATES) if code != _UNKNOWN}

    def shortfall_usd(self) -> float:
        """What is missing to maintenance, over all that are below."""
        return float(self._lines["missing_usd"][: len(self._names)].sum())

    def local(self) -> int:
        """How many healthy accounts have a leg near its venue's own liquidation, or past it."""
        return int(self._lines["local"][: len(self._names)].sum())

    def ranked(self, limit: int, state: str = "", search: str = "") -> Ranked:
        """At most `limit` accounts in this state (any where ''), whose name holds `search` in any case, the worst first."""
        lines, n = self._lines, len(self._names)
        found: NDArray[np.int64] = np.arange(n)
        if state:
            found = np.flatnonzero(lines["state"][:n] == _CODE.get(state, len(STATES)))
        if search:
            wanted = search.lower()
            found = np.array([k for k in found.tolist() if wanted in self._names[k].lower()], np.int64)
        matching = len(found)
        if matching > limit:
            found = found[np.argpartition(lines["rank"][found], limit)[:limit]]
        ordered = sorted(zip(lines["rank"][found].tolist(), (self._names[k] for k in found.tolist()), strict=True))
        rows = [self.health[name] for _, name in ordered]
        return Ranked(rows, matching)

    def history(self, account: str) -> History | None:
        """How the account went since the watch began, or the run: whatever its topic still held. None for the latest accounts of many."""
        series = self._histories.get(account)
        if series is None:
            return None
        codes, equity, maintenance = (series.column(number) for number in range(3))
        return History(series.times_ns(), [STATES[int(code)] for code in codes], _known(equity), _known(maintenance))

    def totals_went(self) -> tuple[list[int], dict[str, list[int]]]:
        """(times, accounts in each state at that time), over all partitions."""
        series = list(self._totals_went.values())
        times = sorted({time_ns for one in series for time_ns in one.times_ns()})
        if len(times) > TOTALS_POINTS_MAX:
            times = [*times[: -1 : len(times) // TOTALS_POINTS_MAX + 1], times[-1]]
        went = {state: [0] * len(times) for state in STATES}
        for one in series:
            own = one.times_ns()
            for code, state in enumerate(STATES):
                column, sums = one.column(code), went[state]
                for k, count in enumerate(_as_of(times, own, column)):
                    sums[k] += count
        return times, went

    def _add(self, name: str) -> int:
        number = self._numbers[name] = len(self._names)
        self._names.append(name)
        if number == len(self._lines):
            self._lines = np.concatenate([self._lines, np.zeros_like(self._lines)])
        if number < ACCOUNT_HISTORIES_MAX:
            self._histories[name] = Series("Bff", ACCOUNT_POINTS_MAX)
        return number


def _as_of(times: list[int], own: list[int], column: list[float]) -> Iterator[int]:
    """The value at each of `times`: that of the latest own time which is not later; 0 before the first."""
    k = -1
    for time_ns in times:
        while k + 1 < len(own) and own[k + 1] <= time_ns:
            k += 1
        yield int(column[k]) if k >= 0 else 0


def _known(values: list[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]
