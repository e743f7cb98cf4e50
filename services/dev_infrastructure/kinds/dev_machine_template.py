"""DevMachineTemplate: tells what an emulated host has, so that a node group without any can be scaled up.

Source: kinds.md §14; contracts.md §3 (``status.capacity``); Cluster API's opt-in autoscaling from zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fleetwake import labels
from fleetwake.kind import Change, Kind, View, Watch, members_of_cluster
from fleetwake.patches import status_apply
from fleetwake.plan import Plan
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.infrastructure.v1beta2 import DevMachineTemplate
from schemas.keys import GroupKind, ObjectKey

MANAGER = "capi-devmachinetemplate"
RESOURCES: Mapping[str, str] = {"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"}
"""What every emulated host has."""

CLUSTER = GroupKind(Cluster.GROUP, Cluster.KIND)


@dataclass(frozen=True, slots=True)
class Observed:
    """A DevMachineTemplate; ``paused``: nothing of it may be touched."""

    template: DevMachineTemplate
    paused: bool


def observe(view: View, key: ObjectKey) -> Observed | None:
    """Read a template, and its Cluster where that owns it already."""
    template = view.get(DevMachineTemplate, key.namespace, key.name)
    if template is None:
        return None
    owner = next((ref for ref in template.metadata.owner_references if GroupKind(ref.group, ref.kind) == CLUSTER), None)
    cluster = view.get(Cluster, key.namespace, owner.name) if owner is not None else None
    return Observed(template, template.annotated(labels.PAUSED) or (cluster is not None and bool(cluster.spec.paused)))


def reconcile(observed: Observed) -> Plan:
    """Tell the resources of a host, once."""
    template = observed.template
    if observed.paused or template.metadata.deleting:
        return Plan()
    step = status_apply(template, MANAGER, {"capacity": dict(RESOURCES)})
    return Plan((step,) if step is not None else ())


def cluster_matters(change: Change) -> bool:
    """Whether a Cluster was paused, or goes on."""
    return change.differs("spec", "paused")


KIND: Kind[Observed] = Kind(
    model=DevMachineTemplate,
    observe=observe,
    reconcile=reconcile,
    manager=MANAGER,
    watches=(Watch(CLUSTER, members_of_cluster(GroupKind(DevMachineTemplate.GROUP, DevMachineTemplate.KIND)), cluster_matters),),
)
