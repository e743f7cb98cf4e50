"""What a Machine hands on to its Node: labels, annotations and taints, in one patch, and only those it has set before are taken away.

Source: kinds.md §0.8; Cluster API v1.14 machine controller (node metadata and taint propagation).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fleetwake import labels
from fleetwake.plan import Patch
from schemas.api.core.v1beta2.shared import MachineTaint
from schemas.keys import ObjectKey
from services.reconcilers.kinds.machine.observed import Node, Observed

COMMON_ANNOTATIONS = (
    labels.CLUSTER_NAME_ANNOTATION,
    labels.CLUSTER_NAMESPACE_ANNOTATION,
    labels.MACHINE_ANNOTATION,
    labels.OWNER_KIND_ANNOTATION,
    labels.OWNER_NAME_ANNOTATION,
)
UNINITIALIZED = (labels.UNINITIALIZED_TAINT, "NoSchedule")
OUTDATED = (labels.OUTDATED_REVISION_TAINT, "PreferNoSchedule")

Taint = dict[str, Any]


def node_key(observed: Observed, name: str) -> ObjectKey:
    """The key of a Node of the Machine's workload cluster."""
    return ObjectKey("", "Node", "", name, str(observed.cluster_key))


def synced_labels(observed: Observed) -> dict[str, str]:
    """The labels of the Machine that its Node gets: node roles, the domains made for this purpose, and what the settings name."""
    found = observed.machine.metadata.labels
    return {key: value for key, value in found.items() if labels.is_node_label(key) or _named(key, observed.node_sync.labels)}


def _named(key: str, patterns: Iterable[re.Pattern[str]]) -> bool:
    return any(pattern.search(key) for pattern in patterns)


def synced_annotations(observed: Observed) -> dict[str, str]:
    """The annotations the Node gets: where it belongs, those of the Machine in the domain made for this purpose, and what the settings name."""
    machine = observed.machine
    wanted = {
        labels.CLUSTER_NAME_ANNOTATION: machine.spec.cluster_name,
        labels.CLUSTER_NAMESPACE_ANNOTATION: machine.namespace,
        labels.MACHINE_ANNOTATION: machine.name,
    }
    owner = machine.metadata.controller
    if owner is not None:
        wanted |= {labels.OWNER_KIND_ANNOTATION: owner.kind, labels.OWNER_NAME_ANNOTATION: owner.name}
    found, patterns = machine.metadata.annotations, observed.node_sync.annotations
    managed = {key: value for key, value in found.items() if labels.within(key.partition("/")[0], labels.MANAGED_NODE_DOMAIN) or _named(key, patterns)}
    return managed | wanted


def sync_node(observed: Observed, node: Node) -> Patch | None:
    """The strategic patch that brings the Node's metadata and taints in line; None when nothing differs."""
    meta = node["metadata"]
    stored: Mapping[str, str] = meta.get("annotations") or {}
    annotations = _annotations(observed, stored)
    node_labels = _labels(observed, meta.get("labels") or {}, stored)
    have: list[Taint] = [dict(taint) for taint in node.get("spec", {}).get("taints") or ()]
    taints, tracked = _taints(observed, have, stored)
    if tracked != stored.get(labels.TAINTS_FROM_MACHINE):
        annotations[labels.TAINTS_FROM_MACHINE] = tracked
    body: dict[str, Any] = {}
    metadata = {name: value for name, value in (("labels", node_labels), ("annotations", annotations)) if value}
    if metadata:
        body["metadata"] = metadata
    if taints != have:
        body["spec"] = {"taints": taints}
    if not body:
        return None
    return Patch(
        key=node_key(observed, meta["name"]),
        api_version="v1",
        uid=meta.get("uid", ""),
        body=body,
        reason="the node carries what its machine says",
        resource_version=meta.get("resourceVersion", ""),
        strategic=True,
    )


