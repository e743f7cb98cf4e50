"""Join the API server's audit log with the results topic, by Audit-ID."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fleetwake.views.results import read_results
from schemas.results import Done, Planned, Run
from tests.e2e.topics import TOPICS

SUCCESS = range(200, 300)
ACROSS_CLUSTERS = "@"
"""In the target of a step: the object is a workload cluster's, whose own API server has another audit log."""


@dataclass(frozen=True)
class Trail:
    """All results, as the topic holds them."""

    runs: tuple[Run, ...]

    @classmethod
    def read(cls, bootstrap: str) -> Trail:
        """Read the topic up to its present end."""
        return cls(tuple(read_results(bootstrap, TOPICS.results)))

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
