"""What the watcher measures. One registry per watcher, so that two in one process (a standby in a test) do not share counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from fleetwake.exposition import Families

SECONDS_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)


class WatcherMetrics:
    """The metrics of one watcher."""

    def __init__(self) -> None:
        f = self.families = Families()
        self.events = f.counter("fleetwake_watch_events_total", "Watch events and listed objects taken", ("kind", "type"))
        self.records = f.counter("fleetwake_object_records_total", "Object records acknowledged by Kafka", ("type",))
        self.produce_seconds = f.histogram(
            "fleetwake_watch_produce_seconds", "From the watch line read to its record acknowledged by Kafka", buckets=SECONDS_BUCKETS
        )
        self.failed = f.counter("fleetwake_object_records_failed_total", "Object records Kafka never took; each is produced again")
        self.repairs = f.counter("fleetwake_watch_repairs_total", "Objects produced again, by why", ("reason",))
        self.interruptions = f.counter("fleetwake_watch_interruptions_total", "Lists and watches that broke", ("kind", "error"))
        self.drift = f.counter("fleetwake_drift_total", "Differences between API server and topics that a drift check found and repaired", ("where",))
        self.undecodable = f.counter("fleetwake_undecodable_records_total", "Records on our topics that nobody of ours can have written")
        self.leader = f.gauge("fleetwake_watcher_leader", "1 while this watcher leads")
        self.lease_age = f.read(
            "gauge", "fleetwake_lease_age_seconds", "Seconds since the leader last renewed its Lease; above its renew deadline it produces nothing"
        )
        self.streams = f.gauge("fleetwake_watch_streams", "Streams of kinds, by whether they are synced", ("synced",))
        self.outstanding = f.gauge("fleetwake_object_records_outstanding", "Records put and not yet acknowledged")
        self.suspects = f.gauge("fleetwake_watch_suspects", "Objects that wait to be read live and produced again")
        self.epoch = f.gauge("fleetwake_watch_epoch", "Epoch of the API server's history: a restored backup raises it")
        self.malformed = f.counter("fleetwake_watch_malformed_total", "Objects that could not be made a record", ("kind",))
        self.requests = f.counter(
            "rest_client_requests_total", "Requests to the API server by status code (<error>: no answer), method and host", ("code", "method", "host")
        )
        self.drift.labels(where="watcher")  # 0 must be visible, not absent

    @property
    def registry(self) -> CollectorRegistry:
        """What a scrape reads."""
        return self.families.registry
