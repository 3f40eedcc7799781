"""One page of HTML about a backtest, with plots, in the dress of the demo's report; it opens without a network."""

import html
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from engine.reasons import State
from streams.backtest.episodes import TITLES
from streams.backtest.extract import STARTS
from streams.backtest.play import GRID_MINUTES
from streams.backtest.report import AHEAD, Table, findings, tables
from streams.backtest.run import ALL, HORIZONS, SETS, EpisodeResult, Results
from streams.demo.plotting import ACCENT, dressed
from streams.demo.report import STYLE

FIGURE_HEIGHT = 300
COLOURS = {"adaptive": "#2e86ab", "static": "#e6a532"}


def page(results: Results) -> str:
    """The whole page."""
    sentences = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in findings(results))
    header = (
        "<header><h1>Does the model keep its promise?</h1><p class=lead>Accounts that never trade, through three stressed markets by the "
        "very engine that decides: what they lost over a day and an hour against what was required of them at its start. Prices are real, "
        "accounts are synthetic.</p></header>"
    )
    body = "\n".join(
        [
            header,
            f"<section class=checks><h3>What it says</h3><ul>{sentences}</ul></section>",
            "<div class=plots>",
            *_plots(results),
            "</div>",
            *(_table(table) for table in tables(results)),
            "<footer>docs/backtest.md says how it is computed, and what it cannot show. Nothing here is advice.</footer>",
        ]
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Plimsoll: backtest</title>\n<style>{STYLE} .wide, .checks {{ overflow-x: auto; margin-bottom: 16px; }}</style>\n"
        f"<script>{get_plotlyjs()}</script></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def _table(table: Table) -> str:
    heads = "".join(f"<th>{html.escape(head)}</th>" for head in table.heads)
    rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    text = html.escape(table.text.replace("*", ""))
    return (
        f"<section class=wide><h3>{html.escape(table.title)}</h3><p>{text}</p>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _plots(results: Results) -> Iterator[str]:
    figures = [_violations(results, horizon) for horizon in HORIZONS]
    for episode in results.episodes:
        figures += [_required(episode), _below(episode)]
    for number, (title, text, figure) in enumerate(figures):
        drawn = figure.to_html(
            full_html=False, include_plotlyjs=False, div_id=f"plot-{number}", config={"displayModeBar": False, "responsive": True}
        )
        yield f'<section class="plot half"><h3>{html.escape(title)}</h3><p>{html.escape(text)}</p>{drawn}</section>'


def _violations(results: Results, horizon: str) -> tuple[str, str, go.Figure]:
    figure = dressed(go.Figure(), FIGURE_HEIGHT)
    kinds = [*results.kinds, ALL]
    for chosen in SETS:
        shares = []
        for kind in kinds:
            counts = results.total(horizon, chosen, kind, "maintenance")
            shares.append(100.0 * counts.violations / counts.trials if counts is not None and counts.trials else None)
        figure.add_bar(x=[kind.replace("_", " ") for kind in kinds], y=shares, name=chosen, marker_color=COLOURS[chosen])
    figure.add_hline(y=100.0 * results.promised["maintenance"], line={"color": ACCENT, "width": 1.5, "dash": "dot"})
    figure.update_layout(barmode="group")
    figure.update_yaxes(title="% of trials")
    return (
        f"Maintenance violated, {AHEAD[horizon]}",
        "Windows that do not overlap, all episodes; the dotted line is what was promised.",
        figure,
    )


def _required(episode: EpisodeResult) -> tuple[str, str, go.Figure]:
    figure = dressed(go.Figure(), FIGURE_HEIGHT)
    for chosen in SETS:
        values = episode.runs["day", chosen].initial_usd
        figure.add_scatter(
            x=_times(episode, len(values)),
            y=[value / 1e6 for value in values],
            name=chosen,
            mode="lines",
            line={"color": COLOURS[chosen], "width": 1.5},
        )
    figure.update_yaxes(title="USD million", rangemode="tozero")
    return f"Required, {TITLES[episode.name]}", "Initial requirement and haircuts of all accounts.", figure


def _below(episode: EpisodeResult) -> tuple[str, str, go.Figure]:
    figure = dressed(go.Figure(), FIGURE_HEIGHT)
    for chosen in SETS:
        states = episode.runs["day", chosen].states
        for state, dash in ((State.WARNING, "dot"), (State.LIQUIDATABLE, "solid")):
            figure.add_scatter(
                x=_times(episode, len(states)),
                y=[row[state] + (row[State.BANKRUPT] if state is State.LIQUIDATABLE else 0) for row in states],
                name=f"{chosen}: {state.name.lower()}",
                mode="lines",
                line={"color": COLOURS[chosen], "width": 1.5, "dash": dash},
            )
    figure.update_yaxes(title="accounts", rangemode="tozero")
    return f"Called and fallen, {TITLES[episode.name]}", "Accounts in each state; nobody trades, so who has fallen may rise again.", figure


def _times(episode: EpisodeResult, count: int) -> list[datetime]:
    start = STARTS[episode.name].astimezone(UTC).replace(tzinfo=None)  # plotly shows what it gets: UTC
    return [start + timedelta(minutes=GRID_MINUTES * k) for k in range(count)]
