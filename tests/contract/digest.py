"""The notation of ``digests/*.txt``, written from a CustomResourceDefinition: one line per field with every fact of it.

``name*`` is a required field; the type follows, then defaults, enums, bounds, list semantics, patterns and the number of CEL rules;
``each(...)`` holds the bounds of a list's items. Shapes that Kubernetes itself defines are named, not spelled out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from schemas.api import scalars
from schemas.api.meta import CONDITION_TYPE_PATTERN

Schema = Mapping[str, Any]

PATTERN_NAMES = {
    CONDITION_TYPE_PATTERN: "CONDITION-TYPE(qualified name)",
    scalars.SUBDOMAIN_PATTERN: "DNS1123-subdomain",
    scalars.LABEL_PATTERN: "DNS1123-label",
    scalars.KIND_PATTERN: "KIND",
    scalars.GROUP_VERSION_PATTERN: "GROUP/VERSION",
    scalars.TAINT_KEY_PATTERN: "TAINT-KEY(qualified name)",
    scalars.LABEL_VALUE_PATTERN: "LABEL-VALUE",
}
KNOWN_SHAPES = {
    frozenset({"type", "status", "observedGeneration", "lastTransitionTime", "reason", "message"}): "Condition(metav1)",
    frozenset({"type", "status", "severity", "lastTransitionTime", "reason", "message"}): "Condition(legacy: +severity)",
    frozenset({"matchLabels", "matchExpressions"}): "LabelSelector",
    frozenset({"labels", "annotations"}): "ObjectMeta{labels,annotations}",
    frozenset({"fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"}): "corev1.EnvVarSource",
    frozenset({"kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"}): "corev1.ObjectReference",
}
NODE_SYSTEM_INFO_FIELDS = frozenset({"machineID", "systemUUID", "bootID", "kubeletVersion"})


def describe(definition: Mapping[str, Any]) -> list[str]:
    """The lines of one kind's digest."""
    spec = definition["spec"]
    names = spec["names"]
    (version,) = spec["versions"]
    subresources = {name: dict(sorted(value.items())) for name, value in sorted(version.get("subresources", {}).items())}
    header = (
        f"# {names['kind']} {spec['group']}/{version['name']} plural={names['plural']} short={names.get('shortNames')} scope={spec['scope']} "
        f"subresources={subresources} categories={names['categories']}"
    )
    columns = "; ".join(
        f"{column['name']}={column['jsonPath']}" + (f"(prio {column['priority']})" if column.get("priority") else "")
        for column in version["additionalPrinterColumns"]
    )
    root = version["schema"]["openAPIV3Schema"]
    lines = [header, f"# printcolumns: {columns}"]
    for name in ("spec", "status"):
        if name in root["properties"]:
            schema = root["properties"][name]
            star = "*" if name in root.get("required", ()) else ""
            lines.append(" ".join([f"{name}{star}:", *_facts(schema)]))
            lines.extend(_fields(schema, "  "))
    return lines


def read(text: str) -> dict[str, list[str]]:
    """Split a digest file into the lines of each kind."""
    kinds: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("# ") and " plural=" in line:
            lines = kinds.setdefault(line.split()[1], [])
        if line.strip():
            lines.append(line.rstrip())
    return kinds


def _fields(schema: Schema, indent: str) -> Iterator[str]:
    for name, field in sorted(schema.get("properties", {}).items()):
        star = "*" if name in schema.get("required", ()) else ""
        yield f"{indent}{name}{star}: " + " ".join([_type(field), *_facts(field), *_item_facts(field)])
        element = field.get("items", field.get("additionalProperties", field))
        if _shape(element) is None:
            yield from _fields(element, indent + "  ")


def _shape(schema: Schema) -> str | None:
    fields = frozenset(schema.get("properties", ()))
    return "corev1.NodeSystemInfo" if fields >= NODE_SYSTEM_INFO_FIELDS else KNOWN_SHAPES.get(fields)


def _type(schema: Schema) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "int|str"
    if "additionalProperties" in schema:
        return f"map<{_type(schema['additionalProperties'])}>"
    if "items" in schema:
        return f"[]{_type(schema['items'])}"
    if "type" not in schema:
        return "any"
    if shape := _shape(schema):
        return shape
    return f"{schema['type']}/{schema['format']}" if "format" in schema else str(schema["type"])


def _facts(schema: Schema) -> Iterator[str]:
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        yield "free-form"
    if "default" in schema:
        yield f"default={schema['default']}"
    if "enum" in schema:
        yield "enum=" + "|".join(schema["enum"])
    for key, short in (
        ("minLength", "minLen"),
        ("maxLength", "maxLen"),
        ("minimum", "min"),
        ("maximum", "max"),
        ("minItems", "minItems"),
        ("maxItems", "maxItems"),
    ):
        if key in schema:
            yield f"{short}={schema[key]}"
    match schema.get("x-kubernetes-list-type"):
        case "map":
            yield f"listmap({','.join(schema['x-kubernetes-list-map-keys'])})"
        case "atomic":
            yield "atomic"
    if "minProperties" in schema:
        yield f"minProps={schema['minProperties']}"
    if "pattern" in schema:
        yield f"re={PATTERN_NAMES.get(schema['pattern'], schema['pattern'])}"
    if rules := schema.get("x-kubernetes-validations"):
        yield f"[CEL x{len(rules)}]"


def _item_facts(schema: Schema) -> Iterator[str]:
    """Bounds of the innermost items; the digests do not tell the bounds of a list within a list."""
    element = schema.get("items")
    if element is None or _shape(element):
        return
    while "items" in element:
        element = element["items"]
    if facts := " ".join(_facts(element)):
        yield f"each({facts})"
