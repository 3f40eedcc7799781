"""Hysteresis, cool-down and the window of the asset-move breaker, step by step."""

import math

import pytest

from engine import breakers
from engine.breakers import BREAKER_STATES, CLOSED, RECOVERING, TRIGGERS, TRIPPED, new_breakers, new_move_samples

SECOND = 10**9
COOLDOWN = 300 * SECOND
KEPT = 64


def test_the_whole_life() -> None:
    one = new_breakers(1)
    steps = [  # seconds, value, state afterwards
        (0, 0.05, CLOSED),  # at the limit is not above it
        (1, 0.051, TRIPPED),
        (2, 0.03, TRIPPED),  # between reset and trip
        (3, 0.02, TRIPPED),  # at the reset is not below it
        (4, 0.01, RECOVERING),
        (100, 0.01, RECOVERING),
        (200, 0.03, RECOVERING),  # not calm: the cool-down starts again
        (400, 0.01, RECOVERING),
        (450, 0.02, RECOVERING),  # nor is the reset itself calm
        (749, 0.019, RECOVERING),
        (750, 0.0, CLOSED),
        (751, 0.2, TRIPPED),
        (752, 0.0, RECOVERING),
        (753, 0.2, TRIPPED),
    ]
    before = CLOSED
    for at_s, value, state in steps:
        changed = breakers.advance(0, value, 0.05, 0.02, COOLDOWN, at_s * SECOND, one)
        assert one.state[0] == state, at_s
        assert changed == (state != before), at_s
        if changed:
            assert (one.since_ns[0], one.value[0]) == (at_s * SECOND, value)
        before = state


def test_what_is_not_known_changes_nothing() -> None:
    one = new_breakers(1)
    breakers.advance(0, 1.0, 0.05, 0.02, COOLDOWN, 0, one)
    breakers.advance(0, 0.0, 0.05, 0.02, COOLDOWN, SECOND, one)
    assert not breakers.advance(0, math.nan, 0.05, 0.02, COOLDOWN, 10**15, one)
    assert one.state[0] == RECOVERING


def test_switched_off_it_closes() -> None:
    one = new_breakers(2)
    breakers.advance(1, 1.0, 0.05, 0.02, COOLDOWN, 0, one)
    assert breakers.switch_off(1, 7, one)
    assert (one.state[1], one.since_ns[1], one.value[1]) == (CLOSED, 7, 0.0)
    assert not breakers.switch_off(1, 8, one)


def test_tripped_by_a_word() -> None:
    one = new_breakers(2)
    assert breakers.trip(1, 3.5, 7, one)
    assert [column.tolist() for column in one] == [[CLOSED, TRIPPED], [0, 7], [0, 0], [0.0, 3.5]]
    assert not breakers.trip(1, 4.5, 8, one)
    one.state[1] = RECOVERING
    assert not breakers.trip(1, 4.5, 8, one)
    assert (one.state[1], one.since_ns[1], one.value[1]) == (RECOVERING, 7, 3.5)


def test_numbers_and_names_are_those_of_every_cut() -> None:
    assert (CLOSED, TRIPPED, RECOVERING) == (0, 1, 2)
    assert BREAKER_STATES == ("closed", "tripped", "recovering")
    assert TRIGGERS == (
        "asset_move",
        "volatility_jump",
        "source_divergence",
        "eligibility",
        "attestation_lag",
        "layer_lag",
        "system_move",
        "quarantine",
        "liquidation_volume",
        "venue_silence",
        "bad_debt",
    )


def test_a_mark_is_kept_every_ten_seconds() -> None:
    samples = new_move_samples()
    kept = [at for at in range(100) if breakers.take_move_sample(0, 1.0 + at, at * SECOND, samples)]
    assert kept == list(range(0, 100, 10))


@pytest.mark.parametrize("window_s", [100, 300, 630, 900])
def test_the_reference_is_the_oldest_in_the_window(window_s: int) -> None:
    samples = new_move_samples()
    now = 0
    for k in range(3 * KEPT):
        now = k * 10
        breakers.take_move_sample(0, 100.0 + k, now * SECOND, samples)
        oldest = max(0, k - window_s // 10, k - KEPT + 1)
        moved = breakers.move_in_window(0, 250.0, now * SECOND, window_s * SECOND, samples)
        assert moved == abs(250.0 / (100.0 + oldest) - 1.0)


def test_without_a_sample_in_the_window_nothing_moved() -> None:
    samples = new_move_samples()
    assert breakers.move_in_window(0, 250.0, SECOND, 10 * SECOND, samples) == 0.0
    breakers.take_move_sample(0, 1.0, 0, samples)
    assert breakers.move_in_window(0, 250.0, 11 * SECOND, 10 * SECOND, samples) == 0.0
