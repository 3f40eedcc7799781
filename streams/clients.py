"""How Plimsoll's own Kafka clients are set up: what each of them is for decides its options."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.consumer import fetcher

from streams.messages import FRAME_BYTES_MAX, prefixed
from streams.settings import Settings, kafka_client_options

# Batches of rows stay below the broker's default limit of one message batch (1,048,588 bytes).
ROWS_BATCH_BYTES = 768 * 1024
REQUEST_BYTES_MAX = FRAME_BYTES_MAX + 128 * 1024
FETCH_BYTES_MAX = 8 * 1024 * 1024
# A partition whose records are still being worked on is left out of a fetch, and can only be asked for again once that fetch returns.
# A fetch of one partition has nobody to keep waiting.
FETCH_WAIT_MS = 50
FETCH_ALONE_WAIT_MS = 500
TRANSACTION_TIMEOUT_MS = 30_000  # after it the broker itself ends what a lost worker left open; a new owner does so at once


def _as_parsed(value: bytes | None) -> bytes | None:
    """Marks a consumer whose records are handed out as they were parsed."""
    return value


class _FetchedRecords(fetcher.PartitionRecords):
    """What one fetch brought of a partition: to wrap each record in a `ConsumerRecord` costs as much as to read it."""

    def _consumer_record(self, tp: TopicPartition, record: Any) -> Any:
        return record if self._value_deserializer is _as_parsed else super()._consumer_record(tp, record)


fetcher.PartitionRecords = _FetchedRecords  # where aiokafka's fetcher looks for it; consumers that aren't bare see no difference


class Clients:
    """Makes clients for one cluster; topic names are given without the prefix, which is put on here."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def name(self, topic: str) -> str:
        """The topic's name on the broker."""
        return prefixed(self.settings.topic_prefix, topic)

    def partition(self, topic: str, partition: int) -> TopicPartition:
        return TopicPartition(self.name(topic), partition)

    def outputs_producer(self) -> AIOKafkaProducer:
        """Orders, calls, decisions, dead letters: idempotent, at once."""
        return AIOKafkaProducer(
            enable_idempotence=True, max_batch_size=ROWS_BATCH_BYTES, max_request_size=REQUEST_BYTES_MAX, **self._common()
        )

    def frames_producer(self) -> AIOKafkaProducer:
        """Frames into logs: idempotent, never transactional, so that a log's offsets are dense."""
        return AIOKafkaProducer(
            enable_idempotence=True, max_batch_size=FRAME_BYTES_MAX, max_request_size=REQUEST_BYTES_MAX, **self._common()
        )

    def cut_producer(self, transactional_id: str) -> AIOKafkaProducer:
        """Cuts of one machine partition. Its start is the fence: the producer that had this id before can commit nothing any more."""
        return AIOKafkaProducer(
            transactional_id=transactional_id,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            max_batch_size=ROWS_BATCH_BYTES,
            max_request_size=REQUEST_BYTES_MAX,
            **self._common(),
        )

    def consumer(self, fetch_wait_ms: int = FETCH_WAIT_MS, *, bare: bool = False) -> AIOKafkaConsumer:
        """Reads what is assigned to it by hand, committed records only; an offset that is gone is an error, never a jump."""
        return AIOKafkaConsumer(
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=fetch_wait_ms,
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
            fetch_max_bytes=4 * FETCH_BYTES_MAX,
            value_deserializer=_as_parsed if bare else None,
            **self._common(),
        )

    def admin(self) -> AIOKafkaAdminClient:
        """Asks the cluster which topics there are."""
        return AIOKafkaAdminClient(**self._common())

    @asynccontextmanager
    async def reading(self, *partitions: TopicPartition, bare: bool = False) -> AsyncIterator[AIOKafkaConsumer]:
        """A started consumer with these partitions assigned; stopped at the end. `bare` records don't know their topic and partition."""
        consumer = self.consumer(FETCH_ALONE_WAIT_MS if len(partitions) == 1 else FETCH_WAIT_MS, bare=bare)
        await consumer.start()
        try:
            consumer.assign(list(partitions))
            yield consumer
        finally:
            await consumer.stop()

    def _common(self) -> dict[str, Any]:
        return {**kafka_client_options(self.settings), "request_timeout_ms": int(self.settings.request_timeout_s * 1000)}


async def scan(consumer: AIOKafkaConsumer, partition: TopicPartition, begin: int, end: int) -> AsyncIterator[list[Any]]:
    """Records with offsets in [begin, end) in lists as they come; aborted ones and markers are passed over."""
    if begin >= end:
        return
    consumer.seek(partition, begin)
    while await consumer.position(partition) < end:
        for records in (await consumer.getmany(partition, timeout_ms=200)).values():
            if records[-1].offset < end:
                yield records
            elif records[0].offset < end:
                yield [record for record in records if record.offset < end]


async def bounds(consumer: AIOKafkaConsumer, partition: TopicPartition) -> tuple[int, int]:
    """(first offset kept, end): for a consumer of committed records, the end is where no transaction is open before."""
    first = await consumer.beginning_offsets([partition])
    last = await consumer.end_offsets([partition])
    return first[partition], last[partition]
