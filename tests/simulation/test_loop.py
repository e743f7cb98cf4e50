"""The loop simulations run on: virtual time, processes that stop and end, the same run for the same seed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleetwake.sim.faults import CLASSES
from fleetwake.sim.loop import SimLoop, StalledError, current_process, simulation
from tests.simulation.fleet import Fleet, Setup, run
from tests.simulation.scenarios import BY_NAME, play

ROOT = Path(__file__).parents[2]
HASH_SEEDS = ("1", "2")


def writes_of(seed: int) -> str:
    """A digest of every write of a simulation: when, by whom, what, with which answer."""
    lines: list[str] = []

    async def watched(fleet: Fleet) -> None:
        fleet.network.watching.append(lambda process, one: lines.append(f"{one.at:.9f} {process.name} {one.request.method} {one.request.path} {one.status}"))
        await play(fleet, BY_NAME["create"])

    run(Setup(seed, CLASSES["all"]), watched)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_time_jumps_and_timeouts_hold() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.sleep(7200)
        return asyncio.get_running_loop().time()

    with simulation() as loop:
        assert loop.run_until_complete(main()) == 3600


def test_waiting_for_nothing_is_told() -> None:
    with simulation() as loop, pytest.raises(StalledError):
        loop.run_until_complete(loop.create_future())


def test_a_frozen_process_stands_still_and_a_dead_one_ends() -> None:
    ticks: list[float] = []

    async def tick(loop: SimLoop) -> None:
        while True:
            await asyncio.sleep(1)
            process = current_process()
            assert process is not None
            process.check()
            ticks.append(loop.time())

    async def main(loop: SimLoop) -> None:
        process = loop.process("ticker")
        process.spawn(tick(loop))
        await asyncio.sleep(2.5)
        process.freeze()
        await asyncio.sleep(10)
        process.thaw()
        await asyncio.sleep(1.2)
        process.kill()
        await asyncio.sleep(10)

    with simulation() as loop:
        loop.run_until_complete(main(loop))
    assert ticks == [1, 2, 12.5, 13.5]


def test_the_same_seed_is_the_same_run_in_every_process() -> None:
    here = writes_of(5)
    assert writes_of(5) == here
    code = "import logging; logging.disable(50); from tests.simulation.test_loop import writes_of; print(writes_of(5))"
    for hash_seed in HASH_SEEDS:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=120)
        assert done.stdout.strip() == here
