"""What a Cluster says: its conditions, from its objects, its Machines, its connection and its gates."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fleetwake.kind import Workload
from fleetwake.plan import Patch
from schemas.keys import GroupKind
from services.reconcilers.kinds.cluster import KIND
from tests.decide.cluster_world import (
    CONNECTED,
    CONTROL_PLANE_LABEL,
    DELETED,
    change,
    cluster,
    infra,
    initialized,
    member,
    of_cluster,
    told,
    woken,
)
from tests.decide.machine_world import CLUSTER, CORE, condition, control_plane
from tests.decide.world import NOW, FakeView, Json


@pytest.mark.parametrize(
    ("objects", "type_", "status", "reason", "message"),
    [
        pytest.param(
            [initialized()],
            "InfrastructureReady",
            "False",
            "ObjectDoesNotExist",
            "FooCluster default/demo does not exist: create it or correct spec.infrastructureRef",
            id="infra-missing",
        ),
        pytest.param(
            [infra(done=False)], "InfrastructureReady", "False", "NotReady", "FooCluster status.initialization.provisioned is false", id="infra-not-ready"
        ),
        pytest.param([infra()], "InfrastructureReady", "True", "Ready", "", id="infra-fallback"),
        pytest.param(
            [infra() | {"status": {"initialization": {"provisioned": True}, "conditions": told(("Ready", "False", "no disk"))}}],
            "InfrastructureReady",
            "False",
            "Because",
            "no disk",
            id="infra-mirrored",
        ),
        pytest.param(
            [infra() | {"status": {"initialization": {"provisioned": True}, "conditions": [{"type": "Ready", "status": "True"}]}}],
            "InfrastructureReady",
            "True",
            "Ready",
            "",
            id="legacy-condition-without-reason",
        ),
        pytest.param(
            [],
            "ControlPlaneInitialized",
            "Unknown",
            "ObjectDoesNotExist",
            "FooControlPlane default/demo does not exist: create it or correct spec.controlPlaneRef",
            id="cp-missing",
        ),
        pytest.param(
            [],
            "ControlPlaneAvailable",
            "False",
            "ObjectDoesNotExist",
            "FooControlPlane default/demo does not exist: create it or correct spec.controlPlaneRef",
            id="cp-missing-available",
        ),
        pytest.param([control_plane()], "ControlPlaneInitialized", "False", "NotInitialized", "Control plane not yet initialized", id="cp-starting"),
        pytest.param([initialized()], "ControlPlaneInitialized", "True", "Initialized", "", id="cp-initialized"),
        pytest.param(
            [initialized(conditions=told(("Available", "False", "etcd"))), infra()], "ControlPlaneAvailable", "False", "Because", "etcd", id="cp-mirror"
        ),
        pytest.param([], "WorkersAvailable", "True", "NoWorkers", "", id="no-workers"),
        pytest.param(
            [member("MachineDeployment", "md", status={"conditions": told(("Available", "False", "1 of 2"))})],
            "WorkersAvailable",
            "False",
            "NotAvailable",
            "* MachineDeployment md: 1 of 2",
            id="workers-not-available",
        ),
        pytest.param([member("MachinePool", "mp")], "WorkersAvailable", "True", "NoWorkers", "", id="pools-need-not-report"),
        pytest.param(
            [member("Machine", "cp", labels=CONTROL_PLANE_LABEL, status={"conditions": told(("Ready", "False", "boom"))})],
            "ControlPlaneMachinesReady",
            "False",
            "NotReady",
            "* Machine cp: boom",
            id="cp-machines",
        ),
        pytest.param([], "WorkerMachinesReady", "True", "NoReplicas", "", id="no-machines"),
        pytest.param(
            [member("Machine", "w")],
            "WorkerMachinesUpToDate",
            "Unknown",
            "UpToDateUnknown",
            "* Machine w: Condition UpToDate not yet reported",
            id="uptodate-old",
        ),
        pytest.param(
            [member("Machine", "w", creationTimestamp="2026-01-02T03:04:00Z")], "WorkerMachinesUpToDate", "True", "NoReplicas", "", id="uptodate-young"
        ),
        pytest.param(
            [initialized(conditions=told(("ScalingUp", "True", "0 to 1")))], "ScalingUp", "True", "ScalingUp", "* FooControlPlane demo: 0 to 1", id="scaling-up"
        ),
        pytest.param([initialized()], "ScalingUp", "False", "NotScalingUp", "", id="cp-need-not-report-scaling"),
        pytest.param(
            [member("MachineDeployment", "md")],
            "RollingOut",
            "Unknown",
            "RollingOutUnknown",
            "* MachineDeployment md: Condition RollingOut not yet reported",
            id="rolling-out-unknown",
        ),
        pytest.param(
            [member("Machine", "w", status={"conditions": told(("HealthCheckSucceeded", "False", "x"), ("OwnerRemediated", "False", "Machine deletion"))})],
            "Remediating",
            "True",
            "Remediating",
            "* Machine w: Machine deletion",
            id="remediating",
        ),
        pytest.param(
            [member("Machine", f"w{i}", status={"conditions": told(("HealthCheckSucceeded", "False", "x"))}) for i in range(5)],
            "Remediating",
            "False",
            "NotRemediating",
            "Machines w0, w1, w2, ... (2 more) are not healthy (not to be remediated)",
            id="unhealthy-not-remediated",
        ),
        pytest.param([], "Deleting", "False", "NotDeleting", "", id="not-deleting"),
    ],
)
def test_conditions(objects: list[Json], type_: str, status: str, reason: str, message: str) -> None:
    view = FakeView([cluster(), *objects], workloads=CONNECTED)
    view.run(KIND, "default", "demo")
    found = condition(view, type_, kind="Cluster", name="demo")
    assert (found["status"], found["reason"], found["message"]) == (status, reason, message)


@pytest.mark.parametrize(
    ("workload", "status", "message", "wait"),
    [
        pytest.param(Workload(), "False", "Remote connection not established yet", None, id="never-tried"),
        pytest.param(Workload(consecutive_failures=5), "False", "Remote connection probe failed", None, id="tried-in-vain"),
        pytest.param(Workload(connected=True, last_probe_success=NOW), "True", "", None, id="well"),
        pytest.param(Workload(last_probe_success=NOW - timedelta(seconds=50), consecutive_failures=5), "True", "", 1, id="failing-within-grace"),
        pytest.param(
            Workload(last_probe_success=NOW - timedelta(seconds=51), consecutive_failures=5),
            "False",
            "Remote connection probe failed, probe last succeeded at 2026-01-02T03:03:14Z",
            None,
            id="grace-over",
        ),
    ],
)
def test_remote_connection_probe(workload: Workload, status: str, message: str, wait: int | None) -> None:
    view = FakeView([cluster(), infra(), initialized()], workloads={CLUSTER: workload})
    plan = view.run(KIND, "default", "demo")
    found = condition(view, "RemoteConnectionProbe", kind="Cluster", name="demo")
    assert (found["status"], found["message"]) == (status, message)
    assert plan.requeue_after == (timedelta(seconds=wait) if wait is not None else None)


@pytest.mark.parametrize(
    ("type_", "status"),
    [("InfrastructureReady", "False"), ("ControlPlaneAvailable", "False"), ("ControlPlaneInitialized", "Unknown")],
)
def test_a_topology_without_objects_yet_is_waited_for(type_: str, status: str) -> None:
    view = FakeView([cluster(spec={"topology": {"classRef": {"name": "c"}, "version": "v1.35.0"}})], workloads=CONNECTED)
    view.settle(KIND, "default", "demo")
    found = condition(view, type_, kind="Cluster", name="demo")
    assert (found["status"], found["reason"], found["message"]) == (status, "ObjectDoesNotExist", "Waiting for cluster topology to be reconciled")
    assert of_cluster(view)["status"]["phase"] == "Pending"
    assert condition(view, "Available", kind="Cluster", name="demo")["message"].endswith("* TopologyReconciled: Condition not yet reported")


@pytest.mark.parametrize(
    ("reason", "available"),
    [pytest.param("ControlPlaneUpgradePending", "True", id="waiting-is-no-issue"), pytest.param("ReconcileFailed", "False", id="failing-is")],
)
def test_topology_reconciled_in_available(reason: str, available: str) -> None:
    topology = told(("TopologyReconciled", "False", "m"))[0] | {"reason": reason}
    spec = cluster()["spec"] | {"topology": {"classRef": {"name": "c"}, "version": "v1.35.0"}}
    view = FakeView([cluster(spec=spec) | {"status": {"conditions": [topology]}}, infra(), initialized()], workloads=CONNECTED)
    view.settle(KIND, "default", "demo")
    assert condition(view, "Available", kind="Cluster", name="demo")["status"] == available


def test_gates_of_the_class_count_where_the_cluster_has_none() -> None:
    spec = cluster()["spec"] | {"topology": {"classRef": {"name": "c"}, "version": "v1.35.0"}}
    template = {"templateRef": {"apiVersion": "x.example.org/v1", "kind": "T", "name": "t"}}
    found: Json = {"apiVersion": CORE, "kind": "ClusterClass", "metadata": {"name": "c", "namespace": "default"}}
    found["spec"] = {"infrastructure": template, "controlPlane": template, "availabilityGates": [{"conditionType": "Gate"}]}
    stored_conditions = told(("TopologyReconciled", "True", ""), ("Gate", "False", "shut"))
    view = FakeView([cluster(spec=spec) | {"status": {"conditions": stored_conditions}}, found, infra(), initialized()], workloads=CONNECTED)
    view.settle(KIND, "default", "demo")
    assert condition(view, "Available", kind="Cluster", name="demo")["message"] == "* Gate: shut"
    changed = found | {"spec": found["spec"] | {"availabilityGates": []}}
    assert [key.name for key in woken(view, change(found, changed))] == ["demo"]
    assert woken(view, change(found, found | {"metadata": found["metadata"] | {"labels": {"a": "b"}}})) == []


def test_without_infrastructure_and_provider_there_is_nothing_to_mirror() -> None:
    view = FakeView([cluster(spec={"controlPlaneEndpoint": {"host": "h", "port": 1}})], workloads=CONNECTED)
    view.settle(KIND, "default", "demo")
    assert condition(view, "InfrastructureReady", kind="Cluster", name="demo")["status"] == "True"
    assert condition(view, "ControlPlaneAvailable", kind="Cluster", name="demo")["reason"] == "NotAvailable"
    assert condition(view, "ControlPlaneInitialized", kind="Cluster", name="demo")["message"].startswith("Waiting for the first control plane machine")


def test_a_restarted_worker_keeps_what_was_told_of_the_connection() -> None:
    view = FakeView([cluster(), infra(), initialized()], workloads=CONNECTED)
    view.settle(KIND, "default", "demo")
    view.workloads = {}
    assert not view.run(KIND, "default", "demo").writes


def test_a_kind_without_contract_label_is_told_and_never_taken_for_gone() -> None:
    view = FakeView([cluster(**DELETED), infra()], unknown_kinds=frozenset({GroupKind("infrastructure.example.org", "FooCluster")}))
    plan = view.run(KIND, "default", "demo")
    assert not [step for step in plan.steps if isinstance(step, Patch)]
    assert condition(view, "InfrastructureReady", kind="Cluster", name="demo")["reason"] == "InternalError"


def test_availability_gates_of_the_cluster_count() -> None:
    spec = cluster()["spec"] | {"availabilityGates": [{"conditionType": "Broken", "polarity": "Negative"}]}
    view = FakeView([cluster(spec=spec) | {"status": {"conditions": told(("Broken", "True", "yes"))}}, infra(), initialized()], workloads=CONNECTED)
    view.settle(KIND, "default", "demo")
    assert condition(view, "Available", kind="Cluster", name="demo")["message"] == "* Broken: yes"
