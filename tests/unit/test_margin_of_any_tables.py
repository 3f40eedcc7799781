"""Accounts in tables of arbitrary numbers, against the formulas of docs/model.md, sections 4 and 5, written without tricks.

Whatever a market can hardly be brought to (correlations of one direction, levels far apart, every binding scenario) is drawn here.
"""

import math
import random
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import tables as t
from engine.margin import (
    CLOSE_COST,
    DRIVER,
    EQUITY,
    EQUITY_INITIAL,
    INITIAL,
    LIMIT,
    MAINTENANCE,
    OUT,
    UNHAIRCUT,
    break_down,
    closing_cost_usd,
    evaluate,
    requirements_by_mode,
    scenario_name,
    take_lots,
)
from engine.requirement import binding_regime, divide, hold_groups, requirement_of_part
from engine.tables import RiskTables, new_tables

INSTRUMENTS: Final = 14
ASSETS: Final = 5
GROUPS: Final = (0, 3, 17, 18, t.ASSETS_MAX - 1)  # numbers, by asset; the last one is where an index of -1 leads
CHAINS: Final = 4
VENUES: Final = 3
ISOLATED, PROTOCOL, PORTFOLIO = 0, 1, 2
CLOSE: Final = 1e-9  # of what an account holds


class Slot(NamedTuple):
    """`lots` is what stays of `quantity`; open orders that do not count are 0."""

    instrument: int
    quantity: int
    lots: int
    cash: int
    buy: int
    sell: int

    @property
    def ordered(self) -> bool:
        return self.buy != 0 or self.sell != 0


class Scenario(NamedTuple):
    code: int
    loss: float


def random_tables(dice: random.Random) -> RiskTables:
    """Columns have their own signs and bounds, and otherwise nothing to do with each other."""
    tables = new_tables()
    for scratch in (tables.scratch, tables.pieces):  # as an account before may have left it
        scratch[:] = math.nan
    tables.option_scan[:, -1] = 1_000.0  # of the last instrument, which an index of -1 would find
    tables.scratch_int[:] = 10**6
    tables.lots[:] = 77
    steps = dice.choice((1, 2, 3))
    tables.settings_int[:] = steps, dice.randrange(3), dice.randrange(2)
    tables.settings[:] = [0.0] * t.SETTINGS
    for column, low, high in (
        (t.EXTREME_FRACTION, 0.1, 1.0),
        (t.END_FACTOR, 1.0, 1.5),
        (t.INITIAL_FACTOR, 1.0, 1.5),
        (t.GAP_FRACTION, 0.1, 1.0),
        (t.CONCENTRATION_K, 0.1, 2.0),
        (t.LIMIT_ACCOUNT, 0.3, 3.0),
        (t.LIMIT_ASSET, 0.1, 2.0),
        (t.LIMIT_VENUE, 0.1, 2.0),
        (t.CORRELATION_HIGH, 0.0, 1.0),
        (t.CORRELATION_LOW, 0.0, 1.0),
    ):
        tables.settings[column] = dice.uniform(low, high)
    for j in range(CHAINS):
        tables.atomic_chains[j] = 1 << j | dice.choice((0, 1 << dice.randrange(CHAINS)))
    for level in range(2):
        for g in GROUPS:
            scan = dice.uniform(0.05, 0.4)
            row = (
                scan,
                scan * dice.uniform(1.0, 3.0),
                min(0.99, scan * dice.uniform(1.0, 3.0)),
                dice.choice((0.0, dice.random(), 1.0)),
                1.0,
            )
            tables.group_float[level, g] = row
            tables.group_float[level, g, t.THIN] = dice.uniform(0.01, 0.2)
            for h in GROUPS:
                _correlate(tables, dice, level, g, h)
    caps = [dice.choice((50.0, 500.0, 1e15)) for _ in range(dice.choice((1, 2, ASSETS)))]
    for i in range(INSTRUMENTS):
        _instrument(tables, dice, i, caps)
    return tables


