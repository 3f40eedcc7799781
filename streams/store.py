"""Rows: how a machine's committed rows are read in bulk, and the Faust table that shows them.

Faust's own recovery is kept away from rows: it never ends on a topic written in transactions (the last offset is a marker that no reader
is handed). So the table's store says that it has everything already, and the machines load their rows themselves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import faust
from faust.stores.memory import Store

from streams import verdicts
from streams.clients import Clients, bounds, scan

# Beyond any offset, so that Faust finds nothing to recover, however far the topic's end moves between two looks at it.
RECOVERED = 2**60

OnAssigned = Callable[[set[Any], int], Awaitable[None]]


async def committed_rows(clients: Clients, topic: str, partition: int, *, shell_rows: bool = False) -> dict[bytes, bytes]:
    """Last values of every key, tombstones left out, up to the last committed transaction at the time of the call.

    `shell_rows` adds those that are not the machine's (streams.verdicts).
    """
    rows: dict[bytes, bytes] = {}
    where = clients.partition(topic, partition)
    async with clients.reading(where) as consumer:
        begin, end = await bounds(consumer, where)
        async for records in scan(consumer, where, begin, end):
            for record in records:
                if record.value is None:
                    rows.pop(record.key, None)
                else:
                    rows[record.key] = record.value
    return rows if shell_rows else {key: value for key, value in rows.items() if not key.startswith(verdicts.PREFIX)}


class RowsStore(Store):
    """The store of a rows table: holds nothing (a row exists once, in its machine's arrays) and tells the shell of each assignment."""

    def __init__(self, *args: Any, on_assigned: OnAssigned | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._on_assigned = on_assigned

    def persisted_offset(self, tp: Any) -> int:  # noqa: ARG002 - Faust's signature
        return RECOVERED

    async def on_rebalance(self, assigned: set[Any], revoked: set[Any], newly_assigned: set[Any], generation_id: int = 0) -> None:  # noqa: ARG002
        """Called inside the assignment callback, where aiokafka sends no heartbeats: loads are started here, never awaited."""
        if self._on_assigned is not None:
            await self._on_assigned(assigned, generation_id)

    def apply_changelog_batch(self, batch: Iterable[Any], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]) -> None:
        """Nothing: rows come from their machine, not from the topic."""


class RowsTable(faust.Table):
    """A table whose changelog is a rows topic; `on_assigned(assigned, generation)` is called after each rebalance."""

    def __init__(self, app: faust.App, *, name: str, rows_topic: str, partitions: int, on_assigned: OnAssigned | None = None) -> None:
        changelog = app.topic(rows_topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
        super().__init__(app, name=name, partitions=partitions, key_type=bytes, value_type=bytes, changelog_topic=changelog)
        self._on_assigned = on_assigned

    def _new_store(self) -> RowsStore:
        return RowsStore("memory://", self.app, self, table_name=self.name, loop=self.loop, on_assigned=self._on_assigned)
