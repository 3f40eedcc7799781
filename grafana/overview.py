"""The first dashboard anybody opens: whether everything is alright, and where to look if it is not."""

from __future__ import annotations

from grafana import limits
from grafana.boards import Board, Row
from grafana.expressions import BOARD, RATE
from grafana.oracles import breakers
from grafana.panels import (
    GREEN,
    NONE_IS_WELL,
    ORANGE,
    RED,
    STATE_COLOURS,
    About,
    Panel,
    Query,
    graph,
    number,
    rising,
)


def overview() -> Board:
    return Board(
        "overview",
        "Plimsoll / Overview",
        "Whether everything is alright: the first two lines are green then. A figure that is not links to what to do.",
        [
            Row("Is everything alright?", [*_watching(), *_safe()]),
            Row("Accounts", _accounts()),
            Row("What is done about it", _doing()),
        ],
    )


def _watching() -> list[Panel]:
    """Whether anybody watches at all."""
    return [
        number(
            About(
                "Workers",
                "Workers that answer. With none nobody is watched: look at the processes, then at the broker.",
                "short",
                "no-progress",
            ),
            Query(f"{BOARD.workers()} or vector(0)", "workers"),
            ((None, RED), (1.0, GREEN)),
        ),
        number(
            About(
                "Partitions without an owner",
                "Their accounts are watched by nobody. Seconds are normal while a worker is replaced; longer means that too few run.",
                "short",
                "partition-without-owner",
            ),
            Query(BOARD.unowned(()), "without an owner"),
            NONE_IS_WELL,
        ),
        number(
            About("Halted partitions", "They apply nothing until somebody acts: `/ready` of their worker says why.", "short", "halted"),
            Query(BOARD.or_zero(BOARD.total("plimsoll_halted", over=("machine", "partition"))), "halted"),
            NONE_IS_WELL,
        ),
        number(
            About(
                "Oldest event",
                "How long an event has waited to be applied, in the partition that is worst off: how old the market is that "
                "accounts are judged by.",
                "s",
                "events-wait",
            ),
            Query(BOARD.worst_partition("plimsoll_oldest_unapplied_event_seconds"), "oldest event"),
            rising(limits.EVENT_AGE_S / 5, limits.EVENT_AGE_S),
        ),
        number(
            About(
                "Oldest cut",
                "Time since the last committed cut of the partition that is worst off. What is in no cut is decided again after a crash.",
                "s",
                "cut-too-old",
            ),
            Query(BOARD.worst_partition("plimsoll_cut_age_seconds"), "oldest cut"),
            rising(limits.CUT_AGE_S / 5, limits.CUT_AGE_S),
        ),
        number(
            About(
                "Publishing",
                "Share of the books' partitions whose orders go out. The others only observe, by `plimsoll mode`: below 100% "
                "is a decision, "
                "and nobody should learn of it here.",
                "percentunit",
            ),
            Query(BOARD.share("plimsoll_publishing"), "publishing"),
            ((None, ORANGE), (1.0, GREEN)),
        ),
    ]


