"""The drift check of a worker, where no record is left to tell: what it holds is asked of the API server, not believed and not thrown away."""

from __future__ import annotations

import asyncio
from collections import deque

from fleetwake.sim.faults import Rates
from schemas.keys import ObjectKey
from tests.simulation.fleet import Fleet, Node, Setup, run
from tests.simulation.manifests import cluster
from tests.simulation.scenarios import unfinished

MACHINE = ObjectKey("cluster.x-k8s.io", "Machine", "default", "ghost")


async def checked(node: Node) -> int:
    """Run the check in the worker's process."""
    return await node.process.spawn(node.intake.drift_check())


def forget(fleet: Fleet, key: ObjectKey) -> None:
    """Take every record of an object from the topic."""
    for log in fleet.bus.logs.values():
        log.messages = deque(message for message in log.messages if message.key != str(key).encode())


async def standing(fleet: Fleet) -> Node:
    """A cluster that stands, and the worker that holds it."""
    fleet.apply(cluster(workers=1))
    await fleet.until("a cluster", lambda: not unfinished(fleet, workers=1), 300)
    await asyncio.sleep(10)
    return next(node for node in fleet.nodes.values() if node.service == "reconcilers" and len(node.worker.cache.of_namespace(MACHINE.group_kind, "")))


def test_nothing_has_drifted_in_a_settled_world() -> None:
    async def scenario(fleet: Fleet) -> None:
        node = await standing(fleet)
        assert await checked(node) == 0

    assert not run(Setup(1, Rates()), scenario).violations


def test_an_object_whose_end_was_compacted_away_is_dropped() -> None:
    async def scenario(fleet: Fleet) -> None:
        node = await standing(fleet)
        real = node.worker.cache.of_namespace(MACHINE.group_kind, "")[0]
        node.worker.cache.upsert(MACHINE, real.version, {**real.state, "metadata": {"name": "ghost", "uid": "ghost"}}, real.cluster, real.partition)
        assert await checked(node) == 1
        assert node.worker.cache.get(MACHINE) is None
        assert await checked(node) == 0

    assert not run(Setup(1, Rates()), scenario).violations


def test_an_object_whose_record_is_late_is_kept() -> None:
    async def scenario(fleet: Fleet) -> None:
        node = await standing(fleet)
        real = node.worker.cache.of_namespace(MACHINE.group_kind, "")[0]
        forget(fleet, real.key)
        assert await checked(node) == 0
        assert node.worker.cache.get(real.key) is real

    assert not run(Setup(1, Rates()), scenario).violations


def test_what_comes_while_the_check_reads_is_asked_of_nobody() -> None:
    """A service that makes nothing knows objects from records alone; it may not even have the right to read them."""

    async def scenario(fleet: Fleet) -> None:
        node = next(node for node in fleet.nodes.values() if node.service == "remediation")
        asked: list[str] = []
        fleet.network.reading.append(lambda process, request: asked.append(request.path) if process is node.process else None)
        await fleet.until("its partitions", lambda: node.intake.ready, 60)
        fleet.apply(cluster(workers=3))
        while unfinished(fleet, workers=3):
            assert await checked(node) == 0
            await asyncio.sleep(0.001)
        assert len(node.worker.cache.of_namespace(MACHINE.group_kind, "")) == 4
        assert not asked

    assert not run(Setup(1, Rates()), scenario).violations
