"""Simulations by seed: every scenario under every class of faults. ``FLEETWAKE_SIM_SEEDS`` sets how many (default 200, ``make test-sim`` 1000).

``FLEETWAKE_SIM_FIRST`` begins at another seed, so that a long run can be cut. A failure names its seed; ``FLEETWAKE_SIM_SEED=<n>`` runs that one alone.
"""

from __future__ import annotations

import os

import pytest

from fleetwake.sim.faults import CLASSES
from tests.simulation.fleet import Setup
from tests.simulation.scenarios import SCENARIOS, simulate

SEEDS_DEFAULT = 200
ONE = os.environ.get("FLEETWAKE_SIM_SEED")
FOUND = (524, 668, 737, 945, 1409)
"""Seeds that found a fault once: they stay."""
COUNT = int(os.environ.get("FLEETWAKE_SIM_SEEDS", SEEDS_DEFAULT))
FIRST = int(os.environ.get("FLEETWAKE_SIM_FIRST", 0))
RANGE = range(FIRST, FIRST + COUNT)
SEEDS = [int(ONE)] if ONE else [*RANGE, *(seed for seed in FOUND if seed not in RANGE)]
FAULTS = tuple(CLASSES)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_world_converges_and_keeps_its_promises(seed: int) -> None:
    scenario, faults = SCENARIOS[seed % len(SCENARIOS)], FAULTS[seed // len(SCENARIOS) % len(FAULTS)]
    fleet = simulate(Setup(seed, CLASSES[faults]), scenario)
    assert not fleet.violations, f"{scenario.name} under {faults}, seed {seed}: injected {fleet.faults.injected}"
    assert not fleet.loop.errors
