"""`python -m tests.mutation.run`: changes one thing of the engine at a time, and lists the changes that no test notices.

What is changed and which tests should notice stands in targets.toml, the survivors that may be in explained.toml. Writes out/mutation.json.
Ends with 1 where too many survive, one is not explained or an explanation is of nothing that survives; with 2 where nothing could be
measured, as tests fail without a mutant.
"""

from __future__ import annotations

import os

if __name__ == "__main__":  # never in a process that only reads our rules: numba looks at this again and again
    os.environ["NUMBA_DISABLE_JIT"] = "1"  # kernels run as Python
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a forked process should have one thread

import argparse
import json
import random
import resource
import signal
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.mutation.mutants import KINDS, Mutant, mutants_of
from tests.mutation.trial import NOTHING_RAN, Outcome, Trial, outcome, prepare, start

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
JOBS: Final = 2
LIMIT_FACTOR: Final = 5.0  # a test may take so many times the CPU seconds that it takes without a mutant: a busy machine kills nothing


class Target(NamedTuple):
    """A module, the tests that concern it, the quickest first, and the kinds of change that are tried."""

    file: str
    tests: tuple[str, ...]
    kinds: frozenset[str] = KINDS

    def mutants(self, root: Path) -> list[Mutant]:
        """Those of its kinds, in the order of its source below `root`."""
        return [mutant for mutant in mutants_of(self.file, (root / self.file).read_bytes()) if mutant.kind in self.kinds]


class Rules(NamedTuple):
    """What targets.toml says."""

    targets: list[Target]
    share_max: float  # of the mutants of a run over all modules that may survive
    slack_s: float  # CPU seconds that a test may take longer with a mutant, beside LIMIT_FACTOR


class Survivor(NamedTuple):
    """How a survivor is named in explained.toml; one explanation holds for all mutants of the same words in a file."""

    file: str
    was: str
    becomes: str


class Result(NamedTuple):
    mutant: Mutant
    outcome: Outcome

    @property
    def name(self) -> Survivor:
        return Survivor(self.mutant.file, self.mutant.was, self.mutant.becomes)


def read_rules(path: Path) -> Rules:
    """KeyError where one is missing, ValueError where a kind is none of `KINDS`."""
    content = tomllib.loads(path.read_text())
    targets = [Target(one["file"], tuple(one["tests"]), frozenset(one.get("kinds", KINDS))) for one in content["target"]]
    for target in targets:
        if target.kinds - KINDS:
            raise ValueError(f"{path.name}, {target.file}: there is no kind {', '.join(sorted(target.kinds - KINDS))}")
    return Rules(targets, float(content["share_max"]), float(content["slack_s"]))


def read_explained(path: Path) -> dict[Survivor, str]:
    """Why a survivor may be. ValueError where one has no reason or is named twice."""
    explained: dict[Survivor, str] = {}
    for one in tomllib.loads(path.read_text()).get("survivor", []):
        name = Survivor(one["file"], one["was"], one["becomes"])
        if name in explained or not one["why"].strip():
            raise ValueError(f"{path.name}: named twice, or without a reason: {name}")
        explained[name] = one["why"]
    return explained


class NotMeasured(Exception):
    """Tests that fail, or are not there, without any mutant."""


def measure(root: Path, targets: Sequence[Target]) -> dict[str, float]:
    """CPU seconds of each test without a mutant, all in one child. NotMeasured if one fails or none is found."""
    tests = list(dict.fromkeys(test for target in targets for test in target.tests))
    trial = start(root, None, tests, {})
    _, status = os.waitpid(trial.pid, 0)
    done = outcome(trial, status)
    if not done.passed:
        what = "no test was found" if os.waitstatus_to_exitcode(status) == NOTHING_RAN else f"{done.by or 'a test'}: {done.how}"
        raise NotMeasured(f"without a mutant, {what}\n{done.text}")
    return done.cpu_s


class Run:
    """All trials of a run, some at a time. What killed last in a module comes first, as neighbours die alike; then what takes least."""

    def __init__(self, root: Path, targets: Iterable[Target], taken_s: dict[str, float], slack_s: float) -> None:
        self._root = root
        self._tests = {target.file: target.tests for target in targets}
        self._taken_s = taken_s
        self._slack_s = slack_s
        self._killed_at: dict[str, dict[str, int]] = {file: {} for file in self._tests}  # by test: how many mutants were tried by then
        self._running: dict[int, tuple[Mutant, Trial]] = {}

    def results(self, mutants: Sequence[Mutant], jobs: int) -> list[Result]:
        """In the order of `mutants`. A survivor is printed when it is found."""
        done: dict[Mutant, Outcome] = {}
        waiting = list(reversed(mutants))
        try:
            while waiting or self._running:
                while waiting and len(self._running) < jobs:
                    mutant = waiting.pop()
                    trial = start(self._root, (mutant.file, mutant.source), self._tests[mutant.file], self._limits(mutant.file))
                    self._running[trial.pid] = (mutant, trial)
                pid, status = os.wait()
                mutant, trial = self._running.pop(pid)
                done[mutant] = found = outcome(trial, status)
                if found.passed:
                    print(f"survives: {described(mutant)}", flush=True)
                elif found.by:
                    self._killed_at[mutant.file][found.by] = len(done)
                if len(done) % 50 == 0:
                    print(f"{len(done)} of {len(mutants)}", flush=True)
        finally:
            for pid in self._running:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        return [Result(mutant, done[mutant]) for mutant in mutants]

    def _limits(self, file: str) -> dict[str, float]:
        """CPU seconds that each test may take, in the order in which tests are to run."""
        killed_at = self._killed_at[file]
        in_order = sorted(self._taken_s.items(), key=lambda entry: (-killed_at.get(entry[0], 0), entry[1]))
        return {test: self._slack_s + LIMIT_FACTOR * taken_s for test, taken_s in in_order}


