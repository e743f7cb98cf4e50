"""Node groups from nothing to three and back, as cluster-autoscaler scales them: through the bridge, and through the objects themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from fleetwake.kube.authority import Authority, Lifetimes, first, read
from fleetwake.kube.pki import CertificateSpec, KeyPair, generate_key, sign_certificate
from schemas.keys import ClusterKey
from services.autoscaler_bridge.identities import issue
from tests.e2e import manifests
from tests.e2e.autoscaler import Autoscaler, certificates
from tests.e2e.clusterapi_provider import ClusterApiProvider
from tests.e2e.fleet import Fleet, left_of
from tests.e2e.recorder import Object, World, told

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

NAME, OTHER = "elastic", "rigid"
READY = "NodeGroupReady"
LIMIT_S = 30.0
LEAST, MOST = "cluster.x-k8s.io/cluster-api-autoscaler-node-group-min-size", "cluster.x-k8s.io/cluster-api-autoscaler-node-group-max-size"
DELETE_MACHINE = "cluster.x-k8s.io/delete-machine"
BOUNDS = {LEAST: "0", MOST: "5"}
CAPACITY = "capacity.cluster-autoscaler.kubernetes.io/"
KINDS = {"MachineDeployment": f"{NAME}-workers", "MachineSet": f"{NAME}-set", "MachinePool": f"{NAME}-pool"}
"""The groups, by kind."""
MEMBERS = {"MachineDeployment": "deployment-name", "MachineSet": "set-name"}
"""The label that the scale subresource selects members by; that of a MachinePool selects none."""
of_each_kind = pytest.mark.parametrize("kind", KINDS)


def _set_of(name: str, namespace: str) -> manifests.Document:
    """A MachineSet of no deployment, of the hosts that the cluster's workers are, with none so far."""
    (workers,) = (one for one in manifests.cluster(name, namespace, workers=0) if one["kind"] == "MachineDeployment")
    workers["kind"], workers["metadata"]["name"] = "MachineSet", f"{name}-set"
    return workers


