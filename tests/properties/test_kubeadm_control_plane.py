"""Whatever happens around a control plane, it makes or deletes one Machine at a time and never takes a member etcd's quorum needs.

Random histories of a small fleet: users scale and delete, Machines come up or stay half way, pods and members fall ill and recover, time passes.
"""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetwake import labels
from fleetwake.plan import Create, Delete, EtcdRemoveMember, Event, Look, Plan, flatten
from services.reconcilers.kinds.kubeadm_control_plane import KIND
from tests.decide.kubeadm_world import condition
from tests.decide.test_kubeadm_control_plane import Fleet, fleet, running

ACTIONS = (
    "scale 1",
    "scale 3",
    "scale 5",
    "come up",
    "half up",
    "delete",
    "wait for hook",
    "end",
    "pod ill",
    "pods well",
    "learner",
    "voters",
    "stranger",
    "later",
    "much later",
)


def _named(world: Fleet, number: int, keep: Any) -> str | None:
    found = [one["metadata"]["name"] for one in world.machines() if keep(one)]
    return found[number % len(found)] if found else None


def _deleting(one: dict[str, Any]) -> bool:
    return "deletionTimestamp" in one["metadata"]


def _up(one: dict[str, Any]) -> bool:
    return bool((one.get("status") or {}).get("nodeRef"))


def act(world: Fleet, action: str, number: int) -> None:
    """Something happens."""
    word = action.split()[0]
    if word == "scale":
        world.edit("KubeadmControlPlane", "demo-cp", {"spec": {"replicas": int(action.split()[1])}})
    elif word in ("come", "half", "delete", "wait", "end"):
        act_on_machine(world, action, number)
    elif word in ("later", "much"):
        world.later(7 if word == "later" else 400)
    else:
        act_on_workload(world, action, number)


def act_on_machine(world: Fleet, action: str, number: int) -> None:
    """A Machine comes up (half way), is deleted by a user, reaches our hook, or ends."""
    pending = _named(world, number, lambda one: not _up(one) and not _deleting(one))
    alive, leaving = _named(world, number, lambda one: not _deleting(one)), _named(world, number, _deleting)
    done = _named(world, number, lambda one: _deleting(one) and labels.KCP_CLEANUP_HOOK not in one["metadata"]["annotations"])
    match action:
        case "come up" | "half up" if pending is not None:
            world.appear(pending, "Node")
            if action == "come up":
                world.appear(pending, "Pods")
        case "delete" if alive is not None:
            world.edit("Machine", alive, {"metadata": {"deletionTimestamp": world.at.strftime("%Y-%m-%dT%H:%M:%SZ")}})
        case "wait for hook" if leaving is not None:
            world.set_conditions(leaving, condition("Deleting", reason="WaitingForPreTerminateHook"))
        case "end" if done is not None:
            world.end(done)


def act_on_workload(world: Fleet, action: str, number: int) -> None:
    """Pods and members fall ill or recover; a member appears that nobody knows."""
    stamp = world.at.strftime("%Y-%m-%dT%H:%M:%SZ")
    match action:
        case "pod ill" if world.pods:
            world.pods[number % len(world.pods)]["status"] = {"phase": "Failed"}
        case "pods well":
            for pod in world.pods:
                pod["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": stamp}]}
        case "learner" if world.members:
            world.members[number % len(world.members)]["isLearner"] = True
        case "voters":
            for member in world.members:
                member["isLearner"] = False
        case "stranger":
            world.members.append({"id": 5000 + number, "name": f"stranger-{number}", "isLearner": False})


def check(world: Fleet, plan: Plan) -> None:
    """What must hold of every plan, given the world it meets."""
    steps = list(flatten(plan.steps))
    made = [step for step in steps if isinstance(step, Create) and step.key.kind == "Machine"]
    deleted = [step for step in steps if isinstance(step, Delete) and step.key.kind == "Machine"]
    removed = [step for step in steps if isinstance(step, EtcdRemoveMember)]
    assert len(made) + len(deleted) + len(removed) <= 1
    if made or deleted:
        assert not any(_deleting(one) for one in world.machines())
        assert all(_up(one) for one in world.machines() if one["metadata"]["name"] not in {step.key.name for step in deleted})
    for step in removed:
        assert plan.guarded
        # decided from what etcd itself said at most two seconds ago
        looked = world.looks["etcd"]
        assert world.at - looked.at <= timedelta(seconds=2)
        left = [member for member in looked.value["members"] if member["id"] != step.member_id]
        assert not any(member["isLearner"] for member in left)
        gone = {one["metadata"]["name"] for one in world.machines() if _deleting(one)}
        well = [member for member in left if member["name"] not in gone]
        assert len(well) >= len(left) // 2 + 1, (well, left)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([0, 1, 3]), st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 20), st.integers(1, 3)), max_size=40))
def test_history(start: int, history: list[tuple[str, int, int]]) -> None:
    world = copy.deepcopy(_started(start))
    for action, number, runs in history:
        act(world, action, number)
        for _ in range(runs):
            plan = world.plan(KIND, "demo-cp")
            check(world, plan)
            world.carry_out(plan.steps)
    _quiet(world)


_STARTED: dict[int, Fleet] = {}


def _started(replicas: int) -> Fleet:
    if replicas not in _STARTED:
        _STARTED[replicas] = running(replicas) if replicas else fleet()
    return _STARTED[replicas]


def _quiet(world: Fleet) -> None:
    """With nothing happening any more the control plane comes to rest."""
    for _ in range(12):
        plan = world.plan(KIND, "demo-cp")
        check(world, plan)
        world.carry_out(plan.steps)
        if not [step for step in plan.steps if not isinstance(step, Event | Look)]:
            return
    raise AssertionError(f"no rest: {plan.steps}")
