"""One valid message of each public type, and random values of any type that messages and frames are made of."""

from collections.abc import Sequence
from typing import Any, get_args

import msgspec
import msgspec.inspect as mi
import numpy as np
from hypothesis import strategies as st

from engine.effects import (
    AssetReport,
    Breaker,
    CascadePoint,
    ChainReport,
    Decision,
    HaircutReport,
    Health,
    LeverageReport,
    MarginCall,
    Order,
    SourceReport,
)
from engine.inputs import (
    FILL_DTYPE,
    FILL_KINDS,
    AssetDefinition,
    Attestation,
    ChainDefinition,
    Depth,
    Fill,
    Fills,
    Frame,
    FrameKind,
    Funding,
    GuardianSet,
    Heartbeat,
    ImpliedVolatility,
    InstrumentDefinition,
    Message,
    Name,
    OraclePrice,
    OrderReport,
    Partial,
    Pending,
    PendingPosition,
    RiskParameters,
    SetFreeze,
    SetMode,
    SetQuarantine,
    Snapshot,
    SnapshotPosition,
    VenueDefinition,
)
from engine.transfers import Direction, Transfer, encode_transfer
from streams.frames import _EVENT_TYPES
from streams.messages import PartialMessage, PartitionStatus
from streams.verify import encode_body, sign_vaa, synthetic_keys

NAME_STARTS = "ABCXYZabcxyz019"
NOW_NS = 1_760_130_000_000_000_000  # 10 October 2025, 21:00 UTC

VAA = sign_vaa(
    synthetic_keys("samples", 2),
    0,
    encode_body(
        timestamp_s=NOW_NS // 10**9,
        emitter_chain=30,
        emitter_address=bytes(31) + b"\x07",
        sequence=1,
        payload=encode_transfer(Transfer(direction=Direction.CREDIT, account="alice", chain="base", asset="USDC", lots=5, number=1)),
    ),
)

FILL = Fill(
    v=1,
    account="alice",
    venue="binance",
    instrument="BTC-PERP",
    kind="trade",
    lots=-25,
    price_ticks=1_213_205,
    cash=-1_516,
    sequence=7,
    time_ns=NOW_NS,
    fill_id="f-7",
    order_id="o-1",
)

SOURCE_MESSAGES: tuple[Message | PartialMessage, ...] = (
    OraclePrice(v=1, asset="USDe", source="binance", price=0.65, confidence=0.01, publish_time_ns=NOW_NS),
    Depth(v=1, asset="BTC", depth_usd=12e6, spread_bps=3.5, time_ns=NOW_NS),
    ImpliedVolatility(v=1, underlying="BTC", expiry_ns=NOW_NS + 10**15, sigma=0.82, time_ns=NOW_NS),
    Funding(v=1, venue="binance", instrument="BTC-PERP", measure="rate_per_hour", value=-0.0004, time_ns=NOW_NS),
    AssetDefinition(
        v=1, name="USDe", asset_class="synthetic_dollar", redemption_asset="USDT", sources={"binance": 1.0, "bybit": 2.0}, time_ns=NOW_NS
    ),
    ChainDefinition(v=1, name="base", finality_s=12.0, messaging_delay_s=90.0, atomic_group="op", emitter_chain=30, time_ns=NOW_NS),
    VenueDefinition(v=1, name="binance", chain="off-chain", fee_bps=4.0, time_ns=NOW_NS),
    InstrumentDefinition(
        v=1,
        venue="binance",
        name="BTC-PERP",
        contract="perpetual",
        underlying="BTC",
        lot_size=0.001,
        tick_size=0.1,
        time_ns=NOW_NS,
    ),
    RiskParameters(v=1, version="2025-10", parameters={"quorum": 2, "classes": {"major": {"base_haircut": 0.05}}}, time_ns=NOW_NS),
    SetMode(v=1, by="ada", mode="publish", time_ns=NOW_NS),
    SetQuarantine(v=1, by="ada", note="two messages of one number", chain="north", on=True, time_ns=NOW_NS),
    SetFreeze(v=1, by="ada", note="venue down", scope="venue", name="binance", frozen=True, time_ns=NOW_NS),
    GuardianSet(v=1, by="ada", index=0, addresses=["ab" * 20], time_ns=NOW_NS),
    Heartbeat(v=1, chain="base", height=36_600_000, block_time_ns=NOW_NS - 10**9, observed_time_ns=NOW_NS),
    Attestation(v=1, vaa=VAA.hex(), observed_time_ns=NOW_NS),
    FILL,
    Snapshot(v=1, account="alice", venue="binance", sequence=7, positions=[SnapshotPosition("BTC-PERP", -25, 30)], time_ns=NOW_NS),
    OrderReport(v=1, account="alice", order_id="o-1", status="filled", filled_lots=25, fill_ids=["f-7"], time_ns=NOW_NS),
    Pending(v=1, account="alice", venue="binance", positions=[PendingPosition("BTC-PERP", 40, 15, 0)], time_ns=NOW_NS),
    PartialMessage(1, Partial(3, 100, NOW_NS, {"BTC": 1.5e6}, 0, [10, 2, 1, 0, 4])),
)

