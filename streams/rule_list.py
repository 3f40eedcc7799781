"""The rules of venues that `plimsoll models` lists: what each says of itself, and how many published answers come out of it.

`rule_cases.json` is counted by `python -m tests.reference.run --models streams/rule_cases.json`, never by hand, over the cases that are
carried with the tests. `python -m streams.rule_list FILE...` renews the table in those files; without a file it prints it.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

import msgspec
from msgspec import Struct

from engine.rules.adapters import ADAPTERS, CANNOT
from engine.rules.catalogue import infos, modules
from engine.rules.examples import GIVEN, PARAMETERS
from streams.documents import MadeTable, as_table, run

CASES_FILE: Final = "rule_cases.json"


class CaseCount(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Over the carried answers of one rule."""

    cases: int
    passed: int


class ListedRule(Struct, frozen=True, kw_only=True):
    """A rule, or a part of one whose evidence is another."""

    name: str
    version: str
    title: str
    sources: tuple[str, ...]
    measure: str
    published: bool
    evidence: str  # what it was held against
    cases: int
    passed: int
    takes_legs: bool  # `plimsoll margin --venue` can go by it
    takes_no_legs: str  # why not; empty where it does, and for parts of rules


class RuleList(Struct, frozen=True, kw_only=True):
    """What `plimsoll models --json` prints."""

    rules: list[ListedRule]


def example_of(rule: str) -> dict[str, object]:
    """What the definition of a venue could say in its `rule`. ValueError, in words, where none takes a leg by that name."""
    if rule not in PARAMETERS:
        raise ValueError(f"{rule}: {CANNOT.get(rule, 'no rule is called so')}; those that take a leg are {', '.join(PARAMETERS)}")
    return {"rule": rule, "parameters": PARAMETERS[rule], "given": GIVEN.get(rule, {})}


def listed_rules() -> list[ListedRule]:
    """All of them, by name."""
    counts = msgspec.json.decode((files("streams") / CASES_FILE).read_bytes(), type=dict[str, CaseCount])
    rules = modules()
    nothing = CaseCount(cases=0, passed=0)
    return [
        ListedRule(
            name=info.name,
            version=info.version,
            title=info.title,
            sources=info.sources,
            measure=info.measure,
            published=info.published,
            evidence=info.cases,
            cases=counts.get(info.name, nothing).cases,
            passed=counts.get(info.name, nothing).passed,
            takes_legs=info.name in ADAPTERS,
            takes_no_legs=CANNOT.get(info.name, "") if info.name in rules else "it is a part of a rule",
        )
        for info in infos()
    ]


def in_words(passed: int, cases: int) -> str:
    """How many of the carried answers come out, for a cell."""
    return f"{passed} of {cases}" if cases else "none"


def _table() -> str:
    heads = ["rule", "what", "held against", "carried cases passed", "takes a leg", "published"]
    return as_table(
        heads,
        [
            [
                f"`{one.name}`",
                one.title,
                one.evidence,
                in_words(one.passed, one.cases),
                "yes" if one.takes_legs else "no",
                "yes" if one.published else "no",
            ]
            for one in listed_rules()
        ],
    )


TABLE: Final = MadeTable("rules", "streams.rule_list", _table)

if __name__ == "__main__":
    run(TABLE)
