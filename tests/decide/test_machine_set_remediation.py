"""What a MachineSet does about Machines that are unhealthy or in its way: preflight, remediation."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fleetwake.conditions import get
from fleetwake.plan import Patch
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.keys import ObjectKey
from tests.decide.machine_set_world import (
    SET,
    alone,
    condition,
    own_template,
    remediated,
    settled,
    unhealthy,
)
from tests.decide.workers_world import (
    CLUSTER,
    CONTROL,
    CORE,
    NAMESPACE,
    VERSION,
    control_plane,
    deployment,
    machine_template,
    steps_on,
    workers,
)
from tests.decide.world import Json

PREFLIGHT = [
    pytest.param(control_plane(running=""), {}, "KubeadmControlPlane default/demo is provisioning", id="provisioning"),
    pytest.param(control_plane("v1.34.2"), {}, "KubeadmControlPlane default/demo is upgrading", id="upgrading"),
    pytest.param(control_plane("v1.33.0", "v1.33.0"), {}, "MachineSet version is higher than ControlPlane version", id="newer-than-control-plane"),
    pytest.param(control_plane("v1.38.0", "v1.38.0"), {}, "more than 3 minor versions older", id="too-old"),
    pytest.param(control_plane("v1.35.0", "v1.35.0"), {}, '("KubeadmVersionSkew" preflight check failed)', id="kubeadm-skew"),
    pytest.param(
        control_plane(), {"topology": {"classRef": {"name": "c"}, "version": "v1.35.0"}}, "has a pending version upgrade to v1.35.0", id="pending-upgrade"
    ),
    pytest.param(
        control_plane("v1.34.2", "v1.34.2"),
        {"topology": {"classRef": {"name": "c"}, "version": "v1.34.2"}},
        "MachineSet version (v1.34.1) is not yet the same as the ControlPlane version (v1.34.2)",
        id="topology-skew",
    ),
]


@pytest.mark.parametrize(("plane", "cluster_spec", "message"), PREFLIGHT)
def test_preflight_blocks_scaling_up(plane: Json, cluster_spec: dict[str, Any], message: str) -> None:
    world = workers(alone(1), plane, cluster_spec=cluster_spec)
    plan = world.run_set(SET)
    assert not world.machines()
    assert plan.requeue_after == timedelta(seconds=15)
    assert message in condition(world, "ScalingUp")[2]
    world.json(MachineSet, SET)["metadata"]["annotations"]["machineset.cluster.x-k8s.io/skip-preflight-checks"] = "All"
    world.run_set(SET)
    assert len(world.machines()) == 1


def test_preflight_waits_for_a_missing_control_plane_and_ignores_unreadable_versions() -> None:
    world = workers(alone(1))
    del world.store[ObjectKey(CONTROL, "KubeadmControlPlane", NAMESPACE, CLUSTER)]
    world.run_set(SET)
    assert condition(world, "ScalingUp")[2].endswith(
        "* KubeadmControlPlane default/demo does not exist: create it or correct spec.controlPlaneRef of Cluster demo"
    )
    world = workers(alone(1, template=own_template(version="latest")))
    world.run_set(SET)
    assert len(world.machines()) == 1


def test_a_cluster_without_a_control_plane_has_no_preflight() -> None:
    world = workers(alone(1), cluster_spec={"controlPlaneRef": None})
    world.run_set(SET)
    assert len(world.machines()) == 1


def test_the_template_may_skip_preflight_checks() -> None:
    world = workers(alone(1), control_plane("v1.34.2"))
    for one in world.of("KubeadmConfigTemplate"):
        one["metadata"]["annotations"] = {"machineset.cluster.x-k8s.io/skip-preflight-checks": "KubeadmVersionSkew, ControlPlaneIsStable"}
    world.run_set(SET)
    assert len(world.machines()) == 1


def test_preflight_passes_at_the_current_upgrade_step_and_without_versions() -> None:
    world = workers(alone(1), cluster_spec={"topology": {"classRef": {"name": "c"}, "version": "v1.36.0"}})
    world.store[ObjectKey(CORE, "Cluster", NAMESPACE, CLUSTER)]["metadata"]["annotations"] = {"topology.internal.cluster.x-k8s.io/upgrade-step": VERSION}
    world.run_set(SET)
    assert len(world.machines()) == 1
    world = workers(alone(1, template=own_template(version=None)), control_plane(""))
    world.run_set(SET)
    assert len(world.machines()) == 1


def test_remediation_waits_for_preflight() -> None:
    world = settled(workers(alone(2)))
    world.put(control_plane("v1.34.2"))
    name = world.machines()[0].name
    unhealthy(world, name)
    plan = world.run_set(SET)
    assert plan.requeue_after == timedelta(seconds=15)
    assert remediated(world, name)[0] == "RemediationDeferred"
    assert "is upgrading" in remediated(world, name)[1]
    assert not any(one.metadata.deleting for one in world.machines())


def test_a_machine_that_is_healthy_again_forgets_its_remediation() -> None:
    world = settled(workers(alone(1)))
    name = world.machines()[0].name
    world.condition(name, "HealthCheckSucceeded")
    world.condition(name, "OwnerRemediated", False, reason="WaitingForRemediation")
    [patch] = steps_on(world.run_set(SET), "Machine")
    assert isinstance(patch, Patch) and patch.resource_version
    assert remediated(world, name) == ("", "")
    assert get(world.machines()[0].status.conditions, "Ready") is not None


def test_max_in_flight_limits_remediation_newest_and_asked_for_first() -> None:
    world = workers(deployment(4, remediation={"maxInFlight": "50%"}))
    world.converge()
    [owner], names = world.sets(), [one.name for one in world.machines()]
    for number, name in enumerate(names):
        world.json(Machine, name)["metadata"]["creationTimestamp"] = f"2026-01-02T03:0{number}:00Z"
    world.json(Machine, names[0])["metadata"]["annotations"]["cluster.x-k8s.io/remediate-machine"] = ""
    unhealthy(world, *names)
    world.run_set(owner.name)
    assert {one.name for one in world.machines() if one.metadata.deleting} == {names[0], names[3]}
    reason, message = remediated(world, names[1])
    assert reason == "RemediationDeferred"
    assert message == "Waiting because there are already too many remediations in progress (spec.strategy.remediation.maxInFlight is 50%)"
    world.run_set(owner.name)
    assert sum(one.metadata.deleting for one in world.machines()) == 2


def test_an_old_revision_is_not_remediated() -> None:
    world = workers(deployment(2))
    world.converge()
    world.change(MachineDeployment, "workers", template=machine_template(version="v1.34.0"))
    world.run_deployment()
    old, name = world.sets()[0].name, world.machines()[0].name
    unhealthy(world, name)
    world.run_set(old)
    assert remediated(world, name) == ("CannotBeRemediated", "Machine won't be remediated because it is pending removal due to rollout")
    assert not any(one.metadata.deleting for one in world.machines())
