"""Legs of many accounts as each rule takes them: a batch is each account alone, whoever else is in it, and open orders count."""

import numpy as np
import pytest

from engine.rules.adapters import ADAPTERS
from engine.rules.choice import Choice, choose, margins
from engine.rules.interface import COLUMNS, EQUITY_USD, INITIAL_USD, MAINTENANCE_USD
from engine.rules.legs import Floats, Legs, Needs, VenueLegs, no_legs
from engine.tables import CONTRACTS
from tests.venue_legs import ASSETS, LISTED, TRIALS, choice_of, random_legs

ACCOUNTS = 80
ASK_FOR_COINS = {"derive_pmrm2"}  # an account without contracts has no underlying
ASKED_BY_ASSET = {"drift_v2": "deposits", "hyperliquid_pm": "supply_cap", "mango_v4": "stable_usd"}


def alone(held: VenueLegs, account: int) -> VenueLegs:
    legs = held.legs
    begin, end = int(legs.start[account]), int(legs.start[account + 1])
    return held._replace(legs=Legs._make([np.array([0, end - begin]), *(values[begin:end] for values in legs[1:])]))


def same_bits(left: Floats, right: Floats) -> bool:
    return bool(np.array_equal(np.where(np.isnan(left), 0.0, left), np.where(np.isnan(right), 0.0, right))) and bool(
        np.array_equal(np.isnan(left), np.isnan(right))
    )


def test_every_adapter_has_a_trial() -> None:
    assert set(TRIALS) == set(ADAPTERS)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("rule", TRIALS)
def test_a_batch_is_each_account_alone(rule: str, seed: int) -> None:
    choice, held = choice_of(rule), random_legs(rule, ACCOUNTS, seed)
    found = margins(choice, held)
    for account in range(ACCOUNTS):
        one = margins(choice, alone(held, account))
        assert same_bits(found.out[account], one.out[0]), account
        assert found.needs.not_taken[account] == one.needs.not_taken[0]
        assert found.needs.lacking[account] == one.needs.lacking[0]
        assert bool(one.needs.missing()) == bool(one.needs.not_taken[0] or one.needs.lacking[0])


@pytest.mark.parametrize("rule", TRIALS)
def test_the_batches_have_accounts_of_all_kinds(rule: str) -> None:
    """Else the test above would say nothing."""
    held = random_legs(rule, ACCOUNTS, 1)
    out, needs, _ = margins(choice_of(rule), held)
    known = np.isfinite(out[:, EQUITY_USD] + out[:, INITIAL_USD] + out[:, MAINTENANCE_USD])
    without = np.diff(held.legs.start) == 0
    refused = needs.not_taken | needs.lacking
    assert known.sum() > ACCOUNTS / 3
    assert needs.not_taken[~without].any()
    assert (~known & ~refused).any(), "a coin without a mark"
    assert needs.lacking.any() == (rule in ASKED_BY_ASSET)
    assert without.any()
    assert bool(known[without].all()) == (rule not in ASK_FOR_COINS)
    assert not known[refused].any()


@pytest.mark.parametrize("rule", TRIALS)
def test_accounts_that_are_not_taken_leave_the_others_as_they_are(rule: str) -> None:
    """The same accounts, with strangers before, between and after them."""
    choice, held = choice_of(rule), random_legs(rule, ACCOUNTS, 3)
    out, needs, _ = margins(choice, held)
    kept = np.flatnonzero(~(needs.not_taken | needs.lacking))
    assert 0 < len(kept) < ACCOUNTS
    assert same_bits(margins(choice, held.only(kept)).out, out[kept])
    twice = np.repeat(kept, 2)
    assert same_bits(margins(choice, held.only(twice)).out, out[twice])


