"""ClusterResourceSet: resources applied to every selected Cluster (addons.cluster.x-k8s.io/v1beta2)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field

from schemas.api.core.v1beta2.shared import ConditionsDeprecatedStatus
from schemas.api.meta import Conditions, Frozen, KubeObject, LabelSelector
from schemas.api.scalars import Positive, Text63, Text253, Text256
from schemas.cel import IMMUTABLE, SELECTOR_NOT_EMPTY
from schemas.markers import AGE, ATOMIC, INT64, PAUSED, Addition, Column, condition_column

GROUP = "addons.cluster.x-k8s.io"
VERSION = "v1beta2"

ClusterResourceSetStrategy = Literal["ApplyOnce", "Reconcile"]


class ResourceRef(Frozen):
    """A Secret or ConfigMap that holds manifests."""

    name: Text253
    """Name of the object."""
    kind: Literal["Secret", "ConfigMap"]
    """Kind of the object."""


class ClusterResourceSetSpec(Frozen):
    """What is applied to which Clusters."""

    cluster_selector: Annotated[LabelSelector, SELECTOR_NOT_EMPTY, IMMUTABLE]
    """Labels that select the Clusters; immutable."""
    resources: Annotated[tuple[ResourceRef, ...], Field(min_length=1, max_length=100), ATOMIC]
    """Objects that hold the manifests."""
    strategy: Annotated[ClusterResourceSetStrategy | None, Addition("default", "ApplyOnce"), IMMUTABLE] = None
    """Apply once, or again after every change; ApplyOnce by default."""


class ClusterResourceSetStatus(Frozen):
    """What is known about the ClusterResourceSet."""

    MIN_PROPERTIES: ClassVar[int] = 1

    conditions: Conditions = ()
    """Conditions of the ClusterResourceSet."""
    observed_generation: Annotated[Positive, INT64] | None = None
    """metadata.generation that the status was computed from."""
    deprecated: ConditionsDeprecatedStatus = ConditionsDeprecatedStatus()
    """Fields kept for readers of older contracts."""


class ClusterResourceSet(KubeObject):
    """Resources that are applied to every selected Cluster."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "ClusterResourceSet"
    PLURAL: ClassVar[str] = "clusterresourcesets"
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (condition_column("Applied", "ResourcesApplied"), PAUSED, AGE)

    spec: ClusterResourceSetSpec
    """What is applied to which Clusters."""
    status: ClusterResourceSetStatus = ClusterResourceSetStatus()
    """What is known about the ClusterResourceSet."""


class ResourceBinding(Frozen):
    """What became of one resource in the Cluster."""

    name: Text253
    """Name of the object that holds the manifests."""
    kind: Literal["Secret", "ConfigMap"]
    """Kind of the object that holds the manifests."""
    hash: Text256 | None = None
    """Hash of the manifests that were applied last."""
    last_applied_time: AwareDatetime | None = None
    """When they were applied last."""
    applied: bool
    """Whether they were applied in full."""


class ResourceSetBinding(Frozen):
    """What became of one ClusterResourceSet in the Cluster."""

    cluster_resource_set_name: Text253
    """Name of the ClusterResourceSet."""
    resources: Annotated[tuple[ResourceBinding, ...], Field(max_length=100), ATOMIC] = ()
    """Its resources."""


class ClusterResourceSetBindingSpec(Frozen):
    """What has been applied to a Cluster."""

    bindings: Annotated[tuple[ResourceSetBinding, ...], Field(max_length=100), ATOMIC] = ()
    """ClusterResourceSets that select the Cluster."""
    cluster_name: Annotated[Text63, IMMUTABLE]
    """Name of the Cluster; immutable."""


class ClusterResourceSetBinding(KubeObject):
    """What the ClusterResourceSets have applied to a Cluster; it has the Cluster's name."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "ClusterResourceSetBinding"
    PLURAL: ClassVar[str] = "clusterresourcesetbindings"
    STATUS_SUBRESOURCE: ClassVar[bool] = False
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (Column("Cluster", ".spec.clusterName"), AGE)

    spec: ClusterResourceSetBindingSpec
    """What has been applied to the Cluster."""
