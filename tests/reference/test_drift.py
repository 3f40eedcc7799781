"""The carried cases of Drift v2, each as a test of its own; and that the families notice what is wrong."""

import json
import shutil
from pathlib import Path

import pytest

from tests.reference import drift
from tests.reference.case import CaseResult

RESULTS = {name: run(None) for name, run in drift.families().items()}


@pytest.mark.parametrize(
    "result", [result for results in RESULTS.values() for result in results], ids=lambda one: f"{one.family}, {one.case}"
)
def test_agrees(result: CaseResult) -> None:
    assert result.passed, result.detail


def test_every_carried_case_ran() -> None:
    assert {name: len(results) for name, results in RESULTS.items()} == {drift.WEIGHTS: 26, drift.SIZING: 39, drift.ACCOUNTS: 10}


def test_wrong_answers_and_unknown_groups_fail(tmp_path: Path) -> None:
    shutil.copytree(drift.CARRIED / "margin", tmp_path / "margin")
    path = tmp_path / "margin" / "drift_v2_weights.json"
    facts = json.loads(path.read_text())
    facts["cases"][4]["expect"] += 1
    facts["cases"][0]["kind"] = "other"
    path.write_text(json.dumps(facts))
    path = tmp_path / "margin" / "drift_v2_liquidation_sizing.json"
    facts = json.loads(path.read_text())
    for group in drift.GROUPS:
        case = facts[group][0]
        name = next(one for one in ("expect", "expect_base", "expect_raw") if one in case)
        case[name] = case[name] + 1 if name == "expect_raw" else case[name] + 1e-4
    facts["others"] = [{"expect": 1}]
    path.write_text(json.dumps(facts))
    assert sum(not result.passed for result in drift.weights(tmp_path)) == 2
    failed = [result.case.partition(",")[0] for result in drift.sizing(tmp_path) if not result.passed]
    assert sorted(failed) == sorted([*drift.GROUPS, "others"])


def test_an_error_is_an_answer_only_where_the_program_has_one(tmp_path: Path) -> None:
    nobody = {"kind": "perp funding delta", "loss": 1, "base_long": 0, "base_short": 0}
    (tmp_path / "margin").mkdir()
    path = tmp_path / "margin" / "drift_v2_liquidation_sizing.json"
    path.write_text(json.dumps({"socialized_loss": [nobody | {"expect": "error"}, nobody | {"expect_raw": 0}]}))
    assert [result.passed for result in drift.sizing(tmp_path)] == [True, False]


def test_accounts_that_are_wrong_or_of_other_markets_fail(tmp_path: Path) -> None:
    (tmp_path / "margin").mkdir()
    facts = json.loads((drift.CARRIED / "margin" / "drift_v2_accounts.json").read_text())
    first = facts["cases"][0]
    facts["cases"] = [
        first | {"margin_requirement": 50_000.00999},
        first | {"total_collateral": 50_000.00001},
        first | {"level": "Maintenance"},
        first | {"spots": {"BTC": {"balance": 1}}},
        first | {"spots": {"SOL": {"balance": 1, "colour": "red"}}},
        {name: value for name, value in first.items() if not name.startswith(("margin", "total"))},
    ]
    (tmp_path / "margin" / "drift_v2_accounts.json").write_text(json.dumps(facts))
    assert not any(result.passed for result in drift.accounts(tmp_path))
