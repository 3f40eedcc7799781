"""The `plimsoll` command as an operator types it: topics and schemas for real, and what it says when something is wrong."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer
from typer.testing import CliRunner, Result

from engine.attestor import Attestor
from engine.effects import Decision, Effects
from engine.inputs import Frame, FrameKind, Tick
from engine.machine import CUT_KEY, CutRecord, Machine
from engine.monitor import Book
from streams.broker import Cluster
from streams.clients import Clients, bounds, scan
from streams.command_line import FAULT, FOUND_WANTING, app
from streams.ingest import frame_batch
from streams.messages import json_schemas, topic_specs, topic_table
from streams.settings import load_settings
from tests.patience import PATIENCE_S

GUARDIANS = ["58cc3ae5c097b213ce3c81979e1b9f9570746aa5", "0xFF6CB952589BDE862C25EF4392132FB9D4A42157"]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLIMSOLL_SETTINGS", raising=False)


def plimsoll(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", **environment})


def test_topics_are_created_checked_and_listed(kafka: Cluster, topic_prefix: str, tmp_path: Path) -> None:
    settings = tmp_path / "plimsoll.toml"
    settings.write_text(f'topic_prefix = "{topic_prefix}"\nvenues = ["binance"]\nledger_partitions = 2\n')
    count = len(topic_specs(ledger_partitions=2, attest_partitions=2, venues=["binance"]))
    environment = {"PLIMSOLL_BOOTSTRAP": kafka.bootstrap}

    before = plimsoll("topics", "check", "--settings", str(settings), **environment)
    assert before.exit_code == FOUND_WANTING
    assert before.output.count("is missing; run `plimsoll topics create`") == count

    created = plimsoll("topics", "create", "--settings", str(settings), **environment)
    assert created.exit_code == 0, created.output
    assert f"created {topic_prefix}orders.binance" in created.output
    assert f"{count} topics created.\nAll {count} topics are as they must be." in created.output
    assert "0 topics created." in plimsoll("topics", "create", "--settings", str(settings), **environment).output

    other = plimsoll("topics", "check", "--settings", str(settings), PLIMSOLL_LEDGER_PARTITIONS="3", **environment)
    assert other.exit_code == FOUND_WANTING
    assert f"{topic_prefix}ledger: has 2 partitions, not 3" in other.output

    listed = plimsoll("topics", "list", "--settings", str(settings), **environment)
    assert listed.exit_code == 0
    rows = [line.split("│") for line in listed.output.splitlines() if topic_prefix in line]
    assert len(rows) == count
    assert {row[-2].strip() for row in rows} == {"yes"}


def test_topics_are_listed_as_the_documents_have_them_without_a_cluster() -> None:
    assert plimsoll("topics", "list", "--markdown", PLIMSOLL_BOOTSTRAP="127.0.0.1:1").output == topic_table()


def test_schemas_go_to_a_folder_or_to_standard_output(tmp_path: Path) -> None:
    schemas = json_schemas()
    assert json.loads(plimsoll("schema").output) == schemas
    assert plimsoll("schema", "--out", str(tmp_path / "schema")).exit_code == 0
    assert {path.stem: json.loads(path.read_text()) for path in (tmp_path / "schema").iterdir()} == schemas


def test_wrong_settings_are_told_and_nothing_is_run() -> None:
    result = plimsoll("worker", PLIMSOLL_TICKER="cuckoo", PLIMSOLL_LEDGER_PARTITIONS="none")
    assert result.exit_code == FAULT
    assert "ticker: Input should be 'wall' or 'external'" in result.output
    assert "ledger_partitions: Input should be a valid integer" in result.output


def test_a_cluster_that_does_not_answer_is_a_fault_with_its_name() -> None:
    result = plimsoll("topics", "check", PLIMSOLL_BOOTSTRAP="127.0.0.1:1")
    assert result.exit_code == FAULT
    assert "127.0.0.1:1" in result.output


async def test_brakes_are_sent_with_who_and_why(kafka: Cluster, topic_prefix: str) -> None:
    environment = {"PLIMSOLL_BOOTSTRAP": kafka.bootstrap, "PLIMSOLL_TOPIC_PREFIX": topic_prefix}
    commands = [
        ("topics", "create"),
        ("freeze", "--venue", "binance", "--by", "ann", "--note", "withdrawals stopped"),
        ("unfreeze", "--all", "--by", "ann"),
        ("mode", "publish", "--by", "bob"),
    ]
    for command in commands:
        result = await asyncio.to_thread(plimsoll, *command, **environment)
        assert result.exit_code == 0, result.output
    consumer = AIOKafkaConsumer(f"{topic_prefix}operator.commands", bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    async with consumer:
        sent = [json.loads((await asyncio.wait_for(consumer.getone(), timeout=PATIENCE_S)).value) for _ in commands[1:]]
    for command in sent:
        assert command.pop("time_ns") > 0
        assert command.pop("v") == 1
    assert sent[0] == {"kind": "freeze", "by": "ann", "note": "withdrawals stopped", "scope": "venue", "name": "binance", "frozen": True}
    assert (sent[1]["scope"], sent[1]["name"], sent[1]["frozen"]) == ("all", "", False)
    assert (sent[2]["kind"], sent[2]["mode"], sent[2]["by"]) == ("mode", "publish", "bob")


async def test_what_an_operator_says_is_taken_by_the_machines(kafka: Cluster, topic_prefix: str, tmp_path: Path) -> None:
    """From the command over the broker through ingest to a book, which audits brakes, and to an attestor, which keeps guardians."""
    parameters = tmp_path / "parameters.toml"
    parameters.write_text('version = "careful-1"\nquorum = 3\n[classes.alt]\nbase_haircut = 0.2\n')
    environment = {"PLIMSOLL_BOOTSTRAP": kafka.bootstrap, "PLIMSOLL_TOPIC_PREFIX": topic_prefix}
    addresses = [word for address in GUARDIANS for word in ("--address", address)]
    commands = [
        ("topics", "create"),
        ("mode", "publish", "--by", "ann", "--note", "watched for a week"),
        ("freeze", "--account", "acc-1", "--by", "bob"),
        ("unfreeze", "--account", "acc-1", "--by", "bob"),
        ("guardians", "--index", "4", *addresses, "--previous-expires", "2025-11-01T00:00:00Z", "--by", "eve", "--note", "a lost key"),
        ("parameters", "send", str(parameters)),
    ]
    for command in commands:
        result = await asyncio.to_thread(plimsoll, *command, **environment)
        assert result.exit_code == 0, result.output

    clients = Clients(load_settings(environment={}, bootstrap=kafka.bootstrap, topic_prefix=topic_prefix))
    said = [await framed(clients, topic) for topic in ("operator.commands", "risk.parameters")]
    commands_in, parameters_in = (list(frame.events) for frame in said)
    announced: Any = commands_in[3]
    assert (announced.by, announced.note, announced.previous_expires_ns) == ("eve", "a lost key", 1_761_955_200_000_000_000)
    in_force: Any = parameters_in[0]
    assert in_force.parameters == {"quorum": 3, "classes": {"alt": {"base_haircut": 0.2}}}
    tick = Frame(FrameKind.TICK, "ticker", 0, 0, in_force.time_ns, [Tick(in_force.time_ns)], [in_force.time_ns])

    decisions = [effect for effects in applied(Book(0, 1), said[:1]) for effect in effects.now]
    assert [(d.outcome, d.account, d.note) for d in decisions if isinstance(d, Decision)] == [
        ("mode", "", "partition 0: publish, by ann: watched for a week"),
        ("freeze", "acc-1", "partition 0: account, by bob: "),
        ("unfreeze", "acc-1", "partition 0: account, by bob: "),
    ]
    attestor = Attestor(0, 1)
    told = [effect for effects in applied(attestor, [tick, *said]) for effect in effects.now]
    assert [(d.outcome, "by eve" in d.note) for d in told if isinstance(d, Decision)] == [("guardian_set", True)]
    assert len(told) == 1
    rows = dict(attestor.take_cut().rows)
    record = rows[CUT_KEY]
    assert record is not None
    assert msgspec.msgpack.decode(record, type=CutRecord).parameters_version == "careful-1"
    assert all(any(bytes.fromhex(address[-40:]) in (row or b"") for row in rows.values()) for address in GUARDIANS)


async def framed(clients: Clients, topic: str) -> Frame:
    """What a topic of one partition holds, as ingest frames it; nothing may be refused."""
    where = clients.partition(topic, 0)
    async with clients.reading(where) as consumer:
        records: list[Any] = [record async for some in scan(consumer, where, *await bounds(consumer, where)) for record in some]
    batch = frame_batch(topic, records, -1, partitions=1)
    assert batch.letters == []
    return batch.frames[0]


def applied(machine: Machine, frames: list[Frame]) -> list[Effects]:
    """The effects of frames of control, as copied into a machine's log."""
    return [
        machine.apply(offset, Frame(FrameKind.CONTROL, "control", 0, offset - 1, offset, [frame], [offset]))
        for offset, frame in enumerate(frames)
    ]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--address", "58cc"), "Expected `str` matching regex"),
        (("--address", "0" * 40), "none of them zero"),
        (("--address", GUARDIANS[0], "--address", f"0x{GUARDIANS[0]}"), "different addresses"),
        ((), "Missing option '--address'"),
    ],
)
def test_guardians_that_no_machine_would_take_are_not_sent(arguments: tuple[str, ...], why: str) -> None:
    result = plimsoll("guardians", "--index", "4", *arguments, PLIMSOLL_BOOTSTRAP="127.0.0.1:1")
    assert result.exit_code == FAULT
    assert why in result.output


