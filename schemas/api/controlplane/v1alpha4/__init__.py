"""KubeadmControlPlane and its template (controlplane.cluster.x-k8s.io/v1alpha4): those of v1beta1 without what was added since."""

from __future__ import annotations

from typing import Annotated, ClassVar

from schemas.api.bootstrap.v1alpha4 import KubeadmConfigSpec
from schemas.api.controlplane.v1beta1 import kubeadm_control_plane
from schemas.api.core.v1alpha4.cluster import VERSION
from schemas.markers import AGE, OPTIONAL, Column


class MachineTemplate(kubeadm_control_plane.MachineTemplate):
    """What the control plane Machines look like."""

    LACKS = frozenset({"node_volume_detach_timeout", "node_deletion_timeout", "readiness_gates", "taints"})


class KubeadmControlPlaneSpec(kubeadm_control_plane.KubeadmControlPlaneSpec):
    """What the control plane shall be."""

    LACKS = frozenset({"rollout_before", "remediation_strategy", "machine_naming_strategy"})

    kubeadm_config_spec: KubeadmConfigSpec
    """What the hosts do at their first boot."""
    machine_template: MachineTemplate
    """What the Machines look like."""


class KubeadmControlPlaneStatus(kubeadm_control_plane.KubeadmControlPlaneStatus):
    """What is known about the control plane."""

    LACKS = frozenset({"last_remediation", "versions", "v1beta2"})


class KubeadmControlPlane(kubeadm_control_plane.KubeadmControlPlane):
    """A control plane of Machines that kubeadm sets up."""

    VERSION: ClassVar[str] = VERSION
    LOWER_BOUNDS: ClassVar[bool] = False
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        AGE,
        Column("Initialized", ".status.initialized", "boolean"),
        Column("API Server Available", ".status.ready", "boolean"),
        Column("Version", ".spec.version"),
        Column("Replicas", ".status.replicas", "integer"),
        Column("Ready", ".status.readyReplicas", "integer"),
        Column("Updated", ".status.updatedReplicas", "integer"),
        Column("Unavailable", ".status.unavailableReplicas", "integer"),
    )

    spec: Annotated[KubeadmControlPlaneSpec, OPTIONAL]
    """What the control plane shall be."""
    status: KubeadmControlPlaneStatus = KubeadmControlPlaneStatus()
    """What is known about the control plane."""


class KubeadmControlPlaneTemplateResourceSpec(kubeadm_control_plane.KubeadmControlPlaneTemplateResourceSpec):
    """Spec of the control planes; replicas and version come from the Cluster's topology."""

    LACKS = KubeadmControlPlaneSpec.LACKS | {"machine_template"}

    kubeadm_config_spec: KubeadmConfigSpec
    """What the hosts do at their first boot."""


class KubeadmControlPlaneTemplateResource(kubeadm_control_plane.KubeadmControlPlaneTemplateResource):
    """What control planes made from the template look like."""

    LACKS = frozenset({"metadata"})

    spec: KubeadmControlPlaneTemplateResourceSpec
    """Spec of the control planes."""


class KubeadmControlPlaneTemplateSpec(kubeadm_control_plane.KubeadmControlPlaneTemplateSpec):
    """What control planes made from the template look like."""

    template: KubeadmControlPlaneTemplateResource
    """The template."""


class KubeadmControlPlaneTemplate(kubeadm_control_plane.KubeadmControlPlaneTemplate):
    """A template of KubeadmControlPlanes."""

    VERSION: ClassVar[str] = VERSION
    LOWER_BOUNDS: ClassVar[bool] = False

    spec: Annotated[KubeadmControlPlaneTemplateSpec, OPTIONAL]
    """What control planes made from the template look like."""
