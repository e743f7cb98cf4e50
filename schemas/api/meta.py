"""What every Kubernetes object shares: metadata, conditions, selectors, references.

Models are frozen and keep unknown fields (``extra="allow"``): a newer server's field survives a read, though fleetwake never writes
an inbound object back whole. Attribute names are snake_case of the field's own word, aliases carry the wire's spelling. An optional
object with no required field defaults to an empty instance so that decisions read ``machine.status.node_ref`` without guards; an
optional object with required fields defaults to ``None``; lists are tuples; maps are read-only mappings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from schemas.markers import ATOMIC, INT64, REQUIRED, Column, ListMap, Rule, Scale

CONDITION_TYPE_PATTERN = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
REASON_PATTERN = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"

ConditionStatus = Literal["True", "False", "Unknown"]
IntOrString = Annotated[int | str, Field(json_schema_extra={"x-kubernetes-int-or-string": True})]


class Frozen(BaseModel):
    """Base of every wire model: frozen, unknown fields kept, camelCase aliases.

    The class variables are facts of the object's schema for ``schemas.crd``: how few properties it may have, its CEL rules,
    whether server-side apply replaces it whole, and which fields of the model it derives from its version lacks.
    """

    MIN_PROPERTIES: ClassVar[int] = 0
    RULES: ClassVar[tuple[Rule, ...]] = ()
    ATOMIC_MAP: ClassVar[bool] = False
    LACKS: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(frozen=True, extra="allow", alias_generator=to_camel, populate_by_name=True, defer_build=True, protected_namespaces=())


class OwnerReference(Frozen):
    """A reference from a dependent to its owner in the same namespace."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False

    @property
    def group(self) -> str:
        """The API group of the owner, ``""`` for the core group."""
        return self.api_version.rpartition("/")[0]


class ObjectMeta(Frozen):
    """The part of metadata that decisions read. ``managed_fields`` never travels in records."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: AwareDatetime | None = None
    deletion_timestamp: AwareDatetime | None = None
    deletion_grace_period_seconds: int | None = None
    labels: Mapping[str, str] = Field(default_factory=dict)
    annotations: Mapping[str, str] = Field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()

    @property
    def deleting(self) -> bool:
        """Whether the API server has accepted a delete of the object."""
        return self.deletion_timestamp is not None

    @property
    def controller(self) -> OwnerReference | None:
        """The owner reference with ``controller: true``, if any (there is at most one)."""
        return next((ref for ref in self.owner_references if ref.controller), None)


class Condition(Frozen):
    """A metav1.Condition."""

    type: Annotated[str, Field(max_length=316, pattern=CONDITION_TYPE_PATTERN)]
    """Type of the condition, in CamelCase, optionally qualified by a domain."""
    status: ConditionStatus
    """Whether the condition holds."""
    observed_generation: Annotated[int, Field(ge=0), INT64] | None = None
    """metadata.generation that the condition was judged from."""
    last_transition_time: AwareDatetime
    """When the status last changed."""
    reason: Annotated[str, Field(min_length=1, max_length=1024, pattern=REASON_PATTERN)]
    """Why the condition has its status, as a constant for programs."""
    message: Annotated[str, Field(max_length=32768), REQUIRED] = ""
    """Details for people; may be empty."""


class LegacyCondition(Frozen):
    """A condition of the v1beta1 contract: no generation, an optional reason and a severity."""

    type: Annotated[str, Field(min_length=1, max_length=256)]
    """Type of the condition in CamelCase."""
    status: str
    """True, False or Unknown."""
    severity: Annotated[str, Field(max_length=32)] | None = None
    """How bad a False status is: Error, Warning or Info; empty otherwise."""
    last_transition_time: AwareDatetime
    """When the status last changed."""
    reason: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Why the condition has its status, in CamelCase."""
    message: Annotated[str, Field(min_length=1, max_length=10240)] | None = None
    """Details for people."""


Conditions = Annotated[tuple[Condition, ...], Field(max_length=32), ListMap(("type",))]


class LabelSelectorRequirement(Frozen):
    """One expression of a label selector."""

    key: str
    """Label key the expression is about."""
    operator: str
    """In, NotIn, Exists or DoesNotExist."""
    values: Annotated[tuple[str, ...], ATOMIC] = ()
    """Values compared with; empty for Exists and DoesNotExist."""


class LabelSelector(Frozen):
    """A metav1.LabelSelector; ``matches`` follows apimachinery: all expressions are AND-ed, an empty selector matches everything."""

    ATOMIC_MAP: ClassVar[bool] = True

    match_labels: Mapping[str, str] = Field(default_factory=dict)
    """Labels that must have exactly these values."""
    match_expressions: Annotated[tuple[LabelSelectorRequirement, ...], ATOMIC] = ()
    """Expressions that must all hold."""

    @property
    def empty(self) -> bool:
        """Whether the selector has no requirement at all."""
        return not self.match_labels and not self.match_expressions

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether ``labels`` satisfy every requirement."""
        if any(labels.get(key) != value for key, value in self.match_labels.items()):
            return False
        for expression in self.match_expressions:
            present, value = expression.key in labels, labels.get(expression.key)
            match expression.operator:
                case "In":
                    satisfied = present and value in expression.values
                case "NotIn":
                    satisfied = not present or value not in expression.values
                case "Exists":
                    satisfied = present
                case "DoesNotExist":
                    satisfied = not present
                case _:
                    satisfied = False
            if not satisfied:
                return False
        return True

    def format(self) -> str:
        """The selector as the string that ``status.selector`` of a scale subresource carries."""
        parts = [f"{key}={self.match_labels[key]}" for key in sorted(self.match_labels)]
        for expression in sorted(self.match_expressions, key=lambda e: e.key):
            values = ",".join(sorted(expression.values))
            match expression.operator:
                case "In":
                    parts.append(f"{expression.key} in ({values})")
                case "NotIn":
                    parts.append(f"{expression.key} notin ({values})")
                case "Exists":
                    parts.append(expression.key)
                case _:
                    parts.append(f"!{expression.key}")
        return ",".join(parts)


class KubeObject(Frozen):
    """Base of every kind. GROUP and VERSION name what ``api_version`` says; PLURAL is the REST resource.

    The other class variables are facts of the CustomResourceDefinition: scope, short names, categories, printed columns, subresources, and whether the
    version has lower bounds at all.
    """

    GROUP: ClassVar[str] = ""
    VERSION: ClassVar[str] = "v1"
    KIND: ClassVar[str] = ""
    PLURAL: ClassVar[str] = ""
    SCOPE: ClassVar[Literal["Namespaced", "Cluster"]] = "Namespaced"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ()
    CATEGORIES: ClassVar[tuple[str, ...]] = ("cluster-api",)
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = ()
    STATUS_SUBRESOURCE: ClassVar[bool] = True
    SCALE: ClassVar[Scale | None] = None
    LOWER_BOUNDS: ClassVar[bool] = True

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()

    @property
    def name(self) -> str:
        """metadata.name."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """metadata.namespace, ``""`` for a cluster-scoped kind."""
        return self.metadata.namespace

    def annotated(self, key: str) -> bool:
        """Whether the annotation is present, with any value."""
        return key in self.metadata.annotations


JsonObject = Mapping[str, Any]
