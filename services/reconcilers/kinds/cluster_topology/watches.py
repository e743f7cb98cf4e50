"""Which changes wake a Cluster's topology.

Most of a fleet's changes are of Machines and of what belongs to them, and of Clusters without a topology: each relation first asks what costs least.

Source: kinds.md §10 (triggers), §16.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fleetwake import labels
from fleetwake.kind import ANY_KIND, CONNECTION, NODE, Change, Lookup, Watch, any_owner, the_cluster
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.cluster_class import ClusterClass
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_health_check import MachineHealthCheck
from schemas.api.core.v1beta2.machine_pool import MachinePool
from schemas.api.meta import KubeObject
from schemas.keys import GroupKind, ObjectKey

CLUSTER = GroupKind(Cluster.GROUP, Cluster.KIND)
CLASS = GroupKind(ClusterClass.GROUP, ClusterClass.KIND)
TEMPLATE = "Template"
OWNED_STATUS = ("TopologyReconciled",)


def existence(change: Change) -> bool:
    """Whether the object came, went, or was asked to go."""
    return change.before is None or change.after is None or change.differs("metadata", "deletionTimestamp")


def asked(change: Change) -> bool:
    """Whether the object came or went, or what is asked of it is something else: spec, labels, annotations."""
    return existence(change) or change.differs("spec") or any(change.differs("metadata", name) for name in ("labels", "annotations"))


def owned(change: Change) -> bool:
    """Whether a topology owns the object, or did."""
    return any(labels.TOPOLOGY_OWNED in _labels(state) for state in (change.before, change.after))


def _labels(state: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return ((state or {}).get("metadata") or {}).get("labels") or {}


def own_change(change: Change) -> bool:
    """Whether a change of the Cluster itself is one of a topology: what is asked, or what we told of it in another's words."""
    if (change.state.get("spec") or {}).get("topology") is None:
        return False
    return asked(change) or _told(change.before) != _told(change.after)


def _told(state: Mapping[str, Any] | None) -> list[Any]:
    stored = ((state or {}).get("status") or {}).get("conditions") or ()
    return [one for one in stored if one.get("type") in OWNED_STATUS]


def classed(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The Clusters of the changed class."""
    return _of_class(change.key.namespace, change.key.name, lookup)


def _of_class(namespace: str, name: str, lookup: Lookup) -> Iterable[ObjectKey]:
    for key in lookup.namespace_keys(CLUSTER, ""):
        cluster = lookup.read(Cluster, key)
        topology = cluster.spec.topology if cluster is not None else None
        if topology is not None and (topology.class_ref.namespace or key.namespace, topology.class_ref.name) == (namespace, name):
            yield key


def class_matters(change: Change) -> bool:
    """Whether a class says something else, or is ready where it was not."""
    return existence(change) or any(change.differs(name) for name in ("spec", "status"))


def of_any_kind(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The Clusters of a template's classes; the Cluster of its own copy of one, of its infrastructure or its control plane, and of what a pool is made with.

    A template of a class is known by its owner: a class adopts its templates before it is ready.
    """
    if change.key.kind.endswith(TEMPLATE):
        if owned(change):
            yield from _labelled(change)
        else:
            for one in any_owner(CLASS)(change, lookup):
                yield from _of_class(one.namespace, one.name, lookup)
    elif owned(change):
        for key in the_cluster(CLUSTER)(change, lookup):
            cluster = lookup.read(Cluster, key)
            refs = (cluster.spec.infrastructure_ref, cluster.spec.control_plane_ref) if cluster is not None else ()
            named = (change.key.group, change.key.kind, change.key.name)
            if labels.TOPOLOGY_POOL_NAME in _labels(change.state) or any(ref and (ref.api_group, ref.kind, ref.name) == named for ref in refs):
                yield key


def any_kind_matters(change: Change) -> bool:
    """Whether what is asked of the object, who owns it, or how far a control plane is, differs. Most objects are neither templates nor a topology's."""
    if not (change.key.kind.endswith(TEMPLATE) or owned(change)):
        return False
    if asked(change) or change.differs("metadata", "ownerReferences"):
        return True
    return any(change.differs("status", name) for name in ("version", "versions", "initialization", "ready"))


def _labelled(change: Change) -> Iterable[ObjectKey]:
    """The Cluster whose name a shared object's label says: templates are placed with no cluster."""
    name = _labels(change.state).get(labels.CLUSTER_NAME)
    return (ObjectKey(*CLUSTER, change.key.namespace, str(name)),) if name else ()


def machine_matters(change: Change) -> bool:
    """Whether a Machine's version is another, asked or run."""
    if not owned(change):
        return False
    return existence(change) or change.differs("spec", "version") or change.differs("status", "nodeInfo") or change.differs("metadata", "labels")


def _owned_matters(change: Change) -> bool:
    return owned(change) and asked(change)


def _pool_matters(change: Change) -> bool:
    return owned(change) and (asked(change) or change.differs("status", "nodeRefs"))


def _node_matters(change: Change) -> bool:
    return existence(change) or change.differs("status", "nodeInfo", "kubeletVersion")


def _pooled(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The Cluster of the Node or connection, if its topology has pools: their versions are told by Nodes alone."""
    key = ObjectKey(*CLUSTER, change.key.namespace, change.key.name)
    found = (key,) if change.key.group_kind == CONNECTION else the_cluster(CLUSTER)(change, lookup)
    for one in found:
        cluster = lookup.read(Cluster, one)
        if cluster is not None and cluster.spec.topology is not None and cluster.spec.topology.workers.machine_pools:
            yield one


def _of(model: type[KubeObject]) -> GroupKind:
    return GroupKind(model.GROUP, model.KIND)


WATCHES = (
    Watch(CLASS, classed, class_matters),
    Watch(_of(Machine), the_cluster(CLUSTER), machine_matters),
    Watch(_of(MachineDeployment), the_cluster(CLUSTER), _owned_matters),
    Watch(_of(MachinePool), the_cluster(CLUSTER), _pool_matters),
    Watch(_of(MachineHealthCheck), the_cluster(CLUSTER), _owned_matters),
    Watch(NODE, _pooled, _node_matters),
    Watch(CONNECTION, _pooled),
    Watch(ANY_KIND, of_any_kind, any_kind_matters),
)
