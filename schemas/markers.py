"""Facts of a custom resource's schema that Python types cannot say, attached to fields with ``Annotated`` or to classes.

pydantic ignores these markers; ``schemas.crd`` reads them. Bounds, patterns and enums are said with pydantic's own ``Field`` and
``Literal``, so that a model rejects what the API server would reject.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ColumnType = Literal["string", "integer", "boolean", "date"]


Reason = Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL validation rule (``x-kubernetes-validations``) and the message a user reads when it fails.

    ``field_path`` is the field that is told, below the one the rule stands at (``.replicas``). ``added`` says that Cluster API's own definition has no such
    rule: there a webhook checks it, here the API server itself, whether a webhook answers or not.
    """

    rule: str
    message: str
    reason: Reason = "FieldValueInvalid"
    field_path: str = ""
    added: bool = False


@dataclass(frozen=True, slots=True)
class ListMap:
    """A list merged per item: items are identified by the values of ``keys`` (wire names)."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Atomic:
    """A list that server-side apply replaces whole."""


@dataclass(frozen=True, slots=True)
class Required:
    """A field the API server requires although the model has a default for it."""


@dataclass(frozen=True, slots=True)
class NotRequired:
    """A field the API server does not require although no object without it is of any use; the model requires it."""


@dataclass(frozen=True, slots=True)
class ServerDefault:
    """A default that the API server fills in (``default:`` of the schema)."""

    value: str | bool | int


@dataclass(frozen=True, slots=True)
class Addition:
    """A keyword of the schema, with its value, that Cluster API's own definition does not have: there a webhook checks it or fills it in."""

    keyword: Literal["default", "minimum", "pattern"]
    value: str | bool | int


@dataclass(frozen=True, slots=True)
class Format:
    """The OpenAPI format where the Python type alone would give another one (``int64``, ``byte``)."""

    name: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``kubectl get``; priority above 0 shows it only with ``-o wide``."""

    name: str
    json_path: str
    type: ColumnType = "string"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Scale:
    """Paths of the scale subresource."""

    spec_replicas_path: str = ".spec.replicas"
    status_replicas_path: str = ".status.replicas"
    label_selector_path: str | None = ".status.selector"


INT64 = Format("int64")
PLAIN_INTEGER = Format("")
"""An integer of which the definition does not say how large it is."""

BYTE = Format("byte")
ATOMIC = Atomic()
REQUIRED = Required()
OPTIONAL = NotRequired()

AGE = Column("Age", ".metadata.creationTimestamp", "date")
PAUSED = Column("Paused", '.status.conditions[?(@.type=="Paused")].status', priority=10)
CLUSTER_LABEL_COLUMN = Column("Cluster", r".metadata.labels['cluster\.x-k8s\.io/cluster-name']")


def condition_column(name: str, type_: str) -> Column:
    """A column that shows the status of one condition."""
    return Column(name, f'.status.conditions[?(@.type=="{type_}")].status')
