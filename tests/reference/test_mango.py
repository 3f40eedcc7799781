"""The carried cases of Mango v4 and v3, each as a test of its own; and that the families notice what is wrong."""

import json
import shutil
from pathlib import Path

import pytest

from tests.reference import mango
from tests.reference.case import CaseResult

RESULTS = {name: run(None) for name, run in mango.families().items()}


@pytest.mark.parametrize(
    "result", [result for results in RESULTS.values() for result in results], ids=lambda one: f"{one.family}, {one.case}"
)
def test_agrees(result: CaseResult) -> None:
    assert result.passed, result.detail


def test_every_carried_case_ran() -> None:
    assert {name: len(results) for name, results in RESULTS.items()} == {mango.HEALTH: 19, mango.STABLE: 6, mango.V3: 60}


def test_a_wrong_answer_of_each_family_fails(tmp_path: Path) -> None:
    """One answer of each file is changed by a little more than its tolerance."""
    shutil.copytree(mango.CARRIED / "margin", tmp_path / "margin")
    shutil.copytree(mango.CARRIED / "accounts", tmp_path / "accounts")
    path = tmp_path / "margin" / "mango_v4_health.json"
    facts = json.loads(path.read_text())
    facts["cases"][3]["expected_init_health"] += 0.002
    path.write_text(json.dumps(facts))
    path = tmp_path / "margin" / "mango_v4_stable_price.json"
    facts = json.loads(path.read_text())
    facts["cases"][0]["steps"][2]["expect_stable"] += 0.2
    path.write_text(json.dumps(facts))
    path = tmp_path / "accounts" / "mango_v3_expected.json"
    facts = json.loads(path.read_text())
    facts["account5"]["expected"]["init_health"]["mango_explorer"] = "15144959.916"  # without what its open orders have free
    path.write_text(json.dumps(facts))
    failed = {name: [one.case for one in run(tmp_path) if not one.passed] for name, run in mango.families().items()}
    assert failed == {
        mango.HEALTH: ["2, init"],
        mango.STABLE: ["10x jump, step 2, expect_stable"],
        mango.V3: ["account5, init_health, explorer"],
    }


def test_an_account_without_a_known_answer_fails() -> None:
    facts = json.loads((mango.CARRIED / "margin" / "mango_v4_health.json").read_text())
    case = {name: value for name, value in facts["cases"][0].items() if not name.startswith("expected")}
    assert [result.passed for result in mango._health(facts, case)] == [False]
