"""What a worker says and when it ends itself: metrics, pages, the watchdog's verdict, and the ticker's steps."""

from __future__ import annotations

import itertools
import logging
import socket
import time
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from engine.effects import Effects, Order, Refused
from engine.limits import Limits
from engine.parameters import Parameters
from streams.feeders import CLOCK_BEHIND_MAX_NS, TICK_STEP_MAX_NS, TICKS_AT_ONCE_MAX, ticks
from streams.machine import Life, Phase
from streams.metrics import Metrics
from streams.outbox import read_source_time, source_time
from streams.pages import health_routes, serve
from streams.roster import product
from streams.settings import load_settings
from streams.shell import Shell
from streams.worker import Seldom, reachable, stuck

NOW = 1_000.0
WALL_S = 1.76e9


def life(**differently: Any) -> SimpleNamespace:
    """A partition that is running, has lag, and has moved just now."""
    fields: dict[str, Any] = {
        "phase": Phase.RUNNING,
        "applied": 10,
        "cut_applied": 10,
        "log_end": 20,
        "cutting_since": None,
        "progress_at": NOW - 1,
        "heard_at_s": WALL_S,
    }
    return SimpleNamespace(**(fields | differently))


def shell(*lives: SimpleNamespace, loop_at: float = NOW, opened: bool = True) -> Any:
    return SimpleNamespace(lives=dict(enumerate(lives)), loop_at=loop_at, opened_at=0.0 if opened else None)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (shell(life()), ""),
        (shell(life(progress_at=NOW - 61)), "unmoved"),
        (shell(life(progress_at=NOW - 61, log_end=11)), ""),  # nothing waits
        (shell(life(progress_at=NOW - 61, log_end=11, cut_applied=5)), "unmoved"),  # applied, and never cut
        (shell(life(progress_at=NOW - 61, cutting_since=NOW - 60)), ""),  # the cut waits for the broker
        (shell(life(progress_at=NOW - 61, heard_at_s=WALL_S - 30)), ""),  # the broker is silent
        (shell(life(progress_at=NOW - 61, phase=Phase.HALTED)), ""),  # stopped on purpose
        (shell(life(), life(progress_at=NOW - 61)), "unmoved"),
        (shell(loop_at=NOW - 61), "event loop"),
        (shell(loop_at=NOW - 61, opened=False), ""),  # still warming up
    ],
)
def test_the_watchdog_ends_a_worker_that_is_stuck_and_no_other(state: Any, why: str) -> None:
    verdict = stuck(state, NOW, WALL_S, 60.0)
    assert (why in verdict) if why else verdict == ""


def test_a_first_tick_sets_the_clock_and_later_ones_move_it_by_a_bounded_step() -> None:
    now = 1_760_000_000_000_000_000
    assert ticks(0, now) == [now]
    assert ticks(now - 5, now) == [now]
    assert ticks(now, now) == []
    assert ticks(now + 7, now) == []  # a wall clock that was set back moves nothing
    walk = ticks(now - 3 * TICK_STEP_MAX_NS - 1, now)
    assert walk[-1] == now
    assert [later - earlier for earlier, later in itertools.pairwise(walk)] == [TICK_STEP_MAX_NS, TICK_STEP_MAX_NS, 1]
    assert len(ticks(1, now)) == TICKS_AT_ONCE_MAX


def test_no_parameters_refuse_what_feeders_hand_on_while_the_clock_lags() -> None:
    (least,) = (bound.ge for bound in Parameters.model_fields["future_skew_s"].metadata if hasattr(bound, "ge"))
    assert least * 1e9 >= CLOCK_BEHIND_MAX_NS + 1e9  # an interval between ticks, and the way through the log, come on top


def test_the_time_of_a_frames_oldest_event_travels_in_a_header() -> None:
    assert read_source_time(source_time(1_760_000_000_123)) == 1_760_000_000_123
    assert source_time(-1) is None
    assert read_source_time(None) == 0
    assert read_source_time([("t", b"short"), ("other", b"12345678")]) == 0


def test_a_message_that_comes_all_the_time_is_logged_seldom() -> None:
    seldom = Seldom()

    def passes(template: str, at_s: float) -> bool:
        record = logging.LogRecord("aiokafka.client", logging.ERROR, "", 1, template, (1,), None)
        record.created = at_s
        return seldom.filter(record)

    assert [passes("Unable to connect to %s", at_s) for at_s in (100.0, 100.1, 109.9, 110.1)] == [True, False, False, True]
    assert passes("Fetch failed: %s", 110.2)


