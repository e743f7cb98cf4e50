"""The watcher in a simulation: its real book-keeping (ledger, publisher, repair) between the API server in memory and the bus in memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from fleetwake.connections.kafka import Kafka
from fleetwake.kube.client import Response as ClientResponse
from fleetwake.kube.discovery import Discovery
from fleetwake.shell.ports import Request
from fleetwake.sim.apiserver import ApiServer, Change
from fleetwake.sim.bus import Message, SimBus
from fleetwake.sim.faults import Faults
from fleetwake.sim.kube import SimKube, SimNetwork
from fleetwake.sim.loop import Process
from fleetwake.stream.producer import Outgoing
from schemas.placement import RESOURCE_SET_TYPE
from schemas.records import ObjectRecord
from schemas.topics import Topics
from services.watcher.ledger import Ledger, Place
from services.watcher.metrics import WatcherMetrics
from services.watcher.placement import CLUSTER_NAME_LABEL, key_of
from services.watcher.publisher import Publisher
from services.watcher.repair import Repair
from services.watcher.scope import Scope

RANKS = ("clusters.cluster.x-k8s.io", "kubeadmcontrolplanes", "machinedeployments", "machinesets", "machines.")
LATE_RECORDS_MAX = 3
"""Records a frozen watcher still has in its buffer when it goes on."""


def rank(resource: str) -> int:
    """Owners are listed before what they own, Secrets last."""
    if resource in ("secrets", "configmaps"):
        return len(RANKS) + 1
    return next((number for number, prefix in enumerate(RANKS) if resource.startswith(prefix)), len(RANKS))


def carried(resource: str, obj: Mapping[str, Any]) -> bool:
    """Whether the watcher's selections see the object."""
    if resource in ("secrets", "configmaps"):
        return CLUSTER_NAME_LABEL in (obj["metadata"].get("labels") or {}) or obj.get("type") == RESOURCE_SET_TYPE
    return "x-k8s.io" in resource


class SimLedger(Ledger):
    """The tail of both topics, fed by the bus."""

    def __init__(self, bus: SimBus, topics: Topics, partitions: int, metrics: WatcherMetrics) -> None:
        super().__init__(Kafka("sim"), topics, partitions, metrics)
        self._bus = bus
        self._by_place = {(tp.topic, tp.partition): place for tp, place in self._places.items()}
        for (topic, partition), place in self._by_place.items():
            for message in bus.log(topic, partition).messages:
                self._take(place, message)  # type: ignore[arg-type]
            self.positions[place] = bus.log(topic, partition).end
        self.caught_up.set()

    def feed(self, message: Message) -> None:
        """Take a record of the tail."""
        place = self._by_place.get((message.topic, message.partition))
        if place is not None and message.offset >= self.positions[place]:
            self._take(place, message)  # type: ignore[arg-type]

    async def read(self, wanted: Iterable[tuple[Place, int]]) -> dict[tuple[Place, int], ObjectRecord]:
        """Read single records."""
        found: dict[tuple[Place, int], ObjectRecord] = {}
        for place, offset in sorted(set(wanted)):
            for message in self._bus.log(*self.where(place)).messages:
                if message.offset == offset:
                    found[(place, offset)] = ObjectRecord.decode(message.key, message.value, message.headers)
        return found


class SimProducer:
    """What of ``RecordProducer`` the publisher uses."""

    def __init__(self, bus: SimBus, process: Process) -> None:
        self._bus, self._process = bus, process
        self.late: int | None = None

    def put(self, out: Outgoing) -> None:
        """Send a record; its acknowledgement comes back into the process."""
        if not self._process.alive:
            return
        if self.late is not None:
            self.late -= 1
            if self.late < 0:
                return
        process, acknowledged = self._process, out.acknowledged
        self._bus.put(out.topic, out.partition, (out.key, out.value, out.headers), lambda offset: process.post(acknowledged, offset))


