"""The real clusterctl moves a cluster to another management cluster: the same hosts, none made and none deleted, and nothing is left behind.

Source: roadmap.md row 2; contracts.md §9 (move).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetwake.rig import Rig
from tests.e2e import manifests
from tests.e2e.clusterctl import clusterctl
from tests.e2e.fleet import Fleet, left_of, watched
from tests.e2e.recorder import Object

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

NAME, WORKERS = "moving", 2
GONE_LIMIT_S = 60.0


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Fleet]:
    """Another management cluster with services of its own."""
    rig = Rig.up(tmp_path / "elsewhere", workers=1, bound_to=os.getpid())
    with watched(rig) as found:
        yield found


def _hosts(fleet: Fleet, namespace: str) -> dict[str, tuple[str, str, str]]:
    def host(machine: Object) -> tuple[str, str, str]:
        return machine["spec"]["providerID"], machine["spec"]["version"], machine["status"]["nodeRef"]["name"]

    return {machine["metadata"]["name"]: host(machine) for machine in fleet.recorder.world.all("Machine", namespace)}


def test_a_moved_cluster_is_the_same_cluster(fleet: Fleet, elsewhere: Fleet, tmp_path: Path) -> None:
    namespace = fleet.namespace("move")
    elsewhere.kubectl("create", "namespace", namespace)
    fleet.apply(*manifests.cluster(NAME, namespace, workers=WORKERS))
    fleet.settle(namespace, NAME)
    before = _hosts(fleet, namespace)

    clusterctl(fleet, tmp_path, "move", "--to-kubeconfig", elsewhere.rig.endpoints().kubeconfig, "--namespace", namespace)
    fleet.recorder.wait(lambda world: left_of(world, namespace, NAME), GONE_LIMIT_S, "gone where it was")
    elsewhere.settle(namespace, NAME)
    assert _hosts(elsewhere, namespace) == before
    machines = [seen for seen in elsewhere.recorder.events(namespace) if seen.name.kind == "Machine"]
    assert {seen.name.name for seen in machines} == before.keys() and not any(seen.deleted for seen in machines)

    elsewhere.scale(namespace, f"machinedeployment/{NAME}-workers", WORKERS + 1)
    elsewhere.settle(namespace, NAME)
    kubeconfig = elsewhere.workload_kubeconfig(namespace, NAME, tmp_path)
    assert len(elsewhere.kubectl("get", "nodes", "-o", "name", kubeconfig=kubeconfig).split()) == 1 + WORKERS + 1
    elsewhere.check_history(namespace)
