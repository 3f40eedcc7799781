"""One page of HTML about the runs, with plots; plotly's script stands in the page, so it opens without a network."""

import html
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from engine.inputs import OraclePrice
from engine.reasons import State
from engine.venue_legs import VENUE_CAUSE
from streams.broker import Cluster
from streams.demo.definitions import CHAINS, VENUES
from streams.demo.facts import MINUTES, SECOND_NS, START_NS
from streams.demo.plotting import (
    ACCENT,
    CAUSE_COLOURS,
    FONT,
    INK,
    KIND_NAMES,
    LINE_COLOURS,
    MARK_COLOUR,
    QUIET,
    STATE_COLOURS,
    Plot,
    moment,
    new_figure,
    span,
)
from streams.demo.population import KINDS, kind_of
from streams.demo.risk_plots import risk_plots
from streams.demo.summary import STORY, Run, counted, iso, synthetic_counts
from streams.demo.timeline import SLOW_FROM_S, SLOW_UNTIL_S, Scenario, timeline


def page(cluster: Cluster, runs: Sequence[Run], minutes: int = MINUTES) -> str:
    """The whole page."""
    plots = [
        *_oracle_plots(runs),
        *_price_plots(runs, minutes),
        *_state_plots(runs),
        *_order_plots(runs),
        *_breaker_plots(runs),
        *risk_plots(runs),
    ]
    body = "\n".join(
        [
            _header(cluster, runs),
            _cards(runs),
            *_sections(plots),
            _checks(runs),
            _footer(),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Plimsoll: the crash of 10 October 2025</title>\n<style>{STYLE}</style>\n"
        f"<script>{get_plotlyjs()}</script></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


# ---- the page's parts -------------------------------------------------------------------------------------------------------------------


def _header(cluster: Cluster, runs: Sequence[Run]) -> str:
    events = sum(sum(run.recording.events_in.values()) for run in runs)
    broker = html.escape(f"Apache Kafka {cluster.version}" if cluster.kind == "local" else "Kafka")
    return (
        "<header><h1>The crash of 10 October 2025</h1>"
        f"<p class=lead>Two hours of real prices, 20:30 to 22:30 UTC, went through {broker} and the monitor "
        f"{'twice' if len(runs) > 1 else 'once'}: {events:,} messages in, {runs[0].accounts:,} accounts on "
        f"{len(VENUES)} venues and {len(CHAINS)} chains. "
        "Sources made from others are called <em>synthetic</em> wherever they appear.</p></header>"
    )


def _cards(runs: Sequence[Run]) -> str:
    blocks = []
    for run in runs:
        loopers = len(run.liquidated("usde_looper"))
        figures = [
            (f"{loopers:,}", "USDe loopers liquidated", loopers > 0),
            (f"{len(run.fallen.single_venue):,}", "... had the oracle been Binance alone", False),
            (f"{len(run.recording.orders):,}", "liquidation orders", False),
            (f"{len({order['account'] for order in run.orders()}):,}", "accounts with an order", False),
            (f"{_tripped(run):,}", "breakers tripped", False),
        ]
        cells = "".join(
            f'<div class="figure{" hot" if hot else ""}"><b>{value}</b><span>{name}</span></div>' for value, name, hot in figures
        )
        blocks.append(
            f"<section class=run><h2><i>{run.scenario}</i> {html.escape(STORY[run.scenario])}</h2>"
            f"<div class=figures>{cells}</div></section>"
        )
    return f"<div class=runs>{''.join(blocks)}</div>"


def _sections(plots: Iterable[Plot]) -> list[str]:
    parts = []
    for number, plot in enumerate(plots):
        drawn = plot.figure.to_html(
            full_html=False, include_plotlyjs=False, div_id=f"plot-{number}", config={"displayModeBar": False, "responsive": True}
        )
        parts.append(
            f'<section class="plot{"" if plot.wide else " half"}"><h3>{html.escape(plot.title)}</h3>'
            f"<p>{html.escape(plot.text)}</p>{drawn}</section>"
        )
    return ["<div class=plots>", *parts, "</div>"]


def _checks(runs: Sequence[Run]) -> str:
    """What was proven about each run, and what was refused."""
    rows = [
        ("Orders computed again offline from the ledgers", [f"{run.replay.orders:,}" for run in runs]),
        ("... that differ from those published", [f"{len(run.replay.differences):,}" for run in runs]),
        ("Order records published", [f"{run.recording.orders_published:,}" for run in runs]),
        ("Orders with two contents", [f"{len(run.recording.conflicting):,}" for run in runs]),
        ("Frames in the logs", [f"{run.recording.frames:,}" for run in runs]),
        ("Cuts committed", [f"{run.recording.cuts:,}" for run in runs]),
        ("Margin calls", [f"{run.recording.margin_calls.total():,}" for run in runs]),
        ("... of them near a venue's own liquidation", [f"{run.recording.margin_calls[VENUE_CAUSE]:,}" for run in runs]),
        ("Synthetic price sources, of all of an asset", [synthetic_counts(run) for run in runs]),
        ("Messages refused, by reason", [_listed(counted(run.recording.letters.values())) for run in runs]),
        ("Decisions, by outcome", [_listed(counted(run.recording.outcomes.elements())) for run in runs]),
        ("Wall time for two hours", [f"{run.wall_s:.0f} s" for run in runs]),
    ]
    heads = "".join(f"<th>Run {run.scenario}</th>" for run in runs)
    lines = "".join(
        f"<tr><th scope=row>{html.escape(name)}</th>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"
        for name, cells in rows
    )
    return (
        "<section class=checks><h3>What was checked</h3><p>Each run's ledgers were read back and every order computed a second time, "
        f"by the engine alone, without a broker.</p><table><thead><tr><td></td>{heads}</tr></thead><tbody>{lines}</tbody></table></section>"
    )


def _footer() -> str:
    return (
        "<footer>Prices, implied volatility, depth, spread and funding: see <code>docs/demo.md</code> for each asset's sources and what "
        "is synthetic. Heartbeats, attestations and accounts are synthetic. Nothing here is advice.</footer>"
    )


# ---- plots ------------------------------------------------------------------------------------------------------------------------------


def _oracle_plots(runs: Sequence[Run]) -> list[Plot]:
    loopers = sum(account.split("-")[0] == "usde_looper" or account.endswith("usde_looper") for account in runs[0].recording.health)
    figure = new_figure(210)
    names = [f"run {run.scenario}" for run in runs]
    for label, colour, values in (
        ("an oracle of Binance alone", QUIET, [len(run.fallen.single_venue) for run in runs]),
        ("this monitor: the median of three sources, two of them synthetic", ACCENT, [len(run.liquidated("usde_looper")) for run in runs]),
    ):
        figure.add_bar(
            y=names, x=values, name=label, orientation="h", marker_color=colour, text=[f"{v:,}" for v in values], textposition="outside"
        )
    figure.update_layout(barmode="group", bargap=0.3, yaxis={"autorange": "reversed"}, legend={"traceorder": "normal"})
    figure.update_xaxes(title=f"loopers of {loopers:,}", range=[0, max(loopers * 1.08, 1)])
    text = (
        "USDe/USDT on Binance fell to 0.65 while the on-chain pool stayed within 0.994 and 1.000. One venue's print is an outlier; "
        "only when every source falls is it a depeg. The two other sources are synthetic: in A within what the pool did, in B with Binance."
    )
    return [Plot("Who would have been liquidated", text, figure)]


def _price_plots(runs: Sequence[Run], minutes: int) -> list[Plot]:
    plots = []
    first = runs[0]
    notes = {
        "BTC": "Four real sources. The mark is their weighted median; a gap is a mark that was unknown.",
        "ETH": "Six real sources; Uniswap and the lending oracle ran far behind each other. Binance spot spiked to 4,380 in a thin book.",
        "SOL": "Two real sources; two synthetic ones, made from the Binance perpetual, stand in so that three agree.",
    }
    for asset, note in notes.items():
        plots.append(Plot(f"{asset}, USD by source", note, _price_figure(first, asset, minutes), wide=True))
    for run in runs:
        held = "hold" if run.scenario == "A" else "fall with it"
        text = f"Binance is real; the synthetic sources {held}."
        plots.append(Plot(f"USDe in run {run.scenario}, USD by source", text, _price_figure(run, "USDe", minutes), wide=False))
    return plots


def _price_figure(run: Run, asset: str, minutes: int) -> go.Figure:
    series: dict[str, list[tuple[datetime, float]]] = {}
    synthetic = set()
    for event in _timeline(run.scenario, minutes):
        message = event.message
        if isinstance(message, OraclePrice) and message.asset == asset:
            series.setdefault(message.source, []).append((moment(message.publish_time_ns), message.price))
            if message.synthetic:
                synthetic.add(message.source)
    figure = new_figure(300)
    for (source, points), colour in zip(series.items(), LINE_COLOURS, strict=False):
        label = source if source not in synthetic or "synthetic" in source else f"{source} (part synthetic)"
        style = {"color": colour, "width": 1.2, "dash": "dot" if "synthetic" in source else "solid"}
        figure.add_scatter(x=[t for t, _ in points], y=[p for _, p in points], name=label, mode="lines", line=style, opacity=0.85)
    mark = run.seen.marks.get(asset, [])
    if mark:
        figure.add_scatter(
            x=[moment(point.time_ns) for point in mark],
            y=[point.price for point in mark],
            name="mark",
            mode="lines",
            line={"color": MARK_COLOUR, "width": 2.2},
            connectgaps=False,
        )
    figure.update_yaxes(tickformat=",.2f" if asset in ("USDe", "SOL") else ",.0f")
    return figure


def _state_plots(runs: Sequence[Run]) -> list[Plot]:
    """Above: accounts that may take no new risk or cannot be valued. Below, on a scale of its own: those to be liquidated."""
    pairs = ((State.UNKNOWN, State.WARNING), (State.BANKRUPT, State.LIQUIDATABLE))
    plots = []
    for run in runs:
        figure = new_figure(380, make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.07))
        times = [moment(clock_ns) for clock_ns, _ in run.recording.states]
        for row, pair in enumerate(pairs, 1):
            for state in pair:
                figure.add_scatter(
                    x=times,
                    y=[counts[state] for _, counts in run.recording.states],
                    name=state.name.lower(),
                    mode="lines",
                    stackgroup=f"states-{row}",
                    line={"width": 0.5, "color": STATE_COLOURS[state]},
                    fillcolor=STATE_COLOURS[state],
                    row=row,
                    col=1,
                )
            figure.update_yaxes(rangemode="tozero", title="accounts", row=row, col=1)
        text = f"Of {run.accounts:,}; the rest are healthy. Unknown: a mark that decides is missing, so nothing is liquidated on it."
        plots.append(Plot(f"Accounts by state, run {run.scenario}", text, figure, wide=len(runs) == 1))
    return plots


def _order_plots(runs: Sequence[Run]) -> list[Plot]:
    plots = []
    for run in runs:
        figure = new_figure(300)
        by_minute: dict[str, Counter[int]] = {}
        for order in run.orders():
            minute = (order["decided_ns"] - START_NS) // (60 * SECOND_NS)
            by_minute.setdefault(str(order["cause"]).upper(), Counter())[minute] += 1
        for cause in sorted(by_minute, key=lambda name: -by_minute[name].total()):
            counts = by_minute[cause]
            figure.add_bar(
                x=[moment(START_NS + minute * 60 * SECOND_NS) for minute in sorted(counts)],
                y=[counts[minute] for minute in sorted(counts)],
                name=f"{cause.lower()} ({counts.total():,})",
                marker_color=CAUSE_COLOURS.get(cause, QUIET),
            )
        figure.update_layout(barmode="stack", bargap=0.05)
        figure.update_yaxes(title="orders a minute")
        figure.update_xaxes(range=span())
        plots.append(
            Plot(f"Orders by cause, run {run.scenario}", "Distinct orders in each minute of event time.", figure, wide=len(runs) == 1)
        )
    plots.append(_venue_plot(runs))
    return plots


def _venue_plot(runs: Sequence[Run]) -> Plot:
    figure = new_figure(300)
    kinds = {run.scenario: Counter((order["venue"], kind_of(order["account"])) for order in run.orders()) for run in runs}
    venues = sorted({venue for counts in kinds.values() for venue, _ in counts})
    rows = [(venue, run.scenario) for venue in venues for run in runs]
    for kind, colour in zip(KINDS, LINE_COLOURS, strict=False):
        figure.add_bar(
            y=[f"{venue}, {scenario}" for venue, scenario in rows],
            x=[kinds[scenario][venue, kind] for venue, scenario in rows],
            name=KIND_NAMES[kind],
            orientation="h",
            marker_color=colour,
        )
    figure.update_layout(barmode="stack", bargap=0.25, yaxis={"autorange": "reversed"})
    figure.update_xaxes(title="orders")
    return Plot(
        "Orders by venue and kind of account", "Where positions were closed, whose they were, and in which run.", figure, wide=False
    )


def _breaker_plots(runs: Sequence[Run]) -> list[Plot]:
    run = runs[-1]
    spans = _breaker_spans(run)
    names = sorted({name for name, *_ in spans}, key=lambda name: (name.split(" ")[0], name), reverse=True)
    figure = new_figure(max(260, 90 + 15 * len(names)))
    shown = set()
    for name, begin, end, state in spans:
        colour = ACCENT if state == "tripped" else "#f0c987"
        figure.add_bar(
            y=[name],
            x=[(end - begin) / 1e6],
            base=[moment(begin)],
            orientation="h",
            marker={"color": colour, "line": {"width": 0}},
            name=state,
            legendgroup=state,
            showlegend=state not in shown,
            hovertemplate=f"{name}<br>{state} {iso(begin)[11:19]} to {iso(end)[11:19]}<extra></extra>",
        )
        shown.add(state)
    figure.update_layout(barmode="overlay", bargap=0.3)
    figure.update_xaxes(type="date", range=span())
    figure.update_yaxes(categoryorder="array", categoryarray=names, tickfont={"size": 10})
    figure.add_vrect(
        x0=moment(START_NS + SLOW_FROM_S * SECOND_NS),
        x1=moment(START_NS + SLOW_UNTIL_S * SECOND_NS),
        fillcolor="#2e86ab",
        opacity=0.07,
        line_width=0,
    )
    text = (
        "An asset that moves, or whose volatility jumps, widens scan ranges and stresses correlations; most of them together stress all; "
        "sources that disagree make the mark unknown; a chain that lags has its new credits held, and what is there counts for less by "
        "and by; liquidation volume says that an asset's budget is spent. Shaded: arbitrum finalises nothing (synthetic)."
    )
    return [Plot(f"Breakers, run {run.scenario}", text, figure)]


# ---- small things -----------------------------------------------------------------------------------------------------------------------


def _breaker_spans(run: Run) -> list[tuple[str, int, int, str]]:
    """(name, begin, end, state) of the times in which a breaker was not closed."""
    changes: dict[str, list[Any]] = {}
    for change in sorted(run.recording.breakers.values()):
        changes.setdefault(f"{change.trigger} {change.name}", []).append(change)
    end_ns = run.recording.states[-1][0] if run.recording.states else START_NS
    spans = []
    for name, steps in changes.items():
        for step, following in zip(steps, [*steps[1:], None], strict=True):
            if step.state != "closed":
                spans.append((name.replace("_", " "), step.since_ns, following.since_ns if following else end_ns, step.state))
    return spans


def _tripped(run: Run) -> int:
    return len({(change.trigger, change.name) for change in run.recording.breakers.values() if change.state == "tripped"})


_TIMELINES: dict[tuple[Scenario, int], Any] = {}


def _timeline(scenario: Scenario, minutes: int) -> Any:
    if (scenario, minutes) not in _TIMELINES:
        _TIMELINES[scenario, minutes] = timeline(scenario, minutes)
    return _TIMELINES[scenario, minutes]


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


STYLE = f"""
:root {{ color-scheme: light; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: #f6f8f9; color: {INK}; font: 15px/1.5 {FONT}; }}
main {{ max-width: 1180px; margin: 0 auto; padding: 40px 24px 56px; }}
h1 {{ font-size: 34px; line-height: 1.15; margin: 0 0 10px; letter-spacing: -0.02em; }}
h2 {{ font-size: 16px; margin: 0 0 14px; font-weight: 600; }}
h2 i {{ font-style: normal; display: inline-block; background: {INK}; color: #fff; border-radius: 5px; padding: 0 8px; margin-right: 6px; }}
h3 {{ font-size: 17px; margin: 0 0 2px; }}
.lead {{ font-size: 17px; color: {QUIET}; max-width: 74ch; margin: 0 0 26px; }}
section {{ background: #fff; border: 1px solid #e3e8ec; border-radius: 10px; padding: 18px 20px; min-width: 0; }}
section > p {{ color: {QUIET}; margin: 0 0 10px; font-size: 13.5px; }}
.runs, .plots {{ display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 16px; margin-bottom: 16px; }}
.runs:has(> :only-child) {{ grid-template-columns: minmax(0, 1fr); }}
.plot {{ grid-column: span 2; }}
.plot.half {{ grid-column: span 1; }}
.figures {{ display: flex; flex-wrap: wrap; gap: 14px 26px; }}
.figure b {{ display: block; font-size: 27px; line-height: 1.1; font-variant-numeric: tabular-nums; }}
.figure.hot b {{ color: {ACCENT}; }}
.figure span {{ color: {QUIET}; font-size: 12.5px; }}
table {{ border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; vertical-align: top; padding: 7px 14px 7px 0; border-bottom: 1px solid #edf1f3; }}
tbody th {{ font-weight: 400; color: {QUIET}; width: 32%; }}
footer {{ color: {QUIET}; font-size: 12.5px; margin-top: 18px; }}
@media (max-width: 860px) {{
  .runs, .plots {{ grid-template-columns: minmax(0, 1fr); }} .plot, .plot.half {{ grid-column: span 1; }}
}}
"""
