"""A KubeadmControlPlane replaces Machines that a health check handed over: when, which, how often, and what it never does."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from fleetwake import labels
from fleetwake.plan import Apply, Create, Delete, EtcdMoveLeader, EtcdRemoveMember, Patch, Step
from services.reconcilers.kinds.kubeadm_control_plane import KIND
from tests.decide.control_plane_fleet import Fleet, fleet, mutations, running
from tests.decide.kubeadm_world import condition
from tests.decide.world import Json

IN_PROGRESS, FOR = labels.REMEDIATION_IN_PROGRESS, labels.REMEDIATION_FOR


def hand_over(world: Fleet, *names: str) -> None:
    """A health check fails Machines and hands them to their control plane."""
    for name in names:
        world.set_conditions(name, condition("HealthCheckSucceeded", "False", "UnhealthyNode"), condition("OwnerRemediated", "False", "WaitingForRemediation"))


def recover(world: Fleet, name: str) -> None:
    world.set_conditions(name, condition("HealthCheckSucceeded"))


def verdict(world: Fleet, name: str) -> tuple[str, str]:
    """Reason and message of OwnerRemediated."""
    return world.condition_of("Machine", name, "OwnerRemediated")[1:]


def chain(world: Fleet, name: str = "") -> Json | None:
    """The remediation noted on the control plane, or on a Machine."""
    notes = (world.machine(name) if name else world.kcp())["metadata"].get("annotations", {})
    text = notes.get(FOR if name else IN_PROGRESS)
    return json.loads(text) if text else None


def deleted(steps: list[Step]) -> list[str]:
    return [step.key.name for step in steps if isinstance(step, Delete) and step.key.kind == "Machine"]


def ill(world: Fleet, name: str, component: str = "etcd") -> None:
    """A static pod of a Machine fails."""
    (pod,) = (pod for pod in world.pods if pod["metadata"]["name"] == f"{component}-{name}")
    pod["status"] = {"phase": "Failed", "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": world.at.strftime("%Y-%m-%dT%H:%M:%SZ")}]}


def test_machine_is_replaced_and_its_replacement_tells_which_one_it_replaces() -> None:
    world = running(3)
    sick, *others = world.names()
    hand_over(world, sick)
    taken = world.settle_kcp()
    assert deleted(taken) == [sick]
    noted = chain(world)
    assert noted == {"machine": sick, "timestamp": world.at.strftime("%Y-%m-%dT%H:%M:%SZ"), "retryCount": 0}
    assert verdict(world, sick) == ("MachineDeleting", "Machine is deleting")
    status, reason, text = world.told("Remediating")
    assert (status, reason) == ("True", "Remediating")
    assert sick in text
    assert world.kcp()["status"]["lastRemediation"] == {"machine": sick, "time": noted["timestamp"], "retryCount": 0}
    taken = world.live()
    assert [step.member_name for step in taken if isinstance(step, EtcdRemoveMember)] == [sick]
    (new,) = set(world.names()) - set(others)
    assert chain(world) is None
    assert chain(world, new) == noted
    assert world.kcp()["status"]["lastRemediation"]["machine"] == sick
    assert world.told("Remediating")[:2] == ("False", "NotRemediating")
    assert {member["name"] for member in world.members} == set(world.names())
    assert world.told("Available")[0] == "True"


def test_chain_is_noted_before_the_machine_is_deleted_and_ends_with_the_new_one() -> None:
    world = running(3)
    sick = world.names()[0]
    hand_over(world, sick)
    taken = [step for step in world.live() if isinstance(step, Patch | Create | Delete) and step.key.kind in ("Machine", "KubeadmControlPlane")]
    kinds = [(type(step).__name__, step.key.kind) for step in taken]
    assert kinds == [("Patch", "KubeadmControlPlane"), ("Delete", "Machine"), ("Patch", "Machine"), ("Create", "Machine"), ("Patch", "KubeadmControlPlane")]
    # a write that would overtake another's is refused
    assert all(step.resource_version for step in taken if isinstance(step, Patch) and step.key.kind == "KubeadmControlPlane")


@pytest.mark.parametrize("limit", range(1, 9))
def test_crash_after_each_write_loses_no_remediation(limit: int) -> None:
    world = running(3)
    sick = world.names()[0]
    hand_over(world, sick)
    for _ in range(4):
        plan = world.plan(KIND, "demo-cp")
        world.carry_out(plan.steps, limit)
    world.live()
    assert len(world.names()) == 3
    assert sick not in world.names()
    (noted,) = (found for name in world.names() if (found := chain(world, name)) is not None)
    assert noted["machine"] == sick
    assert chain(world) is None


def test_first_machine_is_replaced_before_there_is_a_control_plane() -> None:
    world = fleet(3)
    world.settle_kcp()
    (stuck,) = world.names()
    world.later(600)
    hand_over(world, stuck)
    assert deleted(world.settle_kcp()) == [stuck]
    world.later(30)
    world.leave(stuck)
    world.settle_kcp()
    world.leave(stuck)
    taken = world.settle_kcp()
    (made,) = (step for step in taken if isinstance(step, Create) and step.key.kind == "KubeadmConfig")
    assert "initConfiguration" in made.body["spec"]
    (new,) = world.names()
    assert chain(world, new)["machine"] == stuck  # type: ignore[index]
    world.live()
    assert len(world.names()) == 3
    assert world.told("Available")[0] == "True"


@pytest.mark.parametrize("have", [1, 2])
def test_a_machine_that_never_came_up_is_replaced(have: int) -> None:
    world = running(have)
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": {"replicas": 3}})
    world.settle_kcp()
    (stuck,) = world.coming()
    world.later(600)
    hand_over(world, stuck)
    assert deleted(world.settle_kcp()) == [stuck]
    world.live()
    assert len(world.names()) == 3
    assert stuck not in world.names()
    assert len(world.members) == 3


def test_a_member_of_a_machine_whose_node_nobody_knows_is_removed_with_it() -> None:
    world = running(1)
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": {"replicas": 3}})
    world.settle_kcp()
    (stuck,) = world.coming()
    world.members.append({"id": 77, "name": stuck, "isLearner": False})
    world.later(600)
    hand_over(world, stuck)
    assert deleted(world.settle_kcp()) == [stuck]
    world.later(30)
    world.leave(stuck)
    taken = world.settle_kcp()
    # with it gone unasked the one that is left would be one of two
    assert [step.member_name for step in taken if isinstance(step, EtcdRemoveMember)] == [stuck]


def test_only_machine_of_a_control_plane_is_not_remediated() -> None:
    world = running(1)
    (sick,) = world.names()
    hand_over(world, sick)
    assert not mutations(world.settle_kcp())
    assert verdict(world, sick) == ("CannotBeRemediated", "KubeadmControlPlane can't remediate if current replicas are less or equal to 1")
    assert world.told("Remediating")[0] == "True"
    assert "current replicas are less or equal to 1" in world.told("Remediating")[2]
    # and what else there is to do goes on
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": {"replicas": 3}})
    assert len(mutations(world.settle_kcp())) == 1


def test_waits_for_a_healthy_machine_that_comes_and_for_one_that_goes() -> None:
    world = running(1)
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": {"replicas": 3}})
    world.settle_kcp()
    sick = next(name for name in world.names() if name not in world.coming())
    hand_over(world, sick)
    assert not mutations(world.settle_kcp())
    reason, text = verdict(world, sick)
    assert reason == "RemediationDeferred"
    assert text == "KubeadmControlPlane waiting for control plane Machine provisioning to complete before triggering remediation"
    world = running(3)
    gone, sick, _ = world.names()
    world.edit("Machine", gone, {"metadata": {"deletionTimestamp": "2026-01-02T03:10:00Z"}})
    hand_over(world, sick)
    assert not mutations(world.settle_kcp())
    reason, text = verdict(world, sick)
    assert reason == "RemediationDeferred"
    assert text == "KubeadmControlPlane waiting for control plane Machine deletion to complete before triggering remediation"
    world.live()
    assert {gone, sick}.isdisjoint(world.names())
    assert len(world.names()) == 3


def test_waits_for_an_upgrade_that_the_topology_is_about_to_bring() -> None:
    world = running(3)
    sick = world.names()[0]
    world.edit("Cluster", "demo", {"spec": {"topology": {"classRef": {"name": "c"}, "version": "v1.35.0"}}})
    hand_over(world, sick)
    assert not mutations(world.settle_kcp())
    reason, text = verdict(world, sick)
    assert reason == "RemediationDeferred"
    assert text == "KubeadmControlPlane can't remediate while waiting for a version upgrade to v1.35.0 to be propagated from Cluster.spec.topology"


def test_waits_for_what_etcd_says() -> None:
    world = running(3)
    sick = world.names()[0]
    hand_over(world, sick)
    world.connected = False
    assert not mutations(world.settle_kcp())
    assert verdict(world, sick) == ("RemediationDeferred", "Failed to check etcd cluster health before remediation")
    world.connected = True
    world.looks.clear()
    assert deleted(world.settle_kcp()) == [sick]


@pytest.mark.parametrize(("replicas", "also_ill", "allowed"), [(3, 0, True), (3, 1, False), (5, 1, True), (5, 2, False)])
def test_quorum_decides(replicas: int, also_ill: int, allowed: bool) -> None:
    world = running(replicas)
    sick, *others = world.names()
    for name in others[:also_ill]:
        ill(world, name)
    world.later(5)
    hand_over(world, sick)
    assert deleted(world.settle_kcp()) == ([sick] if allowed else [])
    if not allowed:
        reason, text = verdict(world, sick)
        assert reason == "CannotBeRemediated"
        assert text == (
            "KubeadmControlPlane can't remediate this Machine because this could result in loosing Kubernetes control plane components or in etcd quorum loss"
        )


def test_the_last_whole_set_of_components_is_not_taken() -> None:
    world = running(3)
    sick, *others = world.names()
    for name in others:
        ill(world, name, "kube-scheduler")
    world.later(5)
    hand_over(world, sick)
    assert not mutations(world.settle_kcp())
    assert verdict(world, sick)[0] == "CannotBeRemediated"


def test_alarm_counts_as_unhealthy() -> None:
    world = running(3)
    sick, other, _ = world.names()
    world.alarms = [{"memberID": next(one["id"] for one in world.members if one["name"] == other), "alarm": "NOSPACE"}]
    world.later(400)
    hand_over(world, sick)
    assert not mutations(world.settle_kcp())
    assert verdict(world, sick)[0] == "CannotBeRemediated"
    assert world.condition_of("Machine", other, "EtcdMemberHealthy")[2] == "Etcd reports alarms: NOSPACE"


def test_most_broken_goes_first() -> None:
    world = running(5)
    one, two, three, four, _ = world.names()
    ill(world, three, "etcd")
    world.later(5)
    hand_over(world, one, two, three)
    plain = copy.deepcopy(world)
    assert deleted(plain.settle_kcp()) == [three]
    asked = copy.deepcopy(world)
    asked.edit("Machine", two, {"metadata": {"annotations": {labels.REMEDIATE_MACHINE: ""}}})
    assert deleted(asked.settle_kcp()) == [two]
    oldest = running(5)
    hand_over(oldest, *oldest.names()[1:3])
    assert deleted(oldest.settle_kcp()) == [oldest.names()[1]]
    assert four in world.names()


def test_leadership_moves_before_the_machine_is_deleted() -> None:
    world = running(3)
    sick = world.names()[0]
    world.leader = next(one["id"] for one in world.members if one["name"] == sick)
    hand_over(world, sick)
    taken = [step for step in world.settle_kcp() if isinstance(step, EtcdMoveLeader | Delete)]
    assert [type(step) for step in taken] == [EtcdMoveLeader, Delete]
    (move,) = (step for step in taken if isinstance(step, EtcdMoveLeader))
    assert move.leader == sick
    assert {move.to_member_id, *move.others} == {one["id"] for one in world.members if one["name"] != sick}


def test_without_a_leader_nothing_is_deleted() -> None:
    world = running(3)
    sick = world.names()[0]
    world.leader = 0
    world.later(400)
    hand_over(world, sick)
    assert not mutations(world.settle_kcp())
    assert verdict(world, sick)[0] == "CannotBeRemediated"
    assert "leadership" in verdict(world, sick)[1]


def test_one_remediation_at_a_time() -> None:
    world = running(5)
    first, second, *_ = world.names()
    hand_over(world, first, second)
    taken = world.live()
    assert deleted(taken) == [first, second]
    gone = [index for index, step in enumerate(taken) if isinstance(step, Delete) and step.key.kind == "Machine"]
    made = [index for index, step in enumerate(taken) if isinstance(step, Create) and step.key.kind == "Machine"]
    assert gone[0] < made[0] < gone[1] < made[1]


def test_replacement_is_made_although_another_machine_is_unhealthy() -> None:
    world = running(5)
    first, second, *_ = world.names()
    ill(world, second)
    world.later(5)
    hand_over(world, first, second)
    taken = world.live()
    # the more broken one goes first; while it is being replaced the other one may be anything that leaves a majority
    assert deleted(taken) == [second, first]
    assert len(world.names()) == 5
    assert world.told("Available")[0] == "True"


def test_without_a_remediation_an_unhealthy_machine_forbids_a_scale_up() -> None:
    world = running(3)
    ill(world, world.names()[0])
    world.later(5)
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": {"replicas": 5}})
    assert not mutations(world.settle_kcp())
    assert "waiting for control plane components to become healthy" in world.told("ScalingUp")[2]


def failing(world: Fleet, **spec: Any) -> str:
    """A replacement that fails too: its name."""
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": {"remediation": spec}})
    hand_over(world, world.names()[0])
    world.live()
    (new,) = (name for name in world.names() if chain(world, name) is not None)
    hand_over(world, new)
    return new


def test_retries_are_counted_and_end() -> None:
    world = running(3)
    new = failing(world, maxRetry=1)
    world.live()
    (second,) = (name for name in world.names() if chain(world, name) is not None)
    assert chain(world, second) == {**chain(world, second), "machine": new, "retryCount": 1}  # type: ignore[dict-item]
    hand_over(world, second)
    assert not mutations(world.settle_kcp())
    assert verdict(world, second) == (
        "CannotBeRemediated",
        "KubeadmControlPlane can't remediate this machine because the operation already failed 1 times (MaxRetry)",
    )
    # an hour later it counts as a failure of its own
    plan = world.plan(KIND, "demo-cp")
    assert plan.requeue_after is not None
    world.later(3600)
    world.live()
    assert second not in world.names()
    (third,) = (name for name in world.names() if chain(world, name) is not None)
    assert chain(world, third)["retryCount"] == 0  # type: ignore[index]


def test_retry_waits_for_its_period() -> None:
    world = running(3)
    new = failing(world, retryPeriodSeconds=1200)
    assert not mutations(world.settle_kcp())
    reason, text = verdict(world, new)
    assert reason == "RemediationDeferred"
    assert text == "KubeadmControlPlane can't remediate this machine because the operation already failed in the latest 20m0s (RetryPeriodSeconds)"
    plan = world.plan(KIND, "demo-cp")
    assert plan.requeue_after is not None
    world.later(1200)
    assert deleted(world.settle_kcp()) == [new]
    assert chain(world)["retryCount"] == 1  # type: ignore[index]


def test_healthy_period_may_be_short() -> None:
    world = running(3)
    new = failing(world, maxRetry=0, minHealthyPeriodSeconds=600)
    assert not mutations(world.settle_kcp())
    world.later(600)
    assert deleted(world.settle_kcp()) == [new]
    assert chain(world)["retryCount"] == 0  # type: ignore[index]


def test_machine_that_recovers_is_left_alone_and_its_verdict_is_taken_away() -> None:
    world = running(1)
    (sick,) = world.names()
    hand_over(world, sick)
    world.settle_kcp()
    recover(world, sick)
    taken = world.settle_kcp()
    assert [step for step in taken if isinstance(step, Patch) and step.subresource == "status"]
    types = {one["type"] for one in world.machine(sick)["status"]["conditions"]}
    assert "OwnerRemediated" not in types
    assert {"HealthCheckSucceeded", "EtcdMemberHealthy", "UpToDate", "Ready"} <= types
    assert world.told("Remediating")[:2] == ("False", "NotRemediating")


def test_verdict_stays_while_the_machine_is_unhealthy() -> None:
    world = running(1)
    (sick,) = world.names()
    hand_over(world, sick)
    world.settle_kcp()
    ill(world, sick, "kube-scheduler")
    applied = [step for step in world.settle_kcp() if isinstance(step, Apply) and step.key.kind == "Machine"]
    assert applied
    for step in applied:
        assert "OwnerRemediated" in {one["type"] for one in step.body["status"]["conditions"]}


def test_remediation_whose_machine_recovered_is_forgotten() -> None:
    world = running(3)
    sick = world.names()[0]
    note = {"machine": sick, "timestamp": "2026-01-02T03:00:00Z", "retryCount": 0}
    world.edit("KubeadmControlPlane", "demo-cp", {"metadata": {"annotations": {IN_PROGRESS: json.dumps(note)}}})
    world.settle_kcp()
    assert chain(world) is None


@pytest.mark.parametrize("note", ["garbage", "{}", '{"machine": "gone", "timestamp": "2026-01-02T03:00:00Z", "retryCount": 0}'])
def test_note_that_says_nothing_any_more_does_not_stop_others(note: str) -> None:
    world = running(3)
    world.edit("KubeadmControlPlane", "demo-cp", {"metadata": {"annotations": {IN_PROGRESS: note}}})
    sick = world.names()[0]
    hand_over(world, sick)
    world.live()
    assert sick not in world.names()
    assert len(world.names()) == 3


def test_user_scales_down_while_a_machine_is_being_replaced() -> None:
    world = running(5)
    first, second, *_ = world.names()
    hand_over(world, first)
    world.settle_kcp()
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": {"replicas": 3}})
    world.live()
    assert len(world.names()) == 3
    assert chain(world) is None
    if second in world.names():
        hand_over(world, second)
        world.live()
        assert second not in world.names()


def test_machines_of_an_external_etcd_are_remediated() -> None:
    external = {"endpoints": ["https://etcd:2379"], "caFile": "/ca", "certFile": "/c", "keyFile": "/k"}
    world = fleet(3, kubeadmConfigSpec={"clusterConfiguration": {"etcd": {"external": external}}})
    for name in ("demo-etcd", "demo-apiserver-etcd-client"):
        metadata = {"name": name, "namespace": "default"}
        world.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": {"tls.crt": b"x", "tls.key": b"y"}})
    world.live()
    sick = world.names()[0]
    hand_over(world, sick)
    taken = world.live()
    assert deleted(taken) == [sick]
    assert not [step for step in taken if isinstance(step, EtcdRemoveMember | EtcdMoveLeader)]
    assert len(world.names()) == 3
