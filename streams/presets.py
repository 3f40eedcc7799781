"""Named parameter sets to start from: what each changes of the defaults, after whom, and what of them cannot be said in our parameters.

Each is a file of `parameter_presets`, where the source of every number stands beside it.
`python -m streams.presets FILE...` renews their table in those files; without a file it prints it.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, Final

import msgspec
from msgspec import Struct

from engine.parameters import Parameters, parse_parameters
from streams.documents import MadeTable, as_table, as_written, run

PRESETS: Final = ("default", "conservative", "span16", "derive_pmrm2", "deribit_pm")


class PresetNotKnown(ValueError):
    """A name that no preset has; the text names those that there are."""


class Preset(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`parameters` is what differs from the defaults; a set sent from it holds that, and names no preset."""

    about: str
    not_expressed: list[str]
    parameters: dict[str, Any]


@cache
def preset(name: str) -> Preset:
    """The preset of this name. Raises PresetNotKnown."""
    if name not in PRESETS:
        raise PresetNotKnown(f"no preset is called {name!r}; there are {', '.join(PRESETS)}")
    text = (files("streams") / "parameter_presets" / f"{name}.toml").read_text()
    return msgspec.convert(tomllib.loads(text), Preset)


def whole(changes: dict[str, Any]) -> Parameters:
    """The validated set of changes that are known to be in order."""
    parsed = parse_parameters(changes)
    assert isinstance(parsed, Parameters), parsed
    return parsed


def laid_over(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`changes` over `base`, tables within them too; neither is changed. What is no table replaces what was there."""
    result = dict(base)
    for key, value in changes.items():
        before = result.get(key)
        result[key] = laid_over(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return result


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"classes.alt.scan_cap": 0.7, ...}: every value by its dotted key, in order."""
    values: dict[str, Any] = {}
    for key, value in content.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return values


def presets_table() -> str:
    """The presets as a table in Markdown."""
    rows = []
    for name in PRESETS:
        one = preset(name)
        changes = ", ".join(f"`{key}` {as_written(value)}" for key, value in flat(one.parameters).items())
        rows.append([f"`{name}`", one.about, changes, "; ".join(one.not_expressed)])
    return as_table(["preset", "what it is", "what it changes", "what it cannot say"], rows)


PRESETS_TABLE = MadeTable("presets", "streams.presets", presets_table)

if __name__ == "__main__":
    run(PRESETS_TABLE)
