"""`plimsoll doctor` on a real broker: a deployment that is well, and others with the faults that it must name, each with its remedy."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner, Result

from engine.inputs import GuardianSet
from streams.broker import Cluster
from streams.clients import Clients
from streams.command_line import FAULT, FOUND_WANTING, app
from streams.messages import TopicSpec, topic_specs
from streams.settings import Settings, kafka_client_options, load_settings
from streams.topics_admin import create_topics
from tests.fault.workers import WorkerProcess
from tests.fault.workloads import BookWorkload, Sender
from tests.patience import PATIENCE_S

T = TypeVar("T")

PARTITIONS = 2
FILLS = 600
WITH_RECORDS = ("ledger", "ledger.rows", "attest.ledger", "attest.rows", "treasury.ledger", "treasury.rows", "control", "treasury.partials")

pytestmark = pytest.mark.slow


def plimsoll(settings: Settings, *arguments: str) -> Result:
    environment = {f"PLIMSOLL_{name.upper()}": str(value) for name, value in settings.model_dump(exclude_unset=True).items()}
    return CliRunner().invoke(app, list(arguments), env={**environment, "PLIMSOLL_VENUES": ",".join(settings.venues)})


def findings(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """By check; the command's exit code says whether there is a fault."""
    result = plimsoll(settings, "doctor", "--json")
    found: list[dict[str, Any]] = json.loads(result.stdout)
    assert result.exit_code == (FOUND_WANTING if any(one["grade"] == "fault" for one in found) else 0), result.output
    by_check: dict[str, list[dict[str, Any]]] = {}
    for one in found:
        by_check.setdefault(one["check"], []).append(one)
    return by_check


def faults(settings: Settings) -> dict[str, list[tuple[str, str]]]:
    """What is wrong and what to do, by check."""
    return {
        check: wrong
        for check, found in findings(settings).items()
        if (wrong := [(one["found"], one["remedy"]) for one in found if one["grade"] == "fault"])
    }


def until_faults(settings: Settings, *checks: str) -> dict[str, list[tuple[str, str]]]:
    """Look until these checks and no others find a fault."""
    return until(lambda: faults(settings), lambda found: set(found) == set(checks))


def until(look: Callable[[], T], is_so: Callable[[T], bool]) -> T:
    ends = time.monotonic() + PATIENCE_S
    while not is_so(found := look()):
        assert time.monotonic() < ends, found
    return found


def deployment(kafka: Cluster, name: str, **changes: Any) -> Settings:
    given = {"venues": "ex,sx", "ledger_partitions": PARTITIONS, "attest_partitions": 1, "session_timeout_s": 3.0, "heartbeat_s": 0.5}
    prefix = f"doctor-{os.getpid()}-{name}."
    return load_settings(environment={}, bootstrap=kafka.bootstrap, topic_prefix=prefix, metrics_port=0, **{**given, **changes})


def specs(settings: Settings) -> list[TopicSpec]:
    return topic_specs(ledger_partitions=PARTITIONS, attest_partitions=1, venues=settings.venues)


async def create(settings: Settings, wanted: list[TopicSpec]) -> None:
    await create_topics(kafka_client_options(settings), wanted, settings.topic_prefix)


@pytest.fixture(scope="module")
def well(kafka: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, WorkerProcess]]:
    """One worker, with parameters, definitions, prices, guardians, and some fills."""
    settings = deployment(kafka, "well")
    workload = BookWorkload(0)
    asyncio.run(create(settings, specs(settings)))
    asyncio.run(workload.warm())
    worker = WorkerProcess("worker", settings, workload.machines, tmp_path_factory.mktemp("doctor"))

    async def work() -> None:
        await worker.ready()
        await workload.prepare(settings)
        async with Sender(settings) as sender:
            await sender.send(GuardianSet(v=1, by="ann", index=0, addresses=["ab" * 20], time_ns=time.time_ns()))
        flow = asyncio.create_task(workload.flow(settings))
        while True:
            await asyncio.sleep(0.05)
            if workload.sent > FILLS:
                break
        workload.stop()
        await flow

    try:
        asyncio.run(work())
        yield settings, worker
    finally:
        worker.kill()


def test_of_a_deployment_that_is_well_it_says_so(well: tuple[Settings, WorkerProcess]) -> None:
    settings, _ = well
    wanting = {"partitions", "marks"}  # one broker has one copy of everything; prices have stopped, and become old
    found = until(lambda: findings(settings), lambda found: {check for check, told in found.items() if told[0]["grade"] != "ok"} <= wanting)
    assert [one["grade"] for one in found["partitions"]] == ["warn"]
    said = {check: of_check[0]["found"] for check, of_check in found.items()}
    assert said["topics"] == f"all {len(specs(settings))} are as they must be"
    assert said["clock"] == "within 2 s of the broker's"
    assert said["parameters"].startswith("version v1 of ")
    assert said["definitions"] == "4 assets, 2 chains, 18 instruments, 4 venues"
    assert (said["mode"], said["freezes"]) == ("publish", "none")
    assert said["guardians"] == "set 0 is the current one of 1"
    assert said["workers"] == "1 share 4 partitions, from 127.0.0.1"
    assert said["cuts"] == "all 4 partitions have cut in the last 30 s"
    assert said["dead letters"] == "none in the last hour"
    words = until(lambda: plimsoll(settings, "doctor"), lambda told: told.exit_code == 0)
    assert all(line.isprintable() for line in words.stdout.splitlines())
    assert "ok    workers       1 share 4 partitions" in words.stdout


