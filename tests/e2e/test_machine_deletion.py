"""node-drain, deletion-hooks, failure-domain and remote-connection-loss, live.

Draining goes in rounds of twenty seconds and darkness is told after fifty, so everything that waits is begun at once, each on a Machine of its own, and
the tests then look at one after the other.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import manifests
from tests.e2e.fleet import Fleet
from tests.e2e.recorder import Object, World, condition, controller, told

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

DRAINED, DARK, SPREAD = "drain", "dark", "spread"
CASES = ("blocked", "hooked", "attached", "silent")
"""Machines of the drained cluster, each with a story of its own."""
PRE_DRAIN, PRE_TERMINATE = (f"{stage}.delete.hook.machine.cluster.x-k8s.io/e2e" for stage in ("pre-drain", "pre-terminate"))
FORCED_S = 5
LIMIT_S = 60.0
PROBE_GRACE_S = 50.0
TIME = r"\(started at [0-9TZ:-]+\)"
BUDGET = "cannot evict pod as it would violate the pod's disruption budget. The disruption budget {} needs 1 healthy pods and has 1 currently"


@dataclass
class Story:
    """A cluster whose worker Machines are deleted by hand, with Pods of the test's own on their Nodes."""

    fleet: Fleet
    namespace: str
    kubeconfig: str
    victims: dict[str, Object] = field(default_factory=dict)

    def machine(self, case: str, world: World | None = None) -> Object | None:
        """The Machine of a story, None once it is gone (a successor may bear its name)."""
        victim = self.victims[case]["metadata"]
        found = (world or self.fleet.recorder.world).get("Machine", self.namespace, victim["name"])
        return found if found is not None and found["metadata"]["uid"] == victim["uid"] else None

    def node(self, case: str) -> str:
        """The name of its Node."""
        return str(self.victims[case]["status"]["nodeRef"]["name"])

    def put(self, *documents: manifests.Document) -> None:
        """Apply something in the workload cluster."""
        self.fleet.kubectl("apply", "-f", "-", stdin=manifests.text(list(documents)), kubeconfig=self.kubeconfig)

    def workload(self, *arguments: str) -> str:
        """kubectl in the workload cluster."""
        return self.fleet.kubectl(*arguments, kubeconfig=self.kubeconfig)

    def pods(self, case: str) -> set[str]:
        """The names of the Pods on its Node."""
        found = json.loads(self.workload("get", "pods", "-A", f"--field-selector=spec.nodeName={self.node(case)}", "-o", "json"))
        return {one["metadata"]["name"] for one in found["items"]}

    def annotate(self, case: str, *annotations: str) -> None:
        """Annotate its Machine."""
        self.fleet.kubectl("-n", self.namespace, "annotate", "machine", self.victims[case]["metadata"]["name"], *annotations)

    def told(self, case: str, reason: str, pattern: str = "", limit_s: float = LIMIT_S) -> str:
        """Wait until its Deleting condition says this; returns the message."""

        def lacking(world: World) -> list[str]:
            found = told(self.machine(case, world), "Deleting")
            return [] if found.startswith(f"{reason}:") and re.search(pattern, found) else [found or "gone"]

        self.fleet.recorder.wait(lacking, limit_s, f"{case}: {reason}")
        return told(self.machine(case), "Deleting").removeprefix(f"{reason}: ")

    def gone(self, case: str, limit_s: float = LIMIT_S) -> None:
        """Wait until its Machine is gone."""

        def left(world: World) -> list[str]:
            found = self.machine(case, world)
            return [] if found is None else [told(found, "Deleting")]

        self.fleet.recorder.wait(left, limit_s, f"{case} gone")


