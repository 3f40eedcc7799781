"""What holds for each rule of a venue: the common checks; exact fractions agree; what is infinite spoils; more asks for no less."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.rules.faults import faults
from engine.rules.interface import DISTANCE, EQUITY_USD, INITIAL_USD, MAINTENANCE_USD, RuleInfo
from tests.twin import scanned_rules
from tests.unit.rule_checks import check_batch_is_each_alone, check_info, check_nan_of_an_account, check_order_of_legs, check_rule
from tests.venue_accounts import RULES, subject

TWINS = {
    "deribit_pm": scanned_rules.deribit,
    "bybit_uta": scanned_rules.bybit,
    "okx": scanned_rules.okx,
    "hyperliquid_pm": scanned_rules.hyperliquid,
    "dederi": scanned_rules.dederi,
}
NAMES = st.sampled_from(sorted(RULES))
SEEDS = st.integers(0, 2**32 - 1)
EXAMPLES = settings(max_examples=100, deadline=None)
OF_EACH_RULE = settings(max_examples=20, deadline=None)


@pytest.mark.parametrize("name", RULES)
def test_the_common_checks(name: str) -> None:
    check_rule(subject(name, 12, 1))


@pytest.mark.parametrize("name", RULES)
def test_a_rule_says_what_it_is_and_what_is_published(name: str) -> None:
    module = RULES[name].module
    infos = [value for value in vars(module).values() if isinstance(value, RuleInfo)]
    assert module.RULE in infos
    assert module.RULE.name == name
    for info in infos:
        check_info(info)
        assert info.published != info.cases.startswith("none")


def twin_rows(name: str, seed: int, accounts: int) -> list[scanned_rules.Row]:
    """Each account of a subject by the twin."""
    trial, inputs = RULES[name], subject(name, accounts, seed).inputs
    terms = msgspec.structs.asdict(trial.document)

    def values(fields: tuple[str, ...], at: int) -> dict[str, Any]:
        return {field: getattr(inputs, field)[at].tolist() for field in fields}

    rows = []
    for account in range(accounts):
        legs = [values(trial.by_leg, leg) for leg in range(int(inputs.start[account]), int(inputs.start[account + 1]))]
        of_account = values(trial.by_account, account)
        if name == "span16":
            fields = ("commodity", "gain_usd", "option_value_usd", "is_option", "notional_usd")
            instruments = [values(fields, row) for row in range(inputs.commodity.shape[0])]
            rows.append(scanned_rules.span(legs, instruments, of_account, terms))
        else:
            rows.append(TWINS[name](legs, of_account, terms))
    return rows


@pytest.mark.parametrize("name", RULES)
@OF_EACH_RULE
@given(seed=SEEDS)
def test_kernel_and_twin_agree(name: str, seed: int) -> None:
    found = subject(name, 4, seed).evaluated()
    for row, (equity, initial, maintenance, gross) in zip(found, twin_rows(name, seed, 4), strict=True):
        size = float(abs(equity) + abs(initial) + abs(maintenance))
        slack = 1e-12 * size + (2e-9 * 100_000.0 if name == "deribit_pm" else 0.0)  # where a rounding to 1e-9 coins falls on the other side
        expected = [float(equity), float(initial), float(maintenance)]
        assert row[:DISTANCE] == pytest.approx(expected, rel=0.0, abs=slack)
        if gross:
            assert row[DISTANCE] * float(gross) == pytest.approx(float(equity - maintenance), rel=1e-9, abs=2 * slack)


@EXAMPLES
@given(NAMES, SEEDS)
def test_batch_order_and_doubt(name: str, seed: int) -> None:
    check_batch_is_each_alone(subject(name, 5, seed))
    check_order_of_legs(subject(name, 5, seed))
    check_nan_of_an_account(subject(name, 3, seed))


@EXAMPLES
@given(NAMES, SEEDS, st.sampled_from([np.inf, -np.inf]))
def test_what_is_infinite_spoils_its_account_and_no_other(name: str, seed: int, bad: float) -> None:
    trial, sound = RULES[name], subject(name, 4, seed)
    start, before = sound.inputs.start, sound.evaluated()
    for field in (*trial.by_leg, *trial.by_account):
        values = getattr(sound.inputs, field)
        if values.dtype != np.float64 or values.shape[0] == 0 or field in trial.caps:
            continue
        at = seed % values.shape[0]
        account = at if field in trial.by_account else int(np.searchsorted(start, at, side="right")) - 1
        spoilt = values.copy()
        spoilt[at] = bad
        found = sound.changed(**{field: spoilt}).evaluated()
        assert np.isnan(found[account]).all(), field
        assert np.delete(found, account, axis=0).tobytes() == np.delete(before, account, axis=0).tobytes(), field


@EXAMPLES
@given(NAMES, SEEDS, st.floats(1.0, 50.0))
def test_larger_positions_ask_for_no_less(name: str, seed: int, factor: float) -> None:
    drawn = subject(name, 6, seed)
    grown = drawn.changed(**{field: getattr(drawn.inputs, field) * factor for field in RULES[name].sizes})
    before, after = drawn.evaluated(), grown.evaluated()
    for column in (INITIAL_USD, MAINTENANCE_USD):
        assert (after[:, column] >= before[:, column] - 1e-9 * np.abs(before[:, column]) - 1e-3).all()


@EXAMPLES
@given(NAMES, SEEDS)
def test_more_equity_is_further_away(name: str, seed: int) -> None:
    drawn, equity = subject(name, 6, seed), RULES[name].equity
    before = drawn.evaluated()
    after = drawn.changed(**{equity: getattr(drawn.inputs, equity) + 10.0}).evaluated()
    assert (after[:, EQUITY_USD] > before[:, EQUITY_USD]).all()
    assert (after[:, EQUITY_USD] - after[:, MAINTENANCE_USD] > before[:, EQUITY_USD] - before[:, MAINTENANCE_USD]).all()
    assert (after[:, DISTANCE] >= before[:, DISTANCE]).all()


@pytest.mark.parametrize("name", RULES)
def test_parts_end_in_what_the_row_says(name: str) -> None:
    """Some part of each account is its maintenance, but where the row says it in another way than the venue."""
    drawn, trial = subject(name, 10, 5), RULES[name]
    rows = drawn.evaluated()
    for account in range(10):
        amounts = [amount for _, amount in trial.module.parts(drawn.inputs, trial.parameters, account)]
        if name == "hyperliquid_pm":
            assert (rows[account, DISTANCE] < 0.0) == (amounts[-1] > 0.95)
        else:
            assert amounts[-1] == pytest.approx(rows[account, MAINTENANCE_USD], rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("name", RULES)
def test_every_fault_of_a_set_is_named_at_once(name: str) -> None:
    kind = RULES[name].module.Parameters
    fields = [field.name for field in msgspec.structs.fields(kind)]
    found = faults(kind, {**dict.fromkeys(fields, -1.5), "no_such_key": 1})
    assert {fault.partition(":")[0] for fault in found} == {*fields, "no_such_key"}
    with pytest.raises(msgspec.ValidationError, match="no_such_key"):
        msgspec.convert({"no_such_key": 1}, kind)
