"""IPAddress and IPAddressClaim (ipam.cluster.x-k8s.io/v1alpha1): those of v1beta1 without what was added since."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from schemas.api.ipam.v1beta1 import ip_address
from schemas.markers import OPTIONAL

VERSION: Final = "v1alpha1"


class IPAddress(ip_address.IPAddress):
    """An address that a pool has handed out."""

    VERSION: ClassVar[str] = VERSION


class IPAddressClaimSpec(ip_address.IPAddressClaimSpec):
    """Which pool an address is wanted from; immutable."""

    LACKS = frozenset({"cluster_name"})


class IPAddressClaimStatus(ip_address.IPAddressClaimStatus):
    """What became of the claim."""

    LACKS = frozenset({"v1beta2"})


class IPAddressClaim(ip_address.IPAddressClaim):
    """A request for an address from a pool."""

    VERSION: ClassVar[str] = VERSION

    spec: Annotated[IPAddressClaimSpec, OPTIONAL]
    """Which pool an address is wanted from."""
    status: IPAddressClaimStatus = IPAddressClaimStatus()
    """What became of the claim."""
