"""MachineSet: a number of equal Machines (cluster.x-k8s.io/v1beta2)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.api.core.v1beta2.machine import MachineTemplateSpec
from schemas.api.core.v1beta2.shared import GROUP, VERSION, DeprecatedFailure, MachineNaming, MachineVersions
from schemas.api.meta import Conditions, Frozen, KubeObject, LabelSelector
from schemas.api.scalars import Positive, Text63, Text4096
from schemas.cel import IMMUTABLE, WORKER_RULES
from schemas.markers import AGE, INT64, PAUSED, Column, Rule, Scale

MachineDeletionOrder = Literal["Random", "Newest", "Oldest"]

REPLICA_COLUMNS = (
    Column("Desired", ".spec.replicas", "integer"),
    Column("Current", ".status.replicas", "integer"),
    Column("Ready", ".status.readyReplicas", "integer"),
    Column("Available", ".status.availableReplicas", "integer"),
    Column("Up-to-date", ".status.upToDateReplicas", "integer"),
)


class MachineSetDeletion(Frozen):
    """Which Machines go first when the set shrinks."""

    MIN_PROPERTIES: ClassVar[int] = 1

    order: MachineDeletionOrder | None = None
    """Order in which Machines are picked for deletion; Random by default."""


class MachineSetSpec(Frozen):
    """What the MachineSet shall hold."""

    RULES: ClassVar[tuple[Rule, ...]] = WORKER_RULES

    cluster_name: Annotated[Text63, IMMUTABLE]
    """Name of the Cluster the MachineSet belongs to; immutable."""
    replicas: int | None = None
    """Number of Machines; 1 by default."""
    selector: LabelSelector
    """Labels that select the Machines of the set; must match the template's labels."""
    template: MachineTemplateSpec
    """What the Machines look like."""
    machine_naming: MachineNaming = MachineNaming()
    """How Machines are named."""
    deletion: MachineSetDeletion = MachineSetDeletion()
    """Which Machines go first when the set shrinks."""


class MachineSetV1Beta1DeprecatedStatus(DeprecatedFailure):
    """Fields of the v1beta1 contract."""

    fully_labeled_replicas: int | None = None
    """Machines that carry the labels of the template."""
    ready_replicas: int | None = None
    """Machines whose Node is ready."""
    available_replicas: int | None = None
    """Machines whose Node has been ready long enough."""


class MachineSetDeprecatedStatus(Frozen):
    """Fields kept for readers of older contracts."""

    v1beta1: MachineSetV1Beta1DeprecatedStatus = Field(default=MachineSetV1Beta1DeprecatedStatus(), alias="v1beta1")
    """Fields of the v1beta1 contract."""


class MachineSetStatus(Frozen):
    """What is known about the MachineSet."""

    MIN_PROPERTIES: ClassVar[int] = 1

    conditions: Conditions = ()
    """Conditions of the MachineSet."""
    selector: Text4096 | None = None
    """The selector as text, for the scale subresource."""
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
    observed_generation: Annotated[Positive, INT64] | None = None
    """metadata.generation that the status was computed from."""
    deprecated: MachineSetDeprecatedStatus = MachineSetDeprecatedStatus()
    """Fields kept for readers of older contracts."""


class MachineSet(KubeObject):
    """A number of equal Machines."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "MachineSet"
    PLURAL: ClassVar[str] = "machinesets"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("ms",)
    SCALE: ClassVar[Scale | None] = Scale()
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Cluster", ".spec.clusterName"),
        *REPLICA_COLUMNS,
        PAUSED,
        AGE,
        Column("Version", ".spec.template.spec.version"),
    )

    spec: MachineSetSpec
    """What the MachineSet shall hold."""
    status: MachineSetStatus = MachineSetStatus()
    """What is known about the MachineSet."""
