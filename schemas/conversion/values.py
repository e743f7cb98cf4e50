"""JSON values taken out of objects and put into them by path."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

Path = tuple[str, ...]


class Missing(Enum):
    """The type of MISSING."""

    MISSING = "no value"


MISSING: Final = Missing.MISSING
"""No value, where None would be one."""


def path(text: str) -> Path:
    """The fields of a dotted path; no field of ours has a dot in its name."""
    return tuple(text.split("."))


def owned(obj: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of an object, to be changed; several times faster than copy.deepcopy, and JSON has no cycles."""
    return {name: copied(one) for name, one in obj.items()}


def copied(value: Any) -> Any:
    """A copy of a value."""
    if isinstance(value, dict):
        return owned(value)
    if isinstance(value, list):
        return [copied(one) for one in value]
    return value


def found(value: Any, where: Path) -> Any:
    """The value at a path, or MISSING."""
    for name in where:
        if not isinstance(value, dict) or name not in value:
            return MISSING
        value = value[name]
    return value


def taken(value: Any, where: Path) -> Any:
    """Remove the value at a path and give it; objects that are empty without it go too. MISSING if there is none."""
    if not isinstance(value, dict) or where[0] not in value:
        return MISSING
    if len(where) == 1:
        return value.pop(where[0])
    inner = taken(value[where[0]], where[1:])
    if inner is not MISSING and not value[where[0]]:
        del value[where[0]]
    return inner


def placed(value: dict[str, Any], where: Path, new: Any) -> None:
    """Put a value at a path; an object that is there already takes up the fields of the new one."""
    for name in where[:-1]:
        if not isinstance(value.get(name), dict):
            value[name] = {}
        value = value[name]
    present = value.get(where[-1])
    if isinstance(present, dict) and isinstance(new, dict):
        for name, one in new.items():
            placed(present, (name,), one)
    else:
        value[where[-1]] = new
