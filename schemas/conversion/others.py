"""addons, ipam and runtime.cluster.x-k8s.io: how v1beta1, and v1alpha1 where there was none, differ from the hub.

Source: contracts.md §10; cluster-api api/addons/v1beta1/conversion.go, api/ipam/v1beta1/conversion.go, api/runtime/v1alpha1/conversion.go (main, heading for
v1.15).
"""

from __future__ import annotations

from typing import Any, Final

from schemas.conversion.core import CONDITIONS
from schemas.conversion.rules import Adjusted, table

CLUSTER_RESOURCE_SET: Final = table(CONDITIONS)


def _named_like_its_cluster(obj: dict[str, Any]) -> None:
    """A binding has its Cluster's name; versions that could leave that out, or had no field for it, said it so."""
    spec, metadata = obj.get("spec"), obj.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if isinstance(spec, dict) and name and not spec.get("clusterName"):
        spec["clusterName"] = name


CLUSTER_RESOURCE_SET_BINDING: Final = table(Adjusted(_named_like_its_cluster))

IP_ADDRESS: Final = table()

IP_ADDRESS_CLAIM: Final = table(CONDITIONS)

EXTENSION_CONFIG: Final = table(CONDITIONS)