def _safe() -> list[Panel]:
    """Whether everybody who is watched is safe."""
    return [
        number(
            About(
                "UNKNOWN share",
                "Accounts that cannot be valued: nobody knows whether they sink, and no order goes out for them. See the reasons below.",
                "percentunit",
                "unknown-share",
            ),
            Query(BOARD.unknown_share(), "UNKNOWN"),
            rising(limits.UNKNOWN_SHARE / 10, limits.UNKNOWN_SHARE),
        ),
        number(
            About(
                "Accounts below maintenance",
                "LIQUIDATABLE or BANKRUPT now. They should not stay: orders go out for them within milliseconds. See Liquidations.",
                "short",
                "shortfall-growing",
            ),
            Query(
                BOARD.total("plimsoll_accounts", (), ("partition", "state", "cause"), 'state=~"LIQUIDATABLE|BANKRUPT"'), "below maintenance"
            ),
            ((None, GREEN), (1.0, ORANGE)),
        ),
        number(
            About(
                "Shortfall",
                "What all accounts together lack to their maintenance requirement. Growing means that liquidations do not keep up.",
                "currencyUSD",
                "shortfall-growing",
            ),
            Query(BOARD.total("plimsoll_shortfall_usd", matching='level="maintenance"'), "shortfall"),
            rising(1.0, limits.SHORTFALL_RISE_USD),
        ),
        number(
            About(
                "Open breakers",
                "Tripped: an asset moved too fast, its sources disagree, or a chain's attestations lag. Which ones: Breakers, below.",
                "short",
                "breaker-open",
            ),
            Query(BOARD.or_zero(BOARD.open_breakers()), "open"),
            NONE_IS_WELL,
        ),
        number(
            About(
                "Assets without a mark",
                "Too few of their sources are fresh, or they disagree. Whoever holds one of them is UNKNOWN. See Oracles and chains.",
                "short",
                "stale-marks",
            ),
            Query(BOARD.or_zero(BOARD.unknown_marks()), "without a mark"),
            NONE_IS_WELL,
        ),
        number(
            About(
                "Orders nobody has answered",
                "In flight, and neither reported on nor filled. A few are normal for as long as a venue takes; growing means "
                "that its bot is gone.",
                "short",
                "orders-without-report",
            ),
            Query(BOARD.or_zero(BOARD.total("plimsoll_orders_unreported", over=("partition", "venue"))), "unanswered"),
            ((None, GREEN), (1.0, ORANGE)),
        ),
    ]


def _accounts() -> list[Panel]:
    return [
        graph(
            About("Accounts by state", "Everybody, by what they are now. WARNING is below initial margin.", "short"),
            Query(BOARD.total("plimsoll_accounts", ("state",), ("partition", "cause")), "{{state}}"),
            stacked=True,
            colours=STATE_COLOURS,
        ),
        graph(
            About(
                "UNKNOWN accounts by reason",
                "stale_mark, sources_apart: look at the sources. missed_fill, unreconciled: at dead letters and snapshots. "
                "engine_fault: at the audit.",
                "short",
                "unknown-share",
            ),
            Query(BOARD.or_zero(BOARD.total("plimsoll_accounts_unknown", ("reason",))), "{{reason}}"),
            stacked=True,
        ),
        graph(
            About(
                "Shortfall by level",
                "What is missing to the initial requirement (calls), to where a liquidation ends, and to maintenance (orders).",
                "currencyUSD",
                "shortfall-growing",
            ),
            Query(BOARD.total("plimsoll_shortfall_usd", ("level",)), "{{level}}"),
            Query(BOARD.total("plimsoll_bad_debt_usd"), "bad debt"),
        ),
        graph(
            About("Equity by state", "Equity after haircuts of those who can be valued: what stands behind each state.", "currencyUSD"),
            Query(BOARD.total("plimsoll_equity_usd", ("state",)), "{{state}}"),
            stacked=True,
            colours=STATE_COLOURS,
        ),
    ]


def _doing() -> list[Panel]:
    return [
        graph(
            About(
                "Orders by cause",
                "Liquidation orders published in 5 minutes, by what brought their account below maintenance. See Liquidations.",
                "short",
                "shortfall-growing",
            ),
            Query(BOARD.recorded("plimsoll_orders_total", ("cause",)), "{{cause}}"),
            stacked=True,
        ),
        breakers(),
        graph(
            About(
                "From event to decision",
                "From the broker's time of a frame's oldest event to the frame applied: the median, and what one frame in a "
                "hundred exceeds.",
                "s",
                "events-wait",
            ),
            Query(BOARD.quantile(0.5, "plimsoll_event_to_decision_seconds", ("machine",), RATE), "{{machine}} p50"),
            Query(BOARD.quantile(0.99, "plimsoll_event_to_decision_seconds", ("machine",), RATE), "{{machine}} p99"),
        ),
        graph(
            About(
                "Exposure by chain",
                "Notional of all positions, long and short, by the chain where they are: what a halt of that chain would catch.",
                "currencyUSD",
            ),
            Query(BOARD.total("plimsoll_exposure_usd", ("chain", "side")), "{{chain}} {{side}}"),
        ),
    ]
