"""One watch for all who look: it begins with the first of them and ends when nobody has looked for a while.

What changed is encoded once, at most twice a second, and put before each reader, who finds the newest of each section whenever it comes for
more. A slow reader misses what was in between, and holds nothing up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence

from streams.clients import Clients
from streams.console import content
from streams.console.content import Machines
from streams.view import SECTIONS, Section, View
from streams.watch import Watch

log = logging.getLogger(__name__)

CLIENTS_MAX = 64  # who read the stream at the same time
PERIOD_S = 0.5
HEARTBEAT_S = 10.0  # a comment line, so that whoever stands in between keeps the connection
IDLE_S = 300.0
OVERVIEW = "overview"


class TooManyReaders(Exception):
    """CLIENTS_MAX are reading already."""


class Reader:
    """What one client has not seen yet: the newest of each section, so never more than there are sections."""

    def __init__(self) -> None:
        self._waiting: dict[str, bytes] = {}
        self._any = asyncio.Event()
        self._over = False

    def put(self, section: str, event: bytes) -> None:
        """Takes the place of what is still waiting of the same section."""
        self._waiting[section] = event
        self._any.set()

    def end(self) -> None:
        self._over = True
        self._any.set()

    async def events(self) -> AsyncIterator[bytes]:
        """What to send, with a comment now and then, until `end()`."""
        while True:
            try:
                await asyncio.wait_for(self._any.wait(), HEARTBEAT_S)
            except TimeoutError:
                yield b": still here\n\n"
                continue
            if self._over:
                return
            self._any.clear()
            waiting, self._waiting = self._waiting, {}
            yield b"".join(waiting.values())


class Feed:
    """The view, while somebody looks at it."""

    def __init__(self, clients: Clients, machines: Sequence[Machines], idle_s: float = IDLE_S) -> None:
        self.readers: set[Reader] = set()
        self._clients = clients
        self._machines = machines
        self._idle_s = idle_s
        self._watch: Watch | None = None
        self._task: asyncio.Task[None] | None = None
        self._asked_at = 0.0
        self._sent: dict[Section, int] = {}
        self._newest: dict[str, bytes] = {}

    async def view(self, wait_s: float = 0.0) -> View:
        """What is known; begins the watch where nobody has looked for a while, and waits up to `wait_s` until it has caught up."""
        return (await self._looked(wait_s)).view

    async def overview(self, wait_s: float) -> bytes:
        """The newest overview, as JSON."""
        return self._overview(await self._looked(wait_s))

    async def _looked(self, wait_s: float) -> Watch:
        self._asked_at = time.monotonic()
        if self._watch is None:
            log.info("somebody looks: reading the topics for the console")
            self._watch = Watch(self._clients)
            self._sent, self._newest = {}, {}
            await self._watch.start()
            self._task = asyncio.create_task(self._run(self._watch), name="console feed")
        watch, ends = self._watch, time.monotonic() + wait_s
        while watch.behind() != 0 and (left_s := ends - time.monotonic()) > 0:
            await watch.changed(min(left_s, PERIOD_S))
        return watch

    async def join(self) -> Reader:
        """A reader, to whom everything is new. Raises TooManyReaders. Call `leave` in the end."""
        if len(self.readers) >= CLIENTS_MAX:
            raise TooManyReaders
        await self.view()
        reader = Reader()
        for section, event in self._newest.items():
            reader.put(section, event)
        self.readers.add(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        self._asked_at = time.monotonic()
        self.readers.discard(reader)

    async def close(self) -> None:
        """Send everybody home."""
        for reader in self.readers:
            reader.end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._stop()

    async def _run(self, watch: Watch) -> None:
        try:
            while self.readers or time.monotonic() - self._asked_at < self._idle_s:
                await asyncio.gather(watch.changed(1.0), asyncio.sleep(PERIOD_S))
                if self.readers:
                    self._tell(watch)
            log.info("nobody has looked for %.0f s: the console stops reading", self._idle_s)
        except Exception:  # whatever it was: without an end here, everybody would look at a view that stands still
            log.exception("the console cannot go on reading; whoever looks next begins anew")
            for reader in self.readers:
                reader.end()
        finally:
            await self._stop()

    async def _stop(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            await watch.stop()

    def _tell(self, watch: Watch) -> None:
        """Encode what has changed since the last time, once, and put it before everybody."""
        changed: dict[str, bytes] = {OVERVIEW: _event(OVERVIEW, self._overview(watch))}
        for section in SECTIONS:
            version = watch.view.version(section)
            if self._sent.get(section) != version:
                self._sent[section] = version
                changed[section] = _event(section, content.encode(content.SECTION_CONTENT[section](watch.view)))
        self._newest |= changed
        for reader in self.readers:
            for name, event in changed.items():
                reader.put(name, event)

    def _overview(self, watch: Watch) -> bytes:
        return content.encode(content.overview(watch.view, self._machines, watch.problem, watch.behind()))


def _event(name: str, data: bytes) -> bytes:
    """JSON has no line breaks outside of strings, and in strings they are escaped: one line of data."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
