"""ExtensionConfig: a server of runtime extensions (runtime.cluster.x-k8s.io/v1beta2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.api.core.v1beta2.shared import ConditionsDeprecatedStatus
from schemas.api.meta import Conditions, Frozen, KubeObject, LabelSelector
from schemas.api.scalars import Positive, Text63, Text256, Text512, Text51200
from schemas.cel import added
from schemas.markers import AGE, BYTE, PAUSED, Addition, Column, ListMap, Rule, condition_column

GROUP = "runtime.cluster.x-k8s.io"
VERSION = "v1beta2"


class ServiceReference(Frozen):
    """A Service of the management cluster."""

    namespace: Text63
    """Namespace of the Service."""
    name: Text63
    """Name of the Service."""
    path: Text512 | None = None
    """Path put before that of every call."""
    port: Annotated[int | None, Addition("default", 443)] = None
    """Port; 443 by default."""


class ClientConfig(Frozen):
    """How the server is reached; url or service."""

    MIN_PROPERTIES: ClassVar[int] = 1
    RULES: ClassVar[tuple[Rule, ...]] = (
        added("has(self.url) != has(self.service)", "exactly one of url and service must be set", reason="FieldValueRequired"),
    )

    url: Annotated[Text512, added("self.startsWith('https://')", "must begin with https://")] | None = None
    """URL of the server; https."""
    service: ServiceReference | None = None
    """Service of the server."""
    ca_bundle: Annotated[Text51200, BYTE] | None = None
    """Certificate authority of the server, PEM in base64."""


class ExtensionConfigSpec(Frozen):
    """Which server is called for which Clusters."""

    client_config: ClientConfig
    """How the server is reached."""
    namespace_selector: LabelSelector | None = None
    """Labels of the namespaces whose objects the server is called for; all by default."""
    settings: Mapping[str, str] = Field(default_factory=dict)
    """Settings sent with every call."""


class GroupVersionHook(Frozen):
    """A hook of the runtime SDK."""

    api_version: Text512
    """Group and version of the hook."""
    hook: Text256
    """Name of the hook."""


class ExtensionHandler(Frozen):
    """A handler that the server has reported."""

    name: Text512
    """Name of the handler, with the ExtensionConfig's name after a dot."""
    request_hook: GroupVersionHook
    """The hook it answers."""
    timeout_seconds: Positive | None = None
    """Longest time of a call; 10 by default."""
    failure_policy: Literal["Ignore", "Fail"] | None = None
    """What a failed call means; Fail by default."""


class ExtensionConfigStatus(Frozen):
    """What is known about the server."""

    MIN_PROPERTIES: ClassVar[int] = 1

    conditions: Conditions = ()
    """Conditions of the ExtensionConfig."""
    handlers: Annotated[tuple[ExtensionHandler, ...], Field(max_length=512), ListMap(("name",))] = ()
    """Handlers of the server."""
    deprecated: ConditionsDeprecatedStatus = ConditionsDeprecatedStatus()
    """Fields kept for readers of older contracts."""


class ExtensionConfig(KubeObject):
    """A server of runtime extensions."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "ExtensionConfig"
    PLURAL: ClassVar[str] = "extensionconfigs"
    SCOPE: ClassVar[Literal["Namespaced", "Cluster"]] = "Cluster"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("ext",)
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (PAUSED, condition_column("Discovered", "Discovered"), AGE)

    spec: ExtensionConfigSpec
    """Which server is called for which Clusters."""
    status: ExtensionConfigStatus = ExtensionConfigStatus()
    """What is known about the server."""
