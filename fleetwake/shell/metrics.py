"""Prometheus metrics of a worker under the names dashboards for Cluster API and controller-runtime already know, and our own beside them.

What happens in a run is counted on series that were looked up once per kind (``OfKind``): labels cost more than counting. What can be asked at any time
(depths, lags, ages) is read at each scrape (``fleetwake.shell.readings``). Labels are bounded: kinds, verbs, statuses and partitions, and clusters only where
Cluster API's own metrics have them.

Source: anchors.md C2; controller-runtime v0.23 ``pkg/internal/controller/metrics``, ``pkg/internal/metrics``; Cluster API v1.14
``util/controller/metrics.go``, ``controllers/clustercache/metrics.go``; client-go v0.36 ``tools/metrics``.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram

from fleetwake.exposition import TRACE_LABEL, Families

SUCCESS, ERROR, REQUEUE_AFTER = "success", "error", "requeue_after"
"""Results of a reconcile, in controller-runtime's words; its ``requeue`` is none of ours: whatever runs again says when."""
REFUSED = ("403", "422")
"""Statuses by which an API server refuses a write for good: the role, or the object."""
URGENT, PATIENT = "0", "-100"
"""Priorities of a queue as controller-runtime numbers them: what changed, and what a replay or a restart puts there."""
PARTITION_STATES = ("ready", "replaying", "revoked")


class Metrics:
    """All metrics of one worker, on a registry of its own."""

    def __init__(self) -> None:
        self.families = Families()
        self._controller_runtime()
        self._workqueue()
        self._capi()
        self._pipeline()
        self._rest()

    @property
    def registry(self) -> CollectorRegistry:
        """What a scrape reads."""
        return self.families.registry

    def _controller_runtime(self) -> None:
        f, by = self.families, ("controller",)
        self.reconciles = f.counter("controller_runtime_reconcile_total", "Reconciles by controller and result", ("controller", "result"))
        self.errors = f.counter("controller_runtime_reconcile_errors_total", "Reconciles that failed", by)
        self.terminal_errors = f.counter(
            "controller_runtime_terminal_reconcile_errors_total", "Reconciles that failed for good: not tried again until something changes", by
        )
        self.panics = f.counter("controller_runtime_reconcile_panics_total", "Reconciles ended by a bug of ours", by)
        self.timeouts = f.counter("controller_runtime_reconcile_timeouts_total", "Reconciles cut at their limit", by)
        self.seconds = f.histogram("controller_runtime_reconcile_time_seconds", "Time of one reconcile, its writes included", by)
        self.active = f.read("gauge", "controller_runtime_active_workers", "Reconciles running now", by)
        self.concurrent_max = f.read(
            "gauge", "controller_runtime_max_concurrent_reconciles", "Most reconciles that may run at once; all kinds of a worker share them", by
        )

    def _workqueue(self) -> None:
        f, by = self.families, ("name", "controller")
        self.depth = f.read("gauge", "workqueue_depth", "Keys waiting; priority 0: woken by a change, -100: by a replay", (*by, "priority"))
        self.adds = f.read("counter", "workqueue_adds_total", "Wake-ups, those included that merged with a waiting one", by)
        self.queue_seconds = f.histogram("workqueue_queue_duration_seconds", "Time from a key's first wake-up to the start of its run", by)
        f.also(self.seconds, "workqueue_work_duration_seconds", "Time of one run", by, {"name": "controller"})
        self.unfinished = f.read("gauge", "workqueue_unfinished_work_seconds", "Seconds that the runs under way have taken so far, summed", by)
        self.longest = f.read("gauge", "workqueue_longest_running_processor_seconds", "Seconds that the longest of the runs under way has taken so far", by)
        self.retries = f.counter("workqueue_retries_total", "Runs put off for a repetition after a failure", by)

    def _capi(self) -> None:
        f = self.families
        f.also(self.reconciles, "capi_reconcile_total", "Reconciles by controller and result", ("controller", "result"))
        f.also(self.seconds, "capi_reconcile_time_seconds", "Time of one reconcile, its writes included", ("controller",))
        self.stale = f.counter(
            "capi_reconcile_stale_cache_skips_total",
            "Plans made anew because a live read differed from what the cache had of a kind",
            ("controller", "cached_kind"),
        )
        by = ("cluster_name", "cluster_namespace")
        self.healthcheck = f.read("gauge", "capi_cluster_cache_healthcheck", "1 when the last probe of the workload cluster was answered, else 0", by)
        self.healthchecks = f.read("counter", "capi_cluster_cache_healthchecks_total", "Probes of the workload cluster by outcome", (*by, "status"))
        self.connection_up = f.read("gauge", "capi_cluster_cache_connection_up", "1 while the workload cluster is connected, else 0", by)

    def _pipeline(self) -> None:
        f, by = self.families, ("controller",)
        self.records = f.counter("fleetwake_records_total", "Records taken, by what they were to the cache", ("outcome",))
        self.event_to_intake = f.histogram("fleetwake_event_to_intake_seconds", "From the watch line read by the watcher to its record taken")
        self.record_to_intake = f.histogram("fleetwake_record_to_intake_seconds", "From the record produced by the watcher to its being taken")
        self.intake_to_reconcile = f.histogram("fleetwake_intake_to_reconcile_seconds", "From a live record taken to the start of the run that it woke", by)
        self.event_to_reconcile = f.histogram(
            "fleetwake_event_to_reconcile_seconds", "From the watch line read by the watcher to the start of the run that it woke", by
        )
        self.write_seconds = f.histogram("fleetwake_write_seconds", "From a write sent to its answer", ("verb",))
        self.writes = f.counter("fleetwake_writes_total", "Writes answered by an API server", ("verb", "kind", "code"))
        self.refused = f.counter("fleetwake_writes_refused_total", "Writes that an API server refused for good", ("controller", "code"))
        self.empty = f.counter("fleetwake_reconcile_empty_total", "Reconciles whose plan was empty", by)
        self.verified = f.counter("fleetwake_verify_total", "Plans confirmed by live reads, by outcome", ("controller", "outcome"))
        self.oldest = f.read("gauge", "fleetwake_queue_oldest_wait_seconds", "Seconds that the key that has waited longest has waited", by)
        self.lag = f.read(
            "gauge", "fleetwake_consumer_lag", "Offsets between the last record taken and the end of a partition this worker owns", ("topic", "partition")
        )
        self.unfinished_records = f.read(
            "gauge", "fleetwake_records_unfinished", "Records taken whose runs have not ended: their offsets are not committed yet", ("partition",)
        )
        self.holes = f.counter("fleetwake_delivery_holes_total", "Skipped offsets that held records (applied from a direct read)")
        self.dead_letters = f.counter("fleetwake_dead_letters_total", "Records that could not be decoded and were put aside")
        self.sights = f.counter("fleetwake_sights_total", "Records written of what is seen in workload clusters", ("kind",))
        self.drift = f.counter("fleetwake_drift_total", "Differences between topic and cache that a drift check found and repaired", ("where",))
        self.partitions = f.read("gauge", "fleetwake_partitions", "Partitions this worker owns, by state", ("state",))
        self.replay_seconds = f.histogram("fleetwake_replay_seconds", "Time of one replay")
        self.heartbeat_age = f.read(
            "gauge", "fleetwake_heartbeat_age_seconds", "Seconds since the consumer group last confirmed this worker; above half a session it writes nothing"
        )
        self.fenced = f.read("gauge", "fleetwake_fenced", "1 while this worker writes nothing, because its group membership is not certain")
        self.objects = f.read("gauge", "fleetwake_cache_objects", "Objects in the cache")
        self.readmodel_failures = f.read("counter", "fleetwake_readmodel_failures_total", "Changes of the read model that Redis did not take at once")
        self.spans_exported = f.read("counter", "fleetwake_spans_exported_total", "Spans that the collector took")
        self.spans_dropped = f.read("counter", "fleetwake_spans_dropped_total", "Spans lost: the queue was full, or the collector did not take them")
        self.drift.labels("worker")  # 0 must be visible, not absent

    def _rest(self) -> None:
        self.requests = self.families.counter(
            "rest_client_requests_total",
            "Requests to API servers by status code (<error>: no answer), method and host; all workload clusters are one host",
            ("code", "method", "host"),
        )

    def of(self, controller: str) -> OfKind:
        """The series of one kind."""
        return OfKind(self, controller)


