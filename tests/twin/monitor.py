"""The monitor of one partition: accounts, their states and causes, and the orders that follow, event by event.

Takes frames as (kind, events), each event the JSON form of a message as a dictionary, and gives back what is to be published now.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from streams.shadow.margin import BANKRUPT, HEALTHY, LIMITS, MODES, UNDER, UNKNOWN, WARNING, Account, Valuation, state_of
from streams.shadow.universe import LOTS_OF_USD, NANOSECONDS, InstrumentKey, Message
from streams.shadow.values import Position, Positions, first_reason
from streams.shadow.view import MAINTENANCE, Parameters, View
from tests.twin.breakers import Breaker
from tests.twin.market import Market
from tests.twin.plan import limit_ticks, order_id, plan, unit_price

WITH_GRACE = ("HAIRCUT", "REGIME", "CREDIT")
INT_MAX = 2**62
HOLES_MAX, POSITIONS_MAX, HELD_MAX = 64, 16, 4096
NO_CAP_USD = 1e18
BAD_DEBT_RESET = 0.8
ENDED = ("filled", "rejected", "expired", "cancelled")


@dataclass
class Flight:
    """An order that was sent and hasn't ended."""

    key: InstrumentKey
    lots: int
    notional_usd: float
    expires_ns: int
    unit_price: float = 0.0  # what a unit traded at when it was decided, in the quote
    filled: int = 0
    heard: bool = False  # a report or a fill of it came
    final: int | None = None  # lots that a report says were filled when the order ended


@dataclass
class Record:
    """All that is kept of one account. `before_unknown` is the last state that wasn't UNKNOWN."""

    name: str
    positions: Positions = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)  # venue -> last sequence
    holes: dict[str, set[int]] = field(default_factory=dict)
    lasting_holes: set[str] = field(default_factory=set)  # venues where more fills are missing than are counted
    unreconciled: set[str] = field(default_factory=set)
    state: str = HEALTHY
    reason: str = ""
    before_unknown: str = HEALTHY
    cause: str = ""
    valuation: Valuation = field(default_factory=Valuation)
    epoch: int = 0
    grace_until_ns: int = 0
    attempts: dict[tuple[int, InstrumentKey], int] = field(default_factory=dict)
    flights: dict[str, Flight] = field(default_factory=dict)
    retry_at_ns: int | None = None  # waits for a tick at or after this time
    frozen: bool = False
    pending_ns: dict[str, int] = field(default_factory=dict)  # venue -> time of its last word on open orders


@dataclass(frozen=True)
class Order:
    """One order, with the excess that it was planned from and leaves."""

    account: str
    key: InstrumentKey
    order_id: str
    lots: int
    limit_ticks: int
    epoch: int
    attempt: int
    state: str
    cause: str
    decided_ns: int
    expires_ns: int
    excess_before: float
    excess_after: float


