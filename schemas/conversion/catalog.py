"""Every kind that has older versions, with its rules and the shapes of its versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from types import MappingProxyType
from typing import Final

from schemas import crd
from schemas.api import older, registry
from schemas.api.meta import KubeObject
from schemas.conversion import core, kubeadm, others
from schemas.conversion.rules import ConversionError, Table
from schemas.conversion.shape import OPAQUE, Shape, compiled

HUB_VERSION: Final = "v1beta2"

TABLES: Final[Mapping[str, Table]] = MappingProxyType(
    {
        "Cluster": core.CLUSTER,
        "ClusterClass": core.CLUSTER_CLASS,
        "Machine": core.MACHINE,
        "MachineDeployment": core.MACHINE_DEPLOYMENT,
        "MachineDrainRule": core.MACHINE_DRAIN_RULE,
        "MachineHealthCheck": core.MACHINE_HEALTH_CHECK,
        "MachinePool": core.MACHINE_POOL,
        "MachineSet": core.MACHINE_SET,
        "ClusterResourceSet": others.CLUSTER_RESOURCE_SET,
        "ClusterResourceSetBinding": others.CLUSTER_RESOURCE_SET_BINDING,
        "ExtensionConfig": others.EXTENSION_CONFIG,
        "IPAddress": others.IP_ADDRESS,
        "IPAddressClaim": others.IP_ADDRESS_CLAIM,
        "KubeadmConfig": kubeadm.KUBEADM_CONFIG,
        "KubeadmConfigTemplate": kubeadm.KUBEADM_CONFIG_TEMPLATE,
        "KubeadmControlPlane": kubeadm.KUBEADM_CONTROL_PLANE,
        "KubeadmControlPlaneTemplate": kubeadm.KUBEADM_CONTROL_PLANE_TEMPLATE,
    }
)
"""How v1beta1 differs from the hub. Older versions say what they say in v1beta1's words, so one table serves all."""


@dataclass(frozen=True)
class Conversion:
    """A kind and its versions. Shapes are made when they are first needed, and then once."""

    hub_model: type[KubeObject]
    models: Mapping[str, type[KubeObject]]
    table: Table

    @property
    def group(self) -> str:
        """The API group."""
        return self.hub_model.GROUP

    @property
    def kind(self) -> str:
        """The kind."""
        return self.hub_model.KIND

    @cached_property
    def hub(self) -> Shape:
        """What the hub has room for."""
        return _shape(self.hub_model)

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """What each older version has room for."""
        return {version: _shape(model) for version, model in self.models.items()}


def _conversions() -> Mapping[tuple[str, str], Conversion]:
    found: dict[tuple[str, str], Conversion] = {}
    for model in registry.KINDS:
        models = {version.VERSION: version for version in older.VERSIONS if (version.GROUP, version.KIND) == (model.GROUP, model.KIND)}
        if models:
            found[model.GROUP, model.KIND] = Conversion(model, models, TABLES[model.KIND])
    return MappingProxyType(found)


CONVERSIONS: Final = _conversions()
"""By group and kind."""


def conversion(group: str, kind: str, version: str) -> Conversion:
    """The conversion of a kind that has this older version.

    Raises:
        ConversionError: there is no such kind, or not in this version.
    """
    known = CONVERSIONS.get((group, kind))
    if known is None or version not in known.models:
        raise ConversionError(f"{group}/{version} {kind} is none of the versions served")
    return known


@cache
def _shape(model: type[KubeObject]) -> Shape:
    # without what we added: a 0 that only our own bound forbids was meant, and is for admission to refuse
    schema = crd.version(model, additions=False)["schema"]["openAPIV3Schema"]
    shape = compiled(schema)
    # type and identity are the API server's own to check
    return Shape(properties={**(shape.properties or {}), "apiVersion": OPAQUE, "kind": OPAQUE, "metadata": OPAQUE}, required=shape.required)
