"""What a decision about a Machine is made from.

Source: kinds.md §2 (what is read), §16 (what wakes it).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fleetwake import labels
from fleetwake.conditions import get
from fleetwake.contracts import BootstrapConfig, ControlPlane, InfraMachine
from fleetwake.kind import External, Failure, View, Workload
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_drain_rule import MachineDrainRule
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.api.core.v1beta2.shared import ContractVersionedObjectReference
from schemas.api.meta import LabelSelector
from schemas.keys import ClusterKey, GroupKind, ObjectKey

Node = Mapping[str, Any]
NODE_SYNC = "node-sync"
"""What ``view.local`` calls the further keys that Nodes get."""


@dataclass(frozen=True, slots=True)
class NodeSync:
    """Which labels and annotations of Machines their Nodes get beyond Cluster API's own domains: keys in which a pattern is found."""

    labels: tuple[re.Pattern[str], ...] = ()
    annotations: tuple[re.Pattern[str], ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """A Machine and everything its decision reads.

    ``control_plane``, ``control_plane_machine_left`` and ``drain_rules`` are read only while the Machine is being deleted. ``*_readable`` tells
    whether the contract version of the referenced kind is known. ``control_plane_machine_left``: some control plane Machine is not being deleted.
    """

    at: datetime
    machine: Machine
    cluster: Cluster | None
    bootstrap: BootstrapConfig | None = None
    bootstrap_readable: bool = True
    infra: InfraMachine | None = None
    infra_readable: bool = True
    machine_set: MachineSet | None = None
    machine_deployment: MachineDeployment | None = None
    control_plane: ControlPlane | None = None
    control_plane_machine_left: bool = True
    drain_rules: tuple[MachineDrainRule, ...] = ()
    workload: Workload = field(default_factory=Workload)
    failure: Failure | None = None
    node_sync: NodeSync = NodeSync()

    @property
    def cluster_key(self) -> ClusterKey:
        """The Cluster the Machine belongs to."""
        return ClusterKey(self.machine.namespace, self.machine.spec.cluster_name)

    @property
    def provider_id(self) -> str:
        """The identity of the host: as recorded, else as the infrastructure reports it by now; ``""`` while unknown."""
        return self.machine.spec.provider_id or (self.infra.provider_id if self.infra else "")

    @property
    def node(self) -> Node | None:
        """The Node: by provider identity; none when two claim it, because then neither can be trusted."""
        wanted = self.provider_id
        found = [node for node in self.workload.nodes if wanted and node.get("spec", {}).get("providerID") == wanted]
        return found[0] if len(found) == 1 else None

    @property
    def node_name(self) -> str:
        """The name of the Node: as recorded, else of the Node found; ``""`` when there is none."""
        ref = self.machine.status.node_ref
        if ref is not None:
            return ref.name
        node = self.node
        return str(node["metadata"]["name"]) if node is not None else ""

    @property
    def named_node(self) -> Node | None:
        """The Node called as recorded, whatever its provider identity."""
        return next((node for node in self.workload.nodes if node["metadata"]["name"] == self.node_name), None)

    @property
    def control_plane_initialized(self) -> datetime | None:
        """Since when the Cluster's control plane is initialized."""
        stored = get(self.cluster.status.conditions, "ControlPlaneInitialized") if self.cluster is not None else None
        return stored.last_transition_time if stored is not None and stored.status == "True" else None


def observe(view: View, key: ObjectKey) -> Observed | None:
    """Read a Machine and what belongs to it; None when it is gone."""
    machine = view.get(Machine, key.namespace, key.name)
    if machine is None:
        return None
    cluster_key = ClusterKey(key.namespace, machine.spec.cluster_name)
    cluster = view.get(Cluster, key.namespace, machine.spec.cluster_name)
    bootstrap, bootstrap_readable = _referred(view, key.namespace, machine.spec.bootstrap.config_ref)
    infra, infra_readable = _referred(view, key.namespace, machine.spec.infrastructure_ref)
    machine_set = _machine_set(view, machine)
    deleting = machine.metadata.deleting
    control_plane = _referred(view, key.namespace, cluster.spec.control_plane_ref)[0] if deleting and cluster is not None else None
    return Observed(
        at=view.at,
        machine=machine,
        cluster=cluster,
        bootstrap=BootstrapConfig(bootstrap) if bootstrap is not None else None,
        bootstrap_readable=bootstrap_readable,
        infra=InfraMachine(infra) if infra is not None else None,
        infra_readable=infra_readable,
        machine_set=machine_set,
        machine_deployment=_machine_deployment(view, machine_set),
        control_plane=ControlPlane(control_plane) if control_plane is not None else None,
        control_plane_machine_left=not deleting or _control_plane_machine_left(view, cluster_key),
        drain_rules=view.select(MachineDrainRule, key.namespace, LabelSelector()) if deleting else (),
        workload=view.workload(cluster_key),
        failure=view.failure(),
        node_sync=view.local(NODE_SYNC) or NodeSync(),
    )


def _referred(view: View, namespace: str, ref: ContractVersionedObjectReference | None) -> tuple[External | None, bool]:
    """The object behind a reference and whether its contract version is known."""
    if ref is None:
        return None, True
    kind = GroupKind(ref.api_group, ref.kind)
    return view.external(kind, namespace, ref.name), bool(view.api_version(kind))


def _machine_set(view: View, machine: Machine) -> MachineSet | None:
    for ref in machine.metadata.owner_references:
        if (ref.group, ref.kind) == (MachineSet.GROUP, MachineSet.KIND):
            return view.get(MachineSet, machine.namespace, ref.name)
    return None


def _machine_deployment(view: View, machine_set: MachineSet | None) -> MachineDeployment | None:
    name = machine_set.metadata.labels.get(labels.DEPLOYMENT_NAME) if machine_set is not None else None
    return view.get(MachineDeployment, machine_set.namespace, name) if machine_set is not None and name else None


def _control_plane_machine_left(view: View, cluster: ClusterKey) -> bool:
    machines = view.of_cluster(Machine, cluster)
    return any(labels.CONTROL_PLANE in one.metadata.labels and not one.metadata.deleting for one in machines)
