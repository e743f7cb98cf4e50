"""What the consumer of the trail measures."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class TrailMetrics:
    """All metrics of one consumer, on a registry of its own."""

    def __init__(self) -> None:
        r = self.registry = CollectorRegistry()
        self.records = Counter("fleetwake_trail_records", "Records of results written to the trail", registry=r)
        self.repeats = Counter("fleetwake_trail_repeats", "Records that repeat an earlier one and had no further effect", registry=r)
        self.unread = Counter("fleetwake_trail_unread", "Records that are kept as bytes alone: not known to this version, or not ours", registry=r)
        self.skipped = Counter("fleetwake_trail_skipped", "Offsets that Kafka had deleted before they were read", registry=r)
        self.errors = Counter("fleetwake_trail_errors", "Attempts that failed and were repeated, by what failed", ["where", "kind"], registry=r)
        self.write_seconds = Histogram("fleetwake_trail_write_seconds", "Time of one transaction", buckets=SECONDS_BUCKETS, registry=r)
        self.batch = Histogram("fleetwake_trail_batch_records", "Records of one transaction", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000), registry=r)
        self.lag = Gauge("fleetwake_trail_lag", "Records in Kafka that are not in the trail yet", ["partition"], registry=r)
        self.last_write = Gauge("fleetwake_trail_last_write_timestamp_seconds", "When the last transaction was committed", registry=r)
