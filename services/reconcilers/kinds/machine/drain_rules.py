"""What draining means for each Pod of a Node: evict it (in which order), wait for it to complete, or leave it alone.

Source: kinds.md §2 (drain algorithm), §7; Cluster API v1.14 machine controller drain filters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import AwareDatetime, TypeAdapter

from fleetwake import labels
from fleetwake.kind import Looked
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_drain_rule import MachineDrainRule
from schemas.api.meta import LabelSelector

Behavior = Literal["Drain", "Skip", "WaitCompleted"]
Pod = Mapping[str, Any]

MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
UNREACHABLE_GRACE = timedelta(seconds=1)
FINISHED = ("Succeeded", "Failed")
DAEMON_SET_LOOK = "get/apps/v1/DaemonSet/"
"""The look at a DaemonSet, before its ``namespace/name``; its value is None when there is none."""

_TIME: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


@dataclass(frozen=True, slots=True)
class NodePods:
    """The Pods of a Node by name, the labels of namespaces (as far as looked at), and DaemonSets (``namespace/name``) known not to exist."""

    pods: tuple[Pod, ...]
    namespaces: Mapping[str, Mapping[str, str]]
    missing_daemon_sets: frozenset[str] = frozenset()


def node_pods(pods: Any, looks: Mapping[str, Looked]) -> NodePods:
    """What is known of a Node's Pods: ``pods`` is the list a look found, ``looks`` hold namespaces and DaemonSets."""
    namespaces = looks.get("namespaces")
    found = {str(one["metadata"]["name"]): one["metadata"].get("labels") or {} for one in (namespaces.value if namespaces is not None else None) or ()}
    missing = frozenset(
        query.removeprefix(DAEMON_SET_LOOK) for query, look in looks.items() if query.startswith(DAEMON_SET_LOOK) and look.value is None and not look.error
    )
    return NodePods(tuple(sorted(pods or (), key=pod_name)), found, missing)


def daemon_sets(pods: Iterable[Pod]) -> tuple[str, ...]:
    """``namespace/name`` of the DaemonSets that control running Pods: whether they exist decides what happens to the Pods."""
    running = (pod for pod in pods if pod.get("status", {}).get("phase") not in FINISHED)
    return tuple(sorted({name for pod in running if (name := _daemon_set(pod["metadata"]))}))


@dataclass(frozen=True, slots=True)
class Treatment:
    """What draining does with a Pod. ``order``: only Pods of the lowest order still present are evicted."""

    pod: Pod
    behavior: Behavior
    order: int = 0

    @property
    def terminating(self) -> bool:
        """Whether the Pod has been asked to go."""
        return bool(self.pod["metadata"].get("deletionTimestamp"))


def pod_name(pod: Pod) -> str:
    """``namespace/name`` of a Pod."""
    return f"{pod['metadata'].get('namespace', '')}/{pod['metadata']['name']}"


def applying(rules: Iterable[MachineDrainRule], machine: Machine, cluster: Cluster) -> tuple[MachineDrainRule, ...]:
    """The rules that apply to the Machine, in the order in which they are tried: by name."""
    return tuple(
        rule
        for rule in sorted(rules, key=lambda rule: rule.name)
        if not rule.spec.machines
        or any(_matches(one.selector, machine.metadata.labels) and _matches(one.cluster_selector, cluster.metadata.labels) for one in rule.spec.machines)
    )


def treat(found: NodePods, rules: Iterable[MachineDrainRule], *, at: datetime, unreachable: bool) -> tuple[Treatment, ...]:
    """Decide for every Pod of the Node, in the order of their names; the first rule that says anything decides."""
    tried = tuple(rules)
    return tuple(_treat(pod, found, tried, at if unreachable else None) for pod in found.pods)


def _treat(pod: Pod, found: NodePods, rules: tuple[MachineDrainRule, ...], unreachable_at: datetime | None) -> Treatment:
    meta = pod["metadata"]
    finished = pod.get("status", {}).get("phase") in FINISHED
    deleted = meta.get("deletionTimestamp")
    # a kubelet that cannot be reached will never remove its Pods
    if unreachable_at is not None and deleted and unreachable_at - _TIME.validate_python(deleted) > UNREACHABLE_GRACE:
        return Treatment(pod, "Skip")
    daemon_set = _daemon_set(meta)
    if daemon_set and not finished and daemon_set not in found.missing_daemon_sets:
        return Treatment(pod, "Skip")
    if MIRROR_ANNOTATION in (meta.get("annotations") or {}):
        return Treatment(pod, "Skip")
    label = (meta.get("labels") or {}).get(labels.DRAIN, "").lower()
    if label == "skip":
        return Treatment(pod, "Skip")
    if label in ("wait-completed", "waitcompleted"):
        return _waiting(pod, finished)
    namespace = found.namespaces.get(meta.get("namespace", ""), {})
    for rule in rules:
        selectors = rule.spec.pods
        if not selectors or any(_matches(one.selector, meta.get("labels") or {}) and _matches(one.namespace_selector, namespace) for one in selectors):
            drain = rule.spec.drain
            if drain.behavior == "WaitCompleted":
                return _waiting(pod, finished)
            return Treatment(pod, drain.behavior, drain.order or 0)
    return Treatment(pod, "Drain")


def _waiting(pod: Pod, finished: bool) -> Treatment:
    return Treatment(pod, "Skip" if finished else "WaitCompleted")


def _daemon_set(meta: Mapping[str, Any]) -> str:
    """``namespace/name`` of the DaemonSet that controls a Pod, ``""`` if none does."""
    for ref in meta.get("ownerReferences") or ():
        if ref.get("controller") and ref.get("kind") == "DaemonSet":
            return f"{meta.get('namespace', '')}/{ref['name']}"
    return ""


def _matches(selector: LabelSelector | None, found: Mapping[str, str]) -> bool:
    return selector is None or selector.matches(found)
