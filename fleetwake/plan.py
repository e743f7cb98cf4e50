"""What a decision wants done: steps in order, with the reason of each, and when to look again.

A plan is data. It holds no secret value: leaves that only the shell can fill (an answer's uid, fresh keys, bytes of a Secret) are
placeholders (``UidOf``, ``Computed``) that the shell resolves when it sends the request. Every step is idempotent and names the uid of the object it
means, so that a plan carried out twice, or after a crash in its middle, leaves the same world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from schemas.keys import ClusterKey, ObjectKey

Body: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class UidOf:
    """A leaf of a body: the uid of an object that an earlier step of the same plan creates (or that exists by then)."""

    key: ObjectKey


@dataclass(frozen=True, slots=True)
class SecretInputs:
    """What a ``Computed`` leaf is rendered from.

    ``secrets`` maps the ObjectKey of each Secret asked for to its decoded data (missing Secrets are absent); ``private_keys`` are fresh
    keys as PEM, one per algorithm asked for, in order; ``now`` is the time of sending.
    """

    secrets: Mapping[ObjectKey, Mapping[str, bytes]]
    private_keys: tuple[bytes, ...]
    now: datetime


@dataclass(frozen=True, slots=True)
class Computed:
    """A leaf of a body that depends on secret material.

    ``what`` names it in records and logs (``"ca certificate and key"``); ``render`` is pure and returns a JSON value (bytes values of a
    Secret's ``data`` as ``bytes``: the shell encodes them). It raises ``fleetwake.errors.TerminalError`` when an input is unusable.
    """

    what: str
    render: Callable[[SecretInputs], Any]
    secrets: tuple[ObjectKey, ...] = ()
    private_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Create:
    """POST an object with its whole first state. A name taken is success only if the holder is ours (``owner_uid``) and not being deleted.

    ``owner_uid``: uid of the controller the object must have for AlreadyExists to count as success; ``""`` accepts any holder
    (for Secrets the stored bytes win). The body names apiVersion, kind, metadata. For a workload cluster ``cluster`` is its key.
    ``apply``: create by server-side apply under ``manager``, so that later applies of the same manager can also take fields away (Machines,
    MachineSets). The derived name makes the repeat harmless; an answer that is being deleted, or is controlled by somebody else, is a conflict.
    """

    body: Body
    reason: str
    owner_uid: str | UidOf = ""
    cluster: str = ""
    apply: bool = False
    manager: str = ""

    @property
    def key(self) -> ObjectKey:
        """The key of the object created."""
        meta = self.body["metadata"]
        group = str(self.body["apiVersion"]).rpartition("/")[0]
        return ObjectKey(group, str(self.body["kind"]), str(meta.get("namespace", "")), str(meta["name"]), self.cluster)


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply, forced, of everything the field manager owns on the object (or on its ``status``).

    ``body`` is the fields alone (no apiVersion, kind, name: the shell adds them from ``key`` and ``api_version``). ``uid`` is sent so that a vanished
    object is never re-created; ``resource_version`` is sent when the write must not overtake another (latches). Steps whose ``subresource`` is
    ``status`` are carried out even when an earlier step failed: they tell what was observed. ``informs``: nobody waits for this write, the
    shell may put it off for a moment (``fleetwake.shell.spacing``) and then write what is true by then. ``follows``: it tells what the steps before it
    bring about, so that it is not carried out when one of them failed.
    """

    key: ObjectKey
    api_version: str
    uid: str
    body: Body
    reason: str
    manager: str = ""
    subresource: str = ""
    resource_version: str = ""
    informs: bool = False
    follows: bool = False


@dataclass(frozen=True, slots=True)
class Patch:
    """Merge patch (JSON merge; ``strategic`` for Nodes) of fields of the main resource: finalizers, owner references, labels, latched spec fields.

    Lists are replaced whole, so a patch of a list carries ``resource_version``. ``api_version`` is the version to address the kind with.
    """

    key: ObjectKey
    api_version: str
    uid: str
    body: Body
    reason: str
    resource_version: str = ""
    subresource: str = ""
    strategic: bool = False


@dataclass(frozen=True, slots=True)
class SyncMetadata:
    """Bring labels and annotations of an object we created (infrastructure, bootstrap configuration) to what its template says now.

    The shell reads the object live, takes the keys that ``manager`` owns by its managedFields, and sends one merge patch: wanted values set, keys owned but
    no longer wanted removed. Keys of anybody else stay. No difference, no request.
    """

    key: ObjectKey
    api_version: str
    uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    reason: str
    manager: str = ""


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE with preconditions uid and, where given, resourceVersion. A missing object is success."""

    key: ObjectKey
    api_version: str
    uid: str
    reason: str
    resource_version: str = ""
    propagation: str = "Background"


@dataclass(frozen=True, slots=True)
class Evict:
    """Eviction (policy/v1) of a Pod of a workload cluster. 429 (a disruption budget forbids it) and 404 are answers, not errors."""

    key: ObjectKey
    uid: str
    reason: str
    grace_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class EtcdRemoveMember:
    """Remove a member from a workload cluster's etcd, by way of the members on ``via`` (node names, tried in order)."""

    cluster: ClusterKey
    member_id: int
    member_name: str
    via: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class EtcdMoveLeader:
    """Move etcd's leadership to the member on node ``to``, or to the first of ``others`` that can take it; asked of the current leader.

    That one of them leads already is success.
    """

    cluster: ClusterKey
    to_member_id: int
    to: str
    leader: str
    reason: str
    others: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """Read from a workload cluster what no watch tells (pods of a node, etcd members). The answer is stored and wakes the key; never a write.

    ``query`` is one of the names of ``fleetwake.kind.Workload.looks``: ``etcd``, ``pods/<node>``, ``volumes/<node>``,
    ``certificate/<node>[:<port>]``, ``get/<group>/<version>/<kind>/<namespace>/<name>``. ``via`` are node names to ask (etcd), best first.
    """

    cluster: ClusterKey
    query: str
    reason: str
    via: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes Event about an object, best effort: never fails a run."""

    key: ObjectKey
    api_version: str
    uid: str
    reason: str
    message: str
    type: str = "Normal"


@dataclass(frozen=True, slots=True)
class Local:
    """An effect inside this process alone, carried out by the service itself (the emulated machines of the development provider).

    ``action`` names a handler the service registered with its worker; ``arguments`` are JSON values. Idempotent like every step. ``about``: it tells somebody
    what was decided about this object, which is a result to be kept though nothing is written.
    """

    action: str
    reason: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    about: ObjectKey | None = None


@dataclass(frozen=True, slots=True)
class Together:
    """Branches that do not depend on each other, each a sequence in order. Carried out side by side, all of them even if one fails."""

    branches: tuple[tuple[Step, ...], ...]
    reason: str = ""


Write: TypeAlias = Create | Apply | Patch | SyncMetadata | Delete | Evict | EtcdRemoveMember | EtcdMoveLeader
Step: TypeAlias = Write | Look | Event | Local | Together


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run wants.

    ``requeue_after`` is counted from the observation. ``rests_on_absence``: some step is right only because something was *not* there
    (finalizer removal, orphan collection, "no workers left"): everything read is then confirmed by live reads before the first step.
    ``guarded``: some step has an effect outside the management API (etcd, eviction, Node delete): the same confirmation, at most 2 s old.
    """

    steps: tuple[Step, ...] = ()
    requeue_after: timedelta | None = None
    rests_on_absence: bool = False
    guarded: bool = False

    @property
    def writes(self) -> bool:
        """Whether carrying the plan out changes anything outside this process."""
        return any(not isinstance(step, Look | Event | Local) for step in flatten(self.steps))

    @property
    def recorded(self) -> bool:
        """Whether the audit trail keeps it: it changes something, or somebody is told what was decided."""
        return self.writes or any(isinstance(step, Local) and step.about is not None for step in flatten(self.steps))


def flatten(steps: Iterable[Step]) -> Iterable[Step]:
    """All steps in order, those of branches included, without the ``Together`` itself."""
    for step in steps:
        if isinstance(step, Together):
            for branch in step.branches:
                yield from flatten(branch)
        else:
            yield step


def soonest(*waits: timedelta | None) -> timedelta | None:
    """The shortest of the waits that are given; None when none is. Never negative."""
    given = [max(wait, timedelta(0)) for wait in waits if wait is not None]
    return min(given, default=None)
