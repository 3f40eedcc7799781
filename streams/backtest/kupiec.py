"""Whether violations come as often as was promised (Kupiec), and one without the other (Christoffersen)."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

SIGNIFICANCE: Final = 0.05  # a promise is called broken where its p-value is below this


class Proportion(NamedTuple):
    """The test of proportion of failures: `violations` in `trials`, where `promised` is the probability of one."""

    trials: int
    violations: int
    promised: float
    ratio: float  # the likelihood ratio
    p_value: float

    @property
    def verdict(self) -> str:
        if not self.trials:
            return "no trial"
        if self.p_value >= SIGNIFICANCE:
            return "not rejected"
        return "too many" if self.violations > self.promised * self.trials else "too few"


def normal_coverage(multiple: float) -> float:
    """P(Z <= multiple) of a standard normal Z: what a requirement of so many standard deviations promises on one side."""
    return 0.5 * math.erfc(-multiple / math.sqrt(2.0))


def normal_tail(multiple: float) -> float:
    """P(Z > multiple), without the cancellation of 1 - `normal_coverage`."""
    return 0.5 * math.erfc(multiple / math.sqrt(2.0))


def survival(ratio: float) -> float:
    """P(X > ratio) for X of the chi-squared distribution with one degree of freedom, which is the square of a standard normal."""
    return math.erfc(math.sqrt(max(ratio, 0.0) / 2.0))


def proportion(trials: int, violations: int, promised: float) -> Proportion:
    """Kupiec, "Techniques for verifying the accuracy of risk measurement models", Journal of Derivatives 3(2), 1995, 73-84:

    LR = -2 ln((1-p)^(n-x) p^x / ((1-x/n)^(n-x) (x/n)^x)), chi-squared with one degree of freedom where the n trials are independent.
    """
    if not 0.0 < promised < 1.0:
        raise ValueError(f"a probability of violations of {promised}: it must lie between 0 and 1")
    if not 0 <= violations <= trials:
        raise ValueError(f"{violations} violations in {trials} trials")
    if trials == 0:
        return Proportion(0, 0, promised, 0.0, 1.0)
    ratio = max(2.0 * (_log_likelihood(trials, violations, violations / trials) - _log_likelihood(trials, violations, promised)), 0.0)
    return Proportion(trials, violations, promised, ratio, survival(ratio))


def independence(runs: Iterable[Sequence[bool]]) -> tuple[float, float]:
    """(likelihood ratio, p-value) of: a violation is as likely after a violation as after none.

    Christoffersen, "Evaluating interval forecasts", International Economic Review 39(4), 1998, 841-862, over the transitions within each of
    `runs`, which are violations in the order of time: LR = -2 ln(L(pi) / L(pi01, pi11)). Without a violation before another trial: (0, 1).
    """
    counts = [[0, 0], [0, 0]]
    for run in runs:
        for before, after in pairwise(run):
            counts[int(before)][int(after)] += 1
    (none_none, none_one), (one_none, one_one) = counts
    after_none, after_one = none_none + none_one, one_none + one_one
    if not after_none or not after_one:
        return 0.0, 1.0
    joint = _log_likelihood(after_none + after_one, none_one + one_one, (none_one + one_one) / (after_none + after_one))
    apart = _log_likelihood(after_none, none_one, none_one / after_none) + _log_likelihood(after_one, one_one, one_one / after_one)
    ratio = max(2.0 * (apart - joint), 0.0)
    return ratio, survival(ratio)


def _log_likelihood(trials: int, hits: int, probability: float) -> float:
    """Of `hits` in `trials`; 0 ln 0 is 0."""
    missed = (trials - hits) * math.log1p(-probability) if hits < trials else 0.0
    return missed + (hits * math.log(probability) if hits else 0.0)
