"""DevMachine: a host for development (infrastructure.cluster.x-k8s.io/v1beta2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from schemas.api.core.v1beta2.shared import ConditionsDeprecatedStatus, MachineAddress, TemplateMetadata
from schemas.api.infrastructure.v1beta2.dev_cluster import GROUP, VERSION
from schemas.api.meta import Conditions, Frozen, KubeObject
from schemas.api.scalars import Quantity, Text256, Text512
from schemas.markers import AGE, CLUSTER_LABEL_COLUMN, OPTIONAL, PAUSED, Column


class Mount(Frozen):
    """A path of the host that a container sees."""

    container_path: str | None = None
    """Path in the container."""
    host_path: str | None = None
    """Path on the host."""
    read_only: bool | None = None
    """Whether the container may not write."""


class DockerMachineBackend(Frozen):
    """A host that is a container."""

    custom_image: str | None = None
    """Image to use instead of the one for the version."""
    pre_load_images: tuple[str, ...] = ()
    """Images to load into the container's runtime."""
    extra_mounts: tuple[Mount, ...] = ()
    """Paths of the host that the container sees."""
    bootstrap_timeout: str | None = None
    """Longest time for the bootstrap, as a Go duration; 3m by default."""


class Provisioning(Frozen):
    """How long an emulated part takes to start."""

    startup_duration: str
    """Time from the request to the start, as a Go duration."""
    startup_jitter: str | None = None
    """Random share of the duration added to it, as a decimal."""


class InMemoryVM(Frozen):
    """The emulated host."""

    provisioning: Provisioning | None = None
    """How long it takes to start."""


class InMemoryNode(Frozen):
    """The emulated Node."""

    provisioning: Provisioning | None = None
    """How long it takes to join."""


class InMemoryAPIServer(Frozen):
    """The emulated API server of a control plane host."""

    provisioning: Provisioning | None = None
    """How long it takes to start."""


class InMemoryEtcd(Frozen):
    """The emulated etcd member of a control plane host."""

    provisioning: Provisioning | None = None
    """How long it takes to start."""


class InMemoryMachineBackend(Frozen):
    """A host that is only emulated."""

    vm: InMemoryVM = InMemoryVM()
    """The host."""
    node: InMemoryNode = InMemoryNode()
    """The Node."""
    api_server: Annotated[InMemoryAPIServer, Field(alias="apiServer")] = InMemoryAPIServer()
    """The API server, on a control plane host."""
    etcd: InMemoryEtcd = InMemoryEtcd()
    """The etcd member, on a control plane host."""


class DevMachineBackend(Frozen):
    """What the host is; exactly one of the fields, whose presence alone matters."""

    docker: DockerMachineBackend | None = None
    """A container."""
    in_memory: InMemoryMachineBackend | None = None
    """Emulation."""


class DevMachineSpec(Frozen):
    """What the host shall be."""

    provider_id: Annotated[Text512 | None, Field(alias="providerID")] = None
    """Identity of the host; equals the Node's spec.providerID."""
    backend: DevMachineBackend
    """What the host is."""


class DevMachineInitializationStatus(Frozen):
    """Steps that are done; they never become false again."""

    MIN_PROPERTIES: ClassVar[int] = 1

    provisioned: bool | None = None
    """Whether the host is provisioned."""


class DevMachineStatus(Frozen):
    """What is known about the host."""

    conditions: Conditions = ()
    """Conditions of the DevMachine."""
    initialization: DevMachineInitializationStatus = DevMachineInitializationStatus()
    """Steps that are done."""
    failure_domain: Text256 | None = None
    """Failure domain of the host."""
    addresses: tuple[MachineAddress, ...] = ()
    """Addresses of the host."""
    deprecated: ConditionsDeprecatedStatus = ConditionsDeprecatedStatus()
    """Fields kept for readers of older contracts."""


class DevMachine(KubeObject):
    """A host for development and tests."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "DevMachine"
    PLURAL: ClassVar[str] = "devmachines"
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        CLUSTER_LABEL_COLUMN,
        Column("Provider ID", ".spec.providerID", priority=10),
        Column("Failure domain", ".status.failureDomain"),
        Column("IP", '.status.addresses[?(@.type=="InternalIP")].address', priority=10),
        PAUSED,
        Column("Provisioned", ".status.initialization.provisioned"),
        AGE,
    )

    spec: Annotated[DevMachineSpec, OPTIONAL]
    """What the host shall be."""
    status: DevMachineStatus = DevMachineStatus()
    """What is known about the host."""


class DevMachineTemplateResource(Frozen):
    """What DevMachines made from the template look like."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the DevMachines."""
    spec: DevMachineSpec
    """Spec of the DevMachines."""


class DevMachineTemplateSpec(Frozen):
    """What DevMachines made from the template look like."""

    template: DevMachineTemplateResource
    """The template."""


class DevMachineTemplateStatus(Frozen):
    """What is known about hosts of the template."""

    capacity: Mapping[str, Quantity] = Field(default_factory=dict)
    """Resources of such a host, for autoscaling from zero."""


class DevMachineTemplate(KubeObject):
    """A template of DevMachines."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "DevMachineTemplate"
    PLURAL: ClassVar[str] = "devmachinetemplates"
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (AGE,)

    spec: Annotated[DevMachineTemplateSpec, OPTIONAL]
    """What DevMachines made from the template look like."""
    status: DevMachineTemplateStatus = DevMachineTemplateStatus()
    """What is known about hosts of the template."""
