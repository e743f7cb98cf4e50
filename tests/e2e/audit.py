"""Join the API server's audit log with the results topic, by Audit-ID."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleetwake.connections.kafka import Kafka
from fleetwake.views.results import read_results
from fleetwake.views.runs import RunView, join
from schemas.results import Done, Planned, Run
from tests.e2e.topics import TOPICS

SUCCESS = range(200, 300)
ACROSS_CLUSTERS = "@"
"""In the target of a step: the object is a workload cluster's, whose own API server has another audit log."""


@dataclass(frozen=True)
class Asked:
    """One request of a user for one cluster: when, and the ids of the traces that it may have opened."""

    at: datetime
    traces: frozenset[str]


@dataclass(frozen=True)
class Trail:
    """All results, as the topic holds them."""

    runs: tuple[Run, ...]

    @classmethod
    def read(cls, bootstrap: str) -> Trail:
        """Read the topic up to its present end."""
        return cls(tuple(read_results(Kafka(bootstrap), TOPICS.results)))

    def unexplained(self, writes: Iterable[dict[str, Any]]) -> list[str]:
        """Writes of the audit log that no planned record announced."""
        announced = {step.audit_id for run in self.runs if isinstance(run, Planned) for step in run.steps}
        return [
            f"{event['user']['username'].rpartition(':')[2]} {event['verb']} {event['requestURI']} at {event['requestReceivedTimestamp']}"
            for event in writes
            if event["auditID"] not in announced
        ]

    def phantoms(self, audit_ids: set[str], namespaces: Iterable[str]) -> list[str]:
        """Steps said to have succeeded at the management API that its audit log does not know."""
        wanted = tuple(f"{namespace}/" for namespace in namespaces)
        return [
            f"{run.key}: {step.verb} {step.target} {step.audit_id}"
            for run in self.runs
            if isinstance(run, Done) and run.cluster.startswith(wanted)
            for step in run.steps
            if step.outcome == "done" and step.status in SUCCESS and ACROSS_CLUSTERS not in step.target and step.audit_id not in audit_ids
        ]

    def of(self, namespace: str) -> list[RunView]:
        """The runs of the clusters of a namespace, in order of their start."""
        return [run for run in join(self.runs) if run.record.cluster.startswith(f"{namespace}/")]

    def strangers(self, asked: Mapping[str, Sequence[Asked]]) -> list[str]:
        """Runs that neither share nor link to a trace that the user's last request before them opened; ``asked`` is by cluster, oldest first."""
        found = []
        for run in join(self.runs):
            requests = [request for request in asked.get(run.record.cluster, ()) if request.at <= run.started]
            if requests and not run.traces & requests[-1].traces:
                traces = ", ".join(sorted(run.traces))
                found.append(f"{run.started:%H:%M:%S.%f} {run.record.instance} {run.record.cluster} {run.record.key} in {traces} by {run.cause or 'nothing'}")
        return found
