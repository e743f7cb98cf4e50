"""Which changes wake a node group.

Source: kinds.md §15, §16.
"""

from __future__ import annotations

from collections.abc import Iterable

from fleetwake.kind import ANY_KIND, Change, Lookup, Watch, controller_owner, members_of_cluster
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.keys import GroupKind, ObjectKey
from services.autoscaler_bridge.kinds.node_group.observed import Scalable

DEPLOYMENT = GroupKind(MachineDeployment.GROUP, MachineDeployment.KIND)
MACHINE_SET = GroupKind(MachineSet.GROUP, MachineSet.KIND)


def own_change(change: Change) -> bool:
    """Whether the object changed in more than its status, which controllers write all the time."""
    return _existence(change) or change.differs("spec") or change.differs("metadata", "annotations") or change.differs("metadata", "ownerReferences")


def _existence(change: Change) -> bool:
    return change.before is None or change.after is None or change.differs("metadata", "deletionTimestamp")


def machine_matters(change: Change) -> bool:
    """Whether a Machine came, goes, went, or was marked: what decides whether a mark of ours still has a purpose."""
    return _existence(change) or change.differs("metadata", "annotations")


def cluster_matters(change: Change) -> bool:
    """Whether a Cluster changed in its pause, or in what its topology sets."""
    return _existence(change) or change.differs("spec", "paused") or change.differs("spec", "topology")


def template_matters(change: Change) -> bool:
    """Whether what a template tells of its hosts changed."""
    return _existence(change) or change.differs("status")


def of_machine(model: type[Scalable]) -> Watch:
    """The group of a Machine: its controller, or the deployment of the MachineSet that is its controller."""
    kind = GroupKind(model.GROUP, model.KIND)
    if kind != DEPLOYMENT:
        return Watch(GroupKind(Machine.GROUP, Machine.KIND), controller_owner(kind), machine_matters)

    def concerns(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
        for key in controller_owner(MACHINE_SET)(change, lookup):
            found = lookup.read(MachineSet, key)
            owner = found.metadata.controller if found is not None else None
            if owner is not None and owner.kind == MachineDeployment.KIND:
                yield ObjectKey(DEPLOYMENT.group, DEPLOYMENT.kind, key.namespace, owner.name)

    return Watch(GroupKind(Machine.GROUP, Machine.KIND), concerns, machine_matters)


def of_template(model: type[Scalable]) -> Watch:
    """The groups whose hosts are made from a provider's template."""
    kind = GroupKind(model.GROUP, model.KIND)

    def concerns(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
        for key in lookup.namespace_keys(kind, change.key.namespace):
            found = lookup.read(model, key)
            ref = found.spec.template.spec.infrastructure_ref if found is not None else None
            if ref is not None and (ref.api_group, ref.kind, ref.name) == (change.key.group, change.key.kind, change.key.name):
                yield key

    return Watch(ANY_KIND, concerns, template_matters)


def watches(model: type[Scalable]) -> tuple[Watch, ...]:
    """Everything that wakes a group of the kind beside its own changes."""
    kind = GroupKind(model.GROUP, model.KIND)
    return (of_machine(model), Watch(GroupKind(Cluster.GROUP, Cluster.KIND), members_of_cluster(kind), cluster_matters), of_template(model))
