"""The pages of a process: /live, /ready and /metrics, beside whatever else is put there, on one port."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from streams.metrics import Metrics

log = logging.getLogger(__name__)

STOP_S = 1.0  # that requests in progress get to end when the pages are closed

Problems = Callable[[], list[str]]


def health_routes(metrics: Metrics, problems: Problems) -> list[web.RouteDef]:
    """`live`, `ready`, which lists `problems()`, what keeps the worker from being ready, and `metrics`, for Prometheus."""

    async def ready(_: web.Request) -> web.Response:
        found = problems()
        return web.Response(text="\n".join(found or ["ready"]) + "\n", status=503 if found else 200)

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [web.get("/live", live), web.get("/ready", ready), web.get("/metrics", scrape)]


async def live(_: web.Request) -> web.Response:
    """The process turns."""
    return web.Response(text="live\n")


async def serve(app: web.Application, host: str, port: int) -> tuple[web.AppRunner, int]:
    """Start the pages; returns the runner (call `cleanup()` at the end) and the port, a free one where `port` is 0 or taken."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        if error.errno != errno.EADDRINUSE or port == 0:
            raise
        log.warning("port %d is taken (by another worker?), so the pages are on a free one", port)
        await web.TCPSite(runner, host, 0).start()
    return runner, runner.addresses[0][1]
