"""The variable ``builtin``: what patches may know of the Cluster and of the part they change.

Source: kinds.md §10.3; Cluster API v1.14 (builtin variables).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleetwake import labels
from fleetwake.patches import pruned
from fleetwake.topology.blueprint import Json
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.topology import Topology
from services.reconcilers.kinds.cluster_topology.workers import Workers

_LEFT_OUT = (labels.LAST_APPLIED, labels.CONVERSION_DATA, labels.TOPOLOGY_FIELDS)


def cluster_builtin(cluster: Cluster, topology: Topology) -> Json:
    """What all patches know."""
    class_namespace = topology.class_ref.namespace or cluster.namespace
    network = cluster.spec.cluster_network
    own = {**cluster.metadata.labels, labels.CLUSTER_NAME: cluster.name, labels.TOPOLOGY_OWNED: ""}
    found: Json = {
        "name": cluster.name,
        "namespace": cluster.namespace,
        "uid": cluster.metadata.uid,
        "metadata": _metadata(own, cluster.metadata.annotations),
        "topology": {
            "version": topology.version,
            "classRef": {"name": topology.class_ref.name, "namespace": class_namespace},
            "class": topology.class_ref.name,
            "classNamespace": class_namespace,
        },
        "network": {
            "serviceDomain": network.service_domain,
            "services": list(network.services.cidr_blocks) if network.services is not None else None,
            "pods": list(network.pods.cidr_blocks) if network.pods is not None else None,
        },
    }
    return {"cluster": _given(found)}


def control_plane_builtin(control_plane: Json, machines: Json | None, topology: Topology) -> Json:
    """What patches of the control plane and of its Machines know besides."""
    metadata, spec = control_plane["metadata"], control_plane["spec"]
    found: Json = {
        "version": spec["version"],
        "name": metadata["name"],
        "replicas": spec.get("replicas") if topology.control_plane.replicas is not None else None,
        "metadata": _metadata(metadata.get("labels"), metadata.get("annotations")),
        "machineTemplate": {"infrastructureRef": {"name": machines["metadata"]["name"]}} if machines is not None else None,
    }
    return {"controlPlane": _given(found)}


def worker_builtin(kind: str, workers: Workers) -> Json:
    """What patches of workers know besides; ``kind`` is machineDeployment or machinePool."""
    metadata, spec = workers.body["metadata"], workers.body["spec"]
    found: Json = {
        "version": spec["template"]["spec"]["version"],
        "class": workers.worker_class,
        "name": metadata["name"],
        "topologyName": workers.topology_name,
        "replicas": spec.get("replicas"),
        "metadata": _metadata(metadata.get("labels"), metadata.get("annotations")),
        "bootstrap": {"configRef": {"name": workers.bootstrap["metadata"]["name"]}},
        "infrastructureRef": {"name": workers.infrastructure["metadata"]["name"]},
    }
    return {kind: _given(found)}


def _metadata(own: Mapping[str, str] | None, annotations: Mapping[str, str] | None) -> Json:
    kept = {key: value for key, value in (annotations or {}).items() if key not in _LEFT_OUT}
    return {name: dict(value) for name, value in (("labels", own or {}), ("annotations", kept)) if value}


def _given(found: Mapping[str, Any]) -> Json:
    """What is known, without empty parts."""
    return pruned(found)
