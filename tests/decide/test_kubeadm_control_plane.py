"""KubeadmControlPlane: from nothing to three Machines and back in a small world, and each rule on its own."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest
import yaml

from fleetwake import labels
from fleetwake.kind import Change, Looked
from fleetwake.plan import Apply, Create, Delete, EtcdMoveLeader, EtcdRemoveMember, Event, Look, Patch, Plan, Step, SyncMetadata, flatten
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from services.reconcilers.kinds.kubeadm_config import KIND as CONFIG_KIND
from services.reconcilers.kinds.kubeadm_control_plane import KIND
from tests.decide.kubeadm_world import KubeadmWorld, certificates, cluster, condition, failed, machine
from tests.decide.world import Json

WRITES = (Create, Apply, Patch, Delete, SyncMetadata, EtcdMoveLeader, EtcdRemoveMember)
INFRA = "infrastructure.cluster.x-k8s.io"
HOOK = labels.KCP_CLEANUP_HOOK


def control_plane(replicas: int = 1, **spec: Any) -> Json:
    return {
        "apiVersion": "controlplane.cluster.x-k8s.io/v1beta2",
        "kind": "KubeadmControlPlane",
        "metadata": {
            "name": "demo-cp",
            "namespace": "default",
            "uid": "uid-kcp",
            "labels": {"cluster.x-k8s.io/cluster-name": "demo"},
            "ownerReferences": [{"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "name": "demo", "uid": "uid-cluster", "controller": True}],
        },
        "spec": {
            "replicas": replicas,
            "version": "v1.34.2",
            "machineTemplate": {
                "metadata": {"labels": {"team": "a"}, "annotations": {"note": "x"}},
                "spec": {"infrastructureRef": {"apiGroup": INFRA, "kind": "DevMachineTemplate", "name": "demo-cp"}},
            },
            "kubeadmConfigSpec": {
                "initConfiguration": {"nodeRegistration": {"criSocket": "/x"}},
                "joinConfiguration": {"nodeRegistration": {"criSocket": "/x"}},
            },
            **spec,
        },
    }


def template() -> Json:
    return {
        "apiVersion": f"{INFRA}/v1beta2",
        "kind": "DevMachineTemplate",
        "metadata": {"name": "demo-cp", "namespace": "default"},
        "spec": {"template": {"metadata": {"labels": {"from-template": "y"}}, "spec": {"backend": {"inMemory": {}}}}},
    }


class Fleet(KubeadmWorld):
    """The world with everything around KubeadmControlPlane played: bootstrap, infrastructure, Nodes, etcd, and the end of Machines."""

    def machines(self) -> list[Json]:
        return [obj for key, obj in sorted(self.store.items()) if key.kind == "Machine"]

    def provision(self, name: str) -> None:
        """The Machine comes up: infrastructure, Node, static pods, etcd member; the first one initializes."""
        for kind in ("Node", "Pods"):
            self.appear(name, kind)

    def appear(self, name: str, what: str) -> None:
        stamp = self.at.strftime("%Y-%m-%dT%H:%M:%SZ")
        if what == "Node":
            self.edit("Machine", name, {"spec": {"providerID": f"in-memory://{name}"}})
            self.edit(
                "Machine",
                name,
                {"status": {"nodeRef": {"name": name}, "initialization": {"infrastructureProvisioned": True, "bootstrapDataSecretCreated": True}}},
            )
            self.set_conditions(name, condition("Ready"), condition("Available"))
            taint = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
            meta = {"name": name, "creationTimestamp": stamp, "labels": {"node-role.kubernetes.io/control-plane": ""}}
            ready = {"conditions": [{"type": "Ready", "status": "True"}]}
            self.nodes.append({"metadata": meta, "spec": {"providerID": f"in-memory://{name}", "taints": [taint]}, "status": ready})
            self.nodes.sort(key=lambda node: node["metadata"]["name"])
            return
        for component in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"):
            status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": stamp}]}
            self.pods.append({"metadata": {"name": f"{component}-{name}", "namespace": "kube-system", "creationTimestamp": stamp}, "status": status})
        self.members.append({"id": 100 + len(self.members) + self.at.second * 10, "name": name, "isLearner": False})
        if len(self.members) == 1:
            self.leader = self.members[0]["id"]
            self.others["ConfigMap/kube-system/kubeadm-config"] = {"data": {}}
        self.connected = True

    def set_conditions(self, name: str, *wanted: Json) -> None:
        found = self.stored("Machine", name)
        assert found is not None
        types = {one["type"] for one in wanted}
        kept = [one for one in found.setdefault("status", {}).get("conditions", ()) if one["type"] not in types]
        self.edit("Machine", name, {"status": {"conditions": [*kept, *wanted]}})

    def end(self, name: str) -> None:
        """The Machine controller's last steps: infrastructure, config, Node, finalizer."""
        for kind in ("Machine", "KubeadmConfig", "DevMachine"):
            self.remove(kind, name)
        self.nodes = [node for node in self.nodes if node["metadata"]["name"] != name]
        self.pods = [pod for pod in self.pods if not pod["metadata"]["name"].endswith(name)]

    def settle_kcp(self, runs: int = 12) -> list[Step]:
        """Run until nothing is asked for; the steps taken."""
        taken: list[Step] = []
        for _ in range(runs):
            plan = self.run(KIND, "default", "demo-cp")
            if not [step for step in plan.steps if not isinstance(step, Event)]:
                return taken
            taken += flatten(plan.steps)
        raise AssertionError(f"does not settle: {plan.steps}")

    def kcp(self) -> Json:
        found = self.stored("KubeadmControlPlane", "demo-cp")
        assert found is not None
        return found

    def told(self, type_: str) -> tuple[str, str, str]:
        return self.condition_of("KubeadmControlPlane", "demo-cp", type_)


