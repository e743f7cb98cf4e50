"""Kinds of ipam.cluster.x-k8s.io/v1beta1, of which conversion is the only reader."""

from schemas.api.ipam.v1beta1.ip_address import IPAddress, IPAddressClaim

__all__ = ["IPAddress", "IPAddressClaim"]
