"""What a backtest found, in words and tables: the same for the terminal, for docs/backtest.md and for the page."""

from typing import NamedTuple

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from streams.backtest.calls import REACTIONS, Calls, Liquidations, quantile
from streams.backtest.episodes import SHORT
from streams.backtest.run import ALL, HORIZONS, SETS, Results
from streams.backtest.windows import LEVELS, Counts
from streams.documents import as_table

LEVEL_NAMES = {"maintenance": "maintenance", "initial": "initial", "covered": "with haircuts"}
AHEAD = {"day": "a day ahead", "hour": "an hour ahead"}


class Table(NamedTuple):
    """One table; the first `names` columns hold words, the others figures. A terminal has no room for the columns in `more`."""

    title: str
    text: str
    heads: list[str]
    rows: list[list[str]]
    names: int = 1
    more: tuple[str, ...] = ()


def findings(results: Results) -> list[str]:
    """What the figures say, a sentence each, whether it pleases or not."""
    return [*_of_breaches(results), *_of_calls(results), *_of_sets(results)]


def tables(results: Results) -> list[Table]:
    return [_levels(results), _episodes(results), _kinds(results), _calls(results), _sets(results)]


def markdown(results: Results) -> str:
    """The made block of docs/backtest.md."""
    parts = [
        _setting(results),
        "\n".join(f"- {sentence}" for sentence in findings(results)),
        *(f"**{table.title}.** {table.text}\n\n{as_table(table.heads, table.rows).rstrip()}" for table in tables(results)),
    ]
    return "\n\n".join(parts) + "\n"


def show(console: Console, results: Results) -> None:
    """For people, in the terminal; nothing is cut at 80 columns."""
    console.print(Text(_setting(results)))
    for table in tables(results):
        shown = RichTable(title=f"\n{table.title}", title_justify="left", box=None, header_style="bold", padding=(0, 1, 0, 0))
        fitting = [number for number, head in enumerate(table.heads) if head not in table.more]
        for number in fitting:
            shown.add_column(table.heads[number], justify="left" if number < table.names else "right")
        for row in table.rows:
            shown.add_row(*(row[number] for number in fitting))
        console.print(shown)
    console.print("\n[bold]What it says[/bold]")
    for sentence in findings(results):
        console.print(Text(f"- {sentence}"))


def _setting(results: Results) -> str:
    options = results.options
    accounts = sum(sum(episode.kinds.values()) for episode in results.episodes)
    expected = ", ".join(f"{LEVEL_NAMES[level]} {share:.3g}" for level, share in results.promised.items())
    played = f"; the first {options.minutes:,} minutes of each" if options.minutes is not None else ""
    drawn = f"{_many(len(results.episodes), 'episode')}, {accounts:,} accounts (seed {options.seed}){played}"
    return f"{drawn}. Promised probability that an account loses more than its requirement: {expected}."


# ---- sentences ------------------------------------------------------------------------------------------------------------------------


def _of_breaches(results: Results) -> list[str]:
    sentences = []
    for horizon in HORIZONS:
        for chosen in SETS:
            counts = results.total(horizon, chosen, ALL, "maintenance")
            if counts is None or not counts.trials:
                continue
            test = counts.test(results.promised["maintenance"])
            outcome = {
                "not rejected": "the promise is not rejected",
                "too many": "the promise is broken",
                "too few": "rejected on the safe side: it asks for more than it promises",
            }[test.verdict]
            sentences.append(
                f"{chosen.capitalize()}, {AHEAD[horizon]}: {counts.violations:,} violations of maintenance in {counts.trials:,} trials "
                f"where {test.promised * counts.trials:.1f} were promised; {outcome} (Kupiec: p {_p(test.p_value, '= ')}). They fall into "
                f"{counts.windows_hit} of {counts.windows} windows."
            )
    return sentences


