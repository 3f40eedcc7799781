"""Rules are found without a list, and each of them is documented."""

import re
from pathlib import Path

from engine.rules.catalogue import infos, modules
from tests.venue_accounts import RULES

ROOT = Path(__file__).resolve().parents[2]


def test_every_rule_is_found() -> None:
    found = modules()
    assert set(RULES) <= set(found)
    assert list(found) == sorted(found)
    assert all(callable(getattr(module, name)) for module in found.values() for name in ("margins", "parts"))


def test_names_are_their_own() -> None:
    names = [info.name for info in infos()]
    assert names == sorted(set(names))


def test_every_rule_and_part_of_one_is_documented_and_nothing_else() -> None:
    text = (ROOT / "docs" / "rules.md").read_text()
    told = dict(re.findall(r"^\| `(\w+)` \|.*\| (yes|no) \|", text, re.MULTILINE))
    assert told == {info.name: "yes" if info.published else "no" for info in infos()}
