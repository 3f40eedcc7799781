"""A small world for tests of the machines: what exists, and a log's frames made from plain numbers."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from engine.effects import Effects
from engine.inputs import (
    FILL_DTYPE,
    FILL_KINDS,
    AnyDefinition,
    AssetDefinition,
    ChainDefinition,
    Credit,
    Depth,
    Fills,
    Frame,
    FrameKind,
    Grant,
    ImpliedVolatility,
    InstrumentDefinition,
    LagObservation,
    OraclePrice,
    OrderReport,
    Pending,
    PendingPosition,
    RefusedFill,
    RiskParameters,
    SetFreeze,
    SetMode,
    SetQuarantine,
    Snapshot,
    SnapshotPosition,
    Tick,
    VenueDefinition,
)
from engine.machine import Machine

SECOND = 1_000_000_000
T0 = 1_760_000_000 * SECOND
SOURCES = ("one", "two", "three")
PRICES = {"BTC": 100_000.0, "ETH": 4_000.0, "SOL": 200.0, "STB": 1.0}
# Without what comes on top of scenarios: for tests that look at one thing. Correlations are as observed.
PLAIN: dict[str, Any] = {
    "correlation_high": 0.0,
    "correlation_low": 0.0,
    "short_option_minimum": 0.0,
    "basis_bps": (0.0,) * 6,
    "vega_shock": 0.0,
    "gap_fraction": 0.0,
    "concentration_k": 0.0,
    "limit_account": 1e6,
    "limit_asset": 1e6,
    "limit_venue": 1e6,
}
# Nothing here depends on how fast volatility is: prices are set, and stay.
PARAMETERS: dict[str, Any] = {
    **PLAIN,
    "quorum": 2,
    "breakers_enabled": False,
    "plan_retry_s": 5.0,
    "order_ttl_s": 60.0,
    "grace_s": 600.0,
    "clock_step_max_s": 3600.0,
    "classes": {name: {"max_age_s": 60.0} for name in ("major", "alt", "stable")},
}


def definitions() -> list[AnyDefinition]:
    """USD and four assets, two chains, an exchange on each, a vault, a lender; spot, perpetuals, an option, a loan."""

    def asset(name: str, asset_class: Any, **more: Any) -> AssetDefinition:
        return AssetDefinition(v=1, name=name, asset_class=asset_class, sources=dict.fromkeys(SOURCES, 1.0), time_ns=T0, **more)

    def instrument(venue: str, name: str, contract: Any, underlying: str, lot: float, tick: float, **more: Any) -> InstrumentDefinition:
        return InstrumentDefinition(
            v=1, venue=venue, name=name, contract=contract, underlying=underlying, lot_size=lot, tick_size=tick, time_ns=T0, **more
        )

    return [
        asset("BTC", "major"),
        asset("ETH", "major"),
        asset("SOL", "alt"),
        asset("STB", "stable", redemption_asset="USD"),
        ChainDefinition(v=1, name="north", finality_s=60.0, messaging_delay_s=60.0, emitter_chain=2, emitter_address="01" * 32, time_ns=T0),
        ChainDefinition(
            v=1, name="south", finality_s=600.0, messaging_delay_s=60.0, emitter_chain=3, emitter_address="02" * 32, time_ns=T0
        ),
        VenueDefinition(v=1, name="ex", chain="north", fee_bps=5, time_ns=T0),
        VenueDefinition(v=1, name="sx", chain="south", fee_bps=5, time_ns=T0),
        VenueDefinition(v=1, name="vault", chain="south", vault=True, time_ns=T0),
        VenueDefinition(v=1, name="lend", chain="south", time_ns=T0),
        instrument("ex", "USD", "spot", "USD", 1.0, 0.01, tradable=False),
        instrument("ex", "BTC", "spot", "BTC", 0.001, 1.0),
        instrument("ex", "BTC-PERP", "perpetual", "BTC", 0.001, 1.0),
        instrument("ex", "ETH-PERP", "perpetual", "ETH", 0.01, 0.1),
        instrument("ex", "SOL-PERP", "perpetual", "SOL", 0.1, 0.01),
        instrument("ex", "ETH", "spot", "ETH", 0.01, 0.1),
        instrument("ex", "SOL", "spot", "SOL", 0.1, 0.01),
        instrument("ex", "STB", "spot", "STB", 0.01, 0.01),
        instrument("sx", "USD", "spot", "USD", 1.0, 0.01, tradable=False),
        instrument("sx", "BTC", "spot", "BTC", 0.001, 1.0),
        instrument("sx", "BTC-PERP", "perpetual", "BTC", 0.001, 1.0),
        instrument("sx", "ETH-PERP", "perpetual", "ETH", 0.01, 0.1),
        instrument("sx", "SOL-PERP", "perpetual", "SOL", 0.1, 0.01),
        instrument("sx", "BTC-INV", "inverse_perpetual", "BTC", 100.0, 0.5, quote="BTC"),
        instrument("sx", "BTC-100000-C", "option", "BTC", 0.1, 1.0, strike=100_000.0, expiry_ns=T0 + 30 * 86_400 * SECOND),
        instrument("vault", "STB", "spot", "STB", 0.01, 0.01),
        instrument("vault", "BTC", "spot", "BTC", 0.001, 1.0),
        instrument("lend", "STB-DEBT", "loan", "STB", 0.01, 0.01, tradable=False),
    ]


class Log:
    """Feeds machines with the frames of one log; counts offsets of sources and of the log."""

    def __init__(self, *machines: Machine) -> None:
        self.machines = list(machines)
        self.frames: list[Frame] = []
        self.now_ns = T0
        self._next: dict[tuple[str, int], int] = {}
        self._sequences: dict[tuple[str, str], int] = {}

    # ---- frames ----

    def put(self, frame: Frame) -> Effects:
        """Append a frame, give it to every machine, answer the first one's effects."""
        self.frames.append(frame)
        answers = [machine.apply(len(self.frames) - 1, frame) for machine in self.machines]
        return answers[0] if answers else Effects(now=[], sends=[])

    def frame(self, kind: FrameKind, source: str, events: Any, partition: int = 0) -> Frame:
        """A frame that covers what comes next of its source."""
        first = self._next.get((source, partition), 0)
        count = len(events.rows) if isinstance(events, Fills) else len(events)
        self._next[source, partition] = first + count
        offsets = list(range(first, first + count))
        if isinstance(events, Fills):
            events.rows["offset"] = offsets
            offsets = []
        return Frame(kind, source, partition, first - 1, first + count - 1, events, offsets)

    def control(self, kind: FrameKind, source: str, events: list[Any]) -> Effects:
        """A frame of control, copied."""
        inner = self.frame(kind, source, events)
        return self.put(self.frame(FrameKind.CONTROL, "control", [inner]))

    # ---- control ----

    def open(self, parameters: dict[str, Any] | None = None, *, budget_usd: float = 1e9, publish: bool = True, partition: int = 0) -> None:
        """Definitions, parameters, the first tick, mode, budgets, prices of everything."""
        self.control(FrameKind.DEFINITIONS, "market.instruments", definitions())
        self.parameters(parameters or {})
        self.tick()
        if publish:
            self.mode("publish")
        assets = [*PRICES, "USD"]
        self.grant(dict.fromkeys(assets, budget_usd), partition)
        self.prices(PRICES)
        self.depths(dict.fromkeys(PRICES, 1e7))

    def parameters(self, changes: dict[str, Any], version: str = "v1") -> Effects:
        message = RiskParameters(v=1, version=version, parameters={**PARAMETERS, **changes}, time_ns=self.now_ns)
        return self.control(FrameKind.PARAMETERS, "risk.parameters", [message])

    def mode(self, mode: Any) -> Effects:
        return self.control(FrameKind.COMMANDS, "operator.commands", [SetMode(v=1, by="test", time_ns=self.now_ns, mode=mode)])

    def freeze(self, scope: Any, name: str = "", *, frozen: bool = True) -> Effects:
        command = SetFreeze(v=1, by="test", time_ns=self.now_ns, scope=scope, name=name, frozen=frozen)
        return self.control(FrameKind.COMMANDS, "operator.commands", [command])

    def quarantine(self, chain: str, *, on: bool = True) -> Effects:
        command = SetQuarantine(v=1, by="test", time_ns=self.now_ns, chain=chain, on=on)
        return self.control(FrameKind.COMMANDS, "operator.commands", [command])

    def grant(self, budgets_usd: dict[str, float], partition: int = 0, recognised: float = 1.0) -> Effects:
        grants = [Grant(partition, asset, usd, usd, 0, recognised) for asset, usd in budgets_usd.items()]
        return self.control(FrameKind.GRANTS, "treasury", grants)

    def prices(self, prices: dict[str, float], sources: Iterable[str] = SOURCES) -> Effects:
        """One observation: every source says the same."""
        events = [
            OraclePrice(v=1, asset=asset, source=source, price=price, publish_time_ns=self.now_ns)
            for asset, price in prices.items()
            for source in sources
        ]
        return self.control(FrameKind.PRICES, "oracle.prices", events)

    def depths(self, depths_usd: dict[str, float]) -> Effects:
        events = [Depth(v=1, asset=asset, depth_usd=usd, spread_bps=2.0, time_ns=self.now_ns) for asset, usd in depths_usd.items()]
        return self.control(FrameKind.DEPTHS, "market.depth", events)

    def implied(self, sigma: float) -> Effects:
        quote = ImpliedVolatility(v=1, underlying="BTC", expiry_ns=T0 + 30 * 86_400 * SECOND, sigma=sigma, time_ns=self.now_ns)
        return self.control(FrameKind.VOLATILITIES, "market.volatility", [quote])

    def lag(self, chain: str, p95_s: float) -> Effects:
        lag = LagObservation(chain, int(p95_s * SECOND), self.now_ns)
        return self.control(FrameKind.LAGS, "attestor.control", [lag])

    def tick(self, seconds: float = 0.0) -> Effects:
        """Move the clock on."""
        self.now_ns += int(seconds * SECOND)
        return self.put(self.frame(FrameKind.CONTROL, "control", [Frame(FrameKind.TICK, "ticker", 0, -1, 0, [Tick(self.now_ns)], [0])]))

    # ---- accounts ----

    def fill(self, account: str, venue: str, instrument: str, lots: int, price_ticks: int = 0, **more: Any) -> dict[str, Any]:
        """A fill as a dictionary, numbered unless `sequence` is given."""
        sequence = more.pop("sequence", None)
        if sequence is None:
            sequence = self._sequences.get((account, venue), 0) + 1
            self._sequences[account, venue] = sequence
        kind = more.pop("kind", "trade")
        return {
            "account": account,
            "venue": venue,
            "instrument": instrument,
            "kind": kind,
            "lots": lots,
            "price_ticks": price_ticks,
            "cash": 0,
            "sequence": sequence,
            "time_ns": self.now_ns,
            "order_id": "",
            **more,
        }

    def fills(self, *fills: dict[str, Any]) -> Effects:
        """One frame of fills."""
        return self.put(self.frame(FrameKind.FILLS, "venue.fills", fill_columns(fills)))

    def trade(self, account: str, venue: str, instrument: str, lots: int, price_ticks: int = 0, **more: Any) -> Effects:
        """One fill in a frame of its own."""
        return self.fills(self.fill(account, venue, instrument, lots, price_ticks, **more))

    def refused_fill(self, account: str, venue: str, sequence: int) -> Effects:
        """A fill that ingest refused."""
        return self.put(self.frame(FrameKind.REFUSED_FILLS, "venue.fills", [RefusedFill(account, venue, sequence)]))

    def deposit(self, account: str, usd: float) -> Effects:
        """Dollars on the exchange."""
        return self.fills(self.fill(account, "ex", "USD", 0, kind="funding", cash=round(usd * 1e6)))

    def snapshot(self, account: str, venue: str, sequence: int, positions: dict[str, tuple[int, int]]) -> Effects:
        held = [SnapshotPosition(instrument, lots, cash) for instrument, (lots, cash) in positions.items()]
        event = Snapshot(v=1, account=account, venue=venue, sequence=sequence, positions=held, time_ns=self.now_ns)
        return self.put(self.frame(FrameKind.SNAPSHOTS, "account.snapshots", [event]))

    def pending(self, account: str, venue: str, positions: dict[str, tuple[int, int, int]], time_ns: int = 0) -> Effects:
        """Lots of open orders to buy and to sell, and of a withdrawal under way, by instrument; now unless `time_ns` is given."""
        said = [PendingPosition(instrument, *lots) for instrument, lots in positions.items()]
        event = Pending(v=1, account=account, venue=venue, positions=said, time_ns=time_ns or self.now_ns)
        return self.put(self.frame(FrameKind.PENDING, "account.orders", [event]))

    def report(self, account: str, order_id: str, status: Any, filled_lots: int = 0) -> Effects:
        event = OrderReport(v=1, account=account, order_id=order_id, status=status, filled_lots=filled_lots, time_ns=self.now_ns)
        return self.put(self.frame(FrameKind.REPORTS, "order.reports", [event]))

    def credit(self, account: str, chain: str, asset: str, lots: int) -> Effects:
        number = self._sequences.get((account, chain), 0) + 1
        self._sequences[account, chain] = number
        event = Credit(account, chain, asset, lots, number, bytes(32), self.now_ns)
        return self.put(self.frame(FrameKind.CREDITS, "attestor", [event], partition=7))


def fill_columns(fills: Iterable[dict[str, Any]]) -> Fills:
    """Fills as ingest frames them; offsets are set when the frame is made."""
    given = list(fills)
    names = list(dict.fromkeys(fill["account"] for fill in given))
    instruments = list(dict.fromkeys((fill["venue"], fill["instrument"]) for fill in given))
    orders = list(dict.fromkeys(fill["order_id"] for fill in given if fill["order_id"]))
    rows = np.zeros(len(given), FILL_DTYPE)
    for row, fill in zip(rows, given, strict=True):
        row["account"] = names.index(fill["account"])
        row["instrument"] = instruments.index((fill["venue"], fill["instrument"]))
        row["order"] = orders.index(fill["order_id"]) if fill["order_id"] else -1
        row["kind"] = FILL_KINDS.index(fill["kind"])
        for column in ("lots", "price_ticks", "cash", "sequence", "time_ns"):
            row[column] = fill[column]
    return Fills(names, instruments, orders, rows)
