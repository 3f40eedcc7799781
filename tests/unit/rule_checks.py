"""What every venue's rule must pass, whatever it computes: `check_rule(subject)`, or the checks one by one.

A `Subject` is a rule with accounts to try it on: say which fields of its `Inputs` are by account, by leg, and feeds, and the checks do
the rest. Accounts should differ, and at least one should hold of everything that the rule knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.rules.interface import COLUMNS, DISTANCE, EQUITY_USD, INITIAL_USD, MAINTENANCE_USD, RuleInfo

ORDER_TOLERANCE = 1e-12  # of sums in another order, relative to the account's largest number


@dataclass(frozen=True)
class Subject:
    """A rule and accounts. `inputs` is the rule's NamedTuple."""

    rule: RuleInfo
    margins: Callable[[Any, Any, NDArray[np.float64]], None]
    inputs: Any
    parameters: Any
    by_account: Sequence[str]  # fields (accounts,)
    legs: Mapping[str, Sequence[str]]  # field of offsets -> fields of its legs
    feeds: Sequence[str]  # fields of prices, confidences and the like, arrays or single numbers

    @property
    def accounts(self) -> int:
        """How many accounts there are."""
        return len(getattr(self.inputs, next(iter(self.legs)))) - 1

    def evaluated(self) -> NDArray[np.float64]:
        """(accounts, 4), columns of `interface`; filled with a mark first, so that what is left out shows."""
        out = np.full((self.accounts, COLUMNS), 12345.0)
        self.margins(self.inputs, self.parameters, out)
        return out

    def changed(self, **fields: Any) -> Subject:
        """The same rule with other inputs."""
        return replace(self, inputs=self.inputs._replace(**fields))

    def only(self, accounts: Iterable[int]) -> Subject:
        """These accounts alone, in this order."""
        chosen = list(accounts)
        fields: dict[str, Any] = {name: getattr(self.inputs, name)[chosen].copy() for name in self.by_account}
        for offsets, names in self.legs.items():
            start = getattr(self.inputs, offsets)
            taken = [np.arange(start[account], start[account + 1]) for account in chosen]
            fields[offsets] = np.concatenate([[0], np.cumsum([len(legs) for legs in taken])]).astype(np.int64)
            order = np.concatenate([*taken, np.zeros(0, dtype=np.int64)]).astype(np.int64)
            fields |= {name: getattr(self.inputs, name)[order].copy() for name in names}
        return self.changed(**fields)

    def shuffled(self, generator: np.random.Generator) -> Subject:
        """Each account's legs in another order."""
        fields: dict[str, Any] = {}
        for offsets, names in self.legs.items():
            start = getattr(self.inputs, offsets)
            order = np.concatenate(
                [generator.permutation(np.arange(start[account], start[account + 1])) for account in range(self.accounts)]
            ).astype(np.int64)
            fields |= {name: getattr(self.inputs, name)[order].copy() for name in names}
        return self.changed(**fields)


def check_rule(subject: Subject) -> None:
    """All checks."""
    check_info(subject.rule)
    check_every_account_is_filled(subject)
    check_batch_is_each_alone(subject)
    check_order_of_legs(subject)
    check_empty_account(subject)
    check_no_accounts(subject)
    check_nan_of_an_account(subject)
    check_nan_of_a_feed(subject)
    check_inputs_are_left_alone(subject)


def check_info(rule: RuleInfo) -> None:
    """A rule says where it comes from, and what it was checked against if it was."""
    assert rule.name.isidentifier()
    assert all([rule.title, rule.version, rule.cases])
    assert len(rule.sources) > 0
    assert all(rule.sources)


def check_every_account_is_filled(subject: Subject) -> None:
    """The trial accounts are good for something: known, and not all alike."""
    found = subject.evaluated()
    assert np.isfinite(found[:, : MAINTENANCE_USD + 1]).all()
    assert not np.isnan(found[:, DISTANCE]).any()
    assert len(np.unique(found, axis=0)) > 1
    if subject.rule.measure == "margin":
        assert (found[:, INITIAL_USD] >= found[:, MAINTENANCE_USD] - 1e-9 * np.abs(found[:, INITIAL_USD])).all()
        left_usd = found[:, EQUITY_USD] - found[:, MAINTENANCE_USD]
        assert (np.sign(found[:, DISTANCE]) == np.sign(left_usd)).all()