class Elastic:
    """A namespace with a cluster whose workers are node groups, and another that has none."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet, self.namespace, self.folder = fleet, fleet.namespace("autoscaler"), folder
        documents = [*manifests.cluster(NAME, self.namespace, workers=0), _set_of(NAME, self.namespace), *manifests.pool(NAME, self.namespace, replicas=0)]
        documents += manifests.cluster(OTHER, self.namespace, workers=0)
        for document in documents:
            if KINDS.get(document["kind"]) == document["metadata"]["name"]:
                document["metadata"]["annotations"] = dict(BOUNDS)
        fleet.apply(*documents)
        fleet.settle(self.namespace, NAME, OTHER)
        self.autoscaler = Autoscaler(certificates(fleet, f"{self.namespace}/{NAME}", folder / NAME))

    def group(self, kind: str) -> tuple[str, str]:
        """Name and id of the group of a kind."""
        return KINDS[kind], f"{kind}/{self.namespace}/{KINDS[kind]}"

    def object(self, kind: str) -> Object:
        """The group as last seen."""
        found = self.fleet.recorder.world.get(kind, self.namespace, self.group(kind)[0])
        assert found is not None
        return found

    def await_standing(self, kind: str, reason: str) -> str:
        """Wait until the condition gives this reason; returns reason and message."""

        def lacking(world: World) -> list[str]:
            said = told(self.object(kind), READY)
            return [] if said.startswith(f"{reason}:") else [said or "no condition"]

        self.fleet.recorder.wait(lacking, LIMIT_S, f"{kind} {reason}")
        return told(self.object(kind), READY)

    def machines(self) -> list[Object]:
        """The workers."""
        found = self.fleet.recorder.world.all("Machine", self.namespace, NAME)
        return [machine for machine in found if "cluster.x-k8s.io/control-plane" not in machine["metadata"]["labels"]]

    def workers(self) -> dict[str, str]:
        """The names of the workers by providerID."""
        return {machine["spec"]["providerID"]: machine["metadata"]["name"] for machine in self.machines()}

    def workers_of(self, owner: str) -> list[str]:
        """The names of the Machines that an object controls."""
        machines = self.fleet.recorder.world.all("Machine", self.namespace, NAME)
        return [machine["metadata"]["name"] for machine in machines if any(ref["name"] == owner for ref in machine["metadata"].get("ownerReferences", ()))]

    def await_nodes(self, count: int) -> dict[str, str]:
        """Wait until there are so many workers, and all of them are Nodes; returns their names by providerID."""

        def lacking(world: World) -> list[str]:
            machines = self.machines()
            waiting = [
                machine["metadata"]["name"] for machine in machines if "nodeRef" not in (machine.get("status") or {}) or "providerID" not in machine["spec"]
            ]
            return [*waiting, *([f"{len(machines)} of {count} Machines"] if len(machines) != count else [])]

        self.fleet.recorder.wait(lacking, LIMIT_S, f"{count} Nodes")
        return self.workers()

    def await_workers(self, names: set[str]) -> None:
        """Wait until exactly these workers are left."""
        self.fleet.recorder.wait(
            lambda world: sorted({machine["metadata"]["name"] for machine in self.machines()} ^ names), LIMIT_S, f"workers {sorted(names)}"
        )

    def audit(self, kind: str) -> str:
        """What `fleetwake audit` says of the group."""
        return self.fleet.ask(self.namespace, f"{kind}/{self.group(kind)[0]}")


@pytest.fixture(scope="module")
def elastic(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elastic]:
    found = Elastic(fleet, tmp_path_factory.mktemp("autoscaler"))
    yield found
    for name in (NAME, OTHER):
        fleet.kubectl("-n", found.namespace, "delete", "cluster", name, "--wait=false")
    for name in (NAME, OTHER):
        fleet.recorder.wait(lambda world, name=name: left_of(world, found.namespace, name), 60.0, f"{name} gone")


@of_each_kind
def test_a_group_grows_from_nothing_and_the_named_hosts_go(elastic: Elastic, kind: str) -> None:
    _, group = elastic.group(kind)
    elastic.await_standing(kind, "Served")
    annotations = elastic.object(kind)["metadata"]["annotations"]
    assert {annotations[CAPACITY + one] for one in ("cpu", "memory", "maxPods", "ephemeral-disk")} == {"8", "32Gi", "110", "100Gi"}

    autoscaler = elastic.autoscaler
    assert autoscaler.groups()[group] == (0, 5)
    assert (autoscaler.size(group), autoscaler.nodes(group)) == (0, {})
    node = elastic.fleet.api.decode("/api/v1/nodes", "v1", "Node", autoscaler.template(group))
    assert node["status"]["capacity"] == node["status"]["allocatable"] == {"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"}
    assert node["metadata"]["labels"]["kubernetes.io/os"] == "linux" and node["status"]["nodeInfo"]["architecture"] == "amd64"
    autoscaler.increase(group, 3)
    assert autoscaler.size(group) == 3
    hosts = elastic.await_nodes(3)
    autoscaler.until(lambda: autoscaler.nodes(group) == dict.fromkeys(hosts, "instanceRunning"))
    nodes = json.loads(_nodes(elastic))
    assert {node["spec"]["providerID"] for node in nodes} >= set(hosts), "what is told is what Nodes have"
    assert {autoscaler.group_of(host) for host in hosts} == {group}

    chosen, *kept = sorted(hosts)
    autoscaler.delete(group, [chosen])
    assert autoscaler.size(group) == 2
    autoscaler.delete(group, [chosen])  # asked again, as after an answer that was lost
    elastic.await_workers({hosts[host] for host in kept})
    assert autoscaler.size(group) == 2, "a host that goes already is not taken off once more"
    autoscaler.delete(group, kept)
    elastic.await_workers(set())
    autoscaler.until(lambda: (autoscaler.size(group), autoscaler.nodes(group)) == (0, {}))

    with pytest.raises(GRPCError) as refused:
        autoscaler.increase(group, 6)
    assert refused.value.status == Status.OUT_OF_RANGE and autoscaler.size(group) == 0
    asker = f"cluster-autoscaler of {elastic.namespace}/{NAME}"
    text = " ".join(elastic.audit(kind).split())
    for reason in (f"{asker} asks for 3 more: 0 to 3, of 0 to 5", f"{asker} removes {hosts[chosen]}: 3 to 2, of 0 to 5", f"{asker} asks for 6 more: refused"):
        assert reason in text, reason


def _nodes(elastic: Elastic) -> str:
    kubeconfig = elastic.fleet.workload_kubeconfig(elastic.namespace, NAME, elastic.folder)
    return elastic.fleet.kubectl("get", "nodes", "-o", "jsonpath={.items}", kubeconfig=kubeconfig)


@of_each_kind
def test_the_objects_serve_an_autoscaler_that_scales_them_itself_and_two_writers_are_refused(elastic: Elastic, kind: str) -> None:
    """The calls of cluster-autoscaler's clusterapi provider: the scale subresource, and the mark on the Machine that is to go."""
    name, group = elastic.group(kind)
    fleet, resource = elastic.fleet, f"{kind.lower()}/{name}"
    scale = fleet.api.get(f"/apis/cluster.x-k8s.io/v1beta2/namespaces/{elastic.namespace}/{kind.lower()}s/{name}/scale")
    selector = scale["status"].get("selector", "")
    assert (f"cluster.x-k8s.io/{MEMBERS[kind]}={name}" in selector if kind in MEMBERS else not selector) and scale["spec"].get("replicas", 0) == 0

    def scaled(replicas: int) -> None:
        patch = json.dumps({"spec": {"replicas": replicas}})
        arguments = ("--subresource=scale", "--type=merge", "--field-manager=cluster-autoscaler", "-p", patch)
        fleet.kubectl("-n", elastic.namespace, "patch", resource, *arguments)

    scaled(3)
    said = elastic.await_standing(kind, "AnotherWriter")
    assert "cluster-autoscaler scaled it" in said
    hosts = elastic.await_nodes(3)
    assert group not in elastic.autoscaler.groups() and elastic.autoscaler.group_of(min(hosts)) == ""
    with pytest.raises(GRPCError) as refused:
        elastic.autoscaler.increase(group, 1)
    assert refused.value.status == Status.NOT_FOUND and elastic.object(kind)["spec"]["replicas"] == 3

    chosen = max(hosts)
    fleet.kubectl("-n", elastic.namespace, "annotate", "machine", hosts[chosen], f"{DELETE_MACHINE}=2026-01-01T00:00:00Z")
    scaled(2)
    elastic.await_workers({machine for host, machine in hosts.items() if host != chosen})
    fleet.settle(elastic.namespace, NAME)
    scaled(0)
    elastic.await_workers(set())
    fleet.settle(elastic.namespace, NAME)

    fleet.kubectl("-n", elastic.namespace, "annotate", resource, "fleetwake.io/autoscaler-takes-over=")
    elastic.await_standing(kind, "Served")
    elastic.autoscaler.increase(group, 1)
    hosts = elastic.await_nodes(1)
    elastic.autoscaler.until(lambda: elastic.autoscaler.nodes(group) == dict.fromkeys(hosts, "instanceRunning"))
    elastic.autoscaler.delete(group, hosts)
    elastic.await_workers(set())