@pytest.mark.parametrize("topic", [*WITH_RECORDS, "account.health", "audit.decisions", "pipeline.status", "risk.marks", "venue.fills"])
def test_what_real_workers_write_can_be_read(well: tuple[Settings, WorkerProcess], topic: str) -> None:
    settings, _ = well
    told = plimsoll(settings, "tail", topic, "--last", "300")
    assert told.exit_code == 0, told.output
    lines = told.stdout.splitlines()
    assert lines
    assert [line for line in lines if "unreadable" in line or not line.isprintable()] == []


def test_freezes_and_junk_are_named_with_their_remedies(well: tuple[Settings, WorkerProcess]) -> None:
    settings, _ = well
    assert plimsoll(settings, "freeze", "--venue", "sx", "--by", "bob").exit_code == 0

    async def send_junk() -> None:
        async with AIOKafkaProducer(**kafka_client_options(settings)) as producer:
            await producer.send_and_wait(Clients(settings).name("venue.fills"), b'{"v": 1, "lots": \x1b', b"account-1")

    asyncio.run(send_junk())
    ((text, remedy),) = until_faults(settings, "dead letters")["dead letters"]
    assert text == "venue.fills.dlq in the last hour: 1 bad_json"
    assert "`plimsoll tail venue.fills.dlq`" in remedy
    assert 'raw {"v": 1, "lots": \\x1b' in plimsoll(settings, "tail", "venue.fills.dlq").stdout
    (freeze,) = findings(settings)["freezes"]
    assert (freeze["grade"], freeze["found"]) == ("warn", "orders are held back: venue sx by bob")
    assert "`plimsoll unfreeze --venue sx`" in freeze["remedy"]


def test_a_dead_worker_is_missed(well: tuple[Settings, WorkerProcess]) -> None:
    settings, worker = well
    worker.kill()
    wrong = {"dead letters", "workers"}
    found = until(lambda: faults(settings), lambda found: wrong <= set(found) <= wrong | {"cuts"})  # which are too old some time later
    assert found["workers"] == [(f"none is in the group {settings.topic_prefix}{settings.group}: nothing is decided", "`plimsoll worker`")]
    (clock,) = findings(settings)["clock"]
    assert clock["grade"] == "warn", "nobody writes ticks any more"


def test_a_deployment_that_was_never_begun(kafka: Cluster) -> None:
    settings = deployment(kafka, "bare")
    found = until_faults(settings, "topics", "parameters", "definitions", "workers", "cuts")
    ((text, remedy),) = found["topics"]
    assert text.endswith(f" and {len(specs(settings)) - 5} more: is missing")
    assert remedy == "run `plimsoll topics create`"


def test_topics_that_are_not_as_they_must_be(kafka: Cluster) -> None:
    settings = deployment(kafka, "wrong")
    wanted = [spec for spec in specs(settings) if spec.name != "order.reports"]
    short = {"retention.ms": "60000"}
    asyncio.run(create(settings, [spec._replace(config=spec.config | short) if spec.name == "ledger" else spec for spec in wanted]))

    async def send_parameters() -> None:
        async with AIOKafkaProducer(**kafka_client_options(settings)) as producer:
            bad = {"v": 1, "version": "v9", "parameters": {"quorum": 0}, "time_ns": time.time_ns()}
            await producer.send_and_wait(Clients(settings).name("risk.parameters"), msgspec.json.encode(bad), b"main")

    asyncio.run(send_parameters())
    found = faults(settings)
    prefix = settings.topic_prefix
    assert (f"{prefix}order.reports: is missing", "run `plimsoll topics create`") in found["topics"]
    ledger = f"kafka-configs --alter --entity-type topics --entity-name {prefix}ledger --add-config retention.ms=-1"
    assert (f"{prefix}ledger: has retention.ms=60000, not -1", f"`{ledger}`") in found["topics"]
    ((text, remedy),) = found["parameters"]
    assert text.startswith("version v9, sent last, is not in order and was refused: quorum: ")
    assert "`plimsoll parameters check parameters.toml`" in remedy


def test_without_a_broker_or_settings() -> None:
    gone = load_settings(environment={}, bootstrap="127.0.0.1:1")
    ((text, remedy),) = faults(gone)["brokers"]
    assert text.startswith("127.0.0.1:1 does not answer: ")
    assert "`plimsoll kafka start`" in remedy
    assert CliRunner().invoke(app, ["doctor"], env={"PLIMSOLL_TICKER": "cuckoo"}).exit_code == FAULT


def test_a_folder_for_kernels_that_cannot_be_made_is_told() -> None:
    environment = {**os.environ, "PLIMSOLL_CACHE_DIR": "/proc/nobody/may"}
    done = subprocess.run(
        [sys.executable, "-m", "streams.command_line", "doctor"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == FAULT
    assert "name one by PLIMSOLL_CACHE_DIR" in done.stderr
    assert "Traceback" not in done.stderr
