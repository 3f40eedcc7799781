"""What each check makes of made-up facts; and that whatever it advises can be typed."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.effects import AssetReport
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
from streams import diagnosis
from streams.diagnosis import Answer, Clocks, Finding, Grade, Log, Owner
from streams.messages import PartitionStatus, TopicSpec
from streams.settings import Settings, load_settings
from streams.topics_admin import TopicFault, TopicState, differences
from tests import samples, small_world
from tests.given_commands import parse_command
from tests.small_world import SECOND

NOW_MS = samples.NOW_NS / 1e6
TOOLS = {"plimsoll", "kafka-topics", "kafka-configs", "kafka-reassign-partitions", "kafka-broker-api-versions", "timedatectl", "make"}
LOGS = [Log("book", 0, "ledger", 0), Log("book", 1, "ledger", 0), Log("treasury", 0, "treasury.ledger", 0)]
SENT = RiskParameters(v=1, version="v1", parameters={"quorum": 3}, time_ns=samples.NOW_NS)


def grades(findings: list[Finding]) -> list[Grade]:
    return [finding.grade for finding in findings]


def only(findings: list[Finding], grade: Grade, *said: str) -> None:
    """There is one finding, of this grade; it says all this, and a person is told what to type where something is wrong."""
    (finding,) = findings
    assert finding.grade is grade, finding
    for text in said:
        assert text in str(finding)
    if grade is not Grade.OK:
        assert_advice_can_be_typed(finding.remedy)


def assert_advice_can_be_typed(remedy: str) -> None:
    """At least one thing to type, and each of Plimsoll's own commands as it is."""
    typed = [re.sub(r"^[A-Z_]+=\S+ ", "", words) for words in re.findall(r"`([^`]+)`", remedy)]
    tools = [words.split()[0] for words in typed]
    assert {*tools} & TOOLS, f"no command in {remedy!r}"
    for words in typed:
        if words.startswith("plimsoll "):
            parse_command(words.removeprefix("plimsoll "))


def test_every_command_that_is_advised_exists() -> None:
    """Also in remedies that no test below brings about: all that stands in backticks in the texts of the checks."""
    advised = re.findall(r"`[^`\n]*?plimsoll ([^`\n]+)`", inspect.getsource(diagnosis))
    assert len(advised) > 15
    for command in advised:
        parse_command(re.sub(r"\{\w+\}", "x", command.replace("{release}", "--all")))


# ---- the cluster ----------------------------------------------------------------------------------------------------------------------


def test_brokers() -> None:
    good, gone = Answer("a:1", brokers=3, fetch_version=17), Answer("b:2", error="refused")
    only(diagnosis.brokers([good]), Grade.OK, "a:1 answers, of 3 brokers (fetch requests up to version 17)")
    only(diagnosis.brokers([gone]), Grade.FAULT, "b:2 does not answer: refused", "plimsoll kafka start")
    assert grades(diagnosis.brokers([good, gone])) == [Grade.WARN, Grade.OK]
    only(diagnosis.brokers([Answer("a:1", brokers=1, fetch_version=3)]), Grade.FAULT, "too old")


def secured(bootstrap: str = "kafka-1:9093", **security: Any) -> Settings:
    return load_settings(environment={}, bootstrap=bootstrap, security=security)


def test_security_is_told_without_a_secret() -> None:
    given = {"username": "ann", "password": "hunter2"}
    only(diagnosis.security(secured(protocol="SASL_SSL", **given)), Grade.OK, "SASL_SSL as ann by SCRAM-SHA-512")
    only(diagnosis.security(secured("127.0.0.1:9092,localhost:9093")), Grade.OK, "PLAINTEXT")
    only(diagnosis.security(secured("127.0.0.1:9092,kafka-1:9092")), Grade.WARN, "whoever listens")
    only(diagnosis.security(secured(protocol="SSL", check_hostname=False)), Grade.WARN, "taken for ours")
    every = [secured(protocol="SASL_PLAINTEXT", **given), secured(protocol="SASL_SSL", check_hostname=False, **given)]
    assert not [found for settings in every for found in diagnosis.security(settings) if "hunter2" in str(found)]


def test_topics_with_the_same_fault_are_one_finding() -> None:
    create = "run `plimsoll topics create`"
    faults = [TopicFault(f"t{number}", "is missing", create) for number in range(7)]
    only(diagnosis.topics(faults, 9), Grade.FAULT, "t0, t1, t2, t3, t4 and 2 more: is missing", create)
    retention = TopicFault("ledger", "has retention.ms=1, not -1", "kafka-configs --alter --add-config retention.ms=-1")
    only(diagnosis.topics([retention], 9), Grade.FAULT, "ledger: has retention.ms=1", "`kafka-configs --alter")
    only(diagnosis.topics([], 9), Grade.OK, "all 9")


