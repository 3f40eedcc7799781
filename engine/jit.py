"""The one way in which the engine's kernels are compiled: a typed wrapper over numba, with a cache that an edit anywhere empties.

Numba's on-disk cache looks only at the file of the kernel itself: edit a callee in another file and the old machine code goes on
running. So the cache lives in a folder named by a hash of all of `engine/`, and of what else changes the code that comes out.
Importing this module sets that folder, before anything is compiled; it is the engine's only look at the file system.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast, overload

P = ParamSpec("P")
R = TypeVar("R")

ENGINE_FOLDER = Path(__file__).resolve().parent
CACHE_FOLDERS_KEPT_MAX = 16
CACHE_FOLDER_AGE_MIN_S = 24 * 3600  # a younger one may be in use by a running process

BOUNDSCHECK = os.environ.get("PLIMSOLL_BOUNDSCHECK", "0") not in {"", "0"}


def source_hash(folder: Path = ENGINE_FOLDER, *, boundscheck: bool = BOUNDSCHECK) -> str:
    """16 hex digits that change with any Python source under `folder`, with numba, numpy, Python, or with `boundscheck`.

    Numba's own key holds the CPU, its version and the kernel's file, but neither the other files nor `boundscheck`.
    """
    digest = hashlib.sha256()
    versions = [f"{name}={importlib.metadata.version(name)}" for name in ("numba", "llvmlite", "numpy")]
    digest.update(f"{sys.version}\0{versions}\0boundscheck={boundscheck}\0".encode())
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def cache_root() -> Path:
    """`$PLIMSOLL_CACHE_DIR`, else `plimsoll` in the user's cache folder."""
    given = os.environ.get("PLIMSOLL_CACHE_DIR")
    if given:
        return Path(given).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "plimsoll"


def _drop_old_caches(root: Path, keep: Path) -> None:
    """Bound the disk taken: of the folders that nobody has used for a day, all but the latest `CACHE_FOLDERS_KEPT_MAX` go."""
    try:
        folders = sorted((path for path in root.iterdir() if path.is_dir() and path != keep), key=lambda path: path.stat().st_mtime)
        for folder in folders[:-CACHE_FOLDERS_KEPT_MAX]:
            if time.time() - folder.stat().st_mtime > CACHE_FOLDER_AGE_MIN_S:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return  # another process was quicker; a cache left behind is no fault


def _set_cache_folder() -> Path:
    root = cache_root() / "kernels"
    folder = root / source_hash()
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    os.environ["NUMBA_CACHE_DIR"] = str(folder)  # read when numba is imported, and by child processes
    _drop_old_caches(root, folder)
    return folder


KERNEL_CACHE_FOLDER = _set_cache_folder()

import numba  # noqa: E402 - its configuration is read when it is imported, so the folder is set first

numba.config.CACHE_DIR = str(KERNEL_CACHE_FOLDER)  # where somebody else has imported numba before us


@overload
def kernel(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def kernel(*, inline: bool = False, cache: bool = True) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def kernel(function: Callable[P, R] | None = None, /, *, inline: bool = False, cache: bool = True) -> Any:
    """Compile `function` to machine code on its first call; the signature that mypy sees is the Python one.

    Always: no GIL held while it runs; no fastmath (results are the same bits on each run); division by zero gives inf or nan as in
    numpy; array indices are not checked, since validation at ingest guarantees them, unless `PLIMSOLL_BOUNDSCHECK=1`, with which
    an index out of bounds raises IndexError. `inline` copies the body into its callers before type inference. `cache=False` is for
    kernels that take other kernels as arguments, which numba cannot keep on disk.
    """

    def compiled(python: Callable[P, R]) -> Callable[P, R]:
        decorate = numba.njit(
            cache=cache,
            nogil=True,
            fastmath=False,
            error_model="numpy",
            boundscheck=BOUNDSCHECK,
            inline="always" if inline else "never",
        )
        return cast("Callable[P, R]", decorate(python))

    return compiled if function is None else compiled(function)


def python_function(compiled: Callable[P, R]) -> Callable[P, R]:
    """The Python function behind a kernel, for tests that run it uncompiled."""
    return cast("Callable[P, R]", getattr(compiled, "py_func", compiled))
