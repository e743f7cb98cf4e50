"""MachinePool: what it takes over, the Machines and Nodes of its hosts, what it tells, how it goes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleetwake.kind import Change, Workload
from fleetwake.plan import Apply, Create, Delete, Patch, flatten
from schemas.keys import ObjectKey
from services.reconcilers.kinds.machine_pool import KIND
from tests.decide.machine_world import CLUSTER, cluster, config, infra, node, ref, workload
from tests.decide.pool_world import CLUSTER_KEY, NEXT, PoolWorld, hosts, pool
from tests.decide.world import FakeView, Json, plan_writes

GROUP = "infrastructure.example.org"


def foreign(done: bool = True, *, replicas: int = 2, kind: str = "", ids: tuple[str, ...] = ("foo://a", "foo://b"), **metadata: Any) -> Json:
    """Another provider's pool."""
    status: Json = {"ready": done, "replicas": replicas, **({"infrastructureMachineKind": kind} if kind else {})}
    meta = {"name": "scale-set", "namespace": "default", "finalizers": ["foo.example.org"]} | metadata
    return {"apiVersion": f"{GROUP}/v1", "kind": "FooMachinePool", "metadata": meta, "spec": {"providerIDList": list(ids)} if done else {}, "status": status}


def of_foreign(replicas: int | None = 2, *, template: Json | None = None, **changes: Any) -> Json:
    """A MachinePool on it, with a bootstrap configuration."""
    made = {"bootstrap": {"configRef": ref("FooConfig", "m1", "bootstrap.example.org")}, "infrastructureRef": ref("FooMachinePool", "scale-set")}
    return pool(replicas, template=made | (template or {}), **changes)


def world(*objects: Json, nodes: tuple[Json, ...] = ()) -> FakeView:
    return FakeView([cluster(), *objects], workloads={CLUSTER: workload(*nodes)})


def settled(*objects: Json, nodes: tuple[Json, ...] = ()) -> FakeView:
    view = world(*objects, nodes=nodes)
    view.settle(KIND, "default", "pool")
    return view


def stored(view: FakeView, kind: str = "MachinePool", name: str = "pool") -> Json:
    return next(obj for key, obj in view.store.items() if (key.kind, key.name) == (kind, name))


def told(view: FakeView, type_: str) -> tuple[str, str, str]:
    return next((one["status"], one["reason"], one["message"]) for one in stored(view)["status"]["conditions"] if one["type"] == type_)


def two() -> tuple[Json, ...]:
    return node("a"), node("b", ready="False")


# --- a pool of another provider, without Machines ------------------------------------------------------------------------------------------------