def test_whatever_differs_in_a_topic_has_a_command() -> None:
    spec = TopicSpec("ledger", 4, 3, {"cleanup.policy": "delete"})
    state = TopicState(name="ledger", partitions=2, replication=1, leaders=1, in_sync=1, config={"cleanup.policy": "compact"})
    found = diagnosis.topics(differences(spec, state), 9)
    assert len(found) == 4
    for finding in found:
        only([finding], Grade.FAULT, "ledger: has ")


def test_partitions() -> None:
    def state(**changes: int) -> TopicState:
        values = {"partitions": 4, "replication": 3, "leaders": 4, "in_sync": 3} | changes
        return TopicState(name="ledger", config={}, **values)

    only(diagnosis.partitions([state()], 2), Grade.OK)
    only(diagnosis.partitions([state(leaders=3)], 2), Grade.FAULT, "without a leader: ledger (1)")
    only(diagnosis.partitions([state(in_sync=1)], 2), Grade.FAULT, "too few replicas in sync to be written: ledger")
    only(diagnosis.partitions([state(in_sync=2)], 2), Grade.WARN, "replicas are behind: ledger")
    only(diagnosis.partitions([state(replication=1, in_sync=1)], 1), Grade.WARN, "one copy only", "1 of 1 topics")


def test_clocks() -> None:
    def told(clocks: Clocks, *, wall_ticks: bool = True) -> list[Finding]:
        return diagnosis.clocks(clocks, wall_ticks=wall_ticks)

    only(told(Clocks(0.3, 0.1)), Grade.OK)
    only(told(Clocks(7.0)), Grade.FAULT, "this machine is 7 s ahead of the broker")
    only(told(Clocks(-7.0)), Grade.FAULT, "this machine is 7 s behind the broker")
    only(told(Clocks(None, never_less_s=9.0)), Grade.FAULT, "9 s in this machine's future")
    only(told(Clocks(None)), Grade.WARN, "could not be held against")
    only(told(Clocks(None), wall_ticks=False), Grade.OK, "could not be held against")
    found = told(Clocks(0.0, 4.0))
    assert grades(found) == [Grade.OK, Grade.FAULT]
    assert "writes the ticks is 4 s ahead" in found[1].found


# ---- what is in force -----------------------------------------------------------------------------------------------------------------


def status(machine: str = "book", partition: int = 0, **changes: Any) -> PartitionStatus:
    values = {"machine": machine, "partition": partition, "parameters": "v1", "mode": "observe" if machine == "book" else ""}
    return msgspec.structs.replace(samples.STATUS, **values | changes)


STATUSES = [status(), status(partition=1), status("treasury")]


def test_parameters() -> None:
    only(diagnosis.parameters(SENT, STATUSES), Grade.OK, "version v1 of 2025-10-10 21:00:00.000 UTC")
    only(diagnosis.parameters(None, STATUSES), Grade.FAULT, "nothing can be valued")
    bad = msgspec.structs.replace(SENT, parameters={"quorum": 0, "quorums": 1})
    only(diagnosis.parameters(bad, STATUSES), Grade.FAULT, "v1, sent last, is not in order", "quorum: ", "quorums: ")
    only(diagnosis.parameters(SENT, [*STATUSES, status(partition=2, parameters="v0")]), Grade.WARN, "book/2 by v0")


def test_definitions() -> None:
    def asset(name: str, sources: int) -> AssetDefinition:
        return AssetDefinition(
            v=1, name=name, asset_class="major", sources={f"s{number}": 1.0 for number in range(sources)}, time_ns=samples.NOW_NS
        )

    defined: list[AnyDefinition] = list(small_world.definitions())
    only(diagnosis.definitions(defined, SENT), Grade.OK, "4 assets, 2 chains, 18 instruments, 4 venues")
    only(diagnosis.definitions([], SENT), Grade.FAULT, "no asset, no chain, no venue, no instrument is defined", "plimsoll schema")
    poor = diagnosis.definitions([*defined, asset("DOGE", 2), AssetDefinition(v=1, name="USD", asset_class="cash", time_ns=1)], SENT)
    only(poor, Grade.FAULT, "the quorum of 3", ": DOGE (2)")
    only(diagnosis.definitions([*defined, asset("DOGE", 2), asset("DOGE", 3)], SENT), Grade.OK, "5 assets")
    only(diagnosis.definitions([*defined, asset("DOGE", 1)], None), Grade.FAULT, "the quorum of 2")


