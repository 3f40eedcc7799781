"""`plimsoll backtest`: whether the model keeps the promise that it makes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from streams.commands.common import fail


class EpisodeName(StrEnum):
    CRASH = "crash_2025_10"
    MILD = "mild_2025_06"
    DEPEG = "depeg_2023_03"


def backtest(
    episode: Annotated[list[EpisodeName] | None, typer.Option(help="One or more; all by default.")] = None,
    accounts: Annotated[int | None, typer.Option(min=8, max=20_000, help="Of each episode; 300 by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another one draws another population.")] = None,
    confidence: Annotated[
        float | None,
        typer.Option(min=0.5, max=0.999999, help="What requirements are held against; by default what their multiples promise."),
    ] = None,
    minutes: Annotated[int | None, typer.Option(min=1, help="Of each episode, from its start; all by default.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="A folder of reference data to read prices from, instead of those carried.", exists=True, file_okay=False),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="A file for all figures.", dir_okay=False)] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="A file for a page with plots.", dir_okay=False)] = None,
    docs: Annotated[
        list[Path] | None, typer.Option(help="Documents whose block of results is renewed.", exists=True, dir_okay=False)
    ] = None,
) -> None:
    """Three stressed markets: what accounts lost against what was required of them, who was called in time, what it is worth to adapt."""
    import orjson
    from rich.console import Console

    from streams.backtest.page import page
    from streams.backtest.report import markdown, show
    from streams.backtest.run import Options, as_data
    from streams.backtest.run import backtest as tested
    from streams.documents import MadeTable, renewed

    asked = Options(reference=data, confidence=confidence, minutes=minutes)
    if episode:
        asked = asked._replace(episodes=tuple(name.value for name in EpisodeName if name in episode))
    if accounts is not None:
        asked = asked._replace(accounts=accounts)
    if seed is not None:
        asked = asked._replace(seed=seed)
    console = Console()
    try:
        with console.status("Playing the episodes (about a minute) ..."):
            results = tested(asked)
    except (ImportError, OSError) as error:
        fail(error)
    show(console, results)
    if json_file is not None:
        _write(json_file, orjson.dumps(as_data(results), option=orjson.OPT_INDENT_2))
    if html_file is not None:
        _write(html_file, page(results).encode())
    for document in docs or ():
        made = MadeTable("backtest", "streams.command_line backtest --docs", lambda: markdown(results))
        document.write_text(renewed(document.read_text(), made))


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
