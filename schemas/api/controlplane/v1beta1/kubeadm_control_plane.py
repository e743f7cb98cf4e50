"""KubeadmControlPlane and its template (controlplane.cluster.x-k8s.io/v1beta1)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field

from schemas.api.bootstrap.v1beta1 import KubeadmConfigSpec
from schemas.api.controlplane.v1beta2 import GROUP
from schemas.api.core.v1beta1.shared import VERSION, MachineNaming, NodeTimeouts, ReadinessGates, TemplateMetadata, V1Beta2Counters
from schemas.api.core.v1beta2 import DeprecatedFailure, MachineTaints, MachineVersions, ObjectReference
from schemas.api.meta import Frozen, IntOrString, KubeObject
from schemas.api.scalars import Text253, Text256, Text4096
from schemas.cel import OLDER_CONTROL_PLANE_RULES
from schemas.markers import AGE, CLUSTER_LABEL_COLUMN, INT64, OPTIONAL, Column, Rule, Scale


class TemplateMachineTemplate(NodeTimeouts):
    """What the control plane Machines look like; the infrastructure comes from the ClusterClass."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the Machines."""
    taints: MachineTaints = ()
    """Taints for the Nodes."""


class MachineTemplate(TemplateMachineTemplate):
    """What the control plane Machines look like."""

    infrastructure_ref: ObjectReference
    """Template of the Machines' infrastructure."""
    readiness_gates: ReadinessGates = ()
    """Further conditions that must hold before a Machine is Ready."""


class RolloutBefore(Frozen):
    """Events ahead of which Machines are replaced."""

    certificates_expiry_days: int | None = None
    """Replace a Machine this many days before its certificates expire."""


class RollingUpdate(Frozen):
    """Bounds of a rolling update."""

    max_surge: IntOrString | None = None
    """How many Machines above the desired number may exist: 0 or 1; 1 by default."""


class RolloutStrategy(Frozen):
    """How Machines are replaced by new ones."""

    type: Literal["RollingUpdate"] | None = None
    """Only gradual replacement."""
    rolling_update: RollingUpdate | None = None
    """Bounds of the rolling update."""


class RemediationStrategy(Frozen):
    """How unhealthy Machines are replaced."""

    max_retry: int | None = None
    """How often a replacement that fails too is replaced again; no limit by default."""
    retry_period: str | None = None
    """Time between retries, as in 10m; 0s by default."""
    min_healthy_period: str | None = None
    """How long a replacement must be healthy before a later failure starts a new count; 1h by default."""


class ControlPlaneSettings(Frozen):
    """What a control plane and a template of one have in common."""

    kubeadm_config_spec: KubeadmConfigSpec
    """What the hosts do at their first boot."""
    rollout_before: RolloutBefore | None = None
    """Events ahead of which Machines are replaced."""
    rollout_after: AwareDatetime | None = None
    """Replace Machines created before this time, once it has passed."""
    rollout_strategy: RolloutStrategy | None = None
    """How Machines are replaced."""
    remediation_strategy: RemediationStrategy | None = None
    """How unhealthy Machines are replaced."""
    machine_naming_strategy: MachineNaming | None = None
    """How Machines are named."""


class KubeadmControlPlaneSpec(ControlPlaneSettings):
    """What the control plane shall be."""

    RULES: ClassVar[tuple[Rule, ...]] = OLDER_CONTROL_PLANE_RULES

    replicas: int | None = None
    """Number of Machines; 1 by default, odd with an etcd of its own."""
    version: Text256
    """Kubernetes version of the control plane."""
    machine_template: MachineTemplate
    """What the Machines look like."""


class LastRemediation(Frozen):
    """The remediation that was started last."""

    machine: Text253
    """Name of the Machine that was remediated."""
    timestamp: AwareDatetime
    """When."""
    retry_count: int
    """Its number in a row of retries."""


class KubeadmControlPlaneStatus(DeprecatedFailure):
    """What is known about the control plane."""

    selector: Text4096 | None = None
    """The selector as text, for the scale subresource."""
    replicas: int | None = None
    """Number of Machines."""
    version: Text256 | None = None
    """Lowest Kubernetes version of the control plane Machines."""
    updated_replicas: int | None = None
    """Machines of the newest spec."""
    ready_replicas: int | None = None
    """Machines whose Node is ready."""
    unavailable_replicas: int | None = None
    """Machines missing to full availability."""
    initialized: bool | None = None
    """Whether the control plane has once been able to take requests."""
    ready: bool | None = None
    """Whether some API server answers."""
    versions: MachineVersions = ()
    """How many Machines run which version."""
    observed_generation: Annotated[int, INT64] | None = None
    """metadata.generation that the status was computed from."""
    last_remediation: LastRemediation | None = None
    """The remediation that was started last."""
    v1beta2: V1Beta2Counters = Field(default=V1Beta2Counters(), alias="v1beta2")
    """What became the hub's status."""


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
        Column("Initialized", ".status.initialized", "boolean"),
        Column("API Server Available", ".status.ready", "boolean"),
        Column("Desired", ".spec.replicas", "integer", 10),
        Column("Replicas", ".status.replicas", "integer"),
        Column("Ready", ".status.readyReplicas", "integer"),
        Column("Updated", ".status.updatedReplicas", "integer"),
        Column("Unavailable", ".status.unavailableReplicas", "integer"),
        AGE,
        Column("Version", ".spec.version"),
    )

    spec: Annotated[KubeadmControlPlaneSpec, OPTIONAL]
    """What the control plane shall be."""
    status: KubeadmControlPlaneStatus = KubeadmControlPlaneStatus()
    """What is known about the control plane."""


class KubeadmControlPlaneTemplateResourceSpec(ControlPlaneSettings):
    """Spec of the control planes; replicas and version come from the Cluster's topology."""

    machine_template: TemplateMachineTemplate | None = None
    """What the Machines look like."""


class KubeadmControlPlaneTemplateResource(Frozen):
    """What control planes made from the template look like."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the control planes."""
    spec: KubeadmControlPlaneTemplateResourceSpec
    """Spec of the control planes."""


class KubeadmControlPlaneTemplateSpec(Frozen):
    """What control planes made from the template look like."""

    template: KubeadmControlPlaneTemplateResource
    """The template."""


class KubeadmControlPlaneTemplate(KubeObject):
    """A template of KubeadmControlPlanes."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "KubeadmControlPlaneTemplate"
    PLURAL: ClassVar[str] = "kubeadmcontrolplanetemplates"
    STATUS_SUBRESOURCE: ClassVar[bool] = False
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (AGE,)

    spec: Annotated[KubeadmControlPlaneTemplateSpec, OPTIONAL]
    """What control planes made from the template look like."""
