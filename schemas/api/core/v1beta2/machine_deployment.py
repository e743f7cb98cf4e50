"""MachineDeployment: Machines replaced by rollouts of MachineSets (cluster.x-k8s.io/v1beta2)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.api.core.v1beta2.machine import MachineTemplateSpec
from schemas.api.core.v1beta2.machine_set import REPLICA_COLUMNS, MachineDeletionOrder
from schemas.api.core.v1beta2.shared import GROUP, VERSION, DeprecatedConditions, MachineDeploymentRollout, MachineNaming, MachineVersions
from schemas.api.meta import Conditions, Frozen, KubeObject, LabelSelector
from schemas.api.scalars import NumberOrPercent, Positive, Text63, Text4096
from schemas.cel import IMMUTABLE, WORKER_RULES
from schemas.markers import AGE, INT64, PAUSED, Column, Rule, Scale, condition_column


class MachineDeploymentDeletion(Frozen):
    """Which Machines go first when the deployment shrinks."""

    MIN_PROPERTIES: ClassVar[int] = 1

    order: MachineDeletionOrder | None = None
    """Order in which Machines are picked for deletion; Random by default."""


class MachineDeploymentRemediation(Frozen):
    """How unhealthy Machines are replaced."""

    MIN_PROPERTIES: ClassVar[int] = 1

    max_in_flight: NumberOrPercent | None = None
    """How many Machines, or what percentage, may be remediated at once; no limit by default."""


class MachineDeploymentSpec(Frozen):
    """What the MachineDeployment shall hold."""

    RULES: ClassVar[tuple[Rule, ...]] = WORKER_RULES

    cluster_name: Annotated[Text63, IMMUTABLE]
    """Name of the Cluster the MachineDeployment belongs to; immutable."""
    replicas: int | None = None
    """Number of Machines; 1 by default."""
    rollout: MachineDeploymentRollout = MachineDeploymentRollout()
    """When and how Machines are replaced."""
    selector: LabelSelector
    """Labels that select the Machines of the deployment; must match the template's labels."""
    template: MachineTemplateSpec
    """What the Machines look like."""
    machine_naming: MachineNaming = MachineNaming()
    """How Machines are named."""
    remediation: MachineDeploymentRemediation = MachineDeploymentRemediation()
    """How unhealthy Machines are replaced."""
    deletion: MachineDeploymentDeletion = MachineDeploymentDeletion()
    """Which Machines go first when the deployment shrinks."""
    paused: bool | None = None
    """Whether rollouts of the deployment are paused."""


class MachineDeploymentV1Beta1DeprecatedStatus(DeprecatedConditions):
    """Fields of the v1beta1 contract."""

    updated_replicas: int | None = None
    """Machines of the newest template."""
    ready_replicas: int | None = None
    """Machines whose Node is ready."""
    available_replicas: int | None = None
    """Machines whose Node has been ready long enough."""
    unavailable_replicas: int | None = None
    """Machines missing to full availability."""


class MachineDeploymentDeprecatedStatus(Frozen):
    """Fields kept for readers of older contracts."""

    v1beta1: MachineDeploymentV1Beta1DeprecatedStatus = Field(default=MachineDeploymentV1Beta1DeprecatedStatus(), alias="v1beta1")
    """Fields of the v1beta1 contract."""


class MachineDeploymentStatus(Frozen):
    """What is known about the MachineDeployment."""

    MIN_PROPERTIES: ClassVar[int] = 1

    conditions: Conditions = ()
    """Conditions of the MachineDeployment."""
    observed_generation: Annotated[Positive, INT64] | None = None
    """metadata.generation that the status was computed from."""
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
    phase: Literal["ScalingUp", "ScalingDown", "Running", "Failed", "Unknown"] | None = None
    """Summary of what the deployment does; programs read conditions instead."""
    deprecated: MachineDeploymentDeprecatedStatus = MachineDeploymentDeprecatedStatus()
    """Fields kept for readers of older contracts."""


class MachineDeployment(KubeObject):
    """Machines whose changes roll out through MachineSets."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "MachineDeployment"
    PLURAL: ClassVar[str] = "machinedeployments"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("md",)
    SCALE: ClassVar[Scale | None] = Scale()
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Cluster", ".spec.clusterName"),
        condition_column("Available", "Available"),
        *REPLICA_COLUMNS,
        PAUSED,
        Column("Phase", ".status.phase"),
        AGE,
        Column("Version", ".spec.template.spec.version"),
    )

    spec: MachineDeploymentSpec
    """What the MachineDeployment shall hold."""
    status: MachineDeploymentStatus = MachineDeploymentStatus()
    """What is known about the MachineDeployment."""
