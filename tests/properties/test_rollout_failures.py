"""Rollouts while Nodes fail and come back at random, planned by RollingUpdate or by a strategy that answers anything: the bounds hold at every instant.

A Machine whose Node fails is nobody's doing: what is asked is that no more are missing than have failed. Whatever a strategy answers, it breaks nothing.
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from services.reconcilers.kinds.machine_deployment.planner import Bounds, Counts, Intent, plan_towards, rolling_bounds
from tests.decide.strategy_world import Asking, asking, by_revision, success
from tests.decide.workers_world import DEPLOYMENT, INFRA, Workers, deployment, machine_template, template, workers
from tests.decide.world import Json
from tests.properties.test_rollout import act, available, bounds_of, states

TURNS = 200
FAILING = ("NodeHealthy", "Ready", "Available")


class Failing:
    """Nodes that fail and come back; ``down`` are the Machines whose Node does not work now."""

    def __init__(self, world: Workers, chance: random.Random) -> None:
        self._world, self._chance = world, chance
        self.down: set[str] = set()

    def turn(self) -> None:
        """Let a Node fail, or one come back."""
        here = {one.name for one in self._world.machines() if not one.metadata.deleting}
        self.down &= here
        healthy = sorted(
            one.name
            for one in self._world.machines()
            if one.name in here - self.down and any(c.type == "Available" and c.status == "True" for c in one.status.conditions)
        )
        back = sorted(self.down - self._given_up())
        if back and (self._chance.random() < 0.5 or not healthy):
            self._tell(self._chance.choice(back), True)
        elif healthy:
            self._tell(self._chance.choice(healthy), False)

    def _given_up(self) -> set[str]:
        """Machines of sets that have more than they are to have. A Node that comes back in this very moment is too late: which Machine goes is decided."""
        over: set[str] = set()
        for one in self._world.sets():
            mine = {m.name for m in self._world.machines() if m.metadata.controller is not None and m.metadata.controller.uid == one.metadata.uid}
            over |= mine if len(mine) > (one.spec.replicas or 0) else set()
        return over

    def mend(self) -> None:
        """Let all come back."""
        self.down &= {one.name for one in self._world.machines()}
        for name in sorted(self.down):
            self._tell(name, True)

    def failed(self) -> int:
        """How many living Machines have a Node that does not work."""
        return len(self.down & {one.name for one in self._world.machines() if not one.metadata.deleting})

    def _tell(self, name: str, works: bool) -> None:
        for type_ in FAILING:
            self._world.condition(name, type_, works)
        (self.down.discard if works else self.down.add)(name)


def change(world: Workers, name: str) -> None:
    """Ask for another infrastructure template."""
    body = machine_template()
    body["spec"]["infrastructureRef"]["name"] = name
    world.change(MachineDeployment, DEPLOYMENT, template=body)
    world.judge()


def roll_while_nodes_fail(world: Workers, bounds: Bounds, chance: random.Random, changes: list[str], *, withdrawn: bool = False) -> Failing:
    """Let a rollout go on in random order while Nodes fail, every instant held to the bounds.

    ``withdrawn``: a strategy may take a sick new revision back, failed Machines of it included; what is available stays so all the same.
    """
    failing = Failing(world, chance)
    for _ in range(TURNS):
        if changes and chance.random() < 0.1:
            change(world, changes.pop(0))
        if chance.random() < 0.15:
            failing.turn()
        before = available(world)
        act(world, chance)
        assert len(world.machines()) <= bounds.total_max
        now = available(world)
        assert now + failing.failed() >= bounds.available_min or (withdrawn and now >= before)
    return failing


@given(st.integers(1, 6), st.integers(0, 3), st.integers(0, 3), st.integers(0, 2**32), st.booleans())
@settings(max_examples=10, deadline=None)
def test_a_rollout_while_nodes_fail_respects_its_bounds_and_ends(replicas: int, surge: int, unavailable: int, seed: int, twice: bool) -> None:
    chance, bounds = random.Random(seed), rolling_bounds(replicas, surge, unavailable)
    others = (template(INFRA, "DevMachineTemplate", "second"), template(INFRA, "DevMachineTemplate", "third"))
    world = workers(deployment(replicas, surge=surge, unavailable=unavailable), *others)
    world.converge()
    failing = roll_while_nodes_fail(world, bounds, chance, ["second", "third"] if twice else ["second"])
    failing.mend()
    world.converge()
    assert [one.spec.replicas for one in world.sets()] == [replicas]
    assert available(world) == replicas


def anything(chance: random.Random) -> Any:
    """A strategy that answers sense, nonsense, or not at all."""

    def answer(request: Json, world: Workers) -> Any:
        wanted = request["machineDeployment"]["replicas"]
        match chance.randrange(6):
            case 0:
                return "call failed"
            case 1:
                return success(**{one["name"]: chance.randrange(0, 20) for one in request["machineSets"]})
            case 2:
                return success(**{one["name"]: 0 for one in request["machineSets"]})
            case 3:
                return {**success("busy", chance.randrange(0, 90)), "status": "Failure"}
            case 4:
                return by_revision(request, chance.randrange(0, wanted + 1), chance.randrange(0, wanted + 1), retryAfterSeconds=chance.randrange(0, 60))
            case _:
                return by_revision(request, wanted, 0)

    return answer


@given(st.integers(1, 5), st.integers(0, 3), st.integers(0, 2), st.integers(0, 2**32))
@settings(max_examples=8, deadline=None)
def test_whatever_a_strategy_answers_the_bounds_hold(replicas: int, surge: int, unavailable: int, seed: int) -> None:
    chance, bounds = random.Random(seed), rolling_bounds(replicas, surge, unavailable)
    world: Asking = asking(anything(chance), replicas, surge=surge, unavailable=unavailable)
    failing = roll_while_nodes_fail(world, bounds, chance, ["second", "third"], withdrawn=True)
    failing.mend()
    # a sensible answer from now on ends it
    world.server.answering = lambda request, world: by_revision(request, request["machineDeployment"]["replicas"], 0)
    for _ in range(12):
        world.later(400)
        world.converge()
    assert [one.spec.replicas for one in world.sets()] == [replicas]


@given(bounds_of, states, st.dictionaries(st.sampled_from(["new", "old0", "old1", "old2", "other"]), st.integers(-3, 30)))
@settings(max_examples=200, deadline=None)
def test_no_targets_lead_out_of_the_bounds(bounds: Bounds, state: tuple[Counts, tuple[Counts, ...]], targets: dict[str, int]) -> None:
    new, old = state
    intents = plan_towards(targets, bounds, new, old)
    after = {counts.name: intents.get(counts.name, Intent(counts.spec, "")).replicas for counts in (new, *old)}
    assert all(replicas >= 0 for replicas in after.values())
    assert all(after[counts.name] <= counts.spec for counts in old)
    total = sum(max(counts.spec, counts.replicas) for counts in (new, *old))
    if after["new"] > new.spec:
        assert total + after["new"] - new.spec <= bounds.total_max
    if any("stuck" in intent.reason for intent in intents.values()) or new.spec > bounds.replicas:
        return
    available_now = sum(counts.available for counts in (new, *old))
    shrunk = [counts for counts in (new, *old) if after[counts.name] < counts.spec]
    lost = sum(min(counts.available, max(counts.replicas - after[counts.name], 0)) for counts in shrunk)
    already_going = sum(min(counts.available, max(counts.replicas - counts.spec, 0)) for counts in shrunk)
    if lost > already_going:
        assert available_now - lost >= min(bounds.available_min, available_now - already_going)
