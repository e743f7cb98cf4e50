"""A MachinePool on emulated hosts: made, scaled, a host deleted, another chosen, rolled out, pressed through an interruption, deleted with its cluster."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleetwake.rig.services import fleetwake_command
from tests.e2e import manifests
from tests.e2e.fleet import ACCOUNTS, Fleet, left_of
from tests.e2e.recorder import Object, World, condition, controller, told
from tests.e2e.workload import Workload

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

NAME = "tidal"
POOL = f"{NAME}-pool"
RESOURCE = f"machinepool/{POOL}"
GONE_LIMIT_S, ASK_LIMIT_S = 60.0, 60
NEXT_VERSION = "v1.34.1"
CLUSTER_ALONE = 4
"""The first documents of a cluster are those without its MachineDeployment."""


@dataclass
class Pooled:
    """The cluster with its pool, and how far the history is looked at."""

    fleet: Fleet
    namespace: str
    workload: Workload

    @property
    def world(self) -> World:
        """The objects now."""
        return self.fleet.recorder.world

    @property
    def pool(self) -> Object:
        """The MachinePool."""
        found = self.world.get("MachinePool", self.namespace, POOL)
        assert found is not None
        return found

    def machines(self) -> dict[str, Object]:
        """The pool's Machines by name."""
        return {one["metadata"]["name"]: one for one in self.world.all("Machine", self.namespace) if controller(one) == ("MachinePool", POOL)}

    def settle(self, **wanted: Any) -> None:
        """Change the pool's spec, and wait until all is so."""
        if wanted:
            self.fleet.patch(self.namespace, RESOURCE, {"spec": wanted})
        self.fleet.settle(self.namespace, NAME)

    def whole(self) -> None:
        """Assert that hosts, Machines, Nodes and what the pool tells are the same."""
        machines = set(self.machines())
        hosts = {one["metadata"]["name"]: one for one in self.world.all("DevMachine", self.namespace)}
        owned = {name for name, one in hosts.items() if "cluster.x-k8s.io/pool-name" in one["metadata"]["labels"]}
        planes = {one["metadata"]["name"] for one in self.world.all("Machine", self.namespace)} - machines
        assert owned == machines and self.workload.nodes() == machines | planes
        pool = self.pool
        assert sorted(pool["spec"].get("providerIDList", [])) == sorted(hosts[name]["spec"]["providerID"] for name in machines)
        assert {one["name"] for one in pool["status"].get("nodeRefs", [])} == machines
        assert condition(pool, "Available") == "True" and pool["status"]["phase"] == "Running", told(pool, "Available")


@pytest.fixture(scope="module")
def pooled(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pooled]:
    namespace = fleet.namespace("pools")
    fleet.apply(*manifests.cluster(NAME, namespace)[:CLUSTER_ALONE], *manifests.pool(NAME, namespace, replicas=1))
    fleet.settle(namespace, NAME)
    yield Pooled(fleet, namespace, Workload(fleet, namespace, NAME, tmp_path_factory.mktemp("pools")))


def test_hosts_come_with_machines_and_nodes_and_the_cluster_counts_them(pooled: Pooled) -> None:
    pooled.whole()
    for replicas in (4, 2):
        before = set(pooled.machines())
        pooled.fleet.scale(pooled.namespace, RESOURCE, replicas)
        pooled.settle()
        pooled.whole()
        assert before <= set(pooled.machines()) or set(pooled.machines()) <= before
        cluster = pooled.world.get("Cluster", pooled.namespace, NAME)
        assert cluster is not None and cluster["status"]["workers"]["availableReplicas"] == replicas
    for kind in ("KubeadmConfig", "DevMachinePool"):
        found = pooled.world.get(kind, pooled.namespace, POOL)
        assert found is not None and controller(found) == ("MachinePool", POOL)


def test_a_node_carries_what_cluster_api_puts_there(pooled: Pooled) -> None:
    nodes = {one["metadata"]["name"]: one for one in pooled.workload.objects("nodes")}
    for name in pooled.machines():
        marks = nodes[name]["metadata"]["annotations"]
        assert (marks["cluster.x-k8s.io/owner-kind"], marks["cluster.x-k8s.io/owner-name"]) == ("MachinePool", POOL)
        assert (marks["cluster.x-k8s.io/cluster-name"], marks["cluster.x-k8s.io/machine"]) == (NAME, name)
        assert not [taint for taint in nodes[name]["spec"].get("taints", []) if taint["key"] == "node.cluster.x-k8s.io/uninitialized"]


def test_all_hosts_share_one_set_of_data_with_a_token_of_the_pool(pooled: Pooled) -> None:
    secret = pooled.fleet.api.get(f"/api/v1/namespaces/{pooled.namespace}/secrets/{POOL}")
    assert b"kubeadm join" in base64.b64decode(secret["data"]["value"])
    assert secret["metadata"]["annotations"]["fleetwake.io/bootstrap-token-id"]
    owner = [one["kind"] for one in secret["metadata"]["ownerReferences"] if one.get("controller")]
    assert owner == ["KubeadmConfig"] and all(one["spec"]["bootstrap"] == {"dataSecretName": ""} for one in pooled.machines().values())


