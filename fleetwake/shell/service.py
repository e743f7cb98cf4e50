"""A service that reconciles, put together from settings: ports, worker, Faust app, health.

``run_service`` is what ``fleetwake reconcile`` and its likes call; a service brings its kinds and, where it has any, its local actions.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import setproctitle

from fleetwake.errors import InvalidError
from fleetwake.exposition import RequestCounter
from fleetwake.kind import Kind
from fleetwake.kube import config
from fleetwake.kube.client import ApiClient
from fleetwake.kube.pki import KEY_ALGORITHMS, KeyPool
from fleetwake.kube.redaction import awaited_redaction_key
from fleetwake.kube.sealing import awaited_sealing_key
from fleetwake.settings import Settings
from fleetwake.shell.carry_out import LocalHandler, Workloads
from fleetwake.shell.dial import Dialer, send_over
from fleetwake.shell.faust_app import Membership, StreamApp
from fleetwake.shell.ports import Ports, Request, Response, Tracing
from fleetwake.shell.readings import read_connections
from fleetwake.shell.readmodel import ReadModel
from fleetwake.shell.recorded import RecordedWorkloads
from fleetwake.shell.worker import Options, Worker
from fleetwake.shell.workload import ConnectionDirector, NoWorkloads, Outside, WorkloadConnections
from fleetwake.stream.bus import Bus
from fleetwake.stream.web import HealthServer
from fleetwake.tracing.spans import Tracer
from schemas.access import group_of
from schemas.sensitive import hashes_of, redact

log = logging.getLogger(__name__)
GC_THRESHOLDS = (20_000, 25, 50)
"""Allocations before a collection of the youngest generation, and how many of each before the next older one."""
WORKLOAD_CLUSTERS = "workload-clusters"
"""The host under which requests to all workload clusters are counted."""
KEYS_AHEAD = 10
"""RSA keys kept ready: two clusters' worth; generation then never waits in a run."""


class SystemClock:
    """``fleetwake.shell.ports.Clock`` of this machine."""

    def now(self) -> datetime:
        """The wall clock, UTC."""
        return datetime.fromtimestamp(time.time(), UTC)

    def boot(self) -> float:
        """Seconds since boot, suspension included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class Kube:
    """``fleetwake.shell.ports.KubePort`` over the management API's client."""

    def __init__(self) -> None:
        self.client: ApiClient | None = None

    async def send(self, request: Request) -> Response:
        """Send one request."""
        if self.client is None:
            raise RuntimeError("the API client has not been started")
        return await send_over(self.client, request, request.audit_id)


class Keys:
    """``fleetwake.shell.ports.KeyPort`` over the pool."""

    def __init__(self, pool: KeyPool) -> None:
        self._pool = pool

    async def take(self, algorithm: str) -> bytes:
        """A fresh private key as PEM.

        Raises:
            InvalidError: the algorithm is not one of Cluster API's.
        """
        for known in KEY_ALGORITHMS:
            if known == algorithm:
                return await self._pool.take(known)
        raise InvalidError(f"{algorithm} is none of {', '.join(KEY_ALGORITHMS)}", operation="generate a private key")


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """What makes a service: its name (the folder's), its kinds, and hooks.

    ``before`` runs once the ports are open and before the group is joined; ``after`` runs at the end. ``locals`` and ``actions`` serve Local steps.
    ``owns_workloads``: it holds the connections to workload clusters, and records what it sees; ``reads_workloads``: it reads those records.
    """

    name: str
    kinds: tuple[Kind[Any], ...]
    group: str = ""
    owns_workloads: bool = True
    reads_workloads: bool = False
    shard: Callable[[int], bool] = lambda partition: True
    actions: Mapping[str, LocalHandler] = field(default_factory=dict)
    locals: Mapping[str, Any] = field(default_factory=dict)
    before: Callable[[Service], Awaitable[None]] | None = None
    after: Callable[[Service], Awaitable[None]] | None = None


