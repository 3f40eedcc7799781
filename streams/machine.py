"""One machine partition's life on the bus: fence, load, apply, publish, cut, until it is taken away.

The order of steps is what makes it exact. The transactional producer starts first: from then on the old owner commits nothing. Then the
committed rows are read, and the log is applied from the cut on, each frame once, at `applied + 1`. What was decided between the last cut
and a crash is decided again by whoever comes next, with the same bytes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple, Protocol

import msgspec
from aiokafka.errors import KafkaError

from engine.inputs import Frame
from engine.machine import CUT_KEY, ENGINE_VERSION, Cut, CutRecord, DigestMismatch, Machine
from streams import verdicts
from streams.clients import Clients, bounds
from streams.cut_writer import CutWriter, Encoded, is_fenced
from streams.frames import FrameFault, decode_frame
from streams.messages import PartitionStatus, encode_effect
from streams.metrics import Metrics
from streams.outbox import Outbox, Ticket
from streams.roster import MachineKind
from streams.store import committed_rows
from streams.verdicts import TRIAL_KEY, TRIES_MAX, Trials, set_aside

log = logging.getLogger(__name__)

LOAD_RETRY_S = 1.0
SEEK_AGAIN_S = 1.0
UNMOVED_S = 3.0
UNCUT_FRAMES_MAX = 4_096  # applied and not cut yet; beyond it applying waits for the cut
BROKER_SILENT_S = 5.0  # without an answer to a fetch, empty ones included
STATUS_S = 1.0  # how often a partition tells with its cut how it stands, for those who look
ROOM_S = 1.0  # that one partition may keep the others of its worker waiting for its cut; then it lets its records go by instead


class Phase(StrEnum):
    LOADING = "loading"  # deliveries are dropped, unacknowledged, and handed out again later
    RUNNING = "running"
    SEALING = "sealing"  # a clean stop: nothing more is applied
    HALTED = "halted"  # only a person can settle it; the other partitions go on
    CLOSED = "closed"


class NotSealed(Exception):
    """A clean stop could not commit its last cut, since the partition was halted or lost meanwhile."""


class Place(NamedTuple):
    """Where a worker runs, for those who look."""

    owner: str  # <host>:<process id>
    pages: str  # http://host:port, '' while there are none


class Owner(Protocol):
    """Who runs machine partitions: the worker's shell."""

    @property
    def place(self) -> Place:
        """Where it runs."""

    @property
    def trial(self) -> asyncio.Lock:
        """Held while a frame is on trial. One at a time: should the process end meanwhile, no other frame is to blame."""

    def seek(self, life: Life) -> None:
        """Have the log handed out again from where `life` stands."""

    def started(self, life: Life) -> None:
        """`life` has loaded its rows."""

    def caught_up(self, life: Life) -> None:
        """`life` has applied all that was in its log when it was acquired: its feeders may start."""

    def gap(self, life: Life) -> None:
        """`life` has skipped a frame that would have left a hole: its feeders must begin again where it stands."""

    def halted(self, life: Life) -> None:
        """`life` has stopped for good: its feeders must stop too."""

    def lost(self, life: Life, error: BaseException) -> None:
        """`life` could not commit its cut: fenced, or worse. It must be closed, and loaded anew if still ours."""


