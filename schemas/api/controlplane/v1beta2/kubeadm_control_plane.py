"""KubeadmControlPlane: a control plane of Machines set up by kubeadm (controlplane.cluster.x-k8s.io/v1beta2)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field

from schemas.api.bootstrap.v1beta2.kubeadm_config import KubeadmConfigSpec
from schemas.api.core.v1beta2.machine_set import REPLICA_COLUMNS
from schemas.api.core.v1beta2.shared import (
    ContractVersionedObjectReference,
    DeprecatedFailure,
    MachineNaming,
    MachineTaints,
    MachineVersions,
    NodeTimeouts,
    ReadinessGates,
    TemplateMetadata,
)
from schemas.api.meta import Conditions, Frozen, IntOrString, KubeObject
from schemas.api.scalars import NonNegative, Positive, Text253, Text256, Text4096
from schemas.cel import CONTROL_PLANE_RULES, KUBERNETES_VERSION, added
from schemas.markers import AGE, CLUSTER_LABEL_COLUMN, INT64, PAUSED, Addition, Column, Rule, Scale, condition_column

GROUP = "controlplane.cluster.x-k8s.io"
VERSION = "v1beta2"


class KubeadmControlPlaneMachineDeletion(NodeTimeouts):
    """How the deletion of control plane Machines proceeds."""


class KubeadmControlPlaneMachineTemplateSpec(Frozen):
    """Spec of the control plane Machines."""

    infrastructure_ref: ContractVersionedObjectReference
    """Template of the Machines' infrastructure."""
    readiness_gates: ReadinessGates = ()
    """Further conditions that must hold before a Machine is Ready."""
    deletion: KubeadmControlPlaneMachineDeletion = KubeadmControlPlaneMachineDeletion()
    """How the deletion of Machines proceeds."""
    taints: MachineTaints = ()
    """Taints for the Nodes."""


class KubeadmControlPlaneMachineTemplate(Frozen):
    """What the control plane Machines look like."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the Machines."""
    spec: KubeadmControlPlaneMachineTemplateSpec
    """Spec of the Machines."""


class KubeadmControlPlaneRolloutBefore(Frozen):
    """Events ahead of which Machines are replaced."""

    MIN_PROPERTIES: ClassVar[int] = 1

    certificates_expiry_days: Annotated[int, Field(ge=7)] | None = None
    """Replace a Machine this many days before its certificates expire."""


class KubeadmControlPlaneRollingUpdate(Frozen):
    """Bounds of a rolling update."""

    MIN_PROPERTIES: ClassVar[int] = 1

    max_surge: Annotated[IntOrString, added("self == 0 || self == 1", "must be 0 or 1")] | None = None
    """How many Machines above the desired number may exist: 0 or 1; 1 by default."""


class KubeadmControlPlaneRolloutStrategy(Frozen):
    """How Machines are replaced by new ones."""

    MIN_PROPERTIES: ClassVar[int] = 1

    type: Literal["RollingUpdate"]
    """Only gradual replacement."""
    rolling_update: KubeadmControlPlaneRollingUpdate = KubeadmControlPlaneRollingUpdate()
    """Bounds of the rolling update."""


class KubeadmControlPlaneRollout(Frozen):
    """When and how Machines are replaced."""

    MIN_PROPERTIES: ClassVar[int] = 1

    before: KubeadmControlPlaneRolloutBefore = KubeadmControlPlaneRolloutBefore()
    """Events ahead of which Machines are replaced."""
    after: AwareDatetime | None = None
    """Replace Machines created before this time, once it has passed."""
    strategy: KubeadmControlPlaneRolloutStrategy | None = None
    """How Machines are replaced."""


class KubeadmControlPlaneRemediation(Frozen):
    """How unhealthy Machines are replaced."""

    MIN_PROPERTIES: ClassVar[int] = 1

    max_retry: int | None = None
    """How often a replacement that fails too is replaced again; no limit by default."""
    retry_period_seconds: NonNegative | None = None
    """Time between retries; 0 by default."""
    min_healthy_period_seconds: NonNegative | None = None
    """How long a replacement must be healthy before a later failure starts a new count; 1 hour by default."""


