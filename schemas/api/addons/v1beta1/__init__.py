"""Kinds of addons.cluster.x-k8s.io/v1beta1, of which conversion is the only reader."""

from schemas.api.addons.v1beta1.cluster_resource_set import ClusterResourceSet, ClusterResourceSetBinding

__all__ = ["ClusterResourceSet", "ClusterResourceSetBinding"]
