"""A real Chromium without a window, that must not ask anybody but this machine, nor complain in its console."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from tests.fault.workers import ROOT
from tests.patience import PATIENCE_S

AXE = ROOT / ".tools" / "axe-core" / "axe.min.js"
ARGUMENTS = [
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
DESK, PHONE = ViewportSize(width=1440, height=900), ViewportSize(width=390, height=844)
TIMEOUT_MS = PATIENCE_S * 1_000

expect.set_options(timeout=TIMEOUT_MS)  # it does not go by the time-out of a context, and would wait five seconds


class Violation(NamedTuple):
    """One rule of axe's that a page breaks, and where."""

    rule: str
    where: str
    why: str


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser that `make tools` has found, or that is on the path."""
    found = shutil.which("chromium", path=str(ROOT / ".tools" / "bin")) or shutil.which("chromium")
    assert found, "chromium is missing: type `make tools`"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def a_page(browser: Browser, *, dark: bool = False, phone: bool = False) -> Iterator[Page]:
    """A page of its own. At the end: it asked this machine alone, and neither its console nor its scripts had an error."""
    context = browser.new_context(
        viewport=PHONE if phone else DESK,
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    context.set_default_timeout(TIMEOUT_MS)
    context.add_init_script(path=AXE)  # not by a tag: the console's policy would forbid it
    page = context.new_page()
    asked: set[str] = set()
    errors: list[str] = []
    context.on("request", lambda request: asked.update(filter(None, [urlsplit(request.url).hostname])))  # files have no host
    page.on("console", lambda message: errors.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        yield page
        assert asked <= {"127.0.0.1"}, "somebody else was asked"
        assert errors == []
    finally:
        context.close()


def violations(page: Page) -> list[Violation]:
    """What axe finds wrong with the page as it is."""
    found: dict[str, Any] = page.evaluate("rules => axe.run(document, { runOnly: rules, resultTypes: ['violations'] })", RULES)
    return [
        Violation(violation["id"], " ".join(map(str, node["target"])), node["failureSummary"])
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


def sideways(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    wider: int = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return max(0, wider)
