"""What exists in the demo: assets, chains, venues, instruments, and the risk parameters in force."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from engine.inputs import (
    AnyDefinition,
    AssetDefinition,
    ChainDefinition,
    InstrumentDefinition,
    RiskParameters,
    VenueDefinition,
    VenueRule,
)
from streams.demo.facts import ASSETS, REDEMPTION_RATES, START_NS

PARAMETERS_VERSION = "demo-2025-10-10"

# What differs from the defaults of engine.parameters (where prices count for 60 s): prices go in before the tick that ends their step of
# 15 s (streams.demo.run.TICK_S), so event times are up to a step ahead of the clock, and may be four.
# Sources stood 5 % apart for an hour on the real day: the demo lets the divergence breaker trip at 10 % and close after a minute.
# Market makers hold up to fifty times their collateral, nearly all of it long on one venue what is short on the other; who sold options
# holds up to 21 times, the hedge counted.
PARAMETERS: dict[str, Any] = {
    "future_skew_s": 60.0,
    "mad_k": 3.0,
    "divergence_trip": 0.10,
    "divergence_reset": 0.05,
    "cooldown_s": 60.0,
    "limit_account": 60.0,
    "limit_asset": 25.0,
}

# (finality, messaging delay) in seconds, Wormhole's number of the chain, atomic group. "custody" stands for what an exchange holds.
_CHAINS: dict[str, tuple[float, float, int, str | None]] = {
    "ethereum": (780.0, 60.0, 2, None),
    "arbitrum": (780.0, 60.0, 23, None),
    "base": (780.0, 60.0, 30, "superchain"),
    "optimism": (780.0, 60.0, 24, "superchain"),
    "solana": (13.0, 30.0, 1, None),
    "hyperliquid": (1.0, 60.0, 47, None),
    "custody": (0.0, 300.0, 0, None),
}
CHAINS = tuple(_CHAINS)
SLOW_CHAIN = "arbitrum"
_SECURITY_PREMIUM = {"custody": 0.01, "hyperliquid": 0.01, "base": 0.005, "optimism": 0.005, "arbitrum": 0.005, "solana": 0.005}

# venue -> (chain, fee in basis points, is a vault)
VENUES: dict[str, tuple[str, float, bool]] = {
    "binance": ("custody", 4.0, False),
    "okx": ("custody", 4.0, False),
    "hyperliquid": ("hyperliquid", 3.5, False),
    "aave": ("ethereum", 30.0, False),
    "morpho": ("base", 30.0, False),
    "vault-ethereum": ("ethereum", 0.0, True),
    "vault-arbitrum": ("arbitrum", 0.0, True),
    "vault-optimism": ("optimism", 0.0, True),
    "vault-solana": ("solana", 0.0, True),
}

# Its markets liquidate where debt is above the collateral by its oracle times the market's ratio, 0.86 in many of them: a health factor.
_RULES = {
    "morpho": VenueRule(
        rule="aave_v3",
        parameters={
            "reserves": [
                *({"name": name, "loan_to_value": 0.86, "liquidation_threshold": 0.86} for name in ("ETH", "USDe")),
                {"name": "USD", "loan_to_value": 0.0, "liquidation_threshold": 0.0},
            ]
        },
    )
}

_GOVERNANCE = ("AAVE", "UNI", "CRV", "SKY", "ENA")
_PERPETUALS = {
    "binance": ("BTC", "ETH", "SOL", "XRP", "DOGE", "ADA", "LINK", "AVAX"),
    "hyperliquid": ("BTC", "ETH", "SOL", "XRP", "DOGE", "LINK"),
}
_SPOTS = {
    "okx": ("BTC", "ETH"),
    "aave": ("ETH", "WBETH", "USDe"),
    "morpho": ("ETH", "USDe"),
    "vault-ethereum": ("ETH", "BTC"),
    "vault-arbitrum": ("ETH", "BTC"),
    "vault-optimism": ("ETH",),
    "vault-solana": ("SOL",),
}


class OptionSeries(NamedTuple):
    """One of the OKX options that the data have."""

    name: str
    strike: float
    expiry_ns: int
    is_call: bool


OCT_31_NS = 1_761_897_600_000_000_000  # 2025-10-31T08:00Z
NOV_28_NS = 1_764_316_800_000_000_000  # 2025-11-28T08:00Z
OPTIONS = (
    OptionSeries("BTC-251031-135000-C", 135_000.0, OCT_31_NS, True),
    OptionSeries("BTC-251031-80000-C", 80_000.0, OCT_31_NS, True),
    OptionSeries("BTC-251031-80000-P", 80_000.0, OCT_31_NS, False),
    OptionSeries("BTC-251128-102000-C", 102_000.0, NOV_28_NS, True),
    OptionSeries("BTC-251128-132000-C", 132_000.0, NOV_28_NS, True),
)


class Steps(NamedTuple):
    """Lot in units of the asset, and price step in USD. Their product is 1e-4 of a dollar, so cash adds up exactly."""

    lot_size: float
    tick_size: float


def steps(asset: str) -> Steps:
    """A lot is worth some 10 to 100 dollars and a tick at most a tenth of a basis point, by the price's first digit at the start."""
    if asset == "USD":
        return Steps(1.0, 1e-4)
    exponent = ASSETS[asset].exponent
    return Steps(float(f"1e{1 - exponent}"), float(f"1e{exponent - 5}"))


