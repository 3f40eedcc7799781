"""A margin report for a terminal: sums and states first, then where they come from."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from engine.explanations import HaircutTerms
from engine.greeks import AccountGreeks
from engine.inspection import AccountReport
from engine.scenario_report import GroupLosses, ScenarioReport
from streams.margin_models import MarginReport, PortfolioMargin, VenueMargin
from streams.venue_margin import VenueFinding
from streams.wording import number, safe, utc_ns

_STYLES = {"BANKRUPT": "bold red", "LIQUIDATABLE": "red", "UNKNOWN": "magenta", "WARNING": "yellow", "HEALTHY": "green"}


def picture(report: MarginReport) -> RenderableType:
    """All of a report, of whatever model."""
    match report:
        case PortfolioMargin():
            return Group(*_head(report), *_of_portfolio(report))
        case VenueMargin():
            return Group(*_head(report), *_of_venue(report.finding))
    raise AssertionError(f"say here how a {type(report).__name__} looks")


def _head(report: MarginReport) -> list[RenderableType]:
    title = Text(f"{safe(report.account)}  ", style="bold")
    base = "" if report.preset in ("default", report.parameters) else f" (preset {report.preset})"
    title.append(f"{utc_ns(report.clock_ns)}  parameters {safe(report.parameters)}{base}", style="not bold dim")
    return [title, *(Text(f"note: {note}", style="yellow") for note in report.notes)]


# ---- by the engine's own model --------------------------------------------------------------------------------------------------------


def _of_portfolio(margin: PortfolioMargin) -> list[RenderableType]:
    report = margin.report
    parts: list[RenderableType] = [_state(report), *_positions(report)]
    if report.equity_usd is None:
        return [*parts, *_greeks(report.greeks)]
    binding = report.binding or "none: nothing that it holds can lose, or a mode that sums several decides"
    parts += [*_levels(margin), Text(f"\nBinding: {binding}")]
    if report.collateral:
        parts += _collateral(report.collateral)
    for scenarios in (margin.maintenance, margin.initial):
        if scenarios is not None and (scenarios.level == "maintenance" or _other_ranges(margin)):
            parts += _scenarios(scenarios)
    return [*parts, *_greeks(report.greeks)]


def _state(report: AccountReport) -> Text:
    why = [word for word in (report.reason if report.state == "UNKNOWN" else "", report.cause) if word not in ("", "none")]
    text = Text(report.state, style=_STYLES[report.state])
    text.append(f" ({', '.join(why)})".replace("_", " ") if why else "", style="default")
    for line in report.standing:
        text.append(f"\n{safe(line)}", style="default")
    return text


def _positions(report: AccountReport) -> list[RenderableType]:
    title, table = _table(
        "Positions", ["venue", "instrument", "contract", "quantity", "cash", "mark USD", "value USD", "to close USD"], left=3
    )
    for one in report.positions:
        value = one.unknown.replace("_", " ") if one.unknown else _usd(one.value_usd)
        cash = f"{number(one.cash_quote)} {safe(one.quote)}" if one.cash_quote else ""
        table.add_row(
            safe(one.venue),
            safe(one.instrument),
            one.contract.replace("_", " "),
            number(one.quantity) if one.lots else "",
            cash,
            "?" if one.mark_usd is None else number(one.mark_usd),
            value,
            _usd(one.closing_cost_usd),
        )
    return [title, table]


def _levels(margin: PortfolioMargin) -> list[RenderableType]:
    report = margin.report
    assert report.equity_usd is not None
    assert report.requirement_usd is not None
    title, table = _table("Equity and levels", ["", "USD", "equity over it", "mode", "maintenance USD", ""], left=1)
    rows = [
        ("equity before haircuts", report.unhaircut_usd, None),
        ("equity", report.equity_usd, None),
        ("maintenance", report.maintenance_usd, report.equity_usd),
        ("liquidation end", report.liquidation_end_usd, report.equity_usd),
        ("initial", report.initial_usd, report.equity_initial_usd),
        ("cost of closing all", report.close_cost_usd, None),
    ]
    modes: list[tuple[str, str, str]] = [
        (mode, _usd(usd), "decides" if mode == report.decision_mode else "") for mode, usd in report.requirement_usd.items()
    ]
    if margin.capital_efficiency is not None:
        modes.append(("capital efficiency", f"{margin.capital_efficiency:.2f}", "isolated / portfolio"))
    add_ons = margin.maintenance.add_ons if margin.maintenance is not None else {}
    modes += [(f"add-on {name}", _usd(usd), "") for name, usd in add_ons.items()]
    if margin.maintenance is not None and margin.maintenance.regime:
        modes.append(("correlations", margin.maintenance.regime, ""))
    for k in range(max(len(rows), len(modes))):
        name, usd, equity = rows[k] if k < len(rows) else ("", None, None)
        over = "" if equity is None or usd is None else _usd(equity - usd)
        table.add_row(name, "" if usd is None else _usd(usd), over, *(modes[k] if k < len(modes) else ("", "", "")))
    return [title, table]


def _collateral(terms: Sequence[HaircutTerms]) -> list[RenderableType]:
    heads = ["asset", "chain", "value USD", "base", "security", "latency", "depeg", "size", "haircut", "over cap USD", "lost USD"]
    title, table = _table("Haircuts of collateral at maintenance", heads, left=2)
    for one in terms:
        parts = (one.base, one.security, one.latency, one.depeg, one.size)
        haircut = _percent(one.haircut) if one.eligible else "not eligible"
        over = _usd(one.over_cap_usd) if one.over_cap_usd else ""
        table.add_row(safe(one.asset), safe(one.chain), _usd(one.value_usd), *map(_percent, parts), haircut, over, _usd(one.lost_usd))
    return [title, table]


def _other_ranges(margin: PortfolioMargin) -> bool:
    """Whether the initial level's scenarios are not those of maintenance."""
    return margin.maintenance is not None and margin.initial is not None and margin.initial.groups != margin.maintenance.groups


