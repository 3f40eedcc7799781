"""After warming, nothing is compiled any more: a kernel that compiles later would hold up the worker's heartbeats."""

import subprocess
import sys

PROGRAM = """
from engine.warm import warm
from numba.core import event
from tests.random_ledger import RandomLedger

warm()
with event.install_recorder("numba:compile") as recorder:
    for seed in range(3):
        ledger = RandomLedger(seed)
        ledger.steps(200)
        ledger.book.take_cut()
compiled = {(one.data["dispatcher"].py_func.__qualname__, str(one.data["args"])) for _, one in recorder.buffer}
assert not compiled, compiled
print("nothing more to compile")
"""


def test_nothing_is_left_to_compile() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-4_000:]
    assert done.stdout.strip() == "nothing more to compile"