class Monitor:
    """Orders go out (`published`) only in mode publish; `shown` are those of mode observe, `outcomes` what else was decided."""

    def __init__(self, parameters: Parameters, partitions: int = 1) -> None:
        self.partitions = partitions
        self.market = Market(parameters)
        self.view: View = self.market.view()
        self.accounts: dict[str, Record] = {}
        self.budgets_usd: dict[str, float] = {}
        self.caps_usd: dict[str, float] = {}
        self.mode = "observe"
        self.frozen_venues: set[str] = set()
        self.frozen = False
        self.held: list[Message] = []
        self.silent: dict[str, int] = {}  # venue -> orders in a row that ended without a word
        self.breakers: dict[tuple[str, str], Breaker] = {}  # this book's own
        self.published: list[Order] = []
        self.shown: list[Order] = []
        self.outcomes: list[tuple[str, str]] = []  # (outcome, account)
        self.margin_calls: list[tuple[str, str, str]] = []  # (account, state, cause)
        self.refused: list[tuple[str, Message]] = []

    # ---- frames -------------------------------------------------------------------------------------------------------------------

    def apply(self, kind: str, events: Iterable[Message]) -> None:
        events = list(events)
        if kind in ("fills", "snapshots", "pending", "reports", "credits"):
            one: Callable[[Message], None] = {
                "fills": self._fill,
                "snapshots": self._snapshot,
                "pending": self._pending,
                "reports": self._report,
                "credits": self._credit,
            }[kind]
            for event in events:
                one(event)
            return
        if kind == "grants":
            for event in events:
                self._grant(event)
            return
        if kind == "commands":
            for event in events:
                self._command(event)
            return
        cause = self._market(kind, events)
        previous, self.view = self.view, self.market.view()
        self._release_held()
        for account in self.accounts.values():
            self._value(account)
        ended = {account.name for account in self.accounts.values() if kind == "tick" and self._end_expired(account)}
        if kind == "tick":
            self._step_own_breakers()
        for account in sorted(self.accounts.values(), key=_worst_first):
            self._settle(account, cause, previous)
            self._plan_one(account, at_tick=kind == "tick", moved=account.name in ended)

    def _market(self, kind: str, events: list[Message]) -> str | None:
        """Takes in a frame of the market; answers the cause if it is one by itself, None where it must be found out."""
        market, cause = self.market, None
        assets = list(market.universe.assets)
        match kind:
            case "prices":
                refused = self._observe(market.observe_price, events)
                touched = {event["asset"] for event in events if event not in refused}
                assets = [asset for asset in assets if asset in touched]
            case "depths":
                self._observe(market.observe_depth, events)
            case "volatilities":
                self._observe(market.observe_implied, events)
            case "lags":
                self._observe(market.observe_lag, events)
            case "fundings":
                self._observe(market.observe_funding, events)
                cause = "FUNDING"
            case "definitions":
                market.define(events)
                assets, cause = list(market.universe.assets), "REGIME"
            case "parameters":
                for event in events:
                    market.set_parameters(event["parameters"])
                cause = "REGIME"
            case "tick":
                for event in events:
                    market.tick(event["time_ns"])
            case _:
                raise ValueError(kind)
        market.bring_up_to_date(kind, assets if kind in ("prices", "definitions", "parameters", "tick") else [])
        return cause

    def _observe(self, take: Callable[[Message], str], events: list[Message]) -> list[Message]:
        """Those that were refused."""
        refused = [(reason, event) for event in events if (reason := take(event))]
        self.refused += refused
        return [event for _, event in refused]

    # ---- what moves positions -----------------------------------------------------------------------------------------------------

    def _fill(self, fill: Message) -> None:
        venue, number = fill["venue"], fill["sequence"]
        account = self.accounts.setdefault(fill["account"], Record(fill["account"]))
        last, holes = account.last.get(venue, 0), account.holes.setdefault(venue, set())
        if venue not in self.market.universe.venues:
            self.refused.append(("unknown_venue", fill))
            return
        if number <= last and number not in holes:
            self.refused.append(("duplicate", fill))
            return
        counted = sum(map(len, account.holes.values()))
        slip = self._slip(account, fill)
        reason = "too_many" if counted + number - last - 1 > HOLES_MAX else self._book_fill(account, fill)
        if slip is not None and not reason:
            self.market.slipped(*slip)
        if number > last:
            # A refused fill is missing like those that were skipped.
            missing = set(range(last + 1, number + 1 if reason else number)) if number - last <= HOLES_MAX else None
            if missing is None or (missing and counted + len(missing) > HOLES_MAX):
                account.lasting_holes.add(venue)
            else:
                holes |= missing
            account.last[venue] = number
        elif not reason:
            holes.discard(number)
        if reason:
            self.refused.append((reason, fill))
        ended = False
        if not reason:
            self.silent[venue] = 0
            ended = self._count_towards_order(account, fill)
        self._after(account, "FUNDING" if fill["kind"] == "funding" else "FILL", ended)

    def _is_future(self, event: Message) -> bool:
        """Beyond the clock and its skew; before the first tick nothing is."""
        clock_ns = self.market.clock_ns
        return clock_ns > 0 and event["time_ns"] > clock_ns + round(self.market.parameters["future_skew_s"] * NANOSECONDS)

    def _book_fill(self, account: Record, fill: Message) -> str:
        """Moves the position, or says why not."""
        universe = self.market.universe
        key = fill["venue"], fill["instrument"]
        instrument = universe.instruments.get(key)
        if instrument is None:
            return "unknown_instrument"
        if self._is_future(fill):
            return "future_time"
        unit = universe.cash_unit(instrument["quote"])
        lots = fill["lots"]
        match fill["kind"]:
            case "funding" | "transfer":
                cash = 0
            case _ if instrument["contract"] in LOTS_OF_USD:
                cash = round(lots * instrument["lot_size"] / (fill["price_ticks"] * instrument["tick_size"]) / 1e-9)
            case _:
                cash = -lots * fill["price_ticks"] * round(instrument["lot_size"] * instrument["tick_size"] / unit)
        return self._move(account, key, lots, cash + fill["cash"])

    def _move(self, account: Record, key: InstrumentKey, lots: int, cash: int) -> str:
        if key not in account.positions and len(account.positions) >= POSITIONS_MAX:
            return "too_many"
        position = account.positions.get(key, Position())
        moved = replace(position, quantity=position.quantity + lots, cash=position.cash + cash)
        if abs(moved.quantity) > INT_MAX or abs(moved.cash) > INT_MAX:
            return "overflow"
        account.positions[key] = moved
        if moved.is_empty:
            del account.positions[key]
        return ""

    def _snapshot(self, snapshot: Message) -> None:
        if self._is_future(snapshot):
            self.refused.append(("future_time", snapshot))
            return
        account = self.accounts.setdefault(snapshot["account"], Record(snapshot["account"]))
        venue, number = snapshot["venue"], snapshot["sequence"]
        said = {(venue, p["instrument"]): (p["lots"], p["cash"]) for p in snapshot["positions"] if p["lots"] or p["cash"]}
        holes = account.holes.setdefault(venue, set())
        last = account.last.get(venue)
        broken = bool(holes) or venue in account.lasting_holes
        if last is None or (broken and number >= last):
            # What stays keeps its slot, and what is pending there stays pending.
            moved = account.positions | {key: account.positions.get(key, Position()) for key in said}
            for key, position in moved.items():
                if key[0] == venue:
                    lots, cash = said.get(key, (0, 0))
                    moved[key] = replace(position, quantity=lots, cash=cash)
            account.positions = {key: position for key, position in moved.items() if not position.is_empty}
            holes.clear()
            account.lasting_holes.discard(venue)
            account.last[venue] = number
            account.unreconciled.discard(venue)
        elif number == last and not broken:
            held = {key: (p.quantity, p.cash) for key, p in account.positions.items() if key[0] == venue and (p.quantity or p.cash)}
            (account.unreconciled.discard if held == said else account.unreconciled.add)(venue)
        else:
            return
        self._after(account, "FILL", ended=False)

    def _pending(self, pending: Message) -> None:
        """Open orders and withdrawals under way at one venue, all of them."""
        universe, venue = self.market.universe, pending["venue"]
        reason = ""
        if venue not in universe.venues:
            reason = "unknown_venue"
        elif any((venue, one["instrument"]) not in universe.instruments for one in pending["positions"]):
            reason = "unknown_instrument"
        elif self._is_future(pending):
            reason = "future_time"
        if reason:
            self.refused.append((reason, pending))
            return
        known = self.accounts.get(pending["account"])
        if known is not None and pending["time_ns"] <= known.pending_ns.get(venue, -1):
            return
        positions = {} if known is None else known.positions
        moved = {key: replace(position, buy=0, sell=0, leaving=0) if key[0] == venue else position for key, position in positions.items()}
        for one in pending["positions"]:
            key = venue, one["instrument"]
            leaving = one["leaving_lots"] if universe.contract(key) == "spot" else 0
            moved[key] = replace(moved.get(key, Position()), buy=one["buy_lots"], sell=one["sell_lots"], leaving=leaving)
        moved = {key: position for key, position in moved.items() if not position.is_empty}
        if len(moved) > POSITIONS_MAX:
            self.refused.append(("too_many", pending))
            return
        account = self.accounts.setdefault(pending["account"], Record(pending["account"]))
        account.positions = moved
        account.pending_ns[venue] = pending["time_ns"]
        self._after(account, "FILL", ended=False)

    def _credit(self, credit: Message) -> None:
        key = self._vault(credit)
        if key is not None and (credit["lots"] <= 0 or self.market.takes_credit(credit["chain"])):
            self._apply_credit(credit, key)
        elif len(self.held) >= HELD_MAX:
            self.refused.append(("held_queue_full", credit))
        else:
            self.held.append(credit)
            self.outcomes.append(("held", credit["account"]))

    def _vault(self, credit: Message) -> InstrumentKey | None:
        """The instrument that a credit moves."""
        universe = self.market.universe
        for key, instrument in universe.instruments.items():
            in_vault = universe.venues[key[0]].get("vault", False) and universe.chain_of(key) == credit["chain"]
            if in_vault and instrument["contract"] == "spot" and instrument["underlying"] == credit["asset"]:
                return key
        return None

    def _apply_credit(self, credit: Message, key: InstrumentKey) -> None:
        account = self.accounts.setdefault(credit["account"], Record(credit["account"]))
        reason = self._move(account, key, credit["lots"], 0)
        if reason:
            self.refused.append((reason, credit))
        else:
            self._after(account, "CREDIT", ended=False)

    def _release_held(self) -> None:
        """What was held for chains whose breaker is closed now; valued with everybody else after this frame."""
        kept: list[Message] = []
        for credit in self.held:
            key = self._vault(credit)
            if key is not None and (credit["lots"] <= 0 or self.market.takes_credit(credit["chain"])):
                self.outcomes.append(("released", credit["account"]))
                account = self.accounts.setdefault(credit["account"], Record(credit["account"]))
                reason = self._move(account, key, credit["lots"], 0)
                self.refused += [(reason, credit)] if reason else []
            else:
                kept.append(credit)
        self.held = kept

    # ---- lives of orders ----------------------------------------------------------------------------------------------------------

    def _count_towards_order(self, account: Record, fill: Message) -> bool:
        flight = account.flights.get(fill.get("order_id", ""))
        if flight is None:
            return False
        flight.heard = True
        flight.filled += abs(fill["lots"])
        whole = abs(flight.lots) if flight.final is None else flight.final
        return flight.filled >= whole and self._end(account, fill["order_id"])

    def _slip(self, account: Record, fill: Message) -> tuple[str, float] | None:
        """(chain, slip) if the fill is of an order of ours, away from the chain where most of the account's collateral lies before it."""
        flight = account.flights.get(fill.get("order_id", ""))
        if flight is None or fill["kind"] in ("transfer", "funding") or flight.unit_price <= 0 or fill["lots"] == 0:
            return None
        universe, margin = self.market.universe, self.margin(account)
        known = {key: p for key, p in margin.positions.items() if not margin.valuer.lacks(key, replace(p, cash=0, buy=0, sell=0))}
        balances = Account(universe, self.view, known).collateral()
        if not balances:
            return None
        home = max(balances, key=lambda one: one.usd).chain
        key = fill["venue"], fill["instrument"]
        if key not in universe.instruments or universe.chain_of(key) == home:
            return None
        price = fill["price_ticks"] * universe.instruments[key]["tick_size"]
        worse = price / flight.unit_price - 1
        return home, max(0.0, worse if fill["lots"] > 0 else -worse)

    def _report(self, report: Message) -> None:
        account = self.accounts.get(report["account"])
        if account is None or report["order_id"] not in account.flights:
            return
        flight = account.flights[report["order_id"]]
        flight.heard = True
        self.silent[flight.key[0]] = 0
        if report["status"] not in ENDED:
            return
        flight.final = min(report["filled_lots"], abs(flight.lots))
        if flight.filled >= flight.final:
            if flight.filled == 0:
                self._rest(account)
            self._end(account, report["order_id"])
            self._after(account, "FILL", ended=flight.filled > 0)

    def _end(self, account: Record, name: str) -> bool:
        flight = account.flights.pop(name)
        unspent = flight.notional_usd * max(abs(flight.lots) - flight.filled, 0) / abs(flight.lots)
        asset = self.market.universe.instruments[flight.key]["underlying"]
        self.budgets_usd[asset] = min(self.caps_usd.get(asset, 0.0), self.budgets_usd.get(asset, 0.0) + unspent)
        return True

    def _end_expired(self, account: Record) -> bool:
        over = [name for name, flight in account.flights.items() if self.market.clock_ns >= flight.expires_ns]
        for name in over:
            flight = account.flights[name]
            if not flight.heard:
                self.silent[flight.key[0]] = self.silent.get(flight.key[0], 0) + 1
            self._end(account, name)
        return bool(over)

    # ---- treasury and operators ---------------------------------------------------------------------------------------------------

    def _grant(self, grant: Message) -> None:
        asset = grant["asset"]
        if asset:
            self.caps_usd[asset] = grant["cap_usd"]
            self.budgets_usd[asset] = min(grant["cap_usd"], self.budgets_usd.get(asset, 0.0) + grant["budget_usd"])
            self.market.recognise(asset, grant.get("recognised", 1.0))

    def collateral_usd(self) -> dict[str, float]:
        """Of each asset with a global cap: positive spot balances of all accounts that can be valued, for the treasury."""
        capped = [name for name, asset in self.market.universe.assets.items() if asset.get("cap_usd_global", NO_CAP_USD) < NO_CAP_USD]
        found = dict.fromkeys(capped, 0.0)
        for account in self.accounts.values():
            for one in [] if account.valuation.reason else self.margin(account).collateral():
                if one.asset in found:
                    found[one.asset] += one.usd
        return found

    def _command(self, command: Message) -> None:
        match command["kind"]:
            case "mode":
                self.mode = command["mode"]
            case "freeze" if command["scope"] == "all":
                self.frozen = command["frozen"]
            case "freeze" if command["scope"] == "venue":
                (self.frozen_venues.add if command["frozen"] else self.frozen_venues.discard)(command["name"])
            case "quarantine":
                if command["chain"] in self.market.universe.chains:
                    self.market.quarantine(command["chain"], command["on"])
            case "freeze" if command["name"] in self.accounts:
                self.accounts[command["name"]].frozen = command["frozen"]

    # ---- this book's own breakers -------------------------------------------------------------------------------------------------

    def breaker(self, trigger: str, name: str) -> Breaker:
        return self.breakers.setdefault((trigger, name), Breaker())

    def _step(self, trigger: str, name: str, value: float, trip: float, reset: float) -> Breaker:
        p, breaker = self.market.parameters, self.breaker(trigger, name)
        breaker.step(value, self.market.clock_ns, trip, reset, round(p["cooldown_s"] * NANOSECONDS))
        return breaker

    def _step_own_breakers(self) -> None:
        """At a tick, when the orders that are over have ended, and before anything is planned."""
        p = self.market.parameters
        if not self.market.has_parameters:
            return
        if not p["breakers_enabled"]:
            self.breakers.clear()
            return
        for asset in self.market.universe.assets:
            cap = self.caps_usd.get(asset, 0.0)
            spent = 1 - self.budgets_usd.get(asset, 0.0) / cap if cap > 0 else 0.0
            self._step("liquidation_volume", asset, spent, p["volume_trip"], p["volume_reset"])
        for venue in self.market.universe.venues:
            # As many as the limit are enough, and less is calm; when it trips the count begins anew.
            limit, was_tripped = p["silence_trip"] - 0.5, self.breaker("venue_silence", venue).tripped
            if self._step("venue_silence", venue, self.silent.get(venue, 0), limit, limit).tripped and not was_tripped:
                self.silent[venue] = 0
        if self.market.new_minute:
            bad = sum(max(0.0, -account.valuation.unhaircut) for account in self.accounts.values() if not account.reason)
            self._step("bad_debt", "book", bad / (p["bad_debt_limit_usd"] / self.partitions), 1.0, BAD_DEBT_RESET)

    # ---- states -------------------------------------------------------------------------------------------------------------------

    def _after(self, account: Record, cause: str, ended: bool) -> None:
        self._value(account)
        self._settle(account, cause, self.view)
        self._plan_one(account, at_tick=False, moved=ended)

    def margin(self, account: Record, view: View | None = None) -> Account:
        return Account(self.market.universe, view or self.view, account.positions)

    def requirements(self, name: str) -> dict[str, float]:
        """Maintenance requirement in the three modes."""
        account = self.margin(self.accounts[name])
        return {mode: account.requirement(MAINTENANCE, mode) for mode in MODES}

    def _value(self, account: Record) -> None:
        valuation = self.margin(account).valuation()
        reasons = [valuation.reason] if valuation.reason else []
        if account.lasting_holes or any(account.holes.values()):
            reasons.append("missed_fill")
        if account.unreconciled:
            reasons.append("unreconciled")
        account.reason = first_reason(reasons)
        account.valuation = valuation

    def _settle(self, account: Record, cause: str | None, previous: View) -> None:
        """Sets the account's state, and what follows when it enters LIQUIDATABLE or BANKRUPT from outside."""
        if account.reason:
            account.state = UNKNOWN
            return
        valuation, was = account.valuation, account.before_unknown
        account.state = account.before_unknown = state_of(valuation, was, bool(account.positions))
        if account.state in UNDER and was not in UNDER:
            account.cause = cause or self._find_cause(account, previous)
            account.epoch += 1
            account.grace_until_ns = 0
            account.retry_at_ns = None
            if account.cause in WITH_GRACE:
                account.grace_until_ns = self.market.clock_ns + round(self.market.parameters["grace_s"] * NANOSECONDS)
                self.margin_calls.append((account.name, account.state, account.cause))
                self.outcomes.append(("grace", account.name))
        elif account.state not in UNDER:
            account.cause = ""
            account.grace_until_ns = 0
            account.retry_at_ns = None
            if account.state == WARNING and was == HEALTHY:
                self.margin_calls.append((account.name, account.state, ""))

    def refuses(self, name: str) -> list[str]:
        """Why an account that can be valued may take no new risk."""
        valuation = self.accounts[name].valuation
        found = ["initial_margin"] if valuation.equity_i < valuation.initial else []
        found += [limit for bit, limit in enumerate(LIMITS) if valuation.limits >> bit & 1]
        return found if self.breaker("bad_debt", "book").closed else [*found, "bad_debt"]

    def _find_cause(self, account: Record, previous: View) -> str:
        if not self._below(account, self.view.with_nothing_paused()):
            return "CREDIT"
        if self._below(account, self.view.with_regime_of(previous).with_haircut_inputs_of(previous)):
            return "PRICE"
        return "REGIME" if self._below(account, self.view.with_haircut_inputs_of(previous)) else "HAIRCUT"

    def _below(self, account: Record, view: View) -> bool:
        """Whether this view of the market is enough for an account that wasn't below before."""
        valuation = self.margin(account, view).valuation()
        return not valuation.reason and state_of(valuation, HEALTHY, has_positions=True) in UNDER

    # ---- plans --------------------------------------------------------------------------------------------------------------------

    def _grace_over(self, account: Record) -> bool:
        """Ends the grace if its time is over, the shortfall too large, or the account bankrupt; True if it ended now."""
        if account.state not in UNDER or account.grace_until_ns == 0:
            return False
        if self._too_short_for_grace(account) or self.market.clock_ns >= account.grace_until_ns:
            account.grace_until_ns = 0
            return True
        return False

    def _too_short_for_grace(self, account: Record) -> bool:
        valuation, fraction = account.valuation, self.market.parameters["grace_shortfall_fraction"]
        return account.state == BANKRUPT or valuation.maintenance - valuation.equity_m > fraction * valuation.maintenance

    def _rest(self, account: Record) -> None:
        account.retry_at_ns = self.market.clock_ns + round(self.market.parameters["plan_retry_s"] * NANOSECONDS)

    def _plan_one(self, account: Record, at_tick: bool, moved: bool) -> None:
        """`moved`: something of the account's own makes it worth a try before its time."""
        ended = self._grace_over(account)
        if account.state not in UNDER or account.flights or account.grace_until_ns:
            return
        waits = account.retry_at_ns is not None and not (at_tick and self.market.clock_ns >= account.retry_at_ns)
        if waits and not (ended or moved):
            return
        self._rest(account)
        if self.frozen or account.frozen:
            self.outcomes.append(("frozen", account.name))
            return
        budgets = self.budgets_usd
        made = plan(
            self.market.universe,
            self.view,
            account.positions,
            budgets,
            account.state == BANKRUPT,
            lambda key: key[0] not in self.frozen_venues and self.breaker("venue_silence", key[0]).closed,
        )
        if not made.legs:
            self.outcomes.append(("throttled" if made.throttled else "no_plan", account.name))
            return
        expires_ns = self.market.clock_ns + round(self.market.parameters["order_ttl_s"] * NANOSECONDS)
        for leg in made.legs:
            attempt = account.attempts.get((account.epoch, leg.key), 0) + 1
            order = Order(
                account.name,
                leg.key,
                order_id(account.name, account.epoch, leg.key, attempt),
                leg.lots,
                limit_ticks(self.margin(account), leg.key, leg.lots, attempt),
                account.epoch,
                attempt,
                account.state,
                account.cause,
                self.market.clock_ns,
                expires_ns,
                leg.excess_before,
                leg.excess_after,
            )
            if self.mode != "publish":
                self.shown.append(order)
                continue
            account.attempts[account.epoch, leg.key] = attempt
            price = unit_price(self.margin(account), leg.key)
            account.flights[order.order_id] = Flight(leg.key, leg.lots, leg.notional_usd, expires_ns, price)
            asset = self.market.universe.instruments[leg.key]["underlying"]
            budgets[asset] = budgets.get(asset, 0.0) - leg.notional_usd
            account.retry_at_ns = None
            self.published.append(order)


def _worst_first(account: Record) -> tuple[float, str]:
    return account.valuation.equity_m / max(account.valuation.maintenance, 1e-9), account.name
