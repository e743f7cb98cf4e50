"""ClusterClass: what Clusters of one sort have in common (cluster.x-k8s.io/v1beta2)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from schemas.api.core.v1beta2.class_variables import ClusterClassPatch, ClusterClassVariable, VariableSchema
from schemas.api.core.v1beta2.machine_set import MachineDeletionOrder
from schemas.api.core.v1beta2.shared import (
    GROUP,
    VERSION,
    AvailabilityGates,
    ConditionsDeprecatedStatus,
    HealthCheckRemediation,
    MachineDeploymentHealthCheckRemediation,
    MachineHealthChecks,
    MachineTaints,
    NodeTimeouts,
    ReadinessGates,
    RolloutStrategy,
    TemplateMetadata,
    TemplateReference,
)
from schemas.api.meta import Conditions, Frozen, KubeObject
from schemas.api.scalars import NonNegative, Positive, Text256, Text512, Text1024
from schemas.markers import AGE, ATOMIC, INT64, PAUSED, Column, ListMap, condition_column


class ClassTemplate(Frozen):
    """A template the class uses."""

    template_ref: TemplateReference
    """The template."""


class ClassNaming(Frozen):
    """How objects made from the class are named."""

    MIN_PROPERTIES: ClassVar[int] = 1

    template: Text1024 | None = None
    """Go template of the name."""


class InfrastructureClass(Frozen):
    """Infrastructure of Clusters of the class."""

    template_ref: TemplateReference
    """Template of the infrastructure cluster."""
    naming: ClassNaming = ClassNaming()
    """How the infrastructure cluster is named."""


class ControlPlaneClassHealthCheck(Frozen):
    """Health check of control plane Machines."""

    MIN_PROPERTIES: ClassVar[int] = 1

    checks: MachineHealthChecks = MachineHealthChecks()
    """What makes a Machine unhealthy."""
    remediation: HealthCheckRemediation = HealthCheckRemediation()
    """When and how unhealthy Machines are remediated."""


class MachineDeploymentClassHealthCheck(Frozen):
    """Health check of the Machines of a MachineDeployment."""

    MIN_PROPERTIES: ClassVar[int] = 1

    checks: MachineHealthChecks = MachineHealthChecks()
    """What makes a Machine unhealthy."""
    remediation: MachineDeploymentHealthCheckRemediation = MachineDeploymentHealthCheckRemediation()
    """When and how unhealthy Machines are remediated."""


class ControlPlaneClassDeletion(NodeTimeouts):
    """How the deletion of control plane Machines proceeds."""


class MachineDeploymentClassDeletion(NodeTimeouts):
    """How the deletion of the deployment's Machines proceeds."""

    order: MachineDeletionOrder | None = None
    """Order in which Machines are picked for deletion."""


class MachinePoolClassDeletion(NodeTimeouts):
    """How the deletion of the pool's Machines proceeds."""


class ControlPlaneClass(Frozen):
    """Control planes of Clusters of the class."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the control plane and its Machines."""
    template_ref: TemplateReference
    """Template of the control plane."""
    machine_infrastructure: ClassTemplate | None = None
    """Template of the Machines' infrastructure, if the control plane is made of Machines."""
    health_check: ControlPlaneClassHealthCheck = ControlPlaneClassHealthCheck()
    """Health check of the Machines."""
    naming: ClassNaming = ClassNaming()
    """How the control plane is named."""
    deletion: ControlPlaneClassDeletion = ControlPlaneClassDeletion()
    """How the deletion of Machines proceeds."""
    taints: MachineTaints = ()
    """Taints for the Nodes."""
    readiness_gates: ReadinessGates = ()
    """Further conditions that must hold before a Machine is Ready."""


class MachineDeploymentClassRollout(Frozen):
    """How Machines are replaced."""

    MIN_PROPERTIES: ClassVar[int] = 1

    strategy: RolloutStrategy | None = None
    """How Machines are replaced."""


class MachineDeploymentClass(Frozen):
    """A sort of MachineDeployment."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the MachineDeployment and its Machines."""
    class_: Annotated[Text256, Field(alias="class")]
    """Name of the class."""
    bootstrap: ClassTemplate
    """Template of the bootstrap configuration."""
    infrastructure: ClassTemplate
    """Template of the Machines' infrastructure."""
    health_check: MachineDeploymentClassHealthCheck = MachineDeploymentClassHealthCheck()
    """Health check of the Machines."""
    failure_domain: Text256 | None = None
    """Failure domain of the Machines."""
    naming: ClassNaming = ClassNaming()
    """How the MachineDeployment is named."""
    deletion: MachineDeploymentClassDeletion = MachineDeploymentClassDeletion()
    """How the deletion of Machines proceeds."""
    taints: MachineTaints = ()
    """Taints for the Nodes."""
    min_ready_seconds: NonNegative | None = None
    """How long a Machine must be ready before it counts as available."""
    readiness_gates: ReadinessGates = ()
    """Further conditions that must hold before a Machine is Ready."""
    rollout: MachineDeploymentClassRollout = MachineDeploymentClassRollout()
    """How Machines are replaced."""


