"""Which cluster an object belongs to, and with it its partition (architecture.md §3). In-memory index, no IO.

The order of evidence: the Cluster itself, ``spec.clusterName`` (immutable), the owners, the label, the Cluster or MachinePool that refers to it,
the place it had, and last its own name: an object must never vanish, neither for want of a label nor by an edit of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from schemas.keys import GroupKind, ObjectKey
from schemas.placement import shared

CORE = "cluster.x-k8s.io"
ADDONS = "addons.cluster.x-k8s.io"
CLUSTER, MACHINE_POOL = GroupKind(CORE, "Cluster"), GroupKind(CORE, "MachinePool")
CLUSTER_NAME_LABEL = "cluster.x-k8s.io/cluster-name"
SPEC_CLUSTER_NAME_GROUPS = frozenset({CORE, ADDONS})
"""Groups whose ``spec.clusterName`` means a Cluster; in other groups the name is the provider's (a GKE cluster, say)."""

SHARED = ""
"""The cluster of an object that belongs to none."""


def key_of(value: Mapping[str, Any]) -> ObjectKey:
    """The key of an object of the management API."""
    metadata = value["metadata"]
    return ObjectKey(
        value["apiVersion"].rpartition("/")[0] if "/" in value["apiVersion"] else "", value["kind"], metadata.get("namespace", ""), metadata["name"]
    )


class Placement:
    """The clusters of all clustered objects, and who depends on whom for the answer."""

    def __init__(self) -> None:
        self._clusters: dict[ObjectKey, str] = {}
        self._referred: dict[ObjectKey, str] = {}
        self._references: dict[ObjectKey, tuple[ObjectKey, ...]] = {}
        self._dependents: dict[ObjectKey, set[ObjectKey]] = {}
        self._guesses: set[ObjectKey] = set()

    def place(self, key: ObjectKey, value: Mapping[str, Any]) -> tuple[str, tuple[ObjectKey, ...]]:
        """The cluster of the object (``SHARED`` for none), and the keys of other objects whose cluster may now be another."""
        if shared(key, value):
            return SHARED, ()
        guessed_before = key in self._guesses
        self._guesses.discard(key)
        if guessed_before:
            self._clusters.pop(key, None)
        cluster = self._resolve(key, value)
        wake: set[ObjectKey] = set()
        if key.group_kind in (CLUSTER, MACHINE_POOL):
            wake = self._refer(key, value, cluster)
        if self._clusters.get(key) != cluster:
            self._clusters[key] = cluster
            if key not in self._guesses:
                wake |= {dependent for dependent in self._dependents.get(key, ()) if self._clusters.get(dependent) not in (None, cluster)}
        return cluster, tuple(sorted(wake))

    def known(self, key: ObjectKey, cluster: str) -> None:
        """Take what the topic says of an object, before its own event comes."""
        if cluster:
            self._clusters.setdefault(key, cluster)

    def forget(self, key: ObjectKey) -> None:
        """The object is gone."""
        self._clusters.pop(key, None)
        self._guesses.discard(key)
        for referred in self._references.pop(key, ()):
            self._referred.pop(referred, None)

    def _resolve(self, key: ObjectKey, value: Mapping[str, Any]) -> str:
        metadata = value["metadata"]
        if key.group_kind == CLUSTER:
            return f"{key.namespace}/{key.name}"
        if key.group in SPEC_CLUSTER_NAME_GROUPS:
            name = (value.get("spec") or {}).get("clusterName")
            if isinstance(name, str) and name:
                return f"{key.namespace}/{name}"
        for owner in _owners(key, metadata):
            if owner.group_kind == CLUSTER:
                return f"{owner.namespace}/{owner.name}"
            self._dependents.setdefault(owner, set()).add(key)
            # an owner that stands under its own name for want of better does not pass that on
            if (cluster := self._clusters.get(owner)) is not None and owner not in self._guesses:
                return cluster
        label = (metadata.get("labels") or {}).get(CLUSTER_NAME_LABEL)
        if label:
            return f"{key.namespace}/{label}"
        if known := self._referred.get(key) or self._clusters.get(key):
            return known
        self._guesses.add(key)
        return f"{key.namespace}/{key.name}"

    def _refer(self, key: ObjectKey, value: Mapping[str, Any], cluster: str) -> set[ObjectKey]:
        references = tuple(_reference(key, one) for one in _references_of(key, value))
        for gone in set(self._references.get(key, ())) - set(references):
            self._referred.pop(gone, None)
        self._references[key] = references
        wake = set()
        for reference in references:
            self._referred[reference] = cluster
            if reference in self._clusters and self._clusters[reference] != cluster:
                wake.add(reference)
        return wake


def _references_of(key: ObjectKey, value: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What people name in a Cluster or a MachinePool, and write without a label or an owner of its own."""
    spec = value.get("spec") or {}
    if key.group_kind == MACHINE_POOL:
        made = (spec.get("template") or {}).get("spec") or {}
        fields = (made.get("infrastructureRef"), (made.get("bootstrap") or {}).get("configRef"))
    else:
        fields = (spec.get("infrastructureRef"), spec.get("controlPlaneRef"))
    yield from (one for one in fields if one)


def _owners(key: ObjectKey, metadata: Mapping[str, Any]) -> Iterator[ObjectKey]:
    references = metadata.get("ownerReferences") or ()
    for reference in sorted(references, key=lambda reference: not reference.get("controller")):
        group = reference["apiVersion"].rpartition("/")[0] if "/" in reference["apiVersion"] else ""
        if reference.get("controller") or GroupKind(group, reference["kind"]) == CLUSTER:
            yield ObjectKey(group, reference["kind"], key.namespace, reference["name"])


def _reference(key: ObjectKey, reference: Mapping[str, Any]) -> ObjectKey:
    group = reference.get("apiGroup") or str(reference.get("apiVersion", "")).rpartition("/")[0]
    return ObjectKey(group, str(reference.get("kind", "")), key.namespace, str(reference.get("name", "")))
