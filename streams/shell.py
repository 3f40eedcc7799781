"""What one worker owns: its machine partitions, their feeders, the clients they share; and what keeps it from being ready."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from faust.exceptions import NotReady

from engine.monitor import Book
from streams.clients import Clients
from streams.cut_writer import is_fenced
from streams.feeders import Bus, ControlCopier, ControlKeeper, SourceFeeder
from streams.machine import BROKER_SILENT_S, Life, Phase, Place
from streams.messages import CONTROL, SOURCES
from streams.metrics import Metrics
from streams.outbox import Outbox
from streams.roster import MachineKind, Roster
from streams.settings import Settings
from streams.shadow_check import ShadowCheck

log = logging.getLogger(__name__)

BACK_OFF_FIRST_S = 0.2
BACK_OFF_MAX_S = 10.0
HEALTHY_AFTER_S = 30.0  # a partition that has run this long starts its back-off afresh
HOUSEKEEPING_S = 0.5
FEEDERS_AGAIN_S = 1.0
READY_CUTS_MISSED = 20  # of cut intervals without a cut, where there is something to cut
READY_LAG_S = 5.0
READY_CLOCK_S = 5.0
SEAL_S = 10.0
SURVEY_S = 1.0
LOG_STARTS_S = 30.0

Key = tuple[str, int]  # a log's name without prefix, and a partition


class Group(Protocol):
    """The consumer group that hands out partitions; Faust's consumer, seen from here."""

    async def seek(self, topic: str, partition: int, applied: int) -> None:
        """Hand out the log again from the committed offset, or from `applied` + 1 where that is lower."""

    def log_end(self, topic: str, partition: int) -> tuple[int, float] | None:
        """(newest known end of a log, when the broker said so in seconds since the epoch); None where nothing is known."""

    async def rejoin(self) -> None:
        """Leave the assignment as it is and ask the group's coordinator for it again."""