def test_what_a_host_of_a_pool_would_be_is_told_by_its_infrastructure_and_overridden_by_its_user(elastic: Elastic) -> None:
    _, group = elastic.group("MachinePool")
    fleet, resource, cpu = elastic.fleet, f"machinepool/{KINDS['MachinePool']}", CAPACITY + "cpu"
    elastic.await_standing("MachinePool", "Served")

    def annotated(value: str) -> None:
        annotations = elastic.object("MachinePool")["metadata"]["annotations"]
        assert annotations[CAPACITY + "labels"] == "kubernetes.io/arch=amd64,kubernetes.io/os=linux"
        lacking = f"{value} cores, of {annotations.get(cpu)}"
        fleet.recorder.wait(lambda world: [] if elastic.object("MachinePool")["metadata"]["annotations"].get(cpu) == value else [lacking], LIMIT_S, lacking)
        elastic.autoscaler.until(lambda: template()["cpu"] == value)

    def template() -> dict[str, str]:
        node = fleet.api.decode("/api/v1/nodes", "v1", "Node", elastic.autoscaler.template(group))
        return dict(node["status"]["capacity"])

    annotated("8")
    fleet.kubectl("-n", elastic.namespace, "annotate", "--overwrite", resource, f"{cpu}=4")
    annotated("4")
    assert template()["memory"] == "32Gi", "the rest is still the infrastructure's"
    fleet.kubectl("-n", elastic.namespace, "annotate", resource, f"{cpu}-")
    annotated("8")