def _of_calls(results: Results) -> list[str]:
    sentences = []
    for chosen in SETS:
        found = _all_calls(results, chosen)
        if found.fell:
            lead = quantile(found.leads, 0.5)
            early = f", half of those called at least {lead:,} minutes before" if lead is not None else ""
            sentences.append(
                f"{chosen.capitalize()}: {found.fell:,} accounts fell below maintenance; {len(found.leads):,} had been called{early}, "
                f"{found.never_called:,} had not."
            )
    return sentences


def _of_sets(results: Results) -> list[str]:
    runs = {chosen: [episode.runs["day", chosen] for episode in results.episodes] for chosen in SETS}
    held = {chosen: sum(run.cost.whole_usd for run in found) / len(found) for chosen, found in runs.items()}
    closed = {chosen: [run.liquidations[ALL] for run in found] for chosen, found in runs.items()}
    closings = {chosen: (sum(c.accounts for c in found), sum(c.recovered for c in found)) for chosen, found in closed.items()}
    adapting = (
        "To adapt took {:+.0%} of collateral on average. It liquidated {:,} accounts, of which {:,} would have been above maintenance "
        "again at their episode's end; static parameters {:,} and {:,}."
    ).format(held["adaptive"] / held["static"] - 1.0, *closings["adaptive"], *closings["static"])
    peaks = [", ".join(f"{run.cost.peak:.1f}" for run in runs[chosen]) for chosen in SETS]
    swing = (
        f"At its peak the adaptive set asked for {peaks[0]} times what it had asked for in the calm before; the static one for {peaks[1]}."
    )
    return [adapting, swing, *(_of_debts(reaction, closed) for reaction in REACTIONS)]


def _of_debts(reaction: str, closed: dict[str, list[Liquidations]]) -> str:
    adaptive, static = (
        f"{sum(c.bad_debts[reaction] for c in closed[chosen]):,} (${sum(c.bad_debt_usd[reaction] for c in closed[chosen]):,.0f})"
        for chosen in SETS
    )
    return f"Bad debts of those liquidated, at the {reaction} after the plan: {adaptive} adaptive, {static} static."


def _all_calls(results: Results, chosen: str) -> Calls:
    parts = [episode.runs["day", chosen].calls[ALL] for episode in results.episodes]
    return Calls(
        sum(part.accounts for part in parts),
        sum(part.short_at_opening for part in parts),
        sum(part.fell for part in parts),
        sum(part.never_called for part in parts),
        sorted(lead for part in parts for lead in part.leads),
    )


# ---- tables ---------------------------------------------------------------------------------------------------------------------------


def _levels(results: Results) -> Table:
    rows = []
    for horizon in HORIZONS:
        for chosen in SETS:
            for level in LEVELS:
                counts = results.total(horizon, chosen, ALL, level)
                if counts is not None:
                    row = [horizon, chosen, LEVEL_NAMES[level], *_figures(counts, results.promised[level]), _p(counts.independent())]
                    rows.append([*row, f"{counts.within:,}"])
    return Table(
        "Violations by level",
        "All episodes and accounts, windows that do not overlap; *windows* says in how many of them anybody was in violation. *With "
        "haircuts*: maintenance and what haircuts hold back at the start, all that stands before a debt. *Independent* is the p-value of "
        "Christoffersen's test, *within* counts losses beyond the requirement at any minute of the window.",
        ["ahead", "set", "level", "trials", "violations", "promised", "LR", "p", "verdict", "windows", "independent", "within"],
        rows,
        names=3,
        more=("LR", "p", "independent", "within"),
    )


def _episodes(results: Results) -> Table:
    rows = []
    for episode in results.episodes:
        for (horizon, chosen), run in episode.runs.items():
            counts = run.breaches[ALL, "maintenance"]
            overlapping = f"{counts.overlapping_violations:,} of {counts.overlapping_trials:,}"
            rows.append([SHORT[episode.name], horizon, chosen, *_figures(counts, results.promised["maintenance"]), overlapping])
    return Table(
        "Maintenance by episode",
        "*Overlapping*: windows that start each quarter of an hour, which are not independent and so are not tested.",
        ["episode", "ahead", "set", "trials", "violations", "promised", "LR", "p", "verdict", "windows", "overlapping"],
        rows,
        names=3,
        more=("LR", "p", "overlapping"),
    )


