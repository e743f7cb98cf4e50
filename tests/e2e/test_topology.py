"""clusterclass-changes, clusterclass-rollout and cluster-upgrade, live: one Cluster of a class from fifteen lines to nothing, in the order of these tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e import manifests
from tests.e2e.fleet import Fleet, left_of
from tests.e2e.recorder import Object, World, condition, controller, told

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

CLASS, NAME = "small", "managed"
NEXT = "v1.35.0"
LIMIT_S = 30.0
TOPOLOGY_NAME = "topology.cluster.x-k8s.io/deployment-name"
OWNED = "topology.cluster.x-k8s.io/owned"
UPGRADE_STEP = "topology.internal.cluster.x-k8s.io/upgrade-step"
TIER = "node.cluster.x-k8s.io/tier"
TEMPLATES = ("KubeadmConfigTemplate", "DevMachineTemplate")


@dataclass
class Managed:
    """The Cluster, and what its user does to its topology."""

    fleet: Fleet
    namespace: str

    @property
    def world(self) -> World:
        """The objects as last seen."""
        return self.fleet.recorder.world

    def one(self, kind: str, topology_name: str = "") -> Object:
        """The one object of the topology that is of a kind, of one MachineDeployment's where it is named."""
        found = [
            value
            for value in self.world.all(kind, self.namespace, NAME)
            if OWNED in value["metadata"].get("labels", {}) and value["metadata"]["labels"].get(TOPOLOGY_NAME, "") == topology_name
        ]
        assert len(found) == 1, [value["metadata"]["name"] for value in found]
        return found[0]

    def machines(self, topology_name: str = "") -> list[Object]:
        """The Machines of a MachineDeployment, or of the control plane, that nobody deletes."""
        found = (one for one in self.world.all("Machine", self.namespace, NAME) if "deletionTimestamp" not in one["metadata"])
        return [
            one for one in found if one["metadata"]["labels"].get(TOPOLOGY_NAME, "") == topology_name and (topology_name or controller(one)[0] != "MachineSet")
        ]

    def uids(self, topology_name: str = "") -> set[str]:
        """Their uids."""
        return {one["metadata"]["uid"] for one in self.machines(topology_name)}

    def topology(self, **fields: Any) -> None:
        """Change the topology; lists are replaced whole."""
        self.fleet.patch(self.namespace, f"cluster/{NAME}", {"spec": {"topology": fields}})

    def settle(self) -> float:
        """Wait until all is as the topology asks."""
        return self.fleet.settle(self.namespace, NAME)

    def workers(self, **labels: Any) -> Any:
        """The MachineDeployments of the topology: two Machines of the first, the second's number is nobody's but who scales it."""
        first: dict[str, Any] = {"class": "default", "name": "md-0", "replicas": 2}
        return {"machineDeployments": [first | ({"metadata": {"labels": labels}} if labels else {}), {"class": "default", "name": "md-1"}]}


@pytest.fixture(scope="module")
def managed(fleet: Fleet) -> Iterator[Managed]:
    """A Cluster that asks for its class, a version and two MachineDeployments, and is as it asks."""
    found = Managed(fleet, fleet.namespace("topology"))
    fleet.apply(*manifests.cluster_class(CLASS, found.namespace))
    fleet.apply(manifests.classed(NAME, found.namespace, CLASS, workers=[{"name": "md-0", "replicas": 2}, {"name": "md-1"}]))
    found.settle()
    yield found
    fleet.check_history(found.namespace)


def test_a_cluster_of_fifteen_lines_becomes_available(managed: Managed) -> None:
    cluster = managed.world.get("Cluster", managed.namespace, NAME)
    assert cluster is not None and condition(cluster, "Available") == condition(cluster, "TopologyReconciled") == "True"
    assert len(managed.machines()) == 1 and len(managed.machines("md-0")) == 2 and len(managed.machines("md-1")) == 1
    for kind in ("DevCluster", "KubeadmControlPlane"):
        assert controller(managed.one(kind)) == ("Cluster", NAME)
    assert managed.one("KubeadmConfigTemplate", "md-0")["spec"]["template"]["spec"]["preKubeadmCommands"] == ['echo "a"']
    # what the class completes stands on the Cluster: a class that changes its defaults changes no Cluster there is
    assert cluster["spec"]["topology"]["variables"] == [{"name": "word", "value": "a"}]
    found = json.loads(managed.fleet.kubectl("-n", managed.namespace, "get", "clusterclass", CLASS, "-o", "json"))
    assert {condition(found, kind) for kind in ("VariablesReady", "RefVersionsUpToDate")} == {"True"}
    template = json.loads(managed.fleet.kubectl("-n", managed.namespace, "get", "kubeadmcontrolplanetemplate", CLASS, "-o", "json"))
    assert [(one["kind"], one["name"]) for one in template["metadata"]["ownerReferences"]] == [("ClusterClass", CLASS)]


