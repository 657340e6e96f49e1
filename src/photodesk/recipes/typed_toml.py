"""TOML tables as dataclasses, checked for unknown and missing keys and for types."""

from __future__ import annotations

import math
import re
from dataclasses import MISSING, fields
from typing import Any, TypeVar, cast

from photodesk.errors import UsageError, did_you_mean

S = TypeVar("S")

_KINDS: dict[str, tuple[str, type | tuple[type, ...]]] = {
    "str": ("a text", str),
    "int": ("a whole number", int),
    "float": ("a number", (int, float)),
    "bool": ("true or false", bool),
}


def section(kind: type[S], content: object, where: str) -> S:
    """A dataclass of `kind` from a TOML table.

    Args:
        kind: its fields are strings, numbers, booleans, tuples of these, mappings of numbers, or other sections.
        content: the table.
        where: file and section, for messages.

    Raises:
        UsageError: an unknown key (with a suggestion), a missing one, a wrong type, or an error of the dataclass.
    """
    if not isinstance(content, dict):
        raise UsageError(f"{where} has to be a table of keys and values, not {content!r}")
    known = {each.name: each for each in fields(cast(Any, kind))}
    for key in content:
        if key not in known:
            raise UsageError(f"{where} has no key {key!r}{did_you_mean(key, known)}; keys: {', '.join(known)}")
    for key, each in known.items():
        if key not in content and each.default is MISSING and each.default_factory is MISSING:
            raise UsageError(f"{where} lacks {key!r}")
    values = {key: _typed(value, str(known[key].type), f"{where} {key}") for key, value in content.items()}
    try:
        return kind(**values)
    except UsageError as error:
        raise UsageError(f"{where} {error}") from None


def _typed(value: object, kind: str, where: str) -> object:
    if list_of := re.fullmatch(r"tuple\[(\w+), \.\.\.\]", kind):
        if not isinstance(value, list):
            raise UsageError(f"{where} = {value!r}: expected a list, such as [{value!r}]")
        return tuple(_typed(each, list_of[1], where) for each in value)
    if kind.startswith("Mapping"):
        if not isinstance(value, dict):
            raise UsageError(f"{where} = {value!r}: expected a table of measures and numbers")
        return {key: _typed(each, "float", f"{where} {key}") for key, each in value.items()}
    if kind in _KINDS:
        said, types = _KINDS[kind]
        if not isinstance(value, types) or (isinstance(value, bool) and kind != "bool"):
            raise UsageError(f"{where} = {value!r}: expected {said}")
        if isinstance(value, int | float) and not math.isfinite(value):
            raise UsageError(f"{where} = {value!r}: expected a finite number")
        return float(value) if kind == "float" and isinstance(value, int | float) else value
    if kind.startswith("Literal"):
        return _typed(value, "str", where)
    if isinstance(value, str | int | float | bool | list):
        raise UsageError(f"{where} = {value!r}: expected a section [{where.rpartition(' ')[2]}]")
    return value