@pytest.mark.parametrize("rule", TRIALS)
def test_no_accounts_and_accounts_without_legs(rule: str) -> None:
    choice = choice_of(rule)
    assert margins(choice, no_legs("ex", choice.given)).out.shape == (0, COLUMNS)
    nothing = random_legs(rule, 3, 1, legs_max=0, faultless=True)
    assert margins(choice, nothing).out.shape == (3, COLUMNS)
    without_assets = no_legs("ex", choice.given)
    empty = without_assets._replace(legs=without_assets.legs._replace(start=np.zeros(4, np.int64)))
    out, needs, _ = margins(choice, empty)
    assert (out[:, EQUITY_USD] == 0.0).all() == (rule not in ASK_FOR_COINS)
    assert needs.not_taken.all() == (rule in ASK_FOR_COINS)


@pytest.mark.parametrize("rule", TRIALS)
def test_a_kernel_that_is_compiled_for_nobody_does_for_everybody(rule: str) -> None:
    """So that none is compiled when the first account comes."""
    choice = choice_of(rule)
    found = margins(choice, no_legs("ex", choice.given))
    assert len(found.adapted) == 1
    compiled = list(getattr(choice.module.margins, "signatures", []))
    margins(choice, random_legs(rule, ACCOUNTS, 1))
    assert list(getattr(choice.module.margins, "signatures", [])) == compiled


@pytest.mark.parametrize("rule", TRIALS)
def test_all_that_a_rule_asks_for_is_seen_without_legs(rule: str) -> None:
    """What the legs of any account ask for, no legs ask for too: else a choice would be refused for what somebody needs."""
    choice, trial = choice_of(rule), TRIALS[rule]
    assert isinstance(choose(rule, trial.parameters, trial.given), Choice)
    held = random_legs(rule, ACCOUNTS, 1)._replace(given={})
    needs = Needs(held)
    choice.adapt(held, choice.parameters, needs)
    names = {line.partition(":")[0].split(".")[1] for line in needs.missing() if line.startswith("given.")}
    assert bool(names) == (rule in {*ASKED_BY_ASSET, "derive_pmrm2", "derive_srm"})
    assert all(isinstance(choose(rule, trial.parameters, {name: trial.given[name]}), Choice) for name in names)


@pytest.mark.parametrize(("rule", "name"), ASKED_BY_ASSET.items())
def test_only_those_who_hold_it_lack_what_is_not_given(rule: str, name: str) -> None:
    held = random_legs(rule, ACCOUNTS, 5, faultless=True)
    whole = margins(choice_of(rule), held)
    given = dict(TRIALS[rule].given)
    by_asset = given[name]
    assert isinstance(by_asset, dict)
    held = held._replace(given={**given, name: {asset: value for asset, value in by_asset.items() if asset != "ETH"}})
    found = margins(choice_of(rule), held)
    with_eth = np.zeros(ACCOUNTS, np.bool_)
    with_eth[held.account[held.legs.asset == ASSETS.index("ETH")]] = True
    if rule == "drift_v2":  # asks for those that are held as balances alone
        with_eth[:] = False
        with_eth[held.account[(held.legs.asset == ASSETS.index("ETH")) & (held.legs.contract <= CONTRACTS.index("loan"))]] = True
    assert 0 < with_eth.sum() < ACCOUNTS
    assert not whole.needs.lacking.any()
    assert np.array_equal(found.needs.lacking, with_eth)
    assert same_bits(found.out[~with_eth], whole.out[~with_eth])
    assert np.isnan(found.out[with_eth]).all()
    assert f"given.{name}.ETH: is missing" in found.needs.missing()[0]


@pytest.mark.parametrize("rule", ["derive_pmrm2", "derive_srm"])
def test_what_all_lack(rule: str) -> None:
    given = {name: value for name, value in TRIALS[rule].given.items() if name != "confidence"}
    held = random_legs(rule, 10, 1)._replace(given=given)
    out, needs, _ = margins(choice_of(rule), held)
    assert needs.lacking.all()
    assert np.isnan(out).all()
    assert needs.missing().count("given.confidence: is missing; it is how sure the venue's feeds are, 0 to 1") == 1


def test_one_underlying_an_account_many_in_a_batch() -> None:
    held = random_legs("derive_pmrm2", ACCOUNTS, 1)
    _, needs, adapted = margins(choice_of("derive_pmrm2"), held)
    assert len(adapted) > 1
    taken = np.concatenate([one.accounts for one in adapted])
    assert sorted(taken.tolist()) == np.flatnonzero(~needs.not_taken).tolist()


