"""One venue's leg of a portfolio by that venue's own rule: which rule the file names, the leg as the rule takes it, and what it finds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

import numpy as np
from msgspec import Struct

from engine.inspection import PositionReport, explain_account
from engine.market import Market
from engine.pricing import year_fraction
from engine.rules.adapters import ADAPTERS, CANNOT
from engine.rules.catalogue import modules
from engine.rules.faults import read
from engine.rules.interface import COLUMNS, DISTANCE, EQUITY_USD, INITIAL_USD, MAINTENANCE_USD, RuleInfo
from engine.rules.legs import Leg, Needs, VenueLegs
from engine.tables import CASH_VALUE
from streams.portfolio import Held, VenueRule
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


class _Chosen(NamedTuple):
    info: RuleInfo
    module: Any  # a module of engine.rules
    parameters: Struct


def venue_finding(held: PortfolioBook, venue: str) -> VenueFinding:
    """The leg at `venue` by the rule that the file names for it. Raises LegFault with everything that is missing."""
    chosen = _chosen(held, venue)
    rule = held.portfolio.rules[venue]
    leg = venue_legs(held, venue, rule)
    if not leg.legs:
        raise LegFault(f"the account holds nothing at {venue}")
    needs = Needs(rule.given)
    inputs, words = ADAPTERS[chosen.info.name](leg, chosen.parameters, needs)
    missing = needs.told()
    if missing:
        raise LegFault("\n  ".join([f"the leg at {venue} cannot be taken by {chosen.info.name}:", *missing]))
    terms = _as_kernel_takes(chosen)
    if hasattr(chosen.module, "require_indices"):
        chosen.module.require_indices(inputs, terms)
    out = np.empty((1, COLUMNS))
    chosen.module.margins(inputs, terms, out)
    row: list[float] = out[0].tolist()
    parts = chosen.module.parts(inputs, terms, 0)
    return VenueFinding(
        venue=venue,
        rule=chosen.info.name,
        version=chosen.info.version,
        title=chosen.info.title,
        published=chosen.info.published,
        sources=chosen.info.sources,
        instruments=[one.instrument for one in leg.legs],
        equity_usd=_known(row[EQUITY_USD]),
        initial_usd=_known(row[INITIAL_USD]),
        maintenance_usd=_known(row[MAINTENANCE_USD]),
        left_usd=_known(row[EQUITY_USD] - row[MAINTENANCE_USD]),
        distance=_known(row[DISTANCE]),
        measure=chosen.info.measure,
        parts=[Part(name=_named(name, words), value=_known(value)) for name, value in parts],
    )


def _chosen(held: PortfolioBook, venue: str) -> _Chosen:
    """The venue's rule and its parameters. Raises LegFault."""
    venues = [one.name for one in held.portfolio.venues]
    if venue not in venues:
        near = get_close_matches(venue, venues, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(venues)}"
        raise LegFault(f"no venue of the file is called {venue!r}; {hint}")
    rules = modules()
    said = held.portfolio.rules.get(venue)
    if said is None:
        raise LegFault(f"the file names no rule of {venue}: say rules.{venue}.rule, one of {', '.join(ADAPTERS)}, and its parameters")
    path = f"rules.{venue}"
    if said.rule not in rules:
        near = get_close_matches(said.rule, rules, n=1)
        raise LegFault(f"{path}.rule: no rule is called {said.rule!r}{f'; did you mean {near[0]}?' if near else ''}")
    if said.rule not in ADAPTERS:
        raise LegFault(f"{path}.rule: {said.rule} cannot take a leg of a portfolio: {CANNOT[said.rule]}")
    module: Any = rules[said.rule]
    parameters = read(module.Parameters, said.parameters)
    if isinstance(parameters, list):
        told = [f"{path}.parameters.{fault}" for fault in parameters]
        raise LegFault("\n  ".join([f"the parameters of {said.rule} are not in order:", *told]))
    return _Chosen(module.RULE, module, parameters)


def _as_kernel_takes(chosen: _Chosen) -> object:
    make = getattr(chosen.module, "terms", None) or chosen.module.parameter_arrays
    return make(chosen.parameters)


def venue_legs(held: PortfolioBook, venue: str, rule: VenueRule) -> VenueLegs:
    """All positions at one venue, as adapters take them."""
    report = explain_account(held.book, held.account)
    assert report is not None, "the book has just been given this account"
    market = held.book.market
    entered = {one.instrument: one for one in held.portfolio.positions if one.venue == venue}
    legs = [_leg(market, one, entered[one.instrument]) for one in report.positions if one.venue == venue]
    marks = {asset.name: market.mark(number) for number, asset in enumerate(market.universe.assets)}
    return VenueLegs(venue, legs, {name: mark for name, mark in marks.items() if mark is not None}, rule.given)


def _leg(market: Market, one: PositionReport, held: Held) -> Leg:
    i = market.universe.instrument_number(one.venue, one.instrument)
    assert i is not None, "the account holds it"
    terms, arrays = market.universe.instruments[i], market.universe.instrument_arrays
    mark = math.nan if one.mark_usd is None else one.mark_usd
    value = math.nan if one.value_usd is None else one.value_usd
    units, cash = one.quantity, one.cash_quote
    if one.contract in ("inverse_perpetual", "inverse_future"):
        units /= mark
    if one.contract == "loan":
        units *= float(market.values.debt_index[i])
    if one.contract == "spot" and one.asset == one.quote:  # dollars, said as cash
        units, cash = units + cash, 0.0
    return Leg(
        instrument=one.instrument,
        contract=one.contract,
        asset=one.asset,
        quote=one.quote,
        units=units,
        cash=cash,
        cash_usd=cash / float(arrays.cash_unit[i]) * float(market.tables.instrument_float[i, CASH_VALUE]) if cash else 0.0,
        mark_usd=mark,
        value_usd=value,
        strike_usd=terms.strike,
        is_call=terms.is_call,
        years=year_fraction(market.clock_ns, terms.expiry_ns) if terms.expiry_ns else 0.0,
        sigma=float(market.inputs.option_sigma[i]),
        entry_usd=math.nan if held.entry_price is None else held.entry_price,
    )


def _named(part: str, words: Mapping[str, str]) -> str:
    return _NUMBERED.sub(lambda found: words.get(found[0], found[0]), part)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