class OfKind:
    """The series that one kind's runs count on, looked up once; each begins at 0, so that its first increase can be seen."""

    __slots__ = (
        "errors", "event_to_reconcile", "intake_to_reconcile", "panics", "queue_seconds", "reconciles", "refused", "retries", "seconds",
        "terminal_errors", "timeouts",
    )  # fmt: skip

    def __init__(self, metrics: Metrics, controller: str) -> None:
        self.reconciles: Mapping[str, Counter] = {result: metrics.reconciles.labels(controller, result) for result in (SUCCESS, ERROR, REQUEUE_AFTER)}
        self.errors = metrics.errors.labels(controller)
        self.terminal_errors = metrics.terminal_errors.labels(controller)
        self.panics = metrics.panics.labels(controller)
        self.timeouts = metrics.timeouts.labels(controller)
        self.seconds = metrics.seconds.labels(controller)
        self.queue_seconds = metrics.queue_seconds.labels(controller, controller)
        self.retries = metrics.retries.labels(controller, controller)
        self.intake_to_reconcile = metrics.intake_to_reconcile.labels(controller)
        self.event_to_reconcile = metrics.event_to_reconcile.labels(controller)
        self.refused: Mapping[str, Counter] = {code: metrics.refused.labels(controller, code) for code in REFUSED}


def observe(histogram: Histogram, seconds: float, trace_id: str) -> None:
    """Count a duration, with the trace it belongs to as its exemplar; ``""`` for none."""
    histogram.observe(max(seconds, 0.0), {TRACE_LABEL: trace_id} if trace_id else None)
