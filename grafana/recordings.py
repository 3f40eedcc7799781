"""Recording rules: what alerts look at and what is worth keeping for long, named `level:metric:operation`."""

from __future__ import annotations

from typing import NamedTuple

from grafana.expressions import MEMORY, RECORDED_WINDOW, RULE, SELDOM, counted, recorded_increase
from grafana.limits import DISPERSION
from grafana.windows import Windows

UNKNOWN_MARK = "job_asset:plimsoll_mark_known:max == 0"


class Recording(NamedTuple):
    """A series that Prometheus computes again at each evaluation."""

    name: str
    expression: str


def recordings(windows: Windows) -> list[Recording]:
    """All of them; each uses raw series, or recordings above it."""
    return [*_seldom(windows), *_accounts(windows), *_market(), *_machines(windows)]


def _seldom(windows: Windows) -> list[Recording]:
    return [Recording(recorded_increase(counter), counted(counter, windows(RECORDED_WINDOW), windows(MEMORY))) for counter in SELDOM]


def _accounts(windows: Windows) -> list[Recording]:
    short = 'job_level_partition:plimsoll_shortfall_usd:max{level="maintenance"}'
    return [
        Recording("job_state:plimsoll_accounts:sum", RULE.total("plimsoll_accounts", ("state",), ("partition", "cause"))),
        Recording("job_reason:plimsoll_accounts_unknown:sum", RULE.total("plimsoll_accounts_unknown", ("reason",))),
        Recording("job:plimsoll_accounts_unknown:ratio", RULE.unknown_share()),
        Recording("job_state:plimsoll_equity_usd:sum", RULE.total("plimsoll_equity_usd", ("state",))),
        Recording("job_level_partition:plimsoll_shortfall_usd:max", RULE.each("max", "plimsoll_shortfall_usd", ("level", "partition"))),
        Recording("job_level:plimsoll_shortfall_usd:sum", "sum by (job, level) (job_level_partition:plimsoll_shortfall_usd:max)"),
        # Of each partition by itself: one that has no owner for a while must not look as if all of it had grown.
        Recording("job:plimsoll_shortfall_usd:rise10m", f"sum by (job) ({short} - min_over_time({short}[{windows('10m')}]))"),
        Recording("job:plimsoll_bad_debt_usd:sum", RULE.total("plimsoll_bad_debt_usd")),
        Recording("job_chain_layer_side:plimsoll_exposure_usd:sum", RULE.total("plimsoll_exposure_usd", ("chain", "layer", "side"))),
    ]


def _market() -> list[Recording]:
    return [
        Recording("job_asset:plimsoll_mark_known:max", RULE.each("max", "plimsoll_mark_known", ("asset",))),
        Recording(
            "job_trigger_name:plimsoll_breaker_state:max", RULE.or_zero(RULE.each("max", "plimsoll_breaker_state", ("trigger", "name")))
        ),
        Recording("job_asset:plimsoll_sources_apart:max", _sources_apart()),
        Recording("job_chain:plimsoll_attestation_lag_seconds:max", RULE.each("max", "plimsoll_attestation_lag_seconds", ("chain",))),
        Recording("job_chain:plimsoll_heartbeat_age_seconds:max", RULE.each("max", "plimsoll_heartbeat_age_seconds", ("chain",))),
    ]


def _sources_apart() -> str:
    """1 for an asset whose sources disagree, else 0.

    They do where those that count are too far from each other; where the divergence breaker is not closed; or where the mark is unknown
    although a source that does not count is no older than one that does: then it was left out for its price.
    """
    dispersion = RULE.each("max", "plimsoll_mark_dispersion_ratio", ("asset",))
    breaker = 'max by (job, asset) (label_replace(plimsoll_breaker_state{trigger="source_divergence"}, "asset", "$1", "name", "(.+)"))'
    left_out = RULE.grouped("min", ("asset",), "plimsoll_source_age_seconds and plimsoll_source_counts == 0")
    counting = RULE.grouped("max", ("asset",), "plimsoll_source_age_seconds and plimsoll_source_counts == 1")
    apart = f"{dispersion} > {DISPERSION:g} or {breaker} > 0 or ({UNKNOWN_MARK} and {left_out} <= {counting})"
    return f"group by (job, asset) ({apart}) or 0 * job_asset:plimsoll_mark_known:max"


def _machines(windows: Windows) -> list[Recording]:
    ages = ("plimsoll_cut_age_seconds", "plimsoll_clock_behind_seconds", "plimsoll_oldest_unapplied_event_seconds")
    return [
        *[Recording(f"job_machine_partition:{age}:min", RULE.each("min", age, ("machine", "partition"))) for age in ages],
        Recording("job_machine:plimsoll_partitions_unowned:count", RULE.unowned()),
        Recording("job:plimsoll_frames_applied:rate2m", RULE.rate("plimsoll_frames_applied_total", (), windows("2m"))),
        Recording(
            "job_machine:plimsoll_event_to_decision_seconds:p99",
            RULE.quantile(0.99, "plimsoll_event_to_decision_seconds", ("machine",), windows("5m")),
        ),
        Recording(
            "job_venue:plimsoll_event_to_order_seconds:p99",
            RULE.quantile(0.99, "plimsoll_event_to_order_seconds", ("venue",), windows("5m")),
        ),
    ]
