"""One step of a market's breakers and of what rises slowly, on arbitrary arrays, against the rules of docs/model.md, sections 2 and 7.

A kernel says what it changed as well (`Touched`): too little, and a table is not made again; too much, and every step costs.
"""

import copy
import math
import random
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeVar

import numpy as np
import pytest

from engine.breakers import CLOSED, RECOVERING, TRIPPED, Breakers, advance, new_breakers
from engine.eligibility import advance_eligibility
from engine.market_arrays import (
    BASE,
    DEPTH_AGE,
    SUSPEND_DEPTH_USD,
    SUSPEND_UPTIME,
    Depths,
    RiskInputs,
    Settings,
    Touched,
    new_depths,
    new_inputs,
    new_lags,
    new_settings,
    new_touched,
)
from engine.market_breakers import advance_lag_breakers, advance_layers, advance_system
from engine.marks import NEVER_NS, Marks, new_marks
from engine.parameters import Parameters
from engine.slow_rise import (
    SlowRises,
    advance_collateral,
    advance_recognition,
    advance_slips,
    advance_stress,
    halved,
    holds_credit,
    measure_slip,
    new_slips,
    new_slow_rises,
    rise_slowly,
)
from engine.universe import AssetArrays, ChainArrays, InstrumentArrays, Universe

SECOND: Final = 10**9
HOUR: Final = 3_600 * SECOND
NOW: Final = 1_760_000_000 * SECOND
ASSETS: Final = 4
CHAINS: Final = 5
LAYERS: Final = 2
SPOTS: Final = 6
ELAPSED_NS: Final = (0, 1, 7 * 60 * SECOND, 3 * HOUR)
STATES: Final = (CLOSED, CLOSED, TRIPPED, RECOVERING)
Arrays = TypeVar("Arrays", SlowRises, RiskInputs, Breakers)


class Terms(NamedTuple):
    instruments: InstrumentArrays
    assets: AssetArrays
    chains: ChainArrays


def a_copy(arrays: Arrays) -> Arrays:
    return copy.deepcopy(arrays)


def marks_of(touched: Touched) -> Touched:
    """A copy with its own views."""
    every = new_touched()
    for mine, other in zip(every, touched, strict=True):
        mine[:] = other
    return every


def same(found: NamedTuple, expected: NamedTuple) -> None:
    for name, one, other in zip(type(found)._fields, found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14, atol=0.0, err_msg=name)


def random_breakers(dice: random.Random, count: int, states: Sequence[int] = STATES) -> Breakers:
    every = new_breakers(count)
    for k in range(count):
        every.state[k] = dice.choice(states)
        every.since_ns[k] = NOW - dice.choice((10, 400)) * SECOND
        every.calm_ns[k] = NOW - dice.choice((10, 299, 300, 400)) * SECOND
    return every


def random_terms(dice: random.Random) -> Terms:
    universe = Universe()
    instruments, assets, chains = universe.instrument_arrays, universe.asset_arrays, universe.chain_arrays
    for a in range(ASSETS):
        assets.asset_class[a] = dice.randrange(4)
        assets.eligible_chains[a] = dice.randrange(2**CHAINS)
        assets.redemption_delay_s[a] = dice.choice((0.0, 86_400.0))
    for j in range(CHAINS):
        chains.security_premium[j] = dice.choice((0.0, 0.02))
        chains.layer[j] = dice.randrange(LAYERS)
    for i in range(SPOTS):
        instruments.underlying[i], instruments.chain[i] = dice.randrange(ASSETS), dice.randrange(CHAINS)
    return Terms(instruments, assets, chains)


def random_settings(dice: random.Random) -> Settings:
    settings = new_settings(Parameters())
    settings.classes[:, BASE] = [dice.uniform(0.0, 0.2) for _ in settings.classes]
    return settings._replace(
        latency_z=dice.uniform(1.0, 4.0),
        haircut_rise_per_hour=dice.uniform(0.01, 0.5),
        stress_rise_per_hour=dice.uniform(0.1, 2.0),
        fear_half_life_s=dice.uniform(600.0, 7_200.0),
        recognition_half_life_s=dice.uniform(600.0, 7_200.0),
        cooldown_ns=300 * SECOND,
    )


# ---- haircut terms --------------------------------------------------------------------------------------------------------------------


