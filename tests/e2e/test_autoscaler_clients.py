"""The Go libraries that cluster-autoscaler is built on, at our objects, our bridge and an emulated cluster.

cluster-autoscaler itself is not here: what it would decide, these tests do. They show that its clients are understood: informers, scale client, event recorder
and leases of client-go, filters of the scheduler's framework, grpc-go with certificates on both sides, Kubernetes' own decoding of a Node.

Source: kubernetes/autoscaler cluster-autoscaler-1.36.1 (which informers it starts and what it writes; facts only).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import manifests
from tests.e2e.autoscaler import certificates
from tests.e2e.autoscaler_clients import GoBridge, Refused, ask
from tests.e2e.fleet import Fleet, left_of
from tests.e2e.recorder import Object, World, told

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

NAME = "foreign"
LIMIT_S = 30.0
BOUNDS = {f"cluster.x-k8s.io/cluster-api-autoscaler-node-group-{end}-size": size for end, size in (("min", "0"), ("max", "3"))}
CAPACITY = "capacity.cluster-autoscaler.kubernetes.io/"
PLAIN, SMALL, DEDICATED = f"{NAME}-workers", f"{NAME}-small", f"{NAME}-dedicated"
POOL = "node.cluster.x-k8s.io/pool"
INFORMERS = 20
"""At least so many kinds are listed and watched before a loop begins."""


def _groups(namespace: str) -> list[manifests.Document]:
    """A cluster with three groups at 0: as the template has it; small by annotation; with a label and a taint."""
    documents = manifests.cluster(NAME, namespace, workers=0)
    (plain,) = (one for one in documents if one["kind"] == "MachineDeployment")
    plain["metadata"]["annotations"] = dict(BOUNDS)
    small, dedicated = copy.deepcopy(plain), copy.deepcopy(plain)
    small["metadata"] |= {"name": SMALL, "annotations": {**BOUNDS, CAPACITY + "cpu": "1", CAPACITY + "memory": "2Gi"}}
    dedicated["metadata"]["name"] = DEDICATED
    dedicated["spec"]["template"]["metadata"] = {"labels": {POOL: "dedicated"}}
    dedicated["spec"]["template"]["spec"]["taints"] = [{"key": "dedicated", "value": "db", "effect": "NoSchedule", "propagation": "Always"}]
    return [*documents, small, dedicated]


def _pod(name: str, cpu: str, **spec: Any) -> manifests.Document:
    container = {"name": "c", "image": "registry.example.org/app:1", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": {"containers": [container], **spec}}


TOLERATED = {"tolerations": [{"key": "dedicated", "operator": "Equal", "value": "db", "effect": "NoSchedule"}]}
PODS = {
    "tiny": (_pod("tiny", "500m"), {PLAIN, SMALL}),
    "large": (_pod("large", "4"), {PLAIN}),
    "tolerant": (_pod("tolerant", "4", **TOLERATED), {PLAIN, DEDICATED}),
    "chosen": (_pod("chosen", "4", nodeSelector={POOL: "dedicated"}, **TOLERATED), {DEDICATED}),
    "intolerant": (_pod("intolerant", "500m", nodeSelector={POOL: "dedicated"}), set()),
    "huge": (_pod("huge", "9"), set()),
}
"""Pods that no Node has room for, and the groups of which one more Node would have."""


class Foreign:
    """A namespace with the cluster, its kubeconfig, and the certificate of its autoscaler."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet, self.namespace = fleet, fleet.namespace("clients")
        fleet.apply(*_groups(self.namespace))
        fleet.settle(self.namespace, NAME)
        self.kubeconfig = fleet.workload_kubeconfig(self.namespace, NAME, folder)
        self.bridge = GoBridge(certificates(fleet, f"{self.namespace}/{NAME}", folder / NAME))

    def id(self, name: str) -> str:
        """The id of a group."""
        return f"MachineDeployment/{self.namespace}/{name}"

    def await_standing(self, name: str, reason: str) -> None:
        """Wait until the bridge says so of a group."""

        def lacking(world: World) -> list[str]:
            said = told(world.get("MachineDeployment", self.namespace, name), "NodeGroupReady")
            return [] if said.startswith(f"{reason}:") else [said or "no condition"]

        self.fleet.recorder.wait(lacking, LIMIT_S, f"{name} {reason}")

    def machines(self, name: str) -> list[Object]:
        """The Machines of a group."""
        found = self.fleet.recorder.world.all("Machine", self.namespace, NAME)
        return [one for one in found if one["metadata"]["labels"].get("cluster.x-k8s.io/deployment-name") == name]

    def await_node(self, name: str) -> Object:
        """Wait until the one Machine of a group is a Node; the Machine."""

        def lacking(world: World) -> list[str]:
            found = self.machines(name)
            return [] if len(found) == 1 and "nodeRef" in found[0].get("status", {}) else [f"{len(found)} Machines, not one that is a Node"]

        self.fleet.recorder.wait(lacking, LIMIT_S, f"one Node of {name}")
        self.fleet.settle(self.namespace, NAME)
        return self.machines(name)[0]

    def await_none(self, name: str) -> None:
        """Wait until a group has no Machine."""
        self.fleet.recorder.wait(lambda world: [one["metadata"]["name"] for one in self.machines(name)], LIMIT_S, f"no Machine of {name}")

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """kubectl in the workload cluster."""
        return self.fleet.kubectl(*arguments, stdin=stdin, kubeconfig=self.kubeconfig)

    def pending(self, name: str) -> None:
        """Make one of the pods, and say of it what a scheduler says that finds no Node."""
        self.kubectl("apply", "-f", "-", stdin=manifests.text([PODS[name][0]]))
        why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}
        self.kubectl("patch", "pod", name, "--subresource=status", "--type=strategic", "-p", json.dumps({"status": {"conditions": [why]}}))


