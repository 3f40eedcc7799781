"""How much marks move, alone and together: one asset's volatility, all groups' correlations, and implied volatilities between expiries."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from streams.shadow.correlation import shrunk
from streams.shadow.universe import YEAR_NS, YEAR_S

MONTH_NS = 30 * 86_400 * 1_000_000_000


@dataclass
class Volatility:
    """One asset's; `sigma` is what is measured, `initial` and `maintenance` what the two levels use."""

    v_fast: float
    v_slow: float
    sigma: float
    initial: float
    maintenance: float
    reference: float | None = None
    reference_ns: int = 0
    advanced_ns: int | None = None

    @classmethod
    def start(cls, sigma_ref: float, sigma_floor: float, sigma_cap: float) -> "Volatility":
        sigma = max(sigma_ref, sigma_floor)
        return cls(sigma_ref**2, sigma_ref**2, sigma, min(sigma, sigma_cap), min(sigma, sigma_cap))

    def sample(self, mark: float, time_ns: int, min_step_ns: int, taus_s: tuple[float, float], floor: float, half_life_s: float) -> bool:
        """Whether one was taken; the first mark is only what the next one is compared with."""
        if self.reference is None:
            self.reference, self.reference_ns = mark, time_ns
            return False
        if time_ns - self.reference_ns < min_step_ns:
            return False
        dt_s = (time_ns - self.reference_ns) / 1e9
        r = math.log(mark / self.reference)
        variance = r * r / (dt_s / YEAR_S)
        fast, slow = (math.exp(-dt_s / tau_s) for tau_s in taus_s)
        self.v_fast = self.v_fast * fast + (1 - fast) * variance
        self.v_slow = self.v_slow * slow + (1 - slow) * variance
        raw = max(math.sqrt(self.v_fast), math.sqrt(self.v_slow), floor)
        self.sigma = max(raw, self.sigma * 2 ** (-dt_s / half_life_s))
        self.reference, self.reference_ns = mark, time_ns
        return True

    def jump(self, floor: float) -> float:
        """How much larger what was seen of late is than what was seen for long."""
        usual = max(math.sqrt(self.v_slow), floor)
        return math.sqrt(self.v_fast) / usual if usual > 0 else 0.0

    def advance(self, target: float, clock_ns: int, rise_per_hour: float) -> None:
        """The initial level takes the target at once; maintenance falls at once and rises by so much an hour of clock."""
        hours = 0.0 if self.advanced_ns is None else (clock_ns - self.advanced_ns) / 3.6e12
        self.advanced_ns = clock_ns
        self.initial = target
        self.maintenance = min(target, self.maintenance + rise_per_hour * hours)


def nearest_to_a_month(fresh: dict[int, float], clock_ns: int) -> float:
    """Of {expiry: sigma}, which is not empty, the one whose expiry is nearest to 30 days from now; the earlier of two as near."""
    return fresh[min(fresh, key=lambda expiry_ns: (abs(expiry_ns - clock_ns - MONTH_NS), expiry_ns))]


def implied_at(fresh: dict[int, float], expiry_ns: int, clock_ns: int) -> float | None:
    """Of {expiry: sigma} the expiry's own, else on the straight line between its neighbours' total variances, flat beyond the ends."""
    if not fresh:
        return None
    if expiry_ns in fresh:
        return fresh[expiry_ns]
    before = [known for known in fresh if known < expiry_ns]
    after = [known for known in fresh if known > expiry_ns]
    if not before:
        return fresh[min(after)]
    if not after:
        return fresh[max(before)]
    near, far = max(before), min(after)
    t_near, t, t_far = (max(moment - clock_ns, 0) / YEAR_NS for moment in (near, expiry_ns, far))
    share = (t - t_near) / (t_far - t_near)
    total = fresh[near] ** 2 * t_near * (1 - share) + fresh[far] ** 2 * t_far * share
    return math.sqrt(total / t)


class Correlations:
    """Of all groups, on a grid of one minute of clock."""

    def __init__(self) -> None:
        self.covariance: dict[tuple[str, str], float] = {}
        self.minute: int | None = None
        self.at_last_point: dict[str, float | None] = {}

    def start(self, sigma_refs: dict[str, float], priors: dict[tuple[str, str], float]) -> None:
        """Of groups, in their order, that are new: a variance, and covariances with those before, as their variances are now."""
        known: list[str] = []
        for g, sigma_ref in sigma_refs.items():
            if (g, g) not in self.covariance:
                self.covariance[g, g] = sigma_ref**2 * (60 / YEAR_S)
                for h in known:
                    start = priors[g, h] * math.sqrt(self.covariance[g, g] * self.covariance[h, h])
                    self.covariance[g, h] = self.covariance[h, g] = start
            known.append(g)

    def tick(self, clock_ns: int, marks: dict[str, float | None], keep: float) -> bool:
        """Whether this was the first tick of a minute. All groups have been started."""
        minute = clock_ns // 60_000_000_000
        if self.minute is not None and minute <= self.minute:
            return False
        if self.minute is not None:
            moves: dict[str, float] = {}
            for group, mark in marks.items():
                last = self.at_last_point.get(group)
                if mark is not None and last is not None:
                    moves[group] = math.log(mark / last)
            if moves:
                self._sample(marks, moves, keep)
        self.minute = minute
        self.at_last_point = dict(marks)
        return True

    def _sample(self, groups: Iterable[str], seen: dict[str, float], keep: float) -> None:
        """One of all groups; of those that were not seen to move what is expected of them, and what that leaves open."""
        expected = {u: self.expected(u, seen) for u in groups if u not in seen}
        moves = seen | {u: move for u, (move, _) in expected.items()}
        for g, h in self.covariance:
            left = expected[g][1] if g == h and g in expected else 0.0
            self.covariance[g, h] = keep * self.covariance[g, h] + (1 - keep) * (moves[g] * moves[h] + left)

    def expected(self, u: str, seen: dict[str, float]) -> tuple[float, float]:
        """Of u's move the mean and the variance, given the sum of the moves seen, each by its own slope."""
        c = self.covariance
        slopes = {h: c[u, h] / c[h, h] for h in seen if c[h, h] > 0}
        shared = sum(slope * c[u, h] for h, slope in slopes.items())
        variance = sum(slopes[h] * slopes[k] * c[h, k] for h in slopes for k in slopes)
        if variance <= 0:
            return 0.0, c[u, u]
        total = sum(slope * seen[h] for h, slope in slopes.items())
        return shared / variance * total, max(c[u, u] - shared * shared / variance, 0.0)

    def rho(self, g: str, h: str, prior: float, shrink: float) -> float:
        if g == h:
            return 1.0
        return shrunk(self.covariance[g, h], self.covariance[g, g], self.covariance[h, h], prior, shrink)
