"""The leader's book of what it has written, and every write to the topics: records, deletes, moves, repairs.

For each key it holds the version, the place and the offset of the record it means to be the last one. The ledger tells what the topics
really say; where the two differ for good (a record of a frozen predecessor landed late, a send failed, an owner changed its
cluster), the key becomes a suspect and is produced again from a live read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from fleetwake.stream.partition import partition_of
from fleetwake.stream.producer import Outgoing, RecordProducer
from schemas.keys import GroupKind, ObjectKey
from schemas.records import ADDED, DELETED, MODIFIED, MOVED, NOBODY, Actor, ObjectRecord, Version
from services.watcher.ledger import SHARED_PLACE, Entry, Ledger, Place, Seen
from services.watcher.metrics import WatcherMetrics
from services.watcher.placement import Placement, key_of
from services.watcher.record import NO_WISH, Wish, value_of, wish_of
from services.watcher.scope import Scope

GRAVE_SECONDS = 60.0
"""How long a deleted key is remembered, so that a late answer of a live read cannot bring it back."""

FAILED_RETRY_SECONDS = 1.0
IN_FLIGHT = -1
log = logging.getLogger("services.watcher.publisher")


@dataclass(slots=True)
class Held:
    """What the last record of a key must be. ``offset`` is None until it is acknowledged."""

    version: Version
    place: Place
    cluster: str
    live: bool
    offset: int | None = None
    wish: Wish = NO_WISH


class Publisher:
    """Writes for one term of leadership. ``suspect`` and the acknowledgements never block; ``suspects`` is worked off by ``services.watcher.repair``."""

    def __init__(self, ledger: Ledger, producer: RecordProducer, partitions: int, scope: Scope, redaction_key: bytes, metrics: WatcherMetrics) -> None:
        self._ledger, self._producer, self._partitions = ledger, producer, partitions
        self._scope, self._redaction_key, self._metrics = scope, redaction_key, metrics
        self.placement = Placement()
        self.epoch = max(ledger.epoch_max, 1)
        self.resource_version_max = ledger.resource_version_max
        self.held: dict[ObjectKey, Held] = {}
        self.kinds: dict[GroupKind, set[ObjectKey]] = {}
        self.suspects: dict[ObjectKey, str] = {}
        self.suspected = asyncio.Event()
        self.on_rewind: Callable[[], None] = lambda: None
        self.on_filter_change: Callable[[], None] = lambda: None
        self._moving: dict[tuple[ObjectKey, Place], int] = {}
        self._graves: deque[tuple[float, ObjectKey]] = deque()
        self._adopt()

    def _adopt(self) -> None:
        """Take over what the topics say. A key in several places keeps the newest live one; the others are cleared."""
        for place, entries in self._ledger.entries.items():
            for key, entry in entries.items():
                if not self._scope.contains(key):
                    continue
                found = Held(entry.version, place, entry.cluster, entry.live, entry.offset)
                before = self.held.get(key)
                if before is not None and (before.live, before.version) >= (found.live, found.version):
                    self._clear(key, place, before)
                    continue
                self._hold(key, found)
                self.placement.known(key, entry.cluster)
                if before is not None:
                    self._clear(key, before.place, found)

    def adopt(self, key: ObjectKey, place: Place, entry: Entry) -> None:
        """Take over one key as the topics have it."""
        self._hold(key, Held(entry.version, place, entry.cluster, entry.live, entry.offset))

    def _hold(self, key: ObjectKey, held: Held) -> None:
        self.held[key] = held
        self.kinds.setdefault(key.group_kind, set()).add(key)

    # ------------------------------------------------------------------ versions
    def observe_list(self, resource_version: int, *, rewound: bool) -> None:
        """Take the resourceVersion of a list; a history that went back raises the epoch and has everything listed again."""
        if rewound and resource_version < self.resource_version_max:
            self.raise_epoch(resource_version)
        self.resource_version_max = max(self.resource_version_max, resource_version)

    def raise_epoch(self, resource_version: int) -> None:
        """Begin another history: nothing of the old one can be compared with it."""
        self.epoch += 1
        self.resource_version_max = resource_version
        self._metrics.epoch.set(self.epoch)
        log.warning("the API server's history went back; new epoch: epoch=%s resource_version=%s", self.epoch, resource_version)
        self.on_rewind()

    def version(self, resource_version: str | int) -> Version:
        """A resourceVersion in the present epoch."""
        return Version(self.epoch, int(resource_version))

    # ------------------------------------------------------------------ writes
    def publish(self, value: dict[str, Any], received: float, *, force: bool = False) -> bool:
        """Produce an object as it is now, unless the topic has it. Returns whether a record was put.

        Takes managedFields and secret values out of ``value``. ``force`` produces an equal version again (never an older one).
        """
        key = key_of(value)
        version = self.version(value["metadata"]["resourceVersion"])
        self.resource_version_max = max(self.resource_version_max, version.resource_version)
        before = self.held.get(key)
        if before is not None and (before.version > version or (before.version == version and not before.live)):
            return False
        cluster, wake = self.placement.place(key, value)
        for other in wake:
            self.suspect(other, "place")
        if self._scope.observe_cluster(key, value):
            self.on_filter_change()
        if not self._scope.selects(key, value, cluster):
            if before is not None and before.live:
                self.delete(key, version, value, received)
            return False
        place = SHARED_PLACE if not cluster else partition_of(cluster, self._partitions)
        wish = wish_of(value["metadata"])
        if before is not None and before.live and (before.version, before.place, before.cluster) == (version, place, cluster) and not force:
            before.wish = wish
            return False
        data, actor = value_of(value, self._redaction_key, before.wish if before is not None else NO_WISH)
        held = Held(version, place, cluster, True, wish=wish)
        self._hold(key, held)
        record = ObjectRecord(key, MODIFIED if before is not None and before.live else ADDED, version, cluster, data, received, time.time(), actor)
        left = before.place if before is not None and before.place != place else None
        self._put(record, place, lambda offset: self._published(record, held, left, offset))
        return True

    def delete(self, key: ObjectKey, version: Version, value: dict[str, Any] | bytes, received: float, *, force: bool = False) -> None:
        """Produce the last record of an object with its final state, then the tombstone. ``force`` does so again for a key that is deleted."""
        self.resource_version_max = max(self.resource_version_max, version.resource_version)
        before = self.held.get(key)
        if before is None or before.version > version or (not before.live and not force):
            return
        actor: Actor = NOBODY
        if not isinstance(value, bytes):
            value, actor = value_of(value, self._redaction_key)
        held = Held(version, before.place, before.cluster, False)
        self._hold(key, held)
        self.placement.forget(key)
        last = ObjectRecord(key, DELETED, version, held.cluster, value, received, time.time(), actor)
        tombstone = ObjectRecord(key, DELETED, version, held.cluster, None, received, last.produced, actor)
        self._put(last, held.place, lambda offset: self._count(last, offset))
        self._put(tombstone, held.place, lambda offset: self._acknowledged(tombstone, held, offset))

    def _published(self, record: ObjectRecord, held: Held, left: Place | None, offset: int | None) -> None:
        if left is not None and offset is not None:
            # only now: between the two records a reader may see the object twice, never not at all
            self._clear(record.key, left, held, record.value)
        self._acknowledged(record, held, offset)

    def _clear(self, key: ObjectKey, place: Place, held: Held, value: bytes | None = None) -> None:
        """Say at a place that the object now lives elsewhere."""
        if self._moving.get((key, place)) == IN_FLIGHT:
            return
        self._moving[(key, place)] = IN_FLIGHT
        moved = ObjectRecord(key, MOVED, held.version, held.cluster, value or minimal(key), 0.0, time.time())
        tombstone = ObjectRecord(key, MOVED, held.version, held.cluster, None, 0.0, moved.produced)

        def cleared(offset: int | None) -> None:
            if offset is None:
                del self._moving[(key, place)]
                self.suspect(key, "failed")
            else:
                self._moving[(key, place)] = offset
                self._forget_move(key, place)

        self._put(moved, place, lambda offset: self._count(moved, offset))
        self._put(tombstone, place, cleared)

    def _forget_move(self, key: ObjectKey, place: Place) -> None:
        if 0 <= self._moving.get((key, place), IN_FLIGHT) < self._ledger.positions[place]:
            del self._moving[(key, place)]

    def _put(self, record: ObjectRecord, place: Place, acknowledged: Callable[[int | None], None]) -> None:
        topic, partition = self._ledger.where(place)
        self._producer.put(Outgoing(topic, partition, str(record.key).encode(), record.value, record.headers(), acknowledged))

    def _count(self, record: ObjectRecord, offset: int | None) -> None:
        if offset is None:
            self._metrics.failed.inc()
        else:
            self._metrics.records.labels(type=record.type if record.value is not None else "TOMBSTONE").inc()

    def _acknowledged(self, record: ObjectRecord, held: Held, offset: int | None) -> None:
        self._count(record, offset)
        if self.held.get(record.key) is not held:
            return
        if offset is None:
            asyncio.get_running_loop().call_later(FAILED_RETRY_SECONDS, self.suspect, record.key, "failed")
            return
        if record.received:
            self._metrics.produce_seconds.observe(time.time() - record.received)
        held.offset = offset
        if self._ledger.positions[held.place] > offset:
            self._settle(record.key, held)

    # ------------------------------------------------------------------ what the topics really say
    def observe_record(self, seen: Seen) -> None:
        """Compare a record of the tail with what is held."""
        if not self._scope.contains(seen.key):
            return
        held = self.held.get(seen.key)
        if held is None:
            if seen.entry is not None and seen.entry.live:
                self.suspect(seen.key, "late")
        elif seen.place == held.place:
            if held.offset is not None:
                self._settle(seen.key, held)
        else:
            moved_at = self._moving.get((seen.key, seen.place))
            self._forget_move(seen.key, seen.place)
            if seen.entry is not None and seen.entry.live and (moved_at is None or 0 <= moved_at < seen.offset):
                # a record of this term, put before the object moved, is followed by the acknowledgement that clears it
                if held.offset is not None and held.live:
                    self._metrics.repairs.labels(reason="late").inc()
                    self._clear(seen.key, seen.place, held)
                elif not held.live:
                    self.suspect(seen.key, "late")

    def _settle(self, key: ObjectKey, held: Held) -> None:
        assert held.offset is not None
        entry = self._ledger.entries[held.place].get(key)
        passed = self._ledger.positions[held.place] > held.offset
        if held.live:
            if entry is None:
                if passed:
                    self.suspect(key, "late")
            elif entry.offset > held.offset:
                if entry.live and (entry.version, entry.cluster) == (held.version, held.cluster):
                    held.offset = entry.offset
                else:
                    self.suspect(key, "late")
        elif entry is not None and entry.offset > held.offset:
            self.suspect(key, "late")
        elif entry is None and passed:
            self._graves.append((time.monotonic(), key))
            self._bury()

    def _bury(self) -> None:
        while self._graves and self._graves[0][0] < time.monotonic() - GRAVE_SECONDS:
            _, key = self._graves.popleft()
            held = self.held.get(key)
            if held is not None and not held.live:
                del self.held[key]
                self.kinds[key.group_kind].discard(key)

    def suspect(self, key: ObjectKey, reason: str) -> None:
        """Have the key read live and produced again."""
        self.suspects.setdefault(key, reason)
        self.suspected.set()

    def missing(self, keys: Iterable[ObjectKey], listed: set[ObjectKey], resource_version: int) -> list[ObjectKey]:
        """Of ``keys``, those whose records must end: not listed, not newer than the list, and no delete of ours on its way."""
        bound = self.version(resource_version)
        held = ((key, self.held[key]) for key in keys if key not in listed and key in self.held)
        return [key for key, state in held if state.version <= bound and (state.live or self._ledger.entries[state.place].get(key) is not None)]


def minimal(key: ObjectKey) -> bytes:
    """What is left to say of an object whose final state nobody has."""
    version = f"{key.group}/unknown" if key.group else "v1"
    metadata = {"name": key.name, "namespace": key.namespace} if key.namespace else {"name": key.name}
    return orjson.dumps({"apiVersion": version, "kind": key.kind, "metadata": metadata})
