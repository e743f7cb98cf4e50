"""The real clusterctl v1.14 at clusters of ours: what it shows, the kubeconfig it hands out, roll-outs it begins and holds, the objects it carries.

Source: contracts.md §9; tests.md, "clusterctl".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleetwake.rig.probes import wait_until
from schemas.topics import PARTITIONS_DEFAULT
from tests.e2e import manifests
from tests.e2e.clusterctl import clusterctl
from tests.e2e.fleet import Fleet, left_of
from tests.e2e.recorder import Object, World, told

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

NAME, WORKERS = "driven", 2
DEPLOYMENT = f"{NAME}-workers"
LIMIT_S = 30.0
BRIDGE = "autoscaler_bridge-0"
TREE = re.compile(r"^[│├└─ ]*")
OBJECT = re.compile(r"(\w+) ([\w-]+)/([\w-]+)")
CONDITION = re.compile(r"(\w+) +(True|False|Unknown) ")
CARRIED = ("Cluster", "DevCluster", "KubeadmControlPlane", "KubeadmConfig", "MachineDeployment", "MachineSet", "Machine", "DevMachine")
"""Kinds of which clusterctl takes every object of the namespace along, as far as the recorder sees them."""


@dataclass
class Driven:
    """A cluster, and clusterctl with a home of its own."""

    fleet: Fleet
    namespace: str
    home: Path

    def clusterctl(self, *arguments: str) -> str:
        """Run it in the cluster's namespace; what it prints.

        Raises:
            AssertionError: it failed.
        """
        return clusterctl(self.fleet, self.home, *arguments, "--namespace", self.namespace)

    def doctor(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """What our plugin says of the installation and of the namespace, as an object."""
        wanted = ("fleetwake", "doctor", "--json", "-n", self.namespace, "--state", str(self.fleet.rig.state_dir))
        return dict(json.loads(clusterctl(self.fleet, self.home, *wanted, *arguments, code=code)))

    def machines(self) -> dict[str, Object]:
        """The workers' Machines by uid."""
        found = self.fleet.recorder.world.all("Machine", self.namespace, NAME)
        return {one["metadata"]["uid"]: one for one in found if one["metadata"]["labels"].get("cluster.x-k8s.io/deployment-name") == DEPLOYMENT}


@pytest.fixture(scope="module")
def driven(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driven]:
    namespace = fleet.namespace("clusterctl")
    fleet.apply(*manifests.cluster(NAME, namespace, workers=WORKERS))
    fleet.settle(namespace, NAME)
    yield Driven(fleet, namespace, tmp_path_factory.mktemp("clusterctl"))
    fleet.kubectl("-n", namespace, "delete", "cluster", NAME, "--wait=false")
    fleet.recorder.wait(lambda world: left_of(world, namespace, NAME), 60.0, "gone")