@of_each_kind
def test_the_objects_tell_cluster_autoscalers_own_provider_what_the_bridge_tells(elastic: Elastic, kind: str) -> None:
    _, group = elastic.group(kind)
    autoscaler, provider = elastic.autoscaler, ClusterApiProvider(elastic.fleet.api, elastic.namespace, NAME)
    elastic.await_standing(kind, "Served")

    def same() -> None:
        assert provider.groups() == autoscaler.groups()
        assert (provider.size(group), provider.hosts(group)) == (autoscaler.size(group), set(autoscaler.nodes(group)))
        node = elastic.fleet.api.decode("/api/v1/nodes", "v1", "Node", autoscaler.template(group))
        labels = {key: value for key, value in node["metadata"]["labels"].items() if key != "kubernetes.io/hostname"}
        assert (provider.resources(group), provider.labels(group)) == (node["status"]["capacity"], labels)

    same()
    autoscaler.increase(group, 2)
    hosts = elastic.await_nodes(2)
    autoscaler.until(lambda: autoscaler.nodes(group) == dict.fromkeys(hosts, "instanceRunning"))
    elastic.fleet.settle(elastic.namespace, NAME)
    same()
    assert {provider.group_of(host) for host in hosts} == {group}
    assert kind != "MachineDeployment" or not provider.rolls_out(KINDS[kind])
    marks = {node["spec"]["providerID"]: node["metadata"]["annotations"] for node in json.loads(_nodes(elastic))}
    for host, machine in hosts.items():
        told_by_node = (marks[host]["cluster.x-k8s.io/cluster-namespace"], marks[host]["cluster.x-k8s.io/machine"])
        assert told_by_node == (elastic.namespace, machine)
    autoscaler.delete(group, hosts)
    elastic.await_workers(set())
    elastic.fleet.settle(elastic.namespace, NAME)
    same()


def _never_to_come_up(elastic: Elastic, kind: str) -> None:
    """Let hosts of the group that are made from now on take an hour."""
    name, _ = elastic.group(kind)
    stuck = manifests.stuck_hosts(f"{NAME}-stuck", elastic.namespace)
    if kind == "MachinePool":
        startup = stuck["spec"]["template"]["spec"]["backend"]["inMemory"]["vm"]
        elastic.fleet.patch(elastic.namespace, f"devmachinepool/{name}", {"spec": {"backend": {"inMemory": {"vm": startup}}}})
        return
    elastic.fleet.apply(stuck)
    reference = {"spec": {"template": {"spec": {"infrastructureRef": {"name": stuck["metadata"]["name"]}}}}}
    elastic.fleet.patch(elastic.namespace, f"{kind.lower()}/{name}", reference)


