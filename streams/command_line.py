"""The `plimsoll` command: thin commands, each importing what it runs when it runs."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar, get_args

import typer
from aiokafka.errors import KafkaError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from streams.messages import TopicSpec
    from streams.settings import Settings

T = TypeVar("T")

app = typer.Typer(
    name="plimsoll",
    help="Continuous cross-venue margin and liquidation monitor for crypto derivatives, on Kafka.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # settings hold secrets
)
kafka = typer.Typer(help="A real Kafka broker on this machine, for trying things out and for tests.", no_args_is_help=True)
topics = typer.Typer(help="The topics that Plimsoll needs on a cluster.", no_args_is_help=True)
app.add_typer(kafka, name="kafka")
app.add_typer(topics, name="topics")

FAULT, FOUND_WANTING = 2, 1  # exit codes: the command could not run; it ran, and what it looked at is not right

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

DataFolder = Annotated[Path | None, typer.Option("--data-dir", help="The broker's folder; .kafka/data in the project by default.")]
SettingsFile = Annotated[Path | None, typer.Option("--settings", help="A TOML file; PLIMSOLL_* variables go over it.", dir_okay=False)]


class Mode(StrEnum):
    OBSERVE = "observe"
    PUBLISH = "publish"


class DemoScenario(StrEnum):
    A = "A"
    B = "B"


Account = Annotated[str | None, typer.Option("--account", help="Only this account's orders.")]
Venue = Annotated[str | None, typer.Option("--venue", help="Only orders for this venue.")]
All = Annotated[bool, typer.Option("--all", help="All orders.")]
By = Annotated[str, typer.Option(help="Who says so, your login name by default; kept in the log and in the audit.")]
Note = Annotated[str, typer.Option(help="Why; kept in the log and in the audit.")]


def _fail(error: Exception, code: int = FAULT) -> NoReturn:
    typer.echo(f"plimsoll: {error}", err=True)
    raise typer.Exit(code)


@kafka.command("fetch")
def kafka_fetch() -> None:
    """Fetch the broker's archives, unless they are there; the only step that needs a network."""
    from streams.kafka_jars import KAFKA_VERSION, JarsError, jars_folder

    try:
        typer.echo(f"Kafka {KAFKA_VERSION} is in {jars_folder()}")
    except JarsError as error:
        _fail(error)


@kafka.command("start")
def kafka_start(
    data_dir: DataFolder = None,
    port: Annotated[int | None, typer.Option(help="A free one by default; the last one again where possible.")] = None,
) -> None:
    """Start the broker and leave it running; where it runs already, say where."""
    from streams.broker import BrokerError, LocalBroker, default_folder
    from streams.kafka_jars import JarsError

    if os.environ.get("PLIMSOLL_BOOTSTRAP"):
        typer.echo(f"PLIMSOLL_BOOTSTRAP names {os.environ['PLIMSOLL_BOOTSTRAP']}, so none is started.")
        return
    broker = LocalBroker(data_dir or default_folder(), port=port, outlive=True)
    try:
        status = broker.start()
    except (BrokerError, JarsError) as error:
        _fail(error)
    typer.echo(f"Kafka {status.version} answers at {status.bootstrap} (process {status.pid}, log {broker.log})")
    typer.echo(f"export PLIMSOLL_BOOTSTRAP={status.bootstrap}")


@kafka.command("stop")
def kafka_stop(data_dir: DataFolder = None) -> None:
    """Stop the broker in good order; its data stay."""
    from streams.broker import LocalBroker, default_folder

    folder = data_dir or default_folder()
    typer.echo("Kafka has stopped." if LocalBroker(folder).stop() else f"No broker runs in {folder}.")


@kafka.command("status")
def kafka_status(data_dir: DataFolder = None) -> None:
    """Where the broker is, and which version; exit code 1 where none runs."""
    from streams.broker import LocalBroker, default_folder

    folder = data_dir or default_folder()
    status = LocalBroker(folder).status()
    if status is None:
        typer.echo(f"No broker runs in {folder}.")
        raise typer.Exit(FOUND_WANTING)
    typer.echo(f"Kafka {status.version} answers at {status.bootstrap} (process {status.pid}, data {folder})")


@topics.command("create")
def topics_create(settings_file: SettingsFile = None) -> None:
    """Create the topics that are missing, then check them all."""
    from streams.topics_admin import create_topics

    settings = _settings(settings_file)
    created = _on_cluster(settings, create_topics)
    typer.echo("\n".join([*(f"created {name}" for name in created), f"{len(created)} topics created."]))
    _check(settings)


@topics.command("check")
def topics_check(settings_file: SettingsFile = None) -> None:
    """Say what is wrong with the cluster's topics, and what to do; exit code 1 where something is."""
    _check(_settings(settings_file))