class Shell:
    """Everything of a worker but Faust. `open()` before the first assignment, `close()` at the end."""

    def __init__(self, settings: Settings, roster: Roster, group: Group, fatal: Callable[[BaseException], None]) -> None:
        self.settings = settings
        self.roster = roster
        self.metrics = Metrics()
        self.clients = Clients(settings)
        self.lives: dict[Key, Life] = {}
        self.assigned = False  # an assignment was received, maybe an empty one
        self.unsealed = 0  # partitions whose last cut a clean stop could not seal
        self.opened_at: float | None = None
        self.trial = asyncio.Lock()
        self.place = Place(f"{socket.gethostname()}:{os.getpid()}", "")
        self.loop_at = time.monotonic()  # when the event loop last turned, for the watchdog
        self._looked_at = 0.0  # when books were last surveyed
        self._shadow = ShadowCheck(settings.shadow_accounts, settings.shadow_interval_s)
        self._kinds: dict[str, MachineKind] = {kind.log: kind for kind in roster}
        self._group = group
        self._fatal = fatal
        self._owned: set[Key] = set()
        self._living: dict[Key, asyncio.Task[None]] = {}
        self._feeders: dict[Key, list[asyncio.Task[None]]] = {}
        self._failures: dict[Key, int] = {}
        self._spared: dict[Key, bytes | None] = {}  # trials that partitions had left when the broker kept them from a cut
        self._tasks: set[asyncio.Task[None]] = set()
        self._outputs: AIOKafkaProducer | None = None
        self._frames: AIOKafkaProducer | None = None
        self._outbox: Outbox | None = None
        for kind in roster:
            self.metrics.partitions.labels(kind.name).set(kind.partitions)

    # ---- start and end ----------------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Start the shared producers and the housekeeping."""
        self.opened_at = self.loop_at = time.monotonic()
        self._outputs = self.clients.outputs_producer()
        self._frames = self.clients.frames_producer()
        await self._outputs.start()
        await self._frames.start()
        self._outbox = Outbox(self.clients, self._outputs, self._frames, self.metrics)
        self._spawn(self._outbox.run(), "outbox")
        self._spawn(self._keep_house(), "housekeeping")
        self._spawn(self._look_where_logs_begin(), "log starts")

    async def seal(self) -> None:
        """A clean stop: no more feeding, nothing more applied, and each running partition's last cut sealed."""
        for key in list(self._feeders):
            self._stop_feeders(key)
        lives = [life for life in self.lives.values() if life.phase is Phase.RUNNING]
        results = await asyncio.gather(*(asyncio.wait_for(life.seal(), SEAL_S) for life in lives), return_exceptions=True)
        for life, result in zip(lives, results, strict=True):
            if isinstance(result, BaseException):
                self.unsealed += 1
                log.error("%r is not sealed, its last cut at %d stands, not for another engine version: %r", life, life.cut_applied, result)
            else:
                log.info("%r is sealed at %d", life, life.cut_applied)

    async def close(self) -> None:
        """End what `open` and the assignments started."""
        self._owned.clear()
        for key in list(self.lives):
            await self._drop(key)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for producer in (self._outputs, self._frames):
            if producer is not None:
                await producer.stop()

    # ---- assignments ------------------------------------------------------------------------------------------------------------------

    def assign(self, owned: set[Key]) -> None:
        """Take over a new assignment: keep what is kept, begin what is new, drop what is gone. Returns at once."""
        owned = {key for key in owned if key[0] in self._kinds}
        log.info("assigned: %s", ", ".join(f"{log_name}/{partition}" for log_name, partition in sorted(owned)) or "nothing")
        self.assigned = True
        self._owned = owned
        for key in set(self.lives) - owned:
            self._spawn(self._drop(key), f"drop {key}")
        for key in sorted(owned):
            life = self.lives.get(key)
            if life is None:
                self._begin(key)
            else:
                life.keep()

    def life(self, log_name: str, partition: int) -> Life | None:
        return self.lives.get((log_name, partition))

    def book(self, partition: int) -> Book | None:
        """The book of a ledger partition, where it is ours and runs; to be looked at on the event loop, between two frames."""
        life = self.lives.get(("ledger", partition))
        return life.machine if life is not None and life.phase is Phase.RUNNING and isinstance(life.machine, Book) else None

    def _begin(self, key: Key) -> None:
        assert self._outbox is not None, "open() comes first"
        delay_s = self._back_off(key)
        spared = self._spared.pop(key, None)
        life = Life(self._kinds[key[0]], key[1], self.clients, self._outbox, self.metrics, self, spared)
        self.lives[key] = life
        self._living[key] = self._spawn(life.live(delay_s), f"{life!r}")

    def _back_off(self, key: Key) -> float:
        failures = self._failures.get(key, 0)
        return 0.0 if failures == 0 else min(BACK_OFF_FIRST_S * 2.0 ** (failures - 1), BACK_OFF_MAX_S)

    async def _drop(self, key: Key) -> None:
        life = self.lives.pop(key, None)
        self._stop_feeders(key)
        if life is not None:
            living = self._living.pop(key)
            living.cancel()
            await asyncio.wait([living])
            await life.close()
            if key not in self.lives:
                targets = {life.kind.log, CONTROL} if life.kind.keeps_control else {life.kind.log}
                sources = [topic for topic, source in SOURCES.items() if source.target in targets]
                self.metrics.forget(life.kind.name, life.partition, sources)

    # ---- what lives tell us -----------------------------------------------------------------------------------------------------------

    def seek(self, life: Life) -> None:
        self._spawn(self._seek(life), f"seek {life!r}")

    async def _seek(self, life: Life) -> None:
        try:
            await self._group.seek(life.kind.log, life.partition, life.applied)
        except (KafkaError, AssertionError, TimeoutError, NotReady) as error:  # not assigned any more, or between two assignments
            log.info("%r: no seek now: %r", life, error)

    def started(self, life: Life) -> None:
        self.metrics.halted.labels(life.kind.name, life.partition).set(0)

    def caught_up(self, life: Life) -> None:
        log.info("%r has caught up at %d", life, life.applied)
        self._start_feeders(life)

    def gap(self, life: Life) -> None:
        key = (life.kind.log, life.partition)
        if key in self._feeders:
            self._stop_feeders(key)
            self._spawn(self._feed_again(life), f"feeders of {life!r} again")

    def halted(self, life: Life) -> None:
        self._stop_feeders((life.kind.log, life.partition))

    async def _feed_again(self, life: Life) -> None:
        await asyncio.sleep(FEEDERS_AGAIN_S)
        if self.lives.get((life.kind.log, life.partition)) is life and life.phase is Phase.RUNNING:
            self._start_feeders(life)

    def lost(self, life: Life, error: BaseException) -> None:
        key = (life.kind.log, life.partition)
        if self.lives.get(key) is not life:
            return
        fenced = is_fenced(error)
        (self.metrics.fenced if fenced else self.metrics.lost).labels(life.kind.name, life.partition).inc()
        log.error("%r %s at %d, its cut at %d: %r", life, "is fenced" if fenced else "cannot cut", life.applied, life.cut_applied, error)
        self._failures[key] = self._failures.get(key, 0) + 1
        if isinstance(error, KafkaError):
            self._spared[key] = life.trial
        self._spawn(self._replace(key, rejoin=fenced and not life.unproven), f"replace {life!r}")

    async def _replace(self, key: Key, *, rejoin: bool) -> None:
        """Drop the partition. Fenced out of the blue, the group may know more than we do: ask it first. Else load anew, if it is ours."""
        await self._drop(key)
        if rejoin:
            await asyncio.sleep(self._back_off(key))
            if key not in self._owned or key in self.lives:
                return  # a new assignment has come meanwhile, and has said whose it is
            try:
                await self._group.rejoin()
            except KafkaError as error:
                log.warning("cannot rejoin yet: %r", error)
            await asyncio.sleep(self.settings.session_timeout_s)
        if key in self._owned and key not in self.lives:
            self._begin(key)

    # ---- feeders ----------------------------------------------------------------------------------------------------------------------

    def _start_feeders(self, life: Life) -> None:
        assert self._frames is not None
        assert self._outputs is not None
        key = (life.kind.log, life.partition)
        bus = Bus(self.clients, self._frames, self._outputs, self.metrics)
        feeders: list[SourceFeeder | ControlCopier | ControlKeeper] = [SourceFeeder(life, bus), ControlCopier(life, bus)]
        if life.kind.keeps_control:
            feeders.append(ControlKeeper(life, bus))
        self._feeders[key] = [self._spawn(feeder.run(), f"{type(feeder).__name__} {life!r}") for feeder in feeders]

    def _stop_feeders(self, key: Key) -> None:
        for task in self._feeders.pop(key, ()):
            task.cancel()

    # ---- health -----------------------------------------------------------------------------------------------------------------------

    def problems(self) -> list[str]:
        """Why this worker is not ready; empty: it owns what it was given, has caught up, and is cutting."""
        if not self.assigned:
            return ["no assignment yet"]
        now = time.monotonic()
        patience_s = max(READY_CUTS_MISSED * self.settings.cut_interval_ms / 1000, READY_LAG_S)
        found = self._outbox.problems() if self._outbox is not None else []
        for key in sorted(self._owned):
            life = self.lives.get(key)
            name = f"{key[0]}/{key[1]}"
            if life is None:
                found.append(f"{name}: waiting to be loaded")
            elif life.phase is not Phase.RUNNING:
                found.append(f"{name}: {life.phase.value} {life.why_halted}".rstrip())
            elif time.time() - life.heard_at_s > BROKER_SILENT_S:
                found.append(f"{name}: the broker has not answered for {time.time() - life.heard_at_s:.1f} s")
            elif not life.is_caught_up:
                found.append(f"{name}: at {life.applied} of {life.log_end}, catching up")
            elif self._clock_behind_s(life) > READY_CLOCK_S:
                found.append(
                    f"{name}: its clock is {self._clock_behind_s(life):.1f} s behind: no ticks come, or they wait behind other frames"
                )
            elif life.unproven and life.applied <= life.cut_applied:
                found.append(f"{name}: no cut committed yet")
            elif life.applied > life.cut_applied and now - life.uncut_at > patience_s:
                found.append(f"{name}: no cut for {now - life.uncut_at:.1f} s, since it was applied to {life.applied}")
            elif life.log_end - 1 > life.applied and now - life.progress_at > READY_LAG_S:
                found.append(f"{name}: nothing applied for {now - life.progress_at:.1f} s, {life.log_end - 1 - life.applied} frames wait")
        return found

    def _clock_behind_s(self, life: Life) -> float:
        """How far the machine's clock is behind this one's; 0 where somebody else moves it, or before its first tick."""
        if self.settings.ticker != "wall" or life.machine.clock_ns == 0:
            return 0.0
        return (time.time_ns() - life.machine.clock_ns) / 1e9

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            self.look_round()

    def look_round(self) -> None:
        """Tell each partition where its log ends, and the metrics how each stands."""
        now = self.loop_at = time.monotonic()
        if self._outbox is not None:
            self.metrics.tell_outbox(self._outbox.backlog, self._outbox.aside())
        for key, life in self.lives.items():
            labels = (life.kind.name, life.partition)
            told = self._group.log_end(*key)
            if told is not None:
                life.told(*told)
            self.metrics.cut_age_seconds.labels(*labels).set(now - life.cut_at)
            self.metrics.lag_frames.labels(*labels).set(max(0, life.log_end - 1 - life.applied))
            self.metrics.uncut_frames.labels(*labels).set(life.applied - life.cut_applied)
            self.metrics.clock_behind_seconds.labels(*labels).set(self._clock_behind_s(life))
            self.metrics.oldest_seconds.labels(*labels).set(life.oldest_s())
            self.metrics.log_start.labels(*labels).set(life.log_first - life.cut_applied - 1)
            if life.phase is Phase.RUNNING and not life.unproven and now - life.began_at > HEALTHY_AFTER_S:
                self._failures.pop(key, None)

        running = [(life, life.machine) for life in self.lives.values() if isinstance(life.machine, Book) and life.phase is Phase.RUNNING]
        if now - self._looked_at >= SURVEY_S:
            self._looked_at = now
            for _, book in running:
                with self.metrics.looking("survey"):
                    self.metrics.risk.survey(book)
        with self.metrics.looking("shadow"):
            check = self._shadow.go_on([book for life, book in running if life.is_caught_up])
            if check is not None:
                self.metrics.count_check(check)

    async def _look_where_logs_begin(self) -> None:
        """Retention moves a log's beginning; beyond the last cut, there would be nothing to recover from."""
        while True:
            await asyncio.sleep(LOG_STARTS_S)
            lives = {self.clients.partition(*key): life for key, life in self.lives.items()}
            if not lives:
                continue
            try:
                async with self.clients.reading(*lives) as consumer:
                    for where, first in (await consumer.beginning_offsets(list(lives))).items():
                        lives[where].log_first = first
            except (KafkaError, OSError) as error:
                log.warning("cannot ask where the logs begin: %r", error)

    def crash(self, error: BaseException, where: str) -> None:
        """End the worker for an error that nobody expected."""
        log.critical("%s: %r", where, error)
        self._fatal(error)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """A task whose unexpected end is the worker's: nothing dies in silence."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.critical("%s has failed", task.get_name(), exc_info=error)
            self._fatal(error)
