"""A Machine and its Node: which one it is, what is told of it, and what is handed on to it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fleetwake.kind import Workload
from fleetwake.plan import Patch
from fleetwake.settings import Settings, SettingsError
from services.reconcilers.app import node_sync
from services.reconcilers.kinds.machine import KIND
from services.reconcilers.kinds.machine.observed import NODE_SYNC
from tests.decide.machine_world import CLUSTER, CORE, EARLIER, cluster, condition, config, infra, machine, node, stored, workload, world
from tests.decide.world import NOW, FakeView, Json, plan_writes


def reported(*told: tuple[str, str, str]) -> Json:
    """The Node with conditions by (type, status, message)."""
    conditions = [{"type": t, "status": s, "message": m, "lastTransitionTime": EARLIER} for t, s, m in told]
    return node() | {"status": {"conditions": conditions}}


WELL = (("MemoryPressure", "False", ""), ("DiskPressure", "False", ""), ("PIDPressure", "False", ""))


@pytest.mark.parametrize(
    ("found", "ready", "healthy"),
    [
        pytest.param(node(), ("True", "NodeReady", ""), ("True", "NodeHealthy", ""), id="well"),
        pytest.param(
            reported(("Ready", "False", "no cni"), *WELL),
            ("False", "NodeNotReady", "* Node.Ready: no cni"),
            ("False", "NodeNotHealthy", "* Node.Ready: no cni"),
            id="not-ready",
        ),
        pytest.param(
            reported(("Ready", "Unknown", ""), *WELL),
            ("Unknown", "NodeReadyUnknown", ""),
            ("Unknown", "NodeHealthyUnknown", "* Node.Ready: Condition is Unknown"),
            id="unknown-without-message",
        ),
        pytest.param(
            reported(*((t, "Unknown", "Kubelet stopped posting node status.") for t in ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure"))),
            ("Unknown", "NodeReadyUnknown", "* Node.Ready: Kubelet stopped posting node status."),
            ("Unknown", "NodeHealthyUnknown", "* Node.AllConditions: Kubelet stopped posting node status."),
            id="all-say-the-same",
        ),
        pytest.param(
            reported(("Ready", "True", ""), ("DiskPressure", "True", "full")),
            ("True", "NodeReady", ""),
            (
                "False",
                "NodeNotHealthy",
                "* Node.MemoryPressure: Condition not yet reported\n* Node.DiskPressure: full\n* Node.PIDPressure: Condition not yet reported",
            ),
            id="pressure-and-missing",
        ),
        pytest.param(
            reported(*WELL),
            ("Unknown", "NodeReadyUnknown", "* Node.Ready: Condition not yet reported"),
            ("Unknown", "NodeHealthyUnknown", "* Node.Ready: Condition not yet reported"),
            id="ready-missing",
        ),
    ],
)
def test_node_conditions(found: Json, ready: tuple[str, str, str], healthy: tuple[str, str, str]) -> None:
    view = world(cluster(), machine(), config(), infra(), found=workload(found))
    view.run(KIND, "default", "m1")
    for type_, expected in (("NodeReady", ready), ("NodeHealthy", healthy)):
        told = condition(view, type_)
        assert (told["status"], told["reason"], told["message"]) == expected


STARTING = cluster(status={})
INFRA_ONLY = cluster(status={"initialization": {"infrastructureProvisioned": True}})


@pytest.mark.parametrize(
    ("objects", "found", "status", "reason", "message"),
    [
        pytest.param(
            [STARTING], workload(), "Unknown", "InspectionFailed", "Waiting for Cluster status.initialization.infrastructureProvisioned to be true", id="infra"
        ),
        pytest.param([INFRA_ONLY], workload(), "Unknown", "InspectionFailed", "Waiting for Cluster control plane to be initialized", id="cp"),
        pytest.param([cluster()], Workload(), "Unknown", "ConnectionDown", "Remote connection not established yet", id="never-connected"),
        pytest.param(
            [cluster(), infra(done=False)], workload(), "Unknown", "InspectionFailed", "Waiting for FooMachine to report spec.providerID", id="no-identity"
        ),
        pytest.param(
            [cluster(), infra()], workload(), "Unknown", "InspectionFailed", "Waiting for a Node with spec.providerID foo://m1 to exist", id="no-node"
        ),
        pytest.param(
            [cluster(), infra()],
            workload(node(), node("twin") | {"spec": {"providerID": "foo://m1"}}),
            "Unknown",
            "InspectionFailed",
            "Waiting for a Node with spec.providerID foo://m1 to exist",
            id="two-claim-the-identity",
        ),
    ],
)
def test_waiting_for_a_node(objects: list[Json], found: Workload, status: str, reason: str, message: str) -> None:
    view = world(machine(), config(), *objects, found=found)
    view.settle(KIND, "default", "m1")
    for type_ in ("NodeReady", "NodeHealthy"):
        told = condition(view, type_)
        assert (told["status"], told["reason"], told["message"]) == (status, reason, message)


def running() -> FakeView:
    view = world(cluster(), machine(), config(), infra())
    view.settle(KIND, "default", "m1")
    return view


def test_node_deleted_under_a_running_machine() -> None:
    view = running()
    view.workloads = {CLUSTER: workload()}
    view.settle(KIND, "default", "m1")
    assert condition(view, "NodeHealthy")["reason"] == "NodeDeleted"
    assert condition(view, "NodeReady")["message"] == "Node m1 has been deleted while the Machine still exists"
    assert stored(view, "Machine")["status"]["nodeRef"] == {"name": "m1"}


def test_a_lost_connection_is_told_after_five_minutes() -> None:
    view = running()
    view.workloads = {CLUSTER: workload(node(), connected=False, consecutive_failures=5)}
    plan = view.run(KIND, "default", "m1")
    assert not plan.writes and plan.requeue_after == timedelta(minutes=5, seconds=1)
    view.later(301)
    view.settle(KIND, "default", "m1")
    told = condition(view, "NodeHealthy")
    assert (told["status"], told["reason"], told["message"]) == ("Unknown", "ConnectionDown", "Last successful probe at 2026-01-02T03:04:05Z")
    assert condition(view, "Ready")["status"] == "Unknown"


def test_the_grace_counts_from_the_control_plane_s_start() -> None:
    recent = cluster()
    recent["status"]["conditions"][0]["lastTransitionTime"] = "2026-01-02T03:04:00Z"
    view = world(recent, machine(), config(), infra(), found=Workload(consecutive_failures=9))
    assert view.run(KIND, "default", "m1").requeue_after == timedelta(minutes=5, seconds=-4)
    assert condition(view, "NodeHealthy")["message"] == ""


def test_a_restarted_worker_keeps_what_was_told_of_the_node() -> None:
    view = running()
    view.workloads = {}
    plan = view.run(KIND, "default", "m1")
    assert not plan.writes
    view.workloads = {CLUSTER: workload(watch_synced=False)}
    assert not view.run(KIND, "default", "m1").writes


# --- metadata


def synced(found: Json, *objects: Json, **metadata: Any) -> Json:
    """The Node after the Machine has settled."""
    spec = metadata.pop("spec", None)
    view = world(cluster(), machine(spec=spec, **metadata), config(), *(objects or (infra(),)), found=workload(found))
    view.settle(KIND, "default", "m1")
    return dict(view.workloads[CLUSTER].nodes[0])


def test_labels_by_domain_only() -> None:
    wanted = {
        "node-role.kubernetes.io/worker": "",
        "node-restriction.kubernetes.io/zone": "a",
        "x.node-restriction.kubernetes.io/y": "b",
        "node.cluster.x-k8s.io/pool": "c",
    }
    other = {"plain": "x", "evilnode.cluster.x-k8s.io/pool": "y", "cluster.x-k8s.io/cluster-name": "demo"}
    found = synced(node(labels={"mine": "1"}), labels=wanted | other)
    assert found["metadata"]["labels"] == {"mine": "1"} | wanted
    assert found["metadata"]["annotations"]["cluster.x-k8s.io/labels-from-machine"] == ",".join(sorted(wanted))


def test_further_keys_are_synced_where_the_settings_name_them() -> None:
    sync = node_sync(Settings(sync_machine_labels=r"^example\.com/, .*\.corp/", sync_machine_annotations="^example"))
    own = machine(labels={"example.com/rack": "r1", "a.corp/x": "1", "other": "2"}, annotations={"example.com/note": "n", "other": "2"})
    view = world(cluster(), own, config(), infra(), found=workload(node()))
    view.locals = {NODE_SYNC: sync}
    view.settle(KIND, "default", "m1")
    found = view.workloads[CLUSTER].nodes[0]["metadata"]
    assert found["labels"] == {"example.com/rack": "r1", "a.corp/x": "1"}
    assert found["annotations"]["example.com/note"] == "n"
    assert "other" not in found["annotations"]
    # what the settings name no more is taken away
    view.locals = {}
    view.settle(KIND, "default", "m1")
    found = view.workloads[CLUSTER].nodes[0]["metadata"]
    assert "example.com/rack" not in (found.get("labels") or {})
    assert "example.com/note" not in found["annotations"]


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="FLEETWAKE_SYNC_MACHINE_LABELS"):
        node_sync(Settings(sync_machine_labels="("))


def test_what_the_machine_no_longer_says_is_taken_away() -> None:
    notes = {
        "cluster.x-k8s.io/labels-from-machine": "node.cluster.x-k8s.io/old",
        "cluster.x-k8s.io/annotations-from-machine": "node.cluster.x-k8s.io/note",
        "node.cluster.x-k8s.io/note": "x",
        "cluster.x-k8s.io/owner-kind": "MachineSet",
        "kept": "yes",
    }
    found = synced(node(labels={"node.cluster.x-k8s.io/old": "1", "node.cluster.x-k8s.io/theirs": "2"}, annotations=notes))
    assert found["metadata"]["labels"] == {"node.cluster.x-k8s.io/theirs": "2"}
    annotations = found["metadata"]["annotations"]
    assert "node.cluster.x-k8s.io/note" not in annotations and "cluster.x-k8s.io/owner-kind" not in annotations
    assert (annotations["kept"], annotations["cluster.x-k8s.io/machine"]) == ("yes", "m1")


def test_owner_and_managed_annotations() -> None:
    owner = {"apiVersion": CORE, "kind": "MachineSet", "name": "ms", "uid": "u", "controller": True}
    annotations = synced(node(), annotations={"node.cluster.x-k8s.io/a": "1", "b": "2"}, ownerReferences=[owner])["metadata"]["annotations"]
    assert annotations["node.cluster.x-k8s.io/a"] == "1" and "b" not in annotations
    assert (annotations["cluster.x-k8s.io/owner-kind"], annotations["cluster.x-k8s.io/owner-name"]) == ("MachineSet", "ms")
    assert annotations["cluster.x-k8s.io/annotations-from-machine"] == "node.cluster.x-k8s.io/a"


ALWAYS = {"key": "a", "value": "1", "effect": "NoSchedule", "propagation": "Always"}
ONCE = {"key": "b", "effect": "NoExecute", "propagation": "OnInitialization"}
RECORD = "cluster.x-k8s.io/taints-from-machine"


@pytest.mark.parametrize(
    ("before", "record", "wanted", "after"),
    [
        pytest.param(
            [{"key": "node.cluster.x-k8s.io/uninitialized", "effect": "NoSchedule"}, {"key": "x", "effect": "NoSchedule"}],
            None,
            [],
            [{"key": "x", "effect": "NoSchedule"}],
            id="first-sync-removes-uninitialized",
        ),
        pytest.param(
            [], None, [ALWAYS, ONCE], [{"key": "a", "effect": "NoSchedule", "value": "1"}, {"key": "b", "effect": "NoExecute"}], id="first-sync-sets-both"
        ),
        pytest.param([], "a:NoSchedule", [ALWAYS, ONCE], [{"key": "a", "effect": "NoSchedule", "value": "1"}], id="once-is-once"),
        pytest.param([{"key": "a", "effect": "NoSchedule", "value": "0"}], "", [ALWAYS], [{"key": "a", "effect": "NoSchedule", "value": "1"}], id="value"),
        pytest.param([{"key": "a", "effect": "NoSchedule"}], "a:NoSchedule", [], [], id="no-longer-wanted"),
        pytest.param([{"key": "a", "effect": "NoExecute"}], "a:NoSchedule", [], [{"key": "a", "effect": "NoExecute"}], id="another-effect-is-another-taint"),
        pytest.param([{"key": "b", "effect": "NoExecute"}], "b:NoExecute", [ONCE], [{"key": "b", "effect": "NoExecute"}], id="from-always-to-once-stays"),
    ],
)
def test_taints(before: list[Json], record: str | None, wanted: list[Json], after: list[Json]) -> None:
    annotations = {RECORD: record} if record is not None else {}
    found = synced(node(taints=before, annotations=annotations), spec={"taints": wanted} if wanted else None)
    assert found["spec"].get("taints", []) == after
    assert found["metadata"]["annotations"][RECORD] == ",".join(f"{one['key']}:{one['effect']}" for one in wanted if one["propagation"] == "Always")


def test_outdated_revision_taint_follows_the_revisions() -> None:
    revision = "machinedeployment.clusters.x-k8s.io/revision"
    template = {"spec": {"clusterName": "demo", "version": "v1.35.0", "bootstrap": {"dataSecretName": "x"}, "infrastructureRef": infra_ref()}}
    base: Json = {"clusterName": "demo", "selector": {}, "template": template}
    owner = {"apiVersion": CORE, "kind": "MachineSet", "name": "ms", "uid": "uid-MachineSet-ms", "controller": True}
    labels = {"cluster.x-k8s.io/deployment-name": "md"}
    old: Json = {"apiVersion": CORE, "kind": "MachineSet", "metadata": {"name": "ms", "namespace": "default", "labels": labels, "annotations": {revision: "9"}}}
    new: Json = {"apiVersion": CORE, "kind": "MachineDeployment", "metadata": {"name": "md", "namespace": "default", "annotations": {revision: "10"}}}
    view = world(cluster(), machine(ownerReferences=[owner]), config(), infra(), old | {"spec": base}, new | {"spec": base})
    view.settle(KIND, "default", "m1")
    assert view.workloads[CLUSTER].nodes[0]["spec"]["taints"] == [{"key": "node.cluster.x-k8s.io/outdated-revision", "effect": "PreferNoSchedule"}]
    stored(view, "MachineSet", "ms")["metadata"]["annotations"][revision] = "10"
    view.settle(KIND, "default", "m1")
    assert view.workloads[CLUSTER].nodes[0]["spec"]["taints"] == []


def infra_ref() -> Json:
    return {"apiGroup": "i.example.org", "kind": "FooMachineTemplate", "name": "t"}


def test_interruptible_hosts_mark_their_node() -> None:
    found = synced(node(), infra(status={"interruptible": True}))
    assert found["metadata"]["labels"] == {"cluster.x-k8s.io/interruptible": ""}


def test_the_patch_is_strategic_and_fenced() -> None:
    view = world(cluster(), machine(), config(), infra())
    (step,) = [step for step in plan_writes(view.run(KIND, "default", "m1")) if isinstance(step, Patch) and step.key.kind == "Node"]
    assert (step.strategic, step.resource_version, step.key.cluster) == (True, "7", CLUSTER)


def test_nothing_is_sent_to_a_cluster_that_is_not_connected() -> None:
    view = world(cluster(), machine(), config(), infra(), found=workload(node(), connected=False, last_probe_success=NOW))
    assert not [step for step in plan_writes(view.run(KIND, "default", "m1")) if step.key.cluster]
