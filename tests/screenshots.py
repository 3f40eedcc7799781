"""`python -m tests.screenshots` takes the pictures that the documents show: of the console, with a demo that runs for it, and of the report
that the last `make demo` has left.

Event time stands where the demo's does; what differs between two takes is what the two runs decided at the same moment.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Final, NamedTuple

from playwright.sync_api import Browser, ViewportSize, expect

from streams.broker import cluster
from tests.browser import a_page, chromium
from tests.fault.workers import ROOT
from tests.live_demo import LiveDemo


class Picture(NamedTuple):
    """One view as it is taken; `search` names an account by any part of its name."""

    name: str
    view: str
    dark: bool = False
    phone: bool = False
    search: str = ""


PICTURES: Final = (
    Picture("console-overview", ""),
    Picture("console-overview-dark", "", dark=True),
    Picture("console-account-dark", "accounts", dark=True, search="market_maker"),
    Picture("console-marks", "marks"),
    Picture("console-haircuts", "haircuts"),
    Picture("console-breakers-dark", "breakers", dark=True),
    Picture("console-pipeline", "pipeline"),
    Picture("console-phone", "accounts", phone=True),
)


REPORT: Final = ViewportSize(width=1240, height=1690)


def take(browser: Browser, console: str, picture: Picture, path: Path) -> None:
    """One picture, once everything that it shows is there."""
    view = f"{picture.view}/{_account(console, picture.search)}" if picture.search else picture.view
    with a_page(browser, dark=picture.dark, phone=picture.phone) as page:
        page.goto(f"{console}/#/{view}")
        expect(page.locator("#clock")).to_contain_text("UTC")
        expect(page.locator("#problems")).to_be_empty()
        expect(page.locator("main tbody tr").first).to_be_visible()
        for chart in page.locator(".plot").all():
            expect(chart.locator(".main-svg").first).to_be_visible()
        page.screenshot(path=path, animations="disabled")


def take_report(browser: Browser, report: Path, path: Path) -> None:
    """The top of the demo's report."""
    with a_page(browser) as page:
        page.set_viewport_size(REPORT)
        page.goto(report.as_uri())
        for chart in page.locator(".plotly-graph-div").all():
            expect(chart.locator(".main-svg").first).to_be_visible()
        page.screenshot(path=path, animations="disabled")


def _account(console: str, search: str) -> str:
    with urllib.request.urlopen(f"{console}/api/accounts?search={search}&limit=1") as answer:
        name: str = json.load(answer)["rows"][0]["health"]["account"]
    return name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "img")
    parser.add_argument("--report", type=Path, default=ROOT / "out" / "demo" / "report.html", help="of a whole demo")
    options = parser.parse_args()
    out: Path = options.out
    if not options.report.exists():
        raise SystemExit(f"{options.report} is not there: type `make demo` first")
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster(Path(folder) / "kafka") as kafka,
        LiveDemo(kafka, Path(folder) / "demo", begin=0, end=76, accounts=2_000) as demo,
        chromium() as browser,
    ):
        for picture in PICTURES:
            path = out / f"{picture.name}.png"
            take(browser, f"http://{demo.addresses[0]}", picture, path)
            sys.stdout.write(f"{path}\n")
        take_report(browser, options.report, out / "demo.png")
        sys.stdout.write(f"{out / 'demo.png'}\n")


if __name__ == "__main__":
    main()
