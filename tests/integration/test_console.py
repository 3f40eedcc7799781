"""The console in a real browser, beside a running demo: what it shows is what topics and books say, to eyes, keys and screen readers."""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect
from prometheus_client.parser import text_string_to_metric_families

from engine.effects import Health, LeverageReport
from engine.reasons import Refusal, State
from streams.broker import Cluster
from streams.clients import Clients, bounds, scan
from streams.messages import DeadLetter, encode_effect
from streams.settings import load_settings
from streams.shadow_check import What
from streams.watched_accounts import distance
from tests.browser import a_page, chromium, sideways, violations
from tests.live_demo import ACCOUNTS, NAMED, LiveDemo
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.slow

T = TypeVar("T")
U = TypeVar("U")

VIEWS = ["", "accounts", "marks", "haircuts", "orders", "breakers", "pipeline", "letters"]
LOOK_S = 0.2
LEDGER_PARTITIONS = 2
HOSTILE = "<img src=x onerror=\"document.title='taken'\">"


class Live(NamedTuple):
    """A demo that is served, and where."""

    clients: Clients
    pages: list[str]  # http://host:port of each worker

    def ask(self, path: str, worker: int = 0) -> Any:
        with urllib.request.urlopen(f"{self.pages[worker]}{path}", timeout=PATIENCE_S) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def live(kafka: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder: Path = tmp_path_factory.mktemp("console")
    with LiveDemo(kafka, folder) as demo:
        found = re.search(r"topics (demo-\S+\.)\*", (folder / "demo.log").read_text())
        assert found is not None
        settings = load_settings(environment={}, bootstrap=kafka.bootstrap, topic_prefix=found[1], ledger_partitions=LEDGER_PARTITIONS)
        yield Live(Clients(settings), [f"http://{address}" for address in demo.addresses])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def on_the_side(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Playwright has an event loop of its own in this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


def last_healths(live: Live) -> dict[str, Health]:
    """What `account.health` says of each account, by a consumer that knows nothing of the console."""

    async def read() -> dict[str, Health]:
        found: dict[str, Health] = {}
        partitions = [live.clients.partition("account.health", number) for number in range(LEDGER_PARTITIONS)]
        async with live.clients.reading(*partitions) as consumer:
            for partition in partitions:
                async for records in scan(consumer, partition, *await bounds(consumer, partition)):
                    for record in records:
                        health = msgspec.json.decode(record.value, type=Health)
                        found[health.account] = health
        return found

    return on_the_side(read)


def last_leverages(live: Live) -> dict[tuple[str, int], LeverageReport]:
    """What `risk.leverage` says, by asset and partition."""

    async def read() -> dict[tuple[str, int], LeverageReport]:
        found: dict[tuple[str, int], LeverageReport] = {}
        topic = live.clients.partition("risk.leverage", 0)
        async with live.clients.reading(topic) as consumer:
            async for records in scan(consumer, topic, *await bounds(consumer, topic)):
                for record in records:
                    report = msgspec.json.decode(record.value, type=LeverageReport)
                    found[report.asset, report.partition] = report
        return found

    return on_the_side(read)


def open_view(page: Page, live: Live, view: str, worker: int = 0) -> None:
    page.goto(f"{live.pages[worker]}/#/{view}")
    expect(page.locator("#stream")).to_have_attribute("data-state", "live")
    expect(page.locator("#clock")).to_contain_text("UTC")
    expect(page.locator("#problems")).to_be_empty()


def settled(read: Callable[[], T], shown: Callable[[], U], fits: Callable[[T, U], bool]) -> tuple[T, U]:
    """What is so, and what is shown of it, once they fit and nothing has moved meanwhile; as they are in the end, for the assertions to
    say how they differ. The demo stands still between two ticks."""
    ends = time.monotonic() + PATIENCE_S
    while True:
        so, seen = read(), shown()
        if (fits(so, seen) and read() == so) or time.monotonic() > ends:
            return so, seen
        time.sleep(LOOK_S)


def until(read: Callable[[], T], holds: Callable[[T], bool]) -> T:
    """What is read, once it is like that; as it is in the end, for the assertions."""
    ends = time.monotonic() + PATIENCE_S
    while not holds(found := read()) and time.monotonic() < ends:
        time.sleep(LOOK_S)
    return found


# ---- numbers --------------------------------------------------------------------------------------------------------------------------


def usd(value: float | None) -> str:
    """As the page writes money: whole dollars from a thousand on, cents below."""
    if value is None:
        return "–"
    rounded = Decimal(repr(value)).quantize(Decimal(1) if abs(value) >= 1000 else Decimal("0.01"), ROUND_HALF_UP)
    return f"{rounded or abs(rounded):,}".replace("-", "−")


def percent(fraction: float | None) -> str:
    if fraction is None:
        return "–"
    rounded = f"{Decimal(repr(fraction * 100)).quantize(Decimal('0.1'), ROUND_HALF_UP):,}".replace("-", "−")
    return f"{'+' if fraction > 0 else ''}{rounded}%"


def near(health: Health) -> str:
    """Of a healthy account, the venues that may liquidate a leg all the same."""
    legs = [leg for leg in health.legs if leg.verdict in ("near", "past")] if health.state == "HEALTHY" else []
    far = [
        ("past", leg)
        if leg.distance is None
        else (f"{percent(abs(leg.distance)).lstrip('+')} {'past' if leg.distance < 0 else 'from'}", leg)
        for leg in legs
    ]
    return ", ".join(f"{words} the line of {leg.venue}" for words, leg in far)


def row_of(health: Health) -> list[str]:
    """An account's row as it must be shown."""
    modes = health.requirement_usd or {}
    why = health.reason.replace("_", " ") if health.reason != "none" else near(health) if health.cause == "none" else f"by {health.cause}"
    return [
        health.account,
        health.state.lower(),
        percent(distance(health)),
        usd(health.equity_usd),
        usd(health.maintenance_usd),
        *(usd(modes.get(mode)) for mode in ("isolated", "protocol", "portfolio")),
        usd(health.initial_usd),
        why,
        str(health.orders_in_flight or ""),
        "frozen" if health.frozen else "",
    ]


def counted(healths: dict[str, Health]) -> dict[str, str]:
    """How many accounts are in each state, as it must be shown."""
    return {state: f"{sum(health.state == state for health in healths.values()):,}" for state in State.__members__}


def nearly_called(healths: dict[str, Health]) -> int:
    """How many accounts are healthy with a leg that its venue may liquidate all the same."""
    return sum(one.state == "HEALTHY" and any(leg.verdict in ("near", "past") for leg in one.legs) for one in healths.values())


def read_rows(page: Page, cell: str) -> list[list[str]]:
    """Of each row of the view's tables what `cell` says of each of its cells."""
    rows: list[list[str]] = page.evaluate(
        f"() => [...document.querySelectorAll('main tbody tr')].map(row => [...row.cells].map(cell => {cell}))"
    )
    return rows


def test_accounts_and_totals_are_those_of_account_health(live: Live, browser: Browser) -> None:
    with a_page(browser) as accounts, a_page(browser) as overview:
        open_view(accounts, live, "accounts")
        open_view(overview, live, "", worker=1)
        expect(accounts.locator("main tbody tr")).to_have_count(200)

        def shown() -> tuple[list[list[str]], list[list[str]], dict[str, str]]:
            rows, exact = read_rows(accounts, "cell.innerText.trim()"), read_rows(accounts, "cell.title || cell.innerText")
            return rows, exact, {state: overview.locator(f"[data-state={state}]").inner_text() for state in State.__members__}

        def fits(healths: dict[str, Health], shown: tuple[list[list[str]], list[list[str]], dict[str, str]]) -> bool:
            rows, _, totals = shown
            return all(row == row_of(healths[row[0]]) for row in rows) and totals == counted(healths)

        healths, (rows, exact, totals) = settled(lambda: last_healths(live), shown, fits)
    by_name = {row[0]: row for row in rows}
    assert len(healths) == ACCOUNTS + NAMED
    assert len(by_name) == 200
    assert {name: row_of(healths[name]) for name in by_name} == by_name
    for name, _, _, equity, maintenance, *_ in exact:
        for text, value in ((equity, healths[name].equity_usd), (maintenance, healths[name].maintenance_usd)):
            assert text == "not known" if value is None else float(text.removesuffix(" USD")) == value
    assert totals == counted(healths)
    worst = [name for name in by_name if healths[name].state == "LIQUIDATABLE"]
    assert worst == sorted(worst, key=lambda name: (distance(healths[name]) or 0.0, name))


def test_an_accounts_page_is_what_its_book_says_with_its_history(live: Live, browser: Browser) -> None:
    healths = last_healths(live)
    held = [one for one in healths.values() if one.equity_usd is not None and one.account.startswith("market_maker")]
    account = min(held, key=lambda one: (distance(one) or 0.0, one.account)).account
    path = f"/api/own/{quote(account)}"
    worker = next(k for k in range(len(live.pages)) if live.ask(path, k)["report"])

    with a_page(browser) as page:
        open_view(page, live, f"accounts/{account}")
        heading = page.locator("h1")
        expect(heading).to_have_text(account)
        expect(page.locator("#as-of")).to_contain_text("As of")

        def shown() -> dict[str, Any]:
            return {
                "as of": page.locator("#as-of").inner_text(),
                "state": page.locator("#account-state").inner_text(),
                "levels": page.locator("#levels dd").all_inner_texts(),
                "modes": page.locator("#modes [data-mode]").all_inner_texts(),
                "binding": page.locator("#binding").inner_text(),
                "leverage": page.locator("#leverage dd").all_inner_texts()[:2],
                "positions": page.get_by_role("region", name="Positions by chain and venue").locator("tbody tr").count(),
                "greeks": page.get_by_role("region", name="Greeks by underlying").locator("tbody tr th").all_inner_texts(),
            }

        report, seen = settled(
            lambda: live.ask(path, worker)["report"], shown, lambda report, seen: f"ledger {report['ledger']}," in seen["as of"]
        )
        expect(page.locator(".plot .main-svg").first).to_be_visible()
        assert "Equity against maintenance over" in (page.locator(".chart").get_attribute("aria-label") or "")
    assert f"ledger {report['ledger']}," in seen["as of"]
    assert seen["state"] == report["state"].lower()
    over = report["equity_usd"] - report["maintenance_usd"]
    names = (
        "equity_usd",
        "unhaircut_usd",
        "maintenance_usd",
        "",
        "liquidation_end_usd",
        "initial_usd",
        "equity_initial_usd",
        "close_cost_usd",
    )
    assert seen["levels"] == [f"{usd(report[name] if name else over)} USD" for name in names]
    assert seen["modes"] == [usd(value) for value in report["requirement_usd"].values()]
    assert seen["binding"] == report["binding"] != ""
    leverage = report["leverage"]
    assert seen["leverage"] == [f"{leverage[name]:.2f}×" for name in ("leverage", "net_leverage")]
    assert leverage["equity_usd"] == pytest.approx(report["unhaircut_usd"])
    assert seen["positions"] == len(report["positions"]) > 1
    assert seen["greeks"] == [one["asset"] for one in report["greeks"]["by_asset"]] != []
    assert sum(position["value_usd"] for position in report["positions"]) == pytest.approx(report["unhaircut_usd"])
    # Since the run began; how often it has been told by now depends on how many cuts there were.
    answer = until(lambda: live.ask(f"/api/accounts/{quote(account)}"), lambda answer: len(answer["history"]["times_ns"]) > 3)
    assert answer["history"]["states"][-1] == answer["health"]["state"]


def test_a_worker_asks_the_owner_of_an_account_that_it_does_not_own(live: Live) -> None:
    names = sorted(last_healths(live))[:20]
    owners = {name: [k for k in range(len(live.pages)) if live.ask(f"/api/own/{quote(name)}", k)["report"]] for name in names}
    assert all(len(found) == 1 for found in owners.values())
    account, (owner,) = next(iter(owners.items()))
    for worker in range(len(live.pages)):
        # A worker that is asked has two seconds for its answer.
        answer = until(lambda worker=worker: live.ask(f"/api/accounts/{quote(account)}", worker), lambda answer: answer["why"] == "")  # type: ignore[misc]
        assert (answer["report"]["account"], answer["why"]) == (account, "")
        assert answer["owner"]["pages"] == live.pages[owner]


def test_each_book_tells_its_leverage_by_asset(live: Live) -> None:
    assets = [row["asset"] for row in live.ask("/api/marks")["rows"]]
    expected = {(asset, partition) for asset in assets for partition in range(LEDGER_PARTITIONS)}

    def fits(found: dict[tuple[str, int], LeverageReport], expected: set[tuple[str, int]]) -> bool:
        return set(found) == expected and sum(report.held_usd for report in found.values()) > 0.0  # not the look at what was empty

    found, _ = settled(lambda: last_leverages(live), lambda: expected, fits)
    assert set(found) == expected
    assert sum(report.held_usd for report in found.values()) > 0.0
    assert max(report.cascade[-1].volume_usd for report in found.values()) > 0.0
    for report in found.values():
        assert report.began_ns <= report.clock_ns
        volumes = [point.volume_usd for point in report.cascade]
        assert volumes == sorted(volumes)


def checked(live: Live) -> tuple[set[str], dict[str, float]]:
    """Partitions of which accounts were valued a second time, and what differed, by name, with other faults of that check."""
    partitions, found = set[str](), dict[str, float]()
    for page in live.pages:
        with urllib.request.urlopen(f"{page}/metrics", timeout=PATIENCE_S) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        for sample in [sample for family in families for sample in family.samples]:
            if sample.name == "plimsoll_shadow_checks_total" and sample.value > 0:
                partitions.add(sample.labels["partition"])
            if sample.name == "plimsoll_shadow_differences_total":
                found[sample.labels["what"]] = found.get(sample.labels["what"], 0.0) + sample.value
            if sample.name == "plimsoll_look_failures_total":
                found[sample.labels["at"]] = found.get(sample.labels["at"], 0.0) + sample.value
    return partitions, found


def test_each_worker_values_accounts_a_second_time_and_finds_no_difference(live: Live) -> None:
    everywhere = {str(partition) for partition in range(LEDGER_PARTITIONS)}
    (partitions, found), _ = settled(lambda: checked(live), lambda: everywhere, lambda found, expected: found[0] == expected)
    assert partitions == everywhere
    assert set(What) <= found.keys()
    assert sum(found.values()) == 0.0


# ---- live -----------------------------------------------------------------------------------------------------------------------------


def test_what_changes_comes_by_itself_until_the_page_is_held(live: Live, browser: Browser) -> None:
    with a_page(browser) as page:
        open_view(page, live, "pipeline")
        clock = page.locator("#clock")
        first = clock.inner_text()
        expect(clock).not_to_have_text(first)
        row = page.get_by_role("region", name="Partitions").locator("tbody tr").first
        expect(row).to_contain_text("attestor 0")
        expect(page.get_by_role("region", name="Workers").locator("tbody tr")).to_have_count(len(live.pages))
        page.keyboard.press("p")
        expect(page.locator("#hold")).to_have_attribute("aria-pressed", "true")
        held, at = row.inner_text(), clock.inner_text()
        expect(clock).not_to_have_text(at)  # the clock goes on, so that nobody takes a held page for a live one
        assert row.inner_text() == held
        page.keyboard.press("p")
        expect(row).not_to_have_text(held)


def test_what_others_wrote_is_shown_as_they_wrote_it(live: Live, browser: Browser) -> None:
    async def send() -> None:
        letter = DeadLetter(reason=Refusal.BAD_JSON, detail=HOSTILE, topic="venue.fills", partition=0, offset=999, key=HOSTILE)
        topic, key, value = encode_effect(letter)
        producer = live.clients.outputs_producer()
        await producer.start()
        try:
            await producer.send_and_wait(live.clients.name(topic), value, key)
        finally:
            await producer.stop()

    on_the_side(send)
    with a_page(browser) as page:
        open_view(page, live, "letters")
        row = page.get_by_role("region", name="The newest refused records").locator("tbody tr", has_text="venue.fills/0/999")
        expect(row.locator("td").last).to_have_text(HOSTILE)
        assert page.locator("main img").count() == 0
        expect(page).to_have_title(re.compile("Refused"))


# ---- for everybody --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_and_no_page_scrolls_sideways(live: Live, browser: Browser, dark: bool, phone: bool) -> None:
    account = live.ask("/api/accounts?search=market_maker&limit=1")["rows"][0]["health"]["account"]
    with a_page(browser, dark=dark, phone=phone) as page:
        open_view(page, live, "")
        for view in [*VIEWS, f"accounts/{account}"]:
            page.evaluate("view => { location.hash = `#/${view}`; }", view)
            expect(page.locator(f"nav a[data-view='{view.partition('/')[0]}']")).to_have_attribute("aria-current", "page")
            expect(page.locator("main tbody tr").first).to_be_visible()
            if view == f"accounts/{account}":
                expect(page.locator("#as-of")).to_contain_text("As of")
            found = violations(page)
            assert found == [], f"#/{view}: {found[:3]}"
            assert sideways(page) == 0, f"#/{view}"
        page.locator("#help").click()
        assert violations(page) == []


def test_everything_can_be_done_by_keyboard(live: Live, browser: Browser) -> None:
    with a_page(browser) as page:
        open_view(page, live, "")
        press = page.keyboard.press
        press("Tab")
        expect(page.locator("#skip")).to_be_focused()
        press("Enter")
        expect(page.locator("main")).to_be_focused()
        press("p")  # held: no tick moves rows while keys go from one to the next
        expect(page.locator("#hold")).to_have_attribute("aria-pressed", "true")

        press("/")
        search = page.locator("#search")
        expect(search).to_be_focused()
        page.keyboard.type("market_maker")
        rows = page.locator("main tbody tr")
        expect(rows.first).to_contain_text("market_maker")
        expect(page.locator("main tbody tr", has_text="usde_looper")).to_have_count(0)
        press("ArrowDown")
        expect(rows.nth(0).locator("a")).to_be_focused()
        press("j")
        expect(rows.nth(1).locator("a")).to_be_focused()
        press("ArrowDown")
        expect(rows.nth(2).locator("a")).to_be_focused()
        press("k")
        press("ArrowUp")
        expect(rows.nth(0).locator("a")).to_be_focused()
        name = rows.nth(0).locator("a").inner_text()
        outline = rows.nth(0).locator("a").evaluate("link => getComputedStyle(link).outlineStyle")
        assert outline == "solid", "the focus can be seen"
        press("Enter")
        expect(page.locator("h1")).to_have_text(name)
        expect(page.locator("h1")).to_be_focused()
        press("Escape")
        expect(page.locator("main tbody tr a", has_text=name).first).to_be_focused()
        press("/")
        expect(search).to_be_focused()
        press("Escape")
        expect(search).to_have_value("")
        press("Escape")
        expect(search).not_to_be_focused()
        press("p")
        expect(page.locator("#hold")).to_have_attribute("aria-pressed", "false")

        for number, view in enumerate(VIEWS, start=1):
            press(str(number))
            expect(page.locator(f"nav a[data-view='{view}']")).to_have_attribute("aria-current", "page")
        press("?")
        dialog = page.get_by_role("dialog", name="Keys")
        expect(dialog).to_be_visible()
        press("Space")  # the first thing in it: single keys, on or off
        press("Escape")
        expect(dialog).not_to_be_visible()
        press("1")
        expect(page.locator("nav a[data-view=letters]")).to_have_attribute("aria-current", "page")


def test_the_theme_is_remembered(live: Live, browser: Browser) -> None:
    with a_page(browser, dark=True) as page:
        open_view(page, live, "")
        ground = "() => getComputedStyle(document.body).backgroundColor"
        dark = page.evaluate(ground)
        page.locator("#theme").click()
        expect(page.locator("#theme")).to_have_text("Theme: light")
        assert page.evaluate(ground) != dark
        page.reload()
        expect(page.locator("#theme")).to_have_text("Theme: light")
        assert page.evaluate(ground) != dark


def test_an_accounts_page_says_how_far_its_venues_are_from_liquidating_its_legs(live: Live, browser: Browser) -> None:
    healths = last_healths(live)
    account = min(name for name, one in healths.items() if one.legs)
    path = f"/api/own/{quote(account)}"
    worker = next(k for k in range(len(live.pages)) if live.ask(path, k)["report"])
    with a_page(browser) as page:
        open_view(page, live, f"accounts/{account}")
        expect(page.locator("#as-of")).to_contain_text("As of")
        legs = page.get_by_role("region", name="By the venues' own rules")

        def shown() -> tuple[str, list[str], list[str]]:
            return (
                page.locator("#as-of").inner_text(),
                page.locator("#local li").all_inner_texts(),
                legs.locator("tbody td").all_inner_texts(),
            )

        report, (_, lines, cells) = settled(
            lambda: live.ask(path, worker)["report"], shown, lambda report, seen: f"ledger {report['ledger']}," in seen[0]
        )
        open_view(page, live, "overview")
        expect(page.get_by_role("heading", name="Overview")).to_be_attached()  # the page before it has a list of that name
        near_now, near_shown = settled(
            lambda: str(nearly_called(last_healths(live))), lambda: page.locator("#local").inner_text(), lambda so, seen: so == seen
        )
    (leg,) = report["legs"]
    assert lines == report["local"]
    assert lines[0].startswith(f"whole portfolio {report['state'].lower()}, leg at venue {leg['venue']} ")
    assert (leg["venue"], leg["rule"]) == ("morpho", "aave_v3")
    assert cells[-1] == leg["verdict"]
    assert usd(leg["maintenance_usd"]) in cells
    assert near_shown == near_now