class Collateral:
    """Spot instruments, the last number of them not among those looked at."""

    def __init__(self, dice: random.Random) -> None:
        self.terms, self.settings = random_terms(dice), random_settings(dice)
        self.spots = np.arange(1, SPOTS, dtype=np.int64)
        self.eligibility = random_breakers(dice, ASSETS)
        self.slow, self.inputs, self.touched = new_slow_rises(), new_inputs(), new_touched()
        for i in range(SPOTS):
            self.slow.flat[i] = dice.choice((math.nan, dice.uniform(0.0, 0.5)))
            self.slow.latency[i] = dice.choice((math.nan, dice.uniform(0.0, 0.5)))
        self.inputs.route_s[:CHAINS] = [dice.uniform(0.0, 5_000.0) for _ in range(CHAINS)]
        self.inputs.sigma[:, :ASSETS] = [[dice.uniform(0.1, 3.0) for _ in range(ASSETS)] for _ in range(2)]
        self.touched.asset[:ASSETS] = [dice.random() < 0.2 for _ in range(ASSETS)]
        self.touched.chain[:CHAINS] = [dice.random() < 0.2 for _ in range(CHAINS)]

    def step(self, everything: bool, elapsed_ns: int) -> None:
        advance_collateral(
            self.spots, everything, elapsed_ns, *self.terms, self.eligibility, self.settings, self.slow, self.inputs, self.touched
        )

    def expected(self, everything: bool, elapsed_ns: int) -> tuple[SlowRises, RiskInputs, Touched]:
        slow, inputs, touched = a_copy(self.slow), a_copy(self.inputs), marks_of(self.touched)
        (instruments, assets, chains), hours = self.terms, elapsed_ns / HOUR
        kept, rise = halved(self.settings.fear_half_life_s, hours), self.settings.haircut_rise_per_hour
        for i in self.spots.tolist():
            a, j = int(instruments.underlying[i]), int(instruments.chain[i])
            if not everything and elapsed_ns == 0 and not touched.asset[a] and not touched.chain[j]:
                continue
            target = self.settings.classes[assets.asset_class[a], BASE] + chains.security_premium[j]
            if self.eligibility.state[a] != CLOSED or not int(assets.eligible_chains[a]) & 2**j:
                target += 1.0
            delay = self.settings.latency_z * math.sqrt((inputs.route_s[j] + assets.redemption_delay_s[a]) / 31_536_000)
            flat = rise_slowly(slow.flat[i], target, rise, hours, kept)
            latency = rise_slowly(slow.latency[i], inputs.sigma[0, a] * delay, rise, hours, kept)
            touched.slow_state[i] |= (flat, latency) != (slow.flat[i], slow.latency[i])
            slow.flat[i], slow.latency[i] = flat, latency
            levels = [[flat, max(target, flat)], [latency, max(inputs.sigma[1, a] * delay, latency)]]
            before = [inputs.flat[:, i].tolist(), inputs.latency[:, i].tolist()]
            touched.instrument[i] |= levels != before
            inputs.flat[:, i], inputs.latency[:, i] = levels
        return slow, inputs, touched

    def compare(self, everything: bool, elapsed_ns: int) -> None:
        slow, inputs, touched = self.expected(everything, elapsed_ns)
        self.step(everything, elapsed_ns)
        same(self.slow, slow)
        same(self.inputs, inputs)
        same(self.touched, touched)


@pytest.mark.parametrize("seed", range(6))
def test_haircut_terms(seed: int) -> None:
    dice = random.Random(seed)
    market = Collateral(dice)
    for elapsed_ns in ELAPSED_NS:
        market.compare(dice.random() < 0.3, elapsed_ns)
        for touched in market.touched:
            touched[:] = dice.random() < 0.05
        a = dice.randrange(ASSETS)
        market.inputs.sigma[:, a] *= dice.choice((0.5, 2.0))


@pytest.mark.parametrize("part", ["flat", "latency"])
@pytest.mark.parametrize("level", [None, 0, 1])
def test_one_term_that_changed_is_enough(part: str, level: int | None) -> None:
    market = Collateral(random.Random(1))
    market.step(True, 0)
    for touched in market.touched:
        touched[:] = False
    market.step(True, 0)
    assert not any(touched.any() for touched in market.touched)
    if level is None:  # not begun yet
        getattr(market.slow, part)[2] = math.nan
    else:
        getattr(market.inputs, part)[level, 2] += 0.01
    market.compare(True, 0)
    assert np.flatnonzero(market.touched.slow_state).tolist() == ([2] if level is None else [])
    assert market.touched.instrument[2] or level is None