# ---- by hand --------------------------------------------------------------------------------------------------------------------------


def legs_of(*held: tuple[str, float, float], **columns: list[float]) -> VenueLegs:
    """One account with units and cash of what is listed; other columns by name."""
    instrument = np.array([[one.name for one in LISTED].index(name) for name, _, _ in held], np.int64)
    like = random_legs("mango_v3", 1, 1)
    listed = [LISTED[k] for k in instrument.tolist()]
    mark_usd = like.mark_usd[[one.asset for one in listed]]
    units, cash = np.array([units for _, units, _ in held]), np.array([cash for _, _, cash in held])
    legs = Legs(
        start=np.array([0, len(held)]),
        instrument=instrument,
        contract=np.array([one.contract for one in listed]),
        asset=np.array([one.asset for one in listed]),
        quote=np.array([one.quote for one in listed]),
        units=units,
        cash=cash,
        cash_usd=cash,
        mark_usd=mark_usd,
        value_usd=units * mark_usd + cash,
        strike_usd=np.array([one.strike_usd for one in listed]),
        is_call=np.array([one.is_call for one in listed]),
        years=np.array([one.years for one in listed]),
        sigma=np.array([one.sigma for one in listed]),
        entry_usd=mark_usd,
        buys=np.array(columns.get("buys", [0.0] * len(held))),
        sells=np.array(columns.get("sells", [0.0] * len(held))),
    )
    return like._replace(legs=legs, given={})


WEIGHTS = {"init_asset_weight": 0.8, "maint_asset_weight": 0.9, "init_liab_weight": 1.2, "maint_liab_weight": 1.1}
V4 = {
    "tokens": [{"name": "USD", **dict.fromkeys(WEIGHTS, 1.0)}],
    "perps": [
        {
            "name": "BTC",
            "settle_token": 0,
            "init_base_asset_weight": 0.8,
            "maint_base_asset_weight": 0.9,
            "init_base_liab_weight": 1.2,
            "maint_base_liab_weight": 1.1,
            "init_overall_asset_weight": 1.0,
            "maint_overall_asset_weight": 1.0,
        }
    ],
}
V3 = {"markets": [{"name": "BTC", "spot": WEIGHTS, "perp": WEIGHTS}]}
DRIFT = {"spots": [{"name": "USD"}], "perps": [{"name": "BTC", "margin_ratio_initial": 0.2, "margin_ratio_maintenance": 0.1}]}


@pytest.mark.parametrize(
    ("rule", "parameters", "given", "orders_usd"),
    [
        ("mango_v4", V4, {"stable_usd": {"BTC": 100_000.0, "USD": 1.0}}, 0.0),
        ("mango_v3", V3, {}, 0.0),
        ("drift_v2", DRIFT, {}, 0.01),
    ],
)
def test_open_orders_of_a_perpetual_count_on_the_worse_side(
    rule: str, parameters: dict[str, object], given: dict[str, dict[str, float]], orders_usd: float
) -> None:
    """A coin long at 100,000, bought at its price: three more may be bought, or two and a half sold; 20 % and 10 % of what is worse."""
    choice = choose(rule, parameters, given)
    assert isinstance(choice, Choice)
    perp, cash = ("BTC-perpetual-1.0-0.0", 1.0, -100_000.0), ("USD", 500_000.0, 0.0)
    expected = {(0.0, 0.0): 1.0, (3.0, 0.0): 4.0, (0.0, 0.5): 1.0, (0.0, 2.5): 1.5, (3.0, 2.5): 4.0}
    for (buys, sells), size in expected.items():
        held = legs_of(perp, cash, buys=[buys, 0.0], sells=[sells, 0.0])._replace(given=given)
        out, needs, _ = margins(choice, held)
        assert needs.told() == []
        counted_usd = orders_usd if buys or sells else 0.0
        assert out[0, EQUITY_USD] == pytest.approx(500_000.0)
        assert out[0, INITIAL_USD] == pytest.approx(0.2 * size * 100_000.0 + counted_usd)
        assert out[0, MAINTENANCE_USD] == pytest.approx(0.1 * size * 100_000.0 + counted_usd)


