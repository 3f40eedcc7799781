"""The report's plots of the risk model itself: haircuts by term, volatility, correlation regimes, cascades, and what netting saves.

Where each comes from is said under it: a topic that the run's recorder listened to, or the run's ledger applied again offline.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from engine.effects import AssetReport, HaircutReport
from engine.tables import INITIAL_LEVEL, MAINTENANCE_LEVEL
from streams.demo.facts import SECOND_NS, START_NS
from streams.demo.plotting import ACCENT, INK, KIND_NAMES, QUIET, Plot, clock, moment, new_figure
from streams.demo.population import KINDS
from streams.demo.seen import PAIRS, CascadeAt, CorrelationPoint
from streams.demo.summary import Efficiency, Run, efficiency

# What a haircut is made of, from the bottom of the stack to its top.
TERMS: tuple[tuple[str, str, Callable[[HaircutReport], float]], ...] = (
    ("base", "#c3ccd4", lambda terms: terms.base),
    ("security of the chain", "#7b5ea7", lambda terms: terms.security),
    ("suspended, so far as it has risen", "#5b2a4a", lambda terms: max(0.0, terms.suspended + terms.slow)),
    ("latency", "#2e86ab", lambda terms: terms.latency),
    ("depeg", "#d1495b", lambda terms: terms.depeg),
    ("size, of $1 million", "#e6a532", lambda terms: terms.size_1m),
)
# (asset, chain) of the small pictures: what loopers, pledgers, hedgers and option sellers put up.
SHOWN_COLLATERALS = (
    ("USDe", "ethereum"),
    ("DOGE", "custody"),
    ("AVAX", "custody"),
    ("BTC", "custody"),
    ("ETH", "arbitrum"),
    ("SOL", "solana"),
)
SHOWN_VOLATILITIES = ("BTC", "ETH", "SOL", "USDe", "DOGE", "XRP", "AVAX", "ENA", "WBETH")
COLUMNS = 3
DIGITS = 5  # of fractions in the page: a hundredth of a basis point
FALLS_NAMED = (0.0, 0.1, 0.2, 0.3)  # on the axis of cascades
REGIME_COLOURS = {"high": ACCENT, "observed": INK, "low": "#2e86ab"}
TOLD = "Told on risk.marks once a second of the run's own time, the last word of each minute of event time."
REPLAYED = "From the run's ledger, applied again offline by the engine alone, at the first tick of each minute."


def risk_plots(runs: Sequence[Run]) -> list[Plot]:
    """All of them. What differs between the runs is shown of both, the rest of the last."""
    last = runs[-1]
    return [
        *_haircut_plots(runs),
        *_volatility_plots(last),
        *_correlation_plots(last),
        *_cascade_plots(runs),
        *_efficiency_plots(last),
    ]


# ---- haircuts ---------------------------------------------------------------------------------------------------------------------------

Series = Mapping[tuple[str, str], Sequence[tuple[datetime, HaircutReport]]]


def haircut_series(run: Run) -> Series:
    """By (asset, chain), in order of time."""
    series: dict[tuple[str, str], list[tuple[datetime, HaircutReport]]] = {}
    for report in _reports(run):
        for terms in report.haircuts:
            series.setdefault((report.asset, terms.chain), []).append((moment(report.clock_ns), terms))
    return series


def _haircut_plots(runs: Sequence[Run]) -> list[Plot]:
    last = runs[-1]
    by_run = {run.scenario: haircut_series(run) for run in runs}
    series = by_run[last.scenario]
    if not series:
        return []
    panels = [
        (f"{asset} on {chain}, run {scenario}", found[asset, chain])
        for asset, chain in SHOWN_COLLATERALS
        for scenario, found in by_run.items()
        if (asset, chain) in found and (scenario == last.scenario or asset == "USDe")
    ]
    rows = -(-len(panels) // COLUMNS)
    titles = [title for title, _ in panels]
    grid = make_subplots(rows=rows, cols=COLUMNS, subplot_titles=titles, vertical_spacing=0.3 / rows, horizontal_spacing=0.06)
    figure = new_figure(120 + 190 * rows, grid)
    for number, (_, points) in enumerate(panels):
        for trace in _stack(points, f"haircut-{number}", in_legend=number == 0):
            figure.add_trace(trace, row=number // COLUMNS + 1, col=number % COLUMNS + 1)
    figure.update_layout(legend={"y": 1.0 + 40 / (120 + 190 * rows)}, margin={"t": 40})
    figure.update_annotations(font={"size": 12})
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    text = (
        "At maintenance, of $1 million in one account that also has positions on other chains. Base, security, suspension and latency "
        "rise by at most 5 points an hour; slippage and depeg count at once. The line: what is lost in "
        f"all, with what is not recognised while a chain's word is late. {TOLD}"
    )
    return [Plot("Haircuts by term", text, figure), _every_haircut(last, series)]


def _every_haircut(run: Run, series: Series) -> Plot:
    """One collateral at a time, chosen from a list."""
    figure = new_figure(340)
    names = sorted(series, key=lambda name: (name[0].upper(), name[1]))
    each = len(TERMS) + 1
    first = names.index(("USDe", "ethereum")) if ("USDe", "ethereum") in series else 0
    for number, name in enumerate(names):
        for trace in _stack(series[name], "chosen", in_legend=True):
            trace.visible = number == first
            figure.add_trace(trace)
    buttons = [
        {
            "label": f"{asset} on {chain}",
            "method": "update",
            "args": [{"visible": [n // each == number for n in range(each * len(names))]}],
        }
        for number, (asset, chain) in enumerate(names)
    ]
    figure.update_layout(updatemenus=[{"buttons": buttons, "active": first, "x": 1.0, "xanchor": "right", "y": 1.2, "yanchor": "top"}])
    figure.update_yaxes(tickformat=".1%", rangemode="tozero")
    text = f"Each of the {len(names)} collaterals that an account can hold, from the list. {TOLD}"
    return Plot(f"Haircut of any collateral, run {run.scenario}", text, figure)


def _stack(points: Sequence[tuple[datetime, HaircutReport]], group: str, *, in_legend: bool) -> list[go.Scatter]:
    """Areas by term, and a line for all that is lost."""
    times = [time for time, _ in points]
    areas = [
        go.Scatter(
            x=times,
            y=[round(of(terms), DIGITS) for _, terms in points],
            name=name,
            legendgroup=name,
            showlegend=in_legend,
            mode="lines",
            stackgroup=group,
            line={"width": 0.5, "color": colour},
            fillcolor=colour,
        )
        for name, colour, of in TERMS
    ]
    lost = go.Scatter(
        x=times,
        y=[round(lost_of(terms), DIGITS) for _, terms in points],
        name="lost in all",
        legendgroup="lost",
        showlegend=in_legend,
        mode="lines",
        line={"width": 1.4, "color": INK, "dash": "dot"},
    )
    return [*areas, lost]


def lost_of(terms: HaircutReport) -> float:
    """The share of $1 million that counts for nothing."""
    return 1.0 - terms.recognised * (1.0 - terms.total_1m)


# ---- volatility and correlation ---------------------------------------------------------------------------------------------------------


def _volatility_plots(run: Run) -> list[Plot]:
    reports: dict[str, list[AssetReport]] = {}
    for report in _reports(run):
        reports.setdefault(report.asset, []).append(report)
    shown = [asset for asset in SHOWN_VOLATILITIES if asset in reports]
    if not shown:
        return []
    rows = -(-len(shown) // COLUMNS)
    grid = make_subplots(rows=rows, cols=COLUMNS, subplot_titles=shown, vertical_spacing=0.3 / rows, horizontal_spacing=0.06)
    figure = new_figure(120 + 170 * rows, grid)
    for number, asset in enumerate(shown):
        for trace in _volatilities(reports[asset], in_legend=number == 0):
            figure.add_trace(trace, row=number // COLUMNS + 1, col=number % COLUMNS + 1)
    figure.update_layout(legend={"y": 1.0 + 40 / (120 + 170 * rows)}, margin={"t": 40})
    figure.update_annotations(font={"size": 12})
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    text = (
        "Annualised, as scan ranges use it. Who wants to take new risk feels it at once, widened while the asset's breaker is open; who "
        f"only holds what there is feels it rise by at most 50 points an hour. {TOLD}"
    )
    return [Plot(f"Volatility in force, run {run.scenario}", text, figure), _every_volatility(run, reports), _stress_plot(run, reports)]


def _every_volatility(run: Run, reports: Mapping[str, Sequence[AssetReport]]) -> Plot:
    """One asset at a time, chosen from a list."""
    figure = new_figure(300)
    names = sorted(reports, key=str.upper)
    first = names.index("DOGE") if "DOGE" in names else 0
    for number, asset in enumerate(names):
        for trace in _volatilities(reports[asset], in_legend=True):
            trace.visible = number == first
            figure.add_trace(trace)
    buttons = [
        {"label": asset, "method": "update", "args": [{"visible": [n // 2 == number for n in range(2 * len(names))]}]}
        for number, asset in enumerate(names)
    ]
    figure.update_layout(updatemenus=[{"buttons": buttons, "active": first, "x": 1.0, "xanchor": "right", "y": 1.2, "yanchor": "top"}])
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    return Plot(f"Volatility of any asset, run {run.scenario}", f"Each of {len(names)}, from the list. {TOLD}", figure, wide=False)


def _volatilities(reports: Sequence[AssetReport], *, in_legend: bool) -> list[go.Scatter]:
    times = [moment(report.clock_ns) for report in reports]
    lines = (
        ("initial", "#e6a532", [report.sigma_initial for report in reports]),
        ("maintenance", "#2e86ab", [report.sigma_maintenance for report in reports]),
    )
    return [
        go.Scatter(
            x=times,
            y=[round(value, DIGITS) for value in values],
            name=name,
            legendgroup=name,
            showlegend=in_legend,
            mode="lines",
            line={"width": 1.6, "color": colour},
        )
        for name, colour, values in lines
    ]


def _stress_plot(run: Run, reports: Mapping[str, Sequence[AssetReport]]) -> Plot:
    """Stress by group as a map: an asset that is redeemable into another coin is of that one's group."""
    own = [asset for asset in sorted(reports, key=str.upper, reverse=True) if asset not in ("WBETH", "BNSOL")]
    minutes = sorted({_minute(report) for asset in own for report in reports[asset]})
    at = {minute: k for k, minute in enumerate(minutes)}
    values: list[list[float | None]] = [[None] * len(minutes) for _ in own]
    for row, asset in enumerate(own):
        for report in reports[asset]:
            values[row][at[_minute(report)]] = round(report.stress_maintenance, 3)
    figure = new_figure(max(260, 80 + 14 * len(own)))
    figure.add_heatmap(
        x=[moment(START_NS + minute * 60 * SECOND_NS) for minute in minutes],
        y=own,
        z=values,
        zmin=0.0,
        zmax=1.0,
        colorscale=[[0.0, "#f4f6f7"], [0.5, "#e6a532"], [1.0, ACCENT]],
        colorbar={"thickness": 10, "tickformat": ".0%"},
        hovertemplate="%{y} %{x|%H:%M}: %{z:.0%}<extra></extra>",
    )
    figure.update_yaxes(tickfont={"size": 10})
    text = (
        "At maintenance: rises while the group's move or volatility breaker, or the system's, is open, from nothing to all in half an "
        f"hour, and falls by half in each hour after. Full stress takes the high regime to 1 and the low one to 0. {TOLD}"
    )
    return Plot(f"Stress of risk groups, run {run.scenario}", text, figure, wide=False)