HEALTH = Health(
    account="alice",
    state="liquidatable",
    reason="none",
    cause="price",
    equity_usd=1_234.5,
    maintenance_usd=2_000.0,
    liquidation_end_usd=2_200.0,
    initial_usd=3_000.0,
    unhaircut_usd=1_500.0,
    requirement_usd={"isolated": 2_500.0, "protocol": 2_250.0, "portfolio": 2_000.0},
    orders_in_flight=1,
    frozen=False,
    clock_ns=NOW_NS,
    ledger="3:100",
)

ASSET_REPORT = AssetReport(
    asset="USDe",
    asset_class="synthetic_dollar",
    mark_usd=0.999,
    reason="",
    dispersion=0.001,
    confidence=0.0,
    age_seconds=2.5,
    depth_usd=4e6,
    depth_age_seconds=None,
    spread_bps=3.0,
    sigma_maintenance=0.05,
    sigma_initial=0.9,
    bound_usd=1.0,
    sources=[SourceReport(source="binance", price_usd=0.65, publish_ns=NOW_NS, age_seconds=0.0, counts=False, why="apart")],
    haircuts=[
        HaircutReport(chain="base", eligible=True, base=0.02, security=0.01, latency=0.001, depeg=0.002, size_1m=0.05, total_1m=0.083)
    ],
    clock_ns=NOW_NS,
)

STATUS = PartitionStatus(
    machine="book",
    partition=3,
    owner="host:4711",
    pages="http://127.0.0.1:9464",
    applied=120,
    log_first=0,
    log_end=121,
    cut_applied=120,
    cut_seconds=0.012,
    oldest_seconds=0.0,
    clock_ns=NOW_NS,
    at_ms=NOW_NS // 10**6,
    rows=12,
    engine_version=1,
    parameters="2025-10",
    mode="observe",
    loaded_seconds=0.4,
)

