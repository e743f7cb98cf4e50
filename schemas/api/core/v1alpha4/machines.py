"""Machine, MachineSet, MachineDeployment, MachinePool and MachineHealthCheck (cluster.x-k8s.io/v1alpha4)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from schemas.api.core.v1alpha4.cluster import VERSION
from schemas.api.core.v1beta1 import health_and_drain, machine, shared, workers
from schemas.markers import AGE, OPTIONAL, Column

_CLUSTER = Column("Cluster", ".spec.clusterName")
_PHASE = Column("Phase", ".status.phase")
_REPLICAS = Column("Replicas", ".status.replicas", "integer")
_READY = Column("Ready", ".status.readyReplicas", "integer")
_LATER = frozenset({"versions", "v1beta2"})


class MachineSpec(machine.MachineSpec):
    """What the Machine shall be."""

    LACKS = frozenset({"node_volume_detach_timeout", "node_deletion_timeout", "readiness_gates", "taints"})


class MachineTemplateSpec(machine.MachineTemplateSpec):
    """What Machines made from a MachineSet, MachineDeployment or MachinePool look like."""

    spec: Annotated[MachineSpec, OPTIONAL]
    """Spec of the Machines."""


class MachineStatus(machine.MachineStatus):
    """What is known about the Machine."""

    LACKS = frozenset({"certificates_expiry_date", "deletion", "v1beta2"})

    version: str | None = None
    """Of no effect."""


class Machine(machine.Machine):
    """One host that becomes a Node of a workload cluster."""

    VERSION: ClassVar[str] = VERSION
    LOWER_BOUNDS: ClassVar[bool] = False
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        _CLUSTER,
        AGE,
        Column("ProviderID", ".spec.providerID"),
        _PHASE,
        Column("Version", ".spec.version"),
        Column("NodeName", ".status.nodeRef.name", priority=1),
    )

    spec: Annotated[MachineSpec, OPTIONAL]
    """What the Machine shall be."""
    status: MachineStatus = MachineStatus()
    """What is known about the Machine."""


class MachineSetSpec(workers.MachineSetSpec):
    """What the MachineSet shall hold."""

    LACKS = frozenset({"machine_naming_strategy"})

    template: Annotated[MachineTemplateSpec, OPTIONAL]
    """What the Machines look like."""


class MachineSetStatus(workers.MachineSetStatus):
    """What is known about the MachineSet."""

    LACKS = _LATER


class MachineSet(workers.MachineSet):
    """A number of equal Machines."""

    VERSION: ClassVar[str] = VERSION
    LOWER_BOUNDS: ClassVar[bool] = False
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (_CLUSTER, AGE, _REPLICAS, Column("Available", ".status.availableReplicas", "integer"), _READY)

    spec: Annotated[MachineSetSpec, OPTIONAL]
    """What the MachineSet shall hold."""
    status: MachineSetStatus = MachineSetStatus()
    """What is known about the MachineSet."""


class MachineDeploymentStrategy(shared.MachineDeploymentStrategy):
    """How Machines are replaced by new ones."""

    LACKS = frozenset({"remediation"})


class MachineDeploymentSpec(workers.MachineDeploymentSpec):
    """What the MachineDeployment shall hold."""

    LACKS = frozenset({"rollout_after", "machine_naming_strategy"})

    template: MachineTemplateSpec
    """What the Machines look like."""
    strategy: MachineDeploymentStrategy | None = None
    """How Machines are replaced by new ones."""


class MachineDeploymentStatus(workers.MachineDeploymentStatus):
    """What is known about the MachineDeployment."""

    LACKS = _LATER


class MachineDeployment(workers.MachineDeployment):
    """Machines whose changes roll out through MachineSets."""

    VERSION: ClassVar[str] = VERSION
    LOWER_BOUNDS: ClassVar[bool] = False
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        _CLUSTER,
        AGE,
        _PHASE,
        _REPLICAS,
        _READY,
        Column("Updated", ".status.updatedReplicas", "integer"),
        Column("Unavailable", ".status.unavailableReplicas", "integer"),
    )

    spec: Annotated[MachineDeploymentSpec, OPTIONAL]
    """What the MachineDeployment shall hold."""
    status: MachineDeploymentStatus = MachineDeploymentStatus()
    """What is known about the MachineDeployment."""


class MachinePoolSpec(workers.MachinePoolSpec):
    """What the MachinePool shall hold."""

    template: MachineTemplateSpec
    """What the Machines look like."""


class MachinePoolStatus(workers.MachinePoolStatus):
    """What is known about the MachinePool."""

    LACKS = _LATER


class MachinePool(workers.MachinePool):
    """Machines that their infrastructure manages as one group."""

    VERSION: ClassVar[str] = VERSION
    LOWER_BOUNDS: ClassVar[bool] = False
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (AGE, _REPLICAS, _PHASE, Column("Version", ".spec.template.spec.version"))

    spec: Annotated[MachinePoolSpec, OPTIONAL]
    """What the MachinePool shall hold."""
    status: MachinePoolStatus = MachinePoolStatus()
    """What is known about the MachinePool."""


class MachineHealthCheckSpec(health_and_drain.MachineHealthCheckSpec):
    """Which Machines are checked, for what, and how they are remediated."""

    LACKS = frozenset({"unhealthy_machine_conditions"})

    unhealthy_conditions: Annotated[tuple[shared.UnhealthyCondition, ...], Field(max_length=100)]
    """Node conditions, any of which makes the Machine unhealthy."""


class MachineHealthCheckStatus(health_and_drain.MachineHealthCheckStatus):
    """What is known about the MachineHealthCheck."""

    LACKS = frozenset({"v1beta2"})


class MachineHealthCheck(health_and_drain.MachineHealthCheck):
    """Watches Machines and asks for the remediation of unhealthy ones."""

    VERSION: ClassVar[str] = VERSION
    LOWER_BOUNDS: ClassVar[bool] = False
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        _CLUSTER,
        AGE,
        Column("MaxUnhealthy", ".spec.maxUnhealthy"),
        Column("ExpectedMachines", ".status.expectedMachines", "integer"),
        Column("CurrentHealthy", ".status.currentHealthy", "integer"),
    )

    spec: Annotated[MachineHealthCheckSpec, OPTIONAL]
    """Which Machines are checked, for what, and how they are remediated."""
    status: MachineHealthCheckStatus = MachineHealthCheckStatus()
    """What is known about the MachineHealthCheck."""
