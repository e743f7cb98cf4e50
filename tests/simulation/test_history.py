"""The API server's history begins again: resourceVersions go back, and only the epoch still says what is newer."""

from __future__ import annotations

import pytest

from fleetwake.sim.faults import Rates
from tests.simulation.fleet import Setup
from tests.simulation.scenarios import BY_NAME, simulate

OFTEN = Rates(mirror_seconds=1.0)


@pytest.mark.parametrize(("scenario", "seed"), [("scale", 1), ("scale", 2), ("rollout", 1)])
def test_the_world_converges_through_several_histories(scenario: str, seed: int) -> None:
    fleet = simulate(Setup(seed, OFTEN), BY_NAME[scenario])
    assert not fleet.violations
    assert fleet.faults.injected["another history"] >= 1
    assert fleet.watcher is not None
    assert fleet.watcher.publisher.epoch == 1 + fleet.faults.injected["another history"]
    nodes = [node for node in fleet.nodes.values() if len(node.worker.cache)]
    assert nodes
    assert all(node.worker.epoch == fleet.watcher.publisher.epoch for node in nodes)
