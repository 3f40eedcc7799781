"""The carried answers of venues through our rules; that a wrong figure fails by name, and that nothing is left out in silence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.reference import aave, deribit_pme, derive_srm, drift, mango, run, scenario_grids, span_requirements, worked_examples
from tests.reference.case import CaseResult

CASES = {deribit_pme: 22, span_requirements: 16 + 16 + 3, worked_examples: 20 + 1, scenario_grids: 24 + 16}
LEFT_OUT = ["nse_span_broker_crosscheck, 1 lot NIFTY fut (65)"]


@pytest.mark.parametrize("module", CASES, ids=lambda module: module.FAMILY)
def test_every_carried_case_agrees(module: Any) -> None:
    results = module.run(None)
    assert [f"{result.case}: {result.detail}" for result in results if not result.passed] == []
    assert len(results) == CASES[module]


def test_what_is_left_out_is_named_with_its_reason() -> None:
    left_out = [result for module in CASES for result in module.run(None) if result.left_out]
    assert [result.case for result in left_out] == LEFT_OUT
    assert all(result.detail for result in left_out)


def test_what_is_left_out_is_counted_apart(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def some(_: Path | None) -> list[CaseResult]:
        return [CaseResult("some", "one", True, ""), CaseResult("some", "two", True, "no answer is printed", told=True, left_out=True)]

    monkeypatch.setattr(run, "collect", lambda: {"some": some})
    assert run.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["some", "1", "0", "1", "left", "out"],
        ["LEFT", "OUT", "some:", "two:", "no", "answer", "is", "printed"],
        ["1", "passed,", "0", "failed"],
    ]


def failed(module: Any, folder: Path, name: str, change: Callable[[str], str]) -> list[str]:
    """Names of the cases that fail when the carried file is changed."""
    text = (module.CARRIED / "margin" / name).read_text()
    (folder / "margin").mkdir()
    (folder / "margin" / name).write_text(change(text))
    return [result.case for result in module.run(folder) if not result.passed]


def changed(case: int, path: tuple[str, ...], value: object) -> Callable[[str], str]:
    def change(text: str) -> str:
        document = json.loads(text)
        place = document["cases"][case]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        return json.dumps(document)

    return change


DERIBIT = "deribit_pme_simulate_examples.json"


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (changed(0, ("expected", "roll_shock"), 0.00315725898 + 2e-9), ["btc_doc, roll_shock"]),
        (changed(0, ("params", "mm_factor"), 0.81), ["btc_doc, maintenance_margin"]),
        (changed(1, ("params", "pnl_offset"), 0.5), ["eth_fixture, aggregated standard"]),
        (changed(1, ("params", "extended_dampener"), 0.0), ["eth_fixture, aggregated extended"]),
        (changed(1, ("params", "no_such"), 0.0), ["eth_fixture, parameters"]),
        (changed(1, ("expected", "vega_shock"), 0.0), ["eth_fixture"]),
        (changed(0, ("positions", "BTC-PERPETUAL", "margin"), 0.0), ["btc_doc"]),
        (changed(0, ("index",), None), ["btc_doc"]),
        (changed(0, ("positions", "BTC-28JUN24", "extended"), [0.0]), ["btc_doc, BTC-28JUN24, extended"]),
        (
            changed(0, ("params", "annualised_move_risk"), 1.0),  # 11 days are then more than the minimum
            ["btc_doc, roll_shock", "btc_doc, risk_matrix_margin", "btc_doc, initial_margin", "btc_doc, maintenance_margin"],
        ),
    ],
)
def test_a_wrong_deribit_figure_fails_by_name(change: Callable[[str], str], names: list[str], tmp_path: Path) -> None:
    assert failed(deribit_pme, tmp_path, DERIBIT, change) == names


def test_a_dated_future_without_a_time_is_told(tmp_path: Path) -> None:
    def change(text: str) -> str:
        document = json.loads(text)
        del document["cases"][0]["timestamp_ms"]
        document["cases"][0]["id"] = "another"
        return json.dumps(document)

    assert failed(deribit_pme, tmp_path, DERIBIT, change) == []
    assert any(result.told and "BTC-28JUN24" in result.detail for result in deribit_pme.run(tmp_path))


@pytest.mark.parametrize("instrument", ["BTC-28JUN24-70000-C", "BTC_USDC-PERPETUAL"])
def test_what_is_not_a_coin_settled_future_leaves_its_case_out_by_name(instrument: str, tmp_path: Path) -> None:
    assert failed(deribit_pme, tmp_path, DERIBIT, lambda text: text.replace("BTC-28JUN24", instrument)) == []
    assert [(result.case, instrument in result.detail) for result in deribit_pme.run(tmp_path) if result.left_out] == [("btc_doc", True)]


def test_years_to_expiry() -> None:
    assert deribit_pme.years_to_expiry("BTC-PERPETUAL", None) == 0.0
    assert deribit_pme.years_to_expiry("BTC-28JUN24", 1_719_561_600_000 - 365 * 86_400_000) == 1.0
    assert deribit_pme.years_to_expiry("BTC-28JUN24", 2_000_000_000_000) == 0.0
    assert deribit_pme.years_to_expiry("BTC-28JUN24", None) is None
    assert deribit_pme.years_to_expiry("BTC_USDC", 0) is None


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ("0.03*20250,0.03*290", "0.04*20250,0.04*290", ["bybit_short_put_cross, MM"]),
        ("(0.15*20250", "(0.25*20250", ["bybit_short_put_cross, IM"]),
        ("MM=max(0.03*30000", "MM=min(0.03*30000", ["bybit_short_call_cross"]),
        ("4e6*0.0175", "4e6*0.0185", ["okx_mr9"]),
        ("4e6*0.0175", "four", ["okx_mr9"]),
        ('"ltv": 0.5', '"ltv": 0.6', ["hyperliquid_pm_borrowable"]),
        ('"-15": -3380', '"-15": -3381', ["dederi_future, gain at -15 %", "dederi_future, worst loss and contingency"]),
        ('"factor": 0.006', '"factor": 0.007', ["dederi_future, contingency", "dederi_future, worst loss and contingency"]),
        ("2253.2", "2253.3", ["dederi_future, price"]),
        ('"NOV": -28447', '"NOV": -28448', ["nse_span_broker_crosscheck, short 23700CE (65)"]),
        ("okx_mr9", "other_mr9", ["other_mr9"]),
        ('"ltv": 0.5', '"ltv": 0.5, "borrowed": 1', ["hyperliquid_pm_borrowable"]),
        ('"qty": 10', '"size": 10', ["dederi_future"]),
    ],
)
def test_a_wrong_example_fails_by_name(before: str, after: str, names: list[str], tmp_path: Path) -> None:
    assert failed(worked_examples, tmp_path, "doc_worked_examples.json", lambda text: text.replace(before, after)) == names


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        (
            "14,-3/3;down,-10000,-3990,-6010",
            "14,-3/3;down,-10000,-4990,-5010",
            ["long_dec410_call_pnl, requirement"],
        ),
        ("3,+1/3;up,3330,2640,690", "3,+1/3;up,3330,2640,700", ["covered_write_pnl(long fut, short call), scenario 3"]),
        ("15,+extreme,7000,3130,3870", "15,+extreme,9900,3130,6770", ["future, array, scenario 15"]),
        ("10000,3990,6620", "10000,3990,6630", ["covered_write_pnl(long fut, short call), requirement"]),
        ("(long fut, short call)", "(long fut, short put)", ["covered_write_pnl(long fut, short put)"]),
        ("1,unch;vol up", "17,unch;vol up", ["span_sp500_risk_arrays"]),
    ],
)
def test_a_wrong_array_fails_by_name(before: str, after: str, names: list[str], tmp_path: Path) -> None:
    assert failed(span_requirements, tmp_path, "span_sp500_risk_arrays.csv", lambda text: text.replace(before, after)) == names


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ("paradex,22,3.0,0.4,0.0533", "paradex,22,3.0,0.4,0.0534", ["paradex, scenario 22"]),
        ("paradex,12,-0.08", "paradex,12,-0.07", ["paradex, scenario 12"]),
        ("span16,5,-0.3333 x PSR,1,1", "span16,5,-0.3333 x PSR,-1,1", ["span16, scenario 5"]),
        ("NSCCL 2x", "NSCCL 3x", ["span16, scenario 15"]),
        ("span16,2,0.0000 x PSR", "span16,2,unchanged", ["span16, scenario 2"]),
    ],
)
def test_a_wrong_grid_fails_by_name(before: str, after: str, names: list[str], tmp_path: Path) -> None:
    assert failed(scenario_grids, tmp_path, "scenario_grids.csv", lambda text: text.replace(before, after)) == names


def test_a_grid_that_no_rule_has_is_left_out_by_name(tmp_path: Path) -> None:
    assert failed(scenario_grids, tmp_path, "scenario_grids.csv", lambda text: text.replace("paradex", "elsewhere")) == []
    assert [result.case for result in scenario_grids.run(tmp_path) if result.left_out] == ["elsewhere"]


# A field that nobody reads, and one that is missing, in an object of each family; and the names of what fails for it.
UNREAD = [
    (aave, aave.run, "aave_utilities_health_factor.json", ("health_factor", 0)),
    (aave, aave.run, "aave_utilities_health_factor.json", ("accrual", 0)),
    (drift, drift.weights, "drift_v2_weights.json", ("cases", 3)),
    (drift, drift.weights, "drift_v2_weights.json", ("scale_initial_asset_weight", 1)),
    (drift, drift.sizing, "drift_v2_liquidation_sizing.json", ("perp_if_fee", 0)),
    (mango, mango.health, "mango_v4_health.json", ("cases", 1)),
    (mango, mango.health, "mango_v4_health.json", ("cases", 0, "perp")),
    (mango, mango.health, "mango_v4_health.json", ("cases", 11, "bank_settings", 0)),
    (mango, mango.health, "mango_v4_health.json", ("setup", "token1")),
    (mango, mango.health, "mango_v4_health.json", ("setup", "perp")),
    (derive_srm, derive_srm.run, "derive_srm.json", ("cases", "test_short_OTM_call")),
    (derive_srm, derive_srm.run, "derive_srm.json", ("cases", "test_short_OTM_call", "options", 0)),
    (derive_srm, derive_srm.run, "derive_srm.json", ("env",)),
]


@pytest.mark.parametrize(("module", "check", "name", "path"), UNREAD)
def test_a_field_without_a_meaning_to_us_fails(
    module: Any, check: Callable[[Path], list[CaseResult]], name: str, path: tuple[str | int, ...], tmp_path: Path
) -> None:
    text = (module.CARRIED / "margin" / name).read_text()
    (tmp_path / "margin").mkdir()
    document = json.loads(text)
    place = document
    for key in path:
        place = place[key]
    place["new_field"] = 1
    (tmp_path / "margin" / name).write_text(json.dumps(document))
    found = [result for result in check(tmp_path) if not result.passed and "new_field" in result.detail]
    assert found
    if path[0] in {"cases", "health_factor", "accrual"}:
        assert len(found) == 1


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (aave.run, "aave_utilities_health_factor.json"),
        (drift.weights, "drift_v2_weights.json"),
        (drift.sizing, "drift_v2_liquidation_sizing.json"),
        (mango.health, "mango_v4_health.json"),
        (mango.stable_price, "mango_v4_stable_price.json"),
        (derive_srm.run_auction, "derive_liquidation.json"),
        (worked_examples.run, "doc_worked_examples.json"),
        (span_requirements.run, "span_sp500_risk_arrays.csv"),
        (scenario_grids.run, "scenario_grids.csv"),
    ],
)
def test_every_file_of_a_family_is_read(check: Callable[[Path | None], list[CaseResult]], source: str, tmp_path: Path) -> None:
    """A second file of the same beginning, in a folder too; one with another ending would be left unread, so the family fails."""
    one, _, ending = source.rpartition(".")
    more = tmp_path / "margin" / f"{one}_more"
    more.mkdir(parents=True)
    text = (aave.CARRIED / "margin" / source).read_text()
    for path in (tmp_path / "margin" / source, more / f"again.{ending}"):
        path.write_text(text)
    assert sum(not result.told for result in check(tmp_path)) == 2 * sum(not result.told for result in check(None))
    (more / "README.md").write_text("")
    check(tmp_path)
    (more / "again.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"again\.yaml"):
        check(tmp_path)
