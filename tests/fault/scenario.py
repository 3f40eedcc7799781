"""One run with faults, at moments drawn from a seed: four ledger partitions, two workers; one is killed, one paused beyond its session.

While fills flow all the time, the scenario kills the first worker (SIGKILL) and starts another one in its place, then pauses the second
(SIGSTOP) until its partitions have moved, and wakes it up. At the end it holds what came out against what must have come out.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from pathlib import Path

from msgspec import Struct

from streams.clients import Clients, bounds
from streams.messages import topic_specs
from streams.replay import ReplayReport, replay_ledger
from streams.settings import Settings, kafka_client_options, load_settings
from streams.topics_admin import create_topics
from tests.fault.workers import WorkerProcess
from tests.fault.workloads import Workload

PARTITIONS = 4
SESSION_S = 3.0
DRAIN_TIMEOUT_S = 60.0
DECISION_TIMEOUT_S = 10.0
MOVED_TIMEOUT_S = 60.0
FENCED_TIMEOUT_S = 8.0
PAUSES_MAX = 3


class Outcome(Struct, kw_only=True):
    """What a run showed; `problems` is empty for a run without fault."""

    seed: int
    fills: int
    problems: list[str]
    report: ReplayReport
    fenced: int
    refused: int  # fills in the dead-letter topic
    killed_after_s: float
    paused_after_s: float
    seconds: float

    def line(self) -> str:
        verdict = "ok" if not self.problems else "FAILED: " + "; ".join(self.problems[:5])
        return (
            f"seed {self.seed}: {self.fills} fills, {self.report.distinct} orders ({self.report.repeated} published again, "
            f"{self.report.conflicting} in two forms), {self.report.cuts_checked} cuts, fenced {self.fenced}, "
            f"killed at {self.killed_after_s:.2f} s, paused at {self.paused_after_s:.2f} s, {self.seconds:.0f} s: {verdict}"
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
        watchdog_s=30,
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
    await asyncio.to_thread(_wait_for_a_decision_without_its_cut, first)
    first.kill()
    killed_after_s = time.monotonic() - flow_from
    third = WorkerProcess("third", settings, machines, folder)
    workers.append(third)
    await asyncio.sleep(SESSION_S + moments.uniform(2.0, 5.0))
    await asyncio.gather(second.ready(), third.ready())

    paused_after_s = time.monotonic() - flow_from
    fenced = 0
    for _ in range(PAUSES_MAX):
        second.pause()
        await asyncio.sleep(SESSION_S + moments.uniform(0.0, 3.0))
        await _moved(third)
        second.wake()
        fenced = await _fenced(second)
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
    if not report.repeated:
        problems.append("no order was published twice: nothing was decided between the last cut and the kill")
    if report.conflicting:
        problems.append(f"{report.conflicting} orders were published with two contents")
    return Outcome(
        seed=seed,
        fills=workload.sent,
        problems=problems,
        report=report,
        fenced=fenced,
        refused=refused,
        killed_after_s=killed_after_s,
        paused_after_s=paused_after_s,
        seconds=time.monotonic() - started,
    )


async def _moved(worker: WorkerProcess) -> None:
    """Until this worker owns every book and is ready: what the paused one had is somebody else's now."""
    async with asyncio.timeout(MOVED_TIMEOUT_S):
        while await asyncio.to_thread(worker.books) < PARTITIONS:  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.1)
        await worker.ready()


def _wait_for_a_decision_without_its_cut(worker: WorkerProcess) -> None:
    """Until it has published orders and not cut since: what it decided last will have to be decided again."""
    ends = time.monotonic() + DECISION_TIMEOUT_S
    orders, cuts = worker.metric("plimsoll_orders_total"), worker.metric("plimsoll_cut_seconds_count")
    while time.monotonic() < ends:
        orders_then, cuts_then = orders, cuts
        orders, cuts = worker.metric("plimsoll_orders_total"), worker.metric("plimsoll_cut_seconds_count")
        if orders > orders_then and cuts == cuts_then:
            return


async def _fenced(worker: WorkerProcess) -> int:
    """How often the woken worker has found itself fenced, by its own metric, or by its log where it has ended itself."""
    ends = time.monotonic() + FENCED_TIMEOUT_S
    while time.monotonic() < ends:
        count = int(await asyncio.to_thread(worker.metric, "plimsoll_fenced_total")) or worker.text().count("is fenced at")
        if count:
            return count
        await asyncio.sleep(0.2)
    return 0


async def _drained(settings: Settings, workload: Workload, problems: list[str]) -> None:
    ends = time.monotonic() + DRAIN_TIMEOUT_S
    while await workload.held(settings) != workload.expected():
        if time.monotonic() > ends:
            problems.append(f"not everything was applied {DRAIN_TIMEOUT_S:.0f} s after the last fill")
            return
        await asyncio.sleep(0.5)


async def _wrong_positions(settings: Settings, workload: Workload) -> list[str]:
    held, expected = await workload.held(settings), workload.expected()
    wrong = {account for account in held.keys() | expected.keys() if held.get(account, 0) != expected.get(account, 0)}
    return [f"{account} holds {held.get(account, 0)} lots, but its fills add up to {expected.get(account, 0)}" for account in sorted(wrong)]


async def _refused(settings: Settings) -> int:
    clients = Clients(settings)
    where = clients.partition("venue.fills.dlq", 0)
    async with clients.reading(where) as consumer:
        first, end = await bounds(consumer, where)
    return end - first
