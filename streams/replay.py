"""A run put to the test: its ledgers, applied again offline by the engine alone, must give the orders and the cuts that it published.

Workers may go on meanwhile. The ends of the orders topics are taken first, those of each log after the rows of its cuts: so what was
published below the former was decided below the latter, and what a cut covers was published.

A machine's log is its only input, so whatever workers did (were killed, paused, fenced, moved about), there is one right answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition
from msgspec import Struct

from engine.effects import Order
from engine.machine import CUT_KEY, CutRecord, DigestMismatch, Machine
from streams import verdicts
from streams.clients import Clients, bounds, scan
from streams.frames import FrameFault, decode_frame
from streams.messages import encode_effect, orders_topic, partition_of
from streams.roster import PRODUCT, MachineKind, load_roster
from streams.settings import Settings, kafka_client_options

DIFFERENCES_MAX = 100  # kept with their text; the rest are only counted
LOOK_AGAIN_S = 5.0  # for orders that a cut covers and that were not there when the orders topics' ends were taken
LOOK_PAUSE_S = 0.5
RESTORED_CUTS_MAX = 25  # of each partition, spread evenly, are also loaded into a new machine, as a recovery would


class ReplayReport(Struct, kw_only=True):
    """What a replay found. `differences` is empty for a run that kept its word; `difference_count` counts also those not kept here."""

    orders: int = 0  # that the ledgers ask for
    published: int = 0  # records on the orders topics
    distinct: int = 0  # order ids among them
    repeated: int = 0  # order ids published more than once
    conflicting: int = 0  # order ids published with two contents
    differences: list[str] = []
    difference_count: int = 0
    cuts_checked: int = 0
    cuts_restored: int = 0
    frames: int = 0
    set_aside: int = 0  # frames that a verdict has left out
    events: int = 0
    seconds: float = 0.0

    def differ(self, text: str) -> None:
        self.difference_count += 1
        if len(self.differences) < DIFFERENCES_MAX:
            self.differences.append(text)


_Ends = dict[TopicPartition, int]


class _Decided(Struct):
    """An order that a log asks for: no more than is needed, since a run may have millions."""

    digest: bytes
    log: str
    offset: int
    is_due: bool  # a committed cut covers it, so it must have been published
    seen: bytes | None = None  # digest of the first record that was published under its id

    @property
    def where(self) -> str:
        return f"{self.log} record {self.offset}"


class _Orders:
    """What the logs ask for."""

    def __init__(self) -> None:
        self.by_id: dict[str, _Decided] = {}
        self.broken: set[tuple[str, int]] = set()  # logs, and their partitions, that could not be replayed to their ends


class _Cut(Struct, frozen=True):
    record: CutRecord
    rows_upto: int  # how many rows of the topic are committed with it or before


async def replay_ledger(
    settings: Settings, *, machines: str = PRODUCT, partition: int | None = None, all_cuts_restored: bool = False
) -> ReplayReport:
    """Replay every log of the run that `settings` names (topics and prefix), or one `partition` of the books' ledger.

    Checks that each order the logs ask for was published with the same bytes, if a committed cut covers it; that nothing else was
    published; and that every committed cut's digest is the machine's at that place of its log. `all_cuts_restored` also loads each cut's
    rows into a new machine, instead of some of them. Reads only, and workers may be running.
    """
    started = time.monotonic()
    report = ReplayReport()
    clients = Clients(settings)
    decided = _Orders()
    ends = await _orders_ends(clients)
    for kind in load_roster(settings, machines):
        if partition is not None and kind.log != "ledger":
            continue
        for number in range(kind.partitions) if partition is None else [partition]:
            rows = await _committed(clients, kind.rows, number)
            restored = len(rows) if all_cuts_restored else RESTORED_CUTS_MAX
            await _replay_log(clients, kind, number, rows, restored, decided, report)
    await _compare(clients, ends, decided, partition, report)
    report.seconds = time.monotonic() - started
    return report


async def _committed(clients: Clients, topic: str, partition: int) -> list[tuple[bytes, bytes | None]]:
    """Every committed record of a rows topic that compaction has left."""
    rows: list[tuple[bytes, bytes | None]] = []
    where = clients.partition(topic, partition)
    async with clients.reading(where) as consumer:
        async for records in scan(consumer, where, *await bounds(consumer, where)):
            rows += [(record.key, record.value) for record in records]
    return rows


async def _replay_log(
    clients: Clients,
    kind: MachineKind,
    partition: int,
    rows: list[tuple[bytes, bytes | None]],
    restored: int,
    decided: _Orders,
    report: ReplayReport,
) -> None:
    aside = verdicts.verdicts(rows)
    rows = [(key, value) for key, value in rows if not key.startswith(verdicts.PREFIX)]
    cuts = _cuts(rows)
    by_applied: dict[int, list[_Cut]] = {}
    for cut in cuts:
        by_applied.setdefault(cut.record.applied, []).append(cut)
    last_cut = cuts[-1].record.applied if cuts else -1
    for earlier, later in pairwise(cuts):
        if later.record.applied < earlier.record.applied:
            text = f"the cut at {later.record.applied} was committed after the one at {earlier.record.applied}"
            report.differ(f"{kind.name}[{partition}]: {text}: by somebody who did not own it any more")
    machine = kind.make(partition)
    name = f"{kind.name}[{partition}]"
    _check_cuts(name, machine, by_applied.pop(-1, []), report)
    where = clients.partition(kind.log, partition)
    async with clients.reading(where) as consumer:
        first, end = await bounds(consumer, where)
        if first > 0:
            report.differ(f"{name}: its log begins at {first}, not 0: what came before cannot be replayed")
            decided.broken.add((kind.log, partition))
            return
        async for records in scan(consumer, where, 0, end):
            for record in records:
                if not _apply(name, machine, record, aside.get(record.offset, 0), last_cut, decided, report):
                    decided.broken.add((kind.log, partition))
                    return
                _check_cuts(name, machine, by_applied.pop(record.offset, []), report)
    for applied in sorted(by_applied):
        report.differ(f"{name}: a cut at {applied}, but its log ends at {machine.applied}")
    _restore_cuts(name, kind, partition, rows, cuts, restored, report)


def _apply(name: str, machine: Machine, record: Any, verdicts_on_it: int, last_cut: int, decided: _Orders, report: ReplayReport) -> bool:
    if record.offset != machine.applied + 1:
        report.differ(f"{name}: record {record.offset} follows {machine.applied}: the log has a hole")
        return False
    try:
        frame = decode_frame(record.value)
    except FrameFault as fault:
        report.differ(f"{name}: record {record.offset} is unusable: {fault}")
        return False
    if verdicts_on_it:
        frame = verdicts.set_aside(frame, verdicts_on_it)
        report.set_aside += 1
    report.frames += 1
    report.events += len(frame.events) if isinstance(frame.events, list) else len(frame.events.rows)
    for effect in machine.apply(record.offset, frame).now:
        if isinstance(effect, Order):
            report.orders += 1
            _, _, value = encode_effect(effect)
            earlier = decided.by_id.get(effect.order_id)
            if earlier is not None:
                report.differ(f"{name}: order {effect.order_id} is decided at {effect.ledger} and at {earlier.where}: one id, two orders")
            decided.by_id[effect.order_id] = _Decided(_digest(value), name, record.offset, record.offset <= last_cut)
    return True


# ---- cuts -----------------------------------------------------------------------------------------------------------------------------


def _cuts(rows: list[tuple[bytes, bytes | None]]) -> list[_Cut]:
    decode = msgspec.msgpack.Decoder(CutRecord).decode
    return [_Cut(decode(value), index + 1) for index, (key, value) in enumerate(rows) if key == CUT_KEY and value is not None]


def _check_cuts(name: str, machine: Machine, committed: list[_Cut], report: ReplayReport) -> None:
    """The replayed machine's own cut here must say the same as those committed; two of one place (one was a proof, say) are as good."""
    if not committed:
        return
    key, value = machine.take_cut().rows[-1]
    assert key == CUT_KEY, "a cut's last row is its record"
    assert value is not None
    ours = msgspec.structs.replace(msgspec.msgpack.decode(value, type=CutRecord), sealed=False)
    for cut in committed:
        theirs = msgspec.structs.replace(cut.record, sealed=False)
        report.cuts_checked += 1
        if ours != theirs:
            fields = [field for field in CutRecord.__struct_fields__ if getattr(ours, field) != getattr(theirs, field)]
            report.differ(f"{name}: the cut at {theirs.applied} is not the state of its log there: {', '.join(fields)} differ")


