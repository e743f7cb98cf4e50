"""What the server itself puts into a new object: initial status and spec of the kinds that get one.

Source: the create strategies of Kubernetes 1.36 for Namespace, Pod, Secret and CustomResourceDefinition.
"""

from __future__ import annotations

import base64
from typing import Any

from .definitions import ResourceDefinition, definition_of_crd

JsonDict = dict[str, Any]

_CRD_CONDITIONS = (("NamesAccepted", "NoConflicts"), ("Established", "InitialNamesAccepted"))


def initial(definition: ResourceDefinition, obj: JsonDict, timestamp: str) -> JsonDict:
    """Return the object with what its kind begins with; a status sent by the client is dropped, except a Node's."""
    if definition.status and definition.resource != "nodes":
        obj.pop("status", None)
    for field, value in definition.initial.items():
        obj.setdefault(field, value)
    match definition.resource:
        case "namespaces":
            obj["spec"] = {**obj.get("spec", {}), "finalizers": ["kubernetes"]}
            obj["status"] = {"phase": "Active"}
            obj["metadata"]["labels"] = {**obj["metadata"].get("labels", {}), "kubernetes.io/metadata.name": obj["metadata"]["name"]}
        case "pods":
            obj["status"] = {"phase": "Pending"}
        case "secrets":
            return with_encoded_data({"type": "Opaque", **obj})
        case "customresourcedefinitions.apiextensions.k8s.io":
            conditions = [{"type": t, "status": "True", "reason": r, "message": "", "lastTransitionTime": timestamp} for t, r in _CRD_CONDITIONS]
            obj["status"] = {"conditions": conditions, "acceptedNames": obj["spec"]["names"], "storedVersions": [definition_of_crd(obj).version]}
    return obj


def with_encoded_data(obj: JsonDict) -> JsonDict:
    """Return a Secret with what came as text (``stringData``) encoded into its data."""
    text = obj.get("stringData")
    if "stringData" not in obj:
        return obj
    out = {key: value for key, value in obj.items() if key != "stringData"}
    if text:
        out["data"] = {**(obj.get("data") or {}), **{key: base64.b64encode(value.encode()).decode() for key, value in text.items()}}
    return out
