"""The console's routes: the page and its files, JSON for whoever asks, and the stream of what changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from streams.clients import Clients
from streams.console import content
from streams.console.content import ROWS_ASKED_MAX, ROWS_SENT, Machines
from streams.console.feed import Feed, TooManyReaders
from streams.console.files import Files
from streams.console.guard import add_headers, guard
from streams.console.owners import Books, Owners
from streams.metrics import Metrics
from streams.settings import console_password
from streams.view import SECTIONS

log = logging.getLogger(__name__)

STALLED_S = 60.0  # without taking a byte, a reader loses its place
FIRST_READ_S = 5.0  # that whoever asks waits for what was on the topics, where the watch has just begun
_NO_STORE: Final = {"Cache-Control": "no-store"}
_STREAM: Final = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Console:
    """Everything about it that a process needs: `add_to(app)`, which also ends it with the app."""

    def __init__(self, clients: Clients, machines: Sequence[Machines], books: Books, metrics: Metrics) -> None:
        settings = clients.settings
        self.feed = Feed(clients, machines)
        self._password = console_password(settings)
        self._owners = Owners(books, settings.ledger_partitions, self._password)
        self._files = Files()
        self._metrics = metrics

    def add_to(self, app: web.Application) -> None:
        """Put the console beside what the app serves already."""
        app.middlewares.append(guard(self._password))
        app.on_response_prepare.append(add_headers)
        app.on_shutdown.append(self._close)
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/static/{name}", self._file),
                web.get("/api/stream", self._stream),
                web.get("/api/overview", self._overview),
                web.get("/api/history", self._history),
                web.get("/api/workers", self._workers),
                web.get("/api/accounts", self._accounts),
                web.get("/api/accounts/{account}", self._account),
                web.get("/api/own/{account}", self._own),
                web.get("/api/{section}", self._section),
            ]
        )

    # ---- the page ---------------------------------------------------------------------------------------------------------------------

    async def _page(self, request: web.Request) -> web.Response:
        return await self._files.answer(request, "index.html")

    async def _file(self, request: web.Request) -> web.Response:
        return await self._files.answer(request, request.match_info["name"])

    # ---- JSON -------------------------------------------------------------------------------------------------------------------------

    async def _overview(self, _: web.Request) -> web.Response:
        return _json(await self.feed.overview(FIRST_READ_S))

    async def _history(self, _: web.Request) -> web.Response:
        return _json(content.encode(content.history(await self.feed.view(FIRST_READ_S))))

    async def _workers(self, _: web.Request) -> web.Response:
        view = await self.feed.view(FIRST_READ_S)
        return _json(content.encode(await self._owners.ready(view.pipeline())))

    async def _accounts(self, request: web.Request) -> web.Response:
        view, asked = await self.feed.view(FIRST_READ_S), request.query
        limit = _limit(asked.get("limit", str(ROWS_SENT)))
        return _json(content.encode(content.accounts(view, limit, asked.get("state", ""), asked.get("search", ""))))

    async def _account(self, request: web.Request) -> web.Response:
        view, name = await self.feed.view(FIRST_READ_S), request.match_info["account"]
        owner = view.owner("book", self._owners.partition(name))
        explained = await self._owners.explain(name, owner)
        return _json(content.encode({**content.account(view, name), "owner": owner, "report": explained.report, "why": explained.why}))

    async def _own(self, request: web.Request) -> web.Response:
        """What another worker asks; never passed on again."""
        return _json(content.encode(self._owners.own(request.match_info["account"])))

    async def _section(self, request: web.Request) -> web.Response:
        view, asked = await self.feed.view(FIRST_READ_S), request.match_info["section"]
        for section in SECTIONS:
            if section == asked:
                return _json(content.encode(content.SECTION_CONTENT[section](view)))
        raise web.HTTPNotFound

    # ---- the stream -------------------------------------------------------------------------------------------------------------------

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        try:
            reader = await self.feed.join()
        except TooManyReaders:
            self._metrics.console_refused.inc()
            raise web.HTTPServiceUnavailable(text="Too many are reading the stream already.\n", headers={"Retry-After": "30"}) from None
        response = web.StreamResponse(headers=_STREAM)
        self._metrics.console_clients.set(len(self.feed.readers))
        try:
            await response.prepare(request)
            async for events in reader.events():
                async with asyncio.timeout(STALLED_S):
                    await response.write(events)
        except (ConnectionError, TimeoutError):
            log.debug("a reader of the console's stream is gone")
        finally:
            self.feed.leave(reader)
            self._metrics.console_clients.set(len(self.feed.readers))
        return response

    async def _close(self, _: web.Application) -> None:
        await self.feed.close()
        await self._owners.close()


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers=_NO_STORE)


def _limit(text: str) -> int:
    """Raises 400 for what is no number of rows."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= ROWS_ASKED_MAX:
        raise web.HTTPBadRequest(text=f"limit must be a whole number from 1 to {ROWS_ASKED_MAX:,}.\n")
    return int(text)
