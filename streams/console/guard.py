"""Who may see the console: whoever has the password, where there is one; else whoever asks by this machine's address.

Without a password a page of somebody else's could have its own name lead to 127.0.0.1 and read the console through a visitor's browser (DNS
rebinding). The browser then sends that name as `Host`, and is refused.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
from collections.abc import Mapping
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

USER: Final = "plimsoll"  # what we send; any name is taken
OPEN_PATHS: Final = frozenset({"/live", "/ready", "/metrics"})
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"  # plotly styles its charts in place
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def guard(password: str | None) -> Middleware:
    """A middleware that lets through who may see the console, and anybody to the pages that machines ask for."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in OPEN_PATHS:
            return await handler(request)
        if password is not None and not _knows(request.headers.get("Authorization", ""), password):
            return web.Response(
                status=401, text="The console has a password.\n", headers={"WWW-Authenticate": 'Basic realm="Plimsoll", charset="UTF-8"'}
            )
        if password is None and not is_an_address(request.headers.get("Host", "")):
            return web.Response(
                status=403, text="Ask by an address (http://127.0.0.1:...), or give the console a password: console_password_file.\n"
            )
        return await handler(request)

    return guarded


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """What a browser is told about every page, before its first byte; a signal handler of aiohttp's."""
    for name, value in HEADERS.items():
        response.headers[name] = value


def authorization(password: str | None) -> dict[str, str]:
    """The header by which one worker asks another, whose password is the same."""
    if password is None:
        return {}
    token = base64.b64encode(f"{USER}:{password}".encode()).decode()
    return {"Authorization": f"Basic {token}"}


def is_an_address(host: str) -> bool:
    """Whether a `Host` header names an address or localhost: names that nobody else can have lead here."""
    name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _knows(header: str, password: str) -> bool:
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        given = base64.b64decode(token, validate=True)
    except ValueError:  # what is no base64, or not even ASCII
        return False
    return hmac.compare_digest(given.partition(b":")[2], password.encode())
