"""Pools under every class of faults. ``FLEETWAKE_SIM_SEEDS`` sets how many seeds the whole suite has; a part of them are these."""

from __future__ import annotations

import os

import pytest

from fleetwake.sim.faults import CLASSES
from tests.simulation.fleet import Setup
from tests.simulation.machine_pools import SCENARIOS
from tests.simulation.scenarios import simulate

ONE = os.environ.get("FLEETWAKE_SIM_SEED")
FAULTS = tuple(CLASSES)
COUNT = max(int(os.environ.get("FLEETWAKE_SIM_SEEDS", 0)) // 5, len(FAULTS))
"""At least every class once, the scenarios in turn; 45 have each scenario under each class."""
SEEDS = [int(ONE)] if ONE else list(range(COUNT))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pool_comes_to_what_it_was_asked_for(seed: int) -> None:
    scenario, faults = SCENARIOS[(seed + seed // len(FAULTS)) % len(SCENARIOS)], FAULTS[seed % len(FAULTS)]
    fleet = simulate(Setup(seed, CLASSES[faults]), scenario)
    assert not fleet.violations, f"{scenario.name} under {faults}, seed {seed}: injected {fleet.faults.injected}"
    assert not fleet.loop.errors
