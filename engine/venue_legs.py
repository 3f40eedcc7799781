"""What accounts hold at venues that have a rule, by that rule: how far each leg is from the venue's own liquidation.

A venue liquidates by its own rule while the whole portfolio may be healthy. Each account's legs are looked at once in LOOK_SECONDS of the
book's clock, in the second that its name gives it, so that a look at all accounts is spread evenly and a restored book goes on with it;
and whenever its health is told. Nothing is closed on that ground: a leg that is near is a margin call (docs/model.md, section 14).
"""

import math
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.book import LOOK_SECONDS, Accounts, Columns
from engine.effects import MarginCall, VenueLeg
from engine.jit import kernel
from engine.market import Market
from engine.parameters import BPS
from engine.pricing import year_fraction
from engine.reasons import State
from engine.rows import Life
from engine.rules.choice import margins
from engine.rules.interface import COLUMNS, DISTANCE, EQUITY_USD, INITIAL_USD, MAINTENANCE_USD
from engine.rules.legs import Legs, VenueLegs, empty_legs
from engine.tables import (
    BUY,
    CASH_UNKNOWN,
    CASH_VALUE,
    INVERSE_FUTURE,
    INVERSE_PERPETUAL,
    LOAN,
    SELL,
    SPOT,
    UNIT_LONG,
    UNIT_SHORT,
    UNIT_UNKNOWN,
    VENUES_MAX,
    RiskTables,
)
from engine.universe import InstrumentArrays
from engine.volatility import NS_PER_SECOND

# Verdicts. Near and past are also the levels of a call.
CLEAR: Final = 0
NEAR: Final = 1
PAST: Final = 2
UNKNOWN: Final = 3
LEG_VERDICTS: Final = ("clear", "near", "past", "unknown")
VENUE_CAUSE: Final = "venue"  # of margin calls


class NoNumber(IntEnum):
    """Why a leg has no number."""

    NONE = 0
    ACCOUNT = 1  # what the account holds is not sure: a fill was missed, or it differs from the venue's snapshot
    NOT_TAKEN = 2  # the rule does not cover what it holds there
    LACKING = 3  # the rule needs a number that the venue's definition does not give
    UNVALUED = 4  # a mark or a volatility is not known
    FAULT = 5  # the rule could not be computed


NO_NUMBER_IN_WORDS: Final = {
    NoNumber.ACCOUNT: "it is not sure what the account holds",
    NoNumber.NOT_TAKEN: "the rule does not cover what it holds there",
    NoNumber.LACKING: "the rule needs a number that the venue's definition does not give",
    NoNumber.UNVALUED: "a mark or a volatility is not known",
    NoNumber.FAULT: "the rule could not be computed",
}


_NO_NUMBERS: Final = ("", *(why.name.lower() for why in NoNumber if why))
FAULT_TEXT_MAX: Final = 240  # characters of what is kept of a rule's failure


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.int64]:
    """An int64 of its own for each number, such that sums of a few differ where what is summed does (splitmix64)."""
    mixed = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    signed: NDArray[np.int64] = (mixed ^ mixed >> np.uint64(31)).view(np.int64)
    return signed


# [venue, NoNumber]: what a leg adds to `Summary.unknown`, 0 where it has a number.
_UNKNOWNS: Final = _mixed(np.arange(VENUES_MAX * len(NoNumber), dtype=np.uint64)).reshape(VENUES_MAX, len(NoNumber))
_UNKNOWNS[:, NoNumber.NONE] = 0


class VenueRows(NamedTuple):
    """The legs at one venue of the accounts that have any there."""

    venue: int
    accounts: NDArray[np.int64]  # (k,) their numbers, in the order in which they were asked for
    out: NDArray[np.float64]  # (k, 4), columns of engine.rules.interface; nan where there is no number
    why: NDArray[np.int8]  # (k,) NoNumber
    fault: str = ""  # what the rule failed with


