"""What fills, snapshots, reports and credits do to an account's record, one event at a time (docs/model.md, section 1).

A posting answers None, or why it is refused. Valuing the account and deciding about it comes afterwards, in `engine.decisions`.
"""

from bisect import bisect_left
from typing import Final, NamedTuple

import numpy as np

from engine.book import ACCOUNT_VENUES_MAX, ACCOUNTS_MAX, Accounts, Columns, add_position, is_pending, remove_position, set_sequence
from engine.book_breakers import BookBreakers
from engine.decisions import Occasion, Supervisor
from engine.fills import FUNDING_WITH_LOTS, MOVED, OVERFLOW, PRICE_ZERO, TOO_MANY_POSITIONS, move
from engine.inputs import Credit, FillKind, OrderReport, Pending, RefusedFill, Snapshot
from engine.market import Market
from engine.reasons import Outcome, Refusal
from engine.rows import Life, PendingAt
from engine.tables import POSITIONS_MAX, SPOT

HOLES_MAX: Final = 64  # by account
MISSED_VENUES_MAX: Final = 8  # by account: names of venues of which it has no record but missed fills; of others only that there are some
UNNUMBERED: Final = 2**63 - 1  # above every sequence: only a snapshot tells that nothing is missing any more
NO_VENUE: Final = ""  # of what was missed at a venue that could not be read

Fault = tuple[Refusal, str]

