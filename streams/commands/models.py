"""Which venues' rules there are."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from streams.commands.common import fail


def models(
    as_json: Annotated[bool, typer.Option("--json", help="For programs, sources and all.")] = False,
    example: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Print instead what a venue's definition says of this rule: round numbers of no venue."),
    ] = None,
) -> None:
    """List the rules of venues: version, sources, and how many published answers come out of each."""
    if example is not None:
        from streams.rule_list import example_of

        try:
            typer.echo(json.dumps(example_of(example), indent=2))
        except ValueError as error:
            fail(error)
        return
    from streams.rule_list import RuleList, in_words, listed_rules

    found = listed_rules()
    if as_json:
        from streams.messages import encode

        typer.echo(encode(RuleList(rules=found)))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for head in ("rule", "version", "what", "measure", "published", "cases passed", "takes a leg"):
        table.add_column(head, no_wrap=head == "rule")
    for one in found:
        evidence, leg = "yes" if one.published else "no", "yes" if one.takes_legs else "no"
        measure = one.measure.replace("_", " ")
        table.add_row(one.name, one.version, one.title, measure, evidence, in_words(one.passed, one.cases), leg)
    console = Console()
    console.print(table)
    for one in found:
        console.print(f"\n{one.name}: {one.evidence}", *one.sources, sep="\n  ", style="dim", soft_wrap=True, highlight=False)
        if one.takes_no_legs and one.takes_no_legs != "it is a part of a rule":
            console.print(f"  takes no leg: {one.takes_no_legs}", style="dim", soft_wrap=True, highlight=False)
