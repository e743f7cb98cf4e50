"""Cluster and its topology (cluster.x-k8s.io/v1beta1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AwareDatetime, Field

from schemas.api.core.v1beta1.shared import (
    VERSION,
    AvailabilityGates,
    HealthCheck,
    MachineDeploymentStrategy,
    NodeTimeouts,
    ReadinessGates,
    TemplateMetadata,
    V1Beta2Status,
)
from schemas.api.core.v1beta2 import (
    GROUP,
    ClusterControlPlaneStatus,
    ClusterPhase,
    ControlPlaneTopologyRollout,
    DeprecatedFailure,
    MachineTaints,
    ObjectReference,
    WorkersStatus,
)
from schemas.api.meta import Frozen, KubeObject
from schemas.api.scalars import Label, Text63, Text253, Text256
from schemas.markers import AGE, INT64, OPTIONAL, Column, ListMap


class NetworkRanges(Frozen):
    """Ranges of addresses."""

    cidr_blocks: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=43)], ...], Field(max_length=100)]
    """Ranges in CIDR notation, one or two (dual stack)."""


class ClusterNetwork(Frozen):
    """Network of the workload cluster."""

    api_server_port: Annotated[int | None, Field(alias="apiServerPort")] = None
    """Port the API server listens on; 6443 by default."""
    services: NetworkRanges | None = None
    """Ranges of Service addresses."""
    pods: NetworkRanges | None = None
    """Ranges of Pod addresses."""
    service_domain: Text253 | None = None
    """DNS domain of Services."""


class APIEndpoint(Frozen):
    """Where an API server is reached."""

    host: Annotated[str, Field(max_length=512)] | None = None
    """Host name or address."""
    port: int | None = None
    """Port."""


class ClusterVariable(Frozen):
    """The value of a variable the ClusterClass defines."""

    name: Text256
    """Name of the variable."""
    definition_from: Annotated[str, Field(max_length=256)] | None = None
    """Of no effect."""
    value: Any
    """Any JSON value; must satisfy the variable's schema."""


ClusterVariables = Annotated[tuple[ClusterVariable, ...], Field(max_length=1000), ListMap(("name",))]


class TopologyVariables(Frozen):
    """Values that hold in one part of the topology only."""

    overrides: ClusterVariables = ()
    """Values that replace those of the whole topology."""


class HealthCheckTopology(HealthCheck):
    """Health check of Machines; replaces the class's."""

    enable: bool | None = None
    """Whether the Machines are checked; by default if this or the class defines checks."""


class ControlPlaneTopology(NodeTimeouts):
    """The control plane a topology asks for."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the control plane and its Machines."""
    replicas: int | None = None
    """Number of control plane Machines."""
    rollout: ControlPlaneTopologyRollout = ControlPlaneTopologyRollout()
    """When Machines are replaced."""
    machine_health_check: HealthCheckTopology | None = None
    """Health check of the Machines."""
    taints: MachineTaints = ()
    """Taints for the Nodes."""
    readiness_gates: ReadinessGates = ()
    """Further conditions that must hold before a Machine is Ready."""
    variables: TopologyVariables | None = None
    """Variable values for the control plane only."""


class MachineDeploymentTopology(NodeTimeouts):
    """A MachineDeployment a topology asks for."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the MachineDeployment and its Machines."""
    class_: Annotated[Text256, Field(alias="class")]
    """Class of the ClusterClass's workers."""
    name: Text63
    """Name of the deployment within the topology."""
    failure_domain: Text256 | None = None
    """Failure domain of the Machines."""
    replicas: int | None = None
    """Number of Machines; unset leaves the number to an autoscaler or the MachineDeployment's default."""
    rollout: ControlPlaneTopologyRollout = ControlPlaneTopologyRollout()
    """When Machines are replaced."""
    machine_health_check: HealthCheckTopology | None = None
    """Health check of the Machines."""
    taints: MachineTaints = ()
    """Taints for the Nodes."""
    min_ready_seconds: int | None = None
    """How long a Machine must be ready before it counts as available."""
    readiness_gates: ReadinessGates = ()
    """Further conditions that must hold before a Machine is Ready."""
    strategy: MachineDeploymentStrategy | None = None
    """How Machines are replaced by new ones."""
    variables: TopologyVariables | None = None
    """Variable values for this MachineDeployment only."""


