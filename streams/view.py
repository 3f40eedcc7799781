"""What can be seen of a running system from its topics alone: last values, bounded, without a bus, a clock or a thread.

`streams.watch` feeds it. Nothing here decides, and nothing here is more than what the topics said.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from heapq import nlargest
from itertools import islice
from typing import Final, Literal

import msgspec
from msgspec import Struct

from engine.effects import AssetReport, Breaker, ChainReport, Decision, Health, MarginCall, Order
from engine.inputs import OrderReport, Partial
from engine.reasons import Outcome
from streams.messages import DeadLetter, PartialMessage, PartitionStatus
from streams.watched_accounts import Ranked, WatchedAccounts
from streams.watched_orders import Fate, OrderLine, WatchedOrders

__all__ = ["SECTIONS", "BreakerChange", "BreakerLine", "Section", "View"]

BREAKER_CHANGES_MAX = 500
DECISIONS_KEPT_MAX = 1_000  # of those that are not about one order
LETTERS_KEPT_MAX = 200
LETTER_ORIGINS_MAX = 10_000  # a letter that comes again this much later counts again
MARGIN_CALLS_MAX = 10_000  # accounts with one

Section = Literal["accounts", "orders", "breakers", "marks", "chains", "pipeline", "decisions", "letters"]
SECTIONS: Final[tuple[Section, ...]] = ("accounts", "orders", "breakers", "marks", "chains", "pipeline", "decisions", "letters")
ORDERS_PREFIX: Final = "orders."
DLQ_SUFFIX: Final = ".dlq"
_BREAKER_ORDER: Final = ("tripped", "recovering", "closed")
_OF_ORDERS: Final = frozenset({Outcome.ORDERED, Outcome.OBSERVED, Outcome.FILLED, Outcome.EXPIRED, Outcome.REJECTED})


class BreakerLine(Struct, frozen=True):
    """One breaker over all partitions: the state of those that are furthest from closed, and how many see it so."""

    trigger: str
    name: str
    state: str
    since_ns: int
    value: float
    limit: float
    partitions: int  # that see it in this state
    partitions_told: int  # that have ever told of it


class BreakerChange(Struct, frozen=True):
    """One change of a breaker's state, as the first partition that told it saw it."""

    trigger: str
    name: str
    state: str
    since_ns: int
    value: float
    limit: float


