"""The rules of Grafana's dashboard-linter, held against our dashboards; and the linter itself, where it is installed.

It cannot be had from the registries that this project uses, so the rules that concern us are written here once more, some of them stricter.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from grafana.build import PROJECT, boards
from grafana.panels import SOURCE

DASHBOARDS = {board.name: json.loads(board.as_json()) for board in boards()}
UNITS = {"none", "short", "s", "percentunit", "currencyUSD", "ops", "wps", "bytes"}  # of Grafana's, those that we use
CHOSEN = '{job=~"$job", instance=~"$instance"'
SERIES = re.compile(r'(?<![\w:"])((?:plimsoll_|instance_)[\w:]+|up\b)(\{[^}]*\})?')

every_dashboard = pytest.mark.parametrize("board", DASHBOARDS.values(), ids=DASHBOARDS.keys())


def panels_of(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries_of(board: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in panels_of(board) for target in panel["targets"]]


@every_dashboard
def test_template_datasource_rule(board: dict[str, Any]) -> None:
    sources = [variable for variable in board["templating"]["list"] if variable["type"] == "datasource"]
    assert [(source["name"], source["label"], source["query"]) for source in sources] == [("datasource", "Data source", "prometheus")]


@every_dashboard
def test_template_rules(board: dict[str, Any]) -> None:
    """template-job-rule, template-instance-rule, template-label-promql-rule, template-on-time-change-reload-rule."""
    choices = {variable["name"]: variable for variable in board["templating"]["list"] if variable["type"] == "query"}
    assert {"job", "instance"} <= choices.keys()
    for name, choice in choices.items():
        assert choice["datasource"] == SOURCE.to_json()
        assert choice["label"] == name.title()
        assert choice["multi"]
        assert choice["includeAll"]
        assert choice["allValue"] == ".+"
        assert choice["refresh"] == 2, "on a change of the time range"
        assert re.fullmatch(rf"label_values\(plimsoll_\w+({{job=~\"\$job\"}})?, {name}\)", choice["query"])


@every_dashboard
def test_uneditable_dashboard_rule(board: dict[str, Any]) -> None:
    assert board["editable"] is False


@every_dashboard
def test_panel_rules(board: dict[str, Any]) -> None:
    """panel-datasource-rule, panel-title-description-rule, panel-units-rule, panel-no-targets-rule."""
    panels = panels_of(board)
    assert len({panel["title"] for panel in panels}) == len(panels) > 10
    for panel in panels:
        assert panel["datasource"] == SOURCE.to_json()
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["targets"], panel["title"]
        assert all(target["datasource"] == SOURCE.to_json() for target in panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert all(target["legendFormat"] for target in panel["targets"]) or panel["type"] == "table", panel["title"]


@every_dashboard
def test_target_job_and_instance_rules(board: dict[str, Any]) -> None:
    for query in queries_of(board):
        found = SERIES.findall(re.sub(r"(by|on) \([^)]*\)", "", query))
        assert found, query
        assert all(matchers.startswith(CHOSEN) for _, matchers in found), query


@every_dashboard
def test_target_rate_interval_rule(board: dict[str, Any]) -> None:
    for query in queries_of(board):
        assert set(re.findall(r"\[([^\]]+)\]", query)) <= {"$__rate_interval"}, query


@every_dashboard
def test_target_counter_agg_rule(board: dict[str, Any]) -> None:
    """Every counter is asked for its rate or its increase; those that are recorded are increases already."""
    for query in queries_of(board):
        for counter in re.finditer(r"\w+_total\b", query):
            assert re.search(r"(rate|increase)\($", query[: counter.start()]), query


@every_dashboard
def test_panels_stand_beside_each_other(board: dict[str, Any]) -> None:
    """Within 24 columns, none over another."""
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_dashboard_linter() -> None:
    linter = shutil.which("dashboard-linter")
    if linter is None:
        pytest.skip("dashboard-linter is not installed: its rules are held by the other tests of this module")
    for path in sorted(Path(PROJECT / "grafana" / "dashboards").glob("*.json")):
        done = subprocess.run([linter, "lint", "--strict", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
