"""What a Cluster does: provisioning, counters, pause, deletion, crashes, silence, and what wakes it."""

from __future__ import annotations

from datetime import timedelta

import pytest
import yaml

from fleetwake.errors import TerminalError
from fleetwake.kind import CONNECTION, Change
from fleetwake.kube.pki import generate_key, self_signed_ca
from fleetwake.plan import Apply, Create, Delete, Patch, SecretInputs
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.shared import APIEndpoint
from schemas.keys import ClusterKey, ObjectKey
from services.reconcilers.kinds.cluster import KIND
from services.reconcilers.kinds.kubeconfig import kubeconfig_value
from tests.decide.cluster_world import (
    CONNECTED,
    CONTROL_PLANE_LABEL,
    DELETED,
    FINALIZER,
    change,
    cluster,
    infra,
    initialized,
    member,
    of_cluster,
    told,
    woken,
)
from tests.decide.machine_world import CORE, condition, ref, stored
from tests.decide.world import NOW, FakeView, Json, plan_writes

OWNED = [{"apiVersion": CORE, "kind": "Cluster", "name": "demo", "uid": "uid-Cluster-demo"}]


def test_one_run_does_everything() -> None:
    view = FakeView([cluster(), infra(), initialized()], workloads=CONNECTED)
    first, second = view.settle(KIND, "default", "demo")
    assert [type(step) for step in plan_writes(first)] == [Patch, Patch, Patch, Apply]
    assert not second.writes and second.requeue_after is None
    found = of_cluster(view)
    assert found["metadata"]["finalizers"] == [FINALIZER]
    assert found["spec"]["controlPlaneEndpoint"] == {"host": "1.2.3.4", "port": 6443}
    assert found["status"]["initialization"] == {"infrastructureProvisioned": True, "controlPlaneInitialized": True}
    assert found["status"]["failureDomains"] == [{"name": "fd1", "controlPlane": True}]
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"] == 2
    assert found["status"]["phase"] == "Provisioned"
    for obj in (stored(view, "FooCluster", "demo"), stored(view, "FooControlPlane", "demo")):
        assert obj["metadata"]["ownerReferences"] == OWNED
        assert obj["metadata"]["labels"] == {"cluster.x-k8s.io/cluster-name": "demo"}
    assert condition(view, "Available", kind="Cluster", name="demo")["status"] == "True"


@pytest.mark.parametrize("writes", range(4))
def test_a_crash_after_any_step_is_repaired(writes: int) -> None:
    view = FakeView([cluster(), infra(), initialized()], workloads=CONNECTED)
    whole = FakeView([cluster(), infra(), initialized()], workloads=CONNECTED)
    view.run(KIND, "default", "demo", limit=writes)
    view.settle(KIND, "default", "demo")
    whole.settle(KIND, "default", "demo")
    status = of_cluster(view)["status"]
    assert status == of_cluster(whole)["status"]
    assert stored(view, "FooCluster", "demo")["metadata"]["ownerReferences"] == OWNED


def test_a_kubeadm_control_plane_gets_its_finalizer_with_its_owner() -> None:
    ref = {"apiGroup": "controlplane.cluster.x-k8s.io", "kind": "KubeadmControlPlane", "name": "demo"}
    given = initialized() | {"apiVersion": "controlplane.cluster.x-k8s.io/v1beta2", "kind": "KubeadmControlPlane"}
    view = FakeView([cluster(spec=cluster()["spec"] | {"controlPlaneRef": ref}), infra(), given], workloads=CONNECTED)
    first, _ = view.settle(KIND, "default", "demo")
    found = stored(view, "KubeadmControlPlane", "demo")["metadata"]
    assert (found["ownerReferences"], found["finalizers"]) == (OWNED, [*given["metadata"].get("finalizers", ()), "kubeadm.controlplane.cluster.x-k8s.io"])
    assert len([step for step in plan_writes(first) if step.key.kind == "KubeadmControlPlane"]) == 1


