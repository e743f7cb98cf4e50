"""The objects of a topology: names that repeat, and bodies made from the class's templates.

Source: kinds.md §0.4 (names), §0.7 (owners), §10.2; architecture.md §4 (derived names); Cluster API v1.14 (cloned objects and templates of a topology).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from fleetwake import labels, names
from fleetwake.cloning import Clone, clone, cloned_from
from fleetwake.kind import External
from fleetwake.patches import owner_reference, owner_wire
from fleetwake.templating.go_template import TemplateError, render
from fleetwake.topology.blueprint import Json, TopologyError
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.meta import OwnerReference

OBJECT_NAME = "{{ .cluster.name }}-{{ .random }}"
DEPLOYMENT_NAME = "{{ .cluster.name }}-{{ .machineDeployment.topologyName }}-{{ .random }}"
POOL_NAME = "{{ .cluster.name }}-{{ .machinePool.topologyName }}-{{ .random }}"


@dataclass(frozen=True, slots=True)
class Made:
    """What an object or template of the topology is called and carries."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    owner: OwnerReference | None = None
    """Its owner from the beginning, so that it goes with that owner whatever becomes of the rest."""


def suffix(cluster: Cluster, *basis: str) -> str:
    """Five characters from the Cluster's uid and what the name is for: the same wish gives the same name, in every process."""
    return names.suffix(cluster.metadata.uid, basis)


def named(template: str, cluster: Cluster, random: str, values: Mapping[str, Any] | None = None) -> str:
    """A naming template filled in, cut to 63 characters before its suffix. Raises: TopologyError."""
    data = {"cluster": {"name": cluster.name}, "random": random, **(values or {})}
    try:
        name = render(template, data)
    except TemplateError as error:
        raise TopologyError(f"the naming template {template!r} cannot be rendered: {error}") from error
    if "<no value>" in name:
        raise TopologyError(f"the naming template {template!r} uses a variable there is none of; there are .random and {', '.join(_known(data))}")
    return name if len(name) <= names.NAME_LENGTH_MAX else names.with_suffix(name, random)


def prefixed(cluster: Cluster, part: str, random: str) -> str:
    """The name of a template or pool object: the Cluster's, the worker's in the topology if it is one's, and the suffix."""
    return names.with_suffix(f"{cluster.name}-{part}-" if part else f"{cluster.name}-", random)


def _known(data: Mapping[str, Any]) -> list[str]:
    return sorted(f".{name}.{inner}" for name, value in data.items() if isinstance(value, Mapping) for inner in value)


def object_from(template: External, cluster: Cluster, made: Made) -> Json:
    """An object made from a template, in the Cluster's namespace."""
    owners = [owner_wire(made.owner)] if made.owner is not None else []
    body = clone(template, Clone(made.name, cluster.name, {**made.labels, labels.TOPOLOGY_OWNED: ""}, made.annotations, owners))
    body["metadata"]["namespace"] = cluster.namespace
    return deepcopy(body)


def template_from(template: External, cluster: Cluster, made: Made) -> Json:
    """The Cluster's own copy of a template: its labels and annotations too, but what only ``kubectl apply`` reads."""
    kept = {key: value for key, value in template.metadata.annotations.items() if key != labels.LAST_APPLIED}
    return {
        "apiVersion": template.api_version,
        "kind": template.key.kind,
        "metadata": {
            "name": made.name,
            "namespace": cluster.namespace,
            "labels": {**template.metadata.labels, **made.labels, labels.CLUSTER_NAME: cluster.name, labels.TOPOLOGY_OWNED: ""},
            "annotations": {**kept, **made.annotations, **cloned_from(template)},
            "ownerReferences": [owner_wire(owner_reference(cluster))],
        },
        "spec": deepcopy(dict(template.fields.get("spec") or {})),
    }


def reference(body: Mapping[str, Any]) -> Json:
    """A reference to an object of the same namespace by group, kind and name."""
    return {"apiGroup": str(body["apiVersion"]).rpartition("/")[0], "kind": body["kind"], "name": body["metadata"]["name"]}
