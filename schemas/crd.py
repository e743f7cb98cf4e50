"""CustomResourceDefinitions, generated from the models.

The models are the only source: types, bounds, patterns and enums come from pydantic's fields, the rest from ``schemas.markers`` and
class variables, descriptions from docstrings. Schemas are structural (Kubernetes, "Extend the Kubernetes API with
CustomResourceDefinitions"): every node has a type, except where any JSON value is allowed, which alone preserves unknown fields.
"""

from __future__ import annotations

import ast
import inspect
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import AwareDatetime
from pydantic.fields import FieldInfo

from schemas.api.meta import Frozen, KubeObject
from schemas.markers import Addition, Atomic, Column, Format, ListMap, NotRequired, Required, Rule, ServerDefault

Schema = dict[str, Any]

_PROVIDERS: Mapping[str, str] = {
    "bootstrap.cluster.x-k8s.io": "bootstrap-kubeadm",
    "controlplane.cluster.x-k8s.io": "control-plane-kubeadm",
    "infrastructure.cluster.x-k8s.io": "infrastructure-docker",
}
"""Groups that belong to a provider of their own (clusterctl's names); all others belong to the core provider."""

_HEADER = "# Generated from the models in schemas/api by `fleetwake schemas generate`. Do not edit.\n"
_BOUNDS = {"min_length": "minLength", "max_length": "maxLength", "ge": "minimum", "le": "maximum", "pattern": "pattern"}
_ITEM_BOUNDS = {"minLength": "minItems", "maxLength": "maxItems"}
_LOWER = ("minLength", "minItems", "minProperties", "minimum")
RULES = "x-kubernetes-validations"
ADDED, ADDITIONS = "added", "x-additions"
"""Marks of rules and keywords that Cluster API's own definitions do not have; in ``marked`` and nowhere else."""

_OBJECT_FIELDS: Mapping[str, Schema] = {
    "apiVersion": {"description": "Group and version of the object's schema.", "type": "string"},
    "kind": {"description": "Kind of the object.", "type": "string"},
    "metadata": {"type": "object"},
}


def definition(model: type[KubeObject], *, additions: bool = True) -> dict[str, Any]:
    """Build the CustomResourceDefinition of a kind, as plain JSON values; without ``additions`` it says what Cluster API's own says and no more."""
    names: dict[str, Any] = {
        "categories": list(model.CATEGORIES),
        "kind": model.KIND,
        "listKind": f"{model.KIND}List",
        "plural": model.PLURAL,
        "singular": model.KIND.lower(),
    }
    if model.SHORT_NAMES:
        names["shortNames"] = list(model.SHORT_NAMES)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{model.PLURAL}.{model.GROUP}", "labels": _labels(model)},
        "spec": {"group": model.GROUP, "names": names, "scope": model.SCOPE, "versions": [version(model, additions=additions)]},
    }


def served(
    model: type[KubeObject], older: Iterable[type[KubeObject]], client_config: Mapping[str, Any], *, unserved: Iterable[type[KubeObject]] = ()
) -> dict[str, Any]:
    """The definition of a kind that has older versions too, converted by the webhook at ``client_config``. The hub alone is stored.

    ``unserved`` versions are converted where objects or their managed fields still have them, and nobody can ask for them any more.
    Source: contracts.md §1 (a provider's kind is labelled with the version for each contract), §10.
    """
    found = definition(model)
    for one, is_served in (*((one, True) for one in older), *((one, False) for one in unserved)):
        entry = version(one) | {"served": is_served, "storage": False, "deprecated": True}
        entry["deprecationWarning"] = f"{one.GROUP}/{one.VERSION} {one.KIND} is deprecated; use {model.GROUP}/{model.VERSION} {model.KIND}"
        found["spec"]["versions"].append(entry)
        if is_served and model.GROUP in _PROVIDERS and one.VERSION == "v1beta1":
            found["metadata"]["labels"][f"cluster.x-k8s.io/{one.VERSION}"] = one.VERSION
    webhook = {"conversionReviewVersions": ["v1"], "clientConfig": dict(client_config)}
    found["spec"]["conversion"] = {"strategy": "Webhook", "webhook": webhook}
    return found


def render(model: type[KubeObject]) -> str:
    """Render the CustomResourceDefinition of a kind as the YAML text that is committed."""
    return _HEADER + yaml.dump(definition(model), Dumper=_Dumper, sort_keys=False, width=160, allow_unicode=True)


