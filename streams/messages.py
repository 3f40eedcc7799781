"""The one place for what is on the bus: each topic with its key, type, version, partitions and retention, and the bytes of a message.

`python -m streams.messages FILE...` renews the topic table in those files; without a file it prints it.
"""

import base64
import math
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any, Literal, NamedTuple

import msgspec
import orjson
from msgspec import Struct

from engine.effects import AssetReport, Breaker, ChainReport, Decision, Health, LeverageReport, MarginCall, Order, Output, Refused
from engine.inputs import (
    AnyCommand,
    AnyDefinition,
    Attestation,
    Depth,
    Fill,
    FrameKind,
    Funding,
    Heartbeat,
    ImpliedVolatility,
    Message,
    OraclePrice,
    OrderReport,
    Partial,
    Pending,
    RiskParameters,
    Snapshot,
    Version,
)
from engine.murmur2 import partition_of
from engine.reasons import Refusal
from streams.documents import MadeTable, as_table, run

__all__ = [
    "CONTROL",
    "FRAME_BYTES_MAX",
    "INTERNAL_DLQ",
    "MESSAGE_BYTES_MAX",
    "PARTIALS",
    "SOURCES",
    "TOPICS",
    "TOPIC_TABLE",
    "DeadLetter",
    "LastValue",
    "PartialMessage",
    "PartitionStatus",
    "PublicEffect",
    "SourceTopic",
    "Topic",
    "TopicSpec",
    "attestation_key",
    "dead_letter",
    "dlq_topic",
    "encode",
    "encode_effect",
    "encode_source",
    "json_schemas",
    "orders_topic",
    "partition_of",
    "prefixed",
    "topic_specs",
    "topic_table",
]

MESSAGE_BYTES_MAX = 64 * 1024  # of one public message; a larger one is refused (too_large)
FRAME_BYTES_MAX = 4 * 1024 * 1024  # of one frame; a frame of 8,000 fills takes 0.6 MB, at most 3 MB with the longest names
DEAD_LETTER_KEY_BYTES_MAX = 256

CONTROL = "control"
PARTIALS = "treasury.partials"
INTERNAL_DLQ = "internal.dlq"  # what one machine told another and was refused; its origin is no public topic

Target = Literal["control", "ledger", "attest.ledger", "treasury.ledger"]
Partitions = Literal["1", "P", "E"]


class PartialMessage(Struct, frozen=True, forbid_unknown_fields=True):
    """A record of `treasury.partials`, key partition: what a book's cut tells the treasury."""

    v: Version
    partial: Partial


class DeadLetter(Output, frozen=True, kw_only=True):
    """`<topic>.dlq`, key `<topic>/<partition>/<offset>` of the record refused. May come twice: keep one for each key.

    `raw_base64` is the record's value (its first 64 KiB; `raw_bytes` is its whole length) where the bytes were refused; `event` the
    decoded message where its meaning was.
    """

    reason: Refusal
    detail: str
    topic: str
    partition: int
    offset: int
    key: str | None = None
    raw_base64: str | None = None
    raw_bytes: int | None = None
    event: Any = None


class PartitionStatus(Output, frozen=True, kw_only=True):
    """`pipeline.status`, key `<machine>/<partition>`: who owns a partition and how it stood at a cut; an old one tells of trouble."""

    machine: str
    partition: int
    owner: str  # <host>:<process id>
    pages: str  # where the owner's pages are, http://host:port
    applied: int
    log_first: int  # where the log began when it was last asked, every half minute
    log_end: int
    cut_applied: int  # the cut that this came with
    cut_seconds: float  # how long the cut before it took
    oldest_seconds: float  # age of the oldest event taken in and not applied
    clock_ns: int
    at_ms: int  # the owner's wall clock
    rows: int
    engine_version: int
    parameters: str  # the version in force
    mode: str  # books: observe | publish
    loaded_seconds: float  # from assignment to caught up


class SourceTopic(NamedTuple):
    """A topic that ingest takes in: a record holds `type` under `key(message)` and becomes an event of `kind` in the log `target`."""

    topic: str
    type: Any  # a Message, or a union of them told apart by `kind`
    key: Callable[[Any], bytes]
    kind: FrameKind
    target: Target


