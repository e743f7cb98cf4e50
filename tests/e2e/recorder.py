"""Everything that ever happened to the objects of interest, by watches of their own: the history that invariants are checked on.

A resourceVersion counts the changes of the whole store, so the events of all kinds merge into the one order in which they happened.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from urllib3.exceptions import HTTPError

from tests.e2e.api import PATHS, Answer, Api

RECONNECT_PAUSE_S = 0.1
GONE = 410
RECENT_EVENTS = 500
DELIVERY_VERSIONS = 100
"""How far the watches of different kinds may be apart when all break at once."""
Object = dict[str, Any]


class Name(NamedTuple):
    """One object of a namespaced kind."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Seen:
    """One change as it came. ``at`` is the monotonic time of its arrival."""

    version: int
    deleted: bool
    name: Name
    object: Object
    at: float


class World:
    """The objects as last seen."""

    def __init__(self) -> None:
        self.objects: dict[Name, Object] = {}

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """One object, None when there is none."""
        return self.objects.get(Name(kind, namespace, name))

    def all(self, kind: str, namespace: str, cluster: str = "") -> list[Object]:
        """The objects of a kind in a namespace, of one cluster when it is named, in order of name."""
        found = [
            value for key, value in self.objects.items() if key.kind == kind and key.namespace == namespace and (not cluster or cluster_of(value) == cluster)
        ]
        return sorted(found, key=lambda value: str(value["metadata"]["name"]))


def cluster_of(value: Object) -> str:
    """The name of the cluster that an object says it belongs to."""
    named = (value.get("spec") or {}).get("clusterName") or (value["metadata"].get("labels") or {}).get("cluster.x-k8s.io/cluster-name")
    return str(named or "")


class Recorder:
    """Follows ``kinds`` over all namespaces until ``stop``; survives the API server's death."""

    def __init__(self, api: Api, kinds: tuple[str, ...] = tuple(PATHS)) -> None:
        self.world = World()
        self.history: list[Seen] = []
        self.blind: list[tuple[int, int]] = []
        """Intervals of versions in which not everything was seen, or not in order: a watch had to list anew."""
        self._api = api
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._listed = {kind: threading.Event() for kind in kinds}
        for kind in kinds:
            threading.Thread(target=self._follow, args=(kind,), name=f"record-{kind}", daemon=True).start()
        for listed in self._listed.values():
            assert listed.wait(30.0), "the API server did not list within 30 s"

    def stop(self) -> None:
        """Stop following; streams end when the server closes them."""
        self._stopped.set()

    def wait(self, missing: Callable[[World], list[str]], limit_s: float, what: str) -> float:
        """Wait until nothing is missing; returns how long that took, in seconds.

        Raises:
            AssertionError: something still is after ``limit_s``; the message lists it.
        """
        started = time.monotonic()
        with self._changed:
            while lacking := missing(self.world):
                left = started + limit_s - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"{what}: after {limit_s:.0f} s still missing:\n  " + "\n  ".join(lacking[:40]))
                self._changed.wait(left)
        return time.monotonic() - started

    def events(self, namespace: str) -> list[Seen]:
        """What happened in a namespace, in the order in which it happened."""
        with self._changed:
            return sorted((seen for seen in self.history if seen.name.namespace == namespace), key=lambda seen: seen.version)

    def _follow(self, kind: str) -> None:
        version = ""
        while not self._stopped.is_set():
            try:
                if not version:
                    version = self._list(kind)
                for event in self._api.watch(PATHS[kind], version):
                    if event["type"] == "ERROR":
                        raise Answer(int(event["object"].get("code", 500)), str(event["object"].get("message")))
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        self._take(kind, event["object"], deleted=event["type"] == "DELETED")
            except Answer as answer:
                version = "" if answer.status == GONE else version
                self._stopped.wait(RECONNECT_PAUSE_S)
            except (HTTPError, OSError):
                self._stopped.wait(RECONNECT_PAUSE_S)

    def _list(self, kind: str) -> str:
        answer = self._api.get(PATHS[kind])
        items = {_name(kind, item): item for item in answer["items"]}
        version = str(answer["metadata"]["resourceVersion"])
        with self._changed:
            if self._listed[kind].is_set():
                last = max((seen.version for seen in self.history[-RECENT_EVENTS:]), default=0)
                self.blind.append((last - DELIVERY_VERSIONS, int(version)))
            missing = [value for name, value in self.world.objects.items() if name.kind == kind and name not in items]
        for value in missing:
            self._take(kind, {**value, "metadata": {**value["metadata"], "resourceVersion": version}}, deleted=True)
        for item in items.values():
            self._take(kind, item, deleted=False)
        self._listed[kind].set()
        return version

    def _take(self, kind: str, value: Object, *, deleted: bool) -> None:
        value["metadata"].pop("managedFields", None)
        name = _name(kind, value)
        with self._changed:
            self.history.append(Seen(int(value["metadata"]["resourceVersion"]), deleted, name, value, time.monotonic()))
            if deleted:
                self.world.objects.pop(name, None)
            else:
                self.world.objects[name] = value
            self._changed.notify_all()


def _name(kind: str, value: Object) -> Name:
    return Name(kind, value["metadata"].get("namespace", ""), value["metadata"]["name"])


def controller(value: Object) -> tuple[str, str]:
    """The kind and name of the controller owner, empty when there is none."""
    for reference in value["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return reference["kind"], reference["name"]
    return "", ""


def condition(value: Object | None, kind: str) -> str:
    """The status of a condition, empty when it is not there."""
    for found in _conditions(value):
        if found["type"] == kind:
            return str(found["status"])
    return ""


def told(value: Object | None, kind: str) -> str:
    """Reason and message of a condition."""
    return next((f"{found['reason']}: {found.get('message', '')}" for found in _conditions(value) if found["type"] == kind), "")


def since(value: Object | None, kind: str) -> datetime:
    """Since when a condition has its status; the oldest of times when it is not there."""
    found = (one["lastTransitionTime"] for one in _conditions(value) if one["type"] == kind)
    return datetime.fromisoformat(next(found, "0001-01-01T00:00:00Z"))


def _conditions(value: Object | None) -> Iterator[Object]:
    yield from ((value or {}).get("status") or {}).get("conditions") or ()
