"""What the console says: each section of a view as the JSON that the page reads. Pure; times are nanoseconds of the events."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from engine.effects import Health
from streams.messages import PartitionStatus
from streams.view import Section, View
from streams.watched_accounts import distance

ROWS_SENT: Final = 150  # of accounts and of orders, with each change; more are to be had by asking
ROWS_ASKED_MAX = 1_000
DECISIONS_SENT: Final = 100
CHANGES_SENT: Final = 100
LETTERS_SENT: Final = 50
SILENT_MS: Final = 15_000  # after which a partition that tells nothing is a problem

_ENCODER: Final = msgspec.json.Encoder()


class Machines(NamedTuple):
    """One kind of machine that there must be, in so many partitions."""

    name: str
    partitions: int


def encode(content: Any) -> bytes:
    return _ENCODER.encode(content)


def overview(view: View, machines: Sequence[Machines], problem: str, behind: int | None) -> dict[str, Any]:
    """How it stands, in a few numbers, and what is wrong."""
    now_ms = int(time.time() * 1000)
    return {
        "clock_ns": view.clock_ns,
        "now_ms": now_ms,
        "behind": behind,
        "states": view.states(),
        "equity_usd": view.watched.equity_usd(),
        "shortfall_usd": view.watched.shortfall_usd(),
        "local": view.watched.local(),
        "fund_usd": view.fund_micro_usd() / 1e6,
        "orders": view.watched_orders.published,
        "letters": sum(view.letters().values()),
        "breakers": dict(Counter(line.state for line in view.breakers())),
        "modes": sorted({status.mode for status in view.pipeline() if status.mode}),
        "accounts_left_out": view.watched.left_out,
        "problems": [*([problem] if problem else []), *_problems(view, machines, now_ms, behind)],
    }


def history(view: View) -> dict[str, Any]:
    """Accounts by state since the run began, as far as the topics still say."""
    times_ns, states = view.watched.totals_went()
    return {"times_ns": times_ns, "states": states}


def account_rows(rows: Iterable[Health]) -> list[dict[str, Any]]:
    return [{"health": health, "distance": distance(health)} for health in rows]


def accounts(view: View, limit: int = ROWS_SENT, state: str = "", search: str = "") -> dict[str, Any]:
    """The worst accounts, of one state or with part of a name where asked."""
    ranked = view.ranked(limit, state, search)
    return {"matching": ranked.matching, "of": len(view.accounts), "rows": account_rows(ranked.rows)}


def orders(view: View, limit: int = ROWS_SENT, account: str = "") -> dict[str, Any]:
    """The newest orders with what became of them."""
    rows = [{"order": line, "fate": fate} for line, fate in view.orders(limit, account)]
    return {"published": view.watched_orders.published, "kept": len(view.watched_orders.lines), "rows": rows}


def account(view: View, name: str) -> dict[str, Any]:
    """What the topics say about one account."""
    health = view.accounts.get(name)
    went = view.watched.history(name)
    return {
        "account": name,
        "health": health,
        "distance": None if health is None else distance(health),
        "history": None if went is None else went._asdict(),
        "orders": orders(view, account=name)["rows"],
        "decisions": view.decisions(DECISIONS_SENT, name),
        "margin_call": view.margin_call(name),
    }


def _letters(view: View) -> dict[str, Any]:
    counts = [{"topic": topic, "reason": reason, "count": count} for (topic, reason), count in sorted(view.letters().items())]
    newest = [
        {
            "topic": letter.topic,
            "partition": letter.partition,
            "offset": letter.offset,
            "reason": letter.reason,
            "detail": letter.detail,
            "key": letter.key,
        }
        for letter in view.newest_letters(LETTERS_SENT)
    ]
    return {"counts": counts, "newest": newest, "unreadable": dict(view.unreadable)}


SECTION_CONTENT: Final[dict[Section, Callable[[View], dict[str, Any]]]] = {
    "accounts": accounts,
    "orders": orders,
    "breakers": lambda view: {"rows": view.breakers(), "changes": view.breaker_changes()[:CHANGES_SENT]},
    "marks": lambda view: {"rows": view.marks()},
    "chains": lambda view: {"rows": view.chains()},
    "pipeline": lambda view: {"rows": view.pipeline(), "now_ms": int(time.time() * 1000)},
    "decisions": lambda view: {"rows": view.decisions(DECISIONS_SENT)},
    "letters": _letters,
}


def _problems(view: View, machines: Sequence[Machines], now_ms: int, behind: int | None) -> list[str]:
    """What somebody should look at, in words. While the topics are still being read, nothing is known to be missing."""
    if behind is None or behind > 0:
        return []
    found = []
    for machine in machines:
        for partition in range(machine.partitions):
            status = view.owner(machine.name, partition)
            if status is None:
                found.append(f"{machine.name} {partition} has told nothing yet: does a worker own it?")
            elif now_ms - status.at_ms > SILENT_MS:
                found.append(f"{machine.name} {partition} of {status.owner} has told nothing for {(now_ms - status.at_ms) // 1000:,} s")
    return [*found, *_disagreements(view.pipeline())]


def _disagreements(pipeline: Iterable[PartitionStatus]) -> list[str]:
    """Books that do not go by the same parameters or mode: for a moment after a change, and otherwise not."""
    books = [status for status in pipeline if status.mode]
    versions, modes = {status.parameters for status in books}, {status.mode for status in books}
    return [
        *([f"books go by different parameters: {', '.join(sorted(versions))}"] if len(versions) > 1 else []),
        *(["some books observe, others publish"] if len(modes) > 1 else []),
    ]
