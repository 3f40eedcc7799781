"""Whether a `plimsoll` command that is written somewhere can be given as it stands there."""

from __future__ import annotations

import shlex
from typing import Any

import typer
from typer.core import TyperGroup

from streams.command_line import app


def parse_command(line: str) -> None:
    """Parse a line without its leading `plimsoll`, running nothing. Raises for a command, an argument or an option that is not there."""
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)
    while isinstance(command, TyperGroup):
        assert words, line
        assert words[0] in command.commands, line
        command = command.commands[words.pop(0)]
    command.make_context(line, words)