@topics.command("list")
def topics_list(
    markdown: Annotated[bool, typer.Option("--markdown", help="As the documents have them, asking no cluster.")] = False,
    settings_file: SettingsFile = None,
) -> None:
    """The topics that Plimsoll needs, and how the cluster has them."""
    from rich.console import Console
    from rich.table import Table

    from streams.messages import prefixed, topic_table
    from streams.topics_admin import describe_topics

    if markdown:
        typer.echo(topic_table(), nl=False)
        return
    settings = _settings(settings_file)
    there = {state.name: state for state in _on_cluster(settings, describe_topics)}
    table = Table("topic", "partitions", "replicas", "cleanup", "there")
    for spec in _specs(settings):
        name = prefixed(settings.topic_prefix, spec.name)
        state = there.get(name)
        found = "no" if state is None else "yes" if state.partitions == spec.partitions else f"with {state.partitions} partitions"
        table.add_row(name, str(spec.partitions), str(spec.replication), spec.config["cleanup.policy"], found)
    Console().print(table)


@app.command()
def schema(
    out: Annotated[
        Path | None, typer.Option(help="A folder for one file per topic; without it, all go to standard output.", file_okay=False)
    ] = None,
) -> None:
    """The JSON Schema of every public message, for clients in other languages."""
    from streams.messages import json_schemas

    schemas = json_schemas()
    if out is None:
        typer.echo(json.dumps(schemas, indent=2))
        return
    out.mkdir(parents=True, exist_ok=True)
    for name, content in schemas.items():
        (out / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    typer.echo(f"{len(schemas)} schemas are in {out}")


@app.command()
def worker(settings_file: SettingsFile = None) -> None:
    """Run one worker: ingest, the machines of the partitions it gets, metrics. Start as many as there is work for."""
    settings = _settings(settings_file)
    from streams.worker import run_worker

    logging.basicConfig(level=settings.log_level, format=LOG_FORMAT, stream=sys.stderr)
    run_worker(settings)


@app.command()
def console(
    settings_file: SettingsFile = None,
    port: Annotated[int | None, typer.Option(help="Where the page is; metrics_port by default, or a free one where that is taken.")] = None,
) -> None:
    """Serve the console in a process of its own, for those who do not want it in their workers. Ctrl-C ends it."""
    from streams.console.alone import run_alone

    settings = _settings(settings_file)
    run_alone(settings if port is None else settings.model_copy(update={"metrics_port": port}))


@app.command()
def demo(
    scenario: Annotated[DemoScenario | None, typer.Option(help="A: USDe falls on one venue; B: on all. Both by default.")] = None,
    minutes: Annotated[int, typer.Option(min=1, max=120, help="How much of 20:30 to 22:30 UTC.")] = 120,
    accounts: Annotated[int | None, typer.Option(min=100, max=20_000, help="2,000 by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another one draws another population.")] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Keep broker and workers running afterwards.")] = False,
    out: Annotated[Path, typer.Option(file_okay=False)] = Path("out/demo"),
) -> None:
    """The crash of 10 October 2025 through a real broker, twice; writes a report and a summary."""
    from streams.demo.population import ACCOUNTS, SEED
    from streams.demo.run import main
    from streams.demo.timeline import Scenario

    code = main(
        scenario=next((name for name in get_args(Scenario) if name == scenario), None),
        minutes=minutes,
        serve=serve,
        accounts=ACCOUNTS if accounts is None else accounts,
        seed=SEED if seed is None else seed,
        out=out,
    )
    raise typer.Exit(code)


@app.command()
def replay(
    settings_file: SettingsFile = None,
    ledger: Annotated[bool, typer.Option("--ledger", help="Read the ledgers, compute what must have come out, and compare.")] = False,
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition of the books' ledger.")] = None,
    all_cuts: Annotated[bool, typer.Option("--all-cuts", help="Restore every committed cut, not only some of them.")] = False,
) -> None:
    """Put a live run to the test: compute it again offline, with the engine alone; exit code 1 at any difference."""
    if not ledger:
        _fail(ValueError("say what to replay: plimsoll replay --ledger"))
    settings = _settings(settings_file)
    from streams.replay import replay_ledger

    report = _reach(settings, replay_ledger(settings, partition=partition, all_cuts_restored=all_cuts))
    typer.echo(f"{report.events} events in {report.frames} frames ask for {report.orders} orders; {report.distinct} orders were published")
    typer.echo(f"({report.published} times, {report.repeated} more than once, {report.conflicting} with two contents).")
    typer.echo(f"{report.cuts_checked} cuts checked, {report.cuts_restored} of them restored, in {report.seconds:.1f} s.")
    for difference in report.differences:
        typer.echo(f"difference: {difference}")
    typer.echo(f"{report.difference_count} differences.")
    if report.difference_count:
        raise typer.Exit(FOUND_WANTING)


@app.command()
def mode(
    to: Annotated[Mode, typer.Argument(help="observe: decide and show; publish: send orders too.")],
    by: By = "",
    note: Note = "",
    settings_file: SettingsFile = None,
) -> None:
    """Switch every book's mode, through the log."""
    from streams.operator import set_mode

    settings = _settings(settings_file)
    _send(settings, lambda: set_mode(settings, to.value, by=by, note=note))


@app.command()
def freeze(
    account: Account = None, venue: Venue = None, everything: All = False, by: By = "", note: Note = "", settings_file: SettingsFile = None
) -> None:
    """Stop orders for one account, one venue, or all, through the log."""
    _freeze(settings_file, account, venue, everything, frozen=True, by=by, note=note)


@app.command()
def unfreeze(
    account: Account = None, venue: Venue = None, everything: All = False, by: By = "", note: Note = "", settings_file: SettingsFile = None
) -> None:
    """Let orders go out again, where they were stopped for the same account, venue, or all."""
    _freeze(settings_file, account, venue, everything, frozen=False, by=by, note=note)


@app.command()
def guardians(
    index: Annotated[int, typer.Option(min=0, help="The set's index, higher than those before it.")],
    address: Annotated[list[str], typer.Option(metavar="HEX", help="A guardian's 20 bytes; repeat it for each of them, in their order.")],
    previous_expires: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%dT%H:%M:%SZ"], help="When the set before it ends (UTC); a day after it was replaced by default."),
    ] = None,
    by: Annotated[str, typer.Option(help="Who says so, your login name by default; kept in the log.")] = "",
    note: Annotated[str, typer.Option(help="Why; kept in the log.")] = "",
    settings_file: SettingsFile = None,
) -> None:
    """Announce a guardian set, through the log: from then on its signatures count."""
    from streams.operator import announce_guardians

    settings = _settings(settings_file)
    expires_ns = 0 if previous_expires is None else int(previous_expires.replace(tzinfo=UTC).timestamp()) * 1_000_000_000
    _send(settings, lambda: announce_guardians(settings, index, address, previous_expires_ns=expires_ns, by=by, note=note))


