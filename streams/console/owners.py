"""Asks the book that has an account what it knows of it: ours, where this worker owns it, else the one of the worker that does."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
from msgspec import Struct

from engine.inspection import AccountReport, explain_account
from engine.monitor import Book
from streams.console.content import SILENT_MS
from streams.console.guard import authorization
from streams.messages import PartitionStatus, partition_of

ANSWER_S = 2.0  # that another worker gets
ANSWER_BYTES_MAX = 1_000_000
CHUNK_BYTES = 65_536

Books = Callable[[int], Book | None]


class Explained(Struct, frozen=True):
    """The owner's report, or in words why there is none."""

    report: AccountReport | None
    why: str


class Asked(Struct, frozen=True):
    """What a worker's /ready says."""

    owner: str
    pages: str
    ready: bool
    said: str


def no_books(_: int) -> None:
    """Of a process that owns nothing."""
    return


class Owners:
    """`books(partition)` is this worker's own book of a partition, where it has one that is running."""

    def __init__(self, books: Books, partitions: int, password: str | None) -> None:
        self._books = books
        self._partitions = partitions
        self._headers = authorization(password)
        self._session: aiohttp.ClientSession | None = None

    def partition(self, account: str) -> int:
        """Where the account's events are."""
        return partition_of(account.encode(), self._partitions)

    def own(self, account: str) -> Explained:
        """From a book of this worker's; on the event loop, so between two frames."""
        partition = self.partition(account)
        book = self._books(partition)
        if book is None:
            return Explained(None, f"this worker does not own partition {partition} of the books")
        report = explain_account(book, account)
        return Explained(report, "" if report is not None else f"partition {partition} of the books has no such account")

    async def explain(self, account: str, owner: PartitionStatus | None) -> Explained:
        """From whoever owns it; `owner` is what the pipeline says about the account's partition."""
        partition = self.partition(account)
        if self._books(partition) is not None:
            return self.own(account)
        if owner is None:
            return Explained(None, f"nobody has said yet that they own partition {partition} of the books")
        where = f"the worker that owns partition {partition} of the books ({owner.owner} at {owner.pages or 'no address'})"
        if why := why_not_asked(owner, time.time() * 1000):
            return Explained(None, f"{where} {why}")
        try:
            status, body = await self._get(owner.pages, f"/api/own/{quote(account, safe='')}", self._headers)
            if status != HTTPStatus.OK:
                return Explained(None, f"{where} answers with {status}")
            answer = _ANSWER.decode(body)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return Explained(None, f"{where} does not answer: {str(error) or 'it takes too long'}")
        return Explained(answer.report, answer.why)

    async def ready(self, pipeline: Iterable[PartitionStatus]) -> list[Asked]:
        """What /ready says at each worker that owns something."""
        newest: dict[tuple[str, str], PartitionStatus] = {}
        for status in sorted(pipeline, key=lambda status: status.at_ms):
            newest[status.owner, status.pages] = status
        return list(await asyncio.gather(*(self._ask_ready(newest[owner]) for owner in sorted(newest))))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _ask_ready(self, told: PartitionStatus) -> Asked:
        owner, pages = told.owner, told.pages
        if why := why_not_asked(told, time.time() * 1000):
            return Asked(owner, pages, ready=False, said=why)
        try:
            status, body = await self._get(pages, "/ready", {})
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return Asked(owner, pages, ready=False, said=f"does not answer: {str(error) or 'it takes too long'}")
        return Asked(owner, pages, status == HTTPStatus.OK, body.decode(errors="replace").strip())

    async def _get(self, pages: str, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S))
        async with self._session.get(f"{pages}{path}", headers=headers, allow_redirects=False) as answer:
            body = b""
            async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                body += chunk
                if len(body) > ANSWER_BYTES_MAX:
                    raise ValueError("it answers with more than ANSWER_BYTES_MAX")
            return answer.status, body


def why_not_asked(told: PartitionStatus, now_ms: float) -> str:
    """In words, why the owner is not to be asked at its address; '' where it may be.

    Somebody else may be there by now where it has been silent, and is where a loopback address of another machine's leads us: neither
    gets our password, and what they would answer is not the owner's word.
    """
    silent_ms = now_ms - told.at_ms
    if silent_ms > SILENT_MS:
        return f"has told nothing for {silent_ms / 1000:,.0f} s"
    if _is_loopback(told.pages) and told.owner.rpartition(":")[0] != socket.gethostname():
        return "has pages that are only reachable on its own machine: set `listen` there"
    return ""


def _is_loopback(pages: str) -> bool:
    try:
        host = urlsplit(pages).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a name, or no address at all
        return False


_ANSWER = msgspec.json.Decoder(Explained)
