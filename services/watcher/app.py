"""The watcher as a process: tail the topics, wait for the Lease, then list, diff and watch until it is lost or the process is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets

from fleetwake.connections.kafka_connection import use_on_uvloop
from fleetwake.errors import FencedError, FleetwakeError, UnavailableError
from fleetwake.exposition import RequestCounter
from fleetwake.kube.client import ApiClient, raise_for, resource_path
from fleetwake.kube.config import ApiConfig, load
from fleetwake.kube.discovery import Discovery
from fleetwake.kube.redaction import redaction_key
from fleetwake.kube.sealing import sealing_key
from fleetwake.process import run_process
from fleetwake.settings import Settings
from fleetwake.stream.producer import RecordProducer
from schemas.keys import ObjectKey
from services.watcher.drift import Drift
from services.watcher.lease import LeaderLease, LeaseTerms
from services.watcher.ledger import Ledger
from services.watcher.metrics import WatcherMetrics
from services.watcher.publisher import Publisher
from services.watcher.repair import Repair
from services.watcher.scope import Scope
from services.watcher.streams import Streams
from services.watcher.web import serve

SERVICE = "watcher"
HISTORY_NAMESPACE = "kube-system"
"""The namespace whose uid stands for the API server's history: it is as old as the cluster and nobody deletes it."""

RETRY_SECONDS = 1.0
SHUTDOWN_FLUSH_SECONDS = 5.0
log = logging.getLogger("services.watcher")


class Term:
    """One term of leadership: everything that exists only while this process leads."""

    def __init__(self, client: ApiClient, settings: Settings, ledger: Ledger, lease: LeaderLease, metrics: WatcherMetrics) -> None:
        self._client, self._settings, self._ledger, self._lease, self._metrics = client, settings, ledger, lease, metrics
        self.discovery = Discovery()
        self.producer = RecordProducer(settings.kafka, client_id=f"fleetwake-watcher-{settings.instance}", fence=lambda: lease.fresh)
        self.publisher: Publisher | None = None
        self.streams: Streams | None = None
        self.drift: Drift | None = None

    @property
    def synced(self) -> bool:
        """Whether every kind is listed, watched and produced."""
        return self.streams is not None and self.streams.synced

    async def run(self) -> None:
        """Lead until cancelled or fenced.

        Raises:
            FencedError: the Lease was lost.
        """
        settings, metrics = self._settings, self._metrics
        key = await redaction_key(self._client, settings.system_namespace, create=True)
        # the watcher seals nothing: it makes the key for those that write results
        await sealing_key(self._client, settings.system_namespace, create=True)
        scope = Scope(settings.namespace, settings.watch_filter)
        await self.producer.start()
        try:
            self.publisher = Publisher(self._ledger, self.producer, settings.partitions, scope, key, metrics)
            metrics.epoch.set(self.publisher.epoch)
            await self._observe_history(self.publisher)
            self._ledger.on_record = self.publisher.observe_record
            repair = Repair(self._client, self.discovery, self._ledger, self.publisher, metrics)
            self.streams = Streams(self._client, self.discovery, self.publisher, self.producer, repair, metrics)
            self.streams.namespace = settings.namespace
            self.drift = Drift(self._client, self.publisher, self.streams, metrics, filtered=bool(settings.watch_filter))
            async with asyncio.TaskGroup() as group:
                group.create_task(self.streams.run(), name="streams")
                group.create_task(repair.run(), name="repair")
                group.create_task(self.drift.run(settings.drift_seconds), name="drift")
                group.create_task(self._keep(), name="lease")
                group.create_task(self._end_with_producer(), name="producer")
        finally:
            self._ledger.on_record = None
            self.streams = None
            await self.producer.stop(flush_seconds=SHUTDOWN_FLUSH_SECONDS)

    async def _keep(self) -> None:
        await self._lease.keep()
        raise FencedError("the Lease was lost", operation="lead")

    async def _end_with_producer(self) -> None:
        await self.producer.broken.wait()
        # the next term begins with a list and a diff against the topics, which finds whatever was lost
        raise UnavailableError(f"records were lost on their way to Kafka: {self.producer.failure!r}", operation="produce")

    async def _observe_history(self, publisher: Publisher) -> None:
        """Raise the epoch when the API server is another one than the topics came from."""
        answer = await self._client.request("GET", resource_path("v1", "namespaces", "", HISTORY_NAMESPACE))
        if answer.status == 404:
            return
        raise_for(answer, f"get Namespace {HISTORY_NAMESPACE}")
        metadata = answer.json()["metadata"]
        key = ObjectKey("", "Namespace", "", HISTORY_NAMESPACE)
        if (found := self._ledger.find(key)) is not None:
            place, entry = found
            record = (await self._ledger.read([(place, entry.offset)])).get((place, entry.offset))
            if record is not None and record.value is not None and metadata["uid"].encode() not in record.value:
                publisher.raise_epoch(0)
        history = {name: metadata[name] for name in ("name", "uid", "resourceVersion")}
        publisher.publish({"apiVersion": "v1", "kind": "Namespace", "metadata": history}, 0.0)


