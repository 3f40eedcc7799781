"""What follows from an account's health: its state, its cause, grace, margin calls, orders and their life (docs/model.md, 6 and 8)."""

from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.book import NEVER_NS, Accounts, lots_there
from engine.book_breakers import BookBreakers
from engine.effects import Decision, Effects, MarginCall, Order
from engine.fills import is_below, value_accounts
from engine.inputs import FillKind
from engine.limits import Limits
from engine.liquidation import is_closed_to_us, limit_ticks, new_frozen_venues, new_legs, new_scratch, order_id, plan, price_in_quote
from engine.margin import EQUITY, EQUITY_INITIAL, INITIAL, MAINTENANCE, OUT, UNHAIRCUT
from engine.market import Market
from engine.reasons import Cause, Outcome, State, Unknown
from engine.reporting import refusal_bits, refusals_in_words
from engine.rows import ENDED_ORDERS_MAX, Flight, Life
from engine.slow_rise import SLIP_CAP
from engine.tables import LOAN, SPOT, UNIT_LONG, UNIT_UNKNOWN, RiskTables
from engine.universe import CASH_CLASS

NS_PER_S: Final = 1_000_000_000
MICRO: Final = 1_000_000
RATIO_FLOOR_USD: Final = 1e-9
FAULT_CHARACTERS_MAX: Final = 200  # of an exception's text in the audit
SENT: Final = ""  # Life.said after an order went out
NO_CHAIN: Final = -1
UNPRICED: Final = frozenset({int(FillKind.TRANSFER), int(FillKind.FUNDING)})
GRACED: Final = frozenset({Cause.HAIRCUT, Cause.REGIME, Cause.CREDIT})

CauseOf = tuple[RiskTables, RiskTables, RiskTables]  # of Market.cause_tables


class Valued(NamedTuple):
    """One account that needs a decision, and what it came to."""

    account: int
    state: int
    reason: int


class Occasion:
    """The event behind a decision: where it stands in its source, what was decided there, and the cause it gives.

    `cause` NONE: the market moved, and `cause_tables` (asked for once, when first needed) tell credit, price, haircut and regime apart.
    """

    def __init__(self, at: str, cause: Cause, effects: Effects, cause_tables: Callable[[], CauseOf]) -> None:
        self.at = at
        self.effects = effects
        self._cause = cause
        self._cause_tables = cause_tables
        self._tables: CauseOf | None = None

    def cause_of(self, is_below_under: Callable[[RiskTables], bool]) -> Cause:
        """Why an account fell: by late chains, with the new marks alone, without the new haircut inputs, or by them (docs/model.md, 6)."""
        if self._cause != Cause.NONE:
            return self._cause
        if self._tables is None:
            self._tables = self._cause_tables()
        unpaused, before, without_haircuts = self._tables
        if not is_below_under(unpaused):
            return Cause.CREDIT
        if is_below_under(before):
            return Cause.PRICE
        return Cause.REGIME if is_below_under(without_haircuts) else Cause.HAIRCUT


