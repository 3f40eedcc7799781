"""The market's circuit breakers as one list: what each is of, its limits, and those that look at many chains or groups at once.

Rules: docs/model.md, section 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine import breakers
from engine.breakers import (
    ASSET_MOVE,
    ATTESTATION_LAG,
    BREAKER_STATES,
    CLOSED,
    ELIGIBILITY,
    LAYER_LAG,
    QUARANTINE,
    SOURCE_DIVERGENCE,
    SYSTEM_MOVE,
    TRIPPED,
    VOLATILITY_JUMP,
    Breakers,
)
from engine.eligibility import SUSPEND_TRIP
from engine.jit import kernel
from engine.market_arrays import Lags, Settings, Touched
from engine.marks import NEVER_NS, Marks
from engine.universe import ChainArrays
from engine.volatility import NS_PER_SECOND

if TYPE_CHECKING:
    from engine.observing import ObservedMarket

SYSTEM: Final = "system"
SYSTEM_GROUPS_MIN: Final = 3  # with a known mark: of fewer, no share is looked at
LAYER_HEARD_LEAST: Final = 2  # chains: one late chain is no late layer
RESET_SHARE: Final = 0.5  # of the trip, of breakers that look at shares
QUARANTINED: Final = 1.0  # what a quarantine's value is while it lasts


class BreakerChange(NamedTuple):
    """A breaker that came into another state: what `engine.effects.Breaker` says, but for the partition."""

    trigger: str
    name: str  # asset, chain, messaging layer, or "system"
    state: str
    since_ns: int
    value: float
    limit: float


class BreakerKind(NamedTuple):
    """All breakers of one trigger in a market."""

    trigger: str
    breakers: Breakers
    names: list[str]  # by number
    limit: float
    changed: NDArray[np.bool_]
    state: NDArray[np.bool_]  # which piece of state it is part of


def breaker_kinds(market: ObservedMarket) -> tuple[BreakerKind, ...]:
    """In the order in which they are told."""
    universe, p, t = market.universe, market.parameters, market.touched
    assets, chains = [one.name for one in universe.assets], [one.name for one in universe.chains]
    return (
        BreakerKind(ASSET_MOVE, market.move_breakers, assets, p.move_trip, t.move_breaker, t.mark_state),
        BreakerKind(VOLATILITY_JUMP, market.jump_breakers, assets, p.jump_trip, t.jump_breaker, t.mark_state),
        BreakerKind(SOURCE_DIVERGENCE, market.divergence_breakers, assets, p.divergence_trip, t.divergence_breaker, t.mark_state),
        BreakerKind(ELIGIBILITY, market.eligibility_breakers, assets, SUSPEND_TRIP, t.eligibility_breaker, t.mark_state),
        BreakerKind(ATTESTATION_LAG, market.lag_breakers, chains, p.lag_trip_s, t.lag_breaker, t.chain_state),
        BreakerKind(LAYER_LAG, market.layer_breakers, universe.layers, p.layer_share, t.layer_breaker, t.layer_state),
        BreakerKind(SYSTEM_MOVE, market.system_breakers, [SYSTEM], p.system_share, t.system_breaker, t.system_state),
        BreakerKind(QUARANTINE, market.quarantine_breakers, chains, QUARANTINED, t.quarantine_breaker, t.chain_state),
    )


def breaker_changes(market: ObservedMarket) -> list[BreakerChange]:
    """Those that came into another state in this frame."""
    if not market.touched.breakers.any():
        return []
    return [
        BreakerChange(
            kind.trigger,
            kind.names[k],
            BREAKER_STATES[kind.breakers.state[k]],
            int(kind.breakers.since_ns[k]),
            float(kind.breakers.value[k]),
            kind.limit,
        )
        for kind in breaker_kinds(market)
        for k in np.flatnonzero(kind.changed)
    ]


def switch_breakers_off(market: ObservedMarket) -> None:
    """Close them all, because the parameters say so; but a quarantine is a fact, not a measure."""
    for kind in breaker_kinds(market):
        if kind.trigger == QUARANTINE:
            continue
        for k in np.flatnonzero(kind.breakers.state[: len(kind.names)] != CLOSED):
            breakers.switch_off(int(k), market.clock_ns, kind.breakers)
            kind.changed[k] = kind.state[k] = True


def obey_quarantines(market: ObservedMarket) -> None:
    """Trip and close the quarantine of each chain as it was told last."""
    state, chains = market.quarantine_breakers, market.universe.chain_count
    wanted = market.quarantined[:chains]
    for chain in np.flatnonzero(wanted != (state.state[:chains] != CLOSED)).tolist():
        if wanted[chain]:
            breakers.trip(chain, QUARANTINED, market.clock_ns, state)
        else:
            breakers.switch_off(chain, market.clock_ns, state)
        market.touched.quarantine_breaker[chain] = market.touched.chain_state[chain] = True


@kernel
def advance_lag_breakers(count: int, lags: Lags, now_ns: int, settings: Settings, lag: Breakers, touched: Touched) -> None:
    """Attestation lag of each chain that ever sent a heartbeat."""
    for j in range(count):
        if lags.heartbeat_ns[j] == NEVER_NS:
            continue
        value = max(lags.p95_ns[j], now_ns - lags.heartbeat_ns[j]) / NS_PER_SECOND
        trip, reset = settings.lag_trip_s, settings.lag_reset_s
        breakers.advance_noted(j, value, trip, reset, settings.cooldown_ns, now_ns, lag, touched.lag_breaker, touched.chain_state)


@kernel
def advance_layers(
    layer_count: int,
    chain_count: int,
    chains: ChainArrays,
    lags: Lags,
    lag: Breakers,
    now_ns: int,
    settings: Settings,
    layer: Breakers,
    touched: Touched,
) -> None:
    """Of each messaging layer: the share of its chains (of those ever heard) whose lag breaker is not closed; 0 of fewer than two."""
    for n in range(layer_count):
        heard = 0
        late = 0
        for j in range(chain_count):
            if chains.layer[j] != n or lags.heartbeat_ns[j] == NEVER_NS:
                continue
            heard += 1
            if lag.state[j] != CLOSED:
                late += 1
        share = late / heard if heard >= LAYER_HEARD_LEAST else 0.0
        trip, reset = settings.layer_share, RESET_SHARE * settings.layer_share
        breakers.advance_noted(n, share, trip, reset, settings.cooldown_ns, now_ns, layer, touched.layer_breaker, touched.layer_state)


@kernel
def advance_system(
    group_count: int,
    group_assets: NDArray[np.int64],
    marks: Marks,
    move: Breakers,
    now_ns: int,
    settings: Settings,
    system: Breakers,
    touched: Touched,
) -> None:
    """The share of groups with a known mark whose move breaker is tripped."""
    known = 0
    moved = 0
    for g in range(group_count):
        a = group_assets[g]
        if marks.status[a] != 0:
            continue
        known += 1
        if move.state[a] == TRIPPED:
            moved += 1
    share = moved / known if known >= SYSTEM_GROUPS_MIN else 0.0
    trip, reset = settings.system_share, RESET_SHARE * settings.system_share
    breakers.advance_noted(0, share, trip, reset, settings.cooldown_ns, now_ns, system, touched.system_breaker, touched.system_state)
