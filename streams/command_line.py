"""The `plimsoll` command: thin commands, each importing what it runs when it runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer

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

DataFolder = Annotated[Path | None, typer.Option("--data-dir", help="The broker's folder; .kafka/data in the project by default.")]
SettingsFile = Annotated[Path | None, typer.Option("--settings", help="A TOML file; PLIMSOLL_* variables go over it.", dir_okay=False)]


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


if __name__ == "__main__":
    app()
