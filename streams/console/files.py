"""The console's own files and plotly's script, as they are sent: known by a hash, packed where that is worth it."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from importlib import resources
from typing import Final, NamedTuple

from aiohttp import web

PLOTLY: Final = "plotly.min.js"
PACKED_FROM_BYTES: Final = 1_024
_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_REVALIDATE: Final = "no-cache"  # asked for each time, answered with 304
_A_DAY: Final = "private, max-age=86400"


class File(NamedTuple):
    """One file, whole and packed."""

    content_type: str
    etag: str
    content: bytes
    packed: bytes | None
    cache_control: str


class Files:
    """Read once, when first asked for; there are as many as the package has."""

    def __init__(self) -> None:
        self._folder = resources.files(__package__) / "static"
        self._names = {entry.name for entry in self._folder.iterdir()} | {PLOTLY}
        self._read: dict[str, File] = {}

    async def answer(self, request: web.Request, name: str) -> web.Response:
        """The file, or 304 where the browser has it, or 404."""
        if name not in self._names:
            raise web.HTTPNotFound
        file = self._read.get(name)
        if file is None:
            file = self._read[name] = await asyncio.to_thread(self._load, name)  # to pack plotly takes a third of a second
        headers = {"ETag": file.etag, "Cache-Control": file.cache_control, "Vary": "Accept-Encoding"}
        if file.etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        body = file.content
        if file.packed is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "gzip"
            body = file.packed
        return web.Response(body=body, content_type=file.content_type, charset="utf-8", headers=headers)

    def _load(self, name: str) -> File:
        source = resources.files("plotly") / "package_data" / PLOTLY if name == PLOTLY else self._folder / name
        content = source.read_bytes()
        return File(
            content_type=_TYPES[name.rpartition(".")[2]],
            etag=f'"{hashlib.sha256(content).hexdigest()[:32]}"',
            content=content,
            packed=gzip.compress(content, 6, mtime=0) if len(content) >= PACKED_FROM_BYTES else None,
            cache_control=_A_DAY if name == PLOTLY else _REVALIDATE,
        )
