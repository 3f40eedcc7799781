"""`python -m tests.bench.rules [--accounts N] [--rounds N]`: accounts a second of each venue's rule, on one core. Prints JSON.

*kernel*: the rule over arrays that are there already. *legs*: from positions of ours to the same, adapters included, as a running book
does it; beside it, in the same rounds, the same accounts one call each: what a loop of Python would cost.
A new rule goes into `RULES` with a maker of trial accounts: (accounts, seed) to a `Subject`.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from engine.rules.adapters import ADAPTERS
from engine.rules.choice import margins
from engine.rules.interface import COLUMNS
from tests.derive_accounts import pmrm2_subject, srm_subject
from tests.unit.rule_checks import Subject
from tests.venue_accounts import MAKERS
from tests.venue_books import aave_v3_book, drift_v2_book, mango_v3_book, mango_v4_book
from tests.venue_legs import choice_of, random_legs

BOOKS: Final = (mango_v4_book, mango_v3_book, drift_v2_book, aave_v3_book)
RULES: Final[list[Callable[[int, int], Subject]]] = [pmrm2_subject, srm_subject, *MAKERS, *BOOKS]
ACCOUNTS: Final = 10_000
ALONE: Final = 200  # accounts that are computed one call each
ROUNDS: Final = 5
SEED: Final = 1


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def kernel_rate(subject: Subject, rounds: int) -> dict[str, Any]:
    """The rule over arrays, after one round that compiles."""
    out = np.empty((subject.accounts, COLUMNS))

    def work() -> None:
        subject.margins(subject.inputs, subject.parameters, out)

    work()
    took = statistics.median(seconds(work) for _ in range(rounds))
    legs = sum(len(getattr(subject.inputs, names[0])) for names in subject.legs.values()) / subject.accounts
    return {"title": subject.rule.title, "accounts_per_s": round(subject.accounts / took), "legs_an_account": round(legs, 1)}


def legs_rate(rule: str, accounts: int, rounds: int) -> dict[str, Any]:
    """From positions on, in one batch and one call each, in turns. AssertionError where the two differ in a bit."""
    choice = choice_of(rule)
    held = random_legs(rule, accounts, SEED, faultless=True)
    alone = [held.only(np.array([account])) for account in range(min(ALONE, accounts))]
    found = margins(choice, held).out
    assert np.array_equal(np.concatenate([margins(choice, one).out for one in alone]), found[: len(alone)], equal_nan=True), rule
    batches, singles = [], []
    for _ in range(rounds):
        batches.append(seconds(lambda: margins(choice, held)) / accounts)
        singles.append(seconds(lambda: [margins(choice, one) for one in alone]) / len(alone))
    ratio = statistics.median(single / batch for single, batch in zip(singles, batches, strict=True))
    return {"legs_accounts_per_s": round(1.0 / statistics.median(batches)), "times_one_by_one": round(ratio, 1)}


def measure(accounts: int, rounds: int) -> dict[str, dict[str, Any]]:
    """By rule; those that take no leg of ours have no figures of legs."""
    found = {}
    for make in RULES:
        subject = make(accounts, SEED)
        name = subject.rule.name
        found[name] = kernel_rate(subject, rounds) | (legs_rate(name, accounts, rounds) if name in ADAPTERS else {})
    return dict(sorted(found.items()))


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.rules", description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(arguments)
    print(json.dumps(measure(options.accounts, options.rounds), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
