"""Rows as they stand when every transaction on them has ended."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.clients import Clients, bounds
from streams.settings import kafka_client_options
from streams.store import committed_rows
from tests.patience import PATIENCE_S


async def settled_rows(clients: Clients, topic: str, partition: int) -> dict[bytes, bytes]:
    """As `committed_rows`, once no transaction is open: a broker acknowledges a commit before readers of that partition see it.

    A new owner need not wait like this: its producer's start ends what is open. For those who look after a worker has stopped.
    """
    await settled(clients, clients.partition(topic, partition))
    return await committed_rows(clients, topic, partition)


async def settled(clients: Clients, *partitions: TopicPartition) -> None:
    """Return once readers see all that was committed on these; raises TimeoutError where a transaction stays open."""
    async with (
        asyncio.timeout(PATIENCE_S),  # the broker itself ends what is left open after 30 s
        clients.reading(*partitions) as committed,
        AIOKafkaConsumer(**kafka_client_options(clients.settings)) as all_records,
    ):
        for where in partitions:
            while await bounds(committed, where) != await bounds(all_records, where):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
