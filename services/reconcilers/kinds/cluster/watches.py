"""Which changes wake a Cluster.

A Cluster reads much, so each relation names exactly what its decision looks at; echoes of what it does not read wake nobody. A condition that says
the same in other words wakes nobody either: a hundred Machines on their way would make the Cluster rewrite its status with every sentence. While the
Cluster repeats what others say it looks again by itself (``conditions.repeating_wait``), so that its words are never old.

Source: kinds.md §16.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fleetwake.kind import ANY_KIND, CONNECTION, Change, Lookup, Watch, the_cluster
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.cluster_class import ClusterClass
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_pool import MachinePool
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.api.meta import KubeObject
from schemas.keys import GroupKind, ObjectKey
from services.reconcilers.kinds.cluster.reconcile import OWNED

CLUSTER = GroupKind(Cluster.GROUP, Cluster.KIND)
SECRET = GroupKind("", "Secret")
MACHINE_CONDITIONS = ("Ready", "Available", "UpToDate", "HealthCheckSucceeded", "OwnerRemediated")


def existence(change: Change) -> bool:
    """Whether the object came, went, or was asked to go."""
    return change.before is None or change.after is None or change.differs("metadata", "deletionTimestamp")


def told_by(state: Mapping[str, Any] | None, types: Iterable[str] = ()) -> dict[str, tuple[Any, ...]]:
    """Status and reason of the conditions (of the given types, else of all); not the message."""
    wanted = set(types)
    found = (state or {}).get("status") or {}
    stored = (found.get("v1beta2") or {}).get("conditions") or found.get("conditions") or ()
    return {one["type"]: (one.get("status"), one.get("reason")) for one in stored if not wanted or one["type"] in wanted}


def _status_matters(change: Change) -> bool:
    """Whether a status differs in more than the words of its conditions."""
    return told_by(change.before) != told_by(change.after) or _without_conditions(change.before) != _without_conditions(change.after)


def _without_conditions(state: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        name: value for name, value in ((state or {}).get("status") or {}).items() if name not in ("conditions", "v1beta2", "deprecated", "observedGeneration")
    }


def own_change(change: Change) -> bool:
    """Whether a change of the Cluster itself is more than our own status write: metadata, spec, a field or condition of somebody else."""
    if existence(change) or change.differs("spec"):
        return True
    if any(change.differs("metadata", name) for name in ("annotations", "finalizers", "labels")):
        return True
    return _foreign_status(change.before) != _foreign_status(change.after)


def _foreign_status(state: Mapping[str, Any] | None) -> list[Any]:
    stored = ((state or {}).get("status") or {}).get("conditions") or ()
    return [one for one in stored if one["type"] not in OWNED.condition_types]


def _machine_matters(change: Change) -> bool:
    if existence(change) or change.differs("metadata", "ownerReferences") or change.differs("metadata", "labels"):
        return True
    if change.differs("status", "nodeRef") or change.differs("status", "nodeInfo", "kubeletVersion") or change.differs("spec", "version"):
        return True
    return told_by(change.before, MACHINE_CONDITIONS) != told_by(change.after, MACHINE_CONDITIONS)


def _maker_matters(change: Change) -> bool:
    return existence(change) or _status_matters(change) or change.differs("spec", "replicas") or change.differs("metadata", "ownerReferences")


def _referred(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The Cluster whose infrastructure or control plane object changed."""
    for key in the_cluster(CLUSTER)(change, lookup):
        cluster = lookup.read(Cluster, key)
        refs = (cluster.spec.infrastructure_ref, cluster.spec.control_plane_ref) if cluster is not None else ()
        if any(ref and (ref.api_group, ref.kind, ref.name) == (change.key.group, change.key.kind, change.key.name) for ref in refs):
            yield key


def _reference_matters(change: Change) -> bool:
    if existence(change) or change.differs("spec") or _status_matters(change):
        return True
    return change.differs("metadata", "ownerReferences") or change.differs("metadata", "labels")


def _classed(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The Clusters of the changed class."""
    for key in lookup.namespace_keys(CLUSTER, ""):
        cluster = lookup.read(Cluster, key)
        topology = cluster.spec.topology if cluster is not None else None
        if topology is not None and (topology.class_ref.namespace or key.namespace, topology.class_ref.name) == (change.key.namespace, change.key.name):
            yield key


def _secret(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The Cluster that makes its kubeconfig itself and whose CA or kubeconfig came or went."""
    if not change.key.name.endswith(("-kubeconfig", "-ca")):
        return
    for key in the_cluster(CLUSTER)(change, lookup):
        cluster = lookup.read(Cluster, key)
        if cluster is not None and cluster.spec.control_plane_ref is None:
            yield key


def _the_key(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    return (ObjectKey(CLUSTER.group, CLUSTER.kind, change.key.namespace, change.key.name),)


def _of(model: type[KubeObject]) -> GroupKind:
    return GroupKind(model.GROUP, model.KIND)


WATCHES = (
    Watch(_of(Machine), the_cluster(CLUSTER), _machine_matters),
    Watch(_of(MachineSet), the_cluster(CLUSTER), _maker_matters),
    Watch(_of(MachineDeployment), the_cluster(CLUSTER), _maker_matters),
    Watch(_of(MachinePool), the_cluster(CLUSTER), _maker_matters),
    Watch(_of(ClusterClass), _classed, lambda change: change.differs("spec", "availabilityGates")),
    Watch(SECRET, _secret, existence),
    Watch(CONNECTION, _the_key),
    Watch(ANY_KIND, _referred, _reference_matters),
)
