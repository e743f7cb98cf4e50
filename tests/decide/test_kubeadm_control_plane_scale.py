"""A KubeadmControlPlane grows and shrinks: one at a time, which one, and what it waits for."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest
import yaml

from fleetwake import labels
from fleetwake.kind import Looked
from fleetwake.plan import Create, Delete, EtcdMoveLeader, EtcdRemoveMember, Look
from services.reconcilers.kinds.kubeadm_control_plane import KIND
from tests.decide.control_plane_fleet import (
    HOOK,
    Fleet,
    fleet,
    mutations,
    running,
    writes,
)
from tests.decide.kubeadm_world import certificates, condition, failed
from tests.decide.world import Json


def test_scale_up_is_one_at_a_time() -> None:
    world = running()
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": {"replicas": 3}})
    world.settle_kcp()
    assert len(world.machines()) == 2
    second = next(one["metadata"]["name"] for one in world.machines() if not (one.get("status") or {}).get("nodeRef"))
    config = world.stored("KubeadmConfig", second)
    assert config is not None
    assert config["spec"]["joinConfiguration"]["controlPlane"] == {}
    assert "initConfiguration" not in config["spec"]
    assert "does not have" not in world.told("ScalingUp")[2]
    assert "waiting for control plane components to become healthy" in world.told("ScalingUp")[2]
    world.later(30)
    world.appear(second, "Node")
    world.settle_kcp()
    assert len(world.machines()) == 2
    assert world.condition_of("Machine", second, "APIServerPodHealthy") == ("False", "DoesNotExist", "Pod does not exist")
    world.later(5)
    world.appear(second, "Pods")
    world.later(3)
    world.settle_kcp()
    assert len(world.machines()) == 3


def test_scale_down_keeps_etcd_whole() -> None:
    world = running(3)
    leader = world.machines()[0]["metadata"]["name"]
    world.leader = next(one["id"] for one in world.members if one["name"] == leader)
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": {"replicas": 1}})
    for left in (2, 1):
        taken = world.settle_kcp()
        assert sum(isinstance(step, Delete) and step.key.kind == "Machine" for step in taken) == 1
        (gone,) = (one for one in world.machines() if "deletionTimestamp" in one["metadata"])
        name = gone["metadata"]["name"]
        assert len(world.members) == left + 1
        assert world.leader != next(one["id"] for one in world.members if one["name"] == name)
        world.later(20)
        world.set_conditions(name, condition("Deleting", reason="WaitingForPreTerminateHook"))
        taken = world.settle_kcp()
        assert [type(step).__name__ for step in taken if isinstance(step, EtcdRemoveMember)] == ["EtcdRemoveMember"]
        assert name not in {one["name"] for one in world.members}
        found = world.stored("Machine", name)
        assert found is not None
        assert HOOK not in found["metadata"]["annotations"]
        world.settle_kcp()
        world.end(name)
        world.later(3)
    world.settle_kcp()
    assert len(world.machines()) == 1
    assert world.told("Available")[0] == "True"
    assert world.told("ScalingDown")[0] == "False"


def test_leader_is_moved_before_its_machine_is_deleted() -> None:
    world = running(3)
    oldest = min(world.machines(), key=lambda one: one["metadata"]["creationTimestamp"])["metadata"]["name"]
    world.leader = next(one["id"] for one in world.members if one["name"] == oldest)
    world.later(20)
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": {"replicas": 1}})
    first = world.run(KIND, "default", "demo-cp")
    assert any(isinstance(step, Look) for step in first.steps)
    second = world.run(KIND, "default", "demo-cp")
    acts = [step for step in second.steps if isinstance(step, EtcdMoveLeader | Delete)]
    assert [type(step).__name__ for step in acts] == ["EtcdMoveLeader", "Delete"]
    assert second.guarded


def test_member_is_removed_only_after_a_fresh_look() -> None:
    world = running(3)
    name = world.machines()[0]["metadata"]["name"]
    world.edit("Machine", name, {"metadata": {"deletionTimestamp": "2026-01-02T03:10:00Z"}})
    world.settle_kcp()
    world.set_conditions(name, condition("Deleting", reason="WaitingForPreTerminateHook"))
    world.later(5)
    first = world.plan(KIND, "demo-cp")
    assert not [step for step in first.steps if isinstance(step, EtcdRemoveMember)]
    assert [step.query for step in first.steps if isinstance(step, Look)] == ["etcd"]
    world.carry_out(first.steps)
    second = world.plan(KIND, "demo-cp")
    removal = [step for step in second.steps if isinstance(step, EtcdRemoveMember)]
    assert second.guarded
    assert removal[0].member_name == name
    assert name not in removal[0].via


def test_answer_of_before_a_change_is_not_fresh() -> None:
    world = running(3)
    world.later(20)
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": {"replicas": 1}})
    assert any(isinstance(step, Look) for step in world.run(KIND, "default", "demo-cp").steps)
    pod = next(pod for pod in world.pods if pod["metadata"]["name"].startswith("etcd-"))
    pod["metadata"]["creationTimestamp"] = world.at.strftime("%Y-%m-%dT%H:%M:%SZ")
    world.later(0.5)
    plan = world.plan(KIND, "demo-cp")
    assert not mutations(plan.steps)
    assert plan.requeue_after is not None
    assert plan.requeue_after <= timedelta(seconds=0.5), "times of the workload cluster are whole seconds: only the next one tells before from after"
    world.later(0.5)
    plan = world.plan(KIND, "demo-cp")
    assert [step.query for step in plan.steps if isinstance(step, Look)] == ["etcd"]
    world.carry_out(plan.steps)
    assert mutations(world.plan(KIND, "demo-cp").steps)


def test_member_that_was_left_behind_goes_before_a_machine_is_made() -> None:
    world = running(3)
    name = world.names()[-1]
    world.later(20)
    world.end(name)
    taken = world.live()
    acts = [step for step in taken if isinstance(step, EtcdRemoveMember) or (isinstance(step, Create) and step.key.kind == "Machine")]
    assert [type(step).__name__ for step in acts] == ["EtcdRemoveMember", "Create"]
    assert {one["name"] for one in world.members} == set(world.names())


def test_name_of_a_node_that_is_still_there_is_not_given_again() -> None:
    world = running(3)
    name = world.names()[-1]
    left = [node for node in world.nodes if node["metadata"]["name"] == name]
    world.later(20)
    world.end(name)
    world.nodes += left
    world.live()
    assert len(world.names()) == 3
    assert name not in world.names()


def test_etcd_that_cannot_be_asked_is_not_asked_without_pause() -> None:
    world = running(3)
    name = world.machines()[0]["metadata"]["name"]
    world.edit("Machine", name, {"metadata": {"deletionTimestamp": "2026-01-02T03:10:00Z"}})
    world.set_conditions(name, condition("Deleting", reason="WaitingForPreTerminateHook"))
    world.later(5)
    looks = 0
    for _ in range(20):
        plan = world.plan(KIND, "demo-cp")
        asked = [step for step in plan.steps if isinstance(step, Look)]
        looks += len(asked)
        world.carry_out([step for step in plan.steps if not isinstance(step, Look)])
        if asked:
            world.looks["etcd"] = Looked(world.at, None, "connection refused")
        assert not [step for step in plan.steps if isinstance(step, EtcdRemoveMember)]
        assert asked or plan.requeue_after is not None
        world.later(1)
    assert looks <= 2


def test_hook_waits_for_other_hooks_and_for_its_turn() -> None:
    world = running(5)
    one, two = (found["metadata"]["name"] for found in world.machines()[:2])
    world.edit("Machine", one, {"metadata": {"deletionTimestamp": "2026-01-02T03:10:00Z"}})
    world.edit("Machine", two, {"metadata": {"deletionTimestamp": "2026-01-02T03:09:00Z"}})
    world.set_conditions(one, condition("Deleting", reason="WaitingForPreTerminateHook"))
    world.settle_kcp()
    assert len(world.members) == 5
    world.set_conditions(two, condition("Deleting", reason="WaitingForPreTerminateHook"))
    other = labels.PRE_TERMINATE_HOOK_PREFIX + "/storage"
    world.edit("Machine", two, {"metadata": {"annotations": {other: ""}}})
    world.settle_kcp()
    assert len(world.members) == 5
    world.edit("Machine", two, {"metadata": {"annotations": {other: None}}})
    world.settle_kcp()
    assert {member["name"] for member in world.members} == {found["metadata"]["name"] for found in world.machines()} - {two}


def test_no_member_is_removed_when_quorum_would_be_lost() -> None:
    world = running(3)
    gone, sick = (found["metadata"]["name"] for found in world.machines()[:2])
    world.edit("Machine", gone, {"metadata": {"deletionTimestamp": "2026-01-02T03:10:00Z"}})
    world.set_conditions(gone, condition("Deleting", reason="WaitingForPreTerminateHook"))
    world.members = [{**one, "isLearner": one["name"] == sick} for one in world.members]
    world.later(30)
    world.settle_kcp()
    world.later(30)
    world.settle_kcp()
    assert len(world.members) == 3


def test_stranger_in_etcd_is_removed_when_nothing_is_being_provisioned() -> None:
    world = running(3)
    world.members.append({"id": 7, "name": "ghost", "isLearner": False})
    world.later(400)
    taken = world.settle_kcp()
    removals = [step for step in taken if isinstance(step, EtcdRemoveMember)]
    assert [step.member_name for step in removals] == ["ghost"]
    assert "ghost" not in {one["name"] for one in world.members}
    assert world.told("Available")[0] == "True"


def test_failure_domains_are_filled_evenly_and_emptied_from_the_fullest() -> None:
    domains = [{"name": name, "controlPlane": name != "workers-only"} for name in ("a", "b", "c", "workers-only")]
    world = fleet(3)
    world.edit("Cluster", "demo", {"status": {"failureDomains": domains}})
    for _ in range(3):
        world.settle_kcp()
        (new,) = (one["metadata"]["name"] for one in world.machines() if not (one.get("status") or {}).get("nodeRef"))
        world.later(30)
        world.provision(new)
        world.later(3)
    world.settle_kcp()
    assert sorted(one["spec"]["failureDomain"] for one in world.machines()) == ["a", "b", "c"]
    crowded = [one["metadata"]["name"] for one in world.machines()]
    for name, domain in zip(crowded, ("b", "a", "b"), strict=True):
        world.edit("Machine", name, {"spec": {"failureDomain": domain}})
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": {"replicas": 1}})
    taken = world.settle_kcp()
    (delete,) = (step for step in taken if isinstance(step, Delete))
    oldest = min((one for one in world.machines() if one["spec"]["failureDomain"] == "b"), key=lambda one: one["metadata"]["creationTimestamp"])
    assert delete.key.name == oldest["metadata"]["name"]


def test_users_wish_wins_on_scale_down() -> None:
    world = running(3)
    newest = max(world.machines(), key=lambda one: one["metadata"]["creationTimestamp"])["metadata"]["name"]
    world.edit("Machine", newest, {"metadata": {"annotations": {labels.DELETE_MACHINE: "true"}}})
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": {"replicas": 1}})
    (delete,) = (step for step in world.settle_kcp() if isinstance(step, Delete))
    assert delete.key.name == newest


def test_waits_for_infrastructure_then_for_the_endpoint() -> None:
    world = fleet()
    world.edit("Cluster", "demo", {"status": {"initialization": None}, "spec": {"controlPlaneEndpoint": None}})
    assert "Create Secret" not in writes(world.settle_kcp())
    assert world.told("ControlPlaneComponentsHealthy")[1] == "InspectionFailed"
    assert world.told("Available") == ("False", "NotAvailable", "Control plane not yet initialized")
    world.edit("Cluster", "demo", {"status": {"initialization": {"infrastructureProvisioned": True}}})
    made = writes(world.settle_kcp())
    assert made.count("Create Secret") == 4
    assert "Create Machine" not in made
    assert "controlPlaneEndpoint" in world.told("ControlPlaneComponentsHealthy")[2]


def test_missing_template_blocks_and_says_so() -> None:
    world = fleet()
    world.remove("DevMachineTemplate", "demo-cp")
    world.settle_kcp()
    assert world.machines() == []
    assert "correct spec.machineTemplate.spec.infrastructureRef" in world.told("ScalingUp")[2]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"version": "v1.21.0"}, "needs v1.22.0"),
        ({"version": "garbage"}, "is not a Kubernetes version"),
        ({"machineNaming": {"template": "fixed"}}, "must contain"),
    ],
)
def test_spec_that_cannot_work_is_told(spec: Json, text: str) -> None:
    world = fleet(1, **spec)
    world.settle_kcp()
    assert world.machines() == []
    assert text in world.told("ScalingUp")[2]


def test_terminal_failure_is_told_and_not_repeated() -> None:
    world = fleet()
    failed(world, "admission said no")
    assert writes(world.settle_kcp()) == ["Apply KubeadmControlPlane"]
    assert "admission said no" in world.told("ScalingUp")[2]


def test_topology_upgrade_on_its_way_blocks_scaling() -> None:
    world = running()
    world.edit("Cluster", "demo", {"spec": {"topology": {"classRef": {"name": "c"}, "version": "v1.35.0"}}})
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": {"replicas": 3}})
    world.settle_kcp()
    assert len(world.machines()) == 1
    assert "waiting for a version upgrade to v1.35.0 to be propagated" in world.told("ScalingUp")[2]


def test_certificate_lost_after_init_is_never_made_again() -> None:
    world = running()
    world.remove("Secret", "demo-sa")
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": {"replicas": 3}})
    assert "Create Secret" not in writes(world.settle_kcp())
    assert world.told("CertificatesAvailable")[:2] == ("False", "NotAvailable")
    assert "cluster certificates are missing" in world.told("ScalingUp")[2]
    assert world.told("Available")[0] == "False"
    assert len(world.machines()) == 1


def test_user_supplied_certificates_are_left_alone() -> None:
    world = fleet()
    for secret in certificates():
        secret["type"] = "Opaque"
        world.put(secret)
    world.settle_kcp()
    given = world.stored("Secret", "demo-ca")
    assert given is not None
    assert "ownerReferences" not in given["metadata"]
    assert given["type"] == "Opaque"


def test_secrets_of_our_type_are_owned_again() -> None:
    world = running()
    world.edit("Secret", "demo-ca", {"metadata": {"ownerReferences": None}})
    assert writes(world.settle_kcp()) == ["Patch Secret"]
    found = world.stored("Secret", "demo-ca")
    assert found is not None
    assert found["metadata"]["ownerReferences"][0]["uid"] == "uid-kcp"


def test_kubeconfig_is_renewed_when_half_its_life_is_over() -> None:
    world = running()
    first = world.stored("Secret", "demo-kubeconfig")
    assert first is not None
    before = first["data"]["value"]
    world.at += timedelta(days=181)
    world.settle_kcp()
    assert world.stored("Secret", "demo-kubeconfig")["data"]["value"] == before  # type: ignore[index]
    world.at += timedelta(days=2)
    assert "Patch Secret" in writes(world.settle_kcp())
    assert world.stored("Secret", "demo-kubeconfig")["data"]["value"] != before  # type: ignore[index]


def test_keys_are_of_the_algorithm_asked_for_and_else_rsa_but_for_the_kubeconfigs_client() -> None:
    def headers(world: Fleet) -> dict[str, bytes]:
        found = {suffix: world.stored("Secret", f"demo-{suffix}")["data"] for suffix in ("ca", "etcd", "sa", "proxy", "kubeconfig")}  # type: ignore[index]
        user = yaml.safe_load(found.pop("kubeconfig")["value"])["users"][0]["user"]
        keys = {suffix: data["tls.key"] for suffix, data in found.items()} | {"kubeconfig": base64.b64decode(user["client-key-data"])}
        return {name: key.splitlines()[0].removeprefix(b"-----BEGIN ").split()[0] for name, key in keys.items()}

    assert headers(running()) == {**dict.fromkeys(("ca", "etcd", "sa", "proxy"), b"RSA"), "kubeconfig": b"EC"}
    asked = running(kubeadmConfigSpec={"clusterConfiguration": {"encryptionAlgorithm": "RSA-2048"}})
    assert set(headers(asked).values()) == {b"RSA"}
    asked = running(kubeadmConfigSpec={"clusterConfiguration": {"encryptionAlgorithm": "ECDSA-P384"}})
    assert set(headers(asked).values()) == {b"EC"}


def test_kubeconfig_of_somebody_else_is_never_renewed() -> None:
    world = running()
    world.edit("Secret", "demo-kubeconfig", {"type": "Opaque", "metadata": {"ownerReferences": None}})
    world.at += timedelta(days=365)
    assert "Patch Secret" not in writes(world.settle_kcp())