def definitions() -> list[AnyDefinition]:
    """Everything, in an order in which each refers only to what stands before it."""
    return [*_assets(), *_chains(), *_venues(), *_instruments()]


def instruments() -> dict[tuple[str, str], InstrumentDefinition]:
    """The instruments by (venue, name)."""
    return {(i.venue, i.name): i for i in _instruments()}


def parameters() -> RiskParameters:
    return RiskParameters(v=1, version=PARAMETERS_VERSION, parameters=PARAMETERS, time_ns=START_NS)


def emitter_address(chain: str) -> str:
    """The contract that emits a chain's transfers: 32 bytes in hex, made up; none for an exchange's custody."""
    if chain == "custody":
        return "00" * 32
    return chain.encode().hex().rjust(64, "0")


def emitter_chain(chain: str) -> int:
    return _CHAINS[chain][2]


def _assets() -> Iterator[AnyDefinition]:
    yield AssetDefinition(v=1, time_ns=START_NS, name="USD", asset_class="cash")
    for name, asset in ASSETS.items():
        redemption = {"USDe": "USD", "WBETH": "ETH", "BNSOL": "SOL"}.get(name)
        kind: Any = "governance" if name in _GOVERNANCE else asset.asset_class
        yield AssetDefinition(
            v=1,
            time_ns=START_NS,
            name=name,
            asset_class=kind,
            redemption_asset=redemption,
            redemption_rate=REDEMPTION_RATES.get(name, 1.0),
            redemption_delay_s=604_800.0 if name in ("WBETH", "BNSOL") else 0.0,
            sources=dict(asset.sources),
        )


def _chains() -> Iterator[AnyDefinition]:
    for name, (finality_s, delay_s, number, group) in _CHAINS.items():
        yield ChainDefinition(
            v=1,
            time_ns=START_NS,
            name=name,
            finality_s=finality_s,
            messaging_delay_s=delay_s,
            security_premium=_SECURITY_PREMIUM.get(name, 0.0),
            atomic_group=group,
            emitter_chain=number,
            emitter_address=emitter_address(name),
        )


def _venues() -> Iterator[AnyDefinition]:
    for name, (chain, fee_bps, vault) in VENUES.items():
        yield VenueDefinition(v=1, time_ns=START_NS, name=name, chain=chain, fee_bps=fee_bps, vault=vault, rule=_RULES.get(name))


def _instruments() -> Iterator[InstrumentDefinition]:
    for venue, (_, _, vault) in VENUES.items():
        yield _spot(venue, "USD", tradable=False)
        for asset in ASSETS if venue == "binance" else _SPOTS.get(venue, ()):
            yield _spot(venue, asset, tradable=not vault)
        if venue in ("binance", "okx", "aave", "morpho"):
            yield _linear(venue, "USD-LOAN", "loan", "USD", tradable=False)
        for asset in _PERPETUALS.get(venue, ()):
            yield _linear(venue, f"{asset}-PERP", "perpetual", asset)
    yield _linear("okx", "BTC-PERP", "perpetual", "BTC")
    yield InstrumentDefinition(
        v=1,
        time_ns=START_NS,
        venue="okx",
        name="BTC-USD-SWAP",
        contract="inverse_perpetual",
        underlying="BTC",
        quote="BTC",
        lot_size=100.0,
        tick_size=0.1,
    )
    yield from options(START_NS)


def options(time_ns: int) -> Iterator[InstrumentDefinition]:
    """The options, as of a time."""
    for option in OPTIONS:
        yield InstrumentDefinition(
            v=1,
            time_ns=time_ns,
            venue="okx",
            name=option.name,
            contract="inverse_option",
            underlying="BTC",
            quote="BTC",
            lot_size=0.01,
            tick_size=0.0001,
            strike=option.strike,
            expiry_ns=option.expiry_ns,
            is_call=option.is_call,
        )


def _spot(venue: str, asset: str, *, tradable: bool) -> InstrumentDefinition:
    return _linear(venue, asset, "spot", asset, tradable=tradable)


def _linear(venue: str, name: str, contract: Any, asset: str, *, tradable: bool = True) -> InstrumentDefinition:
    lot_size, tick_size = steps(asset)
    return InstrumentDefinition(
        v=1,
        time_ns=START_NS,
        venue=venue,
        name=name,
        contract=contract,
        underlying=asset,
        lot_size=lot_size,
        tick_size=tick_size,
        tradable=tradable,
    )