def pod(name: str, node: str, labels: dict[str, str] | None = None, **metadata: Any) -> manifests.Document:
    """A Pod that is bound to a Node already."""
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "example.com/c"}]}
    meta = {"name": name, "namespace": "default", "labels": labels or {}, **metadata}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def budget(name: str, app: str) -> manifests.Document:
    """A budget that lets no Pod of an app go."""
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": app}}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def drain_rule(name: str, namespace: str, labels: dict[str, str], **drain: Any) -> manifests.Document:
    """A MachineDrainRule for Pods of these labels."""
    spec = {"drain": drain, "pods": [{"selector": {"matchLabels": labels}}]}
    return {"apiVersion": manifests.CORE, "kind": "MachineDrainRule", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def volume(node: str) -> list[manifests.Document]:
    """A volume with its claim, and that it is attached to a Node."""
    claim = {"kind": "PersistentVolumeClaim", "namespace": "default", "name": "data"}
    volume_spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "claimRef": claim,
        "csi": {"driver": "csi.example.com", "volumeHandle": "v1"},
    }
    attachment = {"attacher": "csi.example.com", "nodeName": node, "source": {"persistentVolumeName": "pv1"}}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv1"}, "spec": volume_spec},
        {"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": "a1"}, "spec": attachment},
    ]


@dataclass
class Dark:
    """A cluster that was cut off, since when, and its workers' Machines as they were."""

    namespace: str
    since: float
    before: set[str]


@pytest.fixture(scope="module")
def clusters(fleet: Fleet) -> dict[str, str]:
    """The namespaces of three clusters, Available: one whose Machines go, one that goes dark, one spread over failure domains."""
    namespaces = {name: fleet.namespace(name) for name in (DRAINED, DARK, SPREAD)}
    documents = [one for name, workers in ((DRAINED, len(CASES)), (DARK, 1)) for one in manifests.cluster(name, namespaces[name], workers=workers)]
    spread = manifests.cluster(SPREAD, namespaces[SPREAD], control_planes=3, workers=1)
    # of the template: what a Machine alone is told, its MachineSet takes back
    deployment = next(one for one in spread if one["kind"] == "MachineDeployment")
    deployment["spec"]["template"]["spec"]["deletion"] = {"nodeDrainTimeoutSeconds": FORCED_S}
    infra = next(one for one in spread if one["kind"] == "DevCluster")
    infra["metadata"]["annotations"] = {"dev.fleetwake.io/failure-domains": "a,b,c"}
    fleet.apply(*documents, *spread)
    for name, namespace in namespaces.items():
        fleet.settle(namespace, name)
    return namespaces


@pytest.fixture(scope="module")
def dark(fleet: Fleet, clusters: dict[str, str]) -> Dark:
    """The cluster that goes dark: cut off, and asked to grow its control plane."""
    namespace = clusters[DARK]
    before = {one["metadata"]["uid"] for one in fleet.recorder.world.all("Machine", namespace)}
    fleet.kubectl("-n", namespace, "annotate", f"devcluster/{DARK}", "dev.fleetwake.io/partition=")
    found = Dark(namespace, time.monotonic(), before)
    fleet.scale(namespace, f"kubeadmcontrolplane/{DARK}-control-plane", 3)
    return found


@pytest.fixture(scope="module")
def story(fleet: Fleet, clusters: dict[str, str], dark: Dark, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """All the stories begun: Pods, budgets, rules, hooks and volumes are there, and every Machine is deleted."""
    namespace = clusters[DRAINED]
    made = Story(fleet, namespace, fleet.workload_kubeconfig(namespace, DRAINED, tmp_path_factory.mktemp("drain")))
    workers = [one for one in fleet.recorder.world.all("Machine", namespace) if controller(one)[0] == "MachineSet"]
    made.victims = dict(zip(CASES, workers, strict=True))
    daemon_set = json.loads(made.workload("-n", "kube-system", "get", "daemonset", "kube-proxy", "-o", "json"))["metadata"]
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "kube-proxy", "uid": daemon_set["uid"], "controller": True}
    node = made.node("blocked")
    daemon = pod("proxy", node, ownerReferences=[owner])
    daemon["metadata"]["namespace"] = "kube-system"
    made.put(
        pod("web", node, {"app": "web"}),
        budget("web", "web"),
        pod("late", node, {"tier": "late"}),
        pod("kept", node, {"keep": "yes"}),
        pod("skipped", node, {"cluster.x-k8s.io/drain": "skip"}),
        pod("job", node, {"cluster.x-k8s.io/drain": "wait-completed"}),
        pod("mirror", node, annotations={"kubernetes.io/config.mirror": "x"}),
        daemon,
        pod("unheard", made.node("silent")),
        *volume(made.node("attached")),
    )
    made.workload("patch", "volumeattachment", "a1", "--subresource=status", "--type=merge", "-p", '{"status": {"attached": true}}')
    fleet.apply(drain_rule("late", namespace, {"tier": "late"}, behavior="Drain", order=10), drain_rule("kept", namespace, {"keep": "yes"}, behavior="Skip"))
    made.annotate("hooked", f"{PRE_DRAIN}=me", f"{PRE_TERMINATE}=me")
    made.annotate("silent", "dev.fleetwake.io/node-not-ready=Unknown")
    fleet.recorder.wait(lambda world: [] if condition(made.machine("silent", world), "NodeHealthy") != "True" else ["the Node is heard of"], LIMIT_S, "silence")
    fleet.kubectl("-n", namespace, "delete", "machine", "--wait=false", *(one["metadata"]["name"] for one in made.victims.values()))
    return made