class Life:
    """One partition of one machine, from its acquisition on."""

    def __init__(
        self,
        kind: MachineKind,
        partition: int,
        clients: Clients,
        outbox: Outbox,
        metrics: Metrics,
        owner: Owner,
        spared: bytes | None = None,
    ) -> None:
        """`spared` is the trial of the life before it in this process, where the broker alone kept that one from a cut."""
        self.kind = kind
        self.partition = partition
        self.machine: Machine = kind.make(partition)
        self.phase = Phase.LOADING
        self.why_halted = ""
        self.cut_applied = -1  # the log offset of the last committed cut
        self.cut_at = time.monotonic()
        self.cutting_since: float | None = None
        self.unproven = True  # no cut was begun and committed since the partition was last assigned
        self.log_end = -1  # end of the log when it was acquired; later the newest end known
        self.heard_at_s = time.time()  # when the broker last told where the log ends
        self.is_caught_up = False
        # Since when what waits has waited in vain: the last step forward, or when something began to wait, or the broker was back.
        self.progress_at = self.began_at = time.monotonic()
        self.uncut_at = self.began_at  # since when there is something that no cut holds, while there is
        self.log_first = 0  # where the log began when it was last asked
        self.loaded_s = 0.0  # how long it took from assignment to caught up
        self._assigned_at = self.began_at
        self._acquired_end = -1
        self._cut_s = 0.0  # how long the last cut took
        self._told_at = 0.0
        self._clients = clients
        self._outbox = outbox
        self._metrics = metrics
        self._owner = owner
        self._writer = CutWriter(clients, kind.rows, partition, self.transactional_id)
        self._acknowledgements: dict[int, Callable[[], object]] = {}
        self._tickets: deque[Ticket] = deque()
        self._trials: Trials | None = None
        self._spared = spared
        self.trial: bytes | None = None  # of ours, that is among the rows, or may be
        self._assignments = 0
        self._sought_at = 0.0
        self._cut_lock = asyncio.Lock()
        self._below_uncut_bound = asyncio.Event()
        self._below_uncut_bound.set()
        self._stands = False  # records go by, unacknowledged, until a cut is committed; then they are asked for again
        self._careful_cut: asyncio.Task[bool] | None = None
        self._appended: deque[tuple[int, int]] = deque()

    def __repr__(self) -> str:
        return f"{self.kind.name}[{self.partition}]"

    @property
    def applied(self) -> int:
        return self.machine.applied

    @property
    def transactional_id(self) -> str:
        settings = self._clients.settings
        return f"{settings.topic_prefix}{settings.group}-{self.kind.name}-{self.partition}"

    # ---- loading ----------------------------------------------------------------------------------------------------------------------

    async def live(self, delay_s: float) -> None:
        """Load after `delay_s`, then cut for ever; ends when halted, lost or sealed."""
        await asyncio.sleep(delay_s)
        while not await self._loaded():  # noqa: ASYNC110 - a pause between attempts, not a wait
            await asyncio.sleep(LOAD_RETRY_S)
        if self.phase is Phase.LOADING:
            self.phase = Phase.RUNNING
            self.began_at = self.cut_at = self.progress_at = time.monotonic()
            self._owner.started(self)
            self._owner.seek(self)
            self._look_whether_caught_up()
            await self._cut_forever()

    async def _loaded(self) -> bool:
        """True once it needs no further attempt: loaded, or halted."""
        try:
            await self._writer.start()
            held = await committed_rows(self._clients, self.kind.rows, self.partition, shell_rows=True)
            rows = {key: value for key, value in held.items() if not key.startswith(verdicts.PREFIX)}
            first, end = await self._log_bounds()
            machine = self.kind.make(self.partition)
            fault = _unfit(rows.get(CUT_KEY))
            if rows and not fault:
                await asyncio.to_thread(machine.restore, list(rows.items()))
            fault = fault or _hole(machine.applied, first, end)
            if not fault:
                await self._look_at_trials(held, machine.applied, end)
        except DigestMismatch as error:
            self.halt(f"its rows are not those of its last cut: {error}. Restore {self.kind.rows}/{self.partition} from a backup")
            return True
        except (KafkaError, OSError) as error:
            if is_fenced(error):
                self._lose(error)
                return True
            log.warning("%r cannot be loaded yet: %r", self, error)
            await self._writer.stop()
            return False
        if fault:
            self.halt(fault)
            return True
        self.machine = machine
        self.cut_applied = machine.applied
        self.log_first = first
        self._acquired_end = self.log_end = end
        log.info("%r loaded %d rows; cut at %d, log ends at %d", self, len(rows), machine.applied, end)
        return True

    async def _look_at_trials(self, held: dict[bytes, bytes], applied: int, log_end: int) -> None:
        """Whether earlier owners have died of a frame, and how carefully to go on."""
        self._trials = trials = Trials(held, applied, log_end, self._spared)
        if trials.new_rows:
            _, self.trial = trials.new_rows[-1]
            await self._writer.commit(trials.new_rows)
        if trials.condemned >= 0:
            self._metrics.set_aside.labels(self.kind.name, self.partition).inc()
            log.critical("%r sets frame %d of its log aside: it has ended %d owners", self, trials.condemned, TRIES_MAX)
        elif trials.careful_until >= 0:
            log.warning("%r goes on carefully up to %d: an earlier owner came to no cut after %d", self, trials.careful_until, applied)

    async def _log_bounds(self) -> tuple[int, int]:
        where = self._clients.partition(self.kind.log, self.partition)
        async with self._clients.reading(where) as consumer:
            return await bounds(consumer, where)

    def halt(self, why: str) -> None:
        """Stop this partition, loudly; only a person can settle it."""
        self.phase = Phase.HALTED
        self.why_halted = why
        self._metrics.halted.labels(self.kind.name, self.partition).set(1)
        log.critical("%r has stopped: %s", self, why)
        self._below_uncut_bound.set()
        self._owner.halted(self)

    # ---- applying ---------------------------------------------------------------------------------------------------------------------

    async def deliver_carefully(self, offset: int, value: bytes, since_ms: int, acknowledge: Callable[[], object]) -> bool:
        """As `deliver`; but while earlier owners seem to have died of a frame near here, each is named before it is applied."""
        if not self._must_try(offset):
            return self.deliver(offset, value, since_ms, acknowledge)
        async with self._owner.trial:
            async with self._cut_lock:
                if trials := self._must_try(offset):  # it may have been lost or halted while it waited
                    key, self.trial = trials.row_for(offset, self.cut_applied)
                    try:
                        await self._writer.commit([(key, self.trial)])
                    except KafkaError as error:
                        self._lose(error)
                        return False
            if not self.deliver(offset, value, since_ms, acknowledge):
                return False
            self._careful_cut = asyncio.create_task(self._cut_or_lose())
            await asyncio.wait([self._careful_cut], timeout=ROOM_S)
            if not self._careful_cut.done():
                self._stand()
            return True

    def _must_try(self, offset: int) -> Trials | None:
        """What is known of earlier owners, where the frame at `offset` comes next and has to be named before it is applied."""
        trials = self._trials
        is_due = offset == self.applied + 1 and self.phase is Phase.RUNNING and not self._stands
        return trials if trials is not None and is_due and offset <= trials.careful_until else None

    async def room(self) -> None:
        """Wait while too much is applied and not cut, or decided and not published.

        A worker's partitions of one machine come through one stream. So a cut that waits for long (for a venue's topic, say) must not
        hold the stream: its partition stands, and lets its records go by.
        """
        if self.phase is not Phase.RUNNING:
            return
        if not self._below_uncut_bound.is_set():
            try:
                await asyncio.wait_for(self._below_uncut_bound.wait(), ROOM_S)
            except TimeoutError:
                self._stand()
        await self._outbox.room()

    def _stand(self) -> None:
        if not self._stands and self.phase is Phase.RUNNING:
            self._stands = True
            log.warning("%r stands at %d until its cut is committed, the last one was at %d", self, self.applied, self.cut_applied)

    def deliver(self, offset: int, value: bytes, since_ms: int, acknowledge: Callable[[], object]) -> bool:
        """Take one record of the log; True where it was applied. `acknowledge` is called once a committed cut covers it."""
        if self.phase is not Phase.RUNNING:
            return False
        if offset <= self.cut_applied:
            acknowledge()
            return False
        if self._stands:
            return False
        applied = self.machine.applied
        if offset > applied + 1:
            self._seek_again()
            return False
        self._acknowledgements[offset] = acknowledge
        if offset <= applied:
            return False
        try:
            frame = decode_frame(value)
        except FrameFault as fault:
            self.halt(f"record {offset} of its log is unusable: {fault}")
            return False
        if self._trials is not None and offset in self._trials.verdicts:
            frame = set_aside(frame, self._trials.verdicts[offset])
        self._metrics.frame_bytes.labels(self.kind.name).observe(len(value))
        self._apply(offset, frame, since_ms)
        return True

    def _apply(self, offset: int, frame: Frame, since_ms: int) -> None:
        if self.applied == self.cut_applied:
            self.uncut_at = time.monotonic()
        began = time.perf_counter()
        effects = self.machine.apply(offset, frame)
        self._metrics.count_frame(self.kind.name, frame, time.perf_counter() - began)
        ticket = self._outbox.put(offset, effects, since_ms)
        if ticket is not None:
            self._tickets.append(ticket)
        self._metrics.count_effects(self.kind.name, self.partition, effects)
        if since_ms:
            self._metrics.decision_seconds.labels(self.kind.name).observe(max(0.0, time.time() - since_ms / 1000))
        if effects.gap:
            log.error("%r skipped a frame beyond a gap: %s of %s", self, (frame.covers_from, frame.covers_to), frame.source)
            self._owner.gap(self)
        self._sought_at = 0.0
        self.progress_at = time.monotonic()
        if offset - self.cut_applied > UNCUT_FRAMES_MAX:
            self._below_uncut_bound.clear()
        if not self.is_caught_up:
            self._look_whether_caught_up()

    def _look_whether_caught_up(self) -> None:
        if self.machine.applied >= self._acquired_end - 1:
            self.is_caught_up = True
            self.loaded_s = time.monotonic() - self._assigned_at
            self._metrics.recovery_seconds.labels(self.kind.name).observe(self.loaded_s)
            self._owner.caught_up(self)

    def _seek_again(self) -> None:
        """A record beyond the next one: what is on its way must run out first, so one seek may not be enough, nor many help."""
        now = time.monotonic()
        if now - self._sought_at > SEEK_AGAIN_S:
            self._sought_at = now
            self._owner.seek(self)

    def told(self, log_end: int, at_s: float) -> None:
        """The broker said at `at_s` where the log ends. Where records wait and none comes, have them handed out again."""
        if at_s - self.heard_at_s > BROKER_SILENT_S:
            self.progress_at = time.monotonic()
        self.heard_at_s = at_s
        self._log_ends(log_end)
        is_moving = self.phase is Phase.RUNNING and not self._stands
        if is_moving and self.log_end - 1 > self.applied and time.monotonic() - self.progress_at > UNMOVED_S:
            self._seek_again()

    def appended(self, offset: int, since_ms: int) -> None:
        """Its feeder has had a frame acknowledged at `offset`, whose oldest event the broker had at `since_ms`."""
        self._log_ends(offset + 1)
        self._appended.append((offset, since_ms))
        self.oldest_s()

    def _log_ends(self, end: int) -> None:
        if self.log_end - 1 <= self.applied == self.cut_applied:
            self.progress_at = time.monotonic()  # nothing waited until now
        self.log_end = max(self.log_end, end)

    def oldest_s(self) -> float:
        """Age of the oldest event that was taken in and is not applied yet, 0 where there is none."""
        while self._appended and self._appended[0][0] <= self.machine.applied:
            self._appended.popleft()
        return max(0.0, time.time() - self._appended[0][1] / 1000) if self._appended else 0.0

    # ---- cutting ----------------------------------------------------------------------------------------------------------------------

    async def _cut_forever(self) -> None:
        interval = self._clients.settings.cut_interval_ms / 1000
        loop = asyncio.get_running_loop()
        due = loop.time() + interval * _stagger(self.partition)
        while self.phase is Phase.RUNNING:
            await asyncio.sleep(max(0.0, due - loop.time()))
            due = max(due + interval, loop.time())
            if (self.unproven or self.machine.applied > self.cut_applied) and not await self._cut_or_lose():
                return

    async def _cut_or_lose(self) -> bool:
        try:
            await self._cut(sealed=False)
        except Exception as error:  # noqa: BLE001 - whatever it was, the rows taken are gone from the machine: load anew
            self._lose(error)
            return False
        return True

    def _lose(self, error: BaseException) -> None:
        """Nothing more is applied or written from here on: the producer may be left in the middle of a transaction."""
        self.phase = Phase.CLOSED
        self._below_uncut_bound.set()
        self._owner.lost(self, error)

    async def seal(self) -> None:
        """Apply nothing more, and commit a sealed cut: a clean stop, from which another engine version may go on."""
        if self.phase is Phase.RUNNING:
            self.phase = Phase.SEALING
            if not await self._cut(sealed=True):
                raise NotSealed(f"it is {self.phase.value} now")

    async def _cut(self, *, sealed: bool) -> bool:
        """Whether a cut was committed; it is not where the partition was halted or closed while the cut was due."""
        async with self._cut_lock:
            if self.phase is not (Phase.SEALING if sealed else Phase.RUNNING):
                return False  # one that was due while the last cut was sealed must not come after it
            started = self.cutting_since = time.monotonic()
            assignments = self._assignments
            cut = self.machine.take_cut(sealed)  # between two frames: nothing here is awaited before it
            while self._tickets and self._tickets[0].offset <= cut.applied:
                await asyncio.shield(self._tickets[0].done)
                self._tickets.popleft()
            rows = cut.rows
            if self.trial is not None and cut.applied > self.cut_applied:
                rows = [(TRIAL_KEY, None), *rows]  # whatever was tried has come to a cut
            await self._writer.commit(rows, [*cut.health, *cut.breakers, *cut.partials], self._reports(cut))
            if cut.applied > self.cut_applied:
                self.trial = None
            self.cut_applied = cut.applied
            if assignments == self._assignments:
                self.unproven = False
            self._acknowledge(cut.applied)
            if self.applied - cut.applied <= UNCUT_FRAMES_MAX:
                self._below_uncut_bound.set()
            if self._stands and cut.applied == self.applied:
                self._stands = False
                self._owner.seek(self)  # what went by
            self.cutting_since = None
            self.cut_at = self.uncut_at = self.progress_at = time.monotonic()
            self._cut_s = self.cut_at - started
            self._metrics.cut_seconds.labels(self.kind.name).observe(self._cut_s)
            self._metrics.cut_rows.labels(self.kind.name).inc(len(cut.rows))
            return True

    def _reports(self, cut: Cut) -> list[Encoded]:
        """Once a second, for those who look: how the partition stands, and what its machine has to show. Nothing decides by it."""
        if time.monotonic() - self._told_at < STATUS_S:
            return []
        self._told_at = time.monotonic()
        told: list[Encoded] = []
        with self._metrics.looking("report"):
            told += map(encode_effect, [self._status(cut), *self.kind.reports(self.machine)])
        return told

    def _status(self, cut: Cut) -> PartitionStatus:
        """How it stands, for those who look; with a cut, so that only the owner can say it."""
        record = msgspec.msgpack.decode(cut.rows[-1][1] or b"", type=CutRecord)
        return PartitionStatus(
            machine=self.kind.name,
            partition=self.partition,
            owner=self._owner.place.owner,
            pages=self._owner.place.pages,
            applied=self.machine.applied,
            log_first=self.log_first,
            log_end=self.log_end,
            cut_applied=cut.applied,
            cut_seconds=self._cut_s,
            oldest_seconds=self.oldest_s(),
            clock_ns=record.clock_ns,
            at_ms=int(time.time() * 1000),
            rows=record.rows,
            engine_version=record.engine_version,
            parameters=record.parameters_version,
            mode=self.kind.mode(self.machine),
            loaded_seconds=self.loaded_s,
        )

    def _acknowledge(self, applied: int) -> None:
        for offset in sorted(offset for offset in self._acknowledgements if offset <= applied):
            self._acknowledgements.pop(offset)()

    # ---- ending -----------------------------------------------------------------------------------------------------------------------

    def keep(self) -> None:
        """Assigned to us again after a rebalance: somebody else may have had it in between.

        A cut that is begun from now on, and committed, proves that nobody had: they would have fenced us. It is made even where nothing
        has changed, since an empty transaction commits without proving anything.
        """
        self._assignments += 1
        self.unproven = True
        self._acknowledgements.clear()  # of an earlier generation; the log is handed out again from the committed offset

    async def close(self) -> None:
        """Forget the partition; its new owner's fence ends whatever transaction is open."""
        self.phase = Phase.CLOSED
        self._below_uncut_bound.set()
        if self._careful_cut is not None:
            self._careful_cut.cancel()
        await self._writer.stop()
        for ticket in self._tickets:
            ticket.done.cancel()


def _unfit(cut: bytes | None) -> str:
    """Why this engine may not go on from a cut, or ''."""
    if cut is None:
        return ""
    record = msgspec.msgpack.decode(cut, type=CutRecord)
    if record.engine_version == ENGINE_VERSION or record.sealed:
        return ""
    return (
        f"its last cut was made by engine version {record.engine_version} and is not sealed; this is version {ENGINE_VERSION}. "
        f"Start a worker of version {record.engine_version} and end it in good order (SIGTERM), then start this one"
    )


def _hole(applied: int, first: int, end: int) -> str:
    """Why the log does not go on from the cut, or ''."""
    if first > applied + 1:
        return f"its log begins at {first}, but its cut ends at {applied}: frames are missing between them. Restore the log or the rows"
    if end <= applied:
        return f"its log ends at {end}, before its cut at {applied}: the log was replaced or cut short. Restore the log"
    return ""


def _stagger(partition: int) -> float:
    """A fraction of the cut interval, spread evenly over partitions (golden ratio)."""
    return (partition * 0.618033988749895) % 1.0
