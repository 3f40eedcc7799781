"""Workers that a real Prometheus watches with our own rules, in windows short enough for a test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from grafana.prometheus import Firing, PrometheusServer
from grafana.rules import alert_rules, recording_rules
from grafana.windows import Windows
from streams.settings import Settings
from tests.fault.workers import ROOT, WorkerProcess

WINDOWS = Windows(1 / 40)  # five minutes are 7.5 s: every expression as it is in the rules, its windows shorter
TIMEOUT_S = 240.0
AGAIN_S = 15.0  # after which a cause is made again: twice the window in which what happened once is told
LOOK_S = 0.25
SCRAPED = "plimsoll_build_info or plimsoll_replay_orders"  # one series of each process that has been scraped


class Watch:
    """What a Prometheus says of the workers that it scrapes."""

    def __init__(self, prometheus: PrometheusServer) -> None:
        self._prometheus = prometheus

    async def seen(self, targets: int) -> None:
        """Wait until all targets have been scraped: Prometheus takes some seconds to begin."""
        async with asyncio.timeout(TIMEOUT_S):
            while len(await asyncio.to_thread(self._prometheus.series, SCRAPED)) < targets:  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(LOOK_S)

    async def fires(self, alert: str, **labels: str) -> Firing:
        """Wait until an alert fires with these labels; what it would tell somebody can be read, and its page is there."""
        ends = time.monotonic() + TIMEOUT_S
        while time.monotonic() < ends:
            for firing in await self._firing():
                if firing.name == alert and labels.items() <= firing.labels.items():
                    _check_wording(firing)
                    return firing
            await asyncio.sleep(LOOK_S)
        raise AssertionError(f"{alert} {labels} does not fire; these do: {await self._firing()}")

    async def provoked(
        self, cause: Callable[[], Awaitable[object]], *expected: Coroutine[Any, Any, Firing], again_s: float = AGAIN_S
    ) -> None:
        """Wait for all of `expected` (each a `fires`), and make their cause again as long as one has not come.

        For what passes: an event of a short window is told in a few scrapes only, and a busy machine may miss those.
        """
        tasks = {asyncio.create_task(one) for one in expected}
        try:
            waiting = tasks
            while waiting:
                await cause()
                _, waiting = await asyncio.wait(waiting, timeout=again_s)
            for task in tasks:
                task.result()
        finally:
            for task in tasks:
                task.cancel()

    async def ends(self, *alerts: str) -> None:
        """Wait until none of these alerts fires."""
        ends = time.monotonic() + TIMEOUT_S
        while remaining := [firing for firing in await self._firing() if firing.name in alerts]:
            assert time.monotonic() < ends, f"they go on: {remaining}"
            await asyncio.sleep(LOOK_S)

    async def silent(self) -> None:
        """Wait until nothing fires at all."""
        await self.ends(*{firing.name for firing in await self._firing()})

    async def _firing(self) -> list[Firing]:
        return await asyncio.to_thread(self._prometheus.firing)


def _check_wording(firing: Firing) -> None:
    for text in firing.annotations.values():
        assert "error expanding template" not in text
        assert "<no value>" not in text
    assert "  " not in firing.annotations["summary"]
    assert (ROOT / firing.annotations["runbook_url"]).is_file()


@asynccontextmanager
async def watching(folder: Path, jobs: Mapping[str, Sequence[str]]) -> AsyncIterator[Watch]:
    """A Prometheus that scrapes `jobs`, with all recording rules and alerts."""
    rules = {"recording.rules.yml": recording_rules(WINDOWS), "alerts.rules.yml": alert_rules(WINDOWS)}
    for name, text in rules.items():
        (folder / name).write_text(text)
    server = PrometheusServer(folder / "prometheus", jobs, [folder / name for name in rules])
    await asyncio.to_thread(server.__enter__)
    try:
        watch = Watch(server)
        await watch.seen(sum(map(len, jobs.values())))
        yield watch
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)


def at_port(settings: Settings, port: int, **changes: object) -> Settings:
    """The settings of one worker, whose pages are where Prometheus looks for them."""
    return settings.model_copy(update={"metrics_port": port, **changes})


def killed(*workers: WorkerProcess | None) -> None:
    """End those that still run."""
    for worker in workers:
        if worker is not None and worker.process.poll() is None:
            worker.kill()
