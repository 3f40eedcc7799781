"""Tables in documents that are made from the code: they stand between markers, so that they can be renewed, and tested to be current."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class MadeTable(NamedTuple):
    """A table in Markdown. `python -m MODULE FILE...` renews it in those files; NAME tells its markers from others'."""

    name: str
    module: str
    make: Callable[[], str]

    @property
    def begin(self) -> str:
        return f"<!-- {self.name}: made by `python -m {self.module}`, not by hand -->"

    @property
    def end(self) -> str:
        return f"<!-- /{self.name} -->"


def renewed(text: str, table: MadeTable) -> str:
    """`text` with the table between its markers made anew. Raises ValueError where the markers are not there exactly once."""
    before, begin, rest = text.partition(table.begin)
    _, end, after = rest.partition(table.end)
    if not begin or not end or table.begin in after:
        raise ValueError(f"put the lines {table.begin!r} and {table.end!r} where the table of {table.name} should stand")
    return f"{before}{begin}\n\n{table.make()}\n{end}{after}"


def run(*tables: MadeTable) -> None:
    """The command of a module with made tables: renew all of them in each file named; without a file, print them."""
    if len(sys.argv) == 1:
        sys.stdout.write("\n".join(table.make() for table in tables))
    for path in map(Path, sys.argv[1:]):
        text = path.read_text()
        for table in tables:
            text = renewed(text, table)
        path.write_text(text)


def as_table(heads: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown; a bar within a cell is escaped."""
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("|" + "|".join(line) + "|" if line[0] == "---" else "| " + " | ".join(line) + " |" for line in lines) + "\n"


def allowed_values(schema: dict[str, Any]) -> str:
    """What a field may be, in words, from its JSON Schema with references resolved."""
    options = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    field = {**schema, **options[0]}
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    match field.get("type"):
        case "boolean":
            return "`true`, `false`"
        case "integer":
            return f"whole number{_range(field)}"
        case "number":
            return f"number{_range(field)}"
        case "array":
            if "prefixItems" in field:  # so many of one kind
                return f"list of {len(field['prefixItems'])}: {allowed_values(field['prefixItems'][0])}"
            most = f", at most {field['maxItems']}" if "maxItems" in field else ""
            return f"list of {allowed_values(field['items'])}{most}"
    if field.get("format") == "password":
        return "secret"
    if field.get("format") == "path":
        return "path"
    return f"text of the form `{field['pattern'].strip('^$')}`" if "pattern" in field else "text"


def _range(field: dict[str, Any]) -> str:
    low, above = field.get("minimum"), field.get("exclusiveMinimum")
    high, below = field.get("maximum"), field.get("exclusiveMaximum")
    words = (
        f"from {in_words(low)}" if low is not None else f"above {in_words(above)}" if above is not None else "",
        f"to {in_words(high)}" if high is not None else f"below {in_words(below)}" if below is not None else "",
    )
    said = (" " if high is not None else " and ").join(word for word in words if word)
    return f", {said}" if said else ""


def in_words(number: float) -> str:
    """A bound, as people write it: `10,000`, `0.05`, `2^62`."""
    if isinstance(number, int) and number >= 2**53 and number & (number - 1) == 0:
        return f"2^{number.bit_length() - 1}"
    return _grouped(number, ",")


def as_written(value: Any) -> str:
    """A default, as it could stand in a TOML file but for quotes: `10_000_000`, `0.05`, `true`; empty for nothing."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case int() | float():
            return _grouped(value, "_") if abs(value) >= 100_000 else _grouped(value, "")
        case list() | tuple():
            return ", ".join(map(str, value))
    return str(value)


def _grouped(number: float, separator: str) -> str:
    if isinstance(number, int) or (number.is_integer() and abs(number) < 1e9):
        return f"{int(number):{separator}}"
    return f"{number:g}".replace("e+", "e")
