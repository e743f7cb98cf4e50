"""What the watcher measures. One registry per watcher, so that two in one process (a standby in a test) do not share counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)


class WatcherMetrics:
    """The metrics of one watcher."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter("fleetwake_watch_events_total", "Watch events and listed objects taken", ["kind", "type"], registry=self.registry)
        self.records = Counter("fleetwake_object_records_total", "Object records acknowledged by Kafka", ["type"], registry=self.registry)
        self.produce_seconds = Histogram(
            "fleetwake_watch_produce_seconds", "From the watch line read to its record acknowledged", buckets=SECONDS_BUCKETS, registry=self.registry
        )
        self.failed = Counter("fleetwake_object_records_failed_total", "Object records Kafka never took; each is produced again", registry=self.registry)
        self.repairs = Counter("fleetwake_watch_repairs_total", "Objects produced again, by why", ["reason"], registry=self.registry)
        self.interruptions = Counter("fleetwake_watch_interruptions_total", "Lists and watches that broke", ["kind", "error"], registry=self.registry)
        self.drift = Counter("fleetwake_drift_total", "Differences a drift check found and repaired", ["where"], registry=self.registry)
        self.undecodable = Counter("fleetwake_undecodable_records_total", "Records on our topics that nobody of ours can have written", registry=self.registry)
        self.leader = Gauge("fleetwake_watcher_leader", "1 while this watcher leads", registry=self.registry)
        self.streams = Gauge("fleetwake_watch_streams", "Streams of kinds, by whether they are synced", ["synced"], registry=self.registry)
        self.outstanding = Gauge("fleetwake_object_records_outstanding", "Records put and not yet acknowledged", registry=self.registry)
        self.epoch = Gauge("fleetwake_watch_epoch", "Epoch of the API server's history", registry=self.registry)
        self.malformed = Counter("fleetwake_watch_malformed_total", "Objects that could not be made a record", ["kind"], registry=self.registry)
        self.drift.labels(where="watcher")  # 0 must be visible, not absent
