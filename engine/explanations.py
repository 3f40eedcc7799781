"""Why an account is worth what it is: each haircut term of each position, and the scenario that binds, in words and USD. For reports."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from engine.margin import scenario_name
from engine.market import Market
from engine.requirement import HAIRCUT_SCENARIO, REGIME_BASE, SCENARIO_BASE
from engine.tables import (
    EXTREME_DOWN,
    EXTREME_UP,
    HAIRCUT_STEP,
    INITIAL_LEVEL,
    MAINTENANCE_LEVEL,
    OBSERVED,
    REGIME_NAMES,
    SCAN,
    SPOT,
    STABLE_LONG,
    UNIT_LONG,
)


class HaircutTerms(Struct, frozen=True, kw_only=True):
    """H_ij of one spot position (docs/model.md, section 4) as its terms; fractions of `value_usd` but where a name says USD."""

    slot: int
    instrument: str
    asset: str
    chain: str
    value_usd: float  # at the value price, with what open orders may buy
    eligible: bool  # by its definition
    base: float
    security: float
    suspended: float  # 1 where the asset is suspended or not eligible there
    slow: float  # what of the three before has not risen yet, or not fallen
    latency: float
    depeg: float
    size: float
    haircut: float  # their sum within 0 to 1
    unrecognised: float  # of what the haircut leaves: over the global cap, or of a chain whose word is late
    over_cap_usd: float  # of the value, lost whole
    lost_usd: float  # at the initial level also what the stable price takes


class HaircutRates(NamedTuple):
    """The terms of H_ij that an asset has on a chain, whoever holds it; fractions, `size` by the root of the USD held."""

    eligible: bool
    base: float
    security: float
    suspended: float
    slow: float
    latency: float  # of an account that also has a position on a chain that is not reached at once
    depeg: float
    size: float
    recognised: float

    def total(self, held_usd: float, *, away: bool) -> float:
        """The haircut of `held_usd` of the asset on that chain."""
        flat = self.base + self.security + self.suspended + self.slow
        terms = flat + (self.latency if away else 0.0) + self.depeg + self.size * math.sqrt(held_usd)
        return min(1.0, max(0.0, terms))


def haircut_rates(market: Market, asset: int, chain: int, level: int = MAINTENANCE_LEVEL) -> HaircutRates | None:
    """The terms as they are now, from what was observed; None where no account can hold the asset."""
    universe, inputs = market.universe, market.inputs
    terms, count = universe.instrument_arrays, universe.instrument_count
    spots = np.flatnonzero((terms.contract[:count] == SPOT) & (terms.underlying[:count] == asset) & (terms.chain[:count] == chain))
    if not len(spots):
        return None
    i = int(spots[0])  # the terms are the same for all of them
    definition, on = universe.assets[asset], universe.chains[chain]
    p = market.parameters.classes[definition.asset_class]
    eligible = definition.eligible_chains is None or on.name in definition.eligible_chains
    suspended = 0.0 if eligible and not market.is_suspended(asset) else 1.0
    mark, bound = market.mark(asset), float(market.bounds.bound[asset])
    return HaircutRates(
        eligible=eligible,
        base=p.base_haircut,
        security=on.security_premium,
        suspended=suspended,
        slow=float(inputs.flat[level, i]) - (p.base_haircut + on.security_premium + suspended),
        latency=max(float(inputs.latency[level, i]), float(inputs.slip[chain])),
        depeg=p.depeg_coefficient * max(0.0, bound / mark - 1.0) if mark is not None and not math.isnan(bound) else 0.0,
        size=p.size_coefficient * float(inputs.thin[level, asset]),
        recognised=(1.0 - float(inputs.over[level, asset])) * (1.0 - float(inputs.paused[chain])),
    )


def haircut_terms(
    market: Market,
    instrument: Sequence[int],
    quantity: Sequence[int],
    cash: Sequence[int],
    level: int = MAINTENANCE_LEVEL,
    *,
    ordered: Sequence[bool] = (),
) -> list[HaircutTerms]:
    """The haircut of each spot position that is positive, or may become so, of an account that can be valued, in slot order.

    `quantity` without what is leaving, of spot with what open orders may buy; `ordered`: in which slots orders count, () for none.
    Sum of `lost_usd`: what the equity of the level is below the value of everything.
    """
    universe = market.universe
    terms = universe.instrument_arrays
    placed = ordered or [False] * len(instrument)
    chains = {int(terms.chain[i]) for i, q, c, o in zip(instrument, quantity, cash, placed, strict=True) if q != 0 or c != 0 or o}
    held = [
        (slot, int(i), int(q) * float(market.tables.instrument_float[i, UNIT_LONG]))
        for slot, (i, q) in enumerate(zip(instrument, quantity, strict=True))
        if q > 0 and terms.contract[i] == SPOT
    ]
    used: dict[int, float] = {}
    result = []
    for slot, i, value in held:
        asset, chain = int(terms.underlying[i]), int(terms.chain[i])
        definition, on = universe.assets[asset], universe.chains[chain]
        rates = haircut_rates(market, asset, chain, level)
        assert rates is not None, "an account holds what nobody can hold"
        here = sum(v for _, k, v in held if terms.underlying[k] == asset and terms.chain[k] == chain)
        away = any(k != chain and (on.atomic_group is None or universe.chains[k].atomic_group != on.atomic_group) for k in chains)
        haircut = rates.total(here, away=away)
        inside = min(value, max(0.0, definition.cap_usd_per_account - used.get(asset, 0.0)))
        if rates.eligible:
            used[asset] = used.get(asset, 0.0) + value
        stable = float(market.tables.instrument_float[i, STABLE_LONG]) if level == INITIAL_LEVEL else 1.0
        result.append(
            HaircutTerms(
                slot=slot,
                instrument=f"{universe.instruments[i].venue} {universe.instruments[i].name}",
                asset=definition.name,
                chain=on.name,
                value_usd=value,
                eligible=rates.eligible,
                base=rates.base,
                security=rates.security,
                suspended=rates.suspended,
                slow=rates.slow,
                latency=rates.latency if away else 0.0,
                depeg=rates.depeg,
                size=rates.size * math.sqrt(here),
                haircut=haircut,
                unrecognised=1.0 - rates.recognised,
                over_cap_usd=value - inside,
                lost_usd=value - inside * stable * rates.recognised * (1.0 - haircut),
            )
        )
    return result


def binding_scenario(market: Market, driver: float) -> str:
    """The scenario behind `engine.margin.DRIVER`, by the names of the groups' own assets."""
    names = [market.universe.assets[asset].name for asset in market.universe.group_assets]
    return scenario_name(driver, market.parameters.grid_steps, names)


