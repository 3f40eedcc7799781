"""What a worker tells about itself: Prometheus metrics in seconds and counts.

No label is an account: their number has no bound. `python -m streams.metrics FILE...` renews the table of metrics in those files; without
a file it prints it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from engine.effects import Decision, Effects, Order, Refused
from engine.inputs import Frame
from engine.machine import ENGINE_VERSION
from streams.documents import MadeTable, as_table, run
from streams.risk_metrics import RiskMetrics
from streams.shadow_check import Check, What

log = logging.getLogger(__name__)

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_CUT_S = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_APPLY_S = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_EVENTS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 8_000)
_BYTES = (256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304)
_PARTITION = ("machine", "partition")


class Metrics:
    """All metrics of one worker, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.decision_seconds = Histogram(
            "plimsoll_event_to_decision_seconds",
            "From the broker's time of a frame's oldest event to the frame applied",
            ["machine"],
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.order_seconds = Histogram(
            "plimsoll_event_to_order_seconds",
            "From the broker's time of a frame's oldest event to its order acknowledged by the broker",
            ["venue"],
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.ingest_seconds = Histogram(
            "plimsoll_ingest_seconds",
            "From the broker's time of a batch's oldest record to its frame in the log",
            ["topic"],
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.apply_seconds = Histogram("plimsoll_apply_seconds", "Applying one frame", ["machine"], buckets=_APPLY_S, registry=registry)
        self.publish_seconds = Histogram(
            "plimsoll_publish_seconds",
            "From a frame applied to an output of it acknowledged",
            buckets=_CUT_S,
            registry=registry,
        )
        self.frame_events = Histogram("plimsoll_frame_events", "Events of a frame", ["machine"], buckets=_EVENTS, registry=registry)
        self.frame_bytes = Histogram("plimsoll_frame_bytes", "Size of a frame", ["machine"], buckets=_BYTES, registry=registry)
        self.recovery_seconds = Histogram(
            "plimsoll_recovery_seconds",
            "From assignment to caught up with the log",
            ["machine"],
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.cut_seconds = Histogram(
            "plimsoll_cut_seconds", "Duration of a cut, orders' acknowledgements included", ["machine"], buckets=_CUT_S, registry=registry
        )
        self.cut_age_seconds = Gauge("plimsoll_cut_age_seconds", "Time since the last committed cut", _PARTITION, registry=registry)
        self.cut_rows = Counter("plimsoll_cut_rows_total", "Rows written by cuts", ["machine"], registry=registry)
        self.oldest_seconds = Gauge(
            "plimsoll_oldest_unapplied_event_seconds", "Age of the oldest event taken in and not applied yet", _PARTITION, registry=registry
        )
        self.clock_behind_seconds = Gauge(
            "plimsoll_clock_behind_seconds", "How far the machine's clock is behind the wall's", _PARTITION, registry=registry
        )
        self.lag_frames = Gauge("plimsoll_lag_frames", "Frames in the log that are not applied yet", _PARTITION, registry=registry)
        self.uncut_frames = Gauge("plimsoll_uncut_frames", "Frames applied and not in a committed cut", _PARTITION, registry=registry)
        self.log_start = Gauge(
            "plimsoll_log_start_minus_cut_frames",
            "Where the log begins, less where it goes on from the last cut: above 0, what a recovery needs is gone",
            _PARTITION,
            registry=registry,
        )
        self.partitions = Gauge("plimsoll_partitions", "Partitions that a machine has, whoever owns them", ["machine"], registry=registry)
        self.build_info = Gauge("plimsoll_build_info", "1; the labels say what runs", ["version", "engine_version"], registry=registry)
        self.outbox_backlog = Gauge("plimsoll_outbox_backlog_records", "Outputs that no producer has taken yet", registry=registry)
        self.orders_waiting = Gauge(
            "plimsoll_orders_waiting", "Orders that wait for their venue's topic, and cuts with them", ["venue"], registry=registry
        )
        self.source_lag = Gauge(
            "plimsoll_source_lag_records", "Records of a source not framed yet", ["topic", "partition"], registry=registry
        )
        self.orders = Counter("plimsoll_orders_total", "Orders published", ["venue", "state", "cause"], registry=registry)
        self.decisions = Counter("plimsoll_decisions_total", "Decisions told to the audit", ["outcome"], registry=registry)
        self.dead_letters = Counter("plimsoll_dead_letters_total", "Refused input", ["topic", "reason"], registry=registry)
        self.skipped = Counter("plimsoll_skipped_events_total", "Events that had been applied before", ["machine"], registry=registry)
        self.gaps = Counter("plimsoll_gaps_total", "Frames beyond a gap, skipped whole", _PARTITION, registry=registry)
        self.fenced = Counter(
            "plimsoll_fenced_total", "Times that another worker was found to own the partition", _PARTITION, registry=registry
        )
        self.lost = Counter(
            "plimsoll_cut_failures_total", "Cuts that failed otherwise; the partition was loaded anew", _PARTITION, registry=registry
        )
        self.set_aside = Counter(
            "plimsoll_frames_set_aside_total", "Frames set aside because they ended their owners", _PARTITION, registry=registry
        )
        self.halted = Gauge("plimsoll_halted", "1: the partition has stopped until somebody acts", _PARTITION, registry=registry)
        self.feeder_restarts = Counter("plimsoll_feeder_restarts_total", "Feeders begun again after a fault", ["feeder"], registry=registry)
        self.frames = Counter("plimsoll_frames_applied_total", "Frames applied", ["machine"], registry=registry)
        self.events_in = Counter("plimsoll_events_in_total", "Source records taken in", ["topic"], registry=registry)
        self.console_clients = Gauge("plimsoll_console_clients", "Who reads the console's stream now", registry=registry)
        self.console_refused = Counter(
            "plimsoll_console_refused_total", "Who was refused the console's stream, since too many read it", registry=registry
        )
        self.look_failures = Counter(
            "plimsoll_look_failures_total",
            "Faults in what only shows: surveys for metrics, reports with cuts, shadow checks",
            ["at"],
            registry=registry,
        )
        self.shadow_checks = Counter(
            "plimsoll_shadow_checks_total", "Accounts valued a second time by the shadow check", ["partition"], registry=registry
        )
        self.shadow_differences = Counter(
            "plimsoll_shadow_differences_total",
            "Amounts, states and reasons of accounts on which the engine and the shadow check differ",
            ["partition", "what"],
            registry=registry,
        )
        self.shadow_largest = Gauge(
            "plimsoll_shadow_largest_difference_ratio",
            "Largest difference of an amount in the last shadow check, as a fraction of the account's gross notional",
            ["partition"],
            registry=registry,
        )
        self.shadow_stopped = Counter(
            "plimsoll_shadow_stopped_total", "Shadow checks that ended early, for want of time", ["partition"], registry=registry
        )
        self.risk = RiskMetrics(registry)
        self.build_info.labels(version("plimsoll"), ENGINE_VERSION).set(1)

    @contextmanager
    def looking(self, at: str) -> Iterator[None]:
        """What only shows must not end what decides: a fault in it is logged and counted."""
        try:
            yield
        except Exception:
            log.exception("a fault in a %s, which decides nothing", at)
            self.look_failures.labels(at).inc()

    def count_check(self, check: Check) -> None:
        """Count what a shadow check found."""
        self.shadow_checks.labels(check.partition).inc(check.accounts)
        self.shadow_stopped.labels(check.partition).inc(check.stopped)
        self.shadow_largest.labels(check.partition).set(check.largest)
        for what in What:  # those without any as well, so that the first one is seen to be one more
            self.shadow_differences.labels(check.partition, what).inc(sum(one.what is what for one in check.differences))

    def count_frame(self, machine: str, frame: Frame, seconds: float) -> None:
        """A frame that was applied in so many seconds."""
        self.apply_seconds.labels(machine).observe(seconds)
        self.frame_events.labels(machine).observe(len(frame.events) if isinstance(frame.events, list) else len(frame.events.rows))

    def count_effects(self, machine: str, partition: int, effects: Effects) -> None:
        """Count what one frame did, but for its orders, which count when they are out."""
        self.frames.labels(machine).inc()
        if effects.skipped:
            self.skipped.labels(machine).inc(effects.skipped)
        if effects.gap:
            self.gaps.labels(machine, partition).inc()
        for effect in effects.now:
            if isinstance(effect, Decision):
                self.decisions.labels(effect.outcome).inc()
            elif isinstance(effect, Refused):
                self.dead_letters.labels(effect.topic, effect.reason).inc()

    def count_order(self, order: Order, seconds: float | None) -> None:
        """Count an order that the broker has acknowledged."""
        self.orders.labels(order.venue, order.state, order.cause).inc()
        if seconds is not None:
            self.order_seconds.labels(order.venue).observe(seconds)

    def tell_outbox(self, backlog: int, orders_waiting: Mapping[str, int]) -> None:
        """`orders_waiting` by venue, none that waits no more."""
        self.outbox_backlog.set(backlog)
        self.orders_waiting.clear()
        for venue, count in orders_waiting.items():
            self.orders_waiting.labels(venue).set(count)

    def forget(self, machine: str, partition: int, sources: Iterable[str] = ()) -> None:
        """Drop the gauges of a partition that somebody else owns now; a frozen value would look alive. `sources` fed it."""
        of_a_partition = (
            self.cut_age_seconds,
            self.clock_behind_seconds,
            self.oldest_seconds,
            self.lag_frames,
            self.uncut_frames,
            self.log_start,
            self.halted,
        )
        for gauge in of_a_partition:
            gauge.remove(machine, partition)
        for topic in sources:
            self.source_lag.remove(topic, partition)
        if machine == "book":
            self.shadow_largest.remove(partition)
            self.risk.forget_book(partition)


def metrics_table() -> str:
    """All metrics as a table in Markdown, in the order of their definition."""
    rows = []
    metrics = Metrics()
    for family in [*vars(metrics).values(), *vars(metrics.risk).values()]:
        if isinstance(family, Counter | Gauge | Histogram):
            told = next(iter(family.describe()))
            name = f"{told.name}_total" if told.type == "counter" else told.name
            labels = ", ".join(f"`{label}`" for label in family._labelnames)  # noqa: SLF001 - a family without samples shows them nowhere else
            rows.append([f"`{name}`", told.type, labels, told.documentation])
    return as_table(["metric", "type", "labels", "what it says"], rows)


METRICS_TABLE = MadeTable("metrics", "streams.metrics", metrics_table)

if __name__ == "__main__":
    run(METRICS_TABLE)
