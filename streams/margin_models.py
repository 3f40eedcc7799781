"""What `plimsoll margin` finds of a portfolio: by the engine's own model, or by the rule of one venue on its leg (engine/rules)."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from engine.inspection import AccountReport, explain_account
from engine.scenario_report import ScenarioReport, scenario_losses
from engine.tables import INITIAL_LEVEL, MAINTENANCE_LEVEL
from streams.portfolio_book import PortfolioBook
from streams.venue_margin import VenueFinding, venue_finding

PORTFOLIO: Final = "portfolio"
VENUE: Final = "venue"


class MarginReport(Struct, frozen=True, kw_only=True, tag_field="model"):
    """What every model says first; `model` tells them apart."""

    account: str
    clock_ns: int
    parameters: str  # the set's version
    preset: str  # that the set began with
    notes: list[str]


class PortfolioMargin(MarginReport, frozen=True, kw_only=True, tag=PORTFOLIO):
    """By the engine's own model (docs/model.md): what it decides by, whole. Scenarios are None where the account cannot be valued."""

    report: AccountReport
    maintenance: ScenarioReport | None
    initial: ScenarioReport | None
    capital_efficiency: float | None  # isolated requirement over the portfolio's; None where nothing can be lost


class VenueMargin(MarginReport, frozen=True, kw_only=True, tag=VENUE):
    """By one venue's own rule, of the leg that it sees."""

    finding: VenueFinding


Report = PortfolioMargin | VenueMargin


# ---- the engine's own -----------------------------------------------------------------------------------------------------------------


def portfolio_margin(held: PortfolioBook) -> PortfolioMargin:
    """The account as its book would tell it, with the scenarios laid out."""
    report = explain_account(held.book, held.account)
    assert report is not None, "the book has just been given this account"
    columns, market = held.book.accounts.columns, held.book.market
    a = held.book.accounts.numbers[held.account]
    count = int(columns.positions[a])
    slots = columns.instrument[a, :count].tolist(), columns.quantity[a, :count].tolist(), columns.cash[a, :count].tolist()
    known = report.equity_usd is not None
    by_mode = report.requirement_usd or {}
    whole = by_mode.get("portfolio", 0.0)
    return PortfolioMargin(
        account=held.account,
        clock_ns=report.clock_ns,
        parameters=report.parameters,
        preset=held.preset,
        notes=held.notes,
        report=report,
        maintenance=scenario_losses(market, *slots, MAINTENANCE_LEVEL) if known else None,
        initial=scenario_losses(market, *slots, INITIAL_LEVEL) if known else None,
        capital_efficiency=by_mode["isolated"] / whole if whole > 0.0 else None,
    )


# ---- a venue's ------------------------------------------------------------------------------------------------------------------------


def venue_margin(held: PortfolioBook, venue: str) -> VenueMargin:
    """What `venue` makes of its leg by the rule that the file names. Raises LegFault with everything that is missing."""
    return VenueMargin(
        account=held.account,
        clock_ns=held.book.clock_ns,
        parameters=held.book.market.parameters_version,
        preset=held.preset,
        notes=held.notes,
        finding=venue_finding(held, venue),
    )


def report_schema() -> dict[str, object]:
    """JSON Schema (draft 2020-12) of what `plimsoll margin --json` prints."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "margin report", **msgspec.json.schema(Report)}
