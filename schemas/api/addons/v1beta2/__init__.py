"""Kinds of addons.cluster.x-k8s.io/v1beta2."""

from schemas.api.addons.v1beta2.cluster_resource_set import (
    GROUP,
    VERSION,
    ClusterResourceSet,
    ClusterResourceSetBinding,
    ClusterResourceSetBindingSpec,
    ClusterResourceSetSpec,
    ClusterResourceSetStatus,
    ClusterResourceSetStrategy,
    ResourceBinding,
    ResourceRef,
    ResourceSetBinding,
)

__all__ = [
    "GROUP",
    "VERSION",
    "ClusterResourceSet",
    "ClusterResourceSetBinding",
    "ClusterResourceSetBindingSpec",
    "ClusterResourceSetSpec",
    "ClusterResourceSetStatus",
    "ClusterResourceSetStrategy",
    "ResourceBinding",
    "ResourceRef",
    "ResourceSetBinding",
]
