"""What exists in a backtest, and its parameter sets: one that adapts, and one whose haircuts and scan ranges stand still."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from engine.inputs import AnyDefinition, AssetDefinition, ChainDefinition, InstrumentDefinition, VenueDefinition
from engine.parameters import ASSET_CLASSES, Parameters, parse_parameters
from streams.backtest.episodes import Episode, asset_class, asset_definition
from streams.demo.definitions import options

# Depth is not in the data: a stated figure for each class, the same in calm and storm. It moves concentration terms and costs alone.
DEPTHS_USD: Final = {"major": 20e6, "alt": 5e6, "stable": 20e6, "synthetic_dollar": 10e6}
SPREAD_BPS: Final = 5.0

# Finality, messaging delay (seconds), security premium.
_CHAINS: Final = {"ethereum": (780.0, 60.0, 0.0), "hyperliquid": (1.0, 60.0, 0.01), "custody": (0.0, 300.0, 0.01)}
_VENUES: Final = {"binance": ("custody", 4.0), "hyperliquid": ("hyperliquid", 3.5), "aave": ("ethereum", 30.0), "okx": ("custody", 4.0)}

# Where they differ from the defaults of engine.parameters, both sets do: there is one source an asset, minutes without a trade are no
# silence, and a plan that stands is not made anew each minute.
_BASE: Final[dict[str, Any]] = {
    "quorum": 1,
    "future_skew_s": 120.0,
    "divergence_trip": 0.10,
    "divergence_reset": 0.05,
    "cooldown_s": 60.0,
    "plan_retry_s": 3600.0,
}
MAX_AGE_S: Final = 900.0
DAY_S: Final = 86_400.0


def definitions(episode: Episode) -> list[AnyDefinition]:
    """Everything, in an order in which each refers only to what stands before it."""
    start = episode.start_ns
    return [
        AssetDefinition(v=1, time_ns=start, name="USD", asset_class="cash"),
        *(asset_definition(episode, asset) for asset in episode.assets),
        *(
            ChainDefinition(v=1, time_ns=start, name=name, finality_s=finality, messaging_delay_s=delay, security_premium=premium)
            for name, (finality, delay, premium) in _CHAINS.items()
        ),
        *(VenueDefinition(v=1, time_ns=start, name=name, chain=chain, fee_bps=fee) for name, (chain, fee) in _VENUES.items()),
        *instruments(episode).values(),
    ]


def instruments(episode: Episode) -> dict[tuple[str, str], InstrumentDefinition]:
    """By (venue, name)."""
    return {(i.venue, i.name): i for i in _instruments(episode)}


def _instruments(episode: Episode) -> Iterator[InstrumentDefinition]:
    for venue in _VENUES:
        yield _linear(episode, venue, "USD", "spot", "USD", tradable=False)
        yield _linear(episode, venue, "USD-LOAN", "loan", "USD", tradable=False)
        for asset in episode.assets:
            yield _linear(episode, venue, asset, "spot", asset)
            if asset_class(asset) in ("major", "alt") and venue != "aave":
                yield _linear(episode, venue, f"{asset}-PERP", "perpetual", asset)
    if episode.sigmas:
        yield from options(episode.start_ns)


def _linear(episode: Episode, venue: str, name: str, contract: Any, asset: str, *, tradable: bool = True) -> InstrumentDefinition:
    lot_size, tick_size = steps(episode, asset)
    return InstrumentDefinition(
        v=1,
        time_ns=episode.start_ns,
        venue=venue,
        name=name,
        contract=contract,
        underlying=asset,
        lot_size=lot_size,
        tick_size=tick_size,
        tradable=tradable,
    )


def steps(episode: Episode, asset: str) -> tuple[float, float]:
    """(lot, tick): a lot is worth some 10 to 100 dollars and a tick at most a tenth of a basis point; their product is 1e-4 of a dollar."""
    if asset == "USD":
        return 1.0, 1e-4
    exponent = math.floor(math.log10(round(episode.first_price(asset), 3)))
    return float(f"1e{1 - exponent}"), float(f"1e{exponent - 5}")


def adaptive(horizon_s: float = DAY_S) -> dict[str, Any]:
    """The default model at a horizon; floor and cap of the scan range go with its square root, as the range itself does."""
    share = math.sqrt(horizon_s / DAY_S)
    defaults = validated({}).classes
    classes = {
        name: {"max_age_s": MAX_AGE_S, "scan_floor": row.scan_floor * share, "scan_cap": row.scan_cap * share}
        for name, row in defaults.items()
    }
    return {**_BASE, "horizon_s": horizon_s, "classes": classes}


def static(horizon_s: float, sigmas: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The same with haircuts and scan ranges that do not move: each class has the mean of what it had at the given volatilities.

    Terms of volatility and of divergence from redemption are 0, the latency term has the mean volatility, nothing widens, no breaker trips.
    Correlations still adapt. A class without volatilities stands at its reference.
    """
    moving = adaptive(horizon_s)
    classes = {}
    for name in ASSET_CLASSES:
        row, seen = moving["classes"][name], sigmas.get(name) or [validated({}).classes[name].sigma_ref]
        sigma = fmean(seen)
        scan = fmean(scan_range(moving, name, one) for one in seen)
        fixed = {"sigma_floor": sigma, "sigma_cap": sigma, "scan_floor": scan, "scan_cap": scan}
        classes[name] = {**row, **fixed, "vol_coefficient": 0.0, "depeg_coefficient": 0.0}
    return {**moving, "breakers_enabled": False, "classes": classes}


def scan_range(parameters: Mapping[str, Any], name: str, sigma: float) -> float:
    """A class's scan range at a volatility (docs/model.md, section 5)."""
    whole = validated(dict(parameters))
    row = whole.classes[name]  # type: ignore[index] # one of ASSET_CLASSES
    wide = whole.scan_k * sigma * math.sqrt(whole.horizon_s / 31_536_000)
    return min(max(wide, row.scan_floor), row.scan_cap)


def validated(changes: dict[str, Any]) -> Parameters:
    """The default set with changes. Raises ValueError with every fault."""
    parsed = parse_parameters(changes)
    if isinstance(parsed, Parameters):
        return parsed
    raise ValueError("; ".join(parsed))
