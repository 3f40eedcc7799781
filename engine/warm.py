"""Compiles every kernel before a worker joins its group, by running a small made-up ledger through the three machines."""

from typing import Any, Final

import numpy as np
from msgspec.structs import replace

from engine.attestor import Attestor
from engine.inputs import (
    FILL_DTYPE,
    AssetDefinition,
    ChainDefinition,
    Credit,
    Depth,
    FillKind,
    Fills,
    Frame,
    FrameKind,
    Funding,
    Grant,
    Heartbeat,
    ImpliedVolatility,
    InstrumentDefinition,
    LagObservation,
    OraclePrice,
    OrderReport,
    Partial,
    Pending,
    PendingPosition,
    RiskParameters,
    SetMode,
    SetQuarantine,
    Snapshot,
    SnapshotPosition,
    Tick,
    VenueDefinition,
    VenueRule,
)
from engine.inspection import explain_account
from engine.liquidation import is_closed_to_us
from engine.machine import Machine
from engine.monitor import Book
from engine.murmur2 import partitions_of
from engine.rules.choice import choose, margins
from engine.rules.examples import GIVEN, PARAMETERS
from engine.rules.legs import no_legs
from engine.survey import totals
from engine.treasury import Treasury

SECOND_NS: Final = 1_000_000_000
START_NS: Final = 1_700_000_000 * SECOND_NS
EXPIRY_NS: Final = START_NS + 30 * 86_400 * SECOND_NS
ACCOUNT: Final = "warm"


