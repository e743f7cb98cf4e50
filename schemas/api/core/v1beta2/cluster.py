"""Cluster: a workload cluster as a whole (cluster.x-k8s.io/v1beta2)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.api.core.v1beta2.shared import (
    GROUP,
    VERSION,
    APIEndpoint,
    AvailabilityGates,
    ContractVersionedObjectReference,
    FailureDeprecatedStatus,
    FailureDomains,
    MachineVersion,
)
from schemas.api.core.v1beta2.topology import Topology
from schemas.api.meta import Conditions, Frozen, KubeObject
from schemas.api.scalars import Port, Positive, Text253, Text256
from schemas.cel import CIDR, added, permanent
from schemas.markers import AGE, ATOMIC, INT64, PAUSED, Column, Rule, condition_column

ClusterPhase = Literal["Pending", "Provisioning", "Provisioned", "Deleting", "Failed", "Unknown"]


class NetworkRanges(Frozen):
    """Ranges of addresses."""

    cidr_blocks: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=43), CIDR], ...],
        Field(min_length=1, max_length=100),
        ATOMIC,
    ]
    """Ranges in CIDR notation, one or two (dual stack)."""


class ClusterNetwork(Frozen):
    """Network of the workload cluster."""

    MIN_PROPERTIES: ClassVar[int] = 1

    api_server_port: Annotated[Port | None, Field(alias="apiServerPort")] = None
    """Port the API server listens on; 6443 by default."""
    services: NetworkRanges | None = None
    """Ranges of Service addresses."""
    pods: NetworkRanges | None = None
    """Ranges of Pod addresses."""
    service_domain: Text253 | None = None
    """DNS domain of Services."""


class ClusterSpec(Frozen):
    """What the Cluster shall be."""

    MIN_PROPERTIES: ClassVar[int] = 1
    RULES: ClassVar[tuple[Rule, ...]] = (
        added(
            "has(self.controlPlaneRef) || has(self.infrastructureRef) || has(self.topology)",
            "one of controlPlaneRef, infrastructureRef and topology must be set",
            reason="FieldValueForbidden",
        ),
        permanent("controlPlaneRef"),
        permanent("infrastructureRef"),
        permanent("topology"),
    )

    paused: bool | None = None
    """Whether controllers leave the Cluster and everything of it alone."""
    cluster_network: ClusterNetwork = ClusterNetwork()
    """Network of the workload cluster."""
    control_plane_endpoint: APIEndpoint = APIEndpoint()
    """Where the API server is reached; set by the user, the infrastructure or the control plane provider."""
    control_plane_ref: ContractVersionedObjectReference | None = None
    """The control plane provider's object."""
    infrastructure_ref: ContractVersionedObjectReference | None = None
    """The infrastructure provider's object."""
    topology: Topology | None = None
    """What is asked of a ClusterClass; controllers then keep all objects of the Cluster in line with it."""
    availability_gates: AvailabilityGates = ()
    """Further conditions that must hold before the Cluster is Available."""


class ClusterInitializationStatus(Frozen):
    """Steps of the first provisioning that are done; they never become false again."""

    MIN_PROPERTIES: ClassVar[int] = 1

    infrastructure_provisioned: bool | None = None
    """Whether the infrastructure provider has reported the Cluster's infrastructure as provisioned."""
    control_plane_initialized: bool | None = None
    """Whether the control plane has once been able to take requests."""


class UpgradePlanVersion(Frozen):
    """A step of an upgrade."""

    version: Text256
    """Kubernetes version of the step."""


StatusVersions = Annotated[tuple[MachineVersion, ...], Field(min_length=1, max_length=32), ATOMIC]
UpgradePlan = Annotated[tuple[UpgradePlanVersion, ...], Field(min_length=1, max_length=32), ATOMIC]


class ClusterControlPlaneStatus(Frozen):
    """Sums over the control plane Machines."""

    desired_replicas: int | None = None
    """Number of Machines asked for."""
    replicas: int | None = None
    """Number of Machines."""
    up_to_date_replicas: int | None = None
    """Machines that are UpToDate."""
    ready_replicas: int | None = None
    """Machines that are Ready."""
    available_replicas: int | None = None
    """Machines that are Available."""
    versions: StatusVersions = ()
    """How many Machines run which version."""
    upgrade_plan: UpgradePlan = ()
    """Versions still to go through, in order."""


class WorkersStatus(Frozen):
    """Sums over the worker Machines."""

    desired_replicas: int | None = None
    """Number of Machines asked for."""
    replicas: int | None = None
    """Number of Machines."""
    up_to_date_replicas: int | None = None
    """Machines that are UpToDate."""
    ready_replicas: int | None = None
    """Machines that are Ready."""
    available_replicas: int | None = None
    """Machines that are Available."""
    versions: StatusVersions = ()
    """How many Machines run which version."""
    upgrade_plan: UpgradePlan = ()
    """Versions still to go through, in order."""


class ClusterStatus(Frozen):
    """What is known about the Cluster."""

    MIN_PROPERTIES: ClassVar[int] = 1

    conditions: Conditions = ()
    """Conditions of the Cluster."""
    initialization: ClusterInitializationStatus = ClusterInitializationStatus()
    """Steps of the first provisioning that are done."""
    control_plane: ClusterControlPlaneStatus = ClusterControlPlaneStatus()
    """Sums over the control plane Machines."""
    workers: WorkersStatus = WorkersStatus()
    """Sums over the worker Machines."""
    failure_domains: FailureDomains = ()
    """Failure domains the infrastructure reports."""
    phase: ClusterPhase | None = None
    """Summary of the Cluster's life; programs read conditions instead."""
    observed_generation: Annotated[Positive, INT64] | None = None
    """metadata.generation that the status was computed from."""
    deprecated: FailureDeprecatedStatus = FailureDeprecatedStatus()
    """Fields kept for readers of older contracts."""


class Cluster(KubeObject):
    """A workload cluster as a whole."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "Cluster"
    PLURAL: ClassVar[str] = "clusters"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("cl",)
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("ClusterClass", ".spec.topology.classRef.name"),
        condition_column("Available", "Available"),
        Column("CP Desired", ".status.controlPlane.desiredReplicas", "integer"),
        Column("CP Current", ".status.controlPlane.replicas", "integer", 10),
        Column("CP Ready", ".status.controlPlane.readyReplicas", "integer", 10),
        Column("CP Available", ".status.controlPlane.availableReplicas", "integer"),
        Column("CP Up-to-date", ".status.controlPlane.upToDateReplicas", "integer"),
        Column("W Desired", ".status.workers.desiredReplicas", "integer"),
        Column("W Current", ".status.workers.replicas", "integer", 10),
        Column("W Ready", ".status.workers.readyReplicas", "integer", 10),
        Column("W Available", ".status.workers.availableReplicas", "integer"),
        Column("W Up-to-date", ".status.workers.upToDateReplicas", "integer"),
        PAUSED,
        Column("Phase", ".status.phase"),
        AGE,
        Column("Version", ".spec.topology.version"),
    )

    spec: ClusterSpec
    """What the Cluster shall be."""
    status: ClusterStatus = ClusterStatus()
    """What is known about the Cluster."""
