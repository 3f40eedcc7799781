"""`python -m tests.fault.run --seeds N`: the fault scenario at N seeds, a line each; exit code 1 if any of them went wrong.

Every third seed runs toys (small machines that decide and cut much more often), the others the real books.
"""

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

TOYS_EVERY = 3


def workload_of(machines: str, seed: int) -> Workload:
    """What a seed runs; a seed is the same whichever it was begun with."""
    is_toy = machines == "toy" or (machines == "both" and seed % TOYS_EVERY == 0)
    return ToyWorkload(seed) if is_toy else BookWorkload(seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first one")
    parser.add_argument("--machines", choices=["toy", "book", "both"], default="both", help="what runs; both: toys at every third seed")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    workloads = {seed: workload_of(options.machines, seed) for seed in seeds}
    ran = {name: [seed for seed in seeds if workloads[seed].name == name] for name in (BookWorkload.name, ToyWorkload.name)}
    print("; ".join(f"{name}: {_listed(found)}" for name, found in ran.items()), flush=True)
    folder = Path(tempfile.mkdtemp(prefix="plimsoll-faults-kafka-"))
    failed = []
    try:
        with cluster(folder) as found:
            for seed, workload in workloads.items():
                try:
                    outcome = asyncio.run(run_scenario(found.bootstrap, f"faults-{uuid.uuid4().hex[:8]}.", seed, workload))
                except (AssertionError, TimeoutError) as error:  # a worker that never got ready, say: the other seeds still count
                    print(f"seed {seed} ({workload.name}): FAILED: {error}", flush=True)
                    failed.append(seed)
                    continue
                print(outcome.line(), flush=True)
                if outcome.problems:
                    failed.append(seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    passed = [f"{name}: {len(set(found) - set(failed))} of {len(found)} seeds passed" for name, found in ran.items() if found]
    print("; ".join(passed) + (f"; failed: {failed}" if failed else ""))
    return 1 if failed else 0


def _listed(seeds: list[int]) -> str:
    return f"seeds {', '.join(map(str, seeds))}" if seeds else "no seed"


if __name__ == "__main__":
    sys.exit(main())