class LegWatch:
    """The looks at one book's legs. Calls are part of the accounts' rows; counts are for those who look."""

    def __init__(self, accounts: Accounts, lives: dict[int, Life]) -> None:
        self._accounts = accounts
        self._lives = lives
        self._called: set[int] = set()  # accounts with a leg that is called
        self._second = 0  # of the last look
        # [venue, second, whole account healthy or not, verdict]: legs as they were in the second's last look
        self.counts = np.zeros((VENUES_MAX, LOOK_SECONDS, 2, len(LEG_VERDICTS)), np.int64)
        # By venue: looks in which its rule failed since the book was loaded, and what the last of them failed with.
        self.failures = np.zeros(VENUES_MAX, np.int64)
        self.faults: dict[int, str] = {}

    def restore(self, market: Market) -> None:
        """Go on from the market's clock, with the calls of the accounts' lives."""
        self._second = market.clock_ns // NS_PER_SECOND
        self._called = {a for a, life in self._lives.items() if life.local}

    def look(self, market: Market) -> tuple[list[MarginCall], list[int]]:
        """After a tick, at the accounts whose seconds have come: calls, and whose lives have changed; both by account's name and venue."""
        due = self._take_due(market)
        columns, n = self._accounts.columns, len(self._accounts)
        if not market.live or not due.any():
            return [], []
        self.counts[:, due] = 0
        numbers = np.flatnonzero(due[columns.look[:n]])
        found = venue_rows(numbers, self._accounts, market)
        columns.told[numbers[_moved(found, numbers, columns, market.parameters.health_publish_bps * BPS)]] = 0
        called = np.fromiter(self._called, np.int64, len(self._called))
        called = called[due[columns.look[called]]]
        levels: dict[int, dict[int, int]] = {a: {} for a in called.tolist()}  # by account, of its legs that are called, by venue
        risen: list[tuple[int, int, NDArray[np.float64]]] = []  # (account, venue, the leg's row)
        for rows in found:
            self._count(rows, columns, market)
            if rows.fault:
                self.failures[rows.venue] += 1
                self.faults[rows.venue] = rows.fault
            for k, distance in self._concerned(rows, called, market):
                a = int(rows.accounts[k])
                before = self._level_of(a, rows.venue)
                level = _level(before, distance, market)
                if level != CLEAR:
                    levels.setdefault(a, {})[rows.venue] = level
                if level > before:
                    risen.append((a, rows.venue, rows.out[k]))
        name_of = self._accounts.names.__getitem__
        risen.sort(key=lambda one: name_of(one[0]))  # those of an account stay in the order of venues
        calls = [self._call(a, venue, row, market) for a, venue, row in risen]
        return calls, [a for a in sorted(levels, key=name_of) if self._take_levels(a, levels[a])]

    def counted(self, venue: int) -> NDArray[np.int64]:
        """[whole account healthy or not, verdict]: legs at a venue."""
        counted: NDArray[np.int64] = self.counts[venue].sum(axis=0)
        return counted

    def _take_due(self, market: Market) -> NDArray[np.bool_]:
        """[LOOK_SECONDS]: the seconds since the last look."""
        last, now = self._second, market.clock_ns // NS_PER_SECOND
        self._second = max(now, last)
        due = np.zeros(LOOK_SECONDS, np.bool_)
        for second in range(max(last, now - LOOK_SECONDS) + 1, now + 1):
            due[second % LOOK_SECONDS] = True
        return due

    def _count(self, rows: VenueRows, columns: Columns, market: Market) -> None:
        healthy = (columns.state[rows.accounts] == State.HEALTHY).astype(np.int64)
        verdict = verdicts(rows.out[:, DISTANCE], market.parameters.venue_call_distance)
        np.add.at(self.counts[rows.venue], (columns.look[rows.accounts], healthy, verdict), 1)

    def _concerned(self, rows: VenueRows, called: NDArray[np.int64], market: Market) -> Iterator[tuple[int, float]]:
        """(row, its distance) of those that are near, and of those of accounts that are called already."""
        distance = rows.out[:, DISTANCE]
        concerned = np.flatnonzero((distance < market.parameters.venue_call_distance) | np.isin(rows.accounts, called))
        return ((k, float(distance[k])) for k in concerned.tolist())

    def _level_of(self, a: int, venue: int) -> int:
        life = self._lives.get(a)
        return next((level for other, level in life.local if other == venue), CLEAR) if life is not None else CLEAR

    def _take_levels(self, a: int, levels: dict[int, int]) -> bool:
        """An account's legs that are called, by venue in order; whether that is anything new."""
        life, now = self._lives.get(a), list(levels.items())
        if now == ([] if life is None else life.local):
            return False
        self._lives.setdefault(a, Life()).local = now
        (self._called.add if now else self._called.discard)(a)
        return True

    def _call(self, a: int, venue: int, row: NDArray[np.float64], market: Market) -> MarginCall:
        equity_usd, maintenance_usd = float(row[EQUITY_USD]), float(row[MAINTENANCE_USD])
        return MarginCall(
            account=self._accounts.names[a],
            state=State(int(self._accounts.columns.state[a])).name,
            cause=VENUE_CAUSE,
            equity_usd=equity_usd,
            maintenance_usd=maintenance_usd,
            shortfall_usd=max(maintenance_usd - equity_usd, 0.0),
            grace_until_ns=0,
            venue=market.universe.venues[venue].name,
            distance=_finite(float(row[DISTANCE])),
            decided_ns=market.clock_ns,
        )