def test_topology_makes_the_reference_a_controller() -> None:
    spec = cluster()["spec"] | {"topology": {"classRef": {"name": "c"}, "version": "v1.35.0"}}
    view = FakeView([cluster(spec=spec), infra(), initialized()], workloads=CONNECTED)
    view.settle(KIND, "default", "demo")
    (owner,) = stored(view, "FooCluster", "demo")["metadata"]["ownerReferences"]
    assert owner["controller"] is True


def test_secrets_wake_only_a_cluster_that_makes_its_kubeconfig() -> None:
    def secret(name: str) -> Change:
        return change(None, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"}})

    assert woken(FakeView([cluster()]), secret("demo-ca")) == []
    alone = FakeView([cluster(spec={"infrastructureRef": ref("FooCluster", "demo")})])
    assert [key.name for key in woken(alone, secret("demo-ca"))] == ["demo"]
    assert woken(alone, secret("demo-etcd")) == []


def test_standalone_control_plane_machines_go_with_the_workers() -> None:
    owned = member("Machine", "cp", labels=CONTROL_PLANE_LABEL, ownerReferences=OWNED, finalizers=["x"])
    view = FakeView([cluster(spec={"infrastructureRef": ref("FooCluster", "demo")}, **DELETED), owned, infra()], workloads=CONNECTED)
    assert [step.key.name for step in plan_writes(view.run(KIND, "default", "demo")) if isinstance(step, Delete)] == ["cp"]
    assert condition(view, "Deleting", kind="Cluster", name="demo")["message"] == "* Control plane Machines: cp"


def test_a_missing_ca_is_looked_for_again() -> None:
    spec = {"infrastructureRef": ref("FooCluster", "demo"), "controlPlaneEndpoint": {"host": "1.2.3.4", "port": 6443}}
    view = FakeView([cluster(spec=spec), infra()], workloads=CONNECTED)
    assert view.run(KIND, "default", "demo").requeue_after == timedelta(seconds=30)


OF_USER, OF_INFRASTRUCTURE, OF_CONTROL_PLANE = ({"host": host, "port": 6443} for host in ("9.9.9.9", "1.2.3.4", "5.6.7.8"))


@pytest.mark.parametrize(
    ("user", "infrastructure", "taken"),
    [
        pytest.param(OF_USER, OF_INFRASTRUCTURE, OF_USER, id="from-the-user"),
        pytest.param(None, OF_INFRASTRUCTURE, OF_INFRASTRUCTURE, id="from-the-infrastructure"),
        pytest.param(None, None, OF_CONTROL_PLANE, id="from-the-control-plane"),
    ],
)
def test_the_endpoint_comes_from_the_first_that_has_one(user: Json | None, infrastructure: Json | None, taken: Json) -> None:
    found = cluster() if user is None else cluster(spec=cluster()["spec"] | {"controlPlaneEndpoint": user})
    below = infra() | {"spec": {"controlPlaneEndpoint": infrastructure} if infrastructure else {}}
    plane = initialized() | {"spec": initialized()["spec"] | {"controlPlaneEndpoint": OF_CONTROL_PLANE}}
    view = FakeView([found, below, plane], workloads=CONNECTED)
    _, second = view.settle(KIND, "default", "demo")
    assert of_cluster(view)["spec"]["controlPlaneEndpoint"] == taken
    assert of_cluster(view)["status"]["phase"] == "Provisioned" and not second.writes


def test_a_control_plane_gives_its_endpoint_once_it_is_initialized() -> None:
    plane = initialized() | {"spec": initialized()["spec"] | {"controlPlaneEndpoint": OF_CONTROL_PLANE}, "status": {}}
    view = FakeView([cluster(), infra() | {"spec": {}}, plane], workloads=CONNECTED)
    view.settle(KIND, "default", "demo")
    assert "controlPlaneEndpoint" not in of_cluster(view)["spec"] and of_cluster(view)["status"]["phase"] == "Provisioning"


def test_latches_and_endpoint_never_fall_back() -> None:
    view = FakeView([cluster(), infra(), initialized()], workloads=CONNECTED)
    view.settle(KIND, "default", "demo")
    stored(view, "FooCluster", "demo")["status"] = {"initialization": {"provisioned": False}}
    stored(view, "FooCluster", "demo")["spec"] = {"controlPlaneEndpoint": {"host": "9.9.9.9", "port": 1}}
    stored(view, "FooControlPlane", "demo")["status"] = {}
    view.settle(KIND, "default", "demo")
    assert of_cluster(view)["status"]["initialization"] == {"infrastructureProvisioned": True, "controlPlaneInitialized": True}
    assert of_cluster(view)["spec"]["controlPlaneEndpoint"]["host"] == "1.2.3.4"
    del view.store[ObjectKey("infrastructure.example.org", "FooCluster", "default", "demo")]
    plan = view.run(KIND, "default", "demo")
    assert plan.requeue_after == timedelta(seconds=30)
    found = condition(view, "InfrastructureReady", kind="Cluster", name="demo")
    assert (found["reason"], found["message"]) == (
        "ObjectDeleted",
        "FooCluster default/demo of spec.infrastructureRef has been deleted while the cluster still exists: restore it or delete the Cluster",
    )


def test_counters_sum_over_everything_that_makes_workers() -> None:
    counters = {"replicas": 2, "readyReplicas": 1, "availableReplicas": 1, "upToDateReplicas": 0, "versions": [{"version": "v1.35.0", "replicas": 2}]}
    view = FakeView(
        [
            cluster(),
            infra(),
            initialized(replicas=3, readyReplicas=2, versions=[{"version": "v1.34.0", "replicas": 1}, {"version": "v1.35.0", "replicas": 2}]),
            member("MachineDeployment", "md", spec={"replicas": 2}, status=counters),
            member("MachineSet", "of-md", spec={"replicas": 2}, status=counters),
            member("MachineSet", "alone", spec={"replicas": 1}, status={"replicas": 1}, ownerReferences=OWNED),
            member("Machine", "single", status={"conditions": told(("Ready", "True", ""))}, ownerReferences=OWNED),
        ],
        workloads=CONNECTED,
    )
    view.settle(KIND, "default", "demo")
    status = of_cluster(view)["status"]
    assert status["workers"] == {
        "desiredReplicas": 4,
        "replicas": 4,
        "readyReplicas": 2,
        "availableReplicas": 1,
        "upToDateReplicas": 0,
        "versions": [{"version": "v1.35.0", "replicas": 3}],
    }
    assert status["controlPlane"] == {
        "desiredReplicas": 1,
        "replicas": 3,
        "readyReplicas": 2,
        "versions": [{"version": "v1.34.0", "replicas": 1}, {"version": "v1.35.0", "replicas": 2}],
    }


def test_without_a_provider_the_machines_are_the_control_plane() -> None:
    machine = member("Machine", "cp", labels=CONTROL_PLANE_LABEL, status={"nodeRef": {"name": "cp"}})
    endpoint = {"host": "1.2.3.4", "port": 6443}
    objects = [cluster(spec={"infrastructureRef": ref("FooCluster", "demo"), "controlPlaneEndpoint": endpoint}), infra(), machine]
    view = FakeView(objects, workloads=CONNECTED)
    view.run(KIND, "default", "demo")
    assert of_cluster(view)["status"]["controlPlane"]["desiredReplicas"] == 1
    assert of_cluster(view)["status"]["initialization"]["controlPlaneInitialized"] is True
    view.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "demo-ca", "namespace": "default"}})
    (step,) = [step for step in plan_writes(view.run(KIND, "default", "demo")) if isinstance(step, Create)]
    assert (step.key.name, step.body["type"]) == ("demo-kubeconfig", "cluster.x-k8s.io/secret")
    assert step.body["metadata"]["ownerReferences"] == OWNED
    assert not view.run(KIND, "default", "demo").writes


