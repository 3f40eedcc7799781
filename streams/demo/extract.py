"""Make `streams/demo/data` from reference data: `python -m streams.demo.extract --reference DIR` (needs pyarrow, a developer's tool).

Only facts are carried (prices, volatilities, depths, rates), cut to 20:30-22:30 UTC, times as seconds or minutes since 20:30.
Sources and what each file holds stand in `streams/demo/data/README.md`.
"""

import argparse
import csv
import gzip
import io
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

START = datetime(2025, 10, 10, 20, 30, tzinfo=UTC)
MINUTES = 120
HERE = Path(__file__).parent / "data"

# OKX volatilities are weighted by the venue's own vega, one value an expiry.
EXPIRIES = {"251031": "2025-10-31T08:00:00+00:00", "251128": "2025-11-28T08:00:00+00:00"}


def seconds(text: str) -> float:
    """Seconds since 20:30 UTC of a timestamp as the reference files write it."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - START).total_seconds()


def rows_of(path: Path) -> list[dict[str, str]]:
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return list(csv.DictReader(text.decode().splitlines()))


def number(value: float) -> str:
    """Shortest text that reads back as the same float."""
    text = repr(float(value))
    return text.removesuffix(".0")


def write(name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    """Write one csv.gz whose bytes depend on its rows alone."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    count = 0
    for row in rows:
        writer.writerow(row)
        count += 1
    (HERE / name).write_bytes(gzip.compress(text.getvalue().encode(), 9, mtime=0))
    return count


def asset_of(symbol: str) -> str:
    for end in ("USD_PERP", "-USD", "USDT", "USD"):
        if symbol.endswith(end):
            return symbol.removesuffix(end)
    raise ValueError(f"no asset in symbol {symbol!r}: add its ending to asset_of")


def bars(reference: Path) -> list[list[str]]:
    """One-minute bars of every venue: Coinbase, Gemini and Binance spot, Binance's coin-margined perps and its mark of BTC."""
    import pyarrow.parquet as pq

    found: list[tuple[str, str, int, list[float]]] = []
    table = pq.read_table(reference / "market/oct10_2025_bars_1m_full_day.parquet").to_pylist()
    for row in table:
        minute = (row["t"].replace(tzinfo=UTC) - START).total_seconds() / 60
        if 0 <= minute < MINUTES:
            found.append((row["venue"], asset_of(row["symbol"]), int(minute), [row["open"], row["high"], row["low"], row["close"]]))
    for line in rows_of(reference / "market/binance_btcusd_perp_mark_1m_20251010.csv"):
        minute = (int(line["open_time"]) / 1000 - START.timestamp()) / 60
        if 0 <= minute < MINUTES:
            found.append(("binance-coin-mark", "BTC", int(minute), [float(line[k]) for k in ("open", "high", "low", "close")]))
    for line in rows_of(reference / "market/oct10_2025/binance_btc_eth_sol_1m_exact_20251010.csv.gz"):
        if line["series"] == "binance-spot ETHUSDT":
            minute = seconds(line["t"]) / 60
            if 0 <= minute < MINUTES:
                found.append(("binance", "ETH", int(minute), [float(line[k]) for k in ("open", "high", "low", "close")]))
    for line in rows_of(reference / "market/usde_usdt_binance_1m_20251008_20251012.csv.gz"):
        minute = seconds(line["open_time_utc"]) / 60
        if 0 <= minute < MINUTES:
            found.append(("binance", "USDe", int(minute), [float(line[k]) for k in ("open", "high", "low", "close")]))
    return [[v, a, str(m), *map(number, prices)] for v, a, m, prices in sorted(found)]


def perps(reference: Path) -> list[list[str]]:
    found = []
    for line in rows_of(reference / "market/oct10_2025/binance_um_perp_5s_btc_eth_sol_20251010.csv.gz"):
        start = seconds(line["t"])
        if -5 <= start < MINUTES * 60:  # the close of a bucket is known at its end
            found.append((line["coin"], int(start) + 5, float(line["close"])))
    return [[coin, str(at), number(price)] for coin, at, price in sorted(found)]


def options(reference: Path) -> tuple[list[list[str]], list[list[str]]]:
    """(implied volatility by expiry and minute, underlying price by minute); the last state of a minute is known at its end."""
    weighted: dict[tuple[str, int], list[tuple[float, float]]] = {}
    underlying: dict[int, float] = {}
    for line in rows_of(reference / "market/oct10_2025/okx_btc_options_1m_20251010.csv.gz"):
        minute = seconds(line["t"]) / 60
        if not -1 <= minute < MINUTES or not line["mark_iv"] or not line["vega"]:
            continue
        at = int(minute) * 60 + 60
        expiry = EXPIRIES[line["symbol"].split("-")[2]]
        weighted.setdefault((expiry, at), []).append((float(line["vega"]), float(line["mark_iv"])))
        if line["underlying_price"] and expiry == EXPIRIES["251031"]:
            underlying[at] = float(line["underlying_price"])
    volatility = [
        [expiry, str(at), number(round(sum(w * s for w, s in pairs) / sum(w for w, _ in pairs), 6))]
        for (expiry, at), pairs in sorted(weighted.items())
    ]
    return volatility, [["okx", "BTC", str(at), number(price)] for at, price in sorted(underlying.items())]


