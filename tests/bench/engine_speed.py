"""How fast the engine values whole books, beside numpy, and what share of the memory's bandwidth that is: prints JSON.

`python -m tests.bench.engine_speed [--accounts N ...] [--rounds N]`. One thread each; run by tests.bench.run with numpy held to one too.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.book import Accounts, Columns
from engine.fills import value_accounts
from engine.inputs import InstrumentDefinition
from engine.jit import kernel
from engine.margin import OUT
from engine.market import Market
from engine.monitor import Book
from engine.reasons import State
from engine.tables import DELTA_LONG, EXTREME_DOWN, EXTREME_UP, GRID_STEPS, GROUP, SCAN, SCAN_ROW, RiskTables
from tests.bench import numpy_book
from tests.bench.ledger import NOW_NS, fill_frame, open_book
from tests.bench.looking import looked_at
from tests.bench.world import (
    COINS,
    OPTION_LIFE_NS,
    OPTION_STRIKES,
    PERPETUALS,
    POSITIONS,
    SEED,
    VENUES,
    Population,
    market,
    option,
    perpetual,
    volatility,
)

SCENARIOS: Final = 28  # 13 price steps x 2 volatility shocks, and two extremes, for each driving group
ACCOUNTS: Final = (100_000, 1_000_000)
OPTION_ACCOUNTS: Final = 0.2  # of the second book: so many of its accounts hold OPTIONS_HELD options among their eight positions
OPTIONS_HELD: Final = 3
MATRIX_INSTRUMENTS: Final = 2_000
STREAM_DOUBLES: Final = 16_000_000  # of each array of the bandwidth test: beyond any cache
TOLERANCE: Final = 1e-9  # of an account's value
# What a valuation must read and write of one account: slots of (instrument, quantity, cash), their number, states; and the health row.
ACCOUNT_BYTES: Final = POSITIONS * (4 + 8 + 8) + 4 + 4 * 1 + 8 * OUT + 8 + 1 + 1


class Timed(NamedTuple):
    """Seconds of each round."""

    seconds: list[float]

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def spread(self) -> float:
        """(slowest - fastest) / median."""
        return (max(self.seconds) - min(self.seconds)) / self.median


def live_market(*, options: bool) -> Market:
    """The bench's market with a clock, parameters and prices: everything in it can be valued."""
    found = Market()
    for message in market(NOW_NS, options=options):
        fault = _observe(found, message)
        assert fault is None, fault
    found.tick(NOW_NS)
    found.revalue()
    assert found.live
    return found


def _observe(found: Market, message: Any) -> Any:
    kind = type(message).__name__
    if kind == "OraclePrice":
        return found.observe_price(message)
    if kind == "ImpliedVolatility":
        return found.observe_volatility(message)
    return found.set_parameters(message) if kind == "RiskParameters" else found.define(message)


def filled_columns(found: Market, accounts: int, option_accounts: float = 0.0) -> Columns:
    """A book of `accounts`, eight positions each; a share of them with options in place of perpetuals."""
    book = Accounts()
    book.ensure_instruments(found.universe.instrument_count)
    book._grow(accounts, max(64, found.universe.instrument_count), book.columns.pending.shape[0])
    c, draw = book.columns, np.random.default_rng(SEED)
    numbers = np.array([_number(found, venue, perpetual(asset)) for venue, asset in PERPETUALS], np.int32)
    lot_usd = np.array([COINS[asset].price * COINS[asset].lot_size for _, asset in PERPETUALS])
    held = np.argsort(draw.random((accounts, len(PERPETUALS)), np.float32), axis=1)[:, : POSITIONS - 2]
    c.positions[:] = POSITIONS
    c.instrument[:, 0], c.instrument[:, 1] = _number(found, VENUES[0], "USD"), _number(found, VENUES[0], "BTC")
    c.quantity[:, 0], c.quantity[:, 1] = draw.integers(40_000, 160_000, accounts), draw.integers(100, 900, accounts)
    usd = draw.uniform(5_000.0, 20_000.0, held.shape) * draw.choice((-1.0, 1.0), held.shape)
    c.instrument[:, 2:POSITIONS] = numbers[held]
    c.quantity[:, 2:POSITIONS] = np.rint(usd / lot_usd[held])
    c.cash[:, 2:POSITIONS] = np.rint(-usd * draw.uniform(0.95, 1.05, held.shape) * 1e6)
    if option_accounts:
        with_options = np.flatnonzero(draw.random(accounts) < option_accounts)
        series = [option(strike, is_call) for strike in OPTION_STRIKES for is_call in (True, False)]
        options = np.array([_number(found, VENUES[0], name) for name in series], np.int32)
        chosen = np.argsort(draw.random((len(with_options), len(options))), axis=1)[:, :OPTIONS_HELD]
        columns = slice(POSITIONS - OPTIONS_HELD, POSITIONS)
        c.instrument[with_options, columns] = options[chosen]
        c.quantity[with_options, columns] = draw.integers(-60, 20, chosen.shape)
        c.cash[with_options, columns] = c.quantity[with_options, columns] * -50_000_000
    return c


