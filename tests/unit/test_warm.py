"""After warming, no kernel meets types that it was not compiled for: to compile later would hold up the worker's heartbeats."""

import subprocess
import sys

PROGRAM = """
import sys

from numba.core.dispatcher import Dispatcher

from engine.inspection import explain_account
from engine.survey import totals
from engine.warm import warm
from tests.random_ledger import RandomLedger


def compiled():
    found = set()
    for name, module in list(sys.modules.items()):
        if name.startswith("engine."):
            for value in vars(module).values():
                if isinstance(value, Dispatcher):
                    found |= {(value.py_func.__module__, value.py_func.__qualname__, str(signature)) for signature in value.signatures}
    return found


warm()
before = compiled()
assert {"apply_fills", "value_accounts", "plan", "encode_account_rows"} <= {name for _, name, _ in before}, before
for seed in range(3):
    ledger = RandomLedger(seed)
    ledger.steps(200)
    ledger.book.take_cut()
    totals(ledger.book.accounts, ledger.book.market)
    ledger.book.leverage.go_on(ledger.book.accounts, ledger.book.market)
    for name in ledger.names:
        explain_account(ledger.book, name)
later = compiled() - before
assert not later, later
print("nothing more to compile")
"""


def test_nothing_is_left_to_compile() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=840)
    assert done.returncode == 0, done.stderr[-4_000:]
    assert done.stdout.strip() == "nothing more to compile"
