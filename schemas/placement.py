"""Which objects belong to no one cluster and live on ``objects.shared``: one rule for the watcher that places them and the workers that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.keys import ObjectKey

RESOURCE_SET_TYPE = "addons.cluster.x-k8s.io/resource-set"
SHARED_KINDS = frozenset({"ClusterClass", "ClusterResourceSet", "MachineDrainRule", "ExtensionConfig", "CustomResourceDefinition", "Namespace"})


def shared(key: ObjectKey, value: Mapping[str, Any]) -> bool:
    """Whether the object is of no one cluster: templates, classes, rules, everything without a namespace, resource-set data."""
    if not key.namespace or key.kind in SHARED_KINDS or key.kind.endswith("Template"):
        return True
    return key.kind == "Secret" and value.get("type") == RESOURCE_SET_TYPE