def _kinds(results: Results) -> Table:
    rows = []
    for kind in results.kinds:
        for horizon in HORIZONS:
            cells: list[str] = []
            for chosen in SETS:
                counts = results.total(horizon, chosen, kind, "maintenance")
                assert counts is not None
                test = counts.test(results.promised["maintenance"])
                if not cells:
                    cells = [kind.replace("_", " "), horizon, f"{counts.trials:,}", f"{test.promised * counts.trials:.1f}"]
                cells += [f"{counts.violations:,}", _p(test.p_value), test.verdict]
            rows.append(cells)
    return Table(
        "Maintenance by kind of account",
        "All episodes that have the kind; trials are those of the adaptive set.",
        ["kind", "ahead", "trials", "promised", "adaptive", "p adaptive", "verdict", "static", "p static", "verdict"],
        rows,
        names=2,
        more=("promised", "p adaptive", "p static"),
    )


def _calls(results: Results) -> Table:
    rows = []
    for episode in results.episodes:
        for chosen in SETS:
            found = episode.runs["day", chosen].calls[ALL]
            share = found.called_share
            leads = [quantile(found.leads, q) for q in (0.1, 0.5, 0.9)]
            rows.append(
                [
                    SHORT[episode.name],
                    chosen,
                    f"{found.fell:,} of {found.accounts:,}",
                    f"{share:.0%}" if share is not None else "-",
                    f"{found.never_called:,}",
                    *(f"{lead:,}" if lead is not None else "-" for lead in leads),
                ]
            )
    return Table(
        "Called before they fell",
        "Accounts that became LIQUIDATABLE; minutes from the call to the fall, as the tenth, fiftieth and ninetieth percentile.",
        ["episode", "set", "fell", "called", "never", "p10", "median", "p90"],
        rows,
        names=2,
    )


def _sets(results: Results) -> Table:
    rows = []
    for episode in results.episodes:
        moving, standing = (episode.runs["day", chosen] for chosen in SETS)
        for chosen, run in zip(SETS, (moving, standing), strict=True):
            closed = run.liquidations[ALL]
            rows.append(
                [
                    SHORT[episode.name],
                    chosen,
                    f"{run.breaches[ALL, 'maintenance'].violations:,}",
                    f"{closed.accounts:,}",
                    f"{closed.recovered:,}",
                    *(f"{closed.bad_debts[reaction]:,} (${closed.bad_debt_usd[reaction]:,.0f})" for reaction in REACTIONS),
                    f"${run.cost.whole_usd:,.0f}",
                    f"{run.cost.peak:.1f}",
                    f"{run.cost.calm_maintenance_usd / moving.cost.calm_maintenance_usd:.3f}",
                ]
            )
    return Table(
        "Static against adaptive",
        "The day's horizon. *Recovered*: liquidated accounts that would have been above maintenance again at the end. *Debts*: accounts "
        "(and USD) that left less than nothing when closed in the minute after the plan, or in the worst of an hour. *Held*: what an "
        "account must hold before haircuts to take new risk, mean over accounts and time. *Peak*: its mean over accounts at the worst "
        "quarter of an hour, in multiples of the calm hours before. *Calm*: the maintenance requirement of the calm hours, by adaptive's.",
        [
            "episode",
            "set",
            "violations",
            "liquidated",
            "recovered",
            *(f"debts, {reaction}" for reaction in REACTIONS),
            "held",
            "peak",
            "calm",
        ],
        rows,
        names=2,
        more=("violations", "recovered", "calm"),
    )


def _figures(counts: Counts, expected: float) -> list[str]:
    test = counts.test(expected)
    return [
        f"{counts.trials:,}",
        f"{counts.violations:,}",
        f"{expected * counts.trials:.1f}",
        f"{test.ratio:.2f}",
        _p(test.p_value),
        test.verdict,
        f"{counts.windows_hit} of {counts.windows}",
    ]


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _p(value: float, equals: str = "") -> str:
    return "< 0.001" if value < 0.001 else f"{equals}{value:.3f}"
