"""Every kind in its versions older than the hub, newest version first."""

from __future__ import annotations

from schemas.api.addons import v1alpha4 as addons_v1alpha4
from schemas.api.addons import v1beta1 as addons_v1beta1
from schemas.api.bootstrap import v1alpha4 as bootstrap_v1alpha4
from schemas.api.bootstrap import v1beta1 as bootstrap_v1beta1
from schemas.api.controlplane import v1alpha4 as controlplane_v1alpha4
from schemas.api.controlplane import v1beta1 as controlplane_v1beta1
from schemas.api.core import v1alpha4 as core_v1alpha4
from schemas.api.core import v1beta1 as core_v1beta1
from schemas.api.ipam import v1alpha1 as ipam_v1alpha1
from schemas.api.ipam import v1beta1 as ipam_v1beta1
from schemas.api.meta import KubeObject
from schemas.api.runtime import v1alpha1 as runtime_v1alpha1

VERSIONS: tuple[type[KubeObject], ...] = (
    core_v1beta1.Cluster,
    core_v1beta1.ClusterClass,
    core_v1beta1.Machine,
    core_v1beta1.MachineDeployment,
    core_v1beta1.MachineDrainRule,
    core_v1beta1.MachineHealthCheck,
    core_v1beta1.MachinePool,
    core_v1beta1.MachineSet,
    bootstrap_v1beta1.KubeadmConfig,
    bootstrap_v1beta1.KubeadmConfigTemplate,
    controlplane_v1beta1.KubeadmControlPlane,
    controlplane_v1beta1.KubeadmControlPlaneTemplate,
    addons_v1beta1.ClusterResourceSet,
    addons_v1beta1.ClusterResourceSetBinding,
    ipam_v1beta1.IPAddress,
    ipam_v1beta1.IPAddressClaim,
    core_v1alpha4.Cluster,
    core_v1alpha4.ClusterClass,
    core_v1alpha4.Machine,
    core_v1alpha4.MachineDeployment,
    core_v1alpha4.MachineHealthCheck,
    core_v1alpha4.MachinePool,
    core_v1alpha4.MachineSet,
    bootstrap_v1alpha4.KubeadmConfig,
    bootstrap_v1alpha4.KubeadmConfigTemplate,
    controlplane_v1alpha4.KubeadmControlPlane,
    controlplane_v1alpha4.KubeadmControlPlaneTemplate,
    addons_v1alpha4.ClusterResourceSet,
    addons_v1alpha4.ClusterResourceSetBinding,
    ipam_v1alpha1.IPAddress,
    ipam_v1alpha1.IPAddressClaim,
    runtime_v1alpha1.ExtensionConfig,
)
