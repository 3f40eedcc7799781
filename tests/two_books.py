"""One ledger for two books: the engine's, fed with frames, and the plain twin, fed with dictionaries; and what they disagree about."""

from typing import Any, NamedTuple

import msgspec
import numpy as np

from engine.effects import Decision, MarginCall, Order, Refused
from engine.inputs import FILL_DTYPE, FILL_KINDS, Fill, Fills, Frame, FrameKind, RiskParameters
from engine.margin import CLOSE_COST, EQUITY, EQUITY_INITIAL, INITIAL, MAINTENANCE, UNHAIRCUT, requirements_by_mode
from engine.monitor import Book
from engine.parameters import MODES, Parameters, parse_parameters
from engine.reasons import Cause, State, Unknown
from engine.reporting import refusals_in_words, refusals_of
from engine.venue_legs import VENUE_CAUSE
from streams.shadow.margin import UNKNOWN
from streams.shadow.view import MAINTENANCE as MAINTENANCE_LEVEL
from tests.twin.monitor import Monitor, Record
from tests.twin.monitor import Order as TwinOrder

PARTITION = 0
TOLERANCE = 1e-9  # of the account's gross notional

# Kinds that come by the topic of their account; all others come by control, from which they are copied.
OWN = (FrameKind.FILLS, FrameKind.SNAPSHOTS, FrameKind.REPORTS, FrameKind.CREDITS, FrameKind.PENDING)


class Step(NamedTuple):
    """One frame: its kind and the messages in it."""

    kind: FrameKind
    events: list[Any]


