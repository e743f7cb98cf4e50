"""IPAddress and IPAddressClaim: addresses handed out from pools (ipam.cluster.x-k8s.io/v1beta2)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from schemas.api.core.v1beta2.shared import ConditionsDeprecatedStatus
from schemas.api.meta import Conditions, Frozen, KubeObject
from schemas.api.scalars import KindName, Subdomain, Text39, Text63
from schemas.cel import IMMUTABLE, IP, added
from schemas.markers import AGE, Column, Rule

GROUP = "ipam.cluster.x-k8s.io"
VERSION = "v1beta2"

_POOL_COLUMNS = (Column("Pool Name", ".spec.poolRef.name"), Column("Pool Kind", ".spec.poolRef.kind"))


class IPPoolReference(Frozen):
    """A pool of addresses in the same namespace."""

    api_group: Subdomain
    """API group of the pool."""
    kind: KindName
    """Kind of the pool."""
    name: Subdomain
    """Name of the pool."""


class IPAddressClaimReference(Frozen):
    """The claim an address was made for."""

    name: Subdomain
    """Name of the claim."""


class IPAddressSpec(Frozen):
    """An address and where it comes from; immutable."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        added("!isIP(self.address) || ip(self.address).family() == 6 || self.prefix <= 32", "must be at most 32 for IPv4", field_path=".prefix"),
    )

    claim_ref: IPAddressClaimReference
    """The claim the address was made for."""
    pool_ref: IPPoolReference
    """The pool the address comes from."""
    address: Annotated[Text39, IP]
    """The address."""
    prefix: Annotated[int, Field(ge=0, le=128)]
    """Length of the network prefix."""
    gateway: Annotated[Text39, IP] | None = None
    """Gateway of the network."""


class IPAddress(KubeObject):
    """An address that a pool has handed out."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "IPAddress"
    PLURAL: ClassVar[str] = "ipaddresses"
    STATUS_SUBRESOURCE: ClassVar[bool] = False
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (Column("Address", ".spec.address"), *_POOL_COLUMNS, AGE)

    spec: Annotated[IPAddressSpec, IMMUTABLE]
    """The address and where it comes from."""


class IPAddressClaimSpec(Frozen):
    """Which pool an address is wanted from; immutable."""

    cluster_name: Text63 | None = None
    """Name of the Cluster the address is for."""
    pool_ref: IPPoolReference
    """The pool."""


class IPAddressReference(Frozen):
    """The address a claim has got."""

    name: Subdomain
    """Name of the IPAddress."""


class IPAddressClaimStatus(Frozen):
    """What became of the claim."""

    MIN_PROPERTIES: ClassVar[int] = 1

    conditions: Conditions = ()
    """Conditions of the claim."""
    address_ref: IPAddressReference | None = None
    """The address, once there is one."""
    deprecated: ConditionsDeprecatedStatus = ConditionsDeprecatedStatus()
    """Fields kept for readers of older contracts."""


class IPAddressClaim(KubeObject):
    """A request for an address from a pool."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "IPAddressClaim"
    PLURAL: ClassVar[str] = "ipaddressclaims"
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (*_POOL_COLUMNS, AGE)

    spec: Annotated[IPAddressClaimSpec, IMMUTABLE]
    """Which pool an address is wanted from."""
    status: IPAddressClaimStatus = IPAddressClaimStatus()
    """What became of the claim."""
