"""A machine small enough to see through: sums fills by account, and orders whenever a sum passes a multiple of `STEP_LOTS`.

It keeps every rule that the shell relies on (offsets, gaps, digest, cuts that hold what changed), so that the shell can be tested alone.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable

import msgspec

from engine.effects import Effects, Order
from engine.inputs import Fills, Frame, FrameKind, Partial, Tick
from engine.machine import CUT_KEY, ENGINE_VERSION, Cut, CutRecord, DigestMismatch
from streams.roster import MachineKind
from streams.settings import Settings

STEP_LOTS = 1_000
SLOW_LOAD_S = 9.0
POISON_LOTS = 666_666
POISONED = 66
BUSY_LOTS = 77
BUSY_S = 0.02  # short, or the process would not come to answer who scrapes it
COUNTED = (FrameKind.FILLS, FrameKind.SNAPSHOTS, FrameKind.REPORTS)  # frames with a source whose offsets are counted without a gap


class Toy:
    """See the module's text; `engine.machine.Machine`."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self._applied = -1
        self._clock_ns = 0
        self._sources: dict[tuple[str, int], int] = {}
        self._accounts: dict[str, tuple[int, int, int]] = {}  # account -> lots, fills, orders
        self._changed: set[str] = set()
        self._written: dict[bytes, int] = {}  # row -> its hash
        self._digest = 0

    @property
    def applied(self) -> int:
        return self._applied

    @property
    def clock_ns(self) -> int:
        return self._clock_ns

    def source_applied(self, source: str, partition: int) -> int:
        return self._sources.get((source, partition), -1)

    def apply(self, offset: int, frame: Frame) -> Effects:
        assert offset == self._applied + 1, (offset, self._applied)
        self._applied = offset
        effects = Effects(now=[], sends=[])
        if frame.kind is FrameKind.CONTROL:
            if self._admits(frame, effects, counted=True):
                assert isinstance(frame.events, list)
                self._take(offset, frame.events[0], effects)
        else:
            self._take(offset, frame, effects)
        return effects

    def take_cut(self, sealed: bool = False) -> Cut:
        rows: list[tuple[bytes, bytes | None]] = []
        for account in sorted(self._changed):
            key, value = account.encode(), msgspec.msgpack.encode(self._accounts[account])
            self._digest += _hash(key, value) - self._written.get(key, 0)
            self._written[key] = _hash(key, value)
            rows.append((key, value))
        self._changed.clear()
        record = CutRecord(
            engine_version=ENGINE_VERSION,
            applied=self._applied,
            clock_ns=self._clock_ns,
            parameters_version="",
            digest=(self._digest % 2**128).to_bytes(16, "little"),
            rows=len(self._written),
            sealed=sealed,
            sources=[(source, partition, last) for (source, partition), last in sorted(self._sources.items())],
        )
        rows.append((CUT_KEY, msgspec.msgpack.encode(record)))
        partial = Partial(self.partition, self._applied, self._clock_ns, {}, 0, [len(self._accounts), 0, 0, 0, 0])
        return Cut(applied=self._applied, rows=rows, health=[], breakers=[], partials=[partial])

    def restore(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        held = dict(rows)
        record = msgspec.msgpack.decode(held.pop(CUT_KEY), type=CutRecord)
        self._written = {key: _hash(key, value) for key, value in held.items()}
        self._digest = sum(self._written.values())
        if (self._digest % 2**128).to_bytes(16, "little") != record.digest or len(held) != record.rows:
            raise DigestMismatch(f"partition {self.partition}: {len(held)} rows do not add up to the digest of {record.rows}")
        self._accounts = {key.decode(): tuple(msgspec.msgpack.decode(value)) for key, value in held.items()}
        self._applied, self._clock_ns = record.applied, record.clock_ns
        self._sources = {(source, partition): last for source, partition, last in record.sources}

    def totals(self) -> dict[str, int]:
        """Lots by account."""
        return {account: lots for account, (lots, _, _) in self._accounts.items()}

    def _admits(self, frame: Frame, effects: Effects, *, counted: bool) -> bool:
        """Whether anything in the frame is new; moves the source on."""
        source = (frame.source, frame.source_partition)
        last = self._sources.get(source, -1)
        if counted and frame.covers_from > last:
            effects.gap = True
            return False
        if frame.covers_to <= last:
            effects.skipped += 1
            return False
        self._sources[source] = frame.covers_to
        return True

    def _take(self, offset: int, frame: Frame, effects: Effects) -> None:
        last = self.source_applied(frame.source, frame.source_partition)
        if not self._admits(frame, effects, counted=frame.kind in COUNTED):
            return
        if frame.kind is FrameKind.TICK:
            for tick in frame.events:  # none where the frame was set aside
                assert isinstance(tick, Tick)
                self._clock_ns = max(self._clock_ns, tick.time_ns)
        elif isinstance(frame.events, Fills):
            for index, row in enumerate(frame.events.rows):
                if int(row["offset"]) > last:
                    self._fill(frame.events, index, offset, effects)
                else:
                    effects.skipped += 1

    def _fill(self, fills: Fills, index: int, offset: int, effects: Effects) -> None:
        row = fills.rows[index]
        account = fills.accounts[row["account"]]
        lots, count, orders = self._accounts.get(account, (0, 0, 0))
        after = lots + int(row["lots"])
        if after // STEP_LOTS != lots // STEP_LOTS:
            orders += 1
            effects.now.append(self._order(account, fills.instruments[row["instrument"]], after, count + 1, orders, f"{offset}:{index}"))
        self._accounts[account] = (after, count + 1, orders)
        self._changed.add(account)

    def _order(self, account: str, instrument: tuple[str, str], lots: int, fills: int, number: int, where: str) -> Order:
        order_id = hashlib.blake2b(f"{account}/{number}".encode(), digest_size=16).hexdigest()
        return Order(
            order_id=order_id,
            account=account,
            venue=instrument[0],
            chain="toy",
            instrument=instrument[1],
            lots=-lots,
            limit_ticks=fills,
            epoch=number,
            attempt=1,
            state="LIQUIDATABLE",
            cause="FILL",
            decided_ns=self._clock_ns,
            expires_ns=self._clock_ns + 1_000_000_000,
            parameters="",
            ledger=f"{self.partition}:{where}",
        )


class SlowToy(Toy):
    """Takes longer to load than a short session lasts."""

    def restore(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        time.sleep(SLOW_LOAD_S)
        super().restore(rows)


class MortalToy(Toy):
    """Takes its process with it at a fill of `POISON_LOTS`, as a fault in machine code would."""

    def _fill(self, fills: Fills, index: int, offset: int, effects: Effects) -> None:
        if int(fills.rows[index]["lots"]) == POISON_LOTS:
            os._exit(POISONED)
        super()._fill(fills, index, offset, effects)


class FaultyToy(MortalToy):
    """Mortal, and takes its time for a fill of `BUSY_LOTS`."""

    def _fill(self, fills: Fills, index: int, offset: int, effects: Effects) -> None:
        if int(fills.rows[index]["lots"]) == BUSY_LOTS:
            time.sleep(BUSY_S)
        super()._fill(fills, index, offset, effects)


def _hash(key: bytes, value: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(len(key).to_bytes(4, "little") + key + value, digest_size=16).digest(), "little")


def machines(settings: Settings) -> list[MachineKind]:
    """Toys on every ledger partition, and one that keeps control."""
    return [
        MachineKind(name="book", log="ledger", rows="ledger.rows", partitions=settings.ledger_partitions, make=Toy),
        MachineKind(name="treasury", log="treasury.ledger", rows="treasury.rows", partitions=1, make=Toy, keeps_control=True),
    ]


def slow_machines(settings: Settings) -> list[MachineKind]:
    """The same, slow to load."""
    return [msgspec.structs.replace(kind, make=SlowToy) for kind in machines(settings)]


def mortal_machines(settings: Settings) -> list[MachineKind]:
    """The same, mortal."""
    return [msgspec.structs.replace(kind, make=MortalToy) for kind in machines(settings)]


def faulty_machines(settings: Settings) -> list[MachineKind]:
    """The same, mortal, and slow where they are told to be."""
    return [msgspec.structs.replace(kind, make=FaultyToy) for kind in machines(settings)]