class TwoBooks:
    """Feeds every step to both. `orders` and `twins` grow side by side, in the order in which they were decided."""

    def __init__(self, changes: dict[str, Any] | None = None) -> None:
        self.parameters = validated(changes or {})
        self.book = Book(PARTITION, 1)
        self.twin = Monitor(self.parameters.model_dump())
        self.orders: list[Order] = []
        self.margin_calls: list[MarginCall] = []
        self.decisions: list[Decision] = []
        self.refused: list[Refused] = []
        self._framer = Framer()
        self._rows: dict[bytes, bytes] = {}

    @property
    def twins(self) -> list[TwinOrder]:
        return self.twin.published

    def feed(self, kind: FrameKind, events: list[Any]) -> None:
        self.twin.apply(*plain(kind, events))
        effects = self.book.apply(self.book.applied + 1, self._framer.frame(kind, events))
        for effect in effects.now:
            match effect:
                case Order():
                    self.orders.append(effect)
                case MarginCall():
                    if effect.cause != VENUE_CAUSE:  # the twin knows no venue's own rule: those are held to the venues' reference cases
                        self.margin_calls.append(effect)
                case Decision():
                    self.decisions.append(effect)
                case Refused():
                    self.refused.append(effect)

    def restart(self) -> None:
        """Cuts the engine's book, and goes on with a new one that was restored from the rows of all cuts."""
        for key, value in self.book.take_cut().rows:
            if value is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = value
        self.book = Book(PARTITION, 1)
        self.book.restore(self._rows.items())

    # ---- what they disagree about -------------------------------------------------------------------------------------------------

    def differences(self) -> list[str]:
        """In words; empty when states, reasons, causes, amounts, orders, margin calls and refusals agree."""
        found = [text for account in self.twin.accounts.values() for text in self._of_account(account)]
        found += _pairs("order", [_order(order) for order in self.orders], [_twin_order(order) for order in self.twins])
        found += _pairs("margin call", [(call.account, call.state, call.cause) for call in self.margin_calls], self._twin_calls())
        found += self._of_breakers()
        found += _pairs("refusal", [letter.reason for letter in self.refused], [reason for reason, _ in self.twin.refused])
        return found

    def _twin_calls(self) -> list[tuple[str, str, str]]:
        return [(account, state, cause.lower() or "none") for account, state, cause in self.twin.margin_calls]

    def _of_account(self, account: Record) -> list[str]:
        columns, number = self.book.accounts.columns, self.book.accounts.numbers[account.name]
        reason = Unknown(int(columns.reason[number]))
        said = (
            State(int(columns.state[number])).name,
            reason.name.lower() if reason else "",
            Cause(int(columns.cause[number])).name,
            int(columns.epoch[number]),
        )
        expected = (account.state, account.reason, account.cause or "NONE", account.epoch)
        if said != expected:
            return [f"{account.name}: state, reason, cause, epoch {said}, by the twin {expected}"]
        held = {}
        for slot in range(int(columns.positions[number])):
            instrument = self.book.market.universe.instruments[int(columns.instrument[number, slot])]
            key = instrument.venue, instrument.name
            held[key] = (int(columns.quantity[number, slot]), int(columns.cash[number, slot]))
        row = int(columns.pending_row[number])
        pending = [tuple(columns.pending[row, slot].tolist()) if row >= 0 else (0, 0, 0) for slot in range(len(held))]
        if list(held.items()) != [(key, (p.quantity, p.cash)) for key, p in account.positions.items()]:
            return [f"{account.name}: positions {held}, by the twin {account.positions}"]
        if pending != [(p.buy, p.sell, p.leaving) for p in account.positions.values()]:
            return [f"{account.name}: pending {pending}, by the twin {account.positions}"]
        if account.state == UNKNOWN:
            return []
        refuses = refusals_in_words(int(refusals_of(self.book.accounts, self.book.breakers.refuses_risk)[number]))
        if refuses != self.twin.refuses(account.name) and not self._is_at_an_edge(account):
            return [f"{account.name}: refuses {refuses}, by the twin {self.twin.refuses(account.name)}"]
        return self._of_amounts(account, number)

    @staticmethod
    def _is_at_an_edge(account: Record) -> bool:
        """So near to its initial margin that rounding decides."""
        valuation = account.valuation
        return abs(valuation.equity_i - valuation.initial) <= TOLERANCE * max(1.0, abs(valuation.equity_i), valuation.initial)

    def _of_breakers(self) -> list[str]:
        """The book's own: those that are not closed."""
        said = {(trigger, name): state for trigger, name, state in self.book.breakers.opened(self.book.market) if state != "closed"}
        expected = {key: breaker.state for key, breaker in self.twin.breakers.items() if not breaker.closed}
        return [] if said == expected else [f"breakers {said}, by the twin {expected}"]

    def _of_amounts(self, account: Record, number: int) -> list[str]:
        columns, valuation = self.book.accounts.columns, account.valuation
        margin = self.twin.margin(account)
        by_mode = np.zeros(len(MODES))
        row = int(columns.pending_row[number])
        requirements_by_mode(
            int(columns.positions[number]),
            columns.instrument[number],
            columns.quantity[number],
            columns.cash[number],
            row >= 0,
            columns.pending[max(row, 0)],
            self.book.market.tables,
            by_mode,
        )
        pairs = {
            "E_m": (EQUITY, valuation.equity_m),
            "E_i": (EQUITY_INITIAL, valuation.equity_i),
            "U": (UNHAIRCUT, valuation.unhaircut),
            "M": (MAINTENANCE, valuation.maintenance),
            "I": (INITIAL, valuation.initial),
            "close cost": (CLOSE_COST, valuation.close_cost),
        }
        amounts = {name: (float(columns.health[number, at]), expected) for name, (at, expected) in pairs.items()}
        for mode, requirement in zip(MODES, by_mode.tolist(), strict=True):
            amounts[mode] = (requirement, margin.requirement(MAINTENANCE_LEVEL, mode))
        gross = margin.gross() + 1.0
        return [
            f"{account.name}: {name} {said!r}, by the twin {expected!r}, gross {gross:.0f}"
            for name, (said, expected) in amounts.items()
            if not abs(said - expected) <= TOLERANCE * max(gross, abs(expected))  # closing far beyond the depth costs more than all of it
        ]


