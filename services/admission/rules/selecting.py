"""Kinds that choose others by labels: health checks, drain rules, resource sets, extensions.

Source: contracts.md §11; kinds.md §5, §7, §11, §12.
"""

from __future__ import annotations

from collections.abc import Iterator

from fleetwake import defaults, labels
from schemas.api.addons.v1beta2.cluster_resource_set import ClusterResourceSet
from schemas.api.core.v1beta2.machine_drain_rule import MachineDrainRule
from schemas.api.core.v1beta2.machine_health_check import MachineHealthCheck
from schemas.api.runtime.v1beta2.extension_config import ExtensionConfig
from services.admission.rules import fields
from services.admission.rules.rule import Admission, Asked, Default, Rule, Violation

SOURCE = "contracts.md §11; Cluster API v1.14"
READABLE = "can be read"


def _checked(asked: Asked[MachineHealthCheck]) -> Iterator[Violation]:
    yield from fields.selector("spec.selector", asked.new.spec.selector)


def _of_its_cluster(asked: Asked[MachineHealthCheck]) -> Iterator[Violation]:
    spec = asked.new.spec
    if spec.selector.match_labels.get(labels.CLUSTER_NAME, spec.cluster_name) != spec.cluster_name:
        yield Violation("spec.selector", f"{labels.CLUSTER_NAME} must be spec.clusterName, {spec.cluster_name}")


def _range(asked: Asked[MachineHealthCheck]) -> Iterator[Violation]:
    text = asked.new.spec.remediation.trigger_if.unhealthy_in_range
    if text is not None:
        low, _, high = text.strip("[]").partition("-")
        if int(low) > int(high):
            yield Violation("spec.remediation.triggerIf.unhealthyInRange", "must begin with the smaller number")


def _labelled(obj: MachineHealthCheck) -> MachineHealthCheck:
    metadata = obj.metadata.model_copy(update={"labels": {**obj.metadata.labels, labels.CLUSTER_NAME: obj.spec.cluster_name}})
    return defaults.machine_health_check(obj.model_copy(update={"metadata": metadata}))


def _drained(asked: Asked[MachineDrainRule]) -> Iterator[Violation]:
    spec = asked.new.spec
    for place, machines in enumerate(spec.machines):
        for name, chosen in (("selector", machines.selector), ("clusterSelector", machines.cluster_selector)):
            if chosen is not None:
                yield from fields.selector(f"spec.machines[{place}].{name}", chosen)
    for place, pods in enumerate(spec.pods):
        for name, chosen in (("selector", pods.selector), ("namespaceSelector", pods.namespace_selector)):
            if chosen is not None:
                yield from fields.selector(f"spec.pods[{place}].{name}", chosen)


def _clusters(asked: Asked[ClusterResourceSet]) -> Iterator[Violation]:
    yield from fields.selector("spec.clusterSelector", asked.new.spec.cluster_selector)


def _namespaces(asked: Asked[ExtensionConfig]) -> Iterator[Violation]:
    if asked.new.spec.namespace_selector is not None:
        yield from fields.selector("spec.namespaceSelector", asked.new.spec.namespace_selector)


MACHINE_HEALTH_CHECK = Admission(
    MachineHealthCheck,
    rules=(
        Rule("spec.selector", READABLE, SOURCE, _checked),
        Rule("spec.selector", "does not choose another Cluster's Machines", SOURCE, _of_its_cluster),
        Rule("spec.remediation.triggerIf.unhealthyInRange", "begins with the smaller number", "kinds.md §5: an empty range never remediates", _range),
    ),
    policy="Fail",
    why="people make it, and it has Machines deleted",
    default=Default(
        (
            (f"metadata.labels[{labels.CLUSTER_NAME}]", "spec.clusterName"),
            ("spec.checks.nodeStartupTimeoutSeconds", str(defaults.NODE_STARTUP_TIMEOUT_SECONDS)),
        ),
        lambda new, old: _labelled(new),
    ),
)

MACHINE_DRAIN_RULE = Admission(
    MachineDrainRule,
    rules=(Rule("spec.{machines,pods}[*].**elector", READABLE, SOURCE, _drained),),
    policy="Fail",
    why="people make it, and it says which Pods are evicted",
)

CLUSTER_RESOURCE_SET = Admission(
    ClusterResourceSet,
    rules=(Rule("spec.clusterSelector", READABLE, SOURCE, _clusters),),
    policy="Fail",
    why="people make it, and its selector cannot be changed later",
)

EXTENSION_CONFIG = Admission(
    ExtensionConfig,
    rules=(Rule("spec.namespaceSelector", READABLE, SOURCE, _namespaces),),
    policy="Fail",
    why="people make it",
)
