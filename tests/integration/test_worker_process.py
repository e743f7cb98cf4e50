"""A worker as a real process on real Kafka and a real API server: killed, frozen, restarted, crowded. Nothing is lost and nobody waits for long."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from fleetwake.kube import config
from fleetwake.kube.client import ApiClient
from fleetwake.kube.redaction import redaction_key
from fleetwake.kube.sealing import sealing_key
from fleetwake.rig.ports import free_ports
from fleetwake.rig.records import Endpoints
from schemas.keys import ObjectKey
from schemas.records import MODIFIED, ObjectRecord, Version
from tests.integration.bus_world import PARTITIONS, START_SECONDS, Bus, Worker, cluster_in, record_of, until

pytestmark = [pytest.mark.kafka, pytest.mark.apiserver]

SYSTEM = "fleetwake-system"
Kubectl = Callable[..., str]


class Fleet:
    """Workers of one group on topics of their own."""

    def __init__(self, bus: Bus, endpoints: Endpoints, folder: Path) -> None:
        self.bus, self._endpoints, self._folder = bus, endpoints, folder
        self._workers: list[Worker] = []

    @property
    def group(self) -> str:
        return f"{self.bus.topics.prefix}-under-test"

    def start(self, instance: str = "w0", **chosen: object) -> Worker:
        """Start a worker, with some settings of its own; a name that was used before is the same static member."""
        settings = {
            "kubeconfig": self._endpoints.kubeconfig,
            "kafka_bootstrap": self._endpoints.bootstrap_servers,
            "redis_url": self._endpoints.redis_url,
            "web_bind": "127.0.0.1",
            "web_port": free_ports(1)[0],
            "instance": instance,
            "topic_prefix": self.bus.topics.prefix,
            "partitions": PARTITIONS,
            "system_namespace": SYSTEM,
            "process_title": False,
            "data_dir": str(self._folder),
            **chosen,
        }
        worker = Worker(settings, self._folder, self._folder / f"journal-{instance}")
        self._workers.append(worker)
        return worker

    def kill(self) -> None:
        for worker in self._workers:
            worker.kill()

    async def committed(self, partition: int = 0) -> int:
        return (await self.bus.committed(self.group)).get(partition, 0)


@pytest.fixture
async def fleet(rig_endpoints: Endpoints, topic_prefix: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    async with ApiClient(config.load(rig_endpoints.kubeconfig)) as client:
        await redaction_key(client, SYSTEM, create=True)
        await sealing_key(client, SYSTEM, create=True)
    async with Bus(rig_endpoints.bootstrap_servers, topic_prefix) as bus:
        found = Fleet(bus, rig_endpoints, tmp_path)
        yield found
        found.kill()


async def test_work_in_flight_is_not_committed_past_and_not_lost_by_a_kill(fleet: Fleet) -> None:
    """Offset 0 takes long; everything behind it goes on meanwhile, and none of it is committed."""
    worker = fleet.start()
    await worker.ready()
    await fleet.bus.put_config_map("slow", n=1, seconds=25)
    for number in range(20):
        await fleet.bus.put_config_map(f"m{number}", n=1)
    began = time.monotonic()
    await until(lambda: all(worker.runs(f"m{number}") for number in range(20)), "one slow key does not block others", 20)
    assert time.monotonic() - began < 20, "it takes 25 s"
    await asyncio.sleep(1.2)  # two commit intervals
    assert await fleet.committed() == 0
    worker.kill()
    assert await fleet.committed() == 0

    again = fleet.start()
    await until(lambda: again.runs("slow") and all(again.runs(f"m{number}") for number in range(20)), "everything is done again")
    await fleet.bus.put_config_map("slow", n=2)
    await until(lambda: {"worked": "slow"}.items() <= next((e for e in again.journal if "worked" in e), {}).items(), "the slow one ends")
    end = asyncio.get_running_loop().time() + 10
    while await fleet.committed() != 22 and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.2)
    assert await fleet.committed() == 22, "then everything is committed"


async def test_a_bug_in_a_run_loses_nothing(fleet: Fleet) -> None:
    worker = fleet.start()
    await worker.ready()
    await fleet.bus.put_config_map("bad", n=1, **{"raise": 3})
    await fleet.bus.put_config_map("good", n=1)
    await until(lambda: worker.runs("good") and worker.runs("bad"), "the third attempt of the bad one, and the good one")
    assert worker.code is None and (await worker.get("/healthz"))[0] == 200
    assert await worker.metric("controller_runtime_reconcile_panics_total") == 3


async def test_a_large_object_passes(fleet: Fleet) -> None:
    worker = fleet.start()
    await worker.ready()
    text = "x" * 1_400_000
    await fleet.bus.put_config_map("large", n=7, text=text)
    await until(lambda: worker.runs("large") == ["7"], "live")
    worker.kill()
    again = fleet.start()
    await until(lambda: "7" in again.runs("large"), "and by a replay")


async def test_garbage_becomes_dead_letters_and_the_rest_goes_on(fleet: Fleet) -> None:
    worker = fleet.start()
    await worker.ready()
    topics = fleet.bus.topics
    await fleet.bus.put(topics.objects, 0, b"no/key", b"{}")
    await fleet.bus.put(
        topics.objects, 0, str(ObjectKey("", "ConfigMap", "default", "x")).encode(), b"not JSON", record_of(fleet.bus.config_map("x")).headers()
    )
    await fleet.bus.put_config_map("m1", n=1)
    await until(lambda: worker.runs("m1"), "the record behind it")
    letters = await fleet.bus.read(topics.deadletter)
    assert [letter.value for letter in letters] == [b"{}", b"not JSON"] and all("remedy" in dict(letter.headers) for letter in letters)
    assert await worker.metric("fleetwake_dead_letters_total") == 2


async def test_a_static_member_that_is_restarted_at_once_has_its_own_partitions_again(fleet: Fleet) -> None:
    first, other = fleet.start("w0"), fleet.start("w1")
    await first.ready()
    await other.ready()
    for partition in range(PARTITIONS):
        await fleet.bus.put_config_map(f"p{partition}", partition, n=1)
    await until(lambda: all(first.runs(f"p{n}") or other.runs(f"p{n}") for n in range(PARTITIONS)), "both work")
    mine = [partition for partition in range(PARTITIONS) if first.runs(f"p{partition}")]
    assert 0 < len(mine) < PARTITIONS
    first.kill()
    again = fleet.start("w0")
    await until(lambda: all(again.runs(f"p{partition}") for partition in mine), "its keys run again")
    owned = json.loads((await other.get("/statusz"))[1])["partitions"]
    assert sorted(owned) == sorted(set(range(PARTITIONS)) - set(mine)), "the other kept its own"


async def test_a_rolling_update_within_the_session_moves_no_partition(fleet: Fleet) -> None:
    """One worker after the other is ended, is away for longer than the shortest session, and comes back by its name: as a StatefulSet replaces its pods."""
    session, away = 30, 8.0
    workers = {name: fleet.start(name, session_seconds=session) for name in ("w0", "w1")}
    for worker in workers.values():
        await worker.ready()

    async def owned(name: str) -> list[int]:
        return sorted(json.loads((await workers[name].get("/statusz"))[1])["partitions"])

    end = time.monotonic() + START_SECONDS
    while not all([await owned(name) for name in workers]):
        assert time.monotonic() < end, "both have a share"
        await asyncio.sleep(0.2)
    before = {name: await owned(name) for name in workers}
    assert sorted(number for numbers in before.values() for number in numbers) == list(range(PARTITIONS))
    for number, name in enumerate(workers):
        other = "w1" if name == "w0" else "w0"
        workers[name].send(signal.SIGTERM)
        ended = time.monotonic()
        await until(lambda name=name: workers[name].code is not None, "it ends", 15)
        while time.monotonic() - ended < away:
            assert await owned(other) == before[other], "nobody takes over what is kept for the other"
            await asyncio.sleep(0.25)
        workers[name] = fleet.start(name, session_seconds=session)
        await workers[name].ready()
        assert {name: await owned(name) for name in workers} == before
        partition = before[name][0]
        await fleet.bus.put_config_map(f"after-{number}", partition, n=1)
        await until(lambda name=name, number=number: workers[name].runs(f"after-{number}"), "it works on what it had")


async def test_what_a_dead_worker_held_moves_to_another(fleet: Fleet) -> None:
    first, other = fleet.start("w0"), fleet.start("w1")
    await first.ready()
    await other.ready()
    for partition in range(PARTITIONS):
        await fleet.bus.put_config_map(f"p{partition}", partition, n=1)
    await until(lambda: all(first.runs(f"p{n}") or other.runs(f"p{n}") for n in range(PARTITIONS)), "both work")
    first.kill()
    await until(lambda: all(other.runs(f"p{partition}") for partition in range(PARTITIONS)), "after the session", 20)


async def test_the_shared_topic_reaches_every_worker(fleet: Fleet) -> None:
    workers = [fleet.start(f"w{number}") for number in range(2)]
    for worker in workers:
        await worker.ready()
    before = [json.loads((await worker.get("/statusz"))[1])["objects"] for worker in workers]
    state = {**fleet.bus.config_map("template"), "kind": "DevMachineTemplate", "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2"}
    record = record_of(state)
    shared = ObjectRecord(record.key, MODIFIED, Version(1, 5), "", record.value)
    await fleet.bus.put(fleet.bus.topics.shared, 0, str(shared.key).encode(), shared.value, shared.headers())

    async def seen() -> bool:
        return [json.loads((await worker.get("/statusz"))[1])["objects"] for worker in workers] == [count + 1 for count in before]

    for _ in range(100):
        if await seen():
            break
        await asyncio.sleep(0.1)
    assert await seen()


class TestFencing:
    """A worker that was frozen past its session: somebody else may own its partitions."""

    @staticmethod
    def config_map(kubectl: Kubectl, namespace: str, n: int) -> dict[str, Any]:
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m1", "namespace": namespace}, "data": {"n": str(n), "write": "yes"}}
        kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
        return TestFencing.stored(kubectl, namespace)

    @staticmethod
    def stored(kubectl: Kubectl, namespace: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(kubectl("-n", namespace, "get", "configmap", "m1", "-o", "json"))
        return found

    async def test_it_sends_nothing_until_it_is_a_member_again_and_replays_everything(self, fleet: Fleet, kubectl: Kubectl, kube_namespace: str) -> None:
        frozen = fleet.start("w0")
        await frozen.ready()
        state = await asyncio.to_thread(self.config_map, kubectl, kube_namespace, 1)
        await fleet.bus.put_state(state)
        written = lambda: self.stored(kubectl, kube_namespace)["metadata"]["annotations"]  # noqa: E731 -- a question asked in two loops
        await until(lambda: written().get("counted") == "1", "the worker writes")
        assert written()["by"] == str(frozen.pid)

        await fleet.bus.put_state(self.stored(kubectl, kube_namespace))
        frozen.send(signal.SIGSTOP)
        await asyncio.sleep(7.5)  # longer than its session
        other = fleet.start("w1")
        await other.ready()
        state = await asyncio.to_thread(self.config_map, kubectl, kube_namespace, 2)
        await fleet.bus.put_state(state)
        await until(lambda: written().get("counted") == "2", "the other has taken over")
        assert written()["by"] == str(other.pid)

        runs = len(frozen.runs("m1"))
        frozen.send(signal.SIGCONT)
        await frozen.ready()
        assert frozen.code is None

        async def owned() -> list[list[int]]:
            return [json.loads((await worker.get("/statusz"))[1])["partitions"] for worker in (frozen, other)]

        end = time.monotonic() + START_SECONDS
        while sorted(number for numbers in await owned() for number in numbers) != list(range(PARTITIONS)):
            assert time.monotonic() < end, f"each partition has one owner again: {await owned()}"
            await asyncio.sleep(0.2)
        mine = (await owned())[0]
        assert mine, "it is a member again"
        for partition in mine:
            await fleet.bus.put_config_map("census", partition, n=0)
            await until(lambda: frozen.census() is not None and any("census" in entry for entry in frozen.journal), "its census")
        if 0 in mine:
            await until(lambda: len(frozen.runs("m1")) > runs, "replayed and run again")
        assert written()["by"] == str(other.pid), "nothing of the frozen one came through late"

    async def test_a_short_freeze_costs_nothing(self, fleet: Fleet, kubectl: Kubectl, kube_namespace: str) -> None:
        worker = fleet.start("w0")
        await worker.ready()
        worker.send(signal.SIGSTOP)
        await asyncio.sleep(2)
        worker.send(signal.SIGCONT)
        await fleet.bus.put_state(await asyncio.to_thread(self.config_map, kubectl, kube_namespace, 1))
        await until(lambda: self.stored(kubectl, kube_namespace)["metadata"]["annotations"].get("counted") == "1", "it goes on")


async def test_sigterm_ends_quickly_and_cleanly(fleet: Fleet) -> None:
    worker = fleet.start()
    await worker.ready()
    await fleet.bus.put_config_map("m1", n=1)
    await until(lambda: worker.runs("m1"), "it works")
    worker.send(signal.SIGTERM)
    await until(lambda: worker.code is not None, "it ends", 15)
    assert worker.code == 0, worker.err.read_text()[-2000:]
    assert await fleet.committed() == 1


def test_every_partition_has_a_cluster() -> None:
    assert len({cluster_in(partition) for partition in range(PARTITIONS)}) == PARTITIONS
