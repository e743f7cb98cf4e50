"""Intents: a change that nobody of ours made opens one trace for its cluster, and all that follows from it continues that trace.

Foreign changes of the same cluster within JOIN_SECONDS of the intent's last activity join it (a ``kubectl apply`` of seven documents is one intent);
an intent without activity for IDLE_SECONDS is closed. The ids are derived from the opening record, so that every service names the same trace without
asking another: all read the records of a cluster in one order. Source: architecture.md §7.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from fleetwake.tracing.context import SpanId
from schemas.records import MODIFIED, ObjectRecord

JOIN_SECONDS = 5.0
IDLE_SECONDS = 30 * 60.0
DELETE_SECONDS = 60.0
"""How long after a delete of ours the object's deletion is taken for its work: the delete itself may have been refused, and then somebody else comes."""
DELETES_REMEMBERED = 10_000
OUR_MANAGERS = ("capi-", "fleetwake", "kubeadmconfig-controller", "kubeadmcontrolplane-controller", "machinepool-controller", "watcher")
"""Field managers of ours, by prefix: what they write continues a trace instead of opening one."""


@dataclass(slots=True)
class Intent:
    """An open intent: its root span, the change that opened it, when, and its last activity (Unix seconds)."""

    root: SpanId
    change: str
    opened: float
    active: float
    joined: int = 0


def is_ours(manager: str) -> bool:
    """Whether a field manager is one of ours."""
    return manager.startswith(OUR_MANAGERS)


def change_of(record: ObjectRecord) -> str:
    """A change in words: what, which version, by whom. A deletion that others asked for names nobody: it leaves no field manager."""
    key = record.key
    who = record.actor.manager or "unknown"
    place = f"{key.namespace}/{key.name}" if key.namespace else key.name
    deleting = record.type == MODIFIED and record.value is not None and b'"deletionTimestamp"' in record.value
    text = f"{'DELETING' if deleting else record.type} {key.kind} {place} @{record.version.resource_version}"
    return text if deleting and is_ours(who) else f"{text} by {who}"


class OwnDeletes:
    """The deletes that runs of ours sent, by the key of what they delete: the record that tells of a deletion names no author."""

    def __init__(self) -> None:
        self._sent: OrderedDict[str, tuple[SpanId, float]] = OrderedDict()

    def add(self, key: str, run: SpanId, at: float) -> None:
        """A run is about to send one."""
        self._sent[key] = (run, at)
        self._sent.move_to_end(key)
        if len(self._sent) > DELETES_REMEMBERED:
            self._sent.popitem(last=False)

    def take(self, key: str, at: float) -> SpanId | None:
        """The run whose delete this object's deletion is; asked once."""
        run, sent = self._sent.pop(key, (None, 0.0))
        return run if at - sent <= DELETE_SECONDS else None


class Intents:
    """The open intents of a worker by cluster. ``opened`` is told of each new one."""

    def __init__(self, opened: Callable[[str, Intent], None]) -> None:
        self._by_cluster: dict[str, Intent] = {}
        self._opened = opened

    def current(self, cluster: str, at: float) -> Intent | None:
        """The open intent of a cluster at a time."""
        intent = self._by_cluster.get(cluster)
        if intent is not None and at - intent.active > IDLE_SECONDS:
            del self._by_cluster[cluster]
            return None
        return intent

    def touch(self, cluster: str, at: float) -> Intent | None:
        """The open intent, kept alive by an activity of ours."""
        intent = self.current(cluster, at)
        if intent is not None:
            intent.active = max(intent.active, at)
        return intent

    def foreign(self, cluster: str, record: ObjectRecord, at: float) -> tuple[Intent, bool]:
        """The intent a foreign change belongs to, and whether it opened it."""
        name = f"intent/{cluster}/{record.key}/{record.version.epoch}/{record.version.resource_version}"
        return self._join_or_open(cluster, name, change_of(record), at)

    def shared(self, cluster: str, change: str, at: float) -> Intent:
        """The intent that a foreign change of an object of no cluster belongs to, for one cluster that it concerns."""
        return self._join_or_open(cluster, f"intent/{cluster}/{change}", change, at)[0]

    def _join_or_open(self, cluster: str, name: str, change: str, at: float) -> tuple[Intent, bool]:
        intent = self.current(cluster, at)
        if intent is not None and at - intent.active <= JOIN_SECONDS:
            intent.active, intent.joined = max(intent.active, at), intent.joined + 1
            return intent, False
        intent = self._by_cluster[cluster] = Intent(SpanId.derive(name), change, at, at)
        self._opened(cluster, intent)
        return intent, True

    def restore(self, cluster: str, intent: Intent) -> None:
        """Take an intent another life of this service left, unless a newer one is open."""
        held = self._by_cluster.get(cluster)
        if held is not None and held.root.trace == intent.root.trace:
            held.active = max(held.active, intent.active)
        elif held is None or held.opened < intent.opened:
            self._by_cluster[cluster] = intent

    def forget(self, cluster: str) -> None:
        """The cluster is gone or somebody else's."""
        self._by_cluster.pop(cluster, None)
