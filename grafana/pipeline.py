"""For the engineer on call: where events wait, what cuts cost, who owns what, and what goes wrong on the way."""

from __future__ import annotations

from grafana import limits
from grafana.boards import Board, Choice, Row
from grafana.expressions import BOARD, RATE
from grafana.panels import GREEN, NONE_IS_WELL, RED, About, Panel, Query, State, graph, listing, rising, timeline

MACHINE = 'machine=~"$machine"'


def pipeline() -> Board:
    return Board(
        "pipeline",
        "Plimsoll / Pipeline",
        "Ingest, logs, applying, cuts and outputs of each worker and partition.",
        [
            Row("Now", _now()),
            Row("Where events wait", _waiting()),
            Row("What each stage takes", _stages()),
            Row("Cuts and recovery", _cuts()),
            Row("What went wrong", _faults()),
        ],
        (Choice("machine", "plimsoll_partitions"),),
    )


def _now() -> list[Panel]:
    owners = f"max by (instance, machine, partition) ({BOARD.series('plimsoll_cut_age_seconds', MACHINE)})"
    return [
        timeline(
            About(
                "Processes",
                "Whether each worker answered when it was last asked. One that is red is gone, or stuck; the others take its "
                "partitions over.",
                "none",
                "process-down",
            ),
            Query(f"max by (instance) ({BOARD.series('up')})", "{{instance}}"),
            (State(0, "does not answer", RED), State(1, "answers", GREEN)),
        ),
        listing(
            About("Age of the last cut", "Who owns each partition, and how old its last cut is.", "s", "partition-without-owner"),
            Query(owners, ""),
            hidden=(),
        ),
        listing(
            About("Releases", "What each worker runs. Two engine versions at once are only right during an upgrade.", "short"),
            Query(f"max by (instance, version, engine_version) ({BOARD.series('plimsoll_build_info')})", ""),
            hidden=("Value",),
        ),
        graph(
            About(
                "Partitions owned",
                "By worker and machine. They move when a worker comes or goes; ones that move all the time mean lost sessions.",
                "short",
                "fenced",
            ),
            Query(f"count by (instance, machine) ({BOARD.series('plimsoll_cut_age_seconds', MACHINE)})", "{{instance}} {{machine}}"),
            stacked=True,
        ),
    ]


def _waiting() -> list[Panel]:
    return [
        graph(
            About(
                "Records not framed",
                "What waits in source topics, by topic: ingest is behind, or waits for the clock.",
                "short",
                "events-wait",
            ),
            Query(BOARD.total("plimsoll_source_lag_records", ("topic",)), "{{topic}}"),
        ),
        graph(
            About("Frames not applied", "What waits in each partition's log.", "short", "events-wait"),
            Query(BOARD.each("min", "plimsoll_lag_frames", ("machine", "partition"), MACHINE), "{{machine}} {{partition}}"),
        ),
        graph(
            About("Oldest event not applied", "By partition. Above the line accounts are judged by an old market.", "s", "events-wait"),
            Query(
                BOARD.each("min", "plimsoll_oldest_unapplied_event_seconds", ("machine", "partition"), MACHINE), "{{machine}} {{partition}}"
            ),
            steps=rising(limits.EVENT_AGE_S),
        ),
        graph(
            About(
                "Clock behind",
                "Of each partition, behind the wall's. All of them: no ticks. One of them: ticks wait behind other frames.",
                "s",
                "clock-behind",
            ),
            Query(BOARD.each("min", "plimsoll_clock_behind_seconds", ("machine", "partition"), MACHINE), "{{machine}} {{partition}}"),
            steps=rising(limits.CLOCK_BEHIND_S),
        ),
        graph(
            About(
                "Outputs not sent",
                "Records that no producer has taken yet; at 20,000 applying pauses. A missing topic holds up all behind it.",
                "short",
                "cut-too-old",
            ),
            Query(BOARD.grouped("sum", ("instance",), BOARD.series("plimsoll_outbox_backlog_records")), "{{instance}}"),
        ),
        graph(
            About("Records taken in", "By source topic, a second.", "ops"),
            Query(BOARD.rate("plimsoll_events_in_total", ("topic",), RATE), "{{topic}}"),
        ),
    ]