def _number(found: Market, venue: str, name: str) -> int:
    number = found.universe.instrument_number(venue, name)
    assert number is not None, (venue, name)
    return number


def revaluation(accounts: int, rounds: int, bandwidth: Callable[[], float], *, option_accounts: float = 0.0) -> dict[str, Any]:
    """One book through the engine and through numpy, in turns; raises AssertionError where they disagree."""
    found = live_market(options=option_accounts > 0.0)
    columns = filled_columns(found, accounts, option_accounts)
    tables, instruments = found.tables, found.universe.instrument_count
    everybody = np.arange(accounts, dtype=np.int64)
    states, reasons, index = np.zeros(accounts, np.int8), np.zeros(accounts, np.int8), np.zeros(accounts, np.int64)
    rival = numpy_book.NumpyBook(columns, accounts, tables, instruments, collateral=_number(found, VENUES[0], "BTC"))
    works: dict[str, Callable[[], object]] = {
        "engine": lambda: value_accounts(everybody, columns, tables, found.parameters.end_factor, states, reasons, index)
    }
    every = numpy_book.all_scenarios(tables, instruments)
    works["numpy"] = lambda: rival.value(every)
    matrix = bare_matrix(tables, instruments)
    largest = np.zeros(accounts)
    works["bare"] = lambda: gather_multiply_add(columns.positions, columns.instrument, columns.quantity, matrix, largest)
    if not option_accounts:
        ends = numpy_book.ends_only(tables, instruments)
        works["numpy_ends_only"] = lambda: rival.value(ends)
    seconds: dict[str, list[float]] = {name: [] for name in works}
    speeds = []
    for round_number in range(rounds + 1):  # the first one warms up
        speed = bandwidth()
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if round_number:
                seconds[name].append(time.perf_counter() - started)
            if name.startswith("numpy") and not round_number:
                _must_agree(rival, columns, states, reasons)
        speeds.append(speed)
    timed = {name: Timed(taken) for name, taken in seconds.items()}
    engine, bytes_per_s = timed["engine"].median, float(np.median(speeds))
    return {
        "accounts": accounts,
        "positions": POSITIONS,
        "scenarios": SCENARIOS,
        "groups": len(COINS),
        "option_accounts": option_accounts,
        "engine_accounts_per_s": round(accounts / engine),
        "engine_ns_per_account": round(engine / accounts * 1e9, 1),
        "engine_spread": round(timed["engine"].spread, 3),
        "numpy_accounts_per_s": round(accounts / timed["numpy"].median),
        "numpy_spread": round(timed["numpy"].spread, 3),
        **({} if option_accounts else {"numpy_ends_only_accounts_per_s": round(accounts / timed["numpy_ends_only"].median)}),
        "times_numpy": round(timed["numpy"].median / engine, 2),
        "bare_ns_per_account": round(timed["bare"].median / accounts * 1e9, 1),
        "times_bare": round(float(np.median(np.array(seconds["engine"]) / np.array(seconds["bare"]))), 2),
        "memory_per_account_bytes": memory_per_account(columns),
        "bytes_per_account": ACCOUNT_BYTES,
        "share_of_bandwidth": round(accounts * ACCOUNT_BYTES / engine / bytes_per_s, 4),
        "largest_difference": max(_must_agree(rival, columns, states, reasons), 0.0),
        "accounts_by_state": {state.name: int((states == state).sum()) for state in State},
    }


