"""Risk parameter sets: look at one, print one, list those to start from, put one in force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from streams.commands.common import FOUND_WANTING, SettingsFile, fail, settings_of
from streams.commands.operator import send as sent

if TYPE_CHECKING:
    from streams.parameter_check import ParameterCheck
    from streams.presets import Preset

parameters = typer.Typer(help="Risk parameter sets: check a file, show a set, put one in force.", no_args_is_help=True)

SetFile = Annotated[Path, typer.Argument(help="TOML: version, a preset to start from, and what differs from it.", dir_okay=False)]


@parameters.command()
def check(file: SetFile, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Say what is wrong, odd and different about a set, all at once; exit code 1 where something is wrong. Sends nothing."""
    from streams.parameters import ParametersFault, check_file

    try:
        version, found = check_file(file)
    except ParametersFault as fault:
        fail(fault, FOUND_WANTING)
    if as_json:
        typer.echo(json.dumps({"version": version, **msgspec.to_builtins(found)}, indent=2))
    else:
        _tell(file, version, found)
    if found.faults:
        raise typer.Exit(FOUND_WANTING)


def _tell(file: Path, version: str, found: ParameterCheck) -> None:
    from streams.wording import safe

    if found.faults:
        typer.echo("\n  ".join([f"{file} is not in order:", *(safe(str(fault)) for fault in found.faults)]))
        return
    base = "" if found.preset == "default" else f", on preset {found.preset}"
    typer.echo(f"{file} is in order: version {version}{base}.")
    typer.echo(f"{len(found.differences)} parameters are not the defaults.")
    width = max((len(one.key) for one in found.differences), default=0)
    for one in found.differences:
        of_preset = f", {found.preset} {one.preset}" if one.preset != one.default else ""
        typer.echo(f"  {one.key:{width}}  {one.value}  (default {one.default}{of_preset})")
    for text in found.warnings:
        typer.echo(f"warning: {text}")


@parameters.command()
def show(
    preset: Annotated[str, typer.Option(metavar="NAME", help="Which; `plimsoll parameters presets` lists them.")] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    as_toml: Annotated[bool, typer.Option("--toml", help="As a set file, which is how it comes by itself.")] = False,
) -> None:
    """Print a whole set, each parameter with what it is for."""
    from streams import parameters as sets
    from streams.presets import whole

    if as_json and as_toml:
        fail(ValueError("say once how: --json or --toml"))
    values = whole(_preset(preset).parameters)
    if as_json:
        typer.echo(json.dumps({"version": preset, **values.model_dump()}, indent=2))
    else:
        typer.echo(sets.as_toml(preset, values), nl=False)


@parameters.command()
def presets() -> None:
    """List the sets to start from: what each is, what it changes, and what it cannot say."""
    from streams.documents import as_written
    from streams.presets import PRESETS, flat

    for name in PRESETS:
        one = _preset(name)
        typer.echo(f"{name}: {one.about}")
        for key, value in flat(one.parameters).items():
            typer.echo(f"  {key} = {as_written(value)}")
        for text in one.not_expressed:
            typer.echo(f"  not expressed: {text}")


@parameters.command()
def send(file: SetFile, settings_file: SettingsFile = None) -> None:
    """Put a set in force, through the log; exit code 1, and nothing sent, where something is wrong with it."""
    from streams.operator import set_parameters
    from streams.parameters import ParametersFault, read_parameters

    try:
        read = read_parameters(file)
    except ParametersFault as fault:
        fail(fault, FOUND_WANTING)
    settings = settings_of(settings_file)
    sent(settings, lambda: set_parameters(settings, read.version, read.parameters))


def _preset(name: str) -> Preset:
    from streams.presets import PresetNotKnown, preset

    try:
        return preset(name)
    except PresetNotKnown as unknown:
        fail(unknown)
