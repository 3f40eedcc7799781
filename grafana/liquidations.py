"""For the risk desk: who sinks, what is ordered, what became of it, and whether a replay and the shadow check agree."""

from __future__ import annotations

from grafana import limits
from grafana.boards import Board, Row
from grafana.expressions import BOARD, RATE
from grafana.panels import GREEN, NONE_IS_WELL, ORANGE, RED, About, Panel, Query, State, graph, number, rising

NOBODY_REPLAYS = -1


def liquidations() -> Board:
    return Board(
        "liquidations",
        "Plimsoll / Liquidations",
        "Who is below the line, what is ordered for them, what venues made of it, and whether a replay finds the same orders.",
        [
            Row("Now", _now()),
            Row("At the venues", _venues()),
            Row("Orders", _orders()),
            Row("Who pays", _money()),
            Row("Proof", [*_proof(), *_shadow()]),
        ],
    )


def _now() -> list[Panel]:
    return [
        number(
            About(
                "Liquidatable",
                "Accounts below maintenance. Each has orders in flight, or a reason in the audit why not.",
                "short",
                "shortfall-growing",
            ),
            Query(BOARD.total("plimsoll_accounts", (), ("partition", "cause"), 'state="LIQUIDATABLE"'), "liquidatable"),
            ((None, GREEN), (1.0, ORANGE)),
        ),
        number(
            About(
                "Bankrupt",
                "Accounts whose equity, without haircuts, is below zero: the insurance fund is asked for them.",
                "short",
                "shortfall-growing",
            ),
            Query(BOARD.total("plimsoll_accounts", (), ("partition", "cause"), 'state="BANKRUPT"'), "bankrupt"),
            NONE_IS_WELL,
        ),
        number(
            About(
                "Orders in flight",
                "Sent, and not filled, reported on, or expired. Nothing more is planned for an account meanwhile.",
                "short",
            ),
            Query(BOARD.or_zero(BOARD.total("plimsoll_orders_in_flight", over=("partition", "venue"))), "in flight"),
        ),
        number(
            About(
                "Oldest unanswered order",
                "How long the oldest order is out of which nobody has said a word, in event time. Ask the bot of its venue.",
                "s",
                "orders-without-report",
            ),
            Query(BOARD.or_zero(BOARD.each("max", "plimsoll_oldest_unreported_order_seconds")), "oldest"),
            rising(limits.UNREPORTED_ORDER_S / 2, limits.UNREPORTED_ORDER_S),
        ),
        number(
            About(
                "Orders without a topic",
                "They wait, with the cuts of their partitions: `/ready` says what to type.",
                "short",
                "orders-waiting",
            ),
            Query(BOARD.or_zero(BOARD.grouped("sum", (), BOARD.series("plimsoll_orders_waiting"))), "waiting"),
            NONE_IS_WELL,
        ),
        number(
            About("Freezes", "Brakes in force, of accounts, venues, or all. `plimsoll unfreeze` lets go of what was frozen.", "short"),
            Query(BOARD.or_zero(BOARD.grouped("sum", (), f"max by (job, scope) ({BOARD.series('plimsoll_frozen')})")), "freezes"),
            ((None, GREEN), (1.0, ORANGE)),
        ),
    ]


def _venues() -> list[Panel]:
    return [
        graph(
            About(
                "Healthy, but near a venue's own line",
                "Legs that their venue may liquidate soon, or already, by its own rule, while the whole portfolio is healthy. "
                "Each got a margin call; the console's Accounts shows them first.",
                "short",
            ),
            Query(BOARD.or_zero(BOARD.legs(("venue",), 'verdict=~"near|past", portfolio="healthy"')), "{{venue}}"),
            stacked=True,
        ),
        graph(
            About(
                "Legs without a number",
                "The part of the legs at a venue that its rule could not be computed for: a mark is missing, the rule does not cover "
                "what is held, or the venue's definition lacks a number. The console says which of an account.",
                "percentunit",
                "venue-legs-unknown",
            ),
            Query(BOARD.unknown_legs(), "{{venue}}"),
        ),
    ]


