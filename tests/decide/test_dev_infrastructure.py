"""DevCluster and DevMachine: what is written when, and that nothing is written without need."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fleetwake.kind import Change, Kind
from fleetwake.plan import Apply, Local, Patch, Plan
from schemas.keys import ClusterKey
from services.dev_infrastructure.kinds import dev_cluster, dev_machine
from services.dev_infrastructure.kinds.startup import go_duration, startup_duration
from services.dev_infrastructure.kinds.state import API_SERVER, ETCD, NODE, VM, ClusterState, MachineState
from tests.decide.world import NOW, FakeView, json_key, plan_writes

CORE, INFRA = "cluster.x-k8s.io/v1beta2", "infrastructure.cluster.x-k8s.io/v1beta2"
EVERYTHING = {VM: NOW, NODE: NOW, ETCD: NOW, API_SERVER: NOW}


def owner(kind: str, name: str) -> list[dict[str, Any]]:
    return [{"apiVersion": CORE, "kind": kind, "name": name, "uid": f"uid-{kind}-{name}", "controller": True}]


def cluster(**changes: Any) -> dict[str, Any]:
    ref = {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DevCluster", "name": "infra"}
    status = {"initialization": {"infrastructureProvisioned": True, "controlPlaneInitialized": True}}
    return {
        "apiVersion": CORE,
        "kind": "Cluster",
        "metadata": {"name": "demo", "namespace": "default"},
        "spec": {"infrastructureRef": ref, **changes.get("spec", {})},
        "status": changes.get("status", status),
    }


def dev(**meta: Any) -> dict[str, Any]:
    metadata = {"name": "infra", "namespace": "default", "ownerReferences": owner("Cluster", "demo"), **meta}
    return {"apiVersion": INFRA, "kind": "DevCluster", "metadata": metadata, "spec": {"backend": {"inMemory": {}}}}


def machine(name: str = "m", control_plane: bool = True, **spec: Any) -> dict[str, Any]:
    labels = {"cluster.x-k8s.io/cluster-name": "demo"} | ({"cluster.x-k8s.io/control-plane": ""} if control_plane else {})
    ref = {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DevMachine", "name": name}
    wanted = {"clusterName": "demo", "version": "v1.34.2", "infrastructureRef": ref, "bootstrap": {"dataSecretName": name}, "failureDomain": "fd1"}
    return {"apiVersion": CORE, "kind": "Machine", "metadata": {"name": name, "namespace": "default", "labels": labels}, "spec": wanted | spec}


def dev_of(name: str = "m", backend: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "ownerReferences": owner("Machine", name), "creationTimestamp": "2026-01-02T03:04:05Z", **meta}
    return {"apiVersion": INFRA, "kind": "DevMachine", "metadata": metadata, "spec": {"backend": {"inMemory": backend or {}}}}


def world(*objects: dict[str, Any], state: ClusterState | None = None) -> FakeView:
    return FakeView(objects, locals={"clusters": {"default/demo": state} if state is not None else {}})


def made(machines: dict[str, MachineState] | None = None) -> ClusterState:
    return ClusterState("uid-DevCluster-infra", "127.0.0.1", 20001, "", machines or {})


def actions(plan: Plan) -> list[str]:
    return [step.action for step in plan.steps if isinstance(step, Local)]


def conditions(view: FakeView, kind: str, name: str) -> dict[str, str]:
    found = next(obj for key, obj in view.sorted() if key.kind == kind and key.name == name)
    return {one["type"]: f"{one['status']}/{one['reason']}" for one in found.get("status", {}).get("conditions", ())}


# --- DevCluster --------------------------------------------------------------------------------------------------------------------------------


def test_cluster_is_ensured_then_written_in_two_writes() -> None:
    view = world(cluster(), dev())
    first = view.run(dev_cluster.KIND, "default", "infra")
    assert actions(first) == ["ensure_cluster"] and not plan_writes(first)
    view.locals = {"clusters": {"default/demo": made()}}
    second = view.run(dev_cluster.KIND, "default", "infra")
    patch, status = second.steps
    assert isinstance(patch, Patch) and isinstance(status, Apply)
    assert patch.body["spec"] == {"controlPlaneEndpoint": {"host": "127.0.0.1", "port": 20001}}
    assert patch.body["metadata"]["finalizers"] == ["dockercluster.infrastructure.cluster.x-k8s.io"]
    assert status.body["status"]["initialization"] == {"provisioned": True}
    assert {one["observedGeneration"] for one in status.body["status"]["conditions"]} == {2}
    assert not view.run(dev_cluster.KIND, "default", "infra").steps


def test_failure_domains_are_reported_as_told() -> None:
    view = world(cluster(), dev(annotations={"dev.fleetwake.io/failure-domains": "b, a,,b"}), state=made())
    view.run(dev_cluster.KIND, "default", "infra")
    found = next(obj for key, obj in view.sorted() if key.kind == "DevCluster")
    assert found["status"]["failureDomains"] == [{"name": "a", "controlPlane": True}, {"name": "b", "controlPlane": True}]
    del found["metadata"]["annotations"]["dev.fleetwake.io/failure-domains"]
    view.run(dev_cluster.KIND, "default", "infra")
    assert "failureDomains" not in found["status"]
    assert not view.run(dev_cluster.KIND, "default", "infra").steps


def test_promised_endpoint_is_asked_for_again() -> None:
    found = dev()
    found["spec"]["controlPlaneEndpoint"] = {"host": "10.0.0.9", "port": 24444}
    plan = world(cluster(), found).run(dev_cluster.KIND, "default", "infra")
    (step,) = plan.steps
    assert isinstance(step, Local) and (step.arguments["host"], step.arguments["port"]) == ("10.0.0.9", 24444)


def test_an_endpoint_that_the_user_gave_the_cluster_is_the_one_to_serve() -> None:
    given = {"host": "api.example.org", "port": 24445}
    view = world(cluster(spec={"controlPlaneEndpoint": given}), dev())
    (step,) = view.run(dev_cluster.KIND, "default", "infra").steps
    assert isinstance(step, Local) and (step.arguments["host"], step.arguments["port"]) == ("api.example.org", 24445)
    view.locals = {"clusters": {"default/demo": replace(made(), host="api.example.org", port=24445)}}
    view.run(dev_cluster.KIND, "default", "infra")
    found = next(obj for key, obj in view.sorted() if key.kind == "DevCluster")
    assert found["spec"]["controlPlaneEndpoint"] == given


def balanced(kind: str) -> dict[str, Any]:
    found = dev()
    found["spec"]["backend"]["inMemory"]["loadBalancer"] = {"type": kind}
    return found


def test_a_load_balancer_is_asked_for_and_told() -> None:
    view = world(cluster(), balanced("HAProxy"), state=made())
    (step,) = view.run(dev_cluster.KIND, "default", "infra").steps
    assert isinstance(step, Local) and step.arguments["balancer"] == "HAProxy"
    view.locals = {"clusters": {"default/demo": replace(made(), balancer="HAProxy")}}
    view.run(dev_cluster.KIND, "default", "infra")
    assert conditions(view, "DevCluster", "infra") == {
        "Ready": "True/Ready",
        "LoadBalancerAvailable": "True/Available",
        "Paused": "False/NotPaused",
    }
    assert not view.run(dev_cluster.KIND, "default", "infra").steps


def test_a_load_balancer_that_does_not_run_is_told_and_started_anew() -> None:
    view = world(cluster(), balanced("HAProxy"), state=replace(made(), balancer="HAProxy", balancer_failure="haproxy is not installed"))
    plan = view.run(dev_cluster.KIND, "default", "infra")
    assert actions(plan) == ["ensure_cluster"]
    found = next(obj for key, obj in view.sorted() if key.kind == "DevCluster")
    assert conditions(view, "DevCluster", "infra")["LoadBalancerAvailable"] == "False/NotAvailable"
    assert {one["message"] for one in found["status"]["conditions"] if one["type"] != "Paused"} == {"haproxy is not installed"}
    assert "initialization" not in found["status"] and "controlPlaneEndpoint" not in found["spec"], "there is no endpoint before something answers at it"


@pytest.mark.parametrize(("asked", "runs"), [("InProcess", ""), ("InProcess", "HAProxy"), ("", "HAProxy")])
def test_a_change_of_type_is_carried_out_and_told(asked: str, runs: str) -> None:
    view = world(cluster(), balanced(asked) if asked else dev(), state=replace(made(), balancer=runs))
    (step,) = view.run(dev_cluster.KIND, "default", "infra").steps
    assert isinstance(step, Local) and step.arguments["balancer"] == asked
    view.locals = {"clusters": {"default/demo": replace(made(), balancer=asked)}}
    view.run(dev_cluster.KIND, "default", "infra")
    assert ("LoadBalancerAvailable" in conditions(view, "DevCluster", "infra")) == bool(asked)


def test_port_that_cannot_be_had_is_told() -> None:
    view = world(cluster(), dev(), state=replace(made(), port=0, failure="port 20001 of 127.0.0.1: Address already in use"))
    plan = view.run(dev_cluster.KIND, "default", "infra")
    assert actions(plan) == ["ensure_cluster"]
    assert conditions(view, "DevCluster", "infra")["Ready"] == "False/NotReady"


@pytest.mark.parametrize(
    "objects",
    [
        pytest.param((cluster(), dev(ownerReferences=[])), id="no-owner"),
        pytest.param((dev(),), id="owner-unknown"),
        pytest.param((cluster(), dev(annotations={"cluster.x-k8s.io/managed-by": "me"})), id="externally-managed"),
    ],
)
def test_cluster_that_is_not_ours_is_left_alone(objects: tuple[dict[str, Any], ...]) -> None:
    assert not world(*objects).run(dev_cluster.KIND, "default", "infra").steps


def test_deleted_cluster_frees_its_port_first() -> None:
    view = world(cluster(), dev(deletionTimestamp="2026-01-02T03:00:00Z", finalizers=["dockercluster.infrastructure.cluster.x-k8s.io"]), state=made())
    plan = view.run(dev_cluster.KIND, "default", "infra")
    assert isinstance(plan.steps[0], Local) and plan.steps[0].action == "remove_cluster" and isinstance(plan.steps[1], Patch)
    assert not [key for key, _ in view.sorted() if key.kind == "DevCluster"]


def test_paused_cluster_says_so_once() -> None:
    view = world(cluster(spec={"paused": True}), dev())
    assert len(view.run(dev_cluster.KIND, "default", "infra").steps) == 1
    assert conditions(view, "DevCluster", "infra") == {"Ready": "Unknown/NotYetReported", "Paused": "True/Paused"}
    assert not view.run(dev_cluster.KIND, "default", "infra").steps


# --- DevMachine --------------------------------------------------------------------------------------------------------------------------------


def test_machine_without_durations_takes_two_writes() -> None:
    view = world(cluster(), dev(), machine(), dev_of(), state=made())
    first = view.run(dev_machine.KIND, "default", "m")
    patch, ensure = first.steps
    assert isinstance(patch, Patch) and patch.body["spec"] == {"providerID": "in-memory://m"} and patch.body["metadata"]["finalizers"]
    assert isinstance(ensure, Local) and ensure.arguments["stages"] == [VM, NODE, ETCD, API_SERVER] and not ensure.arguments["again"]
    view.locals = {"clusters": {"default/demo": made({"uid-DevMachine-m": MachineState(NOW, EVERYTHING)})}}
    second = view.run(dev_machine.KIND, "default", "m")
    (status,) = second.steps
    assert isinstance(status, Apply)
    body = status.body["status"]
    assert body["initialization"] == {"provisioned": True} and body["failureDomain"] == "fd1"
    assert [one["type"] for one in body["addresses"]] == ["Hostname", "InternalIP"]
    assert conditions(view, "DevMachine", "m") == {
        "Ready": "True/Ready",
        "VMProvisioned": "True/Provisioned",
        "NodeProvisioned": "True/Provisioned",
        "EtcdProvisioned": "True/Provisioned",
        "APIServerProvisioned": "True/Provisioned",
        "Paused": "False/NotPaused",
    }
    assert view.run(dev_machine.KIND, "default", "m") == Plan()


def test_worker_has_two_stages() -> None:
    view = world(cluster(), dev(), machine(control_plane=False), dev_of(), state=made())
    ensure = view.run(dev_machine.KIND, "default", "m").steps[-1]
    assert isinstance(ensure, Local) and ensure.arguments["stages"] == [VM, NODE]
    view.locals = {"clusters": {"default/demo": made({"uid-DevMachine-m": MachineState(NOW, {VM: NOW, NODE: NOW})})}}
    view.run(dev_machine.KIND, "default", "m")
    assert set(conditions(view, "DevMachine", "m")) == {"Ready", "VMProvisioned", "NodeProvisioned", "Paused"}


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        pytest.param((cluster(status={}), dev(), machine(), dev_of()), "WaitingForClusterInfrastructureReady", id="infrastructure"),
        pytest.param((cluster(), machine(), dev_of()), "WaitingForClusterInfrastructureReady", id="dev-cluster"),
        pytest.param((cluster(), dev(), machine(bootstrap={}), dev_of()), "WaitingForBootstrapData", id="data"),
        pytest.param(
            (cluster(status={"initialization": {"infrastructureProvisioned": True}}), dev(), machine(control_plane=False, bootstrap={}), dev_of()),
            "WaitingForControlPlaneInitialized",
            id="control-plane",
        ),
    ],
)
def test_wait_is_told_only_when_it_lasts(objects: tuple[dict[str, Any], ...], reason: str) -> None:
    view = world(*objects)
    plan = view.run(dev_machine.KIND, "default", "m")
    assert not plan.steps and plan.requeue_after == dev_machine.WORTH_TELLING
    view.later(30)
    plan = view.run(dev_machine.KIND, "default", "m")
    assert len(plan.steps) == 1
    assert conditions(view, "DevMachine", "m")["VMProvisioned"] == f"False/{reason}"
    assert conditions(view, "DevMachine", "m")["NodeProvisioned"] == "False/WaitingForVMProvisioned"
    assert not view.run(dev_machine.KIND, "default", "m").steps


def slow(**durations: str) -> dict[str, Any]:
    return {stage: {"provisioning": {"startupDuration": duration}} for stage, duration in durations.items()}


def test_durations_are_timers() -> None:
    view = world(cluster(), dev(), machine(), dev_of(backend=slow(vm="10s", node="5s", etcd="1s", apiServer="1s")), state=made())
    plan = view.run(dev_machine.KIND, "default", "m")
    patch, ensure = plan.steps
    assert isinstance(patch, Patch) and "spec" not in patch.body, "the finalizer comes with the first effect, the identity with the host"
    assert isinstance(ensure, Local) and ensure.arguments["stages"] == [] and plan.requeue_after == timedelta(seconds=10)
    known: dict[str, Any] = {}
    view.locals = {"clusters": {"default/demo": made({"uid-DevMachine-m": MachineState(NOW, known)})}}
    plan = view.run(dev_machine.KIND, "default", "m")
    assert plan.requeue_after == timedelta(seconds=10)
    assert conditions(view, "DevMachine", "m")["VMProvisioned"] == "False/WaitingForStartupTimeout"
    view.later(10)
    patch, ensure = view.run(dev_machine.KIND, "default", "m").steps
    assert isinstance(patch, Patch) and patch.body["spec"] == {"providerID": "in-memory://m"}
    assert isinstance(ensure, Local) and ensure.arguments["stages"] == [VM]
    view.locals = {"clusters": {"default/demo": made({"uid-DevMachine-m": MachineState(NOW, {VM: view.at})})}}
    plan = view.run(dev_machine.KIND, "default", "m")
    assert plan.requeue_after == timedelta(seconds=5)
    told = conditions(view, "DevMachine", "m")
    assert (told["VMProvisioned"], told["NodeProvisioned"]) == ("True/Provisioned", "False/WaitingForStartupTimeout")
    assert told["EtcdProvisioned"] == "False/WaitingForNodeProvisioned"


def test_failed_bootstrap_is_told_and_not_repeated_with_the_same_data() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "m", "namespace": "default"}, "data": {"value": "one"}}
    view = world(cluster(), dev(), machine(), dev_of(), secret, state=made())
    ensure = view.run(dev_machine.KIND, "default", "m").steps[-1]
    assert isinstance(ensure, Local)
    failed = MachineState(NOW, {VM: NOW}, "the cloud-config is no YAML", ensure.arguments["data"])
    view.locals = {"clusters": {"default/demo": made({"uid-DevMachine-m": failed})}}
    plan = view.run(dev_machine.KIND, "default", "m")
    assert not actions(plan)
    assert conditions(view, "DevMachine", "m")["NodeProvisioned"] == "False/BootstrapFailed"
    assert conditions(view, "DevMachine", "m")["Ready"] == "False/NotReady"
    assert view.run(dev_machine.KIND, "default", "m") == Plan()
    view.put({**secret, "data": {"value": "two"}})
    assert actions(view.run(dev_machine.KIND, "default", "m")) == ["ensure_machine"]


def test_failure_that_may_pass_is_tried_again_later() -> None:
    failed = MachineState(NOW, {VM: NOW}, "get Secret default/demo-ca: there is none", "", NOW)
    view = world(cluster(), dev(), machine(), dev_of(), state=made({"uid-DevMachine-m": failed}))
    plan = view.run(dev_machine.KIND, "default", "m")
    assert not actions(plan) and plan.requeue_after == timedelta(seconds=30)
    view.later(30)
    assert actions(view.run(dev_machine.KIND, "default", "m")) == ["ensure_machine"]


def test_lost_emulation_is_rebuilt_at_once() -> None:
    found = dev_of(backend=slow(vm="1h", node="1h"), finalizers=["dockermachine.infrastructure.cluster.x-k8s.io"])
    found["spec"]["providerID"] = "in-memory://m"
    told = [
        {"type": name, "status": "True", "reason": "Provisioned", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        for name in ("VMProvisioned", "NodeProvisioned")
    ]
    found["status"] = {"initialization": {"provisioned": True}, "conditions": told}
    view = world(cluster(), dev(), machine(control_plane=False), found)
    plan = view.run(dev_machine.KIND, "default", "m")
    assert actions(plan) == ["ensure_cluster", "ensure_machine"]
    last = plan.steps[-1]
    assert isinstance(last, Local) and last.arguments["stages"] == [VM, NODE] and last.arguments["again"]


def test_a_host_that_ran_elsewhere_is_taken_over_as_it_is() -> None:
    found = dev_of(backend=slow(vm="1h", node="1h"), finalizers=["dockermachine.infrastructure.cluster.x-k8s.io"])
    found["spec"]["providerID"] = "in-memory://m"
    plan = world(cluster(), dev(), machine(control_plane=False), found).run(dev_machine.KIND, "default", "m")
    last = plan.steps[-1]
    assert isinstance(last, Local) and last.arguments["stages"] == [VM, NODE] and last.arguments["again"], "no token is asked for a second time"


def test_deleted_machine_goes_without_its_owner() -> None:
    view = world(dev_of(deletionTimestamp="2026-01-02T03:00:00Z", finalizers=["dockermachine.infrastructure.cluster.x-k8s.io"]))
    plan = view.run(dev_machine.KIND, "default", "m")
    assert actions(plan) == ["remove_machine"] and isinstance(plan.steps[-1], Patch)
    assert not list(view.sorted())


def test_paused_machine_is_not_deleted() -> None:
    deleted = dev_of(deletionTimestamp="2026-01-02T03:00:00Z", finalizers=["dockermachine.infrastructure.cluster.x-k8s.io"])
    view = world(cluster(spec={"paused": True}), dev(), machine(), deleted, state=made())
    (step,) = view.run(dev_machine.KIND, "default", "m").steps
    assert isinstance(step, Apply)


def test_malformed_duration_is_told() -> None:
    view = world(cluster(), dev(), machine(), dev_of(backend=slow(vm="soon")), state=made())
    view.run(dev_machine.KIND, "default", "m")
    assert conditions(view, "DevMachine", "m")["VMProvisioned"] == "False/InternalError"


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("10s", 10), ("1m30s", 90), ("1.5h", 5400), ("250ms", 0.25), ("1h1m1s", 3661)])
def test_go_durations(text: str, seconds: float) -> None:
    assert go_duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "10", "s", "-5s", "5 s", "1d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        go_duration(text)


def test_jitter_is_the_machine_s_own() -> None:
    from schemas.api.infrastructure.v1beta2 import Provisioning

    wanted = Provisioning(startup_duration="10s", startup_jitter="0.5")
    found = {startup_duration(wanted, f"uid-{number}", VM) for number in range(20)}
    assert len(found) == 20 and all(timedelta(seconds=10) <= one <= timedelta(seconds=15) for one in found)
    assert startup_duration(wanted, "uid-1", VM) == startup_duration(wanted, "uid-1", VM)


# --- what wakes them ---------------------------------------------------------------------------------------------------------------------------


def woken(kind: Kind[Any], before: dict[str, Any] | None, after: dict[str, Any] | None, view: FakeView) -> set[str]:
    key = json_key(after or before or {})
    change = Change(key, ClusterKey("default", "demo"), before, after)
    watches = [watch for watch in kind.watches if watch.source == key.group_kind and watch.matters(change)]
    return {found.name for watch in watches for found in watch.concerns(change, view)}


def test_machine_is_woken_by_its_data_and_its_cluster() -> None:
    others = {"metadata": {"labels": {"cluster.x-k8s.io/cluster-name": "demo"}}}
    found = dev_of(labels=others["metadata"]["labels"])
    view = world(cluster(), dev(), machine(), found)
    kind = dev_machine.KIND
    assert woken(kind, machine(bootstrap={}), machine(), view) == {"m"}
    assert woken(kind, machine(), {**machine(), "status": {"phase": "Running"}}, view) == set(), "its Machine's status is told from ours"
    assert woken(kind, cluster(status={}), cluster(), view) == {"m"}
    assert woken(kind, cluster(), cluster(spec={"paused": True}), view) == {"m"}
    ready = dev()
    ready["spec"]["controlPlaneEndpoint"] = {"host": "127.0.0.1", "port": 20001}
    assert woken(kind, dev(), ready, view) == {"m"}
    assert woken(kind, ready, {**ready, "status": {"conditions": []}}, view) == set()


def test_dev_cluster_is_woken_by_its_cluster() -> None:
    view = world(cluster(), dev())
    assert woken(dev_cluster.KIND, None, cluster(), view) == {"infra"}
    assert woken(dev_cluster.KIND, cluster(), cluster(spec={"paused": True}), view) == {"infra"}
    assert woken(dev_cluster.KIND, cluster(), cluster(status={}), view) == set()