def described(mutant: Mutant) -> str:
    return f"{mutant.file}:{mutant.line}: {mutant.kind}\n    was:     {mutant.was}\n    becomes: {mutant.becomes}"


# ---- report ---------------------------------------------------------------------------------------------------------------------------


def faults(results: Sequence[Result], explained: dict[Survivor, str], share_max: float, whole: frozenset[str]) -> list[str]:
    """What is wrong with a run, in words. `whole` are the files with every mutant tried: only there can an explanation be of nothing.

    `share_max` is 1 where single modules were asked for: a small one may have more of what no test can notice.
    """
    found = []
    survivors = [result for result in results if result.outcome.passed]
    names = {result.name for result in survivors}
    if len(survivors) > share_max * len(results):
        found.append(f"{len(survivors)} of {len(results)} mutants survive, more than {share_max:.0%}")
    found += [f"not explained: {described(result.mutant)}" for result in survivors if result.name not in explained]
    found += [
        f"explained, but nothing of it survives: {name.file}\n    was:     {name.was}\n    becomes: {name.becomes}"
        for name in explained
        if name.file in whole and name not in names
    ]
    return found


def as_table(results: Sequence[Result]) -> str:
    files = list(dict.fromkeys(result.mutant.file for result in results))
    lines = [f"{'module':<28}{'mutants':>8}{'killed':>8}{'no end':>8}{'survive':>8}{'share':>8}"]
    for name in [*files, "all"]:
        of_it = [result.outcome for result in results if name in ("all", result.mutant.file)]
        endless = sum(one.how == "no end" for one in of_it)
        survive = sum(one.passed for one in of_it)
        share = survive / max(len(of_it), 1)
        lines.append(f"{name:<28}{len(of_it):>8}{len(of_it) - survive:>8}{endless:>8}{survive:>8}{share:>8.1%}")
    return "\n".join(lines)


def as_json(results: Sequence[Result], explained: dict[Survivor, str], seconds: float) -> dict[str, object]:
    modules: dict[str, Counter[str]] = {}
    mutants = []
    for result in results:
        mutant, done = result
        survives = done.passed
        modules.setdefault(mutant.file, Counter(mutants=0, killed=0, survivors=0)).update(
            ["mutants", "survivors" if survives else "killed"]
        )
        mutants.append(
            {
                "file": mutant.file,
                "line": mutant.line,
                "kind": mutant.kind,
                "was": mutant.was,
                "becomes": mutant.becomes,
                "killed": not survives,
                "how": done.how,
                "by": done.by,
                "why": explained.get(result.name, "") if survives else "",
            }
        )
    return {"seconds": round(seconds, 1), "modules": modules, "mutants": mutants}


# ---- the command ----------------------------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", action="append", default=[], help="a file of targets.toml, as often as wanted; all of them without")
    parser.add_argument("--jobs", type=int, default=JOBS, help="mutants at a time")
    parser.add_argument("--limit", type=int, help="try no more than so many mutants, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0, help="of what --limit draws")
    parser.add_argument("--root", type=Path, default=ROOT, help="the folder that files and tests are in")
    parser.add_argument("--targets", type=Path, default=HERE / "targets.toml")
    parser.add_argument("--explained", type=Path, default=HERE / "explained.toml")
    parser.add_argument("--out", type=Path, default=Path("out/mutation.json"))
    options = parser.parse_args()
    root = options.root.resolve()
    targets, share_max, slack_s = read_rules(options.targets)
    unknown = set(options.module) - {target.file for target in targets}
    if unknown:
        parser.error(f"not in {options.targets.name}: {', '.join(sorted(unknown))}")
    targets = [target for target in targets if not options.module or target.file in options.module]
    explained = read_explained(options.explained)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what runs, as Ctrl-C does
    began = time.monotonic()
    mutants = [mutant for target in targets for mutant in target.mutants(root)]
    drawn = mutants
    if options.limit is not None and options.limit < len(mutants):
        chosen = random.Random(options.seed).sample(range(len(mutants)), options.limit)
        drawn = [mutants[at] for at in sorted(chosen)]
    whole = frozenset(target.file for target in targets) if drawn is mutants else frozenset()
    prepare(root, [target.file for target in targets] + [test.partition("::")[0] for target in targets for test in target.tests])
    try:
        taken_s = measure(root, targets)
    except NotMeasured as error:
        print(error)
        return 2
    print(f"{len(drawn)} mutants, {len(taken_s)} tests of {sum(taken_s.values()):.0f} s", flush=True)
    results = Run(root, targets, taken_s, slack_s).results(drawn, options.jobs)
    seconds = time.monotonic() - began
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(as_json(results, explained, seconds), indent=1) + "\n")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{as_table(results)}\n{seconds:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of CPU; {options.out}")
    wrong = faults(results, explained, 1.0 if options.module else share_max, whole)
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
