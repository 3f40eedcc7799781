"""What a machine's log can hold: the messages' types, and the frames that carry them.

The types of public messages stand here, because the engine takes them in; topic, key, version and schema stand in `streams.messages`.
Times are integer nanoseconds of event time, quantities whole lots, prices of fills and orders whole ticks, rates annualised decimals.
"""

from enum import IntEnum
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

# In Python `$` also matches before a final newline, hence `(?!\n)`; both mean the same in the JSON Schema.
Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:+-]*$(?!\n)")]
TimeNs = Annotated[int, Meta(ge=0, le=2**62)]
Int64 = Annotated[int, Meta(ge=-(2**62), le=2**62)]
Price = Annotated[float, Meta(gt=0.0, le=1e15)]
Positive = Annotated[float, Meta(gt=0.0, le=1e18)]
NonNegative = Annotated[float, Meta(ge=0.0, le=1e18)]
Number = Annotated[float, Meta(ge=-1e18, le=1e18)]
Version = Literal[1]


class Message(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every public message carries its version `v`."""

    v: Version


# ---- market -----------------------------------------------------------------------------------------------------------------------


class OraclePrice(Message, frozen=True, kw_only=True):
    """`oracle.prices`, key asset: one source's price of one asset in USD. `synthetic` marks a source made from another one."""

    asset: Name
    source: Name
    price: Price
    confidence: NonNegative = 0.0
    publish_time_ns: TimeNs
    synthetic: bool = False


class Depth(Message, frozen=True, kw_only=True):
    """`market.depth`, key asset: USD on the bid side within 2 % of the mark, and the spread."""

    asset: Name
    depth_usd: NonNegative
    spread_bps: NonNegative
    time_ns: TimeNs


class ImpliedVolatility(Message, frozen=True, kw_only=True):
    """`market.volatility`, key underlying: implied volatility (annualised decimal) of one expiry."""

    underlying: Name
    expiry_ns: TimeNs
    sigma: Annotated[float, Meta(gt=0.0, le=20.0)]
    time_ns: TimeNs


class Funding(Message, frozen=True, kw_only=True):
    """`market.funding`, key venue: what is observed of one instrument.

    A perpetual's funding rate per hour; its or a future's basis (price over the underlying's mark, less 1); a loan's interest index (debt =
    lots x index) and its interest rate a year, by which the index grows until it is observed again.
    """

    venue: Name
    instrument: Name
    measure: Literal["rate_per_hour", "basis", "interest_index", "interest_rate"]
    value: Annotated[float, Meta(ge=-1.0, le=1e6)]
    time_ns: TimeNs


# ---- definitions --------------------------------------------------------------------------------------------------------------------


class Definition(Message, frozen=True, kw_only=True, tag_field="kind"):
    """`market.instruments`, key name: what exists. Numbered by first definition; a redefinition may change terms, never identity."""

    time_ns: TimeNs


class AssetDefinition(Definition, frozen=True, kw_only=True, tag="asset"):
    """An asset. `asset_class` names a row of the parameters; `redemption_asset` x `redemption_rate` is what it can be redeemed for."""

    name: Name
    asset_class: Literal["cash", "major", "alt", "stable", "synthetic_dollar", "liquid_staking", "real_world", "governance"]
    redemption_asset: Name | None = None
    redemption_rate: Positive = 1.0
    redemption_delay_s: NonNegative = 0.0
    cap_usd_per_account: Positive = 1e15
    cap_usd_global: Positive = 1e18  # over all accounts of the pool
    eligible_chains: list[Name] | None = None  # None: every chain
    sources: dict[Name, Positive] = {}  # source -> weight; a price of another source is refused (unknown_source)


class ChainDefinition(Definition, frozen=True, kw_only=True, tag="chain"):
    """A chain. Chains of one `atomic_group` share a sequencer; `emitter` (hex, 32 bytes) signs its attested transfers.

    `messaging_layer` is whose guardians those transfers depend on: for reports of exposure.
    """

    name: Name
    finality_s: NonNegative
    messaging_delay_s: NonNegative
    security_premium: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    atomic_group: Name | None = None
    messaging_layer: Name = "wormhole"
    emitter_chain: Annotated[int, Meta(ge=0, le=65535)] = 0
    emitter_address: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")] = "00" * 32


class VenueRule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """By which rule a venue goes (`plimsoll models`), its own parameters, and what it needs that no position says (docs/rules.md)."""

    rule: Name
    parameters: dict[str, Any] = {}
    given: dict[Name, Number | dict[Name, Number]] = {}


class VenueDefinition(Definition, frozen=True, kw_only=True, tag="venue"):
    """A venue (exchange, lending market or a chain's vault) on one chain. `rule`: legs there are also watched by the venue's own rule."""

    name: Name
    chain: Name
    fee_bps: NonNegative = 0.0
    vault: bool = False  # True: moved by attested transfers alone
    rule: VenueRule | None = None


class InstrumentDefinition(Definition, frozen=True, kw_only=True, tag="instrument"):
    """An instrument of one venue; (venue, name) is its identity.

    `lot_size` is units of the underlying a lot (for inverse perpetuals and futures: USD a lot); `tick_size` is the price step in the quote.
    `lot_size * tick_size` must be a whole number of cash units (1e-6 of a USD-like quote, 1e-9 of a coin), so that cash adds up exactly.
    Inverse contracts are quoted and settled in the underlying (`quote` = `underlying`). A perpetual whose funding is paid at intervals
    names them (`funding_interval_s`, from 1970): what has accrued in the present one counts already.
    """

    venue: Name
    name: Name
    contract: Literal["spot", "loan", "perpetual", "inverse_perpetual", "future", "inverse_future", "option", "inverse_option"]
    underlying: Name
    quote: Name = "USD"
    lot_size: Positive
    tick_size: Positive
    strike: NonNegative = 0.0
    expiry_ns: TimeNs = 0
    is_call: bool = True
    funding_interval_s: Annotated[int, Meta(ge=0, le=31_536_000)] = 0
    tradable: bool = True  # False: the planner never sends an order here


AnyDefinition = AssetDefinition | ChainDefinition | VenueDefinition | InstrumentDefinition


class RiskParameters(Message, frozen=True, kw_only=True):
    """`risk.parameters`, key pool: one whole parameter set; `parameters` is validated by `engine.parameters.Parameters`."""

    version: Name
    parameters: dict[str, Any]
    time_ns: TimeNs


# ---- chains ---------------------------------------------------------------------------------------------------------------------------


class Heartbeat(Message, frozen=True, kw_only=True):
    """`chain.heartbeats`, key chain: the newest finalised block seen, and when. Their difference is the observed attestation lag."""

    chain: Name
    height: Annotated[int, Meta(ge=0, le=2**62)]
    block_time_ns: TimeNs
    observed_time_ns: TimeNs


class Attestation(Message, frozen=True, kw_only=True):
    """`chain.attestations`, key `<emitter chain>/<emitter address>`: a signed message (VAA), hex."""

    vaa: Annotated[str, Meta(min_length=2, max_length=16384, pattern=r"^[0-9a-f]*$(?!\n)")]
    observed_time_ns: TimeNs


class VerifiedAttestation(Struct, frozen=True, array_like=True):
    """An attestation with its signers recovered (by ingest, which needs no state for it); the attestor judges it."""

    guardian_set_index: int
    signer_indexes: list[int]
    signers: list[bytes]  # 20 bytes each; empty where no key could be recovered
    digest: bytes  # 32
    timestamp_s: int
    emitter_chain: int
    emitter_address: bytes  # 32
    sequence: int
    payload: bytes
    observed_time_ns: int


# ---- accounts -------------------------------------------------------------------------------------------------------------------------


class FillKind(IntEnum):
    """The kinds of `venue.fills`; the number is what the columns hold."""

    TRADE = 0
    LIQUIDATION = 1
    DELEVERAGING = 2
    BUST = 3
    TRANSFER = 4  # lots move in (> 0) or out, no price
    FUNDING = 5  # cash only
    SETTLEMENT = 6  # of what has expired, at the venue's settlement price


FILL_KINDS = ("trade", "liquidation", "deleveraging", "bust", "transfer", "funding", "settlement")


class Fill(Message, frozen=True, kw_only=True):
    """`venue.fills`, key account: what a venue did to one position. `sequence` counts 1, 2, ... for each (account, venue).

    `lots` > 0 buys. `cash` is what the account received besides the trade itself (funding, minus fees), in the quote's cash units.
    """

    account: Name
    venue: Name
    instrument: Name
    kind: Literal["trade", "liquidation", "deleveraging", "bust", "transfer", "funding", "settlement"]
    lots: Int64
    price_ticks: Annotated[int, Meta(ge=0, le=2**53)]
    cash: Int64 = 0
    sequence: Annotated[int, Meta(ge=1, le=2**62)]
    time_ns: TimeNs
    fill_id: Annotated[str, Meta(max_length=64)] = ""
    order_id: Annotated[str, Meta(max_length=64)] = ""


class RefusedFill(Struct, frozen=True, array_like=True):
    """What is known of a fill that ingest refused: whose it is (by its key), and where it could be read, its venue and number."""

    account: str
    venue: str  # "": could not be read
    sequence: int  # -1: could not be read


class SnapshotPosition(Struct, frozen=True, forbid_unknown_fields=True):
    """One position of a snapshot: absolute lots and cash units."""

    instrument: Name
    lots: Int64
    cash: Int64


class Snapshot(Message, frozen=True, kw_only=True):
    """`account.snapshots`, key account: what a venue says the account holds there after fill `sequence`. Absolute, never added."""

    account: Name
    venue: Name
    sequence: Annotated[int, Meta(ge=0, le=2**62)]
    positions: Annotated[list[SnapshotPosition], Meta(max_length=64)]
    time_ns: TimeNs


class PendingPosition(Struct, frozen=True, forbid_unknown_fields=True):
    """What may still happen to one position: lots of open orders by side, and of a spot balance that a withdrawal under way takes."""

    instrument: Name
    buy_lots: Annotated[int, Meta(ge=0, le=2**62)] = 0
    sell_lots: Annotated[int, Meta(ge=0, le=2**62)] = 0
    leaving_lots: Annotated[int, Meta(ge=0, le=2**62)] = 0


class Pending(Message, frozen=True, kw_only=True):
    """`account.orders`, key account: open orders and withdrawals under way at one venue. Absolute: replaces what was said before.

    Deposits under way are not said: they count nothing until they are there.
    """

    account: Name
    venue: Name
    positions: Annotated[list[PendingPosition], Meta(max_length=16)]
    time_ns: TimeNs


class OrderReport(Message, frozen=True, kw_only=True):
    """`order.reports`, key account: what became of an order. Moves the order's life, never a position."""

    account: Name
    order_id: Annotated[str, Meta(min_length=1, max_length=64)]
    status: Literal["acknowledged", "partly_filled", "filled", "rejected", "expired", "cancelled"]
    filled_lots: Annotated[int, Meta(ge=0, le=2**62)]
    fill_ids: Annotated[list[str], Meta(max_length=64)] = []
    reason: Annotated[str, Meta(max_length=256)] = ""
    time_ns: TimeNs


# ---- operators, clock, and what machines tell each other ------------------------------------------------------------------------------


class Command(Message, frozen=True, kw_only=True, tag_field="kind"):
    """`operator.commands`: brakes and keys; through control, so that every partition sees them at the same place."""

    by: Annotated[str, Meta(max_length=64)]
    note: Annotated[str, Meta(max_length=256)] = ""
    time_ns: TimeNs


class SetMode(Command, frozen=True, kw_only=True, tag="mode"):
    """Decide and show (`observe`), or decide and publish orders."""

    mode: Literal["observe", "publish"]


class SetFreeze(Command, frozen=True, kw_only=True, tag="freeze"):
    """Stop (or resume) orders for one account, one venue, or all."""

    scope: Literal["account", "venue", "all"]
    name: Annotated[str, Meta(max_length=64)] = ""
    frozen: bool


class GuardianSet(Command, frozen=True, kw_only=True, tag="guardian_set"):
    """A guardian set: 20-byte addresses in hex, in order. The one before it expires at `previous_expires_ns`."""

    index: Annotated[int, Meta(ge=0, le=2**31)]
    addresses: Annotated[list[Annotated[str, Meta(pattern=r"^[0-9a-f]{40}$(?!\n)")]], Meta(min_length=1, max_length=255)]
    previous_expires_ns: TimeNs = 0


class SetQuarantine(Command, frozen=True, kw_only=True, tag="quarantine"):
    """Stop recognising a chain's credit (`on`), or end its quarantine, whoever began it."""

    chain: Name
    on: bool


AnyCommand = SetMode | SetFreeze | GuardianSet | SetQuarantine


class Tick(Struct, frozen=True, array_like=True):
    """The clock: the only thing that moves time."""

    time_ns: int


class Grant(Struct, frozen=True, array_like=True):
    """Throttle budget given ahead by the treasury to one ledger partition, or an answer of the insurance fund."""

    partition: int
    asset: str  # "" for an answer of the fund
    budget_usd: float  # notional that may be ordered, added to what is left, bounded by `cap_usd`
    cap_usd: float
    fund_paid_micro_usd: int  # cumulative for this partition
    recognised: float = 1.0  # the share of all accounts' balances of the asset that its global cap leaves


class LagObservation(Struct, frozen=True, array_like=True):
    """The attestor's word on a chain: p95 of its observed lags, its newest heartbeat, and whether its messages contradict each other."""

    chain: str
    lag_p95_ns: int
    last_heartbeat_ns: int
    quarantined: bool = False


class Credit(Struct, frozen=True, array_like=True):
    """An attested, numbered transfer that the attestor accepted; moves a chain (vault) position."""

    account: str
    chain: str
    asset: str
    lots: int  # signed: > 0 credit, < 0 debit
    number: int
    digest: bytes
    time_ns: int


class Partial(Struct, frozen=True, array_like=True):
    """What a book tells the treasury with each cut; absolute, so that a repeat changes nothing."""

    partition: int
    applied: int
    clock_ns: int
    spent_usd: dict[str, float]  # asset -> cumulative ordered notional
    fund_requested_micro_usd: int  # cumulative
    accounts_by_state: list[int]
    collateral_usd: dict[str, float] = {}  # asset with a global cap -> positive spot balances of all accounts


# ---- frames ---------------------------------------------------------------------------------------------------------------------------


class FrameKind(IntEnum):
    """What a frame's events are; the number is on the bus."""

    PRICES = 1
    DEPTHS = 2
    VOLATILITIES = 3
    FUNDINGS = 4
    DEFINITIONS = 5
    PARAMETERS = 6
    COMMANDS = 7
    TICK = 8
    GRANTS = 9
    LAGS = 10
    FILLS = 20
    SNAPSHOTS = 21
    REPORTS = 22
    CREDITS = 23
    REFUSED_FILLS = 24
    PENDING = 25
    HEARTBEATS = 30
    ATTESTATIONS = 31
    PARTIALS = 40
    CONTROL = 50  # a frame of control, copied: `events` is a list of one Frame


FILL_DTYPE = np.dtype(
    [
        ("account", "<i4"),  # into Fills.accounts
        ("instrument", "<i4"),  # into Fills.instruments
        ("order", "<i4"),  # into Fills.order_ids, -1: none
        ("kind", "<i4"),  # FillKind
        ("lots", "<i8"),
        ("price_ticks", "<i8"),
        ("cash", "<i8"),
        ("sequence", "<i8"),
        ("time_ns", "<i8"),
        ("offset", "<i8"),  # of the source record
    ]
)


class Fills(NamedTuple):
    """Fills in columns: `rows` has shape (n,) and FILL_DTYPE; the lists give the names the rows point into."""

    accounts: list[str]
    instruments: list[tuple[str, str]]  # (venue, name)
    order_ids: list[str]
    rows: NDArray[np.void]


class Frame(NamedTuple):
    """One record of a machine's log.

    It covers offsets `(covers_from, covers_to]` of `source` (a topic, or a machine's name with its counter as the offset), partition
    `source_partition`. `events` is a list of the kind's type with `offsets` beside it (same length), or `Fills`.
    """

    kind: FrameKind
    source: str
    source_partition: int
    covers_from: int
    covers_to: int
    events: list[Any] | Fills
    offsets: list[int]
