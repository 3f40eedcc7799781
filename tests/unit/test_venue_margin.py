"""One venue's leg by its own rule: each rule that takes one, worked out by hand; and what is missing, in words."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from streams.margin_models import VenueMargin, portfolio_margin, venue_margin
from streams.margin_picture import picture
from streams.portfolio import PortfolioFault, parse_portfolio
from streams.portfolio_book import PortfolioBook, book_of
from streams.presets import preset, whole
from streams.venue_margin import LegFault, VenueFinding
from tests.derive_accounts import pmrm2_parameters
from tests.reference.derive_srm import cases as srm_portfolios

BTC_USD = 100_000.0
CLOCK, EXPIRY = "2025-10-10T20:30:00Z", "2025-10-31T08:00:00Z"
WEIGHTS = {"init_asset_weight": 0.8, "maint_asset_weight": 0.9, "init_liab_weight": 1.2, "maint_liab_weight": 1.1}
PERP_WEIGHTS = {"init_asset_weight": 0.9, "maint_asset_weight": 0.95, "init_liab_weight": 1.1, "maint_liab_weight": 1.05}
EVEN = dict.fromkeys(WEIGHTS, 1.0)
V4_PERP = {
    "name": "BTC",
    "settle_token": 0,
    "init_base_asset_weight": 0.9,
    "maint_base_asset_weight": 0.95,
    "init_base_liab_weight": 1.1,
    "maint_base_liab_weight": 1.05,
    "init_overall_asset_weight": 1.0,
    "maint_overall_asset_weight": 1.0,
}
DRIFT_BTC = {
    "name": "BTC",
    "initial_asset_weight": 0.8,
    "maintenance_asset_weight": 0.9,
    "initial_liability_weight": 1.2,
    "maintenance_liability_weight": 1.1,
}
MANGO_V3 = {"rule": "mango_v3", "parameters": {"markets": [{"name": "BTC", "spot": WEIGHTS, "perp": PERP_WEIGHTS}]}}
MANGO_V4: dict[str, Any] = {
    "rule": "mango_v4",
    "parameters": {"tokens": [{"name": "USD", **EVEN}, {"name": "BTC", **WEIGHTS}], "perps": [V4_PERP]},
    "given": {"stable_usd": {"BTC": BTC_USD, "USD": 1.0}},
}
DRIFT: dict[str, Any] = {
    "rule": "drift_v2",
    "parameters": {
        "spots": [{"name": "USD"}, DRIFT_BTC],
        "perps": [{"name": "BTC", "margin_ratio_initial": 0.1, "margin_ratio_maintenance": 0.05}],
    },
}
DERIBIT_PM = {
    "price_range": 0.16,
    "pnl_offset": 0.5,
    "annualised_move_risk": 0.075,
    "min_annualised_move": 0.01,
    "extended_dampener_usd": 25_000,
}
AAVE: dict[str, Any] = {"reserves": [{"name": "BTC", "liquidation_threshold": 0.8, "loan_to_value": 0.7}]}

DOLLARS = {"venue": "ex", "instrument": "USD", "cash": -50_000}
COIN = {"venue": "ex", "instrument": "BTC", "quantity": 1}
SHORT = {"venue": "ex", "instrument": "PERP", "quantity": -0.5, "entry_price": 101_000}
LONG = {"venue": "ex", "instrument": "PERP", "quantity": 1, "entry_price": 99_000}
CALL = {"venue": "ex", "instrument": "CALL", "quantity": -1, "entry_price": 3_000}
INVERSE = {"venue": "ex", "instrument": "COIN-PERP", "quantity": -50_000, "entry_price": 100_000}
FUTURE = {"venue": "ex", "instrument": "FUTURE", "quantity": 2, "entry_price": 99_000}
CASH = {**DOLLARS, "cash": 20_000}


def instrument(name: str, contract: str, **terms: Any) -> dict[str, Any]:
    return {"venue": "ex", "name": name, "contract": contract, "underlying": "BTC", **terms}


def a_book(positions: list[dict[str, Any]], rule: dict[str, Any] | None, more: dict[str, Any] | None = None) -> PortfolioBook:
    content = {
        "clock": CLOCK,
        "chains": [{"name": "one"}],
        "venues": [{"name": "ex", "chain": "one"}, {"name": "other", "chain": "one"}],
        "assets": [{"name": "BTC"}, {"name": "ETH"}],
        "instruments": [
            instrument("PERP", "perpetual"),
            instrument("COIN-PERP", "inverse_perpetual"),
            instrument("COIN-FUTURE", "inverse_future", expiry=EXPIRY),
            instrument("FUTURE", "future", expiry=EXPIRY),
            instrument("CALL", "option", expiry=EXPIRY, strike=110_000),
        ],
        "marks": {"BTC": BTC_USD, "ETH": 4_000},
        "implied_volatilities": {"BTC": {EXPIRY: 0.6}} if CALL in positions else {},  # a book waits for them to be believed
        "positions": [*positions, {"venue": "other", "instrument": "USD", "cash": 1_000_000}],
        "rules": {} if rule is None else {"ex": rule},
        **(more or {}),
    }
    parameters = preset("default").parameters
    return book_of(parse_portfolio(json.dumps(content).encode()), "default", parameters, whole(parameters))


def found_of(positions: list[dict[str, Any]], rule: dict[str, Any], more: dict[str, Any] | None = None) -> VenueFinding:
    return venue_margin(a_book(positions, rule, more), "ex").finding


def parts_of(found: VenueFinding) -> dict[str, float | None]:
    return {part.name: part.value for part in found.parts}


def missing(positions: list[dict[str, Any]], rule: dict[str, Any] | None, more: dict[str, Any] | None = None) -> str:
    with pytest.raises(LegFault) as caught:
        venue_margin(a_book(positions, rule, more), "ex")
    return str(caught.value)


# ---- by hand --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "initial_usd", "maintenance_usd"),
    [(MANGO_V3, 25_000.0, 12_500.0), (MANGO_V4, 25_000.0, 12_500.0), (DRIFT, 25_400.0, 12_500.0)],
    ids=["mango_v3", "mango_v4", "drift_v2"],
)
def test_balances_and_a_perpetual(rule: dict[str, Any], initial_usd: float, maintenance_usd: float) -> None:
    """A coin, half of it sold as a perpetual with 500 of profit, 50,000 owed; Drift counts 100 of that profit at initial."""
    found = found_of([COIN, DOLLARS, SHORT], rule)
    assert found.equity_usd == pytest.approx(50_500.0)
    assert found.initial_usd == pytest.approx(initial_usd)
    assert found.maintenance_usd == pytest.approx(maintenance_usd)
    assert found.left_usd == pytest.approx(50_500.0 - maintenance_usd)
    assert any("BTC" in part.name for part in found.parts), "by the name of the market, not by its number"


def test_borrowing_on_hyperliquid() -> None:
    rule = {"rule": "hyperliquid_pm", "given": {"loan_to_value": {"BTC": 0.5}, "supply_cap": {"BTC": 10}}}
    parts = parts_of(found_of([COIN, DOLLARS], rule))
    assert parts["borrowable"] == pytest.approx(50_000.0)
    assert parts["portfolio margin ratio"] == pytest.approx(50_020.0 / 75_000.0)


def test_coin_margined_contracts_on_deribit() -> None:
    """Half a coin sold with a coin as margin: the worst is a rise to the end of the range, and nothing more is lost farther out."""
    found = found_of([COIN, INVERSE], {"rule": "deribit_pm", "parameters": DERIBIT_PM, "given": {"mmp_margin": 0.25}})
    parts = parts_of(found)
    assert found.equity_usd == pytest.approx(100_000.0)
    assert parts["roll_shock"] == pytest.approx(0.5 * 0.01 * BTC_USD)
    assert parts["mmp_margin"] == pytest.approx(0.25 * BTC_USD)
    assert parts["risk_matrix_margin"] is not None
    assert found.maintenance_usd == pytest.approx(0.8 * parts["risk_matrix_margin"])
    assert found.maintenance_usd is not None
    assert found.maintenance_usd > 0.8 * 0.5 * (1 - 1 / 1.16) * BTC_USD
    later = {**INVERSE, "instrument": "COIN-FUTURE"}
    dated = parts_of(found_of([COIN, later], {"rule": "deribit_pm", "parameters": {**DERIBIT_PM, "annualised_move_risk": 1.0}}))
    assert dated["roll_shock"] == pytest.approx(0.5 * (20 * 86_400 + 41_400) / (365 * 86_400) * BTC_USD)


def test_futures_on_dederi() -> None:
    found = found_of([FUTURE, {**DOLLARS, "cash": 40_000}], {"rule": "dederi"})
    assert found.equity_usd == pytest.approx(42_000.0)
    assert found.maintenance_usd == pytest.approx(0.15 * 200_000 + 0.006 * 200_000)


def test_a_short_option_on_bybit() -> None:
    book = a_book([CALL, CASH], {"rule": "bybit_uta"})
    found = venue_margin(book, "ex").finding
    [call] = [one for one in portfolio_margin(book).report.positions if one.instrument == "CALL"]
    assert call.value_usd is not None
    mark = 3_000.0 - call.value_usd
    assert 500.0 < mark < 5_000.0
    assert found.equity_usd == pytest.approx(23_000.0), "the mark is in the requirement"
    assert found.maintenance_usd == pytest.approx(0.03 * BTC_USD + mark + 0.002 * BTC_USD)
    assert found.initial_usd == pytest.approx(10_000.0 + max(mark, 3_000.0)), "10 % of the index: it is 10 % out of the money"
    assert "Position MM, CALL" in parts_of(found)


def test_a_perpetual_by_derives_rules() -> None:
    srm: Any = msgspec.to_builtins(srm_portfolios(None)[0].parameters)
    srm["markets"] = [{**srm["markets"][0], "name": "BTC"}]
    given = {"confidence": 1.0, "stable_usd": 1.0}
    found = found_of([LONG, CASH], {"rule": "derive_srm", "parameters": srm, "given": given})
    market = srm["markets"][0]
    assert found.equity_usd == pytest.approx(21_000.0)
    assert found.initial_usd == pytest.approx(market["perp_initial"] * BTC_USD)
    assert found.maintenance_usd == pytest.approx(market["perp_maintenance"] * BTC_USD)
    pmrm2: Any = msgspec.to_builtins(msgspec.structs.replace(pmrm2_parameters(), collaterals=()))
    whole_leg = found_of([LONG, CALL, CASH], {"rule": "derive_pmrm2", "parameters": pmrm2, "given": {**given, "rate": 0.0}})
    held = parts_of(whole_leg)
    assert held["cash"] == pytest.approx(23_000.0)
    assert held["unrealised perp PNL"] == pytest.approx(1_000.0)
    assert held["options mark to market"] is not None
    assert -5_000.0 < held["options mark to market"] < -500.0
    lower = found_of([LONG, CALL, CASH], {"rule": "derive_pmrm2", "parameters": pmrm2, "given": {**given, "rate": 0.0, "confidence": 0.1}})
    assert lower.initial_usd is not None
    assert whole_leg.initial_usd is not None
    assert lower.initial_usd > whole_leg.initial_usd


def test_a_pool_in_an_efficiency_mode() -> None:
    category = {"name": "coins", "collateral": [0], "loan_to_value": 0.9, "liquidation_threshold": 0.93}
    rule = {"rule": "aave_v3", "parameters": {**AAVE, "categories": [category]}}
    assert parts_of(found_of([COIN], rule))["BTC, collateral at liquidation threshold"] == pytest.approx(80_000.0)
    inside = found_of([COIN], {**rule, "given": {"mode": 1}})
    assert parts_of(inside)["BTC, collateral at liquidation threshold"] == pytest.approx(93_000.0)
    assert inside.distance is None, "nothing is owed"
    assert "given.mode: 2 is none of the 1 categories" in missing([COIN], {**rule, "given": {"mode": 2}})


def test_only_the_leg_of_that_venue_counts() -> None:
    assert found_of([COIN], {"rule": "aave_v3", "parameters": AAVE}).instruments == ["BTC"]


def test_without_a_mark_nothing_is_known_and_nothing_is_healthy() -> None:
    for positions, rule in (
        ([COIN], {"rule": "aave_v3", "parameters": AAVE}),
        ([COIN, DOLLARS, SHORT], MANGO_V3),
        ([FUTURE], {"rule": "dederi"}),
    ):
        found = found_of(positions, rule, {"marks": {"ETH": 4_000}})
        assert (found.equity_usd, found.maintenance_usd, found.left_usd, found.distance) == (None, None, None, None)


# ---- what is missing ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positions", "rule", "told"),
    [
        ([COIN], None, ["the file names no rule of ex: say rules.ex.rule"]),
        ([COIN], {"rule": "mango_v5"}, ["no rule is called 'mango_v5'; did you mean mango_v"]),
        ([COIN], {"rule": "okx"}, ["okx cannot take a leg of a portfolio: it needs the sizes"]),
        ([COIN], {"rule": "span16"}, ["risk arrays"]),
        ([], {"rule": "dederi"}, ["the account holds nothing at ex"]),
        (
            [FUTURE],
            {"rule": "dederi", "parameters": {"shock": [0.1], "contingency_factor": 2.0}},
            ["rules.ex.parameters.shock: not a parameter", "rules.ex.parameters.contingency_factor: "],
        ),
        (
            [COIN, CALL],
            {"rule": "dederi"},
            ["BTC (spot): the rule computes linear futures", "CALL (option): the rule computes linear futures"],
        ),
        (
            [{**CALL, "entry_price": None}, COIN],
            {"rule": "bybit_uta"},
            ["say entry_price of the position", "BTC (spot): the rule computes options"],
        ),
        (
            [COIN, SHORT, CASH, {**COIN, "instrument": "ETH"}],
            {"rule": "deribit_pm", "parameters": DERIBIT_PM},
            ["it holds BTC, USD, ETH, and the rule takes one", "PERP (perpetual): the rule computes coin-margined"],
        ),
        (
            [COIN, SHORT],
            {"rule": "hyperliquid_pm", "given": {"loan_to_value": {"ETH": 0.5}, "perps": 1}},
            [
                "given.loan_to_value.BTC: is missing; it is what share of it may be borrowed",
                "given.supply_cap.BTC: is missing",
                "PERP (perpetual): the rule takes balances and debts",
                "given.loan_to_value.ETH: the rule does not ask for it",
                "given.perps: the rule does not ask for it",
            ],
        ),
        (
            [COIN, {**COIN, "instrument": "ETH"}],
            {"rule": "aave_v3", "parameters": AAVE},
            ["ETH (spot): no reserve of the parameters is called ETH"],
        ),
        (
            [{**COIN, "entry_price": 90_000}],
            {"rule": "aave_v3", "parameters": AAVE},
            ["BTC (spot): no reserve of the parameters is called USD"],
        ),
        ([COIN], {"rule": "aave_v3", "parameters": AAVE, "given": {"mode": {"BTC": 1}}}, ["given.mode: must be one number"]),
        (
            [COIN, {**COIN, "instrument": "ETH"}, CALL, INVERSE],
            {**MANGO_V4, "given": {}},
            [
                "given.stable_usd.BTC: is missing; it is the venue's delay-limited price",
                "ETH (spot): no token of the parameters is called ETH",
                "CALL (option): the venue has balances and perpetuals alone",
                "COIN-PERP (inverse perpetual): the venue has balances and perpetuals alone",
            ],
        ),
        ([{**COIN, "instrument": "ETH"}], MANGO_V3, ["ETH (spot): no market of the parameters is called ETH"]),
        ([{**COIN, "instrument": "ETH"}], DRIFT, ["ETH (spot): no spot market of the parameters is called ETH"]),
    ],
)
def test_everything_that_is_missing_is_told(positions: list[dict[str, Any]], rule: dict[str, Any] | None, told: list[str]) -> None:
    text = missing(positions, rule)
    assert [words for words in told if words not in text] == []


def test_weights_that_scale_need_what_all_accounts_hold() -> None:
    tokens = [
        {"name": "USD", **EVEN},
        {"name": "BTC", **WEIGHTS, "deposit_weight_scale_start_usd": 1e6, "borrow_weight_scale_start_usd": 1e6},
    ]
    v4 = {**MANGO_V4, "parameters": {"tokens": tokens, "perps": [V4_PERP]}}
    assert "given.deposits.BTC: is missing" in missing([COIN], v4)
    assert "given.borrows.BTC: is missing" in missing([COIN], v4)
    stable = {"BTC": BTC_USD}
    few = found_of([COIN], {**v4, "given": {"stable_usd": stable, "deposits": {"BTC": 5}, "borrows": {"BTC": 0}}})
    many = found_of([COIN], {**v4, "given": {"stable_usd": stable, "deposits": {"BTC": 20}, "borrows": {"BTC": 0}}})
    assert few.initial_usd == pytest.approx(20_000.0)
    assert many.initial_usd == pytest.approx(BTC_USD * (1 - 0.8 / 2)), "twice as much as the start is worth half the weight"
    spots = [{"name": "USD"}, {**DRIFT_BTC, "scale_initial_asset_weight_start_usd": 1e6}]
    assert "given.deposits.BTC: is missing" in missing([COIN], {**DRIFT, "parameters": {"spots": spots}})


def test_what_derives_rules_lack() -> None:
    srm: Any = msgspec.to_builtins(srm_portfolios(None)[0].parameters)
    text = missing([LONG, INVERSE], {"rule": "derive_srm", "parameters": srm})
    for words in ("given.confidence: is missing", "given.stable_usd: is missing", "no market of the parameters is called BTC", "COIN-PERP"):
        assert words in text
    pmrm2: Any = msgspec.to_builtins(msgspec.structs.replace(pmrm2_parameters(), collaterals=()))
    text = missing([COIN], {"rule": "derive_pmrm2", "parameters": pmrm2})
    for words in ("given.rate: is missing", "no collateral of the parameters is called BTC", "the rule needs a perpetual or an option"):
        assert words in text


def venues_with(rule: dict[str, Any]) -> dict[str, Any]:
    return {"venues": [{"name": "other", "chain": "one"}, {"name": "ex", "chain": "one", "rule": rule}]}


def test_a_venue_that_says_its_rule_itself() -> None:
    given = {"loan_to_value": {"BTC": 0.5}, "supply_cap": {"BTC": 10}}
    said = found_of([COIN, DOLLARS], {"rule": "hyperliquid_pm", "given": given})
    for_all = {"loan_to_value": {"BTC": 0.5, "ETH": 0.4}, "supply_cap": {"BTC": 10, "ETH": 100}}
    rule = {"rule": "hyperliquid_pm", "given": for_all}
    assert venue_margin(a_book([COIN, DOLLARS], None, venues_with(rule)), "ex").finding == said
    text = missing([COIN, DOLLARS], None, venues_with({**rule, "given": {**for_all, "supply_cap": {"ETH": 10}}}))
    assert "given.supply_cap.BTC: is missing" in text
    assert "ETH" not in text


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ({"rule": "hyperliquid_pm", "parameters": {"cap": 1}}, "rule.parameters.cap: not a parameter"),
        ({"rule": "hyperliquid"}, "rule.rule: no rule is called 'hyperliquid'; did you mean hyperliquid_pm?"),
        ({"rule": "hyperliquid_pm", "given": {"caps": 1}}, "rule.given.caps: the rule does not ask for it"),
        ({"rule": "aave_v3", "parameters": AAVE, "given": {"mode": 2}}, "rule.given.mode: 2 is none of the 0 categories"),
    ],
)
def test_a_venue_whose_own_rule_is_wrong_is_none(rule: dict[str, Any], fault: str) -> None:
    with pytest.raises(PortfolioFault) as caught:
        a_book([COIN], None, venues_with(rule))
    assert caught.value.faults[0].startswith(f"venues[1]: invalid definition: {fault}")


def test_a_venues_rule_is_said_once() -> None:
    with pytest.raises(PortfolioFault) as caught:
        a_book([COIN], {"rule": "dederi"}, venues_with({"rule": "dederi"}))
    assert caught.value.faults == ["rules.ex: venues[1].rule says by which rule ex goes too; say it once"]


def test_a_venue_that_is_not_there() -> None:
    with pytest.raises(LegFault, match="no venue of the file is called 'othr'; did you mean other"):
        venue_margin(a_book([COIN], None), "othr")


# ---- what is printed ------------------------------------------------------------------------------------------------------------------


def shown(margin: VenueMargin) -> str:
    from rich.console import Console

    console = Console(width=160, no_color=True, force_terminal=False)
    with console.capture() as captured:
        console.print(picture(margin))
    return captured.get()


def test_how_far_it_is_from_liquidation_in_words() -> None:
    margin = venue_margin(a_book([COIN, DOLLARS, SHORT], MANGO_V3), "ex")
    assert margin.finding.left_usd == pytest.approx(38_000.0)
    assert margin.finding.distance is not None
    assert 0.15 < margin.finding.distance < 0.3
    assert f"a loss of the notional's {margin.finding.distance:.2%} from the venue's liquidation" in shown(margin)
    below = shown(venue_margin(a_book([FUTURE, {**DOLLARS, "cash": 1_000}], {"rule": "dederi"}), "ex"))
    assert "below maintenance by 28,200.00 USD: the venue may liquidate" in below
    unknown = shown(venue_margin(a_book([COIN], {"rule": "aave_v3", "parameters": AAVE}, {"marks": {}}), "ex"))
    assert "not known: something that it holds has no value" in unknown
    owing_nothing = shown(venue_margin(a_book([COIN], {"rule": "aave_v3", "parameters": AAVE}), "ex"))
    assert "nothing there can be liquidated" in owing_nothing
    assert "held against published numbers" in shown(margin)
    unproven = msgspec.structs.replace(margin, finding=msgspec.structs.replace(margin.finding, published=False))
    assert "no published number of it is known" in shown(unproven)
