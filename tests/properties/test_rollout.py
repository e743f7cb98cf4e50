"""Rollouts under chance: bounds hold in every state, whoever lags behind, and every rollout ends.

Two levels: the arithmetic alone against arbitrary (even inconsistent) numbers, and both kinds against a small world in random order.
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from services.reconcilers.kinds.machine_deployment.planner import Bounds, Counts, Intent, plan, plan_paused, rolling_bounds
from tests.decide.workers_world import DEPLOYMENT, INFRA, Workers, deployment, machine_template, template, workers

sizes = st.integers(0, 12)


@st.composite
def counted(draw: st.DrawFn, name: str) -> Counts:
    replicas = draw(sizes)
    return Counts(name, draw(sizes), replicas, draw(st.integers(0, replicas)))


states = st.tuples(counted("new"), st.lists(sizes, max_size=3).flatmap(lambda names: st.tuples(*(counted(f"old{i}") for i in range(len(names))))))
bounds_of = st.builds(rolling_bounds, sizes, st.one_of(sizes, st.sampled_from(["0%", "10%", "25%", "100%"])), st.one_of(sizes, st.sampled_from(["0%", "30%"])))


@given(bounds_of, states)
@settings(max_examples=400, deadline=None)
def test_one_pass_stays_within_its_bounds(bounds: Bounds, state: tuple[Counts, tuple[Counts, ...]]) -> None:
    new, old = state
    intents = plan("RollingUpdate", bounds, new, old)
    after = {counts.name: intents.get(counts.name, Intent(counts.spec, "")).replicas for counts in (new, *old)}
    assert all(replicas >= 0 for replicas in after.values())
    assert all(after[counts.name] <= counts.spec for counts in old)
    total = sum(max(counts.spec, counts.replicas) for counts in (new, *old))
    if after["new"] > new.spec:
        assert total + after["new"] - new.spec <= bounds.total_max
    available = sum(counts.available for counts in (new, *old))
    # worst case: every Machine that goes is an available one
    lost = sum(min(counts.available, max(counts.replicas - after[counts.name], 0)) for counts in old if after[counts.name] != counts.spec)
    broke_deadlock = any("stuck" in intent.reason for intent in intents.values())
    already_going = sum(min(counts.available, max(counts.replicas - counts.spec, 0)) for counts in old if after[counts.name] != counts.spec)
    if lost > already_going and not broke_deadlock:
        assert available - lost >= min(bounds.available_min, available - already_going)


@given(bounds_of, states)
@settings(max_examples=200, deadline=None)
def test_on_delete_never_takes_an_existing_machine_but_to_scale_down(bounds: Bounds, state: tuple[Counts, tuple[Counts, ...]]) -> None:
    new, old = state
    intents = plan("OnDelete", Bounds(bounds.replicas), new, old)
    gone = sum(max(counts.replicas - intents.get(counts.name, Intent(counts.spec, "")).replicas, 0) - max(counts.replicas - counts.spec, 0) for counts in old)
    excess = sum(min(counts.spec, counts.replicas) for counts in old) + intents.get("new", Intent(new.spec, "")).replicas - bounds.replicas
    assert gone <= max(excess, 0)


@given(bounds_of, states, st.sampled_from(["RollingUpdate", "OnDelete"]))
@settings(max_examples=200, deadline=None)
def test_paused_sizes_are_never_negative_and_settle(bounds: Bounds, state: tuple[Counts, tuple[Counts, ...]], strategy: Any) -> None:
    new, old = state
    for _ in range(4):
        intents = plan_paused(strategy, bounds, new, old)
        assert all(intent.replicas >= 0 for intent in intents.values())
        new, *rest = (Counts(c.name, intents.get(c.name, Intent(c.spec, "")).replicas, c.replicas, c.available, bounds.total_max) for c in (new, *old))
        old = tuple(rest)
    assert not plan_paused(strategy, bounds, new, old)


def available(world: Workers) -> int:
    """Machines that are Available and not going."""
    return sum(
        not one.metadata.deleting and any(condition.type == "Available" and condition.status == "True" for condition in one.status.conditions)
        for one in world.machines()
    )


@given(st.integers(1, 5), st.integers(0, 3), st.integers(0, 3), st.integers(0, 2**32), st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_rollout_in_any_order_respects_its_bounds_and_ends(replicas: int, surge: int, unavailable: int, seed: int, twice: bool) -> None:
    chance = random.Random(seed)
    bounds = rolling_bounds(replicas, surge, unavailable)
    world = workers(
        deployment(replicas, surge=surge, unavailable=unavailable),
        template(INFRA, "DevMachineTemplate", "second"),
        template(INFRA, "DevMachineTemplate", "third"),
    )
    world.converge()
    changes = ["second", "third"] if twice else ["second"]
    for _ in range(1500):
        if changes and chance.random() < 0.1:
            body = machine_template()
            body["spec"]["infrastructureRef"]["name"] = changes.pop(0)
            world.change(MachineDeployment, DEPLOYMENT, template=body)
            world.judge()
        act(world, chance)
        assert len(world.machines()) <= bounds.total_max
        assert available(world) >= bounds.available_min
        if not changes and len(world.sets()) == 1 and len(world.machines()) == replicas and available(world) == replicas:
            break
    world.converge()
    assert [one.spec.replicas for one in world.sets()] == [replicas]
    assert len(world.machines()) == replicas


def act(world: Workers, chance: random.Random) -> None:
    """One random actor's turn."""
    world.later(chance.choice([0, 1, 7]))
    match chance.choice(["deployment", "sets", "sets", "join", "leave"]):
        case "deployment":
            world.run_deployment()
        case "sets" if world.sets():
            world.run_set(chance.choice(world.sets()).name)
        case "join":
            waiting = [one.name for one in world.machines() if one.status.node_ref is None and not one.metadata.deleting]
            if waiting:
                world.join([chance.choice(waiting)])
        case _:
            world.leave()
