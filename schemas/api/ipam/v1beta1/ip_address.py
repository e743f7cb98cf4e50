"""IPAddress and IPAddressClaim (ipam.cluster.x-k8s.io/v1beta1)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from schemas.api.core.v1beta1.shared import VERSION, V1Beta2Status
from schemas.api.core.v1beta2 import DeprecatedConditions
from schemas.api.ipam.v1beta2 import ip_address as hub
from schemas.api.meta import Frozen, KubeObject
from schemas.api.scalars import Text39, Text63
from schemas.cel import added
from schemas.markers import AGE, OPTIONAL, PLAIN_INTEGER, Column, Rule, ServerDefault


class PoolReference(Frozen):
    """A pool of addresses in the same namespace."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        # no pool is of the core group, and the hub has no room for it
        added("has(self.apiGroup) && self.apiGroup != ''", "must be set", field_path=".apiGroup", reason="FieldValueRequired"),
    )

    api_group: str | None = None
    """API group of the pool."""
    kind: str
    """Kind of the pool."""
    name: str
    """Name of the pool."""


class LocalReference(Frozen):
    """An object of a known kind in the same namespace."""

    name: Annotated[str, ServerDefault(""), OPTIONAL]
    """Its name."""


class IPAddressSpec(Frozen):
    """An address and where it comes from; immutable."""

    claim_ref: LocalReference
    """The claim the address was made for."""
    pool_ref: PoolReference
    """The pool the address comes from."""
    address: Text39
    """The address."""
    prefix: Annotated[int, PLAIN_INTEGER]
    """Length of the network prefix."""
    gateway: Text39 | None = None
    """Gateway of the network."""


class IPAddress(KubeObject):
    """An address that a pool has handed out."""

    GROUP: ClassVar[str] = hub.GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "IPAddress"
    PLURAL: ClassVar[str] = "ipaddresses"
    STATUS_SUBRESOURCE: ClassVar[bool] = False
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = hub.IPAddress.PRINT_COLUMNS

    spec: Annotated[IPAddressSpec, OPTIONAL]
    """The address and where it comes from."""


class IPAddressClaimSpec(Frozen):
    """Which pool an address is wanted from; immutable."""

    cluster_name: Text63 | None = None
    """Name of the Cluster the address is for."""
    pool_ref: PoolReference
    """The pool."""


class IPAddressClaimStatus(DeprecatedConditions):
    """What became of the claim."""

    address_ref: LocalReference | None = None
    """The address, once there is one."""
    v1beta2: V1Beta2Status = Field(default=V1Beta2Status(), alias="v1beta2")
    """What became the hub's status."""


class IPAddressClaim(KubeObject):
    """A request for an address from a pool."""

    GROUP: ClassVar[str] = hub.GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "IPAddressClaim"
    PLURAL: ClassVar[str] = "ipaddressclaims"
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (*hub.IPAddress.PRINT_COLUMNS[1:3], AGE)

    spec: Annotated[IPAddressClaimSpec, OPTIONAL]
    """Which pool an address is wanted from."""
    status: IPAddressClaimStatus = IPAddressClaimStatus()
    """What became of the claim."""
