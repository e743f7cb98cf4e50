"""What a reconciler is made of: a ``Kind`` with its observation, its decision and the relations that wake it.

``observe`` reads a ``View`` (the worker's cache, or a live re-read of it: same protocol) into a frozen snapshot; ``reconcile`` is a pure
function of that snapshot. Both live in ``services/<service>/kinds/<kind>.py`` and import no IO. The view records what was read: that is what
"verify before harm" confirms and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from fleetwake.plan import Plan
from schemas import sights
from schemas.api.meta import KubeObject, LabelSelector, ObjectMeta
from schemas.keys import ClusterKey, GroupKind, ObjectKey

K = TypeVar("K", bound=KubeObject)
O = TypeVar("O")  # noqa: E741 -- "Observed", the word of the glossary


@dataclass(frozen=True, slots=True)
class External:
    """An object of a kind that is not ours to model (any provider's): metadata typed, the rest as JSON, read only through ``fleetwake.contracts``."""

    key: ObjectKey
    api_version: str
    metadata: ObjectMeta
    fields: Mapping[str, Any]
    contract: str = "v1beta2"


@dataclass(frozen=True, slots=True)
class Looked:
    """The answer of a ``Look``: JSON value and the time it was true; ``error`` set when the read failed."""

    at: datetime
    value: Any = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """What is known of a workload cluster right now, as frozen at observation.

    ``connected`` tells whether requests can be sent; ``last_probe_success`` and ``first_connected`` are None before the first success. ``nodes`` and ``pods``
    (kube-system pods with label tier=control-plane) come from watches and keep their last values while disconnected, as JSON objects ordered by
    name. ``objects`` holds single watched objects by ``<kind>/<namespace>/<name>`` (``ConfigMap/kube-system/kubeadm-config``).
    ``watch_synced`` is True once the initial lists have arrived on the current connection.
    """

    connected: bool = False
    last_probe_success: datetime | None = None
    first_connected: datetime | None = None
    consecutive_failures: int = 0
    watch_synced: bool = False
    nodes: tuple[Mapping[str, Any], ...] = ()
    pods: tuple[Mapping[str, Any], ...] = ()
    objects: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    looks: Mapping[str, Looked] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """The last terminal failure of a key since something it reads changed: shown in conditions, never retried blindly."""

    operation: str
    message: str
    causes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Unread:
    """An object whose observation failed, because it or an object read for it is not what its model says.

    ``state`` is the object's newest state as JSON. ``failure`` names the object that cannot be read, its field and the remedy.
    """

    key: ObjectKey
    at: datetime
    state: Mapping[str, Any]
    failure: Failure


class View(Protocol):
    """Reads of one observation. Collections are ordered by name. Objects being deleted are included."""

    @property
    def at(self) -> datetime:
        """When the snapshot is taken; the only clock a decision has."""
        ...

    def get(self, model: type[K], namespace: str, name: str) -> K | None:
        """One object of a kind we model, None when absent."""
        ...

    def external(self, ref: GroupKind, namespace: str, name: str) -> External | None:
        """One object of any kind by group and kind, None when absent."""
        ...

    def owned(self, model: type[K], owner_uid: str) -> tuple[K, ...]:
        """All objects of the kind with an owner reference to the uid."""
        ...

    def of_cluster(self, model: type[K], cluster: ClusterKey) -> tuple[K, ...]:
        """All objects of the kind that belong to the cluster (placement, architecture: partition by cluster)."""
        ...

    def externals_owned(self, owner_uid: str, ref: GroupKind | None = None) -> tuple[External, ...]:
        """All objects, of whatever kind or of one, with an owner reference to the uid."""
        ...

    def select(self, model: type[K], namespace: str, selector: LabelSelector) -> tuple[K, ...]:
        """All objects of the kind in the namespace whose labels match."""
        ...

    def exists(self, key: ObjectKey) -> bool:
        """Whether an object is there (Secrets and ConfigMaps: their bytes never are)."""
        ...

    def meta(self, key: ObjectKey) -> ObjectMeta | None:
        """Metadata of any object, None when absent."""
        ...

    def secret_keys(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """The keys of a Secret's data, each with the keyed hash that stands for its value; None when the Secret is absent."""
        ...

    def api_version(self, ref: GroupKind, contract: bool = True) -> str:
        """The apiVersion to address a kind with: by its CRD's contract labels, or the only served one. ``""`` when not known (yet)."""
        ...

    def workload(self, cluster: ClusterKey) -> Workload:
        """The workload cluster's state."""
        ...

    def failure(self) -> Failure | None:
        """The last terminal failure of the key being observed."""
        ...

    def local(self, name: str) -> Any:
        """A value of this process that a service offers to its own kinds (the development provider's emulated machines); None if there is none."""
        ...


class Lookup(Protocol):
    """What mapping a change to the keys it concerns may read: never more than the cache."""

    def owned_keys(self, ref: GroupKind, owner_uid: str) -> Iterable[ObjectKey]:
        """Keys of the objects of a kind with an owner reference to the uid."""
        ...

    def cluster_keys(self, ref: GroupKind, cluster: ClusterKey) -> Iterable[ObjectKey]:
        """Keys of the objects of a kind that belong to a cluster."""
        ...

    def namespace_keys(self, ref: GroupKind, namespace: str) -> Iterable[ObjectKey]:
        """Keys of the objects of a kind in a namespace ("" for all)."""
        ...

    def read(self, model: type[K], key: ObjectKey) -> K | None:
        """One object of a kind we model."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one object: its state before and after as JSON (None: absent). Workload changes arrive as key kinds ``Node``, ``Pod``, ``Connection``."""

    key: ObjectKey
    cluster: ClusterKey | None
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    @property
    def state(self) -> Mapping[str, Any]:
        """The newest state there is: after, else before."""
        return self.after if self.after is not None else (self.before or {})

    def differs(self, *path: str) -> bool:
        """Whether the value at the path is not the same before and after."""
        return bool(_at(self.before, path) != _at(self.after, path))

    @property
    def annotations_alone(self) -> frozenset[str]:
        """The annotations that differ, if nothing else does but what the API server counts by itself; else empty."""
        if self.before is None or self.after is None:
            return frozenset()
        before, after = self.before.get("metadata", {}), self.after.get("metadata", {})
        had, has = before.get("annotations") or {}, after.get("annotations") or {}
        if had == has or _without(before, COUNTED) != _without(after, COUNTED) or _without(self.before, ("metadata",)) != _without(self.after, ("metadata",)):
            return frozenset()
        return frozenset(key for key in had.keys() | has.keys() if had.get(key) != has.get(key))


COUNTED = ("annotations", "resourceVersion", "generation", "managedFields")


def _without(part: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name not in names}


def _at(state: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(state, Mapping):
            return None
        state = state.get(name)
    return state


ANY_KIND = GroupKind("*", "*")
CONNECTION = sights.CONNECTION
"""The pseudo kind of a workload connection's state: name and namespace are the Cluster's."""
NODE, POD = sights.NODE, GroupKind("", "Pod")


@dataclass(frozen=True, slots=True)
class Watch:
    """One relation that wakes a kind: changes of ``source`` that satisfy ``matters`` wake the keys ``concerns`` names.

    ``source`` ANY_KIND stands for every kind that is not named by another Watch of the same Kind (infrastructure and bootstrap objects of providers).
    """

    source: GroupKind
    concerns: Callable[[Change, Lookup], Iterable[ObjectKey]]
    matters: Callable[[Change], bool] = lambda change: True


@dataclass(frozen=True, slots=True)
class Kind(Generic[O]):
    """A reconciler: what it observes, how it decides, what wakes it.

    ``manager`` is the field manager of its server-side applies on status and of its requests. ``own`` says which changes of the object itself matter
    (by default all but those that only repeat our own status write: the shell already drops the echo of an equal version).
    ``unreadable`` decides in place of ``reconcile`` when the observation cannot be read; without it such an object only has its failure counted and logged.
    ``shared``: the kind lives on ``objects.shared`` and is worked on by the owner of the partition of hash(key).
    ``controller`` is its name where a service has another reconciler of the same model: each has a queue, deadlines, failures and confirmations of its own.
    """

    model: type[KubeObject]
    observe: Callable[[View, ObjectKey], O | None]
    reconcile: Callable[[O], Plan]
    manager: str
    watches: tuple[Watch, ...] = ()
    own: Callable[[Change], bool] = lambda change: True
    unreadable: Callable[[Unread], Plan] | None = None
    shared: bool = False
    controller: str = ""

    @property
    def name(self) -> str:
        """The reconciler's name: the kind's, or the one of its own."""
        return self.controller or self.model.KIND

    @property
    def group_kind(self) -> GroupKind:
        """The kind's group and name."""
        return GroupKind(self.model.GROUP, self.model.KIND)


def controller_owner(group_kind: GroupKind) -> Callable[[Change, Lookup], Iterable[ObjectKey]]:
    """Concern: the controller owner of the changed object (before and after), if it is of the kind."""

    def concerns(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
        found = []
        for state in (change.before, change.after):
            for ref in (state or {}).get("metadata", {}).get("ownerReferences", ()):
                if ref.get("controller") and ref["kind"] == group_kind.kind and ref["apiVersion"].rpartition("/")[0] == group_kind.group:
                    found.append(ObjectKey(group_kind.group, group_kind.kind, change.key.namespace, ref["name"]))
        return dict.fromkeys(found)

    return concerns


def any_owner(group_kind: GroupKind) -> Callable[[Change, Lookup], Iterable[ObjectKey]]:
    """Concern: every owner of the kind that the changed object names (before and after)."""

    def concerns(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
        found = []
        for state in (change.before, change.after):
            for ref in (state or {}).get("metadata", {}).get("ownerReferences", ()):
                if ref["kind"] == group_kind.kind and ref["apiVersion"].rpartition("/")[0] == group_kind.group:
                    found.append(ObjectKey(group_kind.group, group_kind.kind, change.key.namespace, ref["name"]))
        return dict.fromkeys(found)

    return concerns


def members_of_cluster(group_kind: GroupKind) -> Callable[[Change, Lookup], Iterable[ObjectKey]]:
    """Concern: every object of the kind in the changed object's cluster."""

    def concerns(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
        return lookup.cluster_keys(group_kind, change.cluster) if change.cluster is not None else ()

    return concerns


def the_cluster(cluster_kind: GroupKind) -> Callable[[Change, Lookup], Iterable[ObjectKey]]:
    """Concern: the Cluster the changed object belongs to."""

    def concerns(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
        if change.cluster is None:
            return ()
        return (ObjectKey(cluster_kind.group, cluster_kind.kind, change.cluster.namespace, change.cluster.name),)

    return concerns