def _scenarios(scenarios: ScenarioReport) -> list[RenderableType]:
    return [part for group in scenarios.groups for part in _losses(group, scenarios)]


def _losses(group: GroupLosses, scenarios: ScenarioReport) -> list[RenderableType]:
    """Rows are moves of the price, columns of the volatility. Of a group without options the ends say all."""
    curved = group.volatility_up_usd != group.volatility_down_usd
    columns = ["volatility up USD", "volatility down USD"] if curved else ["loss USD"]
    heading = f"{safe(group.group)}: losses at {scenarios.level}, scan range {_percent(group.scan_range)}, other groups at rest"
    title, table = _table(heading, ["price", *columns, ""], left=0)
    rows = list(zip(group.moves, group.volatility_up_usd, group.volatility_down_usd, strict=True))
    for move, up, down in rows if curved else [rows[0], rows[-1]]:
        table.add_row(f"{move:+.1%}", *([_usd(up), _usd(down)] if curved else [_usd(up)]), "" if curved else "in proportion up to here")
    for move, loss in zip(group.extreme_moves, group.extreme_usd, strict=True):
        counted = (
            f"{'volatility stays; ' if curved else ''}{scenarios.extreme_fraction:.0%} counts: {_usd(scenarios.extreme_fraction * loss)}"
        )
        table.add_row(f"{move:+.1%}", *([_usd(loss), ""] if curved else [_usd(loss)]), counted)
    return [title, table]


def _greeks(greeks: AccountGreeks) -> list[RenderableType]:
    heads = ["", "delta", "delta USD", "gamma 1 % USD", "vega USD", "theta a day USD", "rho 1 % USD"]
    title, table = _table("Greeks", heads, left=1)
    for asset in greeks.by_asset:
        risks = (asset.delta_usd, asset.gamma_usd, asset.vega_usd, asset.theta_usd, asset.rho_usd)
        table.add_row(safe(asset.asset), _units(asset.delta), *map(_usd, risks), style="bold")
        for one in greeks.by_position:
            if one.asset == asset.asset:
                risks = (one.delta_usd, one.gamma_usd, one.vega_usd, one.theta_usd, one.rho_usd)
                table.add_row(f"  {safe(one.venue)} {safe(one.instrument)}", _units(one.delta), *map(_usd, risks))
    return [title, table]


# ---- Aave v3 --------------------------------------------------------------------------------------------------------------------------


def _of_venue(found: VenueFinding) -> list[RenderableType]:
    evidence = "held against published numbers" if found.published else "no published number of it is known"
    head = Text(f"\n{safe(found.venue)} by {found.title} ({found.rule} {found.version}; {evidence})", style="bold")
    title, table = _table("What the venue sees", ["", "USD", "equity over it"], left=1)
    equity = found.equity_usd
    for name, usd in (("equity", equity), ("initial requirement", found.initial_usd), ("maintenance requirement", found.maintenance_usd)):
        over = "" if name == "equity" else "?" if usd is None or equity is None else _usd(equity - usd)
        table.add_row(name, _usd(usd), over)
    words, parts = _table("In the venue's words", ["", "USD"], left=1)
    for part in found.parts:
        parts.add_row(safe(part.name), _ratio(part.value) if part.name.endswith(("factor", "ratio")) else _usd(part.value))
    return [head, Text(_until_liquidation(found)), Text(f"holds {', '.join(map(safe, found.instruments))}"), title, table, words, parts]


def _until_liquidation(found: VenueFinding) -> str:
    if found.left_usd is None:
        return "not known: something that it holds has no value"
    if found.left_usd < 0.0:
        return f"below maintenance by {_usd(-found.left_usd)} USD: the venue may liquidate"
    if found.distance is None:
        return "nothing there can be liquidated"
    of = "a fall of the collateral by" if found.measure == "health_factor" else "a loss of the notional's"
    return f"{of} {_percent(found.distance)} from the venue's liquidation"


# ---- cells ----------------------------------------------------------------------------------------------------------------------------


def _table(title: str, heads: list[str], *, left: int) -> tuple[Text, Table]:
    """Its heading and itself; numbers to the right, but for the first `left` columns and a last one without a head."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for k, head in enumerate(heads):
        words = k < left or (k == len(heads) - 1 and not head)
        table.add_column(head, justify="left" if words else "right", no_wrap=not words or k == 0)
    return Text(f"\n{title}", style="bold"), table


def _usd(amount: float | None) -> str:
    return "?" if amount is None else f"{amount + 0.0:,.2f}"


def _ratio(value: float | None) -> str:
    return "none" if value is None else number(value)


def _percent(fraction: float) -> str:
    return f"{fraction:.2%}"


def _units(units: float | None) -> str:
    return "?" if units is None else number(round(units, 6) + 0.0)
