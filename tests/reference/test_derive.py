"""The carried cases of Derive, and that the comparison with them can fail."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs, to_builtins

from engine.rules.derive_pmrm2 import Parameters, terms
from engine.rules.faults import read
from tests.reference import derive_pmrm2, derive_srm
from tests.reference.case import CaseResult

RESULTS = [result for module in (derive_pmrm2, derive_srm) for run in module.families().values() for result in run(None)]


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: f"{result.family} {result.case}")
def test_agrees(result: CaseResult) -> None:
    assert result.passed, result.detail


def test_every_carried_case_ran() -> None:
    ran = [result.family for result in RESULTS]
    assert {family: ran.count(family) for family in set(ran)} == {
        "derive_pmrm2": 2 * 8 + 1,
        "derive_srm": 9 + 1,
        "derive_liquidation": 16 + 1,
    }


def test_summaries_are_told() -> None:
    told = {result.family: result.detail for result in RESULTS if result.told}
    assert told["derive_srm"] == "9 of 9 portfolios to the dollar"
    assert told["derive_liquidation"] == "16 of 16 bids"
    assert told["derive_pmrm2"].startswith("16 margins, relative error maximum")


# Those that decide no margin of the carried cases; each has a test by hand in tests/unit.
NO_EFFECT = frozenset({"k_star_min", "range_down", "days_floor", "basis_add", "basis_mult"})


def test_parameters_are_read_from_the_case() -> None:
    """Another value of a parameter, other margins of at least one case: nothing is a constant of ours."""
    singles = [name for name in Parameters.__struct_fields__ if name not in {"scenarios", "collaterals"}]
    assert {name for name in singles if not _decides(name)} == NO_EFFECT


# What the venue's contract lets a parameter be (PMRMLib_2 of derivexyz/v2-core); its test portfolios 72 to 139 have each at both ends.
BOUNDS = {
    **dict.fromkeys(("linear_scale", "abs_scale", "k_star_min", "width", "vol_static", "range_up", "range_down"), (0.0, 10.0)),
    **dict.fromkeys(("linear_base", "abs_base"), (-10.0, 10.0)),
    **dict.fromkeys(("short_power", "long_power", "short_mult", "long_mult", "short_add", "long_add", "peg_loss_factor"), (0.0, 10.0)),
    **dict.fromkeys(("basis_add", "basis_mult", "shocked_sigma_min", "confidence_margin"), (0.0, 20.0)),
    **dict.fromkeys(("initial_factor", "maintenance_factor"), (0.5, 10.0)),
    **dict.fromkeys(("discount", "discount_negative"), (0.0, 4.0)),
    **dict.fromkeys(("perp_maintenance", "perp_initial"), (0.0, 3.0)),
    **dict.fromkeys(("option_maintenance", "option_initial"), (0.0, 2.0)),
    "vol_scale": (-20.0, 20.0),
    "days_floor": (0.0, 400.0),
    "spot_up": (1.000001, 2.999999),
    "spot_down": (1e-5, 0.999999),
    "peg_loss_threshold": (0.0, 100.0),
    "confidence_threshold": (0.0, 1.0),
}


def test_a_parameter_may_be_what_the_venue_lets_it_be() -> None:
    """And every portfolio has a number then."""
    assert {*BOUNDS, "scenarios", "collaterals"} == set(Parameters.__struct_fields__)
    for case in derive_pmrm2.carried():
        document = to_builtins(case.parameters)
        for name, ends in BOUNDS.items():
            for value in ends:
                parameters = read(Parameters, {**document, name: value})
                assert isinstance(parameters, Parameters), parameters
                assert np.isfinite(derive_pmrm2.evaluated(replace(case, parameters=parameters))).all(), (case.name, name, value)


def _decides(name: str) -> bool:
    for case in derive_pmrm2.carried():
        before = getattr(case.parameters, name)
        for value in (before * 0.5, before * 1.5 + 0.2):
            other = replace(case, parameters=structs.replace(case.parameters, **{name: value}))
            if derive_pmrm2.evaluated(other) != derive_pmrm2.evaluated(case):
                return True
    return False


def test_a_parameter_of_the_venue_that_we_do_not_know_fails() -> None:
    names = dict.fromkeys(derive_pmrm2._NAMES.values(), 1.0)
    document: dict[str, Any] = {"Scenarios": []}
    for path, value in names.items():
        group, _, key = path.partition(".")
        document.setdefault(group, {})[key] = value
    document["OtherContingency"] |= {"IM_PERP_PERCENT_NORMAL": 2.0, "IM_OPTION_PERCENT_NORMAL": 2.0}
    assert derive_pmrm2.venue_parameters(document, [])["width"] == 1.0
    document["Margin"]["NEW_FACTOR"] = 1.0
    with pytest.raises(ValueError, match=r"Margin\.NEW_FACTOR"):
        derive_pmrm2.venue_parameters(document, [])
    document["Margin"].pop("NEW_FACTOR")
    document["OtherContingency"]["IM_PERP_PERCENT_NORMAL"] = 3.0
    with pytest.raises(ValueError, match="PERP"):
        derive_pmrm2.venue_parameters(document, [])


def test_a_portfolio_that_cannot_be_read_fails_by_name_and_the_others_run(tmp_path: Path) -> None:
    folder = tmp_path / "margin" / "derive_pmrm2"
    folder.mkdir(parents=True)
    (folder / "test_1_no_result.json").write_text("{}")
    (folder / "test_2_no_json.json").write_text("{")
    (folder / "notes.txt").write_text("")
    results = derive_pmrm2.run(tmp_path)
    assert [(result.case, result.passed) for result in results] == [("test_1_no_result", False), ("test_2_no_json", False)]


def test_a_wrong_margin_fails_by_name(tmp_path: Path) -> None:
    carried = derive_srm.CARRIED / "margin" / "derive_srm.json"
    document = json.loads(carried.read_text())
    document["cases"]["test_short_OTM_call"]["results"]["im"] += 1
    document["env_override_by_case"]["test_long_ATM_call"] = {"eth_moon_conf": 1}
    (tmp_path / "margin").mkdir()
    (tmp_path / "margin" / carried.name).write_text(json.dumps(document))
    assert [result.case for result in derive_srm.run(tmp_path) if not result.passed] == ["test_long_ATM_call", "test_short_OTM_call", "all"]


def test_a_wrong_bid_fails_by_name(tmp_path: Path) -> None:
    carried = derive_srm.CARRIED / "margin" / "derive_liquidation.json"
    document = json.loads(carried.read_text())
    document["cases"]["Test4"]["Actions"][1]["Results"]["ExpectedBidPrice"] *= 1.001
    document["cases"]["InsolventTest1"] = {"StartTime": 0, "Actions": []}
    paid = {"PreMtM": 10, "PreMM": -10, "PreBM": -12, "SMPayout": -3}
    document["cases"]["insolvent"] = {"StartTime": 0, "Actions": [{"Time": 0, "Liquidator": {"PercentWant": 1}, "Results": paid}]}
    done = document["cases"]["Test1"] | {"Actions": [dict(document["cases"]["Test1"]["Actions"][0])]}
    done["Actions"][0]["Results"] = {"PreMtM": 100, "PreMM": 50, "PreBM": 40, "PreFMax": 1, "ExpectedBidPrice": 0}
    document["cases"]["done"] = done
    (tmp_path / "margin").mkdir()
    (tmp_path / "margin" / carried.name).write_text(json.dumps(document))
    results = derive_srm.run_auction(tmp_path)
    assert [result.case for result in results if not result.passed] == ["Test4, bid 2", "done, bid 1", "all"]
    assert results[-1].detail.endswith("not used: InsolventTest1, insolvent")


@pytest.mark.parametrize(
    ("ours", "same"), [(880.0, True), (879.9999999999999, True), (879.99, False), (-880.9, False), (float("nan"), False)]
)
def test_dollars_are_cut_towards_zero(ours: float, same: bool) -> None:
    assert derive_srm.same_dollar(ours, 880) is same
    assert derive_srm.same_dollar(-880.9, -880)


def test_errors_are_relative_and_what_is_missing_is_wrong() -> None:
    assert derive_pmrm2.relative_error(101.0, 100.0) == pytest.approx(0.01)
    assert derive_pmrm2.relative_error(0.0, 0.0) == 0.0
    assert derive_pmrm2.relative_error(1e-20, 0.0) == float("inf")
    assert derive_pmrm2.relative_error(float("nan"), 1.0) == float("inf")


def test_terms_keep_every_parameter() -> None:
    """Each single number of the parameters is in the arrays that the kernel reads, under its own name."""
    case = derive_pmrm2.carried()[0]
    arrays = terms(case.parameters)
    singles = [name for name in case.parameters.__struct_fields__ if name not in {"scenarios", "collaterals"}]
    assert {name: getattr(arrays, name) for name in singles} == {name: getattr(case.parameters, name) for name in singles}