@pytest.mark.parametrize("kind", ["MachineSet", "MachinePool"])
def test_what_has_not_become_a_node_is_given_up(elastic: Elastic, kind: str) -> None:
    """Hosts that never come up: machines of theirs wait for an hour."""
    name, group = elastic.group(kind)
    _never_to_come_up(elastic, kind)
    autoscaler = elastic.autoscaler
    elastic.await_standing(kind, "Served")
    autoscaler.increase(group, 2)
    autoscaler.until(lambda: len(autoscaler.nodes(group)) == 2)
    assert set(autoscaler.nodes(group).values()) == {"instanceCreating"}
    assert all(one.startswith(f"pending-machine-{elastic.namespace}_") for one in autoscaler.nodes(group))
    autoscaler.decrease(group, -1)
    elastic.fleet.recorder.wait(lambda world: [] if len(elastic.workers_of(name)) == 1 else ["one Machine"], LIMIT_S, "one given up")
    autoscaler.until(lambda: len(autoscaler.nodes(group)) == 1)
    (left,) = autoscaler.nodes(group)
    autoscaler.delete(group, [left])
    elastic.fleet.recorder.wait(lambda world: elastic.workers_of(name), LIMIT_S, "the other removed by its placeholder")
    assert autoscaler.size(group) == 0


def test_groups_at_rest_cost_no_request(elastic: Elastic) -> None:
    elastic.fleet.settle(elastic.namespace, NAME, OTHER)
    elastic.fleet.fall_silent()


def test_nobody_sees_the_groups_of_another_cluster(elastic: Elastic, tmp_path: Path) -> None:
    _, group = elastic.group("MachineSet")
    own, now = _authority(elastic), datetime.now(UTC)
    other = _with(elastic, tmp_path / OTHER, issue(own, ClusterKey(elastic.namespace, OTHER), now=now))
    assert other.groups() == {}
    for call in (lambda: other.size(group), lambda: other.increase(group, 1), lambda: other.delete(group, [])):
        with pytest.raises(GRPCError) as refused:
            call()
        assert refused.value.status == Status.NOT_FOUND
    missing = _with(elastic, tmp_path / "nobody", issue(own, ClusterKey(elastic.namespace, "nobody"), now=now))
    with pytest.raises(GRPCError) as refused:
        missing.groups()
    assert refused.value.status == Status.NOT_FOUND


def test_nobody_is_answered_without_a_certificate_of_the_bridges_ca(elastic: Elastic, tmp_path: Path) -> None:
    now, cluster = datetime.now(UTC), ClusterKey(elastic.namespace, NAME)
    own = _authority(elastic)
    stranger = first("fleetwake-autoscaler-bridge-ca", now=now, lifetimes=Lifetimes())
    refused = {"stranger": issue(stranger, cluster, now=now), "expired": issue(own, cluster, now=now - timedelta(days=100)), "none": None}
    for name, pair in refused.items():
        with pytest.raises((OSError, StreamTerminatedError)):
            _with(elastic, tmp_path / name, pair).groups()
    unnamed = sign_certificate(own.pair, CertificateSpec("somebody", usages=("client",)), generate_key("ECDSA-P256"), now=now)
    with pytest.raises(GRPCError) as told_why:
        _with(elastic, tmp_path / "unnamed", unnamed).groups()
    assert told_why.value.status == Status.PERMISSION_DENIED


def _authority(elastic: Elastic) -> Authority:
    """The bridge's own CA."""
    return read(elastic.fleet.api.get("/api/v1/namespaces/fleetwake-system/secrets/fleetwake-autoscaler-bridge"))


def _with(elastic: Elastic, folder: Path, pair: KeyPair | None) -> Autoscaler:
    """The same configuration with another certificate, or with none."""
    folder.mkdir()
    config = yaml.safe_load((elastic.autoscaler.folder / "cloud-config.yaml").read_text())
    if pair is None:
        del config["cert"], config["key"]
    else:
        config |= {"cert": str(folder / "tls.crt"), "key": str(folder / "tls.key")}
        (folder / "tls.crt").write_bytes(pair.cert_pem)
        (folder / "tls.key").write_bytes(pair.key_pem)
    (folder / "cloud-config.yaml").write_text(yaml.safe_dump(config))
    return Autoscaler(folder)
