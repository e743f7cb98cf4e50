"""Every kind fleetwake models, and the way from a (group, kind) to its model."""

from __future__ import annotations

from types import MappingProxyType

from schemas.api.addons.v1beta2 import ClusterResourceSet, ClusterResourceSetBinding
from schemas.api.bootstrap.v1beta2 import KubeadmConfig, KubeadmConfigTemplate
from schemas.api.controlplane.v1beta2 import KubeadmControlPlane, KubeadmControlPlaneTemplate
from schemas.api.core.v1beta2 import (
    Cluster,
    ClusterClass,
    Machine,
    MachineDeployment,
    MachineDrainRule,
    MachineHealthCheck,
    MachinePool,
    MachineSet,
)
from schemas.api.infrastructure.v1beta2 import (
    DevCluster,
    DevClusterTemplate,
    DevMachine,
    DevMachinePool,
    DevMachinePoolTemplate,
    DevMachineTemplate,
)
from schemas.api.ipam.v1beta2 import IPAddress, IPAddressClaim
from schemas.api.meta import KubeObject
from schemas.api.runtime.v1beta2 import ExtensionConfig

KINDS: tuple[type[KubeObject], ...] = (
    Cluster,
    ClusterClass,
    Machine,
    MachineDeployment,
    MachineDrainRule,
    MachineHealthCheck,
    MachinePool,
    MachineSet,
    KubeadmConfig,
    KubeadmConfigTemplate,
    KubeadmControlPlane,
    KubeadmControlPlaneTemplate,
    ClusterResourceSet,
    ClusterResourceSetBinding,
    IPAddress,
    IPAddressClaim,
    ExtensionConfig,
    DevCluster,
    DevClusterTemplate,
    DevMachine,
    DevMachineTemplate,
    DevMachinePool,
    DevMachinePoolTemplate,
)

_BY_GROUP_KIND = MappingProxyType({(model.GROUP, model.KIND): model for model in KINDS})


def find(group: str, kind: str) -> type[KubeObject] | None:
    """The model of a kind, or None for a kind fleetwake has no model of (a third party's provider)."""
    return _BY_GROUP_KIND.get((group, kind))


def get(group: str, kind: str) -> type[KubeObject]:
    """The model of a kind. Raises KeyError for a kind fleetwake has no model of."""
    return _BY_GROUP_KIND[group, kind]
