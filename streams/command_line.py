"""The `plimsoll` command: thin commands, each importing what it runs when it runs."""

from __future__ import annotations

import json
import logging
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, get_args

import typer

from streams.commands import backtest, cluster, looking, margin, models, operator, parameters
from streams.commands.common import FAULT, FOUND_WANTING, LOG_FORMAT, SettingsFile, settings_of

__all__ = ["FAULT", "FOUND_WANTING", "app"]

app = typer.Typer(
    name="plimsoll",
    help="Continuous cross-venue margin and liquidation monitor for crypto derivatives, on Kafka.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # settings hold secrets
)
app.add_typer(cluster.kafka, name="kafka")
app.add_typer(cluster.topics, name="topics")
app.add_typer(parameters.parameters, name="parameters")


class DemoScenario(StrEnum):
    A = "A"
    B = "B"


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
    settings = settings_of(settings_file)
    from streams.worker import run_worker

    logging.basicConfig(level=settings.log_level, format=LOG_FORMAT, stream=sys.stderr)
    run_worker(settings)


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


app.command()(backtest.backtest)
app.command()(looking.console)
app.command()(looking.doctor)
app.command()(looking.top)
app.command()(looking.tail)
app.command()(looking.replay)
app.command()(operator.mode)
app.command()(operator.freeze)
app.command()(operator.unfreeze)
app.command()(operator.quarantine)
app.command()(operator.guardians)
app.command()(margin.margin)
app.command()(models.models)

if __name__ == "__main__":
    app()