def test_the_kubeconfig_is_signed_by_the_clusters_ca() -> None:
    ca = self_signed_ca("kubernetes", generate_key("ECDSA-P256"), now=NOW)
    key = ObjectKey("", "Secret", "default", "demo-ca")
    computed = kubeconfig_value(ClusterKey("default", "demo"), APIEndpoint(host="fd00::1", port=6443))
    inputs = SecretInputs({key: {"tls.crt": ca.cert_pem, "tls.key": ca.key_pem}}, (generate_key("ECDSA-P256"),), NOW)
    found = yaml.safe_load(computed.render(inputs))
    assert found["clusters"][0]["cluster"]["server"] == "https://[fd00::1]:6443"
    assert found["current-context"] == "demo-admin@demo"
    assert computed.secrets == (key,)
    with pytest.raises(TerminalError, match="default/demo-ca"):
        computed.render(SecretInputs({}, inputs.private_keys, NOW))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"spec": {"paused": True}}, "Cluster spec.paused is set to true", id="spec"),
        pytest.param({"annotations": {"cluster.x-k8s.io/paused": "false"}}, "Cluster has the cluster.x-k8s.io/paused annotation", id="any-annotation"),
    ],
)
def test_pause_writes_its_condition_once_and_nothing_else(changes: Json, message: str) -> None:
    view = FakeView([cluster(), infra(), initialized()], workloads=CONNECTED)
    view.settle(KIND, "default", "demo")
    before = dict(of_cluster(view)["status"])
    found = of_cluster(view)
    found["spec"].update(changes.get("spec", {}))
    found["metadata"]["annotations"] = changes.get("annotations", {})
    found["metadata"]["finalizers"] = []
    assert [type(step) for step in plan_writes(view.run(KIND, "default", "demo"))] == [Apply]
    found["metadata"]["generation"] += 1
    assert not view.run(KIND, "default", "demo").writes
    after = dict(of_cluster(view)["status"])
    paused = condition(view, "Paused", kind="Cluster", name="demo")
    assert (paused["status"], paused["message"]) == ("True", message)
    kept = [one for one in after.pop("conditions") if one["type"] != "Paused"]
    assert kept == [one for one in before.pop("conditions") if one["type"] != "Paused"]
    assert after == before