def _restore_cuts(
    name: str, kind: MachineKind, partition: int, rows: list[tuple[bytes, bytes | None]], cuts: list[_Cut], most: int, report: ReplayReport
) -> None:
    """Load committed rows as they stood after some cuts, as a recovery would have; a machine checks the digest itself."""
    chosen = _spread(len(cuts), most)
    last: dict[bytes, bytes] = {}
    done = 0
    for index in chosen:
        cut = cuts[index]
        for key, value in rows[done : cut.rows_upto]:
            if value is None:
                last.pop(key, None)
            else:
                last[key] = value
        done = cut.rows_upto
        try:
            kind.make(partition).restore(list(last.items()))
        except DigestMismatch as error:
            report.differ(f"{name}: the rows committed up to the cut at {cut.record.applied} cannot be loaded: {error}")
        report.cuts_restored += 1


def _spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` indices, evenly, the last one always."""
    if count <= most:
        return list(range(count))
    return sorted({count - 1 - (index * count) // most for index in range(most)})


# ---- orders ---------------------------------------------------------------------------------------------------------------------------


class _Named(Struct):
    """As much of an order as is needed to know it."""

    order_id: str
    account: str


class _Comparison:
    """Orders published, held against those decided."""

    def __init__(self, decided: _Orders, partitions: int, only: int | None, report: ReplayReport) -> None:
        self._decided = decided
        self._partitions = partitions
        self._only = only
        self._report = report
        self._strangers: dict[str, bytes] = {}  # ids that no log asks for, with a digest
        self._repeated: set[str] = set()
        self._conflicting: set[str] = set()

    def see(self, value: bytes) -> None:
        """A record that was published before the logs' ends were taken: some log must ask for it."""
        order = msgspec.json.decode(value, type=_Named)
        if not self._counts(order):
            return
        asked, digest = self._decided.by_id.get(order.order_id), _digest(value)
        earlier = self._strangers.get(order.order_id) if asked is None else asked.seen
        self._report.published += 1
        if earlier is not None:
            self._repeated.add(order.order_id)
            if earlier != digest:
                self._conflicting.add(order.order_id)
                self._report.differ(f"order {order.order_id} was published with two contents, one of them {value.decode()}")
        elif asked is None:
            self._strangers[order.order_id] = digest
            if ("ledger", self._home(order)) not in self._decided.broken:  # else it may have been decided beyond what was replayed
                self._report.differ(f"order {order.order_id} was published, but no log asks for it: {value.decode()}")
        else:
            self._first(order.order_id, asked, digest, value)

    def see_late(self, value: bytes) -> None:
        """A record published later: what counts is only whether it is one of those that were missing."""
        order = msgspec.json.decode(value, type=_Named)
        asked = self._decided.by_id.get(order.order_id)
        if asked is not None and asked.is_due and asked.seen is None and self._counts(order):
            self._report.published += 1
            self._first(order.order_id, asked, _digest(value), value)

    def missing(self) -> list[str]:
        """Ids of orders that must have been published, and were not seen."""
        return [order_id for order_id, asked in self._decided.by_id.items() if asked.is_due and asked.seen is None]

    def end(self) -> None:
        """Say what is missing, and sum up."""
        for order_id in self.missing():
            self._report.differ(f"order {order_id} of {self._decided.by_id[order_id].where} was never published")
        seen = sum(asked.seen is not None for asked in self._decided.by_id.values())
        self._report.distinct = seen + len(self._strangers)
        self._report.repeated = len(self._repeated)
        self._report.conflicting = len(self._conflicting)

    def _home(self, order: _Named) -> int:
        return partition_of(order.account.encode(), self._partitions)

    def _counts(self, order: _Named) -> bool:
        return self._only is None or self._home(order) == self._only

    def _first(self, order_id: str, asked: _Decided, digest: bytes, value: bytes) -> None:
        asked.seen = digest
        if digest != asked.digest:
            self._report.differ(f"order {order_id} was published as {value.decode()}, which is not what {asked.where} asks for")


async def _compare(clients: Clients, ends: _Ends, decided: _Orders, only: int | None, report: ReplayReport) -> None:
    """`ends` are those of the orders topics before the logs' ends were taken: what is below was decided in what was replayed."""
    comparison = _Comparison(decided, clients.settings.ledger_partitions, only, report)
    for where, end in ends.items():
        async for value in _values(clients, where, 0, end):
            comparison.see(value)
    deadline = time.monotonic() + LOOK_AGAIN_S
    while comparison.missing():
        newest = await _orders_ends(clients)
        for where, end in newest.items():
            async for value in _values(clients, where, ends.get(where, 0), end):
                comparison.see_late(value)
        if time.monotonic() > deadline:
            break
        ends = newest
        await asyncio.sleep(LOOK_PAUSE_S)
    comparison.end()


async def _values(clients: Clients, where: TopicPartition, begin: int, end: int) -> AsyncIterator[bytes]:
    """Values of a partition's records in [begin, end), as far as they are kept."""
    if begin >= end:
        return
    async with clients.reading(where) as consumer:
        first, _ = await bounds(consumer, where)
        async for records in scan(consumer, where, max(first, begin), end):
            for record in records:
                yield record.value


async def _orders_ends(clients: Clients) -> _Ends:
    """The ends of all partitions of all orders topics of this run, whatever venues the settings of this process happen to name."""
    admin = AIOKafkaAdminClient(**kafka_client_options(clients.settings))
    await admin.start()
    try:
        prefix = clients.name(orders_topic(""))
        names = sorted(name for name in await admin.list_topics() if name.startswith(prefix) and not name.endswith(".dlq"))
        described = await admin.describe_topics(names) if names else []
    finally:
        await admin.close()
    partitions = [TopicPartition(topic["topic"], number) for topic in described for number in range(len(topic["partitions"]))]
    if not partitions:
        return {}
    async with clients.reading(*partitions) as consumer:
        ends = await consumer.end_offsets(partitions)
    return {where: ends[where] for where in partitions}


def _digest(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=16).digest()
