"""MachineSet, MachineDeployment and MachinePool (cluster.x-k8s.io/v1beta1)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field

from schemas.api.core.v1beta1.machine import MachineTemplateSpec
from schemas.api.core.v1beta1.shared import VERSION, DeletePolicy, MachineDeploymentStrategy, MachineNaming, V1Beta2Counters
from schemas.api.core.v1beta2 import GROUP, DeprecatedConditions, DeprecatedFailure, MachinePoolPhase, MachineVersions, ObjectReference
from schemas.api.meta import Frozen, KubeObject, LabelSelector
from schemas.api.scalars import Text63, Text256, Text512, Text4096
from schemas.markers import AGE, INT64, OPTIONAL, Column, Scale

_CLUSTER = Column("Cluster", ".spec.clusterName")
_DESIRED = Column("Desired", ".spec.replicas", "integer", 10)
_REPLICAS = Column("Replicas", ".status.replicas", "integer")
_READY = Column("Ready", ".status.readyReplicas", "integer")
_PHASE = Column("Phase", ".status.phase")
_KUBERNETES = Column("Version", ".spec.template.spec.version")


class MachineSetSpec(Frozen):
    """What the MachineSet shall hold."""

    cluster_name: Text63
    """Name of the Cluster the MachineSet belongs to; immutable."""
    replicas: int | None = None
    """Number of Machines; 1 by default."""
    min_ready_seconds: int | None = None
    """How long a Machine must be ready before it counts as available."""
    delete_policy: DeletePolicy | None = None
    """Order in which Machines are picked for deletion; Random by default."""
    selector: LabelSelector
    """Labels that select the Machines of the set; must match the template's labels."""
    template: Annotated[MachineTemplateSpec, OPTIONAL]
    """What the Machines look like."""
    machine_naming_strategy: MachineNaming = MachineNaming()
    """How Machines are named."""


class MachineSetStatus(DeprecatedFailure):
    """What is known about the MachineSet."""

    selector: Text4096 | None = None
    """The selector as text, for the scale subresource."""
    replicas: int | None = None
    """Number of Machines."""
    fully_labeled_replicas: int | None = None
    """Machines that carry the labels of the template."""
    ready_replicas: int | None = None
    """Machines whose Node is ready."""
    available_replicas: int | None = None
    """Machines whose Node has been ready long enough."""
    versions: MachineVersions = ()
    """How many Machines run which version."""
    observed_generation: Annotated[int, INT64] | None = None
    """metadata.generation that the status was computed from."""
    v1beta2: V1Beta2Counters = Field(default=V1Beta2Counters(), alias="v1beta2")
    """What became the hub's status."""


class MachineSet(KubeObject):
    """A number of equal Machines."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "MachineSet"
    PLURAL: ClassVar[str] = "machinesets"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("ms",)
    SCALE: ClassVar[Scale | None] = Scale()
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        _CLUSTER,
        _DESIRED,
        _REPLICAS,
        _READY,
        Column("Available", ".status.availableReplicas", "integer"),
        AGE,
        _KUBERNETES,
    )

    spec: Annotated[MachineSetSpec, OPTIONAL]
    """What the MachineSet shall hold."""
    status: MachineSetStatus = MachineSetStatus()
    """What is known about the MachineSet."""


class MachineDeploymentSpec(Frozen):
    """What the MachineDeployment shall hold."""

    cluster_name: Text63
    """Name of the Cluster the MachineDeployment belongs to; immutable."""
    replicas: int | None = None
    """Number of Machines; 1 by default."""
    rollout_after: AwareDatetime | None = None
    """Replace Machines created before this time, once it has passed."""
    selector: LabelSelector
    """Labels that select the Machines of the deployment; must match the template's labels."""
    template: MachineTemplateSpec
    """What the Machines look like."""
    strategy: MachineDeploymentStrategy | None = None
    """How Machines are replaced by new ones."""
    machine_naming_strategy: MachineNaming = MachineNaming()
    """How Machines are named."""
    min_ready_seconds: int | None = None
    """How long a Machine must be ready before it counts as available."""
    revision_history_limit: int | None = None
    """Of no effect."""
    progress_deadline_seconds: int | None = None
    """Of no effect."""
    paused: bool | None = None
    """Whether rollouts of the deployment are paused."""


