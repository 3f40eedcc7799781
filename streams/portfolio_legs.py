"""What the account of a portfolio holds at one venue, as a venue's rule takes it (engine.rules.legs). A file has no open orders."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from engine.inspection import PositionReport, explain_account
from engine.market import Market
from engine.pricing import year_fraction
from engine.rules.legs import Given, Legs, VenueLegs
from engine.tables import CASH_VALUE, CONTRACTS
from streams.portfolio_book import PortfolioBook


class _Row(NamedTuple):
    """One leg: fields of `Legs`."""

    contract: int
    asset: int
    quote: int
    units: float
    cash: float
    cash_usd: float
    mark_usd: float
    value_usd: float
    strike_usd: float
    is_call: bool
    years: float
    sigma: float
    entry_usd: float


def legs_of_portfolio(held: PortfolioBook, venue: str, given: Given) -> VenueLegs:
    """A batch of one account; its instruments are those that it holds at `venue`, in the order of its positions."""
    report = explain_account(held.book, held.account)
    assert report is not None, "the book has just been given this account"
    market = held.book.market
    entry = {one.instrument: one.entry_price for one in held.portfolio.positions if one.venue == venue}
    here = [one for one in report.positions if one.venue == venue]
    numbers = {asset.name: number for number, asset in enumerate(market.universe.assets)}
    rows = [_row(market, numbers, one, entry[one.instrument]) for one in here]
    legs = Legs(
        start=np.array([0, len(rows)], np.int64),
        instrument=np.arange(len(rows), dtype=np.int64),
        contract=np.array([row.contract for row in rows], np.int64),
        asset=np.array([row.asset for row in rows], np.int64),
        quote=np.array([row.quote for row in rows], np.int64),
        units=np.array([row.units for row in rows], np.float64),
        cash=np.array([row.cash for row in rows], np.float64),
        cash_usd=np.array([row.cash_usd for row in rows], np.float64),
        mark_usd=np.array([row.mark_usd for row in rows], np.float64),
        value_usd=np.array([row.value_usd for row in rows], np.float64),
        strike_usd=np.array([row.strike_usd for row in rows], np.float64),
        is_call=np.array([row.is_call for row in rows], np.bool_),
        years=np.array([row.years for row in rows], np.float64),
        sigma=np.array([row.sigma for row in rows], np.float64),
        entry_usd=np.array([row.entry_usd for row in rows], np.float64),
        buys=np.zeros(len(rows)),
        sells=np.zeros(len(rows)),
    )
    marks = [market.mark(number) for number in range(len(numbers))]
    mark_usd = np.array([math.nan if mark is None else mark for mark in marks], np.float64)
    return VenueLegs(venue, legs, [one.instrument for one in here], list(numbers), mark_usd, given)


def _row(market: Market, numbers: dict[str, int], one: PositionReport, entry_usd: float | None) -> _Row:
    i = market.universe.instrument_number(one.venue, one.instrument)
    assert i is not None, "the account holds it"
    terms, arrays = market.universe.instruments[i], market.universe.instrument_arrays
    mark = math.nan if one.mark_usd is None else one.mark_usd
    units, cash = one.quantity, one.cash_quote
    if one.contract in ("inverse_perpetual", "inverse_future"):
        units /= mark
    if one.contract == "loan":
        units *= float(market.values.debt_index[i])
    if one.contract == "spot" and one.asset == one.quote:  # dollars, said as cash
        units, cash = units + cash, 0.0
    return _Row(
        contract=CONTRACTS.index(one.contract),
        asset=numbers[one.asset],
        quote=numbers[one.quote],
        units=units,
        cash=cash,
        cash_usd=cash / float(arrays.cash_unit[i]) * float(market.tables.instrument_float[i, CASH_VALUE]) if cash else 0.0,
        mark_usd=mark,
        value_usd=math.nan if one.value_usd is None else one.value_usd,
        strike_usd=terms.strike,
        is_call=terms.is_call,
        years=year_fraction(market.clock_ns, terms.expiry_ns) if terms.expiry_ns else 0.0,
        sigma=float(market.inputs.option_sigma[i]),
        entry_usd=math.nan if entry_usd is None else entry_usd,
    )
