"""What `plimsoll margin` prints of the example portfolios, as blocks in docs/margin.md.

`python -m streams.margin_examples FILE...` renews them in those files, in a checkout; without a file it prints them.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

from rich.console import Console

from streams.documents import MadeTable, run
from streams.margin_models import portfolio_margin, venue_margin
from streams.margin_picture import picture
from streams.portfolio import read_portfolio
from streams.portfolio_book import book_of
from streams.presets import preset, whole

EXAMPLES: Final = Path(__file__).resolve().parents[1] / "docs" / "examples"
WIDTH: Final = 125


def printed(example: str, by: str = "default", venue: str | None = None) -> str:
    """What the command prints of an example by a preset, or by a venue's rule, in a terminal without colours."""
    changes = preset(by).parameters
    book = book_of(read_portfolio(EXAMPLES / f"{example}.json"), by, changes, whole(changes), by)
    out = io.StringIO()
    Console(file=out, width=WIDTH, no_color=True, force_terminal=False).print(
        picture(portfolio_margin(book) if venue is None else venue_margin(book, venue))
    )
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _block(example: str, by: str = "default", venue: str | None = None) -> str:
    options = ("" if by == "default" else f" --preset {by}") + ("" if venue is None else f" --venue {venue}")
    return f"```console\n$ plimsoll margin docs/examples/{example}.json{options}\n{printed(example, by, venue)}```\n"


HEDGE_BLOCK = MadeTable("hedge", "streams.margin_examples", lambda: _block("cross-chain-hedge"))
POOL_BLOCK = MadeTable("pool", "streams.margin_examples", lambda: _block("cross-chain-hedge", venue="aave-v3-ethereum"))
OPTIONS_BLOCK = MadeTable("options", "streams.margin_examples", lambda: _block("options-book", "span16"))

if __name__ == "__main__":
    run(HEDGE_BLOCK, POOL_BLOCK, OPTIONS_BLOCK)
