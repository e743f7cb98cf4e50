"""What of the desired state must be written: what is new, what differs, which templates are replaced by new ones.

A stored object has fields that the topology did not set: defaults, and fields of other managers. Only what is wanted and not there counts as a difference, and
what the topology set before and no longer wants: an annotation keeps short digests of the fields it set, so that this can be told from others' fields.

Source: kinds.md §10.1 (7, 8); Kubernetes "Server-Side Apply", 1.36.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from fleetwake import labels
from fleetwake.kind import External
from fleetwake.patches import wire
from fleetwake.topology.blueprint import Json, TopologyError
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.meta import KubeObject, ObjectMeta
from schemas.keys import ObjectKey
from services.reconcilers.kinds.cluster_topology.objects import prefixed, suffix

DIGEST_LENGTH = 7
"""Characters of a field's digest; two fields of one object with the same one would only keep a removal from being seen."""
_ENDPOINT = ("controlPlaneEndpoint",)
_METADATA = ("labels", "annotations")


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between a stored and a wanted object; ``where`` names the first fields, for people."""

    spec: bool = False
    metadata: bool = False
    where: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.spec or self.metadata


@dataclass(frozen=True, slots=True)
class Live:
    """A stored object in the one form that comparing needs."""

    key: ObjectKey
    api_version: str
    metadata: ObjectMeta
    spec: Mapping[str, Any]


def live(obj: External | KubeObject) -> Live:
    """Any stored object as ``Live``."""
    if isinstance(obj, External):
        spec = obj.fields.get("spec")
        return Live(obj.key, obj.api_version, obj.metadata, spec if isinstance(spec, Mapping) else {})
    key = ObjectKey(obj.GROUP, obj.KIND, obj.namespace, obj.name)
    return Live(key, f"{obj.GROUP}/{obj.VERSION}", obj.metadata, wire(obj).get("spec") or {})


def marked(body: Json) -> Json:
    """The body as it is written: with the annotation that tells which fields it sets, without an endpoint that says nothing."""
    if "spec" in body:
        body = {**body, "spec": _without_empty_endpoint(body["spec"])}
    metadata = {**body["metadata"]}
    kept = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != labels.TOPOLOGY_FIELDS}
    bare = {**body, "metadata": {**metadata, "annotations": kept}}
    metadata["annotations"] = {**kept, labels.TOPOLOGY_FIELDS: ".".join(sorted({_digest(path) for path in _fields_of(bare)}))}
    return {**body, "metadata": metadata}


def difference(stored: Live, wanted: Json) -> Difference:
    """What of the wanted object is not stored, and what is stored of fields it no longer sets. ``wanted`` is marked."""
    set_before = frozenset(stored.metadata.annotations.get(labels.TOPOLOGY_FIELDS, "").split("."))
    spec = wanted.get("spec") or {}
    lacking = list(_lacking(stored.spec, spec, "spec"))
    have = set(leaves(stored.spec, "spec"))
    gone = sorted(path for path in have - set(leaves(spec, "spec")) if _digest(path) in set_before)
    in_spec = (*lacking, *gone)
    in_metadata = tuple(_metadata_differences(stored.metadata, wanted["metadata"], set_before))
    return Difference(bool(in_spec), bool(in_metadata), (*in_spec, *in_metadata)[:3])


def _metadata_differences(stored: ObjectMeta, wanted: Mapping[str, Any], set_before: frozenset[str]) -> Iterator[str]:
    for name in _METADATA:
        have: Mapping[str, str] = getattr(stored, name)
        want: Mapping[str, str] = wanted.get(name) or {}
        yield from (f"metadata.{name}.{key}" for key, value in want.items() if have.get(key) != value)
        yield from (f"metadata.{name}.{key}" for key in have if key not in want and _digest(f"metadata.{name}.{key}") in set_before)


def _fields_of(body: Mapping[str, Any]) -> Iterator[str]:
    for name in _METADATA:
        yield from (f"metadata.{name}.{key}" for key in body["metadata"].get(name) or {})
    yield from leaves(body.get("spec") or {}, "spec")


def leaves(value: Any, path: str) -> Iterator[str]:
    """The paths of all that is no map or list, or an empty one."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}")
    elif isinstance(value, list | tuple) and value:
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}[{index}]")
    else:
        yield path


def _lacking(have: Any, want: Any, path: str) -> Iterator[str]:
    """The first places where the stored value is not what is wanted; empty maps and lists, and null, ask for nothing."""
    if want is None or (isinstance(want, Mapping | list | tuple) and not want):
        return
    if isinstance(want, Mapping):
        stored = have if isinstance(have, Mapping) else {}
        for key, item in want.items():
            yield from _lacking(stored.get(key), item, f"{path}.{key}")
    elif isinstance(want, list | tuple):
        if not isinstance(have, list | tuple) or len(have) != len(want):
            yield path
        else:
            for index, (one, other) in enumerate(zip(have, want, strict=True)):
                yield from _lacking(one, other, f"{path}[{index}]")
    elif have != want or isinstance(have, bool) != isinstance(want, bool):
        yield path


def _without_empty_endpoint(spec: Json) -> Json:
    """The spec without an endpoint that says nothing: to set it empty would take it from the provider that fills it."""
    endpoint = spec.get(_ENDPOINT[0])
    if not isinstance(endpoint, Mapping):
        return spec
    said = {name: value for name, value in endpoint.items() if value}
    rest = {name: value for name, value in spec.items() if name != _ENDPOINT[0]}
    return {**rest, _ENDPOINT[0]: said} if said else rest


def _digest(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:DIGEST_LENGTH]


def compatible(stored: External | KubeObject, wanted: Json, named: str) -> None:
    """Raises: TopologyError when an object would become one of another group or kind, which cannot be."""
    found = live(stored).key
    group = str(wanted["apiVersion"]).rpartition("/")[0]
    if (found.group, found.kind) != (group, wanted["kind"]):
        raise TopologyError(
            f"{named} is a {found.kind}.{found.group} and the class makes it a {wanted['kind']}.{group}; "
            "a Cluster's objects keep their group and kind: name a template of the same kind in the class"
        )


def rotated_name(cluster: Cluster, part: str, stored_name: str, wanted: Json) -> str:
    """The name of the template that takes the place of a stored one: from the one it replaces and what it says, so that it is the same until it is made."""
    spec = orjson.dumps(wanted.get("spec"), option=orjson.OPT_SORT_KEYS)
    return prefixed(cluster, part, suffix(cluster, "rotation", stored_name, hashlib.sha256(spec).hexdigest()))


def shown(where: Sequence[str]) -> str:
    """The fields that differ, for a reason."""
    return ", ".join(where)
