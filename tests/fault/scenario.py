"""One run with faults, at moments drawn from a seed: four ledger partitions, two workers; one is killed, one paused beyond its session.

While fills flow all the time, the scenario kills the first worker (SIGKILL) when it has published an order that no committed cut covers,
starts another one in its place and sees that order published again; then it pauses the second (SIGSTOP) until its partitions have moved,
and wakes it up. At the end it holds what came out against what must have come out.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from pathlib import Path

import msgspec
from aiokafka.structs import TopicPartition
from msgspec import Struct

from engine.effects import Order
from engine.machine import CUT_KEY, CutRecord
from streams.clients import Clients, bounds, scan
from streams.messages import orders_topic, partition_of, topic_specs
from streams.replay import ReplayReport, replay_ledger
from streams.settings import Settings, kafka_client_options, load_settings
from streams.store import committed_rows
from streams.topics_admin import create_topics
from tests.fault.workers import WorkerProcess
from tests.fault.workloads import Workload
from tests.patience import PATIENCE_S

PARTITIONS = 4
SESSION_S = 6.0
LOOK_MAX_S = SESSION_S / 2  # for a look at a worker that is stopped: after it, others may have its partitions
COMMIT_S = 0.3  # for a commit that was on its way when its worker was stopped
FENCED_TIMEOUT_S = 10.0
PAUSES_MAX = 10


class Kill(Struct, frozen=True):
    """A worker killed while its machines had orders out that no committed cut covered."""

    partitions: list[int]  # of the books' ledger, that it owned
    uncut: set[str]  # ids of those orders
    ends: dict[TopicPartition, int]  # of the orders topics of these partitions then


class Outcome(Struct, kw_only=True):
    """What a run showed; `problems` is empty for a run without fault."""

    seed: int
    machines: str  # which ran: the real books, or toys
    fills: int
    problems: list[str]
    report: ReplayReport
    uncut: int  # orders that the killed worker had published and not cut
    repeated_by_kill: int  # of those, how many its successors published again, before anybody was paused
    fenced: int  # by the pause: counted from just before it
    refused: int  # fills in the dead-letter topic
    killed_after_s: float
    paused_after_s: float
    seconds: float

    def line(self) -> str:
        verdict = "ok" if not self.problems else "FAILED: " + "; ".join(self.problems[:5])
        return (
            f"seed {self.seed} ({self.machines}): {self.fills} fills, {self.report.distinct} orders ({self.report.repeated} twice, "
            f"{self.report.conflicting} in two forms), {self.report.cuts_checked} cuts, "
            f"killed at {self.killed_after_s:.2f} s with {self.uncut} orders out and not cut, {self.repeated_by_kill} of them came again, "
            f"paused at {self.paused_after_s:.2f} s, fenced {self.fenced}, {self.seconds:.0f} s: {verdict}"
        )


async def run_scenario(bootstrap: str, prefix: str, seed: int, workload: Workload) -> Outcome:
    """Run it on a broker, under topics of its own; the workers' logs are kept only where something went wrong."""
    settings = load_settings(
        environment={},
        bootstrap=bootstrap,
        topic_prefix=prefix,
        venues=workload.venues,
        ledger_partitions=PARTITIONS,
        session_timeout_s=SESSION_S,
        heartbeat_s=0.5,
        cut_interval_ms=400,
        metrics_port=0,
        watchdog_s=60,
    )
    specs = topic_specs(ledger_partitions=PARTITIONS, attest_partitions=settings.attest_partitions, venues=workload.venues)
    await create_topics(kafka_client_options(settings), specs, prefix)
    folder = Path(tempfile.mkdtemp(prefix=f"plimsoll-faults-{seed}-"))
    workers: list[WorkerProcess] = []
    try:
        outcome = await _faults(settings, seed, workload, folder, workers)
    except BaseException:
        print(f"the workers' logs are in {folder}")
        raise
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.kill()
    if outcome.problems:
        outcome.problems.append(f"the workers' logs are in {folder}")
    else:
        shutil.rmtree(folder)
    return outcome