def test_deletion_takes_workers_then_control_plane_then_infrastructure() -> None:
    view = FakeView(
        [
            cluster(**DELETED),
            infra(),
            initialized(),
            member("MachineDeployment", "md", ownerReferences=OWNED, finalizers=["x"]),
            member("MachineSet", "ms", finalizers=["x"]),
            member("Machine", "w", finalizers=["x"]),
            member("Machine", "cp", labels=CONTROL_PLANE_LABEL, ownerReferences=OWNED, finalizers=["x"]),
        ],
        workloads=CONNECTED,
    )

    def deletes() -> list[str]:
        return [step.key.kind for step in plan_writes(view.run(KIND, "default", "demo")) if isinstance(step, Delete)]

    assert deletes() == ["MachineDeployment"]
    found = condition(view, "Deleting", kind="Cluster", name="demo")
    assert (found["reason"], found["message"]) == (
        "WaitingForWorkersDeletion",
        "* MachineDeployments: md\n* MachineSets: ms\n* Worker Machines: w",
    )
    assert deletes() == []
    for kind, name in (("MachineDeployment", "md"), ("MachineSet", "ms"), ("Machine", "w")):
        del view.store[ObjectKey("cluster.x-k8s.io", kind, "default", name)]
    assert deletes() == ["FooControlPlane"]
    assert condition(view, "Deleting", kind="Cluster", name="demo")["message"] == "Waiting for FooControlPlane to be deleted"
    assert deletes() == []
    del view.store[ObjectKey("controlplane.example.org", "FooControlPlane", "default", "demo")]
    assert deletes() == ["FooCluster"]
    assert condition(view, "Available", kind="Cluster", name="demo")["status"] == "False"
    del view.store[ObjectKey("infrastructure.example.org", "FooCluster", "default", "demo")]
    last = view.run(KIND, "default", "demo")
    assert last.rests_on_absence and [type(step) for step in last.steps] == [Patch]
    assert ObjectKey("cluster.x-k8s.io", "Cluster", "default", "demo") not in view.store


