"""What a KubeadmControlPlane says of its Machines, their pods, Nodes and etcd members, and what is out of date."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fleetwake.kind import Looked
from services.reconcilers.kinds.kubeadm_control_plane import KIND
from tests.decide.control_plane_fleet import (
    fleet,
    running,
    writes,
)
from tests.decide.world import Json


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
    (name,) = (machine["metadata"]["name"] for machine in world.machines())
    world.at += timedelta(hours=1)
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": change})
    world.settle_kcp()
    status, reason, text = world.condition_of("Machine", name, "UpToDate")
    assert (status, reason) == ("False", "NotUpToDate")
    assert message in text
    assert world.told("RollingOut")[2].startswith("Rolling out 1 not up-to-date replicas")
    assert world.kcp()["status"]["upToDateReplicas"] == len(world.machines()) - 1


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
