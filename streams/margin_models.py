"""By which model `plimsoll margin` looks at a portfolio: the engine's own, or the rule of one venue (engine/rules).

A further rule is one entry of MODELS: a struct of what it finds, and a function from the book to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from difflib import get_close_matches
from typing import Final, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from engine.greeks import position_greeks
from engine.inspection import AccountReport, explain_account
from engine.rules.aave_v3 import available_borrows_usd, health_factors
from engine.scenario_report import ScenarioReport, scenario_losses
from engine.tables import INITIAL_LEVEL, LOAN, MAINTENANCE_LEVEL, SPOT
from streams.portfolio import AavePool
from streams.portfolio_book import PortfolioBook

PORTFOLIO: Final = "portfolio"


class ModelNotKnown(ValueError):
    """A name that no model has; the text names those that there are."""


class ModelFault(ValueError):
    """A portfolio that lacks what the model needs; the text says what to add."""


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


class AavePosition(Struct, frozen=True, kw_only=True):
    """One reserve of an account: its collateral or its debt, at the mark. `counts`: whether the pool lends against it."""

    asset: str
    side: str  # collateral | debt
    value_usd: float | None
    liquidation_threshold: float
    loan_to_value: float
    counts: bool


class AaveHealth(Struct, frozen=True, kw_only=True):
    """An account in one pool. Everything is None where a mark is not known, the factor also where nothing is owed."""

    venue: str
    health_factor: float | None  # below 1 it can be liquidated
    collateral_usd: float | None
    debt_usd: float | None
    available_borrows_usd: float | None
    positions: list[AavePosition]
    left_out: list[str]  # what it holds there that is neither spot nor a loan


class AaveMargin(MarginReport, frozen=True, kw_only=True, tag="aave_v3"):
    """By Aave v3's own rule, each pool for itself."""

    pools: list[AaveHealth]


Report = PortfolioMargin | AaveMargin


class Model(NamedTuple):
    """What a model is, and how a book looks by it."""

    about: str
    report: Callable[[PortfolioBook], Report]


def model(name: str) -> Model:
    """The model of this name. Raises ModelNotKnown."""
    if name not in MODELS:
        near = get_close_matches(name, MODELS, n=1)
        raise ModelNotKnown(f"no model is called {name!r}; there are {', '.join(MODELS)}{f'; did you mean {near[0]}?' if near else ''}")
    return MODELS[name]


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


# ---- Aave v3 --------------------------------------------------------------------------------------------------------------------------


def aave_margin(held: PortfolioBook) -> AaveMargin:
    """The health factor of each pool that the portfolio has rules of. Raises ModelFault where it has none."""
    pools = held.portfolio.rules.aave_v3
    if not pools:
        raise ModelFault("model aave_v3 needs thresholds: say rules.aave_v3.<venue>.reserves.<asset>.liquidation_threshold in the file")
    return AaveMargin(
        account=held.account,
        clock_ns=held.book.clock_ns,
        parameters=held.book.market.parameters_version,
        preset=held.preset,
        notes=held.notes,
        pools=[_aave_health(held, venue, pool) for venue, pool in pools.items()],
    )


def _aave_health(held: PortfolioBook, venue: str, pool: AavePool) -> AaveHealth:
    columns, market = held.book.accounts.columns, held.book.market
    if market.universe.venue_number(venue) is None:
        raise ModelFault(f"rules.aave_v3.{venue}: no venue is called so")
    a = held.book.accounts.numbers[held.account]
    positions, left_out = [], []
    for slot in range(int(columns.positions[a])):
        i, lots = int(columns.instrument[a, slot]), int(columns.quantity[a, slot])
        definition = market.universe.instruments[i]
        contract = int(market.universe.instrument_arrays.contract[i])
        if definition.venue != venue:
            continue
        if contract not in (SPOT, LOAN) or lots == 0:
            left_out.append(definition.name)
            continue
        reserve = pool.reserves.get(definition.underlying)
        units = position_greeks(market, i, lots, 0).delta if definition.underlying != "USD" else lots * definition.lot_size
        mark = market.mark(int(market.universe.instrument_arrays.underlying[i]))
        positions.append(
            AavePosition(
                asset=definition.underlying,
                side="collateral" if lots > 0 else "debt",
                value_usd=None if units is None or mark is None else abs(units) * mark,
                liquidation_threshold=reserve.liquidation_threshold if reserve else 0.0,
                loan_to_value=reserve.loan_to_value if reserve else 0.0,
                counts=lots > 0 and reserve is not None,
            )
        )
    values = np.array([[math.nan if one.value_usd is None else one.value_usd for one in positions]])
    supplied = np.array([[one.side == "collateral" for one in positions]])
    collateral, debt = np.where(supplied, values, 0.0), np.where(supplied, 0.0, values)
    thresholds = np.array([[one.liquidation_threshold for one in positions]])
    ratios = np.array([[one.loan_to_value for one in positions]])
    factor = float(health_factors(collateral, thresholds, debt)[0])
    return AaveHealth(
        venue=venue,
        health_factor=factor if math.isfinite(factor) else None,
        collateral_usd=_known(float(collateral.sum())),
        debt_usd=_known(float(debt.sum())),
        available_borrows_usd=_known(float(available_borrows_usd(collateral, ratios, debt)[0])),
        positions=positions,
        left_out=left_out,
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


MODELS: Final[dict[str, Model]] = {
    PORTFOLIO: Model("the engine's own: haircuts, scenarios, three levels", portfolio_margin),
    "aave_v3": Model("Aave v3's health factor, of pools whose thresholds the file says", aave_margin),
}


def report_schema() -> dict[str, object]:
    """JSON Schema (draft 2020-12) of what `plimsoll margin --json` prints."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "margin report", **msgspec.json.schema(Report)}
