"""Runs the demo: a broker, two workers, the crash played through them once or twice, and what came of it."""

import asyncio
import logging
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from engine.inputs import Attestation, Message, OraclePrice, SetMode
from engine.reasons import State
from streams.broker import Cluster, cluster
from streams.clients import Clients
from streams.demo.attestations import DEPOSIT_AT_S, FORGED_AT_S, GENUINE_AT_S, HELD, REPLAYED_AT_S, Bridge, guardian_set
from streams.demo.definitions import SLOW_CHAIN, VENUES, definitions, instruments, parameters
from streams.demo.facts import MINUTES, SECOND_NS, START_NS
from streams.demo.offline import judge
from streams.demo.player import Player, VenueService
from streams.demo.population import ACCOUNTS, SEED, Opening, messages, population
from streams.demo.promises import broken_promises
from streams.demo.recorder import Recorder, topics_listened_to
from streams.demo.report import page
from streams.demo.seen import MOMENTS_S
from streams.demo.summary import Run, iso, show, summary
from streams.demo.timeline import Event, Scenario, timeline
from streams.demo.venue import Venue
from streams.messages import topic_specs
from streams.settings import Settings, kafka_client_options, load_settings
from streams.topics_admin import create_topics

WORKERS = 2
LEDGER_PARTITIONS = 2
ATTEST_PARTITIONS = 1
TICK_S = 15  # of event time
PAUSE_S = 30  # of event time between two waits for all decisions
CUT_INTERVAL_MS = 100
END_PATIENCE_S = 20.0  # how long a worker may take to seal its cuts
SERVE_EVERY_S = 5.0
LOOK_S = 0.2  # between two looks into a worker's log
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


Advance = Callable[[int, list[int], int], None]


class Options(NamedTuple):
    """What was asked for: minute `begin` to minute `minutes` after 20:30 UTC, and `accounts` drawn from `seed` beside the named ones.

    Who opens in the middle of the crash holds what was healthy at 20:30.
    """

    scenarios: tuple[Scenario, ...] = ("A", "B")
    minutes: int = MINUTES
    serve: bool = False
    accounts: int = ACCOUNTS
    seed: int = SEED
    out: Path = Path("out/demo")
    begin: int = 0


def main(
    *,
    scenario: Scenario | None = None,
    minutes: int = MINUTES,
    serve: bool = False,
    accounts: int = ACCOUNTS,
    seed: int = SEED,
    out: Path = Path("out/demo"),
) -> int:
    """The whole demo, as `plimsoll demo` runs it. Returns 0 if every check held, 1 if one did not, 130 or 143 after Ctrl-C or SIGTERM."""
    console = Console()
    (out / "logs").mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=out / "logs" / "demo.log", filemode="w", level=logging.WARNING, format=LOG_FORMAT)
    options = Options((scenario,) if scenario else ("A", "B"), minutes, serve, accounts, seed, out)
    try:
        runs = perform(options, console)
    except (KeyboardInterrupt, asyncio.CancelledError) as end:
        console.print("Stopped; everything that was started has ended.")
        return 130 if isinstance(end, KeyboardInterrupt) else 143
    broken = [f"Run {run.scenario}: {promise}" for run in runs for promise in broken_promises(run)]
    for line in broken:
        console.print(f"[bold red]{line}[/bold red]")
    return 1 if broken else 0


def perform(options: Options, console: Console) -> list[Run]:
    """Run what was asked for, on a broker of its own where none is named. However it ends, every process that it started has ended then."""
    console.print("Starting a broker ...", style="dim")
    with cluster() as found:
        console.print(f"Kafka {found.version} at {found.bootstrap} ({found.kind})", style="dim")
        return perform_on(found, options, console)


def perform_on(found: Cluster, options: Options, console: Console) -> list[Run]:
    """The same on a cluster that is there."""
    (options.out / "logs").mkdir(parents=True, exist_ok=True)
    return asyncio.run(_runs(found, options, console))


async def _runs(found: Cluster, options: Options, console: Console) -> list[Run]:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    runs: list[Run] = []
    openings = population(options.seed, options.accounts)
    for scenario in options.scenarios:
        last = scenario == options.scenarios[-1]
        runs.append(await _run(found, scenario, openings, options, console, runs, serve=options.serve and last))
    return runs