def test_what_the_class_does_not_allow_is_refused(managed: Managed) -> None:
    before = managed.world.get("Cluster", managed.namespace, NAME)
    for topology, field in (
        ({"variables": [{"name": "word", "value": ""}]}, r"spec.topology.variables\[word\].value"),
        ({"variables": [{"name": "wrod", "value": "b"}]}, r"spec.topology.variables\[wrod\]"),
        ({"workers": {"machineDeployments": [{"class": "none", "name": "md-0"}]}}, r"spec.topology.workers.machineDeployments\[0\].class"),
        ({"version": "v1.36.0"}, "spec.topology.version"),
    ):
        with pytest.raises(AssertionError, match=field):
            managed.topology(**topology)
    with pytest.raises(AssertionError, match=f"cannot be deleted: Cluster {managed.namespace}/{NAME} use it"):
        managed.fleet.kubectl("-n", managed.namespace, "delete", "clusterclass", CLASS)
    assert managed.world.get("Cluster", managed.namespace, NAME) == before


def test_what_another_manager_owns_and_a_number_that_nobody_asked_for_stay(managed: Managed) -> None:
    second = managed.one("MachineDeployment", "md-1")
    managed.fleet.scale(managed.namespace, f"machinedeployment/{second['metadata']['name']}", 2)
    other = {
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "MachineDeployment",
        "metadata": {"name": second["metadata"]["name"], "namespace": managed.namespace, "annotations": {"example.com/of": "another"}},
        "spec": {"deletion": {"order": "Oldest"}},
    }
    managed.fleet.kubectl("apply", "--server-side", "--field-manager=another", "-f", "-", stdin=json.dumps(other))
    managed.settle()

    def kept(world: World) -> list[str]:
        found = world.get("MachineDeployment", managed.namespace, second["metadata"]["name"]) or {"metadata": {}, "spec": {}}
        spec, notes = found["spec"], found["metadata"].get("annotations", {})
        same = spec.get("replicas") == 2 and spec.get("deletion") == {"order": "Oldest"} and notes.get("example.com/of") == "another"
        return [] if same else [f"{spec.get('replicas')} {spec.get('deletion')} {notes}"]

    managed.fleet.recorder.wait(kept, LIMIT_S, "the other manager's fields")
    # held by the tests that follow: every one of them makes the topology write this MachineDeployment


def test_a_label_of_the_topology_follows_in_place(managed: Managed) -> None:
    before = managed.uids("md-0") | managed.uids("md-1")
    managed.topology(workers=managed.workers(**{TIER: "gold"}))
    managed.settle()

    def labelled(world: World) -> list[str]:
        found = [managed.one("MachineDeployment", "md-0"), *managed.machines("md-0")]
        found += [one for one in world.all("MachineSet", managed.namespace, NAME) if one["metadata"]["labels"].get(TOPOLOGY_NAME) == "md-0"]
        return [one["metadata"]["name"] for one in found if one["metadata"]["labels"].get(TIER) != "gold"]

    managed.fleet.recorder.wait(labelled, LIMIT_S, "the label on MachineDeployment, MachineSet and Machines")
    assert managed.uids("md-0") | managed.uids("md-1") == before, "no Machine was replaced for a label"
    assert all(TIER not in one["metadata"]["labels"] for one in managed.machines("md-1"))


def test_a_variable_rotates_the_templates_that_say_it_and_rolls_their_machines(managed: Managed) -> None:
    names = ("md-0", "md-1")
    bootstrap = {name: managed.one("KubeadmConfigTemplate", name)["metadata"]["name"] for name in names}
    hosts = {name: managed.one("DevMachineTemplate", name)["metadata"]["uid"] for name in names}
    first, workers = managed.uids(), {name: managed.uids(name) for name in names}
    plane = managed.one("KubeadmControlPlane")["metadata"]["generation"]
    managed.topology(variables=[{"name": "word", "value": "b"}])
    managed.settle()

    def rotated(world: World) -> list[str]:
        left = {one["metadata"]["name"] for one in world.all("KubeadmConfigTemplate", managed.namespace, NAME)} & set(bootstrap.values())
        return [f"{one} is still there" for one in left]

    # taken away once no MachineSet refers to them: the old MachineSets go with their last Machine
    managed.fleet.recorder.wait(rotated, LIMIT_S, "the templates that were replaced gone")
    for name in names:
        template = managed.one("KubeadmConfigTemplate", name)
        assert template["metadata"]["name"] != bootstrap[name] and template["spec"]["template"]["spec"]["preKubeadmCommands"] == ['echo "b"']
        assert managed.one("DevMachineTemplate", name)["metadata"]["uid"] == hosts[name], "what does not say the word is the same object"
        assert not managed.uids(name) & workers[name]
    assert managed.uids() == first and managed.one("KubeadmControlPlane")["metadata"]["generation"] == plane
    assert len(managed.machines("md-1")) == 2


