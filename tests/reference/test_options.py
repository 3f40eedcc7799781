"""The carried Deribit quotes and SPAN arrays, through our own pricing; and that a wrong or unusable row does not pass in silence."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.reference import options
from tests.reference.case import CaseResult

DOCUMENT = Path(__file__).parents[2] / "docs" / "options.md"
CASES = {options.GREEKS: 310 + 326 + 2 * 2, options.SPAN: 16 + 16 + 3 + 1}


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


def test_what_is_allowed_is_a_share_of_the_forward() -> None:
    """The same option at ten times the prices is worth as many coins, and may be off by as many."""
    quotes, _ = options.read_quotes(options.CARRIED / "options" / "deribit_full_greeks_2020_05" / "btc_20200514.csv")
    for quote in quotes[:20]:
        allowed = options.errors(quote)
        dear = options.errors(replace(quote, forward_usd=10.0 * quote.forward_usd, strike_usd=10.0 * quote.strike_usd))
        assert dear.price_allowed_btc == pytest.approx(allowed.price_allowed_btc, rel=1e-9)
        assert dear.delta_allowed == pytest.approx(allowed.delta_allowed, rel=1e-9)


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
    assert failed == ["future, scenario 4 (+1/3;down)", "call, scenario 4 (+1/3;down)", "call, 14 inner rows"]


def test_arrays_of_another_option_are_left_out_by_name(tmp_path: Path) -> None:
    """The rule itself (tests.reference.span_requirements) reads any; the engine's price curve is fitted to this call."""
    (tmp_path / "margin").mkdir()
    text = (options.CARRIED / "margin" / "span_sp500_risk_arrays.csv").read_text()
    (tmp_path / "margin" / "span_sp500_risk_arrays_put.csv").write_text(text.replace("dec410_call", "dec400_put"))
    [result] = options.span_sp500(tmp_path)
    assert (result.case, result.left_out) == ("span_sp500_risk_arrays_put", True)


INNER, EXTREMES = set(range(14)), {14, 15}
DOWN = {number for number in INNER if options.SPAN_STEPS[number][1] == "down"}
UNMOVED = {0, 1}


@pytest.mark.parametrize(
    ("change", "future_rows", "call_rows"),
    [
        (
            {"classes": {"major": {"scan_floor": 0.05, "scan_cap": 0.05, "vol_coefficient": 0.0}}},
            (INNER - UNMOVED) | EXTREMES,
            (INNER - UNMOVED) | EXTREMES,
        ),
        ({"extreme_fraction": 0.3}, EXTREMES, EXTREMES),
        ({"extreme_multiple": 3.0}, EXTREMES, EXTREMES),
        ({"vol_shock": 0.35}, set(), INNER),
        ({"vol_min": 0.3}, set(), INNER - DOWN),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_span_rows_are_the_engines_own(change: dict[str, Any], future_rows: set[int], call_rows: set[int]) -> None:
    """Other parameters, other rows: exactly those that the parameter speaks of."""
    stated, other = options.SpanMarket(), options.SpanMarket({**options.SPAN_PARAMETERS, **change})
    for lots, expected in (((1, 0), future_rows), ((0, 1), call_rows)):
        pairs = zip(stated.array(*lots).profits_usd, other.array(*lots).profits_usd, strict=True)
        assert {number for number, (one, two) in enumerate(pairs) if abs(one - two) > 1.0} == expected


def test_what_is_told_where_it_passed_too() -> None:
    """`make reference` prints medians, 99th percentiles, maxima and exclusions of each file, and both extremes."""
    told = [result for family in options.families().values() for result in family(None) if result.told]
    deribit = [result.detail for result in told if result.family == options.GREEKS]
    assert len(deribit) == 4
    assert all(word in detail for detail in deribit for word in ("median", "p99", "maximum", "excluded"))
    span = {result.case for result in told if result.family == options.SPAN}
    assert {f"{what}, scenario {which}" for what in ("future", "call") for which in ("15 (+extreme)", "16 (-extreme)")} <= span
