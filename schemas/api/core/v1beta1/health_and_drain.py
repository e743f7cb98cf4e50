"""MachineHealthCheck and MachineDrainRule (cluster.x-k8s.io/v1beta1)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from schemas.api.core.v1beta1.shared import VERSION, HealthCheck, V1Beta2Status
from schemas.api.core.v1beta2 import GROUP, DeprecatedConditions
from schemas.api.core.v1beta2 import MachineDrainRule as HubMachineDrainRule
from schemas.api.meta import KubeObject, LabelSelector
from schemas.api.scalars import NonNegative, Text63, Text253
from schemas.markers import AGE, INT64, OPTIONAL, Column


class MachineHealthCheckSpec(HealthCheck):
    """Which Machines are checked, for what, and how they are remediated."""

    cluster_name: Text63
    """Name of the Cluster the check belongs to; immutable."""
    selector: LabelSelector
    """Labels that select the Machines."""


class MachineHealthCheckStatus(DeprecatedConditions):
    """What is known about the MachineHealthCheck."""

    expected_machines: NonNegative | None = None
    """Number of selected Machines."""
    current_healthy: NonNegative | None = None
    """Number of selected Machines that are healthy."""
    remediations_allowed: NonNegative | None = None
    """How many more Machines may be remediated."""
    observed_generation: Annotated[int, INT64] | None = None
    """metadata.generation that the status was computed from."""
    targets: Annotated[tuple[Text253, ...], Field(max_length=10000)] = ()
    """Names of the selected Machines."""
    v1beta2: V1Beta2Status = Field(default=V1Beta2Status(), alias="v1beta2")
    """What became the hub's status."""


class MachineHealthCheck(KubeObject):
    """Watches Machines and asks for the remediation of unhealthy ones."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "MachineHealthCheck"
    PLURAL: ClassVar[str] = "machinehealthchecks"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("mhc", "mhcs")
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Cluster", ".spec.clusterName"),
        Column("ExpectedMachines", ".status.expectedMachines", "integer"),
        Column("MaxUnhealthy", ".spec.maxUnhealthy"),
        Column("CurrentHealthy", ".status.currentHealthy", "integer"),
        AGE,
    )

    spec: Annotated[MachineHealthCheckSpec, OPTIONAL]
    """Which Machines are checked, for what, and how they are remediated."""
    status: MachineHealthCheckStatus = MachineHealthCheckStatus()
    """What is known about the MachineHealthCheck."""


class MachineDrainRule(HubMachineDrainRule):
    """How Pods are treated when a Machine's Node is drained; the hub has the same."""

    VERSION: ClassVar[str] = VERSION
