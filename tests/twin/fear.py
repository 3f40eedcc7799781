"""What moves by the clock: what rises slowly and falls with a half-life, the delay-limited price, and what accrues."""

import math

HOUR_S = 3_600.0
MINUTE_NS = 60_000_000_000
MINUTES_OF_A_YEAR = 31_536_000.0 / 60


def slow(previous: float, target: float, hours: float, rise_per_hour: float, half_life_s: float) -> float:
    """At most so much up in an hour; down by half of what is too much in each half-life. Nothing moves in no time."""
    if hours == 0:
        return previous
    if target > previous:
        return min(target, previous + rise_per_hour * hours)
    return target + (previous - target) * halved(hours * HOUR_S, half_life_s)


def halved(seconds: float, half_life_s: float) -> float:
    """What is left of 1."""
    return float(2 ** (-seconds / half_life_s))


def paused(previous: float, stopped: bool, hours: float, half_life_s: float) -> float:
    """The share of a chain's credit that no longer counts."""
    if not stopped:
        return 0.0
    return previous if hours == 0 else 1 - (1 - previous) * halved(hours * HOUR_S, half_life_s)


def stable_price(previous: float, mark: float, hours: float, rate_per_hour: float) -> float:
    """Follows the mark, by so much an hour at most."""
    change = rate_per_hour * min(hours, 1.0)
    return min(max(mark, previous * (1 - change)), previous * (1 + change))


def uptime(previous: float, known: bool, seconds: float, tau_s: float) -> float:
    """The share of the time in which a mark was known, weighed by how long ago it was."""
    kept = math.exp(-seconds / tau_s)
    return previous * kept + (1 - kept) * (1.0 if known else 0.0)


def whole_minutes(from_ns: int, to_ns: int) -> int:
    """0 if the second time isn't later."""
    return max(to_ns - from_ns, 0) // MINUTE_NS


def hours_of_interval(clock_ns: int, interval_s: int) -> float:
    """How much of the present funding interval is over; intervals follow each other since 1970."""
    if interval_s == 0:
        return 0.0
    interval_ns = interval_s * 1_000_000_000
    return whole_minutes(clock_ns - clock_ns % interval_ns, clock_ns) / 60


def with_interest(index: float, rate_per_year: float, since_ns: int, clock_ns: int) -> float:
    return index * (1 + rate_per_year * whole_minutes(since_ns, clock_ns) / MINUTES_OF_A_YEAR)
