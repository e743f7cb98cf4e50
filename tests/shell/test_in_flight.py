"""A worker that gives partitions away waits for the answers to what it sent: the next owner must see what came of it."""

from __future__ import annotations

import asyncio

from fleetwake.shell.in_flight import ANSWERED_SECONDS_MAX, InFlight
from tests.shell.shell_world import simulated


async def _write(in_flight: InFlight, seconds: float, *, fails: bool = False) -> None:
    with in_flight.one():
        await asyncio.sleep(seconds)
        if fails:
            raise ConnectionResetError


async def _waited(in_flight: InFlight) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await in_flight.answered()
    return loop.time() - began


@simulated
async def test_the_slowest_answer_is_awaited() -> None:
    in_flight = InFlight()
    assert await _waited(in_flight) == 0
    writes = [asyncio.ensure_future(_write(in_flight, seconds)) for seconds in (0.1, 0.5)]
    await asyncio.sleep(0)
    assert 0.4 < await _waited(in_flight) < 0.6
    assert all(write.done() for write in writes)


@simulated
async def test_a_failure_is_an_answer() -> None:
    in_flight = InFlight()
    write = asyncio.ensure_future(_write(in_flight, 0.1, fails=True))
    await asyncio.sleep(0)
    assert await _waited(in_flight) < 0.2
    assert isinstance(write.exception(), ConnectionResetError)


@simulated
async def test_a_group_is_not_held_up_for_an_answer_that_does_not_come() -> None:
    in_flight = InFlight()
    write = asyncio.ensure_future(_write(in_flight, 1000))
    await asyncio.sleep(0)
    assert ANSWERED_SECONDS_MAX <= await _waited(in_flight) < ANSWERED_SECONDS_MAX + 0.1
    write.cancel()