def _correlation_plots(run: Run) -> list[Plot]:
    points = run.seen.correlations
    pairs = [pair for pair in PAIRS if points.get(pair)]
    if not pairs:
        return []
    rows = -(-len(pairs) // COLUMNS)
    titles = [" and ".join(pair) for pair in pairs]
    grid = make_subplots(rows=rows, cols=COLUMNS, subplot_titles=titles, vertical_spacing=0.3 / rows, horizontal_spacing=0.06)
    figure = new_figure(120 + 180 * rows, grid)
    for number, pair in enumerate(pairs):
        for trace in _regimes(points[pair], in_legend=number == 0):
            figure.add_trace(trace, row=number // COLUMNS + 1, col=number % COLUMNS + 1)
    figure.update_layout(legend={"y": 1.0 + 40 / (120 + 180 * rows)}, margin={"t": 40})
    figure.update_annotations(font={"size": 12})
    figure.update_yaxes(range=[-0.55, 1.05])
    text = (
        "Every scenario is looked at under the observed correlations, under higher and under lower ones, and the worst counts: a hedge is "
        "not worth more because two coins fell together. Lines: at maintenance; dotted: at the initial level, which feels stress at once. "
        f"{REPLAYED}"
    )
    return [Plot(f"Correlation regimes, run {run.scenario}", text, figure)]


def _regimes(points: Sequence[CorrelationPoint], *, in_legend: bool) -> list[go.Scatter]:
    times = [moment(point.time_ns) for point in points]
    lines = []
    for level, style, told in ((MAINTENANCE_LEVEL, "solid", ""), (INITIAL_LEVEL, "dot", ", initial")):
        for regime, colour in REGIME_COLOURS.items():
            if level == INITIAL_LEVEL and regime == "observed":
                continue  # the same at both
            lines.append(
                go.Scatter(
                    x=times,
                    y=[round(getattr(point.levels[level], regime), DIGITS) for point in points],
                    name=regime + told,
                    legendgroup=regime + told,
                    showlegend=in_legend,
                    mode="lines",
                    line={"width": 1.6 if style == "solid" else 1.0, "color": colour, "dash": style},
                )
            )
    return lines


# ---- cascades ---------------------------------------------------------------------------------------------------------------------------


def _cascade_plots(runs: Sequence[Run]) -> list[Plot]:
    plots = []
    for run in runs:
        curves = run.seen.cascades
        groups = list(dict.fromkeys(curve.group for curve in curves))
        if not groups:
            continue
        rows = -(-len(groups) // COLUMNS)
        grid = make_subplots(rows=rows, cols=COLUMNS, subplot_titles=groups, vertical_spacing=0.34 / rows, horizontal_spacing=0.08)
        figure = new_figure(130 + 190 * rows, grid)
        seconds = sorted({curve.second for curve in curves})
        for curve in curves:
            at = groups.index(curve.group)
            colour = (QUIET, ACCENT)[seconds.index(curve.second) % 2]
            for trace in _cascade(curve, colour, in_legend=at == 0):
                figure.add_trace(trace, row=at // COLUMNS + 1, col=at % COLUMNS + 1)
        figure.update_layout(legend={"y": 1.0 + 45 / (130 + 190 * rows)}, margin={"t": 44})
        figure.update_annotations(font={"size": 12})
        figure.update_xaxes(tickvals=FALLS_NAMED, ticktext=[f"{fall:.0%}" for fall in FALLS_NAMED])
        figure.update_yaxes(tickprefix="$", tickformat=".2s", rangemode="tozero")
        text = (
            "What the accounts that are below maintenance by then would sell of the group if its mark fell by so much, all else as it was; "
            "dashed: the depth within 2 % in force at that time. Accounts that cannot be valued are not in it. "
            "From the run's ledgers, applied again offline by the engine alone, at these moments (risk.leverage tells such curves too, of "
            "moments of its own)."
        )
        plots.append(Plot(f"What a further fall would set off, run {run.scenario}", text, figure, wide=True))
    return plots


def _cascade(curve: CascadeAt, colour: str, *, in_legend: bool) -> list[go.Scatter]:
    falls, told = list(curve.falls), clock(curve.second)
    line = go.Scatter(
        x=falls,
        y=[round(usd) for usd in curve.volume_usd],
        customdata=list(curve.accounts),
        name=f"to be sold at {told}",
        legendgroup=f"sold {told}",
        showlegend=in_legend,
        mode="lines+markers",
        line={"width": 1.8, "color": colour},
        marker={"size": 5},
        hovertemplate="%{x:.0%}: $%{y:,.0f} of %{customdata:,} accounts<extra></extra>",
    )
    depth = go.Scatter(
        x=[falls[0], falls[-1]],
        y=[round(curve.depth_usd)] * 2,
        name=f"depth at {told}",
        legendgroup=f"depth {told}",
        showlegend=in_legend,
        mode="lines",
        line={"width": 1.2, "color": colour, "dash": "dash"},
    )
    return [line, depth]


# ---- capital efficiency -----------------------------------------------------------------------------------------------------------------

MODE_COLOURS = {"isolated": "#c3ccd4", "protocol": "#e6a532", "portfolio": "#2e86ab"}


def _efficiency_plots(run: Run) -> list[Plot]:
    """Requirement by mode and kind, at each time that was noted: a calm one and one in the crash, or the opening alone."""
    noted = {second: efficiency(kept) for second, kept in sorted(run.recording.requirements.items())}
    seconds = [second for second, found in noted.items() if found]
    if not seconds:
        return []
    rows = len(seconds)
    titles = [f"{clock(second)}: {sum(found.accounts for found in noted[second].values()):,} accounts" for second in seconds]
    grid = make_subplots(rows=1, cols=rows, subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.04)
    figure = new_figure(400, grid)
    for column, second in enumerate(seconds, 1):
        found = noted[second]
        kinds = [kind for kind in KINDS if kind in found]
        for mode, colour in MODE_COLOURS.items():
            figure.add_bar(
                y=[KIND_NAMES[kind] for kind in kinds],
                x=[round(100.0 * found[kind].usd_of(mode) / found[kind].isolated_usd, 2) for kind in kinds],
                name=mode,
                legendgroup=mode,
                showlegend=column == 1,
                orientation="h",
                marker_color=colour,
                text=[_in_money(found[kind], mode) for kind in kinds],
                textposition="auto",
                textfont={"size": 10},
                row=1,
                col=column,
            )
    figure.update_layout(barmode="group", bargap=0.25, legend={"traceorder": "normal", "y": 1.1}, margin={"t": 44})
    figure.update_annotations(font={"size": 12})
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title="requirement, % of isolated (sums)", range=[0, 118])
    text = (
        "What is required at maintenance of each position alone (isolated), of each venue alone (protocol) and across all venues "
        "(portfolio), summed over the accounts of a kind (synthetic), with the median account's ratio. Accounts that cannot be valued, or "
        "of which nothing is required, are not in it. From account.health, as last told by then."
    )
    return [Plot("Capital that each mode asks for", text, figure)]


def _in_money(found: Efficiency, mode: str) -> str:
    usd = found.usd_of(mode)
    told = f"${usd / 1e6:,.1f} m"
    return told if mode == "isolated" else f"{told}, median {100.0 * found.median_of(mode):.0f} %"


# ---- small things -----------------------------------------------------------------------------------------------------------------------


def _reports(run: Run) -> list[AssetReport]:
    """What risk.marks told, in order of time."""
    return sorted(run.recording.reports.values(), key=lambda report: (report.clock_ns, report.asset))


def _minute(report: AssetReport) -> int:
    return (report.clock_ns - START_NS) // (60 * SECOND_NS)