def test_marks() -> None:
    known: AssetReport = samples.ASSET_REPORT
    unknown = msgspec.structs.replace(known, asset="BTC", mark_usd=None, reason="stale_mark")
    only(diagnosis.marks([known]), Grade.OK, "1 assets have one")
    only(diagnosis.marks([known, unknown]), Grade.WARN, "1 of 2 assets have none: BTC (stale_mark)", "--key BTC")
    only(diagnosis.marks([]), Grade.OK, "no book has told of any yet")


def freeze(scope: Any, name: str = "", *, frozen: bool = True) -> SetFreeze:
    return SetFreeze(v=1, by="ann", scope=scope, name=name, frozen=frozen, time_ns=samples.NOW_NS)


PUBLISH = SetMode(v=1, by="ann", mode="publish", time_ns=samples.NOW_NS)


@pytest.mark.parametrize(
    ("commands", "mode", "freezes", "said"),
    [
        ([], "observe", Grade.OK, "none"),
        ([PUBLISH, freeze("all"), freeze("all", frozen=False)], "publish", Grade.OK, "none"),
        ([freeze("venue", "moon")], "observe", Grade.WARN, "venue moon by ann"),
        ([freeze("all"), freeze("account", "a1", frozen=False)], "observe", Grade.WARN, "all by ann"),
    ],
)
def test_mode_and_freezes_are_what_commands_left(commands: list[AnyCommand], mode: str, freezes: Grade, said: str) -> None:
    of_mode, *of_freezes = diagnosis.brakes(commands, [status(mode=mode), status("treasury")])
    assert (of_mode.grade, of_mode.found) == (Grade.OK, mode)
    only(of_freezes, freezes, said)


def quarantine(chain: str, *, on: bool = True) -> SetQuarantine:
    return SetQuarantine(v=1, by="ann", chain=chain, on=on, time_ns=samples.NOW_NS)


def test_a_quarantine_that_was_commanded_is_told_until_it_is_ended() -> None:
    _, told, freezes = diagnosis.brakes([quarantine("north"), quarantine("south"), quarantine("south", on=False)], [])
    only([told], Grade.WARN, "not recognised: north by ann", "plimsoll quarantine north --off")
    assert freezes.grade == Grade.OK
    assert [one.check for one in diagnosis.brakes([quarantine("north"), quarantine("north", on=False)], [])] == ["mode", "freezes"]


def test_a_book_in_another_mode_than_commanded_is_named() -> None:
    found, _ = diagnosis.brakes([PUBLISH], [status(mode="publish"), status(partition=1)])
    only([found], Grade.WARN, "publish was commanded", "book/1 in observe")


def test_guardians() -> None:
    def announced(index: int, ends_ns: int = 0) -> GuardianSet:
        return GuardianSet(
            v=1, by="ann", index=index, addresses=[f"{index + 1:02x}" * 20], previous_expires_ns=ends_ns, time_ns=samples.NOW_NS
        )

    quiet: list[AnyDefinition] = [one for one in small_world.definitions() if not isinstance(one, ChainDefinition)]
    attesting: list[AnyDefinition] = list(small_world.definitions())
    now = samples.NOW_NS + SECOND
    only(diagnosis.guardians([], quiet, set(), now), Grade.OK, "none, and no chain attests")
    only(diagnosis.guardians([], attesting, set(), now), Grade.FAULT, "nothing that north, south attest is believed", "plimsoll guardians")
    only(diagnosis.guardians([announced(4)], attesting, {4}, now), Grade.OK, "set 4 is the current one of 1")
    only(diagnosis.guardians([announced(4)], attesting, {5}, now), Grade.FAULT, "5 (never announced)")
    only(diagnosis.guardians([announced(4), announced(5)], attesting, {4, 5}, now), Grade.OK, "set 5")
    ended = [announced(4), announced(5, samples.NOW_NS)]
    only(diagnosis.guardians(ended, attesting, {4}, now), Grade.FAULT, "4 (ended 2025-10-10 21:00:00.000 UTC)")


# ---- who works ------------------------------------------------------------------------------------------------------------------------


def test_workers() -> None:
    def owner(*partitions: tuple[str, int]) -> Owner:
        return Owner("/10.0.0.1", frozenset(partitions))

    both = [owner(("ledger", 0), ("ledger.rows", 0)), owner(("ledger", 1), ("treasury.ledger", 0))]
    only(diagnosis.owners("g", "Stable", both, LOGS), Grade.OK, "2 share 3 partitions, from 10.0.0.1")
    only(diagnosis.owners("g", "Stable", both[:1], LOGS), Grade.FAULT, "nobody has book/1, treasury/0")
    only(diagnosis.owners("g", "CompletingRebalance", [owner()], LOGS), Grade.WARN, "just handing out partitions")
    only(diagnosis.owners("g", "Empty", [], LOGS), Grade.FAULT, "none is in the group g", "`plimsoll worker`")


