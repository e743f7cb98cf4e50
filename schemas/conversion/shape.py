"""What a version's schema has room for, and values fitted to it.

Two versions differ most in fields that one of them lacks and in what may be empty: where v1beta1 says ``""``, ``0``, ``{}`` or ``[]``, v1beta2 has no field
at all. Both follow from the schemas of the definitions, so no table has to say them.
Source: contracts.md §10 (pointers dropped, empties not to become violations of bounds).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from schemas.conversion.values import MISSING, copied

Schema = Mapping[str, Any]
_NUMBERS: Final = ("minLength", "minItems", "minProperties", "minimum")
_ZEROS: Final[Mapping[str, Any]] = {"string": "", "integer": 0, "boolean": False, "object": {}, "array": []}


@dataclass(frozen=True, eq=False)
class Shape:
    """A node of a schema.

    ``properties`` is None for what is not an object of named fields; ``opaque`` values are of any form and taken as they are.
    """

    opaque: bool = False
    zero_forbidden: bool = False
    enum: tuple[str, ...] = ()
    properties: Mapping[str, Shape] | None = None
    values: Shape | None = None
    items: Shape | None = None
    keys: tuple[str, ...] = ()
    """Fields that tell the items of a list apart, where it is a map of them."""
    required: frozenset[str] = frozenset()
    zeros: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What required fields say when there is nothing to say."""

    def field(self, name: str) -> Shape:
        """The shape of a field of an object, or of a value of a map; opaque for what is not known."""
        if self.properties is not None:
            return self.properties.get(name, OPAQUE)
        return self.values or OPAQUE


OPAQUE = Shape(opaque=True)


def compiled(schema: Schema) -> Shape:
    """The shape of a structural schema."""
    forbidden = any(schema.get(key, 0) > 0 for key in _NUMBERS)
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return OPAQUE
    if "properties" in schema:
        properties: Mapping[str, Schema] = schema["properties"]
        required = frozenset(schema.get("required", ()))
        zeros = {
            name: _ZEROS[properties[name]["type"]]
            for name in sorted(required)
            if properties[name].get("type") in _ZEROS and "enum" not in properties[name] and not any(properties[name].get(key, 0) > 0 for key in _NUMBERS)
        }
        fields = {name: compiled(value) for name, value in properties.items()}
        return Shape(zero_forbidden=forbidden, properties=fields, required=required, zeros=zeros)
    if "additionalProperties" in schema:
        return Shape(zero_forbidden=forbidden, values=compiled(schema["additionalProperties"]))
    if "items" in schema:
        return Shape(zero_forbidden=forbidden, items=compiled(schema["items"]), keys=tuple(schema.get("x-kubernetes-list-map-keys", ())))
    if schema.get("type") == "object":
        return OPAQUE
    return Shape(zero_forbidden=forbidden, enum=tuple(schema.get("enum", ())))


def fitted(value: Any, shape: Shape, *, older: bool) -> Any:
    """The value without what the shape has no room for; MISSING when nothing is left of it.

    Fitted to an ``older`` version, fields that it requires are filled with its zeros, and a word that it does not know is left out: who reads such an object
    and writes it back must not be refused for what somebody else said in a newer version.
    """
    if shape.opaque:
        return value
    if isinstance(value, dict):
        return _object(value, shape, older=older)
    if isinstance(value, list):
        if shape.items is None:
            return value
        items = [item if (new := fitted(item, shape.items, older=older)) is MISSING else new for item in value]
        return MISSING if not items and shape.zero_forbidden else items
    if value is None or (shape.zero_forbidden and value in ("", 0)):
        return MISSING
    return MISSING if older and shape.enum and value not in shape.enum else value


def _object(value: dict[str, Any], shape: Shape, *, older: bool) -> Any:
    if shape.properties is None:
        if shape.values is None:
            return value
        fields = {name: new for name, one in value.items() if (new := fitted(one, shape.values, older=older)) is not MISSING}
    else:
        fields = {}
        for name, one in value.items():
            known = shape.properties.get(name)
            if known is not None and (new := fitted(one, known, older=older)) is not MISSING:
                fields[name] = new
    if not fields and (value or shape.zero_forbidden):
        return MISSING
    if older:
        for name, zero in shape.zeros.items():
            if name not in fields:
                filled = fitted(copied(zero), shape.field(name), older=True)
                fields[name] = copied(zero) if filled is MISSING else filled
    return fields
