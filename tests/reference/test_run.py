"""The runner's own conduct: what it counts, what it lists, when it fails."""

import json
import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from tests.reference import run
from tests.reference.case import CaseResult
from tests.reference.wormhole import CARRIED


def _passing(_: Path | None) -> list[CaseResult]:
    return [CaseResult("some", "one", True, "")]


def _failing(_: Path | None) -> list[CaseResult]:
    return [CaseResult("some", "two", False, "3, expected 4")]


def _raising(_: Path | None) -> list[CaseResult]:
    raise KeyError("hex")


def _empty(_: Path | None) -> list[CaseResult]:
    return []


def test_finds_the_families() -> None:
    assert {"wormhole", "aave_utilities"} <= set(run.collect())


def test_the_layout_of_a_reference_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(CARRIED / "crosschain", tmp_path / "crosschain")
    (tmp_path / "crosschain" / "other_messages.json").write_text("[]")
    (tmp_path / "proofs" / "trees").mkdir(parents=True)
    for name in ("a.json", "b.json", "README.md"):
        (tmp_path / "proofs" / "trees" / name).write_text("{}")
    (tmp_path / "market").mkdir()
    (tmp_path / "market" / "prices.csv").write_text("")
    families = run.collect()
    monkeypatch.setattr(run, "collect", lambda: {name: families[name] for name in ("wormhole", "aave_utilities")})
    assert run.main(["--reference", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    cases = len(families["wormhole"](tmp_path))
    assert lines[1].split() == ["wormhole", str(cases), "0"]
    assert [" ".join(line.split()) for line in lines[2:]] == [
        "aave_utilities - - not found in the folder",
        "crosschain/other_messages - - not yet covered (1 file)",
        "proofs/trees - - not yet covered (2 files)",
        f"{cases} passed, 0 failed",
    ]


@pytest.mark.parametrize("bad", [_failing, _raising, _empty])
def test_any_failure_is_named_and_fails_the_run(bad: run.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(run, "collect", lambda: {"good": _passing, "some": bad})
    assert run.main([]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "1 passed, 1 failed"
    assert lines[-2].startswith("FAILED some: ")


def test_told_figures_are_printed_though_they_passed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    results = [CaseResult("some", "one", True, "quiet"), CaseResult("some", "error", True, "median 1, maximum 3", told=True)]
    monkeypatch.setattr(run, "collect", lambda: {"some": lambda _: results})
    assert run.main([]) == 0
    printed = capsys.readouterr().out
    assert "some: error: median 1, maximum 3\n" in printed
    assert "quiet" not in printed


def test_all_passed_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(run, "collect", lambda: {"good": _passing})
    assert run.main([]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 0 failed"


def test_the_counts_that_plimsoll_models_shows_are_those_of_the_carried_cases() -> None:
    written = files("streams") / "rule_cases.json"
    assert run.cases_of_rules() == written.read_text(), "run: python -m tests.reference.run --models streams/rule_cases.json"


def test_counts_are_by_rule_and_failures_are_not_among_those_that_passed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def mixed(_: Path | None) -> list[CaseResult]:
        out = CaseResult("doc_worked_examples", "okx_mr9", False, "cannot be compared", left_out=True)
        told = [("okx_mr9", True), ("okx_other", False), ("bybit_put, MM", True), ("nobody's", True)]
        return [out, *(CaseResult("doc_worked_examples", case, passed, "") for case, passed in told)]

    monkeypatch.setattr(run, "collect", lambda: {"doc_worked_examples": mixed, "some": _failing})
    counts = {"bybit_uta": {"cases": 1, "passed": 1}, "okx": {"cases": 2, "passed": 1}}
    assert json.loads(run.cases_of_rules()) == counts
    file = tmp_path / "counts.json"
    assert run.main(["--models", str(file)]) == 0
    assert json.loads(file.read_text()) == counts
    with pytest.raises(SystemExit):
        run.main(["--models", str(file), "--reference", str(tmp_path)])


def test_a_folder_without_a_case_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "margin").mkdir()
    assert run.main(["--reference", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "0 passed, 0 failed"
    assert sum("not found in the folder" in line for line in lines) == len(run.collect())
