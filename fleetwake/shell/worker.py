"""The worker: partitions, intake, wake-ups. What a record means to the cache, and which keys it concerns.

The bus side (``fleetwake.stream``, or the simulation) tells it which partitions it owns, feeds it the replay and the live records, and pumps its queues;
the run of a key is in ``fleetwake.shell.runner``. Order of events on one partition: assign → replay records → replay finished → live records.
Records of the live stream that the cache has had already (from the replay, or delivered again) may wake keys but never touch it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from fleetwake.kind import ANY_KIND, CONNECTION, Change, Kind, Watch
from fleetwake.shell.cache import SHARED_PARTITION, Cache, CacheLookup
from fleetwake.shell.carry_out import Hands, LocalHandler, Workloads
from fleetwake.shell.deletions import deletion_of
from fleetwake.shell.metrics import Metrics, OfKind, observe
from fleetwake.shell.ports import NO_CAUSE, Cause, Ports
from fleetwake.shell.queue import KeyedQueue, Token, Wakeup
from fleetwake.shell.readings import read_worker
from fleetwake.shell.resources import CRD, Resources
from fleetwake.shell.results import Results, Writer
from fleetwake.shell.runner import Runner
from fleetwake.shell.secret_bytes import SecretBytes
from fleetwake.shell.sights import Outside, Sights
from fleetwake.stream.partition import partition_of
from fleetwake.tracing.current import current_exemplar
from schemas.api.registry import KINDS as MODELS
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from schemas.records import DELETED, MOVED, ObjectRecord
from schemas.results import Planned
from schemas.topics import PARTITIONS_DEFAULT, Topics

log = logging.getLogger(__name__)
CLUSTER = GroupKind("cluster.x-k8s.io", "Cluster")


@dataclass(frozen=True, slots=True)
class Options:
    """The identity and limits of a worker. ``signal(kind name)`` is called when a key of the kind may run; ``fatal`` ends the process."""

    service: str
    instance: str
    incarnation: str
    signal: Callable[[str], None]
    fatal: Callable[[BaseException], None]
    fenced: Callable[[], bool]
    redact: Callable[[dict[str, Any]], dict[str, Any]]
    known: Callable[[Mapping[str, Any]], Mapping[str, str]] = lambda live: {}
    topics: Topics = field(default_factory=Topics)
    partitions: int = PARTITIONS_DEFAULT
    runs_max: int = 64
    run_seconds_max: float = 45.0
    owns_workloads: bool = True
    reads_workloads: bool = False
    shard: Callable[[int], bool] = lambda partition: True
    actions: Mapping[str, LocalHandler] = field(default_factory=dict)
    locals: Mapping[str, Any] = field(default_factory=dict)
    before_replay: Callable[[Sequence[Planned]], Awaitable[None]] | None = None
    seal_key: Callable[[], bytes] = bytes


class Partition:
    """One partition this worker owns. ``ready`` gates its runs; ``swept`` says that every key was queued once since it was assigned.

    ``cursor`` is the offset behind the last record that the cache has had.
    """

    __slots__ = ("cursor", "dead", "early", "number", "parked", "ready", "swept")

    def __init__(self, number: int) -> None:
        self.number = number
        self.ready = self.swept = self.dead = False
        self.cursor = 0
        self.early: list[tuple[int, ObjectRecord, Token | None]] = []
        self.parked: list[tuple[KindQueue, ObjectKey, Wakeup]] = []


@dataclass(frozen=True, slots=True)
class KindQueue:
    """A kind, its queue, and the series its runs count on."""

    kind: Kind[Any]
    queue: KeyedQueue
    measured: OfKind


class Worker:
    """See the module."""

    def __init__(self, kinds: Iterable[Kind[Any]], ports: Ports, workloads: Workloads, options: Options) -> None:
        self.options, self.ports, self.workloads = options, ports, workloads
        self.metrics = Metrics()
        self.cache = Cache(ports.clock.boot)
        self.secrets = SecretBytes(self.cache, ports.clock.boot)
        self.lookup = CacheLookup(self.cache)
        self.resources = Resources(MODELS)
        self.partitions: dict[int, Partition] = {}
        self.listeners: list[Callable[[Change], None]] = []
        self.leaving: list[Callable[[Change], None]] = []
        self.epoch = 0
        self.unverified: set[tuple[str, ObjectKey]] = set()
        self.queues: dict[str, KindQueue] = {}
        self._by_kind: dict[GroupKind, list[KindQueue]] = {}
        self._watches: dict[GroupKind, list[tuple[KindQueue, Watch]]] = {}
        self._any: list[tuple[KindQueue, Watch, frozenset[GroupKind]]] = []
        for kind in kinds:
            self._register(kind)
        self.results = Results(ports, options.topics, Writer(options.service, options.instance, options.incarnation, options.seal_key))
        self.hands = Hands(
            ports,
            self.cache,
            self.resources,
            workloads,
            options.fenced,
            self.changed,
            options.redact,
            options.known,
            lambda: self.epoch,
            options.actions,
            self.secrets,
            sent=self._sent,
        )
        self.runner = Runner(self)
        self.sights = self._sights() if options.owns_workloads else None
        read_worker(self)

    def _sent(self, verb: str, seconds: float) -> None:
        """A write was answered."""
        observe(self.metrics.write_seconds.labels(verb), seconds, current_exemplar())

    def _sights(self) -> Sights:
        """What is seen in workload clusters is told to the services that hold no connections."""
        options, ports = self.options, self.ports
        sights = Sights(
            Outside(
                topic=options.topics.objects,
                partitions=options.partitions,
                instance=options.instance,
                actor=f"fleetwake-{options.service}",
                bus=ports.bus,
                clock=ports.clock,
                in_flight=self.hands.in_flight,
                state=self.workloads.state,
                may_send=lambda number: number in self.partitions and self.partitions[number].ready and not options.fenced(),
                exists=lambda cluster: self.cache.get(ObjectKey(CLUSTER.group, CLUSTER.kind, cluster.namespace, cluster.name)) is not None,
                count=lambda kind: self.metrics.sights.labels(kind).inc(),
            )
        )
        self.listeners.append(sights.cluster_changed)
        return sights

    def _register(self, kind: Kind[Any]) -> None:
        queue = KeyedQueue(kind.name, self.ports.clock.boot, lambda: self.options.signal(kind.name))
        entry = KindQueue(kind, queue, self.metrics.of(kind.name))
        self.queues[kind.name] = entry
        self._by_kind.setdefault(kind.group_kind, []).append(entry)
        named = frozenset(watch.source for watch in kind.watches) | {kind.group_kind}
        for watch in kind.watches:
            if watch.source == ANY_KIND:
                self._any.append((entry, watch, named))
            else:
                self._watches.setdefault(watch.source, []).append((entry, watch))

    # ---- partitions -------------------------------------------------------------------------------------------------------------------
    def assign(self, numbers: Iterable[int], retained: bool = True) -> set[int]:
        """Own exactly these partitions from now on; no await, because records may already be arriving. Returns those that need a replay.

        ``retained`` False: membership lapsed in between, so somebody else may have owned what we held: everything is rebuilt.
        """
        wanted = set(numbers)
        if not retained:
            for number in list(self.partitions):
                self._drop(number)
        # a replay that was interrupted left half a cache; on top of it a bare tombstone could not be told from a newer delete
        for number in [number for number, partition in self.partitions.items() if number not in wanted or not partition.swept]:
            self._drop(number)
        for number in wanted:
            self.partitions.setdefault(number, Partition(number))
        return {number for number in wanted if not self.partitions[number].swept}

    def revoke(self) -> None:
        """Nothing is sent until the next assignment: runs of every partition wait."""
        for partition in self.partitions.values():
            partition.ready = False

    def resume(self, number: int) -> None:
        """A retained partition goes on where it was."""
        partition = self.partitions.get(number)
        if partition is not None and partition.swept:
            self._open(partition)

    def _drop(self, number: int) -> None:
        partition = self.partitions.pop(number)
        partition.dead, partition.ready = True, False
        if self.sights is not None:
            self.sights.dropped(number)
        keys = self.cache.keys_of_partition(number)
        for entry in self.queues.values():
            entry.queue.forget(keys)
        for key in keys:
            for entry in self._reconcilers(key):
                self.runner.forget(entry, key)
                self.unverified.discard((entry.kind.name, key))
            held = self.cache.get(key)
            if held is not None:
                for leaver in self.leaving:
                    leaver(Change(key, ClusterKey.parse(held.cluster) if held.cluster else None, held.state, None))
        self.cache.drop_partition(number)

    def replay(self, number: int, record: ObjectRecord) -> None:
        """Take a record of the replay: the cache only, nobody is woken."""
        if (number in self.partitions or number == SHARED_PARTITION) and self._belongs(record, number):
            self.ports.tracing.replayed(record)
            self._apply(record, number)

    def replay_finished(self, number: int, end: int) -> None:
        """The cache of the partition is whole up to offset ``end``: queue every key once, patiently, and let runs start."""
        partition = self.partitions.get(number)
        if partition is None or partition.dead:
            return
        partition.cursor = end
        partition.swept = True
        early, partition.early = partition.early, []
        for offset, record, token in early:
            self.live(number, offset, record, token)
            if token is not None:
                token.release()
        if self.sights is not None:
            self.sights.replay_finished(number)
        self._open(partition)
        keys = set(self.cache.keys_of_partition(number)) | {entry.key for entry in self._shared_keys(number)}
        for key in sorted(keys):
            held = self.cache.get(key)
            if held is not None:
                for listener in self.listeners:
                    listener(Change(key, ClusterKey.parse(held.cluster) if held.cluster else None, None, held.state))
            for entry in self._reconcilers(key):
                self.unverified.add((entry.kind.name, key))
                entry.queue.add(key, patient=True)

    def _reconcilers(self, key: ObjectKey) -> Sequence[KindQueue]:
        """Who reconciles the kind of a key: mostly one, or nobody."""
        return self._by_kind.get(key.group_kind, ())

    def _shared_keys(self, number: int) -> Iterable[Any]:
        for entry in self.queues.values():
            if entry.kind.shared:
                for found in self.cache.of_namespace(entry.kind.group_kind, ""):
                    if self._place(found.key) == number:
                        yield found

    def _open(self, partition: Partition) -> None:
        partition.ready = True
        parked, partition.parked = partition.parked, []
        for entry, key, wakeup in parked:
            entry.queue.add(key, received=wakeup.received, patient=wakeup.patient)
            for cause in wakeup.causes:
                entry.queue.add(key, cause)
            for token in wakeup.tokens:
                entry.queue.add(key, token=token)
                token.release()

    # ---- intake -----------------------------------------------------------------------------------------------------------------------
    def live(self, number: int, offset: int, record: ObjectRecord, token: Token | None) -> None:
        """Take a record of the live stream; the keys it concerns hold its offset by the token."""
        key = record.key
        if not self._belongs(record, number):
            return
        if number != SHARED_PARTITION:
            partition = self.partitions.get(number)
            if partition is None:
                return
            if not partition.swept:
                if token is not None:
                    token.take()
                partition.early.append((offset, record, token))
                return
            if offset < partition.cursor:
                self.metrics.records.labels("replayed").inc()
                for entry in self._reconcilers(key) if self.cache.get(key) is not None else ():
                    entry.queue.add(key, token=token, patient=True)
                return
            partition.cursor = offset + 1
        self.take(number, record, token)

    def _belongs(self, record: ObjectRecord, number: int) -> bool:
        """Whether the record is in its place and for us: a writer that was frozen may have put it where its cluster does not live."""
        if record.key.cluster and not self.holds(record):
            return False
        if number != SHARED_PARTITION and record.cluster and record.type != MOVED and partition_of(record.cluster, self.options.partitions) != number:
            self.metrics.records.labels("misplaced").inc()
            return False
        return True

    def holds(self, record: ObjectRecord) -> bool:
        """Whether the record is for this service: of what is seen in workload clusters, only who writes it or asked for it takes notice."""
        return not record.key.cluster or self.sights is not None or self.options.reads_workloads

    def take(self, number: int, record: ObjectRecord, token: Token | None = None) -> None:
        """Take a record that the cache has not had, and wake what it concerns."""
        change = self._apply(record, number)
        if change is None:
            self.metrics.records.labels("known").inc()
            return
        self.metrics.records.labels("new").inc()
        if record.received:
            now = self.ports.clock.now().timestamp()
            self.metrics.event_to_intake.observe(max(now - record.received, 0.0))
            self.metrics.record_to_intake.observe(max(now - record.produced, 0.0))
        if record.type != MOVED or change.after is not None:
            self.changed(change, self._cause(record, change), token, record.received)

    def _cause(self, record: ObjectRecord, change: Change) -> Cause:
        if record.key.cluster:
            # versions of another API server: they must not be taken for those of our writes
            return Cause(change=f"{record.type} {record.key.kind} {record.key.name} of {record.key.cluster}")
        return self.ports.tracing.received(record, deletion_of(change, self.cache))

    def _move(self, record: ObjectRecord) -> Change | None:
        """An object left its partition: it goes on where it went if that is ours too (its record there may have come, and been known, before)."""
        held = self.cache.get(record.key)
        target = partition_of(record.cluster, self.options.partitions) if record.cluster else SHARED_PARTITION
        if held is not None and record.cluster and target in self.partitions:
            return self.cache.upsert(held.key, held.version, held.state, record.cluster, target)
        # a later version, from a write of ours, does not keep it here: nobody would ever tell us of its end
        return self.cache.leave(record.key, max(record.version, held.version) if held is not None else record.version)

    def _apply(self, record: ObjectRecord, number: int) -> Change | None:
        key = record.key
        if not key.cluster:
            self.epoch = max(self.epoch, record.version.epoch)
        elif self.sights is not None:
            self.sights.take(number, record)
            return None
        if record.type in (DELETED, MOVED) or record.value is None:
            held = self.cache.get(key)
            if held is not None and held.partition != number:
                return None
            if record.type == MOVED:
                return self._move(record)
            uid = "" if record.value is None else str((orjson.loads(record.value).get("metadata") or {}).get("uid", ""))
            if key.group_kind == CRD:
                self.resources.take_crd(None, key)
            return self.cache.remove(key, record.version, uid)
        state = orjson.loads(record.value)
        if key.group_kind == CRD:
            try:
                self.resources.take_crd(state, key)
            except (KeyError, TypeError, AttributeError) as error:
                log.error("cannot read what CustomResourceDefinition %s defines: %r", key.name, error, extra={"about": key})
        return self.cache.upsert(key, record.version, state, record.cluster, number)

    def changed(self, change: Change, cause: Cause, token: Token | None = None, received: float = 0.0) -> None:
        """Wake every key that a change concerns."""
        for listener in self.listeners:
            listener(change)
        for own in self._reconcilers(change.key):
            self.runner.lift(own, change.key, change)
            if own.kind.own(change):
                own.queue.add(change.key, cause, token, received)
        for entry, watch in self._watches.get(change.key.group_kind, ()):
            self._wake(entry, watch, change, cause, token, received)
        if change.key.group_kind != CONNECTION and not change.key.cluster:
            for entry, watch, named in self._any:
                if change.key.group_kind not in named:
                    self._wake(entry, watch, change, cause, token, received)

    def _wake(self, entry: KindQueue, watch: Watch, change: Change, cause: Cause, token: Token | None, received: float) -> None:
        try:
            concerned = tuple(watch.concerns(change, self.lookup)) if watch.matters(change) else ()
        except Exception as error:
            # an object of a shape nobody thought of must not end the process: it would meet it again in every replay
            entry.measured.panics.inc()
            log.error("cannot tell which %s a change of %s concerns: %r", entry.kind.name, change.key, error, exc_info=error, extra={"about": change.key})
            return
        for key in concerned:
            if self.cache.get(key) is not None:
                self.runner.lift(entry, key, change)
                entry.queue.add(key, cause, token, received)

    def workload_changed(self, change: Change) -> None:
        """A change seen in a workload cluster (Node, Pod, Connection) of a partition this worker owns."""
        if self.sights is not None:
            self.sights.changed(change)
        self.changed(change, NO_CAUSE)

    def wake(self, key: ObjectKey) -> None:
        """Wake one key for a reason of the worker's own (a look came back, a service's local value changed)."""
        for entry in self._reconcilers(key):
            entry.queue.add(key)

    # ---- running ----------------------------------------------------------------------------------------------------------------------
    def _place(self, key: ObjectKey) -> int:
        """The partition whose owner works on a key: its cluster's, or for kinds of no cluster that of hash(key)."""
        entry = self.cache.get(key)
        if entry is None:
            return SHARED_PARTITION
        return partition_of(str(key), self.options.partitions) if entry.partition == SHARED_PARTITION else entry.partition

    def pump(self, name: str) -> None:
        """Start runs of a kind while there are slots."""
        entry = self.queues[name]
        while self.runner.free > 0:
            taken = entry.queue.next()
            if taken is None:
                return
            key, wakeup = taken
            partition = self.partitions.get(self._place(key))
            if partition is None or not self.options.shard(partition.number):
                self.runner.forget(entry, key)
                for token in wakeup.tokens:
                    token.release()
                entry.queue.finished(key)
            elif not partition.ready:
                partition.parked.append((entry, key, wakeup))
                entry.queue.running.pop(key, None)
            else:
                self.runner.start(entry, key, wakeup, partition)

    def pump_all(self) -> None:
        """Start runs of every kind while there are slots."""
        for name in self.queues:
            self.pump(name)

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing is queued."""
        return self.runner.running == 0 and all(len(entry.queue) == 0 for entry in self.queues.values())
