"""The carried Deribit quotes and SPAN arrays, through our own pricing; and that a wrong or unusable row does not pass in silence."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reference import options
from tests.reference.case import CaseResult

DOCUMENT = Path(__file__).parents[2] / "docs" / "options.md"
CASES = {options.GREEKS: 310 + 326 + 2 * 2, options.SPAN: 16 + 16 + 3}


@pytest.mark.parametrize("family", CASES)
def test_every_carried_case_agrees(family: str) -> None:
    results = options.families()[family](None)
    assert [f"{result.case}: {result.detail}" for result in results if not result.passed] == []
    assert len(results) == CASES[family]


def test_no_carried_quote_is_excluded() -> None:
    for path in (options.CARRIED / "options").glob("*/*.csv"):
        assert options.read_quotes(path)[1] == []


def test_the_documented_figures_are_the_printed_ones() -> None:
    documented = DOCUMENT.read_text().splitlines()
    assert [line for line in options.table(None) if line not in documented] == []


def _with_one_row_changed(folder: Path, change: Callable[[dict[str, str]], None]) -> list[CaseResult]:
    """The first carried file with its at-the-money call of a week changed, run as a folder of reference data."""
    carried = next((options.CARRIED / "options").glob("*/btc_20200514.csv"))
    with carried.open(newline="") as file:
        rows = list(csv.DictReader(file))
    [row] = [row for row in rows if row["instrument_name"] == "BTC-22MAY20-9250-C"]
    change(row)
    copy = folder / "options" / options.GREEKS / carried.name
    copy.parent.mkdir(parents=True)
    with copy.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return options.deribit_full_greeks(folder)


@pytest.mark.parametrize(("column", "off_by"), [("mark_price", 0.001), ("delta", 0.01), ("mark_iv", 2.0), ("underlying_price", 50.0)])
def test_a_quote_that_is_off_fails_by_name(column: str, off_by: float, tmp_path: Path) -> None:
    def change(row: dict[str, str]) -> None:
        row[column] = str(float(row[column]) + off_by)

    failed = [result.case for result in _with_one_row_changed(tmp_path, change) if not result.passed]
    assert failed == ["btc_20200514 BTC-22MAY20-9250-C"]


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [("mark_iv", "", "no mark_iv"), ("mark_iv", "0.0", "no implied volatility"), ("timestamp", "1590134400000", "expired")],
)
def test_an_unusable_quote_is_excluded_by_name(column: str, value: str, why: str, tmp_path: Path) -> None:
    results = _with_one_row_changed(tmp_path, lambda row: row.update({column: value}))
    assert "btc_20200514 BTC-22MAY20-9250-C" not in {result.case for result in results}
    [price, delta] = results[-2:]
    for summary in (price, delta):
        assert f"309 options, 1 excluded; BTC-22MAY20-9250-C: {why}" in summary.detail


def test_a_wrong_span_row_fails(tmp_path: Path) -> None:
    carried = options.CARRIED / "margin" / "span_sp500_risk_arrays.csv"
    (tmp_path / "margin").mkdir()
    (tmp_path / "margin" / carried.name).write_text(carried.read_text().replace("3330,1730", "3340,1830"))
    failed = [result.case for result in options.span_sp500(tmp_path) if not result.passed]
    assert failed == ["future, scenario 4 (+1/3;down)", "call, scenario 4 (+1/3;down)"]