def verdicts(distance: NDArray[np.float64], near: float) -> NDArray[np.int64]:
    """(legs,): the verdict on each distance, nan being unknown."""
    verdict = np.where(distance < near, NEAR, CLEAR)
    verdict[distance < 0.0] = PAST
    verdict[np.isnan(distance)] = UNKNOWN
    return verdict


def venue_rows(numbers: NDArray[np.int64], accounts: Accounts, market: Market) -> list[VenueRows]:
    """The legs of these accounts at every venue that has a rule and where one of them holds something, in the order of venues."""
    found = []
    for venue, choice in market.universe.venue_rules.items():
        holders, held = legs_at(venue, numbers, accounts, market)
        if not len(holders):
            continue
        unsure = accounts.columns.standing[holders] != 0
        fault = ""
        try:
            of_rule = margins(choice, held)
            out, not_taken, lacking = of_rule.out, of_rule.needs.not_taken, of_rule.needs.lacking
            why = np.where(np.isnan(out[:, DISTANCE]), NoNumber.UNVALUED, NoNumber.NONE)
            why = np.select([unsure, not_taken, lacking], [NoNumber.ACCOUNT, NoNumber.NOT_TAKEN, NoNumber.LACKING], why)
        except Exception as error:  # noqa: BLE001 - whatever fails in a rule must not stop the book, nor may its legs count as clear
            fault = fault_text(error)
            out, why = np.full((len(holders), COLUMNS), np.nan), np.full(len(holders), NoNumber.FAULT)
        out[why != NoNumber.NONE] = math.nan
        found.append(VenueRows(venue, holders, out, why.astype(np.int8), fault))
    return found


def fault_text(error: Exception) -> str:
    """What failed and where, in one line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f" ({trace.tb_frame.f_globals.get('__name__', '?')}, line {trace.tb_lineno})"
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return said[: FAULT_TEXT_MAX - len(place)] + place


class Summary(NamedTuple):
    """Of accounts' legs, (accounts,): what a look compares with what was told. One without a number hides no other."""

    near: NDArray[np.float64]  # distance of the nearest leg that has a number, inf where there is none
    size_usd: NDArray[np.float64]  # of the numbers of those that have some
    unknown: NDArray[np.int64]  # 0, or a number of its own for which of them have none and why


def note_told(found: list[VenueRows], numbers: NDArray[np.int64], columns: Columns) -> None:
    """These legs have been told of the accounts `numbers`."""
    columns.told_near[numbers], columns.told_legs_usd[numbers], columns.told_unknown[numbers] = _summary(found, numbers)


def _moved(found: list[VenueRows], numbers: NDArray[np.int64], columns: Columns, share: float) -> NDArray[np.bool_]:
    """(numbers,): whether an account's legs differ by more than `share` from what was told of them."""
    now = _summary(found, numbers)
    told_near, told_usd = columns.told_near[numbers], columns.told_legs_usd[numbers]
    # Of a leg that is further than its whole size from liquidation, a share of the distance: beside dust it is a number in the billions.
    size = np.minimum(np.abs(now.near), np.abs(told_near))
    with np.errstate(invalid="ignore"):  # from infinity to infinity
        is_close = np.isfinite(size) & (np.abs(now.near - told_near) <= share * np.maximum(1.0, size))
    same_near = is_close | (now.near == told_near)
    same_size = np.abs(now.size_usd - told_usd) <= share * np.maximum(now.size_usd, told_usd)
    moved: NDArray[np.bool_] = ~(same_near & same_size & (now.unknown == columns.told_unknown[numbers]))
    return moved


def _summary(found: list[VenueRows], numbers: NDArray[np.int64]) -> Summary:
    """Of each of `numbers` (rising)."""
    near, size_usd, unknown = np.full(len(numbers), np.inf), np.zeros(len(numbers)), np.zeros(len(numbers), np.int64)
    for rows in found:
        at, lacks = np.searchsorted(numbers, rows.accounts), rows.why != NoNumber.NONE
        near[at] = np.fmin(near[at], rows.out[:, DISTANCE])
        equity_usd, initial_usd, maintenance_usd = (np.abs(rows.out[:, column]) for column in (EQUITY_USD, INITIAL_USD, MAINTENANCE_USD))
        size_usd[at] += np.where(lacks, 0.0, equity_usd + initial_usd + maintenance_usd)
        unknown[at] += _UNKNOWNS[rows.venue, rows.why]
    return Summary(near, size_usd, unknown)


