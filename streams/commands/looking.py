"""Commands that only look: one topic's records, the state of a deployment, the worst accounts, a run put to the test."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Coroutine
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from streams.commands.common import FOUND_WANTING, LOG_FORMAT, SettingsFile, fail, reach, settings_of, specs_of

if TYPE_CHECKING:
    from streams.replay import ReplayReport

LAST_BY_DEFAULT = 10


class Sort(StrEnum):
    WORST = "worst"
    SHORTFALL = "shortfall"
    EQUITY = "equity"
    NAME = "name"


class AccountState(StrEnum):
    BANKRUPT = "BANKRUPT"
    LIQUIDATABLE = "LIQUIDATABLE"
    UNKNOWN = "UNKNOWN"
    WARNING = "WARNING"
    HEALTHY = "HEALTHY"


def tail(
    topic: Annotated[str, typer.Argument(help="Without the prefix, as in `plimsoll topics list --markdown`; orders: those of all venues.")],
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="All records that are kept.")] = False,
    last: Annotated[int | None, typer.Option(min=0, help=f"The newest of each partition; {LAST_BY_DEFAULT} by default.")] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", "-f", help="Then go on with each that comes, until Ctrl-C.")] = False,
    key: Annotated[str | None, typer.Option(help="Only records with this key.")] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for jq.")] = False,
    settings_file: SettingsFile = None,
) -> None:
    """Print the records of any topic readably: messages, frames, rows, dead letters; committed ones only."""
    if from_beginning and last is not None:
        fail(ValueError("say --from-beginning or --last, not both"))
    settings = settings_of(settings_file)
    from streams.tailing import Choice, TailFault
    from streams.tailing import tail as said

    newest = None if from_beginning else LAST_BY_DEFAULT if last is None else last
    choice = Choice(last=newest, follow=follow, key=key, partition=partition)
    try:
        reach(settings, said(settings, topic, choice, _say, as_json=as_json))
    except TailFault as fault:
        fail(fault)
    except _ReaderLeft:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain when it flushes at its end
    except KeyboardInterrupt:
        pass  # how a reader ends it


class _ReaderLeft(Exception):
    """Whoever read our output has gone, as `head` does when it has enough."""


def _say(text: str) -> None:
    try:
        typer.echo(text)
    except BrokenPipeError:
        raise _ReaderLeft from None


def console(
    settings_file: SettingsFile = None,
    port: Annotated[int | None, typer.Option(help="Where the page is; metrics_port by default, or a free one where that is taken.")] = None,
) -> None:
    """Serve the console in a process of its own, for those who do not want it in their workers. Ctrl-C ends it."""
    from streams.console.alone import run_alone

    settings = settings_of(settings_file)
    run_alone(settings if port is None else settings.model_copy(update={"metrics_port": port}))


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="A list of findings: check, grade, found, remedy.")] = False,
    settings_file: SettingsFile = None,
) -> None:
    """Look at brokers, topics, clocks, parameters, workers and letters, and say what to do; exit code 1 where a fault was found."""
    settings = settings_of(settings_file)
    try:
        from streams.diagnosis import Grade
        from streams.doctor import examine
    except OSError as error:  # kernels have their folder made when they are imported
        fail(RuntimeError(f"the folder of compiled kernels cannot be made: {error}; name one by PLIMSOLL_CACHE_DIR"))
    findings = reach(settings, examine(settings, specs_of(settings)))
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(findings), indent=2))
    for finding in () if as_json else findings:
        typer.echo(str(finding))
    if any(finding.grade is Grade.FAULT for finding in findings):
        raise typer.Exit(FOUND_WANTING)


def top(
    sort: Annotated[Sort, typer.Option(help="Which accounts stand first.")] = Sort.WORST,
    state: Annotated[AccountState | None, typer.Option(case_sensitive=False, help="Only accounts in this state.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Print one picture and end.")] = False,
    settings_file: SettingsFile = None,
) -> None:
    """Show the worst accounts, orders, breakers and the pipeline in a terminal, each second; q or Ctrl-C ends it."""
    settings = settings_of(settings_file)
    from rich.console import Console

    from streams.top import TopFault, show, show_once
    from streams.top_picture import Look

    logging.getLogger("streams").addHandler(logging.NullHandler())  # the picture says what went wrong
    look = Look(sort.value, "" if state is None else state.value)
    try:
        reach(settings, (show_once if once else show)(settings, look, Console()))
    except TopFault as fault:
        fail(fault)


def replay(
    settings_file: SettingsFile = None,
    ledger: Annotated[bool, typer.Option("--ledger", help="Read the ledgers, compute what must have come out, and compare.")] = False,
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition of the books' ledger.")] = None,
    all_cuts: Annotated[bool, typer.Option("--all-cuts", help="Restore every committed cut, not only some of them.")] = False,
    every: Annotated[float | None, typer.Option(min=1, metavar="SECONDS", help="Do it again and again, until SIGTERM.")] = None,
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65_535, help="With --every: where its own metrics are, at the address `listen`; 0 takes a free one.")
    ] = 0,
) -> None:
    """Put a live run to the test: compute it again offline, with the engine alone; exit code 1 at any difference."""
    if not ledger:
        fail(ValueError("say what to replay: plimsoll replay --ledger"))
    settings = settings_of(settings_file)
    from streams.replay import replay_ledger

    def replayed() -> Coroutine[None, None, ReplayReport]:
        return replay_ledger(settings, partition=partition, all_cuts_restored=all_cuts)

    if every is None:
        _tell(reach(settings, replayed()))
        return
    from streams.replay_watch import MetricsFault, watch

    logging.basicConfig(level=settings.log_level, format=LOG_FORMAT, stream=sys.stderr)
    logging.getLogger("aiokafka").setLevel(logging.WARNING)  # each run makes a dozen clients
    try:
        reach(settings, watch(replayed, every, settings.listen, metrics_port))
    except MetricsFault as fault:
        fail(fault)


def _tell(report: ReplayReport) -> None:
    from streams.wording import safe

    typer.echo(f"{report.events} events in {report.frames} frames ask for {report.orders} orders; {report.distinct} orders were published")
    typer.echo(f"({report.published} times, {report.repeated} more than once, {report.conflicting} with two contents).")
    typer.echo(f"{report.cuts_checked} cuts checked, {report.cuts_restored} of them restored, in {report.seconds:.1f} s.")
    for difference in report.differences:
        typer.echo(f"difference: {safe(difference)}")
    typer.echo(f"{report.difference_count} differences.")
    if report.difference_count:
        raise typer.Exit(FOUND_WANTING)
