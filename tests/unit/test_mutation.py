"""The tool behind `make mutate`: what it changes, that a test which notices kills, and that what nobody tests is told."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.mutation.mutants import KINDS, mutants_of
from tests.mutation.run import HERE, ROOT, read_explained, read_rules

LIMITS = "LIMIT = 10\n\n\ndef clamped(x: int) -> int:\n    return min(x, LIMIT)\n"
ENDS = "def ends(x: bool) -> bool:\n    while x:\n        x = False\n    return x\n"
UNTESTED = "def is_large(x: int) -> bool:\n    return x > 10\n"
TESTS = """from ends import ends
from limits import clamped


def test_clamped() -> None:
    assert [clamped(x) for x in (-1, 9, 10, 11, 12)] == [-1, 9, 10, 10, 10]


def test_ends() -> None:
    assert not ends(True)
"""


def becomes(source: str) -> list[str]:
    return [mutant.becomes for mutant in mutants_of("one.py", source.encode())]


@pytest.mark.parametrize(
    ("source", "mutants"),
    [
        ("x = 3", ["x = (-3)", "x = 0", "x = 4"]),
        ("x = 0.0", ["x = (-1.0)", "x = 1.0"]),
        ("x = -1", ["x = 0", "x = 1"]),
        ("x = True", ["x = False"]),
        ("x = 'up'", ["x = 'up~'"]),
        ("x = a < b", ["x = a <= b", "x = a >= b"]),
        ("x = a != b is c", ["x = a == b is c", "x = a != b is not c"]),
        ("x = (a) - (b)", ["x = (a) + (b)"]),
        ("x = a // b", ["x = a * b"]),
        ("x *= y", ["x /= y"]),
        ("x = a and b and c", ["x = a or b and c", "x = a and b or c"]),
        ("x = not a", ["x = a"]),
        ("x = ~a & b", ["x = a & b", "x = ~a | b"]),
        ("x = max(a, b)", ["x = min(a, b)"]),
        ("x = np.abs(a)", ["x = (a)"]),
        ("def f(x: 'int' = 0) -> 'int':\n    'doc'\n    return x", ["def f(x: 'int' = (-1)) -> 'int':", "def f(x: 'int' = 1) -> 'int':"]),
        ("@kernel(inline=True)\ndef f() -> int:\n    raise ValueError(f'no {1}')", []),
        ("from a import b\n__all__ = ['b']", []),
        ("Share = Annotated[float, Meta(ge=0.0, le=1.0)]", []),
        ("RULE: Final = RuleInfo(name='a', published=True, cases='three')", []),
        (
            "class Parameters(Struct):\n    share: Annotated[float, Meta(ge=0.0)] = 0.5",
            [f"share: Annotated[float, Meta(ge=0.0)] = {v}" for v in ("(-0.5)", "0.0", "1.5")],
        ),
        ("x = f'{a} is {b + c}'", ["x = f'{a} is {b - c}'"]),
        ("x = 'ä' + y", ["x = 'ä~' + y", "x = 'ä' - y"]),
    ],
)
def test_what_is_changed(source: str, mutants: list[str]) -> None:
    assert becomes(source) == mutants


def test_a_mutant_is_the_whole_source_with_one_splice() -> None:
    source = "A = 1\nB = (\n    A\n    + 2\n)\n"
    plus = [mutant for mutant in mutants_of("one.py", source.encode()) if mutant.kind == "arithmetic"]
    assert [(mutant.line, mutant.was, mutant.becomes) for mutant in plus] == [(4, "+ 2", "- 2")]
    assert plus[0].source.decode() == source.replace("+", "-")


class Ran(NamedTuple):
    code: int
    text: str
    told: dict[str, Any]

    def killed_by(self, file: str) -> set[tuple[str, str]]:
        return {(mutant["how"], mutant["by"]) for mutant in self.told["mutants"] if mutant["file"] == file}


def run_tool(folder: Path, *options: str, kinds: str = "") -> Ran:
    """A toy project of three modules, the last of them without a test; `kinds` is a line of its target."""
    modules = {"limits.py": LIMITS, "ends.py": ENDS, "untested.py": UNTESTED, "test_toy.py": TESTS}
    for name, source in modules.items():
        (folder / name).write_text(source)
    targets = [f'[[target]]\nfile = "{name}"\ntests = ["test_toy.py"]\n' for name in modules if not name.startswith("test_")]
    targets[-1] += kinds
    (folder / "targets.toml").write_text("share_max = 0.4\nslack_s = 0.5\n" + "".join(targets))
    explained = [("was = 'return x > 10'", "becomes = 'return x >= 10'"), ("was = 'return x * 10'", "becomes = 'return x / 10'")]
    (folder / "explained.toml").write_text(
        "".join(f"[[survivor]]\nfile = 'untested.py'\n{was}\n{becomes}\nwhy = 'no test'\n" for was, becomes in explained)
    )
    places = [f"--{name}={folder / file}" for name, file in (("root", ""), ("targets", "targets.toml"), ("explained", "explained.toml"))]
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutation.run", "--out", str(folder / "out.json"), *places, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    out = folder / "out.json"
    return Ran(done.returncode, done.stdout + done.stderr, json.loads(out.read_text()) if out.exists() else {})


def test_what_a_test_notices_is_killed_and_the_rest_told(tmp_path: Path) -> None:
    ran = run_tool(tmp_path)
    assert ran.told["modules"] == {
        "limits.py": {"mutants": 4, "killed": 4, "survivors": 0},
        "ends.py": {"mutants": 1, "killed": 1, "survivors": 0},
        "untested.py": {"mutants": 5, "killed": 0, "survivors": 5},
    }, ran.text
    assert ran.killed_by("limits.py") == {("failed", "test_toy.py::test_clamped")}
    assert ran.killed_by("ends.py") == {("no end", "test_toy.py::test_ends")}
    assert ran.code == 1
    _, told, wrong = ran.text.partition("5 of 10 mutants survive, more than 40%")
    assert told
    assert wrong.count("not explained: ") == 4
    assert "not explained: untested.py:2: comparison\n    was:     return x > 10\n    becomes: return x <= 10\n" in wrong
    assert "return x >= 10" not in wrong
    assert "explained, but nothing of it survives: untested.py\n    was:     return x * 10\n" in wrong
    assert [mutant["why"] for mutant in ran.told["mutants"] if mutant["becomes"] == "return x >= 10"] == ["no test"]


def test_where_all_is_killed_it_ends_well_and_a_limit_draws_some(tmp_path: Path) -> None:
    ran = run_tool(tmp_path, "--module", "limits.py", "--limit", "2")
    assert ran.code == 0, ran.text
    assert ran.told["modules"] == {"limits.py": {"mutants": 2, "killed": 2, "survivors": 0}}


def test_a_target_may_be_changed_in_some_ways_only_and_alone_has_no_share(tmp_path: Path) -> None:
    ran = run_tool(tmp_path, "--module", "untested.py", kinds='kinds = ["comparison"]\n')
    assert {mutant["kind"] for mutant in ran.told["mutants"]} == {"comparison"}
    assert ran.told["modules"] == {"untested.py": {"mutants": 2, "killed": 0, "survivors": 2}}
    assert (ran.code, "mutants survive" in ran.text) == (1, False)
    wrong = run_tool(tmp_path, kinds='kinds = ["comparison", "colour"]\n')
    assert wrong.code == 1
    assert "there is no kind colour" in wrong.text


def test_each_change_has_a_kind() -> None:
    source = "x = min(abs(a) + 1, b) if a < b and c else 'word'"
    found = {mutant.kind for mutant in mutants_of("one.py", source.encode())}
    assert found == KINDS == {"constant", "text", "comparison", "arithmetic", "boolean", "call"}


def test_without_a_test_that_passes_nothing_is_measured(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("def pytest_collection_modifyitems(items):\n    items.clear()\n")
    ran = run_tool(tmp_path, "--module", "limits.py")
    assert (ran.code, ran.told) == (2, {})
    assert "without a mutant, no test was found" in ran.text


def test_the_engines_targets_are_there() -> None:
    rules = read_rules(HERE / "targets.toml")
    assert rules.share_max == 0.05
    for target in rules.targets:
        assert (ROOT / target.file).is_file()
        assert [test for test in target.tests if not (ROOT / test.partition("::")[0]).is_file()] == []


def test_what_is_explained_is_a_mutant_of_the_engine() -> None:
    targets = read_rules(HERE / "targets.toml").targets
    there = {(m.file, m.was, m.becomes) for target in targets for m in target.mutants(ROOT)}
    assert set(read_explained(HERE / "explained.toml")) - there == set()