def fleet(replicas: int = 1, **spec: Any) -> Fleet:
    return Fleet([cluster(), control_plane(replicas, **spec), template()])


def running(replicas: int = 1, **spec: Any) -> Fleet:
    """A control plane with all its Machines up and everything settled."""
    world = fleet(replicas, **spec)
    for number in range(replicas):
        world.settle_kcp()
        new = [one["metadata"]["name"] for one in world.machines() if not (one.get("status") or {}).get("nodeRef")]
        assert len(new) == 1, f"one at a time, but {number} then {new}"
        world.later(30)
        world.provision(new[0])
        world.later(3)
    world.settle_kcp()
    return world


def writes(steps: list[Step]) -> list[str]:
    names = []
    for step in steps:
        match step:
            case EtcdMoveLeader() | EtcdRemoveMember():
                names.append(type(step).__name__)
            case Create() | Apply() | Patch() | Delete() | SyncMetadata():
                names.append(f"{type(step).__name__} {step.key.kind}")
    return names


# --- from nothing --------------------------------------------------------------------------------------------------------------------------------


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


# --- 1 -> 3 -> 1 ---------------------------------------------------------------------------------------------------------------------------------


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


# --- choosing ------------------------------------------------------------------------------------------------------------------------------------


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


# --- waiting -------------------------------------------------------------------------------------------------------------------------------------


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


# --- in place, up to date ------------------------------------------------------------------------------------------------------------------------


def test_metadata_and_timeouts_follow_in_place() -> None:
    world = running()
    name = world.machines()[0]["metadata"]["name"]
    change = {"machineTemplate": {"metadata": {"labels": {"team": "b"}}, "spec": {"deletion": {"nodeDrainTimeoutSeconds": 60}}}}
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": change})
    made = writes(world.settle_kcp())
    assert made.count("Apply Machine") == 1
    assert made.count("SyncMetadata KubeadmConfig") == made.count("SyncMetadata DevMachine") == 1
    found = world.stored("Machine", name)
    assert found is not None
    assert found["metadata"]["labels"]["team"] == "b"
    assert found["spec"]["deletion"] == {"nodeDeletionTimeoutSeconds": 10, "nodeDrainTimeoutSeconds": 60}
    assert world.told("MachinesUpToDate")[0] == "True"


