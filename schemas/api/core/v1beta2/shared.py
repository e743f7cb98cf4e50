"""Shapes that several kinds of the cluster.x-k8s.io group, and the providers, share (v1beta2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field

from schemas.api.meta import Frozen, LegacyCondition
from schemas.api.scalars import (
    RANGE_PATTERN,
    ConditionType,
    GroupVersion,
    KindName,
    NonNegative,
    NumberOrPercent,
    Port,
    Positive,
    Subdomain,
    TaintKey,
    TaintValue,
    Text256,
    Text512,
    Text10240,
)
from schemas.cel import NAMED_AT_RANDOM, added
from schemas.markers import ATOMIC, ListMap, Rule

GROUP = "cluster.x-k8s.io"
VERSION = "v1beta2"


class TemplateMetadata(Frozen):
    """Labels and annotations a template or topology hands to the objects made from it."""

    MIN_PROPERTIES: ClassVar[int] = 1

    labels: Mapping[str, str] = Field(default_factory=dict)
    """Labels to set on the objects."""
    annotations: Mapping[str, str] = Field(default_factory=dict)
    """Annotations to set on the objects."""


class ContractVersionedObjectReference(Frozen):
    """A reference to a provider's object in the same namespace; the API version follows from the contract labels of its CRD."""

    api_group: Subdomain
    """API group of the object."""
    kind: KindName
    """Kind of the object."""
    name: Subdomain
    """Name of the object."""


class TemplateReference(Frozen):
    """A reference to a provider's template by API version, kind and name."""

    api_version: GroupVersion
    """Group and version of the template."""
    kind: KindName
    """Kind of the template."""
    name: Subdomain
    """Name of the template."""

    @property
    def group(self) -> str:
        """The API group of the template."""
        return self.api_version.partition("/")[0]


class APIEndpoint(Frozen):
    """Where an API server is reached."""

    MIN_PROPERTIES: ClassVar[int] = 1

    host: Text512 | None = None
    """Host name or address."""
    port: Port | None = None
    """Port."""

    @property
    def valid(self) -> bool:
        """Whether both host and port are known."""
        return bool(self.host) and bool(self.port)


class FailureDomain(Frozen):
    """A place Machines can be spread over, as the infrastructure reports it."""

    name: Text256
    """Name of the failure domain."""
    control_plane: bool | None = None
    """Whether control plane Machines may be placed here."""
    attributes: Mapping[str, str] = Field(default_factory=dict)
    """What else the infrastructure says about it."""


FailureDomains = Annotated[tuple[FailureDomain, ...], Field(min_length=1, max_length=100), ListMap(("name",))]


class ConditionGate(Frozen):
    """A condition of the object that must hold too before the object counts as ready or available."""

    condition_type: ConditionType
    """Type of the condition."""
    polarity: Literal["Positive", "Negative"] | None = None
    """Whether True (Positive, the default) or False (Negative) is the good status."""


class ReadinessGate(ConditionGate):
    """A condition of the Machine that must hold too before the Machine is Ready."""


class AvailabilityGate(ConditionGate):
    """A condition of the Cluster that must hold too before the Cluster is Available."""


ReadinessGates = Annotated[tuple[ReadinessGate, ...], Field(min_length=1, max_length=32), ListMap(("conditionType",))]
AvailabilityGates = Annotated[tuple[AvailabilityGate, ...], Field(min_length=1, max_length=32), ListMap(("conditionType",))]


_RESERVED = "must not be a taint that Kubernetes or Cluster API sets itself"


class MachineTaint(Frozen):
    """A taint that a Machine's Node gets."""

    key: Annotated[
        TaintKey,
        added("!(self in ['node.cluster.x-k8s.io/uninitialized', 'node.cluster.x-k8s.io/outdated-revision'])", _RESERVED),
        added("self == 'node.kubernetes.io/out-of-service' || !self.startsWith('node.kubernetes.io/')", _RESERVED),
        added("!self.startsWith('node.cloudprovider.kubernetes.io/')", _RESERVED),
    ]
    """Key of the taint."""
    value: TaintValue | None = None
    """Value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
    """What happens to Pods that do not tolerate the taint."""
    propagation: Literal["Always", "OnInitialization"]
    """Whether the taint is kept on the Node, or only set once when the Node joins."""


MachineTaints = Annotated[tuple[MachineTaint, ...], Field(min_length=1, max_length=64), ListMap(("key", "effect"))]


class MachineAddress(Frozen):
    """An address of a Machine."""

    type: Literal["Hostname", "ExternalIP", "InternalIP", "ExternalDNS", "InternalDNS"]
    """What kind of address it is."""
    address: Text256
    """The address."""


class NodeTimeouts(Frozen):
    """How long the deletion of a Machine waits for its Node."""

    MIN_PROPERTIES: ClassVar[int] = 1

    node_drain_timeout_seconds: NonNegative | None = None
    """Longest time to drain the Node; 0 or unset waits for ever."""
    node_volume_detach_timeout_seconds: NonNegative | None = None
    """Longest time to wait for volumes to detach; 0 or unset waits for ever."""
    node_deletion_timeout_seconds: NonNegative | None = None
    """Longest time to retry deleting the Node; 0 retries for ever, unset means 10 seconds."""


class MachineNaming(Frozen):
    """How the Machines that are created get their names."""

    MIN_PROPERTIES: ClassVar[int] = 1

    template: Annotated[Text256, NAMED_AT_RANDOM] | None = None
    """Go template of the name, over .cluster.name, the owner's name and .random."""


class MachineVersion(Frozen):
    """How many Machines run a version."""

    version: Text256
    """Kubernetes version."""
    replicas: Positive | None = None
    """Number of Machines of the version."""