@pytest.fixture(scope="module")
def foreign(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    found = Foreign(fleet, tmp_path_factory.mktemp("clients"))
    yield found
    fleet.kubectl("-n", found.namespace, "delete", "cluster", NAME, "--wait=false")
    fleet.recorder.wait(lambda world: left_of(world, found.namespace, NAME), 60.0, "gone")


def test_every_informer_that_a_loop_waits_for_syncs(foreign: Foreign) -> None:
    synced = ask("informers", foreign.kubeconfig)
    assert len(synced) >= INFORMERS and all(synced.values()), synced


def test_the_schedulers_filters_put_each_pod_into_the_right_group_from_nothing(foreign: Foreign) -> None:
    for name in (PLAIN, SMALL, DEDICATED):
        foreign.await_standing(name, "Served")
    assert foreign.bridge.bounds() == dict.fromkeys(map(foreign.id, (PLAIN, SMALL, DEDICATED)), (0, 3))
    templates = json.dumps(foreign.bridge.templates())
    for pod, (_, groups) in PODS.items():
        foreign.pending(pod)
        refusals = ask("fits", foreign.kubeconfig, f"default/{pod}", templates)
        assert {group for group, why in refusals.items() if not why} == set(map(foreign.id, groups)), (pod, refusals)
    foreign.kubectl("delete", "pod", *PODS, "--grace-period=0", "--force")


def test_a_pending_pod_is_served_through_the_bridge_and_its_node_goes_with_it(foreign: Foreign) -> None:
    bridge, group = foreign.bridge, foreign.id(DEDICATED)
    foreign.await_standing(DEDICATED, "Served")
    foreign.pending("chosen")
    assert bridge.call("NodeGroupGetOptions", id=group, defaults={"scaleDownUtilizationThreshold": 0.5}) == {}, "its own options hold, all of them"
    bridge.call("NodeGroupIncreaseSize", id=group, delta=1)
    assert bridge.call("NodeGroupTargetSize", id=group) == {"targetSize": 1}
    machine = foreign.await_node(DEDICATED)
    node, host = machine["status"]["nodeRef"]["name"], {"providerID": machine["spec"]["providerID"]}
    assert bridge.call("NodeGroupForNode", node={**host, "name": node})["nodeGroup"]["id"] == group

    ask("bind", foreign.kubeconfig, "default/chosen", node)
    foreign.kubectl("wait", "pod/chosen", "--for=condition=Ready", f"--timeout={LIMIT_S:.0f}s")
    with pytest.raises(Refused, match="already assigned to node"):
        ask("bind", foreign.kubeconfig, "default/chosen", node)
    done = ask("writes", foreign.kubeconfig, node, "default/chosen")
    assert not any(done.values()) and {"lease renewed", "status updated", "event", "taint", "eviction"} <= done.keys(), done
    foreign.kubectl("wait", "pod/chosen", "--for=delete", f"--timeout={LIMIT_S:.0f}s")

    bridge.call("NodeGroupDeleteNodes", id=group, nodes=[{**host, "name": node}])
    foreign.await_none(DEDICATED)
    assert bridge.call("NodeGroupTargetSize", id=group) == {}, "0 is what is left out"
    assert node not in foreign.kubectl("get", "nodes", "-o", "name")


def test_a_group_that_client_go_scales_itself_is_left_to_it(foreign: Foreign) -> None:
    management, place = foreign.fleet.rig.endpoints().kubeconfig, f"{foreign.namespace}/{PLAIN}"
    foreign.await_standing(PLAIN, "Served")
    found = ask("scale", management, "MachineDeployment", place, "1")
    assert (found["version"], found["before"]) == ("v1beta2", 0) and f"cluster.x-k8s.io/deployment-name={PLAIN}" in found["selector"]
    foreign.await_standing(PLAIN, "AnotherWriter")
    machine = foreign.await_node(PLAIN)
    assert foreign.id(PLAIN) not in foreign.bridge.bounds()
    with pytest.raises(Refused, match="NotFound"):
        foreign.bridge.call("NodeGroupIncreaseSize", id=foreign.id(PLAIN), delta=1)

    name = f"{foreign.namespace}/{machine['metadata']['name']}"
    for left in range(3):
        try:
            ask("mark", management, name)
            break
        except Refused as conflict:
            # as whole as it was read: whoever wrote in between is not overwritten, and cluster-autoscaler marks in its next loop
            assert "the object has been modified" in str(conflict) and left < 2, conflict
    assert ask("scale", management, "MachineDeployment", place, "0")["before"] == 1
    foreign.await_none(PLAIN)