def test_a_drain_goes_in_order_and_tells_who_stays(story: Story) -> None:
    message = story.told("blocked", "DrainingNode", "disruption budget")
    expected = [
        f"Drain not completed yet {TIME}:",
        re.escape(f"* Pod default/web: {BUDGET.format('web')}"),
        re.escape("* Pod default/job: waiting for completion"),
        re.escape("After above Pods have been removed from the Node, the following Pods will be evicted: default/late"),
    ]
    assert re.fullmatch("\n".join(expected), message), message
    node = json.loads(story.workload("get", "node", story.node("blocked"), "-o", "json"))
    assert node["spec"]["unschedulable"] is True
    story.workload("-n", "default", "delete", "pdb", "web")
    story.workload("-n", "default", "patch", "pod", "job", "--subresource=status", "--type=merge", "-p", '{"status": {"phase": "Succeeded"}}')


def test_hooks_halt_a_machine_before_its_drain_and_before_its_host_goes(story: Story) -> None:
    assert story.told("hooked", "WaitingForPreDrainHook") == f"Waiting for pre-drain hooks to succeed (hooks: {PRE_DRAIN})"
    node = json.loads(story.workload("get", "node", story.node("hooked"), "-o", "json"))
    assert not node["spec"].get("unschedulable")
    story.annotate("hooked", f"{PRE_DRAIN}-")
    assert story.told("hooked", "WaitingForPreTerminateHook") == f"Waiting for pre-terminate hooks to succeed (hooks: {PRE_TERMINATE})"
    machine = story.machine("hooked")
    assert machine is not None
    assert story.fleet.recorder.world.get("DevMachine", story.namespace, machine["metadata"]["name"]) is not None
    assert set(machine["status"]["deletion"]) >= {"waitForPreDrainHookStartTime", "waitForPreTerminateHookStartTime", "nodeDrainStartTime"}
    story.annotate("hooked", f"{PRE_TERMINATE}-")
    story.gone("hooked")


def test_a_drain_that_takes_too_long_is_ended(fleet: Fleet, clusters: dict[str, str], tmp_path: Path) -> None:
    namespace = clusters[SPREAD]
    forced = Story(fleet, namespace, fleet.workload_kubeconfig(namespace, SPREAD, tmp_path))
    [forced.victims["forced"]] = [one for one in fleet.recorder.world.all("Machine", namespace) if controller(one)[0] == "MachineSet"]
    forced.put(pod("stuck", forced.node("forced"), {"app": "stuck"}), budget("stuck", "stuck"))
    fleet.kubectl("-n", namespace, "delete", "machine", "--wait=false", forced.victims["forced"]["metadata"]["name"])
    forced.told("forced", "DrainingNode", re.escape(f"* Pod default/stuck: {BUDGET.format('stuck')}"))
    forced.gone("forced")
    fleet.settle(namespace, SPREAD)


