"""Haircuts worked by hand: each term alone, caps, eligibility, routes."""

import math

import pytest

from engine.explanations import haircut_terms
from engine.inputs import AssetDefinition, Depth, LagObservation
from engine.margin import EQUITY, EQUITY_INITIAL, UNHAIRCUT
from engine.market import Market
from engine.parameters import Parameters
from engine.tables import HAIRCUT_FLAT, INITIAL_LEVEL
from tests.small_market import SECOND, SOURCES, START, Account, new_market, say, tell_prices

YEAR_S = 31_536_000.0
P = Parameters()


def lost(account: Account) -> float:
    status, out = account.value()
    assert status == 0
    return float(out[UNHAIRCUT] - out[EQUITY])


def lost_at_once(account: Account) -> float:
    """At the initial level, which waits for nothing."""
    status, out = account.value()
    assert status == 0
    return float(out[UNHAIRCUT] - out[EQUITY_INITIAL])


def size_term(value_usd: float, asset_class: str = "major", depth_usd: float = 100_000.0) -> float:
    return P.classes[asset_class].size_coefficient * math.sqrt(value_usd / depth_usd)  # type: ignore[index]


@pytest.fixture(scope="module")
def market() -> Market:
    return new_market()


def test_collateral_where_the_account_is_pays_base_and_size(market: Market) -> None:
    account = Account(market, [("vault-one", "BTC", 100, 0)])  # 1 BTC
    assert lost(account) == pytest.approx(100_000.0 * (0.05 + size_term(100_000.0)), rel=1e-12)


def test_a_chain_has_its_premium(market: Market) -> None:
    account = Account(market, [("vault-two", "BTC", 100, 0)])
    assert lost(account) == pytest.approx(100_000.0 * (0.05 + 0.01 + size_term(100_000.0)), rel=1e-12)


def test_a_position_elsewhere_makes_the_route_count(market: Market) -> None:
    """Finality 60 s, messaging 30 s, auction 900 s, z = 3, sigma = 0.8 (the class's own: 2 samples of one price keep it)."""
    account = Account(market, [("vault-one", "BTC", 100, 0), ("venue-two", "BTC-perp", -100, 10**11)])
    sigma = float(market.inputs.sigma[0, market.universe.asset_number("BTC") or 0])
    latency = 3.0 * sigma * math.sqrt((60.0 + 30.0 + 900.0) / YEAR_S)
    assert sigma == pytest.approx(0.8)
    assert lost(account) == pytest.approx(100_000.0 * (0.05 + size_term(100_000.0) + latency), rel=1e-12)


def test_cash_alone_is_a_position_too_and_so_is_a_single_lot(market: Market) -> None:
    with_cash = Account(market, [("vault-one", "BTC", 100, 0), ("venue-two", "BTC-perp", 0, 1)])
    without = Account(market, [("vault-one", "BTC", 100, 0), ("venue-two", "BTC-perp", 0, 0)])
    assert lost(with_cash) > lost(without)
    for lots in (1, -1):
        single = Account(market, [("vault-one", "BTC", 100, 0), ("venue-two", "BTC-perp", lots, 0)])
        assert lost(single) == pytest.approx(lost(with_cash), rel=1e-12)
    for order in ({"buy": 1}, {"sell": 1}):
        without.expect(1, **order)  # it may be filled at any time
        assert lost(without) == pytest.approx(lost(with_cash), rel=1e-12)


def test_what_an_order_may_buy_has_its_haircut_at_once(market: Market) -> None:
    held = Account(market, [("vault-one", "BTC", 300, 0)])
    ordered = Account(market, [("vault-one", "BTC", 100, 0)])
    ordered.expect(0, buy=200, sell=50)
    assert lost(ordered) == pytest.approx(lost(held), rel=1e-12)
    assert ordered.value()[1][UNHAIRCUT] == pytest.approx(100_000.0)
    short = Account(market, [("vault-one", "BTC", -100, 0)])
    short.expect(0, buy=400)
    assert lost(short) == pytest.approx(lost(held), rel=1e-12)
    short.expect(0, buy=100)
    assert lost(short) == 0.0


