"""ClusterClass: what Clusters of one sort have in common (cluster.x-k8s.io/v1beta1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from schemas.api.core.v1beta1.shared import (
    VERSION,
    AvailabilityGates,
    ClassNaming,
    HealthCheck,
    MachineDeploymentStrategy,
    NodeTimeouts,
    ReadinessGates,
    TemplateMetadata,
    V1Beta2Status,
)
from schemas.api.core.v1beta2 import GROUP, ClusterClassUpgrade, DeprecatedConditions, JSONPatchValue, MachineTaints, ObjectReference, ValidationRule
from schemas.api.core.v1beta2 import JSONSchemaProps as HubJSONSchemaProps
from schemas.api.meta import Frozen, KubeObject
from schemas.api.scalars import Text256, Text512, Text1024
from schemas.markers import AGE, ATOMIC, INT64, OPTIONAL, Column, ListMap

Names = Annotated[tuple[Text256, ...], Field(max_length=100)]


class LocalObjectTemplate(Frozen):
    """A template the class uses."""

    ref: ObjectReference
    """The template."""


class ControlPlaneClass(NodeTimeouts):
    """Control planes of Clusters of the class."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the control plane and its Machines."""
    ref: ObjectReference
    """Template of the control plane."""
    machine_infrastructure: LocalObjectTemplate | None = None
    """Template of the Machines' infrastructure, if the control plane is made of Machines."""
    machine_health_check: HealthCheck | None = None
    """Health check of the Machines."""
    naming_strategy: ClassNaming | None = None
    """How the control plane is named."""
    taints: MachineTaints = ()
    """Taints for the Nodes."""
    readiness_gates: ReadinessGates = ()
    """Further conditions that must hold before a Machine is Ready."""


class WorkerTemplate(Frozen):
    """What workers of a class look like."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the workers and their Machines."""
    bootstrap: LocalObjectTemplate
    """Template of the bootstrap configuration."""
    infrastructure: LocalObjectTemplate
    """Template of the infrastructure."""


class MachineDeploymentClass(NodeTimeouts):
    """A sort of MachineDeployment."""

    class_: Annotated[Text256, Field(alias="class")]
    """Name of the class."""
    template: WorkerTemplate
    """What the Machines look like."""
    machine_health_check: HealthCheck | None = None
    """Health check of the Machines."""
    failure_domain: Text256 | None = None
    """Failure domain of the Machines."""
    naming_strategy: ClassNaming | None = None
    """How the MachineDeployment is named."""
    taints: MachineTaints = ()
    """Taints for the Nodes."""
    min_ready_seconds: int | None = None
    """How long a Machine must be ready before it counts as available."""
    readiness_gates: ReadinessGates = ()
    """Further conditions that must hold before a Machine is Ready."""
    strategy: MachineDeploymentStrategy | None = None
    """How Machines are replaced by new ones."""


class MachinePoolClass(NodeTimeouts):
    """A sort of MachinePool."""

    class_: Annotated[Text256, Field(alias="class")]
    """Name of the class."""
    template: WorkerTemplate
    """What the pool looks like."""
    failure_domains: Annotated[tuple[Text256, ...], Field(max_length=100)] = ()
    """Failure domains the pool may use."""
    naming_strategy: ClassNaming | None = None
    """How the MachinePool is named."""
    taints: MachineTaints = ()
    """Taints for the Nodes."""
    min_ready_seconds: int | None = None
    """How long a Machine must be ready before it counts as available."""


class WorkersClass(Frozen):
    """Workers of Clusters of the class."""

    machine_deployments: Annotated[tuple[MachineDeploymentClass, ...], Field(max_length=100), ListMap(("class",))] = ()
    """Sorts of MachineDeployments."""
    machine_pools: Annotated[tuple[MachinePoolClass, ...], Field(max_length=100), ListMap(("class",))] = ()
    """Sorts of MachinePools."""


class PatchSelectorNames(Frozen):
    """Classes of workers a patch applies to."""

    names: Names = ()
    """Names of the classes; may hold * at either end."""


class PatchSelectorMatch(Frozen):
    """Where in the ClusterClass a template must be referred to."""

    control_plane: bool | None = None
    """Templates of the control plane and its Machines."""
    infrastructure_cluster: bool | None = None
    """The template of the Cluster's infrastructure."""
    machine_deployment_class: PatchSelectorNames | None = None
    """Templates of these MachineDeployment classes."""
    machine_pool_class: PatchSelectorNames | None = None
    """Templates of these MachinePool classes."""


class PatchSelector(Frozen):
    """Which templates a patch changes."""

    api_version: Text512
    """Group and version of the templates."""
    kind: Text256
    """Kind of the templates."""
    match_resources: PatchSelectorMatch
    """Where in the ClusterClass the templates are referred to."""


class JSONPatch(Frozen):
    """One operation of RFC 6902; only add, replace and remove below /spec."""

    op: Literal["add", "replace", "remove"]
    """Operation."""
    path: Text512
    """Place of the operation, as a JSON pointer."""
    value: Any = None
    """Literal value."""
    value_from: JSONPatchValue | None = None
    """Computed value; excludes value."""


