"""The three episodes as arrays: what was known at each minute, from the project's own facts or from a folder of reference data."""

import csv
import gzip
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.inputs import AssetDefinition
from streams.backtest.extract import CRASH, DEPEG, MILD, SIGMA, STARTS, table

MINUTE_NS: Final = 60_000_000_000
NS_PER_SECOND: Final = 1_000_000_000
NAMES: Final = (CRASH, MILD, DEPEG)
TITLES: Final = {
    CRASH: "the crash, 10 October 2025",
    MILD: "mild stress, 19 to 23 June 2025",
    DEPEG: "USDC's depeg, 9 to 14 March 2023",
}
SHORT: Final = {CRASH: "crash 2025-10", MILD: "mild 2025-06", DEPEG: "depeg 2023-03"}
# The hours before, by which static values are set: until the first fall of the crash (about 15:00), the whole first day of the others.
CALM_MINUTES: Final = {CRASH: 840, MILD: 1440, DEPEG: 1440}
_MAJORS = ("BTC", "ETH")
_STABLES = ("USDC", "USDT")


class Series(NamedTuple):
    """One source's prices of one asset in USD, or the volatility of one expiry (`source` is then its time); nan where nothing was said."""

    asset: str
    source: str
    values: NDArray[np.float64]  # [minutes + 1]


class Episode(NamedTuple):
    """What was known at each minute 0 .. minutes."""

    name: str
    start_ns: int
    minutes: int
    prices: list[Series]
    sigmas: list[Series]

    @property
    def assets(self) -> list[str]:
        return sorted({series.asset for series in self.prices})

    def first_price(self, asset: str) -> float:
        """The first price that any source gave."""
        firsts = [(int(np.flatnonzero(~np.isnan(s.values))[0]), s.source, s) for s in self.prices if s.asset == asset]
        at, _, series = min(firsts, key=lambda first: first[:2])
        return float(series.values[at])

    def cut(self, minutes: int) -> "Episode":
        """Its first `minutes` minutes."""
        minutes = min(minutes, self.minutes)
        shorter = [[s._replace(values=s.values[: minutes + 1]) for s in group] for group in (self.prices, self.sigmas)]
        return self._replace(minutes=minutes, prices=shorter[0], sigmas=shorter[1])


def load(name: str, reference: Path | None = None) -> Episode:
    """One of `NAMES`, from the carried facts, or the same from a folder of reference data (then bars in parquet need pyarrow)."""
    rows = carried(name) if reference is None else table(name, reference)
    columns = list(zip(*rows[1:], strict=True))
    prices: list[Series] = []
    sigmas: list[Series] = []
    for head, column in zip(rows[0][1:], columns[1:], strict=True):
        asset, _, source = head.partition("@")
        values = np.array([float(cell) if cell else np.nan for cell in column])
        # A series that starts late is known by its first price from the beginning, or nothing could be opened in its asset.
        if np.isnan(values[0]):
            values[0] = values[np.flatnonzero(~np.isnan(values))[0]]
        (sigmas if asset == SIGMA else prices).append(Series(asset, source, values))
    start_ns = int(STARTS[name].timestamp()) * NS_PER_SECOND
    return Episode(name, start_ns, len(rows) - 2, prices, sigmas)


def carried(name: str) -> list[list[str]]:
    """The rows of the file that the project carries, the header first."""
    packed = files("streams.backtest").joinpath("data", f"{name}.csv.gz").read_bytes()
    return list(csv.reader(gzip.decompress(packed).decode().splitlines()))


def expiry_ns(series: Series) -> int:
    """The expiry whose volatility a series holds."""
    return int(datetime.fromisoformat(series.source).timestamp()) * NS_PER_SECOND


def asset_class(asset: str) -> str:
    """The class that an asset is defined with."""
    if asset in _MAJORS:
        return "major"
    if asset in _STABLES:
        return "stable"
    return "synthetic_dollar" if asset == "USDe" else "alt"


def asset_definition(episode: Episode, asset: str) -> AssetDefinition:
    """With every source of the episode at equal weight; a dollar token is redeemable for a dollar."""
    kind = asset_class(asset)
    return AssetDefinition(
        v=1,
        time_ns=episode.start_ns,
        name=asset,
        asset_class=kind,  # type: ignore[arg-type] # one of the classes, as the class is chosen above
        redemption_asset="USD" if kind in ("stable", "synthetic_dollar") else None,
        sources={series.source: 1.0 for series in episode.prices if series.asset == asset},
    )