OUTDATED = [
    pytest.param({"version": "v1.35.0"}, "* Version v1.34.2, v1.35.0 required", id="version"),
    pytest.param({"rollout": {"after": "2026-01-02T03:30:00Z"}}, "* KubeadmControlPlane spec.rolloutAfter expired", id="after"),
    pytest.param({"machineTemplate": {"spec": {"infrastructureRef": {"name": "other"}}}}, "* DevMachine is not up-to-date", id="template"),
    pytest.param({"kubeadmConfigSpec": {"preKubeadmCommands": ["true"]}}, "* KubeadmConfig is not up-to-date", id="config"),
    pytest.param(
        {"kubeadmConfigSpec": {"joinConfiguration": {"nodeRegistration": {"taints": []}}, "initConfiguration": {"nodeRegistration": {"taints": []}}}},
        "* KubeadmConfig",
        id="no taints",
    ),
]


@pytest.mark.parametrize(("change", "message"), OUTDATED)
def test_outdated(change: Json, message: str) -> None:
    world = running()
    world.at += timedelta(hours=1)
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": change})
    world.settle_kcp()
    name = world.machines()[0]["metadata"]["name"]
    status, reason, text = world.condition_of("Machine", name, "UpToDate")
    assert (status, reason) == ("False", "NotUpToDate")
    assert message in text
    assert world.told("RollingOut")[2].startswith("Rolling out 1 not up-to-date replicas")
    assert world.kcp()["status"]["upToDateReplicas"] == 0


SAME = [
    pytest.param({"kubeadmConfigSpec": {"clusterConfiguration": {"dns": {"imageTag": "v1"}}}}, id="dns"),
    pytest.param({"kubeadmConfigSpec": {"joinConfiguration": {"caCertPath": "/x"}}}, id="path of the CA on the first node"),
    pytest.param({"kubeadmConfigSpec": {"format": "cloud-config"}}, id="former default"),
    pytest.param({"kubeadmConfigSpec": {"joinConfiguration": {"timeouts": {"controlPlaneComponentHealthCheckSeconds": 9}}}}, id="timeout"),
    pytest.param({"kubeadmConfigSpec": {"joinConfiguration": {"nodeRegistration": {"criSocket": "/y"}}}}, id="join differs, init does not"),
    pytest.param({"kubeadmConfigSpec": {"clusterConfiguration": {"controlPlaneEndpoint": "x:1"}}}, id="endpoint"),
    pytest.param({"rollout": {"after": "2036-01-02T03:30:00Z"}}, id="rollout later"),
]


@pytest.mark.parametrize("change", SAME)
def test_still_up_to_date(change: Json) -> None:
    world = running()
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": change})
    world.settle_kcp()
    assert world.condition_of("Machine", world.machines()[0]["metadata"]["name"], "UpToDate") == ("True", "UpToDate", "")


def test_certificates_about_to_expire_and_kubelet_of_another_version() -> None:
    world = running(1, rollout={"before": {"certificatesExpiryDays": 30}})
    name = world.machines()[0]["metadata"]["name"]
    world.edit("Machine", name, {"status": {"certificatesExpiryDate": "2026-01-20T00:00:00Z"}})
    world.settle_kcp()
    assert world.condition_of("Machine", name, "UpToDate")[2] == "* Certificates will expire soon"


# --- health --------------------------------------------------------------------------------------------------------------------------------------


def pod_status(phase: str, **more: Any) -> Json:
    return {"phase": phase, **more}


WAITING = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}
PODS = [
    (pod_status("Pending"), ("False", "Provisioning", "Waiting to be scheduled")),
    (pod_status("Pending", conditions=[{"type": "PodScheduled", "status": "True"}]), ("False", "Provisioning", "Running init containers")),
    (pod_status("Pending", conditions=[{"type": t, "status": "True"} for t in ("PodScheduled", "Initialized")]), ("False", "Provisioning", "")),
    (pod_status("Running"), ("False", "Provisioning", "Waiting for startup or readiness probes")),
    (pod_status("Running", containerStatuses=[WAITING]), ("False", "Provisioning", "CrashLoopBackOff")),
    (pod_status("Running", containerStatuses=[{**WAITING, "lastState": {"terminated": {"exitCode": 1}}}]), ("False", "Failed", "CrashLoopBackOff")),
    (pod_status("Running", containerStatuses=[{"state": {"terminated": {"reason": "Error"}}}]), ("False", "Failed", "Error")),
    (pod_status("Failed"), ("False", "Failed", "All the containers have been terminated")),
    (pod_status("Succeeded"), ("False", "Failed", "All the containers have been terminated")),
    (pod_status("Unknown"), ("Unknown", "InspectionFailed", "Pod is reporting Unknown status")),
]


