"""The replay again and again, as a process of its own with metrics of its own: a running deployment that is put to the test all the time.

`python -m streams.replay_watch FILE...` renews the table of its metrics in those files; without a file it prints it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import time
from collections.abc import Awaitable, Callable

from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from streams.documents import MadeTable, as_table, run
from streams.replay import ReplayReport
from streams.wording import safe

log = logging.getLogger(__name__)

Replay = Callable[[], Awaitable[ReplayReport]]


class MetricsFault(RuntimeError):
    """The metrics cannot be served; the text says what to do."""


class ReplayMetrics:
    """What the runs found, in a registry of its own. Before the first whole run nothing is known, which is not the same as 0."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.differences = Gauge("plimsoll_replay_differences", "Differences that the last whole replay found", registry=registry)
        self.orders = Gauge("plimsoll_replay_orders", "Orders that the logs of the last whole replay ask for", registry=registry)
        self.last_success = Gauge(
            "plimsoll_replay_last_success_timestamp_seconds", "When the last replay that came to its end did so", registry=registry
        )
        self.failures = Counter(
            "plimsoll_replay_failures_total", "Replays that came to no end, since the cluster could not be read", registry=registry
        )
        self.differences.set(math.nan)
        self.orders.set(math.nan)

    def tell(self, report: ReplayReport) -> None:
        self.differences.set(report.difference_count)
        self.orders.set(report.orders)
        self.last_success.set(time.time())


async def watch(replay: Replay, every_s: float, host: str, port: int) -> None:
    """Replay each `every_s` seconds until SIGTERM or SIGINT, with the metrics at `host` and `port` (0: a free one).

    The metrics have a thread of their own, since the engine does not give way while it computes. Raises MetricsFault.
    """
    metrics = ReplayMetrics()
    try:
        server, thread = start_http_server(port, host, metrics.registry)
    except OSError as error:
        raise MetricsFault(f"metrics cannot be served at {host}, port {port}: {error.strerror}; give another --metrics-port") from None
    log.info("metrics at http://%s:%d/metrics", host, server.server_port)
    going = asyncio.create_task(repeat(replay, every_s, metrics))
    for end in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(end, going.cancel)
    try:
        await asyncio.wait([going])
        if not going.cancelled():
            going.result()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def repeat(replay: Replay, every_s: float, metrics: ReplayMetrics) -> None:
    """Never ends. A run begins `every_s` after the last one began, or at once where that one took longer."""
    while True:
        began = time.monotonic()
        try:
            report = await replay()
        except (KafkaError, OSError) as error:
            metrics.failures.inc()
            log.warning("no replay: %s; once more in %.0f s", error, every_s)
        else:
            metrics.tell(report)
            _say(report)
        await asyncio.sleep(max(0.0, began + every_s - time.monotonic()))


def _say(report: ReplayReport) -> None:
    level = logging.ERROR if report.difference_count else logging.INFO
    log.log(level, "%d orders, %d cuts, %d differences", report.orders, report.cuts_checked, report.difference_count)
    for difference in report.differences:
        log.error("difference: %s", safe(difference))


def replay_metrics_table() -> str:
    """Its metrics as a table in Markdown; none has a label."""
    told = [next(iter(family.describe())) for family in vars(ReplayMetrics()).values() if isinstance(family, Counter | Gauge)]
    rows = [[f"`{one.name}{'_total' if one.type == 'counter' else ''}`", one.type, one.documentation] for one in told]
    return as_table(["metric", "type", "what it says"], rows)


REPLAY_METRICS_TABLE = MadeTable("replay", "streams.replay_watch", replay_metrics_table)

if __name__ == "__main__":
    run(REPLAY_METRICS_TABLE)
