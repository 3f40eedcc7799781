"""The `plimsoll` command as an operator types it: topics and schemas for real, and what it says when something is wrong."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from typer.testing import CliRunner, Result

from streams.broker import Cluster
from streams.command_line import FAULT, FOUND_WANTING, app
from streams.messages import json_schemas, topic_specs


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
        sent = [json.loads((await asyncio.wait_for(consumer.getone(), timeout=30)).value) for _ in commands[1:]]
    for command in sent:
        assert command.pop("time_ns") > 0
        assert command.pop("v") == 1
    assert sent[0] == {"kind": "freeze", "by": "ann", "note": "withdrawals stopped", "scope": "venue", "name": "binance", "frozen": True}
    assert (sent[1]["scope"], sent[1]["name"], sent[1]["frozen"]) == ("all", "", False)
    assert (sent[2]["kind"], sent[2]["mode"], sent[2]["by"]) == ("mode", "publish", "bob")


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
