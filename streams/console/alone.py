"""The console in a process of its own, for those who do not want it in their workers; their books are asked about accounts."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from aiohttp import web

from streams.clients import Clients
from streams.console.content import Machines
from streams.console.owners import no_books
from streams.console.server import Console
from streams.metrics import Metrics
from streams.pages import live, serve
from streams.roster import product
from streams.settings import Settings


def run_alone(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; says on standard output where."""
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    app = web.Application()
    app.add_routes([web.get("/live", live)])
    machines = [Machines(kind.name, kind.partitions) for kind in product(settings)]
    Console(Clients(settings), machines, no_books, Metrics()).add_to(app)
    runner, port = await serve(app, settings.listen, settings.metrics_port)
    try:
        sys.stdout.write(f"console at http://{settings.listen}:{port}/\n")
        sys.stdout.flush()
        await ended.wait()
    finally:
        await runner.cleanup()
