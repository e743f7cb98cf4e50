"""A KubeadmControlPlane replaces outdated Machines: which change makes one outdated, in what order they go, and what is made ready before."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import yaml

from fleetwake.plan import Apply, Create, Delete, EtcdRemoveMember, Look, Patch, Step
from services.reconcilers.kinds.kubeadm_control_plane import KIND
from tests.decide.control_plane_fleet import Fleet, fleet, mutations, running, template
from tests.decide.kubeadm_world import CLUSTER
from tests.decide.world import Json

SURGE = {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}
NO_SURGE = {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0}}}


def configuration(world: Fleet) -> Json:
    """kubeadm's ClusterConfiguration as the workload cluster keeps it."""
    found = world.stored("ConfigMap", "kubeadm-config", CLUSTER)
    assert found is not None
    loaded: Json = yaml.safe_load(found["data"]["ClusterConfiguration"])
    return loaded


def change(world: Fleet, **spec: Any) -> None:
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": spec})


def counts(world: Fleet) -> list[int]:
    """How many Machines there were after each thing that happened to one, until nothing happened any more."""
    found = [len(world.machines())]
    for _ in range(60):
        world.settle_kcp()
        found.append(len(world.machines()))
        coming, leaving = world.coming(), world.leaving()
        if not coming and not leaving:
            break
        world.later(30)
        for name in coming:
            world.provision(name)
        for name in leaving:
            world.leave(name)
        found.append(len(world.machines()))
        world.later(3)
    return [count for number, count in enumerate(found) if number == 0 or count != found[number - 1]]


@pytest.mark.parametrize(
    ("rollout", "expected"),
    [
        pytest.param(SURGE, [3, 4, 3, 4, 3, 4, 3], id="maxSurge 1"),
        pytest.param({}, [3, 4, 3, 4, 3, 4, 3], id="maxSurge by default"),
        pytest.param(NO_SURGE, [3, 2, 3, 2, 3, 2, 3], id="maxSurge 0"),
    ],
)
def test_one_machine_after_the_other(rollout: Json, expected: list[int]) -> None:
    world = running(3, rollout=rollout)
    before = set(world.names())
    change(world, version="v1.35.0")
    assert counts(world) == expected
    assert before.isdisjoint(world.names())
    assert {one["spec"]["version"] for one in world.machines()} == {"v1.35.0"}
    assert {member["name"] for member in world.members} == set(world.names())
    assert world.told("RollingOut")[:2] == ("False", "NotRollingOut")
    assert world.told("Available")[0] == "True"
    assert world.kcp()["status"]["version"] == "v1.35.0"


def test_no_surge_is_not_asked_of_a_control_plane_that_cannot_spare_a_machine() -> None:
    world = running(1, rollout=NO_SURGE)
    change(world, version="v1.35.0")
    assert counts(world) == [1, 2, 1]


CHANGES = [
    pytest.param({"version": "v1.35.0"}, id="version"),
    pytest.param({"machineTemplate": {"spec": {"infrastructureRef": {"name": "other"}}}}, id="infrastructure template"),
    pytest.param({"rollout": {"after": "2026-01-02T04:00:00Z"}}, id="rollout.after"),
    pytest.param({"rollout": {"before": {"certificatesExpiryDays": 300}}}, id="rollout.before"),
    pytest.param({"kubeadmConfigSpec": {"files": [{"path": "/x", "content": "y"}]}}, id="files"),
    pytest.param({"kubeadmConfigSpec": {"preKubeadmCommands": ["true"]}}, id="commands"),
    pytest.param({"kubeadmConfigSpec": {"clusterConfiguration": {"apiServer": {"extraArgs": [{"name": "v", "value": "2"}]}}}}, id="API server"),
    pytest.param({"kubeadmConfigSpec": {"clusterConfiguration": {"featureGates": {"NodeLocalCRISocket": True}}}}, id="feature gate"),
    pytest.param({"kubeadmConfigSpec": {"joinConfiguration": {"nodeRegistration": {"criSocket": "/y"}}}}, id="registration of those that join"),
    pytest.param({"kubeadmConfigSpec": {"users": [{"name": "me"}]}}, id="users"),
    pytest.param({"kubeadmConfigSpec": {"verbosity": 5}}, id="verbosity"),
]