def leg_reports(found: list[VenueRows], market: Market) -> dict[int, list[VenueLeg]]:
    """By account, its legs at venues that have a rule; in the order of venues."""
    reports: dict[int, list[VenueLeg]] = {}
    for rows in found:
        venue = market.universe.venues[rows.venue].name
        rule = market.universe.venue_rules[rows.venue].info.name
        verdict, why = verdicts(rows.out[:, DISTANCE], market.parameters.venue_call_distance).tolist(), rows.why.tolist()
        out = rows.out.astype(object)
        out[~np.isfinite(rows.out)] = None
        for k, a in enumerate(rows.accounts.tolist()):
            equity_usd, initial_usd, maintenance_usd, distance = out[k].tolist()
            leg = VenueLeg(
                venue=venue,
                rule=rule,
                equity_usd=equity_usd,
                initial_usd=initial_usd,
                maintenance_usd=maintenance_usd,
                distance=distance,
                verdict=LEG_VERDICTS[verdict[k]],
                unknown=_NO_NUMBERS[why[k]],
            )
            reports.setdefault(a, []).append(leg)
    return reports


def in_words(state: State, leg: VenueLeg, measure: str) -> str:
    """How far the leg is from its venue's own liquidation, while the whole portfolio is in `state`; `measure` of RuleInfo."""
    whole = f"whole portfolio {state.name.lower()}, leg at venue {leg.venue}"
    if leg.unknown:
        return f"{whole} has no number by {leg.rule}: {NO_NUMBER_IN_WORDS[NoNumber[leg.unknown.upper()]]}"
    is_past = leg.verdict == LEG_VERDICTS[PAST]
    if leg.distance is None:
        return f"{whole} {'is past' if is_past else 'is far from'} that venue's liquidation"
    size = f"{100.0 * abs(leg.distance):.1f}% of its {'collateral' if measure == 'health_factor' else 'notional'}"
    return f"{whole} is {size} {'past' if is_past else 'from'} that venue's liquidation"


def legs_at(venue: int, numbers: NDArray[np.int64], accounts: Accounts, market: Market) -> tuple[NDArray[np.int64], VenueLegs]:
    """Those of these accounts that hold something at the venue, and what."""
    columns, universe = accounts.columns, market.universe
    terms = universe.instrument_arrays
    marks = np.where(market.marks.status == 0, market.marks.mark, np.nan)
    holders = np.empty(len(numbers), np.int64)
    start = np.zeros(len(numbers) + 1, np.int64)
    room = empty_legs(start, 2 * _count_slots(venue, numbers, columns, terms))  # each may have cash that is a leg of its own
    count = _gather(
        venue, numbers, columns, terms, marks, market.tables, market.inputs.option_sigma, market.values.debt_index, market.clock_ns,
        holders, room,
    )  # fmt: skip
    size = slice(int(start[count]))
    legs = Legs(**{name: values[size] for name, values in room._asdict().items() if name != "start"}, start=start[: count + 1])
    given = universe.venue_rules[venue].given if venue in universe.venue_rules else {}
    held = VenueLegs(
        universe.venues[venue].name, legs, universe.instrument_names, universe.asset_names, marks[: universe.asset_count], given
    )
    return holders[:count], held


def _level(before: int, distance: float, market: Market) -> int:
    """A call's level only rises until it is over."""
    parameters = market.parameters
    if math.isnan(distance):
        return before
    if distance > parameters.venue_clear_distance:
        return CLEAR
    now = PAST if distance < 0.0 else NEAR if distance < parameters.venue_call_distance else CLEAR
    return max(before, now)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@kernel
def _count_slots(venue: int, numbers: NDArray[np.int64], columns: Columns, terms: InstrumentArrays) -> int:
    """How many slots of these accounts are of the venue."""
    positions, instrument, of_venue = columns.positions, columns.instrument, terms.venue
    slots = 0
    for a in numbers:
        for slot in range(positions[a]):
            if of_venue[instrument[a, slot]] == venue:
                slots += 1
    return slots


