"""What fills, snapshots, reports and credits do to an account's record, one event at a time (docs/model.md, section 1).

A posting answers None, or why it is refused. Valuing the account and deciding about it comes afterwards, in `engine.decisions`.
"""

from bisect import bisect_left
from typing import Final, NamedTuple

import numpy as np

from engine.book import ACCOUNT_VENUES_MAX, ACCOUNTS_MAX, Accounts, Columns, add_position, remove_position, set_sequence
from engine.decisions import Occasion, Supervisor
from engine.fills import FUNDING_WITH_LOTS, MOVED, OVERFLOW, PRICE_ZERO, TOO_MANY_POSITIONS, move
from engine.inputs import Credit, FillKind, OrderReport, Snapshot
from engine.market import Market
from engine.reasons import Outcome, Refusal
from engine.rows import Life
from engine.tables import POSITIONS_MAX

HOLES_MAX: Final = 64  # by account

Fault = tuple[Refusal, str]

TOO_MANY_ACCOUNTS: Final[Fault] = (Refusal.TOO_MANY, f"the partition has {ACCOUNTS_MAX} accounts already")
_MOVE_FAULTS: Final[dict[int, Fault]] = {
    OVERFLOW: (Refusal.OVERFLOW, "quantity or cash would lie beyond 2**62"),
    TOO_MANY_POSITIONS: (Refusal.TOO_MANY, f"the account has {POSITIONS_MAX} positions"),
    FUNDING_WITH_LOTS: (Refusal.OUT_OF_RANGE, "funding moves cash alone: lots must be 0"),
    PRICE_ZERO: (Refusal.OUT_OF_RANGE, "an inverse perpetual cannot trade at price 0"),
}
_FINAL_REPORTS: Final = {
    "filled": Outcome.FILLED,
    "rejected": Outcome.REJECTED,
    "expired": Outcome.EXPIRED,
    "cancelled": Outcome.EXPIRED,
}


class OneFill(NamedTuple):
    """A fill in numbers; `instrument` -1: not defined. `order_id` is empty where none was given."""

    account: int
    instrument: int
    venue_name: str
    instrument_name: str
    order_id: str
    kind: int
    lots: int
    price_ticks: int
    cash: int
    sequence: int
    time_ns: int


