"""Prometheus metrics of a worker under the names dashboards for Cluster API and controller-runtime already know, and our own beside them.

Source: anchors.md C2; controller-runtime v0.2x ``pkg/internal/controller/metrics``, Cluster API v1.14 ``util/controller/metrics.go``.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

RECONCILE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """All metrics of one worker, on a registry of its own."""

    def __init__(self) -> None:
        r = self.registry = CollectorRegistry()
        self.reconciles = Counter("controller_runtime_reconcile", "Reconciles by controller and result", ["controller", "result"], registry=r)
        self.errors = Counter("controller_runtime_reconcile_errors", "Failed reconciles", ["controller"], registry=r)
        self.terminal_errors = Counter("controller_runtime_terminal_reconcile_errors", "Reconciles that failed for good", ["controller"], registry=r)
        self.panics = Counter("controller_runtime_reconcile_panics", "Reconciles ended by a bug", ["controller"], registry=r)
        self.timeouts = Counter("controller_runtime_reconcile_timeouts", "Reconciles cut at their limit", ["controller"], registry=r)
        self.seconds = Histogram("controller_runtime_reconcile_time_seconds", "Time of one reconcile", ["controller"], buckets=RECONCILE_BUCKETS, registry=r)
        self.active = Gauge("controller_runtime_active_workers", "Reconciles running now", ["controller"], registry=r)
        self.concurrent_max = Gauge("controller_runtime_max_concurrent_reconciles", "Limit of reconciles running at once", ["controller"], registry=r)
        self.capi_reconciles = Counter("capi_reconcile", "Reconciles by controller and result", ["controller", "result"], registry=r)
        self.capi_seconds = Histogram("capi_reconcile_time_seconds", "Time of one reconcile", ["controller"], buckets=RECONCILE_BUCKETS, registry=r)
        self.depth = Gauge("workqueue_depth", "Keys waiting", ["name", "controller", "priority"], registry=r)
        self.adds = Counter("workqueue_adds", "Wake-ups, merged ones included", ["name", "controller"], registry=r)
        self.queue_seconds = Histogram("workqueue_queue_duration_seconds", "Time a key waited", ["name", "controller"], buckets=RECONCILE_BUCKETS, registry=r)
        self.work_seconds = Histogram("workqueue_work_duration_seconds", "Time of one run", ["name", "controller"], buckets=RECONCILE_BUCKETS, registry=r)
        self.retries = Counter("workqueue_retries", "Runs repeated after a failure", ["name", "controller"], registry=r)
        self.writes = Counter("fleetwake_writes", "Writes sent, by verb and kind", ["verb", "kind"], registry=r)
        self.empty = Counter("fleetwake_reconcile_empty", "Reconciles whose plan was empty", ["controller"], registry=r)
        self.verified = Counter("fleetwake_verify", "Plans confirmed by live reads, by outcome", ["controller", "outcome"], registry=r)
        self.records = Counter("fleetwake_records", "Records taken, by what they were to the cache", ["outcome"], registry=r)
        self.holes = Counter("fleetwake_delivery_holes", "Skipped offsets that held records (applied from a direct read)", registry=r)
        self.dead_letters = Counter("fleetwake_dead_letters", "Records that could not be decoded", registry=r)
        self.sights = Counter("fleetwake_sights", "Records written of what is seen in workload clusters, by kind", ["kind"], registry=r)
        self.drift = Counter("fleetwake_drift", "Differences found by the drift check", ["where"], registry=r)
        self.event_to_reconcile = Histogram(
            "fleetwake_event_to_reconcile_seconds", "Watch line read to reconcile start", ["controller"], buckets=RECONCILE_BUCKETS, registry=r
        )
        self.event_to_intake = Histogram("fleetwake_event_to_intake_seconds", "Watch line read to record taken", buckets=RECONCILE_BUCKETS, registry=r)
        self.partitions = Gauge("fleetwake_partitions", "Partitions by state", ["state"], registry=r)
        self.replay_seconds = Histogram("fleetwake_replay_seconds", "Time of one replay", buckets=RECONCILE_BUCKETS, registry=r)