def _correlate(tables: RiskTables, dice: random.Random, level: int, g: int, h: int) -> None:
    """Without stress the regimes are the same step away from what is observed everywhere."""
    observed = 1.0 if g == h else dice.uniform(-1.0, 1.0)
    high, low = tables.settings[t.CORRELATION_HIGH], tables.settings[t.CORRELATION_LOW]
    if tables.settings_int[t.IS_STRESSED]:
        high, low = dice.random(), dice.random()
    regimes = (observed, observed + high * (1 - observed), observed * (1 - low))
    for regime, rho in zip((t.OBSERVED, t.HIGH, t.LOW), regimes, strict=True):
        tables.correlation[level, regime, g, h] = rho


def _instrument(tables: RiskTables, dice: random.Random, i: int, caps: list[float]) -> None:
    asset = dice.randrange(len(caps))
    contract = dice.choice((t.SPOT, t.SPOT, t.SPOT, t.LOAN, t.PERPETUAL, t.INVERSE_PERPETUAL, t.OPTION, t.OPTION))
    ints, floats = tables.instrument_int[i], tables.instrument_float[i]
    derivative = contract not in (t.SPOT, t.LOAN)
    ints[t.CONTRACT], ints[t.ASSET], ints[t.QUOTE] = contract, asset, 0
    ints[t.GROUP] = dice.choice((GROUPS[asset], GROUPS[asset], -1)) if contract in (t.SPOT, t.LOAN) else GROUPS[asset]
    ints[t.QUOTE_GROUP] = dice.choice((-1, dice.choice(GROUPS)))
    ints[t.CHAIN], ints[t.VENUE] = dice.randrange(CHAINS), dice.randrange(VENUES)
    ints[t.SCAN_ROW] = i if contract == t.OPTION else -1
    ints[t.ELIGIBLE] = dice.choice((0, 1, 1))
    ints[t.LEVELS_DIFFER] = dice.choice((0, 0, 1))
    ints[t.BAND] = {t.SPOT: -1, t.LOAN: -1, t.OPTION: dice.randrange(1, t.TENOR_BANDS)}.get(contract, 0)
    ints[t.IS_DERIVATIVE] = derivative
    ints[t.TAKES_ORDERS] = contract != t.LOAN
    for column in range(t.INSTRUMENT_FLOATS):
        floats[column] = dice.uniform(0.5, 2.0)
    floats[t.DELTA_LONG], floats[t.DELTA_SHORT] = (0.0, 0.0) if contract == t.OPTION else (dice.uniform(-0.5, 2.0), dice.uniform(-0.5, 2.0))
    if ints[t.QUOTE_GROUP] < 0:
        floats[t.CASH_DELTA] = 0.0
    floats[t.CAP_USD] = caps[asset]
    for column, low, high in (
        (t.HAIRCUT_FLAT, -0.1, 0.5),
        (t.LATENCY, 0.0, 0.6),
        (t.SIZE, 0.0, 0.02),
        (t.RECOGNISED, 0.5, 1.0),
        (t.VOL_HAIRCUT, 0.0, 0.5),
        (t.CASH_VOL_HAIRCUT, 0.0, 0.5),
        (t.GAP_UP, -1.0, 1.0),
        (t.GAP_DOWN, -1.0, 1.0),
    ):
        floats[column : column + 2] = dice.uniform(low, high), dice.uniform(low, high)
    for column, low, high in (
        (t.OPTION_DELTA, -1.0, 1.0),
        (t.ORDER_DELTA, -1.0, 1.0),
        (t.COST_RATE, 0.0, 0.01),
        (t.IMPACT, 0.0, 0.001),
        (t.STABLE_LONG, 0.5, 1.0),
        (t.BASIS_CHARGE, -0.05, 0.05),
        (t.VEGA_CHARGE, -0.05, 0.05),
        (t.SHORT_MINIMUM, 0.0, 0.3),
    ):
        floats[column] = dice.uniform(low, high)
    for level in range(2):
        for column in range(t.COLUMNS_MAX):
            tables.option_scan[level, i, column] = dice.uniform(-0.5, 0.5)


