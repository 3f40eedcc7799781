"""What must hold for every book: netting helps, order doesn't matter, two ways of computing agree, caution never pays."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.explanations import haircut_terms
from engine.inputs import Depth, LagObservation
from engine.margin import (
    DRIVER,
    EQUITY,
    EQUITY_INITIAL,
    INITIAL,
    MAINTENANCE,
    UNHAIRCUT,
    take_lots,
)
from engine.market import Market
from engine.requirement import _largest_loss_on_grid, divide, hold_groups, requirement_of_part
from tests.small_market import PRICES, SECOND, Account, new_market, random_account, say, stormy_market

SEEDS = st.integers(min_value=0, max_value=2**32 - 1)
RELATIVE = 1e-9


@pytest.fixture(scope="module")
def calm() -> Market:
    return new_market()


@pytest.fixture(scope="module")
def stormy() -> Market:
    market = stormy_market()
    assert not market.marks.status[: market.universe.asset_count].any()
    assert (market.inputs.sigma[0] < market.inputs.sigma[1]).any()
    return market


def _gross(account: Account) -> float:
    """USD of everything held and owed, to measure rounding against."""
    floats = account.market.tables.instrument_float
    rows = floats[account.instrument[: account.count]]
    notional = np.maximum(np.abs(rows[:, 0]), rows[:, 16])
    return float(np.abs(account.quantity[: account.count] * notional).sum() + np.abs(account.cash[: account.count] * rows[:, 2]).sum())


@settings(max_examples=300, deadline=None)
@given(seed=SEEDS, size=st.integers(1, 16))
def test_netting_never_raises_the_requirement(calm: Market, stormy: Market, seed: int, size: int) -> None:
    rng = random.Random(seed)
    market = rng.choice([calm, stormy])
    account = random_account(market, rng, size=size)
    isolated, protocol, portfolio = account.by_mode()
    slack = RELATIVE * _gross(account)
    assert 0.0 <= portfolio <= protocol + slack
    assert protocol <= isolated + slack


@settings(max_examples=300, deadline=None)
@given(seed=SEEDS, size=st.integers(1, 16), level=st.integers(0, 1))
def test_the_closed_form_is_the_grid(calm: Market, stormy: Market, seed: int, size: int, level: int) -> None:
    rng = random.Random(seed)
    market = rng.choice([calm, stormy])
    account = random_account(market, rng, options=False, size=size)
    columns = (account.count, account.instrument, account.quantity)
    tables = market.tables
    pending = (False, tables.no_pending)
    take_lots(*columns, *pending, tables)
    held = hold_groups(*columns, account.cash, *pending, tables)
    divide(account.count, account.instrument, 2, market.tables)
    count, instrument, _ = columns
    closed, _ = requirement_of_part(count, instrument, account.cash, *pending, tables, held, level, 0)
    grid, _ = _largest_loss_on_grid(count, instrument, *pending, tables, held, level, 0)
    assert closed == pytest.approx(grid, rel=0, abs=RELATIVE * _gross(account))


@settings(max_examples=200, deadline=None)
@given(seed=SEEDS, size=st.integers(2, 16))
def test_the_order_of_slots_changes_rounding_only(calm: Market, seed: int, size: int) -> None:
    rng = random.Random(seed)
    account = random_account(calm, rng, size=size)
    # A cap is used up in slot order by what is held on several chains; totals don't depend on it, but haircuts by chain do.
    status, out = account.value()
    order = list(range(size))
    rng.shuffle(order)
    for column in (account.instrument, account.quantity, account.cash):
        column[:size] = column[order]
    again, shuffled = account.value()
    assert status == again
    slack = RELATIVE * _gross(account)
    for k in (UNHAIRCUT, MAINTENANCE, INITIAL):
        assert shuffled[k] == pytest.approx(out[k], rel=0, abs=slack)


@settings(max_examples=200, deadline=None)
@given(seed=SEEDS, size=st.integers(1, 16))
def test_levels_are_in_order(calm: Market, stormy: Market, seed: int, size: int) -> None:
    """Initial volatility is never below maintenance volatility, so initial equity is never above, nor the initial requirement below."""
    rng = random.Random(seed)
    account = random_account(rng.choice([calm, stormy]), rng, options=False, size=size)
    status, out = account.value()
    assert status == 0
    slack = RELATIVE * _gross(account)
    assert out[EQUITY_INITIAL] <= out[EQUITY] + slack
    assert out[EQUITY] <= out[UNHAIRCUT] + slack
    assert out[INITIAL] >= out[MAINTENANCE] - slack
    assert out[DRIVER] >= -1.0


@settings(max_examples=200, deadline=None)
@given(seed=SEEDS, size=st.integers(1, 16))
def test_the_explanation_adds_up(calm: Market, stormy: Market, seed: int, size: int) -> None:
    """Haircut terms come from definitions and parameters by themselves, not from the tables: their sum is what the kernel took off."""
    rng = random.Random(seed)
    market = rng.choice([calm, stormy])
    account = random_account(market, rng, size=size)
    status, out = account.value()
    assert status == 0
    columns = [column[:size].tolist() for column in (account.instrument, account.quantity, account.cash)]
    for level, equity in ((0, EQUITY), (1, EQUITY_INITIAL)):
        lost = sum(term.lost_usd for term in haircut_terms(market, columns[0], columns[1], columns[2], level))
        assert lost == pytest.approx(out[UNHAIRCUT] - out[equity], rel=0, abs=RELATIVE * _gross(account))


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_more_depth_never_raises_a_haircut(seed: int) -> None:
    rng = random.Random(seed)
    market = new_market()
    accounts = [random_account(market, rng, size=12) for _ in range(5)]
    before = [account.value() for account in accounts]
    for asset in PRICES:
        usd = market.depth_usd(_number(market, asset)) * rng.uniform(1.0, 100.0)
        say(market.observe_depth(Depth(v=1, asset=asset, depth_usd=usd, spread_bps=10.0, time_ns=market.clock_ns)))
    market.revalue()
    for account, (_, out) in zip(accounts, before, strict=True):
        _, deeper = account.value()
        assert deeper[EQUITY] >= out[EQUITY] - RELATIVE * _gross(account)
        assert deeper[UNHAIRCUT] == out[UNHAIRCUT]
        assert deeper[MAINTENANCE] == out[MAINTENANCE]


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_a_longer_lag_never_lowers_a_haircut(seed: int) -> None:
    rng = random.Random(seed)
    market = new_market()
    accounts = [random_account(market, rng, size=12) for _ in range(5)]
    before = [account.value() for account in accounts]
    for chain in market.universe.chains:
        say(market.observe_lag(LagObservation(chain.name, rng.randint(0, 7_200) * SECOND, market.clock_ns)))
    market.revalue()
    for account, (_, out) in zip(accounts, before, strict=True):
        _, slower = account.value()
        assert slower[EQUITY] <= out[EQUITY] + RELATIVE * _gross(account)


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, size=st.integers(1, 16), factor=st.integers(2, 50))
def test_the_requirement_is_proportional_to_size(calm: Market, seed: int, size: int, factor: int) -> None:
    """A largest loss over scenarios grows as the book does: nothing in it depends on how large the book is."""
    account = random_account(calm, random.Random(seed), size=size)
    once = account.by_mode()
    account.quantity *= factor
    account.cash *= factor
    for one, many in zip(once, account.by_mode(), strict=True):
        assert many == pytest.approx(factor * one, rel=1e-9, abs=1e-9)


def _number(market: Market, asset: str) -> int:
    number = market.universe.asset_number(asset)
    assert number is not None
    return number
