"""For those who look after prices and chains: which mark is known, by which sources, and what each chain costs."""

from __future__ import annotations

from grafana import limits
from grafana.boards import Board, Choice, Row
from grafana.expressions import BOARD, RATE
from grafana.panels import BREAKERS, GREEN, NONE_IS_WELL, RED, About, Panel, Query, State, graph, number, rising, timeline

ASSET = 'asset=~"$asset"'
CHAIN = 'chain=~"$chain"'
MARKET_TOPICS = 'topic=~"oracle.prices|market.+"'


def breakers() -> Panel:
    """Which were open, and when; on the overview too."""
    return timeline(
        About(
            "Breakers",
            "Those that were ever open, and when. A breaker that recovers closes after its cool-down.",
            "none",
            "breaker-open",
        ),
        Query(BOARD.or_zero(BOARD.each("max", "plimsoll_breaker_state", ("trigger", "name"))), "{{trigger}} {{name}}"),
        BREAKERS,
    )


def oracles() -> Board:
    return Board(
        "oracles-and-chains",
        "Plimsoll / Oracles and chains",
        "Marks with the sources behind them, breakers, and what is late on which chain.",
        [Row("Now", _now()), Row("Marks", _marks()), Row("Sources", _sources()), Row("Chains", _chains())],
        (Choice("asset", "plimsoll_mark_known"), Choice("chain", "plimsoll_heartbeat_age_seconds")),
    )


def _now() -> list[Panel]:
    return [
        number(
            About("Assets without a mark", "Whoever holds one of them is UNKNOWN. Which ones: Marks, below.", "short", "stale-marks"),
            Query(BOARD.or_zero(BOARD.unknown_marks()), "without a mark"),
            NONE_IS_WELL,
        ),
        number(
            About(
                "Sources that don't count",
                "They are stale, apart from the others, or were never heard. One is normal now and then; a mark needs its quorum.",
                "short",
                "stale-marks",
            ),
            Query(
                BOARD.or_zero(BOARD.grouped("count", (), f"max by (job, asset, source) ({BOARD.series('plimsoll_source_counts')}) == 0")),
                "sources",
            ),
        ),
        number(
            About(
                "Widest dispersion",
                "Highest less lowest price over the mark, of the sources that count, where it is widest.",
                "percentunit",
                "sources-apart",
            ),
            Query(BOARD.each("max", "plimsoll_mark_dispersion_ratio"), "dispersion"),
            rising(limits.DISPERSION / 2, limits.DISPERSION),
        ),
        number(
            About("Open breakers", "Tripped, of all three kinds. Which ones: Breakers, below.", "short", "breaker-open"),
            Query(BOARD.or_zero(BOARD.open_breakers()), "open"),
            NONE_IS_WELL,
        ),
        number(
            About(
                "Longest attestation lag",
                "How late the slowest chain's messages are, p95: collateral there is cut for it, and its breaker holds credits in the end.",
                "s",
                "attestation-lag",
            ),
            Query(BOARD.or_zero(BOARD.each("max", "plimsoll_attestation_lag_seconds")), "lag"),
            rising(limits.ATTESTATION_LAG_S / 2, limits.ATTESTATION_LAG_S),
        ),
        number(
            About(
                "Credits held",
                "They wait for their chain's breaker to close, or for their instrument to be defined.",
                "short",
                "attestation-lag",
            ),
            Query(BOARD.total("plimsoll_credits_held"), "held"),
        ),
    ]


def _marks() -> list[Panel]:
    known = (State(0, "unknown", RED), State(1, "known", GREEN))
    return [
        timeline(
            About("Marks", "When each asset had a mark, and when not.", "none", "stale-marks"),
            Query(BOARD.each("max", "plimsoll_mark_known", ("asset",), ASSET), "{{asset}}"),
            known,
        ),
        breakers(),
        graph(
            About(
                "Marks in USD",
                "As the owner of book partition 0 has them; all books agree. A line that ends is a mark that is unknown.",
                "currencyUSD",
            ),
            Query(BOARD.each("max", "plimsoll_mark_usd", ("asset",), ASSET), "{{asset}}"),
        ),
        graph(
            About(
                "Dispersion",
                "Highest less lowest price over the mark, of the sources that count. From the line on somebody should look; at "
                "the breaker's trip the mark is gone.",
                "percentunit",
                "sources-apart",
            ),
            Query(BOARD.each("max", "plimsoll_mark_dispersion_ratio", ("asset",), ASSET), "{{asset}}"),
            steps=rising(limits.DISPERSION),
        ),
        graph(
            About(
                "Volatility",
                "Annualised, as maintenance margin sees it. It rises slowly by rule, at once where a move breaker widens it.",
                "percentunit",
            ),
            Query(BOARD.each("max", "plimsoll_volatility_ratio", ("asset",), ASSET), "{{asset}}"),
        ),
        graph(
            About(
                "Depth", "What the bid side takes: it bounds how much is ordered in an interval, and sets haircuts by size.", "currencyUSD"
            ),
            Query(BOARD.each("max", "plimsoll_depth_usd", ("asset",), ASSET), "{{asset}}"),
        ),
    ]


