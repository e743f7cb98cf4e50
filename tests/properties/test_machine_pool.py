"""Whatever is done to a pool, and in whatever order its reconcilers run and die, it comes to what it was asked for; a rollout takes no available host away."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.decide.pool_world import NEXT, VERSION, PoolWorld, hosts, pool

KINDS = ("Machine", "DevMachine")
REPLICAS = st.integers(0, 4)
DEEDS = st.lists(
    st.one_of(
        st.tuples(st.just("scale"), REPLICAS),
        st.tuples(st.just("version"), st.sampled_from([0, 1])),
        st.tuples(st.just("delete"), st.integers(0, 7)),
        st.tuples(st.just("mark"), st.integers(0, 7)),
        st.tuples(st.just("disown"), st.integers(0, 7)),
        st.tuples(st.just("rounds"), st.integers(1, 3)),
    ),
    max_size=6,
)


def do(world: PoolWorld, deed: str, number: int) -> None:
    """One thing that somebody does."""
    if deed == "scale":
        world.edit("MachinePool", "pool", spec={"replicas": number})
    elif deed == "version":
        world.edit("MachinePool", "pool", spec={"template": {"spec": {"version": (VERSION, NEXT)[number]}}})
    elif (found := world.all(KINDS[number % 2])) and deed != "rounds":
        chosen = found[number // 2 % len(found)]
        name, kind = chosen["metadata"]["name"], chosen["kind"]
        if deed == "delete":
            world.delete(kind, name)
        elif deed == "mark":
            world.edit(kind, name, metadata={"annotations": {"cluster.x-k8s.io/delete-machine": ""}})
        else:
            world.edit(kind, name, metadata={"ownerReferences": []})


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(replicas=REPLICAS, deeds=DEEDS, seed=st.integers(0, 2**16))
def test_a_pool_comes_to_what_it_was_asked_for(replicas: int, deeds: list[tuple[str, int]], seed: int) -> None:
    chance = random.Random(seed)
    world = PoolWorld(pool(replicas), hosts())
    for deed, number in deeds:
        do(world, deed, number)
        for _ in range(number if deed == "rounds" else 1):
            world.round(chance)
    world.settle(chance)
    wanted, version = world.pool["spec"]["replicas"], world.pool["spec"]["template"]["spec"]["version"]
    assert world.counters() == (wanted,) * 4
    names = {one["metadata"]["name"] for one in world.all("Machine")}
    assert len(names) == wanted == len(world.pool["spec"].get("providerIDList", ()))
    assert names == {one["metadata"]["name"] for one in world.all("DevMachine")} == set(world.nodes)
    assert {one["spec"]["version"] for one in world.all("Machine")} <= {version}
    for found in (*world.all("Machine"), *world.all("DevMachine")):
        assert sum(ref.get("controller", False) for ref in found["metadata"]["ownerReferences"]) == 1
    assert world.settle() == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_rollout_takes_no_available_host_away(seed: int) -> None:
    chance = random.Random(seed)
    world = PoolWorld(pool(3), hosts())
    world.settle()
    world.least = None
    for version in (NEXT, VERSION):
        world.edit("MachinePool", "pool", spec={"template": {"spec": {"version": version}}})
        world.settle(chance)
        assert world.least == 3
        assert {one["spec"]["version"] for one in world.all("Machine")} == {version}
