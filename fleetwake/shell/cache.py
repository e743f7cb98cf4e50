"""The worker's cache: the newest state of every object of its partitions and of the shared topic, with the indexes that observations need.

It is rebuilt from the compacted topic on assignment and kept by the live stream and by the answers of the worker's own writes, whichever comes first:
*newer* means a greater (epoch, resourceVersion). A deleted key is remembered for a while so that an older record cannot resurrect the object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from fleetwake.kind import Change
from schemas.api.meta import KubeObject, ObjectMeta
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from schemas.records import Version

GRAVE_SECONDS = 600.0
"""How long a deleted key is remembered: longer than any record can be late."""

SHARED_PARTITION = -1
K = TypeVar("K", bound=KubeObject)


class Entry:
    """One object: its newest state as JSON (never mutated) and what was parsed from it."""

    __slots__ = ("cluster", "key", "models", "owners", "partition", "state", "version")

    def __init__(self, key: ObjectKey, version: Version, state: Mapping[str, Any], cluster: str, partition: int) -> None:
        self.key, self.version, self.state, self.cluster, self.partition = key, version, state, cluster, partition
        self.owners: tuple[str, ...] = tuple(ref["uid"] for ref in state.get("metadata", {}).get("ownerReferences", ()))
        self.models: dict[type, Any] = {}

    @property
    def uid(self) -> str:
        """metadata.uid of the state held."""
        return str(self.state.get("metadata", {}).get("uid", ""))

    def parse(self, model: type[K]) -> K:
        """The state as the model, parsed once per version."""
        parsed = self.models.get(model)
        if parsed is None:
            parsed = self.models[model] = model.model_validate(self.state)
        return cast(K, parsed)

    def meta(self) -> ObjectMeta:
        """The metadata, parsed once per version."""
        parsed = self.models.get(ObjectMeta)
        if parsed is None:
            parsed = self.models[ObjectMeta] = ObjectMeta.model_validate(self.state.get("metadata", {}))
        return cast(ObjectMeta, parsed)


class Grave:
    """A deleted object: its uid, the greatest version seen of it, and when it was buried (boot seconds)."""

    __slots__ = ("at", "uid", "version")

    def __init__(self, uid: str, version: Version, at: float) -> None:
        self.uid, self.version, self.at = uid, version, at

    def holds(self, state: Mapping[str, Any], version: Version) -> bool:
        """Whether it is this very object's: a 404 is known sooner than the version of the end, and an answer of before may come after it.

        Another history of the API server (a restored backup) may have the object alive again.
        """
        return bool(self.uid) and self.uid == state["metadata"].get("uid") and version.epoch == self.version.epoch


class Cache:
    """See the module. Not thread-safe: one event loop owns it."""

    def __init__(self, boot: Callable[[], float]) -> None:
        self._boot = boot
        self._entries: dict[ObjectKey, Entry] = {}
        self._graves: dict[ObjectKey, Grave] = {}
        self._by_owner: dict[str, set[ObjectKey]] = {}
        self._by_cluster: dict[tuple[GroupKind, str], set[ObjectKey]] = {}
        self._by_namespace: dict[tuple[GroupKind, str], set[ObjectKey]] = {}
        self._by_partition: dict[int, set[ObjectKey]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, key: ObjectKey) -> Entry | None:
        """The entry of a key."""
        return self._entries.get(key)

    def grave(self, key: ObjectKey) -> Grave | None:
        """The grave of a key, while it is remembered."""
        return self._graves.get(key)

    def owned(self, uid: str) -> list[Entry]:
        """Objects with an owner reference to the uid, ordered by key."""
        return [self._entries[key] for key in sorted(self._by_owner.get(uid, ()))]

    def of_cluster(self, ref: GroupKind, cluster: str) -> list[Entry]:
        """Objects of a kind placed with the cluster (``<namespace>/<name>``), ordered by key."""
        return [self._entries[key] for key in sorted(self._by_cluster.get((ref, cluster), ()))]

    def of_namespace(self, ref: GroupKind, namespace: str) -> list[Entry]:
        """Objects of a kind in a namespace (``""`` for all namespaces), ordered by key."""
        return [self._entries[key] for key in sorted(self._by_namespace.get((ref, namespace), ()))]

    def keys_of_partition(self, partition: int) -> tuple[ObjectKey, ...]:
        """Keys held for a partition, in order: what is done for each must not hang on hashes."""
        return tuple(sorted(self._by_partition.get(partition, ())))

    def upsert(self, key: ObjectKey, version: Version, state: Mapping[str, Any], cluster: str, partition: int) -> Change | None:
        """Take a state if it is newer than what is known; None when it is not (an echo, an old record, a resurrection).

        The version that is held, at another place, is the same object seen to belong to another cluster: it moves.
        """
        held = self._entries.get(key)
        moved = held is not None and held.version == version and bool(cluster) and (held.cluster, held.partition) != (cluster, partition)
        if held is not None and held.version >= version and not moved:
            return None
        grave = self._graves.get(key)
        if grave is not None:
            if grave.version >= version or grave.holds(state, version):
                return None
            del self._graves[key]
        if held is not None and not cluster:
            cluster, partition = held.cluster, held.partition
        entry = Entry(key, version, state, cluster, partition)
        if held is not None:
            self._unindex(held)
        self._index(entry)
        # to the cluster that it moved to it is new: whoever reads it there must be told of all of it
        return Change(key, _cluster_key(cluster), held.state if held and not moved else None, state)

    def remove(self, key: ObjectKey, version: Version, uid: str = "") -> Change | None:
        """Bury an object. ``version`` (0, 0) is a bare tombstone: it removes whatever is held. None when nothing was held or it is newer, or another uid."""
        held = self._entries.get(key)
        if held is not None and version.resource_version and held.version > version:
            return None
        if held is not None and uid and held.uid and held.uid != uid:
            return None
        known = max(version, held.version if held else version)
        grave = self._graves.get(key)
        if grave is None or grave.version < known:
            # a bare tombstone tells of no uid: it may be late, and what it removed may live
            told = held.uid if held is not None and version.resource_version else ""
            self._graves[key] = Grave(uid or told, known, self._boot())
        if held is None:
            return None
        self._unindex(held)
        del self._entries[key]
        return Change(key, _cluster_key(held.cluster), held.state, None)

    def leave(self, key: ObjectKey, version: Version) -> Change | None:
        """Let go of an object that moved to a partition of another worker. No grave: it lives on, and may come back at the same version."""
        held = self._entries.get(key)
        if held is None or held.version > version:
            return None
        self._unindex(held)
        del self._entries[key]
        return Change(key, _cluster_key(held.cluster), held.state, None)

    def drop_partition(self, partition: int) -> None:
        """Forget a partition that moved to another worker."""
        for key in self.keys_of_partition(partition):
            entry = self._entries.pop(key)
            self._unindex(entry)
        self._by_partition.pop(partition, None)

    def forget_graves(self) -> None:
        """Drop graves older than GRAVE_SECONDS; called from time to time."""
        limit = self._boot() - GRAVE_SECONDS
        for key in [key for key, grave in self._graves.items() if grave.at < limit]:
            del self._graves[key]

    def _index(self, entry: Entry) -> None:
        key = entry.key
        self._entries[key] = entry
        for uid in entry.owners:
            self._by_owner.setdefault(uid, set()).add(key)
        ref = key.group_kind
        if entry.cluster:
            self._by_cluster.setdefault((ref, entry.cluster), set()).add(key)
        self._by_namespace.setdefault((ref, key.namespace), set()).add(key)
        if key.namespace:
            self._by_namespace.setdefault((ref, ""), set()).add(key)
        self._by_partition.setdefault(entry.partition, set()).add(key)

    def _unindex(self, entry: Entry) -> None:
        key, ref = entry.key, entry.key.group_kind
        for uid in entry.owners:
            _discard(self._by_owner, uid, key)
        if entry.cluster:
            _discard(self._by_cluster, (ref, entry.cluster), key)
        _discard(self._by_namespace, (ref, key.namespace), key)
        if key.namespace:
            _discard(self._by_namespace, (ref, ""), key)
        _discard(self._by_partition, entry.partition, key)


T = TypeVar("T")


def _discard(index: dict[T, set[ObjectKey]], at: T, key: ObjectKey) -> None:
    members = index.get(at)
    if members is not None:
        members.discard(key)
        if not members:
            del index[at]


def _cluster_key(cluster: str) -> ClusterKey | None:
    return ClusterKey.parse(cluster) if cluster else None


class CacheLookup:
    """``fleetwake.kind.Lookup`` over a cache."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def owned_keys(self, ref: GroupKind, owner_uid: str) -> Iterable[ObjectKey]:
        """Keys of the objects of a kind with an owner reference to the uid."""
        return [entry.key for entry in self._cache.owned(owner_uid) if entry.key.group_kind == ref]

    def cluster_keys(self, ref: GroupKind, cluster: ClusterKey) -> Iterable[ObjectKey]:
        """Keys of the objects of a kind that belong to a cluster."""
        return [entry.key for entry in self._cache.of_cluster(ref, str(cluster))]

    def namespace_keys(self, ref: GroupKind, namespace: str) -> Iterable[ObjectKey]:
        """Keys of the objects of a kind in a namespace ("" for all)."""
        return [entry.key for entry in self._cache.of_namespace(ref, namespace)]

    def read(self, model: type[K], key: ObjectKey) -> K | None:
        """One object of a kind we model; None also when it cannot be read: its own run tells so, and nobody else's wake-up may fail by it."""
        entry = self._cache.get(key)
        try:
            return entry.parse(model) if entry is not None else None
        except ValidationError:
            return None
