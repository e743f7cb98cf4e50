"""MachinePool: Machines the infrastructure manages as one (cluster.x-k8s.io/v1beta2)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.api.core.v1beta2.machine import MachineTemplateSpec
from schemas.api.core.v1beta2.machine_set import REPLICA_COLUMNS
from schemas.api.core.v1beta2.shared import GROUP, VERSION, DeprecatedFailure, MachineVersions
from schemas.api.meta import Conditions, Frozen, KubeObject
from schemas.api.scalars import Positive, Text63, Text256, Text512
from schemas.cel import IMMUTABLE, POOL_RULES
from schemas.markers import AGE, ATOMIC, INT64, PAUSED, Column, Rule, Scale

MachinePoolPhase = Literal["Pending", "Provisioning", "Provisioned", "Running", "ScalingUp", "ScalingDown", "Scaling", "Deleting", "Failed", "Unknown"]


class ObjectReference(Frozen):
    """A reference to an object (corev1)."""

    ATOMIC_MAP: ClassVar[bool] = True

    kind: str | None = None
    """Kind of the object."""
    namespace: str | None = None
    """Namespace of the object."""
    name: str | None = None
    """Name of the object."""
    uid: str | None = None
    """UID of the object."""
    api_version: str | None = None
    """Group and version of the object."""
    resource_version: str | None = None
    """Version of the object that is meant."""
    field_path: str | None = None
    """Part of the object that is meant."""


class MachinePoolSpec(Frozen):
    """What the MachinePool shall hold."""

    RULES: ClassVar[tuple[Rule, ...]] = POOL_RULES

    cluster_name: Annotated[Text63, IMMUTABLE]
    """Name of the Cluster the MachinePool belongs to; immutable."""
    replicas: int | None = None
    """Number of Machines; 1 by default."""
    template: MachineTemplateSpec
    """What the Machines look like."""
    provider_id_list: Annotated[tuple[Text512, ...], Field(max_length=10000, alias="providerIDList"), ATOMIC] = ()
    """Identities of the hosts at their infrastructure."""
    failure_domains: Annotated[tuple[Text256, ...], Field(max_length=100), ATOMIC] = ()
    """Failure domains the pool may use."""


class MachinePoolInitializationStatus(Frozen):
    """Steps of the first provisioning that are done; they never become false again."""

    MIN_PROPERTIES: ClassVar[int] = 1

    infrastructure_provisioned: bool | None = None
    """Whether the infrastructure provider has reported the pool as provisioned."""
    bootstrap_data_secret_created: bool | None = None
    """Whether the bootstrap provider has reported its data as ready."""


class MachinePoolV1Beta1DeprecatedStatus(DeprecatedFailure):
    """Fields of the v1beta1 contract."""

    ready_replicas: int | None = None
    """Machines whose Node is ready."""
    available_replicas: int | None = None
    """Machines whose Node has been ready long enough."""
    unavailable_replicas: int | None = None
    """Machines missing to full availability."""


class MachinePoolDeprecatedStatus(Frozen):
    """Fields kept for readers of older contracts."""

    v1beta1: MachinePoolV1Beta1DeprecatedStatus = Field(default=MachinePoolV1Beta1DeprecatedStatus(), alias="v1beta1")
    """Fields of the v1beta1 contract."""


class MachinePoolStatus(Frozen):
    """What is known about the MachinePool."""

    MIN_PROPERTIES: ClassVar[int] = 1

    conditions: Conditions = ()
    """Conditions of the MachinePool."""
    initialization: MachinePoolInitializationStatus = MachinePoolInitializationStatus()
    """Steps of the first provisioning that are done."""
    node_refs: Annotated[tuple[ObjectReference, ...], Field(max_length=10000), ATOMIC] = ()
    """The Nodes of the pool."""
    replicas: int | None = None
    """Number of Machines."""
    ready_replicas: int | None = None
    """Machines that are Ready."""
    available_replicas: int | None = None
    """Machines that are Available."""
    up_to_date_replicas: int | None = None
    """Machines that are UpToDate."""
    versions: MachineVersions = ()
    """How many Machines run which version."""
    phase: MachinePoolPhase | None = None
    """Summary of what the pool does; programs read conditions instead."""
    observed_generation: Annotated[Positive, INT64] | None = None
    """metadata.generation that the status was computed from."""
    deprecated: MachinePoolDeprecatedStatus = MachinePoolDeprecatedStatus()
    """Fields kept for readers of older contracts."""


class MachinePool(KubeObject):
    """Machines that their infrastructure manages as one group."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "MachinePool"
    PLURAL: ClassVar[str] = "machinepools"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("mp",)
    SCALE: ClassVar[Scale | None] = Scale(label_selector_path=None)
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Cluster", ".spec.clusterName"),
        *REPLICA_COLUMNS,
        PAUSED,
        Column("Phase", ".status.phase"),
        AGE,
        Column("Version", ".spec.template.spec.version"),
    )

    spec: MachinePoolSpec
    """What the MachinePool shall hold."""
    status: MachinePoolStatus = MachinePoolStatus()
    """What is known about the MachinePool."""
