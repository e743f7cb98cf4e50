"""What admission measures, under controller-runtime's names for webhooks; ``webhook`` is the path, as there."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from fleetwake.exposition import Families

LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class AdmissionMetrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        f = self.families = Families()
        self.webhook_requests = f.counter("controller_runtime_webhook_requests_total", "Admission requests by HTTP status code", ("webhook", "code"))
        self.in_flight = f.gauge("controller_runtime_webhook_requests_in_flight", "Admission requests being answered", ("webhook",))
        self.latency = f.histogram("controller_runtime_webhook_latency_seconds", "Time to answer an admission request", ("webhook",), buckets=LATENCY_BUCKETS)
        self.refused = f.counter("fleetwake_admission_refused_total", "Objects refused, by webhook", ("webhook",))
        self.expiry = f.gauge("fleetwake_admission_certificate_expiry_seconds", "When the serving certificate ends, as Unix time")
        self.renewals = f.counter("fleetwake_admission_certificate_renewals_total", "Serving certificates taken into use")
        self.requests = f.counter(
            "rest_client_requests_total", "Requests to the API server by status code (<error>: no answer), method and host", ("code", "method", "host")
        )

    @property
    def registry(self) -> CollectorRegistry:
        """What a scrape reads."""
        return self.families.registry
