"""The carried cases of Mango v4 and v3, each as a test of its own; and that the families notice what is wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.rules import mango_v3
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


def test_open_orders_of_v3_are_counted_once() -> None:
    """The explorer's `Spot` has what is in orders: 5 held, and 2 free and 3 locked in the book, are 10 at 7 USD; 11 of quote are locked."""
    rows = mango.v3_rows(mango.CARRIED / "accounts" / "account2.csv")
    coin = next(row for row in rows if row["Symbol"] == "MNGO")
    coin |= {"InMarginBasket": "True", "CurrentPrice": "7", "Spot": "10", "BaseUnsettled": "2", "BaseLocked": "3", "QuoteLocked": "11"}
    alone = [coin, rows[-1] | {"Spot": "0"}]
    own, out, measures = mango.v3_inputs(alone), np.empty((1, 4)), np.empty((1, mango_v3.MEASURES))
    arrays = mango_v3.terms(mango.v3_market(alone[:-1]))
    mango_v3.margins(own, arrays, out)
    mango_v3.measures(own, arrays, measures)
    assert out[0, 0] == pytest.approx(10.0 * 7.0 + 11.0)
    assert measures[0, mango_v3.INIT] == pytest.approx((10.0 * 7.0 + 11.0) * 0.2)  # all bids filled
    assert measures[0, mango_v3.MAINT] == pytest.approx((10.0 * 7.0 + 11.0) * 0.6)


def test_an_account_or_a_measure_without_a_counterpart_fails(tmp_path: Path) -> None:
    shutil.copytree(mango.CARRIED / "accounts", tmp_path / "accounts")
    shutil.copy(tmp_path / "accounts" / "account2.csv", tmp_path / "accounts" / "account9.csv")
    path = tmp_path / "accounts" / "mango_v3_expected.json"
    facts = json.loads(path.read_text())
    facts["account3"]["expected"]["worth"] = {"typescript_client": "0", "mango_explorer": "0"}
    path.write_text(json.dumps(facts))
    assert [result.case for result in mango.accounts(tmp_path) if not result.passed] == ["account3, worth", "account9"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"token7": 3}, "token7"),
        ({"extra": "oo_1_2 lowest_placed_ask=3 or so"}, "or so"),
        ({"extra": "oo_2_3 lowest_placed_ask=3"}, "oo_2_3"),
        ({"bank_settings": [{}, {}, {}, {}]}, "more banks"),
        ({"expected_health": 1.0}, "no health that we know of"),
    ],
)
def test_what_a_v4_case_says_and_nobody_reads_fails_it(change: dict[str, object], told: str) -> None:
    facts = json.loads((mango.CARRIED / "margin" / "mango_v4_health.json").read_text())
    failed = [result.detail for result in mango._health(facts, facts["cases"][1] | change) if not result.passed]
    assert len(failed) == 1
    assert told in failed[0]
