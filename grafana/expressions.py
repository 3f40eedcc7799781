"""Expressions in PromQL that dashboards and rules share: what is asked of Prometheus is written once.

A partition that moves is told of by two workers for a scrape or two, so whatever is summed over partitions is first taken once from each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

RATE: Final = "$__rate_interval"  # Grafana's word for a window that suits the picture and the scrapes
RECORDED_WINDOW: Final = "5m"  # in the names of recorded increases
MEMORY: Final = "1d"  # for so long after a worker was last heard its counters are known

# Counters of what happens seldom. `increase` does not see the step with which a series begins, and a refusal, an order of a new cause or a
# fence that comes for the first time is just that. So their increases are recorded with that step, and asked for where they are needed.
SELDOM: Final[dict[str, tuple[str, ...]]] = {
    "plimsoll_orders_total": ("venue", "state", "cause"),
    "plimsoll_orders_expired_unreported_total": ("venue",),
    "plimsoll_decisions_total": ("outcome",),
    "plimsoll_dead_letters_total": ("topic", "reason"),
    "plimsoll_gaps_total": ("machine", "partition"),
    "plimsoll_fenced_total": ("machine", "partition"),
    "plimsoll_cut_failures_total": ("machine", "partition"),
    "plimsoll_frames_set_aside_total": ("machine", "partition"),
    "plimsoll_feeder_restarts_total": ("feeder",),
    "plimsoll_shadow_differences_total": ("partition", "what"),
}


def recorded_increase(counter: str) -> str:
    """The name under which the increase of one of `SELDOM` is recorded."""
    level = "_".join(("instance", *SELDOM[counter]))
    return f"{level}:{counter.removesuffix('_total')}:increase{RECORDED_WINDOW}"


def counted(counter: str, window: str, memory: str) -> str:
    """The increase of a counter within a window, with what it began with if it began within it; 0 of a worker that has none.

    It did not begin within the window if it was there before, or if the worker did not answer then, but told of it within `memory` before:
    after a scrape that failed, the whole life of a counter is no news.
    """
    unanswered = f"(last_over_time({counter}[{memory}] offset {window}) unless on (job, instance) plimsoll_build_info offset {window})"
    new = f"(last_over_time({counter}[{window}]) unless ({counter} offset {window} or {unanswered}))"
    return f"{new} or increase({counter}[{window}]) or on (job, instance) 0 * max by (job, instance) (plimsoll_build_info)"


class Scope(NamedTuple):
    """Where an expression stands: in a dashboard, for the jobs and instances that were chosen; or in a rule, for each job by itself."""

    chosen: str  # matchers of every series
    by: tuple[str, ...]  # labels that every aggregation keeps

    def series(self, metric: str, matching: str = "") -> str:
        """The series of a metric, those `matching` alone."""
        matchers = ", ".join(part for part in (self.chosen, matching) if part)
        return f"{metric}{{{matchers}}}" if matchers else metric

    def grouped(self, how: str, labels: Sequence[str], expression: str) -> str:
        """`expression` aggregated to `labels`."""
        kept = ", ".join((*self.by, *labels))
        return f"{how} by ({kept}) ({expression})" if kept else f"{how}({expression})"

    def each(self, how: str, metric: str, labels: Sequence[str] = (), matching: str = "") -> str:
        """The largest (`max`) or smallest (`min`) value of a gauge for each of `labels`."""
        return self.grouped(how, labels, self.series(metric, matching))

    def total(self, metric: str, labels: Sequence[str] = (), over: Sequence[str] = ("partition",), matching: str = "") -> str:
        """The sum of a gauge over partitions (and whatever else is in `over`), each counted once."""
        once = f"max by ({', '.join(('job', *over, *labels))}) ({self.series(metric, matching)})"
        return self.grouped("sum", labels, once)

    def worst_partition(self, metric: str) -> str:
        """The largest value of an age over all machines' partitions; where two workers tell of one, its owner's is the smaller."""
        once = f"min by (job, machine, partition) ({self.series(metric)})"
        return self.grouped("max", (), once)

    def rate(self, counter: str, labels: Sequence[str], window: str, matching: str = "") -> str:
        """Events a second."""
        return self.grouped("sum", labels, f"rate({self.series(counter, matching)}[{window}])")

    def grown(self, counter: str, window: str) -> str:
        """Events of a counter that is told from 0 on."""
        return self.grouped("sum", (), f"increase({self.series(counter)}[{window}])")

    def recorded(self, counter: str, labels: Sequence[str] = (), matching: str = "") -> str:
        """Events of `SELDOM` in the last `RECORDED_WINDOW`; 0 where workers answer and had none."""
        happened = [f'{label}!=""' for label in labels[:1]]  # the zeros of those that had none have no labels
        matchers = ", ".join([*happened, matching] if matching else happened)
        return self.or_zero(self.grouped("sum", labels, self.series(recorded_increase(counter), matchers)))

    def quantile(self, share: float, histogram: str, labels: Sequence[str], window: str) -> str:
        """The value that `share` of a histogram's observations within the window do not exceed."""
        buckets = self.grouped("sum", ("le", *labels), f"rate({self.series(f'{histogram}_bucket')}[{window}])")
        return f"histogram_quantile({share:g}, {buckets})"

    def mean(self, histogram: str, labels: Sequence[str], window: str) -> str:
        """The mean of a histogram's observations within the window."""
        return f"{self.rate(f'{histogram}_sum', labels, window)} / {self.rate(f'{histogram}_count', labels, window)}"

    def lifetime_mean(self, histogram: str, labels: Sequence[str]) -> str:
        """The mean of all of a histogram's observations: for what happens once or twice in the life of a process."""
        total, count = (self.grouped("sum", labels, self.series(f"{histogram}_{part}")) for part in ("sum", "count"))
        return f"{total} / {count}"

    def workers(self) -> str:
        """How many workers answer; no series at all where none does."""
        return self.grouped("count", (), self.series("plimsoll_build_info"))

    def or_zero(self, expression: str) -> str:
        """`expression`, or 0 where it has no series although workers answer. Where none does, it stays without: silence is not zero."""
        return f"{expression} or on ({', '.join(self.by)}) 0 * {self.workers()}"

    def share(self, metric: str) -> str:
        """The part of all partitions that say 1."""
        return self.grouped("avg", (), f"max by (job, partition) ({self.series(metric)})")

    # ---- what dashboards show and alerts look at ----------------------------------------------------------------------------------------

    def unknown_share(self) -> str:
        """Which part of all accounts is UNKNOWN."""
        everybody = self.total("plimsoll_accounts", over=("partition", "state", "cause"))
        unknown = self.total("plimsoll_accounts", over=("partition", "cause"), matching='state="UNKNOWN"')
        return f"({unknown} or 0 * {everybody}) / ({everybody} > 0)"

    def legs(self, labels: Sequence[str] = (), matching: str = "") -> str:
        """How many legs there are at venues that have a rule."""
        over = tuple(label for label in ("partition", "venue", "verdict", "portfolio") if label not in labels)
        return self.total("plimsoll_venue_legs", labels, over, matching)

    def unknown_legs(self) -> str:
        """Which part of the legs at a venue has no number by the venue's rule."""
        legs = self.legs(("venue",))
        unknown = self.legs(("venue",), 'verdict="unknown"')
        return f"{unknown} / ({legs} > 0)"

    def unowned(self, labels: Sequence[str] = ("machine",)) -> str:
        """How many partitions nobody has."""
        there_must_be = f"max by (job, machine) ({self.series('plimsoll_partitions')})"
        owned = f"count by (job, machine) (count by (job, machine, partition) ({self.series('plimsoll_cut_age_seconds')}))"
        return self.grouped("sum", labels, f"{there_must_be} - ({owned} or 0 * {there_must_be})")

    def open_breakers(self, labels: Sequence[str] = ()) -> str:
        """How many breakers are tripped."""
        once = f"max by (job, trigger, name) ({self.series('plimsoll_breaker_state')})"
        return self.grouped("count", labels, f"{once} == 2")

    def unknown_marks(self) -> str:
        """How many assets have no mark."""
        once = f"max by (job, asset) ({self.series('plimsoll_mark_known')})"
        return self.grouped("count", (), f"{once} == 0")


RULE: Final = Scope(chosen="", by=("job",))
BOARD: Final = Scope(chosen='job=~"$job", instance=~"$instance"', by=())
