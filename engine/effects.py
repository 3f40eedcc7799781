"""What comes out of a machine: the types of public outputs, and how a machine says where each goes.

The types stand here, because the engine makes them; topic, key, version and bytes stand in `streams.messages`.
"""

from typing import Any

from msgspec import Struct

from engine.inputs import Frame


class Output(Struct, frozen=True, kw_only=True):
    """Every public output carries its version `v`."""

    v: int = 1


class Order(Output, frozen=True, kw_only=True):
    """`orders.<venue>`, key account: close `lots` (> 0 buys) of an instrument, at `limit_ticks` or better, until `expires_ns`."""

    order_id: str
    account: str
    venue: str
    chain: str
    instrument: str
    lots: int
    limit_ticks: int
    epoch: int
    attempt: int
    state: str
    cause: str
    reduce_only: bool = True
    decided_ns: int  # the machine's clock
    expires_ns: int
    parameters: str  # the parameter set's version
    ledger: str  # "<source>:<partition>:<offset>" of the event that decided (control: of its frame): the same in any framing


class MarginCall(Output, frozen=True, kw_only=True):
    """`margin.calls`, key account: short for a cause that first gets a grace period, below initial margin, or near a venue's liquidation.

    Of the last one (`cause` is venue) the numbers are those of the leg at `venue` by that venue's rule.
    """

    account: str
    state: str
    cause: str
    equity_usd: float
    maintenance_usd: float
    shortfall_usd: float  # to the level that it misses; 0 of one that is called for a position limit alone
    refuses: list[str] = []  # why new risk is refused, as in its health; the book's own bad debt is told there alone
    grace_until_ns: int
    venue: str = ""
    distance: float | None = None  # to that venue's liquidation, see VenueLeg
    decided_ns: int


class VenueLeg(Struct, frozen=True, kw_only=True, gc=False):
    """What an account has at a venue, by that venue's own rule (engine.rules). None where it cannot be had; `unknown` says why.

    A cut may make a million of them: the garbage collector, which would go through them again and again, has nothing to find in one.
    """

    venue: str
    rule: str
    equity_usd: float | None
    initial_usd: float | None
    maintenance_usd: float | None
    distance: float | None  # to its liquidation there, below 0 past it; see RuleInfo.measure. Also None where no size is there to go by
    verdict: str  # clear | near | past | unknown
    unknown: str = ""  # account | not_taken | lacking | unvalued | fault


class Health(Output, frozen=True, kw_only=True, gc=False):
    """`account.health`, key account: the last word on one account. Money is USD; None where it cannot be valued."""

    account: str
    state: str
    reason: str
    cause: str
    equity_usd: float | None
    maintenance_usd: float | None
    liquidation_end_usd: float | None
    initial_usd: float | None
    unhaircut_usd: float | None
    requirement_usd: dict[str, float] | None  # by mode: isolated, protocol, portfolio
    orders_in_flight: int
    frozen: bool
    refuses: list[str] = []  # why new risk is refused: initial_margin | limit_account | limit_asset | limit_venue | bad_debt
    legs: list[VenueLeg] = []  # at venues that have a rule
    clock_ns: int
    ledger: str  # "<partition>:<offset>" of the ledger at the cut


class Breaker(Output, frozen=True, kw_only=True):
    """`risk.breakers`, key `<trigger>/<name>/<partition>`: one breaker's state as that partition sees it."""

    trigger: str  # engine.breakers.TRIGGERS
    name: str
    partition: int
    state: str  # closed | tripped | recovering
    since_ns: int
    value: float
    limit: float


class Decision(Output, frozen=True, kw_only=True):
    """`audit.decisions`, key account (or scope): what was decided and on what grounds."""

    outcome: str
    account: str
    venue: str = ""
    instrument: str = ""
    order_id: str = ""
    lots: int = 0
    limit_ticks: int = 0
    state: str = ""
    cause: str = ""
    equity_usd: float | None = None
    maintenance_usd: float | None = None
    excess_before_usd: float | None = None  # over liquidation end
    excess_after_usd: float | None = None
    cost_usd: float | None = None
    note: str = ""
    decided_ns: int
    parameters: str = ""
    ledger: str = ""


class SourceReport(Struct, frozen=True, kw_only=True):
    """One source of a mark: its newest price, how old it is, and whether it counts."""

    source: str
    price_usd: float | None
    publish_ns: int  # -1: never
    age_seconds: float | None
    counts: bool
    why: str  # it does not count: never | stale | apart


