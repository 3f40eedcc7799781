"""One venue's leg of a portfolio by that venue's own rule: which rule the file names, the leg as the rule takes it, and what it finds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

import numpy as np
from msgspec import Struct

from engine.rules.adapters import ADAPTERS
from engine.rules.choice import Choice, margins, read_choice
from engine.rules.interface import DISTANCE, EQUITY_USD, INITIAL_USD, MAINTENANCE_USD
from engine.rules.legs import Given, VenueLegs
from engine.venue_legs import legs_at
from streams.portfolio import rule_of
from streams.portfolio_book import PortfolioBook

_NUMBERED: Final = re.compile(r"[a-z]+ \d+")  # "token 3" in a part's name


class LegFault(ValueError):
    """A venue whose number cannot be had from the file; the text says everything that is missing."""


class Part(Struct, frozen=True, kw_only=True):
    """One number in the venue's words: USD, but for ratios; None where it cannot be valued or has no bound."""

    name: str
    value: float | None


class VenueFinding(Struct, frozen=True, kw_only=True):
    """What the venue makes of its leg. Numbers are None where a mark is not known; the distance also where nothing can be lost."""

    venue: str
    rule: str
    version: str
    title: str
    published: bool  # whether the rule was held against numbers that the venue published
    sources: tuple[str, ...]
    instruments: list[str]  # what it holds there
    equity_usd: float | None
    initial_usd: float | None
    maintenance_usd: float | None
    left_usd: float | None  # equity less maintenance: below 0 the venue liquidates
    distance: float | None  # that over gross notional; of Aave the fraction by which collateral may fall
    measure: str
    parts: list[Part]


def venue_finding(held: PortfolioBook, venue: str) -> VenueFinding:
    """The leg at `venue` by the rule that the file names for it. Raises LegFault with everything that is missing."""
    chosen, of_leg = _chosen(held, venue)
    legs = _legs(held, venue, chosen.given)
    if not legs.accounts:
        raise LegFault(f"the account holds nothing at {venue}")
    out, needs, adapted = margins(chosen, legs)
    missing = needs.told() if of_leg else needs.missing()
    if missing:
        raise LegFault("\n  ".join([f"the leg at {venue} cannot be taken by {chosen.info.name}:", *missing]))
    [one] = adapted
    row: list[float] = out[0].tolist()
    parts, words = chosen.module.parts(one.inputs, chosen.terms, 0), one.words()
    return VenueFinding(
        venue=venue,
        rule=chosen.info.name,
        version=chosen.info.version,
        title=chosen.info.title,
        published=chosen.info.published,
        sources=chosen.info.sources,
        instruments=[legs.instruments[i] for i in legs.legs.instrument],
        equity_usd=_known(row[EQUITY_USD]),
        initial_usd=_known(row[INITIAL_USD]),
        maintenance_usd=_known(row[MAINTENANCE_USD]),
        left_usd=_known(row[EQUITY_USD] - row[MAINTENANCE_USD]),
        distance=_known(row[DISTANCE]),
        measure=chosen.info.measure,
        parts=[Part(name=_named(name, words), value=_known(value)) for name, value in parts],
    )


def _legs(held: PortfolioBook, venue: str, given: Given) -> VenueLegs:
    """What the account holds there, a batch of one or of none; a position has the entry price that the file says, and none by itself."""
    universe, book = held.book.market.universe, held.book
    number = universe.venue_number(venue)
    assert number is not None, "the file defines it"
    _, found = legs_at(number, np.array([book.accounts.numbers[held.account]]), book.accounts, book.market)
    said = {one.instrument: one.entry_price for one in held.portfolio.positions if one.venue == venue}
    entries = [said[found.instruments[i]] for i in found.legs.instrument]
    entry_usd = np.array([math.nan if entry is None else entry for entry in entries], np.float64)
    return found._replace(legs=found.legs._replace(entry_usd=entry_usd), given=given)


def _chosen(held: PortfolioBook, venue: str) -> tuple[Choice, bool]:
    """The venue's rule with its parameters, and whether it is said for this leg: a venue's definition is for all that anybody holds there.

    Raises LegFault.
    """
    venues = [one.name for one in held.portfolio.venues]
    if venue not in venues:
        near = get_close_matches(venue, venues, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(venues)}"
        raise LegFault(f"no venue of the file is called {venue!r}; {hint}")
    said = rule_of(held.portfolio, venue)
    if said is None:
        raise LegFault(f"the file names no rule of {venue}: say rules.{venue}.rule, one of {', '.join(ADAPTERS)}, and its parameters")
    (path, rule), of_leg = said, venue in held.portfolio.rules
    choice = read_choice(rule.rule, rule.parameters, rule.given)  # what is wrong with `given` is told with what the leg lacks
    if isinstance(choice, list):
        told = [f"{path}.{fault}" for fault in choice]
        raise LegFault("\n  ".join([f"the parameters of {rule.rule} are not in order:", *told] if rule.rule in ADAPTERS else told))
    return choice, of_leg


def _named(part: str, words: Mapping[str, str]) -> str:
    return _NUMBERED.sub(lambda found: words.get(found[0], found[0]), part)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
