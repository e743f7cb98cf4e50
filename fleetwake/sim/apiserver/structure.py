"""How values of a kind merge: which lists are maps or sets, which values are atomic.

A :class:`Structure` is the part of a schema that server-side apply needs. What is not declared follows the rule for untyped values:
objects are granular, lists are atomic.

Source: Kubernetes "Server-Side Apply", merge strategy markers (``x-kubernetes-list-type``, ``-list-map-keys``, ``-map-type``), 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

Relation = Literal["granular", "atomic", "map", "set"]


@dataclass(frozen=True, slots=True)
class Structure:
    """How one value merges.

    ``fields`` are the declared fields of an object, ``element`` the rule for undeclared keys of an object or for items of a list,
    ``keys`` the key fields of a list-map with ``key_defaults`` for those a client may leave out.
    """

    relation: Relation = "granular"
    fields: Mapping[str, Structure] = field(default_factory=dict)
    element: Structure | None = None
    keys: tuple[str, ...] = ()
    key_defaults: Mapping[str, Any] = field(default_factory=dict)

    def child(self, key: str) -> Structure:
        """Return the rule for the field ``key`` of this object."""
        return self.fields.get(key) or self.element or UNTYPED

    def item(self) -> Structure:
        """Return the rule for an item of this list."""
        return self.element or UNTYPED

    def item_key(self, item: Any) -> str:
        """Return the path element that identifies ``item`` in this list-map or set, spelled as in ``fieldsV1``."""
        if self.relation == "set":
            return "v:" + orjson.dumps(item).decode()
        if len(self.keys) == 1:
            key = self.keys[0]
            return f'k:{{"{key}":{orjson.dumps(_key_value(item, key, self.key_defaults)).decode()}}}'
        values = {key: _key_value(item, key, self.key_defaults) for key in self.keys}
        return "k:" + orjson.dumps({key: value for key, value in values.items() if value is not None}, option=orjson.OPT_SORT_KEYS).decode()


def _key_value(item: Any, key: str, defaults: Mapping[str, Any]) -> Any:
    return item.get(key, defaults.get(key)) if isinstance(item, dict) else None


UNTYPED = Structure()
ATOMIC = Structure(relation="atomic")
STRING_SET = Structure(relation="set")

METADATA = Structure(
    fields={
        "labels": UNTYPED,
        "annotations": UNTYPED,
        "finalizers": STRING_SET,
        "ownerReferences": Structure(relation="map", keys=("uid",), element=ATOMIC),
        "managedFields": ATOMIC,
    }
)


def list_map(*keys: str, element: Structure | None = None, defaults: Mapping[str, Any] | None = None) -> Structure:
    """Return the rule of a list whose items are identified by ``keys``."""
    return Structure(relation="map", keys=keys, element=element, key_defaults=defaults or {})


def structure(paths: Mapping[str, Structure]) -> Structure:
    """Return the structure of a kind from dotted paths (``status.conditions``) to rules; metadata is always included."""
    tree: dict[str, Any] = {}
    for path, rule in paths.items():
        node = tree
        *parents, last = path.split(".")
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = rule
    tree["metadata"] = METADATA
    return _from_tree(tree)


def _from_tree(tree: Mapping[str, Any]) -> Structure:
    return Structure(fields={name: node if isinstance(node, Structure) else _from_tree(node) for name, node in tree.items()})


def structure_of_schema(schema: Mapping[str, Any]) -> Structure:
    """Return the structure that a CRD's ``openAPIV3Schema`` declares, metadata included."""
    root = _of_schema(schema)
    return Structure(fields={**root.fields, "metadata": METADATA}, element=root.element)


def _of_schema(schema: Mapping[str, Any]) -> Structure:
    list_type = schema.get("x-kubernetes-list-type")
    items = schema.get("items")
    if list_type == "map" and isinstance(items, Mapping):
        keys: Sequence[str] = schema.get("x-kubernetes-list-map-keys", ())
        properties = items.get("properties", {})
        defaults = {key: properties[key]["default"] for key in keys if "default" in properties.get(key, {})}
        return Structure(relation="map", element=_of_schema(items), keys=tuple(keys), key_defaults=defaults)
    if list_type == "set":
        return STRING_SET
    if list_type == "atomic" or schema.get("type") == "array" or schema.get("x-kubernetes-map-type") == "atomic":
        return ATOMIC
    fields = {name: _of_schema(value) for name, value in schema.get("properties", {}).items()}
    additional = schema.get("additionalProperties")
    return Structure(fields=fields, element=_of_schema(additional) if isinstance(additional, Mapping) else None)