class HaircutReport(Struct, frozen=True, kw_only=True):
    """The terms of one asset's haircut on one chain (docs/model.md, section 4), for an account that also has positions elsewhere."""

    chain: str
    eligible: bool
    base: float
    security: float
    suspended: float = 0.0  # 1: suspended, or not eligible there
    slow: float = 0.0  # what of these has not risen yet, or not fallen
    latency: float
    depeg: float
    size_1m: float  # the concentration term of 1,000,000 USD
    total_1m: float
    recognised: float = 1.0  # the share of what is left that counts


class AssetReport(Output, frozen=True, kw_only=True):
    """`risk.marks`, key asset: the mark with all that it was made of, as the books see it. None where it is not known."""

    asset: str
    asset_class: str
    mark_usd: float | None
    reason: str  # why it is unknown, or ""
    dispersion: float
    confidence: float
    age_seconds: float | None
    depth_usd: float
    depth_age_seconds: float | None
    spread_bps: float
    sigma_maintenance: float
    sigma_initial: float
    bound_usd: float | None  # what it can be redeemed for
    sources: list[SourceReport]
    haircuts: list[HaircutReport]
    clock_ns: int
    stable_usd: float | None = None  # the delay-limited price of the initial level
    uptime: float = 1.0  # the share of late in which the mark was known
    suspended: bool = False  # counts for nothing as collateral, at maintenance after a while
    depth_maintenance_usd: float | None = None  # the depth that haircuts and concentration are felt by, at maintenance
    depth_initial_usd: float | None = None
    stress_maintenance: float = 0.0  # of its group's correlations, 0 to 1
    stress_initial: float = 0.0
    recognised: float = 1.0  # the share of all balances that its global cap leaves
    over_maintenance: float = 0.0  # what of each balance is lost to it
    over_initial: float = 0.0
    settled: int = 0  # instruments on it that have expired and have their settlement price


class ChainReport(Output, frozen=True, kw_only=True):
    """`risk.chains`, key chain: how long its word takes, as the books see it."""

    chain: str
    layer: str
    finality_seconds: float
    lag_p95_seconds: float | None
    heartbeat_age_seconds: float | None
    breaker: str  # closed | tripped | recovering
    security_premium: float
    clock_ns: int
    layer_breaker: str = "closed"  # of its messaging layer
    quarantined: bool = False
    paused: float = 0.0  # the share of its collateral that is not recognised now
    slip: float = 0.0  # cross-chain slippage that was measured, as it counts now


class CascadePoint(Struct, frozen=True, kw_only=True):
    """What a fall of an asset's risk group makes accounts sell; smaller falls are included, since prices pass them on the way."""

    fall: float  # from the mark, a fraction; 0: by those who are below maintenance now
    accounts: int  # of the group that are below maintenance by then
    volume_usd: float  # of this asset


class LeverageReport(Output, frozen=True, kw_only=True):
    """`risk.leverage`, key `<asset>/<partition>`: claims on an asset by the accounts of one partition. USD adds up over partitions."""

    asset: str
    partition: int
    held_usd: float  # of the asset itself, at what it claims
    pledged_usd: float  # of that: by accounts that owe something, or have derivatives
    looped_usd: float  # of that: bought with what was borrowed
    claims_usd: float  # held of the asset and of whatever is redeemable into it
    owed_usd: float  # the same, owed
    encumbrance_multiple: float | None  # claims by coins; None: as much is owed as is claimed
    pledged_share: float | None  # None: nothing is held
    looped_share: float | None
    depth_usd: float
    cascade: list[CascadePoint]
    began_ns: int  # the look at the accounts: from when
    clock_ns: int  # to when


class Refused(Struct, frozen=True, kw_only=True):
    """An input that `apply` refused: goes to `<origin_topic>.dlq` with its origin; readers deduplicate by origin."""

    topic: str
    partition: int
    offset: int
    reason: str  # engine.reasons.Refusal
    detail: str
    event: Any  # the decoded event, builtin types only


class Send(Struct, frozen=True, kw_only=True):
    """A frame for another machine's log; `frame.covers_to` is this sender's counter for that target."""

    target: str  # "ledger" | "control"
    partition: int
    frame: Frame


class Effects(Struct, kw_only=True):
    """What one `apply` did, in order.

    `now`: published at once, in this order (Order, MarginCall, Decision, Refused); a repeat after a crash has the same bytes.
    `sends`: appended at once to other machines' logs.
    Last-value outputs (Health, Breaker, Partial) are not here: they are taken by the cut (`Machine.take_cut`).
    """

    now: list[Order | MarginCall | Decision | Refused]
    sends: list[Send]
    skipped: int = 0  # events that had been applied before
    gap: bool = False  # the frame lay beyond a gap and was skipped whole
