"""Every query of the dashboards, put to a real Prometheus: which of them finds nothing."""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from grafana.build import boards

TIMEOUT_S: Final = 30.0
# What Grafana would put in place of a variable: everything chosen, and a window of some scrapes.
CHOSEN: Final = {"__rate_interval": "1m"}
EVERYTHING: Final = ".+"


class PanelQuery(NamedTuple):
    """One target of one panel."""

    dashboard: str
    panel: str
    query: str


class Answer(NamedTuple):
    """A query as it was put to Prometheus, and how many series it returned."""

    dashboard: str
    panel: str
    query: str
    series: int


def panel_queries() -> list[PanelQuery]:
    """Every query of every panel, as it stands in the dashboards."""
    return [query for board in boards() for query in _queries(json.loads(board.as_json()))]


def _queries(board: dict[str, Any]) -> Iterator[PanelQuery]:
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield PanelQuery(board["title"], panel["title"], target["expr"])


def filled_in(query: str) -> str:
    """The query with Grafana's variables replaced, as with everything chosen."""
    return re.sub(r"\$(\w+)", lambda found: CHOSEN.get(found[1], EVERYTHING), query)


def series_of(prometheus: str, query: str) -> list[dict[str, Any]]:
    """The series that an instant query returns now. Raises OSError where Prometheus does not answer, or refuses the query."""
    address = f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:  # noqa: S310 - the caller's own Prometheus
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return found


def answers(prometheus: str, asked: Iterable[PanelQuery]) -> list[Answer]:
    """How many series each query returns now."""
    filled = [query._replace(query=filled_in(query.query)) for query in asked]
    return [Answer(*query, series=len(series_of(prometheus, query.query))) for query in filled]


def write(path: Path, found: Iterable[Answer]) -> None:
    """As a list of objects in JSON, one a query."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([answer._asdict() for answer in found], indent=2) + "\n")
