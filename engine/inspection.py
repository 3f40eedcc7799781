"""One account laid open for those who look: what it holds and where, what each part is worth, and what is out or stands in the way.

Numbers are those that decide: health as it was last computed, values from the tables that computed it. Nothing here decides.
"""

from typing import Final

import numpy as np
from msgspec import Struct

from engine.book import lots_there
from engine.effects import Output, VenueLeg
from engine.explanations import HaircutTerms, haircut_terms, scenario_in_words
from engine.fills import requirements_of
from engine.greeks import AccountGreeks, account_greeks
from engine.leverage import AccountLeverage, account_leverage, reference_of
from engine.margin import CLOSE_COST, DRIVER, EQUITY, EQUITY_INITIAL, INITIAL, MAINTENANCE, UNHAIRCUT, closing_cost_usd
from engine.monitor import Book
from engine.parameters import MODES
from engine.postings import NO_VENUE, UNNUMBERED
from engine.reasons import Cause, State, Unknown
from engine.reporting import refusals_in_words, refusals_of
from engine.requirement import is_ordered
from engine.rows import Life
from engine.rules.choice import margins
from engine.tables import (
    BUY,
    CASH_UNKNOWN,
    CASH_VALUE,
    CONTRACTS,
    LEAVING,
    NOTIONAL,
    PENDING,
    SELL,
    SPOT,
    UNIT_LONG,
    UNIT_SHORT,
    UNIT_UNKNOWN,
)
from engine.venue_legs import in_words, leg_reports, legs_at, venue_rows

NAMED_MAX: Final = 10  # missing fills, and things that a rule misses, named one by one


class PositionReport(Struct, frozen=True, kw_only=True):
    """One position. Money is USD, None where its mark is not known; `unknown` says why."""

    chain: str
    venue: str
    instrument: str
    contract: str
    asset: str
    quote: str
    side: str  # long | short | flat (only cash is left of it, or something is pending)
    lots: int
    quantity: float  # in units of the asset (inverse perpetuals and futures: USD)
    cash_quote: float  # units of the quote that the position has received, or owes
    mark_usd: float | None
    value_usd: float | None  # of lots and cash, before haircuts
    notional_usd: float | None
    closing_cost_usd: float | None
    unknown: str
    buy_lots: int = 0  # of open orders
    sell_lots: int = 0
    leaving_lots: int = 0  # of a spot balance, by a withdrawal under way: not counted in its value


class FlightReport(Struct, frozen=True, kw_only=True):
    """An order that may still be filled."""

    order_id: str
    venue: str
    instrument: str
    lots: int
    filled_lots: int
    notional_usd: float
    expires_ns: int
    attempt: int
    heard: bool


class AccountReport(Output, frozen=True, kw_only=True):
    """Everything that its book knows of one account, as of `ledger`. Health is None where it cannot be valued."""

    account: str
    partition: int
    ledger: str  # "<partition>:<offset>" of the last frame applied
    clock_ns: int
    parameters: str
    publish: bool
    state: str
    reason: str
    cause: str
    epoch: int
    equity_usd: float | None
    equity_initial_usd: float | None
    unhaircut_usd: float | None
    maintenance_usd: float | None
    liquidation_end_usd: float | None
    initial_usd: float | None
    close_cost_usd: float | None
    decision_mode: str
    requirement_usd: dict[str, float] | None  # maintenance by mode
    binding: str  # the scenario that makes the requirement, in words
    positions: list[PositionReport]
    collateral: list[HaircutTerms]
    greeks: AccountGreeks  # by underlying and by position
    leverage: AccountLeverage | None
    flights: list[FlightReport]
    legs: list[VenueLeg]  # at venues that have a rule
    local: list[str]  # the same in words, what the rules miss included
    freezes: list[str]  # what keeps its orders back
    refuses: list[str]  # why new risk is refused, as in its health
    standing: list[str]  # what keeps it UNKNOWN whatever the market does
    grace_until_ns: int  # 0: none
    retry_ns: int  # 0: nothing waits to be tried again


