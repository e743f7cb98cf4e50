"""Sets of field paths, in the shape ``managedFields`` carries them.

A set is the JSON of ``fieldsV1`` itself: ``f:`` for a field, ``k:`` for an item of a list-map, ``v:`` for an item of a set. A node
that is empty, or that holds ``"."``, is a member; a node with only children is not. So nothing is parsed or rendered on a write. Sets
are never changed in place; operations share what they do not touch. A root without children is the empty set.

Source: structured-merge-diff v6 as used by Kubernetes 1.36 (facts about its results, checked by tests/conformance).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .structure import UNTYPED, Structure

FieldSet = dict[str, Any]
_SELF = "."
# one leaf for all: sets are never changed in place, and an empty dict per field would cost more than the field
_LEAF: FieldSet = {}


def field_set(value: dict[str, Any], structure: Structure) -> FieldSet:
    """Return what an apply of ``value`` owns: leaves, atomic values, items of list-maps and sets."""
    out: FieldSet = {}
    fields, element = structure.fields, structure.element
    for key, child in value.items():
        if not isinstance(child, (dict, list)):
            out["f:" + key] = _LEAF
            continue
        node = _applied_node(child, fields.get(key) or element or UNTYPED)
        if node is not None:
            out["f:" + key] = node
    return out


def _applied_node(value: dict[str, Any] | list[Any], structure: Structure) -> FieldSet | None:
    if isinstance(value, dict):
        return _LEAF if structure.relation == "atomic" or not value else field_set(value, structure) or None
    if structure.relation not in ("map", "set"):
        return _LEAF
    element = structure.item()
    if structure.relation == "set" or element.relation == "atomic":
        return {structure.item_key(item): _LEAF for item in value} or None
    return {structure.item_key(item): {_SELF: _LEAF, **field_set(item, element)} for item in value} or None


def whole(value: Any, structure: Structure) -> FieldSet:
    """Return the node of a value that appeared or went away as a whole: itself and everything in it."""
    if isinstance(value, dict):
        if structure.relation == "atomic" or not value:
            return _LEAF
        out: FieldSet = {_SELF: _LEAF}
        fields, element = structure.fields, structure.element
        for key, child in value.items():
            if isinstance(child, (dict, list)):
                out["f:" + key] = whole(child, fields.get(key) or element or UNTYPED)
            else:
                out["f:" + key] = _LEAF
        return out
    if value and isinstance(value, list) and structure.relation in ("map", "set"):
        element = structure.item()
        return {_SELF: _LEAF, **{structure.item_key(item): whole(item, element) for item in value}}
    return _LEAF


def compare(old: dict[str, Any], new: dict[str, Any], structure: Structure) -> tuple[FieldSet, FieldSet]:
    """Return (added or modified, removed) between two objects. Equal branches cost one C-level comparison."""
    changed: FieldSet = {}
    removed: FieldSet = {}
    for key, value in new.items():
        if key not in old:
            changed["f:" + key] = whole(value, structure.child(key))
            continue
        before = old[key]
        if before is value or before == value:
            continue
        _compare_value("f:" + key, (before, value), structure.child(key), (changed, removed))
    for key, value in old.items():
        if key not in new:
            removed["f:" + key] = whole(value, structure.child(key))
    return changed, removed


def _compare_value(path: str, values: tuple[Any, Any], structure: Structure, into: tuple[FieldSet, FieldSet]) -> None:
    before, value = values
    changed, removed = into
    if isinstance(value, dict) and isinstance(before, dict) and structure.relation != "atomic":
        inner_changed, inner_removed = compare(before, value, structure)
    elif isinstance(value, list) and isinstance(before, list) and structure.relation in ("map", "set"):
        inner_changed, inner_removed = _compare_items(before, value, structure)
    else:
        changed[path] = _LEAF
        return
    if inner_changed:
        changed[path] = inner_changed
    if inner_removed:
        removed[path] = inner_removed


def _compare_items(old: list[Any], new: list[Any], structure: Structure) -> tuple[FieldSet, FieldSet]:
    changed: FieldSet = {}
    removed: FieldSet = {}
    element = structure.item()
    before = {structure.item_key(item): item for item in old}
    after = {structure.item_key(item): item for item in new}
    for key, item in after.items():
        if key not in before:
            changed[key] = whole(item, element)
        elif before[key] != item:
            _compare_value(key, (before[key], item), element, (changed, removed))
    for key, item in before.items():
        if key not in after:
            removed[key] = whole(item, element)
    return changed, removed


def union(a: FieldSet, b: FieldSet) -> FieldSet:
    """Return the members of either set."""
    if not a or a is b:
        return b
    return _union(a, b) if b else a


def _union(a: FieldSet, b: FieldSet) -> FieldSet:
    if a is b:
        return a
    if not a:
        return b if not b or _SELF in b else {_SELF: _LEAF, **b}
    if not b:
        return a if _SELF in a else {_SELF: _LEAF, **a}
    out = dict(a)
    for key, node in b.items():
        mine = a.get(key)
        out[key] = node if mine is None else _union(mine, node)
    return out


def difference(a: FieldSet, b: FieldSet) -> FieldSet:
    """Return the members of ``a`` that are not members of ``b``; ``a`` itself when nothing goes."""
    if not a or not b:
        return a
    return _difference(a, b) or {}


def _difference(a: FieldSet, b: FieldSet) -> FieldSet | None:
    if not a:
        return None if not b or _SELF in b else a
    if not b:
        if _SELF not in a:
            return a
        return {key: node for key, node in a.items() if key != _SELF} or None
    out: FieldSet = {}
    same = True
    for key, node in a.items():
        other = b.get(key)
        if other is None:
            out[key] = node
            continue
        left = None if key == _SELF else _difference(node, other)
        same = same and left is node
        if left is not None:
            out[key] = left
    if same:
        return a
    if not out:
        return None
    return {} if len(out) == 1 and _SELF in out else out


def intersection(a: FieldSet, b: FieldSet) -> FieldSet:
    """Return the members of both sets."""
    return (_intersection(a, b) or {}) if a and b else {}


def _intersection(a: FieldSet, b: FieldSet) -> FieldSet | None:
    if not a:
        return {} if not b or _SELF in b else None
    if not b:
        return {} if _SELF in a else None
    out: FieldSet = {}
    small, large = (a, b) if len(a) <= len(b) else (b, a)
    for key, node in small.items():
        other = large.get(key)
        if other is None:
            continue
        both = _intersection(node, other)
        if both is not None:
            out[key] = both
    if not out:
        return None
    return {} if len(out) == 1 and _SELF in out else out


def is_member(node: FieldSet | None) -> bool:
    """Whether the node itself, not only something below it, belongs to the set."""
    return node is not None and (not node or _SELF in node)


def paths(fields: FieldSet, prefix: str = "") -> Iterator[str]:
    """Yield every member as conflict messages spell it: ``.status.conditions[type="Ready"].status``."""
    for key, node in fields.items():
        if key == _SELF:
            continue
        here = prefix + _spell(key)
        if is_member(node):
            yield here
        yield from paths(node, here)


def _spell(key: str) -> str:
    kind, rest = key[0], key[2:]
    if kind == "f":
        return "." + rest
    if kind == "k":
        return "[" + rest[1:-1].replace('":', "=").replace(',"', ",").removeprefix('"') + "]"
    return "[=" + rest + "]"