OUTPUT_MESSAGES: tuple[
    Order | MarginCall | Health | Breaker | AssetReport | ChainReport | LeverageReport | PartitionStatus | Decision, ...
] = (
    Order(
        order_id="0123456789abcdef",
        account="alice",
        venue="binance",
        chain="off-chain",
        instrument="BTC-PERP",
        lots=25,
        limit_ticks=1_250_000,
        epoch=1,
        attempt=1,
        state="liquidatable",
        cause="price",
        decided_ns=NOW_NS,
        expires_ns=NOW_NS + 10**10,
        parameters="2025-10",
        ledger="3:100:0",
    ),
    MarginCall(
        account="alice",
        state="warning",
        cause="credit",
        equity_usd=1_234.5,
        maintenance_usd=2_000.0,
        shortfall_usd=765.5,
        grace_until_ns=NOW_NS + 10**12,
        decided_ns=NOW_NS,
    ),
    HEALTH,
    Breaker(trigger="asset_move", name="BTC", partition=3, state="tripped", since_ns=NOW_NS, value=0.16, limit=0.1),
    ASSET_REPORT,
    ChainReport(
        chain="base",
        layer="wormhole",
        finality_seconds=12.0,
        lag_p95_seconds=90.0,
        heartbeat_age_seconds=None,
        breaker="closed",
        security_premium=0.01,
        clock_ns=NOW_NS,
    ),
    LeverageReport(
        asset="USDe",
        partition=3,
        held_usd=400_000.0,
        pledged_usd=300_000.0,
        looped_usd=200_000.0,
        claims_usd=400_000.0,
        owed_usd=100_000.0,
        encumbrance_multiple=4 / 3,
        pledged_share=0.75,
        looped_share=None,
        depth_usd=4e6,
        cascade=[CascadePoint(fall=0.01, accounts=2, volume_usd=12_500.0)],
        began_ns=NOW_NS - 10**9,
        clock_ns=NOW_NS,
    ),
    STATUS,
    Decision(outcome="no_plan", account="alice", note="nothing on offer", decided_ns=NOW_NS),
)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Random values of a message's or frame's type, within the bounds that the type states, the ends of the bounds included."""
    return _values(mi.type_info(kind))


def _values(kind: mi.Type) -> st.SearchStrategy[Any]:
    match kind:
        case mi.IntType(ge=ge, le=le):
            return st.integers(-(2**63) if ge is None else int(ge), 2**63 - 1 if le is None else int(le))
        case mi.FloatType(gt=gt, ge=ge, le=le):
            low = gt if ge is None else ge
            return st.floats(min_value=low, max_value=le, exclude_min=gt is not None, allow_nan=False, allow_infinity=False)
        case mi.StrType(pattern=None, min_length=low, max_length=high):
            return st.text(min_size=low or 0, max_size=high)
        case mi.StrType(pattern=pattern) if pattern == get_args(Name)[1].pattern:
            return st.builds(str.__add__, st.sampled_from(NAME_STARTS), st.text(NAME_STARTS + "_.:+-", max_size=63))
        case mi.StrType(pattern=pattern, min_length=low, max_length=high):
            assert pattern is not None
            return st.from_regex(pattern.removesuffix("(?!\\n)"), fullmatch=True).filter(
                lambda text: (low or 0) <= len(text) <= (high or 64) and not text.endswith("\n")
            )
        case mi.BytesType():
            return st.binary(max_size=40)
        case mi.BoolType():
            return st.booleans()
        case mi.NoneType():
            return st.none()
        case mi.LiteralType(values=options):
            return st.sampled_from(options)
        case mi.ListType(item_type=item, min_length=low):
            return st.lists(_values(item), min_size=low or 0, max_size=max(3, low or 0))
        case mi.DictType(key_type=key, value_type=value):
            return st.dictionaries(_values(key), _values(value), max_size=3)
        case mi.UnionType(types=types):
            return st.one_of([_values(member) for member in types])
        case mi.StructType(cls=cls, fields=fields):
            return st.builds(cls, **{field.name: _values(field.type) for field in fields})
        case mi.AnyType():
            numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
            return st.recursive(
                st.none() | st.booleans() | numbers | st.text(),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
                max_leaves=5,
            )
        case _:
            raise AssertionError(f"say here how to draw a {kind}")


@st.composite
def offsets_covered(draw: st.DrawFn, count: int) -> tuple[int, int, list[int]]:
    """(covers_from, covers_to, `count` offsets within)."""
    covers_from = draw(st.integers(-1, 2**62))
    steps = draw(st.lists(st.integers(1, 2**30), min_size=count, max_size=count))
    offsets = [covers_from + sum(steps[: index + 1]) for index in range(count)]
    covers_to = (offsets[-1] if offsets else covers_from + 1) + draw(st.integers(0, 3))
    return covers_from, covers_to, offsets


@st.composite
def fill_frames(draw: st.DrawFn) -> Frame:
    """Random frames of fills."""
    names = st.lists(values(msgspec.structs.fields(Fill)[1].type), min_size=1, max_size=4)
    accounts = draw(names)
    instruments = list(zip(draw(names), draw(names), strict=False))
    orders = draw(st.lists(st.text(min_size=1, max_size=64), max_size=3))
    count = draw(st.integers(0, 8))
    covers_from, covers_to, offsets = draw(offsets_covered(count))
    rows = np.zeros(count, FILL_DTYPE)
    for row, offset in zip(rows, offsets, strict=True):
        row["account"] = draw(st.integers(0, len(accounts) - 1))
        row["instrument"] = draw(st.integers(0, len(instruments) - 1))
        row["order"] = draw(st.integers(-1, len(orders) - 1))
        row["kind"] = draw(st.integers(0, len(FILL_KINDS) - 1))
        for column in ("lots", "price_ticks", "cash", "sequence", "time_ns"):
            row[column] = draw(st.integers(-(2**63), 2**63 - 1))
        row["offset"] = offset
    fills = Fills(accounts, instruments, orders, rows)
    return Frame(FrameKind.FILLS, "venue.fills", draw(st.integers(0, 63)), covers_from, covers_to, fills, [])


@st.composite
def event_frames(draw: st.DrawFn, kinds: Sequence[FrameKind] = tuple(_EVENT_TYPES)) -> Frame:
    """Random frames of these kinds, each a list of events."""
    kind = draw(st.sampled_from(kinds))
    events = draw(st.lists(values(_EVENT_TYPES[kind]), max_size=3))
    covers_from, covers_to, offsets = draw(offsets_covered(len(events)))
    return Frame(kind, draw(st.text(max_size=30)), draw(st.integers(0, 63)), covers_from, covers_to, events, offsets)


@st.composite
def copied_frames(draw: st.DrawFn) -> Frame:
    """Random copies of frames of control."""
    covers_from = draw(st.integers(-1, 2**62))
    offset = covers_from + draw(st.integers(1, 2**30))
    return Frame(FrameKind.CONTROL, "control", 0, covers_from, offset, [draw(event_frames())], [offset])


def frames() -> st.SearchStrategy[Frame]:
    """Random frames of every kind."""
    return fill_frames() | event_frames() | copied_frames()


def plain(frame: Frame) -> tuple[Any, ...]:
    """What a frame says, comparable with ==."""
    if isinstance(frame.events, Fills):
        events: Any = (*frame.events[:3], frame.events.rows.tolist())
    elif frame.kind is FrameKind.CONTROL:
        events = [plain(inner) for inner in frame.events]
    else:
        events = frame.events
    return (*frame[:5], events, frame.offsets)