def explain_account(book: Book, name: str) -> AccountReport | None:
    """The account as it stands between two frames; None where this book has no such account.

    Kernels share the scratch space of the tables: to be called by the thread that applies frames, never beside it.
    """
    a = book.accounts.numbers.get(name, -1)
    if a < 0 or not book.accounts.columns.known[a]:
        return None
    c, market = book.accounts.columns, book.market
    count = int(c.positions[a])
    contract = market.universe.instrument_arrays.contract
    there = [lots_there(a, slot, int(contract[c.instrument[a, slot]]), c) for slot in range(count)]
    slots = c.instrument[a, :count].tolist(), there, c.cash[a, :count].tolist()
    life = book.lives.get(a, Life())
    state = State(int(c.state[a]))
    rows = venue_rows(np.array([a]), book.accounts, market)
    legs = leg_reports(rows, market).get(a, [])
    faults = {market.universe.venues[of_venue.venue].name: of_venue.fault for of_venue in rows if of_venue.fault}
    known = state is not State.UNKNOWN
    health = c.health[a]
    collateral = _collateral(book, a, *slots) if known else []

    def usd(column: int) -> float | None:
        return float(health[column]) if known else None

    return AccountReport(
        account=name,
        partition=book.partition,
        ledger=f"{book.partition}:{book.applied}",
        clock_ns=book.clock_ns,
        parameters=market.parameters_version,
        publish=book.limits.publish,
        state=state.name,
        reason=Unknown(int(c.reason[a])).name.lower(),
        cause=Cause(int(c.cause[a])).name.lower(),
        epoch=int(c.epoch[a]),
        equity_usd=usd(EQUITY),
        equity_initial_usd=usd(EQUITY_INITIAL),
        unhaircut_usd=usd(UNHAIRCUT),
        maintenance_usd=usd(MAINTENANCE),
        liquidation_end_usd=market.parameters.end_factor * float(health[MAINTENANCE]) if known else None,
        initial_usd=usd(INITIAL),
        close_cost_usd=usd(CLOSE_COST),
        decision_mode=market.parameters.decision_mode,
        requirement_usd=_requirements(book, a) if known else None,
        binding=scenario_in_words(market, float(health[DRIVER])) if known else "",
        positions=[_position(book, a, slot, there[slot]) for slot in range(count)],
        collateral=collateral,
        greeks=account_greeks(book.market, *slots),
        leverage=_leverage(book, a, collateral) if known else None,
        flights=_flights(book, life),
        legs=legs,
        local=[line for leg in legs for line in _in_words(book, a, state, leg, faults)],
        freezes=_freezes(book, name, slots[0]),
        refuses=refusals_in_words(int(refusals_of(book.accounts, book.breakers.refuses_risk)[a])),
        standing=_standing(book, life),
        grace_until_ns=life.grace_until_ns,
        retry_ns=life.retry_ns,
    )


def _in_words(book: Book, a: int, state: State, leg: VenueLeg, faults: dict[str, str]) -> list[str]:
    """A leg's line, and below it what its rule misses, or failed with."""
    universe = book.market.universe
    venue = universe.venue_number(leg.venue)
    assert venue is not None, "it has a rule"
    choice = universe.venue_rules[venue]
    line = in_words(state, leg, choice.info.measure)
    if leg.venue in faults:
        return [line, faults[leg.venue]]
    if leg.unknown not in ("not_taken", "lacking"):
        return [line]
    _, held = legs_at(venue, np.array([a]), book.accounts, book.market)
    return [line, *margins(choice, held).needs.missing()[:NAMED_MAX]]


def _requirements(book: Book, a: int) -> dict[str, float]:
    by_mode = np.zeros((1, len(MODES)), np.float64)
    requirements_of(np.array([a], np.int64), book.accounts.columns, book.market.tables, by_mode)
    return dict(zip(MODES, by_mode[0].tolist(), strict=True))


def _leverage(book: Book, a: int, collateral: list[HaircutTerms]) -> AccountLeverage:
    """A turn of a loop is taken to have had what the haircuts of the collateral leave."""
    c, market = book.accounts.columns, book.market
    held = slice(0, int(c.positions[a]))
    worth = sum(terms.value_usd for terms in collateral)
    lent = 1.0 - sum(terms.lost_usd for terms in collateral) / worth if worth > 0.0 else 0.0
    return account_leverage(market, c.instrument[a, held], c.quantity[a, held], c.cash[a, held], lent=lent, reference=reference_of(market))


