"""Parts are killed while clusters are created and rolled out: every audited write still has its record, and every run the trace of the user's change.

Which traces a user's changes open is not taken from what the services say: their ids derive from the versions that the user's ``kubectl apply`` was told.
Source: architecture.md §7.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from fleetwake.tracing.context import SpanId
from fleetwake.tracing.intents import JOIN_SECONDS
from schemas.keys import ObjectKey
from tests.e2e import manifests
from tests.e2e.audit import Asked, Trail
from tests.e2e.fleet import CONVERGE_LIMIT_S, Fleet
from tests.e2e.recorder import World, controller
from tests.e2e.topics import objects_epoch

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

CLUSTERS = tuple(f"t{number}" for number in range(6))
WORKERS = 2
KILLED = ("reconcilers-0", "watcher-0", "dev_infrastructure-0")
STRIDE_MACHINES = 4
NEXT_VERSION = "v1.34.7"
RUNS_MIN = 300
SHARED_MIN = 0.99
REST_MORE_S = 2.0


@dataclass
class User:
    """Applies documents and remembers which traces that may have opened, by cluster, oldest first."""

    fleet: Fleet
    namespace: str
    asked: dict[str, list[Asked]] = field(default_factory=dict)

    def apply(self, documents: dict[str, list[manifests.Document]]) -> None:
        """Apply the documents of clusters by their name."""
        epoch, at = objects_epoch(self.fleet.rig.endpoints().bootstrap_servers), datetime.now(UTC)
        text = manifests.text([document for found in documents.values() for document in found])
        items = json.loads(self.fleet.kubectl("apply", "-o", "json", "-f", "-", stdin=text))["items"]
        told = {(item["kind"], item["metadata"]["name"]): item for item in items}
        for name, found in documents.items():
            cluster = f"{self.namespace}/{name}"
            mine = [told[document["kind"], document["metadata"]["name"]] for document in found]
            self.asked.setdefault(cluster, []).append(Asked(at, frozenset(_opened(cluster, item, epoch) for item in mine)))

    def rest(self) -> None:
        """Wait until nothing has changed for so long that the next change opens a trace of its own: of silence no event tells."""
        while (left := self.fleet.recorder.events(self.namespace)[-1].at + JOIN_SECONDS + REST_MORE_S - time.monotonic()) > 0:
            time.sleep(left)


def _opened(cluster: str, item: dict[str, Any], epoch: int) -> str:
    """The trace that a change opens when it is the first of a cluster after a rest."""
    metadata = item["metadata"]
    key = ObjectKey(item["apiVersion"].partition("/")[0], item["kind"], metadata["namespace"], metadata["name"])
    return SpanId.derive(f"intent/{cluster}/{key}/{epoch}/{metadata['resourceVersion']}").trace


@pytest.fixture(scope="module")
def user(fleet: Fleet) -> User:
    """A user who has clusters made and rolled out while parts are killed, and who waits until all is settled."""
    user = User(fleet, fleet.namespace("traces"))
    whole = {name: manifests.cluster(name, user.namespace, workers=WORKERS) for name in CLUSTERS}
    user.apply(whole)
    _kill_on_the_way(user, manifests.VERSION)
    user.rest()
    rolled = {name: manifests.cluster(name, user.namespace, workers=WORKERS, version=NEXT_VERSION) for name in CLUSTERS}
    user.apply({name: [document for document in found if document["kind"] == "MachineDeployment"] for name, found in rolled.items()})
    _kill_on_the_way(user, NEXT_VERSION)
    return user


def _kill_on_the_way(user: User, version: str) -> None:
    """Kill one part after the other, each when so many more Machines of a version were made, and wait until the clusters are as asked."""
    fleet = user.fleet
    for number, name in enumerate(KILLED):

        def missing(world: World, wanted: int = 1 + number * STRIDE_MACHINES) -> list[str]:
            new = [machine for machine in world.all("Machine", user.namespace) if machine["spec"].get("version") == version]
            return [] if len(new) >= wanted else [f"{len(new)} Machines of {version}, {wanted} wanted"]

        fleet.recorder.wait(missing, CONVERGE_LIMIT_S, f"Machines of {version}")
        fleet.rig.kill(name)
    fleet.settle(user.namespace, *CLUSTERS)
    state = fleet.rig.state()
    assert state is not None
    for process in state.processes:
        fleet.rig.wait_ready(process.name)


def test_every_write_has_its_record_though_its_writer_was_killed(fleet: Fleet, user: User) -> None:
    writes = [event for event in fleet.our_writes() if event["objectRef"].get("namespace") == user.namespace]
    trail = Trail.read(fleet.rig.endpoints().bootstrap_servers)
    assert len(writes) > RUNS_MIN
    assert trail.unexplained(writes) == []
    assert trail.phantoms({event["auditID"] for event in fleet.audit()}, [user.namespace]) == []


def test_every_run_is_in_the_trace_of_what_the_user_asked_for(fleet: Fleet, user: User) -> None:
    trail = Trail.read(fleet.rig.endpoints().bootstrap_servers)
    runs = trail.of(user.namespace)
    assert len(runs) > RUNS_MIN
    strangers = trail.strangers(user.asked)
    assert len(strangers) <= (1 - SHARED_MIN) * len(runs), f"{len(strangers)} of {len(runs)}:\n" + "\n".join(strangers)


def test_a_machine_that_the_user_deletes_has_a_trace_of_its_own(fleet: Fleet, user: User) -> None:
    """Kubernetes names no one who deletes: nobody of ours did."""
    name, cluster = CLUSTERS[0], f"{user.namespace}/{CLUSTERS[0]}"
    user.rest()
    workers = [machine for machine in fleet.recorder.world.all("Machine", user.namespace, name) if controller(machine)[0] == "MachineSet"]
    victim, at = workers[0]["metadata"]["name"], datetime.now(UTC)
    fleet.kubectl("-n", user.namespace, "delete", "machine", victim, "--wait=false")
    fleet.settle(user.namespace, name)
    epoch = objects_epoch(fleet.rig.endpoints().bootstrap_servers)
    going = [seen.object for seen in fleet.recorder.events(user.namespace) if seen.name.name == victim and "deletionTimestamp" in seen.object["metadata"]]
    # a status write of ours that was under way may be the first to tell a worker of the deletion: then its version is the one that opened
    opened = frozenset(_opened(cluster, {**state, "kind": "Machine", "apiVersion": manifests.CORE}, epoch) for state in going)
    trail = Trail.read(fleet.rig.endpoints().bootstrap_servers)
    deleted = [run for run in trail.of(user.namespace) if run.started >= at]
    assert {run.record.kind for run in deleted} >= {"Machine", "MachineSet", "DevMachine"}
    assert len({run.record.intent for run in deleted if run.record.cluster == cluster and run.record.intent}) == 1
    assert trail.strangers({cluster: [Asked(at, opened)]}) == []