@kernel
def _gather(
    venue: int,
    numbers: NDArray[np.int64],
    columns: Columns,
    terms: InstrumentArrays,
    mark_usd: NDArray[np.float64],
    tables: RiskTables,
    option_sigma: NDArray[np.float64],
    debt_index: NDArray[np.float64],
    now_ns: int,
    holders: NDArray[np.int64],
    legs: Legs,
) -> int:
    """Fills `holders` and `legs`; how many accounts hold something at the venue.

    Cash of a balance or of a debt is a balance of its quote: it is added to the account's spot leg of that asset, or makes one behind the
    others. Cash of contracts stays with them. A slot that is kept for what is leaving alone is no leg.
    """
    floats, ints = tables.instrument_float, tables.instrument_int
    positions, instrument, quantity, cash_of = columns.positions, columns.instrument, columns.quantity, columns.cash
    pending_row, pending, of_venue = columns.pending_row, columns.pending, terms.venue
    found, leg = 0, 0
    for a in numbers:
        row = pending_row[a]
        first = leg
        for slot in range(positions[a]):
            i = instrument[a, slot]
            if of_venue[i] != venue:
                continue
            lots, cash = quantity[a, slot], cash_of[a, slot]
            buys = pending[row, slot, BUY] if row >= 0 else 0
            sells = pending[row, slot, SELL] if row >= 0 else 0
            contract, asset = terms.contract[i], terms.underlying[i]
            is_balance = contract == SPOT or contract == LOAN
            is_money = contract == SPOT and asset == terms.quote[i]
            own_cash = cash if is_money or not is_balance else 0
            if lots == 0 and buys == 0 and sells == 0 and own_cash == 0:
                continue
            unit = terms.lot_size[i]
            if contract == INVERSE_PERPETUAL or contract == INVERSE_FUTURE:
                unit /= mark_usd[asset]
            elif contract == LOAN:
                unit *= debt_index[i]
            units, value_usd = 0.0, 0.0  # also of what has no price
            if lots > 0:
                units, value_usd = lots * unit, lots * floats[i, UNIT_LONG]
            elif lots < 0:
                units, value_usd = lots * unit, lots * floats[i, UNIT_SHORT]
            if lots != 0 and ints[i, UNIT_UNKNOWN] != 0:
                value_usd = math.nan
            cash_units, cash_usd = 0.0, 0.0
            if own_cash != 0:
                cash_units = own_cash * terms.cash_unit[i]
                cash_usd = own_cash * floats[i, CASH_VALUE] if ints[i, CASH_UNKNOWN] == 0 else math.nan
                value_usd += cash_usd
            # What a unit has cost so far: its average price, but where some of it was closed meanwhile.
            legs.entry_usd[leg] = -cash_usd / units if units != 0.0 and not is_balance else math.nan
            if is_money:
                units, cash_units, cash_usd = units + cash_units, 0.0, 0.0
            legs.instrument[leg], legs.contract[leg] = i, contract
            legs.asset[leg], legs.quote[leg] = asset, terms.quote[i]
            legs.units[leg], legs.cash[leg], legs.cash_usd[leg], legs.value_usd[leg] = units, cash_units, cash_usd, value_usd
            legs.mark_usd[leg], legs.sigma[leg] = mark_usd[asset], option_sigma[i]
            legs.strike_usd[leg], legs.is_call[leg] = terms.strike[i], terms.is_call[i]
            legs.years[leg] = year_fraction(now_ns, terms.expiry_ns[i])  # 0 of what never expires: its expiry is 0
            legs.buys[leg], legs.sells[leg] = buys * unit, sells * unit
            leg += 1
        for slot in range(positions[a]):
            i = instrument[a, slot]
            cash, quote = cash_of[a, slot], terms.quote[i]
            is_balance = terms.contract[i] == SPOT or terms.contract[i] == LOAN
            is_money = terms.contract[i] == SPOT and terms.underlying[i] == quote
            if of_venue[i] != venue or cash == 0 or is_money or not is_balance:
                continue
            into = first
            while into < leg and not (legs.contract[into] == SPOT and legs.asset[into] == quote):
                into += 1
            if into == leg:
                legs.instrument[leg], legs.contract[leg], legs.asset[leg], legs.quote[leg] = i, SPOT, quote, quote
                legs.units[leg], legs.cash[leg], legs.cash_usd[leg], legs.value_usd[leg] = 0.0, 0.0, 0.0, 0.0
                legs.mark_usd[leg], legs.sigma[leg], legs.entry_usd[leg] = mark_usd[quote], math.nan, math.nan
                legs.strike_usd[leg], legs.is_call[leg], legs.years[leg] = 0.0, False, 0.0
                legs.buys[leg], legs.sells[leg] = 0.0, 0.0
                leg += 1
            legs.units[into] += cash * terms.cash_unit[i]
            legs.value_usd[into] += cash * floats[i, CASH_VALUE] if ints[i, CASH_UNKNOWN] == 0 else math.nan
        if leg > first:
            holders[found] = a
            found += 1
            legs.start[found] = leg
    return found