@app.command()
def parameters(
    file: Annotated[Path, typer.Argument(help="TOML: version, and what differs from the defaults.", dir_okay=False)],
    check: Annotated[bool, typer.Option("--check", help="Only look whether it is in order.")] = False,
    settings_file: SettingsFile = None,
) -> None:
    """Put a risk parameter set in force, through the log; exit code 1, and nothing sent, where something is wrong with it."""
    from streams.operator import set_parameters
    from streams.parameters import ParametersFault, read_parameters

    try:
        read = read_parameters(file)
    except ParametersFault as fault:
        _fail(fault, FOUND_WANTING)
    if check:
        typer.echo(f"{file} is in order: version {read.version}.")
        return
    settings = _settings(settings_file)
    _send(settings, lambda: set_parameters(settings, read.version, read.parameters))


def _settings(path: Path | None) -> Settings:
    from streams.settings import SettingsError, load_settings

    try:
        return load_settings(path)
    except SettingsError as error:
        _fail(error)


def _client_options(settings: Settings) -> dict[str, Any]:
    from streams.settings import SettingsError, kafka_client_options

    try:
        return kafka_client_options(settings)
    except SettingsError as error:
        _fail(error)


def _specs(settings: Settings) -> list[TopicSpec]:
    from streams.messages import topic_specs

    return topic_specs(
        ledger_partitions=settings.ledger_partitions,
        attest_partitions=settings.attest_partitions,
        venues=settings.venues,
        replication=settings.replication,
        min_isr=settings.min_isr,
        compaction_lag_ms=settings.compaction_lag_ms,
    )


def _on_cluster(settings: Settings, ask: Callable[[dict[str, Any], list[TopicSpec], str], Coroutine[Any, Any, T]]) -> T:
    from streams.topics_admin import TopicsError

    try:
        return _reach(settings, ask(_client_options(settings), _specs(settings), settings.topic_prefix))
    except TopicsError as error:
        _fail(error)


def _reach(settings: Settings, asked: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(asked)
    except (OSError, KafkaError) as error:
        _fail(RuntimeError(f"the cluster at {settings.bootstrap} cannot be used: {error}"))


def _check(settings: Settings) -> None:
    from streams.topics_admin import check_topics

    faults = _on_cluster(settings, check_topics)
    if faults:
        typer.echo("\n".join(str(fault) for fault in faults))
        raise typer.Exit(FOUND_WANTING)
    typer.echo(f"All {len(_specs(settings))} topics are as they must be.")


def _freeze(
    settings_file: Path | None, account: str | None, venue: str | None, everything: bool, *, frozen: bool, by: str, note: str
) -> None:
    from streams.operator import set_freeze

    if (account is not None) + (venue is not None) + everything != 1:
        _fail(ValueError("say for what, once: --account NAME, --venue NAME, or --all"))
    settings = _settings(settings_file)
    if account is not None:
        _send(settings, lambda: set_freeze(settings, "account", account, frozen=frozen, by=by, note=note))
    elif venue is not None:
        _send(settings, lambda: set_freeze(settings, "venue", venue, frozen=frozen, by=by, note=note))
    else:
        _send(settings, lambda: set_freeze(settings, "all", "", frozen=frozen, by=by, note=note))


def _send(settings: Settings, command: Callable[[], None]) -> None:
    from streams.operator import CommandRefused

    try:
        command()
    except CommandRefused as error:
        _fail(error)
    except (OSError, KafkaError) as error:
        _fail(RuntimeError(f"the cluster at {settings.bootstrap} cannot be used: {error}"))
    typer.echo("Sent; it holds from where each ledger has it.")


if __name__ == "__main__":
    app()