def test_open_orders_of_balances_count_by_drifts_rule_alone() -> None:
    """Two coins offered of one that is held: one would be owed."""
    market = {
        "name": "BTC",
        "initial_asset_weight": 0.8,
        "maintenance_asset_weight": 0.9,
        "initial_liability_weight": 1.2,
        "maintenance_liability_weight": 1.1,
    }
    coin, cash = ("BTC", 1.0, 0.0), ("USD", 500_000.0, 0.0)
    drift = choose("drift_v2", {"spots": [{"name": "USD"}, market]}, {})
    assert isinstance(drift, Choice)
    for sells, maintenance_usd in ((0.0, 0.1 * 100_000.0), (2.0, 0.1 * 100_000.0 + 0.01), (3.0, 0.2 * 100_000.0 + 0.01)):
        out = margins(drift, legs_of(coin, cash, sells=[sells, 0.0])).out
        assert out[0, EQUITY_USD] == pytest.approx(600_000.0)
        assert out[0, MAINTENANCE_USD] == pytest.approx(maintenance_usd)
    mango = choose("mango_v3", V3, {})
    assert isinstance(mango, Choice)
    quiet, offered = (margins(mango, legs_of(coin, cash, sells=[sells, 0.0])).out for sells in (0.0, 3.0))
    assert same_bits(quiet, offered)


@pytest.mark.parametrize("rule", ["mango_v4", "mango_v3", "drift_v2"])
def test_a_venue_that_keeps_one_balance_of_a_coin_nets_what_is_held_with_what_is_owed(rule: str) -> None:
    """Three coins held in two positions, and one owed: two coins with the weight of what is held."""
    choice = choice_of(rule)
    several = legs_of(("BTC", 1.0, 0.0), ("BTC", 2.0, 0.0), ("BTC", -1.0, 0.0), ("USD", 500.0, 0.0))._replace(given=choice.given)
    netted = legs_of(("BTC", 2.0, 0.0), ("USD", 500.0, 0.0))._replace(given=choice.given)
    found, alone = margins(choice, several).out[0], margins(choice, netted).out[0]
    assert not np.isnan(alone).any()
    assert found.tolist() == pytest.approx(alone.tolist())


@pytest.mark.parametrize("rule", ["derive_pmrm2", "derive_srm"])
def test_a_price_of_usdc_that_is_given_does_not_stand_in_for_a_mark_that_is_unknown(rule: str) -> None:
    """Silence may be a peg that broke; where USDC is no asset at all, what is given is all there is."""
    choice = choice_of(rule)
    held = legs_of(("BTC-perpetual-1.0-0.0", 1.0, -90_000.0), ("USD", 50_000.0, 0.0))._replace(given=choice.given)
    usdc = ASSETS.index("USDC")
    silent_usd = np.where(np.arange(len(ASSETS)) == usdc, np.nan, held.mark_usd)
    silent = margins(choice, held._replace(mark_usd=silent_usd))
    assert np.isnan(silent.out).all()
    assert not silent.needs.lacking.any(), "nothing is missing in the definition: a mark is unknown"
    absent = held._replace(assets=["OTHER" if name == "USDC" else name for name in held.assets])
    assert np.isfinite(margins(choice, absent).out).all()
    assert margins(choice, absent._replace(given={"confidence": 1.0, "rate": 0.05})).needs.lacking.all()


@pytest.mark.parametrize("rule", ["derive_pmrm2", "derive_srm"])
def test_confidence_is_one_number_or_each_assets_own(rule: str) -> None:
    """A feed that is in doubt costs who holds of that asset, and nobody else; one that is not given leaves only them without a number."""
    choice = choice_of(rule)
    usd = ("USD", 50_000.0, 0.0)
    of_btc, of_eth = ([(f"{coin}-perpetual-1.0-0.0", 1.0, 0.0), usd] for coin in ("BTC", "ETH"))

    def rows(confidence: float | dict[str, float]) -> tuple[list[float], list[float]]:
        given = {**choice.given, "confidence": confidence}
        btc, eth = (margins(choice, legs_of(*legs)._replace(given=given)).out[0].tolist() for legs in (of_btc, of_eth))
        return btc, eth

    sure, doubtful = rows(1.0), rows(0.1)
    assert doubtful[0][INITIAL_USD] > sure[0][INITIAL_USD]
    assert rows({"BTC": 1.0, "ETH": 0.1}) == (sure[0], doubtful[1])
    assert rows({"BTC": 0.1, "ETH": 1.0}) == (doubtful[0], sure[1])
    only_btc = rows({"BTC": 1.0})
    assert only_btc[0] == sure[0]
    assert np.isnan(only_btc[1]).all()