# ---- stress ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_stress(seed: int) -> None:
    dice = random.Random(seed)
    settings, slow, groups = random_settings(dice), new_slow_rises(), np.array(dice.sample(range(ASSETS), 3), dtype=np.int64)
    slow.stress[0, :ASSETS] = [dice.choice((math.nan, 0.0, 0.4, 1.0)) for _ in range(ASSETS)]
    slow.stress[1, :ASSETS] = [dice.choice((0.0, 0.4, 1.0)) for _ in range(ASSETS)]
    quiet = (CLOSED, CLOSED, CLOSED, TRIPPED, RECOVERING)
    move, jump, system = (random_breakers(dice, count, quiet) for count in (ASSETS, ASSETS, 1))
    for elapsed_ns in ELAPSED_NS:
        touched, moves = new_touched(), dice.random() < 0.6
        expected, marked = a_copy(slow), marks_of(touched)
        hours = elapsed_ns / HOUR
        for g, a in enumerate(groups.tolist()):
            if not moves and not math.isnan(slow.stress[0, g]):
                continue
            target = float(any(one != CLOSED for one in (move.state[a], jump.state[a], system.state[0])))
            now = rise_slowly(slow.stress[0, g], target, settings.stress_rise_per_hour, hours, halved(settings.fear_half_life_s, hours))
            expected.stress[:, g] = now, max(target, now)
            marked.group[g] = marked.group_state[g] = expected.stress[:, g].tolist() != slow.stress[:, g].tolist()
        changed = advance_stress(len(groups), groups, moves, elapsed_ns, move, jump, system, settings, slow, touched)
        assert changed == marked.group.any()
        same(slow, expected)
        same(touched, marked)
        move.state[dice.randrange(ASSETS)] = dice.choice(STATES)


def test_stress_of_either_level_alone_is_a_change() -> None:
    settings, groups, closed = random_settings(random.Random(0)), np.array([0], dtype=np.int64), new_breakers(1)
    for before in ((0.0, 0.3), (0.3, 0.3)):
        slow, touched = new_slow_rises(), new_touched()
        slow.stress[:, 0] = before
        assert advance_stress(1, groups, True, HOUR if before[0] else 0, closed, closed, closed, settings, slow, touched)
        assert slow.stress[0, 0] == slow.stress[1, 0] < 0.3


# ---- chains ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_recognition(seed: int) -> None:
    dice = random.Random(seed)
    settings, slow, chains = random_settings(dice), new_slow_rises(), random_terms(dice).chains
    slow.paused[:CHAINS] = [dice.choice((0.0, 0.3)) for _ in range(CHAINS)]
    few = (CLOSED, CLOSED, CLOSED, CLOSED, TRIPPED, RECOVERING)
    lag, layer, quarantine = (random_breakers(dice, count, few) for count in (CHAINS, LAYERS, CHAINS))
    for elapsed_ns in ELAPSED_NS:
        touched = new_touched()
        expected, marked = a_copy(slow), marks_of(touched)
        for j in range(CHAINS):
            held = any(one != CLOSED for one in (lag.state[j], layer.state[chains.layer[j]], quarantine.state[j]))
            assert holds_credit(j, chains, lag, layer, quarantine) == held
            left = (1 - slow.paused[j]) * halved(settings.recognition_half_life_s, elapsed_ns / HOUR)
            expected.paused[j] = (1 - left if elapsed_ns else slow.paused[j]) if held else 0.0
            marked.chain[j] = marked.chain_state[j] = expected.paused[j] != slow.paused[j]
        advance_recognition(CHAINS, chains, elapsed_ns, lag, layer, quarantine, settings, slow, touched)
        same(slow, expected)
        same(touched, marked)
        lag.state[dice.randrange(CHAINS)] = dice.choice(STATES)