def file_name(model: type[KubeObject]) -> str:
    """The name of the generated file of a kind, ``<group>_<plural>.yaml``."""
    return f"{model.GROUP}_{model.PLURAL}.yaml"


def _settled(node: Any, additions: bool) -> Any:
    """The schema with what was marked as added taken in as if it had never been marked, or left out."""
    if isinstance(node, list):
        return [_settled(item, additions) for item in node]
    if not isinstance(node, dict):
        return node
    settled: dict[str, Any] = {}
    for key, value in node.items():
        # a list: the kinds that model schemas have a field of that name too
        if key == RULES and isinstance(value, list):
            rules = [{part: text for part, text in rule.items() if part != ADDED} for rule in value if additions or ADDED not in rule]
            settled |= {RULES: rules} if rules else {}
        elif key == ADDITIONS:
            settled |= value if additions else {}
        else:
            settled[key] = _settled(value, additions)
    return settled


def _labels(model: type[KubeObject]) -> dict[str, str]:
    """Labels by which clusterctl finds the kind, and for a provider's kind the contract it fulfils (contracts.md §1, §9)."""
    labels = {"cluster.x-k8s.io/provider": _PROVIDERS.get(model.GROUP, "cluster-api"), "clusterctl.cluster.x-k8s.io": ""}
    if model.GROUP in _PROVIDERS:
        labels["cluster.x-k8s.io/v1beta2"] = model.VERSION
    return dict(sorted(labels.items()))


def marked(model: type[KubeObject]) -> Schema:
    """The schema of a kind, with rules and keywords that Cluster API's own definition does not have marked as such (``ADDED``, ``ADDITIONS``)."""
    return _object_schema(model)


def version(model: type[KubeObject], *, additions: bool = True) -> dict[str, Any]:
    """The entry of one version in a definition, as the served and stored one."""
    found: dict[str, Any] = {
        "name": model.VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [_column(column) for column in model.PRINT_COLUMNS],
        "schema": {"openAPIV3Schema": _object_schema(model)},
    }
    subresources: dict[str, Any] = {}
    if model.STATUS_SUBRESOURCE:
        subresources["status"] = {}
    if scale := model.SCALE:
        subresources["scale"] = {"specReplicasPath": scale.spec_replicas_path, "statusReplicasPath": scale.status_replicas_path}
        if scale.label_selector_path:
            subresources["scale"]["labelSelectorPath"] = scale.label_selector_path
    if subresources:
        found["subresources"] = subresources
    settled: dict[str, Any] = _settled(found, additions)
    return settled if model.LOWER_BOUNDS else _unbounded(settled)


def _unbounded(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without lower bounds, so that it lets through the zeros that clients of an old version always write."""
    return {name: _unbounded(one) if isinstance(one, dict) else one for name, one in schema.items() if name not in _LOWER or isinstance(one, dict)}


def _column(column: Column) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.json_path}
    if column.priority:
        shown["priority"] = column.priority
    return shown


def _object_schema(model: type[Frozen]) -> Schema:
    """The schema of an object. Raises TypeError for a field without a docstring."""
    properties: dict[str, Schema] = {}
    required = []
    for name, field in model.model_fields.items():
        if name in model.LACKS:
            continue
        wire = field.alias or name
        if issubclass(model, KubeObject) and wire in _OBJECT_FIELDS:
            properties[wire] = dict(_OBJECT_FIELDS[wire])
            continue
        described = {"description": _description(model, name)}
        # what a field is for says more than what its type is: the field's docstring wins
        properties[wire] = described | _schema(field.annotation, _flatten([field])) | described
        if _is_required(field):
            required.append(wire)
    schema: Schema = {"description": _first_paragraph(model), "type": "object"}
    if properties:
        schema["properties"] = dict(sorted(properties.items()))
    if required:
        schema["required"] = sorted(required)
    if model.MIN_PROPERTIES:
        schema["minProperties"] = model.MIN_PROPERTIES
    if model.RULES:
        schema[RULES] = [_rule(rule) for rule in model.RULES]
    if model.ATOMIC_MAP:
        schema["x-kubernetes-map-type"] = "atomic"
    return schema


def _is_required(field: FieldInfo) -> bool:
    markers = {type(item) for item in field.metadata}
    return Required in markers or (field.is_required() and NotRequired not in markers)


def _schema(annotation: Any, metadata: Sequence[Any] = ()) -> Schema:
    """The schema of a type with the constraints attached to it. Raises TypeError for a type that has no place in a wire model."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _schema(args[0], [*_flatten(args[1:]), *metadata])
    if origin in (Union, types.UnionType):
        members = [member for member in args if member is not type(None)]
        if set(members) == {int, str}:
            return {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True} | _constraints(metadata)
        (member,) = members
        return _schema(member, metadata)
    if origin is tuple:
        constraints = {_ITEM_BOUNDS.get(key, key): value for key, value in _constraints(metadata).items()}
        return {"type": "array", "items": _schema(args[0])} | constraints
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _schema(args[1])}
    if origin is Literal:
        return {"type": "string", "enum": list(args)} | _constraints(metadata)
    if isinstance(annotation, type) and issubclass(annotation, Frozen):
        schema, added = _object_schema(annotation), _constraints(metadata)
        # the object's own rules, and those of the field that holds it
        rules = [*schema.get(RULES, ()), *added.get(RULES, ())]
        return schema | added | ({RULES: rules} if rules else {})
    scalar = _scalar(annotation) | _constraints(metadata)
    return scalar if scalar.get("format") != "" else {name: value for name, value in scalar.items() if name != "format"}


