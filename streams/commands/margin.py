"""One portfolio's margin, offline: no cluster, no settings, the engine alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.commands.common import FOUND_WANTING, fail

if TYPE_CHECKING:
    from streams.parameters import ParameterSet
    from streams.portfolio_book import PortfolioBook


def margin(
    portfolio: Annotated[Path | None, typer.Argument(help="JSON: what exists, marks, positions (docs/margin.md).", dir_okay=False)] = None,
    parameters: Annotated[Path | None, typer.Option(help="A set file, as `plimsoll parameters check` reads it.", dir_okay=False)] = None,
    preset: Annotated[str | None, typer.Option(metavar="NAME", help="Instead: one of `plimsoll parameters presets`.")] = None,
    venue: Annotated[
        str | None, typer.Option(metavar="NAME", help="By this venue's own rule, which the file names, on its leg alone.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The whole report, for programs.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schemas of the file and of the report instead.")] = False,
) -> None:
    """Compute one portfolio's margin from a file, with every term of it; exit code 1 where the file is not in order."""
    if schema:
        from streams.margin_models import report_schema
        from streams.portfolio import portfolio_schema

        typer.echo(json.dumps({"portfolio": portfolio_schema(), "report": report_schema()}, indent=2))
        return
    if portfolio is None:
        fail(ValueError("say which portfolio: plimsoll margin PORTFOLIO.json; --schema prints its form"))
    if parameters is not None and preset is not None:
        fail(ValueError("say once by what: --parameters FILE, which may name a preset, or --preset NAME"))

    from streams.margin_models import portfolio_margin, venue_margin
    from streams.portfolio import PortfolioFault
    from streams.venue_margin import LegFault

    try:
        book = _book(portfolio, parameters, preset)
        report = portfolio_margin(book) if venue is None else venue_margin(book, venue)
    except (PortfolioFault, LegFault) as fault:
        fail(fault, FOUND_WANTING)
    if as_json:
        from streams.messages import encode

        typer.echo(encode(report))
        return
    from rich.console import Console

    from streams.margin_picture import picture

    Console().print(picture(report))


def _book(portfolio: Path, file: Path | None, preset_name: str | None) -> PortfolioBook:
    from streams.portfolio import read_portfolio
    from streams.portfolio_book import book_of
    from streams.presets import whole

    by = _set(file, preset_name or "default")
    try:
        read = read_portfolio(portfolio)
    except OSError as error:
        fail(ValueError(f"{portfolio} cannot be read: {error.strerror}"))
    return book_of(read, by.version, by.parameters, whole(by.parameters), by.preset)


def _set(file: Path | None, preset_name: str) -> ParameterSet:
    from streams.parameters import ParameterSet, ParametersFault, read_parameters
    from streams.presets import PresetNotKnown, preset

    try:
        return ParameterSet(preset_name, preset(preset_name).parameters, preset_name) if file is None else read_parameters(file)
    except PresetNotKnown as error:
        fail(error)
    except ParametersFault as fault:
        fail(fault, FOUND_WANTING)