def test_slippage_is_measured() -> None:
    slips = new_slips()
    measure_slip(1, 0.7, NOW, 3_600.0, slips)
    assert (slips.slip[1], slips.time_ns[1]) == (0.5, NOW)  # its cap
    measure_slip(1, 0.01, NOW + HOUR, 3_600.0, slips)
    assert (slips.slip[1], slips.time_ns[1]) == (0.25, NOW + HOUR)
    measure_slip(1, 0.3, NOW + HOUR // 2, 3_600.0, slips)  # told late
    assert (slips.slip[1], slips.time_ns[1]) == (0.3, NOW + HOUR)
    measure_slip(1, 0.1, NOW + HOUR // 2, 3_600.0, slips)
    assert (slips.slip[1], slips.time_ns[1]) == (0.3, NOW + HOUR)
    measure_slip(0, 0.2, NOW, 3_600.0, slips)
    measure_slip(0, 0.6, NOW + 1, 3_600.0, slips)
    assert slips.slip[:3].tolist() == [0.5, 0.3, 0.0]
    assert slips.time_ns[2] == NEVER_NS


def test_slippage_fades_by_whole_minutes() -> None:
    settings = new_settings(Parameters())._replace(fear_half_life_s=3_600.0)
    slips, touched = new_slips(), new_touched()
    minute = NOW - NOW % (60 * SECOND)
    measure_slip(0, 0.4, minute - HOUR, 3_600.0, slips)
    measure_slip(1, 0.4, minute + SECOND, 3_600.0, slips)  # in this minute: nothing of it is gone
    slips.in_force[3] = 0.1
    advance_slips(4, slips, NOW, settings, touched)
    assert slips.in_force[:4].tolist() == [0.2, 0.4, 0.0, 0.0]
    assert touched.chain[:5].tolist() == [True, True, False, True, False]
    assert touched.chain_state[:5].tolist() == [True, True, False, True, False]
    again = new_touched()
    advance_slips(4, slips, minute + 60 * SECOND - 1, settings, again)
    assert not again.chain.any()
    advance_slips(4, slips, minute + 60 * SECOND, settings, again)
    assert again.chain[:4].tolist() == [True, True, False, False]
    assert slips.in_force[0] == pytest.approx(0.2 * 2 ** (-1 / 60), rel=1e-14)


# ---- breakers -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_breakers_of_lags_and_layers(seed: int) -> None:
    dice = random.Random(seed)
    settings = random_settings(dice)._replace(lag_trip_s=1_800.0, lag_reset_s=900.0, layer_share=dice.choice((0.25, 0.5)))
    chains, lags = random_terms(dice).chains, new_lags()
    for j in range(CHAINS):
        lags.heartbeat_ns[j] = dice.choice((NEVER_NS, NOW, NOW - 900 * SECOND, NOW - 899 * SECOND, NOW - 1_801 * SECOND))
        lags.p95_ns[j] = dice.choice((1, 1_200, 1_800, 1_801)) * SECOND
    lag, layer = random_breakers(dice, CHAINS), random_breakers(dice, LAYERS)
    touched = new_touched()
    touched.lag_breaker[0] = touched.layer_breaker[0] = seed % 4 == 0  # earlier in this frame
    expected, marked = a_copy(lag), marks_of(touched)
    for j in range(CHAINS):
        if lags.heartbeat_ns[j] == NEVER_NS:
            continue
        late_s = max(int(lags.p95_ns[j]), NOW - int(lags.heartbeat_ns[j])) / SECOND
        marked.lag_breaker[j] |= advance(j, late_s, 1_800.0, 900.0, 300 * SECOND, NOW, expected)
        marked.chain_state[j] = marked.lag_breaker[j] or expected.calm_ns[j] != lag.calm_ns[j]
    advance_lag_breakers(CHAINS, lags, NOW, settings, lag, touched)
    same(lag, expected)
    same(touched, marked)
    expected, marked = a_copy(layer), marks_of(touched)
    for n in range(LAYERS):
        heard = [j for j in range(CHAINS) if chains.layer[j] == n and lags.heartbeat_ns[j] != NEVER_NS]
        share = sum(lag.state[j] != CLOSED for j in heard) / len(heard) if len(heard) >= 2 else 0.0
        marked.layer_breaker[n] |= advance(n, share, settings.layer_share, settings.layer_share / 2, 300 * SECOND, NOW, expected)
        marked.layer_state[n] = marked.layer_breaker[n] or expected.calm_ns[n] != layer.calm_ns[n]
    advance_layers(LAYERS, CHAINS, chains, lags, lag, NOW, settings, layer, touched)
    same(layer, expected)
    same(touched, marked)


def some_marks(known: Sequence[bool]) -> Marks:
    marks = new_marks()
    marks.status[: len(known)] = [0 if one else 3 for one in known]
    return marks


@pytest.mark.parametrize("seed", range(24))
def test_the_breaker_of_the_system(seed: int) -> None:
    dice = random.Random(seed)
    count = 6
    settings = random_settings(dice)._replace(system_share=dice.choice((0.25, 0.5)))
    groups = np.array(dice.sample(range(count), count - 1), dtype=np.int64)
    marks = some_marks([dice.random() < 0.7 for _ in range(count)])
    move, system, touched = random_breakers(dice, count), random_breakers(dice, 1), new_touched()
    touched.system_breaker[0] = seed % 5 == 0
    expected, marked = a_copy(system), marks_of(touched)
    known = [a for a in groups.tolist() if marks.status[a] == 0]
    share = sum(move.state[a] == TRIPPED for a in known) / len(known) if len(known) >= 3 else 0.0
    marked.system_breaker[0] |= advance(0, share, settings.system_share, settings.system_share / 2, 300 * SECOND, NOW, expected)
    marked.system_state[0] = marked.system_breaker[0] or expected.calm_ns[0] != system.calm_ns[0]
    advance_system(len(groups), groups, marks, move, NOW, settings, system, touched)
    same(system, expected)
    same(touched, marked)


# ---- eligibility ----------------------------------------------------------------------------------------------------------------------


def random_depths(dice: random.Random, age_ns: int) -> Depths:
    depths = new_depths()
    for a in range(ASSETS):
        depths.depth_usd[a] = dice.choice((0.0, 0.5, 900.0, 1_000.0, 1_200.0, 1_300.0))
        depths.time_ns[a] = dice.choice((NEVER_NS, NOW, NOW - age_ns, NOW - age_ns - 1))
    return depths


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("seed", range(40))
def test_fitness_as_collateral(seed: int, enabled: bool) -> None:
    dice = random.Random(seed)
    settings, assets = random_settings(dice)._replace(breakers_enabled=enabled, uptime_tau_s=1_000.0), random_terms(dice).assets
    settings.class_ages_ns[:, DEPTH_AGE] = 600 * SECOND
    settings.classes[:, SUSPEND_DEPTH_USD] = [dice.choice((0.0, 1.5, 1_000.0)) for _ in settings.classes]
    settings.classes[:, SUSPEND_UPTIME] = [dice.choice((0.0, 0.5, 0.9)) for _ in settings.classes]
    depths, marks = random_depths(dice, 600 * SECOND), some_marks([dice.random() < 0.5 for _ in range(ASSETS)])
    eligibility, uptime = random_breakers(dice, ASSETS), np.array([dice.choice((1.0, 0.93, 0.4)) for _ in range(ASSETS)])
    for elapsed_ns in ELAPSED_NS[:3]:
        touched = new_touched()
        expected, marked, kept = a_copy(eligibility), marks_of(touched), math.exp(-elapsed_ns / SECOND / 1_000.0)
        ups = uptime.copy()
        for a in range(ASSETS):
            if elapsed_ns > 0:
                ups[a] = ups[a] * kept + (1 - kept) * (marks.status[a] == 0)
            row = settings.classes[assets.asset_class[a]]
            thin = row[SUSPEND_DEPTH_USD] / max(depths.depth_usd[a], 1.0) if depths.time_ns[a] != NEVER_NS else 0.0
            down = (1 - ups[a]) / (1 - row[SUSPEND_UPTIME]) if row[SUSPEND_UPTIME] > 0 else 0.0
            if enabled and advance(a, max(thin, down), 1.0, 0.8, 300 * SECOND, NOW, expected):
                marked.eligibility_breaker[a] = marked.asset[a] = True
            marked.mark_state[a] = (
                marked.eligibility_breaker[a] or expected.calm_ns[a] != eligibility.calm_ns[a] or abs(ups[a] - uptime[a]) > 1e-15
            )
        advance_eligibility(ASSETS, assets, marks, depths, NOW, elapsed_ns, settings, uptime, eligibility, touched)
        np.testing.assert_allclose(uptime, ups, rtol=1e-13)
        np.testing.assert_allclose(eligibility.value, expected.value, rtol=1e-9)
        same(eligibility._replace(value=expected.value), expected)
        same(touched, marked)
