"""Objects, their indexes, the history of changes and the watches fed from it.

The store knows no rules: it gives each change the next resourceVersion and tells everybody. Stored objects are shared with every
reader and must never be changed in place; each has its serialization made at most once, whoever asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from .selectors import LabelPredicate, ObjectPredicate

JsonDict = dict[str, Any]


class Key(NamedTuple):
    """The place of one object: resource (``machines.cluster.x-k8s.io``), namespace ("" when cluster-scoped), name."""

    resource: str
    namespace: str
    name: str


class Entry:
    """One stored state of an object: frozen by agreement, serialized once, held as text alone when packed."""

    __slots__ = ("_obj", "_raw", "key", "version")

    def __init__(self, key: Key, obj: JsonDict, version: int) -> None:
        self.key = key
        self.version = version
        self._obj: JsonDict | None = obj
        self._raw: bytes | None = None

    @property
    def obj(self) -> JsonDict:
        """The object; shared, never to be changed."""
        if self._obj is None:
            self._obj = orjson.loads(self._raw or b"{}")
        return self._obj

    def pack(self) -> None:
        """Keep the text only; the next reader parses it again."""
        self._raw = self.raw
        self._obj = None

    @property
    def raw(self) -> bytes:
        """The object as JSON text."""
        if self._raw is None:
            self._raw = orjson.dumps(self.obj)
        return self._raw

    @property
    def uid(self) -> str:
        """metadata.uid."""
        return str(self.obj["metadata"]["uid"])


class Change:
    """One step of history: ADDED, MODIFIED or DELETED, the state after (for DELETED the final one) and the state before."""

    __slots__ = ("_lines", "before", "entry", "type")

    def __init__(self, type_: str, entry: Entry, before: Entry | None) -> None:
        self.type = type_
        self.entry = entry
        self.before = before
        self._lines: dict[str, bytes] = {}

    def line(self, type_: str) -> bytes:
        """Return the watch line with that event type; made once, shared by all watchers."""
        line = self._lines.get(type_)
        if line is None:
            line = self._lines[type_] = b'{"type":"' + type_.encode() + b'","object":' + self.entry.raw + b"}\n"
        return line


class WatchEvent(NamedTuple):
    """What a watcher gets: the type, the object, the line as sent over HTTP."""

    type: str
    obj: JsonDict
    line: bytes


Sink = Callable[[WatchEvent], None]


@dataclass(frozen=True, slots=True)
class Scope:
    """Which objects of a resource a list or watch sees. ``namespace`` "" means all."""

    resource: str
    namespace: str = ""
    labels: LabelPredicate | None = None
    fields: ObjectPredicate | None = None

    def holds(self, entry: Entry) -> bool:
        """Whether the object is in the scope."""
        if self.namespace and entry.key.namespace != self.namespace:
            return False
        if self.labels is not None and not self.labels(entry.obj["metadata"].get("labels") or {}):
            return False
        return self.fields is None or self.fields(entry.obj)

    @property
    def selective(self) -> bool:
        """Whether an object may enter or leave the scope while it lives."""
        return self.labels is not None or self.fields is not None


class Watch:
    """One open watch. Events go to ``sink`` at once, or wait in ``pending`` when there is none."""

    __slots__ = ("_sink", "_stop", "bookmarks", "pending", "scope")

    def __init__(self, scope: Scope, sink: Sink | None, stop: Callable[[Watch], None], *, bookmarks: bool) -> None:
        self.scope = scope
        self.bookmarks = bookmarks
        self.pending: deque[WatchEvent] = deque()
        self._sink = sink
        self._stop = stop

    def deliver(self, event: WatchEvent) -> None:
        """Hand one event to the watcher."""
        if self._sink is None:
            self.pending.append(event)
        else:
            self._sink(event)

    def offer(self, change: Change) -> None:
        """Deliver the change as this scope sees it, if it does."""
        now = self.scope.holds(change.entry)
        type_ = change.type
        if self.scope.selective and type_ == "MODIFIED" and change.before is not None:
            before = self.scope.holds(change.before)
            if now != before:
                type_ = "ADDED" if now else "DELETED"
                now = True
        if now:
            self.deliver(WatchEvent(type_, change.entry.obj, change.line(type_)))

    def take(self) -> list[WatchEvent]:
        """Return the waiting events and forget them."""
        out = list(self.pending)
        self.pending.clear()
        return out

    def stop(self) -> None:
        """Close the watch; stopping twice is harmless."""
        self._stop(self)


class Store:
    """All objects of one API server and their history.

    ``first_version`` is the last version before the first change; each change adds ``step``.
    """

    def __init__(self, *, first_version: int, step: int, history_max: int) -> None:
        self.version = first_version
        self.compacted = first_version
        self.step = step
        self.history_max = history_max
        self.history: deque[Change] = deque()
        self.tables: dict[str, dict[str, dict[str, Entry]]] = {}
        self.by_uid: dict[str, Key] = {}
        self.dependents: dict[str, dict[Key, None]] = {}
        self.watches: dict[str, list[Watch]] = {}
        self.listeners: list[Callable[[Change], None]] = []

    def get(self, key: Key) -> Entry | None:
        """Return the stored object at the key."""
        return self.tables.get(key.resource, {}).get(key.namespace, {}).get(key.name)

    def entries(self, scope: Scope) -> list[Entry]:
        """Return the objects in the scope, ordered by namespace and name."""
        table = self.tables.get(scope.resource, {})
        spaces = [scope.namespace] if scope.namespace else sorted(table)
        out: list[Entry] = []
        for space in spaces:
            rows = table.get(space, {})
            for name in sorted(rows):
                entry = rows[name]
                if not scope.selective or scope.holds(entry):
                    out.append(entry)
        return out

    def __iter__(self) -> Iterator[Entry]:
        for table in self.tables.values():
            for rows in table.values():
                yield from rows.values()

    def __len__(self) -> int:
        return len(self.by_uid)

    def put(self, key: Key, obj: JsonDict, before: Entry | None) -> Entry:
        """Store ``obj`` under the next version and return its entry; ``obj`` gets its resourceVersion here."""
        self.version += self.step
        obj["metadata"]["resourceVersion"] = str(self.version)
        entry = Entry(key, obj, self.version)
        self.tables.setdefault(key.resource, {}).setdefault(key.namespace, {})[key.name] = entry
        self._index(entry, before)
        self._publish(Change("MODIFIED" if before is not None else "ADDED", entry, before))
        return entry

    def remove(self, before: Entry) -> Entry:
        """Remove an object and return its final state, which carries the version of the removal."""
        self.version += self.step
        obj = {**before.obj, "metadata": {**before.obj["metadata"], "resourceVersion": str(self.version)}}
        entry = Entry(before.key, obj, self.version)
        rows = self.tables[before.key.resource][before.key.namespace]
        del rows[before.key.name]
        if not rows:
            del self.tables[before.key.resource][before.key.namespace]
        self.by_uid.pop(before.uid, None)
        self._drop_owners(before)
        self._publish(Change("DELETED", entry, before))
        return entry

    def load(self, key: Key, obj: JsonDict) -> Entry:
        """Put an object back as it was, without history (restore)."""
        entry = Entry(key, obj, int(obj["metadata"]["resourceVersion"]))
        self.tables.setdefault(key.resource, {}).setdefault(key.namespace, {})[key.name] = entry
        self._index(entry, None)
        return entry

    def mirror(self) -> None:
        """Begin another history with the same objects, as a copy of etcd does: uids stay, resourceVersions begin again below all of the old ones.

        Nobody hears of it: open watches end without a word.
        """
        self.history.clear()
        self.watches.clear()
        oldest = sorted(self, key=lambda entry: entry.version)
        self.version = 0
        for held in oldest:
            self.version += 1
            obj = {**held.obj, "metadata": {**held.obj["metadata"], "resourceVersion": str(self.version)}}
            self.tables[held.key.resource][held.key.namespace][held.key.name] = Entry(held.key, obj, self.version)
        self.compacted = self.version

    def _index(self, entry: Entry, before: Entry | None) -> None:
        owners = entry.obj["metadata"].get("ownerReferences")
        if before is None:
            self.by_uid[entry.uid] = entry.key
        elif owners == before.obj["metadata"].get("ownerReferences"):
            return
        else:
            self._drop_owners(before)
        for owner in owners or ():
            self.dependents.setdefault(owner["uid"], {})[entry.key] = None

    def _drop_owners(self, entry: Entry) -> None:
        for owner in entry.obj["metadata"].get("ownerReferences") or ():
            held = self.dependents.get(owner["uid"])
            if held is not None:
                held.pop(entry.key, None)
                if not held:
                    del self.dependents[owner["uid"]]

    def _publish(self, change: Change) -> None:
        self.history.append(change)
        if len(self.history) > self.history_max:
            self.compacted = self.history.popleft().entry.version
        for watch in tuple(self.watches.get(change.entry.key.resource, ())):
            watch.offer(change)
        for listener in self.listeners:
            listener(change)

    def pack(self) -> None:
        """Hold every object as text only, about a tenth of the memory; each is parsed again when next read."""
        for entry in self:
            entry.pack()

    def compact(self, keep: int = 0) -> None:
        """Forget all but the last ``keep`` changes: older watches and continue tokens expire."""
        while len(self.history) > keep:
            self.compacted = self.history.popleft().entry.version

    def watch(self, scope: Scope, sink: Sink | None, *, bookmarks: bool) -> Watch:
        """Open a watch that sees changes from now on."""
        watch = Watch(scope, sink, self._stop_watch, bookmarks=bookmarks)
        self.watches.setdefault(scope.resource, []).append(watch)
        return watch

    def _stop_watch(self, watch: Watch) -> None:
        open_watches = self.watches.get(watch.scope.resource, [])
        if watch in open_watches:
            open_watches.remove(watch)

    def replay(self, watch: Watch, after: int) -> None:
        """Offer the changes of history newer than ``after`` to the watch."""
        for change in tuple(self.history):
            if change.entry.version > after and change.entry.key.resource == watch.scope.resource:
                watch.offer(change)
