"""Nine bugs, each planted by the test alone: the simulation must find every one within a few seeds, or its silence means nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from fleetwake.errors import UnavailableError
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
from tests.simulation.scenarios import BY_NAME, FORGOTTEN, Scenario, gone, simulate

SEEDS_MAX = 60
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
    """A Machine whose create got no answer is created again at once, under another name."""
    honest = CarryOut._create

    async def create(self: CarryOut, run: Any, step: Create, outcome: Any) -> None:
        try:
            await honest(self, run, step, outcome)
        except UnavailableError:
            if step.key.kind != "Machine":
                raise
            body = {**step.body, "metadata": {**step.body["metadata"], "name": f"{step.key.name}-again"}}
            await honest(self, run, Create(body, step.reason, step.owner_uid, step.cluster, step.apply, step.manager), outcome)

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

    def must_verify(self: Runner, entry: Any, key: Any, state: Any, plan: Plan) -> bool:
        return bool(plan.guarded)

    patch.setattr(Runner, "_must_verify", must_verify)


def early_acknowledge(patch: pytest.MonkeyPatch) -> None:
    """A wake-up that came while the key ran counts as served by that run."""
    honest = KeyedQueue.finished

    def finished(self: KeyedQueue, key: Any) -> None:
        self.forget([key])
        honest(self, key)

    patch.setattr(KeyedQueue, "finished", finished)


def condition_left_out(patch: pytest.MonkeyPatch) -> None:
    """The status of a Machine with a Node is sent without one of its conditions."""
    honest = bodies.apply_body

    def apply_body(step: Any) -> dict[str, Any]:
        body = honest(step)
        if step.key.kind == "Machine" and body.get("status", {}).get("phase") == "Running":
            kept = [one for one in body["status"]["conditions"] if one["type"] != "NodeHealthy"]
            body["status"] = {**body["status"], "conditions": kept}
        return body

    patch.setattr(bodies, "apply_body", apply_body)


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
UNANSWERED = Rates(unanswered=0.3)
LATE = Rates(slow=0.3)


@dataclass(frozen=True, slots=True)
class Planted:
    """A bug, where it shows, and ``expected``: patterns of the violations it must cause, all of them in one simulation."""

    plant: Plant
    scenario: Scenario
    rates: Rates
    expected: tuple[str, ...]


PLANTED = (
    Planted(
        write_before_planned,
        BY_NAME["create"],
        CLASSES["none"],
        (r"reconcilers-\S+ PATCH \S+/machines/\S+ was sent before it was recorded as planned",),
    ),
    Planted(forgotten_owner, BY_NAME["create"], CLASSES["none"], (r": Machine \S+ was created without a controller",)),
    Planted(
        missing_precondition,
        BY_NAME["create"],
        CLASSES["none"],
        (r"reconcilers-\S+ PATCH \S+/machines/\S+ names no uid", r"dev_infrastructure-\S+ PATCH \S+/devmachines/\S+ replaces a list and names no version"),
    ),
    Planted(
        lost_tombstone,
        BY_NAME["delete machine"],
        CLASSES["crashes"],
        (r"objects says that \S+/DevMachine/\S+ exists, and it does not", r"dev_infrastructure-0 misses \S+/DevMachine/\S+"),
    ),
    Planted(duplicate_create, BY_NAME["scale"], UNANSWERED, (r"MachineSet \S+ has \d+ Machines and never wanted more than \d+",)),
    Planted(resurrected_object, BY_NAME["delete cluster"], LATE, (r"reconcilers-\d took \S+/demo\S* for alive after it had seen its end",)),
    Planted(absence_trusted, UNDER_HANDS, SLOW, (r"delete under hands: Key\(resource='machinedeployments\.\S+ namespace='default', name='demo-md'\) is left",)),
    Planted(early_acknowledge, BY_NAME["create"], CLASSES["none"], (r"create: Cluster default/demo is not Available", FORGOTTEN)),
    Planted(condition_left_out, BY_NAME["create"], CLASSES["none"], (r"Machine \S+: its status lacks the conditions NodeHealthy",)),
)


def caught(bug: Planted, violations: list[str]) -> bool:
    """Whether the violations are those the bug must cause."""
    return all(any(re.search(pattern, violation) for violation in violations) for pattern in bug.expected)


@pytest.mark.parametrize("bug", [pytest.param(bug, id=bug.plant.__name__) for bug in PLANTED])
def test_a_planted_bug_is_found_for_what_it_is(bug: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "CONVERGE_SECONDS", CONVERGE_SECONDS)
    for seed in range(SEEDS_MAX):
        with monkeypatch.context() as planting:
            bug.plant(planting)
            violations = simulate(Setup(seed, bug.rates), bug.scenario).violations
        if violations:
            assert not simulate(Setup(seed, bug.rates), bug.scenario).violations, f"seed {seed} is not clean without the bug"
        if caught(bug, violations):
            return
    pytest.fail(f"no simulation of {SEEDS_MAX} broke {' and '.join(bug.expected)}")
