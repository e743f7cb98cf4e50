"""A KubeadmControlPlane from nothing, its adoption, pause, deletion, and what wakes it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fleetwake.kind import Change, Looked
from fleetwake.plan import Apply, Create, Delete, EtcdMoveLeader, EtcdRemoveMember, Look, Patch, Plan, SyncMetadata, flatten
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from services.reconcilers.kinds.kubeadm_config import KIND as CONFIG_KIND
from services.reconcilers.kinds.kubeadm_control_plane import KIND
from tests.decide.control_plane_fleet import (
    HOOK,
    INFRA,
    Fleet,
    fleet,
    running,
    writes,
)
from tests.decide.kubeadm_world import cluster, condition, machine
from tests.decide.world import Json

WRITES = (Create, Apply, Patch, Delete, SyncMetadata, EtcdMoveLeader, EtcdRemoveMember)


def test_first_run_does_all_it_can() -> None:
    world = fleet()
    assert writes(list(flatten(world.run(KIND, "default", "demo-cp").steps))) == [
        "Patch KubeadmControlPlane",
        "Patch DevMachineTemplate",
        *["Create Secret"] * 5,
        "Create Machine",
        "Create KubeadmConfig",
        "Create DevMachine",
    ]
    (made,) = world.machines()
    name = made["metadata"]["name"]
    assert name.startswith("demo-cp-") and len(name) == len("demo-cp-") + 5
    assert made["metadata"]["labels"] == {
        "team": "a",
        "cluster.x-k8s.io/cluster-name": "demo",
        "cluster.x-k8s.io/control-plane": "",
        "cluster.x-k8s.io/control-plane-name": "demo-cp",
    }
    assert made["metadata"]["annotations"] == {"note": "x", HOOK: ""}
    assert made["metadata"]["finalizers"] == ["machine.cluster.x-k8s.io"]
    assert made["metadata"]["ownerReferences"][0] | {"controller": True} == made["metadata"]["ownerReferences"][0]
    assert made["spec"]["version"] == "v1.34.2"
    assert [gate["conditionType"] for gate in made["spec"]["readinessGates"]] == [
        "NodeKubeadmLabelsAndTaintsSet",
        "APIServerPodHealthy",
        "ControllerManagerPodHealthy",
        "SchedulerPodHealthy",
        "EtcdPodHealthy",
        "EtcdMemberHealthy",
    ]
    config, infra = world.stored("KubeadmConfig", name), world.stored("DevMachine", name)
    assert config is not None and infra is not None
    assert config["metadata"]["ownerReferences"] == infra["metadata"]["ownerReferences"]
    assert config["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    assert config["spec"] == {
        "clusterConfiguration": {"featureGates": {"ControlPlaneKubeletLocalMode": True}},
        "initConfiguration": {"nodeRegistration": {"criSocket": "/x"}},
    }
    assert infra["metadata"]["annotations"]["cluster.x-k8s.io/cloned-from-name"] == "demo-cp"
    for suffix in ("ca", "etcd", "sa", "proxy", "kubeconfig"):
        secret = world.stored("Secret", f"demo-{suffix}")
        assert secret is not None
        assert secret["type"] == "cluster.x-k8s.io/secret"
        assert secret["metadata"]["ownerReferences"][0]["uid"] == "uid-kcp"
    kubeconfig = world.stored("Secret", "demo-kubeconfig")
    assert kubeconfig is not None
    assert b"https://10.0.0.1:6443" in kubeconfig["data"]["value"]


@pytest.mark.parametrize("limit", range(11))
def test_crash_after_each_write_loses_nothing(limit: int) -> None:
    world = fleet()
    world.run(KIND, "default", "demo-cp", limit=limit)
    world.settle_kcp()
    (made,) = world.machines()
    assert sorted(key.kind for key in world.store if key.name == made["metadata"]["name"]) == ["DevMachine", "KubeadmConfig", "Machine"]
    assert sum(key.kind == "Secret" for key in world.store) == 5


def test_machine_without_its_objects_is_repaired_carefully() -> None:
    world = fleet()
    world.run(KIND, "default", "demo-cp", limit=8)
    plan = world.plan(KIND, "demo-cp")
    assert plan.rests_on_absence
    assert [step.key.kind for step in flatten(plan.steps) if isinstance(step, Create)] == ["KubeadmConfig", "DevMachine"]


def test_one_control_plane_from_nothing_to_available() -> None:
    world = running()
    assert world.told("Available") == ("True", "Available", "")
    assert {
        type_: world.told(type_)[0] for type_ in ("Initialized", "CertificatesAvailable", "EtcdClusterHealthy", "ControlPlaneComponentsHealthy")
    } == dict.fromkeys(("Initialized", "CertificatesAvailable", "EtcdClusterHealthy", "ControlPlaneComponentsHealthy"), "True")
    assert [world.told(type_)[0] for type_ in ("MachinesReady", "MachinesUpToDate")] == ["True", "True"]
    assert [world.told(type_)[0] for type_ in ("RollingOut", "ScalingUp", "ScalingDown", "Remediating", "Deleting", "Paused")] == ["False"] * 6
    status = world.kcp()["status"]
    assert [status[name] for name in ("replicas", "readyReplicas", "availableReplicas", "upToDateReplicas")] == [1, 1, 1, 1]
    assert status["versions"] == [{"version": "v1.34.2", "replicas": 1}]
    assert status["version"] == "v1.34.2"
    assert status["selector"] == "cluster.x-k8s.io/cluster-name=demo,cluster.x-k8s.io/control-plane="
    assert status["initialization"] == {"controlPlaneInitialized": True}
    name = world.machines()[0]["metadata"]["name"]
    for type_, reason in (("UpToDate", "UpToDate"), ("NodeKubeadmLabelsAndTaintsSet", "Set"), ("EtcdMemberHealthy", "Healthy"), ("EtcdPodHealthy", "Running")):
        assert world.condition_of("Machine", name, type_) == ("True", reason, "")


def test_end_of_the_certificates_is_noted_once() -> None:
    world = running()
    name = world.machines()[0]["metadata"]["name"]
    config = world.stored("KubeadmConfig", name)
    assert config is not None
    assert config["metadata"]["annotations"]["machine.cluster.x-k8s.io/certificates-expiry"] == "2027-01-02T03:04:05Z"
    assert world.asked.count(f"certificate/{name}") == 1
    world.edit("KubeadmConfig", name, {"metadata": {"annotations": {"machine.cluster.x-k8s.io/certificates-expiry": None}}})
    world.looks[f"certificate/{name}"] = Looked(world.at, None, "refused")
    plan = world.plan(KIND, "demo-cp")
    assert (plan.steps, plan.requeue_after) == ((), timedelta(minutes=1))
    world.later(60)
    assert [step.query for step in world.plan(KIND, "demo-cp").steps if isinstance(step, Look)] == [f"certificate/{name}"]


def test_status_of_others_survives() -> None:
    world = running()
    made = world.machines()[0]
    assert made["status"]["nodeRef"] == {"name": made["metadata"]["name"]}
    assert any(one["type"] == "Ready" for one in made["status"]["conditions"])


def test_settled_control_plane_is_left_alone() -> None:
    world = running(3)
    for seconds in (1, 20, 200):
        world.later(seconds)
        plan = world.plan(KIND, "demo-cp")
        assert plan.steps == ()
    asked = len(world.asked)
    for _ in range(60):
        world.later(60)
        world.run(KIND, "default", "demo-cp")
    assert len(world.asked) - asked == 12
    assert not world.plan(KIND, "demo-cp").writes


def test_writes_of_bring_up_are_few() -> None:
    world = fleet()
    taken = [step for plan in _until_quiet(world) for step in flatten(plan.steps)]
    name = world.machines()[0]["metadata"]["name"]
    world.later(10)
    world.provision(name)
    world.later(3)
    taken += [step for plan in _until_quiet(world) for step in flatten(plan.steps)]
    assert sum(isinstance(step, WRITES) for step in taken) <= 15


def _until_quiet(world: Fleet) -> list[Plan]:
    plans = []
    for _ in range(10):
        plans.append(world.run(KIND, "default", "demo-cp"))
        if not plans[-1].steps:
            return plans
    raise AssertionError("does not settle")


def test_stand_alone_machine_is_adopted_and_another_controllers_is_not() -> None:
    world = fleet(1)
    world.put(machine("old", control_plane=True))
    plan = world.run(KIND, "default", "demo-cp")
    assert plan.guarded, "its owner may just have let it go on purpose"
    found = world.stored("Machine", "old")
    assert found is not None
    assert found["metadata"]["ownerReferences"][0]["uid"] == "uid-kcp"
    assert not [step for step in flatten(plan.steps) if isinstance(step, Create) and step.key.kind == "Machine"]
    foreign = machine("foreign", control_plane=True)
    foreign["metadata"]["ownerReferences"] = [{"apiVersion": "x/v1", "kind": "Other", "name": "o", "uid": "o", "controller": True}]
    world.put(foreign)
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": {"replicas": 3}})
    world.settle_kcp()
    assert len(world.machines()) == 2
    assert "Machine foreign is controlled by another object" in world.told("ScalingUp")[2]


def test_machine_too_far_away_in_version_is_not_adopted() -> None:
    world = fleet(3)
    world.put(machine("old", control_plane=True, version="v1.31.0"))
    world.settle_kcp()
    found = world.stored("Machine", "old")
    assert found is not None
    assert "ownerReferences" not in found["metadata"]
    assert "more than one minor away" in world.told("ScalingUp")[2]


def test_machine_of_unknown_version_is_adopted_and_replaced() -> None:
    world = fleet(1)
    old = machine("old", control_plane=True)
    del old["spec"]["version"]
    world.put(old)
    world.settle_kcp()
    assert world.machine("old")["metadata"]["ownerReferences"][0]["uid"] == "uid-kcp"
    assert "Version not set, v1.34.2 required" in world.condition_of("Machine", "old", "UpToDate")[2]
    world.later(30)
    world.provision("old")
    world.later(3)
    world.live()
    assert world.names() != ["old"]
    assert world.told("MachinesUpToDate")[0] == "True"


def test_paused_control_plane_is_left_alone() -> None:
    world = running()
    world.edit("Cluster", "demo", {"spec": {"paused": True}})
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": {"replicas": 3}})
    assert writes(world.settle_kcp()) == ["Apply KubeadmControlPlane"]
    assert world.told("Paused")[:2] == ("True", "Paused")
    assert world.told("Available")[0] == "True"
    assert len(world.machines()) == 1


def test_deletion_waits_for_workers_then_takes_all_machines_at_once() -> None:
    world = running(3)
    world.put(machine("worker"))
    world.edit("KubeadmControlPlane", "demo-cp", {"metadata": {"deletionTimestamp": "2026-01-02T04:00:00Z"}})
    world.settle_kcp()
    status, reason, text = world.told("Deleting")
    assert (status, reason) == ("True", "WaitingForWorkersDeletion")
    assert "* Machines: worker" in text
    world.remove("Machine", "worker")
    taken = world.settle_kcp()
    assert sum(isinstance(step, Delete) for step in taken) == 3
    assert not [step for step in taken if isinstance(step, EtcdRemoveMember)]
    assert world.told("Deleting") == ("True", "WaitingForMachineDeletion", "Deleting 3 Machines")
    assert all(HOOK not in one["metadata"]["annotations"] for one in world.machines())
    for one in world.machines():
        world.end(one["metadata"]["name"])
    plan = world.plan(KIND, "demo-cp")
    assert plan.rests_on_absence
    world.settle_kcp()
    assert world.stored("KubeadmControlPlane", "demo-cp") is None


def test_both_kinds_bring_up_three_nodes_together() -> None:
    world = fleet(3)
    for _ in range(3):
        world.settle_kcp()
        (new,) = (one["metadata"]["name"] for one in world.machines() if not (one.get("status") or {}).get("nodeRef"))
        for _ in range(4):
            world.run(CONFIG_KIND, "default", new)
        secret = world.stored("Secret", new)
        assert secret is not None
        assert (b"kubeadm join" if len(world.machines()) > 1 else b"kubeadm init") in secret["data"]["value"]
        world.later(30)
        world.provision(new)
        world.edit("Cluster", "demo", {"status": {"conditions": [condition("ControlPlaneInitialized")]}})
        world.later(3)
    world.settle_kcp()
    for one in world.machines():
        assert world.condition_of("Machine", one["metadata"]["name"], "UpToDate")[0] == "True"
        assert not world.plan(CONFIG_KIND, one["metadata"]["name"]).writes or world.stored("ConfigMap", "demo-lock") is not None
    assert world.told("Available")[0] == "True"


def woken(source: GroupKind, name: str, before: Json | None, after: Json | None, cluster_key: str = "") -> list[str]:
    world = fleet()
    (watch,) = (watch for watch in KIND.watches if watch.source == source)
    change = Change(ObjectKey(source.group, source.kind, "default", name, cluster_key), ClusterKey("default", "demo"), before, after)
    return [key.name for key in watch.concerns(change, world)] if watch.matters(change) else []


def test_wakes() -> None:
    kind = GroupKind("cluster.x-k8s.io", "Machine")
    owner = {"apiVersion": "controlplane.cluster.x-k8s.io/v1beta2", "kind": "KubeadmControlPlane", "name": "demo-cp", "uid": "uid-kcp", "controller": True}
    ours = machine("m", control_plane=True)
    ours["metadata"]["ownerReferences"] = [owner]
    assert woken(kind, "m", ours, {**ours, "status": {"conditions": [condition("Ready")]}}) == ["demo-cp"]
    assert woken(kind, "m", ours, {**ours, "status": {"conditions": [condition("EtcdPodHealthy")]}}) == []
    assert woken(kind, "m", ours, {**ours, "status": {"phase": "Running"}}) == []
    assert woken(kind, "w", machine("w"), None) == ["demo-cp"]
    assert woken(kind, "w", machine("w"), {**machine("w"), "status": {"nodeRef": {"name": "w"}}}) == []
    node = {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert woken(GroupKind("", "Node"), "n", None, node) == ["demo-cp"]
    assert woken(GroupKind("", "Node"), "n", node, {**node, "status": {**node["status"], "images": []}}) == []
    assert woken(GroupKind("", "Node"), "n", None, {"metadata": {}}) == []
    assert woken(GroupKind("", "Secret"), "demo-ca", {"metadata": {}}, None) == ["demo-cp"]
    assert woken(GroupKind("", "Secret"), "other", {"metadata": {}}, None) == []
    assert woken(GroupKind("", "ConfigMap"), "kubeadm-config", None, {"metadata": {}}, "default/demo") == ["demo-cp"]
    assert woken(GroupKind("", "ConfigMap"), "kubeadm-config", {"metadata": {}}, {"metadata": {}, "data": {"a": "b"}}, "default/demo") == ["demo-cp"]
    assert woken(GroupKind("", "ConfigMap"), "kubeadm-config", {"metadata": {}, "data": {}}, {"metadata": {"labels": {}}, "data": {}}, "default/demo") == []
    demo = cluster()
    assert woken(GroupKind("cluster.x-k8s.io", "Cluster"), "demo", demo, cluster(phase="Provisioned")) == []
    assert woken(GroupKind("cluster.x-k8s.io", "Cluster"), "demo", cluster(initialization={}), demo) == ["demo-cp"]


def test_template_wakes_those_who_use_it() -> None:
    world = fleet()
    (watch,) = (watch for watch in KIND.watches if watch.source == GroupKind("*", "*"))
    for name, expected in (("demo-cp", ["demo-cp"]), ("other", [])):
        change = Change(ObjectKey(INFRA, "DevMachineTemplate", "default", name), None, None, {"metadata": {}})
        assert [key.name for key in watch.concerns(change, world)] == expected
