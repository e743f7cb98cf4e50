"""The tracer of a service: causes of records, spans of runs and requests, export by OTLP.

Without an OTLP endpoint only ids are made (results and annotations still carry them) and no span object exists. Every span that is made has a parent that
is made too: the root of an intent is emitted by the service that owns the cluster's kinds, all others derive its id.
Source: OpenTelemetry semantic conventions 1.44 (messaging, k8s); KEP-5915.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from typing import Any

import orjson
from redis.exceptions import RedisError

from fleetwake.connections.otlp import Otlp
from fleetwake.connections.redis import Redis
from fleetwake.tracing.context import TRACEPARENT_ANNOTATION, SpanId, attach, detach
from fleetwake.tracing.current import CURRENT, CurrentRun
from fleetwake.tracing.export import Exporter, Finished
from fleetwake.tracing.intents import IDLE_SECONDS, Intent, Intents, OwnDeletes, change_of, is_ours
from fleetwake.tracing.types import NO_CAUSE, Cause, Clock, Deletion
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from schemas.records import ObjectRecord
from schemas.results import Planned

log = logging.getLogger(__name__)
WRITES_REMEMBERED = 50_000
REDIS_TIMEOUT_SECONDS = 2.0
LINKS_MAX = 32
LOOKS_AFTER_SECONDS = (0.02, 0.03, 0.05, 0.1, 0.3, 1.0)
"""Waits before Redis is asked for the intent that a deletion may have opened in the service that owns the roots: it reads the same record then."""
INTENTS = "fleetwake:intents"
"""Redis hash: the open intent of each cluster as JSON."""
DELETE = "delete"
"""The verb of the steps that delete."""
MANAGEMENT_API, WORKLOAD_API, WORKLOAD_MARK = "kube-apiserver", "workload-apiserver", "@"
"""Who answers a request, by name: neither sends spans, and a service graph has a node for each all the same. The mark is in the key of a workload's object."""
WATCHER = "watcher"
"""The service whose work the watch spans tell: it cannot know their trace, so who takes its record emits them in its name."""
CLUSTER = GroupKind("cluster.x-k8s.io", "Cluster")


class RunSpan:
    """``fleetwake.shell.ports.RunTrace``."""

    def __init__(self, tracer: Tracer, identity: SpanId, links: tuple[str, ...]) -> None:
        self._tracer, self._identity, self.links = tracer, identity, links
        self.attributes: dict[str, Any] = {}
        self.events: list[tuple[str, float, Mapping[str, Any]]] = []

    @property
    def traceparent(self) -> str:
        """The run's own context."""
        return self._identity.traceparent()

    @contextmanager
    def step(self, verb: str, key: str, audit_id: str = "") -> Iterator[str]:
        """A client span for one request."""
        identity = self._identity.child()
        started = self._tracer.clock.now().timestamp()
        error = ""
        if verb == DELETE:
            # before it is sent: the record of the deletion often overtakes the answer
            self._tracer.deletes.add(key, self._identity, started)
        try:
            yield identity.traceparent()
        except BaseException as failure:
            error = f"{type(failure).__name__}: {failure}"
            raise
        finally:
            kind = key.split("/")[1] if key.count("/") >= 2 else key
            peer = WORKLOAD_API if WORKLOAD_MARK in key else MANAGEMENT_API
            attributes = {"k8s.object": key, "fleetwake.verb": verb, "fleetwake.audit_id": audit_id, "peer.service": peer}
            ended = self._tracer.clock.now().timestamp()
            self._tracer.emit(Finished(f"{verb} {kind}", identity, self._identity.span, "client", started, ended, attributes, error=error))

    def note(self, name: str, attributes: Mapping[str, Any]) -> None:
        """An event on the run's span."""
        self.events.append((name, self._tracer.clock.now().timestamp(), attributes))


