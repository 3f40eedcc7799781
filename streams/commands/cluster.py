"""`plimsoll kafka ...` and `plimsoll topics ...`: a broker on this machine, and the topics of a cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.commands.common import FOUND_WANTING, SettingsFile, fail, on_topics, settings_of, specs_of

if TYPE_CHECKING:
    from streams.settings import Settings

kafka = typer.Typer(help="A real Kafka broker on this machine, for trying things out and for tests.", no_args_is_help=True)
topics = typer.Typer(help="The topics that Plimsoll needs on a cluster.", no_args_is_help=True)

DataFolder = Annotated[Path | None, typer.Option("--data-dir", help="The broker's folder; .kafka/data in the project by default.")]


@kafka.command("fetch")
def kafka_fetch() -> None:
    """Fetch the broker's archives, unless they are there; the only step that needs a network."""
    from streams.kafka_jars import KAFKA_VERSION, JarsError, jars_folder

    try:
        typer.echo(f"Kafka {KAFKA_VERSION} is in {jars_folder()}")
    except JarsError as error:
        fail(error)


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
        fail(error)
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

    settings = settings_of(settings_file)
    created = on_topics(settings, create_topics)
    typer.echo("\n".join([*(f"created {name}" for name in created), f"{len(created)} topics created."]))
    _check(settings)


@topics.command("check")
def topics_check(settings_file: SettingsFile = None) -> None:
    """Say what is wrong with the cluster's topics, and what to do; exit code 1 where something is."""
    _check(settings_of(settings_file))


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
    settings = settings_of(settings_file)
    there = {state.name: state for state in on_topics(settings, describe_topics)}
    table = Table("topic", "partitions", "replicas", "cleanup", "there")
    for spec in specs_of(settings):
        name = prefixed(settings.topic_prefix, spec.name)
        state = there.get(name)
        found = "no" if state is None else "yes" if state.partitions == spec.partitions else f"with {state.partitions} partitions"
        table.add_row(name, str(spec.partitions), str(spec.replication), spec.config["cleanup.policy"], found)
    Console().print(table)


def _check(settings: Settings) -> None:
    from streams.topics_admin import check_topics

    faults = on_topics(settings, check_topics)
    if faults:
        typer.echo("\n".join(str(fault) for fault in faults))
        raise typer.Exit(FOUND_WANTING)
    typer.echo(f"All {len(specs_of(settings))} topics are as they must be.")
