"""``fleetwake.kind.View`` over the cache. It records every read, because exactly what was read is what "verify before harm" confirms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from fleetwake.errors import DecodeError
from fleetwake.kind import External, Failure, Workload
from fleetwake.shell.cache import Cache, Entry
from fleetwake.shell.resources import Resources
from schemas.api.meta import KubeObject, LabelSelector, ObjectMeta
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from schemas.records import Version

K = TypeVar("K", bound=KubeObject)
SECRET = GroupKind("", "Secret")


@dataclass(frozen=True, slots=True)
class ListRead:
    """A collection that was read: the kind, where, and what it held then."""

    ref: GroupKind
    namespace: str
    cluster: str
    found: Mapping[ObjectKey, Version]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an observation reads besides the cache."""

    workload: Callable[[ClusterKey], Workload]
    failure: Failure | None
    locals: Mapping[str, Any]


class CacheView:
    """See the module. One per run, thrown away after it."""

    def __init__(self, key: ObjectKey, cache: Cache, resources: Resources, at: datetime, around: Surroundings) -> None:
        self._key, self._cache, self._resources, self._at, self._around = key, cache, resources, at, around
        self.reads: dict[ObjectKey, Version | None] = {}
        self.lists: list[ListRead] = []

    @property
    def at(self) -> datetime:
        """When the snapshot is taken."""
        return self._at

    def _entry(self, key: ObjectKey) -> Entry | None:
        entry = self._cache.get(key)
        self.reads[key] = entry.version if entry is not None else None
        return entry

    def get(self, model: type[K], namespace: str, name: str) -> K | None:
        """One object of a kind we model."""
        entry = self._entry(ObjectKey(model.GROUP, model.KIND, namespace, name))
        return parsed(entry, model) if entry is not None else None

    def external(self, ref: GroupKind, namespace: str, name: str) -> External | None:
        """One object of any kind by group and kind."""
        entry = self._entry(ObjectKey(ref.group, ref.kind, namespace, name))
        return self._external(entry) if entry is not None else None

    def _external(self, entry: Entry) -> External:
        found = self._resources.find(entry.key.group_kind)
        return External(entry.key, str(entry.state.get("apiVersion", "")), _meta(entry), entry.state, found.contract if found else "v1beta2")

    def owned(self, model: type[K], owner_uid: str) -> tuple[K, ...]:
        """All objects of the kind with an owner reference to the uid."""
        ref = GroupKind(model.GROUP, model.KIND)
        entries = [entry for entry in self._cache.owned(owner_uid) if entry.key.group_kind == ref]
        self._listed(ref, entries)
        return tuple(parsed(entry, model) for entry in entries)

    def externals_owned(self, owner_uid: str, ref: GroupKind | None = None) -> tuple[External, ...]:
        """All objects, of whatever kind or of one, with an owner reference to the uid."""
        entries = [entry for entry in self._cache.owned(owner_uid) if ref in (None, entry.key.group_kind)]
        for entry in entries:
            self.reads[entry.key] = entry.version
        return tuple(self._external(entry) for entry in entries)

    def of_cluster(self, model: type[K], cluster: ClusterKey) -> tuple[K, ...]:
        """All objects of the kind that belong to the cluster."""
        ref = GroupKind(model.GROUP, model.KIND)
        entries = self._cache.of_cluster(ref, str(cluster))
        self._listed(ref, entries, str(cluster))
        return tuple(parsed(entry, model) for entry in entries)

    def select(self, model: type[K], namespace: str, selector: LabelSelector) -> tuple[K, ...]:
        """All objects of the kind in the namespace whose labels match."""
        ref = GroupKind(model.GROUP, model.KIND)
        entries = [entry for entry in self._cache.of_namespace(ref, namespace) if selector.matches(entry.state.get("metadata", {}).get("labels", {}))]
        self._listed(ref, entries)
        return tuple(parsed(entry, model) for entry in entries)

    def _listed(self, ref: GroupKind, entries: list[Entry], cluster: str = "") -> None:
        own = self._cache.get(self._key)
        place = cluster or (own.cluster if own is not None else "")
        self.lists.append(ListRead(ref, self._key.namespace, place, {entry.key: entry.version for entry in entries}))

    def exists(self, key: ObjectKey) -> bool:
        """Whether an object is there."""
        return self._entry(key) is not None

    def meta(self, key: ObjectKey) -> ObjectMeta | None:
        """Metadata of any object."""
        entry = self._entry(key)
        return _meta(entry) if entry is not None else None

    def secret_keys(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """The keys of a Secret's data with the hash of each value."""
        entry = self._entry(ObjectKey("", "Secret", namespace, name))
        return dict(entry.state.get("data") or {}) if entry is not None else None

    def api_version(self, ref: GroupKind, contract: bool = True) -> str:
        """The apiVersion to address a kind with; "" while it is not known."""
        found = self._resources.find(ref)
        return found.api_version if found is not None else ""

    def workload(self, cluster: ClusterKey) -> Workload:
        """The workload cluster's state."""
        return self._around.workload(cluster)

    def failure(self) -> Failure | None:
        """The last terminal failure of the key being observed."""
        return self._around.failure

    def local(self, name: str) -> Any:
        """A value of this process that a service offers to its own kinds."""
        return self._around.locals.get(name)


def parsed(entry: Entry, model: type[K]) -> K:
    """An entry as the model.

    Raises:
        DecodeError: it is not what the model says; names the object, the field and the remedy.
    """
    try:
        return entry.parse(model)
    except ValidationError as error:
        raise unreadable(entry.key, error) from error


def _meta(entry: Entry) -> ObjectMeta:
    try:
        return entry.meta()
    except ValidationError as error:
        raise unreadable(entry.key, error) from error


def unreadable(key: ObjectKey, error: ValidationError) -> DecodeError:
    """The error of an object that is not what its model says: its first wrong field and how many there are."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    text = f"{place}: {first['msg']} ({error.error_count()} problem(s)); correct the field or remove it"
    return DecodeError(text, operation=f"read {key.kind} {key.namespace}/{key.name}")
