"""Why an account is worth what it is: each haircut term of each position, and the scenario that binds, in words and USD. For reports."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from engine.margin import HAIRCUT_SCENARIO, SCENARIO_BASE, scenario_name
from engine.market import Market
from engine.tables import EXTREME_DOWN, EXTREME_UP, HAIRCUT_STEP, MAINTENANCE_LEVEL, SCAN, SPOT, UNIT_LONG
from engine.volatility import SECONDS_PER_YEAR

_OTHERS: Final = "the others move with it by their correlations"


class HaircutTerms(Struct, frozen=True, kw_only=True):
    """H_ij of one spot position (docs/model.md, section 4) as its terms; fractions of `value_usd` but where a name says USD."""

    slot: int
    instrument: str
    asset: str
    chain: str
    value_usd: float  # at the value price
    eligible: bool
    base: float
    security: float
    latency: float
    depeg: float
    size: float
    haircut: float  # their sum within 0 to 1; 1 where not eligible
    over_cap_usd: float  # of the value, lost whole
    lost_usd: float


class HaircutRates(NamedTuple):
    """The terms of H_ij that an asset has on a chain, whoever holds it; fractions, `size` by the root of the USD held."""

    eligible: bool
    base: float
    security: float
    latency: float  # of an account that also has a position on a chain that is not reached at once
    depeg: float
    size: float

    def total(self, held_usd: float, *, away: bool) -> float:
        """The haircut of `held_usd` of the asset on that chain; 1 where it is not eligible."""
        if not self.eligible:
            return 1.0
        terms = self.base + self.security + (self.latency if away else 0.0) + self.depeg + self.size * math.sqrt(held_usd)
        return min(1.0, max(0.0, terms))


def haircut_rates(market: Market, asset: int, chain: int, level: int = MAINTENANCE_LEVEL) -> HaircutRates:
    """The terms as they are now, from what was observed."""
    universe = market.universe
    definition, on = universe.assets[asset], universe.chains[chain]
    p = market.parameters.classes[definition.asset_class]
    lag_s = on.messaging_delay_s
    if market.lags.heartbeat_ns[chain] >= 0:
        lag_s = max(lag_s, int(market.lags.p95_ns[chain]) / 1e9)
    tau = (on.finality_s + lag_s + market.parameters.auction_s + definition.redemption_delay_s) / SECONDS_PER_YEAR
    mark, bound = market.mark(asset), float(market.bounds.bound[asset])
    return HaircutRates(
        eligible=definition.eligible_chains is None or on.name in definition.eligible_chains,
        base=p.base_haircut,
        security=on.security_premium,
        latency=market.parameters.latency_z * float(market.inputs.sigma[level, asset]) * math.sqrt(tau),
        depeg=p.depeg_coefficient * max(0.0, bound / mark - 1.0) if mark is not None and not math.isnan(bound) else 0.0,
        size=p.size_coefficient / math.sqrt(market.depth_usd(asset)),
    )


def haircut_terms(
    market: Market, instrument: Sequence[int], quantity: Sequence[int], cash: Sequence[int], level: int = MAINTENANCE_LEVEL
) -> list[HaircutTerms]:
    """The haircut of each positive spot position of an account that can be valued, in slot order."""
    universe = market.universe
    terms = universe.instrument_arrays
    chains = {int(terms.chain[i]) for i, q, c in zip(instrument, quantity, cash, strict=True) if q != 0 or c != 0}
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
        here = sum(v for _, k, v in held if terms.underlying[k] == asset and terms.chain[k] == chain)
        away = any(k != chain and (on.atomic_group is None or universe.chains[k].atomic_group != on.atomic_group) for k in chains)
        haircut = rates.total(here, away=away)
        over = 0.0
        if rates.eligible:
            over = value - min(value, max(0.0, definition.cap_usd_per_account - used.get(asset, 0.0)))
            used[asset] = used.get(asset, 0.0) + value
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
                latency=rates.latency if away else 0.0,
                depeg=rates.depeg,
                size=rates.size * math.sqrt(here),
                haircut=haircut,
                over_cap_usd=over,
                lost_usd=over + (value - over) * haircut,
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
    group, column = divmod(int(driver), SCENARIO_BASE)
    steps = market.parameters.grid_steps
    name = market.universe.assets[market.universe.group_assets[group]].name
    ranges = market.tables.group_float[MAINTENANCE_LEVEL, group]
    if column == HAIRCUT_SCENARIO:
        move = float(ranges[HAIRCUT_STEP] * ranges[SCAN])
        return f"{name} loses its volatility haircut, {move:.1%}; {_OTHERS}"
    grid = 2 * (2 * steps + 1)
    if column >= grid:
        up = column == grid
        move, fraction = float(ranges[EXTREME_UP if up else EXTREME_DOWN]), market.parameters.extreme_fraction
        return f"{name} {'rises' if up else 'falls'} by {move:.1%}, beyond its scan range; {fraction:.0%} of that loss counts"
    step, shock = divmod(column, 2)
    move = (step - steps) / steps * float(ranges[SCAN])
    moved = f"{'rises' if move > 0.0 else 'falls'} by {abs(move):.1%}" if move else "stays"
    return f"{name} {moved}, volatility {'down' if shock else 'up'}; {_OTHERS}"
