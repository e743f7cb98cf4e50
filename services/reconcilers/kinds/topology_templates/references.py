"""Which templates a topology's MachineDeployments and MachineSets refer to, and which of them nothing refers to any more.

Source: kinds.md §10.1 (8); Cluster API v1.14 (templates in use: those of objects that are not being deleted).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fleetwake import labels
from fleetwake.kind import Change, External, View
from fleetwake.patches import MetadataChange, metadata_patch, target, without_finalizer
from fleetwake.plan import Delete, Plan, Step
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.api.core.v1beta2.shared import ContractVersionedObjectReference
from schemas.keys import ClusterKey, GroupKind

CLUSTER = GroupKind(Cluster.GROUP, Cluster.KIND)


@dataclass(frozen=True, slots=True)
class Held:
    """An object that a finalizer holds, and the templates of the topology that only it refers to (while it goes)."""

    obj: MachineDeployment | MachineSet
    paused: bool
    unused: tuple[External, ...] = ()


def held(view: View, obj: MachineDeployment | MachineSet) -> Held | None:
    """Read an object's Cluster, and while the object goes all that may use its templates; None for one that no topology owns."""
    if labels.TOPOLOGY_OWNED not in obj.metadata.labels:
        return None
    cluster = view.get(Cluster, obj.namespace, obj.spec.cluster_name)
    paused = obj.annotated(labels.PAUSED) or (cluster is not None and (bool(cluster.spec.paused) or cluster.annotated(labels.PAUSED)))
    return Held(obj, paused, tuple(_unused(view, obj)) if obj.metadata.deleting else ())


def _unused(view: View, obj: MachineDeployment | MachineSet) -> Iterator[External]:
    cluster = ClusterKey(obj.namespace, obj.spec.cluster_name)
    users: tuple[MachineDeployment | MachineSet, ...] = (*view.of_cluster(MachineDeployment, cluster), *view.of_cluster(MachineSet, cluster))
    used = {(ref.api_group, ref.kind, ref.name) for one in users if not one.metadata.deleting for ref in _references(one)}
    for ref in _references(obj):
        named = (ref.api_group, ref.kind, ref.name)
        found = view.external(GroupKind(ref.api_group, ref.kind), obj.namespace, ref.name) if named not in used else None
        # one that a user made, or made his own, is not ours to take away
        if found is not None and not found.metadata.deleting and labels.TOPOLOGY_OWNED in found.metadata.labels:
            yield found


def _references(obj: MachineDeployment | MachineSet) -> Iterable[ContractVersionedObjectReference]:
    spec = obj.spec.template.spec
    return tuple(ref for ref in (spec.bootstrap.config_ref, spec.infrastructure_ref) if ref is not None)


def plan(found: Held, finalizer: str) -> Plan:
    """Hold the object, or take its unused templates away and let it go."""
    obj = found.obj
    if found.paused:
        return Plan()
    if not obj.metadata.deleting:
        if finalizer in obj.metadata.finalizers:
            return Plan()
        kept = metadata_patch(target(obj), MetadataChange(finalizers=(*obj.metadata.finalizers, finalizer)), "its templates go when it goes")
        return Plan((kept,) if kept is not None else ())
    last = without_finalizer(target(obj), finalizer, "its templates are gone, or others use them")
    if last is None:
        return Plan()
    reason = f"nothing refers to it besides the {obj.KIND} {obj.name}, which goes"
    steps: tuple[Step, ...] = tuple(Delete(one.key, one.api_version, one.metadata.uid, reason) for one in found.unused)
    return Plan((*steps, last), rests_on_absence=True)


def owned_change(change: Change) -> bool:
    """Whether the object is a topology's, and was made, asked to go, held or let go."""
    if labels.TOPOLOGY_OWNED not in (change.state.get("metadata", {}).get("labels") or {}):
        return False
    names = ("deletionTimestamp", "finalizers", "labels", "annotations")
    return change.before is None or any(change.differs("metadata", name) for name in names)


def pause_matters(change: Change) -> bool:
    """Whether a Cluster was paused, or goes on."""
    return change.differs("spec", "paused") or change.differs("metadata", "annotations", labels.PAUSED)