class Watcher:
    """A candidate: tails the topics always, leads when it holds the Lease."""

    def __init__(self, settings: Settings, config: ApiConfig) -> None:
        self.settings = settings
        self._config = config
        self.metrics = WatcherMetrics()
        self.ledger = Ledger(settings.kafka, settings.topics, settings.partitions, self.metrics)
        self.term: Term | None = None
        self.led = asyncio.Event()
        self.address = ("", 0)
        """Where /healthz, /readyz and /metrics are, once it runs."""

    @property
    def ready(self) -> bool:
        """Leading with every stream synced, or standing by on the topics' end."""
        return self.term.synced if self.term is not None else self.ledger.caught_up.is_set()

    async def run(self) -> None:
        """Run until cancelled: flush, release the Lease, return.

        Raises:
            FleetwakeError: the topics cannot be read.
        """
        settings = self.settings
        terms = LeaseTerms(settings.lease_seconds, settings.lease_renew_deadline_seconds, settings.lease_retry_seconds)
        # a process started again is another candidate: its predecessor may be frozen, not dead
        identity = f"{settings.instance}_{os.getpid()}_{secrets.token_hex(4)}"
        name = settings.watcher_lease
        answered = RequestCounter(self.metrics.requests, self._config.server)
        async with ApiClient(self._config, service=SERVICE, answered=answered) as client, serve(self) as self.address:
            lease = LeaderLease(client, settings.system_namespace, name, identity, terms)
            self.metrics.lease_age.source = lambda: [((), lease.age)] if self.term is not None else []
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.ledger.run(), name="tail")
                    group.create_task(self._lead_for_ever(client, lease), name="lead")
            finally:
                await asyncio.shield(lease.release())

    async def _lead_for_ever(self, client: ApiClient, lease: LeaderLease) -> None:
        await self.ledger.caught_up.wait()
        while True:
            await lease.acquire()
            self.term = Term(client, self.settings, self.ledger, lease, self.metrics)
            self.metrics.leader.set(1)
            self.led.set()
            # a task of its own: a task group that fails forgets a cancellation that came meanwhile (Python 3.11), and this loop must not
            running = asyncio.create_task(self.term.run(), name="term")
            try:
                await asyncio.wait({running})
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                self.led.clear()
                self.metrics.leader.set(0)
                self.term = None
            self._judge(running)
            await lease.release()
            await asyncio.sleep(RETRY_SECONDS)

    @staticmethod
    def _judge(ended: asyncio.Task[None]) -> None:
        """Let a term that ended for a reason of the world be followed by another; anything else is a fault of ours and ends the process."""
        error = ended.exception()
        unexpected = error.split(FleetwakeError)[1] if isinstance(error, BaseExceptionGroup) else error
        if unexpected is not None and not isinstance(unexpected, FleetwakeError):
            raise unexpected
        log.warning("term ended: %s", [str(part) for part in error.exceptions] if isinstance(error, BaseExceptionGroup) else error)


async def run(settings: Settings) -> None:
    """Run the watcher until it is cancelled: then flush, release the Lease and return.

    Raises:
        FleetwakeError: the API server's configuration or the topics cannot be used.
    """
    await Watcher(settings, await asyncio.to_thread(load, settings.kubeconfig)).run()


def main(settings: Settings) -> int:
    """Run the watcher as this process; returns the exit code."""
    use_on_uvloop()
    return run_process(SERVICE, run(settings), titled=settings.process_title)
