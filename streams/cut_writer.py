"""What a partition's cuts are written with: one transactional producer, whose start fences whoever had its id before."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced

from streams.clients import ROWS_BATCH_BYTES, Clients
from streams.messages import LastValue, encode_effect, partition_of

log = logging.getLogger(__name__)

STOP_PRODUCER_S = 5.0
REPORTS_TOPIC_S = 0.5  # that a cut waits to learn whether a topic of reports is there
REPORTS_AGAIN_S = 30.0
FENCE_S = 60.0  # twice what a broker lets a transaction stay open; then it is tried again, and said

Rows = Iterable[tuple[bytes, bytes | None]]
Encoded = tuple[str, bytes, bytes]  # topic without prefix, key, value


class RecordTooLarge(Exception):
    """A cut holds a record that no batch can take; the text says what to do."""


class CutWriter:
    """Writes the rows of one partition, and last values with them. `start()` is the fence; `stop()` may come at any time."""

    def __init__(self, clients: Clients, rows_topic: str, partition: int, transactional_id: str) -> None:
        self._clients = clients
        self._rows_topic = clients.name(rows_topic)
        self._partition = partition
        self._transactional_id = transactional_id
        self._producer: AIOKafkaProducer | None = None
        self._ask_again: dict[str, float] = {}  # topics of reports that were not there, and when to look again

    async def start(self) -> None:
        """From here on the producer that had this id before commits nothing any more. Raises TimeoutError after `FENCE_S`."""
        producer = self._clients.cut_producer(self._transactional_id)
        try:
            await asyncio.wait_for(producer.start(), FENCE_S)
        except BaseException:
            await producer.stop()
            raise
        self._producer = producer

    async def commit(self, rows: Rows, last_values: Iterable[LastValue] = (), reports: Sequence[Encoded] = ()) -> None:
        """All in one transaction. Every delivery is awaited: aiokafka commits what is left of a transaction with a lost batch.

        `reports` are for those who look: they are left out while their topic is missing, since no cut may wait for them.
        """
        producer = self._producer
        assert producer is not None, "a cut without a producer"
        there = {topic for topic in dict.fromkeys(topic for topic, _, _ in reports) if await self._is_there(producer, topic)}
        told = [*map(encode_effect, last_values), *(report for report in reports if report[0] in there)]
        others = await self._by_partition(producer, told)
        await producer.begin_transaction()
        deliveries = await self._send(producer, self._rows_topic, self._partition, rows)
        for (topic, partition), records in others.items():
            deliveries += await self._send(producer, topic, partition, records)
        for delivery in deliveries:
            await delivery
        await producer.commit_transaction()

    async def stop(self) -> None:
        """Let go of the producer; whatever transaction it has open, the next owner's fence ends."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                await asyncio.wait_for(producer.stop(), STOP_PRODUCER_S)
            except (KafkaError, TimeoutError) as error:
                log.debug("%s did not stop in order: %r", self._transactional_id, error)

    async def _is_there(self, producer: AIOKafkaProducer, topic: str) -> bool:
        if time.monotonic() < self._ask_again.get(topic, 0.0):
            return False
        try:
            await asyncio.wait_for(producer.partitions_for(self._clients.name(topic)), REPORTS_TOPIC_S)
        except (KafkaError, TimeoutError):
            self._ask_again[topic] = time.monotonic() + REPORTS_AGAIN_S
            log.warning("topic %s is missing, so nothing is told there: plimsoll topics create", self._clients.name(topic))
            return False
        return True

    async def _by_partition(
        self, producer: AIOKafkaProducer, told: Iterable[Encoded]
    ) -> dict[tuple[str, int], list[tuple[bytes, bytes | None]]]:
        counts: dict[str, int] = {}
        found: dict[tuple[str, int], list[tuple[bytes, bytes | None]]] = {}
        for topic, key, value in told:
            name = self._clients.name(topic)
            if name not in counts:
                counts[name] = len(await producer.partitions_for(name))
            found.setdefault((name, partition_of(key, counts[name])), []).append((key, value))
        return found

    async def _send(self, producer: AIOKafkaProducer, topic: str, partition: int, records: Rows) -> list[asyncio.Future[object]]:
        """In batches made here: a fifth of the cost of sending record by record. A record beyond a batch's size is one of its own."""
        deliveries: list[asyncio.Future[object]] = []
        batch = producer.create_batch()
        for key, value in records:
            if batch.append(key=key, value=value, timestamp=None) is None:
                deliveries.append(await producer.send_batch(batch, topic, partition=partition))
                await asyncio.sleep(0)
                batch = producer.create_batch()
                if batch.append(key=key, value=value, timestamp=None) is None:
                    raise RecordTooLarge(
                        f"{key!r} for {topic} takes {len(value or b'')} bytes, and a batch ROWS_BATCH_BYTES = {ROWS_BATCH_BYTES}. "
                        f"Nothing of this cut was committed: raise ROWS_BATCH_BYTES, and the topic's max.message.bytes above it"
                    )
        if batch.record_count():
            deliveries.append(await producer.send_batch(batch, topic, partition=partition))
        return deliveries


def is_fenced(error: BaseException | None) -> bool:
    """Whether a cut failed because another producer has started with our transactional id."""
    while error is not None:
        if isinstance(error, ProducerFenced | InvalidProducerEpoch):
            return True
        error = error.__cause__
    return False