class KubeadmControlPlaneSpec(Frozen):
    """What the control plane shall be."""

    RULES: ClassVar[tuple[Rule, ...]] = CONTROL_PLANE_RULES

    replicas: Annotated[int | None, Addition("default", 1), Addition("minimum", 1)] = None
    """Number of Machines; 1 by default, odd with an etcd of its own."""
    version: Annotated[Text256, KUBERNETES_VERSION]
    """Kubernetes version of the control plane."""
    machine_template: KubeadmControlPlaneMachineTemplate
    """What the Machines look like."""
    kubeadm_config_spec: KubeadmConfigSpec = KubeadmConfigSpec()
    """What the hosts do at their first boot."""
    rollout: KubeadmControlPlaneRollout = KubeadmControlPlaneRollout()
    """When and how Machines are replaced."""
    remediation: KubeadmControlPlaneRemediation = KubeadmControlPlaneRemediation()
    """How unhealthy Machines are replaced."""
    machine_naming: MachineNaming = MachineNaming()
    """How Machines are named."""


class KubeadmControlPlaneInitializationStatus(Frozen):
    """Steps that are done; they never become false again."""

    MIN_PROPERTIES: ClassVar[int] = 1

    control_plane_initialized: bool | None = None
    """Whether the control plane has once been able to take requests."""


class LastRemediation(Frozen):
    """The remediation that was started last."""

    machine: Text253
    """Name of the Machine that was remediated."""
    time: AwareDatetime
    """When."""
    retry_count: NonNegative
    """Its number in a row of retries."""


class KubeadmControlPlaneV1Beta1DeprecatedStatus(DeprecatedFailure):
    """Fields of the v1beta1 contract."""

    updated_replicas: int | None = None
    """Machines of the newest spec."""
    ready_replicas: int | None = None
    """Machines whose Node is ready."""
    unavailable_replicas: int | None = None
    """Machines missing to full availability."""


class KubeadmControlPlaneDeprecatedStatus(Frozen):
    """Fields kept for readers of older contracts."""

    v1beta1: KubeadmControlPlaneV1Beta1DeprecatedStatus = Field(default=KubeadmControlPlaneV1Beta1DeprecatedStatus(), alias="v1beta1")
    """Fields of the v1beta1 contract."""


class KubeadmControlPlaneStatus(Frozen):
    """What is known about the control plane."""

    MIN_PROPERTIES: ClassVar[int] = 1

    conditions: Conditions = ()
    """Conditions of the control plane."""
    initialization: KubeadmControlPlaneInitializationStatus = KubeadmControlPlaneInitializationStatus()
    """Steps that are done."""
    selector: Text4096 | None = None
    """The selector as text, for the scale subresource."""
    replicas: int | None = None
    """Number of Machines."""
    ready_replicas: int | None = None
    """Machines that are Ready."""
    available_replicas: int | None = None
    """Machines that are Available."""
    up_to_date_replicas: int | None = None
    """Machines that are UpToDate."""
    versions: MachineVersions = ()
    """How many Machines run which version."""
    version: Text256 | None = None
    """Lowest Kubernetes version of the control plane Machines."""
    observed_generation: Annotated[Positive, INT64] | None = None
    """metadata.generation that the status was computed from."""
    last_remediation: LastRemediation | None = None
    """The remediation that was started last."""
    deprecated: KubeadmControlPlaneDeprecatedStatus = KubeadmControlPlaneDeprecatedStatus()
    """Fields kept for readers of older contracts."""


class KubeadmControlPlane(KubeObject):
    """A control plane of Machines that kubeadm sets up."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "KubeadmControlPlane"
    PLURAL: ClassVar[str] = "kubeadmcontrolplanes"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("kcp",)
    SCALE: ClassVar[Scale | None] = Scale()
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        CLUSTER_LABEL_COLUMN,
        condition_column("Available", "Available"),
        *REPLICA_COLUMNS,
        PAUSED,
        Column("Initialized", ".status.initialization.controlPlaneInitialized", "boolean"),
        AGE,
        Column("Version", ".spec.version"),
    )

    spec: KubeadmControlPlaneSpec
    """What the control plane shall be."""
    status: KubeadmControlPlaneStatus = KubeadmControlPlaneStatus()
    """What is known about the control plane."""