async def _run(
    found: Cluster, scenario: Scenario, openings: list[Opening], options: Options, console: Console, before: list[Run], *, serve: bool
) -> Run:
    settings = run_settings(found.bootstrap, scenario)
    specs = topic_specs(
        ledger_partitions=settings.ledger_partitions,
        attest_partitions=settings.attest_partitions,
        venues=settings.venues,
        replication=settings.replication,
        min_isr=settings.min_isr,
    )
    await create_topics(kafka_client_options(settings), specs, settings.topic_prefix)
    clients = Clients(settings)
    listened = topics_listened_to(list(settings.venues))
    recorder = Recorder(clients, {spec.name: spec.partitions for spec in specs if spec.name in listened})
    await _compiled(console)
    started = time.monotonic()
    async with (
        _workers(settings, options.out / "logs", scenario) as logs,
        _stage(clients, recorder, settings) as stage,
        _telling(console, scenario, logs if settings.console else []),
    ):
        await _open(stage, openings, START_NS + options.begin * 60 * SECOND_NS)
        with playing(console, scenario, options.minutes) as advance:
            await _play(stage, scenario, options, advance)
        await recorder.catch_up()
        wall_s = time.monotonic() - started
        run = await _judged(settings, scenario, recorder, openings, wall_s, options, console)
        _write(found, [*before, run], options, console)
        if serve:
            await _serve(stage, scenario, options.minutes, settings, [_described(log) for log in logs], console)
    return run


class Stage(NamedTuple):
    """What plays a run."""

    player: Player
    venue: Venue
    service: VenueService
    bridge: Bridge
    recorder: Recorder


@asynccontextmanager
async def _stage(clients: Clients, recorder: Recorder, settings: Settings) -> AsyncIterator[Stage]:
    player = Player(clients, recorder)
    venue = Venue(instruments())
    service = VenueService(clients, player, venue, settings.venues, settings.ledger_partitions)
    async with AsyncExitStack() as ends:  # in reverse order, each whatever the others do
        for part in (recorder, player, service):
            ends.push_async_callback(part.stop)
            await part.start()
        yield Stage(player, venue, service, Bridge(), recorder)


def run_settings(bootstrap: str, scenario: str) -> Settings:
    """Settings of one run: topics and group of its own, so that runs don't meet on a shared cluster."""
    name = f"demo-{scenario.lower()}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.getpid()}"
    return load_settings(
        bootstrap=bootstrap,
        topic_prefix=f"{name}.",
        group=name,
        ledger_partitions=LEDGER_PARTITIONS,
        attest_partitions=ATTEST_PARTITIONS,
        venues=tuple(venue for venue, (_, _, vault) in VENUES.items() if not vault),
        ticker="external",
        cut_interval_ms=CUT_INTERVAL_MS,
        metrics_port=0,
    )


# ---- playing ----------------------------------------------------------------------------------------------------------------------------


