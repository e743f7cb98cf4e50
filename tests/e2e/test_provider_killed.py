"""kill -9 of the development provider while control planes of three grow: every host comes up, none is lost."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.e2e import manifests
from tests.e2e.fleet import Fleet, left_of
from tests.e2e.recorder import World, condition

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

NAMES = ("trio-a", "trio-b")
PROVIDER = "dev_infrastructure-0"
KILL_AT_STAGES = (1, 4, 8, 13, 19)
"""After so many stages of hosts (VM, Node, etcd member, API server) were told; all of them are 24."""
STAGES = ("VMProvisioned", "NodeProvisioned", "EtcdProvisioned", "APIServerProvisioned")
GROW_LIMIT_S = 240.0


def _told(world: World, namespace: str) -> int:
    return sum(condition(host, stage) == "True" for host in world.all("DevMachine", namespace) for stage in STAGES)


def test_no_host_of_a_control_plane_is_lost(fleet: Fleet) -> None:
    namespace = fleet.namespace("trio")
    fleet.apply(*(document for name in NAMES for document in manifests.cluster(name, namespace, control_planes=3, workers=0)))
    assert all(later > earlier for earlier, later in pairwise(KILL_AT_STAGES))
    for wanted in KILL_AT_STAGES:

        def grown(world: World, wanted: int = wanted) -> list[str]:
            told = _told(world, namespace)
            return [] if told >= wanted else [f"{told} of {wanted} stages"]

        fleet.recorder.wait(grown, GROW_LIMIT_S, f"{wanted} stages told")
        fleet.rig.kill(PROVIDER)
        fleet.rig.wait_ready(PROVIDER)
    fleet.settle(namespace, *NAMES, limit_s=GROW_LIMIT_S)
    fleet.check_history(namespace)
    for name in NAMES:
        fleet.kubectl("-n", namespace, "delete", "cluster", name, "--wait=false")
    for name in NAMES:
        fleet.recorder.wait(lambda world, name=name: left_of(world, namespace, name), 120.0, f"{name} gone")