def _tree(text: str) -> dict[tuple[str, str], dict[str, str]]:
    """The objects of a description in its order, each with its conditions."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    last: dict[str, str] = {}
    for line in text.splitlines()[1:]:
        told_of = TREE.sub("", line)
        if named := OBJECT.match(told_of):
            last = found.setdefault((named[1], named[3]), {})
        elif condition := CONDITION.match(told_of):
            last[condition[1]] = condition[2]
    return found


def test_describe_shows_every_object_with_its_conditions(driven: Driven) -> None:
    text = driven.clusterctl("describe", "cluster", NAME, "--show-conditions", "all", "--grouping=false", "--echo")
    shown = _tree(text)
    assert "<none>" not in text
    world = driven.fleet.recorder.world
    wanted = {("Cluster", NAME), ("DevCluster", NAME), ("MachineDeployment", DEPLOYMENT)}
    wanted |= {(kind, one["metadata"]["name"]) for kind in ("KubeadmControlPlane", "Machine") for one in world.all(kind, driven.namespace)}
    assert wanted <= shown.keys()
    for kind, name in wanted:
        stored = world.get(kind, driven.namespace, name)
        assert stored is not None
        assert shown[kind, name] == {one["type"]: one["status"] for one in stored["status"]["conditions"]}, (kind, name)


def test_get_kubeconfig_reaches_the_cluster(driven: Driven) -> None:
    file = driven.home / "kubeconfig"
    file.write_text(driven.clusterctl("get", "kubeconfig", NAME))
    file.chmod(0o600)
    nodes = driven.fleet.kubectl("get", "nodes", "-o", "name", kubeconfig=str(file)).split()
    machines = driven.fleet.recorder.world.all("Machine", driven.namespace)
    assert set(nodes) == {f"node/{one['status']['nodeRef']['name']}" for one in machines}


def test_the_plugin_finds_nothing_wrong_with_what_works(driven: Driven) -> None:
    report = driven.doctor()
    assert {one["part"] for one in report["well"]} == {"topics", "workers", "watcher", "kinds", "read model"}
    assert report["findings"] == report["stuck"] == []
    assert {group["group"] for group in report["groups"]} >= {"capi-reconcilers", "capi-remediation", "capi-autoscaler-bridge"}
    for group in report["groups"]:
        assert [one["partition"] for one in group["partitions"]] == list(range(PARTITIONS_DEFAULT))
        assert all(one["worker"] for one in group["partitions"])


def test_rollout_restart_replaces_every_machine(driven: Driven) -> None:
    before = driven.machines().keys()
    driven.clusterctl("alpha", "rollout", "restart", f"machinedeployment/{DEPLOYMENT}")

    def old(world: World) -> list[str]:
        return [one["metadata"]["name"] for uid, one in driven.machines().items() if uid in before]

    driven.fleet.recorder.wait(old, LIMIT_S, "replaced")
    driven.fleet.settle(driven.namespace, NAME)
    assert len(driven.machines()) == WORKERS
    driven.fleet.check_history(driven.namespace)


def test_a_paused_rollout_waits_until_it_is_resumed(driven: Driven) -> None:
    before, resource = driven.machines().keys(), f"machinedeployment/{DEPLOYMENT}"
    driven.clusterctl("alpha", "rollout", "pause", resource)
    due = {"spec": {"rollout": {"after": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}}}
    driven.fleet.patch(driven.namespace, resource, due)

    def seen(world: World) -> list[str]:
        found = world.get("MachineDeployment", driven.namespace, DEPLOYMENT)
        return [] if found is not None and not found["status"].get("upToDateReplicas") else ["all up to date"]

    driven.fleet.recorder.wait(seen, LIMIT_S, "a roll-out that is due")
    assert driven.machines().keys() == before
    driven.clusterctl("alpha", "rollout", "resume", resource)
    driven.fleet.recorder.wait(lambda world: sorted(driven.machines().keys() & before), LIMIT_S, "replaced")
    driven.fleet.settle(driven.namespace, NAME)
    assert len(driven.machines()) == WORKERS


def test_a_control_plane_is_paused_and_resumed(driven: Driven) -> None:
    name = f"{NAME}-control-plane"

    def lacking(world: World, reason: str) -> list[str]:
        said = told(world.get("KubeadmControlPlane", driven.namespace, name), "Paused")
        return [] if said.startswith(f"{reason}:") else [said or "no condition"]

    for command, reason in (("pause", "Paused"), ("resume", "NotPaused")):
        driven.clusterctl("alpha", "rollout", command, f"kubeadmcontrolplane/{name}")
        driven.fleet.recorder.wait(lambda world, reason=reason: lacking(world, reason), LIMIT_S, command)


def test_move_takes_every_object_and_changes_none(driven: Driven, tmp_path: Path) -> None:
    world, before = driven.fleet.recorder.world, driven.machines().keys()
    driven.clusterctl("move", "--to-directory", str(tmp_path))
    carried = {(one["kind"], one["metadata"]["name"]) for file in tmp_path.iterdir() for one in [yaml.safe_load(file.read_text())]}
    for kind in CARRIED:
        assert {(kind, one["metadata"]["name"]) for one in world.all(kind, driven.namespace)} <= carried, kind
    secrets = {name for kind, name in carried if kind == "Secret"}
    assert {f"{NAME}-{purpose}" for purpose in ("ca", "etcd", "proxy", "sa", "kubeconfig")} <= secrets
    # it pauses the Cluster while it reads, and lets it go on
    driven.fleet.settle(driven.namespace, NAME)
    assert driven.machines().keys() == before


def test_the_plugin_names_a_service_without_workers_and_an_object_that_is_stuck(driven: Driven) -> None:
    fleet, held = driven.fleet, min(one["metadata"]["name"] for one in driven.machines().values())
    fleet.kubectl("-n", driven.namespace, "annotate", "machine", held, "pre-drain.delete.hook.machine.cluster.x-k8s.io/test=owner")
    fleet.kubectl("-n", driven.namespace, "delete", "machine", held, "--wait=false")
    fleet.rig.stop(BRIDGE)

    def told() -> bool:
        report = driven.doctor("--after", "0", code=1)
        stuck = [one for one in report["stuck"] if (one["kind"], one["name"]) == ("Machine", held)]
        return any("capi-autoscaler-bridge" in one["text"] for one in report["findings"]) and [one["what"] for one in stuck] == ["is being deleted"]

    try:
        wait_until(told, LIMIT_S, "the doctor's word for both")
    finally:
        fleet.rig.start(BRIDGE)
        fleet.kubectl("-n", driven.namespace, "annotate", "machine", held, "pre-drain.delete.hook.machine.cluster.x-k8s.io/test-")
    fleet.rig.wait_ready(BRIDGE)
    fleet.settle(driven.namespace, NAME)