def test_a_deleted_machine_takes_its_host_along_and_another_comes(pooled: Pooled) -> None:
    before = set(pooled.machines())
    victim = sorted(before)[0]
    pooled.fleet.kubectl("-n", pooled.namespace, "delete", "machine", victim)
    pooled.settle()
    pooled.whole()
    assert victim not in pooled.machines() and len(set(pooled.machines()) & before) == len(before) - 1


def test_the_machine_that_is_marked_is_the_one_that_goes(pooled: Pooled) -> None:
    pooled.settle(replicas=3)
    before = set(pooled.machines())
    victim = sorted(before)[1]
    pooled.fleet.kubectl("-n", pooled.namespace, "annotate", "machine", victim, "cluster.x-k8s.io/delete-machine=yes")
    pooled.settle(replicas=2)
    pooled.whole()
    assert set(pooled.machines()) == before - {victim}


def test_another_version_replaces_every_host_and_takes_none_away_before(pooled: Pooled) -> None:
    before, since = set(pooled.machines()), int(pooled.pool["metadata"]["resourceVersion"])
    pooled.settle(template={"spec": {"version": NEXT_VERSION}})
    pooled.whole()
    assert before.isdisjoint(pooled.machines())
    wanted = [{"version": NEXT_VERSION, "replicas": 2}]
    pooled.fleet.recorder.wait(lambda world: [] if pooled.pool["status"]["versions"] == wanted else ["its version"], GONE_LIMIT_S, "the version told")
    assert least_available(pooled, since) == 2


def least_available(pooled: Pooled, since: int) -> int:
    """The fewest available Machines of the pool that stayed, at any instant since a version."""
    machines: dict[str, Object] = {}
    least = len(pooled.machines())
    for seen in pooled.fleet.recorder.events(pooled.namespace):
        if seen.name.kind != "Machine" or controller(seen.object) != ("MachinePool", POOL):
            continue
        if seen.deleted:
            machines.pop(seen.name.name, None)
        else:
            machines[seen.name.name] = seen.object
        if seen.version > since:
            staying = [one for one in machines.values() if "deletionTimestamp" not in one["metadata"] and condition(one, "Available") == "True"]
            least = min(least, len(staying))
    return least


def test_what_the_cloud_decides_is_followed(pooled: Pooled) -> None:
    namespace = pooled.namespace
    pooled.fleet.kubectl("-n", namespace, "annotate", "machinepool", POOL, "cluster.x-k8s.io/replicas-managed-by=cloud")
    pooled.fleet.kubectl("-n", namespace, "annotate", "devmachinepool", POOL, "dev.fleetwake.io/replicas=3")
    pooled.fleet.recorder.wait(lambda world: [] if pooled.pool["spec"]["replicas"] == 3 else ["3 replicas"], GONE_LIMIT_S, "the pool follows")
    pooled.settle()
    pooled.whole()
    assert len(pooled.machines()) == 3


def test_a_machine_that_a_health_check_hands_over_is_replaced(pooled: Pooled) -> None:
    namespace, before = pooled.namespace, set(pooled.machines())
    check = manifests.health_check("pool", NAME, namespace, {"unhealthyNodeConditions": [{"type": "Ready", "status": "False", "timeoutSeconds": 300}]})
    check["spec"]["selector"] = {"matchLabels": {"cluster.x-k8s.io/pool-name": POOL}}
    pooled.fleet.apply(check)
    victim = sorted(before)[0]
    pooled.fleet.kubectl("-n", namespace, "annotate", "machine", victim, "cluster.x-k8s.io/remediate-machine=")
    pooled.fleet.recorder.wait(lambda world: [victim] if world.get("Machine", namespace, victim) else [], GONE_LIMIT_S, "the Machine gone")
    pooled.settle()
    pooled.whole()
    assert set(pooled.machines()) & before == before - {victim} and len(pooled.machines()) == len(before)


def test_describe_shows_the_pool_with_its_machines(pooled: Pooled) -> None:
    rig = pooled.fleet.rig
    command = [fleetwake_command(), "describe", "cluster", NAME, "-n", pooled.namespace, "--no-grouping", "--state", str(rig.state_dir)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=ASK_LIMIT_S, check=True, env={**os.environ, "COLUMNS": "220"}).stdout.splitlines()
    place = next(number for number, line in enumerate(shown) if f"MachinePool/{POOL}" in line)
    below = [line for line in shown[place + 1 :] if "Machine/" in line]
    assert [name for name in sorted(pooled.machines()) if not any(f"Machine/{name}" in line for line in below)] == []


def test_it_goes_with_its_cluster_and_leaves_nothing(pooled: Pooled, tmp_path: Path) -> None:
    pooled.fleet.kubectl("-n", pooled.namespace, "delete", "cluster", NAME, "--wait=false")
    pooled.fleet.recorder.wait(lambda world: left_of(world, pooled.namespace, NAME), GONE_LIMIT_S, f"{NAME} gone")
    left = [key for key in pooled.world.objects if key.namespace == pooled.namespace and key.kind not in ("ConfigMap", "DevMachineTemplate")]
    assert left == []
    refused = {
        f"{event['user']['username'].removeprefix(ACCOUNTS)} {event['verb']} {event['requestURI']}: {event['responseStatus'].get('message', '')}"
        for event in pooled.fleet.audit()
        if event["user"]["username"].startswith(ACCOUNTS)
        and (event.get("objectRef") or {}).get("namespace") == pooled.namespace
        and event["responseStatus"]["code"] == 403
    }
    assert refused == set()
