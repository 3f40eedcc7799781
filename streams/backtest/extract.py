"""Make `streams/backtest/data` from reference data: `python -m streams.backtest.extract --reference DIR` (a developer's tool: pyarrow).

Only facts are carried: of each series the price at each minute, and the volatilities that options were marked with. Row m holds what is
known m minutes after the episode's start: the close of the bar that ends then, in row 0 the open of the first bar. A minute in which
nothing was traded is an empty cell. Sources and licences stand in `streams/backtest/data/README.md`.
"""

import argparse
import csv
import gzip
import io
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from streams.demo.extract import EXPIRIES, asset_of, number, rows_of

HERE = Path(__file__).parent / "data"
SIGMA = "sigma"  # a column `sigma@EXPIRY` holds a volatility, any other, `ASSET@SOURCE`, a price in USD

CRASH = "crash_2025_10"
MILD = "mild_2025_06"
DEPEG = "depeg_2023_03"
STARTS = {
    CRASH: datetime(2025, 10, 10, tzinfo=UTC),
    MILD: datetime(2025, 6, 19, tzinfo=UTC),
    DEPEG: datetime(2023, 3, 9, tzinfo=UTC),
}
DAYS = {CRASH: 1, MILD: 5, DEPEG: 6}
MINUTES_OF_DAY = 1440

# Of the crash: the source with the fewest gaps, and a second one for bitcoin.
_CRASH_SERIES = {
    ("gemini", "BTCUSD"),
    ("gemini", "ETHUSD"),
    ("gemini", "SOLUSD"),
    ("gemini", "XRPUSD"),
    ("coinbase", "DOGE-USD"),
    ("coinbase", "ADA-USD"),
    ("coinbase", "LINK-USD"),
    ("coinbase", "AVAX-USD"),
    ("coinbase", "DOT-USD"),
    ("coinbase", "XLM-USD"),
}
_RATIO_DIGITS = 6


class Bar(NamedTuple):
    """The open and close of one minute of one series; `minute` counts from the episode's start."""

    column: str
    minute: int
    opened: float
    close: float


def table(name: str, reference: Path) -> list[list[str]]:
    """The rows of one episode as its file holds them, the header first."""
    return _as_table(DAYS[name] * MINUTES_OF_DAY, _READERS[name](reference))


def _as_table(minutes: int, bars: Iterable[Bar]) -> list[list[str]]:
    cells: dict[str, dict[int, str]] = {}
    for bar in bars:
        if 0 <= bar.minute < minutes:
            column = cells.setdefault(bar.column, {})
            column[bar.minute + 1] = number(bar.close)
            if bar.minute == 0:
                column[0] = number(bar.opened)
    names = sorted(cells)
    return [["minute", *names], *([str(m), *(cells[name].get(m, "") for name in names)] for m in range(minutes + 1))]


def _minute(name: str, at: datetime) -> int:
    return int((at.replace(tzinfo=UTC) - STARTS[name]).total_seconds()) // 60


def _crash(reference: Path) -> Iterator[Bar]:
    import pyarrow.parquet as pq

    market = reference / "market"
    for row in pq.read_table(market / "oct10_2025_bars_1m_full_day.parquet").to_pylist():
        if (row["venue"], row["symbol"]) in _CRASH_SERIES:
            yield Bar(f"{asset_of(row['symbol'])}@{row['venue']}", _minute(CRASH, row["t"]), row["open"], row["close"])
    for line in rows_of(market / "binance_btcusd_perp_mark_1m_20251010.csv"):
        minute = _minute(CRASH, datetime.fromtimestamp(int(line["open_time"]) / 1000, UTC))
        yield Bar("BTC@binance-coin-mark", minute, float(line["open"]), float(line["close"]))
    for line in rows_of(market / "usde_usdt_binance_1m_20251008_20251012.csv.gz"):
        yield Bar("USDe@binance", _minute(CRASH, datetime.fromisoformat(line["open_time_utc"])), float(line["open"]), float(line["close"]))
    yield from _volatilities(market / "oct10_2025/okx_btc_options_1m_20251010.csv.gz")


