"""`plimsoll models`: every rule with its evidence, for people and for programs."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from engine.rules.adapters import ADAPTERS, CANNOT
from engine.rules.catalogue import infos, modules
from engine.rules.choice import choose
from streams.command_line import app
from streams.rule_list import listed_rules


def test_every_rule_is_listed_with_what_it_says_of_itself() -> None:
    listed = {one.name: one for one in listed_rules()}
    assert list(listed) == [info.name for info in infos()]
    for info in infos():
        one = listed[info.name]
        assert (one.version, one.title, one.sources, one.measure) == (info.version, info.title, info.sources, info.measure)
        assert (one.published, one.evidence) == (info.published, info.cases)


def test_what_is_published_has_cases_and_nothing_else_does() -> None:
    assert {one.name for one in listed_rules() if one.cases > 0} == {info.name for info in infos() if info.published}
    assert [one.name for one in listed_rules() if one.passed != one.cases] == []


def test_every_rule_takes_a_leg_or_says_why_not() -> None:
    assert set(ADAPTERS) | set(CANNOT) == set(modules())
    assert not set(ADAPTERS) & set(CANNOT)
    for one in listed_rules():
        assert one.takes_legs != bool(one.takes_no_legs)


def test_a_table_and_json() -> None:
    printed = CliRunner().invoke(app, ["models"], env={"COLUMNS": "160"})
    said = CliRunner().invoke(app, ["models", "--json"])
    assert (printed.exit_code, said.exit_code) == (0, 0)
    found = {one["name"]: one for one in json.loads(said.output)["rules"]}
    lines = {line.split()[0]: line for line in printed.output.splitlines() if line.strip()}
    for one in listed_rules():
        assert found[one.name]["passed"] == one.passed
        assert found[one.name]["sources"] == list(one.sources)
        assert one.version in lines[one.name]
        assert (f"{one.passed} of {one.cases}" if one.cases else "none") in lines[one.name]
    assert f"takes no leg: {CANNOT['okx']}" in printed.output


def test_an_example_of_each_rule_can_be_put_into_a_definition() -> None:
    for rule in ADAPTERS:
        printed = CliRunner().invoke(app, ["models", "--example", rule])
        assert printed.exit_code == 0
        said = json.loads(printed.output)
        assert set(said) == {"rule", "parameters", "given"}
        assert not isinstance(choose(said["rule"], said["parameters"], said["given"]), list)


def test_there_is_no_example_of_what_takes_no_leg() -> None:
    for name, why in (("okx", "stablecoin"), ("aave", "no rule is called so; those that take a leg are aave_v3, ")):
        said = CliRunner().invoke(app, ["models", "--example", name])
        assert (said.exit_code, said.stdout) == (2, "")
        assert why in said.stderr
