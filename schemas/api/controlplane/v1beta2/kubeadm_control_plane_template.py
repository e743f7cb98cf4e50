"""KubeadmControlPlaneTemplate: the control plane of a ClusterClass (controlplane.cluster.x-k8s.io/v1beta2)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from schemas.api.bootstrap.v1beta2.kubeadm_config import KubeadmConfigSpec
from schemas.api.controlplane.v1beta2.kubeadm_control_plane import (
    GROUP,
    VERSION,
    KubeadmControlPlaneMachineDeletion,
    KubeadmControlPlaneRemediation,
    KubeadmControlPlaneRollout,
)
from schemas.api.core.v1beta2.shared import MachineNaming, MachineTaints, TemplateMetadata
from schemas.api.meta import Frozen, KubeObject
from schemas.cel import CERTIFICATE_RULES
from schemas.markers import AGE, OPTIONAL, Column, Rule


class KubeadmControlPlaneTemplateMachineTemplateSpec(Frozen):
    """Spec of the control plane Machines; the infrastructure comes from the ClusterClass."""

    MIN_PROPERTIES: ClassVar[int] = 1

    deletion: KubeadmControlPlaneMachineDeletion = KubeadmControlPlaneMachineDeletion()
    """How the deletion of Machines proceeds."""
    taints: MachineTaints = ()
    """Taints for the Nodes."""


class KubeadmControlPlaneTemplateMachineTemplate(Frozen):
    """What the control plane Machines look like."""

    MIN_PROPERTIES: ClassVar[int] = 1

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the Machines."""
    spec: KubeadmControlPlaneTemplateMachineTemplateSpec = KubeadmControlPlaneTemplateMachineTemplateSpec()
    """Spec of the Machines."""


class KubeadmControlPlaneTemplateResourceSpec(Frozen):
    """Spec of the control planes; replicas and version come from the Cluster's topology."""

    MIN_PROPERTIES: ClassVar[int] = 1
    RULES: ClassVar[tuple[Rule, ...]] = CERTIFICATE_RULES

    machine_template: KubeadmControlPlaneTemplateMachineTemplate = KubeadmControlPlaneTemplateMachineTemplate()
    """What the Machines look like."""
    kubeadm_config_spec: KubeadmConfigSpec = KubeadmConfigSpec()
    """What the hosts do at their first boot."""
    rollout: KubeadmControlPlaneRollout = KubeadmControlPlaneRollout()
    """When and how Machines are replaced."""
    remediation: KubeadmControlPlaneRemediation = KubeadmControlPlaneRemediation()
    """How unhealthy Machines are replaced."""
    machine_naming: MachineNaming = MachineNaming()
    """How Machines are named."""


class KubeadmControlPlaneTemplateResource(Frozen):
    """What control planes made from the template look like."""

    MIN_PROPERTIES: ClassVar[int] = 1

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the control planes."""
    spec: KubeadmControlPlaneTemplateResourceSpec = KubeadmControlPlaneTemplateResourceSpec()
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
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("ClusterClass", '.metadata.ownerReferences[?(@.kind=="ClusterClass")].name'),
        AGE,
    )

    spec: Annotated[KubeadmControlPlaneTemplateSpec, OPTIONAL]
    """What control planes made from the template look like."""
