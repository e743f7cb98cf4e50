"""The topology of a Cluster: what a user asks of a ClusterClass (cluster.x-k8s.io/v1beta2)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import AwareDatetime, Field

from schemas.api.core.v1beta2.machine_set import MachineDeletionOrder
from schemas.api.core.v1beta2.shared import (
    HealthCheckRemediation,
    MachineDeploymentHealthCheckRemediation,
    MachineDeploymentRollout,
    MachineHealthChecks,
    MachineTaints,
    NodeTimeouts,
    ReadinessGates,
    TemplateMetadata,
)
from schemas.api.meta import Frozen
from schemas.api.scalars import Label, NonNegative, Subdomain, Text256, TopologyName
from schemas.cel import KUBERNETES_VERSION
from schemas.markers import ATOMIC, ListMap


class ClusterClassRef(Frozen):
    """A reference to a ClusterClass."""

    name: Subdomain
    """Name of the ClusterClass."""
    namespace: Label | None = None
    """Namespace of the ClusterClass; the Cluster's own by default."""


class ClusterVariable(Frozen):
    """The value of a variable the ClusterClass defines."""

    name: Text256
    """Name of the variable."""
    value: Any
    """Any JSON value; must satisfy the variable's schema."""


ClusterVariables = Annotated[tuple[ClusterVariable, ...], Field(min_length=1, max_length=1000), ListMap(("name",))]


class TopologyVariables(Frozen):
    """Values that hold in one part of the topology only."""

    MIN_PROPERTIES: ClassVar[int] = 1

    overrides: ClusterVariables = ()
    """Values that replace those of the whole topology."""


class ControlPlaneTopologyRollout(Frozen):
    """When control plane Machines are replaced."""

    MIN_PROPERTIES: ClassVar[int] = 1

    after: AwareDatetime | None = None
    """Replace Machines created before this time, once it has passed."""


class ControlPlaneTopologyHealthCheck(Frozen):
    """Health check of the control plane Machines; replaces the class's."""

    MIN_PROPERTIES: ClassVar[int] = 1

    enabled: bool | None = None
    """Whether the Machines are checked; by default if this or the class defines checks."""
    checks: MachineHealthChecks = MachineHealthChecks()
    """What makes a Machine unhealthy."""
    remediation: HealthCheckRemediation = HealthCheckRemediation()
    """When and how unhealthy Machines are remediated."""


class MachineDeploymentTopologyHealthCheck(Frozen):
    """Health check of the Machines of a MachineDeployment; replaces the class's."""

    MIN_PROPERTIES: ClassVar[int] = 1

    enabled: bool | None = None
    """Whether the Machines are checked; by default if this or the class defines checks."""
    checks: MachineHealthChecks = MachineHealthChecks()
    """What makes a Machine unhealthy."""
    remediation: MachineDeploymentHealthCheckRemediation = MachineDeploymentHealthCheckRemediation()
    """When and how unhealthy Machines are remediated."""


class ControlPlaneTopologyDeletion(NodeTimeouts):
    """How the deletion of control plane Machines proceeds."""


class MachineDeploymentTopologyDeletion(NodeTimeouts):
    """How the deletion of the deployment's Machines proceeds."""

    order: MachineDeletionOrder | None = None
    """Order in which Machines are picked for deletion."""


class MachinePoolTopologyDeletion(NodeTimeouts):
    """How the deletion of the pool's Machines proceeds."""


class ControlPlaneTopology(Frozen):
    """The control plane a topology asks for."""

    MIN_PROPERTIES: ClassVar[int] = 1

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the control plane and its Machines."""
    replicas: int | None = None
    """Number of control plane Machines."""
    rollout: ControlPlaneTopologyRollout = ControlPlaneTopologyRollout()
    """When Machines are replaced."""
    health_check: ControlPlaneTopologyHealthCheck = ControlPlaneTopologyHealthCheck()
    """Health check of the Machines."""
    deletion: ControlPlaneTopologyDeletion = ControlPlaneTopologyDeletion()
    """How the deletion of Machines proceeds."""
    taints: MachineTaints = ()
    """Taints for the Nodes."""
    readiness_gates: ReadinessGates = ()
    """Further conditions that must hold before a Machine is Ready."""
    variables: TopologyVariables = TopologyVariables()
    """Variable values for the control plane only."""


class MachineDeploymentTopology(Frozen):
    """A MachineDeployment a topology asks for."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the MachineDeployment and its Machines."""
    class_: Annotated[Text256, Field(alias="class")]
    """Class of the ClusterClass's workers."""
    name: TopologyName
    """Name of the deployment within the topology."""
    failure_domain: Text256 | None = None
    """Failure domain of the Machines."""
    replicas: int | None = None
    """Number of Machines; unset leaves the number to an autoscaler or the MachineDeployment's default."""
    health_check: MachineDeploymentTopologyHealthCheck = MachineDeploymentTopologyHealthCheck()
    """Health check of the Machines."""
    deletion: MachineDeploymentTopologyDeletion = MachineDeploymentTopologyDeletion()
    """How the deletion of Machines proceeds."""
    taints: MachineTaints = ()
    """Taints for the Nodes."""
    min_ready_seconds: NonNegative | None = None
    """How long a Machine must be ready before it counts as available."""
    readiness_gates: ReadinessGates = ()
    """Further conditions that must hold before a Machine is Ready."""
    rollout: MachineDeploymentRollout = MachineDeploymentRollout()
    """When and how Machines are replaced."""
    variables: TopologyVariables = TopologyVariables()
    """Variable values for this MachineDeployment only."""


class MachinePoolTopology(Frozen):
    """A MachinePool a topology asks for."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the MachinePool and its Machines."""
    class_: Annotated[Text256, Field(alias="class")]
    """Class of the ClusterClass's workers."""
    name: TopologyName
    """Name of the pool within the topology."""
    failure_domains: Annotated[tuple[Text256, ...], Field(min_length=1, max_length=100), ATOMIC] = ()
    """Failure domains the pool may use."""
    deletion: MachinePoolTopologyDeletion = MachinePoolTopologyDeletion()
    """How the deletion of Machines proceeds."""
    taints: MachineTaints = ()
    """Taints for the Nodes."""
    min_ready_seconds: NonNegative | None = None
    """How long a Machine must be ready before it counts as available."""
    replicas: int | None = None
    """Number of Machines; unset leaves the number to an autoscaler or the MachinePool's default."""
    variables: TopologyVariables = TopologyVariables()
    """Variable values for this MachinePool only."""


class WorkersTopology(Frozen):
    """The workers a topology asks for."""

    MIN_PROPERTIES: ClassVar[int] = 1

    machine_deployments: Annotated[tuple[MachineDeploymentTopology, ...], Field(min_length=1, max_length=2000), ListMap(("name",))] = ()
    """MachineDeployments of the Cluster."""
    machine_pools: Annotated[tuple[MachinePoolTopology, ...], Field(min_length=1, max_length=2000), ListMap(("name",))] = ()
    """MachinePools of the Cluster."""


class Topology(Frozen):
    """What a user asks of a ClusterClass."""

    class_ref: ClusterClassRef
    """The ClusterClass the Cluster is made from."""
    version: Annotated[Text256, KUBERNETES_VERSION]
    """Kubernetes version of the Cluster."""
    control_plane: ControlPlaneTopology = ControlPlaneTopology()
    """The control plane."""
    workers: WorkersTopology = WorkersTopology()
    """The workers."""
    variables: ClusterVariables = ()
    """Values of the class's variables."""