def _annotations(observed: Observed, stored: Mapping[str, str]) -> dict[str, str | None]:
    """The annotations to set (or take away: None), the records of what was set included."""
    wanted = synced_annotations(observed)
    ours = sorted(key for key in wanted if key not in COMMON_ANNOTATIONS)
    records = {labels.ANNOTATIONS_FROM_MACHINE: ",".join(ours), labels.LABELS_FROM_MACHINE: ",".join(sorted(synced_labels(observed)))}
    before = {*_listed(stored.get(labels.ANNOTATIONS_FROM_MACHINE)), *COMMON_ANNOTATIONS} - {labels.ANNOTATIONS_FROM_MACHINE}
    return _difference(stored, wanted | records, before)


def _labels(observed: Observed, stored: Mapping[str, str], annotations: Mapping[str, str]) -> dict[str, str | None]:
    different = _difference(stored, synced_labels(observed), _listed(annotations.get(labels.LABELS_FROM_MACHINE)))
    if observed.infra is not None and observed.infra.interruptible and labels.INTERRUPTIBLE not in stored:
        different[labels.INTERRUPTIBLE] = ""
    return different


def _difference(stored: Mapping[str, str], wanted: Mapping[str, str], before: Iterable[str]) -> dict[str, str | None]:
    different: dict[str, str | None] = {key: value for key, value in wanted.items() if stored.get(key) != value}
    different.update({key: None for key in before if key in stored and key not in wanted})
    return different


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part for part in (text or "").split(",") if part)


@dataclass(frozen=True, slots=True)
class _Propagation:
    """The Machine's taints by how they are propagated, as ``key:effect``."""

    always: tuple[str, ...]
    once: tuple[str, ...]


def _taints(observed: Observed, have: list[Taint], annotations: Mapping[str, str]) -> tuple[list[Taint], str]:
    """The taints the Node shall have, in its order, and the record of those kept in line."""
    record = annotations.get(labels.TAINTS_FROM_MACHINE)
    machine = observed.machine
    split = _Propagation(
        tuple(sorted(_name(one) for one in machine.spec.taints if one.propagation == "Always")),
        tuple(_name(one) for one in machine.spec.taints if one.propagation == "OnInitialization"),
    )
    taints = list(have)
    for one in machine.spec.taints:
        # a taint for the start of a Node's life stays away once somebody has removed it
        if one.propagation == "Always" or record is None:
            taints = _with(taints, one)
    gone = {*_listed(record)} - {*split.always, *split.once}
    taints = [taint for taint in taints if f"{taint['key']}:{taint.get('effect', '')}" not in gone]
    taints = [taint for taint in taints if (taint["key"], taint.get("effect")) != UNINITIALIZED]
    if _outdated(observed):
        if not any((taint["key"], taint.get("effect")) == OUTDATED for taint in taints):
            taints.append({"key": OUTDATED[0], "effect": OUTDATED[1]})
    else:
        taints = [taint for taint in taints if (taint["key"], taint.get("effect")) != OUTDATED]
    return taints, ",".join(split.always)


def _name(taint: MachineTaint) -> str:
    return f"{taint.key}:{taint.effect}"


def _with(taints: list[Taint], wanted: MachineTaint) -> list[Taint]:
    new: Taint = {"key": wanted.key, "effect": wanted.effect}
    if wanted.value:
        new["value"] = wanted.value
    for index, taint in enumerate(taints):
        if (taint["key"], taint.get("effect")) == (wanted.key, wanted.effect):
            return taints if taint.get("value", "") == (wanted.value or "") else [*taints[:index], new, *taints[index + 1 :]]
    return [*taints, new]


def _outdated(observed: Observed) -> bool:
    """Whether the Machine's set is of an older revision than its deployment."""
    if observed.machine_set is None or observed.machine_deployment is None:
        return False
    return _revision(observed.machine_set.metadata.annotations) < _revision(observed.machine_deployment.metadata.annotations)


def _revision(annotations: Mapping[str, str]) -> int:
    text = annotations.get(labels.REVISION, "")
    return int(text) if text.isdecimal() else 0