def judged(statuses: list[PartitionStatus], logs: list[Log] = LOGS, *, wall_ticks: bool = True, now_ms: float = NOW_MS) -> list[Finding]:
    return diagnosis.pipeline(statuses, logs, now_ms, wall_ticks=wall_ticks)


def test_cuts() -> None:
    only(judged(STATUSES), Grade.OK, "all 3 partitions have cut in the last 30 s")
    only(judged(STATUSES[:2]), Grade.FAULT, "never one of treasury/0")
    only(judged(STATUSES, now_ms=NOW_MS + 300_000), Grade.FAULT, "old ones of book/0 (5 min, host:4711)")
    only(judged(STATUSES, now_ms=NOW_MS + 300_000, wall_ticks=False), Grade.WARN, "old ones of")
    only(judged(STATUSES, [*LOGS[:2], Log("treasury", 0, "treasury.ledger", 122)]), Grade.FAULT, "treasury/0 (cut at 120, log from 122)")
    only(judged(STATUSES, [*LOGS[:2], Log("treasury", 0, "treasury.ledger", 121)]), Grade.OK)
    behind = status("treasury", clock_ns=samples.NOW_NS - 9 * SECOND)
    only(judged([*STATUSES[:2], behind]), Grade.FAULT, "the clock is behind in treasury/0 (9 s)")
    only(judged([*STATUSES[:2], behind], wall_ticks=False), Grade.OK)
    only(judged([*STATUSES[:2], status("treasury", oldest_seconds=8.0)]), Grade.WARN, "events wait in treasury/0 (8 s)")


def test_engine_versions() -> None:
    only(diagnosis.versions(STATUSES), Grade.OK, f"version {ENGINE_VERSION}")
    other = status("treasury", engine_version=ENGINE_VERSION + 1)
    only(diagnosis.versions([*STATUSES[:2], other]), Grade.FAULT, "are mixed")
    only(diagnosis.versions([other]), Grade.WARN, f"this command {ENGINE_VERSION}")


def test_letters() -> None:
    def told(counts: dict[tuple[str, str], int], *, whole: bool = True) -> list[Finding]:
        return diagnosis.letters(counts, since="in the last hour", whole=whole)

    only(told({}), Grade.OK, "none in the last hour")
    prices = {("oracle.prices.dlq", "bad_json"): 3, ("oracle.prices.dlq", "future_time"): 2_000}
    only(told(prices), Grade.WARN, "oracle.prices.dlq in the last hour: 2,000 future_time, 3 bad_json", "plimsoll tail oracle.prices.dlq")
    only(told({("venue.fills.dlq", "not_a_lot"): 1}, whole=False), Grade.FAULT, "in the last hour or more: 1 not_a_lot")
    only(told({("internal.dlq", "overflow"): 1}), Grade.FAULT)
    assert grades(told({**prices, ("venue.fills.dlq", "not_a_lot"): 1})) == [Grade.WARN, Grade.FAULT]


# ---- this machine ---------------------------------------------------------------------------------------------------------------------


def test_this_machine() -> None:
    only(diagnosis.python(), Grade.OK, "3.11.")
    only(diagnosis.python((3, 12, 1)), Grade.FAULT, "3.12.1, not 3.11")
    only(diagnosis.kernels(Path("/cache"), writable=True, compiled=104), Grade.OK, "104 compiled in /cache")
    only(diagnosis.kernels(Path("/cache"), writable=True, compiled=0), Grade.OK, "a first start takes a minute")
    only(diagnosis.kernels(Path("/cache"), writable=False, compiled=104), Grade.WARN, "PLIMSOLL_CACHE_DIR=")
    only(diagnosis.disk(Path("/data"), 3 * 2**30), Grade.OK, "3.0 GiB free")
    only(diagnosis.disk(Path("/data"), 2**30), Grade.FAULT, "1.0 GiB free", "plimsoll kafka stop --data-dir /data")


def test_what_could_not_be_looked_at_is_a_fault() -> None:
    only([diagnosis.not_seen("clock", "TimeoutError")], Grade.FAULT, "could not be looked at: TimeoutError")


def test_what_topics_hold_cannot_steer_a_terminal() -> None:
    finding = diagnosis.fault("mode", "by \x1b[2J", "type \x07")
    assert all(line.isprintable() for line in str(finding).splitlines())