def _stages() -> list[Panel]:
    return [
        graph(
            About("Ingest", "From the broker's time of a batch's oldest record to its frame in the log, p99 by topic.", "s", "events-wait"),
            Query(BOARD.quantile(0.99, "plimsoll_ingest_seconds", ("topic",), RATE), "{{topic}}"),
        ),
        graph(
            About("Apply", "One frame, the median and p99 by machine.", "s", "events-wait"),
            Query(BOARD.quantile(0.5, "plimsoll_apply_seconds", ("machine",), RATE), "{{machine}} p50"),
            Query(BOARD.quantile(0.99, "plimsoll_apply_seconds", ("machine",), RATE), "{{machine}} p99"),
        ),
        graph(
            About("Publish", "From a frame applied to an output of it acknowledged by the broker, the median and p99.", "s", "late-orders"),
            Query(BOARD.quantile(0.5, "plimsoll_publish_seconds", (), RATE), "p50"),
            Query(BOARD.quantile(0.99, "plimsoll_publish_seconds", (), RATE), "p99"),
        ),
        graph(
            About(
                "From event to decision",
                "From the broker's time of a frame's oldest event to the frame applied, p99 by machine.",
                "s",
                "events-wait",
            ),
            Query(BOARD.quantile(0.99, "plimsoll_event_to_decision_seconds", ("machine",), RATE), "{{machine}}"),
        ),
        graph(
            About("Events a frame", "The mean by machine. Frames grow under load, up to 8,000 events: the cheaper each event.", "short"),
            Query(BOARD.mean("plimsoll_frame_events", ("machine",), RATE), "{{machine}}"),
        ),
        graph(
            About("Size of a frame", "The mean by machine.", "bytes"),
            Query(BOARD.mean("plimsoll_frame_bytes", ("machine",), RATE), "{{machine}}"),
        ),
        graph(
            About("Frames applied", "By machine, a second. Ticks alone make some: zero is a standstill.", "ops", "no-progress"),
            Query(BOARD.rate("plimsoll_frames_applied_total", ("machine",), RATE), "{{machine}}"),
        ),
        graph(
            About("Readers of the console", "Pages that are open, of each worker, and those turned away because too many were.", "short"),
            Query(BOARD.or_zero(BOARD.grouped("sum", ("instance",), BOARD.series("plimsoll_console_clients"))), "{{instance}} open"),
            Query(BOARD.or_zero(BOARD.rate("plimsoll_console_refused_total", ("instance",), RATE)), "{{instance}} turned away a second"),
        ),
    ]


def _cuts() -> list[Panel]:
    return [
        graph(
            About("Age of cuts", "By partition. Above the line nothing is made durable there.", "s", "cut-too-old"),
            Query(BOARD.each("min", "plimsoll_cut_age_seconds", ("machine", "partition"), MACHINE), "{{machine}} {{partition}}"),
            steps=rising(limits.CUT_AGE_S),
        ),
        graph(
            About("Duration of cuts", "Orders' acknowledgements included, the median and p99 by machine.", "s", "cut-too-old"),
            Query(BOARD.quantile(0.5, "plimsoll_cut_seconds", ("machine",), RATE), "{{machine}} p50"),
            Query(BOARD.quantile(0.99, "plimsoll_cut_seconds", ("machine",), RATE), "{{machine}} p99"),
        ),
        graph(
            About("Rows written", "By machine, a second: what changed enough to be kept.", "wps"),
            Query(BOARD.rate("plimsoll_cut_rows_total", ("machine",), RATE), "{{machine}}"),
        ),
        graph(
            About("Frames not in a cut", "What would be applied again after a crash; at 4,096 a partition stands.", "short", "cut-too-old"),
            Query(BOARD.each("min", "plimsoll_uncut_frames", ("machine", "partition"), MACHINE), "{{machine}} {{partition}}"),
        ),
        graph(
            About(
                "Log's beginning less the cut",
                "Below 0 the log holds what a recovery needs. Near 0 its retention is too short; above it a recovery would halt.",
                "short",
                "halted",
            ),
            Query(BOARD.each("max", "plimsoll_log_start_minus_cut_frames", ("machine", "partition"), MACHINE), "{{machine}} {{partition}}"),
            steps=rising(0.0),
        ),
        graph(
            About(
                "Recovery",
                "From assignment to caught up with the log, the mean since each worker began: how long nobody watches after a move.",
                "s",
                "partition-without-owner",
            ),
            Query(BOARD.lifetime_mean("plimsoll_recovery_seconds", ("instance", "machine")), "{{instance}} {{machine}}"),
        ),
    ]


def _faults() -> list[Panel]:
    def counted(counter: str, labels: tuple[str, ...] = ("machine", "partition")) -> str:
        return BOARD.increase(counter, labels)

    return [
        graph(
            About("Dead letters", "Refused in 5 minutes, by topic and reason; the letters are in `<topic>.dlq`.", "short", "dead-letters"),
            Query(counted("plimsoll_dead_letters_total", ("topic", "reason")), "{{topic}} {{reason}}"),
            stacked=True,
        ),
        graph(
            About(
                "Cut failures and fences",
                "In 5 minutes, by partition. A fence after a pause is right; again and again it is two deployments in one group.",
                "short",
                "cut-failures",
            ),
            Query(counted("plimsoll_cut_failures_total"), "{{machine}} {{partition}} failed"),
            Query(counted("plimsoll_fenced_total"), "{{machine}} {{partition}} fenced"),
            steps=NONE_IS_WELL,
        ),
        graph(
            About(
                "Gaps and frames set aside",
                "In 5 minutes, by partition. A gap after a move is normal. A frame set aside has ended its owners: its events are missing.",
                "short",
                "frame-set-aside",
            ),
            Query(counted("plimsoll_gaps_total"), "{{machine}} {{partition}} gaps"),
            Query(counted("plimsoll_frames_set_aside_total"), "{{machine}} {{partition}} set aside"),
            steps=NONE_IS_WELL,
        ),
        graph(
            About("Feeders begun again", "In 5 minutes, by feeder: the broker was away, or a topic is missing.", "short", "cut-too-old"),
            Query(counted("plimsoll_feeder_restarts_total", ("feeder",)), "{{feeder}}"),
            Query(BOARD.or_zero(BOARD.rate("plimsoll_skipped_events_total", (), RATE)), "events skipped a second"),
        ),
    ]