async def _open(stage: Stage, openings: list[Opening], begin_ns: int) -> None:
    """Tell what exists, then bring all accounts in, before there is any price: until then they are UNKNOWN(no_mark)."""
    player = stage.player
    await player.tick(begin_ns)
    await player.decided(begin_ns)
    await player.send([parameters(), *definitions(), guardian_set()])
    await player.framed()
    await player.tick(begin_ns + SECOND_NS // 2)
    await player.decided(begin_ns + SECOND_NS // 2)
    credits_in = [
        stage.bridge.credit(opening.account, chain, asset, lots, START_NS)
        for opening in openings
        for chain, asset, lots in opening.attested
    ]
    opened = list(messages(openings))
    for message in opened:
        stage.venue.observe(message)
    await player.send([*credits_in, *opened])
    await player.framed()
    await player.credited(len(credits_in))


async def _play(stage: Stage, scenario: Scenario, options: Options, advance: Advance) -> None:
    """Market data up to a moment, then the clock to that moment; every 30 s a pause until all is decided and every order answered."""
    player, recording = stage.player, stage.recorder.recording
    begin = options.begin * 60
    events = iter([*(event for event in timeline(scenario, options.minutes) if event.time_ns >= START_NS + begin * SECOND_NS), None])
    extras = sorted((extra for extra in _attestations(stage.bridge) if extra[0] > START_NS + begin * SECOND_NS), key=lambda extra: extra[0])
    event = next(events)
    for second in (begin + 1, *range(begin + TICK_S, options.minutes * 60 + 1, TICK_S)):
        now_ns = START_NS + second * SECOND_NS
        first = second == begin + 1
        due: list[Message] = []
        while event is not None and event.time_ns <= now_ns:
            due.append(event.message)
            event = next(events)
        while extras and extras[0][0] <= now_ns:
            due.append(extras.pop(0)[1])
        for message in due:
            stage.venue.observe(message)
        if first:  # a price without its depth would be valued at the floor of depth
            await player.send([message for message in due if not isinstance(message, OraclePrice)])
            await player.framed()
            due = [message for message in due if isinstance(message, OraclePrice)]
        await player.send(due)
        await stage.service.advance(now_ns)
        await player.framed()
        await player.tick(now_ns)
        if first or second % PAUSE_S == 0:
            await player.decided(now_ns)
            await stage.service.answered()
            await player.framed()
            await stage.recorder.catch_up()  # a cut is seen by its rows: what it says elsewhere may come a moment later
            advance(second, recording.note_states(now_ns), len(recording.orders))
        if second in MOMENTS_S:
            await stage.recorder.catch_up()
            recording.note_requirements(second)
        if first:
            recording.note_requirements(begin)
            await player.send([SetMode(v=1, by="demo", note="the accounts are in", time_ns=now_ns, mode="publish")])


def _attestations(bridge: Bridge) -> Iterator[tuple[int, Attestation]]:
    """(when it comes in, message): one forged, one replayed, and a deposit on the slow chain, which is held until the chain is back."""

    def at(second: int) -> int:
        return START_NS + second * SECOND_NS

    genuine = bridge.credit("named-18-cross_chain_hedger", "ethereum", "BTC", 1_000, at(GENUINE_AT_S - 10))
    yield at(GENUINE_AT_S), genuine
    yield at(REPLAYED_AT_S), genuine
    yield at(FORGED_AT_S), bridge.forged("named-19-cross_chain_hedger", "solana", "SOL", 1_000_000, at(FORGED_AT_S - 10))
    yield at(DEPOSIT_AT_S), bridge.credit(HELD, SLOW_CHAIN, "ETH", 2_000, at(DEPOSIT_AT_S - 10))


async def _judged(
    settings: Settings,
    scenario: Scenario,
    recorder: Recorder,
    openings: list[Opening],
    wall_s: float,
    options: Options,
    console: Console,
) -> Run:
    with console.status(f"Run {scenario}: computing it a second time from its ledgers ..."):
        judgement = await judge(settings)
    return Run(scenario, recorder.recording, *judgement, len(openings), wall_s, options.begin * 60, options.minutes * 60)


async def _serve(stage: Stage, scenario: Scenario, minutes: int, settings: Settings, addresses: list[str], console: Console) -> None:
    """Go on after the last price, in real time: each source repeats its last price, so that marks stay known, until Ctrl-C."""
    console.print(f"\nServing run {scenario}: Kafka at {settings.bootstrap}, topics {settings.topic_prefix}*")
    for address in addresses:
        console.print(f"  {address}", soft_wrap=True)
    console.print("Each source repeats its last price. Ctrl-C ends everything.")
    last: dict[tuple[str, str], Event] = {}
    for event in timeline(scenario, minutes):
        message = event.message
        key = (event.topic, repr([getattr(message, name, None) for name in ("asset", "source", "underlying", "expiry_ns", "chain")]))
        if event.topic in ("oracle.prices", "market.depth", "market.volatility", "chain.heartbeats"):
            last[key] = event
    now_ns = START_NS + minutes * 60 * SECOND_NS
    while True:
        await asyncio.sleep(SERVE_EVERY_S)
        now_ns += int(SERVE_EVERY_S * SECOND_NS)
        moved = [_moved(event.message, now_ns) for event in last.values()]
        for message in moved:
            stage.venue.observe(message)
        await stage.player.send(moved)
        await stage.service.advance(now_ns)
        await stage.player.framed()
        await stage.player.tick(now_ns)


def _moved(message: Message, now_ns: int) -> Message:
    """The same message at another time; a repeated price is synthetic."""
    import msgspec

    fields = type(message).__struct_fields__
    changes: dict[str, Any] = {
        name: now_ns for name in ("publish_time_ns", "time_ns", "observed_time_ns", "block_time_ns") if name in fields
    }
    if isinstance(message, OraclePrice):
        changes["synthetic"] = True
    return msgspec.structs.replace(message, **changes)


# ---- processes and output ---------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _workers(settings: Settings, logs: Path, scenario: Scenario) -> AsyncIterator[list[Path]]:
    """Two workers in processes of their own, ended by their process ids however this ends. Yields their logs."""
    processes: list[asyncio.subprocess.Process] = []
    logged: list[Path] = []
    try:
        for number in range(1, WORKERS + 1):
            log = logs / f"worker-{scenario}-{number}.log"
            with log.open("wb") as output:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "streams.worker",
                    env=_environment(settings),
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # Ctrl-C is for the demo, which then ends its workers in good order
                )
            processes.append(process)
            logged.append(log)
        yield logged
    finally:
        await asyncio.shield(asyncio.gather(*(_end(process) for process in processes)))


@asynccontextmanager
async def _telling(console: Console, scenario: Scenario, logs: list[Path]) -> AsyncIterator[None]:
    """Say where the console is as soon as a worker serves it; what it shows comes and goes with the run."""

    async def tell() -> None:
        for log in logs[:1]:
            while (address := _address(log)) is None:  # noqa: ASYNC110 - a look now and then at what another process writes
                await asyncio.sleep(LOOK_S)
            console.print(f"Run {scenario}: the console is at {address}/ while it lasts", soft_wrap=True)

    task = asyncio.create_task(tell(), name="where the console is")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _address(log: Path) -> str | None:
    """Where a worker's pages are, once it has said so: its port is any free one."""
    found = re.search(r"metrics and health at (http://\S+:\d+)", log.read_text(errors="replace"))
    return found[1] if found else None


def _described(log: Path) -> str:
    """Where a worker can be looked at."""
    return f"{log.stem}: console, metrics and health at {_address(log) or 'an address in its log'}, log {log}"


def _environment(settings: Settings) -> dict[str, str]:
    """The demo's settings for a worker, over whatever the environment says about the cluster."""
    given = {
        name: getattr(settings, name)
        for name in ("bootstrap", "topic_prefix", "group", "ledger_partitions", "attest_partitions", "ticker", "cut_interval_ms")
    }
    variables = {f"PLIMSOLL_{name.upper()}": str(value) for name, value in given.items()}
    variables |= {"PLIMSOLL_VENUES": ",".join(settings.venues), "PLIMSOLL_METRICS_PORT": "0"}
    return {**os.environ, **variables}


async def _compiled(console: Console) -> None:
    """Have the kernels in the cache before two workers need them at once; takes a second when they are."""
    with console.status("Compiling the engine's kernels (once, takes a minute) ..."):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "from engine.warm import warm; warm()")
        try:
            if await process.wait() != 0:
                raise RuntimeError("the engine's kernels cannot be compiled: the output above says why")
        finally:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), END_PATIENCE_S)
    except TimeoutError:
        process.kill()
        await process.wait()


