"""The engine's benchmark measures what it says: numpy's valuation and the engine's are the same, and a wrong one is noticed."""

import math

import numpy as np
import pytest

from engine.fills import value_accounts
from engine.reasons import State
from tests.bench import engine_speed, numpy_book
from tests.bench.bus import Speed
from tests.bench.run import BUS, in_figures
from tests.bench.world import PERPETUALS, POSITIONS, Population

ACCOUNTS = 300


@pytest.mark.parametrize("option_accounts", [0.0, 0.5])
def test_engine_and_numpy_agree_on_every_account(option_accounts: float) -> None:
    found = engine_speed.revaluation(ACCOUNTS, 1, lambda: 1e10, option_accounts=option_accounts)
    assert found["largest_difference"] <= engine_speed.TOLERANCE
    assert found["accounts_by_state"]["UNKNOWN"] == 0
    assert sum(found["accounts_by_state"].values()) == ACCOUNTS


def test_a_scenario_left_out_is_noticed() -> None:
    market = engine_speed.live_market(options=False)
    columns = engine_speed.filled_columns(market, ACCOUNTS)
    instruments = market.universe.instrument_count
    states, reasons, index = np.zeros(ACCOUNTS, np.int8), np.zeros(ACCOUNTS, np.int8), np.zeros(ACCOUNTS, np.int64)
    everybody = np.arange(ACCOUNTS, dtype=np.int64)
    value_accounts(everybody, columns, market.tables, market.parameters.end_factor, states, reasons, index)
    collateral = market.universe.instrument_number("alpha", "BTC")
    assert collateral is not None
    rival = numpy_book.NumpyBook(columns, ACCOUNTS, market.tables, instruments, collateral)
    losses = numpy_book.all_scenarios(market.tables, instruments)
    rival.value(losses)
    assert rival.differences(columns, states)[0] <= engine_speed.TOLERANCE
    rival.value(losses._replace(matrix=0.99 * losses.matrix))
    assert rival.differences(columns, states)[0] > engine_speed.TOLERANCE


def test_the_book_alone_adds_up_its_fills() -> None:
    found = engine_speed.fills_in_frames(accounts=40, frame_events=100, frames=3)
    assert found["accounts_by_state"][State.HEALTHY.name] == 40
    assert found["cut_rows"] > 0


def test_fills_go_on_from_where_the_last_ones_ended() -> None:
    population = Population(50)
    fills = [*population.opening(), *population.trades(500), *population.trades(500)]
    last: dict[tuple[str, str], int] = {}
    lots: dict[tuple[str, str, str], int] = {}
    for fill in fills:
        assert fill.sequence == last.get((fill.account, fill.venue), 0) + 1
        last[fill.account, fill.venue] = fill.sequence
        key = (fill.account, fill.venue, fill.instrument)
        lots[key] = lots.get(key, 0) + fill.lots
    assert len(lots) == 50 * POSITIONS
    for account, name in enumerate(population.names):
        assert len(set(population.held[account].tolist())) == POSITIONS - 2 <= len(PERPETUALS)
        for column in range(POSITIONS):
            assert lots[name, *population.position(account, column)] == population.lots[account, column]


def test_ratios_are_taken_within_rounds() -> None:
    ours = (60.0, 98.0, 165.0)
    rates = {"faust_agent": (10.0, 20.0, 30.0), "faust_table": (1.0, 2.0, 3.0), "plimsoll": ours, "raw_getmany": ours}
    found = in_figures({name: [Speed(rate, 1.0) for rate in rates[name]] for name in BUS})
    assert found["bus"]["plimsoll"] == 98
    assert found["ratios"] == {"plimsoll/faust_agent": 5.5, "plimsoll/faust_table": 55.0, "plimsoll/raw_getmany": 1.0}
    assert found["aim"] == {"plimsoll/faust_table": 50.0, "met": True}


def test_what_was_too_quick_to_be_watched_is_null_in_json() -> None:
    found = in_figures({name: [Speed(1.0, math.nan)] for name in BUS})
    assert found["bus_cpu_us"] == dict.fromkeys(BUS)
