"""Machines. Most are made by their MachineSet or control plane, whose templates were checked already.

Source: contracts.md §11; kinds.md §2; Cluster API v1.14, Machine webhook.
"""

from __future__ import annotations

from collections.abc import Iterator

from fleetwake import defaults, labels
from schemas.api.core.v1beta2.machine import Machine
from services.admission.rules.rule import Admission, Asked, Default, Rule, Violation

SOURCE = "contracts.md §11; Cluster API v1.14, Machine webhook"
CONTROL_PLANE_TAINT = "node-role.kubernetes.io/control-plane"

_LABEL = f"'{labels.CLUSTER_NAME}'"
LACKING = " || ".join(
    (
        f"!has(object.metadata.labels) || !({_LABEL} in object.metadata.labels) || object.metadata.labels[{_LABEL}] != object.spec.clusterName",
        "(has(object.spec.version) && !object.spec.version.startsWith('v'))",
        "!has(object.spec.deletion) || !has(object.spec.deletion.nodeDeletionTimeoutSeconds)",
    )
)
"""There are many Machines, and those that our own services make lack nothing: they are not asked about, created or changed."""


def _bootstrap(asked: Asked[Machine]) -> Iterator[Violation]:
    bootstrap = asked.new.spec.bootstrap
    # of a pool's Machines the pool has the bootstrap data
    if bootstrap.config_ref is None and bootstrap.data_secret_name is None and labels.POOL_NAME not in asked.new.metadata.labels:
        yield Violation("spec.bootstrap", "one of configRef and dataSecretName must be set", "FieldValueRequired")


def _taints(asked: Asked[Machine]) -> Iterator[Violation]:
    if labels.CONTROL_PLANE in asked.new.metadata.labels:
        return
    for place, taint in enumerate(asked.new.spec.taints):
        if taint.key == CONTROL_PLANE_TAINT:
            yield Violation(f"spec.taints[{place}].key", "is not for workers")


ADMISSION = Admission(
    Machine,
    rules=(
        Rule("spec.bootstrap", "has a configRef or a dataSecretName, unless the Machine is a pool's", SOURCE, _bootstrap),
        Rule("spec.taints", f"do not have {CONTROL_PLANE_TAINT} on a worker", SOURCE, _taints),
    ),
    policy="Ignore",
    why="its MachineSet or control plane makes it from a template that was checked; while nobody answers, lost Machines must still be replaced",
    default=Default(
        (
            (f"metadata.labels[{labels.CLUSTER_NAME}]", "spec.clusterName"),
            ("spec.version", "a leading v"),
            ("spec.deletion.nodeDeletionTimeoutSeconds", str(defaults.NODE_DELETION_TIMEOUT_SECONDS)),
        ),
        lambda new, old: defaults.machine(new),
        lacking=LACKING,
    ),
    concerns="has(object.spec.taints) || !(has(object.spec.bootstrap.configRef) || has(object.spec.bootstrap.dataSecretName))",
)
