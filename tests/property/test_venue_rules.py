"""What holds for every venue rule, whatever its formulas: accounts don't touch each other, order is nothing, nan spoils, more asks more."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.rules.faults import faults
from engine.rules.interface import DISTANCE, EQUITY_USD, INITIAL_USD, MAINTENANCE_USD, RuleInfo
from tests.rule_samples import SAMPLES, Sample, margins, one_account

SEEDS = st.integers(0, 2**32 - 1)
EXAMPLES = settings(max_examples=25, deadline=None)


@pytest.fixture(params=SAMPLES, scope="module")
def sample(request: pytest.FixtureRequest) -> Sample:
    return SAMPLES[request.param]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_rule_says_what_it_is(name: str) -> None:
    module = SAMPLES[name].rule
    infos = [value for value in vars(module).values() if isinstance(value, RuleInfo)]
    assert module.RULE in infos
    assert module.RULE.name == name
    assert all(info.title and info.version and info.sources for info in infos)
    assert all(info.published == bool(info.cases) for info in infos)


def test_the_layout_of_a_sample_is_all_of_its_arrays(sample: Sample) -> None:
    inputs = sample.draw(np.random.default_rng(1), 5)
    for name in inputs._fields:
        length = getattr(inputs, name).shape[0]
        if name in sample.leg_fields:
            assert length == inputs.start[-1]
        elif name in sample.account_fields:
            assert length == 5
        else:
            assert name == "start" or length not in (5, int(inputs.start[-1]))


@EXAMPLES
@given(seed=SEEDS)
def test_a_batch_is_each_account_alone_bit_for_bit(sample: Sample, seed: int) -> None:
    inputs = sample.draw(np.random.default_rng(seed), 7)
    together = margins(sample, inputs)
    for account in range(7):
        assert margins(sample, one_account(sample, inputs, account)).tobytes() == together[account].tobytes()


@EXAMPLES
@given(seed=SEEDS)
def test_the_order_of_legs_is_nothing(sample: Sample, seed: int) -> None:
    generator = np.random.default_rng(seed)
    inputs = sample.draw(generator, 4)
    order = np.concatenate([generator.permutation(np.arange(inputs.start[a], inputs.start[a + 1])) for a in range(4)]).astype(np.int64)
    shuffled = inputs._replace(**{name: getattr(inputs, name)[order] for name in sample.leg_fields})
    found, expected = margins(sample, shuffled), margins(sample, inputs)
    np.testing.assert_allclose(found[:, :DISTANCE], expected[:, :DISTANCE], rtol=1e-9, atol=1e-3)  # Deribit rounds to 1e-9 coins
    np.testing.assert_allclose(found[:, DISTANCE], expected[:, DISTANCE], rtol=1e-6, atol=1e-9)


@EXAMPLES
@given(seed=SEEDS, bad=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_what_cannot_be_valued_spoils_its_account_and_no_other(sample: Sample, seed: int, bad: float) -> None:
    generator = np.random.default_rng(seed)
    inputs = sample.draw(generator, 4)
    sound = margins(sample, inputs)
    for name in (*sample.leg_fields, *sample.account_fields):
        values = getattr(inputs, name)
        if values.dtype != np.float64 or values.shape[0] == 0 or (name in sample.caps and not np.isnan(bad)):
            continue
        at = int(generator.integers(0, values.shape[0]))
        account = at if name in sample.account_fields else int(np.searchsorted(inputs.start, at, side="right")) - 1
        spoilt = values.copy()
        spoilt[at] = bad
        found = margins(sample, inputs._replace(**{name: spoilt}))
        assert np.isnan(found[account]).all(), name
        rest = np.arange(4) != account
        assert found[rest].tobytes() == sound[rest].tobytes(), name


@EXAMPLES
@given(seed=SEEDS, factor=st.floats(1.0, 50.0))
def test_larger_positions_ask_for_no_less(sample: Sample, seed: int, factor: float) -> None:
    inputs = sample.draw(np.random.default_rng(seed), 6)
    grown = inputs._replace(**{name: getattr(inputs, name) * factor for name in sample.size_fields})
    before, after = margins(sample, inputs), margins(sample, grown)
    for column in (INITIAL_USD, MAINTENANCE_USD):
        assert (after[:, column] >= before[:, column] - 1e-9 * np.abs(before[:, column]) - 1e-3).all()


@EXAMPLES
@given(seed=SEEDS)
def test_more_equity_is_further_away(sample: Sample, seed: int) -> None:
    inputs = sample.draw(np.random.default_rng(seed), 6)
    richer = margins(sample, inputs._replace(**{sample.equity_field: getattr(inputs, sample.equity_field) + 10.0}))
    before = margins(sample, inputs)
    assert (richer[:, EQUITY_USD] > before[:, EQUITY_USD]).all()
    assert (richer[:, EQUITY_USD] - richer[:, MAINTENANCE_USD] > before[:, EQUITY_USD] - before[:, MAINTENANCE_USD]).all()
    assert (richer[:, DISTANCE] >= before[:, DISTANCE]).all()


@EXAMPLES
@given(seed=SEEDS)
def test_a_loss_of_equity_is_the_distance_to_maintenance(sample: Sample, seed: int) -> None:
    """The distance times gross notional is equity less maintenance; an account without a position is infinitely far, either way."""
    inputs = sample.draw(np.random.default_rng(seed), 6)
    for row in margins(sample, inputs):
        excess = row[EQUITY_USD] - row[MAINTENANCE_USD]
        assert np.sign(row[DISTANCE]) == np.sign(excess) or excess == 0.0


def test_an_account_with_nothing_is_infinitely_far(sample: Sample) -> None:
    inputs = sample.draw(np.random.default_rng(3), 1)
    empty = {name: getattr(inputs, name)[:0] for name in sample.leg_fields}
    empty |= {name: np.zeros(1) for name in sample.account_fields}
    [row] = margins(sample, inputs._replace(start=np.array([0, 0]), **empty))
    assert row.tolist() == [0.0, 0.0, 0.0, np.inf]


def test_every_fault_of_a_set_is_named_at_once(sample: Sample) -> None:
    kind = sample.rule.Parameters
    bounded = [field.name for field in msgspec.structs.fields(kind)]
    document = {**dict.fromkeys(bounded, -1.5), "no_such_key": 1}
    found = faults(kind, document)
    assert {fault.partition(":")[0].partition(" ")[0] for fault in found} == {*bounded, "no_such_key"}
    with pytest.raises(msgspec.ValidationError, match="no_such_key"):
        msgspec.convert({"no_such_key": 1}, kind)