def scenario_in_words(market: Market, driver: float) -> str:
    """The scenario behind `engine.margin.DRIVER` for people; '' where nothing can be lost, or where a mode sums several."""
    if not driver >= 0.0:
        return ""
    group, rest = divmod(int(driver), SCENARIO_BASE)
    regime, column = divmod(rest, REGIME_BASE)
    others = f"the others move with it by their {'' if regime == OBSERVED else REGIME_NAMES[regime] + ' '}correlations"
    steps = market.parameters.grid_steps
    name = market.universe.assets[market.universe.group_assets[group]].name
    ranges = market.tables.group_float[MAINTENANCE_LEVEL, group]
    if column == HAIRCUT_SCENARIO:
        move = float(ranges[HAIRCUT_STEP] * ranges[SCAN])
        return f"{name} loses its volatility haircut, {move:.1%}; {others}"
    grid = 2 * (2 * steps + 1)
    if column >= grid:
        up = column == grid
        move, fraction = float(ranges[EXTREME_UP if up else EXTREME_DOWN]), market.parameters.extreme_fraction
        return f"{name} {'rises' if up else 'falls'} by {move:.1%}, beyond its scan range; {fraction:.0%} of that loss counts"
    step, shock = divmod(column, 2)
    move = (step - steps) / steps * float(ranges[SCAN])
    moved = f"{'rises' if move > 0.0 else 'falls'} by {abs(move):.1%}" if move else "stays"
    return f"{name} {moved}, volatility {'down' if shock else 'up'}; {others}"
