"""What fleetwake adds to a KubeadmConfig: one object of its own, ``spec.fleetwake``, beside the fields of Cluster API.

It is part of the spec, and not of the metadata, so that a change of it rolls machines like any other change: a control plane compares specs, a
MachineDeployment gets another template. Cluster API itself knows none of it and prunes it.

Source: roadmap rows 17, 18, 21, 22, 29.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.api.meta import Frozen
from schemas.api.scalars import Subdomain
from schemas.markers import ATOMIC, Rule

ProxyUrl = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^https?://[A-Za-z0-9.:\[\]_-]+/?$")]
NoProxyEntry = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9.:/*_\[\]-]+$")]
IgnitionVersion = Literal["2.3", "3.0", "3.1", "3.2", "3.3", "3.4", "3.5"]


class ProxyCredentials(Frozen):
    """A Secret of the same namespace with the keys username and password."""

    name: Subdomain
    """Name of the Secret."""


class HttpProxy(Frozen):
    """The proxy through which the host reaches what lies outside the cluster: containerd, the kubelet and kubeadm's static Pods get it."""

    MIN_PROPERTIES: ClassVar[int] = 1
    RULES: ClassVar[tuple[Rule, ...]] = (Rule("has(self.httpProxy) || has(self.httpsProxy)", "at least one of httpProxy and httpsProxy must be set"),)

    http_proxy: ProxyUrl | None = None
    """Proxy for http, as in http://proxy.example.com:3128; credentials belong into credentialsSecret."""
    https_proxy: ProxyUrl | None = None
    """Proxy for https; credentials belong into credentialsSecret."""
    no_proxy: Annotated[tuple[NoProxyEntry, ...], Field(min_length=1, max_length=100), ATOMIC] = ()
    """Names, addresses and networks reached directly. The cluster's networks, its domain and its endpoint are added."""
    credentials_secret: ProxyCredentials | None = None
    """Who the host is for the proxy."""


class SecretTransport(Frozen):
    """How key material reaches the host."""

    type: Literal["Inline", "Fetch"]
    """Inline: in the user data. Fetch: the user data holds a token that works once, for the service that hands it out over TLS."""
    token_lifetime_seconds: Annotated[int, Field(ge=60, le=604800)] | None = None
    """How long after its making the token of type Fetch works; an hour by default."""


class DataDeletion(Frozen):
    """Removal of the bootstrap data once nobody needs it."""

    after_node_ready_seconds: Annotated[int, Field(ge=0, le=604800)]
    """The Secret is deleted this long after the Machine's Node became Ready. Hosts of a MachinePool keep theirs."""


class FleetwakeSpec(Frozen):
    """Settings that Cluster API does not have."""

    MIN_PROPERTIES: ClassVar[int] = 1

    bootstrapper: Literal["kubeadm", "kubelet"] | None = None
    """What turns the host into a Node: kubeadm (the default), or the kubelet alone by TLS bootstrap (workers only)."""
    operating_system: Literal["linux", "windows"] | None = None
    """Operating system of the host; linux by default. Windows workers get user data that cloudbase-init reads."""
    ignition_version: IgnitionVersion | None = None
    """Version of the Ignition specification for the format ignition; 2.3 by default, as Cluster API."""
    secret_transport: SecretTransport | None = None
    """How key material reaches the host; inline by default."""
    data_deletion: DataDeletion | None = None
    """When bootstrap data is deleted; never by default."""
    http_proxy: HttpProxy = HttpProxy()
    """The host's HTTP proxy."""
