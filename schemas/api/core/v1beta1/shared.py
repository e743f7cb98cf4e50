"""Shapes that several kinds of v1beta1 share, where they differ from the hub's (cluster.x-k8s.io/v1beta1)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.api.core.v1beta2 import AvailabilityGate, ObjectReference, ReadinessGate
from schemas.api.core.v1beta2 import TemplateMetadata as HubTemplateMetadata
from schemas.api.core.v1beta2 import UnhealthyMachineCondition as HubUnhealthyMachineCondition
from schemas.api.meta import Conditions, Frozen, IntOrString
from schemas.api.scalars import RANGE_PATTERN, Text256, Text1024
from schemas.markers import ATOMIC, ListMap

VERSION = "v1beta1"

ReadinessGates = Annotated[tuple[ReadinessGate, ...], Field(max_length=32), ListMap(("conditionType",))]
AvailabilityGates = Annotated[tuple[AvailabilityGate, ...], Field(max_length=32), ListMap(("conditionType",))]
DeletePolicy = Literal["Random", "Newest", "Oldest"]


class TemplateMetadata(HubTemplateMetadata):
    """Labels and annotations a template or topology hands to the objects made from it."""

    MIN_PROPERTIES = 0


class NodeTimeouts(Frozen):
    """How long the deletion of a Machine waits for its Node."""

    node_drain_timeout: str | None = None
    """Longest time to drain the Node, as in 5m; 0s or unset waits for ever."""
    node_volume_detach_timeout: str | None = None
    """Longest time to wait for volumes to detach; 0s or unset waits for ever."""
    node_deletion_timeout: str | None = None
    """Longest time to retry deleting the Node; 0s retries for ever, unset means 10s."""


class MachineNaming(Frozen):
    """How the Machines that are created get their names."""

    template: Text256 | None = None
    """Go template of the name, over .cluster.name, the owner's name and .random."""


class ClassNaming(Frozen):
    """How objects made from a class are named."""

    template: Text1024 | None = None
    """Go template of the name."""


class UnhealthyCondition(Frozen):
    """A Node condition that, held for too long, makes a Machine unhealthy."""

    type: Annotated[str, Field(min_length=1)]
    """Type of the Node condition."""
    status: Annotated[str, Field(min_length=1)]
    """Status that counts as unhealthy."""
    timeout: str
    """How long the status must hold, as in 5m."""


class UnhealthyMachineCondition(Frozen):
    """A Machine condition that, held for too long, makes the Machine unhealthy."""

    type: Annotated[str, *HubUnhealthyMachineCondition.model_fields["type"].metadata]
    """Type of the Machine condition; conditions that follow from health itself are not allowed."""
    status: Literal["True", "False", "Unknown"]
    """Status that counts as unhealthy."""
    timeout: str
    """How long the status must hold, as in 5m."""


class HealthCheck(Frozen):
    """What makes a Machine unhealthy, and when it is remediated."""

    unhealthy_conditions: Annotated[tuple[UnhealthyCondition, ...], Field(max_length=100)] = ()
    """Node conditions, any of which makes the Machine unhealthy."""
    unhealthy_machine_conditions: Annotated[tuple[UnhealthyMachineCondition, ...], Field(min_length=1, max_length=100), ATOMIC] = ()
    """Machine conditions, any of which makes the Machine unhealthy."""
    max_unhealthy: IntOrString | None = None
    """Remediate only while at most this many Machines, or this percentage, are unhealthy."""
    unhealthy_range: Annotated[str, Field(min_length=1, max_length=32, pattern=RANGE_PATTERN)] | None = None
    """Remediate only while the number of unhealthy Machines is in this range, as in "[3-5]"."""
    node_startup_timeout: str | None = None
    """How long a Machine may be without a Node, as in 10m."""
    remediation_template: ObjectReference | None = None
    """Template of an external remediation request; without it the owner of the Machine remediates."""


class RollingUpdate(Frozen):
    """Bounds of a rolling update, and which Machines go first."""

    max_unavailable: IntOrString | None = None
    """How many Machines below the desired number may be unavailable, as a number or percentage; 0 by default."""
    max_surge: IntOrString | None = None
    """How many Machines above the desired number may exist, as a number or percentage; 1 by default."""
    delete_policy: DeletePolicy | None = None
    """Order in which Machines are picked for deletion."""


class RemediationStrategy(Frozen):
    """How unhealthy Machines are replaced."""

    max_in_flight: IntOrString | None = None
    """How many Machines, or what percentage, may be remediated at once; no limit by default."""


class MachineDeploymentStrategy(Frozen):
    """How Machines are replaced by new ones."""

    type: Literal["RollingUpdate", "OnDelete"] | None = None
    """Replace gradually, or only what a user deletes."""
    rolling_update: RollingUpdate | None = None
    """Bounds, for the type RollingUpdate."""
    remediation: RemediationStrategy | None = None
    """How unhealthy Machines are replaced."""


class V1Beta2Status(Frozen):
    """The part of the status that became the hub's: conditions without a severity."""

    conditions: Conditions = ()
    """Conditions of the hub's form."""


class V1Beta2Counters(V1Beta2Status):
    """The part of the status that became the hub's: conditions without a severity, and counters by them."""

    ready_replicas: int | None = None
    """Machines that are Ready."""
    available_replicas: int | None = None
    """Machines that are Available."""
    up_to_date_replicas: int | None = None
    """Machines that are UpToDate."""
