"""Derive's auction, by hand: what is asked for an account, and how much of it may be sold."""

import math

import numpy as np
import pytest

from engine.rules import derive_auction


def _auction(equity: float, maintenance: float, elapsed: float = 0.0, reserved: float = 0.0) -> dict[str, float]:
    out = np.empty((1, derive_auction.AUCTION_COLUMNS))
    worth, required, seconds, paid = (np.array([number]) for number in (equity, maintenance, elapsed, reserved))
    derive_auction.liquidations(worth, required, seconds, paid, derive_auction.terms(derive_auction.Parameters()), out)
    return dict(zip(("buffer", "fraction", "discount", "bid"), out[0].tolist(), strict=True))


@pytest.mark.parametrize(
    ("elapsed", "share"), [(0.0, 0.98), (50.0, 0.89), (100.0, 0.8), (7_300.0, 0.4), (14_500.0, 0.0), (20_000.0, 0.0), (1e9, 0.0)]
)
def test_the_price_falls(elapsed: float, share: float) -> None:
    assert _auction(100.0, 150.0, elapsed)["discount"] == pytest.approx(share, abs=1e-15)


def test_by_hand() -> None:
    """Worth 100, required 150: B = -50 - 0.2 * 150 = -80; at 50 s, 89 is paid for all."""
    found = _auction(100.0, 150.0, 50.0)
    assert found["buffer"] == -80.0
    assert found["fraction"] == pytest.approx(80.0 / 169.0)
    assert found["bid"] == pytest.approx(89.0 * 80.0 / 169.0)


def test_the_largest_fraction_leaves_the_buffer_margin_at_nothing() -> None:
    found = _auction(100.0, 150.0, 50.0)
    left = 1.0 - found["fraction"]
    equity, maintenance = 100.0 * left + found["bid"], 150.0 * left
    assert equity - maintenance - 0.2 * maintenance == pytest.approx(0.0, abs=1e-12)


def test_cash_of_earlier_bids_is_not_for_sale() -> None:
    assert _auction(100.0, 150.0, 50.0, reserved=10.0)["bid"] == pytest.approx(90.0 * 0.89 * 80.0 / (80.0 + 89.0 + 1.1))


def test_an_auction_goes_on_until_the_account_has_the_buffer_too() -> None:
    """Worth 150, required 150: B = -0.2 * 150. Worth 160 of 140: 20 more than required, of 28 that the buffer asks."""
    assert _auction(150.0, 150.0, 50.0)["fraction"] == pytest.approx(30.0 / (30.0 + 150.0 * 0.89))
    found = _auction(160.0, 140.0, 50.0, reserved=20.0)
    assert found["buffer"] == -8.0
    assert found["fraction"] == pytest.approx(8.0 / (8.0 + 160.0 * 0.89 + 20.0 * 0.11))


def test_nothing_is_sold_of_a_healthy_account_and_all_of_a_bankrupt_one() -> None:
    assert _auction(180.0, 150.0)["fraction"] == 0.0
    assert _auction(180.5, 150.0)["fraction"] == 0.0
    assert _auction(179.5, 150.0)["fraction"] > 0.0
    assert _auction(0.0, 0.0)["fraction"] == 0.0  # there is nothing
    found = _auction(-1.0, 150.0)
    assert (found["fraction"], found["bid"]) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("equity", "maintenance", "reserved", "fraction"),
    [
        (150.0, 150.5, 0.0, 30.6 / (30.6 + 150.0 * 0.89)),  # half a dollar is missing
        (0.5, 150.0, 0.0, 179.5 / (179.5 + 0.5 * 0.89)),
        (0.0, 150.0, 10.0, 180.0 / (180.0 + 10.0 * 0.11)),
        (-0.5, 150.0, 100.0, 1.0),
    ],
)
def test_the_fraction_at_both_of_its_ends(equity: float, maintenance: float, reserved: float, fraction: float) -> None:
    assert _auction(equity, maintenance, 50.0, reserved)["fraction"] == pytest.approx(fraction)


@pytest.mark.parametrize("missing", range(4))
def test_what_is_missing_makes_it_unknown(missing: int) -> None:
    numbers = [100.0, 150.0, 0.0, 0.0]
    numbers[missing] = math.nan
    found = _auction(*numbers)
    assert math.isnan(found["fraction"])
    assert math.isnan(found["bid"])


def test_parameters_in_order() -> None:
    with pytest.raises(ValueError, match="start is below cutoff"):
        derive_auction.Parameters(start=0.5, cutoff=0.8)
    level = derive_auction.terms(derive_auction.Parameters(start=0.8, cutoff=0.8))
    assert derive_auction.discount(50.0, level) == 0.8


def test_the_simulations_parameters() -> None:
    """Those of the venue's simulated auctions; BUFFER_SCALE is 1.2."""
    assert derive_auction.Parameters() == derive_auction.Parameters(start=0.98, cutoff=0.8, fast_s=100.0, slow_s=14_400.0, buffer=0.2)


def test_nothing_is_asked_before_it_begins() -> None:
    assert math.isnan(_auction(100.0, 150.0, -0.5)["discount"])
    assert math.isnan(_auction(100.0, 150.0, -0.5)["bid"])