class Topic(NamedTuple):
    """One line of the topic table. `partitions`: P is the ledger's number of partitions, E the attestor's."""

    name: str
    key: str
    partitions: Partitions
    holds: str
    kept: "Kept"
    purpose: str
    critical: bool = False  # losing acknowledged records here breaks a guarantee
    frames: bool = False


class TopicSpec(NamedTuple):
    """What a broker is told when a topic is created, and what `topics check` compares. `name` is without the prefix."""

    name: str
    partitions: int
    replication: int
    config: dict[str, str]


class Kept(Enum):
    """How long records stay; the value is what the table says."""

    WEEK = "7 days"
    MONTH = "30 days"
    YEAR = "1 year"
    ALWAYS = "always"
    LATEST = "last value"
    ROWS = "last value, after a while"


# ---- the bytes of messages ------------------------------------------------------------------------------------------------------------


def encode(message: Struct) -> bytes:
    """JSON of a message: fields in the order of their definition, unions with `kind` first. The same message gives the same bytes.

    Raises ValueError for a number that is not finite: JSON has none, and orjson would write null.
    """
    content = msgspec.to_builtins(message)
    data = orjson.dumps(content)
    if b"null" in data:
        _require_finite(content, type(message).__name__)
    return data


def encode_source(message: Message | PartialMessage) -> tuple[str, bytes, bytes]:
    """(topic, key, value) of a message for a source topic. Send it with a murmur2 partitioner: aiokafka's and Java's default."""
    source = _SOURCE_OF_TYPE[type(message)]
    return source.topic, source.key(message), encode(message)


LastValue = Health | Breaker | Partial | AssetReport | ChainReport | LeverageReport | PartitionStatus  # written with a cut
PublicEffect = LastValue | Order | MarginCall | Decision | Refused | DeadLetter


def encode_effect(effect: PublicEffect) -> tuple[str, bytes, bytes]:
    """(topic, key, value) of whatever a machine or ingest puts out, topics without prefix."""
    match effect:
        case Order():
            return orders_topic(effect.venue), effect.account.encode(), encode(effect)
        case MarginCall():
            return "margin.calls", effect.account.encode(), encode(effect)
        case Health():
            return "account.health", effect.account.encode(), encode(effect)
        case Breaker():
            return "risk.breakers", f"{effect.trigger}/{effect.name}/{effect.partition}".encode(), encode(effect)
        case AssetReport():
            return "risk.marks", effect.asset.encode(), encode(effect)
        case ChainReport():
            return "risk.chains", effect.chain.encode(), encode(effect)
        case LeverageReport():
            return "risk.leverage", f"{effect.asset}/{effect.partition}".encode(), encode(effect)
        case PartitionStatus():
            return "pipeline.status", f"{effect.machine}/{effect.partition}".encode(), encode(effect)
        case Decision():
            return "audit.decisions", (effect.account or effect.venue or "all").encode(), encode(effect)
        case Partial():
            return PARTIALS, str(effect.partition).encode(), encode(PartialMessage(1, effect))
        case Refused():
            letter = DeadLetter(
                reason=Refusal(effect.reason),
                detail=effect.detail,
                topic=effect.topic,
                partition=effect.partition,
                offset=effect.offset,
                event=effect.event,
            )
            return encode_effect(letter)
        case DeadLetter():
            origin = f"{effect.topic}/{effect.partition}/{effect.offset}"
            return dlq_topic(effect.topic), origin.encode(), encode(effect)


def dead_letter(
    topic: str, partition: int, offset: int, key: bytes | None, value: bytes | None, reason: Refusal, detail: str
) -> DeadLetter:
    """The letter for a record whose bytes were refused; key and value are kept up to their bounds."""
    return DeadLetter(
        reason=reason,
        detail=detail,
        topic=topic,
        partition=partition,
        offset=offset,
        key=None if key is None else key[:DEAD_LETTER_KEY_BYTES_MAX].decode("utf-8", "backslashreplace"),
        raw_base64=None if value is None else base64.b64encode(value[:MESSAGE_BYTES_MAX]).decode("ascii"),
        raw_bytes=None if value is None else len(value),
    )


