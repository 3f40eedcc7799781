"""`python -m tests.bench.rules [--accounts N] [--rounds N]`: accounts a second of each venue's rule, on one core.

A new rule goes into `RULES` with a maker of trial accounts: (accounts, seed) to a `Subject`.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from engine.rules.interface import COLUMNS
from tests.derive_accounts import pmrm2_subject, srm_subject
from tests.unit.rule_checks import Subject
from tests.venue_accounts import MAKERS
from tests.venue_books import aave_v3_book, drift_v2_book, mango_v3_book, mango_v4_book

BOOKS: Final = (mango_v4_book, mango_v3_book, drift_v2_book, aave_v3_book)
RULES: Final[list[Callable[[int, int], Subject]]] = [pmrm2_subject, srm_subject, *MAKERS, *BOOKS]
ACCOUNTS: Final = 10_000
ROUNDS: Final = 5


def seconds(subject: Subject) -> float:
    """How long one batch takes."""
    out = np.empty((subject.accounts, COLUMNS))
    began = time.perf_counter()
    subject.margins(subject.inputs, subject.parameters, out)
    return time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one line a rule: the median of the rounds, after one that compiles."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.rules", description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(arguments)
    print("| rule | accounts/s | legs an account |\n|---|---|---|")
    for make in RULES:
        subject = make(options.accounts, 1)
        seconds(subject)
        took = statistics.median(seconds(subject) for _ in range(options.rounds))
        legs = sum(len(getattr(subject.inputs, names[0])) for names in subject.legs.values()) / options.accounts
        print(f"| {subject.rule.title} | {options.accounts / took:,.0f} | {legs:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