def _volatilities(path: Path) -> Iterator[Bar]:
    """The mean of the marks' volatilities of an expiry, weighted by the venue's own vega; the last state of a minute, known at its end."""
    weighted: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for line in rows_of(path):
        if line["mark_iv"] and line["vega"]:
            expiry = EXPIRIES[line["symbol"].split("-")[2]]
            minute = _minute(CRASH, datetime.fromisoformat(line["t"]))
            weighted.setdefault((expiry, minute), []).append((float(line["vega"]), float(line["mark_iv"])))
    for (expiry, minute), pairs in sorted(weighted.items()):
        sigma = round(sum(w * s for w, s in pairs) / sum(w for w, _ in pairs), 6)
        yield Bar(f"{SIGMA}@{expiry}", minute, sigma, sigma)


def _mild(reference: Path) -> Iterator[Bar]:
    import pyarrow.parquet as pq

    path = reference / "market/mild_stress_2025_06/binance_usdm_perp_1m_9sym_20250619_20250623.parquet"
    for row in pq.read_table(path).to_pylist():
        asset = row["symbol"].removesuffix("USDT_PERP")
        yield Bar(f"{asset}@binance-perp", _minute(MILD, row["date"]), row["open"], row["close"])


def _depeg(reference: Path) -> Iterator[Bar]:
    """Bitcoin in dollars, and what a stablecoin is worth by bitcoin's price in both; a minute without a trade of either says nothing."""
    folder = reference / "market/usdc_depeg_2023_03"
    traded: dict[str, dict[int, Bar]] = {}
    for line in rows_of(folder / "binanceus_btc_usd_usdt_usdc_1m_20230309_20230314.csv.gz"):
        if float(line["volume"]) > 0.0:
            minute = _minute(DEPEG, datetime.fromisoformat(line["open_time"]))
            traded.setdefault(line["symbol"], {})[minute] = Bar(line["symbol"], minute, float(line["open"]), float(line["close"]))
    for line in rows_of(folder / "kraken_btcusdc_1m_20230309_20230314.csv.gz"):
        minute = _minute(DEPEG, datetime.fromtimestamp(int(line["unix_s"]), UTC))
        traded.setdefault("kraken", {})[minute] = Bar("kraken", minute, float(line["open"]), float(line["close"]))
    dollars = traded["BTCUSD"]
    yield from (bar._replace(column="BTC@binanceus") for bar in dollars.values())
    for of, column in (("BTCUSDC", "USDC@binanceus"), ("kraken", "USDC@kraken"), ("BTCUSDT", "USDT@binanceus")):
        for minute in sorted(dollars.keys() & traded[of].keys()):
            one, other = dollars[minute], traded[of][minute]
            ratios = (round(one.opened / other.opened, _RATIO_DIGITS), round(one.close / other.close, _RATIO_DIGITS))
            yield Bar(column, minute, *ratios)


_READERS: dict[str, Callable[[Path], Iterator[Bar]]] = {CRASH: _crash, MILD: _mild, DEPEG: _depeg}


def write(name: str, rows: list[list[str]]) -> int:
    """One csv.gz whose bytes depend on its rows alone; its size."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    packed = gzip.compress(text.getvalue().encode(), 9, mtime=0)
    (HERE / f"{name}.csv.gz").write_bytes(packed)
    return len(packed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=Path, required=True, help="folder of reference data, with market/ inside")
    reference = parser.parse_args().reference
    HERE.mkdir(exist_ok=True)
    for name in _READERS:
        rows = table(name, reference)
        print(f"{name}: {len(rows) - 1} minutes, {len(rows[0]) - 1} series, {write(name, rows)} bytes")


if __name__ == "__main__":
    main()