class View:
    """Last values of the topics, as far as they were taken."""

    def __init__(self) -> None:
        self.watched = WatchedAccounts()
        self.watched_orders = WatchedOrders()
        self.clock_ns = 0  # the newest event time that any output told
        self.unreadable: Counter[str] = Counter()  # records by topic that are not what the topic holds
        self._versions: dict[Section, int] = dict.fromkeys(SECTIONS, 0)
        self._breakers: dict[tuple[str, str], dict[int, Breaker]] = {}
        self._breaker_changes: OrderedDict[tuple[str, str, str, int], BreakerChange] = OrderedDict()
        self._marks: dict[str, AssetReport] = {}
        self._chains: dict[str, ChainReport] = {}
        self._pipeline: dict[tuple[str, int], PartitionStatus] = {}
        self._fund: dict[int, Partial] = {}
        self._decisions: deque[Decision] = deque(maxlen=DECISIONS_KEPT_MAX)
        self._calls: OrderedDict[str, MarginCall] = OrderedDict()
        self._letters: deque[DeadLetter] = deque(maxlen=LETTERS_KEPT_MAX)
        self._letter_counts: Counter[tuple[str, str]] = Counter()
        self._letter_origins: OrderedDict[bytes, None] = OrderedDict()
        self._takers: dict[str, tuple[Section, Callable[[int, bytes], None]]] = {
            "account.health": ("accounts", self._take_health),
            "risk.breakers": ("breakers", self._take_breaker),
            "risk.marks": ("marks", self._take_mark),
            "risk.chains": ("chains", self._take_chain),
            "pipeline.status": ("pipeline", self._take_status),
            "treasury.partials": ("accounts", self._take_partial),
            "audit.decisions": ("decisions", self._take_decision),
            "margin.calls": ("decisions", self._take_call),
            "order.reports": ("orders", self._take_report),
        }

    # ---- what there is ----------------------------------------------------------------------------------------------------------------

    @property
    def accounts(self) -> dict[str, Health]:
        """The last word on each account."""
        return self.watched.health

    def worst(self, n: int) -> list[Health]:
        """Short and unknown ones first, then by distance to liquidation."""
        return self.watched.ranked(n).rows

    def ranked(self, limit: int, state: str = "", search: str = "") -> Ranked:
        """The worst of one state, or of those whose name holds `search`."""
        return self.watched.ranked(limit, state, search)

    def states(self) -> dict[str, int]:
        """How many accounts are in each state."""
        return self.watched.states()

    def breakers(self) -> list[BreakerLine]:
        """Every breaker that was ever told, those that are furthest from closed first."""
        lines = [_merged(trigger, name, told.values()) for (trigger, name), told in self._breakers.items()]
        return sorted(lines, key=lambda line: (_BREAKER_ORDER.index(line.state), -line.since_ns, line.trigger, line.name))

    def breaker_changes(self) -> list[BreakerChange]:
        """How they came to it, the newest first."""
        return sorted(self._breaker_changes.values(), key=lambda change: change.since_ns, reverse=True)

    def marks(self) -> list[AssetReport]:
        """Every asset's mark, by name."""
        return [self._marks[asset] for asset in sorted(self._marks)]

    def chains(self) -> list[ChainReport]:
        return [self._chains[chain] for chain in sorted(self._chains)]

    def pipeline(self) -> list[PartitionStatus]:
        """Every partition, by machine and number."""
        return [self._pipeline[key] for key in sorted(self._pipeline)]

    def owner(self, machine: str, partition: int) -> PartitionStatus | None:
        return self._pipeline.get((machine, partition))

    def orders(self, n: int, account: str = "") -> list[tuple[OrderLine, Fate]]:
        """The newest orders with what became of each, those of one account where it is named."""
        return self.watched_orders.newest(n, account)

    def decisions(self, n: int, account: str = "") -> list[Decision]:
        """The newest decisions that are not about one order, those of one account where it is named."""
        found = [decision for decision in self._decisions if not account or decision.account == account]
        return nlargest(n, found, key=lambda decision: decision.decided_ns)

    def margin_call(self, account: str) -> MarginCall | None:
        """The last one that the account got, of the accounts that got one last."""
        return self._calls.get(account)

    def letters(self) -> dict[tuple[str, str], int]:
        """Refused records by (topic, reason)."""
        return dict(self._letter_counts)

    def newest_letters(self, n: int) -> list[DeadLetter]:
        """Of all topics, those first that were read last."""
        return list(islice(reversed(self._letters), n))

    def fund_micro_usd(self) -> int:
        """What bankrupt accounts have asked of the insurance fund, over all partitions."""
        return sum(partial.fund_requested_micro_usd for partial in self._fund.values())

    def version(self, section: Section) -> int:
        """Grows when the section changes."""
        return self._versions[section]

    # ---- taking -----------------------------------------------------------------------------------------------------------------------

    def take(self, topic: str, partition: int, key: bytes | None, value: bytes | None, timestamp_ms: int) -> None:  # noqa: ARG002
        """One record; `topic` without the prefix. What cannot be read is counted in `unreadable`, and changes nothing."""
        if value is None:
            return
        section: Section
        try:
            if topic in self._takers:
                section, taker = self._takers[topic]
                taker(partition, value)
            elif topic.startswith(ORDERS_PREFIX):
                section = "orders"
                self._take_order(value)
            elif topic.endswith(DLQ_SUFFIX):
                section = "letters"
                self._take_letter(key or b"", value)
            else:
                return
        except (msgspec.DecodeError, KeyError):
            self.unreadable[topic] += 1
            return
        self._versions[section] += 1

    def _take_health(self, partition: int, value: bytes) -> None:
        health = _HEALTH.decode(value)
        self.watched.take(partition, health)
        self._at(health.clock_ns)

    def _take_breaker(self, _: int, value: bytes) -> None:
        breaker = _BREAKER.decode(value)
        self._breakers.setdefault((breaker.trigger, breaker.name), {})[breaker.partition] = breaker
        change = (breaker.trigger, breaker.name, breaker.state, breaker.since_ns)
        if change not in self._breaker_changes:
            self._breaker_changes[change] = BreakerChange(*change, breaker.value, breaker.limit)
            if len(self._breaker_changes) > BREAKER_CHANGES_MAX:
                self._breaker_changes.popitem(last=False)

    def _take_mark(self, _: int, value: bytes) -> None:
        report = _ASSET.decode(value)
        self._marks[report.asset] = report
        self._at(report.clock_ns)

    def _take_chain(self, _: int, value: bytes) -> None:
        report = _CHAIN.decode(value)
        self._chains[report.chain] = report

    def _take_status(self, _: int, value: bytes) -> None:
        status = _STATUS.decode(value)
        self._pipeline[status.machine, status.partition] = status
        self._at(status.clock_ns)

    def _take_partial(self, _: int, value: bytes) -> None:
        partial = _PARTIAL.decode(value).partial
        self._fund[partial.partition] = partial

    def _take_order(self, value: bytes) -> None:
        order = _ORDER.decode(value)
        self.watched_orders.take_order(order)
        self._at(order.decided_ns)

    def _take_decision(self, _: int, value: bytes) -> None:
        decision = _DECISION.decode(value)
        if decision.outcome in _OF_ORDERS:
            self.watched_orders.take_decision(decision)
            self._versions["orders"] += 1
        else:
            self._decisions.append(decision)
        self._at(decision.decided_ns)

    def _take_call(self, _: int, value: bytes) -> None:
        call = _CALL.decode(value)
        if call.venue:
            return  # its leg says as much in `account.health`, and what is missing of the whole must not be hidden by it
        self._calls[call.account] = call
        self._calls.move_to_end(call.account)
        if len(self._calls) > MARGIN_CALLS_MAX:
            self._calls.popitem(last=False)

    def _take_report(self, _: int, value: bytes) -> None:
        self.watched_orders.take_report(_REPORT.decode(value))

    def _take_letter(self, origin: bytes, value: bytes) -> None:
        if origin in self._letter_origins:
            return
        letter = _LETTER.decode(value)
        self._letter_origins[origin] = None
        if len(self._letter_origins) > LETTER_ORIGINS_MAX:
            self._letter_origins.popitem(last=False)
        self._letter_counts[letter.topic, letter.reason.value] += 1
        self._letters.append(letter)

    def _at(self, clock_ns: int) -> None:
        self.clock_ns = max(self.clock_ns, clock_ns)


def _merged(trigger: str, name: str, told: Iterable[Breaker]) -> BreakerLine:
    by_state: dict[str, list[Breaker]] = {}
    count = 0
    for breaker in told:
        by_state.setdefault(breaker.state, []).append(breaker)
        count += 1
    state = next(state for state in _BREAKER_ORDER if state in by_state)
    first = min(by_state[state], key=lambda breaker: breaker.since_ns)
    return BreakerLine(trigger, name, state, first.since_ns, first.value, first.limit, len(by_state[state]), count)


_HEALTH = msgspec.json.Decoder(Health)
_BREAKER = msgspec.json.Decoder(Breaker)
_ASSET = msgspec.json.Decoder(AssetReport)
_CHAIN = msgspec.json.Decoder(ChainReport)
_STATUS = msgspec.json.Decoder(PartitionStatus)
_PARTIAL = msgspec.json.Decoder(PartialMessage)
_ORDER = msgspec.json.Decoder(Order)
_DECISION = msgspec.json.Decoder(Decision)
_CALL = msgspec.json.Decoder(MarginCall)
_REPORT = msgspec.json.Decoder(OrderReport)
_LETTER = msgspec.json.Decoder(DeadLetter)
