"""Alerts: what calls somebody, after how long, and which page of docs/runbooks says what to do then.

`python -m grafana.alerts FILE...` renews the table of alerts in those files; without a file it prints it.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, NamedTuple

from grafana import limits
from grafana.expressions import RULE, recorded_increase
from grafana.recordings import UNKNOWN_MARK
from grafana.windows import Windows
from streams.documents import MadeTable, as_table, run

RUNBOOKS: Final = "docs/runbooks"  # as the base of links; `python -m grafana.build --runbooks` puts another there
UNSCALED: Final = Windows()


class Severity(StrEnum):
    """Whether somebody gets up for it, or finds it in the morning."""

    PAGE = "page"
    TICKET = "ticket"


class Alert(NamedTuple):
    """One alerting rule; `summary` may name labels of the expression, as `{{ $labels.asset }}`."""

    name: str
    expression: str
    hold: str  # how long the expression must hold, as written in the rules
    severity: Severity
    summary: str
    description: str  # what follows from it: the reason why somebody is called

    @property
    def runbook(self) -> str:
        """The name of its page: `no-progress.md` of PlimsollNoProgress."""
        words = re.findall(r"[A-Z][a-z]+", self.name.removeprefix("Plimsoll"))
        return "-".join(words).lower() + ".md"


def alerts(windows: Windows = UNSCALED) -> list[Alert]:
    """All of them, those first that say that nothing is watched any more."""
    return [*_progress(windows), *_state(windows), *_market(), *_orders(), *_input()]


def _progress(windows: Windows) -> list[Alert]:
    known = f"count by (job) (last_over_time(plimsoll_build_info[{windows('1d')}]))"
    partition = "{{ $labels.machine }} {{ $labels.partition }}"
    return [
        Alert(
            "PlimsollNoProgress",
            f"({known} unless job:plimsoll_frames_applied:rate2m > 0) or absent(plimsoll_build_info)",
            "1m",
            Severity.PAGE,
            "No worker {{ with $labels.job }}of {{ . }} {{ end }}applies anything",
            "Nobody is watched: no price, fill or tick is applied, and nothing is ordered.",
        ),
        Alert(
            "PlimsollPartitionWithoutOwner",
            "job_machine:plimsoll_partitions_unowned:count > 0",
            "1m",
            Severity.PAGE,
            "Nobody has {{ $value }} partitions of the {{ $labels.machine }}",
            "Accounts of these partitions are not watched. If it is the treasury's, the clock stands for all.",
        ),
        Alert(
            "PlimsollHalted",
            "max by (job, machine, partition) (plimsoll_halted) == 1",
            "30s",
            Severity.PAGE,
            f"{partition} has stopped until somebody acts",
            "Only a person can settle what it found: its last cut stands, and nothing is applied.",
        ),
        Alert(
            "PlimsollCutTooOld",
            f"job_machine_partition:plimsoll_cut_age_seconds:min > {limits.CUT_AGE_S:g}",
            "1m",
            Severity.PAGE,
            f"{partition} has committed nothing for {{{{ $value | humanizeDuration }}}}",
            "Nothing is made durable: the broker is slow or gone, or a topic is missing.",
        ),
        Alert(
            "PlimsollClockBehind",
            f"job_machine_partition:plimsoll_clock_behind_seconds:min > {limits.CLOCK_BEHIND_S:g}",
            "30s",
            Severity.PAGE,
            f"The clock of {partition} is {{{{ $value | humanizeDuration }}}} behind",
            "No ticks come, or they wait behind other frames: events are held back, and nothing falls due.",
        ),
        Alert(
            "PlimsollEventsWait",
            f"job_machine_partition:plimsoll_oldest_unapplied_event_seconds:min > {limits.EVENT_AGE_S:g}",
            "1m",
            Severity.PAGE,
            f"An event of {partition} has waited for {{{{ $value | humanizeDuration }}}}",
            "Accounts are judged by what was true then: too few workers, or one that can't keep up.",
        ),
        Alert(
            "PlimsollProcessDown",
            f"up == 0 and on (job, instance) last_over_time({{__name__=~'plimsoll_build_info|plimsoll_replay_orders'}}[{windows('1h')}])",
            "2m",
            Severity.TICKET,
            "{{ $labels.instance }} of {{ $labels.job }} does not answer",
            "A worker or a replay is gone, or stuck. Others have its partitions, unless another alert says that they have not.",
        ),
    ]


def _state(windows: Windows) -> list[Alert]:
    partition = "{{ $labels.machine }} {{ $labels.partition }}"

    def happened(what: str) -> str:
        return f"sum by (job, machine, partition) ({recorded_increase(f'plimsoll_{what}_total')})"

    return [
        Alert(
            "PlimsollCutFailures",
            f"{happened('cut_failures')} > 0",
            "1m",
            Severity.PAGE,
            f"Cuts of {partition} fail",
            "The partition is loaded again and again, and decides everything since its last cut anew each time.",
        ),
        Alert(
            "PlimsollFenced",
            f"{happened('fenced')} > 0",
            "30s",
            Severity.TICKET,
            f"Another worker was found to own {partition}",
            "A worker was paused or cut off beyond its session, or two deployments share a group.",
        ),
        Alert(
            "PlimsollFrameSetAside",
            f"{happened('frames_set_aside')} > 0",
            "30s",
            Severity.PAGE,
            f"A frame of {partition} was set aside because it ended its owners",
            "Its events are missing; accounts with fills or credits in it are UNKNOWN(missed_fill).",
        ),
        Alert(
            "PlimsollGaps",
            f"{happened('gaps')} > {limits.GAPS:g}",
            "1m",
            Severity.TICKET,
            f"Frames for {partition} go missing on their way",
            "What lies beyond a gap is left out and fetched again; once after a move is normal, again and again is not.",
        ),
        Alert(
            "PlimsollReplayDifference",
            "max by (job) (plimsoll_replay_differences) > 0",
            "30s",
            Severity.PAGE,
            "A replay of {{ $labels.job }} found {{ $value }} differences",
            "What was published is not what the ledgers ask for: an order was forged or lost, or two releases decide differently.",
        ),
        Alert(
            "PlimsollShadowDifference",
            f"sum by (job, partition) ({recorded_increase('plimsoll_shadow_differences_total')}) > 0",
            "30s",
            Severity.PAGE,
            "Accounts of partition {{ $labels.partition }} are not worth what the engine says",
            "A second valuation of sampled accounts came to something else: what is decided about them may be wrong.",
        ),
        Alert(
            "PlimsollReplayFails",
            f"sum by (job) (increase(plimsoll_replay_failures_total[{windows('10m')}])) > 0",
            "1m",
            Severity.TICKET,
            "Replays of {{ $labels.job }} fail",
            "Nobody holds the orders against their ledgers any more.",
        ),
    ]


def _market() -> list[Alert]:
    apart = "job_asset:plimsoll_sources_apart:max"
    return [
        Alert(
            "PlimsollStaleMarks",
            f"{UNKNOWN_MARK} unless {apart} == 1",
            "1m",
            Severity.PAGE,
            "{{ $labels.asset }} has no mark: too few of its sources are fresh",
            "Whoever holds it is UNKNOWN(stale_mark, no_mark or no_quorum): not watched, and not liquidated.",
        ),
        Alert(
            "PlimsollSourcesApart",
            f"{apart} == 1",
            "1m",
            Severity.PAGE,
            "The sources of {{ $labels.asset }} disagree",
            "If the divergence breaker trips, its mark is unknown, and whoever holds it UNKNOWN(sources_apart).",
        ),
        Alert(
            "PlimsollUnknownShare",
            f"job:plimsoll_accounts_unknown:ratio > {limits.UNKNOWN_SHARE:g}",
            "1m",
            Severity.PAGE,
            "{{ $value | humanizePercentage }} of the accounts of {{ $labels.job }} are UNKNOWN",
            "Nobody vouches for them: they may be sinking, and no order goes out for them.",
        ),
        Alert(
            "PlimsollVenueLegsUnknown",
            f"{RULE.unknown_legs()} > {limits.UNKNOWN_LEGS:g}",
            "5m",
            Severity.TICKET,
            "{{ $value | humanizePercentage }} of the legs at {{ $labels.venue }} have no number by its rule",
            "That venue may liquidate them without a word from here: their distance from its own line is not known.",
        ),
        Alert(
            "PlimsollAttestationLag",
            f"job_chain:plimsoll_attestation_lag_seconds:max > {limits.ATTESTATION_LAG_S:g}"
            f" or job_chain:plimsoll_heartbeat_age_seconds:max > {limits.HEARTBEAT_AGE_S:g}",
            "2m",
            Severity.TICKET,
            "{{ $labels.chain }} is {{ $value | humanizeDuration }} behind",
            "Collateral there is cut for the delay; beyond lag_trip_s the breaker holds credits from that chain.",
        ),
        Alert(
            "PlimsollBreakerOpen",
            'job_trigger_name:plimsoll_breaker_state:max{trigger!="quarantine"} == 2'
            " or max by (job, trigger, name) (plimsoll_book_breaker_state) == 2",
            "1m",
            Severity.PAGE,
            "The breaker {{ $labels.trigger }} of {{ $labels.name }} is open",
            "Its mark is unknown, its volatility widened, its credits are held, or new risk is refused, by what tripped.",
        ),
        Alert(
            "PlimsollChainQuarantined",
            'job_trigger_name:plimsoll_breaker_state:max{trigger="quarantine"} > 0',
            "30s",
            Severity.PAGE,
            "The chain {{ $labels.name }} is in quarantine",
            "Its messages contradict each other, or somebody said so: credit there counts less and less, until an operator ends it.",
        ),
    ]


def _orders() -> list[Alert]:
    risen = "job:plimsoll_shortfall_usd:rise10m"
    everything = 'sum by (job) (job_level:plimsoll_shortfall_usd:sum{level="maintenance"})'
    return [
        Alert(
            "PlimsollShortfallGrowing",
            f"{risen} > {limits.SHORTFALL_RISE_USD:g} and {risen} > {limits.SHORTFALL_RISE_SHARE:g} * {everything}",
            "5m",
            Severity.PAGE,
            "The shortfall of {{ $labels.job }} has grown by {{ $value | humanize }} USD in ten minutes",
            "Liquidations do not keep up with the market: orders are throttled, frozen, unfilled, or only observed.",
        ),
        Alert(
            "PlimsollOrdersWithoutReport",
            f"sum by (job, venue) ({recorded_increase('plimsoll_orders_expired_unreported_total')}) > 0"
            f" or max by (job) (plimsoll_oldest_unreported_order_seconds) > {limits.UNREPORTED_ORDER_S:g}",
            "1m",
            Severity.PAGE,
            "Orders {{ with $labels.venue }}for {{ . }} {{ end }}end, or live on, without a word from anybody",
            "The venue or its bot does not answer: positions that must be reduced stay as they are.",
        ),
        Alert(
            "PlimsollOrdersWaiting",
            "max by (job, venue) (plimsoll_orders_waiting) > 0",
            "30s",
            Severity.PAGE,
            "{{ $value }} orders wait for the topic of {{ $labels.venue }}",
            "The topic is missing and may not be made from here; cuts of the partitions that have such orders wait too.",
        ),
        Alert(
            "PlimsollLateOrders",
            f"job_venue:plimsoll_event_to_order_seconds:p99 > {limits.ORDER_P99_S:g}",
            "5m",
            Severity.PAGE,
            "One order in a hundred for {{ $labels.venue }} goes out {{ $value | humanizeDuration }} after its event, or later",
            "Liquidations come after the market has moved on.",
        ),
    ]


def _input() -> list[Alert]:
    letters = recorded_increase("plimsoll_dead_letters_total")
    return [
        Alert(
            "PlimsollDeadLetters",
            f"sum by (job, topic) ({letters}) > {limits.DEAD_LETTERS:g}",
            "1m",
            Severity.TICKET,
            "{{ $value | humanize }} records of {{ $labels.topic }} were refused in five minutes",
            "A producer sends what nobody understands, or somebody tries what must not be.",
        ),
        Alert(
            "PlimsollFillsRefused",
            f'sum by (job, topic) ({letters}{{topic="venue.fills"}}) > 0',
            "30s",
            Severity.PAGE,
            "Fills are refused",
            "Each makes its account UNKNOWN(missed_fill), until it is sent again or a snapshot settles it.",
        ),
    ]


def alerts_table() -> str:
    """All alerts as a table in Markdown."""
    rows = [
        [f"[`{alert.name}`](runbooks/{alert.runbook})", f"`{alert.expression}`", alert.hold, alert.severity, alert.description]
        for alert in alerts()
    ]
    return as_table(["alert", "when", "for", "severity", "because"], rows)


ALERTS_TABLE = MadeTable("alerts", "grafana.alerts", alerts_table)

if __name__ == "__main__":
    run(ALERTS_TABLE)