def check_batch_is_each_alone(subject: Subject) -> None:
    """Many accounts at once give each what it gets alone, to the last bit, and in whatever order they come."""
    together = subject.evaluated()
    for account in range(subject.accounts):
        assert _same_bits(subject.only([account]).evaluated()[0], together[account]), f"account {account} alone"
    backwards = range(subject.accounts - 1, -1, -1)
    assert _same_bits(subject.only(backwards).evaluated(), together[::-1])


def check_order_of_legs(subject: Subject) -> None:
    """The order of an account's legs changes nothing but roundings."""
    found = subject.evaluated()
    size = np.abs(found[:, : MAINTENANCE_USD + 1]).max()
    for seed in range(3):
        other = subject.shuffled(np.random.Generator(np.random.PCG64(seed))).evaluated()
        np.testing.assert_allclose(other, found, rtol=1e-9, atol=ORDER_TOLERANCE * size)


def check_empty_account(subject: Subject) -> None:
    """Nothing held: nothing worth, nothing required, and no price can hurt; its neighbours see no difference."""
    legs = {name: getattr(subject.inputs, name) for names in subject.legs.values() for name in names}
    fields: dict[str, Any] = dict(legs)
    for name in subject.by_account:
        whole = getattr(subject.inputs, name)
        fields[name] = np.concatenate([whole[:1], np.zeros(1, dtype=whole.dtype), whole[1:]])
    for offsets in subject.legs:
        start = getattr(subject.inputs, offsets)
        fields[offsets] = np.concatenate([start[:2], start[1:]])
    before, after = subject.evaluated(), subject.changed(**fields).evaluated()
    assert after[1].tolist() == [0.0, 0.0, 0.0, np.inf]
    assert _same_bits(np.delete(after, 1, axis=0), before)


def check_no_accounts(subject: Subject) -> None:
    """An empty batch is no fault."""
    assert subject.only([]).evaluated().shape == (0, COLUMNS)


def check_nan_of_an_account(subject: Subject) -> None:
    """A number that is missing makes its account unknown in all columns, and no other."""
    before = subject.evaluated()
    for name, index, account in _numbers_of_accounts(subject):
        poisoned = getattr(subject.inputs, name).copy()
        poisoned[index] = np.nan
        after = subject.changed(**{name: poisoned}).evaluated()
        assert np.isnan(after[account]).all(), f"{name}[{index}] is missing, and account {account} is {after[account]}"
        assert _same_bits(np.delete(after, account, axis=0), np.delete(before, account, axis=0)), f"{name}[{index}] changed others"


def check_nan_of_a_feed(subject: Subject) -> None:
    """A feed that is missing makes unknown whom it concerns, and leaves the others as they were: nobody gets another number."""
    before = subject.evaluated()
    for name in subject.feeds:
        feed = getattr(subject.inputs, name)
        missing = np.nan if np.isscalar(feed) else np.full_like(feed, np.nan)
        after = subject.changed(**{name: missing}).evaluated()
        unknown = np.isnan(after).all(axis=1)
        assert unknown.any(), f"nobody minds that {name} is missing"
        assert _same_bits(after[~unknown], before[~unknown]), f"{name} is missing, and somebody gets another number"


def check_inputs_are_left_alone(subject: Subject) -> None:
    """The kernel writes to `out` alone."""
    copies = {name: np.array(value) for name, value in subject.inputs._asdict().items()}
    subject.evaluated()
    for name, copy in copies.items():
        np.testing.assert_array_equal(getattr(subject.inputs, name), copy)


def _numbers_of_accounts(subject: Subject) -> Iterable[tuple[str, int, int]]:
    """(field, index, account) of each float of each account and leg."""
    for name in subject.by_account:
        if getattr(subject.inputs, name).dtype == np.float64:
            yield from ((name, account, account) for account in range(subject.accounts))
    for offsets, names in subject.legs.items():
        start = getattr(subject.inputs, offsets)
        for name in names:
            if getattr(subject.inputs, name).dtype == np.float64:
                for account in range(subject.accounts):
                    yield from ((name, index, account) for index in range(start[account], start[account + 1]))


def _same_bits(left: NDArray[np.float64], right: NDArray[np.float64]) -> bool:
    return np.ascontiguousarray(left).tobytes() == np.ascontiguousarray(right).tobytes()
