"""What every venue's rule says of itself; the form that all of them have.

A module of this package is one venue's rule. From top to bottom it has

- a docstring: what the venue computes, and where each formula is published;
- `RULE`, and one more `RuleInfo` for each part whose numbers have other evidence (a close factor, say);
- a frozen Struct of the venue's parameters with bounds, which refuses keys that it does not know, and `faults(...)`, which names
  everything that is wrong with a set at once;
- `Inputs`, arrays for many accounts at once: `*_start` (accounts + 1,) are offsets into the arrays of legs, so that legs
  `start[a]` to `start[a + 1]` are those of account `a`; the docstring gives shapes and units;
- `margins(inputs, parameters, out)`, a kernel without allocation by account, which fills `out` (accounts, 4), columns below;
- what may be liquidated, and how much of it;
- `parts(inputs, parameters, account)`, the same number for one account as (name, USD) in the venue's own words.

NaN in gives NaN out: what cannot be valued is never healthy.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

EQUITY_USD: Final = 0  # marked to market, without weights
INITIAL_USD: Final = 1  # equity less this is what the venue lets the account still use
MAINTENANCE_USD: Final = 2  # equity less this is what is left until the venue liquidates
DISTANCE: Final = 3  # measure "margin": (equity - maintenance) / gross notional; "health_factor": the fraction by which collateral may fall
COLUMNS: Final = 4

LISTED_MAX: Final = 512  # markets, tokens or the like of a set: an engine has no more assets (engine.tables.ASSETS_MAX)

ListedName = Annotated[str, Meta(min_length=1, max_length=64)]


class RuleInfo(Struct, frozen=True):
    """What a rule is, where it comes from, and what it was checked against."""

    name: str
    version: str  # of the venue's rule
    title: str
    sources: tuple[str, ...]  # addresses or names of the documents that give the formula
    measure: Literal["margin", "health_factor"]  # equity, initial and maintenance in USD; or a ratio of which they are made
    published: bool  # checked against numbers that the venue or its client has published
    cases: str  # what those are
