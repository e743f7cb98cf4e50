"""Wiring of the autoscaler bridge: its kinds, the requests that reach them over gRPC, and what they read of the process.

It holds no connection to any workload cluster and reads no Secret of one; a cluster-autoscaler tells of Nodes by their providerIDs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleetwake.kind import External
from fleetwake.settings import Settings
from fleetwake.shell.ports import Cause
from fleetwake.shell.service import Service, ServiceSpec, run_service
from schemas.api.meta import ObjectMeta
from schemas.keys import GroupKind, ObjectKey
from services.autoscaler_bridge.groups import Groups, Hosts
from services.autoscaler_bridge.kinds.node_group.observed import REQUESTS, TEMPLATES, WRITERS, Writers
from services.autoscaler_bridge.kinds.node_group.reconcile import ANSWER, ATTEMPT, LOOK
from services.autoscaler_bridge.listener import Listener
from services.autoscaler_bridge.metrics import BridgeMetrics
from services.autoscaler_bridge.provider import Provider
from services.autoscaler_bridge.registry import KINDS
from services.autoscaler_bridge.requests import Requests
from services.autoscaler_bridge.writers import WriterBook

NAME = "autoscaler_bridge"


class Surroundings:
    """The service, as requests and kinds see it. It is known only once the service runs."""

    def __init__(self) -> None:
        self.service: Service | None = None
        self.listener: Listener | None = None
        self.requests = Requests(self._wake)
        self.known: dict[ObjectKey, Writers] = {}
        self._writers: WriterBook | None = None

    def _running(self) -> Service:
        if self.service is None:
            raise RuntimeError("the service has not been started")
        return self.service

    def _wake(self, key: ObjectKey, cause: Cause) -> None:
        worker = self._running().worker
        if (entry := worker.queues.get(key.kind)) is not None and worker.cache.get(key) is not None:
            entry.queue.add(key, cause)

    def template(self, ref: GroupKind, namespace: str, name: str) -> External | None:
        """A provider's template as the cache has it."""
        worker = self._running().worker
        held, resource = worker.cache.get(ObjectKey(ref.group, ref.kind, namespace, name)), worker.resources.find(ref)
        if held is None:
            return None
        meta = ObjectMeta(name=held.key.name, namespace=held.key.namespace)
        return External(held.key, str(held.state.get("apiVersion", "")), meta, held.state, resource.contract if resource is not None else "v1beta2")

    async def looked(self, arguments: Mapping[str, Any]) -> None:
        """Step: see ``WriterBook``."""
        if self._writers is None:
            raise RuntimeError("the service has not been started")
        await self._writers.looked(arguments)

    async def start(self, service: Service) -> None:
        """Listen to cluster-autoscalers. Raises: FleetwakeError, OSError."""
        self.service, worker = service, service.worker
        hosts = Hosts()
        worker.listeners.append(hosts.changed)
        worker.leaving.append(hosts.changed)
        book = self._writers = WriterBook(service.kube, worker.resources, worker.wake, self.known)
        worker.listeners.append(book.changed)
        worker.leaving.append(book.changed)
        metrics = BridgeMetrics(worker.metrics.families, worker.cache)
        provider = Provider(Groups(worker, hosts), self.requests, book, service.clock, metrics)
        client = service.kube.client
        if client is None:
            raise RuntimeError("the API client has not been started")
        self.listener = Listener(service.settings, provider, metrics)
        await self.listener.start(client)

    async def stop(self, service: Service) -> None:
        """Listen no more."""
        if self.listener is not None:
            await self.listener.stop()


def spec_of() -> ServiceSpec:
    """The service."""
    around = Surroundings()
    return ServiceSpec(
        NAME,
        KINDS,
        owns_workloads=False,
        actions={ANSWER: around.requests.answer, ATTEMPT: around.requests.attempt, LOOK: around.looked},
        locals={REQUESTS: around.requests.asked, WRITERS: around.known, TEMPLATES: around.template},
        before=around.start,
        after=around.stop,
    )


def main(settings: Settings) -> int:
    """Run one worker until SIGTERM; returns the exit code."""
    return run_service(spec_of(), settings)
