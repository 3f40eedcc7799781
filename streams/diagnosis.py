"""What a deployment's state means: each check turns facts into findings, each finding says what to type. No check looks at anything itself.

`streams.doctor` gathers the facts. A fault is what keeps the monitor from its work, or soon will; a warning is what somebody should know.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from msgspec import Struct

from engine.effects import AssetReport
from engine.guardians import GuardianSets
from engine.inputs import (
    AnyCommand,
    AnyDefinition,
    AssetDefinition,
    ChainDefinition,
    GuardianSet,
    RiskParameters,
    SetFreeze,
    SetMode,
    SetQuarantine,
)
from engine.machine import ENGINE_VERSION
from engine.parameters import Parameters, parse_parameters
from streams.messages import INTERNAL_DLQ, PartitionStatus
from streams.settings import Protocol, Settings
from streams.topics_admin import TopicFault, TopicState
from streams.wording import safe, span, utc_ns

NAMES_SHOWN_MAX = 5  # of one kind, in one finding
CLOCKS_APART_S = 2.0  # the skew that feeders bear
CUT_OLD_S = 30.0
CLOCK_BEHIND_S = 5.0
OLDEST_EVENT_S = 5.0
DISK_FREE_BYTES = 2 * 2**30
PYTHON: Final = (3, 11)

# Letters in which an account's positions, or an operator's word, are missing.
GRAVE_LETTERS: Final = frozenset({"venue.fills", "account.snapshots", "risk.parameters", "operator.commands", "market.instruments"})
FETCH_COMMITTED_VERSION: Final = 4  # of fetch requests: the first that can leave out what was not committed
NO_EMITTER: Final = "00" * 32


class Grade(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAULT = "fault"


class Finding(Struct, frozen=True):
    """What one check found; `remedy` says what to do, with what to type in backticks."""

    check: str
    grade: Grade
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        do = f"\n      {'':12}  do: {safe(self.remedy)}" if self.remedy else ""
        return f"{self.grade:5} {self.check:12}  {safe(self.found)}{do}"


def ok(check: str, found: str, remedy: str = "") -> Finding:
    return Finding(check, Grade.OK, found, remedy)


def warn(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, Grade.WARN, found, remedy)


def fault(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, Grade.FAULT, found, remedy)


class Answer(Struct, frozen=True):
    """How one address of `bootstrap` answered: with how many brokers its cluster has, and which fetches it knows; or with an error."""

    address: str
    brokers: int = 0
    fetch_version: int = 0
    error: str = ""


class Owner(Struct, frozen=True):
    """A member of the consumer group, and the partitions that it was given: (topic without prefix, partition)."""

    host: str
    partitions: frozenset[tuple[str, int]]


class Clocks(Struct, frozen=True):
    """This machine's clock against the broker's, in seconds, positive where the other one is behind; None where nothing tells.

    `ours_s` is measured when a record comes in, so it includes the way; `never_less_s` is how far the newest record lies in our future.
    """

    ours_s: float | None
    ticker_s: float | None = None  # the worker's that writes the ticks, against the broker's
    never_less_s: float = 0.0


class Log(Struct, frozen=True):
    """A machine partition: its name, and the first offset that its log still has."""

    machine: str
    partition: int
    topic: str
    first: int | None  # None: the log is not there


# ---- the cluster ----------------------------------------------------------------------------------------------------------------------


def brokers(answers: Sequence[Answer]) -> list[Finding]:
    """Every address in `bootstrap` should answer: a worker that starts while the one that does is away cannot join."""
    silent = [answer for answer in answers if answer.error]
    grade = Grade.FAULT if len(silent) == len(answers) else Grade.WARN
    remedy = "see that the broker runs and that `bootstrap` names it; a local one: `plimsoll kafka status`, `plimsoll kafka start`"
    found = [Finding("brokers", grade, f"{answer.address} does not answer: {answer.error}", remedy) for answer in silent]
    for answer in answers:
        said = f"{answer.address} answers, of {answer.brokers} brokers (fetch requests up to version {answer.fetch_version})"
        if answer.fetch_version < FETCH_COMMITTED_VERSION and not answer.error:
            remedy = f"run a newer Kafka; what this one knows: `kafka-broker-api-versions --bootstrap-server {answer.address}`"
            found.append(fault("brokers", f"{said}, too old to know transactions", remedy))
        elif not answer.error:
            found.append(ok("brokers", said))
    return found


def security(settings: Settings) -> list[Finding]:
    """How the cluster is spoken to. Names and files are told, never a secret."""
    given = settings.security
    said = given.protocol.value
    if given.username is not None:
        said += f" as {given.username} by {given.mechanism.value}"
    if given.ca_file is not None:
        said += f", authorities from {given.ca_file}"
    local = all(address.rpartition(":")[0] in {"127.0.0.1", "localhost", "[::1]"} for address in settings.bootstrap.split(","))
    encrypted = given.protocol in {Protocol.SSL, Protocol.SASL_SSL}
    if not encrypted and not local:
        remedy = "set security.protocol to SSL or SASL_SSL, then see that it works: `plimsoll topics check`"
        return [warn("security", f"{said}: whoever listens on the way reads and writes along", remedy)]
    if encrypted and not given.check_hostname:
        remedy = "take out security.check_hostname, then see that it works: `plimsoll topics check`"
        return [warn("security", f"{said}, but any broker with a certificate of that authority is taken for ours", remedy)]
    return [ok("security", said)]


def topics(faults: Sequence[TopicFault], count: int) -> list[Finding]:
    """What differs from the table of topics; faults with one remedy are one finding."""
    if not faults:
        return [ok("topics", f"all {count} are as they must be")]
    by_remedy: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in faults:
        by_remedy[one.what, one.remedy].append(one.topic)
    return [
        fault("topics", f"{_listed(names)}: {what}", f"`{remedy}`" if remedy.startswith("kafka-") else remedy)
        for (what, remedy), names in by_remedy.items()
    ]


def partitions(states: Sequence[TopicState], min_isr: int) -> list[Finding]:
    """Partitions that cannot be written, or would not survive a disk."""
    leaderless = [f"{state.name} ({state.partitions - state.leaders})" for state in states if state.leaders < state.partitions]
    stuck = [state.name for state in states if state.in_sync < min_isr and state.leaders == state.partitions]
    behind = [state.name for state in states if min_isr <= state.in_sync < state.replication]
    single = [state.name for state in states if state.replication == 1]
    found = []
    if leaderless:
        remedy = "start the brokers that are away: `kafka-topics --describe --unavailable-partitions` names them"
        found.append(fault("partitions", f"without a leader: {_listed(leaderless)}", remedy))
    if stuck:
        remedy = "start the brokers that are away: `kafka-topics --describe --under-min-isr-partitions` names them"
        found.append(fault("partitions", f"too few replicas in sync to be written: {_listed(stuck)}", remedy))
    if behind:
        remedy = "`kafka-topics --describe --under-replicated-partitions` names the brokers"
        found.append(warn("partitions", f"replicas are behind: {_listed(behind)}", remedy))
    if single:
        remedy = "for production set replication = 3 and min_isr = 2, and give each partition its replicas: `kafka-reassign-partitions`"
        found.append(warn("partitions", f"one copy only, lost with its disk: {len(single)} of {len(states)} topics", remedy))
    return found or [ok("partitions", f"all have a leader and their replicas in sync, {len(states)} topics")]


def clocks(clocks: Clocks, *, wall_ticks: bool) -> list[Finding]:
    """Events carry the time of the machine that made them, and one from the future is refused."""
    remedy = "let this machine follow a time server: `timedatectl set-ntp true`"
    found = []
    if clocks.never_less_s > CLOCKS_APART_S:
        text = f"the broker's newest record lies {span(clocks.never_less_s)} in this machine's future"
        found.append(fault("clock", text, remedy))
    elif clocks.ours_s is None:
        text = "nothing came to `control` while it was listened to, so this machine's clock could not be held against the broker's"
        remedy = "start a worker, whose ticks tell: `plimsoll worker`"
        found.append(warn("clock", text, remedy) if wall_ticks else ok("clock", text))
    elif abs(clocks.ours_s) > CLOCKS_APART_S:
        text = f"this machine is {span(abs(clocks.ours_s))} {'ahead of' if clocks.ours_s > 0 else 'behind'} the broker"
        found.append(fault("clock", text, remedy))
    else:
        found.append(ok("clock", f"within {span(CLOCKS_APART_S)} of the broker's"))
    if clocks.ticker_s is not None and clocks.ticker_s > CLOCKS_APART_S:
        text = f"the worker that writes the ticks is {span(clocks.ticker_s)} ahead of the broker"
        found.append(fault("clock", text, "let that machine follow a time server: `timedatectl set-ntp true`"))
    return found


# ---- what is in force -----------------------------------------------------------------------------------------------------------------


def parameters(sent: RiskParameters | None, statuses: Sequence[PartitionStatus]) -> list[Finding]:
    """The last set that was sent: sound for this release, and what every partition decides by."""
    if sent is None:
        text = "none was ever sent: nothing can be valued"
        return [fault("parameters", text, "`plimsoll parameters send parameters.toml`")]
    faults = parse_parameters(sent.parameters)
    if isinstance(faults, list):
        text = f"version {sent.version}, sent last, is not in order and was refused: {_listed(faults)}"
        return [fault("parameters", text, "mend the file: `plimsoll parameters check parameters.toml`, then send it")]
    others = [f"{_name(status)} by {status.parameters or 'none'}" for status in statuses if status.parameters != sent.version]
    if others:
        text = (
            f"version {sent.version} was sent at {utc_ns(sent.time_ns)}, but these decided otherwise at their last cut: {_listed(others)}"
        )
        return [warn("parameters", text, "see whether it was refused: `plimsoll tail risk.parameters.dlq`")]
    return [ok("parameters", f"version {sent.version} of {utc_ns(sent.time_ns)}")]


def definitions(defined: Sequence[AnyDefinition], sent: RiskParameters | None) -> list[Finding]:
    """What exists; and that each asset has as many sources as its mark needs."""
    latest = {(type(one), getattr(one, "venue", ""), one.name): one for one in defined}
    counts = Counter(type(one).__name__.removesuffix("Definition").lower() for one in latest.values())
    missing = [kind for kind in ("asset", "chain", "venue", "instrument") if not counts[kind]]
    if missing:
        text = f"no {', no '.join(missing)} is defined: nothing can be held"
        return [fault("definitions", text, "send them to `market.instruments`, in the form that `plimsoll schema` prints")]
    valid = parse_parameters(sent.parameters) if sent is not None else Parameters()
    quorum = valid.quorum if isinstance(valid, Parameters) else Parameters().quorum
    poor = [
        f"{one.name} ({len(one.sources)})"
        for one in latest.values()
        if isinstance(one, AssetDefinition) and one.name != "USD" and len(one.sources) < quorum
    ]
    if poor:
        text = f"fewer sources than the quorum of {quorum}, so without a mark for ever: {_listed(poor)}"
        remedy = "define more (`plimsoll schema` prints the form), or ask for fewer: `plimsoll parameters send parameters.toml`"
        return [fault("definitions", text, remedy)]
    return [ok("definitions", ", ".join(f"{count:,} {kind}s" for kind, count in sorted(counts.items())))]


def marks(reports: Sequence[AssetReport]) -> list[Finding]:
    """Whoever holds an asset without a mark is UNKNOWN."""
    unknown = [f"{report.asset} ({report.reason})" for report in reports if report.mark_usd is None]
    if unknown:
        asset = next(report.asset for report in reports if report.mark_usd is None)
        remedy = f"see which sources still speak: `plimsoll tail oracle.prices --key {asset}`, `plimsoll tail risk.marks --key {asset}`"
        return [warn("marks", f"{len(unknown)} of {len(reports)} assets have none: {_listed(unknown)}", remedy)]
    return [ok("marks", f"{len(reports)} assets have one" if reports else "no book has told of any yet")]


def brakes(commands: Sequence[AnyCommand], statuses: Sequence[PartitionStatus]) -> list[Finding]:
    """Mode and freezes, as operators' commands that were taken leave them."""
    mode, frozen = "observe", {}
    quarantined: dict[str, SetQuarantine] = {}
    for command in commands:
        if isinstance(command, SetMode):
            mode = command.mode
        elif isinstance(command, SetFreeze) and command.frozen:
            frozen[command.scope, command.name] = command
        elif isinstance(command, SetFreeze):
            frozen.pop((command.scope, command.name), None)
        elif isinstance(command, SetQuarantine) and command.on:
            quarantined[command.chain] = command
        elif isinstance(command, SetQuarantine):
            quarantined.pop(command.chain, None)
    found = [ok("mode", mode, "to send orders: `plimsoll mode publish`" if mode == "observe" else "")]
    others = [f"{_name(status)} in {status.mode}" for status in statuses if status.mode not in {"", mode}]
    if others:
        text = f"{mode} was commanded, but at their last cut these were elsewhere: {_listed(others)}"
        found = [warn("mode", text, "see whether they move: `plimsoll tail pipeline.status`")]
    if quarantined:  # that an attestor began one is among the breakers
        said = [f"{chain} by {command.by}" for chain, command in quarantined.items()]
        chain = next(iter(quarantined))
        found.append(warn("quarantine", f"not recognised: {_listed(said)}", f"when it is over: `plimsoll quarantine {chain} --off`"))
    if not frozen:
        return [*found, ok("freezes", "none")]
    said = [f"{scope} {name} by {command.by}".replace("  ", " ") for (scope, name), command in frozen.items()]
    scope, name = next(iter(frozen))
    release = "--all" if scope == "all" else f"--{scope} {name}"
    return [
        *found,
        warn("freezes", f"orders are held back: {_listed(said)}", f"when it is over: `plimsoll unfreeze {release}`"),
    ]


