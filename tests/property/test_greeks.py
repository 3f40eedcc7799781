"""For every book: an account's greeks are the sums of its positions', and its deltas those that the scenarios move."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.greeks import account_greeks
from engine.market import Market
from engine.scenario_report import scenario_losses
from tests.small_market import Account, new_market, random_account, stormy_market

SEEDS = st.integers(min_value=0, max_value=2**32 - 1)
OF_LOTS = ("gamma_usd", "vega_usd", "theta_usd", "rho_usd")


@pytest.fixture(scope="module", params=["calm", "stormy"])
def market(request: pytest.FixtureRequest) -> Market:
    return new_market() if request.param == "calm" else stormy_market()


def slots_of(account: Account) -> tuple[list[int], list[int], list[int]]:
    n = account.count
    return account.instrument[:n].tolist(), account.quantity[:n].tolist(), account.cash[:n].tolist()


@settings(max_examples=200, deadline=None)
@given(seed=SEEDS, size=st.integers(1, 16))
def test_an_accounts_greeks_are_the_sum_of_its_positions(market: Market, seed: int, size: int) -> None:
    account = random_account(market, random.Random(seed), size=size)
    slots = slots_of(account)
    greeks = account_greeks(market, *slots)
    sums = {one.asset: one for one in greeks.by_asset}
    expected = dict.fromkeys(OF_LOTS, 0.0)
    gross = 1.0
    for asset, total in sums.items():
        delta = sum(p.delta or 0.0 for p in greeks.by_position if p.asset == asset)
        delta += sum(p.quote_delta or 0.0 for p in greeks.by_position if p.quote == asset)
        assert total.delta == pytest.approx(delta, rel=1e-12, abs=1e-9)
    for position in greeks.by_position:
        assert position.unknown == ""
        assert position.asset in sums or position.asset == "USD"
        for name in OF_LOTS:
            expected[name] += getattr(position, name)
            gross += abs(getattr(position, name))
    for name in OF_LOTS:
        assert sum(getattr(one, name) for one in greeks.by_asset) == pytest.approx(expected[name], abs=1e-12 * gross)
    # One by one gives the same as together.
    alone = [account_greeks(market, [i], [q], [c]).by_position[0] for i, q, c in zip(*slots, strict=True)]
    assert alone == greeks.by_position


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, size=st.integers(1, 8))
def test_the_scenarios_move_a_book_without_options_by_its_deltas(market: Market, seed: int, size: int) -> None:
    account = random_account(market, random.Random(seed), options=False, size=size)
    slots = slots_of(account)
    groups = {market.universe.assets[a].name: int(market.universe.asset_arrays.group[a]) for a in range(market.universe.asset_count)}
    deltas: dict[int, float] = {}
    for one in account_greeks(market, *slots).by_asset:
        deltas[groups[one.asset]] = deltas.get(groups[one.asset], 0.0) + (one.delta_usd or 0.0)
    for level in range(2):
        report = scenario_losses(market, *slots, level)
        for group in report.groups:
            moves, delta = [*group.moves, *group.extreme_moves], deltas[groups[group.group]]
            losses = [*group.volatility_up_usd, *group.extreme_usd]
            assert losses == pytest.approx([-delta * move for move in moves], rel=1e-9, abs=1e-3)
            assert group.volatility_up_usd == group.volatility_down_usd
