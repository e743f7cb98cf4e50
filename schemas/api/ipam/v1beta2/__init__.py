"""Kinds of ipam.cluster.x-k8s.io/v1beta2."""

from schemas.api.ipam.v1beta2.ip_address import (
    GROUP,
    VERSION,
    IPAddress,
    IPAddressClaim,
    IPAddressClaimReference,
    IPAddressClaimSpec,
    IPAddressClaimStatus,
    IPAddressReference,
    IPAddressSpec,
    IPPoolReference,
)

__all__ = [
    "GROUP",
    "VERSION",
    "IPAddress",
    "IPAddressClaim",
    "IPAddressClaimReference",
    "IPAddressClaimSpec",
    "IPAddressClaimStatus",
    "IPAddressReference",
    "IPAddressSpec",
    "IPPoolReference",
]