class Book:
    """An account of tables, both as columns for the kernels and as slots for the formulas."""

    def __init__(self, dice: random.Random) -> None:
        self.tables = random_tables(dice)
        self.count = dice.choice((1, 2, 3, 4, 5, 7))
        self.instrument = np.zeros(t.POSITIONS_MAX, np.int32)
        self.quantity = np.zeros(t.POSITIONS_MAX, np.int64)
        self.cash = np.zeros(t.POSITIONS_MAX, np.int64)
        self.pending = np.zeros((t.POSITIONS_MAX, t.PENDING), np.int64)
        linear = dice.random() < 0.4  # no options and no orders: the closed form
        kinds = [i for i in range(INSTRUMENTS) if not linear or self.tables.instrument_int[i, t.SCAN_ROW] < 0]
        chosen = dice.sample(kinds, min(len(kinds), self.count))
        self.count = len(chosen)
        for slot, i in enumerate(chosen):
            self.instrument[slot] = i
            self.quantity[slot] = dice.choice((0, 1, -1, dice.randint(1, 300), -dice.randint(1, 300), dice.randint(1, 300)))
            self.cash[slot] = dice.choice((0, 0, 1, -1, dice.randint(-300, 300), dice.randint(-300, 300)))
            if not linear and dice.random() < 0.4:
                self.pending[slot] = dice.choice((0, 1)) * dice.randint(1, 300), dice.choice((0, 1)) * dice.randint(1, 300), 0
            if dice.random() < 0.2:
                self.pending[slot, t.LEAVING] = dice.randint(1, 300)
        self.has_pending = bool(self.pending.any()) and dice.random() < 0.8  # without it, nothing of `pending` counts

        if dice.random() < 0.2:
            for i in range(INSTRUMENTS):
                self.tables.instrument_int[i, t.UNIT_UNKNOWN : t.CASH_UNKNOWN + 1] = dice.choice((0, 1, 4)), dice.choice((0, 2, 3))

    @property
    def columns(self) -> tuple[int, NDArray[np.int32], NDArray[np.int64], NDArray[np.int64], bool, NDArray[np.int64], RiskTables]:
        return self.count, self.instrument, self.quantity, self.cash, self.has_pending, self.pending, self.tables

    def slots(self) -> list[Slot]:
        found = []
        for slot in range(self.count):
            i, quantity = int(self.instrument[slot]), int(self.quantity[slot])
            buy, sell, leaving = self.pending[slot].tolist() if self.has_pending else (0, 0, 0)
            stays = quantity
            if quantity > 0 and self.tables.instrument_int[i, t.CONTRACT] == t.SPOT:
                stays = max(quantity - leaving, 0)
            if not self.tables.instrument_int[i, t.TAKES_ORDERS]:
                buy = sell = 0
            found.append(Slot(i, quantity, stays, int(self.cash[slot]), buy, sell))
        return found


