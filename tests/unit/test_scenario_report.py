"""Scenario losses by group against what the account kernel finds largest; against the twin's in tests/unit/test_margin_command.py."""

from __future__ import annotations

import pytest

from engine.margin import MAINTENANCE
from engine.market import Market
from engine.scenario_report import LEVELS, scenario_losses
from engine.tables import INITIAL_LEVEL, MAINTENANCE_LEVEL, PIECE_NAMES
from tests.small_market import Account, new_market, stormy_market

OPTIONS_BOOK = [
    ("venue-one", "BTC-35-100000-C", -700, 40_000_000_000),
    ("venue-two", "BTC-7-80000-P", -300, 2_000_000_000),
    ("venue-one", "BTC-perp", 400, -390_000_000_000),
    ("vault-two", "BTC", 100, 0),
]
# Nothing but the scenarios' own losses in a requirement, so that one group's largest is the whole.
SCENARIOS_ONLY = {"classes": {"major": {"vol_coefficient": 0.0}}}


def slots(account: Account) -> tuple[list[int], list[int], list[int]]:
    n = account.count
    return account.instrument[:n].tolist(), account.quantity[:n].tolist(), account.cash[:n].tolist()


@pytest.mark.parametrize("steps", [3, 6])
def test_the_largest_loss_of_one_group_is_its_requirement(steps: int) -> None:
    market = new_market({**SCENARIOS_ONLY, "grid_steps": steps})
    for positions in (OPTIONS_BOOK, OPTIONS_BOOK[:2], OPTIONS_BOOK[2:], [("venue-one", "ETH-perp", -9, 0)]):
        account = Account(market, positions)
        report = scenario_losses(market, *slots(account))
        (group,) = report.groups
        assert len(group.moves) == len(group.volatility_up_usd) == len(group.volatility_down_usd) == 2 * steps + 1
        counted = [*group.volatility_up_usd, *group.volatility_down_usd, *(report.extreme_fraction * loss for loss in group.extreme_usd)]
        unknown, out = account.value()
        assert unknown == 0
        assert max(0.0, *counted) == pytest.approx(out[MAINTENANCE], rel=1e-12)


def test_levels_have_their_own_ranges_and_moves_are_in_order() -> None:
    market = stormy_market()
    account = Account(market, OPTIONS_BOOK)
    low, high = (scenario_losses(market, *slots(account), level) for level in (MAINTENANCE_LEVEL, INITIAL_LEVEL))
    assert (low.level, high.level) == LEVELS
    for report in (low, high):
        (group,) = report.groups
        assert group.group == "BTC"
        assert group.moves == sorted(group.moves)
        assert group.moves[-1] == pytest.approx(group.scan_range)
        assert list(report.add_ons) == list(PIECE_NAMES)
        assert report.requirement_usd == pytest.approx(report.add_ons["scenarios"])  # this market has no add-ons
        assert report.regime == "observed"
    assert low.groups[0].scan_range < high.groups[0].scan_range


def test_an_account_without_risk_has_no_group() -> None:
    market = new_market()
    assert scenario_losses(market, *slots(Account(market, [("vault-one", "USD", 10_000, 3)]))).groups == []


def test_the_market_is_only_read() -> None:
    market: Market = new_market()
    account = Account(market, OPTIONS_BOOK)
    before = market.tables.option_scan.copy(), market.tables.instrument_float.copy()
    for level in range(2):
        scenario_losses(market, *slots(account), level)
    assert (market.tables.option_scan == before[0]).all()
    assert (market.tables.instrument_float == before[1]).all()
