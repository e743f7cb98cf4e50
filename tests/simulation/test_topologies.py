"""Topologies by seed, under every class of faults. ``FLEETWAKE_SIM_TOPOLOGIES`` sets how many seeds (default 5: each scenario once)."""

from __future__ import annotations

import os

import pytest

from fleetwake.sim.faults import CLASSES
from tests.simulation.scenarios import simulate
from tests.simulation.topologies import TOPOLOGIES, setup

ONE = os.environ.get("FLEETWAKE_SIM_SEED")
SEEDS = [int(ONE)] if ONE else range(int(os.environ.get("FLEETWAKE_SIM_TOPOLOGIES", "5")))
FAULTS = tuple(CLASSES)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_topology_converges_and_keeps_its_promises(seed: int) -> None:
    # few seeds: no scenario meets the same class of faults twice before it has met them all
    scenario, faults = TOPOLOGIES[seed % len(TOPOLOGIES)], FAULTS[(seed + seed // len(TOPOLOGIES)) % len(FAULTS)]
    fleet = simulate(setup(seed, rates=CLASSES[faults]), scenario)
    assert not fleet.violations, f"{scenario.name} under {faults}, seed {seed}: injected {fleet.faults.injected}"
    assert not fleet.loop.errors
