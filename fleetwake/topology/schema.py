"""Values by an OpenAPI v3 schema, as Kubernetes uses them: nested defaults, what breaks the schema, fields it does not name.

A schema is plain JSON. CEL rules are ``rules``' part: they are only asked of a value that is otherwise right.

Source: kinds.md §10.3; Kubernetes "Extend the Kubernetes API with CustomResourceDefinitions" (structural schemas, defaulting, pruning), 1.36; Cluster
API v1.14 (variables of a ClusterClass).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fleetwake.topology.formats import fits

Schema = Mapping[str, Any]

PRESERVE = "x-kubernetes-preserve-unknown-fields"
INT_OR_STRING = "x-kubernetes-int-or-string"
SHOWN_LENGTH_MAX = 80
"""Characters of a wrong value that a message repeats."""

_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, Mapping),
    "array": lambda value: isinstance(value, list | tuple),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _is_number(value) and float(value).is_integer(),
    "number": lambda value: _is_number(value),
}


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong at a place of a value, and how to mend it. ``path`` is below the value: ``.a.b[0]``, empty for the value itself."""

    path: str
    message: str


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """A value as messages show it, cut when it is long."""
    text = repr(value) if isinstance(value, str) else _json(value)
    return text if len(text) <= SHOWN_LENGTH_MAX else text[: SHOWN_LENGTH_MAX - 3] + "..."


def _json(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_json(item) for item in value) + "]"
    return f"{value:g}" if isinstance(value, float) else repr(value)


# --- defaults --------------------------------------------------------------------------------------------------------------------------------


def defaulted(value: Any, schema: Schema) -> Any:
    """The value with the defaults of fields it does not have, at every depth; a null where the schema has a default counts as absent."""
    properties = _properties(schema)
    if isinstance(value, Mapping):
        return _defaulted_object(value, schema, properties)
    items = schema.get("items")
    if isinstance(value, list | tuple) and isinstance(items, Mapping):
        return [defaulted(item, items) for item in value]
    return value


def _defaulted_object(value: Mapping[str, Any], schema: Schema, properties: Mapping[str, Schema]) -> dict[str, Any]:
    additional = schema.get("additionalProperties")
    out: dict[str, Any] = {}
    for key, item in value.items():
        rule = properties.get(key, additional if isinstance(additional, Mapping) else None)
        if rule is None:
            out[key] = item
        elif item is None and "default" in rule:
            continue
        else:
            out[key] = defaulted(item, rule)
    for key, rule in properties.items():
        if key not in out and rule.get("default") is not None:
            out[key] = defaulted(rule["default"], rule)
    return out


def _properties(schema: Schema) -> Mapping[str, Schema]:
    found = schema.get("properties")
    return found if isinstance(found, Mapping) else {}


# --- unknown fields --------------------------------------------------------------------------------------------------------------------------


def unknown_fields(value: Any, schema: Schema, path: str = "") -> Iterator[str]:
    """The paths of fields that the schema neither names nor keeps."""
    items = schema.get("items")
    if isinstance(value, list | tuple) and isinstance(items, Mapping):
        for index, item in enumerate(value):
            yield from unknown_fields(item, items, f"{path}[{index}]")
    if not isinstance(value, Mapping):
        return
    properties, additional = _properties(schema), schema.get("additionalProperties")
    keeps = bool(schema.get(PRESERVE)) or additional is True
    for key, item in value.items():
        rule = properties.get(key, additional if isinstance(additional, Mapping) else None)
        if rule is not None:
            yield from unknown_fields(item, rule, f"{path}.{key}")
        elif not keeps:
            yield f"{path}.{key}"


# --- validation ------------------------------------------------------------------------------------------------------------------------------


def violations(value: Any, schema: Schema, path: str = "") -> Iterator[Wrong]:
    """What breaks the schema at and below a place, in the order of the schema's words."""
    if value is None:
        yield Wrong(path, f"must not be null; give a value of type {_type_name(schema)} or leave it out")
        return
    if schema.get(INT_OR_STRING):
        if not isinstance(value, str) and not _TYPES["integer"](value):
            yield Wrong(path, f"must be a whole number or a text, is {shown(value)}")
            return
    else:
        wanted = schema.get("type")
        if isinstance(wanted, str) and not _TYPES[wanted](value):
            yield Wrong(path, f"must be of type {wanted}, is {shown(value)}")
            return
    allowed = schema.get("enum") or ()
    if allowed and not any(same(value, one) for one in allowed):
        yield Wrong(path, f"must be one of {', '.join(shown(one) for one in allowed)}, is {shown(value)}")
    yield from _by_kind(value, schema, path)
    yield from _combined(value, schema, path)


def _type_name(schema: Schema) -> str:
    return "integer or string" if schema.get(INT_OR_STRING) else str(schema.get("type") or "any")


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal; a boolean is no number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)


def _by_kind(value: Any, schema: Schema, path: str) -> Iterator[Wrong]:
    if isinstance(value, Mapping):
        yield from _object(value, schema, path)
    elif isinstance(value, list | tuple):
        yield from _array(value, schema, path)
    elif isinstance(value, str):
        yield from _text(value, schema, path)
    elif _is_number(value):
        yield from _number(value, schema, path)


