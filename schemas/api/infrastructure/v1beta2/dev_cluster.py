"""DevCluster: infrastructure of a cluster for development (infrastructure.cluster.x-k8s.io/v1beta2)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.api.core.v1beta2.shared import APIEndpoint, ConditionsDeprecatedStatus, FailureDomains, TemplateMetadata
from schemas.api.meta import Conditions, Frozen, KubeObject
from schemas.markers import AGE, CLUSTER_LABEL_COLUMN, OPTIONAL, Column, ServerDefault

GROUP = "infrastructure.cluster.x-k8s.io"
VERSION = "v1beta2"


class LocalObjectReference(Frozen):
    """A reference to an object of the same namespace (corev1)."""

    ATOMIC_MAP: ClassVar[bool] = True

    name: Annotated[str | None, ServerDefault("")] = None
    """Name of the object."""


class DockerLoadBalancer(Frozen):
    """The load balancer before a cluster of containers."""

    image_repository: str | None = None
    """Registry of the load balancer's image."""
    image_tag: str | None = None
    """Tag of the load balancer's image."""
    custom_ha_proxy_config_template_ref: Annotated[LocalObjectReference | None, Field(alias="customHAProxyConfigTemplateRef")] = None
    """ConfigMap whose key `value` replaces the load balancer's configuration."""


class DockerClusterBackend(Frozen):
    """A cluster of containers."""

    failure_domains: FailureDomains = ()
    """Failure domains to report."""
    load_balancer: DockerLoadBalancer = DockerLoadBalancer()
    """The load balancer."""


class InMemoryLoadBalancer(Frozen):
    """A load balancer at the endpoint of an emulated cluster, before the API servers of its control plane hosts."""

    type: Literal["InProcess", "HAProxy"]
    """Which one; a change cuts the connections there are."""


class InMemoryClusterBackend(Frozen):
    """A cluster that is only emulated."""

    load_balancer: InMemoryLoadBalancer | None = None
    """The load balancer; without one a single listener stands for all API servers. Cluster API's own provider has none here."""


class DevClusterBackend(Frozen):
    """What the cluster runs on; exactly one of the fields, whose presence alone matters."""

    docker: DockerClusterBackend | None = None
    """Containers."""
    in_memory: InMemoryClusterBackend | None = None
    """Emulation."""


class DevClusterSpec(Frozen):
    """What the infrastructure shall be."""

    control_plane_endpoint: APIEndpoint = APIEndpoint()
    """Where the API server is reached."""
    backend: DevClusterBackend
    """What the cluster runs on."""


class DevClusterInitializationStatus(Frozen):
    """Steps that are done; they never become false again."""

    MIN_PROPERTIES: ClassVar[int] = 1

    provisioned: bool | None = None
    """Whether the infrastructure is provisioned."""


class DevClusterStatus(Frozen):
    """What is known about the infrastructure."""

    conditions: Conditions = ()
    """Conditions of the DevCluster."""
    initialization: DevClusterInitializationStatus = DevClusterInitializationStatus()
    """Steps that are done."""
    failure_domains: FailureDomains = ()
    """Failure domains of the cluster."""
    deprecated: ConditionsDeprecatedStatus = ConditionsDeprecatedStatus()
    """Fields kept for readers of older contracts."""


class DevCluster(KubeObject):
    """Infrastructure of a cluster for development and tests."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "DevCluster"
    PLURAL: ClassVar[str] = "devclusters"
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (CLUSTER_LABEL_COLUMN, AGE)

    spec: Annotated[DevClusterSpec, OPTIONAL]
    """What the infrastructure shall be."""
    status: DevClusterStatus = DevClusterStatus()
    """What is known about the infrastructure."""


class DevClusterTemplateResource(Frozen):
    """What DevClusters made from the template look like."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the DevClusters."""
    spec: DevClusterSpec
    """Spec of the DevClusters."""


class DevClusterTemplateSpec(Frozen):
    """What DevClusters made from the template look like."""

    template: DevClusterTemplateResource
    """The template."""


class DevClusterTemplate(KubeObject):
    """A template of DevClusters."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "DevClusterTemplate"
    PLURAL: ClassVar[str] = "devclustertemplates"
    STATUS_SUBRESOURCE: ClassVar[bool] = False
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (AGE,)

    spec: Annotated[DevClusterTemplateSpec, OPTIONAL]
    """What DevClusters made from the template look like."""