async def page(port: int, name: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/{name}") as answer:
        return answer.status, await answer.text()


async def test_live_and_ready_differ_and_metrics_count_in_seconds() -> None:
    metrics = Metrics()
    problems = ["ledger/0: catching up"]
    app = web.Application()
    app.add_routes(health_routes(metrics, lambda: problems))
    runner, port = await serve(app, "127.0.0.1", 0)
    try:
        assert await page(port, "live") == (200, "live\n")
        assert await page(port, "ready") == (503, "ledger/0: catching up\n")
        problems.clear()
        assert await page(port, "ready") == (200, "ready\n")
        refused = Refused(topic="venue.fills", partition=0, offset=1, reason="unknown_instrument", detail="", event={})
        metrics.count_effects("book", 2, Effects(now=[refused], sends=[], skipped=3, gap=True))
        metrics.count_order(order(), 0.02)
        _, text = await page(port, "metrics")
    finally:
        await runner.cleanup()
    lines = set(text.splitlines())
    assert 'plimsoll_dead_letters_total{reason="unknown_instrument",topic="venue.fills"} 1.0' in lines
    assert 'plimsoll_skipped_events_total{machine="book"} 3.0' in lines
    assert 'plimsoll_gaps_total{machine="book",partition="2"} 1.0' in lines
    assert 'plimsoll_orders_total{cause="PRICE",state="LIQUIDATABLE",venue="alpha"} 1.0' in lines
    assert 'plimsoll_event_to_order_seconds_bucket{le="0.025",venue="alpha"} 1.0' in lines
    assert 'plimsoll_event_to_order_seconds_bucket{le="0.01",venue="alpha"} 0.0' in lines
    assert "someone" not in text


def test_a_partition_that_was_lost_leaves_no_frozen_gauges() -> None:
    metrics = Metrics()
    metrics.cut_age_seconds.labels("book", 1).set(5)
    metrics.uncut_frames.labels("book", 1).set(5)
    metrics.risk.tell_book(1, Limits(), 2, 3)
    metrics.source_lag.labels("venue.fills", 1).set(7)
    assert told(metrics) >= {"plimsoll_credits_held", "plimsoll_snapshots_ignored", "plimsoll_source_lag_records", "plimsoll_uncut_frames"}
    metrics.forget("book", 1, ["venue.fills"])
    metrics.forget("book", 1, ["venue.fills"])
    assert told(metrics) == set()


def a_life() -> tuple[Shell, Life]:
    """A worker with one running partition that has nothing to do; its log ends at 12 as the broker says."""
    group: Any = SimpleNamespace(log_end=lambda *_: (12, 1e9), seek=None)
    settings = load_settings(environment={}, ledger_partitions=1)
    book, *_ = roster = product(settings)
    owner = Shell(settings, roster, group, lambda _: None)
    outbox: Any = None
    life = Life(book, 0, owner.clients, outbox, owner.metrics, owner)
    life.phase = Phase.RUNNING
    owner.lives["ledger", 0] = life
    return owner, life


def test_the_time_that_nothing_waited_is_not_held_against_a_partition() -> None:
    owner, life = a_life()
    life.progress_at = life.uncut_at = time.monotonic() - 1_000.0
    heard_at_s = life.heard_at_s
    life.told(1, heard_at_s)
    assert stuck(owner, time.monotonic(), heard_at_s, 60.0) == ""
    assert "unmoved" in stuck(owner, time.monotonic() + 61.0, heard_at_s, 60.0)
    life.progress_at = time.monotonic() - 61.0
    life._sought_at = time.monotonic()  # it has asked for it again just now
    life.told(2, heard_at_s)
    assert "unmoved" in stuck(owner, time.monotonic(), heard_at_s, 60.0)  # more of the same does not start it afresh


def test_a_broker_that_was_away_does_not_leave_its_absence_behind() -> None:
    owner, life = a_life()
    life.log_end = 5
    life.heard_at_s = time.time() - 300.0
    life.progress_at = time.monotonic() - 300.0
    life.told(5, time.time())
    assert stuck(owner, time.monotonic(), time.time(), 60.0) == ""


def test_each_look_round_tells_how_a_partition_stands() -> None:
    owner, _ = a_life()
    owner.look_round()
    for name, value in {"plimsoll_lag_frames": 12, "plimsoll_uncut_frames": 0}.items():
        assert owner.metrics.registry.get_sample_value(name, {"machine": "book", "partition": "0"}) == value
    for name in ("plimsoll_credits_held", "plimsoll_snapshots_ignored"):
        assert owner.metrics.registry.get_sample_value(name, {"partition": "0"}) == 0
    assert owner.metrics.registry.get_sample_value("plimsoll_partitions", {"machine": "attestor"}) == 2


def test_pages_are_told_by_a_name_that_others_can_use() -> None:
    assert reachable("127.0.0.1") == "127.0.0.1"
    assert reachable("::1") == "[::1]"
    assert reachable("0.0.0.0") == reachable("::") == socket.gethostname()


def told(metrics: Metrics) -> set[str]:
    """Gauges that have a sample of partition 1."""
    return {sample.name for family in metrics.registry.collect() for sample in family.samples if sample.labels.get("partition") == "1"}


def test_the_outbox_tells_what_waits_and_no_venue_that_waits_no_more() -> None:
    metrics = Metrics()
    metrics.tell_outbox(4, {"ghost": 2})
    metrics.tell_outbox(3, {"spectre": 1})
    assert metrics.registry.get_sample_value("plimsoll_outbox_backlog_records") == 3
    assert metrics.registry.get_sample_value("plimsoll_orders_waiting", {"venue": "spectre"}) == 1
    assert metrics.registry.get_sample_value("plimsoll_orders_waiting", {"venue": "ghost"}) is None


def order() -> Order:
    return Order(
        order_id="1",
        account="someone",
        venue="alpha",
        chain="toy",
        instrument="BTC-PERP",
        lots=1,
        limit_ticks=1,
        epoch=1,
        attempt=1,
        state="LIQUIDATABLE",
        cause="PRICE",
        decided_ns=0,
        expires_ns=1,
        parameters="",
        ledger="0:0:0",
    )
