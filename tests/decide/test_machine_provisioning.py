"""A Machine on its way to a Node: ownership, latches, conditions, phases, pause, crashes and silence."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fleetwake.conditions import wire_time
from fleetwake.kind import Change
from fleetwake.plan import Apply, Patch
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from services.reconcilers.kinds.machine import KIND
from services.reconcilers.kinds.machine.conditions import group_components
from tests.decide.machine_world import CORE, cluster, condition, config, infra, machine, node, ref, stored, workload, world
from tests.decide.world import NOW, FakeView, Json, plan_writes

MACHINE_OWNER = {"apiVersion": CORE, "kind": "Machine", "name": "m1", "uid": "uid-Machine-m1", "controller": True, "blockOwnerDeletion": True}
CLUSTER_OWNER = {"apiVersion": CORE, "kind": "Cluster", "name": "demo", "uid": "uid-Cluster-demo"}
SET_OWNER = {"apiVersion": CORE, "kind": "MachineSet", "name": "ms", "uid": "uid-MachineSet-ms", "controller": True, "blockOwnerDeletion": True}


def made(name: str = "m1", **changes: Any) -> Json:
    """A Machine of a MachineSet of a MachineDeployment."""
    labels = {"cluster.x-k8s.io/set-name": "ms", "cluster.x-k8s.io/deployment-name": "md", "cluster.x-k8s.io/cluster-name": "demo"}
    return machine(name, **({"labels": labels, "ownerReferences": [SET_OWNER]} | changes))


def template(kind: str, name: str, *, version: str = "v1.35.0", spec: Json | None = None, **metadata: Any) -> Json:
    """The set ``ms`` or the deployment ``md``."""
    of = {"clusterName": "demo", "version": version, "bootstrap": {"configRef": ref("T", "t", "b.x")}, "infrastructureRef": ref("U", "u", "i.x")}
    meta = {"name": name, "namespace": "default"} | metadata
    return {"apiVersion": CORE, "kind": kind, "metadata": meta, "spec": {"clusterName": "demo", "selector": {}, "template": {"spec": of}} | (spec or {})}


def makers(*, wanted: str = "v1.35.0", rollout: Json | None = None) -> list[Json]:
    deployment = template("MachineDeployment", "md", version=wanted, spec={"rollout": rollout} if rollout else None)
    return [template("MachineSet", "ms", labels={"cluster.x-k8s.io/deployment-name": "md"}), deployment]


def settled(*objects: Json) -> FakeView:
    view = world(cluster(), *objects)
    view.settle(KIND, "default", "m1")
    return view


def test_one_run_does_everything() -> None:
    view = world(cluster(), machine(finalizers=[]), config(), infra())
    first, second = view.settle(KIND, "default", "m1")
    assert [step.key.kind for step in plan_writes(first)] == ["Machine", "FooConfig", "FooMachine", "Node", "Machine"]
    assert not second.writes and second.requeue_after is None
    found = stored(view, "Machine")
    assert found["metadata"]["finalizers"] == ["machine.cluster.x-k8s.io"]
    assert found["metadata"]["ownerReferences"] == [CLUSTER_OWNER]
    assert found["spec"]["bootstrap"]["dataSecretName"] == "m1" and found["spec"]["providerID"] == "foo://m1"
    status = found["status"]
    assert status["initialization"] == {"infrastructureProvisioned": True, "bootstrapDataSecretCreated": True}
    assert status["nodeRef"] == {"name": "m1"} and status["nodeInfo"]["kubeletVersion"] == "v1.35.0"
    assert (status["failureDomain"], status["addresses"]) == ("fd1", [{"type": "InternalIP", "address": "10.0.0.1"}])
    assert status["observedGeneration"] == found["metadata"]["generation"] == 2
    assert (status["phase"], status["lastUpdated"]) == ("Running", "2026-01-02T03:04:05Z")
    for type_ in ("Ready", "Available", "NodeHealthy", "NodeReady"):
        assert condition(view, type_)["status"] == "True"
    for kind in ("FooConfig", "FooMachine"):
        assert stored(view, kind)["metadata"]["ownerReferences"] == [MACHINE_OWNER]


@pytest.mark.parametrize("writes", range(6))
def test_a_crash_after_any_step_is_repaired(writes: int) -> None:
    objects = (cluster(), machine(finalizers=[]), config(), infra())
    view, whole = world(*objects), settled(*objects[1:])
    view.run(KIND, "default", "m1", limit=writes)
    view.settle(KIND, "default", "m1")
    assert stored(view, "Machine")["status"] == stored(whole, "Machine")["status"]
    assert stored(view, "FooMachine")["metadata"]["ownerReferences"] == [MACHINE_OWNER]


def test_no_cluster_no_decision() -> None:
    view = world(machine(), config(), infra())
    assert view.run(KIND, "default", "m1").steps == ()


@pytest.mark.parametrize(
    ("metadata", "adopted"),
    [
        pytest.param({}, True, id="standalone"),
        pytest.param({"labels": {"cluster.x-k8s.io/set-name": "x"}}, False, id="of-a-set"),
        pytest.param({"labels": {"cluster.x-k8s.io/pool-name": "x"}}, False, id="of-a-pool"),
        pytest.param({"labels": {"cluster.x-k8s.io/control-plane-name": "x"}}, False, id="of-a-control-plane"),
        pytest.param({"ownerReferences": [SET_OWNER]}, False, id="controlled"),
    ],
)
def test_adoption_by_the_cluster(metadata: Json, adopted: bool) -> None:
    view = settled(machine(**metadata), config(), infra())
    owners = stored(view, "Machine")["metadata"].get("ownerReferences", [])
    assert (CLUSTER_OWNER in owners) is adopted


def test_the_maker_of_config_and_infrastructure_gives_way() -> None:
    view = settled(made(), config(ownerReferences=[SET_OWNER]), infra(ownerReferences=[SET_OWNER]))
    assert stored(view, "FooConfig")["metadata"]["ownerReferences"] == [MACHINE_OWNER]
    assert stored(view, "FooMachine")["metadata"]["ownerReferences"] == [MACHINE_OWNER]


@pytest.mark.parametrize(
    ("objects", "expected", "phase"),
    [
        pytest.param([], ({}, None), "Pending", id="nothing-yet"),
        pytest.param([config(done=False), infra(done=False)], ({}, None), "Pending", id="both-starting"),
        pytest.param([config(), infra(done=False)], ({"bootstrapDataSecretCreated": True}, None), "Provisioning", id="data"),
        pytest.param([config(), infra() | {"spec": {}}], ({"bootstrapDataSecretCreated": True}, None), "Provisioning", id="provisioned-without-identity-waits"),
        pytest.param([config(), infra()], ({"bootstrapDataSecretCreated": True, "infrastructureProvisioned": True}, "foo://m1"), "Provisioned", id="host"),
        pytest.param(
            [config() | {"status": {"initialization": {"dataSecretCreated": True}}}, infra(done=False)], ({}, None), "Pending", id="data-without-name-waits"
        ),
    ],
)
def test_latches_and_phase(objects: list[Json], expected: tuple[Json, str | None], phase: str) -> None:
    view = world(cluster(), machine(), *objects, found=workload())
    view.settle(KIND, "default", "m1")
    found = stored(view, "Machine")
    assert (found["status"].get("initialization", {}), found["spec"].get("providerID")) == expected
    assert found["status"]["phase"] == phase


def test_latches_never_fall_back() -> None:
    view = settled(machine(), config(), infra())
    stored(view, "FooMachine")["status"] = {}
    stored(view, "FooConfig")["status"] = {}
    view.settle(KIND, "default", "m1")
    assert stored(view, "Machine")["status"]["initialization"] == {"infrastructureProvisioned": True, "bootstrapDataSecretCreated": True}
    assert condition(view, "InfrastructureReady")["status"] == "True"


@pytest.mark.parametrize(
    ("contract", "spec", "status"),
    [
        pytest.param("v1beta2", {"providerID": "foo://m1"}, {"initialization": {"provisioned": True}, "failureDomain": "a"}, id="v1beta2"),
        pytest.param("v1beta1", {"providerID": "foo://m1", "failureDomain": "b"}, {"ready": True}, id="v1beta1"),
    ],
)
def test_both_contracts(contract: str, spec: Json, status: Json) -> None:
    view = FakeView(
        [cluster(), machine(), config(), infra() | {"spec": spec, "status": status}],
        contracts={GroupKind("infrastructure.example.org", "FooMachine"): contract},
    )
    view.settle(KIND, "default", "m1")
    found = stored(view, "Machine")
    assert found["status"]["initialization"]["infrastructureProvisioned"] is True
    assert found["spec"].get("failureDomain", found["status"].get("failureDomain")) == {"v1beta2": "a", "v1beta1": "b"}[contract]


def test_a_missing_reference_is_looked_for_again() -> None:
    view = world(cluster(), machine(), config())
    assert view.run(KIND, "default", "m1").requeue_after == timedelta(seconds=30)
    told = condition(view, "InfrastructureReady")
    assert (told["status"], told["reason"]) == ("False", "ObjectDoesNotExist")
    assert told["message"] == "FooMachine default/m1 does not exist: create it or correct spec.infrastructureRef"


def test_a_missing_configuration_is_named_with_its_field() -> None:
    view = world(cluster(), machine(), infra())
    view.run(KIND, "default", "m1")
    told = condition(view, "BootstrapConfigReady")
    assert (told["status"], told["reason"]) == ("False", "ObjectDoesNotExist")
    assert told["message"] == "FooConfig default/m1 does not exist: create it or correct spec.bootstrap.configRef"


def test_an_object_that_the_owner_is_just_making_needs_no_remedy_until_it_is_overdue() -> None:
    owner = {"apiVersion": CORE, "kind": "MachineSet", "name": "set", "uid": "uid-set", "controller": True}
    view = world(cluster(), machine(ownerReferences=[owner], creationTimestamp=wire_time(NOW)), config())
    plan = view.run(KIND, "default", "m1")
    assert condition(view, "InfrastructureReady")["message"] == "FooMachine does not exist"
    assert plan.requeue_after is not None
    view.later(plan.requeue_after.total_seconds())
    view.run(KIND, "default", "m1")
    assert condition(view, "InfrastructureReady")["message"] == "FooMachine default/m1 does not exist: create it or correct spec.infrastructureRef"


def test_a_kind_without_a_contract_is_named_with_its_field() -> None:
    kind = GroupKind("infrastructure.example.org", "FooMachine")
    view = FakeView([cluster(), machine(), config()], unknown_kinds=frozenset({kind}))
    view.run(KIND, "default", "m1")
    told = condition(view, "InfrastructureReady")
    assert (told["status"], told["reason"]) == ("Unknown", "InternalError")
    for words in ("FooMachine.infrastructure.example.org", "FooMachine default/m1", "install or upgrade its provider", "correct spec.infrastructureRef"):
        assert words in told["message"]


def test_infrastructure_deleted_under_a_running_machine() -> None:
    view = settled(machine(), config(), infra())
    del view.store[ObjectKey("infrastructure.example.org", "FooMachine", "default", "m1")]
    view.run(KIND, "default", "m1")
    text = "FooMachine default/m1 of spec.infrastructureRef has been deleted while the Machine still exists: delete the Machine to have it replaced"
    assert condition(view, "InfrastructureReady")["message"] == text
    assert condition(view, "Ready")["message"] == f"* InfrastructureReady: {text}"


def test_data_provided_by_the_user() -> None:
    view = settled(machine(spec={"bootstrap": {"dataSecretName": "mine"}}), infra())
    assert condition(view, "BootstrapConfigReady")["reason"] == "DataSecretProvided"
    assert condition(view, "Ready")["status"] == "True"
    assert stored(view, "Machine")["status"]["initialization"]["bootstrapDataSecretCreated"] is True


def test_a_pools_machine_waits_for_no_data_of_its_own() -> None:
    view = settled(machine(spec={"bootstrap": {"dataSecretName": ""}}), infra(done=False))
    found = stored(view, "Machine")
    assert found["status"]["initialization"] == {"bootstrapDataSecretCreated": True} and found["status"]["phase"] == "Provisioning"
    assert found["spec"]["bootstrap"] == {"dataSecretName": ""}


@pytest.mark.parametrize(
    ("objects", "metadata", "expected"),
    [
        pytest.param([], {}, None, id="no-deployment-no-condition"),
        pytest.param(makers(), {}, ("True", "UpToDate", ""), id="up-to-date"),
        pytest.param(makers(wanted="v1.36.0"), {}, ("False", "NotUpToDate", "* Version v1.35.0, v1.36.0 required"), id="version"),
        pytest.param(
            makers(rollout={"after": "2026-01-02T03:04:00Z"}), {}, ("False", "NotUpToDate", "* MachineDeployment spec.rolloutAfter expired"), id="rollout-after"
        ),
        pytest.param(makers(rollout={"after": "2026-01-02T04:04:00Z"}), {}, ("True", "UpToDate", ""), id="rollout-after-in-the-future"),
        pytest.param(
            makers(),
            {"annotations": {"in-place-updates.internal.cluster.x-k8s.io/update-in-progress": ""}},
            ("False", "Updating", "* In-place update in progress"),
            id="updating-in-place",
        ),
    ],
)
def test_up_to_date(objects: list[Json], metadata: Json, expected: tuple[str, str, str] | None) -> None:
    view = world(cluster(), made(**metadata), config(), infra(), *objects)
    view.run(KIND, "default", "m1")
    found = [one for one in stored(view, "Machine")["status"]["conditions"] if one["type"] == "UpToDate"]
    assert [(one["status"], one["reason"], one["message"]) for one in found] == ([expected] if expected is not None else [])


def test_up_to_date_waits_for_the_kubelet() -> None:
    objects = [cluster(), made(spec={"version": "v1.35.1"}), config(), infra(), *makers()]
    view = world(*objects)
    view.run(KIND, "default", "m1")
    assert condition(view, "UpToDate")["message"] == "* Node.status.nodeInfo.kubeletVersion v1.35.0, v1.35.1 required"


def test_rollout_after_in_the_future_is_waited_for() -> None:
    view = world(cluster(), made(), config(), infra(), *makers(rollout={"after": "2026-01-02T03:04:15Z"}))
    assert view.run(KIND, "default", "m1").requeue_after == timedelta(seconds=10)


def test_available_after_min_ready_seconds() -> None:
    view = world(cluster(), machine(spec={"minReadySeconds": 10}), config(), infra())
    assert view.run(KIND, "default", "m1").requeue_after == timedelta(seconds=10)
    assert condition(view, "Available")["reason"] == "WaitingForMinReadySeconds"
    view.later(4)
    plan = view.run(KIND, "default", "m1")
    assert not plan.writes and plan.requeue_after == timedelta(seconds=6)
    view.later(6)
    view.run(KIND, "default", "m1")
    assert condition(view, "Available")["status"] == "True"


def test_readiness_gates_and_health_check_count() -> None:
    gates = [{"conditionType": "APIServerPodHealthy"}, {"conditionType": "EtcdPodHealthy"}, {"conditionType": "Bad", "polarity": "Negative"}]
    told = [("APIServerPodHealthy", "False"), ("EtcdPodHealthy", "False"), ("Bad", "False"), ("HealthCheckSucceeded", "False")]
    conditions = [{"type": t, "status": s, "reason": "R", "message": f"{s} m", "lastTransitionTime": "2026-01-01T00:00:00Z"} for t, s in told]
    view = settled(machine(spec={"readinessGates": gates}) | {"status": {"conditions": conditions}}, config(), infra())
    assert condition(view, "Ready")["message"] == "* HealthCheckSucceeded: False m\n* Control plane components: False m"
    assert condition(view, "HealthCheckSucceeded")["message"] == "False m"


@pytest.mark.parametrize(
    ("bullets", "expected"),
    [
        pytest.param(["* APIServerPodHealthy: x", "* Deleting: y"], ["* APIServerPodHealthy: x", "* Deleting: y"], id="one-is-no-group"),
        pytest.param(["* APIServerPodHealthy: x", "* SchedulerPodHealthy: y"], ["* APIServerPodHealthy: x", "* SchedulerPodHealthy: y"], id="differ"),
        pytest.param(["* A: b", "* SchedulerPodHealthy: x", "* B: c", "* EtcdPodHealthy: x"], ["* A: b", "* Control plane components: x", "* B: c"], id="same"),
    ],
)
def test_group_components(bullets: list[str], expected: list[str]) -> None:
    assert group_components(bullets) == expected


@pytest.mark.parametrize(
    ("own", "configured", "expected"),
    [
        pytest.param("2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z", "2027-01-01T00:00:00Z", id="machine-wins"),
        pytest.param(None, "2028-01-01T00:00:00Z", "2028-01-01T00:00:00Z", id="configuration"),
        pytest.param("soon", None, None, id="unreadable"),
        pytest.param(None, None, None, id="none"),
    ],
)
def test_certificates_expiry(own: str | None, configured: str | None, expected: str | None) -> None:
    name = "machine.cluster.x-k8s.io/certificates-expiry"
    noted = [{name: text} if text else {} for text in (own, configured)]
    view = settled(machine(labels={"cluster.x-k8s.io/control-plane": ""}, annotations=noted[0]), config(annotations=noted[1]), infra())
    assert stored(view, "Machine")["status"].get("certificatesExpiryDate") == expected
    stored(view, "Machine")["metadata"]["annotations"] = {}
    stored(view, "FooConfig")["metadata"]["annotations"] = {}
    view.settle(KIND, "default", "m1")
    assert "certificatesExpiryDate" not in stored(view, "Machine")["status"]


def test_pause_writes_its_condition_once_and_nothing_else() -> None:
    view = settled(made(), config(), infra(), *makers())
    before = {one["type"] for one in stored(view, "Machine")["status"]["conditions"]}
    stored(view, "Cluster", "demo")["spec"]["paused"] = True
    stored(view, "FooMachine")["metadata"]["ownerReferences"] = []
    assert [type(step) for step in plan_writes(view.run(KIND, "default", "m1"))] == [Apply]
    assert condition(view, "Paused")["message"] == "Cluster spec.paused is set to true"
    assert {one["type"] for one in stored(view, "Machine")["status"]["conditions"]} == before
    assert not view.run(KIND, "default", "m1").writes
    stored(view, "Cluster", "demo")["spec"]["paused"] = False
    assert [type(step) for step in plan_writes(view.run(KIND, "default", "m1"))] == [Patch, Apply]
    assert condition(view, "Paused")["reason"] == "NotPaused"


# --- what wakes a Machine


def change(before: Json | None, after: Json | None, namespace: str = "default", cluster_name: str = "") -> Change:
    state = after or before or {}
    key = ObjectKey(str(state["apiVersion"]).rpartition("/")[0], state["kind"], namespace, state["metadata"]["name"], cluster_name)
    return Change(key, ClusterKey("default", "demo"), before, after)


def woken(view: FakeView, happened: Change) -> list[str]:
    kind = happened.key.group_kind
    named = [watch for watch in KIND.watches if watch.source == kind]
    fitting = named or [watch for watch in KIND.watches if watch.source.kind == "*"]
    return [key.name for watch in fitting if watch.matters(happened) for key in watch.concerns(happened, view)]


def heartbeat(found: Json) -> Json:
    conditions = [one | {"lastHeartbeatTime": "2026-01-02T03:05:00Z"} for one in found["status"]["conditions"]]
    return found | {"status": found["status"] | {"conditions": conditions}}


@pytest.mark.parametrize(
    ("happened", "names"),
    [
        pytest.param(change(node(), heartbeat(node())), [], id="heartbeat"),
        pytest.param(change(node(), node(ready="False")), ["m1"], id="node-not-ready"),
        pytest.param(change(None, node("m2")), ["m2"], id="node-comes-by-identity"),
        pytest.param(change(cluster(), cluster(spec=cluster()["spec"] | {"paused": True})), ["m1", "m2"], id="pause"),
        pytest.param(change(cluster(), cluster(status={"phase": "Provisioned"} | cluster()["status"])), [], id="cluster-status-not-read"),
        pytest.param(change(infra(done=False), infra()), ["m1"], id="infra-without-owner-yet"),
        pytest.param(change(infra(ownerReferences=[MACHINE_OWNER]), None), ["m1"], id="infra-gone"),
        pytest.param(change(template("MachineSet", "ms"), template("MachineSet", "ms", spec={"replicas": 3})), [], id="set-scaled"),
        pytest.param(change(template("MachineSet", "ms", uid="uid-MachineSet-ms"), None), ["m1"], id="set-gone"),
        pytest.param(change(template("MachineDeployment", "md"), template("MachineDeployment", "md", version="v1.36.0")), ["m1"], id="deployment-template"),
        pytest.param(change(machine("m3"), machine("m3", labels={"a": "b"})), [], id="another-machine"),
    ],
)
def test_watches(happened: Change, names: list[str]) -> None:
    view = FakeView([cluster(), made(spec={"providerID": "foo://m1"}), machine("m2", spec={"providerID": "foo://m2"})])
    assert woken(view, happened) == names


def test_drain_rules_wake_machines_that_go_and_connections_wake_all() -> None:
    view = FakeView([cluster(), machine(), machine("m2", deletionTimestamp="2026-01-02T03:00:00Z")])
    rule: Json = {"apiVersion": CORE, "kind": "MachineDrainRule", "metadata": {"name": "r", "namespace": "default"}, "spec": {"drain": {"behavior": "Skip"}}}
    assert woken(view, change(None, rule)) == ["m2"]
    told = Change(ObjectKey("fleetwake", "Connection", "default", "demo"), ClusterKey("default", "demo"), None, {"event": "connected"})
    assert woken(view, told) == ["m1", "m2"]


def test_a_rebuilt_deployment_reference_is_followed_by_label_only() -> None:
    view = FakeView([cluster(), machine()])
    assert woken(view, change(None, template("MachineDeployment", "md"))) == []


def test_own_status_writes_wake_nobody_but_a_health_check_does() -> None:
    view = settled(machine(), config(), infra())
    found = stored(view, "Machine")
    edited = found | {"status": found["status"] | {"phase": "Pending"}}
    assert not KIND.own(change(found, edited))
    checked = [*found["status"]["conditions"], {"type": "HealthCheckSucceeded", "status": "False"}]
    assert KIND.own(change(found, found | {"status": found["status"] | {"conditions": checked}}))
    assert KIND.own(change(found, found | {"metadata": found["metadata"] | {"annotations": {"a": "b"}}}))
