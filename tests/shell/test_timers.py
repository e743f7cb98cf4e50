"""Deadlines: one per key and kind, the newest counts, each comes once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from fleetwake.shell.timers import Timers
from schemas.keys import ObjectKey
from tests.shell.shell_world import simulated


def key(name: str) -> ObjectKey:
    return ObjectKey("g", "Machine", "default", name)


class Clock:
    """Timers that write down when what came due."""

    def __init__(self) -> None:
        self.due: list[tuple[float, str, str]] = []
        self.timers = Timers(lambda kind, found: self.due.append((round(asyncio.get_running_loop().time(), 2), kind, found.name)))

    def set(self, name: str, seconds: float | None, kind: str = "Machine") -> None:
        self.timers.set(kind, key(name), None if seconds is None else timedelta(seconds=seconds))


@simulated
async def test_deadlines_come_in_order_whatever_order_they_were_set_in() -> None:
    clock = Clock()
    for name, seconds in (("c", 30), ("a", 10), ("b", 20), ("now", -5)):
        clock.set(name, seconds)
    await asyncio.sleep(100)
    assert clock.due == [(0.0, "Machine", "now"), (10.0, "Machine", "a"), (20.0, "Machine", "b"), (30.0, "Machine", "c")]
    assert len(clock.timers) == 0


@simulated
async def test_a_new_deadline_replaces_the_old_one_in_both_directions() -> None:
    clock = Clock()
    clock.set("later", 10)
    clock.set("later", 50)
    clock.set("sooner", 60)
    clock.set("sooner", 5)
    await asyncio.sleep(100)
    assert clock.due == [(5.0, "Machine", "sooner"), (50.0, "Machine", "later")]


@simulated
async def test_a_cleared_deadline_does_not_come() -> None:
    clock = Clock()
    clock.set("a", 10)
    clock.set("b", 10)
    clock.set("a", None)
    clock.set("never set", None)
    await asyncio.sleep(100)
    assert clock.due == [(10.0, "Machine", "b")]


@simulated
async def test_kinds_have_deadlines_of_their_own() -> None:
    clock = Clock()
    clock.set("a", 10)
    clock.set("a", 20, "Cluster")
    await asyncio.sleep(100)
    assert clock.due == [(10.0, "Machine", "a"), (20.0, "Cluster", "a")]


@simulated
async def test_clear_forgets_all() -> None:
    clock = Clock()
    clock.set("a", 10)
    clock.timers.clear()
    await asyncio.sleep(100)
    assert not clock.due
    clock.set("a", 10)
    await asyncio.sleep(100)
    assert len(clock.due) == 1


@simulated
async def test_thousands_of_deadlines_at_the_same_time() -> None:
    clock = Clock()
    for number in range(5000):
        clock.set(f"k{number}", 7)
    await asyncio.sleep(8)
    assert len(clock.due) == 5000 and {at for at, _, _ in clock.due} == {7.0}
