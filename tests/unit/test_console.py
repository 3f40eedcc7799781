"""What the console answers and to whom: passwords, hosts, headers, files, and a stream that no reader can hold up."""

from __future__ import annotations

import asyncio
import base64
import gzip
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from engine.inspection import explain_account
from engine.monitor import Book
from streams.clients import Clients
from streams.console import feed as feed_module
from streams.console.content import ROWS_ASKED_MAX, SILENT_MS, Machines, overview
from streams.console.feed import Feed, Reader, TooManyReaders
from streams.console.guard import HEADERS, is_an_address
from streams.console.owners import Owners, no_books
from streams.console.server import Console
from streams.messages import partition_of
from streams.metrics import Metrics
from streams.pages import health_routes
from streams.settings import Settings, load_settings
from streams.view import SECTIONS, View
from tests.patience import PATIENCE_S
from tests.small_world import Log
from tests.unit.test_view import health, letter, status, take

HOSTILE = "<img src=x onerror=alert(1)>"
PASSWORD = "correct horse: battery"
MACHINES = [Machines("book", 2)]


class FakeWatch:
    """A watch that reads nothing: what it shows is put into its view."""

    made: list[FakeWatch]

    def __init__(self, clients: Clients) -> None:
        self.view = View()
        self.problem = ""
        self.stopped = asyncio.Event()
        self.looks = 0
        self.looked = asyncio.Event()
        FakeWatch.made.append(self)
        take(self.view, health("alice", "WARNING", 12.0, 10.0), letter(7, detail=HOSTILE), status("book", 0))

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        self.stopped.set()

    async def changed(self, timeout_s: float) -> None:
        self.looks += 1
        self.looked.set()
        await asyncio.sleep(min(timeout_s, 0.01))

    def behind(self) -> int:
        return 0


class BrokenWatch(FakeWatch):
    """One whose reading ended by an error that nobody thought of."""

    async def changed(self, timeout_s: float) -> None:
        await super().changed(timeout_s)
        raise RuntimeError("nobody thought of this")


@pytest.fixture(autouse=True)
def _no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeWatch.made = []
    monkeypatch.setattr(feed_module, "Watch", FakeWatch)
    monkeypatch.setattr(feed_module, "PERIOD_S", 0.01)


@pytest.fixture
async def client_of() -> AsyncIterator[Callable[..., Any]]:
    """A client of a process with a console; `books` gives the process's own books."""
    clients: list[TestClient[Any, Any]] = []

    async def made(settings: Settings | None = None, books: Any = no_books, metrics: Metrics | None = None) -> TestClient[Any, Any]:
        metrics = metrics or Metrics()
        app = web.Application()
        app.add_routes(health_routes(metrics, list))
        Console(Clients(settings or load_settings(environment={}, ledger_partitions=2)), MACHINES, books, metrics).add_to(app)
        client: TestClient[Any, Any] = TestClient(TestServer(app))
        await client.start_server()
        clients.append(client)
        return client

    yield made
    for client in clients:
        await client.close()


@pytest.fixture
def with_password(tmp_path: Path) -> Settings:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    return load_settings(environment={}, listen="0.0.0.0", console_password_file=file)


def basic(text: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


# ---- who may look ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:9464", True),
        ("localhost:9464", True),
        ("LOCALHOST", True),
        ("[::1]:9464", True),
        ("10.1.2.3", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example:9464", False),
        ("localhost.evil.example", False),
        ("[evil.example]", False),
        ("", False),
    ],
)
def test_hosts_that_nobody_else_can_have_lead_here(host: str, allowed: bool) -> None:
    assert is_an_address(host) == allowed


async def test_without_a_password_a_name_of_somebody_elses_is_refused(client_of: Any) -> None:
    client = await client_of()
    for path in ("/", "/api/overview", "/static/console.js", "/api/stream"):
        assert (await client.get(path, headers={"Host": "evil.example"})).status == 403
    assert (await client.get("/api/overview")).status == 200
    for path in ("/live", "/ready", "/metrics"):
        assert (await client.get(path, headers={"Host": "prometheus.example"})).status == 200


async def test_with_a_password_everything_but_health_and_metrics_asks_for_it(client_of: Any, with_password: Settings) -> None:
    client = await client_of(with_password)
    wrong = [basic(text) for text in ("plimsoll:wrong", f"plimsoll:{PASSWORD}x", PASSWORD)]
    for given in ({}, *wrong, {"Authorization": "Basic !"}, {"Authorization": "Basic ü"}, {"Authorization": "Bearer x"}):
        answer = await client.get("/api/overview", headers=given)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    for user in ("plimsoll", "anybody"):
        answer = await client.get("/api/overview", headers={**basic(f"{user}:{PASSWORD}"), "Host": "console.example"})
        assert answer.status == 200
    for path in ("/live", "/ready", "/metrics"):
        assert (await client.get(path)).status == 200