class SimClient:
    """What of ``ApiClient`` the repair uses."""

    def __init__(self, kube: SimKube) -> None:
        self._kube = kube

    async def request(self, method: str, path: str) -> ClientResponse:
        """Send one request."""
        response = await self._kube.send(Request(method, path))
        return ClientResponse(response.status, response.body, dict(response.headers))


class SimWatcher:
    """One life of the watcher as a process."""

    def __init__(self, process: Process, server: ApiServer, bus: SimBus, network: SimNetwork, setup: tuple[Topics, int, bytes, Discovery]) -> None:
        self.process, self._server, self._bus = process, server, bus
        topics, partitions, redaction_key, self._discovery = setup
        self._faults: Faults = bus.faults
        metrics = WatcherMetrics()
        self.ledger = SimLedger(bus, topics, partitions, metrics)
        self.producer = SimProducer(bus, process)
        self.publisher = Publisher(self.ledger, self.producer, partitions, Scope(), redaction_key, metrics)  # type: ignore[arg-type]
        self.ledger.on_record = self.publisher.observe_record
        client = SimClient(SimKube(network, process, server))
        self.repair = Repair(client, self._discovery, self.ledger, self.publisher, metrics)  # type: ignore[arg-type]
        self._streams: dict[str, asyncio.Queue[Change]] = {}
        self._coming: deque[Message] = deque()
        self._history = 0
        bus.listeners.append(self._tailed)
        server.on_change(self._changed)

    def stop(self) -> None:
        """The process is gone; nobody tells it anything."""
        self._bus.listeners.remove(self._tailed)
        self._server.store.listeners.remove(self._changed)

    def reconnect(self) -> None:
        """The API server ended every watch: list again, once the process runs."""
        for queue in self._streams.values():
            while not queue.empty():
                queue.get_nowait()
        self._history += 1
        self.process.post(lambda: self.process.spawn(self._list()))

    def _tailed(self, message: Message) -> None:
        self._coming.append(message)
        self._bus.loop.in_world(self._arrived, after=self._faults.latency(0.001))

    def _arrived(self) -> None:
        # whatever arrives first was stored first: a tail keeps the order
        self.process.post(self.ledger.feed, self._coming.popleft())

    def _changed(self, change: Change) -> None:
        resource = change.entry.key.resource
        if "x-k8s.io" not in resource and resource not in ("secrets", "configmaps"):
            return
        queue = self._streams.get(resource)
        if queue is None:
            queue = self._streams[resource] = asyncio.Queue()
            if self.process.alive:
                self.process.spawn(self._follow(queue))
        queue.put_nowait(change)

    async def run(self) -> None:
        """List, diff and follow."""
        await self._list()
        await self.repair.run()

    async def _list(self) -> None:
        entries = sorted((entry for entry in self._server.store if carried(entry.key.resource, entry.obj)), key=lambda entry: rank(entry.key.resource))
        version, listed = self._server.version, set()
        self.publisher.observe_list(version, rewound=True)
        for entry in entries:
            value = orjson.loads(entry.raw)
            listed.add(key_of(value))
            self.publisher.publish(value, 0.0)
        missing = self.publisher.missing(sorted(self.publisher.held), listed, version)
        await self.repair.delete(missing, version, force=True)

    async def _follow(self, queue: asyncio.Queue[Change]) -> None:
        while True:
            change, history = await queue.get(), self._history
            await asyncio.sleep(self._faults.latency(0.001))
            if history == self._history:
                self._take(change)

    def _take(self, change: Change) -> None:
        obj = change.entry.obj
        resource = change.entry.key.resource
        known = change.before is not None and carried(resource, change.before.obj)
        value = orjson.loads(change.entry.raw)
        if change.type == "DELETED" or not carried(resource, obj):
            if known:
                key = key_of(value)
                self.publisher.delete(key, self.publisher.version(obj["metadata"]["resourceVersion"]), value, 0.0)
            return
        self.publisher.publish(value, 0.0)