def guardians(commands: Sequence[AnyCommand], defined: Sequence[AnyDefinition], used: Collection[int], now_ns: int) -> list[Finding]:
    """Guardian sets that were announced, against the chains that need one and the sets that the newest attestations name."""
    sets = GuardianSets()
    for command in commands:
        if isinstance(command, GuardianSet):
            sets.announce(command, command.time_ns)
    known = {index: expiry_ns for index, _, expiry_ns in sets.to_data()}
    attesting = sorted({one.name for one in defined if isinstance(one, ChainDefinition) and one.emitter_address != NO_EMITTER})
    announce = "`plimsoll guardians --index 5 --address 58cc3ae5c097b213ce3c81979e1b9f9570746aa5`, one --address for each guardian"
    if not known:
        if attesting:
            text = f"no set was ever announced, so nothing that {_listed(attesting)} attest is believed"
            return [fault("guardians", text, f"announce it: {announce}")]
        return [ok("guardians", "none, and no chain attests")]
    strange = sorted(index for index in used if index not in known)
    over = sorted(index for index in used if (known.get(index) or now_ns) < now_ns)
    if strange or over:
        named = [*(f"{index} (never announced)" for index in strange), *(f"{index} (ended {utc_ns(known[index] or 0)})" for index in over)]
        text = f"the newest attestations are signed by sets that do not count: {_listed(named)}"
        return [fault("guardians", text, f"announce the set in use: {announce}")]
    return [ok("guardians", f"set {max(known)} is the current one of {len(known)}")]