async def _faults(settings: Settings, seed: int, workload: Workload, folder: Path, workers: list[WorkerProcess]) -> Outcome:
    await workload.warm()
    started = time.monotonic()
    moments = random.Random(seed * 7919 + 1)
    machines = workload.machines
    workers += [WorkerProcess(name, settings, machines, folder) for name in ("first", "second")]
    await asyncio.gather(*(worker.ready() for worker in workers))
    first, second = workers
    await workload.prepare(settings)
    flowing = asyncio.create_task(workload.flow(settings))
    flow_from = time.monotonic()

    await asyncio.sleep(moments.uniform(1.5, 4.0))
    kill = await _killed_before_a_cut(first, settings, workload, moments)
    killed_after_s = time.monotonic() - flow_from
    third = WorkerProcess("third", settings, machines, folder)
    workers.append(third)
    await asyncio.sleep(SESSION_S + moments.uniform(2.0, 5.0))
    await asyncio.gather(second.ready(), third.ready())
    repeated_by_kill = await _repeated_since(kill, settings)

    paused_after_s = time.monotonic() - flow_from
    fenced = 0
    for _ in range(PAUSES_MAX):
        fenced_before = await asyncio.to_thread(second.fencings)
        second.pause()
        await asyncio.sleep(SESSION_S + moments.uniform(0.0, 3.0))
        await _moved(third)
        second.wake()
        fenced = await _fenced(second, fenced_before)
        if fenced:
            break  # else the group was quicker to take its partitions than it was to try a cut
        await asyncio.gather(second.ready(), third.ready())
    await asyncio.sleep(moments.uniform(1.0, 3.0))
    workload.stop()
    await flowing
    problems: list[str] = []
    if not fenced:
        problems.append("the woken worker was never fenced")
    await _drained(settings, workload, problems)
    for worker in (second, third):
        code = await worker.stop()
        if code != 0:
            problems.append(f"{worker.name} ended with code {code}")
    problems += await _wrong_positions(settings, workload)
    report = await replay_ledger(settings, machines=machines, all_cuts_restored=True)
    problems += report.differences
    refused = await _refused(settings)
    if refused:
        problems.append(f"{refused} fills were refused")
    if kill.uncut and not repeated_by_kill:
        problems.append(f"{len(kill.uncut)} orders were out and not cut at the kill, and nobody has published one of them again")
    if report.conflicting:
        problems.append(f"{report.conflicting} orders were published with two contents")
    return Outcome(
        seed=seed,
        machines=workload.name,
        fills=workload.sent,
        problems=problems,
        report=report,
        uncut=len(kill.uncut),
        repeated_by_kill=repeated_by_kill,
        fenced=fenced,
        refused=refused,
        killed_after_s=killed_after_s,
        paused_after_s=paused_after_s,
        seconds=time.monotonic() - started,
    )


async def _moved(worker: WorkerProcess) -> None:
    """Until this worker owns every book and is ready: what the paused one had is somebody else's now."""
    async with asyncio.timeout(PATIENCE_S):
        while len(await asyncio.to_thread(worker.books)) < PARTITIONS:  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.1)
        await worker.ready()


async def _killed_before_a_cut(worker: WorkerProcess, settings: Settings, workload: Workload, moments: random.Random) -> Kill:
    """Stop it, look whether an order of its partitions is out that no committed cut covers, and kill it as it stands; else let it go on.

    Without such a moment within PATIENCE_S it is killed all the same, and the answer names no order.
    """
    ends_at = time.monotonic() + PATIENCE_S
    while True:
        partitions = await asyncio.to_thread(worker.books)
        worker.pause()
        paused_at = time.monotonic()
        await asyncio.sleep(COMMIT_S)
        uncut = await _uncut(partitions, settings, workload)
        ends = await _ends(partitions, settings)
        in_time = time.monotonic() - paused_at < LOOK_MAX_S
        if (uncut and in_time) or time.monotonic() > ends_at:
            break
        worker.wake()
        if not in_time:
            await worker.ready()
        await asyncio.sleep(moments.uniform(0.05, 0.45))
    worker.kill()
    return Kill(partitions, uncut if in_time else set(), ends)


