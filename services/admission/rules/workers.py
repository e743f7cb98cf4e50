"""MachineSets, MachineDeployments and MachinePools: selectors that fit their templates, names that can be made, preflight checks that exist.

Source: contracts.md §11; kinds.md §3, §4, §6; Cluster API v1.14, MachineSet, MachineDeployment and MachinePool webhooks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from fleetwake import defaults, labels
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_pool import MachinePool
from schemas.api.core.v1beta2.machine_set import MachineSet
from services.admission.rules import fields
from services.admission.rules.rule import Admission, Asked, Default, Rule, Violation

SOURCE = "contracts.md §11; Cluster API v1.14, MachineSet and MachineDeployment webhooks"
PREFLIGHT_CHECKS = ("All", "KubeadmVersionSkew", "KubernetesVersionSkew", "ControlPlaneIsStable", "ControlPlaneVersionSkew")
SKIPPED = f"metadata.annotations[{labels.SKIP_PREFLIGHT_CHECKS}]"
TEMPLATE_LABELS = "spec.template.metadata.labels"
REPLICAS = ("spec.replicas", "inside the autoscaler's bounds if both are annotated; else as before; else 1")
VERSION = ("spec.template.spec.version", "a leading v")
OWN_LABEL = (f"metadata.labels[{labels.CLUSTER_NAME}]", "spec.clusterName")

W = TypeVar("W", MachineSet, MachineDeployment)
A = TypeVar("A", MachineSet, MachineDeployment, MachinePool)


def _selector(asked: Asked[MachineSet] | Asked[MachineDeployment]) -> Iterator[Violation]:
    spec = asked.new.spec
    wrong = tuple(fields.selector("spec.selector", spec.selector))
    yield from wrong
    if not wrong and not spec.selector.matches(spec.template.metadata.labels):
        yield Violation(TEMPLATE_LABELS, f"must match spec.selector {spec.selector.format()!r}")


def _metadata(asked: Asked[MachineSet] | Asked[MachineDeployment] | Asked[MachinePool]) -> Iterator[Violation]:
    yield from fields.metadata("spec.template.metadata", asked.new.spec.template.metadata)


def _naming(asked: Asked[MachineSet] | Asked[MachineDeployment]) -> Iterator[Violation]:
    yield from fields.naming("spec.machineNaming", asked.new.spec.machine_naming, "machineSet")


def _skipped(asked: Asked[MachineSet] | Asked[MachineDeployment]) -> Iterator[Violation]:
    text = asked.new.metadata.annotations.get(labels.SKIP_PREFLIGHT_CHECKS, "")
    unknown = [one for one in (part.strip() for part in text.split(",")) if one and one not in PREFLIGHT_CHECKS]
    if unknown:
        yield Violation(SKIPPED, f"there is no preflight check {', '.join(unknown)}; there are {', '.join(PREFLIGHT_CHECKS)}")


def _name(asked: Asked[MachineDeployment] | Asked[MachinePool]) -> Iterator[Violation]:
    yield from fields.label_name("metadata.name", asked.new.name)


def _labelled(obj: A, old: A | None) -> A:
    """With its Cluster's label, and the replicas that the object had before it lost its number."""
    metadata = obj.metadata.model_copy(update={"labels": {**obj.metadata.labels, labels.CLUSTER_NAME: obj.spec.cluster_name}})
    amount = defaults.replicas(obj.spec.replicas, obj.metadata.annotations, old.spec.replicas if old else None)
    return obj.model_copy(update={"metadata": metadata, "spec": obj.spec.model_copy(update={"replicas": amount})})


_SELECTING: tuple[Rule[Any], ...] = (
    Rule("spec.selector", "can be read, and matches spec.template.metadata.labels", SOURCE, _selector),
    Rule("spec.template.metadata", "has valid labels and annotations", SOURCE, _metadata),
    Rule("spec.machineNaming.template", "makes names that objects can have", SOURCE, _naming),
    Rule(SKIPPED, "names preflight checks that there are", SOURCE, _skipped),
)
"""The rules of whatever selects its Machines."""


MACHINE_SET: Admission[MachineSet] = Admission(
    MachineSet,
    rules=_SELECTING,
    policy="Ignore",
    why="its MachineDeployment makes it from a template that was checked; while nobody answers, a rollout must not stop half way",
    default=Default(
        (OWN_LABEL, REPLICAS, ("spec.selector, " + TEMPLATE_LABELS, f"{labels.SET_NAME} if the selector is empty, {labels.CLUSTER_NAME}"), VERSION),
        lambda new, old: defaults.machine_set(_labelled(new, old)),
    ),
    annotations=(labels.SKIP_PREFLIGHT_CHECKS,),
)

MACHINE_DEPLOYMENT: Admission[MachineDeployment] = Admission(
    MachineDeployment,
    rules=(
        Rule("metadata.name", "is a valid label value, of at most 63 characters", SOURCE, _name),
        *_SELECTING,
    ),
    policy="Fail",
    why="people make it, and its selector cannot be mended once Machines are out of it",
    default=Default(
        (
            OWN_LABEL,
            REPLICAS,
            ("spec.selector, " + TEMPLATE_LABELS, f"{labels.DEPLOYMENT_NAME} if the selector is empty, {labels.CLUSTER_NAME}"),
            ("spec.rollout.strategy", "type RollingUpdate, maxSurge 1, maxUnavailable 0"),
            VERSION,
        ),
        lambda new, old: defaults.machine_deployment(_labelled(new, old)),
    ),
    annotations=(labels.SKIP_PREFLIGHT_CHECKS,),
)

MACHINE_POOL: Admission[MachinePool] = Admission(
    MachinePool,
    rules=(
        Rule("metadata.name", "is a valid label value, of at most 63 characters", SOURCE, _name),
        Rule("spec.template.metadata", "has valid labels and annotations", SOURCE, _metadata),
    ),
    policy="Fail",
    why="people make it",
    default=Default(
        (OWN_LABEL, REPLICAS, VERSION, ("spec.template.spec.deletion.nodeDeletionTimeoutSeconds", str(defaults.NODE_DELETION_TIMEOUT_SECONDS))),
        lambda new, old: defaults.machine_pool(_labelled(new, old)),
    ),
)
