"""One picture of a running system for a terminal of any size from 80 x 24: what is worst stands first, and what does not fit is counted."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from engine.effects import Health
from engine.reasons import State
from streams.messages import PartitionStatus
from streams.view import BreakerLine, View
from streams.watched_accounts import distance
from streams.watched_orders import Fate, OrderLine
from streams.wording import safe, span, usd, utc_ns

WIDTH_MIN, HEIGHT_MIN = 80, 24
WIDE: Final = 110  # from here on there is room for what can be spared
BAR_CELLS: Final = 8
NAME_CELLS: Final = 16
INSTRUMENT_CELLS: Final = 22
CUT_OLD_S: Final = 10.0
_FIXED_LINES: Final = 5  # title, accounts, money and the line of keys; one stays free, or the terminal scrolls
_STYLES: Final = {"BANKRUPT": "bold red", "LIQUIDATABLE": "red", "UNKNOWN": "magenta", "WARNING": "yellow", "HEALTHY": "green"}
_WORST_FIRST: Final = (State.BANKRUPT, State.LIQUIDATABLE, State.UNKNOWN, State.WARNING, State.HEALTHY)


Sort = Literal["worst", "shortfall", "equity", "name"]
SORTS: Final[tuple[Sort, ...]] = ("worst", "shortfall", "equity", "name")


class Look(Struct):
    """What the person who looks wants to see: what stands first among the accounts, and only those of a state ('': of any)."""

    sort: Sort = "worst"
    state: str = ""

    def next_sort(self) -> None:
        self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]

    def next_state(self) -> None:
        states = ["", *(state.name for state in _WORST_FIRST)]
        self.state = states[(states.index(self.state) + 1) % len(states)]


def picture(view: View, look: Look, *, width: int, height: int, now_ms: float, problem: str = "", keys: bool = False) -> RenderableType:
    """Everything, in at most `height` - 1 lines of `width` cells. `problem`: why what is shown may be old."""
    width, height = max(width, WIDTH_MIN), max(height, HEIGHT_MIN)
    room = height - _FIXED_LINES
    wide = width >= WIDE
    pipeline = _pipeline(view.pipeline(), room // 4, now_ms, wide=wide)
    orders = _orders(view, room // 4, wide=wide)
    troubles = _troubles(view, max(2, room // 6))
    accounts = _accounts(view, look, room - pipeline.lines - orders.lines - troubles.lines, wide=wide)
    parts = [_head(view, now_ms, problem), accounts, troubles, orders, pipeline]
    return Group(*(line for part in parts for line in part.body), *([_keys(look)] if keys else []))


class Part(NamedTuple):
    """A part of the picture, and how many lines it takes."""

    lines: int
    body: list[RenderableType]


# ---- head -----------------------------------------------------------------------------------------------------------------------------


def _head(view: View, now_ms: float, problem: str) -> Part:
    statuses = view.pipeline()
    modes = sorted({status.mode for status in statuses if status.mode})
    late_s = now_ms / 1000 - view.clock_ns / 1e9
    title = Text("Plimsoll  ", style="bold", no_wrap=True, overflow="ellipsis")
    title.append(f"{utc_ns(view.clock_ns)} ({span(late_s)} ago)  " if view.clock_ns else "no event yet  ", style="not bold")
    title.append(f"mode {' and '.join(map(safe, modes)) or 'not told'}", style="bold yellow" if modes != ["publish"] else "bold green")
    if problem:
        title.append(f"  {safe(problem)}", style="bold red")
    counts = view.states()
    states = Text(f"{sum(counts.values()):,} accounts  ", no_wrap=True, overflow="ellipsis")
    for state in _WORST_FIRST:
        states.append(f"{counts[state.name]:,} {state.name.lower()}  ", style=_STYLES[state.name] if counts[state.name] else "dim")
    short = view.watched.shortfall_usd()
    money = Text(no_wrap=True, overflow="ellipsis")
    money.append(f"{usd(short)} short of maintenance", style="red" if short else "")
    money.append(f"  {usd(sum(view.watched.equity_usd().values()))} equity")
    letters = sum(view.letters().values())
    money.append(f"  {letters:,} dead letters", style="yellow" if letters else "dim")
    return Part(3, [title, states, money])


def _keys(look: Look) -> RenderableType:
    text = f"q quit  s sort: {look.sort}  f only: {look.state.lower() or 'all'}"
    return Text(text, style="reverse", no_wrap=True, overflow="ellipsis")


# ---- accounts -------------------------------------------------------------------------------------------------------------------------


def _accounts(view: View, look: Look, lines: int, *, wide: bool) -> Part:
    rows, matching = _chosen(view, look, lines - 1)
    table = _table(
        Column(_counted("account", len(rows), matching), max_width=NAME_CELLS * (1 + wide)),
        Column("state", max_width=12),
        Column("why", max_width=13),
        Column("equity USD", justify="right"),
        *((Column("maintenance USD", justify="right"), Column("short USD", justify="right")) if wide else ()),
        Column("distance", justify="right"),
        Column(""),
        Column("orders", justify="right"),
    )
    for health in rows:
        table.add_row(*_account(health, wide=wide))
    return Part(1 + len(rows), [table])


def _chosen(view: View, look: Look, most: int) -> tuple[Sequence[Health], int]:
    """The accounts to be shown, and how many there are of the kind."""
    if look.sort == "worst":
        ranked = view.ranked(most, look.state)
        return ranked.rows, ranked.matching
    found = [health for health in view.accounts.values() if look.state in {"", health.state}]
    return heapq.nsmallest(most, found, key=_ORDERS[look.sort]), len(found)


def _shortfall(health: Health) -> float:
    return 0.0 if health.equity_usd is None or health.maintenance_usd is None else max(0.0, health.maintenance_usd - health.equity_usd)


_ORDERS: Final[dict[Sort, Callable[[Health], tuple[float, str]]]] = {
    "shortfall": lambda health: (-_shortfall(health), health.account),
    "equity": lambda health: (float("inf") if health.equity_usd is None else health.equity_usd, health.account),
    "name": lambda health: (0.0, health.account),
}


def _account(health: Health, *, wide: bool) -> list[RenderableType]:
    style = _STYLES.get(health.state, "")
    far = distance(health)
    why = health.reason if health.state == State.UNKNOWN.name else "" if health.cause == "none" else health.cause
    cells = BAR_CELLS * (1 + wide)
    bar = (
        ProgressBar(total=1.0, completed=min(max(far, 0.0), 1.0), width=cells, complete_style=style, finished_style=style)
        if far is not None
        else ""
    )
    return [
        Text(safe(health.account)),
        Text(health.state.lower(), style=style),
        Text("frozen " * health.frozen + safe(why)),
        _whole(health.equity_usd),
        *([_whole(health.maintenance_usd), _whole(_shortfall(health) or None)] if wide else []),
        Text("" if far is None else f"{far:+.1%}" if abs(far) < 10 else f"{far:+.0f}x", style=style),
        bar,
        Text(str(health.orders_in_flight or "")),
    ]


def _whole(amount: float | None) -> Text:
    """Whole dollars, or millions where they would take more room than there is."""
    return Text("" if amount is None else f"{amount:,.0f}" if abs(amount) < 1e9 else f"{amount / 1e6:,.0f} M")


# ---- breakers and marks ---------------------------------------------------------------------------------------------------------------


def _troubles(view: View, lines: int) -> Part:
    """Breakers that are not closed, and marks that are not known: a line each, as far as there is room."""
    said = [_breaker(line) for line in view.breakers() if line.state != "closed"]
    said += [
        Text(f"no mark of {safe(report.asset)}: {safe(report.reason)}, {sum(source.counts for source in report.sources)} sources count")
        for report in view.marks()
        if report.mark_usd is None
    ]
    if not said:
        return _word("no breaker is open, every mark is known" if view.marks() else "no mark was told yet", "dim")
    if len(said) > lines:
        said = [*said[: lines - 1], Text(f"and {len(said) - lines + 1} more breakers and marks")]
    for text in said:
        text.style, text.no_wrap, text.overflow = "yellow", True, "ellipsis"
    return Part(len(said), [*said])


def _breaker(line: BreakerLine) -> Text:
    what = f"{safe(line.trigger).replace('_', ' ')} of {safe(line.name)}: {safe(line.state)}"
    seen = f", seen by {line.partitions} of {line.partitions_told}" if line.partitions != line.partitions_told else ""
    return Text(f"{what} at {line.value:.3g}, limit {line.limit:.3g}, since {utc_ns(line.since_ns)[:19]}{seen}")


# ---- orders and the pipeline ------------------------------------------------------------------------------------------------------------


def _orders(view: View, lines: int, *, wide: bool) -> Part:
    newest = view.orders(max(1, lines - 1))
    if not newest:
        return _word("no order yet", "dim")
    table = _table(
        Column("order of"),
        Column("account", max_width=NAME_CELLS * (1 + wide)),
        Column("instrument", max_width=INSTRUMENT_CELLS * (1 + wide)),
        Column("lots", justify="right"),
        *((Column("cause"),) if wide else ()),
        Column("what became of it"),
    )
    for line, fate in newest:
        cause = [Text(safe(line.cause))] if wide else []
        venue = Text(f"{safe(line.venue)}/{safe(line.instrument)}")
        when = Text(utc_ns(line.decided_ns)[11:19])
        table.add_row(when, Text(safe(line.account)), venue, Text(f"{line.lots:+,}"), *cause, became(line, fate))
    return Part(1 + len(newest), [table])


def became(line: OrderLine, fate: Fate) -> Text:
    """What became of an order, in words: the venue's and the monitor's."""
    filled = f"{fate.filled_lots:,} of {abs(line.lots):,}"
    said = fate.status.replace("_", " ")
    if fate.status in {"filled", "partly_filled"}:
        said = f"{said}, {filled}"
    if fate.ended and fate.ended != fate.status:
        said = f"{said}, {fate.ended}" if said else fate.ended
    if fate.reason:
        said = f"{said}: {fate.reason}"
    if not said:
        said = "only shown, not sent" if line.only_shown else "nothing heard yet"
    return Text(safe(said), style="yellow" if fate.ended in {"expired", "rejected"} or not fate.status else "")


def _pipeline(statuses: Sequence[PartitionStatus], lines: int, now_ms: float, *, wide: bool) -> Part:
    if not statuses:
        return _word("no partition has told of a cut: does a worker run?", "bold red")
    shown = statuses
    if len(statuses) > lines - 1:  # those that are worst, in their usual order
        shown = sorted(heapq.nlargest(max(1, lines - 1), statuses, key=lambda one: (_lag(one), now_ms - one.at_ms)), key=_by_name)
    table = _table(
        Column(_counted("partition", len(shown), len(statuses))),
        Column("owner", max_width=2 * NAME_CELLS),
        Column("lag", justify="right"),
        Column("waits", justify="right"),
        Column("cut", justify="right"),
        *((Column("cut took", justify="right"), Column("rows", justify="right"), Column("parameters")) if wide else ()),
    )
    for one in shown:
        age_s = (now_ms - one.at_ms) / 1000
        more = [Text(span(one.cut_seconds)), Text(f"{one.rows:,}"), Text(safe(one.parameters))] if wide else []
        table.add_row(
            Text(f"{safe(one.machine)}/{one.partition}"),
            Text(safe(one.owner)),
            Text(f"{_lag(one):,}", style="yellow" if _lag(one) > 1 else ""),
            Text(span(one.oldest_seconds) if one.oldest_seconds else ""),
            Text(f"{span(age_s)} ago", style="bold red" if age_s > CUT_OLD_S else ""),
            *more,
        )
    return Part(1 + len(shown), [table])


def _lag(status: PartitionStatus) -> int:
    return max(0, status.log_end - 1 - status.applied)


def _by_name(status: PartitionStatus) -> tuple[str, int]:
    return status.machine, status.partition


# ---- tables -----------------------------------------------------------------------------------------------------------------------------


def _counted(name: str, shown: int, there: int) -> str:
    return name if shown == there else f"{shown:,} of {there:,}"


def _table(*columns: Column) -> Table:
    """A table whose every row is one line, whatever is in it."""
    for column in columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    return Table(*columns, box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="underline")


def _word(text: str, style: str) -> Part:
    return Part(1, [Text(text, style=style, no_wrap=True, overflow="ellipsis")])
