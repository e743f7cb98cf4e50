"""Workers roll while Nodes fail at random: some come back, some are replaced by their health check, and no instant of it breaks a rule.

``FLEETWAKE_E2E_FAILING=10x20`` does it with ten clusters of twenty workers.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from tests.e2e import manifests
from tests.e2e.fleet import CONVERGE_LIMIT_S, Fleet
from tests.e2e.invariants import HistoryOfFailures
from tests.e2e.recorder import Object, World, condition, controller

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

CLUSTER_COUNT, WORKERS = (int(number) for number in os.environ.get("FLEETWAKE_E2E_FAILING", "3x6").split("x"))
NAMES = tuple(f"f{number}" for number in range(CLUSTER_COUNT))
MACHINES = CLUSTER_COUNT * WORKERS
NEXT = "v1.34.1"
SURGE, UNAVAILABLE = 2, 1
FAILURES = max(6, MACHINES // 5)
FOR_EVER_IN_TEN = 3
"""Of ten failures so many do not pass by themselves."""
TIMEOUT_S = 5
LIMIT_S = CONVERGE_LIMIT_S + 2.0 * MACHINES
SEEN_LIMIT_S = 30.0
NOT_READY = "dev.fleetwake.io/node-not-ready"


@dataclass
class Weather:
    """What befalls the hosts of one namespace, by a seed."""

    fleet: Fleet
    namespace: str
    chance: random.Random
    passing: list[str] = field(default_factory=list)
    struck: int = 0
    lasting: int = 0

    def strike(self) -> None:
        """Let the Node of some worker fail, and wait until its Machine tells; what failed before and passes by itself has passed then."""
        world = self.fleet.recorder.world
        healthy = [one for one in self.workers(world) if condition(one, "NodeReady") == "True" and "deletionTimestamp" not in one["metadata"]]
        victim = self.chance.choice(healthy)["metadata"]["name"]
        self.fleet.kubectl("-n", self.namespace, "annotate", "devmachine", victim, f"{NOT_READY}={self.chance.choice(('', 'Unknown'))}")
        self.struck += 1

        def untold(world: World) -> list[str]:
            machine = world.get("Machine", self.namespace, victim)
            gone = machine is None or "deletionTimestamp" in machine["metadata"]
            return [] if gone or condition(machine, "NodeReady") != "True" else [f"{victim} still says that its Node is ready"]

        self.fleet.recorder.wait(untold, SEEN_LIMIT_S, f"{victim} told of")
        self.pass_by()
        if self.chance.randrange(10) < FOR_EVER_IN_TEN:
            self.lasting += 1
        else:
            self.passing.append(victim)

    def pass_by(self) -> None:
        """End the failures that end by themselves."""
        for name in self.passing:
            try:
                self.fleet.kubectl("-n", self.namespace, "annotate", "devmachine", name, f"{NOT_READY}-")
            except AssertionError as refused:
                # the rollout or the health check may have replaced it meanwhile
                if "not found" not in str(refused):
                    raise
        self.passing.clear()

    def workers(self, world: World) -> list[Object]:
        """All worker Machines."""
        return [one for one in world.all("Machine", self.namespace) if controller(one)[0] == "MachineSet"]

    def reach(self, machines: int) -> None:
        """Wait until so many Machines of the new version were made, by their greatest number so far."""
        made = {one.object["metadata"]["uid"] for one in self.fleet.recorder.events(self.namespace) if _new(one.object)}

        def missing(world: World) -> list[str]:
            made.update(one["metadata"]["uid"] for one in self.workers(world) if _new(one))
            return [] if len(made) >= machines else [f"{len(made)} Machines of {NEXT}"]

        self.fleet.recorder.wait(missing, LIMIT_S, f"{machines} Machines of {NEXT}")


def _new(machine: Object) -> bool:
    return controller(machine)[0] == "MachineSet" and bool((machine.get("spec") or {}).get("version") == NEXT)


def documents(name: str, namespace: str, version: str) -> Iterable[manifests.Document]:
    """A cluster whose workers roll two at a time and may lack one, under a health check."""
    for document in manifests.cluster(name, namespace, workers=WORKERS, version=version):
        if document["kind"] == "MachineDeployment":
            bounds = {"maxSurge": SURGE, "maxUnavailable": UNAVAILABLE}
            document["spec"]["rollout"] = {"strategy": {"type": "RollingUpdate", "rollingUpdate": bounds}}
        yield document
    conditions = [{"type": "Ready", "status": status, "timeoutSeconds": TIMEOUT_S} for status in ("False", "Unknown")]
    yield manifests.health_check(name, name, namespace, {"nodeStartupTimeoutSeconds": 0, "unhealthyNodeConditions": conditions})


@pytest.mark.timeout(3 * LIMIT_S)
def test_a_rollout_keeps_its_budget_while_nodes_fail(fleet: Fleet) -> None:
    namespace, seed = fleet.namespace("failing"), random.SystemRandom().randrange(2**32)
    weather = Weather(fleet, namespace, random.Random(seed))
    fleet.apply(*(one for name in NAMES for one in documents(name, namespace, manifests.VERSION)))
    fleet.settle(namespace, *NAMES, limit_s=LIMIT_S)
    fleet.apply(*(one for name in NAMES for one in documents(name, namespace, NEXT) if one["kind"] == "MachineDeployment"))
    for number in range(FAILURES):
        weather.reach(1 + number * (MACHINES - 1) // FAILURES)
        weather.strike()
    weather.pass_by()
    seconds = fleet.settle(namespace, *NAMES, limit_s=LIMIT_S)
    assert not fleet.recorder.blind, f"watches of the test lost sight: {fleet.recorder.blind}"
    history = HistoryOfFailures()
    for seen in fleet.recorder.events(namespace):
        history.take(seen)
    assert not history.violations, f"seed {seed}: " + "\n".join(history.violations)
    gone = [one.object for one in fleet.recorder.events(namespace) if one.name.kind == "Machine" and one.deleted]
    replaced = [one for one in gone if controller(one)[0] == "MachineSet"]
    log.info("seed %d: %d failures, %d for ever; %d Machines deleted, settled %.1f s after the last", seed, FAILURES, weather.lasting, len(replaced), seconds)
    assert len(replaced) >= MACHINES
    assert history.taken > MACHINES // 2
