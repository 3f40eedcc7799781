"""`python -m tests.fault.run --seeds N`: the fault scenario at N seeds, a line each; exit code 1 if any of them went wrong."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import uuid
from pathlib import Path

from streams.broker import cluster
from tests.fault.scenario import run_scenario
from tests.fault.workloads import BookWorkload, ToyWorkload, Workload


def _workload(machines: str, seed: int) -> Workload:
    book = machines == "book" or (machines == "both" and seed % 2 == 0)
    return BookWorkload(seed) if book else ToyWorkload(seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first one")
    parser.add_argument("--machines", choices=["toy", "book", "both"], default="both", help="what runs; both: in turn")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="plimsoll-faults-kafka-"))
    failed = []
    try:
        with cluster(folder) as found:
            for seed in range(options.first, options.first + options.seeds):
                workload = _workload(options.machines, seed)
                try:
                    outcome = asyncio.run(run_scenario(found.bootstrap, f"faults-{uuid.uuid4().hex[:8]}.", seed, workload))
                except (AssertionError, TimeoutError) as error:  # a worker that never got ready, say: the other seeds still count
                    print(f"seed {seed}: FAILED: {error}", flush=True)
                    failed.append(seed)
                    continue
                print(outcome.line(), flush=True)
                if outcome.problems:
                    failed.append(seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{options.seeds - len(failed)} of {options.seeds} seeds passed" + (f"; failed: {failed}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