class PatchDefinition(Frozen):
    """JSON patches for the templates that match."""

    selector: PatchSelector
    """Which templates are changed."""
    json_patches: Annotated[tuple[JSONPatch, ...], Field(max_length=100)]
    """Operations, in order."""


class ExternalPatch(Frozen):
    """Runtime extensions that patch templates."""

    generate_extension: Text512 | None = None
    """Extension that generates patches."""
    validate_extension: Text512 | None = None
    """Extension that validates the patched topology."""
    discover_variables_extension: Text512 | None = None
    """Extension that contributes variables."""
    settings: Mapping[str, str] = Field(default_factory=dict)
    """Settings sent with each call; win over those of the ExtensionConfig."""


class ClusterClassPatch(Frozen):
    """A patch that is applied to templates, in the order of the list."""

    name: Text256
    """Name of the patch."""
    description: Text1024 | None = None
    """What the patch does."""
    enabled_if: Text256 | None = None
    """Go template; the patch applies if it renders to true."""
    definitions: Annotated[tuple[PatchDefinition, ...], Field(max_length=100)] = ()
    """Inline patches."""
    external: ExternalPatch | None = None
    """Patches by runtime extensions; excludes definitions."""


class JSONSchemaProps(HubJSONSchemaProps):
    """An OpenAPI v3 schema of a variable; nested schemas have the same fields and are kept as plain JSON."""

    MIN_PROPERTIES = 0

    required: Annotated[tuple[Text256, ...], Field(max_length=1000)] = ()
    """Fields an object must have."""
    enum: Annotated[tuple[Any, ...], Field(max_length=100)] = ()
    """Allowed values."""
    validations: Annotated[tuple[ValidationRule, ...], Field(max_length=100, alias="x-kubernetes-validations"), ListMap(("rule",))] = ()
    """CEL rules the value must satisfy."""
    metadata: Annotated[TemplateMetadata, Field(alias="x-metadata")] = TemplateMetadata()
    """Labels and annotations for tools that show the variable."""


class VariableSchema(Frozen):
    """Schema of a variable."""

    open_api_v3_schema: Annotated[JSONSchemaProps, Field(alias="openAPIV3Schema")]
    """OpenAPI v3 schema the value must satisfy."""


class VariableDefinition(Frozen):
    """What a variable is."""

    required: bool
    """Whether every Cluster must set it."""
    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations for tools that show the variable."""
    schema_: Annotated[VariableSchema, Field(alias="schema")]
    """Schema of the value."""


class ClusterClassVariable(VariableDefinition):
    """A variable that Clusters of the class may set."""

    name: Text256
    """Name of the variable."""


class ClusterClassSpec(Frozen):
    """What Clusters of the class have in common."""

    availability_gates: AvailabilityGates = ()
    """Further conditions that must hold before a Cluster is Available."""
    infrastructure: Annotated[LocalObjectTemplate, OPTIONAL]
    """Infrastructure of the Clusters."""
    infrastructure_naming_strategy: ClassNaming | None = None
    """How the infrastructure cluster is named."""
    control_plane: Annotated[ControlPlaneClass, OPTIONAL]
    """Control planes of the Clusters."""
    workers: WorkersClass = WorkersClass()
    """Workers of the Clusters."""
    variables: Annotated[tuple[ClusterClassVariable, ...], Field(max_length=1000)] = ()
    """Variables the Clusters may set."""
    patches: Annotated[tuple[ClusterClassPatch, ...], Field(max_length=1000)] = ()
    """Patches of the templates, in order."""
    upgrade: ClusterClassUpgrade = ClusterClassUpgrade()
    """How the Clusters are upgraded."""
    kubernetes_versions: Annotated[tuple[Text256, ...], Field(min_length=1, max_length=100), ATOMIC] = ()
    """Kubernetes versions the Clusters may have, ascending."""


class ClusterClassStatusVariableDefinition(VariableDefinition):
    """One definition of a variable."""

    from_: Annotated[Text256, Field(alias="from")]
    """Where the definition comes from: inline, or the name of a patch."""


class ClusterClassStatusVariable(Frozen):
    """A variable with all its definitions."""

    name: Text256
    """Name of the variable."""
    definitions_conflict: bool | None = None
    """Whether the definitions differ."""
    definitions: Annotated[tuple[ClusterClassStatusVariableDefinition, ...], Field(max_length=100)]
    """Definitions by the class itself and by extensions."""


class ClusterClassStatus(DeprecatedConditions):
    """What is known about the ClusterClass."""

    variables: Annotated[tuple[ClusterClassStatusVariable, ...], Field(max_length=1000)] = ()
    """All variables, with their definitions."""
    observed_generation: Annotated[int, INT64] | None = None
    """metadata.generation that the status was computed from."""
    v1beta2: V1Beta2Status = Field(default=V1Beta2Status(), alias="v1beta2")
    """What became the hub's status."""


class ClusterClass(KubeObject):
    """What Clusters of one sort have in common."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "ClusterClass"
    PLURAL: ClassVar[str] = "clusterclasses"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("cc",)
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (AGE,)

    spec: Annotated[ClusterClassSpec, OPTIONAL]
    """What Clusters of the class have in common."""
    status: ClusterClassStatus = ClusterClassStatus()
    """What is known about the ClusterClass."""