class Plain:
    """The formulas."""

    def __init__(self, book: Book) -> None:
        self.tables = book.tables
        self.slots = book.slots()
        self.steps = int(self.tables.settings_int[t.GRID_STEPS])
        self.points = [(k - self.steps) / self.steps for k in range(2 * self.steps + 1)]

    def number(self, slot: Slot, column: int) -> int:
        return int(self.tables.instrument_int[slot.instrument, column])

    def usd(self, slot: Slot, column: int) -> float:
        return float(self.tables.instrument_float[slot.instrument, column])

    def setting(self, column: int) -> float:
        return float(self.tables.settings[column])

    def of_group(self, group: int, level: int, column: int) -> float:
        return float(self.tables.group_float[level, group, column])

    def unknown(self) -> int:
        """The lowest code of what cannot be valued."""
        lots = [self.number(slot, t.UNIT_UNKNOWN) for slot in self.slots if slot.lots or slot.ordered]
        return min((code for code in lots + [self.number(slot, t.CASH_UNKNOWN) for slot in self.slots if slot.cash] if code), default=0)

    # ---- values and haircuts ----

    def value(self, slot: Slot) -> float:
        return slot.lots * self.usd(slot, t.UNIT_LONG if slot.lots > 0 else t.UNIT_SHORT)

    def unhaircut(self) -> float:
        return sum(self.value(slot) + slot.cash * self.usd(slot, t.CASH_VALUE) for slot in self.slots)

    def gross(self) -> float:
        return 1.0 + sum(300 * abs(slot.lots) + 300 * abs(slot.cash) + slot.buy + slot.sell for slot in self.slots) / 100

    def balances(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.lots > 0 and self.number(slot, t.CONTRACT) == t.SPOT]

    def lost(self, level: int) -> float:
        """With all that spot orders may buy bought."""
        total, used = 0.0, dict.fromkeys(range(ASSETS), 0.0)
        spot = [slot._replace(lots=slot.lots + slot.buy) for slot in self.slots if self.number(slot, t.CONTRACT) == t.SPOT]
        balances = [slot for slot in spot if slot.lots > 0]
        for slot in balances:
            asset, chain = self.number(slot, t.ASSET), self.number(slot, t.CHAIN)
            lying = [one for one in balances if (self.number(one, t.ASSET), self.number(one, t.CHAIN)) == (asset, chain)]
            haircut = self.usd(slot, t.HAIRCUT_FLAT + level) + self.usd(slot, t.SIZE + level) * math.sqrt(sum(map(self.value, lying)))
            if any(
                not int(self.tables.atomic_chains[chain]) >> self.number(one, t.CHAIN) & 1
                for one in self.slots
                if one.lots or one.cash or one.ordered
            ):
                haircut += self.usd(slot, t.LATENCY + level)
            inside = min(self.value(slot), max(self.usd(slot, t.CAP_USD) - used[asset], 0.0))
            if self.number(slot, t.ELIGIBLE):
                used[asset] += self.value(slot)
            stable = self.usd(slot, t.STABLE_LONG) if level == t.INITIAL_LEVEL else 1.0
            total += self.value(slot) - inside * stable * self.usd(slot, t.RECOGNISED + level) * (1 - min(max(haircut, 0.0), 1.0))
        return total

    def owed_more(self) -> float:
        """Of debts at the initial level."""
        debts = [slot for slot in self.slots if slot.lots < 0 and not self.number(slot, t.IS_DERIVATIVE)]
        return sum(-self.value(slot) * (self.usd(slot, t.STABLE_SHORT) - 1) for slot in debts)

    # ---- scenarios ----

    def groups(self) -> list[int]:
        held = {self.number(slot, t.GROUP) for slot in self.slots if slot.lots or slot.ordered}
        held |= {self.number(slot, t.QUOTE_GROUP) for slot in self.slots if slot.cash}
        return sorted(held - {-1})

    def move_profit(self, part: list[Slot], group: int, move: float) -> float:
        """Of what is linear."""
        total = 0.0
        for slot in part:
            if self.number(slot, t.GROUP) == group:
                total += slot.lots * self.usd(slot, t.DELTA_LONG if slot.lots > 0 else t.DELTA_SHORT) * move
            if self.number(slot, t.QUOTE_GROUP) == group:
                total += slot.cash * self.usd(slot, t.CASH_DELTA) * move
        return total

    def profit(self, part: list[Slot], group: int, level: int, column: int, move: float) -> float:
        """In a scan column, in which linear things move by `move`."""
        total = self.move_profit(part, group, move)
        for slot in part:
            if self.number(slot, t.GROUP) != group:
                continue
            row = self.number(slot, t.SCAN_ROW)
            of_a_lot = float(self.tables.option_scan[level, row, column]) if row >= 0 else self.usd(slot, t.ORDER_DELTA) * move
            if row >= 0:
                total += slot.lots * of_a_lot
            total -= max(0.0, -slot.buy * of_a_lot) + max(0.0, slot.sell * of_a_lot)
        return total

    def profiles(self, part: list[Slot], group: int, level: int) -> tuple[list[list[float]], float, float]:
        """Profit by shock and step, in the extreme up and in the extreme down."""
        scan, last = self.of_group(group, level, t.SCAN), 2 * len(self.points)
        by_shock = [[self.profit(part, group, level, 2 * k + shock, x * scan) for k, x in enumerate(self.points)] for shock in range(2)]
        up = self.profit(part, group, level, last, self.of_group(group, level, t.EXTREME_UP))
        return by_shock, up, self.profit(part, group, level, last + 1, -self.of_group(group, level, t.EXTREME_DOWN))

    def volatility_haircut(self, part: list[Slot], group: int, level: int) -> float:
        total = 0.0
        for slot in part:
            if self.number(slot, t.GROUP) == group:
                column = t.DELTA_LONG if slot.lots > 0 else t.DELTA_SHORT
                stake = slot.lots * self.usd(slot, t.OPTION_DELTA if self.number(slot, t.SCAN_ROW) >= 0 else column)
                order = self.usd(slot, t.ORDER_DELTA)
                stake += max(0.0, slot.buy * order) + max(0.0, -slot.sell * order)
                total += stake * self.usd(slot, t.VOL_HAIRCUT + level)
            if self.number(slot, t.QUOTE_GROUP) == group:
                total += slot.cash * self.usd(slot, t.CASH_DELTA) * self.usd(slot, t.CASH_VOL_HAIRCUT + level)
        return total

    def scenarios(self, part: list[Slot], level: int) -> list[Scenario]:
        """In the order of the specification."""
        groups = self.groups()
        profiles = {g: self.profiles(part, g, level) for g in groups}
        found = []
        for g in groups:
            for regime in range(t.REGIMES):
                rho = self.tables.correlation[level, regime, g]
                others = [h for h in groups if h != g]

                def moved(x: float, shock: int, others: list[int] = others, rho: NDArray[np.float64] = rho) -> float:
                    return sum(float(np.interp(rho[h] * x, self.points, profiles[h][0][shock])) for h in others)

                code, columns = g * 256 + regime * 64, 2 * len(self.points)
                by_shock, up, down = profiles[g]
                for k, x in enumerate(self.points):
                    found += [Scenario(code + 2 * k + shock, -(by_shock[shock][k] + moved(x, shock))) for shock in range(2)]
                fraction = self.setting(t.EXTREME_FRACTION)
                found.append(Scenario(code + columns, -fraction * (up + moved(1.0, 0))))
                found.append(Scenario(code + columns + 1, -fraction * (down + moved(-1.0, 0))))
                step = self.of_group(g, level, t.HAIRCUT_STEP)
                found.append(Scenario(code + 60, self.volatility_haircut(part, g, level) - moved(-step, 0)))
        return found

    # ---- requirement ----

    def parts(self, mode: int) -> list[list[Slot]]:
        if mode == PORTFOLIO:
            return [self.slots]
        if mode == ISOLATED:
            return [[slot] for slot in self.slots]
        venues = sorted({self.number(slot, t.VENUE) for slot in self.slots})
        return [[slot for slot in self.slots if self.number(slot, t.VENUE) == venue] for venue in venues]

    @staticmethod
    def largest(slots: list[Slot], usd: Callable[[Slot], float]) -> float:
        """Of the sum of lots * usd, as orders may be filled, the one that is highest."""
        return sum(max((slot.lots - slot.sell) * usd(slot), (slot.lots + slot.buy) * usd(slot)) for slot in slots)

    def by_band(self, part: list[Slot], column: int, slots: list[Slot]) -> float:
        bands: dict[tuple[int, int], list[Slot]] = {}
        for slot in slots:
            if slot in part and self.number(slot, t.BAND) >= 0:
                bands.setdefault((self.number(slot, t.GROUP), self.number(slot, t.BAND)), []).append(slot)
        return sum(
            max(self.largest(one, lambda s: self.usd(s, column)), self.largest(one, lambda s: -self.usd(s, column)))
            for one in bands.values()
        )

    def gap(self, options: list[Slot], level: int) -> float:
        total = 0.0
        for group in GROUPS:
            mine = [slot for slot in options if self.number(slot, t.GROUP) == group]
            up = self.largest(mine, lambda s: self.usd(s, t.GAP_UP + level))
            down = self.largest(mine, lambda s: self.usd(s, t.GAP_DOWN + level))
            total += max(0.0, up, down)
        return self.setting(t.GAP_FRACTION) * total

    def of_derivatives(self, group: int, column: int, *, ordered: bool = False) -> float:
        mine = [slot for slot in self.slots if self.number(slot, t.IS_DERIVATIVE) and self.number(slot, t.GROUP) == group]
        lots = {slot: max(abs(slot.lots + slot.buy), abs(slot.lots - slot.sell)) if ordered else abs(slot.lots) for slot in mine}
        return sum(lots[slot] * self.usd(slot, column) for slot in mine)

    def concentration(self, level: int) -> float:
        total = 0.0
        for group in GROUPS:
            gross = self.of_derivatives(group, t.EXPOSURE, ordered=True)
            longer = max(0.0, math.sqrt(gross) * self.of_group(group, level, t.THIN) - 1)
            left = min(gross, self.net(group))
            total += min(left, self.setting(t.CONCENTRATION_K) * left * self.of_group(group, level, t.SCAN) * longer)
            options = [slot for slot in self.slots if self.number(slot, t.SCAN_ROW) >= 0 and self.number(slot, t.GROUP) == group]
            most = sum(max(abs(slot.lots + slot.buy), abs(slot.lots - slot.sell)) * self.usd(slot, t.NOTIONAL) for slot in options)
            total += min(most, self.setting(t.CONCENTRATION_K) * self.gap(options, level) * longer)
        return total

    def net(self, group: int) -> float:
        """Of all slots, options at their delta and cash in coin counted, and open orders as they make it largest on either side."""
        total, more, less = 0.0, 0.0, 0.0
        for slot in self.slots:
            if self.number(slot, t.GROUP) == group:
                slope = self.usd(slot, t.DELTA_LONG if slot.lots > 0 else t.DELTA_SHORT)
                total += slot.lots * (slope + self.usd(slot, t.OPTION_DELTA))
                more += max(slot.buy * self.usd(slot, t.ORDER_DELTA), -slot.sell * self.usd(slot, t.ORDER_DELTA))
                less += max(-slot.buy * self.usd(slot, t.ORDER_DELTA), slot.sell * self.usd(slot, t.ORDER_DELTA))
            if self.number(slot, t.QUOTE_GROUP) == group:
                total += slot.cash * self.usd(slot, t.CASH_DELTA)
        return max(total + more, less - total)

    def pieces(self, mode: int, level: int) -> list[float]:
        """In the order of PIECE_NAMES, summed over the parts; at the end the requirement."""
        sums, total = [0.0] * t.PIECES, 0.0
        for part in self.parts(mode):
            options = [slot for slot in part if self.number(slot, t.SCAN_ROW) >= 0]
            worst = max([0.0, *(one.loss for one in self.scenarios(part, level))])
            minimum = sum(max(slot.sell - slot.lots, 0) * self.usd(slot, t.SHORT_MINIMUM) for slot in options)
            basis, vega = self.by_band(part, t.BASIS_CHARGE, part), self.by_band(part, t.VEGA_CHARGE, options)
            gap = self.gap(options, level)
            sums = [sum(pair) for pair in zip(sums, (worst, minimum, basis, vega, gap, 0.0), strict=True)]
            total += max(worst, minimum) + basis + vega + gap
        sums[t.CONCENTRATION] = self.concentration(level)
        return [*sums, total + sums[t.CONCENTRATION]]

    def limits(self) -> int:
        collateral = sum(map(self.value, self.balances()))
        for slot in self.slots:
            lots = self.value(slot) if self.number(slot, t.CONTRACT) not in (t.SPOT, t.LOAN) else 0.0
            collateral += max(lots + slot.cash * self.usd(slot, t.CASH_VALUE), 0.0)
        derivatives = [slot for slot in self.slots if self.number(slot, t.IS_DERIVATIVE)]

        def largest(column: int | None) -> float:
            sums: dict[int, float] = {}
            for slot in derivatives:
                key = 0 if column is None else self.number(slot, column)
                sums[key] = sums.get(key, 0.0) + abs(slot.lots) * self.usd(slot, t.NOTIONAL)
            return max(sums.values(), default=0.0)

        limits = ((t.LIMIT_ACCOUNT, None, 1), (t.LIMIT_ASSET, t.GROUP, 2), (t.LIMIT_VENUE, t.VENUE, 4))
        return sum(bit for limit, column, bit in limits if largest(column) > self.setting(limit) * collateral)

    def close_cost(self) -> float:
        total = 0.0
        for slot in self.slots:
            notional = abs(slot.lots) * self.usd(slot, t.NOTIONAL)
            total += notional * (self.usd(slot, t.COST_RATE) + self.usd(slot, t.IMPACT) * math.sqrt(notional))
        return total

    def binding(self, part: list[Slot], level: int) -> float:
        """Code of the first scenario that loses most, -1 where nothing loses."""
        found = self.scenarios(part, level)
        worst = max([0.0, *(one.loss for one in found)])
        return float(next(one.code for one in found if one.loss >= worst - 1e-9 * self.gross())) if worst > 0.0 else -1.0

    def driver(self, mode: int) -> float:
        """-1 where the mode has several parts."""
        (first, *others) = self.parts(mode) or [[]]
        return -1.0 if others else self.binding(first, t.MAINTENANCE_LEVEL)