MachineVersions = Annotated[tuple[MachineVersion, ...], Field(min_length=1, max_length=100), ListMap(("version",))]


class UnhealthyNodeCondition(Frozen):
    """A Node condition that, held for too long, makes a Machine unhealthy."""

    type: Annotated[str, Field(min_length=1)]
    """Type of the Node condition."""
    status: Annotated[str, Field(min_length=1)]
    """Status that counts as unhealthy."""
    timeout_seconds: NonNegative
    """How long the status must hold."""


class UnhealthyMachineCondition(Frozen):
    """A Machine condition that, held for too long, makes the Machine unhealthy."""

    type: Annotated[
        ConditionType,
        Rule(
            "!(self in ['Ready','Available','HealthCheckSucceeded','OwnerRemediated','ExternallyRemediated'])",
            "type must not be one of: Ready, Available, HealthCheckSucceeded, OwnerRemediated, ExternallyRemediated",
        ),
    ]
    """Type of the Machine condition; conditions that follow from health itself are not allowed."""
    status: Literal["True", "False", "Unknown"]
    """Status that counts as unhealthy."""
    timeout_seconds: NonNegative
    """How long the status must hold."""


class MachineHealthChecks(Frozen):
    """What makes a Machine unhealthy."""

    MIN_PROPERTIES: ClassVar[int] = 1

    node_startup_timeout_seconds: Annotated[NonNegative, added("self == 0 || self >= 30", "must be 0, which turns it off, or at least 30")] | None = None
    """How long a Machine may take to get its Node; 0 turns the check off, unset means 10 minutes."""
    unhealthy_node_conditions: Annotated[tuple[UnhealthyNodeCondition, ...], Field(min_length=1, max_length=100), ATOMIC] = ()
    """Node conditions, any of which makes the Machine unhealthy."""
    unhealthy_machine_conditions: Annotated[tuple[UnhealthyMachineCondition, ...], Field(min_length=1, max_length=100), ATOMIC] = ()
    """Machine conditions, any of which makes the Machine unhealthy."""


class RemediationTriggerIf(Frozen):
    """How many Machines may be unhealthy before remediation stops."""

    MIN_PROPERTIES: ClassVar[int] = 1

    unhealthy_less_than_or_equal_to: NumberOrPercent | None = None
    """Remediate only while at most this many Machines, or this percentage, are unhealthy."""
    unhealthy_in_range: Annotated[str, Field(min_length=1, max_length=32, pattern=RANGE_PATTERN)] | None = None
    """Remediate only while the number of unhealthy Machines is in this range, as in "[3-5]"."""


class HealthCheckRemediation(Frozen):
    """When and how unhealthy Machines are remediated."""

    MIN_PROPERTIES: ClassVar[int] = 1

    trigger_if: RemediationTriggerIf = RemediationTriggerIf()
    """Limits on the number of unhealthy Machines."""
    template_ref: TemplateReference | None = None
    """Template of an external remediation request; without it the owner of the Machine remediates."""


class MachineDeploymentHealthCheckRemediation(HealthCheckRemediation):
    """When and how unhealthy Machines of a MachineDeployment are remediated."""

    max_in_flight: NumberOrPercent | None = None
    """How many Machines, or what percentage, may be remediated at once."""


class RollingUpdate(Frozen):
    """Bounds of a rolling update."""

    MIN_PROPERTIES: ClassVar[int] = 1
    RULES: ClassVar[tuple[Rule, ...]] = (
        added(
            "!(has(self.maxSurge) && self.maxSurge == 0 && (!has(self.maxUnavailable) || self.maxUnavailable == 0))",
            "maxUnavailable and maxSurge cannot both be 0",
        ),
    )

    max_unavailable: NumberOrPercent | None = None
    """How many Machines below the desired number may be unavailable, as a number or percentage; 0 by default."""
    max_surge: NumberOrPercent | None = None
    """How many Machines above the desired number may exist, as a number or percentage; 1 by default."""


class RolloutStrategy(Frozen):
    """How Machines are replaced by new ones."""

    MIN_PROPERTIES: ClassVar[int] = 1

    type: Literal["RollingUpdate", "OnDelete"]
    """Replace gradually, or only what a user deletes."""
    rolling_update: RollingUpdate = RollingUpdate()
    """Bounds, for the type RollingUpdate."""


class MachineDeploymentRollout(Frozen):
    """When and how the Machines of a MachineDeployment are replaced."""

    MIN_PROPERTIES: ClassVar[int] = 1

    after: AwareDatetime | None = None
    """Replace Machines created before this time, once it has passed."""
    strategy: RolloutStrategy | None = None
    """How Machines are replaced."""


class DeprecatedConditions(Frozen):
    """Status of the v1beta1 contract: conditions only."""

    conditions: tuple[LegacyCondition, ...] = ()
    """Conditions in the v1beta1 form."""


class DeprecatedFailure(DeprecatedConditions):
    """Status of the v1beta1 contract: conditions and a terminal failure."""

    failure_reason: str | None = None
    """Terminal failure, as a word for programs."""
    failure_message: Text10240 | None = None
    """Terminal failure, for people."""


class ConditionsDeprecatedStatus(Frozen):
    """Fields kept for readers of older contracts."""

    v1beta1: DeprecatedConditions = Field(default=DeprecatedConditions(), alias="v1beta1")
    """Fields of the v1beta1 contract."""


class FailureDeprecatedStatus(Frozen):
    """Fields kept for readers of older contracts, with a terminal failure."""

    v1beta1: DeprecatedFailure = Field(default=DeprecatedFailure(), alias="v1beta1")
    """Fields of the v1beta1 contract."""
