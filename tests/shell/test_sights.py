"""What the reconcilers tell of workload clusters, and how a service that holds no connection knows them by it. In virtual time, over a bus of one list."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest

from fleetwake.errors import UnavailableError
from fleetwake.kind import CONNECTION, Change, Workload
from fleetwake.shell.ports import Ports
from fleetwake.shell.recorded import PRESENCE_LIMIT, RecordedWorkloads
from fleetwake.shell.sights import CONNECT_GRACE, PRESENCE_SECONDS
from fleetwake.shell.worker import Options, Worker
from fleetwake.shell.workload import NoWorkloads
from fleetwake.sim.loop import SimClock
from fleetwake.stream.partition import partition_of
from fleetwake.tracing.spans import Tracer
from schemas.keys import ClusterKey, ObjectKey
from schemas.records import ADDED, MODIFIED, ObjectRecord, Version
from schemas.sights import PRESENCE, node_key, node_value
from schemas.topics import Topics
from tests.shell.shell_world import CountedKeys, simulated

DEMO = ClusterKey("default", "demo")
CLUSTER = ObjectKey("cluster.x-k8s.io", "Cluster", "default", "demo")
PARTITIONS = 4
HOME = partition_of(str(DEMO), PARTITIONS)
Json = dict[str, Any]


def node(name: str, version: int, ready: str = "True", **metadata: Any) -> Json:
    """A Node as the API server of its cluster has it."""
    conditions = [{"type": "Ready", "status": ready, "reason": "R", "lastHeartbeatTime": f"beat {version}", "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    meta = {"name": name, "uid": f"u-{name}", "resourceVersion": str(version), "annotations": {"much": "ado"}, **metadata}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": meta,
        "spec": {"providerID": f"x://{name}"},
        "status": {"conditions": conditions, "images": ["many"]},
    }


class Far(NoWorkloads):
    """The connections of one worker, as the test lets them be."""

    def __init__(self) -> None:
        self.now = Workload()

    def state(self, cluster: ClusterKey) -> Workload:
        """The same for every cluster."""
        return self.now


class Bus:
    """One list per partition; every worker is told of a record a little after it was stored."""

    def __init__(self) -> None:
        self.logs: dict[int, list[ObjectRecord]] = {number: [] for number in range(PARTITIONS)}
        self.workers: list[Worker] = []
        self._coming: deque[tuple[int, int, ObjectRecord]] = deque()
        self.refuses = 0

    async def produce(self, topic: str, key: bytes, value: bytes | None, headers: Iterable[tuple[str, bytes]], partition: int) -> None:
        """Store a record, unless the broker refuses."""
        await asyncio.sleep(0.001)
        if self.refuses:
            self.refuses -= 1
            raise UnavailableError("no leader", operation="produce")
        self.put(partition, ObjectRecord.decode(key, value, headers))

    def put(self, partition: int, record: ObjectRecord) -> None:
        """Store a record as it is."""
        log = self.logs[partition]
        log.append(record)
        self._coming.append((partition, len(log) - 1, record))
        asyncio.get_running_loop().call_later(0.002, self._deliver)

    def _deliver(self) -> None:
        # whichever timer rings first: what was stored first is delivered first
        partition, offset, record = self._coming.popleft()
        for worker in self.workers:
            worker.live(partition, offset, record, None)

    def told(self, kind: str = "") -> list[ObjectRecord]:
        """What was told of the cluster, in order, presences aside."""
        return [one for one in self.logs[HOME] if one.key.cluster and one.key.group_kind != PRESENCE and kind in ("", one.key.kind)]


class World:
    """A bus, owners that come and go, and a reader."""

    def __init__(self) -> None:
        self.loop: Any = asyncio.get_running_loop()
        self.clock = SimClock(self.loop)
        self.bus = Bus()
        self.fenced = False
        self.far = Far()
        self.owner = self.start_owner("r-0")
        reader = RecordedWorkloads(lambda: self.reader.cache, self.clock.now, PARTITIONS)
        self.reader = self._worker("remediation", reader, owns_workloads=False, reads_workloads=True)
        self._assign(self.reader)

    def _worker(self, service: str, workloads: Any, **options: Any) -> Worker:
        ports = Ports(None, self.bus, self.clock, CountedKeys(), Tracer(service, "w", "", self.clock))  # type: ignore[arg-type]
        return Worker(
            (),
            ports,
            workloads,
            Options(
                service,
                f"{service}-0",
                "life",
                lambda name: None,
                self._fatal,
                lambda: self.fenced,
                lambda state: state,
                topics=Topics("t"),
                partitions=PARTITIONS,
                **options,
            ),
        )

    def _fatal(self, error: BaseException) -> None:
        raise AssertionError(error)

    def _assign(self, worker: Worker, *records: ObjectRecord) -> None:
        worker.assign(range(PARTITIONS))
        for record in records:
            worker.replay(HOME, record)
        for number, log in self.bus.logs.items():
            for record in log:
                worker.replay(number, record)
            worker.replay_finished(number, len(log))
        self.bus.workers.append(worker)

    def start_owner(self, name: str, cluster: bool = True) -> Worker:
        """Another owner takes over; the cluster exists, or does not any more."""
        self.far = Far()
        self.owner = self._worker("reconcilers", self.far, owns_workloads=True)
        self._assign(self.owner, *([self.cluster_record()] if cluster else []))
        assert self.owner.sights is not None
        self.owner.sights.start()
        return self.owner

    async def replace_owner(self, *, cluster: bool = True) -> None:
        """The owner dies, and another one comes."""
        assert self.owner.sights is not None
        await self.owner.sights.stop()
        self.bus.workers.remove(self.owner)
        self.start_owner("r-1", cluster)

    @staticmethod
    def cluster_record(uid: str = "u") -> ObjectRecord:
        """The Cluster."""
        state = {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "metadata": {"name": "demo", "namespace": "default", "uid": uid}}
        return ObjectRecord(CLUSTER, ADDED, Version(1, 5), str(DEMO), orjson.dumps(state))

    async def connect(self, *nodes: Json, seconds: float = 1.0) -> None:
        """The owner connects and lists these Nodes."""
        now = self.clock.now()
        self.far.now = Workload(connected=True, last_probe_success=now, first_connected=now)
        self._tell("connected")
        for one in nodes:
            self._show(one)
        self.far.now = replace(self.far.now, watch_synced=True)
        self._tell("synced")
        await asyncio.sleep(seconds)

    async def lose(self, seconds: float = 1.0) -> None:
        """The connection is lost."""
        self.far.now = replace(self.far.now, connected=False, watch_synced=False, consecutive_failures=5)
        self._tell("disconnected")
        await asyncio.sleep(seconds)

    def _tell(self, event: str) -> None:
        key = ObjectKey(*CONNECTION, DEMO.namespace, DEMO.name)
        self.owner.workload_changed(Change(key, DEMO, None, {"event": event}))

    def _show(self, one: Json) -> None:
        held = {item["metadata"]["name"]: item for item in self.far.now.nodes}
        before = held.get(one["metadata"]["name"])
        held[one["metadata"]["name"]] = one
        self.far.now = replace(self.far.now, nodes=tuple(held[name] for name in sorted(held)))
        self.owner.workload_changed(Change(node_key(DEMO, one["metadata"]["name"]), DEMO, before, one))

    async def show(self, one: Json) -> None:
        """A Node changes."""
        self._show(one)
        await asyncio.sleep(1)

    async def drop(self, name: str) -> None:
        """A Node goes."""
        [before] = [item for item in self.far.now.nodes if item["metadata"]["name"] == name]
        self.far.now = replace(self.far.now, nodes=tuple(item for item in self.far.now.nodes if item is not before))
        self.owner.workload_changed(Change(node_key(DEMO, name), DEMO, before, None))
        await asyncio.sleep(1)

    @property
    def known(self) -> Workload:
        """The workload cluster as the reader knows it."""
        return self.reader.workloads.state(DEMO)

    def ready(self) -> dict[str, str]:
        """Ready of every Node that the reader knows."""
        return {item["metadata"]["name"]: item["status"]["conditions"][0]["status"] for item in self.known.nodes}


@simulated
async def test_nodes_are_told_before_the_cluster_counts_as_seen() -> None:
    world = World()
    await world.connect(node("a", 10), node("b", 11, "False"))
    assert world.ready() == {"a": "True", "b": "False"}
    assert (world.known.connected, world.known.watch_synced) == (True, True)
    assert [one.key.kind for one in world.bus.told()] == ["Node", "Node", "Connection"]
    assert world.known.nodes[0] == orjson.loads(orjson.dumps(node_value(node("a", 10))))
    assert "images" not in world.known.nodes[0]["status"] and "lastHeartbeatTime" not in world.known.nodes[0]["status"]["conditions"][0]


@simulated
async def test_heartbeats_and_restarts_cost_nothing() -> None:
    world = World()
    await world.connect(node("a", 10))
    before = len(world.bus.told())
    for version in range(11, 40):
        await world.show(node("a", version))
    await world.replace_owner()
    await world.connect(node("a", 40), seconds=CONNECT_GRACE.total_seconds() * 2)
    assert len(world.bus.told()) == before
    await world.show(node("a", 41, "False"))
    assert world.ready() == {"a": "False"}


@simulated
async def test_a_node_that_goes_is_ended() -> None:
    world = World()
    await world.connect(node("a", 10), node("b", 11))
    await world.drop("a")
    assert world.ready() == {"b": "True"}
    last, tombstone = world.bus.told()[-2:]
    assert (last.type, tombstone.type, tombstone.value, tombstone.key.name) == ("DELETED", "DELETED", None, "a")
    await world.show(node("a", 20, uid="another"))
    assert world.ready() == {"a": "True", "b": "True"}


@simulated
async def test_what_went_while_nobody_looked_is_ended_once_the_cluster_is_seen_again() -> None:
    world = World()
    await world.connect(node("a", 10), node("b", 11))
    await world.replace_owner()
    await asyncio.sleep(5)
    assert world.ready() == {"a": "True", "b": "True"}, "what is not seen is not gone"
    await world.connect(node("b", 12, "False"))
    assert world.ready() == {"b": "False"}


@simulated
async def test_a_cluster_that_goes_takes_all_of_it_along() -> None:
    world = World()
    await world.connect(node("a", 10))
    world.owner.take(HOME, ObjectRecord(CLUSTER, "DELETED", Version(1, 9), str(DEMO), world.cluster_record().value))
    await asyncio.sleep(1)
    assert not world.known.nodes and not world.known.connected
    assert {one.key.kind: one.value for one in world.bus.told()} == {"Node": None, "Connection": None}
    # made anew under its old name, with a history that begins below the old one's
    world.owner.take(HOME, replace(world.cluster_record("another"), version=Version(1, 10)))
    await world.connect(node("a", 3))
    assert world.ready() == {"a": "True"} and world.known.connected


@simulated
async def test_a_cluster_that_went_while_nobody_looked_is_ended_by_the_next_owner() -> None:
    world = World()
    await world.connect(node("a", 10))
    await world.replace_owner(cluster=False)
    await asyncio.sleep(1)
    assert not world.known.nodes and not world.known.connected


@simulated
async def test_another_history_is_newer_however_low_its_versions() -> None:
    world = World()
    await world.connect(node("a", 1000))
    await world.lose()
    world.far.now = replace(world.far.now, nodes=())
    await world.connect(node("a", 7, "False"))
    assert world.ready() == {"a": "False"}
    versions = [one.version for one in world.bus.told("Node")]
    assert versions == sorted(versions) and versions[-1].epoch > versions[0].epoch
    assert world.reader.epoch == 0, "versions of a workload cluster say nothing of the management API's history"


@pytest.mark.parametrize("gone", [False, True], ids=["the Node is there", "the Node is gone"])
def test_a_late_record_of_a_frozen_predecessor_is_corrected(gone: bool) -> None:
    @simulated
    async def scenario() -> None:
        world = World()
        await world.connect(node("a", 10), node("b", 11))
        late = replace(world.bus.told("Node")[0], type=MODIFIED)
        await world.show(node("a", 12, "False"))
        if gone:
            await world.drop("a")
        world.bus.put(HOME, late)
        await asyncio.sleep(1)
        newest = {one.key: one for one in world.bus.told("Node")}[late.key]
        assert (newest.value is None) is gone
        assert world.ready() == ({"b": "True"} if gone else {"a": "False", "b": "True"})
        count = len(world.bus.told())
        await asyncio.sleep(5)
        assert len(world.bus.told()) == count, "corrected once"

    scenario()


@simulated
async def test_what_the_broker_refuses_is_told_again() -> None:
    world = World()
    world.bus.refuses = 3
    await world.connect(node("a", 10), node("b", 11), seconds=5)
    assert world.ready() == {"a": "True", "b": "True"} and world.known.connected


@simulated
async def test_nothing_is_told_by_whoever_may_not() -> None:
    world = World()
    world.fenced = True
    await world.connect(node("a", 10), seconds=5)
    assert not world.bus.told()
    world.fenced = False
    await asyncio.sleep(3)
    assert world.ready() == {"a": "True"} and world.known.connected


@simulated
async def test_a_lost_connection_is_told_with_the_last_answer() -> None:
    world = World()
    await world.connect(node("a", 10))
    last = world.far.now.last_probe_success
    await asyncio.sleep(30)
    await world.lose()
    assert (world.known.connected, world.known.watch_synced, world.known.last_probe_success) == (False, False, last)
    assert world.ready() == {"a": "True"}, "what was known stays known"
    await world.connect(node("a", 10))
    assert world.known.connected


@simulated
async def test_an_owner_that_cannot_connect_takes_back_what_the_one_before_it_told() -> None:
    world = World()
    await world.connect(node("a", 10))
    await world.replace_owner()
    await asyncio.sleep(CONNECT_GRACE.total_seconds() - 1)
    assert world.known.connected
    await asyncio.sleep(2)
    assert not world.known.connected


@simulated
async def test_where_nobody_is_at_work_nothing_is_seen() -> None:
    world = World()
    await world.connect(node("a", 10), seconds=PRESENCE_SECONDS * 4)
    assert world.known.connected
    assert world.owner.sights is not None
    await world.owner.sights.stop()
    left = world.clock.now()
    await asyncio.sleep(PRESENCE_LIMIT.total_seconds() + 1)
    assert not world.known.connected
    last = world.known.last_probe_success
    assert last is not None and timedelta(0) <= left - last <= timedelta(seconds=PRESENCE_SECONDS)
    await world.replace_owner()
    await world.connect(node("a", 10))
    assert world.known.connected


@simulated
async def test_a_service_that_does_not_ask_holds_none_of_it() -> None:
    world = World()
    other = world._worker("dev_infrastructure", NoWorkloads(), owns_workloads=False)
    world._assign(other)
    await world.connect(node("a", 10))
    assert not len(other.cache) and other.sights is None
