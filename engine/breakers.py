"""Circuit breakers with hysteresis and a cool-down, in event time, and the closed list of what trips them.

Rules: docs/model.md, section 7.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.jit import kernel
from engine.tables import ASSETS_MAX
from engine.volatility import NS_PER_SECOND

CLOSED: Final = 0
TRIPPED: Final = 1
RECOVERING: Final = 2
BREAKER_STATES: Final = ("closed", "tripped", "recovering")

ASSET_MOVE: Final = "asset_move"
VOLATILITY_JUMP: Final = "volatility_jump"
SOURCE_DIVERGENCE: Final = "source_divergence"
ELIGIBILITY: Final = "eligibility"
ATTESTATION_LAG: Final = "attestation_lag"
LAYER_LAG: Final = "layer_lag"
SYSTEM_MOVE: Final = "system_move"
QUARANTINE: Final = "quarantine"
LIQUIDATION_VOLUME: Final = "liquidation_volume"
VENUE_SILENCE: Final = "venue_silence"
BAD_DEBT: Final = "bad_debt"
TRIGGERS: Final = (
    ASSET_MOVE,
    VOLATILITY_JUMP,
    SOURCE_DIVERGENCE,
    ELIGIBILITY,
    ATTESTATION_LAG,
    LAYER_LAG,
    SYSTEM_MOVE,
    QUARANTINE,
    LIQUIDATION_VOLUME,
    VENUE_SILENCE,
    BAD_DEBT,
)

MOVE_SAMPLES_MAX: Final = 64
MOVE_SAMPLE_NS: Final = 10 * NS_PER_SECOND


class Breakers(NamedTuple):
    """The breakers of one trigger, by what it looks at. State: goes into the cut."""

    state: NDArray[np.int32]
    since_ns: NDArray[np.int64]  # when it came into this state
    calm_ns: NDArray[np.int64]  # since when, recovering, it has been below the reset
    value: NDArray[np.float64]  # that moved it last


class MoveSamples(NamedTuple):
    """Marks of each asset, one in 10 s, a ring: `head` is where the next goes. State: goes into the cut."""

    kept: NDArray[np.int64]  # how many
    head: NDArray[np.int64]
    time_ns: NDArray[np.int64]  # [ASSETS_MAX, MOVE_SAMPLES_MAX]
    mark: NDArray[np.float64]


def new_breakers(count: int) -> Breakers:
    return Breakers(np.zeros(count, dtype=np.int32), np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64), np.zeros(count))


def new_move_samples() -> MoveSamples:
    shape = (ASSETS_MAX, MOVE_SAMPLES_MAX)
    return MoveSamples(
        np.zeros(ASSETS_MAX, dtype=np.int64), np.zeros(ASSETS_MAX, dtype=np.int64), np.zeros(shape, dtype=np.int64), np.zeros(shape)
    )


@kernel
def advance(index: int, value: float, trip: float, reset: float, cooldown_ns: int, now_ns: int, breakers: Breakers) -> bool:
    """One step of one breaker, at most one change of state a call; whether its state changed. A nan value changes nothing."""
    state = breakers.state[index]
    if math.isnan(value):
        return False
    if state != TRIPPED and value > trip:
        new = TRIPPED
    elif state == TRIPPED and value < reset:
        new = RECOVERING
        breakers.calm_ns[index] = now_ns
    elif state == RECOVERING and value >= reset:
        breakers.calm_ns[index] = now_ns  # the cool-down starts again
        return False
    elif state == RECOVERING and now_ns - breakers.calm_ns[index] >= cooldown_ns:
        new = CLOSED
    else:
        return False
    breakers.state[index] = new
    breakers.since_ns[index] = now_ns
    breakers.value[index] = value
    return True


@kernel
def trip(index: int, value: float, now_ns: int, breakers: Breakers) -> bool:
    """Trip a breaker because somebody says so; whether it was closed."""
    if breakers.state[index] != CLOSED:
        return False
    breakers.state[index] = TRIPPED
    breakers.since_ns[index] = now_ns
    breakers.value[index] = value
    return True


@kernel
def advance_noted(
    index: int,
    value: float,
    trip: float,
    reset: float,
    cooldown_ns: int,
    now_ns: int,
    breakers: Breakers,
    moved: NDArray[np.bool_],
    changed: NDArray[np.bool_],
) -> None:
    """The same; notes at `index` whether it came into another state (`moved`), and whether anything of it `changed` that a cut needs."""
    calm_ns = breakers.calm_ns[index]
    if advance(index, value, trip, reset, cooldown_ns, now_ns, breakers):
        moved[index] = True
    if moved[index] or breakers.calm_ns[index] != calm_ns:
        changed[index] = True


@kernel
def switch_off(index: int, now_ns: int, breakers: Breakers) -> bool:
    """Close a breaker because somebody says so; whether it wasn't closed."""
    if breakers.state[index] == CLOSED:
        return False
    breakers.state[index] = CLOSED
    breakers.since_ns[index] = now_ns
    breakers.value[index] = 0.0
    return True


@kernel
def take_move_sample(asset: int, mark: float, now_ns: int, samples: MoveSamples) -> bool:
    """Keep the mark if 10 s have gone since the last one kept; whether it was kept."""
    count = samples.kept[asset]
    head = samples.head[asset]
    if count > 0:
        last = (head + MOVE_SAMPLES_MAX - 1) % MOVE_SAMPLES_MAX
        if now_ns - samples.time_ns[asset, last] < MOVE_SAMPLE_NS:
            return False
    samples.time_ns[asset, head] = now_ns
    samples.mark[asset, head] = mark
    samples.head[asset] = (head + 1) % MOVE_SAMPLES_MAX
    samples.kept[asset] = min(count + 1, MOVE_SAMPLES_MAX)
    return True


@kernel
def move_in_window(asset: int, mark: float, now_ns: int, window_ns: int, samples: MoveSamples) -> float:
    """|mark / reference - 1|, the reference being the oldest sample within the window; 0 if there is none."""
    count = samples.kept[asset]
    head = samples.head[asset]
    for k in range(count):
        at = (head + MOVE_SAMPLES_MAX - count + k) % MOVE_SAMPLES_MAX
        if now_ns - samples.time_ns[asset, at] <= window_ns:
            return float(abs(mark / samples.mark[asset, at] - 1.0))
    return 0.0
