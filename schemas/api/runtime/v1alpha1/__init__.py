"""ExtensionConfig (runtime.cluster.x-k8s.io/v1alpha1), of which conversion is the only reader. There was no v1beta1 of it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from schemas.api.core.v1beta1.shared import V1Beta2Status
from schemas.api.core.v1beta2 import DeprecatedConditions
from schemas.api.meta import KubeObject
from schemas.api.runtime.v1beta2 import extension_config as hub
from schemas.markers import AGE, OPTIONAL, Column, ListMap

VERSION: Final = "v1alpha1"


class ServiceReference(hub.ServiceReference):
    """A Service of the management cluster."""

    port: int | None = None
    """Port; 443 by default."""


class ClientConfig(hub.ClientConfig):
    """How the server is reached; url or service."""

    MIN_PROPERTIES: ClassVar[int] = 0

    service: ServiceReference | None = None
    """Service of the server."""


class ExtensionConfigSpec(hub.ExtensionConfigSpec):
    """Which server is called for which Clusters."""

    client_config: ClientConfig
    """How the server is reached."""


class ExtensionHandler(hub.ExtensionHandler):
    """A handler that the server has reported."""

    timeout_seconds: int | None = None
    """Longest time of a call; 10 by default."""


class ExtensionConfigStatus(DeprecatedConditions):
    """What is known about the server."""

    handlers: Annotated[tuple[ExtensionHandler, ...], Field(max_length=512), ListMap(("name",))] = ()
    """Handlers of the server."""
    v1beta2: V1Beta2Status = Field(default=V1Beta2Status(), alias="v1beta2")
    """What became the hub's status."""


class ExtensionConfig(KubeObject):
    """A server of runtime extensions."""

    GROUP: ClassVar[str] = hub.GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "ExtensionConfig"
    PLURAL: ClassVar[str] = "extensionconfigs"
    SCOPE: ClassVar[Literal["Namespaced", "Cluster"]] = "Cluster"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("ext",)
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (AGE,)

    spec: Annotated[ExtensionConfigSpec, OPTIONAL]
    """Which server is called for which Clusters."""
    status: ExtensionConfigStatus = ExtensionConfigStatus()
    """What is known about the server."""
