"""Structural schemas of custom kinds: pruning, defaults, validation.

:func:`admit_structure` is an admission for :class:`.server.ApiServer`. It knows the keywords CustomResourceDefinitions use but for CEL
rules (``x-kubernetes-validations``), which it leaves out. A value that a write does not change is not judged again.

Source: Kubernetes "Extend the Kubernetes API with CustomResourceDefinitions" (pruning, defaulting, validation ratcheting), 1.36.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import orjson

from .definitions import ResourceDefinition
from .status import cause, invalid

JsonDict = dict[str, Any]
Schema = Mapping[str, Any]

_ROOT_FIELDS = ("apiVersion", "kind", "metadata")
_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
}
_NOTHING = object()


def admit_structure(definition: ResourceDefinition, obj: JsonDict, old: JsonDict | None) -> JsonDict:
    """Return the object pruned and defaulted by its kind's schema; kinds without one pass.

    Raises: ApiStatusError 422 with a cause per field that breaks the schema.
    """
    if definition.schema is None:
        return obj
    root = {key: obj[key] for key in _ROOT_FIELDS if key in obj}
    body = {key: value for key, value in obj.items() if key not in _ROOT_FIELDS}
    before = {} if old is None else {key: value for key, value in old.items() if key not in _ROOT_FIELDS}
    completed = _completed(body, before, definition.schema)
    causes: list[JsonDict] = []
    _check(completed, before, definition.schema, "", causes)
    if causes:
        raise invalid(definition.group, definition.kind, obj["metadata"].get("name", ""), causes)
    return {**root, **completed}


def _completed(value: Any, before: Any, schema: Schema) -> Any:
    """Return the value without undeclared fields and with defaults; what equals ``before`` was completed when it was stored."""
    if value == before and value:
        return before
    if isinstance(value, dict):
        return _completed_object(value, before if isinstance(before, dict) else {}, schema)
    items = schema.get("items")
    if isinstance(value, list) and isinstance(items, Mapping):
        return [_completed(item, _NOTHING, items) for item in value]
    return value


def _completed_object(value: JsonDict, before: JsonDict, schema: Schema) -> JsonDict:
    if schema.get("x-kubernetes-embedded-resource"):
        return value
    properties: Mapping[str, Schema] = schema.get("properties", {})
    additional = schema.get("additionalProperties")
    keep = schema.get(_PRESERVE) or additional is True
    out: JsonDict = {}
    for key, child in value.items():
        rule = properties.get(key, additional if isinstance(additional, Mapping) else None)
        if rule is None:
            if keep:
                out[key] = child
        elif child is None and not rule.get("nullable") and "default" in rule:
            continue
        else:
            out[key] = _completed(child, before.get(key, _NOTHING), rule)
    for key, rule in properties.items():
        if key not in out and "default" in rule:
            out[key] = _completed(rule["default"], _NOTHING, rule)
    return out


def _check(value: Any, before: Any, schema: Schema, path: str, causes: list[JsonDict]) -> None:
    """Collect what breaks the schema at and below ``path``."""
    if value == before:
        return
    if value is None and schema.get("nullable"):
        return
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            causes.append(_wrong(path, value, f"{path} in body must be of type integer or string", "FieldValueTypeInvalid"))
        return
    type_ = schema.get("type")
    if type_ is not None and not _TYPES[type_](value):
        causes.append(_wrong(path, value, f'{path} in body must be of type {type_}: "{_kind_of(value)}"', "FieldValueTypeInvalid"))
        return
    if "enum" in schema and value not in schema["enum"]:
        supported = ", ".join(f'"{item}"' for item in schema["enum"])
        causes.append(cause("FieldValueNotSupported", f"Unsupported value: {_spelled(value)}: supported values: {supported}", path))
    if isinstance(value, dict):
        _check_object(value, before if isinstance(before, dict) else {}, schema, path, causes)
    elif isinstance(value, list):
        _check_list(value, schema, path, causes)
    elif isinstance(value, str):
        _check_string(value, schema, path, causes)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        _check_number(value, schema, path, causes)


def _check_object(value: JsonDict, before: JsonDict, schema: Schema, path: str, causes: list[JsonDict]) -> None:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    additional = schema.get("additionalProperties")
    for key in schema.get("required", ()):
        if key not in value:
            causes.append(cause("FieldValueRequired", "Required value", f"{path}.{key}".lstrip(".")))
    if len(value) < schema.get("minProperties", 0):
        causes.append(_wrong(path, value, f"{path} in body should have at least {schema['minProperties']} properties"))
    if len(value) > schema.get("maxProperties", len(value)):
        causes.append(cause("FieldValueTooMany", f"Too many: {len(value)}: must have at most {schema['maxProperties']} items", path))
    for key, child in value.items():
        rule = properties.get(key, additional if isinstance(additional, Mapping) else None)
        if rule is not None:
            _check(child, before.get(key, _NOTHING), rule, f"{path}.{key}".lstrip("."), causes)


def _check_list(value: list[Any], schema: Schema, path: str, causes: list[JsonDict]) -> None:
    if len(value) < schema.get("minItems", 0):
        causes.append(_wrong(path, len(value), f"{path} in body should have at least {schema['minItems']} items"))
    if len(value) > schema.get("maxItems", len(value)):
        causes.append(cause("FieldValueTooMany", f"Too many: {len(value)}: must have at most {schema['maxItems']} items", path))
    items = schema.get("items")
    if isinstance(items, Mapping):
        for index, item in enumerate(value):
            _check(item, _NOTHING, items, f"{path}[{index}]", causes)
    seen: set[bytes] = set()
    if schema.get("x-kubernetes-list-type") in ("map", "set"):
        keys = schema.get("x-kubernetes-list-map-keys")
        for index, item in enumerate(value):
            identity = orjson.dumps([item.get(key) for key in keys] if keys and isinstance(item, dict) else item)
            if identity in seen:
                causes.append(cause("FieldValueDuplicate", f"Duplicate value: {identity.decode()}", f"{path}[{index}]"))
            seen.add(identity)


def _check_string(value: str, schema: Schema, path: str, causes: list[JsonDict]) -> None:
    if len(value) < schema.get("minLength", 0):
        causes.append(_wrong(path, value, f"{path} in body should be at least {schema['minLength']} chars long"))
    if len(value) > schema.get("maxLength", len(value)):
        causes.append(cause("FieldValueTooLong", f"Too long: may not be more than {schema['maxLength']} bytes", path))
    pattern = schema.get("pattern")
    if pattern is not None and not _pattern(pattern).search(value):
        causes.append(_wrong(path, value, f"{path} in body should match '{pattern}'"))


def _check_number(value: float, schema: Schema, path: str, causes: list[JsonDict]) -> None:
    if value < schema.get("minimum", value):
        causes.append(_wrong(path, value, f"{path} in body should be greater than or equal to {schema['minimum']}"))
    if value > schema.get("maximum", value):
        causes.append(_wrong(path, value, f"{path} in body should be less than or equal to {schema['maximum']}"))


@lru_cache(maxsize=256)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


def _wrong(path: str, value: Any, rule: str, reason: str = "FieldValueInvalid") -> JsonDict:
    return cause(reason, f"Invalid value: {_spelled(value)}: {rule}", path)


def _spelled(value: Any) -> str:
    return orjson.dumps(value).decode() if not isinstance(value, (dict, list)) else f'"{_kind_of(value)}"'


def _kind_of(value: Any) -> str:
    if value is None:
        return "null"
    return next((name for name, holds in _TYPES.items() if holds(value)), "unknown")