def test_an_upgrade_goes_through_the_control_plane_and_then_the_deployments_in_order(managed: Managed) -> None:
    since = managed.fleet.recorder.events(managed.namespace)[-1].version
    managed.topology(version=NEXT)
    managed.settle()
    events = [seen for seen in managed.fleet.recorder.events(managed.namespace) if seen.version > since]
    asked: dict[str, int] = {}
    done: dict[str, int] = {}
    for seen in events:
        value = seen.object
        if seen.name.kind == "KubeadmControlPlane":
            if value["spec"]["version"] == NEXT:
                asked.setdefault("", seen.version)
            if (value.get("status") or {}).get("version") == NEXT:
                done.setdefault("", seen.version)
        elif seen.name.kind == "MachineDeployment" and value["spec"]["template"]["spec"]["version"] == NEXT:
            name = value["metadata"]["labels"][TOPOLOGY_NAME]
            asked.setdefault(name, seen.version)
    for name in ("md-0", "md-1"):
        last = [seen.version for seen in events if seen.name.kind == "Machine" and _old(seen.object, name)]
        done[name] = max(last)
    assert asked[""] < done[""] < asked["md-0"] < done["md-0"] < asked["md-1"], (asked, done)
    steps = [(seen.object["metadata"].get("annotations") or {}).get(UPGRADE_STEP) for seen in events if seen.name.kind == "Cluster"]
    assert NEXT in steps and steps[-1] is None, "the step is told while it is gone through, and not after"
    said = {told(seen.object, "TopologyReconciled").partition(":")[0] for seen in events if seen.name.kind == "Cluster"}
    assert "ClusterUpgrading" in said
    assert {one["spec"]["version"] for name in ("", "md-0", "md-1") for one in managed.machines(name)} == {NEXT}
    assert len(managed.machines("md-1")) == 2, "the number that nobody asked for is what it was scaled to"
    second = managed.one("MachineDeployment", "md-1")
    assert second["spec"]["deletion"] == {"order": "Oldest"} and second["metadata"]["annotations"]["example.com/of"] == "another"


def _old(machine: Object, topology_name: str) -> bool:
    return machine["metadata"]["labels"].get(TOPOLOGY_NAME) == topology_name and machine["spec"]["version"] != NEXT


def test_a_deployment_that_leaves_the_topology_goes_with_its_templates(managed: Managed) -> None:
    gone = managed.one("MachineDeployment", "md-1")["metadata"]["name"]
    managed.topology(workers={"machineDeployments": managed.workers(**{TIER: "gold"})["machineDeployments"][:1]})

    def left(world: World) -> list[str]:
        kinds = ("MachineDeployment", "MachineSet", "Machine", *TEMPLATES)
        found = [one for kind in kinds for one in world.all(kind, managed.namespace, NAME)]
        return [one["metadata"]["name"] for one in found if one["metadata"].get("labels", {}).get(TOPOLOGY_NAME) == "md-1"]

    managed.fleet.recorder.wait(left, LIMIT_S, f"{gone} and all of it gone")
    managed.settle()
    assert len(managed.machines("md-0")) == 2


def test_a_pool_comes_grows_and_goes(managed: Managed) -> None:
    deployments = managed.workers(**{TIER: "gold"})["machineDeployments"][:1]
    for replicas in (1, 2):
        pool = {"class": "default", "name": "mp-0", "replicas": replicas}
        managed.topology(workers={"machineDeployments": deployments, "machinePools": [pool]})
        managed.settle()
    (found,) = managed.world.all("MachinePool", managed.namespace, NAME)
    assert found["metadata"]["labels"]["topology.cluster.x-k8s.io/pool-name"] == "mp-0" and found["spec"]["template"]["spec"]["version"] == NEXT
    assert len([one for one in managed.world.all("Machine", managed.namespace, NAME) if controller(one)[0] == "MachinePool"]) == 2
    managed.topology(workers={"machineDeployments": deployments, "machinePools": None})

    def left(world: World) -> list[str]:
        return [one["metadata"]["name"] for kind in ("MachinePool", "DevMachinePool") for one in world.all(kind, managed.namespace, NAME)]

    managed.fleet.recorder.wait(left, LIMIT_S, "the pool gone")
    managed.settle()
    assert len(managed.machines("md-0")) == 2


def test_the_clusters_delete_is_clean(managed: Managed) -> None:
    managed.fleet.kubectl("-n", managed.namespace, "delete", "cluster", NAME, "--wait=false")
    managed.fleet.recorder.wait(lambda world: left_of(world, managed.namespace, NAME), 60.0, f"{NAME} gone")
    # what is the class's stays: other Clusters are made from it
    kept = managed.fleet.kubectl("-n", managed.namespace, "get", "clusterclass,kubeadmconfigtemplate,devmachinetemplate", "-o", "name").split()
    assert len(kept) == 3
    # nobody uses it any more
    managed.fleet.kubectl("-n", managed.namespace, "delete", "clusterclass", CLASS)
