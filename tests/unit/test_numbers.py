"""How far sums of positions are from the exact ones: float64 within its bound, float32 beyond what is allowed (docs/model.md, 13)."""

from fractions import Fraction

import numpy as np

from engine.margin import UNHAIRCUT
from engine.tables import CASH_VALUE, UNIT_LONG, UNIT_SHORT
from tests.small_market import Account, new_market

EPSILON = 2.0**-53
ALLOWED = 1e-9  # of gross
POSITIONS = 8
NAMES = (
    ("vault-one", "BTC"),
    ("vault-one", "ETH"),
    ("venue-one", "BTC-perp"),
    ("venue-two", "ETH-perp"),
    ("venue-two", "DOGE-perp"),
    ("venue-one", "USDE-loan"),
    ("venue-two", "GOV-perp"),
    ("venue-one", "BTC-coin"),
)


def test_the_value_of_an_account_is_within_the_bound_of_float64() -> None:
    market = new_market()
    draw = np.random.default_rng(1)
    for _ in range(200):
        lots = [int(draw.integers(1, 10**6)) * (1 if venue.startswith("vault") else int(draw.choice((-1, 1)))) for venue, _ in NAMES]
        cash = [int(units) for units in draw.integers(-(10**12), 10**12, POSITIONS)]
        account = Account(market, [(venue, name, q, c) for (venue, name), q, c in zip(NAMES, lots, cash, strict=True)])
        floats = market.tables.instrument_float
        terms: list[Fraction] = []
        for slot in range(POSITIONS):
            row = floats[account.instrument[slot]]
            terms += [
                Fraction(lots[slot]) * Fraction(float(row[UNIT_LONG if lots[slot] > 0 else UNIT_SHORT])),
                Fraction(cash[slot]) * Fraction(float(row[CASH_VALUE])),
            ]
        exact, gross = sum(terms, Fraction(0)), float(sum(abs(term) for term in terms))
        said = float(account.value()[1][UNHAIRCUT])
        assert abs(Fraction(said) - exact) <= (len(terms) + 2) * EPSILON * gross


def test_single_precision_is_not_enough() -> None:
    """Of random books of eight positions, most are wrong by more than what is allowed, and none by more than the bound of float32."""
    draw = np.random.default_rng(2)
    values = draw.uniform(-1e6, 1e6, (1_000, POSITIONS))
    gross = np.abs(values).sum(axis=1)
    error = np.zeros(len(values))
    for row, one in enumerate(values):
        total = np.float32(0.0)
        for value in one:
            total = np.float32(total + np.float32(value))
        error[row] = abs(float(total) - sum(map(Fraction, one.tolist())))
    assert (error > ALLOWED * gross).mean() > 0.5
    assert (error <= (POSITIONS + 2) * 2.0**-24 * gross).all()