class MachinePoolTopology(NodeTimeouts):
    """A MachinePool a topology asks for."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the MachinePool and its Machines."""
    class_: Annotated[Text256, Field(alias="class")]
    """Class of the ClusterClass's workers."""
    name: Text63
    """Name of the pool within the topology."""
    failure_domains: Annotated[tuple[Text256, ...], Field(max_length=100)] = ()
    """Failure domains the pool may use."""
    taints: MachineTaints = ()
    """Taints for the Nodes."""
    min_ready_seconds: int | None = None
    """How long a Machine must be ready before it counts as available."""
    replicas: int | None = None
    """Number of Machines; unset leaves the number to an autoscaler or the MachinePool's default."""
    variables: TopologyVariables | None = None
    """Variable values for this MachinePool only."""


class WorkersTopology(Frozen):
    """The workers a topology asks for."""

    machine_deployments: Annotated[tuple[MachineDeploymentTopology, ...], Field(max_length=2000), ListMap(("name",))] = ()
    """MachineDeployments of the Cluster."""
    machine_pools: Annotated[tuple[MachinePoolTopology, ...], Field(max_length=2000), ListMap(("name",))] = ()
    """MachinePools of the Cluster."""


class Topology(Frozen):
    """What a user asks of a ClusterClass."""

    class_: Annotated[Text253, Field(alias="class")]
    """Name of the ClusterClass the Cluster is made from."""
    class_namespace: Label | None = None
    """Namespace of the ClusterClass; the Cluster's own by default."""
    version: Text256
    """Kubernetes version of the Cluster."""
    rollout_after: AwareDatetime | None = None
    """Of no effect."""
    control_plane: ControlPlaneTopology = ControlPlaneTopology()
    """The control plane."""
    workers: WorkersTopology | None = None
    """The workers."""
    variables: ClusterVariables = ()
    """Values of the class's variables."""


class ClusterSpec(Frozen):
    """What the Cluster shall be."""

    paused: bool | None = None
    """Whether controllers leave the Cluster and everything of it alone."""
    cluster_network: ClusterNetwork | None = None
    """Network of the workload cluster."""
    control_plane_endpoint: APIEndpoint = APIEndpoint()
    """Where the API server is reached; set by the user, the infrastructure or the control plane provider."""
    control_plane_ref: ObjectReference | None = None
    """The control plane provider's object."""
    infrastructure_ref: ObjectReference | None = None
    """The infrastructure provider's object."""
    topology: Topology | None = None
    """What is asked of a ClusterClass; controllers then keep all objects of the Cluster in line with it."""
    availability_gates: AvailabilityGates = ()
    """Further conditions that must hold before the Cluster is Available."""


class FailureDomainSpec(Frozen):
    """A place Machines can be spread over, as the infrastructure reports it."""

    control_plane: bool | None = None
    """Whether control plane Machines may be placed here."""
    attributes: Mapping[str, str] = Field(default_factory=dict)
    """What else the infrastructure says about it."""


class ClusterV1Beta2Status(V1Beta2Status):
    """The part of the status that became the hub's: conditions without a severity, and sums over Machines."""

    control_plane: ClusterControlPlaneStatus = ClusterControlPlaneStatus()
    """Sums over the control plane Machines."""
    workers: WorkersStatus = WorkersStatus()
    """Sums over the worker Machines."""


class ClusterStatus(DeprecatedFailure):
    """What is known about the Cluster."""

    failure_domains: Mapping[str, FailureDomainSpec] = Field(default_factory=dict)
    """Failure domains the infrastructure reports, by name."""
    phase: ClusterPhase | None = None
    """Summary of the Cluster's life; programs read conditions instead."""
    infrastructure_ready: bool | None = None
    """Whether the infrastructure provider has reported the Cluster's infrastructure as provisioned."""
    control_plane_ready: bool | None = None
    """Whether the control plane has once been able to take requests."""
    observed_generation: Annotated[int, INT64] | None = None
    """metadata.generation that the status was computed from."""
    v1beta2: ClusterV1Beta2Status = Field(default=ClusterV1Beta2Status(), alias="v1beta2")
    """What became the hub's status."""


class Cluster(KubeObject):
    """A workload cluster as a whole."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "Cluster"
    PLURAL: ClassVar[str] = "clusters"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("cl",)
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("ClusterClass", ".spec.topology.class"),
        Column("Phase", ".status.phase"),
        AGE,
        Column("Version", ".spec.topology.version"),
    )

    spec: Annotated[ClusterSpec, OPTIONAL]
    """What the Cluster shall be."""
    status: ClusterStatus = ClusterStatus()
    """What is known about the Cluster."""