def _scalar(annotation: Any) -> Schema:
    if annotation is Any:
        return {"x-kubernetes-preserve-unknown-fields": True}
    if annotation is AwareDatetime:
        return {"type": "string", "format": "date-time"}
    if annotation is str:
        return {"type": "string"}
    if annotation is bool:
        return {"type": "boolean"}
    if annotation is int:
        return {"type": "integer", "format": "int32"}
    raise TypeError(f"no structural schema for {annotation!r}; use a scalar, a Literal, a tuple, a Mapping or a Frozen model")


def _flatten(metadata: Iterable[Any]) -> list[Any]:
    """Constraints and markers, with those taken out that pydantic keeps inside a FieldInfo."""
    flat: list[Any] = []
    for item in metadata:
        if isinstance(item, FieldInfo):
            flat.extend(item.metadata)
            if isinstance(item.json_schema_extra, dict):
                flat.append(item.json_schema_extra)
        else:
            flat.append(item)
    return flat


def _constraints(metadata: Sequence[Any]) -> Schema:
    found: Schema = {}
    rules = []
    for item in metadata:
        match item:
            case dict():
                found |= item
            case ListMap(keys):
                found |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}
            case Atomic():
                found["x-kubernetes-list-type"] = "atomic"
            case Format(name):
                found["format"] = name
            case ServerDefault(value):
                found["default"] = value
            case Addition(keyword, value):
                found[ADDITIONS] = {**found.get(ADDITIONS, {}), keyword: value}
            case Rule():
                rules.append(_rule(item))
            case _:
                found |= {wire: bound for key, wire in _BOUNDS.items() if (bound := getattr(item, key, None)) is not None}
    if rules:
        found[RULES] = rules
    return found


def _rule(rule: Rule) -> dict[str, Any]:
    shown: dict[str, Any] = {"message": rule.message, "rule": rule.rule}
    if rule.field_path:
        shown["fieldPath"] = rule.field_path
    if rule.reason != "FieldValueInvalid":
        # the API server's own default is left out, as controller-gen leaves it out
        shown["reason"] = rule.reason
    if rule.added:
        shown[ADDED] = True
    return shown


def _description(model: type[Frozen], attribute: str) -> str:
    """The docstring of an attribute, taken from the class that declares it."""
    for base in model.__mro__:
        if attribute in inspect.get_annotations(base):
            text = _attribute_docstrings(base.__module__).get(base.__name__, {}).get(attribute)
            if text:
                return text
    raise TypeError(f"{model.__name__}.{attribute} has no docstring; write one line below the field")


def _first_paragraph(model: type[Frozen]) -> str:
    return " ".join((inspect.getdoc(model) or "").partition("\n\n")[0].split())


@cache
def _attribute_docstrings(module: str) -> Mapping[str, Mapping[str, str]]:
    """Docstrings below attributes, by class and attribute: ``{"Machine": {"spec": "…"}}``."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        if not isinstance(node, ast.ClassDef):
            continue
        own = found.setdefault(node.name, {})
        for field, doc in zip(node.body, node.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant):
                own[field.target.id] = inspect.cleandoc(str(doc.value.value)).replace("\n", " ")
    return found


class _Dumper(yaml.SafeDumper):
    """A dumper that repeats equal nodes: anchors would tie unrelated parts of the file together."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never write anchors."""
        return True