def _pairs(what: str, said: list[Any], expected: list[Any]) -> list[str]:
    for at, (one, other) in enumerate(zip(said, expected, strict=False)):
        if one != other:
            return [f"{what} {at}: {one}, by the twin {other}"]
    if len(said) != len(expected):
        more = said[len(expected) :] or expected[len(said) :]
        return [f"{what}s: {len(said)}, by the twin {len(expected)}: {more[0]} is only with {'us' if len(said) > len(expected) else 'it'}"]
    return []


def _order(order: Order) -> tuple[Any, ...]:
    return (
        order.account,
        order.venue,
        order.instrument,
        order.order_id,
        order.lots,
        order.limit_ticks,
        order.epoch,
        order.attempt,
        order.state,
        order.cause.upper(),
        order.decided_ns,
        order.expires_ns,
    )


def _twin_order(order: TwinOrder) -> tuple[Any, ...]:
    return (
        order.account,
        *order.key,
        order.order_id,
        order.lots,
        order.limit_ticks,
        order.epoch,
        order.attempt,
        order.state,
        order.cause,
        order.decided_ns,
        order.expires_ns,
    )


# ---- for the engine -----------------------------------------------------------------------------------------------------------------


class Framer:
    """Numbers steps as one log would."""

    def __init__(self) -> None:
        self._counters: dict[str, int] = {}
        self._copied = -1

    def frame(self, kind: FrameKind, events: list[Any]) -> Frame:
        source = kind.name.lower()
        first = self._counters.get(source, 0)
        offsets = list(range(first, first + len(events)))
        self._counters[source] = first + len(events)
        content = fills_in_columns(events, offsets) if kind == FrameKind.FILLS else list(events)
        frame = Frame(kind, source, PARTITION, first - 1, first + len(events) - 1, content, offsets)
        if kind in OWN:
            return frame
        self._copied += 1
        return Frame(FrameKind.CONTROL, "control", 0, self._copied - 1, self._copied, [frame], [self._copied])


def fills_in_columns(fills: list[Fill], offsets: list[int]) -> Fills:
    names = sorted({fill.account for fill in fills})
    instruments = sorted({(fill.venue, fill.instrument) for fill in fills})
    orders = sorted({fill.order_id for fill in fills if fill.order_id})
    rows = np.zeros(len(fills), dtype=FILL_DTYPE)
    for row, fill, offset in zip(rows, fills, offsets, strict=True):
        row["account"] = names.index(fill.account)
        row["instrument"] = instruments.index((fill.venue, fill.instrument))
        row["order"] = orders.index(fill.order_id) if fill.order_id else -1
        row["kind"] = FILL_KINDS.index(fill.kind)
        for column in ("lots", "price_ticks", "cash", "sequence", "time_ns"):
            row[column] = getattr(fill, column)
        row["offset"] = offset
    return Fills(names, instruments, orders, rows)


# ---- for the twin -------------------------------------------------------------------------------------------------------------------


def validated(changes: dict[str, Any]) -> Parameters:
    """The default set with changes."""
    parsed = parse_parameters(changes)
    assert isinstance(parsed, Parameters), parsed
    return parsed


def plain(kind: FrameKind, events: list[Any]) -> tuple[str, list[dict[str, Any]]]:
    """The frame's kind as a word and its messages as dictionaries, tags, defaults and whole parameter sets written out."""
    return kind.name.lower(), [_as_dictionary(event) for event in events]


def _as_dictionary(event: Any) -> dict[str, Any]:
    if isinstance(event, RiskParameters):
        return {"version": event.version, "parameters": validated(event.parameters).model_dump(), "time_ns": event.time_ns}
    built = msgspec.to_builtins(event)
    if isinstance(built, list):  # what machines tell each other goes as arrays
        return {name: getattr(event, name) for name in event.__struct_fields__}
    fields: dict[str, Any] = built
    return fields
