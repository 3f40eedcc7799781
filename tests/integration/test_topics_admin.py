"""Topics on a real cluster: created as specified, left alone when there, and every difference told with its remedy."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from streams.broker import Cluster
from streams.messages import TopicSpec, topic_specs
from streams.settings import kafka_client_options, load_settings
from streams.topics_admin import TopicsError, check_topics, create_topics, describe_topics

LOG_APPEND_TIME = 1


@pytest.fixture
def options(kafka: Cluster) -> dict[str, object]:
    return kafka_client_options(load_settings(environment={}, bootstrap=kafka.bootstrap))


async def test_all_topics_are_created_once_and_fit(options: dict[str, object], topic_prefix: str) -> None:
    specs = topic_specs(ledger_partitions=3, attest_partitions=2, venues=["binance", "hyperliquid"])
    names = [topic_prefix + spec.name for spec in specs]

    assert len(await check_topics(options, specs, topic_prefix)) == len(specs)
    assert await create_topics(options, specs, topic_prefix) == names
    assert await create_topics(options, specs, topic_prefix) == []
    assert await check_topics(options, specs, topic_prefix) == []

    states = {state.name: state for state in await describe_topics(options, specs, topic_prefix)}
    assert list(states) == names
    assert {name: state.partitions for name, state in states.items()} == {topic_prefix + spec.name: spec.partitions for spec in specs}
    assert {state.config["message.timestamp.type"] for state in states.values()} == {"LogAppendTime"}
    assert states[topic_prefix + "ledger"].partitions == 3
    assert states[topic_prefix + "account.health"].config["cleanup.policy"] == "compact"


async def test_records_stamped_long_ago_get_the_brokers_time(options: dict[str, object], topic_prefix: str) -> None:
    specs = topic_specs(ledger_partitions=1, attest_partitions=1, venues=[])
    await create_topics(options, specs, topic_prefix)
    topic, october_2025_ms = topic_prefix + "venue.fills", 1_760_130_000_000
    async with AIOKafkaProducer(**options) as producer:
        written = await producer.send_and_wait(topic, b"fill", timestamp_ms=october_2025_ms)
    async with AIOKafkaConsumer(topic, auto_offset_reset="earliest", **options) as consumer:
        read = await consumer.getone()
    assert read.timestamp_type == LOG_APPEND_TIME
    assert read.timestamp == written.timestamp > october_2025_ms + 24 * 3600 * 1000


async def test_every_difference_is_told_at_once_with_what_to_do(options: dict[str, object], topic_prefix: str) -> None:
    await create_topics(options, [TopicSpec("a", 2, 1, {"cleanup.policy": "compact"})], topic_prefix)  # waits until it is known
    config = {"message.timestamp.type": "LogAppendTime", "cleanup.policy": "delete"}
    specs = [TopicSpec("a", 3, 2, config), TopicSpec("b", 1, 1, config)]

    faults = await check_topics(options, specs, topic_prefix)

    name = topic_prefix + "a"
    assert [(fault.topic.removeprefix(topic_prefix), fault.what) for fault in faults] == [
        ("a", "has 2 partitions, not 3"),
        ("a", "has 1 replicas, not 2"),
        ("a", "has message.timestamp.type=CreateTime, not LogAppendTime"),
        ("a", "has cleanup.policy=compact, not delete"),
        ("b", "is missing"),
    ]
    assert (
        faults[2].remedy
        == f"kafka-configs --alter --entity-type topics --entity-name {name} --add-config message.timestamp.type=LogAppendTime"
    )
    assert faults[4].remedy == "run `plimsoll topics create`"


async def test_refusals_name_every_topic(options: dict[str, object], topic_prefix: str) -> None:
    specs = [TopicSpec("a", 1, 1, {"cleanup.policy": "sometimes"}), TopicSpec("b", 0, 1, {}), TopicSpec("c", 1, 1, {})]
    with pytest.raises(TopicsError) as caught:
        await create_topics(options, specs, topic_prefix)
    assert f"{topic_prefix}a: " in str(caught.value)
    assert f"{topic_prefix}b: " in str(caught.value)
    assert f"{topic_prefix}c: " not in str(caught.value)
