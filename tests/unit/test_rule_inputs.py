"""What a rule is given of what accounts hold: each array of its inputs, worked out by hand, and what is told of who cannot be taken."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from engine.rules.adapters import ADAPTERS
from engine.rules.choice import Choice, choose
from engine.rules.legs import Adapted, Given, Legs, Needs, VenueLegs, no_legs
from engine.tables import CONTRACTS
from tests.venue_legs import ASSETS, LISTED, MARKS_USD, TRIALS, choice_of

NUMBERS = {one.name: number for number, one in enumerate(LISTED)}
APART = 1.25  # what dated contracts are worth, of the mark of their asset
YEAR_S = 31_536_000.0


class Held(NamedTuple):
    """What one account holds of an instrument; `quote` where it is another than that of the instrument."""

    name: str
    units: float
    cash: float = 0.0
    entry_usd: float = float("nan")
    buys: float = 0.0
    sells: float = 0.0
    quote: str | None = None


def legs_of(*accounts: list[Held], given: Given) -> VenueLegs:
    held = [one for account in accounts for one in account]
    instrument = np.array([NUMBERS[one.name] for one in held], np.int64)
    listed = [LISTED[number] for number in instrument.tolist()]
    asset = np.array([one.asset for one in listed], np.int64)
    quote = np.array([of.quote if one.quote is None else ASSETS.index(one.quote) for one, of in zip(held, listed, strict=True)], np.int64)
    mark_usd, units, cash = np.array(MARKS_USD)[asset], np.array([one.units for one in held]), np.array([one.cash for one in held])
    contract = np.array([one.contract for one in listed], np.int64)
    cash_usd = cash * np.array(MARKS_USD)[quote]
    legs = Legs(
        start=np.cumsum([0, *(len(account) for account in accounts)]),
        instrument=instrument,
        contract=contract,
        asset=asset,
        quote=quote,
        units=units,
        cash=cash,
        cash_usd=cash_usd,
        mark_usd=mark_usd,
        value_usd=units * np.where(contract > CONTRACTS.index("perpetual"), APART, 1.0) * mark_usd + cash_usd,
        strike_usd=np.array([one.strike_usd for one in listed]),
        is_call=np.array([one.is_call for one in listed]),
        years=np.array([one.years for one in listed]),
        sigma=np.array([one.sigma for one in listed]),
        entry_usd=np.array([one.entry_usd for one in held]),
        buys=np.array([one.buys for one in held]),
        sells=np.array([one.sells for one in held]),
    )
    return VenueLegs("ex", legs, [one.name for one in LISTED], list(ASSETS), np.array(MARKS_USD), given)


def adapted(rule: str, held: VenueLegs, parameters: dict[str, Any] | None = None) -> tuple[list[Adapted], Needs]:
    choice = choice_of(rule) if parameters is None else choose(rule, parameters, {})
    assert isinstance(choice, Choice), choice
    needs = Needs(held)
    return ADAPTERS[rule](held, choice.parameters, needs), needs


def inputs_of(one: Adapted) -> dict[str, Any]:
    return {name: getattr(values, "tolist", lambda values=values: values)() for name, values in one.inputs._asdict().items()}


def holders(needs: Needs) -> list[int]:
    return np.flatnonzero(needs.not_taken).tolist()


# ---- lending --------------------------------------------------------------------------------------------------------------------------


def test_a_pool_is_given_what_is_supplied_and_owed() -> None:
    accounts = [Held("BTC", 0.5), Held("USD", -500.0)], [Held("ETH", 0.0), Held("ETH-loan-1.0-0.0", -3.0)], [Held("RARE", 1.0)]
    [one], needs = adapted("aave_v3", legs_of(*accounts, [Held("BTC-perpetual-1.0-0.0", 1.0)], given={"mode": 1.0}))
    expected = {
        "start": [0, 2, 4, 4, 4],
        "reserve": [2, 1, 0, 0],
        "supplied": [0.5, 0.0, 0.0, 0.0],
        "is_collateral": [True, False, False, False],
        "owed": [0.0, 500.0, 0.0, 3.0],
        "mode": [1, 1, 1, 1],
        "price_usd": [4_000.0, 1.0, 100_000.0, np.nan],
    }
    np.testing.assert_equal(inputs_of(one), expected)
    assert one.words() == {"reserve 0": "ETH", "reserve 1": "USD", "reserve 2": "BTC", "reserve 3": "DARK"}
    assert needs.told() == [
        "BTC-perpetual-1.0-0.0 (perpetual): the rule takes balances and debts; how a contract's profit counts here is not published",
        "RARE (spot): no reserve of the parameters is called RARE",
    ]
    assert holders(needs) == [2, 3]


@pytest.mark.parametrize(
    ("given", "mode", "fault"),
    [
        ({}, 0, ""),
        ({"mode": 0.0}, 0, ""),
        ({"mode": 2.0}, 0, "given.mode: 2 is none of the 1 categories, counted from 1; 0 is none"),
        ({"mode": -1.0}, 0, "given.mode: -1 is none of the 1 categories, counted from 1; 0 is none"),
        ({"mode": {"BTC": 1.0}}, 0, "given.mode: must be one number"),
    ],
)
def test_an_efficiency_mode_is_none_unless_it_is_given(given: Given, mode: int, fault: str) -> None:
    [one], needs = adapted("aave_v3", legs_of([Held("BTC", 1.0)], given=given))
    assert one.inputs.mode.tolist() == [mode]
    assert needs.faults == ([fault] if fault else [])


def test_borrowing_is_given_tokens_and_dollars() -> None:
    accounts = [Held("BTC", 2.0), Held("USD", -100.0), Held("USDC", 50.0)], [Held("SOL", 0.0), Held("USD", 7.0)], [Held("ETH", -1.0)]
    [one], needs = adapted("hyperliquid_pm", legs_of(*accounts, given=TRIALS["hyperliquid_pm"].given))
    expected = {
        "start": [0, 1, 2, 3],
        "balance": [2.0, 0.0, 0.0],
        "supply_cap": [5.0, 15.0, 10.0],
        "price_usd": [100_000.0, 200.0, 4_000.0],
        "loan_to_value": [0.2, 0.2 * 3, 0.4],
        "cash_usd": [-50.0, 7.0, 0.0],
        "perp_maintenance_usd": [0.0, 0.0, 0.0],
    }
    np.testing.assert_equal(inputs_of(one), expected)
    assert needs.missing() == ["ETH (spot): the rule knows what is owed in dollars alone"]


# ---- options and futures --------------------------------------------------------------------------------------------------------------


def test_options_are_given_with_what_they_cost_and_are_worth() -> None:
    put, call = "BTC-option-0.9-0.1", "BTC-option-1.1-0.5"
    accounts = (
        [Held(put, -1.0, 3_000.0, 3_500.0), Held(call, 1.0, -2.0, 9.0), Held("USD", 100.0), Held("SOL-option-1.0-0.1", 2.0)],
        [Held(call, 0.0, 5.0)],
        [Held(call, -1.0)],
        [Held("USDC", 1.0), Held("USD", 7.0)],
    )
    [one], needs = adapted("bybit_uta", legs_of(*accounts, given={}))
    expected = {
        "start": [0, 3, 4, 5, 5],
        "size": [-1.0, 1.0, 2.0, 0.0, -1.0],
        "is_call": [False, True, False, True, True],
        "index_usd": [100_000.0, 100_000.0, 200.0, 100_000.0, 100_000.0],
        "strike_usd": [90_000.0, 110_000.0, 200.0, 110_000.0, 110_000.0],
        "entry_usd": [3_500.0, 0.0, 0.0, 0.0, np.nan],
        "mark_usd": [125_000.0, 125_000.0, 250.0, 0.0, 125_000.0],
        "equity_usd": [3_098.0, 5.0, 0.0, 0.9995 + 7.0],
    }
    np.testing.assert_equal(inputs_of(one), expected)
    assert one.words() == {"leg 0": put, "leg 1": call, "leg 2": "SOL-option-1.0-0.1", "leg 3": call, "leg 4": call}
    assert [line.partition(":")[0] for line in needs.told()] == ["USDC (spot)", f"{call} (option)"]
    assert holders(needs) == [2, 3]


def test_futures_are_given_with_their_own_price_and_that_of_the_coin() -> None:
    future, other = "BTC-future-0.9-0.1", "SOL-future-1.0-0.1"
    accounts: tuple[list[Held], ...] = (
        [Held(future, 1.0, -90_000.0), Held("BTC-future-1.1-0.5", -1.0, 5.0), Held("USD", 40.0)],
        [Held(future, 0.0, 5.0)],
        [],
        [Held(other, 2.0), Held(future, 3.0)],
        [Held("USDC", 1.0)],
    )
    [one], needs = adapted("dederi", legs_of(*accounts, given={}))
    expected = {
        "start": [0, 2, 3, 3, 5, 5],
        "quantity": [1.0, -1.0, 0.0, 2.0, 3.0],
        "price_usd": [125_000.0, 125_000.0, 0.0, 250.0, 125_000.0],
        "index_usd": [100_000.0, 100_000.0, 0.0, 200.0, 0.0],
        "equity_usd": [-89_955.0, 5.0, 0.0, 375_500.0, 0.9995],
    }
    np.testing.assert_equal(inputs_of(one), expected)
    assert needs.told() == [
        "the rule takes one underlying: the account has futures of SOL, BTC",
        "USDC (spot): the rule computes linear futures against dollars; the wiki has no numbers of the rest that we could hold it to",
    ]
    assert holders(needs) == [3, 4]


def test_coin_margined_contracts_are_given_in_coins() -> None:
    perp, future = "BTC-inverse_perpetual-1.0-0.0", "ETH-inverse_future-1.1-0.5"
    accounts: tuple[list[Held], ...] = (
        [Held("BTC", 1.0), Held(perp, 2.0, 0.5)],
        [],
        [Held(future, -3.0)],
        [Held(perp, 1.0), Held(future, 1.0)],
        [Held("BTC-perpetual-1.0-0.0", 1.0, 2.0)],
        [Held("BTC", 1.0, 2.0)],
    )
    [one], needs = adapted("deribit_pm", legs_of(*accounts, given={"mmp_margin": 0.25}))
    expected = {
        "start": [0, 1, 1, 2, 4, 4, 4],
        "size": [2.0, -3.0, 1.0, 1.0],
        "years": [0.0, 0.5, 0.0, 0.5],
        "index_usd": [100_000.0, 1.0, 4_000.0, 100_000.0, 100_000.0, 100_000.0],
        "equity": [4.0, 0.0, -3.75, 1.3, 100_002.0 / 100_000.0, 100_002.0 / 100_000.0],
        "correlation_contingency": [0.0] * 6,
        "mmp_margin": [0.25] * 6,
        "open_orders_margin": [0.0] * 6,
        "spot_margin": [0.0] * 6,
    }
    np.testing.assert_equal(inputs_of(one), expected)
    assert [line.partition(";")[0] for line in needs.told()] == [
        "the account is segregated by coin: it holds BTC, ETH, and the rule takes one",
        "BTC-perpetual-1.0-0.0 (perpetual): the rule computes coin-margined futures and perpetuals",
        "BTC (spot): its cash is in USD, which is no margin of a segregated coin",
    ]
    assert holders(needs) == [3, 4, 5]
    [said], _ = adapted("deribit_pm", legs_of([Held("BTC", 1.0)], given={"open_orders_margin": 0.5, "spot_margin": 0.125}))
    assert [said.inputs.mmp_margin[0], said.inputs.open_orders_margin[0], said.inputs.spot_margin[0]] == [0.0, 0.5, 0.125]


# ---- balances and perpetuals ----------------------------------------------------------------------------------------------------------

BTC_PERP, ETH_PERP, SOL_PERP = "BTC-perpetual-1.0-0.0", "ETH-perpetual-1.0-0.0", "SOL-perpetual-1.0-0.0"
WEIGHTS = {"init_asset_weight": 0.8, "maint_asset_weight": 0.9, "init_liab_weight": 1.2, "maint_liab_weight": 1.1}
MIXED: tuple[list[Held], ...] = (
    [
        Held("BTC", 2.0, buys=0.25, sells=8.0),
        Held(BTC_PERP, 3.0, -5.0, buys=0.5, sells=4.0),
        Held("USD", 100.0),
        Held(ETH_PERP, -1.0, 7.0, sells=0.5),
        Held("BTC-loan-1.0-0.0", -0.5, sells=1.0),
        Held("BTC", 0.0, buys=0.5),
    ],
    [],
    [Held("ETH", -4.0), Held("USD", 9.0), Held("ETH", 1.0)],
)


def test_mango_v4_is_given_one_entry_for_each_token_and_market() -> None:
    perp = {
        "settle_token": 0,
        **{f"{level}_base_{side}_weight": 1.0 for level in ("init", "maint") for side in ("asset", "liab")},
        "init_overall_asset_weight": 1.0,
        "maint_overall_asset_weight": 1.0,
    }
    parameters = {
        "tokens": [
            {"name": "USD", **WEIGHTS, "borrow_weight_scale_start_usd": 1e17},
            {"name": "ETH", **WEIGHTS},
            {"name": "BTC", **WEIGHTS, "deposit_weight_scale_start_usd": 1e17},
            {"name": "ELSEWHERE", **WEIGHTS},
        ],
        "perps": [
            {"name": "ETH", **perp},
            {"name": "BTC", **perp},
            {"name": "SOL", **perp, "settle_token": 3},
        ],
    }
    given = {"stable_usd": {"USD": 1.0, "BTC": 99.0, "ETH": 98.0}, "deposits": {"BTC": 5.0}, "borrows": {"USD": 6.0}}
    refused = [Held(SOL_PERP, 1.0)], [Held("SOL", 1.0)], [Held("DARK-perpetual-1.0-0.0", 1.0)], [Held(BTC_PERP, 1.0, 0.0, quote="ETH")]
    [one], needs = adapted("mango_v4", legs_of(*MIXED, *refused, given=given), parameters)
    expected = {
        "token_start": [0, 2, 2, 4, 4, 4, 4, 4],
        "token": [0, 2, 0, 1],
        "token_balance": [100.0, 1.5, 9.0, -3.0],
        "order_start": [0] * 8,
        "order_base_token": [],
        "order_quote_token": [],
        "order_base_reserved": [],
        "order_quote_reserved": [],
        "order_highest_bid": [],
        "order_lowest_ask": [],
        "perp_start": [0, 2, 2, 2, 3, 3, 3, 4],
        "perp": [0, 1, 2, 1],
        "perp_base": [-1.0, 3.0, 1.0, 1.0],
        "perp_quote": [7.0, -5.0, 0.0, 0.0],
        "perp_bids": [0.0, 0.5, 0.0, 0.0],
        "perp_asks": [0.5, 4.0, 0.0, 0.0],
        "oracle_usd": [1.0, 4_000.0, 100_000.0, np.nan],
        "stable_usd": [1.0, 98.0, 99.0, np.nan],
        "deposits": [0.0, 0.0, 5.0, 0.0],
        "borrows": [6.0, 0.0, 0.0, 0.0],
        "potential_order_tokens": [0.0] * 4,
        "perp_oracle_usd": [4_000.0, 100_000.0, 200.0],
        "perp_stable_usd": [98.0, 99.0, np.nan],
    }
    np.testing.assert_equal(inputs_of(one), expected)
    assert one.words() == {"token 0": "token USD", "token 1": "token ETH", "token 2": "token BTC", "token 3": "token ELSEWHERE"}
    assert needs.told() == [
        "SOL (spot): no token of the parameters is called SOL",
        "DARK-perpetual-1.0-0.0 (perpetual): no perpetual of the parameters is called DARK",
        "BTC-perpetual-1.0-0.0 (perpetual): the venue's perpetuals are settled in dollars, not ETH",
        "given.stable_usd.SOL: is missing; it is the venue's delay-limited price",
    ]
    assert (holders(needs), np.flatnonzero(needs.lacking).tolist()) == ([4, 5, 6], [3])


def test_who_uses_what_mango_v4_must_be_told() -> None:
    """Each needs the price of the tokens that it holds, of its perpetuals and of what they settle in; what scales, who holds that."""
    parameters = {**TRIALS["mango_v4"].parameters, "perps": [{**TRIALS["mango_v4"].parameters["perps"][0], "settle_token": 1}]}
    accounts = [Held("ETH", 1.0)], [Held(ETH_PERP, 1.0)], [Held("USD", 1.0)], [Held("BTC", 1.0)]
    for given, lacking in (
        ({"stable_usd": {"ETH": 1.0, "USD": 1.0}, "deposits": {"BTC": 1.0}, "borrows": {"BTC": 1.0}}, [1, 3]),
        ({"stable_usd": {"BTC": 1.0, "USD": 1.0}, "deposits": {"BTC": 1.0}, "borrows": {"BTC": 1.0}}, [0, 1]),
        ({"stable_usd": {"ETH": 1.0, "BTC": 1.0}, "deposits": {"BTC": 1.0}, "borrows": {"BTC": 1.0}}, [2]),
        ({"stable_usd": {"ETH": 1.0, "BTC": 1.0, "USD": 1.0}, "borrows": {"BTC": 1.0}}, [1, 3]),
        ({"stable_usd": {"ETH": 1.0, "BTC": 1.0, "USD": 1.0}, "deposits": {"BTC": 1.0}}, [1, 3]),
    ):
        _, needs = adapted("mango_v4", legs_of(*accounts, given=given), parameters)
        assert np.flatnonzero(needs.lacking).tolist() == lacking, given


def test_mango_v3_is_given_a_markets_spot_and_its_perpetual_apart() -> None:
    parameters = {"markets": [{"name": name, "spot": WEIGHTS, "perp": WEIGHTS} for name in ("ETH", "BTC")]}
    refused = [Held("RARE", 1.0)], [Held("BTC-option-1.1-0.5", 1.0)], [Held(BTC_PERP, 1.0, quote="ETH"), Held("USDC", 3.0)]
    [one], needs = adapted("mango_v3", legs_of(*MIXED, *refused, given={}), parameters)
    zeros = [0.0] * 5
    expected = {
        "start": [0, 3, 3, 4, 4, 4, 5],
        "market": [0, 1, 1, 0, 1],
        "spot": [0.0, 1.5, 0.0, -3.0, 0.0],
        "in_basket": [False] * 5,
        "order_base_free": zeros,
        "order_base_locked": zeros,
        "order_quote_free": zeros,
        "order_quote_locked": zeros,
        "perp_base": [-1.0, 0.0, 3.0, 0.0, 1.0],
        "perp_quote": [7.0, 0.0, -5.0, 0.0, 0.0],
        "perp_bids": [0.0, 0.0, 0.5, 0.0, 0.0],
        "perp_asks": [0.5, 0.0, 4.0, 0.0, 0.0],
        "quote_usd": [100.0, 0.0, 9.0, 0.0, 0.0, 3.0],
        "price_usd": [4_000.0, 100_000.0],
    }
    np.testing.assert_equal(inputs_of(one), expected)
    assert one.words() == {"spot 0": "spot ETH", "perp 0": "perp ETH", "spot 1": "spot BTC", "perp 1": "perp BTC"}
    assert needs.told() == [
        "RARE (spot): no market of the parameters is called RARE",
        "BTC-option-1.1-0.5 (option): the venue has balances and perpetuals alone",
        "BTC-perpetual-1.0-0.0 (perpetual): the venue's perpetuals are settled in dollars, not ETH",
    ]
    assert holders(needs) == [3, 4, 5]


def test_drift_is_given_one_order_for_each_position_with_any() -> None:
    coin = {"initial_asset_weight": 0.8, "maintenance_asset_weight": 0.9}
    coin |= {"initial_liability_weight": 1.2, "maintenance_liability_weight": 1.1}
    perp = {"margin_ratio_initial": 0.1, "margin_ratio_maintenance": 0.05}
    parameters = {
        "spots": [{"name": "USD"}, {"name": "ETH", **coin}, {"name": "BTC", **coin, "scale_initial_asset_weight_start_usd": 0.5}],
        "perps": [{"name": "BTC", **perp}, {"name": "ETH", **perp}],
    }
    given = {"deposits": {"BTC": 5.0}}
    [one], needs = adapted("drift_v2", legs_of(*MIXED, [Held(SOL_PERP, 1.0)], [Held("SOL", 1.0)], given=given), parameters)
    expected = {
        "spot_start": [0, 2, 2, 4, 4, 4],
        "spot": [0, 2, 0, 1],
        "spot_balance": [100.0, 1.5, 9.0, -3.0],
        "spot_bids": [0.0, 0.75, 0.0, 0.0],
        "spot_asks": [0.0, 9.0, 0.0, 0.0],
        "spot_orders": [0, 3, 0, 0],
        "perp_start": [0, 2, 2, 2, 2, 2],
        "perp": [0, 1],
        "perp_base": [3.0, -1.0],
        "perp_quote": [-5.0, 7.0],
        "perp_bids": [0.5, 0.0],
        "perp_asks": [4.0, 0.5],
        "perp_orders": [1, 1],
        "custom_ratio": [0.0] * 5,
        "spot_usd": [1.0, 4_000.0, 100_000.0],
        "spot_deposits": [0.0, 0.0, 5.0],
        "perp_usd": [100_000.0, 4_000.0],
    }
    np.testing.assert_equal(inputs_of(one), expected)
    assert one.words() == {
        "spot 0": "spot USD",
        "spot 1": "spot ETH",
        "spot 2": "spot BTC",
        "perp 0": "perp BTC",
        "perp 1": "perp ETH",
    }
    assert needs.told() == [
        "SOL (spot): no spot market of the parameters is called SOL",
        "SOL-perpetual-1.0-0.0 (perpetual): no perpetual of the parameters is called SOL",
    ]
    assert holders(needs) == [3, 4]
    [said], _ = adapted("drift_v2", legs_of([], given={"custom_ratio": 0.25}), parameters)
    assert said.inputs.custom_ratio.tolist() == [0.25]


# ---- Derive ---------------------------------------------------------------------------------------------------------------------------

PUT, CALL, SOL_PUT = "BTC-option-0.9-0.1", "BTC-option-1.1-0.5", "SOL-option-1.0-0.1"
DERIVE = [
    Held(CALL, 2.0, 10.0),
    Held(PUT, -1.0, 20.0),
    Held(BTC_PERP, 3.0, -5.0),
    Held("BTC", 1.0),
    Held("USD", 100.0),
    Held("USDC", 50.0),
    Held("ETH-loan-1.0-0.0", -2.0),
]


def test_derives_standard_manager_is_given_markets_expiries_and_options() -> None:
    accounts = (
        DERIVE,
        [Held(SOL_PUT, 1.0), Held(CALL, 4.0)],
        [Held("RARE-option-1.0-0.1", 1.0), Held("RARE-perpetual-1.0-0.0", 1.0), Held("RARE", 1.0)],
        [Held("BTC-inverse_perpetual-1.0-0.0", 1.0)],
        [Held("ETH", 1.0, quote="BTC"), Held(BTC_PERP, 1.0, 2.0, quote="ETH")],
    )
    [one], needs = adapted("derive_srm", legs_of(*accounts, given={"confidence": 0.9}))
    marks_usd, sure = [200.0, np.nan, 100_000.0, 4_000.0], [0.9] * 4
    expected = {
        "stable_usd": 0.9995,
        "spot_usd": marks_usd,
        "spot_confidence": sure,
        "perp_usd": marks_usd,
        "perp_confidence": sure,
        "expiry_market": [2, 2, 0],
        "expiry_s": [0.1 * YEAR_S, 0.5 * YEAR_S, 0.1 * YEAR_S],
        "forward_usd": [100_000.0, 100_000.0, 200.0],
        "forward_confidence": [0.9] * 3,
        "sigma_confidence": [0.9] * 3,
        "option_expiry": [0, 1, 2],
        "option_strike_usd": [90_000.0, 110_000.0, 200.0],
        "option_is_call": [False, True, False],
        "option_sigma": [LISTED[NUMBERS[name]].sigma for name in (PUT, CALL, SOL_PUT)],
        "cash_usd": [180.0, 0.0, 0.0, 0.0, 0.0],
        "start": [0, 2, 4, 4, 4, 4],
        "leg_option": [1, 0, 2, 1],
        "leg_amount": [2.0, -1.0, 1.0, 4.0],
        "perp_start": [0, 1, 1, 1, 1, 2],
        "perp_market": [2, 2],
        "perp_amount": [3.0, 1.0],
        "perp_profit_usd": [299_995.0, 108_000.0],
        "base_start": [0, 2, 2, 2, 2, 3],
        "base_market": [2, 3, 3],
        "base_amount": [1.0, -2.0, 1.0],
    }
    np.testing.assert_equal(inputs_of(one), expected)
    assert needs.told() == [
        "BTC-inverse_perpetual-1.0-0.0 (inverse perpetual): the venue settles in dollars: there are options, perpetuals and balances",
        "BTC-perpetual-1.0-0.0 (perpetual): its cash is in ETH, and the venue's is in USDC",
        "RARE-option-1.0-0.1 (option): no market of the parameters is called RARE",
        "RARE-perpetual-1.0-0.0 (perpetual): no market of the parameters is called RARE",
        "RARE (spot): no market of the parameters is called RARE",
    ]
    assert holders(needs) == [2, 3, 4]


def test_derives_portfolio_manager_is_given_each_underlying_by_itself() -> None:
    accounts = (
        DERIVE,
        [Held(SOL_PERP, 6.0, 1.0), Held("DARK", 3.0)],
        [Held(BTC_PERP, 1.0), Held(SOL_PERP, 1.0)],
        [Held("BTC", 1.0)],
        [Held(BTC_PERP, 1.0), Held("RARE", 1.0)],
        [Held(PUT, 1.0), Held("BTC-option-0.9-0.1", 0.5)],
    )
    [of_btc, of_sol], needs = adapted("derive_pmrm2", legs_of(*accounts, given={"confidence": 0.9, "rate": 0.05}))
    assert (of_btc.accounts.tolist(), of_sol.accounts.tolist()) == ([0, 5], [1])
    expected = {
        "spot_usd": 100_000.0,
        "spot_confidence": 0.9,
        "perp_usd": 100_000.0,
        "perp_confidence": 0.9,
        "stable_usd": 0.9995,
        "expiry_s": [0.1 * YEAR_S, 0.5 * YEAR_S],
        "forward_usd": [100_000.0] * 2,
        "forward_confidence": [0.9] * 2,
        "rate": [0.05] * 2,
        "rate_confidence": [0.9] * 2,
        "sigma_confidence": [0.9] * 2,
        "option_expiry": [0, 1],
        "option_pair": [0, 1],
        "option_strike_usd": [90_000.0, 110_000.0],
        "option_is_call": [False, True],
        "option_sigma": [LISTED[NUMBERS[name]].sigma for name in (PUT, CALL)],
        "collateral_usd": [4_000.0, np.nan, 100_000.0],
        "collateral_confidence": [0.9] * 3,
        "cash_usd": [180.0, 0.0],
        "perps": [3.0, 0.0],
        "perp_profit_usd": [299_995.0, 0.0],
        "perp_funding_usd": [0.0, 0.0],
        "start": [0, 2, 4],
        "leg_option": [1, 0, 0, 0],
        "leg_amount": [2.0, -1.0, 1.0, 0.5],
        "collateral_start": [0, 2, 2],
        "held_collateral": [2, 0],
        "held_amount": [1.0, -2.0],
    }
    np.testing.assert_equal(inputs_of(of_btc), expected)
    assert (of_sol.inputs.spot_usd, of_sol.inputs.perps.tolist(), of_sol.inputs.perp_profit_usd.tolist()) == (200.0, [6.0], [1_201.0])
    assert (of_sol.inputs.held_collateral.tolist(), of_sol.inputs.held_amount.tolist()) == ([1], [3.0])
    assert needs.told() == [
        "RARE (spot): no collateral of the parameters is called RARE",
        "the rule takes one underlying: the account has contracts of BTC, SOL",
        "the rule needs a perpetual or an option: without either, which underlying the collateral goes with is not said",
    ]
    assert holders(needs) == [2, 3, 4]


def test_feeds_may_be_sure_by_asset() -> None:
    sure: Given = {"confidence": {"BTC": 0.9, "ETH": 0.8, "SOL": 0.7}, "rate": 0.05}
    accounts = DERIVE, [Held(SOL_PUT, 1.0)], [Held("DARK-perpetual-1.0-0.0", 1.0)]
    [of_all], needs = adapted("derive_srm", legs_of(*accounts, given=sure))
    assert needs.lacking.tolist() == [False, False, True]
    np.testing.assert_equal(of_all.inputs.spot_confidence, [0.7, np.nan, 0.9, 0.8])
    np.testing.assert_equal(of_all.inputs.perp_confidence, [0.7, np.nan, 0.9, 0.8])
    assert of_all.inputs.forward_confidence.tolist() == of_all.inputs.sigma_confidence.tolist() == [0.9, 0.9, 0.7]
    [of_btc, of_sol, _], needs = adapted("derive_pmrm2", legs_of(*accounts, given=sure))
    assert needs.lacking.tolist() == [False, False, True]
    for one, confidence in ((of_btc, 0.9), (of_sol, 0.7)):
        assert (one.inputs.spot_confidence, one.inputs.perp_confidence) == (confidence, confidence)
        for feed in (one.inputs.forward_confidence, one.inputs.rate_confidence, one.inputs.sigma_confidence):
            assert set(feed.tolist()) == {confidence}
        np.testing.assert_equal(one.inputs.collateral_confidence, [0.8, np.nan, 0.9])


@pytest.mark.parametrize(
    ("name", "value", "within"),
    [
        ("rate", -10.0, True),
        ("rate", 10.0, True),
        ("rate", -10.5, False),
        ("rate", 10.5, False),
        ("confidence", 1.0, True),
        ("confidence", 0.0, True),
        ("confidence", 1.5, False),
        ("confidence", -0.5, False),
    ],
)
def test_feeds_have_bounds(name: str, value: float, *, within: bool) -> None:
    _, needs = adapted("derive_pmrm2", legs_of([Held(BTC_PERP, 1.0)], given={"confidence": 0.9, "rate": 0.05, name: value}))
    assert needs.lacking.tolist() == [not within]


@pytest.mark.parametrize(("share", "within"), [(0.0, True), (1.0, True), (1.5, False), (-0.5, False)])
def test_numbers_by_asset_have_bounds(share: float, *, within: bool) -> None:
    given = {"loan_to_value": {"BTC": share}, "supply_cap": {"BTC": 0.0}}
    _, needs = adapted("hyperliquid_pm", legs_of([Held("BTC", 1.0)], given=given))
    assert needs.faults == ([] if within else [f"given.loan_to_value.BTC: {share:g} is not from 0 to 1"])
    assert needs.lacking.tolist() == [not within]


def test_no_legs_are_none() -> None:
    held = no_legs("ex", {})
    assert [values.tolist() for values in held.legs] == [[0], *[[]] * (len(Legs._fields) - 1)]
    assert (held.accounts, held.mark_usd.tolist()) == (0, [])
