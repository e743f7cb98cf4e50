"""The variables of a class: its own and those of extensions, and what is wrong with their schemas.

Source: kinds.md §10.3, §10.5; contracts.md §11 (ClusterClass); Cluster API v1.14 (status.variables).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fleetwake.patches import wire
from fleetwake.topology.blueprint import BUILTIN, INLINE, Json
from fleetwake.topology.rules import rule_violations, unreadable_rules
from fleetwake.topology.schema import Schema, Wrong, defaulted, pattern_problem, unknown_fields, violations
from schemas.api.core.v1beta2.class_variables import ClusterClassVariable
from schemas.api.core.v1beta2.cluster_class import ClusterClass

_FLAGS = ("uniqueItems", "exclusiveMaximum", "exclusiveMinimum", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string")
_SCHEMAS = ("additionalProperties", "items", "not")
_SCHEMA_LISTS = ("allOf", "anyOf", "oneOf")

Discovered = Mapping[str, Sequence[ClusterClassVariable]]
"""The variables that extensions define, by the name of their patch, in the class's order."""


def status_variables(cluster_class: ClusterClass, discovered: Discovered | None = None) -> list[Json]:
    """``status.variables``, by name: each with all its definitions, and whether they differ."""
    found: dict[str, list[tuple[str, ClusterClassVariable]]] = {}
    for one in cluster_class.spec.variables:
        found.setdefault(one.name, []).append((INLINE, one))
    for source, variables in (discovered or {}).items():
        for one in variables:
            found.setdefault(one.name, []).append((source, one))
    return [_status(name, found[name]) for name in sorted(found)]


def _status(name: str, definitions: Sequence[tuple[str, ClusterClassVariable]]) -> Json:
    first = definitions[0][1]
    conflict = any(_meaning(one) != _meaning(first) for _, one in definitions[1:])
    return {"name": name, "definitionsConflict": conflict, "definitions": [_definition(source, one) for source, one in definitions]}


def _definition(source: str, one: ClusterClassVariable) -> Json:
    found: Json = {"from": source, "required": one.required, "schema": wire(one.schema_)}
    metadata = wire(one.deprecated_metadata)
    return {**found, "deprecatedV1Beta1Metadata": metadata} if metadata else found


def _meaning(one: ClusterClassVariable) -> Any:
    """What two definitions of a variable must have alike; a flag that is off says nothing."""
    return one.required, _bare(wire(one.schema_.open_api_v3_schema)), wire(one.deprecated_metadata)


def _bare(schema: Schema) -> Json:
    out: Json = {name: value for name, value in schema.items() if not (name in _FLAGS and not value)}
    for name in _SCHEMAS:
        if isinstance(out.get(name), Mapping):
            out[name] = _bare(out[name])
    for name in _SCHEMA_LISTS:
        if out.get(name):
            out[name] = [_bare(one) for one in out[name]]
    if isinstance(out.get("properties"), Mapping):
        out["properties"] = {key: _bare(one) for key, one in out["properties"].items()}
    return out


def conflicting(variables: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The names of the variables whose definitions differ."""
    return tuple(one["name"] for one in variables if one["definitionsConflict"])


def variable_problems(variables: Sequence[ClusterClassVariable]) -> Iterator[Wrong]:
    """What is wrong with the definitions themselves: names, schemas that cannot be read, defaults that the schema itself forbids."""
    seen: set[str] = set()
    for one in variables:
        place = f"spec.variables[{one.name}]"
        if one.name in seen:
            yield Wrong(place, f'the variable "{one.name}" is there twice; keep one')
        if one.name == BUILTIN:
            yield Wrong(place, f'"{BUILTIN}" is the variable that Cluster API itself sets; take another name')
        if "." in one.name or not one.name:
            yield Wrong(place, f'"{one.name}" has a dot or is empty; patches could not name it')
        seen.add(one.name)
        schema = wire(one.schema_.open_api_v3_schema)
        where = f"{place}.schema.openAPIV3Schema"
        yield from _schema_problems(schema, where)


def _schema_problems(schema: Schema, where: str) -> Iterator[Wrong]:
    yield from _structure(schema, where)
    readable = True
    for wrong in unreadable_rules(schema):
        readable = False
        yield Wrong(where + wrong.path, wrong.message)
    default = schema.get("default")
    if default is not None and readable:
        value = defaulted(default, schema)
        found = [*violations(value, schema)] or [Wrong(path, "the schema has no such field") for path in unknown_fields(value, schema)]
        for wrong in found or list(rule_violations(value, schema)):
            yield Wrong(f"{where}.default{wrong.path}", f"the default breaks its own schema: {wrong.message}")


def _structure(schema: Schema, where: str) -> Iterator[Wrong]:
    """What a schema says of itself that cannot be: at this place and below."""
    kind = schema.get("type")
    if not kind and not schema.get("x-kubernetes-int-or-string") and not schema.get("x-kubernetes-preserve-unknown-fields"):
        yield Wrong(where, "it has no type; give one of object, array, string, integer, number, boolean")
    if schema.get("properties") and schema.get("additionalProperties"):
        yield Wrong(where, "it has properties and additionalProperties; an object is either one of named fields or a map")
    if kind == "array" and not isinstance(schema.get("items"), Mapping):
        yield Wrong(where, "an array must say what its items are; add items")
    wrong = pattern_problem(schema.get("pattern"))
    if wrong:
        yield Wrong(f"{where}.pattern", wrong)
    for name in schema.get("required") or ():
        if name not in (schema.get("properties") or {}):
            yield Wrong(f"{where}.required", f'it requires "{name}", which is none of its properties')
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), Mapping):
            yield from _nested(schema[name], f"{where}.{name}")
    for key, one in (schema.get("properties") or {}).items():
        yield from _nested(one, f"{where}.properties[{key}]")


def _nested(schema: Schema, where: str) -> Iterator[Wrong]:
    yield from _structure(schema, where)
    default = schema.get("default")
    if default is not None:
        for wrong in violations(defaulted(default, schema), schema):
            yield Wrong(f"{where}.default{wrong.path}", f"the default breaks its own schema: {wrong.message}")
