"""Draining a Node round by round, and waiting for its volumes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fleetwake.kind import Looked, Workload
from fleetwake.plan import Evict, Look, Patch, Plan, flatten
from services.reconcilers.kinds.machine import KIND
from tests.decide.machine_world import CLUSTER, CORE, cluster, condition, config, control_plane, infra, machine, node, workload, world
from tests.decide.world import FakeView, Json

GOING = "2026-01-02T03:04:00Z"
CONTROL_PLANE_LABEL = {"cluster.x-k8s.io/control-plane": ""}
HEADER = "Drain not completed yet (started at 2026-01-02T03:04:05Z):"
BUDGET = "Cannot evict pod as it would violate the pod's disruption budget. The disruption budget web needs 2 healthy pods and has 2 currently"


def pod(name: str, *, namespace: str = "default", phase: str = "Running", volumes: list[Json] | None = None, **metadata: Any) -> Json:
    meta = {"name": name, "namespace": namespace, "uid": f"uid-{name}"} | metadata
    return {"metadata": meta, "spec": {"nodeName": "m1", "volumes": volumes or []}, "status": {"phase": phase}}


def controlled(kind: str, name: str) -> list[Json]:
    return [{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": True}]


def known(view: FakeView, *, namespaces: dict[str, Json] | None = None, exists: tuple[str, ...] = (), missing: tuple[str, ...] = ()) -> None:
    """Let the looks at namespaces (labels by name) and DaemonSets (``namespace/name``) be answered."""
    if namespaces is not None:
        look(view, "namespaces", [{"metadata": {"name": name, "labels": labels}} for name, labels in namespaces.items()])
    for name in (*exists, *missing):
        look(view, f"get/apps/v1/DaemonSet/{name}", {"kind": "DaemonSet"} if name in exists else None)


def rule(name: str, behavior: str, *, order: int | None = None, pods: list[Json] | None = None, machines: list[Json] | None = None) -> Json:
    drain: Json = {"behavior": behavior} | ({"order": order} if order is not None else {})
    spec = {"drain": drain} | ({"pods": pods} if pods else {}) | ({"machines": machines} if machines else {})
    return {"apiVersion": CORE, "kind": "MachineDrainRule", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def going(*objects: Json, found: Workload | None = None, **metadata: Any) -> FakeView:
    """A running Machine that has just been asked to go, in a cluster whose control plane lives on."""
    spec = metadata.pop("spec", {})
    status = {"nodeRef": {"name": "m1"}, "initialization": {"infrastructureProvisioned": True, "bootstrapDataSecretCreated": True}}
    meta = {"deletionTimestamp": GOING} | metadata
    own = machine(spec={"providerID": "foo://m1"} | spec, **meta) | {"status": status}
    other = machine("cp", labels=CONTROL_PLANE_LABEL)
    return world(cluster(), control_plane(), own, other, config(), infra(), *objects, found=found)


def look(view: FakeView, query: str, value: Any, *, error: str = "") -> None:
    """Let an answer arrive now."""
    known = view.workloads[CLUSTER]
    view.workloads = {**view.workloads, CLUSTER: replace(known, looks={**known.looks, query: Looked(view.at, value, error)})}


def evicted(view: FakeView, **outcomes: tuple[int, str]) -> None:
    """Let the outcomes of evictions be known."""
    for name, (status, text) in outcomes.items():
        look(view, f"eviction/default/{name}", {"status": status, "message": text})


def run(view: FakeView) -> Plan:
    return view.run(KIND, "default", "m1")


def asked(plan: Plan) -> tuple[list[str], list[str]]:
    """The Pods a plan evicts and the looks it takes."""
    steps = list(flatten(plan.steps))
    return [step.key.name for step in steps if isinstance(step, Evict)], [step.query for step in steps if isinstance(step, Look)]


def deleting(view: FakeView) -> tuple[str, str]:
    told = condition(view, "Deleting")
    return told["reason"], told["message"]


def test_a_drain_from_first_look_to_the_end() -> None:
    view = going()
    first = run(view)
    assert asked(first) == ([], ["pods/m1"]) and first.requeue_after == timedelta(seconds=20)
    assert any(isinstance(step, Patch) and step.body == {"spec": {"unschedulable": True}} for step in first.steps)
    assert deleting(view) == ("DrainingNode", HEADER)
    assert not [step for step in run(view).steps if isinstance(step, Patch)], "cordoned once"
    look(view, "pods/m1", [pod("a"), pod("b")])
    second = run(view)
    assert asked(second) == (["a", "b"], []) and second.guarded and second.requeue_after == timedelta(seconds=1)
    evicted(view, a=(201, ""), b=(429, BUDGET))
    third = run(view)
    assert asked(third) == ([], [])
    lower = "c" + BUDGET[1:]
    assert deleting(view)[1] == f"{HEADER}\n* Pod default/a: deletionTimestamp set, but still not removed from the Node\n* Pod default/b: {lower}"
    assert not run(view).writes, "one write a round"
    view.later(20)
    assert asked(run(view)) == ([], ["pods/m1"])
    look(view, "pods/m1", [pod("b")])
    assert asked(run(view)) == (["b"], []), "a new round asks anew"
    evicted(view, b=(404, ""))
    last = run(view)
    assert asked(last)[1] == ["volumes/m1"]
    assert deleting(view)[0] == "WaitingForVolumeDetach"


def test_an_empty_node_passes_in_the_run_that_sees_it() -> None:
    view = going()
    look(view, "pods/m1", [])
    look(view, "volumes/m1", {})
    plan = run(view)
    assert deleting(view)[0] == "WaitingForInfrastructureDeletion"
    assert any(getattr(step, "key", None) and step.key.kind == "FooMachine" for step in plan.steps)


SKIPPED = "uid-x not asked"
CASES = [
    pytest.param(pod("x"), [], {}, "evict", id="plain"),
    pytest.param(pod("x", ownerReferences=controlled("DaemonSet", "ds")), [], {"exists": ("default/ds",)}, "skip", id="daemon-set"),
    pytest.param(pod("x", ownerReferences=controlled("DaemonSet", "ds")), [], {"missing": ("default/ds",)}, "evict", id="daemon-set-gone"),
    pytest.param(
        pod("x", phase="Succeeded", ownerReferences=controlled("DaemonSet", "ds")), [], {"exists": ("default/ds",)}, "evict", id="daemon-set-finished"
    ),
    pytest.param(pod("x", annotations={"kubernetes.io/config.mirror": "h"}), [], {}, "skip", id="static"),
    pytest.param(pod("x", volumes=[{"name": "v", "emptyDir": {}}]), [], {}, "evict", id="local-storage"),
    pytest.param(pod("x", labels={"cluster.x-k8s.io/drain": "Skip"}), [], {}, "skip", id="label-skip"),
    pytest.param(pod("x", labels={"cluster.x-k8s.io/drain": "wait-completed"}), [], {}, "wait", id="label-wait"),
    pytest.param(pod("x", phase="Succeeded", labels={"cluster.x-k8s.io/drain": "wait-completed"}), [], {}, "skip", id="label-wait-completed"),
    pytest.param(pod("x", labels={"cluster.x-k8s.io/drain": "nonsense"}), [], {}, "evict", id="label-unknown"),
    pytest.param(pod("x"), [rule("r", "Skip")], {}, "skip", id="rule-for-all"),
    pytest.param(pod("x"), [rule("b", "Skip"), rule("a", "WaitCompleted")], {}, "wait", id="first-rule-by-name"),
    pytest.param(pod("x"), [rule("r", "Skip", pods=[{"selector": {"matchLabels": {"app": "y"}}}])], {}, "evict", id="rule-for-other-pods"),
    pytest.param(
        pod("x"),
        [rule("r", "Skip", pods=[{"namespaceSelector": {"matchLabels": {"team": "a"}}}])],
        {"namespaces": {"default": {"team": "a"}}},
        "skip",
        id="rule-by-namespace",
    ),
    pytest.param(pod("x"), [rule("r", "Skip", machines=[{"selector": {"matchLabels": {"os": "x"}}}])], {}, "evict", id="rule-for-other-machines"),
    pytest.param(pod("x", labels={"cluster.x-k8s.io/drain": "skip"}), [rule("r", "Drain", order=3)], {}, "skip", id="label-before-rules"),
]


@pytest.mark.parametrize(("found", "rules", "more", "expected"), CASES)
def test_what_draining_does_with_a_pod(found: Json, rules: list[Json], more: Json, expected: str) -> None:
    view = going(*rules)
    known(view, **more)
    look(view, "pods/m1", [found])
    plan = run(view)
    outcome = "evict" if asked(plan)[0] else "wait" if "waiting for completion" in deleting(view)[1] else "skip"
    assert outcome == expected
    assert (deleting(view)[0] == "DrainingNode") is (expected != "skip")


def test_what_decides_about_pods_is_looked_at_once_a_drain() -> None:
    view = going(rule("r", "Skip", pods=[{"namespaceSelector": {"matchLabels": {"team": "a"}}}]))
    assert asked(run(view))[1] == ["pods/m1", "namespaces"]
    look(view, "pods/m1", [pod("x", ownerReferences=controlled("DaemonSet", "ds")), pod("y")])
    assert asked(run(view)) == ([], ["get/apps/v1/DaemonSet/default/ds"])
    known(view, exists=("default/ds",))
    assert asked(run(view)) == (["y"], [])
    view.later(20)
    look(view, "pods/m1", [pod("x", ownerReferences=controlled("DaemonSet", "ds")), pod("y")])
    assert asked(run(view)) == (["y"], [])


def test_order_decides_who_goes_now() -> None:
    select = [{"selector": {"matchLabels": {"late": "yes"}}}]
    view = going(rule("r", "Drain", order=5, pods=select))
    look(view, "pods/m1", [pod("early"), pod("late", labels={"late": "yes"})])
    assert asked(run(view))[0] == ["early"]
    evicted(view, early=(201, ""))
    run(view)
    assert deleting(view)[1].endswith("After above Pods have been removed from the Node, the following Pods will be evicted: default/late")
    look(view, "pods/m1", [pod("early", deletionTimestamp=GOING), pod("late", labels={"late": "yes"})])
    assert asked(run(view))[0] == [], "a pod that terminates still holds its place in the order"
    look(view, "pods/m1", [pod("late", labels={"late": "yes"})])
    assert asked(run(view))[0] == ["late"]


def test_names_are_limited_and_failures_grouped() -> None:
    names = [f"p{i}" for i in range(5)]
    view = going()
    look(view, "pods/m1", [pod(name) for name in names])
    run(view)
    refused = 'pods "p4" is forbidden: unable to create new content in namespace default because it is being terminated'
    evicted(view, **dict.fromkeys(names[:4], (500, "boom")), p4=(403, refused))
    run(view)
    assert deleting(view)[1] == (
        f"{HEADER}\n"
        "* Pod default/p4: failed to evict Pod, Cannot evict pod from terminating namespace: unable to create eviction "
        "(kube-controller-manager should set deletionTimestamp)\n"
        "* Pods default/p0, default/p1, default/p2, ... (1 more): failed to evict Pod, boom"
    )


def test_an_unreachable_node_is_not_waited_for() -> None:
    taint = [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]
    view = going(found=workload(node(taints=taint)))
    look(view, "pods/m1", [pod("stuck", deletionTimestamp=GOING), pod("fresh")])
    (step,) = [step for step in run(view).steps if isinstance(step, Evict)]
    assert (step.key.name, step.grace_seconds) == ("fresh", 1)
    look(view, "pods/m1", [pod("stuck", deletionTimestamp=GOING)])
    run(view)
    assert deleting(view)[0] == "WaitingForInfrastructureDeletion", "neither pods nor volumes"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"annotations": {"machine.cluster.x-k8s.io/exclude-node-draining": ""}}, "WaitingForVolumeDetach", id="excluded"),
        pytest.param({"spec": {"deletion": {"nodeDrainTimeoutSeconds": 30}}}, "DrainingNode", id="time-left"),
        pytest.param({"spec": {"deletion": {"nodeDrainTimeoutSeconds": 0}}}, "DrainingNode", id="no-limit"),
    ],
)
def test_when_draining_is_due(changes: Json, reason: str) -> None:
    view = going(**changes)
    run(view)
    assert deleting(view)[0] == reason


def test_the_drain_timeout_ends_it() -> None:
    view = going(spec={"deletion": {"nodeDrainTimeoutSeconds": 30}})
    look(view, "pods/m1", [pod("a")])
    run(view)
    view.later(25)
    assert run(view).requeue_after == timedelta(seconds=5)
    view.later(5)
    run(view)
    assert deleting(view)[0] == "WaitingForVolumeDetach"


def test_without_a_connection_the_drain_waits() -> None:
    view = going(found=workload(node(), connected=False), spec={"deletion": {"nodeDrainTimeoutSeconds": 30}})
    plan = run(view)
    assert asked(plan) == ([], []) and plan.requeue_after == timedelta(seconds=30)
    assert deleting(view) == ("DrainingNode", HEADER)


def test_a_look_that_failed_is_told_and_repeated() -> None:
    view = going()
    look(view, "pods/m1", None, error="timeout")
    plan = run(view)
    assert deleting(view) == ("DrainingNode", "Error draining Node: timeout") and plan.requeue_after == timedelta(seconds=20)


def test_a_node_that_is_gone_needs_no_drain() -> None:
    view = going(found=workload())
    run(view)
    assert deleting(view)[0] == "WaitingForInfrastructureDeletion"


def test_a_node_not_listed_yet_is_waited_for() -> None:
    view = going(found=workload(watch_synced=False))
    run(view)
    assert deleting(view) == ("DrainingNode", HEADER)


def test_later_pods_to_complete_and_many_failures() -> None:
    select = [{"selector": {"matchLabels": {"first": "yes"}}}]
    view = going(rule("r", "Drain", order=-1, pods=select))
    names = [f"p{i}" for i in range(6)]
    waits = pod("w", labels={"cluster.x-k8s.io/drain": "wait-completed"})
    look(view, "pods/m1", [*(pod(name, labels={"first": "yes"}) for name in names), waits])
    run(view)
    evicted(view, **{name: (500, f"boom {name}") for name in names})
    run(view)
    text = deleting(view)[1]
    assert "* 1 Pod with other issues" in text
    assert text.endswith("After above Pods have been removed from the Node, waiting for the following Pods to complete without eviction: default/w")


def test_volumes_of_a_cluster_that_is_away_are_waited_for() -> None:
    excluded = {"machine.cluster.x-k8s.io/exclude-node-draining": ""}
    view = going(found=workload(node(), connected=False), annotations=excluded)
    run(view)
    assert deleting(view) == ("WaitingForVolumeDetach", WAITING)
    gone = going(found=workload(), annotations=excluded)
    run(gone)
    assert deleting(gone)[0] == "WaitingForInfrastructureDeletion"


def test_a_look_at_volumes_that_failed_is_told() -> None:
    view = going(annotations={"machine.cluster.x-k8s.io/exclude-node-draining": ""})
    look(view, "volumes/m1", None, error="timeout")
    assert run(view).requeue_after == timedelta(seconds=20)
    assert deleting(view) == ("WaitingForVolumeDetach", "Error waiting for volumes to be detached from Node: timeout")


def test_ready_names_the_stage_and_after_long_the_cause() -> None:
    view = going()
    look(view, "pods/m1", [pod("a")])
    run(view)
    evicted(view, a=(429, BUDGET))
    run(view)
    assert condition(view, "Ready")["message"] == "* Deleting: Machine deletion in progress, stage: DrainingNode"
    view.later(15 * 60)
    run(view)
    expected = "* Deleting: Machine deletion in progress since more than 15m, stage: DrainingNode, delay likely due to PodDisruptionBudgets"
    assert condition(view, "Ready")["message"] == expected


# --- volumes


def volume(name: str, *, handle: str = "", claim: str = "") -> Json:
    spec: Json = {}
    if handle:
        spec["csi"] = {"driver": "csi.example.org", "volumeHandle": handle}
    if claim:
        spec["claimRef"] = {"kind": "PersistentVolumeClaim", "namespace": "default", "name": claim}
    return {"metadata": {"name": name}, "spec": spec}


def attachment(volume_name: str, *, attached: bool = True, node_name: str = "m1") -> Json:
    return {
        "metadata": {"name": f"va-{volume_name}"},
        "spec": {"nodeName": node_name, "source": {"persistentVolumeName": volume_name}},
        "status": {"attached": attached},
    }


def volumes_look(*volumes: Json, attachments: list[Json] | None = None) -> Json:
    """The shape of ``Look volumes/<node>``."""
    return {"volumes": list(volumes), "attachments": attachments or [], "pods": [STAYS]}


STAYS = pod("ds", labels={"cluster.x-k8s.io/drain": "skip"}, volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "ignored"}}])
CSI = "kubernetes.io/csi/csi.example.org^"
WAITING = "Waiting for Node volumes to be detached (started at 2026-01-02T03:04:05Z)"


@pytest.mark.parametrize(
    ("on_node", "value", "message"),
    [
        pytest.param([], volumes_look(volume("pv", claim="c")), None, id="nothing-attached"),
        pytest.param([CSI + "h1"], volumes_look(volume("pv", handle="h1", claim="c")), "* PersistentVolumeClaims: default/c", id="by-node-status"),
        pytest.param([], volumes_look(volume("pv", claim="c"), attachments=[attachment("pv")]), "* PersistentVolumeClaims: default/c", id="by-attachment"),
        pytest.param([], volumes_look(volume("pv", claim="c"), attachments=[attachment("pv", attached=False)]), None, id="detached"),
        pytest.param([], volumes_look(volume("pv", claim="c"), attachments=[attachment("pv", node_name="m2")]), None, id="on-another-node"),
        pytest.param([CSI + "h1"], volumes_look(volume("pv", handle="h1", claim="ignored")), None, id="claim-of-a-pod-that-stays"),
        pytest.param(
            [CSI + "h1"],
            volumes_look(volume("pv", handle="h1")),
            "* PersistentVolumes without a .spec.claimRef to a PersistentVolumeClaim: pv",
            id="unclaimed",
        ),
        pytest.param(
            [CSI + "h9"],
            volumes_look(),
            f"* Node with .status.volumesAttached entries not matching a PersistentVolume: {CSI}h9",
            id="unknown-to-node",
        ),
        pytest.param(
            [],
            volumes_look(attachments=[attachment("pv9")]),
            "* VolumeAttachment with .spec.source.persistentVolumeName not matching a PersistentVolume: pv9",
            id="unknown-to-attachments",
        ),
    ],
)
def test_volumes(on_node: list[str], value: Json, message: str | None) -> None:
    found = node()
    found["status"]["volumesAttached"] = [{"name": name, "devicePath": ""} for name in on_node]
    view = going(found=workload(found))
    look(view, "pods/m1", [STAYS])
    look(view, "volumes/m1", value)
    plan = run(view)
    if message is None:
        assert deleting(view)[0] == "WaitingForInfrastructureDeletion"
    else:
        assert deleting(view) == ("WaitingForVolumeDetach", f"{WAITING}\n{message}")
        assert plan.requeue_after == timedelta(seconds=20)


def test_volumes_are_looked_at_every_round_without_draining_again() -> None:
    view = going()
    look(view, "pods/m1", [])
    look(view, "volumes/m1", volumes_look(attachments=[attachment("pv")]))
    run(view)
    told = deleting(view)
    view.later(20)
    plan = run(view)
    assert (asked(plan)[1], plan.writes, deleting(view)) == (["volumes/m1"], False, told)


@pytest.mark.parametrize(
    ("changes", "later"),
    [
        pytest.param({"annotations": {"machine.cluster.x-k8s.io/exclude-wait-for-node-volume-detach": ""}}, 0, id="excluded"),
        pytest.param({"spec": {"deletion": {"nodeVolumeDetachTimeoutSeconds": 5}}}, 5, id="time-is-up"),
    ],
)
def test_when_volumes_are_not_waited_for(changes: Json, later: int) -> None:
    view = going(**changes)
    look(view, "pods/m1", [])
    look(view, "volumes/m1", volumes_look(attachments=[attachment("pv")]))
    run(view)
    if later:
        assert deleting(view)[0] == "WaitingForVolumeDetach"
        view.later(later)
        run(view)
    assert deleting(view)[0] == "WaitingForInfrastructureDeletion"
