"""Rows as they stand when every transaction on them has ended."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer

from streams.clients import Clients, bounds
from streams.settings import kafka_client_options
from streams.store import committed_rows

SETTLED_TIMEOUT_S = 40.0


async def settled_rows(clients: Clients, topic: str, partition: int) -> dict[bytes, bytes]:
    """As `committed_rows`, once no transaction is open: a broker acknowledges a commit before readers of that partition see it.

    A new owner need not wait like this: its producer's start ends what is open. For those who look after a worker has stopped.
    """
    where = clients.partition(topic, partition)
    async with asyncio.timeout(SETTLED_TIMEOUT_S), clients.reading(where) as committed:
        async with AIOKafkaConsumer(**kafka_client_options(clients.settings)) as all_records:
            while await bounds(committed, where) != await bounds(all_records, where):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return await committed_rows(clients, topic, partition)
