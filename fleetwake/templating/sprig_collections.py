"""Functions over lists and maps, defaults, and what a value is.

Source: masterminds.github.io/sprig (lists, dicts, defaults, reflection, flow control), v3.3.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from fleetwake.templating.go_format import truth
from fleetwake.templating.go_reading import TemplateError
from fleetwake.templating.sprig_numbers import whole
from fleetwake.templating.sprig_texts import text


def _list(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    raise TypeError("not a list")


def _map(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise TypeError("not a map")


def _dict(*pairs: Any) -> dict[str, Any]:
    return {text(pairs[at]): pairs[at + 1] if at + 1 < len(pairs) else "" for at in range(0, len(pairs), 2)}


def _set(values: Any, key: Any, value: Any) -> dict[str, Any]:
    _map(values)[key] = value
    return _map(values)


def _unset(values: Any, key: Any) -> dict[str, Any]:
    _map(values).pop(key, None)
    return _map(values)


def _merged(target: Any, *sources: Any, over: bool) -> dict[str, Any]:
    """The first map with what the others have more: deep, and its empty values count as absent; ``over`` lets later maps win."""
    for source in sources:
        _merge(_map(target), _map(source), over=over)
    return _map(target)


def _merge(target: dict[str, Any], source: Mapping[str, Any], *, over: bool) -> None:
    for key, value in source.items():
        have = target.get(key)
        if isinstance(have, dict) and isinstance(value, Mapping):
            _merge(have, value, over=over)
        elif over or (not truth(have) and value is not None):
            target[key] = deepcopy(value)


def _get(values: Any, key: Any) -> Any:
    return _map(values).get(key, "")


def _pluck(key: Any, *maps: Any) -> list[Any]:
    return [one[key] for one in maps if key in _map(one)]


def _dig(*arguments: Any) -> Any:
    """The value under a chain of keys, or the default: keys, default, map."""
    *keys, default, value = arguments
    if not keys:
        raise TypeError("dig needs a key")
    for key in keys[:-1]:
        value = _map(value).get(key)
        if value is None:
            return default
    return _map(value).get(keys[-1], default)


def _unique(values: Any) -> list[Any]:
    found: list[Any] = []
    for value in _list(values):
        if not any(_same(value, one) for one in found):
            found.append(value)
    return found


def _has(wanted: Any, values: Any) -> bool:
    return values is not None and any(_same(wanted, value) for value in _list(values))


def _same(one: Any, other: Any) -> bool:
    """Equality of kind and value: Go's DeepEqual tells 1 from 1.0 and from true."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)


def _slice(values: Any, *bounds: Any) -> list[Any]:
    items = _list(values)
    first = whole(bounds[0]) if bounds else 0
    last = whole(bounds[1]) if len(bounds) > 1 else len(items)
    if not 0 <= first <= last <= len(items):
        raise IndexError("out of range")
    return items[first:last]


def _chunk(size: Any, values: Any) -> list[list[Any]]:
    items = _list(values)
    return [items[at : at + size] for at in range(0, len(items), size)]


def _fail(message: Any) -> Any:
    raise TemplateError(f"the template fails: {message}")


def _default(default: Any, value: Any = None) -> Any:
    return value if truth(value) else default


_NAMES = {str: "string", bool: "bool", int: "int", float: "float64", dict: "map[string]interface {}", list: "[]interface {}"}
_KINDS = {**_NAMES, dict: "map", list: "slice"}


def _type_of(value: Any) -> str:
    return "<nil>" if value is None else _NAMES[type(value)]


def _kind_of(value: Any) -> str:
    return "invalid" if value is None else _KINDS[type(value)]


_LISTS: Mapping[str, Callable[..., Any]] = {
    "append": lambda values, value: [*_list(values), value],
    "chunk": _chunk,
    "compact": lambda values: [value for value in _list(values) if truth(value)],
    "first": lambda values: next(iter(_list(values)), None),
    "has": _has,
    "initial": lambda values: _list(values)[:-1],
    "last": lambda values: next(iter(_list(values)[-1:]), None),
    "prepend": lambda values, value: [value, *_list(values)],
    "push": lambda values, value: [*_list(values), value],
    "rest": lambda values: _list(values)[1:],
    "reverse": lambda values: _list(values)[::-1],
    "slice": _slice,
    "uniq": _unique,
    "without": lambda values, *out: [value for value in _list(values) if not any(_same(value, one) for one in out)],
}

COLLECTIONS: Mapping[str, Callable[..., Any]] = {
    **_LISTS,
    **{f"must{name[0].upper()}{name[1:]}": function for name, function in _LISTS.items()},
    "all": lambda *values: all(truth(value) for value in values),
    "any": lambda *values: any(truth(value) for value in values),
    "coalesce": lambda *values: next((value for value in values if truth(value)), None),
    "concat": lambda *lists: [item for one in lists for item in _list(one)],
    "deepCopy": deepcopy,
    "deepEqual": _same,
    "default": _default,
    "dict": _dict,
    "dig": _dig,
    "empty": lambda value: not truth(value),
    "fail": _fail,
    "get": _get,
    "hasKey": lambda values, key: key in _map(values),
    "keys": lambda *maps: [key for one in maps for key in sorted(_map(one))],
    "kindIs": lambda name, value: name == _kind_of(value),
    "kindOf": _kind_of,
    "list": lambda *values: list(values),
    "merge": lambda target, *sources: _merged(target, *sources, over=False),
    "mergeOverwrite": lambda target, *sources: _merged(target, *sources, over=True),
    "mustDeepCopy": deepcopy,
    "mustMerge": lambda target, *sources: _merged(target, *sources, over=False),
    "mustMergeOverwrite": lambda target, *sources: _merged(target, *sources, over=True),
    "omit": lambda values, *keys: {key: value for key, value in _map(values).items() if key not in keys},
    "pick": lambda values, *keys: {key: _map(values)[key] for key in keys if key in _map(values)},
    "pluck": _pluck,
    "set": _set,
    "ternary": lambda true, false, condition: true if condition else false,
    "tuple": lambda *values: list(values),
    "typeIs": lambda name, value: name == _type_of(value),
    "typeIsLike": lambda name, value: name in (_type_of(value), f"*{_type_of(value)}"),
    "typeOf": _type_of,
    "unset": _unset,
    "values": lambda values: [_map(values)[key] for key in sorted(_map(values))],
}