def agrees(book: Book) -> None:
    plain, tables = Plain(book), book.tables
    out = np.zeros(OUT)
    status = evaluate(*book.columns, out)
    assert status == plain.unknown()
    if status != 0:
        assert np.isnan(out).all()
        return
    slack = CLOSE * plain.gross()
    mode = int(tables.settings_int[t.DECISION_MODE])
    differ = any(plain.number(slot, t.LEVELS_DIFFER) for slot in plain.slots if slot.lots or slot.cash or slot.ordered)
    maintenance = plain.pieces(mode, t.MAINTENANCE_LEVEL)[-1]
    initial = plain.pieces(mode, t.INITIAL_LEVEL)[-1] if differ else maintenance
    assert out[UNHAIRCUT] == pytest.approx(plain.unhaircut(), abs=slack)
    assert out[EQUITY] == pytest.approx(plain.unhaircut() - plain.lost(t.MAINTENANCE_LEVEL), abs=slack)
    assert out[EQUITY_INITIAL] == pytest.approx(plain.unhaircut() - plain.owed_more() - plain.lost(t.INITIAL_LEVEL), abs=slack)
    assert out[MAINTENANCE] == pytest.approx(maintenance, abs=slack)
    factors = plain.setting(t.INITIAL_FACTOR), plain.setting(t.END_FACTOR)
    assert out[INITIAL] == pytest.approx(max(factors[0] * initial, factors[1] * maintenance), abs=slack)
    assert out[CLOSE_COST] == pytest.approx(plain.close_cost(), abs=slack)
    assert out[DRIVER] == plain.driver(mode)
    assert out[LIMIT] == plain.limits()
    modes = np.full(3, math.nan)
    requirements_by_mode(*book.columns, modes)
    assert modes == pytest.approx([plain.pieces(one, t.MAINTENANCE_LEVEL)[-1] for one in (ISOLATED, PROTOCOL, PORTFOLIO)], abs=slack)
    for level in range(2):
        pieces = np.full(t.PIECES, math.nan)
        total = break_down(*book.columns, level, pieces)
        assert [*pieces, total] == pytest.approx(plain.pieces(mode, level), abs=slack)
    groups = plain.groups()
    held = hold_groups(book.count, book.instrument, tables.lots, book.cash, book.has_pending, book.pending, tables)
    assert tables.scratch_int[:held, t.HELD_GROUP].tolist() == groups
    assert not tables.place.any()
    assert tables.scratch[:held, t.GROSS] == pytest.approx(
        [plain.of_derivatives(group, t.EXPOSURE, ordered=True) for group in groups], rel=1e-12
    )
    assert tables.scratch[:held, t.LIMITED] == pytest.approx([plain.of_derivatives(group, t.NOTIONAL) for group in groups], rel=1e-12)
    for number, slot in enumerate(plain.slots):
        places = groups.index(plain.number(slot, t.GROUP)) if plain.number(slot, t.GROUP) >= 0 and (slot.lots or slot.ordered) else -1
        assert tables.scratch_int[number, t.SLOT_GROUP] == places
        quotes = groups.index(plain.number(slot, t.QUOTE_GROUP)) if plain.number(slot, t.QUOTE_GROUP) >= 0 and slot.cash else -1
        assert tables.scratch_int[number, t.SLOT_QUOTE_GROUP] == quotes
        assert closing_cost_usd(slot.instrument, slot.lots, tables) == closing_cost_usd(slot.instrument, -slot.lots, tables)


