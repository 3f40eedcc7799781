"""What a view holds after some records, whatever their order; what it does at its bounds; what it does not believe."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from engine.effects import AssetReport, Breaker, ChainReport, Decision, Health, MarginCall, Order, Output, VenueLeg
from engine.inputs import OrderReport, Partial
from streams import view as view_module
from streams import watched_accounts, watched_orders
from streams.messages import DeadLetter, PartitionStatus, dlq_topic, encode, encode_effect, encode_source
from streams.view import SECTIONS, View
from streams.watched_accounts import ACCOUNT_POINTS_MAX, STATES, distance, near_venues
from streams.watched_orders import Fate

SECOND_NS = 1_000_000_000


def health(account: str, state: str, equity: float | None, maintenance: float | None, clock_s: int = 1, **differently: Any) -> Health:
    fields: dict[str, Any] = {
        "reason": "none" if equity is not None else "stale_mark",
        "cause": "none",
        "liquidation_end_usd": None if maintenance is None else 1.15 * maintenance,
        "initial_usd": None if maintenance is None else 1.3 * maintenance,
        "unhaircut_usd": equity,
        "requirement_usd": None if maintenance is None else {"isolated": maintenance, "protocol": maintenance, "portfolio": maintenance},
        "orders_in_flight": 0,
        "frozen": False,
        "ledger": "0:1",
    }
    return Health(
        account=account,
        state=state,
        equity_usd=equity,
        maintenance_usd=maintenance,
        clock_ns=clock_s * SECOND_NS,
        **(fields | differently),
    )


def order(order_id: str, account: str = "a", decided_s: int = 1) -> Order:
    return Order(
        order_id=order_id,
        account=account,
        venue="binance",
        chain="binance",
        instrument="BTC-PERP",
        lots=-10,
        limit_ticks=100,
        epoch=1,
        attempt=1,
        state="LIQUIDATABLE",
        cause="price",
        decided_ns=decided_s * SECOND_NS,
        expires_ns=(decided_s + 30) * SECOND_NS,
        parameters="1",
        ledger="control:0:1",
    )


def decision(outcome: str, account: str = "a", decided_s: int = 1, **differently: Any) -> Decision:
    return Decision(outcome=outcome, account=account, decided_ns=decided_s * SECOND_NS, **differently)


def letter(offset: int, reason: Any = "bad_json", detail: str = "") -> DeadLetter:
    return DeadLetter(reason=reason, detail=detail, topic="venue.fills", partition=0, offset=offset)


def status(machine: str, partition: int, owner: str = "host:1", clock_s: int = 1) -> PartitionStatus:
    return PartitionStatus(
        machine=machine,
        partition=partition,
        owner=owner,
        pages="http://127.0.0.1:9464",
        applied=9,
        log_first=0,
        log_end=10,
        cut_applied=8,
        cut_seconds=0.01,
        oldest_seconds=0.0,
        clock_ns=clock_s * SECOND_NS,
        at_ms=clock_s * 1_000,
        rows=5,
        engine_version=1,
        parameters="1",
        mode="publish",
        loaded_seconds=0.5,
    )


def take(view: View, *records: Output | OrderReport | Partial, partition: int = 0) -> None:
    for record in records:
        topic, key, value = encode_source(record) if isinstance(record, OrderReport) else encode_effect(record)  # type: ignore[arg-type]
        view.take(topic, partition, key, value, 1)


# ---- accounts -------------------------------------------------------------------------------------------------------------------------


def test_the_worst_come_first_whatever_the_order_they_were_told_in() -> None:
    told = [
        health("bankrupt", "BANKRUPT", -5.0, 10.0),
        health("far below", "LIQUIDATABLE", 2.0, 10.0),
        health("just below", "LIQUIDATABLE", 9.0, 10.0),
        health("unknown", "UNKNOWN", None, None),
        health("near", "HEALTHY", 14.0, 10.0),
        health("warned", "WARNING", 15.0, 10.0),
        health("far", "HEALTHY", 1_000.0, 10.0),
        health("no requirement", "HEALTHY", 5.0, 0.0),
    ]
    for seed in range(5):
        view = View()
        take(view, *random.Random(seed).sample(told, len(told)))
        assert [found.account for found in view.worst(99)] == [one.account for one in told]
        assert view.worst(3) == told[:3]
    assert [distance(one) for one in (told[1], told[3], told[4], told[7])] == [-0.8, None, 0.4, None]


def test_healthy_accounts_near_a_venues_line_come_before_other_healthy_ones_and_are_counted() -> None:
    def leg(verdict: str, distance: float | None, venue: str = "lender") -> VenueLeg:
        return VenueLeg(
            venue=venue, rule="aave_v3", equity_usd=1.0, initial_usd=1.0, maintenance_usd=1.0, distance=distance, verdict=verdict
        )

    told = [
        health("below", "LIQUIDATABLE", 9.0, 10.0, legs=[leg("past", -0.5)]),
        health("past without size", "HEALTHY", 90.0, 10.0, legs=[leg("clear", 0.5), leg("past", None)]),
        health("past", "HEALTHY", 90.0, 10.0, legs=[leg("past", -0.1)]),
        health("near", "HEALTHY", 90.0, 10.0, legs=[leg("near", 0.04), leg("near", 0.02, "other")]),
        health("warned", "WARNING", 10.5, 10.0, legs=[leg("near", 0.04)]),
        health("clear", "HEALTHY", 11.0, 10.0, legs=[leg("clear", 0.06), leg("unknown", None)]),
    ]
    view = View()
    take(view, *reversed(told))
    assert [found.account for found in view.worst(99)] == [one.account for one in told]
    assert view.watched.local() == 3
    assert near_venues(told[3]) == {"lender": 0.04, "other": 0.02}
    take(view, health("past", "HEALTHY", 90.0, 10.0, clock_s=2))
    assert view.watched.local() == 2


def test_accounts_are_found_by_state_and_by_any_part_of_their_names() -> None:
    view = View()
    take(view, *(health(f"Maker-{k:03}", "WARNING" if k % 2 else "HEALTHY", 20.0 + k, 10.0) for k in range(100)))
    found = view.ranked(5, search="maker-01")
    assert (found.matching, [one.account for one in found.rows]) == (10, [f"Maker-01{k}" for k in range(5)])
    assert view.ranked(2, state="WARNING", search="01").matching == 6
    assert view.ranked(2, state="BANKRUPT").rows == []
    assert view.ranked(2, state="no such state").matching == 0


def test_totals_are_those_of_the_last_words() -> None:
    view = View()
    take(view, *(health(f"a{k}", "HEALTHY", 20.0, 10.0, clock_s=1) for k in range(5)))
    take(view, health("b", "UNKNOWN", None, None, clock_s=2), partition=1)
    take(view, health("a1", "LIQUIDATABLE", 4.0, 10.0, clock_s=3), health("a2", "WARNING", 12.0, 10.0, clock_s=4))
    take(view, health("b", "BANKRUPT", -3.0, 10.0, clock_s=5), partition=1)
    assert view.states() == {"HEALTHY": 3, "WARNING": 1, "LIQUIDATABLE": 1, "BANKRUPT": 1, "UNKNOWN": 0}
    assert view.watched.equity_usd() == {"HEALTHY": 60.0, "WARNING": 12.0, "LIQUIDATABLE": 4.0, "BANKRUPT": -3.0}
    assert view.watched.shortfall_usd() == 6.0 + 13.0
    assert view.clock_ns == 5 * SECOND_NS
    times, went = view.watched.totals_went()
    assert times == [second * SECOND_NS for second in (1, 2, 3, 4, 5)]
    assert went["HEALTHY"] == [5, 5, 4, 3, 3]
    assert went["UNKNOWN"] == [0, 1, 1, 1, 0]
    assert went["BANKRUPT"] == [0, 0, 0, 0, 1]


def test_an_account_told_by_another_partition_is_counted_there_only() -> None:
    view = View()
    take(view, health("a", "HEALTHY", 20.0, 10.0, clock_s=1), health("b", "HEALTHY", 20.0, 10.0, clock_s=1))
    take(view, health("a", "WARNING", 12.0, 10.0, clock_s=2), partition=1)
    take(view, health("a", "HEALTHY", 20.0, 10.0, clock_s=3), partition=1)
    assert view.states() == {"HEALTHY": 2, "WARNING": 0, "LIQUIDATABLE": 0, "BANKRUPT": 0, "UNKNOWN": 0}
    times, went = view.watched.totals_went()
    assert times == [second * SECOND_NS for second in (1, 2, 3)]
    assert (went["HEALTHY"], went["WARNING"]) == ([2, 1, 2], [0, 1, 0])


def test_an_account_has_its_history() -> None:
    view = View()
    take(view, health("a", "HEALTHY", 20.5, 10.0, 1), health("a", "UNKNOWN", None, None, 2), health("a", "WARNING", 11.0, 10.0, 3))
    history = view.watched.history("a")
    assert history is not None
    assert history.times_ns == [second * SECOND_NS for second in (1, 2, 3)]
    assert history.states == ["HEALTHY", "UNKNOWN", "WARNING"]
    assert history.equity_usd == [20.5, None, 11.0]
    assert history.maintenance_usd == [10.0, None, 10.0]
    take(view, *(health("a", "HEALTHY", 20.0, 10.0, clock_s=second) for second in range(4, 3_000)))
    history = view.watched.history("a")
    assert history is not None
    assert len(history.times_ns) <= ACCOUNT_POINTS_MAX
    assert (history.times_ns[0], history.times_ns[-1]) == (SECOND_NS, 2_999 * SECOND_NS)
    assert view.watched.history("nobody") is None


def test_accounts_beyond_the_bounds_are_counted_or_have_no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched_accounts, "ACCOUNTS_SHOWN_MAX", 3)
    monkeypatch.setattr(watched_accounts, "ACCOUNT_HISTORIES_MAX", 2)
    view = View()
    take(view, *(health(f"a{k}", "HEALTHY", 20.0, 10.0) for k in range(5)), health("a1", "WARNING", 11.0, 10.0))
    assert sorted(view.accounts) == ["a0", "a1", "a2"]
    assert view.watched.left_out == 2
    assert view.states()["HEALTHY"] == 2
    assert [view.watched.history(f"a{k}") is not None for k in range(4)] == [True, True, False, False]


def test_room_grows_with_the_accounts() -> None:
    view = View()
    take(view, *(health(f"a{k:05}", "HEALTHY", 10.0 + k, 10.0) for k in range(3_000)))
    assert sum(view.states().values()) == len(view.accounts) == 3_000
    assert [one.account for one in view.worst(3)] == ["a00000", "a00001", "a00002"]


# ---- orders ---------------------------------------------------------------------------------------------------------------------------


def test_an_order_has_what_became_of_it_whichever_topic_is_read_first() -> None:
    report = OrderReport(v=1, account="a", order_id="x", status="partly_filled", filled_lots=4, time_ns=2 * SECOND_NS)
    older = OrderReport(v=1, account="a", order_id="x", status="acknowledged", filled_lots=0, time_ns=SECOND_NS)
    records: list[Output | OrderReport | Partial] = [
        order("x"),
        decision("ordered", order_id="x", venue="binance", instrument="BTC-PERP", lots=-10, limit_ticks=100, cost_usd=3.0),
        report,
        older,
        decision("expired", order_id="x", decided_s=31, note="filled 4 of 10"),
        order("x"),
    ]
    for seed in range(8):
        view = View()
        take(view, *random.Random(seed).sample(records, len(records)))
        ((line, fate),) = view.orders(9)
        assert fate == Fate("partly_filled", 4, "", 2 * SECOND_NS, "expired", 31 * SECOND_NS, "filled 4 of 10")
        assert (line.published, line.attempt, line.expires_ns, line.cost_usd) == (True, 1, 31 * SECOND_NS, 3.0)
        assert (line.lots, line.limit_ticks, line.decided_ns) == (-10, 100, SECOND_NS)
        assert view.watched_orders.published == 2


def test_what_was_only_shown_is_no_published_order() -> None:
    view = View()
    take(view, decision("observed", order_id="x", lots=-10, decided_s=5))
    ((line, fate),) = view.orders(9)
    assert line.only_shown
    assert fate == Fate()
    take(view, order("x"))
    assert not line.only_shown


def test_what_was_ordered_was_sent_whether_or_not_its_record_is_still_there() -> None:
    view = View()
    take(view, decision("ordered", order_id="x", lots=-10, decided_s=5))
    ((line, _),) = view.orders(9)
    assert (line.published, line.only_shown, line.outcome) == (False, False, "ordered")


def test_the_newest_orders_are_kept_and_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched_orders, "ORDERS_KEPT_MAX", 5)
    monkeypatch.setattr(watched_orders, "FATES_KEPT_MAX", 3)
    view = View()
    orders = [order(f"x{second}", account="ab"[second % 2], decided_s=second) for second in range(20)]
    take(view, *random.Random(1).sample(orders, len(orders)))
    assert [line.order_id for line, _ in view.orders(99)] == ["x19", "x18", "x17", "x16", "x15"]
    assert [line.order_id for line, _ in view.orders(2, account="a")] == ["x18", "x16"]
    assert view.watched_orders.published == 20
    take(view, *(decision("expired", order_id=f"x{k}") for k in range(19)))
    assert [fate.ended for _, fate in view.orders(99)] == ["", "expired", "expired", "expired", "expired"]


# ---- the rest -------------------------------------------------------------------------------------------------------------------------


def breaker(partition: int, state: str, since_s: int) -> Breaker:
    return Breaker(trigger="asset_move", name="BTC", partition=partition, state=state, since_ns=since_s * SECOND_NS, value=0.1, limit=0.05)


def test_a_breaker_is_as_open_as_the_partition_that_sees_it_most_open() -> None:
    view = View()
    take(view, breaker(0, "tripped", 5), breaker(1, "tripped", 5), breaker(1, "recovering", 9), breaker(2, "closed", 1))
    (line,) = view.breakers()
    assert (line.state, line.since_ns, line.partitions, line.partitions_told) == ("tripped", 5 * SECOND_NS, 1, 3)
    take(view, breaker(0, "recovering", 9))
    (line,) = view.breakers()
    assert (line.state, line.partitions) == ("recovering", 2)
    assert [(change.state, change.since_ns // SECOND_NS) for change in view.breaker_changes()] == [
        ("recovering", 9),
        ("tripped", 5),
        ("closed", 1),
    ]


def test_open_breakers_come_before_closed_ones_and_changes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_module, "BREAKER_CHANGES_MAX", 2)
    view = View()
    take(view, breaker(0, "closed", 7), *(breaker(0, "tripped", since) for since in (8, 9, 10)))
    take(view, Breaker(trigger="asset_move", name="ETH", partition=0, state="closed", since_ns=1, value=0.0, limit=0.05))
    assert [line.name for line in view.breakers()] == ["BTC", "ETH"]
    assert len(view.breaker_changes()) == 2


def test_letters_are_counted_once_by_where_the_record_stood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_module, "LETTERS_KEPT_MAX", 2)
    monkeypatch.setattr(view_module, "LETTER_ORIGINS_MAX", 3)
    view = View()
    take(view, letter(1), letter(2, "not_a_lot", "half a lot"), letter(1), letter(3))
    assert view.letters() == {("venue.fills", "bad_json"): 2, ("venue.fills", "not_a_lot"): 1}
    assert [one.offset for one in view.newest_letters(9)] == [3, 2]
    take(view, letter(4), letter(1))
    assert view.letters()["venue.fills", "bad_json"] == 4, "beyond the bound a repeat counts again"


def test_calls_decisions_chains_marks_and_owners_are_the_last_ones() -> None:
    view = View()
    call = MarginCall(
        account="a",
        state="WARNING",
        cause="none",
        equity_usd=1.0,
        maintenance_usd=2.0,
        shortfall_usd=1.0,
        grace_until_ns=0,
        decided_ns=3,
    )
    chain = ChainReport(
        chain="solana",
        layer="wormhole",
        finality_seconds=13.0,
        lag_p95_seconds=None,
        heartbeat_age_seconds=None,
        breaker="closed",
        security_premium=0.01,
        clock_ns=1,
    )
    mark = AssetReport(
        asset="BTC",
        asset_class="major",
        mark_usd=None,
        reason="stale_mark",
        dispersion=0.0,
        confidence=0.0,
        age_seconds=90.0,
        depth_usd=1e6,
        depth_age_seconds=None,
        spread_bps=1.0,
        sigma_maintenance=0.5,
        sigma_initial=0.6,
        bound_usd=None,
        sources=[],
        haircuts=[],
        clock_ns=7 * SECOND_NS,
    )
    take(view, call, chain, mark, decision("grace", decided_s=2), decision("cured", decided_s=3), decision("mode", account="", decided_s=1))
    take(view, status("treasury", 0), status("book", 1), status("book", 0), status("book", 1, owner="host:2", clock_s=8))
    take(view, Partial(0, 1, 1, {}, 2_000_000, [0] * 5), Partial(1, 1, 1, {}, 500_000, [0] * 5))
    take(view, msgspec.structs.replace(call, cause="venue", venue="lender", distance=0.04))
    assert view.margin_call("a") == call, "a venue's own line hides nothing of the whole"
    assert view.margin_call("b") is None
    assert [one.outcome for one in view.decisions(2)] == ["cured", "grace"]
    assert [one.outcome for one in view.decisions(9, account="")] == ["cured", "grace", "mode"]
    assert [one.outcome for one in view.decisions(9, account="a")] == ["cured", "grace"]
    assert view.chains() == [chain]
    assert view.marks() == [mark]
    assert [(one.machine, one.partition) for one in view.pipeline()] == [("book", 0), ("book", 1), ("treasury", 0)]
    owner = view.owner("book", 1)
    assert owner is not None
    assert owner.owner == "host:2"
    assert view.fund_micro_usd() == 2_500_000
    assert view.clock_ns == 8 * SECOND_NS


def test_versions_grow_with_what_changes_and_nothing_else() -> None:
    view = View()
    before = {section: view.version(section) for section in SECTIONS}
    take(view, health("a", "HEALTHY", 20.0, 10.0))
    assert {section for section in SECTIONS if view.version(section) > before[section]} == {"accounts"}
    take(view, decision("expired", order_id="x"))
    assert view.version("orders") > before["orders"]
    view.take("ledger", 0, None, b"not for us", 1)
    view.take("account.health", 0, b"a", None, 1)
    assert view.version("accounts") == before["accounts"] + 1


@pytest.mark.parametrize(
    ("topic", "value"),
    [
        ("account.health", b"{"),
        ("account.health", encode(health("a", "SOMETHING_NEW", 1.0, 1.0))),
        ("order.reports", b'{"v": 1, "kind": "not ours"}'),
        ("orders.elsewhere", b'{"price": 1}'),
        (dlq_topic("venue.fills"), b"[]"),
    ],
)
def test_what_cannot_be_read_is_counted_and_changes_nothing(topic: str, value: bytes) -> None:
    view = View()
    view.take(topic, 0, b"key", value, 1)
    assert view.unreadable == {topic: 1}
    assert all(view.version(section) == 0 for section in SECTIONS)
    assert view.accounts == {}
    assert set(view.states()) == set(STATES)
