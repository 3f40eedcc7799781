"""What all our dashboards share: variables, links to each other, and how rows of panels are put together."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Final, NamedTuple

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from grafana.alerts import RUNBOOKS
from grafana.panels import SOURCE, Panel

TAG: Final = "plimsoll"
EVERYTHING: Final = models.VariableOption(selected=True, text="All", value="$__all")


class Row(NamedTuple):
    """Panels under one heading."""

    title: str
    panels: list[Panel]


class Choice(NamedTuple):
    """A label whose values can be chosen on a dashboard, as those of one metric."""

    label: str
    metric: str


class Board(NamedTuple):
    """One dashboard: `name` is its file's and the end of its address."""

    name: str
    title: str
    description: str
    rows: list[Row]
    chosen: tuple[Choice, ...] = ()  # beside job and instance

    def as_json(self, runbooks: str = RUNBOOKS) -> str:
        """As Grafana reads it; `runbooks` is where the pages of docs/runbooks can be read."""
        return json.dumps(self._built(runbooks), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"

    def _built(self, runbooks: str) -> models.Dashboard:
        board = (
            dashboard.Dashboard(self.title)
            .uid(f"{TAG}-{self.name}")
            .description(self.description)
            .tags([TAG])
            .readonly()
            .time("now-3h", "now")
            .timezone("browser")
            .refresh("30s")
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .link(
                dashboard.DashboardLink("Plimsoll").type(models.DashboardLinkType.DASHBOARDS).tags([TAG]).include_vars(True).keep_time(True)
            )
            .variables([*_variables(self.chosen), dashboard.ConstantVariable("runbooks").label("Runbooks").value(runbooks)])
        )
        numbers = itertools.count(1)
        for row in self.rows:
            board.with_row(dashboard.Row(row.title).id(next(numbers)))
            for panel in row.panels:
                board.with_panel(panel.id(next(numbers)))
        return board.build()


def _variables(chosen: Iterable[Choice]) -> list[Builder[models.VariableModel]]:
    source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    job = _variable("job", "plimsoll_build_info")
    instance = _variable("instance", 'plimsoll_build_info{job=~"$job"}')
    return [source, job, instance, *(_variable(choice.label, f'{choice.metric}{{job=~"$job"}}') for choice in chosen)]


def _variable(label: str, series: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(label)
        .label(label.title())
        .query(f"label_values({series}, {label})")
        .datasource(SOURCE)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(EVERYTHING)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )
