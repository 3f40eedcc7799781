"""What a book saw that no topic tells: marks at every tick, correlation regimes by the minute, cascade curves at two moments."""

from typing import NamedTuple

CHARTED = ("BTC", "ETH", "SOL", "USDe")  # assets whose marks are kept
PAIRS = (("BTC", "ETH"), ("BTC", "SOL"), ("BTC", "DOGE"), ("DOGE", "XRP"), ("ETH", "USDe"), ("BTC", "ENA"))  # groups, by their own assets
GROUPS = ("BTC", "ETH", "SOL", "XRP", "DOGE", "USDe")  # whose falls are tried
CALM_S, CRASH_S = 20 * 60, 50 * 60  # after 20:30: 20:50, before anything moves, and 21:20, with the majors near their lows
MOMENTS_S = (CALM_S, CRASH_S)


class MarkPoint(NamedTuple):
    """A mark at a tick; None where it was unknown."""

    time_ns: int
    price: float | None


class Regimes(NamedTuple):
    """One pair's correlation under each regime."""

    observed: float
    high: float
    low: float


class CorrelationPoint(NamedTuple):
    """One pair's correlations at a tick: at maintenance and at the initial level (`engine.tables`)."""

    time_ns: int
    levels: tuple[Regimes, Regimes]


class CascadeAt(NamedTuple):
    """What falls of one group would have sold, over all partitions (docs/model.md, section 12)."""

    second: int  # after 20:30
    group: str
    falls: tuple[float, ...]
    accounts: tuple[int, ...]  # below by then, by fall
    volume_usd: tuple[float, ...]  # of the group, by fall
    depth_usd: float  # of the group's own asset, in force then


class Seen(NamedTuple):
    """All of it. Bounded by the two hours and the names above."""

    marks: dict[str, list[MarkPoint]]
    correlations: dict[tuple[str, str], list[CorrelationPoint]]
    cascades: list[CascadeAt]


NOTHING = Seen({}, {}, [])
