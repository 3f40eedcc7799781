"""Rules are found without a list, and each of them is documented."""

import importlib
import re
from pathlib import Path

from engine.rules.catalogue import infos, modules
from engine.rules.interface import RuleInfo
from tests.venue_accounts import RULES

ROOT = Path(__file__).resolve().parents[2]


def test_every_rule_is_found() -> None:
    found = modules()
    assert set(RULES) <= set(found)
    assert list(found) == sorted(found)
    assert all(hasattr(module, "parts") for module in found.values() if hasattr(module, "margins"))


def test_names_are_their_own() -> None:
    names = [info.name for info in infos()]
    assert names == sorted(set(names))


def test_every_rule_is_documented_and_what_is_said_of_its_evidence_is_so() -> None:
    text = (ROOT / "docs" / "rules.md").read_text()
    told = dict(re.findall(r"^\| `(\w+)` \|.*\| (yes|no) \|$", text, re.MULTILINE))
    known = {info.name: info for info in infos()}
    assert {name: "yes" if known[name].published else "no" for name in told} == told
    assert [name for name in modules() if name not in text] == []
    ours = {value.name for trial in RULES.values() for value in vars(trial.module).values() if isinstance(value, RuleInfo)}
    assert ours <= set(told)


def test_every_bound_of_a_set_is_told() -> None:
    text = (ROOT / "docs" / "rules.md").read_text()
    told = re.findall(r"^\| `(\w+)\.(\w+_MAX)` \| ([\d,]+) \|", text, re.MULTILINE)
    assert len(told) >= 3
    for module, name, figure in told:
        assert getattr(importlib.import_module(f"engine.rules.{module}"), name) == int(figure.replace(",", ""))
    bounds = {
        (trial.module.__name__.rpartition(".")[2], name) for trial in RULES.values() for name in vars(trial.module) if name.endswith("_MAX")
    }
    assert bounds <= {(module, name) for module, name, _ in told}
