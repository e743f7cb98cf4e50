"""Topologies at their edges: older contracts, control planes without Machines, pools in an upgrade, templates that are not there, endpoints, hooks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleetwake import labels
from fleetwake.kind import Workload
from fleetwake.topology.rules import rule_violations
from schemas.api.core.v1beta2.cluster_class import ClusterClass
from schemas.keys import GroupKind, ObjectKey
from services.reconcilers.kinds.cluster_class.decide import Observed as ClassObserved
from services.reconcilers.kinds.cluster_class.decide import reconcile as reconcile_class
from services.reconcilers.kinds.cluster_class.references import Templates
from services.reconcilers.kinds.cluster_topology import condition
from services.reconcilers.kinds.cluster_topology.decide import decide, observe
from services.reconcilers.kinds.cluster_topology.rotation import difference, live, marked
from services.reconcilers.kinds.cluster_topology.versions import AFTER_CONTROL_PLANE_UPGRADE, BEFORE_CLUSTER_CREATE
from tests.decide.test_cluster_topology import written
from tests.decide.topology_world import NEXT, VERSION, TopologyWorld, cluster, cluster_class, created, templates, world
from tests.decide.world import NOW, plan_writes

Json = dict[str, Any]
CLUSTER = ObjectKey("cluster.x-k8s.io", "Cluster", "default", "my")
ENDPOINT: Json = {"controlPlaneEndpoint": {"host": "h", "port": 1}}
POOL: Json = {"machinePools": [{"class": "default-pool", "name": "mp-0", "replicas": 2}]}
CONTROL_PLANE_TEMPLATE = GroupKind("controlplane.cluster.x-k8s.io", "KubeadmControlPlaneTemplate")


def test_a_control_plane_of_the_older_contract() -> None:
    of_class = cluster_class()
    of_class["spec"]["controlPlane"] |= {
        "deletion": {"nodeDrainTimeoutSeconds": 90},
        "readinessGates": [{"conditionType": "example.com/Gate"}],
        "taints": [{"key": "a", "effect": "NoSchedule", "propagation": "Always"}],
    }
    found = world(of_class)
    found.contracts = {CONTROL_PLANE_TEMPLATE: "v1beta1", GroupKind("controlplane.cluster.x-k8s.io", "KubeadmControlPlane"): "v1beta1"}
    found.settle_topology()
    machines = found.one("KubeadmControlPlane")["spec"]["machineTemplate"]
    name = next(one["metadata"]["name"] for one in found.all("DevMachineTemplate") if "-md-0-" not in one["metadata"]["name"])
    ref = {"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2", "kind": "DevMachineTemplate", "name": name, "namespace": "default"}
    assert machines["infrastructureRef"] == ref and "spec" not in machines and machines["nodeDrainTimeout"] == "1m30s"
    assert len(machines["readinessGates"]) == len(machines["taints"]) == 1
    found.control_plane_runs()
    next(obj for key, obj in found.store.items() if key.name == "control-plane-machine")["spec"]["template"]["spec"]["image"] = "new"
    assert written(found) == ["Create DevMachineTemplate", "Apply KubeadmControlPlane", "Delete DevMachineTemplate"]
    assert written(found) == []


def test_a_control_plane_without_machines() -> None:
    of_class = cluster_class()
    del of_class["spec"]["controlPlane"]["machineInfrastructure"]
    of_class["spec"]["controlPlane"]["healthCheck"] = {"checks": {"nodeStartupTimeoutSeconds": 60}}
    found = created(of_class, cluster(workers={}))
    assert "machineTemplate" not in found.one("KubeadmControlPlane")["spec"]
    assert found.all("DevMachineTemplate") == [] == found.all("MachineHealthCheck")


def test_a_pool_upgrades_after_the_control_plane_and_its_nodes_tell_when_it_is_done() -> None:
    found = created(None, cluster(workers=POOL))
    pool = found.one("MachinePool")
    pool["status"] = {"nodeRefs": [{"name": "n-0"}]}

    def nodes(version: str) -> None:
        node = {"metadata": {"name": "n-0"}, "status": {"nodeInfo": {"kubeletVersion": version}}}
        found.workloads = {"default/my": Workload(connected=True, nodes=(node, {"metadata": {"name": "other"}}))}

    nodes(VERSION)
    found.topology["version"] = NEXT
    assert "Apply MachinePool" not in written(found)
    found.control_plane_runs()
    assert "Apply MachinePool" in written(found)
    found.settle_topology()
    assert found.condition()[1] == condition.UPGRADING and "MachinePool my-mp-0-" in found.condition()[2]
    nodes(NEXT)
    found.settle_topology()
    assert found.condition()[1] == "ReconcileSucceeded"


def test_a_new_pool_and_deployment_wait_for_a_control_plane_that_upgrades() -> None:
    found = created(None, cluster(workers={}))
    found.topology["version"] = NEXT
    found.run_topology()
    found.topology["workers"] = {**POOL, "machineDeployments": [{"class": "default-worker", "name": "md-0"}]}
    found.settle_topology()
    assert not found.all("MachinePool") and not found.all("MachineDeployment")
    assert "MachinePool mp-0 creation deferred while control plane upgrade is in progress" in found.condition()[2]
    found.control_plane_runs()
    found.settle_topology()
    assert found.one("MachinePool")["spec"]["template"]["spec"]["version"] == found.one("MachineDeployment")["spec"]["template"]["spec"]["version"] == NEXT


def test_a_template_that_does_not_exist_or_is_named_in_an_old_version_is_told() -> None:
    found = world()
    key = next(key for key in found.store if key.name == "worker-machine")
    gone = found.store.pop(key)
    found.run_topology()
    assert "names the DevMachineTemplate worker-machine (infrastructure.cluster.x-k8s.io/v1beta2), which does not exist" in found.condition()[2]
    found.store[key] = {**gone, "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta9"}
    found.run_topology()
    assert "name it as infrastructure.cluster.x-k8s.io/v1beta9, its contract's newest" in found.condition()[2]


@pytest.mark.parametrize(
    ("wanted", "stored", "differs"),
    [
        pytest.param({"controlPlaneEndpoint": {"host": "", "port": 0}}, ENDPOINT, False, id="an empty endpoint asks nothing"),
        pytest.param({"controlPlaneEndpoint": {"host": "x", "port": 0}}, ENDPOINT, True, id="another host"),
        pytest.param({"a": [1, 2]}, {"a": [1]}, True, id="a list is whole"),
        pytest.param({"a": [{"x": 1}]}, {"a": [{"x": 1, "default": 2}]}, False, id="defaults in a list"),
        pytest.param({"a": True}, {"a": 1}, True, id="a boolean is no number"),
        pytest.param({"a": {}, "b": [], "c": None}, {}, False, id="empty parts ask nothing"),
    ],
)
def test_differences(wanted: Json, stored: Json, differs: bool) -> None:
    found = created()
    infrastructure = found.stored(found.one("DevCluster"))
    body = marked({"apiVersion": "x/v1", "kind": "DevCluster", "metadata": {"name": "x"}, "spec": wanted})
    annotations = {**infrastructure.metadata.annotations, labels.TOPOLOGY_FIELDS: body["metadata"]["annotations"][labels.TOPOLOGY_FIELDS]}
    metadata = infrastructure.metadata.model_copy(update={"annotations": annotations})
    assert difference(live(replace(infrastructure, fields={"spec": stored}, metadata=metadata)), body).spec is differs


def test_hooks_of_extensions_hold_the_beginning_and_the_workers() -> None:
    found = world()
    observed = observe(found, CLUSTER)
    assert observed is not None
    held = decide(observed.blueprint, replace(observed.current, blocking={BEFORE_CLUSTER_CREATE: "wait"}))
    assert (held.condition.reason, held.steps) == (condition.CREATING, ()) and "BeforeClusterCreate: wait" in held.condition.message
    found = created()
    found.machine("md-0", VERSION)
    found.topology["version"] = NEXT
    found.run_topology()
    found.control_plane_runs()
    observed = observe(found, CLUSTER)
    assert observed is not None
    held = decide(observed.blueprint, replace(observed.current, blocking={AFTER_CONTROL_PLANE_UPGRADE: "backup runs"}))
    assert held.steps == () and "AfterControlPlaneUpgrade: backup runs" in held.condition.message


def test_what_is_no_topology_is_not_looked_at() -> None:
    found = created()
    del found.store[CLUSTER]["spec"]["topology"]
    assert observe(found, CLUSTER) is None
    del found.store[CLUSTER]
    assert observe(found, CLUSTER) is None


def test_a_cluster_paused_by_annotation_says_so() -> None:
    found = world()
    found.store[CLUSTER]["metadata"]["annotations"] = {labels.PAUSED: ""}
    found.run_topology()
    assert found.condition()[2] == "Cluster has the cluster.x-k8s.io/paused annotation"


def test_a_class_that_is_going_or_failed_is_left_alone() -> None:
    found = world()
    one = next(obj for key, obj in found.store.items() if key.kind == "ClusterClass")
    one["status"]["conditions"] = [each for each in one["status"]["conditions"] if each["type"] != "VariablesReady"]
    found.run_topology()
    assert found.condition()[2] == "ClusterClass default/quick is not ready: its variables are not known yet"
    one["metadata"] |= {"deletionTimestamp": "2026-01-02T00:00:00Z", "finalizers": ["x"]}
    assert plan_writes(reconcile_class(ClassObserved(found.at, found.the(ClusterClass, "quick"), Templates({}, {})))) == []


def test_templates_of_a_class_are_in_its_namespace() -> None:
    documents = [*templates(), cluster_class()]
    for document in documents:
        document["metadata"]["namespace"] = "classes"
    documents[-1]["status"] = {"observedGeneration": 1, "conditions": [_ready()]}
    found = TopologyWorld([*documents, cluster(classRef={"name": "quick", "namespace": "classes"})], at=NOW)
    found.settle_topology()
    assert found.one("MachineDeployment")["metadata"]["namespace"] == "default"
    assert all(obj["metadata"]["namespace"] == "default" for obj in found.all("DevMachineTemplate"))


def _ready() -> Json:
    return {"type": "VariablesReady", "status": "True", "reason": "VariablesReady", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ("self.charAt(1) == 'b'", "ab", "ba"),
        ("self.find('[0-9]+') == '12'", "a12", "a1"),
        ("self.findAll('[0-9]').size() == 2", "1a2", "1a"),
        ("self.indexOf('b') == 1 && self.lastIndexOf('b') == 3", "abcb", "bbb"),
        ("self.replace('a', 'x', 1) == 'xa'", "aa", "a"),
        ("self.split('.', 2)[1] == 'b.c'", "a.b.c", "a.b"),
        ("self.substring(1) == 'b' && self.upperAscii() == 'AB'", "ab", "ba"),
        ("self.trim() == 'a' || isURL(self) || isQuantity(self)", " a ", "b c"),
        ("[self, 'x'].join('-') == 'a-x'", "a", "b"),
    ],
)
def test_functions_of_rules(rule: str, good: str, bad: str) -> None:
    schema = {"type": "string", "x-kubernetes-validations": [{"rule": rule, "message": "m"}]}
    assert not list(rule_violations(good, schema))
    assert [one.message for one in rule_violations(bad, schema)] == ["m"]


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ("self.indexOf(2) == 1 && self.lastIndexOf(2) == 2", [1, 2, 2], [2, 1]),
        ("self.isSorted() && self.sum() == 6", [1, 2, 3], [3, 2, 1]),
    ],
)
def test_functions_of_lists(rule: str, good: list[int], bad: list[int]) -> None:
    schema = {"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": [{"rule": rule, "message": "m"}]}
    assert not list(rule_violations(good, schema))
    assert [one.message for one in rule_violations(bad, schema)] == ["m"]
