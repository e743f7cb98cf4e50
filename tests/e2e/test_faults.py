"""Ten clusters roll their workers while one part after another is killed, flushed or frozen.

Each time the fleet converges and no instant of its history breaks a rule; at the end the topics hold what the API server holds, and every
write of the services is explained by a record. Source: architecture.md §8, what is lost when a part dies: nothing.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from tests.e2e import manifests
from tests.e2e.audit import Trail
from tests.e2e.fleet import CONVERGE_LIMIT_S, Fleet
from tests.e2e.recorder import World
from tests.e2e.topics import objects_on_server, objects_on_topics

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

CLUSTERS = tuple(f"c{number}" for number in range(10))
WORKERS = 2
FROZEN_S = 11.0
"""Longer than any session, lease and request of ours."""
STRIDE_MACHINES = 4
EQUAL_LIMIT_S = 20.0
WRITES_MIN = 500
"""What making the clusters takes at the least, without any rollout."""


@dataclass
class Rolling:
    """The clusters, and the version their workers were last asked for."""

    namespace: str
    versions: Iterator[str]
    version: str = manifests.VERSION

    def roll(self, fleet: Fleet) -> None:
        """Ask for the next version of all workers."""
        self.version = next(self.versions)
        documents = [
            document
            for name in CLUSTERS
            for document in manifests.cluster(name, self.namespace, workers=WORKERS, version=self.version)
            if document["kind"] == "MachineDeployment"
        ]
        fleet.apply(*documents)

    def reach(self, fleet: Fleet, machines: int) -> None:
        """Wait until so many Machines of the new version were made."""

        def missing(world: World) -> list[str]:
            new = [machine for machine in world.all("Machine", self.namespace) if machine["spec"].get("version") == self.version]
            return [] if len(new) >= machines else [f"{len(new)} Machines of {self.version}"]

        fleet.recorder.wait(missing, CONVERGE_LIMIT_S, f"{machines} Machines of {self.version}")


@pytest.fixture(scope="module")
def rolling(fleet: Fleet) -> Rolling:
    """Ten clusters, Available."""
    namespace = fleet.namespace("faults")
    fleet.apply(*(document for name in CLUSTERS for document in manifests.cluster(name, namespace, workers=WORKERS)))
    fleet.settle(namespace, *CLUSTERS)
    return Rolling(namespace, (f"v1.34.{patch}" for patch in itertools.count(1)))


def _kill(name: str) -> Callable[[Fleet, Rolling], None]:
    def fault(fleet: Fleet, rolling: Rolling) -> None:
        fleet.rig.kill(name)

    return fault


def _flush(fleet: Fleet, rolling: Rolling) -> None:
    # it may just have been killed
    fleet.rig.wait_ready("redis")
    with redis.Redis.from_url(fleet.rig.endpoints().redis_url) as client:
        client.flushall()


def _freeze(name: str, *, others_go_on: bool) -> Callable[[Fleet, Rolling], None]:
    def fault(fleet: Fleet, rolling: Rolling) -> None:
        fleet.rig.pause(name)
        try:
            frozen = time.monotonic()
            if others_go_on:
                fleet.settle(rolling.namespace, *CLUSTERS)
            time.sleep(max(0.0, FROZEN_S - (time.monotonic() - frozen)))
        finally:
            fleet.rig.resume(name)

    return fault


OF_THE_API_SERVER = "kill -9 of the API server"
FAULTS: dict[str, tuple[Callable[[Fleet, Rolling], None], ...]] = {
    "kill -9 of a worker, the watcher, the development provider": (_kill("reconcilers-0"), _kill("watcher-0"), _kill("dev_infrastructure-0")),
    "kill -9 of Kafka, kill -9 of Redis, FLUSHALL": (_kill("kafka-0"), _kill("redis"), _flush),
    OF_THE_API_SERVER: (_kill("apiserver"),),
    "a frozen worker": (_freeze("reconcilers-1", others_go_on=True),),
    "a frozen watcher": (_freeze("watcher-0", others_go_on=False),),
}
"""What happens in turn during one rollout, each when it has come further."""


@pytest.mark.parametrize("faults", FAULTS)
def test_a_rollout_survives(fleet: Fleet, rolling: Rolling, faults: str) -> None:
    rolling.roll(fleet)
    for number, fault in enumerate(FAULTS[faults], start=1):
        rolling.reach(fleet, number * STRIDE_MACHINES)
        fault(fleet, rolling)
    try:
        fleet.settle(rolling.namespace, *CLUSTERS)
    finally:
        if faults == OF_THE_API_SERVER:
            fleet.accept_blind_spot()
    fleet.check_history(rolling.namespace, statuses=False)
    state = fleet.rig.state()
    assert state is not None
    for process in state.processes:
        fleet.rig.wait_ready(process.name)


def test_topics_hold_what_the_api_server_holds(fleet: Fleet, rolling: Rolling) -> None:
    deadline = time.monotonic() + EQUAL_LIMIT_S
    while True:
        on_topics, on_server = objects_on_topics(fleet.rig.endpoints().bootstrap_servers), objects_on_server(fleet.api)
        if on_topics == on_server:
            break
        different = {key: (on_topics.get(key), on_server.get(key)) for key in on_topics.keys() | on_server.keys() if on_topics.get(key) != on_server.get(key)}
        assert time.monotonic() < deadline, different
    assert sum(kind == "Machine" and namespace == rolling.namespace for kind, namespace, _ in on_topics) == len(CLUSTERS) * (WORKERS + 1)


def _of_the_installation(ref: Mapping[str, Any]) -> bool:
    return ref.get("namespace") == "fleetwake-system" or ref.get("apiGroup") == "admissionregistration.k8s.io"


def test_every_write_is_explained(fleet: Fleet, rolling: Rolling) -> None:
    trail = Trail.read(fleet.rig.endpoints().bootstrap_servers)
    # what concerns no cluster is made once per installation: the watcher's own key, and where the API server finds admission
    writes = [event for event in fleet.our_writes() if not _of_the_installation(event["objectRef"])]
    assert len(writes) > WRITES_MIN
    assert trail.unexplained(writes) == []
    assert trail.phantoms({event["auditID"] for event in fleet.audit()}, fleet.namespaces) == []