@pytest.mark.parametrize(
    "path", ["/", "/api/overview", "/static/console.css", "/api/none", "/static/none", "/api/accounts?limit=x", "/live"]
)
async def test_every_answer_says_what_a_browser_may_do_with_it(client_of: Any, path: str) -> None:
    answer = await (await client_of()).get(path)
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    policy = HEADERS["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-eval" not in policy


async def test_nothing_can_be_changed(client_of: Any) -> None:
    client = await client_of()
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for path in ("/", "/api/overview", "/api/accounts/alice", "/api/stream"):
            assert (await client.request(method, path)).status == 405


# ---- files ----------------------------------------------------------------------------------------------------------------------------


async def test_files_are_packed_known_by_their_hash_and_none_other(client_of: Any) -> None:
    client = await client_of()
    page = await client.get("/")
    assert page.content_type == "text/html"
    assert "innerHTML" not in await page.text()
    plain = await client.get("/static/console.css", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    packed = await client.get("/static/console.css", headers={"Accept-Encoding": "gzip"}, auto_decompress=False)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(await packed.read()) == await plain.read()
    again = await client.get("/static/console.css", headers={"If-None-Match": plain.headers["ETag"]})
    assert (again.status, await again.read()) == (304, b"")
    chart = await client.get("/static/plotly.min.js", headers={"Accept-Encoding": "gzip"}, auto_decompress=False)
    assert (chart.status, chart.content_type) == (200, "text/javascript")
    assert "max-age" in chart.headers["Cache-Control"]
    for name in ("none.js", "..%2fserver.py", "%2fetc%2fpasswd"):
        assert (await client.get(f"/static/{name}")).status == 404


def test_no_script_makes_markup_out_of_data() -> None:
    for script in (Path(feed_module.__file__).parent / "static").glob("*.js"):
        for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert forbidden not in script.read_text(), f"{script.name}: {forbidden}"


# ---- JSON -----------------------------------------------------------------------------------------------------------------------------


async def test_json_of_each_section_and_of_what_was_asked_for(client_of: Any) -> None:
    client = await client_of()

    async def ask(path: str) -> Any:
        answer = await client.get(path)
        assert answer.status == 200, path
        assert answer.headers["Cache-Control"] == "no-store"
        return orjson.loads(await answer.read())

    for section in SECTIONS:
        assert await ask(f"/api/{section}")
    said = await ask("/api/overview")
    assert said["states"]["WARNING"] == 1
    assert said["modes"] == ["publish"]
    assert "book 1 has told nothing yet: does a worker own it?" in said["problems"]
    found = await ask("/api/accounts?search=ALI&state=WARNING&limit=5")
    assert [row["health"]["account"] for row in found["rows"]] == ["alice"]
    assert [row["distance"] for row in found["rows"]] == [pytest.approx(0.2)]
    assert (await ask("/api/accounts?search=bob"))["rows"] == []
    assert (await ask("/api/history"))["states"]["WARNING"] == [1]
    assert (await ask("/api/letters"))["newest"][0]["detail"] == HOSTILE
    for limit in ("0", "-1", "x", "1.5", "²", str(ROWS_ASKED_MAX + 1)):
        assert (await client.get("/api/accounts", params={"limit": limit})).status == 400


def test_silence_and_disagreement_are_problems_once_the_topics_have_been_read() -> None:
    view = View()
    take(view, status("book", 0), status("book", 1))
    assert overview(view, MACHINES, "", None)["problems"] == []
    assert overview(view, MACHINES, "the broker is away", 10)["problems"] == ["the broker is away"]
    silent = overview(view, MACHINES, "", 0)["problems"]
    assert len(silent) == 2
    assert all("of host:1 has told nothing for" in line for line in silent)
    assert SILENT_MS > 5_000, "a demo that is served ticks every five seconds"


# ---- one account ----------------------------------------------------------------------------------------------------------------------


async def test_an_account_is_explained_by_the_book_that_has_it_here_or_elsewhere(client_of: Any, with_password: Settings) -> None:
    book = Book(partition_of(b"alice", 2), 2)
    log = Log(book)
    log.open(partition=book.partition)
    log.deposit("alice", 1_000.0)
    log.trade("alice", "ex", "BTC-PERP", 10, 100_000)
    book.take_cut()
    report = orjson.loads(_json(explain_account(book, "alice")))
    settings = with_password.model_copy(update={"ledger_partitions": 2})
    owner = await client_of(settings, lambda partition: book if partition == book.partition else None)
    other = await client_of(settings)
    known = basic(f"x:{PASSWORD}")

    async def ask(client: Any, path: str) -> Any:
        answer = await client.get(path, headers=known)
        assert answer.status == 200
        return orjson.loads(await answer.read())

    mine = await ask(owner, "/api/accounts/alice")
    assert (mine["report"], mine["why"]) == (report, "")
    assert mine["health"]["account"] == "alice"
    nobody = await ask(other, "/api/accounts/alice")
    assert nobody["report"] is None
    assert "nobody has said yet" in nobody["why"] or "does not answer" in nobody["why"]

    place = status("book", book.partition)
    take(FakeWatch.made[-1].view, _at(place, str(owner.make_url("")).rstrip("/")))
    forwarded = await ask(other, "/api/accounts/alice")
    assert (forwarded["report"], forwarded["why"]) == (report, "")
    assert (await ask(other, "/api/own/alice"))["report"] is None, "what another worker asks is never passed on"
    assert "no such account" in (await ask(owner, "/api/accounts/" + _neighbour("alice")))["why"]

    take(FakeWatch.made[-1].view, _at(place, "http://127.0.0.1:9"))
    assert "does not answer" in (await ask(other, "/api/accounts/alice"))["why"]
    asked = await ask(other, "/api/workers")
    assert [(worker["ready"], "does not answer" in worker["said"]) for worker in asked if worker["pages"].endswith(":9")] == [(False, True)]


async def test_an_owner_that_does_not_know_the_password_is_named() -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=401)

    app = web.Application()
    app.add_routes([web.get("/api/own/alice", refuse)])
    async with TestServer(app) as server:
        owners = Owners(no_books, 2, None)
        explained = await owners.explain("alice", _at(status("book", 0), str(server.make_url("")).rstrip("/")))
        await owners.close()
    assert explained.report is None
    assert explained.why.endswith("answers with 401")


async def test_the_password_goes_to_nobody_who_only_says_whether_they_are_ready() -> None:
    asked: dict[str, str] = {}

    async def answer(request: web.Request) -> web.Response:
        asked[request.path] = request.headers.get("Authorization", "")
        return web.json_response({"report": None, "why": "asked"})

    app = web.Application()
    app.add_routes([web.get("/ready", answer), web.get("/api/own/alice", answer)])
    async with TestServer(app) as server:
        owners = Owners(no_books, 2, PASSWORD)
        place = _at(status("book", 0), str(server.make_url("")).rstrip("/"))
        assert [said.ready for said in await owners.ready([place])] == [True]
        assert (await owners.explain("alice", place)).why == "asked"
        await owners.close()
    assert asked == {"/ready": "", "/api/own/alice": basic(f"plimsoll:{PASSWORD}")["Authorization"]}


@pytest.mark.parametrize(
    ("differently", "why"),
    [
        ({"at_ms": int(time.time() * 1000) - SILENT_MS - 60_000}, "has told nothing for"),
        ({"owner": "elsewhere.example:17"}, "only reachable on its own machine: set `listen` there"),
    ],
)
async def test_an_owner_is_not_asked_where_somebody_else_may_answer(differently: dict[str, Any], why: str) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"report": None, "why": "asked"})

    app = web.Application()
    app.add_routes([web.get("/{any:.*}", answer)])
    async with TestServer(app) as server:
        owners = Owners(no_books, 2, PASSWORD)
        place = _at(status("book", 0), str(server.make_url("")).rstrip("/"), **differently)
        (ready,) = await owners.ready([place])
        explained = await owners.explain("alice", place)
        await owners.close()
    assert not ready.ready
    assert why in ready.said
    assert why in explained.why
    assert asked == []


