"""The engine against the plain twin on random books of every kind, size and parameter set; `make twin` does ten thousand of them."""

from collections import Counter

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.bench.twin import compared

MARKETS = 20
ACCOUNTS = 10  # of each


# An example is a whole market; a smaller counterexample is not worth the minutes that shrinking takes, and its seed says all.
@settings(
    max_examples=MARKETS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
@given(st.integers(0, 2**32), st.booleans())
def test_engine_and_twin_agree_on_random_books(seed: int, wild: bool) -> None:
    tally = Counter[str]()
    ((_, differences),) = compared(ACCOUNTS, seed, wild=wild, tally=tally)
    assert differences == []
    assert sum(tally.values()) == ACCOUNTS
