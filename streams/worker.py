"""A worker process: warms up, joins the group, runs what it is given, seals its cuts when told to end, and ends itself when stuck."""

from __future__ import annotations

import argparse
import faulthandler
import gc
import logging
import os
import socket
import sys
import threading
import time
import traceback
from typing import NoReturn

from aiohttp import web
from faust import Worker

from streams.console.content import Machines
from streams.console.server import Console
from streams.faust_app import FaustGroup, make_app
from streams.machine import BROKER_SILENT_S, Phase
from streams.pages import health_routes, serve
from streams.roster import PRODUCT, load_roster
from streams.settings import Settings, load_settings
from streams.shell import Shell

log = logging.getLogger(__name__)

CRASHED, UNSEALED, STUCK = 70, 74, 75  # exit codes: an unexpected error; a stop that left cuts unsealed; no progress (start it again)
WATCH_S = 0.5
SELDOM_S = 10.0
COLLECT_EVERY = 50_000  # objects made and not freed yet


def run_worker(settings: Settings, machines: str = PRODUCT) -> NoReturn:
    """Run until SIGTERM or SIGINT (exit code 0, all cuts sealed, or 74, not all), an unexpected error (70) or a standstill (75)."""
    roster = load_roster(settings, machines)
    if machines == PRODUCT:
        _warm()
    group = FaustGroup(settings)
    shell = Shell(settings, roster, group, _end)

    pages = web.Application()
    runner: web.AppRunner | None = None

    async def opened() -> None:
        nonlocal runner
        await shell.open()
        runner, port = await serve(pages, settings.listen, settings.metrics_port)
        shell.place = shell.place._replace(pages=f"http://{reachable(settings.listen)}:{port}")
        log.info("metrics and health at http://%s:%d%s", settings.listen, port, ", and the console" if settings.console else "")

    async def closed() -> None:
        if runner is not None:
            await runner.cleanup()

    pages.add_routes(health_routes(shell.metrics, shell.problems))
    if settings.console:
        Console(shell.clients, [Machines(kind.name, kind.partitions) for kind in roster], shell.book, shell.metrics).add_to(pages)
    app = make_app(settings, roster, shell, opened, closed)
    group.app = app
    watchdog = threading.Thread(target=_watch, args=(shell, settings.watchdog_s), name="watchdog", daemon=True)
    watchdog.start()
    _quieten(settings.log_level)
    _collect_seldom()
    try:
        Worker(app, loglevel=settings.log_level, redirect_stdouts=False, quiet=True).execute_from_commandline()
    except SystemExit as end:
        if end.code == 0 and shell.unsealed:
            log.critical("ending with code %d: %d partitions are not sealed, see above", UNSEALED, shell.unsealed)
            raise SystemExit(UNSEALED) from None
        raise
    raise SystemExit(0)


def reachable(listen: str) -> str:
    """The host by which others reach what listens at this address: where that is every address, this machine's name."""
    if listen in {"0.0.0.0", "::", ""}:  # noqa: S104 - compared with, not bound to
        return socket.gethostname()
    return f"[{listen}]" if ":" in listen else listen


def _warm() -> None:
    """Compile the kernels before joining: one that compiles later holds everything up, heartbeats included."""
    from engine.warm import warm

    started = time.monotonic()
    warm()
    log.info("kernels warmed in %.1f s", time.monotonic() - started)


def _collect_seldom() -> None:
    """Records come by the thousand and are freed with their frame: to look for cycles among them at each 700th doubles what they cost."""
    gc.collect()
    gc.freeze()  # what is here now stays
    gc.set_threshold(COLLECT_EVERY, 20, 20)


class Seldom(logging.Filter):
    """Lets a message through once in `SELDOM_S`: a dozen clients without a broker would write a hundred lines a second."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}  # bounded by the number of messages in aiokafka's source

    def filter(self, record: logging.LogRecord) -> bool:
        template = str(record.msg)
        if record.created - self._said.get(template, 0.0) < SELDOM_S:
            return False
        self._said[template] = record.created
        return True


def _quieten(level: str) -> None:
    if level == "DEBUG":
        return
    for chatty in ("aiokafka", "faust.sensors", "mode.timers"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    seldom = Seldom()
    for name in ("", ".conn", ".cluster", ".consumer.fetcher", ".consumer.group_coordinator", ".producer.sender"):
        logging.getLogger(f"aiokafka{name}").addFilter(seldom)  # filters of a logger do not see what its children log


def _end(error: BaseException) -> NoReturn:
    """Crash: what is not in a cut is decided again by the next owner, so nothing has to be put in order first."""
    traceback.print_exception(error, file=sys.stderr)
    sys.stderr.flush()
    os._exit(CRASHED)


def _watch(shell: Shell, patience_s: float) -> None:
    """In its own thread: heartbeats have theirs too, so a worker that is stuck would keep its partitions for ever."""
    while True:
        time.sleep(WATCH_S)
        why = stuck(shell, time.monotonic(), time.time(), patience_s)
        if why:
            sys.stderr.write(f"watchdog: {why}; ending this process so that another one takes over. What its threads are doing:\n")
            faulthandler.dump_traceback(file=sys.stderr)
            sys.stderr.flush()
            os._exit(STUCK)


def stuck(shell: Shell, now: float, wall_s: float, patience_s: float) -> str:
    """Why the worker must be ended, or ''. One that waits for the broker is not stuck, nor is a partition that was halted on purpose."""
    if shell.opened_at is not None and now - shell.loop_at > patience_s:
        return f"the event loop has not turned for {now - shell.loop_at:.1f} s"
    for life in list(shell.lives.values()):
        waiting = life.applied > life.cut_applied or life.log_end - 1 > life.applied
        if life.phase is not Phase.RUNNING or life.cutting_since is not None or wall_s - life.heard_at_s > BROKER_SILENT_S:
            continue
        if waiting and now - life.progress_at > patience_s:
            return f"{life!r} is at {life.applied} of {life.log_end}, its cut at {life.cut_applied}, unmoved for {patience_s:.0f} s"
    return ""


def main() -> NoReturn:
    """`python -m streams.worker [--machines module:function]`, settings from the environment and PLIMSOLL_SETTINGS."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machines", default=PRODUCT, help="module:function that gives the roster of machines")
    options = parser.parse_args()
    settings = load_settings()
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    run_worker(settings, options.machines)


if __name__ == "__main__":
    main()