class Postings:
    """Changes to accounts' records."""

    def __init__(self, market: Market, accounts: Accounts, lives: dict[int, Life], supervisor: Supervisor) -> None:
        self._market = market
        self._accounts = accounts
        self._lives = lives
        self._supervisor = supervisor
        self.snapshots_ignored = 0  # since the start of the process; decides nothing

    # ---- fills ----

    def post_fill(self, fill: OneFill, latest_ns: int) -> tuple[Fault | None, bool]:
        """(why it is refused or None, whether anything of the account changed).

        A refused fill leaves its number missing, so that the account is UNKNOWN(missed_fill) until it is redriven or a snapshot settles
        it; a duplicate, and a fill of a venue that is not defined, leave nothing.
        """
        c = self._accounts.columns
        a = fill.account
        if a < 0:
            return TOO_MANY_ACCOUNTS, False
        venue = self._market.universe.venue_number(fill.venue_name)
        if venue is None:
            return self.unknown_instrument(fill.venue_name, fill.instrument_name), False
        last = last_sequence(a, venue, c)
        if last is None and int(c.venue_count[a]) == ACCOUNT_VENUES_MAX:
            return (Refusal.TOO_MANY, f"the account has {ACCOUNT_VENUES_MAX} venues"), False
        expected = (last or 0) + 1
        redriven = fill.sequence < expected
        life = self._lives.get(a)
        if redriven and (life is None or fill.sequence not in _holes_of(life, venue)):
            return (Refusal.DUPLICATE, f"sequence {fill.sequence} was applied: the last one is {expected - 1}"), False
        fault = None if _count_holes(life) + fill.sequence - expected <= HOLES_MAX else _too_many_holes(fill.venue_name)
        fault = fault or self._move(fill, latest_ns)
        if not redriven:
            set_sequence(a, venue, fill.sequence, c)
            self._add_holes(a, venue, range(expected, fill.sequence + (fault is not None)))
        elif fault is None:
            assert life is not None
            _set_holes(life, venue, [hole for hole in _holes_of(life, venue) if hole != fill.sequence])
        self._changed(a)
        return fault, True

    def _move(self, fill: OneFill, latest_ns: int) -> Fault | None:
        """Books the fill, or says why not (and then changes nothing)."""
        if fill.instrument < 0:
            return self.unknown_instrument(fill.venue_name, fill.instrument_name)
        if fill.time_ns > latest_ns:
            return future_time(fill.time_ns, self._market.clock_ns)
        terms = self._market.universe.instrument_arrays
        c = self._accounts.columns
        moved = move(fill.account, fill.instrument, fill.kind, fill.lots, fill.price_ticks, fill.cash, c, terms)
        return None if moved == MOVED else _MOVE_FAULTS[moved]

    def _add_holes(self, a: int, venue: int, missing: range) -> None:
        """Remembers which numbers are missing, or, where they are too many, only that some are."""
        if not missing:
            return
        life = self._supervisor.life(a)
        if _count_holes(life) + len(missing) > HOLES_MAX:
            _insert(life.lasting, venue)
        else:
            _set_holes(life, venue, [*_holes_of(life, venue), *missing])

    def _changed(self, a: int) -> None:
        self._accounts.columns.dirty[a] = 1
        self._supervisor.release(a)
        self._supervisor.refresh(a)

    def unknown_instrument(self, venue: str, instrument: str) -> Fault:
        """The fault of a name that was never defined."""
        if self._market.universe.venue_number(venue) is None:
            return Refusal.UNKNOWN_VENUE, f"venue {venue} is not defined"
        return Refusal.UNKNOWN_INSTRUMENT, f"instrument {instrument} of {venue} is not defined"

    # ---- snapshots ----

    def post_snapshot(self, a: int, snapshot: Snapshot, latest_ns: int) -> tuple[Fault | None, bool]:
        """(why it is refused or None, whether anything of the account changed)."""
        universe, c = self._market.universe, self._accounts.columns
        if a < 0:
            return TOO_MANY_ACCOUNTS, False
        venue = universe.venue_number(snapshot.venue)
        if venue is None:
            return (Refusal.UNKNOWN_VENUE, f"venue {snapshot.venue} is not defined"), False
        if snapshot.time_ns > latest_ns:
            return future_time(snapshot.time_ns, self._market.clock_ns), False
        said: dict[int, tuple[int, int]] = {}
        for position in snapshot.positions:
            i = universe.instrument_number(snapshot.venue, position.instrument)
            if i is None:
                return self.unknown_instrument(snapshot.venue, position.instrument), False
            if i in said:
                return (Refusal.DUPLICATE, f"instrument {position.instrument} stands twice in the snapshot"), False
            said[i] = (position.lots, position.cash)
        said = {i: amounts for i, amounts in said.items() if amounts != (0, 0)}
        last = last_sequence(a, venue, c)
        life = self._lives.get(a)
        broken = life is not None and (bool(_holes_of(life, venue)) or venue in life.lasting)
        if last is None or (broken and snapshot.sequence >= last):
            fault = self._replace(a, venue, snapshot.sequence, said)
            return fault, fault is None
        if snapshot.sequence != last or broken:
            self.snapshots_ignored += 1
            return None, False
        differs = said != self._held_at(a, venue)
        known = life is not None and venue in life.unreconciled
        if differs == known:
            return None, False
        life = self._supervisor.life(a)
        if differs:
            _insert(life.unreconciled, venue)
        else:
            life.unreconciled.remove(venue)
        self._changed(a)
        return None, True

    def _held_at(self, a: int, venue: int) -> dict[int, tuple[int, int]]:
        c = self._accounts.columns
        venue_of = self._market.universe.instrument_arrays.venue
        held: dict[int, tuple[int, int]] = {}
        for slot in range(int(c.positions[a])):
            i = int(c.instrument[a, slot])
            if venue_of[i] == venue:
                held[i] = (int(c.quantity[a, slot]), int(c.cash[a, slot]))
        return held

    def _replace(self, a: int, venue: int, sequence: int, said: dict[int, tuple[int, int]]) -> Fault | None:
        c = self._accounts.columns
        held = self._held_at(a, venue)
        if int(c.positions[a]) - len(held) + len(said) > POSITIONS_MAX:
            return Refusal.TOO_MANY, f"the account would have more than {POSITIONS_MAX} positions"
        if not set_sequence(a, venue, sequence, c):
            return Refusal.TOO_MANY, f"the account has {ACCOUNT_VENUES_MAX} venues"
        for i in held:
            if i not in said:
                remove_position(a, slot_of(a, i, c), c)
        for i, (lots, cash) in said.items():
            slot = slot_of(a, i, c)
            if slot < 0:
                slot = add_position(a, i, c)
            c.quantity[a, slot], c.cash[a, slot] = lots, cash
        life = self._lives.get(a)
        if life is not None:
            _set_holes(life, venue, [])
            for venues in (life.lasting, life.unreconciled):
                if venue in venues:
                    venues.remove(venue)
        self._changed(a)
        return None

    # ---- reports ----

    def post_report(self, report: OrderReport, occasion: Occasion) -> tuple[Fault | None, bool]:
        """(why it is refused or None, whether an order's flight ended).

        A report that an order is over ends its flight once the fills it speaks of have arrived: fills come by another topic, and an
        account must not be planned again while some of them are under way. If they never come, the order's own expiry ends it.
        """
        a = self._accounts.numbers.get(report.account, -1)
        if a < 0:
            return (Refusal.UNKNOWN_ACCOUNT, f"account {report.account} is not known here"), False
        life = self._lives.get(a)
        flight = next((one for one in life.flights if one.order_id == report.order_id), None) if life is not None else None
        if life is None or flight is None:
            if life is not None and report.order_id in life.ended:
                return None, False
            return (Refusal.UNKNOWN_ORDER, f"order {report.order_id} was not sent by this book, or long ago"), False
        outcome = _FINAL_REPORTS.get(report.status)
        if outcome is None:
            return None, False
        self._accounts.columns.dirty[a] = 1
        flight.final_lots = min(report.filled_lots, abs(flight.lots))
        if flight.filled_lots < flight.final_lots:
            return None, False
        self._supervisor.end_flight(a, life, flight, outcome, occasion, f"{report.status} {report.reason}".strip())
        return None, True

    # ---- credits ----

    def credited_instrument(self, credit: Credit) -> int | None:
        """The vault's spot instrument that an attested transfer moves."""
        return self._market.universe.vault_instrument(credit.chain, credit.asset)

    def post_credit(self, a: int, credit: Credit, instrument: int) -> Fault | None:
        """Moves the vault position; below zero too, since that is what the chain says."""
        if a < 0:
            return TOO_MANY_ACCOUNTS
        terms = self._market.universe.instrument_arrays
        moved = move(a, instrument, int(FillKind.TRANSFER), credit.lots, 0, 0, self._accounts.columns, terms)
        if moved != MOVED:
            return _MOVE_FAULTS[moved]
        self._changed(a)
        return None


