"""Defaults: the effective object, and what of it must be stored."""

from __future__ import annotations

from typing import Any

import pytest

from fleetwake import defaults
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_set import MachineSet
from tests.decide.workers_world import CLUSTER, OWN, deployment, machine_template

MIN, MAX = "cluster.x-k8s.io/cluster-api-autoscaler-node-group-min-size", "cluster.x-k8s.io/cluster-api-autoscaler-node-group-max-size"
CLUSTER_NAME = "cluster.x-k8s.io/cluster-name"


@pytest.mark.parametrize(
    ("stored", "annotations", "old", "expected"),
    [
        pytest.param(4, {MIN: "5", MAX: "9"}, 7, 4, id="stored-wins"),
        pytest.param(0, {}, 7, 0, id="zero-is-stored"),
        pytest.param(None, {}, None, 1, id="new-without-annotations"),
        pytest.param(None, {}, 3, 3, id="as-before"),
        pytest.param(None, {MIN: "5", MAX: "9"}, None, 5, id="new-takes-the-minimum"),
        pytest.param(None, {MIN: "5", MAX: "9"}, 2, 5, id="below-takes-the-minimum"),
        pytest.param(None, {MIN: "5", MAX: "9"}, 12, 9, id="above-takes-the-maximum"),
        pytest.param(None, {MIN: "5", MAX: "9"}, 7, 7, id="between-stays"),
        pytest.param(None, {MIN: "5"}, None, 1, id="one-annotation-is-none"),
        pytest.param(None, {MIN: "five", MAX: "9"}, None, 1, id="unreadable-annotation-is-none"),
    ],
)
def test_replicas(stored: int | None, annotations: dict[str, str], old: int | None, expected: int) -> None:
    assert defaults.replicas(stored, annotations, old) == expected


def machine_deployment(**spec: Any) -> MachineDeployment:
    return MachineDeployment.model_validate(deployment(**spec))


def test_a_complete_deployment_needs_nothing_stored() -> None:
    stored = machine_deployment()
    effective = defaults.machine_deployment(stored)
    assert defaults.stored_spec(stored, effective) == {}
    assert effective.spec.selector == stored.spec.selector and effective.spec.template == stored.spec.template


def test_a_bare_deployment_gets_selector_labels_strategy_and_version() -> None:
    body = machine_template(version="1.34.1")
    del body["metadata"]
    stored = machine_deployment(replicas=None, selector={}, template=body, rollout={})
    effective = defaults.machine_deployment(stored)
    assert effective.spec.replicas == 1
    assert effective.spec.selector.match_labels == effective.spec.template.metadata.labels == OWN
    assert effective.spec.template.spec.version == "v1.34.1"
    strategy = effective.spec.rollout.strategy
    assert strategy is not None
    assert (strategy.type, strategy.rolling_update.max_surge, strategy.rolling_update.max_unavailable) == ("RollingUpdate", 1, 0)
    assert defaults.stored_spec(stored, effective) == {"replicas": 1, "selector": {"matchLabels": OWN}, "template": {"metadata": {"labels": OWN}}}


def test_a_selector_of_ones_own_only_gains_the_cluster() -> None:
    expressions = [{"key": "pool", "operator": "In", "values": ["a"]}]
    body = {**machine_template(), "metadata": {"labels": {"pool": "a"}}}
    stored = machine_deployment(selector={"matchExpressions": expressions}, template=body)
    effective = defaults.machine_deployment(stored)
    assert defaults.stored_spec(stored, effective) == {
        "selector": {"matchLabels": {CLUSTER_NAME: CLUSTER}, "matchExpressions": expressions},
        "template": {"metadata": {"labels": {CLUSTER_NAME: CLUSTER}}},
    }


def test_on_delete_has_no_bounds() -> None:
    strategy = defaults.machine_deployment(machine_deployment(rollout={"strategy": {"type": "OnDelete"}})).spec.rollout.strategy
    assert strategy is not None
    assert (strategy.type, strategy.rolling_update.max_surge) == ("OnDelete", None)


def test_an_empty_selector_of_a_machine_set_becomes_its_name() -> None:
    name = "x" * 70
    body = {"metadata": {"name": name}, "spec": {"clusterName": CLUSTER, "selector": {}, "template": {"spec": machine_template()["spec"]}}}
    effective = defaults.machine_set(MachineSet.model_validate(body))
    value = effective.spec.selector.match_labels["cluster.x-k8s.io/set-name"]
    assert len(value) <= 63
    assert effective.spec.template.metadata.labels == {"cluster.x-k8s.io/set-name": value, CLUSTER_NAME: CLUSTER}


def test_a_machine_gets_its_label_timeout_and_version() -> None:
    found = Machine.model_validate({"metadata": {"name": "m"}, "spec": machine_template(version="1.34.1")["spec"]})
    effective = defaults.machine(found)
    assert effective.metadata.labels == {CLUSTER_NAME: CLUSTER}
    assert (effective.spec.version, effective.spec.deletion.node_deletion_timeout_seconds) == ("v1.34.1", 10)
    kept = machine_template(version=None, deletion={"nodeDeletionTimeoutSeconds": 0})["spec"]
    effective = defaults.machine(Machine.model_validate({"metadata": {"name": "m"}, "spec": kept}))
    assert (effective.spec.version, effective.spec.deletion.node_deletion_timeout_seconds) == (None, 0)
