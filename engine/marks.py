"""From many sources' prices to one mark an asset: weighted median, outliers rejected, unknown rather than guessed.

Formulas: docs/model.md, section 2.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.jit import kernel
from engine.reasons import Unknown
from engine.tables import ASSETS_MAX, SOURCES_MAX

MAD_TO_SIGMA: Final = 1.4826  # median absolute deviation of a normal distribution, inverted
NO_MARK: Final = int(Unknown.NO_MARK)
STALE_MARK: Final = int(Unknown.STALE_MARK)
NO_QUORUM: Final = int(Unknown.NO_QUORUM)
SOURCES_APART: Final = int(Unknown.SOURCES_APART)
NEVER_NS: Final = -1

# What became of a source's newest price, by `Marks.verdict`.
NEVER: Final = 0
STALE: Final = 1
APART: Final = 2
COUNTS: Final = 3
VERDICTS: Final = ("never", "stale", "apart", "")  # why it does not count


class Observations(NamedTuple):
    """The newest observation of each asset and source, [ASSETS_MAX, SOURCES_MAX]. State: goes into the cut."""

    price: NDArray[np.float64]
    confidence: NDArray[np.float64]
    publish_ns: NDArray[np.int64]  # NEVER_NS: none yet


class Marks(NamedTuple):
    """What the observations say now, by asset. Derived; the divergence breaker's verdict is already in `status`."""

    mark: NDArray[np.float64]  # nan while the sources alone leave it unknown
    status: NDArray[np.int32]  # Unknown code, 0: known
    dispersion: NDArray[np.float64]  # (max - min) / mark of the accepted sources
    confidence: NDArray[np.float64]  # weighted mean of the accepted sources'
    newest_ns: NDArray[np.int64]  # newest publish time of the accepted sources, NEVER_NS: none
    divergence: NDArray[np.float64]  # what the divergence breaker looks at; nan: too few fresh sources to tell
    verdict: NDArray[np.int8]  # [ASSETS_MAX, SOURCES_MAX], for those who look
    work: NDArray[np.float64]  # [3, SOURCES_MAX] scratch of `aggregate`


def new_observations() -> Observations:
    shape = (ASSETS_MAX, SOURCES_MAX)
    return Observations(np.zeros(shape), np.zeros(shape), np.full(shape, NEVER_NS, dtype=np.int64))


def new_marks() -> Marks:
    return Marks(
        mark=np.full(ASSETS_MAX, math.nan),
        status=np.full(ASSETS_MAX, NO_MARK, dtype=np.int32),
        dispersion=np.zeros(ASSETS_MAX),
        confidence=np.zeros(ASSETS_MAX),
        newest_ns=np.full(ASSETS_MAX, NEVER_NS, dtype=np.int64),
        divergence=np.full(ASSETS_MAX, math.nan),
        verdict=np.zeros((ASSETS_MAX, SOURCES_MAX), dtype=np.int8),
        work=np.zeros((3, SOURCES_MAX)),
    )


@kernel
def aggregate(
    asset: int,
    weights: NDArray[np.float64],
    observations: Observations,
    now_ns: int,
    max_age_ns: int,
    quorum: int,
    mad_k: float,
    mad_floor: float,
    marks: Marks,
) -> None:
    """Make the mark of one asset from its observations; `weights` [SOURCES_MAX], 0 for what is no source; `mad_floor` a fraction."""
    price = observations.price[asset]
    publish_ns = observations.publish_ns[asset]
    prices = marks.work[0]
    held = marks.work[1]  # weight by sorted place, 0 once rejected
    order = marks.work[2]  # source number by sorted place
    verdict = marks.verdict[asset]
    seen = 0
    fresh = 0
    for source in range(SOURCES_MAX):
        verdict[source] = NEVER
        if weights[source] <= 0.0 or publish_ns[source] == NEVER_NS:
            continue
        seen += 1
        verdict[source] = STALE
        if now_ns - publish_ns[source] > max_age_ns:
            continue
        verdict[source] = COUNTS
        at = fresh
        while at > 0 and prices[at - 1] > price[source]:
            prices[at] = prices[at - 1]
            held[at] = held[at - 1]
            order[at] = order[at - 1]
            at -= 1
        prices[at] = price[source]
        held[at] = weights[source]
        order[at] = source
        fresh += 1
    marks.mark[asset] = math.nan
    marks.dispersion[asset] = 0.0
    marks.confidence[asset] = 0.0
    marks.newest_ns[asset] = NEVER_NS
    marks.divergence[asset] = math.nan
    if fresh < quorum:
        marks.status[asset] = NO_MARK if seen == 0 else (STALE_MARK if seen >= quorum else NO_QUORUM)
        return
    centre = _weighted_median(prices, held, fresh)
    limit = max(mad_k * MAD_TO_SIGMA * _median_deviation(prices, centre, fresh), mad_floor * centre)
    accepted = 0
    rejected_weight = 0.0
    weight = 0.0
    largest = 0.0
    low = 0.0
    high = 0.0
    confidence = 0.0
    newest = np.int64(NEVER_NS)
    for at in range(fresh):
        source = int(order[at])
        largest = max(largest, abs(prices[at] / centre - 1.0))
        if abs(prices[at] - centre) > limit:
            rejected_weight += held[at]
            held[at] = 0.0
            verdict[source] = APART
            continue
        if accepted == 0:
            low = prices[at]
        high = prices[at]
        accepted += 1
        weight += held[at]
        confidence += held[at] * observations.confidence[asset, source]
        newest = max(newest, publish_ns[source])
    mark = math.nan
    if accepted > 0:
        mark = _weighted_median(prices, held, fresh)
        marks.dispersion[asset] = (high - low) / mark
        marks.confidence[asset] = confidence / weight
        marks.newest_ns[asset] = newest
    marks.divergence[asset] = largest if rejected_weight >= weight else marks.dispersion[asset]
    if accepted < quorum:
        marks.status[asset] = SOURCES_APART
        marks.newest_ns[asset] = NEVER_NS
        return
    marks.mark[asset] = mark
    marks.status[asset] = 0


@kernel
def _weighted_median(prices: NDArray[np.float64], weights: NDArray[np.float64], count: int) -> float:
    """Of increasing prices: the smallest one with more than half of the weight up to it, or the mean of two where it is half exactly."""
    total = 0.0
    for at in range(count):
        total += weights[at]
    half = 0.5 * total
    below = 0.0
    at_half = math.nan
    for at in range(count):
        if weights[at] == 0.0:
            continue
        if at_half == at_half:
            return float(0.5 * (at_half + prices[at]))
        below += weights[at]
        if below > half:
            return float(prices[at])
        if below == half:
            at_half = prices[at]
    return float(at_half)


@kernel
def _median_deviation(prices: NDArray[np.float64], centre: float, count: int) -> float:
    """Median of |price - centre| over increasing prices: merged from both ends of the list, where the largest deviations are."""
    left = 0
    right = count - 1
    last = 0.0
    # Deviations come out in decreasing order; the median of n is number n // 2 of them, with the one before it where n is even.
    for _ in range(count - count // 2):
        from_left = centre - prices[left]
        from_right = prices[right] - centre
        if from_left >= from_right:
            last = abs(from_left)
            left += 1
        else:
            last = abs(from_right)
            right -= 1
    if count % 2 == 1:
        return float(last)
    return float(0.5 * (last + max(abs(centre - prices[left]), abs(prices[right] - centre))))
