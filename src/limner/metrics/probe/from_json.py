"""JSON to frozen dataclasses, checked field by field against their annotations."""

from __future__ import annotations

import math
import types
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def from_json(kind: type[T], value: object) -> T:
    """A value parsed from JSON as `kind`: a dataclass of plain values, tuples, dicts and further such dataclasses.

    Raises:
        ValueError: naming the field that is missing, unknown or of another type, or a number that is not finite.
    """
    made: T = _read(kind, value, "its record")
    return made


def _read(kind: Any, value: object, where: str) -> Any:
    if is_dataclass(kind) and isinstance(kind, type):
        return _read_fields(kind, value, where)
    arguments = get_args(kind)
    if isinstance(kind, types.UnionType):  # X | None
        return None if value is None else _read(arguments[0], value, where)
    if get_origin(kind) is dict and isinstance(value, dict):
        return {key: _read(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if get_origin(kind) is tuple and isinstance(value, list):
        each = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(each) == len(value):
            return tuple(_read(kind, item, f"{where}[{n}]") for n, (kind, item) in enumerate(zip(each, value)))  # noqa: B905
    if kind is float and type(value) in (int, float) and math.isfinite(value):  # type: ignore[arg-type]
        return float(value)  # type: ignore[arg-type]
    if type(value) is kind and kind is not float:
        return value
    raise ValueError(f"{where} is {value!r:.60}")


def _read_fields(kind: type, value: object, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {value!r:.60}")
    hints = get_type_hints(kind)
    for name in sorted(value.keys() ^ {field.name for field in fields(kind)}):
        raise ValueError(f"{where}: {name!r:.60} is {'unknown' if name in value else 'missing'}")
    return kind(**{name: _read(hint, value[name], f"{where}.{name}") for name, hint in hints.items()})