@pytest.mark.parametrize(("status", "expected"), PODS)
def test_pod_conditions(status: Json, expected: tuple[str, str, str]) -> None:
    world = running()
    name = world.machines()[0]["metadata"]["name"]
    (pod,) = (pod for pod in world.pods if pod["metadata"]["name"] == f"kube-scheduler-{name}")
    pod["status"] = status
    world.settle_kcp()
    assert world.condition_of("Machine", name, "SchedulerPodHealthy") == expected
    assert world.told("ControlPlaneComponentsHealthy")[0] == expected[0]
    assert world.told("Available")[0] == "False"


NODES = [
    (lambda node: node["metadata"]["labels"].clear(), "NodeKubeadmLabelsAndTaintsSet", ("False", "NotSet"), "does not have the node-role"),
    (lambda node: node["spec"]["taints"].clear(), "NodeKubeadmLabelsAndTaintsSet", ("False", "NotSet"), ":NoSchedule taint"),
    (
        lambda node: node["spec"]["taints"].append({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}),
        "APIServerPodHealthy",
        ("Unknown", "InspectionFailed"),
        "unreachable",
    ),
    (lambda node: node["status"]["conditions"][0].update(status="Unknown"), "APIServerPodHealthy", ("Unknown", "InspectionFailed"), "might be stale"),
]


@pytest.mark.parametrize(("change", "type_", "expected", "text"), NODES)
def test_node_conditions(change: Any, type_: str, expected: tuple[str, str], text: str) -> None:
    world = running()
    change(world.nodes[0])
    world.settle_kcp()
    found = world.condition_of("Machine", world.machines()[0]["metadata"]["name"], type_)
    assert found[:2] == expected
    assert text in found[2]


ETCD = [
    (lambda w, m: m.update(isLearner=True), ("False", "NotHealthy"), "learner"),
    (lambda w, m: m.update(name="renamed"), ("False", "NotHealthy"), "is not included"),
]


@pytest.mark.parametrize(("change", "expected", "text"), ETCD)
def test_etcd_member_conditions(change: Any, expected: tuple[str, str], text: str) -> None:
    world = running(3)
    change(world, world.members[0])
    world.later(400)
    world.run(KIND, "default", "demo-cp")
    world.run(KIND, "default", "demo-cp")
    name = world.machines()[0]["metadata"]["name"]
    machines = {one["metadata"]["name"]: world.condition_of("Machine", one["metadata"]["name"], "EtcdMemberHealthy") for one in world.machines()}
    assert name in machines
    (bad,) = (value for value in machines.values() if value[0] != "True")
    assert bad[:2] == expected
    assert text in bad[2]
    assert world.told("EtcdClusterHealthy")[0] == "False"


def test_etcd_alarm_and_etcd_error() -> None:
    world = running()
    name = world.machines()[0]["metadata"]["name"]
    member = world.members[0]
    world.looks["etcd"] = Looked(world.at, {"members": [member], "alarms": [{"memberID": member["id"], "alarm": "NOSPACE"}], "leader": member["id"]})
    world.run(KIND, "default", "demo-cp")
    assert world.condition_of("Machine", name, "EtcdMemberHealthy") == ("False", "NotHealthy", "Etcd reports alarms: NOSPACE")
    world.looks["etcd"] = Looked(world.at, None, "connection refused")
    world.run(KIND, "default", "demo-cp")
    assert world.condition_of("Machine", name, "EtcdMemberHealthy") == ("Unknown", "InspectionFailed", "Failed to get etcd members: connection refused")
    assert world.told("Available")[2] == "Waiting for etcd to report the list of members"
    world.later(121)
    world.looks["etcd"] = Looked(world.at, None, "connection refused")
    world.run(KIND, "default", "demo-cp")
    assert world.told("Available")[:2] == ("Unknown", "InspectionFailed")


@pytest.mark.parametrize(("learning", "looks"), [(False, 3), (True, 6)])
def test_etcd_is_asked_more_often_while_not_all_is_well(learning: bool, looks: int) -> None:
    world = running()
    world.members[0]["isLearner"] = learning
    world.pods[2]["status"] = {"phase": "Failed"}
    world.later(300)
    world.settle_kcp()
    asked = len(world.asked)
    for _ in range(6):
        plan = world.plan(KIND, "demo-cp")
        assert plan.requeue_after is not None
        assert plan.requeue_after <= timedelta(seconds=20)
        world.later(10)
        world.settle_kcp()
    assert len(world.asked) - asked == looks