@pytest.mark.parametrize("rule", ["derive_pmrm2", "derive_srm"])
def test_cash_that_is_no_dollars_is_none_at_derive(rule: str) -> None:
    choice = choice_of(rule)
    held = legs_of(("BTC-perpetual-1.0-0.0", 1.0, -1.0), ("USD", 50_000.0, 0.0))._replace(given=choice.given)
    in_coins = held._replace(legs=held.legs._replace(quote=np.array([ASSETS.index("ETH"), 0])))
    assert margins(choice, in_coins).needs.told()[0] == "BTC-perpetual-1.0-0.0 (perpetual): its cash is in ETH, and the venue's is in USDC"


def test_an_account_of_several_coins_names_those_that_it_holds() -> None:
    coins = ("BTC", 1.0, 0.0), ("SOL", 1.0, 0.0), ("BTC-inverse_perpetual-1.0-0.0", 1.0, 0.0)
    _, needs, _ = margins(choice_of("deribit_pm"), legs_of(*coins))
    assert needs.told() == ["the account is segregated by coin: it holds BTC, SOL, and the rule takes one"]
    futures = ("SOL-future-0.9-0.1", 1.0, 0.0), ("BTC-future-0.9-0.1", 1.0, 0.0)
    _, needs, _ = margins(choice_of("dederi"), legs_of(*futures, ("ETH", 1.0, 0.0)))
    assert needs.told()[0] == "the rule takes one underlying: the account has futures of SOL, BTC"
    assert needs.told()[1].startswith("ETH (spot): the rule computes linear futures")
    assert len(needs.told()) == 2


def test_a_side_of_a_market_that_is_not_there_is_not_worth_nothing() -> None:
    """A coin that is owed where the market has no weights of its spot would leave the whole of what it was sold for."""
    markets = [{"name": "BTC", "spot": {}, "perp": WEIGHTS}, {"name": "SOL", "spot": WEIGHTS, "perp": {}}]
    choice = choose("mango_v3", {"markets": markets}, {})
    assert isinstance(choice, Choice)
    dollars = ("USD", 100_000.0, 0.0)
    for owed, what in (
        (("BTC", -1.0, 0.0), "BTC (spot): the market of BTC in the parameters has no spot"),
        (("SOL-perpetual-1.0-0.0", -1.0, 200.0), "SOL-perpetual-1.0-0.0 (perpetual): the market of SOL in the parameters has no perpetual"),
    ):
        out, needs, _ = margins(choice, legs_of(owed, dollars))
        assert needs.told() == [what]
        assert np.isnan(out).all()
    there = legs_of(("SOL", -1.0, 0.0), ("BTC-perpetual-1.0-0.0", -1.0, 90_000.0), dollars)
    assert np.isfinite(margins(choice, there).out).all()


def test_what_cannot_be_taken_is_told_of_each_position() -> None:
    held = legs_of(("BTC", 1.0, 0.0), ("RARE", 1.0, 0.0), ("BTC-option-1.1-0.5", 1.0, 0.0), ("BTC-inverse_perpetual-1.0-0.0", 1.0, 0.0))
    _, needs, _ = margins(choice_of("mango_v3"), held)
    assert needs.told() == [
        "RARE (spot): no market of the parameters is called RARE",
        "BTC-option-1.1-0.5 (option): the venue has balances and perpetuals alone",
        "BTC-inverse_perpetual-1.0-0.0 (inverse perpetual): the venue has balances and perpetuals alone",
    ]