@pytest.mark.parametrize("seed", range(60))
def test_kernels_agree_with_the_formulas(seed: int) -> None:
    agrees(Book(random.Random(seed)))


@pytest.mark.parametrize("seed", range(60))
def test_the_first_scenario_that_loses_most_binds(seed: int) -> None:
    book = Book(random.Random(seed))
    plain, pending = Plain(book), (book.has_pending, book.pending)
    take_lots(book.count, book.instrument, book.quantity, *pending, book.tables)
    held = hold_groups(book.count, book.instrument, book.tables.lots, book.cash, *pending, book.tables)
    for mode in (ISOLATED, PORTFOLIO):
        parts = plain.parts(mode)
        assert divide(book.count, book.instrument, mode, book.tables) == len(parts)
        for level in range(2):
            for number, part in enumerate(parts):
                loss, code = requirement_of_part(book.count, book.instrument, book.cash, *pending, book.tables, held, level, number)
                assert code == plain.binding(part, level)
                assert loss >= 0.0


def test_what_gains_in_every_scenario_needs_nothing() -> None:
    dice = random.Random(0)
    book = Book(dice)
    book.count, book.has_pending, book.quantity[0], book.cash[0] = 1, False, 1, 0
    book.instrument[0] = option = next(i for i in range(INSTRUMENTS) if book.tables.instrument_int[i, t.SCAN_ROW] >= 0)
    book.tables.option_scan[:, option] = 0.1
    for column in (t.OPTION_DELTA, t.BASIS_CHARGE, t.VEGA_CHARGE, t.GAP_UP, t.GAP_DOWN):
        book.tables.instrument_float[option, column] = -0.1 if column == t.OPTION_DELTA else 0.0
    out, pieces = np.zeros(OUT), np.full(t.PIECES, math.nan)
    assert evaluate(*book.columns, out) == 0
    assert (out[MAINTENANCE], out[DRIVER]) == (0.0, -1.0)
    assert break_down(*book.columns, t.MAINTENANCE_LEVEL, pieces) == 0.0
    assert not pieces.any()


def test_codes_of_scenarios() -> None:
    """Group * 256 + regime * 64 + column, 60 for the volatility haircut."""
    names = ["BTC", "ETH"]
    codes = {
        -1.0: ("", "none"),
        0.0: ("observed", "BTC -2/2 volatility up"),
        5.0: ("observed", "BTC +0/2 volatility down"),
        9.0: ("observed", "BTC +2/2 volatility down"),
        256.0 + 64 + 10: ("high", "ETH extreme up, high correlation"),
        256.0 + 128 + 11: ("low", "ETH extreme down, low correlation"),
        128.0 + 60: ("low", "BTC volatility haircut, low correlation"),
    }
    assert {code: (binding_regime(code), scenario_name(code, 2, names)) for code in codes} == codes
    assert scenario_name(math.nan, 2, names) == "none"


def test_what_is_written_has_places_of_its_own() -> None:
    places = [EQUITY, EQUITY_INITIAL, UNHAIRCUT, MAINTENANCE, INITIAL, CLOSE_COST, DRIVER, LIMIT]
    assert places == list(range(OUT))