def test_connection_lost_keeps_the_last_judgement_for_five_minutes() -> None:
    world = running()
    name = world.machines()[0]["metadata"]["name"]
    probe = world.at
    original = world.workload

    def lost(cluster: Any) -> Any:
        from dataclasses import replace

        world.connected = True
        return replace(original(cluster), connected=False, last_probe_success=probe, consecutive_failures=7)

    world.workload = lost  # type: ignore[method-assign]
    world.later(240)
    plan = world.plan(KIND, "demo-cp")
    assert plan.steps == ()
    assert plan.requeue_after == timedelta(seconds=61)
    world.later(62)
    world.settle_kcp()
    assert world.condition_of("Machine", name, "APIServerPodHealthy")[:2] == ("Unknown", "ConnectionDown")
    assert world.told("EtcdClusterHealthy")[:2] == ("Unknown", "ConnectionDown")
    assert world.told("ControlPlaneComponentsHealthy")[2].startswith("Last successful probe at 2026-")


def test_partly_unhealthy_control_plane_is_available_and_says_what_is_wrong() -> None:
    world = running(3)
    name = world.machines()[0]["metadata"]["name"]
    (pod,) = (pod for pod in world.pods if pod["metadata"]["name"] == f"kube-apiserver-{name}")
    pod["status"] = {"phase": "Failed"}
    world.settle_kcp()
    assert world.told("Available") == ("True", "Available", "")
    world.later(11)
    world.settle_kcp()
    assert world.told("Available")[2] == "* 2 of 3 Machines have healthy control plane components, at least 1 required"
    assert "Machine " + name in world.told("ControlPlaneComponentsHealthy")[2]


def test_external_etcd_is_not_ours_to_judge() -> None:
    external = {"endpoints": ["https://e:2379"], "caFile": "/e/ca.crt", "certFile": "/e/c.crt", "keyFile": "/e/c.key"}
    world = fleet(1, kubeadmConfigSpec={"clusterConfiguration": {"etcd": {"external": external}}})
    world.settle_kcp()
    assert "apiserver-etcd-client" in world.told("CertificatesAvailable")[2]
    made = world.machines()[0]
    assert "EtcdMemberHealthy" not in {gate["conditionType"] for gate in made["spec"]["readinessGates"]}
    for name in ("etcd", "apiserver-etcd-client"):
        world.put(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": f"demo-{name}", "namespace": "default"},
                "type": "Opaque",
                "data": {"tls.crt": b"x", "tls.key": b"y"},
            }
        )
    world.provision(made["metadata"]["name"])
    world.members = []
    world.later(3)
    world.settle_kcp()
    assert "etcd" not in world.asked
    assert world.told("Available")[0] == "True"
    assert not any(one["type"] == "EtcdClusterHealthy" for one in world.kcp()["status"]["conditions"])


# --- adoption, pause, deletion -------------------------------------------------------------------------------------------------------------------


def test_stand_alone_machine_is_adopted_and_another_controllers_is_not() -> None:
    world = fleet(1)
    world.put(machine("old", control_plane=True))
    plan = world.run(KIND, "default", "demo-cp")
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


# --- with KubeadmConfig --------------------------------------------------------------------------------------------------------------------------


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


# --- what wakes it -------------------------------------------------------------------------------------------------------------------------------


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
    demo = cluster()
    assert woken(GroupKind("cluster.x-k8s.io", "Cluster"), "demo", demo, cluster(phase="Provisioned")) == []
    assert woken(GroupKind("cluster.x-k8s.io", "Cluster"), "demo", cluster(initialization={}), demo) == ["demo-cp"]


def test_template_wakes_those_who_use_it() -> None:
    world = fleet()
    (watch,) = (watch for watch in KIND.watches if watch.source == GroupKind("*", "*"))
    for name, expected in (("demo-cp", ["demo-cp"]), ("other", [])):
        change = Change(ObjectKey(INFRA, "DevMachineTemplate", "default", name), None, None, {"metadata": {}})
        assert [key.name for key in watch.concerns(change, world)] == expected
