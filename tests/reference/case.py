"""What a reference case says when it has run, and how its family is kept from passing over what it doesn't read."""

from collections.abc import ItemsView, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, overload

_Other = TypeVar("_Other")

# Fields by which a case says what it is and where it comes from: no answer depends on them.
DESCRIPTIONS: Final = frozenset(
    (
        *("case", "comment", "comments", "commit", "description", "file", "id", "license", "line", "name", "note", "notes"),
        *("path", "permalink", "retrieved", "sha", "source", "sources", "test", "title", "url"),
    )
)


@dataclass(frozen=True)
class CaseResult:
    """One comparison with an answer that somebody else has given. `detail` says by how much it agrees, or how it doesn't."""

    family: str
    case: str
    passed: bool
    detail: str
    told: bool = False  # a figure that a reader wants to see even where it passed, such as a largest error
    left_out: bool = False  # cannot be compared; `detail` says why. Counted neither as passed nor as failed, but named


class Noted(Mapping[str, Any]):
    """An object of a case that notes which of its fields were asked for: one that nobody reads might change the answer."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields
        self._read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self._read.add(name)
        return self._fields[name]

    @overload
    def get(self, name: str, /) -> Any: ...
    @overload
    def get(self, name: str, /, default: _Other) -> Any | _Other: ...
    def get(self, name: str, /, default: Any = None) -> Any:
        self._read.add(name)
        return self._fields.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def items(self) -> ItemsView[str, Any]:
        """All fields, none of them read by it: to go through their names."""
        return self._fields.items()

    def __len__(self) -> int:
        return len(self._fields)

    def require_read(self, *known: str) -> None:
        """ValueError with the fields that nobody has read, but for those that say where the case is from, and `known` ones."""
        unread = sorted(set(self._fields) - self._read - DESCRIPTIONS - set(known))
        if unread:
            raise ValueError(f"fields without a meaning to us: {', '.join(unread)}")


def noted(objects: Iterable[Mapping[str, Any]]) -> list[Noted]:
    """Each of a list's objects."""
    return [Noted(fields) for fields in objects]


def files_of(topic: Path, family: str, ending: str) -> list[Path]:
    """All of a family: files whose names begin with it, and those in folders of such a name.

    ValueError where one has another ending, and is no note: it would be left unread.
    """
    entries = [entry for entry in sorted(topic.iterdir()) if entry.name.startswith(family)]
    found = [path for entry in entries for path in ([entry] if entry.is_file() else sorted(entry.rglob("*"))) if path.is_file()]
    found = [path for path in found if not path.name.lower().startswith(("readme", ".")) and path.suffix not in {".md", ".txt"}]
    if others := [path.name for path in found if path.suffix != ending]:
        raise ValueError(f"files of {family} that are no *{ending}: {', '.join(others)}")
    return found