def books(reference: Path) -> list[list[str]]:
    found = []
    for line in rows_of(reference / "market/oct10_2025/hyperliquid_l2_spread_depth_funding_1m_btc_eth_sol_20251010.csv.gz"):
        minute = seconds(line["t"]) / 60
        if -1 <= minute < MINUTES:  # the mean of a minute is known at its end
            depth = round(float(line["mean_depth_usd"]))
            found.append((line["coin"], int(minute), round(float(line["mean_spread_bps"]), 4), depth, float(line["funding"])))
    return [[c, str(m), number(s), str(d), number(f)] for c, m, s, d, f in sorted(found)]


def ticks(reference: Path) -> list[list[str]]:
    """Prices of ETH on Ethereum: Uniswap v3's spot, Chainlink (at the moment it was written, by its age), Aave's oracle."""
    found: dict[tuple[str, str, int], float] = {}
    for line in rows_of(reference / "market/oct10_2025/ethereum_eth_dex_vs_oracle_36s_20251010.csv.gz"):
        at = int(seconds(line["t"]))
        found["uniswap-v3", "ETH", at] = float(line["univ3_spot"])
        found["aave-oracle", "ETH", at] = float(line["aave_oracle"])
        found["chainlink", "ETH", at - int(line["chainlink_age_s"])] = float(line["chainlink"])
    for line in rows_of(reference / "market/oct10_2025/ethereum_eth_oracles_10min_20251010.csv.gz"):
        at = int(seconds(line["t_utc"]))
        if 0 <= at <= MINUTES * 60:
            found.setdefault(("uniswap-v3", "ETH", at), float(line["univ3_twap_60"]))
            if line["chainlink_eth_usdc"]:
                found.setdefault(("chainlink", "ETH", at - int(line["chainlink_eth_age_s"])), float(line["chainlink_eth_usdc"]))
    return [[s, a, str(at), number(p)] for (s, a, at), p in sorted(found.items()) if 0 <= at <= MINUTES * 60]


def wicks(reference: Path) -> list[list[str]]:
    """Binance spot WBETHUSDT and BNSOLUSDT against their fair ratio, in basis points: lows of a minute, and the close an hour later."""
    found: dict[tuple[str, int, str], float] = {}
    for symbol, events in json.loads((reference / "market/oct10_2025/binance_lst_wicks_20251010.json").read_text()).items():
        if symbol == "note":
            continue
        asset = {"WBETHUSDT": "WBETH", "BNSOLUSDT": "BNSOL"}[symbol]
        for event in events:
            minute = int(seconds(event["t"]) / 60)
            found[asset, minute, "low"] = event["low_vs_fair_bps"]
            found[asset, minute + 60, "close"] = event["close_vs_fair_60m_bps"]
    return [[a, str(m), kind, number(bps)] for (a, m, kind), bps in sorted(found.items()) if 0 <= m < MINUTES]


def funding(reference: Path) -> list[list[str]]:
    found = []
    for line in rows_of(reference / "market/oct10_2025/perp_funding_5venues_20251009_11.csv.gz"):
        at = seconds(line["t"])
        if -3600 <= at <= MINUTES * 60 and line["venue"] in ("hyperliquid", "kraken", "lighter"):
            found.append((line["venue"], line["coin"], int(at), float(line["funding_rate"])))
    return [[v, c, str(at), number(rate)] for v, c, at, rate in sorted(found)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=Path, required=True, help="folder of reference data, with market/ inside")
    reference = parser.parse_args().reference
    HERE.mkdir(exist_ok=True)
    volatility, okx = options(reference)
    counts = {
        "bars.csv.gz": write("bars.csv.gz", ["venue", "asset", "minute", "open", "high", "low", "close"], bars(reference)),
        "perps_5s.csv.gz": write("perps_5s.csv.gz", ["asset", "second", "close"], perps(reference)),
        "volatility.csv.gz": write("volatility.csv.gz", ["expiry", "second", "sigma"], volatility),
        "ticks.csv.gz": write("ticks.csv.gz", ["source", "asset", "second", "price"], sorted(okx + ticks(reference))),
        "books.csv.gz": write("books.csv.gz", ["asset", "minute", "spread_bps", "depth_usd", "funding_per_hour"], books(reference)),
        "wicks.csv.gz": write("wicks.csv.gz", ["asset", "minute", "kind", "against_fair_bps"], wicks(reference)),
        "funding.csv.gz": write("funding.csv.gz", ["venue", "asset", "second", "rate_per_hour"], funding(reference)),
    }
    for name, count in counts.items():
        print(f"{name}: {count} rows, {(HERE / name).stat().st_size} bytes")


if __name__ == "__main__":
    main()
