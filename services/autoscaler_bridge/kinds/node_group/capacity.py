"""What a host of a node group would be, for a group that has none to look at: resources, labels, taints.

The provider's template tells it (``status.capacity``, ``status.nodeInfo``); annotations of the object win. What the template tells is also filled into those
annotations of cluster-autoscaler's that nobody has set, because cluster-autoscaler reads them before the template. ``FILLED`` keeps what was filled in: what
differs from it is a user's, and is left alone.

Source: kinds.md §15; contracts.md §3; cluster-autoscaler 1.36 clusterapi provider (annotations, their forms, 110 Pods by default; what the template tells and
is no quantity is not told, an annotation that cannot be read makes the whole capacity unknown).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleetwake import labels
from fleetwake.contracts import field
from fleetwake.kind import External
from services.autoscaler_bridge.kinds.node_group.observed import Observed, Scalable
from services.autoscaler_bridge.kinds.node_group.quantities import quantity, whole

FILLED = "fleetwake.io/autoscaler-capacity"
"""Annotation with what we filled in, as JSON: a name after the prefix, and its value."""

CPU, MEMORY, DISK, PODS, GPU_TYPE, GPU_COUNT, LABELS, TAINTS = "cpu", "memory", "ephemeral-disk", "maxPods", "gpu-type", "gpu-count", "labels", "taints"
RESOURCES: Mapping[str, str] = {CPU: "cpu", MEMORY: "memory", DISK: "ephemeral-storage", PODS: "pods"}
"""The resource behind each annotation."""

WHOLE = (PODS, GPU_COUNT)
"""Annotations that must be digits alone: cluster-autoscaler reads no other form of a quantity there."""

PODS_DEFAULT = "110"
ARCHITECTURE_LABEL, SYSTEM_LABEL = "kubernetes.io/arch", "kubernetes.io/os"


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint of the Nodes."""

    key: str
    value: str
    effect: str

    @property
    def text(self) -> str:
        """As the annotation says it."""
        return f"{self.key}{'=' if self.value else ''}{self.value}:{self.effect}"


@dataclass(frozen=True, slots=True)
class HostTemplate:
    """A host that is not there yet. ``resources`` are quantities as Kubernetes writes them; ``unreadable`` says which annotations are none."""

    resources: Mapping[str, str]
    labels: Mapping[str, str]
    taints: tuple[Taint, ...] = ()
    architecture: str = ""
    operating_system: str = ""
    unreadable: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether it is enough to decide what fits on it."""
        return "cpu" in self.resources and "memory" in self.resources and not self.unreadable


def told(template: External | None, *path: str) -> dict[str, str]:
    """A map of texts in the template's status; whatever else is there reads as not reported."""
    found = field(template, "status", *path) if template is not None else None
    if not isinstance(found, Mapping):
        return {}
    return {str(name): str(value) for name, value in found.items() if isinstance(value, str | int) and not isinstance(value, bool) and str(value)}


def _capacity(template: External | None) -> dict[str, str]:
    """The resources that the template tells; what is no quantity is not told."""
    return {name: value for name, value in told(template, "capacity").items() if quantity(value) is not None}


def _gpu(capacity: Mapping[str, str]) -> tuple[str, str] | None:
    """The accelerators of the host: the first resource whose name says so."""
    return next(((name, capacity[name]) for name in sorted(capacity) if "/" in name and "gpu" in name and capacity[name] != "0"), None)


def _node_labels(obj: Scalable, info: Mapping[str, str]) -> dict[str, str]:
    system = {ARCHITECTURE_LABEL: info.get("architecture", ""), SYSTEM_LABEL: info.get("operatingSystem", "")}
    synced = {key: value for key, value in obj.spec.template.metadata.labels.items() if labels.is_node_label(key)}
    return {key: value for key, value in system.items() if value} | synced


def _taints(obj: Scalable) -> tuple[Taint, ...]:
    return tuple(Taint(one.key, one.value or "", one.effect) for one in obj.spec.template.spec.taints)


