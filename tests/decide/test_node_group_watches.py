"""What wakes a node group, and what does not; and a template of emulated hosts."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from fleetwake.kind import Change
from fleetwake.kind import Watch as Relation
from schemas.keys import ClusterKey, ObjectKey
from services.autoscaler_bridge.kinds.node_group.watches import own_change
from services.dev_infrastructure.kinds import dev_machine_template
from tests.decide.node_group_world import BY_KIND, CORE, NAMESPACE, Groups, cluster, machine, scalable, set_of_deployment
from tests.decide.world import FakeView, Json, json_key

DEMO = ClusterKey(NAMESPACE, "demo")


def woken(world: Groups, before: Json | None, after: Json | None) -> list[ObjectKey]:
    """The keys of the world's kind that a change wakes."""
    kind, key = BY_KIND[world.kind], json_key(after or before or {})
    change = Change(key, DEMO, before, after)
    named = {watch.source for watch in kind.watches} | {kind.group_kind}

    def listens(watch: Relation) -> bool:
        return watch.source == key.group_kind or (watch.source.kind == "*" and key.group_kind not in named)

    return [key for watch in kind.watches if listens(watch) and watch.matters(change) for key in watch.concerns(change, world)]


def bent(obj: Json, part: str, **fields: Any) -> Json:
    """The object with fields of a part replaced."""
    found = copy.deepcopy(obj)
    found.setdefault(part, {}).update(fields)
    return found


@pytest.mark.parametrize(
    ("part", "fields", "wakes"),
    [
        pytest.param("metadata", {"annotations": {"cluster.x-k8s.io/delete-machine": ""}}, True, id="marked"),
        pytest.param("metadata", {"deletionTimestamp": "2026-01-02T03:04:05Z"}, True, id="goes"),
        pytest.param("status", {"phase": "Running"}, False, id="phase"),
        pytest.param("spec", {"providerID": "foo://x"}, False, id="providerID"),
    ],
)
@pytest.mark.parametrize(
    ("kind", "owner"), [("MachineDeployment", ("MachineSet", "md-1")), ("MachineSet", ("MachineSet", "ms")), ("MachinePool", ("MachinePool", "mp"))]
)
def test_a_machine_wakes_its_group(kind: str, owner: tuple[str, str], part: str, fields: Json, wakes: bool) -> None:
    one = machine("a", owner)
    world = Groups(kind, scalable(kind), one)
    assert woken(world, one, bent(one, part, **fields)) == ([world.key] if wakes else [])


def test_a_machine_of_nobody_wakes_nobody() -> None:
    world = Groups("MachineDeployment", scalable("MachineDeployment"))
    assert woken(world, None, machine("a", ("MachineSet", "unknown"))) == []
    assert woken(world, None, machine("a", ("KubeadmControlPlane", "md"))) == []


@pytest.mark.parametrize(("spec", "wakes"), [({"paused": True}, True), ({"topology": {"classRef": {"name": "c"}}}, True), ({"clusterNetwork": {}}, False)])
def test_a_cluster_wakes_its_groups(spec: Json, wakes: bool) -> None:
    world = Groups("MachineSet", scalable("MachineSet"))
    assert woken(world, cluster(), cluster(**spec)) == ([world.key] if wakes else [])


def test_a_template_wakes_who_names_it_by_what_it_tells() -> None:
    world = Groups("MachineDeployment", scalable("MachineDeployment"))
    silent = {"apiVersion": "infrastructure.example.org/v1", "kind": "FooMachineTemplate", "metadata": {"name": "t", "namespace": NAMESPACE}, "spec": {}}
    telling = bent(silent, "status", capacity={"cpu": "1"})
    assert woken(world, silent, telling) == [world.key] and woken(world, None, silent) == [world.key]
    assert woken(world, silent, bent(silent, "spec", template={})) == []
    assert woken(world, None, bent(telling, "metadata", name="another")) == []
    assert woken(world, None, {**telling, "kind": "BarMachineTemplate"}) == []


@pytest.mark.parametrize(
    ("part", "fields", "wakes"),
    [
        pytest.param("spec", {"replicas": 7}, True, id="size"),
        pytest.param("metadata", {"annotations": {}}, True, id="annotations"),
        pytest.param("metadata", {"ownerReferences": []}, True, id="owner"),
        pytest.param("status", {"replicas": 7}, False, id="counters"),
        pytest.param("metadata", {"labels": {"a": "b"}}, False, id="labels"),
    ],
)
def test_a_group_wakes_by_its_own_change_but_not_by_its_status(part: str, fields: Json, wakes: bool) -> None:
    one = scalable("MachineDeployment")
    assert own_change(Change(ObjectKey(CORE, "MachineDeployment", NAMESPACE, "md"), DEMO, one, bent(one, part, **fields))) is wakes
    assert own_change(Change(json_key(set_of_deployment()), DEMO, None, set_of_deployment()))


def template(**metadata: Any) -> Json:
    """A DevMachineTemplate."""
    meta = {"name": "t", "namespace": NAMESPACE, **metadata}
    return {
        "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2",
        "kind": "DevMachineTemplate",
        "metadata": meta,
        "spec": {"template": {"spec": {"backend": {"inMemory": {}}}}},
    }


def test_a_template_of_emulated_hosts_tells_what_they_have_once() -> None:
    world = FakeView([template()])
    world.run(dev_machine_template.KIND, NAMESPACE, "t")
    (found,) = world.store.values()
    assert found["status"]["capacity"] == dict(dev_machine_template.RESOURCES)
    assert not world.run(dev_machine_template.KIND, NAMESPACE, "t").steps
    assert not world.run(dev_machine_template.KIND, NAMESPACE, "gone").steps


@pytest.mark.parametrize("paused", ["template", "cluster"])
def test_a_paused_template_is_not_touched(paused: str) -> None:
    owner = {"apiVersion": f"{CORE}/v1beta2", "kind": "Cluster", "name": "demo", "uid": "uid-Cluster-demo"}
    annotations = {"cluster.x-k8s.io/paused": ""} if paused == "template" else {}
    world = FakeView([template(ownerReferences=[owner], annotations=annotations), cluster(paused=paused == "cluster")])
    assert not world.run(dev_machine_template.KIND, NAMESPACE, "t").steps