@pytest.mark.parametrize("spec", CHANGES)
def test_every_field_that_needs_it_rolls_and_ends_up_to_date(spec: Json) -> None:
    world = running(3)
    world.put({**template(), "metadata": {"name": "other", "namespace": "default"}})
    world.at += timedelta(hours=2)
    if "before" in spec.get("rollout", {}):
        for name in world.names():
            world.edit("Machine", name, {"status": {"certificatesExpiryDate": "2026-10-01T00:00:00Z"}})
    before = set(world.names())
    change(world, **spec)
    world.live()
    # one that initialized is compared as one that joined, and as one that initializes
    left = before & set(world.names())
    assert len(left) == (1 if "joinConfiguration" in spec.get("kubeadmConfigSpec", {}) else 0)
    assert len(world.names()) == 3
    assert world.told("MachinesUpToDate")[0] == "True"
    assert world.kcp()["status"]["upToDateReplicas"] == 3


IN_PLACE = [
    pytest.param({"machineTemplate": {"metadata": {"labels": {"team": "b"}, "annotations": {"note": "z"}}}}, id="metadata"),
    pytest.param({"machineTemplate": {"spec": {"deletion": {"nodeDrainTimeoutSeconds": 60, "nodeVolumeDetachTimeoutSeconds": 5}}}}, id="timeouts"),
    pytest.param({"machineTemplate": {"spec": {"readinessGates": [{"conditionType": "Mine"}]}}}, id="readiness gates"),
    pytest.param({"machineTemplate": {"spec": {"taints": [{"key": "a", "effect": "NoSchedule", "propagation": "Always"}]}}}, id="taints"),
    pytest.param({"kubeadmConfigSpec": {"clusterConfiguration": {"dns": {"imageRepository": "example.com/dns"}}}}, id="DNS"),
    pytest.param({"kubeadmConfigSpec": {"joinConfiguration": {"discovery": {"bootstrapToken": {"unsafeSkipCAVerification": True}}}}}, id="discovery"),
    pytest.param({"kubeadmConfigSpec": {"initConfiguration": {"timeouts": {"controlPlaneComponentHealthCheckSeconds": 9}}}}, id="a timeout"),
    pytest.param({"kubeadmConfigSpec": {"format": "cloud-config"}}, id="a default"),
    pytest.param({"rollout": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0}}}}, id="the strategy"),
    pytest.param({"remediation": {"maxRetry": 3}, "machineNaming": {"template": "x-{{ .random }}"}}, id="remediation and naming"),
    pytest.param({"rollout": {"after": "2026-01-01T00:00:00Z"}}, id="rollout.after before they were made"),
]


@pytest.mark.parametrize("spec", IN_PLACE)
def test_what_applies_in_place_rolls_nothing(spec: Json) -> None:
    world = running(3)
    world.at += timedelta(hours=2)
    before = set(world.names())
    change(world, **spec)
    taken = world.live()
    assert not mutations(taken)
    assert set(world.names()) == before
    assert world.told("MachinesUpToDate")[0] == "True"


def test_editing_a_template_in_place_rolls_nothing() -> None:
    world = running(1)
    world.edit(
        "DevMachineTemplate", "demo-cp", {"spec": {"template": {"spec": {"backend": {"inMemory": {"vm": {"provisioning": {"startupDuration": "1s"}}}}}}}}
    )
    assert not mutations(world.live())