def test_a_volume_is_waited_for(story: Story) -> None:
    message = story.told("attached", "WaitingForVolumeDetach", "data")
    assert re.fullmatch(rf"Waiting for Node volumes to be detached {TIME}\n\* PersistentVolumeClaims: default/data", message), message
    story.workload("delete", "volumeattachment", "a1")


def test_a_silent_node_is_not_waited_for_and_all_end(story: Story) -> None:
    story.gone("silent")
    story.gone("attached")
    # the Pod of the higher order goes last, in a round of its own; those that nobody drains go with their Node
    story.gone("blocked", 2 * LIMIT_S)
    story.fleet.settle(story.namespace, DRAINED)
    left = {one["metadata"]["name"] for one in json.loads(story.workload("get", "pods", "-A", "-o", "json"))["items"]}
    assert not left & {"web", "late", "job", "kept", "skipped", "mirror", "proxy", "unheard"}
    nodes = {one["metadata"]["name"] for one in json.loads(story.workload("get", "nodes", "-o", "json"))["items"]}
    assert nodes == {one["status"]["nodeRef"]["name"] for one in story.fleet.recorder.world.all("Machine", story.namespace, DRAINED)}


def _domains(fleet: Fleet, namespace: str) -> list[str]:
    machines = fleet.recorder.world.all("Machine", namespace, SPREAD)
    return sorted(one["spec"]["failureDomain"] for one in machines if controller(one)[0] == "KubeadmControlPlane")


def test_a_control_plane_spreads_over_its_failure_domains(fleet: Fleet, clusters: dict[str, str]) -> None:
    namespace, plane = clusters[SPREAD], f"kubeadmcontrolplane/{SPREAD}-control-plane"
    cluster = fleet.recorder.world.get("Cluster", namespace, SPREAD)
    assert cluster is not None
    assert [one["name"] for one in cluster["status"]["failureDomains"]] == ["a", "b", "c"]
    assert _domains(fleet, namespace) == ["a", "b", "c"]
    fleet.scale(namespace, plane, 5)
    fleet.settle(namespace, SPREAD)
    assert sorted(Counter(_domains(fleet, namespace)).values()) == [1, 2, 2]
    fleet.scale(namespace, plane, 3)
    fleet.settle(namespace, SPREAD)
    assert _domains(fleet, namespace) == ["a", "b", "c"]
    fleet.kubectl("-n", namespace, "annotate", "--overwrite", f"devcluster/{SPREAD}", "dev.fleetwake.io/failure-domains=a,b")
    fleet.patch(namespace, plane, {"spec": {"version": "v1.34.1"}})
    fleet.settle(namespace, SPREAD)
    assert _domains(fleet, namespace) in (["a", "a", "b"], ["a", "b", "b"])


def test_a_cluster_that_cannot_be_reached_is_told_and_left_alone(fleet: Fleet, dark: Dark) -> None:
    def probe(world: World, status: str) -> list[str]:
        cluster = world.get("Cluster", dark.namespace, DARK)
        return [] if condition(cluster, "RemoteConnectionProbe") == status else [told(cluster, "RemoteConnectionProbe")]

    fleet.recorder.wait(lambda world: probe(world, "False"), PROBE_GRACE_S + LIMIT_S, "darkness told")
    assert time.monotonic() - dark.since >= PROBE_GRACE_S - 10.0
    # what was last known stays until five minutes have passed, and nobody is touched
    machines = fleet.recorder.world.all("Machine", dark.namespace)
    assert {one["metadata"]["uid"] for one in machines} == dark.before
    assert {condition(one, "NodeHealthy") for one in machines} == {"True"}
    fleet.kubectl("-n", dark.namespace, "annotate", f"devcluster/{DARK}", "dev.fleetwake.io/partition-")
    fleet.recorder.wait(lambda world: probe(world, "True"), LIMIT_S, "light told")
    # what was asked for in the dark is done now
    fleet.settle(dark.namespace, DARK)
    assert len(fleet.recorder.world.all("Machine", dark.namespace, DARK)) == 4
    fleet.check_history(dark.namespace)
