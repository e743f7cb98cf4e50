"""Templates of a topology's MachineDeployments go when nothing refers to them, and not before."""

from __future__ import annotations

from typing import Any

import pytest

from fleetwake import labels
from fleetwake.kind import Change
from fleetwake.plan import Delete, Patch, Plan
from schemas.keys import ObjectKey
from services.reconcilers.kinds.topology_templates import MACHINE_DEPLOYMENT_KIND, MACHINE_SET_KIND
from tests.decide.topology_world import BOOTSTRAP, CORE, INFRASTRUCTURE, Json
from tests.decide.world import FakeView, json_key

OWN = {labels.CLUSTER_NAME: "my", labels.TOPOLOGY_OWNED: "", labels.TOPOLOGY_DEPLOYMENT_NAME: "md-0"}
GOING = {"deletionTimestamp": "2026-01-02T03:04:05Z"}
FINALIZERS = {"MachineDeployment": labels.TOPOLOGY_MACHINE_DEPLOYMENT_FINALIZER, "MachineSet": labels.TOPOLOGY_MACHINE_SET_FINALIZER}


def workers(kind: str, name: str, templates: str, **metadata: Any) -> Json:
    """A MachineDeployment or MachineSet made with the templates of that name."""
    spec = {
        "clusterName": "my",
        "bootstrap": {"configRef": {"apiGroup": BOOTSTRAP.partition("/")[0], "kind": "KubeadmConfigTemplate", "name": templates}},
        "infrastructureRef": {"apiGroup": INFRASTRUCTURE.partition("/")[0], "kind": "DevMachineTemplate", "name": templates},
    }
    meta = {"name": name, "namespace": "default", "labels": OWN, **metadata}
    return {"apiVersion": CORE, "kind": kind, "metadata": meta, "spec": {"clusterName": "my", "selector": {"matchLabels": OWN}, "template": {"spec": spec}}}


def template(kind: str, name: str, **metadata: Any) -> Json:
    version = BOOTSTRAP if kind == "KubeadmConfigTemplate" else INFRASTRUCTURE
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "default", "labels": OWN, **metadata}, "spec": {"template": {}}}


def world(*objects: Json, paused: bool = False) -> FakeView:
    cluster = {"apiVersion": CORE, "kind": "Cluster", "metadata": {"name": "my", "namespace": "default"}, "spec": {"paused": paused}}
    templates = [template(kind, name) for kind in ("KubeadmConfigTemplate", "DevMachineTemplate") for name in ("a", "b")]
    return FakeView([cluster, *templates, *objects])


def decided(view: FakeView, kind: str, name: str) -> Plan:
    one = MACHINE_DEPLOYMENT_KIND if kind == "MachineDeployment" else MACHINE_SET_KIND
    observed: Any = one.observe(view, ObjectKey(CORE.partition("/")[0], kind, "default", name))
    return Plan() if observed is None else one.reconcile(observed)


def deleted(plan: Plan) -> list[str]:
    return [f"{step.key.kind} {step.key.name}" for step in plan.steps if isinstance(step, Delete)]


@pytest.mark.parametrize("kind", FINALIZERS)
def test_an_object_of_a_topology_is_held_once(kind: str) -> None:
    plan = decided(world(workers(kind, "one", "a", finalizers=["of/others"])), kind, "one")
    (step,) = plan.steps
    assert isinstance(step, Patch) and step.body["metadata"]["finalizers"] == ["of/others", FINALIZERS[kind]]
    assert decided(world(workers(kind, "one", "a", finalizers=[FINALIZERS[kind]])), kind, "one").steps == ()
    assert decided(world(workers(kind, "one", "a", labels={labels.CLUSTER_NAME: "my"})), kind, "one").steps == (), "no topology's"


def test_templates_of_a_machine_set_go_with_it_unless_others_use_them() -> None:
    going = workers("MachineSet", "old", "a", finalizers=[FINALIZERS["MachineSet"]], **GOING)
    deployment = workers("MachineDeployment", "md", "b")
    plan = decided(world(going, deployment, workers("MachineSet", "new", "b")), "MachineSet", "old")
    assert deleted(plan) == ["KubeadmConfigTemplate a", "DevMachineTemplate a"]
    assert plan.rests_on_absence, "that nobody refers to them is confirmed by live reads"
    last = plan.steps[-1]
    assert isinstance(last, Patch) and last.body["metadata"]["finalizers"] is None, "it is let go behind them"
    assert deleted(decided(world(going, deployment, workers("MachineSet", "other", "a")), "MachineSet", "old")) == []
    assert deleted(decided(world(going, workers("MachineDeployment", "md", "a")), "MachineSet", "old")) == []


def test_a_deployment_that_goes_leaves_its_templates_to_its_machine_sets() -> None:
    going = workers("MachineDeployment", "md", "a", finalizers=[FINALIZERS["MachineDeployment"]], **GOING)
    assert deleted(decided(world(going), "MachineDeployment", "md")) == ["KubeadmConfigTemplate a", "DevMachineTemplate a"]
    left = decided(world(going, workers("MachineSet", "ms", "a")), "MachineDeployment", "md")
    assert deleted(left) == [] and len(left.steps) == 1


def test_what_a_user_made_stays_and_a_paused_cluster_is_left_alone() -> None:
    going = workers("MachineSet", "old", "a", finalizers=[FINALIZERS["MachineSet"]], **GOING)
    view = world(going)
    view.put(template("DevMachineTemplate", "a", labels={}))
    assert deleted(decided(view, "MachineSet", "old")) == ["KubeadmConfigTemplate a"]
    assert decided(world(going, paused=True), "MachineSet", "old").steps == ()


def test_objects_of_no_topology_wake_nobody() -> None:
    own, foreign = workers("MachineSet", "one", "a"), workers("MachineSet", "one", "a", labels={})
    assert MACHINE_SET_KIND.own(Change(json_key(own), None, None, own)) and not MACHINE_SET_KIND.own(Change(json_key(foreign), None, None, foreign))
    scaled = {**own, "spec": {**own["spec"], "replicas": 3}}
    assert not MACHINE_SET_KIND.own(Change(json_key(own), None, own, scaled)), "its size has nothing to do with its templates"
