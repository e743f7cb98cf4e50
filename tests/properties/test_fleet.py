"""Random histories of a user against a whole control plane with faults: whatever was asked for in whatever order, the last wish comes true and stays."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetwake.sim.faults import CLASSES
from fleetwake.sim.oracle import DEPLOYMENTS, MACHINES, Oracle
from tests.simulation.fleet import Fleet, Setup
from tests.simulation.manifests import NEXT_VERSION, VERSION, cluster
from tests.simulation.scenarios import Scenario, patch, simulate, unfinished

EXAMPLES = 8
WISHES = st.one_of(
    st.tuples(st.just("scale"), st.integers(0, 5)),
    st.tuples(st.just("version"), st.sampled_from((VERSION, NEXT_VERSION))),
    st.tuples(st.just("delete"), st.integers(0, 9)),
)
HISTORIES = st.lists(st.tuples(st.floats(0, 6), WISHES), min_size=1, max_size=5)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10_000), faults=st.sampled_from(sorted(CLASSES)), history=HISTORIES)
def test_the_last_wish_comes_true(seed: int, faults: str, history: list[tuple[float, tuple[str, int | str]]]) -> None:
    workers, version = 3, VERSION

    async def act(fleet: Fleet, oracle: Oracle) -> None:
        nonlocal workers, version
        fleet.apply(cluster())
        for wait, (wish, value) in history:
            await asyncio.sleep(wait)
            if wish == "scale":
                workers = int(value)
                patch(fleet, DEPLOYMENTS, "demo-md", {"spec": {"replicas": workers}})
            elif wish == "version":
                version = str(value)
                patch(fleet, DEPLOYMENTS, "demo-md", {"spec": {"template": {"spec": {"version": version}}}})
            else:
                machines = [one for one in fleet.objects("Machine") if "cluster.x-k8s.io/deployment-name" in one["metadata"]["labels"]]
                if machines:
                    name = machines[int(value) % len(machines)]["metadata"]["name"]
                    oracle.chosen.add(name)
                    fleet.api.delete(MACHINES, "default", name)

    fleet = simulate(Setup(seed, CLASSES[faults]), Scenario("history", act, lambda made: unfinished(made, workers=workers, version=version)))
    assert not fleet.violations