async def test_an_owner_that_tells_of_one_of_its_partitions_is_asked_once() -> None:
    owners = Owners(no_books, 2, None)
    told = [
        _at(status("book", partition), "http://127.0.0.1:9", at_ms=at_ms) for partition, at_ms in ((0, 1), (1, int(time.time() * 1000)))
    ]
    (ready,) = await owners.ready(told)
    await owners.close()
    assert "does not answer" in ready.said


def _at(place: Any, pages: str, **differently: Any) -> Any:
    """The place as told just now by an owner on this machine whose pages are there."""
    now = {"pages": pages, "owner": f"{socket.gethostname()}:1", "at_ms": int(time.time() * 1000)}
    return type(place)(**{name: getattr(place, name) for name in place.__struct_fields__} | now | differently)


def _neighbour(account: str) -> str:
    """Another account of the same partition."""
    return next(name for k in range(100) if partition_of((name := f"{account}-{k}").encode(), 2) == partition_of(account.encode(), 2))


def _json(content: Any) -> bytes:
    from streams.console.content import encode

    return encode(content)


# ---- the stream -----------------------------------------------------------------------------------------------------------------------


async def read_events(answer: Any, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Reads events, the newest of each name, until they are enough."""
    found: dict[str, Any] = {}
    name = ""
    while not until(found):
        line = (await asyncio.wait_for(answer.content.readline(), PATIENCE_S)).decode().rstrip("\n")
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            found[name] = orjson.loads(line.removeprefix("data: "))
    return found


async def test_a_reader_gets_all_sections_then_what_changes(client_of: Any) -> None:
    client = await client_of()
    async with client.get("/api/stream") as answer:
        assert answer.content_type == "text/event-stream"
        found = await read_events(answer, lambda found: found.keys() >= {*SECTIONS, "overview"})
        assert found["letters"]["newest"][0]["detail"] == HOSTILE
        take(FakeWatch.made[0].view, health("alice", "LIQUIDATABLE", 2.0, 10.0, clock_s=9))
        found = await read_events(
            answer, lambda found: found.get("overview", {}).get("states", {}).get("LIQUIDATABLE") == 1 and "accounts" in found
        )
        assert found["accounts"]["rows"][0]["health"]["state"] == "LIQUIDATABLE"
        assert "marks" not in found, "only what has changed"


async def test_readers_have_a_bound_and_who_is_beyond_it_is_told_and_counted(client_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "CLIENTS_MAX", 2)
    metrics = Metrics()
    client = await client_of(metrics=metrics)

    def told(name: str) -> float | None:
        return metrics.registry.get_sample_value(name)

    async with client.get("/api/stream") as first, client.get("/api/stream"):
        await read_events(first, lambda found: "overview" in found)
        refused = await client.get("/api/stream")
        assert refused.status == 503
        assert "Retry-After" in refused.headers
        assert (told("plimsoll_console_clients"), told("plimsoll_console_refused_total")) == (2.0, 1.0)
        assert (await client.get("/api/overview")).status == 200, "who is refused the stream may still ask"


async def test_a_slow_reader_gets_the_newest_of_each_section_and_holds_nothing_up() -> None:
    slow, quick = Reader(), Reader()
    events = quick.events()
    for version in range(100):
        for reader in (slow, quick):
            reader.put("accounts", b"accounts %d" % version)
            reader.put("orders", b"orders %d" % version)
        assert await anext(events) == b"accounts %dorders %d" % (version, version)
    assert await anext(slow.events()) == b"accounts 99orders 99"
    quick.end()
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_a_stream_without_news_has_a_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "HEARTBEAT_S", 0.01)
    assert (await anext(Reader().events())).startswith(b": ")


async def test_the_watch_begins_with_the_first_who_looks_and_ends_a_while_after_the_last() -> None:
    feed = Feed(Clients(load_settings(environment={})), MACHINES, idle_s=0.0)
    assert FakeWatch.made == []
    reader = await feed.join()
    await feed.join()
    await feed.view()
    (watch,) = FakeWatch.made
    while watch.looks < 5:
        watch.looked.clear()
        await asyncio.wait_for(watch.looked.wait(), PATIENCE_S)
    assert not watch.stopped.is_set(), "somebody reads"
    for one in list(feed.readers):
        feed.leave(one)
    await asyncio.wait_for(watch.stopped.wait(), PATIENCE_S)
    assert await feed.view() is not watch.view
    assert len(FakeWatch.made) == 2
    await feed.close()
    assert FakeWatch.made[1].stopped.is_set()
    assert reader not in feed.readers


async def test_after_an_error_everybody_is_sent_home_and_the_next_view_begins_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feed_module, "Watch", BrokenWatch)
    feed = Feed(Clients(load_settings(environment={})), MACHINES)
    reader = await feed.join()
    events = reader.events()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(anext(events), PATIENCE_S)
    feed.leave(reader)
    (broken,) = FakeWatch.made
    await asyncio.wait_for(broken.stopped.wait(), PATIENCE_S)
    assert "nobody thought of this" in caplog.text
    monkeypatch.setattr(feed_module, "Watch", FakeWatch)
    assert await feed.view() is not broken.view
    assert await anext((await feed.join()).events())
    await feed.close()


async def test_whoever_joins_later_is_told_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "CLIENTS_MAX", 2)
    feed = Feed(Clients(load_settings(environment={})), MACHINES)
    first = await feed.join()
    await anext(first.events())
    later = await feed.join()
    told = await anext(later.events())
    assert all(b"event: %s\n" % section.encode() in told for section in SECTIONS)
    with pytest.raises(TooManyReaders):
        await feed.join()
    await feed.close()
