"""Which status writes only inform, kind by kind: latches, summaries and what another reconciler reads do not."""

from __future__ import annotations

from typing import Any

import pytest

from fleetwake.patches import Informing
from fleetwake.plan import Apply, Plan
from services.reconcilers.kinds.cluster.reconcile import INFORMING as CLUSTER
from services.reconcilers.kinds.kubeadm_config.status import INFORMING as CONFIG
from services.reconcilers.kinds.kubeadm_control_plane.status import INFORMING as CONTROL_PLANE
from services.reconcilers.kinds.kubeadm_control_plane.status import MACHINE_INFORMING as HEALTH
from services.reconcilers.kinds.machine.reconcile import INFORMING as MACHINE
from services.reconcilers.kinds.machine_deployment.status import FIRST
from services.reconcilers.kinds.machine_deployment.status import INFORMING as DEPLOYMENT
from tests.decide.workers_world import Workers, deployment, machine_template, templates, workers
from tests.decide.world import Json


def one(type_: str, status: str, message: str = "") -> Json:
    return {"type": type_, "status": status, "reason": "Test", "message": message}


def conditions(*found: Json) -> Json:
    return {"conditions": list(found)}


MACHINE_READY = conditions(one("Ready", "True"))
INIT = {"initialization": {"infrastructureProvisioned": True}}


@pytest.mark.parametrize(
    ("kind", "have", "want", "informs"),
    [
        pytest.param(MACHINE, {}, {"phase": "Pending", **conditions(one("UpToDate", "True"), one("Ready", "False"))}, True, id="first"),
        pytest.param(MACHINE, conditions(one("Ready", "False", "a")), conditions(one("Ready", "False", "b")), True, id="other words"),
        pytest.param(MACHINE, conditions(one("Ready", "False")), conditions(one("Ready", "Unknown")), True, id="not ready for another reason"),
        pytest.param(MACHINE, conditions(one("NodeHealthy", "False")), conditions(one("NodeHealthy", "True")), True, id="a part of Ready"),
        pytest.param(MACHINE, conditions(one("Ready", "False")), MACHINE_READY, False, id="Ready"),
        pytest.param(MACHINE, MACHINE_READY, conditions(one("Ready", "Unknown")), False, id="Ready no more"),
        pytest.param(MACHINE, {}, conditions(one("Available", "True")), False, id="Available at first"),
        pytest.param(MACHINE, {}, {"initialization": {"bootstrapDataSecretCreated": True}}, False, id="latch of the data"),
        pytest.param(MACHINE, {}, INIT, False, id="latch of the host"),
        pytest.param(MACHINE, {}, {"initialization": {"infrastructureProvisioned": None}}, True, id="no latch"),
        pytest.param(MACHINE, {}, {"nodeRef": {"name": "n"}}, False, id="Node"),
        pytest.param(MACHINE, {"nodeInfo": {"kubeletVersion": "v1"}}, {"nodeInfo": {"kubeletVersion": "v2"}}, False, id="kubelet"),
        pytest.param(MACHINE, conditions(one("Deleting", "False")), conditions(one("Deleting", "True")), False, id="deletion"),
        pytest.param(CLUSTER, {}, {"phase": "Provisioning", "workers": {"desiredReplicas": 3}, **conditions(one("WorkersAvailable", "True"))}, True, id="sums"),
        pytest.param(CLUSTER, INIT, {"initialization": {"infrastructureProvisioned": True, "controlPlaneInitialized": True}}, False, id="second latch"),
        pytest.param(CLUSTER, {}, conditions(one("ControlPlaneInitialized", "True")), False, id="initialized"),
        pytest.param(CLUSTER, {}, conditions(one("Available", "True")), False, id="Available cluster"),
        pytest.param(CLUSTER, {}, {"failureDomains": [{"name": "a"}]}, False, id="failure domains"),
        pytest.param(CONFIG, {}, {"observedGeneration": 1, **conditions(one("Ready", "False"), one("CertificatesAvailable", "True"))}, True, id="waits"),
        pytest.param(CONFIG, {}, {"dataSecretName": "m"}, False, id="data"),
        pytest.param(CONTROL_PLANE, {}, {"replicas": 0, **conditions(one("MachinesReady", "True"))}, True, id="no Machines"),
        pytest.param(CONTROL_PLANE, {"replicas": 1}, {"replicas": 1, "version": "v1.34.1"}, False, id="version, which MachineSets wait for"),
        pytest.param(CONTROL_PLANE, {}, {"initialization": {"controlPlaneInitialized": True}}, False, id="latch of the control plane"),
        pytest.param(HEALTH, {}, conditions(one("UpToDate", "True"), one("EtcdPodHealthy", "Unknown")), True, id="nothing known of its pods"),
        pytest.param(HEALTH, {}, conditions(one("EtcdPodHealthy", "True")), False, id="readiness gate"),
        pytest.param(DEPLOYMENT, {"replicas": 0}, {"replicas": 3}, True, id="counter of a deployment"),
        pytest.param(DEPLOYMENT, {"observedGeneration": 1}, {"observedGeneration": 2}, False, id="generation"),
        pytest.param(FIRST, {}, {"observedGeneration": 1}, True, id="first generation"),
        pytest.param(DEPLOYMENT, {}, conditions(one("Available", "True")), False, id="Available deployment"),
    ],
)
def test_what_informs(kind: Informing, have: Json, want: Json, informs: bool) -> None:
    assert kind.covers(have, want) is informs


# --- counters of a MachineSet


def started(**fields: Any) -> Workers:
    """Three Machines are made, none is ready."""
    world = workers(deployment(3, **fields))
    world.settle_kinds()
    return world


def told(plan: Plan) -> Apply:
    """The one status write of a run."""
    (found,) = [step for step in plan.steps if isinstance(step, Apply) and step.subresource == "status"]
    return found


def join(world: Workers, count: int) -> Apply:
    """Some more Machines come up; what their MachineSet then tells."""
    waiting = [one.name for one in world.machines() if one.status.node_ref is None]
    world.join(waiting[:count])
    return told(world.run_set(world.sets()[-1].name))


def test_counters_on_their_way_inform_and_the_last_is_waited_for() -> None:
    world = started()
    assert join(world, 1).informs
    assert join(world, 1).informs
    assert not join(world, 1).informs


def test_the_machines_that_make_a_deployment_available_are_waited_for() -> None:
    world = started(unavailable=1)
    assert join(world, 1).informs
    assert not join(world, 1).informs


def test_a_machine_lost_is_waited_for() -> None:
    world = started()
    world.converge()
    world.condition(world.machines()[0].name, "Available", False)
    assert not told(world.run_set(world.sets()[0].name)).informs


def test_a_rollout_waits_for_each_machine() -> None:
    world = started(surge=3)
    world.converge()
    for made in templates("second"):
        world.put(made)
    world.change(type(world.md()), world.md().name, template=machine_template("second"))
    world.judge()
    world.settle_kinds()
    assert not join(world, 1).informs