class Service:
    """One running service. ``worker``, ``kube`` and ``settings`` are there for the hooks."""

    def __init__(self, spec: ServiceSpec, settings: Settings) -> None:
        self.spec, self.settings = spec, settings
        self.clock = SystemClock()
        self.kube = Kube()
        self.bus = Bus(settings.kafka, f"{spec.name}-{settings.instance}")
        self.readmodel = ReadModel(settings.redis)
        self.keys = KeyPool({"RSA-2048": KEYS_AHEAD} if spec.owns_workloads else {})
        self.tracer = Tracer(spec.name, settings.instance, settings.otlp, self.clock, settings.redis)
        self._redaction_key = self._sealing_key = b""
        self.connections = WorkloadConnections(Outside(self._dial, self.clock, self._workload_changed)) if spec.owns_workloads else None
        recorded = RecordedWorkloads(lambda: self.worker.cache, self.clock.now, settings.partitions) if spec.reads_workloads else NoWorkloads()
        self._workloads: Workloads = self.connections if self.connections is not None else recorded
        group = spec.group or group_of(spec.name, settings.topic_prefix)
        datadir = settings.data_dir or tempfile.mkdtemp(prefix="fleetwake-")
        self.stream = StreamApp(
            Membership(group, settings.instance, settings.kafka, str(Path(datadir) / f"faust-{settings.instance}"), settings.session_seconds),
            self._worker,
            self._start,
            self._stop,
        )
        self.worker: Worker = self.stream.worker
        # which cluster refuses is told by capi_cluster_cache_*; a host of each would make as many series as there are clusters and codes
        self.dialer = Dialer(self.kube, self.clock, self.worker.secrets, RequestCounter(self.worker.metrics.requests, WORKLOAD_CLUSTERS))
        self.web = HealthServer((settings.web_bind, settings.web_port), self.worker.metrics.registry, self.stream.missing, self.stream.stalled, self._status)
        self.web.refresh = self.stream.intake.look_at_ends
        self._measure()

    def _measure(self) -> None:
        metrics = self.worker.metrics
        metrics.lag.source = self.stream.intake.lag
        metrics.unfinished_records.source = self.stream.intake.unfinished
        metrics.heartbeat_age.source = lambda: [((), self.stream.heartbeats.age())] if self.stream.heartbeats.known else []
        metrics.fenced.source = lambda: [((), float(self.stream.fenced()))] if self.stream.heartbeats.known else []
        metrics.readmodel_failures.source = lambda: [((), self.readmodel.dropped)]
        metrics.spans_exported.source = lambda: [((), self.tracer.exported[0])]
        metrics.spans_dropped.source = lambda: [((), self.tracer.exported[1])]
        if self.connections is not None:
            read_connections(self.worker, self.connections)

    def _worker(self, stream: StreamApp) -> Worker:
        tracing: Tracing = self.tracer
        options = Options(
            service=self.spec.name,
            instance=self.settings.instance,
            incarnation=str(uuid.uuid4()),
            signal=stream.signal,
            fatal=stream.crash,
            fenced=stream.fenced,
            redact=lambda state: redact(state, self._redaction_key),
            known=lambda live: hashes_of(live, self._redaction_key),
            topics=self.settings.topics,
            partitions=self.settings.partitions,
            owns_workloads=self.spec.owns_workloads,
            reads_workloads=self.spec.reads_workloads,
            shard=self.spec.shard,
            actions=self.spec.actions,
            locals=self.spec.locals,
            before_replay=self.tracer.restore,
            seal_key=lambda: self._sealing_key,
        )
        ports = Ports(self.kube, self.bus, self.clock, Keys(self.keys), tracing)
        worker = Worker(self.spec.kinds, ports, self._workloads, options)
        if self.connections is not None:
            director = ConnectionDirector(self.connections, lambda key: entry.state if (entry := worker.cache.get(key)) is not None else None)
            worker.listeners.append(director.changed)
            worker.leaving.append(director.changed)
            worker.listeners.append(self.readmodel.changed)
        return worker

    async def _dial(self, cluster: Any) -> Any:
        return await self.dialer.dial(cluster)

    def _workload_changed(self, change: Any) -> None:
        self.worker.workload_changed(change)

    async def _start(self) -> None:
        api = config.load(self.settings.kubeconfig)
        self.kube.client = ApiClient(api, service=self.spec.name, answered=RequestCounter(self.worker.metrics.requests, api.server))
        self._redaction_key = await awaited_redaction_key(self.kube.client, self.settings.system_namespace)
        self._sealing_key = await awaited_sealing_key(self.kube.client, self.settings.system_namespace)
        await self.keys.__aenter__()
        await self.bus.start()
        await self.readmodel.start()
        await self.tracer.start()
        if self.spec.before is not None:
            await self.spec.before(self)
        if self.worker.sights is not None:
            self.worker.sights.start()
        await self.web.start()
        if self.settings.process_title:
            # only now: Faust has given the process a title of its own before
            setproctitle.setproctitle(self.spec.name)
        log.info("%s started: instance %s, pid %d", self.spec.name, self.settings.instance, os.getpid())

    async def _stop(self) -> None:
        if self.worker.sights is not None:
            await self.worker.sights.stop()
        if self.connections is not None:
            await self.connections.close()
        if self.spec.after is not None:
            await self.spec.after(self)
        await self.web.stop()
        await self.tracer.stop()
        await self.readmodel.stop()
        await self.bus.stop()
        await self.keys.__aexit__(None, None, None)
        if self.kube.client is not None:
            await self.kube.client.close()

    def _status(self) -> Mapping[str, Any]:
        queues = {name: {"waiting": len(entry.queue), "running": len(entry.queue.running)} for name, entry in self.worker.queues.items()}
        return {
            "service": self.spec.name,
            "instance": self.settings.instance,
            "partitions": sorted(self.worker.partitions),
            "objects": len(self.worker.cache),
            "idle": self.worker.idle,
            "queues": queues,
            "heartbeat_age_seconds": round(self.stream.heartbeats.age(), 3),
        }


def run_service(spec: ServiceSpec, settings: Settings) -> int:
    """Run a service until SIGTERM; returns the exit code."""
    import mode
    import mode.loop

    from fleetwake.connections.kafka_connection import use_on_uvloop
    from fleetwake.event_loop import EventLoop

    # most of what lives here lives long (the cache): Python's defaults would walk it over and over
    gc.set_threshold(*GC_THRESHOLDS)
    mode.loop.use("uvloop")
    use_on_uvloop()
    loop = EventLoop()
    asyncio.set_event_loop(loop)
    service = Service(spec, settings)
    worker = service.stream.app.Worker(loop=loop, loglevel=settings.log_level, override_logging=False, redirect_stdouts=False, quiet=True)
    # even when quiet it writes a terminal's control characters between our lines
    worker.spinner = None
    try:
        worker.execute_from_commandline()
    except SystemExit as end:
        return int(end.code or 0)
    return 0
