"""The backtest's facts against the folder that they come from, and a short run on both; without a folder, known figures of the days."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from streams.backtest.episodes import carried, load
from streams.backtest.extract import CRASH, DEPEG, MILD, table
from streams.backtest.run import Options, as_data, backtest
from tests.reference.case import CaseResult

# By the name that the folder's files begin with: the episode, and a figure of it (series, lowest price).
_EPISODES = {
    "oct10_2025_bars": (CRASH, "USDe", "binance", 0.6651),
    "mild_stress": (MILD, "ETH", "binance-perp", 2125.94),
    "usdc_depeg": (DEPEG, "USDC", "binanceus", 0.874833),
}


def families() -> dict[str, Callable[[Path | None], list[CaseResult]]]:
    """What this module can check, by the name its files begin with."""
    return {family: partial(run, family) for family in _EPISODES}


def run(family: str, folder: Path | None) -> list[CaseResult]:
    name, asset, source, lowest = _EPISODES[family]
    series = next(series for series in load(name, folder).prices if (series.asset, series.source) == (asset, source))
    found = float(np.nanmin(series.values))
    results = [CaseResult(family, f"lowest {asset} of {source}", found == lowest, f"{found}, expected {lowest}")]
    if folder is not None:
        kept, read = carried(name), table(name, folder)
        different = sum(one != other for one, other in zip(kept, read, strict=False)) + abs(len(kept) - len(read))
        results.append(CaseResult(family, "prices carried", different == 0, f"{different} of {len(read)} rows differ"))
        short = Options(accounts=16, episodes=(name,), minutes=120)
        same = as_data(backtest(short)) == as_data(backtest(short._replace(reference=folder)))
        results.append(CaseResult(family, "a short run on both", same, "equal figures" if same else "figures differ"))
    return results