def wanted(observed: Observed) -> dict[str, str]:
    """The annotations, by the name after their prefix, as the template and the spec tell them."""
    capacity, info = _capacity(observed.template), told(observed.template, "nodeInfo")
    found = {name: capacity[resource] for name, resource in RESOURCES.items() if resource in capacity}
    if (gpu := _gpu(capacity)) is not None:
        found[GPU_TYPE], found[GPU_COUNT] = gpu
    found |= {name: number for name in WHOLE if name in found and (number := whole(found[name])) is not None}
    node_labels, taints = _node_labels(observed.obj, info), _taints(observed.obj)
    if node_labels:
        found[LABELS] = ",".join(f"{key}={value}" for key, value in sorted(node_labels.items()))
    if taints:
        found[TAINTS] = ",".join(taint.text for taint in taints)
    return found


def annotated(annotations: Mapping[str, str]) -> dict[str, str]:
    """The annotations that are there, whoever set them, by the name after their prefix."""
    return {name.removeprefix(labels.CAPACITY_PREFIX): value for name, value in annotations.items() if name.startswith(labels.CAPACITY_PREFIX)}


def filled(annotations: Mapping[str, str]) -> dict[str, str]:
    """What of them is still as we filled it in."""
    try:
        recorded = json.loads(annotations.get(FILLED, "{}"))
    except ValueError:
        return {}
    there = annotated(annotations)
    return {name: value for name, value in recorded.items() if there.get(name) == value} if isinstance(recorded, dict) else {}


def filling(annotations: Mapping[str, str], wants: Mapping[str, str]) -> dict[str, str | None]:
    """The annotations to set, and with None to take away, so that ours say what is wanted; a user's stay. Empty when all is so."""
    there, ours = annotated(annotations), filled(annotations)
    fill = {name: value for name, value in wants.items() if name not in there or name in ours}
    change: dict[str, str | None] = {labels.CAPACITY_PREFIX + name: None for name in ours if name not in fill}
    change |= {labels.CAPACITY_PREFIX + name: value for name, value in fill.items() if there.get(name) != value}
    text = json.dumps(fill, sort_keys=True, separators=(",", ":")) if fill else None
    if annotations.get(FILLED) != text:
        change[FILLED] = text
    return change


def host_template(observed: Observed) -> HostTemplate:
    """The host as the annotations and, behind them, the template tell it."""
    capacity, info = _capacity(observed.template), told(observed.template, "nodeInfo")
    by = {name: value for name, value in annotated(observed.obj.metadata.annotations).items() if value}
    resources = {"pods": PODS_DEFAULT} | capacity | {resource: by[name] for name, resource in RESOURCES.items() if name in by}
    if GPU_TYPE in by and GPU_COUNT in by:
        resources[by[GPU_TYPE]] = by[GPU_COUNT]
    node_labels = _node_labels(observed.obj, info) | _parsed_labels(by.get(LABELS, ""))
    taints = {(one.key, one.effect): one for one in (*_taints(observed.obj), *_parsed_taints(by.get(TAINTS, "")))}
    return HostTemplate(resources, node_labels, tuple(taints.values()), info.get("architecture", ""), info.get("operatingSystem", ""), _unreadable(by))


def _unreadable(by: Mapping[str, str]) -> tuple[str, ...]:
    """What is wrong with the annotations that tell resources."""
    found = []
    for name in (CPU, MEMORY, DISK, PODS, GPU_COUNT):
        text = by.get(name, "0")
        if name in WHOLE and not (text.isascii() and text.isdecimal()):
            found.append(f"annotation {labels.CAPACITY_PREFIX}{name} is {text!r}: it must be a whole number")
        elif quantity(text) is None:
            found.append(f"annotation {labels.CAPACITY_PREFIX}{name} is {text!r}: it must be a quantity, such as 4, 500m or 16Gi")
    return tuple(found)


def _parsed_labels(text: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in text.split(",") if "=" in part)
    return {key: value for key, _, value in pairs if key}


def _parsed_taints(text: str) -> tuple[Taint, ...]:
    found = []
    for part in text.split(","):
        name, _, effect = part.strip().partition(":")
        key, _, value = name.partition("=")
        if key and effect:
            found.append(Taint(key, value, effect))
    return tuple(found)


def option(annotations: Mapping[str, Any], name: str) -> str | None:
    """An option of cluster-autoscaler's that the object sets for its own group, in small letters as it is read there; None where it does not."""
    value = annotations.get(labels.AUTOSCALING_OPTIONS_PREFIX + name)
    return str(value).lower() if value else None