def test_lack_of_knowledge_rolls_nothing() -> None:
    world = running(1)
    name = world.names()[0]
    world.remove("DevMachine", name)
    world.remove("KubeadmConfig", name)
    change(world, kubeadmConfigSpec={"preKubeadmCommands": ["true"]}, machineTemplate={"spec": {"infrastructureRef": {"name": "demo-cp"}}})
    assert not mutations(world.live())


def test_configuration_is_upgraded_before_the_first_machine_is_made() -> None:
    kept = {"networking": {"podSubnet": "192.168.0.0/16", "dnsDomain": "cluster.local"}, "certificatesDir": "/pki", "clusterName": "demo"}
    spec = {"clusterConfiguration": {"apiServer": {"extraArgs": [{"name": "v", "value": "1"}, {"name": "audit-log-path", "value": "-"}]}}}
    world = running(3, version="v1.30.4", kubeadmConfigSpec=spec)
    stored = world.stored("ConfigMap", "kubeadm-config", CLUSTER)
    assert stored is not None
    old = {**configuration(world), **kept, "apiServer": {"extraArgs": {"v": "1", "audit-log-path": "-"}, "timeoutForControlPlane": "4m0s"}}
    stored["data"]["ClusterConfiguration"] = yaml.safe_dump(old)
    change(world, version="v1.31.2")
    steps = world.settle_kcp()
    order = [
        (type(step), step.key.kind) for step in steps if isinstance(step, Patch | Create) and step.key.kind in ("ConfigMap", "Machine", "ClusterRoleBinding")
    ]
    assert order == [(Create, "ClusterRoleBinding"), (Patch, "ConfigMap"), (Create, "Machine")]
    new = configuration(world)
    assert (new["apiVersion"], new["kubernetesVersion"]) == ("kubeadm.k8s.io/v1beta4", "v1.31.2")
    assert {name: new[name] for name in kept} == kept
    assert new["controlPlaneEndpoint"] == old["controlPlaneEndpoint"]
    assert new["apiServer"] == {"extraArgs": [{"name": "v", "value": "1"}, {"name": "audit-log-path", "value": "-"}]}
    assert new["featureGates"] == {"ControlPlaneKubeletLocalMode": True}
    world.live()
    change(world, version="v1.32.0")
    world.live()
    assert configuration(world) == {**new, "kubernetesVersion": "v1.32.0"}
    change(world, version="v1.36.0")
    world.live()
    # the gate is unknown from there on
    assert "featureGates" not in configuration(world)


def test_configuration_follows_the_spec_and_keeps_the_rest() -> None:
    world = running(3)
    old = configuration(world)
    wanted = {
        "imageRepository": "example.com/k8s",
        "apiServer": {"certSANs": ["api.example.com"]},
        "controllerManager": {"extraArgs": [{"name": "profiling", "value": "false"}]},
        "scheduler": {"extraEnvs": [{"name": "A", "value": "b"}]},
        "etcd": {"local": {"extraArgs": [{"name": "quota-backend-bytes", "value": "1"}]}},
        "encryptionAlgorithm": "ECDSA-P256",
        "certificateValidityPeriodDays": 30,
    }
    change(world, kubeadmConfigSpec={"clusterConfiguration": wanted})
    world.live()
    new = configuration(world)
    assert {name: new[name] for name in wanted if name != "certificateValidityPeriodDays"} == {
        name: value for name, value in wanted.items() if name != "certificateValidityPeriodDays"
    }
    assert new["certificateValidityPeriod"] == "720h0m0s"
    assert {name: new[name] for name in ("clusterName", "controlPlaneEndpoint", "kubernetesVersion")} == {
        name: old[name] for name in ("clusterName", "controlPlaneEndpoint", "kubernetesVersion")
    }
    change(world, kubeadmConfigSpec={"clusterConfiguration": {"encryptionAlgorithm": None, "controllerManager": None}})
    world.live()
    assert {"encryptionAlgorithm", "controllerManager"}.isdisjoint(configuration(world))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(None, "has no ClusterConfiguration", id="nothing"),
        pytest.param("a: [", "holds no YAML", id="no YAML"),
        pytest.param("kind: Other", "holds no ClusterConfiguration of kubeadm", id="something else"),
    ],
)
def test_rollout_waits_for_a_configuration_that_can_be_read(text: str | None, words: str) -> None:
    world = running(3)
    stored = world.stored("ConfigMap", "kubeadm-config", CLUSTER)
    assert stored is not None
    stored["data"] = {} if text is None else {"ClusterConfiguration": text}
    change(world, version="v1.35.0")
    assert not mutations(world.live())
    world.later(6)
    world.settle_kcp()
    assert words in world.told("RollingOut")[2]
    assert world.plan(KIND, "demo-cp").requeue_after == timedelta(seconds=15)


