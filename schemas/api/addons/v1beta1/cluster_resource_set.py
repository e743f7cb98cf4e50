"""ClusterResourceSet and its binding (addons.cluster.x-k8s.io/v1beta1)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from schemas.api.addons.v1beta2 import cluster_resource_set as hub
from schemas.api.core.v1beta1.shared import VERSION, V1Beta2Status
from schemas.api.core.v1beta2 import DeprecatedConditions
from schemas.api.meta import Frozen, KubeObject, LabelSelector
from schemas.api.scalars import Text63, Text253
from schemas.cel import added
from schemas.markers import AGE, INT64, OPTIONAL, Column, Rule


class ClusterResourceSetSpec(Frozen):
    """What is applied to which Clusters."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        # the hub asks for it by the schema, which conversion cannot help with
        added("has(self.resources) && size(self.resources) > 0", "must not be empty", field_path=".resources", reason="FieldValueRequired"),
    )

    cluster_selector: LabelSelector
    """Labels that select the Clusters; immutable."""
    resources: Annotated[tuple[hub.ResourceRef, ...], Field(max_length=100)] = ()
    """Objects that hold the manifests."""
    strategy: hub.ClusterResourceSetStrategy | None = None
    """Apply once, or again after every change; ApplyOnce by default."""


class ClusterResourceSetStatus(DeprecatedConditions):
    """What is known about the ClusterResourceSet."""

    observed_generation: Annotated[int, INT64] | None = None
    """metadata.generation that the status was computed from."""
    v1beta2: V1Beta2Status = Field(default=V1Beta2Status(), alias="v1beta2")
    """What became the hub's status."""


class ClusterResourceSet(KubeObject):
    """Resources that are applied to every selected Cluster."""

    GROUP: ClassVar[str] = hub.GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "ClusterResourceSet"
    PLURAL: ClassVar[str] = "clusterresourcesets"
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (AGE,)

    spec: Annotated[ClusterResourceSetSpec, OPTIONAL]
    """What is applied to which Clusters."""
    status: ClusterResourceSetStatus = ClusterResourceSetStatus()
    """What is known about the ClusterResourceSet."""


class ResourceSetBinding(Frozen):
    """What became of one ClusterResourceSet in the Cluster."""

    cluster_resource_set_name: Text253
    """Name of the ClusterResourceSet."""
    resources: Annotated[tuple[hub.ResourceBinding, ...], Field(max_length=100)] = ()
    """Its resources."""


class ClusterResourceSetBindingSpec(Frozen):
    """What has been applied to a Cluster."""

    bindings: Annotated[tuple[ResourceSetBinding, ...], Field(max_length=100)] = ()
    """ClusterResourceSets that select the Cluster."""
    cluster_name: Text63 | None = None
    """Name of the Cluster; the binding's own name when not set."""


class ClusterResourceSetBinding(KubeObject):
    """What the ClusterResourceSets have applied to a Cluster; it has the Cluster's name."""

    GROUP: ClassVar[str] = hub.GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "ClusterResourceSetBinding"
    PLURAL: ClassVar[str] = "clusterresourcesetbindings"
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (AGE,)

    spec: Annotated[ClusterResourceSetBindingSpec, OPTIONAL]
    """What has been applied to the Cluster."""
