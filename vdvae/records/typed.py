"""JSON as the dataclasses that it was made from, each field checked."""

from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from reprlib import repr as shortened
from types import NoneType, UnionType
from typing import Literal, get_args, get_origin, get_type_hints


def typed(kind, value, name: str = "", ignore_unknown: bool = False):
    """`value` as `kind`: a dataclass, list[...], dict[str, ...], ... | None, Literal[...], or a plain type; an int passes for a float.

    Raises ValueError that names the field, such as window.reports.0.lr. Only the outermost dataclass may leave out fields that
    have a default, and have unknown ones with `ignore_unknown`.
    """
    container, parts = get_origin(kind), get_args(kind)
    if container is UnionType:
        return None if value is None else typed(next(part for part in parts if part is not NoneType), value, name)
    if is_dataclass(kind) and type(value) is dict:
        return _dataclass(kind, value, name, ignore_unknown)
    if container is dict and type(value) is dict:
        return {key: typed(parts[1], each, _join(name, key)) for key, each in value.items()}
    if container is list and type(value) is list:
        return [typed(parts[0], each, _join(name, index)) for index, each in enumerate(value)]
    if container is Literal and type(value) is str and value in parts:
        return value
    if type(value) is kind or kind is object or (kind is float and type(value) is int):
        return value
    allowed = f"one of {', '.join(parts)}" if container is Literal else getattr(kind, "__name__", kind)
    raise ValueError(f"{name} is {shortened(value)}, must be {allowed}")


def _dataclass(kind, value: dict, name: str, ignore_unknown: bool):
    kinds = hints(kind)
    has_default = {field.name: not field.default is field.default_factory is MISSING for field in fields(kind)}
    needed = [key for key in kinds if name or not has_default[key]]
    wrong = [f"{_join(name, key)} is unknown" for key in value if key not in kinds and not ignore_unknown]
    wrong += [f"{_join(name, key)} is missing" for key in needed if key not in value]
    if wrong:
        raise ValueError(wrong[0])
    return kind(**{key: typed(kinds[key], each, _join(name, key)) for key, each in value.items() if key in kinds})


hints = cache(get_type_hints)  # of a dataclass


def _join(name: str, key: object) -> str:
    return f"{name}.{key}" if name else str(key)