TOO_MANY_ACCOUNTS: Final[Fault] = (Refusal.TOO_MANY, f"the partition has {ACCOUNTS_MAX} accounts already")
_TOO_MANY_VENUES: Final[Fault] = (Refusal.TOO_MANY, f"the account has {ACCOUNT_VENUES_MAX} venues")
_TOO_MANY_POSITIONS: Final[Fault] = (Refusal.TOO_MANY, f"the account would have more than {POSITIONS_MAX} positions")
_MOVE_FAULTS: Final[dict[int, Fault]] = {
    OVERFLOW: (Refusal.OVERFLOW, "quantity or cash would lie beyond 2**62"),
    TOO_MANY_POSITIONS: (Refusal.TOO_MANY, f"the account has {POSITIONS_MAX} positions"),
    FUNDING_WITH_LOTS: (Refusal.OUT_OF_RANGE, "funding moves cash alone: lots must be 0"),
    PRICE_ZERO: (Refusal.OUT_OF_RANGE, "an inverse perpetual or future cannot trade at price 0"),
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

    def __init__(self, market: Market, accounts: Accounts, lives: dict[int, Life], supervisor: Supervisor, breakers: BookBreakers) -> None:
        self._market = market
        self._accounts = accounts
        self._lives = lives
        self._supervisor = supervisor
        self._breakers = breakers
        self.snapshots_ignored = 0  # since the start of the process; decides nothing

    # ---- fills ----

    def post_fill(self, fill: OneFill, latest_ns: int) -> tuple[Fault | None, bool]:
        """(why it is refused or None, whether anything of the account changed).

        A refused fill leaves its number missing, so that the account is UNKNOWN(missed_fill) until it is redriven or a snapshot settles
        it; where the account has and can have no record of the venue, its name is kept with the number. A duplicate leaves nothing.
        """
        c = self._accounts.columns
        a = fill.account
        if a < 0:
            return TOO_MANY_ACCOUNTS, False
        venue = self._market.universe.venue_number(fill.venue_name)
        last = self._last(a, venue)
        if venue is None or not self._has_room(a, last):
            self.miss(a, fill.venue_name, fill.sequence)
            if venue is None:
                return self.unknown_instrument(fill.venue_name, fill.instrument_name), True
            return _TOO_MANY_VENUES, True
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
        self._count_on(a, fill.venue_name, max(last or 0, fill.sequence))
        self._changed(a)
        return fault, True

    def post_refused(self, refused: RefusedFill) -> tuple[int, bool]:
        """(the account, -1 if none is concerned; whether anything of it changed) for a fill that ingest could not take.

        Its number is missing if venue and number are known. Where not, or where the number lies further off than holes can reach (it may
        itself be what is wrong), an account that exists is marked until a snapshot settles it: garbage makes no accounts.
        """
        venue = self._market.universe.venue_number(refused.venue)
        numbered = venue is not None and refused.sequence > 0
        a = self._accounts.numbers.get(refused.account, -1)
        if a < 0 and numbered and refused.sequence <= HOLES_MAX:
            a = self._accounts.number(refused.account)
        if a < 0:
            return a, False
        last = self._last(a, venue)
        if venue is None or not numbered or not self._has_room(a, last):
            self.miss(a, refused.venue, refused.sequence if refused.sequence > 0 else UNNUMBERED)
            return a, True
        expected = (last or 0) + 1
        if refused.sequence < expected:
            return a, False  # applied before, or missing already
        if _count_holes(self._lives.get(a)) + refused.sequence - (last or 0) > HOLES_MAX:
            self.miss(a, refused.venue, UNNUMBERED)
            return a, True
        set_sequence(a, venue, refused.sequence, self._accounts.columns)
        self._add_holes(a, venue, range(expected, refused.sequence + 1))
        self._count_on(a, refused.venue, refused.sequence)
        self._changed(a)
        return a, True

    def miss(self, a: int, venue_name: str, upto: int) -> None:
        """Marks that something up to this number is missing at a venue; NO_VENUE, or too many names: at some venue."""
        life = self._supervisor.life(a)
        missed = dict(life.missed)
        if venue_name not in missed and sum(name != NO_VENUE for name in missed) >= MISSED_VENUES_MAX:
            venue_name = NO_VENUE
        upto = UNNUMBERED if venue_name == NO_VENUE else max(upto, missed.get(venue_name, 0))
        life.missed = sorted({**missed, venue_name: upto}.items())
        self._changed(a)

    def _count_on(self, a: int, venue_name: str, last: int) -> None:
        """There is a record of the venue now: up to its last number, holes say what is missing."""
        life = self._lives.get(a)
        if life is not None and life.missed:
            life.missed = [(name, upto) for name, upto in life.missed if name != venue_name or upto > last]

    def _last(self, a: int, venue: int | None) -> int | None:
        return None if venue is None else last_sequence(a, venue, self._accounts.columns)

    def _has_room(self, a: int, last: int | None) -> bool:
        """Whether the account has a record of the venue, or can have one."""
        return last is not None or int(self._accounts.columns.venue_count[a]) < ACCOUNT_VENUES_MAX

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

    def post_snapshot(self, snapshot: Snapshot, latest_ns: int) -> tuple[Fault | None, bool]:
        """(why it is refused or None, whether anything of the account changed). Only one that is taken makes an account."""
        universe = self._market.universe
        venue = universe.venue_number(snapshot.venue)
        a = self._accounts.numbers.get(snapshot.account, -1)
        if snapshot.time_ns > latest_ns:
            return future_time(snapshot.time_ns, self._market.clock_ns), False
        if venue is None:
            if not snapshot.positions and self._is_marked(a, snapshot.venue):  # a name that was never right: nothing is held there
                self._settle_missed(self._lives[a], snapshot, snapshot.venue)
                self._changed(a)
                return None, True
            return (Refusal.UNKNOWN_VENUE, f"venue {snapshot.venue} is not defined"), False
        said: dict[int, tuple[int, int]] = {}
        for position in snapshot.positions:
            i = universe.instrument_number(snapshot.venue, position.instrument)
            if i is None:
                return self.unknown_instrument(snapshot.venue, position.instrument), False
            if i in said:
                return (Refusal.DUPLICATE, f"instrument {position.instrument} stands twice in the snapshot"), False
            said[i] = (position.lots, position.cash)
        said = {i: amounts for i, amounts in said.items() if amounts != (0, 0)}
        if a < 0:
            if len(said) > POSITIONS_MAX:
                return _TOO_MANY_POSITIONS, False
            a = self._accounts.number(snapshot.account)
            if a < 0:
                return TOO_MANY_ACCOUNTS, False
        last = self._last(a, venue)
        life = self._lives.get(a)
        broken = life is not None and (
            bool(_holes_of(life, venue)) or venue in life.lasting or self._is_marked(a, snapshot.venue) or self._is_marked(a, NO_VENUE)
        )
        if last is None or (broken and snapshot.sequence >= last):
            fault = self._replace(a, venue, snapshot, said)
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

    def _is_marked(self, a: int, venue_name: str) -> bool:
        life = self._lives.get(a)
        return life is not None and any(name == venue_name for name, _ in life.missed)

    def _settle_missed(self, life: Life, snapshot: Snapshot, *names: str) -> None:
        """Drops the marks of these names, but where a later number than the snapshot's is known to be missing."""
        life.missed = [(name, upto) for name, upto in life.missed if name not in names or snapshot.sequence < upto < UNNUMBERED]

    def _held_at(self, a: int, venue: int) -> dict[int, tuple[int, int]]:
        """Positions of the account at a venue that hold something."""
        return {i: amounts for i, amounts in self._slots_at(a, venue).items() if amounts != (0, 0)}

    def _slots_at(self, a: int, venue: int) -> dict[int, tuple[int, int]]:
        """Those that have a slot only because something of them is pending as well."""
        c = self._accounts.columns
        venue_of = self._market.universe.instrument_arrays.venue
        held: dict[int, tuple[int, int]] = {}
        for slot in range(int(c.positions[a])):
            i = int(c.instrument[a, slot])
            if venue_of[i] == venue:
                held[i] = (int(c.quantity[a, slot]), int(c.cash[a, slot]))
        return held

    def _replace(self, a: int, venue: int, snapshot: Snapshot, said: dict[int, tuple[int, int]]) -> Fault | None:
        """Takes over what the snapshot says. Of a ninth venue no number can be kept: there it only settles what was missed."""
        c = self._accounts.columns
        held = self._slots_at(a, venue)
        said |= {i: (0, 0) for i in held if i not in said and is_pending(a, slot_of(a, i, c), c)}
        if int(c.positions[a]) - len(held) + len(said) > POSITIONS_MAX:
            return _TOO_MANY_POSITIONS
        if not set_sequence(a, venue, snapshot.sequence, c) and not self._is_marked(a, snapshot.venue):
            return _TOO_MANY_VENUES
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
            self._settle_missed(life, snapshot, snapshot.venue, NO_VENUE)
            for venues in (life.lasting, life.unreconciled):
                if venue in venues:
                    venues.remove(venue)
        self._changed(a)
        return None

    # ---- what is pending ----

    def post_pending(self, said: Pending, latest_ns: int) -> tuple[Fault | None, bool]:
        """(why it is refused or None, whether anything of the account changed). Only one that is taken makes an account.

        It replaces what its venue said before; one that is not newer is old, and changes nothing.
        """
        universe, terms = self._market.universe, self._market.universe.instrument_arrays
        venue = universe.venue_number(said.venue)
        a = self._accounts.numbers.get(said.account, -1)
        if venue is None:
            return (Refusal.UNKNOWN_VENUE, f"venue {said.venue} is not defined"), False
        lots: dict[int, tuple[int, int, int]] = {}
        for position in said.positions:
            i = universe.instrument_number(said.venue, position.instrument)
            if i is None:
                return self.unknown_instrument(said.venue, position.instrument), False
            lots[i] = (position.buy_lots, position.sell_lots, position.leaving_lots if terms.contract[i] == SPOT else 0)
        if said.time_ns > latest_ns:
            return future_time(said.time_ns, self._market.clock_ns), False
        lots = {i: amounts for i, amounts in lots.items() if any(amounts)}
        life = self._lives.get(a)
        before = next((one for one in life.pending if one.venue == venue), None) if life is not None else None
        if before is not None and said.time_ns <= before.time_ns:
            return None, False
        if life is not None and before is None and len(life.pending) >= ACCOUNT_VENUES_MAX:
            return (Refusal.TOO_MANY, f"something was pending at {ACCOUNT_VENUES_MAX} other venues"), False
        c = self._accounts.columns
        gone = [i for i, held in self._slots_at(a, venue).items() if held == (0, 0) and i not in lots] if a >= 0 else []
        new = [i for i in lots if a < 0 or slot_of(a, i, c) < 0]
        if (int(c.positions[a]) if a >= 0 else 0) - len(gone) + len(new) > POSITIONS_MAX:
            return _TOO_MANY_POSITIONS, False
        if a < 0:
            a = self._accounts.number(said.account)
            if a < 0:
                return TOO_MANY_ACCOUNTS, False
        for i in gone:
            remove_position(a, slot_of(a, i, self._accounts.columns), self._accounts.columns)
        for i in new:
            add_position(a, i, self._accounts.columns)
        life = self._supervisor.life(a)
        entry = PendingAt(venue, said.time_ns, [(i, *amounts) for i, amounts in sorted(lots.items())])
        life.pending = sorted([entry, *(one for one in life.pending if one.venue != venue)], key=lambda one: one.venue)
        self._fill_pending(a, life)
        self._changed(a)
        return None, True

    def _fill_pending(self, a: int, life: Life) -> None:
        """The account's row of the pool as its life says, or none."""
        self._accounts.drop_pending_row(a)
        self._accounts.load_pending(a, life)

    # ---- reports ----

    def post_report(self, report: OrderReport, occasion: Occasion) -> tuple[Fault | None, bool | None]:
        """(why it is refused or None, None unless an order's flight ended: else whether the account may be planned again at once).

        A report that an order is over ends its flight once the fills it speaks of have arrived: fills come by another topic, and an
        account must not be planned again while some of them are under way. If they never come, the order's own expiry ends it.
        An order that ended without a fill makes its account rest: a venue that refuses at once must not be asked again at once, for ever.
        """
        a = self._accounts.numbers.get(report.account, -1)
        if a < 0:
            return (Refusal.UNKNOWN_ACCOUNT, f"account {report.account} is not known here"), None
        life = self._lives.get(a)
        flight = next((one for one in life.flights if one.order_id == report.order_id), None) if life is not None else None
        if life is None or flight is None:
            if life is not None and report.order_id in life.ended:
                return None, None
            return (Refusal.UNKNOWN_ORDER, f"order {report.order_id} was not sent by this book, or long ago"), None
        flight.heard = True
        self._breakers.hear(int(self._market.universe.instrument_arrays.venue[flight.instrument]))
        self._accounts.columns.dirty[a] = 1
        outcome = _FINAL_REPORTS.get(report.status)
        if outcome is None:
            return None, None
        flight.final_lots = min(report.filled_lots, abs(flight.lots))
        if flight.filled_lots < flight.final_lots:
            return None, None
        untouched = flight.filled_lots == 0
        if untouched:
            self._supervisor.rest(life)
        self._supervisor.end_flight(a, life, flight, outcome, occasion, f"{report.status} {report.reason}".strip())
        return None, not untouched

    # ---- credits ----

    def waits_for(self, credit: Credit) -> str:
        """What an attested transfer waits for: the instrument that it moves, or, if it adds something, its chain; "" if for nothing."""
        universe = self._market.universe
        chain = universe.chain_number(credit.chain)
        if chain is None or universe.vault_instrument(credit.chain, credit.asset) is None:
            return "a vault's instrument"
        return "its chain" if credit.lots > 0 and self._market.chain_holds_credit(chain) else ""

    def post_credit(self, credit: Credit) -> tuple[int, Fault | None]:
        """(the account, -1 if there is no room for it; why it is refused or None) for a transfer that waits for nothing.

        It moves the vault's position; below zero too, since that is what the chain says. One that is refused is missed.
        """
        a = self._accounts.number(credit.account)
        if a < 0:
            return a, TOO_MANY_ACCOUNTS
        universe = self._market.universe
        instrument = universe.vault_instrument(credit.chain, credit.asset)
        assert instrument is not None
        moved = move(a, instrument, int(FillKind.TRANSFER), credit.lots, 0, 0, self._accounts.columns, universe.instrument_arrays)
        if moved != MOVED:
            self.miss(a, universe.instruments[instrument].venue, UNNUMBERED)
            return a, _MOVE_FAULTS[moved]
        self._changed(a)
        return a, None

    def miss_credit(self, credit: Credit) -> int:
        """Marks that a transfer is lost at its vault, as far as that is defined; the account, -1 if there is no room for it."""
        a = self._accounts.number(credit.account)
        if a >= 0:
            universe = self._market.universe
            instrument = universe.vault_instrument(credit.chain, credit.asset)
            self.miss(a, NO_VENUE if instrument is None else universe.instruments[instrument].venue, UNNUMBERED)
        return a


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
