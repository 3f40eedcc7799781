"""Why an account is worth what it is: each haircut term of each position, and the scenario that binds, in words and USD. For reports."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from engine.margin import scenario_name
from engine.market import Market
from engine.tables import MAINTENANCE_LEVEL, SPOT, UNIT_LONG
from engine.volatility import SECONDS_PER_YEAR


class HaircutTerms(NamedTuple):
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


def haircut_terms(
    market: Market, instrument: Sequence[int], quantity: Sequence[int], cash: Sequence[int], level: int = MAINTENANCE_LEVEL
) -> list[HaircutTerms]:
    """The haircut of each positive spot position of an account that can be valued, in slot order."""
    universe, parameters = market.universe, market.parameters
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
        p = parameters.classes[definition.asset_class]
        eligible = definition.eligible_chains is None or on.name in definition.eligible_chains
        here = sum(v for _, k, v in held if terms.underlying[k] == asset and terms.chain[k] == chain)
        away = any(k != chain and (on.atomic_group is None or universe.chains[k].atomic_group != on.atomic_group) for k in chains)
        lag_s = (
            max(on.messaging_delay_s, int(market.lags.p95_ns[chain]) / 1e9)
            if market.lags.heartbeat_ns[chain] >= 0
            else on.messaging_delay_s
        )
        tau = (on.finality_s + lag_s + parameters.auction_s + definition.redemption_delay_s) / SECONDS_PER_YEAR if away else 0.0
        mark, bound = market.mark(asset), float(market.bounds.bound[asset])
        latency = parameters.latency_z * float(market.inputs.sigma[level, asset]) * math.sqrt(tau)
        depeg = p.depeg_coefficient * max(0.0, bound / mark - 1.0) if mark is not None and not math.isnan(bound) else 0.0
        size = p.size_coefficient * math.sqrt(here / market.depth_usd(asset))
        haircut = min(1.0, max(0.0, p.base_haircut + on.security_premium + latency + depeg + size)) if eligible else 1.0
        over = 0.0
        if eligible:
            over = value - min(value, max(0.0, definition.cap_usd_per_account - used.get(asset, 0.0)))
            used[asset] = used.get(asset, 0.0) + value
        name = f"{universe.instruments[i].venue} {universe.instruments[i].name}"
        lost = over + (value - over) * haircut
        result.append(
            HaircutTerms(
                slot,
                name,
                definition.name,
                on.name,
                value,
                eligible,
                p.base_haircut,
                on.security_premium,
                latency,
                depeg,
                size,
                haircut,
                over,
                lost,
            )
        )
    return result


def binding_scenario(market: Market, driver: float) -> str:
    """The scenario behind `engine.margin.DRIVER`, by the names of the groups' own assets."""
    names = [market.universe.assets[asset].name for asset in market.universe.group_assets]
    return scenario_name(driver, market.parameters.grid_steps, names)
