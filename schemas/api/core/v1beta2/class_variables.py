"""Variables and patches of a ClusterClass (cluster.x-k8s.io/v1beta2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from schemas.api.core.v1beta2.shared import TemplateMetadata
from schemas.api.meta import Frozen
from schemas.api.scalars import GroupVersion, KindName, Text256, Text512, Text1024, Text4096, Text10240
from schemas.markers import ATOMIC, INT64, ListMap, ServerDefault

Names = Annotated[tuple[Text256, ...], Field(max_length=100), ATOMIC]


class ValidationRule(Frozen):
    """A CEL rule of a variable's schema."""

    rule: Text4096
    """CEL expression over self; must be true."""
    message: Text512 | None = None
    """What a user reads when the rule fails."""
    message_expression: Text1024 | None = None
    """CEL expression that makes the message; wins over message."""
    reason: Annotated[
        Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate"] | None,
        ServerDefault("FieldValueInvalid"),
    ] = None
    """Kind of the failure, for programs."""
    field_path: Text512 | None = None
    """Path of the field the failure is about, relative to the rule's place."""


class JSONSchemaProps(Frozen):
    """An OpenAPI v3 schema of a variable; nested schemas have the same fields and are kept as plain JSON."""

    MIN_PROPERTIES: ClassVar[int] = 1

    description: Text4096 | None = None
    """What the value means."""
    example: Any = None
    """An example value."""
    type: Literal["object", "array", "string", "integer", "number", "boolean"] | None = None
    """Type of the value."""
    properties: Any = None
    """Schemas of an object's fields."""
    additional_properties: Any = None
    """Schema of a map's values."""
    max_properties: Annotated[int, INT64] | None = None
    """Most fields of an object."""
    min_properties: Annotated[int, INT64] | None = None
    """Fewest fields of an object."""
    required: Annotated[tuple[Text256, ...], Field(min_length=1, max_length=1000), ATOMIC] = ()
    """Fields an object must have."""
    items: Any = None
    """Schema of an array's items."""
    max_items: Annotated[int, INT64] | None = None
    """Most items of an array."""
    min_items: Annotated[int, INT64] | None = None
    """Fewest items of an array."""
    unique_items: bool | None = None
    """Whether the items of an array must differ."""
    format: Annotated[str, Field(min_length=1, max_length=32)] | None = None
    """Format of a string or number."""
    max_length: Annotated[int, INT64] | None = None
    """Longest string."""
    min_length: Annotated[int, INT64] | None = None
    """Shortest string."""
    pattern: Text512 | None = None
    """Regular expression a string must match."""
    maximum: Annotated[int, INT64] | None = None
    """Largest number."""
    exclusive_maximum: bool | None = None
    """Whether the maximum itself is not allowed."""
    minimum: Annotated[int, INT64] | None = None
    """Smallest number."""
    exclusive_minimum: bool | None = None
    """Whether the minimum itself is not allowed."""
    preserve_unknown_fields: Annotated[bool | None, Field(alias="x-kubernetes-preserve-unknown-fields")] = None
    """Whether an object may hold fields the schema does not name."""
    enum: Annotated[tuple[Any, ...], Field(max_length=100), ATOMIC] = ()
    """Allowed values."""
    default: Any = None
    """Value used when the user gives none."""
    validations: Annotated[
        tuple[ValidationRule, ...],
        Field(min_length=1, max_length=100, alias="x-kubernetes-validations"),
        ListMap(("rule",)),
    ] = ()
    """CEL rules the value must satisfy."""
    metadata: Annotated[TemplateMetadata, Field(alias="x-metadata")] = TemplateMetadata()
    """Labels and annotations for tools that show the variable."""
    int_or_string: Annotated[bool | None, Field(alias="x-kubernetes-int-or-string")] = None
    """Whether the value is an integer or a string."""
    all_of: Any = None
    """Schemas that must all match."""
    one_of: Any = None
    """Schemas of which exactly one must match."""
    any_of: Any = None
    """Schemas of which at least one must match."""
    not_: Annotated[Any, Field(alias="not")] = None
    """Schema that must not match."""


class VariableSchema(Frozen):
    """Schema of a variable."""

    open_api_v3_schema: Annotated[JSONSchemaProps, Field(alias="openAPIV3Schema")]
    """OpenAPI v3 schema the value must satisfy."""


class ClusterClassVariable(Frozen):
    """A variable that Clusters of the class may set."""

    name: Text256
    """Name of the variable."""
    required: bool
    """Whether every Cluster must set it."""
    deprecated_metadata: Annotated[TemplateMetadata, Field(alias="deprecatedV1Beta1Metadata")] = TemplateMetadata()
    """Labels and annotations of the v1beta1 form."""
    schema_: Annotated[VariableSchema, Field(alias="schema")]
    """Schema of the value."""


class PatchSelectorNames(Frozen):
    """Classes of workers a patch applies to."""

    names: Names = ()
    """Names of the classes; may hold * at either end."""


class PatchSelectorMatch(Frozen):
    """Where in the ClusterClass a template must be referred to."""

    MIN_PROPERTIES: ClassVar[int] = 1

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

    api_version: GroupVersion
    """Group and version of the templates."""
    kind: KindName
    """Kind of the templates."""
    match_resources: PatchSelectorMatch
    """Where in the ClusterClass the templates are referred to."""


class JSONPatchValue(Frozen):
    """Where the value of a JSON patch comes from."""

    variable: Text256 | None = None
    """Variable, or a path into one, or a builtin."""
    template: Text10240 | None = None
    """Go template that renders to YAML."""


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
    json_patches: Annotated[tuple[JSONPatch, ...], Field(min_length=1, max_length=100), ATOMIC]
    """Operations, in order."""


class ExternalPatch(Frozen):
    """Runtime extensions that patch templates."""

    generate_patches_extension: Text512 | None = None
    """Extension that generates patches."""
    validate_topology_extension: Text512 | None = None
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
    definitions: Annotated[tuple[PatchDefinition, ...], Field(max_length=100), ATOMIC] = ()
    """Inline patches."""
    external: ExternalPatch | None = None
    """Patches by runtime extensions; excludes definitions."""
