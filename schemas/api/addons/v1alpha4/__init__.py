"""ClusterResourceSet and its binding (addons.cluster.x-k8s.io/v1alpha4): those of v1beta1 without what was added since."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from schemas.api.addons.v1beta1 import cluster_resource_set
from schemas.api.core.v1alpha4.cluster import VERSION
from schemas.markers import OPTIONAL


class ClusterResourceSetSpec(cluster_resource_set.ClusterResourceSetSpec):
    """What is applied to which Clusters."""

    strategy: Literal["ApplyOnce"] | None = None
    """Apply once."""


class ClusterResourceSetStatus(cluster_resource_set.ClusterResourceSetStatus):
    """What is known about the ClusterResourceSet."""

    LACKS = frozenset({"v1beta2"})


class ClusterResourceSet(cluster_resource_set.ClusterResourceSet):
    """Resources that are applied to every selected Cluster."""

    VERSION: ClassVar[str] = VERSION
    LOWER_BOUNDS: ClassVar[bool] = False

    spec: Annotated[ClusterResourceSetSpec, OPTIONAL]
    """What is applied to which Clusters."""
    status: ClusterResourceSetStatus = ClusterResourceSetStatus()
    """What is known about the ClusterResourceSet."""


class ClusterResourceSetBindingSpec(cluster_resource_set.ClusterResourceSetBindingSpec):
    """What has been applied to a Cluster."""

    LACKS = frozenset({"cluster_name"})


class ClusterResourceSetBinding(cluster_resource_set.ClusterResourceSetBinding):
    """What the ClusterResourceSets have applied to a Cluster; it has the Cluster's name."""

    VERSION: ClassVar[str] = VERSION
    LOWER_BOUNDS: ClassVar[bool] = False

    spec: Annotated[ClusterResourceSetBindingSpec, OPTIONAL]
    """What has been applied to the Cluster."""
