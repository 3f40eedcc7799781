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

from aiokafka import AIOKafkaProducer
from msgspec import Struct

from engine.inputs import Fill
from streams.clients import Clients
from streams.messages import encode_source, topic_specs
from streams.replay import ReplayReport, replay_ledger
from streams.settings import Settings, kafka_client_options, load_settings
from streams.store import committed_rows
from streams.topics_admin import create_topics
from tests.fault.workers import WorkerProcess
from tests.toy import Toy

ACCOUNTS = 300
PARTITIONS = 4
VENUE = "alpha"
BURST = 60  # fills sent between two looks at the time
PAUSE_S = 0.02
SESSION_S = 3.0
DRAIN_TIMEOUT_S = 60.0


class Outcome(Struct, kw_only=True):
    """What a run showed; `problems` is empty for a run without fault."""

    seed: int
    fills: int
    problems: list[str]
    report: ReplayReport
    fenced: int
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


class Source:
    """Fills from a seed, sent for as long as it is asked to; it knows what each account must hold in the end."""

    def __init__(self, seed: int, settings: Settings) -> None:
        self.totals: dict[str, int] = {}
        self.sent = 0
        self._random = random.Random(seed)
        self._clients = Clients(settings)
        self._sequences: dict[str, int] = {}
        self._going_on = True

    async def run(self) -> None:
        producer = AIOKafkaProducer(**kafka_client_options(self._clients.settings), enable_idempotence=True, linger_ms=2)
        await producer.start()
        try:
            while self._going_on:
                await asyncio.gather(*[await self._send(producer) for _ in range(BURST)])
                await asyncio.sleep(PAUSE_S)
        finally:
            await producer.stop()

    def stop(self) -> None:
        self._going_on = False

    async def _send(self, producer: AIOKafkaProducer) -> asyncio.Future[object]:
        account = f"account-{self._random.randrange(ACCOUNTS)}"
        lots = self._random.randrange(-400, 401)
        sequence = self._sequences[account] = self._sequences.get(account, 0) + 1
        self.totals[account] = self.totals.get(account, 0) + lots
        self.sent += 1
        fill = Fill(
            v=1,
            account=account,
            venue=VENUE,
            instrument="BTC-PERP",
            kind="trade",
            lots=lots,
            price_ticks=100,
            sequence=sequence,
            time_ns=time.time_ns(),
        )
        topic, key, value = encode_source(fill)
        delivery: asyncio.Future[object] = await producer.send(self._clients.name(topic), value, key)
        return delivery


async def run_scenario(bootstrap: str, prefix: str, seed: int) -> Outcome:
    """Run it on a broker, under topics of its own; the workers' logs are kept only where something went wrong."""
    settings = load_settings(
        environment={},
        bootstrap=bootstrap,
        topic_prefix=prefix,
        venues=VENUE,
        ledger_partitions=PARTITIONS,
        session_timeout_s=SESSION_S,
        heartbeat_s=0.5,
        cut_interval_ms=400,
        metrics_port=0,
        watchdog_s=30,
    )
    specs = topic_specs(ledger_partitions=PARTITIONS, attest_partitions=settings.attest_partitions, venues=[VENUE])
    await create_topics(kafka_client_options(settings), specs, prefix)
    folder = Path(tempfile.mkdtemp(prefix=f"plimsoll-faults-{seed}-"))
    workers: list[WorkerProcess] = []
    try:
        outcome = await _faults(settings, seed, folder, workers)
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


async def _faults(settings: Settings, seed: int, folder: Path, workers: list[WorkerProcess]) -> Outcome:
    started = time.monotonic()
    moments = random.Random(seed * 7919 + 1)
    machines = "tests.toy:machines"
    workers += [WorkerProcess(name, settings, machines, folder) for name in ("first", "second")]
    await asyncio.gather(*(worker.ready() for worker in workers))
    first, second = workers
    source = Source(seed, settings)
    flowing = asyncio.create_task(source.run())
    flow_from = time.monotonic()

    await asyncio.sleep(moments.uniform(1.5, 4.0))
    first.kill()
    killed_after_s = time.monotonic() - flow_from
    third = WorkerProcess("third", settings, machines, folder)
    workers.append(third)
    await asyncio.sleep(SESSION_S + moments.uniform(2.0, 5.0))
    await asyncio.gather(second.ready(), third.ready())

    second.pause()
    paused_after_s = time.monotonic() - flow_from
    await asyncio.sleep(SESSION_S + moments.uniform(2.0, 5.0))
    second.wake()
    await asyncio.sleep(moments.uniform(1.0, 3.0))
    source.stop()
    await flowing
    problems: list[str] = []
    fenced = await _fenced(second, problems)
    await _drained(settings, source.totals, problems)
    for worker in (second, third):
        code = await worker.stop()
        if code != 0:
            problems.append(f"{worker.name} ended with code {code}")
    problems += await _wrong_positions(settings, source.totals)
    report = await replay_ledger(settings, machines=machines, all_cuts_restored=True)
    problems += report.differences
    if not report.repeated:
        problems.append("no order was published twice: nothing was decided between the last cut and the kill")
    if report.conflicting:
        problems.append(f"{report.conflicting} orders were published with two contents")
    return Outcome(
        seed=seed,
        fills=source.sent,
        problems=problems,
        report=report,
        fenced=fenced,
        killed_after_s=killed_after_s,
        paused_after_s=paused_after_s,
        seconds=time.monotonic() - started,
    )


async def _fenced(worker: WorkerProcess, problems: list[str]) -> int:
    """How often the woken worker found itself fenced, by its own metric, or by its log where it has ended itself."""
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        count = int(await asyncio.to_thread(worker.metric, "plimsoll_fenced_total")) or worker.text().count("is fenced at")
        if count:
            return count
        await asyncio.sleep(0.2)
    problems.append("the woken worker was not fenced")
    return 0


async def _totals(settings: Settings) -> dict[str, int]:
    """Lots by account as committed."""
    held: dict[str, int] = {}
    clients = Clients(settings)
    for partition in range(settings.ledger_partitions):
        rows = await committed_rows(clients, "ledger.rows", partition)
        if rows:
            toy = Toy(partition)
            toy.restore(rows.items())
            held |= toy.totals()
    return held


async def _drained(settings: Settings, expected: dict[str, int], problems: list[str]) -> None:
    ends = time.monotonic() + DRAIN_TIMEOUT_S
    while await _totals(settings) != expected:
        if time.monotonic() > ends:
            problems.append(f"not everything was applied {DRAIN_TIMEOUT_S:.0f} s after the last fill")
            return
        await asyncio.sleep(0.5)


async def _wrong_positions(settings: Settings, expected: dict[str, int]) -> list[str]:
    held = await _totals(settings)
    wrong = {account for account in held.keys() | expected.keys() if held.get(account, 0) != expected.get(account, 0)}
    return [f"{account} holds {held.get(account, 0)} lots, but its fills add up to {expected.get(account, 0)}" for account in sorted(wrong)]
