"""The local broker: starts, answers, keeps its data over stop and kill, ends with whoever started it, and is found by its pidfile."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams import kafka_jars
from streams.broker import PORTS, BrokerError, Cluster, LocalBroker, cluster
from tests.patience import PATIENCE_S

TOPIC = "kept"


async def create_topic(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def write(bootstrap: str, values: list[bytes]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for value in values:
            await producer.send_and_wait(TOPIC, value, partition=0)


async def read(bootstrap: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(TOPIC, 0)])
        values: list[bytes] = []
        while len(values) < count:
            batch = await asyncio.wait_for(consumer.getmany(timeout_ms=500), timeout=PATIENCE_S)
            values += [record.value for records in batch.values() for record in records]
        return values


def plimsoll(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "PLIMSOLL_BOOTSTRAP"} | environment
    command = [sys.executable, "-m", "streams.command_line", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=2 * PATIENCE_S)


async def test_data_and_address_outlast_a_stop_and_a_kill(tmp_path: Path) -> None:
    with LocalBroker(tmp_path / "a broker") as broker:
        bootstrap = broker.bootstrap
        await create_topic(bootstrap)
        await write(bootstrap, [b"before the stop"])

        assert broker.stop() is True
        assert broker.status() is None
        assert broker.stop() is False
        await asyncio.to_thread(broker.start)
        await write(bootstrap, [b"before the kill"])

        assert broker.kill() is True
        await asyncio.to_thread(broker.start)
        await write(bootstrap, [b"after it"])

        assert broker.bootstrap == bootstrap
        assert await read(bootstrap, 3) == [b"before the stop", b"before the kill", b"after it"]
    assert broker.status() is None


def test_start_stop_and_status_from_different_processes(tmp_path: Path) -> None:
    folder = ("--data-dir", str(tmp_path))
    assert plimsoll("kafka", "status", *folder).returncode == 1
    try:
        first = plimsoll("kafka", "start", *folder)
        second = plimsoll("kafka", "start", *folder)
        status = plimsoll("kafka", "status", *folder)
        running = LocalBroker(tmp_path).status()
    finally:
        stopped = plimsoll("kafka", "stop", *folder)

    assert first.returncode == second.returncode == status.returncode == stopped.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert running is not None
    assert running.version == kafka_jars.KAFKA_VERSION
    host, _, port = running.bootstrap.rpartition(":")
    assert host == "127.0.0.1"
    assert int(port) in PORTS
    assert f"Kafka {running.version} answers at {running.bootstrap} (process {running.pid}" in status.stdout
    assert not psutil.pid_exists(running.pid)
    assert plimsoll("kafka", "stop", *folder).stdout.startswith("No broker runs")


def test_the_broker_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time; from streams.broker import LocalBroker\n"
        "print(LocalBroker(pathlib.Path(sys.argv[1])).start().pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        broker = psutil.Process(int(owner.stdout.readline()))
        assert broker.is_running()
        owner.send_signal(signal.SIGKILL)
    broker.wait(timeout=PATIENCE_S)
    assert LocalBroker(tmp_path).status() is None


def test_a_pidfile_whose_number_belongs_to_somebody_else_is_not_believed(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path)
    with subprocess.Popen(["sleep", "600"]) as other:
        broker.pidfile.write_text(f'{{"pid": {other.pid}, "bootstrap": "127.0.0.1:29999", "controller_port": 29998, "version": "4.3.1"}}')
        try:
            assert broker.status() is None
            assert broker.stop() is False
            assert other.poll() is None
        finally:
            other.kill()


def test_a_paused_broker_can_be_stopped(tmp_path: Path) -> None:
    with LocalBroker(tmp_path) as broker:
        pid = broker.pid
        os.kill(pid, signal.SIGSTOP)
        assert broker.stop() is True
        assert not psutil.pid_exists(pid)


def test_a_taken_port_is_refused_with_what_to_do(kafka: Cluster, tmp_path: Path) -> None:
    if kafka.kind == "external":
        pytest.skip("an external cluster's port is not on this machine's loopback")
    port = int(kafka.bootstrap.rpartition(":")[2])
    with pytest.raises(BrokerError, match=rf"Port {port} .* taken .* ask for another port"):
        LocalBroker(tmp_path, port=port).start()


def test_bootstrap_before_the_first_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="call start"):
        _ = LocalBroker(tmp_path).bootstrap


def test_a_named_cluster_is_used_and_nothing_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLIMSOLL_BOOTSTRAP", "kafka.example:9092")
    with cluster(tmp_path) as found:
        assert found == Cluster("kafka.example:9092", "external", "unknown")
    assert list(tmp_path.iterdir()) == []
    said = plimsoll("kafka", "start", "--data-dir", str(tmp_path), PLIMSOLL_BOOTSTRAP="kafka.example:9092")
    assert "none is started" in said.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_running_broker_is_shared_and_left_running(tmp_path: Path) -> None:
    with LocalBroker(tmp_path) as broker, pytest.MonkeyPatch.context() as patch:
        patch.delenv("PLIMSOLL_BOOTSTRAP", raising=False)
        with cluster(tmp_path, fresh=True) as found:
            assert found == Cluster(broker.bootstrap, "local", kafka_jars.KAFKA_VERSION)
        assert broker.status() is not None


def test_jars_that_are_not_the_tested_ones_are_named(tmp_path: Path) -> None:
    folder = kafka_jars.jars_folder()
    sums = kafka_jars.expected_sums()
    assert kafka_jars.faults(folder, sums) == []

    (tmp_path / "good.jar").write_bytes(b"good")
    (tmp_path / "bad.jar").write_bytes(b"bad")
    (tmp_path / "new.jar").write_bytes(b"new")
    good = "770e607624d689265ca6c44884d0807d9b054d23c473c106c72be9de08b7376c"
    assert kafka_jars.faults(tmp_path, {"good.jar": good, "bad.jar": good, "gone.jar": good}) == [
        "gone.jar is missing",
        "new.jar is not known",
        "bad.jar has other contents than expected",
    ]
