"""The tracer of a service: causes of records, spans of runs and requests, export by OTLP.

Without an OTLP endpoint only ids are made (results and annotations still carry them) and no span object exists. Every span that is made has a parent that
is made too: the root of an intent is emitted by the service that owns the cluster's kinds, all others derive its id.
Source: OpenTelemetry semantic conventions 1.44 (messaging, k8s); KEP-5915.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from typing import Any

import orjson
import redis.asyncio as redis
from redis.exceptions import RedisError

from fleetwake.tracing.context import TRACEPARENT_ANNOTATION, SpanId, attach, detach
from fleetwake.tracing.export import Exporter, Finished
from fleetwake.tracing.intents import IDLE_SECONDS, Intent, Intents, change_of, is_ours
from fleetwake.tracing.types import NO_CAUSE, Cause, Clock
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from schemas.records import ObjectRecord

log = logging.getLogger(__name__)
WRITES_REMEMBERED = 50_000
DELETIONS_REMEMBERED = 10_000
LINKS_MAX = 32
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
    def step(self, verb: str, key: str) -> Iterator[str]:
        """A client span for one request."""
        identity = self._identity.child()
        started = self._tracer.clock.now().timestamp()
        error = ""
        try:
            yield identity.traceparent()
        except BaseException as failure:
            error = f"{type(failure).__name__}: {failure}"
            raise
        finally:
            kind = key.split("/")[1] if key.count("/") >= 2 else key
            attributes = {"k8s.object": key, "fleetwake.verb": verb}
            ended = self._tracer.clock.now().timestamp()
            self._tracer.emit(Finished(f"{verb} {kind}", identity, self._identity.span, "client", started, ended, attributes, error=error))

    def note(self, name: str, attributes: Mapping[str, Any]) -> None:
        """An event on the run's span."""
        self.events.append((name, self._tracer.clock.now().timestamp(), attributes))


class Tracer:
    """``fleetwake.shell.ports.Tracing``."""

    def __init__(self, service: str, instance: str, endpoint: str, clock: Clock, redis_url: str = "") -> None:
        self.clock = clock
        self._service = service
        self._exporter = Exporter(endpoint, service, instance) if endpoint else None
        self._intents = Intents(self._intent_opened)
        self._writes: OrderedDict[str, Cause] = OrderedDict()
        self._redis = redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2, decode_responses=True) if redis_url else None
        self._deleting: OrderedDict[str, None] = OrderedDict()
        self._saving: dict[str, Intent] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._owns_roots = service == "reconcilers"

    async def start(self) -> None:
        """Begin to export, and load the open intents."""
        if self._exporter is not None:
            self._exporter.start()
        await self.restore()

    async def restore(self) -> None:
        """Load the intents that other workers, or an earlier life of this one, opened: their clusters may now be ours."""
        if self._redis is None:
            return
        with suppress(RedisError, OSError):
            for cluster, text in (await self._redis.hgetall("fleetwake:intents")).items():
                held = orjson.loads(text)
                if self.clock.now().timestamp() - held["opened"] < IDLE_SECONDS:
                    self._intents.restore(str(cluster), Intent(SpanId(*held["root"]), held["change"], held["opened"], held["opened"]))

    async def stop(self) -> None:
        """Flush."""
        for task in list(self._tasks):
            await asyncio.wait([task], timeout=1)
        if self._redis is not None:
            await self._redis.aclose()
        if self._exporter is not None:
            await asyncio.to_thread(self._exporter.stop)

    def emit(self, span: Finished) -> None:
        """Hand a finished span to the exporter."""
        if self._exporter is not None:
            self._exporter.add(span)

    # ---- causes -----------------------------------------------------------------------------------------------------------------------
    def received(self, record: ObjectRecord) -> Cause:
        """Resolve the cause of a record when the worker takes it, and emit its spans."""
        at = record.received or self.clock.now().timestamp()
        cluster = record.cluster
        own = self._writes.get(str(record.version.resource_version))
        if own is not None:
            return own
        if not cluster:
            # of no cluster, so of no trace either: which cluster's intent it joins or opens is known when a run of that cluster takes it up
            return NO_CAUSE if is_ours(record.actor.manager) else Cause(change=change_of(record))
        parent, intent = self._parent(record, cluster, at)
        if parent is None:
            return NO_CAUSE
        watch = parent.child()
        attributes = _record_attributes(record)
        self.emit(Finished(f"watch {record.key.kind}", watch, parent.span, "producer", at, max(record.produced, at), attributes))
        process = watch.child()
        now = max(self.clock.now().timestamp(), at)
        self.emit(Finished("objects process", process, watch.span, "consumer", max(record.produced, at), now, attributes))
        return Cause(process.traceparent(), change_of(record), intent.root.trace if intent else parent.trace)

    def _parent(self, record: ObjectRecord, cluster: str, at: float) -> tuple[SpanId | None, Intent | None]:
        if is_ours(record.actor.manager) and not self._deletion_of_cluster(record):
            intent = self._intents.touch(cluster, at)
            stamped = self._stamped(record)
            if stamped is not None and (intent is None or stamped.trace == intent.root.trace):
                return stamped, intent
            return (intent.root if intent else stamped), intent
        intent, _ = self._intents.foreign(cluster, record, at)
        return intent.root, intent

    def _deletion_of_cluster(self, record: ObjectRecord) -> bool:
        """Whether this is the first word of a Cluster's deletion: never ours, yet it leaves no field manager, so that the last writer looks like its author."""
        if record.key.group_kind != CLUSTER or record.value is None or b'"deletionTimestamp"' not in record.value:
            return False
        uid = str(orjson.loads(record.value)["metadata"].get("uid", ""))
        first = uid not in self._deleting
        self._deleting[uid] = None
        if len(self._deleting) > DELETIONS_REMEMBERED:
            self._deleting.popitem(last=False)
        return first

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
        span = SpanId.parse(trace)
        cause = Cause(trace, "", intent.root.trace if intent else span.trace if span else "")
        self._writes[resource_version] = cause
        if len(self._writes) > WRITES_REMEMBERED:
            self._writes.popitem(last=False)
        return cause

    # ---- spans ------------------------------------------------------------------------------------------------------------------------
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
        identity = parent.child() if parent is not None else SpanId.fresh()
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
        saving, self._saving = self._saving, {}
        with suppress(RedisError, OSError):
            if self._redis is not None:
                async with self._redis.pipeline(transaction=False) as pipe:
                    for cluster, intent in saving.items():
                        pipe.hset(
                            "fleetwake:intents", cluster, orjson.dumps({"root": list(intent.root), "change": intent.change, "opened": intent.opened}).decode()
                        )
                    await pipe.execute()


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
