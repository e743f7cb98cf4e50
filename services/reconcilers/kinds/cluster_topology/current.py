"""What exists of a topology, as its decision reads it.

Source: kinds.md §10.1 (owned objects), §10.4 (which of them upgrade).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleetwake import contracts, labels
from fleetwake.kind import External
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_health_check import MachineHealthCheck
from schemas.api.core.v1beta2.machine_pool import MachinePool
from schemas.api.core.v1beta2.topology import MachineDeploymentTopology, MachinePoolTopology, Topology
from schemas.keys import ObjectKey
from services.reconcilers.kinds.cluster_topology.versions import (
    Asked,
    ControlPlaneNow,
    Hooks,
    WorkerWanted,
    concurrency,
    pending_hooks,
)


@dataclass(frozen=True, slots=True)
class CurrentDeployment:
    """A MachineDeployment of the topology and what it refers to; templates are None when they do not exist."""

    deployment: MachineDeployment
    bootstrap: External | None = None
    infrastructure: External | None = None
    machines: tuple[Machine, ...] = ()

    @property
    def topology_name(self) -> str:
        """Its name in the topology."""
        return self.deployment.metadata.labels.get(labels.TOPOLOGY_DEPLOYMENT_NAME, "")

    @property
    def version(self) -> str:
        """The version its Machines shall have."""
        return self.deployment.spec.template.spec.version or ""

    @property
    def upgrading(self) -> bool:
        """Whether some of its Machines are to have, or still run, another version."""
        running = (one.status.node_info.kubelet_version if one.status.node_info else "" for one in self.machines)
        return bool(self.version) and (
            any(one.spec.version != self.version for one in self.machines) or any(kubelet not in ("", self.version) for kubelet in running)
        )


@dataclass(frozen=True, slots=True)
class CurrentPool:
    """A MachinePool of the topology and what it refers to; ``kubelets`` are the versions its Nodes report."""

    pool: MachinePool
    bootstrap: External | None = None
    infrastructure: External | None = None
    kubelets: tuple[str, ...] = ()

    @property
    def topology_name(self) -> str:
        """Its name in the topology."""
        return self.pool.metadata.labels.get(labels.TOPOLOGY_POOL_NAME, "")

    @property
    def version(self) -> str:
        """The version its Machines shall have."""
        return self.pool.spec.template.spec.version or ""

    @property
    def upgrading(self) -> bool:
        """Whether some of its Nodes run another version."""
        return bool(self.version) and any(one != self.version for one in self.kubelets)


@dataclass(frozen=True, slots=True)
class Current:
    """A Cluster and what its topology owns.

    ``deployments`` and ``pools`` are those not being deleted, ``leaving_uids`` the uids of those that are, by their name in the topology: a new one must not be
    given the name of one that is still going. ``health_checks`` are those the topology owns, by name. ``blocking`` are the hooks that hold, with what they say.
    ``made`` are objects that nothing refers to yet, under the names of those that would be made: what a run that died, or whose answers were lost, has left.
    """

    cluster: Cluster
    infrastructure_cluster: External | None = None
    control_plane: External | None = None
    control_plane_machine_template: External | None = None
    deployments: tuple[CurrentDeployment, ...] = ()
    pools: tuple[CurrentPool, ...] = ()
    health_checks: Mapping[str, MachineHealthCheck] = field(default_factory=dict)
    leaving_uids: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    blocking: Mapping[str, str] = field(default_factory=dict)
    made: Mapping[ObjectKey, External] = field(default_factory=dict)

    def deployment(self, topology_name: str) -> CurrentDeployment | None:
        """The MachineDeployment of that name in the topology."""
        return next((one for one in self.deployments if one.topology_name == topology_name), None)

    def pool(self, topology_name: str) -> CurrentPool | None:
        """The MachinePool of that name in the topology."""
        return next((one for one in self.pools if one.topology_name == topology_name), None)


def asked_versions(current: Current, topology: Topology, class_versions: tuple[str, ...]) -> Asked:
    """What the versions of the topology's parts are decided from."""
    metadata = current.cluster.metadata
    workers: tuple[MachineDeploymentTopology | MachinePoolTopology, ...] = (*topology.workers.machine_deployments, *topology.workers.machine_pools)
    existing: tuple[CurrentDeployment | CurrentPool, ...] = (*current.deployments, *current.pools)
    wanted = {one.name for one in workers}
    control_plane = contracts.ControlPlane(current.control_plane) if current.control_plane is not None else None
    return Asked(
        version=topology.version,
        control_plane=ControlPlaneNow(control_plane.version, control_plane.provisioning, control_plane.upgrading) if control_plane is not None else None,
        deployments=[_wanted(one.name, one.metadata.annotations, current.deployment(one.name)) for one in topology.workers.machine_deployments],
        pools=[_wanted(one.name, one.metadata.annotations, current.pool(one.name)) for one in topology.workers.machine_pools],
        leaving=[one.version for one in existing if one.version and one.topology_name not in wanted],
        class_versions=class_versions,
        concurrency=concurrency(metadata.annotations),
        hooks=Hooks(pending_hooks(metadata.annotations.get(labels.PENDING_HOOKS, "")), current.blocking),
    )


def _wanted(name: str, annotations: Mapping[str, str], found: CurrentDeployment | CurrentPool | None) -> WorkerWanted:
    if found is None:
        return WorkerWanted(name, annotations=annotations)
    obj = found.deployment if isinstance(found, CurrentDeployment) else found.pool
    return WorkerWanted(name, found.version, obj.name, annotations, found.upgrading)
