"""The kinds of panels that our dashboards are made of, so that all of them look and read alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as queries

SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "text"
STAT_HEIGHT, GRAPH_HEIGHT = 4, 8

Steps = tuple[tuple[float | None, str], ...]  # (from, colour), upwards, the first from None
Panel = stat.Panel | timeseries.Panel | statetimeline.Panel | table.Panel
Kind = TypeVar("Kind", stat.Panel, timeseries.Panel, statetimeline.Panel, table.Panel)

PLAIN: Final[Steps] = ((None, BLUE),)
NONE_IS_WELL: Final[Steps] = ((None, GREEN), (1.0, RED))


def rising(limit: float, worse: float | None = None) -> Steps:
    """Well below a limit, and a warning first where two are given."""
    return ((None, GREEN), (limit, RED)) if worse is None else ((None, GREEN), (limit, ORANGE), (worse, RED))


class Query(NamedTuple):
    """What is asked of Prometheus, and how each of its series is called."""

    expression: str
    legend: str


class About(NamedTuple):
    """What is said about a panel: its title, what it means and what to do, and the page of docs/runbooks that says more."""

    title: str
    text: str
    unit: str
    runbook: str = ""


class State(NamedTuple):
    """What a number stands for."""

    number: int
    text: str
    colour: str


STATE_COLOURS: Final = {"HEALTHY": "green", "WARNING": "yellow", "LIQUIDATABLE": "orange", "BANKRUPT": "red", "UNKNOWN": "purple"}
BREAKERS: Final = (State(0, "closed", GREEN), State(1, "recovering", ORANGE), State(2, "tripped", RED))


def number(about: About, query: Query, steps: Steps = PLAIN, *, states: Iterable[State] = (), width: int = 4) -> Panel:
    """One figure, coloured by what it means, with its recent past behind it."""
    panel = (
        _described(stat.Panel(), about)
        .height(STAT_HEIGHT)
        .span(width)
        .with_target(_target(query))
        .thresholds(_thresholds(steps))
        .color_mode(shapes.BigValueColorMode.BACKGROUND if steps != PLAIN else shapes.BigValueColorMode.VALUE)
        .graph_mode(shapes.BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("no data")
    )
    return panel.mappings(_mappings(states)) if states else panel


def graph(
    about: About,
    *asked: Query,
    steps: Steps = PLAIN,
    stacked: bool = False,
    colours: Mapping[str, str] = MappingProxyType({}),
    width: int = 12,
) -> Panel:
    """Lines over time; where `steps` has limits, each is drawn as a line. `colours` by legend, where they mean something."""
    panel = (
        _described(timeseries.Panel(), about)
        .height(GRAPH_HEIGHT)
        .span(width)
        .targets([_target(query, place) for place, query in enumerate(asked)])
        .thresholds(_thresholds(steps))
        .line_width(1)
        .fill_opacity(30 if stacked else 5)
        .show_points(shapes.VisibilityMode.NEVER)
        .axis_soft_min(0)
        .tooltip(common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI).sort(shapes.SortOrder.DESCENDING))
        .legend(
            common.VizLegendOptions()
            .display_mode(shapes.LegendDisplayMode.TABLE)
            .placement(shapes.LegendPlacement.RIGHT)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
    )
    for name, colour in colours.items():
        fixed = models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})
        panel = panel.override_by_name(name, [fixed])
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL))
    if len(steps) > 1:
        panel = panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(shapes.GraphThresholdsStyleMode.DASHED))
    return panel


def timeline(about: About, query: Query, states: Sequence[State], width: int = 12) -> Panel:
    """What state each thing was in, and when it changed."""
    return (
        _described(statetimeline.Panel(), about)
        .height(GRAPH_HEIGHT)
        .span(width)
        .with_target(_target(query))
        .mappings(_mappings(states))
        .thresholds(_thresholds(((None, GREY),)))
        .merge_values(True)
        .show_value(shapes.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions().display_mode(shapes.LegendDisplayMode.LIST).placement(shapes.LegendPlacement.BOTTOM).show_legend(True)
        )
    )


def listing(about: About, query: Query, hidden: Sequence[str], width: int = 12) -> Panel:
    """A table of what there is now, one row a series; `hidden` labels are left out."""
    target = _target(query).format(queries.PromQueryFormat.TABLE).instant()
    left_out = models.DataTransformerConfig(
        id_val="organize", options={"excludeByName": {"Time": True, **dict.fromkeys(hidden, True)}, "renameByName": {"Value": about.title}}
    )
    return (
        _described(table.Panel(), about)
        .height(GRAPH_HEIGHT)
        .span(width)
        .with_target(target)
        .with_transformation(left_out)
        .thresholds(_thresholds(PLAIN))
    )


def _described(panel: Kind, about: About) -> Kind:
    panel.title(about.title).description(about.text).unit(about.unit).datasource(SOURCE)
    if about.runbook:
        panel.links([dashboard.DashboardLink("What to do").url(f"${{runbooks}}/{about.runbook}.md").target_blank(True)])
    return panel


def _target(query: Query, place: int = 0) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(query.expression).legend_format(query.legend).ref_id(chr(ord("A") + place)).datasource(SOURCE)


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    thresholds = [models.Threshold(value=value, color=colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(thresholds)


def _mappings(states: Iterable[State]) -> list[models.ValueMapping]:
    results = {str(state.number): models.ValueMappingResult(text=state.text, color=state.colour) for state in states}
    return [models.ValueMap(options=results)]