class Playing(Progress):
    """The bar of a run, and below it how many accounts are in each state: on one line they would be cut at 80 columns."""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            yield Text(task.fields["states"])


@contextmanager
def playing(console: Console, scenario: Scenario, minutes: int) -> Iterator[Advance]:
    """Shows how far a run has got; yields what is to be told at each pause: second, accounts by state, orders."""
    columns = [
        TextColumn("run {task.fields[scenario]}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[clock]}  orders {task.fields[orders]}"),
        TimeElapsedColumn(),
    ]
    with Playing(*columns, console=console, refresh_per_second=4) as progress:
        task = progress.add_task("", total=minutes * 60, scenario=scenario, clock="20:30:00", states="", orders="0")

        def advance(second: int, counts: list[int], orders: int) -> None:
            shown = "  ".join(f"{state.name.lower()} {counts[state]:,}" for state in State if counts[state])
            clock = iso(START_NS + second * SECOND_NS)[11:19]
            progress.update(task, completed=second, clock=clock, states=shown, orders=f"{orders:,}")

        yield advance


def _write(found: Cluster, runs: list[Run], options: Options, console: Console) -> None:
    """After each run, so that an interrupted demo leaves what it has."""
    (options.out / "summary.json").write_bytes(orjson.dumps(summary(found, runs), option=orjson.OPT_INDENT_2))
    (options.out / "report.html").write_text(page(found, runs, options.minutes))
    if runs[-1].scenario == options.scenarios[-1]:
        show(console, found, runs)
        console.print(f"\n{options.out / 'report.html'} shows it with plots; {options.out / 'summary.json'} has the figures.")
