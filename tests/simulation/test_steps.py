"""A create, once per write: the worker dies right after it, or its answer is lost. Nothing may be doubled, orphaned or forgotten."""

from __future__ import annotations

import functools

import pytest

from fleetwake.sim.faults import Fate
from fleetwake.sim.kube import Sent
from fleetwake.sim.loop import Process
from tests.simulation.fleet import Fleet, Setup, run
from tests.simulation.scenarios import BY_NAME, play

SEED = 1
STEP = 10
WRITES_MAX = 100
"""What a create of one control plane and three workers may take, those to the workload cluster included."""


@functools.cache
def undisturbed() -> int:
    """How many writes the create takes."""
    fleet = run(Setup(SEED), lambda made: play(made, BY_NAME["create"]))
    assert not fleet.violations
    return fleet.faults.writes


def test_a_create_takes_few_writes() -> None:
    assert 50 < undisturbed() <= WRITES_MAX


@pytest.mark.parametrize("first", range(1, WRITES_MAX, STEP))
def test_a_worker_dies_after_any_write(first: int) -> None:
    for number in range(first, min(first + STEP, undisturbed() + 1)):

        async def scenario(fleet: Fleet, number: int = number) -> None:
            def strike(process: Process, sent: Sent) -> None:
                if sent.number == number:
                    fleet.kill_node(process.name.partition("/")[0])

            fleet.network.watching.append(strike)
            await play(fleet, BY_NAME["create"])

        fleet = run(Setup(SEED), scenario)
        assert not fleet.violations, f"after write {number}"


@pytest.mark.parametrize("first", range(1, WRITES_MAX, STEP))
def test_the_answer_of_any_write_is_lost(first: int) -> None:
    for lost in range(first, min(first + STEP, undisturbed() + 1)):

        async def scenario(fleet: Fleet, lost: int = lost) -> None:
            fleet.faults.on_write = lambda number: Fate.UNANSWERED if number == lost else None
            await play(fleet, BY_NAME["create"])

        fleet = run(Setup(SEED), scenario)
        assert not fleet.violations, f"answer of write {lost}"
