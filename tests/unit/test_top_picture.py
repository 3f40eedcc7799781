"""The picture of `plimsoll top`: it fits every terminal, tells the truth of the view, and is harmless whatever the view holds."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console

from engine.effects import Breaker, Decision, Order, Output
from engine.inputs import OrderReport
from engine.reasons import State
from streams.commands.looking import AccountState, Sort
from streams.messages import encode_effect, encode_source
from streams.top_picture import HEIGHT_MIN, SORTS, WIDTH_MIN, Look, became, picture
from streams.view import View
from tests import samples

NOW_MS = samples.NOW_NS / 1e6 + 2_000
HEALTH = samples.HEALTH
(ORDER,) = [effect for effect in samples.OUTPUT_MESSAGES if isinstance(effect, Order)]
REPORT = OrderReport(v=1, account="alice", order_id=ORDER.order_id, status="partly_filled", filled_lots=10, time_ns=samples.NOW_NS)


def taken(*told: Output | OrderReport, view: View | None = None) -> View:
    view = View() if view is None else view
    for one in told:
        topic, key, value = encode_source(one) if isinstance(one, OrderReport) else encode_effect(one)  # type: ignore[arg-type]
        view.take(topic, 0, key, value, 0)
    assert not view.unreadable
    return view


def health(account: str, state: str, equity: float | None, maintenance: float | None, **changes: Any) -> Output:
    reason = "stale_mark" if state == "UNKNOWN" else "none"
    values = {"account": account, "state": state, "reason": reason, "equity_usd": equity, "maintenance_usd": maintenance}
    return msgspec.structs.replace(HEALTH, **values | changes)


MARKET = [
    health("healthy", "HEALTHY", 3_000.0, 1_000.0, cause="none", orders_in_flight=0),
    health("unknown", "UNKNOWN", None, None),
    health("sinking", "LIQUIDATABLE", 900.0, 1_000.0, frozen=True),
    health("sunk", "BANKRUPT", -5_000.0, 1_000.0),
    health("rich", "HEALTHY", 2.5e9, 1e9),
]


def drawn(view: View, width: int = WIDTH_MIN, height: int = HEIGHT_MIN, look: Look | None = None, **more: Any) -> list[str]:
    """The picture's lines, as a terminal of this size has them, without what a full screen's last line would scroll."""
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=False)
    console.print(picture(view, look or Look(), width=width, height=height, now_ms=NOW_MS, **more))
    return out.getvalue().splitlines()


def row(lines: list[str], begins: str) -> str:
    (found,) = [line for line in lines if line.startswith(begins)]
    return found


def crowded() -> View:
    """More of everything than any terminal has room for, under the longest names, some of them hostile."""
    view = taken(*MARKET)
    for number in range(300):
        name = ("\x1b[31m" if number % 2 else "x" * 64) + str(number)
        taken(
            health(name, list(State)[number % 5].name, number * 1e9, 1e12 - number),
            msgspec.structs.replace(
                ORDER, order_id=f"o{number}", account=name, venue=f"venue-{number}" * 5, decided_ns=samples.NOW_NS + number
            ),
            Breaker(trigger="asset_move", name=name, partition=0, state="tripped", since_ns=samples.NOW_NS, value=0.16, limit=0.1),
            msgspec.structs.replace(samples.ASSET_REPORT, asset=name, mark_usd=None, reason="stale_mark"),
            msgspec.structs.replace(samples.STATUS, partition=number, owner=f"{'host.' * 10}{number}:4711", applied=100 - number),
            view=view,
        )
    return view


@pytest.mark.parametrize("keys", [False, True])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 50), (109, 30), (110, 24), (132, 43), (250, 80), (20, 5)])
@pytest.mark.parametrize("view", [View(), taken(*MARKET), crowded()], ids=["empty", "small", "crowded"])
def test_it_fits(view: View, width: int, height: int, keys: bool) -> None:
    lines = drawn(view, max(width, WIDTH_MIN), max(height, HEIGHT_MIN), keys=keys, problem="the topics cannot be read: " + "x" * 200)
    assert len(lines) < max(height, HEIGHT_MIN)
    assert max(map(len, lines)) <= max(width, WIDTH_MIN)
    assert all(line.isprintable() for line in lines)


def test_the_head_says_when_how_many_and_how_much() -> None:
    view = taken(*MARKET, samples.STATUS)
    time, accounts, money = drawn(view)[:3]
    assert time.rstrip() == "Plimsoll  2025-10-10 21:00:00.000 UTC (2 s ago)  mode observe"
    assert accounts.rstrip() == "5 accounts  1 bankrupt  1 liquidatable  1 unknown  0 warning  2 healthy"
    assert money.startswith("6,100.00 USD short of maintenance")
    assert drawn(view, problem="no broker")[0].rstrip().endswith("mode observe  no broker")


def test_the_worst_accounts_stand_first_with_their_distance() -> None:
    lines = drawn(taken(*MARKET), 80, 40)
    names = [line.split()[0] for line in lines[4:9]]
    assert names == ["sunk", "sinking", "unknown", "rich", "healthy"]
    assert row(lines, "sinking").split()[:6] == ["sinking", "liquidatable", "frozen", "price", "900", "-10.0%"]
    assert row(lines, "unknown").split() == ["unknown", "unknown", "stale_mark", "1"]
    assert row(lines, "healthy").split()[:4] == ["healthy", "healthy", "3,000", "+200.0%"]
    assert "2,500 M" in row(lines, "rich")
    wide = drawn(taken(*MARKET), 120, 40)
    assert row(wide, "sinking").split()[:8] == ["sinking", "liquidatable", "frozen", "price", "900", "1,000", "100", "-10.0%"]


@pytest.mark.parametrize(
    ("look", "names"),
    [
        (Look("shortfall"), ["sunk", "sinking", "healthy", "rich", "unknown"]),
        (Look("equity"), ["sunk", "sinking", "healthy", "rich", "unknown"]),
        (Look("name"), ["healthy", "rich", "sinking", "sunk", "unknown"]),
        (Look("worst", "HEALTHY"), ["rich", "healthy"]),
        (Look("name", "HEALTHY"), ["healthy", "rich"]),
    ],
)
def test_sorts_and_states(look: Look, names: list[str]) -> None:
    lines = drawn(taken(*MARKET), 80, 40, look)
    assert [line.split()[0] for line in lines[4 : 4 + len(names)]] == names
    assert not [line for line in lines[4 + len(names) :] if line.split()[0] in {"sunk", "sinking", "healthy", "rich", "unknown"}]


def test_keys_go_round_all_sorts_and_states() -> None:
    look = Look()
    sorts, states = [], []
    for _ in range(6):
        sorts.append(look.sort)
        states.append(look.state)
        look.next_sort()
        look.next_state()
    assert sorts == ["worst", "shortfall", "equity", "name", "worst", "shortfall"]
    assert states == ["", "BANKRUPT", "LIQUIDATABLE", "UNKNOWN", "WARNING", "HEALTHY"]
    assert look.state == ""


def test_the_commands_choices_are_those_of_the_picture() -> None:
    assert tuple(sort.value for sort in Sort) == SORTS
    assert {state.value for state in AccountState} == set(State.__members__)


def test_breakers_and_unknown_marks_are_named() -> None:
    tripped = Breaker(trigger="asset_move", name="BTC", partition=0, state="tripped", since_ns=samples.NOW_NS, value=0.16, limit=0.1)
    unknown = msgspec.structs.replace(samples.ASSET_REPORT, mark_usd=None, reason="no_quorum")
    lines = drawn(taken(tripped, msgspec.structs.replace(tripped, name="ETH", state="closed"), unknown))
    assert row(lines, "asset move").rstrip() == "asset move of BTC: tripped at 0.16, limit 0.1, since 2025-10-10 21:00:00"
    assert row(lines, "no mark of ").rstrip() == "no mark of USDe: no_quorum, 0 sources count"
    assert row(drawn(taken(samples.ASSET_REPORT)), "no breaker is open, every mark is known")


def test_an_order_is_shown_with_what_became_of_it() -> None:
    lines = drawn(taken(ORDER, REPORT))
    assert row(lines, "21:00:00").split() == "21:00:00 alice binance/BTC-PERP +25 partly filled, 10 of 25".split()  # noqa: SIM905 - as it reads


def test_what_became_of_an_order_in_words() -> None:
    def told(*more: Any) -> str:
        view = taken(ORDER, *more)
        return became(*view.orders(1)[0]).plain

    ended = Decision(outcome="expired", account="alice", order_id=ORDER.order_id, decided_ns=samples.NOW_NS)
    assert told() == "nothing heard yet"
    assert told(REPORT) == "partly filled, 10 of 25"
    assert told(msgspec.structs.replace(REPORT, status="rejected", filled_lots=0, reason="no \x1b margin")) == "rejected: no \\x1b margin"
    assert told(ended) == "expired"
    assert told(REPORT, ended) == "partly filled, 10 of 25, expired"
    plan = Decision(outcome="observed", account="alice", order_id="x", lots=5, decided_ns=samples.NOW_NS)
    assert became(*taken(plan).orders(1)[0]).plain == "only shown, not sent"
    assert became(*taken(msgspec.structs.replace(plan, outcome="ordered")).orders(1)[0]).plain == "nothing heard yet"


def test_the_pipeline_shows_lag_and_old_cuts_and_its_worst_where_there_is_little_room() -> None:
    old = msgspec.structs.replace(samples.STATUS, partition=7, at_ms=samples.STATUS.at_ms - 300_000, applied=90)
    statuses = [msgspec.structs.replace(samples.STATUS, partition=number) for number in range(7)]
    lines = drawn(taken(*statuses, old))
    assert row(lines, "3 of 8 ")
    assert row(lines, "book/7").split() == ["book/7", "host:4711", "30", "5", "min", "ago"]
    whole = drawn(taken(*statuses, old), 120, 60)
    assert row(whole, "book/0").split() == ["book/0", "host:4711", "0", "2", "s", "ago", "0.012", "s", "12", "2025-10"]
    assert row(drawn(View()), "no partition has told of a cut")