def _require_finite(content: Any, where: str) -> None:
    if isinstance(content, float) and not math.isfinite(content):
        raise ValueError(f"{where} is {content}: a message holds finite numbers only; whoever made it must say None or refuse its input")
    if isinstance(content, dict):
        for name, value in content.items():
            _require_finite(value, f"{where}.{name}")
    elif isinstance(content, list | tuple):
        for index, value in enumerate(content):
            _require_finite(value, f"{where}[{index}]")


# ---- names and keys -------------------------------------------------------------------------------------------------------------------


def prefixed(prefix: str, topic: str) -> str:
    """The topic's name on the broker. The only place where `topic_prefix` is put in front."""
    return prefix + topic


def dlq_topic(topic: str) -> str:
    """Where refused records of `topic` go; what came from another machine goes to `internal.dlq`."""
    return f"{topic}.dlq" if topic in SOURCES and topic != PARTIALS else INTERNAL_DLQ


def orders_topic(venue: str) -> str:
    """Where orders for `venue` go."""
    return f"orders.{venue}"


def attestation_key(vaa: bytes) -> bytes:
    """`<emitter chain>/<emitter address>` of a signed message (Wormhole's VAA layout). Raises ValueError where it is too short for one.

    Layout: version 1 byte, guardian set 4, number of signatures 1, 66 each; then timestamp 4, nonce 4, emitter chain 2, address 32.
    """
    body = 6 + 66 * vaa[5] if len(vaa) > 5 else 6
    if len(vaa) < body + 42:
        raise ValueError(f"{len(vaa)} bytes are too few for a signed message with an emitter")
    return f"{int.from_bytes(vaa[body + 8 : body + 10], 'big')}/{vaa[body + 10 : body + 42].hex()}".encode()


def _account_key(message: Any) -> bytes:
    account: str = message.account
    return account.encode()


def _field_key(name: str) -> Callable[[Any], bytes]:
    def key(message: Any) -> bytes:
        value: str = getattr(message, name)
        return value.encode()

    return key


SOURCES: dict[str, SourceTopic] = {
    source.topic: source
    for source in (
        SourceTopic("oracle.prices", OraclePrice, _field_key("asset"), FrameKind.PRICES, "control"),
        SourceTopic("market.depth", Depth, _field_key("asset"), FrameKind.DEPTHS, "control"),
        SourceTopic("market.volatility", ImpliedVolatility, _field_key("underlying"), FrameKind.VOLATILITIES, "control"),
        SourceTopic("market.funding", Funding, _field_key("venue"), FrameKind.FUNDINGS, "control"),
        SourceTopic("market.instruments", AnyDefinition, _field_key("name"), FrameKind.DEFINITIONS, "control"),
        SourceTopic("risk.parameters", RiskParameters, lambda _: b"main", FrameKind.PARAMETERS, "control"),
        SourceTopic("operator.commands", AnyCommand, lambda message: _tag(message).encode(), FrameKind.COMMANDS, "control"),
        SourceTopic("chain.heartbeats", Heartbeat, _field_key("chain"), FrameKind.HEARTBEATS, "attest.ledger"),
        SourceTopic(
            "chain.attestations",
            Attestation,
            lambda message: attestation_key(bytes.fromhex(message.vaa)),
            FrameKind.ATTESTATIONS,
            "attest.ledger",
        ),
        SourceTopic("venue.fills", Fill, _account_key, FrameKind.FILLS, "ledger"),
        SourceTopic("account.snapshots", Snapshot, _account_key, FrameKind.SNAPSHOTS, "ledger"),
        SourceTopic("account.orders", Pending, _account_key, FrameKind.PENDING, "ledger"),
        SourceTopic("order.reports", OrderReport, _account_key, FrameKind.REPORTS, "ledger"),
        SourceTopic(
            PARTIALS, PartialMessage, lambda message: str(message.partial.partition).encode(), FrameKind.PARTIALS, "treasury.ledger"
        ),
    )
}


def _types(source_type: Any) -> tuple[type[Struct], ...]:
    """The message types of a source: the members of a union, or the one type."""
    return getattr(source_type, "__args__", (source_type,))


def _tag(message: Struct | type[Struct]) -> str:
    tag = message.__struct_config__.tag
    assert isinstance(tag, str), message
    return tag