def test_an_atomic_group_is_one_place(market: Market) -> None:
    near = Account(market, [("vault-twin-a", "BTC", 100, 0), ("venue-twin-b", "BTC-perp", -100, 0)])
    alone = Account(market, [("vault-twin-a", "BTC", 100, 0)])
    assert lost(near) == pytest.approx(lost(alone), rel=1e-12)


def test_slow_redemption_lengthens_the_route(market: Market) -> None:
    account = Account(market, [("vault-one", "WBETH", 100, 0), ("venue-two", "BTC-perp", 1, 0)])
    term = haircut_terms(market, account.instrument[:2].tolist(), account.quantity[:2].tolist(), account.cash[:2].tolist())[0]
    sigma = float(market.inputs.sigma[0, market.universe.asset_number("WBETH") or 0])
    assert term.latency == pytest.approx(3.0 * sigma * math.sqrt((60.0 + 30.0 + 900.0 + 86_400.0) / YEAR_S), rel=1e-12)
    assert lost(account) == pytest.approx(term.lost_usd, rel=1e-12)


def test_the_observed_lag_counts_when_it_is_longer() -> None:
    market = new_market()
    account = Account(market, [("vault-one", "BTC", 100, 0), ("venue-two", "BTC-perp", 0, 1)])
    usual = lost(account)
    say(market.observe_lag(LagObservation("one", 10 * SECOND, START)))
    market.revalue()
    assert lost(account) == usual  # shorter than messaging_delay_s
    say(market.observe_lag(LagObservation("one", 600 * SECOND, START)))
    market.revalue()
    assert lost(account) == usual  # it rises slowly at maintenance
    more = 3.0 * 0.8 * (math.sqrt((60.0 + 600.0 + 900.0) / YEAR_S) - math.sqrt((60.0 + 30.0 + 900.0) / YEAR_S))
    assert lost_at_once(account) - usual == pytest.approx(100_000.0 * more, rel=1e-9)


def test_a_depeg_is_charged_on_top_of_the_lower_price() -> None:
    market = new_market(prices={"USDE": 0.9})
    account = Account(market, [("vault-one", "USDE", 100_000, 0)])  # 1,000 USDE, bound 1 USD
    _, out = account.value()
    assert out[UNHAIRCUT] == pytest.approx(900.0)  # min(mark, bound)
    haircut = 0.04 + 1.0 * (1.0 / 0.9 - 1.0) + size_term(900.0, "synthetic_dollar")
    assert lost(account) == pytest.approx(900.0 * haircut, rel=1e-12)
    tell_prices(market, {"USDE": 1.2}, START + 1)
    _, out = account.value()
    assert out[UNHAIRCUT] == pytest.approx(1_000.0)  # never above what it can be redeemed for
    debt = Account(market, [("vault-one", "USDE", -100_000, 0)])
    assert debt.value()[1][UNHAIRCUT] == pytest.approx(-1_200.0)  # a debt at the higher one


def test_concentration_is_by_asset_and_chain() -> None:
    market = new_market()
    say(market.observe_depth(Depth(v=1, asset="ETH", depth_usd=40_000.0, spread_bps=1.0, time_ns=START)))
    market.revalue()
    account = Account(market, [("vault-one", "ETH", 1_000, 0)])  # 10 ETH
    assert lost_at_once(account) == pytest.approx(40_000.0 * (0.05 + 0.02), rel=1e-12)
    split = Account(market, [("vault-twin-a", "ETH", 500, 0), ("vault-twin-b", "ETH", 500, 0)])  # reached at once, but two pools of depth
    assert lost_at_once(split) == pytest.approx(2 * 20_000.0 * (0.05 + 0.02 * math.sqrt(0.5)), rel=1e-12)


def test_no_observed_depth_at_all_takes_everything() -> None:
    market = new_market()
    say(market.observe_depth(Depth(v=1, asset="ETH", depth_usd=0.0, spread_bps=1.0, time_ns=START)))
    market.revalue()
    assert lost_at_once(Account(market, [("vault-one", "ETH", 1_000, 0)])) == pytest.approx(40_000.0)