class Tracer:
    """``fleetwake.shell.ports.Tracing``."""

    def __init__(self, service: str, instance: str, otlp: Otlp, clock: Clock, redis: Redis | None = None) -> None:
        self.clock = clock
        self._service = service
        self._exporter = Exporter(otlp, service, instance) if otlp else None
        self._intents = Intents(self._intent_opened)
        self._writes: OrderedDict[str, Cause] = OrderedDict()
        self._connection = redis
        self._redis = redis.async_client(REDIS_TIMEOUT_SECONDS) if redis else None
        self.deletes = OwnDeletes()
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._saving: dict[str, Intent] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._owns_roots = service == "reconcilers"

    async def start(self) -> None:
        """Begin to export, and load the open intents."""
        if self._exporter is not None:
            self._exporter.start()
        await self.restore()

    async def restore(self, left: Sequence[Planned] = ()) -> None:
        """Load the intents that other workers, or an earlier life of this one, opened: their clusters may now be ours.

        Redis has them, with the change that opened each; ``left``, the newest results of our partitions in order, stands in for what Redis has lost, and
        tells of deletes that a dead owner had sent.
        """
        now = self.clock.now().timestamp()
        known = await self._restore_from_redis(now)
        for run in left:
            span, at = SpanId.parse(run.trace), run.at.timestamp()
            if span is not None:
                for step in run.steps:
                    if step.verb == DELETE:
                        self.deletes.add(step.target, span, at)
            # the root of the trace of a run that no intent caused is the run itself: it cannot be told from the trace
            if run.intent and now - at < IDLE_SECONDS and known.get(run.cluster, run.intent) == run.intent:
                self._intents.restore(run.cluster, Intent(SpanId.root(run.intent), run.cause.change, at, at))

    async def _restore_from_redis(self, now: float) -> dict[str, str]:
        """The trace of each open intent that Redis has, by cluster."""
        known: dict[str, str] = {}
        if self._redis is None or self._connection is None:
            return known
        try:
            held = await self._redis.hgetall(INTENTS)
        except (RedisError, OSError) as error:
            log.warning("intents that others opened are not known: %s", self._connection.told(error))
            return known
        for cluster, text in held.items():
            intent = _intent(str(text))
            if now - intent.opened < IDLE_SECONDS:
                known[str(cluster)] = intent.root.trace
                self._intents.restore(str(cluster), intent)
        return known

    async def stop(self) -> None:
        """Flush."""
        for looking in self._looking.values():
            looking.cancel()
        for task in list(self._tasks):
            await asyncio.wait([task], timeout=1)
        if self._redis is not None:
            await self._redis.aclose()
        if self._exporter is not None:
            await asyncio.to_thread(self._exporter.stop)

    @property
    def exported(self) -> tuple[int, int]:
        """Spans that the collector took, and spans lost."""
        return (self._exporter.exported, self._exporter.dropped) if self._exporter is not None else (0, 0)

    def emit(self, span: Finished) -> None:
        """Hand a finished span to the exporter."""
        if self._exporter is not None:
            self._exporter.add(span)

    # ---- causes -----------------------------------------------------------------------------------------------------------------------
    def received(self, record: ObjectRecord, deletion: Deletion = Deletion.NONE) -> Cause:
        """Resolve the cause of a record when the worker takes it, and emit its spans."""
        at = record.received or self.clock.now().timestamp()
        cluster = record.cluster
        own = self._writes.get(str(record.version.resource_version))
        if own is not None:
            return own
        if not cluster:
            # of no cluster, so of no trace either: which cluster's intent it joins or opens is known when a run of that cluster takes it up
            return NO_CAUSE if is_ours(record.actor.manager) else Cause(change=change_of(record))
        parent, intent = self._parent(record, cluster, at) if deletion is Deletion.NONE else self._deleter(record, cluster, at, deletion)
        if parent is None:
            return NO_CAUSE
        watch = parent.child()
        attributes = _record_attributes(record)
        self.emit(Finished(f"watch {record.key.kind}", watch, parent.span, "producer", at, max(record.produced, at), attributes, service=WATCHER))
        process = watch.child()
        now = max(self.clock.now().timestamp(), at)
        self.emit(Finished("objects process", process, watch.span, "consumer", max(record.produced, at), now, attributes))
        return Cause(process.traceparent(), change_of(record), intent.root.trace if intent else parent.trace)

    def replayed(self, record: ObjectRecord) -> None:
        """Catch up on a record of the replay: who owned the cluster before may have died before it took a user's change."""
        at, cluster = record.received, record.cluster
        if not cluster or self.clock.now().timestamp() - at > IDLE_SECONDS:
            return
        intent = self._intents.current(cluster, at)
        if intent is not None and at <= intent.opened:
            return
        if is_ours(record.actor.manager):
            self._intents.touch(cluster, at)
        elif record.actor.manager:
            self._intents.foreign(cluster, record, at)

    def _parent(self, record: ObjectRecord, cluster: str, at: float) -> tuple[SpanId | None, Intent | None]:
        if is_ours(record.actor.manager):
            intent = self._intents.touch(cluster, at)
            stamped = self._stamped(record)
            if stamped is not None and (intent is None or stamped.trace == intent.root.trace):
                return stamped, intent
            return (intent.root if intent else stamped), intent
        intent, _ = self._intents.foreign(cluster, record, at)
        return intent.root, intent

    def _deleter(self, record: ObjectRecord, cluster: str, at: float, deletion: Deletion) -> tuple[SpanId | None, Intent | None]:
        """What a deletion that begins continues: it leaves no field manager, so that the last writer looks like its author."""
        own = self.deletes.take(str(record.key), at)
        if own is not None:
            intent = self._intents.touch(cluster, at)
            return own, intent if intent is not None and intent.root.trace == own.trace else None
        # nobody of ours deletes a Cluster; of all else only the service whose runs delete knows whether they did
        knows = self._owns_roots or record.key.group_kind == CLUSTER
        if deletion is Deletion.FOLLOWS or not knows:
            self._look_up(cluster)
            intent = self._intents.touch(cluster, at)
            if intent is not None or not knows:
                return (intent.root if intent else None), intent
        intent, _ = self._intents.foreign(cluster, record, at)
        return intent.root, intent

    def _look_up(self, cluster: str) -> None:
        """Soon know the intent that the owner of the roots opens for a deletion."""
        if self._redis is not None and not self._owns_roots and cluster not in self._looking:
            task = self._looking[cluster] = asyncio.get_running_loop().create_task(self._look(cluster))
            task.add_done_callback(lambda _: self._looking.pop(cluster, None))

    async def _look(self, cluster: str) -> None:
        for seconds in LOOKS_AFTER_SECONDS:
            await asyncio.sleep(seconds)
            with suppress(RedisError, OSError):
                text = await self._redis.hget(INTENTS, cluster) if self._redis is not None else None
                if text is not None:
                    self._intents.restore(cluster, _intent(str(text)))

    @staticmethod
    def _stamped(record: ObjectRecord) -> SpanId | None:
        if record.value is None or TRACEPARENT_ANNOTATION.encode() not in record.value:
            return None
        annotations = orjson.loads(record.value).get("metadata", {}).get("annotations") or {}
        return SpanId.parse(annotations.get(TRACEPARENT_ANNOTATION, ""))

    def wrote(self, uid: str, resource_version: str, trace: str, cluster: ClusterKey | None) -> Cause:
        """Remember that a write of ours made this version."""
        at = self.clock.now().timestamp()
        intent = self._intents.touch(str(cluster), at) if cluster else None
        # a run that continues no intent has a trace whose root is itself: nobody may take that for an intent's
        cause = Cause(trace, "", intent.root.trace if intent else "")
        self._writes[resource_version] = cause
        if len(self._writes) > WRITES_REMEMBERED:
            self._writes.popitem(last=False)
        return cause

    # ---- spans ------------------------------------------------------------------------------------------------------------------------
    def continues(self, cluster: ClusterKey | None, causes: Iterable[Cause]) -> str:
        """The trace that a run with these causes continues, as ``run`` would find it."""
        for cause in causes:
            if (span := SpanId.parse(cause.traceparent)) is not None:
                return span.trace
        intent = self._intents.current(str(cluster), self.clock.now().timestamp()) if cluster else None
        return intent.root.trace if intent is not None else ""

    def run(self, kind: str, key: ObjectKey, cluster: ClusterKey | None, causes: Iterable[Cause], started: datetime) -> AbstractContextManager[RunSpan]:
        """The span of one run that has steps."""
        return self._run(kind, key, cluster, [cause for cause in causes if cause.traceparent or cause.change], started)

    @contextmanager
    def _run(self, kind: str, key: ObjectKey, cluster: ClusterKey | None, causes: list[Cause], started: datetime) -> Iterator[RunSpan]:
        at = started.timestamp()
        traced = [cause for cause in causes if cause.traceparent]
        parent = SpanId.parse(traced[0].traceparent) if traced else None
        if parent is None and cluster:
            # only who emits the roots may open an intent that no record of the cluster opens
            opens = bool(causes) and self._owns_roots
            intent = self._intents.shared(str(cluster), causes[0].change, at) if opens else self._intents.touch(str(cluster), at)
            parent = intent.root if intent else None
        current = CURRENT.get()
        if parent is None:
            # lines that the run wrote before it had a span name the trace already
            first = SpanId(current.trace_id, SpanId.fresh().span) if isinstance(current, CurrentRun) else SpanId.fresh()
            if cluster is None and causes:
                parent = self._alone(key, causes[0].change, SpanId.root(first.trace), at)
        identity = parent.child() if parent is not None else first
        if isinstance(current, CurrentRun):
            current.take_trace(identity.trace)
        links = tuple(cause.traceparent for cause in traced[: LINKS_MAX + 1])
        span = RunSpan(self, identity, links)
        error = ""
        token = attach(identity)
        try:
            yield span
        except BaseException as failure:
            error = f"{type(failure).__name__}: {failure}"
            raise
        finally:
            detach(token)
            attributes = {
                "k8s.object.kind": kind,
                "k8s.object.name": key.name,
                "k8s.namespace.name": key.namespace,
                "capi.cluster.name": cluster.name if cluster else "",
                "fleetwake.causes": len(causes),
                **span.attributes,
            }
            ended = self.clock.now().timestamp()
            parent_id = parent.span if parent is not None else ""
            self.emit(Finished(f"reconcile {kind}", identity, parent_id, "internal", at, ended, attributes, links[1:], tuple(span.events), error))

    # ---- intents ----------------------------------------------------------------------------------------------------------------------
    def _alone(self, key: ObjectKey, change: str, root: SpanId, at: float) -> SpanId:
        """The root of the trace of a change to what belongs to no cluster: told by whoever runs for it, and nobody else's to continue."""
        attributes = {"k8s.object.kind": key.kind, "k8s.object.name": key.name, "k8s.namespace.name": key.namespace, "fleetwake.change": change}
        self.emit(Finished(f"intent {key.kind} {key.namespace}/{key.name}", root, "", "internal", at, at, attributes))
        return root

    def _intent_opened(self, cluster: str, intent: Intent) -> None:
        if self._owns_roots:
            attributes = {"capi.cluster.name": cluster.rpartition("/")[2], "k8s.namespace.name": cluster.partition("/")[0], "fleetwake.change": intent.change}
            self.emit(Finished(f"intent {cluster}", intent.root, "", "internal", intent.opened, intent.opened, attributes))
            if self._redis is not None:
                self._saving[cluster] = intent
                if not self._tasks:
                    task = asyncio.get_running_loop().create_task(self._save())
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)

    async def _save(self) -> None:
        # again until nothing is left: what is opened while Redis answers starts no task of its own
        while self._saving and self._redis is not None:
            saving, self._saving = self._saving, {}
            with suppress(RedisError, OSError):
                async with self._redis.pipeline(transaction=False) as pipe:
                    for cluster, intent in saving.items():
                        text = orjson.dumps({"root": list(intent.root), "change": intent.change, "opened": intent.opened}).decode()
                        pipe.hset(INTENTS, cluster, text)
                    await pipe.execute()


def _intent(text: str) -> Intent:
    """An intent as Redis holds it; its last activity is not kept there."""
    held = orjson.loads(text)
    return Intent(SpanId(*held["root"]), held["change"], held["opened"], held["opened"])


def _record_attributes(record: ObjectRecord) -> dict[str, Any]:
    return {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "k8s.object.kind": record.key.kind,
        "k8s.object.name": record.key.name,
        "k8s.namespace.name": record.key.namespace,
        "k8s.object.resource_version": str(record.version.resource_version),
        "capi.cluster.name": record.cluster.rpartition("/")[2],
        "fleetwake.actor": record.actor.manager,
        "fleetwake.type": record.type,
    }
