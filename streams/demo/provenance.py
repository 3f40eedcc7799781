"""What is real and what is synthetic in the demo, asset by asset: `python -m streams.demo.provenance` prints the table of docs/demo.md."""

import sys

from streams.demo.definitions import VENUES, instruments
from streams.demo.facts import ASSETS, MAJORS, REDEMPTION_RATES, load, minutes_covered
from streams.demo.timeline import DEPTH_SHARE_OTHER, DEPTH_SHARES, LAG_S

VENUE_NAMES = {
    "binance": "Binance spot",
    "binance-perp": "Binance USDT perpetual",
    "binance-coin-mark": "Binance coin-margined mark",
    "binance-coin-perp": "Binance coin-margined perpetual",
    "coinbase": "Coinbase",
    "gemini": "Gemini",
    "okx": "OKX (options' underlying)",
    "uniswap-v3": "Uniswap v3",
    "chainlink": "Chainlink",
    "aave-oracle": "Aave oracle",
}


def table() -> str:
    """Markdown: one line an asset."""
    heads = ("asset", "real prices (minutes of 120)", "synthetic prices", "depth and spread", "implied volatility", "lag of its chains")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += [f"| {name} | {_real(name)} | {_synthetic(name)} | {_depth(name)} | {_volatility(name)} | {_lag(name)} |" for name in ASSETS]
    return "\n".join(lines) + "\n"


def _real(name: str) -> str:
    if name in REDEMPTION_RATES:
        return f"Binance spot: {len(load().wicks[name])} wicks (of the real discount; the ratio is assumed)"
    asset = ASSETS[name]
    found = [source for source in asset.sources if source not in asset.synthetic]
    return ", ".join(f"{VENUE_NAMES[source]} {_how_often(source, name)}" for source in found)


def _how_often(source: str, name: str) -> str:
    minutes = minutes_covered(source, name)
    return f"({minutes}, every 5 s)" if source == "binance-perp" else f"({minutes})"


def _synthetic(name: str) -> str:
    asset = ASSETS[name]
    if name in REDEMPTION_RATES:
        return "two, from the coin's Binance price x the assumed ratio; Binance spot between the wicks"
    if name == "USDe":
        return "two: A within the pool's real 0.994 to 1.000, B from Binance"
    if not asset.synthetic:
        return "none"
    return f"{len(asset.synthetic)}, from {VENUE_NAMES[asset.base]}"


def _depth(name: str) -> str:
    if name in MAJORS:
        return "real: Hyperliquid (scaled, capped at its calm median)"
    return f"synthetic: {DEPTH_SHARES.get(name, DEPTH_SHARE_OTHER):.0%} of SOL's"


def _volatility(name: str) -> str:
    return "real: OKX, 2 expiries" if name == "BTC" else "none"


def _lag(name: str) -> str:
    chains = sorted({VENUES[i.venue][0] for i in instruments().values() if i.contract == "spot" and i.underlying == name} & LAG_S.keys())
    return f"synthetic: {', '.join(chains)}" if chains else "held in custody only"


if __name__ == "__main__":
    sys.stdout.write(table())
