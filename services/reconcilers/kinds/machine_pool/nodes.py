"""The Nodes of a MachinePool: which they are, how many are ready, and what is done to them.

A Node with a Machine of the pool is its Machine's to label and to delete; only those of providers without Machines are handled here.

Source: kinds.md §6 step 4; Cluster API v1.14 MachinePool controller (noderef: annotations, uninitialized taint, retired Nodes).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fleetwake import labels
from fleetwake.patches import wire
from fleetwake.plan import Delete, Patch, Step
from schemas.keys import ObjectKey
from services.reconcilers.kinds.machine_pool.machines import kubelet_version
from services.reconcilers.kinds.machine_pool.observed import Node, Observed

_UNINITIALIZED = (labels.UNINITIALIZED_TAINT, "NoSchedule")


@dataclass(frozen=True, slots=True)
class Nodes:
    """The Nodes of the pool's hosts, in the order of their identities; ``wait``: when the next ready one counts as available."""

    refs: tuple[Mapping[str, Any], ...]
    ready: int
    available: int
    versions: tuple[str, ...]
    wait: timedelta | None = None


def count(observed: Observed, provider_ids: Iterable[str]) -> Nodes:
    """Count the Nodes of the identities. While the workload cluster is not seen, what was recorded stays."""
    stored = observed.stored.status
    if not observed.nodes_known:
        old = stored.deprecated.v1beta1
        kept = tuple(wire(ref) for ref in stored.node_refs)
        return Nodes(
            kept, old.ready_replicas or 0, old.available_replicas or 0, tuple(one.version for one in stored.versions for _ in range(one.replicas or 0))
        )
    found = [node for identity in provider_ids if (node := observed.nodes.get(identity)) is not None]
    least = timedelta(seconds=observed.pool.spec.template.spec.min_ready_seconds or 0)
    left = [since + least - observed.at for node in found if (since := _ready_since(node, observed.at)) is not None]
    waits = [one for one in left if one > timedelta(0)]
    refs = tuple({"apiVersion": "v1", "kind": "Node", "name": _name(node), "uid": str(node["metadata"].get("uid", ""))} for node in found)
    return Nodes(refs, len(left), len(left) - len(waits), tuple(kubelet_version(node) for node in found), min(waits, default=None))


def _name(node: Node) -> str:
    return str(node["metadata"]["name"])


def _ready_since(node: Node, at: datetime) -> datetime | None:
    for one in (node.get("status") or {}).get("conditions") or ():
        if one.get("type") == "Ready" and one.get("status") == "True":
            try:
                return datetime.fromisoformat(str(one.get("lastTransitionTime")))
            except ValueError:
                return at
    return None


def retired(observed: Observed, provider_ids: Iterable[str]) -> tuple[Step, ...]:
    """Delete recorded Nodes whose host is none of the pool's any more. A Node without an identity is left alone, and so is one that a Machine answers for."""
    if not observed.nodes_known:
        return ()
    kept, claimed = set(provider_ids), {one.status.node_ref.name for one in observed.machines if one.status.node_ref is not None}
    recorded = {(ref.name or "", ref.uid or "") for ref in observed.stored.status.node_refs}
    gone = [
        node
        for node in observed.workload.nodes
        if (_name(node), str(node["metadata"].get("uid", ""))) in recorded
        and node.get("spec", {}).get("providerID")
        and node["spec"]["providerID"] not in kept
        and _name(node) not in claimed
    ]
    return tuple(Delete(_key(observed, node), "v1", str(node["metadata"].get("uid", "")), "its host is none of the pool's any more") for node in gone)


def _key(observed: Observed, node: Node) -> ObjectKey:
    return ObjectKey("", "Node", "", _name(node), str(observed.cluster_key))


def mark(observed: Observed, provider_ids: Iterable[str]) -> tuple[Step, ...]:
    """Tell each Node whose it is, and that it is taken into service; nothing for those that have a Machine to do it."""
    if observed.has_machines or not observed.nodes_known:
        return ()
    found = [node for identity in provider_ids if (node := observed.nodes.get(identity)) is not None]
    return tuple(patch for node in found if (patch := _marked(observed, node)) is not None)


def _marked(observed: Observed, node: Node) -> Patch | None:
    meta = node["metadata"]
    wanted = {
        labels.CLUSTER_NAME_ANNOTATION: observed.pool.spec.cluster_name,
        labels.CLUSTER_NAMESPACE_ANNOTATION: observed.pool.namespace,
        labels.OWNER_KIND_ANNOTATION: observed.pool.KIND,
        labels.OWNER_NAME_ANNOTATION: observed.pool.name,
    }
    stored: Mapping[str, str] = meta.get("annotations") or {}
    different = {key: value for key, value in wanted.items() if stored.get(key) != value}
    taints = [dict(taint) for taint in node.get("spec", {}).get("taints") or ()]
    kept = [taint for taint in taints if (taint.get("key"), taint.get("effect")) != _UNINITIALIZED]
    body: dict[str, Any] = {"metadata": {"annotations": different}} if different else {}
    if kept != taints:
        body["spec"] = {"taints": kept}
    if not body:
        return None
    version = str(meta.get("resourceVersion", ""))
    return Patch(_key(observed, node), "v1", str(meta.get("uid", "")), body, "the Node is one of the pool's", version, strategic=True)
