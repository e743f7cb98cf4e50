"""What a decision about a MachineHealthCheck is made from.

Source: kinds.md §5 (steps 1 and 2), §16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fleetwake import labels
from fleetwake.cloning import TEMPLATE_SUFFIX, made_kind
from fleetwake.conditions import get
from fleetwake.kind import External, Failure, View, Workload
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_health_check import MachineHealthCheck
from schemas.keys import ClusterKey, GroupKind, ObjectKey

CONTROL_PLANE_INITIALIZED, INFRASTRUCTURE_READY = "ControlPlaneInitialized", "InfrastructureReady"
Node = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Observed:
    """A MachineHealthCheck, its Cluster, the Machines it targets (ordered by name) and what is known of their Nodes (by name).

    ``others`` are the other checks of the Cluster that are at work. ``template`` is what ``spec.remediation.templateRef`` names; ``requests`` are the objects
    made from it, by the name of their Machine. ``template_readable``: the template's kind is one that the watcher carries.
    """

    at: datetime
    check: MachineHealthCheck
    cluster: Cluster | None
    machines: tuple[Machine, ...] = ()
    workload: Workload = field(default_factory=Workload)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    others: tuple[MachineHealthCheck, ...] = ()
    template: External | None = None
    template_readable: bool = True
    requests: Mapping[str, External] = field(default_factory=dict)
    failure: Failure | None = None

    @property
    def initialized(self) -> bool:
        """Whether the control plane takes requests: from then on Machines are judged by their Nodes, and only while these can be seen."""
        return self.since(CONTROL_PLANE_INITIALIZED) is not None

    def since(self, type_: str) -> datetime | None:
        """Since when a condition of the Cluster is True; None when it is not."""
        found = get(self.cluster.status.conditions, type_) if self.cluster is not None else None
        return found.last_transition_time if found is not None and found.status == "True" else None

    def node(self, machine: Machine) -> Node | None:
        """The Node that the Machine refers to."""
        ref = machine.status.node_ref
        return self.nodes.get(ref.name) if ref is not None else None


def targeted(check: MachineHealthCheck, carried: Mapping[str, str], annotations: Mapping[str, str]) -> bool:
    """Whether a Machine with these labels and annotations is a target: the paused and those that a user excepts are none."""
    if labels.PAUSED in annotations or labels.SKIP_REMEDIATION in annotations:
        return False
    return selected(check, carried)


def selected(check: MachineHealthCheck, carried: Mapping[str, str]) -> bool:
    """Whether the selector and the name of the Cluster match."""
    return carried.get(labels.CLUSTER_NAME) == check.spec.cluster_name and check.spec.selector.matches(carried)


def request_kind(check: MachineHealthCheck, template: External | None) -> GroupKind | None:
    """The kind of the external remediation requests; None when the owners of Machines remediate."""
    if template is not None:
        return made_kind(template)
    ref = check.spec.remediation.template_ref
    return GroupKind(ref.group, ref.kind.removesuffix(TEMPLATE_SUFFIX)) if ref is not None else None


def observe(view: View, key: ObjectKey) -> Observed | None:
    """Read a MachineHealthCheck and what it judges; None when it is gone."""
    check = view.get(MachineHealthCheck, key.namespace, key.name)
    if check is None:
        return None
    cluster_key = ClusterKey(key.namespace, check.spec.cluster_name)
    machines = tuple(machine for machine in view.of_cluster(Machine, cluster_key) if targeted(check, machine.metadata.labels, machine.metadata.annotations))
    workload = view.workload(cluster_key)
    ref = check.spec.remediation.template_ref
    template = view.external(GroupKind(ref.group, ref.kind), key.namespace, ref.name) if ref is not None else None
    kind = request_kind(check, template)
    found = {machine.name: view.external(kind, key.namespace, machine.name) for machine in machines} if kind is not None else {}
    return Observed(
        at=view.at,
        check=check,
        cluster=view.get(Cluster, key.namespace, check.spec.cluster_name),
        machines=machines,
        workload=workload,
        nodes={str(node["metadata"]["name"]): node for node in workload.nodes},
        others=tuple(
            other
            for other in view.of_cluster(MachineHealthCheck, cluster_key)
            if other.name != check.name and not other.metadata.deleting and not other.annotated(labels.PAUSED)
        ),
        template=template,
        template_readable=ref is None or bool(view.api_version(GroupKind(ref.group, ref.kind))),
        requests={name: request for name, request in found.items() if request is not None},
        failure=view.failure(),
    )