# ---- who works ------------------------------------------------------------------------------------------------------------------------


def owners(group: str, state: str, members: Sequence[Owner], logs: Sequence[Log]) -> list[Finding]:
    """Every partition of every log needs a worker."""
    if not members:
        return [fault("workers", f"none is in the group {group}: nothing is decided", "`plimsoll worker`")]
    owned = frozenset().union(*(member.partitions for member in members))
    free = [f"{log.machine}/{log.partition}" for log in logs if (log.topic, log.partition) not in owned]
    if free and state != "Stable":
        text = f"{len(members)} in the group {group}, which is just handing out partitions ({state})"
        return [warn("workers", text, "look again in a minute: `plimsoll doctor`")]
    if free:
        text = f"{len(members)} in the group {group}, and nobody has {_listed(free)}"
        return [fault("workers", text, "start one more: `plimsoll worker`")]
    hosts = sorted({member.host.lstrip("/") for member in members})
    return [ok("workers", f"{len(members)} share {len(logs)} partitions, from {_listed(hosts)}")]


def pipeline(statuses: Sequence[PartitionStatus], logs: Sequence[Log], now_ms: float, *, wall_ticks: bool) -> list[Finding]:
    """How each partition stood at its last cut. Where somebody else moves the clock, a partition may rest."""
    told = {(status.machine, status.partition): status for status in statuses}
    found: list[Finding] = []
    dumb = [f"{log.machine}/{log.partition}" for log in logs if (log.machine, log.partition) not in told]
    if dumb:
        found.append(fault("cuts", f"never one of {_listed(dumb)}", "see that workers run and are ready: `plimsoll worker`"))
    old = [f"{_name(one)} ({span((now_ms - one.at_ms) / 1000)}, {one.owner})" for one in statuses if now_ms - one.at_ms > CUT_OLD_S * 1000]
    if old:
        grade = Grade.FAULT if wall_ticks else Grade.WARN
        remedy = "ask the owner's page /ready why; where that process has gone, start another: `plimsoll worker`"
        found.append(Finding("cuts", grade, f"old ones of {_listed(old)}", remedy))
    lost = [
        f"{log.machine}/{log.partition} (cut at {told[log.machine, log.partition].cut_applied}, log from {log.first})"
        for log in logs
        if (log.machine, log.partition) in told and log.first is not None and log.first > told[log.machine, log.partition].cut_applied + 1
    ]
    if lost:
        remedy = "restore the log from a replica or a backup before any worker restarts; see its settings: `plimsoll topics check`"
        found.append(fault("cuts", f"the log has lost what follows the cut: {_listed(lost)}", remedy))
    fresh = [one for one in statuses if now_ms - one.at_ms <= CUT_OLD_S * 1000]
    behind = [f"{_name(one)} ({span(one.at_ms / 1000 - one.clock_ns / 1e9)})" for one in fresh if _clock_behind_s(one) > CLOCK_BEHIND_S]
    if behind and wall_ticks:
        remedy = "whoever has treasury/0 writes the ticks, ask its page /ready: `plimsoll tail pipeline.status --key treasury/0`"
        found.append(fault("cuts", f"the clock is behind in {_listed(behind)}: nothing is decided", remedy))
    late = [f"{_name(one)} ({span(one.oldest_seconds)})" for one in fresh if one.oldest_seconds > OLDEST_EVENT_S]
    if late:
        found.append(warn("cuts", f"events wait in {_listed(late)}", "start one more: `plimsoll worker`"))
    return found or [ok("cuts", f"all {len(logs)} partitions have cut in the last {span(CUT_OLD_S)}")]


