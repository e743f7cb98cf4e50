"""The scale subresource: an autoscaling/v1 Scale made from, and written back to, the fields a definition names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .definitions import ResourceDefinition, ScalePaths
from .status import cause, invalid

JsonDict = dict[str, Any]


def scale_of(obj: JsonDict, definition: ResourceDefinition) -> JsonDict:
    """Return the Scale of an object."""
    paths = definition.scale or ScalePaths()
    metadata = obj["metadata"]
    kept = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp") if key in metadata}
    status: JsonDict = {"replicas": _read(obj, paths.status_replicas) or 0}
    selector = _read(obj, paths.selector) if paths.selector else None
    if isinstance(selector, Mapping):
        status["selector"] = ",".join(f"{key}={value}" for key, value in sorted(selector.get("matchLabels", {}).items()))
    elif selector:
        status["selector"] = selector
    replicas = _read(obj, paths.spec_replicas)
    spec = {"replicas": replicas} if replicas else {}
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": kept, "spec": spec, "status": status}


def with_replicas(obj: JsonDict, scale: JsonDict, definition: ResourceDefinition) -> JsonDict:
    """Return the object with the replicas of ``scale`` and the preconditions its metadata names.

    Raises: ApiStatusError 422 for a negative number.
    """
    paths = definition.scale or ScalePaths()
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    metadata = scale.get("metadata") or {}
    if not isinstance(replicas, int) or replicas < 0:
        text = f"Invalid value: {replicas}: should be a non-negative integer"
        raise invalid("autoscaling", "Scale", metadata.get("name", ""), [cause("FieldValueInvalid", text, "spec.replicas")])
    out = _written(obj, paths.spec_replicas.split("."), replicas)
    named = {key: metadata[key] for key in ("uid", "resourceVersion") if metadata.get(key)}
    return {**out, "metadata": {**obj["metadata"], **named}}


def _read(obj: JsonDict, path: str) -> Any:
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _written(obj: Any, path: Sequence[str], value: Any) -> JsonDict:
    base = obj if isinstance(obj, dict) else {}
    if len(path) == 1:
        return {**base, path[0]: value}
    return {**base, path[0]: _written(base.get(path[0]), path[1:], value)}
