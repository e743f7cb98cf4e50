"""Telling other services what this worker sees in workload clusters: Nodes, whether a cluster can be seen, and that somebody is at work (``schemas.sights``).

Level-based: what the topic says is known (from the replay, from what was produced here, from the live stream), what is true is known (the connections), and
the difference is produced. So heartbeats cost nothing, a restart writes nothing, Nodes that went while nobody looked are ended, and a record that a frozen
predecessor lands late is corrected. A Connection is told as seen only behind all of its Nodes. Versions are the Node's own, in an epoch per
cluster that grows whenever another history begins: epochs start from the clock, because a cluster deleted and made anew must not begin below its own grave.

Source: architecture.md §2, §4 (fencing), §5 (late records).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson

from fleetwake.background import Background
from fleetwake.errors import UnavailableError
from fleetwake.kind import CONNECTION, NODE, Change, Workload
from fleetwake.shell.in_flight import InFlight
from fleetwake.shell.ports import BusPort, Clock
from fleetwake.stream.partition import partition_of
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from schemas.records import DELETED, MODIFIED, MOVED, Actor, ObjectRecord, Version
from schemas.sights import (
    PRESENCE,
    ConnectionStatus,
    PresenceStatus,
    connection_key,
    connection_value,
    node_key,
    node_value,
    presence_key,
    presence_value,
)

log = logging.getLogger(__name__)
PRESENCE_SECONDS = 20.0
RETRY_SECONDS = 1.0
CONNECT_GRACE = timedelta(seconds=15)
"""How long a new owner may take to connect before it takes back what the one before it told: a restart is no outage."""
AT_ONCE_MAX = 64
"""Records of one cluster on their way at a time."""

CLUSTER = GroupKind("cluster.x-k8s.io", "Cluster")
FIRST_CONNECTION_EPOCH = 1
NEVER = Version(0, 0)
UNKNOWN = b""
"""Stands for the digest of a value that may not be the last one on the topic: it is told again, at the same version."""


class Told(NamedTuple):
    """The last record of a key: its version and a digest of its value (None: it says that the object is gone)."""

    version: Version
    digest: bytes | None


@dataclass(slots=True)
class ClusterSights:
    """One cluster: what was told of it, and of which keys that may no longer be true. ``whole``: every Node is to be compared.

    ``echoes`` counts the records of a key that were produced here and have not come back by the live stream; ``since`` is when this worker took over.
    """

    key: ClusterKey
    partition: int
    epoch: int = 0
    buried: Version = NEVER
    told: dict[ObjectKey, Told] = field(default_factory=dict)
    echoes: dict[ObjectKey, int] = field(default_factory=dict)
    dirty: set[ObjectKey] = field(default_factory=set)
    since: datetime | None = None
    whole: bool = False
    gone: bool = False
    flushing: bool = False


@dataclass(frozen=True, slots=True)
class Outside:
    """What is needed of the worker: where to produce, the connections, whether a partition may be written to, whether a Cluster exists; ``count`` counts
    records by kind.
    """

    topic: str
    partitions: int
    instance: str
    actor: str
    bus: BusPort
    clock: Clock
    in_flight: InFlight
    state: Callable[[ClusterKey], Workload]
    may_send: Callable[[int], bool]
    exists: Callable[[ClusterKey], bool]
    count: Callable[[str], None]


class Sights:
    """See the module. ``start`` begins to produce; without it everything is only noted."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._clusters: dict[ClusterKey, ClusterSights] = {}
        self._epochs: dict[ClusterKey, int] = {}
        self._live: set[int] = set()
        self._pending: dict[ClusterKey, None] = {}
        self._wake, self._arrived = asyncio.Event(), asyncio.Event()
        self._background = Background(lambda error: log.error("telling of workload clusters ended by a bug", exc_info=error))

    # ---- life -------------------------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Begin to tell."""
        self._background.spawn(self._run())
        self._background.spawn(self._be_present())

    async def stop(self) -> None:
        """Tell nothing more."""
        await self._background.stop()

    # ---- what the topic says ----------------------------------------------------------------------------------------------------------
    def take(self, number: int, record: ObjectRecord) -> None:
        """Take a record of an owned partition, of the replay or the live stream."""
        key, version = record.key, record.version
        if key.group_kind == PRESENCE:
            return
        sights = self._of(ClusterKey.parse(key.cluster))
        value = None if record.type in (DELETED, MOVED) else record.value
        said = Told(version, _digest(value) if value is not None else None)
        held = sights.told.get(key)
        if key.group_kind == NODE:
            sights.epoch = max(sights.epoch, version.epoch)
            sights.buried = max(sights.buried, version) if value is None else sights.buried
        if number not in self._live:
            # the last record counts, as it does for compaction; one that is older than what stood before it is corrected
            late = held is not None and version < held.version
            sights.told[key] = Told(held.version, UNKNOWN if said.digest is not None else None) if held is not None and late else said
        elif held is not None and said == held:
            # the newest of ours has come back, and with it all that were before it
            sights.echoes.pop(key, None)
        elif sights.echoes.get(key, 0) > 0:
            sights.echoes[key] -= 1
        elif said.digest is not None or held is not None:
            log.warning("a late record of %s: it is told again", key)
            sights.told[key] = said if held is None or held.version <= version else Told(held.version, UNKNOWN)
            self._mark(sights, key)

    def replay_finished(self, number: int) -> None:
        """Everything that the topic says of a partition is known: what it says of clusters that are gone is ended."""
        self._live.add(number)
        self._arrived.set()
        for sights in self._clusters.values():
            if sights.partition == number:
                sights.told = {key: told for key, told in sights.told.items() if told.digest is not None}
                sights.gone = not self._outside.exists(sights.key)
                sights.since = self._outside.clock.now()
                self._mark(sights)

    def dropped(self, number: int) -> None:
        """A partition left."""
        self._live.discard(number)
        for cluster in [key for key, sights in self._clusters.items() if sights.partition == number]:
            del self._clusters[cluster]
        for cluster in [key for key in self._epochs if partition_of(str(key), self._outside.partitions) == number]:
            del self._epochs[cluster]

    # ---- what is true -----------------------------------------------------------------------------------------------------------------
    def changed(self, change: Change) -> None:
        """Take a change that a connection of this worker saw."""
        if change.cluster is None:
            return
        if change.key.group_kind == CONNECTION:
            sights = self._of(change.cluster)
            sights.whole = sights.whole or (change.after or {}).get("event") == "synced"
            self._mark(sights, connection_key(change.cluster))
        elif change.key.group_kind == NODE:
            sights = self._of(change.cluster)
            told = sights.told.get(change.key)
            digest = _digest(_encoded(node_value(change.after))) if change.after is not None else None
            if change.key in sights.dirty or (told.digest if told is not None else None) != digest:
                self._mark(sights, change.key)

    def cluster_changed(self, change: Change) -> None:
        """Take a change of the cache: a Cluster that is gone has nothing to be seen in."""
        if change.key.group_kind != CLUSTER:
            return
        cluster = ClusterKey(change.key.namespace, change.key.name)
        sights = self._clusters.get(cluster)
        if sights is not None and sights.gone != (change.after is None):
            sights.gone = change.after is None
            self._mark(sights)

    def _of(self, cluster: ClusterKey) -> ClusterSights:
        sights = self._clusters.get(cluster)
        if sights is None:
            number = partition_of(str(cluster), self._outside.partitions)
            sights = self._clusters[cluster] = ClusterSights(cluster, number, self._epochs.get(cluster, 0))
            sights.gone = number in self._live and not self._outside.exists(cluster)
        return sights

    def _mark(self, sights: ClusterSights, key: ObjectKey | None = None) -> None:
        if key is not None:
            sights.dirty.add(key)
        else:
            sights.whole = True
        self._pending[sights.key] = None
        self._wake.set()

    # ---- telling ----------------------------------------------------------------------------------------------------------------------
    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            pending, self._pending, late = self._pending, {}, False
            for cluster in pending:
                sights = self._clusters.get(cluster)
                if sights is None or sights.flushing:
                    # what is being told is followed by what came meanwhile
                    continue
                if sights.partition in self._live and self._outside.may_send(sights.partition):
                    sights.flushing = True
                    self._background.spawn(self._flushed(sights))
                else:
                    self._pending[cluster] = None
                    late = True
            if late:
                self._later()

    def _later(self) -> None:
        asyncio.get_running_loop().call_later(RETRY_SECONDS, self._wake.set)

    async def _flushed(self, sights: ClusterSights) -> None:
        try:
            await self._flush(sights)
        except UnavailableError as error:
            log.warning("what is seen in %s was not told, it will be: %s", sights.key, error)
            self._pending[sights.key] = None
            self._later()
        else:
            if sights.dirty or sights.whole:
                self._pending[sights.key] = None
                self._wake.set()
        finally:
            sights.flushing = False

    async def _flush(self, sights: ClusterSights) -> None:
        dirty, sights.dirty = sights.dirty, set()
        whole, sights.whole = sights.whole, False
        connection = connection_key(sights.key)
        state = self._outside.state(sights.key)
        nodes = {} if sights.gone else {node_key(sights.key, str(node["metadata"]["name"])): node for node in state.nodes}
        known = {key for key in sights.told if key.group_kind == NODE}
        keys = (set(nodes) | known) if whole else {key for key in dirty if key.group_kind == NODE}
        complete = sights.gone or (state.connected and state.watch_synced)
        left = sorted(key for key in keys if key in nodes or complete)
        # what is not seen now may still be there: it is compared again once it is seen whole
        try:
            while left:
                batch, left = left[:AT_ONCE_MAX], left[AT_ONCE_MAX:]
                await _all(self._tell_node(sights, key, nodes.get(key)) for key in batch)
            await self._tell_connection(sights, connection, state)
        except BaseException:
            sights.dirty |= dirty
            sights.whole = sights.whole or whole
            raise
        if sights.gone and not sights.told and self._clusters.get(sights.key) is sights:
            self._epochs[sights.key] = sights.epoch
            del self._clusters[sights.key]

    async def _tell_node(self, sights: ClusterSights, key: ObjectKey, node: Mapping[str, Any] | None) -> None:
        held = sights.told.get(key)
        if node is None:
            if held is not None:
                await self._end(sights, key, held)
            return
        value = _encoded(node_value(node))
        digest = _digest(value)
        if held is not None and held.digest == digest:
            return
        floor = held.version if held is not None else sights.buried
        version = Version(sights.epoch, int(node["metadata"]["resourceVersion"]))
        again = held is not None and held.digest == UNKNOWN and version == floor
        if not again and (version <= floor or not sights.epoch):
            # not above what was told: the cluster has another history (it was made anew, or brought back from a backup)
            sights.epoch = max(sights.epoch + 1, floor.epoch + 1, int(self._outside.clock.now().timestamp()))
            version = Version(sights.epoch, version.resource_version)
        await self._produce(sights, self._record(key, MODIFIED, version, sights, value), Told(version, digest))

    async def _tell_connection(self, sights: ClusterSights, key: ObjectKey, state: Workload) -> None:
        held = sights.told.get(key)
        if sights.gone:
            if held is not None:
                await self._end(sights, key, held)
            return
        seen = state.connected and state.watch_synced and not state.consecutive_failures
        if not seen and ((held is None and state.first_connected is None) or (state.connected and not state.consecutive_failures)):
            return  # nobody has ever seen it, or is about to
        if not seen and state.first_connected is None and sights.since is not None:
            left = sights.since + CONNECT_GRACE - self._outside.clock.now()
            if left > timedelta(0):
                asyncio.get_running_loop().call_later(left.total_seconds(), self._mark, sights, key)
                return
        # while it is seen its probes succeed: the time of the last one is told with the end of that
        value = _encoded(connection_value(sights.key, ConnectionStatus(connected=seen, last_probe_success=None if seen else state.last_probe_success)))
        digest = _digest(value)
        if held is None or held.digest != digest:
            version = self._next(held)
            await self._produce(sights, self._record(key, MODIFIED, version, sights, value), Told(version, digest))

    def _next(self, held: Told | None) -> Version:
        """The version of a Connection: it has none of its own, so that it is the time, in milliseconds."""
        now = int(self._outside.clock.now().timestamp() * 1000)
        return Version(FIRST_CONNECTION_EPOCH, max(now, held.version.resource_version + 1) if held is not None else now)

    async def _end(self, sights: ClusterSights, key: ObjectKey, held: Told) -> None:
        """Say that an object is gone: a last record, then a tombstone."""
        final = _encoded({"apiVersion": "v1", "kind": key.kind, "metadata": {"name": key.name}})
        told = Told(held.version, None)
        await self._produce(sights, self._record(key, DELETED, held.version, sights, final), told)
        await self._produce(sights, self._record(key, DELETED, held.version, sights, None), told)
        if sights.told.get(key) is told:
            del sights.told[key]
        if key.group_kind == NODE:
            sights.buried = max(sights.buried, held.version)

    def _record(self, key: ObjectKey, type_: str, version: Version, sights: ClusterSights, value: bytes | None) -> ObjectRecord:
        now = self._outside.clock.now().timestamp()
        return ObjectRecord(key, type_, version, str(sights.key), value, now, now, Actor(self._outside.actor))

    async def _produce(self, sights: ClusterSights, record: ObjectRecord, told: Told) -> None:
        key = record.key
        if not self._outside.may_send(sights.partition):
            raise UnavailableError("the partition is not ours to write to now", operation=f"tell of {key}")
        sights.echoes[key] = sights.echoes.get(key, 0) + 1
        before, sights.told[key] = sights.told.get(key), told
        try:
            with self._outside.in_flight.one():
                await self._outside.bus.produce(self._outside.topic, str(key).encode(), record.value, record.headers(), sights.partition)
        except BaseException:
            # it may have landed or not: whatever comes is judged when it comes, and the truth is told again, as another version
            sights.echoes[key] = max(sights.echoes.get(key, 0) - 1, 0)
            if sights.told.get(key) == told:
                sights.told[key] = Told(max(told.version, before.version) if before is not None else told.version, UNKNOWN)
            raise
        self._outside.count(key.kind)

    # ---- presence ---------------------------------------------------------------------------------------------------------------------
    async def _be_present(self) -> None:
        told: dict[int, float] = {}
        while True:
            self._arrived.clear()
            now = self._outside.clock.boot()
            due = [number for number in sorted(self._live) if now - told.get(number, 0.0) > PRESENCE_SECONDS - RETRY_SECONDS]
            said = await asyncio.gather(*(self._tell_presence(number) for number in due))
            told |= {number: now for number, landed in zip(due, said, strict=True) if landed}
            # whoever misses one is careful meanwhile: it is said again soon
            with suppress(TimeoutError):
                async with asyncio.timeout(PRESENCE_SECONDS if all(said) else RETRY_SECONDS):
                    await self._arrived.wait()

    async def _tell_presence(self, number: int) -> bool:
        """Say that somebody is at work on a partition; whether that has landed."""
        if not self._outside.may_send(number):
            return False
        now = self._outside.clock.now()
        key, status = presence_key(number), PresenceStatus(at=now, instance=self._outside.instance)
        version, value = Version(FIRST_CONNECTION_EPOCH, int(now.timestamp() * 1000)), _encoded(presence_value(number, status))
        record = ObjectRecord(key, MODIFIED, version, "", value, now.timestamp(), now.timestamp(), Actor(self._outside.actor))
        try:
            await self._outside.bus.produce(self._outside.topic, str(key).encode(), value, record.headers(), number)
        except UnavailableError:
            return False
        self._outside.count(PRESENCE.kind)
        return True


async def _all(work: Any) -> None:
    """Do all of it, each to its end, and raise the first error."""
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _encoded(value: Mapping[str, Any]) -> bytes:
    return orjson.dumps(value)


def _digest(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=12).digest()