def _collateral(book: Book, a: int, instrument: list[int], there: list[int], cash: list[int]) -> list[HaircutTerms]:
    """Haircuts with open orders filled as they take most."""
    c, market = book.accounts.columns, book.market
    row = int(c.pending_row[a])
    if row < 0:
        return haircut_terms(market, instrument, there, cash)
    ordered = [is_ordered(slot, i, c.pending[row], market.tables.instrument_int) for slot, i in enumerate(instrument)]
    contract = market.universe.instrument_arrays.contract
    most = [lots + (int(c.pending[row, slot, BUY]) if contract[instrument[slot]] == SPOT else 0) for slot, lots in enumerate(there)]
    return haircut_terms(market, instrument, most, cash, ordered=ordered)


def _position(book: Book, a: int, slot: int, there: int) -> PositionReport:
    """One slot; `there` is what counts of its lots."""
    c = book.accounts.columns
    i, lots, cash = int(c.instrument[a, slot]), int(c.quantity[a, slot]), int(c.cash[a, slot])
    row = int(c.pending_row[a])
    pending = c.pending[row, slot].tolist() if row >= 0 else [0] * PENDING
    market = book.market
    universe, tables = market.universe, market.tables
    terms, floats = universe.instrument_arrays, tables.instrument_float[i]
    definition = universe.instruments[i]
    asset = int(terms.underlying[i])
    code = int(tables.instrument_int[i, UNIT_UNKNOWN]) if lots else 0
    code = code or (int(tables.instrument_int[i, CASH_UNKNOWN]) if cash else 0)
    known = code == 0
    value = there * float(floats[UNIT_LONG if there > 0 else UNIT_SHORT]) + cash * float(floats[CASH_VALUE])
    return PositionReport(
        chain=universe.chains[int(terms.chain[i])].name,
        venue=definition.venue,
        instrument=definition.name,
        contract=CONTRACTS[int(terms.contract[i])],
        asset=universe.assets[asset].name,
        quote=universe.assets[int(terms.quote[i])].name,
        side="long" if lots > 0 else "short" if lots < 0 else "flat",
        lots=lots,
        quantity=lots * float(terms.lot_size[i]),
        cash_quote=cash * float(terms.cash_unit[i]),
        mark_usd=market.mark(asset),
        value_usd=value if known else None,
        notional_usd=abs(lots) * float(floats[NOTIONAL]) if known else None,
        closing_cost_usd=closing_cost_usd(i, lots, tables) if known else None,
        unknown="" if known else Unknown(code).name.lower(),
        buy_lots=pending[BUY],
        sell_lots=pending[SELL],
        leaving_lots=pending[LEAVING],
    )


def _flights(book: Book, life: Life) -> list[FlightReport]:
    instruments = book.market.universe.instruments
    return [
        FlightReport(
            order_id=flight.order_id,
            venue=instruments[flight.instrument].venue,
            instrument=instruments[flight.instrument].name,
            lots=flight.lots,
            filled_lots=flight.filled_lots,
            notional_usd=flight.notional_usd,
            expires_ns=flight.expires_ns,
            attempt=flight.attempt,
            heard=flight.heard,
        )
        for flight in life.flights
    ]


def _freezes(book: Book, name: str, instruments: list[int]) -> list[str]:
    limits, universe = book.limits, book.market.universe
    held = {universe.instruments[i].venue for i in instruments}
    return [
        *(["all orders are frozen"] if limits.frozen_all else []),
        *(["this account is frozen"] if name in limits.frozen_accounts else []),
        *(f"venue {venue} is frozen" for venue in sorted(held & limits.frozen_venues)),
    ]


def _standing(book: Book, life: Life) -> list[str]:
    """What only an event of the account's own can settle, in words."""
    venues = book.market.universe.venues
    return [
        *(["it could not be computed, and waits for an event of its own"] if life.quarantined else []),
        *(f"{venues[venue].name}: fills {_numbers(missing)} are missing" for venue, missing in life.holes),
        *(f"{venues[venue].name}: too many fills are missing to name them" for venue in life.lasting),
        *(f"{'a venue that is not known' if venue == NO_VENUE else venue}: {_missed(upto)}" for venue, upto in life.missed),
        *(f"{venues[venue].name}: its last snapshot differs from what is held here" for venue in life.unreconciled),
    ]


def _numbers(sequences: list[int]) -> str:
    named = ", ".join(map(str, sequences[:NAMED_MAX]))
    return named if len(sequences) <= NAMED_MAX else f"{named} and {len(sequences) - NAMED_MAX} more"


def _missed(upto: int) -> str:
    return "something was refused, and only a snapshot settles it" if upto == UNNUMBERED else f"fills up to number {upto} were refused"
