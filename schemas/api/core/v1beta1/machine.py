"""Machine: one host (cluster.x-k8s.io/v1beta1)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field

from schemas.api.core.v1beta1.shared import VERSION, NodeTimeouts, ReadinessGates, TemplateMetadata, V1Beta2Status
from schemas.api.core.v1beta2 import GROUP, DeprecatedFailure, MachineAddress, MachineDeletionStatus, MachineTaints, NodeSystemInfo, ObjectReference
from schemas.api.meta import Frozen, KubeObject
from schemas.api.scalars import Text63, Text256, Text512
from schemas.markers import AGE, INT64, OPTIONAL, Column


class Bootstrap(Frozen):
    """Where the bootstrap data of the host comes from; one of the two."""

    config_ref: ObjectReference | None = None
    """The bootstrap provider's object that makes the data."""
    data_secret_name: Annotated[str, Field(min_length=0, max_length=253)] | None = None
    """Name of the Secret that holds the data; set by the user, or by the controller once the data exists."""


class MachineSpec(NodeTimeouts):
    """What the Machine shall be."""

    cluster_name: Text63
    """Name of the Cluster the Machine belongs to; immutable."""
    bootstrap: Bootstrap
    """Where the bootstrap data comes from."""
    infrastructure_ref: ObjectReference
    """The infrastructure provider's object that stands for the host."""
    version: Text256 | None = None
    """Kubernetes version of the Node, with or without a leading v."""
    provider_id: Annotated[Text512 | None, Field(alias="providerID")] = None
    """Identity of the host at its infrastructure; equals the Node's spec.providerID."""
    failure_domain: Text256 | None = None
    """Failure domain the host shall be placed in."""
    readiness_gates: ReadinessGates = ()
    """Further conditions that must hold before the Machine is Ready."""
    taints: MachineTaints = ()
    """Taints for the Node."""


class MachineTemplateSpec(Frozen):
    """What Machines made from a MachineSet, MachineDeployment or MachinePool look like."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the Machines."""
    spec: Annotated[MachineSpec, OPTIONAL]
    """Spec of the Machines."""


class MachineStatus(DeprecatedFailure):
    """What is known about the Machine."""

    node_ref: ObjectReference | None = None
    """The Node, once it has joined."""
    node_info: NodeSystemInfo | None = None
    """What the Node reports about itself."""
    last_updated: AwareDatetime | None = None
    """When the phase last changed."""
    addresses: tuple[MachineAddress, ...] = ()
    """Addresses of the host."""
    phase: Literal["Pending", "Provisioning", "Provisioned", "Running", "Deleting", "Deleted", "Failed", "Unknown"] | None = None
    """Summary of the Machine's life; programs read conditions instead."""
    certificates_expiry_date: AwareDatetime | None = None
    """When the first certificate of a control plane Machine expires."""
    bootstrap_ready: bool | None = None
    """Whether the bootstrap provider has reported its data as ready."""
    infrastructure_ready: bool | None = None
    """Whether the infrastructure provider has reported the host as provisioned."""
    observed_generation: Annotated[int, INT64] | None = None
    """metadata.generation that the status was computed from."""
    deletion: MachineDeletionStatus = MachineDeletionStatus()
    """When the steps of the deletion began."""
    v1beta2: V1Beta2Status = Field(default=V1Beta2Status(), alias="v1beta2")
    """What became the hub's status."""


class Machine(KubeObject):
    """One host that becomes a Node of a workload cluster."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "Machine"
    PLURAL: ClassVar[str] = "machines"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("ma",)
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Cluster", ".spec.clusterName"),
        Column("NodeName", ".status.nodeRef.name"),
        Column("ProviderID", ".spec.providerID"),
        Column("Phase", ".status.phase"),
        AGE,
        Column("Version", ".spec.version"),
    )

    spec: Annotated[MachineSpec, OPTIONAL]
    """What the Machine shall be."""
    status: MachineStatus = MachineStatus()
    """What is known about the Machine."""
