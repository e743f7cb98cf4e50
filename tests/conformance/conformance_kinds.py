"""The kinds and objects the suite uses."""

from __future__ import annotations

from typing import Any

from conformance_clients import Resource

JsonDict = dict[str, Any]
GROUP = "conformance.fleetwake.dev"
WIDGETS = Resource(GROUP, "v1", "widgets")
CONFIG_MAPS = Resource("", "v1", "configmaps")
SECRETS = Resource("", "v1", "secrets")
NAMESPACES = Resource("", "v1", "namespaces")
NODES = Resource("", "v1", "nodes")
PODS = Resource("", "v1", "pods")
BUDGETS = Resource("policy", "v1", "poddisruptionbudgets")
DEPLOYMENTS = Resource("apps", "v1", "deployments")
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions")

_STRING = {"type": "string"}
_CONDITION = {
    "type": "object",
    "required": ["type", "status"],
    "properties": {"type": _STRING, "status": _STRING, "reason": _STRING, "message": _STRING, "lastTransitionTime": {"type": "string", "format": "date-time"}},
}
CRD: JsonDict = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"widgets.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"kind": "Widget", "listKind": "WidgetList", "plural": "widgets", "singular": "widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"},
                },
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "replicas": {"type": "integer"},
                                    "color": _STRING,
                                    "size": {"type": "string", "enum": ["small", "large"]},
                                    "code": {"type": "string", "pattern": "^[a-z]+$", "minLength": 2, "maxLength": 4},
                                    "level": {"type": "integer", "minimum": 1, "maximum": 9},
                                    "defaulted": {"type": "object", "properties": {"mode": {"type": "string", "default": "auto"}, "x": _STRING}},
                                    "list": {"type": "array", "maxItems": 2, "items": _STRING},
                                    "anything": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                                    "either": {"x-kubernetes-int-or-string": True},
                                    "parts": {"type": "object", "properties": {"left": _STRING, "right": _STRING}},
                                    "free": {"type": "object", "additionalProperties": _STRING},
                                    "atoms": {"type": "array", "items": _STRING},
                                    "tags": {"type": "array", "items": _STRING, "x-kubernetes-list-type": "set"},
                                    "ports": {
                                        "type": "array",
                                        "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["name"],
                                        "items": {
                                            "type": "object",
                                            "required": ["name"],
                                            "properties": {"name": _STRING, "port": {"type": "integer"}, "note": _STRING},
                                        },
                                    },
                                },
                            },
                            "status": {
                                "type": "object",
                                "properties": {
                                    "replicas": {"type": "integer"},
                                    "selector": _STRING,
                                    "phase": _STRING,
                                    "conditions": {
                                        "type": "array",
                                        "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["type"],
                                        "items": _CONDITION,
                                    },
                                },
                            },
                        },
                    }
                },
            }
        ],
    },
}


def widget(name: str, spec: JsonDict | None = None, **metadata: Any) -> JsonDict:
    """Return a Widget."""
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Widget",
        "metadata": {"name": name, **metadata},
        "spec": spec if spec is not None else {"replicas": 1, "color": "red"},
    }


def config_map(name: str, data: JsonDict | None = None, **metadata: Any) -> JsonDict:
    """Return a ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": data or {"key": "value"}}


def owned_by(owner: JsonDict, *, blocking: bool = False, controller: bool = False) -> JsonDict:
    """Return the owner reference to ``owner``."""
    reference: JsonDict = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
    if blocking:
        reference["blockOwnerDeletion"] = True
    if controller:
        reference["controller"] = True
    return reference


def conditions(*pairs: tuple[str, str]) -> list[JsonDict]:
    """Return conditions of the given types and statuses."""
    return [{"type": type_, "status": status, "reason": "Because", "lastTransitionTime": "2026-01-01T00:00:00Z"} for type_, status in pairs]


def status_config(name: str, *pairs: tuple[str, str], **status: Any) -> JsonDict:
    """Return the apply configuration of a Widget's status."""
    return {"apiVersion": f"{GROUP}/v1", "kind": "Widget", "metadata": {"name": name}, "status": {"conditions": conditions(*pairs), **status}}
