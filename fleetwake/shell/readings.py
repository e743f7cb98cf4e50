"""What of a worker is read at a scrape instead of being counted: depths, ages, states, lags. Costs nothing while nobody asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fleetwake.exposition import Value
from fleetwake.shell.metrics import PARTITION_STATES, PATIENT, URGENT

if TYPE_CHECKING:
    from fleetwake.shell.worker import Partition, Worker
    from fleetwake.shell.workload import WorkloadConnections


def read_worker(worker: Worker) -> None:
    """Let a worker's metrics read its queues, runs and partitions."""
    metrics, queues, boot = worker.metrics, worker.queues, worker.ports.clock.boot

    def depth() -> Iterator[Value]:
        for name, entry in queues.items():
            urgent, patient = entry.queue.depths()
            yield (name, name, URGENT), urgent
            yield (name, name, PATIENT), patient

    def unfinished() -> Iterator[Value]:
        now = boot()
        return (((name, name), sum(now - since for since in entry.queue.running.values())) for name, entry in queues.items())

    def longest() -> Iterator[Value]:
        now = boot()
        return (((name, name), max((now - since for since in entry.queue.running.values()), default=0.0)) for name, entry in queues.items())

    def partitions() -> Iterator[Value]:
        states = Counter(_state(partition) for partition in worker.partitions.values())
        return (((state,), states[state]) for state in PARTITION_STATES)

    metrics.depth.source = depth
    metrics.adds.source = lambda: (((name, name), entry.queue.adds) for name, entry in queues.items())
    metrics.active.source = lambda: (((name,), len(entry.queue.running)) for name, entry in queues.items())
    metrics.concurrent_max.source = lambda: (((name,), worker.options.runs_max) for name in queues)
    metrics.unfinished.source = unfinished
    metrics.longest.source = longest
    metrics.oldest.source = lambda: (((name,), max(entry.queue.oldest_wait(), 0.0)) for name, entry in queues.items())
    metrics.partitions.source = partitions
    metrics.objects.source = lambda: [((), len(worker.cache))]


def _state(partition: Partition) -> str:
    if partition.ready:
        return "ready"
    return "revoked" if partition.swept else "replaying"


def read_connections(worker: Worker, connections: WorkloadConnections) -> None:
    """Let a worker's metrics read its connections to workload clusters, those of clusters that are gone left out."""

    def healthchecks() -> Iterator[Value]:
        for connection in connections.all():
            name, namespace = connection.cluster.name, connection.cluster.namespace
            yield (name, namespace, "success"), connection.probes.succeeded
            yield (name, namespace, "error"), connection.probes.failed

    metrics = worker.metrics
    metrics.healthcheck.source = lambda: (
        ((one.cluster.name, one.cluster.namespace), float(one.probes.healthy)) for one in connections.all() if one.probes.healthy is not None
    )
    metrics.healthchecks.source = healthchecks
    metrics.connection_up.source = lambda: (((one.cluster.name, one.cluster.namespace), float(one.api is not None)) for one in connections.all())