def test_over_the_cap_counts_nothing(market: Market) -> None:
    """DOGE is capped at 2,000,000 USD; the second position is in part, the third wholly over it."""
    positions = [(f"vault-{chain}", "DOGE", 600_000_000, 0) for chain in ("twin-a", "twin-b", "one")]  # 1,200,000 USD each
    account = Account(market, positions)
    terms = haircut_terms(market, account.instrument[:3].tolist(), account.quantity[:3].tolist(), account.cash[:3].tolist())
    assert [term.over_cap_usd for term in terms] == [0.0, pytest.approx(400_000.0), pytest.approx(1_200_000.0)]
    assert lost(account) == pytest.approx(sum(term.lost_usd for term in terms), rel=1e-12)
    assert terms[1].lost_usd == pytest.approx(400_000.0 + 800_000.0 * terms[1].haircut)


def test_what_is_not_eligible_counts_nothing_and_uses_no_cap() -> None:
    market = new_market()
    sources = dict.fromkeys(SOURCES, 1.0)
    capped = AssetDefinition(
        v=1, time_ns=START, name="GOV", asset_class="governance", cap_usd_per_account=800.0, eligible_chains=["one"], sources=sources
    )
    say(market.define(capped))
    market.revalue()
    account = Account(market, [("vault-two", "GOV", 10_000, 0), ("vault-one", "GOV", 10_000, 0)])  # 800 USD each
    columns = account.instrument[:2].tolist(), account.quantity[:2].tolist(), account.cash[:2].tolist()
    terms = haircut_terms(market, *columns, level=INITIAL_LEVEL)
    assert [(term.eligible, term.over_cap_usd) for term in terms] == [(False, 0.0), (True, 0.0)]
    assert terms[0].lost_usd == pytest.approx(800.0)
    assert lost_at_once(account) == pytest.approx(800.0 + terms[1].lost_usd)


def test_what_is_not_eligible_has_what_is_left_of_the_cap() -> None:
    market = new_market()
    capped = AssetDefinition(
        v=1,
        time_ns=START,
        name="GOV",
        asset_class="governance",
        cap_usd_per_account=800.0,
        eligible_chains=["one"],
        sources=dict.fromkeys(SOURCES, 1.0),
    )
    say(market.define(capped))
    market.revalue()
    account = Account(market, [("vault-one", "GOV", 6_000, 0), ("vault-two", "GOV", 10_000, 0), ("vault-one", "GOV", 5_000, 0)])
    columns = account.instrument[:3].tolist(), account.quantity[:3].tolist(), account.cash[:3].tolist()
    terms = haircut_terms(market, *columns)
    assert [term.over_cap_usd for term in terms] == [0.0, 480.0, 80.0]  # of 480, 800 and 400 USD
    assert terms[1].haircut < 1.0  # it was eligible before
    assert lost(account) == pytest.approx(sum(term.lost_usd for term in terms), rel=1e-12)


def test_a_haircut_is_at_most_everything(market: Market) -> None:
    account = Account(market, [("vault-one", "GOV", 10**10, 0)])
    assert lost(account) == pytest.approx(float(account.value()[1][UNHAIRCUT]))


def test_a_haircut_is_at_least_nothing() -> None:
    market = new_market()
    account = Account(market, [("vault-one", "BTC", 100, 0)])
    market.tables.instrument_float[account.instrument[0], HAIRCUT_FLAT : HAIRCUT_FLAT + 2] = -10.0
    _, out = account.value()
    assert out[UNHAIRCUT] == out[EQUITY] == out[EQUITY_INITIAL]


def test_initial_equity_sees_the_volatility_of_now() -> None:
    market = new_market()
    account = Account(market, [("vault-one", "ETH", 1_000, 0), ("venue-two", "BTC-perp", 0, 1)])
    for second in range(1, 20):
        market.tick(START + second * SECOND)
        tell_prices(market, {"ETH": 4_000.0 * (1.0 + 0.002 * (second % 2))}, START + second * SECOND)
    _, out = account.value()
    assert market.inputs.sigma[1, 2] > market.inputs.sigma[0, 2]
    assert out[EQUITY_INITIAL] < out[EQUITY]