class MachinePoolClass(Frozen):
    """A sort of MachinePool."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the MachinePool and its Machines."""
    class_: Annotated[Text256, Field(alias="class")]
    """Name of the class."""
    bootstrap: ClassTemplate
    """Template of the bootstrap configuration."""
    infrastructure: ClassTemplate
    """Template of the pool's infrastructure."""
    failure_domains: Annotated[tuple[Text256, ...], Field(max_length=100), ATOMIC] = ()
    """Failure domains the pool may use."""
    naming: ClassNaming = ClassNaming()
    """How the MachinePool is named."""
    deletion: MachinePoolClassDeletion = MachinePoolClassDeletion()
    """How the deletion of Machines proceeds."""
    taints: MachineTaints = ()
    """Taints for the Nodes."""
    min_ready_seconds: NonNegative | None = None
    """How long a Machine must be ready before it counts as available."""


class WorkersClass(Frozen):
    """Workers of Clusters of the class."""

    MIN_PROPERTIES: ClassVar[int] = 1

    machine_deployments: Annotated[tuple[MachineDeploymentClass, ...], Field(min_length=1, max_length=100), ListMap(("class",))] = ()
    """Sorts of MachineDeployments."""
    machine_pools: Annotated[tuple[MachinePoolClass, ...], Field(min_length=1, max_length=100), ListMap(("class",))] = ()
    """Sorts of MachinePools."""


class ClusterClassUpgradeExternal(Frozen):
    """Runtime extensions that steer upgrades."""

    MIN_PROPERTIES: ClassVar[int] = 1

    generate_upgrade_plan_extension: Text512 | None = None
    """Extension that plans the versions an upgrade goes through."""


class ClusterClassUpgrade(Frozen):
    """How Clusters of the class are upgraded."""

    MIN_PROPERTIES: ClassVar[int] = 1

    external: ClusterClassUpgradeExternal = ClusterClassUpgradeExternal()
    """Runtime extensions that steer upgrades."""


class ClusterClassSpec(Frozen):
    """What Clusters of the class have in common."""

    availability_gates: AvailabilityGates = ()
    """Further conditions that must hold before a Cluster is Available."""
    infrastructure: InfrastructureClass
    """Infrastructure of the Clusters."""
    control_plane: ControlPlaneClass
    """Control planes of the Clusters."""
    workers: WorkersClass = WorkersClass()
    """Workers of the Clusters."""
    variables: Annotated[tuple[ClusterClassVariable, ...], Field(min_length=1, max_length=1000), ATOMIC] = ()
    """Variables the Clusters may set."""
    patches: Annotated[tuple[ClusterClassPatch, ...], Field(min_length=1, max_length=1000), ATOMIC] = ()
    """Patches of the templates, in order."""
    upgrade: ClusterClassUpgrade = ClusterClassUpgrade()
    """How the Clusters are upgraded."""
    kubernetes_versions: Annotated[tuple[Text256, ...], Field(min_length=1, max_length=100), ATOMIC] = ()
    """Kubernetes versions the Clusters may have, ascending."""


class ClusterClassStatusVariableDefinition(Frozen):
    """One definition of a variable."""

    from_: Annotated[Text256, Field(alias="from")]
    """Where the definition comes from: inline, or the name of a patch."""
    required: bool
    """Whether every Cluster must set the variable."""
    deprecated_metadata: Annotated[TemplateMetadata, Field(alias="deprecatedV1Beta1Metadata")] = TemplateMetadata()
    """Labels and annotations of the v1beta1 form."""
    schema_: Annotated[VariableSchema, Field(alias="schema")]
    """Schema of the value."""


class ClusterClassStatusVariable(Frozen):
    """A variable with all its definitions."""

    name: Text256
    """Name of the variable."""
    definitions_conflict: bool | None = None
    """Whether the definitions differ."""
    definitions: Annotated[tuple[ClusterClassStatusVariableDefinition, ...], Field(min_length=1, max_length=100), ATOMIC]
    """Definitions by the class itself and by extensions."""


class ClusterClassStatus(Frozen):
    """What is known about the ClusterClass."""

    MIN_PROPERTIES: ClassVar[int] = 1

    conditions: Conditions = ()
    """Conditions of the ClusterClass."""
    variables: Annotated[tuple[ClusterClassStatusVariable, ...], Field(max_length=1000), ATOMIC] = ()
    """All variables, with their definitions."""
    observed_generation: Annotated[Positive, INT64] | None = None
    """metadata.generation that the status was computed from."""
    deprecated: ConditionsDeprecatedStatus = ConditionsDeprecatedStatus()
    """Fields kept for readers of older contracts."""


class ClusterClass(KubeObject):
    """What Clusters of one sort have in common."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "ClusterClass"
    PLURAL: ClassVar[str] = "clusterclasses"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("cc",)
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (PAUSED, condition_column("Variables Ready", "VariablesReady"), AGE)

    spec: ClusterClassSpec
    """What Clusters of the class have in common."""
    status: ClusterClassStatus = ClusterClassStatus()
    """What is known about the ClusterClass."""
