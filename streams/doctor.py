"""Looks at a deployment from outside, and says what is wrong with it and what to do: reads only, whether workers run or not.

What it finds is judged in `streams.diagnosis`. A part that cannot be looked at is a finding, and the others are looked at all the same.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeVar

import msgspec
from aiokafka.client import AIOKafkaClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.structs import TopicPartition

from engine.effects import AssetReport
from engine.inputs import AnyCommand, AnyDefinition, Attestation, RiskParameters, Tick, VerifiedAttestation
from engine.jit import KERNEL_CACHE_FOLDER
from streams import diagnosis
from streams.broker import LocalBroker, default_folder
from streams.clients import Clients, bounds, scan
from streams.diagnosis import Answer, Clocks, Finding, Log, Owner
from streams.frames import FrameFault, decode_frame
from streams.messages import CONTROL, DeadLetter, PartitionStatus, TopicSpec
from streams.roster import load_roster
from streams.settings import Settings, kafka_client_options
from streams.topics_admin import TopicsError, check_topics, describe_topics
from streams.verify import parse_vaa

RECORDS_READ_MAX = 100_000  # the newest of a partition: definitions, commands, last values
LETTERS_READ_MAX = 10_000  # the newest of a dead-letter topic
LETTERS_S = 3600.0
TICK_WAIT_S = 3.0  # for something to come to control
ANSWER_S = 5.0  # for a broker to be reached
LOOK_S = 30.0  # for one part of it all

FETCH: Final = 1  # the number of fetch requests in the protocol

T = TypeVar("T")
_UNSEEN = (KafkaError, OSError, TopicsError)  # an OSError is also what runs out of time


async def examine(settings: Settings, specs: list[TopicSpec]) -> list[Finding]:
    """All findings, in the order in which a person would look."""
    answers = [await _answer(settings, address) for address in settings.bootstrap.split(",")]
    found = [*diagnosis.python(), *_kernels(), *_disk(settings), *diagnosis.security(settings), *diagnosis.brokers(answers)]
    if all(answer.error for answer in answers):
        return found
    return found + await Deployment(settings, specs).examine()


class Deployment:
    """The part that needs a cluster. What several checks want is read once."""

    def __init__(self, settings: Settings, specs: list[TopicSpec]) -> None:
        self._settings = settings
        self._specs = specs
        self._clients = Clients(settings)
        self._logs = [(kind.name, number, kind.log) for kind in load_roster(settings) for number in range(kind.partitions)]
        self._there: dict[str, int] = {}  # topics of ours with their partitions
        self._read: dict[str, list[Any]] = {}

    async def examine(self) -> list[Finding]:
        found: list[Finding] = []
        for check, look in self._checks().items():
            try:
                async with asyncio.timeout(LOOK_S):
                    found += await look()
            except _UNSEEN as error:
                found.append(diagnosis.not_seen(check, f"{type(error).__name__} {error}".strip()))
                if check == "partitions":
                    break  # which topics there are is not known, and whatever came next would say that they hold nothing
        return found

    def _checks(self) -> dict[str, Callable[[], Awaitable[list[Finding]]]]:
        return {
            "topics": self._topics,
            "partitions": self._partitions,
            "clock": self._clock,
            "parameters": self._parameters,
            "definitions": self._definitions,
            "marks": self._marks,
            "brakes": self._brakes,
            "guardians": self._guardians,
            "workers": self._workers,
            "cuts": self._cuts,
            "engine": self._engine,
            "dead letters": self._letters,
        }

    async def _topics(self) -> list[Finding]:
        faults = await check_topics(kafka_client_options(self._settings), self._specs, self._settings.topic_prefix)
        return diagnosis.topics(faults, len(self._specs))

    async def _partitions(self) -> list[Finding]:
        states = await describe_topics(kafka_client_options(self._settings), self._specs, self._settings.topic_prefix)
        self._there = {state.name.removeprefix(self._settings.topic_prefix): state.partitions for state in states}
        return diagnosis.partitions(states, self._settings.min_isr) if states else []

    async def _clock(self) -> list[Finding]:
        if CONTROL not in self._there:
            return []
        where = self._clients.partition(CONTROL, 0)
        async with self._clients.reading(where) as consumer:
            first, end = await bounds(consumer, where)
            newest = [record async for some in scan(consumer, where, max(first, end - 1), end) for record in some]
            fetched = await consumer.getmany(where, timeout_ms=int(TICK_WAIT_S * 1000), max_records=1) if newest else {}
            now_ms = time.time() * 1000
        wall_ticks = self._settings.ticker == "wall"
        return diagnosis.clocks(_clocks(newest, fetched.get(where, []), now_ms, wall_ticks=wall_ticks), wall_ticks=wall_ticks)

    async def _parameters(self) -> list[Finding]:
        return diagnosis.parameters(await self._sent(), await self._statuses())

    async def _definitions(self) -> list[Finding]:
        return diagnosis.definitions(await self._defined(), await self._sent())

    async def _marks(self) -> list[Finding]:
        return diagnosis.marks(await self._latest("risk.marks", AssetReport))

    async def _brakes(self) -> list[Finding]:
        return diagnosis.brakes(await self._commands(), await self._statuses())

    async def _guardians(self) -> list[Finding]:
        used = set()
        for partition in range(self._there.get("chain.attestations", 0)):
            for record in (await self._newest("chain.attestations", partition, 1))[-1:]:
                used |= _guardian_set_of(record.value)
        return diagnosis.guardians(await self._commands(), await self._defined(), used, time.time_ns())

    async def _workers(self) -> list[Finding]:
        group = f"{self._settings.topic_prefix}{self._settings.group}"
        admin = self._clients.admin()
        await admin.start()
        try:
            (answer,) = await admin.describe_consumer_groups([group])
        finally:
            await admin.close()
        (told,) = answer.to_object()["groups"]
        members = [_owner(member, self._settings.topic_prefix) for member in told["members"]]
        return diagnosis.owners(group, told["state"], members, await self._log_starts())

    async def _cuts(self) -> list[Finding]:
        wall_ticks = self._settings.ticker == "wall"
        return diagnosis.pipeline(await self._statuses(), await self._log_starts(), time.time() * 1000, wall_ticks=wall_ticks)

    async def _engine(self) -> list[Finding]:
        return diagnosis.versions(await self._statuses())

    async def _letters(self) -> list[Finding]:
        since_ms = int((time.time() - LETTERS_S) * 1000)
        counts: Counter[tuple[str, str]] = Counter()
        whole = True
        for topic in self._there:
            if topic.endswith(".dlq"):
                letters = [record for record in await self._newest(topic, 0, LETTERS_READ_MAX) if record.timestamp >= since_ms]
                whole = whole and len(letters) < LETTERS_READ_MAX
                read = _decoded((record.value for record in letters), DeadLetter)
                counts.update((topic, letter.reason.value) for letter in read)
        return diagnosis.letters(counts, since="in the last hour", whole=whole)

    # ---- what several checks want ---------------------------------------------------------------------------------------------------

    async def _sent(self) -> RiskParameters | None:
        sent = _decoded(await self._values("risk.parameters"), RiskParameters)
        return sent[-1] if sent else None

    async def _defined(self) -> list[AnyDefinition]:
        return _decoded(await self._values("market.instruments"), AnyDefinition)

    async def _commands(self) -> list[AnyCommand]:
        """Those that were not refused."""
        letters = _decoded(await self._values("operator.commands.dlq"), DeadLetter)
        refused = {letter.offset for letter in letters}
        return _decoded((record.value for record in await self._records("operator.commands") if record.offset not in refused), AnyCommand)

    async def _statuses(self) -> list[PartitionStatus]:
        return await self._latest("pipeline.status", PartitionStatus)

    async def _log_starts(self) -> list[Log]:
        """Every machine partition, with where its log begins."""
        there = [self._clients.partition(log, number) for _, number, log in self._logs if number < self._there.get(log, 0)]
        firsts: dict[TopicPartition, int] = {}
        if there:
            async with self._clients.reading(*there) as consumer:
                firsts = await consumer.beginning_offsets(there)
        return [Log(machine, number, log, firsts.get(self._clients.partition(log, number))) for machine, number, log in self._logs]

    async def _latest(self, topic: str, kind: type[T]) -> list[T]:
        """The last value of each key, by key."""
        last = {record.key: record.value for record in await self._records(topic)}
        return _decoded((last[key] for key in sorted(last)), kind)

    async def _values(self, topic: str) -> list[bytes | None]:
        return [record.value for record in await self._records(topic)]

    async def _records(self, topic: str) -> list[Any]:
        """The records of a topic of one partition, read once; none where it is missing."""
        if topic not in self._read:
            self._read[topic] = await self._newest(topic, 0, RECORDS_READ_MAX) if topic in self._there else []
        return self._read[topic]

    async def _newest(self, topic: str, partition: int, count: int) -> list[Any]:
        """Records at the last `count` offsets."""
        where = self._clients.partition(topic, partition)
        async with self._clients.reading(where) as consumer:
            first, end = await bounds(consumer, where)
            return [record async for some in scan(consumer, where, max(first, end - count), end) for record in some]


# ---- looking --------------------------------------------------------------------------------------------------------------------------


async def _answer(settings: Settings, address: str) -> Answer:
    """What one broker says when it is asked alone."""
    options = {**kafka_client_options(settings), "bootstrap_servers": address}
    client = AIOKafkaClient(**options, request_timeout_ms=int(ANSWER_S * 1000))
    try:
        await client.bootstrap()
        versions = (await client.send(client.get_random_node(), ApiVersionRequest())).to_object()["api_versions"]
        fetch = max((entry["max_version"] for entry in versions if entry["api_key"] == FETCH), default=0)
        return Answer(address, brokers=len(client.cluster.brokers()), fetch_version=fetch)
    except _UNSEEN as error:
        return Answer(address, error=str(error) or type(error).__name__)
    finally:
        await client.close()


def _clocks(newest: list[Any], fetched: list[Any], now_ms: float, *, wall_ticks: bool) -> Clocks:
    """What the newest record of control, and one that came while we listened, tell of clocks."""
    never_less_s = max((record.timestamp - now_ms) / 1000 for record in newest) if newest else 0.0
    if not fetched:
        return Clocks(None, never_less_s=never_less_s)
    came = fetched[0]
    tick_ns = _tick_ns(came.value) if wall_ticks else None
    ticker_s = None if tick_ns is None else tick_ns / 1e9 - came.timestamp / 1000
    return Clocks((now_ms - came.timestamp) / 1000, ticker_s, never_less_s)


def _tick_ns(value: bytes | None) -> int | None:
    try:
        frame = decode_frame(value or b"")
    except FrameFault:
        return None
    return frame.events[0].time_ns if isinstance(frame.events, list) and frame.events and isinstance(frame.events[0], Tick) else None


def _guardian_set_of(value: bytes | None) -> set[int]:
    """Which guardian set an attestation says it is signed by; none where it is no signed message."""
    try:
        vaa = bytes.fromhex(msgspec.json.decode(value or b"", type=Attestation).vaa)
    except (msgspec.DecodeError, ValueError):
        return set()
    signed = parse_vaa(vaa)
    return {signed.guardian_set_index} if isinstance(signed, VerifiedAttestation) else set()


def _owner(member: dict[str, Any], prefix: str) -> Owner:
    data = member["member_assignment"]
    given = ConsumerProtocolMemberAssignment.decode(data).partitions() if data else []
    return Owner(member["client_host"], frozenset((tp.topic.removeprefix(prefix), tp.partition) for tp in given))


def _decoded(values: Iterable[bytes | None], kind: Any) -> list[Any]:
    """Those that are what their topic holds: what isn't was refused, and has its letter."""
    found = []
    for value in values:
        try:
            found.append(msgspec.json.decode(value or b"", type=kind))
        except msgspec.DecodeError:
            continue
    return found


def _kernels() -> list[Finding]:
    compiled = sum(path.suffix == ".nbc" for path in KERNEL_CACHE_FOLDER.rglob("*"))
    return diagnosis.kernels(KERNEL_CACHE_FOLDER, writable=os.access(KERNEL_CACHE_FOLDER, os.W_OK), compiled=compiled)


def _disk(settings: Settings) -> list[Finding]:
    """Only where the broker is the local one."""
    folder = default_folder()
    status = LocalBroker(folder).status()
    return diagnosis.disk(folder, shutil.disk_usage(folder).free) if status is not None and status.bootstrap == settings.bootstrap else []