def bare_matrix(tables: RiskTables, instruments: int) -> NDArray[np.float64]:
    """[instruments, SCENARIOS]: USD change of a lot in each scenario of its own group, by position and nothing else."""
    matrix = np.zeros((instruments, SCENARIOS))
    steps = int(tables.settings_int[GRID_STEPS])
    x = np.repeat((np.arange(2 * steps + 1) - steps) / steps, 2)
    for i in range(instruments):
        group = int(tables.instrument_int[i, GROUP])
        if tables.instrument_int[i, SCAN_ROW] >= 0:
            matrix[i] = tables.option_scan[0, i, :SCENARIOS]
        elif group >= 0:
            row = tables.group_float[0, group]
            moves = np.concatenate([x * row[SCAN], [row[EXTREME_UP], -row[EXTREME_DOWN]]])
            matrix[i] = tables.instrument_float[i, DELTA_LONG] * moves
    return matrix


@kernel
def gather_multiply_add(
    positions: NDArray[np.int32],
    instrument: NDArray[np.int32],
    quantity: NDArray[np.int64],
    matrix: NDArray[np.float64],
    largest: NDArray[np.float64],
) -> None:
    """The least that any scenario engine does: each position's row of the matrix, times its lots, added up; the largest loss kept."""
    sums = np.zeros(matrix.shape[1])
    for a in range(largest.shape[0]):
        sums[:] = 0.0
        for slot in range(positions[a]):
            row = matrix[instrument[a, slot]]
            lots = float(quantity[a, slot])
            for s in range(matrix.shape[1]):
                sums[s] += lots * row[s]
        worst = 0.0
        for s in range(matrix.shape[1]):
            worst = min(worst, sums[s])
        largest[a] = -worst


def memory_per_account(columns: Columns) -> int:
    """Bytes that an account takes in a book's arrays; names and the few that have a life of their own come on top."""
    accounts = columns.positions.shape[0]
    held = sum(int(array.nbytes) for array in columns if array.shape[0] == accounts) + int(columns.holders.nbytes)
    return int(held // accounts)


def _must_agree(rival: numpy_book.NumpyBook, columns: Columns, states: NDArray[np.int8], reasons: NDArray[np.int8]) -> float:
    assert not reasons.any(), f"{int((reasons != 0).sum())} accounts cannot be valued, so nothing was measured"
    worst, other_state = rival.differences(columns, states)
    assert worst <= TOLERANCE, f"engine and numpy differ by {worst} of an account's value"
    # At a boundary the last bit decides; that close there are next to none.
    assert other_state <= len(states) * 1e-5, f"{other_state} accounts are in another state than numpy says"
    return worst


@kernel
def _triad(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64], factor: float) -> None:
    for k in range(a.shape[0]):
        a[k] = b[k] + factor * c[k]


def bandwidth_test(doubles: int = STREAM_DOUBLES) -> Callable[[], float]:
    """A function that measures bytes/s of a = b + f * c in one thread: 24 bytes an element, as STREAM counts them; best of three."""
    a, b, c = np.zeros(doubles), np.ones(doubles), np.full(doubles, 2.0)
    _triad(a, b, c, 3.0)

    def measure() -> float:
        best = float("inf")
        for _ in range(3):
            started = time.perf_counter()
            _triad(a, b, c, 3.0)
            best = min(best, time.perf_counter() - started)
        return 24.0 * doubles / best

    return measure


