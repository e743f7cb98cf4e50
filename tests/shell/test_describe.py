"""``fleetwake describe``: the tree of a cluster and the fleet at a glance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleetwake.views import fleet, tree
from fleetwake.views.fleet import Truth
from fleetwake.views.terminal import age, took
from tests.shell.view_records import golden, text_of

NOW = datetime(2026, 1, 1, 12, 10, tzinfo=UTC)
STUCK = "* NodeHealthy: Node.Ready: kubelet has sufficient memory available\n* Deleting: Drain not completed"
CORE = "cluster.x-k8s.io/v1beta2"


def condition(kind: str, status: str = "True", reason: str = "", message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason or kind, "message": message, "lastTransitionTime": "2026-01-01T12:00:00Z"}


def make(kind: str, name: str, *conditions: dict[str, Any], owner: str = "", spec: dict[str, Any] | None = None, **rest: Any) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": name, "uid": f"uid-{kind}-{name}", **rest.pop("metadata", {})}
    if owner:
        meta["ownerReferences"] = [{"uid": f"uid-{owner}", "controller": True}]
    return {
        "apiVersion": CORE,
        "kind": kind,
        "metadata": meta,
        "spec": {"clusterName": "demo", **(spec or {})},
        "status": {"conditions": list(conditions), **rest},
    }


def machine(name: str, owner: str, ready: str = "True", message: str = "", **rest: Any) -> dict[str, Any]:
    both = condition("Available", ready), condition("UpToDate")
    return make("Machine", name, condition("Ready", ready, "Ready" if ready == "True" else "NotReady", message), *both, owner=owner, **rest)


def world() -> list[dict[str, Any]]:
    references = {"infrastructureRef": {"kind": "DevCluster", "name": "demo"}, "controlPlaneRef": {"kind": "KubeadmControlPlane", "name": "plane"}}
    counts = {"desiredReplicas": 3, "replicas": 3, "readyReplicas": 2, "availableReplicas": 2, "upToDateReplicas": 3}
    waiting = "* MachineDeployment workers: 1 available replicas, at least 2 required (spec.strategy.rollout.maxUnavailable is 0, spec.replicas is 2)"
    return [
        make("Cluster", "demo", condition("Available", "False", "NotAvailable", f"* WorkersAvailable:\n  {waiting}"), condition("InfrastructureReady"),
             condition("ScalingUp", "True"), condition("RollingOut", "False", "NotRollingOut"), condition("WorkersAvailable", "False", "NotAvailable", waiting),
             spec=references, controlPlane=counts, workers=counts),
        make("DevCluster", "demo", condition("Ready")),
        make("KubeadmControlPlane", "plane", condition("Available"), spec={"replicas": 3}, **{**counts, "readyReplicas": 3, "availableReplicas": 3}),
        *(machine(f"plane-{letter}", "KubeadmControlPlane-plane") for letter in "abc"),
        make("MachineDeployment", "workers", condition("Available", "False", "NotAvailable", waiting), spec={"replicas": 2}, replicas=2, availableReplicas=1),
        make("MachineSet", "workers-x", owner="MachineDeployment-workers", spec={"replicas": 2}),
        machine("workers-x-1", "MachineSet-workers-x"),
        machine("workers-x-2", "MachineSet-workers-x", "False", STUCK,
                metadata={"deletionTimestamp": "2026-01-01T12:05:00Z"}),
        machine("stray", ""),
        {**make("MachineDeployment", "of-another"), "spec": {"clusterName": "another"}},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "selected", "grouping", "width"),
    [
        ("tree", "", True, 180),
        ("tree, narrow", "", True, 150),
        ("tree, conditions of the cluster", "cluster", True, 180),
        ("tree, what needs attention", "all+", True, 180),
        ("tree, one machine in full, none grouped", "machine/workers-x-2", False, 180),
    ],
)
def test_the_tree(name: str, selected: str, grouping: bool, width: int) -> None:
    root = tree.build(world(), "demo", selected=tree.Selected.parse(selected), grouping=grouping)
    assert root is not None
    golden(name, text_of(tree.render(root, NOW, width), width + 60))


def test_the_machines_of_a_pool_stand_below_it() -> None:
    pool = make("MachinePool", "tidal", condition("Available"), spec={"replicas": 2}, replicas=2)
    root = tree.build([*world(), pool, machine("tidal-1", "MachinePool-tidal"), machine("tidal-2", "MachinePool-tidal", "False", STUCK)], "demo")
    assert root is not None
    workers = root.children[-1]
    (found,) = [node for node in workers.children if node.label == "MachinePool/tidal"]
    assert {node.label for node in found.children} == {"Machine/tidal-1", "Machine/tidal-2"}
    assert not {node.label for node in workers.children} & {node.label for node in found.children}


def test_a_cluster_that_is_only_just_there_has_a_tree() -> None:
    root = tree.build([{"kind": "Cluster", "metadata": {"name": "demo", "uid": "u"}, "spec": {}}], "demo")
    assert root is not None
    assert "Cluster/demo" in text_of(tree.render(root, NOW, 150))
    assert tree.build([], "demo") is None


def hashes() -> dict[str, dict[str, str]]:
    good = {
        "phase": "Provisioned", "rv": "10", "condition:Available": "True/Available/2026-01-01T12:00:00Z", "controlPlane:desiredReplicas": "3",
        "controlPlane:availableReplicas": "3", "controlPlane:versions": "v1.34.0x3", "workers:desiredReplicas": "10", "workers:availableReplicas": "10",
        "workers:versions": "v1.34.0x10", "endpoint": "127.0.0.1:20000",
    }  # fmt: skip
    bad = {
        **good,
        "condition:Available": "False/NotAvailable/2026-01-01T12:08:00Z",
        "workers:availableReplicas": "7",
        "condition:RollingOut": "True/RollingOut/",
    }
    return {"default/a": good, "default/b": bad, "team/c": {"phase": "Pending", "paused": "true"}}


def test_the_fleet_shows_what_needs_attention_first() -> None:
    golden("fleet", text_of(fleet.render(hashes(), NOW, fleet.note_of(NOW - timedelta(seconds=70), NOW)), 190))


@pytest.mark.parametrize(
    ("truth", "since"),
    [
        ({"default/a": Truth("10", NOW - timedelta(hours=1))}, None),
        ({"default/a": Truth("11", NOW - timedelta(seconds=1))}, None),
        ({"default/a": Truth("11", NOW - timedelta(minutes=3))}, NOW - timedelta(minutes=3)),
        ({"default/a": Truth("10", NOW), "default/new": Truth("12", NOW - timedelta(minutes=9))}, NOW - timedelta(minutes=9)),
        ({}, NOW),
    ],
    ids=["current", "a moment behind", "behind", "one is missing", "one is gone"],
)
def test_the_read_model_is_stale_when_it_misses_a_change(truth: dict[str, Truth], since: datetime | None) -> None:
    assert fleet.stale_since({"default/a": {"rv": "10"}}, truth, NOW) == since


@pytest.mark.parametrize(("seconds", "text"), [(7, "7s"), (119, "119s"), (252, "4m12s"), (600, "10m"), (18_180, "5h3m"), (172_800, "2d"), (864_000, "10d")])
def test_ages_are_written_as_kubectl_does(seconds: int, text: str) -> None:
    assert age(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.00034, "340 µs"), (0.012, "12 ms"), (1.844, "1.84 s"), (42.42, "42.4 s"), (200, "3 m 20 s")])
def test_durations_have_their_unit(seconds: float, text: str) -> None:
    assert took(timedelta(seconds=seconds)) == text