_SOURCE_OF_TYPE: dict[type[Struct], SourceTopic] = {kind: source for source in SOURCES.values() for kind in _types(source.type)}


# ---- the topics -----------------------------------------------------------------------------------------------------------------------

TOPICS: tuple[Topic, ...] = (
    Topic("oracle.prices", "asset", "1", "OraclePrice", Kept.WEEK, "prices in USD, one source's price of one asset"),
    Topic("market.depth", "asset", "1", "Depth", Kept.WEEK, "what the bid side would take, and the spread"),
    Topic("market.volatility", "underlying", "1", "ImpliedVolatility", Kept.WEEK, "implied volatility by expiry"),
    Topic("market.funding", "venue", "1", "Funding", Kept.WEEK, "funding rates, bases, interest indices and rates"),
    Topic(
        "market.instruments",
        "name",
        "1",
        "AssetDefinition, ChainDefinition, VenueDefinition, InstrumentDefinition",
        Kept.ALWAYS,
        "what exists, told apart by `kind`",
    ),
    Topic("risk.parameters", "pool (`main`)", "1", "RiskParameters", Kept.ALWAYS, "whole parameter sets"),
    Topic(
        "operator.commands",
        "kind",
        "1",
        "SetMode, SetFreeze, GuardianSet, SetQuarantine",
        Kept.ALWAYS,
        "brakes and keys, told apart by `kind`",
    ),
    Topic("chain.heartbeats", "chain", "E", "Heartbeat", Kept.WEEK, "the newest finalised block, and when it was seen"),
    Topic("chain.attestations", "`<emitter chain>/<emitter address>`", "E", "Attestation", Kept.MONTH, "signed messages of chains, in hex"),
    Topic("venue.fills", "account", "P", "Fill", Kept.WEEK, "what venues did to positions"),
    Topic("account.snapshots", "account", "P", "Snapshot", Kept.WEEK, "what venues say an account holds"),
    Topic("account.orders", "account", "P", "Pending", Kept.WEEK, "open orders and withdrawals under way at one venue"),
    Topic("order.reports", "account", "P", "OrderReport", Kept.WEEK, "what became of orders"),
    Topic(CONTROL, "none", "1", "frames", Kept.ALWAYS, "what every machine must see in the same order", critical=True, frames=True),
    Topic("ledger", "none", "P", "frames", Kept.ALWAYS, "the only input of each book", critical=True, frames=True),
    Topic("attest.ledger", "none", "E", "frames", Kept.ALWAYS, "the only input of each attestor", critical=True, frames=True),
    Topic("treasury.ledger", "none", "1", "frames", Kept.ALWAYS, "the only input of the treasury", critical=True, frames=True),
    Topic("ledger.rows", "row", "P", "rows", Kept.ROWS, "the books' cuts", critical=True),
    Topic("attest.rows", "row", "E", "rows", Kept.ROWS, "the attestors' cuts", critical=True),
    Topic("treasury.rows", "row", "1", "rows", Kept.ROWS, "the treasury's cuts", critical=True),
    Topic(PARTIALS, "partition", "1", "PartialMessage", Kept.LATEST, "what each book has spent and asks for, with its cut", critical=True),
    Topic("orders.<venue>", "account", "P", "Order", Kept.WEEK, "liquidation orders for one venue", critical=True),
    Topic(
        "margin.calls",
        "account",
        "P",
        "MarginCall",
        Kept.WEEK,
        "accounts in grace, below initial margin, over a limit, or with a leg near its venue's own liquidation",
    ),
    Topic("account.health", "account", "P", "Health", Kept.LATEST, "the last word on each account"),
    Topic("risk.breakers", "`<trigger>/<name>/<partition>`", "1", "Breaker", Kept.LATEST, "each breaker as a partition sees it"),
    Topic("risk.marks", "asset", "1", "AssetReport", Kept.LATEST, "each mark with its sources and haircuts, as the books see it"),
    Topic("risk.chains", "chain", "1", "ChainReport", Kept.LATEST, "how long each chain's word takes, as the books see it"),
    Topic("risk.leverage", "`<asset>/<partition>`", "1", "LeverageReport", Kept.LATEST, "claims on each asset, and what falls make sell"),
    Topic("pipeline.status", "`<machine>/<partition>`", "1", "PartitionStatus", Kept.LATEST, "who owns each partition, and how it stands"),
    Topic("audit.decisions", "account, or scope", "P", "Decision", Kept.YEAR, "every decision and its grounds"),
    Topic(
        "<topic>.dlq",
        "`<topic>/<partition>/<offset>`",
        "1",
        "DeadLetter",
        Kept.MONTH,
        f"refused input, for each topic above that is read; `{INTERNAL_DLQ}` for what machines tell each other",
    ),
)

