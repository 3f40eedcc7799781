"""The kernel cache's folder changes with whatever changes the machine code, and with nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine import jit

OUTER = """\
from engine.jit import kernel
from engine.inner import inner


@kernel
def outer(x: float) -> float:
    return inner(x) * 2.0
"""
INNER = """\
from engine.jit import kernel


@kernel
def inner(x: float) -> float:
    return x + {addend}
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the smallest engine: `outer` in one file calls `inner` in another."""
    folder = tmp_path / "source" / "engine"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    shutil.copy(Path(jit.__file__), folder / "jit.py")
    (folder / "outer.py").write_text(OUTER)
    (folder / "inner.py").write_text(INNER.format(addend="1.0"))
    return folder


def run(package: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if key not in {"NUMBA_CACHE_DIR", "PLIMSOLL_BOUNDSCHECK"}}
    env |= {"PLIMSOLL_CACHE_DIR": str(package.parent.parent / "cache"), "PYTHONPATH": str(package.parent)} | environment
    return subprocess.run([sys.executable, "-c", code], env=env, cwd=package.parent, capture_output=True, text=True, check=False)


def test_an_edited_callee_in_another_file_is_compiled_again(package: Path) -> None:
    code = "from engine.outer import outer; import engine; print(engine.__file__); print(outer(1.0))"
    first = run(package, code).stdout.split()
    (package / "inner.py").write_text(INNER.format(addend="2.0"))
    second = run(package, code).stdout.split()

    assert first == [str(package / "__init__.py"), "4.0"]
    assert second == [str(package / "__init__.py"), "6.0"]


def test_a_second_process_loads_what_the_first_compiled(package: Path) -> None:
    code = "from engine.outer import outer; outer(1.0); print(sum(outer.stats.cache_hits.values()), sum(outer.stats.cache_misses.values()))"
    assert run(package, code).stdout.split() == ["0", "1"]
    assert run(package, code).stdout.split() == ["1", "0"]
    folders = list((package.parent.parent / "cache" / "kernels").iterdir())
    assert len(folders) == 1


def test_bounds_are_checked_on_demand_and_never_from_the_other_cache(package: Path) -> None:
    (package / "outer.py").write_text("from engine.jit import kernel\n\n\n@kernel\ndef last(a, i):\n    return a[i]\n")
    code = "import numpy as np; from engine.outer import last; print(last(np.zeros(4)[:1], 1))"
    unchecked = run(package, code)
    checked = run(package, code, PLIMSOLL_BOUNDSCHECK="1")
    again = run(package, code)

    assert unchecked.returncode == 0
    assert "IndexError" in checked.stderr
    assert again.returncode == 0


def test_source_hash_depends_on_names_contents_and_boundscheck(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1")
    first = jit.source_hash(tmp_path)
    assert first == jit.source_hash(tmp_path)
    assert first != jit.source_hash(tmp_path, boundscheck=not jit.BOUNDSCHECK)
    (tmp_path / "notes.txt").write_text("not code")
    assert first == jit.source_hash(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    second = jit.source_hash(tmp_path)
    (tmp_path / "b.py").write_text("x = 2")
    assert len({first, second, jit.source_hash(tmp_path)}) == 3


def test_old_caches_are_dropped_and_young_ones_kept(tmp_path: Path) -> None:
    names = [f"{number:016x}" for number in range(jit.CACHE_FOLDERS_KEPT_MAX + 4)]
    for age, name in enumerate(reversed(names)):
        folder = tmp_path / name
        folder.mkdir()
        stamp = 1_000_000_000 - age
        os.utime(folder, (stamp, stamp))
    young = tmp_path / names[0]
    os.utime(young)

    jit._drop_old_caches(tmp_path, keep=tmp_path / names[1])

    left = {path.name for path in tmp_path.iterdir()}
    assert young.name in left
    assert names[1] in left
    assert len(left) == jit.CACHE_FOLDERS_KEPT_MAX + 1


@jit.kernel
def halves(values: np.ndarray[tuple[int], np.dtype[np.float64]], divisor: float) -> float:
    return float(values[0] / divisor)


@jit.kernel(inline=True)
def doubled(value: float) -> float:
    return value * 2.0


def test_kernels_divide_as_numpy_does_and_keep_their_python_function() -> None:
    assert halves(np.ones(1), 0.0) == np.inf
    assert doubled(2.0) == 4.0
    assert jit.python_function(doubled)(3.0) == 6.0
    assert Path(os.environ["NUMBA_CACHE_DIR"]) == jit.KERNEL_CACHE_FOLDER