async def _uncut(partitions: list[int], settings: Settings, workload: Workload) -> set[str]:
    """Orders published of these partitions that were decided beyond their last committed cuts."""
    clients = Clients(settings)
    cuts: dict[int, CutRecord] = {}
    for partition in partitions:
        rows = await committed_rows(clients, "ledger.rows", partition)
        if CUT_KEY in rows:
            cuts[partition] = msgspec.msgpack.decode(rows[CUT_KEY], type=CutRecord)
    published = await _orders(partitions, settings)
    homes = [(order, partition_of(order.account.encode(), PARTITIONS)) for order in published]
    return {order.order_id for order, home in homes if home in cuts and workload.is_uncut(order, cuts[home])}


async def _repeated_since(kill: Kill, settings: Settings) -> int:
    """How many of the orders that were out and not cut at a kill have come out again; waits for all of them, for a while."""
    ends_at = time.monotonic() + PATIENCE_S
    while True:
        published = await _orders(kill.partitions, settings, kill.ends)
        again = kill.uncut & {order.order_id for order in published}
        if again == kill.uncut or time.monotonic() > ends_at:
            return len(again)
        await asyncio.sleep(0.2)


async def _orders(partitions: list[int], settings: Settings, begin: dict[TopicPartition, int] | None = None) -> list[Order]:
    """The orders published of these partitions, of all venues, from `begin` on or from the beginning."""
    clients = Clients(settings)
    wheres = _orders_partitions(clients, partitions)
    orders: list[Order] = []
    if not wheres:
        return orders
    async with clients.reading(*wheres) as consumer:
        for where in wheres:
            first, end = await bounds(consumer, where)
            async for records in scan(consumer, where, (begin or {}).get(where, first), end):
                orders += [msgspec.json.decode(record.value, type=Order) for record in records]
    return orders


async def _ends(partitions: list[int], settings: Settings) -> dict[TopicPartition, int]:
    """Where the orders topics of these partitions end."""
    clients = Clients(settings)
    wheres = _orders_partitions(clients, partitions)
    if not wheres:
        return {}
    async with clients.reading(*wheres) as consumer:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(wheres)
    return ends


def _orders_partitions(clients: Clients, partitions: list[int]) -> list[TopicPartition]:
    return [clients.partition(orders_topic(venue), partition) for venue in clients.settings.venues for partition in partitions]


async def _fenced(worker: WorkerProcess, before: int) -> int:
    """How often the woken worker has found itself fenced since `before` was counted."""
    ends = time.monotonic() + FENCED_TIMEOUT_S
    while time.monotonic() < ends:
        count = await asyncio.to_thread(worker.fencings) - before
        if count > 0:
            return count
        await asyncio.sleep(0.2)
    return 0


async def _drained(settings: Settings, workload: Workload, problems: list[str]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while await workload.held(settings) != workload.expected():
        if time.monotonic() > ends:
            problems.append(f"not everything was applied {PATIENCE_S:.0f} s after the last fill")
            return
        await asyncio.sleep(0.5)


async def _wrong_positions(settings: Settings, workload: Workload) -> list[str]:
    """Lots, and cash where the machines keep it, that differ from the sums of the fills."""
    held, expected = await workload.held(settings), workload.expected()
    wrong = {what for what in held.keys() | expected.keys() if held.get(what, 0) != expected.get(what, 0)}
    return [f"{what}: {held.get(what, 0)}, but the fills add up to {expected.get(what, 0)}" for what in sorted(wrong)]


async def _refused(settings: Settings) -> int:
    clients = Clients(settings)
    where = clients.partition("venue.fills.dlq", 0)
    async with clients.reading(where) as consumer:
        first, end = await bounds(consumer, where)
    return end - first