def test_own_status_writes_wake_nobody() -> None:
    view = FakeView([cluster(), infra(), initialized()], workloads=CONNECTED)
    view.run(KIND, "default", "demo", limit=3)
    before = dict(of_cluster(view))
    view.run(KIND, "default", "demo")
    assert not KIND.own(change(before, of_cluster(view)))
    foreign = of_cluster(view) | {"status": {"conditions": told(("TopologyReconciled", "True", ""))}}
    assert KIND.own(change(of_cluster(view), foreign))


@pytest.mark.parametrize(
    ("before", "after", "wakes"),
    [
        pytest.param(infra(done=False), infra(), True, id="infra-reports"),
        pytest.param(infra(), infra(annotations={"a": "b"}), False, id="infra-annotation"),
        pytest.param(None, infra(name="other"), False, id="unrelated-provider-object"),
        pytest.param(None, member("Machine", "w"), True, id="machine-new"),
        pytest.param(
            member("Machine", "w"), member("Machine", "w", status={"conditions": told(("NodeReady", "True", ""))}), False, id="machine-condition-not-read"
        ),
        pytest.param(member("Machine", "w"), member("Machine", "w", status={"conditions": told(("Ready", "True", ""))}), True, id="machine-ready"),
        pytest.param(
            member("Machine", "w", status={"conditions": told(("Ready", "False", "one thing"))}),
            member("Machine", "w", status={"conditions": told(("Ready", "False", "another"))}),
            False,
            id="machine-says-the-same-in-other-words",
        ),
        pytest.param(initialized(), initialized(conditions=told(("Available", "True", ""))), True, id="control-plane-available"),
        pytest.param(initialized(replicas=1), initialized(replicas=2), True, id="control-plane-counter"),
        pytest.param(
            initialized(conditions=told(("Available", "False", "a"))),
            initialized(conditions=told(("Available", "False", "b"))),
            False,
            id="control-plane-words",
        ),
        pytest.param(member("MachineSet", "s"), member("MachineSet", "s", spec={"replicas": 3}), True, id="set-scaled"),
    ],
)
def test_watches(before: Json | None, after: Json | None, wakes: bool) -> None:
    view = FakeView([cluster()])
    assert woken(view, change(before, after)) == ([ObjectKey(Cluster.GROUP, "Cluster", "default", "demo")] if wakes else [])


def test_repeated_words_are_looked_at_again() -> None:
    machine = member("Machine", "w", status={"conditions": told(("Ready", "False", "one thing"), ("UpToDate", "True", ""))})
    view = FakeView([cluster(), infra(), initialized(), machine], workloads=CONNECTED)
    assert view.run(KIND, "default", "demo").requeue_after == timedelta(seconds=10)
    stored(view, "Machine", "w")["status"]["conditions"] = told(("Ready", "False", "another"), ("UpToDate", "True", ""))
    view.later(10)
    view.run(KIND, "default", "demo")
    assert condition(view, "WorkerMachinesReady", kind="Cluster", name="demo")["message"] == "* Machine w: another"
    stored(view, "Machine", "w")["status"]["conditions"] = told(("Ready", "True", ""), ("UpToDate", "True", ""))
    assert view.run(KIND, "default", "demo").requeue_after is None


def test_every_event_of_the_connection_wakes_its_cluster() -> None:
    watch = next(watch for watch in KIND.watches if watch.source == CONNECTION)
    told = Change(ObjectKey("fleetwake", "Connection", "default", "demo"), ClusterKey("default", "demo"), None, {"event": "disconnected", "connected": False})
    assert watch.matters(told)
    assert list(watch.concerns(told, FakeView())) == [ObjectKey(Cluster.GROUP, "Cluster", "default", "demo")]