def versions(statuses: Sequence[PartitionStatus]) -> list[Finding]:
    """Workers of one engine version must not be mixed with those of another."""
    there = sorted({status.engine_version for status in statuses})
    if len(there) > 1:
        text = f"engine versions {', '.join(map(str, there))} are mixed"
        remedy = "end all workers by SIGTERM, wait for code 0 of each, and start those of one release: `plimsoll worker`"
        return [fault("engine", text, remedy)]
    if there and there != [ENGINE_VERSION]:
        text = f"workers have engine version {there[0]}, this command {ENGINE_VERSION}"
        return [warn("engine", text, "use the command of their release, also for `plimsoll replay --ledger`")]
    return [ok("engine", f"version {ENGINE_VERSION}")]


def letters(counts: Mapping[tuple[str, str], int], *, since: str, whole: bool) -> list[Finding]:
    """What was refused lately, by the topic of the letters and the reason. `whole`: all of it was read, not only the newest."""
    if not counts:
        return [ok("dead letters", f"none {since}")]
    by_topic: dict[str, list[str]] = defaultdict(list)
    for (topic, reason), count in sorted(counts.items(), key=lambda item: -item[1]):
        by_topic[topic].append(f"{count:,} {reason}")
    found = []
    for topic, reasons in by_topic.items():
        grave = topic == INTERNAL_DLQ or topic.removesuffix(".dlq") in GRAVE_LETTERS
        text = f"{topic} {since}{'' if whole else ' or more'}: {_listed(reasons)}"
        remedy = f"see what was refused: `plimsoll tail {topic}`, and mend it as docs/operation.md says (Dead letters)"
        found.append(Finding("dead letters", Grade.FAULT if grave else Grade.WARN, text, remedy))
    return found


