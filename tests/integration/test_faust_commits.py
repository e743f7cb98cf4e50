"""What Faust's own consumer does to offsets, and what ours does: the control cases show each hazard, so that the fix cannot become idle talk unnoticed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from fleetwake.rig.records import Endpoints
from tests.integration.bus_world import HERE, Bus, Process, create_topic

pytestmark = pytest.mark.kafka

STOCK, OURS = "kafka", "fleetwake"
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "500",
    "segment.bytes": "1048576",
    "min.cleanable.dirty.ratio": "0.01",
    "max.compaction.lag.ms": "1000",
    "min.compaction.lag.ms": "0",
    "delete.retention.ms": "100",
}
SCATTERED, FIRST_SURVIVES = 0, 1
"""Partitions: survivors with holes of every size between them; offset 0 survives and a hole follows."""


class Apps:
    """Starts ``faust_under_test`` and kills what it started."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self._bootstrap, self._folder = bootstrap, folder
        self._running: list[Process] = []

    def start(self, transport: str, topic: str, group: str, what: str) -> Process:
        name = f"{group}-{len(self._running)}"
        command = [str(HERE / "faust_under_test.py"), f"{transport}://{self._bootstrap}", topic, group, what, str(self._folder / name)]
        self._running.append(Process(command, self._folder, name))
        return self._running[-1]

    def kill(self) -> None:
        for process in self._running:
            process.kill()


@pytest.fixture
def apps(rig_endpoints: Endpoints, tmp_path: Path) -> Iterator[Apps]:
    started = Apps(rig_endpoints.bootstrap_servers, tmp_path)
    yield started
    started.kill()


async def committed(bus: Bus, group: str, topic: str, partition: int = 0) -> int:
    return (await bus.committed(group, topic)).get(partition, 0)


async def commits(bus: Bus, group: str, topic: str, wanted: dict[int, int], seconds: float) -> dict[int, int]:
    """The committed offsets once they are as wanted, or after some seconds."""
    end = asyncio.get_running_loop().time() + seconds
    while (found := await bus.committed(group, topic)) != wanted and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.3)
    return found


class TestControl:
    """Faust 0.15.3 as shipped. If one of these fails Faust has changed: look whether our subclass is still needed."""

    async def test_stock_acknowledges_a_record_whose_handler_raised(self, apps: Apps, bus: Bus) -> None:
        for number in range(10):
            await bus.put_config_map(f"m{number}")
        app = apps.start(STOCK, bus.topics.objects, "control-a", "raise 5")
        assert (await commits(bus, "control-a", bus.topics.objects, {0: 10}, 30))[0] == 10, "past the record that nobody has handled"
        assert "0 5\n" not in app.lines()

    async def test_stock_commits_past_work_in_flight(self, apps: Apps, bus: Bus) -> None:
        for number in range(10):
            await bus.put_config_map(f"m{number}")
        apps.start(STOCK, bus.topics.objects, "control-b", "hold 0")
        assert (await commits(bus, "control-b", bus.topics.objects, {0: 10}, 30))[0] == 10, "although offset 0 was never acknowledged"


class Compacted:
    """A compacted topic with holes."""

    def __init__(self, bus: Bus, name: str) -> None:
        self.bus, self.name = bus, name
        self._bursts = 0

    async def burst(self, partition: int, keys: list[str]) -> None:
        """Produce quickly."""
        producer = AIOKafkaProducer(bootstrap_servers=self.bus.bootstrap, linger_ms=2)
        await producer.start()
        try:
            await asyncio.gather(*[await producer.send(self.name, key=key.encode(), value=os.urandom(200), partition=partition) for key in keys])
        finally:
            await producer.stop()

    async def fill(self) -> None:
        """Records of which compaction will leave scattered survivors."""
        self._bursts += 1
        turn = self._bursts
        await self.burst(SCATTERED, [key for i in range(120) for key in ("x", f"u{turn}-{i}", "y", "z", f"v{i}")])
        await self.burst(FIRST_SURVIVES, ([] if turn > 1 else ["keep"]) + ["a"] * 300 + ["b"] * 200 + [f"c{turn}"])

    async def compact(self) -> dict[int, int]:
        """Roll segments until the cleaner has made holes; returns the end offsets."""
        for _ in range(60):
            for partition in (SCATTERED, FIRST_SURVIVES):
                await self.bus.put(self.name, partition, b"tick", b"t")
            messages = await self.bus.read(self.name)
            held = {partition: [message.offset for message in messages if message.partition == partition] for partition in (SCATTERED, FIRST_SURVIVES)}
            if all(len(offsets) < 0.65 * (offsets[-1] + 1) for offsets in held.values()) and held[FIRST_SURVIVES][0] == 0 and held[FIRST_SURVIVES][1] > 50:
                return {partition: offsets[-1] + 1 for partition, offsets in held.items()}
            await asyncio.sleep(0.6)
        raise AssertionError("the cleaner made no holes")


async def test_commits_advance_over_the_holes_of_compaction(apps: Apps, bus: Bus) -> None:
    """A fresh group, and one that is restarted with its committed offset inside a hole: ours is at the end, stock crawls or sticks."""
    topic = Compacted(bus, f"{bus.topics.prefix}.holes")
    await asyncio.to_thread(create_topic, bus.bootstrap, topic.name, 2, COMPACTED)
    await topic.fill()
    ends = await topic.compact()
    running = {transport: apps.start(transport, topic.name, f"holes-{transport}", "in order") for transport in (STOCK, OURS)}
    assert await commits(bus, f"holes-{OURS}", topic.name, ends, 30) == ends
    behind = await commits(bus, f"holes-{STOCK}", topic.name, ends, 6)
    assert any(behind.get(partition, 0) < end for partition, end in ends.items()), f"control: stock is at the end too, {behind}"

    for process in running.values():
        process.kill()
    before = dict(ends)
    await topic.fill()
    await topic.fill()
    ends = await topic.compact()
    left = [message.offset for message in await bus.read(topic.name) if message.partition == FIRST_SURVIVES]
    assert before[FIRST_SURVIVES] not in left, "the committed offset is inside a hole now"
    apps.start(OURS, topic.name, f"holes-{OURS}", "in order")
    assert await commits(bus, f"holes-{OURS}", topic.name, ends, 30) == ends