def last_sequence(a: int, venue: int, columns: Columns) -> int | None:
    """The last sequence of a venue's fills, None if the account has no record of that venue."""
    for slot in range(int(columns.venue_count[a])):
        if columns.venue[a, slot] == venue:
            return int(columns.sequence[a, slot])
    return None


def slot_of(a: int, instrument: int, columns: Columns) -> int:
    """The slot of a position, -1 if there is none."""
    found = np.flatnonzero(columns.instrument[a, : columns.positions[a]] == instrument)
    return int(found[0]) if len(found) else -1


def future_time(time_ns: int, clock_ns: int) -> Fault:
    """The fault of an event from beyond the clock and its skew."""
    return Refusal.FUTURE_TIME, f"its time is {time_ns}, and the clock is at {clock_ns}"


def _too_many_holes(venue: str) -> Fault:
    return Refusal.TOO_MANY, f"more than {HOLES_MAX} fills are missing: only a snapshot of {venue} can settle it"


def _holes_of(life: Life, venue: int) -> list[int]:
    return next((holes for number, holes in life.holes if number == venue), [])


def _count_holes(life: Life | None) -> int:
    return 0 if life is None else sum(len(holes) for _, holes in life.holes)


def _set_holes(life: Life, venue: int, holes: list[int]) -> None:
    others = [(number, kept) for number, kept in life.holes if number != venue]
    life.holes = sorted([*others, (venue, holes)]) if holes else others


def _insert(venues: list[int], venue: int) -> None:
    at = bisect_left(venues, venue)
    if at == len(venues) or venues[at] != venue:
        venues.insert(at, venue)