def _orders() -> list[Panel]:
    return [
        graph(
            About("Orders by venue", "Published in 5 minutes.", "short"),
            Query(BOARD.recorded("plimsoll_orders_total", ("venue",)), "{{venue}}"),
            stacked=True,
        ),
        graph(
            About(
                "Orders by state and cause",
                "Published in 5 minutes, by the state of the account and by what brought it there: its price, a fill, funding, "
                "a haircut, the regime, a credit.",
                "short",
            ),
            Query(BOARD.recorded("plimsoll_orders_total", ("state", "cause")), "{{state}} {{cause}}"),
            stacked=True,
        ),
        graph(
            About(
                "Orders in flight and unanswered",
                "By venue. Unanswered that follow those in flight upwards mean that nobody fills or reports there.",
                "short",
                "orders-without-report",
            ),
            Query(BOARD.or_zero(BOARD.total("plimsoll_orders_in_flight", ("venue",))), "{{venue}} in flight"),
            Query(BOARD.or_zero(BOARD.total("plimsoll_orders_unreported", ("venue",))), "{{venue}} unanswered"),
        ),
        graph(
            About(
                "Orders that ended without a word",
                "Expired in 5 minutes with neither report nor fill, by venue. They are planned again with more slip, and may "
                "end the same way.",
                "short",
                "orders-without-report",
            ),
            Query(BOARD.recorded("plimsoll_orders_expired_unreported_total", ("venue",)), "{{venue}}"),
            steps=NONE_IS_WELL,
        ),
        graph(
            About(
                "Decisions by outcome",
                "Told to `audit.decisions` in 5 minutes. throttled: no grant was left; no_plan: nothing on offer helps; "
                "frozen, observed: a brake; grace: a call runs.",
                "short",
                "shortfall-growing",
            ),
            Query(BOARD.recorded("plimsoll_decisions_total", ("outcome",)), "{{outcome}}"),
            stacked=True,
        ),
        graph(
            About(
                "From event to order",
                "From the broker's time of a frame's oldest event to its order acknowledged: the median, and what one order in "
                "a hundred exceeds.",
                "s",
                "late-orders",
            ),
            Query(BOARD.quantile(0.5, "plimsoll_event_to_order_seconds", ("venue",), RATE), "{{venue}} p50"),
            Query(BOARD.quantile(0.99, "plimsoll_event_to_order_seconds", ("venue",), RATE), "{{venue}} p99"),
            steps=rising(limits.ORDER_P99_S),
        ),
    ]


def _money() -> list[Panel]:
    return [
        graph(
            About(
                "Shortfall",
                "What accounts together lack to maintenance, and to where their liquidation ends. It should fall after orders, not grow.",
                "currencyUSD",
                "shortfall-growing",
            ),
            Query(BOARD.total("plimsoll_shortfall_usd", ("level",), matching='level!="initial"'), "{{level}}"),
        ),
        graph(
            About(
                "Bad debt",
                "Equity below zero without haircuts, summed: what the insurance fund is for.",
                "currencyUSD",
                "shortfall-growing",
            ),
            Query(BOARD.total("plimsoll_bad_debt_usd"), "bad debt"),
            steps=rising(1.0),
        ),
    ]


def _proof() -> list[Panel]:
    """Before its first whole run a replay tells no number (NaN), and no time (0)."""
    unseen = State(NOBODY_REPLAYS, "nobody replays", ORANGE)
    return [
        number(
            About(
                "Differences found by replay",
                "`plimsoll replay --ledger --every` computes all orders again from their ledgers. Anything but 0 is for the "
                "engineers, at once.",
                "short",
                "replay-difference",
            ),
            Query(f"{BOARD.each('max', 'plimsoll_replay_differences')} >= 0 or vector({NOBODY_REPLAYS})", "differences"),
            ((None, ORANGE), (0.0, GREEN), (1.0, RED)),
            states=[unseen],
            width=6,
        ),
        number(
            About("Orders replayed", "How many orders the last replay computed.", "short", "replay-fails"),
            Query(f"{BOARD.each('max', 'plimsoll_replay_orders')} >= 0 or vector({NOBODY_REPLAYS})", "orders"),
            ((None, ORANGE), (0.0, GREEN)),
            states=[unseen],
            width=6,
        ),
        number(
            About("Since the last replay", "How long ago a replay last went through to its end.", "s", "replay-fails"),
            Query(
                f"time() - ({BOARD.each('max', 'plimsoll_replay_last_success_timestamp_seconds')} > 0) or vector({NOBODY_REPLAYS})", "ago"
            ),
            ((None, ORANGE), (0.0, GREEN)),
            states=[unseen],
            width=6,
        ),
        number(
            About(
                "Failed replays",
                "Replays that came to no end, in the last minutes: the cluster could not be read.",
                "short",
                "replay-fails",
            ),
            Query(f"{BOARD.grown('plimsoll_replay_failures_total', RATE)} or vector({NOBODY_REPLAYS})", "failed"),
            ((None, ORANGE), (0.0, GREEN), (0.1, RED)),
            states=[unseen],
            width=6,
        ),
    ]


def _shadow() -> list[Panel]:
    """What a second valuation of sampled accounts finds, in the workers themselves."""
    differences = "plimsoll_shadow_differences_total"
    return [
        number(
            About(
                "Differences found by the shadow check",
                "In 5 minutes: some accounts are valued a second time by plain Python. Anything but 0 is for the engineers, at once.",
                "short",
                "shadow-difference",
            ),
            Query(BOARD.recorded(differences), "differences"),
            NONE_IS_WELL,
            width=6,
        ),
        number(
            About(
                "Accounts checked",
                "A second, by the shadow check, of all partitions. None where it is switched off or nothing can be valued.",
                "ops",
                "shadow-difference",
            ),
            Query(BOARD.or_zero(BOARD.rate("plimsoll_shadow_checks_total", (), RATE)), "checked a second"),
            width=6,
        ),
        graph(
            About(
                "What the shadow check finds",
                "In 5 minutes, by what differs; and checks that ended early, for want of time, a second.",
                "short",
                "shadow-difference",
            ),
            Query(BOARD.recorded(differences, ("partition", "what")), "{{partition}} {{what}}"),
            Query(BOARD.or_zero(BOARD.rate("plimsoll_shadow_stopped_total", (), RATE)), "ended early a second"),
        ),
    ]
