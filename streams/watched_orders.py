"""Liquidation orders as they come, and what became of each: what its venue reports, and what the monitor made of it."""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict
from typing import Final

import msgspec
from msgspec import Struct

from engine.effects import Decision, Order
from engine.inputs import OrderReport
from engine.reasons import Outcome

ORDERS_KEPT_MAX = 2_000
FATES_KEPT_MAX = 2_000  # of orders that are not here: older ones, or ones whose topic is read a moment later

_ENDS: Final = frozenset({Outcome.FILLED, Outcome.EXPIRED, Outcome.REJECTED})
_PLANS: Final = frozenset({Outcome.ORDERED, Outcome.OBSERVED})


class OrderLine(Struct, kw_only=True):
    """One order, or one that was only shown (mode observe), with the newest word on it."""

    order_id: str
    account: str
    venue: str
    instrument: str
    lots: int
    limit_ticks: int
    state: str
    cause: str
    decided_ns: int
    parameters: str
    ledger: str
    chain: str = ""
    attempt: int = 0
    expires_ns: int = 0
    published: bool = False  # it stands in its venue's topic
    outcome: str = ""  # ordered | observed, by the monitor's audit; '' where that was not read
    cost_usd: float | None = None  # what the plan expected to lose by it
    excess_before_usd: float | None = None
    excess_after_usd: float | None = None

    @property
    def only_shown(self) -> bool:
        """Never sent. What the audit calls ordered was, also where its record in the venue's topic is not there any more."""
        return self.outcome == Outcome.OBSERVED and not self.published


class Fate(Struct):
    """What became of an order. `status` '' where nothing was heard."""

    status: str = ""  # of its venue's last report
    filled_lots: int = 0
    reason: str = ""
    heard_ns: int = 0
    ended: str = ""  # filled | expired | rejected, by the monitor's audit
    ended_ns: int = 0
    note: str = ""


class WatchedOrders:
    """The newest ORDERS_KEPT_MAX by the time of their decision; the oldest one goes."""

    def __init__(self) -> None:
        self.lines: dict[str, OrderLine] = {}
        self.published = 0  # records of all order topics, those that are not kept any more included
        self._fates: dict[str, Fate] = {}  # of `lines`
        self._unclaimed: OrderedDict[str, Fate] = OrderedDict()
        self._by_time: list[tuple[int, str]] = []

    def take_order(self, order: Order) -> None:
        """A record of `orders.<venue>`; a repeat has the same bytes."""
        self.published += 1
        line = self._line(order)
        if line is not None:
            line.chain, line.attempt, line.expires_ns, line.published = order.chain, order.attempt, order.expires_ns, True

    def take_decision(self, decision: Decision) -> None:
        """What the audit says about an order: its grounds, or its end."""
        if decision.outcome in _PLANS:
            line = self._line(decision)
            if line is not None:
                line.outcome, line.cost_usd = decision.outcome, decision.cost_usd
                line.excess_before_usd, line.excess_after_usd = decision.excess_before_usd, decision.excess_after_usd
        elif decision.outcome in _ENDS and decision.order_id:
            fate = self.fate(decision.order_id)
            fate.ended, fate.ended_ns, fate.note = decision.outcome, decision.decided_ns, decision.note

    def take_report(self, report: OrderReport) -> None:
        """What a venue says; a report that is older than the last one says nothing new."""
        fate = self.fate(report.order_id)
        if report.time_ns >= fate.heard_ns:
            fate.status, fate.reason, fate.heard_ns = report.status, report.reason, report.time_ns
            fate.filled_lots = max(fate.filled_lots, report.filled_lots)

    def fate(self, order_id: str) -> Fate:
        """What became of an order, to be written to."""
        fate = self._fates.get(order_id) or self._unclaimed.get(order_id)
        if fate is None:
            fate = self._unclaimed[order_id] = Fate()
            if len(self._unclaimed) > FATES_KEPT_MAX:
                self._unclaimed.popitem(last=False)
        return fate

    def newest(self, limit: int, account: str = "") -> list[tuple[OrderLine, Fate]]:
        """At most `limit` orders, of one account where it is named, the newest first."""
        found: list[tuple[OrderLine, Fate]] = []
        for _, order_id in reversed(self._by_time):
            if len(found) == limit:
                break
            if not account or self.lines[order_id].account == account:
                found.append((self.lines[order_id], self._fates[order_id]))
        return found

    def _line(self, source: Order | Decision) -> OrderLine | None:
        """The line of an order, a new one if it has none; None where it is older than all that are kept."""
        order_id, decided_ns = source.order_id, source.decided_ns
        line = self.lines.get(order_id)
        if line is not None:
            return line
        if len(self._by_time) == ORDERS_KEPT_MAX:
            if (decided_ns, order_id) < self._by_time[0]:
                return None
            _, oldest = self._by_time.pop(0)
            del self.lines[oldest], self._fates[oldest]
        fields = {name: getattr(source, name) for name in _SHARED}
        line = self.lines[order_id] = msgspec.convert(fields, OrderLine)
        self._fates[order_id] = self._unclaimed.pop(order_id, Fate())
        insort(self._by_time, (decided_ns, order_id))
        return line


_SHARED: Final = tuple(
    name for name in OrderLine.__struct_fields__ if name in Order.__struct_fields__ and name in Decision.__struct_fields__
)
