"""Faust as the shell of machines: the app with the settings it needs, the driver bent where it must be, the group seen from the shell.

Read docs/adr before changing a setting here: each of them stands against a fault that was reproduced.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import faust
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.clients import FETCH_BYTES_MAX, FETCH_WAIT_MS
from streams.messages import prefixed
from streams.outbox import read_source_time
from streams.roster import Roster
from streams.settings import Settings, faust_broker_options
from streams.shell import Key, Shell
from streams.store import RowsTable

log = logging.getLogger(__name__)

STREAM_BUFFER_FRAMES = 1_024  # when full, Faust's fetcher sleeps for a second
COMMIT_INTERVAL_S = 1.0
NEVER_S = 1e9  # for Faust's own complaints about streams without traffic

Hook = Callable[[], Awaitable[None]]


class LogConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer, with the fetch wait it hard-codes (1.5 s) put right, and kept from fetching rows."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 - Faust offers no setting; read when the consumer starts
        return consumer

    async def _seek_wait(self, consumer: Any, partitions: Mapping[TP, int]) -> None:
        """Faust seeks here for its recovery alone. Rows topics need none: they are paused, or every fetch would bring them along."""
        rows = self.app.tables.changelog_topics
        consumer.pause(*(TopicPartition(*tp) for tp in partitions if tp.topic in rows))
        logs = {tp: offset for tp, offset in partitions.items() if tp.topic not in rows}
        if logs:
            await super()._seek_wait(consumer, logs)


class LogConsumer(driver.Consumer):
    """Logs are dense, so a hole in what Faust has seen is a seek on its way, not a hole: it may never count as acknowledged."""

    def _new_consumer_thread(self) -> LogConsumerThread:
        return LogConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        pass


class LogTransport(driver.Transport):
    Consumer = LogConsumer


class FaustGroup:
    """The consumer group, as the shell wants it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.app: App | None = None

    async def seek(self, topic: str, partition: int, applied: int) -> None:
        consumer = self._consumer()
        tp = TP(prefixed(self._settings.topic_prefix, topic), partition)
        committed = consumer._committed_offset[tp]  # noqa: SLF001 - where Faust's acknowledgements go on from
        offset = applied + 1 if committed is None else min(committed, applied + 1)
        log.debug("seek %s/%d to %d (applied %d, committed %s)", topic, partition, offset, applied, committed)
        await consumer.seek_wait({tp: offset})

    def log_end(self, topic: str, partition: int) -> tuple[int, float] | None:
        consumer = self._consumer()._thread._consumer  # noqa: SLF001 - the state of a fetch is told nowhere else
        where = TopicPartition(prefixed(self._settings.topic_prefix, topic), partition)
        try:
            end, heard_ms = consumer.highwater(where), consumer.last_poll_timestamp(where)
        except (KafkaError, AttributeError, AssertionError):  # the consumer's thread is between two assignments
            return None
        return (end, heard_ms / 1000) if end is not None and heard_ms is not None else None

    async def rejoin(self) -> None:
        thread = self._consumer()._thread  # noqa: SLF001 - only there is the coordinator to be had
        await thread.call_thread(thread._ensure_consumer()._coordinator.request_rejoin)  # noqa: SLF001

    def _consumer(self) -> Any:
        assert self.app is not None, "the app comes first"
        return self.app.consumer


class App(faust.App):
    """A Faust app whose agents hand each record of a log to its machine partition."""

    def __init__(self, settings: Settings, shell: Shell, opened: Hook, closed: Hook) -> None:
        self.shell = shell
        self._opened = opened
        self._closed = closed
        super().__init__(
            f"{settings.topic_prefix}{settings.group}",
            **faust_broker_options(settings),
            canonical_url=f"http://{uuid.uuid4().hex}:1",  # only has to differ from other workers': requests are not routed
            web_enabled=False,  # it would show tables to anybody; metrics and health have their own pages
            store="memory://",
            table_standby_replicas=0,  # rows go through our own readers, and tables keep Faust's assignor
            topic_allow_declare=False,
            topic_disable_leader=True,
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=FETCH_BYTES_MAX,
            stream_wait_empty=False,
            stream_buffer_maxsize=STREAM_BUFFER_FRAMES,
            stream_recovery_delay=0.0,
            stream_processing_timeout=NEVER_S,
            recovery_consistency_check=False,
            broker_commit_interval=COMMIT_INTERVAL_S,
            broker_commit_livelock_soft_timeout=NEVER_S,
            broker_session_timeout=settings.session_timeout_s,
            broker_heartbeat_interval=settings.heartbeat_s,
            broker_rebalance_timeout=max(60.0, settings.session_timeout_s),
            broker_request_timeout=max(settings.request_timeout_s, settings.session_timeout_s),
            worker_redirect_stdouts=False,
        )

    def _new_transport(self) -> LogTransport:
        return LogTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """None: nothing is kept on disk."""

    async def on_start(self) -> None:
        await self._opened()
        await super().on_start()

    async def on_stop(self) -> None:
        """A clean stop seals the cuts while the partitions are still ours."""
        await self.shell.seal()
        await super().on_stop()
        await self.shell.close()
        await self._closed()


def make_app(settings: Settings, roster: Roster, shell: Shell, opened: Hook, closed: Hook) -> App:
    """The app with an agent for each log and a table for each rows topic; `opened` is awaited before all else, `closed` after it."""
    app = App(settings, shell, opened, closed)
    logs = {prefixed(settings.topic_prefix, kind.log): kind.log for kind in roster}

    async def on_assigned(assigned: set[Any], generation: int) -> None:
        owned: set[Key] = {(logs[tp.topic], tp.partition) for tp in assigned if tp.topic in logs}
        log.info("generation %d", generation)
        shell.assign(owned)

    for index, kind in enumerate(roster):
        rows = prefixed(settings.topic_prefix, kind.rows)
        # Each rebalance calls every table; one of them is enough to tell.
        app.tables.add(
            RowsTable(app, name=kind.rows, rows_topic=rows, partitions=kind.partitions, on_assigned=on_assigned if index == 0 else None)
        )
        topic = app.topic(
            prefixed(settings.topic_prefix, kind.log), key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
        )
        app.agent(topic, name=kind.name)(_agent(shell, kind.log))
    return app


def _agent(shell: Shell, log_name: str) -> Callable[[Any], Awaitable[None]]:
    async def apply_log(stream: Any) -> None:
        """Hand each record to its machine. An unexpected error ends the worker: Faust would acknowledge the record and go on."""
        async for event in stream.noack().events():
            message = event.message
            life = shell.life(log_name, message.partition)
            if life is None:
                continue
            try:
                if await life.deliver_carefully(message.offset, message.value, read_source_time(message.headers), event.ack):
                    await asyncio.sleep(0)  # cuts, feeders and heartbeats have their turn
                    await life.room()
            except Exception as error:  # noqa: BLE001 - see above
                shell.crash(error, f"{life!r} failed at record {message.offset}")

    return apply_log
