"""Every fault of a JSON document at once, each with its path and what could have been meant: a decoder stops at the first."""

from __future__ import annotations

import types
from difflib import get_close_matches
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct


def faults_of(raw: Any, kind: Any, path: str = "") -> list[str]:
    """What keeps `raw` (decoded JSON) from being a `kind` (a Struct, or what fields of one may be), in words; [] where it is one."""
    origin, arguments = get_origin(kind), get_args(kind)
    found: list[str] = []
    if isinstance(kind, type) and issubclass(kind, Struct) and isinstance(raw, dict):
        return _of_object(raw, kind, path)
    if origin is Annotated:
        found = faults_of(raw, arguments[0], path)
    elif origin is list and isinstance(raw, list):
        found = [fault for k, item in enumerate(raw) for fault in faults_of(item, arguments[0], f"{path}[{k}]")]
    elif origin is dict and isinstance(raw, dict):
        for key, value in raw.items():
            found += [*_of_value(key, arguments[0], _under(path, key)), *faults_of(value, arguments[1], _under(path, key))]
    elif origin in (Union, types.UnionType) and isinstance(raw, dict):
        whole = [one for one in arguments if get_origin(one) is dict or (isinstance(one, type) and issubclass(one, Struct))]
        found = faults_of(raw, whole[0], path) if len(whole) == 1 else []
    return found or _of_value(raw, kind, path)


def _of_object(raw: dict[str, Any], kind: type[Struct], path: str) -> list[str]:
    hints, fields = get_type_hints(kind, include_extras=True), msgspec.structs.fields(kind)
    names = {field.encode_name: field for field in fields}
    tag = kind.__struct_config__.tag_field
    found = []
    for key, value in raw.items():
        if key in names:
            found += faults_of(value, hints[names[key].name], _under(path, key))
        elif key != tag:
            near = get_close_matches(key, names, n=1)
            found.append(f"{_under(path, key)}: there is no such key{f'; did you mean {near[0]}?' if near else ''}")
    missing = [name for name, field in names.items() if field.required and name not in raw]
    found += [f"{_under(path, name)}: is missing" for name in missing]
    return found or _of_value(raw, kind, path)


def _of_value(raw: Any, kind: Any, path: str) -> list[str]:
    try:
        msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        text = str(error).partition(" - at `")[0]
        return [f"{path or 'the document'}: {text}"]
    return []


def _under(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