def _object(value: Mapping[str, Any], schema: Schema, path: str) -> Iterator[Wrong]:
    properties, additional = _properties(schema), schema.get("additionalProperties")
    for key in schema.get("required") or ():
        if key not in value:
            yield Wrong(f"{path}.{key}", "is required; set it")
    yield from _bounds(len(value), schema, path, ("minProperties", "maxProperties", "fields"))
    for key, item in value.items():
        rule = properties.get(key, additional if isinstance(additional, Mapping) else None)
        if rule is not None:
            yield from violations(item, rule, f"{path}.{key}")


def _array(value: Iterable[Any], schema: Schema, path: str) -> Iterator[Wrong]:
    items = list(value)
    yield from _bounds(len(items), schema, path, ("minItems", "maxItems", "items"))
    if schema.get("uniqueItems"):
        twice = next((index for index, item in enumerate(items) if any(same(item, before) for before in items[:index])), None)
        if twice is not None:
            yield Wrong(f"{path}[{twice}]", f"{shown(items[twice])} is there twice; items must differ")
    rule = schema.get("items")
    if isinstance(rule, Mapping):
        for index, item in enumerate(items):
            yield from violations(item, rule, f"{path}[{index}]")


def _text(value: str, schema: Schema, path: str) -> Iterator[Wrong]:
    yield from _bounds(len(value), schema, path, ("minLength", "maxLength", "characters"))
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and not matches(pattern, value):
        yield Wrong(path, f"must match {pattern!r}, is {shown(value)}")
    named = schema.get("format")
    if isinstance(named, str) and not fits(named, value):
        yield Wrong(path, f"must be a {named}, is {shown(value)}")


def _bounds(count: int, schema: Schema, path: str, words: tuple[str, str, str]) -> Iterator[Wrong]:
    least, most, what = words
    if schema.get(least) is not None and count < schema[least]:
        yield Wrong(path, f"must have at least {schema[least]} {what}, has {count}")
    if schema.get(most) is not None and count > schema[most]:
        yield Wrong(path, f"must have at most {schema[most]} {what}, has {count}")


def _number(value: float, schema: Schema, path: str) -> Iterator[Wrong]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and (value < least or (schema.get("exclusiveMinimum") and value == least)):
        yield Wrong(path, f"must be {'more than' if schema.get('exclusiveMinimum') else 'at least'} {least}, is {shown(value)}")
    if most is not None and (value > most or (schema.get("exclusiveMaximum") and value == most)):
        yield Wrong(path, f"must be {'less than' if schema.get('exclusiveMaximum') else 'at most'} {most}, is {shown(value)}")
    named = schema.get("format")
    if isinstance(named, str) and not fits(named, value):
        yield Wrong(path, f"must be a number of format {named}, is {shown(value)}")


def _combined(value: Any, schema: Schema, path: str) -> Iterator[Wrong]:
    for one in schema.get("allOf") or ():
        yield from violations(value, one, path)
    choices = schema.get("anyOf") or ()
    if choices and all(any(violations(value, one, path)) for one in choices):
        yield Wrong(path, f"must satisfy at least one of {len(choices)} alternatives: {_alternatives(value, choices, path)}")
    choices = schema.get("oneOf") or ()
    if choices:
        fitting = [index for index, one in enumerate(choices, 1) if not any(violations(value, one, path))]
        if not fitting:
            yield Wrong(path, f"must satisfy exactly one of {len(choices)} alternatives: {_alternatives(value, choices, path)}")
        elif len(fitting) > 1:
            yield Wrong(path, f"must satisfy exactly one of {len(choices)} alternatives, satisfies {', '.join(map(str, fitting))}")
    excluded = schema.get("not")
    if isinstance(excluded, Mapping) and not any(violations(value, excluded, path)):
        yield Wrong(path, f"must not be what the schema's not excludes, is {shown(value)}")


def _alternatives(value: Any, choices: Iterable[Schema], path: str) -> str:
    """What each alternative asks first."""
    asked = (next(violations(value, one, path)) for one in choices)
    return "; or ".join(f"{wrong.path.removeprefix(path).lstrip('.')} {wrong.message}".strip() for wrong in asked)


@lru_cache(maxsize=512)
def _pattern(text: str) -> re.Pattern[str]:
    # Go's classes of characters are of ASCII, and its $ is the very end
    return re.compile(re.sub(r"(?<!\\)((?:\\\\)*)\$(?=$|\))", r"\1\\Z", text), re.ASCII)


def matches(pattern: str, value: str) -> bool:
    """Whether a part of the text matches the pattern; a pattern that cannot be read matches nothing."""
    try:
        return _pattern(pattern).search(value) is not None
    except re.error:
        return False


def pattern_problem(pattern: Any) -> str:
    """Why a pattern cannot be read, empty when it can."""
    try:
        _pattern(pattern if isinstance(pattern, str) else "")
    except re.error as error:
        return f"it is no regular expression: {error}"
    return ""