def test_configuration_of_old_kubeadm_is_understood() -> None:
    world = running(1, version="v1.30.4")
    stored = world.stored("ConfigMap", "kubeadm-config", CLUSTER)
    assert stored is not None
    old = {
        **configuration(world),
        "apiVersion": "kubeadm.k8s.io/v1beta2",
        "dns": {"type": "CoreDNS", "imageTag": "v1.11.3"},
        "useHyperKubeImage": False,
        "etcd": {"local": {"dataDir": "/var/lib/etcd", "extraArgs": {"b": "2", "a": "1"}}},
    }
    stored["data"]["ClusterConfiguration"] = yaml.safe_dump(old)
    change(world, version="v1.31.0")
    world.live()
    new = configuration(world)
    assert new["apiVersion"] == "kubeadm.k8s.io/v1beta4"
    assert new["dns"] == {"imageTag": "v1.11.3"}
    assert new["etcd"] == {"local": {"dataDir": "/var/lib/etcd", "extraArgs": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]}}
    assert "useHyperKubeImage" not in new


def test_permissions_are_looked_at_once_and_made_once() -> None:
    world = running(3, version="v1.30.4")
    change(world, version="v1.31.0")
    taken = world.live()
    made = [step.key.name for step in taken if isinstance(step, Create) and step.key.kind == "ClusterRoleBinding"]
    # the other one is there since kubeadm init
    assert made == ["kubeadm:apiserver-kubelet-client"]
    queries = [step.query for step in taken if isinstance(step, Look) and "ClusterRoleBinding" in step.query]
    assert sorted(queries) == sorted([*{*queries}, queries[-1]])
    binding = world.stored("ClusterRoleBinding", "kubeadm:apiserver-kubelet-client", CLUSTER)
    assert binding is not None
    assert binding["roleRef"]["name"] == "system:kubelet-api-admin"
    assert binding["subjects"][0]["name"] == "kube-apiserver-kubelet-client"


def test_nothing_is_rolled_while_the_workload_cluster_cannot_be_read() -> None:
    world = running(3)
    world.connected = False
    change(world, version="v1.35.0")
    assert not mutations(world.settle_kcp())
    assert "waiting for the connection to the workload cluster" in world.told("RollingOut")[2]
    world.connected = True
    assert len(mutations(world.settle_kcp())) == 1


def test_rollout_waits_for_a_sick_machine_unless_it_is_the_one_that_goes() -> None:
    world = running(3)
    sick = world.names()[1]
    ill = [pod for pod in world.pods if pod["metadata"]["name"] == f"kube-scheduler-{sick}"]
    ill[0]["status"] = {"phase": "Failed"}
    change(world, version="v1.35.0")
    assert not mutations(world.settle_kcp())
    world.later(6)
    world.settle_kcp()
    assert "waiting for control plane components to become healthy" in world.told("RollingOut")[2]
    world = running(3, rollout=NO_SURGE)
    sick = world.names()[1]
    ill = [pod for pod in world.pods if pod["metadata"]["name"] == f"kube-scheduler-{sick}"]
    ill[0]["status"] = {"phase": "Failed"}
    change(world, version="v1.35.0")
    (first,) = mutations(world.settle_kcp())
    assert isinstance(first, Delete)
    assert first.key.name == sick
    assert first.reason.startswith("rollout: Version v1.34.2, v1.35.0 required")