class Supervisor:
    """Values accounts and decides about them. Shares its arrays with the book; `lives` holds what few accounts have."""

    def __init__(self, market: Market, accounts: Accounts, lives: dict[int, Life], limits: Limits, breakers: BookBreakers) -> None:
        self.unheard: Counter[str] = Counter()  # by venue: orders that ended by their time without a report or a fill, for those who look
        self._market = market
        self._accounts = accounts
        self._lives = lives
        self._limits = limits
        self._breakers = breakers
        self._scratch = new_scratch()
        self._legs = new_legs()
        self._out = np.zeros(OUT, np.float64)
        self._faults: dict[int, str] = {}  # of accounts just quarantined, until they are settled

    # ---- valuing ----

    def value(self, numbers: NDArray[np.int64]) -> list[Valued]:
        """Values accounts anew; answers those that need a decision. One that cannot be computed is quarantined, the others go on."""
        numbers = self._without_quarantined(numbers)
        if not len(numbers):
            return []
        try:
            return self._value_all(numbers)
        except Exception:  # noqa: BLE001 - whatever it is, it must not stop the other accounts
            found: list[Valued] = []
            for k in range(len(numbers)):
                try:
                    found += self._value_all(numbers[k : k + 1])
                except Exception as error:  # noqa: BLE001 - this is the one
                    found.append(self._quarantine(int(numbers[k]), error))
            return found

    def _value_all(self, numbers: NDArray[np.int64]) -> list[Valued]:
        n = len(numbers)
        states, reasons, index = np.empty(n, np.int8), np.empty(n, np.int8), np.empty(n, np.int64)
        end_factor = self._market.parameters.end_factor
        left = value_accounts(numbers, self._accounts.columns, self._market.tables, end_factor, states, reasons, index)
        places = index[:left]
        return [Valued(*found) for found in zip(numbers[places].tolist(), states[places].tolist(), reasons[places].tolist(), strict=True)]

    def value_one(self, a: int) -> Valued:
        """Values one account anew, whatever it comes to."""
        found = self.value(np.array([a], np.int64))
        c = self._accounts.columns
        return found[0] if found else Valued(a, int(c.state[a]), int(c.reason[a]))

    def restore(self) -> None:
        """Computes state, reason and health of every account from what was restored. Nothing is decided: it was before the cut."""
        c, numbers = self._accounts.columns, np.arange(len(self._accounts), dtype=np.int64)
        for a in np.flatnonzero(c.prior[: len(numbers)] >= State.LIQUIDATABLE).tolist():
            self.refresh(a)
        for a in list(self._lives):
            self.refresh(a)
        quarantined = c.standing[numbers] == Unknown.ENGINE_FAULT
        c.health[numbers[quarantined]] = np.nan
        c.state[numbers[quarantined]], c.reason[numbers[quarantined]] = State.UNKNOWN, Unknown.ENGINE_FAULT
        c.state[numbers[~quarantined]] = c.prior[numbers[~quarantined]]
        for a, state, reason in self.value(numbers):
            c.state[a], c.reason[a] = state, reason
        self._faults.clear()
        for a in list(self._lives):
            self.refresh(a)

    def _without_quarantined(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        standing = self._accounts.columns.standing[numbers]
        return numbers[standing != Unknown.ENGINE_FAULT] if (standing == Unknown.ENGINE_FAULT).any() else numbers

    def _quarantine(self, a: int, error: Exception) -> Valued:
        """The account is not valued again until an event of its own arrives."""
        self._faults[a] = f"{type(error).__name__}: {error}"[:FAULT_CHARACTERS_MAX]
        self.life(a).quarantined = True
        columns = self._accounts.columns
        columns.health[a] = np.nan
        columns.dirty[a] = 1
        self.refresh(a)
        return Valued(a, State.UNKNOWN, Unknown.ENGINE_FAULT)

    def release(self, a: int) -> None:
        """An event of the account's own: try to value it again."""
        life = self._lives.get(a)
        if life is not None and life.quarantined:
            life.quarantined = False
            self._accounts.columns.dirty[a] = 1
            self.refresh(a)

    def life(self, a: int) -> Life:
        """The account's life; a new one if it had none. Call `refresh` when done with it."""
        life = self._lives.get(a)
        if life is None:
            life = self._lives[a] = Life()
        return life

    def refresh(self, a: int) -> None:
        """Brings what follows from an account's life and state into the arrays, and drops a life that says nothing."""
        c = self._accounts.columns
        life = self._lives.get(a)
        standing, due = Unknown.NONE, NEVER_NS
        if life is not None:
            if life.quarantined:
                standing = Unknown.ENGINE_FAULT
            elif life.holes or life.lasting or life.missed:
                standing = Unknown.MISSED_FILL
            elif life.unreconciled:
                standing = Unknown.UNRECONCILED
            for flight in life.flights:
                due = min(due, flight.expires_ns)
            if c.state[a] != State.UNKNOWN:
                due = min(due, life.grace_until_ns or NEVER_NS, life.retry_ns or NEVER_NS)
            if life.is_empty():
                del self._lives[a]
        c.standing[a] = standing
        c.due_ns[a] = due
        c.watched[a] = life is not None and life.grace_until_ns > 0
        c.plain[a] = standing == Unknown.NONE and c.prior[a] < State.LIQUIDATABLE and (life is None or not life.flights)

    def excess_order(self, valued: Valued) -> tuple[float, str]:
        """Sorts worst first: equity over requirement, then the account's key; what cannot be valued last."""
        health = self._accounts.columns.health[valued.account]
        ratio = float(health[EQUITY]) / max(float(health[MAINTENANCE]), RATIO_FLOOR_USD)
        return (ratio if ratio == ratio else np.inf), self._accounts.names[valued.account]

    # ---- states ----

    def settle(self, valued: Valued, occasion: Occasion, woken: bool) -> None:
        """Takes an account to its state and does what follows. `woken`: a flight ended or a wait is over, so plan if there is need."""
        a, state, reason = valued
        c = self._accounts.columns
        if a in self._faults:
            self._audit_fault(a, self._faults.pop(a), occasion)
        before, prior = int(c.state[a]), int(c.prior[a])
        if state != before or reason != c.reason[a]:
            c.state[a], c.reason[a], c.told[a] = state, reason, 0
        if state != State.UNKNOWN:
            if state != prior:
                c.prior[a], c.dirty[a] = state, 1
            if state >= State.LIQUIDATABLE:
                self._settle_short(a, state, occasion, entered=prior < State.LIQUIDATABLE, woken=woken)
            elif prior >= State.LIQUIDATABLE:
                self._cure(a, state, occasion)
            elif state == State.WARNING and prior == State.HEALTHY:
                self._call(a, Cause.NONE, 0, occasion)
        self.refresh(a)

    def _settle_short(self, a: int, state: int, occasion: Occasion, *, entered: bool, woken: bool) -> None:
        c, clock = self._accounts.columns, self._market.clock_ns
        parameters = self._market.parameters
        health = c.health[a]
        shortfall = float(health[MAINTENANCE] - health[EQUITY])
        graceless = state == State.BANKRUPT or shortfall > parameters.grace_shortfall_fraction * float(health[MAINTENANCE])
        life = self.life(a)
        if entered:
            c.epoch[a] += 1
            cause = occasion.cause_of(lambda tables: bool(is_below(a, c, tables, self._out)))
            c.cause[a], c.dirty[a], c.told[a] = cause, 1, 0
            life.attempts, life.said, life.retry_ns, life.grace_until_ns = [], SENT, 0, 0
            if cause in GRACED:
                life.grace_until_ns = clock + int(parameters.grace_s * NS_PER_S)
                self._call(a, cause, life.grace_until_ns, occasion)
                self._decide(a, Outcome.GRACE, occasion, note=f"until {life.grace_until_ns}")
        if life.grace_until_ns:
            if not graceless and clock < life.grace_until_ns:
                return
            life.grace_until_ns, c.dirty[a], woken = 0, 1, True
        if not life.flights and (woken or life.retry_ns == 0):
            self._plan(a, state, life, occasion)

    def _cure(self, a: int, state: int, occasion: Occasion) -> None:
        c = self._accounts.columns
        life = self._lives.get(a)
        if life is not None:
            life.attempts, life.said, life.retry_ns, life.grace_until_ns = [], SENT, 0, 0
        self._decide(a, Outcome.CURED, occasion, note=f"now {State(state).name}")
        c.cause[a], c.dirty[a], c.told[a] = Cause.NONE, 1, 0

    def _call(self, a: int, cause: Cause, grace_until_ns: int, occasion: Occasion) -> None:
        c = self._accounts.columns
        health = c.health[a]
        short = health[INITIAL] - health[EQUITY_INITIAL] if c.state[a] == State.WARNING else health[MAINTENANCE] - health[EQUITY]
        occasion.effects.now.append(
            MarginCall(
                account=self._accounts.names[a],
                state=State(int(c.state[a])).name,
                cause=cause.name.lower(),
                equity_usd=float(health[EQUITY]),
                maintenance_usd=float(health[MAINTENANCE]),
                shortfall_usd=max(float(short), 0.0),
                refuses=refusals_in_words(refusal_bits(health)),
                grace_until_ns=grace_until_ns,
                decided_ns=self._market.clock_ns,
            )
        )

    # ---- orders ----

    def _plan(self, a: int, state: int, life: Life, occasion: Occasion) -> None:
        c, market, limits = self._accounts.columns, self._market, self._limits
        parameters = market.parameters
        c.dirty[a] = 1
        self.rest(life)
        if limits.is_frozen(self._accounts.names[a]):
            self._say(a, life, Outcome.FROZEN, occasion)
            return
        universe = market.universe
        frozen = new_frozen_venues()
        for venue in limits.frozen_venues:
            number = universe.venue_number(venue)
            if number is not None:
                frozen[number] = True
        self._breakers.mark_silent(frozen)
        terms = universe.instrument_arrays
        bankrupt = state == State.BANKRUPT
        found, throttled = plan(
            a, c, bankrupt, frozen, limits.budget_usd, parameters.plan_legs_max, parameters.end_factor, market.clock_ns, terms,
            market.tables, self._scratch, self._legs,
        )  # fmt: skip
        if found == 0:
            if bankrupt and limits.publish:
                self._ask_fund(a, life, occasion)
            self._say(a, life, Outcome.THROTTLED if throttled else self._why_no_plan(a, frozen), occasion)
            return
        legs = self._legs
        signature = f"{Outcome.OBSERVED}"
        for leg in range(found):
            i, lots = int(legs.instrument[leg]), int(legs.lots[leg])
            signature += f"|{i}:{lots}"
        if not limits.publish:
            if life.said == signature:
                return
            life.said = signature
        for leg in range(found):
            self._order(a, life, leg, occasion)
        if limits.publish:
            life.retry_ns, life.said, c.told[a] = 0, SENT, 0

    def _order(self, a: int, life: Life, leg: int, occasion: Occasion) -> None:
        """One leg of a plan: an order and its reservations when publishing, and the decision in any mode."""
        c, market, legs = self._accounts.columns, self._market, self._legs
        universe, parameters, clock = market.universe, market.parameters, market.clock_ns
        name = self._accounts.names[a]
        i, lots = int(legs.instrument[leg]), int(legs.lots[leg])
        instrument = universe.instruments[i]
        attempts = dict(life.attempts)
        attempt = attempts.get(i, 0) + 1
        epoch = int(c.epoch[a])
        identity = order_id(name, epoch, instrument.venue, instrument.name, attempt)
        mark_quote = price_in_quote(i, market)
        limit = limit_ticks(mark_quote, instrument.tick_size, lots, attempt, parameters)
        notional = float(legs.notional_usd[leg])
        if self._limits.publish:
            expires = clock + int(parameters.order_ttl_s * NS_PER_S)
            attempts[i] = attempt
            life.attempts = sorted(attempts.items())
            life.flights.append(Flight(identity, i, lots, 0, -1, notional, expires, attempt, mark_quote=mark_quote))
            self._limits.spend(int(universe.instrument_arrays.underlying[i]), notional)
            occasion.effects.now.append(
                Order(
                    order_id=identity,
                    account=name,
                    venue=instrument.venue,
                    chain=universe.venues[int(universe.instrument_arrays.venue[i])].chain,
                    instrument=instrument.name,
                    lots=lots,
                    limit_ticks=limit,
                    epoch=epoch,
                    attempt=attempt,
                    state=State(int(c.state[a])).name,
                    cause=Cause(int(c.cause[a])).name.lower(),
                    decided_ns=clock,
                    expires_ns=expires,
                    parameters=market.parameters_version,
                    ledger=occasion.at,
                )
            )
        self._decide(
            a,
            Outcome.ORDERED if self._limits.publish else Outcome.OBSERVED,
            occasion,
            leg=leg,
            identity=identity,
            limit=limit,
        )

    def _why_no_plan(self, a: int, frozen: NDArray[np.bool_]) -> Outcome:
        c, terms = self._accounts.columns, self._market.universe.instrument_arrays
        for slot in range(int(c.positions[a])):
            i = int(c.instrument[a, slot])
            if c.quantity[a, slot] != 0 and not is_closed_to_us(i, self._market.clock_ns, terms) and frozen[terms.venue[i]]:
                return Outcome.FROZEN
        return Outcome.NO_PLAN

    def _ask_fund(self, a: int, life: Life, occasion: Occasion) -> None:
        """Once an epoch: what a bankrupt account owes when nothing is left to close."""
        c = self._accounts.columns
        missing = -float(c.health[a, UNHAIRCUT])
        if life.fund_epoch == int(c.epoch[a]) or not missing > 0.0 or self._has_left_to_close(a):
            return
        micro = int(np.ceil(missing * MICRO))
        life.fund_epoch = int(c.epoch[a])
        self._limits.fund_requested_micro_usd += micro
        self._decide(a, Outcome.FUND_DRAW, occasion, note=f"asked for {micro} micro-USD")

    def _has_left_to_close(self, a: int) -> bool:
        """Whether there is a position with a quantity that is neither a loan nor spot of an asset of class cash."""
        c, universe = self._accounts.columns, self._market.universe
        terms = universe.instrument_arrays
        for slot in range(int(c.positions[a])):
            i = int(c.instrument[a, slot])
            is_cash = terms.contract[i] == SPOT and universe.asset_arrays.asset_class[terms.underlying[i]] == CASH_CLASS
            if c.quantity[a, slot] != 0 and terms.contract[i] != LOAN and not is_cash:
                return True
        return False

    # ---- what becomes of orders ----

    def fill_order(self, a: int, identity: str, lots: int, occasion: Occasion) -> bool:
        """A fill of an order; True if that ends its flight. Others' order ids are no concern of ours."""
        life = self._lives.get(a)
        if life is None:
            return False
        for flight in life.flights:
            if flight.order_id == identity:
                self._accounts.columns.dirty[a] = 1
                flight.filled_lots += abs(lots)
                flight.heard = True
                target = abs(flight.lots) if flight.final_lots < 0 else flight.final_lots
                if flight.filled_lots >= target:
                    self.end_flight(a, life, flight, Outcome.FILLED, occasion, "")
                    return True
                return False
        return False

    def slip_of(self, a: int, identity: str, instrument: int, kind: int, lots: int, price_ticks: int) -> tuple[int, float] | None:
        """(chain, slip) of a fill that is not booked yet, None if it says nothing of that (docs/model.md, section 9).

        How much worse than its mark an order of ours was filled, away from the chain where most of the account's collateral lies: of that
        chain it is measured.
        """
        life = self._lives.get(a)
        flight = next((one for one in life.flights if one.order_id == identity), None) if life is not None else None
        if flight is None or instrument < 0 or kind in UNPRICED or lots == 0 or not flight.mark_quote > 0.0:
            return None
        terms, home = self._market.universe.instrument_arrays, self._home_chain(a)
        if home in (NO_CHAIN, int(terms.chain[instrument])):
            return None
        worse = price_ticks * float(terms.tick_size[instrument]) / flight.mark_quote - 1.0
        return home, min(max(worse if lots > 0 else -worse, 0.0), SLIP_CAP)

    def _home_chain(self, a: int) -> int:
        """The chain of the account's largest positive spot balance, the first of equal ones; NO_CHAIN if it has none that is known."""
        c, market = self._accounts.columns, self._market
        terms, tables = market.universe.instrument_arrays, market.tables
        home, most_usd = NO_CHAIN, 0.0
        for slot in range(int(c.positions[a])):
            i = int(c.instrument[a, slot])
            if terms.contract[i] == SPOT and tables.instrument_int[i, UNIT_UNKNOWN] == 0:
                usd = lots_there(a, slot, SPOT, c) * float(tables.instrument_float[i, UNIT_LONG])
                if usd > most_usd:
                    home, most_usd = int(terms.chain[i]), usd
        return home

    def expire_flights(self, a: int, occasion: Occasion) -> bool:
        """Ends the orders whose time is over; True if there was one."""
        life = self._lives.get(a)
        if life is None:
            return False
        over = [flight for flight in life.flights if flight.expires_ns <= self._market.clock_ns]
        for flight in over:
            if not flight.heard:
                self.unheard[self._market.universe.instruments[flight.instrument].venue] += 1
                self._breakers.count_silence(int(self._market.universe.instrument_arrays.venue[flight.instrument]))
            self.end_flight(a, life, flight, Outcome.EXPIRED, occasion, "")
        return bool(over)

    def rest(self, life: Life) -> None:
        """Nothing is planned of the account's own accord before a tick at least `plan_retry_s` from now."""
        life.retry_ns = self._market.clock_ns + max(int(self._market.parameters.plan_retry_s * NS_PER_S), 1)

    def is_retry_due(self, a: int) -> bool:
        """Whether a plan that came to nothing may be tried again."""
        life = self._lives.get(a)
        return life is not None and 0 < life.retry_ns <= self._market.clock_ns

    def end_flight(self, a: int, life: Life, flight: Flight, outcome: Outcome, occasion: Occasion, note: str) -> None:
        """An order is over: what was not filled goes back to the budget."""
        c = self._accounts.columns
        c.dirty[a], c.told[a] = 1, 0
        life.flights.remove(flight)
        life.ended = [*life.ended, flight.order_id][-ENDED_ORDERS_MAX:]
        universe = self._market.universe
        unfilled = max(abs(flight.lots) - flight.filled_lots, 0) / abs(flight.lots)
        self._limits.give_back(int(universe.instrument_arrays.underlying[flight.instrument]), flight.notional_usd * unfilled)
        instrument = universe.instruments[flight.instrument]
        occasion.effects.now.append(
            Decision(
                outcome=outcome.value,
                account=self._accounts.names[a],
                venue=instrument.venue,
                instrument=instrument.name,
                order_id=flight.order_id,
                lots=flight.lots,
                note=f"filled {flight.filled_lots} of {abs(flight.lots)}{note and ': '}{note}",
                decided_ns=self._market.clock_ns,
                parameters=self._market.parameters_version,
                ledger=occasion.at,
            )
        )

    # ---- words ----

    def _audit_fault(self, a: int, note: str, occasion: Occasion) -> None:
        occasion.effects.now.append(
            Decision(
                outcome=Outcome.ENGINE_FAULT.value,
                account=self._accounts.names[a],
                note=note,
                decided_ns=self._market.clock_ns,
                parameters=self._market.parameters_version,
                ledger=occasion.at,
            )
        )

    def _say(self, a: int, life: Life, outcome: Outcome, occasion: Occasion) -> None:
        """A plan that sent nothing: said when it is another outcome than at the last try."""
        if life.said != outcome.value:
            life.said = outcome.value
            self._decide(a, outcome, occasion)

    def _decide(
        self, a: int, outcome: Outcome, occasion: Occasion, *, note: str = "", leg: int = -1, identity: str = "", limit: int = 0
    ) -> None:
        c, market, legs = self._accounts.columns, self._market, self._legs
        health = c.health[a]
        equity, maintenance = float(health[EQUITY]), float(health[MAINTENANCE])
        ordered = leg >= 0
        instrument = market.universe.instruments[int(legs.instrument[leg])] if ordered else None
        occasion.effects.now.append(
            Decision(
                outcome=outcome.value,
                account=self._accounts.names[a],
                venue=instrument.venue if instrument else "",
                instrument=instrument.name if instrument else "",
                order_id=identity,
                lots=int(legs.lots[leg]) if ordered else 0,
                limit_ticks=limit,
                state=State(int(c.state[a])).name,
                cause=Cause(int(c.cause[a])).name.lower(),
                equity_usd=equity,
                maintenance_usd=maintenance,
                excess_before_usd=float(legs.excess_before_usd[leg]) if ordered else equity - market.parameters.end_factor * maintenance,
                excess_after_usd=float(legs.excess_after_usd[leg]) if ordered else None,
                cost_usd=float(legs.cost_usd[leg]) if ordered else None,
                note=note,
                decided_ns=market.clock_ns,
                parameters=market.parameters_version,
                ledger=occasion.at,
            )
        )
