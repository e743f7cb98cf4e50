"""DevMachinePool: a group of hosts for development (infrastructure.cluster.x-k8s.io/v1beta2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from schemas.api.core.v1beta2.shared import MachineAddress, TemplateMetadata
from schemas.api.infrastructure.v1beta2.dev_cluster import GROUP, VERSION
from schemas.api.infrastructure.v1beta2.dev_machine import InMemoryNode, InMemoryVM, Mount
from schemas.api.meta import Conditions, Frozen, KubeObject
from schemas.api.scalars import Quantity
from schemas.cel import exclusive
from schemas.markers import AGE, INT64, OPTIONAL, Column, Rule


class DockerMachinePoolBackend(Frozen):
    """Hosts that are containers."""

    custom_image: str | None = None
    """Image to use instead of the one for the version."""
    pre_load_images: tuple[str, ...] = ()
    """Images to load into the containers' runtime."""
    extra_mounts: tuple[Mount, ...] = ()
    """Paths of the host that the containers see."""


class InMemoryMachinePoolBackend(Frozen):
    """Hosts that are only emulated; workers all of them."""

    vm: InMemoryVM = InMemoryVM()
    """The hosts."""
    node: InMemoryNode = InMemoryNode()
    """Their Nodes."""


class DevMachinePoolBackend(Frozen):
    """What the hosts are; exactly one of the fields, whose presence alone matters."""

    RULES: ClassVar[tuple[Rule, ...]] = (exclusive("docker", "inMemory"),)

    docker: DockerMachinePoolBackend | None = None
    """Containers."""
    in_memory: InMemoryMachinePoolBackend | None = None
    """Emulation; Cluster API's own provider has none for pools."""


class DevMachinePoolSpec(Frozen):
    """What the group shall be."""

    backend: DevMachinePoolBackend = DevMachinePoolBackend()
    """What the hosts are."""
    provider_id: Annotated[str | None, Field(alias="providerID")] = None
    """Identity of the group."""
    provider_id_list: Annotated[tuple[str, ...], Field(alias="providerIDList")] = ()
    """Identities of the hosts."""


class DevMachinePoolInstance(Frozen):
    """A host of the group."""

    addresses: tuple[MachineAddress, ...] = ()
    """Addresses of the host."""
    instance_name: str | None = None
    """Name of the host."""
    provider_id: Annotated[str | None, Field(alias="providerID")] = None
    """Identity of the host."""
    version: str | None = None
    """Kubernetes version of the host."""
    ready: bool | None = None
    """Whether the host is ready."""


class DevMachinePoolNodeInfo(Frozen):
    """What the hosts of the group run on."""

    architecture: str | None = None
    """Architecture of the processor, as Nodes have it (``amd64``)."""
    operating_system: str | None = None
    """Operating system, as Nodes have it (``linux``)."""


class DevMachinePoolStatus(Frozen):
    """What is known about the group."""

    ready: bool | None = None
    """Whether the group is ready."""
    replicas: int | None = None
    """Number of hosts."""
    observed_generation: Annotated[int, INT64] | None = None
    """metadata.generation that the status was computed from."""
    instances: tuple[DevMachinePoolInstance, ...] = ()
    """The hosts."""
    infrastructure_machine_kind: str | None = None
    """Kind of the objects that stand for single hosts of the group."""
    capacity: Mapping[str, Quantity] = Field(default_factory=dict)
    """Resources of one more host, for autoscaling from zero; Cluster API's own provider tells none for pools."""
    node_info: DevMachinePoolNodeInfo = DevMachinePoolNodeInfo()
    """What one more host would run on, for autoscaling from zero; likewise."""
    conditions: Conditions = ()
    """Conditions of the DevMachinePool."""


class DevMachinePool(KubeObject):
    """A group of hosts for development and tests."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "DevMachinePool"
    PLURAL: ClassVar[str] = "devmachinepools"
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (AGE,)

    spec: DevMachinePoolSpec = DevMachinePoolSpec()
    """What the group shall be."""
    status: DevMachinePoolStatus = DevMachinePoolStatus()
    """What is known about the group."""


class DevMachinePoolTemplateResource(Frozen):
    """What DevMachinePools made from the template look like."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the DevMachinePools."""
    spec: DevMachinePoolSpec
    """Spec of the DevMachinePools."""


class DevMachinePoolTemplateSpec(Frozen):
    """What DevMachinePools made from the template look like."""

    template: DevMachinePoolTemplateResource
    """The template."""


class DevMachinePoolTemplate(KubeObject):
    """A template of DevMachinePools."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "DevMachinePoolTemplate"
    PLURAL: ClassVar[str] = "devmachinepooltemplates"
    STATUS_SUBRESOURCE: ClassVar[bool] = False
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (AGE,)

    spec: Annotated[DevMachinePoolTemplateSpec, OPTIONAL]
    """What DevMachinePools made from the template look like."""
