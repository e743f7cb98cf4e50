"""JSON Patch (RFC 6902) over plain JSON, as far as patches of a ClusterClass go: add, replace, remove; into lists only at their front or end.

Source: RFC 6901, RFC 6902; kinds.md §10.3 (paths below /spec, elements of lists by add at 0 or -).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

ROOT = "/spec/"


class PatchError(ValueError):
    """An operation cannot be done; the message says why and what to change."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation; ``value`` counts for add and replace."""

    op: str
    path: str
    value: Any = None

    def __str__(self) -> str:
        return f"{self.op} {self.path}"


def applied(document: Any, operations: Sequence[Operation]) -> Any:
    """A copy of the document with the operations done in order. Raises: PatchError."""
    out = deepcopy(document)
    for one in operations:
        apply_to(out, one)
    return out


def apply_to(document: Any, operation: Operation) -> None:
    """Do one operation, in place. Raises: PatchError."""
    *parents, last = segments(operation.path)
    parent, walked = document, ""
    for name in parents:
        parent, walked = _child(parent, name, walked)
    if isinstance(parent, dict):
        _in_map(parent, last, operation, walked)
    elif isinstance(parent, list):
        _in_list(parent, last, operation, walked)
    else:
        raise PatchError(f"{walked or '/'} is neither a map nor a list, so it has no {last!r}")


def segments(path: str) -> tuple[str, ...]:
    """The parts of a pointer below /spec. Raises: PatchError."""
    if not path.startswith(ROOT) or path == ROOT:
        raise PatchError(f"the path {path!r} must begin with {ROOT}")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in path[1:].split("/"))


def problem(op: str, path: str) -> str:
    """Why a class must not have such an operation, empty when it may."""
    try:
        parts = segments(path)
    except PatchError as error:
        return str(error)
    for index, part in enumerate(parts):
        if part == "-" or part.isdigit():
            if index < len(parts) - 1:
                return f"the path {path!r} goes through an element of a list; replace the whole list"
            if op != "add" or part not in ("0", "-"):
                return f"elements of a list can only be added, at its front (0) or end (-); {op} {path!r} is neither: replace the whole list"
    return ""


def _child(parent: Any, name: str, walked: str) -> tuple[Any, str]:
    place = f"{walked}/{name}"
    if isinstance(parent, dict) and name in parent:
        return parent[name], place
    if isinstance(parent, list) and name.isdigit() and int(name) < len(parent):
        return parent[int(name)], place
    raise PatchError(f"there is no {place}; add it by an operation before this one, or in the template")


def _in_map(parent: dict[str, Any], name: str, operation: Operation, walked: str) -> None:
    if operation.op == "add":
        parent[name] = deepcopy(operation.value)
    elif name not in parent:
        raise PatchError(f"there is no {walked}/{name} to {operation.op}; {'use add' if operation.op == 'replace' else 'drop the operation'}")
    elif operation.op == "replace":
        parent[name] = deepcopy(operation.value)
    else:
        del parent[name]


def _in_list(parent: list[Any], name: str, operation: Operation, walked: str) -> None:
    if operation.op != "add":
        raise PatchError(f"{walked} is a list: its elements can only be added, at its front (0) or end (-); replace the whole list")
    if name == "-":
        parent.append(deepcopy(operation.value))
    elif name == "0":
        parent.insert(0, deepcopy(operation.value))
    else:
        raise PatchError(f"{walked} is a list: elements can only be added at its front (0) or end (-), not at {name!r}")
