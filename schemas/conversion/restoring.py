"""What only the hub can say comes back from the annotation, and what was said in the older version since stands.

Three hub objects are compared: ``stored``, as the annotation has it; ``baseline``, what is left of it after a way through the older version and back; and
``converted``, what the older version says now. Where converted and baseline agree nobody changed anything, so the stored value is the true one. Where they
differ somebody did, and the change is taken, field by field. So an object that was only read and written back is what it was, to the letter.
Source: contracts.md §10 (restore only what the spoke cannot express, when the overlapping part still agrees).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from schemas.conversion.shape import OPAQUE, Shape
from schemas.conversion.values import MISSING


def restored(converted: Any, baseline: Any, stored: Any, shape: Shape) -> Any:
    """The hub's value; MISSING if there is none."""
    if converted == baseline and type(converted) is type(baseline):
        return stored
    if isinstance(stored, dict) and not shape.opaque and (isinstance(converted, dict) or isinstance(baseline, dict)):
        return _object(converted, baseline, stored, shape)
    if isinstance(converted, list) and isinstance(baseline, list) and isinstance(stored, list) and shape.items is not None:
        return _keyed(converted, baseline, stored, shape) if shape.keys else _listed(converted, baseline, stored, shape.items)
    return converted


def _object(converted: Any, baseline: Any, stored: dict[str, Any], shape: Shape) -> Any:
    """Field by field: an object that the older version has none of, or has no more, may hold fields of the hub alone."""
    gone = converted is MISSING
    new: Mapping[str, Any] = converted if isinstance(converted, dict) else {}
    old: Mapping[str, Any] = baseline if isinstance(baseline, dict) else {}
    if not gone and not isinstance(converted, dict):
        return converted
    fields = {}
    for name in (*stored, *(name for name in new if name not in stored)):
        one = restored(new.get(name, MISSING), old.get(name, MISSING), stored.get(name, MISSING), shape.field(name))
        # a flag that says nothing in the older version goes with the object it was part of
        if one is not MISSING and not (gone and one is False):
            fields[name] = one
    if gone and (not fields or shape.required - fields.keys()):
        # what is left was part of what is gone
        return MISSING
    return MISSING if not fields and shape.zero_forbidden else fields


def _keyed(converted: list[Any], baseline: list[Any], stored: list[Any], shape: Shape) -> Any:
    """Items by their keys. Where keys repeat nothing can be told apart, and the converted list stands.

    The order is the converted one, unless the older version has an order of its own (a map's): then it is the stored one, and what is new comes last.
    """
    new, old, known = ({_identity(item, shape.keys): item for item in items} for items in (converted, baseline, stored))
    if len(new) != len(converted) or len(known) != len(stored):
        return converted
    item = shape.items or OPAQUE
    if list(old) == list(known):
        return [restored(one, old.get(key, MISSING), known.get(key, MISSING), item) for key, one in new.items()]
    items = []
    for key, one in known.items():
        if key in new:
            items.append(restored(new[key], old.get(key, MISSING), one, item))
        elif key not in old:
            items.append(one)
    items += [one for key, one in new.items() if key not in known]
    return items if items or not shape.zero_forbidden else MISSING


def _identity(item: Any, keys: Sequence[str]) -> str:
    return _text([item.get(key) for key in keys]) if isinstance(item, dict) else _text(item)


def _listed(converted: list[Any], baseline: list[Any], stored: list[Any], item: Shape) -> Any:
    """Items of a list without keys: each is followed to where it stood, an unchanged one by its content, a changed one by its name or its place."""
    if len(baseline) != len(stored):
        return converted
    places = list(range(len(baseline)))
    origin: dict[int, int] = {}
    for alike in (_text, *(_by(name) for name in ("path", "name", "device", "class", "token", "hostPath"))):
        _follow(converted, baseline, (origin, places), alike)
    for index in range(len(converted)):
        if index not in origin and index in places and len(converted) == len(baseline):
            origin[index] = index
            places.remove(index)
    return [restored(one, baseline[origin[index]], stored[origin[index]], item) if index in origin else one for index, one in enumerate(converted)]


def _follow(converted: Sequence[Any], baseline: Sequence[Any], state: tuple[dict[int, int], list[int]], alike: Callable[[Any], str]) -> None:
    origin, places = state
    waiting: dict[str, list[int]] = {}
    for place in places:
        if text := alike(baseline[place]):
            waiting.setdefault(text, []).append(place)
    for index, one in enumerate(converted):
        if index not in origin and (candidates := waiting.get(alike(one))):
            # the same place first, for items that are equal
            origin[index] = candidates.pop(candidates.index(index) if index in candidates else 0)
            places.remove(origin[index])


def _by(name: str) -> Callable[[Any], str]:
    return lambda item: _text(item[name]) if isinstance(item, dict) and name in item else ""


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