def test_user_may_name_the_machine_that_goes_first() -> None:
    world = running(3, rollout=NO_SURGE)
    chosen = world.names()[2]
    world.edit("Machine", chosen, {"metadata": {"annotations": {"cluster.x-k8s.io/delete-machine": ""}}})
    change(world, version="v1.35.0")
    (first,) = mutations(world.settle_kcp())
    assert first.key.name == chosen  # type: ignore[union-attr]


def test_new_machines_are_spread_over_failure_domains_whatever_the_old_ones_do() -> None:
    world = fleet(3)
    domains = [{"name": name, "controlPlane": True} for name in ("a", "b", "c")]
    world.edit("Cluster", "demo", {"status": {"failureDomains": domains}})
    world.live()
    assert sorted(one["spec"]["failureDomain"] for one in world.machines()) == ["a", "b", "c"]
    change(world, version="v1.35.0")
    world.live()
    assert sorted(one["spec"]["failureDomain"] for one in world.machines()) == ["a", "b", "c"]
    # a domain that is gone is left with the next rollout, and by its Machine first
    world.edit("Cluster", "demo", {"status": {"failureDomains": domains[1:]}})
    assert not mutations(world.live())
    change(world, version="v1.36.0")
    first: list[Step] = []
    while not any(isinstance(step, Delete) for step in first):
        first += mutations(world.settle_kcp())
        for name in world.coming():
            world.later(30)
            world.provision(name)
            world.later(3)
    gone = next(step.key.name for step in first if isinstance(step, Delete))
    assert world.machine(gone)["spec"]["failureDomain"] == "a"
    world.live()
    assert sorted(one["spec"]["failureDomain"] for one in world.machines()) in (["b", "b", "c"], ["b", "c", "c"])


def test_rollout_by_time_is_waited_for() -> None:
    world = running(3)
    change(world, rollout={"after": "2026-01-09T00:00:00Z"})
    world.settle_kcp()
    for name in world.names():
        world.edit("Machine", name, {"status": {"certificatesExpiryDate": "2026-01-20T00:00:00Z"}})
    wait = world.plan(KIND, "demo-cp").requeue_after
    assert wait is not None
    assert wait <= timedelta(minutes=5)  # etcd is asked before
    change(world, rollout={"after": None, "before": {"certificatesExpiryDays": 7}})
    world.settle_kcp()
    world.at += timedelta(days=20)
    world.settle_kcp()
    assert len(world.machines()) == 4
    assert "Certificates will expire soon" in world.told("RollingOut")[2]


def test_change_in_the_middle_of_a_rollout_is_taken_up() -> None:
    world = running(3)
    change(world, version="v1.35.0")
    world.settle_kcp()
    world.later(30)
    world.provision(world.coming()[0])
    world.later(3)
    change(world, kubeadmConfigSpec={"verbosity": 3})
    world.live()
    assert len(world.machines()) == 3
    for one in world.machines():
        config = world.stored("KubeadmConfig", one["metadata"]["name"])
        assert config is not None
        assert config["spec"]["verbosity"] == 3
        assert one["spec"]["version"] == "v1.35.0"


def test_members_go_only_by_the_hook_and_after_leadership_moved() -> None:
    world = running(3)
    leader = world.names()[0]
    world.leader = next(one["id"] for one in world.members if one["name"] == leader)
    change(world, version="v1.35.0")
    taken = world.live()
    removed = [step.member_name for step in taken if isinstance(step, EtcdRemoveMember)]
    deleted = [step.key.name for step in taken if isinstance(step, Delete) and step.key.kind == "Machine"]
    assert removed == deleted
    assert len(removed) == 3
    assert leader in removed
    assert not [step for step in taken if isinstance(step, Apply) and step.key.kind == "Machine" and not step.subresource]