def fills_in_frames(accounts: int, frame_events: int, frames: int) -> dict[str, Any]:
    """The book alone, no bus: microseconds a fill with health after each, and a cut of all accounts. Checks every position.

    A cut is made after each frame, and their median counts: a single one may meet a collection of garbage.
    """
    population, book = Population(accounts), Book(0, 1)
    open_book(book, population)
    book.take_cut()
    seconds, cuts = [], []
    for _ in range(frames):
        frame = fill_frame(book, list(population.trades(frame_events)))
        started = time.perf_counter()
        effects = book.apply(book.applied + 1, frame)
        seconds.append(time.perf_counter() - started)
        assert not effects.now, effects.now[:3]
        started = time.perf_counter()
        rows = len(book.take_cut().rows)
        cuts.append((time.perf_counter() - started) / rows)
    held = {name: number for number, name in enumerate(book.accounts.names)}
    c = book.accounts.columns
    for account, name in enumerate(population.names):
        a = held[name]
        for column in range(POSITIONS):
            number = book.market.universe.instrument_number(*population.position(account, column))
            slot = c.instrument[a, : c.positions[a]].tolist().index(number)
            assert c.quantity[a, slot] == population.lots[account, column], (name, column)
            assert c.cash[a, slot] == population.cash[account, column], (name, column)
    return {
        "accounts": accounts,
        "frame_events": frame_events,
        "us_per_fill": round(float(np.median(seconds)) / frame_events * 1e6, 3),
        "cut_rows": rows,
        "cut_us_per_row": round(float(np.median(cuts)) * 1e6, 3),
        "accounts_by_state": {state.name: int((c.state[: len(held)] == state).sum()) for state in State},
    }


def scenario_matrix(instruments: int, rounds: int) -> dict[str, Any]:
    """The scan rows of so many options made again, both levels, as a frame that moves their underlying does."""
    found = Market()
    for message in market(NOW_NS, options=False):
        assert _observe(found, message) is None
    strikes = np.geomspace(40_000.0, 250_000.0, instruments // 2)
    for number in range(instruments):
        definition = InstrumentDefinition(
            v=1,
            time_ns=NOW_NS,
            venue=VENUES[0],
            name=f"OPTION-{number}",
            contract="option",
            underlying="BTC",
            lot_size=0.01,
            tick_size=0.01,
            strike=float(strikes[number // 2]),
            expiry_ns=NOW_NS + OPTION_LIFE_NS,
            is_call=number % 2 == 0,
        )
        assert found.define(definition) is None
    assert found.observe_volatility(volatility(NOW_NS)) is None
    found.tick(NOW_NS)
    found.revalue()
    seconds = []
    for round_number in range(rounds + 1):
        found._set.option_inputs[:] = np.nan
        found._defined = True  # everything is made again
        started = time.perf_counter()
        found.revalue()
        if round_number:
            seconds.append(time.perf_counter() - started)
    taken = float(np.median(seconds))
    return {
        "instruments": instruments,
        "scenarios": SCENARIOS,
        "ms": round(taken * 1e3, 2),
        "ns_per_price": round(taken / (instruments * SCENARIOS * 2) * 1e9, 1),
    }


def measured(accounts: list[int], rounds: int, *, doubles: int = STREAM_DOUBLES, frames: int = 40) -> dict[str, Any]:
    """All of it."""
    bandwidth = bandwidth_test(doubles)
    found: dict[str, Any] = {"bandwidth_gb_per_s": round(bandwidth() / 1e9, 2)}
    for count in accounts:
        found[f"linear_{count}"] = revaluation(count, rounds, bandwidth)
        found[f"options_{count}"] = revaluation(count, rounds, bandwidth, option_accounts=OPTION_ACCOUNTS)
    found["memory_per_account_bytes"] = found[f"linear_{accounts[0]}"]["memory_per_account_bytes"]
    found["matrix"] = scenario_matrix(MATRIX_INSTRUMENTS, rounds)
    found["fills"] = fills_in_frames(5_000, 8_000, frames)
    found["looked_at"] = looked_at(min(accounts), rounds)
    return found


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, nargs="+", default=list(ACCOUNTS))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    json.dump(measured(options.accounts, options.rounds), sys.stdout, indent=2)


if __name__ == "__main__":
    main()