# ---- this machine ---------------------------------------------------------------------------------------------------------------------


def python(version: tuple[int, ...] = sys.version_info[:3]) -> list[Finding]:
    """Another Python compiles other kernels; the lock file is for this one."""
    said = ".".join(map(str, version))
    if version[:2] != PYTHON:
        return [fault("python", f"{said}, not 3.11", "`make PYTHON=/path/to/python3.11 setup`")]
    return [ok("python", said)]


def kernels(folder: Path, *, writable: bool, compiled: int) -> list[Finding]:
    """Where compiled kernels are kept."""
    if not writable:
        text = f"{folder} cannot be written: each start compiles for a minute"
        return [warn("kernels", text, "name a folder that can: `PLIMSOLL_CACHE_DIR=/var/cache/kernels plimsoll worker`")]
    return [ok("kernels", f"{compiled} compiled in {folder}" if compiled else f"none yet in {folder}: a first start takes a minute")]


def disk(folder: Path, free_bytes: int) -> list[Finding]:
    """A local broker that has no room left ends."""
    said = f"{free_bytes / 2**30:.1f} GiB free for the local broker in {folder}"
    if free_bytes < DISK_FREE_BYTES:
        return [fault("disk", said, f"make room, or stop it and delete its data: `plimsoll kafka stop --data-dir {folder}`")]
    return [ok("disk", said)]


def not_seen(check: str, why: str) -> Finding:
    """A check whose facts could not be had."""
    return fault(check, f"could not be looked at: {why}", "see that brokers and topics are there: `plimsoll topics check`")


def _name(status: PartitionStatus) -> str:
    return f"{status.machine}/{status.partition}"


def _clock_behind_s(status: PartitionStatus) -> float:
    return status.at_ms / 1000 - status.clock_ns / 1e9


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - NAMES_SHOWN_MAX:,} more" if len(names) > NAMES_SHOWN_MAX else ""
    return ", ".join(names[:NAMES_SHOWN_MAX]) + more