class MachineDeploymentStatus(DeprecatedConditions):
    """What is known about the MachineDeployment."""

    observed_generation: Annotated[int, INT64] | None = None
    """metadata.generation that the status was computed from."""
    selector: Text4096 | None = None
    """The selector as text, for the scale subresource."""
    replicas: int | None = None
    """Number of Machines."""
    updated_replicas: int | None = None
    """Machines of the newest template."""
    ready_replicas: int | None = None
    """Machines whose Node is ready."""
    available_replicas: int | None = None
    """Machines whose Node has been ready long enough."""
    unavailable_replicas: int | None = None
    """Machines missing to full availability."""
    versions: MachineVersions = ()
    """How many Machines run which version."""
    phase: Literal["ScalingUp", "ScalingDown", "Running", "Failed", "Unknown"] | None = None
    """Summary of what the deployment does; programs read conditions instead."""
    v1beta2: V1Beta2Counters = Field(default=V1Beta2Counters(), alias="v1beta2")
    """What became the hub's status."""


class MachineDeployment(KubeObject):
    """Machines whose changes roll out through MachineSets."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "MachineDeployment"
    PLURAL: ClassVar[str] = "machinedeployments"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("md",)
    SCALE: ClassVar[Scale | None] = Scale()
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        _CLUSTER,
        _DESIRED,
        _REPLICAS,
        _READY,
        Column("Updated", ".status.updatedReplicas", "integer"),
        Column("Unavailable", ".status.unavailableReplicas", "integer"),
        _PHASE,
        AGE,
        _KUBERNETES,
    )

    spec: Annotated[MachineDeploymentSpec, OPTIONAL]
    """What the MachineDeployment shall hold."""
    status: MachineDeploymentStatus = MachineDeploymentStatus()
    """What is known about the MachineDeployment."""


class MachinePoolSpec(Frozen):
    """What the MachinePool shall hold."""

    cluster_name: Text63
    """Name of the Cluster the MachinePool belongs to; immutable."""
    replicas: int | None = None
    """Number of Machines; 1 by default."""
    template: MachineTemplateSpec
    """What the Machines look like."""
    min_ready_seconds: int | None = None
    """How long a Machine must be ready before it counts as available."""
    provider_id_list: Annotated[tuple[Text512, ...], Field(max_length=10000, alias="providerIDList")] = ()
    """Identities of the hosts at their infrastructure."""
    failure_domains: Annotated[tuple[Text256, ...], Field(max_length=100)] = ()
    """Failure domains the pool may use."""


class MachinePoolStatus(DeprecatedFailure):
    """What is known about the MachinePool."""

    node_refs: Annotated[tuple[ObjectReference, ...], Field(max_length=10000)] = ()
    """The Nodes of the pool."""
    replicas: int | None = None
    """Number of Machines."""
    ready_replicas: int | None = None
    """Machines whose Node is ready."""
    available_replicas: int | None = None
    """Machines whose Node has been ready long enough."""
    unavailable_replicas: int | None = None
    """Machines missing to full availability."""
    versions: MachineVersions = ()
    """How many Machines run which version."""
    phase: MachinePoolPhase | None = None
    """Summary of what the pool does; programs read conditions instead."""
    bootstrap_ready: bool | None = None
    """Whether the bootstrap provider has reported its data as ready."""
    infrastructure_ready: bool | None = None
    """Whether the infrastructure provider has reported the pool as provisioned."""
    observed_generation: Annotated[int, INT64] | None = None
    """metadata.generation that the status was computed from."""
    v1beta2: V1Beta2Counters = Field(default=V1Beta2Counters(), alias="v1beta2")
    """What became the hub's status."""


class MachinePool(KubeObject):
    """Machines that their infrastructure manages as one group."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "MachinePool"
    PLURAL: ClassVar[str] = "machinepools"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("mp",)
    SCALE: ClassVar[Scale | None] = Scale(label_selector_path=None)
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (_CLUSTER, _DESIRED, _REPLICAS, _PHASE, AGE, _KUBERNETES)

    spec: Annotated[MachinePoolSpec, OPTIONAL]
    """What the MachinePool shall hold."""
    status: MachinePoolStatus = MachinePoolStatus()
    """What is known about the MachinePool."""