def warm() -> None:
    """Takes seconds where the kernels' cache is filled, a minute where it is not; touches nothing outside its own machines."""
    book, ledger = Book(0, 1), _Log()
    rows: dict[bytes, bytes] = {}
    orders: list[Any] = []
    for frame in _story(ledger):
        effects = book.apply(ledger.offset(), frame)
        orders += [one for one in effects.now if hasattr(one, "limit_ticks") and hasattr(one, "expires_ns")]
        _keep(book, rows)
        explain_account(book, ACCOUNT)
    for order in orders[:2]:
        filled = (order.venue, order.instrument, FillKind.LIQUIDATION, order.lots // 2, order.limit_ticks, 0)
        book.apply(ledger.offset(), ledger.fills([filled], order.order_id))
        report = OrderReport(v=1, account=ACCOUNT, order_id=order.order_id, status="expired", filled_lots=0, time_ns=ledger.now_ns)
        book.apply(ledger.offset(), ledger.frame(FrameKind.REPORTS, [report]))
    for on in (True, False):
        command = SetQuarantine(v=1, by="warm", time_ns=START_NS, chain="far", on=on)
        book.apply(ledger.offset(), ledger.control(FrameKind.COMMANDS, command))
        book.apply(ledger.offset(), ledger.tick(1))
    book.market.observe_slip(0, 0.0, ledger.now_ns)  # what this story does not come to
    is_closed_to_us(0, ledger.now_ns, book.market.universe.instrument_arrays)
    _keep(book, rows)
    totals(book.accounts, book.market)
    explain_account(book, ACCOUNT)
    while book.leverage.last is None:
        book.leverage.go_on(book.accounts, book.market)
    Book(0, 1).restore(rows.items())

    for machine, own in ((Treasury(1), _partial), (Attestor(0, 1), _heartbeat)):
        log = _Log()
        for frame in _opening(log):
            machine.apply(log.offset(), frame)
        machine.apply(log.offset(), own(log))
        _keep(machine, {})
    partitions_of([ACCOUNT.encode()], 4)
    for rule, parameters in PARAMETERS.items():  # before any venue says that it goes by one
        choice = choose(rule, parameters, GIVEN.get(rule, {}))
        assert not isinstance(choice, list), choice
        margins(choice, no_legs("warm", choice.given))


class _Log:
    """Numbers frames as one log would."""

    def __init__(self) -> None:
        self.now_ns = START_NS
        self._offset = -1
        self._next: dict[str, int] = {}
        self._sequences: dict[str, int] = {}

    def offset(self) -> int:
        self._offset += 1
        return self._offset

    def frame(self, kind: FrameKind, events: Any) -> Frame:
        source = kind.name.lower()
        first = self._next.get(source, 0)
        count = len(events.rows) if isinstance(events, Fills) else len(events)
        self._next[source] = first + count
        offsets = list(range(first, first + count))
        if isinstance(events, Fills):
            events.rows["offset"] = offsets
        return Frame(kind, source, 0, first - 1, first + count - 1, events, [] if isinstance(events, Fills) else offsets)

    def control(self, kind: FrameKind, *events: Any) -> Frame:
        return self.frame(FrameKind.CONTROL, [self.frame(kind, list(events))])

    def tick(self, seconds: float) -> Frame:
        self.now_ns += int(seconds * SECOND_NS)
        return self.control(FrameKind.TICK, Tick(self.now_ns))

    def prices(self, coin: float, dollar: float = 1.0) -> Frame:
        said = [("COIN", coin), ("DOLLAR", dollar)]
        return self.control(
            FrameKind.PRICES,
            *(OraclePrice(v=1, asset=a, source=s, price=p, publish_time_ns=self.now_ns) for a, p in said for s in ("one", "two")),
        )

    def fills(self, fills: list[tuple[str, str, FillKind, int, int, int]], order: str = "") -> Frame:
        """(venue, instrument, kind, lots, price in ticks, cash) of each."""
        rows = np.zeros(len(fills), FILL_DTYPE)
        names = list(dict.fromkeys((fill[0], fill[1]) for fill in fills))
        for row, (venue, name, kind, lots, ticks, cash) in zip(rows, fills, strict=True):
            sequence = self._sequences[venue] = self._sequences.get(venue, 0) + 1
            row["instrument"], row["order"], row["kind"] = names.index((venue, name)), 0 if order else -1, kind
            row["lots"], row["price_ticks"], row["cash"], row["sequence"], row["time_ns"] = lots, ticks, cash, sequence, self.now_ns
        return self.frame(FrameKind.FILLS, Fills([ACCOUNT], names, [order] if order else [], rows))


def _opening(log: _Log) -> list[Frame]:
    def instrument(venue: str, name: str, contract: Any, underlying: str, **more: Any) -> InstrumentDefinition:
        terms = {"lot_size": 0.001, "tick_size": 1.0, **more}
        return InstrumentDefinition(v=1, venue=venue, name=name, contract=contract, underlying=underlying, time_ns=START_NS, **terms)

    sources = {"one": 1.0, "two": 1.0}
    option = {"strike": 100_000.0, "expiry_ns": EXPIRY_NS}
    definitions = [
        AssetDefinition(v=1, name="COIN", asset_class="major", sources=sources, time_ns=START_NS),
        AssetDefinition(
            v=1, name="DOLLAR", asset_class="stable", redemption_asset="USD", cap_usd_global=1e9, sources=sources, time_ns=START_NS
        ),
        ChainDefinition(v=1, name="near", finality_s=1, messaging_delay_s=1, time_ns=START_NS),
        ChainDefinition(v=1, name="far", finality_s=1, messaging_delay_s=1, time_ns=START_NS),
        VenueDefinition(v=1, name="exchange", chain="near", fee_bps=1, rule=VenueRule(rule="bybit_uta"), time_ns=START_NS),
        VenueDefinition(v=1, name="vault", chain="far", vault=True, time_ns=START_NS),
        instrument("exchange", "USD", "spot", "USD", lot_size=1.0, tick_size=0.01, tradable=False),
        instrument("exchange", "PERP", "perpetual", "COIN"),
        instrument("exchange", "COIN", "spot", "COIN"),
        instrument("exchange", "INVERSE", "inverse_perpetual", "COIN", quote="COIN", lot_size=1.0),
        instrument("exchange", "FUTURE", "future", "COIN", expiry_ns=EXPIRY_NS),
        instrument("exchange", "COIN-FUTURE", "inverse_future", "COIN", quote="COIN", lot_size=1.0, expiry_ns=EXPIRY_NS),
        instrument("exchange", "CALL", "option", "COIN", **option),
        instrument("exchange", "PUT", "inverse_option", "COIN", quote="COIN", is_call=False, tick_size=0.0001, **option),
        instrument("exchange", "DEBT", "loan", "DOLLAR", lot_size=0.01, tick_size=0.01),
        instrument("vault", "DOLLAR", "spot", "DOLLAR", lot_size=0.01, tick_size=0.01),
    ]
    return [
        log.tick(0),
        log.control(FrameKind.DEFINITIONS, *definitions),
        log.control(FrameKind.PARAMETERS, RiskParameters(v=1, version="warm", parameters={"grace_s": 0.0}, time_ns=START_NS)),
        log.control(FrameKind.COMMANDS, SetMode(v=1, by="warm", time_ns=START_NS, mode="publish")),
        log.control(FrameKind.GRANTS, *(Grant(0, asset, 1e9, 1e9, 0) for asset in ("COIN", "DOLLAR"))),
        log.control(FrameKind.DEPTHS, Depth(v=1, asset="COIN", depth_usd=1e7, spread_bps=2.0, time_ns=START_NS)),
        log.tick(1),
    ]


def _story(log: _Log) -> list[Frame]:
    """One account that trades everything, sinks for each cause, is ordered about, and cannot be valued for a while."""
    quote = ImpliedVolatility(v=1, underlying="COIN", expiry_ns=EXPIRY_NS, sigma=0.6, time_ns=START_NS)
    index = Funding(v=1, venue="exchange", instrument="DEBT", measure="interest_index", value=1.01, time_ns=START_NS)
    trade = FillKind.TRADE
    said = [PendingPosition("PERP", buy_lots=10), PendingPosition("CALL", sell_lots=1)]
    orders = Pending(v=1, account=ACCOUNT, venue="exchange", positions=said, time_ns=START_NS)
    frames = [
        *_opening(log),
        log.control(FrameKind.VOLATILITIES, quote),
        log.control(FrameKind.LAGS, LagObservation("far", SECOND_NS, log.now_ns)),
        log.prices(100_000.0),
        log.frame(FrameKind.CREDITS, [Credit(ACCOUNT, "far", "DOLLAR", 3_000_000, 1, bytes(32), START_NS)]),
        log.fills(
            [
                ("exchange", "USD", FillKind.FUNDING, 0, 0, 10_000_000_000),
                ("exchange", "PERP", trade, 1_000, 100_000, 0),
                ("exchange", "INVERSE", trade, 1_000, 100_000, 0),
                ("exchange", "CALL", trade, -100, 5_000, 0),
                ("exchange", "PUT", trade, -100, 500, 0),
                ("exchange", "DEBT", FillKind.TRANSFER, -100_000, 0, 0),
            ]
        ),
        log.control(FrameKind.FUNDINGS, index),
        log.frame(FrameKind.PENDING, [orders]),
        log.frame(FrameKind.PENDING, [replace(orders, positions=[PendingPosition("COIN", buy_lots=1)], time_ns=START_NS + 1)]),
        log.frame(FrameKind.PENDING, [replace(orders, positions=[], time_ns=START_NS + 2)]),
    ]
    for coin in (99_000.0, 93_000.0, 84_000.0):
        frames += [log.tick(1), log.prices(coin, dollar=0.98)]
    frames += [log.tick(61), log.prices(60_000.0), log.tick(120), log.prices(100_000.0)]
    held = [SnapshotPosition("USD", 0, 90_000_000_000)]
    snapshot = Snapshot(v=1, account="other", venue="exchange", sequence=1, positions=held, time_ns=log.now_ns)
    return [*frames, log.frame(FrameKind.SNAPSHOTS, [snapshot])]


def _partial(log: _Log) -> Frame:
    return log.frame(FrameKind.PARTIALS, [Partial(0, 0, START_NS, {}, 1, [0, 0, 0, 0, 0])])


def _heartbeat(log: _Log) -> Frame:
    beat = Heartbeat(v=1, chain="near", height=1, block_time_ns=START_NS, observed_time_ns=START_NS)
    return log.frame(FrameKind.HEARTBEATS, [beat])


def _keep(machine: Machine, rows: dict[bytes, bytes]) -> None:
    for key, value in machine.take_cut().rows:
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value