_DAY_MS = 24 * 3600 * 1000
_RETENTION_MS = {Kept.WEEK: 7 * _DAY_MS, Kept.MONTH: 30 * _DAY_MS, Kept.YEAR: 365 * _DAY_MS, Kept.ALWAYS: -1}


def topic_specs(
    *,
    ledger_partitions: int,
    attest_partitions: int,
    venues: Iterable[str],
    replication: int = 1,
    min_isr: int = 1,
    compaction_lag_ms: int = 3600 * 1000,
) -> list[TopicSpec]:
    """Every topic with its settings, names without prefix. `venues` are those that orders may go to.

    Kafka's timestamps are the broker's everywhere: with historic event times as timestamps, retention deletes a replayed topic within
    minutes. Rows and partials stay readable for `compaction_lag_ms` after they were overwritten, so that old cuts can be examined.
    """
    counts = {"1": 1, "P": ledger_partitions, "E": attest_partitions}
    names = sorted(set(venues))
    return [
        TopicSpec(name, counts[topic.partitions], replication, _config(topic, min_isr, compaction_lag_ms))
        for topic in TOPICS
        for name in _names(topic.name, names)
    ]


def _names(name: str, venues: Sequence[str]) -> list[str]:
    if name == "orders.<venue>":
        return [orders_topic(venue) for venue in venues]
    if name == "<topic>.dlq":
        return [*(dlq_topic(topic) for topic in SOURCES if topic != PARTIALS), INTERNAL_DLQ]
    return [name]


def _config(topic: Topic, min_isr: int, compaction_lag_ms: int) -> dict[str, str]:
    config = {"message.timestamp.type": "LogAppendTime", "min.insync.replicas": str(min_isr)}
    if topic.kept in _RETENTION_MS:
        config |= {"cleanup.policy": "delete", "retention.ms": str(_RETENTION_MS[topic.kept]), "retention.bytes": "-1"}
    else:
        config |= {"cleanup.policy": "compact", "delete.retention.ms": str(_DAY_MS)}  # a recovery must end within a day of a deletion
    if topic.kept is Kept.ROWS or topic.name == PARTIALS:
        config["min.compaction.lag.ms"] = str(compaction_lag_ms)
    if topic.critical:
        config["unclean.leader.election.enable"] = "false"
    if topic.frames:
        config["max.message.bytes"] = str(FRAME_BYTES_MAX + 64 * 1024)  # and what wraps the frame
    return config


# ---- schemas and the table ------------------------------------------------------------------------------------------------------------


def json_schemas() -> dict[str, dict[str, Any]]:
    """JSON Schema (draft 2020-12) of every public message: topic -> schema; `orders` for each `orders.<venue>`, `dlq` for each `.dlq`."""
    types: dict[str, Any] = {topic: source.type for topic, source in SOURCES.items() if topic != PARTIALS}
    types |= {
        "orders": Order,
        "margin.calls": MarginCall,
        "account.health": Health,
        "risk.breakers": Breaker,
        "risk.marks": AssetReport,
        "risk.chains": ChainReport,
        "risk.leverage": LeverageReport,
        "pipeline.status": PartitionStatus,
        "audit.decisions": Decision,
        "dlq": DeadLetter,
    }
    return {
        topic: {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": topic, **msgspec.json.schema(kind)}
        for topic, kind in types.items()
    }


def topic_table() -> str:
    """The topics as a table in Markdown."""
    heads = ["topic", "key", "partitions", "holds", "kept", "what for"]
    return as_table(heads, [[f"`{t.name}`", t.key, t.partitions, t.holds, t.kept.value, t.purpose] for t in TOPICS])


TOPIC_TABLE = MadeTable("topics", "streams.messages", topic_table)

if __name__ == "__main__":
    run(TOPIC_TABLE)
