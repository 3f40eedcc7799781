"""The book of one ledger partition as a machine: frames in; states, orders and health out."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.book import NEVER_NS, Accounts, collect_holders
from engine.book_breakers import BookBreakers
from engine.collateral import collateral_usd
from engine.decisions import NS_PER_S, Occasion, Supervisor, Valued
from engine.effects import Breaker, Decision, Effects, Refused
from engine.encumbrance import LeverageWatch
from engine.fills import FillColumns, apply_fills
from engine.held_credits import HELD_CREDITS_MAX, HeldCredit, HeldCredits
from engine.inputs import (
    FILL_KINDS,
    Credit,
    FillKind,
    Fills,
    Frame,
    FrameKind,
    Grant,
    OrderReport,
    Partial,
    Pending,
    RefusedFill,
    RiskParameters,
    SetFreeze,
    SetMode,
    SetQuarantine,
    Snapshot,
)
from engine.limits import Limits
from engine.machine import CUT_KEY, Cut
from engine.margin import UNHAIRCUT
from engine.market import Market, Revaluation
from engine.market_breakers import BreakerChange
from engine.market_pieces import PREFIX as MARKET_PREFIX
from engine.parameters import BPS
from engine.postings import Fault, OneFill, Postings
from engine.reasons import Cause, Outcome, Refusal
from engine.reporting import accounts_by_state, accounts_to_tell, refusals_of, tell
from engine.rows import ACCOUNT_PREFIX, Life, RowLedger, decode_account_row
from engine.sources import Sources, first_new, gap_decision, refused
from engine.venue_legs import LegWatch

NAME: Final = "book"

_MARKET_KINDS: Final = frozenset(
    {
        FrameKind.PRICES,
        FrameKind.DEPTHS,
        FrameKind.VOLATILITIES,
        FrameKind.LAGS,
        FrameKind.TICK,
        FrameKind.FUNDINGS,
        FrameKind.DEFINITIONS,
        FrameKind.PARAMETERS,
    }
)


class Book:
    """A machine (engine.machine.Machine): the accounts of ledger partition `partition` of `partitions`."""

    def __init__(self, partition: int, partitions: int) -> None:
        assert 0 <= partition < partitions
        self.partition = partition
        self.market = Market()
        self.accounts = Accounts()
        self.lives: dict[int, Life] = {}
        self.limits = Limits()
        self.breakers = BookBreakers(partitions)
        self._supervisor = Supervisor(self.market, self.accounts, self.lives, self.limits, self.breakers)
        self._postings = Postings(self.market, self.accounts, self.lives, self._supervisor, self.breakers)
        self.legs = LegWatch(self.accounts, self.lives)
        self.leverage = LeverageWatch()  # for those who look: nothing decides by it, and no cut has it
        self._sources = Sources()
        self._rows = RowLedger()
        self._applied = -1
        self._held = HeldCredits()
        self._breakers_changed: dict[tuple[str, str], Breaker] = {}  # since the last cut
        self._partial_told: Partial | None = None
        self._buffer = np.zeros(0, np.int64)

    # ---- Machine ----------------------------------------------------------------------------------------------------------------------

    @property
    def applied(self) -> int:
        """Offset of the last applied frame, -1 before the first."""
        return self._applied

    @property
    def clock_ns(self) -> int:
        """Event time of the last tick."""
        return self.market.clock_ns

    @property
    def snapshots_ignored(self) -> int:
        """Snapshots that could not be compared, since the start of the process."""
        return self._postings.snapshots_ignored

    @property
    def credits_held(self) -> int:
        """Credits that wait for their chains, or for the instruments that they move."""
        return len(self._held)

    def take_unheard(self) -> dict[str, int]:
        """By venue, orders that ended by their time without a report or a fill, since the last call."""
        unheard = dict(self._supervisor.unheard)
        self._supervisor.unheard.clear()
        return unheard

    def source_applied(self, source: str, partition: int) -> int:
        """Highest offset applied of one source, -1 if none."""
        return self._sources.applied(source, partition)

    def apply(self, offset: int, frame: Frame) -> Effects:
        """Takes one frame of the log. Refused inputs are among the effects."""
        assert offset == self._applied + 1, f"frame {offset} after {self._applied}: the shell must seek to {self._applied + 1}"
        self._applied = offset
        effects = Effects(now=[], sends=[])
        covered = self._sources.look_at(frame)
        if covered.gap:
            self._report_gap(frame, covered.after, effects)
            return effects
        if frame.kind is FrameKind.CONTROL:
            inner = frame.events[0]
            assert isinstance(inner, Frame)
            if frame.covers_to <= covered.after:
                effects.skipped += len(inner.events)
            else:
                self._apply_copied(inner, f"{frame.source}:{frame.source_partition}:{frame.covers_to}", effects)
        elif isinstance(frame.events, Fills):
            self._apply_fills(frame, frame.events, covered.after, effects)
        else:
            first = first_new(frame.offsets, covered.after)
            effects.skipped += first
            for k in range(first, len(frame.events)):
                self._apply_event(frame, frame.offsets[k], frame.events[k], effects)
        self._sources.take(frame)
        return effects

    def take_cut(self, sealed: bool = False) -> Cut:
        """What changed since the last cut, the cut record, and the last values to be told."""
        rows: list[tuple[bytes, bytes | None]] = [*self.accounts.take_changed(self.lives, self._rows)]
        pieces = self.market.pieces(changed_only=True)
        pieces.update(self.limits.pieces(self.market.universe.asset_count))
        pieces.update(self.breakers.pieces(self.market.universe.asset_count, len(self.market.universe.venues)))
        rows += [(key, pieces[key]) for key in sorted(pieces) if self._rows.put(key, pieces[key])]
        rows += self._held.take_changed(self._rows)
        record = self._rows.record(
            applied=self._applied,
            clock_ns=self.clock_ns,
            parameters_version=self.market.parameters_version,
            sealed=sealed,
            sources=self._sources,
        )
        rows.append((CUT_KEY, record))
        refuses = refusals_of(self.accounts, self.breakers.refuses_risk)
        to_tell = accounts_to_tell(self.accounts, refuses, self.market.parameters.health_publish_bps * BPS)
        health = tell(to_tell, refuses, self.accounts, self.lives, self.limits, self.market, f"{self.partition}:{self._applied}")
        breakers = [self._breakers_changed[key] for key in sorted(self._breakers_changed)]
        self._breakers_changed.clear()
        return Cut(applied=self._applied, rows=rows, health=health, breakers=breakers, partials=self._partials())

    def restore(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Takes over committed rows and computes everything else anew. Raises DigestMismatch or EngineVersionMismatch."""
        assert self._applied == -1, "restore a new machine, not one that has applied frames"
        record, taken = self._rows.verify(rows)
        if record is None:
            return
        self._applied = record.applied
        self._sources.restore(record.sources)
        self.market.restore({key: value for key, value in taken.items() if key.startswith(MARKET_PREFIX)})
        self.limits.restore(taken)
        self.breakers.restore(taken)
        self._held.restore(taken)
        self.accounts.ensure_instruments(self.market.universe.instrument_count)
        for key in sorted(taken):
            if key.startswith(ACCOUNT_PREFIX):
                row = decode_account_row(taken[key])
                a = self.accounts.load(key[len(ACCOUNT_PREFIX) :].decode(), row)
                if row.life is not None:
                    self.lives[a] = row.life
                    self.accounts.load_pending(a, row.life)
        self._supervisor.restore()
        self.legs.restore(self.market)

    # ---- control ----------------------------------------------------------------------------------------------------------------------

    def _apply_copied(self, inner: Frame, at: str, effects: Effects) -> None:
        """A frame of control: one observation of all its events, then everybody whom it concerns, worst first."""
        ticks = inner.kind is FrameKind.TICK  # their source only counts forward: time itself says what is old
        after = -1
        if not ticks:
            covered = self._sources.look_at(inner)
            if covered.gap:
                self._report_gap(inner, covered.after, effects)
                return
            after = covered.after
        for offset, event in zip(inner.offsets, inner.events, strict=True):
            if offset <= after:
                effects.skipped += 1
                continue
            fault = self._observe(inner.kind, event, at, effects)
            if self.partition != 0:
                continue  # every book takes and refuses the same of control; one of them says so
            if fault is not None:
                effects.now.append(refused(inner, offset, fault[0], fault[1], event))
            elif isinstance(event, RiskParameters):
                self._audit(Outcome.PARAMETERS, "", "", f"version {event.version} is in force", at, effects)
        if not ticks:
            self._sources.take(inner)
        if inner.kind is FrameKind.DEFINITIONS:
            self.accounts.ensure_instruments(self.market.universe.instrument_count)
        revaluation = self.market.revalue() if inner.kind in _MARKET_KINDS else None
        cause = revaluation.cause if revaluation is not None else Cause.NONE
        occasion = Occasion(at, cause, effects, self.market.cause_tables)
        defined = inner.kind is FrameKind.DEFINITIONS
        valued = self._revalue(revaluation, occasion, defined=defined) if revaluation is not None else []
        self._decide(valued, occasion, ticks)

    def _observe(self, kind: FrameKind, event: Any, at: str, effects: Effects) -> Fault | None:
        market = self.market
        match kind:
            case FrameKind.PRICES:
                return market.observe_price(event)
            case FrameKind.DEPTHS:
                return market.observe_depth(event)
            case FrameKind.VOLATILITIES:
                return market.observe_volatility(event)
            case FrameKind.FUNDINGS:
                return market.observe_funding(event)
            case FrameKind.LAGS:
                return market.observe_lag(event)
            case FrameKind.DEFINITIONS:
                return market.define(event)
            case FrameKind.PARAMETERS:
                return market.set_parameters(event)
            case FrameKind.TICK:
                market.tick(event.time_ns)
                return None
            case FrameKind.GRANTS:
                return self._take_grant(event)
            case FrameKind.COMMANDS:
                return self._obey(event, at, effects)
            case _:
                raise AssertionError(f"a {kind.name} frame has no place in control: whoever wrote it must be stopped")

    def _take_grant(self, grant: Grant) -> Fault | None:
        if grant.partition != self.partition:
            return None
        if not grant.asset:
            self.limits.fund_paid_micro_usd = max(self.limits.fund_paid_micro_usd, grant.fund_paid_micro_usd)
            return None
        asset = self.market.universe.asset_number(grant.asset)
        if asset is None:
            return Refusal.UNKNOWN_ASSET, f"asset {grant.asset} is not defined"
        self.limits.grant(grant, asset)
        self.market.observe_recognised(asset, grant.recognised)
        return None

    def _obey(self, command: Any, at: str, effects: Effects) -> Fault | None:
        if isinstance(command, SetMode):
            self.limits.set_mode(command)
            self._audit(Outcome.MODE, "", "", f"{command.mode}, by {command.by}: {command.note}", at, effects)
        elif isinstance(command, SetFreeze):
            if command.scope == "venue" and self.market.universe.venue_number(command.name) is None:
                return Refusal.UNKNOWN_VENUE, f"venue {command.name} is not defined"
            fault = self.limits.set_freeze(command)
            if fault is not None:
                return fault
            account = command.name if command.scope == "account" else ""
            venue = command.name if command.scope == "venue" else ""
            outcome = Outcome.FREEZE if command.frozen else Outcome.UNFREEZE
            self._audit(outcome, account, venue, f"{command.scope}, by {command.by}: {command.note}", at, effects)
            self._frozen_changed(account)
        elif isinstance(command, SetQuarantine):
            fault = self.market.set_quarantine(command.chain, command.on)
            if fault is not None:
                return fault
            outcome = Outcome.QUARANTINE if command.on else Outcome.UNQUARANTINE
            self._audit(outcome, "", "", f"chain {command.chain}, by {command.by}: {command.note}", at, effects)
        return None

    def _frozen_changed(self, account: str) -> None:
        c = self.accounts.columns
        if not account:
            c.told[:] = 0
        elif account in self.accounts.numbers:
            c.told[self.accounts.numbers[account]] = 0

    def _revalue(self, revaluation: Revaluation, occasion: Occasion, *, defined: bool) -> list[Valued]:
        for breaker in revaluation.breakers:
            self._note_breaker(breaker)
        touched: set[int] = set()
        if revaluation.closed_chains or defined:
            touched.update(self._release_credits(occasion))
        n, c = len(self.accounts), self.accounts.columns
        if revaluation.everything:
            numbers = np.flatnonzero(c.positions[:n] > 0)
        elif revaluation.any_changed:
            if len(self._buffer) < n:
                self._buffer = np.zeros(2 * n, np.int64)
            found = collect_holders(revaluation.changed, n, c, self._buffer)
            numbers = self._buffer[:found]
        else:
            numbers = self._buffer[:0]
        if touched:
            numbers = np.union1d(numbers, np.array(sorted(touched), np.int64))
        return self._supervisor.value(numbers)

    def _decide(self, valued: list[Valued], occasion: Occasion, ticks: bool) -> None:
        """Worst first: those whom the frame took to another state, and at a tick those about whom something is due."""
        n, c = len(self.accounts), self.accounts.columns
        concerned = {one.account: one for one in valued}
        ended: set[int] = set()
        if ticks:
            due = np.flatnonzero(c.due_ns[:n] <= self.clock_ns).tolist()
            for a in sorted(due, key=self.accounts.names.__getitem__):  # all of them, so that their budgets are there for every plan
                if self._supervisor.expire_flights(a, occasion):
                    ended.add(a)
                if a not in concerned:
                    concerned[a] = Valued(a, int(c.state[a]), int(c.reason[a]))
            for change in self.breakers.advance(self.market, self.limits, self._known_unhaircut_usd):
                self._note_breaker(change)
        for one in sorted(concerned.values(), key=self._supervisor.excess_order):
            woken = one.account in ended or (ticks and self._supervisor.is_retry_due(one.account))
            self._supervisor.settle(one, occasion, woken)
        if ticks:
            calls, changed = self.legs.look(self.market)
            occasion.effects.now += calls
            for a in changed:
                c.dirty[a], c.told[a] = 1, 0
                self._supervisor.refresh(a)

    def _known_unhaircut_usd(self) -> NDArray[np.float64]:
        """[accounts]; nan of what is UNKNOWN: nobody knows what it owes."""
        c, n = self.accounts.columns, len(self.accounts)
        return np.where(c.standing[:n] == 0, c.health[:n, UNHAIRCUT], np.nan)

    # ---- accounts -----------------------------------------------------------------------------------------------------------------------

    def _latest_ns(self) -> int:
        if self.clock_ns == 0:
            return NEVER_NS  # before the first tick nothing can be said to be early
        return self.clock_ns + int(self.market.parameters.future_skew_s * NS_PER_S)

    def _apply_fills(self, frame: Frame, fills: Fills, after: int, effects: Effects) -> None:
        rows = fills.rows
        first = int(np.searchsorted(rows["offset"], after, side="right"))
        effects.skipped += first
        rows = rows[first:]
        if not len(rows):
            return
        universe, market = self.market.universe, self.market
        accounts = self._numbers_of(fills, rows)
        known = [universe.instrument_number(venue, name) for venue, name in fills.instruments]
        instruments = np.array([-1 if number is None else number for number in known], np.int64)
        columns = FillColumns(
            account=accounts[rows["account"]],
            instrument=instruments[rows["instrument"]],
            order=np.ascontiguousarray(rows["order"]),
            kind=rows["kind"].astype(np.int64),
            lots=np.ascontiguousarray(rows["lots"]),
            price_ticks=np.ascontiguousarray(rows["price_ticks"]),
            cash=np.ascontiguousarray(rows["cash"]),
            sequence=np.ascontiguousarray(rows["sequence"]),
            time_ns=np.ascontiguousarray(rows["time_ns"]),
        )
        latest_ns = self._latest_ns()
        applied = np.ones(len(rows), np.bool_)
        k = 0
        while k < len(rows):
            k = apply_fills(
                k, columns, self.accounts.columns, universe.instrument_arrays, market.tables, market.parameters.end_factor, latest_ns
            )
            if k < len(rows):
                applied[k] = self._apply_one_fill(frame, fills, rows[k], columns, k, latest_ns, effects)
                k += 1
        self.breakers.hear(universe.instrument_arrays.venue[columns.instrument[applied]])

    def _numbers_of(self, fills: Fills, rows: Any) -> NDArray[np.int64]:
        """Numbers of a frame's accounts, -1 where there is no room.

        New ones are given in the order of their first fills, each of which makes a row: who finds room is the same in any framing.
        """
        numbers = np.array([self.accounts.numbers.get(name, -1) for name in fills.accounts], np.int64)
        if (numbers < 0).any():
            for k in dict.fromkeys(rows["account"].tolist()):
                if numbers[k] < 0:
                    numbers[k] = self.accounts.number(fills.accounts[k])
        return numbers

    def _apply_one_fill(self, frame: Frame, fills: Fills, row: Any, columns: FillColumns, k: int, latest_ns: int, effects: Effects) -> bool:
        """Whether it was applied, not refused."""
        venue, instrument = fills.instruments[int(row["instrument"])]
        fill = OneFill(
            account=int(columns.account[k]),
            instrument=int(columns.instrument[k]),
            venue_name=venue,
            instrument_name=instrument,
            order_id=fills.order_ids[int(row["order"])] if row["order"] >= 0 else "",
            kind=int(row["kind"]),
            lots=int(row["lots"]),
            price_ticks=int(row["price_ticks"]),
            cash=int(row["cash"]),
            sequence=int(row["sequence"]),
            time_ns=int(row["time_ns"]),
        )
        offset = int(row["offset"])
        slip = None
        if fill.order_id:
            slip = self._supervisor.slip_of(fill.account, fill.order_id, fill.instrument, fill.kind, fill.lots, fill.price_ticks)
        fault, changed = self._postings.post_fill(fill, latest_ns)
        if slip is not None and fault is None:
            self.market.observe_slip(*slip, self.clock_ns)
        if fault is not None:
            effects.now.append(_refused_fill(frame, offset, fault, fills.accounts[int(row["account"])], fill))
        if changed:
            cause = Cause.FUNDING if fill.kind == FillKind.FUNDING else Cause.FILL
            occasion = self._occasion(frame, offset, cause, effects)
            ended = fault is None and bool(fill.order_id) and self._supervisor.fill_order(fill.account, fill.order_id, fill.lots, occasion)
            self._settle_one(fill.account, occasion, ended)
        return fault is None

    def _apply_event(self, frame: Frame, offset: int, event: Any, effects: Effects) -> None:
        fault: Fault | None
        if isinstance(event, Snapshot):
            fault, changed = self._postings.post_snapshot(event, self._latest_ns())
            if changed:
                self._settle_one(self.accounts.numbers[event.account], self._occasion(frame, offset, Cause.FILL, effects), woken=False)
        elif isinstance(event, Pending):
            fault, changed = self._postings.post_pending(event, self._latest_ns())
            if changed:
                self._settle_one(self.accounts.numbers[event.account], self._occasion(frame, offset, Cause.FILL, effects), woken=False)
        elif isinstance(event, RefusedFill):
            fault = None  # its letter was written by whoever refused it
            a, changed = self._postings.post_refused(event)
            if changed:
                self._settle_one(a, self._occasion(frame, offset, Cause.FILL, effects), woken=False)
        elif isinstance(event, OrderReport):
            occasion = self._occasion(frame, offset, Cause.FILL, effects)
            fault, woken = self._postings.post_report(event, occasion)
            if woken is not None:
                self._settle_one(self.accounts.numbers[event.account], occasion, woken)
        else:
            assert isinstance(event, Credit), f"a {frame.kind.name} frame has no place in a ledger: whoever wrote it must be stopped"
            fault = self._take_credit(frame, offset, event, effects)
        if fault is not None:
            effects.now.append(refused(frame, offset, fault[0], fault[1], event))

    def _settle_one(self, a: int, occasion: Occasion, woken: bool) -> None:
        """After an event of the account's own: value it, and decide."""
        self._supervisor.settle(self._supervisor.value_one(a), occasion, woken)

    def _occasion(self, frame: Frame, offset: int, cause: Cause, effects: Effects) -> Occasion:
        at = f"{frame.source}:{frame.source_partition}:{offset}"
        return Occasion(at, cause, effects, self.market.cause_tables)

    # ---- credits ------------------------------------------------------------------------------------------------------------------------

    def _take_credit(self, frame: Frame, offset: int, credit: Credit, effects: Effects) -> Fault | None:
        occasion = self._occasion(frame, offset, Cause.CREDIT, effects)
        waits_for = self._postings.waits_for(credit)
        fault: Fault | None
        if not waits_for:
            a, fault = self._postings.post_credit(credit)
        elif self._held.hold(HeldCredit(frame.source, frame.source_partition, offset, credit)):
            self._audit(Outcome.HELD, credit.account, "", f"{_in_words(credit)}: waits for {waits_for}", occasion.at, effects)
            return None
        else:
            a = self._postings.miss_credit(credit)
            fault = Refusal.HELD_QUEUE_FULL, f"{HELD_CREDITS_MAX} credits wait already"
        if a >= 0:
            self._settle_one(a, occasion, woken=False)
        return fault

    def _release_credits(self, occasion: Occasion) -> list[int]:
        """Applies what waits no longer, in order; the accounts are valued with everybody else of this frame."""
        touched = []
        for held in self._held.release(lambda credit: not self._postings.waits_for(credit)):
            credit = held.credit
            a, fault = self._postings.post_credit(credit)
            if a >= 0:
                touched.append(a)
            if fault is None:
                self._audit(Outcome.RELEASED, credit.account, "", _in_words(credit), occasion.at, occasion.effects)
            else:
                occasion.effects.now.append(
                    Refused(
                        topic=held.source,
                        partition=held.partition,
                        offset=held.offset,
                        reason=fault[0].value,
                        detail=fault[1],
                        event=msgspec.to_builtins(credit, str_keys=True),
                    )
                )
        return touched

    # ---- the cut ------------------------------------------------------------------------------------------------------------------------

    def _partials(self) -> list[Partial]:
        """The partition's totals, if they say anything new."""
        universe, limits = self.market.universe, self.limits
        spent = {universe.assets[i].name: float(limits.spent_usd[i]) for i in range(universe.asset_count) if limits.spent_usd[i] != 0.0}
        states = accounts_by_state(self.accounts)
        collateral = collateral_usd(self.accounts, self.market)
        partial = Partial(self.partition, self._applied, self.clock_ns, spent, limits.fund_requested_micro_usd, states, collateral)
        told = self._partial_told
        if told is not None and msgspec.structs.replace(told, applied=partial.applied, clock_ns=partial.clock_ns) == partial:
            return []
        self._partial_told = partial
        return [partial]

    # ---- words --------------------------------------------------------------------------------------------------------------------------

    def _note_breaker(self, change: BreakerChange) -> None:
        self._breakers_changed[change.trigger, change.name] = Breaker(
            trigger=change.trigger,
            name=change.name,
            partition=self.partition,
            state=change.state,
            since_ns=change.since_ns,
            value=change.value,
            limit=change.limit,
        )

    def _report_gap(self, frame: Frame, after: int, effects: Effects) -> None:
        effects.gap = True
        effects.now.append(gap_decision(frame, after, self.clock_ns, NAME, self.partition))

    def _audit(self, outcome: Outcome, account: str, venue: str, note: str, at: str, effects: Effects) -> None:
        effects.now.append(
            Decision(
                outcome=outcome.value,
                account=account,
                venue=venue,
                note=f"partition {self.partition}: {note}",
                decided_ns=self.clock_ns,
                parameters=self.market.parameters_version,
                ledger=at,
            )
        )


def _in_words(credit: Credit) -> str:
    return f"{credit.lots} lots of {credit.asset} on {credit.chain}, transfer {credit.number}"


def _refused_fill(frame: Frame, offset: int, fault: Fault, account: str, fill: OneFill) -> Refused:
    event = {
        "v": 1,
        "account": account,
        "venue": fill.venue_name,
        "instrument": fill.instrument_name,
        "kind": FILL_KINDS[fill.kind],
        "lots": fill.lots,
        "price_ticks": fill.price_ticks,
        "cash": fill.cash,
        "sequence": fill.sequence,
        "time_ns": fill.time_ns,
        "order_id": fill.order_id,
    }
    return Refused(topic=frame.source, partition=frame.source_partition, offset=offset, reason=fault[0].value, detail=fault[1], event=event)
