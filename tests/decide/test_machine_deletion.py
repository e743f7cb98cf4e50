"""Deleting a Machine: which stages apply, their order, and how a crash or a lost cluster ends."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fleetwake.kind import Workload
from fleetwake.plan import Delete, Event, Patch, Plan, Together, flatten
from schemas.keys import ObjectKey
from services.reconcilers.kinds.machine import KIND
from tests.decide.machine_world import CLUSTER, cluster, condition, config, control_plane, infra, machine, node, stored, workload, world
from tests.decide.world import FakeView, Json

GOING = "2026-01-02T03:04:00Z"
KEY = ObjectKey("cluster.x-k8s.io", "Machine", "default", "m1")
INFRA = ObjectKey("infrastructure.example.org", "FooMachine", "default", "m1")
CONFIG = ObjectKey("bootstrap.example.org", "FooConfig", "default", "m1")
EXCLUDED = {
    "machine.cluster.x-k8s.io/exclude-node-draining": "",
    "machine.cluster.x-k8s.io/exclude-wait-for-node-volume-detach": "",
}
PRE_DRAIN = "pre-drain.delete.hook.machine.cluster.x-k8s.io/"
PRE_TERMINATE = "pre-terminate.delete.hook.machine.cluster.x-k8s.io/"


def going(*objects: Json, hooks: tuple[str, ...] = (), found: Workload | None = None, status: Json | None = None, **spec: Any) -> FakeView:
    """A running Machine that has been asked to go; drain and volumes are excluded."""
    known = {"nodeRef": {"name": "m1"}, "initialization": {"infrastructureProvisioned": True, "bootstrapDataSecretCreated": True}}
    annotations = EXCLUDED | dict.fromkeys(hooks, "")
    own = machine(spec={"providerID": "foo://m1"} | spec, deletionTimestamp=GOING, annotations=annotations) | {"status": known if status is None else status}
    around = objects or (cluster(), control_plane(), machine("cp", labels={"cluster.x-k8s.io/control-plane": ""}), config(), infra())
    return world(own, *around, found=found)


def run(view: FakeView, limit: int | None = None) -> Plan:
    return view.run(KIND, "default", "m1", limit)


def deleted(plan: Plan) -> list[str]:
    return [step.key.kind for step in flatten(plan.steps) if isinstance(step, Delete)]


def deleting(view: FakeView) -> tuple[str, str]:
    told = condition(view, "Deleting")
    return told["reason"], told["message"]


def test_stage_by_stage_to_the_end() -> None:
    view = going(hooks=(PRE_DRAIN + "b", PRE_DRAIN + "a", PRE_TERMINATE + "kcp-cleanup"))
    assert deleted(run(view)) == []
    assert deleting(view) == ("WaitingForPreDrainHook", f"Waiting for pre-drain hooks to succeed (hooks: {PRE_DRAIN}a,{PRE_DRAIN}b)")
    annotations = stored(view, "Machine")["metadata"]["annotations"]
    del annotations[PRE_DRAIN + "a"], annotations[PRE_DRAIN + "b"]
    assert deleted(run(view)) == []
    assert deleting(view)[0] == "WaitingForPreTerminateHook"
    assert set(stored(view, "Machine")["status"]["deletion"]) == {"waitForPreDrainHookStartTime", "waitForPreTerminateHookStartTime"}
    del annotations[PRE_TERMINATE + "kcp-cleanup"]
    assert deleted(run(view)) == ["FooMachine"]
    assert deleting(view) == ("WaitingForInfrastructureDeletion", "Waiting for FooMachine to be deleted")
    assert stored(view, "Machine")["status"]["phase"] == "Deleting"
    assert not run(view).writes
    del view.store[INFRA]
    last = run(view)
    assert deleted(last) == ["FooConfig", "Node"] and last.guarded and last.rests_on_absence
    assert KEY not in view.store and CONFIG not in view.store and not view.workloads[CLUSTER].nodes


@pytest.mark.parametrize("writes", range(4))
def test_a_crash_after_any_of_the_last_steps_is_repaired(writes: int) -> None:
    view = going()
    run(view)
    del view.store[INFRA]
    run(view, limit=writes)
    view.settle(KIND, "default", "m1")
    assert KEY not in view.store and CONFIG not in view.store and not view.workloads[CLUSTER].nodes


def test_a_configuration_with_a_finalizer_is_waited_for() -> None:
    view = going(cluster(), control_plane(), config(finalizers=["x"]))
    assert deleted(run(view)) == ["FooConfig"]
    assert deleting(view) == ("WaitingForBootstrapDeletion", "Waiting for FooConfig to be deleted")
    assert KEY in view.store


CP = {"cluster.x-k8s.io/control-plane": ""}


@pytest.mark.parametrize(
    ("objects", "found", "status", "node_goes"),
    [
        pytest.param([cluster(), machine("cp", labels=CP)], None, None, True, id="a-control-plane-lives-on"),
        pytest.param(
            [cluster(metadata={"name": "demo", "namespace": "default", "deletionTimestamp": GOING}), machine("cp", labels=CP)],
            None,
            None,
            False,
            id="cluster-goes",
        ),
        pytest.param([cluster(), control_plane(deletionTimestamp=GOING), machine("cp", labels=CP)], None, None, False, id="control-plane-goes"),
        pytest.param([cluster()], None, None, False, id="no-control-plane-machine-left"),
        pytest.param([cluster(), machine("cp", labels=CP, deletionTimestamp=GOING)], None, None, False, id="the-last-one-goes-too"),
        pytest.param([cluster(), control_plane() | {"status": {"externalManagedControlPlane": True}}], None, None, True, id="external-control-plane"),
        pytest.param([cluster(), machine("cp", labels=CP)], workload(), {}, False, id="never-had-a-node"),
        pytest.param([cluster(), machine("cp", labels=CP)], None, {}, True, id="node-found-at-the-last-moment"),
    ],
)
def test_whether_the_node_may_go(objects: list[Json], found: Workload | None, status: Json | None, node_goes: bool) -> None:
    view = going(*objects, found=found, status=status)
    assert ("Node" in deleted(run(view))) is node_goes
    assert KEY not in view.store


def test_hooks_before_the_drain_do_not_hold_a_machine_whose_cluster_goes() -> None:
    dying = cluster(metadata={"name": "demo", "namespace": "default", "deletionTimestamp": GOING})
    view = going(dying, infra(), config(), hooks=(PRE_DRAIN + "a",))
    assert deleted(run(view)) == ["FooMachine"]


@pytest.mark.parametrize(
    ("timeout", "later", "wait"),
    [
        pytest.param(None, 0, 5, id="ten-seconds-by-default"),
        pytest.param(60, 0, 55, id="as-the-machine-says"),
        pytest.param(0, 10_000, None, id="for-ever"),
    ],
)
def test_the_node_of_a_lost_cluster_is_waited_for(timeout: int | None, later: int, wait: int | None) -> None:
    deletion = {"deletion": {"nodeDeletionTimeoutSeconds": timeout}} if timeout is not None else {}
    view = going(cluster(), machine("cp", labels=CP), found=workload(node(), connected=False), **deletion)
    view.later(later)
    plan = run(view)
    assert deleting(view)[0] == "DeletingNode" and KEY in view.store
    if wait is None:
        return
    assert plan.requeue_after == timedelta(seconds=wait)
    view.later(wait)
    assert deleted(run(view)) == []
    assert KEY not in view.store


def test_a_drain_that_outlasts_the_time_for_the_node_leaves_no_node_behind() -> None:
    """The time counts from when the Machine was to go; one attempt is always made, beside the end of the Machine."""
    view = going(cluster(), machine("cp", labels=CP))
    view.later(3600)
    plan = run(view)
    [last] = [step for step in plan.steps if isinstance(step, Together)]
    assert [type(branch[0]).__name__ for branch in last.branches] == ["Delete", "Patch"]
    assert plan.guarded
    assert KEY not in view.store
    assert not view.workloads[CLUSTER].nodes


def test_an_unreadable_kind_is_never_taken_for_gone() -> None:
    view = going(cluster(), infra())
    view.unknown_kinds = frozenset({INFRA.group_kind})
    plan = run(view)
    assert deleting(view)[0] == "InternalError" and not [
        step for step in plan.steps if isinstance(step, Patch) and step.key == KEY and "finalizers" in step.body
    ]
    assert KEY in view.store


def test_gone_references_are_no_issue_of_a_machine_that_goes() -> None:
    view = going(cluster(), config(finalizers=["x"]), found=workload())
    run(view)
    assert condition(view, "InfrastructureReady")["reason"] == "ObjectDeleted"
    assert condition(view, "NodeHealthy")["reason"] == "NodeDeleted"
    assert condition(view, "Ready")["message"] == "* Deleting: Machine deletion in progress, stage: WaitingForBootstrapDeletion"


def test_no_finalizer_is_added_to_a_machine_that_goes() -> None:
    view = going()
    stored(view, "Machine")["metadata"]["finalizers"] = ["other"]
    run(view)
    assert stored(view, "Machine")["metadata"]["finalizers"] == ["other"]


def test_the_end_of_a_stage_is_told_once() -> None:
    told = [{"type": "Deleting", "status": "True", "reason": "DrainingNode", "message": "x", "lastTransitionTime": GOING}]
    status = {"nodeRef": {"name": "m1"}, "conditions": told, "initialization": {"infrastructureProvisioned": True}}
    view = going(status=status)
    assert [step.reason for step in run(view).steps if isinstance(step, Event)] == ["SuccessfulDrainNode"]
    assert not [step for step in run(view).steps if isinstance(step, Event)]
