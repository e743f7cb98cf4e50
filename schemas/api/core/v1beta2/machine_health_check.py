"""MachineHealthCheck: which Machines are unhealthy, and what then (cluster.x-k8s.io/v1beta2)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from schemas.api.core.v1beta2.shared import GROUP, VERSION, ConditionsDeprecatedStatus, HealthCheckRemediation, MachineHealthChecks
from schemas.api.meta import Conditions, Frozen, KubeObject, LabelSelector
from schemas.api.scalars import NonNegative, Positive, Text63, Text253
from schemas.cel import IMMUTABLE, SELECTOR_NOT_EMPTY
from schemas.markers import AGE, ATOMIC, INT64, PAUSED, Column


class MachineHealthCheckSpec(Frozen):
    """Which Machines are checked, for what, and how they are remediated."""

    cluster_name: Annotated[Text63, IMMUTABLE]
    """Name of the Cluster the check belongs to; immutable."""
    selector: Annotated[LabelSelector, SELECTOR_NOT_EMPTY]
    """Labels that select the Machines."""
    checks: MachineHealthChecks = MachineHealthChecks()
    """What makes a Machine unhealthy."""
    remediation: HealthCheckRemediation = HealthCheckRemediation()
    """When and how unhealthy Machines are remediated."""


class MachineHealthCheckStatus(Frozen):
    """What is known about the MachineHealthCheck."""

    MIN_PROPERTIES: ClassVar[int] = 1

    conditions: Conditions = ()
    """Conditions of the MachineHealthCheck."""
    expected_machines: NonNegative | None = None
    """Number of selected Machines."""
    current_healthy: NonNegative | None = None
    """Number of selected Machines that are healthy."""
    remediations_allowed: NonNegative | None = None
    """How many more Machines may be remediated."""
    observed_generation: Annotated[Positive, INT64] | None = None
    """metadata.generation that the status was computed from."""
    targets: Annotated[tuple[Text253, ...], Field(max_length=10000), ATOMIC] = ()
    """Names of the selected Machines."""
    deprecated: ConditionsDeprecatedStatus = ConditionsDeprecatedStatus()
    """Fields kept for readers of older contracts."""


class MachineHealthCheck(KubeObject):
    """Watches Machines and asks for the remediation of unhealthy ones."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "MachineHealthCheck"
    PLURAL: ClassVar[str] = "machinehealthchecks"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("mhc", "mhcs")
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Cluster", ".spec.clusterName"),
        Column("Replicas", ".status.expectedMachines", "integer"),
        Column("Healthy", ".status.currentHealthy", "integer"),
        PAUSED,
        AGE,
    )

    spec: MachineHealthCheckSpec
    """Which Machines are checked, for what, and how they are remediated."""
    status: MachineHealthCheckStatus = MachineHealthCheckStatus()
    """What is known about the MachineHealthCheck."""
