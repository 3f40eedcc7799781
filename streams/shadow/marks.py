"""From what several sources say of an asset to one mark, or to the reason why there is none."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Observation:
    source: str
    weight: float
    price: float
    confidence: float
    publish_time_ns: int


@dataclass(frozen=True)
class Mark:
    """`price` is None where unknown, with the `reason`; `divergence` is what the breaker looks at, None without a quorum."""

    price: float | None
    reason: str = ""
    dispersion: float = 0.0
    confidence: float = 0.0
    time_ns: int = 0
    divergence: float | None = None


def weighted_median(points: list[tuple[float, float]]) -> float:
    """Of (value, weight): the smallest value whose cumulative weight is above half; the mean with the next one if it is half exactly."""
    points = sorted(points)
    half = sum(weight for _, weight in points) / 2
    below = 0.0
    for index, (value, weight) in enumerate(points):
        below += weight
        if below == half:
            return (value + points[index + 1][0]) / 2
        if below > half:
            return value
    raise ValueError("no points")


def median(values: list[float]) -> float:
    values = sorted(values)
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def mark_of(observations: list[Observation], now_ns: int, max_age_ns: int, quorum: int, mad_k: float, mad_floor_bps: float) -> Mark:
    """One mark from the newest observation of each source."""
    if not observations:
        return Mark(None, "no_mark")
    fresh = [seen for seen in observations if now_ns - seen.publish_time_ns <= max_age_ns]
    if len(fresh) < quorum:
        return Mark(None, "stale_mark" if len(observations) >= quorum else "no_quorum")
    fresh.sort(key=lambda seen: (seen.price, seen.source))
    middle = weighted_median([(seen.price, seen.weight) for seen in fresh])
    mad = median([abs(seen.price - middle) for seen in fresh])
    limit = max(mad_k * 1.4826 * mad, mad_floor_bps * 1e-4 * middle)
    accepted = [seen for seen in fresh if abs(seen.price - middle) <= limit]
    rejected_weight = sum(seen.weight for seen in fresh if abs(seen.price - middle) > limit)
    total_weight = sum(seen.weight for seen in fresh)
    price = weighted_median([(seen.price, seen.weight) for seen in accepted])
    dispersion = (accepted[-1].price - accepted[0].price) / price
    most_apart = max(abs(seen.price / middle - 1) for seen in fresh)
    divergence = most_apart if rejected_weight >= total_weight / 2 else dispersion
    if len(accepted) < quorum:
        return Mark(None, "sources_apart", divergence=divergence)
    accepted_weight = sum(seen.weight for seen in accepted)
    confidence = sum(seen.weight * seen.confidence for seen in accepted) / accepted_weight
    return Mark(price, "", dispersion, confidence, max(seen.publish_time_ns for seen in accepted), divergence)
