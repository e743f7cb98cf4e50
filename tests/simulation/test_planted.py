"""Eight bugs, each planted by the test alone: the simulation must find every one within a few seeds, or its silence means nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from fleetwake.plan import Create, Plan
from fleetwake.shell import bodies
from fleetwake.shell.cache import Cache
from fleetwake.shell.carry_out import CarryOut
from fleetwake.shell.queue import KeyedQueue
from fleetwake.shell.results import Results
from fleetwake.shell.runner import Runner
from fleetwake.sim.faults import CLASSES, Rates
from fleetwake.sim.oracle import CLUSTERS, Oracle
from services.watcher.publisher import Publisher
from tests.simulation import scenarios
from tests.simulation.fleet import Fleet, Setup
from tests.simulation.manifests import cluster
from tests.simulation.scenarios import BY_NAME, Scenario, gone, simulate

SEEDS_MAX = 24
CONVERGE_SECONDS = 120.0
"""A planted bug may keep the world from converging for ever: no need to wait as long as for a healthy one."""

Plant = Callable[[pytest.MonkeyPatch], None]


def write_before_planned(patch: pytest.MonkeyPatch) -> None:
    """The record is on its way when the write is sent."""
    honest = Results.planned

    async def planned(self: Results, *arguments: Any) -> None:
        asyncio.get_running_loop().create_task(honest(self, *arguments))

    patch.setattr(Results, "planned", planned)


def forgotten_owner(patch: pytest.MonkeyPatch) -> None:
    """Machines are made without the reference of their owner. (What a host or a Secret lost, its owner puts back: that heals.)"""
    honest = CarryOut._create

    async def create(self: CarryOut, run: Any, step: Create, outcome: Any) -> None:
        if step.key.kind == "Machine":
            body = {**step.body, "metadata": {name: value for name, value in step.body["metadata"].items() if name != "ownerReferences"}}
            forgotten = Create(body, step.reason, "", step.cluster, step.apply, step.manager)
            await honest(self, run, forgotten, outcome)
        else:
            await honest(self, run, step, outcome)

    patch.setattr(CarryOut, "_create", create)


def missing_precondition(patch: pytest.MonkeyPatch) -> None:
    """Patches name neither uid nor version."""
    honest = bodies.patch_body

    def patch_body(step: Any) -> dict[str, Any]:
        body = honest(step)
        body["metadata"] = {name: value for name, value in body.get("metadata", {}).items() if name not in ("uid", "resourceVersion")}
        return body

    patch.setattr(bodies, "patch_body", patch_body)


def lost_tombstone(patch: pytest.MonkeyPatch) -> None:
    """The watcher tells nobody of a delete."""
    patch.setattr(Publisher, "delete", lambda self, *arguments, **options: None)


def duplicate_create(patch: pytest.MonkeyPatch) -> None:
    """Names of Machines are drawn anew at every try."""
    drawn = itertools.count()
    honest = CarryOut._create

    async def create(self: CarryOut, run: Any, step: Create, outcome: Any) -> None:
        if step.key.kind == "Machine":
            body = {**step.body, "metadata": {**step.body["metadata"], "name": f"{step.key.name}-{next(drawn)}"}}
            await honest(self, run, Create(body, step.reason, step.owner_uid, step.cluster, step.apply, step.manager), outcome)
        else:
            await honest(self, run, step, outcome)

    patch.setattr(CarryOut, "_create", create)


def resurrected_object(patch: pytest.MonkeyPatch) -> None:
    """Graves are dug and not looked at."""
    honest = Cache.remove

    def remove(self: Cache, *arguments: Any) -> Any:
        change = honest(self, *arguments)
        self._graves.clear()
        return change

    patch.setattr(Cache, "remove", remove)


def absence_trusted(patch: pytest.MonkeyPatch) -> None:
    """What is not in the cache is not there."""

    def must_verify(self: Runner, key: Any, state: Any, plan: Plan) -> bool:
        return bool(plan.guarded)

    patch.setattr(Runner, "_must_verify", must_verify)


def early_acknowledge(patch: pytest.MonkeyPatch) -> None:
    """A wake-up that came while the key ran counts as served by that run."""
    honest = KeyedQueue.finished

    def finished(self: KeyedQueue, key: Any) -> None:
        self.forget([key])
        honest(self, key)

    patch.setattr(KeyedQueue, "finished", finished)


async def _delete_under_hands(fleet: Fleet, oracle: Oracle) -> None:
    """Delete a Cluster while its user still adds workers: no answer of a watch has told of them yet."""
    fleet.apply(cluster(workers=0))
    await fleet.until("the first state", lambda: not scenarios.unfinished(fleet, workers=0), 120)
    more = [one for one in cluster(workers=1) if one["metadata"]["name"] == "demo-md"]
    for one in more:
        one["metadata"]["labels"] = {"cluster.x-k8s.io/cluster-name": "demo"}

    def add(change: Any) -> None:
        # at the very moment when the last of the infrastructure goes, the user's MachineDeployment comes
        if change.type == "DELETED" and change.entry.obj["kind"] == "DevCluster":
            fleet.loop.in_world(fleet.apply, more[:1])

    fleet.api.on_change(add)
    fleet.api.delete(CLUSTERS, "default", "demo")
    await asyncio.sleep(20)


UNDER_HANDS = Scenario("delete under hands", _delete_under_hands, gone)
SLOW = Rates(slow=0.5)
PLANTED: tuple[tuple[Plant, Scenario, Rates], ...] = (
    (write_before_planned, BY_NAME["create"], CLASSES["none"]),
    (forgotten_owner, BY_NAME["create"], CLASSES["none"]),
    (missing_precondition, BY_NAME["create"], CLASSES["none"]),
    (lost_tombstone, BY_NAME["delete machine"], CLASSES["crashes"]),
    (duplicate_create, BY_NAME["scale"], CLASSES["answers"]),
    (resurrected_object, BY_NAME["scale"], CLASSES["bus"]),
    (absence_trusted, UNDER_HANDS, SLOW),
    (early_acknowledge, BY_NAME["create"], CLASSES["none"]),
)


def found(scenario: Scenario, rates: Rates) -> int | None:
    """The first seed whose simulation breaks a promise."""
    for seed in range(SEEDS_MAX):
        if simulate(Setup(seed, rates), scenario).violations:
            return seed
    return None


@pytest.mark.parametrize(("plant", "scenario", "rates"), [pytest.param(*row, id=row[0].__name__) for row in PLANTED])
def test_a_planted_bug_is_found(plant: Plant, scenario: Scenario, rates: Rates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "CONVERGE_SECONDS", CONVERGE_SECONDS)
    plant(monkeypatch)
    assert found(scenario, rates) is not None


def test_a_cluster_deleted_under_its_users_hands_waits_for_what_came() -> None:
    """The scenario of the trusted absence is kept without the bug."""
    for seed in range(4):
        assert not simulate(Setup(seed, SLOW), UNDER_HANDS).violations
