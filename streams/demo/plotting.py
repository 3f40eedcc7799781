"""How the demo's report draws: its colours, its fonts, and what every figure has in common."""

from datetime import UTC, datetime
from typing import NamedTuple

import plotly.graph_objects as go

from engine.reasons import State
from streams.demo.facts import MINUTES, SECOND_NS, START_NS

# Colours that stay apart for most colour-blind readers too.
STATE_COLOURS = {
    State.HEALTHY: "#4c9f8b",
    State.WARNING: "#e6a532",
    State.LIQUIDATABLE: "#d1495b",
    State.BANKRUPT: "#5b2a4a",
    State.UNKNOWN: "#9aa5b1",
}
CAUSE_COLOURS = {
    "PRICE": "#d1495b",
    "FILL": "#e6a532",
    "FUNDING": "#7a9e3f",
    "HAIRCUT": "#2e86ab",
    "REGIME": "#7b5ea7",
    "CREDIT": "#4c9f8b",
}
LINE_COLOURS = ("#2e86ab", "#e6a532", "#7b5ea7", "#4c9f8b", "#b5651d", "#7a9e3f", "#c06c9a")
MARK_COLOUR = "#16232e"
INK, QUIET, GRID, ACCENT = "#16232e", "#5d6b78", "#e8ecef", "#d1495b"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
KIND_NAMES = {
    "usde_looper": "USDe loopers",
    "altcoin_pledger": "altcoin pledgers",
    "market_maker": "market makers",
    "option_seller": "option sellers",
    "cross_chain_hedger": "cross-chain hedgers",
}


class Plot(NamedTuple):
    """A figure with what it shows."""

    title: str
    text: str
    figure: go.Figure
    wide: bool = True


def new_figure(height: int, figure: go.Figure | None = None) -> go.Figure:
    """A figure of the demo's two hours, or the one given, in the report's dress."""
    figure = dressed(figure or go.Figure(), height)
    figure.update_layout(hoverlabel={"font": {"family": FONT, "size": 12}})
    figure.update_xaxes(tickformatstops=[{"dtickrange": [None, None], "value": "%H:%M"}])
    return figure


def dressed(figure: go.Figure, height: int) -> go.Figure:
    """What figures of all reports have in common."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 16, "t": 8, "b": 8},
        template="plotly_white",
        font={"family": FONT, "size": 12, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.01, "xanchor": "left", "x": 0, "font": {"size": 11}},
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, automargin=True)
    return figure


def span() -> list[datetime]:
    """The two hours, as the ends of an axis."""
    return [moment(START_NS), moment(START_NS + MINUTES * 60 * SECOND_NS)]


def moment(time_ns: int) -> datetime:
    """For an axis of time: plotly shows what it gets, so UTC without saying so."""
    return datetime.fromtimestamp(time_ns / 1e9, UTC).replace(tzinfo=None)


def clock(second: int) -> str:
    """The time of day, so many seconds after 20:30."""
    return f"{moment(START_NS + second * SECOND_NS):%H:%M}"
