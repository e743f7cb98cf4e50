"""What the reconcilers tell other services of workload clusters: records on ``objects`` beside those of the watcher.

A **Node** record is the Node without what only its heartbeats change; a **Connection** record says whether a cluster can be seen right now, so that nobody
takes what is merely not seen for gone; a **Presence** record per partition says that somebody is at work there at all. Their keys carry ``@``: the watcher
leaves them alone, and only services that ask for them take them into their cache.

Source: architecture.md §2 ("reconcilers for what they see in workload clusters"), workload.md §1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import AwareDatetime

from schemas.api.meta import Frozen
from schemas.keys import ClusterKey, GroupKind, ObjectKey

NODE = GroupKind("", "Node")
CONNECTION = GroupKind("fleetwake", "Connection")
PRESENCE = GroupKind("fleetwake", "Presence")
API_VERSION = "fleetwake/v1"
PRESENCE_CLUSTER = "fleetwake/presence"
"""What stands behind the ``@`` of a Presence's key: it belongs to no cluster."""

HEARTBEATS = ("lastHeartbeatTime",)
METADATA = ("name", "uid", "creationTimestamp", "deletionTimestamp", "labels")
SPEC = ("providerID", "taints", "unschedulable")
STATUS = ("conditions", "nodeInfo")


class ConnectionStatus(Frozen):
    """``connected``: requests are answered and the watches are whole. ``last_probe_success``: the last answer there was, told only when answers stay away."""

    connected: bool = False
    last_probe_success: AwareDatetime | None = None


class PresenceStatus(Frozen):
    """When ``instance`` last said that it works on the partition."""

    at: AwareDatetime
    instance: str


def node_key(cluster: ClusterKey, name: str) -> ObjectKey:
    """The key of a Node's record."""
    return ObjectKey(*NODE, "", name, str(cluster))


def connection_key(cluster: ClusterKey) -> ObjectKey:
    """The key of a connection's record."""
    return ObjectKey(*CONNECTION, cluster.namespace, cluster.name, str(cluster))


def presence_key(partition: int) -> ObjectKey:
    """The key of a partition's presence."""
    return ObjectKey(*PRESENCE, "", str(partition), PRESENCE_CLUSTER)


def node_value(node: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of a Node. Its resourceVersion is the record's alone: it grows with every heartbeat."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    told = {name: status[name] for name in STATUS if status.get(name)}
    if "conditions" in told:
        told["conditions"] = [{name: value for name, value in one.items() if name not in HEARTBEATS} for one in told["conditions"]]
    return {
        "apiVersion": "v1",
        "kind": NODE.kind,
        "metadata": {name: node["metadata"][name] for name in METADATA if node["metadata"].get(name)},
        "spec": {name: spec[name] for name in SPEC if spec.get(name)},
        "status": told,
    }


def connection_value(cluster: ClusterKey, status: ConnectionStatus) -> dict[str, Any]:
    """The value of a connection's record."""
    return _value(CONNECTION, {"name": cluster.name, "namespace": cluster.namespace}, status)


def presence_value(partition: int, status: PresenceStatus) -> dict[str, Any]:
    """The value of a presence's record."""
    return _value(PRESENCE, {"name": str(partition)}, status)


def _value(kind: GroupKind, metadata: Mapping[str, str], status: Frozen) -> dict[str, Any]:
    told = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"apiVersion": API_VERSION, "kind": kind.kind, "metadata": dict(metadata), "status": told}
