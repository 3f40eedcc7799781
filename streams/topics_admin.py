"""Creates the topics that Plimsoll needs, and says what is wrong with those that a cluster has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from streams.messages import TopicSpec, prefixed

LEADERS_TIMEOUT_S = 30.0


class TopicsError(RuntimeError):
    """The cluster refused something, or does not get ready; the text names every topic concerned."""


@dataclass(frozen=True)
class TopicFault:
    """One thing about one topic that is not as it must be, and what to do about it. `topic` is the name on the broker."""

    topic: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.what}; {self.remedy}"


@dataclass(frozen=True)
class TopicState:
    """A topic as the cluster has it. `config` holds only the settings that were asked for."""

    name: str
    partitions: int
    replication: int
    leaders: int
    in_sync: int  # replicas in sync of the partition that has fewest
    config: Mapping[str, str]


@asynccontextmanager
async def admin_client(client_options: Mapping[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client, closed at the end."""
    admin = AIOKafkaAdminClient(**client_options)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def create_topics(client_options: Mapping[str, Any], specs: Sequence[TopicSpec], prefix: str = "") -> list[str]:
    """Create those of `specs` that are missing and wait until each of all their partitions has a leader.

    Returns the names created, on the broker. A topic that exists stays as it is: `check_topics` says whether it fits. Raises
    TopicsError with every refusal.
    """
    wanted = {prefixed(prefix, spec.name): spec for spec in specs}
    async with admin_client(client_options) as admin:
        existing = set(await admin.list_topics())
        missing = [
            NewTopic(name, spec.partitions, spec.replication, topic_configs=dict(spec.config))
            for name, spec in wanted.items()
            if name not in existing
        ]
        if missing:
            answer = (await admin.create_topics(missing)).to_object()
            errors = {error["topic"]: (for_code(error["error_code"]), error.get("error_message")) for error in answer["topic_errors"]}
            refused = [
                f"{name}: {message or kind.description}"
                for name, (kind, message) in errors.items()
                if kind.errno not in {0, TopicAlreadyExistsError.errno}  # somebody else may have been quicker
            ]
            if refused:
                raise TopicsError("The cluster refused to create topics:\n  " + "\n  ".join(refused))
        await _wait_for_leaders(admin, list(wanted))
    return [topic.name for topic in missing]


async def check_topics(client_options: Mapping[str, Any], specs: Sequence[TopicSpec], prefix: str = "") -> list[TopicFault]:
    """Everything in which the cluster's topics differ from `specs`, with what to do; empty where all fit."""
    states = {state.name: state for state in await describe_topics(client_options, specs, prefix)}
    faults: list[TopicFault] = []
    for spec in specs:
        name = prefixed(prefix, spec.name)
        state = states.get(name)
        if state is None:
            faults.append(TopicFault(name, "is missing", "run `plimsoll topics create`"))
        else:
            faults += differences(spec, state)
    return faults


async def describe_topics(client_options: Mapping[str, Any], specs: Sequence[TopicSpec], prefix: str = "") -> list[TopicState]:
    """Those of `specs` that the cluster has, in their order, as it has them."""
    wanted = {prefixed(prefix, spec.name): spec for spec in specs}
    async with admin_client(client_options) as admin:
        existing = set(await admin.list_topics())
        names = [name for name in wanted if name in existing]
        if not names:
            return []
        configs = await _configs(admin, {name: wanted[name].config for name in names})
        described = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics(names)}
        return [
            TopicState(
                name=name,
                partitions=len(described[name]),
                replication=min((len(partition["replicas"]) for partition in described[name]), default=0),
                leaders=sum(partition["leader"] >= 0 for partition in described[name]),
                in_sync=min((len(partition["isr"]) for partition in described[name]), default=0),
                config=configs[name],
            )
            for name in names
        ]


def differences(spec: TopicSpec, state: TopicState) -> list[TopicFault]:
    """In what a topic that is there differs from what it must be."""
    faults: list[TopicFault] = []
    if state.partitions != spec.partitions:
        remedy = (
            "a ledger's number never changes: set ledger_partitions or attest_partitions as the cluster has it, "
            "or take a new topic_prefix and run `plimsoll topics create`"
        )
        faults.append(TopicFault(state.name, f"has {state.partitions} partitions, not {spec.partitions}", remedy))
    if state.replication < spec.replication:
        remedy = f"give each partition {spec.replication} replicas: `kafka-reassign-partitions`"
        faults.append(TopicFault(state.name, f"has {state.replication} replicas, not {spec.replication}", remedy))
    if state.leaders < state.partitions:
        remedy = "see that all brokers run: `plimsoll doctor` says which answer"
        faults.append(TopicFault(state.name, f"has no leader for {state.partitions - state.leaders} of its partitions", remedy))
    for key, value in spec.config.items():
        if state.config.get(key) != value:
            remedy = f"kafka-configs --alter --entity-type topics --entity-name {state.name} --add-config {key}={value}"
            faults.append(TopicFault(state.name, f"has {key}={state.config.get(key, '')}, not {value}", remedy))
    return faults


async def _configs(admin: AIOKafkaAdminClient, keys: Mapping[str, Iterable[str]]) -> dict[str, dict[str, str]]:
    """Of each topic the values of its keys, defaults included."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, configs=dict.fromkeys(asked)) for name, asked in keys.items()]
    found: dict[str, dict[str, str]] = {}
    for response in await admin.describe_configs(resources):
        for resource in response.to_object()["resources"]:
            if resource["error_code"] != 0:
                raise TopicsError(f"The cluster does not show the settings of {resource['resource_name']}: {resource['error_message']}")
            found[resource["resource_name"]] = {entry["config_names"]: entry["config_value"] for entry in resource["config_entries"]}
    return found


async def _wait_for_leaders(admin: AIOKafkaAdminClient, names: list[str]) -> None:
    """A topic just created is not at once known to every broker; who writes to it too early is refused."""
    deadline = time.monotonic() + LEADERS_TIMEOUT_S
    while True:
        described = await admin.describe_topics(names)
        waiting = [topic["topic"] for topic in described if topic["error_code"] or any(p["leader"] < 0 for p in topic["partitions"])]
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise TopicsError(f"No leader within {LEADERS_TIMEOUT_S:.0f} s for {', '.join(waiting)}: see that all brokers run.")
        await asyncio.sleep(0.1)
