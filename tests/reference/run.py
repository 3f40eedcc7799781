"""`python -m tests.reference.run --reference DIR`: every reference case found in a folder, passed and failed by family.

A family is what a module's `families()` names; it covers the files and folders of DIR (one level below its topics) whose names begin
with that name. What nobody covers is listed too, so that the count of passed cases doesn't look like more than it is.
"""

import argparse
import importlib
import json
import pkgutil
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import tests.reference
from tests.reference import rules
from tests.reference.case import CaseResult

Run = Callable[[Path | None], list[CaseResult]]

# Topics that hold prices, not answers: what demonstration and backtest replay. A family may name what lies there; it need not be covered.
INPUT_TOPICS = frozenset({"market"})
_NOT_FAMILIES = frozenset({"case", "rules", "run"})


def collect() -> dict[str, Run]:
    """Every family of every module in this package, by name."""
    collected: dict[str, Run] = {}
    for module in _modules():
        families = getattr(module, "families", None)
        if families is None:
            continue
        for name, run in families().items():
            assert name not in collected, f"two modules claim the family {name}"
            collected[name] = run
    return collected


def collect_inputs() -> list[str]:
    """Beginnings of the names of files that hold no answers of their own, by a module's `inputs()`: a family computes from them."""
    return [name for module in _modules() for name in getattr(module, "inputs", tuple)()]


def _modules() -> list[ModuleType]:
    names = sorted(found.name for found in pkgutil.iter_modules(tests.reference.__path__))
    wanted = [name for name in names if name not in _NOT_FAMILIES and not name.startswith("test_")]
    return [importlib.import_module(f"tests.reference.{name}") for name in wanted]


def entries(folder: Path) -> list[Path]:
    """The files and folders of reference answers: one level below the topics, without notes."""
    topics = [topic for topic in sorted(folder.iterdir()) if topic.is_dir() and topic.name not in INPUT_TOPICS]
    return [entry for topic in topics for entry in sorted(topic.iterdir()) if not entry.name.lower().startswith(("readme", "."))]


def _is_there(folder: Path, name: str) -> bool:
    """Whether any topic has a file or folder of the family."""
    return any(entry.name.startswith(name) for topic in folder.iterdir() if topic.is_dir() for entry in topic.iterdir())


def not_covered(folder: Path, names: Sequence[str]) -> dict[str, int]:
    """Entries that no family covers, by `topic/name`, with the number of files in each."""
    uncovered = [entry for entry in entries(folder) if not entry.name.startswith(tuple(names))]
    return {f"{entry.parent.name}/{entry.name.split('.')[0]}": _files(entry) for entry in uncovered}


def run_family(name: str, run: Run, folder: Path | None) -> list[CaseResult]:
    """A family's results. No result at all, or an exception, is a failure of its own, so that the other families still run."""
    try:
        results = run(folder)
    except Exception as fault:  # noqa: BLE001 - whatever it is, it is reported with its place and the exit status says so
        place = traceback.extract_tb(fault.__traceback__)[-1]
        detail = f"{type(fault).__name__}: {fault} ({Path(place.filename).name}:{place.lineno})"
        return [CaseResult(name, "the whole family", False, detail)]
    return results or [CaseResult(name, "the whole family", False, "found no case")]


def cases_of_rules() -> str:
    """JSON: by rule, how many cases there are and how many passed. Families of other things than rules are not run."""
    families = {name: run for name, run in collect().items() if rules.has_rules(name)}
    results = [result for name, run in families.items() for result in run_family(name, run, None) if not result.left_out]
    counts: dict[str, dict[str, int]] = {}
    for result in results:
        rule = rules.rule_of(result.family, result.case)
        if rule is not None:
            count = counts.setdefault(rule, {"cases": 0, "passed": 0})
            count["cases"] += 1
            count["passed"] += bool(result.passed)
    return json.dumps(dict(sorted(counts.items())), indent=2) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is asked for and prints the outcome; 1 if any case failed, or there was none."""
    parser = argparse.ArgumentParser(prog="python -m tests.reference.run", description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--reference", type=Path, help="a folder of reference data; without it, the facts carried with the tests")
    parser.add_argument("--models", type=Path, help="write how many carried cases of each venue's rule passed, for `plimsoll models`")
    options = parser.parse_args(arguments)
    folder: Path | None = options.reference
    if options.models is not None:
        if folder is not None:
            parser.error("--models counts the facts carried with the tests: say no folder")
        options.models.write_text(cases_of_rules())
        return 0
    if folder is not None and not folder.is_dir():
        parser.error(f"{folder} is not a folder")

    families = collect()
    results: list[CaseResult] = []
    absent: list[str] = []
    for name, run in families.items():
        if folder is not None and not _is_there(folder, name):
            absent.append(name)
        else:
            results += run_family(name, run, folder)

    for line in _table(results, absent, {} if folder is None else not_covered(folder, [*families, *collect_inputs()])):
        print(line)
    for result in results:
        if result.told and not result.left_out:
            print(f"{result.family}: {result.case}: {result.detail}")
    left_out = [result for result in results if result.left_out]
    for result in left_out:
        print(f"LEFT OUT {result.family}: {result.case}: {result.detail}")
    results = [result for result in results if not result.left_out]
    failed = [result for result in results if not result.passed]
    for result in failed:
        print(f"FAILED {result.family}: {result.case}: {result.detail}")
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or not results else 0


def _table(results: list[CaseResult], absent: list[str], uncovered: dict[str, int]) -> list[str]:
    rows = [("family", "passed", "failed", "")]
    for name in sorted({result.family for result in results}):
        outcomes = [result.passed for result in results if result.family == name and not result.left_out]
        left_out = sum(result.left_out for result in results if result.family == name)
        rows.append((name, str(outcomes.count(True)), str(outcomes.count(False)), f"{left_out} left out" if left_out else ""))
    rows += [(name, "-", "-", "not found in the folder") for name in absent]
    rows += [(name, "-", "-", f"not yet covered ({files} file{'' if files == 1 else 's'})") for name, files in uncovered.items()]
    width = max(len(name) for name, *_ in rows)
    return [f"{name:<{width}}  {passed:>6}  {failed:>6}  {note}".rstrip() for name, passed, failed, note in rows]


def _files(entry: Path) -> int:
    if entry.is_file():
        return 1
    return sum(1 for path in entry.rglob("*") if path.is_file() and not path.name.lower().startswith("readme"))


if __name__ == "__main__":
    sys.exit(main())