def test_parameters_with_a_fault_are_not_sent(tmp_path: Path) -> None:
    file = tmp_path / "parameters.toml"
    file.write_text('quorum = 0\nquorums = 2\nend_factor = "x"\n[classes.alt]\nbase_haircut = nan\n[classes.meme]\n')
    result = plimsoll("parameters", "send", str(file), PLIMSOLL_BOOTSTRAP="127.0.0.1:1")
    assert result.exit_code == FOUND_WANTING
    for fault in ("version: ", "quorum: ", "quorums: ", "end_factor: ", "classes.alt.base_haircut: ", "classes.meme"):
        assert f"\n  {fault}" in result.output
    file.write_text('version = "v2"\nend_factor = 1.4\ninitial_factor = 1.3\n')
    assert "end_factor is above initial_factor" in plimsoll("parameters", "send", str(file)).output
    assert plimsoll("parameters", "send", str(tmp_path / "none.toml")).exit_code == FOUND_WANTING
    file.write_text("version =")
    assert "is not TOML" in plimsoll("parameters", "send", str(file)).output


@pytest.mark.parametrize("arguments", [(), ("--all", "--venue", "binance"), ("--account", "a", "--venue", "binance")])
def test_a_freeze_of_nothing_or_of_two_things_is_refused(arguments: tuple[str, ...]) -> None:
    result = plimsoll("freeze", *arguments)
    assert result.exit_code == FAULT
    assert "say for what, once: --account NAME, --venue NAME, or --all" in result.output


def test_replay_wants_to_know_what() -> None:
    assert plimsoll("replay").exit_code == FAULT


def test_a_part_that_cannot_be_imported_does_not_break_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "streams.worker", None)  # importing it now raises ImportError
    assert isinstance(plimsoll("worker").exception, ImportError)
    assert plimsoll("schema").exit_code == 0
    assert plimsoll("--help").exit_code == 0