def _sources() -> list[Panel]:
    counts = (State(0, "does not count", RED), State(1, "counts", GREEN))
    return [
        timeline(
            About("Sources that count", "By asset and source: green while its price is fresh and near the others'.", "none", "stale-marks"),
            Query(BOARD.each("max", "plimsoll_source_counts", ("asset", "source"), ASSET), "{{asset}} {{source}}"),
            counts,
            width=24,
        ),
        graph(
            About(
                "Age of prices",
                "By source, the oldest of its prices. Beyond the line it no longer counts for most classes; some may be older "
                "(`max_age_s`).",
                "s",
                "stale-marks",
            ),
            Query(BOARD.each("max", "plimsoll_source_age_seconds", ("source",), ASSET), "{{source}}"),
            steps=rising(limits.SOURCE_AGE_S),
        ),
        graph(
            About(
                "Age of marks",
                "The newest price behind each mark. All ages that grow together mean that ingest stands, not that sources are silent.",
                "s",
                "stale-marks",
            ),
            Query(BOARD.each("max", "plimsoll_mark_age_seconds", ("asset",), ASSET), "{{asset}}"),
        ),
        graph(
            About(
                "Market records",
                "Prices, depths, volatilities and funding taken in, a second. A topic at zero has no producer.",
                "ops",
                "stale-marks",
            ),
            Query(BOARD.rate("plimsoll_events_in_total", ("topic",), RATE, MARKET_TOPICS), "{{topic}}"),
        ),
        graph(
            About(
                "Market records refused", "In 5 minutes, by topic and reason; the letters are in `<topic>.dlq`.", "short", "dead-letters"
            ),
            Query(
                BOARD.recorded("plimsoll_dead_letters_total", ("topic", "reason"), MARKET_TOPICS),
                "{{topic}} {{reason}}",
            ),
            steps=rising(limits.DEAD_LETTERS),
        ),
    ]


def _chains() -> list[Panel]:
    return [
        graph(
            About(
                "Attestation lag",
                "p95 of what was observed, by chain. Beyond the line somebody should ask its operators; at `lag_trip_s` credits are held.",
                "s",
                "attestation-lag",
            ),
            Query(BOARD.or_zero(BOARD.each("max", "plimsoll_attestation_lag_seconds", ("chain",), CHAIN)), "{{chain}}"),
            steps=rising(limits.ATTESTATION_LAG_S),
        ),
        graph(
            About(
                "Age of heartbeats", "Time since a chain was last heard. If it grows for all, the observer is gone.", "s", "attestation-lag"
            ),
            Query(BOARD.or_zero(BOARD.each("max", "plimsoll_heartbeat_age_seconds", ("chain",), CHAIN)), "{{chain}}"),
            steps=rising(limits.HEARTBEAT_AGE_S),
        ),
        graph(
            About(
                "Exposure by chain and layer",
                "Notional, long and short: what a halt of that chain, or of that messaging layer, would catch.",
                "currencyUSD",
            ),
            Query(BOARD.total("plimsoll_exposure_usd", ("chain", "layer", "side"), matching=CHAIN), "{{chain}} ({{layer}}) {{side}}"),
        ),
        graph(
            About(
                "Attestations refused",
                "In 5 minutes, by reason. bad_signature, replayed, equivocation: somebody tries. unknown_guardian_set: a "
                "rotation was missed.",
                "short",
                "dead-letters",
            ),
            Query(BOARD.recorded("plimsoll_dead_letters_total", ("topic", "reason"), 'topic=~"chain.+"'), "{{topic}} {{reason}}"),
            steps=rising(limits.DEAD_LETTERS),
        ),
    ]
