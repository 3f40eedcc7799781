"""Where the local broker's Java archives come from: resolved by name from the Maven registry, checked against sums kept here."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

KAFKA_VERSION = "4.3.1"
SLF4J_VERSION = "1.7.36"  # the API that this Kafka is built against; the binding writes its log
ENDPOINT = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:{SLF4J_VERSION}"
SUMS = Path(__file__).with_name("kafka_jars.sha256")


class JarsError(RuntimeError):
    """The archives could not be had, or are not those that were tested."""


def kafka_home() -> Path:
    """`$PLIMSOLL_KAFKA_HOME`, else `.kafka` in the source checkout that this code runs from, else `.kafka` in the current folder."""
    given = os.environ.get("PLIMSOLL_KAFKA_HOME")
    if given:
        return Path(given).expanduser().resolve()
    project = Path(__file__).resolve().parent.parent
    return (project if (project / "pyproject.toml").is_file() else Path.cwd()) / ".kafka"


def expected_sums(path: Path = SUMS) -> dict[str, str]:
    """SHA-256 by file name, of each archive of this Kafka version."""
    pairs = (line.split() for line in path.read_text().splitlines() if line)
    return {name: digest for digest, name in pairs}


def faults(folder: Path, sums: dict[str, str]) -> list[str]:
    """What `folder` lacks, or has too much, or has otherwise than expected; empty where all is well."""
    present = {path.name: path for path in folder.glob("*.jar")}
    found = [f"{name} is missing" for name in sorted(sums.keys() - present.keys())]
    found += [f"{name} is not known" for name in sorted(present.keys() - sums.keys())]
    for name in sorted(sums.keys() & present.keys()):
        if hashlib.sha256(present[name].read_bytes()).hexdigest() != sums[name]:
            found.append(f"{name} has other contents than expected")
    return found


def jars_folder(home: Path | None = None) -> Path:
    """The folder with the archives, fetched where it is not there yet (43 MB, some 15 s). Raises JarsError."""
    home = home or kafka_home()
    folder = home / "jars" / KAFKA_VERSION
    if folder.is_dir():  # it got its name only after it was complete and checked
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may want it at once
        if not folder.is_dir():
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    import jgo

    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as scratch:
        try:
            environment = jgo.build(ENDPOINT, cache_dir=Path(scratch) / "jgo")
        except Exception as error:
            raise JarsError(
                f"Kafka {KAFKA_VERSION} could not be fetched from the Maven registry ({error}). "
                f"Run `plimsoll kafka fetch` again when it can be reached, or set PLIMSOLL_BOOTSTRAP to a cluster of your own."
            ) from error
        complete = Path(scratch) / "jars"
        complete.mkdir()
        for jar in environment.all_jars:
            shutil.copyfile(jar, complete / jar.name)
        wrong = faults(complete, expected_sums())
        if wrong:
            raise JarsError(f"Kafka's archives are not the tested ones, nothing was installed: {'; '.join(wrong)}.")
        complete.rename(folder)
