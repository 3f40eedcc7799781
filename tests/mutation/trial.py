"""One mutant, put to the tests in a process of its own: forked, so that libraries are imported once, and given the mutant's source.

The child imports the project anew, with the mutant in its place, and runs pytest until the first failure. Kernels run as the Python
that they are written in; numba would need many seconds for each mutant.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from time import process_time
from types import CodeType
from typing import BinaryIO, Final, NamedTuple, cast

import pytest

STARTUP_LIMIT_S: Final = 30.0  # of CPU, as all limits but the next one
TRIAL_WALL_MAX_S: Final = 1_800  # for what waits without computing
MEMORY_MAX_BYTES: Final = 6 * 1024**3  # of address space

PLUGINS_LEFT_OUT: Final = ("cacheprovider", "xdist", "unraisableexception")  # the last one collects garbage for a quarter of a second

PASSED: Final = int(pytest.ExitCode.OK)
NOTHING_RAN: Final = int(pytest.ExitCode.NO_TESTS_COLLECTED)


class Outcome(NamedTuple):
    """What became of one run of the tests. `by` is the first test that failed or never ended, empty if all passed."""

    passed: bool
    by: str
    how: str  # "" | "failed" | "no end" | "not collected"
    cpu_s: dict[str, float]  # by test, of those that ended
    text: str  # pytest's own output


class Trial(NamedTuple):
    """A running child, and the files that it writes to."""

    pid: int
    said: BinaryIO
    printed: BinaryIO


def module_name(file: str) -> str:
    """`engine/margin.py` is engine.margin, `engine/rules/__init__.py` engine.rules."""
    return ".".join(Path(file).with_suffix("").parts).removesuffix(".__init__")


def prepare(root: Path, files: Sequence[str]) -> None:
    """Import what `files` need, then forget all that lies under `root`: children import libraries no more, the project anew.

    ImportError and the like where one of them cannot be imported as it is.
    """
    sys.path.insert(0, str(root))
    from hypothesis import HealthCheck, Phase, settings

    # The same examples for each mutant; none kept, none made smaller, and no slow machine taken for a fault.
    settings.register_profile(
        "mutation",
        database=None,
        derandomize=True,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutation")
    for plugin in importlib.metadata.entry_points(group="pytest11"):
        plugin.load()
    for file in files:
        importlib.import_module(module_name(file))
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None) or ""
        if name != "__main__" and path.startswith(f"{root}{os.sep}") and not path.startswith(f"{sys.prefix}{os.sep}"):
            del sys.modules[name]
    importlib.invalidate_caches()


def start(root: Path, swapped: tuple[str, bytes] | None, tests: Sequence[str], limits_s: Mapping[str, float]) -> Trial:
    """Fork a child that runs `tests` (files or node ids below `root`) with the file and source of `swapped` in the place of its module.

    The first of `tests` goes first, by itself; within it and among the others the order is that of `limits_s`: the CPU seconds after
    which a test counts as one that never ends. A test without a limit goes last.
    """
    said, printed = (_unnamed_file() for _ in range(2))
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Trial(pid, said, printed)
    code = int(pytest.ExitCode.INTERNAL_ERROR)
    try:
        code = _run(root, swapped, tests, _Judge(said, limits_s), printed)
    finally:
        os._exit(code)


def _unnamed_file() -> BinaryIO:
    """For a child to write to and `outcome` to close; it has no name, so that nothing is left behind."""
    return cast("BinaryIO", tempfile.TemporaryFile())


def outcome(trial: Trial, status: int) -> Outcome:
    """What an ended child has to tell, by the wait status that it ended with."""
    at, failed, cpu_s = "", "", {}
    with trial.said as said, trial.printed as printed:
        said.seek(0)
        for line in said.read().decode().splitlines():
            word, _, rest = line.partition(" ")
            if word == "at":
                at = rest
            elif word == "failed":
                failed = failed or rest
            else:
                cpu_s[rest] = float(word)
        printed.seek(0)
        text = printed.read().decode(errors="replace")
    code = os.waitstatus_to_exitcode(status)
    if code == PASSED:
        return Outcome(True, "", "", cpu_s, text)
    if code < 0:
        return Outcome(False, at, "no end", cpu_s, text)
    return Outcome(False, failed, "failed" if failed else "not collected", cpu_s, text)


# ---- in the child ---------------------------------------------------------------------------------------------------------------------


def _run(root: Path, swapped: tuple[str, bytes] | None, tests: Sequence[str], judge: _Judge, printed: BinaryIO) -> int:
    for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGVTALRM):
        signal.signal(kind, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, TRIAL_WALL_MAX_S)
    signal.setitimer(signal.ITIMER_VIRTUAL, STARTUP_LIMIT_S)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX_BYTES, MEMORY_MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for stream in (1, 2):
        os.dup2(printed.fileno(), stream)
    os.chdir(root)
    if swapped is not None:
        file, source = swapped
        sys.meta_path.insert(0, _Swap(module_name(file), root / file, source))
    options = ["-x", "-q", "--no-header", "--assert=plain", f"--tb={'short' if swapped is None else 'no'}", "--rootdir", str(root)]
    options += [word for name in PLUGINS_LEFT_OUT for word in ("-p", f"no:{name}")]
    for part in (tests[:1], tests[1:]):  # most mutants die in the module's own tests: the others are not even collected
        code = int(pytest.main([*options, *part], plugins=[judge])) if part else PASSED
        if code != PASSED:
            return code
    return PASSED


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        """Never from or into the cache of compiled modules."""
        return compile(self._source, self.path, "exec", dont_inherit=True)


class _Swap:
    """Finds one module, with other source than its file has."""

    def __init__(self, name: str, path: Path, source: bytes) -> None:
        self._name = name
        self._path = path
        self._source = source

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        loader = _Loader(fullname, str(self._path), self._source)
        return importlib.util.spec_from_file_location(fullname, self._path, loader=loader)


class _Judge:
    """Puts the tests in order, limits the time of each, and writes down how they end."""

    def __init__(self, said: BinaryIO, limits_s: Mapping[str, float]) -> None:
        self._said = said
        self._limits_s = limits_s
        self._order = {name: at for at, name in enumerate(limits_s)}

    def _say(self, text: str) -> None:
        self._said.write(f"{text}\n".encode())
        self._said.flush()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        last = len(self._order)
        items.sort(key=lambda item: self._order.get(item.nodeid, last))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._say(f"at {item.nodeid}")
        with _cpu_limit(self._limits_s.get(item.nodeid, TRIAL_WALL_MAX_S)):
            before = process_time()
            done = yield
        self._say(f"{process_time() - before:.6f} {item.nodeid}")
        return done

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._say(f"failed {report.nodeid}")


@contextlib.contextmanager
def _cpu_limit(seconds: float) -> Iterator[None]:
    """SIGVTALRM, which ends the process, after so much of its own computing."""
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, STARTUP_LIMIT_S)
