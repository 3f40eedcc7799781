"""Commands that only look: one topic's records, the state of a deployment, the worst accounts, a run put to the test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from streams.commands.common import FOUND_WANTING, SettingsFile, fail, reach, settings_of

if TYPE_CHECKING:
    pass


def replay(
    settings_file: SettingsFile = None,
    ledger: Annotated[bool, typer.Option("--ledger", help="Read the ledgers, compute what must have come out, and compare.")] = False,
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition of the books' ledger.")] = None,
    all_cuts: Annotated[bool, typer.Option("--all-cuts", help="Restore every committed cut, not only some of them.")] = False,
) -> None:
    """Put a live run to the test: compute it again offline, with the engine alone; exit code 1 at any difference."""
    if not ledger:
        fail(ValueError("say what to replay: plimsoll replay --ledger"))
    settings = settings_of(settings_file)
    from streams.replay import replay_ledger

    report = reach(settings, replay_ledger(settings, partition=partition, all_cuts_restored=all_cuts))
    typer.echo(f"{report.events} events in {report.frames} frames ask for {report.orders} orders; {report.distinct} orders were published")
    typer.echo(f"({report.published} times, {report.repeated} more than once, {report.conflicting} with two contents).")
    typer.echo(f"{report.cuts_checked} cuts checked, {report.cuts_restored} of them restored, in {report.seconds:.1f} s.")
    for difference in report.differences:
        typer.echo(f"difference: {difference}")
    typer.echo(f"{report.difference_count} differences.")
    if report.difference_count:
        raise typer.Exit(FOUND_WANTING)
