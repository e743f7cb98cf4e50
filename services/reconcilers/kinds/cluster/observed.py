"""What a decision about a Cluster is made from.

Source: kinds.md §1 (what is read), §16 (what wakes it).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from fleetwake.contracts import ControlPlane, InfraCluster
from fleetwake.kind import Failure, View, Workload
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.cluster_class import ClusterClass
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_pool import MachinePool
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.api.core.v1beta2.shared import AvailabilityGates, ContractVersionedObjectReference
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from services.reconcilers.kinds.kubeconfig import secret_key


@dataclass(frozen=True, slots=True)
class Observed:
    """A Cluster and everything its decision reads. Collections are ordered by name and include objects being deleted.

    ``infra_readable`` and ``control_plane_readable`` tell whether the contract version of the referenced kind is known (True without a reference).
    """

    at: datetime
    cluster: Cluster
    infra: InfraCluster | None = None
    infra_readable: bool = True
    control_plane: ControlPlane | None = None
    control_plane_readable: bool = True
    class_gates: AvailabilityGates = ()
    machines: tuple[Machine, ...] = ()
    machine_deployments: tuple[MachineDeployment, ...] = ()
    machine_sets: tuple[MachineSet, ...] = ()
    machine_pools: tuple[MachinePool, ...] = ()
    kubeconfig_exists: bool = False
    ca_exists: bool = False
    workload: Workload = field(default_factory=Workload)
    failure: Failure | None = None

    @property
    def key(self) -> ClusterKey:
        """The Cluster's namespace and name."""
        return ClusterKey(self.cluster.namespace, self.cluster.name)


def observe(view: View, key: ObjectKey) -> Observed | None:
    """Read a Cluster and what belongs to it; None when it is gone."""
    cluster = view.get(Cluster, key.namespace, key.name)
    if cluster is None:
        return None
    cluster_key = ClusterKey(key.namespace, key.name)
    infra_ref, control_plane_ref = cluster.spec.infrastructure_ref, cluster.spec.control_plane_ref
    infra = view.external(_kind(infra_ref), key.namespace, infra_ref.name) if infra_ref else None
    control_plane = view.external(_kind(control_plane_ref), key.namespace, control_plane_ref.name) if control_plane_ref else None
    return Observed(
        at=view.at,
        cluster=cluster,
        infra=InfraCluster(infra) if infra else None,
        infra_readable=infra_ref is None or bool(view.api_version(_kind(infra_ref))),
        control_plane=ControlPlane(control_plane) if control_plane else None,
        control_plane_readable=control_plane_ref is None or bool(view.api_version(_kind(control_plane_ref))),
        class_gates=_class_gates(view, cluster),
        machines=view.of_cluster(Machine, cluster_key),
        machine_deployments=view.of_cluster(MachineDeployment, cluster_key),
        machine_sets=view.of_cluster(MachineSet, cluster_key),
        machine_pools=view.of_cluster(MachinePool, cluster_key),
        kubeconfig_exists=control_plane_ref is None and view.exists(secret_key(cluster_key, "kubeconfig")),
        ca_exists=control_plane_ref is None and view.exists(secret_key(cluster_key, "ca")),
        workload=view.workload(cluster_key),
        failure=view.failure(),
    )


def _kind(ref: ContractVersionedObjectReference) -> GroupKind:
    return GroupKind(ref.api_group, ref.kind)


def _class_gates(view: View, cluster: Cluster) -> AvailabilityGates:
    """The availability gates of the class, which count when the Cluster names none of its own."""
    topology = cluster.spec.topology
    if topology is None or cluster.spec.availability_gates:
        return ()
    ref = topology.class_ref
    found = view.get(ClusterClass, ref.namespace or cluster.namespace, ref.name)
    return found.spec.availability_gates if found is not None else ()
