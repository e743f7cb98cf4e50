"""What wakes a Cluster's topology and a ClusterClass, and what does not: most of a fleet's changes must not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from fleetwake import labels
from fleetwake.kind import CONNECTION, NODE, Change, Kind
from fleetwake.kind import Watch as Relation
from schemas.keys import ClusterKey, ObjectKey
from services.reconcilers.kinds import cluster_class as class_kind
from services.reconcilers.kinds import cluster_topology as topology_kind
from tests.decide.topology_world import BOOTSTRAP, CONTROL_PLANE, CORE, INFRASTRUCTURE, Json, cluster, cluster_class, template, templates
from tests.decide.world import FakeView, json_key

MY = ClusterKey("default", "my")
CLUSTER, CLASS = (ObjectKey("cluster.x-k8s.io", kind, "default", name) for kind, name in (("Cluster", "my"), ("ClusterClass", "quick")))
OWN = {labels.CLUSTER_NAME: "my", labels.TOPOLOGY_OWNED: ""}
ADOPTED = {"ownerReferences": [{"apiVersion": CORE, "kind": "ClusterClass", "name": "quick", "uid": "uid-class"}]}


def world() -> FakeView:
    one = cluster()
    one["spec"]["infrastructureRef"] = {"apiGroup": INFRASTRUCTURE.partition("/")[0], "kind": "DevCluster", "name": "my-infra"}
    one["spec"]["controlPlaneRef"] = {"apiGroup": CONTROL_PLANE.partition("/")[0], "kind": "KubeadmControlPlane", "name": "my-plane"}
    return FakeView([one, cluster_class(), *templates()])


def woken(kind: Kind[Any], change: Change) -> list[ObjectKey]:
    """The keys of the kind that a change of another object wakes."""
    named = {watch.source for watch in kind.watches} | {kind.group_kind}

    def listens(watch: Relation) -> bool:
        return watch.source == change.key.group_kind or (watch.source.kind == "*" and change.key.group_kind not in named and not change.key.cluster)

    view = world()
    return list(dict.fromkeys(key for watch in kind.watches if listens(watch) and watch.matters(change) for key in watch.concerns(change, view)))


def obj(api_version: str, kind: str, name: str, **parts: Any) -> Json:
    metadata = {"name": name, "namespace": "default", "labels": OWN, **parts.pop("metadata", {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **parts}


def bent(before: Json, path: str, value: Any) -> Json:
    found = copy.deepcopy(before)
    inner = found
    *way, last = path.split(".")
    for name in way:
        inner = inner.setdefault(name, {})
    inner[last] = value
    return found


PLANE = obj(CONTROL_PLANE, "KubeadmControlPlane", "my-plane", spec={"replicas": 1}, status={"version": "v1.34.2"})
MACHINE = obj(CORE, "Machine", "m", spec={"version": "v1.34.2"}, status={"phase": "Running"})
DEPLOYMENT = obj(CORE, "MachineDeployment", "md", spec={"replicas": 1}, status={"replicas": 1})
COPY = obj(BOOTSTRAP, "KubeadmConfigTemplate", "my-md-0-abcde", spec={"template": {}})
OF_CLASS = template(BOOTSTRAP, "KubeadmConfigTemplate", "worker-bootstrap", {}, **ADOPTED)
HOST = obj(INFRASTRUCTURE, "DevMachine", "m", spec={}, status={})


@pytest.mark.parametrize(
    ("before", "path", "value", "wakes"),
    [
        pytest.param(PLANE, "status.version", "v1.35.0", True, id="version of the control plane"),
        pytest.param(PLANE, "spec.replicas", 3, True, id="spec of the control plane"),
        pytest.param(PLANE, "status.replicas", 3, False, id="counters of the control plane"),
        pytest.param(bent(PLANE, "metadata.name", "another"), "spec.replicas", 3, False, id="another control plane"),
        pytest.param(MACHINE, "spec.version", "v1.35.0", True, id="version of a Machine"),
        pytest.param(MACHINE, "status.nodeInfo", {"kubeletVersion": "v1.35.0"}, True, id="version of its kubelet"),
        pytest.param(MACHINE, "status.phase", "Deleting", False, id="phase of a Machine"),
        pytest.param(bent(MACHINE, "metadata.labels", {}), "spec.version", "v1.35.0", False, id="a Machine of no topology"),
        pytest.param(DEPLOYMENT, "spec.replicas", 2, True, id="spec of a MachineDeployment"),
        pytest.param(DEPLOYMENT, "status.replicas", 2, False, id="status of a MachineDeployment"),
        pytest.param(COPY, "spec.template", {"spec": {}}, True, id="the Cluster's copy of a template"),
        pytest.param(OF_CLASS, "spec.template", {"spec": {"format": "ignition"}}, True, id="a template of its class"),
        pytest.param(bent(OF_CLASS, "metadata.ownerReferences", []), "spec.template", {"spec": {}}, False, id="a template of no class"),
        pytest.param(HOST, "spec.providerID", "x", False, id="a host"),
        pytest.param(cluster_class(), "status.observedGeneration", 1, True, id="the class is ready"),
    ],
)
def test_what_wakes_a_topology(before: Json, path: str, value: Any, wakes: bool) -> None:
    change = Change(json_key(before), MY, before, bent(before, path, value))
    assert woken(topology_kind.KIND, change) == ([CLUSTER] if wakes else [])


def test_nodes_and_connections_matter_where_there_are_pools() -> None:
    node = {"metadata": {"name": "n"}, "status": {"nodeInfo": {"kubeletVersion": "v1.34.2"}}}
    seen = Change(ObjectKey(*NODE, "", "n", "default/my"), MY, None, node)
    connected = Change(ObjectKey(*CONNECTION, "default", "my"), MY, None, {})
    assert woken(topology_kind.KIND, seen) == woken(topology_kind.KIND, connected) == []


@pytest.mark.parametrize(
    ("path", "value", "wakes"),
    [
        ("spec.topology.version", "v1.35.0", True),
        ("metadata.annotations", {labels.UPGRADE_CONCURRENCY: "2"}, True),
        ("spec.paused", True, True),
        ("status.phase", "Provisioned", False),
        ("status.conditions", [{"type": "Available", "status": "True"}], False),
        ("status.conditions", [{"type": "TopologyReconciled", "status": "True"}], True),
    ],
)
def test_what_of_a_cluster_concerns_its_topology(path: str, value: Any, wakes: bool) -> None:
    before = cluster()
    assert topology_kind.KIND.own(Change(CLUSTER, MY, before, bent(before, path, value))) is wakes
    del before["spec"]["topology"]
    assert not topology_kind.KIND.own(Change(CLUSTER, MY, None, before)), "a Cluster without one is not looked at"


def test_what_wakes_a_class() -> None:
    made = template(BOOTSTRAP, "KubeadmConfigTemplate", "worker-bootstrap")
    assert woken(class_kind.KIND, Change(json_key(made), None, None, made)) == [CLASS]
    assert woken(class_kind.KIND, Change(json_key(made), None, made, OF_CLASS)) == [CLASS], "its owner was taken away, or put back"
    assert woken(class_kind.KIND, Change(json_key(made), None, made, bent(made, "spec.template", {"x": 1}))) == [], "the class does not read what it says"
    other = template(BOOTSTRAP, "KubeadmConfigTemplate", "another")
    assert woken(class_kind.KIND, Change(json_key(other), None, None, other)) == []
    definition = {"spec": {"group": BOOTSTRAP.partition("/")[0], "names": {"kind": "KubeadmConfigTemplate"}}, "metadata": {"name": "x", "labels": {}}}
    key = ObjectKey("apiextensions.k8s.io", "CustomResourceDefinition", "", "x")
    assert woken(class_kind.KIND, Change(key, None, None, definition)) == [CLASS]
    assert not class_kind.KIND.own(Change(CLASS, None, cluster_class(), bent(cluster_class(), "status.observedGeneration", 1)))
