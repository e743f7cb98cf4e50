"""Make an infrastructure or bootstrap object's body from its template.

MachineSet, KubeadmControlPlane and MachineHealthCheck clone their templates with it; it reads nothing and knows no provider.

Source: contracts.md §3, §5 (templates keep the object under ``spec.template``); Cluster API v1.14 behaviour of cloned objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleetwake import labels
from fleetwake.kind import External
from schemas.keys import GroupKind

TEMPLATE_SUFFIX = "Template"


@dataclass(frozen=True, slots=True)
class Clone:
    """What the object made from a template is called and carries; ``owners`` are owner references as JSON (their uid may be a placeholder)."""

    name: str
    cluster_name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owners: Sequence[Mapping[str, Any]] = ()


def clone(template: External, wanted: Clone) -> dict[str, Any]:
    """The body of the object: the template's ``spec.template`` with the name, labels, annotations and owners of ``wanted``.

    Labels and annotations of ``wanted`` win over those of the template; the cluster-name label and the two cloned-from annotations are always set.
    """
    inner = inner_template(template)
    inner_metadata = inner.get("metadata") if isinstance(inner.get("metadata"), Mapping) else {}
    metadata: dict[str, Any] = {"name": wanted.name, "namespace": template.key.namespace}
    metadata["labels"] = {**_texts(inner_metadata, "labels"), **wanted.labels, labels.CLUSTER_NAME: wanted.cluster_name}
    metadata["annotations"] = {**_texts(inner_metadata, "annotations"), **wanted.annotations, **cloned_from(template)}
    if wanted.owners:
        metadata["ownerReferences"] = [dict(owner) for owner in wanted.owners]
    rest = {name: value for name, value in inner.items() if name not in ("apiVersion", "kind", "metadata", "status")}
    made = made_kind(template)
    return {"apiVersion": str(inner.get("apiVersion") or template.api_version), "kind": made.kind, "metadata": metadata, **rest}


def made_kind(template: External) -> GroupKind:
    """Group and kind of the objects made from the template: the template's kind without its suffix, unless the template names another."""
    inner = inner_template(template)
    group = str(inner.get("apiVersion") or template.api_version).rpartition("/")[0]
    return GroupKind(group, str(inner.get("kind") or template.key.kind.removesuffix(TEMPLATE_SUFFIX)))


def cloned_from(template: External) -> dict[str, str]:
    """The annotations that tell where an object was cloned from."""
    return {labels.CLONED_FROM_NAME: template.key.name, labels.CLONED_FROM_GROUP_KIND: str(template.key.group_kind)}


def inner_template(template: External) -> Mapping[str, Any]:
    """``spec.template`` of the template object; empty when the provider has none (such templates are tolerated)."""
    spec = template.fields.get("spec")
    inner = spec.get("template") if isinstance(spec, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _texts(metadata: Any, name: str) -> dict[str, str]:
    found = metadata.get(name) if isinstance(metadata, Mapping) else None
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, Mapping) else {}
