"""Machine: one host that becomes a Node (cluster.x-k8s.io/v1beta2)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field

from schemas.api.core.v1beta2.shared import (
    GROUP,
    VERSION,
    ContractVersionedObjectReference,
    FailureDeprecatedStatus,
    MachineAddress,
    MachineTaints,
    NodeTimeouts,
    ReadinessGates,
    TemplateMetadata,
)
from schemas.api.meta import Conditions, Frozen, KubeObject
from schemas.api.scalars import NonNegative, Positive, Subdomain, Text63, Text256, Text512
from schemas.cel import IMMUTABLE, KUBERNETES_VERSION
from schemas.markers import AGE, ATOMIC, INT64, PAUSED, Column, condition_column

MachinePhase = Literal["Pending", "Provisioning", "Provisioned", "Running", "Updating", "Deleting", "Deleted", "Failed", "Unknown"]


class Bootstrap(Frozen):
    """Where the data comes from that turns the host into a Node."""

    config_ref: ContractVersionedObjectReference | None = None
    """The bootstrap provider's object that makes the data."""
    data_secret_name: Annotated[str, Field(min_length=0, max_length=253)] | None = None
    """Name of the Secret that holds the data; set by the user, or by the controller once the data exists."""


class MachineDeletion(NodeTimeouts):
    """How the deletion of the Machine proceeds."""


class MachineSpec(Frozen):
    """What the Machine shall be."""

    cluster_name: Annotated[Text63, IMMUTABLE]
    """Name of the Cluster the Machine belongs to; immutable."""
    bootstrap: Bootstrap
    """Where the bootstrap data comes from."""
    infrastructure_ref: ContractVersionedObjectReference
    """The infrastructure provider's object that stands for the host."""
    version: Annotated[Text256, KUBERNETES_VERSION] | None = None
    """Kubernetes version of the Node, with or without a leading v."""
    provider_id: Annotated[Text512 | None, Field(alias="providerID")] = None
    """Identity of the host at its infrastructure; equals the Node's spec.providerID."""
    failure_domain: Text256 | None = None
    """Failure domain the host shall be placed in."""
    min_ready_seconds: NonNegative | None = None
    """How long the Machine must be ready before it counts as available."""
    readiness_gates: ReadinessGates = ()
    """Further conditions that must hold before the Machine is Ready."""
    deletion: MachineDeletion = MachineDeletion()
    """How the deletion of the Machine proceeds."""
    taints: MachineTaints = ()
    """Taints for the Node."""


class MachineNodeReference(Frozen):
    """A Node of the workload cluster."""

    name: Subdomain
    """Name of the Node."""


class MachineInitializationStatus(Frozen):
    """Steps of the first provisioning that are done; they never become false again."""

    MIN_PROPERTIES: ClassVar[int] = 1

    infrastructure_provisioned: bool | None = None
    """Whether the infrastructure provider has reported the host as provisioned."""
    bootstrap_data_secret_created: bool | None = None
    """Whether the bootstrap provider has reported its data as ready."""


class MachineDeletionStatus(Frozen):
    """When the steps of the deletion began."""

    node_drain_start_time: AwareDatetime | None = None
    """When draining the Node began."""
    wait_for_node_volume_detach_start_time: AwareDatetime | None = None
    """When waiting for volumes to detach began."""
    wait_for_pre_drain_hook_start_time: AwareDatetime | None = None
    """When waiting for pre-drain hooks began."""
    wait_for_pre_terminate_hook_start_time: AwareDatetime | None = None
    """When waiting for pre-terminate hooks began."""


class NodeSwapStatus(Frozen):
    """Swap of a Node (corev1)."""

    capacity: Annotated[int, INT64] | None = None
    """Total swap in bytes."""


class NodeSystemInfo(Frozen):
    """What a Node reports about itself (corev1)."""

    machine_id: Annotated[str, Field(alias="machineID")]
    """Machine id of the host's operating system."""
    system_uuid: Annotated[str, Field(alias="systemUUID")]
    """UUID of the host's hardware."""
    boot_id: Annotated[str, Field(alias="bootID")]
    """Identity of the current boot."""
    kernel_version: str
    """Kernel version."""
    os_image: str
    """Operating system image."""
    container_runtime_version: str
    """Container runtime and its version."""
    kubelet_version: str
    """Version of the kubelet."""
    kube_proxy_version: str
    """Version of kube-proxy; deprecated by Kubernetes."""
    operating_system: str
    """Operating system family."""
    architecture: str
    """CPU architecture."""
    swap: NodeSwapStatus | None = None
    """Swap of the Node."""


class MachineStatus(Frozen):
    """What is known about the Machine."""

    MIN_PROPERTIES: ClassVar[int] = 1

    conditions: Conditions = ()
    """Conditions of the Machine."""
    initialization: MachineInitializationStatus = MachineInitializationStatus()
    """Steps of the first provisioning that are done."""
    node_ref: MachineNodeReference | None = None
    """The Node, once it has joined."""
    node_info: NodeSystemInfo | None = None
    """What the Node reports about itself."""
    last_updated: AwareDatetime | None = None
    """When the phase last changed."""
    addresses: Annotated[tuple[MachineAddress, ...], Field(max_length=256), ATOMIC] = ()
    """Addresses of the host."""
    failure_domain: Text256 | None = None
    """Failure domain the host was placed in."""
    phase: MachinePhase | None = None
    """Summary of the Machine's life; programs read conditions instead."""
    certificates_expiry_date: AwareDatetime | None = None
    """When the first certificate of a control plane Machine expires."""
    observed_generation: Annotated[Positive, INT64] | None = None
    """metadata.generation that the status was computed from."""
    deletion: MachineDeletionStatus = MachineDeletionStatus()
    """When the steps of the deletion began."""
    deprecated: FailureDeprecatedStatus = FailureDeprecatedStatus()
    """Fields kept for readers of older contracts."""


class MachineTemplateSpec(Frozen):
    """What Machines made from a MachineSet, MachineDeployment or MachinePool look like."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the Machines."""
    spec: MachineSpec
    """Spec of the Machines."""


class Machine(KubeObject):
    """One host that becomes a Node of a workload cluster."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "Machine"
    PLURAL: ClassVar[str] = "machines"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("ma",)
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Cluster", ".spec.clusterName"),
        Column("Node Name", ".status.nodeRef.name"),
        Column("Provider ID", ".spec.providerID", priority=10),
        Column("Failure domain", ".status.failureDomain"),
        condition_column("Ready", "Ready"),
        condition_column("Available", "Available"),
        condition_column("Up-to-date", "UpToDate"),
        Column("Internal-IP", '.status.addresses[?(@.type=="InternalIP")].address', priority=10),
        Column("External-IP", '.status.addresses[?(@.type=="ExternalIP")].address', priority=10),
        Column("OS-Image", ".status.nodeInfo.osImage", priority=10),
        PAUSED,
        Column("Phase", ".status.phase"),
        AGE,
        Column("Version", ".spec.version"),
    )

    spec: MachineSpec
    """What the Machine shall be."""
    status: MachineStatus = MachineStatus()
    """What is known about the Machine."""
