"""Everything that is wrong with a set of a venue's parameters, named at once: msgspec alone stops at the first fault."""

from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin

import msgspec

T = TypeVar("T", bound=msgspec.Struct)

FAULTS_MAX = 256  # of one set; what is beyond is counted, not told


def read(kind: type[T], document: Mapping[str, Any]) -> T | list[str]:
    """A set of parameters, or every fault of the document, each with the path of its key."""
    found = faults(kind, document)
    if found:
        return found
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as fault:  # what a Struct says of its fields together
        return [_at("", fault, kind.__name__)]


def faults(kind: type[msgspec.Struct], document: object, path: str = "") -> list[str]:
    """Unknown and missing keys, wrong types and values out of bounds, by the path of the key; empty where the document will do."""
    return told(_faults(kind, document, path))


def told(found: list[str]) -> list[str]:
    """The first FAULTS_MAX of them, and how many more there are."""
    return found if len(found) <= FAULTS_MAX else [*found[:FAULTS_MAX], f"and {len(found) - FAULTS_MAX} more"]


def twice(parameters: msgspec.Struct) -> list[str]:
    """Names that a list of the set has more than once: which of its numbers count would be a guess."""
    found = []
    for field in parameters.__struct_fields__:
        listed = getattr(parameters, field)
        names: set[str] = set()
        for number, one in enumerate(listed if isinstance(listed, tuple) else ()):
            name = getattr(one, "name", None)
            if name in names:
                found.append(f"{field}[{number}].name: {name} is there before")
            if name is not None:
                names.add(name)
    return told(found)


def _faults(kind: type[msgspec.Struct], document: object, path: str) -> list[str]:
    if not isinstance(document, Mapping):
        return [f"{path or kind.__name__}: expected keys and values, got {type(document).__name__}"]
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    found = [f"{_joined(path, str(key))}: not a parameter" for key in document if key not in fields]
    for name, field in fields.items():
        here = _joined(path, name)
        if name not in document:
            found += [f"{here}: is missing"] if field.required else []
        else:
            found += _value_faults(field.type, document[name], here)
    return found


def _value_faults(kind: Any, value: object, path: str) -> list[str]:
    """Looks into Structs and tuples of Structs; whatever else is msgspec's own to judge."""
    plain = get_args(kind)[0] if hasattr(kind, "__metadata__") else kind
    if isinstance(plain, type) and issubclass(plain, msgspec.Struct):
        return _faults(plain, value, path)
    inner = get_args(plain)[0] if get_origin(plain) is tuple else None
    if isinstance(inner, type) and issubclass(inner, msgspec.Struct) and isinstance(value, list | tuple):
        found = [fault for number, item in enumerate(value) for fault in _faults(inner, item, f"{path}[{number}]")]
        if found:
            return found
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as fault:
        return [_at(path, fault)]
    return []


def _at(path: str, fault: msgspec.ValidationError, otherwise: str = "") -> str:
    """In words, with the whole path of what it is of."""
    text, _, inside = str(fault).partition(" - at `$")
    return f"{(path + inside.rstrip('`')).lstrip('.') or otherwise}: {text}"


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