def test_it_owns_its_objects_and_takes_over_what_they_report() -> None:
    view = settled(of_foreign(), foreign(), config(), nodes=two())
    found = stored(view)
    assert found["metadata"]["finalizers"] == ["machinepool.cluster.x-k8s.io"]
    assert [(one["kind"], one["name"]) for one in found["metadata"]["ownerReferences"]] == [("Cluster", "demo")]
    assert found["spec"]["providerIDList"] == ["foo://a", "foo://b"] and found["spec"]["template"]["spec"]["bootstrap"]["dataSecretName"] == "m1"
    assert found["status"]["initialization"] == {"infrastructureProvisioned": True, "bootstrapDataSecretCreated": True}
    for kind, name in (("FooMachinePool", "scale-set"), ("FooConfig", "m1")):
        meta = stored(view, kind, name)["metadata"]
        (owner,) = meta["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("MachinePool", "pool", True)
        assert meta["labels"]["cluster.x-k8s.io/cluster-name"] == "demo"


def test_without_machines_its_nodes_are_counted_and_marked() -> None:
    fresh = node("a", taints=[{"key": "node.cluster.x-k8s.io/uninitialized", "effect": "NoSchedule"}, {"key": "mine", "effect": "NoExecute"}])
    view = settled(of_foreign(version=None), foreign(), config(), nodes=(fresh, node("b", ready="False"), node("stranger")))
    status = stored(view)["status"]
    assert [(one["name"], one["uid"]) for one in status["nodeRefs"]] == [("a", "uid-node-a"), ("b", "uid-node-b")]
    assert (status["replicas"], status["readyReplicas"], status["availableReplicas"], status["upToDateReplicas"]) == (2, 1, 1, 2)
    older = status["deprecated"]["v1beta1"]
    assert (older["readyReplicas"], older["availableReplicas"], older["unavailableReplicas"]) == (1, 1, 1)
    assert {one["type"]: one.get("reason", "") for one in older["conditions"] if one["status"] != "True"} == {
        "Ready": "WaitingForReplicasReady",
        "ReplicasReady": "WaitingForReplicasReady",
    }
    assert status["versions"] == [{"version": "v1.35.0", "replicas": 2}]
    assert status["phase"] == "ScalingUp" and told(view, "Available")[1:] == ("NotAvailable", "1 available replicas, at least 2 required")
    first, _, other = view.workloads[CLUSTER].nodes
    assert first["metadata"]["annotations"] == {
        "cluster.x-k8s.io/cluster-name": "demo",
        "cluster.x-k8s.io/cluster-namespace": "default",
        "cluster.x-k8s.io/owner-kind": "MachinePool",
        "cluster.x-k8s.io/owner-name": "pool",
    }
    assert first["spec"]["taints"] == [{"key": "mine", "effect": "NoExecute"}]
    assert "annotations" not in other["metadata"]
    assert "MachinesReady" not in {one["type"] for one in status["conditions"]}


def test_minimum_ready_time_is_waited_for() -> None:
    view = world(of_foreign(1, template={"minReadySeconds": 400}), foreign(replicas=1, ids=("foo://a",)), config())
    view.workloads = {CLUSTER: workload(node("a"))}
    view.settle(KIND, "default", "pool")
    assert told(view, "Available")[0] == "False"
    view.later(400)
    view.settle(KIND, "default", "pool")
    assert told(view, "Available")[0] == "True"


@pytest.mark.parametrize(
    ("done", "ready", "phase"),
    [(False, 0, "Provisioning"), (True, 0, "ScalingUp"), (True, 1, "ScalingUp"), (True, 2, "Running"), (True, 3, "ScalingDown")],
)
def test_phases(done: bool, ready: int, phase: str) -> None:
    names = [chr(ord("a") + number) for number in range(ready)]
    ids = tuple(f"foo://{name}" for name in names)
    view = settled(of_foreign(), foreign(done, replicas=ready, ids=ids), config(), nodes=tuple(node(name) for name in names))
    assert stored(view)["status"]["phase"] == phase


def test_before_anything_it_is_pending_and_says_what_is_missing() -> None:
    view = settled(of_foreign())
    assert stored(view)["status"]["phase"] == "Pending"
    assert told(view, "InfrastructureReady")[1] == "ObjectDoesNotExist" and told(view, "BootstrapConfigReady")[1] == "ObjectDoesNotExist"
    assert "is blocked because FooConfig default/m1 does not exist" in told(view, "ScalingUp")[2]
    assert told(view, "Available") == ("Unknown", "WaitingForAvailableReplicasSet", "Waiting for status.availableReplicas set")


def test_a_pool_that_forgets_its_hosts_for_a_moment_keeps_them() -> None:
    view = settled(of_foreign(), foreign(), config(), nodes=two())
    stored(view, "FooMachinePool", "scale-set")["spec"]["providerIDList"] = []
    view.settle(KIND, "default", "pool")
    assert stored(view)["spec"]["providerIDList"] == ["foo://a", "foo://b"] and len(view.workloads[CLUSTER].nodes) == 2


def test_the_node_of_a_host_that_left_the_list_is_deleted_and_no_other() -> None:
    view = settled(of_foreign(), foreign(), config(), nodes=(*two(), node("stranger")))
    found = stored(view, "FooMachinePool", "scale-set")
    found["spec"]["providerIDList"], found["status"]["replicas"] = ["foo://b"], 1
    plan = view.run(KIND, "default", "pool")
    assert [step.key.name for step in flatten(plan.steps) if isinstance(step, Delete)] == ["a"] and plan.guarded
    view.settle(KIND, "default", "pool")
    assert [one["metadata"]["name"] for one in view.workloads[CLUSTER].nodes] == ["b", "stranger"]


def test_unseen_nodes_change_nothing_that_was_told() -> None:
    view = settled(of_foreign(), foreign(), config(), nodes=two())
    before = stored(view)["status"]
    view.workloads = {CLUSTER: Workload()}
    view.settle(KIND, "default", "pool")
    assert stored(view)["status"] == before


def test_data_of_hosts_to_come_is_followed_and_a_latch_never_falls() -> None:
    view = settled(of_foreign(), foreign(), config(), nodes=two())
    stored(view, "FooConfig", "m1")["status"]["dataSecretName"] = "another"
    view.settle(KIND, "default", "pool")
    assert stored(view)["spec"]["template"]["spec"]["bootstrap"]["dataSecretName"] == "another"
    stored(view, "FooConfig", "m1")["status"] = {}
    stored(view, "FooMachinePool", "scale-set")["status"]["ready"] = False
    view.settle(KIND, "default", "pool")
    assert stored(view)["status"]["initialization"] == {"infrastructureProvisioned": True, "bootstrapDataSecretCreated": True}


@pytest.mark.parametrize(("value", "managed"), [("", True), ("cloud", True), ("true", True), ("false", False)])
def test_replicas_decided_elsewhere_follow_the_infrastructure(value: str, managed: bool) -> None:
    marked = of_foreign(5, annotations={"cluster.x-k8s.io/replicas-managed-by": value})
    view = settled(marked, foreign(), config(), nodes=(node("a"),))
    assert stored(view)["spec"]["replicas"] == (2 if managed else 5)
    assert stored(view)["status"]["phase"] == ("Scaling" if managed else "ScalingUp")


def test_missing_replicas_are_stored_within_the_autoscalers_bounds() -> None:
    bounds = {f"cluster.x-k8s.io/cluster-api-autoscaler-node-group-{name}-size": text for name, text in (("min", "3"), ("max", "6"))}
    view = settled(of_foreign(None, annotations=bounds), foreign(False), config())
    assert stored(view)["spec"]["replicas"] == 3


def test_paused_it_tells_so_and_touches_nothing() -> None:
    view = world(of_foreign(annotations={"cluster.x-k8s.io/paused": ""}), foreign(), config())
    writes = plan_writes(view.run(KIND, "default", "pool"))
    assert [type(step) for step in writes] == [Apply] and told(view, "Paused")[0] == "True"
    assert not plan_writes(view.run(KIND, "default", "pool"))


# --- hosts that stand as Machines ----------------------------------------------------------------------------------------------------------------


def host(name: str, **metadata: Any) -> Json:
    """A host of the other provider's pool, as its object."""
    owner = {"apiVersion": f"{GROUP}/v1", "kind": "FooMachinePool", "name": "scale-set", "uid": "uid-FooMachinePool-scale-set"}
    marks = {"cluster.x-k8s.io/pool-name": "pool", "cluster.x-k8s.io/cluster-name": "demo"}
    return infra(name, **({"labels": marks, "ownerReferences": [owner]} | metadata))


def with_machines(*more: Json, **changes: Any) -> tuple[Json, ...]:
    made = of_foreign(template={"deletion": {"nodeDrainTimeoutSeconds": 5}}, **changes)
    made["spec"]["template"]["metadata"] = {"labels": {"team": "x"}, "annotations": {"note": "y"}}
    return made, foreign(kind="FooMachine"), config(), host("a"), host("b"), *more


def test_each_host_gets_a_machine_of_its_name() -> None:
    view = settled(*with_machines(host("stray", labels={})), nodes=two())
    made = [obj for key, obj in view.sorted() if key.kind == "Machine"]
    assert [one["metadata"]["name"] for one in made] == ["a", "b"]
    first = made[0]
    assert first["metadata"]["labels"] == {"team": "x", "cluster.x-k8s.io/pool-name": "pool", "cluster.x-k8s.io/cluster-name": "demo"}
    assert first["metadata"]["annotations"] == {"note": "y"} and first["metadata"]["finalizers"] == ["machine.cluster.x-k8s.io"]
    (owner,) = first["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("MachinePool", "pool", True)
    assert first["spec"] == {
        "clusterName": "demo",
        "bootstrap": {"dataSecretName": ""},
        "infrastructureRef": {"apiGroup": GROUP, "kind": "FooMachine", "name": "a"},
        "version": "v1.35.0",
        "deletion": {"nodeDrainTimeoutSeconds": 5, "nodeDeletionTimeoutSeconds": 10},
    }


def test_machines_follow_the_template_in_place_and_lose_what_it_lost() -> None:
    view = settled(*with_machines(), nodes=two())
    found = stored(view)
    found["spec"]["template"]["metadata"] = {"labels": {"team": "z"}}
    found["spec"]["template"]["spec"]["minReadySeconds"] = 7
    found["metadata"]["generation"] += 1
    plan = view.run(KIND, "default", "pool")
    applies = [step for step in flatten(plan.steps) if isinstance(step, Apply) and step.key.kind == "Machine" and not step.subresource]
    # the note is not named any more: an apply without it takes it away
    assert [step.key.name for step in applies] == ["a", "b"] and all(step.body["metadata"]["annotations"] == {} for step in applies)
    assert all(step.body["spec"]["minReadySeconds"] == 7 and step.body["metadata"]["labels"]["team"] == "z" for step in applies)
    assert isinstance(plan.steps[-1], Patch) and plan.steps[-1].body == {"status": {"observedGeneration": found["metadata"]["generation"]}}
    view.settle(KIND, "default", "pool")


def test_another_owners_machine_is_left_alone() -> None:
    theirs = {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "MachineSet", "name": "ms", "uid": "uid-ms", "controller": True}
    taken = {
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "Machine",
        "metadata": {"name": "a", "namespace": "default", "ownerReferences": [theirs], "labels": {"cluster.x-k8s.io/cluster-name": "demo"}},
        "spec": {"clusterName": "demo", "bootstrap": {"dataSecretName": "x"}, "infrastructureRef": ref("FooMachine", "z")},
    }
    view = world(*with_machines(taken), nodes=two())
    plan = view.run(KIND, "default", "pool")
    assert [step.key.name for step in flatten(plan.steps) if isinstance(step, Create)] == ["b"]
    assert stored(view, "Machine", "a")["metadata"]["ownerReferences"] == [theirs]


def test_a_machine_that_lost_its_owner_gets_it_back() -> None:
    view = settled(*with_machines(), nodes=two())
    stored(view, "Machine", "a")["metadata"]["ownerReferences"] = []
    view.settle(KIND, "default", "pool")
    assert stored(view, "Machine", "a")["metadata"]["ownerReferences"][0]["name"] == "pool"


def up_to_date(view: FakeView, name: str) -> tuple[str, str, str]:
    conditions = stored(view, "Machine", name)["status"]["conditions"]
    return next((one["status"], one["reason"], one["message"]) for one in conditions if one["type"] == "UpToDate")


def test_whether_a_machine_is_up_to_date() -> None:
    view = settled(*with_machines(), nodes=two())
    assert up_to_date(view, "a") == ("False", "NotUpToDate", "* Version v1.35.0, v1.34.0 required")
    assert stored(view)["status"]["upToDateReplicas"] == 0
    assert told(view, "RollingOut") == ("True", "RollingOut", "Rolling out 2 not up-to-date replicas\n* Version v1.35.0, v1.34.0 required")
    found = stored(view)
    found["spec"]["template"]["spec"]["version"] = "v1.35.0"
    found["metadata"]["generation"] += 1
    stored(view, "Machine", "b")["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    view.settle(KIND, "default", "pool")
    assert up_to_date(view, "a") == ("True", "UpToDate", "")
    assert up_to_date(view, "b") == ("False", "NotUpToDate", "Machine is being deleted")
    assert stored(view)["status"]["upToDateReplicas"] == 1


def judged(name: str, healthy: str, remediated: str = "") -> Json:
    values = [("HealthCheckSucceeded", healthy, "UnhealthyNode"), *([("OwnerRemediated", remediated, "WaitingForRemediation")] if remediated else [])]
    conditions = [{"type": kind, "status": status, "reason": why, "message": "", "lastTransitionTime": "2026-01-02T03:00:00Z"} for kind, status, why in values]
    return {"conditions": conditions}


def test_a_machine_that_a_health_check_handed_over_is_deleted_and_no_other() -> None:
    view = settled(*with_machines(), nodes=two())
    stored(view, "Machine", "a")["status"] = judged("a", "False", "False")
    stored(view, "Machine", "b")["status"] = judged("b", "False")
    plan = view.run(KIND, "default", "pool")
    assert [step.key.name for step in flatten(plan.steps) if isinstance(step, Delete)] == ["a"]
    assert told(view, "Remediating")[:2] == ("True", "Remediating")
    stored(view, "Machine", "b")["status"] = judged("b", "True", "False")
    view.settle(KIND, "default", "pool")
    assert {one["type"] for one in stored(view, "Machine", "b")["status"]["conditions"]} == {"HealthCheckSucceeded", "UpToDate"}


def test_the_node_of_a_machine_is_its_own_to_delete() -> None:
    view = settled(*with_machines(), nodes=two())
    stored(view, "Machine", "a")["status"] = {**stored(view, "Machine", "a")["status"], "nodeRef": {"name": "a"}}
    found = stored(view, "FooMachinePool", "scale-set")
    found["spec"]["providerIDList"], found["status"]["replicas"] = ["foo://b"], 1
    assert not [step for step in flatten(view.run(KIND, "default", "pool").steps) if isinstance(step, Delete)]


# --- the end -------------------------------------------------------------------------------------------------------------------------------------


def test_it_goes_after_its_objects_and_machines_and_deletes_the_nodes() -> None:
    view = settled(*with_machines(), nodes=(*two(), node("stranger")))
    view.write(Delete(ObjectKey("cluster.x-k8s.io", "MachinePool", "default", "pool"), "", "uid-MachinePool-pool", "a user"))
    plan = view.run(KIND, "default", "pool")
    assert {step.key.kind for step in flatten(plan.steps) if isinstance(step, Delete)} == {"FooMachinePool", "FooConfig"}
    assert stored(view)["status"]["phase"] == "Deleting" and told(view, "Deleting")[:2] == ("True", "Deleting")
    assert not [step for step in flatten(view.run(KIND, "default", "pool").steps) if isinstance(step, Delete)]
    del view.store[ObjectKey(GROUP, "FooMachinePool", "default", "scale-set")]
    plan = view.run(KIND, "default", "pool")
    assert {step.key.name for step in flatten(plan.steps) if isinstance(step, Delete)} == {"a", "b"} and plan.rests_on_absence
    for name in ("a", "b"):
        del view.store[ObjectKey("cluster.x-k8s.io", "Machine", "default", name)]
    plan = view.run(KIND, "default", "pool")
    assert plan.guarded and plan.rests_on_absence
    assert [one["metadata"]["name"] for one in view.workloads[CLUSTER].nodes] == ["stranger"]
    assert not [key for key in view.store if key.kind == "MachinePool"]


@pytest.mark.parametrize(("timeout", "after", "gone"), [(10, 5, False), (10, 11, True), (0, 10_000, False)])
def test_a_cluster_out_of_sight_holds_it_no_longer_than_its_timeout(timeout: int, after: int, gone: bool) -> None:
    spec = of_foreign(template={"deletion": {"nodeDeletionTimeoutSeconds": timeout}})
    view = settled(spec, foreign(), config(), nodes=two())
    view.workloads = {CLUSTER: replace(view.workloads[CLUSTER], connected=False)}
    stored(view)["metadata"]["deletionTimestamp"] = view.at.isoformat().replace("+00:00", "Z")
    for kind, group, name in (("FooMachinePool", GROUP, "scale-set"), ("FooConfig", "bootstrap.example.org", "m1")):
        del view.store[ObjectKey(group, kind, "default", name)]
    view.later(after)
    view.run(KIND, "default", "pool")
    assert (not [key for key in view.store if key.kind == "MachinePool"]) == gone


# --- with everything around it -------------------------------------------------------------------------------------------------------------------


def test_a_whole_life_on_emulated_hosts() -> None:
    world = PoolWorld(pool(1, template={"deletion": {"nodeDeletionTimeoutSeconds": 0}}), hosts())
    for replicas in (1, 4, 2, 0):
        world.edit("MachinePool", "pool", spec={"replicas": replicas})
        world.settle()
        assert world.counters() == (replicas,) * 4 and len(world.nodes) == len(world.all("Machine")) == replicas
        assert world.conditions()["Available"][0] == "True" and world.pool["status"]["phase"] == "Running"
    world.edit("MachinePool", "pool", spec={"replicas": 2})
    world.settle()
    before = {one["metadata"]["name"] for one in world.all("Machine")}
    world.edit("MachinePool", "pool", spec={"template": {"spec": {"version": NEXT}}})
    world.least = None
    world.settle()
    assert before.isdisjoint(one["metadata"]["name"] for one in world.all("Machine")) and world.least == 2
    assert world.pool["status"]["versions"] == [{"version": NEXT, "replicas": 2}]
    world.delete("MachinePool", "pool")
    world.settle()
    for kind in ("MachinePool", "DevMachinePool", "Machine", "DevMachine"):
        assert world.all(kind) == []
    assert world.nodes == []


@pytest.mark.parametrize(
    ("kind", "state", "wakes"),
    [
        pytest.param("Machine", {"metadata": {"name": "a", "labels": {"cluster.x-k8s.io/pool-name": "pool"}}}, True, id="machine"),
        pytest.param("Machine", {"metadata": {"name": "a", "labels": {"cluster.x-k8s.io/set-name": "s"}}}, False, id="other-machine"),
        pytest.param("FooMachine", {"metadata": {"name": "x", "labels": {"cluster.x-k8s.io/pool-name": "pool"}}}, True, id="host"),
        pytest.param("FooMachinePool", {"metadata": {"name": "scale-set"}}, True, id="referred"),
        pytest.param("FooMachinePool", {"metadata": {"name": "other"}}, False, id="not-referred"),
        pytest.param("Node", {"metadata": {"name": "new"}, "spec": {"providerID": "foo://b"}}, True, id="node"),
        pytest.param("Node", {"metadata": {"name": "a"}, "spec": {}}, True, id="named-node"),
        pytest.param("Node", {"metadata": {"name": "x"}, "spec": {"providerID": "foo://x"}}, False, id="other-node"),
    ],
)
def test_what_wakes_it(kind: str, state: Json, wakes: bool) -> None:
    view = settled(*with_machines(), nodes=two())
    group = {"Machine": "cluster.x-k8s.io", "Node": ""}.get(kind, GROUP)
    change = Change(ObjectKey(group, kind, "" if kind == "Node" else "default", state["metadata"]["name"]), CLUSTER_KEY, None, state)
    named = [watch for watch in KIND.watches if watch.source == change.key.group_kind]
    found = {key for watch in named or [watch for watch in KIND.watches if watch.source.kind == "*"] for key in watch.concerns(change, view)}
    assert found == ({ObjectKey("cluster.x-k8s.io", "MachinePool", "default", "pool")} if wakes else set())


def test_its_own_status_does_not_wake_it() -> None:
    before = of_foreign()
    after = {**before, "status": {"phase": "Running"}}
    key = ObjectKey("cluster.x-k8s.io", "MachinePool", "default", "pool")
    assert not KIND.own(Change(key, None, before, after))
    assert KIND.own(Change(key, None, before, {**before, "spec": {**before["spec"], "replicas": 9}}))
